//! All replicas of one node: those of the groups that may serve shards, and the shardmaster's.

use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex, mpsc},
};

use actix_rt::Arbiter;
use quorate_dashboard::{GroupStatus, MovingShard, Shards};
use quorate_kvserver::{Command, Phase, Reply, View};
use quorate_protocol::{GroupId, Name, NodeId};
use quorate_rsm::{Answers, Message as ToRsm, Outcome, Status};
use quorate_shardmaster::ShardMaster;
use quorate_stage::Outlet;

use crate::{
    engine::{GroupConfig, Ports},
    group::{Ground, Group, KvGroup, kv_group, master_group},
};

/// The replicas of a node.
pub(crate) struct Replicas {
    stores: BTreeMap<GroupId, KvGroup>,
    master: Option<Group<ShardMaster>>,
}

/// Runs `make` on an arbiter's thread.
fn on<T: Send + 'static>(
    arbiter: &Arbiter,
    make: impl FnOnce() -> T + Send + 'static,
) -> Result<T, String> {
    let (made, result) = mpsc::channel();
    let begun = arbiter.spawn_fn(move || {
        // Nobody waits only if the node is gone already.
        let _ = made.send(make());
    });
    result.recv().ok().filter(|_| begun).ok_or_else(|| "a thread could not be started".into())
}

impl Replicas {
    /// Starts them: on this thread, or by turns on so many others.
    pub(crate) fn start(
        ground: &Ground,
        stores: Vec<GroupConfig>,
        master: Option<&GroupConfig>,
        threads: usize,
    ) -> Result<Replicas, String> {
        let arbiters: Vec<Arbiter> = (0..threads).map(|_| Arbiter::new()).collect();
        let master = master.map(|config| master_group(ground, config).0);
        let mut started = BTreeMap::new();
        for (config, turn) in stores.into_iter().zip(0_usize..) {
            let group = config.group;
            let replica = match arbiters.get(turn % threads.max(1)) {
                None => kv_group(ground, &config),
                Some(arbiter) => {
                    let ground = ground.clone();
                    on(arbiter, move || kv_group(&ground, &config))?
                }
            };
            started.insert(group, replica);
        }
        Ok(Replicas { stores: started, master })
    }

    /// Doors for messages of other nodes.
    pub(crate) fn ports(&self) -> Ports {
        let stores = self.stores.values().map(|replica| &replica.group.ports);
        let all = stores.chain(self.master.iter().map(|group| &group.ports));
        all.flat_map(|ports| ports.clone()).collect()
    }

    /// Tells all engines whether a node can be reached.
    pub(crate) fn links(&self) -> Outlet<(NodeId, bool)> {
        let stores = self.stores.values().map(|replica| replica.group.links.clone());
        let all = stores.chain(self.master.iter().map(|group| group.links.clone()));
        let all: Vec<Outlet<(NodeId, bool)>> = all.collect();
        Outlet::from_fn(move |from, event| {
            for links in &all {
                links.send(from, event);
            }
        })
    }

    /// Has every replica make a checkpoint.
    pub(crate) fn take_checkpoint(&self, me: Name) -> Outlet<()> {
        let stores = self.stores.values().map(|replica| replica.group.rsm.clone());
        let stores: Vec<_> = stores.collect();
        let master = self.master.as_ref().map(|group| group.rsm.clone());
        Outlet::from_fn(move |_, ()| {
            for rsm in &stores {
                rsm.send(me, ToRsm::TakeCheckpoint);
            }
            if let Some(rsm) = &master {
                rsm.send(me, ToRsm::TakeCheckpoint);
            }
        })
    }

    /// The node stops: lets everybody go who waits.
    pub(crate) fn stop(&self, me: Name) {
        for replica in self.stores.values() {
            replica.group.rsm.send(me, ToRsm::Stop);
        }
        if let Some(group) = &self.master {
            group.rsm.send(me, ToRsm::Stop);
        }
    }

    /// Asks every replica where it stands. If one loses the question, there is no answer.
    pub(crate) fn ask(&self, me: Name) -> Outlet<Outlet<Vec<GroupStatus>>> {
        let stores = self.stores.iter();
        let stores = stores
            .map(|(group, replica)| (group.0, replica.group.rsm.clone(), replica.mover.is_some()));
        let stores: Vec<_> = stores.collect();
        let master = self.master.as_ref().map(|group| group.rsm.clone());
        Outlet::from_fn(move |_, reply| {
            let questions = stores.iter().map(|(_, _, sharded)| 1 + usize::from(*sharded));
            let missing = questions.sum::<usize>() + usize::from(master.is_some());
            let gathering = Gathering { missing, groups: BTreeMap::new(), reply };
            let gathering = Arc::new(Mutex::new(gathering));
            let status = |group: u32| {
                let gathering = gathering.clone();
                Outlet::from_fn(move |_, status: Status| {
                    take(&gathering, me, group, |known| known.status = status.clone());
                })
            };
            if let Some(rsm) = &master {
                rsm.send(me, ToRsm::AskStatus(status(0)));
            }
            for (group, rsm, sharded) in &stores {
                rsm.send(me, ToRsm::AskStatus(status(*group)));
                if *sharded {
                    let (gathering, group) = (gathering.clone(), *group);
                    let reply = Outlet::from_fn(move |_, answers: Answers<Reply>| {
                        take(&gathering, me, group, |known| known.shards = shards(&answers));
                    });
                    rsm.send(me, ToRsm::Peek { commands: vec![(0, Command::View)], reply });
                }
            }
        })
    }
}

/// Answers that come one by one.
struct Gathering {
    missing: usize,
    groups: BTreeMap<u32, GroupStatus>,
    reply: Outlet<Vec<GroupStatus>>,
}

fn take(gathering: &Mutex<Gathering>, me: Name, group: u32, note: impl FnOnce(&mut GroupStatus)) {
    let mut gathering = gathering.lock().unwrap_or_else(|poisoned| poisoned.into_inner());
    let new = || GroupStatus { group, ..GroupStatus::default() };
    note(gathering.groups.entry(group).or_insert_with(new));
    gathering.missing = gathering.missing.saturating_sub(1);
    if gathering.missing == 0 {
        let groups = std::mem::take(&mut gathering.groups).into_values().collect();
        gathering.reply.send(me, groups);
    }
}

fn shards(answers: &Answers<Reply>) -> Option<Shards> {
    let (_, Outcome::Done(Reply::View(view))) = answers.first()? else { return None };
    let View { number, serving, moving, .. } = view;
    let moving = moving.iter().map(|moving| {
        let (phase, bytes, total) = match &moving.phase {
            Phase::Leaving => ("leaving", 0, None),
            Phase::GivenUp(load) => ("given-up", load.bytes, Some(load.bytes)),
            Phase::Awaited { here, total, .. } => {
                ("awaited", here.bytes, total.map(|total| total.bytes))
            }
        };
        let (shard, other) = (moving.shard.0, moving.other.0);
        MovingShard { shard, phase: phase.into(), other, bytes, total }
    });
    Some(Shards { configuration: *number, serving: *serving, moving: moving.collect() })
}
