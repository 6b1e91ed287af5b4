//! Who serves a shard: one group at most.
//!
//! A replica that lags may still believe that it serves what its group has given up; it finds out before
//! it answers. So of each group the replica counts that has applied most.

use std::collections::BTreeMap;

use quorate_kvserver::Machine;
use quorate_protocol::GroupId;
use quorate_rsm::StateMachine;
use quorate_shardmaster::ShardId;

use super::{Checked, broken};

/// What the furthest replica of a group has applied.
#[derive(Default)]
struct Furthest {
    /// Changes of its shards.
    changes: u64,
    number: u64,
    served: Vec<ShardId>,
}

/// The rules about shards.
#[derive(Default)]
pub(super) struct Checker {
    groups: BTreeMap<GroupId, Furthest>,
    /// By shard, who serves it.
    owners: BTreeMap<ShardId, GroupId>,
}

impl Checker {
    /// A replica of a group has applied something that changes its shards.
    pub(super) fn on_machine(&mut self, group: GroupId, machine: &Machine) -> Checked {
        let Some(configuration) = machine.configuration() else { return Ok(()) };
        let known = self.groups.entry(group).or_default();
        if machine.stirred() <= known.changes {
            return Ok(());
        }
        if configuration.number < known.number {
            let (known, now) = (known.number, configuration.number);
            return broken(
                "configurations-go-up",
                format!("{group} has taken over {known}, and then {now}"),
            );
        }
        for shard in std::mem::take(&mut known.served) {
            self.owners.remove(&shard);
        }
        *known = Furthest {
            changes: machine.stirred(),
            number: configuration.number,
            served: machine.served().collect(),
        };
        for shard in &known.served {
            if let Some(other) = self.owners.insert(*shard, group) {
                return broken(
                    "one-owner-per-shard",
                    format!("{shard} is served by {other}, and by {group} too"),
                );
            }
        }
        Ok(())
    }
}
