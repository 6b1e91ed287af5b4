//! The learner's mailbox.

use quorate_acceptor::Message as ToAcceptor;
use quorate_protocol::{Name, Out, log::Event};
use quorate_stage::{Effects, Outlet, PeerOutlet, Peers, PlainActor, PlainCore};

use crate::{
    core::{Learner, Outbound},
    messages::{Message, Notice},
};

/// Whom the learner speaks to.
#[derive(Clone)]
pub struct Wiring {
    /// The acceptor of its node.
    pub acceptor: Outlet<ToAcceptor>,
    /// The learners of its group.
    pub learners: Peers<Message>,
    /// The proposers of its group.
    pub proposers: PeerOutlet<Notice>,
    /// The rsm of its node; the labs' library has none.
    pub log: Option<Outlet<Event>>,
}

/// The learner's actor.
pub type LearnerActor = PlainActor<Learner, Wiring>;

impl PlainCore for Learner {
    fn start(&mut self, out: &mut Out<Self>) {
        Learner::start(self, out);
    }
}

impl Effects<Learner> for Wiring {
    fn perform(&mut self, me: Name, outbound: Outbound) {
        match outbound {
            Outbound::Acceptor(message) => self.acceptor.send(me, message),
            Outbound::Learner(node, message) => self.learners.send(me, node, message),
            Outbound::Proposer(node, notice) => self.proposers.send(me, node, notice),
            Outbound::Log(event) => {
                if let Some(log) = &self.log {
                    log.send(me, event);
                }
            }
            Outbound::Answer(reply, view) => reply.send(me, view),
        }
    }
}
