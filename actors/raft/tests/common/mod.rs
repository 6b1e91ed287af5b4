//! A small group of peers without actors: virtual time, a network that loses, repeats and reorders,
//! journals that lose what was not synced. Every step is checked against the four properties of
//! Figure 3 that are about more than one peer, and reads and offers against what they promise.

#![allow(dead_code, unreachable_pub, reason = "each test binary uses its own part of this")]

use std::{
    collections::{BTreeMap, BTreeSet, VecDeque},
    sync::{Arc, Mutex},
    time::Duration,
};

use quorate_protocol::{
    Configuration, Core, GroupId, Name, NodeId, Out, Role, TimerRequest,
    log::{Chosen, Event, Index, Position, Proposal, ProposalId, Request},
};
use quorate_raft::{
    Config, Entry, Limits, Match, Message, Outbound, Payload, Peer, Place, Reconfigured, Record,
    Status, Term, Timer, Timing,
};
use quorate_stage::{Class, DurableCore, Outlet, WireMessage as _};
use rand::{Rng, SeedableRng};
use rand_chacha::ChaCha8Rng;

pub const fn ms(ms: u64) -> Duration {
    Duration::from_millis(ms)
}

pub fn timing() -> Timing {
    Timing {
        heartbeat: ms(50),
        election: (ms(150), ms(300)),
        linger: ms(5),
        retry: ms(100),
        resend_after: 1,
        hurry: (ms(20), ms(40)),
    }
}

pub fn node(number: u32) -> NodeId {
    NodeId(number)
}

pub fn set(numbers: &[u32]) -> BTreeSet<NodeId> {
    numbers.iter().copied().map(NodeId).collect()
}

pub fn name(node: NodeId) -> Name {
    Name::new(node, GroupId(1), Role::Raft)
}

pub fn config(me: u32, voters: &[u32]) -> Config {
    Config {
        me: NodeId(me),
        formation: Configuration::of(set(voters)),
        limits: Limits::default(),
        timing: timing(),
    }
}

pub fn proposal(node: u32, seq: u64) -> Proposal {
    let id = ProposalId { node: NodeId(node), life: 1, seq };
    Proposal { id, command: format!("{node}.{seq}").into_bytes().into() }
}

/// An entry of this term: a command if it has a number, otherwise a no-op.
pub fn entry(term: u64, seq: Option<u64>) -> Entry {
    let payload = seq.map_or(Payload::NoOp, |seq| Payload::Command(proposal(9, seq)));
    Entry { term: Term(term), payload }
}

/// Entries of these terms, each a command; two logs with equal terms have equal entries.
pub fn entries(terms: &[u64]) -> Vec<Entry> {
    let numbered = terms.iter().zip(1..);
    numbered.map(|(term, place)| entry(*term, Some(term * 1000 + place))).collect()
}

/// The terms of a peer's log, from its base on.
pub fn terms(peer: &Peer) -> Vec<u64> {
    let log = peer.log();
    (log.base().place + 1..=log.last().0)
        .map(|place| log.term_at(Place(place)).unwrap().0)
        .collect()
}

/// One peer, spoken to by hand. What it says is kept apart: at once, and once its disk is.
pub struct Solo {
    pub peer: Peer,
    pub me: NodeId,
    pub timers: BTreeMap<Timer, TimerRequest>,
    pub alarms: Vec<String>,
    pub records: Vec<Record>,
}

/// What a step of a peer has said.
#[derive(Default)]
pub struct Said {
    pub at_once: Vec<Outbound>,
    pub once_durable: Vec<Outbound>,
    pub records: Vec<Record>,
}

impl Said {
    /// Messages to peers, the one at once first: to whom, and what.
    pub fn messages(&self) -> Vec<(NodeId, Message)> {
        let all = self.at_once.iter().chain(&self.once_durable);
        let peers = all.filter_map(|outbound| match outbound {
            Outbound::Peers(nodes, message) => Some((nodes, message)),
            _ => None,
        });
        peers.flat_map(|(nodes, m)| nodes.iter().map(|node| (*node, m.clone()))).collect()
    }

    pub fn to(&self, node: u32) -> Vec<Message> {
        let messages = self.messages().into_iter();
        messages.filter(|(to, _)| *to == NodeId(node)).map(|(_, message)| message).collect()
    }

    pub fn events(&self) -> Vec<Event> {
        let all = self.at_once.iter().chain(&self.once_durable);
        let events = all.filter_map(|outbound| match outbound {
            Outbound::Log(event) => Some(event.clone()),
            _ => None,
        });
        events.collect()
    }
}

impl Solo {
    pub fn new(me: u32, voters: &[u32], records: Vec<Record>) -> Solo {
        let peer = Peer::recover(config(me, voters), records).unwrap();
        let (timers, alarms) = (BTreeMap::new(), vec![]);
        let mut solo = Solo { peer, me: NodeId(me), timers, alarms, records: vec![] };
        solo.step(|peer, out| peer.start(out));
        solo
    }

    /// A peer in this term with a log of entries of these terms.
    pub fn with_log(me: u32, voters: &[u32], term: u64, log: &[u64]) -> Solo {
        let voted = Record::Voted { term: Term(term), voted_for: None };
        let appended = Record::Appended { from: Place(1), entries: entries(log) };
        Solo::new(me, voters, vec![voted, appended])
    }

    pub fn step(&mut self, step: impl FnOnce(&mut Peer, &mut Out<Peer>)) -> Said {
        let mut said = Said::default();
        let mut out = Out::default();
        step(&mut self.peer, &mut out);
        loop {
            self.peer.invariants();
            self.timers.extend(out.timers.drain(..));
            self.alarms.append(&mut out.alarms);
            said.at_once.append(&mut out.sends_at_once);
            said.once_durable.append(&mut out.sends);
            said.records.append(&mut out.records);
            if !std::mem::take(&mut out.drain) {
                break;
            }
            self.peer.on_drained(&mut out);
        }
        self.records.extend(said.records.iter().cloned());
        said
    }

    pub fn hear(&mut self, from: u32, message: Message) -> Said {
        self.step(|peer, out| peer.on_message(name(NodeId(from)), message, out))
    }

    pub fn timer(&mut self, timer: Timer) -> Said {
        self.timers.remove(&timer);
        self.step(|peer, out| peer.on_timer(timer, out))
    }

    /// Hears what it has said to itself, as it would when that is durable.
    pub fn durable(&mut self, said: &Said) -> Said {
        let mut all = Said::default();
        for message in said.to(self.me.0) {
            let more = self.hear(self.me.0, message);
            all.at_once.extend(more.at_once);
            all.once_durable.extend(more.once_durable);
            all.records.extend(more.records);
        }
        all
    }

    /// Wins an election: the votes of `voters` besides its own.
    pub fn elect(&mut self, voters: &[u32]) -> Said {
        self.timer(Timer::Election);
        let pre_term = self.peer.term().next();
        let mut said = Said::default();
        for voter in voters {
            if self.peer.term() < pre_term {
                said = self.hear(*voter, vote(pre_term.0, true, true));
            }
        }
        let mut last = self.durable(&said);
        for voter in voters {
            if !self.peer.leads() {
                last = self.hear(*voter, vote(pre_term.0, false, true));
            }
        }
        assert!(self.peer.leads(), "it has a majority and does not lead");
        last
    }
}

pub fn vote(term: u64, pre_vote: bool, granted: bool) -> Message {
    Message::Vote { term: Term(term), pre_vote, granted }
}

pub fn request_vote(term: u64, (last_term, last): (u64, u64), pre_vote: bool) -> Message {
    Message::RequestVote {
        term: Term(term),
        last_log_index: Place(last),
        last_log_term: Term(last_term),
        pre_vote,
        transfer: false,
    }
}

pub fn append(
    term: u64,
    (prev, prev_term): (u64, u64),
    entries: Vec<Entry>,
    leader_commit: u64,
) -> Message {
    Message::AppendEntries {
        term: Term(term),
        prev_log_index: Place(prev),
        prev_log_term: Term(prev_term),
        entries,
        leader_commit: Place(leader_commit),
        round: 1,
    }
}

pub fn appended(term: u64, round: u64, through: u64) -> Message {
    Message::Appended { term: Term(term), round, result: Match::Through(Place(through)) }
}

/// A journal as persistence keeps it: blocks that become durable in order, segments that begin with
/// a standing, trimmed from the front.
#[derive(Default)]
struct Journal {
    segments: Vec<(Vec<Record>, u64)>,
    unsynced: VecDeque<(Vec<Record>, Record, Vec<Outbound>)>,
}

impl Journal {
    /// Makes the first `count` blocks durable, in one segment; answers what waited for that.
    fn sync(&mut self, count: usize, begin_segment: bool) -> Vec<Outbound> {
        let mut released = vec![];
        let blocks: Vec<_> = self.unsynced.drain(..count).collect();
        let Some((_, standing, _)) = blocks.last() else { return released };
        if begin_segment || self.segments.is_empty() {
            self.segments.push((vec![standing.clone()], 0));
        }
        let (records, mark) = self.segments.last_mut().unwrap();
        for (block, _, sends) in blocks {
            *mark = block.iter().map(Peer::mark).max().unwrap_or(0).max(*mark);
            records.extend(block);
            released.extend(sends);
        }
        released
    }

    fn trim(&mut self, through: u64) {
        while self.segments.len() > 1 && self.segments[0].1 <= through {
            self.segments.remove(0);
        }
    }

    fn records(&self) -> Vec<Record> {
        self.segments.iter().flat_map(|(records, _)| records.clone()).collect()
    }
}

enum Due {
    Deliver { from: NodeId, to: NodeId, message: Message },
    Timer { node: NodeId, version: u64, timer: Timer },
    Sync { node: NodeId, life: u64 },
    Drain { node: NodeId, life: u64 },
    Fetch { node: NodeId, life: u64, ask: NodeId, index: Index },
}

/// One peer of a world, with its disk and its rsm.
pub struct Node {
    pub peer: Option<Peer>,
    formation: Configuration,
    life: u64,
    timers: BTreeMap<Timer, u64>,
    journal: Journal,
    syncing: bool,
    draining: bool,
    fetching: bool,
    /// The rsm: what it has applied, where it stands, and what it has saved.
    pub applied: u64,
    position: Position,
    pub saved: Position,
    /// Everything that was told to the rsm in this life.
    pub events: Vec<Event>,
    /// Barriers that are open: by number, the first index that need not be applied at least.
    barriers: BTreeMap<u64, u64>,
    pub barriers_answered: u64,
    asked: u64,
}

/// What a network does to messages.
pub struct Rules {
    pub loss_permille: u64,
    pub duplicates_permille: u64,
    pub delay_us: (u64, u64),
    /// Of so many in a thousand, the delay is up to two seconds.
    pub late_permille: u64,
    pub cut: BTreeSet<(NodeId, NodeId)>,
    /// Who hears answers only.
    pub deaf: BTreeSet<NodeId>,
}

impl Rules {
    fn stops(&self, from: NodeId, to: NodeId, message: &Message) -> bool {
        let is_deaf = self.deaf.contains(&to) && message.class() == Class::Request;
        from != to && (is_deaf || self.cut.contains(&(from, to)))
    }
}

/// A group of peers.
pub struct World {
    pub now_us: u64,
    queue: BTreeMap<(u64, u64), Due>,
    seq: u64,
    pub chance: ChaCha8Rng,
    pub nodes: BTreeMap<NodeId, Node>,
    pub rules: Rules,
    /// A journal takes up to so long.
    pub sync_us_max: u64,
    /// The rsm saves after so many commands.
    pub save_every: u64,
    pub alarms: Vec<String>,
    pub delivered: BTreeMap<&'static str, u64>,
    pub reconfigured: Arc<Mutex<Vec<Reconfigured>>>,
    /// Whoever has led a term.
    leaders: BTreeMap<Term, NodeId>,
    /// By place and term: the term before, and what the entry is.
    written: BTreeMap<(Place, Term), (Option<Term>, Payload)>,
    /// By place: what is committed.
    pub committed: BTreeMap<Place, Entry>,
    /// By index: what was handed over.
    pub chosen: BTreeMap<Index, ProposalId>,
    /// By offer: the index and term that were promised, until it is dropped.
    offered: BTreeMap<ProposalId, (Index, u64)>,
}

impl World {
    pub fn new(seed: u64, nodes: &[u32]) -> World {
        let mut world = World {
            now_us: 0,
            queue: BTreeMap::new(),
            seq: 0,
            chance: ChaCha8Rng::seed_from_u64(seed),
            nodes: BTreeMap::new(),
            rules: Rules {
                loss_permille: 0,
                duplicates_permille: 0,
                delay_us: (100, 1000),
                late_permille: 0,
                cut: BTreeSet::new(),
                deaf: BTreeSet::new(),
            },
            sync_us_max: 2000,
            save_every: u64::MAX,
            alarms: vec![],
            delivered: BTreeMap::new(),
            reconfigured: Arc::default(),
            leaders: BTreeMap::new(),
            written: BTreeMap::new(),
            committed: BTreeMap::new(),
            chosen: BTreeMap::new(),
            offered: BTreeMap::new(),
        };
        for number in nodes {
            world.add(*number, Configuration::of(set(nodes)));
        }
        world
    }

    /// A node with an empty disk.
    pub fn add(&mut self, number: u32, formation: Configuration) {
        let saved = Position { configuration: formation.clone(), ..Position::default() };
        let new = Node {
            peer: None,
            formation,
            life: 0,
            timers: BTreeMap::new(),
            journal: Journal::default(),
            syncing: false,
            draining: false,
            fetching: false,
            applied: 0,
            position: saved.clone(),
            saved,
            events: vec![],
            barriers: BTreeMap::new(),
            barriers_answered: 0,
            asked: 0,
        };
        self.nodes.insert(NodeId(number), new);
        self.start(NodeId(number));
    }

    fn push(&mut self, at: u64, due: Due) {
        self.seq += 1;
        self.queue.insert((at, self.seq), due);
    }

    pub fn below(&mut self, bound: u64) -> u64 {
        self.chance.random_range(0..bound)
    }

    fn permille(&mut self, permille: u64) -> bool {
        self.below(1000) < permille
    }

    /// Starts a node from its disk.
    pub fn start(&mut self, id: NodeId) {
        let on = self.nodes.get_mut(&id).unwrap();
        let config = Config {
            me: id,
            formation: on.formation.clone(),
            limits: Limits {
                messages_in_flight_max: 4,
                entries_per_message_max: 8,
                ..Limits::default()
            },
            timing: timing(),
        };
        let peer = Peer::recover(config, on.journal.records());
        on.peer = Some(peer.unwrap_or_else(|error| panic!("{id} cannot recover: {error}")));
        on.life += 1;
        on.events.clear();
        on.applied = on.saved.index.0;
        on.position = on.saved.clone();
        let (saved, from) = (on.saved.clone(), on.saved.index.next());
        self.step(id, |peer, out| peer.start(out));
        if saved.index > Index(0) {
            let below = saved.index.next();
            self.tell(id, Request::Forget { saved, below });
        }
        self.tell(id, Request::Subscribe { from });
    }

    /// Kills a node: what was not synced is lost, or some of it survives all the same.
    pub fn kill(&mut self, id: NodeId) {
        let survive = {
            let unsynced = self.nodes[&id].journal.unsynced.len() as u64;
            self.below(unsynced + 1) as usize
        };
        let on = self.nodes.get_mut(&id).unwrap();
        drop(on.journal.sync(survive, false));
        on.journal.unsynced.clear();
        on.peer = None;
        on.timers.clear();
        on.barriers.clear();
        (on.syncing, on.draining, on.fetching) = (false, false, false);
    }

    pub fn runs(&self, id: NodeId) -> bool {
        self.nodes[&id].peer.is_some()
    }

    pub fn peer(&self, number: u32) -> &Peer {
        self.nodes[&NodeId(number)].peer.as_ref().expect("it runs")
    }

    pub fn tell(&mut self, id: NodeId, request: Request) {
        self.hear(id, id, Message::Log(request));
    }

    pub fn hear(&mut self, id: NodeId, from: NodeId, message: Message) {
        if self.runs(id) {
            self.step(id, |peer, out| peer.on_message(name(from), message, out));
        }
    }

    pub fn propose(&mut self, number: u32, seq: u64) {
        self.tell(NodeId(number), Request::Propose(proposal(number, seq)));
    }

    pub fn offer(&mut self, number: u32, seq: u64) {
        self.tell(NodeId(number), Request::Offer(proposal(number, seq)));
    }

    /// Asks for a read barrier, and holds its answer against what is chosen by now.
    pub fn read(&mut self, number: u32) {
        let through = self.chosen.last_key_value().map_or(0, |(index, _)| index.0);
        let id = NodeId(number);
        let life = self.nodes[&id].life;
        let on = self.nodes.get_mut(&id).unwrap();
        on.asked += 1;
        let seq = on.asked;
        on.barriers.insert(seq, through + 1);
        self.tell(id, Request::ReadBarrier { id: ProposalId { node: id, life, seq } });
    }

    pub fn reconfigure(&mut self, number: u32, voters: &[u32], learners: &[u32]) {
        let answers = self.reconfigured.clone();
        let reply = Outlet::from_fn(move |_, answer| answers.lock().unwrap().push(answer));
        let (voters, learners) = (set(voters), set(learners));
        self.hear(NodeId(number), NodeId(number), Message::Reconfigure { voters, learners, reply });
    }

    pub fn leader(&self) -> Option<u32> {
        let leading = self.nodes.iter().filter_map(|(id, on)| Some((id, on.peer.as_ref()?)));
        let leading = leading.filter(|(_, peer)| peer.leads());
        leading.max_by_key(|(_, peer)| peer.term()).map(|(id, _)| id.0)
    }

    /// How many terms had a leader.
    pub fn terms_led(&self) -> usize {
        self.leaders.len()
    }

    /// Cuts every link between two sides.
    pub fn partition(&mut self, sides: &[&[u32]]) {
        self.rules.cut.clear();
        let all: Vec<NodeId> = self.nodes.keys().copied().collect();
        for from in &all {
            for to in &all {
                if !sides.iter().any(|side| side.contains(&from.0) && side.contains(&to.0)) {
                    self.rules.cut.insert((*from, *to));
                }
            }
        }
    }

    pub fn heal(&mut self) {
        self.rules.cut.clear();
        self.rules.deaf.clear();
    }

    fn step(&mut self, id: NodeId, step: impl FnOnce(&mut Peer, &mut Out<Peer>)) {
        let mut out = Out::default();
        let Some(peer) = self.nodes.get_mut(&id).and_then(|on| on.peer.as_mut()) else { return };
        let (commit, kept_from) = (peer.commit(), peer.kept_from());
        step(peer, &mut out);
        peer.invariants();
        assert!(peer.commit() >= commit, "T3: the commit of {id} decreases");
        let (standing, now_kept_from) = (peer.standing(), peer.kept_from());
        self.check(id, commit, &out.records);
        for (timer, request) in out.timers {
            self.set_timer(id, timer, request);
        }
        for alarm in out.alarms {
            self.alarms.push(format!("{id}: {alarm}"));
        }
        for outbound in out.sends_at_once {
            self.perform(id, outbound);
        }
        let on = self.nodes.get_mut(&id).unwrap();
        let mut released = vec![];
        if out.records.is_empty() && on.journal.unsynced.is_empty() {
            released = out.sends;
        } else {
            on.journal.unsynced.push_back((out.records, standing, out.sends));
            if now_kept_from > kept_from {
                // A trim settles what came before it.
                let count = on.journal.unsynced.len();
                released = on.journal.sync(count, false);
                on.journal.trim(now_kept_from - 1);
            }
        }
        self.want_sync(id);
        let on = self.nodes.get_mut(&id).unwrap();
        let (life, drains) = (on.life, out.drain && !on.draining);
        on.draining |= out.drain;
        if drains {
            let now = self.now_us;
            self.push(now, Due::Drain { node: id, life });
        }
        for outbound in released {
            self.perform(id, outbound);
        }
    }

    fn want_sync(&mut self, id: NodeId) {
        let on = self.nodes.get_mut(&id).unwrap();
        if !on.syncing && !on.journal.unsynced.is_empty() {
            on.syncing = true;
            let life = on.life;
            let at = self.now_us + self.below(self.sync_us_max + 1);
            self.push(at, Due::Sync { node: id, life });
        }
    }

    fn set_timer(&mut self, node: NodeId, timer: Timer, request: TimerRequest) {
        self.seq += 1;
        let version = self.seq;
        let on = self.nodes.get_mut(&node).unwrap();
        match request {
            TimerRequest::Cancel => drop(on.timers.remove(&timer)),
            TimerRequest::Within { at_least, at_most } => {
                on.timers.insert(timer, version);
                let range = at_least.as_micros() as u64..=at_most.as_micros() as u64;
                let at = self.now_us + self.chance.random_range(range);
                self.push(at, Due::Timer { node, version, timer });
            }
        }
    }

    fn perform(&mut self, id: NodeId, outbound: Outbound) {
        match outbound {
            Outbound::Peers(nodes, message) => {
                for to in nodes {
                    self.post(id, to, message.clone());
                }
            }
            Outbound::Log(event) => self.on_event(id, event),
            Outbound::Reconfigured(reply, answer) => reply.send(name(id), answer),
            Outbound::Status(reply, status) => reply.send(name(id), status),
        }
    }

    fn post(&mut self, from: NodeId, to: NodeId, message: Message) {
        if from == to {
            let now = self.now_us;
            return self.push(now, Due::Deliver { from, to, message });
        }
        let Rules { loss_permille, duplicates_permille, delay_us, late_permille, .. } = self.rules;
        if self.rules.stops(from, to, &message) || self.permille(loss_permille) {
            return;
        }
        let copies = 1 + u64::from(self.permille(duplicates_permille));
        for _ in 0..copies {
            let late = self.permille(late_permille);
            let range = if late { 200_000..=2_000_000 } else { delay_us.0..=delay_us.1 };
            let at = self.now_us + self.chance.random_range(range);
            let message = message.clone();
            self.push(at, Due::Deliver { from, to, message });
        }
    }

    /// Lets one thing happen; `false` if nothing is left to.
    fn advance(&mut self) -> bool {
        let Some(((at, _), due)) = self.queue.pop_first() else { return false };
        self.now_us = self.now_us.max(at);
        match due {
            Due::Deliver { from, to, message } => {
                if !self.rules.stops(from, to, &message) && self.nodes.contains_key(&to) {
                    if from != to && self.runs(to) {
                        let kind = kind_of(&message);
                        *self.delivered.entry(kind).or_default() += 1;
                    }
                    self.hear(to, from, message);
                }
            }
            Due::Timer { node, version, timer } => {
                let on = self.nodes.get_mut(&node).unwrap();
                if on.timers.get(&timer) == Some(&version) {
                    on.timers.remove(&timer);
                    self.step(node, |peer, out| peer.on_timer(timer, out));
                }
            }
            Due::Sync { node, life } => {
                let begin_segment = self.permille(300);
                let on = self.nodes.get_mut(&node).unwrap();
                if on.life == life && on.syncing {
                    on.syncing = false;
                    let count = on.journal.unsynced.len();
                    for outbound in on.journal.sync(count, begin_segment) {
                        self.perform(node, outbound);
                    }
                    self.want_sync(node);
                }
            }
            Due::Drain { node, life } => {
                let on = self.nodes.get_mut(&node).unwrap();
                if on.life == life && on.draining {
                    on.draining = false;
                    self.step(node, |peer, out| peer.on_drained(out));
                }
            }
            Due::Fetch { node, life, ask, index } => self.fetch(node, life, ask, index),
        }
        true
    }

    /// A snapshot of another node arrives, if it has one that will do.
    fn fetch(&mut self, id: NodeId, life: u64, ask: NodeId, index: Index) {
        let theirs = self.nodes.get(&ask).map(|on| on.saved.clone());
        let on = self.nodes.get_mut(&id).unwrap();
        if on.life != life || !on.fetching {
            return;
        }
        on.fetching = false;
        let Some(theirs) = theirs.filter(|saved| saved.index >= index) else { return };
        if theirs.index.0 <= on.applied {
            return;
        }
        on.applied = theirs.index.0;
        (on.position, on.saved) = (theirs.clone(), theirs.clone());
        let (saved, below) = (theirs.clone(), theirs.index.next());
        self.tell(id, Request::Forget { saved, below });
        self.tell(id, Request::Subscribe { from: theirs.index.next() });
    }

    pub fn run_ms(&mut self, ms: u64) {
        let until = self.now_us + ms * 1000;
        while self.queue.first_key_value().is_some_and(|((at, _), _)| *at <= until) {
            self.advance();
        }
        self.now_us = until;
    }

    /// Runs until `done`, at most so long.
    pub fn run_until(&mut self, ms: u64, what: &str, mut done: impl FnMut(&World) -> bool) {
        let until = self.now_us + ms * 1000;
        while !done(self) {
            assert!(self.now_us < until, "not within {ms} ms: {what}; {}", self.describe());
            assert!(self.advance(), "nothing happens any more, and not yet: {what}");
        }
    }

    /// Runs until somebody leads that all members follow.
    pub fn elect(&mut self) -> u32 {
        self.run_until(10_000, "a leader", |world| {
            world.leader().is_some_and(|leader| {
                let peer = world.peer(leader);
                peer.commit() > Place(0) && peer.log().term_at(peer.commit()) == Some(peer.term())
            })
        });
        self.leader().unwrap()
    }

    pub fn describe(&self) -> String {
        let nodes = self.nodes.iter().map(|(id, on)| match &on.peer {
            None => format!("{id} down"),
            Some(peer) => {
                let Status { term, standing, leader, commit, last, base, configuration, .. } =
                    peer.status();
                format!(
                    "{id} {term} {standing} leader={leader:?} base={base} commit={commit} \
                     last={last} applied={} members={configuration}",
                    on.applied
                )
            }
        });
        nodes.collect::<Vec<_>>().join("\n")
    }

    /// The rsm of a node is told something.
    fn on_event(&mut self, id: NodeId, event: Event) {
        let on = self.nodes.get_mut(&id).unwrap();
        on.events.push(event.clone());
        match event {
            Event::Chosen { entries, position } => {
                for Chosen { index, proposal } in entries {
                    let proposal = proposal.expect("only commands are handed over");
                    let chosen = *self.chosen.entry(index).or_insert(proposal.id);
                    assert_eq!(chosen, proposal.id, "State Machine Safety: {id} has {index}");
                    if let Some((promised, term)) = self.offered.get(&proposal.id) {
                        assert_eq!(*promised, index, "offered in {term}, chosen elsewhere");
                    }
                    let on = self.nodes.get_mut(&id).unwrap();
                    if index.0 > on.applied {
                        assert_eq!(index.0, on.applied + 1, "T7: a gap at {id}");
                        on.applied += 1;
                    }
                }
                let on = self.nodes.get_mut(&id).unwrap();
                if position.index.0 == on.applied {
                    on.position = position;
                }
                if on.applied >= on.saved.index.0.saturating_add(self.save_every)
                    && on.position.index.0 == on.applied
                {
                    on.saved = on.position.clone();
                    let saved = on.saved.clone();
                    // Sometimes a tail is kept.
                    let kept = self.below(3);
                    let below = Index((saved.index.0 + 1).saturating_sub(kept));
                    let now = self.now_us;
                    let message = Message::Log(Request::Forget { saved, below });
                    self.push(now, Due::Deliver { from: id, to: id, message });
                }
            }
            Event::Barrier { id: barrier, from } => {
                let later = on.barriers.split_off(&(barrier.seq + 1));
                for (_, least) in std::mem::replace(&mut on.barriers, later) {
                    assert!(from.0 >= least, "a read at {id} misses what was chosen: {from}");
                    on.barriers_answered += 1;
                }
            }
            Event::Configured { .. } | Event::Save => {}
            Event::Behind { ask, index } => {
                if !on.fetching {
                    on.fetching = true;
                    let life = on.life;
                    let at = self.now_us + self.below(50_000);
                    self.push(at, Due::Fetch { node: id, life, ask, index });
                }
            }
            Event::Offered { id: offer, place: Some(place) } => {
                self.offered.insert(offer, place);
            }
            Event::Dropped { id: offer } => {
                self.offered.remove(&offer);
            }
            Event::Offered { .. }
            | Event::Role { .. }
            | Event::SubscribeAgain
            | Event::ProposeAgain => {}
        }
    }

    /// Figure 3, as far as this step could break it.
    fn check(&mut self, id: NodeId, commit: Place, records: &[Record]) {
        let Some(peer) = self.nodes[&id].peer.as_ref() else { return };
        let log = peer.log();
        for record in records {
            let Record::Appended { from, entries } = record else { continue };
            for (place, entry) in (from.0..).map(Place).zip(entries) {
                let before = log.term_at(place.before());
                let new = (before, entry.payload.clone());
                let key = (place, entry.term);
                let old = self.written.entry(key).or_insert_with(|| new.clone());
                assert_eq!(old.1, new.1, "Log Matching: {id} at {place} of {}", entry.term);
                if let (Some(old), Some(new)) = (old.0, new.0) {
                    assert_eq!(old, new, "Log Matching: {id} before {place}");
                }
            }
        }
        for place in (commit.0.max(log.base().place) + 1..=peer.commit().0).map(Place) {
            let Some(entry) = log.get(place) else { continue };
            let known = self.committed.entry(place).or_insert_with(|| entry.clone());
            assert_eq!(known, entry, "State Machine Safety: {id} at {place}");
        }
        if peer.leads() {
            let term = peer.term();
            let first = !self.leaders.contains_key(&term);
            let leader = *self.leaders.entry(term).or_insert(id);
            assert_eq!(leader, id, "Election Safety: two leaders in {term}");
            if first {
                for (place, entry) in self.committed.range(log.base_place().next()..) {
                    assert_eq!(
                        log.get(*place),
                        Some(entry),
                        "Leader Completeness: {id} at {place}"
                    );
                }
            }
        }
    }
}

fn kind_of(message: &Message) -> &'static str {
    use quorate_stage::Message as _;
    Message::KINDS[message.kind()]
}
