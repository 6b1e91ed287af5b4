//! Whom to ask for which hash slot.
//!
//! One row for each of the 16384 slots, made anew when something changes: a request is looked up in one
//! step, however many groups there are. What the map says is where a request goes with the fewest steps;
//! what is not known, or not true any more, costs a step and nothing else.

use std::{collections::BTreeMap, ops::RangeInclusive};

use quorate_kvserver::HASH_SLOT_COUNT;
use quorate_protocol::{GroupId, NodeId};
use quorate_shardmaster::{Configuration, ShardId};

const ALL: RangeInclusive<u16> = 0..=HASH_SLOT_COUNT - 1;

/// Slots next to each other of which the same is known.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SlotRange {
    /// Which slots.
    pub slots: RangeInclusive<u16>,
    /// What is known of them.
    pub row: Row,
}

/// What is known of a slot. Nodes are told by their place: 0 is this node, then its peers in order.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Row {
    /// Whom to ask.
    pub first: usize,
    /// Whether that is the leader; otherwise it is a guess, and this node may as well be asked.
    pub leads: bool,
    /// The other nodes that answer reads.
    pub replicas: Vec<usize>,
    /// Whether a group serves the slot.
    pub owned: bool,
    /// Whether that group can be reached.
    pub reachable: bool,
}

/// What is known of every hash slot: all 16384, without gap or overlap.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SlotMap {
    /// By slot, the place of its range. There are no more ranges than slots, and they fit.
    places: Box<[u16]>,
    ranges: Vec<SlotRange>,
}

impl Default for SlotMap {
    /// This node answers for everything.
    fn default() -> Self {
        let row = Row { owned: true, reachable: true, ..Row::default() };
        SlotMap::of([(ALL, row)])
    }
}

/// What a map is made from.
pub(crate) struct View<'a> {
    /// The nodes, this one first, and whether each answers.
    pub(crate) nodes: &'a [(NodeId, bool)],
    /// Who serves what; `None` where the store is not divided: then g1, on all nodes, serves all.
    pub(crate) configuration: Option<&'a Configuration>,
    /// The leaders that are known.
    pub(crate) leaders: &'a BTreeMap<GroupId, NodeId>,
}

impl View<'_> {
    fn place(&self, node: NodeId) -> Option<usize> {
        self.nodes.iter().position(|(known, _)| *known == node)
    }

    fn is_alive(&self, place: usize) -> bool {
        self.nodes.get(place).is_some_and(|(_, alive)| *alive)
    }

    /// The row of all slots of a group that has replicas on these nodes.
    fn row(&self, group: GroupId, nodes: impl Iterator<Item = usize>) -> Row {
        let nodes: Vec<usize> = nodes.collect();
        let alive = |place: &usize| self.is_alive(*place);
        let leader = self.leaders.get(&group).and_then(|leader| self.place(*leader));
        let leader = leader.filter(alive);
        let here = nodes.contains(&0);
        let guess = || nodes.iter().copied().find(alive).filter(|_| !here).unwrap_or(0);
        let first = leader.unwrap_or_else(guess);
        let replicas = nodes.iter().copied().filter(|place| *place != first).filter(alive);
        let replicas: Vec<usize> = replicas.collect();
        let up = nodes.iter().filter(|place| alive(place)).count();
        // A replica here needs a majority that it can reach itself. Elsewhere one may do: whether it has
        // a majority cannot be seen from here.
        let needed = if here { nodes.len() / 2 + 1 } else { 1 };
        let reachable = up >= needed;
        Row { first, leads: leader.is_some(), replicas, owned: true, reachable }
    }
}

impl SlotMap {
    /// The map of what is known now. What nobody serves stays with whom it was with in the `former` one.
    pub(crate) fn new(view: &View<'_>, former: &SlotMap) -> SlotMap {
        let Some(configuration) = view.configuration else {
            return SlotMap::of([(ALL, view.row(GroupId(1), 0..view.nodes.len()))]);
        };
        let rows = configuration.groups.iter().map(|(group, nodes)| {
            let places = nodes.iter().filter_map(|node| view.place(*node));
            (*group, view.row(*group, places))
        });
        let rows: BTreeMap<GroupId, Row> = rows.collect();
        let nobodys = |slots: RangeInclusive<u16>| {
            let stays = move |slot: u16| {
                let last = former.row(slot).first;
                let first = if view.is_alive(last) { last } else { 0 };
                (slot..=slot, Row { first, ..Row::default() })
            };
            slots.map(stays).collect::<Vec<_>>()
        };
        let shards = configuration.shards();
        if shards == 0 {
            return SlotMap::of(nobodys(ALL));
        }
        SlotMap::of((0..shards).map(ShardId).flat_map(|shard| {
            let owner = configuration.owner(shard);
            match owner.and_then(|group| rows.get(&group)) {
                Some(row) => vec![(shard.slots(shards), row.clone())],
                None => nobodys(shard.slots(shards)),
            }
        }))
    }

    /// Of slots in order, all of them.
    fn of(rows: impl IntoIterator<Item = (RangeInclusive<u16>, Row)>) -> SlotMap {
        let mut places: Vec<u16> = Vec::with_capacity(usize::from(HASH_SLOT_COUNT));
        let mut ranges: Vec<SlotRange> = Vec::new();
        for (slots, row) in rows {
            let end = usize::from(*slots.end()) + 1;
            match ranges.last_mut().filter(|range| range.row == row) {
                Some(range) => range.slots = *range.slots.start()..=*slots.end(),
                None => ranges.push(SlotRange { slots, row }),
            }
            // There are no more of them than slots.
            places.resize(end, (ranges.len() - 1) as u16);
        }
        assert_eq!(places.len(), usize::from(HASH_SLOT_COUNT), "G6: a row for each slot");
        SlotMap { places: places.into(), ranges }
    }

    /// What is known of a slot.
    ///
    /// # Panics
    /// If there is no such slot: they end at [`HASH_SLOT_COUNT`].
    pub fn row(&self, slot: u16) -> &Row {
        &self.ranges[usize::from(self.places[usize::from(slot)])].row
    }

    /// All slots, in order, as few ranges as can be.
    pub fn ranges(&self) -> &[SlotRange] {
        &self.ranges
    }

    /// All slots, in order, as few ranges as can be when only this is looked at.
    pub(crate) fn runs<'a, K: PartialEq>(
        &'a self,
        of: impl Fn(&'a Row) -> K,
    ) -> Vec<(RangeInclusive<u16>, K)> {
        let mut runs: Vec<(RangeInclusive<u16>, K)> = Vec::new();
        for SlotRange { slots, row } in &self.ranges {
            let key = of(row);
            match runs.last_mut().filter(|(_, last)| *last == key) {
                Some((run, _)) => *run = *run.start()..=*slots.end(),
                None => runs.push((slots.clone(), key)),
            }
        }
        runs
    }

    /// How many slots are like this.
    pub(crate) fn count(&self, is: impl Fn(&Row) -> bool) -> u16 {
        let ranges = self.ranges.iter().filter(|range| is(&range.row));
        // All of them are 16384.
        ranges.map(|range| range.slots.len() as u16).sum()
    }
}
