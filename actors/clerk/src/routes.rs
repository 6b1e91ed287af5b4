//! Whom to ask for what: the groups of the shards, and the nodes of the groups.

use std::{collections::BTreeMap, sync::Arc};

use quorate_kvserver::Message as ToServer;
use quorate_protocol::{GroupId, NodeId};
use quorate_shardmaster::{Configuration, Message as ToMaster, ShardId};
use quorate_stage::{Directory, Outlet};

/// How the store is divided.
pub enum Layout {
    /// Not at all: one group serves everything.
    Whole {
        /// Which group.
        group: GroupId,
        /// Its nodes.
        nodes: Vec<NodeId>,
    },
    /// Into shards; who has them, a shardmaster tells.
    Sharded {
        /// The nodes that the shardmaster has replicas on.
        nodes: Vec<NodeId>,
        /// The shardmasters.
        masters: Directory<ToMaster>,
    },
}

/// Whom a clerk may ask, and whom it tells.
pub struct Servers {
    /// How the store is divided.
    pub layout: Layout,
    /// The kvservers of all groups.
    pub servers: Directory<ToServer>,
    /// Who is told when the clerk starts: outcomes that a former life owed will not come.
    pub started: Option<Outlet<()>>,
    /// Who is told of configurations.
    pub configured: Option<Outlet<Arc<Configuration>>>,
}

/// What a clerk knows of groups and shards.
pub(crate) struct Routes {
    me: NodeId,
    pub(crate) configuration: Option<Arc<Configuration>>,
    /// The one group there is, where there are no shards.
    whole: Option<GroupId>,
    /// The nodes of every group that was ever heard of, and which of them is asked now.
    groups: BTreeMap<GroupId, (Vec<NodeId>, usize)>,
    /// Where a shard may be found that is not where the configuration has it.
    hints: BTreeMap<ShardId, GroupId>,
}

impl Routes {
    pub(crate) fn new(me: NodeId, layout: &Layout) -> Self {
        let (whole, groups, configuration) = (None, BTreeMap::new(), None);
        let mut routes = Routes { me, configuration, whole, groups, hints: BTreeMap::new() };
        if let Layout::Whole { group, nodes } = layout {
            routes.whole = Some(*group);
            routes.learn_group(*group, nodes);
        }
        routes
    }

    fn learn_group(&mut self, group: GroupId, nodes: &[NodeId]) {
        let known = self.groups.get(&group).is_some_and(|(known, _)| known == nodes);
        if !known {
            let own = nodes.iter().position(|node| *node == self.me).unwrap_or_default();
            self.groups.insert(group, (nodes.to_vec(), own));
        }
    }

    /// The number of the configuration that is known; 0 for none.
    pub(crate) fn number(&self) -> u64 {
        self.configuration.as_ref().map_or(0, |configuration| configuration.number)
    }

    /// Whether there are shards, and how many; `None` while that is not known.
    pub(crate) fn shards(&self) -> Option<u16> {
        match (&self.whole, &self.configuration) {
            (Some(_), _) => Some(1),
            (None, Some(configuration)) => {
                Some(configuration.shards()).filter(|shards| *shards > 0)
            }
            (None, None) => None,
        }
    }

    /// Takes over a configuration; false if it is not newer.
    pub(crate) fn learn(&mut self, configuration: Arc<Configuration>) -> bool {
        if self.configuration.as_ref().is_some_and(|known| known.number >= configuration.number) {
            return false;
        }
        for (group, nodes) in &configuration.groups {
            self.learn_group(*group, nodes);
        }
        self.hints.clear();
        self.configuration = Some(configuration);
        true
    }

    /// A group says that a shard may be with another one.
    pub(crate) fn hint(&mut self, shard: ShardId, ask: GroupId) {
        match self.groups.contains_key(&ask) {
            true => self.hints.insert(shard, ask),
            false => self.hints.remove(&shard),
        };
    }

    /// Whoever was said to have a shard is silent: who has it by the configuration may have it by now.
    pub(crate) fn drop_hint(&mut self, shard: ShardId) {
        self.hints.remove(&shard);
    }

    /// Whom to ask for a shard: its group, and a node of that.
    pub(crate) fn find(&self, shard: ShardId) -> Option<(GroupId, NodeId)> {
        let owner = || self.configuration.as_ref()?.owner(shard);
        let group = self.whole.or_else(|| self.hints.get(&shard).copied()).or_else(owner)?;
        let (nodes, turn) = self.groups.get(&group)?;
        Some((group, *nodes.get(turn % nodes.len().max(1))?))
    }

    /// How many nodes a group has.
    pub(crate) fn nodes(&self, group: GroupId) -> usize {
        self.groups.get(&group).map_or(0, |(nodes, _)| nodes.len())
    }

    /// Asks the next node of a group from now on.
    pub(crate) fn turn(&mut self, group: GroupId) {
        if let Some((_, turn)) = self.groups.get_mut(&group) {
            *turn = turn.wrapping_add(1);
        }
    }
}
