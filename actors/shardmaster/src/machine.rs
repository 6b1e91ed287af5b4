//! The machine.

use std::{collections::BTreeMap, sync::Arc};

use quorate_protocol::{GroupId, NodeId};
use quorate_rsm::{At, Restore, StateMachine, Writer};

use crate::{
    balance::rebalance,
    messages::{Command, Configuration, Refusal, Reply, SHARDS_MAX, ShardId},
};

/// All configurations there ever were.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ShardMaster {
    /// From number 0; never empty.
    configurations: Vec<Arc<Configuration>>,
}

impl Default for ShardMaster {
    fn default() -> Self {
        ShardMaster { configurations: vec![Arc::default()] }
    }
}

impl ShardMaster {
    /// The newest configuration.
    pub fn newest(&self) -> &Arc<Configuration> {
        self.configurations.last().expect("there always is number 0")
    }

    fn form(&mut self, shards: u16) -> Result<(), Refusal> {
        let has = self.newest().owners.len() as u16;
        if has != 0 {
            return if has == shards { Ok(()) } else { Err(Refusal::FormedWith(has)) };
        }
        if !(1..=SHARDS_MAX).contains(&shards) {
            return Err(Refusal::ShardCount(shards));
        }
        // Still number 0: nobody has anything.
        let owners = vec![GroupId(0); usize::from(shards)];
        self.configurations = vec![Arc::new(Configuration { owners, ..Configuration::default() })];
        Ok(())
    }

    fn join(&mut self, joining: BTreeMap<GroupId, Vec<NodeId>>) -> Result<(), Refusal> {
        let newest = self.newest();
        if newest.owners.is_empty() {
            return Err(Refusal::NotFormed);
        }
        if joining.is_empty() {
            return Err(Refusal::NoGroup);
        }
        for (group, nodes) in &joining {
            if *group == GroupId(0) {
                return Err(Refusal::GroupZero);
            }
            if newest.groups.contains_key(group) {
                return Err(Refusal::Member(*group));
            }
            if nodes.is_empty() {
                return Err(Refusal::NoNodes(*group));
            }
        }
        self.change(|next| {
            next.groups.extend(joining);
            rebalance(next);
        });
        Ok(())
    }

    fn leave(&mut self, leaving: &[GroupId], even_the_last: bool) -> Result<(), Refusal> {
        let newest = self.newest();
        if leaving.is_empty() {
            return Err(Refusal::NoGroup);
        }
        if let Some(group) = leaving.iter().find(|group| !newest.groups.contains_key(group)) {
            return Err(Refusal::UnknownGroup(*group));
        }
        if !even_the_last && newest.groups.keys().all(|group| leaving.contains(group)) {
            return Err(Refusal::LastGroup);
        }
        self.change(|next| {
            next.groups.retain(|group, _| !leaving.contains(group));
            rebalance(next);
        });
        Ok(())
    }

    fn move_to(&mut self, shard: ShardId, group: GroupId) -> Result<(), Refusal> {
        let newest = self.newest();
        if newest.owners.get(usize::from(shard.0)).is_none() {
            return Err(Refusal::UnknownShard(shard));
        }
        if !newest.groups.contains_key(&group) {
            return Err(Refusal::UnknownGroup(group));
        }
        self.change(|next| next.owners[usize::from(shard.0)] = group);
        Ok(())
    }

    fn rebalance(&mut self) -> Result<(), Refusal> {
        if self.newest().groups.is_empty() {
            return Err(Refusal::NoGroup);
        }
        let mut balanced = Configuration::clone(self.newest());
        rebalance(&mut balanced);
        if balanced != **self.newest() {
            self.change(rebalance);
        }
        Ok(())
    }

    fn change(&mut self, change: impl FnOnce(&mut Configuration)) {
        let mut next = Configuration::clone(self.newest());
        next.number += 1;
        change(&mut next);
        self.configurations.push(Arc::new(next));
    }
}

impl StateMachine for ShardMaster {
    type Command = Command;
    type Reply = Reply;

    fn is_read(command: &Command) -> bool {
        matches!(command, Command::Query { .. })
    }

    fn apply(&mut self, _: At, command: Command) -> Reply {
        let done = match command {
            Command::Form { shards } => self.form(shards),
            Command::Join { groups } => self.join(groups),
            Command::Leave { groups, even_the_last } => self.leave(&groups, even_the_last),
            Command::Move { shard, group } => self.move_to(shard, group),
            Command::Rebalance => self.rebalance(),
            Command::Query { .. } => return self.query(&command),
        };
        match done {
            Ok(()) => Reply::Done { number: self.newest().number },
            Err(refusal) => Reply::Refused(refusal),
        }
    }

    fn query(&self, command: &Command) -> Reply {
        let number = match command {
            Command::Query { number } => *number,
            _ => None,
        };
        let place = number.and_then(|number| usize::try_from(number).ok());
        let found = place.and_then(|place| self.configurations.get(place));
        Reply::Configuration(found.unwrap_or(self.newest()).clone())
    }

    fn stirred(&self) -> u64 {
        // Number 0 comes twice: before the shards are agreed on, and after.
        2 * self.newest().number + u64::from(self.newest().shards() > 0)
    }

    /// Configurations, and about how many bytes they take.
    fn size(&self) -> (u64, u64) {
        let bytes = |configuration: &Arc<Configuration>| {
            4 * configuration.owners.len() as u64 + 64 * configuration.groups.len() as u64
        };
        (self.configurations.len() as u64, self.configurations.iter().map(bytes).sum())
    }

    fn snapshot(&self) -> Writer {
        let plain: Vec<&Configuration> =
            self.configurations.iter().map(|configuration| &**configuration).collect();
        let bytes = rmp_serde::to_vec(&plain);
        Writer::of(bytes.expect("configurations are plain data, which always encodes"))
    }

    fn restore() -> Restore<Self> {
        Restore::whole(|bytes| {
            let read: Result<Vec<Configuration>, _> = rmp_serde::from_slice(bytes);
            let configurations = read.map_err(|error| error.to_string())?;
            let dense = configurations.iter().zip(0..).all(|(one, number)| one.number == number);
            if configurations.is_empty() || !dense {
                return Err("M1: the configurations have gaps".into());
            }
            Ok(ShardMaster { configurations: configurations.into_iter().map(Arc::new).collect() })
        })
    }
}
