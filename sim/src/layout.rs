//! Which server has a replica of which group.

use std::{collections::BTreeMap, path::PathBuf};

use quorate_protocol::{GroupId, NodeId};

use crate::world::Options;

/// The one group of a world without shards.
pub(crate) const GROUP: GroupId = GroupId(1);
/// The shardmaster's.
pub(crate) const MASTERS: GroupId = GroupId(0);

/// How a world is divided.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Sharding {
    /// Shards.
    pub shards: u16,
    /// Groups.
    pub groups: u32,
    /// Number of the first one.
    pub first: u32,
    /// Servers of each group, and of the shardmaster.
    pub replicas: u32,
    /// Whether each of them has servers of its own, the shardmaster the first ones; otherwise all are on
    /// the same.
    pub apart: bool,
}

impl Sharding {
    /// As in the labs: 10 shards, three servers each for the shardmaster and for groups 100, 101, 102.
    pub const LABS: Sharding =
        Sharding { shards: 10, groups: 3, first: 100, replicas: 3, apart: true };

    /// The servers that a world of this kind has.
    pub fn servers(self) -> u32 {
        if self.apart { (self.groups + 1) * self.replicas } else { self.replicas }
    }

    /// The groups that may serve shards.
    pub fn groups(self) -> Vec<GroupId> {
        (self.first..self.first + self.groups).map(GroupId).collect()
    }
}

/// The groups of a world, and the servers of each.
pub(crate) fn members(options: &Options) -> BTreeMap<GroupId, Vec<NodeId>> {
    let nodes = |from: u32, count: u32| (from + 1..=from + count).map(NodeId).collect();
    let Some(sharding) = options.sharding else {
        return [(GROUP, nodes(0, options.servers))].into();
    };
    let all = std::iter::once(MASTERS).chain(sharding.groups());
    let place = |at: u32| if sharding.apart { at * sharding.replicas } else { 0 };
    let replicas = sharding.replicas;
    all.zip(0..).map(|(group, at)| (group, nodes(place(at), replicas))).collect()
}

/// Where all of a group lies on every disk.
pub(crate) fn group_dir(group: GroupId) -> PathBuf {
    PathBuf::from(format!("/data/groups/{group}"))
}

/// Where a group's checkpoints lie on every disk.
pub(crate) fn checkpoints(group: GroupId) -> PathBuf {
    group_dir(group).join("checkpoint")
}
