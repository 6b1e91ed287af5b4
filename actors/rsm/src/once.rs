//! Batches that are placed once: the `submit` of 6.5840 2026, Lab 4A.
//!
//! ```text
//!   service     rsm                 engine
//!      | Submit -> | -- Offer ----------> |
//!      |           | <- Offered: no ----- |   another one leads
//!      | <- NotPlaced
//!      |           | <- Offered: place -- |   we lead; it stands there, if it is chosen
//!      |           | <- Dropped --------- |   we lead no longer
//!      | <- Displaced
//! ```
//!
//! One such batch is under way at a time. So what a leader gathers that is cut off from the others
//! stands in one place of the log, and that place is taken by the first command of its successor.

use bytes::Bytes;
use quorate_protocol::{
    Name, NodeId,
    log::{ProposalId, Request as ToEngine},
};
use quorate_stage::Outlet;

use crate::{
    actor::{Queue, Waiter, answer},
    machine::StateMachine,
    messages::{Outcome, Request},
};

/// Commands that are to be placed once, of one life.
pub(crate) struct Once<M: StateMachine> {
    node: NodeId,
    /// Drawn at random, and never that of batches which come in order.
    life: u64,
    last_seq: u64,
    queue: Queue<M>,
    /// The batch that was offered: which one, and who waits for it.
    offered: Option<(u64, Vec<Waiter<M::Reply>>)>,
}

impl<M: StateMachine> Once<M> {
    pub(crate) fn new(node: NodeId, life: u64) -> Self {
        Once { node, life, last_seq: 0, queue: Queue::<M>::new(), offered: None }
    }

    pub(crate) fn waiting(&self) -> usize {
        self.queue.len() + self.offered.as_ref().map_or(0, |(_, waiters)| waiters.len())
    }

    pub(crate) fn push(&mut self, request: Request<M::Command>, waiter: Waiter<M::Reply>) {
        self.queue.push_back((request, waiter));
    }

    /// What may be offered now.
    pub(crate) fn take(&mut self, commands_max: usize) -> Option<Vec<Request<M::Command>>> {
        if self.offered.is_some() || self.queue.is_empty() {
            return None;
        }
        let count = self.queue.len().min(commands_max);
        let (requests, waiters) = self.queue.drain(..count).unzip();
        self.last_seq += 1;
        self.offered = Some((self.last_seq, waiters));
        Some(requests)
    }

    /// Offers the batch that was taken, encoded.
    pub(crate) fn offer(&self, command: Bytes, proposals: &Outlet<ToEngine>, me: Name) {
        let id = ProposalId { node: self.node, life: self.life, seq: self.last_seq };
        proposals.send(me, ToEngine::Offer(quorate_protocol::log::Proposal { id, command }));
    }

    /// Who waits for this batch: it is over with.
    pub(crate) fn settle(&mut self, id: ProposalId) -> Option<Vec<Waiter<M::Reply>>> {
        if (id.node, id.life) != (self.node, self.life) {
            return None;
        }
        let (_, waiters) = self.offered.take_if(|(seq, _)| *seq == id.seq)?;
        Some(waiters)
    }

    /// It is over with without having been applied.
    pub(crate) fn give_up(&mut self, id: ProposalId, outcome: &Outcome<M::Reply>, me: Name) {
        let waiters = self.settle(id).unwrap_or_default();
        answer(waiters.into_iter().map(|waiter| (waiter, outcome.clone())), me);
    }

    /// The engine's part that places has started anew: what it was offered may be in the log, and
    /// nobody will say so.
    pub(crate) fn forgotten(&mut self, me: Name) {
        let (_, waiters) = self.offered.take().unwrap_or_default();
        answer(waiters.into_iter().map(|waiter| (waiter, Outcome::Displaced)), me);
    }

    /// Everybody who waits.
    pub(crate) fn release(&mut self) -> Vec<Waiter<M::Reply>> {
        let (_, waiters) = self.offered.take().unwrap_or_default();
        let queued = std::mem::take(&mut self.queue).into_iter().map(|(_, waiter)| waiter);
        waiters.into_iter().chain(queued).collect()
    }
}
