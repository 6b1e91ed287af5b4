//! What the machine of a group can be told about its shards, and what it says of them. Plain data.

use std::{fmt, sync::Arc};

use bytes::Bytes;
use quorate_protocol::{GroupId, NodeId};
use quorate_rsm::SessionImage;
use quorate_shardmaster::{Configuration, ShardId};
use serde::{Deserialize, Serialize};

use crate::messages::{Key, Op, Reply, Version};

/// A command in the log of a group.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub enum Command {
    /// From a client.
    Op(Op),
    /// From a mover: the next configuration. Answer: [`Reply::Count`], the number that holds now.
    Configure(Arc<Configuration>),
    /// From a mover, on behalf of the group that a shard goes to: do not serve it any more. Answer:
    /// [`Reply::Count`] 1 if it is given up by now, otherwise 0.
    GiveUp {
        /// Which shard.
        shard: ShardId,
        /// The configuration by which it goes.
        number: u64,
    },
    /// From a mover: the next piece of a shard that comes here. Answer: [`Reply::Count`] 1 if it was
    /// taken in, otherwise 0.
    Receive {
        /// Which shard.
        shard: ShardId,
        /// The configuration by which it comes.
        number: u64,
        /// A [`Piece`], encoded.
        piece: Bytes,
    },
    /// From a mover: the group that a shard went to has it, durably; delete it here. Answer:
    /// [`Reply::Count`] 1 if it was deleted, otherwise 0.
    Delete {
        /// Which shard.
        shard: ShardId,
        /// The configuration by which it went.
        number: u64,
    },
    /// From whoever looks: which shards are here, and which on their way? Answer: [`Reply::View`].
    View,
    /// From a mover: a part of a shard that has been given up. Answer: [`Reply::Piece`].
    Piece {
        /// Which shard.
        shard: ShardId,
        /// The configuration by which it goes.
        number: u64,
        /// What is there already.
        after: Cursor,
        /// Bytes of the piece, about; one session or pair is always there.
        bytes_max: u32,
    },
}

impl From<Op> for Command {
    fn from(op: Op) -> Self {
        Command::Op(op)
    }
}

/// How far a shard has been carried: first its sessions, by client, then its pairs, by hash slot and key.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub enum Cursor {
    /// Nothing.
    #[default]
    Start,
    /// The sessions through this client's.
    Client(u64),
    /// All sessions, and the pairs through this key's.
    Key(Key),
}

/// How much a shard holds.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Load {
    /// Keys.
    pub keys: u64,
    /// Bytes of keys and values.
    pub bytes: u64,
}

/// A pair that is carried.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Pair {
    /// Its key.
    pub key: Key,
    /// Its value.
    pub value: Bytes,
    /// Its version.
    pub version: Version,
}

/// A part of a shard. It begins where another one ends, and names both places, so that it can be asked
/// of any replica and taken in once.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Piece {
    /// Of which shard.
    pub shard: ShardId,
    /// The configuration by which it goes.
    pub number: u64,
    /// What was there before.
    pub after: Cursor,
    /// Sessions, in order.
    pub sessions: Vec<(u64, SessionImage<Reply>)>,
    /// Pairs, in order.
    pub pairs: Vec<Pair>,
    /// What is there with it; `None`: everything.
    pub next: Option<Cursor>,
    /// What the whole shard holds.
    pub total: Load,
}

impl Piece {
    /// A piece from its bytes.
    ///
    /// # Errors
    /// What is wrong with them.
    pub fn decode(bytes: &[u8]) -> Result<Piece, String> {
        let piece: Piece = rmp_serde::from_slice(bytes).map_err(|error| error.to_string())?;
        let grows = piece.next.as_ref().is_none_or(|next| *next != piece.after);
        let fits = |pair: &Pair| {
            pair.key.len() <= crate::KEY_BYTES_MAX
                && pair.value.len() <= crate::VALUE_BYTES_MAX
                && pair.version > Version(0)
        };
        match grows && piece.pairs.iter().all(fits) {
            true => Ok(piece),
            false => Err("a piece of a shard that no machine makes".into()),
        }
    }

    /// Its bytes.
    pub fn encode(&self) -> Bytes {
        quorate_protocol::encode(self)
    }
}

/// Which shards are with a group, as one replica has applied it.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct View {
    /// Which group.
    pub group: GroupId,
    /// The configuration that was taken over last.
    pub number: u64,
    /// How many shards are served here.
    pub serving: u16,
    /// Those that are on their way, from here or to here.
    pub moving: Vec<Moving>,
}

impl View {
    /// Whether a shard that came by a configuration is here, or has been.
    pub fn has_received(&self, shard: ShardId, number: u64) -> bool {
        let awaited = |moving: &Moving| {
            let comes = matches!(moving.phase, Phase::Awaited { .. });
            comes && (moving.shard, moving.number) == (shard, number)
        };
        self.number >= number && !self.moving.iter().any(awaited)
    }
}

/// A shard that is on its way.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Moving {
    /// Which shard.
    pub shard: ShardId,
    /// The configuration by which it goes or comes.
    pub number: u64,
    /// The other group, and the nodes that it has replicas on.
    pub other: GroupId,
    /// Those nodes.
    pub nodes: Vec<NodeId>,
    /// How far it is.
    pub phase: Phase,
}

/// How far a shard is on its way.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Phase {
    /// It is to go, and is served here until the other group asks for it.
    Leaving,
    /// It is served here no more, and kept until the other group has it.
    GivenUp(Load),
    /// It is to come.
    Awaited {
        /// What is here.
        cursor: Cursor,
        /// How much that is.
        here: Load,
        /// How much there is; unknown until the first piece has come.
        total: Option<Load>,
    },
}

impl fmt::Display for Command {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Command::Op(op) => f.write_str(op.kind()),
            Command::Configure(next) => write!(f, "configure {}", next.number),
            Command::GiveUp { shard, number } => write!(f, "give-up {shard}@{number}"),
            Command::Receive { shard, number, piece } => {
                write!(f, "receive {shard}@{number} bytes={}", piece.len())
            }
            Command::Delete { shard, number } => write!(f, "delete {shard}@{number}"),
            Command::View => f.write_str("view"),
            Command::Piece { shard, number, .. } => write!(f, "piece {shard}@{number}"),
        }
    }
}
