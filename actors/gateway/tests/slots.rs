//! The map of hash slots (G6): whatever is known, there is somebody to ask for each.

mod common;

use std::{collections::BTreeMap, sync::Arc};

use common::{Server, divided, groups, member, standing};
use quorate_gateway::resp::{Value, client::AnswerDecoder};
use quorate_gateway::{GroupStanding, NodeInfo, SlotRange, Standing};
use quorate_protocol::{GroupId, NodeId};
use quorate_shardmaster::{Configuration, ShardId};
use rand::{Rng, SeedableRng};
use rand_chacha::ChaCha8Rng;

const SLOTS: u16 = 16_384;

/// A configuration by the owners of its shards; the groups are those of `divided`.
fn configuration(number: u64, owners: &[u32]) -> Arc<Configuration> {
    let owners = owners.iter().map(|group| GroupId(*group)).collect();
    Arc::new(Configuration { number, owners, groups: divided().groups })
}

/// The ranges, each with the number of the node to ask, whether it leads, and the replicas.
fn ranges(node: &NodeInfo) -> Vec<(u16, u16, u32, bool, Vec<u32>)> {
    let members: Vec<_> = node.members().collect();
    let number = |place: &usize| members[*place].node.0;
    let range = |SlotRange { slots, row }: &SlotRange| {
        let replicas = row.replicas.iter().map(number).collect();
        (*slots.start(), *slots.end(), number(&row.first), row.leads, replicas)
    };
    node.map.ranges().iter().map(range).collect()
}

#[test]
fn a_store_that_is_not_divided_is_one_group_on_all_nodes() {
    let mut node = common::node();
    assert_eq!(ranges(&node), [(0, 16383, 2, true, vec![1, 3])]);
    node.on_peer(NodeId(3), false);
    assert_eq!(ranges(&node), [(0, 16383, 2, true, vec![1])]);
    assert!(node.map.row(0).reachable);
    node.on_peer(NodeId(2), false);
    assert_eq!(ranges(&node), [(0, 16383, 1, false, vec![])], "a dead leader is nobody to ask");
    assert!(!node.map.row(16383).reachable);
    node.on_standing(&standing(&[(1, 1)]));
    assert_eq!(ranges(&node), [(0, 16383, 1, true, vec![])]);
    // It knows what it leads, so no configuration can take it for one that is divided.
    node.on_configured(configuration(5, &[2, 3]));
    assert_eq!(ranges(&node), [(0, 16383, 1, true, vec![])]);
}

#[test]
fn a_leader_that_has_gone_is_none_when_it_comes_back() {
    let mut node = common::node();
    node.on_peer(NodeId(2), false);
    // The replica here may not have noticed yet.
    node.on_standing(&standing(&[(1, 2)]));
    node.on_peer(NodeId(2), true);
    assert_eq!(ranges(&node), [(0, 16383, 1, false, vec![2, 3])]);
    node.on_standing(&standing(&[(1, 2)]));
    assert_eq!(ranges(&node), [(0, 16383, 2, true, vec![1, 3])]);
}

#[test]
fn each_slot_is_asked_of_the_leader_of_its_group() {
    let mut node = divided();
    node.on_standing(&standing(&[(1, 3)]));
    assert_eq!(ranges(&node), [(0, 16383, 1, false, vec![])], "nobody has a shard yet");
    node.on_configured(configuration(1, &[1, 2, 3, 1]));
    let expected = [
        (0, 4095, 3, true, vec![1, 2]),
        // Of the others no leader is heard of here: the first that answers.
        (4096, 8191, 2, false, vec![3, 4]),
        (8192, 12287, 4, false, vec![]),
        (12288, 16383, 3, true, vec![1, 2]),
    ];
    assert_eq!(ranges(&node), expected);

    node.on_peer(NodeId(3), false);
    node.on_peer(NodeId(4), false);
    let expected = [
        (0, 4095, 1, false, vec![2]),
        (4096, 8191, 2, false, vec![]),
        (8192, 12287, 1, false, vec![]),
        (12288, 16383, 1, false, vec![2]),
    ];
    assert_eq!(ranges(&node), expected);
    let reachable = [0, 4096, 8192].map(|slot| node.map.row(slot).reachable);
    assert_eq!(reachable, [true, true, false], "one of the three of g2 is there, none of g3");
    node.on_peer(NodeId(2), false);
    let reachable = [0, 4096, 8192].map(|slot| node.map.row(slot).reachable);
    assert_eq!(reachable, [false; 3], "this node alone is no majority of g1");
}

#[test]
fn what_nobody_serves_stays_where_it_was() {
    let mut node = divided();
    node.on_configured(configuration(1, &[1, 3]));
    node.on_standing(&standing(&[(1, 2)]));
    node.on_configured(configuration(2, &[0, 0]));
    assert_eq!(ranges(&node), [(0, 8191, 2, false, vec![]), (8192, 16383, 4, false, vec![])]);
    node.on_peer(NodeId(4), false);
    assert_eq!(ranges(&node), [(0, 8191, 2, false, vec![]), (8192, 16383, 1, false, vec![])]);
    assert!(node.map.ranges().iter().all(|range| !range.row.owned));
}

#[test]
fn what_is_older_than_what_is_known_changes_nothing() {
    let mut node = divided();
    let formed = Configuration { owners: vec![GroupId(0); 2], ..Configuration::default() };
    node.on_configured(Arc::new(formed));
    assert_eq!(node.configuration.shards(), 2, "the number of shards is agreed on as number 0");
    node.on_configured(configuration(7, &[2, 2]));
    node.on_configured(configuration(6, &[3, 3]));
    assert_eq!(node.configuration.number, 7);
    assert_eq!(ranges(&node), [(0, 16383, 2, false, vec![3, 4])]);
}

/// A node of a cluster of up to seven, which is told something new a few times.
struct Walk {
    rng: ChaCha8Rng,
    node: NodeInfo,
    shards: u16,
    number: u64,
}

impl Walk {
    fn new(seed: u64) -> Walk {
        let mut rng = ChaCha8Rng::seed_from_u64(seed);
        let nodes = rng.random_range(1..=7);
        let mut node = common::node();
        node.peers = (2..=nodes).map(member).collect();
        let shards = match rng.random_range(0..4) {
            0 => SLOTS,
            1 => rng.random_range(1..=SLOTS),
            _ => rng.random_range(1..=64),
        };
        node.groups.clear();
        if rng.random_range(0..5) > 0 {
            for group in 1..=rng.random_range(1..=5_u32) {
                let mut members: Vec<u32> = (1..=u32::from(nodes)).collect();
                members.retain(|_| rng.random());
                node.groups.extend(groups(&[(group, &members)]));
            }
        }
        node.remap();
        Walk { rng, node, shards, number: 0 }
    }

    fn step(&mut self) {
        let Walk { rng, node, shards, number } = self;
        match rng.random_range(0..3) {
            0 => node.on_peer(NodeId(rng.random_range(1..=8)), rng.random()),
            1 => {
                let leader = |rng: &mut ChaCha8Rng| {
                    rng.random::<bool>().then(|| NodeId(rng.random_range(1..=8)))
                };
                let groups = (1..=5).map(GroupId).map(|group| {
                    (group, GroupStanding { leader: leader(rng), ..GroupStanding::default() })
                });
                let standing = Standing { groups: groups.collect() };
                node.on_standing(&standing);
            }
            _ => {
                *number += 1;
                let owner = |_| GroupId(rng.random_range(0..=node.groups.len() as u32));
                // Whole runs of shards of one group, or every shard by itself.
                let owners: Vec<GroupId> = (0..*shards).map(owner).collect();
                let configuration =
                    Configuration { number: *number, owners, groups: node.groups.clone() };
                node.on_configured(Arc::new(configuration));
            }
        }
    }

    /// Holds the map against what it must say, slot by slot, from first principles.
    fn check(&self, before: &NodeInfo) {
        let node = &self.node;
        let members: Vec<_> = node.members().collect();
        let alive = |n: &NodeId| members.iter().any(|m| m.node == *n && m.alive);
        let all: Vec<NodeId> = members.iter().map(|m| m.node).collect();
        let (me, shards) = (node.own.node, node.configuration.shards());
        for slot in 0..SLOTS {
            let row = node.map.row(slot);
            let first = members[row.first].node;
            assert!(first == me || alive(&first), "h{slot}: a dead node");
            let (group, of) = match (node.is_divided(), shards) {
                (false, _) => (Some(GroupId(1)), &all),
                (true, 0) => (None, &all),
                (true, _) => {
                    let group = node.configuration.owner(ShardId::of_slot(slot, shards));
                    let of = group.and_then(|group| node.configuration.groups.get(&group));
                    (group.filter(|_| of.is_some()), of.unwrap_or(&all))
                }
            };
            assert_eq!(row.owned, group.is_some(), "h{slot}");
            let Some(group) = group else {
                let last = before.members().nth(before.map.row(slot).first).map(|m| m.node);
                let expected = last.filter(alive).unwrap_or(me);
                assert_eq!((first, row.leads), (expected, false), "h{slot}");
                assert!(row.replicas.is_empty() && !row.reachable, "h{slot}");
                continue;
            };
            let leader = node.leaders.get(&group).filter(|leader| alive(leader));
            let in_group = of.iter().copied().find(|n| *n == me);
            let guess = in_group.or(of.iter().copied().find(alive)).unwrap_or(me);
            assert_eq!((first, row.leads), (*leader.unwrap_or(&guess), leader.is_some()));
            let replicas: Vec<NodeId> = row.replicas.iter().map(|r| members[*r].node).collect();
            let others: Vec<NodeId> =
                of.iter().copied().filter(|n| *n != first && alive(n)).collect();
            assert_eq!(replicas, others, "h{slot}");
        }
        let mut next = 0;
        for (at, SlotRange { slots, row }) in node.map.ranges().iter().enumerate() {
            assert_eq!(*slots.start(), next, "a gap, or twice");
            next = slots.end() + 1;
            let following = node.map.ranges().get(at + 1);
            assert!(following.is_none_or(|next| next.row != *row), "ranges that could be one");
        }
        assert_eq!(next, SLOTS);
    }
}

#[test]
fn the_map_covers_all_slots_whatever_is_known() {
    let mut divided = 0;
    for seed in 0..60 {
        let mut walk = Walk::new(seed);
        divided += u32::from(walk.node.is_divided());
        for _ in 0..12 {
            let before = walk.node.clone();
            walk.step();
            walk.check(&before);
        }
        check_answers(Server::of(walk.node), seed);
    }
    assert!((20..60).contains(&divided), "both kinds are tried: {divided}");
}

fn decoded(server: &mut Server, words: &[&str]) -> Value {
    let mut decoder = AnswerDecoder::new();
    decoder.buffer().extend_from_slice(&server.send(&common::request(words)));
    decoder.decode().expect("well formed").expect("whole")
}

fn array(value: &Value) -> &[Value] {
    let Value::Array(items) = value else { panic!("{value:?}") };
    items
}

fn integer(value: &Value) -> u16 {
    let Value::Integer(number) = value else { panic!("{value:?}") };
    u16::try_from(*number).expect("a slot, or a port")
}

/// What clients are told says the same as the map.
fn check_answers(mut server: Server, seed: u64) {
    let leader_of = |node: &NodeInfo, slot: u16| {
        let first = node.map.row(slot).first;
        node.members().nth(first).map(|member| member.port)
    };
    let slots = decoded(&mut server, &["CLUSTER", "SLOTS"]);
    let mut next = 0;
    for range in array(&slots) {
        let (start, end) = (integer(&array(range)[0]), integer(&array(range)[1]));
        assert_eq!(start, next, "seed {seed}");
        next = end + 1;
        let port = integer(&array(&array(range)[2])[1]);
        assert!((start..=end).all(|slot| leader_of(&server.node, slot) == Some(port)));
    }
    assert_eq!(next, SLOTS, "seed {seed}");

    let Value::Bulk(nodes) = decoded(&mut server, &["CLUSTER", "NODES"]) else { panic!() };
    let nodes = String::from_utf8(nodes.to_vec()).expect("text");
    assert_eq!(nodes.matches("myself").count(), 1);
    assert_eq!(nodes.lines().count(), server.node.members().count());
    let mut ports = BTreeMap::new();
    for line in nodes.lines() {
        let words: Vec<&str> = line.split(' ').collect();
        let port = words[1].split([':', '@']).nth(1).and_then(|port| port.parse::<u16>().ok());
        for range in &words[8..] {
            let (start, end) = range.split_once('-').unwrap_or((range, range));
            let ends = (start.parse::<u16>().unwrap(), end.parse::<u16>().unwrap());
            assert!((ends.0..=ends.1).all(|slot| ports.insert(slot, port).is_none()));
        }
    }
    assert_eq!(ports.len(), usize::from(SLOTS));
    assert!(ports.into_iter().all(|(slot, port)| leader_of(&server.node, slot) == port));

    let shards = decoded(&mut server, &["CLUSTER", "SHARDS"]);
    let ends = array(&shards).iter().flat_map(|shard| array(&array(shard)[1]).chunks(2));
    let sizes = ends.map(|ends| u32::from(integer(&ends[1]) - integer(&ends[0])) + 1);
    assert_eq!(sizes.sum::<u32>(), u32::from(SLOTS));
}
