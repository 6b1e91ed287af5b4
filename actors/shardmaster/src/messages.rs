//! What a shardmaster can be asked, and what it answers. Plain data.

use std::{collections::BTreeMap, fmt, ops::RangeInclusive, sync::Arc};

use quorate_protocol::{GroupId, NodeId};
use serde::{Deserialize, Serialize};

/// The most shards that a cluster may have: a shard is a range of Redis' 16384 hash slots, and one
/// slot is the least.
pub const SHARDS_MAX: u16 = 16_384;

/// Hash slots of Redis Cluster, of which shards are ranges.
const HASH_SLOTS: u32 = 16_384;

/// A shard's number, from 0.
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize,
)]
pub struct ShardId(pub u16);

impl ShardId {
    /// The shard of a hash slot, where there are so many shards: each is a range of slots, and none has
    /// more than one slot above another.
    pub fn of_slot(slot: u16, shards: u16) -> ShardId {
        ShardId((u32::from(slot) * u32::from(shards) / HASH_SLOTS) as u16)
    }

    /// The hash slots of this shard, where there are so many shards.
    pub fn slots(self, shards: u16) -> RangeInclusive<u16> {
        let first = |shard: u32| (shard * HASH_SLOTS).div_ceil(u32::from(shards.max(1)));
        first(self.0.into()) as u16..=(first(u32::from(self.0) + 1).saturating_sub(1)) as u16
    }
}

impl fmt::Display for ShardId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "s{}", self.0)
    }
}

/// Who serves what.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Configuration {
    /// From 0, one after the other.
    pub number: u64,
    /// By shard, its group; group 0 where there is none.
    pub owners: Vec<GroupId>,
    /// The nodes of each group, in the order in which they were named.
    pub groups: BTreeMap<GroupId, Vec<NodeId>>,
}

impl Configuration {
    /// The group of a shard; `None` if nobody serves it, or there is no such shard.
    pub fn owner(&self, shard: ShardId) -> Option<GroupId> {
        self.owners.get(usize::from(shard.0)).copied().filter(|group| *group != GroupId(0))
    }

    /// How many shards there are; 0 before that is agreed on.
    pub fn shards(&self) -> u16 {
        self.owners.len() as u16
    }

    /// The shards of a group, in order.
    pub fn shards_of(&self, group: GroupId) -> impl Iterator<Item = ShardId> {
        let owners = self.owners.iter().enumerate();
        owners.filter(move |(_, owner)| **owner == group).map(|(shard, _)| ShardId(shard as u16))
    }

    /// How many shards each group has, also those without any.
    pub fn counts(&self) -> BTreeMap<GroupId, usize> {
        let mut counts: BTreeMap<GroupId, usize> =
            self.groups.keys().map(|group| (*group, 0)).collect();
        for owner in &self.owners {
            if let Some(count) = counts.get_mut(owner) {
                *count += 1;
            }
        }
        counts
    }
}

/// What a shardmaster can be asked.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Command {
    /// There are so many shards. The first command of all; repeated, it changes nothing.
    Form {
        /// From 1 to [`SHARDS_MAX`].
        shards: u16,
    },
    /// These groups serve too. Shards are balanced anew.
    Join {
        /// The nodes of each.
        groups: BTreeMap<GroupId, Vec<NodeId>>,
    },
    /// These groups do not serve any more. Shards are balanced anew.
    Leave {
        /// Which.
        groups: Vec<GroupId>,
        /// Whether no group need be left: then nobody has the shards, and what was in them is gone.
        even_the_last: bool,
    },
    /// A shard goes to a group, and stays there until the next Join or Leave.
    Move {
        /// Which one.
        shard: ShardId,
        /// Where to.
        group: GroupId,
    },
    /// The shards are balanced anew, as after a Join: what was moved by hand is forgotten.
    Rebalance,
    /// A configuration.
    Query {
        /// Which one; `None`, or one that is still to come: the newest.
        number: Option<u64>,
    },
}

/// What a shardmaster answers.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Reply {
    /// The change is made, and this is the number of the newest configuration.
    Done {
        /// Its number.
        number: u64,
    },
    /// The configuration that was asked for.
    Configuration(Arc<Configuration>),
    /// Nothing was changed.
    Refused(Refusal),
}

/// Why nothing was changed.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Refusal {
    /// The number of shards has not been agreed on.
    NotFormed,
    /// There are so many shards, and always will be.
    FormedWith(u16),
    /// Not from 1 to [`SHARDS_MAX`].
    ShardCount(u16),
    /// No group was named.
    NoGroup,
    /// The group is a member.
    Member(GroupId),
    /// Group 0 stands for nobody.
    GroupZero,
    /// A group without nodes can serve nothing.
    NoNodes(GroupId),
    /// There is no such group.
    UnknownGroup(GroupId),
    /// There is no such shard.
    UnknownShard(ShardId),
    /// Nobody would be left to have the data.
    LastGroup,
}

impl fmt::Display for Refusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Refusal::NotFormed => f.write_str("the number of shards has not been agreed on yet"),
            Refusal::FormedWith(shards) => {
                write!(f, "this cluster has {shards} shards; that cannot be changed")
            }
            Refusal::ShardCount(shards) => {
                write!(f, "{shards} shards: from 1 to {SHARDS_MAX} can be")
            }
            Refusal::NoGroup => f.write_str("name a group"),
            Refusal::Member(group) => write!(f, "{group} is a member already"),
            Refusal::GroupZero => f.write_str("g0 stands for no group; name one from g1 on"),
            Refusal::NoNodes(group) => write!(f, "name the nodes of {group}"),
            Refusal::UnknownGroup(group) => {
                write!(f, "{group} is no member; `quorate shards query` lists them")
            }
            Refusal::UnknownShard(shard) => {
                write!(f, "there is no {shard}; `quorate shards query` lists them")
            }
            Refusal::LastGroup => {
                f.write_str("nobody would be left to have the data: let another group join first")
            }
        }
    }
}

impl std::error::Error for Refusal {}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_hash_slot_is_in_one_shard_and_shards_are_even() {
        for shards in [1, 2, 3, 10, 16, 64, 1000, 1024, 16_383, SHARDS_MAX] {
            let mut next = 0_u32;
            let mut sizes = vec![];
            for shard in (0..shards).map(ShardId) {
                let slots = shard.slots(shards);
                assert_eq!(u32::from(*slots.start()), next, "{shard} of {shards}");
                assert!(slots.clone().all(|slot| ShardId::of_slot(slot, shards) == shard));
                next = u32::from(*slots.end()) + 1;
                sizes.push(slots.len());
            }
            assert_eq!(next, HASH_SLOTS);
            assert!(sizes.iter().max().unwrap() - sizes.iter().min().unwrap() <= 1, "{shards}");
        }
    }
}
