//! Everything that is done to a world, as data.

use std::fmt;

use quorate_node::config::Engine;
use quorate_protocol::NodeId;
use quorate_stage::Chance;
use serde::{Deserialize, Serialize};

use super::{
    fault::{self, Fault, Kind, Profile},
    groups::{Change, Divided},
};

/// The format that is written and read.
pub const FORMAT: u32 = 1;

/// From what a schedule is drawn.
#[derive(Clone, Debug)]
pub struct Plan {
    /// The engine.
    pub engine: Engine,
    /// The seed of everything that chance decides.
    pub seed: u64,
    /// How many steps: operations of clients and faults together.
    pub steps: usize,
    /// What may fail.
    pub faults: Profile,
    /// How many servers; `None`: three or five, as the seed has it.
    pub servers: Option<u32>,
    /// How many groups the store is divided among; 0: it is not.
    pub groups: u32,
}

/// What a client asks for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Op {
    /// Get.
    Get,
    /// Put.
    Put,
    /// Append.
    Append,
    /// Delete.
    Delete,
    /// A Put at the version that the client knows.
    PutAt,
}

/// One operation.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Ask {
    /// Who asks: each asks one thing after the other.
    pub client: usize,
    /// Of which key.
    pub key: u64,
    /// What.
    pub op: Op,
    /// Which operation: what is written says so, so that nothing is written twice.
    pub number: u64,
}

/// What is done.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Action {
    /// A client asks.
    Ask(Ask),
    /// Something fails.
    Fault(Fault),
    /// Groups join or leave, a shard moves.
    Change(Change),
}

/// What is done at one moment.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Step {
    /// Milliseconds since the world began.
    pub at_ms: u64,
    /// What.
    pub action: Action,
}

/// A run, from its first to its last moment.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Schedule {
    /// [`FORMAT`].
    pub format: u32,
    /// The engine.
    pub engine: Engine,
    /// Seeds the network, the disks and the chance of the actors.
    pub seed: u64,
    /// Servers: n1, n2, ...
    pub servers: u32,
    /// Per client, whether it has a session; one without only reads and puts at versions.
    pub clients: Vec<bool>,
    /// Keys: k0, k1, ...
    pub keys: u64,
    /// Bytes that is written at one go, at least. What is longer than a sector of a disk can be torn.
    #[serde(default)]
    pub value_bytes: u64,
    /// Bytes of log after which a checkpoint is due; `None` for never.
    pub log_bytes_max: Option<u64>,
    /// Whether every read goes through the log.
    pub reads_in_log: bool,
    /// Whether the actors expect that single messages are lost, or have the patience that they have
    /// over TCP. Whatever they expect, messages are lost: safety rests on no patience.
    #[serde(default = "yes")]
    pub expects_loss: bool,
    /// How long a sync takes at most, in milliseconds.
    pub sync_ms_max: u64,
    /// How the store is divided, if it is.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub divided: Option<Divided>,
    /// What is done, in order.
    pub steps: Vec<Step>,
}

fn yes() -> bool {
    true
}

/// Why a text is not a schedule.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ScheduleError(pub String);

impl fmt::Display for ScheduleError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl std::error::Error for ScheduleError {}

/// The most that a schedule may ask for: whoever wants more draws more schedules.
const STEPS_MAX: usize = 1_000_000;
const SERVERS_MAX: u32 = 9;
const CLIENTS_MAX: usize = 256;
const GROUPS_MAX: u32 = 16;
/// A year, in milliseconds: nothing lasts longer.
const MS_MAX: u64 = 365 * 24 * 3_600_000;

impl Schedule {
    /// Draws a run.
    pub fn draw(plan: &Plan) -> Schedule {
        let engine = match plan.engine {
            Engine::Paxos => 0x7061,
            Engine::Raft => 0x7261,
        };
        let chance = &mut Chance::new(plan.seed ^ engine << 48);
        let pick = |chance: &mut Chance, of: &[u64]| of[chance.below(of.len() as u64) as usize];
        let servers = plan.servers.unwrap_or(if chance.permille(300) { 5 } else { 3 });
        // Clients without sessions lean on versions and on a network that repeats nothing (see
        // `quorate_kvserver`): they have worlds of their own, without Deletes and duplicates.
        let sessionless = chance.permille(300);
        let clients: Vec<bool> = (0..2 + chance.below(5))
            .map(|i| i == 0 || !sessionless || chance.permille(500))
            .collect();
        let log_bytes_max = match chance.below(10) {
            0..4 => Some(2 * 1024),
            4..7 => Some(8 * 1024),
            7..9 => Some(64 * 1024),
            _ => None,
        };
        let mut kinds: Vec<Kind> = plan.faults.draw(chance).into_iter().collect();
        // On Paxos nobody is taken in again yet (ARCHITECTURE.md, What is not there yet).
        kinds.retain(|kind| plan.engine == Engine::Raft || *kind != Kind::Wipes);
        kinds.retain(|kind| !(sessionless && *kind == Kind::Duplicates));
        // A Delete makes versions begin anew. Next to operations of which nobody knows whether they
        // took effect that leaves the judge more possibilities than it can look through.
        let deletes = !sessionless && !kinds.contains(&Kind::Vanish);
        let mut schedule = Schedule {
            format: FORMAT,
            engine: plan.engine,
            seed: plan.seed,
            servers,
            keys: pick(chance, &[1, 2, 4, 8]),
            log_bytes_max,
            reads_in_log: chance.permille(200),
            expects_loss: chance.permille(600),
            value_bytes: pick(chance, &[0, 0, 100, 700, 700]),
            sync_ms_max: pick(chance, &[0, 1, 2, 10, 30]),
            clients,
            divided: (plan.groups > 0).then(|| Divided {
                groups: plan.groups,
                shards: pick(chance, &[2, 4, 10, 64]) as u16,
            }),
            steps: Vec::with_capacity(plan.steps),
        };
        let nodes: Vec<NodeId> = (1..=servers).map(NodeId).collect();
        // Some runs are dense, some sparse, and some have much trouble, some little.
        let gap_ms = pick(chance, &[2, 20, 60, 200]);
        let faults = pick(chance, &[20, 100, 250]);
        let changes = schedule.divided.map_or(0, |_| pick(chance, &[10, 50, 150]));
        let mut at_ms = 0;
        for number in 0..plan.steps as u64 {
            at_ms += chance.below(2 * gap_ms);
            let change = schedule.divided.filter(|_| chance.permille(changes));
            let action = if let Some(divided) = change {
                Action::Change(draw_change(chance, divided))
            } else if !kinds.is_empty() && chance.permille(faults) {
                let kind = kinds[chance.below(kinds.len() as u64) as usize];
                Action::Fault(fault::draw(chance, kind, &nodes, schedule.clients.len()))
            } else {
                let client = chance.below(schedule.clients.len() as u64) as usize;
                let op = match (schedule.clients[client], chance.below(100)) {
                    (_, 0..30) | (false, 30..50) => Op::Get,
                    (true, 30..60) => Op::Append,
                    (true, 60..80) => Op::Put,
                    (true, 80..87) if deletes => Op::Delete,
                    _ => Op::PutAt,
                };
                let key = chance.below(schedule.keys);
                Action::Ask(Ask { client, key, op, number })
            };
            schedule.steps.push(Step { at_ms, action });
        }
        schedule
    }

    /// A schedule out of its JSON.
    ///
    /// # Errors
    /// What is wrong with it: it is not JSON, of another format, or asks for what cannot be.
    pub fn parse(text: &str) -> Result<Schedule, ScheduleError> {
        let schedule: Schedule = serde_json::from_str(text).map_err(|error| {
            ScheduleError(format!("not a schedule: {error}; `quorate sim` writes them"))
        })?;
        schedule.examine().map_err(ScheduleError)?;
        Ok(schedule)
    }

    fn examine(&self) -> Result<(), String> {
        if self.format != FORMAT {
            return Err(format!("format {}; this quorate reads format {FORMAT}", self.format));
        }
        let within = |what: &str, is: u64, least: u64, most: u64| {
            let right = (least..=most).contains(&is);
            right.then_some(()).ok_or(format!("{is} {what}: from {least} to {most} can be"))
        };
        within("servers", self.servers.into(), 1, SERVERS_MAX.into())?;
        within("clients", self.clients.len() as u64, 1, CLIENTS_MAX as u64)?;
        within("keys", self.keys, 1, 1_000_000)?;
        within("bytes of a value", self.value_bytes, 0, 1 << 20)?;
        within("steps", self.steps.len() as u64, 0, STEPS_MAX as u64)?;
        if let Some(Divided { groups, shards }) = self.divided {
            within("groups", groups.into(), 1, GROUPS_MAX.into())?;
            within("shards", shards.into(), 1, 1024)?;
        }
        within("ms of a sync", self.sync_ms_max, 0, 60_000)?;
        if let Some(bytes) = self.log_bytes_max {
            within("bytes of log", bytes, 1024, 1 << 50)?;
        }
        let mut before = 0;
        for (place, step) in self.steps.iter().enumerate() {
            let wrong = |text: String| format!("step {place}: {text}");
            within("ms", step.at_ms, before, MS_MAX).map_err(wrong)?;
            before = step.at_ms;
            match &step.action {
                Action::Ask(ask) => {
                    let clients = self.clients.len() as u64;
                    within("as a client", ask.client as u64, 0, clients - 1).map_err(wrong)?;
                    within("as a key", ask.key, 0, self.keys - 1).map_err(wrong)?;
                }
                Action::Change(_) if self.divided.is_none() => {
                    return Err(wrong("the store is not divided".into()));
                }
                Action::Change(_) => {}
                Action::Fault(fault) => {
                    for node in fault.nodes() {
                        within("as a server", node.0.into(), 1, self.servers.into())
                            .map_err(wrong)?;
                    }
                    for time in fault.times() {
                        within("ms", time, 0, MS_MAX).map_err(wrong)?;
                    }
                }
            }
        }
        Ok(())
    }

    /// Its JSON, a line per step.
    pub fn to_json(&self) -> String {
        let head = Schedule { steps: vec![], ..self.clone() };
        let head = line(&head);
        let steps: Vec<String> =
            self.steps.iter().map(|step| format!("  {}", line(step))).collect();
        let head = head.trim_end_matches("[]}");
        format!("{head}[\n{}\n]}}\n", steps.join(",\n"))
    }

    /// How many faults it has.
    pub fn faults(&self) -> usize {
        self.steps.iter().filter(|step| matches!(step.action, Action::Fault(_))).count()
    }
}

/// Draws what the shardmaster is asked for.
fn draw_change(chance: &mut Chance, divided: Divided) -> Change {
    let group = 1 + chance.below(divided.groups.into()) as u32;
    match chance.below(10) {
        0..3 => Change::Join(group),
        3..5 => Change::Leave(group),
        5..9 => Change::Move(chance.below(divided.shards.into()) as u16, group),
        _ => Change::Rebalance,
    }
}

fn line(value: &impl Serialize) -> String {
    serde_json::to_string(value).expect("plain data always encodes")
}

impl Fault {
    /// The servers that it names.
    fn nodes(&self) -> Vec<NodeId> {
        match self {
            Fault::Loss { .. } | Fault::Duplicates { .. } | Fault::Delays { .. } => vec![],
            Fault::Vanish { .. } => vec![],
            Fault::SlowLink { from, to, .. } | Fault::Cut { from, to, .. } => vec![*from, *to],
            Fault::Partition { sets, .. } => sets.concat(),
            Fault::Kill { nodes, .. } | Fault::Power { nodes, .. } => nodes.clone(),
            Fault::Crash { node, .. }
            | Fault::Wipe { node, .. }
            | Fault::PowerAt { node, .. }
            | Fault::DiskError { node, .. }
            | Fault::SyncError { node, .. }
            | Fault::DiskFull { node, .. }
            | Fault::SlowDisk { node, .. }
            | Fault::Pause { node, .. }
            | Fault::Clock { node, .. }
            | Fault::Checkpoint { node } => vec![*node],
        }
    }

    /// The times in milliseconds that it names.
    fn times(&self) -> Vec<u64> {
        match self {
            Fault::Loss { ms, .. }
            | Fault::Duplicates { ms, .. }
            | Fault::Partition { ms, .. }
            | Fault::Cut { ms, .. }
            | Fault::DiskFull { ms, .. }
            | Fault::Pause { ms, .. } => vec![*ms],
            Fault::Delays { up_to_ms, ms } => vec![*up_to_ms, *ms],
            Fault::SlowLink { by_ms, ms, .. } => vec![*by_ms, *ms],
            Fault::SlowDisk { sync_ms, ms, .. } => vec![*sync_ms, *ms],
            Fault::Kill { down_ms, .. }
            | Fault::Power { down_ms, .. }
            | Fault::Wipe { down_ms, .. }
            | Fault::PowerAt { down_ms, .. } => vec![*down_ms],
            Fault::Clock { by_ms, .. } => vec![by_ms.unsigned_abs()],
            Fault::Crash { .. }
            | Fault::DiskError { .. }
            | Fault::SyncError { .. }
            | Fault::Vanish { .. }
            | Fault::Checkpoint { .. } => vec![],
        }
    }
}

impl fmt::Display for Action {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Action::Ask(Ask { client, key, op, number }) => {
                write!(f, "client {client}: {op:?} k{key} #{number}")
            }
            Action::Fault(fault) => write!(f, "{fault}"),
            Action::Change(change) => write!(f, "{change}"),
        }
    }
}
