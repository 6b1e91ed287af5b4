//! A gateway in front of a store, without sockets: every operation is done as soon as it is handed
//! over.
#![allow(dead_code, reason = "each suite uses a part of it")]

use std::{collections::BTreeMap, sync::Arc};

use bytes::BytesMut;
use quorate_clerk::{Outcome, Refusal};
use quorate_gateway::{
    Connection, Counters, GroupStanding, Member, NodeInfo, Session, Standing, Submission, Work,
};
use quorate_kvserver::Store;
use quorate_protocol::{GroupId, NodeId, log::Index};
use quorate_rsm::{At, StateMachine};
use quorate_shardmaster::{Command, Reply, ShardMaster};

pub(crate) fn member(n: u8) -> Member {
    Member {
        node: NodeId(n.into()),
        id: format!("{n:040x}"),
        host: "127.0.0.1".into(),
        port: 7000 + u16::from(n),
        peer_port: 17000 + u16::from(n),
        alive: true,
    }
}

/// Groups with their leaders; 0 where none is known.
pub(crate) fn standing(leaders: &[(u32, u32)]) -> Standing {
    let groups = leaders.iter().map(|(group, leader)| {
        let leader = Some(NodeId(*leader)).filter(|leader| leader.0 != 0);
        (GroupId(*group), GroupStanding { leader, keys: 7, bytes: 99, ready: true })
    });
    Standing { groups: groups.collect() }
}

/// Groups with their nodes.
pub(crate) fn groups(groups: &[(u32, &[u32])]) -> BTreeMap<GroupId, Vec<NodeId>> {
    let group = |(id, nodes): &(u32, &[u32])| {
        (GroupId(*id), nodes.iter().map(|node| NodeId(*node)).collect())
    };
    groups.iter().map(group).collect()
}

/// Node 1 of three, of which node 2 leads the one group that there is.
pub(crate) fn node() -> NodeInfo {
    let mut node = undivided();
    node.on_standing(&standing(&[(1, 2)]));
    node
}

/// Node 1 of four. Groups g1 on n1, n2, n3 and g2 on n2, n3, n4 and g3 on n4 have replicas; nobody has
/// a shard yet.
pub(crate) fn divided() -> NodeInfo {
    let mut node = undivided();
    node.peers.push(member(4));
    node.groups = groups(&[(1, &[1, 2, 3]), (2, &[2, 3, 4]), (3, &[4])]);
    node.remap();
    node
}

fn undivided() -> NodeInfo {
    NodeInfo {
        own: member(1),
        peers: vec![member(2), member(3)],
        version: "0.1.0".into(),
        process_id: 42,
        now_us: 1_700_000_012_345_678,
        uptime_s: 100_000,
        counters: Counters { clients: 2, connections: 5, commands: 40, ..Counters::default() },
        ..NodeInfo::default()
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
    pub(crate) master: ShardMaster,
    pub(crate) connection: Connection,
    pub(crate) node: NodeInfo,
}

impl Server {
    pub(crate) fn new() -> Server {
        Server::of(node())
    }

    pub(crate) fn of(node: NodeInfo) -> Server {
        let (store, master) = (Store::new(), ShardMaster::default());
        Server { store, master, connection: connection(), node }
    }

    /// A divided cluster of so many shards, of which g1 has all.
    pub(crate) fn divided(shards: u16) -> Server {
        let mut server = Server::of(divided());
        server.administer(Command::Form { shards });
        assert_eq!(server.command("SHARDS JOIN g1"), ":1\\r\\n");
        server.configure();
        server
    }

    /// Asks the shardmaster.
    pub(crate) fn administer(&mut self, call: Command) -> Reply {
        self.master.apply(At { index: Index(1), time_ms: 0 }, call)
    }

    /// The node learns the newest configuration.
    pub(crate) fn configure(&mut self) {
        self.node.on_configured(Arc::clone(self.master.newest()));
    }

    /// Sends bytes and gives everything that is answered.
    pub(crate) fn send(&mut self, bytes: &[u8]) -> Vec<u8> {
        self.connection.feed(bytes);
        let mut out = Vec::new();
        loop {
            let submissions = self.connection.advance(&self.node);
            let done = submissions.is_empty();
            for Submission { seq, work } in submissions {
                match work {
                    Work::Operate(op) if self.node.reaches(&op) => {
                        self.connection.complete(seq, Outcome::Done(self.store.apply(&op)));
                    }
                    Work::Operate(_) => {
                        self.connection.complete(seq, Outcome::Refused(Refusal::NoQuorum));
                    }
                    Work::Administer(call) => {
                        let reply = self.administer(call);
                        self.connection.administered(seq, Outcome::Done(reply));
                    }
                }
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
