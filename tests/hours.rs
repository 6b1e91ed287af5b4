//! Hours of a cluster under faults drawn at random, on virtual time: each world has its own seed,
//! its own choice of faults and its own history, which must be linearizable; and when the faults
//! are over, everybody serves again and holds the same state.
//!
//! `QUORATE_HOURS=24 cargo test --release --test hours -- --nocapture` is the long run: 24 simulated
//! hours of each engine.

use std::{cell::Cell, env, rc::Rc, time::Duration};

use quorate_node::config::Engine;
use quorate_sim::{
    Client, Options, Record, Recorded, World, for_each_seed,
    nemesis::{Faults, trouble},
    run, seeds,
};
use tokio::time::timeout;

/// How long one world is in trouble.
const WORLD: Duration = Duration::from_secs(600);
/// The same when only a few of them are run, as in continuous integration.
const WORLD_SHORT: Duration = Duration::from_secs(60);
const CLIENTS: usize = 5;
const KEYS: u64 = 8;
/// How long after the last fault anything may take.
const CONVERGE_MAX: Duration = Duration::from_secs(30);

/// Puts, appends and reads, one after the other; every value is written once.
async fn work(world: World, client: Recorded, me: usize, stop: Rc<Cell<bool>>) -> u64 {
    let mut operations = 0;
    while !stop.get() {
        let key = format!("k{}", world.below(KEYS));
        match world.below(10) {
            0..4 => drop(client.get(&key).await),
            4..7 => client.append(&key, &format!("{me}.{operations};")).await,
            // What was appended before is gone, so that values stay short.
            _ => client.put(&key, &format!("{me}.{operations};")).await,
        }
        operations += 1;
        world.sleep_ms(world.below(200)).await;
    }
    operations
}

/// One world from its first to its last moment; answers how many operations there were.
fn world(engine: Engine, seed: u64, during: Duration) -> u64 {
    let servers = if seed.is_multiple_of(3) { 5 } else { 3 };
    let options = Options { engine, log_bytes_max: 8 * 1024, ..Options::servers(servers) };
    run(seed, options, async |world| {
        world.start_all(false);
        let (record, stop) = (Record::new(&world), Rc::new(Cell::new(false)));
        let clients: Vec<_> = (0..CLIENTS)
            .map(|me| {
                let client = record.client(Client::new(&world, world.shuffled()));
                world.spawn(work(world.clone(), client, me, stop.clone()))
            })
            .collect();
        let faults = Faults::draw(&world);
        trouble(&world, faults, during).await;
        stop.set(true);
        let mut operations = 0;
        for client in clients {
            let done = timeout(CONVERGE_MAX, client).await;
            let done = done.unwrap_or_else(|_| panic!("a client hangs after faults {faults}"));
            operations += done.expect("a client failed");
        }
        // Everybody serves, and says the same.
        let mut first = None;
        for server in world.servers() {
            let client = record.client(Client::new(&world, vec![server]));
            let mut state = vec![];
            for key in 0..KEYS {
                let value = timeout(CONVERGE_MAX, client.get(&format!("k{key}"))).await;
                state.push(value.unwrap_or_else(|_| panic!("{server} is stuck after {faults}")));
            }
            let first = first.get_or_insert_with(|| state.clone());
            assert_eq!(*first, state, "{server} has another state than the first server");
        }
        record.check();
        operations
    })
}

fn hours(engine: Engine) {
    let hours = env::var("QUORATE_HOURS").ok().map(|text| match text.parse::<f64>() {
        Ok(hours) if hours > 0.0 => hours,
        _ => panic!("QUORATE_HOURS={text}: write a number of hours"),
    });
    let Some(hours) = hours else {
        return for_each_seed(&format!("hours on {engine}"), 2, |seed| {
            let operations = world(engine, seed, WORLD_SHORT);
            assert!(operations > 0, "nobody got anything done");
        });
    };
    let worlds = (hours * 3600.0 / WORLD.as_secs_f64()).ceil() as u64;
    let first = seeds(1)[0];
    let mut operations = 0;
    for seed in first..first + worlds {
        // Said before: whoever reads a failure knows which one it was.
        eprint!("\r{engine}: world {} of {worlds}, seed {seed} ", seed - first + 1);
        operations += world(engine, seed, WORLD);
    }
    eprintln!();
    let simulated = WORLD.as_secs_f64() * worlds as f64 / 3600.0;
    println!("{engine}: {simulated:.1} simulated hours, {operations} operations, no violation");
}

/// Multi-Paxos.
#[test]
fn hours_of_paxos() {
    hours(Engine::Paxos);
}

/// Raft.
#[test]
fn hours_of_raft() {
    hours(Engine::Raft);
}
