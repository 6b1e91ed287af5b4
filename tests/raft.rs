//! Raft: 2016 Lab 2 and 2026 Lab 3, one test per row of the acceptance specification (raft line,
//! section 3), by the names of the labs.
//!
//! Server 0 of the labs is node n1. A command is a number; the application above each peer is a
//! list of what was applied, and checks order, gaps and agreement all the time.

use std::{cell::Cell, rc::Rc, time::Duration};

use quorate_node::config::Engine;
use quorate_protocol::{NodeId, log::Index};
use quorate_raft::Standing;
use quorate_sim::{
    Options, World, for_each_seed,
    logs::{Command, Logs},
    run,
};
use tokio::time::{Instant, timeout};

/// Any single row, in virtual time.
const ROW_MAX: Duration = Duration::from_secs(120);

/// A row on `servers` connected servers.
fn row(name: &str, servers: u32, snapshots: bool, test: impl AsyncFn(Logs)) {
    for_each_seed(name, 2, |seed| {
        let options = Options { engine: Engine::Raft, ..Options::servers(servers) };
        run(seed, options, async |world| {
            let logs = Logs::new(&world, snapshots);
            let done = timeout(ROW_MAX, test(logs)).await;
            assert!(done.is_ok(), "{name} takes longer than {ROW_MAX:?}");
        });
    });
}

/// As `row`, on a network that delays, loses and reorders.
fn unreliable(name: &str, servers: u32, snapshots: bool, test: impl AsyncFn(Logs)) {
    row(name, servers, snapshots, async |logs: Logs| {
        set_unreliable(logs.world(), true);
        test(logs).await;
    });
}

fn set_unreliable(world: &World, unreliable: bool) {
    world.net.set_lossy(unreliable);
}

/// Server `i` of the labs.
fn node(i: usize) -> NodeId {
    NodeId(i as u32 + 1)
}

/// The server `steps` after another one.
fn after(logs: &Logs, server: NodeId, steps: u32) -> NodeId {
    let count = logs.world().options.servers;
    NodeId((server.0 - 1 + steps) % count + 1)
}

fn chance(logs: &Logs) -> Command {
    logs.world().below(1 << 63)
}

/// The labs' checkOneLeader: up to 10 polls, 450 to 549 ms apart.
async fn one_leader(logs: &Logs) -> NodeId {
    for _ in 0..10 {
        logs.world().sleep_ms(450 + logs.world().below(100)).await;
        let mut leaders: Vec<(u64, NodeId)> = vec![];
        for server in logs.connected() {
            if let Some(status) = logs.status(server).await
                && status.standing == Standing::Leader
            {
                let two = leaders.iter().find(|(term, _)| *term == status.term.0);
                assert!(two.is_none(), "{server} and {two:?} lead in one term");
                leaders.push((status.term.0, server));
            }
        }
        if let Some((_, leader)) = leaders.into_iter().max() {
            return leader;
        }
    }
    panic!("no leader within 5 s\n{}", logs.world().trace.tail(60));
}

/// The term in which all connected servers are.
async fn one_term(logs: &Logs) -> u64 {
    let mut terms = vec![];
    for server in logs.connected() {
        terms.extend(logs.status(server).await.map(|status| status.term.0));
    }
    assert!(terms.windows(2).all(|pair| pair[0] == pair[1]), "servers disagree: terms {terms:?}");
    terms[0]
}

/// Nobody who is connected leads.
async fn no_leader(logs: &Logs) {
    for server in logs.connected() {
        let leads =
            logs.status(server).await.is_some_and(|status| status.standing == Standing::Leader);
        assert!(!leads, "{server} leads without a majority");
    }
}

/// What the labs call the raft state's size: the largest one of all servers that run.
async fn log_bytes_max(logs: &Logs) -> u64 {
    let mut most = 0;
    for server in logs.world().servers() {
        most = most.max(logs.status(server).await.map_or(0, |status| status.log_bytes));
    }
    most
}

/// Nobody has applied anything at `index`.
fn applied_nowhere(logs: &Logs, index: u64) {
    let (count, _) = logs.applied_at(Index(index));
    assert_eq!(count, 0, "index {index} was committed without a majority");
}

async fn agree(logs: &Logs, command: Command, servers: usize) -> u64 {
    logs.agree(command, servers, true).await.0
}

/// Initial election.
#[test]
fn initial_election_3a() {
    row("InitialElection", 3, false, async |logs| {
        one_leader(&logs).await;
        logs.world().sleep_ms(50).await;
        let term = one_term(&logs).await;
        assert!(term >= 1);
        logs.world().sleep_ms(2000).await;
        assert_eq!(one_term(&logs).await, term, "the term changed, though nothing had failed");
        one_leader(&logs).await;
    });
}

/// Election after network failure.
#[test]
fn re_election_3a() {
    row("ReElection", 3, false, async |logs| {
        let first = one_leader(&logs).await;
        logs.disconnect(first);
        one_leader(&logs).await;
        logs.connect(first);
        let second = one_leader(&logs).await;
        logs.disconnect(second);
        logs.disconnect(after(&logs, second, 1));
        logs.world().sleep_ms(2000).await;
        no_leader(&logs).await;
        logs.connect(after(&logs, second, 1));
        one_leader(&logs).await;
        logs.connect(second);
        one_leader(&logs).await;
    });
}

/// Multiple elections.
#[test]
fn many_elections_3a() {
    row("ManyElections", 7, false, async |logs| {
        one_leader(&logs).await;
        for _ in 0..9 {
            let cut: Vec<NodeId> = (0..3).map(|_| node(logs.world().below(7) as usize)).collect();
            cut.iter().for_each(|server| logs.disconnect(*server));
            one_leader(&logs).await;
            cut.iter().for_each(|server| logs.connect(*server));
        }
        one_leader(&logs).await;
    });
}

/// Basic agreement.
#[test]
fn basic_agree_3b() {
    row("BasicAgree", 3, false, async |logs| {
        one_leader(&logs).await;
        for index in 1..=3 {
            applied_nowhere(&logs, index);
            let agreed = logs.agree(index * 100, 3, false).await;
            assert_eq!(agreed, Index(index), "an entry of the engine is visible");
        }
    });
}

/// RPC byte count.
#[test]
fn rpc_bytes_3b() {
    row("RPCBytes", 3, false, async |logs| {
        logs.agree(99, 3, false).await;
        let before = logs.world().net.bytes();
        for index in 2..=11 {
            let agreed = logs.agree_of(index, 5000, 3, false).await;
            assert_eq!(agreed, Index(index));
        }
        let bytes = logs.world().net.bytes() - before;
        assert!(bytes <= 200_000, "{bytes} bytes for 10 commands of 5000");
    });
}

/// Progressive failure of followers.
#[test]
fn follower_failure_3b() {
    row("FollowerFailure", 3, false, async |logs| {
        logs.agree(101, 3, false).await;
        let first = one_leader(&logs).await;
        logs.disconnect(after(&logs, first, 1));
        logs.agree(102, 2, false).await;
        logs.world().sleep_ms(1000).await;
        logs.agree(103, 2, false).await;
        let second = one_leader(&logs).await;
        logs.disconnect(after(&logs, second, 1));
        logs.disconnect(after(&logs, second, 2));
        let (index, _) = logs.offer(second, 104).await.expect("the leader takes an offer");
        assert_eq!(index, Index(4));
        logs.world().sleep_ms(2000).await;
        applied_nowhere(&logs, 4);
    });
}

/// Failure of leaders.
#[test]
fn leader_failure_3b() {
    row("LeaderFailure", 3, false, async |logs| {
        logs.agree(101, 3, false).await;
        logs.disconnect(one_leader(&logs).await);
        agree(&logs, 102, 2).await;
        logs.world().sleep_ms(1000).await;
        agree(&logs, 103, 2).await;
        logs.disconnect(one_leader(&logs).await);
        for i in 0..3 {
            logs.offer(node(i), 104).await;
        }
        logs.world().sleep_ms(2000).await;
        applied_nowhere(&logs, 4);
    });
}

/// Agreement after follower reconnects.
#[test]
fn fail_agree_3b() {
    row("FailAgree", 3, false, async |logs| {
        logs.agree(101, 3, false).await;
        let follower = after(&logs, one_leader(&logs).await, 1);
        logs.disconnect(follower);
        logs.agree(102, 2, false).await;
        logs.agree(103, 2, false).await;
        logs.world().sleep_ms(1000).await;
        logs.agree(104, 2, false).await;
        logs.agree(105, 2, false).await;
        logs.connect(follower);
        agree(&logs, 106, 3).await;
        logs.world().sleep_ms(1000).await;
        agree(&logs, 107, 3).await;
    });
}

/// No agreement if too many followers disconnect.
#[test]
fn fail_no_agree_3b() {
    row("FailNoAgree", 5, false, async |logs| {
        logs.agree(10, 5, false).await;
        let leader = one_leader(&logs).await;
        let cut: Vec<NodeId> = (1..=3).map(|steps| after(&logs, leader, steps)).collect();
        cut.iter().for_each(|server| logs.disconnect(*server));
        let (index, _) = logs.offer(leader, 20).await.expect("it leads");
        assert_eq!(index, Index(2));
        logs.world().sleep_ms(2000).await;
        applied_nowhere(&logs, 2);
        cut.iter().for_each(|server| logs.connect(*server));
        // The leader may have been deposed while it had no majority.
        let leader = one_leader(&logs).await;
        let (index, _) = logs.offer(leader, 30).await.expect("it leads");
        assert!(index == Index(2) || index == Index(3), "offered at {index}");
        agree(&logs, 1000, 5).await;
    });
}

/// Concurrent Start()s.
#[test]
fn concurrent_starts_3b() {
    row("ConcurrentStarts", 3, false, async |logs| {
        for _ in 0..5 {
            logs.world().sleep_ms(3000).await;
            let leader = one_leader(&logs).await;
            let Some((_, term)) = logs.offer(leader, 1).await else { continue };
            let offers: Vec<_> = (100..105)
                .map(|command| {
                    let logs = logs.clone();
                    logs.world()
                        .clone()
                        .spawn(async move { (command, logs.offer(leader, command).await) })
                })
                .collect();
            let mut indexes = vec![];
            for offer in offers {
                let (command, place) = offer.await.expect("an offer is answered");
                indexes.push((command, place));
            }
            if !indexes.iter().all(|(_, place)| place.is_some_and(|(_, at)| at == term)) {
                continue;
            }
            for (command, place) in indexes {
                let Some((index, _)) = place else { continue };
                assert_eq!(logs.wait(index, 3).await, command);
            }
            assert_eq!(one_term(&logs).await, term, "nothing had failed");
            return;
        }
        panic!("the term changed too often");
    });
}

/// Rejoin of partitioned leader.
#[test]
fn rejoin_3b() {
    row("Rejoin", 3, false, async |logs| {
        logs.agree(101, 3, false).await;
        let first = one_leader(&logs).await;
        logs.disconnect(first);
        for command in 102..105 {
            logs.offer(first, command).await;
        }
        agree(&logs, 103, 2).await;
        let second = one_leader(&logs).await;
        logs.disconnect(second);
        logs.connect(first);
        agree(&logs, 104, 2).await;
        logs.connect(second);
        agree(&logs, 105, 3).await;
    });
}

/// Leader backs up quickly over incorrect follower logs.
#[test]
fn backup_3b() {
    row("Backup", 5, false, async |logs| {
        logs.agree(chance(&logs), 5, false).await;
        let first = one_leader(&logs).await;
        let far = |steps: u32| after(&logs, first, steps);
        (2..=4).for_each(|steps| logs.disconnect(far(steps)));
        for _ in 0..50 {
            logs.offer(first, chance(&logs)).await;
        }
        logs.world().sleep_ms(500).await;
        logs.disconnect(first);
        logs.disconnect(far(1));
        (2..=4).for_each(|steps| logs.connect(far(steps)));
        for _ in 0..50 {
            agree(&logs, chance(&logs), 3).await;
        }
        let second = one_leader(&logs).await;
        let other = if second == far(2) { far(3) } else { far(2) };
        logs.disconnect(other);
        for _ in 0..50 {
            logs.offer(second, chance(&logs)).await;
        }
        logs.world().sleep_ms(500).await;
        logs.world().servers().into_iter().for_each(|server| logs.disconnect(server));
        [first, far(1), other].into_iter().for_each(|server| logs.connect(server));
        for _ in 0..50 {
            agree(&logs, chance(&logs), 3).await;
        }
        logs.world().servers().into_iter().for_each(|server| logs.connect(server));
        agree(&logs, chance(&logs), 5).await;
    });
}

/// RPC counts aren't too high.
#[test]
fn count_3b() {
    row("Count", 3, false, async |logs| {
        let net = logs.world().net.clone();
        let mut leader = one_leader(&logs).await;
        let election = net.received();
        assert!((1..=30).contains(&election), "{election} RPCs to elect a leader");
        for attempt in 0..5 {
            if attempt > 0 {
                logs.world().sleep_ms(3000).await;
                leader = one_leader(&logs).await;
            }
            let before = net.received();
            let Some((first, term)) = logs.offer(leader, 1).await else { continue };
            let mut places = vec![];
            for command in 2..=12 {
                places.push((command, logs.offer(leader, command).await));
            }
            if !places.iter().all(|(_, place)| place.is_some_and(|(_, at)| at == term)) {
                continue;
            }
            for (command, place) in places.iter().take(10) {
                let index = Index(first.0 + command - 1);
                assert_eq!(place.map(|(index, _)| index), Some(index), "indexes are dense");
                assert_eq!(logs.wait(index, 3).await, *command);
            }
            let agreement = net.received() - before;
            if one_term(&logs).await != term {
                continue;
            }
            assert!(agreement <= 42, "{agreement} RPCs for 12 entries");
            let before = net.received();
            logs.world().sleep_ms(1000).await;
            let idle = net.received() - before;
            assert!(idle <= 60, "{idle} RPCs in an idle second");
            return;
        }
        panic!("the term changed too often");
    });
}

fn restart(logs: &Logs, server: NodeId) {
    logs.restart(server);
    logs.connect(server);
}

fn stop(logs: &Logs, server: NodeId) {
    logs.disconnect(server);
    if logs.runs(server) {
        logs.kill(server);
    }
}

/// Basic persistence.
#[test]
fn persist1_3c() {
    row("Persist1", 3, false, async |logs| {
        agree(&logs, 11, 3).await;
        logs.world().servers().into_iter().for_each(|server| stop(&logs, server));
        logs.world().servers().into_iter().for_each(|server| restart(&logs, server));
        agree(&logs, 12, 3).await;
        let leader = one_leader(&logs).await;
        restart(&logs, leader);
        agree(&logs, 13, 3).await;
        let leader = one_leader(&logs).await;
        stop(&logs, leader);
        let index = agree(&logs, 14, 2).await;
        assert_eq!(index, 4);
        restart(&logs, leader);
        logs.wait(Index(4), 3).await;
        let follower = after(&logs, one_leader(&logs).await, 1);
        stop(&logs, follower);
        agree(&logs, 15, 2).await;
        restart(&logs, follower);
        agree(&logs, 16, 3).await;
    });
}

/// More persistence.
#[test]
fn persist2_3c() {
    row("Persist2", 5, false, async |logs| {
        for _ in 0..5 {
            agree(&logs, chance(&logs), 5).await;
            let leader = one_leader(&logs).await;
            let far = |steps: u32| after(&logs, leader, steps);
            stop(&logs, far(1));
            stop(&logs, far(2));
            agree(&logs, chance(&logs), 3).await;
            [leader, far(3), far(4)].into_iter().for_each(|server| stop(&logs, server));
            restart(&logs, far(1));
            restart(&logs, far(2));
            logs.world().sleep_ms(1000).await;
            restart(&logs, far(3));
            agree(&logs, chance(&logs), 3).await;
            restart(&logs, far(4));
            restart(&logs, leader);
        }
        agree(&logs, 1000, 5).await;
    });
}

/// Partitioned leader and one follower crash, leader restarts.
#[test]
fn persist3_3c() {
    row("Persist3", 3, false, async |logs| {
        agree(&logs, 101, 3).await;
        let leader = one_leader(&logs).await;
        let (second, third) = (after(&logs, leader, 1), after(&logs, leader, 2));
        logs.disconnect(third);
        agree(&logs, 102, 2).await;
        stop(&logs, leader);
        stop(&logs, second);
        logs.connect(third);
        restart(&logs, leader);
        agree(&logs, 103, 2).await;
        restart(&logs, second);
        agree(&logs, 104, 3).await;
    });
}

/// Figure 8.
#[test]
fn figure8_3c() {
    row("Figure8", 5, false, async |logs| {
        agree(&logs, chance(&logs), 1).await;
        let world = logs.world().clone();
        for _ in 0..1000 {
            let mut leader = None;
            for server in world.servers() {
                let command = chance(&logs);
                if logs.runs(server) && logs.offer(server, command).await.is_some() {
                    leader = Some(server);
                }
            }
            let pause = if world.permille(100) { world.below(500) } else { world.below(13) };
            world.sleep_ms(pause).await;
            if let Some(leader) = leader {
                stop(&logs, leader);
            }
            let up = world.servers().into_iter().filter(|server| logs.runs(*server)).count();
            let server = node(world.below(5) as usize);
            if up < 3 && !logs.runs(server) {
                restart(&logs, server);
            }
        }
        for server in world.servers() {
            if !logs.runs(server) {
                restart(&logs, server);
            }
        }
        agree(&logs, chance(&logs), 5).await;
    });
}

/// Unreliable agreement.
#[test]
fn unreliable_agree_3c() {
    unreliable("UnreliableAgree", 5, false, async |logs| {
        let mut agreeing = vec![];
        for round in 1..50 {
            for more in 0..4 {
                let logs = logs.clone();
                let command = 100 * round + more;
                let world = logs.world().clone();
                agreeing.push(world.spawn(async move { agree(&logs, command, 1).await }));
            }
            agree(&logs, round, 1).await;
        }
        set_unreliable(logs.world(), false);
        for agreed in agreeing {
            agreed.await.expect("each is agreed about within 10 s");
        }
        agree(&logs, 100, 5).await;
    });
}

/// Figure 8 (unreliable): answers come up to 2.2 s late, to the end.
#[test]
fn figure8_unreliable_3c() {
    unreliable("Figure8Unreliable", 5, false, async |logs| {
        let world = logs.world().clone();
        logs.agree(world.below(10_000), 1, true).await;
        for round in 0..1000 {
            if round == 200 {
                world.net.set_reordering(true);
            }
            let mut leader = None;
            for server in world.servers() {
                let offered = logs.offer(server, world.below(10_000)).await;
                if offered.is_some() && logs.is_connected(server) {
                    leader = Some(server);
                }
            }
            let pause = if world.permille(100) { world.below(500) } else { world.below(13) };
            world.sleep_ms(pause).await;
            if let Some(leader) = leader.filter(|_| world.permille(500)) {
                logs.disconnect(leader);
            }
            let server = node(world.below(5) as usize);
            if logs.connected().len() < 3 && !logs.is_connected(server) {
                logs.connect(server);
            }
        }
        world.servers().into_iter().for_each(|server| logs.connect(server));
        agree(&logs, chance(&logs), 5).await;
    });
}

async fn churn(logs: Logs) {
    let world = logs.world().clone();
    let stop_now = Rc::new(Cell::new(false));
    let submitters: Vec<_> = (0..3)
        .map(|_| {
            let (logs, stop_now) = (logs.clone(), stop_now.clone());
            let world = world.clone();
            world.clone().spawn(async move {
                let mut seen = vec![];
                while !stop_now.get() {
                    let command = chance(&logs);
                    let mut place = None;
                    for server in world.servers() {
                        // The last one that takes it counts, as in the labs.
                        place = logs.offer(server, command).await.or(place);
                    }
                    let Some((index, _)) = place else {
                        world.sleep_ms(79).await;
                        continue;
                    };
                    for pause in [10, 20, 50, 100, 200] {
                        if let (1.., Some(applied)) = logs.applied_at(index) {
                            if applied == command {
                                seen.push(command);
                            }
                            break;
                        }
                        world.sleep_ms(pause).await;
                    }
                }
                seen
            })
        })
        .collect();
    for _ in 0..20 {
        if world.permille(200) {
            logs.disconnect(node(world.below(5) as usize));
        }
        if world.permille(500) {
            let server = node(world.below(5) as usize);
            if !logs.runs(server) {
                logs.start(server);
            }
            logs.connect(server);
        }
        if world.permille(200) {
            let server = node(world.below(5) as usize);
            if logs.runs(server) {
                stop(&logs, server);
            }
        }
        world.sleep_ms(700).await;
    }
    world.sleep_ms(1000).await;
    set_unreliable(&world, false);
    for server in world.servers() {
        if !logs.runs(server) {
            logs.start(server);
        }
        logs.connect(server);
    }
    stop_now.set(true);
    let mut seen = vec![];
    for submitter in submitters {
        seen.extend(submitter.await.expect("a submitter of this row failed"));
    }
    world.sleep_ms(1000).await;
    let last = agree(&logs, chance(&logs), 5).await;
    let mut log = vec![];
    for index in 1..=last {
        log.push(logs.wait(Index(index), 5).await);
    }
    assert!(!seen.is_empty(), "no submitter ever saw its command applied");
    for command in seen {
        assert!(log.contains(&command), "{command} was applied, and is not in the log");
    }
}

/// Churn.
#[test]
fn reliable_churn_3c() {
    row("ReliableChurn", 5, false, churn);
}

/// Unreliable churn.
#[test]
fn unreliable_churn_3c() {
    unreliable("UnreliableChurn", 5, false, churn);
}

/// What the labs allow for the raft state, with a snapshot after every tenth entry.
const LOG_BYTES_MAX: u64 = 2000;

async fn check_log_bytes(logs: &Logs) {
    let bytes = log_bytes_max(logs).await;
    assert!(bytes < LOG_BYTES_MAX, "{bytes} bytes of log: it is not trimmed");
}

enum Away {
    Nobody,
    Cut,
    Stopped,
}

async fn snapshots(logs: Logs, away: Away) {
    agree(&logs, chance(&logs), 3).await;
    let mut leader = one_leader(&logs).await;
    for round in 0..30 {
        let (mut victim, mut sender) = (after(&logs, leader, 1), leader);
        if round % 3 == 1 {
            (victim, sender) = (leader, after(&logs, leader, 1));
        }
        match away {
            Away::Nobody => {}
            Away::Cut => logs.disconnect(victim),
            Away::Stopped => stop(&logs, victim),
        }
        if !matches!(away, Away::Nobody) {
            agree(&logs, chance(&logs), 2).await;
        }
        // 5 to 14 commands: never so many that a snapshot must be sent to one who is connected.
        for _ in 0..5 + logs.world().below(10) {
            logs.offer(sender, chance(&logs)).await;
        }
        match away {
            Away::Nobody => {
                agree(&logs, chance(&logs), 3).await;
            }
            Away::Cut | Away::Stopped => {
                agree(&logs, chance(&logs), 2).await;
            }
        }
        check_log_bytes(&logs).await;
        match away {
            Away::Nobody => {}
            Away::Cut => logs.connect(victim),
            Away::Stopped => restart(&logs, victim),
        }
        if !matches!(away, Away::Nobody) {
            agree(&logs, chance(&logs), 3).await;
            leader = one_leader(&logs).await;
        }
    }
    match away {
        Away::Nobody => assert_eq!(logs.snapshots_installed(), 0, "nobody was away"),
        // Thirty times away, and most times the others took a snapshot meanwhile.
        Away::Cut | Away::Stopped => assert!(logs.snapshots_installed() >= 5),
    }
}

/// Snapshots basic.
#[test]
fn snapshot_basic_3d() {
    row("SnapshotBasic", 3, true, async |logs| {
        // Nothing overtakes anything, so that nobody is behind.
        let delay = Duration::from_millis(1);
        logs.world().net.set_delay(delay, delay);
        snapshots(logs, Away::Nobody).await;
    });
}

/// Install snapshots (disconnect).
#[test]
fn snapshot_install_3d() {
    row("SnapshotInstall", 3, true, async |logs| snapshots(logs, Away::Cut).await);
}

/// Install snapshots (disconnect), unreliable.
#[test]
fn snapshot_install_unreliable_3d() {
    let test = async |logs| snapshots(logs, Away::Cut).await;
    unreliable("SnapshotInstallUnreliable", 3, true, test);
}

/// Install snapshots (crash).
#[test]
fn snapshot_install_crash_3d() {
    row("SnapshotInstallCrash", 3, true, async |logs| snapshots(logs, Away::Stopped).await);
}

/// Install snapshots (unreliable and crash).
#[test]
fn snapshot_install_un_crash_3d() {
    let test = async |logs| snapshots(logs, Away::Stopped).await;
    unreliable("SnapshotInstallUnCrash", 3, true, test);
}

/// Crash and restart all servers.
#[test]
fn snapshot_all_crash_3d() {
    unreliable("SnapshotAllCrash", 3, true, async |logs| {
        agree(&logs, chance(&logs), 3).await;
        for _ in 0..5 {
            for _ in 0..5 + logs.world().below(10) {
                agree(&logs, chance(&logs), 3).await;
            }
            let before = agree(&logs, chance(&logs), 3).await;
            logs.world().servers().into_iter().for_each(|server| stop(&logs, server));
            logs.world().servers().into_iter().for_each(|server| restart(&logs, server));
            let now = agree(&logs, chance(&logs), 3).await;
            assert!(now > before, "index {now} after {before}");
        }
    });
}

/// Snapshot initialization after crash.
#[test]
fn snapshot_init_3d() {
    unreliable("SnapshotInit", 3, true, async |logs| {
        agree(&logs, chance(&logs), 3).await;
        for commands in [12, 1, 1] {
            for _ in 0..commands {
                agree(&logs, chance(&logs), 3).await;
            }
            logs.world().servers().into_iter().for_each(|server| stop(&logs, server));
            logs.world().servers().into_iter().for_each(|server| restart(&logs, server));
        }
        let last = agree(&logs, chance(&logs), 3).await;
        let began = Instant::now();
        while (1..last).any(|index| logs.applied_at(Index(index)).0 < 3) {
            assert!(began.elapsed() < Duration::from_secs(10), "something is missing");
            logs.world().sleep_ms(20).await;
        }
    });
}
