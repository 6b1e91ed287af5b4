//! The mailbox of a core that has something to remember: it recovers from a journal, then serves.

use std::time::Duration;

use bytes::Bytes;
use quorate_protocol::{Core, Name, Out, encode};
use serde::{Serialize, de::DeserializeOwned};

use crate::{
    driver::{Driver, Effects, Ledger},
    mailbox::Message,
    performer::{Role, Stage},
};

/// How long the journal may take to answer before it is asked again, at first and at most: the
/// question is lost if the journal's actor crashes over it.
const OPEN_AGAIN: (Duration, Duration) = (Duration::from_secs(1), Duration::from_secs(60));

/// What the journal tells a core's actor.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Durability {
    /// Everything that was ever made durable and not trimmed, in order; each an encoded record.
    Recovered(Vec<Bytes>),
    /// Everything handed over under numbers up to this one is durable.
    Durable(u64),
    /// The journal has started anew; what was handed over and not reported durable is lost.
    Lost,
}

impl std::fmt::Display for Durability {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Durability::Recovered(records) => write!(f, "Recovered {} records", records.len()),
            Durability::Durable(number) => write!(f, "Durable {number}"),
            Durability::Lost => f.write_str("Lost"),
        }
    }
}

/// What a core's actor asks of the journal.
pub trait JournalLink: Unpin + 'static {
    /// Read everything back; comes as [`Durability::Recovered`].
    fn open(&mut self, me: Name);
    /// Make records durable; comes back as [`Durability::Durable`] with this number. `standing`
    /// begins a new segment, should one be needed; each record comes with its mark, the highest
    /// place of the log in it.
    fn append(&mut self, me: Name, number: u64, records: Vec<(Bytes, u64)>, standing: Bytes);
    /// Records whose mark is below this place are not needed any more.
    fn trim(&mut self, me: Name, below: u64);
}

/// A core whose records are kept in a journal.
pub trait DurableCore:
    Core<Inbound: Message, Outbound: 'static, Record: Serialize + DeserializeOwned> + 'static
{
    /// What it is told once, besides its records.
    type Config: Unpin + 'static;

    /// The core that remembers `records`, given in the order in which they became durable.
    ///
    /// # Errors
    /// Why these cannot be its records.
    fn recover(config: &Self::Config, records: Vec<Self::Record>) -> Result<Self, String>;

    /// First words after a start.
    fn start(&mut self, _out: &mut Out<Self>) {}

    /// What a new segment of the journal begins with: all that is needed of records of mark 0.
    fn standing(&self) -> Self::Record;

    /// The highest place of the log that a record says something about; 0 if none.
    fn mark(record: &Self::Record) -> u64;

    /// First place of the log whose records are kept. It never decreases; when it has grown, a
    /// record that says so is among those of the step.
    fn kept_from(&self) -> u64;

    /// What is from the journal; anything else comes back.
    ///
    /// # Errors
    /// The message, if it is for the core.
    fn from_journal(message: Self::Inbound) -> Result<Durability, Self::Inbound>;

    /// The timer that is set while the journal has not answered.
    fn open_timer() -> Self::Timer;
}

/// The actor of a [`DurableCore`]; `W` carries out what the core says.
pub struct DurableActor<C: DurableCore, J, W> {
    config: C::Config,
    state: State<C>,
    hands: Hands<J, W>,
    open_again: Duration,
}

enum State<C: DurableCore> {
    /// The journal is being read; what comes meanwhile waits.
    Recovering(Vec<(Name, C::Inbound)>),
    Serving(Box<Driver<C>>),
}

struct Hands<J, W> {
    me: Name,
    journal: J,
    wiring: W,
    number: u64,
}

impl<C: DurableCore, J: JournalLink, W> Ledger<C> for Hands<J, W> {
    fn append(&mut self, core: &C, records: Vec<C::Record>) -> u64 {
        self.number += 1;
        let records = records.iter().map(|record| (encode(record), C::mark(record))).collect();
        self.journal.append(self.me, self.number, records, encode(&core.standing()));
        self.number
    }
}

impl<C: Core, J, W: Effects<C>> Effects<C> for Hands<J, W> {
    fn perform(&mut self, me: Name, outbound: C::Outbound) {
        self.wiring.perform(me, outbound);
    }
}

impl<C, J, W> DurableActor<C, J, W>
where
    C: DurableCore<Timer: Unpin> + Unpin + 'static,
    C::Inbound: Unpin,
    J: JournalLink,
    W: Effects<C> + Unpin + 'static,
{
    /// An actor that has yet to read its journal.
    pub fn new(me: Name, config: C::Config, journal: J, wiring: W) -> Self {
        let hands = Hands { me, journal, wiring, number: 0 };
        DurableActor { config, state: State::Recovering(vec![]), hands, open_again: OPEN_AGAIN.0 }
    }

    fn on_journal(&mut self, event: Durability, stage: &mut Stage<Self>) {
        match (event, &mut self.state) {
            (Durability::Lost, _) => stage.restart("the journal started anew"),
            (Durability::Recovered(records), State::Recovering(waiting)) => {
                let waiting = std::mem::take(waiting);
                let core = match self.recover(&records) {
                    Ok(core) => core,
                    Err(reason) => return stage.fatal(reason),
                };
                core.invariants();
                stage.cancel_timer(&C::open_timer());
                self.state = State::Serving(Box::new(Driver::new(core)));
                self.step(stage, |core, out| core.start(out));
                for (from, message) in waiting {
                    self.receive(from, message, stage);
                }
            }
            (Durability::Durable(number), State::Serving(driver)) => {
                driver.on_durable(stage, number, &mut self.hands);
            }
            // Of a former life.
            (Durability::Recovered(_), State::Serving(_))
            | (Durability::Durable(_), State::Recovering(_)) => {}
        }
    }

    fn recover(&self, records: &[Bytes]) -> Result<C, String> {
        let me = self.hands.me;
        let mut decoded = Vec::with_capacity(records.len());
        for (i, record) in records.iter().enumerate() {
            // The checksum was right: this was written by other code.
            decoded.push(rmp_serde::from_slice(record).map_err(|error| {
                format!(
                    "journal record {i} of {me} cannot be read ({error}); was it written by \
                     another version of quorate, or under another engine? Start with those"
                )
            })?);
        }
        C::recover(&self.config, decoded).map_err(|error| {
            format!(
                "the journal of {me} does not hold together: {error}. Something that was durable \
                 is gone; keep the directory for a look at it, and do not start from it again"
            )
        })
    }

    fn step(&mut self, stage: &mut Stage<Self>, step: impl FnOnce(&mut C, &mut Out<C>)) {
        let State::Serving(driver) = &mut self.state else { return };
        let kept_from = driver.core().kept_from();
        driver.step(stage, &mut self.hands, step);
        let below = driver.core().kept_from();
        if below > kept_from {
            self.hands.journal.trim(self.hands.me, below);
        }
    }
}

impl<C, J, W> Role for DurableActor<C, J, W>
where
    C: DurableCore<Timer: Unpin> + Unpin + 'static,
    C::Inbound: Unpin,
    J: JournalLink,
    W: Effects<C> + Unpin + 'static,
{
    type Message = C::Inbound;
    type Timer = C::Timer;

    fn started(&mut self, stage: &mut Stage<Self>) {
        self.hands.journal.open(stage.name());
        stage.set_timer(C::open_timer(), self.open_again);
    }

    fn on_timer(&mut self, timer: C::Timer, stage: &mut Stage<Self>) {
        if let State::Recovering(_) = &self.state {
            self.open_again = (self.open_again * 2).min(OPEN_AGAIN.1);
            return self.started(stage);
        }
        self.step(stage, |core, out| core.on_timer(timer, out));
    }

    fn receive(&mut self, from: Name, message: C::Inbound, stage: &mut Stage<Self>) {
        match (C::from_journal(message), &mut self.state) {
            (Ok(event), _) => self.on_journal(event, stage),
            (Err(message), State::Recovering(waiting)) => waiting.push((from, message)),
            (Err(message), State::Serving(_)) => {
                self.step(stage, |core, out| core.on_message(from, message, out));
            }
        }
    }

    fn flush(&mut self, stage: &mut Stage<Self>) {
        self.step(stage, |core, out| core.on_drained(out));
    }
}
