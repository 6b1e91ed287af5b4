//! A node's configuration: a TOML file, every key of which is described here.

use std::{
    collections::BTreeSet,
    fmt, fs, io,
    net::SocketAddr,
    path::{Path, PathBuf},
    str::FromStr,
};

use quorate_shardmaster::SHARDS_MAX;
use serde::{Deserialize, Serialize};

/// The most that `log_bytes_max` may be: a pebibyte. What is more cannot be written in TOML, whose
/// numbers end at 2^63, and is a mistake.
const LOG_BYTES_MAX: u64 = 1 << 50;
/// The most that `group_threads` may be.
const THREADS_MAX: usize = 256;
/// The most groups that a cluster may have.
const GROUPS_MAX: usize = 1024;
/// The most that `clients_max` may be.
const CLIENTS_MAX: usize = 1_000_000;
/// The most that `request_deadline_ms` may be: a day.
const DEADLINE_MS_MAX: u64 = 24 * 60 * 60 * 1000;

/// Which protocol agrees on the log.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Engine {
    /// Multi-Paxos.
    #[default]
    Paxos,
    /// Raft.
    Raft,
}

impl Engine {
    /// All of them.
    pub const ALL: [Engine; 2] = [Engine::Paxos, Engine::Raft];
}

impl fmt::Display for Engine {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Engine::Paxos => "paxos",
            Engine::Raft => "raft",
        })
    }
}

impl FromStr for Engine {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        match text {
            "paxos" => Ok(Engine::Paxos),
            "raft" => Ok(Engine::Raft),
            _ => Err(format!("`{text}` is not an engine; there are paxos and raft")),
        }
    }
}

/// How reads are answered; linearizable either way.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Reads {
    /// After a barrier that many reads share: no entry in the log, no write to a disk.
    #[default]
    Barrier,
    /// Each through the log, as the labs describe it.
    Log,
}

/// What a client is told whose key another node leads.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Redirect {
    /// Nothing: the node forwards. Any node answers any key.
    #[default]
    Never,
    /// MOVED, and where to, as Redis Cluster does; several keys of one command must share a hash slot.
    Always,
}

/// A group of replicas that may serve shards.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct GroupSpec {
    /// Its number, from 1.
    pub group: u32,
    /// The nodes that it has a replica on.
    pub nodes: Vec<u32>,
}

/// How the store is divided.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Sharding {
    /// The number of shards: 1 to 16384, and the same for ever.
    pub shards: u16,
    /// The nodes that the shardmaster has a replica on.
    pub shardmaster: Vec<u32>,
    /// The groups.
    pub groups: Vec<GroupSpec>,
}

/// One node of the cluster, as the others see it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Peer {
    /// Its number, from 1.
    pub node: u32,
    /// `host:port` where other nodes reach it.
    pub peer: String,
    /// `host:port` where clients reach it by the Redis protocol.
    pub resp: String,
}

/// A node's configuration.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct NodeConfig {
    /// Which cluster: any text, the same on all its nodes. A node of another one is refused.
    pub cluster_id: String,
    /// This node's number, from 1; one of `nodes`.
    pub node: u32,
    /// Directory that holds everything the node must not forget. Of one node only.
    pub dir: PathBuf,
    /// True while the cluster is being formed: an empty `dir` may be made into this node's. When
    /// false, an empty `dir` means that the disk was lost, and the node refuses to start.
    #[serde(default)]
    pub initial: bool,
    /// Engine of the log.
    #[serde(default)]
    pub engine: Engine,
    /// Address to listen on for other nodes.
    pub listen_peer: SocketAddr,
    /// Address to listen on for clients (Redis protocol).
    pub listen_resp: SocketAddr,
    /// Address to listen on for the debug endpoints. Keep it on loopback: they have no login.
    pub listen_debug: SocketAddr,
    /// Whether POST to the debug endpoints may crash actors and cut links.
    #[serde(default)]
    pub faults: bool,
    /// Reads: "barrier" or "log".
    #[serde(default)]
    pub reads: Reads,
    /// Bytes of log after which a checkpoint is made and the log is cut.
    #[serde(default = "log_bytes_max")]
    pub log_bytes_max: u64,
    /// Client connections at one time.
    #[serde(default = "clients_max")]
    pub clients_max: usize,
    /// Milliseconds after which a command without outcome is answered -INDETERMINATE (a write) or
    /// -CLUSTERDOWN (a read).
    #[serde(default = "request_deadline_ms")]
    pub request_deadline_ms: u64,
    /// Threads that carry the groups, by turns; 0: that of the gateway and the links carries them too.
    #[serde(default)]
    pub group_threads: usize,
    /// Whether single messages between nodes may be lost, as in the labs and where faults are injected; over
    /// TCP only a connection is. What is not answered is then said again soon.
    #[serde(default)]
    pub lossy: bool,
    /// "never" or "always": whether clients are sent to the node that leads a key's group.
    #[serde(default)]
    pub redirect: Redirect,
    /// Every node of the cluster, this one included.
    pub nodes: Vec<Peer>,
    /// How the store is divided into shards. Without it one group, g1, on all nodes serves everything.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub sharding: Option<Sharding>,
}

fn log_bytes_max() -> u64 {
    64 * 1024 * 1024
}

fn clients_max() -> usize {
    10_000
}

fn request_deadline_ms() -> u64 {
    10_000
}

/// Why a configuration cannot be used.
#[derive(Debug)]
pub enum ConfigError {
    /// The file cannot be read.
    Unreadable(PathBuf, io::Error),
    /// It is not TOML, or has a key that is not known, or lacks one.
    Malformed(PathBuf, Box<toml::de::Error>),
    /// A value makes no sense; the text says which and what would.
    Invalid(String),
}

impl fmt::Display for ConfigError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            ConfigError::Unreadable(path, error) => {
                write!(f, "the configuration {} cannot be read: {error}", path.display())
            }
            ConfigError::Malformed(path, error) => {
                write!(f, "the configuration {} is not valid: {error}", path.display())
            }
            ConfigError::Invalid(text) => write!(f, "the configuration is not valid: {text}"),
        }
    }
}

impl std::error::Error for ConfigError {}

impl Sharding {
    /// Whether the values fit together, in a cluster of these nodes.
    fn check(&self, numbers: &BTreeSet<u32>) -> Result<(), ConfigError> {
        let invalid = |text: String| Err(ConfigError::Invalid(text));
        if !(1..=SHARDS_MAX).contains(&self.shards) {
            return invalid(format!("`shards` = {}; 1 to {SHARDS_MAX}", self.shards));
        }
        let mut groups = BTreeSet::new();
        for GroupSpec { group, nodes } in &self.groups {
            if *group == 0 || !groups.insert(*group) {
                return invalid(format!("group {group} twice, or 0; each has its own from 1 on"));
            }
            check_members(&format!("group {group}"), nodes, numbers)?;
        }
        if groups.is_empty() || groups.len() > GROUPS_MAX {
            let found = groups.len();
            return invalid(format!("{found} groups in `sharding`; 1 to {GROUPS_MAX}"));
        }
        check_members("the shardmaster", &self.shardmaster, numbers)
    }
}

/// Whether `who` may have its replicas on these nodes.
fn check_members(who: &str, nodes: &[u32], numbers: &BTreeSet<u32>) -> Result<(), ConfigError> {
    let once: BTreeSet<&u32> = nodes.iter().collect();
    if nodes.is_empty() || once.len() != nodes.len() {
        let text = format!("{who} must name at least one node, and each once");
        return Err(ConfigError::Invalid(text));
    }
    match nodes.iter().find(|node| !numbers.contains(node)) {
        Some(node) => {
            let text = format!("{who} names node {node}, which is not in `nodes`; add it");
            Err(ConfigError::Invalid(text))
        }
        None => Ok(()),
    }
}

impl NodeConfig {
    /// Reads and checks a configuration file.
    ///
    /// # Errors
    /// What is wrong, and where.
    pub fn read(path: &Path) -> Result<NodeConfig, ConfigError> {
        let text = fs::read_to_string(path)
            .map_err(|error| ConfigError::Unreadable(path.into(), error))?;
        let config: NodeConfig = toml::from_str(&text)
            .map_err(|error| ConfigError::Malformed(path.into(), Box::new(error)))?;
        config.check()?;
        Ok(config)
    }

    /// Whether the values fit together.
    ///
    /// # Errors
    /// The first that does not, and what would.
    pub fn check(&self) -> Result<(), ConfigError> {
        let invalid = |text: String| Err(ConfigError::Invalid(text));
        let numbers: BTreeSet<u32> = self.nodes.iter().map(|peer| peer.node).collect();
        if numbers.len() != self.nodes.len() {
            return invalid("two entries of `nodes` have one number; each node has its own".into());
        }
        if numbers.contains(&0) {
            return invalid("node 0 in `nodes`; numbers begin at 1".into());
        }
        if !numbers.contains(&self.node) {
            return invalid(format!("node {} is not in `nodes`; add it", self.node));
        }
        if self.cluster_id.is_empty() || self.cluster_id.len() > 128 {
            return invalid("`cluster_id` must have 1 to 128 bytes".into());
        }
        if self.log_bytes_max < 1024 {
            return invalid(format!("`log_bytes_max` = {}; at least 1024", self.log_bytes_max));
        }
        if self.log_bytes_max > LOG_BYTES_MAX {
            let text = format!("`log_bytes_max` = {}; at most {LOG_BYTES_MAX}", self.log_bytes_max);
            return invalid(text);
        }
        if self.clients_max == 0 || self.clients_max > CLIENTS_MAX {
            let text = format!("`clients_max` = {}; 1 to {CLIENTS_MAX}", self.clients_max);
            return invalid(text);
        }
        if self.request_deadline_ms == 0 || self.request_deadline_ms > DEADLINE_MS_MAX {
            let found = self.request_deadline_ms;
            let text = format!("`request_deadline_ms` = {found}; 1 to {DEADLINE_MS_MAX} (a day)");
            return invalid(text);
        }
        if self.group_threads > THREADS_MAX {
            let text = format!("`group_threads` = {}; at most {THREADS_MAX}", self.group_threads);
            return invalid(text);
        }
        self.sharding.as_ref().map_or(Ok(()), |sharding| sharding.check(&numbers))
    }

    /// Which cluster, as its nodes and directories know it: the engine is a part of it, since no
    /// engine understands what another one says or has written. Paxos came first and is not named.
    pub fn cluster(&self) -> String {
        match self.engine {
            Engine::Paxos => self.cluster_id.clone(),
            engine => format!("{} on {engine}", self.cluster_id),
        }
    }

    /// The configuration as a file that [`NodeConfig::read`] understands.
    ///
    /// # Errors
    /// Never for a configuration that passes [`NodeConfig::check`] and whose paths are UTF-8.
    pub fn to_toml(&self) -> Result<String, ConfigError> {
        toml::to_string(self).map_err(|error| ConfigError::Invalid(error.to_string()))
    }
}
