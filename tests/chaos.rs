//! Clusters in which anything may fail, as `quorate sim` runs them: the network, the processes, the
//! disks, the clocks and the clients. `docs/testing.md` says how to go on from a failure.

use quorate_node::config::Engine;
use quorate_sim::{
    chaos::{Plan, Profile, Schedule, play},
    for_each_seed,
};

fn swarm(engine: Engine) {
    for_each_seed(&format!("chaos on {engine}"), 30, |seed| {
        let faults = Profile::Swarm;
        let schedule = Schedule::draw(&Plan { engine, seed, steps: 300, faults, servers: None });
        if let Err(failed) = play(&schedule) {
            panic!("after {:?}: {}", failed.at, failed.violation);
        }
    });
}

/// Multi-Paxos.
#[test]
fn swarm_of_faults_on_paxos() {
    swarm(Engine::Paxos);
}

/// Raft.
#[test]
fn swarm_of_faults_on_raft() {
    swarm(Engine::Raft);
}
