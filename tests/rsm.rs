//! The replicated state machine: 6.5840 2026, Lab 4A and 4C, one test per row, with every engine.
//!
//! The labs' service counts: Inc adds one and answers the sum, Null does nothing, and Dec must
//! never be carried out. `submit` places a command once, at the server that leads, and answers its
//! result or that it was not placed, or lost its place.

use std::{
    cell::{Cell, RefCell},
    ops::Deref,
    rc::Rc,
    time::Duration,
};

use quorate_history::{History, Input, Operation, Output, Verdict, check};
use quorate_node::config::Engine;
use quorate_protocol::{NodeId, Role};
use quorate_rsm::{At, Outcome, Restore, StateMachine, Writer};
use quorate_sim::{
    ENGINES, Options, for_each_seed,
    machine::{Replicas, run_machine_with},
};
use quorate_stage::CrashMode;
use serde::{Deserialize, Serialize};
use tokio::{
    task::JoinHandle,
    time::{Instant, timeout},
};

#[derive(Clone, Debug, Serialize, Deserialize)]
enum Command {
    Inc,
    Null,
    Dec,
}

#[derive(Default)]
struct Counter(u64);

impl StateMachine for Counter {
    type Command = Command;
    type Reply = u64;

    fn is_read(_: &Command) -> bool {
        false
    }

    fn apply(&mut self, _: At, command: Command) -> u64 {
        match command {
            Command::Inc => self.0 += 1,
            Command::Null => {}
            Command::Dec => panic!("a Dec was carried out"),
        }
        self.0
    }

    fn query(&self, _: &Command) -> u64 {
        self.0
    }

    /// Without agreement: what this replica counts.
    fn size(&self) -> (u64, u64) {
        (self.0, 0)
    }

    fn snapshot(&self) -> Writer {
        Writer::of(self.0.to_le_bytes().to_vec())
    }

    fn restore() -> Restore<Self> {
        Restore::whole(|bytes| {
            let bytes = bytes.try_into().map_err(|_| format!("{} bytes, not 8", bytes.len()))?;
            Ok(Counter(u64::from_le_bytes(bytes)))
        })
    }
}

const SERVERS: u32 = 3;
/// The labs' election timeout.
const SECOND: Duration = Duration::from_secs(1);

/// What became of an Inc, as a history has it.
type Known = quorate_history::Outcome;
/// When an Inc was asked for, and what came of it; `None`: certainly nothing.
type Inc = (u64, Option<Known>);

/// Replicas that count, and what became of every Inc that they were asked for.
#[derive(Clone)]
struct Counting {
    replicas: Replicas<Counter>,
    incs: Rc<RefCell<Vec<Inc>>>,
    /// Who has carried out what was submitted last.
    last_leader: Rc<Cell<usize>>,
}

impl Deref for Counting {
    type Target = Replicas<Counter>;

    fn deref(&self) -> &Replicas<Counter> {
        &self.replicas
    }
}

impl Counting {
    fn now(&self) -> u64 {
        self.world().elapsed().as_micros() as u64
    }

    /// The labs' `submit`. What becomes of an Inc is recorded.
    async fn submit(&self, node: NodeId, command: Command) -> Option<Outcome<u64>> {
        let inc = matches!(command, Command::Inc).then(|| {
            let mut incs = self.incs.borrow_mut();
            incs.push((self.now(), Some(Known::Unknown)));
            incs.len() - 1
        });
        let outcome = self.replicas.submit(node, command).await;
        if let Some(inc) = inc {
            self.incs.borrow_mut()[inc].1 = match &outcome {
                Some(Outcome::Done(sum)) => {
                    Some(Known::Returned { at: self.now(), output: Output::Length(*sum) })
                }
                Some(Outcome::NotPlaced | Outcome::Busy | Outcome::Early) => None,
                Some(Outcome::Displaced | Outcome::Stopped | Outcome::Forgotten) | None => {
                    Some(Known::Unknown)
                }
            };
        }
        outcome
    }

    /// The labs' helper: submits an Inc to each of these in turn, beginning with the one that
    /// succeeded last, 50 ms between two sweeps, until one has carried it out within ten seconds.
    async fn submit_to_any(&self, nodes: &[NodeId]) -> u64 {
        let began = Instant::now();
        while began.elapsed() < 10 * SECOND {
            for _ in nodes {
                let node = nodes[self.last_leader.get() % nodes.len()];
                let outcome = timeout(10 * SECOND, self.submit(node, Command::Inc)).await;
                if let Ok(Some(Outcome::Done(sum))) = outcome {
                    return sum;
                }
                self.last_leader.set(self.last_leader.get() + 1);
            }
            self.world().sleep_ms(50).await;
        }
        panic!("nobody of {nodes:?} has carried out an Inc within ten seconds");
    }

    /// Judges what was recorded. To count is to append to a string of which only the length is told.
    fn judge(&self) {
        let inc = |(client, (invoked, outcome)): (u64, &Inc)| {
            let (key, input) = (b"count"[..].into(), Input::Append { value: b"+"[..].into() });
            let (invoked, outcome) = (*invoked, outcome.clone()?);
            Some(Operation { client, key, input, invoked, outcome })
        };
        let ops = (1..).zip(self.incs.borrow().iter()).filter_map(inc).collect();
        match check(&History { ops }) {
            Verdict::Linearizable => {}
            verdict => panic!("{} Incs: {verdict}", self.incs.borrow().len()),
        }
    }
}

/// A row on a reliable network. `maxraftstate`: bytes of log at which a snapshot is due.
fn row(name: &str, maxraftstate: Option<u64>, test: impl AsyncFn(Counting)) {
    for_each_seed(name, 3, |seed| {
        for engine in ENGINES {
            let log_bytes_max = maxraftstate.unwrap_or(u64::MAX);
            let options = Options { engine, log_bytes_max, ..Options::servers(SERVERS) };
            run_machine_with(seed, options, Counter::default, async |replicas| {
                let world = replicas.world().clone();
                let (incs, last_leader) = (Rc::default(), Rc::default());
                let counting = Counting { replicas, incs, last_leader };
                test(counting.clone()).await;
                counting.judge();
                assert!(world.elapsed() < 120 * SECOND, "{name}: {:?}", world.elapsed());
                if maxraftstate.is_none() {
                    assert_eq!(world.snapshot_size(), 0, "{name}: a snapshot");
                }
            });
        }
    });
}

fn servers(replicas: &Counting) -> Vec<NodeId> {
    replicas.world().servers()
}

/// One Inc, at whoever leads.
async fn inc(replicas: &Counting) -> u64 {
    replicas.submit_to_any(&servers(replicas)).await
}

/// One Inc, at these servers, of which another leads now than did before. An Inc that was placed
/// by one and lost its place to the other may be carried out besides: then the sum is higher.
async fn inc_at(replicas: &Counting, nodes: &[NodeId], before: u64) -> u64 {
    let sum = replicas.submit_to_any(nodes).await;
    assert!(sum > before, "{sum} after {before}");
    sum
}

/// How many of the replicas that run count `value`.
async fn counting(replicas: &Counting, value: u64) -> usize {
    let mut count = 0;
    for node in servers(replicas) {
        let status = replicas.status(node).await;
        count += usize::from(status.is_some_and(|status| status.size.0 == value));
    }
    count
}

/// The labs' check of the counters: 30 polls, about 30.7 s in all, until `wanted` replicas count
/// `value`.
async fn check_counter(replicas: &Counting, value: u64, wanted: usize) {
    let mut pause = 10;
    for _ in 0..30 {
        if counting(replicas, value).await >= wanted {
            return;
        }
        replicas.world().sleep_ms(pause).await;
        pause = (pause * 2).min(1280);
    }
    let count = counting(replicas, value).await;
    panic!("{count} replicas count {value}, {wanted} must");
}

/// Who leads, by its own word.
async fn leader(replicas: &Counting) -> NodeId {
    for node in servers(replicas) {
        let status = replicas.status(node).await;
        if status.is_some_and(|status| status.leader == Some(node.0)) {
            return node;
        }
    }
    panic!("nobody leads");
}

fn others(replicas: &Counting, node: NodeId) -> Vec<NodeId> {
    servers(replicas).into_iter().filter(|other| *other != node).collect()
}

/// Many submits of one command at one server, at a time. Each ends with its outcome; `None`: the
/// server was gone.
fn submit_many(
    replicas: &Counting,
    count: usize,
    node: impl Fn(usize) -> NodeId,
    command: Command,
) -> Vec<JoinHandle<Option<Outcome<u64>>>> {
    let submit = |i| {
        let (replicas, node, command) = (replicas.clone(), node(i), command.clone());
        replicas.world().clone().spawn(async move { replicas.submit(node, command).await })
    };
    (0..count).map(submit).collect()
}

/// Basic RSM ops.
#[test]
fn test_basic_4a() {
    row("TestBasic4A", None, async |replicas| {
        for i in 1..=10 {
            assert_eq!(inc(&replicas).await, i);
            check_counter(&replicas, i, 3).await;
        }
    });
}

/// Concurrent submit.
#[test]
fn test_concurrent_4a() {
    row("TestConcurrent4A", None, async |replicas| {
        let one = |_| {
            let replicas = replicas.clone();
            replicas.world().clone().spawn(async move { inc(&replicas).await })
        };
        let all: Vec<_> = (0..50).map(one).collect();
        let mut sums = vec![];
        for one in all {
            sums.push(one.await.expect("every Inc succeeds"));
        }
        sums.sort_unstable();
        assert_eq!(sums, (1..=50).collect::<Vec<u64>>(), "each has its own answer");
        check_counter(&replicas, 50, 3).await;
    });
}

/// Leader failure.
#[test]
fn test_leader_failure_4a() {
    row("TestLeaderFailure4A", None, async |replicas| {
        assert_eq!(inc(&replicas).await, 1);
        check_counter(&replicas, 1, 3).await;
        let cut = leader(&replicas).await;
        replicas.world().net.disconnect(cut);
        let rest = others(&replicas, cut);
        let sum = inc_at(&replicas, &rest, 1).await;
        check_counter(&replicas, sum, 2).await;
        assert_eq!(counting(&replicas, sum).await, 2, "it was cut off");
        replicas.world().net.connect(cut);
        check_counter(&replicas, sum, 3).await;
    });
}

/// Leader partition: what a deposed leader had placed is released once it hears so, not before,
/// and is never carried out.
#[test]
fn test_leader_partition_4a() {
    row("TestLeaderPartition4A", None, async |replicas| {
        let world = replicas.world().clone();
        assert_eq!(inc(&replicas).await, 1);
        check_counter(&replicas, 1, 3).await;
        let alone = leader(&replicas).await;
        let rest = others(&replicas, alone);
        world.net.partition(vec![vec![alone], rest.clone()]);
        let released = Rc::new(Cell::new(0));
        let decs = submit_many(&replicas, 100, |_| alone, Command::Dec);
        let count = |dec: JoinHandle<Option<Outcome<u64>>>| {
            let released = released.clone();
            world.spawn(async move {
                let outcome = dec.await.expect("a Dec is only submitted");
                released.set(released.get() + 1);
                outcome
            })
        };
        let decs: Vec<_> = decs.into_iter().map(count).collect();
        world.sleep_ms(10).await;
        let mut sum = inc_at(&replicas, &rest, 1).await;
        world.sleep_ms(1000).await;
        assert_eq!(released.get(), 0, "released while they could still be carried out");
        world.net.heal();
        world.sleep_ms(1000).await;
        assert_eq!(released.get(), 100, "1 s after the partition is over");
        for dec in decs {
            let outcome = dec.await.expect("it only waits");
            let error = matches!(outcome, Some(Outcome::NotPlaced | Outcome::Displaced));
            assert!(error, "a Dec ended as {outcome:?}");
        }
        check_counter(&replicas, sum, 3).await;
        // And nothing of them comes up later, whoever leads.
        for node in servers(&replicas) {
            world.net.disconnect(node);
            let rest = others(&replicas, node);
            sum = inc_at(&replicas, &rest, sum).await;
            check_counter(&replicas, sum, 2).await;
            world.net.connect(node);
        }
        check_counter(&replicas, sum, 3).await;
    });
}

/// Counts to 100, each on all replicas, and restarts them all.
async fn replay(replicas: &Counting) {
    for i in 1..=100 {
        assert_eq!(inc(replicas).await, i);
        check_counter(replicas, i, 3).await;
    }
    replicas.restart_all().await;
    assert_eq!(inc(replicas).await, 101);
    replicas.world().sleep_ms(1000).await;
    assert_eq!(counting(replicas, 101).await, 3);
}

/// Restart: everything is applied before anything new.
#[test]
fn test_restart_replay_4a() {
    row("TestRestartReplay4A", None, async |replicas| replay(&replicas).await);
}

/// 100 Nulls, and 20 ms later all servers stop: the labs allow 11 s, which are their helper's own
/// ten; everybody is let go within one.
async fn nulls_and_shutdown(replicas: &Counting) {
    let world = replicas.world().clone();
    let leader = leader(replicas).await;
    let nulls = submit_many(replicas, 100, |i| NodeId(i as u32 % SERVERS + 1), Command::Null);
    let late = submit_many(replicas, 100, |_| leader, Command::Null);
    world.sleep_ms(20).await;
    for node in servers(replicas) {
        replicas.stop(node);
    }
    world.sleep_ms(500).await;
    for node in servers(replicas) {
        replicas.kill(node);
    }
    world.sleep_ms(500).await;
    world.net.heal();
    assert!(nulls.iter().chain(&late).all(JoinHandle::is_finished), "somebody still waits");
    for null in nulls.into_iter().chain(late) {
        let outcome = null.await.expect("a Null is only submitted");
        assert!(outcome.is_some(), "who stops says so");
    }
}

/// Shutdown.
#[test]
fn test_shutdown_4a() {
    row("TestShutdown4A", None, async |replicas| {
        assert_eq!(inc(&replicas).await, 1);
        nulls_and_shutdown(&replicas).await;
    });
    // What can be carried out within 20 ms has been. So once more, with a leader that is alone.
    row("TestShutdown4A, cut off", None, async |replicas| {
        assert_eq!(inc(&replicas).await, 1);
        let alone = leader(&replicas).await;
        replicas.world().net.disconnect(alone);
        let waiting = submit_many(&replicas, 100, |_| alone, Command::Null);
        nulls_and_shutdown(&replicas).await;
        for null in waiting {
            let outcome = null.await.expect("a Null is only submitted");
            assert_eq!(outcome, Some(Outcome::Stopped));
        }
    });
}

/// Restart and submit: identities of former lives are not used again.
#[test]
fn test_restart_submit_4a() {
    row("TestRestartSubmit4A", None, async |replicas| {
        replay(&replicas).await;
        nulls_and_shutdown(&replicas).await;
        for node in servers(&replicas) {
            replicas.start(node);
        }
        assert_eq!(inc(&replicas).await, 102);
        check_counter(&replicas, 102, 3).await;
    });
}

/// Creating snapshots, and recovering from them.
#[test]
fn test_snapshot_4c() {
    const MAXRAFTSTATE: u64 = 1000;
    row("TestSnapshot4C", Some(MAXRAFTSTATE), async |replicas| {
        for i in 1..=100 {
            assert_eq!(inc(&replicas).await, i);
        }
        check_counter(&replicas, 100, 3).await;
        let world = replicas.world();
        let size = replicas.log_size().await;
        assert!(size <= 2 * MAXRAFTSTATE, "{size} bytes of log");
        assert!(world.snapshot_size() > 0, "no snapshot");
        replicas.restart_all().await;
        assert_eq!(inc(&replicas).await, 101);
        check_counter(&replicas, 101, 3).await;
    });
}

/// Not a row: commands that are placed once, at servers drawn at random, while actors crash and the
/// network falls apart. Each that was carried out has a sum of its own, each that was not placed has
/// no effect, and nobody waits for ever.
#[test]
fn what_is_placed_once_is_applied_at_most_once() {
    row("placed once", Some(4096), async |replicas| {
        let world = replicas.world().clone();
        let stop = Rc::new(Cell::new(false));
        let client = |_| {
            let (replicas, world, stop) = (replicas.clone(), world.clone(), stop.clone());
            replicas.world().clone().spawn(async move {
                let (mut sums, mut doubtful) = (vec![], 0);
                while !stop.get() {
                    let node = NodeId(world.below(SERVERS.into()) as u32 + 1);
                    match replicas.submit(node, Command::Inc).await {
                        Some(Outcome::Done(sum)) => sums.push(sum),
                        Some(Outcome::NotPlaced) => {}
                        // Carried out, and the sum is not known any more; or it may be; or its rsm
                        // has crashed.
                        Some(Outcome::Forgotten | Outcome::Displaced) | None => doubtful += 1,
                        outcome => panic!("{outcome:?}, though nobody has stopped"),
                    }
                    world.sleep_ms(world.below(40)).await;
                }
                (sums, doubtful)
            })
        };
        let clients: Vec<_> = (0..4).map(client).collect();
        let roles = match world.options.engine {
            Engine::Paxos => vec![Role::Acceptor, Role::Proposer, Role::Learner, Role::Rsm],
            Engine::Raft => vec![Role::Raft, Role::Rsm],
        };
        for _ in 0..40 {
            let node = NodeId(world.below(SERVERS.into()) as u32 + 1);
            match world.below(3) {
                0 => world.net.partition(world.random_halves()),
                1 => world.net.heal(),
                _ => {
                    let role = roles[world.below(roles.len() as u64) as usize];
                    replicas.crash(node, role, CrashMode::AfterNext);
                }
            }
            world.sleep_ms(world.below(600)).await;
        }
        world.net.heal();
        stop.set(true);
        world.sleep_ms(10_000).await;
        assert!(clients.iter().all(JoinHandle::is_finished), "somebody still waits");
        let (mut sums, mut doubtful) = (vec![], 0);
        for client in clients {
            let (more, doubts) = client.await.expect("a client only submits and counts");
            sums.extend(more);
            doubtful += doubts;
        }
        let value = inc(&replicas).await;
        check_counter(&replicas, value, 3).await;
        let done = sums.len() as u64;
        sums.sort_unstable();
        sums.dedup();
        assert_eq!(sums.len() as u64, done, "two have one sum");
        assert!(done > 0, "nothing was ever carried out");
        let most = done + doubtful + 1;
        assert!(value > done && value <= most, "{value}: {done} done, {doubtful} in doubt");
    });
}
