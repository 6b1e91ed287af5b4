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
    log::{Proposal, ProposalId, Request as ToEngine},
};
use quorate_stage::Outlet;

use crate::{
    actor::{OwnBatch, Queue, Waiter, answer},
    machine::StateMachine,
    messages::{Outcome, Request},
    origins::Origins,
};

/// Commands that were taken from the queue, and who waits for them.
type Taken<M> =
    (Vec<Request<<M as StateMachine>::Command>>, Vec<Waiter<<M as StateMachine>::Reply>>);

/// Commands that are to be placed once, of one life.
pub(crate) struct Once<M: StateMachine> {
    node: NodeId,
    /// Drawn at random, and never that of batches which come in order.
    life: u64,
    last_seq: u64,
    queue: Queue<M>,
    /// The batch that was offered: which one, its encoding, and who waits for it.
    offered: Option<(u64, OwnBatch<M::Reply>)>,
}

impl<M: StateMachine> Once<M> {
    pub(crate) fn new(node: NodeId, life: u64) -> Self {
        Once { node, life, last_seq: 0, queue: Queue::<M>::new(), offered: None }
    }

    pub(crate) fn waiting(&self) -> usize {
        self.queue.len() + self.offered.as_ref().map_or(0, |(_, batch)| batch.waiters.len())
    }

    pub(crate) fn push(&mut self, request: Request<M::Command>, waiter: Waiter<M::Reply>) {
        self.queue.push_back((request, waiter));
    }

    /// What may be offered now, and who waits for it.
    pub(crate) fn take(&mut self, commands_max: usize) -> Option<Taken<M>> {
        if self.offered.is_some() || self.queue.is_empty() {
            return None;
        }
        let count = self.queue.len().min(commands_max);
        Some(self.queue.drain(..count).unzip())
    }

    /// Offers the batch that was taken, encoded.
    pub(crate) fn offer(
        &mut self,
        command: Bytes,
        waiters: Vec<Waiter<M::Reply>>,
        proposals: &Outlet<ToEngine>,
        me: Name,
    ) {
        self.last_seq += 1;
        let id = ProposalId { node: self.node, life: self.life, seq: self.last_seq };
        let batch = OwnBatch { command: command.clone(), waiters, old: false, copied: false };
        self.offered = Some((self.last_seq, batch));
        proposals.send(me, ToEngine::Offer(Proposal { id, command }));
    }

    /// The batch under way, if these origins have taken it in.
    pub(crate) fn take_covered(&mut self, origins: &Origins) -> Option<OwnBatch<M::Reply>> {
        let through = origins.last_seq(self.node, self.life);
        self.offered.take_if(|(seq, _)| *seq <= through).map(|(_, batch)| batch)
    }

    /// Who waits for this batch: it is over with.
    pub(crate) fn settle(&mut self, id: ProposalId) -> Option<Vec<Waiter<M::Reply>>> {
        if (id.node, id.life) != (self.node, self.life) {
            return None;
        }
        let (_, batch) = self.offered.take_if(|(seq, _)| *seq == id.seq)?;
        Some(batch.waiters)
    }

    /// It is over with without having been applied.
    pub(crate) fn give_up(&mut self, id: ProposalId, outcome: &Outcome<M::Reply>, me: Name) {
        let waiters = self.settle(id).unwrap_or_default();
        answer(waiters.into_iter().map(|waiter| (waiter, outcome.clone())), me);
    }

    /// The engine's part that places has started anew: what it was offered may be in the log, and
    /// nobody will say so.
    pub(crate) fn forgotten(&mut self, me: Name) {
        let waiters = self.offered.take().map(|(_, batch)| batch.waiters).unwrap_or_default();
        answer(waiters.into_iter().map(|waiter| (waiter, Outcome::Displaced)), me);
    }

    /// Everybody who waits.
    pub(crate) fn release(&mut self) -> Vec<Waiter<M::Reply>> {
        let waiters = self.offered.take().map(|(_, batch)| batch.waiters).unwrap_or_default();
        let queued = std::mem::take(&mut self.queue).into_iter().map(|(_, waiter)| waiter);
        waiters.into_iter().chain(queued).collect()
    }
}
