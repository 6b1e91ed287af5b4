//! The candidate: first it asks whether a campaign could succeed (thesis, 9.6), then it campaigns
//! (section 5.2). And the voter, in whatever role it is.

use std::collections::BTreeMap;

use quorate_protocol::{
    NodeId, Out,
    planted::{Bug, is_planted},
};

use crate::{
    core::{Outbound, Peer, Role, Shared, Timer, to},
    leader::Leader,
    messages::{Message, Place, Term},
};

/// What belongs to a candidate alone.
#[derive(Clone, Debug)]
pub(crate) struct Candidate {
    /// The term that it campaigns in; of a pre-vote, the one after the present.
    term: Term,
    pre_vote: bool,
    /// The leader has asked for this campaign.
    transfer: bool,
    /// Who has answered, and what.
    votes: BTreeMap<NodeId, bool>,
}

impl Candidate {
    /// Asks the voters that have not answered. An answer that has been heard stands, however late
    /// it was.
    pub(crate) fn solicit(&self, shared: &Shared, out: &mut Out<Peer>) {
        let configuration = shared.configuration();
        let open = |node: &NodeId| {
            configuration.votes(*node) && *node != shared.me() && !self.votes.contains_key(node)
        };
        let nodes: Vec<NodeId> = configuration.members().into_iter().filter(open).collect();
        let request = Message::RequestVote {
            term: self.term,
            last_log_index: shared.log.last(),
            last_log_term: shared.log.last_term(),
            pre_vote: self.pre_vote,
            transfer: self.transfer,
        };
        if !nodes.is_empty() {
            out.send(Outbound::Peers(nodes, request));
        }
        let again = shared.config.timing.heartbeat;
        out.set_timer(Timer::Heartbeat, again, again);
    }

    fn has_won(&self, shared: &Shared) -> bool {
        shared.configuration().has_quorum(|node| self.votes.get(&node) == Some(&true))
    }

    /// Whether it cannot win any more, as long as nobody comes back whose link is down.
    fn has_lost(&self, shared: &Shared) -> bool {
        let may_vote = |node: NodeId| match self.votes.get(&node) {
            Some(granted) => *granted,
            None => !shared.is_down(node),
        };
        !shared.configuration().has_quorum(may_vote)
    }
}

impl Shared {
    /// Whether this peer may lead: as a voter, or while it is not known here that the others have
    /// let it go. It may be the only one whose log is good enough for a leader (thesis, 4.2.2).
    fn may_campaign(&self) -> bool {
        let (newest, place) = self.log.configuration();
        let former = self.log.configuration_at(place.before()).0;
        newest.votes(self.me()) || (place > self.commit && former.votes(self.me()))
    }

    /// Whether a log that ends so is at least as up to date as ours (section 5.4.1).
    fn is_up_to_date(&self, last_log_term: Term, last_log_index: Place) -> bool {
        (last_log_term, last_log_index) >= (self.log.last_term(), self.log.last())
            || is_planted(Bug::LogsNotCompared)
    }
}

impl Peer {
    /// A campaign, or the question before it, has come: may it have our vote?
    pub(crate) fn on_request_vote(
        &mut self,
        from: NodeId,
        term: Term,
        (last_log_term, last_log_index): (Term, Place),
        (pre_vote, transfer): (bool, bool),
        out: &mut Out<Self>,
    ) {
        // Who has a leader lets nobody depose it (section 6, at its end; thesis, 4.2.3).
        let content = match &self.role {
            Role::Follower(follower) => follower.has_heard,
            Role::Candidate(_) => false,
            Role::Leader(_) => true,
        };
        let up_to_date = self.shared.is_up_to_date(last_log_term, last_log_index);
        if pre_vote {
            let granted = term > self.shared.term && !content && up_to_date;
            let answer = if granted { term } else { self.shared.term };
            out.send(to(from, Message::Vote { term: answer, pre_vote, granted }));
            if let Role::Leader(leader) = &self.role
                && term == self.shared.term.next()
            {
                leader.on_pre_vote(&self.shared, from, out);
            }
            return;
        }
        if term > self.shared.term {
            if content && !transfer {
                return;
            }
            self.follow(term, None, out);
        }
        let free = self.shared.voted_for.is_none_or(|node| node == from)
            || is_planted(Bug::TwoVotesInATerm);
        let granted = term == self.shared.term && free && up_to_date && from != self.shared.me();
        if granted {
            if self.shared.voted_for.is_none() {
                self.shared.enter(term, Some(from), out);
            }
            self.arm_election(out);
        }
        let term = self.shared.term;
        out.send(to(from, Message::Vote { term, pre_vote, granted }));
    }

    /// Asks whether a campaign could succeed. Nothing is remembered, and nobody's term moves: a
    /// peer that was cut off does not disturb the others when it comes back.
    pub(crate) fn pre_campaign(&mut self, out: &mut Out<Self>) {
        let me = self.shared.me();
        if !self.shared.may_campaign() {
            return;
        }
        let votes = BTreeMap::from([(me, true)]);
        let term = self.shared.term.next();
        let candidate = Candidate { term, pre_vote: true, transfer: false, votes };
        candidate.solicit(&self.shared, out);
        let has_won = candidate.has_won(&self.shared);
        self.role = Role::Candidate(candidate);
        self.arm_election(out);
        if has_won {
            self.campaign(false, out);
        }
    }

    /// Campaigns. Our own vote counts, as any other, once it is durable: it comes as a message to
    /// ourselves.
    pub(crate) fn campaign(&mut self, transfer: bool, out: &mut Out<Self>) {
        let me = self.shared.me();
        if !self.shared.may_campaign() {
            return;
        }
        let term = self.shared.term.next();
        self.shared.enter(term, Some(me), out);
        let candidate = Candidate { term, pre_vote: false, transfer, votes: BTreeMap::new() };
        out.send(to(me, Message::Vote { term, pre_vote: false, granted: true }));
        candidate.solicit(&self.shared, out);
        self.role = Role::Candidate(candidate);
        self.arm_election(out);
    }

    pub(crate) fn on_vote(
        &mut self,
        from: NodeId,
        term: Term,
        (pre_vote, granted): (bool, bool),
        out: &mut Out<Self>,
    ) {
        if term > self.shared.term && !(pre_vote && granted) {
            return self.follow(term, None, out);
        }
        let Role::Candidate(candidate) = &mut self.role else { return };
        // A refused pre-vote comes with the voter's own term.
        let is_answer = candidate.pre_vote == pre_vote
            && (candidate.term == term
                || is_planted(Bug::FormerTermVoteCounted)
                || (pre_vote && !granted && term.next() == candidate.term));
        if !is_answer {
            return;
        }
        candidate.votes.insert(from, granted);
        if candidate.has_won(&self.shared) {
            match pre_vote {
                true => self.campaign(false, out),
                false => self.lead(out),
            }
        } else if !pre_vote && candidate.has_lost(&self.shared) {
            // Votes were split, which takes no timeout to see: again, after a pause by chance.
            let (at_least, at_most) = self.shared.config.timing.hurry;
            out.set_timer(Timer::Election, at_least, at_most);
        }
    }

    fn lead(&mut self, out: &mut Out<Self>) {
        out.cancel_timer(Timer::Election);
        self.shared.stop_retry(out);
        let leader = Leader::new(&mut self.shared, out);
        self.role = Role::Leader(Box::new(leader));
        self.shared.refresh(out);
        out.want_drained();
    }
}
