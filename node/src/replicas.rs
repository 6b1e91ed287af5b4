//! All replicas of one node: those of the groups that may serve shards, and the shardmaster's.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::{Arc, Mutex, MutexGuard, PoisonError, mpsc},
};

use actix_rt::{Arbiter, ArbiterHandle};
use quorate_dashboard::{GroupStatus, MovingShard, Shards};
use quorate_kvserver::{Command, Phase, Reply, View};
use quorate_protocol::{GroupId, Name, NodeId, log::Request};
use quorate_rsm::{Answers, Message as ToRsm, Outcome, Status};
use quorate_shardmaster::ShardMaster;
use quorate_stage::Outlet;

use crate::{
    engine::{GroupConfig, Ports},
    group::{Ground, Group, KvGroup, kv_group, master_group},
    process::MASTERS,
};

/// The replicas of a node. More may begin, when groups take the node in.
#[derive(Clone, Default)]
pub(crate) struct Replicas(Arc<Mutex<All>>);

#[derive(Default)]
struct All {
    stores: BTreeMap<GroupId, KvGroup>,
    master: Option<Group<ShardMaster>>,
    /// Groups that have not taken the node in yet.
    awaited: BTreeSet<GroupId>,
    /// Where the groups live, by turns; none: on the main thread.
    threads: Vec<ArbiterHandle>,
}

/// Runs `make` on an arbiter's thread.
fn on<T: Send + 'static>(
    arbiter: &ArbiterHandle,
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
    /// None yet. They are to live on this thread, or by turns on so many others; those of `awaited` are not
    /// ready before they have begun.
    pub(crate) fn new(threads: usize, awaited: BTreeSet<GroupId>) -> Replicas {
        let threads = (0..threads).map(|_| Arbiter::new().handle()).collect();
        Replicas(Arc::new(Mutex::new(All { threads, awaited, ..All::default() })))
    }

    fn all(&self) -> MutexGuard<'_, All> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Begins one. Answers its doors for messages of other nodes, and where its engine takes requests.
    pub(crate) fn begin(
        &self,
        ground: &Ground,
        config: GroupConfig,
    ) -> Result<(Ports, Outlet<Request>), String> {
        let group = config.group;
        if group == MASTERS {
            let (master, _) = master_group(ground, &config);
            let begun = (master.ports.clone(), master.engine.clone());
            let mut all = self.all();
            all.awaited.remove(&group);
            all.master = Some(master);
            return Ok(begun);
        }
        let thread = {
            let all = self.all();
            all.threads.get(group.0 as usize % all.threads.len().max(1)).cloned()
        };
        let replica = match thread {
            None => kv_group(ground, &config),
            Some(thread) => {
                let ground = ground.clone();
                on(&thread, move || kv_group(&ground, &config))?
            }
        };
        let begun = (replica.group.ports.clone(), replica.group.engine.clone());
        let mut all = self.all();
        all.awaited.remove(&group);
        all.stores.insert(group, replica);
        Ok(begun)
    }

    /// Tells all engines whether a node can be reached.
    pub(crate) fn links(&self) -> Outlet<(NodeId, bool)> {
        let replicas = self.clone();
        Outlet::from_fn(move |from, event| {
            let links: Vec<Outlet<(NodeId, bool)>> = {
                let all = replicas.all();
                let stores = all.stores.values().map(|replica| replica.group.links.clone());
                stores.chain(all.master.iter().map(|group| group.links.clone())).collect()
            };
            for links in &links {
                links.send(from, event);
            }
        })
    }

    /// Has every replica make a checkpoint.
    pub(crate) fn take_checkpoint(&self, me: Name) -> Outlet<()> {
        let replicas = self.clone();
        Outlet::from_fn(move |_, ()| {
            let all = replicas.all();
            for replica in all.stores.values() {
                replica.group.rsm.send(me, ToRsm::TakeCheckpoint);
            }
            if let Some(group) = &all.master {
                group.rsm.send(me, ToRsm::TakeCheckpoint);
            }
        })
    }

    /// The node stops: lets everybody go who waits.
    pub(crate) fn stop(&self, me: Name) {
        let all = self.all();
        for replica in all.stores.values() {
            replica.group.rsm.send(me, ToRsm::Stop);
        }
        if let Some(group) = &all.master {
            group.rsm.send(me, ToRsm::Stop);
        }
    }

    /// Asks every replica where it stands. If one loses the question, there is no answer.
    pub(crate) fn ask(&self, me: Name) -> Outlet<Outlet<Vec<GroupStatus>>> {
        let replicas = self.clone();
        Outlet::from_fn(move |_, reply| {
            let all = replicas.all();
            let questions =
                all.stores.values().map(|replica| 1 + usize::from(replica.mover.is_some()));
            let missing = questions.sum::<usize>() + usize::from(all.master.is_some());
            // Nobody yet: there is nobody to ask.
            let nobody = |group: &GroupId| {
                (group.0, GroupStatus { group: group.0, ..GroupStatus::default() })
            };
            let groups = all.awaited.iter().map(nobody).collect();
            let gathering = Gathering { missing, groups, reply };
            let gathering = Arc::new(Mutex::new(gathering));
            settle(&gathering, me);
            let status = |group: u32| {
                let gathering = gathering.clone();
                Outlet::from_fn(move |_, status: Status| {
                    take(&gathering, me, group, |known| known.status = status.clone());
                })
            };
            if let Some(master) = &all.master {
                master.rsm.send(me, ToRsm::AskStatus(status(MASTERS.0)));
            }
            for (group, replica) in &all.stores {
                let rsm = &replica.group.rsm;
                rsm.send(me, ToRsm::AskStatus(status(group.0)));
                if replica.mover.is_some() {
                    let (gathering, group) = (gathering.clone(), group.0);
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

fn take(of: &Mutex<Gathering>, me: Name, group: u32, note: impl FnOnce(&mut GroupStatus)) {
    let mut gathering = of.lock().unwrap_or_else(PoisonError::into_inner);
    let new = || GroupStatus { group, ..GroupStatus::default() };
    note(gathering.groups.entry(group).or_insert_with(new));
    gathering.missing = gathering.missing.saturating_sub(1);
    drop(gathering);
    settle(of, me);
}

/// Answers, if nothing is missing any more.
fn settle(gathering: &Mutex<Gathering>, me: Name) {
    let mut gathering = gathering.lock().unwrap_or_else(PoisonError::into_inner);
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
