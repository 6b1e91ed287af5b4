//! Keys, whatever they hold.

use quorate_kvserver::Op;

use super::table::Spec;
use super::{Action, Call, Parsed, Shape};

pub(super) const COMMANDS: &[Spec] = &[
    Spec::new("dbsize", 1, "server", dbsize)
        .flags("readonly fast")
        .says("", "Counts the keys of the whole store"),
    generic("del", -2, del)
        .flags("write")
        .keys(1, -1, 1)
        .says("key...", "Removes keys, each by itself"),
    generic("exists", -2, exists)
        .flags("readonly fast")
        .keys(1, -1, 1)
        .says("key...", "Counts those of these keys that are present"),
    generic("type", 2, kind)
        .flags("readonly fast")
        .keys(1, 1, 1)
        .says("key", "Gives the kind of what a key holds"),
    generic("unlink", -2, del)
        .flags("write fast")
        .since("4.0.0")
        .keys(1, -1, 1)
        .says("key...", "Removes keys (the same as DEL)"),
];

const fn generic(name: &'static str, arity: i32, run: fn(&mut Call<'_>) -> Parsed) -> Spec {
    Spec::new(name, arity, "generic", run)
}

fn del(call: &mut Call<'_>) -> Parsed {
    Ok(Action::Operate { op: Op::Delete { keys: call.keys_from(1)? }, shape: Shape::Number })
}

fn exists(call: &mut Call<'_>) -> Parsed {
    Ok(Action::Operate { op: Op::Exists { keys: call.keys_from(1)? }, shape: Shape::Number })
}

fn kind(call: &mut Call<'_>) -> Parsed {
    Ok(Action::Operate { op: Op::Get { key: call.key(1)? }, shape: Shape::Type })
}

fn dbsize(_: &mut Call<'_>) -> Parsed {
    Ok(Action::Operate { op: Op::count_all(), shape: Shape::Number })
}
