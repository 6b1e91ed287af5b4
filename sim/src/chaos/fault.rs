//! What may fail.

use std::{collections::BTreeSet, fmt, str::FromStr};

use quorate_protocol::{NodeId, Role};
use quorate_stage::{Chance, CrashMode};
use serde::{Deserialize, Serialize};

/// One fault. It ends by itself, and those with `ms` after that time.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Fault {
    /// Of a thousand parcels so many are lost.
    Loss {
        /// In parts of a thousand.
        permille: u64,
        /// For so long.
        ms: u64,
    },
    /// Of a thousand parcels so many arrive twice.
    Duplicates {
        /// In parts of a thousand.
        permille: u64,
        /// For so long.
        ms: u64,
    },
    /// Each parcel takes up to so long, and so they overtake each other.
    Delays {
        /// The most that one takes, in milliseconds.
        up_to_ms: u64,
        /// For so long.
        ms: u64,
    },
    /// From one server to another everything takes longer.
    SlowLink {
        /// From here ...
        from: NodeId,
        /// ... to there.
        to: NodeId,
        /// Longer by so much, in milliseconds.
        by_ms: u64,
        /// For so long.
        ms: u64,
    },
    /// Servers of different sets do not hear each other.
    Partition {
        /// Each server is in one of them.
        sets: Vec<Vec<NodeId>>,
        /// For so long.
        ms: u64,
    },
    /// Nothing passes from one server to another, or in both directions.
    Cut {
        /// From here ...
        from: NodeId,
        /// ... to there.
        to: NodeId,
        /// Whether nothing comes back either.
        both: bool,
        /// For so long.
        ms: u64,
    },
    /// An actor of a server crashes, and starts anew from what is durable.
    Crash {
        /// On this server.
        node: NodeId,
        /// This one; nothing happens where there is none.
        role: Role,
        /// When exactly.
        mode: CrashMode,
    },
    /// Processes are killed: what they have written stays, synced or not.
    Kill {
        /// Of these servers.
        nodes: Vec<NodeId>,
        /// They start again after so long.
        down_ms: u64,
    },
    /// Servers lose power: what is not synced is lost, kept or torn.
    Power {
        /// These.
        nodes: Vec<NodeId>,
        /// They start again after so long.
        down_ms: u64,
    },
    /// A server loses its disk, and comes back with an empty one. Nothing happens if a group would be left
    /// without a majority of voters that have theirs.
    Wipe {
        /// This one.
        node: NodeId,
        /// It starts again after so long.
        down_ms: u64,
    },
    /// A server loses power in the midst of an operation of its disk.
    PowerAt {
        /// This one.
        node: NodeId,
        /// After so many more operations of its disk.
        operations: u64,
        /// It starts again after so long.
        down_ms: u64,
    },
    /// An operation of a disk fails: the server ends itself.
    DiskError {
        /// On this server.
        node: NodeId,
        /// After so many more operations.
        operations: u64,
    },
    /// A sync fails, and some of what it covered is lost.
    SyncError {
        /// On this server.
        node: NodeId,
        /// After so many more syncs.
        syncs: u64,
    },
    /// A disk has little room left.
    DiskFull {
        /// On this server.
        node: NodeId,
        /// Bytes of room.
        room: u64,
        /// For so long.
        ms: u64,
    },
    /// Each sync takes up to so long.
    SlowDisk {
        /// On this server.
        node: NodeId,
        /// In milliseconds.
        sync_ms: u64,
        /// For so long.
        ms: u64,
    },
    /// A process is stopped, and goes on.
    Pause {
        /// On this server.
        node: NodeId,
        /// After so long.
        ms: u64,
    },
    /// The time of day is set.
    Clock {
        /// On this server.
        node: NodeId,
        /// By so many milliseconds.
        by_ms: i64,
    },
    /// A client is gone in the midst of what it does; another one takes its place.
    Vanish {
        /// This one.
        client: usize,
    },
    /// A server makes a checkpoint. Nothing fails, but much may while it does.
    Checkpoint {
        /// This one.
        node: NodeId,
    },
}

/// Faults by kind, as `--faults` names them.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Kind {
    /// [`Fault::Loss`].
    Loss,
    /// [`Fault::Duplicates`].
    Duplicates,
    /// [`Fault::Delays`].
    Delays,
    /// [`Fault::SlowLink`].
    SlowLinks,
    /// [`Fault::Partition`].
    Partitions,
    /// [`Fault::Cut`].
    Cuts,
    /// [`Fault::Crash`].
    Crashes,
    /// [`Fault::Kill`].
    Kills,
    /// [`Fault::Power`].
    Power,
    /// [`Fault::PowerAt`].
    PowerPoints,
    /// [`Fault::DiskError`] and [`Fault::SyncError`].
    DiskErrors,
    /// [`Fault::DiskFull`].
    FullDisks,
    /// [`Fault::SlowDisk`].
    SlowDisks,
    /// [`Fault::Pause`].
    Pauses,
    /// [`Fault::Clock`].
    Clocks,
    /// [`Fault::Vanish`].
    Vanish,
    /// [`Fault::Checkpoint`].
    Checkpoints,
    /// [`Fault::Wipe`].
    Wipes,
}

const KINDS: [(Kind, &str); 18] = [
    (Kind::Loss, "loss"),
    (Kind::Duplicates, "duplicates"),
    (Kind::Delays, "delays"),
    (Kind::SlowLinks, "slow-links"),
    (Kind::Partitions, "partitions"),
    (Kind::Cuts, "cuts"),
    (Kind::Crashes, "crashes"),
    (Kind::Kills, "kills"),
    (Kind::Power, "power"),
    (Kind::PowerPoints, "power-points"),
    (Kind::DiskErrors, "disk-errors"),
    (Kind::FullDisks, "full-disks"),
    (Kind::SlowDisks, "slow-disks"),
    (Kind::Pauses, "pauses"),
    (Kind::Clocks, "clocks"),
    (Kind::Vanish, "vanish"),
    (Kind::Checkpoints, "checkpoints"),
    (Kind::Wipes, "wipes"),
];

impl fmt::Display for Kind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let name = KINDS.iter().find(|(kind, _)| kind == self).map_or("?", |(_, name)| name);
        f.write_str(name)
    }
}

/// Which kinds of faults a run may have.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Profile {
    /// Each kind with even chances: every seed has a choice of its own. A run with all faults at
    /// once hides what a few of them do together (swarm testing: Groce et al., 2012).
    Swarm,
    /// These.
    Kinds(BTreeSet<Kind>),
}

impl Profile {
    /// What there is to write.
    pub const HELP: &str = "swarm (each seed draws its own), all, none, network, process, disk, or \
        any of loss, duplicates, delays, slow-links, partitions, cuts, crashes, kills, power, \
        power-points, disk-errors, full-disks, slow-disks, pauses, clocks, vanish, checkpoints, \
        wipes, with commas between";

    /// The kinds of a run.
    pub fn draw(&self, chance: &mut Chance) -> BTreeSet<Kind> {
        match self {
            Profile::Swarm => {
                KINDS.iter().map(|(kind, _)| *kind).filter(|_| chance.permille(500)).collect()
            }
            Profile::Kinds(kinds) => kinds.clone(),
        }
    }
}

impl fmt::Display for Profile {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Profile::Swarm => f.write_str("swarm"),
            Profile::Kinds(kinds) if kinds.is_empty() => f.write_str("none"),
            Profile::Kinds(kinds) => {
                for (i, kind) in kinds.iter().enumerate() {
                    write!(f, "{}{kind}", if i == 0 { "" } else { "," })?;
                }
                Ok(())
            }
        }
    }
}

impl FromStr for Profile {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let all = || KINDS.iter().map(|(kind, _)| *kind);
        let mut kinds = BTreeSet::new();
        for word in text.split(',') {
            match word {
                "swarm" if text == word => return Ok(Profile::Swarm),
                "none" if text == word => {}
                "all" => kinds.extend(all()),
                "network" => kinds.extend(all().filter(|kind| *kind <= Kind::Cuts)),
                "process" => kinds.extend([Kind::Crashes, Kind::Kills, Kind::Pauses, Kind::Clocks]),
                "disk" => {
                    let disks = Kind::Power..=Kind::SlowDisks;
                    kinds.extend(all().filter(|kind| disks.contains(kind)));
                    kinds.insert(Kind::Wipes);
                }
                _ => {
                    let known = KINDS.iter().find(|(_, name)| *name == word);
                    let kind = known.map(|(kind, _)| *kind).ok_or_else(|| {
                        format!("`{word}` is no kind of fault; there are {}", Profile::HELP)
                    })?;
                    kinds.insert(kind);
                }
            }
        }
        Ok(Profile::Kinds(kinds))
    }
}

/// Actors that a server has.
const ROLES: [Role; 12] = [
    Role::Acceptor,
    Role::Proposer,
    Role::Learner,
    Role::Raft,
    Role::Rsm,
    Role::KvServer,
    Role::Journal,
    Role::Files,
    Role::Courier,
    Role::Mover,
    Role::ShardMaster,
    Role::Steward,
];

/// A number that is mostly small, and now and then almost `most`.
fn skewed(chance: &mut Chance, most: u64) -> u64 {
    let bound = 1 + chance.below(most);
    chance.below(bound)
}

/// Draws a fault of a kind, for a cluster of these servers and so many clients.
pub(super) fn draw(chance: &mut Chance, kind: Kind, servers: &[NodeId], clients: usize) -> Fault {
    let ms = 20 + skewed(chance, 6000);
    let any = |chance: &mut Chance| servers[chance.below(servers.len() as u64) as usize];
    let pair = |chance: &mut Chance| {
        let from = chance.below(servers.len() as u64) as usize;
        let step = 1 + chance.below(servers.len().max(2) as u64 - 1) as usize;
        (servers[from], servers[(from + step) % servers.len()])
    };
    // Mostly one; now and then several, up to all.
    let several = |chance: &mut Chance| {
        let most = if chance.permille(700) { 1 } else { servers.len() as u64 };
        let count = 1 + chance.below(most) as usize;
        let mut nodes = servers.to_vec();
        for i in (1..nodes.len()).rev() {
            nodes.swap(i, chance.below(i as u64 + 1) as usize);
        }
        nodes.truncate(count);
        nodes
    };
    let node = any(chance);
    let down_ms = skewed(chance, 5000);
    match kind {
        Kind::Loss => Fault::Loss { permille: 1 + chance.below(400), ms },
        Kind::Duplicates => Fault::Duplicates { permille: 1 + chance.below(400), ms },
        Kind::Delays => Fault::Delays { up_to_ms: 1 + skewed(chance, 300), ms },
        Kind::SlowLinks => {
            let (from, to) = pair(chance);
            Fault::SlowLink { from, to, by_ms: 1 + skewed(chance, 2000), ms }
        }
        Kind::Partitions => {
            let mut sets = vec![vec![]; 2 + chance.below(2) as usize];
            for node in servers {
                let set = chance.below(sets.len() as u64) as usize;
                sets[set].push(*node);
            }
            Fault::Partition { sets, ms }
        }
        Kind::Cuts => {
            let (from, to) = pair(chance);
            Fault::Cut { from, to, both: chance.permille(400), ms }
        }
        Kind::Crashes => {
            let role = ROLES[chance.below(ROLES.len() as u64) as usize];
            let modes = [CrashMode::Now, CrashMode::BeforeNext, CrashMode::AfterNext];
            Fault::Crash { node, role, mode: modes[chance.below(3) as usize] }
        }
        Kind::Kills => Fault::Kill { nodes: several(chance), down_ms },
        Kind::Power => Fault::Power { nodes: several(chance), down_ms },
        Kind::PowerPoints => Fault::PowerAt { node, operations: skewed(chance, 200), down_ms },
        Kind::DiskErrors if chance.permille(500) => {
            Fault::DiskError { node, operations: skewed(chance, 200) }
        }
        Kind::DiskErrors => Fault::SyncError { node, syncs: skewed(chance, 50) },
        Kind::FullDisks => Fault::DiskFull { node, room: skewed(chance, 8192), ms },
        Kind::SlowDisks => Fault::SlowDisk { node, sync_ms: 1 + skewed(chance, 300), ms },
        Kind::Pauses => Fault::Pause { node, ms },
        Kind::Clocks => {
            // Half of them within a minute, half within a year.
            let most = if chance.permille(500) { 60_000 } else { 365 * 24 * 3_600_000 };
            Fault::Clock { node, by_ms: chance.below(2 * most) as i64 - most as i64 }
        }
        Kind::Vanish => Fault::Vanish { client: chance.below(clients.max(1) as u64) as usize },
        Kind::Checkpoints => Fault::Checkpoint { node },
        Kind::Wipes => Fault::Wipe { node, down_ms },
    }
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        struct Nodes<'a>(&'a [NodeId]);
        impl fmt::Display for Nodes<'_> {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                for (i, node) in self.0.iter().enumerate() {
                    write!(f, "{}{node}", if i == 0 { "" } else { "," })?;
                }
                Ok(())
            }
        }
        match self {
            Fault::Loss { permille, ms } => write!(f, "loss of {permille}‰ for {ms} ms"),
            Fault::Duplicates { permille, ms } => write!(f, "{permille}‰ twice for {ms} ms"),
            Fault::Delays { up_to_ms, ms } => write!(f, "delays to {up_to_ms} ms for {ms} ms"),
            Fault::SlowLink { from, to, by_ms, ms } => {
                write!(f, "{from}→{to} slower by {by_ms} ms for {ms} ms")
            }
            Fault::Partition { sets, ms } => {
                f.write_str("partition ")?;
                for (i, set) in sets.iter().enumerate() {
                    write!(f, "{}{}", if i == 0 { "" } else { " | " }, Nodes(set))?;
                }
                write!(f, " for {ms} ms")
            }
            Fault::Cut { from, to, both, ms } => {
                write!(f, "cut {from}{}{to} for {ms} ms", if *both { "↔" } else { "→" })
            }
            Fault::Crash { node, role, mode } => write!(f, "crash {node}'s {role} {mode:?}"),
            Fault::Kill { nodes, down_ms } => write!(f, "kill {} for {down_ms} ms", Nodes(nodes)),
            Fault::Power { nodes, down_ms } => {
                write!(f, "no power on {} for {down_ms} ms", Nodes(nodes))
            }
            Fault::Wipe { node, down_ms } => {
                write!(f, "wipe {node}'s disk, which is down for {down_ms} ms")
            }
            Fault::PowerAt { node, operations, down_ms } => write!(
                f,
                "no power on {node} after {operations} operations of its disk, for {down_ms} ms"
            ),
            Fault::DiskError { node, operations } => {
                write!(f, "an error of {node}'s disk after {operations} operations")
            }
            Fault::SyncError { node, syncs } => {
                write!(f, "a failed sync on {node} after {syncs} syncs")
            }
            Fault::DiskFull { node, room, ms } => {
                write!(f, "{room} bytes of room on {node}'s disk for {ms} ms")
            }
            Fault::SlowDisk { node, sync_ms, ms } => {
                write!(f, "syncs to {sync_ms} ms on {node} for {ms} ms")
            }
            Fault::Pause { node, ms } => write!(f, "pause {node} for {ms} ms"),
            Fault::Clock { node, by_ms } => write!(f, "clock of {node} by {by_ms} ms"),
            Fault::Vanish { client } => write!(f, "client {client} vanishes"),
            Fault::Checkpoint { node } => write!(f, "checkpoint of {node}"),
        }
    }
}
