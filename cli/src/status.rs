//! `quorate status`: how each node stands, as its debug endpoints tell it.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use clap::Args as ClapArgs;
use quorate_dashboard::GroupStatus;
use quorate_gateway::resp::Value;
use quorate_node::config::NodeConfig;
use serde::Deserialize;
use serde_json::{Value as Json, json};
use std::time::Duration;

use crate::exit::{Done, Failure, Kind};
use crate::resp::Client;
use crate::{http, output};

/// How long a node may take to answer PING.
const LIMIT: Duration = Duration::from_secs(2);

/// `quorate status`.
#[derive(Debug, ClapArgs)]
pub(crate) struct Args {
    /// Debug URLs of the nodes [default: those of `quorate local`, http://127.0.0.1:7101 to 7103]
    #[arg(long, value_name = "URL", value_delimiter = ',', num_args = 1..)]
    debug: Vec<String>,
    /// Addresses for clients: shows which answer there
    #[arg(long, value_name = "HOST:PORT", value_delimiter = ',', num_args = 1..)]
    node: Vec<String>,
    /// The directory of a `quorate local`: asks all its nodes
    #[arg(long)]
    dir: Option<PathBuf>,
    /// Answer in JSON
    #[arg(long)]
    json: bool,
}

/// What GET /debug/status answers. Fields that are not known here are left alone.
#[derive(Clone, Debug, PartialEq, Deserialize)]
pub(crate) struct Status {
    pub(crate) node: u32,
    leader: Option<u32>,
    #[serde(default)]
    applied: u64,
    #[serde(default)]
    checkpointed: u64,
    #[serde(default)]
    commands: u64,
    #[serde(default)]
    waiting: u64,
    #[serde(default)]
    ready: bool,
    #[serde(default)]
    pub(crate) groups: Vec<GroupStatus>,
}

/// One node, as far as is known.
struct Row {
    /// Who was asked.
    address: String,
    /// What came back.
    answer: Result<Option<Status>, String>,
}

/// Runs `quorate status`.
pub(crate) fn run(args: Args) -> Done {
    let Args { mut debug, node, dir, json } = args;
    if let Some(dir) = dir {
        let found = debug_urls(&dir).map_err(|text| Failure::usage(text).in_json(json))?;
        debug.extend(found);
    }
    if debug.is_empty() && node.is_empty() {
        debug = (7101..=7103).map(|port| format!("http://127.0.0.1:{port}")).collect();
    }
    let by_debug = debug.into_iter().map(|address| {
        let answer = ask(&address).map(Some);
        Row { address, answer }
    });
    let by_resp = node.into_iter().map(|address| {
        let answer = ping(&address).map(|()| None);
        Row { address, answer }
    });
    let rows: Vec<Row> = by_debug.chain(by_resp).collect();
    let text = if json {
        let nodes: Vec<Json> = rows.iter().map(Row::to_json).collect();
        json!({ "nodes": nodes }).to_string()
    } else {
        show(&rows)
    };
    let _ = output::say(text.trim_end());
    if rows.iter().all(|row| row.answer.is_err()) {
        let text = "no node answers; --debug, --node or --dir say where to look";
        let failure = Failure::new(Kind::Unreachable, text);
        return Err(if json { failure.silent() } else { failure });
    }
    Ok(())
}

/// The debug URLs of the nodes below a local cluster's directory.
pub(crate) fn debug_urls(dir: &Path) -> Result<Vec<String>, String> {
    let mut urls = Vec::new();
    for node in 1.. {
        let file = dir.join(format!("n{node}")).join("node.toml");
        if !file.exists() {
            break;
        }
        let config = NodeConfig::read(&file).map_err(|error| error.to_string())?;
        urls.push(format!("http://{}", config.listen_debug));
    }
    if urls.is_empty() {
        return Err(format!("{} is not the directory of a `quorate local`", dir.display()));
    }
    Ok(urls)
}

pub(crate) fn ask(url: &str) -> Result<Status, String> {
    let answer = http::request("GET", url, "/debug/status")?;
    match answer.status {
        200 => serde_json::from_str(&answer.body)
            .map_err(|error| format!("{url} has answered something else: {error}")),
        status => Err(format!("{url} has answered {status}")),
    }
}

fn ping(address: &str) -> Result<(), String> {
    let answer = Client::connect(address, LIMIT).and_then(|mut client| client.ask(&[b"PING"]));
    match answer.map_err(|trouble| trouble.to_string())? {
        Value::Simple(text) if text == "PONG" => Ok(()),
        Value::Error(text) => Err(String::from_utf8_lossy(&text).into_owned()),
        other => Err(format!("{address} has answered {other:?} to PING")),
    }
}

fn show(rows: &[Row]) -> String {
    let head = ["node", "state", "leader", "applied", "checkpoint", "commands", "waiting", "at"];
    let cells: Vec<Vec<String>> = rows.iter().map(Row::to_cells).collect();
    let mut text = output::table(&head, &cells);
    let groups = groups(rows);
    if groups.len() > 1 {
        let head = ["group", "leader", "shards", "keys", "bytes", "lag", "configuration", "moving"];
        text += &format!("\n{}", output::table(&head, &groups));
    }
    for trouble in rows.iter().filter_map(|row| row.answer.as_ref().err()) {
        text += &format!("\n{trouble}");
    }
    text
}

/// One line for each group, out of what its replicas say.
fn groups(rows: &[Row]) -> Vec<Vec<String>> {
    let mut replicas: BTreeMap<u32, Vec<&GroupStatus>> = BTreeMap::new();
    let nodes = rows.iter().filter_map(|row| row.answer.as_ref().ok()?.as_ref());
    for group in nodes.flat_map(|status| &status.groups) {
        replicas.entry(group.group).or_default().push(group);
    }
    let line = |(group, replicas): (u32, Vec<&GroupStatus>)| {
        let applied = replicas.iter().map(|replica| replica.status.applied);
        let (least, most) = (applied.clone().min(), applied.max());
        let lag = most.unwrap_or_default() - least.unwrap_or_default();
        let furthest = replicas.iter().max_by_key(|replica| replica.status.applied)?;
        let leader = replicas.iter().find_map(|replica| replica.status.leader);
        let (keys, bytes) = furthest.status.size;
        let none = || "-".to_string();
        let shards = furthest.shards.as_ref();
        Some(vec![
            if group == 0 { "shardmaster".into() } else { format!("g{group}") },
            leader.map_or_else(none, |leader| leader.to_string()),
            shards.map_or_else(none, |shards| shards.serving.to_string()),
            if group == 0 { none() } else { keys.to_string() },
            if group == 0 { none() } else { bytes.to_string() },
            lag.to_string(),
            shards.map_or_else(none, |shards| shards.configuration.to_string()),
            shards.map_or_else(none, |shards| shards.moving.len().to_string()),
        ])
    };
    replicas.into_iter().filter_map(line).collect()
}

impl Row {
    fn to_cells(&self) -> Vec<String> {
        let none = || "-".to_string();
        let address = self.address.clone();
        match &self.answer {
            Ok(Some(status)) => vec![
                status.node.to_string(),
                if status.ready { "ready".into() } else { "recovering".into() },
                status.leader.map_or_else(none, |leader| leader.to_string()),
                status.applied.to_string(),
                status.checkpointed.to_string(),
                status.commands.to_string(),
                status.waiting.to_string(),
                address,
            ],
            answer => {
                let state = if answer.is_ok() { "up" } else { "down" };
                let rest = [none(), none(), none(), none(), none(), address];
                [none(), state.to_string()].into_iter().chain(rest).collect()
            }
        }
    }

    fn to_json(&self) -> Json {
        let at = &self.address;
        match &self.answer {
            Ok(Some(status)) => json!({
                "at": at, "up": true, "node": status.node, "leader": status.leader,
                "applied": status.applied, "checkpointed": status.checkpointed,
                "commands": status.commands, "waiting": status.waiting, "ready": status.ready,
                "groups": status.groups,
            }),
            Ok(None) => json!({ "at": at, "up": true }),
            Err(text) => json!({ "at": at, "up": false, "error": text }),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_table_shows_who_is_there_and_who_is_not() {
        let body = r#"{"node":1,"leader":2,"applied":70,"checkpointed":64,"commands":9,
            "duplicates":0,"waiting":3,"ready":true}"#;
        let up = Row {
            address: "http://127.0.0.1:7101".into(),
            answer: Ok(Some(serde_json::from_str(body).unwrap())),
        };
        let down =
            Row { address: "http://127.0.0.1:7102".into(), answer: Err("nobody there".into()) };
        let expected = "\
node  state  leader  applied  checkpoint  commands  waiting  at
   1  ready       2       70          64         9        3  http://127.0.0.1:7101
-     down   -       -        -           -         -        http://127.0.0.1:7102

nobody there";
        assert_eq!(show(&[up, down]), expected);
    }
}
