//! Clients of Redis Cluster that others have written, against a cluster of real processes, both with
//! `redirect = "never"` and `"always"`: the `redis` crate, redis-py, redis-cli and redis-benchmark.
//!
//! What is not installed is skipped, and says so on standard error; with `QUORATE_CLIENTS=required`, as
//! in continuous integration, it is an error.

mod common;

use std::{
    collections::{BTreeMap, BTreeSet},
    env, fs,
    io::Write,
    net::SocketAddr,
    path::{Path, PathBuf},
    process::Command,
    time::Duration,
};

use common::{Cluster, run, wait_until};
use quorate_kvserver::HashSlot;
use quorate_node::config::{Engine, Redirect};
use redis::{
    Commands, ErrorKind, ServerErrorKind, Value,
    cluster::{ClusterClient, ClusterConnection, cluster_pipe},
    cluster_read_routing::RandomReplicaStrategy,
    cluster_routing::{RoutingInfo, SingleNodeRoutingInfo},
};

/// Both ways to be asked for a key that another node leads, of a store that is not divided and of one that
/// is, among three groups.
const KINDS: [(Redirect, u32); 4] =
    [(Redirect::Never, 0), (Redirect::Always, 0), (Redirect::Never, 3), (Redirect::Always, 3)];
/// The version of redis-py that is tried.
const REDIS_PY: &str = "8.1.0";
const CROSS_SLOT: ErrorKind = ErrorKind::Server(ServerErrorKind::CrossSlot);
const MOVED: ErrorKind = ErrorKind::Server(ServerErrorKind::Moved);

/// A cluster that runs, and whose nodes agree on who leads.
fn started(engine: Engine, (redirect, groups): (Redirect, u32)) -> Cluster {
    let mut cluster = Cluster::of(engine, 3);
    if groups > 0 {
        cluster = cluster.divided(groups, 64);
    }
    for config in &mut cluster.configs {
        config.redirect = redirect;
    }
    cluster.start_all();
    // Who leads is known where something has been written, in every group. One key at a time: what the
    // client divides it does not send on when it is redirected.
    let mut client = cluster_client(&cluster).build().unwrap().get_connection().unwrap();
    for number in 0..100 {
        let key = format!("begin:{number}");
        client.set::<_, _, ()>(&key, "v").unwrap();
        assert_eq!(client.del::<_, usize>(&key).unwrap(), 1);
    }
    agreed(&cluster);
    cluster
}

/// Ranges of hash slots, each with the addresses of its leader and of the other nodes that answer reads.
type Map = Vec<(i64, i64, Vec<SocketAddr>)>;

/// Waits until all nodes that run say the same of every slot.
fn agreed(cluster: &Cluster) -> Map {
    wait_until("all nodes agree on who leads", || {
        let running = (0..cluster.configs.len()).filter(|i| cluster.running[*i].is_some());
        let maps: Option<Vec<Map>> = running.map(|i| slots(cluster, i)).collect();
        maps.filter(|maps| maps.windows(2).all(|two| two[0] == two[1]))?.pop()
    })
}

fn items(value: &Value) -> Option<&[Value]> {
    if let Value::Array(items) = value { Some(items) } else { None }
}

/// What a node says in CLUSTER SLOTS.
fn slots(cluster: &Cluster, i: usize) -> Option<Map> {
    let mut connection = common::connect(cluster.resp(i)).ok()?;
    let answer: Value = redis::cmd("CLUSTER").arg("SLOTS").query(&mut connection).ok()?;
    let address = |node: &Value| {
        let [Value::BulkString(host), Value::Int(port), ..] = items(node)? else { return None };
        format!("{}:{port}", String::from_utf8_lossy(host)).parse().ok()
    };
    let read = |range: &Value| {
        let [Value::Int(start), Value::Int(end), nodes @ ..] = items(range)? else { return None };
        let mut nodes: Vec<SocketAddr> = nodes.iter().map(address).collect::<Option<_>>()?;
        nodes[1..].sort();
        Some((*start, *end, nodes))
    };
    items(&answer)?.iter().map(read).collect()
}

/// Whom to ask for a key: its leader, and who else answers reads.
fn nodes_of<'a>(map: &'a Map, key: &str) -> (SocketAddr, &'a [SocketAddr]) {
    let slot = i64::from(HashSlot::of(key.as_bytes()).number());
    let range = map.iter().find(|(start, end, _)| (*start..=*end).contains(&slot));
    let (_, _, nodes) = range.expect("there is no gap");
    (nodes[0], &nodes[1..])
}

/// How many errors that begin with a word the nodes have answered.
fn errors(cluster: &Cluster, word: &str) -> u64 {
    let of = |i: usize| -> u64 {
        let mut connection = cluster.connect(i);
        let info: String = redis::cmd("INFO").arg("errorstats").query(&mut connection).unwrap();
        let field = format!("errorstat_{word}:count=");
        let counted = info.lines().find_map(|line| line.strip_prefix(&field)?.trim().parse().ok());
        counted.unwrap_or(0)
    };
    (0..cluster.configs.len()).filter(|i| cluster.running[*i].is_some()).map(of).sum()
}

/// Errors that begin with a word, from a moment on.
struct Count(&'static str, u64);

impl Count {
    fn from_now(cluster: &Cluster, word: &'static str) -> Count {
        Count(word, errors(cluster, word))
    }

    fn now(&self, cluster: &Cluster) -> u64 {
        errors(cluster, self.0) - self.1
    }
}

fn cluster_client(cluster: &Cluster) -> redis::cluster::ClusterClientBuilder {
    let urls = cluster.configs.iter().map(|config| format!("redis://{}", config.listen_resp));
    ClusterClient::builder(urls)
        .connection_timeout(Duration::from_secs(2))
        .response_timeout(Duration::from_secs(20))
}

/// A client that says so when it is missing.
fn installed(program: &str) -> bool {
    let found = Command::new(program).arg("--version").output().is_ok_and(|o| o.status.success());
    if !found {
        skip(&format!("{program} is not installed"));
    }
    found
}

/// Says, past what the test runner swallows, that something is not tried.
fn skip(why: &str) {
    let required = env::var("QUORATE_CLIENTS").is_ok_and(|value| value == "required");
    assert!(!required, "{why}, and QUORATE_CLIENTS=required");
    let _ = writeln!(std::io::stderr(), "skipped: {why}");
}

/// Runs a program that must succeed, and gives what it printed.
fn output_of(command: &mut Command) -> String {
    let (code, out, err) = run(command);
    assert_eq!(code, Some(0), "{command:?}\n{out}\n{err}");
    out
}

#[test]
fn redirections_on_the_wire() {
    for engine in Engine::ALL {
        for kind in KINDS {
            redirections(&started(engine, kind), kind.0);
        }
    }
}

/// Every key is asked of every node: who is not its leader answers, or says where to go.
fn redirections(cluster: &Cluster, redirect: Redirect) {
    let map = agreed(cluster);
    let counts = ["MOVED", "CROSSSLOT"].map(|word| Count::from_now(cluster, word));
    let keys: Vec<String> = (0..100).map(|number| format!("wire:{number}")).collect();
    let mut moved = 0;
    for i in 0..3 {
        let (me, mut node) = (cluster.resp(i), cluster.connect(i));
        for key in &keys {
            let (leader, _) = nodes_of(&map, key);
            let answer = node.set::<_, _, ()>(key, "v");
            moved += moved_to(leader, redirect == Redirect::Never || leader == me, key, answer);
        }
        let pair = node.mset::<_, _, ()>(&[("wire:0", "v"), ("wire:1", "v")]);
        match redirect {
            Redirect::Never => pair.unwrap(),
            Redirect::Always => assert_eq!(pair.unwrap_err().kind(), CROSS_SLOT),
        }
    }
    for i in 0..3 {
        let (me, mut node) = (cluster.resp(i), cluster.connect(i));
        // Any node may be asked for what has no keys, and replicas for what only reads.
        assert_eq!(redis::cmd("DBSIZE").query::<usize>(&mut node).unwrap(), keys.len());
        redis::cmd("READONLY").exec(&mut node).unwrap();
        for key in &keys {
            let (leader, replicas) = nodes_of(&map, key);
            let here = redirect == Redirect::Never || leader == me || replicas.contains(&me);
            let answer = node.get::<_, String>(key).map(|value| assert_eq!(value, "v"));
            moved += moved_to(leader, here, key, answer);
        }
    }
    assert_eq!(agreed(cluster), map, "others have come to lead meanwhile: the counts say nothing");
    let always = redirect == Redirect::Always;
    assert_eq!(moved > 0, always);
    let expected = [moved, if always { 3 } else { 0 }];
    assert_eq!(counts.map(|count| count.now(cluster)), expected);
}

/// Holds an answer against where it had to come from; gives 1 if it was to go elsewhere.
fn moved_to(leader: SocketAddr, here: bool, key: &str, answer: redis::RedisResult<()>) -> u64 {
    if here {
        answer.unwrap();
        return 0;
    }
    let error = answer.expect_err("it is another's");
    assert_eq!(error.kind(), MOVED, "{error}");
    let slot = HashSlot::of(key.as_bytes()).number();
    assert_eq!(error.redirect_node(), Some((leader.to_string().as_str(), slot)));
    1
}

#[test]
fn the_redis_crate() {
    for kind @ (redirect, _) in KINDS {
        let cluster = started(Engine::Paxos, kind);
        let moved = Count::from_now(&cluster, "MOVED");
        let mut client = cluster_client(&cluster).build().unwrap().get_connection().unwrap();
        several_slots(&mut client);
        assert_eq!(moved.now(&cluster), 0, "the map is right");
        wrong_nodes(&cluster, redirect, &mut client);

        let moved = Count::from_now(&cluster, "MOVED");
        let readers = cluster_client(&cluster).read_routing_strategy(RandomReplicaStrategy);
        let mut reader = readers.build().unwrap().get_connection().unwrap();
        for number in 0..100 {
            assert_eq!(reader.get::<_, u32>(format!("crate:{number}")).unwrap(), number);
        }
        assert_eq!(moved.now(&cluster), 0, "replicas answer reads after READONLY");
    }
}

/// MSET, MGET and DEL, which the client divides by slot, and a pipeline, which it divides by node.
fn several_slots(client: &mut ClusterConnection) {
    let pairs: Vec<(String, u32)> = (0..100).map(|n| (format!("crate:{n}"), n)).collect();
    let keys: Vec<&String> = pairs.iter().map(|(key, _)| key).collect();
    client.mset::<_, _, ()>(&pairs).unwrap();
    let values: Vec<Option<u32>> = client.mget(&keys).unwrap();
    assert_eq!(values, (0..100).map(Some).collect::<Vec<_>>());
    assert_eq!(client.exists::<_, usize>(&keys).unwrap(), 100);
    assert_eq!(client.del::<_, usize>(&keys[..30]).unwrap(), 30);
    let values: Vec<Option<u32>> = client.mget(&keys).unwrap();
    assert!(values[..30].iter().all(Option::is_none) && values[30..].iter().all(Option::is_some));
    let mut pipe = cluster_pipe();
    for (key, number) in &pairs {
        pipe.set(key, number - number % 2).ignore().incr(key, number % 2);
    }
    let sums: Vec<u32> = pipe.query(client).unwrap();
    assert_eq!(sums, (0..100).collect::<Vec<_>>(), "answers in the order of the pipeline");
}

/// Each key asked of each node: the client follows where it is sent.
fn wrong_nodes(cluster: &Cluster, redirect: Redirect, client: &mut ClusterConnection) {
    let (map, moved) = (agreed(cluster), Count::from_now(cluster, "MOVED"));
    let mut elsewhere = 0;
    for address in cluster.configs.iter().map(|config| config.listen_resp) {
        let (host, port) = (address.ip().to_string(), address.port());
        let node = SingleNodeRoutingInfo::ByAddress { host, port };
        let here = || RoutingInfo::SingleNode(node.clone());
        for number in 0..20 {
            let key = format!("crate:{number}");
            let get = redis::cmd("GET").arg(&key).clone();
            let value = client.route_command(&get, here()).unwrap();
            assert_eq!(value, Value::BulkString(number.to_string().into_bytes()));
            elsewhere += u64::from(nodes_of(&map, &key).0 != address);
        }
        let two = redis::cmd("MGET").arg("crate:0").arg("crate:1").clone();
        match (redirect, client.route_command(&two, here())) {
            (Redirect::Never, values) => assert_eq!(items(&values.unwrap()).unwrap().len(), 2),
            (Redirect::Always, error) => assert_eq!(error.unwrap_err().kind(), CROSS_SLOT),
        }
    }
    let expected = if redirect == Redirect::Always { elsewhere } else { 0 };
    assert!(elsewhere > 0);
    assert_eq!(moved.now(cluster), expected, "one for each that was asked of another");
}

/// The leader is killed and comes back as a follower: a client that still takes it for the leader is sent
/// on by it. (While it is away this client asks nobody else; that is how it is made. On Paxos it could
/// come back to lead: whoever has something to ask and hears of no leader becomes one.)
#[test]
fn the_redis_crate_follows_the_leader() {
    let mut cluster = started(Engine::Raft, (Redirect::Always, 0));
    let mut client = cluster_client(&cluster).build().unwrap().get_connection().unwrap();
    client.set::<_, _, ()>("follow", "before").unwrap();
    let (former, _) = nodes_of(&agreed(&cluster), "follow");
    let killed = (0..3).find(|i| cluster.resp(*i) == former).expect("one of ours");
    cluster.kill(killed);
    wait_until("another leads", || {
        // Either of the others, whichever does not send to the other.
        [1, 2].iter().find_map(|step| {
            let mut other = common::connect(cluster.resp((killed + step) % 3)).ok()?;
            other.set::<_, _, ()>("follow", "meanwhile").ok()
        })
    });
    cluster.start(killed);
    cluster.wait_ready();
    let (leader, _) = nodes_of(&agreed(&cluster), "follow");
    assert_ne!(leader, former, "a follower that has come back");
    let moved = Count::from_now(&cluster, "MOVED");
    assert_eq!(client.get::<_, String>("follow").unwrap(), "meanwhile");
    assert_eq!(moved.now(&cluster), 1);
    client.set::<_, _, ()>("follow", "after").unwrap();
    assert_eq!(client.get::<_, String>("follow").unwrap(), "after");
    assert_eq!(moved.now(&cluster), 1, "it has learned where to go");
}

/// A Python with redis-py, made once for all runs of the suite.
fn python() -> Option<PathBuf> {
    if !installed("python3") {
        return None;
    }
    let made = Path::new(env!("CARGO_TARGET_TMPDIR")).join(format!("redis-py-{REDIS_PY}"));
    if !made.exists() {
        if !Command::new("python3")
            .args(["-c", "import venv, ensurepip"])
            .status()
            .unwrap()
            .success()
        {
            skip("python3 has no venv or no pip (Debian: python3-venv)");
            return None;
        }
        // Made aside and renamed when it is whole: another run may be making it, too.
        let aside = tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR")).unwrap();
        let venv = aside.path().join("venv");
        output_of(Command::new("python3").args(["-m", "venv"]).arg(&venv));
        let install = ["-m", "pip", "install", "--quiet", "--disable-pip-version-check"];
        let version = format!("redis=={REDIS_PY}");
        output_of(Command::new(venv.join("bin/python")).args(install).arg(version));
        if let Err(error) = fs::rename(&venv, &made) {
            assert!(made.exists(), "{error}");
        }
    }
    Some(made.join("bin/python"))
}

#[test]
fn redis_py() {
    let Some(python) = python() else { return };
    for kind @ (redirect, _) in KINDS {
        let cluster = started(Engine::Raft, kind);
        let word = if redirect == Redirect::Always { "always" } else { "never" };
        let script = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/redis_cluster/cluster_client.py");
        let ports = cluster.configs.iter().map(|config| config.listen_resp.port().to_string());
        let moved = Count::from_now(&cluster, "MOVED");
        let told = output_of(Command::new(&python).arg(script).arg(word).args(ports));
        let counts: BTreeMap<String, u64> = serde_json::from_str(told.trim()).unwrap();
        let count = |word: &str| counts.get(word).copied().unwrap_or(0);
        let sent = redirect == Redirect::Always;
        assert_eq!((count("MOVED") > 0, count("CROSSSLOT") > 0), (sent, sent), "{counts:?}");
        assert_eq!(moved.now(&cluster), count("MOVED"));
    }
}

#[test]
fn redis_cli() {
    if !installed("redis-cli") {
        return;
    }
    for kind @ (redirect, _) in KINDS {
        let cluster = started(Engine::Paxos, kind);
        let (map, moved) = (agreed(&cluster), Count::from_now(&cluster, "MOVED"));
        let always = redirect == Redirect::Always;
        let mut elsewhere = 0;
        for i in 0..3 {
            let address = cluster.resp(i);
            let cli = |args: &[&str]| {
                let port = address.port().to_string();
                let mut command = Command::new("redis-cli");
                let out = output_of(command.args(["-h", "127.0.0.1", "-p", &port]).args(args));
                out.trim_end().to_string()
            };
            for number in 0..5 {
                let key = format!("cli:{number}");
                let (leader, _) = nodes_of(&map, &key);
                let value = format!("{i}");
                assert!(cli(&["-c", "SET", &key, &value]).ends_with("OK"));
                let got = cli(&["-c", "GET", &key]);
                assert!(got.ends_with(&value), "{got}");
                let slot = HashSlot::of(key.as_bytes()).number();
                let plain = cli(&["GET", &key]);
                if always && leader != address {
                    assert_eq!(plain, format!("MOVED {slot} {leader}"));
                    elsewhere += 3;
                } else {
                    assert_eq!(plain, value);
                }
            }
            let two = cli(&["MGET", "cli:0", "cli:1"]);
            let cross = "CROSSSLOT Keys in request don't hash to the same slot";
            assert_eq!(two, if always { cross.to_string() } else { format!("{i}\n{i}") });
        }
        assert_eq!(moved.now(&cluster), elsewhere, "followed, or shown, once each");
        assert_eq!(elsewhere > 0, always);
    }
}

#[test]
fn redis_benchmark() {
    if !installed("redis-benchmark") {
        return;
    }
    for kind @ (redirect, _) in KINDS {
        let cluster = started(Engine::Paxos, kind);
        let (map, moved) = (agreed(&cluster), Count::from_now(&cluster, "MOVED"));
        let leaders: BTreeSet<SocketAddr> = map.iter().map(|(_, _, nodes)| nodes[0]).collect();
        for address in cluster.configs.iter().map(|config| config.listen_resp) {
            let tests = ["SET", "GET", "INCR", "MSET (10 keys)"];
            let mut clustered = benchmark(address, &["--cluster", "-t", "set,get,incr,mset"]);
            if leaders.len() > 1 {
                check_speeds(&output_of(&mut clustered), &tests);
                continue;
            }
            // It finds the one that leads, and refuses to call that a cluster.
            let (code, out, err) = run(&mut clustered);
            assert_eq!(code, Some(1));
            assert!(format!("{out}{err}").contains("Invalid cluster: 1 node(s)."), "{out}{err}");
            // Without that option it asks one node for everything, and its MSET is of several slots.
            if redirect == Redirect::Never {
                let mut plain = benchmark(address, &["-t", "set,get,incr,mset"]);
                check_speeds(&output_of(&mut plain), &tests);
            } else if leaders.contains(&address) {
                let mut plain = benchmark(address, &["-t", "set,get,incr"]);
                check_speeds(&output_of(&mut plain), &tests[..3]);
            }
        }
        assert_eq!(moved.now(&cluster), 0, "it asks who leads");
        let written: usize = redis::cmd("DBSIZE").query(&mut cluster.connect(0)).unwrap();
        assert!(written > 100, "SET and INCR have written {written} keys");
    }
}

fn benchmark(address: SocketAddr, options: &[&str]) -> Command {
    let mut command = Command::new("redis-benchmark");
    command.args(["-h", "127.0.0.1", "-p", &address.port().to_string()]).args(options);
    command.args(["-n", "600", "-c", "6", "-r", "300", "--csv"]);
    command
}

/// Holds the table of a benchmark against the tests that it was to run.
fn check_speeds(out: &str, tests: &[&str]) {
    for test in tests {
        let line = out.lines().find(|line| line.starts_with(&format!("\"{test}\"")));
        let speed = line.and_then(|line| line.split('"').nth(3)?.parse::<f64>().ok());
        assert!(speed.is_some_and(|speed| speed > 0.0), "{test}:\n{out}");
    }
}
