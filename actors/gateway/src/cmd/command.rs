//! COMMAND: the table of commands, for programs.

use super::table::{self, Keys, Spec};
use super::{Action, Call, Parsed, error, glob};
use crate::resp::Value;

pub(super) const COMMANDS: &[Spec] = &[Spec::new("command", -1, "server", every)
    .flags("loading stale")
    .since("2.8.13")
    .subcommands(SUBCOMMANDS)
    .says("", "Describes every command")];

const SUBCOMMANDS: &[Spec] = &[
    sub("command|count", 2, count).says("", "Counts the commands"),
    sub("command|docs", -2, docs)
        .since("7.0.0")
        .says("[command...]", "Says what commands do, for people"),
    sub("command|getkeys", -3, getkeys)
        .says("command [arg...]", "Gives the keys of a command with its arguments"),
    Spec::help("command|help", "server").since("5.0.0"),
    sub("command|info", -2, info).says("[command...]", "Describes commands, for programs"),
    sub("command|list", -2, list)
        .since("7.0.0")
        .says("[FILTERBY MODULE|ACLCAT|PATTERN filter]", "Gives the names of commands"),
];

const fn sub(name: &'static str, arity: i32, run: fn(&mut Call<'_>) -> Parsed) -> Spec {
    Spec::new(name, arity, "server", run).flags("loading stale").since("2.8.13")
}

fn answer(items: impl IntoIterator<Item = Value>) -> Parsed {
    Ok(Action::Answer(Value::Array(items.into_iter().collect())))
}

fn every(_: &mut Call<'_>) -> Parsed {
    answer(table::all().map(describe))
}

fn count(_: &mut Call<'_>) -> Parsed {
    Ok(Action::Answer(Value::count(table::all().len() as u64)))
}

fn info(call: &mut Call<'_>) -> Parsed {
    if call.len() == 2 {
        return every(call);
    }
    answer(
        (2..call.len()).map(|at| table::by_full_name(call.arg(at)).map_or(Value::Null, describe)),
    )
}

fn list(call: &mut Call<'_>) -> Parsed {
    let wanted: Box<dyn Fn(&Spec) -> bool> = match call.len() {
        2 => Box::new(|_| true),
        5 if call.is(2, "FILTERBY") && call.is(3, "MODULE") => Box::new(|_| false),
        5 if call.is(2, "FILTERBY") && call.is(3, "ACLCAT") => {
            let wanted = String::from_utf8_lossy(call.arg(4)).to_lowercase();
            Box::new(move |spec| categories(spec).any(|category| category[1..] == wanted))
        }
        5 if call.is(2, "FILTERBY") && call.is(3, "PATTERN") => {
            let pattern = call.take(4);
            Box::new(move |spec| glob::fits(&pattern, spec.name.as_bytes()))
        }
        _ => return Err(error::fixed(error::SYNTAX)),
    };
    answer(table::all().filter(|spec| wanted(spec)).map(|spec| Value::bulk(spec.name)))
}

fn getkeys(call: &mut Call<'_>) -> Parsed {
    let args = call.args.split_off(2);
    let spec = table::find(&args).map_err(|_| error::fixed("ERR Invalid command specified"))?;
    if spec.keys.is_none() {
        return Err(error::fixed("ERR The command has no key arguments"));
    }
    if !spec.takes(args.len()) {
        return Err(error::fixed("ERR Invalid number of arguments specified for command"));
    }
    answer(spec.keys_of(&args).cloned().map(Value::Bulk))
}

fn statuses<'a>(words: impl IntoIterator<Item = &'a str>) -> Value {
    let words = words.into_iter().filter(|word| !word.is_empty());
    Value::Set(words.map(|word| Value::Simple(word.to_owned().into())).collect())
}

fn map(pairs: impl IntoIterator<Item = (&'static str, Value)>) -> Value {
    Value::Map(pairs.into_iter().map(|(key, value)| (Value::bulk(key), value)).collect())
}

/// The row of a command, in the ten elements that clients know.
fn describe(spec: &Spec) -> Value {
    let place = |place: Option<i64>| Value::Integer(place.unwrap_or(0));
    Value::Array(vec![
        Value::bulk(spec.name),
        Value::Integer(spec.arity.into()),
        statuses(spec.flags.split(' ')),
        place(spec.keys.map(|keys| keys.first as i64)),
        place(spec.keys.map(|keys| keys.last)),
        place(spec.keys.map(|keys| keys.step as i64)),
        statuses(categories(spec)),
        Value::Set(Vec::new()),
        Value::Set(spec.keys.into_iter().map(|keys| key_spec(spec, keys)).collect()),
        match spec.subcommands {
            // Redis has an array of them, and a set of none.
            [] => Value::Set(Vec::new()),
            subcommands => Value::Array(subcommands.iter().map(describe).collect()),
        },
    ])
}

/// The categories of access control that follow from the flags and the family.
fn categories(spec: &Spec) -> impl Iterator<Item = &'static str> {
    let group = match spec.group {
        "string" => "@string",
        "generic" => "@keyspace",
        "connection" => "@connection",
        _ => "",
    };
    let (fast, admin) = (spec.has_flag("fast"), spec.has_flag("admin"));
    [
        (spec.has_flag("write"), "@write"),
        (spec.has_flag("readonly"), "@read"),
        (!group.is_empty(), group),
        (admin, "@admin"),
        (fast, "@fast"),
        (!fast, "@slow"),
        (admin, "@dangerous"),
    ]
    .into_iter()
    .filter_map(|(holds, category)| holds.then_some(category))
}

fn key_spec(spec: &Spec, keys: Keys) -> Value {
    let flags = if spec.has_flag("write") { ["RW", "update"] } else { ["RO", "access"] };
    // Counted from the first key here, unless from the end.
    let last = if keys.last < 0 { keys.last } else { keys.last - keys.first as i64 };
    let index = map([("index", Value::Integer(keys.first as i64))]);
    let range = map([
        ("lastkey", Value::Integer(last)),
        ("keystep", Value::Integer(keys.step as i64)),
        ("limit", Value::Integer(0)),
    ]);
    map([
        ("flags", statuses(flags)),
        ("begin_search", map([("type", Value::bulk("index")), ("spec", index)])),
        ("find_keys", map([("type", Value::bulk("range")), ("spec", range)])),
    ])
}

fn docs(call: &mut Call<'_>) -> Parsed {
    let named = (2..call.len()).filter_map(|at| table::by_full_name(call.arg(at)));
    let specs: Vec<&Spec> = if call.len() == 2 { table::all().collect() } else { named.collect() };
    let pairs = specs.into_iter().map(|spec| (Value::bulk(spec.name), document(spec)));
    Ok(Action::Answer(Value::Map(pairs.collect())))
}

fn document(spec: &Spec) -> Value {
    let mut pairs = vec![
        ("summary", Value::bulk(spec.summary)),
        ("since", Value::bulk(spec.since)),
        ("group", Value::bulk(spec.group)),
    ];
    let arguments: Vec<Value> = arguments(spec.syntax).into_iter().map(argument).collect();
    if !arguments.is_empty() {
        pairs.push(("arguments", Value::Array(arguments)));
    }
    if !spec.subcommands.is_empty() {
        let subs = spec.subcommands.iter().map(|sub| (Value::bulk(sub.name), document(sub)));
        pairs.push(("subcommands", Value::Map(subs.collect())));
    }
    map(pairs)
}

/// The arguments of a syntax, each as it stands there: words, and brackets with what they hold.
fn arguments(syntax: &'static str) -> Vec<&'static str> {
    let mut arguments = Vec::new();
    let mut rest = syntax.trim_start();
    while !rest.is_empty() {
        let end = match rest.starts_with('[') {
            true => rest.find(']').map_or(rest.len(), |at| at + 1),
            false => rest.find(' ').unwrap_or(rest.len()),
        };
        arguments.push(&rest[..end]);
        rest = rest[end..].trim_start();
    }
    arguments
}

fn argument(text: &'static str) -> Value {
    let inner = text.trim_start_matches('[').trim_end_matches(']');
    let name = inner.trim_end_matches("...");
    let mut flags = Vec::new();
    if text.starts_with('[') {
        flags.push("optional");
    }
    if inner.ends_with("...") {
        flags.push("multiple");
    }
    let kind = if name == "key" { "key" } else { "string" };
    let mut pairs = vec![("name", Value::bulk(name)), ("type", Value::bulk(kind))];
    if kind == "key" {
        pairs.push(("key_spec_index", Value::Integer(0)));
    }
    if !flags.is_empty() {
        pairs.push(("flags", statuses(flags)));
    }
    map(pairs)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_syntax_is_divided_into_its_arguments() {
        assert!(arguments("").is_empty());
        assert_eq!(arguments("key value [NX|XX] [GET]"), ["key", "value", "[NX|XX]", "[GET]"]);
        assert_eq!(arguments("[AUTH user pass] [x...]"), ["[AUTH user pass]", "[x...]"]);
        assert_eq!(arguments("key..."), ["key..."]);
    }
}
