//! What every engine promises on the log interface: one suite, run on each of them. Above the engine is
//! a list of what was applied, which checks order, gaps and agreement all the time.

use std::{collections::BTreeSet, time::Duration};

use quorate_node::config::Engine;
use quorate_protocol::{NodeId, Role, log::Index};
use quorate_sim::{
    ENGINES, Options, for_each_seed,
    logs::{Command, Logs},
    run,
};
use quorate_stage::CrashMode;
use tokio::time::{Instant, timeout};

const N1: NodeId = NodeId(1);
const N2: NodeId = NodeId(2);
const N3: NodeId = NodeId(3);

/// How long anything may take that must happen.
const PATIENCE: Duration = Duration::from_secs(20);
/// So long nothing happens that must not.
const FORBEARANCE: u64 = 2000;

/// A scenario on three servers, with each engine.
fn on_each_engine(name: &str, snapshots: bool, test: impl AsyncFn(Engine, Logs)) {
    for_each_seed(name, 5, |seed| {
        for engine in ENGINES {
            let options = Options { engine, ..Options::servers(3) };
            run(seed, options, async |world| {
                let logs = Logs::new(&world, snapshots);
                let done = timeout(Duration::from_secs(120), test(engine, logs)).await;
                assert!(done.is_ok(), "{name} on {engine} does not come to an end");
            });
        }
    });
}

/// Waits until a server has applied all of these.
async fn applied(logs: &Logs, node: NodeId, commands: &BTreeSet<Command>) {
    let begin = Instant::now();
    loop {
        let there: BTreeSet<Command> = logs.applied(node).into_values().collect();
        if commands.is_subset(&there) {
            return;
        }
        let missing = commands.difference(&there).count();
        assert!(begin.elapsed() < PATIENCE, "{node} has not applied {missing}");
        logs.world().sleep_ms(10).await;
    }
}

/// Offers until some server takes it; answers which.
async fn leader(logs: &Logs, command: Command) -> NodeId {
    let begin = Instant::now();
    loop {
        for node in logs.connected() {
            if logs.offer(node, command).await.is_some() {
                return node;
            }
        }
        assert!(begin.elapsed() < PATIENCE, "nobody takes an offer");
        logs.world().sleep_ms(50).await;
    }
}

/// Proposed at any server, applied by all, in one order.
#[test]
fn what_is_proposed_anywhere_is_applied_everywhere() {
    on_each_engine("everywhere", false, async |_, logs| {
        for command in 1..=60 {
            logs.propose(NodeId(command as u32 % 3 + 1), command);
            logs.world().sleep_ms(logs.world().below(10)).await;
        }
        let all = (1..=60).collect();
        for node in [N1, N2, N3] {
            applied(&logs, node, &all).await;
            assert_eq!(logs.open(node), 0);
        }
    });
}

/// The same on a network that loses, delays and repeats.
#[test]
fn an_unreliable_network_changes_nothing() {
    on_each_engine("unreliable", false, async |_, logs| {
        logs.world().net.set_lossy(true);
        logs.world().net.set_duplicates(100);
        for command in 1..=60 {
            logs.propose(NodeId(command as u32 % 3 + 1), command);
            logs.world().sleep_ms(logs.world().below(50)).await;
        }
        for node in [N1, N2, N3] {
            applied(&logs, node, &(1..=60).collect()).await;
        }
    });
}

/// Actors of the engine crash over what they are asked, and say so: it is asked for again.
#[test]
fn crashes_of_its_actors_change_nothing() {
    on_each_engine("crashes", false, async |engine, logs| {
        let roles: &[Role] = match engine {
            Engine::Paxos => &[Role::Acceptor, Role::Proposer, Role::Learner, Role::Journal],
            Engine::Raft => &[Role::Raft, Role::Journal],
        };
        let world = logs.world().clone();
        for command in 1..=60 {
            let (node, role) =
                (world.shuffled()[0], roles[world.below(roles.len() as u64) as usize]);
            let modes = [CrashMode::Now, CrashMode::BeforeNext, CrashMode::AfterNext];
            logs.propose(NodeId(command as u32 % 3 + 1), command);
            logs.crash(node, role, modes[world.below(3) as usize]);
            world.sleep_ms(world.below(100)).await;
        }
        for node in [N1, N2, N3] {
            applied(&logs, node, &(1..=60).collect()).await;
        }
    });
}

/// A minority agrees about nothing, and what it was asked for is done when it hears the others.
#[test]
fn a_minority_agrees_about_nothing() {
    on_each_engine("minority", false, async |_, logs| {
        logs.propose(N1, 1);
        applied(&logs, N3, &[1].into()).await;
        logs.disconnect(N1);
        logs.propose(N1, 2);
        logs.propose(N2, 3);
        applied(&logs, N3, &[3].into()).await;
        logs.world().sleep_ms(FORBEARANCE).await;
        let alone: BTreeSet<Command> = logs.applied(N1).into_values().collect();
        assert_eq!(alone, [1].into(), "n1 hears nobody");
        let barrier = timeout(Duration::from_millis(FORBEARANCE), logs.barrier(N1)).await;
        assert!(barrier.is_err(), "n1 hears nobody, and lets reads pass from {barrier:?} on");
        logs.connect(N1);
        for node in [N1, N2, N3] {
            applied(&logs, node, &[1, 2, 3].into()).await;
        }
    });
}

/// A barrier lies behind everything that anybody had applied when it was asked for.
#[test]
fn a_barrier_lies_behind_what_was_applied_before() {
    on_each_engine("barrier", false, async |_, logs| {
        let world = logs.world().clone();
        for round in 1..=30 {
            let (writer, reader) =
                (NodeId(world.below(3) as u32 + 1), NodeId(world.below(3) as u32 + 1));
            // Every third time the reader has missed what it must not overlook.
            let away = round % 3 == 0 && reader != writer;
            if away {
                logs.disconnect(reader);
            }
            logs.propose(writer, round);
            applied(&logs, writer, &[round].into()).await;
            let last = logs.last_applied();
            if away {
                logs.connect(reader);
            }
            let from = timeout(PATIENCE, logs.barrier(reader)).await;
            let from = from.expect("a barrier is answered where a majority is heard");
            assert!(from > last, "{reader} may read from {from} on; {last} was applied before");
        }
    });
}

/// An offer is taken by who leads, and has one place; a leader that is deposed says what it has lost.
#[test]
fn an_offer_is_placed_once_or_dropped() {
    on_each_engine("offers", false, async |_, logs| {
        let first = leader(&logs, 1).await;
        applied(&logs, first, &[1].into()).await;
        let others: Vec<NodeId> = [N1, N2, N3].into_iter().filter(|node| *node != first).collect();
        for node in &others {
            assert_eq!(logs.offer(*node, 2).await, None, "{node} does not lead");
        }
        logs.disconnect(first);
        for command in 10..15 {
            assert!(logs.offer(first, command).await.is_some(), "{first} does not know yet");
        }
        let before = logs.dropped(first);
        // The others go on without it, past the places that it has promised.
        for command in 20..30 {
            logs.propose(others[0], command);
            applied(&logs, others[1], &[command].into()).await;
        }
        assert_eq!(logs.dropped(first), before, "nobody has told {first}");
        logs.connect(first);
        applied(&logs, first, &(20..30).collect()).await;
        let begin = Instant::now();
        while logs.dropped(first) < before + 5 {
            assert!(begin.elapsed() < PATIENCE, "{first} keeps offers that are lost");
            logs.world().sleep_ms(10).await;
        }
        logs.world().sleep_ms(FORBEARANCE).await;
        for node in [N1, N2, N3] {
            let log: Vec<Command> = logs.applied(node).into_values().collect();
            let times = |command| log.iter().filter(|applied| **applied == command).count();
            assert_eq!(times(1), 1, "{log:?}");
            assert_eq!(times(2), 0, "{log:?}");
            assert!((10..15).all(|command| times(command) <= 1), "{log:?}");
        }
    });
}

/// Whoever was away while the others forgot what it needs gets a snapshot, and goes on from there.
#[test]
fn who_was_away_for_long_is_behind_and_comes_back() {
    on_each_engine("behind", true, async |_, logs| {
        logs.propose(N1, 1);
        applied(&logs, N3, &[1].into()).await;
        for round in 1..=3 {
            logs.kill(N3);
            let commands: BTreeSet<Command> = (round * 100..round * 100 + 40).collect();
            for command in &commands {
                logs.propose(N1, *command);
                applied(&logs, N2, &[*command].into()).await;
            }
            logs.start(N3);
            applied(&logs, N3, &commands).await;
            let (there, here) = (logs.applied(N2), logs.applied(N3));
            assert_eq!(there, here, "round {round}: n3 has another past");
        }
        assert!(logs.snapshots_installed() >= 3, "n3 was behind each time");
    });
}

/// What was applied anywhere survives the death of all.
#[test]
fn what_was_applied_survives_the_death_of_all() {
    on_each_engine("death", false, async |_, logs| {
        let world = logs.world().clone();
        let mut last = Index(0);
        for round in 0..10 {
            let command = 1000 + round;
            logs.propose(NodeId(world.below(3) as u32 + 1), command);
            let begin = Instant::now();
            let node = loop {
                let done = |node: &NodeId| logs.applied(*node).values().any(|c| *c == command);
                if let Some(node) = [N1, N2, N3].into_iter().find(done) {
                    break node;
                }
                assert!(begin.elapsed() < PATIENCE, "{command} is not applied");
                world.sleep_ms(1).await;
            };
            let known = logs.applied(node);
            for node in world.shuffled() {
                logs.kill(node);
            }
            for node in world.shuffled() {
                logs.start(node);
                world.sleep_ms(world.below(300)).await;
            }
            let commands: BTreeSet<Command> = known.values().copied().collect();
            for node in [N1, N2, N3] {
                // Somebody has to want something: an engine may be idle otherwise.
                timeout(PATIENCE, logs.barrier(node)).await.expect("a majority is there");
                applied(&logs, node, &commands).await;
                for (index, command) in &known {
                    assert_eq!(logs.applied(node).get(index), Some(command), "{node} at {index}");
                }
            }
            assert!(logs.last_applied() >= last);
            last = logs.last_applied();
        }
    });
}
