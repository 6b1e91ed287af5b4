//! The only door to files: a trait for disks, and what can go wrong with one.
//!
//! Everything in this crate reaches files through [`Disk`], so that the same code runs on
//! [`RealDisk`](crate::RealDisk) and on [`SimDisk`](crate::SimDisk), which loses, tears, fails,
//! fills up and flips bits.
//!
//! # What a disk promises
//! D1. Bytes written are durable once `sync_data` of their file has returned `Ok`, not before.
//! D2. A created, renamed or removed name is durable once `sync_dir` of its directory has
//!     returned `Ok`. Until then a crash may keep the old or the new entry, never a mixture.
//! D3. A sector of 512 bytes is written whole or not at all. What was never written reads as
//!     zeros (inside the file) or is not there (beyond its end).
//! D4. After a failed sync nothing is known about the bytes it covered; a later `Ok` does not
//!     cover them. Whoever sees a failed sync stops using the file.
//! D5. After a failed `sync_dir` a crash may keep the old or the new entries that it covered, and the
//!     file system takes no further change, of names or of bytes, until it is mounted anew: so it is
//!     with those that keep a journal of their metadata (ext4 aborts it, XFS shuts down, btrfs turns
//!     read-only). Out of reach is one that forgets a name and goes on as if nothing had happened.

use std::fmt;
use std::io;
use std::path::{Path, PathBuf};
use std::time::Duration;

/// Bytes that a disk writes whole or not at all (D3).
pub const SECTOR_BYTES: u64 = 512;

/// How the names of temporary files begin. Nothing that lasts may be named so.
pub const TEMP_PREFIX: &str = ".tmp-";

/// A disk: directories, names and whole-file reads. Paths are absolute or relative to the
/// process; every error names the path it is about.
pub trait Disk: Send + Sync + 'static {
    /// Makes `dir` and whatever is missing above it; durable when it returns.
    fn create_dir_all(&self, dir: &Path) -> Result<(), DiskError>;

    /// The names in `dir`, files and directories, sorted by bytes, without `.` and `..`.
    fn list(&self, dir: &Path) -> Result<Vec<String>, DiskError>;

    /// What `path` is, `None` when nothing has that name.
    fn kind(&self, path: &Path) -> Result<Option<Kind>, DiskError>;

    /// Whether anything has the name `path`.
    fn exists(&self, path: &Path) -> Result<bool, DiskError> {
        Ok(self.kind(path)?.is_some())
    }

    /// The whole content of the file `path`.
    fn read(&self, path: &Path) -> Result<Vec<u8>, DiskError>;

    /// At most `bytes_max` bytes of the file `path` from `offset` on; fewer only at its end.
    fn read_at(&self, path: &Path, offset: u64, bytes_max: usize) -> Result<Vec<u8>, DiskError>;

    /// A new empty file in `dir` whose name begins with [`TEMP_PREFIX`]. It is removed again,
    /// if that is possible, when it is dropped without [`DiskFile::persist`].
    fn create_temp(&self, dir: &Path) -> Result<Box<dyn DiskFile>, DiskError>;

    /// The file `path`, which must exist, opened for writing and truncating.
    fn open_existing(&self, path: &Path) -> Result<Box<dyn DiskFile>, DiskError>;

    /// Gives the file `from` the name `to` in the same directory, replacing what had that name;
    /// durable after `sync_dir`. The content must have been synced before.
    fn rename(&self, from: &Path, to: &Path) -> Result<(), DiskError>;

    /// Removes the name of the file `path`; durable after `sync_dir`.
    fn remove(&self, path: &Path) -> Result<(), DiskError>;

    /// Makes every change of names in `dir` durable (D2).
    fn sync_dir(&self, dir: &Path) -> Result<(), DiskError>;

    /// Bytes that this process may still store on the device that holds `dir`.
    fn available_bytes(&self, dir: &Path) -> Result<u64, DiskError>;

    /// Takes `dir` for this process until the guard is dropped or the process ends.
    ///
    /// # Errors
    /// [`DiskError::InUse`] when it is taken already, also by this very process.
    fn lock(&self, dir: &Path) -> Result<DirLock, DiskError>;

    /// How long the next sync takes, beyond what the call itself takes: zero on a real disk, a
    /// draw from the seed on a simulated one. The owner waits that long between a write and
    /// its sync.
    fn sync_delay(&self) -> Duration {
        Duration::ZERO
    }
}

/// An open file, written by its one owner.
pub trait DiskFile: Send {
    /// Writes all of `bytes` at `offset` (bytes from the start), extending the file if need be;
    /// durable after `sync_data`. When it fails, any part of `bytes` may have been written.
    fn write_at(&mut self, offset: u64, bytes: &[u8]) -> Result<(), DiskError>;

    /// Makes content and length durable (D1).
    fn sync_data(&mut self) -> Result<(), DiskError>;

    /// Cuts the file, or extends it with zeros, to `len` bytes; durable after `sync_data`.
    fn truncate(&mut self, len: u64) -> Result<(), DiskError>;

    /// Length in bytes, as readers see it.
    fn len(&self) -> Result<u64, DiskError>;

    /// Whether the file holds no byte.
    fn is_empty(&self) -> Result<bool, DiskError> {
        Ok(self.len()? == 0)
    }

    /// Gives a temporary file the name `target` in the same directory, replacing what had that
    /// name; durable after `sync_dir`. The content must have been synced before. Answers with a
    /// handle for further writes. On failure the temporary file is gone and `target` unchanged.
    fn persist(self: Box<Self>, target: &Path) -> Result<Box<dyn DiskFile>, DiskError>;
}

/// What a name stands for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// A file with content.
    File,
    /// A directory.
    Dir,
}

/// Holds a directory for one process; dropping it lets go.
pub struct DirLock {
    _held: Box<dyn Send + Sync>,
}

impl DirLock {
    /// A lock that lasts as long as `held`; for those who implement [`Disk`].
    pub fn new(held: Box<dyn Send + Sync>) -> DirLock {
        DirLock { _held: held }
    }
}

impl fmt::Debug for DirLock {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("DirLock")
    }
}

/// Why a disk did not do what it was asked.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum DiskError {
    /// Another process (or another owner in this one) holds the directory.
    InUse {
        /// The directory.
        path: PathBuf,
    },
    /// There is no room, or the quota is used up.
    Full {
        /// The file that was to grow.
        path: PathBuf,
    },
    /// The simulated machine is down: nothing was done. Never from a real disk.
    Crashed,
    /// Anything else that the operating system reports.
    Failed {
        /// What was tried, as a verb: `write`, `sync` ...
        doing: &'static str,
        /// The file or directory.
        path: PathBuf,
        /// The kind of failure.
        kind: io::ErrorKind,
        /// The words of the operating system.
        text: String,
    },
}

impl DiskError {
    /// What `error`, met while `doing` something to `path`, is called here.
    pub fn of(doing: &'static str, path: &Path, error: &io::Error) -> DiskError {
        let path = path.to_path_buf();
        match error.kind() {
            io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => DiskError::Full { path },
            kind => DiskError::Failed { doing, path, kind, text: error.to_string() },
        }
    }

    /// Whether the error says that nothing has the name.
    pub fn is_not_found(&self) -> bool {
        self.kind() == Some(io::ErrorKind::NotFound)
    }

    /// Whether the error says that the disk has no room.
    pub fn is_full(&self) -> bool {
        matches!(self, DiskError::Full { .. })
    }

    /// The operating system's kind of failure, where it is one of those.
    pub fn kind(&self) -> Option<io::ErrorKind> {
        match self {
            DiskError::Failed { kind, .. } => Some(*kind),
            _ => None,
        }
    }
}

impl fmt::Display for DiskError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            DiskError::InUse { path } => {
                write!(f, "{} is in use by another process", path.display())
            }
            DiskError::Full { path } => {
                write!(f, "no room on the disk for {}", path.display())
            }
            DiskError::Crashed => f.write_str("the simulated machine has crashed"),
            DiskError::Failed { doing, path, text, .. } => {
                write!(f, "cannot {doing} {}: {text}", path.display())
            }
        }
    }
}

impl std::error::Error for DiskError {}

/// Removes the temporary files that a crash left in `dir`, and answers how many there were.
/// For the start, before anyone writes there. A directory that is not there has none.
pub fn remove_leftovers(disk: &dyn Disk, dir: &Path) -> Result<usize, DiskError> {
    let names = match disk.list(dir) {
        Err(error) if error.is_not_found() => return Ok(0),
        names => names?,
    };
    let mut removed = 0;
    for name in names.iter().filter(|name| name.starts_with(TEMP_PREFIX)) {
        disk.remove(&dir.join(name))?;
        removed += 1;
    }
    if removed > 0 {
        disk.sync_dir(dir)?;
    }
    Ok(removed)
}
