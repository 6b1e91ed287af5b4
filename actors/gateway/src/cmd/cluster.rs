//! CLUSTER: where cluster-aware clients learn whom to ask.
//!
//! The map says who answers for a hash slot with the fewest steps: the leader of its group where that
//! is known, otherwise somebody who has a replica. Nodes that lead no slots stand beside them as replicas,
//! whose reads are as good. Unless clients are redirected, any node answers for any key.

use std::fmt::Write;
use std::ops::RangeInclusive;

use quorate_kvserver::{HASH_SLOT_COUNT, HashSlot, Op};

use super::table::Spec;
use super::{Action, Call, Parsed, Shape, error};
use crate::node::Member;
use crate::resp::Value;

pub(super) const COMMANDS: &[Spec] = &[
    Spec::new("asking", 1, "cluster", accepted)
        .flags("fast")
        .since("3.0.0")
        .says("", "Changes nothing: nobody is sent elsewhere by ASK"),
    Spec::container("cluster", "cluster", SUBCOMMANDS)
        .since("3.0.0")
        .says("", "Who answers for which keys"),
    Spec::new("readonly", 1, "cluster", readonly)
        .flags("loading stale fast")
        .since("3.0.0")
        .says("", "Has replicas answer reads, as freshly as the leader, where they would redirect"),
    Spec::new("readwrite", 1, "cluster", readwrite)
        .flags("loading stale fast")
        .since("3.0.0")
        .says("", "Ends READONLY"),
];

const SUBCOMMANDS: &[Spec] = &[
    sub("cluster|countkeysinslot", 3, count_keys_in_slot)
        .flags("stale")
        .says("slot", "Counts the keys of a hash slot, wherever they are"),
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

fn readonly(call: &mut Call<'_>) -> Parsed {
    call.session.reads_replicas = true;
    accepted(call)
}

fn readwrite(call: &mut Call<'_>) -> Parsed {
    call.session.reads_replicas = false;
    accepted(call)
}

fn count_keys_in_slot(call: &mut Call<'_>) -> Parsed {
    let slot = u16::try_from(call.integer(2)?).ok().filter(|slot| *slot < HASH_SLOT_COUNT);
    let slot = slot.ok_or(error::fixed("ERR Invalid slot"))?;
    Ok(Action::Operate { op: Op::Count { first: slot, last: slot }, shape: Shape::Number })
}

fn myid(call: &mut Call<'_>) -> Parsed {
    Ok(Action::Answer(Value::bulk(call.node.own.id.clone())))
}

fn keyslot(call: &mut Call<'_>) -> Parsed {
    Ok(Action::Answer(Value::Integer(HashSlot::of(call.arg(2)).number().into())))
}

fn info(call: &mut Call<'_>) -> Parsed {
    let map = &call.node.map;
    let assigned = map.count(|row| row.owned);
    let ok = map.count(|row| row.owned && row.reachable);
    let state = if ok == HASH_SLOT_COUNT { "ok" } else { "fail" };
    let configuration = &call.node.configuration;
    let groups = if call.node.is_divided() { configuration.groups.len() } else { 1 };
    let fields = [
        ("cluster_state", state.into()),
        ("cluster_slots_assigned", assigned.to_string()),
        ("cluster_slots_ok", ok.to_string()),
        ("cluster_slots_pfail", "0".into()),
        ("cluster_slots_fail", (assigned - ok).to_string()),
        ("cluster_known_nodes", (call.node.peers.len() + 1).to_string()),
        ("cluster_size", groups.to_string()),
        ("cluster_current_epoch", configuration.number.max(1).to_string()),
        ("cluster_my_epoch", "1".into()),
        ("cluster_stats_messages_sent", "0".into()),
        ("cluster_stats_messages_received", "0".into()),
    ];
    let text: String =
        fields.map(|(name, value): (_, String)| format!("{name}:{value}\r\n")).concat();
    Ok(Action::Answer(Value::Verbatim(text.into())))
}

fn nodes(call: &mut Call<'_>) -> Parsed {
    let runs = call.node.map.runs(|row| row.first);
    let mut text = String::new();
    for (place, member) in call.node.members().enumerate() {
        let own = place == 0;
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
        for (slots, _) in runs.iter().filter(|(_, first)| *first == place) {
            let _ = match slots.start() == slots.end() {
                true => write!(text, " {}", slots.start()),
                false => write!(text, " {}-{}", slots.start(), slots.end()),
            };
        }
        text.push('\n');
    }
    Ok(Action::Answer(Value::Verbatim(text.into())))
}

/// Whom to ask for which slots, and who else answers reads: places of nodes.
type Asked<'a> = (usize, &'a [usize]);

fn asked<'a>(call: &Call<'a>) -> Vec<(RangeInclusive<u16>, Asked<'a>)> {
    call.node.map.runs(|row| (row.first, row.replicas.as_slice()))
}

fn slots(call: &mut Call<'_>) -> Parsed {
    let node = |place: &usize| {
        let member = call.node.member(*place);
        Value::Array(vec![
            Value::bulk(member.host.clone()),
            Value::Integer(member.port.into()),
            Value::bulk(member.id.clone()),
            Value::Map(Vec::new()),
        ])
    };
    let ranges = asked(call).into_iter().map(|(range, (first, replicas))| {
        let ends = [range.start(), range.end()].map(|&slot| Value::Integer(slot.into()));
        let members = std::iter::once(&first).chain(replicas).map(node);
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
    // In the order of their first slots.
    let mut shards: Vec<(Asked<'_>, Vec<RangeInclusive<u16>>)> = Vec::new();
    for (range, asked) in asked(call) {
        match shards.iter_mut().find(|(known, _)| *known == asked) {
            Some((_, ranges)) => ranges.push(range),
            None => shards.push((asked, vec![range])),
        }
    }
    let shards = shards.into_iter().map(|((first, replicas), ranges)| {
        let ends = ranges.iter().flat_map(|range| [*range.start(), *range.end()]);
        let replicas = replicas.iter().map(|place| node(call.node.member(*place), "replica"));
        let members = std::iter::once(node(call.node.member(first), "master")).chain(replicas);
        map(vec![
            ("slots", Value::Array(ends.map(|slot| Value::Integer(slot.into())).collect())),
            ("nodes", Value::Array(members.collect())),
        ])
    });
    Ok(Action::Answer(Value::Array(shards.collect())))
}
