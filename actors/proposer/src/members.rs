//! Who rules: for whom a ballot is campaigned, when a lead is over, and how the members change.

use quorate_acceptor::{Ballot, Slot, foreseen, is_former, ruler};
use quorate_learner::Holes;
use quorate_protocol::{
    Change, Configuration, NodeId, Out,
    log::{Index, Position, ProposalId},
};

use crate::{
    core::{Phase, Proposer},
    reign::Reign,
};

/// How often a leader is asked that has to bring a pending configuration about first.
const ATTEMPTS_PENDING_MAX: u32 = 5;

/// First slot of which a position does not say what stands there.
fn known(position: &Position) -> Slot {
    Slot(position.index.0 + 1)
}

impl Proposer {
    /// Where a campaign would begin, who rules there, and what is known of the log then; `None` while it
    /// is not known who rules.
    pub(crate) fn stretch(&self) -> Option<(Slot, Configuration, Option<Position>)> {
        if self.config.holes == Holes::Left {
            let first = self.missing.map_or(self.below, |missing| missing.min(self.below));
            return Some((first, self.config.formation.clone(), None));
        }
        // Who ruled where something is missing is what our learner knows now, which may be less than it
        // has known: later configurations have no business there.
        if let (Some(missing), Some(before)) = (self.missing, &self.missing_before)
            && missing == known(before)
        {
            return Some((missing, ruler(before, missing).0, Some(before.clone())));
        }
        let view = self.view.as_ref()?;
        let first = self.below.max(known(view));
        (first < foreseen(view)).then(|| (first, ruler(view, first).0, Some(view.clone())))
    }

    /// Whether our vote would count, if we campaigned.
    pub(crate) fn may_campaign(&self) -> bool {
        let me = self.config.me.node;
        self.stretch().is_some_and(|(_, configuration, _)| configuration.voters.contains(&me))
    }

    /// How often to ask a leader before another campaign: while a configuration is pending it answers nobody.
    pub(crate) fn attempts_max(&self) -> u32 {
        let is_pending = self.view.as_ref().is_some_and(|view| view.configuration.is_joint());
        if is_pending { ATTEMPTS_PENDING_MAX } else { 1 }
    }

    /// Whether a node was a member, and is none any more.
    pub(crate) fn has_left(&self, node: NodeId) -> bool {
        self.view.as_ref().is_some_and(|view| is_former(&view.configuration, node))
    }

    /// Our learner says where the log stands.
    pub(crate) fn on_members(&mut self, position: Position, out: &mut Out<Self>) {
        if self.view.as_ref().is_none_or(|view| view.index <= position.index) {
            self.view = Some(position.clone());
            // Somebody leads, and what is asked of it may have to wait for just this.
            self.attempts = 0;
            out.want_drained();
        }
        let reign = match &mut self.phase {
            Phase::Leading(lead) => lead.on_members(&position, &self.down),
            Phase::Following | Phase::Campaigning(_) => Reign::GoesOn,
        };
        self.heard = Some(position);
        self.go_by(reign, out);
        if let Phase::Campaigning(campaign) = &self.phase
            && self.stretch().is_some_and(|(_, configuration, _)| {
                configuration.voters != campaign.configuration().voters
            })
        {
            // Nobody whom we have asked can help us any more.
            self.campaign_on(out);
        }
    }

    /// Our learner knows what stands below a slot, and there is no newer configuration.
    pub(crate) fn on_known(&mut self, below: Slot, out: &mut Out<Self>) {
        let Some(heard) = &mut self.heard else { return };
        heard.index = Index(below.0.saturating_sub(1));
        if let Some(view) = &mut self.view
            && (view.index < heard.index)
        {
            (view.index, view.place) = (heard.index, heard.index.0);
        }
        if let Phase::Leading(lead) = &mut self.phase {
            let reign = lead.on_below(below);
            if lead.waits() {
                out.want_drained();
            }
            self.go_by(reign, out);
        }
    }

    /// What becomes of our lead.
    pub(crate) fn go_by(&mut self, reign: Reign, out: &mut Out<Self>) {
        match reign {
            Reign::GoesOn => {}
            // A higher ballot has been at work: ours has no business here any more.
            Reign::Overtaken => self.step_down(out),
            Reign::Over => {
                if let Phase::Leading(lead) = &mut self.phase {
                    // Who is no member any more hears of it before it hears no more.
                    lead.announce(out);
                }
                self.hands_over = true;
                self.campaign_on(out);
            }
        }
    }

    /// Campaigns anew, among those who rule now, for what was asked of us too.
    fn campaign_on(&mut self, out: &mut Out<Self>) {
        let forwarded = match &mut self.phase {
            Phase::Leading(lead) => lead.take_forwarded(),
            Phase::Campaigning(campaign) => campaign.take_forwarded(),
            Phase::Following => vec![],
        };
        self.campaign(out);
        if let Phase::Campaigning(campaign) = &mut self.phase {
            for (from, wishes, barrier) in forwarded {
                campaign.on_forward(from, wishes, barrier);
            }
        }
    }

    /// The members are to be changed: by us if we lead, else by whoever does.
    pub(crate) fn on_change(&mut self, change: Change, out: &mut Out<Self>) {
        if self.config.holes == Holes::Left {
            return out.alarm("the members of the library do not change".into());
        }
        match &mut self.phase {
            Phase::Leading(lead) => lead.reconfigure(&change),
            Phase::Campaigning(_) | Phase::Following => self.change = Some(change),
        }
        out.want_drained();
    }

    /// A barrier of nobody's.
    pub(crate) fn probe(&self) -> ProposalId {
        let me = self.config.me;
        ProposalId { node: me.node, life: me.incarnation.0, seq: 0 }
    }

    /// We have no vote, and nobody who leads answers: asks one of those who may campaign.
    pub(crate) fn appeal(&mut self, out: &mut Out<Self>) {
        let (me, stretch) = (self.config.me.node, self.stretch());
        let voters = stretch.into_iter().flat_map(|(_, configuration, _)| configuration.voters);
        let others: Vec<NodeId> =
            voters.filter(|node| *node != me && !self.is_down(*node)).collect();
        if !others.is_empty() {
            self.appeals = self.appeals.wrapping_add(1);
            let to = others[self.appeals % others.len()];
            self.fresh.clear();
            let open = self.wishes.keys().copied().collect();
            self.forward(to, open, Some(self.highest), out);
        }
        self.arm_retry(out);
    }

    /// Whether to campaign for somebody who has no vote: not if we know somebody better to ask.
    pub(crate) fn heeds(&self, over: Ballot) -> bool {
        let knows_better =
            self.highest > over && self.leader().is_some_and(|leader| !self.is_down(leader));
        self.ready() && !knows_better && self.may_campaign()
    }
}
