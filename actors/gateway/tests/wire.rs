//! What stands on the wire, byte for byte. A line feed in an expected answer stands for `\r\n`.

mod common;

use common::{Server, request};
use quorate_kvserver::{KEY_BYTES_MAX, VALUE_BYTES_MAX};

const HELLO_2: &str = "*14\n$6\nserver\n$5\nredis\n$7\nversion\n$5\n7.2.4\n$5\nproto\n:2\n$2\nid\n\
                       :9\n$4\nmode\n$7\ncluster\n$4\nrole\n$6\nmaster\n$7\nmodules\n*0\n";
const HELLO_3: &str = "%7\n$6\nserver\n$5\nredis\n$7\nversion\n$5\n7.2.4\n$5\nproto\n:3\n$2\nid\n\
                       :9\n$4\nmode\n$7\ncluster\n$4\nrole\n$6\nmaster\n$7\nmodules\n*0\n";
const NO_EXPIRY: &str = "-ERR keys do not expire here: EX, PX, EXAT, PXAT and KEEPTTL are not \
                         supported yet; the value was not stored\n";
const NOT_AN_INTEGER: &str = "-ERR value is not an integer or out of range\n";
const TOO_LONG: &str = "-ERR string exceeds maximum allowed size (proto-max-bulk-len)\n";
const SLOTS_2: &str = "*1\n*5\n:0\n:16383\n\
    *4\n$9\n127.0.0.1\n:7002\n$40\n0000000000000000000000000000000000000002\n*0\n\
    *4\n$9\n127.0.0.1\n:7001\n$40\n0000000000000000000000000000000000000001\n*0\n\
    *4\n$9\n127.0.0.1\n:7003\n$40\n0000000000000000000000000000000000000003\n*0\n";

/// redis-py 8: HELLO 3, a refused CLIENT MAINT_NOTIFICATIONS, and the library's name.
#[test]
fn handshake_redis_py() {
    Server::new().transcript(&[
        ("HELLO 3", HELLO_3),
        (
            "CLIENT MAINT_NOTIFICATIONS ON moving-endpoint-type internal-ip",
            "-ERR unknown subcommand 'MAINT_NOTIFICATIONS'. Try CLIENT HELP.\n",
        ),
        ("CLIENT SETINFO LIB-NAME redis-py", "+OK\n"),
        ("CLIENT SETINFO LIB-VER 8.1.0", "+OK\n"),
        (
            "CLIENT INFO",
            "=284\ntxt:id=9 addr=10.0.0.5:1234 laddr=10.0.0.1:7001 fd=0 name= age=10 idle=0 \
             flags=N db=0 sub=0 psub=0 ssub=0 multi=-1 qbuf=0 qbuf-free=0 argv-mem=0 multi-mem=0 \
             rbs=0 rbp=0 obl=0 oll=0 omem=0 tot-mem=0 events=r cmd=client|info user=default \
             redir=-1 resp=3 lib-name=redis-py lib-ver=8.1.0\\n\n",
        ),
        ("GET none", "_\n"),
    ]);
}

/// valkey-py 6 and redis-rs 1.8: RESP2 and the library's name; in a cluster CLUSTER SLOTS.
#[test]
fn handshake_resp2() {
    Server::new().transcript(&[
        ("CLIENT SETINFO LIB-NAME valkey-py", "+OK\n"),
        ("CLIENT SETINFO LIB-VER 6.2.0", "+OK\n"),
        ("PING", "+PONG\n"),
        ("CLUSTER SLOTS", SLOTS_2),
        ("READONLY", "+OK\n"),
        ("GET none", "$-1\n"),
    ]);
}

/// ioredis 6: hello in small letters, INFO as ready check, CLUSTER INFO in a cluster.
#[test]
fn handshake_ioredis() {
    let mut server = Server::new();
    server.transcript(&[
        ("hello 3", HELLO_3),
        ("client SETINFO LIB-NAME ioredis", "+OK\n"),
        ("client setname ioredis-cluster(refresher)", "+OK\n"),
        ("client getname", "$26\nioredis-cluster(refresher)\n"),
        ("cluster SLOTS", &SLOTS_2.replace("*0", "%0")),
        (
            "cluster INFO",
            "=271\ntxt:cluster_state:ok\ncluster_slots_assigned:16384\ncluster_slots_ok:16384\n\
             cluster_slots_pfail:0\ncluster_slots_fail:0\ncluster_known_nodes:3\ncluster_size:1\n\
             cluster_current_epoch:1\ncluster_my_epoch:1\ncluster_stats_messages_sent:0\n\
             cluster_stats_messages_received:0\n\n",
        ),
    ]);
    let info = server.command("info");
    for field in [
        "=",
        "# Server",
        "redis_version:7.2.4",
        "quorate_version:0.1.0",
        "redis_mode:cluster",
        "process_id:42",
        "tcp_port:7001",
        "uptime_in_seconds:100000",
        "uptime_in_days:1",
        "connected_clients:2",
        "loading:0",
        "role:master",
        "cluster_enabled:1",
        "# Keyspace",
        "db0:keys=7,expires=0,avg_ttl=0",
    ] {
        assert!(info.contains(field), "{field} in {info}");
    }
}

/// node-redis 6: everything in one write.
#[test]
fn handshake_node_redis() {
    let mut server = Server::new();
    let commands = [
        &["HELLO", "3"][..],
        &["CLIENT", "SETINFO", "LIB-VER", "6.3.1"],
        &["CLIENT", "SETINFO", "LIB-NAME", "node-redis"],
        &["CLIENT", "MAINT_NOTIFICATIONS", "ON"],
    ];
    let sent = commands.map(request).concat();
    let expected = HELLO_3.replace('\n', "\r\n")
        + "+OK\r\n+OK\r\n-ERR unknown subcommand 'MAINT_NOTIFICATIONS'. Try CLIENT HELP.\r\n";
    assert_eq!(server.send(&sent), expected.as_bytes());
}

/// redis-benchmark and Lettuce: CONFIG GET and CLUSTER NODES.
#[test]
fn handshake_redis_benchmark() {
    Server::new().transcript(&[
        ("CONFIG GET save", "*2\n$4\nsave\n$0\n\n"),
        ("CONFIG GET appendonly", "*2\n$10\nappendonly\n$3\nyes\n"),
        (
            "CLUSTER NODES",
            "$300\n\
             0000000000000000000000000000000000000001 127.0.0.1:7001@17001 myself,master - 0 0 1 \
             connected\\n\
             0000000000000000000000000000000000000002 127.0.0.1:7002@17002 master - 0 \
             1700000012345 1 connected 0-16383\\n\
             0000000000000000000000000000000000000003 127.0.0.1:7003@17003 master - 0 \
             1700000012345 1 connected\\n\n",
        ),
    ]);
}

#[test]
fn hello_and_auth() {
    Server::new().transcript(&[
        ("HELLO", HELLO_2),
        ("HELLO 3", HELLO_3),
        ("HELLO", HELLO_3),
        ("HELLO 2", HELLO_2),
        ("HELLO 1", "-NOPROTO unsupported protocol version\n"),
        ("HELLO 4", "-NOPROTO unsupported protocol version\n"),
        ("HELLO x", "-ERR Protocol version is not an integer or out of range\n"),
        ("HELLO 3 AUTH default any SETNAME me", HELLO_3),
        ("CLIENT GETNAME", "$2\nme\n"),
        ("HELLO 2 SETNAME you AUTH", "-ERR Syntax error in HELLO option 'AUTH'\n"),
        ("CLIENT GETNAME", "$2\nme\n"),
        ("HELLO 2 AUTH default", "-ERR Syntax error in HELLO option 'AUTH'\n"),
        ("HELLO 2 setname", "-ERR Syntax error in HELLO option 'setname'\n"),
        ("HELLO 2 foo", "-ERR Syntax error in HELLO option 'foo'\n"),
        (
            "HELLO 2 AUTH bob any",
            "-WRONGPASS invalid username-password pair or user is disabled.\n",
        ),
        ("GET none", "_\n"),
        (
            "AUTH any",
            "-ERR AUTH <password> called without any password configured for the default user. Are \
             you sure your configuration is correct?\n",
        ),
        ("AUTH default any", "+OK\n"),
        ("AUTH bob any", "-WRONGPASS invalid username-password pair or user is disabled.\n"),
        ("AUTH a b c", "-ERR syntax error\n"),
        ("RESET", "+RESET\n"),
        ("CLIENT GETNAME", "$-1\n"),
    ]);
}

#[test]
fn the_connection() {
    Server::new().transcript(&[
        ("PING", "+PONG\n"),
        ("ping hello", "$5\nhello\n"),
        ("PING a b", "-ERR wrong number of arguments for 'ping' command\n"),
        ("ECHO hello", "$5\nhello\n"),
        ("ECHO", "-ERR wrong number of arguments for 'echo' command\n"),
        ("SELECT 0", "+OK\n"),
        ("SELECT 1", "-ERR SELECT is not allowed in cluster mode\n"),
        ("SELECT -1", "-ERR SELECT is not allowed in cluster mode\n"),
        ("SELECT x", NOT_AN_INTEGER),
        ("READWRITE", "+OK\n"),
        ("ASKING", "+OK\n"),
        ("WAIT 1 100", ":1\n"),
        ("WAIT x 100", NOT_AN_INTEGER),
        ("WAIT 1 x", "-ERR timeout is not an integer or out of range\n"),
        ("WAIT 1 -1", "-ERR timeout is negative\n"),
        ("TIME", "*2\n$10\n1700000012\n$6\n345678\n"),
        ("TIME now", "-ERR wrong number of arguments for 'time' command\n"),
    ]);
}

#[test]
fn clients() {
    let mut server = Server::new();
    server.transcript(&[
        ("CLIENT", "-ERR wrong number of arguments for 'client' command\n"),
        ("CLIENT FOO", "-ERR unknown subcommand 'FOO'. Try CLIENT HELP.\n"),
        ("CLIENT ID", ":9\n"),
        ("CLIENT ID x", "-ERR wrong number of arguments for 'client|id' command\n"),
        ("CLIENT SETNAME me", "+OK\n"),
        ("CLIENT GETNAME", "$2\nme\n"),
        ("CLIENT LIST ID 8", "$0\n\n"),
        ("CLIENT LIST ID x", "-ERR Invalid client ID\n"),
        ("CLIENT LIST TYPE pubsub", "$0\n\n"),
        ("CLIENT LIST TYPE x", "-ERR Unknown client type 'x'\n"),
        ("CLIENT LIST x", "-ERR syntax error\n"),
        ("CLIENT SETINFO LIB-OTHER x", "-ERR Unrecognized option 'LIB-OTHER'\n"),
        ("CLIENT NO-EVICT on", "+OK\n"),
        ("CLIENT NO-EVICT x", "-ERR syntax error\n"),
        ("CLIENT NO-TOUCH off", "+OK\n"),
        ("CLIENT REPLY x", "-ERR syntax error\n"),
        ("CLIENT REPLY ON", "+OK\n"),
        ("CLIENT TRACKING OFF", "+OK\n"),
        ("CLIENT TRACKING ON", "-ERR CLIENT TRACKING is not supported: keys are not tracked\n"),
        ("CLIENT TRACKING x", "-ERR syntax error\n"),
        (
            "CLIENT TRACKINGINFO",
            "*6\n$5\nflags\n*1\n$3\noff\n$8\nredirect\n:-1\n$8\nprefixes\n*0\n",
        ),
        ("CLIENT GETREDIR", ":-1\n"),
        (
            "CLIENT KILL ID 9",
            "-ERR CLIENT KILL is not supported: a connection ends only itself (QUIT)\n",
        ),
    ]);
    let bad = "-ERR Client names cannot contain spaces, newlines or special characters.\r\n";
    assert_eq!(server.send(&request(&["CLIENT", "SETNAME", "a b"])), bad.as_bytes());
    assert_eq!(server.send(&request(&["HELLO", "3", "SETNAME", "a\n"])), bad.as_bytes());
    let bad = "-ERR lib-ver cannot contain spaces, newlines or special characters.\r\n";
    assert_eq!(server.send(&request(&["CLIENT", "SETINFO", "lib-ver", "1 2"])), bad.as_bytes());
    for line in ["CLIENT LIST", "CLIENT LIST TYPE normal", "CLIENT LIST ID 8 9"] {
        assert!(server.command(line).contains("id=9 addr=10.0.0.5:1234 "), "{line}");
    }
    assert!(server.command("CLIENT HELP").starts_with(
        "*29\\r\\n+CLIENT <subcommand> [<arg> [value] [opt] ...]. Subcommands are:\\r\\n\
         +GETNAME\\r\\n"
    ));
}

#[test]
fn silence_on_request() {
    let mut server = Server::new();
    server.transcript(&[
        ("CLIENT REPLY SKIP", ""),
        ("SET k v", ""),
        ("GET k", "$1\nv\n"),
        ("CLIENT REPLY SKIP", ""),
        ("CLIENT REPLY SKIP", ""),
        ("PING", ""),
        ("PING", "+PONG\n"),
        ("CLIENT REPLY SKIP", ""),
        ("CLIENT REPLY ON", "+OK\n"),
        ("CLIENT REPLY OFF", ""),
        ("CLIENT REPLY SKIP", ""),
        ("SET k w", ""),
        ("FOO", ""),
        ("CLIENT REPLY ON", "+OK\n"),
        ("GET k", "$1\nw\n"),
        ("CLIENT REPLY OFF", ""),
        ("RESET", "+RESET\n"),
    ]);
}

#[test]
fn unknown_commands_and_arities() {
    let mut server = Server::new();
    let many = format!("FOO {0} {0} {0} b", "a".repeat(50));
    let shown = format!(
        "-ERR unknown command 'FOO', with args beginning with: '{0}' '{0}' '{1}' \n",
        "a".repeat(50),
        "a".repeat(22)
    );
    let long = "f".repeat(200);
    let cut = format!("-ERR unknown command '{}', with args beginning with: \n", "f".repeat(128));
    server.transcript(&[
        ("foo", "-ERR unknown command 'foo', with args beginning with: \n"),
        ("foo a b", "-ERR unknown command 'foo', with args beginning with: 'a' 'b' \n"),
        (&many, &shown),
        (&long, &cut),
        ("client|id", "-ERR unknown command 'client|id', with args beginning with: \n"),
        ("GET", "-ERR wrong number of arguments for 'get' command\n"),
        ("GET a b", "-ERR wrong number of arguments for 'get' command\n"),
        ("SET a", "-ERR wrong number of arguments for 'set' command\n"),
        ("MSET a 1 b", "-ERR wrong number of arguments for 'mset' command\n"),
        ("MGET", "-ERR wrong number of arguments for 'mget' command\n"),
        ("EXISTS", "-ERR wrong number of arguments for 'exists' command\n"),
        ("DBSIZE x", "-ERR wrong number of arguments for 'dbsize' command\n"),
        ("VPUT a 1", "-ERR wrong number of arguments for 'vput' command\n"),
    ]);
    // Bytes that would break the line do not.
    let odd = request(&["fo\r\no", "a\0b", "\u{e9}"]);
    let shown = "-ERR unknown command 'fo  o', with args beginning with: 'a' '\u{e9}' \r\n";
    assert_eq!(server.send(&odd), shown.as_bytes());
    let empty = request(&["", ""]);
    let shown = b"-ERR unknown command '', with args beginning with: '' \r\n";
    assert_eq!(server.send(&empty), shown);
}

#[test]
fn set_and_its_options() {
    Server::new().transcript(&[
        ("SET a 1", "+OK\n"),
        ("GET a", "$1\n1\n"),
        ("SET a 2 NX", "$-1\n"),
        ("SET a 2 XX", "+OK\n"),
        ("SET a 3 GET", "$1\n2\n"),
        ("SET b 1 XX", "$-1\n"),
        ("SET b 1 XX GET", "$-1\n"),
        ("SET b 1 nx get", "$-1\n"),
        ("SET b 2 get NX", "$1\n1\n"),
        ("GET b", "$1\n1\n"),
        ("SET a 1 NX XX", "-ERR syntax error\n"),
        ("SET a 1 XX NX", "-ERR syntax error\n"),
        ("SET a 1 FOO", "-ERR syntax error\n"),
        ("SET a 1 IFEQ 3", "-ERR syntax error\n"),
        ("SET a 1 EX", "-ERR syntax error\n"),
        ("SET a 1 EX 10 PX 10", "-ERR syntax error\n"),
        ("SET a 1 EX 10 KEEPTTL", "-ERR syntax error\n"),
        ("SET a 1 KEEPTTL EX 10", "-ERR syntax error\n"),
        ("SET a 1 EX x", NOT_AN_INTEGER),
        ("SET a 1 EX 0", "-ERR invalid expire time in 'set' command\n"),
        ("SET a 1 PX 10", NO_EXPIRY),
        ("SET a 1 NX EXAT 10 GET", NO_EXPIRY),
        ("SET a 1 PXAT 10", NO_EXPIRY),
        ("SET a 1 KEEPTTL", NO_EXPIRY),
        ("GET a", "$1\n3\n"),
        ("SETNX a 9", ":0\n"),
        ("SETNX c 9", ":1\n"),
        ("GETSET a 4", "$1\n3\n"),
        ("GETSET d 4", "$-1\n"),
        ("GETDEL a", "$1\n4\n"),
        ("GETDEL a", "$-1\n"),
        ("HELLO 3", HELLO_3),
        ("SET b 1 NX", "_\n"),
        ("SET none 1 GET", "_\n"),
        ("GETDEL a", "_\n"),
        ("MGET a b", "*2\n_\n$1\n1\n"),
    ]);
}

#[test]
fn parts_of_values() {
    Server::new().transcript(&[
        ("APPEND k xyz", ":3\n"),
        ("APPEND k abc", ":6\n"),
        ("STRLEN k", ":6\n"),
        ("STRLEN none", ":0\n"),
        ("GETRANGE k 0 -1", "$6\nxyzabc\n"),
        ("GETRANGE k 1 3", "$3\nyza\n"),
        ("SUBSTR k -3 -1", "$3\nabc\n"),
        ("GETRANGE k 5 1", "$0\n\n"),
        ("GETRANGE none 0 -1", "$0\n\n"),
        ("GETRANGE k x 1", NOT_AN_INTEGER),
        ("SETRANGE k 1 __", ":6\n"),
        ("GET k", "$6\nx__abc\n"),
        ("SETRANGE p 2 x", ":3\n"),
        ("GET p", "$3\n\\x00\\x00x\n"),
        ("SETRANGE p -1 x", "-ERR offset is out of range\n"),
        ("SETRANGE p x x", NOT_AN_INTEGER),
        ("SETRANGE p 16777216 x", TOO_LONG),
        ("SETRANGE p 9223372036854775807 x", TOO_LONG),
        ("SETRANGE p 9223372036854775807 ", ":3\n"),
        ("SETRANGE none 5 ", ":0\n"),
        ("EXISTS none", ":0\n"),
    ]);
}

#[test]
fn sums() {
    const OVERFLOW: &str = "-ERR increment or decrement would overflow\n";
    Server::new().transcript(&[
        ("INCR n", ":1\n"),
        ("INCRBY n 5", ":6\n"),
        ("DECRBY n 8", ":-2\n"),
        ("DECR n", ":-3\n"),
        ("GET n", "$2\n-3\n"),
        ("INCRBY n x", NOT_AN_INTEGER),
        ("INCRBY n +1", NOT_AN_INTEGER),
        ("INCRBY n 9223372036854775808", NOT_AN_INTEGER),
        ("DECRBY n -9223372036854775808", "-ERR decrement would overflow\n"),
        ("SET n 9223372036854775807", "+OK\n"),
        ("INCR n", OVERFLOW),
        ("SET n -9223372036854775808", "+OK\n"),
        ("DECR n", OVERFLOW),
        ("SET n 01", "+OK\n"),
        ("INCR n", NOT_AN_INTEGER),
    ]);
}

#[test]
fn keys() {
    Server::new().transcript(&[
        ("MSET a 1 b 2 a 3", "+OK\n"),
        ("MGET a b c a", "*4\n$1\n3\n$1\n2\n$-1\n$1\n3\n"),
        ("EXISTS a a c", ":2\n"),
        ("DBSIZE", ":2\n"),
        ("TYPE a", "+string\n"),
        ("TYPE c", "+none\n"),
        ("DEL a c", ":1\n"),
        ("UNLINK a b", ":1\n"),
        ("DBSIZE", ":0\n"),
        ("GET ", "$-1\n"),
    ]);
}

#[test]
fn versions() {
    Server::new().transcript(&[
        ("VGET k", "*-1\n"),
        ("VPUT k a 1", "-NOKEY the key is absent: version 0 creates it\n"),
        ("VPUT k a 0", ":1\n"),
        ("VPUT k b 0", "-VERSION stored version is 1\n"),
        ("VPUT k b 1", ":2\n"),
        ("SET k c", "+OK\n"),
        ("VGET k", "*2\n$1\nc\n:3\n"),
        ("VPUT k d 2", "-VERSION stored version is 3\n"),
        ("VPUT k d -1", NOT_AN_INTEGER),
        ("VPUT k d x", NOT_AN_INTEGER),
        ("HELLO 3", HELLO_3),
        ("VGET none", "_\n"),
    ]);
}

#[test]
fn what_is_too_long_is_refused_by_name() {
    let mut server = Server::new();
    let longest = vec![b'v'; VALUE_BYTES_MAX];
    let too_long = vec![b'v'; VALUE_BYTES_MAX + 1];
    let error = TOO_LONG.replace('\n', "\r\n").into_bytes();
    assert_eq!(server.send(&request(&[b"SET", &b"k"[..], &longest])), b"+OK\r\n");
    assert_eq!(server.send(&request(&[b"SET", &b"k"[..], &too_long])), error);
    assert_eq!(server.send(&request(&[b"MSET", &b"k"[..], &too_long])), error);
    assert_eq!(server.command("APPEND k x"), error.escape_ascii().to_string());
    server.transcript(&[("STRLEN k", ":16777216\n"), ("CONFIG GET proto-max*", BOUND)]);

    let key = vec![b'k'; KEY_BYTES_MAX];
    assert_eq!(server.send(&request(&[&b"SET"[..], &key, b"v"])), b"+OK\r\n");
    let key = vec![b'k'; KEY_BYTES_MAX + 1];
    for command in [&[&b"GET"[..], &key][..], &[b"SET", &key, b"v"], &[b"DEL", b"a", &key]] {
        assert_eq!(server.send(&request(command)), b"-ERR key exceeds 65536 bytes\r\n");
    }

    let half = &longest[..VALUE_BYTES_MAX / 2 + KEY_BYTES_MAX];
    let error = b"-ERR the keys and values of one command exceed 16842752 bytes together\r\n";
    assert_eq!(server.send(&request(&[b"MSET", &b"a"[..], half, b"b", half])), error);
    let error = b"-ERR the values exceed 67108864 bytes together: ask for fewer keys\r\n";
    assert_eq!(server.send(&request(&[b"MGET", &b"k"[..], b"k", b"k", b"k", b"k"])), error);
}

const BOUND: &str = "*2\n$18\nproto-max-bulk-len\n$8\n16777216\n";

#[test]
fn config() {
    Server::new().transcript(&[
        ("CONFIG", "-ERR wrong number of arguments for 'config' command\n"),
        ("CONFIG GET", "-ERR wrong number of arguments for 'config|get' command\n"),
        ("CONFIG GET none", "*0\n"),
        (
            "CONFIG GET max* PORT",
            "*6\n$9\nmaxmemory\n$1\n0\n$16\nmaxmemory-policy\n$10\nnoeviction\n$4\nport\n$4\n\
             7001\n",
        ),
        (
            "CONFIG SET maxmemory 1",
            "-ERR CONFIG SET is not supported: parameters stand in the node's configuration file\n",
        ),
        ("HELLO 3", HELLO_3),
        ("CONFIG GET save", "%1\n$4\nsave\n$0\n\n"),
        ("CONFIG GET none", "%0\n"),
    ]);
}

#[test]
fn info_by_section() {
    Server::new().transcript(&[
        ("INFO keyspace", "$44\n# Keyspace\ndb0:keys=7,expires=0,avg_ttl=0\n\n"),
        ("INFO none", "$0\n\n"),
        (
            "INFO CLUSTER Replication",
            "$80\n# Replication\nrole:master\nconnected_slaves:0\n\n# Cluster\n\
             cluster_enabled:1\n\n",
        ),
        ("HELLO 3", HELLO_3),
        ("INFO cluster", "=34\ntxt:# Cluster\ncluster_enabled:1\n\n"),
    ]);
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
}

#[test]
fn command_describes_the_table() {
    let mut server = Server::new();
    const GET: &str = "*10\n$3\nget\n:2\n*2\n+readonly\n+fast\n:1\n:1\n:1\n*3\n+@read\n+@string\n\
        +@fast\n*0\n*1\n*6\n$5\nflags\n*2\n+RO\n+access\n$12\nbegin_search\n*4\n$4\ntype\n\
        $5\nindex\n$4\nspec\n*2\n$5\nindex\n:1\n$9\nfind_keys\n*4\n$4\ntype\n$5\nrange\n$4\nspec\n\
        *6\n$7\nlastkey\n:0\n$7\nkeystep\n:1\n$5\nlimit\n:0\n*0\n";
    server.transcript(&[
        ("COMMAND COUNT", ":41\n"),
        ("COMMAND INFO get none", &format!("*2\n{GET}$-1\n")),
        ("COMMAND FOO", "-ERR unknown subcommand 'FOO'. Try COMMAND HELP.\n"),
        ("COMMAND COUNT x", "-ERR wrong number of arguments for 'command|count' command\n"),
        ("COMMAND GETKEYS MSET a 1 b 2", "*2\n$1\na\n$1\nb\n"),
        ("COMMAND GETKEYS EXISTS a b", "*2\n$1\na\n$1\nb\n"),
        ("COMMAND GETKEYS VPUT a b 1", "*1\n$1\na\n"),
        ("COMMAND GETKEYS GET a b", "-ERR Invalid number of arguments specified for command\n"),
        ("COMMAND GETKEYS CLIENT ID", "-ERR The command has no key arguments\n"),
        ("COMMAND GETKEYS FOO a", "-ERR Invalid command specified\n"),
        ("COMMAND LIST FILTERBY PATTERN v*", "*2\n$4\nvget\n$4\nvput\n"),
        (
            "COMMAND LIST FILTERBY ACLCAT keyspace",
            "*5\n$3\ndel\n$6\nexists\n$4\ntype\n$6\nunlink\n$4\nwait\n",
        ),
        ("COMMAND LIST FILTERBY MODULE x", "*0\n"),
        ("COMMAND LIST FILTERBY x y", "-ERR syntax error\n"),
        ("COMMAND DOCS none", "*0\n"),
        (
            "COMMAND DOCS vget",
            "*2\n$4\nvget\n*8\n$7\nsummary\n$40\nGives the value of a key and its version\n\
             $5\nsince\n$5\n0.1.0\n$5\ngroup\n$6\nstring\n$9\narguments\n*1\n*6\n$4\nname\n\
             $3\nkey\n$4\ntype\n$3\nkey\n$14\nkey_spec_index\n:0\n",
        ),
    ]);
    assert!(server.command("COMMAND").starts_with("*41\\r\\n*10\\r\\n$6\\r\\nappend\\r\\n"));
    assert_eq!(server.command("COMMAND"), server.command("COMMAND INFO"));
    assert!(server.command("COMMAND LIST").starts_with("*41\\r\\n$6\\r\\nappend\\r\\n"));
    assert!(server.command("COMMAND DOCS").starts_with("*82\\r\\n$6\\r\\nappend\\r\\n"));
    server.command("HELLO 3");
    let get = server.command("COMMAND INFO get");
    assert!(get.contains("~2\\r\\n+readonly") && get.ends_with(":0\\r\\n~0\\r\\n"), "{get}");
    assert!(server.command("COMMAND DOCS set").starts_with("%1\\r\\n$3\\r\\nset\\r\\n%4\\r\\n"));
}

#[test]
fn quitting() {
    let mut server = Server::new();
    assert_eq!(server.send(b"*1\r\n$4\r\nQUIT\r\n*1\r\n$4\r\nPING\r\n"), b"+OK\r\n");
    assert!(server.connection.is_finished() && !server.connection.wants_input());
}

#[test]
fn a_browser_is_sent_away_without_an_answer() {
    for request in ["POST / HTTP/1.1\r\n", "Host: example.org\r\n"] {
        let mut server = Server::new();
        assert_eq!(server.send(&[request, "SET k v\r\n"].concat().into_bytes()), b"");
        assert!(server.connection.is_finished());
        assert!(server.store.is_empty());
    }
}
