//! Histories drawn as text: a row per client, a column per microsecond.
//!
//! ```text
//! 1: [put a]      [get ab]
//! 2:    [append b~
//! ```
//!
//! Columns are counted from the colon behind the client. `[` stands at the invocation and `]` at
//! the return; `~` leaves the outcome unknown. Operations: `put V`,
//! `append V`, `append V =LENGTH`, `get V`, `get V vN`, `get -` (absent), `del yes`,
//! `del no`, `cas N V ok` (now at version N + 1), `cas N V M` (now at M), `cas N V version`,
//! `cas N V nokey`. `''` is the empty value. A word that ends in `:` before these names the key.

use quorate_history::{Blob, History, Input, Operation, Outcome, Output};

/// Reads a drawing.
pub(crate) fn history(drawing: &str) -> History {
    let mut ops = Vec::new();
    for row in drawing.lines().filter(|row| !row.trim().is_empty()) {
        let (client, row) = row.split_once(':').expect("a row begins with its client");
        let client = client.trim().parse().expect("a client is a number");
        let mut from = 0;
        while let Some(start) = row[from..].find('[').map(|at| from + at) {
            let end = start + row[start..].find([']', '~']).expect("an operation ends");
            let is_known = row.as_bytes()[end] == b']';
            ops.push(operation(client, &row[start + 1..end], start as u64, end as u64, is_known));
            from = end;
        }
    }
    History { ops }
}

fn operation(client: u64, text: &str, invoked: u64, at: u64, is_known: bool) -> Operation {
    let mut words: Vec<&str> = text.split_whitespace().collect();
    let key = match words[0].strip_suffix(':') {
        Some(key) => {
            words.remove(0);
            key
        }
        None => "x",
    };
    let (input, output) = match words[..] {
        ["put", value] => (Input::Put { value: blob(value) }, Some(Output::Done)),
        ["append", value] => (Input::Append { value: blob(value) }, Some(Output::Done)),
        ["append", value, length] => {
            let length = length.trim_start_matches('=').parse().expect("a length");
            (Input::Append { value: blob(value) }, Some(Output::Length(length)))
        }
        ["get"] => (Input::Get, None),
        ["get", "-"] => (Input::Get, Some(Output::Absent)),
        ["get", value] => (Input::Get, Some(Output::Value { value: blob(value), version: None })),
        ["get", value, version] => {
            let version = Some(version.trim_start_matches('v').parse().expect("a version"));
            (Input::Get, Some(Output::Value { value: blob(value), version }))
        }
        ["del"] => (Input::Delete, None),
        ["del", answer] => (Input::Delete, Some(Output::Deleted { present: answer == "yes" })),
        ["cas", version, value] => (cas(version, value), None),
        ["cas", version, value, answer] => {
            let output = match answer {
                "version" => Output::ErrVersion,
                "nokey" => Output::ErrNoKey,
                "ok" => Output::Stored { version: version.parse::<u64>().expect("version") + 1 },
                answer => Output::Stored { version: answer.parse().expect("a version") },
            };
            (cas(version, value), Some(output))
        }
        _ => panic!("what is [{text}]?"),
    };
    let outcome = match output {
        Some(output) if is_known => Outcome::Returned { at, output },
        _ => Outcome::Unknown,
    };
    Operation { client, key: key.as_bytes().into(), input, invoked, outcome }
}

fn cas(version: &str, value: &str) -> Input {
    Input::Cas { value: blob(value), version: version.parse().expect("a version") }
}

fn blob(value: &str) -> Blob {
    let value = if value == "''" { "" } else { value };
    value.as_bytes().into()
}
