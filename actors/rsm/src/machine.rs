//! What a service must be to be replicated.

use std::fmt;

use quorate_persistence::Writer;
use serde::{Serialize, de::DeserializeOwned};

use quorate_protocol::log::Index;

/// Where and when a command is applied: the same on every replica.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct At {
    /// Its place in the log. Several commands may share one.
    pub index: Index,
    /// Log time in milliseconds since 1970, as stamped by who proposed; never goes back.
    pub time_ms: u64,
}

/// A deterministic service: the same commands in the same order give the same answers and the same
/// state, on every replica and in every process. So no clock, no randomness, no iteration over an
/// unordered map; the only time is [`At::time_ms`].
pub trait StateMachine: Sized + Unpin + 'static {
    /// What it can be asked.
    type Command: Clone + fmt::Debug + Serialize + DeserializeOwned + Send + Unpin + 'static;
    /// What it answers.
    type Reply: Clone + fmt::Debug + Serialize + DeserializeOwned + Send + Unpin + 'static;

    /// Whether a command changes nothing. Such a command is answered by [`StateMachine::query`],
    /// linearizably, without an entry in the log.
    fn is_read(command: &Self::Command) -> bool;

    /// Which part of the state a command is about: its client's replies are kept with that part,
    /// and move with it. 0 where there is only one.
    fn scope(_command: &Self::Command) -> u16 {
        0
    }

    /// Carries out a command. Called once for each, in the order of the log.
    fn apply(&mut self, at: At, command: Self::Command) -> Self::Reply;

    /// Answers a command that changes nothing.
    fn query(&self, command: &Self::Command) -> Self::Reply;

    /// How much is stored: things (keys, say) and bytes. For whoever looks.
    fn size(&self) -> (u64, u64) {
        (0, 0)
    }

    /// The state as it is now, as something that can write it later, on another thread. Must be
    /// cheap: the machine goes on serving, and changing, meanwhile.
    fn snapshot(&self) -> Writer;

    /// The machine whose snapshot was written as `bytes`.
    ///
    /// # Errors
    /// What is wrong with the bytes.
    fn restore(bytes: &[u8]) -> Result<Self, String>;
}
