//! What a clerk can be asked, and what it answers. Plain data.

use std::fmt;

use quorate_kvserver::{Op, Reply, Served};
use quorate_shardmaster::{Command, Notice};
use quorate_stage::Outlet;
use serde::{Deserialize, Serialize};

/// What a clerk can be told.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub enum Message {
    /// From a user: carry these out.
    #[serde(skip)]
    Submit {
        /// Each with a token that comes back with its outcome.
        ops: Vec<(u64, Op)>,
        /// Where the outcomes go.
        reply: Outlet<Outcomes>,
    },
    /// From a user: ask the shardmaster, each once.
    #[serde(skip)]
    Administer {
        /// Each with a token that comes back with its outcome.
        calls: Vec<(u64, Command)>,
        /// Where the outcomes go.
        reply: Outlet<Administered>,
    },
    /// From a kvserver.
    Served(Served),
    /// From a shardmaster.
    Notice(Notice),
    /// From the node: its shardmaster has started anew, and knows nobody who waits.
    #[serde(skip)]
    MasterStarted,
    /// From the node: it stops; let everybody go who waits.
    #[serde(skip)]
    Stop,
}

impl From<Notice> for Message {
    fn from(notice: Notice) -> Self {
        Message::Notice(notice)
    }
}

/// Outcomes, each with the token of its operation.
pub type Outcomes = Vec<(u64, Outcome)>;

/// Outcomes of what the shardmaster was asked, each with the token of its call.
pub type Administered = Vec<(u64, Outcome<quorate_shardmaster::Reply>)>;

quorate_stage::kinds!(Message { Submit, Administer, Served, Notice, MasterStarted, Stop });

impl quorate_stage::WireMessage for Message {
    fn class(&self) -> quorate_stage::Class {
        quorate_stage::Class::Answer
    }
}

impl From<Served> for Message {
    fn from(served: Served) -> Self {
        Message::Served(served)
    }
}

impl fmt::Display for Message {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Message::Submit { ops, .. } => {
                write!(f, "Submit")?;
                for (_, op) in ops.iter().take(4) {
                    write!(f, " {}", op.kind())?;
                }
                match ops.len() {
                    0..=4 => Ok(()),
                    n => write!(f, " and {} more", n - 4),
                }
            }
            Message::Administer { calls, .. } => write!(f, "Administer {}", calls.len()),
            Message::Served(Served { answers, .. }) => {
                write!(f, "Served")?;
                for (serial, _) in answers.iter().take(4) {
                    write!(f, " {serial}")?;
                }
                match answers.len() {
                    0..=4 => Ok(()),
                    n => write!(f, " and {} more", n - 4),
                }
            }
            Message::Notice(notice) => write!(f, "{notice}"),
            Message::MasterStarted => f.write_str("MasterStarted"),
            Message::Stop => f.write_str("Stop"),
        }
    }
}

/// What became of an operation that was given to a clerk.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Outcome<R = Reply> {
    /// It was applied exactly once, and this is its answer (an answer may be an error of the
    /// machine, see [`quorate_kvserver::KvError`]).
    Done(R),
    /// ErrMaybe (6.5840 2026, Lab 2): a versioned Put was carried out or refused for its version,
    /// once, and which of the two is not known any more: it had to be sent again, and the servers
    /// do not keep its answer. Never given for what was sent one time only.
    Maybe,
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
    /// The shard is on its way between two groups.
    Moving,
    /// A key or a value is longer than the bounds allow.
    TooLong,
    /// The clerk keeps no session, and without one the operation could be carried out twice.
    NeedsSession,
}

impl fmt::Display for Refusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Refusal::Busy => "too many operations under way",
            Refusal::NoQuorum => "no majority of replicas could be reached",
            Refusal::NotReady => "the node is not ready",
            Refusal::Moving => "the shard is on its way to another group",
            Refusal::TooLong => "a key or value is too long",
            Refusal::NeedsSession => {
                "a client without a session may only read, and put at a version; use one with a session"
            }
        })
    }
}
