//! A cluster, and what can be done to it.

use std::{
    cell::{Cell, RefCell},
    collections::{BTreeMap, BTreeSet},
    fmt,
    future::Future,
    path::PathBuf,
    rc::Rc,
    sync::{Arc, Mutex, MutexGuard, OnceLock},
    time::Duration,
};

use quorate_courier::PART_BYTES;
use quorate_mover::PIECE_BYTES;
use quorate_node::config::Engine;
use quorate_persistence::{STEP_BYTES, SimDisk};
use quorate_protocol::{GroupId, Name, NodeId, Role};
use quorate_rsm::{Message as ToRsm, Status};
use quorate_stage::{Chance, Fatal, Gate, Limits, Node, Observer, Outlet};
use tokio::{
    sync::{Notify, oneshot},
    task::LocalSet,
};

use crate::{
    checkers::Violation,
    layout::{GROUP, Sharding, checkpoints, members},
    net::{Net, Partition},
    server::SimNode,
    trace::Trace,
};

/// Every engine: what holds for one must hold for all.
pub const ENGINES: [Engine; 2] = Engine::ALL;

/// What a world is made with.
#[derive(Clone, Copy, Debug)]
pub struct Options {
    /// Number of servers: n1, n2, ...
    pub servers: u32,
    /// What agrees on their log.
    pub engine: Engine,
    /// Whether lines of the trace are kept, not only their hash.
    pub keep_trace: bool,
    /// Bytes of log after which a checkpoint is made.
    pub log_bytes_max: u64,
    /// Whether every read goes through the log.
    pub reads_in_log: bool,
    /// Whether the actors expect that single messages are lost, as on the labs' networks, or have
    /// the patience that they have over TCP.
    pub expects_loss: bool,
    /// How long a sync takes at most.
    pub sync_delay_max: Duration,
    /// Bytes of a file that are written or read at one go.
    pub step_bytes: u64,
    /// Bytes of a checkpoint that travel in one message.
    pub part_bytes: usize,
    /// Bytes of a shard that travel in one message, about.
    pub piece_bytes: u32,
    /// How the store is divided, if it is.
    pub sharding: Option<Sharding>,
}

impl Options {
    /// So many servers, and the usual.
    pub fn servers(servers: u32) -> Self {
        Options {
            servers,
            engine: Engine::Paxos,
            keep_trace: false,
            log_bytes_max: 64 * 1024,
            reads_in_log: false,
            expects_loss: true,
            sync_delay_max: Duration::from_millis(2),
            step_bytes: STEP_BYTES,
            part_bytes: PART_BYTES,
            piece_bytes: PIECE_BYTES,
            sharding: None,
        }
    }

    /// A store that is divided.
    pub fn sharded(sharding: Sharding) -> Self {
        Options { sharding: Some(sharding), ..Options::servers(sharding.servers()) }
    }
}

/// One world. Cheap to clone; all clones are the same world.
#[derive(Clone)]
pub struct World {
    /// Its seed.
    pub seed: u64,
    /// Its options.
    pub options: Options,
    /// Its network.
    pub net: Net,
    /// Its trace.
    pub trace: Arc<Trace>,
    chance: Rc<RefCell<Chance>>,
    pub(crate) nodes: Rc<RefCell<BTreeMap<NodeId, Rc<SimNode>>>>,
    pub(crate) disks: Rc<RefCell<BTreeMap<NodeId, SimDisk>>>,
    /// How often a server has lost its disk.
    pub(crate) lost: Rc<RefCell<BTreeMap<NodeId, u64>>>,
    /// Servers whose disk is made to fail: they may end themselves.
    excused: Arc<Mutex<BTreeSet<NodeId>>>,
    /// Servers that have ended themselves, or lost their disk, and must be killed.
    struck: Arc<Mutex<Vec<NodeId>>>,
    striking: Arc<Notify>,
    clients: Rc<RefCell<u32>>,
    epoch: tokio::time::Instant,
    members: Rc<BTreeMap<GroupId, Vec<NodeId>>>,
    starts: Rc<RefCell<u64>>,
}

/// Where the checkpoints of the group lie on every disk.
pub const CHECKPOINTS: &str = "/data/groups/g1/checkpoint";

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(|poisoned| poisoned.into_inner())
}

/// Runs a test in a world of its own: one thread, virtual time from 0.
///
/// # Panics
/// When the test does; when a rule was broken (see [`Violation`]), a node ended itself, an actor
/// panicked by itself, or one said that a peer broke the rules.
pub fn run<T>(seed: u64, options: Options, test: impl AsyncFnOnce(World) -> T) -> T {
    let (result, violation) = judge(seed, options, test);
    if let Some(violation) = violation {
        panic!("{violation}");
    }
    result
}

/// The same, and answers which rule was broken as the first, if one was.
///
/// # Panics
/// When the test does, or when a message could not be read.
pub(crate) fn judge<T>(
    seed: u64,
    options: Options,
    test: impl AsyncFnOnce(World) -> T,
) -> (T, Option<Violation>) {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_time()
        .start_paused(true)
        .build()
        .expect("a runtime without I/O needs nothing of the machine");
    let local = LocalSet::new();
    let result = local.block_on(&runtime, async {
        let keep_trace = options.keep_trace || std::env::var(TRACE_FILE).is_ok();
        let members = members(&options);
        let trace = Arc::new(Trace::new(keep_trace, &members));
        let _write = WriteTrace(trace.clone());
        let net = Net::new(seed, trace.clone());
        let carrier = tokio::task::spawn_local(net.clone().run());
        let world = World {
            seed,
            options,
            net,
            trace,
            chance: Rc::new(RefCell::new(Chance::new(seed))),
            nodes: Rc::default(),
            disks: Rc::default(),
            lost: Rc::default(),
            excused: Arc::default(),
            struck: Arc::default(),
            striking: Arc::default(),
            clients: Rc::default(),
            epoch: tokio::time::Instant::now(),
            members: Rc::new(members),
            starts: Rc::default(),
        };
        let result = test(world.clone()).await;
        assert!(!carrier.is_finished(), "the network has stopped: a message could not be read");
        (result, world.trace.violation())
    });
    drop(local);
    result
}

/// Names the file to which the lines of a world are written that ends in a panic.
const TRACE_FILE: &str = "QUORATE_TRACE";

struct WriteTrace(Arc<Trace>);

impl Drop for WriteTrace {
    fn drop(&mut self) {
        if let (true, Ok(path)) = (std::thread::panicking(), std::env::var(TRACE_FILE)) {
            match std::fs::write(&path, self.0.tail(usize::MAX)) {
                Ok(()) => eprintln!("the trace is in {path}"),
                Err(error) => eprintln!("the trace could not be written to {path}: {error}"),
            }
        }
    }
}

/// Asks an actor something and waits for the answer; `None` if it crashes over the question.
pub(crate) async fn ask<A: Send + 'static>(question: impl FnOnce(Outlet<A>)) -> Option<A> {
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

impl World {
    /// A number below `bound`, from the seed.
    pub fn below(&self, bound: u64) -> u64 {
        self.chance.borrow_mut().below(bound)
    }

    /// True with this probability, in parts of a thousand.
    pub fn permille(&self, permille: u64) -> bool {
        self.chance.borrow_mut().permille(permille)
    }

    /// Time since the world began.
    pub fn elapsed(&self) -> Duration {
        tokio::time::Instant::now().duration_since(self.epoch)
    }

    /// Lets time pass.
    pub async fn sleep_ms(&self, ms: u64) {
        tokio::time::sleep(Duration::from_millis(ms)).await;
    }

    /// Does something beside.
    pub fn spawn<T: 'static>(
        &self,
        task: impl Future<Output = T> + 'static,
    ) -> tokio::task::JoinHandle<T> {
        tokio::task::spawn_local(task)
    }

    /// All servers of this world, running or not.
    pub fn servers(&self) -> Vec<NodeId> {
        (1..=self.options.servers).map(NodeId).collect()
    }

    /// The servers of a group; group 0 is the shardmaster's.
    pub fn members(&self, group: GroupId) -> Vec<NodeId> {
        self.members.get(&group).cloned().unwrap_or_default()
    }

    /// All groups, that of the shardmaster first.
    pub fn groups(&self) -> Vec<GroupId> {
        self.members.keys().copied().collect()
    }

    /// The groups that have a replica on a server.
    pub fn groups_on(&self, node: NodeId) -> Vec<GroupId> {
        let on = self.members.iter().filter(|(_, nodes)| nodes.contains(&node));
        on.map(|(group, _)| *group).collect()
    }

    /// Up to three sets, each server in one of them: the labs' random partition.
    pub fn random_partition(&self) -> Partition {
        let mut sets = vec![vec![], vec![], vec![]];
        for node in self.servers() {
            sets[self.below(3) as usize].push(node);
        }
        sets
    }

    /// All servers in an order of chance: the labs' shuffled list.
    pub fn shuffled(&self) -> Vec<NodeId> {
        let mut nodes = self.servers();
        for i in (1..nodes.len()).rev() {
            nodes.swap(i, self.below(i as u64 + 1) as usize);
        }
        nodes
    }

    /// Two sets, each server in one of them: the Raft labs' random partition.
    pub fn random_halves(&self) -> Partition {
        let mut sets = vec![vec![], vec![]];
        for node in self.servers() {
            sets[self.below(2) as usize].push(node);
        }
        sets
    }

    /// Splits the servers in two at random, again every 1000 to 1199 ms, until `stop`; then heals.
    pub async fn repartition(self, stop: Rc<Cell<bool>>) {
        while !stop.get() {
            self.net.partition(self.random_halves());
            self.sleep_ms(1000 + self.below(200)).await;
        }
        self.net.heal();
    }

    /// Kills every server, waits for a second, and starts them again.
    pub async fn restart_all(&self) {
        for node in self.servers() {
            self.kill(node);
        }
        self.sleep_ms(1000).await;
        self.start_all(false);
    }

    /// Who leads, by the word of the server itself. `None`: nobody says so.
    pub async fn leader(&self) -> Option<NodeId> {
        for node in self.servers().into_iter().filter(|node| self.runs(*node)) {
            let status = self.status(node).await;
            if status.is_some_and(|status| status.leader == Some(node.0)) {
                return Some(node);
            }
        }
        None
    }

    /// The labs' RaftSize: bytes of the log that a server keeps, of the one that keeps most. One that
    /// is down counts with the files of its journal, which hold a little more.
    pub async fn log_size(&self) -> u64 {
        let mut most = 0;
        for node in self.servers() {
            let kept = if self.runs(node) { self.log_bytes(node).await } else { None };
            most = most.max(kept.unwrap_or_else(|| self.journal_bytes(node)));
        }
        most
    }

    /// Bytes of the files of a server's journals.
    pub(crate) fn journal_bytes(&self, node: NodeId) -> u64 {
        let disk = self.disk(node);
        let mut paths = disk.files();
        paths.retain(|path| path.extension().is_some_and(|extension| extension == "seg"));
        paths.iter().filter_map(|path| disk.peek(path)).map(|content| content.len() as u64).sum()
    }

    /// What stands in the newest checkpoint of a server.
    pub fn newest_checkpoint(&self, node: NodeId) -> Option<Vec<u8>> {
        self.newest_checkpoint_of(node, GROUP)
    }

    /// The same, of a group's replica.
    pub fn newest_checkpoint_of(&self, node: NodeId, group: GroupId) -> Option<Vec<u8>> {
        let (_, path) = self.newest_saved(node, group)?;
        self.disk(node).peek(&path)
    }

    /// Its index, and where it lies.
    pub(crate) fn newest_saved(&self, node: NodeId, group: GroupId) -> Option<(u64, PathBuf)> {
        let dir = checkpoints(group);
        let index = |path: &PathBuf| {
            path.parent().filter(|parent| *parent == dir)?;
            let name = path.file_name()?.to_str()?.strip_prefix("checkpoint-")?;
            Some((name.parse::<u64>().ok()?, path.clone()))
        };
        self.disk(node).files().iter().filter_map(index).max()
    }

    /// The labs' SnapshotSize: bytes of the newest checkpoint, of the server where it is longest.
    pub fn snapshot_size(&self) -> u64 {
        let newest = |node| self.newest_checkpoint(node).map(|content| content.len() as u64);
        self.servers().into_iter().filter_map(newest).max().unwrap_or_default()
    }

    /// A running server.
    ///
    /// # Panics
    /// If it does not run.
    pub fn node(&self, node: NodeId) -> Rc<SimNode> {
        self.nodes.borrow().get(&node).cloned().unwrap_or_else(|| panic!("{node} does not run"))
    }

    /// Whether a server runs.
    pub fn runs(&self, node: NodeId) -> bool {
        self.nodes.borrow().contains_key(&node)
    }

    pub(crate) fn new_disk(&self, node: NodeId) -> SimDisk {
        let lost = self.lost.borrow().get(&node).copied().unwrap_or_default();
        let disk = SimDisk::new(self.seed ^ (u64::from(node.0) << 32) ^ (lost << 48));
        disk.set_sync_delay(Duration::ZERO..=self.options.sync_delay_max);
        let (struck, striking) = (self.struck.clone(), self.striking.clone());
        disk.on_stop(move || {
            lock(&struck).push(node);
            striking.notify_one();
        });
        disk
    }

    /// Gives a server that does not run the content of another disk.
    pub fn replace_disk(&self, node: NodeId, content: &SimDisk) {
        assert!(!self.runs(node), "{node} runs");
        self.trace.on_other_disk(node);
        self.disks.borrow_mut().insert(node, content.fork());
    }

    /// Bytes on all disks together.
    pub fn disk_bytes(&self) -> u64 {
        let disks = self.disks.borrow();
        disks.values().map(|disk| disk.counters().bytes_stored).sum()
    }

    /// Bytes of this process's memory that all disks take, see [`SimDisk::memory_bytes`]: a real
    /// disk takes none.
    pub fn disk_memory(&self) -> u64 {
        self.disks.borrow().values().map(SimDisk::memory_bytes).sum()
    }

    pub(crate) fn stage_of(&self, node: NodeId) -> Node {
        *self.starts.borrow_mut() += 1;
        let seed = self.seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) ^ *self.starts.borrow() << 40;
        let (trace, striking) = (self.trace.clone(), self.striking.clone());
        let (excused, struck) = (self.excused.clone(), self.struck.clone());
        let disk = self.servers().contains(&node).then(|| self.disk(node));
        let gate: Arc<OnceLock<Gate>> = Arc::default();
        let own = gate.clone();
        let on_fatal = move |fatal: Fatal| {
            trace.note(format_args!("{fatal}"));
            // A process that ends itself says nothing more.
            own.get().into_iter().for_each(Gate::close);
            let has_to = disk.as_ref().is_some_and(SimDisk::is_stopped);
            if has_to || lock(&excused).contains(&node) {
                lock(&struck).push(node);
                striking.notify_one();
            } else {
                trace.accuse(Violation::new("no-fatal", fatal.to_string()));
            }
        };
        let wall_ms = self.elapsed().as_millis() as u64;
        let observer = Some(self.trace.clone() as Arc<dyn Observer>);
        let stage = Node::new(node, wall_ms, seed, Limits::default(), on_fatal, observer);
        // Nobody else sets it.
        let _ = gate.set(stage.gate().clone());
        stage
    }

    /// Where a server is told that its group has no place for it any more: its process ends itself.
    pub(crate) fn gone(&self, stage: &Node) -> Outlet<(GroupId, String)> {
        let (node, gate, trace) = (stage.id(), stage.gate().clone(), self.trace.clone());
        let (struck, striking) = (self.struck.clone(), self.striking.clone());
        Outlet::from_fn(move |_, (group, why): (GroupId, String)| {
            trace.note(format_args!("{node} is gone from {group}: {why}"));
            gate.close();
            lock(&struck).push(node);
            striking.notify_one();
        })
    }

    /// Lets a server end itself: its disk is about to fail. Until it starts again.
    pub fn excuse(&self, node: NodeId) {
        lock(&self.excused).insert(node);
    }

    /// Whether a server has ended itself, or its disk has stopped, and nobody has taken it up.
    pub(crate) fn is_struck(&self, node: NodeId) -> bool {
        lock(&self.struck).contains(&node)
    }

    /// Waits for servers that have ended themselves, or whose disk has stopped: they must be killed.
    pub async fn struck(&self) -> Vec<NodeId> {
        loop {
            let struck = std::mem::take(&mut *lock(&self.struck));
            if !struck.is_empty() {
                return struck;
            }
            self.striking.notified().await;
        }
    }

    /// A server starts.
    pub(crate) fn begin(&self, node: NodeId) {
        self.trace.note(format_args!("start {node}"));
        self.trace.on_start(node);
        lock(&self.excused).remove(&node);
    }

    /// Where the replica on a running server stands; `None` if its rsm crashes over the question.
    pub async fn status(&self, node: NodeId) -> Option<Status> {
        let rsm = self.node(node).replica()?.group.rsm.clone();
        ask(|reply| rsm.send(rsm.name(), ToRsm::AskStatus(reply))).await
    }

    /// Bytes of log that the engine of a running server keeps; of several groups, the first one's.
    /// `None` if it crashes over the question.
    pub async fn log_bytes(&self, node: NodeId) -> Option<u64> {
        let log_bytes = self.node(node).replica()?.group.log_bytes.clone();
        ask(|reply| log_bytes.send(Name::of_node(node, Role::Outside), reply)).await
    }

    /// A stage for a client, on a node of its own.
    pub(crate) fn client_stage(&self) -> Node {
        *self.clients.borrow_mut() += 1;
        self.stage_of(NodeId(1000 + *self.clients.borrow()))
    }
}

impl fmt::Debug for World {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "World(seed {})", self.seed)
    }
}
