#![allow(dead_code, reason = "each test file uses its own part of this")]
//! A node with two toy actors, each on a thread of its own, and its debug endpoints on loopback.

use std::{
    collections::BTreeMap,
    convert::Infallible,
    fmt,
    io::{Read, Write},
    net::{SocketAddr, TcpListener, TcpStream},
    sync::{
        Arc,
        mpsc::{Receiver, Sender, channel},
    },
    time::Duration,
};

use quorate_cluster::{Bounds, ClusterHandle, Config, Faults, Ports, spawn};
use quorate_dashboard::{GroupStatus, Handle, NodeStatus, Sources, spawn_thread};
use quorate_persistence::Owners;
use quorate_protocol::{GroupId, Incarnation, Member, Name, NodeId, Role as RoleName};
use quorate_rsm::Status;
use quorate_stage::{Limits, Mailbox, Message, Node, Outlet, Role, Stage, seat};
use serde_json::Value;
use tokio::sync::oneshot;

/// Everything that is waited for comes much sooner.
const DEADLINE: Duration = Duration::from_secs(30);
const NODE: NodeId = NodeId(1);

/// What a toy can be told.
pub(crate) enum Told {
    Ping,
    /// Be stuck until the other end is dropped.
    Stick(Receiver<()>),
    AskStatus(Outlet<Status>),
    TakeCheckpoint,
}

impl Message for Told {
    const KINDS: &'static [&'static str] = &["Ping", "Stick", "AskStatus", "TakeCheckpoint"];

    fn kind(&self) -> usize {
        match self {
            Told::Ping => 0,
            Told::Stick(_) => 1,
            Told::AskStatus(_) => 2,
            Told::TakeCheckpoint => 3,
        }
    }
}

impl fmt::Display for Told {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(Self::KINDS[self.kind()])
    }
}

struct Toy(Status);

impl Role for Toy {
    type Message = Told;
    type Timer = Infallible;

    fn receive(&mut self, _: Name, message: Told, stage: &mut Stage<Self>) {
        match message {
            Told::Ping | Told::TakeCheckpoint => {}
            Told::Stick(until) => {
                let _ = until.recv_timeout(DEADLINE);
            }
            Told::AskStatus(reply) => reply.send(stage.name(), self.0.clone()),
        }
    }
}

/// Threads end when this is dropped.
type Alive = oneshot::Sender<()>;

/// Runs something on a thread as actors need it; answers what it made.
fn on_thread<T: Send + 'static>(make: impl FnOnce() -> T + Send + 'static) -> (T, Alive) {
    let (alive, gone) = oneshot::channel::<()>();
    let (tell, told) = channel();
    std::thread::spawn(move || {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        tokio::task::LocalSet::new().block_on(&runtime, async move {
            tell.send(make()).unwrap();
            let _ = gone.await;
        });
    });
    (told.recv_timeout(DEADLINE).unwrap(), alive)
}

fn toy(node: &Node, name: Name, status: Status) -> (Mailbox<Told>, Alive) {
    let node = node.clone();
    on_thread(move || {
        let place = seat::<Toy>(&node, name);
        let mailbox = place.mailbox();
        place.take(move |_| Toy(status.clone()));
        mailbox
    })
}

pub(crate) fn name(role: RoleName) -> Name {
    Name::new(NODE, GroupId(1), role)
}

/// What a scene is made of.
#[derive(Default)]
pub(crate) struct Plan {
    pub(crate) faults_allowed: bool,
    pub(crate) linked: bool,
    pub(crate) status: Status,
}

/// The node, and a client of its endpoints.
pub(crate) struct Scene {
    pub(crate) acceptor: Mailbox<Told>,
    pub(crate) rsm: Mailbox<Told>,
    pub(crate) node: Node,
    pub(crate) cluster: Option<ClusterHandle>,
    pub(crate) http: Handle,
    _alive: Vec<Alive>,
}

/// A scene on the usual plan: recovered, node 1 leads.
pub(crate) fn scene(faults_allowed: bool) -> Scene {
    let status =
        Status { leader: Some(1), applied: 9, commands: 7, ready: true, ..Status::default() };
    build(Plan { faults_allowed, linked: false, status })
}

pub(crate) fn build(plan: Plan) -> Scene {
    let fatal = |fatal: quorate_stage::Fatal| panic!("{fatal}");
    let node = Node::new(NODE, 0, 7, Limits::default(), fatal, None);
    let (acceptor, first) = toy(&node, name(RoleName::Acceptor), Status::default());
    let (rsm, second) = toy(&node, name(RoleName::Rsm), plan.status);
    let mut alive = vec![first, second];
    let cluster = plan.linked.then(|| {
        let (handle, third) = links(&node);
        alive.push(third);
        handle
    });
    let (asked, told) = (rsm.clone(), rsm.clone());
    let sources = Sources {
        node: node.clone(),
        cluster: cluster.clone(),
        journal: Owners::default(),
        ask_status: Outlet::from_fn(move |from, reply: Outlet<NodeStatus>| {
            let reply = Outlet::from_fn(move |from, status: Status| {
                let whole = GroupStatus { group: 1, status, shards: None };
                reply.send(from, NodeStatus::of(vec![whole]));
            });
            asked.send(from, Told::AskStatus(reply));
        }),
        take_checkpoint: Outlet::from_fn(move |from, ()| told.send(from, Told::TakeCheckpoint)),
        faults: Faults::none(),
        faults_allowed: plan.faults_allowed,
        version: "0.0.0-test".into(),
    };
    let http = spawn_thread(TcpListener::bind("127.0.0.1:0").unwrap(), sources).unwrap();
    Scene { acceptor, rsm, node, cluster, http, _alive: alive }
}

/// A cluster actor, with a peer that does not answer.
fn links(node: &Node) -> (ClusterHandle, Alive) {
    let node = node.clone();
    on_thread(move || {
        let silent = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
        let config = Config {
            cluster_id: "test".into(),
            me: Member { node: NODE, incarnation: Incarnation(1) },
            listen: TcpListener::bind("127.0.0.1:0").unwrap(),
            peers: BTreeMap::from([(NodeId(2), silent.to_string())]),
            pins: BTreeMap::new(),
            save_pins: Outlet::from_fn(|_, _| ()),
            ports: Ports::default(),
            founder: true,
            peer_events: vec![],
            faults: Faults::none(),
            bounds: Bounds::default(),
        };
        spawn(&node, config)
    })
}

/// An HTTP answer.
#[derive(Debug)]
pub(crate) struct Answer {
    pub(crate) status: u16,
    pub(crate) head: String,
    pub(crate) text: String,
}

impl Answer {
    pub(crate) fn json(&self) -> Value {
        serde_json::from_str(&self.text).unwrap_or_else(|error| panic!("{error}: {self:?}"))
    }

    /// The words of an error answer.
    pub(crate) fn error(&self) -> String {
        self.json()["error"].as_str().unwrap().to_string()
    }
}

impl Scene {
    pub(crate) fn send(&self, to: &Mailbox<Told>, message: Told) {
        to.send(Name::of_node(NODE, RoleName::Outside), message);
    }

    /// Makes an actor stuck until what this answers is dropped.
    pub(crate) fn stick(&self, actor: &Mailbox<Told>) -> Sender<()> {
        let (go_on, until) = channel::<()>();
        self.send(actor, Told::Stick(until));
        let stats = actor.stats().clone();
        eventually("it is stuck", || stats.actor().busy.is_some());
        go_on
    }

    pub(crate) fn get(&self, path: &str) -> Answer {
        self.ask("GET", path, "", "")
    }

    pub(crate) fn post(&self, path: &str, body: &str) -> Answer {
        self.ask("POST", path, "", body)
    }

    pub(crate) fn ask(&self, method: &str, path: &str, headers: &str, body: &str) -> Answer {
        let address = self.http.address();
        let request = format!(
            "{method} {path} HTTP/1.1\r\nHost: {address}\r\nConnection: close\r\n{headers}\
             Content-Length: {}\r\n\r\n{body}",
            body.len()
        );
        let raw = raw(address, request.as_bytes());
        parse(&raw).unwrap_or_else(|| panic!("no answer to {method} {path}: {raw:?}"))
    }
}

pub(crate) fn parse(raw: &str) -> Option<Answer> {
    let (head, text) = raw.split_once("\r\n\r\n")?;
    let status = head.strip_prefix("HTTP/1.1 ")?.get(..3)?.parse().ok()?;
    let text = if head.contains("transfer-encoding: chunked") {
        text.lines().skip(1).step_by(2).collect()
    } else {
        text.to_string()
    };
    Some(Answer { status, head: head.to_string(), text })
}

/// Sends bytes, and reads what comes until the other side has had enough.
pub(crate) fn raw(address: SocketAddr, bytes: &[u8]) -> String {
    let mut stream = TcpStream::connect(address).unwrap();
    stream.set_read_timeout(Some(DEADLINE)).unwrap();
    // Whoever has read enough may close while we still write.
    let _ = stream.write_all(bytes);
    let mut read = Vec::new();
    let _ = stream.read_to_end(&mut read);
    String::from_utf8_lossy(&read).into_owned()
}

/// Waits until something holds that must come to hold.
pub(crate) fn eventually(what: &str, holds: impl Fn() -> bool) {
    let pause = Duration::from_millis(5);
    let mut waited = Duration::ZERO;
    while !holds() {
        assert!(waited < DEADLINE, "never: {what}");
        std::thread::park_timeout(pause);
        waited += pause;
    }
}

/// A page of metrics: type by family, and value by sample with its labels.
pub(crate) struct Metrics {
    pub(crate) types: BTreeMap<String, String>,
    pub(crate) samples: BTreeMap<String, f64>,
}

/// Reads OpenMetrics text, strictly: every sample has a family that was declared just before.
pub(crate) fn metrics(text: &str) -> Metrics {
    let mut read = Metrics { types: BTreeMap::new(), samples: BTreeMap::new() };
    let mut family = String::new();
    let body = text.strip_suffix("# EOF\n").expect("it ends with EOF");
    for line in body.lines() {
        if let Some(declared) = line.strip_prefix("# TYPE ") {
            let (name, kind) = declared.split_once(' ').unwrap();
            family = name.to_string();
            assert!(read.types.insert(family.clone(), kind.to_string()).is_none(), "{line}");
        } else if !line.starts_with("# HELP ") {
            let (sample, value) = line.rsplit_once(' ').unwrap();
            let (name, labels) = sample.split_once('{').unwrap();
            assert!(labels.starts_with("node=\"n1\"") && labels.ends_with('}'), "{line}");
            let suffix = match read.types[&family].as_str() {
                "counter" => "_total",
                "info" => "_info",
                "gauge" => "",
                other => panic!("a {other}"),
            };
            assert_eq!(name, format!("{family}{suffix}"));
            let value = value.parse().unwrap();
            assert!(read.samples.insert(sample.to_string(), value).is_none(), "twice: {sample}");
        }
    }
    read
}

/// A handle that may go from thread to thread.
pub(crate) fn assert_shared<T: Clone + Send + Sync>(_: &T) {}

#[allow(unused, reason = "says what the types must be")]
fn sources_are_shared(sources: Arc<Sources>) {
    assert_shared(&*sources);
}
