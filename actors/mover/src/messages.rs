//! What a mover hears. Plain data.

use std::{fmt, sync::Arc};

use bytes::Bytes;
use quorate_kvserver::{Cursor, Reply};
use quorate_rsm::{Answers, Stirred};
use quorate_shardmaster::{Configuration, Notice, ShardId};
use serde::{Deserialize, Serialize};

/// What a mover can be told.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub enum Message {
    /// From the rsm: its machine has changed, or another one leads.
    #[serde(skip)]
    Stirred(Stirred),
    /// From the rsm: answers to looks, from what is applied here.
    #[serde(skip)]
    Peeked(Answers<Reply>),
    /// From the rsm: what became of commands.
    #[serde(skip)]
    Answered(Answers<Reply>),
    /// From the node: its shardmaster has started anew, and knows nobody who waits.
    #[serde(skip)]
    MasterStarted,
    /// From a shardmaster: the next configuration.
    Told(Arc<Configuration>),
    /// From the mover of the group that a shard goes to: a piece of it, please. Answered by Pulled.
    Pull {
        /// Comes back in the answer.
        question: u64,
        /// Which shard.
        shard: ShardId,
        /// The configuration by which it goes.
        number: u64,
        /// What has come already.
        after: Cursor,
    },
    /// The answer to Pull.
    Pulled {
        /// The number of the question.
        question: u64,
        /// A piece, encoded; `None`: there is none here now.
        piece: Option<Bytes>,
        /// Checksum of the piece.
        crc: u32,
    },
    /// From the mover of a group that has given shards up: have you got them? Answered by Received.
    Ask {
        /// Each with the configuration by which it goes.
        shards: Vec<(ShardId, u64)>,
    },
    /// From the mover of the group that shards went to: these are here, and chosen.
    Received {
        /// Each with the configuration by which it came.
        shards: Vec<(ShardId, u64)>,
    },
}

quorate_stage::kinds!(Message {
    Stirred,
    Peeked,
    Answered,
    MasterStarted,
    Told,
    Pull,
    Pulled,
    Ask,
    Received
});

impl quorate_stage::WireMessage for Message {
    fn class(&self) -> quorate_stage::Class {
        match self {
            Message::Told(_) | Message::Pulled { .. } | Message::Received { .. } => {
                quorate_stage::Class::Answer
            }
            _ => quorate_stage::Class::Request,
        }
    }
}

impl From<Stirred> for Message {
    fn from(stirred: Stirred) -> Self {
        Message::Stirred(stirred)
    }
}

impl Message {
    /// What a shardmaster says, as far as it is for a mover.
    pub fn of_notice(notice: Notice) -> Option<Message> {
        match notice {
            Notice::Told(configuration) => Some(Message::Told(configuration)),
            Notice::Called { .. } => None,
        }
    }
}

struct Shards<'a>(&'a [(ShardId, u64)]);

impl fmt::Display for Shards<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (shard, number) in self.0.iter().take(4) {
            write!(f, " {shard}@{number}")?;
        }
        match self.0.len() {
            0..=4 => Ok(()),
            n => write!(f, " and {} more", n - 4),
        }
    }
}

impl fmt::Display for Message {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Message::Stirred(_) => f.write_str("Stirred"),
            Message::Peeked(answers) => write!(f, "Peeked {}", answers.len()),
            Message::Answered(answers) => write!(f, "Answered {}", answers.len()),
            Message::MasterStarted => f.write_str("MasterStarted"),
            Message::Told(configuration) => write!(f, "Told {}", configuration.number),
            Message::Pull { question, shard, number, .. } => {
                write!(f, "Pull #{} {shard}@{number}", question & 0xffff)
            }
            Message::Pulled { question, piece, .. } => {
                let bytes = piece.as_ref().map_or(0, Bytes::len);
                write!(f, "Pulled #{} bytes={bytes}", question & 0xffff)
            }
            Message::Ask { shards } => write!(f, "Ask{}", Shards(shards)),
            Message::Received { shards } => write!(f, "Received{}", Shards(shards)),
        }
    }
}
