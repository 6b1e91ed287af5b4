//! Log time: how much time has passed, as far as the log knows.
//!
//! Sessions expire by it, so it must not run faster than time itself: a client that waits for its
//! answer would be forgotten, and what it sends again would be applied again. The time of day is no
//! help, since anybody may set it. So each replica counts on from the highest stamp it knows of, by
//! its own monotonic clock, and stamps its batches with that. The highest count of all replicas
//! then grows as time does, whatever is done to their clocks; while all of them are down it stands
//! still.

use std::time::Duration;

/// One replica's count. Moments are given as times since the node started.
pub(crate) struct LogClock {
    ms: u64,
    since: Duration,
}

impl LogClock {
    /// Nothing has passed.
    pub(crate) fn new(now: Duration) -> Self {
        LogClock { ms: 0, since: now }
    }

    /// Log time now, in milliseconds: at least what was learned last.
    pub(crate) fn now_ms(&self, now: Duration) -> u64 {
        self.ms.saturating_add(now.saturating_sub(self.since).as_millis() as u64)
    }

    /// Another replica has come so far.
    pub(crate) fn learn(&mut self, ms: u64, now: Duration) {
        // A count that is ahead goes on: to go back to every stamp would lose the time between
        // stamp and arrival again and again.
        if ms > self.now_ms(now) {
            (self.ms, self.since) = (ms, now);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_runs_as_time_does_and_is_never_behind_what_it_has_learned() {
        let (begin, ms) = (Duration::from_secs(7), Duration::from_millis);
        let mut clock = LogClock::new(begin);
        assert_eq!(clock.now_ms(begin + ms(70)), 70);
        clock.learn(50, begin + ms(80));
        assert_eq!(clock.now_ms(begin + ms(80)), 80, "a stamp that is behind changes nothing");
        clock.learn(1_000_000, begin + ms(90));
        assert_eq!(clock.now_ms(begin + ms(95)), 1_000_005);
        assert_eq!(clock.now_ms(begin), 1_000_000, "it does not go back");
        clock.learn(u64::MAX, begin + ms(100));
        assert_eq!(clock.now_ms(begin + ms(200)), u64::MAX, "a stamp that lies ends nobody");
    }
}
