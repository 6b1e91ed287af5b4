//! A gateway in front of a store, without sockets: every operation is done as soon as it is handed
//! over.
#![allow(dead_code, reason = "each suite uses a part of it")]

use bytes::BytesMut;
use quorate_clerk::Outcome;
use quorate_gateway::{Connection, Counters, Member, NodeInfo, Session, Submission};
use quorate_kvserver::Store;

pub(crate) fn member(n: u8, leads: &[(u16, u16)]) -> Member {
    Member {
        id: format!("{n:040x}"),
        host: "127.0.0.1".into(),
        port: 7000 + u16::from(n),
        peer_port: 17000 + u16::from(n),
        alive: true,
        leads: leads.iter().map(|&(start, end)| start..=end).collect(),
    }
}

/// Node 1 of three, of which node 2 leads every slot.
pub(crate) fn node() -> NodeInfo {
    NodeInfo {
        own: member(1, &[]),
        peers: vec![member(2, &[(0, 16383)]), member(3, &[])],
        version: "0.1.0".into(),
        process_id: 42,
        now_us: 1_700_000_012_345_678,
        uptime_s: 100_000,
        loading: false,
        quorum: true,
        keys: 7,
        bytes: 99,
        counters: Counters { clients: 2, connections: 5, commands: 40, ..Counters::default() },
    }
}

pub(crate) fn connection() -> Connection {
    let since = 1_700_000_002_000_000;
    Connection::new(Session::new(9, "10.0.0.5:1234".into(), "10.0.0.1:7001".into(), since))
}

pub(crate) fn output(connection: &mut Connection) -> Vec<u8> {
    let mut out = BytesMut::new();
    connection.drain_output(&mut out);
    out.to_vec()
}

pub(crate) struct Server {
    pub(crate) store: Store,
    pub(crate) connection: Connection,
    pub(crate) node: NodeInfo,
}

impl Server {
    pub(crate) fn new() -> Server {
        Server { store: Store::new(), connection: connection(), node: node() }
    }

    /// Sends bytes and gives everything that is answered.
    pub(crate) fn send(&mut self, bytes: &[u8]) -> Vec<u8> {
        self.connection.feed(bytes);
        let mut out = Vec::new();
        loop {
            let submissions = self.connection.advance(&self.node);
            let done = submissions.is_empty();
            for Submission { seq, op } in submissions {
                self.connection.complete(seq, Outcome::Done(self.store.apply(&op)));
            }
            out.extend(output(&mut self.connection));
            if done && !self.connection.has_output() {
                return out;
            }
        }
    }

    /// Sends a command, its words separated by spaces, as clients do.
    pub(crate) fn command(&mut self, line: &str) -> String {
        let words: Vec<&str> = line.split(' ').collect();
        self.send(&request(&words)).escape_ascii().to_string()
    }

    /// Sends commands one by one and compares each answer, byte for byte, with escapes as in Rust.
    pub(crate) fn transcript(&mut self, lines: &[(&str, &str)]) {
        for (line, answer) in lines {
            let expected: String = answer.replace('\n', "\\r\\n");
            let quoted = expected.replace('\'', "\\'").replace('"', "\\\"");
            assert_eq!(self.command(line), quoted, "{line}");
        }
    }
}

pub(crate) fn request<A: AsRef<[u8]>>(args: &[A]) -> Vec<u8> {
    let mut out = BytesMut::new();
    quorate_gateway::resp::client::encode_command(args, &mut out);
    out.to_vec()
}
