//! The rules of the learner.

use std::{
    collections::{BTreeMap, BTreeSet},
    time::Duration,
};

use quorate_acceptor::{
    Ballot, Entry, Membership, Message as ToAcceptor, Progress, Report, Round, Slot, Value, is_own,
};
use quorate_protocol::{
    Configuration, Core, Name, Never, NodeId, Out,
    log::{Chosen, Event, Index, Position, Proposal, Request},
    planted::{Bug, is_planted},
};

use quorate_stage::Outlet;

use crate::{
    members::Members,
    messages::{Fate, Library, Message, Notice, View},
};

/// Entries in one answer to Learn.
const TAUGHT_ENTRIES_MAX: usize = 512;
/// Bytes of values in one answer to Learn.
const TAUGHT_BYTES_MAX: usize = 1024 * 1024;
/// As often as everybody was asked for a slot, an answer that it is forgotten is believed to hold.
const FORGETFUL_ROUNDS: usize = 4;
/// Entries handed to the rsm in one message.
const CHOSEN_ENTRIES_MAX: usize = 512;

/// How slots are used.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Holes {
    /// A log: slots from 1 on, in order; a hole is filled with a no-op.
    Filled,
    /// The labs' library: independent instances from 0 on; a hole may stay one.
    Left,
}

/// How long a learner waits.
#[derive(Clone, Copy, Debug)]
pub struct Timing {
    /// Before asking for slots that are chosen and have not come: they may be on their way.
    pub fetch_after: Duration,
    /// Longest pause between two such questions, and before our acceptor is asked again for what
    /// it remembers.
    pub fetch_after_max: Duration,
    /// Before telling the others what is done here: more may be done soon.
    pub done_after: Duration,
    /// Longest pause before telling it again to who has not answered.
    pub done_after_max: Duration,
}

/// What a learner asks to be woken for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Timer {
    /// Ask for missing slots.
    Fetch,
    /// Tell what is done.
    Done,
    /// Our acceptor has not said yet what it remembers.
    Recall,
}

/// What a learner says, and to whom.
#[derive(Clone, Debug, PartialEq)]
pub enum Outbound {
    /// To the acceptor of this node.
    Acceptor(ToAcceptor),
    /// To the learner on that node.
    Learner(NodeId, Message),
    /// To the proposer on that node.
    Proposer(NodeId, Notice),
    /// To the rsm of this node.
    Log(Event),
    /// To whoever asks through the labs' library.
    Answer(Outlet<View>, View),
}

/// The learner of one group on one node.
#[derive(Clone, Debug)]
pub struct Learner {
    pub(crate) me: NodeId,
    pub(crate) members: Members,
    pub(crate) holes: Holes,
    timing: Timing,
    /// Our acceptor has said what it remembers.
    pub(crate) recalled: bool,
    /// What is known to be chosen and not forgotten.
    pub(crate) chosen: BTreeMap<Slot, Value>,
    /// Every slot below is known to be chosen.
    pub(crate) below: Slot,
    /// Above every slot ever heard of.
    bound: Slot,
    /// Votes of the newest ballot that are not known to be chosen, by round.
    voted: BTreeMap<Round, Vec<Entry>>,
    /// The newest ballot seen at work, and through which of its rounds everything is chosen.
    ballot: Ballot,
    through: Round,
    /// The highest claim that everything below a slot is chosen, and who made it.
    pub(crate) claimed: (Slot, NodeId),
    fetches: u32,
    fetch_armed: bool,
    /// Who was asked for `below` and does not know it either.
    ignorant: BTreeSet<NodeId>,
    /// Who was asked for `below` and has forgotten it: a checkpoint is needed.
    forgetful: BTreeSet<NodeId>,
    /// Next slot to hand over, once somebody has subscribed.
    pub(crate) next: Option<Slot>,
    /// The labs' library only: per node, first slot that it still needs.
    done: BTreeMap<NodeId, Slot>,
    /// Per other node, what it has confirmed to have heard of our own done.
    done_heard: BTreeMap<NodeId, Slot>,
    done_tries: u32,
    pub(crate) forgotten: Slot,
}

impl Learner {
    /// A learner that knows nothing yet: it asks its acceptor first, see [`Learner::start`].
    ///
    /// `told` are the members that the group was formed with or, on a node that was taken in later, which
    /// has a life in the group, those of that moment: such a one takes nobody's rule for granted before it
    /// has heard how the log begins, or has a checkpoint.
    pub fn new(me: NodeId, told: Configuration, holes: Holes, timing: Timing) -> Self {
        let first = match holes {
            Holes::Filled => Slot(1),
            Holes::Left => Slot(0),
        };
        Learner {
            me,
            members: Members::new(me, told, holes),
            holes,
            timing,
            recalled: false,
            chosen: BTreeMap::new(),
            below: first,
            bound: Slot(0),
            voted: BTreeMap::new(),
            ballot: Ballot::NONE,
            through: Round(0),
            claimed: (first, me),
            fetches: 0,
            fetch_armed: false,
            ignorant: BTreeSet::new(),
            forgetful: BTreeSet::new(),
            next: None,
            done: BTreeMap::new(),
            done_heard: BTreeMap::new(),
            done_tries: 0,
            forgotten: Slot(0),
        }
    }

    /// First words after a start. They are repeated until answered: the question or its answer is
    /// lost if an actor crashes over it.
    pub fn start(&mut self, out: &mut Out<Self>) {
        out.send(Outbound::Acceptor(ToAcceptor::Recall));
        let after = self.timing.fetch_after_max;
        out.set_timer(Timer::Recall, after, after * 2);
    }

    /// Every slot below is known to be chosen.
    pub fn below(&self) -> Slot {
        self.below
    }

    /// What is known to be chosen and not forgotten.
    pub fn chosen(&self) -> &BTreeMap<Slot, Value> {
        &self.chosen
    }

    /// First slot that is not forgotten: the labs' min().
    pub fn forgotten(&self) -> Slot {
        self.forgotten
    }

    /// Above every slot ever heard of: the labs' max() plus 1.
    pub fn bound(&self) -> Slot {
        self.bound
    }

    /// An instance, seen from here.
    pub fn fate(&self, slot: Slot) -> Fate {
        match self.chosen.get(&slot) {
            _ if slot < self.forgotten => Fate::Forgotten,
            Some(value) => Fate::Decided(value.clone()),
            None => Fate::Pending,
        }
    }

    fn others(&self) -> Vec<NodeId> {
        self.members.others(self.me)
    }

    fn heard_of(&mut self, slot: Slot) {
        self.bound = self.bound.max(slot.next());
    }

    /// These are chosen. Tells the proposer what is new, and the rsm what comes next.
    fn decide(&mut self, entries: impl IntoIterator<Item = Entry>, out: &mut Out<Self>) {
        let mut news = vec![];
        for (slot, value) in entries {
            self.heard_of(slot);
            if slot < self.forgotten {
                continue;
            }
            if let Some(known) = self.chosen.get(&slot) {
                assert_eq!(
                    known.as_ref().map(|p| p.id),
                    value.as_ref().map(|p| p.id),
                    "L1: two values chosen for slot {slot}"
                );
                continue;
            }
            news.push((slot, value.as_ref().map(|proposal| proposal.id)));
            self.chosen.insert(slot, value);
        }
        if news.is_empty() {
            return;
        }
        while self.chosen.contains_key(&self.below) {
            self.below = self.below.next();
        }
        self.learn_members(out);
        let (below, known) = (self.below, self.known());
        out.send(Outbound::Proposer(self.me, Notice::Decided { slots: news, below, known }));
        self.hand_over(out);
    }

    fn hand_over(&mut self, out: &mut Out<Self>) {
        let (Some(mut next), Some(membership)) = (self.next, &self.members.membership) else {
            return;
        };
        // A position says who the members are there.
        if next.0 <= membership.base().index.0 {
            return;
        }
        let below = self.below.min(membership.known());
        while next < below {
            let mut batch = vec![];
            while next < below && batch.len() < CHOSEN_ENTRIES_MAX {
                let Some(value) = self.chosen.get(&next) else { break };
                let for_machine = |proposal: &&Proposal| !is_own(proposal.id);
                let proposal = value.as_ref().filter(for_machine).cloned();
                batch.push(Chosen { index: Index(next.0), proposal });
                next = next.next();
            }
            if batch.is_empty() {
                break;
            }
            let position = membership.at(Index(next.0 - 1));
            out.send(Outbound::Log(Event::Chosen { entries: batch, position }));
        }
        self.next = Some(next);
        self.want_saved(out);
    }

    fn on_ballot(&mut self, ballot: Ballot, out: &mut Out<Self>) {
        if ballot > self.ballot {
            self.ballot = ballot;
            self.members.heard_from(ballot.proposer.map_or(self.me, |proposer| proposer.node));
            self.through = Round(0);
            // Votes of older ballots are proposed again, or asked for by slot.
            if !is_planted(Bug::FormerVotesKept) {
                self.voted.clear();
            }
            out.send(Outbound::Proposer(self.me, Notice::Ballot(ballot)));
        }
    }

    /// The proposer of `ballot` says that this much is chosen.
    fn on_progress(&mut self, ballot: Ballot, progress: Progress, out: &mut Out<Self>) {
        self.on_ballot(ballot, out);
        let mut entries = vec![];
        let is_present = ballot == self.ballot || is_planted(Bug::ProgressOfAnyBallot);
        if is_present && progress.through > self.through {
            self.through = progress.through;
            let rest = self.voted.split_off(&progress.through.next());
            for (_, round) in std::mem::replace(&mut self.voted, rest) {
                entries.extend(round);
            }
        }
        self.decide(entries, out);
        if let Some(proposer) = ballot.proposer
            && progress.below > self.claimed.0
        {
            self.claimed = (progress.below, proposer.node);
        }
        self.want_fetch(out);
    }

    /// Sets the timer, unless it is set: under load there is progress all the time, and a timer
    /// that is moved with it would never run out.
    fn want_fetch(&mut self, out: &mut Out<Self>) {
        if self.lacks() {
            if !self.fetch_armed {
                self.fetch_armed = true;
                let after = self.timing.fetch_after * (1 << self.fetches.min(8));
                let after = after.min(self.timing.fetch_after_max);
                out.set_timer(Timer::Fetch, after, after * 2);
            }
        } else {
            self.fetches = 0;
            self.fetch_armed = false;
            self.ignorant.clear();
            self.forgetful.clear();
            out.cancel_timer(Timer::Fetch);
        }
    }

    fn fetch(&mut self, out: &mut Out<Self>) {
        self.fetch_armed = false;
        if !self.lacks() {
            return;
        }
        // First whoever made the claim, then everybody in turn. The members that are known may all be dead
        // by now, others having taken their places. What is chosen is true whoever says it: so machines are
        // asked, in whatever life.
        let me = self.me.home();
        let known = self.others().into_iter().chain(self.members.told()).chain([self.claimed.1]);
        let others: BTreeSet<NodeId> = known.map(NodeId::home).filter(|node| *node != me).collect();
        let others: Vec<NodeId> = others.into_iter().collect();
        let node = match self.fetches as usize {
            0 if self.claimed.1.home() != me => self.claimed.1.home(),
            n if !others.is_empty() => others[n % others.len()],
            _ => return,
        };
        // Learners forget when they start anew, and votes of an old ballot do not tell what came of
        // them. So it can be that nobody knows a slot that is chosen. Then it must be proposed
        // again, as a distinguished learner would ask for (PMS 2.3).
        // Who has forgotten it knows more than any vote can show: as long as one answers, wait for
        // its checkpoint.
        let ignorant = |node| node == self.me || self.ignorant.contains(&node);
        if (self.fetches as usize).is_multiple_of((others.len() * FORGETFUL_ROUNDS).max(1)) {
            self.forgetful.clear();
        }
        if self.fetches as usize > others.len()
            && self.members.has_quorum(ignorant)
            && self.forgetful.is_empty()
            && self.reach() < self.claimed.0.max(self.below)
        {
            let from = self.reach();
            let before = self.members().filter(|_| self.known() == from);
            out.send(Outbound::Proposer(self.me, Notice::Missing { from, before }));
        }
        self.fetches += 1;
        let from = self.reach();
        let below = match self.is_newcomer() {
            true => Slot(u64::MAX),
            false => self.claimed.0.max(self.below),
        };
        out.send(Outbound::Learner(node, Message::Learn { from, below }));
        self.want_fetch(out);
    }

    fn on_learn(&mut self, asker: NodeId, from: Slot, below: Slot, out: &mut Out<Self>) {
        let (mut entries, mut bytes) = (vec![], 0);
        // What follows a gap that only a checkpoint can fill is of no use yet.
        let below = if from < self.forgotten { from } else { below.max(from) };
        for (slot, value) in self.chosen.range(from..below) {
            bytes += value.as_ref().map_or(0, |proposal| proposal.command.len());
            let full = bytes > TAUGHT_BYTES_MAX || entries.len() == TAUGHT_ENTRIES_MAX;
            if full && !entries.is_empty() {
                break;
            }
            entries.push((*slot, value.clone()));
        }
        if self.holes == Holes::Left && entries.is_empty() && from < self.forgotten {
            out.alarm(format!("{asker} asks for slot {from}, forgotten below {}", self.forgotten));
        }
        // Also when there is none: then the asker knows that we do not know.
        let forgotten = self.forgotten;
        let base = self.members.membership.as_ref().map(Membership::base);
        let before = base.filter(|base| from.0 <= base.index.0 + 1).cloned();
        out.send(Outbound::Learner(asker, Message::Taught { from, entries, forgotten, before }));
    }

    fn on_taught(
        &mut self,
        node: NodeId,
        from: Slot,
        (entries, forgotten, position): (Vec<Entry>, Slot, Option<Position>),
        out: &mut Out<Self>,
    ) {
        let before = self.reach();
        let had_begun = self.members.membership.is_some();
        if let Some(position) = position {
            self.on_before(position, out);
        }
        self.decide(entries, out);
        if self.holes == Holes::Filled && forgotten > self.reach() {
            // Everything below is chosen, and in a checkpoint of that node.
            self.forgetful.insert(node);
            let index = Index(forgotten.0 - 1);
            return out.send(Outbound::Log(Event::Behind { ask: node, index }));
        }
        let has_begun = self.members.membership.is_some() && !had_begun;
        if has_begun {
            let (below, known) = (self.below, self.known());
            let decided = Notice::Decided { slots: vec![], below, known };
            out.send(Outbound::Proposer(self.me, decided));
            self.hand_over(out);
        }
        if self.reach() == before && from == before && !has_begun {
            self.ignorant.insert(node);
        }
        if self.reach() > before {
            self.fetches = 0;
            self.ignorant.clear();
            self.forgetful.clear();
            // More is missing: ask on at once.
            self.fetch(out);
        }
    }

    fn teach(&mut self, node: NodeId, slots: Vec<Slot>, out: &mut Out<Self>) {
        let known = slots
            .into_iter()
            .filter_map(|slot| self.chosen.get(&slot).map(|value| (slot, value.clone())));
        let entries: Vec<Entry> = known.collect();
        if !entries.is_empty() {
            let from = entries[0].0;
            let (forgotten, before) = (self.forgotten, None);
            out.send(Outbound::Learner(node, Message::Taught { from, entries, forgotten, before }));
        }
    }

    fn on_report(&mut self, report: Report, out: &mut Out<Self>) {
        match report {
            Report::Voted { ballot, round, entries, progress } => {
                self.on_ballot(ballot, out);
                for (slot, _) in &entries {
                    self.heard_of(*slot);
                }
                if ballot == self.ballot {
                    let next = self.through.next();
                    if round < next || (round == next && is_planted(Bug::VoteTakenForChosen)) {
                        self.decide(entries, out);
                    } else {
                        self.voted.insert(round, entries);
                    }
                }
                self.on_progress(ballot, progress, out);
            }
            Report::Recalled { .. } if self.recalled => {}
            Report::Recalled { votes, marks, forgotten } => {
                self.recalled = true;
                out.cancel_timer(Timer::Recall);
                let marks: BTreeMap<Ballot, Round> = marks.into_iter().collect();
                self.forgotten = self.forgotten.max(forgotten);
                self.below = self.below.max(self.forgotten);
                self.claimed.0 = self.claimed.0.max(self.below);
                self.heard_of(Slot(forgotten.0.saturating_sub(1)));
                if let Some(newest) = votes.iter().map(|(_, vote)| vote.ballot).max() {
                    self.on_ballot(newest, out);
                }
                let mut known = vec![];
                for (slot, vote) in votes {
                    self.heard_of(slot);
                    let through = marks.get(&vote.ballot).copied().unwrap_or_default();
                    let heard = if vote.ballot == self.ballot { self.through } else { Round(0) };
                    if vote.round <= through.max(heard) {
                        known.push((slot, vote.value));
                    } else if vote.ballot == self.ballot {
                        self.voted.entry(vote.round).or_default().push((slot, vote.value));
                    }
                }
                let mark = marks.get(&self.ballot).copied().unwrap_or_default();
                self.through = self.through.max(mark);
                self.decide(known, out);
                self.want_fetch(out);
                // Also when nothing is new: the proposer waits for an answer, the rsm for us.
                self.tell_decided(out);
                out.send(Outbound::Proposer(self.me, Notice::Recalled));
                out.send(Outbound::Log(Event::SubscribeAgain));
            }
        }
    }

    fn tell_decided(&mut self, out: &mut Out<Self>) {
        let slots = self.chosen.range(self.below..);
        let slots = slots.map(|(slot, v)| (*slot, v.as_ref().map(|p| p.id))).collect();
        self.learn_members(out);
        self.tell_members(out);
        let (below, known) = (self.below, self.known());
        out.send(Outbound::Proposer(self.me, Notice::Decided { slots, below, known }));
        out.send(Outbound::Proposer(self.me, Notice::Forgotten { below: self.forgotten }));
    }

    fn on_done_here(&mut self, below: Slot, out: &mut Out<Self>) {
        let own = self.done.entry(self.me).or_default();
        if below > *own {
            *own = below;
            self.done_tries = 0;
            let after = self.timing.done_after;
            out.set_timer(Timer::Done, after, after * 2);
            self.forget(out);
        }
    }

    fn tell_done(&mut self, out: &mut Out<Self>) {
        let below = self.done.get(&self.me).copied().unwrap_or_default();
        let deaf = |node: &NodeId| self.done_heard.get(node).is_none_or(|heard| *heard < below);
        let deaf: Vec<NodeId> = self.others().into_iter().filter(deaf).collect();
        for node in &deaf {
            out.send(Outbound::Learner(*node, Message::Done { below }));
        }
        if !deaf.is_empty() {
            self.done_tries += 1;
            let after = self.timing.done_after * (1 << self.done_tries.min(12));
            let after = after.min(self.timing.done_after_max);
            out.set_timer(Timer::Done, after, after * 2);
        }
    }

    fn on_done_there(&mut self, node: NodeId, below: Slot, out: &mut Out<Self>) {
        if !self.members.nodes().contains(&node) {
            out.alarm(format!("{node} is no member, yet speaks of what it has done"));
            return;
        }
        let known = self.done.entry(node).or_default();
        if below > *known {
            *known = below;
            self.forget(out);
        }
    }

    /// Forgets what no member needs. A member that has never said so needs everything.
    fn forget(&mut self, out: &mut Out<Self>) {
        let needs = |node: &NodeId| self.done.get(node).copied().unwrap_or_default();
        let min = self.members.nodes().iter().map(needs).min().unwrap_or_default();
        self.forget_below(min, out);
    }

    fn forget_below(&mut self, min: Slot, out: &mut Out<Self>) {
        if min <= self.forgotten {
            return;
        }
        self.forgotten = min;
        self.chosen = self.chosen.split_off(&min);
        if let Some(membership) = &mut self.members.membership {
            membership.forget(min);
        }
        for entries in self.voted.values_mut() {
            entries.retain(|(slot, _)| *slot >= min);
        }
        self.voted.retain(|_, entries| !entries.is_empty());
        if min > self.below {
            self.below = min;
            while self.chosen.contains_key(&self.below) {
                self.below = self.below.next();
            }
        }
        self.heard_of(Slot(min.0.saturating_sub(1)));
        out.send(Outbound::Acceptor(ToAcceptor::Forget { below: min }));
        out.send(Outbound::Proposer(self.me, Notice::Forgotten { below: min }));
    }

    fn on_log(&mut self, request: Request, out: &mut Out<Self>) {
        match request {
            Request::Subscribe { from } => {
                let from = Slot(from.0);
                if from < self.forgotten {
                    out.alarm(format!("asked for slot {from}, forgotten below {}", self.forgotten));
                }
                self.next = Some(from);
                // A checkpoint may know more than our acceptor's votes show. It may also need what
                // is not known any more: a former life of the rsm had it, without having saved it,
                // and we have started anew in between.
                let (reached, known) = (self.below, self.known());
                self.below = from.max(self.forgotten);
                while self.chosen.contains_key(&self.below) {
                    self.below = self.below.next();
                }
                self.heard_of(Slot(from.0.saturating_sub(1)));
                if self.below < reached && self.claimed.0 < reached {
                    self.claimed = (reached, self.me);
                }
                self.on_subscribed(from, out);
                if (self.below, self.known()) > (reached, known) {
                    self.tell_decided(out);
                }
                self.want_fetch(out);
                self.hand_over(out);
            }
            // Whatever others need: they can have the state (L3). If what is known here does not
            // reach `saved`, Subscribe goes on behind it; votes in between are of use to others.
            Request::Forget { saved, below } => {
                let (reached, known) = (self.below, self.known());
                self.forget_below(Slot(below.0), out);
                self.on_saved(saved, out);
                if (self.below, self.known()) > (reached, known) {
                    self.tell_decided(out);
                }
            }
            Request::Propose(_)
            | Request::Offer(_)
            | Request::ReadBarrier { .. }
            | Request::Reconfigure(_) => {
                out.alarm("the learner was asked to propose".into());
            }
        }
    }
}

impl Core for Learner {
    type Inbound = Message;
    type Outbound = Outbound;
    type Timer = Timer;
    type Record = Never;

    fn on_message(&mut self, from: Name, message: Message, out: &mut Out<Self>) {
        self.members.heard_from(from.node);
        match message {
            Message::Report(report) => self.on_report(report, out),
            Message::Announce { ballot, progress } => {
                self.on_progress(ballot, progress, out);
                out.send(Outbound::Proposer(from.node, Notice::Known { ballot, progress }));
            }
            Message::Inform { ballot, progress } => self.on_progress(ballot, progress, out),
            Message::Decided { entries } => self.decide(entries, out),
            Message::Learn { from: first, below } => self.on_learn(from.node, first, below, out),
            Message::Teach { node, slots } => self.teach(node, slots, out),
            Message::Taught { from: first, entries, forgotten, before } => {
                self.on_taught(from.node, first, (entries, forgotten, before), out);
            }
            Message::Done { below } => {
                self.on_done_there(from.node, below, out);
                let own = self.done.get(&self.me).copied().unwrap_or_default();
                let answer = Message::DoneToo { heard: below, below: own };
                out.send(Outbound::Learner(from.node, answer));
            }
            Message::DoneToo { heard, below } => {
                let known = self.done_heard.entry(from.node).or_default();
                *known = (*known).max(heard);
                self.on_done_there(from.node, below, out);
            }
            Message::AskDecided if self.recalled => self.tell_decided(out),
            // Answered once our acceptor has answered us.
            Message::AskDecided => {}
            Message::Log(request) => self.on_log(request, out),
            Message::Library(Library::Done(slot)) => self.on_done_here(slot.next(), out),
            Message::Library(Library::Ask { slot, reply }) => out.send(Outbound::Answer(
                reply,
                View { fate: self.fate(slot), min: self.forgotten, bound: self.bound },
            )),
        }
    }

    fn on_timer(&mut self, timer: Timer, out: &mut Out<Self>) {
        match timer {
            Timer::Fetch => self.fetch(out),
            Timer::Done => self.tell_done(out),
            Timer::Recall => self.start(out),
        }
    }

    fn invariants(&self) {
        assert!(
            self.voted.first_key_value().is_none_or(|(round, _)| *round > self.through),
            "L2: a round that is chosen still waits"
        );
        assert!(
            self.chosen.first_key_value().is_none_or(|(slot, _)| *slot >= self.forgotten),
            "L3: a forgotten slot is kept"
        );
        assert!(self.next.is_none_or(|next| next <= self.below), "L4: handed over too much");
        if self.holes == Holes::Filled {
            assert!(self.below.0 >= 1, "L5: a log begins at 1");
            assert!(
                self.known() <= self.below,
                "L6: the members are known below {}, and what is chosen below {}",
                self.known(),
                self.below
            );
        }
    }
}
