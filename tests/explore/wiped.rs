//! Acceptors and proposers of Paxos in a world in which a disk is lost: the very cores, whose learners know
//! nothing. The machine that has lost its disk comes back as another member, whose answers must not count;
//! or, to be found, as the same one, with the highest promise that all others report.

use std::{
    collections::{BTreeMap, BTreeSet, VecDeque},
    fmt,
    time::Duration,
};

use bytes::Bytes;
use quorate_acceptor::{
    Acceptor, Answer, Ballot, Message as ToAcceptor, Outbound as AcceptorSays, Record, Slot,
};
use quorate_learner::{Holes, Message as ToLearner, Notice};
use quorate_proposer::{
    Config, Limits, Message as ToProposer, Outbound as ProposerSays, Proposer, Timing,
};
use quorate_protocol::{
    Configuration, Core as _, GroupId, Incarnation, Member, Name, NodeId, Role,
    log::{Position, Proposal, ProposalId, Request},
};
use stateright::Property;

use super::{
    paxos::id_of,
    seat::Seat,
    world::{Effects, Engine, Known, State, World},
};

/// Machines of which one may lose its disk.
pub struct Wiped {
    pub nodes: Vec<NodeId>,
    /// Whether it comes back as if nothing had happened, once all others have told what they promised.
    pub naive: bool,
}

/// A machine.
#[derive(Clone, Debug)]
pub struct Node {
    /// Who it is, in which life.
    me: NodeId,
    acceptor: Known<Seat<Acceptor>>,
    proposer: Known<Seat<Proposer>>,
    /// Who has not told yet what it promised, and the highest promise so far.
    asks: BTreeSet<NodeId>,
    reported: Ballot,
}

/// What is said between machines, in which lives.
#[derive(Clone, Debug)]
pub struct Wire {
    from: NodeId,
    what: What,
}

#[derive(Clone, Debug)]
enum What {
    Acceptor(ToAcceptor),
    Proposer(ToProposer),
    /// What have you promised?
    Ask,
    /// This.
    Report(Ballot),
}

impl fmt::Display for Wire {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "({}) ", self.from)?;
        match &self.what {
            What::Acceptor(message) => message.fmt(f),
            What::Proposer(message) => message.fmt(f),
            What::Ask => f.write_str("what have you promised?"),
            What::Report(ballot) => write!(f, "promised {ballot}"),
        }
    }
}

/// The disk of a machine.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Disk;

/// What a proposer says to be chosen.
pub struct News(Vec<(Slot, Option<ProposalId>)>);

/// What was said to be chosen, by everybody.
#[derive(Clone, Debug, Default)]
pub struct Judge(BTreeMap<Slot, Option<ProposalId>>);

/// What some run reaches.
pub const CHOSEN: &str = "something is chosen";
pub const CHOSEN_AFTER: &str = "something is chosen, and a disk was lost";

fn name(node: NodeId) -> Name {
    Name::new(node, GroupId(1), Role::Outside)
}

impl Wiped {
    fn proposer(&self, me: NodeId) -> Proposer {
        let ms = Duration::from_millis(1);
        let timing =
            Timing { retry: ms, campaign: ms, backoff_max: ms, linger: ms, resend: ms, hurry: ms };
        Proposer::new(Config {
            me: Member { node: me, incarnation: Incarnation(1) },
            formation: self.formation(),
            holes: Holes::Filled,
            limits: Limits::default(),
            timing,
        })
    }

    fn formation(&self) -> Configuration {
        Configuration::of(self.nodes.iter().copied())
    }

    /// A message, and whatever follows from it within the machine.
    fn hear(&self, node: &mut Node, from: NodeId, what: What, fx: &mut Effects<Self>) {
        let mut queue = VecDeque::from([(from, what)]);
        loop {
            let Some((from, what)) = queue.pop_front() else {
                if !node.proposer.drain() {
                    return;
                }
                let said = node.proposer.change().drained();
                self.proposer_says(node, said, &mut queue, fx);
                continue;
            };
            match what {
                // It does not know yet what it would promise.
                What::Acceptor(_) if !node.asks.is_empty() => {}
                What::Acceptor(message) => {
                    let acceptor = node.acceptor.change();
                    let mut said =
                        acceptor.step(|core, out| core.on_message(name(from), message, out));
                    // The disk is as fast as the machine: here it is there or lost.
                    said.extend(acceptor.sync().1);
                    acceptor.forget_disk();
                    for said in said {
                        if let AcceptorSays::Answer(to, answer) = said {
                            let what = What::Proposer(ToProposer::Answer(answer));
                            self.say(node, to, what, &mut queue, fx);
                        }
                    }
                }
                What::Proposer(message) => {
                    let proposer = node.proposer.change();
                    let said = proposer.step(|core, out| core.on_message(name(from), message, out));
                    self.proposer_says(node, said, &mut queue, fx);
                }
                What::Ask => {
                    let promised = node.acceptor.core.promised();
                    self.say(node, from, What::Report(promised), &mut queue, fx);
                }
                What::Report(promised) => {
                    node.reported = node.reported.max(promised);
                    if node.asks.remove(&from) && node.asks.is_empty() {
                        let acceptor = Acceptor::recover([Record::Promised(node.reported)]);
                        node.acceptor = Known::new(Seat::new(acceptor, vec![]));
                    }
                }
            }
        }
    }

    fn proposer_says(
        &self,
        node: &Node,
        said: Vec<ProposerSays>,
        queue: &mut VecDeque<(NodeId, What)>,
        fx: &mut Effects<Self>,
    ) {
        for said in said {
            match said {
                ProposerSays::Acceptors(to, message) => {
                    for to in to {
                        self.say(node, to, What::Acceptor(message.clone()), queue, fx);
                    }
                }
                ProposerSays::Learner(_, ToLearner::Decided { entries }) => {
                    let ids = entries.iter().map(|(slot, value)| (*slot, id_of(value)));
                    fx.news.push(News(ids.collect()));
                }
                ProposerSays::Learner(..) | ProposerSays::Proposer(..) | ProposerSays::Log(_) => {}
            }
        }
    }

    /// Whatever is said to a life of a machine arrives at whatever life it has.
    fn say(
        &self,
        node: &Node,
        to: NodeId,
        what: What,
        queue: &mut VecDeque<(NodeId, What)>,
        fx: &mut Effects<Self>,
    ) {
        match to.home() == node.me.home() {
            true => queue.push_back((node.me, what)),
            false => fx.sends.push((to.home(), Wire { from: node.me, what })),
        }
    }
}

impl Engine for Wiped {
    type Node = Node;
    type Wire = Wire;
    type Timer = ();
    type Input = ProposalId;
    type Part = Disk;
    type News = News;
    type Judge = Judge;

    fn boot(&self, me: NodeId, fx: &mut Effects<Self>) -> Node {
        let mut node = Node {
            me,
            acceptor: Known::new(Seat::new(Acceptor::recover([]), vec![])),
            proposer: Known::new(Seat::new(self.proposer(me), vec![])),
            asks: BTreeSet::new(),
            reported: Ballot::NONE,
        };
        let position = Position { configuration: self.formation(), ..Position::default() };
        let (below, known) = (Slot(1), Slot(1));
        for message in [
            ToProposer::Answer(Answer::Promised { promised: Ballot::NONE }),
            ToProposer::Notice(Notice::Members(position)),
            ToProposer::Notice(Notice::Decided { slots: vec![], below, known }),
        ] {
            self.hear(&mut node, me, What::Proposer(message), fx);
        }
        node
    }

    fn deliver(&self, node: &mut Node, _: NodeId, wire: &Wire, fx: &mut Effects<Self>) {
        self.hear(node, wire.from, wire.what.clone(), fx);
    }

    fn ask(&self, node: &mut Node, input: &ProposalId, fx: &mut Effects<Self>) {
        let proposal = Proposal { id: *input, command: Bytes::new() };
        let message = ToProposer::Log(Request::Propose(proposal));
        self.hear(node, node.me, What::Proposer(message), fx);
    }

    fn timers(&self, _: &Node) -> Vec<()> {
        vec![]
    }

    fn fire(&self, _: &mut Node, (): &(), _: &mut Effects<Self>) {}

    fn unsynced(&self, _: &Node) -> usize {
        0
    }

    fn sync(&self, _: &mut Node, _: &mut Effects<Self>) {}

    fn crashes(&self, _: &Node) -> Vec<(Disk, usize)> {
        vec![(Disk, 0)]
    }

    fn crash(&self, node: &mut Node, Disk: &Disk, _: usize, fx: &mut Effects<Self>) {
        node.acceptor = Known::new(Seat::new(Acceptor::recover([]), vec![]));
        if !self.naive {
            node.me = node.me.in_life(1);
            return;
        }
        node.asks = self.nodes.iter().copied().filter(|other| *other != node.me).collect();
        let asks = node.asks.iter().map(|to| (*to, Wire { from: node.me, what: What::Ask }));
        fx.sends.extend(asks);
    }

    fn settle(&self, node: &mut Node) {
        node.acceptor.settle();
        node.proposer.settle();
    }

    fn within(&self, node: &Node) -> bool {
        node.acceptor.core.promised().round <= 1 && node.proposer.core.highest().round <= 1
    }

    fn learn(&self, judge: &mut Judge, node: NodeId, News(chosen): News) -> Result<(), String> {
        for (slot, value) in chosen {
            let known = judge.0.entry(slot).or_insert(value);
            if *known != value {
                return Err(format!("{node}: two values are chosen in slot {slot}"));
            }
        }
        Ok(())
    }

    fn asked(&self, _: &mut Judge, _: &ProposalId) {}

    fn judge(&self, _: &Judge, _: NodeId, _: &Node) -> Result<(), String> {
        Ok(())
    }

    fn goals(&self) -> Vec<Property<World<Self>>> {
        vec![
            Property::sometimes(CHOSEN, |_, state: &State<Self>| !state.judge.0.is_empty()),
            Property::sometimes(CHOSEN_AFTER, |world: &World<Self>, state: &State<Self>| {
                state.has_crashed(world) && !state.judge.0.is_empty()
            }),
        ]
    }
}
