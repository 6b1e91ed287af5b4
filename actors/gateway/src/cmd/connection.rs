//! The connection itself: greetings, names, ends.

use bytes::Bytes;
use quorate_kvserver::canonical_i64;

use super::table::Spec;
use super::{Action, Call, Parsed, error};
use crate::resp::{Protocol, Value};

/// The version of Redis that clients are told, since they choose by it what they send.
pub(super) const REDIS_VERSION: &str = "7.2.4";

pub(super) const COMMANDS: &[Spec] = &[
    connection("auth", -2, auth)
        .flags("noscript loading stale fast no_auth")
        .says("[username] password", "Gives a password; none is set"),
    connection("echo", 2, echo).flags("loading stale fast").says("message", "Gives the message"),
    connection("hello", -1, hello)
        .flags("noscript loading stale fast no_auth")
        .since("6.0.0")
        .says(
            "[protover] [AUTH username password] [SETNAME name]",
            "Chooses the protocol and describes the node",
        ),
    connection("ping", -1, ping).flags("fast").says("[message]", "Answers PONG, or the message"),
    connection("quit", -1, quit)
        .flags("noscript loading stale fast no_auth allow_busy")
        .says("", "Ends the connection"),
    connection("reset", 1, reset)
        .flags("noscript loading stale fast no_auth allow_busy")
        .since("6.2.0")
        .says("", "Makes the connection as it began"),
    connection("select", 2, select)
        .flags("loading stale fast")
        .says("index", "Chooses a database; there is only 0"),
];

const fn connection(name: &'static str, arity: i32, run: fn(&mut Call<'_>) -> Parsed) -> Spec {
    Spec::new(name, arity, "connection", run)
}

fn ping(call: &mut Call<'_>) -> Parsed {
    match call.len() {
        1 => Ok(Action::Answer(Value::simple("PONG"))),
        2 => echo(call),
        _ => Err(error::wrong_arity("ping")),
    }
}

fn echo(call: &mut Call<'_>) -> Parsed {
    Ok(Action::Answer(Value::Bulk(call.take(1))))
}

fn quit(_: &mut Call<'_>) -> Parsed {
    Ok(Action::Quit)
}

fn reset(call: &mut Call<'_>) -> Parsed {
    call.session.reset();
    Ok(Action::Answer(Value::simple("RESET")))
}

/// Only the user `default` exists, and it has no password: any will do.
fn check_user(name: &[u8]) -> Result<(), Value> {
    if name == b"default" {
        return Ok(());
    }
    Err(error::fixed("WRONGPASS invalid username-password pair or user is disabled."))
}

fn auth(call: &mut Call<'_>) -> Parsed {
    match call.len() {
        2 => Err(error::fixed(
            "ERR AUTH <password> called without any password configured for the default user. Are \
             you sure your configuration is correct?",
        )),
        3 => check_user(call.arg(1)).map(|()| Action::Answer(Value::OK)),
        _ => Err(error::fixed(error::SYNTAX)),
    }
}

fn select(call: &mut Call<'_>) -> Parsed {
    match call.integer(1)? {
        0 => Ok(Action::Answer(Value::OK)),
        _ => Err(error::fixed("ERR SELECT is not allowed in cluster mode")),
    }
}

/// A name that a line of CLIENT LIST can hold.
pub(super) fn is_plain(name: &[u8]) -> bool {
    name.iter().all(|byte| byte.is_ascii_graphic())
}

pub(super) const BAD_NAME: &str =
    "ERR Client names cannot contain spaces, newlines or special characters.";

/// Nothing is changed unless everything is in order.
fn hello(call: &mut Call<'_>) -> Parsed {
    let protocol = match call.args.get(1).map(|version| canonical_i64(version)) {
        None => call.session.protocol,
        Some(Some(2)) => Protocol::Resp2,
        Some(Some(3)) => Protocol::Resp3,
        Some(Some(_)) => return Err(error::fixed("NOPROTO unsupported protocol version")),
        Some(None) => {
            return Err(error::fixed("ERR Protocol version is not an integer or out of range"));
        }
    };
    let mut name: Option<Bytes> = None;
    let mut at = 2;
    while at < call.len() {
        let rest = call.len() - at - 1;
        if call.is(at, "AUTH") && rest >= 2 {
            check_user(call.arg(at + 1))?;
            at += 3;
        } else if call.is(at, "SETNAME") && rest >= 1 {
            if !is_plain(call.arg(at + 1)) {
                return Err(error::fixed(BAD_NAME));
            }
            name = Some(call.take(at + 1));
            at += 2;
        } else {
            let start = b"ERR Syntax error in HELLO option '";
            return Err(Value::error([&start[..], call.arg(at), b"'"].concat()));
        }
    }
    call.session.protocol = protocol;
    if let Some(name) = name {
        call.session.name = name;
    }
    let pairs = [
        ("server", Value::bulk("redis")),
        ("version", Value::bulk(REDIS_VERSION)),
        ("proto", Value::Integer(protocol.number())),
        ("id", Value::count(call.session.id)),
        ("mode", Value::bulk("cluster")),
        ("role", Value::bulk("master")),
        ("modules", Value::Array(Vec::new())),
    ];
    Ok(Action::Answer(Value::Map(pairs.map(|(key, value)| (Value::bulk(key), value)).into())))
}
