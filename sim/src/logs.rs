//! Bare engines on a simulated cluster, as the labs' Raft tests see them (2016 Lab 2, 2026 Lab 3).
//!
//! ```text
//!   test ── start(command) ──> engine of n1 ──> engines of n2, n3
//!        <─ applied by n1, n2, n3: checked to be the same, in order, without gaps
//! ```
//!
//! The application above each engine is a list of what was applied. It takes snapshots if the test
//! wants them, and keeps them as the labs' persister does: at once, and safe from any crash.

use std::{
    cell::RefCell,
    collections::{BTreeMap, BTreeSet},
    rc::Rc,
    sync::{Arc, Mutex, MutexGuard},
    time::Duration,
};

use bytes::Bytes;
use quorate_node::{Engine, engine};
use quorate_persistence::Owners;
use quorate_protocol::{
    Configuration, Name, NodeId, Role,
    log::{Chosen, Event, Index, Position, Proposal, ProposalId, Request},
};
use quorate_raft::{Message as ToRaft, Status};
use quorate_stage::{CrashMode, Node, Outlet, Transport};
use tokio::{
    sync::{Notify, oneshot},
    task::AbortHandle,
    time::{Instant, timeout},
};

use crate::{layout::GROUP, world::World};

/// What a test offers: the labs use numbers.
pub type Command = u64;

/// What an application keeps when it takes a snapshot: everything applied so far.
#[derive(Clone)]
struct Snapshot {
    position: Position,
    applied: BTreeMap<Index, Command>,
}

/// One server's application, over all lives of the server.
#[derive(Default)]
struct App {
    /// Events of former lives are not for this one.
    life: u64,
    next: Index,
    applied: BTreeMap<Index, Command>,
    saved: Option<Snapshot>,
    offers: BTreeMap<u64, oneshot::Sender<Option<(Index, u64)>>>,
    /// Offers that had a place and have lost it.
    dropped: u64,
    /// What was proposed here and has not been applied.
    open: BTreeMap<ProposalId, Bytes>,
    barriers: BTreeMap<u64, oneshot::Sender<Index>>,
    leader: Option<NodeId>,
    /// Who the members are, as its engine has said.
    configuration: Configuration,
    installed: u64,
}

#[derive(Default)]
struct Apps {
    servers: BTreeMap<NodeId, App>,
    /// What any server has ever applied.
    log: BTreeMap<Index, Command>,
    /// Whether a snapshot is taken when an index `i` with 10 | i + 1 was applied.
    snapshots: bool,
    seed: u64,
    /// Who asked for whose snapshot.
    behind: Vec<(NodeId, u64, NodeId)>,
    wrong: Vec<String>,
}

/// The two doors of an engine.
#[derive(Clone)]
struct Asked {
    proposals: Outlet<Request>,
    log: Outlet<Request>,
}

impl Asked {
    fn ask(&self, from: Name, request: Request) {
        match request {
            Request::Subscribe { .. } | Request::Forget { .. } => self.log.send(from, request),
            Request::Propose(_)
            | Request::Offer(_)
            | Request::ReadBarrier { .. }
            | Request::Reconfigure(_) => {
                self.proposals.send(from, request);
            }
        }
    }
}

struct Server {
    stage: Node,
    engine: Engine,
    aborts: Vec<AbortHandle>,
}

/// A cluster of bare engines. All clones are the same cluster.
#[derive(Clone)]
pub struct Logs {
    world: World,
    running: Rc<RefCell<BTreeMap<NodeId, Server>>>,
    connected: Rc<RefCell<BTreeSet<NodeId>>>,
    apps: Arc<Mutex<Apps>>,
    fetch: Arc<Notify>,
    offers: Rc<RefCell<u64>>,
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(|poisoned| poisoned.into_inner())
}

fn command_of(bytes: &[u8]) -> Command {
    bytes.first_chunk().map_or(0, |number| u64::from_le_bytes(*number))
}

impl Logs {
    /// Starts every server of the world.
    pub fn new(world: &World, snapshots: bool) -> Self {
        let apps = Apps { snapshots, seed: world.seed, ..Apps::default() };
        let logs = Logs {
            world: world.clone(),
            running: Rc::default(),
            connected: Rc::new(RefCell::new(world.servers().into_iter().collect())),
            apps: Arc::new(Mutex::new(apps)),
            fetch: Arc::default(),
            offers: Rc::default(),
        };
        for node in world.servers() {
            logs.start(node);
        }
        world.spawn(logs.clone().carry_snapshots());
        logs
    }

    /// The world they live in.
    pub fn world(&self) -> &World {
        &self.world
    }

    /// Starts a server from what it had made durable.
    ///
    /// # Panics
    /// If it runs already.
    pub fn start(&self, node: NodeId) {
        self.world.begin(node);
        let (stage, owners, mut aborts) = (self.world.stage_of(node), Owners::default(), vec![]);
        let journal = self.world.journal(&stage, &owners, &mut aborts);
        let transport: Arc<dyn Transport> = Arc::new(self.world.net.clone());
        let life = {
            let mut apps = lock(&self.apps);
            let app = apps.servers.entry(node).or_default();
            app.life += 1;
            app.applied = app.saved.as_ref().map(|saved| saved.applied.clone()).unwrap_or_default();
            let saved = app.saved.as_ref().map_or(Index(0), |saved| saved.position.index);
            app.next = saved.next();
            app.leader = None;
            app.offers.clear();
            app.open.clear();
            app.barriers.clear();
            app.life
        };
        let outlets = Arc::new(Mutex::new(None::<Asked>));
        let (apps, fetch, to) = (self.apps.clone(), self.fetch.clone(), outlets.clone());
        let events = Outlet::from_fn(move |from: Name, event| {
            let requests = lock(&apps).on_event(node, life, event);
            let to = lock(&to).clone();
            if let Some(to) = to {
                requests.into_iter().for_each(|request| to.ask(from, request));
            }
            fetch.notify_one();
        });
        let config = self.world.config(node);
        let engine = engine(&stage, &config, &transport, &journal, events);
        let (proposals, log) = (engine.proposals.clone(), engine.log.clone());
        *lock(&outlets) = Some(Asked { proposals, log });
        // It asks for a subscription when it starts.
        aborts.extend(engine.aborts.iter().cloned());
        self.world.net.plug_in(Some(node), engine.ports.clone());
        let server = Server { stage, engine, aborts };
        let former = self.running.borrow_mut().insert(node, server);
        assert!(former.is_none(), "{node} runs already");
    }

    /// Kills a server; its disk loses what was not synced.
    ///
    /// # Panics
    /// If it does not run.
    pub fn kill(&self, node: NodeId) {
        let gone = self.running.borrow_mut().remove(&node);
        let Some(gone) = gone else { panic!("{node} does not run") };
        lock(&self.apps).servers.entry(node).or_default().life += 1;
        self.world.end(node, &gone.aborts);
    }

    /// Kills a server if it runs, and starts it.
    pub fn restart(&self, node: NodeId) {
        if self.runs(node) {
            self.kill(node);
        }
        self.start(node);
    }

    /// Crashes an actor of a server; it restarts in place.
    ///
    /// # Panics
    /// If there is no such actor.
    pub fn crash(&self, node: NodeId, role: Role, mode: CrashMode) {
        let running = self.running.borrow();
        let crashed = running.get(&node).map(|on| {
            let group = if role == Role::Journal { quorate_protocol::GroupId(0) } else { GROUP };
            on.stage.crash(Name::new(node, group, role), mode)
        });
        assert!(matches!(crashed, Some(Ok(()))), "no {role} runs on {node}");
    }

    /// Whether a server runs.
    pub fn runs(&self, node: NodeId) -> bool {
        self.running.borrow().contains_key(&node)
    }

    /// Cuts a server off from all others.
    pub fn disconnect(&self, node: NodeId) {
        self.connected.borrow_mut().remove(&node);
        self.world.net.disconnect(node);
    }

    /// Lets a server speak to all others that are connected.
    pub fn connect(&self, node: NodeId) {
        self.connected.borrow_mut().insert(node);
        self.world.net.connect(node);
    }

    /// The servers that are connected, in order.
    pub fn connected(&self) -> Vec<NodeId> {
        self.connected.borrow().iter().copied().collect()
    }

    /// Whether a server is connected.
    pub fn is_connected(&self, node: NodeId) -> bool {
        self.connected.borrow().contains(&node)
    }

    fn outside(&self, node: NodeId) -> Name {
        Name::of_node(node, Role::Outside)
    }

    /// The labs' Start: where the command will stand if it is chosen, and in which term that was
    /// said; `None` if this server does not lead, or does not run.
    pub async fn offer(&self, node: NodeId, command: Command) -> Option<(Index, u64)> {
        self.offer_of(node, command, size_of::<Command>()).await
    }

    /// As [`Logs::offer`], with a command of `bytes` bytes.
    async fn offer_of(&self, node: NodeId, command: Command, bytes: usize) -> Option<(Index, u64)> {
        let answered = {
            let running = self.running.borrow();
            let server = running.get(&node)?;
            *self.offers.borrow_mut() += 1;
            let seq = *self.offers.borrow();
            let (answer, answered) = oneshot::channel();
            lock(&self.apps).servers.entry(node).or_default().offers.insert(seq, answer);
            let id = ProposalId { node, life: self.world.seed, seq };
            let mut command = command.to_le_bytes().to_vec();
            command.resize(bytes, 0);
            let command = Bytes::from(command);
            let offer = Request::Offer(Proposal { id, command });
            server.engine.proposals.send(self.outside(node), offer);
            answered
        };
        // An engine that crashes over it does not answer.
        timeout(Duration::from_millis(100), answered).await.ok()?.ok()?
    }

    /// Has a command chosen, wherever it must be sent and however often: a server that is killed
    /// forgets it.
    pub fn propose(&self, node: NodeId, command: Command) {
        *self.offers.borrow_mut() += 1;
        let id = ProposalId { node, life: self.world.seed, seq: *self.offers.borrow() };
        let command = Bytes::copy_from_slice(&command.to_le_bytes());
        lock(&self.apps).servers.entry(node).or_default().open.insert(id, command.clone());
        if let Some(server) = self.running.borrow().get(&node) {
            let propose = Request::Propose(Proposal { id, command });
            server.engine.proposals.send(self.outside(node), propose);
        }
    }

    /// How many proposals of a server are not applied there.
    pub fn open(&self, node: NodeId) -> usize {
        lock(&self.apps).servers.get(&node).map_or(0, |app| app.open.len())
    }

    /// First index that a read need not wait for that is asked for at a server now; never answered
    /// where no majority is heard.
    ///
    /// # Panics
    /// If the server does not run, or is killed meanwhile.
    pub async fn barrier(&self, node: NodeId) -> Index {
        let answered = {
            let running = self.running.borrow();
            let server = running.get(&node).expect("the server runs");
            *self.offers.borrow_mut() += 1;
            let id = ProposalId { node, life: self.world.seed, seq: *self.offers.borrow() };
            let (answer, answered) = oneshot::channel();
            lock(&self.apps).servers.entry(node).or_default().barriers.insert(id.seq, answer);
            server.engine.proposals.send(self.outside(node), Request::ReadBarrier { id });
            answered
        };
        answered.await.expect("the server is not killed")
    }

    /// How many offers of a server have lost their places.
    pub fn dropped(&self, node: NodeId) -> u64 {
        lock(&self.apps).servers.get(&node).map_or(0, |app| app.dropped)
    }

    /// A server's peer, seen from outside; `None` if it does not run.
    ///
    /// # Panics
    /// If its engine is not Raft.
    pub async fn status(&self, node: NodeId) -> Option<Status> {
        let told = {
            let running = self.running.borrow();
            let peer = running.get(&node)?.engine.raft.clone();
            let peer = peer.expect("only rows of Raft ask for terms");
            let (tell, told) = oneshot::channel();
            let tell = Mutex::new(Some(tell));
            let reply = Outlet::from_fn(move |_, status| {
                if let Some(tell) = lock(&tell).take() {
                    // Whoever has stopped waiting does not need it.
                    let _ = tell.send(status);
                }
            });
            peer.send(self.outside(node), ToRaft::AskStatus(reply));
            told
        };
        timeout(Duration::from_millis(100), told).await.ok()?.ok()
    }

    /// Who leads, as a server believes.
    pub fn leader_of(&self, node: NodeId) -> Option<NodeId> {
        lock(&self.apps).servers.get(&node)?.leader
    }

    /// How many servers have applied something at `index`, and what.
    ///
    /// # Panics
    /// When anything was applied out of order, twice, or differently by two servers.
    pub fn applied_at(&self, index: Index) -> (usize, Option<Command>) {
        let apps = lock(&self.apps);
        assert!(apps.wrong.is_empty(), "{}", apps.wrong[0]);
        let at = |app: &App| app.applied.get(&index).copied();
        let found: Vec<Command> = apps.servers.values().filter_map(at).collect();
        (found.len(), found.first().copied())
    }

    /// What a server has applied, by index.
    pub fn applied(&self, node: NodeId) -> BTreeMap<Index, Command> {
        let apps = lock(&self.apps);
        assert!(apps.wrong.is_empty(), "{}", apps.wrong[0]);
        apps.servers.get(&node).map(|app| app.applied.clone()).unwrap_or_default()
    }

    /// The last index that any server has applied.
    pub fn last_applied(&self) -> Index {
        lock(&self.apps).log.last_key_value().map_or(Index(0), |(index, _)| *index)
    }

    /// How many snapshots came from other servers.
    pub fn snapshots_installed(&self) -> u64 {
        lock(&self.apps).servers.values().map(|app| app.installed).sum()
    }

    /// The labs' `one`: offers a command to the connected servers until at least `wanted` of them
    /// have applied it, for 10 s; without `again` it must not lose its place once it has one.
    ///
    /// # Panics
    /// When it is not applied in time.
    pub async fn agree(&self, command: Command, wanted: usize, again: bool) -> Index {
        self.agree_of(command, size_of::<Command>(), wanted, again).await
    }

    /// As [`Logs::agree`], about a command of `bytes` bytes.
    ///
    /// # Panics
    /// As that.
    pub async fn agree_of(
        &self,
        command: Command,
        bytes: usize,
        wanted: usize,
        again: bool,
    ) -> Index {
        let began = Instant::now();
        let servers = self.world.servers();
        let mut starts = 0;
        while began.elapsed() < Duration::from_secs(10) {
            let mut place = None;
            for _ in 0..servers.len() {
                starts = (starts + 1) % servers.len();
                let node = servers[starts];
                if !self.is_connected(node) {
                    continue;
                }
                place = self.offer_of(node, command, bytes).await;
                if place.is_some() {
                    break;
                }
            }
            let Some((index, _)) = place else {
                self.world.sleep_ms(50).await;
                continue;
            };
            let offered = Instant::now();
            while offered.elapsed() < Duration::from_secs(2) {
                let (count, applied) = self.applied_at(index);
                if count >= wanted && applied == Some(command) {
                    return index;
                }
                self.world.sleep_ms(20).await;
            }
            assert!(again, "{command} was not applied by {wanted} at {index} within 2 s");
        }
        panic!("no agreement about {command} within 10 s\n{}", self.world.trace.tail(60));
    }

    /// The labs' `wait`: until `wanted` servers have applied something at `index`; 30 polls, 10 ms
    /// apart and doubling to 1280 ms.
    ///
    /// # Panics
    /// When fewer have after that.
    pub async fn wait(&self, index: Index, wanted: usize) -> Command {
        let mut pause = 10;
        for _ in 0..30 {
            if let (count, Some(command)) = self.applied_at(index)
                && count >= wanted
            {
                return command;
            }
            self.world.sleep_ms(pause).await;
            pause = (pause * 2).min(1280);
        }
        let (count, _) = self.applied_at(index);
        panic!("only {count} of {wanted} have applied index {index}");
    }

    /// Brings snapshots to servers that are behind: a stand-in for the rsm and its courier, which
    /// the suites of higher layers use.
    async fn carry_snapshots(self) {
        loop {
            self.fetch.notified().await;
            let asked = std::mem::take(&mut lock(&self.apps).behind);
            for (node, life, from) in asked {
                self.world.sleep_ms(self.world.below(10)).await;
                let reached = self.is_connected(node) && self.is_connected(from);
                if !(reached && self.runs(from)) {
                    continue;
                }
                let requests = lock(&self.apps).install(node, life, from);
                if let Some(server) = self.running.borrow().get(&node) {
                    for request in requests {
                        server.engine.log.send(self.outside(node), request);
                    }
                }
            }
        }
    }
}

impl Apps {
    /// What the engine of a server is told when it starts, or starts anew.
    fn subscription(&mut self, node: NodeId) -> Vec<Request> {
        let app = self.servers.entry(node).or_default();
        let forget = app.saved.as_ref().map(|saved| Request::Forget {
            saved: saved.position.clone(),
            below: saved.position.index.next(),
        });
        forget.into_iter().chain([Request::Subscribe { from: app.next }]).collect()
    }

    /// What has to be told to the engine in return.
    fn on_event(&mut self, node: NodeId, life: u64, event: Event) -> Vec<Request> {
        let app = self.servers.entry(node).or_default();
        if app.life != life {
            return vec![];
        }
        match event {
            Event::Chosen { entries, position } => self.apply(node, entries, position),
            // Nobody is taken in here.
            Event::Save => vec![],
            Event::Offered { id, place } => {
                if let Some(answer) = app.offers.remove(&id.seq) {
                    // Whoever has stopped waiting does not need it.
                    let _ = answer.send(place);
                }
                vec![]
            }
            Event::Role { leader } => {
                app.leader = leader;
                vec![]
            }
            Event::Configured { configuration } => {
                app.configuration = configuration;
                vec![]
            }
            Event::SubscribeAgain => self.subscription(node),
            Event::Behind { ask, .. } => {
                self.behind.push((node, life, ask));
                vec![]
            }
            Event::Barrier { id, from } => {
                let later = app.barriers.split_off(&(id.seq + 1));
                for answer in std::mem::replace(&mut app.barriers, later).into_values() {
                    // Whoever has stopped waiting does not need it.
                    let _ = answer.send(from);
                }
                vec![]
            }
            Event::ProposeAgain => {
                let open = app.open.iter().map(|(id, command)| {
                    Request::Propose(Proposal { id: *id, command: command.clone() })
                });
                let barrier = app.barriers.last_key_value().map(|(seq, _)| {
                    let id = ProposalId { node, life: self.seed, seq: *seq };
                    Request::ReadBarrier { id }
                });
                open.chain(barrier).collect()
            }
            Event::Dropped { .. } => {
                app.dropped += 1;
                vec![]
            }
        }
    }

    fn apply(&mut self, node: NodeId, entries: Vec<Chosen>, position: Position) -> Vec<Request> {
        let app = self.servers.entry(node).or_default();
        let mut due = false;
        for Chosen { index, proposal } in entries {
            if index < app.next && app.installed > 0 {
                // Was under way when the snapshot came.
                continue;
            }
            if index != app.next {
                self.wrong.push(format!("{node} applies {index}, {} is next", app.next));
            }
            app.next = index.next();
            let Some(proposal) = proposal else { continue };
            app.open.remove(&proposal.id);
            let command = command_of(&proposal.command);
            let known = *self.log.entry(index).or_insert(command);
            if known != command {
                self.wrong.push(format!("{index}: {node} applies {command}, another one {known}"));
            }
            app.applied.insert(index, command);
            due |= (index.0 + 1) % 10 == 0;
        }
        if !(self.snapshots && due) || position.index.next() != app.next {
            return vec![];
        }
        let (saved, below) = (position.clone(), position.index.next());
        app.saved = Some(Snapshot { position, applied: app.applied.clone() });
        vec![Request::Forget { saved, below }]
    }

    fn install(&mut self, node: NodeId, life: u64, from: NodeId) -> Vec<Request> {
        let snapshot = self.servers.get(&from).and_then(|app| app.saved.clone());
        let app = self.servers.entry(node).or_default();
        let Some(snapshot) = snapshot.filter(|saved| saved.position.index >= app.next) else {
            return vec![];
        };
        if app.life != life {
            return vec![];
        }
        app.installed += 1;
        app.next = snapshot.position.index.next();
        app.applied = snapshot.applied.clone();
        app.saved = Some(snapshot);
        self.subscription(node)
    }
}
