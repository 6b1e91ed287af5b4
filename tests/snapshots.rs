//! Checkpoints that travel: a member that was away for long comes back by one, while the others
//! keep a bounded log; whatever is lost, crashed or killed meanwhile, what clients see is
//! linearizable.

use std::{
    cell::Cell,
    collections::BTreeMap,
    path::{Path, PathBuf},
    rc::Rc,
    sync::{Arc, Mutex},
    time::Duration,
};

use bytes::Bytes;
use quorate_clerk::Outcome as ClientOutcome;
use quorate_kvserver::{Condition, Op, Reply};
use quorate_persistence::Disk;
use quorate_protocol::{GroupId, Name, NodeId, Role};
use quorate_rsm::{Answers, Message as ToRsm, Outcome as RsmOutcome, Placing, Request, Submit};
use quorate_sim::{CHECKPOINTS, Client, Options, Record, Recorded, World, for_each_seed, run};
use quorate_stage::{CrashMode, Outlet};
use tokio::{task::JoinHandle, time::timeout};

/// Bytes of log that a replica may keep, about.
const LOG_BYTES_MAX: u64 = 8 * 1024;
/// Keys that are judged. Others only make the state larger.
const KEYS: u64 = 4;

/// A checkpoint is written in several steps and travels in several parts, so that there is something
/// in between.
fn options() -> Options {
    let (step_bytes, part_bytes) = (4096, 3000);
    Options { log_bytes_max: LOG_BYTES_MAX, step_bytes, part_bytes, ..Options::servers(3) }
}

/// Clients with unique values, and what they have seen.
struct Load {
    stop: Rc<Cell<bool>>,
    record: Record,
    tasks: Vec<JoinHandle<u64>>,
}

/// Gets, Puts and Appends until it is told to stop; gives how many.
async fn work(world: World, client: Recorded, me: u64, stop: Rc<Cell<bool>>) -> u64 {
    let mut count = 0;
    while !stop.get() {
        count += 1;
        let key = Bytes::from(format!("key{}", world.below(KEYS)));
        let value = Bytes::from(format!("{me}.{count} "));
        let op = match world.below(10) {
            0..4 => Op::Get { key },
            4..7 => Op::Put { key, value, condition: Condition::Always, want_old: false },
            _ => Op::Append { key, value },
        };
        match client.attempt(op).await {
            // It was applied, and the answer is not kept any more; or the clerk crashed.
            Some(ClientOutcome::Done(_) | ClientOutcome::Maybe) | None => {}
            Some(outcome) => panic!("a clerk without deadline: {outcome:?}"),
        }
        world.sleep_ms(world.below(8)).await;
    }
    count
}

impl Load {
    /// Some clients that know all servers, and one for each server that knows only it.
    fn begin(world: &World) -> Load {
        let (stop, record) = (Rc::new(Cell::new(false)), Record::new(world));
        let everybody = (0..3).map(|_| world.shuffled());
        let alone = world.servers().into_iter().map(|node| vec![node]);
        let task = |(me, servers): (u64, Vec<NodeId>)| {
            let client = record.client(Client::new(world, servers));
            world.spawn(work(world.clone(), client, me, stop.clone()))
        };
        let tasks = (1..).zip(everybody.chain(alone)).map(task).collect();
        Load { stop, record, tasks }
    }

    /// Ends it and judges it: every client gets its last answer, and all of them are right.
    async fn end(self, world: &World) {
        world.sleep_ms(2000).await;
        self.stop.set(true);
        let mut count = 0;
        for task in self.tasks {
            let ended = timeout(Duration::from_secs(60), task).await;
            count += ended.expect("a client hangs").expect("a client failed");
        }
        assert!(count > 200, "{count} operations are too few to mean anything");
        self.record.check();
        converged(world).await;
    }
}

/// Every server applies what every other has, soon.
async fn converged(world: &World) {
    for _ in 0..600 {
        let mut applied = vec![];
        for node in world.servers() {
            applied.push(world.status(node).await.map(|status| status.applied));
        }
        if applied.iter().all(|one| one.is_some() && *one == applied[0]) {
            return;
        }
        world.sleep_ms(100).await;
    }
    panic!("the servers do not meet: {}", world.trace.tail(60));
}

async fn installed(world: &World, node: NodeId) -> u64 {
    world.status(node).await.map_or(0, |status| status.installed)
}

/// Parts of checkpoints that were sent.
fn parts(world: &World) -> u64 {
    world.net.sent_by_kind().get("Part").copied().unwrap_or(0)
}

/// Bytes of the segments of a server's journal.
fn journal_bytes(world: &World, node: NodeId) -> u64 {
    let disk = world.disk(node);
    let segment = |path: &&PathBuf| path.extension().is_some_and(|end| end == "seg");
    disk.files()
        .iter()
        .filter(segment)
        .map(|path| disk.peek(path).map_or(0, |c| c.len() as u64))
        .sum()
}

fn checkpoints(world: &World, node: NodeId) -> Vec<String> {
    let names = world.disk(node).list(Path::new(CHECKPOINTS)).unwrap_or_default();
    names.into_iter().filter(|name| name.starts_with("checkpoint-")).collect()
}

/// The log of a server is within its bound, in memory and on the disk.
async fn bounded(world: &World, node: NodeId) {
    let bytes = world.log_bytes(node).await.expect("it does not crash");
    assert!(bytes <= 2 * LOG_BYTES_MAX, "{node} keeps {bytes} bytes of log");
    let bytes = journal_bytes(world, node);
    assert!(bytes <= 4 * LOG_BYTES_MAX, "the journal of {node} has {bytes} bytes");
}

/// Puts until each of these servers has made so many checkpoints more.
async fn write_checkpoints(world: &World, servers: &[NodeId], more: u64) {
    let client = Client::new(world, servers.to_vec());
    for node in servers {
        let status = world.status(*node).await.expect("it runs");
        let mut now = status.clone();
        for n in 0.. {
            if now.taken >= status.taken + more {
                break;
            }
            assert!(n < 20_000, "{node} makes no checkpoints: {now:?}");
            client.put(&format!("fill{}", n % 200), vec![b'x'; 100]).await;
            now = world.status(*node).await.expect("it runs");
        }
    }
}

const N1: NodeId = NodeId(1);
const N2: NodeId = NodeId(2);
const N3: NodeId = NodeId(3);

/// A member is dead while the others write many times what a log may hold: their logs stay bounded,
/// and it comes back by a checkpoint, under load.
#[test]
fn a_member_that_was_away_for_long_comes_back_by_a_checkpoint() {
    for_each_seed("snapshots/away", 5, |seed| {
        run(seed, options(), async |world| {
            world.start_all(false);
            if seed % 2 == 0 {
                world.net.set_unreliable(world.servers());
                world.net.set_duplicates(50);
            }
            let client = Client::new(&world, vec![N3]);
            client.put("before", "there").await;
            world.kill(N3);
            let load = Load::begin(&world);
            for _ in 0..6 {
                write_checkpoints(&world, &[N1, N2], 2).await;
                for node in [N1, N2] {
                    bounded(&world, node).await;
                    assert!(checkpoints(&world, node).len() <= 2, "old ones are removed");
                }
            }
            world.start(N3, false);
            world.sleep_ms(5000).await;
            assert!(installed(&world, N3).await >= 1, "it came back by the log, which is gone");
            load.end(&world).await;
            assert_eq!(client.get("before").await, "there");
            for node in world.servers() {
                bounded(&world, node).await;
            }
        });
    });
}

/// Actors of every kind crash on both ends, again and again, while checkpoints travel.
#[test]
fn every_actor_crashes_while_checkpoints_travel() {
    for_each_seed("snapshots/crash", 4, |seed| {
        run(seed, options(), async |world| {
            world.start_all(false);
            let roles = [
                Role::Courier,
                Role::Files,
                Role::Rsm,
                Role::Learner,
                Role::Acceptor,
                Role::Proposer,
                Role::Journal,
            ];
            let load = Load::begin(&world);
            for round in 0..6 {
                let away = NodeId(1 + round % 3);
                world.kill(away);
                let others: Vec<NodeId> =
                    world.servers().into_iter().filter(|node| *node != away).collect();
                write_checkpoints(&world, &others, 3).await;
                world.start(away, false);
                for i in 0..40 {
                    let role = roles[world.below(roles.len() as u64) as usize];
                    // Mostly where the checkpoint goes.
                    let node = if i % 3 == 0 { others[i % others.len()] } else { away };
                    let name = match role {
                        Role::Files | Role::Journal => Name::of_node(node, role),
                        _ => Name::new(node, GroupId(1), role),
                    };
                    let modes = [CrashMode::Now, CrashMode::BeforeNext, CrashMode::AfterNext];
                    let mode = modes[world.below(3) as usize];
                    world.node(node).stage.crash(name, mode).expect("it lives there");
                    world.sleep_ms(world.below(20)).await;
                }
                world.sleep_ms(3000).await;
                converged_under_load(&world).await;
            }
            assert!(parts(&world) > 6, "nobody needed a checkpoint");
            load.end(&world).await;
        });
    });
}

/// No server is behind for good, though all of them go on.
async fn converged_under_load(world: &World) {
    let mut most = 0;
    for node in world.servers() {
        most = most.max(world.status(node).await.map_or(0, |status| status.applied));
    }
    for node in world.servers() {
        for n in 0.. {
            if world.status(node).await.is_some_and(|status| status.applied >= most) {
                break;
            }
            assert!(n < 600, "{node} does not come up to {most}: {}", world.trace.tail(60));
            world.sleep_ms(100).await;
        }
    }
}

/// The member that comes back is killed after every single operation of its disk, from its start
/// until it has taken over a checkpoint: whatever is on its disk then, it comes back.
#[test]
fn a_kill_at_every_operation_of_the_disk_while_it_comes_back() {
    for_each_seed("snapshots/points", 1, |seed| {
        run(seed, options(), async |world| {
            world.start_all(false);
            let client = Client::new(&world, vec![N1, N2]);
            client.put("before", "there").await;
            world.kill(N3);
            write_checkpoints(&world, &[N1, N2], 3).await;
            let away = world.disk(N3).fork();
            let mut points = 0;
            for operations in 0.. {
                // Where the checkpoint goes, the disk dies, and with it the server.
                world.replace_disk(N3, &away);
                world.disk(N3).reseed(seed ^ operations);
                world.disk(N3).crash_after(operations);
                world.start(N3, false);
                client.put("now", operations.to_string()).await;
                world.sleep_ms(400).await;
                let died = world.disk(N3).is_stopped();
                assert!(died || installed(&world, N3).await > 0, "it has not come back in time");
                world.kill(N3);
                world.start(N3, false);
                client.put("now", "again").await;
                converged(&world).await;
                let alone = Client::new(&world, vec![N3]);
                assert_eq!(alone.get("before").await, "there");
                world.kill(N3);
                points = operations;
                if !died {
                    break;
                }
            }
            assert!(points > 20, "{points} crash points are too few to mean anything");
        });
    });
}

/// A replica that is cut off and hears everything late: checkpoints come after the log, and older
/// ones after newer ones. Nothing goes back.
#[test]
fn late_and_older_checkpoints_are_without_effect() {
    for_each_seed("snapshots/late", 4, |seed| {
        run(seed, options(), async |world| {
            world.start_all(false);
            world.net.set_duplicates(200);
            world.net.set_unreliable(world.servers());
            let load = Load::begin(&world);
            let mut applied = BTreeMap::new();
            for round in 0..12 {
                let away = NodeId(1 + round % 3);
                let others: Vec<NodeId> =
                    world.servers().into_iter().filter(|node| *node != away).collect();
                world.net.partition(vec![others.clone(), vec![away]]);
                write_checkpoints(&world, &others, 2).await;
                world.net.heal();
                world.sleep_ms(world.below(400)).await;
                for node in world.servers() {
                    let now = world.status(node).await.expect("it runs").applied;
                    let before = applied.insert(node, now).unwrap_or(0);
                    assert!(now >= before, "{node} has gone back from {before} to {now}");
                }
            }
            load.end(&world).await;
        });
    });
}

/// A bound as small as the labs' (maxraftstate 1000): the log stays below twice that on every
/// server, whatever is written, and after all of them have started anew.
#[test]
fn a_tiny_bound_holds() {
    for_each_seed("snapshots/tiny", 3, |seed| {
        let options = Options { log_bytes_max: 1000, ..Options::servers(3) };
        run(seed, options, async |world| {
            world.start_all(false);
            let client = Client::new(&world, world.servers());
            for round in 0..2 {
                for n in 0..100 {
                    client.append("k", "x").await;
                    if n % 10 == 9 {
                        world.sleep_ms(100).await;
                        for node in world.servers() {
                            let bytes = world.log_bytes(node).await.expect("it does not crash");
                            assert!(bytes <= 2000, "{node} keeps {bytes} bytes in round {round}");
                            assert!(checkpoints(&world, node).len() <= 2);
                        }
                    }
                }
                for node in world.servers() {
                    world.kill(node);
                }
                world.start_all(false);
                assert_eq!(client.get("k").await.len(), 100 * (round + 1));
            }
        });
    });
}

/// `u64::MAX` (the labs' -1): there is never a checkpoint.
#[test]
fn without_a_bound_there_is_no_checkpoint() {
    let options = Options { log_bytes_max: u64::MAX, ..Options::servers(3) };
    run(1, options, async |world| {
        world.start_all(false);
        let client = Client::new(&world, world.servers());
        for n in 0..300 {
            client.put("k", vec![n as u8; 1000]).await;
        }
        for node in world.servers() {
            assert_eq!(checkpoints(&world, node), Vec::<String>::new());
            assert!(world.log_bytes(node).await.expect("it does not crash") > 300_000);
        }
    });
}

/// What a replica has proposed and then finds in another one's checkpoint is answered, though nobody
/// asks again, and takes effect once.
#[test]
fn what_is_under_way_here_and_done_in_a_checkpoint_is_answered_once() {
    const TOKENS: u64 = 5;
    for_each_seed("snapshots/own", 4, |seed| {
        run(seed, options(), async |world| {
            world.start_all(false);
            let others = Client::new(&world, vec![N1]);
            others.put("k", "").await;
            // n3 is heard and hears nothing: it forwards, and the answers are lost.
            world.net.cut(N1, N3);
            world.net.cut(N2, N3);
            let replica = world.node(N3).replica().expect("a replica runs");
            let rsm = replica.group.rsm.clone();
            let answers: Arc<Mutex<Answers<Reply>>> = Arc::default();
            let place = answers.clone();
            let reply = Outlet::from_fn(move |_, answers: Answers<Reply>| {
                place.lock().expect("nobody panics over it").extend(answers);
            });
            for serial in 1..=TOKENS {
                let (key, value) = (Bytes::from_static(b"k"), Bytes::from(format!("{serial};")));
                let command = Op::Append { key, value }.into();
                let request = Request { client_id: 77, serial, acked_below: 1, after: 0, command };
                let requests = vec![(serial, request)];
                let submit =
                    Submit { requests, placing: Placing::UntilApplied, reply: reply.clone() };
                rsm.send(rsm.name(), ToRsm::Submit(submit));
                world.sleep_ms(50).await;
            }
            write_checkpoints(&world, &[N1, N2], 3).await;
            let done = others.get("k").await;
            assert!(!done.is_empty(), "nothing of n3 was carried out");
            assert!(answers.lock().expect("nobody panics over it").is_empty(), "n3 hears nothing");
            world.net.heal();
            world.sleep_ms(5000).await;
            converged(&world).await;
            assert!(installed(&world, N3).await > 0, "n3 has come up by the log");
            assert_eq!(others.get("k").await, "1;2;3;4;5;", "{done} was there before");
            let mut answers = answers.lock().expect("nobody panics over it").clone();
            answers.sort_by_key(|(token, _)| *token);
            let lengths = (1..=TOKENS).map(|n| (n, RsmOutcome::Done(Reply::Length(2 * n))));
            assert_eq!(answers, lengths.collect::<Vec<_>>());
        });
    });
}
