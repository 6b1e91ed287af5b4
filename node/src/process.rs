//! A node as a process of its own: real disk, real sockets, real threads.
//!
//! ```text
//!   main thread      consensus, rsm, kvserver, clerk, gateway, cluster links
//!   journal thread   one write and one sync for all that has gathered
//!   files thread     checkpoints and pins, which may take long
//!   http thread      debug endpoints
//! ```

use std::{
    collections::{BTreeMap, BTreeSet},
    io,
    net::{SocketAddr, TcpListener},
    path::Path,
    process::exit,
    rc::Rc,
    sync::{Arc, Mutex, OnceLock, mpsc},
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use actix_rt::{Arbiter, System};
use quorate_clerk::{
    Administered, Clerk, Config as ClerkConfig, Layout, Message as ToClerk, Outcome, Servers,
};
use quorate_cluster::{Bounds, ClusterHandle, Config as ClusterConfig, Faults, PeerEvent, Ports};
use quorate_dashboard::{GroupStatus, NodeStatus, Sources};
use quorate_gateway::{
    Config as GatewayConfig, Counts, Gateway, GroupStanding, Member as ClientMember,
    Message as ToGateway, NodeInfo, Redirect as GatewayRedirect, Standing,
};
use quorate_persistence::{
    Damage, DataDir, Disk, Expected, FileEvent, FilesActor, FilesMessage, JournalActor,
    JournalMessage, JournalOptions, LayoutError, Owners, RealDisk, SAVE_PAUSE, SCRUB_PAUSE,
    STEP_BYTES, Scrub, Writer, encode_pins, read_pins, real::LOCK_FILE,
};
use quorate_protocol::{GroupId, Incarnation, Member, Name, NodeId, Role as RoleName};
use quorate_shardmaster::{Command, Configuration, Reply};
use quorate_stage::{Limits, Mailbox, Node, Outlet, Parcel, Transport, seat};
use rand::{TryRngCore, rngs::OsRng};
use tokio::sync::{mpsc::unbounded_channel, oneshot};

use crate::{
    config::{Engine, NodeConfig, Reads, Redirect, Sharding},
    engine::GroupConfig,
    group::{Directories, Ground as GroupsGround},
    membership::{self, Place},
    replicas::Replicas,
};

/// Exit code of a node that cannot go on: see what it said last.
pub const EXIT_FATAL: i32 = 70;

/// Bytes of a journal segment: making a new one stops commits for a few milliseconds.
const SEGMENT_BYTES: u64 = 4 * 1024 * 1024;
/// Where so little log is wanted that a segment would be shorter, it is longer.
const SEGMENT_BYTES_MIN: u64 = 512;
/// Shorter segments are not filled with zeros.
const ZERO_FILL_BYTES: u64 = 64 * 1024;
/// How often, and after which pause, a directory that is in use is tried again: two seconds.
const DIRECTORY_TRIES: u32 = 40;
const DIRECTORY_PAUSE: Duration = Duration::from_millis(50);
/// How long clients get their last answers when the node stops.
const GOODBYE: Duration = Duration::from_millis(50);
/// The one group of a store that is not divided.
const GROUP: GroupId = GroupId(1);
/// The shardmaster's.
pub(crate) const MASTERS: GroupId = GroupId(0);

/// A node that runs.
#[derive(Clone, Debug)]
pub struct Ready {
    /// Its number.
    pub node: u32,
    /// Where clients reach it.
    pub resp: SocketAddr,
    /// Where other nodes reach it.
    pub peer: SocketAddr,
    /// Its debug endpoints.
    pub debug: SocketAddr,
    /// Whether its directory was made just now.
    pub new: bool,
    /// The groups that have to take it in before it serves their keys: its directory was empty, and the
    /// cluster had been formed.
    pub awaited: Vec<u32>,
}

/// The links to other nodes, once they are there: groups are wired before.
#[derive(Clone, Default)]
struct Links(Arc<OnceLock<ClusterHandle>>);

impl Transport for Links {
    fn send(&self, parcel: Parcel) {
        // Before the links are there, nothing can arrive: the protocols ask again.
        if let Some(cluster) = self.0.get() {
            cluster.send(parcel);
        }
    }
}

/// Which nodes answer: the cluster tells changes only, and a gateway that starts anew must know.
#[derive(Clone, Default)]
struct Reachable(Arc<Mutex<BTreeSet<NodeId>>>);

impl Reachable {
    fn set(&self, node: NodeId, up: bool) {
        let mut nodes = self.0.lock().unwrap_or_else(|poisoned| poisoned.into_inner());
        if up {
            nodes.insert(node);
        } else {
            nodes.remove(&node);
        }
    }

    fn all(&self) -> BTreeSet<NodeId> {
        self.0.lock().unwrap_or_else(|poisoned| poisoned.into_inner()).clone()
    }
}

fn random() -> Result<u64, String> {
    OsRng.try_next_u64().map_err(|error| format!("no randomness from the system: {error}"))
}

fn wall_ms() -> u64 {
    #[expect(clippy::disallowed_methods, reason = "the one place that reads the machine's clock")]
    let now = SystemTime::now();
    now.duration_since(UNIX_EPOCH).unwrap_or_default().as_millis() as u64
}

/// An address that other sockets of this process or a former one may have used just now.
fn bind(address: SocketAddr, what: &str) -> Result<TcpListener, String> {
    let bound = || -> io::Result<TcpListener> {
        let domain = socket2::Domain::for_address(address);
        let socket = socket2::Socket::new(domain, socket2::Type::STREAM, None)?;
        socket.set_reuse_address(true)?;
        socket.bind(&address.into())?;
        socket.listen(1024)?;
        Ok(socket.into())
    };
    bound().map_err(|error| match error.kind() {
        io::ErrorKind::AddrInUse => format!(
            "{what} {address} is in use by another program; stop it, or choose another address"
        ),
        _ => format!("{what} {address} cannot be used: {error}"),
    })
}

fn address_of(listener: &TcpListener) -> Result<SocketAddr, String> {
    listener.local_addr().map_err(|error| error.to_string())
}

/// Runs a node on this thread until SIGINT or SIGTERM comes, or `stop` resolves. `on_ready` is
/// called once its sockets are open and its state has been recovered. A node that cannot go on
/// says why on standard error and ends the process with [`EXIT_FATAL`].
///
/// # Errors
/// Why it could not start, as a text that says what to do next.
pub fn run(
    config: NodeConfig,
    on_ready: impl FnOnce(Ready) + 'static,
    stop: impl Future<Output = ()> + 'static,
) -> Result<(), String> {
    config.check().map_err(|error| error.to_string())?;
    let system = System::new();
    system.block_on(serve(config, on_ready, stop))
}

/// What was opened before any actor lives.
struct Ground {
    config: NodeConfig,
    disk: Arc<dyn Disk>,
    dir: Rc<DataDir>,
    me: Member,
    pins: BTreeMap<NodeId, Incarnation>,
    peer: TcpListener,
    resp: TcpListener,
    debug: TcpListener,
}

/// A process that was killed holds its directory until its last thread is gone: a moment.
fn take_directory(
    disk: &Arc<dyn Disk>,
    path: &Path,
    expected: &Expected,
) -> Result<DataDir, String> {
    let mut tries = 0;
    loop {
        match DataDir::open(disk, path, expected) {
            Err(LayoutError::InUse { .. }) if tries < DIRECTORY_TRIES => {
                tries += 1;
                #[expect(clippy::disallowed_methods, reason = "no actor lives yet")]
                std::thread::sleep(DIRECTORY_PAUSE);
            }
            opened => return opened.map_err(|error| error.to_string()),
        }
    }
}

/// Whether nothing is in a directory that was put there by a node, or it is not there.
fn is_blank(disk: &Arc<dyn Disk>, dir: &Path) -> bool {
    match disk.list(dir) {
        Ok(names) => names.iter().all(|name| name == LOCK_FILE || name == "lost+found"),
        Err(error) => error.is_not_found(),
    }
}

fn open(config: NodeConfig) -> Result<Ground, String> {
    let disk: Arc<dyn Disk> = Arc::new(RealDisk);
    let expected = Expected {
        cluster_id: config.cluster(),
        node: config.node,
        incarnation: random()?,
        initial: config.initial,
    };
    if config.engine == Engine::Paxos && !config.initial && is_blank(&disk, &config.dir) {
        // Before anything is written there: it would be no founder's for ever.
        return Err(format!(
            "the data directory {} is blank, but the cluster was formed already: restore the directory if \
             it was moved; on Paxos a node that has lost it is not taken in again in this version. If the \
             cluster is being formed just now, set `initial = true`",
            config.dir.display()
        ));
    }
    let dir = take_directory(&disk, &config.dir, &expected)?;
    let incarnation = Incarnation(dir.identity().incarnation);
    let me = Member { node: NodeId(config.node), incarnation };
    let pins = read_pins(disk.as_ref(), &dir.peers()).map_err(|error| error.to_string())?;
    let pins = pins.into_iter().map(|pin| (pin.node, pin.incarnation)).collect();
    let peer = bind(config.listen_peer, "listen_peer")?;
    let resp = bind(config.listen_resp, "listen_resp")?;
    let debug = bind(config.listen_debug, "listen_debug")?;
    Ok(Ground { config, disk, dir: Rc::new(dir), me, pins, peer, resp, debug })
}

/// Runs `make` on a thread of its own and answers the mailbox that it makes there.
fn on_thread<M: quorate_stage::Message>(
    make: impl FnOnce() -> Mailbox<M> + Send + 'static,
) -> Result<Mailbox<M>, String> {
    let (made, mailbox) = mpsc::channel();
    let begun = Arbiter::new().spawn_fn(move || {
        // Nobody waits only if the node is gone already.
        let _ = made.send(make());
    });
    mailbox.recv().ok().filter(|_| begun).ok_or_else(|| "a thread could not be started".into())
}

fn journal(
    ground: &Ground,
    node: &Node,
    owners: Owners,
) -> Result<Mailbox<JournalMessage>, String> {
    let (disk, node) = (ground.disk.clone(), node.clone());
    let seed = random()?;
    let segment_bytes = (ground.config.log_bytes_max / 4).clamp(SEGMENT_BYTES_MIN, SEGMENT_BYTES);
    // Zeros make a sync cheap, and take room.
    let zero_fill = segment_bytes >= ZERO_FILL_BYTES;
    let options = JournalOptions { segment_bytes, zero_fill, seed };
    let dir = ground.config.dir.clone();
    on_thread(move || {
        let place = seat::<JournalActor>(&node, Name::of_node(node.id(), RoleName::Journal));
        let mailbox = place.mailbox();
        let mut restarted = false;
        place.take(move |_| {
            let again = std::mem::replace(&mut restarted, true);
            let dir = dir.clone();
            let dir_of = move |group: GroupId| DataDir::journal_in(&dir, group.0);
            JournalActor::new(disk.clone(), dir_of, options, owners.clone(), again)
        });
        mailbox
    })
}

fn files(ground: &Ground, node: &Node) -> Result<Mailbox<FilesMessage>, String> {
    let (disk, node, dir) = (ground.disk.clone(), node.clone(), ground.config.dir.clone());
    on_thread(move || {
        let place = seat::<FilesActor>(&node, Name::of_node(node.id(), RoleName::Files));
        let mailbox = place.mailbox();
        let report = Outlet::from_fn(move |from, damage: Damage| {
            node.fatal(from, format!("{damage}. Keep the directory for a look at it"));
        });
        place.take(move |_| {
            let scrub = Scrub::new(&dir, SCRUB_PAUSE, report.clone());
            FilesActor::new(disk.clone(), STEP_BYTES, SAVE_PAUSE).scrubbing(scrub)
        });
        mailbox
    })
}

fn cluster(
    ground: &Ground,
    node: &Node,
    links: &Links,
    replicas: &Replicas,
    (files, ports): (&Mailbox<FilesMessage>, &Ports),
    (clerk, gateway, reachable): (&Mailbox<ToClerk>, &Mailbox<ToGateway>, &Reachable),
) -> Result<(), String> {
    let (path, files, late) = (ground.dir.peers(), files.clone(), links.clone());
    let save_pins = Outlet::from_fn(move |from, members: Vec<Member>| {
        let bytes = encode_pins(members.clone());
        let late = late.clone();
        let reply = Outlet::from_fn(move |from, event| {
            if let (FileEvent::Saved { .. }, Some(cluster)) = (event, late.0.get()) {
                let saved = quorate_cluster::Message::PinsSaved(members.clone());
                cluster.mailbox().send(from, saved);
            }
        });
        let writer = Writer::of(bytes);
        files.send(from, FilesMessage::Save { path: path.clone(), id: 0, writer, reply });
    });
    let links_of_engines = replicas.links();
    let (gateway, reachable) = (gateway.clone(), reachable.clone());
    let peer_events = Outlet::from_fn(move |from, event| {
        let (node, up) = match event {
            PeerEvent::Up(node) => (node, true),
            PeerEvent::Down(node) => (node, false),
        };
        links_of_engines.send(from, (node, up));
        reachable.set(node, up);
        gateway.send(from, ToGateway::Peer(node, up));
    });
    let others = ground.config.nodes.iter();
    let peers = others.map(|peer| (NodeId(peer.node), peer.peer.clone())).collect();
    ports.open([(clerk.name(), clerk.port())]);
    let handle = quorate_cluster::spawn(
        node,
        ClusterConfig {
            cluster_id: ground.config.cluster(),
            me: ground.me,
            listen: ground.peer.try_clone().map_err(|error| error.to_string())?,
            peers,
            founder: ground.dir.identity().founder,
            pins: ground.pins.clone(),
            save_pins,
            ports: ports.clone(),
            peer_events: vec![peer_events],
            faults: Faults::none(),
            bounds: Bounds::default(),
        },
    );
    links.0.set(handle).map_err(|_| "the links are set once".to_string())
}

/// What clients are told of a node: 40 hexadecimal digits, the same for ever.
fn client_id(cluster_id: &str, node: u32) -> String {
    let seed = crc32fast::hash(cluster_id.as_bytes());
    format!("{seed:08x}{:032x}", u128::from(node))
}

fn node_info(ground: &Ground) -> NodeInfo {
    let member = |node: u32, resp: &str, peer: &str| {
        let (host, port) = resp.rsplit_once(':').unwrap_or((resp, "0"));
        let port_of = |text: &str| text.rsplit(':').next().and_then(|p| p.parse().ok());
        ClientMember {
            node: NodeId(node),
            id: client_id(&ground.config.cluster_id, node),
            host: host.to_string(),
            port: port.parse().unwrap_or_default(),
            peer_port: port_of(peer).unwrap_or_default(),
            alive: false,
        }
    };
    let mut info = NodeInfo {
        version: env!("CARGO_PKG_VERSION").to_string(),
        process_id: std::process::id(),
        loading: true,
        ..NodeInfo::default()
    };
    for peer in &ground.config.nodes {
        let member = member(peer.node, &peer.resp, &peer.peer);
        if NodeId(peer.node) == ground.me.node {
            info.own = ClientMember { alive: true, ..member };
        } else {
            info.peers.push(member);
        }
    }
    info
}

/// The groups that there may be; none where the store is not divided.
fn groups(sharding: Option<&Sharding>) -> BTreeMap<GroupId, Vec<NodeId>> {
    let groups = sharding.iter().flat_map(|sharding| &sharding.groups);
    let nodes = |nodes: &[u32]| nodes.iter().copied().map(NodeId).collect();
    groups.map(|spec| (GroupId(spec.group), nodes(&spec.nodes))).collect()
}

/// The newest configuration that this node's clerk has heard of: a gateway that starts anew asks for it.
#[derive(Clone, Default)]
struct Newest(Arc<Mutex<Option<Arc<Configuration>>>>);

impl Newest {
    fn set(&self, configuration: Arc<Configuration>) {
        *self.0.lock().unwrap_or_else(|poisoned| poisoned.into_inner()) = Some(configuration);
    }

    fn get(&self) -> Option<Arc<Configuration>> {
        self.0.lock().unwrap_or_else(|poisoned| poisoned.into_inner()).clone()
    }
}

/// Asks the replicas where they stand, on behalf of the gateway.
fn look(
    replicas: &Replicas,
    newest: &Newest,
    gateway: &Mailbox<ToGateway>,
    me: Name,
) -> Outlet<()> {
    let (ask, gateway, newest) = (replicas.ask(me), gateway.clone(), newest.clone());
    Outlet::from_fn(move |from, ()| {
        if let Some(configuration) = newest.get() {
            gateway.send(from, ToGateway::Configured(configuration));
        }
        let gateway = gateway.clone();
        let reply = Outlet::from_fn(move |from, groups: Vec<GroupStatus>| {
            let standing = |group: GroupStatus| {
                let (keys, bytes) = group.status.size;
                let (leader, ready) = (group.status.leader.map(NodeId), group.status.ready);
                (GroupId(group.group), GroupStanding { leader, keys, bytes, ready })
            };
            // The shardmaster's group has no keys.
            let stores = groups.into_iter().filter(|group| group.group != MASTERS.0);
            let groups = stores.map(standing).collect();
            gateway.send(from, ToGateway::Standing(Standing { groups }));
        });
        ask.send(from, reply);
    })
}

/// Asks an actor something and waits for the answer; `None` if it crashes over the question.
async fn ask<A: Send + 'static>(question: impl FnOnce(Outlet<A>)) -> Option<A> {
    let (tell, told) = oneshot::channel();
    let tell = Mutex::new(Some(tell));
    question(Outlet::from_fn(move |_, answer| {
        let tell = tell.lock().unwrap_or_else(|poisoned| poisoned.into_inner()).take();
        if let Some(tell) = tell {
            // Whoever has stopped waiting does not need it.
            let _ = tell.send(answer);
        }
    }));
    told.await.ok()
}

/// How long to wait before something is tried again that the cluster could not do.
const FORM_PAUSE: Duration = Duration::from_millis(200);

/// Makes sure that the shards are agreed on, and that somebody has them: all groups, if no group ever
/// has. Every node does so when it starts, and what comes second changes nothing.
async fn form(clerk: Mailbox<ToClerk>, sharding: Sharding, me: Name) {
    let call = async |command: Command| {
        let calls = vec![(0, command)];
        let asked = |reply| clerk.send(me, ToClerk::Administer { calls, reply });
        let outcomes: Administered = ask(asked).await?;
        match outcomes.into_iter().next() {
            Some((_, Outcome::Done(reply))) => Some(reply),
            _ => None,
        }
    };
    let groups = groups(Some(&sharding));
    loop {
        match call(Command::Query { number: None }).await {
            Some(Reply::Configuration(newest)) if newest.number > 0 => return,
            Some(Reply::Configuration(newest)) if newest.shards() == 0 => {
                call(Command::Form { shards: sharding.shards }).await;
            }
            Some(Reply::Configuration(_)) => {
                call(Command::Join { groups: groups.clone() }).await;
            }
            _ => tokio::time::sleep(FORM_PAUSE).await,
        }
    }
}

async fn serve(
    config: NodeConfig,
    on_ready: impl FnOnce(Ready),
    stop: impl Future<Output = ()>,
) -> Result<(), String> {
    let ground = open(config)?;
    let me = ground.me.node;
    let on_fatal = |fatal: quorate_stage::Fatal| {
        tracing::error!("{fatal}");
        eprintln!("quorate: the node stops: {fatal}");
        exit(EXIT_FATAL);
    };
    let node = Node::new(me, wall_ms(), random()?, Limits::default(), on_fatal, None);
    let name = Name::of_node(me, RoleName::Outside);
    let owners = Owners::default();
    let journal = journal(&ground, &node, owners.clone())?;
    let files = files(&ground, &node)?;

    let clerk_seat = seat::<Clerk>(&node, Name::of_node(me, RoleName::Clerk));
    let gateway_seat = seat::<Gateway>(&node, Name::of_node(me, RoleName::Gateway));
    let (clerk, gateway) = (clerk_seat.mailbox(), gateway_seat.mailbox());
    let links = Links::default();
    let transport: Arc<dyn Transport> = Arc::new(links.clone());
    let directories = Directories::new(me, &transport);
    let groups_ground = GroupsGround {
        node: node.clone(),
        transport,
        journal,
        files: files.clone(),
        clerk: Some(clerk.clone()),
        directories: directories.clone(),
    };
    let ports = Ports::default();
    let (begin, begun) = unbounded_channel();
    let gone = Outlet::from_fn(move |_, (group, why): (GroupId, String)| {
        tracing::error!(%group, "{why}");
        eprintln!("quorate: the node stops: {why}");
        exit(EXIT_FATAL);
    });
    let founder = ground.dir.identity().founder;
    let places = group_configs(&ground).into_iter().map(|config| {
        let record = (ground.disk.as_ref(), ground.dir.member(config.group.0));
        Place::take(&groups_ground, record, founder, config, (&begin, &gone))
    });
    let places: Vec<Place> = places.collect::<Result<_, String>>()?;
    ports.open(places.iter().map(Place::port));
    let awaited: BTreeSet<GroupId> =
        places.iter().filter(|place| place.is_awaited()).map(Place::group).collect();
    let replicas = Replicas::new(ground.config.group_threads, awaited.clone());
    let (beginning, doors) = (replicas.clone(), ports.clone());
    let mut start = move |config: GroupConfig| {
        let (own, engine) = beginning.begin(&groups_ground, config)?;
        doors.open(own);
        Ok(engine)
    };
    let waiting = membership::begin(places, &mut start)?;
    actix_rt::spawn(membership::wait(waiting, begun, Box::new(start)));

    let newest = Newest::default();
    let clerk_config = ClerkConfig {
        retry: Duration::from_millis(if ground.config.lossy { 100 } else { 500 }),
        deadline: Some(Duration::from_millis(ground.config.request_deadline_ms)),
        under_way_max: 8192,
        sessions: true,
    };
    let users = gateway.clone();
    let started = Outlet::from_fn(move |from, ()| users.send(from, ToGateway::ClerkStarted));
    let (users, known) = (gateway.clone(), newest.clone());
    let configured = Outlet::from_fn(move |from, configuration: Arc<Configuration>| {
        known.set(configuration.clone());
        users.send(from, ToGateway::Configured(configuration));
    });
    let masters: Vec<NodeId> = masters(&ground.config);
    // A node without a replica asks the others, until it starts again.
    let all = ground.config.nodes.iter().map(|peer| NodeId(peer.node));
    let servers: Vec<NodeId> =
        all.filter(|node| (*node == me) != awaited.contains(&GROUP)).collect();
    clerk_seat.take(move |stage| {
        let layout = match masters.is_empty() {
            true => Layout::Whole { group: GROUP, nodes: servers.clone() },
            false => {
                let (nodes, masters) = (masters.clone(), directories.masters.clone());
                Layout::Sharded { nodes, masters }
            }
        };
        let servers = Servers {
            layout,
            servers: directories.servers.clone(),
            started: Some(started.clone()),
            configured: Some(configured.clone()),
        };
        Clerk::new(clerk_config, servers, stage)
    });
    let gateway_config = Rc::new(GatewayConfig {
        listen: ground.resp.try_clone().map_err(|error| error.to_string())?,
        clerk: clerk.clone(),
        info: node_info(&ground),
        redirect: match ground.config.redirect {
            Redirect::Never => GatewayRedirect::Never,
            Redirect::Always => GatewayRedirect::Always,
        },
        groups: groups(ground.config.sharding.as_ref()),
        clients_max: ground.config.clients_max,
        look: look(&replicas, &newest, &gateway, name),
        counts: Rc::new(Counts::default()),
    });
    let reachable = Reachable::default();
    let known = reachable.clone();
    gateway_seat.take(move |_| Gateway::new(gateway_config.clone(), &known.all()));
    let doors = (&files, &ports);
    cluster(&ground, &node, &links, &replicas, doors, (&clerk, &gateway, &reachable))?;

    let http = dashboard(&ground, &node, &links, owners, &replicas)?;
    let standing = replicas.ask(name);
    let own = |group: &GroupStatus| !awaited.contains(&GroupId(group.group));
    let ready = |groups: Vec<GroupStatus>| {
        groups.iter().filter(|group| own(group)).all(|group| group.status.ready)
    };
    while !ask(|reply| standing.send(name, reply)).await.is_some_and(ready) {
        tokio::time::sleep(Duration::from_millis(2)).await;
    }
    if let Some(sharding) = &ground.config.sharding {
        actix_rt::spawn(form(clerk.clone(), sharding.clone(), name));
    }
    on_ready(Ready {
        node: me.0,
        resp: address_of(&ground.resp)?,
        peer: address_of(&ground.peer)?,
        debug: address_of(&ground.debug)?,
        new: ground.dir.is_new(),
        awaited: awaited.iter().map(|group| group.0).collect(),
    });
    wait_for_end(stop).await?;
    gateway.send(name, ToGateway::Stop);
    clerk.send(name, ToClerk::Stop);
    replicas.stop(name);
    tokio::time::sleep(GOODBYE).await;
    http.stop();
    Ok(())
}

/// The nodes that the shardmaster has replicas on; none where the store is not divided.
fn masters(config: &NodeConfig) -> Vec<NodeId> {
    let nodes = config.sharding.iter().flat_map(|sharding| &sharding.shardmaster);
    nodes.copied().map(NodeId).collect()
}

/// The replicas that this node has: of the shardmaster, and of groups that may serve shards.
fn group_configs(ground: &Ground) -> Vec<GroupConfig> {
    let lossy = ground.config.lossy;
    let config = |group: GroupId, nodes: Vec<NodeId>| {
        let (engine, checkpoints) = (ground.config.engine, ground.dir.checkpoint(group.0));
        let mut config = GroupConfig::new(engine, group, ground.me, nodes, checkpoints, lossy);
        config.rsm.log_bytes_max = ground.config.log_bytes_max;
        config.rsm.reads_in_log = ground.config.reads == Reads::Log;
        config
    };
    let masters = masters(&ground.config);
    if masters.is_empty() {
        let nodes = ground.config.nodes.iter().map(|peer| NodeId(peer.node)).collect();
        return vec![config(GROUP, nodes)];
    }
    let me = ground.me.node;
    let own = groups(ground.config.sharding.as_ref()).into_iter();
    let own = own.filter(|(_, nodes)| nodes.contains(&me)).map(|(group, nodes)| {
        let mut config = config(group, nodes);
        config.mover.masters = masters.clone();
        config
    });
    let master = masters.contains(&me).then(|| config(MASTERS, masters.clone()));
    master.into_iter().chain(own).collect()
}

fn dashboard(
    ground: &Ground,
    node: &Node,
    links: &Links,
    owners: Owners,
    replicas: &Replicas,
) -> Result<quorate_dashboard::Handle, String> {
    let name = Name::of_node(node.id(), RoleName::Outside);
    let ask = replicas.ask(name);
    let sources = Sources {
        node: node.clone(),
        cluster: links.0.get().cloned(),
        journal: owners,
        ask_status: Outlet::from_fn(move |from, reply: Outlet<NodeStatus>| {
            let reply = Outlet::from_fn(move |from, groups| {
                reply.send(from, NodeStatus::of(groups));
            });
            ask.send(from, reply);
        }),
        take_checkpoint: replicas.take_checkpoint(name),
        faults: Faults::none(),
        faults_allowed: ground.config.faults,
        version: env!("CARGO_PKG_VERSION").to_string(),
    };
    let listener = ground.debug.try_clone().map_err(|error| error.to_string())?;
    quorate_dashboard::spawn_thread(listener, sources).map_err(|error| error.to_string())
}

/// Until somebody wants the node to end.
async fn wait_for_end(stop: impl Future<Output = ()>) -> Result<(), String> {
    use tokio::signal::unix::{SignalKind, signal};
    let mut interrupt = signal(SignalKind::interrupt()).map_err(|error| error.to_string())?;
    let mut terminate = signal(SignalKind::terminate()).map_err(|error| error.to_string())?;
    tokio::select! {
        biased;
        _ = interrupt.recv() => {}
        _ = terminate.recv() => {}
        () = stop => {}
    }
    Ok(())
}
