//! The mailbox of a core that has nothing to remember: what it needs after a restart, it asks for.

use quorate_protocol::{Core, Name, Never, Out};

use crate::{
    driver::{Driver, Effects, Ledger},
    mailbox::Message,
    performer::{Role, Stage},
};

/// A core without records.
pub trait PlainCore:
    Core<Inbound: Message, Outbound: Unpin + 'static, Timer: Unpin, Record = Never> + Unpin + 'static
{
    /// First words after a start.
    fn start(&mut self, out: &mut Out<Self>);
}

/// The actor of a [`PlainCore`]; `W` carries out what the core says.
pub struct PlainActor<C: PlainCore, W> {
    driver: Driver<C>,
    hands: Hands<W>,
}

struct Hands<W>(W);

impl<C: PlainCore, W> Ledger<C> for Hands<W> {
    fn append(&mut self, _: &C, _: Vec<Never>) -> u64 {
        0
    }
}

impl<C: PlainCore, W: Effects<C>> Effects<C> for Hands<W> {
    fn perform(&mut self, me: Name, outbound: C::Outbound) {
        self.0.perform(me, outbound);
    }
}

impl<C: PlainCore, W> PlainActor<C, W> {
    /// Drives `core`.
    pub fn new(core: C, wiring: W) -> Self {
        PlainActor { driver: Driver::new(core), hands: Hands(wiring) }
    }
}

impl<C: PlainCore, W: Effects<C> + Unpin + 'static> Role for PlainActor<C, W> {
    type Message = C::Inbound;
    type Timer = C::Timer;

    fn started(&mut self, stage: &mut Stage<Self>) {
        self.driver.step(stage, &mut self.hands, |core, out| core.start(out));
    }

    fn receive(&mut self, from: Name, message: C::Inbound, stage: &mut Stage<Self>) {
        self.driver.step(stage, &mut self.hands, |core, out| core.on_message(from, message, out));
    }

    fn on_timer(&mut self, timer: C::Timer, stage: &mut Stage<Self>) {
        self.driver.step(stage, &mut self.hands, |core, out| core.on_timer(timer, out));
    }

    fn flush(&mut self, stage: &mut Stage<Self>) {
        self.driver.step(stage, &mut self.hands, |core, out| core.on_drained(out));
    }
}
