//! A core as its driver holds it (`stage::Driver`), without an actor around it.
//!
//! The sends of a step leave when its records, and all before them, are durable. Here that moment
//! is an event of its own, so that a crash can come between.

use std::{
    collections::BTreeSet,
    fmt::{self, Debug},
};

use quorate_protocol::{Core, Out, TimerRequest};

/// What a core must be so that it can be explored: copied, and told from other states of itself by
/// what it shows.
pub trait Explored:
    Core<Timer: Debug, Record: Clone + Debug, Outbound: Clone + Debug> + Clone + Debug
{
    /// What these records amount to, for a core that recovers from them and from more that follow.
    fn memory(records: &[Self::Record]) -> String;
}

/// A core, its disk, and what waits for it.
pub struct Seat<C: Core> {
    /// The core.
    pub core: C,
    /// What a crash leaves.
    durable: Vec<C::Record>,
    /// What a crash may lose.
    unsynced: Vec<C::Record>,
    /// What is said once everything is durable.
    parked: Vec<C::Outbound>,
    timers: BTreeSet<C::Timer>,
    /// Whether the core has asked for `on_drained`.
    drain: bool,
    /// What a correct peer never causes.
    pub alarms: Vec<String>,
}

impl<C: Explored> Seat<C> {
    /// A core that has recovered from the records of its disk.
    pub fn new(core: C, durable: Vec<C::Record>) -> Self {
        core.invariants();
        Seat {
            core,
            durable,
            unsynced: vec![],
            parked: vec![],
            timers: BTreeSet::new(),
            drain: false,
            alarms: vec![],
        }
    }

    /// One step of the core. Answers what may be said at once.
    pub fn step(&mut self, step: impl FnOnce(&mut C, &mut Out<C>)) -> Vec<C::Outbound> {
        let mut out = Out::default();
        step(&mut self.core, &mut out);
        self.core.invariants();
        // Every field by name: whatever a step can ask for must be carried out here.
        let Out { records, sends, sends_at_once: mut said, timers, alarms, drain } = out;
        for (timer, request) in timers {
            match request {
                TimerRequest::Within { .. } => self.timers.insert(timer),
                TimerRequest::Cancel => self.timers.remove(&timer),
            };
        }
        self.alarms.extend(alarms);
        self.drain |= drain;
        self.unsynced.extend(records);
        if self.unsynced.is_empty() {
            said.extend(sends);
            return said;
        }
        // What waits already is not put in line again: the network delivers it as often as it likes.
        for send in sends {
            let shown = format!("{send:?}");
            if self.parked.iter().all(|parked| format!("{parked:?}") != shown) {
                self.parked.push(send);
            }
        }
        said
    }

    /// Whether `on_drained` is due.
    pub fn drain(&self) -> bool {
        self.drain
    }

    /// What had arrived has been handled.
    pub fn drained(&mut self) -> Vec<C::Outbound> {
        self.drain = false;
        self.step(|core, out| core.on_drained(out))
    }

    /// The timers that may run out.
    pub fn timers(&self) -> impl Iterator<Item = &C::Timer> {
        self.timers.iter()
    }

    /// A timer runs out.
    pub fn fire(&mut self, timer: C::Timer) -> Vec<C::Outbound> {
        self.timers.remove(&timer);
        self.step(|core, out| core.on_timer(timer, out))
    }

    /// How many records are not durable.
    pub fn unsynced(&self) -> usize {
        self.unsynced.len()
    }

    /// Everything becomes durable. Answers the records, and what waited for them.
    pub fn sync(&mut self) -> (Vec<C::Record>, Vec<C::Outbound>) {
        let records = std::mem::take(&mut self.unsynced);
        self.durable.extend(records.iter().cloned());
        (records, std::mem::take(&mut self.parked))
    }

    /// There are no crashes here: what is on the disk makes no difference.
    pub fn forget_disk(&mut self) {
        self.durable.clear();
    }

    /// The error that a driver must not make: what waits is said, whatever is durable.
    pub fn speak_early(&mut self) -> Vec<C::Outbound> {
        std::mem::take(&mut self.parked)
    }

    /// A crash: of what was on its way to the disk the first `survive` records have arrived.
    /// Answers everything that the disk has now, and which records are new on it.
    pub fn crash(mut self, survive: usize) -> (Vec<C::Record>, Vec<C::Record>) {
        self.unsynced.truncate(survive);
        self.durable.extend(self.unsynced.iter().cloned());
        (self.durable, self.unsynced)
    }
}

impl<C: Core<Timer: Clone, Record: Clone, Outbound: Clone> + Clone> Clone for Seat<C> {
    fn clone(&self) -> Self {
        Seat {
            core: self.core.clone(),
            durable: self.durable.clone(),
            unsynced: self.unsynced.clone(),
            parked: self.parked.clone(),
            timers: self.timers.clone(),
            drain: self.drain,
            alarms: self.alarms.clone(),
        }
    }
}

/// Two seats that are shown alike behave alike: the records of the disk, of which there are ever
/// more, are shown as what they amount to.
impl<C: Explored> Debug for Seat<C> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut shown = f.debug_struct("Seat");
        shown.field("core", &self.core).field("timers", &self.timers);
        if !self.durable.is_empty() {
            shown.field("disk", &format_args!("{}", C::memory(&self.durable)));
        }
        shown.field("unsynced", &self.unsynced).field("parked", &self.parked);
        shown.field("alarms", &self.alarms).finish()
    }
}
