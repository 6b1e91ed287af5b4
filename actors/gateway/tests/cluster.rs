//! CLUSTER, redirections and SHARDS, byte for byte. A line feed in an expected answer stands for
//! `\r\n`. Key `a` is in hash slot 15495, `b` in 3300, `foo` in 12182.

mod common;

use common::{Server, connection, divided, node, output, request, standing};
use quorate_clerk::{Outcome, Refusal};
use quorate_gateway::{NodeInfo, Redirect, Seq, Submission, Work};
use quorate_kvserver::{Op, Reply};
use quorate_protocol::{GroupId, NodeId};
use quorate_shardmaster::{Command, Reply as Administered, ShardId};

const MOVED: &str = "-MOVED 15495 127.0.0.1:7002\n";
const CROSSSLOT: &str = "-CROSSSLOT Keys in request don't hash to the same slot\n";
const NOT_AN_INTEGER: &str = "-ERR value is not an integer or out of range\n";

fn redirecting(node: NodeInfo) -> Server {
    Server::of(NodeInfo { redirect: Redirect::Always, ..node })
}

#[test]
fn cluster() {
    const SHARD: &str = "*1\n*4\n$5\nslots\n*2\n:0\n:16383\n$5\nnodes\n*3\n";
    let mut server = Server::new();
    server.transcript(&[
        ("CLUSTER", "-ERR wrong number of arguments for 'cluster' command\n"),
        ("CLUSTER FOO", "-ERR unknown subcommand 'FOO'. Try CLUSTER HELP.\n"),
        ("CLUSTER MYID", "$40\n0000000000000000000000000000000000000001\n"),
        ("CLUSTER KEYSLOT {a}b", ":15495\n"),
        ("CLUSTER KEYSLOT", "-ERR wrong number of arguments for 'cluster|keyslot' command\n"),
    ]);
    let shards = server.command("CLUSTER SHARDS");
    assert!(shards.starts_with(&SHARD.replace('\n', "\\r\\n")), "{shards}");
    assert_eq!(shards.matches("$6\\r\\nmaster").count(), 1);
    assert_eq!(shards.matches("$7\\r\\nreplica\\r\\n").count(), 2);

    // The leader is dead, and one other with it: the slots are this node's to answer for.
    server.node.on_peer(NodeId(2), false);
    server.node.on_peer(NodeId(3), false);
    let slots = "*1\n*3\n:0\n:16383\n\
        *4\n$9\n127.0.0.1\n:7001\n$40\n0000000000000000000000000000000000000001\n*0\n";
    server.transcript(&[("CLUSTER SLOTS", slots)]);
    let nodes = server.command("CLUSTER NODES");
    assert!(nodes.contains(":7001@17001 myself,master - 0 0 1 connected 0-16383\\n"), "{nodes}");
    assert!(nodes.contains(":7002@17002 master,fail - 0 0 1 disconnected\\n"), "{nodes}");
    let info = server.command("CLUSTER INFO");
    for field in ["state:fail", "slots_assigned:16384", "slots_ok:0", "slots_fail:16384", "size:1"]
    {
        assert!(info.contains(&format!("cluster_{field}\\r\\n")), "{info}");
    }
}

/// Three groups on four nodes: the leader of g1 is known here, of the others somebody to ask.
#[test]
fn cluster_of_a_divided_store() {
    const ID: &str = "$40\n000000000000000000000000000000000000000";
    let mut server = Server::divided(4);
    let info = server.command("CLUSTER INFO");
    for field in ["state:ok", "slots_ok:16384", "known_nodes:4", "size:1", "current_epoch:1"] {
        assert!(info.contains(&format!("cluster_{field}\\r\\n")), "{info}");
    }
    server.transcript(&[("SHARDS JOIN g2 g3", ":2\n"), ("SHARDS MOVE s0 g3", ":3\n")]);
    server.configure();
    server.node.on_standing(&standing(&[(1, 2)]));
    let node = |n: u32| format!("*4\n$9\n127.0.0.1\n:{}\n{ID}{n}\n*0\n", 7000 + n);
    let slots = [
        format!("*4\n*3\n:0\n:4095\n{}", node(4)),
        format!("*5\n:4096\n:8191\n{}{}{}", node(2), node(1), node(3)),
        format!("*5\n:8192\n:12287\n{}{}{}", node(2), node(3), node(4)),
        format!("*3\n:12288\n:16383\n{}", node(4)),
    ];
    server.transcript(&[("CLUSTER SLOTS", &slots.concat())]);
    let nodes = server.command("CLUSTER NODES");
    assert!(nodes.contains("7001@17001 myself,master - 0 0 1 connected\\n"), "{nodes}");
    assert!(nodes.contains("7002@17002 master - 0 1700000012345 1 connected 4096-12287\\n"));
    assert!(nodes.contains("1 connected 0-4095 12288-16383\\n"), "{nodes}");
    let shards = server.command("CLUSTER SHARDS");
    let first = "*3\n*4\n$5\nslots\n*4\n:0\n:4095\n:12288\n:16383\n$5\nnodes\n*1\n";
    assert!(shards.starts_with(&first.replace('\n', "\\r\\n")), "{shards}");
    assert_eq!(shards.matches("$7\\r\\nreplica\\r\\n").count(), 4, "two each of g1 and g2");
    let info = server.command("CLUSTER INFO");
    assert!(info.contains("cluster_size:3\\r\\ncluster_current_epoch:3\\r\\n"), "{info}");

    // g3 is gone with its one node; a quarter of the slots had been its, and a quarter moved there.
    server.node.on_peer(NodeId(4), false);
    server.transcript(&[
        (
            "SET b 1",
            "-CLUSTERDOWN no majority of replicas could be reached; the command was not executed\n",
        ),
        ("SET foo 1", "+OK\n"),
        (
            "DBSIZE",
            "-CLUSTERDOWN no majority of replicas could be reached; the command was not executed\n",
        ),
        ("CLUSTER COUNTKEYSINSLOT 12182", ":1\n"),
    ]);
    let info = server.command("CLUSTER INFO");
    let expected = "cluster_state:fail\\r\\ncluster_slots_assigned:16384\\r\\n\
        cluster_slots_ok:8192\\r\\ncluster_slots_pfail:0\\r\\ncluster_slots_fail:8192\\r\\n";
    assert!(info.contains(expected), "{info}");
}

#[test]
fn what_nobody_serves_is_in_the_map_and_told() {
    let mut server = Server::divided(2);
    server.transcript(&[("SHARDS LEAVE 1 eventhelast", ":2\n")]);
    server.configure();
    let info = server.command("CLUSTER INFO");
    let expected = "cluster_state:fail\\r\\ncluster_slots_assigned:0\\r\\ncluster_slots_ok:0\\r\\n\
        cluster_slots_pfail:0\\r\\ncluster_slots_fail:0\\r\\n";
    assert!(info.contains(expected) && info.contains("cluster_size:0\\r\\n"), "{info}");
    assert!(server.command("CLUSTER SLOTS").starts_with("*1\\r\\n*3\\r\\n:0\\r\\n:16383\\r\\n"));
    // Who serves it is the clerk's to find out: it may know more.
    server.transcript(&[("SET a 1", "+OK\n")]);
}

#[test]
fn counting_the_keys_of_a_slot() {
    let mut server = Server::new();
    server.transcript(&[
        ("MSET a 1 {a}b 2 b 3", "+OK\n"),
        ("CLUSTER COUNTKEYSINSLOT 15495", ":2\n"),
        ("CLUSTER COUNTKEYSINSLOT 3300", ":1\n"),
        ("CLUSTER COUNTKEYSINSLOT 0", ":0\n"),
        ("CLUSTER COUNTKEYSINSLOT 16383", ":0\n"),
        ("CLUSTER COUNTKEYSINSLOT 16384", "-ERR Invalid slot\n"),
        ("CLUSTER COUNTKEYSINSLOT 81031", "-ERR Invalid slot\n"),
        ("CLUSTER COUNTKEYSINSLOT -1", "-ERR Invalid slot\n"),
        ("CLUSTER COUNTKEYSINSLOT x", NOT_AN_INTEGER),
        ("CLUSTER COUNTKEYSINSLOT 01", NOT_AN_INTEGER),
        (
            "CLUSTER COUNTKEYSINSLOT",
            "-ERR wrong number of arguments for 'cluster|countkeysinslot' command\n",
        ),
        (
            "COMMAND INFO cluster|countkeysinslot",
            "*1\n*10\n$23\ncluster|countkeysinslot\n:3\n*1\n+stale\n:0\n:0\n:0\n*1\n+@slow\n*0\n\
             *0\n*0\n",
        ),
    ]);
}

#[test]
fn whoever_asks_another_than_the_leader_is_sent_there() {
    let mut server = redirecting(node());
    server.transcript(&[
        ("GET a", MOVED),
        ("SET a 1", MOVED),
        ("SET a 1 FOO", MOVED),
        ("SET a", "-ERR wrong number of arguments for 'set' command\n"),
        ("MGET {a}1 {a}2 a", MOVED),
        ("MSET a 1 {a}2 2", MOVED),
        ("DEL a b", CROSSSLOT),
        ("UNLINK a b", CROSSSLOT),
        ("EXISTS a a b", CROSSSLOT),
        ("MGET a b", CROSSSLOT),
        ("MSET a 1 b 2", CROSSSLOT),
        ("MSET a b {a}1 c", MOVED),
        ("VPUT a x 0", MOVED),
        // What has no keys is answered everywhere.
        ("PING", "+PONG\n"),
        ("DBSIZE", ":0\n"),
        ("CLUSTER COUNTKEYSINSLOT 15495", ":0\n"),
        ("COMMAND GETKEYS GET a", "*1\n$1\na\n"),
        ("ASKING", "+OK\n"),
    ]);
    server.node.counters.errors = server.connection.tally().errors;
    server.transcript(&[(
        "INFO errorstats",
        "$91\n# Errorstats\nerrorstat_CROSSSLOT:count=5\nerrorstat_ERR:count=1\n\
         errorstat_MOVED:count=7\n\n",
    )]);
    assert_eq!(server.node.counters.errors.moved(), 7);
    assert!(server.store.is_empty());

    // As soon as this node leads, or no leader is known, it answers.
    server.node.on_standing(&standing(&[(1, 1)]));
    server.transcript(&[("SET a 1", "+OK\n"), ("MGET a b", CROSSSLOT)]);
    server.node.on_standing(&standing(&[(1, 3)]));
    server.transcript(&[("GET a", "-MOVED 15495 127.0.0.1:7003\n")]);
    server.node.on_standing(&standing(&[(1, 0)]));
    server.transcript(&[("GET a", "$1\n1\n")]);
    server.node.on_standing(&standing(&[(1, 2)]));
    server.node.on_peer(NodeId(2), false);
    server.transcript(&[("GET a", "$1\n1\n")]);
}

#[test]
fn nobody_is_sent_anywhere_unless_asked_for() {
    let mut server = Server::new();
    server.transcript(&[
        ("MSET a 1 b 2", "+OK\n"),
        ("MGET a b", "*2\n$1\n1\n$1\n2\n"),
        ("DEL a b", ":2\n"),
    ]);
}

#[test]
fn replicas_answer_reads_after_readonly() {
    let mut server = redirecting(node());
    server.transcript(&[
        ("READONLY", "+OK\n"),
        ("GET a", "$-1\n"),
        ("MGET {a}1 {a}2", "*2\n$-1\n$-1\n"),
        ("MGET a b", CROSSSLOT),
        ("SET a 1", MOVED),
        ("GETDEL a", MOVED),
    ]);
    assert!(server.command("CLIENT INFO").contains(" flags=r "));
    server.transcript(&[
        ("READWRITE", "+OK\n"),
        ("GET a", MOVED),
        ("READONLY", "+OK\n"),
        ("RESET", "+RESET\n"),
        ("GET a", MOVED),
    ]);
    assert!(server.command("CLIENT INFO").contains(" flags=N "));

    // g2 has no replica here; the leader of g1 is another node.
    let mut server = redirecting(divided());
    server.administer(Command::Form { shards: 2 });
    server.transcript(&[("SHARDS JOIN 1 2", ":1\n"), ("READONLY", "+OK\n")]);
    server.configure();
    server.node.on_standing(&standing(&[(1, 2), (2, 3)]));
    server.transcript(&[("GET b", "$-1\n"), ("GET a", "-MOVED 15495 127.0.0.1:7003\n")]);
    // Nor is anybody sent to a guess: the node passes it on.
    server.node.on_standing(&standing(&[(1, 2)]));
    server.transcript(&[("GET a", "$-1\n")]);
}

/// G1: redirections keep their place between answers that take their time.
#[test]
fn redirections_stand_in_the_order_of_their_requests() {
    let mut server = redirecting(divided());
    server.administer(Command::Form { shards: 2 });
    server.transcript(&[("SHARDS JOIN g1 g2", ":1\n")]);
    server.configure();
    server.node.on_standing(&standing(&[(1, 1), (2, 3)]));
    server.connection = connection();
    let c = &mut server.connection;
    for line in
        ["INCR b", "GET a", "SHARDS QUERY 9", "INCR b", "MGET a b", "SHARDS MOVE 0 2", "PING"]
    {
        c.feed(&request(&line.split(' ').collect::<Vec<_>>()));
    }
    let submissions = c.advance(&server.node);
    let add = Work::Operate(Op::Add { key: "b".into(), delta: 1 });
    let works = [
        (0, add.clone()),
        (2, Work::Administer(Command::Query { number: Some(9) })),
        (3, add),
        (5, Work::Administer(Command::Move { shard: ShardId(0), group: GroupId(2) })),
    ];
    let expected = works.map(|(seq, work)| Submission { seq: Seq(seq), work });
    assert_eq!(submissions, expected, "nothing here is in another's way");
    let done = |number| Outcome::Done(Reply::Integer(number));
    let number = |number| Outcome::Done(Administered::Done { number });
    c.administered(Seq(5), number(2));
    c.complete(Seq(3), done(2));
    // Outcomes of another kind than what was asked are nobody's.
    c.administered(Seq(0), number(99));
    c.complete(Seq(2), done(99));
    assert_eq!(output(c), b"");
    c.complete(Seq(0), done(1));
    let text = "-MOVED 15495 127.0.0.1:7003\r\n";
    assert_eq!(output(c), format!(":1\r\n{text}").into_bytes());
    c.administered(Seq(2), Outcome::Refused(Refusal::NotReady));
    let expected = "-LOADING the node is not ready; the command was not executed\r\n:2\r\n\
        -CROSSSLOT Keys in request don't hash to the same slot\r\n:2\r\n+PONG\r\n";
    assert_eq!(output(c), expected.as_bytes());
}

#[test]
fn shards() {
    const ROOM: &str = "-ERR wrong number of arguments for";
    let mut server = Server::divided(8);
    server.transcript(&[
        ("SHARDS", &format!("{ROOM} 'shards' command\n")),
        ("SHARDS FOO", "-ERR unknown subcommand 'FOO'. Try SHARDS HELP.\n"),
        ("SHARDS JOIN", &format!("{ROOM} 'shards|join' command\n")),
        ("SHARDS JOIN g9", "-ERR no node has a replica of g9; configured are g1, g2, g3\n"),
        ("SHARDS JOIN g2 g9", "-ERR no node has a replica of g9; configured are g1, g2, g3\n"),
        ("SHARDS JOIN g0", "-ERR no node has a replica of g0; configured are g1, g2, g3\n"),
        ("SHARDS JOIN x", "-ERR 'x' is not a group: write g2 or 2\n"),
        ("SHARDS JOIN g", "-ERR 'g' is not a group: write g2 or 2\n"),
        ("SHARDS JOIN g02", "-ERR 'g02' is not a group: write g2 or 2\n"),
        ("SHARDS JOIN -1", "-ERR '-1' is not a group: write g2 or 2\n"),
        ("SHARDS JOIN 4294967296", "-ERR '4294967296' is not a group: write g2 or 2\n"),
        ("SHARDS JOIN 1", "-ERR g1 is a member already\n"),
        ("SHARDS JOIN 3 G2", ":2\n"),
        ("SHARDS LEAVE g3", ":3\n"),
        ("SHARDS LEAVE g3", "-ERR g3 is no member; `quorate shards query` lists them\n"),
        (
            "SHARDS LEAVE g1 2",
            "-ERR nobody would be left to have the data: let another group join first\n",
        ),
        ("SHARDS LEAVE EVENTHELAST", "-ERR name a group\n"),
        ("SHARDS LEAVE 1 EVENTHELAST x", "-ERR 'EVENTHELAST' is not a group: write g2 or 2\n"),
        ("SHARDS MOVE s0 g2", ":4\n"),
        ("SHARDS MOVE 7 1", ":5\n"),
        ("SHARDS MOVE s8 g2", "-ERR there is no s8; `quorate shards query` lists them\n"),
        ("SHARDS MOVE s0 g7", "-ERR g7 is no member; `quorate shards query` lists them\n"),
        ("SHARDS MOVE g0 g2", "-ERR 'g0' is not a shard: write s2 or 2\n"),
        ("SHARDS MOVE s65536 g2", "-ERR 's65536' is not a shard: write s2 or 2\n"),
        ("SHARDS MOVE s0", &format!("{ROOM} 'shards|move' command\n")),
        ("SHARDS QUERY x", NOT_AN_INTEGER),
        ("SHARDS QUERY -1", NOT_AN_INTEGER),
        ("SHARDS QUERY 1 2", &format!("{ROOM} 'shards|query' command\n")),
        (
            "SHARDS QUERY 1",
            "*8\n$6\nnumber\n:1\n$6\nshards\n:8\n$6\ngroups\n*1\n*3\n:1\n*3\n:1\n:2\n:3\n:8\n\
             $6\nowners\n*1\n*3\n:0\n:7\n:1\n",
        ),
        (
            "SHARDS QUERY 0",
            "*8\n$6\nnumber\n:0\n$6\nshards\n:8\n$6\ngroups\n*0\n$6\nowners\n*1\n*3\n:0\n:7\n:0\n",
        ),
    ]);
    server.configure();
    assert_eq!(server.node.configuration.number, 5);
    let query = server.command("SHARDS QUERY");
    assert!(query.starts_with("*8\\r\\n$6\\r\\nnumber\\r\\n:5\\r\\n"), "{query}");
    // g1 had 0 to 3 of the eight, then g2 was given 0, and g1 7.
    let groups = "*2\n*3\n:1\n*3\n:1\n:2\n:3\n:4\n*3\n:2\n*3\n:2\n:3\n:4\n:4\n";
    assert!(query.contains(&groups.replace('\n', "\\r\\n")), "{query}");
    assert!(server.command("SHARDS HELP").starts_with("*13\\r\\n+SHARDS <subcommand> "));
    server.command("HELLO 3");
    assert_eq!(server.command("SHARDS QUERY"), query.replacen("*8", "%4", 1));
}

#[test]
fn there_are_no_shards_where_the_store_is_not_divided() {
    let error = "-ERR this cluster is not divided into shards\n";
    Server::new().transcript(&[
        ("SHARDS JOIN g1", error),
        ("SHARDS LEAVE x", error),
        ("SHARDS MOVE s0 g1", error),
        ("SHARDS QUERY", error),
    ]);
}

#[test]
fn each_outcome_of_a_call_has_its_word() {
    let not = "; the command was not executed";
    let unknown = "INDETERMINATE the outcome is unknown: the change may have been made, or may still \
                   be; ask with SHARDS QUERY before sending it again";
    for (outcome, answer) in [
        (Outcome::Done(Administered::Done { number: 7 }), ":7".to_string()),
        (Outcome::Unknown, format!("-{unknown}")),
        (
            Outcome::Refused(Refusal::NoQuorum),
            format!("-CLUSTERDOWN no majority of replicas could be reached{not}"),
        ),
        (Outcome::Refused(Refusal::Busy), format!("-TRYAGAIN too many operations under way{not}")),
    ] {
        let mut server = Server::divided(2);
        server.connection.feed(&request(&["SHARDS", "MOVE", "0", "1"]));
        let [Submission { seq, .. }] = server.connection.advance(&server.node)[..] else {
            panic!("one call")
        };
        server.connection.administered(seq, outcome);
        assert_eq!(output(&mut server.connection), format!("{answer}\r\n").into_bytes());
    }
    // The clerk has begun anew: a question was not answered, a change may have been made.
    let mut server = Server::divided(2);
    for words in [&["SHARDS", "QUERY"][..], &["SHARDS", "MOVE", "0", "1"]] {
        server.connection.feed(&request(words));
    }
    assert_eq!(server.connection.advance(&server.node).len(), 2);
    server.connection.abandon();
    let expected = format!("-LOADING the node is not ready{not}\r\n-{unknown}\r\n");
    assert_eq!(output(&mut server.connection), expected.into_bytes());
}
