//! The peer's mailbox.

use quorate_protocol::{Name, log::Event};
use quorate_stage::{DurableActor, Effects, Outlet, Peers};

use crate::{
    core::{Outbound, Peer},
    messages::Message,
};

/// Whom a peer speaks to.
#[derive(Clone)]
pub struct Wiring {
    /// The peers of its group.
    pub peers: Peers<Message>,
    /// The rsm of its node.
    pub log: Outlet<Event>,
}

/// The peer's actor: recovers from the journal, then serves.
pub type RaftActor<J> = DurableActor<Peer, J, Wiring>;

impl Effects<Peer> for Wiring {
    fn perform(&mut self, me: Name, outbound: Outbound) {
        match outbound {
            Outbound::Peers(nodes, message) => self.peers.send_all(me, &nodes, message),
            Outbound::Log(event) => self.log.send(me, event),
            Outbound::Reconfigured(reply, answer) => reply.send(me, answer),
            Outbound::Status(reply, status) => reply.send(me, status),
        }
    }
}
