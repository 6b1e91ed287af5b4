//! The cluster actor: parcels and events in, its tasks do the rest.

use std::{
    cell::{Cell, RefCell},
    collections::{BTreeMap, BTreeSet},
    convert::Infallible,
    net::TcpListener,
    rc::Rc,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use quorate_protocol::{Incarnation, Member, Name, NodeId, Role as RoleName};
use quorate_stage::{Mailbox, Node, Outlet, Parcel, Port, Role, Stage, Transport, seat};
use tokio::task::{AbortHandle, JoinSet};

use crate::{
    accept,
    counters::Counters,
    faults::Faults,
    frame::{FRAME_BYTES_MAX, PARCEL_OVERHEAD},
    handshake::{Identity, Pins},
    hub::{Hub, Kept},
    link::{self, Queue},
    messages::{LinkEvent, Message, PeerEvent, Way},
};

/// A handshake that takes longer is given up, by either side.
pub const HANDSHAKE_TIMEOUT: Duration = Duration::from_secs(3);
/// So many parcels wait for one link.
pub const LINK_PARCELS_MAX: usize = 65_536;
/// So many bytes wait for one link.
pub const LINK_BYTES_MAX: usize = FRAME_BYTES_MAX + PARCEL_OVERHEAD;
/// So many parcels wait for a link that is down: the newest.
pub const UNLINKED_PARCELS_MAX: usize = 64;
/// So many bytes wait for a link that is down.
pub const UNLINKED_BYTES_MAX: usize = 1 << 20;
/// So many connections may be open that have not shaken hands. One more, and the oldest goes.
pub const STRANGERS_MAX: usize = 64;

/// What is bounded, and by what.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Bounds {
    /// See [`FRAME_BYTES_MAX`].
    pub frame_bytes_max: usize,
    /// See [`LINK_PARCELS_MAX`].
    pub link_parcels_max: usize,
    /// See [`LINK_BYTES_MAX`].
    pub link_bytes_max: usize,
    /// See [`UNLINKED_PARCELS_MAX`].
    pub unlinked_parcels_max: usize,
    /// See [`UNLINKED_BYTES_MAX`].
    pub unlinked_bytes_max: usize,
    /// See [`STRANGERS_MAX`].
    pub strangers_max: usize,
    /// See [`HANDSHAKE_TIMEOUT`].
    pub handshake_timeout: Duration,
}

impl Default for Bounds {
    fn default() -> Self {
        Bounds {
            frame_bytes_max: FRAME_BYTES_MAX,
            link_parcels_max: LINK_PARCELS_MAX,
            link_bytes_max: LINK_BYTES_MAX,
            unlinked_parcels_max: UNLINKED_PARCELS_MAX,
            unlinked_bytes_max: UNLINKED_BYTES_MAX,
            strangers_max: STRANGERS_MAX,
            handshake_timeout: HANDSHAKE_TIMEOUT,
        }
    }
}

/// The actors of a node that others may send to. More may come, when a group takes the node in.
#[derive(Clone, Default)]
pub struct Ports(Arc<Mutex<BTreeMap<Name, Arc<dyn Port>>>>);

impl Ports {
    /// Lets others send to these too.
    pub fn open(&self, ports: impl IntoIterator<Item = (Name, Arc<dyn Port>)>) {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).extend(ports);
    }

    pub(crate) fn get(&self, name: &Name) -> Option<Arc<dyn Port>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).get(name).cloned()
    }

    fn names(&self) -> Vec<Name> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).keys().copied().collect()
    }
}

impl FromIterator<(Name, Arc<dyn Port>)> for Ports {
    fn from_iter<I: IntoIterator<Item = (Name, Arc<dyn Port>)>>(ports: I) -> Self {
        let all = Ports::default();
        all.open(ports);
        all
    }
}

/// What a cluster actor is made from.
pub struct Config {
    /// Which cluster: the same on all nodes.
    pub cluster_id: String,
    /// This node, in its life.
    pub me: Member,
    /// Whether its directory was made when the cluster was formed.
    pub founder: bool,
    /// Where the others dial, bound already. It stays bound while the actor restarts.
    pub listen: TcpListener,
    /// The other nodes, `host:port`, resolved anew at each dial. An entry for this node is left
    /// out.
    pub peers: BTreeMap<NodeId, String>,
    /// The life that is known of each node, from the disk.
    pub pins: BTreeMap<NodeId, Incarnation>,
    /// Makes pins durable: all of them, each time. To be answered by [`Message::PinsSaved`] with
    /// the same members.
    pub save_pins: Outlet<Vec<Member>>,
    /// The actors of this node that others may send to.
    pub ports: Ports,
    /// Who wants to know about the peers.
    pub peer_events: Vec<Outlet<PeerEvent>>,
    /// What holds at the start.
    pub faults: Faults,
    /// What is bounded.
    pub bounds: Bounds,
}

/// Where parcels for other nodes go.
#[derive(Clone)]
pub struct ClusterHandle {
    mailbox: Mailbox<Message>,
    counters: Arc<Counters>,
    task: AbortHandle,
}

impl ClusterHandle {
    /// The actor's mailbox.
    pub fn mailbox(&self) -> Mailbox<Message> {
        self.mailbox.clone()
    }

    /// What has been sent, received and lost.
    pub fn counters(&self) -> &Arc<Counters> {
        &self.counters
    }

    /// Sets the faults, in place of those that were.
    pub fn set_faults(&self, faults: Faults) {
        self.mailbox.send(self.mailbox.name(), Message::SetFaults(faults));
    }

    /// Ends the actor, its links and its listener, as a kill would.
    pub fn kill(&self) {
        self.task.abort();
    }
}

impl Transport for ClusterHandle {
    fn send(&self, parcel: Parcel) {
        self.mailbox.send(parcel.from, Message::Send(parcel));
    }
}

/// Starts the cluster actor of a node on the current thread, which must run a
/// [`tokio::task::LocalSet`] (an arbiter does) on a runtime with I/O and time.
pub fn spawn(node: &Node, config: Config) -> ClusterHandle {
    let place = seat::<Cluster>(node, Name::of_node(config.me.node, RoleName::Cluster));
    let mailbox = place.mailbox();
    let peers: BTreeMap<NodeId, String> =
        config.peers.into_iter().filter(|(peer, _)| *peer != config.me.node).collect();
    let names = config.ports.names();
    let counters = Arc::new(Counters::new(peers.keys().copied().chain([config.me.node]), &names));
    let kept = Rc::new(Kept {
        pins: RefCell::new(Pins::new(config.pins)),
        faults: RefCell::new(config.faults),
        told_up: RefCell::new(BTreeSet::new()),
        life: Cell::new(0),
    });
    let (cluster_id, me, founder) = (config.cluster_id, config.me, config.founder);
    let identity = Identity { cluster_id, me, founder };
    let (bounds, ports, listen) = (config.bounds, config.ports, config.listen);
    let (save_pins, peer_events) = (config.save_pins, config.peer_events);
    let counted = counters.clone();
    let task = place.take(move |stage| {
        let queue = |(peer, address): (&NodeId, &String)| {
            (*peer, Queue::new(*peer, address.clone(), bounds, counted.of(*peer).clone()))
        };
        let hub = Hub::new(
            kept.clone(),
            stage.mailbox().clone(),
            identity.clone(),
            bounds,
            peers.iter().map(queue).collect(),
            ports.clone(),
            save_pins.clone(),
            counted.clone(),
            quorate_stage::Chance::new(stage.chance().number()),
        );
        Cluster {
            hub: Rc::new(hub),
            listen: listen.try_clone(),
            peers: peers.keys().map(|peer| (*peer, Standing::default())).collect(),
            peer_events: peer_events.clone(),
            tasks: JoinSet::new(),
        }
    });
    ClusterHandle { mailbox, counters, task }
}

/// How it stands with a peer.
#[derive(Clone, Copy, Debug, Default)]
struct Standing {
    /// The outgoing connection.
    out: Option<u64>,
    /// The accepted connection.
    into: Option<u64>,
}

/// The role. Made by [`spawn`].
struct Cluster {
    hub: Rc<Hub>,
    listen: std::io::Result<TcpListener>,
    peers: BTreeMap<NodeId, Standing>,
    peer_events: Vec<Outlet<PeerEvent>>,
    /// All tasks of this life: they end with it.
    tasks: JoinSet<()>,
}

impl Role for Cluster {
    type Message = Message;
    type Timer = Infallible;

    fn started(&mut self, stage: &mut Stage<Self>) {
        let peers: Vec<NodeId> = self.peers.keys().copied().collect();
        for &peer in &peers {
            // What the life before has told of it is over.
            self.judge(peer);
            let task = link::keep(self.hub.clone(), peer);
            self.hub.launch(&mut self.tasks, task);
        }
        let hub = self.hub.clone();
        let delays = async move { hub.delays.run(|delayed| hub.release(delayed)).await };
        self.hub.launch(&mut self.tasks, delays);
        match self.listener() {
            Ok(listener) => {
                let task = accept::listen(self.hub.clone(), listener);
                self.hub.launch(&mut self.tasks, task);
            }
            Err(error) => stage.fatal(format!(
                "the node port cannot be listened on: {error}. Are there too many open files?"
            )),
        }
    }

    fn receive(&mut self, _: Name, message: Message, _: &mut Stage<Self>) {
        match message {
            Message::Send(parcel) => self.hub.post(parcel),
            Message::PinsSaved(members) => self.on_pins_saved(members),
            Message::SetFaults(faults) => self.on_set_faults(faults),
            Message::Connected(event) => self.on_connected(event),
            Message::Disconnected(event) => self.on_disconnected(event),
            Message::TaskPanicked(panic) => {
                assert!(panic.life != self.hub.life, "a task of the cluster actor: {}", panic.text);
            }
        }
    }
}

impl Cluster {
    fn listener(&mut self) -> std::io::Result<tokio::net::TcpListener> {
        let listen = self.listen.as_ref().map_err(|error| std::io::Error::from(error.kind()))?;
        let listen = listen.try_clone()?;
        listen.set_nonblocking(true)?;
        tokio::net::TcpListener::from_std(listen)
    }

    fn on_pins_saved(&mut self, members: Vec<Member>) {
        for strange in self.hub.kept.pins.borrow_mut().on_saved(members) {
            let text = format!("{strange} was saved as a pin, another life of it is pinned");
            self.hub.alarm(strange.node, text);
        }
        self.hub.pins_changed.notify_waiters();
    }

    fn on_set_faults(&mut self, faults: Faults) {
        *self.hub.kept.faults.borrow_mut() = faults;
        let peers: Vec<NodeId> = self.peers.keys().copied().collect();
        peers.into_iter().for_each(|peer| self.judge(peer));
    }

    fn on_connected(&mut self, event: LinkEvent) {
        let Some(standing) = self.standing(&event) else { return };
        match event.way {
            Way::Out => standing.out = Some(event.connection),
            Way::In => {
                if standing.into.take().is_some() {
                    // What was under way on the former connection may be lost.
                    self.judge(event.peer);
                }
                if let Some(standing) = self.standing(&event) {
                    standing.into = Some(event.connection);
                }
                // It is back: no need to wait for the back-off.
                self.hub.queues[&event.peer].kick.notify_one();
            }
        }
        self.judge(event.peer);
    }

    fn on_disconnected(&mut self, event: LinkEvent) {
        let Some(standing) = self.standing(&event) else { return };
        let connection = match event.way {
            Way::Out => &mut standing.out,
            Way::In => &mut standing.into,
        };
        if *connection == Some(event.connection) {
            *connection = None;
        }
        self.judge(event.peer);
    }

    /// Where an event of this life belongs.
    fn standing(&mut self, event: &LinkEvent) -> Option<&mut Standing> {
        let current = event.life == self.hub.life;
        self.peers.get_mut(&event.peer).filter(|_| current)
    }

    /// Tells whether a peer is up, if that has changed.
    fn judge(&mut self, peer: NodeId) {
        let standing = self.peers[&peer];
        let cut = {
            let (me, faults) = (self.hub.name.node, self.hub.kept.faults.borrow());
            faults.is_cut(me, peer) || faults.is_cut(peer, me)
        };
        let up = standing.out.is_some() && standing.into.is_some() && !cut;
        let mut told_up = self.hub.kept.told_up.borrow_mut();
        let changed = if up { told_up.insert(peer) } else { told_up.remove(&peer) };
        drop(told_up);
        if changed {
            let event = if up { PeerEvent::Up(peer) } else { PeerEvent::Down(peer) };
            self.peer_events.iter().for_each(|outlet| outlet.send(self.hub.name, event));
        }
    }
}
