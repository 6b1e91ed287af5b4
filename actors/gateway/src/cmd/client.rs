//! CLIENT: what a connection says about itself, and asks about itself.

use super::connection::{BAD_NAME, is_plain};
use super::table::Spec;
use super::{Action, Call, Parsed, error};
use crate::resp::Value;
use crate::session::Replies;

pub(super) const COMMANDS: &[Spec] = &[Spec::container("client", "connection", SUBCOMMANDS)
    .since("2.4.0")
    .says("", "What a connection says and asks about itself")];

const SUBCOMMANDS: &[Spec] = &[
    sub("client|getname", 2, getname).since("2.6.9").says("", "Gives the name of this connection"),
    sub("client|getredir", 2, getredir)
        .since("6.0.0")
        .says("", "Gives -1: keys are not tracked here"),
    Spec::help("client|help", "connection").since("5.0.0"),
    sub("client|id", 2, id).since("5.0.0").says("", "Gives the number of this connection"),
    sub("client|info", 2, info).since("6.2.0").says("", "Describes this connection"),
    sub("client|kill", -3, kill)
        .flags("admin noscript loading stale")
        .says("option...", "Not supported: a connection ends only itself"),
    sub("client|list", -2, list)
        .flags("admin noscript loading stale")
        .says("[TYPE type] [ID id...]", "Describes this connection, the only one it may see"),
    sub("client|no-evict", 3, on_or_off)
        .flags("admin noscript loading stale")
        .since("7.0.0")
        .says("ON|OFF", "Changes nothing: no connection is ended for want of memory"),
    sub("client|no-touch", 3, on_or_off)
        .since("7.2.0")
        .says("ON|OFF", "Changes nothing: reading a key leaves no trace"),
    sub("client|reply", 3, reply)
        .since("3.2.0")
        .says("ON|OFF|SKIP", "Chooses whether requests are answered"),
    sub("client|setinfo", 4, setinfo)
        .since("7.2.0")
        .says("LIB-NAME|LIB-VER value", "Names the client library"),
    sub("client|setname", 3, setname).since("2.6.9").says("name", "Names this connection"),
    sub("client|tracking", -3, tracking)
        .since("6.0.0")
        .says("ON|OFF", "Only OFF: keys are not tracked here"),
    sub("client|trackinginfo", 2, trackinginfo)
        .since("6.2.0")
        .says("", "Says that keys are not tracked here"),
];

const fn sub(name: &'static str, arity: i32, run: fn(&mut Call<'_>) -> Parsed) -> Spec {
    Spec::new(name, arity, "connection", run).flags("noscript loading stale")
}

fn answer(value: Value) -> Parsed {
    Ok(Action::Answer(value))
}

fn id(call: &mut Call<'_>) -> Parsed {
    answer(Value::count(call.session.id))
}

fn info(call: &mut Call<'_>) -> Parsed {
    answer(Value::Verbatim(call.session.describe("client|info", call.node).into()))
}

fn list(call: &mut Call<'_>) -> Parsed {
    let shown = match call.len() {
        2 => true,
        4 if call.is(2, "TYPE") => match call.arg(3).to_ascii_lowercase().as_slice() {
            b"normal" => true,
            b"master" | b"replica" | b"slave" | b"pubsub" => false,
            _ => {
                let start = b"ERR Unknown client type '";
                return Err(Value::error([&start[..], call.arg(3), b"'"].concat()));
            }
        },
        4.. if call.is(2, "ID") => {
            let ids = (3..call.len()).map(|at| call.integer(at).ok().filter(|&id| id > 0));
            let ids: Option<Vec<i64>> = ids.collect();
            let own = i64::try_from(call.session.id).ok();
            let ids = ids.ok_or(error::fixed("ERR Invalid client ID"))?;
            ids.iter().any(|&id| Some(id) == own)
        }
        _ => return Err(error::fixed(error::SYNTAX)),
    };
    let line = shown.then(|| call.session.describe("client|list", call.node));
    answer(Value::Verbatim(line.unwrap_or_default().into()))
}

fn setname(call: &mut Call<'_>) -> Parsed {
    if !is_plain(call.arg(2)) {
        return Err(error::fixed(BAD_NAME));
    }
    call.session.name = call.take(2);
    answer(Value::OK)
}

fn getname(call: &mut Call<'_>) -> Parsed {
    let name = &call.session.name;
    answer(if name.is_empty() { Value::Null } else { Value::Bulk(name.clone()) })
}

fn setinfo(call: &mut Call<'_>) -> Parsed {
    let (is_name, is_version) = (call.is(2, "LIB-NAME"), call.is(2, "LIB-VER"));
    if !is_name && !is_version {
        return Err(Value::error([b"ERR Unrecognized option '", call.arg(2), b"'"].concat()));
    }
    if !is_plain(call.arg(3)) {
        let end = b" cannot contain spaces, newlines or special characters.";
        return Err(Value::error([b"ERR ", call.arg(2), end].concat()));
    }
    let value = call.take(3);
    if is_name {
        call.session.lib_name = value;
    } else {
        call.session.lib_version = value;
    }
    answer(Value::OK)
}

fn on_or_off(call: &mut Call<'_>) -> Parsed {
    if call.is(2, "ON") || call.is(2, "OFF") {
        return answer(Value::OK);
    }
    Err(error::fixed(error::SYNTAX))
}

fn reply(call: &mut Call<'_>) -> Parsed {
    if call.is(2, "ON") {
        call.session.replies = Replies::On;
        return answer(Value::OK);
    }
    if call.is(2, "OFF") {
        call.session.replies = Replies::Off;
    } else if !call.is(2, "SKIP") {
        return Err(error::fixed(error::SYNTAX));
    } else if call.session.replies != Replies::Off {
        call.session.replies = Replies::SkipNext;
    }
    Ok(Action::Silence)
}

fn kill(_: &mut Call<'_>) -> Parsed {
    Err(error::fixed("ERR CLIENT KILL is not supported: a connection ends only itself (QUIT)"))
}

fn tracking(call: &mut Call<'_>) -> Parsed {
    if call.is(2, "OFF") {
        return answer(Value::OK);
    }
    if call.is(2, "ON") {
        return Err(error::fixed("ERR CLIENT TRACKING is not supported: keys are not tracked"));
    }
    Err(error::fixed(error::SYNTAX))
}

fn trackinginfo(_: &mut Call<'_>) -> Parsed {
    let pairs = [
        ("flags", Value::Set(vec![Value::bulk("off")])),
        ("redirect", Value::Integer(-1)),
        ("prefixes", Value::Array(Vec::new())),
    ];
    answer(Value::Map(pairs.map(|(key, value)| (Value::bulk(key), value)).into()))
}

fn getredir(_: &mut Call<'_>) -> Parsed {
    answer(Value::Integer(-1))
}
