//! A5: whoever is taken in promises, votes and confirms nothing before its state is durable.

use quorate_acceptor::{
    Acceptor, Answer, Ballot, Message, Outbound, Progress, Record, Round, Slot,
};
use quorate_protocol::{Core, GroupId, Incarnation, Member, Name, NodeId, Out, Role};

fn ballot() -> Ballot {
    Ballot::new(1, Member { node: NodeId(1), incarnation: Incarnation(1) })
}

fn say(acceptor: &mut Acceptor, message: Message) -> (Vec<Outbound>, Vec<Record>) {
    let mut out = Out::default();
    let from = Name::new(NodeId(1), GroupId(1), Role::Proposer);
    acceptor.on_message(from, message, &mut out);
    acceptor.invariants();
    (out.sends, out.records)
}

fn questions() -> [Message; 3] {
    let (ballot, round, progress) = (ballot(), Round(1), Progress::default());
    [
        Message::Prepare { ballot, from: Slot(1) },
        Message::Accept { ballot, round, entries: vec![(Slot(1), None)], progress },
        Message::Confirm { ballot, id: 1 },
    ]
}

#[test]
fn a_newcomer_counts_for_nothing_before_it_is_intact_and_for_good_after() {
    let mut newcomer = Acceptor::recover([]).of_newcomer();
    for question in questions() {
        let (said, written) = say(&mut newcomer, question);
        assert!(said.is_empty() && written.is_empty(), "{said:?} {written:?}");
    }
    // Its own proposer may know what it has promised: nothing.
    let (said, _) = say(&mut newcomer, Message::AskPromised);
    assert!(matches!(said[..], [Outbound::Answer(_, Answer::Promised { promised: Ballot::NONE })]));
    let (_, written) = say(&mut newcomer, Message::Intact);
    assert!(matches!(written[..], [Record::Standing { intact: true, .. }]), "{written:?}");
    let mut restarted = Acceptor::recover(written).of_newcomer();
    for acceptor in [&mut newcomer, &mut restarted] {
        for question in questions() {
            assert!(!say(acceptor, question).0.is_empty());
        }
    }
    // The end of a segment takes nothing of it away.
    let mut later = Acceptor::recover([restarted.standing()]).of_newcomer();
    assert!(!say(&mut later, Message::Confirm { ballot: ballot(), id: 2 }).0.is_empty());
    // Whoever formed the group waits for nothing.
    assert!(!say(&mut Acceptor::recover([]), questions()[0].clone()).0.is_empty());
}
