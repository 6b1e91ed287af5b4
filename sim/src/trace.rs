//! What happened, as one number.

use std::{
    fmt::{self, Write as _},
    sync::{Mutex, MutexGuard},
};

use quorate_protocol::Name;
use quorate_stage::Observer;
use tokio::time::Instant;

/// FNV-1a, 64 bits: fixed in every process.
struct Hash(u64);

impl Hash {
    fn eat(&mut self, text: &str) {
        for byte in text.bytes() {
            self.0 = (self.0 ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3);
        }
    }
}

/// More events than this at one instant: actors answer each other for ever, and time stands still.
const EVENTS_PER_INSTANT_MAX: u64 = 1_000_000;

struct State {
    hash: Hash,
    events: u64,
    /// The last instant, and how many events it has seen.
    instant: (Instant, u64),
    line: String,
    kept: Option<Vec<String>>,
    alarms: Vec<String>,
    panics: Vec<String>,
}

/// A running hash of everything that any actor has handled, and the lines themselves if wanted.
pub struct Trace {
    base: Instant,
    state: Mutex<State>,
}

impl Trace {
    pub(crate) fn new(keep: bool) -> Self {
        let hash = Hash(0xcbf2_9ce4_8422_2325);
        let kept = keep.then(Vec::new);
        let state = State {
            hash,
            events: 0,
            instant: (Instant::now(), 0),
            line: String::new(),
            kept,
            alarms: vec![],
            panics: vec![],
        };
        Trace { base: Instant::now(), state: Mutex::new(state) }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(|poisoned| poisoned.into_inner())
    }

    /// Adds an event of the world itself.
    pub fn note(&self, event: fmt::Arguments<'_>) {
        let mut state = self.state();
        let state = &mut *state;
        state.line.clear();
        let now = Instant::now();
        state.instant = if state.instant.0 == now { (now, state.instant.1 + 1) } else { (now, 0) };
        if state.instant.1 > EVENTS_PER_INSTANT_MAX {
            // A panic would be caught, and the actor would go on.
            eprintln!("time stands still: actors answer each other for ever, the last being");
            let kept = state.kept.as_deref().unwrap_or_default();
            eprintln!("{}", kept[kept.len().saturating_sub(60)..].concat());
            std::process::abort();
        }
        let at = now.duration_since(self.base);
        let written = write!(state.line, "{}.{:06} {event}", at.as_secs(), at.subsec_micros());
        debug_assert!(written.is_ok(), "writing to a string cannot fail");
        state.line.push('\n');
        state.events += 1;
        state.hash.eat(&state.line);
        if let Some(kept) = &mut state.kept {
            kept.push(state.line.clone());
        }
    }

    /// The hash so far, and the number of events in it.
    pub fn hash(&self) -> (u64, u64) {
        let state = self.state();
        (state.hash.0, state.events)
    }

    /// What actors have said of peers that broke the rules. All peers are our own here.
    pub fn alarms(&self) -> Vec<String> {
        self.state().alarms.clone()
    }

    /// Panics that nobody injected: a broken invariant, or a bug.
    pub fn panics(&self) -> Vec<String> {
        self.state().panics.clone()
    }

    /// The last `count` lines, if lines are kept.
    pub fn tail(&self, count: usize) -> String {
        let state = self.state();
        let kept = state.kept.as_deref().unwrap_or_default();
        kept[kept.len().saturating_sub(count)..].concat()
    }
}

impl Observer for Trace {
    fn on_handle(&self, actor: Name, from: Name, message: &dyn fmt::Display) {
        self.note(format_args!("{from} → {actor}  {message}"));
    }

    fn on_restart(&self, actor: Name, reason: &str, injected: bool) {
        self.note(format_args!("{actor} restarts: {reason}"));
        if !injected {
            self.state().panics.push(format!("{actor}: {reason}"));
        }
    }

    fn on_alarm(&self, actor: Name, alarm: &str) {
        self.note(format_args!("{actor} ALARM: {alarm}"));
        self.state().alarms.push(format!("{actor}: {alarm}"));
    }
}
