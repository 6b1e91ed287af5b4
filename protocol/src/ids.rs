//! Identities: nodes, groups, incarnations.

use std::fmt;

use serde::{Deserialize, Serialize};

/// A node's number, from 1 to 65535, and in the upper half which life of it in a group is meant: 0 since
/// the group was formed, and one more each time it was taken in (DESIGN 5). 0 stands for nobody.
///
/// As a member of a group a node is another one in each of its lives, and nothing that it said in a former
/// one can be taken for its word. As a machine, with an address, a disk and clients, it is its [`home`].
///
/// [`home`]: NodeId::home
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize,
)]
pub struct NodeId(pub u32);

impl NodeId {
    /// The highest number of a node.
    pub const NUMBER_MAX: u32 = 0xffff;

    /// The machine.
    pub fn home(self) -> NodeId {
        NodeId(self.0 & NodeId::NUMBER_MAX)
    }

    /// Which life.
    pub fn life(self) -> u16 {
        (self.0 >> 16) as u16
    }

    /// The same machine in this life.
    pub fn in_life(self, life: u16) -> NodeId {
        NodeId(self.home().0 | (u32::from(life) << 16))
    }
}

impl fmt::Display for NodeId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "n{}", self.home().0)?;
        match self.life() {
            0 => Ok(()),
            life => write!(f, ".{life}"),
        }
    }
}

/// A replica group's number, from 1. Group 0 has no shards: it is the shardmaster's, and in a name it
/// stands for what belongs to the node as a whole; as the owner of a shard it stands for nobody.
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize,
)]
pub struct GroupId(pub u32);

impl fmt::Display for GroupId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "g{}", self.0)
    }
}

/// Which life of a data directory speaks. Drawn at random when a directory is first used, and kept
/// in it: a node that lost its disk comes back as somebody else (ARCHITECTURE.md, pins).
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize,
)]
pub struct Incarnation(pub u64);

impl fmt::Display for Incarnation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:016x}", self.0)
    }
}

/// A member of a group: a node in one of its lives. Promises and votes count for a member, never
/// for a node.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct Member {
    /// The node.
    pub node: NodeId,
    /// Its life.
    pub incarnation: Incarnation,
}

impl fmt::Display for Member {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}@{}", self.node, self.incarnation)
    }
}
