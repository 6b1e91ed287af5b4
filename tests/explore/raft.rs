//! Raft in a world: a peer on each node, with as much of an rsm as asks and applies.

use std::{
    collections::{BTreeMap, BTreeSet, VecDeque},
    fmt,
    time::Duration,
};

use bytes::Bytes;
use quorate_protocol::{
    Configuration, Core as _, GroupId, Name, NodeId, Role,
    log::{Event, Index, Proposal, ProposalId, Request},
};
use quorate_raft::{
    Config, Entry, Limits, Message, Outbound, Payload, Peer, Place, Record, Term, Timer, Timing,
};
use quorate_stage::DurableCore as _;
use stateright::Property;

use super::{
    paxos::{Input, id_of},
    seat::{Explored, Seat},
    world::{Effects, Engine, Known, State, World},
};

fn config(me: NodeId, nodes: &[NodeId]) -> Config {
    // How long is the world's business: it wakes whenever it likes.
    let ms = Duration::from_millis(1);
    let timing = Timing {
        heartbeat: ms,
        election: (ms, ms),
        linger: ms,
        retry: ms,
        resend_after: 1,
        hurry: (ms, ms),
    };
    let formation = Configuration::of(nodes.iter().copied());
    Config { me, formation, limits: Limits::default(), timing }
}

impl Explored for Peer {
    fn memory(records: &[Record]) -> String {
        // Who it is, and with whom, makes no difference to what it remembers.
        format!("{:?}", Peer::recover(config(NodeId(0), &[]), records.to_vec()))
    }
}

/// An error planted on purpose: the model must find each.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Planted {
    /// The term is on the disk, and not who was voted for in it.
    VotesForgotten,
    /// Sends do not wait for the disk.
    SpokenEarly,
    /// A vote counts for whoever has cast it and for the next node too.
    VoteCountedTwice,
    /// What a follower has appended, the next node has appended too.
    AppendedCountedTwice,
}

/// A group of Raft peers.
pub struct Raft {
    pub nodes: Vec<NodeId>,
    /// Highest term that a run goes into.
    pub terms_max: u64,
    /// Longest log.
    pub places_max: u64,
    /// Which timers run out, and on which nodes.
    pub timers: Vec<(NodeId, Timer)>,
    pub planted: Option<Planted>,
}

/// A node.
#[derive(Clone, Debug)]
pub struct Node {
    me: NodeId,
    peer: Known<Seat<Peer>>,
    /// The rsm: what it wants chosen, which read waits, what it has applied.
    wanted: BTreeMap<ProposalId, Proposal>,
    reading: Option<ProposalId>,
    applied: Vec<ProposalId>,
}

/// A message between nodes, or to the node's own rsm.
#[derive(Clone, Debug)]
pub enum Wire {
    Peer(Message),
    Log(Event),
}

impl fmt::Display for Wire {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Wire::Peer(message) => message.fmt(f),
            Wire::Log(event) => write!(f, "{event:?}"),
        }
    }
}

/// What a step tells the judge.
pub enum News {
    Durable(Record),
    Leads(Term),
    /// A peer takes this for committed.
    Committed(Place, Term, Option<ProposalId>),
    Applied(Index, ProposalId),
    Answered(ProposalId, Index),
}

/// What has happened so far.
#[derive(Clone, Debug, Default)]
pub struct Judge {
    asked: BTreeSet<ProposalId>,
    /// Who leads, or led.
    leaders: BTreeMap<Term, NodeId>,
    /// The vote of each node in each term, once it is durable.
    votes: BTreeMap<(NodeId, Term), NodeId>,
    /// The highest term that was ever durable.
    terms: BTreeMap<NodeId, Term>,
    /// What is on the disk of each node.
    logs: BTreeMap<NodeId, Vec<(Term, Option<ProposalId>)>>,
    /// What anybody ever took for committed.
    committed: BTreeMap<Place, (Term, Option<ProposalId>)>,
    applied: BTreeMap<Index, ProposalId>,
    /// Of each read that was asked, what anybody had applied then.
    reads: BTreeMap<ProposalId, Index>,
    has_read: bool,
}

fn command(entry: &Entry) -> Option<ProposalId> {
    match &entry.payload {
        Payload::Command(proposal) => Some(proposal.id),
        Payload::NoOp | Payload::Configuration(_) => None,
    }
}

struct Run<'a> {
    raft: &'a Raft,
    me: NodeId,
    queue: VecDeque<(NodeId, Wire)>,
    fx: &'a mut Effects<Raft>,
}

impl<'a> Run<'a> {
    fn new(raft: &'a Raft, me: NodeId, fx: &'a mut Effects<Raft>) -> Self {
        Run { raft, me, queue: VecDeque::new(), fx }
    }

    fn say(&mut self, said: Vec<Outbound>) {
        for outbound in said {
            match outbound {
                Outbound::Peers(nodes, message) => {
                    for node in nodes {
                        let wire = Wire::Peer(message.clone());
                        match node == self.me {
                            true => self.queue.push_back((node, wire)),
                            false => self.fx.sends.push((node, wire)),
                        }
                    }
                }
                Outbound::Log(event) => self.queue.push_back((self.me, Wire::Log(event))),
                Outbound::Reconfigured(..) | Outbound::Status(..) => {}
            }
        }
    }

    /// Until the mailbox is empty and nobody waits for that; then tells the judge where the peer
    /// stands.
    fn go(&mut self, node: &mut Node) {
        loop {
            while let Some((from, wire)) = self.queue.pop_front() {
                match wire {
                    Wire::Peer(message) => self.handle(node, from, message),
                    Wire::Log(event) => self.on_event(node, event),
                }
            }
            if !node.peer.drain() {
                break;
            }
            let said = node.peer.change().drained();
            self.say(said);
        }
        let core = &node.peer.core;
        if core.leads() {
            self.fx.news.push(News::Leads(core.term()));
        }
        for place in (1..=core.commit().0).map(Place) {
            let entry = core.log().get(place).expect("nothing is forgotten here");
            self.fx.news.push(News::Committed(place, entry.term, command(entry)));
        }
    }

    fn handle(&mut self, node: &mut Node, from: NodeId, message: Message) {
        let mut senders = vec![from];
        let counts_twice = matches!(
            (&message, self.raft.planted),
            (Message::Vote { .. }, Some(Planted::VoteCountedTwice))
                | (Message::Appended { .. }, Some(Planted::AppendedCountedTwice))
        );
        if counts_twice {
            let place = self.raft.nodes.iter().position(|n| *n == from).unwrap_or(0);
            senders.push(self.raft.nodes[(place + 1) % self.raft.nodes.len()]);
        }
        for from in senders {
            let name = Name::new(from, GroupId(1), Role::Outside);
            let message = message.clone();
            let said = node.peer.change().step(|core, out| core.on_message(name, message, out));
            self.say(said);
        }
        if self.raft.planted == Some(Planted::SpokenEarly) {
            let said = node.peer.change().speak_early();
            self.say(said);
        }
    }

    fn ask(&mut self, request: Request) {
        self.queue.push_back((self.me, Wire::Peer(Message::Log(request))));
    }

    /// The rsm hears from its engine.
    fn on_event(&mut self, node: &mut Node, event: Event) {
        match event {
            Event::Chosen { entries, position } => {
                for chosen in entries {
                    let due = Index(node.applied.len() as u64 + 1);
                    assert_eq!(chosen.index, due, "handed over out of order");
                    let id = id_of(&chosen.proposal).expect("Raft hands over commands only");
                    node.applied.push(id);
                    node.wanted.remove(&id);
                    self.fx.news.push(News::Applied(chosen.index, id));
                }
                assert_eq!(position.index.0, node.applied.len() as u64, "a wrong position");
            }
            Event::Barrier { id, from } => {
                let is_answered =
                    |open: &mut ProposalId| open.life == id.life && open.seq <= id.seq;
                let read = node.reading.take_if(is_answered);
                self.fx.news.extend(read.map(|read| News::Answered(read, from)));
            }
            Event::SubscribeAgain => {
                let from = Index(node.applied.len() as u64 + 1);
                self.ask(Request::Subscribe { from });
            }
            Event::ProposeAgain => {
                let wanted: Vec<Proposal> = node.wanted.values().cloned().collect();
                wanted.into_iter().for_each(|proposal| self.ask(Request::Propose(proposal)));
                if let Some(id) = node.reading {
                    self.ask(Request::ReadBarrier { id });
                }
            }
            _ => {}
        }
    }
}

impl Engine for Raft {
    type Node = Node;
    type Wire = Wire;
    type Timer = Timer;
    type Input = Input;
    type Part = ();
    type News = News;
    type Judge = Judge;

    fn boot(&self, me: NodeId, fx: &mut Effects<Self>) -> Node {
        let core = Peer::recover(config(me, &self.nodes), vec![]).expect("a blank disk");
        let peer = Known::new(Seat::new(core, vec![]));
        let (wanted, applied) = (BTreeMap::new(), vec![]);
        let mut node = Node { me, peer, wanted, reading: None, applied };
        let mut run = Run::new(self, me, fx);
        let said = node.peer.change().step(|core, out| core.start(out));
        run.say(said);
        run.go(&mut node);
        node
    }

    fn deliver(&self, node: &mut Node, from: NodeId, wire: &Wire, fx: &mut Effects<Self>) {
        let mut run = Run::new(self, node.me, fx);
        run.queue.push_back((from, wire.clone()));
        run.go(node);
    }

    fn ask(&self, node: &mut Node, input: &Input, fx: &mut Effects<Self>) {
        let mut run = Run::new(self, node.me, fx);
        match *input {
            Input::Put(id) => {
                let proposal = Proposal { id, command: Bytes::new() };
                node.wanted.insert(id, proposal.clone());
                run.ask(Request::Propose(proposal));
            }
            Input::Read(id) => {
                node.reading = Some(id);
                run.ask(Request::ReadBarrier { id });
            }
        }
        run.go(node);
    }

    fn timers(&self, node: &Node) -> Vec<Timer> {
        let timers = node.peer.timers().copied();
        timers.filter(|timer| self.timers.contains(&(node.me, *timer))).collect()
    }

    fn fire(&self, node: &mut Node, timer: &Timer, fx: &mut Effects<Self>) {
        let mut run = Run::new(self, node.me, fx);
        let said = node.peer.change().fire(*timer);
        run.say(said);
        run.go(node);
    }

    fn unsynced(&self, node: &Node) -> usize {
        node.peer.unsynced()
    }

    fn sync(&self, node: &mut Node, fx: &mut Effects<Self>) {
        let (records, said) = node.peer.change().sync();
        fx.news.extend(records.into_iter().map(News::Durable));
        let mut run = Run::new(self, node.me, fx);
        run.say(said);
        run.go(node);
    }

    fn crashes(&self, node: &Node) -> Vec<((), usize)> {
        vec![((), node.peer.unsynced())]
    }

    fn crash(&self, node: &mut Node, _: &(), survive: usize, fx: &mut Effects<Self>) {
        let (mut disk, new) = (*node.peer).clone().crash(survive);
        fx.news.extend(new.into_iter().map(News::Durable));
        if self.planted == Some(Planted::VotesForgotten) {
            for record in &mut disk {
                if let Record::Voted { voted_for, .. } = record {
                    *voted_for = None;
                }
            }
        }
        let core = Peer::recover(config(node.me, &self.nodes), disk.clone());
        let core = core.unwrap_or_else(|error| panic!("the disk cannot be read: {error}"));
        node.peer = Known::new(Seat::new(core, disk));
        // Whoever waited has lost the connection, and the machine is built anew from the log.
        node.wanted.clear();
        node.reading = None;
        node.applied.clear();
        let mut run = Run::new(self, node.me, fx);
        let said = node.peer.change().step(|core, out| core.start(out));
        run.say(said);
        run.go(node);
    }

    fn settle(&self, node: &mut Node) {
        node.peer.settle();
    }

    fn within(&self, node: &Node) -> bool {
        let core = &node.peer.core;
        core.term().0 <= self.terms_max && core.log().last().0 <= self.places_max
    }

    fn asked(&self, judge: &mut Judge, input: &Input) {
        match input {
            Input::Put(id) => {
                judge.asked.insert(*id);
            }
            Input::Read(id) => {
                let applied = judge.applied.last_key_value().map_or(Index(0), |(index, _)| *index);
                judge.reads.insert(*id, applied);
            }
        }
    }

    fn learn(&self, judge: &mut Judge, node: NodeId, news: News) -> Result<(), String> {
        match news {
            News::Durable(record) => return durable(judge, node, record),
            News::Leads(term) => {
                let leader = *judge.leaders.entry(term).or_insert(node);
                if leader != node {
                    return Err(format!("{term} has two leaders, {leader} and {node}"));
                }
            }
            News::Committed(place, term, id) => {
                let known = *judge.committed.entry(place).or_insert((term, id));
                if known != (term, id) {
                    return Err(format!("{node} has another entry of {term} committed at {place}"));
                }
                let has = |log: &Vec<(Term, Option<ProposalId>)>| {
                    log.get(place.0 as usize - 1) == Some(&(term, id))
                };
                let holders = judge.logs.values().filter(|log| has(log)).count();
                if holders <= self.nodes.len() / 2 {
                    return Err(format!("{node} takes {place} for committed, {holders} have it"));
                }
            }
            News::Applied(index, id) => {
                let known = *judge.applied.entry(index).or_insert(id);
                if known != id {
                    return Err(format!("{node} applies {id} at {index}, where {known} was"));
                }
                if !judge.asked.contains(&id) {
                    return Err(format!("{node} applies {id}, which was never proposed"));
                }
            }
            News::Answered(id, from) => {
                let applied = judge.reads.get(&id).copied().unwrap_or_default();
                if from <= applied {
                    return Err(format!("a read from {from} misses what was applied at {applied}"));
                }
                judge.has_read |= applied > Index(0);
            }
        }
        Ok(())
    }

    fn judge(&self, judge: &Judge, node: NodeId, now: &Node) -> Result<(), String> {
        let (term, durable) = (now.peer.core.term(), judge.terms.get(&node).copied());
        if durable.is_some_and(|durable| term < durable) {
            return Err(format!("T1: {node} goes back to {term}"));
        }
        match now.peer.alarms.first() {
            Some(alarm) => Err(format!("{node} raises an alarm: {alarm}")),
            None => Ok(()),
        }
    }

    fn goals(&self) -> Vec<Property<World<Self>>> {
        vec![
            Property::sometimes(COMMITTED, |_, state: &State<Self>| {
                !state.judge.applied.is_empty()
            }),
            Property::sometimes(NEXT_LEADER, |_, state: &State<Self>| {
                let leaders: BTreeSet<NodeId> = state.judge.leaders.values().copied().collect();
                leaders.len() > 1
            }),
            Property::sometimes(READ, |_, state: &State<Self>| state.judge.has_read),
            Property::sometimes(APPLIED, |_, state: &State<Self>| {
                !state.judge.applied.is_empty()
                    && state
                        .nodes
                        .iter()
                        .all(|node| node.applied.len() == state.judge.applied.len())
            }),
            Property::sometimes(AFTER_A_CRASH, |world: &World<Self>, state: &State<Self>| {
                state.has_crashed(world) && !state.judge.applied.is_empty()
            }),
        ]
    }
}

/// One vote in each term, one entry for each place and term, terms that do not go back.
fn durable(judge: &mut Judge, node: NodeId, record: Record) -> Result<(), String> {
    match record {
        Record::Voted { term, voted_for } => {
            let known = judge.terms.entry(node).or_default();
            if term < *known {
                return Err(format!("T1: {node} writes {term} after {known}"));
            }
            *known = term;
            let Some(candidate) = voted_for else { return Ok(()) };
            let known = *judge.votes.entry((node, term)).or_insert(candidate);
            if known != candidate {
                return Err(format!("{node} votes for {known} and {candidate} in {term}"));
            }
        }
        Record::Appended { from, entries } => {
            let log = judge.logs.entry(node).or_default();
            log.truncate(from.0 as usize - 1);
            log.extend(entries.iter().map(|entry| (entry.term, command(entry))));
        }
        Record::Standing { .. } | Record::Installed { .. } => {}
    }
    for (place, entry) in judge.logs.get(&node).into_iter().flatten().enumerate() {
        for log in judge.logs.values() {
            let other = log.get(place);
            if other.is_some_and(|other| other.0 == entry.0 && other != entry) {
                return Err(format!("two entries of {} at {}", entry.0, place + 1));
            }
        }
    }
    Ok(())
}

/// What some run reaches.
pub const COMMITTED: &str = "a command is committed";
pub const NEXT_LEADER: &str = "one leader follows another";
pub const READ: &str = "a read is answered that must see something";
pub const APPLIED: &str = "everybody has applied all that is committed";
pub const AFTER_A_CRASH: &str = "something is committed, and something has crashed";
