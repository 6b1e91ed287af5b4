//! What a kvserver hears from clerks, and what it answers. Plain data.

use std::fmt;

use quorate_protocol::NodeId;
use quorate_rsm::{Answers, Outcome, Request};
use serde::{Deserialize, Serialize};

use crate::messages::{Op, Reply};

/// What a kvserver can be told.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub enum Message {
    /// From a clerk: carry these out. Answered by [`Served`], each serial by itself.
    Serve {
        /// The operations, with their clients and serials.
        requests: Vec<Request<Op>>,
    },
    /// From the rsm: what became of some of them.
    #[serde(skip)]
    Answered {
        /// The clerk's node.
        to: NodeId,
        /// The clerk's life: serials of a former one mean other operations.
        client_id: u64,
        /// By serial.
        answers: Answers<Reply>,
    },
}

quorate_stage::kinds!(Message { Serve, Answered });

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
                for request in requests.iter().take(4) {
                    let (client, op) = (request.client_id & 0xffff, request.command.kind());
                    write!(f, " {client:04x}.{} {op}", request.serial)?;
                }
                match requests.len() {
                    0..=4 => Ok(()),
                    n => write!(f, " and {} more", n - 4),
                }
            }
            Message::Answered { to, answers, .. } => write!(f, "Answered {to} {}", answers.len()),
        }
    }
}

/// What a kvserver answers to a clerk.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Served {
    /// Whose serials these are. A clerk that has started anew is somebody else.
    pub client_id: u64,
    /// By serial.
    pub answers: Vec<(u64, Outcome<Reply>)>,
}
