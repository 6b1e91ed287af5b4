//! What our learner tells: what is chosen, what is missing, who is at work.

use quorate_acceptor::{Ballot, Progress, Round, Slot};
use quorate_learner::{Holes, Message as ToLearner, Notice};
use quorate_protocol::{
    NodeId, Out,
    log::{Position, ProposalId},
};

use crate::core::{Outbound, Phase, Proposer};

impl Proposer {
    pub(crate) fn on_notice(&mut self, from: NodeId, notice: Notice, out: &mut Out<Self>) {
        match notice {
            Notice::Known { ballot, progress } => {
                if let Phase::Leading(lead) = &mut self.phase
                    && ballot == lead.ballot()
                {
                    lead.on_known(from, progress);
                }
            }
            Notice::Decided { slots, below, known } => {
                self.on_decided(slots, (below, known), out);
                self.on_known(known, out);
            }
            Notice::Members(position) => self.on_members(position, out),
            Notice::Missing { from, before } => self.on_missing(from, before, out),
            Notice::Recalled => {
                // It had heard of each round once, from us if we lead, and has forgotten.
                let (ballot, progress) = match &self.phase {
                    Phase::Leading(lead) => (lead.ballot(), lead.progress()),
                    Phase::Following | Phase::Campaigning(_) => (self.highest, self.progress()),
                };
                let me = self.config.me.node;
                if ballot > Ballot::NONE {
                    out.send(Outbound::Learner(me, ToLearner::Inform { ballot, progress }));
                }
                // What is chosen behind a gap was said once too, and no progress will show it there.
                if let Phase::Leading(lead) = &self.phase {
                    for entries in lead.chosen_ahead() {
                        out.send(Outbound::Learner(me, ToLearner::Decided { entries }));
                    }
                }
            }
            Notice::Ballot(ballot) => self.heard_of(ballot, out),
            Notice::Forgotten { below } => {
                self.forget(below);
                let forgotten = self.forgotten;
                if let Phase::Leading(lead) = &mut self.phase {
                    lead.forget(forgotten);
                }
            }
        }
    }

    /// What our learner has told of what is chosen, whoever led.
    fn progress(&self) -> Progress {
        let below = match self.config.holes {
            Holes::Filled => self.below,
            Holes::Left => Slot(0),
        };
        Progress { through: Round(0), below }
    }

    /// What is below is not needed here any more: nothing is to be wished for there.
    pub(crate) fn forget(&mut self, below: Slot) {
        self.forgotten = self.forgotten.max(below);
        let forgotten = self.forgotten;
        if self.config.holes == Holes::Filled {
            self.below = self.below.max(forgotten);
            self.missing = self.missing.filter(|missing| *missing >= forgotten);
        }
        self.decided = self.decided.split_off(&forgotten);
        self.wishes.retain(|_, wish| wish.slot.is_none_or(|slot| slot >= forgotten));
    }

    /// Phase 1 shows what was voted for in a slot that no learner knows; then it is chosen again, in
    /// our ballot, with the same value.
    fn on_missing(&mut self, from: Slot, before: Option<Position>, out: &mut Out<Self>) {
        if !self.ready() || from < self.forgotten {
            return;
        }
        let under_way = match &self.phase {
            Phase::Following => false,
            Phase::Campaigning(campaign) => campaign.first() <= from,
            // What is chosen in our own ballot already will not be chosen once more in it.
            Phase::Leading(lead) => lead.first() <= from && lead.progress().below <= from,
        };
        if !under_way {
            (self.missing, self.missing_before) = (Some(from), before);
            self.campaign(out);
        }
    }

    fn on_decided(
        &mut self,
        slots: Vec<(Slot, Option<ProposalId>)>,
        (below, known): (Slot, Slot),
        out: &mut Out<Self>,
    ) {
        self.below = self.below.max(below);
        self.missing = self.missing.filter(|missing| *missing >= known);
        if !self.decided_known {
            self.decided_known = true;
            out.want_drained();
        }
        let open = self.wishes.len();
        for (slot, id) in &slots {
            if let Some(id) = id {
                self.offers.remove(id);
                self.wishes.remove(id);
            }
            if self.config.holes == Holes::Left {
                self.decided.insert(*slot);
            }
        }
        if self.config.holes == Holes::Left {
            let decided = &self.decided;
            self.wishes.retain(|_, wish| wish.slot.is_none_or(|slot| !decided.contains(&slot)));
        }
        if self.wishes.len() < open {
            self.attempts = 0;
            self.lost = 0;
        }
    }
}
