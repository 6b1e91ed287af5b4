//! Parcels that a fault holds back.

use std::{
    cell::{Cell, RefCell},
    collections::BTreeMap,
    time::Duration,
};

use tokio::{
    sync::Notify,
    time::{Instant, sleep_until},
};

/// How much may be held back at once; what comes beyond is lost.
const DELAYED_MAX: usize = 100_000;

/// Things that come out later, in the order of their times.
pub(crate) struct DelayLine<T> {
    waiting: RefCell<BTreeMap<(Instant, u64), T>>,
    next: Cell<u64>,
    sooner: Notify,
}

impl<T> DelayLine<T> {
    pub(crate) fn new() -> Self {
        DelayLine { waiting: RefCell::default(), next: Cell::new(0), sooner: Notify::new() }
    }

    /// Holds `thing` back. Gives it back if there is no room.
    pub(crate) fn push(&self, after: Duration, thing: T) -> Result<(), T> {
        let mut waiting = self.waiting.borrow_mut();
        if waiting.len() >= DELAYED_MAX {
            return Err(thing);
        }
        let key = (Instant::now() + after, self.next.get());
        self.next.set(key.1 + 1);
        if waiting.first_key_value().is_none_or(|(first, _)| key < *first) {
            self.sooner.notify_one();
        }
        waiting.insert(key, thing);
        Ok(())
    }

    /// Lets things out when their time has come, for ever.
    pub(crate) async fn run(&self, release: impl Fn(T)) {
        loop {
            let first = self.waiting.borrow().first_key_value().map(|(key, _)| key.0);
            match first {
                None => self.sooner.notified().await,
                Some(at) => tokio::select! { biased;
                    () = self.sooner.notified() => {}
                    () = sleep_until(at) => {}
                },
            }
            while let Some(thing) = self.due() {
                release(thing);
            }
        }
    }

    fn due(&self) -> Option<T> {
        let mut waiting = self.waiting.borrow_mut();
        let first = waiting.first_entry()?;
        (first.key().0 <= Instant::now()).then(|| first.remove())
    }
}
