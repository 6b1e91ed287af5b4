//! What happened, as one number.

use std::{
    any::Any,
    collections::BTreeMap,
    fmt::{self, Write as _},
    sync::{Mutex, MutexGuard},
    time::Duration,
};

use quorate_protocol::{GroupId, Incarnation, Name, NodeId, log::Index};
use quorate_stage::Observer;
use tokio::{sync::Notify, time::Instant};

use crate::checkers::{Checkers, Violation};

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
    kept: Option<Vec<Line>>,
    checkers: Checkers,
    /// The first rule that was broken.
    violation: Option<Violation>,
}

/// Something that happened.
#[derive(Clone, Debug)]
pub struct Line {
    /// When, since the world began.
    pub at: Duration,
    /// Who said it to whom, if it was a message.
    pub way: Option<(Name, Name)>,
    /// What.
    pub text: String,
}

impl fmt::Display for Line {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{:06} ", self.at.as_secs(), self.at.subsec_micros())?;
        if let Some((from, to)) = self.way {
            write!(f, "{from} → {to}  ")?;
        }
        f.write_str(&self.text)
    }
}

/// A running hash of everything that any actor has handled, the lines themselves if wanted, and
/// the rules that hold after every step.
pub struct Trace {
    base: Instant,
    state: Mutex<State>,
    violated: Notify,
}

impl Trace {
    pub(crate) fn new(keep: bool, members: &BTreeMap<GroupId, Vec<NodeId>>) -> Self {
        let hash = Hash(0xcbf2_9ce4_8422_2325);
        let kept = keep.then(Vec::new);
        let state = State {
            hash,
            events: 0,
            instant: (Instant::now(), 0),
            line: String::new(),
            kept,
            checkers: Checkers::new(members),
            violation: None,
        };
        Trace { base: Instant::now(), state: Mutex::new(state), violated: Notify::new() }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(|poisoned| poisoned.into_inner())
    }

    /// Adds an event of the world itself.
    pub fn note(&self, event: fmt::Arguments<'_>) {
        self.add(None, event);
    }

    fn add(&self, way: Option<(Name, Name)>, event: fmt::Arguments<'_>) {
        let mut state = self.state();
        let state = &mut *state;
        state.line.clear();
        let now = Instant::now();
        state.instant = if state.instant.0 == now { (now, state.instant.1 + 1) } else { (now, 0) };
        if state.instant.1 > EVENTS_PER_INSTANT_MAX {
            // A panic would be caught, and the actor would go on.
            eprintln!("time stands still: actors answer each other for ever, the last being");
            eprintln!("{}", tail(state.kept.as_deref(), 60));
            std::process::abort();
        }
        let at = now.duration_since(self.base);
        let written = match way {
            Some((from, to)) => write!(state.line, "{} {from} {to} {event}", at.as_micros()),
            None => write!(state.line, "{} {event}", at.as_micros()),
        };
        debug_assert!(written.is_ok(), "writing to a string cannot fail");
        state.line.push('\n');
        state.events += 1;
        state.hash.eat(&state.line);
        if let Some(kept) = &mut state.kept {
            kept.push(Line { at, way, text: event.to_string() });
        }
    }

    /// The hash so far, and the number of events in it.
    pub fn hash(&self) -> (u64, u64) {
        let state = self.state();
        (state.hash.0, state.events)
    }

    /// The first rule that was broken, if any was. A panic that nobody injected breaks one, and so
    /// does an alarm about a peer: all peers are our own here.
    pub fn violation(&self) -> Option<Violation> {
        self.state().violation.clone()
    }

    /// Waits until a rule is broken.
    pub async fn violated(&self) -> Violation {
        loop {
            if let Some(violation) = self.violation() {
                return violation;
            }
            self.violated.notified().await;
        }
    }

    /// Says that a rule was broken. Only the first counts: others follow from it.
    pub fn accuse(&self, violation: Violation) {
        self.note(format_args!("VIOLATION {violation}"));
        self.state().violation.get_or_insert(violation);
        self.violated.notify_one();
    }

    /// A server starts with what is on its disk.
    pub(crate) fn on_start(&self, node: NodeId) {
        self.state().checkers.on_start(node);
    }

    /// A server has lost power: its newest checkpoint is of this index.
    pub(crate) fn on_power_lost(&self, node: NodeId, group: GroupId, saved: Index) {
        self.hold(|checkers| checkers.on_power_lost(node, group, saved));
    }

    /// A server has another disk than before.
    pub(crate) fn on_other_disk(&self, node: NodeId) {
        self.state().checkers.on_other_disk(node);
    }

    /// A server has lost its disk, and gets an empty one in this incarnation.
    pub(crate) fn on_wiped(&self, node: NodeId, incarnation: Incarnation) {
        self.state().checkers.on_wiped(node, incarnation);
    }

    /// Whether a server is a voter of a group in its present incarnation.
    pub(crate) fn is_intact(&self, node: NodeId, group: GroupId) -> bool {
        self.state().checkers.is_intact(node, group)
    }

    fn hold(&self, check: impl FnOnce(&mut Checkers) -> Result<(), Violation>) {
        let checked = check(&mut self.state().checkers);
        if let Err(violation) = checked {
            self.accuse(violation);
        }
    }

    /// What was kept.
    pub fn lines(&self) -> Vec<Line> {
        self.state().kept.clone().unwrap_or_default()
    }

    /// The last `count` lines, if lines are kept.
    pub fn tail(&self, count: usize) -> String {
        tail(self.state().kept.as_deref(), count)
    }
}

fn tail(kept: Option<&[Line]>, count: usize) -> String {
    let kept = kept.unwrap_or_default();
    let mut text = String::new();
    for line in &kept[kept.len().saturating_sub(count)..] {
        text += &format!("{line}\n");
    }
    text
}

impl Observer for Trace {
    fn on_handle(&self, actor: Name, from: Name, message: &dyn fmt::Display) {
        self.add(Some((from, actor)), format_args!("{message}"));
    }

    fn on_restart(&self, actor: Name, reason: &str, injected: bool) {
        self.note(format_args!("{actor} restarts: {reason}"));
        self.state().checkers.on_restart(actor);
        if !injected {
            self.accuse(Violation::new("no-panic", format!("{actor}: {reason}")));
        }
    }

    fn on_alarm(&self, actor: Name, alarm: &str) {
        self.note(format_args!("{actor} ALARM: {alarm}"));
        self.accuse(Violation::new("no-alarm", format!("{actor}: {alarm}")));
    }

    fn on_step(&self, actor: Name, core: &dyn Any) {
        self.hold(|checkers| checkers.on_step(actor, core));
    }

    fn on_say(&self, actor: Name, said: &dyn Any) {
        self.hold(|checkers| checkers.on_say(actor, said));
    }
}
