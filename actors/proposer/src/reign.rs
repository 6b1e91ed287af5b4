//! How far a lead reaches: the slots that its voters rule, what it brings up there, and its end.

use std::collections::{BTreeMap, BTreeSet};

use quorate_acceptor::{ALPHA, Round, Slot, configuration_proposal, foreseen, ruler};
use quorate_learner::Holes;
use quorate_protocol::{
    Change, NodeId, Out,
    log::{Position, ProposalId},
};

use crate::{
    core::{Config, Proposer},
    lead::Lead,
    messages::Wish,
};

/// What becomes of a lead by what is known of the members.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Reign {
    /// Nothing.
    GoesOn,
    /// Everything is chosen that its voters rule.
    Over,
    /// More is chosen than it has proposed.
    Overtaken,
}

/// A wish, a read barrier or both, and who has forwarded them.
pub(crate) type Forwarded = (NodeId, Vec<Wish>, Option<ProposalId>);

impl Lead {
    /// Where the log stands, as far as our learner knows. What it knew before it started anew still holds.
    pub(crate) fn on_members(&mut self, position: &Position, down: &BTreeSet<NodeId>) -> Reign {
        let known = Slot(position.index.0 + 1);
        if known < self.known {
            return Reign::GoesOn;
        }
        let at = known.max(self.first);
        let (configuration, until) = ruler(position, at);
        // Further ahead it is not known who rules, and nothing is proposed before it is.
        if at < foreseen(position) && configuration.voters != self.voters {
            return Reign::Over;
        }
        self.until = until;
        self.newest = position.configuration.clone();
        // Newcomers too: they need the log before they have a vote.
        self.add_peers(self.newest.members(), down);
        self.on_below(known)
    }

    /// Our learner knows what stands below a slot, and of no newer configuration than before.
    pub(crate) fn on_below(&mut self, known: Slot) -> Reign {
        if self.holes == Holes::Left || known <= self.known {
            return Reign::GoesOn;
        }
        self.known = known;
        self.unjudged = self.unjudged.split_off(&known);
        if known > self.next_slot {
            // Phase 1 would have shown it, had it been voted for in a lower ballot.
            return Reign::Overtaken;
        }
        self.shown = self.shown.split_off(&known);
        self.lined_up = self.lined_up.max(known);
        Reign::GoesOn
    }

    /// First slot that we must not propose for: we do not know that our voters rule there.
    pub(crate) fn limit(&self) -> Slot {
        match self.holes {
            Holes::Left => Slot(u64::MAX),
            Holes::Filled => {
                let foreseen = Slot(self.known.0.saturating_add(ALPHA));
                self.until.map_or(foreseen, |until| foreseen.min(until))
            }
        }
    }

    /// Whether no slot is known that others rule.
    pub(crate) fn has_no_end(&self) -> bool {
        self.until.is_none()
    }

    /// Whether something has not been proposed yet that could be.
    pub(crate) fn waits(&self) -> bool {
        !self.queue.is_empty() || !self.asks.is_empty() || self.lined_up < self.end
    }

    /// Whether there is no configuration besides those that are known: one that phase 1 or we have brought
    /// up may be chosen and rule already, and others be led under it in a lower ballot than ours.
    pub(crate) fn knows_members(&self) -> bool {
        let is_log = self.holes == Holes::Filled;
        !is_log || (self.until.is_none() && self.unjudged.is_empty() && self.first <= self.known)
    }

    /// The members are to be changed: proposes the configuration that this makes, unless one is under way
    /// or nothing comes of it.
    pub(crate) fn reconfigure(&mut self, change: &Change) {
        if self.holes == Holes::Left || !self.knows_members() {
            return;
        }
        let Ok(next) = self.newest.after(change) else { return };
        self.changes += 1;
        // No two leads have a ballot in common.
        let life = (self.ballot.round << 16) | (self.changes & 0xffff);
        let slot = self.enqueue_last(configuration_proposal(self.me, life, &next));
        self.unjudged.insert(slot);
    }

    /// What others have forwarded and has got no slot or no answer.
    pub(crate) fn take_forwarded(&mut self) -> Vec<Forwarded> {
        let mut all: BTreeMap<NodeId, (Vec<Wish>, Option<ProposalId>)> = BTreeMap::new();
        for (wish, from) in std::mem::take(&mut self.queue) {
            if let Some(from) = from {
                all.entry(from).or_default().0.push(wish);
            }
        }
        for (from, id) in std::mem::take(&mut self.asks) {
            if from != self.me {
                let open = &mut all.entry(from).or_default().1;
                *open = (*open).max(Some(id));
            }
        }
        all.into_iter().map(|(from, (wishes, barrier))| (from, wishes, barrier)).collect()
    }

    /// Lines up what phase 1 showed, as far as we may, in rounds of bounded size, holes filled with no-ops.
    pub(crate) fn line_up_shown(&mut self, config: &Config) {
        let stop = self.end.min(self.limit());
        let (mut entries, mut bytes) = (vec![], 0);
        while self.lined_up < stop {
            let slot = match (self.holes, self.shown.first_key_value()) {
                (Holes::Filled, _) => self.lined_up,
                (Holes::Left, Some((slot, _))) => *slot,
                (Holes::Left, None) => break,
            };
            self.lined_up = slot.next();
            let value = self.shown.remove(&slot).flatten();
            bytes += value.as_ref().map_or(0, |proposal| proposal.command.len());
            entries.push((slot, value));
            if bytes > config.limits.bytes_per_round_max
                || entries.len() >= config.limits.entries_per_round_max
            {
                self.line_up(std::mem::take(&mut entries), BTreeSet::new());
                bytes = 0;
            }
        }
        if !entries.is_empty() {
            self.line_up(entries, BTreeSet::new());
        }
    }

    /// Proposes something, if there is nothing else to propose: whoever has it knows what is chosen below.
    pub(crate) fn show_itself(&mut self) {
        let is_silent = self.queue.is_empty() && self.last_round == Round(0);
        let is_due = is_silent && self.lined_up >= self.end && self.next_slot < self.limit();
        if self.holes == Holes::Filled && is_due {
            let slot = self.next_slot;
            self.next_slot = slot.next();
            self.line_up(vec![(slot, None)], BTreeSet::new());
        }
    }

    /// Brings the end of our slots about, so that who rules next can begin.
    pub(crate) fn fill_up(&mut self, config: &Config, out: &mut Out<Proposer>) {
        let Some(until) = self.until.filter(|_| self.queue.is_empty()) else { return };
        while self.next_slot < until && self.in_flight < config.limits.rounds_in_flight_max {
            let rest = until.0 - self.next_slot.0;
            let stop = self.next_slot.0 + rest.min(config.limits.entries_per_round_max as u64);
            let entries = (self.next_slot.0..stop).map(|slot| (Slot(slot), None)).collect();
            self.next_slot = Slot(stop);
            let round = self.line_up(entries, BTreeSet::new());
            self.send_round(round, out);
        }
    }
}
