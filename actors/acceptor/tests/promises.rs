//! A promise never decreases, across crashes too (A1): whatever raised it is on the disk before
//! anything is said.

use quorate_acceptor::{
    Acceptor, Answer, Ballot, Entry, Message, Outbound, Progress, Record, Round, Slot,
};
use quorate_protocol::{
    Core, GroupId, Incarnation, Member, Name, NodeId, Out, Role,
    log::{Proposal, ProposalId},
};

const N1: NodeId = NodeId(1);
const N2: NodeId = NodeId(2);

fn ballot(round: u64, node: NodeId) -> Ballot {
    Ballot::new(round, Member { node, incarnation: Incarnation(1) })
}

fn entries(slots: impl IntoIterator<Item = u64>) -> Vec<Entry> {
    let proposal = |slot| {
        let id = ProposalId { node: N1, life: 1, seq: slot };
        (Slot(slot), Some(Proposal { id, command: vec![slot as u8; 10].into() }))
    };
    slots.into_iter().map(proposal).collect()
}

fn accept(ballot: Ballot, round: u64, slots: impl IntoIterator<Item = u64>) -> Message {
    let progress = Progress::default();
    Message::Accept { ballot, round: Round(round), entries: entries(slots), progress }
}

/// An acceptor and what it has written, whose disk may stop at any step.
#[derive(Default)]
struct Node {
    acceptor: Acceptor,
    disk: Vec<Record>,
}

impl Node {
    /// Takes one step, and answers what it says. A crash right after it would forget no promise.
    fn hear(&mut self, from: NodeId, message: Message) -> Vec<Answer> {
        let mut out = Out::default();
        let name = Name::new(from, GroupId(1), Role::Proposer);
        self.acceptor.on_message(name, message, &mut out);
        self.acceptor.invariants();
        self.disk.append(&mut out.records);
        let recovered = Acceptor::recover(self.disk.clone());
        recovered.invariants();
        assert_eq!(recovered.promised(), self.acceptor.promised(), "A1: a crash takes it back");
        let answer = |said| match said {
            Outbound::Answer(_, answer) => Some(answer),
            Outbound::Report(_) | Outbound::Bytes(..) => None,
        };
        out.sends.into_iter().filter_map(answer).collect()
    }
}

/// Every entry of the Accept is forgotten: no vote is cast, but its ballot is promised.
#[test]
fn an_accept_of_what_is_forgotten_is_a_promise_that_outlives_a_crash() {
    let (first, second) = (ballot(1, N1), ballot(2, N2));
    let mut node = Node::default();
    node.hear(N1, accept(first, 1, 1..=3));
    node.hear(N1, Message::Forget { below: Slot(4) });
    let said = node.hear(N2, accept(second, 1, 2..=3));
    assert_eq!(
        said,
        [Answer::Forgotten { ballot: second, round: Round(1), below: Slot(4) }],
        "no vote is cast"
    );
    assert_eq!(node.acceptor.promised(), second);

    // The life after that refuses what this one would have refused.
    node.acceptor = Acceptor::recover(node.disk.clone());
    let said = node.hear(N1, accept(first, 2, 4..=4));
    assert_eq!(said, [Answer::Nack { refused: first, promised: second }]);
}

/// What is heard again is written once, whether votes are in it or a promise only.
#[test]
fn a_repeated_accept_writes_nothing() {
    let mut node = Node::default();
    let mut written_once = |message: Message| {
        let before = node.disk.len();
        node.hear(N1, message.clone());
        let written = node.disk.len();
        assert!(written > before, "{message} is remembered");
        node.hear(N1, message);
        assert_eq!(node.disk.len(), written);
    };
    written_once(accept(ballot(1, N1), 1, 1..=3));
    written_once(Message::Forget { below: Slot(4) });
    written_once(accept(ballot(2, N1), 1, 1..=3));
}
