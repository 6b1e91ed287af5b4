//! Who the members are, as far as this learner knows: taken out of what is chosen, in order.

use std::collections::{BTreeMap, BTreeSet};

use quorate_acceptor::{Membership, Message as ToAcceptor, Slot, pending_until};
use quorate_protocol::{
    Configuration, NodeId, Out,
    log::{Event, Position},
};

use crate::{
    core::{Holes, Learner, Outbound},
    messages::Notice,
};

/// What a learner knows of the members.
#[derive(Clone, Debug)]
pub(crate) struct Members {
    /// As they were told to us: those who formed the group or, on a node that was taken in later, those
    /// of that moment.
    told: Configuration,
    /// Whether the group was formed with them, and this is its log.
    formed: bool,
    /// Of a log, who rules, as far as it is known; `None` on a node that was taken in later, before it
    /// has heard where the log begins.
    pub(crate) membership: Option<Membership>,
    /// Everybody in the newest configuration.
    nodes: Vec<NodeId>,
    /// By machine, the last life that we have heard of: after a restart the members that we know may all
    /// be dead.
    heard: BTreeMap<NodeId, NodeId>,
    /// The durable state of this node ends there.
    saved: Option<Position>,
    /// It has changed since it was told.
    news: bool,
    /// The slot from which the newest configuration rules, if it did not when that was told.
    pending: Option<Slot>,
    /// What the rsm was told.
    configured_told: Option<Configuration>,
}

impl Members {
    /// A configuration that gives lives is none that a group was formed with, and nobody has had one
    /// who was there then.
    pub(crate) fn new(me: NodeId, told: Configuration, holes: Holes) -> Self {
        let formed = holes == Holes::Filled && told.lives.is_empty() && me.life() == 0;
        let mut members = Members {
            formed,
            nodes: told.members().into_iter().collect(),
            told,
            membership: None,
            heard: BTreeMap::new(),
            saved: None,
            news: true,
            pending: None,
            configured_told: None,
        };
        members.begin();
        members
    }

    /// Begins anew with what this node has by itself.
    fn begin(&mut self) {
        self.news = true;
        self.membership = match &self.saved {
            Some(saved) => Some(Membership::after(saved.clone())),
            None => self.formed.then(|| Membership::formed(self.told.clone())),
        };
    }

    /// The members as they were told to us at first.
    pub(crate) fn told(&self) -> BTreeSet<NodeId> {
        self.told.members()
    }

    /// A node has a part in the group, or had one.
    pub(crate) fn heard_from(&mut self, node: NodeId) {
        let last = self.heard.entry(node.home()).or_insert(node);
        *last = node.max(*last);
    }

    /// Whom to ask: the members and whoever has been heard of, each machine in its last life.
    pub(crate) fn others(&self, me: NodeId) -> Vec<NodeId> {
        let mut last = self.heard.clone();
        for node in &self.nodes {
            let known = last.entry(node.home()).or_insert(*node);
            *known = (*known).max(*node);
        }
        last.into_values().filter(|node| node.home() != me.home()).collect()
    }

    /// Everybody who has part in the newest configuration.
    pub(crate) fn nodes(&self) -> &[NodeId] {
        &self.nodes
    }

    /// Whether those for whom `agrees` holds are a majority of the newest configuration.
    pub(crate) fn has_quorum(&self, agrees: impl Fn(NodeId) -> bool) -> bool {
        match &self.membership {
            Some(membership) => membership.newest().configuration.has_quorum(agrees),
            None => self.told.has_quorum(agrees),
        }
    }

    fn replace(&mut self, position: Position) {
        self.membership = Some(Membership::after(position));
        self.news = true;
    }
}

impl Learner {
    /// Every slot below is taken account of in who the members are.
    pub fn known(&self) -> Slot {
        match (&self.members.membership, self.holes) {
            (Some(membership), _) => membership.known(),
            (None, Holes::Filled) => Slot(1),
            (None, Holes::Left) => self.below,
        }
    }

    /// Where the log stands, as far as the members are known.
    pub fn members(&self) -> Option<Position> {
        self.members.membership.as_ref().map(Membership::newest)
    }

    /// What is to be fetched begins here: values that are missing, also where only who the members are
    /// depends on them.
    pub(crate) fn reach(&self) -> Slot {
        // What our acceptor has forgotten is in the state of this node, which says who they are.
        match self.known() < self.forgotten {
            true => self.below,
            false => self.below.min(self.known()),
        }
    }

    /// Whether something must be fetched.
    pub(crate) fn lacks(&self) -> bool {
        self.is_newcomer() || self.reach() < self.claimed.0.max(self.below)
    }

    /// Whether we were taken in and have not come so far in the log that we have a vote. Nobody may tell
    /// us of what was chosen before, so we have to ask.
    pub(crate) fn is_newcomer(&self) -> bool {
        let Some(membership) = &self.members.membership else {
            return self.holes == Holes::Filled && self.forgotten <= Slot(1) && self.recalled;
        };
        if self.me.life() == 0 || self.known() < self.forgotten {
            return false;
        }
        let newest = membership.newest().configuration;
        let given = newest.lives.get(&self.me.home()).map_or(0, |life| life.number);
        given < self.me.life() || (newest.is_joint() && !newest.outgoing.contains(&self.me))
    }

    /// The state of this node is durable through there.
    pub(crate) fn on_saved(&mut self, saved: Position, out: &mut Out<Self>) {
        if self.holes == Holes::Filled && !saved.configuration.voters.is_empty() {
            if self.is_voter(&saved) {
                out.send(Outbound::Acceptor(ToAcceptor::Intact));
            }
            self.members.saved = Some(saved);
            self.learn_members(out);
            self.want_saved(out);
        }
    }

    /// Whether we were taken in, and rule what stands above a position.
    fn is_voter(&self, position: &Position) -> bool {
        let Position { configuration, .. } = position;
        let rules = configuration.voters.contains(&self.me) && !configuration.is_joint();
        self.me.life() > 0 && rules
    }

    /// Until the state that we came to is durable here, our acceptor does not count.
    pub(crate) fn want_saved(&self, out: &mut Out<Self>) {
        let is_saved = self.members.saved.as_ref().is_some_and(|saved| self.is_voter(saved));
        if !is_saved && self.members().is_some_and(|newest| self.is_voter(&newest)) {
            out.send(Outbound::Log(Event::Save));
        }
    }

    /// The log is wanted from `next` on: positions too, from there on.
    pub(crate) fn on_subscribed(&mut self, next: Slot, out: &mut Out<Self>) {
        let base = self.members.membership.as_ref().map_or(0, |known| known.base().index.0);
        if next.0 <= base {
            self.members.begin();
        }
        self.learn_members(out);
        self.want_saved(out);
    }

    /// Another learner says where its knowledge of the members begins. Who has handed over what is below,
    /// or got it in a state, can begin there too.
    pub(crate) fn on_before(&mut self, before: Position, out: &mut Out<Self>) {
        let is_news = before.index.0 >= self.known().0
            || (self.members.membership.is_none() && self.forgotten <= Slot(1));
        let is_past = self.next.is_some_and(|next| before.index.0 < next.0.min(self.below.0));
        if is_news && is_past && !before.configuration.voters.is_empty() {
            self.members.replace(before);
            self.learn_members(out);
        }
    }

    /// Takes account of what is chosen in who the members are, and says what is new of them.
    pub(crate) fn learn_members(&mut self, out: &mut Out<Self>) {
        let (below, members) = (self.below, &mut self.members);
        let known = members.membership.as_ref().map_or(0, |membership| membership.known().0);
        if let Some(saved) = &members.saved
            && known <= saved.index.0
            && saved.index.0 < below.0
        {
            members.begin();
        }
        let Some(membership) = &mut members.membership else { return };
        while membership.known() < below {
            let slot = membership.known();
            let Some(value) = self.chosen.get(&slot) else { break };
            match membership.learn(value) {
                Ok(is_newer) => members.news |= is_newer,
                // Nobody leads who would have proposed that; it is void on every replica.
                Err(error) => out.alarm(format!("slot {slot}: {error}")),
            }
        }
        let known = membership.known();
        members.news |= members.pending.is_some_and(|until| known >= until);
        if members.news && self.recalled {
            self.tell_members(out);
        }
    }

    /// Tells our proposer who the members are and, once all that is chosen here is taken account of, the
    /// rsm.
    pub(crate) fn tell_members(&mut self, out: &mut Out<Self>) {
        let Some(position) = self.members() else { return };
        let members = &mut self.members;
        members.nodes = position.configuration.members().into_iter().collect();
        members.pending = pending_until(&position);
        out.send(Outbound::Proposer(self.me, Notice::Members(position.clone())));
        // Until then it is still to be told.
        members.news = position.index.0 + 1 < self.below.0;
        let configuration = position.configuration;
        // A newcomer is not told of a time before its own.
        let given = configuration.lives.get(&self.me.home()).map_or(0, |life| life.number);
        let is_ours = given >= self.me.life();
        if !members.news && is_ours && members.configured_told.as_ref() != Some(&configuration) {
            members.configured_told = Some(configuration.clone());
            out.send(Outbound::Log(Event::Configured { configuration }));
        }
    }
}
