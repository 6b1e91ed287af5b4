//! Whole groups in virtual time: elections, budgets of messages, changes of members, snapshots.

mod common;

use common::{World, ms, node, set, terms};
use quorate_protocol::{
    Configuration, NodeId,
    log::{Event, Index},
};
use quorate_raft::{Message, Place, Reconfigured};

fn requests(world: &World) -> u64 {
    let requests = ["RequestVote", "AppendEntries", "InstallSnapshot", "TimeoutNow", "Forward"];
    requests.iter().filter_map(|kind| world.delivered.get(kind)).sum()
}

fn other_than(world: &World, leader: u32) -> u32 {
    *world.nodes.keys().map(|id| &id.0).find(|number| **number != leader).unwrap()
}

/// Offers one command to the leader and waits until everybody that runs has applied it.
fn agree(world: &mut World, seq: u64) {
    let leader = world.elect();
    world.offer(leader, seq);
    let id = common::proposal(leader, seq).id;
    world.run_until(2000, "agreement", |world| {
        let Some((index, _)) = world.chosen.iter().find(|(_, chosen)| **chosen == id) else {
            return false;
        };
        world.nodes.values().filter(|on| on.peer.is_some()).all(|on| on.applied >= index.0)
    });
}

fn members(world: &World, number: u32) -> Configuration {
    world.peer(number).status().configuration
}

fn done(world: &World) -> bool {
    world.reconfigured.lock().unwrap().contains(&Reconfigured::Done)
}

/// Section 5.2: a group elects one leader soon, with few messages, and keeps it; while nothing is
/// wanted there are heartbeats only, and nothing is written.
#[test]
fn a_group_elects_soon_and_is_quiet_then() {
    for seed in 1..=40 {
        let mut world = World::new(seed, &[1, 2, 3]);
        let leader = world.elect();
        assert!(world.now_us < 1_000_000, "seed {seed}: {} us", world.now_us);
        world.run_ms(500 - (world.now_us / 1000).min(500));
        assert!((1..=30).contains(&requests(&world)), "seed {seed}: {}", requests(&world));
        let (before, term) = (requests(&world), world.peer(leader).term());
        world.run_ms(1000);
        let idle = requests(&world) - before;
        assert!(idle <= 60, "seed {seed}: {idle} requests in an idle second");
        assert_eq!((world.leader(), world.peer(leader).term()), (Some(leader), term));
        for number in 1..=3 {
            assert_eq!(terms(world.peer(number)), [term.0], "only the no-op");
        }
    }
}

/// Twelve offers one after the other are agreed on with few messages: commits ride along.
#[test]
fn twelve_offers_take_few_messages() {
    for seed in 1..=40 {
        let mut world = World::new(seed, &[1, 2, 3]);
        let leader = world.elect();
        world.run_ms(100);
        let before = requests(&world);
        for seq in 1..=12 {
            world.offer(leader, seq);
        }
        world.run_until(1000, "12 commands everywhere", |world| {
            world.nodes.values().all(|on| on.applied >= 12)
        });
        let count = requests(&world) - before;
        assert!(count <= 42, "seed {seed}: {count} requests");
    }
}

/// A leader that is known to be dead is not waited for: its link goes down, and a follower
/// leads within a tenth of a second.
#[test]
fn a_leader_whose_link_is_down_is_replaced_in_a_moment() {
    for seed in 1..=100 {
        let mut world = World::new(seed, &[1, 2, 3]);
        agree(&mut world, 1);
        let leader = world.leader().unwrap();
        world.kill(node(leader));
        let began = world.now_us;
        for number in (1..=3).filter(|number| *number != leader) {
            world.hear(node(number), node(number), Message::LinkDown(node(leader)));
        }
        world.elect();
        let took = world.now_us - began;
        assert!(took < 100_000, "seed {seed}: {took} us");
        agree(&mut world, 2);
    }
}

/// Section 5.4.2, Figure 8, lived through: leaders die with entries that only some have. Nothing that
/// was committed is lost, and the group comes to an end.
#[test]
fn figure_8_again_and_again() {
    for seed in 1..=15 {
        let mut world = World::new(seed, &[1, 2, 3, 4, 5]);
        let mut seq = 0;
        for _ in 0..150 {
            for number in 1..=5 {
                seq += 1;
                if world.runs(node(number)) {
                    world.offer(number, seq);
                }
            }
            let pause = if world.below(10) == 0 { world.below(500) } else { world.below(13) };
            world.run_ms(pause);
            if let Some(leader) = world.leader() {
                world.kill(node(leader));
            }
            let up = (1..=5).filter(|number| world.runs(node(*number))).count();
            let number = node(1 + world.below(5) as u32);
            if up < 3 && !world.runs(number) {
                world.start(number);
            }
        }
        for number in 1..=5 {
            if !world.runs(node(number)) {
                world.start(node(number));
            }
        }
        agree(&mut world, seq + 1);
        assert!(world.alarms.is_empty(), "{:?}", world.alarms);
    }
}

/// The labs' Figure8Unreliable: a fifth of all messages is lost, two thirds of the answers are up to
/// two seconds late, and the group still agrees within ten seconds.
#[test]
fn a_bad_network_does_not_stop_a_group() {
    for seed in 1..=20 {
        let mut world = World::new(seed, &[1, 2, 3, 4, 5]);
        world.rules.loss_permille = 100;
        world.rules.delay_us = (0, 26_000);
        world.rules.late_permille = 400;
        for seq in 1..=200 {
            if let Some(leader) = world.leader() {
                world.offer(leader, seq);
                if world.below(4) == 0 {
                    world.partition(&[&[leader]]);
                }
            }
            world.run_ms(30);
            if world.below(3) == 0 {
                world.heal();
            }
        }
        world.heal();
        let began = world.now_us;
        let mut seq = 1000;
        let id = |world: &World| world.chosen.values().any(|id| id.seq >= 1000);
        while world.now_us < began + 10_000_000 {
            if let Some(leader) = world.leader() {
                seq += 1;
                world.offer(leader, seq);
            }
            world.run_ms(500);
            let last = world.chosen.last_key_value().map_or(0, |(index, _)| index.0);
            if id(&world) && world.nodes.values().all(|on| on.applied == last) {
                break;
            }
        }
        assert!(id(&world), "seed {seed}: no agreement in 10 s\n{}", world.describe());
        let most = world.nodes.values().map(|on| on.applied).min();
        assert!(most >= world.chosen.iter().find(|(_, id)| id.seq >= 1000).map(|(i, _)| i.0));
    }
}

/// The labs' TestLeaderPartition4A: a leader in a minority keeps what was offered to it open, however
/// long that lasts, and drops all of it within a moment of hearing the others.
#[test]
fn offers_of_a_leader_that_is_cut_off_are_dropped_when_it_hears_the_others() {
    for seed in 1..=10 {
        let mut world = World::new(seed, &[1, 2, 3]);
        agree(&mut world, 1);
        let stale = world.leader().unwrap();
        let rest: Vec<u32> = (1..=3).filter(|number| *number != stale).collect();
        world.partition(&[&[stale], &rest]);
        for seq in 100..200 {
            world.offer(stale, seq);
        }
        world.run_ms(3000);
        let dropped = |world: &World| {
            let events = &world.nodes[&node(stale)].events;
            events.iter().filter(|event| matches!(event, Event::Dropped { .. })).count()
        };
        assert_eq!(dropped(&world), 0, "seed {seed}: nobody knows what becomes of them");
        assert!(!world.peer(stale).leads(), "seed {seed}: it has no majority");
        let leader = world.leader().unwrap();
        world.propose(leader, 2);
        world.run_ms(500);
        world.heal();
        world.run_ms(1000);
        assert_eq!(dropped(&world), 100, "seed {seed}");
        agree(&mut world, 3);
        assert!(world.chosen.values().all(|id| !(100..200).contains(&id.seq)));
    }
}

/// Thesis, 9.6: a peer that was cut off for long comes back without an election.
#[test]
fn who_comes_back_disturbs_nobody() {
    let mut world = World::new(3, &[1, 2, 3]);
    agree(&mut world, 1);
    let leader = world.leader().unwrap();
    let (away, term) = (other_than(&world, leader), world.peer(leader).term());
    let rest: Vec<u32> = (1..=3).filter(|number| *number != away).collect();
    world.partition(&[&[away], &rest]);
    world.run_ms(5000);
    world.heal();
    world.run_ms(2000);
    agree(&mut world, 2);
    assert_eq!((world.leader(), world.peer(away).term()), (Some(leader), term));
}

/// Thesis, 3.10: the lead goes to who was named, in much less than an election timeout, and clients
/// go on.
#[test]
fn the_lead_moves_to_who_is_named() {
    for seed in 1..=20 {
        let mut world = World::new(seed, &[1, 2, 3]);
        agree(&mut world, 1);
        let leader = world.leader().unwrap();
        let to = other_than(&world, leader);
        let began = world.now_us;
        world.hear(node(leader), node(leader), Message::Transfer { to: node(to) });
        world.run_until(1000, "the lead moves", |world| world.leader() == Some(to));
        assert!(world.now_us - began < 50_000, "seed {seed}: {} us", world.now_us - began);
        agree(&mut world, 2);
        assert_eq!(world.leader(), Some(to));
    }
}

/// Section 6: a learner gets the log and has no vote: neither is it counted, nor does it campaign.
#[test]
fn a_learner_has_the_log_and_no_vote() {
    let mut world = World::new(5, &[1, 2, 3]);
    agree(&mut world, 1);
    world.add(4, Configuration::default());
    world.run_ms(2000);
    assert_eq!(world.peer(4).term().0, 0, "nobody has named it");
    let leader = world.leader().unwrap();
    world.reconfigure(leader, &[1, 2, 3], &[4]);
    world.run_until(2000, "the learner is in", done);
    agree(&mut world, 2);
    assert_eq!(world.nodes[&node(4)].applied, 2);
    // With the learner there are three of four: still no majority of the voters.
    let followers: Vec<u32> = (1..=3).filter(|number| *number != leader).collect();
    for follower in &followers {
        world.kill(node(*follower));
    }
    world.offer(leader, 9);
    world.run_ms(3000);
    assert_eq!((world.chosen.len(), world.leader()), (2, None));
    world.kill(node(leader));
    world.run_ms(3000);
    assert_eq!(world.peer(4).status().standing, quorate_raft::Standing::Follower);
}

/// Section 6: every voter is replaced, one group passes into another; newcomers are learners first,
/// both configurations rule together for a while, and the leader that is let go steps down.
#[test]
fn a_group_passes_into_another() {
    for seed in 1..=20 {
        let mut world = World::new(seed, &[1, 2, 3]);
        for seq in 1..=20 {
            agree(&mut world, seq);
        }
        for number in 4..=6 {
            world.add(number, Configuration::default());
        }
        let leader = world.leader().unwrap();
        world.reconfigure(leader, &[4, 5, 6], &[]);
        world.run_until(5000, "the new group rules", |world| {
            (4..=6).any(|number| world.peer(number).leads())
        });
        agree_among(&mut world, &[4, 5, 6], 50);
        for number in 4..=6 {
            assert_eq!(members(&world, number), Configuration::of(set(&[4, 5, 6])), "seed {seed}");
        }
        assert!(done(&world) || world.reconfigured.lock().unwrap().len() == 1, "it is answered");
        let leader = world.leader().unwrap();
        assert!(leader >= 4, "seed {seed}: n{leader} was let go");
        // Nobody needs the old ones, and they disturb nobody.
        let term = world.peer(leader).term();
        world.run_ms(3000);
        assert_eq!((world.leader(), world.peer(leader).term()), (Some(leader), term));
        for number in 1..=3 {
            world.kill(node(number));
        }
        agree_among(&mut world, &[4, 5, 6], 51);
        assert!(world.alarms.is_empty(), "{:?}", world.alarms);
    }
}

fn agree_among(world: &mut World, numbers: &[u32], seq: u64) {
    world.run_until(10_000, "a leader among them", |world| {
        world.leader().is_some_and(|leader| numbers.contains(&leader))
    });
    let leader = world.leader().unwrap();
    world.propose(leader, seq);
    world.run_until(5000, "agreement among them", |world| {
        let found = world.chosen.iter().find(|(_, id)| id.seq == seq);
        found.is_some_and(|(index, _)| {
            numbers.iter().all(|number| world.nodes[&node(*number)].applied >= index.0)
        })
    });
}

/// Section 6: while both configurations rule, neither decides alone.
#[test]
fn neither_configuration_decides_alone_while_both_rule() {
    for old_side in [true, false] {
        let mut world = World::new(11, &[1, 2, 3]);
        agree(&mut world, 1);
        for number in 4..=6 {
            world.add(number, Configuration::default());
        }
        let leader = world.leader().unwrap();
        world.reconfigure(leader, &[4, 5, 6], &[]);
        let joint = |world: &World, number: u32| members(world, number).is_joint();
        world.run_until(5000, "a joint configuration", |world| {
            world.leader().is_some_and(|leader| joint(world, leader))
        });
        // From now on the leader reaches one of the two sides only.
        let side: Vec<u32> = if old_side { vec![1, 2, 3] } else { vec![leader, 4, 5, 6] };
        let rest: Vec<u32> = (1..=6).filter(|number| !side.contains(number)).collect();
        world.partition(&[&side, &rest]);
        let commit = world.peer(leader).commit();
        world.offer(leader, 7);
        world.run_ms(3000);
        assert!(!world.chosen.values().any(|id| id.seq == 7), "old side: {old_side}");
        assert!(world.peer(leader).commit() <= Place(commit.0 + 1));
        world.heal();
        world.run_ms(3000);
        // What was not committed may be cut off: then it is wanted again.
        let leader = world.elect();
        if members(&world, leader).voters != set(&[4, 5, 6]) {
            world.reconfigure(leader, &[4, 5, 6], &[]);
        }
        agree_among(&mut world, &[4, 5, 6], 8);
    }
}

/// Section 6: the leader dies in the middle of a change, at any moment: whoever leads next brings it to
/// an end, or it has not begun.
#[test]
fn a_change_survives_the_death_of_its_leader() {
    let mut completed = 0;
    for seed in 1..=60 {
        let mut world = World::new(seed, &[1, 2, 3]);
        for seq in 1..=5 {
            agree(&mut world, seq);
        }
        world.add(4, Configuration::default());
        let leader = world.leader().unwrap();
        let stays = other_than(&world, leader);
        let voters: Vec<u32> = (1..=4).filter(|number| *number != stays).collect();
        world.reconfigure(leader, &voters, &[]);
        let moment = world.below(12);
        world.run_ms(moment);
        world.kill(node(leader));
        world.run_ms(1500);
        world.start(node(leader));
        world.run_ms(1500);
        let now = world.elect();
        let after = members(&world, now);
        assert!(!after.is_joint(), "seed {seed}: stuck in the middle: {after}");
        let new = Configuration::of(voters.iter().copied().map(NodeId));
        let mut old = Configuration::of(set(&[1, 2, 3]));
        if after != new {
            old.learners = after.learners.clone();
            assert_eq!(after, old, "seed {seed}");
        }
        completed += usize::from(after == new);
        let all: Vec<u32> = after.voters.iter().map(|id| id.0).collect();
        agree_among(&mut world, &all, 50);
        assert!(world.alarms.is_empty(), "{:?}", world.alarms);
    }
    assert!((5..=55).contains(&completed), "{completed} of 60 were completed: no variety");
}

/// Thesis, 4.2.2: who is let go by a configuration that is not committed may be the only one that can
/// lead, and does, until that is committed.
#[test]
fn who_is_let_go_leads_until_that_is_committed() {
    let mut met = 0;
    for seed in 1..=40 {
        let mut world = World::new(seed, &[1, 2, 3]);
        agree(&mut world, 1);
        let leader = world.leader().unwrap();
        let only = other_than(&world, leader);
        world.reconfigure(leader, &[only], &[]);
        // The last step reaches everybody but the one that it is for.
        world.run_until(2000, "all have both", |world| {
            let last = world.peer(leader).log().last();
            members(world, only).is_joint() && world.peer(only).log().last() == last
        });
        world.rules.cut.insert((node(leader), node(only)));
        world.run_ms(30);
        let last = world.peer(only).log().last();
        world.kill(node(leader));
        world.heal();
        world.run_ms(500);
        world.start(node(leader));
        met += usize::from((1..=3).any(|n| world.peer(n).log().last() > last));
        world.run_until(10_000, "one rules", |world| world.peer(only).leads());
        agree_among(&mut world, &[only], 9);
    }
    assert!(met > 0, "the case has not come up");
}

/// Section 6: changes come one at a time, and what makes no sense is refused.
#[test]
fn a_change_that_makes_no_sense_is_refused() {
    let mut world = World::new(2, &[1, 2, 3]);
    agree(&mut world, 1);
    let leader = world.leader().unwrap();
    let other = other_than(&world, leader);
    world.reconfigure(leader, &[], &[1]);
    world.reconfigure(leader, &[1, 2], &[2]);
    world.reconfigure(other, &[1, 2], &[]);
    world.run_ms(20);
    let answers = std::mem::take(&mut *world.reconfigured.lock().unwrap());
    assert!(matches!(
        &answers[..],
        [
            Reconfigured::Refused(_),
            Reconfigured::Refused(_),
            Reconfigured::NotLeader { leader: Some(_) }
        ]
    ));
    // A newcomer that does not answer holds nothing up, and a later change takes its place.
    world.reconfigure(leader, &[1, 2, 3, 9], &[]);
    world.run_ms(500);
    agree(&mut world, 2);
    assert_eq!(members(&world, leader).learners, set(&[9]));
    world.reconfigure(leader, &[1, 2, 3], &[]);
    world.run_ms(500);
    let answers = world.reconfigured.lock().unwrap().clone();
    assert_eq!(answers, [Reconfigured::Superseded, Reconfigured::Done]);
    assert_eq!(members(&world, leader), Configuration::of(set(&[1, 2, 3])));
}

/// Section 7: a peer that was away while the others have cut their logs gets a snapshot, and then the
/// log; another that has lost nothing but time gets the log alone.
#[test]
fn who_was_away_for_long_gets_a_snapshot() {
    for seed in 1..=20 {
        let mut world = World::new(seed, &[1, 2, 3]);
        world.save_every = 10;
        agree(&mut world, 1);
        let leader = world.leader().unwrap();
        let away = other_than(&world, leader);
        world.kill(node(away));
        for seq in 2..=60 {
            let leader = world.elect();
            world.propose(leader, seq);
            world.run_ms(10);
        }
        let leader = world.elect();
        assert!(world.peer(leader).log().base().index >= Index(40), "seed {seed}");
        world.start(node(away));
        world.run_until(3000, "it catches up", |world| world.nodes[&node(away)].applied == 60);
        assert!(world.delivered.get("InstallSnapshot").is_some_and(|count| *count > 0));
        agree(&mut world, 100);
        let status = world.peer(leader).status();
        assert!(status.log_bytes < 2000, "{} bytes of log are kept", status.log_bytes);
    }
}

/// A read at any peer sees what was chosen before it came, and costs no entry.
#[test]
fn reads_cost_no_entry_and_come_from_any_peer() {
    let mut world = World::new(8, &[1, 2, 3]);
    agree(&mut world, 1);
    let leader = world.leader().unwrap();
    let last = world.peer(leader).log().last();
    for number in [1, 2, 3].repeat(10) {
        let before = world.nodes[&node(number)].barriers_answered;
        world.read(number);
        let began = world.now_us;
        world.run_until(100, "a read", |world| {
            world.nodes[&node(number)].barriers_answered > before
        });
        assert!(world.now_us - began < ms(10).as_micros() as u64);
    }
    assert_eq!(world.peer(leader).log().last(), last);
}
