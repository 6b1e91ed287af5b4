//! Slots that some acceptors have forgotten and others have not: none gets a second value, and who
//! needs one is told where to get a checkpoint.

use quorate_acceptor::{
    Acceptor, Answer, Ballot, Entry, Message as ToAcceptor, Outbound as AcceptorSays, Progress,
    Round, Slot, Vote,
};
use quorate_learner::{
    Holes, Learner, Message as ToLearner, Notice, Outbound as LearnerSays, Timing as LearnerTiming,
};
use quorate_proposer::{Config, Limits, Message, Outbound, Proposer, Timing};
use quorate_protocol::{
    Configuration, Core, GroupId, Incarnation, Member, Name, NodeId, Out, Role,
    log::{Event, Index, Position, Proposal, ProposalId, Request},
};
use std::time::Duration;

const N1: NodeId = NodeId(1);
const N2: NodeId = NodeId(2);
const N3: NodeId = NodeId(3);

fn member(node: NodeId) -> Member {
    Member { node, incarnation: Incarnation(1) }
}

fn ballot(round: u64, node: NodeId) -> Ballot {
    Ballot::new(round, member(node))
}

fn proposal(seq: u64) -> Proposal {
    let id = ProposalId { node: N1, life: 1, seq };
    Proposal { id, command: vec![seq as u8; 10].into() }
}

fn name(node: NodeId) -> Name {
    Name::new(node, GroupId(1), Role::Outside)
}

fn say<C: Core>(core: &mut C, from: NodeId, message: C::Inbound) -> Vec<C::Outbound> {
    let mut out = Out::default();
    core.on_message(name(from), message, &mut out);
    if std::mem::take(&mut out.drain) {
        core.on_drained(&mut out);
    }
    core.invariants();
    assert!(out.alarms.is_empty(), "{:?}", out.alarms);
    out.sends
}

/// A place of a log whose members have never changed.
fn formed(index: u64) -> Position {
    let configuration = Configuration::of([N1, N2, N3]);
    Position { index: Index(index), place: index, term: 0, configuration }
}

fn proposer() -> Proposer {
    let ms = Duration::from_millis;
    let timing = Timing {
        retry: ms(100),
        campaign: ms(100),
        backoff_max: ms(700),
        linger: ms(5),
        resend: ms(40),
        hurry: ms(20),
    };
    let (formation, limits) = (Configuration::of([N1, N2, N3]), Limits::default());
    let config = Config { me: member(N1), formation, holes: Holes::Filled, limits, timing };
    let mut proposer = Proposer::new(config);
    proposer.start(&mut Out::default());
    let promised = Answer::Promised { promised: Ballot::NONE };
    say(&mut proposer, N1, Message::Answer(promised));
    let members = Notice::Members(formed(0));
    say(&mut proposer, N1, Message::Notice(members));
    let known = Notice::Decided { slots: vec![], below: Slot(1), known: Slot(1) };
    say(&mut proposer, N1, Message::Notice(known));
    proposer
}

fn promise(ballot: Ballot, votes: Vec<(Slot, Vote)>, forgotten: u64) -> Message {
    let (from, below) = (Slot(1), None);
    let forgotten = Slot(forgotten);
    Message::Answer(Answer::Promise { ballot, from, below, votes, forgotten })
}

/// The slots of every Accept among what was said.
fn accepts(said: &[Outbound]) -> Vec<(Ballot, Round, Vec<u64>)> {
    let accept = |said: &Outbound| match said {
        Outbound::Acceptors(_, ToAcceptor::Accept { ballot, round, entries, .. }) => {
            Some((*ballot, *round, entries.iter().map(|(slot, _)| slot.0).collect()))
        }
        _ => None,
    };
    said.iter().filter_map(accept).collect()
}

#[test]
fn no_vote_is_cast_or_counted_where_an_acceptor_has_forgotten() {
    let mut acceptor = Acceptor::recover([]);
    say(&mut acceptor, N1, ToAcceptor::Forget { below: Slot(10) });
    let mut accept = |round, slots: &[u64]| {
        let entries: Vec<Entry> =
            slots.iter().map(|slot| (Slot(*slot), Some(proposal(*slot)))).collect();
        let (ballot, round, progress) = (ballot(1, N1), Round(round), Progress::default());
        say(&mut acceptor, N1, ToAcceptor::Accept { ballot, round, entries, progress })
    };
    let answered = |said: &[AcceptorSays]| match &said[0] {
        AcceptorSays::Answer(_, answer) => answer.clone(),
        other => panic!("{other:?}"),
    };
    let forgotten =
        |round| Answer::Forgotten { ballot: ballot(1, N1), round: Round(round), below: Slot(10) };
    assert_eq!(answered(&accept(1, &[8, 9])), forgotten(1));
    assert_eq!(answered(&accept(2, &[9, 10])), forgotten(2));
    let accepted = Answer::Accepted { ballot: ballot(1, N1), round: Round(3) };
    assert_eq!(answered(&accept(3, &[11])), accepted);
    let voted: Vec<u64> = acceptor.votes().keys().map(|slot| slot.0).collect();
    assert_eq!(voted, [10, 11]);
    let bytes = acceptor.bytes();
    assert!((20..200).contains(&bytes), "{bytes} bytes for two votes");
    say(&mut acceptor, N1, ToAcceptor::Forget { below: Slot(12) });
    assert_eq!(acceptor.bytes(), 0);
}

/// n1 leads in ballot 1 and proposes for slot 1. Meanwhile n2 and n3 choose something else there in
/// ballot 2, and n3 has it in a checkpoint and has forgotten. Had n3 accepted all the same, n1 would
/// have taken that, with its own vote, for a majority.
#[test]
fn a_round_that_an_acceptor_has_forgotten_is_not_chosen_by_that() {
    let mut proposer = proposer();
    let said = say(&mut proposer, N1, Message::Log(Request::Propose(proposal(1))));
    let first = proposer.highest();
    assert!(matches!(&said[0], Outbound::Acceptors(to, ToAcceptor::Prepare { .. }) if *to == [N1]));
    say(&mut proposer, N1, promise(first, vec![], 0));
    let said = say(&mut proposer, N2, promise(first, vec![], 0));
    assert_eq!(accepts(&said), [(first, Round(1), vec![1])]);
    let accepted = Answer::Accepted { ballot: first, round: Round(1) };
    say(&mut proposer, N1, Message::Answer(accepted));

    let answer = Answer::Forgotten { ballot: first, round: Round(1), below: Slot(10) };
    let said = say(&mut proposer, N3, Message::Answer(answer));
    let decides = |said: &Outbound| {
        matches!(said, Outbound::Learner(_, ToLearner::Decided { .. } | ToLearner::Inform { .. }))
    };
    assert!(!said.iter().any(decides), "{said:?}");
    assert!(!proposer.leads(), "a higher ballot has been at work");

    // Its next ballot is told, and begins behind what is forgotten.
    let second = proposer.highest();
    assert!(second > first);
    say(&mut proposer, N1, promise(second, vec![(Slot(1), vote(first, 1))], 0));
    let said = say(&mut proposer, N3, promise(second, vec![(Slot(11), vote(first, 7))], 10));
    assert!(proposer.leads());
    assert_eq!(accepts(&said), [(second, Round(1), vec![10, 11]), (second, Round(2), vec![12])]);
    let inform = |said: &Outbound| {
        let below = Slot(10);
        matches!(said, Outbound::Learner(N1, ToLearner::Inform { progress, .. })
            if *progress == Progress { through: Round(0), below })
    };
    assert!(said.iter().any(inform), "our own learner is behind, and must hear of it");
}

fn vote(ballot: Ballot, seq: u64) -> Vote {
    Vote { ballot, round: Round(1), value: Some(proposal(seq)) }
}

/// Of a round that is chosen, it does not matter who has forgotten it: it is said and done.
#[test]
fn a_chosen_round_may_be_forgotten_by_who_has_not_accepted_it() {
    let mut proposer = proposer();
    say(&mut proposer, N1, Message::Log(Request::Propose(proposal(1))));
    let ballot = proposer.highest();
    say(&mut proposer, N1, promise(ballot, vec![], 0));
    say(&mut proposer, N2, promise(ballot, vec![], 0));
    for node in [N1, N2] {
        say(&mut proposer, node, Message::Answer(Answer::Accepted { ballot, round: Round(1) }));
    }
    let answer = Answer::Forgotten { ballot, round: Round(1), below: Slot(2) };
    say(&mut proposer, N3, Message::Answer(answer));
    assert!(proposer.leads());
}

/// What phase 1 brought up is not accepted yet, what came after it is. The learner may know the
/// former from another ballot, and then the latter is applied and acknowledged: a read has to wait
/// for it.
#[test]
fn a_read_waits_for_what_is_chosen_behind_a_gap() {
    let mut proposer = proposer();
    say(&mut proposer, N1, Message::Log(Request::Propose(proposal(1))));
    let ballot = proposer.highest();
    say(&mut proposer, N1, promise(ballot, vec![(Slot(1), vote(Ballot::NONE, 7))], 0));
    let said = say(&mut proposer, N2, promise(ballot, vec![], 0));
    assert_eq!(accepts(&said), [(ballot, Round(1), vec![1]), (ballot, Round(2), vec![2])]);
    for node in [N1, N2] {
        say(&mut proposer, node, Message::Answer(Answer::Accepted { ballot, round: Round(2) }));
    }
    let id = ProposalId { node: N1, life: 1, seq: 1 };
    let said = say(&mut proposer, N1, Message::Log(Request::ReadBarrier { id }));
    let asked = said.iter().find_map(|said| match said {
        Outbound::Acceptors(_, ToAcceptor::Confirm { id, .. }) => Some(*id),
        _ => None,
    });
    let confirmed = Answer::Confirmed { ballot, id: asked.expect("it asks") };
    say(&mut proposer, N1, Message::Answer(confirmed.clone()));
    let said = say(&mut proposer, N3, Message::Answer(confirmed));
    assert!(said.contains(&Outbound::Log(Event::Barrier { id, from: Index(3) })), "{said:?}");
}

fn learner() -> Learner {
    let ms = Duration::from_millis;
    let timing = LearnerTiming {
        fetch_after: ms(10),
        fetch_after_max: ms(500),
        done_after: ms(10),
        done_after_max: ms(2000),
    };
    let mut learner = Learner::new(N1, Configuration::of([N1, N2, N3]), Holes::Filled, timing);
    let report =
        quorate_acceptor::Report::Recalled { votes: vec![], marks: vec![], forgotten: Slot(0) };
    say(&mut learner, N1, ToLearner::Report(report));
    say(&mut learner, N1, ToLearner::Log(Request::Subscribe { from: Index(1) }));
    learner
}

fn entries(slots: std::ops::RangeInclusive<u64>) -> Vec<Entry> {
    slots.map(|slot| (Slot(slot), Some(proposal(slot)))).collect()
}

fn forget(saved: u64, below: u64) -> ToLearner {
    let saved = formed(saved);
    ToLearner::Log(Request::Forget { saved, below: Index(below) })
}

#[test]
fn a_log_is_forgotten_by_its_own_checkpoint_whatever_others_need() {
    let mut learner = learner();
    say(&mut learner, N1, ToLearner::Decided { entries: entries(1..=20) });
    let said = say(&mut learner, N1, forget(15, 11));
    assert!(said.contains(&LearnerSays::Acceptor(ToAcceptor::Forget { below: Slot(11) })));
    assert_eq!((learner.forgotten(), learner.below()), (Slot(11), Slot(21)));
    let others = |said: &LearnerSays| matches!(said, LearnerSays::Learner(..));
    assert!(!said.iter().any(others), "nobody else is told: {said:?}");
    // Whoever asks for less is told so, and gets nothing that it has no use for.
    let said = say(&mut learner, N2, ToLearner::Learn { from: Slot(5), below: Slot(21) });
    let (from, forgotten) = (Slot(5), Slot(11));
    let before = Some(formed(10));
    let taught = ToLearner::Taught { from, entries: vec![], forgotten, before };
    assert_eq!(said, [LearnerSays::Learner(N2, taught)]);
    let said = say(&mut learner, N2, ToLearner::Learn { from: Slot(11), below: Slot(13) });
    let taught = ToLearner::Taught {
        from: Slot(11),
        entries: entries(11..=12),
        forgotten,
        before: Some(formed(10)),
    };
    assert_eq!(said, [LearnerSays::Learner(N2, taught)]);
}

#[test]
fn a_learner_that_is_behind_asks_for_a_checkpoint_and_goes_on_after_it() {
    let mut learner = learner();
    say(&mut learner, N1, ToLearner::Decided { entries: entries(1..=3) });
    let (from, entries_of_none) = (Slot(4), vec![]);
    let taught = ToLearner::Taught {
        from,
        entries: entries_of_none,
        forgotten: Slot(11),
        before: Some(formed(10)),
    };
    let said = say(&mut learner, N2, taught.clone());
    let behind = Event::Behind { ask: N2, index: Index(10) };
    assert_eq!(said, [LearnerSays::Log(behind)]);
    // What is chosen meanwhile waits behind the gap.
    let said = say(&mut learner, N1, ToLearner::Decided { entries: entries(16..=17) });
    assert!(!said.iter().any(|said| matches!(said, LearnerSays::Log(_))), "{said:?}");
    say(&mut learner, N1, forget(15, 16));
    let said = say(&mut learner, N1, ToLearner::Log(Request::Subscribe { from: Index(16) }));
    let chosen = said.iter().find_map(|said| match said {
        LearnerSays::Log(Event::Chosen { entries, position }) => {
            Some((entries.iter().map(|chosen| chosen.index.0).collect(), position.index.0))
        }
        _ => None,
    });
    assert_eq!(chosen, Some((vec![16, 17], 17)));
    // Said before the checkpoint came: it is not news any more.
    assert_eq!(say(&mut learner, N2, taught), []);
}
