//! SHARDS: who serves what, for operators. The calls go to the shardmaster.

use std::collections::BTreeMap;

use quorate_clerk::Outcome;
use quorate_kvserver::canonical_i64;
use quorate_protocol::GroupId;
use quorate_shardmaster::{Command, Configuration, Reply, ShardId};

use super::table::Spec;
use super::{Action, Call, Parsed, error, shape};
use crate::resp::Value;

pub(super) const COMMANDS: &[Spec] = &[Spec::container("shards", "cluster", SUBCOMMANDS)
    .since("0.1.0")
    .says("", "Which group serves which shard")];

const SUBCOMMANDS: &[Spec] = &[
    Spec::help("shards|help", "cluster").since("0.1.0"),
    sub("shards|join", -3, join).says(
        "group [group...]",
        "Lets groups serve too, and gives each an even share of the shards",
    ),
    sub("shards|leave", -3, leave).says(
        "group [group...] [EVENTHELAST]",
        "Takes all shards away from groups; EVENTHELAST: and their data, if no group is left",
    ),
    sub("shards|move", 4, move_shard).says(
        "shard group",
        "Gives a shard to a group, where it stays until the next JOIN or LEAVE",
    ),
    sub("shards|rebalance", 2, rebalance).says("", "Gives each group an even share of the shards"),
    sub("shards|query", -2, query)
        .says("[number]", "Gives a configuration: the newest one, or that of a number"),
];

const fn sub(name: &'static str, arity: i32, run: fn(&mut Call<'_>) -> Parsed) -> Spec {
    Spec::new(name, arity, "cluster", run).flags("admin noscript loading stale").since("0.1.0")
}

/// Nothing can be asked where there are no shards.
fn administer(call: &Call<'_>, command: impl FnOnce() -> Result<Command, Value>) -> Parsed {
    if !call.node.is_divided() {
        return Err(error::fixed("ERR this cluster is not divided into shards"));
    }
    Ok(Action::Administer(command()?))
}

/// Reads a number that may have its kind's letter before it.
fn number<N: TryFrom<i64>>(call: &Call<'_>, at: usize, kind: &str) -> Result<N, Value> {
    let letter = kind.as_bytes()[0];
    let text = call.arg(at);
    let digits = match text.split_first() {
        Some((first, digits)) if first.eq_ignore_ascii_case(&letter) => digits,
        _ => text,
    };
    let number = canonical_i64(digits).and_then(|number| N::try_from(number).ok());
    number.ok_or_else(|| {
        let shown = String::from_utf8_lossy(&text[..text.len().min(128)]);
        let letter = char::from(letter);
        Value::error(format!("ERR '{shown}' is not a {kind}: write {letter}2 or 2"))
    })
}

fn group(call: &Call<'_>, at: usize) -> Result<GroupId, Value> {
    number(call, at, "group").map(GroupId)
}

fn join(call: &mut Call<'_>) -> Parsed {
    let call = &*call;
    administer(call, || {
        let known = &call.node.groups;
        let mut groups = BTreeMap::new();
        for at in 2..call.len() {
            let group = group(call, at)?;
            let Some(nodes) = known.get(&group) else {
                let known: Vec<String> = known.keys().map(GroupId::to_string).collect();
                let known = known.join(", ");
                let text = format!("ERR no node has a replica of {group}; configured are {known}");
                return Err(Value::error(text));
            };
            groups.insert(group, nodes.clone());
        }
        Ok(Command::Join { groups })
    })
}

fn leave(call: &mut Call<'_>) -> Parsed {
    let call = &*call;
    administer(call, || {
        let even_the_last = call.is(call.len() - 1, "EVENTHELAST");
        let end = call.len() - usize::from(even_the_last);
        let groups = (2..end).map(|at| group(call, at)).collect::<Result<_, Value>>()?;
        Ok(Command::Leave { groups, even_the_last })
    })
}

fn move_shard(call: &mut Call<'_>) -> Parsed {
    let call = &*call;
    administer(call, || {
        let shard = ShardId(number(call, 2, "shard")?);
        Ok(Command::Move { shard, group: group(call, 3)? })
    })
}

fn rebalance(call: &mut Call<'_>) -> Parsed {
    administer(call, || Ok(Command::Rebalance))
}

fn query(call: &mut Call<'_>) -> Parsed {
    let call = &*call;
    administer(call, || {
        let number = match call.len() {
            2 => None,
            3 => match u64::try_from(call.integer(2)?) {
                Ok(number) => Some(number),
                Err(_) => return Err(error::fixed(error::NOT_AN_INTEGER)),
            },
            _ => return Err(error::wrong_arity(call.spec.name)),
        };
        Ok(Command::Query { number })
    })
}

/// The answer to what became of a call.
pub(crate) fn administered(outcome: Outcome<Reply>) -> Value {
    match outcome {
        Outcome::Done(Reply::Done { number }) => Value::count(number),
        Outcome::Done(Reply::Configuration(configuration)) => describe(&configuration),
        Outcome::Done(Reply::Refused(refusal)) => Value::error(format!("ERR {refusal}")),
        Outcome::Refused(refusal) => shape::refused(refusal),
        Outcome::Maybe | Outcome::Unknown => error::fixed(
            "INDETERMINATE the outcome is unknown: the change may have been made, or may still be; \
             ask with SHARDS QUERY before sending it again",
        ),
    }
}

/// A configuration: its number, the number of shards, the groups with their nodes and how many shards
/// each has, and who has which shards, from one through another; group 0 where nobody has.
fn describe(configuration: &Configuration) -> Value {
    let group = |group: GroupId| Value::Integer(group.0.into());
    let groups = configuration.groups.iter().map(|(id, nodes)| {
        let nodes = nodes.iter().map(|node| Value::Integer(node.0.into())).collect();
        let shards = configuration.shards_of(*id).count() as u64;
        Value::Array(vec![group(*id), Value::Array(nodes), Value::count(shards)])
    });
    let mut first = 0;
    let owners = configuration.owners.chunk_by(|one, next| one == next).map(|run| {
        let (start, end) = (first, first + run.len() as u64 - 1);
        first = end + 1;
        Value::Array(vec![Value::count(start), Value::count(end), group(run[0])])
    });
    let pairs = [
        ("number", Value::count(configuration.number)),
        ("shards", Value::count(configuration.shards().into())),
        ("groups", Value::Array(groups.collect())),
        ("owners", Value::Array(owners.collect())),
    ];
    Value::Map(pairs.map(|(key, value)| (Value::bulk(key), value)).into())
}
