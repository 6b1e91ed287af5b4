//! `quorate get|put|append|delete|cas`: one operation, asked once.
//!
//! An outcome that is not known is said to be unknown; nothing is sent a second time.

use std::ffi::OsString;
use std::io::{self, IsTerminal, Read, Write};
use std::os::unix::ffi::OsStringExt;
use std::time::Duration;

use clap::Args;
use quorate_gateway::resp::Value;
use serde_json::{Value as Json, json};

use crate::exit::{Done, Failure, Kind};
use crate::output;
use crate::resp::{Client, Trouble};

/// Where to ask, and how to answer.
#[derive(Debug, Args)]
pub(crate) struct Target {
    /// A node's address for clients; any node answers for any key
    #[arg(long, value_name = "HOST:PORT", default_value = "127.0.0.1:7001")]
    node: String,
    /// Milliseconds to wait for the answer; the node itself gives up after 10000
    #[arg(long, value_name = "N", default_value_t = 12_000, value_parser = limit)]
    timeout_ms: u64,
    /// Answer in JSON
    #[arg(long)]
    json: bool,
}

fn limit(text: &str) -> Result<u64, String> {
    match text.parse() {
        Ok(0) | Err(_) => Err("a number of milliseconds above 0".into()),
        Ok(limit) => Ok(limit),
    }
}

/// `quorate get`.
#[derive(Debug, Args)]
pub(crate) struct Get {
    /// The key
    key: OsString,
    /// Show the version as well, which `quorate cas` asks for
    #[arg(long)]
    version: bool,
    #[command(flatten)]
    target: Target,
}

/// `quorate put`.
#[derive(Debug, Args)]
pub(crate) struct Put {
    /// The key
    key: OsString,
    /// The value, any bytes; `-` reads it from standard input
    #[arg(allow_negative_numbers = true)]
    value: OsString,
    #[command(flatten)]
    target: Target,
}

/// `quorate append`.
#[derive(Debug, Args)]
pub(crate) struct Append {
    /// The key
    key: OsString,
    /// What to append, any bytes; `-` reads it from standard input
    #[arg(allow_negative_numbers = true)]
    value: OsString,
    #[command(flatten)]
    target: Target,
}

/// `quorate delete`.
#[derive(Debug, Args)]
pub(crate) struct Delete {
    /// The key
    key: OsString,
    #[command(flatten)]
    target: Target,
}

/// `quorate cas`.
#[derive(Debug, Args)]
pub(crate) struct Cas {
    /// The key
    key: OsString,
    /// The value, any bytes; `-` reads it from standard input
    #[arg(allow_negative_numbers = true)]
    value: OsString,
    /// The version that must be stored, as `quorate get --version` shows it; 0: absent
    version: u64,
    #[command(flatten)]
    target: Target,
}

/// Runs `quorate get`.
pub(crate) fn get(args: Get) -> Done {
    let Get { key, version, target } = args;
    let key = key.into_vec();
    let name: &[u8] = if version { b"VGET" } else { b"GET" };
    let found = match target.ask(&[name, &key], Effect::Read)? {
        Value::Null | Value::NullArray => None,
        Value::Bulk(value) if !version => Some((value, None)),
        Value::Array(items) if version => match &items[..] {
            [Value::Bulk(value), Value::Integer(version)] => Some((value.clone(), Some(*version))),
            _ => return Err(target.strange(&Value::Array(items), Effect::Read)),
        },
        other => return Err(target.strange(&other, Effect::Read)),
    };
    let Some((value, version)) = found else {
        if !target.json {
            return Err(Failure::new(Kind::Refused, "the key is absent"));
        }
        target.say(&json!({ "key": output::bytes(&key), "found": false }), "")?;
        return Err(Failure::new(Kind::Refused, "").silent());
    };
    if target.json {
        let mut answer = json!({
            "key": output::bytes(&key), "found": true, "value": output::bytes(&value)
        });
        if let Some(version) = version {
            answer["version"] = json!(version);
        }
        return target.say(&answer, "");
    }
    if let Some(version) = version {
        target.say(&Json::Null, &format!("version {version}"))?;
    }
    let mut out = io::stdout().lock();
    let end: &[u8] = if out.is_terminal() { b"\n" } else { b"" };
    out.write_all(&value).and_then(|()| out.write_all(end)).and_then(|()| out.flush()).map_err(
        |error| Failure::new(Kind::Refused, format!("the value cannot be written: {error}")),
    )
}

/// Runs `quorate put`.
pub(crate) fn put(args: Put) -> Done {
    let Put { key, value, target } = args;
    let (key, value) = (key.into_vec(), input(value)?);
    match target.ask(&[b"SET", &key, &value], Effect::Write)? {
        Value::Simple(text) if text == "OK" => {
            target.say(&json!({ "key": output::bytes(&key), "ok": true }), "OK")
        }
        other => Err(target.strange(&other, Effect::Write)),
    }
}

/// Runs `quorate append`.
pub(crate) fn append(args: Append) -> Done {
    let Append { key, value, target } = args;
    let (key, value) = (key.into_vec(), input(value)?);
    match target.ask(&[b"APPEND", &key, &value], Effect::Write)? {
        Value::Integer(length) => {
            let text = format!("OK, {length} bytes now");
            target.say(&json!({ "key": output::bytes(&key), "ok": true, "length": length }), &text)
        }
        other => Err(target.strange(&other, Effect::Write)),
    }
}

/// Runs `quorate delete`.
pub(crate) fn delete(args: Delete) -> Done {
    let Delete { key, target } = args;
    let key = key.into_vec();
    match target.ask(&[b"DEL", &key], Effect::Write)? {
        Value::Integer(removed) => {
            let text = if removed > 0 { "OK" } else { "OK, the key was absent already" };
            let found = removed > 0;
            target.say(&json!({ "key": output::bytes(&key), "ok": true, "found": found }), text)
        }
        other => Err(target.strange(&other, Effect::Write)),
    }
}

/// Runs `quorate cas`.
pub(crate) fn cas(args: Cas) -> Done {
    let Cas { key, value, version, target } = args;
    let (key, value) = (key.into_vec(), input(value)?);
    let expected = version.to_string();
    match target.ask(&[b"VPUT", &key, &value, expected.as_bytes()], Effect::Write)? {
        Value::Integer(version) => {
            let answer = json!({ "key": output::bytes(&key), "ok": true, "version": version });
            target.say(&answer, &format!("OK, version {version}"))
        }
        other => Err(target.strange(&other, Effect::Write)),
    }
}

/// A value from the command line, or from standard input.
fn input(value: OsString) -> Result<Vec<u8>, Failure> {
    let value = value.into_vec();
    if value != b"-" {
        return Ok(value);
    }
    let mut bytes = Vec::new();
    io::stdin().lock().read_to_end(&mut bytes).map_err(|error| {
        Failure::usage(format!("the value cannot be read from standard input: {error}"))
    })?;
    Ok(bytes)
}

/// Whether an operation may have changed something although no answer came.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Effect {
    Read,
    Write,
}

impl Target {
    /// Asks once. An error answer is a failure already.
    fn ask(&self, args: &[&[u8]], effect: Effect) -> Result<Value, Failure> {
        let timeout = Duration::from_millis(self.timeout_ms);
        let answer = Client::connect(&self.node, timeout).and_then(|mut client| client.ask(args));
        match answer {
            Ok(Value::Error(text)) => {
                Err(refused(&String::from_utf8_lossy(&text), effect).in_json(self.json))
            }
            Ok(value) => Ok(value),
            Err(trouble) => Err(troubled(&trouble, effect).in_json(self.json)),
        }
    }

    /// An answer of a kind that the command does not have.
    fn strange(&self, value: &Value, effect: Effect) -> Failure {
        let kind = if effect == Effect::Write { Kind::Unknown } else { Kind::Refused };
        let text = format!("{} is no Quorate node? It has answered {value:?}", self.node);
        Failure::new(kind, text).in_json(self.json)
    }

    fn say(&self, answer: &Json, text: &str) -> Done {
        let line = if self.json { &answer.to_string() } else { text };
        output::say(line).map_err(|error| {
            Failure::new(Kind::Refused, format!("done, but it cannot be said: {error}"))
        })
    }
}

/// What an error answer means for the caller.
fn refused(text: &str, effect: Effect) -> Failure {
    let word = text.split(' ').next().unwrap_or_default();
    let kind = match (word, effect) {
        ("INDETERMINATE", Effect::Write) => Kind::Unknown,
        _ => Kind::Refused,
    };
    let text = match kind {
        Kind::Unknown => format!("outcome unknown: {text}"),
        _ => text.to_string(),
    };
    Failure::new(kind, text)
}

/// What a missing answer means for the caller.
fn troubled(trouble: &Trouble, effect: Effect) -> Failure {
    match (trouble, effect) {
        (Trouble::Unreachable(text), _) => Failure::new(Kind::Unreachable, text.clone()),
        (Trouble::NoAnswer(text), Effect::Read) => Failure::new(Kind::Unreachable, text.clone()),
        (Trouble::NoAnswer(text), Effect::Write) => {
            let text = format!("outcome unknown: {text}; read the key before sending it again");
            Failure::new(Kind::Unknown, text)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_unknown_outcome_of_a_write_is_exit_code_3() {
        for (text, effect, kind) in [
            ("INDETERMINATE the outcome is unknown", Effect::Write, Kind::Unknown),
            ("CLUSTERDOWN no majority; the command was not executed", Effect::Write, Kind::Refused),
            ("VERSION stored version is 4", Effect::Write, Kind::Refused),
            ("CLUSTERDOWN no majority", Effect::Read, Kind::Refused),
        ] {
            assert_eq!(refused(text, effect).kind, kind, "{text}");
        }
    }

    #[test]
    fn only_a_write_that_left_is_unknown() {
        let lost = Trouble::NoAnswer("lost".into());
        let nobody = Trouble::Unreachable("nobody".into());
        assert_eq!(troubled(&lost, Effect::Write).kind, Kind::Unknown);
        assert_eq!(troubled(&lost, Effect::Read).kind, Kind::Unreachable);
        assert_eq!(troubled(&nobody, Effect::Write).kind, Kind::Unreachable);
    }
}
