//! What `quorate local` says: lines for a person, or one JSON object per event.

use std::path::{Path, PathBuf};
use std::time::Duration;

use serde_json::{Value as Json, json};

use super::home::Home;
use super::ports::{Ports, on_loopback};
use crate::output::{say, table};

/// Colours of the nodes' prefixes, one after the other.
const COLOURS: [u8; 6] = [36, 33, 35, 32, 34, 31];

/// Where it is said.
#[derive(Clone, Debug)]
pub(crate) struct Screen {
    pub(crate) json: bool,
    pub(crate) colours: bool,
    /// How this program was called, for commands to copy.
    pub(crate) program: String,
}

/// A node as it is shown.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Shown {
    pub(crate) node: u16,
    /// `None`: its process has ended.
    pub(crate) pid: Option<u32>,
    pub(crate) ports: Ports,
    pub(crate) dir: PathBuf,
    pub(crate) config: PathBuf,
}

/// How a node's process ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Ended {
    pub(crate) node: u16,
    pub(crate) pid: u32,
    pub(crate) code: Option<i32>,
    pub(crate) signal: Option<i32>,
    /// The last that it said on standard error.
    pub(crate) reason: String,
}

impl Screen {
    /// A cluster is about to run.
    pub(crate) fn starting(&self, home: &Home) {
        let (dir, nodes, engine) = (home.path(), home.nodes(), home.engine());
        let divided = home.divided();
        let event = json!({
            "event": "starting", "dir": dir, "nodes": nodes, "engine": engine,
            "new": home.is_new(), "temporary": home.is_temporary(), "sharding": divided,
        });
        let how = match (home.is_temporary(), home.is_new()) {
            (true, _) => "a fresh temporary directory, removed at the end; --dir keeps one",
            (false, true) => "new",
            (false, false) => "resumed",
        };
        let dir = dir.display();
        let word = if nodes == 1 { "node" } else { "nodes" };
        let shards = divided.map_or(String::new(), |divided| {
            format!(", {} groups for {} shards", divided.groups, divided.shards)
        });
        self.tell(event, || {
            format!("starting {nodes} {word} on {engine}{shards} in {dir} ({how})")
        });
    }

    /// Something a person should know.
    pub(crate) fn note(&self, text: &str) {
        self.tell(json!({ "event": "note", "text": text }), || text.to_string());
    }

    /// A line that a node has logged.
    pub(crate) fn log(&self, node: u16, line: &str) {
        let event = json!({ "event": "log", "node": node, "line": line });
        self.tell(event, || format!("{} {line}", self.prefix(node)));
    }

    /// A node's process has ended although nobody told it to.
    pub(crate) fn exited(&self, ended: &Ended, config: &Path) {
        let Ended { node, pid, code, signal, reason } = ended;
        let event = json!({
            "event": "node_exited", "node": node, "pid": pid, "code": code, "signal": signal,
            "reason": reason, "config": config,
        });
        self.tell(event, || {
            let how = match (code, signal) {
                (Some(code), _) => format!("has ended with exit code {code}"),
                (None, Some(signal)) => format!("was ended by signal {signal}"),
                (None, None) => "has ended".to_string(),
            };
            let again = format!("{} node --config {}", self.program, config.display());
            format!("{} {how}; the others go on. Start it again: {again}", self.prefix(*node))
        });
    }

    /// The cluster serves.
    pub(crate) fn ready(&self, nodes: &[Shown], took: Duration) {
        let took_ms = took.as_millis() as u64;
        let list: Vec<Json> = nodes.iter().map(Shown::to_json).collect();
        let event = json!({ "event": "ready", "took_ms": took_ms, "nodes": list });
        self.tell(event, || {
            let rows: Vec<Vec<String>> = nodes.iter().map(Shown::to_row).collect();
            let head = ["node", "pid", "redis", "debug", "directory"];
            let (shown, next) = (table(&head, &rows), self.next(nodes));
            format!("ready in {:.1} s\n\n{shown}\n{next}", took.as_secs_f64())
        });
    }

    /// All nodes are being stopped.
    pub(crate) fn stopping(&self) {
        self.tell(json!({ "event": "stopping" }), || "stopping".to_string());
    }

    /// No node is left; `removed` is the directory that went with them.
    pub(crate) fn stopped(&self, removed: Option<&Path>) {
        let event = json!({ "event": "stopped", "removed": removed });
        self.tell(event, || match removed {
            Some(dir) => format!("stopped; {} is removed", dir.display()),
            None => "stopped".to_string(),
        });
    }

    /// Commands to copy.
    fn next(&self, nodes: &[Shown]) -> String {
        let program = &self.program;
        let mut alive = nodes.iter().filter(|node| node.pid.is_some());
        let Some(first) = alive.next() else { return String::new() };
        let last = alive.next_back().unwrap_or(first);
        let address = |node: &Shown| on_loopback(node.ports.resp);
        let all: Vec<String> = nodes.iter().map(|node| address(node).to_string()).collect();
        let mut lines = vec![
            format!("redis-cli -p {}", first.ports.resp),
            format!("{program} put greeting hello --node {}", address(first)),
            format!("{program} get greeting --node {}", address(last)),
            format!("{program} bench --node {}", all.join(",")),
            format!("curl -s http://{}/debug/actors", on_loopback(first.ports.debug)),
        ];
        if let (Some(pid), true) = (first.pid, nodes.len() > 2) {
            lines.push(format!("kill -9 {pid}    # node {}: the others go on", first.node));
        }
        let mut text = "Try, in another terminal:\n".to_string();
        for line in lines {
            text += &format!("  {line}\n");
        }
        text + "Ctrl-C stops all nodes.\n"
    }

    fn prefix(&self, node: u16) -> String {
        let colour = COLOURS[usize::from(node - 1) % COLOURS.len()];
        match self.colours {
            true => format!("\x1b[{colour}mn{node} |\x1b[0m"),
            false => format!("n{node} |"),
        }
    }

    fn tell(&self, event: Json, text: impl FnOnce() -> String) {
        let line = if self.json { event.to_string() } else { text() };
        // The nodes do not depend on somebody who listens.
        let _ = say(&line);
    }
}

impl Shown {
    fn to_json(&self) -> Json {
        let Ports { resp, debug, peer } = self.ports;
        json!({
            "node": self.node, "pid": self.pid, "dir": self.dir, "config": self.config,
            "resp": on_loopback(resp), "debug": format!("http://{}", on_loopback(debug)),
            "peer": on_loopback(peer),
        })
    }

    fn to_row(&self) -> Vec<String> {
        vec![
            self.node.to_string(),
            self.pid.map_or("ended".into(), |pid| pid.to_string()),
            on_loopback(self.ports.resp).to_string(),
            format!("http://{}", on_loopback(self.ports.debug)),
            self.dir.display().to_string(),
        ]
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn screen() -> Screen {
        Screen { json: false, colours: false, program: "quorate".into() }
    }

    fn shown(node: u16) -> Shown {
        let ports = Ports { resp: 7000 + node, debug: 7100 + node, peer: 7200 + node };
        let dir = PathBuf::from(format!("/d/n{node}"));
        Shown { node, pid: Some(40 + u32::from(node)), ports, config: dir.join("node.toml"), dir }
    }

    #[test]
    fn a_node_in_json_has_what_scripts_need() {
        assert_eq!(
            shown(2).to_json().to_string(),
            r#"{"config":"/d/n2/node.toml","debug":"http://127.0.0.1:7102","dir":"/d/n2","#
                .to_string()
                + r#""node":2,"peer":"127.0.0.1:7202","pid":42,"resp":"127.0.0.1:7002"}"#
        );
    }

    #[test]
    fn commands_to_copy_name_nodes_that_live() {
        let mut nodes = [shown(1), shown(2), shown(3)];
        nodes[2].pid = None;
        let text = screen().next(&nodes);
        assert!(text.contains("  redis-cli -p 7001\n"), "{text}");
        assert!(text.contains("  quorate get greeting --node 127.0.0.1:7002\n"), "{text}");
        assert!(text.contains("kill -9 41 "), "{text}");
    }

    #[test]
    fn prefixes_are_plain_without_a_terminal() {
        assert_eq!(screen().prefix(3), "n3 |");
        let screen = Screen { colours: true, ..screen() };
        assert_eq!(screen.prefix(1), "\x1b[36mn1 |\x1b[0m");
    }
}
