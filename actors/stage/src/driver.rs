//! Drives a [`Core`]: its records become durable before its sends leave.

use std::collections::VecDeque;

use quorate_protocol::{
    Core, Name, Out, TimerRequest,
    planted::{Bug, is_planted},
};

use crate::performer::{Role, Stage};

/// Where a core's records go. Answers with growing numbers, which come back when they are durable.
pub trait Ledger<C: Core> {
    /// Takes the records of one step, without waiting; answers the number under which they will be
    /// reported durable.
    fn append(&mut self, core: &C, records: Vec<C::Record>) -> u64;
}

/// Carries out what a core says.
pub trait Effects<C: Core> {
    /// Sends it.
    fn perform(&mut self, me: Name, outbound: C::Outbound);
}

/// Lets an outbound go, before the eyes of the observer.
fn say<R: Role, C: Core<Outbound: 'static>>(
    stage: &Stage<R>,
    hands: &mut impl Effects<C>,
    outbound: C::Outbound,
) {
    if let Some(observer) = stage.node().observer() {
        observer.on_say(stage.name(), &outbound);
    }
    hands.perform(stage.name(), outbound);
}

/// A core, its parked sends, and what is durable.
pub struct Driver<C: Core> {
    core: C,
    out: Out<C>,
    /// Sends that wait for a number to be durable; the numbers never fall.
    parked: VecDeque<(u64, C::Outbound)>,
    appended: u64,
    durable: u64,
}

impl<C: Core<Outbound: 'static> + 'static> Driver<C> {
    /// Drives `core`, everything of which is durable.
    pub fn new(core: C) -> Self {
        Driver { core, out: Out::default(), parked: VecDeque::new(), appended: 0, durable: 0 }
    }

    /// The core, to look at.
    pub fn core(&self) -> &C {
        &self.core
    }

    /// How many sends wait for the disk.
    pub fn parked(&self) -> usize {
        self.parked.len()
    }

    /// Lets the core take one step, and does what it asks for as far as its records are durable.
    pub fn step<R, H>(
        &mut self,
        stage: &mut Stage<R>,
        hands: &mut H,
        step: impl FnOnce(&mut C, &mut Out<C>),
    ) where
        R: Role<Timer = C::Timer>,
        H: Ledger<C> + Effects<C>,
    {
        step(&mut self.core, &mut self.out);
        self.core.invariants();
        stage.last_moment();
        let out = &mut self.out;
        for (timer, request) in out.timers.drain(..) {
            match request {
                TimerRequest::Within { at_least, at_most } => {
                    stage.set_timer_within(timer, at_least, at_most);
                }
                TimerRequest::Cancel => stage.cancel_timer(&timer),
            }
        }
        for alarm in out.alarms.drain(..) {
            tracing::warn!(actor = %stage.name(), "{alarm}");
            if let Some(observer) = stage.node().observer() {
                observer.on_alarm(stage.name(), &alarm);
            }
        }
        if std::mem::take(&mut out.drain) {
            stage.request_flush();
        }
        if !out.records.is_empty() {
            self.appended = hands.append(&self.core, std::mem::take(&mut out.records));
        }
        if let Some(observer) = stage.node().observer() {
            observer.on_step(stage.name(), &self.core);
        }
        for outbound in out.sends_at_once.drain(..) {
            say(stage, hands, outbound);
        }
        if self.durable >= self.appended || is_planted(Bug::AnsweredBeforeSync) {
            for outbound in out.sends.drain(..) {
                say(stage, hands, outbound);
            }
        } else {
            self.parked.extend(out.sends.drain(..).map(|outbound| (self.appended, outbound)));
        }
    }

    /// Everything up to `number` is durable: what waited for it goes.
    pub fn on_durable<R: Role, H: Effects<C>>(
        &mut self,
        stage: &Stage<R>,
        number: u64,
        hands: &mut H,
    ) {
        self.durable = self.durable.max(number);
        while self.parked.front().is_some_and(|(wants, _)| *wants <= self.durable) {
            if let Some((_, outbound)) = self.parked.pop_front() {
                say(stage, hands, outbound);
            }
        }
    }
}
