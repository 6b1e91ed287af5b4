//! The learner's mailbox.

use quorate_acceptor::Message as ToAcceptor;
use quorate_protocol::{Core as _, Name, Never, log::Event};
use quorate_stage::{Driver, Effects, Ledger, Outlet, PeerOutlet, Peers, Role, Stage};

use crate::{
    core::{Learner, Outbound, Timer},
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
pub struct LearnerActor {
    driver: Driver<Learner>,
    hands: Wiring,
}

impl LearnerActor {
    /// Drives `core`.
    pub fn new(core: Learner, wiring: Wiring) -> Self {
        LearnerActor { driver: Driver::new(core), hands: wiring }
    }
}

impl Ledger<Learner> for Wiring {
    fn append(&mut self, _: &Learner, _: Vec<Never>) -> u64 {
        0
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

impl Role for LearnerActor {
    type Message = Message;
    type Timer = Timer;

    fn started(&mut self, stage: &mut Stage<Self>) {
        self.driver.step(stage, &mut self.hands, |core, out| core.start(out));
    }

    fn receive(&mut self, from: Name, message: Message, stage: &mut Stage<Self>) {
        self.driver.step(stage, &mut self.hands, |core, out| core.on_message(from, message, out));
    }

    fn on_timer(&mut self, timer: Timer, stage: &mut Stage<Self>) {
        self.driver.step(stage, &mut self.hands, |core, out| core.on_timer(timer, out));
    }
}
