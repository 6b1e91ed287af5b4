//! Three real processes, real disks, real TCP, a real Redis client; some of them killed.

mod common;

use std::{net::SocketAddr, sync::atomic::Ordering::SeqCst, time::Duration};

use common::{
    Cluster, PATIENCE, http_get, http_post,
    load::{Load, blob, clients, judge},
    metric, now, pause, wait_until,
};
use quorate_history::{Input, Operation, Outcome, Output};
use quorate_node::config::Engine;
use rand::{Rng, SeedableRng, rngs::StdRng};

fn addresses(cluster: &Cluster) -> Vec<SocketAddr> {
    (0..cluster.configs.len()).map(|i| cluster.resp(i)).collect()
}

fn wait_for_writes(cluster: &Cluster, load: &Load, more: u64) {
    let wanted = load.acknowledged.load(SeqCst) + more;
    let begin = now();
    while load.acknowledged.load(SeqCst) < wanted {
        assert!(begin.elapsed() < PATIENCE, "writes do not go on\n{}", cluster.describe());
        pause(5);
    }
}

/// How often the actors of a kind have restarted, on all nodes together.
fn restarts(cluster: &Cluster, kind: &str) -> usize {
    let of = |node: usize| {
        let text = wait_until("metrics", || http_get(cluster.debug(node), "/metrics"));
        metric(&text, "quorate_actor_restarts_total", &format!("n{}/{kind}\"", node + 1))
    };
    (0..3).map(of).sum::<f64>() as usize
}

/// Each of these tests, on each engine.
macro_rules! on_each_engine {
    ($($test:ident),+ $(,)?) => {
        mod paxos {
            $(#[test] fn $test() { super::$test(super::Engine::Paxos); })+
        }
        mod raft {
            $(#[test] fn $test() { super::$test(super::Engine::Raft); })+
        }
    };
}

on_each_engine!(
    each_actor_kind_crashed_200_times_under_load,
    what_is_put_through_one_node_is_read_through_each_other,
    writes_go_on_when_any_node_is_killed_under_load,
    every_acknowledged_write_survives_the_death_of_all,
);

/// Every actor kind of a node, the ones that only a real process has included, crashed by
/// injection 200 times under load: nothing acknowledged is lost, nothing is applied twice, and
/// every address goes on working.
fn each_actor_kind_crashed_200_times_under_load(engine: Engine) {
    const CRASHES: usize = 200;
    let cluster = Cluster::started_on(engine, 3);
    let load = Load::new();
    let threads = clients(&load, 8, &addresses(&cluster), 7, 64);
    let modes = ["now", "before", "after"];
    let engine_kinds: &[&str] = match engine {
        Engine::Paxos => &["g1/acceptor", "g1/proposer", "g1/learner"],
        Engine::Raft => &["g1/raft"],
    };
    let kinds =
        ["g1/rsm", "g1/kvserver", "g1/courier", "clerk", "gateway", "journal", "files", "cluster"];
    for kind in engine_kinds.iter().chain(&kinds) {
        wait_for_writes(&cluster, &load, 20);
        // A crash that is to strike at the next message waits for one, and another that is
        // injected meanwhile takes its place: so count restarts, not injections.
        let mut injected = 0;
        while restarts(&cluster, kind) < CRASHES {
            for _ in 0..60 {
                let node = injected % 3;
                let mode = modes[injected / 3 % 3];
                let path = format!("/debug/actors/n{}/{kind}/crash?mode={mode}", node + 1);
                let answer = wait_until("an answer", || http_post(cluster.debug(node), &path));
                assert!(answer.starts_with("HTTP/1.1 2"), "POST {path}: {answer}");
                injected += 1;
                pause(2);
            }
        }
        wait_for_writes(&cluster, &load, 20);
        println!("{kind}: {injected} crashes injected, {} restarts", restarts(&cluster, kind));
    }
    load.stop.store(true, SeqCst);
    for thread in threads {
        thread.join().unwrap();
    }
    judge(&load);
}

fn what_is_put_through_one_node_is_read_through_each_other(engine: Engine) {
    let cluster = Cluster::started_on(engine, 3);
    for writer in 0..3 {
        let (key, value) = (format!("from{writer}"), format!("value{writer}"));
        let mut connection = cluster.connect(writer);
        redis::cmd("SET").arg(&key).arg(&value).exec(&mut connection).unwrap();
        for reader in 0..3 {
            let mut connection = cluster.connect(reader);
            let read: String = redis::cmd("GET").arg(&key).query(&mut connection).unwrap();
            assert_eq!(read, value, "written through node {writer}, read through node {reader}");
        }
    }
}

fn writes_go_on_when_any_node_is_killed_under_load(engine: Engine) {
    let mut cluster = Cluster::started_on(engine, 3);
    let load = Load::new();
    let threads = clients(&load, 16, &addresses(&cluster), 1, 64);
    wait_for_writes(&cluster, &load, 200);
    let mut pauses = vec![];
    for round in 0..9 {
        // Every third time the leader; otherwise each in turn.
        let victim = if round % 3 == 0 { cluster.leader() } else { round % 3 };
        let killed_at = load.micros();
        cluster.kill(victim);
        // The first write that was asked for after the kill and is acknowledged.
        let first = wait_until("a write after the kill", || {
            let ops = load.ops.lock().unwrap();
            let after = ops.iter().rev().take(2000).filter_map(|op| match op.outcome {
                Outcome::Returned { at, .. }
                    if op.invoked > killed_at && !matches!(op.input, Input::Get) =>
                {
                    Some(at)
                }
                _ => None,
            });
            after.min()
        });
        pauses.push(Duration::from_micros(first - killed_at));
        wait_for_writes(&cluster, &load, 100);
        cluster.start(victim);
        cluster.wait_ready();
    }
    load.stop.store(true, SeqCst);
    for thread in threads {
        thread.join().unwrap();
    }
    pauses.sort();
    println!("pauses after kill -9: {pauses:?}");
    assert!(pauses[pauses.len() / 2] < Duration::from_secs(1), "median of {pauses:?}");
    judge(&load);
}

/// Twenty rounds: load, `kill -9` of all three at a random moment, restart; the history of all
/// rounds together is linearizable, so that every acknowledged write is there.
fn every_acknowledged_write_survives_the_death_of_all(engine: Engine) {
    let seed = quorate_sim::seeds(1)[0];
    let mut chance = StdRng::seed_from_u64(seed);
    let mut cluster = Cluster::started_on(engine, 3);
    let load = Load::new();
    for round in 0..20 {
        load.stop.store(false, SeqCst);
        let threads = clients(&load, 16, &addresses(&cluster), seed * 1000 + round, 16);
        wait_for_writes(&cluster, &load, 50);
        pause(chance.random_range(0..150));
        let mut order = [0, 1, 2];
        for i in (1..3).rev() {
            order.swap(i, chance.random_range(0..=i));
        }
        for victim in order {
            cluster.kill(victim);
            pause(chance.random_range(0..30));
        }
        load.stop.store(true, SeqCst);
        for thread in threads {
            thread.join().unwrap();
        }
        for victim in order {
            cluster.start(victim);
        }
        cluster.wait_ready();
    }
    // A last look at every key, by each node.
    for node in 0..3 {
        let mut connection = cluster.connect(node);
        for key in 0..16 {
            let key = format!("key{key}");
            let invoked = load.micros();
            let read: Option<String> = redis::cmd("GET").arg(&key).query(&mut connection).unwrap();
            let output = match read {
                Some(value) => Output::Value { value: blob(&value), version: None },
                None => Output::Absent,
            };
            let outcome = Outcome::Returned { at: load.micros(), output };
            let client = 1000 + node as u64;
            let op = Operation { client, key: blob(&key), input: Input::Get, invoked, outcome };
            load.ops.lock().unwrap().push(op);
        }
    }
    println!("{} writes acknowledged", load.acknowledged.load(SeqCst));
    judge(&load);
}
