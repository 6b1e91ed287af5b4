//! What the gateway must know about its node to answer for it. Plain data, filled in by the shell.

use std::{collections::BTreeMap, sync::Arc};

use quorate_kvserver::{HashSlot, Key, Op};
use quorate_protocol::{GroupId, NodeId};
use quorate_shardmaster::Configuration;

use crate::{
    Counters, Standing,
    slots::{SlotMap, View},
};

/// A node as clients see it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Member {
    /// Its number.
    pub node: NodeId,
    /// 40 lower-case hexadecimal digits, different for each node and the same for ever.
    pub id: String,
    /// Where clients reach it. Empty: the host that the client has asked.
    pub host: String,
    /// Its Redis port.
    pub port: u16,
    /// Its port for other nodes.
    pub peer_port: u16,
    /// Whether it answers other nodes.
    pub alive: bool,
}

/// What a client is told whose key another node leads.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Redirect {
    /// Nothing: the operation is forwarded. Any node answers any key, and several at once.
    #[default]
    Never,
    /// MOVED, and where to, as Redis Cluster does; the keys of one command must share a hash slot.
    Always,
}

/// The node and what it knows of the others, at one moment.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct NodeInfo {
    /// This node.
    pub own: Member,
    /// The others.
    pub peers: Vec<Member>,
    /// Version of this program.
    pub version: String,
    /// Process that it runs in.
    pub process_id: u32,
    /// Microseconds since 1970, by the shell's clock.
    pub now_us: u64,
    /// Seconds since the node began.
    pub uptime_s: u64,
    /// Whether it is still recovering, or already stopping.
    pub loading: bool,
    /// Whether clients are sent to whoever leads.
    pub redirect: Redirect,
    /// The groups that there may be, with their nodes. Empty where the store is not divided.
    pub groups: BTreeMap<GroupId, Vec<NodeId>>,
    /// The newest configuration; the empty one until there is one, if the store is divided.
    pub configuration: Arc<Configuration>,
    /// The leaders of the groups that have a replica here, as far as is known.
    pub leaders: BTreeMap<GroupId, NodeId>,
    /// Whom to ask for what. Follows from the rest, see [`NodeInfo::remap`].
    pub map: SlotMap,
    /// Keys in this node's replicas.
    pub keys: u64,
    /// Bytes of the keys and values in this node's replicas.
    pub bytes: u64,
    /// What has happened since the node began.
    pub counters: Counters,
}

impl NodeInfo {
    /// Every node, this one first: the places of [`crate::Row`].
    pub fn members(&self) -> impl Iterator<Item = &Member> {
        std::iter::once(&self.own).chain(&self.peers)
    }

    /// The node at a place.
    pub(crate) fn member(&self, place: usize) -> &Member {
        place.checked_sub(1).and_then(|peer| self.peers.get(peer)).unwrap_or(&self.own)
    }

    /// Whether the store is divided into shards.
    pub fn is_divided(&self) -> bool {
        !self.groups.is_empty()
    }

    /// Another node answers, or does not. One that does not is no leader any more, as far as is known: when
    /// it comes back others may lead.
    pub fn on_peer(&mut self, node: NodeId, up: bool) {
        if let Some(member) = self.peers.iter_mut().find(|member| member.node == node)
            && std::mem::replace(&mut member.alive, up) != up
        {
            self.leaders.retain(|_, leader| up || *leader != node);
            self.remap();
        }
    }

    fn is_alive(&self, node: NodeId) -> bool {
        node == self.own.node || self.peers.iter().any(|peer| peer.node == node && peer.alive)
    }

    /// Where the replicas of this node stand. A leader that does not answer is old news.
    pub fn on_standing(&mut self, standing: &Standing) {
        let groups = &standing.groups;
        self.keys = groups.values().map(|group| group.keys).sum();
        self.bytes = groups.values().map(|group| group.bytes).sum();
        self.loading = groups.values().any(|group| !group.ready);
        let leaders = groups.iter().filter_map(|(id, group)| Some((*id, group.leader?)));
        let leaders = leaders.filter(|(_, leader)| self.is_alive(*leader));
        let leaders: BTreeMap<GroupId, NodeId> = leaders.collect();
        if leaders != self.leaders {
            self.leaders = leaders;
            self.remap();
        }
    }

    /// A configuration; one that is older than what is known is ignored.
    pub fn on_configured(&mut self, configuration: Arc<Configuration>) {
        let older = configuration.number < self.configuration.number;
        if !older && configuration != self.configuration {
            self.configuration = configuration;
            self.remap();
        }
    }

    /// Makes the map anew. To be called when nodes, groups, leaders or the configuration have been set
    /// from outside.
    pub fn remap(&mut self) {
        self.own.alive = true;
        let nodes: Vec<(NodeId, bool)> = self.members().map(|m| (m.node, m.alive)).collect();
        let configuration = self.is_divided().then_some(&*self.configuration);
        let view = View { nodes: &nodes, configuration, leaders: &self.leaders };
        self.map = SlotMap::new(&view, &self.map);
    }

    /// Whether every group that an operation needs can be reached. What nobody serves is the clerk's to
    /// find out about.
    pub fn reaches(&self, op: &Op) -> bool {
        let reaches = |slot: u16| {
            let row = self.map.row(slot);
            row.reachable || !row.owned
        };
        let key = |key: &Key| reaches(HashSlot::of(key).number());
        match op {
            Op::Get { key: k }
            | Op::Put { key: k, .. }
            | Op::Append { key: k, .. }
            | Op::Take { key: k }
            | Op::Add { key: k, .. }
            | Op::Overwrite { key: k, .. } => key(k),
            Op::GetMany { keys } | Op::Exists { keys } | Op::Delete { keys } => {
                keys.iter().all(key)
            }
            Op::PutMany { pairs } => pairs.iter().all(|(k, _)| key(k)),
            Op::Count { first, last } => {
                let asked = |range: &crate::SlotRange| {
                    range.slots.start() <= last && first <= range.slots.end()
                };
                let ranges = self.map.ranges().iter().filter(|range| asked(range));
                ranges.map(|range| *range.slots.start()).all(reaches)
            }
        }
    }

    /// How many other nodes hold a write when it is acknowledged, whatever its key: a majority without
    /// one.
    pub(crate) fn copies_elsewhere(&self) -> u64 {
        let nodes = 1 + self.peers.len();
        let smallest = self.configuration.groups.values().map(Vec::len).min();
        (smallest.unwrap_or(nodes) / 2) as u64
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_acknowledged_write_is_on_a_majority() {
        for (nodes, elsewhere) in [(1, 0), (2, 1), (3, 1), (4, 2), (5, 2), (7, 3)] {
            let node =
                NodeInfo { peers: vec![Member::default(); nodes - 1], ..NodeInfo::default() };
            assert_eq!(node.copies_elsewhere(), elsewhere, "{nodes} nodes");
        }
    }
}
