//! Small worlds in which every run of the cores is explored: the very cores that serve, not a
//! description of them.
//!
//! Each test explores one world, of which `tests/explore` says what happens in it: whatever was sent
//! arrives at any time, again and again or never; timers run out in any order; a crash loses what
//! is not on the disk. A world that is too large for a test is explored as far as
//! `QUORATE_MODEL_STATES` goes, the shortest runs first; `docs/testing.md` says how to explore all
//! of it.

mod explore;

use std::collections::BTreeSet;

use explore::{
    paxos::{
        AFTER_A_CRASH, ALL_CHOSEN, APPLIED, CHOSEN, CHOSEN_TWICE, Input, Part, Paxos, Planted,
        READ, Timer, id,
    },
    raft::{self, Planted as RaftPlanted, Raft},
    wiped::{self, Wiped},
    world::{Engine, NOTHING_BROKEN, World},
};
use quorate_learner::Timer as LearnerTimer;
use quorate_proposer::Timer as ProposerTimer;
use quorate_protocol::NodeId;
use quorate_raft::Timer as RaftTimer;
use stateright::{Checker, HasDiscoveries, Model};

/// How many steps from a state to a state are explored of a world, unless
/// `QUORATE_MODEL_STATES` says otherwise.
const STATES: usize = 40_000;
/// And of one with a planted error, which is found long before.
const STATES_PLANTED: usize = 1_000_000;

/// How far to go; beyond the usual the order is another, which needs less memory.
fn states_max() -> usize {
    let asked = std::env::var("QUORATE_MODEL_STATES").ok();
    asked.map_or(STATES, |text| text.parse().expect("QUORATE_MODEL_STATES is a number"))
}

/// Explores a world, and holds that nothing breaks in it and that some run reaches each goal.
fn explore<E: Engine>(name: &str, world: World<E>, goals: &[&'static str]) -> usize {
    let max = states_max();
    let builder = world.checker().target_state_count(max);
    match max {
        STATES => judge(name, builder.spawn_bfs().join(), goals, max),
        _ => judge(name, builder.threads(2).spawn_dfs().join(), goals, max),
    }
}

/// Explores all of a world that is small enough for that in every run of the tests.
fn explore_whole<E: Engine>(name: &str, world: World<E>, goals: &[&'static str]) -> usize {
    let max = STATES_PLANTED;
    let checker = world.checker().target_state_count(max).threads(2).spawn_dfs().join();
    let steps = checker.state_count();
    assert!(steps < max, "{name}: {steps} steps, and that was not all");
    judge(name, checker, goals, max)
}

fn judge<E: Engine>(
    name: &str,
    checker: impl Checker<World<E>>,
    goals: &[&'static str],
    max: usize,
) -> usize {
    let (steps, states) = (checker.state_count(), checker.unique_state_count());
    let whole = if steps < max { "all of it" } else { "a part of it" };
    let depth = checker.max_depth();
    println!("{name}: {states} states, {steps} steps, depth {depth}, {whole}");
    if let Some(path) = checker.discovery(NOTHING_BROKEN) {
        panic!("a run that must not be:\n{}", checker.model().tell(path));
    }
    // A part that is explored the long runs first may reach the goals late.
    let goals = if max == STATES || steps < max { goals } else { &[] };
    for goal in goals {
        assert!(checker.discovery(goal).is_some(), "no run reaches this: {goal}");
    }
    states
}

/// Explores a world with a planted error, and answers what breaks in the run that shows it.
fn find<E: Engine>(world: World<E>) -> String {
    let checker = world
        .checker()
        .target_state_count(STATES_PLANTED)
        .finish_when(HasDiscoveries::AnyFailures)
        .spawn_bfs()
        .join();
    let path = checker.discovery(NOTHING_BROKEN).expect("the planted error is found");
    let told = checker.model().tell(path);
    println!("found after {} states:\n{told}", checker.unique_state_count());
    told.lines().last().unwrap_or_default().trim().to_string()
}

fn set<const N: usize>(nodes: [u32; N]) -> BTreeSet<NodeId> {
    nodes.map(NodeId).into()
}

fn put(node: u32, seq: u64) -> (NodeId, Input) {
    (NodeId(node), Input::Put(id(node, seq)))
}

fn read(node: u32, seq: u64) -> (NodeId, Input) {
    (NodeId(node), Input::Read(id(node, seq)))
}

/// Two nodes that never hear each other.
fn cut(one: u32, other: u32) -> BTreeSet<(NodeId, NodeId)> {
    BTreeSet::from([(NodeId(one), NodeId(other)), (NodeId(other), NodeId(one))])
}

/// Three nodes, of which those in `awake` propose and learn.
fn paxos(awake: &[u32], rounds_max: u64) -> Paxos {
    let nodes: Vec<NodeId> = (1..=3).map(NodeId).collect();
    let sleeps = |node: &NodeId| !awake.contains(&node.0);
    Paxos {
        acceptor_only: nodes.iter().copied().filter(sleeps).collect(),
        nodes,
        rounds_max,
        timers: vec![],
        parts: vec![],
        rounds_in_flight_max: 2,
        planted: None,
    }
}

fn world(engine: Paxos, inputs: Vec<(NodeId, Input)>) -> World<Paxos> {
    let nodes = engine.nodes.clone();
    let (mortal, slow_disks) = (set([]), set([]));
    let (cut, copies) = (BTreeSet::new(), None);
    World { nodes, engine, inputs, timers: 0, crashes: 0, copies, cut, mortal, slow_disks }
}

/// Three peers, of which those in `campaigns` grow impatient, each as often as the world lets it.
fn raft(campaigns: &[u32], terms_max: u64) -> Raft {
    let nodes: Vec<NodeId> = (1..=3).map(NodeId).collect();
    let timers = campaigns.iter().map(|node| (NodeId(*node), RaftTimer::Election)).collect();
    Raft { nodes, terms_max, places_max: 4, timers, planted: None }
}

fn raft_world(engine: Raft, timers: u32, inputs: Vec<(NodeId, Input)>) -> World<Raft> {
    let nodes = engine.nodes.clone();
    let (mortal, slow_disks) = (set([]), set([]));
    // A leader numbers its rounds, and takes a copy of an answer for a reason to begin one.
    let (cut, copies) = (BTreeSet::new(), Some(2));
    World { nodes, engine, inputs, timers, crashes: 0, copies, cut, mortal, slow_disks }
}

#[test]
fn one_proposer_puts_and_reads() {
    let goals = [CHOSEN, ALL_CHOSEN, READ, APPLIED];
    let world = || world(paxos(&[1], 1), vec![put(1, 1), read(1, 2)]);
    let states = explore("one proposer", world(), &goals);
    // The same world has the same runs.
    assert_eq!(explore("one proposer, again", world(), &goals), states);
    assert!(states > 1_000, "{states} states: little happens here");
}

#[test]
fn two_proposers_want_the_same_slot() {
    let world = world(paxos(&[1, 2], 1), vec![put(1, 1), put(2, 1)]);
    explore("two proposers", world, &[CHOSEN, ALL_CHOSEN, APPLIED, CHOSEN_TWICE]);
}

/// Explored whole in every run of the tests: whatever is sent arrives at any time, once or never.
#[test]
fn two_proposers_whose_messages_arrive_once() {
    let world = world(paxos(&[1, 2], 1), vec![put(1, 1), put(2, 1)]);
    explore_whole("two proposers, once", World { copies: Some(1), ..world }, &[CHOSEN]);
}

#[test]
fn two_proposers_who_do_not_hear_each_other() {
    let world = world(paxos(&[1, 2], 2), vec![put(1, 1), put(2, 1)]);
    let engine = Paxos { timers: vec![Timer::Proposer(ProposerTimer::Retry)], ..world.engine };
    let world = World { cut: cut(1, 2), timers: 2, engine, ..world };
    explore("two proposers apart", world, &[CHOSEN, APPLIED, CHOSEN_TWICE]);
}

#[test]
fn a_read_at_one_node_and_a_put_at_another() {
    let world = world(paxos(&[1, 2], 1), vec![put(1, 1), read(2, 2)]);
    explore("a put and a read", world, &[CHOSEN, APPLIED, READ]);
}

#[test]
fn a_leader_crashes_and_leads_again() {
    let engine = Paxos { parts: vec![Part::Node], ..paxos(&[1], 2) };
    let world = World {
        crashes: 1,
        mortal: set([1]),
        slow_disks: set([1]),
        ..world(engine, vec![put(1, 1), put(1, 2)])
    };
    explore("a leader crashes", world, &[CHOSEN, AFTER_A_CRASH, APPLIED]);
}

#[test]
fn an_acceptor_crashes_while_two_propose() {
    let engine = Paxos { parts: vec![Part::Node], ..paxos(&[1, 2], 1) };
    let world = World {
        crashes: 1,
        mortal: set([3]),
        slow_disks: set([3]),
        ..world(engine, vec![put(1, 1), put(2, 1)])
    };
    explore("an acceptor crashes", world, &[CHOSEN, AFTER_A_CRASH]);
}

#[test]
fn actors_crash_one_by_one() {
    let engine =
        Paxos { parts: vec![Part::Acceptor, Part::Proposer, Part::Learner], ..paxos(&[1], 2) };
    let world = World {
        crashes: 1,
        mortal: set([1]),
        slow_disks: set([1]),
        ..world(engine, vec![put(1, 1)])
    };
    explore("actors crash", world, &[CHOSEN, AFTER_A_CRASH, APPLIED]);
}

#[test]
fn a_proposer_takes_over_from_one_that_does_not_answer() {
    let engine = Paxos { timers: vec![Timer::Proposer(ProposerTimer::Retry)], ..paxos(&[1, 2], 2) };
    let world = World { timers: 2, ..world(engine, vec![put(1, 1), put(2, 1)]) };
    explore("a proposer takes over", world, &[CHOSEN, ALL_CHOSEN]);
}

#[test]
fn a_learner_asks_for_what_it_misses() {
    let timers = vec![Timer::Proposer(ProposerTimer::Linger), Timer::Learner(LearnerTimer::Fetch)];
    let engine = Paxos { timers, ..paxos(&[1, 2], 1) };
    let world = World { timers: 3, ..world(engine, vec![put(1, 1)]) };
    explore("a learner asks", world, &[CHOSEN, APPLIED]);
}

#[test]
fn an_acceptor_that_forgets_its_promise_is_found() {
    let planted = Some(Planted::PromisesForgotten);
    let engine = Paxos { parts: vec![Part::Node], planted, ..paxos(&[1, 2], 1) };
    let world = World { crashes: 1, mortal: set([3]), ..world(engine, vec![put(1, 1), put(2, 1)]) };
    let broken = find(world);
    assert!(broken.contains("has promised"), "{broken}");
}

#[test]
fn a_driver_that_does_not_wait_for_the_disk_is_found() {
    let engine = Paxos { planted: Some(Planted::SpokenEarly), ..paxos(&[1], 1) };
    let world = World { slow_disks: set([1, 2, 3]), ..world(engine, vec![put(1, 1)]) };
    let broken = find(world);
    assert!(broken.contains("not chosen"), "{broken}");
}

#[test]
fn a_vote_that_is_counted_twice_is_found() {
    let engine = Paxos { planted: Some(Planted::VoteCountedTwice), ..paxos(&[1], 1) };
    let broken = find(world(engine, vec![put(1, 1)]));
    assert!(broken.contains("not chosen"), "{broken}");
}

#[test]
fn a_promise_that_is_counted_twice_is_found() {
    let engine = Paxos { planted: Some(Planted::PromiseCountedTwice), ..paxos(&[1, 2], 1) };
    let broken = find(world(engine, vec![put(1, 1), put(2, 1)]));
    assert!(broken.contains("P2"), "{broken}");
}

#[test]
fn votes_that_phase_1_overlooks_are_found() {
    let engine = Paxos { planted: Some(Planted::VotesOverlooked), ..paxos(&[1, 2], 1) };
    let broken = find(world(engine, vec![put(1, 1), put(2, 1)]));
    assert!(broken.contains("P2"), "{broken}");
}

#[test]
fn a_read_that_asks_nobody_is_found() {
    let engine = Paxos { planted: Some(Planted::ReadUnconfirmed), ..paxos(&[1, 2], 1) };
    let broken = find(world(engine, vec![put(1, 1), put(2, 1), read(1, 2)]));
    assert!(broken.contains("a read"), "{broken}");
}

/// Three acceptors, of which the third may lose its disk once, and two ballots.
fn wiped(naive: bool) -> World<Wiped> {
    let nodes: Vec<NodeId> = (1..=3).map(NodeId).collect();
    World {
        engine: Wiped { nodes: nodes.clone(), naive },
        nodes,
        inputs: vec![(NodeId(1), id(1, 1)), (NodeId(2), id(2, 1))],
        timers: 0,
        crashes: 1,
        copies: Some(1),
        cut: cut(1, 2),
        mortal: set([3]),
        slow_disks: set([]),
    }
}

/// Explored whole in every run of the tests: what the dead life said may arrive at any time, and whatever
/// is said to it arrives at the new one too.
#[test]
fn a_lost_disk_comes_back_as_nobody_who_counts() {
    let goals = [wiped::CHOSEN, wiped::CHOSEN_AFTER];
    explore_whole("a lost disk", wiped(false), &goals);
}

#[test]
fn an_acceptor_that_asks_around_what_it_has_promised_is_found() {
    let broken = find(wiped(true));
    assert!(broken.contains("two values"), "{broken}");
}

#[test]
fn a_raft_leader_puts_and_reads() {
    let world = raft_world(raft(&[1], 1), 1, vec![put(1, 1), read(1, 2)]);
    explore("a Raft leader", world, &[raft::COMMITTED, raft::READ]);
}

/// Small enough to be explored whole in every run of the tests: each order of two campaigns in one
/// term, with whatever is lost.
#[test]
fn two_raft_peers_campaign_in_one_term() {
    let engine = Raft { places_max: 1, ..raft(&[1, 2], 1) };
    let world = World { copies: Some(1), ..raft_world(engine, 2, vec![]) };
    let states = explore_whole("two campaigns, one term", world, &[]);
    assert!(states > 30_000, "{states} states: little happens here");
}

/// Likewise: a leader, and all that may become of what it commits.
#[test]
fn a_raft_leader_commits() {
    let engine = Raft { places_max: 2, ..raft(&[1], 1) };
    let world = World { copies: Some(1), ..raft_world(engine, 1, vec![put(1, 1)]) };
    explore_whole("a Raft leader commits", world, &[raft::COMMITTED]);
}

#[test]
fn two_raft_peers_campaign() {
    let world = raft_world(raft(&[1, 2], 2), 3, vec![put(1, 1)]);
    explore("two campaigns", world, &[raft::COMMITTED]);
}

#[test]
fn one_raft_leader_follows_another() {
    let world = World { cut: cut(1, 2), ..raft_world(raft(&[1, 2], 2), 3, vec![put(2, 1)]) };
    explore("elections", world, &[raft::NEXT_LEADER, raft::COMMITTED]);
}

#[test]
fn a_raft_peer_crashes() {
    let world = World {
        crashes: 1,
        mortal: set([2]),
        slow_disks: set([2]),
        ..raft_world(raft(&[1], 1), 1, vec![put(1, 1)])
    };
    explore("a Raft peer crashes", world, &[raft::COMMITTED, raft::AFTER_A_CRASH]);
}

fn planted(planted: RaftPlanted, campaigns: &[u32]) -> Raft {
    Raft { planted: Some(planted), ..raft(campaigns, 1) }
}

#[test]
fn a_raft_peer_that_forgets_its_vote_is_found() {
    let engine = planted(RaftPlanted::VotesForgotten, &[1, 2]);
    let world = World { crashes: 1, mortal: set([3]), ..raft_world(engine, 2, vec![]) };
    let broken = find(world);
    assert!(broken.contains("votes for"), "{broken}");
}

#[test]
fn a_raft_peer_that_does_not_wait_for_the_disk_is_found() {
    let engine = planted(RaftPlanted::SpokenEarly, &[1]);
    let slow_disks = set([2, 3]);
    let broken = find(World { slow_disks, ..raft_world(engine, 1, vec![put(1, 1)]) });
    assert!(broken.contains("for committed"), "{broken}");
}

#[test]
fn a_raft_vote_that_is_counted_twice_is_found() {
    let engine = planted(RaftPlanted::VoteCountedTwice, &[1, 2]);
    let broken = find(raft_world(engine, 2, vec![]));
    assert!(broken.contains("two leaders"), "{broken}");
}

#[test]
fn an_entry_that_is_counted_twice_is_found() {
    let engine = planted(RaftPlanted::AppendedCountedTwice, &[1]);
    let broken = find(raft_world(engine, 1, vec![put(1, 1)]));
    assert!(broken.contains("for committed"), "{broken}");
}
