//! What a shardmaster hears from those who ask it, and what it answers. Plain data.

use std::{fmt, sync::Arc};

use quorate_protocol::Name;
use quorate_rsm::{Answers, Outcome, Request, Stirred};
use serde::{Deserialize, Serialize};

use crate::messages::{Command, Configuration, Reply};

/// What a shardmaster can be told.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub enum Message {
    /// From a mover or a clerk: tell me a configuration above this number, once there is one. Answered
    /// by [`Notice::Told`]. Configurations never change, so that one that is told late is as good. The
    /// last question of an asker counts.
    Await {
        /// A configuration above this one is wanted.
        above: u64,
        /// Whether it is the very next one; otherwise the newest.
        next: bool,
    },
    /// From a clerk: carry these out, each once. Answered by [`Notice::Called`].
    Call {
        /// The commands, with their clients and serials.
        requests: Vec<Request<Command>>,
    },
    /// From the rsm: there is another configuration.
    #[serde(skip)]
    Stirred(Stirred),
    /// From the rsm: a read has been answered, so that what is chosen is applied here.
    #[serde(skip)]
    HasRead,
    /// From the rsm: configurations, each for the asker of that number.
    #[serde(skip)]
    Peeked(Answers<Reply>),
    /// From the rsm: what became of calls.
    #[serde(skip)]
    Answered {
        /// The clerk.
        to: Name,
        /// Its life: serials of a former one mean other commands.
        client_id: u64,
        /// By serial.
        answers: Answers<Reply>,
    },
}

quorate_stage::kinds!(Message { Await, Call, Stirred, HasRead, Peeked, Answered });

impl quorate_stage::WireMessage for Message {
    fn class(&self) -> quorate_stage::Class {
        quorate_stage::Class::Request
    }
}

impl From<Stirred> for Message {
    fn from(stirred: Stirred) -> Self {
        Message::Stirred(stirred)
    }
}

/// What a shardmaster says to those who have asked.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Notice {
    /// A configuration that was waited for.
    Told(Arc<Configuration>),
    /// What became of calls.
    Called {
        /// Whose serials these are.
        client_id: u64,
        /// By serial.
        answers: Vec<(u64, Outcome<Reply>)>,
    },
}

impl fmt::Display for Message {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Message::Await { above, next: true } => write!(f, "Await the one after {above}"),
            Message::Await { above, next: false } => write!(f, "Await one above {above}"),
            Message::Call { requests } => write!(f, "Call {}", requests.len()),
            Message::Stirred(_) => f.write_str("Stirred"),
            Message::HasRead => f.write_str("HasRead"),
            Message::Peeked(answers) => write!(f, "Peeked {}", answers.len()),
            Message::Answered { to, answers, .. } => write!(f, "Answered {to} {}", answers.len()),
        }
    }
}

impl fmt::Display for Notice {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Notice::Told(configuration) => write!(f, "Told {}", configuration.number),
            Notice::Called { answers, .. } => write!(f, "Called {}", answers.len()),
        }
    }
}
