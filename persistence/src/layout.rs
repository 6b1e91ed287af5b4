//! The data directory of a node: whose it is, and what lies where.
//!
//! ```text
//! <dir>/lock                     held by the one process that uses the directory
//! <dir>/identity                 cluster, node, incarnation: written once, first of all
//! <dir>/peers                    which incarnations of the other nodes are heard
//! <dir>/groups/g<N>/member       who this directory is in group N, if that has taken it in later
//! <dir>/groups/g<N>/journal/     the journal of group N
//! <dir>/groups/g<N>/checkpoint/  its checkpoints, each an atomic file named after an index:
//!     checkpoint-<index>         complete; the newest one counts
//!     incoming-<index>           on its way from another node, not complete
//! ```
//! A directory without an identity is blank. Whether a blank node may simply begin depends on
//! whether its cluster was formed already, which only the caller knows: a node that lost its
//! disk has forgotten promises that it gave. Its new directory is no founder's, and it is nobody
//! until its groups take it in.

use std::fmt;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use serde::{Deserialize, Serialize};

use crate::disk::{DirLock, Disk, DiskError, Kind, TEMP_PREFIX, remove_leftovers};
use crate::files::{FileError, read_atomic, write_atomic};
use crate::real::LOCK_FILE;

/// The format of the identity that this version writes, and the newest that it reads. It reads 1 too, of
/// which every directory was a founder's.
pub const IDENTITY_FORMAT: u32 = 2;

const IDENTITY_FILE: &str = "identity";

/// Whose a data directory is. It never changes once it is written.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Identity {
    /// Format of this record, [`IDENTITY_FORMAT`].
    pub format: u32,
    /// The cluster.
    pub cluster_id: String,
    /// The node's number in the cluster.
    pub node: u32,
    /// Which life of the node's disk this is.
    pub incarnation: u64,
    /// Whether the directory was made when the cluster was formed.
    #[serde(default = "yes")]
    pub founder: bool,
}

/// Of directories that say nothing: there were no others when they were made.
fn yes() -> bool {
    true
}

/// Who wants to use a directory.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Expected {
    /// The cluster that the directory must belong to.
    pub cluster_id: String,
    /// The node that the directory must belong to.
    pub node: u32,
    /// Drawn by the caller for the case that the directory is made now; not used otherwise.
    pub incarnation: u64,
    /// Whether the cluster is being formed: then a blank directory becomes a founder's.
    pub initial: bool,
}

/// A data directory that this process holds until it is dropped.
#[derive(Debug)]
pub struct DataDir {
    path: PathBuf,
    identity: Identity,
    created: bool,
    _lock: DirLock,
}

impl DataDir {
    /// Opens the data directory `path`, or makes it, and takes it for this process. Removes
    /// what interrupted writes have left behind.
    ///
    /// # Errors
    /// Each variant of [`LayoutError`] says what to do next.
    pub fn open(
        disk: &Arc<dyn Disk>,
        path: &Path,
        expected: &Expected,
    ) -> Result<DataDir, LayoutError> {
        let disk = disk.as_ref();
        let refused = |error| LayoutError::of(path, error);
        match disk.kind(path).map_err(refused)? {
            Some(Kind::File) => return Err(LayoutError::NotADirectory { path: path.into() }),
            Some(Kind::Dir) | None => disk.create_dir_all(path).map_err(refused)?,
        }
        let lock = disk.lock(path).map_err(refused)?;
        sweep(disk, path).map_err(refused)?;
        let file = path.join(IDENTITY_FILE);
        let unusable = |error| LayoutError::of_file(path, error);
        let (identity, created) = match read_atomic(disk, &file).map_err(unusable)? {
            Some(bytes) => (decode(&file, &bytes).map_err(LayoutError::File)?, false),
            None => (create(disk, path, &file, expected)?, true),
        };
        refuse_old_checkpoints(disk, path)?;
        let path = path.to_path_buf();
        if identity.cluster_id != expected.cluster_id {
            let (found, expected) = (identity.cluster_id, expected.cluster_id.clone());
            return Err(LayoutError::OtherCluster { path, found, expected });
        }
        if identity.node != expected.node {
            let (found, expected) = (identity.node, expected.node);
            return Err(LayoutError::OtherNode { path, found, expected });
        }
        Ok(DataDir { path, identity, created, _lock: lock })
    }

    /// Whose the directory is.
    pub fn identity(&self) -> &Identity {
        &self.identity
    }

    /// Whether the directory was made by this `open`.
    pub fn is_new(&self) -> bool {
        self.created
    }

    /// The directory itself.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// The directory of everything that belongs to `group`.
    pub fn group(&self, group: u32) -> PathBuf {
        self.path.join("groups").join(format!("g{group}"))
    }

    /// The atomic file that says which member of `group` the directory holds, if it is no founder's.
    pub fn member(&self, group: u32) -> PathBuf {
        self.group(group).join("member")
    }

    /// The directory of the journal of `group`.
    pub fn journal(&self, group: u32) -> PathBuf {
        DataDir::journal_in(&self.path, group)
    }

    /// The same, of the directory at a path.
    pub fn journal_in(path: &Path, group: u32) -> PathBuf {
        path.join("groups").join(format!("g{group}")).join("journal")
    }

    /// The directory of the checkpoints of `group`.
    pub fn checkpoint(&self, group: u32) -> PathBuf {
        self.group(group).join("checkpoint")
    }

    /// The atomic file of the pins, see [`read_pins`](crate::read_pins).
    pub fn peers(&self) -> PathBuf {
        self.path.join("peers")
    }
}

/// What the name of a checkpoint's file says.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Numbered {
    /// A complete checkpoint, of this index.
    Checkpoint(u64),
    /// One that is on its way from another node.
    Incoming(u64),
}

impl Numbered {
    /// The file's path in the directory of checkpoints.
    pub fn path(self, dir: &Path) -> PathBuf {
        dir.join(match self {
            Numbered::Checkpoint(index) => format!("checkpoint-{index}"),
            Numbered::Incoming(index) => format!("incoming-{index}"),
        })
    }

    /// What a name stands for; `None` for a name that is no such file's.
    pub fn of(name: &str) -> Option<Numbered> {
        let (kind, digits) = name.split_once('-')?;
        let index: u64 = digits.parse().ok()?;
        let found = match kind {
            "checkpoint" => Numbered::Checkpoint(index),
            "incoming" => Numbered::Incoming(index),
            _ => return None,
        };
        // Neither `checkpoint-007` nor `checkpoint-+7`.
        (digits == index.to_string()).then_some(found)
    }
}

/// Where there is a directory of checkpoints now, there was one file before.
fn refuse_old_checkpoints(disk: &dyn Disk, path: &Path) -> Result<(), LayoutError> {
    let refused = |error| LayoutError::of(path, error);
    let groups = path.join("groups");
    let names = match disk.list(&groups) {
        Err(error) if error.is_not_found() => Vec::new(),
        names => names.map_err(refused)?,
    };
    for path in names.iter().map(|name| groups.join(name).join("checkpoint")) {
        if disk.kind(&path).map_err(refused)? == Some(Kind::File) {
            return Err(LayoutError::OldCheckpoint { path });
        }
    }
    Ok(())
}

/// Removes left-over temporary files wherever this crate makes some.
fn sweep(disk: &dyn Disk, path: &Path) -> Result<(), DiskError> {
    let groups = path.join("groups");
    let names = match disk.list(&groups) {
        Err(error) if error.is_not_found() => Vec::new(),
        names => names?,
    };
    let mut removed = remove_leftovers(disk, path)? + remove_leftovers(disk, &groups)?;
    for group in names.iter().map(|name| groups.join(name)) {
        for dir in [group.clone(), group.join("journal"), group.join("checkpoint")] {
            if disk.kind(&dir)? == Some(Kind::Dir) {
                removed += remove_leftovers(disk, &dir)?;
            }
        }
    }
    if removed > 0 {
        tracing::info!(dir = %path.display(), removed, "removed left-over temporary files");
    }
    Ok(())
}

/// Makes a blank directory this node's.
fn create(
    disk: &dyn Disk,
    path: &Path,
    file: &Path,
    expected: &Expected,
) -> Result<Identity, LayoutError> {
    let ours =
        |name: &String| name == LOCK_FILE || name == "lost+found" || name.starts_with(TEMP_PREFIX);
    let names = disk.list(path).map_err(|error| LayoutError::of(path, error))?;
    if let Some(found) = names.into_iter().find(|name| !ours(name)) {
        return Err(LayoutError::NoIdentity { path: path.into(), found });
    }
    let identity = Identity {
        format: IDENTITY_FORMAT,
        cluster_id: expected.cluster_id.clone(),
        node: expected.node,
        incarnation: expected.incarnation,
        founder: expected.initial,
    };
    let bytes = rmp_serde::to_vec_named(&identity).expect("numbers and a string can be encoded");
    write_atomic(disk, file, &bytes).map_err(|error| LayoutError::of_file(path, error))?;
    Ok(identity)
}

fn decode(file: &Path, bytes: &[u8]) -> Result<Identity, FileError> {
    /// What every format of the identity begins with.
    #[derive(Deserialize)]
    struct Format {
        format: u32,
    }
    let unreadable = |_| FileError::Corrupt {
        file: file.to_path_buf(),
        offset: 0,
        what: "no identity can be read from it",
    };
    let Format { format } = rmp_serde::from_slice(bytes).map_err(unreadable)?;
    if format > IDENTITY_FORMAT {
        let (file, known) = (file.to_path_buf(), IDENTITY_FORMAT);
        return Err(FileError::NewerFormat { file, found: format, known });
    }
    rmp_serde::from_slice(bytes).map_err(unreadable)
}

/// Why a data directory cannot be used. The words say what to do next.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum LayoutError {
    /// Another process holds the directory.
    InUse {
        /// The directory.
        path: PathBuf,
    },
    /// The directory, or the file system, cannot be written.
    NotWritable {
        /// The directory.
        path: PathBuf,
        /// The words of the operating system.
        text: String,
    },
    /// The path is a file.
    NotADirectory {
        /// The path.
        path: PathBuf,
    },
    /// The directory belongs to a node of another cluster.
    OtherCluster {
        /// The directory.
        path: PathBuf,
        /// The cluster it belongs to.
        found: String,
        /// The cluster of this node.
        expected: String,
    },
    /// The directory belongs to another node.
    OtherNode {
        /// The directory.
        path: PathBuf,
        /// The node it belongs to.
        found: u32,
        /// This node.
        expected: u32,
    },
    /// The directory is not empty, but nothing says whose it is.
    NoIdentity {
        /// The directory.
        path: PathBuf,
        /// The first thing found in it.
        found: String,
    },
    /// A checkpoint lies where an earlier version kept it, in a format that is not read any more.
    OldCheckpoint {
        /// The file.
        path: PathBuf,
    },
    /// The identity cannot be read or written.
    File(FileError),
}

impl LayoutError {
    fn of(path: &Path, error: DiskError) -> LayoutError {
        use io::ErrorKind::{NotADirectory, PermissionDenied, ReadOnlyFilesystem};
        let path = path.to_path_buf();
        match &error {
            DiskError::InUse { .. } => LayoutError::InUse { path },
            DiskError::Failed { kind: PermissionDenied | ReadOnlyFilesystem, text, .. } => {
                LayoutError::NotWritable { path, text: text.clone() }
            }
            DiskError::Failed { kind: NotADirectory, .. } => LayoutError::NotADirectory { path },
            _ => LayoutError::File(FileError::Disk(error)),
        }
    }

    fn of_file(path: &Path, error: FileError) -> LayoutError {
        match error {
            FileError::Disk(error) => LayoutError::of(path, error),
            error => LayoutError::File(error),
        }
    }
}

impl fmt::Display for LayoutError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            LayoutError::InUse { path } => write!(
                f,
                "the data directory {} is in use by another process: stop that one, or give \
                 this node a directory of its own",
                path.display()
            ),
            LayoutError::NotWritable { path, text } => write!(
                f,
                "the data directory {} cannot be written ({text}): make it writable for the \
                 user that runs the node, or choose another one",
                path.display()
            ),
            LayoutError::NotADirectory { path } => write!(
                f,
                "the data directory {} is, or lies below, a file: choose another path",
                path.display()
            ),
            LayoutError::OtherCluster { path, found, expected } => write!(
                f,
                "the data directory {} belongs to cluster {found}, this node to {expected}: \
                 choose the directory of this cluster, or an empty one",
                path.display()
            ),
            LayoutError::OtherNode { path, found, expected } => write!(
                f,
                "the data directory {} belongs to node {found}, this is node {expected}: \
                 choose the directory of this node, or start as node {found}",
                path.display()
            ),
            LayoutError::NoIdentity { path, found } => write!(
                f,
                "the directory {} holds {found:?} but no identity: choose an empty directory, \
                 or, if it is a data directory, set it aside and let the node join anew",
                path.display()
            ),
            LayoutError::OldCheckpoint { path } => write!(
                f,
                "{} is a checkpoint of format 2 or older, and this version reads format 3: start \
                 the version that wrote it, or set the data directory aside",
                path.display()
            ),
            LayoutError::File(error) => error.fmt(f),
        }
    }
}

impl std::error::Error for LayoutError {}
