//! Runs of a store that is divided: groups that join and leave, shards that move, and where all of that
//! must end.

use std::{collections::BTreeMap, fmt, time::Duration};

use quorate_kvserver::{Command as ToMachine, Op, Reply as OfMachine, View};
use quorate_protocol::{GroupId, Name, NodeId, Role};
use quorate_rsm::{Answers, Message as ToRsm, Outcome, Placing, Request, Status, Submit};
use quorate_shardmaster::{Command, Configuration, Reply, ShardId};
use serde::{Deserialize, Serialize};
use tokio::time::{Instant, timeout};

use super::play::CONVERGE_MAX;
use crate::{
    checkers::Violation,
    clients::Client,
    layout::{MASTERS, checkpoints},
    world::{World, ask},
};

/// How a run's store is divided.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Divided {
    /// Groups: g1, g2, ... Each has a replica on every server, and so has the shardmaster.
    pub groups: u32,
    /// Shards.
    pub shards: u16,
}

/// What the shardmaster is asked for. What cannot be done is refused, which is fine.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Change {
    /// A group serves too.
    Join(u32),
    /// A group does not serve any more.
    Leave(u32),
    /// A shard goes to a group.
    Move(u16, u32),
    /// Shards are balanced anew.
    Rebalance,
}

impl Change {
    /// The shardmaster's command.
    pub(super) fn command(&self, world: &World) -> Command {
        match self {
            Change::Join(group) => {
                let group = GroupId(*group);
                Command::Join { groups: [(group, world.members(group))].into() }
            }
            Change::Leave(group) => {
                Command::Leave { groups: vec![GroupId(*group)], even_the_last: false }
            }
            Change::Move(shard, group) => {
                Command::Move { shard: ShardId(*shard), group: GroupId(*group) }
            }
            Change::Rebalance => Command::Rebalance,
        }
    }
}

impl fmt::Display for Change {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Change::Join(group) => write!(f, "join g{group}"),
            Change::Leave(group) => write!(f, "leave g{group}"),
            Change::Move(shard, group) => write!(f, "move s{shard} to g{group}"),
            Change::Rebalance => f.write_str("rebalance"),
        }
    }
}

/// Agrees on the shards, and lets the first group have them.
pub(super) async fn form(world: &World, admin: &Client, divided: Divided) {
    admin.administer(Command::Form { shards: divided.shards }).await;
    admin.administer(Change::Join(1).command(world)).await;
}

/// Where the replica of a group on a server stands.
pub(super) async fn status(world: &World, node: NodeId, group: GroupId) -> Option<Status> {
    let running = world.node(node);
    ask(|reply| match (group, running.master(), running.groups().get(&group)) {
        (MASTERS, Some(master), _) => master.rsm.send(master.rsm.name(), ToRsm::AskStatus(reply)),
        (_, _, Some(replica)) => {
            let rsm = &replica.group.rsm;
            rsm.send(rsm.name(), ToRsm::AskStatus(reply));
        }
        _ => {}
    })
    .await
}

/// What the replica of a group on a server has applied about its shards.
async fn view(world: &World, node: NodeId, group: GroupId) -> Option<View> {
    let running = world.node(node);
    let rsm = running.groups().get(&group)?.group.rsm.clone();
    let answers: Answers<OfMachine> = ask(|reply| {
        rsm.send(rsm.name(), ToRsm::Peek { commands: vec![(0, ToMachine::View)], reply })
    })
    .await?;
    match answers.into_iter().next() {
        Some((_, Outcome::Done(OfMachine::View(view)))) => Some(view),
        _ => None,
    }
}

/// Has every replica of every group learn what is chosen: each is asked for a read of its own.
async fn learn(world: &World) -> Result<(), Violation> {
    for (node, group) in world
        .servers()
        .into_iter()
        .flat_map(|node| world.groups_on(node).into_iter().map(move |group| (node, group)))
    {
        let running = world.node(node);
        let request =
            |command| Request { client_id: 0, serial: 0, acked_below: 0, after: 0, command };
        let placing = Placing::UntilApplied;
        let asked = async {
            match (running.master(), running.groups().get(&group)) {
                (Some(master), _) if group == MASTERS => {
                    let requests = vec![(0, request(Command::Query { number: None }))];
                    let read = |reply| Submit { requests, placing, reply };
                    let rsm = &master.rsm;
                    ask(|reply| rsm.send(rsm.name(), ToRsm::Submit(read(reply)))).await.is_some()
                }
                (_, Some(replica)) => {
                    let command = ToMachine::Op(Op::Exists { keys: vec![] });
                    let (client_id, serial, acked_below, after) = (0, 0, 0, 0);
                    let request = Request { client_id, serial, acked_below, after, command };
                    let requests = vec![(0, request)];
                    let rsm = &replica.group.rsm;
                    let read = |reply| Submit { requests, placing, reply };
                    ask(|reply| rsm.send(rsm.name(), ToRsm::Submit(read(reply)))).await.is_some()
                }
                _ => true,
            }
        };
        if timeout(CONVERGE_MAX, asked).await.is_err() {
            let text = format!("{group} on {node} does not answer, all is healed");
            return Err(Violation::new("all-converge", text));
        }
    }
    Ok(())
}

/// Has every replica of a server make a checkpoint.
pub(super) fn take_checkpoints(world: &World, node: NodeId) {
    let (running, me) = (world.node(node), Name::of_node(node, Role::Outside));
    for replica in running.groups().values() {
        replica.group.rsm.send(me, ToRsm::TakeCheckpoint);
    }
    if let Some(master) = running.master() {
        master.rsm.send(me, ToRsm::TakeCheckpoint);
    }
}

/// What stands in the newest checkpoint of a group on a server.
pub(super) fn newest_checkpoint(world: &World, node: NodeId, group: GroupId) -> Option<Vec<u8>> {
    let (disk, dir) = (world.disk(node), checkpoints(group));
    let files = disk.files().into_iter().filter(|path| path.parent() == Some(&dir));
    let index = |path: &std::path::PathBuf| {
        path.file_name()?.to_str()?.strip_prefix("checkpoint-")?.parse::<u64>().ok()
    };
    let newest = files.filter_map(|path| Some((index(&path)?, path))).max()?;
    disk.peek(&newest.1)
}

/// All is healed: every shard is with the group that the newest configuration names, and nothing is on
/// its way.
pub(super) async fn settle(world: &World, admin: &Client) -> Result<(), Violation> {
    learn(world).await?;
    let stuck = |text: String| Err(Violation::new("shards-arrive", text));
    let query = admin.call(Command::Query { number: None });
    let newest: std::sync::Arc<Configuration> = match timeout(CONVERGE_MAX, query).await {
        Ok(Some(quorate_clerk::Outcome::Done(Reply::Configuration(newest)))) => newest,
        answer => return stuck(format!("the shardmaster does not answer: {answer:?}")),
    };
    let begun = Instant::now();
    let groups: Vec<GroupId> =
        world.options.sharding.iter().flat_map(|sharding| sharding.groups()).collect();
    loop {
        let mut views: BTreeMap<GroupId, View> = BTreeMap::new();
        for group in &groups {
            for node in world.members(*group) {
                if let Some(view) = view(world, node, *group).await {
                    let known = views.entry(*group).or_default();
                    if view.number >= known.number {
                        *known = view;
                    }
                }
            }
        }
        let there = |(group, view): (&GroupId, &View)| {
            let owns = newest.shards_of(*group).count();
            view.number == newest.number
                && view.moving.is_empty()
                && owns == usize::from(view.serving)
        };
        if views.len() == groups.len() && views.iter().all(there) {
            // The last steps have to be known everywhere.
            return learn(world).await;
        }
        if begun.elapsed() > CONVERGE_MAX {
            let late = views.into_iter().find(|(group, view)| !there((group, view)));
            return stuck(format!(
                "{CONVERGE_MAX:?} after all, configuration {}: {late:?}",
                newest.number
            ));
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}
