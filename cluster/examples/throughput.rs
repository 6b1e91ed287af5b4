//! How many parcels of 300 bytes one link carries in one direction, two nodes on two threads.
//!
//! `cargo run --release -p quorate-cluster --example throughput -- [seconds] [parcels in flight]`

use std::{
    collections::BTreeMap,
    net::{SocketAddr, TcpListener},
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering::Relaxed},
    },
    time::Duration,
};

use bytes::Bytes;
use quorate_cluster::{Bounds, ClusterHandle, Config, Faults, spawn};
use quorate_protocol::{GroupId, Incarnation, Member, Name, NodeId, Role};
use quorate_stage::{Class, DecodeError, Limits, Node, Outlet, Parcel, Port, Transport};
use tokio::{runtime::Builder, task::LocalSet, time::Instant};

const BODY: usize = 300;

struct Count(Arc<AtomicU64>);

impl Port for Count {
    fn deliver(&self, _: Name, _: &[u8]) -> Result<(), DecodeError> {
        self.0.fetch_add(1, Relaxed);
        Ok(())
    }
}

fn actor(node: u32) -> Name {
    Name::new(NodeId(node), GroupId(1), Role::Acceptor)
}

fn member(node: u32) -> Member {
    Member { node: NodeId(node), incarnation: Incarnation(u64::from(node)) }
}

fn start(id: u32, listen: TcpListener, peer: (u32, SocketAddr), port: Count) -> ClusterHandle {
    let fatal = |fatal: quorate_stage::Fatal| panic!("{fatal}");
    let node = Node::new(NodeId(id), 0, 1, Limits::default(), fatal, None);
    let port: Arc<dyn Port> = Arc::new(port);
    spawn(
        &node,
        Config {
            cluster_id: "bench".into(),
            me: member(id),
            listen,
            peers: BTreeMap::from([(NodeId(peer.0), peer.1.to_string())]),
            pins: [1, 2].map(|node| (NodeId(node), member(node).incarnation)).into(),
            save_pins: Outlet::from_fn(|_, _| ()),
            ports: [(actor(id), port)].into_iter().collect(),
            founder: true,
            peer_events: vec![],
            faults: Faults::none(),
            bounds: Bounds::default(),
        },
    )
}

fn on_arbiter(task: impl AsyncFnOnce()) {
    let runtime = Builder::new_current_thread().enable_all().build().expect("a runtime");
    LocalSet::new().block_on(&runtime, task());
}

fn main() {
    let mut numbers = std::env::args().skip(1).map(|arg| arg.parse().expect("a number"));
    let (seconds, window) = (numbers.next().unwrap_or(5), numbers.next().unwrap_or(10_000));
    let bind = || TcpListener::bind("127.0.0.1:0").expect("a free port");
    let (listen_a, listen_b) = (bind(), bind());
    let at_a = listen_a.local_addr().expect("it is bound");
    let at_b = listen_b.local_addr().expect("it is bound");
    let received = Arc::new(AtomicU64::new(0));
    let counted = received.clone();
    std::thread::spawn(move || {
        on_arbiter(async || {
            let _b = start(2, listen_b, (1, at_a), Count(counted));
            std::future::pending::<()>().await;
        });
    });
    on_arbiter(async || {
        let a = start(1, listen_a, (2, at_b), Count(Arc::default()));
        let body = Bytes::from(vec![7; BODY]);
        let (from, to, class) = (actor(1), actor(2), Class::Request);
        while a.counters().of(NodeId(2)).connects() == 0 {
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
        let (begin, mut sent) = (Instant::now(), 0);
        while begin.elapsed() < Duration::from_secs(seconds) {
            while sent - received.load(Relaxed) < window {
                a.send(Parcel { from, to, class, kind: "Bench", body: body.clone() });
                sent += 1;
            }
            tokio::task::yield_now().await;
        }
        let came = received.load(Relaxed) as f64 / begin.elapsed().as_secs_f64();
        let mb = came * BODY as f64 / 1e6;
        println!("{came:.0} parcels/s of {BODY} bytes, {mb:.0} MB/s, {window} in flight");
    });
}
