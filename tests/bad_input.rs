//! Bad input of every kind: a clear error each, and the node serves on.

mod common;

use std::{
    fs,
    io::{Read, Write},
    net::{SocketAddr, TcpStream},
    time::Duration,
};

use quorate_node::config::Engine;

use common::{Cluster, PATIENCE, free_address, http_get, quorate, run, wait_until};

fn serves(cluster: &Cluster) {
    for node in 0..cluster.configs.len() {
        let mut connection = cluster.connect(node);
        redis::cmd("SET").arg("alive").arg(node).exec(&mut connection).unwrap();
        let read: usize = redis::cmd("GET").arg("alive").query(&mut connection).unwrap();
        assert_eq!(read, node);
    }
}

/// Sends bytes, and hears what comes back until the other side closes or is silent for a while.
fn send(address: SocketAddr, bytes: &[u8]) {
    let mut stream = TcpStream::connect(address).unwrap();
    stream.set_read_timeout(Some(Duration::from_millis(500))).unwrap();
    // It may close while we still write: that is an answer too.
    let _ = stream.write_all(bytes);
    let mut buffer = [0; 4096];
    while let Ok(1..) = stream.read(&mut buffer) {}
}

/// Sends bytes, and answers what comes back until it is so long or the other side closes.
fn answer(address: SocketAddr, bytes: &[u8], length: usize) -> String {
    let mut stream = TcpStream::connect(address).unwrap();
    stream.set_read_timeout(Some(PATIENCE)).unwrap();
    stream.write_all(bytes).unwrap();
    let mut answer = vec![];
    stream.take(length as u64).read_to_end(&mut answer).unwrap();
    String::from_utf8_lossy(&answer).into_owned()
}

fn garbage(seed: u64) -> Vec<u8> {
    use rand::{RngCore, SeedableRng, rngs::StdRng};
    let mut bytes = vec![0; 64 * 1024];
    StdRng::seed_from_u64(seed).fill_bytes(&mut bytes);
    bytes
}

#[test]
fn garbage_on_every_port_harms_nothing() {
    let cluster = Cluster::started(3);
    let peer: SocketAddr = cluster.configs[0].listen_peer;
    for seed in 0..20 {
        let bytes = garbage(seed);
        send(cluster.resp(0), &bytes);
        send(peer, &bytes);
        send(cluster.debug(0), &bytes);
    }
    // Redis' own words for the commonest mistakes.
    for (sent, expected) in [
        ("*1\r\n$99999999999\r\n", "-ERR Protocol error: invalid bulk length\r\n"),
        ("*99999999999\r\n", "-ERR Protocol error: invalid multibulk length\r\n"),
        ("*1\r\n!3\r\nfoo\r\n", "-ERR Protocol error: expected '$', got '!'\r\n"),
        ("GET\r\n", "-ERR wrong number of arguments for 'get' command\r\n"),
        ("set k v EX 10\r\n", "-ERR"),
        ("nonsense a\r\n", "-ERR unknown command 'nonsense', with args beginning with: 'a' \r\n"),
    ] {
        let got = answer(cluster.resp(0), sent.as_bytes(), expected.len());
        assert_eq!(got, expected, "{sent:?}");
    }
    serves(&cluster);
    assert!(http_get(cluster.debug(0), "/healthz").is_some(), "the debug port answers still");
}

#[test]
fn a_half_open_handshake_and_a_frame_of_4_gib_harm_nothing() {
    let cluster = Cluster::started(3);
    let peer: SocketAddr = cluster.configs[0].listen_peer;
    let half_open: Vec<TcpStream> = (0..100).map(|_| TcpStream::connect(peer).unwrap()).collect();
    let mut huge = u32::MAX.to_le_bytes().to_vec();
    huge.extend([1; 1000]);
    for _ in 0..10 {
        send(peer, &huge);
    }
    serves(&cluster);
    drop(half_open);
    serves(&cluster);
}

#[test]
fn a_node_of_another_cluster_is_refused_by_name() {
    let mut cluster = Cluster::started(3);
    cluster.kill(2);
    let mut stranger = cluster.configs[2].clone();
    stranger.cluster_id = "elsewhere".into();
    stranger.dir = cluster.dir.path().join("stranger");
    std::mem::swap(&mut cluster.configs[2], &mut stranger);
    cluster.start(2);
    wait_until("the refusal is told", || {
        let log = cluster.log(2) + &cluster.log(0) + &cluster.log(1);
        (log.contains("elsewhere") && log.contains("test")).then_some(())
    });
    // Two of three go on; the stranger serves nobody.
    for node in 0..2 {
        let mut connection = cluster.connect(node);
        redis::cmd("SET").arg("k").arg("v").exec(&mut connection).unwrap();
    }
    let mut connection = cluster.connect(2);
    let refused = redis::cmd("SET").arg("k").arg("w").exec(&mut connection).unwrap_err();
    assert_eq!(refused.code(), Some("CLUSTERDOWN"), "{refused}");
    cluster.kill(2);
    cluster.configs[2] = stranger;
    cluster.start(2);
    cluster.wait_ready();
    serves(&cluster);
}

/// Exit codes of `quorate node`, see its --help.
const COULD_NOT_START: i32 = 1;
const BAD_CONFIGURATION: i32 = 2;

/// Starts a node that cannot start; answers what it says.
fn refused(cluster: &Cluster, i: usize) -> String {
    let file = cluster.config_file(i);
    let (code, _, error) = run(quorate().args(["node", "--config"]).arg(file));
    assert_eq!(code, Some(COULD_NOT_START), "{error}");
    error
}

fn assert_says(text: &str, words: &[&str]) {
    for word in words {
        assert!(text.contains(word), "`{word}` is missing in: {text}");
    }
}

#[test]
fn a_directory_that_is_in_use_or_of_somebody_else_is_refused() {
    let mut cluster = Cluster::started(1);
    let mut second = Cluster::new(1);
    second.configs[0].dir = cluster.configs[0].dir.clone();
    assert_says(&refused(&second, 0), &["in use"]);
    serves(&cluster);

    cluster.kill(0);
    second.configs[0].cluster_id = "other".into();
    assert_says(&refused(&second, 0), &["test", "other"]);
    second.configs[0].cluster_id = "test".into();
    second.configs[0].engine = Engine::Raft;
    assert_says(&refused(&second, 0), &["cluster test,", "test on raft"]);
    second.configs[0].engine = Engine::Paxos;
    second.configs[0].node = 2;
    second.configs[0].nodes[0].node = 2;
    assert_says(&refused(&second, 0), &["node"]);

    // What no user may write to, root included.
    second.configs[0].dir = "/sys/quorate".into();
    assert_says(&refused(&second, 0), &["/sys/quorate"]);
    // A file where a directory should be.
    let file = second.dir.path().join("file");
    fs::write(&file, "x").unwrap();
    second.configs[0].dir = file;
    assert_says(&refused(&second, 0), &["directory"]);
    // An empty directory of a cluster that was formed already: a lost disk. On Raft its node begins as nobody.
    second.configs[0].dir = second.dir.path().join("lost");
    second.configs[0].initial = false;
    assert_says(&refused(&second, 0), &["lost", "blank", "`initial = true`"]);
    assert!(!second.configs[0].dir.exists(), "a missing directory is not made");
    second.configs[0].engine = Engine::Raft;
    second.start(0);
    wait_until("it says what it waits for", || {
        second.log(0).contains("(blank: it serves once its group has taken it in)").then_some(())
    });

    cluster.start(0);
    cluster.wait_ready();
    serves(&cluster);
}

#[test]
fn a_configuration_that_cannot_work_is_refused_by_name() {
    let cluster = Cluster::new(1);
    let good = cluster.configs[0].to_toml().unwrap();
    let try_for = |text: String, expected: i32| {
        let file = cluster.dir.path().join("bad.toml");
        fs::write(&file, text).unwrap();
        let (code, _, error) = run(quorate().args(["node", "--config"]).arg(&file));
        assert_eq!(code, Some(expected), "{error}");
        error
    };
    let try_with = |text: String| try_for(text, BAD_CONFIGURATION);
    assert_says(&try_with(format!("frobnicate = 7\n{good}")), &["frobnicate", "unknown"]);
    assert_says(&try_with(good.replacen("node = 1", "node = 7", 1)), &["7", "nodes"]);
    assert_says(&try_with("cluster_id = ".into()), &["not valid"]);
    assert_says(&try_with(good.replace("\"test\"", "\"\"")), &["cluster_id"]);
    let most = i64::MAX;
    for (line, named) in [
        ("clients_max = 1000", "clients_max"),
        ("request_deadline_ms = 10000", "request_deadline_ms"),
        ("log_bytes_max = 262144", "log_bytes_max"),
    ] {
        assert!(good.contains(line), "{line}");
        let error = try_with(good.replace(line, &format!("{named} = {most}")));
        assert_says(&error, &[named, &most.to_string()]);
    }
    let missing = cluster.dir.path().join("missing.toml");
    let (code, _, error) = run(quorate().args(["node", "--config"]).arg(&missing));
    assert_eq!(code, Some(BAD_CONFIGURATION));
    assert_says(&error, &["missing.toml", "cannot be read"]);

    let mut taken = cluster.configs[0].clone();
    let holder = std::net::TcpListener::bind(free_address()).unwrap();
    taken.listen_resp = holder.local_addr().unwrap();
    let error = try_for(taken.to_toml().unwrap(), COULD_NOT_START);
    assert_says(&error, &["listen_resp", "in use"]);
}
