//! The proposer's mailbox.

use quorate_acceptor::Message as ToAcceptor;
use quorate_learner::Message as ToLearner;
use quorate_protocol::{Core as _, Name, Never, log::Event};
use quorate_stage::{Driver, Effects, Ledger, Outlet, Peers, Role, Stage};

use crate::{
    core::{Outbound, Proposer, Timer},
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
pub struct ProposerActor {
    driver: Driver<Proposer>,
    hands: Wiring,
}

impl ProposerActor {
    /// Drives `core`.
    pub fn new(core: Proposer, wiring: Wiring) -> Self {
        ProposerActor { driver: Driver::new(core), hands: wiring }
    }
}

impl Ledger<Proposer> for Wiring {
    fn append(&mut self, _: &Proposer, _: Vec<Never>) -> u64 {
        0
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

impl Role for ProposerActor {
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

    fn flush(&mut self, stage: &mut Stage<Self>) {
        self.driver.step(stage, &mut self.hands, |core, out| core.on_drained(out));
    }
}
