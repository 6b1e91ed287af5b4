//! A stopped process: none of its actors runs until it goes on.

use std::{
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, Ordering::SeqCst},
    },
    task::{Context, Waker},
};

#[derive(Default)]
struct State {
    closed: AtomicBool,
    waiting: Mutex<Vec<Waker>>,
}

/// Holds all actors of one node where they are, as SIGSTOP holds a process: messages pile up in
/// their mailboxes and timers run out unheard. Cheap to clone; all clones are the same gate.
#[derive(Clone, Default)]
pub struct Gate(Arc<State>);

impl Gate {
    /// No actor runs from now on; one that is running ends what it is at.
    pub fn close(&self) {
        self.0.closed.store(true, SeqCst);
    }

    /// All go on.
    pub fn open(&self) {
        self.0.closed.store(false, SeqCst);
        let waiting = std::mem::take(&mut *self.waiting());
        waiting.into_iter().for_each(Waker::wake);
    }

    /// Whether no actor runs.
    pub fn is_closed(&self) -> bool {
        self.0.closed.load(SeqCst)
    }

    fn waiting(&self) -> std::sync::MutexGuard<'_, Vec<Waker>> {
        self.0.waiting.lock().unwrap_or_else(|poisoned| poisoned.into_inner())
    }

    /// Whether whoever asks must wait; it is woken when that changes.
    pub(crate) fn holds(&self, cx: &Context<'_>) -> bool {
        if !self.is_closed() {
            return false;
        }
        let mut waiting = self.waiting();
        if !waiting.iter().any(|waker| waker.will_wake(cx.waker())) {
            waiting.push(cx.waker().clone());
        }
        // It may have been opened before we were on the list.
        self.is_closed()
    }
}
