//! `quorate crash`: an actor panics on purpose, and restarts from what is durable.

use clap::Args as ClapArgs;
use serde_json::json;

use crate::exit::{Done, Failure, Kind};
use crate::{http, output};

/// `quorate crash`.
#[derive(Debug, ClapArgs)]
pub(crate) struct Args {
    /// The node's debug URL, such as http://127.0.0.1:7101
    debug_url: String,
    /// The actor's name, as GET /debug/actors lists it
    actor: String,
    /// Answer in JSON
    #[arg(long)]
    json: bool,
}

/// Runs `quorate crash`.
pub(crate) fn run(args: Args) -> Done {
    let Args { debug_url, actor, json } = args;
    let fail = |kind, text: String| Failure::new(kind, text).in_json(json);
    let path = format!("/debug/actors/{}/crash", escape(&actor));
    let answer =
        http::request("POST", &debug_url, &path).map_err(|text| fail(Kind::Unreachable, text))?;
    match answer.status {
        200..300 => {
            let line = json!({ "actor": actor, "crashed": true }).to_string();
            let text = format!("{actor} has been told to crash");
            let _ = output::say(if json { &line } else { &text });
            Ok(())
        }
        status => {
            let body = answer.body.trim();
            Err(fail(Kind::Refused, format!("the node has refused: {status} {body}")))
        }
    }
}

/// A name as part of a path.
fn escape(name: &str) -> String {
    let mut text = String::new();
    for byte in name.bytes() {
        match byte {
            b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'-' | b'_' | b'.' | b'~' | b'/' => {
                text.push(char::from(byte));
            }
            _ => text += &format!("%{byte:02X}"),
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_escaped() {
        assert_eq!(escape("g1.acceptor-2"), "g1.acceptor-2");
        assert_eq!(escape("n1/g1 x?"), "n1/g1%20x%3F");
    }
}
