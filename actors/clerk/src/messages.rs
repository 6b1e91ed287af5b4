//! What a clerk can be asked, and what it answers. Plain data.

use std::fmt;

use quorate_kvserver::{KvError, Reply};

/// What became of an operation that was given to a clerk.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// It was applied exactly once, and this is its answer (an answer may be an error of the
    /// machine, see [`KvError`]).
    Done(Reply),
    /// ErrMaybe (6.5840 2026, Lab 2): a versioned Put that had to be sent again was refused for its
    /// version; the first copy may have taken effect.
    Maybe(KvError),
    /// It was certainly not executed and will not be; it may be tried again.
    Refused(Refusal),
    /// Nobody can say whether it was, or will be, executed. Never given for a read: a read that
    /// cannot be answered is [`Outcome::Refused`].
    Unknown,
}

/// Why an operation was certainly not executed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Refusal {
    /// Too many operations are under way at this node.
    Busy,
    /// No majority could be reached.
    NoQuorum,
    /// The node is stopping, or has not recovered yet.
    NotReady,
    /// A key or a value is longer than the bounds allow.
    TooLong,
}

impl fmt::Display for Refusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Refusal::Busy => "too many operations under way",
            Refusal::NoQuorum => "no majority of replicas could be reached",
            Refusal::NotReady => "the node is not ready",
            Refusal::TooLong => "a key or value is too long",
        })
    }
}
