#![allow(dead_code, reason = "each test file uses its own part of this")]
//! Nodes with nothing but a cluster actor, on real loopback sockets and one thread.

use std::{
    collections::BTreeMap,
    fmt::Write as _,
    net::{SocketAddr, TcpListener},
    sync::{Arc, Mutex},
    time::Duration,
};

use bytes::Bytes;
use quorate_cluster::{
    Bounds, ClusterHandle, Config, Faults, Message, PeerEvent,
    frame::{
        Decoder, FRAME_BYTES_MAX, Frame, HELLO_BYTES_MAX, Hello, Welcome, encode_hello,
        encode_parcel, encode_welcome,
    },
    spawn,
};
use quorate_protocol::{GroupId, Incarnation, Member, Name, NodeId, Role};
use quorate_stage::{Class, CrashMode, DecodeError, Limits, Node, Outlet, Parcel, Port, Transport};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
    sync::mpsc::{UnboundedReceiver, UnboundedSender, unbounded_channel},
    time::{Instant, sleep, timeout},
};

/// Everything that is waited for comes much sooner.
const DEADLINE: Duration = Duration::from_secs(30);

/// Runs a test on one thread; what it logs at warn and above is in `Logs`.
pub(crate) fn on_loopback(test: impl AsyncFnOnce(Logs)) {
    let logs = Logs::default();
    let _guard = tracing::subscriber::set_default(logs.clone());
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    tokio::task::LocalSet::new().block_on(&runtime, test(logs));
}

/// Waits for something that must happen.
pub(crate) async fn soon<T>(future: impl Future<Output = T>) -> T {
    timeout(DEADLINE, future).await.expect("what a test waits for must come in time")
}

/// Waits until something holds that must come to hold.
pub(crate) async fn until(what: &str, holds: impl Fn() -> bool) {
    let start = Instant::now();
    while !holds() {
        assert!(start.elapsed() < DEADLINE, "never: {what}");
        sleep(Duration::from_millis(1)).await;
    }
}

/// What was logged at warn and above.
#[derive(Clone, Default)]
pub(crate) struct Logs(Arc<Mutex<Vec<String>>>);

impl Logs {
    pub(crate) fn count(&self, part: &str) -> usize {
        self.0.lock().unwrap().iter().filter(|line| line.contains(part)).count()
    }

    pub(crate) async fn wait_for(&self, part: &str) {
        until(&format!("a log with `{part}`"), || self.count(part) > 0).await;
    }
}

struct Line(String);

impl tracing::field::Visit for Line {
    fn record_debug(&mut self, field: &tracing::field::Field, value: &dyn std::fmt::Debug) {
        let _ = write!(self.0, "{}={value:?} ", field.name());
    }
}

impl tracing::Subscriber for Logs {
    fn enabled(&self, metadata: &tracing::Metadata<'_>) -> bool {
        *metadata.level() <= tracing::Level::WARN
    }
    fn new_span(&self, _: &tracing::span::Attributes<'_>) -> tracing::span::Id {
        tracing::span::Id::from_u64(1)
    }
    fn record(&self, _: &tracing::span::Id, _: &tracing::span::Record<'_>) {}
    fn record_follows_from(&self, _: &tracing::span::Id, _: &tracing::span::Id) {}
    fn event(&self, event: &tracing::Event<'_>) {
        let mut line = Line(String::new());
        event.record(&mut line);
        self.0.lock().unwrap().push(line.0);
    }
    fn enter(&self, _: &tracing::span::Id) {}
    fn exit(&self, _: &tracing::span::Id) {}
}

/// Takes every message but those that begin with `bad`; panics at `panic`.
struct Inbox(UnboundedSender<(Name, Bytes)>);

impl Port for Inbox {
    fn deliver(&self, from: Name, body: &[u8]) -> Result<(), DecodeError> {
        if body.starts_with(b"bad") {
            return Err(DecodeError("bad".into()));
        }
        assert!(!body.starts_with(b"panic"), "a port that panics");
        let _ = self.0.send((from, Bytes::copy_from_slice(body)));
        Ok(())
    }
}

pub(crate) fn member(node: u32) -> Member {
    Member { node: NodeId(node), incarnation: Incarnation(u64::from(node) << 8) }
}

pub(crate) fn actor(node: u32) -> Name {
    Name::new(NodeId(node), GroupId(1), Role::Learner)
}

pub(crate) fn parcel(from: u32, to: u32, body: impl Into<Bytes>) -> Parcel {
    let (from, to) = (actor(from), actor(to));
    Parcel { from, to, class: Class::Request, kind: "Test", body: body.into() }
}

/// A port of this machine, bound.
pub(crate) fn bind() -> (TcpListener, SocketAddr) {
    let listen = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listen.local_addr().unwrap();
    (listen, address)
}

/// Binds an address again that has just been given up.
pub(crate) async fn bind_again(address: SocketAddr) -> TcpListener {
    let start = Instant::now();
    loop {
        match TcpListener::bind(address) {
            Ok(listen) => return listen,
            Err(error) => assert!(start.elapsed() < DEADLINE, "{address}: {error}"),
        }
        sleep(Duration::from_millis(5)).await;
    }
}

/// A node that a test looks at.
pub(crate) struct Subject {
    pub(crate) id: u32,
    pub(crate) address: SocketAddr,
    pub(crate) handle: ClusterHandle,
    pub(crate) node: Node,
    pub(crate) inbox: UnboundedReceiver<(Name, Bytes)>,
    pub(crate) events: UnboundedReceiver<PeerEvent>,
    pub(crate) saves: UnboundedReceiver<Vec<Member>>,
}

/// How a node is made.
pub(crate) struct Plan {
    pub(crate) cluster_id: String,
    pub(crate) me: Member,
    pub(crate) peers: BTreeMap<NodeId, String>,
    pub(crate) pins: BTreeMap<NodeId, Incarnation>,
    pub(crate) faults: Faults,
    pub(crate) bounds: Bounds,
    /// Whether pins are reported saved at once; otherwise the test does it.
    pub(crate) saves: bool,
    /// How many real panics the actor survives.
    pub(crate) panics_max: usize,
}

impl Plan {
    pub(crate) fn new(id: u32, peers: &[(u32, SocketAddr)]) -> Self {
        let peers = peers.iter().map(|(id, address)| (NodeId(*id), address.to_string()));
        Plan {
            cluster_id: "alpha".into(),
            me: member(id),
            peers: peers.collect(),
            pins: BTreeMap::new(),
            faults: Faults::none(),
            bounds: Bounds::default(),
            saves: true,
            panics_max: 0,
        }
    }

    pub(crate) fn start(self, listen: TcpListener) -> Subject {
        let id = self.me.node;
        let address = listen.local_addr().unwrap();
        let limits = Limits { restarts_max: self.panics_max, ..Limits::default() };
        let died = |fatal: quorate_stage::Fatal| panic!("{fatal}");
        let node = Node::new(id, 0, 7, limits, died, None);
        let (put, inbox) = unbounded_channel();
        let (tell, events) = unbounded_channel();
        let (ask, mut asked) = unbounded_channel::<Vec<Member>>();
        let (saved, saves) = unbounded_channel();
        let mut ports: BTreeMap<Name, Arc<dyn Port>> = BTreeMap::new();
        ports.insert(actor(id.0), Arc::new(Inbox(put)));
        let handle = spawn(
            &node,
            Config {
                cluster_id: self.cluster_id,
                me: self.me,
                listen,
                peers: self.peers,
                pins: self.pins,
                save_pins: Outlet::from_fn(move |_, members| _ = ask.send(members)),
                ports: ports.into_iter().collect(),
                founder: true,
                peer_events: vec![Outlet::from_fn(move |_, event| _ = tell.send(event))],
                faults: self.faults,
                bounds: self.bounds,
            },
        );
        let (mailbox, at_once) = (handle.mailbox(), self.saves);
        tokio::task::spawn_local(async move {
            while let Some(members) = asked.recv().await {
                if at_once {
                    mailbox.send(mailbox.name(), Message::PinsSaved(members.clone()));
                }
                let _ = saved.send(members);
            }
        });
        Subject { id: id.0, address, handle, node, inbox, events, saves }
    }
}

impl Subject {
    pub(crate) fn send(&self, to: u32, body: impl Into<Bytes>) {
        self.handle.send(parcel(self.id, to, body));
    }

    pub(crate) fn crash(&self) {
        self.node.crash(self.handle.mailbox().name(), CrashMode::Now).unwrap();
    }

    pub(crate) async fn receive(&mut self) -> (Name, Bytes) {
        soon(self.inbox.recv()).await.unwrap()
    }

    /// Waits for the next word about a peer.
    pub(crate) async fn event(&mut self) -> PeerEvent {
        soon(self.events.recv()).await.unwrap()
    }

    pub(crate) async fn up(&mut self, peer: u32) {
        while self.event().await != PeerEvent::Up(NodeId(peer)) {}
    }

    pub(crate) async fn down(&mut self, peer: u32) {
        while self.event().await != PeerEvent::Down(NodeId(peer)) {}
    }

    pub(crate) fn counters(&self, peer: u32) -> &Arc<quorate_cluster::PeerCounters> {
        self.handle.counters().of(NodeId(peer))
    }
}

/// Nodes that know each other's addresses, not started yet.
pub(crate) fn plans<const N: usize>() -> [(Plan, TcpListener, SocketAddr); N] {
    let bound: Vec<(TcpListener, SocketAddr)> = (0..N).map(|_| bind()).collect();
    let all: Vec<(u32, SocketAddr)> = (1..).zip(bound.iter().map(|(_, at)| *at)).collect();
    let mut bound = bound.into_iter();
    std::array::from_fn(|at| {
        let (listen, address) = bound.next().unwrap();
        (Plan::new(at as u32 + 1, &all), listen, address)
    })
}

/// Nodes that have shaken hands, each with each.
pub(crate) async fn cluster<const N: usize>() -> [Subject; N] {
    let mut subjects = plans().map(|(plan, listen, _)| plan.start(listen));
    for subject in &mut subjects {
        let mut missing = N - 1;
        while missing > 0 {
            assert!(matches!(subject.event().await, PeerEvent::Up(_)));
            missing -= 1;
        }
    }
    subjects
}

/// A connection that is spoken by hand.
pub(crate) struct Wire {
    pub(crate) stream: TcpStream,
    decoder: Decoder,
}

impl Wire {
    pub(crate) fn new(stream: TcpStream) -> Self {
        Wire { stream, decoder: Decoder::new(FRAME_BYTES_MAX.max(HELLO_BYTES_MAX)) }
    }

    pub(crate) async fn connect(address: SocketAddr) -> Self {
        Wire::new(soon(TcpStream::connect(address)).await.unwrap())
    }

    /// Connects as a well-behaved node would.
    pub(crate) async fn shake(address: SocketAddr, from: u32, to: u32) -> Self {
        let mut wire = Wire::connect(address).await;
        wire.hello("alpha", member(from), to).await;
        assert!(wire.next().await.unwrap().starts_with("Welcome"));
        wire
    }

    pub(crate) async fn write(&mut self, bytes: &[u8]) {
        soon(self.stream.write_all(bytes)).await.unwrap();
    }

    pub(crate) async fn hello(&mut self, cluster_id: &str, from: Member, to: u32) {
        let (cluster_id, to) = (cluster_id.into(), NodeId(to));
        self.hello_of(Hello { cluster_id, from, founder: true, to }).await;
    }

    pub(crate) async fn hello_of(&mut self, hello: Hello) {
        let mut out = vec![];
        encode_hello(&hello, &mut out);
        self.write(&out).await;
    }

    pub(crate) async fn welcome(&mut self, cluster_id: &str, from: Member) {
        let mut out = vec![];
        encode_welcome(&Welcome { cluster_id: cluster_id.into(), from, founder: true }, &mut out);
        self.write(&out).await;
    }

    pub(crate) async fn parcel(&mut self, parcel: Parcel) {
        let mut out = vec![];
        encode_parcel(&parcel, &mut out);
        self.write(&out).await;
    }

    /// The next frame in words, or `None` at the end of the connection.
    pub(crate) async fn next(&mut self) -> Option<String> {
        loop {
            match self.decoder.next_frame().unwrap() {
                Some(Frame::Refuse { reason }) => return Some(format!("Refuse {reason}")),
                Some(Frame::Parcel { body, .. }) => {
                    return Some(format!("Parcel {}", body.escape_ascii()));
                }
                Some(other) => return Some(format!("{other:?}")),
                None => {}
            }
            let read = soon(self.stream.read_buf(&mut self.decoder.room())).await;
            if !matches!(read, Ok(count) if count > 0) {
                return None;
            }
        }
    }
}
