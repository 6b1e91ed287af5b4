//! What a kvserver hears from clerks, and what it answers. Plain data.

use std::fmt;

use quorate_protocol::NodeId;
use quorate_rsm::{Answers, Outcome, Request};
use serde::{Deserialize, Serialize};

use crate::messages::{Op, Reply};

/// What a kvserver can be told.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub enum Message {
    /// From a clerk: carry these out. Answered by [`Served`], each by itself.
    Serve {
        /// The operations, with their clients and serials, each behind a number that names this copy of
        /// it: what is sent again is the same operation by another number.
        requests: Vec<(u64, Request<Op>)>,
    },
    /// From a clerk without sessions: carry these out, each at most once for this message. What is
    /// sent again is another one. Answered by [`Served`], each by itself.
    ServeSessionless {
        /// The clerk's life; comes back with the answers.
        client_id: u64,
        /// Reads and versioned Puts, each behind a number that names this copy of it.
        ops: Vec<(u64, Op)>,
    },
    /// From the rsm: what became of some that this server has submitted as its own.
    #[serde(skip)]
    AnsweredOwn {
        /// The server's session: serials of a former one mean other operations.
        session: u64,
        /// By the server's serial.
        answers: Answers<Reply>,
    },
    /// From the rsm: what became of some of them.
    #[serde(skip)]
    Answered {
        /// The clerk's node.
        to: NodeId,
        /// The clerk's life: serials of a former one mean other operations.
        client_id: u64,
        /// By the clerk's number.
        answers: Answers<Reply>,
    },
}

quorate_stage::kinds!(Message { Serve, ServeSessionless, AnsweredOwn, Answered });

impl quorate_stage::WireMessage for Message {
    fn class(&self) -> quorate_stage::Class {
        quorate_stage::Class::Request
    }
}

impl fmt::Display for Message {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Message::Serve { requests } => {
                write!(f, "Serve")?;
                for (_, request) in requests.iter().take(4) {
                    let (client, op) = (request.client_id & 0xffff, request.command.kind());
                    write!(f, " {client:04x}.{} {op}", request.serial)?;
                }
                match requests.len() {
                    0..=4 => Ok(()),
                    n => write!(f, " and {} more", n - 4),
                }
            }
            Message::ServeSessionless { client_id, ops } => {
                write!(f, "ServeSessionless")?;
                for (copy, op) in ops.iter().take(4) {
                    write!(f, " {:04x}.{copy} {}", client_id & 0xffff, op.kind())?;
                }
                match ops.len() {
                    0..=4 => Ok(()),
                    n => write!(f, " and {} more", n - 4),
                }
            }
            Message::AnsweredOwn { answers, .. } => write!(f, "AnsweredOwn {}", answers.len()),
            Message::Answered { to, answers, .. } => write!(f, "Answered {to} {}", answers.len()),
        }
    }
}

/// What a kvserver answers to a clerk.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Served {
    /// Whose numbers these are. A clerk that has started anew is somebody else.
    pub client_id: u64,
    /// By the number of the copy that is answered. What a server says that it has not carried out is that
    /// copy, and no other.
    pub answers: Vec<(u64, Outcome<Reply>)>,
}
