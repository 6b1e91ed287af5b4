//! CLUSTER: where cluster-aware clients learn whom to ask.
//!
//! Any node answers for any key, so the map says only who does so with the fewest steps: the leader
//! of the slots where one is known, otherwise this node. Nodes that lead nothing stand beside it as
//! replicas, whose reads are as good.

use std::fmt::Write;
use std::ops::RangeInclusive;

use quorate_kvserver::{HASH_SLOT_COUNT, HashSlot};

use super::table::Spec;
use super::{Action, Call, Parsed};
use crate::node::Member;
use crate::resp::Value;

pub(super) const COMMANDS: &[Spec] = &[
    Spec::new("asking", 1, "cluster", accepted)
        .flags("fast")
        .since("3.0.0")
        .says("", "Changes nothing: any node answers for any key"),
    Spec::container("cluster", "cluster", SUBCOMMANDS)
        .since("3.0.0")
        .says("", "Who answers for which keys"),
    Spec::new("readonly", 1, "cluster", accepted)
        .flags("loading stale fast")
        .since("3.0.0")
        .says("", "Changes nothing: any node answers any read, and as freshly as its leader"),
    Spec::new("readwrite", 1, "cluster", accepted)
        .flags("loading stale fast")
        .since("3.0.0")
        .says("", "Changes nothing, see READONLY"),
];

const SUBCOMMANDS: &[Spec] = &[
    Spec::help("cluster|help", "cluster").since("5.0.0"),
    sub("cluster|info", 2, info).says("", "Says how the cluster is"),
    sub("cluster|keyslot", 3, keyslot).says("key", "Gives the hash slot of a key"),
    sub("cluster|myid", 2, myid).says("", "Gives the id of this node"),
    sub("cluster|nodes", 2, nodes).says("", "Describes the nodes, one in each line"),
    sub("cluster|shards", 2, shards)
        .since("7.0.0")
        .says("", "Gives the hash slots of each leader, and the nodes that hold them"),
    sub("cluster|slots", 2, slots).says("", "Gives whom to ask for which hash slots"),
];

const fn sub(name: &'static str, arity: i32, run: fn(&mut Call<'_>) -> Parsed) -> Spec {
    Spec::new(name, arity, "cluster", run).flags("loading stale").since("3.0.0")
}

fn accepted(_: &mut Call<'_>) -> Parsed {
    Ok(Action::Answer(Value::OK))
}

fn myid(call: &mut Call<'_>) -> Parsed {
    Ok(Action::Answer(Value::bulk(call.node.own.id.clone())))
}

fn keyslot(call: &mut Call<'_>) -> Parsed {
    Ok(Action::Answer(Value::Integer(HashSlot::of(call.arg(2)).number().into())))
}

/// Whom to ask for what: each leader with its ranges, in the order of their first slots.
fn leaders<'a>(call: &Call<'a>) -> Vec<(&'a Member, Vec<RangeInclusive<u16>>)> {
    let mut leaders: Vec<(&Member, Vec<RangeInclusive<u16>>)> = Vec::new();
    for (range, who) in call.node.ranges() {
        match leaders.iter_mut().find(|(leader, _)| std::ptr::eq(*leader, who)) {
            Some((_, ranges)) => ranges.push(range),
            None => leaders.push((who, vec![range])),
        }
    }
    leaders
}

fn info(call: &mut Call<'_>) -> Parsed {
    let (state, ok) = if call.node.quorum { ("ok", HASH_SLOT_COUNT) } else { ("fail", 0) };
    let fields = [
        ("cluster_state", state.into()),
        ("cluster_slots_assigned", HASH_SLOT_COUNT.to_string()),
        ("cluster_slots_ok", ok.to_string()),
        ("cluster_slots_pfail", "0".into()),
        ("cluster_slots_fail", (HASH_SLOT_COUNT - ok).to_string()),
        ("cluster_known_nodes", (call.node.peers.len() + 1).to_string()),
        ("cluster_size", leaders(call).len().to_string()),
        ("cluster_current_epoch", "1".into()),
        ("cluster_my_epoch", "1".into()),
        ("cluster_stats_messages_sent", "0".into()),
        ("cluster_stats_messages_received", "0".into()),
    ];
    let text: String =
        fields.map(|(name, value): (_, String)| format!("{name}:{value}\r\n")).concat();
    Ok(Action::Answer(Value::Verbatim(text.into())))
}

fn nodes(call: &mut Call<'_>) -> Parsed {
    let leaders = leaders(call);
    let mut text = String::new();
    for member in call.node.members() {
        let own = std::ptr::eq(member, &call.node.own);
        let flags = match (own, member.alive) {
            (true, _) => "myself,master",
            (false, true) => "master",
            (false, false) => "master,fail",
        };
        let link = if own || member.alive { "connected" } else { "disconnected" };
        // Writing into a String cannot fail.
        let _ = write!(
            text,
            "{} {}:{}@{} {flags} - 0 {} 1 {link}",
            member.id,
            member.host,
            member.port,
            member.peer_port,
            if own || !member.alive { 0 } else { call.node.now_us / 1000 },
        );
        let ranges = leaders.iter().find(|(leader, _)| std::ptr::eq(*leader, member));
        for range in ranges.map_or(&[][..], |(_, ranges)| ranges) {
            let _ = match range.start() == range.end() {
                true => write!(text, " {}", range.start()),
                false => write!(text, " {}-{}", range.start(), range.end()),
            };
        }
        text.push('\n');
    }
    Ok(Action::Answer(Value::Verbatim(text.into())))
}

fn slots(call: &mut Call<'_>) -> Parsed {
    let node = |member: &Member| {
        Value::Array(vec![
            Value::bulk(member.host.clone()),
            Value::Integer(member.port.into()),
            Value::bulk(member.id.clone()),
            Value::Map(Vec::new()),
        ])
    };
    let replicas = call.node.followers();
    let ranges = call.node.ranges().into_iter().map(|(range, leader)| {
        let ends = [range.start(), range.end()].map(|&slot| Value::Integer(slot.into()));
        let members = std::iter::once(&leader).chain(&replicas).map(|member| node(member));
        Value::Array(ends.into_iter().chain(members).collect())
    });
    Ok(Action::Answer(Value::Array(ranges.collect())))
}

fn shards(call: &mut Call<'_>) -> Parsed {
    let map = |pairs: Vec<(&'static str, Value)>| {
        Value::Map(pairs.into_iter().map(|(key, value)| (Value::bulk(key), value)).collect())
    };
    let node = |member: &Member, role: &'static str| {
        map(vec![
            ("id", Value::bulk(member.id.clone())),
            ("port", Value::Integer(member.port.into())),
            ("ip", Value::bulk(member.host.clone())),
            ("endpoint", Value::bulk(member.host.clone())),
            ("role", Value::bulk(role)),
            ("replication-offset", Value::Integer(0)),
            ("health", Value::bulk("online")),
        ])
    };
    let replicas = call.node.followers();
    let shards = leaders(call).into_iter().map(|(leader, ranges)| {
        let ends = ranges.iter().flat_map(|range| [*range.start(), *range.end()]);
        let members = std::iter::once(node(leader, "master"))
            .chain(replicas.iter().map(|replica| node(replica, "replica")));
        map(vec![
            ("slots", Value::Array(ends.map(|slot| Value::Integer(slot.into())).collect())),
            ("nodes", Value::Array(members.collect())),
        ])
    });
    Ok(Action::Answer(Value::Array(shards.collect())))
}
