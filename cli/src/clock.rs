//! The machine's clock. Only what a person or a bench measures is read from it.

use std::time::Instant;

/// This moment.
#[expect(clippy::disallowed_methods, reason = "the command line measures real time")]
pub(crate) fn now() -> Instant {
    Instant::now()
}

/// Waits on this thread, which is no arbiter.
#[expect(clippy::disallowed_methods, reason = "no actor lives on a thread that calls this")]
pub(crate) fn pause(duration: std::time::Duration) {
    std::thread::sleep(duration);
}
