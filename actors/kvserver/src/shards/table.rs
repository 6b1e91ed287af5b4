//! Which shards are with a group, and what becomes of them.
//!
//! ```text
//!              Configure: comes                          Configure: goes
//!   absent ────────────────────▶ awaited        serving ────────────────▶ leaving   (still served)
//!     ▲                            │ Receive ...    ▲                        │ GiveUp
//!     │ Delete                     └────────────────┘                        ▼
//!     └─────────────────────────────────────────────────────────────────  given up
//! ```
//! A shard that nobody had is served at once, and one that nobody gets is dropped at once.

use std::sync::Arc;

use quorate_protocol::{
    GroupId, NodeId,
    planted::{Bug, is_planted},
};
use quorate_rsm::Sessions;
use quorate_shardmaster::{Configuration, SHARDS_MAX, ShardId};
use serde::{Deserialize, Serialize};

use super::messages::{Cursor, Load, Moving, Phase, View};
use crate::messages::Reply;

/// The other side of a move.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct Way {
    /// The configuration by which the shard moves.
    pub(crate) number: u64,
    /// The other group, and its nodes.
    pub(crate) other: GroupId,
    pub(crate) nodes: Vec<NodeId>,
}

/// A shard that comes.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct Arrival {
    pub(crate) way: Way,
    /// What has come. The pairs lie in the store, where nobody reads them yet.
    pub(crate) cursor: Cursor,
    pub(crate) here: Load,
    pub(crate) total: Option<Load>,
    pub(crate) sessions: Sessions<Reply>,
}

/// Where a shard is, seen from one group.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub(crate) enum Place {
    #[default]
    Absent,
    Serving,
    Leaving(Box<Way>),
    /// With what its clients were answered: the sessions go with it.
    GivenUp(Box<(Way, Load, Sessions<Reply>)>),
    Awaited(Box<Arrival>),
}

/// The shards of one group.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct Table {
    pub(crate) group: GroupId,
    /// The one that was taken over last.
    pub(crate) configuration: Arc<Configuration>,
    /// By shard.
    pub(crate) places: Vec<Place>,
    /// Counts what has changed here.
    pub(crate) changes: u64,
}

/// What a group must do when it takes over a configuration.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct Turn {
    /// Shards that nobody gets: what is in them is gone.
    pub(crate) dropped: Vec<ShardId>,
}

impl Table {
    /// Of a group that has heard of no configuration.
    pub(crate) fn new(group: GroupId) -> Self {
        Table { group, configuration: Arc::default(), places: vec![], changes: 0 }
    }

    /// A table that was read.
    ///
    /// # Errors
    /// What is wrong with it.
    pub(crate) fn checked(self) -> Result<Table, String> {
        let shards = self.configuration.owners.len();
        match self.places.len() == shards && shards <= usize::from(SHARDS_MAX) {
            true => Ok(self),
            false => Err("a table of shards that no group has".into()),
        }
    }

    /// How many shards there are; 0 while nothing is known.
    pub(crate) fn shards(&self) -> u16 {
        self.places.len() as u16
    }

    pub(crate) fn place(&self, shard: ShardId) -> &Place {
        self.places.get(usize::from(shard.0)).unwrap_or(&Place::Absent)
    }

    pub(crate) fn set(&mut self, shard: ShardId, place: Place) {
        if let Some(at) = self.places.get_mut(usize::from(shard.0)) {
            *at = place;
        }
    }

    /// Whether operations on a shard are carried out here; if not, who may do that.
    pub(crate) fn serves(&self, shard: ShardId) -> Result<(), GroupId> {
        match self.place(shard) {
            Place::Serving | Place::Leaving(_) => Ok(()),
            Place::GivenUp(_) if is_planted(Bug::GivenUpShardServed) => Ok(()),
            Place::GivenUp(given) => Err(given.0.other),
            // Until we ask for it, it is served there.
            Place::Awaited(_) if is_planted(Bug::AwaitedShardServed) => Ok(()),
            Place::Awaited(arrival) => Err(arrival.way.other),
            Place::Absent => {
                let owner = self.configuration.owner(shard);
                Err(owner.filter(|owner| *owner != self.group).unwrap_or_default())
            }
        }
    }

    /// Whether a configuration can be taken over now: it is the next one, everything that the last one
    /// brought is here, and nothing comes back that has not been handed over yet. Two groups that
    /// exchange shards do not wait for each other: what is given up is fetched whatever else its giver
    /// waits for.
    pub(crate) fn may_take_over(&self, next: &Configuration) -> bool {
        let due = next.number == self.configuration.number + 1;
        let same = self.places.is_empty() || self.shards() == next.shards();
        let free = |(shard, place): (usize, &Place)| match place {
            Place::Absent | Place::Serving => true,
            Place::Leaving(_) | Place::GivenUp(_) => {
                next.owner(ShardId(shard as u16)) != Some(self.group)
            }
            Place::Awaited(_) => is_planted(Bug::ConfigurationTooEarly),
        };
        let many = next.owners.len() > usize::from(SHARDS_MAX);
        due && same && !many && next.shards() > 0 && self.places.iter().enumerate().all(free)
    }

    /// Takes over the next configuration, which [`Table::may_take_over`] allows.
    pub(crate) fn take_over(&mut self, next: Arc<Configuration>) -> Turn {
        let former = std::mem::replace(&mut self.configuration, next);
        let next = self.configuration.clone();
        self.places.resize(usize::from(next.shards()), Place::Absent);
        self.changes += 1;
        let mut turn = Turn::default();
        for shard in (0..next.shards()).map(ShardId) {
            let (old, new) = (former.owner(shard), next.owner(shard));
            let way = |other: GroupId, groups: &Configuration| {
                let nodes = groups.groups.get(&other).cloned().unwrap_or_default();
                Way { number: next.number, other, nodes }
            };
            let place = match (old, new) {
                _ if old == new => continue,
                (Some(old), Some(new)) if old == self.group => {
                    Place::Leaving(way(new, &next).into())
                }
                (Some(old), None) if old == self.group => {
                    turn.dropped.push(shard);
                    Place::Absent
                }
                (None, Some(new)) if new == self.group => Place::Serving,
                (Some(old), Some(new)) if new == self.group => {
                    let arrival = Arrival {
                        way: way(old, &former),
                        cursor: Cursor::Start,
                        here: Load::default(),
                        total: None,
                        sessions: Sessions::default(),
                    };
                    Place::Awaited(arrival.into())
                }
                _ => continue,
            };
            self.places[usize::from(shard.0)] = place;
        }
        turn
    }

    pub(crate) fn view(&self) -> View {
        let mut serving = 0;
        let mut moving = vec![];
        for (place, shard) in self.places.iter().zip(0..) {
            let (way, phase) = match place {
                Place::Absent => continue,
                Place::Serving => {
                    serving += 1;
                    continue;
                }
                Place::Leaving(way) => {
                    serving += 1;
                    (&**way, Phase::Leaving)
                }
                Place::GivenUp(given) => (&given.0, Phase::GivenUp(given.1)),
                Place::Awaited(arrival) => {
                    let Arrival { cursor, here, total, .. } = &**arrival;
                    let (cursor, here, total) = (cursor.clone(), *here, *total);
                    (&arrival.way, Phase::Awaited { cursor, here, total })
                }
            };
            let Way { number, other, nodes } = way.clone();
            moving.push(Moving { shard: ShardId(shard), number, other, nodes, phase });
        }
        View { group: self.group, number: self.configuration.number, serving, moving }
    }
}
