//! Phase 1: gathering promises, and the votes that come with them.

use std::collections::{BTreeMap, BTreeSet};

use quorate_acceptor::{Ballot, Message as ToAcceptor, Slot, Vote};
use quorate_protocol::{
    Configuration, NodeId,
    log::{Position, ProposalId},
    planted::{Bug, is_planted},
};

use crate::messages::Wish;

/// One campaign for one ballot.
#[derive(Clone, Debug)]
pub(crate) struct Campaign {
    ballot: Ballot,
    /// Votes are wanted from this slot on.
    first: Slot,
    /// Whose promises count: they rule `first`.
    configuration: Configuration,
    /// Where the log stands, as far as the members are known; the labs' library has no such place.
    position: Option<Position>,
    /// Per acceptor, the stretches of slots that its parts of a Promise have covered.
    covered: BTreeMap<NodeId, BTreeMap<Slot, Option<Slot>>>,
    promised: BTreeSet<NodeId>,
    /// Per slot, the vote in the highest ballot.
    votes: BTreeMap<Slot, Vote>,
    /// Below this slot some acceptor has forgotten its votes.
    forgotten: Slot,
    tries: u32,
    /// What others have forwarded meanwhile, in the hope that we win.
    forwarded: Vec<(NodeId, Vec<Wish>, Option<ProposalId>)>,
}

/// Forwards kept during a campaign; their senders repeat what is beyond.
const FORWARDED_MAX: usize = 64;

impl Campaign {
    pub(crate) fn new(
        ballot: Ballot,
        first: Slot,
        configuration: Configuration,
        position: Option<Position>,
    ) -> Self {
        Campaign {
            ballot,
            first,
            configuration,
            position,
            covered: BTreeMap::new(),
            promised: BTreeSet::new(),
            votes: BTreeMap::new(),
            forgotten: Slot(0),
            tries: 0,
            forwarded: vec![],
        }
    }

    pub(crate) fn ballot(&self) -> Ballot {
        self.ballot
    }

    pub(crate) fn first(&self) -> Slot {
        self.first
    }

    pub(crate) fn configuration(&self) -> &Configuration {
        &self.configuration
    }

    pub(crate) fn forgotten(&self) -> Slot {
        self.forgotten
    }

    pub(crate) fn on_forgotten(&mut self, below: Slot) {
        self.forgotten = self.forgotten.max(below);
    }

    pub(crate) fn prepare(&self) -> ToAcceptor {
        ToAcceptor::Prepare { ballot: self.ballot, from: self.first }
    }

    pub(crate) fn promised(&self) -> &BTreeSet<NodeId> {
        &self.promised
    }

    pub(crate) fn promised_by(&self, node: NodeId) -> bool {
        self.promised.contains(&node)
    }

    pub(crate) fn again(&mut self) -> u32 {
        self.tries += 1;
        self.tries
    }

    pub(crate) fn on_forward(
        &mut self,
        from: NodeId,
        wishes: Vec<Wish>,
        barrier: Option<ProposalId>,
    ) {
        if self.forwarded.len() < FORWARDED_MAX {
            self.forwarded.push((from, wishes, barrier));
        }
    }

    pub(crate) fn take_forwarded(&mut self) -> Vec<(NodeId, Vec<Wish>, Option<ProposalId>)> {
        std::mem::take(&mut self.forwarded)
    }

    /// The votes that bind us, and who rules.
    pub(crate) fn into_parts(self) -> (BTreeMap<Slot, Vote>, Configuration, Option<Position>) {
        (self.votes, self.configuration, self.position)
    }

    /// Takes a part of a promise; answers whether this one made the promise complete. Parts may
    /// come twice, in any order, and from several answers whose parts differ: what counts is that
    /// every slot from `first` on has been covered.
    pub(crate) fn on_promise(
        &mut self,
        node: NodeId,
        (from, below): (Slot, Option<Slot>),
        votes: Vec<(Slot, Vote)>,
    ) -> bool {
        for (slot, vote) in votes {
            let best = self.votes.entry(slot).or_insert_with(|| vote.clone());
            if vote.ballot > best.ballot && !is_planted(Bug::HighestVoteIgnored) {
                *best = vote;
            }
        }
        let parts = self.covered.entry(node).or_default();
        let known = parts.entry(from).or_insert(below);
        if let Some(end) = *known
            && below.is_none_or(|below| below > end)
        {
            *known = below;
        }
        let mut reached = self.first;
        loop {
            let next = parts.range(..=reached).map(|(_, below)| *below);
            // `None` reaches to the end, so it is the highest.
            match next.max_by_key(|below| below.map_or(u64::MAX, |slot| slot.0)) {
                Some(None) => return self.promised.insert(node),
                Some(Some(below)) if below > reached => reached = below,
                _ => return false,
            }
        }
    }
}
