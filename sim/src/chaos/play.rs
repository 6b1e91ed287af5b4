//! Does what a schedule says, heals, and judges.

use std::{
    any::Any,
    cell::{Cell, RefCell},
    collections::{BTreeMap, BTreeSet, VecDeque},
    panic::{AssertUnwindSafe, catch_unwind},
    rc::Rc,
    sync::Once,
    time::Duration,
};

use quorate_protocol::{GroupId, Name, NodeId};
use tokio::{
    sync::Notify,
    task::AbortHandle,
    time::{Instant, timeout},
};

use super::{
    fault::Fault,
    groups::{self, Change},
    schedule::{Action, Ask, Op, Schedule},
};
use crate::{
    checkers::Violation,
    clients::Client,
    layout::Sharding,
    record::{Record, Recorded},
    trace::Line,
    world::{Options, World, judge},
};

/// How long after the last fault anything may take.
pub const CONVERGE_MAX: Duration = Duration::from_secs(60);
/// A server that has ended itself is started again after so long.
const RESTART: Duration = Duration::from_millis(500);
/// More messages than this do not wait for one actor.
const DEPTH_MAX: u64 = 20_000;
/// After all has settled and a checkpoint was made, the log has at most so many times the bytes at
/// which one is due (the labs' bound) ...
const LOG_TIMES_MAX: u64 = 8;
/// ... or this, if that is more: what the last batches take ...
const LOG_BYTES_MAX: u64 = 64 * 1024;
/// ... and what a replica that lags is handed at one go, with no checkpoint in between.
const LOG_ENTRIES_MAX: u64 = 512;

/// A run without violation.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Played {
    /// Operations that were answered.
    pub answered: u64,
    /// Operations whose client was gone before the answer.
    pub unanswered: u64,
    /// Faults that had an effect.
    pub faults: u64,
    /// How long it took, in virtual time.
    pub simulated: Duration,
    /// The hash of everything that happened ...
    pub hash: u64,
    /// ... and how much that was.
    pub events: u64,
}

/// A run in which a rule was broken.
#[derive(Clone, Debug)]
pub struct Failed {
    /// Which one.
    pub violation: Violation,
    /// When, since the world began.
    pub at: Duration,
}

/// Plays a schedule in a world of its own.
///
/// # Errors
/// The first rule that was broken.
pub fn play(schedule: &Schedule) -> Result<Played, Failed> {
    play_in(schedule, false).0
}

/// The same, with everything that happened.
pub fn play_traced(schedule: &Schedule) -> (Result<Played, Failed>, Vec<Line>) {
    play_in(schedule, true)
}

fn play_in(schedule: &Schedule, keep_trace: bool) -> (Result<Played, Failed>, Vec<Line>) {
    let options = Options {
        engine: schedule.engine,
        keep_trace,
        log_bytes_max: schedule.log_bytes_max.unwrap_or(u64::MAX),
        reads_in_log: schedule.reads_in_log,
        expects_loss: schedule.expects_loss,
        sync_delay_max: Duration::from_millis(schedule.sync_ms_max),
        sharding: schedule.divided.map(|divided| Sharding {
            shards: divided.shards,
            groups: divided.groups,
            first: 1,
            replicas: schedule.servers,
            apart: false,
        }),
        ..Options::servers(schedule.servers)
    };
    let seen = Rc::new(RefCell::new(None::<World>));
    let own = seen.clone();
    let played = quietly(|| {
        judge(schedule.seed, options, async |world| {
            *own.borrow_mut() = Some(world.clone());
            let player = Player::new(&world, schedule);
            let played = tokio::select! {
                biased;
                violation = world.trace.violated() => Err(violation),
                played = player.play(schedule) => played,
            };
            if let (Err(violation), None) = (&played, world.trace.violation()) {
                world.trace.accuse(violation.clone());
            }
            (played, world.elapsed())
        })
    });
    let world = seen.borrow_mut().take();
    let lines = world.map(|world| world.trace.lines()).unwrap_or_default();
    let played = match played {
        Ok(((played, at), violation)) => match (played, violation) {
            (_, Some(violation)) | (Err(violation), None) => Err(Failed { violation, at }),
            (Ok(played), None) => Ok(played),
        },
        Err(text) => {
            let at = lines.last().map(|line| line.at).unwrap_or_default();
            Err(Failed { violation: Violation::new("no-panic", text), at })
        }
    };
    (played, lines)
}

thread_local! {
    static QUIET: Cell<bool> = const { Cell::new(false) };
}

/// Runs something whose panics are an answer, and says nothing of them on standard error.
fn quietly<T>(run: impl FnOnce() -> T) -> Result<T, String> {
    static HOOK: Once = Once::new();
    HOOK.call_once(|| {
        let former = std::panic::take_hook();
        std::panic::set_hook(Box::new(move |info| {
            if !QUIET.get() {
                former(info);
            }
        }));
    });
    let before = QUIET.replace(true);
    let done = catch_unwind(AssertUnwindSafe(run));
    QUIET.set(before);
    done.map_err(|thrown| words(&*thrown))
}

/// What a panic says.
fn words(thrown: &(dyn Any + Send)) -> String {
    let text = thrown.downcast_ref::<String>().cloned();
    let text = text.or_else(|| thrown.downcast_ref::<&str>().map(|text| (*text).to_string()));
    text.unwrap_or_else(|| "a panic without words".into())
}

/// One client, or those that took its place.
struct Worker {
    queue: Rc<RefCell<VecDeque<Ask>>>,
    wake: Rc<Notify>,
    busy: Rc<Cell<bool>>,
    client: Client,
    task: AbortHandle,
}

struct Player {
    world: World,
    record: Record,
    sessions: Vec<bool>,
    value_bytes: u64,
    workers: RefCell<Vec<Worker>>,
    answered: Rc<Cell<u64>>,
    unanswered: Cell<u64>,
    faults: Cell<u64>,
    /// Faults that last, under numbers.
    active: RefCell<BTreeMap<u64, Fault>>,
    numbers: Cell<u64>,
    /// Servers that are down on purpose, and for how long they stay so if they die by themselves.
    down: RefCell<BTreeSet<NodeId>>,
    down_for: RefCell<BTreeMap<NodeId, Duration>>,
    healed: Cell<bool>,
    sync_delay_max: Duration,
}

impl Player {
    fn new(world: &World, schedule: &Schedule) -> Rc<Self> {
        Rc::new(Player {
            world: world.clone(),
            record: Record::new(world),
            sessions: schedule.clients.clone(),
            value_bytes: schedule.value_bytes,
            workers: RefCell::default(),
            answered: Rc::default(),
            unanswered: Cell::default(),
            faults: Cell::default(),
            active: RefCell::default(),
            numbers: Cell::default(),
            down: RefCell::default(),
            down_for: RefCell::default(),
            healed: Cell::default(),
            sync_delay_max: Duration::from_millis(schedule.sync_ms_max),
        })
    }

    async fn play(self: Rc<Self>, schedule: &Schedule) -> Result<Played, Violation> {
        let world = &self.world;
        world.start_all(false);
        let admin = match schedule.divided {
            Some(divided) => {
                let admin = Client::new(world, vec![]);
                groups::form(world, &admin, divided).await;
                Some(admin)
            }
            None => None,
        };
        let changes: Rc<RefCell<VecDeque<Change>>> = Rc::default();
        let (called, busy) = (Rc::new(Notify::new()), Rc::new(Cell::new(false)));
        if let Some(admin) = admin.clone() {
            let orders = (changes.clone(), called.clone(), busy.clone());
            world.spawn(administer(world.clone(), admin, orders));
        }
        for client in 0..self.sessions.len() {
            let worker = self.worker(client, Rc::default());
            self.workers.borrow_mut().push(worker);
        }
        let reaper = self.clone();
        world.spawn(async move { reaper.reap().await });
        let begun = Instant::now();
        for step in &schedule.steps {
            tokio::time::sleep_until(begun + Duration::from_millis(step.at_ms)).await;
            world.trace.note(format_args!("step {}", step.action));
            match &step.action {
                Action::Ask(ask) => {
                    let workers = self.workers.borrow();
                    if let Some(worker) = workers.get(ask.client) {
                        worker.queue.borrow_mut().push_back(ask.clone());
                        worker.wake.notify_one();
                    }
                }
                Action::Fault(fault) => self.clone().strike(fault),
                Action::Change(change) => {
                    changes.borrow_mut().push_back(change.clone());
                    called.notify_one();
                }
            }
            self.check_queues()?;
        }
        self.heal();
        self.converge(schedule.keys).await?;
        if let Some(admin) = &admin {
            let healed = Instant::now();
            while busy.get() || !changes.borrow().is_empty() {
                if healed.elapsed() > CONVERGE_MAX {
                    let text =
                        format!("the shardmaster does not answer {CONVERGE_MAX:?} after all");
                    return Err(Violation::new("all-converge", text));
                }
                world.sleep_ms(10).await;
            }
            groups::settle(world, admin).await?;
        }
        self.check_replicas().await?;
        self.record.verdict()?;
        let (hash, events) = world.trace.hash();
        Ok(Played {
            answered: self.answered.get(),
            unanswered: self.unanswered.get(),
            faults: self.faults.get(),
            simulated: world.elapsed(),
            hash,
            events,
        })
    }

    fn worker(&self, client: usize, queue: Rc<RefCell<VecDeque<Ask>>>) -> Worker {
        let servers = self.world.shuffled();
        let has_session = self.sessions[client];
        let made = match has_session {
            true => Client::new(&self.world, servers),
            false => Client::sessionless(&self.world, servers),
        };
        let (wake, busy) = (Rc::new(Notify::new()), Rc::new(Cell::new(false)));
        let work = work(
            self.record.client(made.clone()),
            (queue.clone(), wake.clone(), busy.clone()),
            self.value_bytes as usize,
            self.answered.clone(),
        );
        let task = self.world.spawn(work);
        let (abort, trace) = (task.abort_handle(), self.world.trace.clone());
        self.world.spawn(async move {
            if let Err(error) = task.await
                && error.is_panic()
            {
                let text = format!("client {client}: {}", words(&*error.into_panic()));
                trace.accuse(Violation::new("clients-are-answered", text));
            }
        });
        Worker { queue, wake, busy, client: made, task: abort }
    }

    /// Kills servers that have ended themselves or lost their disk, and starts them again.
    async fn reap(self: Rc<Self>) {
        loop {
            for node in self.world.struck().await {
                if !self.world.runs(node) {
                    continue;
                }
                if self.world.disk(node).is_stopped() {
                    self.world.kill(node);
                } else {
                    self.world.kill_process(node);
                }
                let down_for = self.down_for.borrow_mut().remove(&node).unwrap_or(RESTART);
                self.clone().start_after(node, down_for);
            }
        }
    }

    fn start_after(self: Rc<Self>, node: NodeId, after: Duration) {
        self.down.borrow_mut().insert(node);
        let world = self.world.clone();
        world.spawn(async move {
            tokio::time::sleep(after).await;
            self.start(node);
        });
    }

    fn start(&self, node: NodeId) {
        if !self.down.borrow_mut().remove(&node) || self.world.runs(node) {
            return;
        }
        let is_full =
            |fault: &Fault| matches!(fault, Fault::DiskFull { node: on, .. } if *on == node);
        let full = self.active.borrow().values().any(is_full);
        self.world.start(node, false);
        if full {
            self.world.excuse(node);
        }
    }

    /// Has a fault strike.
    fn strike(self: Rc<Self>, fault: &Fault) {
        let world = &self.world;
        let ms = Duration::from_millis;
        let strikes = match fault {
            Fault::Loss { ms: lasts, .. }
            | Fault::Duplicates { ms: lasts, .. }
            | Fault::Delays { ms: lasts, .. }
            | Fault::SlowLink { ms: lasts, .. }
            | Fault::Partition { ms: lasts, .. }
            | Fault::Cut { ms: lasts, .. }
            | Fault::SlowDisk { ms: lasts, .. }
            | Fault::Pause { ms: lasts, .. } => {
                self.clone().last(fault, ms(*lasts));
                true
            }
            Fault::DiskFull { node, room, ms: lasts } => {
                let disk = world.disk(*node);
                if world.runs(*node) {
                    world.excuse(*node);
                }
                disk.set_bytes_max(Some(disk.counters().bytes_stored + room));
                self.clone().last(fault, ms(*lasts));
                true
            }
            Fault::Kill { nodes, down_ms } | Fault::Power { nodes, down_ms } => {
                let is_power = matches!(fault, Fault::Power { .. });
                let mut struck = false;
                for node in nodes.iter().filter(|node| world.runs(**node)) {
                    match is_power {
                        true => world.kill(*node),
                        false => world.kill_process(*node),
                    }
                    self.clone().start_after(*node, ms(*down_ms));
                    struck = true;
                }
                struck
            }
            Fault::Wipe { node, .. } if !world.can_lose(*node) => false,
            Fault::Wipe { node, down_ms } => {
                if world.runs(*node) {
                    world.kill(*node);
                    self.clone().start_after(*node, ms(*down_ms));
                }
                world.wipe(*node);
                self.set_conditions();
                true
            }
            Fault::PowerAt { node, .. }
            | Fault::DiskError { node, .. }
            | Fault::SyncError { node, .. }
            | Fault::Crash { node, .. }
            | Fault::Clock { node, .. }
            | Fault::Checkpoint { node }
                if !world.runs(*node) =>
            {
                false
            }
            Fault::PowerAt { node, operations, down_ms } => {
                self.down_for.borrow_mut().insert(*node, ms(*down_ms));
                world.disk(*node).crash_after(*operations);
                true
            }
            Fault::DiskError { node, operations } => {
                world.excuse(*node);
                world.disk(*node).fail_after(*operations, std::io::ErrorKind::Other);
                true
            }
            Fault::SyncError { node, syncs } => {
                world.excuse(*node);
                world.disk(*node).fail_sync_after(*syncs);
                true
            }
            Fault::Crash { node, role, mode } => {
                let stage = world.node(*node).stage.clone();
                let names = stage.mailboxes().into_iter().map(|mailbox| mailbox.name());
                let names = names.filter(|name| name.role == *role);
                let names: BTreeSet<Name> = names.collect();
                names.into_iter().filter(|name| stage.crash(*name, *mode).is_ok()).count() > 0
            }
            Fault::Clock { node, by_ms } => {
                world.node(*node).stage.jump_clock(*by_ms);
                true
            }
            Fault::Checkpoint { node } => {
                groups::take_checkpoints(world, *node);
                true
            }
            Fault::Vanish { client } => {
                let mut workers = self.workers.borrow_mut();
                if let Some(worker) = workers.get_mut(*client) {
                    worker.task.abort();
                    worker.client.clone().end(world);
                    let lost = u64::from(worker.busy.get());
                    self.unanswered.set(self.unanswered.get() + lost);
                    let queue = worker.queue.clone();
                    *worker = self.worker(*client, queue);
                }
                true
            }
        };
        self.faults.set(self.faults.get() + u64::from(strikes));
    }

    /// A fault lasts for a while.
    fn last(self: Rc<Self>, fault: &Fault, lasts: Duration) {
        let number = self.numbers.get();
        self.numbers.set(number + 1);
        self.active.borrow_mut().insert(number, fault.clone());
        self.set_conditions();
        let world = self.world.clone();
        world.spawn(async move {
            tokio::time::sleep(lasts).await;
            if self.active.borrow_mut().remove(&number).is_some() {
                self.set_conditions();
            }
        });
    }

    /// Network, disks and processes are as the faults that last have them, all together.
    fn set_conditions(&self) {
        let (world, active) = (&self.world, self.active.borrow());
        let servers = world.servers();
        let (mut loss, mut twice, mut delay_ms) = (0, 0, 1);
        let (mut cuts, mut slow) = (BTreeSet::new(), BTreeMap::new());
        let (mut paused, mut full) = (BTreeSet::new(), BTreeSet::new());
        let mut syncs = BTreeMap::new();
        for fault in active.values() {
            match fault {
                Fault::Loss { permille, .. } => loss = loss.max(*permille),
                Fault::Duplicates { permille, .. } => twice = twice.max(*permille),
                Fault::Delays { up_to_ms, .. } => delay_ms = delay_ms.max(*up_to_ms),
                Fault::SlowLink { from, to, by_ms, .. } => {
                    slow.insert((*from, *to), Duration::from_millis(*by_ms));
                }
                Fault::Partition { sets, .. } => {
                    let hears = |one, other| {
                        sets.iter().any(|set| set.contains(&one) && set.contains(&other))
                    };
                    for one in &servers {
                        let others = servers.iter().filter(|other| *other != one);
                        cuts.extend(
                            others.filter(|other| !hears(*one, **other)).map(|o| (*one, *o)),
                        );
                    }
                }
                Fault::Cut { from, to, both, .. } => {
                    cuts.insert((*from, *to));
                    cuts.extend(both.then_some((*to, *from)));
                }
                Fault::SlowDisk { node, sync_ms, .. } => {
                    syncs.insert(*node, Duration::from_millis(*sync_ms));
                }
                Fault::Pause { node, .. } => {
                    paused.insert(*node);
                }
                Fault::DiskFull { node, .. } => {
                    full.insert(*node);
                }
                _ => {}
            }
        }
        world.net.set_loss(loss);
        world.net.set_duplicates(twice);
        world.net.set_delay(Duration::ZERO, Duration::from_millis(delay_ms));
        world.net.set_cuts(cuts);
        world.net.set_slow(slow);
        for node in servers {
            let disk = world.disk(node);
            let most = syncs.get(&node).copied().unwrap_or(self.sync_delay_max);
            disk.set_sync_delay(Duration::ZERO..=most);
            if !full.contains(&node) {
                disk.set_bytes_max(None);
            }
            if world.runs(node) {
                let running = world.node(node);
                let gate = running.stage.gate();
                match (paused.contains(&node), gate.is_closed()) {
                    (true, false) => gate.close(),
                    // One that has ended itself stays so.
                    (false, true) if !world.is_struck(node) => gate.open(),
                    _ => {}
                }
            }
        }
    }

    /// Ends every fault.
    fn heal(&self) {
        self.world.trace.note(format_args!("heal"));
        self.active.borrow_mut().clear();
        self.set_conditions();
        for node in self.world.servers() {
            self.world.disk(node).disarm();
        }
        self.healed.set(true);
        let down: Vec<NodeId> = self.down.borrow().iter().copied().collect();
        for node in down {
            self.start(node);
        }
    }

    /// No actor has more to do than it can do.
    fn check_queues(&self) -> Result<(), Violation> {
        for node in self.world.servers().into_iter().filter(|node| self.world.runs(*node)) {
            let running = self.world.node(node);
            if running.stage.gate().is_closed() {
                continue;
            }
            for mailbox in running.stage.mailboxes() {
                let depth = mailbox.actor().depth;
                if depth > DEPTH_MAX {
                    let text = format!("{depth} messages wait for {}", mailbox.name());
                    return Err(Violation::new("queues-are-bounded", text));
                }
            }
        }
        Ok(())
    }

    /// Every client is answered, and every server serves.
    async fn converge(&self, keys: u64) -> Result<(), Violation> {
        let stuck = |text: String| Err(Violation::new("all-converge", text));
        let healed = Instant::now();
        loop {
            let waits = |worker: &Worker| worker.busy.get() || !worker.queue.borrow().is_empty();
            let waiting = self.workers.borrow().iter().position(waits);
            let Some(client) = waiting else { break };
            if healed.elapsed() > CONVERGE_MAX {
                return stuck(format!("client {client} has no answer {CONVERGE_MAX:?} after all"));
            }
            self.world.sleep_ms(10).await;
        }
        // What they say is judged with the history.
        for server in self.world.servers() {
            let client = self.record.client(Client::new(&self.world, vec![server]));
            for key in 0..keys {
                if timeout(CONVERGE_MAX, client.get(&format!("k{key}"))).await.is_err() {
                    return stuck(format!("{server} does not answer, all is healed"));
                }
            }
        }
        Ok(())
    }

    /// Replicas that have applied the same are the same, to the byte, sessions included; and what
    /// they keep is bounded.
    async fn check_replicas(&self) -> Result<(), Violation> {
        for group in self.world.groups() {
            self.check_group(group).await?;
        }
        Ok(())
    }

    async fn check_group(&self, group: GroupId) -> Result<(), Violation> {
        let world = &self.world;
        let members = world.members(group);
        let settled = Instant::now();
        let mut asked = 0;
        loop {
            if settled.elapsed() > CONVERGE_MAX {
                let text =
                    format!("the replicas of {group} do not come to checkpoints of one index");
                return Err(Violation::new("all-converge", text));
            }
            let mut statuses = vec![];
            for node in &members {
                statuses.extend(groups::status(world, *node, group).await);
            }
            let applied: BTreeSet<u64> = statuses.iter().map(|status| status.applied).collect();
            let saved: BTreeSet<u64> = statuses.iter().map(|status| status.checkpointed).collect();
            let same = applied.len() == 1 && statuses.len() == members.len();
            if same && applied == saved {
                break;
            }
            if let (true, Some(at)) = (same, applied.first())
                && asked != *at
            {
                asked = *at;
                members.iter().for_each(|node| groups::take_checkpoints(world, *node));
            }
            world.sleep_ms(50).await;
        }
        let mut first: Option<(NodeId, Vec<u8>)> = None;
        for node in members {
            let Some(newest) = groups::newest_checkpoint(world, node, group) else { continue };
            match &first {
                Some((other, known)) if *known != newest => {
                    let text = format!("the checkpoints of {group} on {node} and {other} differ");
                    return Err(Violation::new("replicas-are-the-same", text));
                }
                Some(_) => {}
                None => first = Some((node, newest)),
            }
        }
        let max = Some(world.options.log_bytes_max).filter(|max| *max < u64::MAX);
        if let Some(max) = max.filter(|_| world.options.sharding.is_none()) {
            let at_one_go = LOG_BYTES_MAX + LOG_ENTRIES_MAX * self.value_bytes;
            let (most, size) = ((LOG_TIMES_MAX * max).max(at_one_go), world.log_size().await);
            if size > most {
                let text = format!("{size} bytes of log are kept, a checkpoint is due after {max}");
                return Err(Violation::new("logs-are-bounded", text));
            }
        }
        Ok(())
    }
}

type Orders = (Rc<RefCell<VecDeque<Ask>>>, Rc<Notify>, Rc<Cell<bool>>);

type Changes = (Rc<RefCell<VecDeque<Change>>>, Rc<Notify>, Rc<Cell<bool>>);

/// Asks the shardmaster for one change after the other.
async fn administer(world: World, admin: Client, (queue, wake, busy): Changes) {
    loop {
        let next = queue.borrow_mut().pop_front();
        let Some(change) = next else {
            wake.notified().await;
            continue;
        };
        busy.set(true);
        let answer = admin.administer(change.command(&world)).await;
        world.trace.note(format_args!("{change}: {answer:?}"));
        busy.set(false);
    }
}

/// Asks one thing after the other.
async fn work(
    client: Recorded,
    (queue, wake, busy): Orders,
    value_bytes: usize,
    answered: Rc<Cell<u64>>,
) {
    let mut known: BTreeMap<u64, u64> = BTreeMap::new();
    loop {
        let next = queue.borrow_mut().pop_front();
        let Some(ask) = next else {
            wake.notified().await;
            continue;
        };
        busy.set(true);
        let key = format!("k{}", ask.key);
        let value = format!("{:.<value_bytes$}", format!("{};", ask.number));
        match ask.op {
            Op::Get => note(&mut known, ask.key, client.get(&key).await),
            Op::Put => client.put(&key, &value).await,
            Op::Append => client.append(&key, &value).await,
            Op::Delete => client.delete(&key).await,
            Op::PutAt => {
                if ask.number.is_multiple_of(2) {
                    note(&mut known, ask.key, client.get(&key).await);
                }
                let version = known.remove(&ask.key).unwrap_or(0);
                if client.put_at(&key, &value, version).await.is_ok() {
                    known.insert(ask.key, version + 1);
                }
            }
        }
        busy.set(false);
        answered.set(answered.get() + 1);
    }
}

fn note(known: &mut BTreeMap<u64, u64>, key: u64, found: Option<quorate_kvserver::Versioned>) {
    known.insert(key, found.map_or(0, |found| found.version.0));
}
