//! The rules of the acceptor.

use std::collections::BTreeMap;

use quorate_protocol::{
    Core, Name, NodeId, Out,
    planted::{Bug, is_planted},
};
use quorate_stage::{Durability, DurableCore, Outlet};

use crate::messages::{
    Answer, Ballot, Entry, Message, Progress, Record, Report, Round, Slot, Value, Vote,
};

/// Bytes of values in one part of a Promise.
const PROMISE_PART_BYTES_MAX: usize = 1024 * 1024;
/// What a vote takes besides its value, encoded: slot, ballot, round, identity of the proposal.
const VOTE_BYTES: u64 = 48;

/// The acceptor of one group on one node.
#[derive(Clone, Debug, Default)]
pub struct Acceptor {
    promised: Ballot,
    votes: BTreeMap<Slot, Vote>,
    /// Per ballot that still has votes here, through which round everything is chosen.
    marks: BTreeMap<Ballot, Round>,
    /// Votes below are forgotten: what is chosen there is in a state that is durable here.
    forgotten: Slot,
    /// Bytes of the votes that stand.
    bytes: u64,
    /// Of a node that was taken in later: what was chosen before it had a vote is not durable here yet (A5).
    waits: bool,
    /// It is, and that is written down.
    intact: bool,
}

/// What an acceptor says, and to whom.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Outbound {
    /// To the proposer on this node.
    Answer(NodeId, Answer),
    /// To the learner of our own node.
    Report(Report),
    /// To whoever asks how many bytes of log are kept.
    Bytes(Outlet<u64>, u64),
}

/// What an acceptor is woken for: by its actor, before it serves; the core never asks to be.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Timer {
    /// The journal has not answered.
    Open,
}

fn value_bytes(value: &Value) -> usize {
    value.as_ref().map_or(0, |proposal| proposal.command.len())
}

fn vote_bytes(vote: &Vote) -> u64 {
    value_bytes(&vote.value) as u64 + VOTE_BYTES
}

impl Acceptor {
    /// The acceptor that remembers `records`, given in the order in which they became durable.
    pub fn recover(records: impl IntoIterator<Item = Record>) -> Self {
        let mut acceptor = Acceptor::default();
        for record in records {
            acceptor.remember(record);
        }
        let forgotten = acceptor.forgotten;
        acceptor.forget(forgotten);
        acceptor
    }

    fn remember(&mut self, record: Record) {
        match record {
            Record::Standing { promised, marks, forgotten, intact } => {
                self.intact |= intact;
                self.promised = self.promised.max(promised);
                if !is_planted(Bug::ForgottenLostWithSegment) {
                    self.forgotten = self.forgotten.max(forgotten);
                }
                for (ballot, through) in marks {
                    self.mark(ballot, through);
                }
            }
            Record::Promised(ballot) => self.promised = self.promised.max(ballot),
            Record::Voted { ballot, round, entries, through } => {
                self.promised = self.promised.max(ballot);
                self.mark(ballot, through);
                for (slot, value) in entries {
                    self.vote(slot, Vote { ballot, round, value });
                }
            }
        }
    }

    fn vote(&mut self, slot: Slot, vote: Vote) {
        self.bytes += vote_bytes(&vote);
        if let Some(former) = self.votes.insert(slot, vote) {
            self.bytes -= vote_bytes(&former);
        }
    }

    fn mark(&mut self, ballot: Ballot, through: Round) {
        if through > Round(0) {
            let mark = self.marks.entry(ballot).or_default();
            *mark = (*mark).max(through);
        }
    }

    /// The same, of a node that was taken in later, unless it has written down that it is intact.
    pub fn of_newcomer(self) -> Self {
        Acceptor { waits: !self.intact, ..self }
    }

    /// Everything but the votes, as a record.
    pub fn standing(&self) -> Record {
        Record::Standing {
            intact: self.intact,
            promised: self.promised,
            marks: self.marks.iter().map(|(ballot, round)| (*ballot, *round)).collect(),
            forgotten: self.forgotten,
        }
    }

    /// The highest ballot promised.
    pub fn promised(&self) -> Ballot {
        self.promised
    }

    /// First slot whose votes are kept.
    pub fn forgotten(&self) -> Slot {
        self.forgotten
    }

    /// The votes that stand.
    pub fn votes(&self) -> &BTreeMap<Slot, Vote> {
        &self.votes
    }

    /// Bytes of the votes that stand, about as they are encoded.
    pub fn bytes(&self) -> u64 {
        self.bytes
    }

    fn on_prepare(&mut self, from: NodeId, ballot: Ballot, slot: Slot, out: &mut Out<Self>) {
        if ballot < self.promised && !is_planted(Bug::PromiseBelowPromise) {
            return self.nack(from, ballot, out);
        }
        // A repeated Prepare is answered again, since the first answer may have been lost.
        if ballot > self.promised {
            self.promised = ballot;
            if !is_planted(Bug::PromiseNotRecorded) {
                out.persist(Record::Promised(ballot));
            }
        }
        let forgotten = self.forgotten;
        let (mut first, mut votes, mut bytes) = (slot, vec![], 0);
        let shown = if is_planted(Bug::FirstVoteNotShown) { slot.next() } else { slot };
        for (slot, vote) in self.votes.range(shown..) {
            bytes += value_bytes(&vote.value);
            if bytes > PROMISE_PART_BYTES_MAX && !votes.is_empty() {
                let (from_slot, votes) = (first, std::mem::take(&mut votes));
                let below = Some(*slot);
                let answer = Answer::Promise { ballot, from: from_slot, below, votes, forgotten };
                out.send(Outbound::Answer(from, answer));
                first = *slot;
                bytes = value_bytes(&vote.value);
            }
            votes.push((*slot, vote.clone()));
        }
        let answer = Answer::Promise { ballot, from: first, below: None, votes, forgotten };
        out.send(Outbound::Answer(from, answer));
    }

    fn on_accept(
        &mut self,
        from: NodeId,
        (ballot, round): (Ballot, Round),
        mut entries: Vec<Entry>,
        progress: Progress,
        out: &mut Out<Self>,
    ) {
        if ballot < self.promised && !is_planted(Bug::AcceptBelowPromise) {
            return self.nack(from, ballot, out);
        }
        let rises = ballot > self.promised;
        self.promised = ballot;
        // A4. What is forgotten here is chosen, perhaps in a higher ballot and with another value
        // than this one: no vote for it may be counted.
        let asked = entries.len();
        entries.retain(|(slot, _)| *slot >= self.forgotten);
        let forgotten = entries.len() < asked;
        let through = match is_planted(Bug::OwnRoundTakenForChosen) {
            true => round,
            false => progress.through,
        };
        let id = |value: &Value| value.as_ref().map(|proposal| proposal.id);
        let voted = |slot: &Slot| self.votes.get(slot).filter(|vote| vote.ballot == ballot);
        if let Some((slot, _)) = entries
            .iter()
            .find(|(slot, value)| voted(slot).is_some_and(|vote| id(&vote.value) != id(value)))
        {
            out.alarm(format!("{from} proposes two values for slot {slot} in ballot {ballot}"));
            return;
        }
        let known = |(slot, _): &Entry| {
            let lower = is_planted(Bug::LowerVoteKept) && self.votes.contains_key(slot);
            voted(slot).is_some() || lower
        };
        if !entries.iter().all(known) {
            for (slot, value) in &entries {
                self.vote(*slot, Vote { ballot, round, value: value.clone() });
            }
            let entries = entries.clone();
            out.persist(Record::Voted { ballot, round, entries, through });
        } else if rises {
            // A1. Nothing is left to vote for, and the promise is one all the same.
            out.persist(Record::Promised(ballot));
        }
        self.mark(ballot, through);
        let below = self.forgotten;
        let answer = match forgotten {
            true => Answer::Forgotten { ballot, round, below },
            false => Answer::Accepted { ballot, round },
        };
        out.send(Outbound::Answer(from, answer));
        out.send(Outbound::Report(Report::Voted { ballot, round, entries, progress }));
    }

    fn on_confirm(&mut self, from: NodeId, ballot: Ballot, id: u64, out: &mut Out<Self>) {
        if ballot < self.promised && !is_planted(Bug::ConfirmsTheDeposed) {
            return self.nack(from, ballot, out);
        }
        out.send(Outbound::Answer(from, Answer::Confirmed { ballot, id }));
    }

    fn nack(&mut self, from: NodeId, refused: Ballot, out: &mut Out<Self>) {
        let promised = self.promised;
        out.send(Outbound::Answer(from, Answer::Nack { refused, promised }));
    }

    fn recall(&self, out: &mut Out<Self>) {
        let votes = self.votes.iter().map(|(slot, vote)| (*slot, vote.clone())).collect();
        let marks = self.marks.iter().map(|(ballot, round)| (*ballot, *round)).collect();
        let forgotten = self.forgotten;
        out.send(Outbound::Report(Report::Recalled { votes, marks, forgotten }));
    }

    fn forget(&mut self, below: Slot) {
        self.forgotten = self.forgotten.max(below);
        let kept = self.votes.split_off(&self.forgotten);
        let gone = std::mem::replace(&mut self.votes, kept);
        self.bytes -= gone.values().map(vote_bytes).sum::<u64>();
        // Marks are for the votes that stand.
        if let Some(oldest) = self.votes.values().map(|vote| vote.ballot).min() {
            self.marks = self.marks.split_off(&oldest);
        }
    }
}

impl Core for Acceptor {
    type Inbound = Message;
    type Outbound = Outbound;
    type Timer = Timer;
    type Record = Record;

    fn on_message(&mut self, from: Name, message: Message, out: &mut Out<Self>) {
        match message {
            // A5.
            Message::Prepare { .. } | Message::Accept { .. } | Message::Confirm { .. }
                if self.waits => {}
            Message::Prepare { ballot, from: slot } => {
                self.on_prepare(from.node, ballot, slot, out);
            }
            Message::Accept { ballot, round, entries, progress } => {
                self.on_accept(from.node, (ballot, round), entries, progress, out);
            }
            Message::Confirm { ballot, id } => self.on_confirm(from.node, ballot, id, out),
            Message::AskPromised => {
                let promised = self.promised;
                out.send(Outbound::Answer(from.node, Answer::Promised { promised }));
            }
            Message::Recall => self.recall(out),
            Message::Forget { below } if below > self.forgotten => {
                self.forget(below);
                // Durable before the journal drops the votes: a restart must not show the slots
                // as never voted for.
                out.persist(self.standing());
            }
            Message::Forget { .. } => {}
            Message::Intact if self.waits => {
                (self.waits, self.intact) = (false, true);
                out.persist(self.standing());
            }
            Message::Intact => {}
            Message::AskBytes(reply) => out.send(Outbound::Bytes(reply, self.bytes)),
            Message::Journal(_) => {}
        }
    }

    fn on_timer(&mut self, Timer::Open: Timer, _: &mut Out<Self>) {}

    fn invariants(&self) {
        if let Some((slot, vote)) = self.votes.last_key_value() {
            assert!(
                vote.ballot <= self.promised,
                "A2: slot {slot} voted in {} above promise {}",
                vote.ballot,
                self.promised
            );
        }
        if let Some((slot, _)) = self.votes.first_key_value() {
            assert!(*slot >= self.forgotten, "A4: slot {slot} kept below {}", self.forgotten);
        }
    }
}

impl DurableCore for Acceptor {
    /// Whether the node was taken in after its group was formed.
    type Config = bool;

    fn recover(newcomer: &bool, records: Vec<Record>) -> Result<Self, String> {
        let acceptor = Acceptor::recover(records);
        Ok(if *newcomer { acceptor.of_newcomer() } else { acceptor })
    }

    fn standing(&self) -> Record {
        Acceptor::standing(self)
    }

    fn mark(record: &Record) -> u64 {
        record.mark().0
    }

    fn kept_from(&self) -> u64 {
        self.forgotten.0
    }

    fn from_journal(message: Message) -> Result<Durability, Message> {
        match message {
            Message::Journal(event) => Ok(event),
            other => Err(other),
        }
    }

    fn open_timer() -> Timer {
        Timer::Open
    }
}
