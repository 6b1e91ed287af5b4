//! A small group without actors: the three roles of each node, virtual time, a network that loses,
//! repeats and reorders, disks that lose what was not synced, machines that lose their disk and come back
//! as another life. What is chosen is worked out from durable votes, by who rules each slot; everything
//! that is learnt, handed over or read is held against that.

#![allow(dead_code, unreachable_pub, reason = "each test binary uses its own part of this")]

use std::{
    collections::{BTreeMap, BTreeSet, VecDeque},
    time::Duration,
};

use quorate_acceptor::{
    Acceptor, Ballot, Membership, Message as ToAcceptor, Outbound as AcceptorSays, Record, Slot,
    Value, foreseen, ruler,
};
use quorate_learner::{
    Holes, Learner, Message as ToLearner, Notice, Outbound as LearnerSays, Timer as LearnerTimer,
    Timing as LearnerTiming,
};
use quorate_proposer::{
    Config, Limits, Message as ToProposer, Outbound as ProposerSays, Proposer,
    Timer as ProposerTimer, Timing,
};
use quorate_protocol::{
    Change, Configuration, Core, GroupId, Incarnation, Member, Name, NodeId, Out, Role,
    TimerRequest,
    log::{Chosen, Event, Index, Position, Proposal, ProposalId, Request},
};
use rand::{Rng, SeedableRng};
use rand_chacha::ChaCha8Rng;

pub const fn ms(ms: u64) -> Duration {
    Duration::from_millis(ms)
}

pub fn timing() -> Timing {
    Timing {
        retry: ms(100),
        campaign: ms(100),
        backoff_max: ms(700),
        linger: ms(5),
        resend: ms(40),
        hurry: ms(20),
    }
}

pub fn learner_timing() -> LearnerTiming {
    LearnerTiming {
        fetch_after: ms(10),
        fetch_after_max: ms(100),
        done_after: ms(10),
        done_after_max: ms(2000),
    }
}

pub fn name(node: NodeId) -> Name {
    Name::new(node, GroupId(1), Role::Outside)
}

pub fn member(node: NodeId, incarnation: u64) -> Member {
    Member { node, incarnation: Incarnation(incarnation) }
}

pub fn id_of(value: &Value) -> Option<ProposalId> {
    value.as_ref().map(|proposal| proposal.id)
}

/// What crosses the network, or comes from another actor of the node.
#[derive(Clone, Debug)]
pub enum Wire {
    Acceptor(ToAcceptor),
    Proposer(ToProposer),
    Learner(ToLearner),
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Timer {
    Proposer(ProposerTimer),
    Learner(LearnerTimer),
}

enum Due {
    Deliver { from: NodeId, to: NodeId, wire: Wire, life: Option<u64> },
    Timer { node: NodeId, version: u64, timer: Timer },
    Sync { node: NodeId, life: u64 },
    Drain { node: NodeId, life: u64 },
    Fetch { node: NodeId, life: u64, ask: NodeId, index: Index },
}

struct Roles {
    acceptor: Acceptor,
    proposer: Proposer,
    learner: Learner,
}

/// A node in one of its lives in the group, with its disk and its rsm.
pub struct Node {
    roles: Option<Roles>,
    incarnation: Incarnation,
    told: Configuration,
    /// Process starts.
    life: u64,
    timers: BTreeMap<Timer, u64>,
    disk: Vec<Record>,
    unsynced: VecDeque<(Vec<Record>, Vec<AcceptorSays>)>,
    syncing: bool,
    draining: bool,
    /// The rsm: what it wants, where it stands, what it has saved.
    pub wanted: BTreeMap<ProposalId, Proposal>,
    pub applied: u64,
    position: Position,
    pub saved: Position,
    pub configured: Option<Configuration>,
    barriers: BTreeMap<u64, u64>,
    asked: u64,
}

/// The acceptor of a node, from its disk.
fn recovered(id: NodeId, disk: &[Record]) -> Acceptor {
    let acceptor = Acceptor::recover(disk.iter().cloned());
    if id.life() > 0 { acceptor.of_newcomer() } else { acceptor }
}

impl Node {
    pub fn proposer(&self) -> Option<&Proposer> {
        self.roles.as_ref().map(|roles| &roles.proposer)
    }

    pub fn learner(&self) -> Option<&Learner> {
        self.roles.as_ref().map(|roles| &roles.learner)
    }
}

/// The votes of one slot: per ballot, what for and whose.
type Votes = BTreeMap<Ballot, (Value, BTreeSet<NodeId>)>;

/// A group.
pub struct World {
    pub now_us: u64,
    queue: BTreeMap<(u64, u64), Due>,
    seq: u64,
    pub chance: ChaCha8Rng,
    pub nodes: BTreeMap<NodeId, Node>,
    pub loss_permille: u64,
    pub duplicates_permille: u64,
    pub delay_us: (u64, u64),
    pub sync_us_max: u64,
    pub save_every: u64,
    pub cut: BTreeSet<(NodeId, NodeId)>,
    /// Who has lost its disk, and never comes back as itself.
    pub lost: BTreeSet<NodeId>,
    pub alarms: Vec<String>,
    votes: BTreeMap<Slot, Votes>,
    pub chosen: BTreeMap<Slot, Value>,
    oracle: Membership,
    /// The highest index that anybody has applied.
    applied: u64,
    pub barriers_answered: u64,
    /// What the steward wants, until somebody shows it.
    pub change: Option<Change>,
    pub changes_made: u64,
}

impl World {
    pub fn new(seed: u64, machines: u32) -> World {
        let formation = Configuration::of((1..=machines).map(NodeId));
        let mut world = World {
            now_us: 0,
            queue: BTreeMap::new(),
            seq: 0,
            chance: ChaCha8Rng::seed_from_u64(seed),
            nodes: BTreeMap::new(),
            loss_permille: 0,
            duplicates_permille: 0,
            delay_us: (100, 1000),
            sync_us_max: 1000,
            save_every: u64::MAX,
            cut: BTreeSet::new(),
            lost: BTreeSet::new(),
            alarms: vec![],
            votes: BTreeMap::new(),
            chosen: BTreeMap::new(),
            oracle: Membership::formed(formation.clone()),
            applied: 0,
            barriers_answered: 0,
            change: None,
            changes_made: 0,
        };
        for machine in 1..=machines {
            world.add(NodeId(machine), Incarnation(1), formation.clone());
        }
        world
    }

    /// A node with an empty disk, that is told who the members are.
    pub fn add(&mut self, node: NodeId, incarnation: Incarnation, told: Configuration) {
        let new = Node {
            roles: None,
            incarnation,
            told,
            life: 0,
            timers: BTreeMap::new(),
            disk: vec![],
            unsynced: VecDeque::new(),
            syncing: false,
            draining: false,
            wanted: BTreeMap::new(),
            applied: 0,
            position: Position::default(),
            saved: Position::default(),
            configured: None,
            barriers: BTreeMap::new(),
            asked: 0,
        };
        self.nodes.insert(node, new);
        self.start(node);
    }

    pub fn below(&mut self, bound: u64) -> u64 {
        self.chance.random_range(0..bound)
    }

    fn permille(&mut self, permille: u64) -> bool {
        self.below(1000) < permille
    }

    fn push(&mut self, at: u64, due: Due) {
        self.seq += 1;
        self.queue.insert((at, self.seq), due);
    }

    fn new_proposer(&self, id: NodeId) -> Proposer {
        let on = &self.nodes[&id];
        Proposer::new(Config {
            me: Member { node: id, incarnation: on.incarnation },
            formation: on.told.clone(),
            holes: Holes::Filled,
            limits: Limits::default(),
            timing: timing(),
        })
    }

    fn new_learner(&self, id: NodeId) -> Learner {
        Learner::new(id, self.nodes[&id].told.clone(), Holes::Filled, learner_timing())
    }

    pub fn runs(&self, id: NodeId) -> bool {
        self.nodes.get(&id).is_some_and(|on| on.roles.is_some())
    }

    pub fn proposer(&self, id: NodeId) -> &Proposer {
        self.nodes[&id].proposer().expect("it runs")
    }

    /// Starts a node from its disk.
    pub fn start(&mut self, id: NodeId) {
        assert!(!self.lost.contains(&id), "{id} is dead for ever");
        let (proposer, learner) = (self.new_proposer(id), self.new_learner(id));
        let on = self.nodes.get_mut(&id).unwrap();
        let acceptor = recovered(id, &on.disk);
        on.roles = Some(Roles { acceptor, proposer, learner });
        on.life += 1;
        on.applied = on.saved.index.0;
        on.position = on.saved.clone();
        self.learner_step(id, Learner::start);
        self.proposer_step(id, Proposer::start);
    }

    /// Kills a node: what was not synced is lost, or some of it survives all the same.
    pub fn kill(&mut self, id: NodeId) {
        let unsynced = self.nodes[&id].unsynced.len() as u64;
        let survive = self.below(unsynced + 1) as usize;
        let on = self.nodes.get_mut(&id).unwrap();
        on.unsynced.truncate(survive);
        let survives: Vec<Record> =
            on.unsynced.drain(..).flat_map(|(records, _)| records).collect();
        on.disk.extend(survives.iter().cloned());
        on.roles = None;
        on.timers.clear();
        on.barriers.clear();
        (on.syncing, on.draining) = (false, false);
        self.durable(id, survives);
    }

    /// One role starts anew in place.
    pub fn restart_role(&mut self, id: NodeId, role: u64) {
        let (proposer, learner) = (self.new_proposer(id), self.new_learner(id));
        let on = self.nodes.get_mut(&id).unwrap();
        let Some(roles) = &mut on.roles else { return };
        match role {
            0 => {
                // The journal is another actor: what it was given gets to the disk.
                let all: Vec<Record> =
                    on.unsynced.drain(..).flat_map(|(records, _)| records).collect();
                on.disk.extend(all.iter().cloned());
                roles.acceptor = recovered(id, &on.disk);
                self.durable(id, all);
            }
            1 => {
                roles.proposer = proposer;
                on.timers.retain(|timer, _| !matches!(timer, Timer::Proposer(_)));
                self.proposer_step(id, Proposer::start);
            }
            _ => {
                roles.learner = learner;
                on.timers.retain(|timer, _| !matches!(timer, Timer::Learner(_)));
                self.learner_step(id, Learner::start);
            }
        }
    }

    pub fn want(&mut self, id: NodeId, seq: u64) {
        let proposal = Proposal {
            id: ProposalId { node: id, life: 1, seq },
            command: seq.to_be_bytes().to_vec().into(),
        };
        let on = self.nodes.get_mut(&id).unwrap();
        on.wanted.insert(proposal.id, proposal.clone());
        self.ask(id, Request::Propose(proposal));
    }

    /// Asks for a read barrier, and holds its answer against what is applied by now.
    pub fn read(&mut self, id: NodeId) {
        let applied = self.applied;
        let on = self.nodes.get_mut(&id).unwrap();
        on.asked += 1;
        let (life, seq) = (on.life + 1000, on.asked);
        on.barriers.insert(seq, applied + 1);
        self.ask(id, Request::ReadBarrier { id: ProposalId { node: id, life, seq } });
    }

    pub fn ask(&mut self, id: NodeId, request: Request) {
        if self.runs(id) {
            let message = match request {
                Request::Subscribe { .. } | Request::Forget { .. } => {
                    Wire::Learner(ToLearner::Log(request))
                }
                request => Wire::Proposer(ToProposer::Log(request)),
            };
            self.post_own(id, message);
        }
    }

    fn post_own(&mut self, id: NodeId, wire: Wire) {
        let (now, life) = (self.now_us, self.nodes[&id].life);
        self.push(now, Due::Deliver { from: id, to: id, wire, life: Some(life) });
    }

    fn take<C: Core>(&mut self, id: NodeId, out: Out<C>, of: fn(C::Timer) -> Option<Timer>) {
        for (timer, request) in out.timers {
            let Some(timer) = of(timer) else { continue };
            self.seq += 1;
            let version = self.seq;
            let on = self.nodes.get_mut(&id).unwrap();
            match request {
                TimerRequest::Cancel => drop(on.timers.remove(&timer)),
                TimerRequest::Within { at_least, at_most } => {
                    on.timers.insert(timer, version);
                    let range = at_least.as_micros() as u64..=at_most.as_micros() as u64;
                    let at = self.now_us + self.chance.random_range(range);
                    self.push(at, Due::Timer { node: id, version, timer });
                }
            }
        }
        for alarm in out.alarms {
            self.alarms.push(format!("{id}: {alarm}"));
        }
        if out.drain && !self.nodes[&id].draining {
            let life = self.nodes[&id].life;
            self.nodes.get_mut(&id).unwrap().draining = true;
            let now = self.now_us;
            self.push(now, Due::Drain { node: id, life });
        }
    }

    fn proposer_step(&mut self, id: NodeId, step: impl FnOnce(&mut Proposer, &mut Out<Proposer>)) {
        let mut out = Out::default();
        let roles = self.nodes.get_mut(&id).and_then(|on| on.roles.as_mut());
        let Some(roles) = roles else { return };
        step(&mut roles.proposer, &mut out);
        roles.proposer.invariants();
        let said = std::mem::take(&mut out.sends);
        self.take(id, out, |timer| Some(Timer::Proposer(timer)));
        for outbound in said {
            match outbound {
                ProposerSays::Acceptors(nodes, message) => {
                    for to in nodes {
                        self.post(id, to, Wire::Acceptor(message.clone()));
                    }
                }
                ProposerSays::Learner(to, message) => self.post(id, to, Wire::Learner(message)),
                ProposerSays::Proposer(to, message) => self.post(id, to, Wire::Proposer(message)),
                ProposerSays::Log(event) => self.on_event(id, event),
            }
        }
    }

    fn learner_step(&mut self, id: NodeId, step: impl FnOnce(&mut Learner, &mut Out<Learner>)) {
        let mut out = Out::default();
        let roles = self.nodes.get_mut(&id).and_then(|on| on.roles.as_mut());
        let Some(roles) = roles else { return };
        step(&mut roles.learner, &mut out);
        roles.learner.invariants();
        let said = std::mem::take(&mut out.sends);
        self.take(id, out, |timer| Some(Timer::Learner(timer)));
        for outbound in said {
            match outbound {
                LearnerSays::Acceptor(message) => self.post(id, id, Wire::Acceptor(message)),
                LearnerSays::Learner(to, message) => self.post(id, to, Wire::Learner(message)),
                LearnerSays::Proposer(to, notice) => {
                    if let Notice::Decided { slots, .. } = &notice {
                        self.check_learnt(id, slots);
                    }
                    self.post(id, to, Wire::Proposer(ToProposer::Notice(notice)));
                }
                LearnerSays::Log(event) => self.on_event(id, event),
                LearnerSays::Answer(..) => {}
            }
        }
    }

    fn check_learnt(&self, id: NodeId, slots: &[(Slot, Option<ProposalId>)]) {
        for (slot, value) in slots {
            let chosen = self.chosen.get(slot).map(id_of);
            assert_eq!(chosen, Some(*value), "{id} learns what is not chosen in slot {slot}");
        }
    }

    fn acceptor_step(&mut self, id: NodeId, from: NodeId, message: ToAcceptor) {
        let mut out = Out::default();
        let on = self.nodes.get_mut(&id).unwrap();
        let Some(roles) = on.roles.as_mut() else { return };
        roles.acceptor.on_message(name(from), message, &mut out);
        roles.acceptor.invariants();
        let (records, said) = (std::mem::take(&mut out.records), std::mem::take(&mut out.sends));
        let at_once = records.is_empty() && on.unsynced.is_empty();
        if !at_once {
            on.unsynced.push_back((records, said.clone()));
        }
        let syncs = !at_once && !std::mem::replace(&mut on.syncing, true);
        let life = on.life;
        self.take(id, out, |_| None);
        if syncs {
            let at = self.now_us + self.below(self.sync_us_max + 1);
            self.push(at, Due::Sync { node: id, life });
        }
        if at_once {
            self.acceptor_says(id, said);
        }
    }

    fn acceptor_says(&mut self, id: NodeId, said: Vec<AcceptorSays>) {
        for outbound in said {
            match outbound {
                AcceptorSays::Answer(to, answer) => {
                    self.post(id, to, Wire::Proposer(ToProposer::Answer(answer)));
                }
                AcceptorSays::Report(report) => {
                    self.post(id, id, Wire::Learner(ToLearner::Report(report)));
                }
                AcceptorSays::Bytes(..) => {}
            }
        }
    }

    /// Votes are durable: what is chosen by that?
    fn durable(&mut self, id: NodeId, records: Vec<Record>) {
        for record in records {
            let Record::Voted { ballot, entries, .. } = record else { continue };
            for (slot, value) in entries {
                let votes = self.votes.entry(slot).or_default();
                let (known, voters) =
                    votes.entry(ballot).or_insert_with(|| (value.clone(), BTreeSet::new()));
                assert_eq!(id_of(known), id_of(&value), "two values in {ballot}, slot {slot}");
                voters.insert(id);
                self.judge(slot);
            }
        }
        while let Some(value) = self.chosen.get(&self.oracle.known()) {
            if self.oracle.learn(value).expect("configurations can be read") {
                self.changes_made += 1;
            }
            let newest = Slot(self.oracle.known().0 + quorate_acceptor::ALPHA - 1);
            self.judge(newest);
        }
    }

    fn judge(&mut self, slot: Slot) {
        let position = self.oracle.newest();
        let known = self.oracle.known();
        if slot >= foreseen(&position) || (slot < known && self.chosen.contains_key(&slot)) {
            // One below was judged when it was voted for; what comes later votes for the same.
            if slot < known {
                self.judge_again(slot);
            }
            return;
        }
        let (configuration, _) = ruler(&position, slot);
        let Some(votes) = self.votes.get(&slot) else { return };
        for (ballot, (value, voters)) in votes {
            if !configuration.has_quorum(|node| voters.contains(&node)) {
                continue;
            }
            let chosen = self.chosen.entry(slot).or_insert_with(|| value.clone());
            assert_eq!(
                id_of(chosen),
                id_of(value),
                "two values are chosen in slot {slot}, one of them in {ballot}"
            );
        }
    }

    /// Any majority of those who ruled the slot has chosen the same.
    fn judge_again(&self, slot: Slot) {
        let (configuration, _) = ruler(&self.oracle.at(Index(slot.0 - 1)), slot);
        for (ballot, (value, voters)) in &self.votes[&slot] {
            if configuration.has_quorum(|node| voters.contains(&node)) {
                let chosen = &self.chosen[&slot];
                assert_eq!(id_of(chosen), id_of(value), "slot {slot}: chosen anew in {ballot}");
            }
        }
    }

    fn post(&mut self, from: NodeId, to: NodeId, wire: Wire) {
        if from == to {
            return self.post_own(from, wire);
        }
        if self.cut.contains(&(from.home(), to.home())) || self.permille(self.loss_permille) {
            return;
        }
        // Machines are asked for what is chosen, whoever they are by now.
        let to = match &wire {
            Wire::Learner(ToLearner::Learn { .. }) => {
                let lives = self.nodes.keys().filter(|node| node.home() == to.home());
                lives.max().copied().unwrap_or(to)
            }
            _ => to,
        };
        let copies = 1 + u64::from(self.permille(self.duplicates_permille));
        for _ in 0..copies {
            let at = self.now_us + self.chance.random_range(self.delay_us.0..=self.delay_us.1);
            self.push(at, Due::Deliver { from, to, wire: wire.clone(), life: None });
        }
    }

    /// Lets one thing happen; `false` if nothing is left to.
    pub fn advance(&mut self) -> bool {
        let Some(((at, _), due)) = self.queue.pop_first() else { return false };
        self.now_us = self.now_us.max(at);
        match due {
            Due::Deliver { from, to, wire, life } => {
                let is_there = self.runs(to)
                    && life.is_none_or(|life| life == self.nodes[&to].life)
                    && (from == to || !self.cut.contains(&(from.home(), to.home())));
                if is_there {
                    self.deliver(to, from, wire);
                }
            }
            Due::Timer { node, version, timer } => {
                let on = self.nodes.get_mut(&node).unwrap();
                if on.timers.get(&timer) == Some(&version) {
                    on.timers.remove(&timer);
                    match timer {
                        Timer::Proposer(timer) => {
                            self.proposer_step(node, |core, out| core.on_timer(timer, out));
                        }
                        Timer::Learner(timer) => {
                            self.learner_step(node, |core, out| core.on_timer(timer, out));
                        }
                    }
                }
            }
            Due::Sync { node, life } => {
                let on = self.nodes.get_mut(&node).unwrap();
                if on.life == life && on.syncing {
                    on.syncing = false;
                    let blocks: Vec<_> = on.unsynced.drain(..).collect();
                    for (records, said) in blocks {
                        let on = self.nodes.get_mut(&node).unwrap();
                        on.disk.extend(records.iter().cloned());
                        self.durable(node, records);
                        self.acceptor_says(node, said);
                    }
                }
            }
            Due::Drain { node, life } => {
                let on = self.nodes.get_mut(&node).unwrap();
                if on.life == life && on.draining {
                    on.draining = false;
                    self.proposer_step(node, |core, out| core.on_drained(out));
                }
            }
            Due::Fetch { node, life, ask, index } => self.fetch(node, life, ask, index),
        }
        true
    }

    /// A message arrives, whatever the network would do with it.
    pub fn deliver(&mut self, to: NodeId, from: NodeId, wire: Wire) {
        match wire {
            Wire::Acceptor(message) => self.acceptor_step(to, from, message),
            Wire::Proposer(message) => {
                self.proposer_step(to, |core, out| core.on_message(name(from), message, out));
            }
            Wire::Learner(message) => {
                self.learner_step(to, |core, out| core.on_message(name(from), message, out));
            }
        }
    }

    /// A checkpoint of another node arrives, if it has one that will do.
    fn fetch(&mut self, id: NodeId, life: u64, ask: NodeId, index: Index) {
        let theirs = self.nodes.get(&ask).map(|on| on.saved.clone());
        let on = self.nodes.get_mut(&id).unwrap();
        let Some(theirs) = theirs.filter(|saved| saved.index >= index) else { return };
        if on.life != life || on.roles.is_none() || theirs.index.0 <= on.applied {
            return;
        }
        on.applied = theirs.index.0;
        (on.position, on.saved) = (theirs.clone(), theirs.clone());
        self.settle(id);
        self.subscribe(id);
    }

    /// What a checkpoint holds is not wanted any more. The state knows its commands; here the list does.
    fn settle(&mut self, id: NodeId) {
        let applied = self.nodes[&id].applied;
        let held: Vec<ProposalId> =
            self.chosen.range(..=Slot(applied)).filter_map(|(_, value)| id_of(value)).collect();
        let on = self.nodes.get_mut(&id).unwrap();
        held.iter().for_each(|held| drop(on.wanted.remove(held)));
    }

    fn subscribe(&mut self, id: NodeId) {
        let on = &self.nodes[&id];
        let (saved, from) = (on.saved.clone(), Index(on.applied + 1));
        if saved.index > Index(0) {
            let below = saved.index.next();
            self.ask(id, Request::Forget { saved, below });
        }
        self.ask(id, Request::Subscribe { from });
    }

    fn on_event(&mut self, id: NodeId, event: Event) {
        let on = self.nodes.get_mut(&id).unwrap();
        match event {
            Event::Chosen { entries, position } => {
                for Chosen { index, proposal } in entries {
                    if index.0 != on.applied + 1 {
                        continue;
                    }
                    on.applied = index.0;
                    let value = self.chosen.get(&Slot(index.0)).expect("it is chosen");
                    let for_machine = id_of(value).filter(|id| id.seq > 0);
                    assert_eq!(proposal.as_ref().map(|p| p.id), for_machine, "{id} at {index}");
                    if let Some(proposal) = proposal {
                        on.wanted.remove(&proposal.id);
                    }
                    self.applied = self.applied.max(index.0);
                }
                assert_eq!(position, self.oracle.at(position.index), "{id}: a wrong position");
                if position.index.0 == on.applied {
                    on.position = position;
                }
                let on = &self.nodes[&id];
                let is_due =
                    on.position.index.0 >= on.saved.index.0.saturating_add(self.save_every);
                if is_due && on.position.index.0 == on.applied {
                    self.save(id);
                }
            }
            Event::Barrier { id: read, from } => {
                let life = on.life + 1000;
                if read.life == life {
                    let later = on.barriers.split_off(&(read.seq + 1));
                    for above in std::mem::replace(&mut on.barriers, later).into_values() {
                        assert!(from.0 >= above, "{id} reads from {from}, and {above} was applied");
                        self.barriers_answered += 1;
                    }
                }
            }
            Event::Configured { configuration } => {
                on.configured = Some(configuration);
            }
            Event::Save => {
                if on.position.index > on.saved.index && on.position.index.0 == on.applied {
                    self.save(id);
                }
            }
            Event::Behind { ask, index } => {
                let (life, at) = (on.life, self.now_us + 5000);
                self.push(at, Due::Fetch { node: id, life, ask, index });
            }
            Event::SubscribeAgain => self.subscribe(id),
            Event::ProposeAgain => {
                let open: Vec<Proposal> = on.wanted.values().cloned().collect();
                for proposal in open {
                    self.ask(id, Request::Propose(proposal));
                }
                let on = &self.nodes[&id];
                if let Some(seq) = on.barriers.last_key_value().map(|(seq, _)| *seq) {
                    let life = on.life + 1000;
                    self.ask(id, Request::ReadBarrier { id: ProposalId { node: id, life, seq } });
                }
            }
            Event::Role { .. } | Event::Offered { .. } | Event::Dropped { .. } => {}
        }
    }

    /// A checkpoint is durable; one generation of the log stays below it.
    fn save(&mut self, id: NodeId) {
        let on = self.nodes.get_mut(&id).unwrap();
        let below = on.saved.index.next();
        on.saved = on.position.clone();
        let saved = on.saved.clone();
        self.ask(id, Request::Forget { saved, below });
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
            assert!(self.now_us < until, "not within {ms} ms: {what}\n{}", self.describe());
            assert!(self.advance(), "nothing happens any more: {what}\n{}", self.describe());
        }
    }

    /// Who the members are, by all that is chosen.
    pub fn members(&self) -> Configuration {
        self.oracle.newest().configuration
    }

    /// The members that run.
    pub fn live(&self) -> Vec<NodeId> {
        self.members().members().into_iter().filter(|id| self.runs(*id)).collect()
    }

    /// The steward: says again what is wanted, to anybody, until it shows; then starts a newcomer, or
    /// ends who is no member any more.
    pub fn steward(&mut self) {
        let now = self.members();
        let Some(change) = self.change.clone() else { return };
        let is_made = match &change {
            Change::Replace(member) | Change::Add(member) => {
                let admitted = now.admitted(*member);
                if let Some(id) = admitted
                    && !self.nodes.contains_key(&id)
                {
                    self.add(id, member.incarnation, now.clone());
                }
                admitted.is_some() && !now.is_joint()
            }
            Change::Remove(node) => now.member_at(*node).is_none() && !now.is_joint(),
        };
        // Those who ruled before are needed until the members have all that they ruled.
        let has_it =
            |id: NodeId| self.nodes.get(&id).is_some_and(|on| on.saved.configuration == now);
        let is_settled = is_made && now.members().into_iter().all(has_it);
        if is_settled {
            self.change = None;
            let gone: Vec<NodeId> =
                self.nodes.keys().copied().filter(|id| !now.members().contains(id)).collect();
            for id in gone {
                if self.runs(id) {
                    self.kill(id);
                }
                // Nobody waits for it any more.
                self.nodes.get_mut(&id).unwrap().wanted.clear();
            }
            return;
        }
        if is_made {
            let lacks = |id: &NodeId| {
                let on = &self.nodes[id];
                on.saved.configuration != now && on.position.configuration == now
            };
            let late: Vec<NodeId> = self.live().into_iter().filter(lacks).collect();
            return late.into_iter().for_each(|id| self.save(id));
        }
        let live = self.live();
        if !live.is_empty() {
            let to = live[self.below(live.len() as u64) as usize];
            let change = match change {
                Change::Replace(member) => {
                    let node = member.node.in_life(now.last_life(member.node));
                    Change::Replace(Member { node, ..member })
                }
                other => other,
            };
            self.ask(to, Request::Reconfigure(change));
        }
    }

    /// As a blank node's stewards do: every member is asked to have it taken in, and it begins when one of
    /// them has heard so.
    pub fn petition(&mut self) {
        let Some(Change::Replace(member)) = self.change.clone() else { return };
        for id in self.live() {
            let configured = self.nodes[&id].configured.clone();
            let Some(known) = configured else { continue };
            match known.admitted(member) {
                Some(node) if !self.nodes.contains_key(&node) => {
                    self.add(node, member.incarnation, known.clone());
                }
                _ => {}
            }
            // A steward is told which life of its machine is the last one, and says so.
            let node = member.node.in_life(known.last_life(member.node));
            let change = Change::Replace(Member { node, ..member });
            if known.after(&change).is_ok() {
                self.ask(id, Request::Reconfigure(change));
            }
        }
    }

    /// A machine loses its disk, and asks to be taken in as somebody else.
    pub fn lose_disk(&mut self, machine: NodeId, incarnation: u64) {
        let old = self.members().member_at(machine).expect("it is a member");
        if self.runs(old) {
            self.kill(old);
        }
        let on = self.nodes.get_mut(&old).unwrap();
        on.wanted.clear();
        on.disk.clear();
        on.saved = Position::default();
        self.lost.insert(old);
        self.change = Some(Change::Replace(member(machine, incarnation)));
    }

    pub fn describe(&self) -> String {
        let nodes = self.nodes.iter().map(|(id, on)| match &on.roles {
            None => format!("{id} down"),
            Some(Roles { acceptor, proposer, learner }) => format!(
                "{id} promised={} leads={} highest={} open={} below={} known={} applied={} \
                 saved={} wanted={}",
                acceptor.promised(),
                proposer.leads(),
                proposer.highest(),
                proposer.open(),
                learner.below(),
                learner.known(),
                on.applied,
                on.saved.index,
                on.wanted.len()
            ),
        });
        let nodes: Vec<String> = nodes.collect();
        let now = self.oracle.newest();
        format!("{} at {now}, change {:?}\n{}", now.configuration, self.change, nodes.join("\n"))
    }
}
