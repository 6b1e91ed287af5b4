//! `quorate shards`: who serves what, and how to change it.
//!
//! A change is made when the shardmaster has it; then the shards move, and that is shown until all of
//! them are where they belong. Whoever does not want to wait may go: nothing depends on it.

use std::io::{self, IsTerminal, Write};
use std::path::PathBuf;
use std::time::Duration;

use clap::{Args as ClapArgs, Subcommand};
use indicatif::{ProgressBar, ProgressStyle};
use quorate_dashboard::GroupStatus;
use quorate_gateway::resp::Value;
use serde_json::json;

use crate::exit::{Done, Failure, Kind};
use crate::resp::{Client, Trouble};
use crate::{clock, output, status};

/// How long a node may take to answer; it gives up itself before.
const LIMIT: Duration = Duration::from_secs(12);
/// How often it is looked how far the shards are.
const LOOK: Duration = Duration::from_millis(100);
/// How often a line is written where there is no terminal.
const LINE: Duration = Duration::from_secs(2);

/// `quorate shards`.
#[derive(Debug, ClapArgs)]
pub(crate) struct Args {
    #[command(subcommand)]
    what: What,
    /// A node's address for clients
    #[arg(long, global = true, value_name = "HOST:PORT", default_value = "127.0.0.1:7001")]
    node: String,
    /// Debug URLs of the nodes, to see the shards move [default: http://127.0.0.1:7101 to 7103]
    #[arg(long, global = true, value_name = "URL", value_delimiter = ',')]
    debug: Vec<String>,
    /// The directory of a `quorate local`: looks at all its nodes
    #[arg(long, global = true)]
    dir: Option<PathBuf>,
    /// Do not wait until the shards have moved
    #[arg(long, global = true)]
    no_wait: bool,
    /// Answer in JSON
    #[arg(long, global = true)]
    json: bool,
}

#[derive(Debug, Subcommand)]
enum What {
    /// Show which group serves which shards
    Query {
        /// The number of a configuration [default: the newest]
        number: Option<u64>,
    },
    /// Let groups serve too: each gets an even share
    Join {
        /// Groups, as g2 or 2
        #[arg(required = true)]
        groups: Vec<String>,
    },
    /// Take all shards away from groups
    Leave {
        /// Groups, as g2 or 2
        #[arg(required = true)]
        groups: Vec<String>,
        /// Though no group is left: what they hold is gone
        #[arg(long)]
        even_the_last: bool,
    },
    /// Give a shard to a group, until the next join, leave or rebalance
    Move {
        /// The shard, as s7 or 7
        shard: String,
        /// The group, as g2 or 2
        group: String,
    },
    /// Give each group an even share of the shards
    Rebalance,
}

/// Runs `quorate shards`.
pub(crate) fn run(args: Args) -> Done {
    let json = args.json;
    change(args).map_err(|failure| failure.in_json(json))
}

fn change(args: Args) -> Done {
    let mut words: Vec<String> = vec!["SHARDS".into()];
    match &args.what {
        What::Query { number } => {
            words.push("QUERY".into());
            words.extend(number.map(|number| number.to_string()));
        }
        What::Join { groups } => {
            words.push("JOIN".into());
            words.extend(groups.clone());
        }
        What::Leave { groups, even_the_last } => {
            words.push("LEAVE".into());
            words.extend(groups.clone());
            words.extend(even_the_last.then(|| "EVENTHELAST".into()));
        }
        What::Move { shard, group } => {
            words.extend(["MOVE".into(), shard.clone(), group.clone()]);
        }
        What::Rebalance => words.push("REBALANCE".into()),
    }
    let begun = clock::now();
    let answer = ask(&args.node, &words)?;
    match answer {
        Value::Integer(number) => {
            let number = u64::try_from(number).unwrap_or_default();
            if !args.json {
                let _ = output::say(&format!("configuration {number} it is"));
            }
            let settled = if args.no_wait { None } else { watch(&args, number)? };
            let took_ms = begun.elapsed().as_millis() as u64;
            let line = json!({ "number": number, "settled": settled, "took_ms": took_ms });
            let text = match settled {
                Some(true) => format!("all shards are in their places after {took_ms} ms"),
                _ => return done(args.json, &line.to_string()),
            };
            let _ = output::say(if args.json { line.to_string() } else { text }.as_str());
            Ok(())
        }
        configuration => show(&configuration, args.json),
    }
}

fn done(json: bool, line: &str) -> Done {
    if json {
        let _ = output::say(line);
    }
    Ok(())
}

fn ask(node: &str, words: &[String]) -> Result<Value, Failure> {
    let words: Vec<&[u8]> = words.iter().map(String::as_bytes).collect();
    let answer = Client::connect(node, LIMIT).and_then(|mut client| client.ask(&words));
    match answer {
        Ok(Value::Error(text)) => {
            let text = String::from_utf8_lossy(&text).into_owned();
            let kind = match text.starts_with("INDETERMINATE") {
                true => Kind::Unknown,
                false => Kind::Refused,
            };
            Err(Failure::new(kind, text))
        }
        Ok(answer) => Ok(answer),
        Err(Trouble::Unreachable(text)) => Err(Failure::new(Kind::Unreachable, text)),
        Err(Trouble::NoAnswer(text)) => Err(Failure::new(
            Kind::Unknown,
            format!("{text}; `quorate shards query` shows what is"),
        )),
    }
}

/// How far the shards are, out of what all nodes say.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Progress {
    /// Groups that have not taken over the configuration.
    behind: usize,
    /// Shards on their way.
    moving: usize,
    /// Bytes that have come, of those that are coming just now.
    bytes: u64,
    total: u64,
}

fn progress(nodes: &[status::Status], number: u64) -> Progress {
    let mut furthest: std::collections::BTreeMap<u32, &GroupStatus> = Default::default();
    let groups = nodes.iter().flat_map(|node| &node.groups).filter(|group| group.shards.is_some());
    for group in groups {
        let best = furthest.entry(group.group).or_insert(group);
        if group.status.applied > best.status.applied {
            *best = group;
        }
    }
    let mut progress = Progress::default();
    for shards in furthest.values().filter_map(|group| group.shards.as_ref()) {
        progress.behind += usize::from(shards.configuration < number);
        let awaited = shards.moving.iter().filter(|moving| moving.phase == "awaited");
        for moving in awaited {
            progress.moving += 1;
            progress.bytes += moving.bytes;
            progress.total += moving.total.unwrap_or_default();
        }
        // Those that are kept until the other group has said that it has them.
        progress.moving += shards.moving.iter().filter(|moving| moving.phase == "given-up").count();
    }
    progress
}

/// Shows the shards move until they are in their places; `None` if that cannot be seen.
fn watch(args: &Args, number: u64) -> Result<Option<bool>, Failure> {
    let mut urls = args.debug.clone();
    if let Some(dir) = &args.dir {
        urls.extend(status::debug_urls(dir).map_err(Failure::usage)?);
    }
    if urls.is_empty() {
        urls = (7101..=7103).map(|port| format!("http://127.0.0.1:{port}")).collect();
    }
    let is_terminal = io::stderr().is_terminal();
    let bar = is_terminal.then(ProgressBar::new_spinner);
    if let (Some(bar), Ok(style)) = (&bar, ProgressStyle::with_template("{spinner} {bar:30} {msg}"))
    {
        bar.set_style(style);
    }
    let (mut most, mut said) = (0, clock::now());
    loop {
        let nodes: Vec<status::Status> =
            urls.iter().filter_map(|url| status::ask(url).ok()).collect();
        if nodes.is_empty() {
            let text =
                "the shards move; no debug endpoint answers that would show it (--debug, --dir)";
            let _ = writeln!(io::stderr(), "{text}");
            return Ok(None);
        }
        let now = progress(&nodes, number);
        if now.behind == 0 && now.moving == 0 {
            bar.iter().for_each(ProgressBar::finish_and_clear);
            return Ok(Some(true));
        }
        most = most.max(now.moving as u64);
        let bytes = match now.total {
            0 => String::new(),
            total => format!(
                ", {} of {} bytes of those under way",
                output::thousands(now.bytes),
                output::thousands(total)
            ),
        };
        let text = format!("{} shards to go{bytes}", now.moving);
        match &bar {
            Some(bar) => {
                bar.set_length(most);
                bar.set_position(most - now.moving as u64);
                bar.set_message(text);
            }
            None if said.elapsed() >= LINE && !args.json => {
                let _ = writeln!(io::stderr(), "{text}");
                said = clock::now();
            }
            None => {}
        }
        clock::pause(LOOK);
    }
}

/// A configuration, as SHARDS QUERY answers it.
fn show(configuration: &Value, json: bool) -> Done {
    let strange = || Failure::new(Kind::Refused, format!("a strange answer: {configuration:?}"));
    let read = read(configuration).ok_or_else(strange)?;
    if json {
        let _ = output::say(&read.to_string());
        return Ok(());
    }
    let list = |value: &serde_json::Value| value.as_array().cloned().unwrap_or_default();
    let mut text = format!("configuration {}, {} shards\n\n", read["number"], read["shards"]);
    let ranges = |group: &serde_json::Value| {
        let own = list(&read["owners"]).into_iter().filter(|range| range["group"] == *group);
        let own = own.map(|range| match range["first"] == range["last"] {
            true => range["first"].to_string(),
            false => format!("{}-{}", range["first"], range["last"]),
        });
        own.collect::<Vec<String>>().join(" ")
    };
    let rows = list(&read["groups"]).into_iter().map(|group| {
        let nodes = list(&group["nodes"]).iter().map(ToString::to_string).collect::<Vec<_>>();
        let number = format!("g{}", group["group"]);
        vec![number, nodes.join(","), group["shards"].to_string(), ranges(&group["group"])]
    });
    let rows: Vec<Vec<String>> = rows.collect();
    text += &output::table(&["group", "nodes", "shards", "which"], &rows);
    let nobodys = ranges(&json!(0));
    if !nobodys.is_empty() {
        text += &format!("\nnobody serves {nobodys}: `quorate shards join` a group\n");
    }
    let _ = output::say(text.trim_end());
    Ok(())
}

fn read(configuration: &Value) -> Option<serde_json::Value> {
    let field = |name: &str| match configuration {
        Value::Map(pairs) => {
            let found = pairs.iter().find(|(key, _)| *key == Value::bulk(name.to_owned()));
            found.map(|(_, value)| value)
        }
        Value::Array(items) => {
            let place = items.iter().position(|item| *item == Value::bulk(name.to_owned()))?;
            items.get(place + 1)
        }
        _ => None,
    };
    let integer = |value: &Value| match value {
        Value::Integer(number) => Some(*number),
        _ => None,
    };
    let items = |value: &Value| match value {
        Value::Array(items) => Some(items.clone()),
        _ => None,
    };
    let group = |value: &Value| {
        let [group, nodes, shards] = &items(value)?[..] else { return None };
        let nodes: Option<Vec<i64>> = items(nodes)?.iter().map(integer).collect();
        Some(json!({ "group": integer(group)?, "nodes": nodes?, "shards": integer(shards)? }))
    };
    let range = |value: &Value| {
        let [first, last, group] = &items(value)?[..] else { return None };
        let (first, last, group) = (integer(first)?, integer(last)?, integer(group)?);
        Some(json!({ "first": first, "last": last, "group": group }))
    };
    let groups: Option<Vec<_>> = items(field("groups")?)?.iter().map(group).collect();
    let owners: Option<Vec<_>> = items(field("owners")?)?.iter().map(range).collect();
    Some(json!({
        "number": integer(field("number")?)?,
        "shards": integer(field("shards")?)?,
        "groups": groups?,
        "owners": owners?,
    }))
}

#[cfg(test)]
mod tests {
    use quorate_dashboard::{MovingShard, Shards};

    use super::*;

    fn node(applied: u64, configuration: u64, moving: &[&str]) -> status::Status {
        let moving = moving.iter().map(|phase| MovingShard {
            phase: (*phase).to_string(),
            bytes: 10,
            total: Some(30),
            ..MovingShard::default()
        });
        let shards = Shards { configuration, serving: 3, moving: moving.collect() };
        let mut group = GroupStatus { group: 1, shards: Some(shards), ..GroupStatus::default() };
        group.status.applied = applied;
        let body = json!({ "node": 1, "leader": 1, "groups": [group] });
        serde_json::from_value(body).unwrap()
    }

    #[test]
    fn the_furthest_replica_of_a_group_says_how_far_it_is() {
        let behind = node(7, 3, &["awaited", "awaited"]);
        let ahead = node(9, 4, &["awaited", "leaving", "given-up"]);
        let now = progress(&[behind.clone(), ahead.clone()], 4);
        assert_eq!(now, Progress { behind: 0, moving: 2, bytes: 10, total: 30 });
        assert_eq!(progress(&[behind], 4).behind, 1);
        assert_eq!(progress(&[node(9, 4, &[])], 4), Progress::default());
    }

    #[test]
    fn a_configuration_is_read_in_both_protocols() {
        let int = Value::Integer;
        let group = Value::Array(vec![int(1), Value::Array(vec![int(1), int(2)]), int(4)]);
        let pairs = vec![
            (Value::bulk("number"), int(7)),
            (Value::bulk("shards"), int(4)),
            (Value::bulk("groups"), Value::Array(vec![group])),
            (Value::bulk("owners"), Value::Array(vec![Value::Array(vec![int(0), int(3), int(1)])])),
        ];
        let flat = pairs.iter().flat_map(|(key, value)| [key.clone(), value.clone()]).collect();
        let map = read(&Value::Map(pairs)).unwrap();
        assert_eq!(map["groups"][0], json!({ "group": 1, "nodes": [1, 2], "shards": 4 }));
        assert_eq!(read(&Value::Array(flat)).unwrap(), map);
        assert_eq!(read(&int(7)), None);
    }
}
