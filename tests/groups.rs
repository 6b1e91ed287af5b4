//! A divided store of real processes: groups join and leave and shards move, under load, while nodes are
//! killed.

mod common;

use std::{
    env,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, Ordering::SeqCst},
    },
    thread,
    time::{Duration, Instant},
};

use common::{
    Cluster, PATIENCE, connect, http_get,
    load::{Load, blob, clients, judge},
    now, pause, wait_until,
};
use quorate_history::{Input, Operation, Outcome, Output};
use quorate_node::config::Engine;
use rand::{Rng, SeedableRng, rngs::StdRng};

const NODES: usize = 3;
const GROUPS: u32 = 4;
const SHARDS: u16 = 256;
const CLIENTS: u64 = 64;
const KEYS: u64 = 100_000;
/// How often a node is killed.
const KILL_EVERY: Duration = Duration::from_secs(5);

/// Names the seconds that shards move and nodes are killed, 120 to show that all is well.
const SECONDS: &str = "QUORATE_GROUPS_SECONDS";

fn seconds() -> u64 {
    env::var(SECONDS).map_or(15, |text| text.parse().expect("a number of seconds"))
}

/// Writes every key once, many at a time; each is a client of its own in the history.
fn fill(cluster: &Cluster, load: &Load) {
    let mut connection = cluster.connect(0);
    for first in (0..KEYS).step_by(500) {
        let numbers = first..(first + 500).min(KEYS);
        let invoked = load.micros();
        let mut command = redis::cmd("MSET");
        for number in numbers.clone() {
            command.arg(format!("key{number}")).arg(format!("fill.{number} "));
        }
        command.exec(&mut connection).expect("nothing fails yet");
        let outcome = Outcome::Returned { at: load.micros(), output: Output::Done };
        let put = |number: u64| Operation {
            client: 1_000_000 + number,
            key: blob(&format!("key{number}")),
            input: Input::Put { value: blob(&format!("fill.{number} ")) },
            invoked,
            outcome: outcome.clone(),
        };
        load.ops.lock().unwrap().extend(numbers.map(put));
    }
}

/// The 99th percentile, and the longest, of what was asked within a time; in milliseconds.
fn latencies(load: &Load, from: u64, to: u64) -> (f64, f64, usize) {
    let ops = load.ops.lock().unwrap();
    let within = ops.iter().filter(|op| op.client < CLIENTS && (from..to).contains(&op.invoked));
    let took = within.filter_map(|op| match op.outcome {
        Outcome::Returned { at, .. } => Some(at - op.invoked),
        _ => None,
    });
    let mut took: Vec<u64> = took.collect();
    took.sort_unstable();
    let at = |permille: usize| took.get((took.len() * permille / 1000).min(took.len().max(1) - 1));
    let ms = |micros: Option<&u64>| micros.map_or(0.0, |micros| *micros as f64 / 1000.0);
    (ms(at(990)), ms(took.last()), took.len())
}

/// Asks for one change after the other, of any node, until told to stop. Gives how many were made.
fn change(nodes: Vec<std::net::SocketAddr>, stop: Arc<AtomicBool>, seed: u64) -> u64 {
    let mut chance = StdRng::seed_from_u64(seed);
    let mut made = 0;
    while !stop.load(SeqCst) {
        let group = format!("g{}", chance.random_range(1..=GROUPS));
        let mut command = redis::cmd("SHARDS");
        match chance.random_range(0..10) {
            0..3 => command.arg("JOIN").arg(&group),
            3..6 => command.arg("LEAVE").arg(&group),
            6..9 => {
                let shard = format!("s{}", chance.random_range(0..SHARDS));
                command.arg("MOVE").arg(shard).arg(&group)
            }
            _ => command.arg("REBALANCE"),
        };
        let node = nodes[chance.random_range(0..nodes.len())];
        // What cannot be done is refused, and a node may be dead.
        let done = connect(node).and_then(|mut open| command.query::<u64>(&mut open));
        made += u64::from(done.is_ok());
        pause(chance.random_range(20..200));
    }
    made
}

/// Waits until every group has taken over the newest configuration and no shard is on its way.
fn settled(cluster: &Cluster) -> Duration {
    let begin = now();
    wait_until("all shards are in their places", || {
        let mut newest = 0;
        let mut views = vec![];
        for node in 0..NODES {
            let status = http_get(cluster.debug(node), "/debug/status")?;
            let status: serde_json::Value = serde_json::from_str(&status).ok()?;
            for group in status["groups"].as_array()? {
                if let Some(shards) = group.get("shards") {
                    newest = newest.max(shards["configuration"].as_u64()?);
                    views.push(shards.clone());
                }
            }
        }
        let there = |shards: &serde_json::Value| {
            shards["configuration"] == newest
                && shards["moving"].as_array().is_some_and(Vec::is_empty)
        };
        let all = views.len() == NODES * GROUPS as usize && views.iter().all(there);
        all.then(|| begin.elapsed())
    })
}

fn groups_join_and_leave_under_load_while_nodes_are_killed(engine: Engine) {
    let seed = quorate_sim::seeds(1)[0];
    let mut chance = StdRng::seed_from_u64(seed);
    let mut cluster = Cluster::of(engine, NODES as u32).divided(GROUPS, SHARDS);
    cluster.configs.iter_mut().for_each(|config| config.log_bytes_max = 4 << 20);
    cluster.start_all();
    let load = Load::new();
    fill(&cluster, &load);
    let nodes: Vec<_> = (0..NODES).map(|node| cluster.resp(node)).collect();
    let threads = clients(&load, CLIENTS, &nodes, seed, KEYS);
    let moves = Duration::from_secs(seconds());
    pause(1000);
    let rest = load.micros();
    pause(moves.as_millis() as u64 / 4);
    let begun = load.micros();
    // Shards move, and nobody dies.
    let stop = Arc::new(AtomicBool::new(false));
    let changes = Arc::new(AtomicU64::new(0));
    let changer = {
        let (nodes, stop, changes) = (nodes.clone(), stop.clone(), changes.clone());
        thread::spawn(move || changes.store(change(nodes, stop, seed), SeqCst))
    };
    pause(moves.as_millis() as u64 / 4);
    let killing = load.micros();
    let (end, mut kills) = (now() + moves, 0);
    while now() < end {
        let victim = chance.random_range(0..NODES);
        cluster.kill(victim);
        kills += 1;
        pause(chance.random_range(100..1500));
        cluster.start(victim);
        let next = now() + KILL_EVERY;
        while now() < next.min(end) {
            pause(20);
        }
    }
    let ended = load.micros();
    stop.store(true, SeqCst);
    changer.join().unwrap();
    cluster.wait_ready();
    let settling = settled(&cluster);
    load.stop.store(true, SeqCst);
    threads.into_iter().for_each(|thread| thread.join().unwrap());

    let (rest_p99, rest_max, rest_ops) = latencies(&load, rest, begun);
    let (move_p99, move_max, move_ops) = latencies(&load, begun, killing);
    let (kill_p99, kill_max, kill_ops) = latencies(&load, killing, ended);
    println!(
        "{engine}: {} changes, {kills} kills; settled after {settling:?}",
        changes.load(SeqCst)
    );
    println!(
        "at rest:              p99 {rest_p99:.1} ms, longest {rest_max:.1} ms, {rest_ops} operations"
    );
    println!(
        "while shards move:    p99 {move_p99:.1} ms, longest {move_max:.1} ms, {move_ops} operations"
    );
    println!(
        "and nodes are killed: p99 {kill_p99:.1} ms, longest {kill_max:.1} ms, {kill_ops} operations"
    );
    let (refused, unknown) =
        (load.refused.lock().unwrap().clone(), load.unknown.lock().unwrap().clone());
    println!("errors that a client retries: {refused:?}; outcomes unknown: {unknown:?}");
    assert!(changes.load(SeqCst) > 10, "shards have moved");
    assert!(rest_ops > 500 && move_ops > 500 && kill_ops > 500, "clients were served");
    // Who loses its connection does not know; nobody was told so, and nothing else was said.
    assert!(!refused.contains_key("ERR"), "{refused:?}");
    assert!(unknown.keys().all(|said| said == "connection lost"), "{unknown:?}");
    judge(&load);
}

/// What cannot be done is refused by name, and everything else goes on.
fn what_cannot_be_done_is_refused(engine: Engine) {
    let mut cluster = Cluster::of(engine, 3).divided(2, 16);
    cluster.start_all();
    let mut connection = cluster.connect(0);
    let mut call = |words: &[&str]| {
        let mut command = redis::cmd("SHARDS");
        for word in words {
            command.arg(word);
        }
        let answer = command.query::<redis::Value>(&mut connection);
        answer.map_or_else(|error| error.to_string(), |value| format!("{value:?}"))
    };
    wait_until("the groups have joined", || call(&["QUERY"]).contains("int(15)").then_some(()));
    for (words, said) in [
        (&["JOIN", "g1"][..], "g1 is a member already"),
        (&["JOIN", "g7"], "no node has a replica of g7"),
        (&["JOIN", "0"], "no node has a replica of g0"),
        (&["LEAVE", "g7"], "g7 is no member"),
        (&["LEAVE", "g1", "g2"], "let another group join first"),
        (&["MOVE", "s3", "g7"], "g7 is no member"),
        (&["MOVE", "s99", "g1"], "there is no s99"),
        (&["MOVE", "x", "g1"], "not a shard"),
        (&["DANCE"], "unknown subcommand"),
    ] {
        let answer = call(words);
        assert!(answer.contains(said), "{words:?}: {answer}");
    }
    assert!(call(&["LEAVE", "g2"]).contains("int(2)"), "configuration 2");
    assert!(call(&["LEAVE", "g1"]).contains("let another group join first"));
    redis::cmd("SET").arg("k").arg("v").exec(&mut cluster.connect(2)).unwrap();
}

/// The store is as it was after the death of all, shards included.
fn shards_survive_the_death_of_all(engine: Engine) {
    let mut cluster = Cluster::of(engine, 3).divided(3, 64);
    cluster.start_all();
    let mut connection = cluster.connect(0);
    let mut fill = redis::pipe();
    for key in 0..500 {
        fill.cmd("SET").arg(format!("k{key}")).arg(key).ignore();
    }
    fill.exec(&mut connection).unwrap();
    let changes = [("LEAVE", "g1"), ("JOIN", "g1"), ("LEAVE", "g3")];
    for (expected, (what, group)) in (2..).zip(changes) {
        // In the midst of what moves.
        let made: u64 =
            redis::cmd("SHARDS").arg(what).arg(group).query(&mut cluster.connect(1)).unwrap();
        assert_eq!(made, expected);
        (0..3).for_each(|node| cluster.kill(node));
        cluster.start_all();
    }
    let begin: Instant = now();
    let mut connection = cluster.connect(2);
    for key in 0..500_u64 {
        let found: u64 = redis::cmd("GET").arg(format!("k{key}")).query(&mut connection).unwrap();
        assert_eq!(found, key);
    }
    let count: u64 = redis::cmd("DBSIZE").query(&mut connection).unwrap();
    assert_eq!(count, 500);
    assert!(begin.elapsed() < PATIENCE);
}

mod paxos {
    #[test]
    fn groups_join_and_leave_under_load_while_nodes_are_killed() {
        super::groups_join_and_leave_under_load_while_nodes_are_killed(super::Engine::Paxos);
    }
    #[test]
    fn what_cannot_be_done_is_refused() {
        super::what_cannot_be_done_is_refused(super::Engine::Paxos);
    }
    #[test]
    fn shards_survive_the_death_of_all() {
        super::shards_survive_the_death_of_all(super::Engine::Paxos);
    }
}

mod raft {
    #[test]
    fn groups_join_and_leave_under_load_while_nodes_are_killed() {
        super::groups_join_and_leave_under_load_while_nodes_are_killed(super::Engine::Raft);
    }
    #[test]
    fn what_cannot_be_done_is_refused() {
        super::what_cannot_be_done_is_refused(super::Engine::Raft);
    }
    #[test]
    fn shards_survive_the_death_of_all() {
        super::shards_survive_the_death_of_all(super::Engine::Raft);
    }
}
