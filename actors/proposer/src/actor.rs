//! The proposer's mailbox.

use quorate_acceptor::Message as ToAcceptor;
use quorate_learner::Message as ToLearner;
use quorate_protocol::{Name, Out, log::Event};
use quorate_stage::{Effects, Outlet, Peers, PlainActor, PlainCore};

use crate::{
    core::{Outbound, Proposer},
    messages::Message,
};

/// Whom the proposer speaks to.
#[derive(Clone)]
pub struct Wiring {
    /// The acceptors of its group.
    pub acceptors: Peers<ToAcceptor>,
    /// The learners of its group.
    pub learners: Peers<ToLearner>,
    /// The proposers of its group.
    pub proposers: Peers<Message>,
    /// The rsm of its node; the labs' library has none.
    pub log: Option<Outlet<Event>>,
}

/// The proposer's actor.
pub type ProposerActor = PlainActor<Proposer, Wiring>;

impl PlainCore for Proposer {
    fn start(&mut self, out: &mut Out<Self>) {
        Proposer::start(self, out);
    }
}

impl Effects<Proposer> for Wiring {
    fn perform(&mut self, me: Name, outbound: Outbound) {
        match outbound {
            Outbound::Acceptors(nodes, message) => self.acceptors.send_all(me, &nodes, message),
            Outbound::Learner(node, message) => self.learners.send(me, node, message),
            Outbound::Proposer(node, message) => self.proposers.send(me, node, message),
            Outbound::Log(event) => {
                if let Some(log) = &self.log {
                    log.send(me, event);
                }
            }
        }
    }
}
