//! Scrub: reads at leisure what nobody has read for long, so that damage is found while others still
//! have what is damaged.
//!
//! Complete checkpoints are read chunk by chunk, closed segments of journals one at a time. The last
//! segment of a journal is being written, and checked whenever it is opened.

use std::collections::VecDeque;
use std::fmt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use quorate_stage::Outlet;

use crate::disk::{Disk, DiskError};
use crate::files::{Cursor, FileError};
use crate::journal::{self, JournalError};
use crate::layout::Numbered;

/// The pause between two steps of a scrub: a mebibyte, or a segment, in a second.
pub const SCRUB_PAUSE: Duration = Duration::from_secs(1);

/// A file is not what was written.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Damage {
    /// Which one.
    pub path: PathBuf,
    /// Where in it, in bytes, the bad part begins.
    pub offset: u64,
    /// What is wrong there.
    pub what: String,
}

impl fmt::Display for Damage {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Damage { path, offset, what } = self;
        write!(f, "{} is damaged at offset {offset}: {what}", path.display())
    }
}

/// What is scrubbed, how fast, and who hears of damage.
pub struct Scrub {
    groups: PathBuf,
    pub(crate) pause: Duration,
    pub(crate) report: Outlet<Damage>,
    /// What is left of this round.
    files: VecDeque<Target>,
    /// In the checkpoint that is being read.
    cursor: Option<Cursor>,
}

enum Target {
    Checkpoint(PathBuf),
    /// With the first block of the segment that follows it.
    Segment(PathBuf, u64),
}

impl Scrub {
    /// Of all groups of the data directory `dir`: a step after each `pause`, for ever.
    pub fn new(dir: &Path, pause: Duration, report: Outlet<Damage>) -> Self {
        let (groups, files) = (dir.join("groups"), VecDeque::new());
        Scrub { groups, pause, report, files, cursor: None }
    }

    /// Reads the next `step_bytes` of a checkpoint, or the next segment; what was found to be damaged.
    pub(crate) fn step(&mut self, disk: &dyn Disk, step_bytes: u64) -> Option<Damage> {
        let done = match self.cursor.take() {
            Some(cursor) => self.read_on(disk, cursor, step_bytes),
            None => self.begin(disk, step_bytes),
        };
        done.err().flatten()
    }

    fn begin(&mut self, disk: &dyn Disk, step_bytes: u64) -> Result<(), Option<Damage>> {
        if self.files.is_empty() {
            let groups = self.groups.clone();
            self.list(disk).map_err(|error| of_disk(&groups, 0, &error))?;
        }
        match self.files.pop_front() {
            None => Ok(()),
            Some(Target::Segment(path, below)) => {
                journal::verify(disk, &path, below).map_err(|error| match error {
                    JournalError::Corrupt { file, offset, what } => {
                        Some(Damage { path: file, offset, what: what.into() })
                    }
                    JournalError::Disk(error) => of_disk(&path, 0, &error),
                    other => {
                        Some(Damage { path: path.clone(), offset: 0, what: other.to_string() })
                    }
                })
            }
            Some(Target::Checkpoint(path)) => match Cursor::open(disk, &path) {
                Ok(Some(cursor)) => self.read_on(disk, cursor, step_bytes),
                Ok(None) => Ok(()),
                Err(error) => Err(of_file(&path, 0, error)),
            },
        }
    }

    fn read_on(
        &mut self,
        disk: &dyn Disk,
        mut cursor: Cursor,
        step_bytes: u64,
    ) -> Result<(), Option<Damage>> {
        let end = cursor.offset() + step_bytes;
        while cursor.offset() < end {
            let (path, offset) = (cursor.path().to_path_buf(), cursor.offset());
            match cursor.next_chunk(disk) {
                Ok(Some(_)) => {}
                Ok(None) => return Ok(()),
                Err(error) => return Err(of_file(&path, offset, error)),
            }
        }
        self.cursor = Some(cursor);
        Ok(())
    }

    fn list(&mut self, disk: &dyn Disk) -> Result<(), DiskError> {
        let names = |dir: &Path| match disk.list(dir) {
            Err(error) if error.is_not_found() => Ok(Vec::new()),
            names => names,
        };
        for group in names(&self.groups)? {
            let group = self.groups.join(group);
            let (journal, checkpoints) = (group.join("journal"), group.join("checkpoint"));
            let firsts = names(&journal)?;
            let firsts: Vec<u64> =
                firsts.iter().filter_map(|name| journal::sequence_of(name)).collect();
            for pair in firsts.windows(2) {
                let path = journal.join(journal::segment_name(pair[0]));
                self.files.push_back(Target::Segment(path, pair[1]));
            }
            for name in names(&checkpoints)? {
                if let Some(Numbered::Checkpoint(_)) = Numbered::of(&name) {
                    self.files.push_back(Target::Checkpoint(checkpoints.join(name)));
                }
            }
        }
        Ok(())
    }
}

/// A file that is not there any more is not needed any more.
fn of_disk(path: &Path, offset: u64, error: &DiskError) -> Option<Damage> {
    let what = error.to_string();
    (!error.is_not_found()).then(|| Damage { path: path.into(), offset, what })
}

fn of_file(path: &Path, offset: u64, error: FileError) -> Option<Damage> {
    match error {
        FileError::Disk(error) => of_disk(path, offset, &error),
        FileError::Corrupt { file, offset, what } => {
            Some(Damage { path: file, offset, what: what.into() })
        }
        other => Some(Damage { path: path.into(), offset, what: other.to_string() }),
    }
}
