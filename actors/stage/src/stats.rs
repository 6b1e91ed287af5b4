//! What can be seen of a mailbox from outside, also while its actor is stuck.

use std::{
    collections::VecDeque,
    sync::{
        Mutex, MutexGuard,
        atomic::{AtomicU64, Ordering::Relaxed},
    },
};

use quorate_protocol::Name;
use serde::Serialize;
use tokio::time::Instant;

/// How many handled messages are remembered.
const RECENT_MAX: usize = 64;
/// How many waiting messages can be told apart; beyond, the oldest is reported approximately.
const WAITING_SEEN_MAX: u64 = 1024;

/// One handled message.
#[derive(Clone, Debug, Serialize)]
pub struct Handled {
    /// Its kind.
    pub kind: &'static str,
    /// Who sent it.
    pub from: String,
    /// How long it waited, in nanoseconds.
    pub wait_ns: u64,
    /// How long it was worked on, in nanoseconds.
    pub run_ns: u64,
    /// When its handling began, in nanoseconds since the node started.
    pub at_ns: u64,
}

#[derive(Clone, Copy)]
struct HandledRaw {
    kind: usize,
    from: Name,
    wait_ns: u64,
    run_ns: u64,
    at_ns: u64,
}

/// Counts of one kind of message.
#[derive(Clone, Debug, Serialize)]
pub struct KindView {
    /// The kind.
    pub kind: &'static str,
    /// How many were put into the mailbox.
    pub enqueued: u64,
    /// How many were taken out of it.
    pub handled: u64,
}

/// The message that waits longest.
#[derive(Clone, Debug, Serialize)]
pub struct Waiting {
    /// Its kind.
    pub kind: &'static str,
    /// For how long, in nanoseconds.
    pub age_ns: u64,
}

/// An actor's last panic.
#[derive(Clone, Debug, Serialize)]
pub struct PanicView {
    /// What it said.
    pub message: String,
    /// When, in nanoseconds since the node started.
    pub at_ns: u64,
    /// Whether it was injected on purpose.
    pub injected: bool,
}

/// An actor in one line.
#[derive(Clone, Debug, Serialize)]
pub struct ActorView {
    /// Its name.
    pub name: String,
    /// Messages waiting now.
    pub depth: u64,
    /// Messages ever put into the mailbox.
    pub enqueued: u64,
    /// Messages ever taken out.
    pub handled: u64,
    /// Kind and time of the message being worked on, if any.
    pub busy: Option<Waiting>,
    /// Restarts after a panic or an injected crash.
    pub restarts: u64,
    /// The last panic.
    pub last_panic: Option<PanicView>,
}

/// A mailbox in full.
#[derive(Clone, Debug, Serialize)]
pub struct MailboxView {
    /// The actor.
    #[serde(flatten)]
    pub actor: ActorView,
    /// Per kind.
    pub kinds: Vec<KindView>,
    /// The message that waits longest.
    pub oldest: Option<Waiting>,
    /// The last messages, newest last.
    pub recent: Vec<Handled>,
}

struct Counts {
    enqueued: AtomicU64,
    handled: AtomicU64,
}

/// Counters of one mailbox, shared between its senders, its actor and those who look.
pub struct Stats {
    name: Name,
    base: Instant,
    kinds: &'static [&'static str],
    counts: Vec<Counts>,
    enqueued: AtomicU64,
    handled: AtomicU64,
    /// Ring of `time << 8 | kind`, by sequence number.
    waiting: Vec<AtomicU64>,
    /// `time << 8 | kind` of the message under way, 0 for none.
    busy: AtomicU64,
    recent: Mutex<VecDeque<HandledRaw>>,
    restarts: AtomicU64,
    last_panic: Mutex<Option<PanicView>>,
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    // A panic while the lock is held leaves counters that are still worth reading.
    mutex.lock().unwrap_or_else(|poisoned| poisoned.into_inner())
}

impl Stats {
    pub(crate) fn new(name: Name, base: Instant, kinds: &'static [&'static str]) -> Self {
        let zero = || Counts { enqueued: AtomicU64::new(0), handled: AtomicU64::new(0) };
        Stats {
            name,
            base,
            kinds,
            counts: kinds.iter().map(|_| zero()).collect(),
            enqueued: AtomicU64::new(0),
            handled: AtomicU64::new(0),
            waiting: (0..WAITING_SEEN_MAX).map(|_| AtomicU64::new(0)).collect(),
            busy: AtomicU64::new(0),
            recent: Mutex::new(VecDeque::with_capacity(RECENT_MAX)),
            restarts: AtomicU64::new(0),
            last_panic: Mutex::new(None),
        }
    }

    /// Whose mailbox it is.
    pub fn name(&self) -> Name {
        self.name
    }

    pub(crate) fn now_ns(&self) -> u64 {
        Instant::now().saturating_duration_since(self.base).as_nanos() as u64
    }

    /// Counts a message in; answers the time of its arrival.
    pub(crate) fn enqueue(&self, kind: usize) -> u64 {
        let now = self.now_ns();
        let seq = self.enqueued.fetch_add(1, Relaxed);
        self.waiting[(seq % WAITING_SEEN_MAX) as usize].store(now << 8 | kind as u64, Relaxed);
        self.counts[kind].enqueued.fetch_add(1, Relaxed);
        now
    }

    /// Counts a message out; answers the time at which work on it begins.
    pub(crate) fn begin(&self, kind: usize) -> u64 {
        let now = self.now_ns();
        self.handled.fetch_add(1, Relaxed);
        self.counts[kind].handled.fetch_add(1, Relaxed);
        self.busy.store((now << 8 | kind as u64) | 1 << 63, Relaxed);
        now
    }

    pub(crate) fn end(&self, kind: usize, from: Name, enqueued_at: u64, began_at: u64) {
        let raw = HandledRaw {
            kind,
            from,
            wait_ns: began_at.saturating_sub(enqueued_at),
            run_ns: self.now_ns().saturating_sub(began_at),
            at_ns: began_at,
        };
        self.busy.store(0, Relaxed);
        let mut recent = lock(&self.recent);
        if recent.len() == RECENT_MAX {
            recent.pop_front();
        }
        recent.push_back(raw);
    }

    pub(crate) fn restarted(&self, message: String, injected: bool) {
        self.busy.store(0, Relaxed);
        self.restarts.fetch_add(1, Relaxed);
        *lock(&self.last_panic) = Some(PanicView { message, at_ns: self.now_ns(), injected });
    }

    fn kind(&self, index: u64) -> &'static str {
        self.kinds.get(index as usize).copied().unwrap_or("?")
    }

    /// How many messages of a kind were handled; 0 for an unknown kind.
    pub fn handled_of(&self, kind: &str) -> u64 {
        let index = self.kinds.iter().position(|k| *k == kind);
        index.map_or(0, |i| self.counts[i].handled.load(Relaxed))
    }

    /// The actor in one line.
    pub fn actor(&self) -> ActorView {
        // Handled first: read in this order the depth never looks negative.
        let handled = self.handled.load(Relaxed);
        let enqueued = self.enqueued.load(Relaxed);
        let busy = self.busy.load(Relaxed);
        let busy = (busy != 0).then(|| Waiting {
            kind: self.kind(busy & 0xff),
            age_ns: self.now_ns().saturating_sub((busy & !(1 << 63)) >> 8),
        });
        ActorView {
            name: self.name.to_string(),
            depth: enqueued.saturating_sub(handled),
            enqueued,
            handled,
            busy,
            restarts: self.restarts.load(Relaxed),
            last_panic: lock(&self.last_panic).clone(),
        }
    }

    /// The mailbox in full.
    pub fn mailbox(&self) -> MailboxView {
        let actor = self.actor();
        let kinds = self.kinds.iter().zip(&self.counts).map(|(kind, counts)| KindView {
            kind,
            enqueued: counts.enqueued.load(Relaxed),
            handled: counts.handled.load(Relaxed),
        });
        let oldest = (actor.depth > 0).then(|| {
            let first = actor.handled.max(actor.enqueued.saturating_sub(WAITING_SEEN_MAX));
            let raw = self.waiting[(first % WAITING_SEEN_MAX) as usize].load(Relaxed);
            let age_ns = self.now_ns().saturating_sub(raw >> 8);
            Waiting { kind: self.kind(raw & 0xff), age_ns }
        });
        let recent = lock(&self.recent).clone();
        let recent = recent.iter().map(|raw| Handled {
            kind: self.kind(raw.kind as u64),
            from: raw.from.to_string(),
            wait_ns: raw.wait_ns,
            run_ns: raw.run_ns,
            at_ns: raw.at_ns,
        });
        let recent = recent.collect();
        MailboxView { kinds: kinds.collect(), oldest, recent, actor }
    }
}
