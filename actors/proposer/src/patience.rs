//! When to ask again, and when to campaign: links that come and go, timers that run out.

use std::time::Duration;

use quorate_protocol::{NodeId, Out};

use crate::core::{Outbound, Phase, Proposer, Timer};

impl Proposer {
    pub(crate) fn on_link_down(&mut self, node: NodeId, out: &mut Out<Self>) {
        self.down.insert(node.home());
        match &mut self.phase {
            Phase::Leading(lead) => lead.on_link(node, false),
            Phase::Campaigning(_) => {}
            Phase::Following => {
                if self.leader().is_some_and(|leader| leader.home() == node.home()) {
                    self.hurry(out);
                }
            }
        }
    }

    /// Nobody leads, as far as we know: campaign soon, if there is a reason to.
    pub(crate) fn hurry(&mut self, out: &mut Out<Self>) {
        if self.wants_something() {
            self.watch();
            self.attempts = u32::MAX;
            out.set_timer(Timer::Retry, Duration::ZERO, self.config.timing.hurry);
        }
    }

    pub(crate) fn on_link_up(&mut self, node: NodeId, out: &mut Out<Self>) {
        self.down.remove(&node.home());
        match &mut self.phase {
            Phase::Leading(lead) => {
                lead.on_link(node, true);
                lead.resend_all_to(node, out);
                lead.arm_resend(&self.config, out);
            }
            Phase::Campaigning(campaign) => {
                let is_owed =
                    |voter: &&NodeId| voter.home() == node.home() && !campaign.promised_by(**voter);
                let owed: Vec<NodeId> =
                    campaign.configuration().voters.iter().filter(is_owed).copied().collect();
                if campaign.promised_by(self.config.me.node) && !owed.is_empty() {
                    out.send(Outbound::Acceptors(owed, campaign.prepare()));
                }
            }
            Phase::Following => {}
        }
    }

    pub(crate) fn on_retry(&mut self, out: &mut Out<Self>) {
        self.retry_armed = false;
        if !self.ready() {
            self.ask_own_node(out);
            return self.arm_retry(out);
        }
        if !self.wants_something() || !matches!(self.phase, Phase::Following) {
            return;
        }
        let stuck = self.missing.is_some()
            || self.change.is_some()
            || self.hands_over
            || self.watched.iter().any(|id| self.wishes.contains_key(id))
            || (self.barrier.is_some() && self.barrier == self.watched_barrier);
        if !stuck {
            return self.arm_retry(out);
        }
        self.attempts = self.attempts.saturating_add(1);
        match self.leader() {
            Some(leader) if self.attempts <= self.attempts_max() && !self.is_down(leader) => {
                self.fresh.clear();
                let open = self.wishes.keys().copied().collect();
                self.forward(leader, open, None, out);
                self.arm_retry(out);
            }
            _ => self.campaign(out),
        }
    }

    pub(crate) fn on_campaign(&mut self, out: &mut Out<Self>) {
        let Phase::Campaigning(campaign) = &mut self.phase else { return };
        let tries = campaign.again();
        let me = self.config.me.node;
        let missing: Vec<NodeId> = if campaign.promised_by(me) {
            let voters = campaign.configuration().voters.iter().copied();
            voters.filter(|node| !campaign.promised_by(*node)).collect()
        } else {
            vec![me]
        };
        let prepare = campaign.prepare();
        if self.wants_something() {
            out.send(Outbound::Acceptors(missing, prepare));
            self.arm_campaign(tries, out);
        } else {
            self.phase = Phase::Following;
            self.tell_leader(out);
        }
    }
}
