//! The acceptor's mailbox.

use quorate_protocol::Name;
use quorate_stage::{DurableActor, Effects, Outlet, PeerOutlet};

use crate::{
    core::{Acceptor, Outbound},
    messages::{Answer, Report},
};

/// Whom the acceptor speaks to.
#[derive(Clone)]
pub struct Wiring {
    /// The proposers of its group.
    pub proposers: PeerOutlet<Answer>,
    /// The learner of its node.
    pub learner: Outlet<Report>,
}

/// The acceptor's actor: recovers from the journal, then serves.
pub type AcceptorActor<J> = DurableActor<Acceptor, J, Wiring>;

impl Effects<Acceptor> for Wiring {
    fn perform(&mut self, me: Name, outbound: Outbound) {
        match outbound {
            Outbound::Answer(node, answer) => self.proposers.send(me, node, answer),
            Outbound::Report(report) => self.learner.send(me, report),
            Outbound::Bytes(reply, bytes) => reply.send(me, bytes),
        }
    }
}
