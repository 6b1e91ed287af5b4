//! Paxos in a world: the acceptor, the proposer and the learner of each node, wired as `node` wires
//! them, with as much of an rsm as asks and applies.
//!
//! What passes between the actors of one node is handled within the step that caused it.

use std::{
    collections::{BTreeMap, BTreeSet, VecDeque},
    fmt,
    time::Duration,
};

use bytes::Bytes;
use quorate_acceptor::{
    Acceptor, Ballot, Message as ToAcceptor, Outbound as AcceptorSays, Record, Slot, Value,
};
use quorate_learner::{
    Holes, Learner, Message as ToLearner, Outbound as LearnerSays, Timer as LearnerTimer,
};
use quorate_proposer::{
    Config, Limits, Message as ToProposer, Outbound as ProposerSays, Proposer,
    Timer as ProposerTimer, Timing,
};
use quorate_protocol::{
    Configuration, GroupId, Incarnation, Member, Name, Never, NodeId, Role,
    log::{Event, Index, Proposal, ProposalId, Request},
};
use stateright::Property;

use super::{
    seat::{Explored, Seat},
    world::{Effects, Engine, Known, State, World},
};

impl Explored for Acceptor {
    fn memory(records: &[Record]) -> String {
        format!("{:?}", Acceptor::recover(records.iter().cloned()))
    }
}

impl Explored for Proposer {
    fn memory(_: &[Never]) -> String {
        String::new()
    }
}

impl Explored for Learner {
    fn memory(_: &[Never]) -> String {
        String::new()
    }
}

/// An error planted on purpose: the model must find each.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Planted {
    /// The acceptor's promises are not on its disk.
    PromisesForgotten,
    /// Sends do not wait for the disk.
    SpokenEarly,
    /// The proposer counts a vote for whoever has cast it and for the next node too.
    VoteCountedTwice,
    /// The proposer leads by its own promise alone: it takes it for that of the next node too.
    PromiseCountedTwice,
    /// The votes that come with a promise are overlooked.
    VotesOverlooked,
    /// A read is answered without a confirmation of the ballot: one's own counts as a majority.
    ReadUnconfirmed,
}

/// Three Paxos nodes, or as many as the world has.
pub struct Paxos {
    pub nodes: Vec<NodeId>,
    /// Nodes of which only the acceptor is awake. What it says is heard; nothing is said to the
    /// others, as if all of it were lost.
    pub acceptor_only: BTreeSet<NodeId>,
    /// Highest round of a ballot that a run goes into.
    pub rounds_max: u64,
    /// Which timers run out.
    pub timers: Vec<Timer>,
    /// What crashes.
    pub parts: Vec<Part>,
    /// Accept messages under way at one time.
    pub rounds_in_flight_max: usize,
    pub planted: Option<Planted>,
}

/// A node.
#[derive(Clone, Debug)]
pub struct Node {
    me: NodeId,
    acceptor: Known<Seat<Acceptor>>,
    proposer: Known<Seat<Proposer>>,
    learner: Known<Seat<Learner>>,
    /// The rsm: what it wants chosen, which read waits, what it has applied.
    wanted: BTreeMap<ProposalId, Proposal>,
    reading: Option<ProposalId>,
    applied: Vec<Option<ProposalId>>,
}

/// A message between nodes, or between the actors of one.
#[derive(Clone, Debug)]
pub enum Wire {
    Acceptor(ToAcceptor),
    Proposer(ToProposer),
    Learner(ToLearner),
    Log(Event),
}

impl fmt::Display for Wire {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Wire::Acceptor(message) => message.fmt(f),
            Wire::Proposer(message) => message.fmt(f),
            Wire::Learner(message) => message.fmt(f),
            Wire::Log(event) => write!(f, "{event:?}"),
        }
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Timer {
    Proposer(ProposerTimer),
    Learner(LearnerTimer),
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Part {
    /// The process.
    Node,
    /// One actor, which starts again in place.
    Acceptor,
    Proposer,
    Learner,
}

/// What a client asks.
#[derive(Clone, Copy, Debug)]
pub enum Input {
    Put(ProposalId),
    Read(ProposalId),
}

/// What a step tells the judge.
pub enum News {
    Durable(Record),
    Applied(Index, Option<ProposalId>),
    /// Everything below need be applied before the read.
    Answered(ProposalId, Slot),
}

/// The votes of one slot: per ballot, what for and whose.
type Votes = BTreeMap<Ballot, (Option<ProposalId>, BTreeSet<NodeId>)>;

/// What has happened so far.
#[derive(Clone, Debug, Default)]
pub struct Judge {
    asked: BTreeSet<ProposalId>,
    /// Every vote that was ever durable.
    votes: BTreeMap<Slot, Votes>,
    chosen: BTreeMap<Slot, Option<ProposalId>>,
    /// The highest promise that was ever durable.
    promised: BTreeMap<NodeId, Ballot>,
    /// The first slot above all that anybody has applied: it may have been answered.
    applied: Slot,
    /// Of each read that was asked, what that was then.
    reads: BTreeMap<ProposalId, Slot>,
    /// Whether a read was answered that has to see something.
    has_read: bool,
}

/// The name of an input, by the node that it is asked at.
pub fn id(node: u32, seq: u64) -> ProposalId {
    ProposalId { node: NodeId(node), life: 1, seq }
}

fn name(node: NodeId) -> Name {
    Name::new(node, GroupId(1), Role::Outside)
}

/// The values are small: what counts is which is which.
fn proposal(id: ProposalId) -> Proposal {
    Proposal { id, command: Bytes::new() }
}

pub fn id_of(value: &Value) -> Option<ProposalId> {
    value.as_ref().map(|proposal| proposal.id)
}

impl Paxos {
    fn proposer(&self, me: NodeId) -> Proposer {
        // How long is the world's business: it wakes whenever it likes.
        let ms = Duration::from_millis(1);
        let timing =
            Timing { retry: ms, campaign: ms, backoff_max: ms, linger: ms, resend: ms, hurry: ms };
        let limits =
            Limits { rounds_in_flight_max: self.rounds_in_flight_max, ..Limits::default() };
        Proposer::new(Config {
            me: Member { node: me, incarnation: Incarnation(1) },
            formation: Configuration::of(self.nodes.iter().copied()),
            holes: Holes::Filled,
            limits,
            timing,
        })
    }

    fn learner(&self, me: NodeId) -> Learner {
        let ms = Duration::from_millis(1);
        let timing = quorate_learner::Timing {
            fetch_after: ms,
            fetch_after_max: ms,
            done_after: ms,
            done_after_max: ms,
        };
        let formation = Configuration::of(self.nodes.iter().copied());
        Learner::new(me, formation, Holes::Filled, timing)
    }

    fn next(&self, node: NodeId) -> NodeId {
        let place = self.nodes.iter().position(|n| *n == node).unwrap_or(0);
        self.nodes[(place + 1) % self.nodes.len()]
    }

    fn quorum(&self) -> usize {
        self.nodes.len() / 2 + 1
    }

    /// First words of the actors, as their `started` has them.
    fn start(&self, node: &mut Node, parts: &[Part], fx: &mut Effects<Self>) {
        let mut run = Run::new(self, node.me, fx);
        if !self.acceptor_only.contains(&node.me) {
            for part in parts {
                match part {
                    Part::Learner => {
                        let said = node.learner.change().step(Learner::start);
                        run.learner(said);
                    }
                    Part::Proposer => {
                        let said = node.proposer.change().step(Proposer::start);
                        run.proposer(said);
                    }
                    Part::Acceptor | Part::Node => {}
                }
            }
        }
        run.go(node);
    }
}

/// What passes within a node during one step.
struct Run<'a> {
    paxos: &'a Paxos,
    me: NodeId,
    queue: VecDeque<(NodeId, Wire)>,
    fx: &'a mut Effects<Paxos>,
}

impl<'a> Run<'a> {
    fn new(paxos: &'a Paxos, me: NodeId, fx: &'a mut Effects<Paxos>) -> Self {
        Run { paxos, me, queue: VecDeque::new(), fx }
    }

    fn to(&mut self, node: NodeId, wire: Wire) {
        if node == self.me {
            self.queue.push_back((self.me, wire));
        } else if !self.paxos.acceptor_only.contains(&node) || matches!(wire, Wire::Acceptor(_)) {
            self.fx.sends.push((node, wire));
        }
    }

    fn acceptor(&mut self, said: Vec<AcceptorSays>) {
        for outbound in said {
            match outbound {
                AcceptorSays::Answer(node, answer) => {
                    self.to(node, Wire::Proposer(ToProposer::Answer(answer)));
                }
                AcceptorSays::Report(report) => {
                    self.to(self.me, Wire::Learner(ToLearner::Report(report)));
                }
                // For whoever looks: nobody does here.
                AcceptorSays::Bytes(..) => {}
            }
        }
    }

    fn proposer(&mut self, said: Vec<ProposerSays>) {
        for outbound in said {
            match outbound {
                ProposerSays::Acceptors(nodes, message) => {
                    for node in nodes {
                        self.to(node, Wire::Acceptor(message.clone()));
                    }
                }
                ProposerSays::Learner(node, message) => self.to(node, Wire::Learner(message)),
                ProposerSays::Proposer(node, message) => self.to(node, Wire::Proposer(message)),
                ProposerSays::Log(event) => self.to(self.me, Wire::Log(event)),
            }
        }
    }

    fn learner(&mut self, said: Vec<LearnerSays>) {
        for outbound in said {
            match outbound {
                LearnerSays::Acceptor(message) => self.to(self.me, Wire::Acceptor(message)),
                LearnerSays::Learner(node, message) => self.to(node, Wire::Learner(message)),
                LearnerSays::Proposer(node, notice) => {
                    self.to(node, Wire::Proposer(ToProposer::Notice(notice)));
                }
                LearnerSays::Log(event) => self.to(self.me, Wire::Log(event)),
                LearnerSays::Answer(..) => {}
            }
        }
    }

    /// Until the mailboxes are empty and nobody waits for that.
    fn go(&mut self, node: &mut Node) {
        loop {
            while let Some((from, wire)) = self.queue.pop_front() {
                self.handle(node, from, wire);
            }
            if node.proposer.drain() {
                let said = node.proposer.change().drained();
                self.proposer(said);
            } else {
                return;
            }
        }
    }

    fn handle(&mut self, node: &mut Node, from: NodeId, wire: Wire) {
        use quorate_protocol::Core as _;
        let asleep = self.paxos.acceptor_only.contains(&self.me);
        match wire {
            Wire::Acceptor(message) => {
                let said = node
                    .acceptor
                    .change()
                    .step(|core, out| core.on_message(name(from), message, out));
                self.acceptor(said);
                if self.paxos.planted == Some(Planted::SpokenEarly) {
                    let said = node.acceptor.change().speak_early();
                    self.acceptor(said);
                }
            }
            _ if asleep => {}
            Wire::Proposer(message) => {
                let as_well =
                    self.planted(&message).then(|| (self.paxos.next(from), message.clone()));
                let message = self.overlook(message);
                for (from, message) in [(from, message)].into_iter().chain(as_well) {
                    let said = node
                        .proposer
                        .change()
                        .step(|core, out| core.on_message(name(from), message, out));
                    self.proposer(said);
                }
            }
            Wire::Learner(message) => {
                let said = node
                    .learner
                    .change()
                    .step(|core, out| core.on_message(name(from), message, out));
                self.learner(said);
            }
            Wire::Log(event) => self.on_event(node, event),
        }
    }

    /// Whether this answer is to be taken for one of the next node too.
    fn planted(&self, message: &ToProposer) -> bool {
        use quorate_acceptor::Answer;
        matches!(
            (self.paxos.planted, message),
            (Some(Planted::VoteCountedTwice), ToProposer::Answer(Answer::Accepted { .. }))
                | (Some(Planted::PromiseCountedTwice), ToProposer::Answer(Answer::Promise { .. }))
                | (Some(Planted::ReadUnconfirmed), ToProposer::Answer(Answer::Confirmed { .. }))
        )
    }

    fn overlook(&self, mut message: ToProposer) -> ToProposer {
        if let ToProposer::Answer(quorate_acceptor::Answer::Promise { votes, .. }) = &mut message
            && self.paxos.planted == Some(Planted::VotesOverlooked)
        {
            votes.clear();
        }
        message
    }

    /// The rsm hears from its engine.
    fn on_event(&mut self, node: &mut Node, event: Event) {
        match event {
            Event::Chosen { entries, position } => {
                for chosen in entries {
                    let id = id_of(&chosen.proposal);
                    let due = Index(node.applied.len() as u64 + 1);
                    assert_eq!(chosen.index, due, "handed over out of order");
                    node.applied.push(id);
                    id.map(|id| node.wanted.remove(&id));
                    self.fx.news.push(News::Applied(chosen.index, id));
                }
                assert_eq!(position.index.0, node.applied.len() as u64, "a wrong position");
            }
            Event::Barrier { id, from } => {
                let is_answered =
                    |open: &mut ProposalId| open.life == id.life && open.seq <= id.seq;
                let read = node.reading.take_if(is_answered);
                self.fx.news.extend(read.map(|read| News::Answered(read, Slot(from.0))));
            }
            Event::SubscribeAgain => {
                let from = Index(node.applied.len() as u64 + 1);
                self.to(self.me, Wire::Learner(ToLearner::Log(Request::Subscribe { from })));
            }
            Event::ProposeAgain => {
                for proposal in node.wanted.values() {
                    let request = Request::Propose(proposal.clone());
                    self.to(self.me, Wire::Proposer(ToProposer::Log(request)));
                }
                if let Some(id) = node.reading {
                    let request = Request::ReadBarrier { id };
                    self.to(self.me, Wire::Proposer(ToProposer::Log(request)));
                }
            }
            _ => {}
        }
    }
}

impl Engine for Paxos {
    type Node = Node;
    type Wire = Wire;
    type Timer = Timer;
    type Input = Input;
    type Part = Part;
    type News = News;
    type Judge = Judge;

    fn boot(&self, me: NodeId, fx: &mut Effects<Self>) -> Node {
        let mut node = Node {
            me,
            acceptor: Known::new(Seat::new(Acceptor::recover([]), vec![])),
            proposer: Known::new(Seat::new(self.proposer(me), vec![])),
            learner: Known::new(Seat::new(self.learner(me), vec![])),
            wanted: BTreeMap::new(),
            reading: None,
            applied: vec![],
        };
        self.start(&mut node, &[Part::Learner, Part::Proposer], fx);
        node
    }

    fn deliver(&self, node: &mut Node, from: NodeId, wire: &Wire, fx: &mut Effects<Self>) {
        let mut run = Run::new(self, node.me, fx);
        run.queue.push_back((from, wire.clone()));
        run.go(node);
    }

    fn ask(&self, node: &mut Node, input: &Input, fx: &mut Effects<Self>) {
        let mut run = Run::new(self, node.me, fx);
        let request = match input {
            Input::Put(id) => {
                node.wanted.insert(*id, proposal(*id));
                Request::Propose(proposal(*id))
            }
            Input::Read(id) => {
                node.reading = Some(*id);
                Request::ReadBarrier { id: *id }
            }
        };
        run.to(node.me, Wire::Proposer(ToProposer::Log(request)));
        run.go(node);
    }

    fn timers(&self, node: &Node) -> Vec<Timer> {
        let proposer = node.proposer.timers().map(|timer| Timer::Proposer(*timer));
        let learner = node.learner.timers().map(|timer| Timer::Learner(*timer));
        proposer.chain(learner).filter(|timer| self.timers.contains(timer)).collect()
    }

    fn fire(&self, node: &mut Node, timer: &Timer, fx: &mut Effects<Self>) {
        let mut run = Run::new(self, node.me, fx);
        match timer {
            Timer::Proposer(timer) => {
                let said = node.proposer.change().fire(*timer);
                run.proposer(said);
            }
            Timer::Learner(timer) => {
                let said = node.learner.change().fire(*timer);
                run.learner(said);
            }
        }
        run.go(node);
    }

    fn unsynced(&self, node: &Node) -> usize {
        node.acceptor.unsynced()
    }

    fn sync(&self, node: &mut Node, fx: &mut Effects<Self>) {
        let (records, said) = node.acceptor.change().sync();
        fx.news.extend(records.into_iter().map(News::Durable));
        if self.parts.is_empty() {
            node.acceptor.change().forget_disk();
        }
        let mut run = Run::new(self, node.me, fx);
        run.acceptor(said);
        run.go(node);
    }

    fn crashes(&self, node: &Node) -> Vec<(Part, usize)> {
        let survive = |part: &Part| match part {
            Part::Node => node.acceptor.unsynced(),
            // The journal is another actor: what it was given gets to the disk.
            _ => 0,
        };
        self.parts.iter().map(|part| (*part, survive(part))).collect()
    }

    fn crash(&self, node: &mut Node, part: &Part, survive: usize, fx: &mut Effects<Self>) {
        let me = node.me;
        if matches!(part, Part::Node | Part::Acceptor) {
            let survive = if *part == Part::Node { survive } else { node.acceptor.unsynced() };
            let (mut disk, new) = (*node.acceptor).clone().crash(survive);
            fx.news.extend(new.into_iter().map(News::Durable));
            if self.planted == Some(Planted::PromisesForgotten) {
                disk.retain(|record| !matches!(record, Record::Promised(_)));
            }
            node.acceptor = Known::new(Seat::new(Acceptor::recover(disk.iter().cloned()), disk));
        }
        if matches!(part, Part::Node | Part::Learner) {
            node.learner = Known::new(Seat::new(self.learner(me), vec![]));
        }
        if matches!(part, Part::Node | Part::Proposer) {
            node.proposer = Known::new(Seat::new(self.proposer(me), vec![]));
        }
        if *part == Part::Node {
            // Whoever waited has lost the connection, and the machine is built anew from the log.
            node.wanted.clear();
            node.reading = None;
            node.applied.clear();
        }
        let parts = match part {
            Part::Node => &[Part::Learner, Part::Proposer][..],
            part => &[*part],
        };
        self.start(node, parts, fx);
    }

    fn settle(&self, node: &mut Node) {
        node.acceptor.settle();
        node.proposer.settle();
        node.learner.settle();
    }

    fn within(&self, node: &Node) -> bool {
        node.acceptor.core.promised().round <= self.rounds_max
            && node.proposer.core.highest().round <= self.rounds_max
    }

    fn asked(&self, judge: &mut Judge, input: &Input) {
        match input {
            Input::Put(id) => {
                judge.asked.insert(*id);
            }
            Input::Read(id) => {
                judge.reads.insert(*id, judge.applied);
            }
        }
    }

    fn learn(&self, judge: &mut Judge, node: NodeId, news: News) -> Result<(), String> {
        match news {
            News::Durable(Record::Promised(ballot)) => {
                let promised = judge.promised.entry(node).or_default();
                *promised = (*promised).max(ballot);
            }
            News::Durable(Record::Standing { promised: ballot, .. }) => {
                let promised = judge.promised.entry(node).or_default();
                *promised = (*promised).max(ballot);
            }
            News::Durable(Record::Voted { ballot, entries, .. }) => {
                let promised = judge.promised.entry(node).or_default();
                if ballot < *promised {
                    return Err(format!("{node} votes in {ballot} and has promised {promised}"));
                }
                *promised = ballot;
                for (slot, value) in entries {
                    self.vote(judge, node, ballot, slot, id_of(&value))?;
                }
            }
            News::Applied(index, id) => {
                if judge.chosen.get(&Slot(index.0)) != Some(&id) {
                    return Err(format!("{node} applies {id:?} at {index}, which is not chosen"));
                }
                judge.applied = judge.applied.max(Slot(index.0).next());
            }
            News::Answered(id, from) => {
                let above = judge.reads.get(&id).copied().unwrap_or_default();
                if from < above {
                    return Err(format!(
                        "a read from {from} misses what was applied below {above}"
                    ));
                }
                judge.has_read |= above > Slot(0);
            }
        }
        Ok(())
    }

    fn judge(&self, judge: &Judge, node: NodeId, now: &Node) -> Result<(), String> {
        let promised = now.acceptor.core.promised();
        let durable = judge.promised.get(&node).copied().unwrap_or_default();
        if promised < durable {
            return Err(format!("A1: {node} has promised {durable} and goes back to {promised}"));
        }
        for (slot, value) in now.learner.core.chosen() {
            if judge.chosen.get(slot) != Some(&id_of(value)) {
                return Err(format!("{node} learns what is not chosen in slot {slot}"));
            }
        }
        let alarms = [&now.acceptor.alarms, &now.proposer.alarms, &now.learner.alarms];
        match alarms.into_iter().flatten().next() {
            Some(alarm) => Err(format!("{node} raises an alarm: {alarm}")),
            None => Ok(()),
        }
    }

    fn goals(&self) -> Vec<Property<World<Self>>> {
        vec![
            Property::sometimes(CHOSEN, |_, state: &State<Self>| !state.judge.chosen.is_empty()),
            Property::sometimes(ALL_CHOSEN, |_, state: &State<Self>| {
                let chosen: BTreeSet<_> = state.judge.chosen.values().flatten().collect();
                !chosen.is_empty() && chosen.len() == state.judge.asked.len()
            }),
            Property::sometimes(CHOSEN_TWICE, |world: &World<Self>, state: &State<Self>| {
                let quorum = world.engine.quorum();
                state.judge.votes.values().any(|votes| {
                    votes.values().filter(|(_, voters)| voters.len() >= quorum).count() > 1
                })
            }),
            Property::sometimes(READ, |_, state: &State<Self>| state.judge.has_read),
            Property::sometimes(APPLIED, |world: &World<Self>, state: &State<Self>| {
                let awake = |node: &&Known<Node>| !world.engine.acceptor_only.contains(&node.me);
                let applied = |node: &Known<Node>| node.applied.len();
                let all = state.judge.chosen.len();
                all > 0 && state.nodes.iter().filter(awake).all(|node| applied(node) == all)
            }),
            Property::sometimes(AFTER_A_CRASH, |world: &World<Self>, state: &State<Self>| {
                state.has_crashed(world) && !state.judge.chosen.is_empty()
            }),
        ]
    }
}

/// What some run reaches.
pub const CHOSEN: &str = "something is chosen";
pub const ALL_CHOSEN: &str = "everything that was asked is chosen";
pub const CHOSEN_TWICE: &str = "a value is chosen again in a higher ballot";
pub const READ: &str = "a read is answered that must see something";
pub const APPLIED: &str = "everybody has applied all that is chosen";
pub const AFTER_A_CRASH: &str = "something is chosen, and something has crashed";

impl Paxos {
    /// A durable vote. One value per slot, and what is chosen stays chosen (PMS, P2).
    fn vote(
        &self,
        judge: &mut Judge,
        node: NodeId,
        ballot: Ballot,
        slot: Slot,
        value: Option<ProposalId>,
    ) -> Result<(), String> {
        if value.is_some_and(|id| !judge.asked.contains(&id)) {
            return Err(format!("slot {slot}: {value:?} was never proposed"));
        }
        let votes = judge.votes.entry(slot).or_default();
        let (known, voters) = votes.entry(ballot).or_insert((value, BTreeSet::new()));
        if *known != value {
            return Err(format!("slot {slot}: two values in ballot {ballot}"));
        }
        voters.insert(node);
        let chosen = votes.iter().find(|(_, (_, voters))| voters.len() >= self.quorum());
        let Some((first, (chosen, _))) = chosen else { return Ok(()) };
        if votes.range(first..).any(|(_, (value, _))| value != chosen) {
            return Err(format!("P2: slot {slot} is chosen in {first}, and another value after"));
        }
        if judge.chosen.insert(slot, *chosen).is_some_and(|before| before != *chosen) {
            return Err(format!("slot {slot}: two values are chosen"));
        }
        Ok(())
    }
}
