//! Real node processes on loopback, for the tests that kill them.

#![allow(dead_code, unreachable_pub, reason = "each test binary uses its own part of this")]

pub mod load;

use std::{
    collections::BTreeSet,
    fs,
    io::{BufRead, BufReader, Read, Write},
    net::{SocketAddr, TcpListener, TcpStream},
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    sync::{Mutex, mpsc},
    time::{Duration, Instant},
};

use quorate_node::config::{Engine, GroupSpec, NodeConfig, Peer, Reads, Redirect, Sharding};
use tempfile::TempDir;

/// Both engines, for tests that hold for either.
pub const ENGINES: &[Engine] = &Engine::ALL;

/// How long anything that must happen may take: generous, since the machine may be busy.
pub const PATIENCE: Duration = Duration::from_secs(60);

#[expect(clippy::disallowed_methods, reason = "real processes live in real time")]
pub fn now() -> Instant {
    Instant::now()
}

/// Waits a little, while real processes do something that cannot be waited for otherwise.
#[expect(clippy::disallowed_methods, reason = "real processes live in real time")]
pub fn pause(ms: u64) {
    std::thread::sleep(Duration::from_millis(ms));
}

/// Waits until `done` gives something.
pub fn wait_until<T>(what: &str, mut done: impl FnMut() -> Option<T>) -> T {
    let begin = now();
    loop {
        if let Some(result) = done() {
            return result;
        }
        assert!(begin.elapsed() < PATIENCE, "not within {PATIENCE:?}: {what}");
        pause(5);
    }
}

/// An address on loopback that nobody uses, and that this process has not given out before.
pub fn free_address() -> SocketAddr {
    static GIVEN: Mutex<BTreeSet<u16>> = Mutex::new(BTreeSet::new());
    let mut given = GIVEN.lock().unwrap_or_else(|poisoned| poisoned.into_inner());
    loop {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        if given.insert(address.port()) {
            return address;
        }
    }
}

/// A node process. Killed when dropped.
pub struct NodeProcess {
    child: Child,
}

impl Drop for NodeProcess {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// A cluster of node processes, some of which may be down.
pub struct Cluster {
    pub dir: TempDir,
    pub configs: Vec<NodeConfig>,
    pub running: Vec<Option<NodeProcess>>,
}

impl Cluster {
    /// Configurations of a cluster; nothing runs.
    pub fn new(nodes: u32) -> Cluster {
        Cluster::of(Engine::Paxos, nodes)
    }

    /// As `new`, on an engine.
    pub fn of(engine: Engine, nodes: u32) -> Cluster {
        let dir = tempfile::tempdir().unwrap();
        let peers: Vec<Peer> = (1..=nodes)
            .map(|node| Peer {
                node,
                peer: free_address().to_string(),
                resp: free_address().to_string(),
            })
            .collect();
        let configs = peers.iter().map(|peer| NodeConfig {
            cluster_id: "test".into(),
            node: peer.node,
            dir: dir.path().join(format!("n{}", peer.node)),
            initial: true,
            engine,
            listen_peer: peer.peer.parse().unwrap(),
            listen_resp: peer.resp.parse().unwrap(),
            listen_debug: free_address(),
            faults: true,
            reads: Reads::Barrier,
            log_bytes_max: 256 * 1024,
            clients_max: 1000,
            request_deadline_ms: 10_000,
            group_threads: 0,
            redirect: Redirect::Never,
            nodes: peers.clone(),
            sharding: None,
        });
        let configs: Vec<NodeConfig> = configs.collect();
        let running = configs.iter().map(|_| None).collect();
        Cluster { dir, configs, running }
    }

    /// Divides the store among groups with a replica on every node, as the shardmaster has.
    pub fn divided(mut self, groups: u32, shards: u16) -> Cluster {
        let nodes: Vec<u32> = (1..=self.configs.len() as u32).collect();
        let spec = |group: u32| {
            let mut nodes = nodes.clone();
            nodes.rotate_left(group as usize % self.configs.len());
            GroupSpec { group, nodes }
        };
        let groups = (1..=groups).map(spec).collect();
        let sharding = Sharding { shards, shardmaster: nodes.clone(), groups };
        for config in &mut self.configs {
            config.sharding = Some(sharding.clone());
        }
        self
    }

    /// A cluster that runs and has answered.
    pub fn started(nodes: u32) -> Cluster {
        Cluster::started_on(Engine::Paxos, nodes)
    }

    /// As `started`, on an engine.
    pub fn started_on(engine: Engine, nodes: u32) -> Cluster {
        let mut cluster = Cluster::of(engine, nodes);
        cluster.start_all();
        cluster
    }

    /// Starts every node, and waits until all answer.
    pub fn start_all(&mut self) {
        for i in 0..self.configs.len() {
            self.start(i);
        }
        self.wait_ready();
    }

    pub fn config_file(&self, i: usize) -> PathBuf {
        let path = self.dir.path().join(format!("n{}.toml", i + 1));
        fs::write(&path, self.configs[i].to_toml().unwrap()).unwrap();
        path
    }

    /// Starts a node; does not wait for it.
    pub fn start(&mut self, i: usize) {
        let log = fs::File::options()
            .create(true)
            .append(true)
            .open(self.dir.path().join(format!("n{}.log", i + 1)))
            .unwrap();
        let child = quorate()
            .args(["node", "--config"])
            .arg(self.config_file(i))
            .stdin(Stdio::null())
            .stdout(log.try_clone().unwrap())
            .stderr(log)
            .spawn()
            .unwrap();
        self.running[i] = Some(NodeProcess { child });
    }

    /// `kill -9`, and waits until the process is gone.
    pub fn kill(&mut self, i: usize) {
        self.running[i] = None;
    }

    /// `kill -9`, and its directory is gone. From now on it is started as a node of a cluster that was formed.
    pub fn wipe(&mut self, i: usize) {
        self.kill(i);
        fs::remove_dir_all(&self.configs[i].dir).unwrap();
        self.configs[i].initial = false;
    }

    pub fn log(&self, i: usize) -> String {
        fs::read_to_string(self.dir.path().join(format!("n{}.log", i + 1))).unwrap_or_default()
    }

    pub fn resp(&self, i: usize) -> SocketAddr {
        self.configs[i].listen_resp
    }

    pub fn debug(&self, i: usize) -> SocketAddr {
        self.configs[i].listen_debug
    }

    /// A connection of a Redis client to a node; waits until there is one.
    pub fn connect(&self, i: usize) -> redis::Connection {
        wait_until("a connection", || connect(self.resp(i)).ok())
    }

    /// Waits until every running node answers a read.
    pub fn wait_ready(&self) {
        for i in 0..self.configs.len() {
            if self.running[i].is_some() {
                wait_until(&format!("node {} answers", i + 1), || {
                    let mut connection = connect(self.resp(i)).ok()?;
                    // Of a read without a key nobody is sent elsewhere.
                    redis::cmd("DBSIZE").query::<u64>(&mut connection).ok()
                });
            }
        }
    }

    /// Everything that can be seen from outside, for a test that fails.
    pub fn describe(&self) -> String {
        let mut text = String::new();
        for (i, running) in self.running.iter().enumerate() {
            let node = i + 1;
            text += &format!("== node {node}, running: {}\n", running.is_some());
            let mut paths = vec!["/debug/status".to_string(), "/debug/actors".to_string()];
            for actor in ["acceptor", "proposer", "learner", "raft", "rsm", "kvserver"] {
                paths.push(format!("/debug/actors/n{node}/g1/{actor}/mailbox"));
            }
            paths.push(format!("/debug/actors/n{node}/clerk/mailbox"));
            for path in paths {
                let answer = http_get(self.debug(i), &path).unwrap_or_default();
                text += &format!("{path}: {answer}\n");
            }
            text += &self.log(i);
        }
        text
    }

    /// The leader, as the nodes' debug endpoints tell it.
    pub fn leader(&self) -> usize {
        wait_until("a leader", || {
            (0..self.configs.len()).filter(|i| self.running[*i].is_some()).find_map(|i| {
                let status = http_get(self.debug(i), "/debug/status")?;
                let status: serde_json::Value = serde_json::from_str(&status).ok()?;
                let leader = status["leader"].as_u64()? as usize - 1;
                self.running[leader].as_ref().map(|_| leader)
            })
        })
    }
}

/// The binary under test.
pub fn quorate() -> Command {
    Command::new(env!("CARGO_BIN_EXE_quorate"))
}

/// One connection, with time limits on all it does.
pub fn connect(address: SocketAddr) -> redis::RedisResult<redis::Connection> {
    let client = redis::Client::open(format!("redis://{address}"))?;
    let connection = client.get_connection_with_timeout(Duration::from_secs(2))?;
    connection.set_read_timeout(Some(Duration::from_secs(20)))?;
    connection.set_write_timeout(Some(Duration::from_secs(20)))?;
    Ok(connection)
}

/// A GET over HTTP; `None` unless it is answered with 200.
pub fn http_get(address: SocketAddr, path: &str) -> Option<String> {
    let answer = http(address, &format!("GET {path} HTTP/1.1"))?;
    let (head, body) = answer.split_once("\r\n\r\n")?;
    head.starts_with("HTTP/1.1 200").then(|| body.to_string())
}

/// A POST over HTTP; answers the status line and the rest.
pub fn http_post(address: SocketAddr, path: &str) -> Option<String> {
    http(address, &format!("POST {path} HTTP/1.1\r\nContent-Length: 0"))
}

fn http(address: SocketAddr, head: &str) -> Option<String> {
    let mut stream = TcpStream::connect_timeout(&address, Duration::from_secs(2)).ok()?;
    stream.set_read_timeout(Some(Duration::from_secs(10))).ok()?;
    write!(stream, "{head}\r\nHost: localhost\r\nConnection: close\r\n\r\n").ok()?;
    let mut answer = Vec::new();
    stream.read_to_end(&mut answer).ok()?;
    let answer = String::from_utf8_lossy(&answer).into_owned();
    Some(unchunk(answer))
}

/// Puts a body that came in chunks together.
fn unchunk(answer: String) -> String {
    let Some((head, mut rest)) = answer.split_once("\r\n\r\n") else { return answer };
    if !head.to_ascii_lowercase().contains("transfer-encoding: chunked") {
        return answer;
    }
    let mut body = String::new();
    while let Some((size, more)) = rest.split_once("\r\n") {
        let size = usize::from_str_radix(size.trim(), 16).unwrap_or(0);
        if size == 0 || more.len() < size {
            break;
        }
        body.push_str(&more[..size]);
        rest = more[size..].trim_start_matches("\r\n");
    }
    format!("{head}\r\n\r\n{body}")
}

/// A metric's value, summed over all its labels that contain `label`.
pub fn metric(text: &str, name: &str, label: &str) -> f64 {
    let lines = text.lines().filter(|line| !line.starts_with('#'));
    let lines = lines.filter(|line| {
        let metric = line.split(['{', ' ']).next().unwrap_or_default();
        metric == name && line.contains(label)
    });
    lines.filter_map(|line| line.rsplit(' ').next()?.parse::<f64>().ok()).sum()
}

/// Runs a command with a time limit; answers its exit code and what it printed.
pub fn run(command: &mut Command) -> (Option<i32>, String, String) {
    let mut child =
        command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    let mut pipes = (child.stdout.take().unwrap(), child.stderr.take().unwrap());
    let (send, receive) = mpsc::channel();
    std::thread::spawn(move || {
        let (mut out, mut err) = (String::new(), String::new());
        let _ = pipes.0.read_to_string(&mut out);
        let _ = pipes.1.read_to_string(&mut err);
        let _ = send.send((out, err));
    });
    let printed = receive.recv_timeout(PATIENCE);
    if printed.is_err() {
        let _ = child.kill();
    }
    let code = child.wait().unwrap().code();
    let (out, err) = printed.expect("the command did not end in time");
    (code, out, err)
}

/// Reads lines from a child's pipe until one is accepted.
pub fn read_until<T>(
    reader: impl Read,
    what: &str,
    mut accept: impl FnMut(&str) -> Option<T>,
) -> T {
    for line in BufReader::new(reader).lines() {
        if let Some(found) = accept(&line.unwrap()) {
            return found;
        }
    }
    panic!("the output ended before {what}");
}

/// Bytes of all files below a directory.
pub fn dir_bytes(dir: &Path) -> u64 {
    let Ok(entries) = fs::read_dir(dir) else { return 0 };
    let sizes = entries.flatten().map(|entry| match entry.metadata() {
        Ok(meta) if meta.is_dir() => dir_bytes(&entry.path()),
        Ok(meta) => meta.len(),
        Err(_) => 0,
    });
    sizes.sum()
}
