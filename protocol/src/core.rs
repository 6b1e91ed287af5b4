//! A protocol role as a pure state machine, and what a step of it asks for.
//!
//! A core never sends, sleeps or writes. It fills an [`Out`]; the driver (`stage::Driver`) makes
//! the records durable first and only then lets the sends go. There is no other way to reach them,
//! but for what a core says [at once](Out::send_at_once) because it rests on no record.

use std::{convert::Infallible, time::Duration};

use crate::Name;

/// The record of a role that has nothing to remember.
pub type Never = Infallible;

/// A protocol role as a pure state machine: no actor, clock, disk or random number.
pub trait Core: Sized {
    /// What the role can be told.
    type Inbound;
    /// What the role can say, with its destination.
    type Outbound;
    /// What it can ask to be woken for. Setting a timer again moves it.
    type Timer: Clone + Ord;
    /// What it must remember across a crash.
    type Record;

    /// One message has come.
    fn on_message(&mut self, from: Name, message: Self::Inbound, out: &mut Out<Self>);

    /// A timer that was set has run out.
    fn on_timer(&mut self, timer: Self::Timer, out: &mut Out<Self>);

    /// All messages that had arrived by the first of them have been handled: what was gathered
    /// into a batch goes now.
    fn on_drained(&mut self, _out: &mut Out<Self>) {}

    /// Panics, with the invariant's number, if one is broken. Called after every step.
    fn invariants(&self);
}

/// A request to be woken.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum TimerRequest {
    /// At a moment that the driver draws from this range, counted from now.
    Within {
        /// Not before.
        at_least: Duration,
        /// Not after.
        at_most: Duration,
    },
    /// Not any more.
    Cancel,
}

/// What one step of a core asks for.
pub struct Out<C: Core> {
    /// To be made durable before any of `sends` may leave.
    pub records: Vec<C::Record>,
    /// To be sent once every record, of this step and of all former ones, is durable.
    pub sends: Vec<C::Outbound>,
    /// To be sent now, whatever is durable.
    pub sends_at_once: Vec<C::Outbound>,
    /// Timers to set or to cancel, in order.
    pub timers: Vec<(C::Timer, TimerRequest)>,
    /// A peer broke the rules: said aloud, otherwise without effect.
    pub alarms: Vec<String>,
    /// Whether [`Core::on_drained`] is to be called.
    pub drain: bool,
}

impl<C: Core> Default for Out<C> {
    fn default() -> Self {
        Out {
            records: vec![],
            sends: vec![],
            sends_at_once: vec![],
            timers: vec![],
            alarms: vec![],
            drain: false,
        }
    }
}

impl<C: Core> Out<C> {
    /// Remember this before anything that this step says is heard.
    pub fn persist(&mut self, record: C::Record) {
        self.records.push(record);
    }

    /// Say this, once everything asked to be remembered so far is durable.
    pub fn send(&mut self, outbound: C::Outbound) {
        self.sends.push(outbound);
    }

    /// Say this now. Only for what stays true if nothing that is not yet durable here ever becomes
    /// so: entries that a leader replicates while it writes them itself (Raft thesis, 10.2.1), or
    /// what a majority is known to have.
    pub fn send_at_once(&mut self, outbound: C::Outbound) {
        self.sends_at_once.push(outbound);
    }

    /// Wake me between `at_least` and `at_most` from now. A timer that is set already is moved.
    pub fn set_timer(&mut self, timer: C::Timer, at_least: Duration, at_most: Duration) {
        self.timers.push((timer, TimerRequest::Within { at_least, at_most }));
    }

    /// Do not wake me for this any more.
    pub fn cancel_timer(&mut self, timer: C::Timer) {
        self.timers.push((timer, TimerRequest::Cancel));
    }

    /// A peer did what no correct peer does.
    pub fn alarm(&mut self, what: String) {
        self.alarms.push(what);
    }

    /// Call [`Core::on_drained`] once what is in the mailbox now has been handled.
    pub fn want_drained(&mut self) {
        self.drain = true;
    }
}
