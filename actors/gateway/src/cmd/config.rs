//! CONFIG: the parameters that clients ask for, as far as they mean something here.

use quorate_kvserver::VALUE_BYTES_MAX;

use super::table::Spec;
use super::{Action, Call, Parsed, error, glob};
use crate::resp::Value;

pub(super) const COMMANDS: &[Spec] = &[Spec::container("config", "server", SUBCOMMANDS)
    .since("2.0.0")
    .says("", "The parameters of this node")];

const SUBCOMMANDS: &[Spec] = &[
    sub("config|get", -3, get).says("pattern...", "Gives the parameters whose names fit a pattern"),
    Spec::help("config|help", "server").since("5.0.0"),
    sub("config|resetstat", 2, resetstat).says("", "Not supported: counters only grow"),
    sub("config|rewrite", 2, rewrite)
        .since("2.8.0")
        .says("", "Not supported: parameters stand in the node's configuration file"),
    sub("config|set", -4, set)
        .says("parameter value...", "Not supported: parameters are set in the configuration file"),
];

const fn sub(name: &'static str, arity: i32, run: fn(&mut Call<'_>) -> Parsed) -> Spec {
    Spec::new(name, arity, "server", run).flags("admin noscript loading stale").since("2.0.0")
}

/// What Redis' parameters would be called here. Every write is on disk before it is answered, so
/// `appendonly` is true in every sense that a client can mean.
fn parameters(call: &Call<'_>) -> Vec<(&'static str, String)> {
    let fixed = [
        ("appendfsync", "always"),
        ("appendonly", "yes"),
        ("cluster-enabled", "yes"),
        ("databases", "1"),
        ("maxmemory", "0"),
        ("maxmemory-policy", "noeviction"),
        ("notify-keyspace-events", ""),
        ("requirepass", ""),
        ("save", ""),
        ("timeout", "0"),
    ];
    let varying = [
        ("port", call.node.own.port.to_string()),
        ("proto-max-bulk-len", VALUE_BYTES_MAX.to_string()),
    ];
    let fixed = fixed.into_iter().map(|(name, value)| (name, value.to_owned()));
    let mut all: Vec<_> = fixed.chain(varying).collect();
    all.sort();
    all
}

fn get(call: &mut Call<'_>) -> Parsed {
    let mut parameters = parameters(call);
    parameters
        .retain(|(name, _)| (2..call.len()).any(|at| glob::fits(call.arg(at), name.as_bytes())));
    let pairs = parameters.into_iter().map(|(name, value)| (Value::bulk(name), Value::bulk(value)));
    Ok(Action::Answer(Value::Map(pairs.collect())))
}

fn set(_: &mut Call<'_>) -> Parsed {
    Err(error::fixed(
        "ERR CONFIG SET is not supported: parameters stand in the node's configuration file",
    ))
}

fn rewrite(_: &mut Call<'_>) -> Parsed {
    Err(error::fixed(
        "ERR CONFIG REWRITE is not supported: parameters stand in the node's configuration file",
    ))
}

fn resetstat(_: &mut Call<'_>) -> Parsed {
    Err(error::fixed("ERR CONFIG RESETSTAT is not supported: counters only grow"))
}
