//! A simulated disk: a whole file system in memory that keeps no more than a disk promises.
//!
//! Everything it decides (what survives a crash, how long a sync takes) is drawn from one seed,
//! so the same calls on the same seed give the same disk. The promises are D1 to D5 of
//! [`disk`](crate::disk); whatever they leave open, this disk makes use of:
//!
//! - **Unsynced writes**: at a crash each is kept, dropped, or kept in some of its sectors;
//!   later ones may survive where earlier ones do not. The same holds for unsynced cuts.
//! - **Unsynced names**: at a crash each creation, rename and removal is kept or dropped by
//!   itself. A rename is never half done. Directories themselves are durable at once.
//! - **A failed sync of a directory** leaves its names as after any crash, and no further change is
//!   taken until the machine starts anew (D5), whichever process asks.
//! - **Durable data** may change by itself: [`SimDisk::flip_bit`], [`SimDisk::rot`].
//! - **A failed sync** throws away some of what it covered for good, though readers still see
//!   it until the crash: trying again and being told `Ok` proves nothing.
//! - **A full disk** takes what fits of a write before it refuses the rest.
//!
//! ```text
//! running -- crash_after(n) ran out --> stopped: every operation fails with `Crashed`
//!    |  \______ crash() _____________________ | crash()
//!    |                                        v
//!    '<------------- restart() ------------ down: lost what was unsynced, locks released
//! ```

mod loss;

use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::ops::RangeInclusive;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use rand::{Rng, SeedableRng};
use rand_chacha::ChaCha8Rng;

use crate::disk::{DirLock, Disk, DiskError, DiskFile, Kind, TEMP_PREFIX};
use loss::{Change, NameChange};

/// A simulated disk. Clones are the same disk; [`SimDisk::fork`] makes another one.
#[derive(Clone)]
pub struct SimDisk {
    shared: Arc<Mutex<State>>,
}

/// What a simulated disk has done since it was made.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct SimCounters {
    /// Calls of any operation that reached the disk, also those that failed.
    pub operations: u64,
    /// Calls of `write_at`.
    pub writes: u64,
    /// Bytes given to `write_at`.
    pub bytes_written: u64,
    /// Calls of `sync_data`.
    pub syncs: u64,
    /// Calls of `sync_dir`.
    pub dir_syncs: u64,
    /// Bytes in all files that have a name, as readers see them.
    pub bytes_stored: u64,
}

#[derive(Clone)]
struct State {
    rng: ChaCha8Rng,
    power: Power,
    /// Grows with every crash: handles and locks of an earlier life are dead.
    life: u64,
    crash_in: Option<u64>,
    on_stop: Option<Arc<dyn Fn() + Send + Sync>>,
    fail_in: Option<(u64, io::ErrorKind)>,
    fail_sync_in: Option<u64>,
    fail_dir_sync_in: Option<u64>,
    /// Since a sync of a directory has failed (D5).
    read_only: bool,
    bytes_max: Option<u64>,
    sync_delay: RangeInclusive<Duration>,
    inodes: BTreeMap<u64, Inode>,
    dirs: BTreeMap<PathBuf, Dir>,
    locks: BTreeSet<PathBuf>,
    inode_next: u64,
    temp_next: u64,
    change_next: u64,
    counters: SimCounters,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Power {
    Running,
    Stopped,
    Down,
}

/// The content of a file, whatever its names.
#[derive(Clone, Default)]
struct Inode {
    visible: Vec<u8>,
    durable: Vec<u8>,
    /// With the number of each among all changes of the disk, which grows.
    unsynced: Vec<(u64, Change)>,
    handles: usize,
}

#[derive(Clone, Default)]
struct Dir {
    visible: BTreeMap<String, u64>,
    durable: BTreeMap<String, u64>,
    /// Numbered too.
    unsynced: Vec<(u64, NameChange)>,
}

impl Dir {
    fn change(&mut self, number: u64, change: NameChange) {
        change.apply(&mut self.visible);
        self.unsynced.push((number, change));
    }

    fn sync(&mut self) {
        self.durable = self.visible.clone();
        self.unsynced.clear();
    }
}

fn split(path: &Path) -> Option<(PathBuf, String)> {
    let name = path.file_name()?.to_string_lossy().into_owned();
    Some((path.parent()?.to_path_buf(), name))
}

fn fault(doing: &'static str, path: &Path, kind: io::ErrorKind) -> DiskError {
    DiskError::of(doing, path, &io::Error::from(kind))
}

impl State {
    /// Counts one operation and answers whether it may happen.
    fn operate(&mut self, doing: &'static str, path: &Path, life: u64) -> Result<(), DiskError> {
        if self.power != Power::Running || life != self.life {
            return Err(DiskError::Crashed);
        }
        if self.crash_in == Some(0) {
            self.power = Power::Stopped;
            if let Some(tell) = &self.on_stop {
                tell();
            }
            return Err(DiskError::Crashed);
        }
        self.counters.operations += 1;
        self.crash_in = self.crash_in.map(|left| left - 1);
        match self.fail_in.take() {
            Some((0, kind)) => return Err(fault(doing, path, kind)),
            later => self.fail_in = later.map(|(left, kind)| (left - 1, kind)),
        }
        Ok(())
    }

    fn dir(&mut self, doing: &'static str, dir: &Path) -> Result<&mut Dir, DiskError> {
        let not_found = || fault(doing, dir, io::ErrorKind::NotFound);
        self.dirs.get_mut(dir).ok_or_else(not_found)
    }

    fn find(&self, doing: &'static str, path: &Path) -> Result<u64, DiskError> {
        if self.dirs.contains_key(path) {
            return Err(fault(doing, path, io::ErrorKind::IsADirectory));
        }
        split(path)
            .and_then(|(dir, name)| self.dirs.get(&dir)?.visible.get(&name).copied())
            .ok_or_else(|| fault(doing, path, io::ErrorKind::NotFound))
    }

    fn inode(&mut self, number: u64) -> &mut Inode {
        self.inodes.get_mut(&number).expect("an inode lives as long as a name or handle has it")
    }

    fn bytes_stored(&self) -> u64 {
        let named: BTreeSet<u64> =
            self.dirs.values().flat_map(|dir| dir.visible.values().copied()).collect();
        named.iter().map(|inode| self.inodes[inode].visible.len() as u64).sum()
    }

    /// Applies a change to what readers see and remembers it as unsynced.
    fn change(&mut self, inode: u64, change: Change) {
        let number = self.number();
        let inode = self.inode(inode);
        change.apply(&mut inode.visible);
        inode.unsynced.push((number, change));
    }

    /// The number of the next change.
    fn number(&mut self) -> u64 {
        self.change_next += 1;
        self.change_next
    }

    /// Applies a change to the names that readers see in `dir` and remembers it as unsynced.
    fn rename(
        &mut self,
        doing: &'static str,
        dir: &Path,
        change: NameChange,
    ) -> Result<(), DiskError> {
        let number = self.number();
        self.dir(doing, dir)?.change(number, change);
        Ok(())
    }

    /// Refuses a change where nothing can be changed any more (D5).
    fn writable(&self, doing: &'static str, path: &Path) -> Result<(), DiskError> {
        match self.read_only {
            true => Err(fault(doing, path, io::ErrorKind::ReadOnlyFilesystem)),
            false => Ok(()),
        }
    }

    /// Drops every inode that no name (also one that may come back) and no handle needs.
    fn sweep(&mut self) {
        let mut used = BTreeSet::new();
        for dir in self.dirs.values() {
            used.extend(dir.visible.values().chain(dir.durable.values()).copied());
            used.extend(dir.unsynced.iter().filter_map(|(_, change)| change.inode()));
        }
        self.inodes.retain(|number, inode| inode.handles > 0 || used.contains(number));
    }
}

impl SimDisk {
    /// An empty disk without limits or delays whose decisions are drawn from `seed`.
    pub fn new(seed: u64) -> SimDisk {
        let dirs = ["", "/"].map(|root| (PathBuf::from(root), Dir::default()));
        SimDisk::with(State {
            rng: ChaCha8Rng::seed_from_u64(seed),
            power: Power::Running,
            life: 0,
            crash_in: None,
            on_stop: None,
            fail_in: None,
            fail_sync_in: None,
            fail_dir_sync_in: None,
            read_only: false,
            bytes_max: None,
            sync_delay: Duration::ZERO..=Duration::ZERO,
            inodes: BTreeMap::new(),
            dirs: BTreeMap::from(dirs),
            locks: BTreeSet::new(),
            inode_next: 0,
            temp_next: 0,
            change_next: 0,
            counters: SimCounters::default(),
        })
    }

    fn with(state: State) -> SimDisk {
        SimDisk { shared: Arc::new(Mutex::new(state)) }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.shared.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Begins an operation of the present life.
    fn begin(&self, doing: &'static str, path: &Path) -> Result<MutexGuard<'_, State>, DiskError> {
        let mut state = self.state();
        let life = state.life;
        state.operate(doing, path, life)?;
        Ok(state)
    }

    /// Another disk with the same content and the same future, in which no file is open and
    /// no directory locked.
    pub fn fork(&self) -> SimDisk {
        let mut state = self.state().clone();
        state.on_stop = None;
        state.locks.clear();
        state.life += 1;
        state.inodes.values_mut().for_each(|inode| inode.handles = 0);
        SimDisk::with(state)
    }

    /// Draws what survives with a new seed from now on.
    pub fn reseed(&self, seed: u64) {
        self.state().rng = ChaCha8Rng::seed_from_u64(seed);
    }

    /// The machine loses power: unsynced bytes and names are lost, kept or torn as the seed
    /// will have it, locks are released, open files are dead. Injected faults are forgotten,
    /// limits stay. Every operation fails with [`DiskError::Crashed`] until `restart`.
    pub fn crash(&self) {
        let mut state = self.state();
        state.lose_unsynced();
        state.go_down();
    }

    /// The process dies but the machine stays up: locks are released and open files are dead,
    /// while everything written stays visible, and what was unsynced stays unsynced. Injected
    /// faults are forgotten.
    pub fn kill(&self) {
        let mut state = self.state();
        state.locks.clear();
        state.life += 1;
        state.inodes.values_mut().for_each(|inode| inode.handles = 0);
        if state.power == Power::Stopped {
            state.power = Power::Running;
        }
        state.disarm();
        state.sweep();
    }

    /// The machine is up again after `crash`. Without a crash it changes nothing.
    pub fn restart(&self) {
        let mut state = self.state();
        if state.power == Power::Down {
            state.power = Power::Running;
        }
    }

    /// After `operations` more operations every further one fails with
    /// [`DiskError::Crashed`], until `crash` and `restart` are called.
    pub fn crash_after(&self, operations: u64) {
        self.state().crash_in = Some(operations);
    }

    /// Faults that were asked for and have not struck do not strike any more.
    pub fn disarm(&self) {
        self.state().disarm();
    }

    /// Calls `tell` when [`SimDisk::crash_after`] strikes, in the middle of the operation that
    /// it strikes: nothing may be asked of the disk there.
    pub fn on_stop(&self, tell: impl Fn() + Send + Sync + 'static) {
        self.state().on_stop = Some(Arc::new(tell));
    }

    /// Whether the disk answers nothing until `crash` and `restart`.
    pub fn is_stopped(&self) -> bool {
        self.state().power != Power::Running
    }

    /// After `operations` more operations one fails as `kind` and does nothing.
    pub fn fail_after(&self, operations: u64, kind: io::ErrorKind) {
        self.state().fail_in = Some((operations, kind));
    }

    /// After `syncs` more calls of `sync_data` one fails, and some of what it covered is lost.
    pub fn fail_sync_after(&self, syncs: u64) {
        self.state().fail_sync_in = Some(syncs);
    }

    /// After `syncs` more calls of `sync_dir` one fails. What it covered may be kept or lost in the
    /// next crash, and until then nothing can be changed any more (D5).
    pub fn fail_dir_sync_after(&self, syncs: u64) {
        self.state().fail_dir_sync_in = Some(syncs);
    }

    /// The most bytes that all files together may hold; `None` for no limit.
    pub fn set_bytes_max(&self, bytes_max: Option<u64>) {
        self.state().bytes_max = bytes_max;
    }

    /// Between what bounds `sync_delay` draws.
    pub fn set_sync_delay(&self, delay: RangeInclusive<Duration>) {
        self.state().sync_delay = delay;
    }

    /// Flips bit `bit` (0 to 7) of the byte at `offset` of `path`, on the platters.
    ///
    /// # Errors
    /// When there is no such byte.
    pub fn flip_bit(&self, path: &Path, offset: usize, bit: u8) -> Result<(), DiskError> {
        let mut state = self.state();
        let number = state.find("flip a bit of", path)?;
        let inode = state.inode(number);
        if offset >= inode.visible.len() {
            return Err(fault("flip a bit of", path, io::ErrorKind::UnexpectedEof));
        }
        for content in [&mut inode.visible, &mut inode.durable] {
            if let Some(byte) = content.get_mut(offset) {
                *byte ^= 1 << bit;
            }
        }
        Ok(())
    }

    /// Puts a durable file with this content under the name `path`, as if it had always been
    /// there, counting nothing.
    pub fn plant(&self, path: &Path, content: &[u8]) {
        let mut state = self.state();
        let (dir, name) = split(path).expect("a file has a name");
        let number = state.inode_next;
        state.inode_next += 1;
        let (visible, durable) = (content.to_vec(), content.to_vec());
        state.inodes.insert(number, Inode { visible, durable, ..Inode::default() });
        for above in dir.ancestors() {
            state.dirs.entry(above.to_path_buf()).or_default();
        }
        let dir = state.dirs.entry(dir).or_default();
        dir.visible.insert(name.clone(), number);
        dir.durable.insert(name, number);
    }

    /// What readers of `path` see, counting nothing, also while the machine is down.
    pub fn peek(&self, path: &Path) -> Option<Vec<u8>> {
        let mut state = self.state();
        let number = state.find("read", path).ok()?;
        Some(state.inode(number).visible.clone())
    }

    /// Every file, in order of path, counting nothing.
    pub fn files(&self) -> Vec<PathBuf> {
        let state = self.state();
        let all = state.dirs.iter();
        all.flat_map(|(dir, it)| it.visible.keys().map(move |name| dir.join(name))).collect()
    }

    /// What the disk has done so far.
    pub fn counters(&self) -> SimCounters {
        let state = self.state();
        SimCounters { bytes_stored: state.bytes_stored(), ..state.counters }
    }

    /// Bytes of this process's memory in which all content lies, several times over: what
    /// measures memory must not take them for anybody's but the disk's.
    pub fn memory_bytes(&self) -> u64 {
        let unsynced = |(_, change): &(u64, Change)| match change {
            Change::Write { bytes, .. } => bytes.capacity(),
            Change::Truncate { .. } => 0,
        };
        let of = |inode: &Inode| {
            let unsynced: usize = inode.unsynced.iter().map(unsynced).sum();
            inode.visible.capacity() + inode.durable.capacity() + unsynced
        };
        self.state().inodes.values().map(|inode| of(inode) as u64).sum()
    }
}

impl Disk for SimDisk {
    fn create_dir_all(&self, dir: &Path) -> Result<(), DiskError> {
        let mut state = self.begin("create directory", dir)?;
        for dir in dir.ancestors() {
            if state.find("create directory", dir).is_ok() {
                return Err(fault("create directory", dir, io::ErrorKind::NotADirectory));
            }
        }
        if !state.dirs.contains_key(dir) {
            state.writable("create directory", dir)?;
        }
        for dir in dir.ancestors() {
            state.dirs.entry(dir.to_path_buf()).or_default();
        }
        Ok(())
    }

    fn list(&self, dir: &Path) -> Result<Vec<String>, DiskError> {
        let mut state = self.begin("list", dir)?;
        if state.find("list", dir).is_ok() {
            return Err(fault("list", dir, io::ErrorKind::NotADirectory));
        }
        let mut names: Vec<String> = state.dir("list", dir)?.visible.keys().cloned().collect();
        let dirs = state.dirs.keys().filter_map(|path| split(path));
        names.extend(dirs.filter(|(above, _)| above == dir).map(|(_, name)| name));
        names.sort();
        Ok(names)
    }

    fn kind(&self, path: &Path) -> Result<Option<Kind>, DiskError> {
        let state = self.begin("look at", path)?;
        if state.dirs.contains_key(path) {
            return Ok(Some(Kind::Dir));
        }
        Ok(state.find("look at", path).ok().map(|_| Kind::File))
    }

    fn read(&self, path: &Path) -> Result<Vec<u8>, DiskError> {
        let mut state = self.begin("read", path)?;
        let number = state.find("read", path)?;
        Ok(state.inode(number).visible.clone())
    }

    fn read_at(&self, path: &Path, offset: u64, bytes_max: usize) -> Result<Vec<u8>, DiskError> {
        let mut state = self.begin("read", path)?;
        let number = state.find("read", path)?;
        let content = &state.inode(number).visible;
        let from = content.len().min(usize::try_from(offset).unwrap_or(usize::MAX));
        let to = content.len().min(from.saturating_add(bytes_max));
        Ok(content[from..to].to_vec())
    }

    fn create_temp(&self, dir: &Path) -> Result<Box<dyn DiskFile>, DiskError> {
        let mut state = self.begin("create a file in", dir)?;
        state.dir("create a file in", dir)?;
        state.writable("create a file in", dir)?;
        let (inode, name) = (state.inode_next, format!("{TEMP_PREFIX}{:06}", state.temp_next));
        state.inode_next += 1;
        state.temp_next += 1;
        state.inodes.insert(inode, Inode { handles: 1, ..Inode::default() });
        let path = dir.join(&name);
        state.rename("create a file in", dir, NameChange::Create { name, inode })?;
        let life = state.life;
        Ok(Box::new(SimFile { disk: self.clone(), life, inode, path, temporary: true }))
    }

    fn open_existing(&self, path: &Path) -> Result<Box<dyn DiskFile>, DiskError> {
        let mut state = self.begin("open", path)?;
        let inode = state.find("open", path)?;
        state.writable("open", path)?;
        state.inode(inode).handles += 1;
        let (life, path) = (state.life, path.to_path_buf());
        Ok(Box::new(SimFile { disk: self.clone(), life, inode, path, temporary: false }))
    }

    fn rename(&self, from: &Path, to: &Path) -> Result<(), DiskError> {
        let mut state = self.begin("rename", from)?;
        let inode = state.find("rename", from)?;
        state.writable("rename", from)?;
        match (split(from), split(to)) {
            (Some((dir, from)), Some((into, to))) if dir == into => {
                state.rename("rename", &dir, NameChange::Rename { from, to, inode })
            }
            _ => Err(fault("rename", to, io::ErrorKind::InvalidInput)),
        }
    }

    fn remove(&self, path: &Path) -> Result<(), DiskError> {
        let mut state = self.begin("remove", path)?;
        state.find("remove", path)?;
        state.writable("remove", path)?;
        match split(path) {
            Some((dir, name)) => state.rename("remove", &dir, NameChange::Remove { name }),
            None => Ok(()),
        }
    }

    fn sync_dir(&self, dir: &Path) -> Result<(), DiskError> {
        let mut state = self.begin("sync directory", dir)?;
        state.counters.dir_syncs += 1;
        state.dir("sync directory", dir)?;
        state.writable("sync directory", dir)?;
        let fails = state.fail_dir_sync_in == Some(0);
        state.fail_dir_sync_in = state.fail_dir_sync_in.and_then(|left| left.checked_sub(1));
        if fails {
            state.read_only = true;
            return Err(fault("sync directory", dir, io::ErrorKind::Other));
        }
        state.dir("sync directory", dir)?.sync();
        state.sweep();
        Ok(())
    }

    fn available_bytes(&self, dir: &Path) -> Result<u64, DiskError> {
        let state = self.begin("ask for the free room of", dir)?;
        let free = |max: u64| max.saturating_sub(state.bytes_stored());
        Ok(state.bytes_max.map_or(u64::MAX, free))
    }

    fn lock(&self, dir: &Path) -> Result<DirLock, DiskError> {
        let mut state = self.begin("lock", dir)?;
        state.dir("lock", dir)?;
        state.writable("lock", dir)?;
        if !state.locks.insert(dir.to_path_buf()) {
            return Err(DiskError::InUse { path: dir.to_path_buf() });
        }
        let (disk, life, dir) = (self.clone(), state.life, dir.to_path_buf());
        Ok(DirLock::new(Box::new(SimLock { disk, life, dir })))
    }

    fn sync_delay(&self) -> Duration {
        let mut state = self.state();
        let bounds = state.sync_delay.clone();
        state.rng.random_range(bounds)
    }
}

/// An entry in the set of locked directories; one of an earlier life means nothing.
struct SimLock {
    disk: SimDisk,
    life: u64,
    dir: PathBuf,
}

impl Drop for SimLock {
    fn drop(&mut self) {
        let mut state = self.disk.state();
        if state.life == self.life {
            state.locks.remove(&self.dir);
        }
    }
}

/// An open file of one life of the machine.
struct SimFile {
    disk: SimDisk,
    life: u64,
    inode: u64,
    path: PathBuf,
    temporary: bool,
}

impl SimFile {
    fn begin(&self, doing: &'static str) -> Result<MutexGuard<'_, State>, DiskError> {
        let mut state = self.disk.state();
        state.operate(doing, &self.path, self.life)?;
        Ok(state)
    }
}

impl DiskFile for SimFile {
    fn write_at(&mut self, offset: u64, bytes: &[u8]) -> Result<(), DiskError> {
        let mut state = self.begin("write")?;
        state.counters.writes += 1;
        state.writable("write", &self.path)?;
        let offset = offset as usize;
        let len = state.inode(self.inode).visible.len();
        let growth = (offset + bytes.len()).saturating_sub(len) as u64;
        let free = state.bytes_max.map_or(u64::MAX, |max| max.saturating_sub(state.bytes_stored()));
        let fits = bytes.len().saturating_sub(growth.saturating_sub(free) as usize);
        state.counters.bytes_written += fits as u64;
        if fits > 0 {
            state.change(self.inode, Change::Write { offset, bytes: bytes[..fits].to_vec() });
        }
        if fits < bytes.len() {
            return Err(DiskError::Full { path: self.path.clone() });
        }
        Ok(())
    }

    fn sync_data(&mut self) -> Result<(), DiskError> {
        let mut state = self.begin("sync")?;
        state.counters.syncs += 1;
        state.writable("sync", &self.path)?;
        let fails = state.fail_sync_in == Some(0);
        state.fail_sync_in = state.fail_sync_in.and_then(|left| left.checked_sub(1));
        let State { rng, inodes, .. } = &mut *state;
        let inode = inodes.get_mut(&self.inode).expect("an open file has an inode");
        if fails {
            inode.unsynced.retain(|_| rng.random_bool(0.5));
            return Err(fault("sync", &self.path, io::ErrorKind::Other));
        }
        for (_, change) in std::mem::take(&mut inode.unsynced) {
            change.apply(&mut inode.durable);
        }
        Ok(())
    }

    fn truncate(&mut self, len: u64) -> Result<(), DiskError> {
        let mut state = self.begin("truncate")?;
        state.writable("truncate", &self.path)?;
        state.change(self.inode, Change::Truncate { len: len as usize });
        Ok(())
    }

    fn len(&self) -> Result<u64, DiskError> {
        let mut state = self.begin("look at")?;
        Ok(state.inode(self.inode).visible.len() as u64)
    }

    fn persist(mut self: Box<Self>, target: &Path) -> Result<Box<dyn DiskFile>, DiskError> {
        let renamed = (|| {
            let mut state = self.begin("rename")?;
            state.writable("rename", target)?;
            match (self.temporary, split(&self.path), split(target)) {
                (true, Some((dir, from)), Some((into, to))) if dir == into => {
                    let change = NameChange::Rename { from, to, inode: self.inode };
                    state.rename("rename", &dir, change)
                }
                _ => Err(fault("rename", target, io::ErrorKind::InvalidInput)),
            }
        })();
        renamed?;
        self.temporary = false;
        self.path = target.to_path_buf();
        Ok(self)
    }
}

impl Drop for SimFile {
    fn drop(&mut self) {
        let mut state = self.disk.state();
        if state.life != self.life {
            return;
        }
        state.inode(self.inode).handles -= 1;
        if self.temporary
            && state.power == Power::Running
            && !state.read_only
            && let Some((dir, name)) = split(&self.path)
        {
            // Whoever drops it cannot be told; it is a leftover then.
            let _ = state.rename("remove", &dir, NameChange::Remove { name });
        }
    }
}
