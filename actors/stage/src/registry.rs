//! All actors of one node: to be listed, looked into and crashed.

use std::{
    any::Any,
    collections::BTreeMap,
    fmt,
    sync::{
        Arc, Mutex, MutexGuard,
        atomic::{AtomicI64, Ordering::Relaxed},
    },
    time::Duration,
};

use actix::Recipient;
use quorate_protocol::{Name, NodeId};
use serde::{Deserialize, Serialize};
use tokio::time::Instant;

use crate::{gate::Gate, performer::Crash, stats::Stats};

/// When restarting is given up.
#[derive(Clone, Copy, Debug)]
pub struct Limits {
    /// So many real panics of one actor ...
    pub restarts_max: usize,
    /// ... within this time end the node.
    pub restarts_within: Duration,
}

impl Default for Limits {
    fn default() -> Self {
        Limits { restarts_max: 10, restarts_within: Duration::from_secs(10) }
    }
}

/// The node cannot go on.
#[derive(Clone, Debug)]
pub struct Fatal {
    /// Which actor says so.
    pub actor: Name,
    /// What happened and what to do next.
    pub reason: String,
}

impl fmt::Display for Fatal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.actor, self.reason)
    }
}

/// Sees every message at the moment when it is handled, every core after each of its steps, and
/// every word of a core as it leaves; the simulator's trace and its checkers.
pub trait Observer: Send + Sync {
    /// `actor` is about to handle `message` from `from`.
    fn on_handle(&self, actor: Name, from: Name, message: &dyn fmt::Display);
    /// `actor` restarts after `reason`; `injected`: on purpose, not by a panic of its own.
    fn on_restart(&self, actor: Name, reason: &str, injected: bool);
    /// `actor` says that a peer broke the rules.
    fn on_alarm(&self, actor: Name, alarm: &str);
    /// `actor` has taken a step, or has just recovered; `core` is its [`quorate_protocol::Core`].
    fn on_step(&self, _actor: Name, _core: &dyn Any) {}
    /// `actor` says something, and nothing holds it back any more; `said` is the `Outbound` of its
    /// core.
    fn on_say(&self, _actor: Name, _said: &dyn Any) {}
}

/// Where in an actor's life an injected crash strikes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum CrashMode {
    /// Between two messages.
    Now,
    /// When the next message has been taken out of the mailbox: that message is lost.
    BeforeNext,
    /// When the next message has been handled, but nothing that it asked for has been done: its
    /// records and sends are lost.
    AfterNext,
}

/// Why a crash could not be injected.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum CrashError {
    /// No actor of this name lives here.
    Unknown(Name),
}

impl fmt::Display for CrashError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let CrashError::Unknown(name) = self;
        write!(f, "no actor `{name}` on this node; /debug/actors lists them")
    }
}

impl std::error::Error for CrashError {}

struct Entry {
    stats: Arc<Stats>,
    crash: Recipient<Crash>,
}

struct Shared {
    node: NodeId,
    base: Instant,
    wall_ms: u64,
    /// By how much the time of day has been set forward, or back.
    jumped_ms: AtomicI64,
    gate: Gate,
    seed: u64,
    limits: Limits,
    actors: Mutex<BTreeMap<Name, Entry>>,
    fatal: Box<dyn Fn(Fatal) + Send + Sync>,
    observer: Option<Arc<dyn Observer>>,
}

/// One node's stage: its actors, its seed, and what happens when it cannot go on. Cheap to clone.
#[derive(Clone)]
pub struct Node(Arc<Shared>);

impl Node {
    /// A node without actors. `wall_ms` is the time of day now, in milliseconds since 1970 (any
    /// fixed number in the simulator); `seed` feeds every actor's [`crate::Chance`]; `fatal` is called, on
    /// the actor's thread, when the node cannot go on.
    pub fn new(
        node: NodeId,
        wall_ms: u64,
        seed: u64,
        limits: Limits,
        fatal: impl Fn(Fatal) + Send + Sync + 'static,
        observer: Option<Arc<dyn Observer>>,
    ) -> Self {
        Node(Arc::new(Shared {
            node,
            base: Instant::now(),
            wall_ms,
            jumped_ms: AtomicI64::new(0),
            gate: Gate::default(),
            seed,
            limits,
            actors: Mutex::default(),
            fatal: Box::new(fatal),
            observer,
        }))
    }

    /// Which node.
    pub fn id(&self) -> NodeId {
        self.0.node
    }

    /// Time since the node was made.
    pub fn uptime(&self) -> Duration {
        Instant::now().saturating_duration_since(self.0.base)
    }

    /// Time of day, in milliseconds since 1970: that of the start plus the time since, unless
    /// somebody has set the clock.
    pub fn wall_ms(&self) -> u64 {
        let since_start = self.0.wall_ms + self.uptime().as_millis() as u64;
        since_start.saturating_add_signed(self.0.jumped_ms.load(Relaxed))
    }

    /// Sets the time of day forward, or back, by so many milliseconds.
    pub fn jump_clock(&self, by_ms: i64) {
        self.0.jumped_ms.fetch_add(by_ms, Relaxed);
    }

    /// Holds its actors, all at once.
    pub fn gate(&self) -> &Gate {
        &self.0.gate
    }

    pub(crate) fn base(&self) -> Instant {
        self.0.base
    }

    pub(crate) fn seed(&self) -> u64 {
        self.0.seed
    }

    pub(crate) fn limits(&self) -> Limits {
        self.0.limits
    }

    pub(crate) fn observer(&self) -> Option<&Arc<dyn Observer>> {
        self.0.observer.as_ref()
    }

    /// Ends the node: something happened after which it must not speak any more.
    pub fn fatal(&self, actor: Name, reason: String) {
        (self.0.fatal)(Fatal { actor, reason });
    }

    fn actors(&self) -> MutexGuard<'_, BTreeMap<Name, Entry>> {
        self.0.actors.lock().unwrap_or_else(|poisoned| poisoned.into_inner())
    }

    pub(crate) fn register(&self, stats: Arc<Stats>, crash: Recipient<Crash>) {
        self.actors().insert(stats.name(), Entry { stats, crash });
    }

    /// The mailboxes of all actors, by name.
    pub fn mailboxes(&self) -> Vec<Arc<Stats>> {
        self.actors().values().map(|entry| entry.stats.clone()).collect()
    }

    /// One actor's mailbox.
    pub fn mailbox(&self, name: Name) -> Option<Arc<Stats>> {
        self.actors().get(&name).map(|entry| entry.stats.clone())
    }

    /// Crashes an actor on purpose. It restarts in place; such restarts do not count towards the
    /// limit.
    pub fn crash(&self, name: Name, mode: CrashMode) -> Result<(), CrashError> {
        let actors = self.actors();
        let entry = actors.get(&name).ok_or(CrashError::Unknown(name))?;
        #[expect(clippy::disallowed_methods, reason = "not a message of the protocol")]
        entry.crash.do_send(Crash(mode));
        Ok(())
    }
}
