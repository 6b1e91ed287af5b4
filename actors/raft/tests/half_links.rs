//! Links that are half broken: a peer hears answers and no requests, as the labs' deaf servers, or a
//! link works one way only. The leader stays, and nobody starves.

mod common;

use std::collections::BTreeSet;

use common::{Solo, World, append, appended, entry, node, proposal, request_vote};
use quorate_protocol::log::{Index, ProposalId, Request};
use quorate_raft::{Appeal, Match, Message, Payload, Place, Term, Timer};
use quorate_stage::{Class, WireMessage as _};

/// A group of three with a leader that all follow, and its followers.
fn group(seed: u64) -> (World, u32, [u32; 2]) {
    let mut world = World::new(seed, &[1, 2, 3]);
    let leader = world.elect();
    world.run_ms(500);
    assert_eq!(world.leader(), Some(leader));
    let rest: Vec<u32> = (1..=3).filter(|number| *number != leader).collect();
    (world, leader, [rest[0], rest[1]])
}

fn has(world: &World, number: u32, proposer: u32, seq: u64) -> bool {
    let id = proposal(proposer, seq).id;
    let found = world.chosen.iter().find(|(_, chosen)| **chosen == id);
    found.is_some_and(|(index, _)| world.nodes[&node(number)].applied >= index.0)
}

/// What is chosen, whether once or, since it was forwarded twice, twice.
fn distinct(world: &World) -> usize {
    world.chosen.values().collect::<BTreeSet<_>>().len()
}

fn answered(world: &World, number: u32) -> u64 {
    world.nodes[&node(number)].barriers_answered
}

/// One write and one read at `number`, each within so long.
fn write_and_read(world: &mut World, number: u32, seq: u64, within_ms: u64) {
    world.propose(number, seq);
    world.run_until(within_ms, "a write", |world| has(world, number, number, seq));
    let before = answered(world, number);
    world.read(number);
    world.run_until(within_ms, "a read", |world| answered(world, number) > before);
}

fn delivered(world: &World, kind: &str) -> u64 {
    world.delivered.get(kind).copied().unwrap_or_default()
}

/// What is said only if somebody starves.
fn detours(world: &World) -> u64 {
    delivered(world, "Appeal") + delivered(world, "PassOn")
}

/// A leader to which no request comes leads on: its followers' writes and reads come to it in their
/// answers. After the first of them, which finds that out, each takes a heartbeat or so.
#[test]
fn a_deaf_leader_serves_its_followers() {
    for seed in 1..=20 {
        let (mut world, leader, followers) = group(seed);
        let term = world.peer(leader).term();
        world.rules.deaf.insert(node(leader));
        let forwards = delivered(&world, "Forward");
        for number in followers {
            write_and_read(&mut world, number, 1, 1000);
        }
        for seq in 2..=40 {
            for number in followers {
                write_and_read(&mut world, number, seq, 500);
            }
        }
        assert_eq!(delivered(&world, "Forward"), forwards, "it is deaf");
        assert!(delivered(&world, "Appeal") > 100, "seed {seed}");
        assert_eq!((world.leader(), world.peer(leader).term()), (Some(leader), term));
        assert!(world.alarms.is_empty(), "{:?}", world.alarms);
    }
}

/// Nothing of one follower comes to the leader, which it hears: another one passes on what it wants
/// and what it has of the log, also when its log had fallen behind, by more than a window.
#[test]
fn a_follower_whose_link_to_the_leader_is_cut_goes_through_another() {
    for seed in 1..=20 {
        let (mut world, leader, [cut, other]) = group(seed);
        let term = world.peer(leader).term();
        // Behind: it hears no entries, and is no candidate, since it hears heartbeats again in time.
        world.rules.cut.insert((node(leader), node(cut)));
        for seq in 1000..1100 {
            world.offer(leader, seq);
        }
        world.run_ms(100);
        world.heal();
        world.rules.cut.insert((node(cut), node(leader)));
        write_and_read(&mut world, cut, 1, 5000);
        for seq in 2..=20 {
            write_and_read(&mut world, cut, seq, 1500);
            write_and_read(&mut world, other, seq, 100);
        }
        assert_eq!(distinct(&world), 139, "seed {seed}: 100, and 20, and 19");
        assert!(delivered(&world, "PassOn") > 0, "seed {seed}");
        assert_eq!((world.leader(), world.peer(leader).term()), (Some(leader), term));
        assert!(world.alarms.is_empty(), "{:?}", world.alarms);
    }
}

/// The route is found by trying: of three that could pass something on, a follower reaches one.
#[test]
fn the_route_goes_around_who_cannot_be_reached() {
    for seed in 1..=20 {
        let mut world = World::new(seed, &[1, 2, 3, 4, 5]);
        let leader = world.elect();
        world.run_ms(500);
        let term = world.peer(leader).term();
        let mut others: Vec<u32> = (1..=5).filter(|number| *number != leader).collect();
        let cut = others.remove(world.below(4) as usize);
        let reached = others[world.below(3) as usize];
        for number in (1..=5).filter(|number| *number != reached) {
            world.rules.cut.insert((node(cut), node(number)));
        }
        write_and_read(&mut world, cut, 1, 10_000);
        write_and_read(&mut world, cut, 2, 500);
        assert_eq!((world.leader(), world.peer(leader).term()), (Some(leader), term));
        assert!(world.alarms.is_empty(), "{:?}", world.alarms);
    }
}

/// A follower to which no request comes asks whether it could campaign, and gets the log with the
/// answer: it stays one, nobody's term moves, and its reads and writes are served.
#[test]
fn a_deaf_follower_gets_the_log_in_answers() {
    for seed in 1..=20 {
        let (mut world, leader, [deaf, other]) = group(seed);
        let term = world.peer(leader).term();
        world.rules.deaf.insert(node(deaf));
        for seq in 1..=20 {
            write_and_read(&mut world, other, seq, 100);
        }
        let before = answered(&world, deaf);
        world.read(deaf);
        world.run_until(3000, "a read", |world| answered(world, deaf) > before);
        for seq in 1..=5 {
            write_and_read(&mut world, deaf, seq, 2000);
        }
        assert_eq!(distinct(&world), 25, "seed {seed}");
        assert_eq!((world.leader(), world.peer(leader).term()), (Some(leader), term));
        assert_eq!(world.peer(deaf).term(), term);
    }
}

/// As above, when what the follower needs is forgotten: it hears which snapshot to fetch.
#[test]
fn a_deaf_follower_hears_of_a_snapshot_in_answers() {
    for seed in 1..=10 {
        let (mut world, leader, [deaf, other]) = group(seed);
        world.save_every = 10;
        world.kill(node(deaf));
        for seq in 1..=60 {
            write_and_read(&mut world, other, seq, 100);
        }
        assert!(world.peer(leader).log().base().index >= Index(40), "seed {seed}");
        world.rules.deaf.insert(node(deaf));
        world.start(node(deaf));
        world.run_until(5000, "it catches up", |world| has(world, deaf, other, 60));
        assert_eq!(world.leader(), Some(leader));
    }
}

/// Nothing is said twice, or another way, while nothing starves; and when a link has healed that
/// ends again.
#[test]
fn what_does_not_starve_goes_the_direct_way() {
    for seed in 1..=10 {
        let (mut world, leader, followers) = group(seed);
        for seq in 1..=50 {
            for number in followers {
                write_and_read(&mut world, number, seq, 50);
            }
        }
        assert_eq!(detours(&world), 0, "seed {seed}: nothing starves");
        world.rules.deaf.insert(node(leader));
        for number in followers {
            write_and_read(&mut world, number, 51, 1000);
        }
        world.heal();
        assert!(detours(&world) > 0, "seed {seed}");
        let work = |world: &mut World, seqs: std::ops::Range<u64>| {
            for seq in seqs {
                for number in followers {
                    write_and_read(world, number, seq, 50);
                    world.run_ms(5);
                }
            }
        };
        work(&mut world, 100..500);
        let before = detours(&world);
        work(&mut world, 500..600);
        assert_eq!(detours(&world), before, "seed {seed}: the leader hears well");
    }
}

// One peer, spoken to by hand.

const THREE: &[u32] = &[1, 2, 3];

/// A follower of n2, in term 4, that wants something, after so many retries; n2 was heard before each.
fn starving(retries: u32) -> Solo {
    let mut solo = Solo::with_log(1, THREE, 4, &[]);
    solo.hear(2, append(4, (0, 0), vec![], 0));
    solo.hear(1, Message::Log(Request::Propose(proposal(1, 1))));
    let id = ProposalId { node: node(1), life: 1, seq: 7 };
    solo.hear(1, Message::Log(Request::ReadBarrier { id }));
    for _ in 0..retries {
        solo.hear(2, append(4, (0, 0), vec![], 0));
        solo.timer(Timer::Retry);
    }
    solo
}

fn appeal() -> Appeal {
    Appeal {
        term: Term(4),
        round: 1,
        result: Match::Through(Place(0)),
        wishes: vec![proposal(1, 1)],
        barrier: Some(ProposalId { node: node(1), life: 1, seq: 7 }),
    }
}

/// What comes to nothing after three retries goes with the answers to the leader, and is not said
/// again with each; when it is done, there is an answer only.
#[test]
fn what_starves_goes_with_an_answer() {
    let beat = append(4, (0, 0), vec![], 0);
    assert_eq!(starving(2).hear(2, beat.clone()).to(2), [appended(4, 1, 0)]);
    let mut solo = starving(3);
    assert_eq!(solo.hear(2, beat.clone()).to(2), [Message::Appeal(appeal())]);
    assert_eq!(solo.hear(2, beat.clone()).to(2), [appended(4, 1, 0)], "said once");
    assert!(solo.timer(Timer::Retry).to(2).is_empty(), "a Forward is not heard");
    assert_eq!(solo.hear(2, beat).to(2), [Message::Appeal(appeal())], "it may be lost");
    let mut done = entry(4, None);
    done.payload = Payload::Command(proposal(1, 1));
    let message = append(4, (0, 0), vec![done], 1);
    assert_eq!(solo.hear(2, message).to(2), [appended(4, 1, 1)]);
    solo.timer(Timer::Retry);
    let id = ProposalId { node: node(1), life: 1, seq: 7 };
    solo.hear(2, Message::Barrier { id, from: Index(2) });
    assert_eq!(solo.hear(2, append(4, (1, 4), vec![], 1)).to(2), [appended(4, 1, 1)]);
}

/// A new leader is asked the direct way.
#[test]
fn a_new_leader_is_asked_directly() {
    let mut solo = starving(3);
    let said = solo.hear(3, append(5, (0, 0), vec![], 0));
    assert!(said.to(3).contains(&appended(5, 1, 0)));
    assert!(said.to(3).iter().any(|message| matches!(message, Message::Forward { .. })));
}

/// Who is not heard by answering either says it to another follower, with the answer.
#[test]
fn what_starves_on_goes_through_another() {
    let mut solo = starving(6);
    let said = solo.hear(2, append(4, (0, 0), vec![], 0));
    assert_eq!(said.to(2), [appended(4, 1, 0)]);
    assert_eq!(said.to(3), [Message::PassOn { of: node(1), appeal: appeal() }]);
    // Also what it has of the log: it may be all that the leader hears of that.
    let said = solo.hear(2, append(4, (3, 4), vec![], 0));
    let [Message::PassOn { appeal: passed, .. }] = &said.to(3)[..] else { panic!("one") };
    assert!(matches!(passed.result, Match::Conflict { prev_log_index: Place(3), .. }));
    assert!(passed.wishes.is_empty() && passed.barrier.is_none(), "said once");
}

/// Who does not hear its leader campaigns, sooner or later: that is no reason for a detour.
#[test]
fn silence_is_no_reason_for_a_detour() {
    let mut solo = starving(0);
    solo.timer(Timer::Election);
    for _ in 0..10 {
        solo.timer(Timer::Retry);
    }
    assert_eq!(solo.hear(2, append(4, (0, 0), vec![], 0)).to(2)[0], appended(4, 1, 0));
}

/// A follower passes on, to its leader, what comes from its author: so nothing goes in circles.
#[test]
fn a_follower_passes_on_once() {
    let message = Message::PassOn { of: node(1), appeal: appeal() };
    let mut solo = Solo::with_log(3, THREE, 4, &[]);
    assert!(solo.hear(1, message.clone()).messages().is_empty(), "it knows no leader");
    solo.hear(2, append(4, (0, 0), vec![], 0));
    assert_eq!(solo.hear(1, message.clone()).messages(), [(node(2), message.clone())]);
    assert!(solo.hear(2, message).messages().is_empty(), "it has been passed on");
    let stranger = Message::PassOn { of: node(9), appeal: appeal() };
    assert!(solo.hear(9, stranger).messages().is_empty());
}

/// A leader takes an Appeal for an answer and a Forward of its author, whoever brings it.
#[test]
fn a_leader_takes_what_is_passed_on_for_its_authors() {
    for passed_on in [false, true] {
        let mut solo = Solo::with_log(1, THREE, 3, &[]);
        let said = solo.elect(&[2]);
        solo.durable(&said);
        let id = ProposalId { node: node(3), life: 1, seq: 7 };
        let appeal = Appeal {
            result: Match::Through(Place(1)),
            wishes: vec![proposal(3, 1)],
            barrier: Some(id),
            ..appeal()
        };
        let said = match passed_on {
            false => solo.hear(3, Message::Appeal(appeal)),
            true => solo.hear(2, Message::PassOn { of: node(3), appeal }),
        };
        solo.durable(&said);
        assert_eq!(solo.peer.match_index(node(3)), Some(Place(1)));
        assert_eq!((solo.peer.commit(), solo.peer.log().last()), (Place(1), Place(2)));
        let rounds = said.to(2).into_iter().filter_map(|message| match message {
            Message::AppendEntries { round, .. } => Some(round),
            _ => None,
        });
        let said = solo.hear(2, appended(4, rounds.max().expect("a round"), 1));
        assert!(said.to(3).contains(&Message::Barrier { id, from: Index(1) }));
    }
}

/// A leader answers the pre-vote of a follower in its own term by a refusal and by what it lacks, both
/// answers; no read rests on what comes back.
#[test]
fn a_pre_vote_is_answered_by_the_log() {
    let mut solo = Solo::with_log(1, THREE, 3, &[1, 2]);
    let said = solo.elect(&[2]);
    solo.durable(&said);
    let said = solo.hear(3, request_vote(5, (2, 2), true)).to(3);
    let [append @ Message::AppendEntries { round: 0, .. }, refusal] = &said[..] else {
        panic!("{said:?}")
    };
    assert_eq!((append.class(), refusal.class()), (Class::Answer, Class::Answer));
    assert_eq!(*refusal, common::vote(4, true, false));
    let mut follower = Solo::with_log(3, THREE, 4, &[1, 2]);
    let answer = follower.hear(1, append.clone());
    assert_eq!(answer.to(1), [appended(4, 0, 3)]);
    assert_eq!(follower.peer.leader(), Some(node(1)));
    // Of another term: who has it hears of ours by the refusal.
    assert_eq!(solo.hear(3, request_vote(4, (2, 2), true)).to(3).len(), 1);
    assert_eq!(solo.hear(9, request_vote(5, (2, 2), true)).to(9).len(), 1, "no member");
}
