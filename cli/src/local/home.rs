//! The directory of a local cluster, and the configurations in it.
//!
//! ```text
//!   DIR/local.json      which cluster this is, and whether it was formed
//!   DIR/lock            held while `quorate local` runs
//!   DIR/n1/node.toml    written anew at each start: addresses may change, the identity does not
//!   DIR/n1/data         what node 1 must not forget
//! ```

use std::fs::{self, File, TryLockError};
use std::io::{self, Write};
use std::path::{Path, PathBuf};

use quorate_node::config::{Engine, GroupSpec, NodeConfig, Peer, Redirect, Sharding};
use rand::TryRngCore;
use rand::rngs::OsRng;
use serde::{Deserialize, Serialize};
use serde_json::json;
use tempfile::{NamedTempFile, TempDir};

use super::ports::{Ports, on_loopback};

const IDENTITY: &str = "local.json";
const LOCK: &str = "lock";

/// What `DIR/local.json` holds.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Identity {
    /// The nodes' `cluster_id`.
    cluster_id: String,
    /// How many nodes there are.
    nodes: u16,
    /// What agrees on the log.
    engine: Engine,
    /// Whether every node has had its directory once. From then on an empty one is a lost disk.
    formed: bool,
    /// How the store is divided, if it is.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    divided: Option<Divided>,
}

/// How a local cluster's store is divided.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Divided {
    /// Groups of replicas.
    pub(crate) groups: u16,
    /// Shards.
    pub(crate) shards: u16,
}

/// Shards of a divided store, if nothing is said: each is small enough to change hands in a blink.
const SHARDS: u16 = 1024;
/// Replicas of a group, if there are as many nodes.
const REPLICAS: u16 = 3;

/// What was asked for.
#[derive(Clone, Debug, Default)]
pub(crate) struct Wish {
    /// Where; a fresh temporary directory otherwise.
    pub(crate) dir: Option<PathBuf>,
    /// How many nodes; those that are there already, otherwise 3.
    pub(crate) nodes: Option<u16>,
    /// What agrees on the log; what is there already, otherwise Paxos.
    pub(crate) engine: Option<Engine>,
    /// How many groups, and shards; as it is there already, otherwise the store is not divided.
    pub(crate) groups: Option<u16>,
    pub(crate) shards: Option<u16>,
}

/// A local cluster's directory, held by this process.
pub(crate) struct Home {
    path: PathBuf,
    identity: Identity,
    is_new: bool,
    /// Removes a temporary directory when it is dropped.
    temporary: Option<TempDir>,
    _lock: File,
}

/// What all nodes of a cluster have in common, besides their identity.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Common {
    pub(crate) faults: bool,
    pub(crate) log_bytes_max: Option<u64>,
    pub(crate) redirect: Redirect,
    pub(crate) group_threads: usize,
}

impl Home {
    /// Opens the directory, or makes it, and holds it until it is dropped.
    ///
    /// # Errors
    /// Why not, and what to do; everything is as it was.
    pub(crate) fn open(wish: Wish) -> Result<Home, String> {
        let (path, temporary) = match wish.dir.clone() {
            Some(dir) => {
                let made = fs::create_dir_all(&dir).and_then(|()| dir.canonicalize());
                (made.map_err(|error| refused(&dir, &error))?, None)
            }
            None => {
                let made = tempfile::Builder::new().prefix("quorate-").tempdir();
                let dir = made.map_err(|error| refused(&std::env::temp_dir(), &error))?;
                (dir.path().to_path_buf(), Some(dir))
            }
        };
        if path.to_str().is_none() {
            return Err(format!("{} is not UTF-8; choose another --dir", path.display()));
        }
        must_be_ours(&path)?;
        let lock = lock(&path)?;
        let found = read(&path)?;
        let is_new = found.is_none();
        let identity = match found {
            Some(identity) => fits(&path, identity, &wish)?,
            None => Identity {
                cluster_id: cluster_id()?,
                nodes: wish.nodes.unwrap_or(3),
                engine: wish.engine.unwrap_or_default(),
                formed: false,
                divided: divided(&wish),
            },
        };
        let home = Home { path, identity, is_new, temporary, _lock: lock };
        if is_new {
            home.save()?;
        }
        Ok(home)
    }

    /// Where.
    pub(crate) fn path(&self) -> &Path {
        &self.path
    }

    /// How many nodes.
    pub(crate) fn nodes(&self) -> u16 {
        self.identity.nodes
    }

    /// What agrees on the log.
    pub(crate) fn engine(&self) -> Engine {
        self.identity.engine
    }

    /// How the store is divided, if it is.
    pub(crate) fn divided(&self) -> Option<Divided> {
        self.identity.divided
    }

    /// Whether it was made by this `open`.
    pub(crate) fn is_new(&self) -> bool {
        self.is_new
    }

    /// Whether it goes when it is closed.
    pub(crate) fn is_temporary(&self) -> bool {
        self.temporary.is_some()
    }

    /// Makes a temporary directory stay.
    pub(crate) fn keep(&mut self) {
        if let Some(dir) = self.temporary.take() {
            let _ = dir.keep();
        }
    }

    /// The directory of a node.
    pub(crate) fn node_dir(&self, node: u16) -> PathBuf {
        self.path.join(format!("n{node}"))
    }

    /// The configuration of a node.
    pub(crate) fn node_config(&self, node: u16) -> PathBuf {
        self.node_dir(node).join("node.toml")
    }

    /// Writes every node's configuration, with these addresses.
    ///
    /// # Errors
    /// Which cannot be written, and why.
    pub(crate) fn configure(&self, ports: &[Ports], common: Common) -> Result<(), String> {
        let nodes: Vec<Peer> = ports
            .iter()
            .zip(1..)
            .map(|(ports, node)| Peer {
                node,
                peer: on_loopback(ports.peer).to_string(),
                resp: on_loopback(ports.resp).to_string(),
            })
            .collect();
        for (ports, node) in ports.iter().zip(1..) {
            // By way of JSON, so that what is not said here has the defaults of the file.
            let mut config = json!({
                "cluster_id": self.identity.cluster_id,
                "node": node,
                "dir": self.node_dir(node).join("data"),
                "initial": !self.identity.formed,
                "engine": self.identity.engine,
                "listen_peer": on_loopback(ports.peer),
                "listen_resp": on_loopback(ports.resp),
                "listen_debug": on_loopback(ports.debug),
                "faults": common.faults,
                "nodes": nodes,
                "redirect": common.redirect,
                "group_threads": common.group_threads,
                "sharding": self.sharding(),
            });
            if let Some(bytes) = common.log_bytes_max {
                config["log_bytes_max"] = json!(bytes);
            }
            let config: NodeConfig =
                serde_json::from_value(config).map_err(|error| error.to_string())?;
            config.check().map_err(|error| error.to_string())?;
            let text = config.to_toml().map_err(|error| error.to_string())?;
            let dir = self.node_dir(node);
            fs::create_dir_all(&dir).map_err(|error| refused(&dir, &error))?;
            write(&self.node_config(node), text.as_bytes())?;
        }
        Ok(())
    }

    /// Groups and the shardmaster by turns on the nodes, so that each node has as many replicas.
    fn sharding(&self) -> Option<Sharding> {
        let Divided { groups, shards } = self.identity.divided?;
        let nodes = self.identity.nodes;
        let place = |turn: u16| {
            let replicas = 0..nodes.min(REPLICAS);
            replicas.map(|replica| u32::from((turn + replica) % nodes) + 1).collect()
        };
        let group = |number: u16| GroupSpec { group: number.into(), nodes: place(number - 1) };
        let groups = (1..=groups).map(group).collect();
        Some(Sharding { shards, shardmaster: place(0), groups })
    }

    /// Every node has its directory now: an empty one is a lost disk from here on. Answers
    /// whether that is news; the configurations must be written anew then.
    ///
    /// # Errors
    /// The directory cannot be written.
    pub(crate) fn set_formed(&mut self) -> Result<bool, String> {
        if self.identity.formed {
            return Ok(false);
        }
        self.identity.formed = true;
        self.save().map(|()| true)
    }

    fn save(&self) -> Result<(), String> {
        let text = serde_json::to_string_pretty(&self.identity).map_err(|e| e.to_string())?;
        write(&self.path.join(IDENTITY), format!("{text}\n").as_bytes())
    }
}

/// Whether the directory is empty or a local cluster's.
fn must_be_ours(path: &Path) -> Result<(), String> {
    if path.join(IDENTITY).exists() {
        return Ok(());
    }
    let entries = fs::read_dir(path).map_err(|error| refused(path, &error))?;
    let stranger = entries.flatten().find(|entry| entry.file_name() != LOCK);
    stranger.map_or(Ok(()), |entry| {
        Err(format!(
            "{} holds {}, but no local cluster: choose another --dir",
            path.display(),
            entry.file_name().display()
        ))
    })
}

fn refused(path: &Path, error: &io::Error) -> String {
    format!("{} cannot be used: {error}; choose another --dir", path.display())
}

/// What the directory says it is, if it says anything.
fn read(path: &Path) -> Result<Option<Identity>, String> {
    let file = path.join(IDENTITY);
    match fs::read(&file) {
        Ok(bytes) => serde_json::from_slice(&bytes).map(Some).map_err(|error| {
            format!("{} cannot be understood: {error}; choose another --dir", file.display())
        }),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(refused(&file, &error)),
    }
}

fn lock(path: &Path) -> Result<File, String> {
    let file = File::create(path.join(LOCK)).map_err(|error| refused(path, &error))?;
    match file.try_lock() {
        Ok(()) => Ok(file),
        Err(TryLockError::WouldBlock) => Err(format!(
            "another `quorate local` runs in {}: stop it, or choose another --dir",
            path.display()
        )),
        Err(TryLockError::Error(error)) => Err(refused(path, &error)),
    }
}

/// Whether what is there is what was asked for.
fn fits(path: &Path, found: Identity, wish: &Wish) -> Result<Identity, String> {
    let path = path.display();
    if let Some(nodes) = wish.nodes.filter(|&nodes| nodes != found.nodes) {
        let found = found.nodes;
        return Err(format!(
            "{path} holds a cluster of {found} nodes, not {nodes}: leave --nodes away, or choose \
             another --dir"
        ));
    }
    if let Some(engine) = wish.engine.filter(|&engine| engine != found.engine) {
        let found = found.engine;
        return Err(format!(
            "{path} holds a cluster on {found}, not {engine}: leave --engine away, or choose \
             another --dir"
        ));
    }
    let differs = divided(wish).is_some_and(|wanted| {
        let (groups, shards) = found.divided.map_or((0, 0), |found| (found.groups, found.shards));
        wanted.groups != groups || wish.shards.is_some_and(|wanted| wanted != shards)
    });
    if differs {
        let is = match found.divided {
            Some(found) => format!("{} shards and {} groups", found.shards, found.groups),
            None => "no shards".into(),
        };
        return Err(format!(
            "{path} holds a cluster with {is}: leave --groups and --shards away, or choose another \
             --dir"
        ));
    }
    Ok(found)
}

/// How the store is to be divided, if anything is said of it.
fn divided(wish: &Wish) -> Option<Divided> {
    let Wish { groups, shards, .. } = *wish;
    (groups.is_some() || shards.is_some())
        .then(|| Divided { groups: groups.unwrap_or(1), shards: shards.unwrap_or(SHARDS) })
}

fn cluster_id() -> Result<String, String> {
    let number = OsRng.try_next_u64();
    let number = number.map_err(|error| format!("no randomness from the system: {error}"))?;
    Ok(format!("local-{number:016x}"))
}

/// Writes a file whole or not at all.
fn write(path: &Path, bytes: &[u8]) -> Result<(), String> {
    let written = || -> io::Result<()> {
        let mut file = NamedTempFile::new_in(path.parent().unwrap_or(Path::new(".")))?;
        file.write_all(bytes)?;
        file.as_file().sync_all()?;
        file.persist(path)?;
        Ok(())
    };
    written().map_err(|error| refused(path, &error))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn wish(dir: &Path) -> Wish {
        Wish { dir: Some(dir.to_path_buf()), ..Wish::default() }
    }

    fn ports() -> Vec<Ports> {
        (1..=3).map(|i| Ports { resp: 7000 + i, debug: 7100 + i, peer: 7200 + i }).collect()
    }

    #[test]
    fn what_is_there_is_resumed_with_new_addresses() {
        let dir = tempfile::tempdir().unwrap();
        let common = Common {
            faults: true,
            log_bytes_max: Some(4096),
            redirect: Redirect::Never,
            group_threads: 0,
        };
        let mut home = Home::open(wish(dir.path())).unwrap();
        assert!(home.is_new() && !home.is_temporary());
        home.configure(&ports(), common).unwrap();
        let first = NodeConfig::read(&home.node_config(2)).unwrap();
        assert!(first.initial && first.faults);
        assert_eq!((first.log_bytes_max, first.nodes.len()), (4096, 3));
        assert_eq!(first.listen_resp, on_loopback(7002));
        assert!(home.set_formed().unwrap());
        assert!(!home.set_formed().unwrap());
        drop(home);

        let home = Home::open(wish(dir.path())).unwrap();
        assert!(!home.is_new());
        let mut moved = ports();
        moved[1].resp = 9999;
        home.configure(&moved, Common { faults: false, log_bytes_max: None, ..common }).unwrap();
        let second = NodeConfig::read(&home.node_config(2)).unwrap();
        assert!(!second.initial && !second.faults);
        assert_eq!(second.cluster_id, first.cluster_id);
        assert_eq!(second.listen_resp, on_loopback(9999));
        assert_eq!(second.dir, first.dir);
    }

    #[test]
    fn a_directory_is_held_by_one() {
        let dir = tempfile::tempdir().unwrap();
        let home = Home::open(wish(dir.path())).unwrap();
        let error = Home::open(wish(dir.path())).err().unwrap();
        assert!(error.contains("another `quorate local` runs"), "{error}");
        drop(home);
        assert!(Home::open(wish(dir.path())).is_ok());
    }

    #[test]
    fn a_cluster_keeps_its_size() {
        let dir = tempfile::tempdir().unwrap();
        drop(Home::open(Wish { nodes: Some(5), ..wish(dir.path()) }).unwrap());
        assert_eq!(Home::open(wish(dir.path())).unwrap().nodes(), 5);
        let error = Home::open(Wish { nodes: Some(3), ..wish(dir.path()) }).err().unwrap();
        assert!(error.contains("holds a cluster of 5 nodes"), "{error}");
    }

    #[test]
    fn a_cluster_keeps_its_groups_and_they_are_spread_over_the_nodes() {
        let dir = tempfile::tempdir().unwrap();
        let divided = Wish { nodes: Some(5), groups: Some(4), ..wish(dir.path()) };
        let sharding = Home::open(divided.clone()).unwrap().sharding().unwrap();
        let nodes: Vec<&[u32]> = sharding.groups.iter().map(|group| &group.nodes[..]).collect();
        assert_eq!(nodes, [[1, 2, 3], [2, 3, 4], [3, 4, 5], [4, 5, 1]]);
        assert_eq!((sharding.shards, &sharding.shardmaster[..]), (SHARDS, &[1, 2, 3][..]));
        drop(Home::open(wish(dir.path())).unwrap());
        drop(Home::open(divided).unwrap());
        for wrong in [(Some(3), None), (Some(4), Some(7)), (None, Some(SHARDS))] {
            let (groups, shards) = wrong;
            let error = Home::open(Wish { groups, shards, ..wish(dir.path()) }).err().unwrap();
            assert!(error.contains("1024 shards and 4 groups"), "{error}");
        }
    }

    #[test]
    fn a_directory_of_something_else_is_left_alone() {
        let dir = tempfile::tempdir().unwrap();
        fs::write(dir.path().join("thesis.tex"), "x").unwrap();
        let error = Home::open(wish(dir.path())).err().unwrap();
        assert!(error.contains("thesis.tex"), "{error}");
        assert!(!dir.path().join("lock").exists());
    }

    #[test]
    fn a_temporary_directory_goes_unless_it_is_kept() {
        let home = Home::open(Wish::default()).unwrap();
        let path = home.path().to_path_buf();
        assert!(home.is_temporary() && path.exists());
        drop(home);
        assert!(!path.exists());
        let mut home = Home::open(Wish::default()).unwrap();
        let path = home.path().to_path_buf();
        home.keep();
        drop(home);
        assert!(path.exists());
        fs::remove_dir_all(path).unwrap();
    }
}
