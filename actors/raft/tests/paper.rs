//! One claim of the paper each, with the section that makes it: on one peer, spoken to by hand.

mod common;

use common::{
    Solo, append, appended, config, entries, entry, node, proposal, request_vote, terms, vote,
};
use quorate_protocol::{
    Configuration, TimerRequest,
    log::{Event, Index, Position, ProposalId, Request},
};
use quorate_raft::{Match, Message, Outbound, Peer, Place, Record, Standing, Term, Timer};

const THREE: &[u32] = &[1, 2, 3];
const FIVE: &[u32] = &[1, 2, 3, 4, 5];

fn follower() -> Solo {
    Solo::with_log(1, THREE, 3, &[1, 2, 3])
}

/// A leader of term 4 whose own log is durable; its no-op is not yet sent to be answered.
fn leader(voters: &[u32], log: &[u64]) -> Solo {
    let mut solo = Solo::with_log(1, voters, 3, log);
    let majority = &voters[1..=voters.len() / 2];
    let said = solo.elect(majority);
    solo.durable(&said);
    assert_eq!(solo.peer.term(), Term(4));
    solo
}

fn granted(said: &common::Said, to: u32) -> Option<bool> {
    said.to(to).iter().find_map(|message| match message {
        Message::Vote { granted, .. } => Some(*granted),
        _ => None,
    })
}

fn appends_to(said: &common::Said, to: u32) -> Vec<(u64, usize, u64)> {
    let appends = said.to(to).into_iter().filter_map(|message| match message {
        Message::AppendEntries { prev_log_index, entries, leader_commit, .. } => {
            Some((prev_log_index.0, entries.len(), leader_commit.0))
        }
        _ => None,
    });
    appends.collect()
}

fn round_of(said: &common::Said, to: u32) -> u64 {
    let rounds = said.to(to).into_iter().filter_map(|message| match message {
        Message::AppendEntries { round, .. } => Some(round),
        _ => None,
    });
    rounds.max().expect("something was sent")
}

fn result_of(said: &common::Said, to: u32) -> Match {
    let results = said.to(to).into_iter().filter_map(|message| match message {
        Message::Appended { result, .. } => Some(result),
        _ => None,
    });
    results.last().expect("an answer")
}

fn barrier(seq: u64) -> Request {
    Request::ReadBarrier { id: ProposalId { node: node(1), life: 1, seq } }
}

fn barriers(said: &common::Said) -> Vec<(u64, u64)> {
    let events = said.events().into_iter().filter_map(|event| match event {
        Event::Barrier { id, from } => Some((id.seq, from.0)),
        _ => None,
    });
    events.collect()
}

fn position(index: u64, place: u64, term: u64) -> Position {
    Position {
        index: Index(index),
        place,
        term,
        configuration: Configuration::of(common::set(THREE)),
    }
}

// Terms and elections: sections 5.1 and 5.2.

/// Section 5.1: a request of an old term is refused, with the term that is.
#[test]
fn an_old_term_is_refused() {
    let mut solo = follower();
    let said = solo.hear(2, append(2, (3, 3), vec![], 0));
    assert!(matches!(said.to(2)[..], [Message::Appended { term: Term(3), round: 0, .. }]));
    assert_eq!(granted(&solo.hear(2, request_vote(2, (9, 9), false)), 2), Some(false));
    assert_eq!(solo.peer.term(), Term(3));
}

/// Section 5.1: whoever hears of a higher term enters it, and follows.
#[test]
fn a_higher_term_makes_a_follower() {
    let mut solo = leader(THREE, &[1]);
    solo.hear(2, appended(9, 0, 0));
    assert_eq!((solo.peer.term(), solo.peer.status().standing), (Term(9), Standing::Follower));
    let mut solo = follower();
    solo.timer(Timer::Election);
    solo.hear(2, append(7, (3, 3), vec![], 0));
    assert_eq!((solo.peer.term(), solo.peer.leader()), (Term(7), Some(node(2))));
}

/// Section 5.2: who hears nothing campaigns; before that it asks whether it could win (thesis, 9.6),
/// and its term does not move.
#[test]
fn silence_makes_a_candidate() {
    let mut solo = follower();
    let said = solo.timer(Timer::Election);
    assert!(said.records.is_empty());
    assert_eq!(solo.peer.term(), Term(3));
    let expected = request_vote(4, (3, 3), true);
    assert_eq!(said.messages(), [(node(2), expected.clone()), (node(3), expected)]);
    let said = solo.hear(3, vote(4, true, true));
    assert_eq!(solo.peer.term(), Term(4));
    assert_eq!(said.records, [Record::Voted { term: Term(4), voted_for: Some(node(1)) }]);
    assert_eq!(said.to(2), [request_vote(4, (3, 3), false)]);
    assert!(said.at_once.iter().all(|o| !matches!(o, Outbound::Peers(..))), "before the disk");
}

/// Section 5.2: a majority makes a leader, whose first word goes out at once. Its own vote counts
/// when it is durable.
#[test]
fn a_majority_makes_a_leader() {
    let mut solo = Solo::with_log(1, FIVE, 3, &[1, 2, 3]);
    solo.timer(Timer::Election);
    solo.hear(2, vote(4, true, true));
    let campaign = solo.hear(3, vote(4, true, true));
    solo.hear(2, vote(4, false, true));
    solo.hear(2, vote(4, false, true));
    solo.hear(3, vote(4, false, true));
    assert!(!solo.peer.leads(), "two votes of five, one of them twice");
    let said = solo.durable(&campaign);
    assert!(solo.peer.leads());
    for other in 2..=5 {
        assert_eq!(appends_to(&said, other), [(3, 1, 0)], "n{other}");
    }
}

/// Section 5.2: one vote in a term, also after a crash.
#[test]
fn one_vote_in_a_term() {
    let mut solo = follower();
    let said = solo.hear(2, request_vote(4, (3, 3), false));
    assert_eq!(granted(&said, 2), Some(true));
    assert_eq!(granted(&solo.hear(3, request_vote(4, (3, 9), false)), 3), Some(false));
    assert_eq!(granted(&solo.hear(2, request_vote(4, (3, 3), false)), 2), Some(true), "again");
    let mut records = vec![Record::Appended { from: Place(1), entries: entries(&[1, 2, 3]) }];
    records.extend(solo.records.clone());
    let mut again = Solo::new(1, THREE, records);
    assert_eq!(granted(&again.hear(3, request_vote(4, (3, 9), false)), 3), Some(false));
    assert_eq!(granted(&again.hear(2, request_vote(4, (3, 3), false)), 2), Some(true));
}

/// Section 5.2: a vote is answered only once it is durable.
#[test]
fn a_vote_waits_for_the_disk() {
    let said = follower().hear(2, request_vote(4, (3, 3), false));
    assert!(!said.records.is_empty());
    let at_once = said.at_once.iter().any(|outbound| matches!(outbound, Outbound::Peers(..)));
    assert!(!at_once, "{:?}", said.at_once);
}

/// Section 5.2: a candidate that hears the leader of its term follows it.
#[test]
fn a_candidate_yields_to_the_leader_of_its_term() {
    let mut solo = follower();
    solo.timer(Timer::Election);
    solo.hear(2, vote(4, true, true));
    solo.hear(3, append(4, (3, 3), vec![], 0));
    assert_eq!((solo.peer.term(), solo.peer.leader()), (Term(4), Some(node(3))));
}

/// Section 5.2: there is one leader in a term; two are said aloud, and nothing is done.
#[test]
fn two_leaders_in_a_term_are_said_aloud() {
    let mut solo = follower();
    solo.hear(2, append(3, (3, 3), vec![], 0));
    let said = solo.hear(3, append(3, (3, 3), vec![entry(3, Some(1))], 4));
    assert!(said.messages().is_empty() && solo.alarms.len() == 1, "{:?}", solo.alarms);
    let mut solo = leader(THREE, &[1]);
    solo.hear(3, append(4, (1, 1), vec![], 0));
    assert!(solo.peer.leads() && solo.alarms.len() == 1);
}

/// Section 5.4.1: no vote for a log that is less up to date: the later last term wins, then the
/// longer log.
#[test]
fn no_vote_for_a_log_that_lacks_something() {
    for (last, yes) in
        [((3, 3), true), ((3, 4), true), ((4, 1), true), ((3, 2), false), ((2, 9), false)]
    {
        for pre_vote in [true, false] {
            let said = follower().hear(2, request_vote(5, last, pre_vote));
            assert_eq!(granted(&said, 2), Some(yes), "{last:?}, pre-vote {pre_vote}");
        }
    }
}

/// Section 5.2: timeouts are drawn from a range, so that votes are rarely split.
#[test]
fn election_timeouts_are_a_range() {
    let solo = follower();
    let timing = common::timing();
    let (at_least, at_most) = timing.election;
    assert_eq!(solo.timers[&Timer::Election], TimerRequest::Within { at_least, at_most });
    assert!(timing.heartbeat * 3 <= at_least && at_least * 2 <= at_most);
}

/// Section 6, at its end: who hears a leader ignores campaigns for the shortest timeout, so that
/// removed members do no harm; unless the leader wants to be followed (thesis, 3.10).
#[test]
fn campaigns_are_ignored_while_a_leader_is_heard() {
    let mut solo = follower();
    solo.hear(2, append(3, (3, 3), vec![], 0));
    assert!(solo.hear(3, request_vote(9, (9, 9), false)).messages().is_empty());
    assert_eq!(granted(&solo.hear(3, request_vote(9, (9, 9), true)), 3), Some(false));
    assert_eq!(solo.peer.term(), Term(3));
    // The shortest timeout is over.
    solo.timer(Timer::Election);
    assert_eq!(granted(&solo.hear(3, request_vote(9, (9, 9), true)), 3), Some(true));
    assert_eq!(granted(&solo.hear(3, request_vote(9, (9, 9), false)), 3), Some(true));
    let mut solo = leader(THREE, &[1]);
    solo.hear(3, request_vote(9, (9, 9), false));
    assert!(solo.peer.leads());
    let asked = Message::RequestVote {
        term: Term(9),
        last_log_index: Place(9),
        last_log_term: Term(9),
        pre_vote: false,
        transfer: true,
    };
    assert_eq!(granted(&solo.hear(3, asked), 3), Some(true));
}

// Replication: section 5.3.

/// Section 5.3, and thesis, 10.2.1: entries leave before they are durable at the leader, and they
/// count for it only when they are.
#[test]
fn a_leader_writes_while_its_followers_do() {
    let mut solo = leader(FIVE, &[1]);
    let said = solo.hear(1, Message::Log(Request::Offer(proposal(1, 1))));
    assert_eq!(
        said.events(),
        [Event::Offered { id: proposal(1, 1).id, place: Some((Index(2), 4)) }]
    );
    let mut sent = 0;
    for other in 2..=5 {
        solo.hear(other, appended(4, 1, 2));
        sent += usize::from(solo.peer.commit() == Place(2));
    }
    assert!(sent > 0, "the no-op is committed");
    // Two of five have the command; with our own it would be three.
    solo.hear(2, appended(4, 2, 3));
    solo.hear(3, appended(4, 2, 3));
    assert_eq!(solo.peer.commit(), Place(2), "not durable here");
    solo.durable(&said);
    assert_eq!(solo.peer.commit(), Place(3));
}

/// Section 5.3: what a majority has is committed, handed over, and told with the next message.
#[test]
fn a_majority_commits() {
    let mut solo = leader(THREE, &[]);
    solo.hear(1, Message::Log(Request::Subscribe { from: Index(1) }));
    solo.hear(2, appended(4, 1, 1));
    let said = solo.hear(1, Message::Log(Request::Propose(proposal(1, 7))));
    assert_eq!(appends_to(&said, 2), [(1, 1, 1)]);
    solo.durable(&said);
    let said = solo.hear(2, appended(4, 2, 2));
    let chosen = said.events().into_iter().find_map(|event| match event {
        Event::Chosen { entries, position } => Some((entries, position)),
        _ => None,
    });
    let (chosen, position) = chosen.expect("it is handed over");
    assert_eq!((chosen.len(), chosen[0].index), (1, Index(1)), "the no-op does not count");
    assert_eq!(position.to_string(), "1@2t4");
    assert_eq!(appends_to(&solo.timer(Timer::Linger), 2), [(2, 0, 2)]);
}

/// Section 5.3: an entry is accepted only behind the one that the leader has before it; the answer
/// says where the conflicting term begins.
#[test]
fn a_follower_accepts_only_what_fits() {
    let conflict = |said: &common::Said| match result_of(said, 2) {
        Match::Conflict { conflict_term, conflict_index, .. } => (conflict_term, conflict_index.0),
        other => panic!("{other}"),
    };
    let mut solo = Solo::with_log(1, THREE, 5, &[1, 2, 2, 2, 3]);
    let said = solo.hear(2, append(5, (9, 5), vec![entry(5, Some(1))], 0));
    assert_eq!(conflict(&said), (None, 6));
    let said = solo.hear(2, append(5, (4, 4), vec![entry(5, Some(1))], 0));
    assert_eq!(conflict(&said), (Some(Term(2)), 2));
    assert_eq!(terms(&solo.peer), [1, 2, 2, 2, 3], "nothing was cut off");
    let said = solo.hear(2, append(5, (1, 1), vec![entry(5, Some(1))], 0));
    assert_eq!(result_of(&said, 2), Match::Through(Place(2)));
    assert_eq!(terms(&solo.peer), [1, 5]);
}

/// Figure 2: a follower cuts off only at a conflict; a late message that ends earlier cuts nothing.
#[test]
fn a_late_message_cuts_nothing_off() {
    let mut solo = Solo::with_log(1, THREE, 5, &[]);
    let all = entries(&[4, 4, 5, 5]);
    solo.hear(2, append(5, (0, 0), all.clone(), 0));
    let said = solo.hear(2, append(5, (0, 0), all[..2].to_vec(), 0));
    assert_eq!(result_of(&said, 2), Match::Through(Place(4)), "what is known stays known");
    let said = solo.hear(2, append(5, (1, 4), vec![], 0));
    assert!(said.records.is_empty());
    assert_eq!(terms(&solo.peer), [4, 4, 5, 5]);
}

/// Figure 2: commit is the smaller of the leader's and what is known to be the leader's here.
#[test]
fn a_follower_commits_only_what_it_shares_with_its_leader() {
    let mut solo = Solo::with_log(1, THREE, 5, &[4, 4, 4]);
    solo.hear(2, append(5, (1, 4), vec![], 3));
    assert_eq!(solo.peer.commit(), Place(1), "the rest may be another leader's");
    solo.hear(2, append(5, (1, 4), vec![entry(5, Some(1))], 3));
    assert_eq!((solo.peer.commit(), terms(&solo.peer)), (Place(2), vec![4, 5]));
}

/// Section 5.4.3: what is committed is never replaced; who tries is said aloud.
#[test]
fn what_is_committed_is_never_replaced() {
    let mut solo = Solo::with_log(1, THREE, 5, &[]);
    solo.hear(2, append(5, (0, 0), entries(&[4, 4]), 2));
    let before = solo.records.len();
    assert!(solo.hear(2, append(5, (1, 4), vec![entry(5, Some(9))], 3)).messages().is_empty());
    assert!(solo.hear(2, append(5, (2, 5), vec![], 2)).messages().is_empty());
    assert_eq!((solo.alarms.len(), solo.records.len()), (2, before));
    assert_eq!(terms(&solo.peer), [4, 4]);
}

/// An answer of a follower waits for its disk: match_index is what is durable (section 5.3).
#[test]
fn an_answer_waits_for_the_disk() {
    let mut solo = follower();
    let said = solo.hear(2, append(3, (3, 3), vec![entry(3, Some(1))], 4));
    let at_once = |outbound: &Outbound| matches!(outbound, Outbound::Peers(..));
    assert!(!said.at_once.iter().any(at_once));
    assert_eq!(result_of(&said, 2), Match::Through(Place(4)));
}

/// Relays messages between a leader and one follower until both are quiet; answers how many
/// AppendEntries that took.
fn relay(leader: &mut Solo, follower: &mut Solo, first: &common::Said) -> usize {
    let mut open: Vec<Message> = first.to(follower.me.0);
    let mut count = 0;
    while !open.is_empty() {
        let mut next = vec![];
        for message in open {
            count += usize::from(matches!(message, Message::AppendEntries { .. }));
            let said = follower.hear(leader.me.0, message);
            for answer in said.to(leader.me.0) {
                next.extend(leader.hear(follower.me.0, answer).to(follower.me.0));
            }
        }
        open = next;
        assert!(count < 100, "they talk for ever");
    }
    count
}

/// Figure 7: whatever a follower's log is like, the new leader makes it the same as its own.
#[test]
fn figure_7_logs_become_the_leaders() {
    let log = [1, 1, 1, 4, 4, 5, 5, 6, 6, 6];
    let followers: [&[u64]; 6] = [
        &[1, 1, 1, 4, 4, 5, 5, 6, 6],
        &[1, 1, 1, 4],
        &[1, 1, 1, 4, 4, 5, 5, 6, 6, 6, 6],
        &[1, 1, 1, 4, 4, 5, 5, 6, 6, 6, 7, 7],
        &[1, 1, 1, 4, 4, 4, 4],
        &[1, 1, 1, 2, 2, 2, 3, 3, 3, 3, 3],
    ];
    for other in followers {
        let mut leader = Solo::with_log(1, THREE, 7, &log);
        let mut follower = Solo::with_log(2, THREE, 7, other);
        let said = leader.elect(&[3]);
        let count = relay(&mut leader, &mut follower, &said);
        assert_eq!(terms(&follower.peer), terms(&leader.peer), "{other:?}");
        assert_eq!(terms(&leader.peer), [&log[..], &[8]].concat());
        assert!(count <= 5, "{count} messages for {other:?}");
        assert!(leader.alarms.is_empty() && follower.alarms.is_empty());
    }
}

/// Section 5.3, at its end: one message for each conflicting term, not for each entry.
#[test]
fn back_up_is_by_terms() {
    let stale: Vec<u64> = std::iter::repeat_n(2, 500).chain(std::iter::repeat_n(3, 500)).collect();
    let good: Vec<u64> = std::iter::repeat_n(1, 3).chain(std::iter::repeat_n(4, 800)).collect();
    let mut leader = Solo::with_log(1, THREE, 5, &good);
    let mut follower = Solo::with_log(2, THREE, 5, &[&good[..3], &stale].concat());
    let said = leader.elect(&[3]);
    let count = relay(&mut leader, &mut follower, &said);
    assert_eq!(terms(&follower.peer), terms(&leader.peer));
    assert!(count <= 5, "{count} messages");
}

/// Answers that are late, repeated or out of order never take back what is known of a follower.
#[test]
fn stale_answers_take_nothing_back() {
    let mut solo = leader(THREE, &[1, 1, 1]);
    solo.hear(2, appended(4, 1, 4));
    assert_eq!(solo.peer.commit(), Place(4));
    let conflict = |prev: u64| Message::Appended {
        term: Term(4),
        round: 1,
        result: Match::Conflict {
            prev_log_index: Place(prev),
            conflict_term: None,
            conflict_index: Place(1),
        },
    };
    for stale in [conflict(3), conflict(4), appended(4, 1, 0), appended(4, 1, 2)] {
        let said = solo.hear(2, stale);
        assert!(appends_to(&said, 2).iter().all(|(prev, ..)| *prev >= 4), "sent again");
    }
    let said = solo.hear(1, Message::Log(Request::Offer(proposal(1, 1))));
    assert_eq!(appends_to(&said, 2), [(4, 1, 4)]);
    solo.hear(2, appended(4, 1, 2));
    solo.timer(Timer::Heartbeat);
    assert_eq!(appends_to(&solo.timer(Timer::Heartbeat), 2), [(4, 1, 4)], "from where it is");
    solo.hear(2, appended(4, 2, 99));
    assert_eq!(solo.alarms.len(), 1, "more than there is");
    assert_eq!(solo.peer.commit(), Place(4));
}

/// Several messages may be under way to one follower, and only so many (section 5.3; thesis, 10.2.2).
#[test]
fn a_window_bounds_what_is_under_way() {
    let mut solo = leader(THREE, &[]);
    solo.hear(2, appended(4, 1, 1));
    let max = config(1, THREE).limits.messages_in_flight_max;
    let mut sent = 0;
    for seq in 1..=20 {
        let said = solo.hear(1, Message::Log(Request::Offer(proposal(1, seq))));
        sent += appends_to(&said, 2).len();
        assert!(appends_to(&said, 3).is_empty(), "n3 is probed, and has not answered");
    }
    assert_eq!(sent, max);
    let said = solo.hear(2, appended(4, 2, 2));
    assert_eq!(appends_to(&said, 2), [(9, 12, 1)], "what has gathered goes together");
}

/// Entries that are not answered are sent again, from the last that is known to have arrived.
#[test]
fn what_is_lost_is_sent_again() {
    let mut solo = leader(THREE, &[]);
    solo.hear(2, appended(4, 1, 1));
    for seq in 1..=3 {
        solo.hear(1, Message::Log(Request::Offer(proposal(1, seq))));
    }
    let said = solo.timer(Timer::Heartbeat);
    assert_eq!(appends_to(&said, 2), [(1, 0, 1)], "they may be on their way");
    let said = solo.timer(Timer::Heartbeat);
    assert_eq!(appends_to(&said, 2), [(1, 3, 1)]);
}

// Commitment: section 5.4.2.

/// Figure 8 (c): an entry of an earlier term is not committed by counting, only with one of the
/// leader's own (d).
#[test]
fn figure_8_earlier_terms_are_not_counted() {
    let mut solo = leader(FIVE, &[1, 2]);
    for other in [2, 3, 4] {
        solo.hear(other, appended(4, 1, 2));
    }
    assert_eq!(solo.peer.commit(), Place(0), "four of five have it");
    solo.hear(2, appended(4, 1, 3));
    assert_eq!(solo.peer.commit(), Place(0));
    solo.hear(3, appended(4, 1, 3));
    assert_eq!(solo.peer.commit(), Place(3));
}

// Quorum and leases: thesis, 6.2 and 9.6.

/// Thesis, 6.2: a leader that hears of no majority steps down, in its term. What was offered to it
/// stays open until another term begins: it may still be committed.
#[test]
fn a_leader_without_quorum_steps_down() {
    let mut solo = leader(THREE, &[1]);
    solo.hear(1, Message::Log(Request::Offer(proposal(1, 1))));
    solo.hear(2, appended(4, 1, 2));
    solo.timer(Timer::Quorum);
    assert!(solo.peer.leads(), "n2 has answered");
    let said = solo.timer(Timer::Quorum);
    assert!(!solo.peer.leads());
    assert_eq!(said.events(), [Event::Role { leader: None }]);
    assert_eq!((solo.peer.term(), said.records.len()), (Term(4), 0));
    let said = solo.hear(2, append(6, (2, 4), vec![], 0));
    assert!(said.events().contains(&Event::Dropped { id: proposal(1, 1).id }));
}

/// Thesis, 9.6: a peer that is cut off asks in vain, and its term does not move.
#[test]
fn a_peer_that_is_cut_off_keeps_its_term() {
    let mut solo = follower();
    for _ in 0..50 {
        solo.timer(Timer::Election);
        solo.timer(Timer::Heartbeat);
    }
    assert_eq!((solo.peer.term(), solo.records.len()), (Term(3), 0));
}

/// A pre-vote promises nothing: it may be given to many, and is not remembered (thesis, 9.6).
#[test]
fn a_pre_vote_binds_nobody() {
    let mut solo = follower();
    for other in [2, 3] {
        let said = solo.hear(other, request_vote(4, (3, 3), true));
        assert_eq!((granted(&said, other), said.records.len()), (Some(true), 0));
    }
}

// Clients: section 8.

/// Section 8: a wish of a follower's node goes to the leader, again when that changes, and is over
/// when it is committed.
#[test]
fn a_follower_takes_wishes_to_the_leader() {
    let mut solo = Solo::with_log(1, THREE, 4, &[]);
    let said = solo.hear(1, Message::Log(Request::Propose(proposal(1, 1))));
    assert!(said.messages().is_empty(), "nobody leads");
    let forward = |said: &common::Said, to| {
        let forwards = said.to(to).into_iter().filter_map(|message| match message {
            Message::Forward { wishes, .. } => Some(wishes.len()),
            _ => None,
        });
        forwards.sum::<usize>()
    };
    assert_eq!(forward(&solo.hear(2, append(4, (0, 0), vec![], 0)), 2), 1);
    assert_eq!(forward(&solo.hear(2, append(4, (0, 0), vec![], 0)), 2), 0, "once");
    assert_eq!(forward(&solo.hear(3, append(5, (0, 0), vec![], 0)), 3), 1);
    assert_eq!(forward(&solo.timer(Timer::Retry), 3), 1, "it may be lost");
    let wish = quorate_raft::Payload::Command(proposal(1, 1));
    let entry = quorate_raft::Entry { term: Term(5), payload: wish };
    solo.hear(3, append(5, (0, 0), vec![entry], 1));
    assert_eq!(forward(&solo.timer(Timer::Retry), 3), 0);
}

/// A proposal that is forwarded again while it is under way is not taken up again.
#[test]
fn a_leader_takes_a_wish_up_once() {
    let mut solo = leader(THREE, &[]);
    let forward = Message::Forward { wishes: vec![proposal(2, 1), proposal(2, 2)], barrier: None };
    solo.hear(2, forward.clone());
    solo.hear(2, forward);
    assert_eq!(solo.peer.log().last(), Place(3));
}

/// Who has forwarded a wish is told at once when it is committed; others hear of it later.
#[test]
fn who_has_forwarded_hears_of_the_commit_at_once() {
    let mut solo = leader(THREE, &[]);
    solo.hear(2, appended(4, 1, 1));
    solo.hear(3, appended(4, 1, 1));
    let forward = Message::Forward { wishes: vec![proposal(2, 1)], barrier: None };
    let said = solo.hear(2, forward);
    solo.durable(&said);
    let said = solo.hear(3, appended(4, 2, 2));
    assert_eq!(appends_to(&said, 2), [(1, 0, 2)]);
    assert!(appends_to(&said, 3).is_empty());
}

/// An offer is for a leader only, and stands where it was said to.
#[test]
fn only_a_leader_takes_an_offer() {
    let offer = Message::Log(Request::Offer(proposal(1, 1)));
    let said = follower().hear(1, offer.clone());
    assert_eq!(said.events(), [Event::Offered { id: proposal(1, 1).id, place: None }]);
    let said = leader(THREE, &[1, 2]).hear(1, offer);
    let place = Some((Index(3), 4));
    assert_eq!(said.events(), [Event::Offered { id: proposal(1, 1).id, place }]);
}

/// Section 8: a leader answers no read before it has committed an entry of its own term, nor before
/// a majority has answered a round that was sent after the read came.
#[test]
fn reads_wait_for_a_commit_and_for_a_round() {
    let mut solo = leader(THREE, &[1, 1]);
    let said = solo.hear(1, Message::Log(barrier(1)));
    assert!(said.messages().is_empty() && barriers(&said).is_empty(), "nothing of term 4 yet");
    let said = solo.hear(2, appended(4, 1, 3));
    let round = round_of(&said, 3);
    assert!(barriers(&said).is_empty());
    assert!(barriers(&solo.hear(3, appended(4, round - 1, 3))).is_empty(), "an older round");
    assert_eq!(barriers(&solo.hear(3, appended(4, round, 3))), [(1, 3)]);
}

/// An answer to a stale leader names no round: should it lead the answer's term by the time it
/// comes, it must not take it for an answer of that term.
#[test]
fn a_refusal_answers_no_round() {
    let mut solo = follower();
    let stale = Message::AppendEntries {
        term: Term(2),
        prev_log_index: Place(0),
        prev_log_term: Term(0),
        entries: vec![],
        leader_commit: Place(0),
        round: 1000,
    };
    let said = solo.hear(2, stale);
    assert!(matches!(said.to(2)[..], [Message::Appended { round: 0, .. }]));
}

/// Reads that come together share a round; those of followers are answered over the network.
#[test]
fn reads_share_a_round() {
    let mut solo = leader(THREE, &[]);
    solo.hear(2, appended(4, 1, 1));
    let asked = solo.step(|peer, out| {
        use quorate_protocol::Core as _;
        for seq in 1..=5 {
            let id = ProposalId { node: node(3), life: 8, seq };
            let forward = Message::Forward { wishes: vec![], barrier: Some(id) };
            peer.on_message(common::name(node(3)), forward, out);
            peer.on_message(common::name(node(1)), Message::Log(barrier(seq)), out);
        }
    });
    assert_eq!(appends_to(&asked, 2).len(), 1, "one round");
    let round = round_of(&asked, 2);
    let said = solo.hear(2, appended(4, round, 1));
    assert_eq!(barriers(&said), [(5, 1)]);
    let id = ProposalId { node: node(3), life: 8, seq: 5 };
    assert!(said.to(3).contains(&Message::Barrier { id, from: Index(1) }));
}

/// A peer alone in its group leads, commits and reads by itself.
#[test]
fn a_group_of_one_needs_nobody() {
    let mut solo = Solo::new(1, &[1], vec![]);
    let campaign = solo.timer(Timer::Election);
    assert!(!solo.peer.leads(), "its vote is not durable");
    let said = solo.durable(&campaign);
    solo.durable(&said);
    let said = solo.hear(1, Message::Log(Request::Offer(proposal(1, 1))));
    solo.durable(&said);
    assert_eq!(solo.peer.commit(), Place(2));
    assert_eq!(barriers(&solo.hear(1, Message::Log(barrier(1)))), [(1, 2)]);
}

// The lead is handed over: thesis, 3.10.

/// Thesis, 3.10: the leader takes nothing up, lets the other catch up, then has it campaign. If that
/// takes too long, it goes on.
#[test]
fn the_lead_is_handed_over_to_who_has_everything() {
    let mut solo = leader(THREE, &[1]);
    let now = |said: &common::Said| said.to(2).contains(&Message::TimeoutNow { term: Term(4) });
    let said = solo.hear(1, Message::Transfer { to: node(2) });
    assert!(!now(&said), "it lacks an entry");
    let said = solo.hear(1, Message::Log(Request::Offer(proposal(1, 1))));
    assert_eq!(said.events(), [Event::Offered { id: proposal(1, 1).id, place: None }]);
    assert!(now(&solo.hear(2, appended(4, 1, 2))));
    assert!(now(&solo.timer(Timer::Heartbeat)), "it may be lost");
    solo.hear(1, Message::Log(Request::Propose(proposal(1, 2))));
    assert_eq!(solo.peer.log().last(), Place(2));
    solo.timer(Timer::Transfer);
    assert_eq!(solo.peer.log().last(), Place(3), "it leads on");
}

/// Thesis, 3.10: who is told to campaigns at once, without asking first.
#[test]
fn who_is_told_to_campaigns_at_once() {
    let mut solo = follower();
    solo.hear(2, append(3, (3, 3), vec![], 0));
    let said = solo.hear(2, Message::TimeoutNow { term: Term(3) });
    assert_eq!(solo.peer.term(), Term(4));
    let asks = said.to(3);
    assert!(matches!(asks[..], [Message::RequestVote { pre_vote: false, transfer: true, .. }]));
    let mut solo = follower();
    solo.hear(2, append(3, (3, 3), vec![], 0));
    assert!(solo.hear(2, Message::TimeoutNow { term: Term(2) }).messages().is_empty(), "stale");
}

// Snapshots: section 7.

/// Section 7: who needs what is forgotten is offered a snapshot, with every heartbeat, and gets the
/// log from there on once it has one.
#[test]
fn who_is_far_behind_is_offered_a_snapshot() {
    let mut solo = leader(THREE, &[1, 1, 1]);
    solo.hear(2, appended(4, 1, 4));
    solo.hear(1, Message::Log(Request::Forget { saved: position(3, 4, 4), below: Index(4) }));
    // The base stands at a command: to who has applied that one nothing is lacking but entries.
    assert_eq!(solo.peer.log().base().to_string(), "3@3t1");
    let conflict = Message::Appended {
        term: Term(4),
        round: 1,
        result: Match::Conflict {
            prev_log_index: Place(3),
            conflict_term: None,
            conflict_index: Place(1),
        },
    };
    let offers = |said: &common::Said| {
        said.to(3).iter().filter(|m| matches!(m, Message::InstallSnapshot { .. })).count()
    };
    assert_eq!(offers(&solo.hear(3, conflict)), 1);
    assert_eq!(offers(&solo.timer(Timer::Heartbeat)), 1);
    let fetching = Message::Appended { term: Term(4), round: 2, result: Match::Fetching };
    assert_eq!(offers(&solo.hear(3, fetching)), 0);
    solo.hear(1, Message::Log(Request::Offer(proposal(1, 1))));
    let said = solo.hear(3, appended(4, 2, 4));
    assert_eq!(appends_to(&said, 3), [(4, 1, 4)]);
}

/// Section 7: a snapshot that reaches beyond the log takes its place; the leader hears of it when that
/// is durable.
#[test]
fn a_snapshot_takes_the_place_of_the_log() {
    let mut solo = Solo::with_log(1, THREE, 5, &[1, 2, 2]);
    solo.hear(1, Message::Log(Request::Subscribe { from: Index(1) }));
    let offer = Message::InstallSnapshot { term: Term(5), position: position(7, 9, 4), round: 3 };
    let said = solo.hear(2, offer.clone());
    assert_eq!(result_of(&said, 2), Match::Fetching);
    assert!(said.events().contains(&Event::Behind { ask: node(2), index: Index(7) }));
    let saved = position(8, 10, 5);
    let said =
        solo.hear(1, Message::Log(Request::Forget { saved: saved.clone(), below: Index(9) }));
    assert_eq!(said.records, [Record::Installed { base: saved }]);
    assert!(said.to(2).contains(&appended(5, 3, 10)));
    assert!(said.once_durable.iter().any(|outbound| matches!(outbound, Outbound::Peers(..))));
    assert_eq!((terms(&solo.peer), solo.peer.commit()), (vec![], Place(10)));
    assert_eq!(result_of(&solo.hear(2, offer), 2), Match::Through(Place(10)), "no need any more");
    let said = solo.hear(2, append(5, (10, 5), vec![entry(5, Some(1))], 11));
    let chosen = said.events().into_iter().find_map(|event| match event {
        Event::Chosen { entries, .. } => Some(entries[0].index),
        _ => None,
    });
    assert_eq!(chosen, Some(Index(9)));
}

/// Section 7: what follows a snapshot that the log contains is kept, and a snapshot that is older
/// than the log's base changes nothing.
#[test]
fn a_snapshot_of_a_prefix_keeps_the_rest() {
    let mut solo = Solo::with_log(1, THREE, 5, &[1, 1, 2, 2]);
    let forget = |saved, below| Message::Log(Request::Forget { saved, below: Index(below) });
    solo.hear(1, forget(position(3, 3, 2), 3));
    assert_eq!(solo.peer.commit(), Place(3), "what is saved is committed");
    assert_eq!(
        (solo.peer.log().base().place, terms(&solo.peer)),
        (2, vec![2, 2]),
        "a tail is kept"
    );
    solo.hear(1, forget(position(3, 3, 2), 4));
    assert_eq!((solo.peer.log().base().place, terms(&solo.peer)), (3, vec![2]));
    let said = solo.hear(1, forget(position(1, 1, 1), 2));
    assert!(said.records.is_empty());
    assert!(solo.alarms.is_empty());
}

/// A snapshot may be of a term that was not heard of here: then that is the term (section 5.1).
#[test]
fn a_snapshot_of_a_later_term_brings_the_term() {
    let mut solo = follower();
    let saved = position(8, 10, 6);
    solo.hear(1, Message::Log(Request::Forget { saved, below: Index(9) }));
    assert_eq!((solo.peer.term(), solo.peer.log().last_term()), (Term(6), Term(6)));
}

/// An rsm that wants what is forgotten on its own node is sent to another.
#[test]
fn an_rsm_that_is_behind_its_own_log_is_sent_to_another() {
    let mut solo = Solo::with_log(1, THREE, 5, &[1, 1, 2, 2]);
    let saved = position(3, 3, 2);
    solo.hear(1, Message::Log(Request::Forget { saved, below: Index(4) }));
    let said = solo.hear(1, Message::Log(Request::Subscribe { from: Index(2) }));
    assert_eq!(said.events(), [Event::Behind { ask: node(2), index: Index(3) }]);
}

// What a crash leaves: the persistent state of Figure 2.

fn standing(term: u64, base: Position) -> Record {
    Record::Standing { term: Term(term), voted_for: None, base }
}

fn of(from: u64, terms: &[u64]) -> Record {
    Record::Appended { from: Place(from), entries: entries(terms) }
}

/// A segment begins with a standing that may be newer than the records behind it.
#[test]
fn records_behind_a_newer_standing_do_no_harm() {
    let base = position(100, 100, 1);
    let records =
        vec![standing(2, base), of(98, &[1, 1, 1, 1]), standing(2, position(100, 100, 1))];
    let peer = Peer::recover(config(1, THREE), records).unwrap();
    assert_eq!((peer.log().base().place, peer.log().last()), (100, Place(101)));
}

/// What stood behind a snapshot's place before it came does not come back.
#[test]
fn what_a_snapshot_has_replaced_does_not_come_back() {
    let base = position(55, 55, 9);
    let records = vec![
        standing(9, base.clone()),
        of(51, &[3; 10]),
        Record::Installed { base: base.clone() },
        of(56, &[9, 9]),
    ];
    let before = Peer::recover(config(1, THREE), records[..3].to_vec()).unwrap();
    assert_eq!(before.log().last(), Place(55));
    let peer = Peer::recover(config(1, THREE), records).unwrap();
    assert_eq!((terms(&peer), peer.log().last()), (vec![9, 9], Place(57)));
    assert_eq!(peer.log().base(), &base);
}

/// A segment in the middle may be gone when all of it was covered; what is missing otherwise is
/// found out.
#[test]
fn an_entry_that_is_missing_is_found_out() {
    let start = standing(2, position(50, 50, 1));
    let covered = vec![start.clone(), of(80, &[1; 30]), standing(2, position(100, 100, 1))];
    assert_eq!(Peer::recover(config(1, THREE), covered).unwrap().log().last(), Place(109));
    let missing = vec![start, of(80, &[1; 30])];
    let error = Peer::recover(config(1, THREE), missing).err().unwrap();
    assert!(error.contains("ends at 50") && error.contains("goes on at 80"), "{error}");
    let falling = vec![standing(2, position(0, 0, 0)), of(1, &[2, 1])];
    assert!(Peer::recover(config(1, THREE), falling).is_err());
}

/// An append replaces what stood there (section 5.3), in the journal too.
#[test]
fn a_later_append_replaces_what_stood_there() {
    let records = vec![standing(5, position(0, 0, 0)), of(1, &[1, 1, 1, 1]), of(3, &[5])];
    let peer = Peer::recover(config(1, THREE), records).unwrap();
    assert_eq!(terms(&peer), [1, 1, 5]);
    assert_eq!(peer.commit(), Place(0), "what is committed is learnt anew");
}
