//! INFO: the fields that clients and people look for.

use std::fmt::Write;

use super::connection::REDIS_VERSION;
use super::table::Spec;
use super::{Action, Call, Parsed};
use crate::NodeInfo;
use crate::resp::Value;

pub(super) const COMMANDS: &[Spec] = &[Spec::new("info", -1, "server", info)
    .flags("loading stale")
    .says("[section...]", "Describes this node")];

type Section = (&'static str, fn(&NodeInfo) -> Vec<(&'static str, String)>);

const SECTIONS: &[Section] = &[
    ("Server", server),
    ("Clients", clients),
    ("Memory", memory),
    ("Persistence", persistence),
    ("Stats", stats),
    ("Replication", replication),
    ("Errorstats", error_stats),
    ("Cluster", cluster),
    ("Keyspace", keyspace),
];

fn info(call: &mut Call<'_>) -> Parsed {
    let wanted = |name: &str| {
        call.len() == 1
            || (1..call.len()).any(|at| {
                ["default", "all", "everything", name].iter().any(|word| call.is(at, word))
            })
    };
    let mut text = String::new();
    for (name, fields) in SECTIONS.iter().filter(|(name, _)| wanted(name)) {
        if !text.is_empty() {
            text.push_str("\r\n");
        }
        // Writing into a String cannot fail.
        let _ = write!(text, "# {name}\r\n");
        for (field, value) in fields(call.node) {
            let _ = write!(text, "{field}:{value}\r\n");
        }
    }
    Ok(Action::Answer(Value::Verbatim(text.into())))
}

fn server(node: &NodeInfo) -> Vec<(&'static str, String)> {
    vec![
        ("redis_version", REDIS_VERSION.into()),
        ("quorate_version", node.version.clone()),
        ("redis_mode", "cluster".into()),
        ("arch_bits", usize::BITS.to_string()),
        ("process_id", node.process_id.to_string()),
        ("run_id", node.own.id.clone()),
        ("tcp_port", node.own.port.to_string()),
        ("server_time_usec", node.now_us.to_string()),
        ("uptime_in_seconds", node.uptime_s.to_string()),
        ("uptime_in_days", (node.uptime_s / 86_400).to_string()),
    ]
}

fn clients(node: &NodeInfo) -> Vec<(&'static str, String)> {
    vec![("connected_clients", node.counters.clients.to_string()), ("blocked_clients", "0".into())]
}

fn memory(node: &NodeInfo) -> Vec<(&'static str, String)> {
    vec![
        ("used_memory_dataset", node.bytes.to_string()),
        ("maxmemory", "0".into()),
        ("maxmemory_policy", "noeviction".into()),
    ]
}

fn persistence(node: &NodeInfo) -> Vec<(&'static str, String)> {
    vec![("loading", u8::from(node.loading).to_string()), ("aof_enabled", "1".into())]
}

fn stats(node: &NodeInfo) -> Vec<(&'static str, String)> {
    let counters = &node.counters;
    vec![
        ("total_connections_received", counters.connections.to_string()),
        ("total_commands_processed", counters.commands.to_string()),
        ("total_net_input_bytes", counters.input_bytes.to_string()),
        ("total_net_output_bytes", counters.output_bytes.to_string()),
        ("rejected_connections", counters.rejected.to_string()),
        ("total_error_replies", counters.errors.total().to_string()),
    ]
}

/// Replication here is not Redis' own; whatever reads this must find nothing to take over.
fn replication(_: &NodeInfo) -> Vec<(&'static str, String)> {
    vec![("role", "master".into()), ("connected_slaves", "0".into())]
}

/// The errors that were answered, by their first words.
fn error_stats(node: &NodeInfo) -> Vec<(&'static str, String)> {
    node.counters.errors.each().map(|(field, count)| (field, format!("count={count}"))).collect()
}

fn cluster(_: &NodeInfo) -> Vec<(&'static str, String)> {
    vec![("cluster_enabled", "1".into())]
}

fn keyspace(node: &NodeInfo) -> Vec<(&'static str, String)> {
    if node.keys == 0 {
        return Vec::new();
    }
    vec![("db0", format!("keys={},expires=0,avg_ttl=0", node.keys))]
}
