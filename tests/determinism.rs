//! One seed, one run: the same trace, byte for byte, in this process and in another one.

use std::{env, process::Command};

use quorate_protocol::{GroupId, Name, Role};
use quorate_sim::{Client, Options, World, run};
use quorate_stage::CrashMode;

/// Set in the process that is asked for a hash: the seed.
const CHILD: &str = "QUORATE_DETERMINISM_SEED";

/// A run in which chance is asked everywhere: an unreliable network with partitions and repeated
/// messages, crashes of actors, kills of servers, slow disks, checkpoints, several clients.
fn hash_of(seed: u64) -> (u64, u64) {
    let options = Options { log_bytes_max: 4096, ..Options::servers(5) };
    run(seed, options, async |world| {
        world.start_all(false);
        world.net.set_unreliable(world.servers());
        world.net.set_duplicates(20);
        let client = |me: u64| {
            let (world, client) = (world.clone(), Client::new(&world, world.shuffled()));
            tokio::task::spawn_local(async move {
                for n in 0..60 {
                    client.append("k", &format!("x {me} {n} y")).await;
                    client.get("k").await;
                    world.sleep_ms(world.below(20)).await;
                }
            })
        };
        let clients: Vec<_> = (0..4).map(client).collect();
        for _ in 0..20 {
            world.net.partition(world.random_partition());
            trouble(&world).await;
            world.net.heal();
            world.sleep_ms(world.below(200)).await;
        }
        for client in clients {
            client.await.expect("every client ends");
        }
        world.trace.hash()
    })
}

async fn trouble(world: &World) {
    let victim = world.shuffled()[0];
    if world.permille(300) {
        world.kill(victim);
        world.sleep_ms(world.below(100)).await;
        world.start(victim, false);
    } else {
        let roles = [Role::Acceptor, Role::Proposer, Role::Learner, Role::Rsm];
        let name = Name::new(victim, GroupId(1), roles[world.below(4) as usize]);
        world.node(victim).stage.crash(name, CrashMode::AfterNext).expect("it lives there");
    }
    world.sleep_ms(world.below(200)).await;
}

/// The same seed gives the same trace in one process, and another seed another one.
#[test]
fn one_seed_one_trace() {
    let first = hash_of(1);
    assert!(first.1 > 10_000, "hardly anything has happened: {} events", first.1);
    assert_eq!(first, hash_of(1), "the same seed, another trace");
    let others = [hash_of(2), hash_of(3)];
    assert!(!others.contains(&first) && others[0] != others[1], "other seeds, the same trace");
}

/// The same seed gives the same trace in another process.
#[test]
fn one_seed_one_trace_in_another_process() {
    if let Ok(seed) = env::var(CHILD) {
        let (hash, events) = hash_of(seed.parse().expect("the parent writes a number"));
        println!("trace {hash:016x} of {events} events");
        return;
    }
    for seed in [1, 7] {
        let (hash, events) = hash_of(seed);
        let child = Command::new(env::current_exe().expect("a test knows its own file"))
            .args(["--exact", "one_seed_one_trace_in_another_process", "--nocapture"])
            .env(CHILD, seed.to_string())
            .output()
            .expect("a test can run itself");
        let said = String::from_utf8_lossy(&child.stdout).into_owned();
        let expected = format!("trace {hash:016x} of {events} events");
        assert!(child.status.success() && said.contains(&expected), "{expected}, but:\n{said}");
    }
}
