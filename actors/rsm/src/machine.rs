//! What a service must be to be replicated.

use std::fmt;

use quorate_persistence::Writer;
use serde::{Serialize, de::DeserializeOwned};

use quorate_protocol::log::Index;

use crate::sessions::Scopes;

/// Where and when a command is applied: the same on every replica.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct At {
    /// Its place in the log. Several commands may share one.
    pub index: Index,
    /// Log time in milliseconds, from any beginning, as stamped by who proposed; never goes back,
    /// and never runs faster than time does.
    pub time_ms: u64,
}

/// A deterministic service: the same commands in the same order give the same answers and the same
/// state, on every replica and in every process. So no clock, no randomness, no iteration over an
/// unordered map; the only time is [`At::time_ms`].
pub trait StateMachine: Sized + Send + Unpin + 'static {
    /// What it can be asked.
    type Command: Clone + fmt::Debug + Serialize + DeserializeOwned + Send + Unpin + 'static;
    /// What it answers.
    type Reply: Clone + fmt::Debug + Serialize + DeserializeOwned + Send + Sync + Unpin + 'static;

    /// Whether a command changes nothing. Such a command is answered by [`StateMachine::query`],
    /// linearizably, without an entry in the log.
    fn is_read(command: &Self::Command) -> bool;

    /// Which part of the state a command is about: its client's replies are kept with that part,
    /// and move with it. 0 where there is only one.
    fn scope(&self, _command: &Self::Command) -> u16 {
        0
    }

    /// Whether a command is not for this machine, as it is now, and what is answered then. Such a command
    /// has no effect and its serial is not used up: somebody else may have to carry it out.
    fn refusal(&self, _command: &Self::Command) -> Option<Self::Reply> {
        None
    }

    /// Carries out a command. Called once for each, in the order of the log.
    fn apply(&mut self, at: At, command: Self::Command) -> Self::Reply;

    /// The same, for a machine whose parts come and go, and the replies that are kept for clients with
    /// them. Called instead of [`StateMachine::apply`].
    fn apply_among(
        &mut self,
        at: At,
        command: Self::Command,
        _scopes: &mut Scopes<Self::Reply>,
    ) -> Self::Reply {
        self.apply(at, command)
    }

    /// Counts the changes that whoever watches the machine ([`crate::Wiring::watcher`]) wants to hear of.
    fn stirred(&self) -> u64 {
        0
    }

    /// What the last command has made useless, and takes long to free: that is done on another thread.
    fn take_garbage(&mut self) -> Option<Garbage> {
        None
    }

    /// Answers a command that changes nothing.
    fn query(&self, command: &Self::Command) -> Self::Reply;

    /// How much is stored: things (keys, say) and bytes. For whoever looks.
    fn size(&self) -> (u64, u64) {
        (0, 0)
    }

    /// The state as it is now, as something that can write it later, on another thread. Must be
    /// cheap: the machine goes on serving, and changing, meanwhile.
    fn snapshot(&self) -> Writer;

    /// Makes the machine again of what its snapshot has written, on another thread. Equal states must
    /// write equal bytes.
    fn restore() -> Restore<Self>;
}

/// What a machine needs no more.
pub struct Garbage {
    /// To be freed.
    pub what: Box<dyn Send>,
    /// Bytes that it takes in a checkpoint, about: once they are many, a new one is made without them.
    pub bytes: u64,
}

/// Makes a machine of the bytes of its snapshot, as they come: cut anywhere.
pub trait Restoring<M>: Send {
    /// The next bytes.
    ///
    /// # Errors
    /// What is wrong with them.
    fn feed(&mut self, bytes: &[u8]) -> Result<(), String>;

    /// Those were all.
    ///
    /// # Errors
    /// What is missing.
    fn finish(self: Box<Self>) -> Result<M, String>;
}

/// A machine that is being restored.
pub struct Restore<M>(Box<dyn Restoring<M>>);

impl<M: 'static> Restore<M> {
    /// For a machine that is made piece by piece, because its snapshot is large.
    pub fn streamed(restoring: impl Restoring<M> + 'static) -> Self {
        Restore(Box::new(restoring))
    }

    /// For a small machine, which is made of all its bytes at once.
    pub fn whole(make: impl FnOnce(&[u8]) -> Result<M, String> + Send + 'static) -> Self {
        Restore::streamed(Whole { bytes: vec![], make })
    }

    /// The next bytes.
    ///
    /// # Errors
    /// What is wrong with them.
    pub fn feed(&mut self, bytes: &[u8]) -> Result<(), String> {
        self.0.feed(bytes)
    }

    /// Those were all.
    ///
    /// # Errors
    /// What is missing.
    pub fn finish(self) -> Result<M, String> {
        self.0.finish()
    }
}

struct Whole<F> {
    bytes: Vec<u8>,
    make: F,
}

impl<M, F: FnOnce(&[u8]) -> Result<M, String> + Send> Restoring<M> for Whole<F> {
    fn feed(&mut self, bytes: &[u8]) -> Result<(), String> {
        self.bytes.extend_from_slice(bytes);
        Ok(())
    }

    fn finish(self: Box<Self>) -> Result<M, String> {
        (self.make)(&self.bytes)
    }
}
