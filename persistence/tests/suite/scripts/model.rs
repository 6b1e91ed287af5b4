//! What the owners of a journal and of checkpoints know, and what a recovery must give them.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use bytes::Bytes;
use quorate_persistence::{
    Disk, FileError, JournalOptions, Numbered, SimDisk, read_atomic, remove_leftovers, write_atomic,
};

use crate::open_with;

/// Where the checkpoints lie.
pub(super) fn files() -> &'static Path {
    Path::new("/data/files")
}

/// A file that is replaced again and again, as a node's pins are.
pub(super) fn pins() -> PathBuf {
    files().join("peers")
}

pub(super) fn checkpoint(index: u64) -> PathBuf {
    Numbered::Checkpoint(index).path(files())
}

pub(super) fn incoming(index: u64) -> PathBuf {
    Numbered::Incoming(index).path(files())
}

/// The content of a checkpoint.
pub(super) fn content(index: u64, len: usize) -> Vec<u8> {
    (0..len as u64).map(|at| (at % 251 + index) as u8).collect()
}

/// The bytes of the file of a checkpoint.
pub(super) fn raw(index: u64, len: usize) -> Vec<u8> {
    let disk = SimDisk::new(0);
    disk.create_dir_all(files()).unwrap();
    write_atomic(&disk, &checkpoint(index), &content(index, len)).unwrap();
    disk.peek(&checkpoint(index)).unwrap()
}

/// How far a checkpoint has come, as its owner was told.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Fate {
    /// It was begun; it may be there.
    Tried,
    /// It is durable.
    Saved,
    /// It may be gone.
    Removing,
    /// It is gone, durably.
    Removed,
}

/// A checkpoint on its way here.
#[derive(Clone)]
pub(super) struct Incoming {
    pub(super) index: u64,
    pub(super) file: Vec<u8>,
    /// Bytes that are written, and bytes of those that are durable.
    pub(super) written: usize,
    pub(super) synced: usize,
    /// Whether it is known what of it is right: not after a restart.
    pub(super) resumed: bool,
}

/// What the owners were told is durable, and what they have tried.
#[derive(Clone, Default)]
pub(super) struct Known {
    /// Every slot's record, as it was appended last.
    slots: BTreeMap<u64, Vec<u8>>,
    pub(super) appended: u64,
    /// What the block under way ends with.
    pub(super) written: Option<(u64, u64)>,
    pub(super) committed: u64,
    pub(super) trimmed: u64,
    /// First slot that was left by a trim that has returned: what is below is gone for ever.
    pub(super) first: u64,
    /// The hard state only grows; its preamble is the number.
    pub(super) hard: u64,
    hard_committed: u64,
    life: u64,
    /// The number in the file that is replaced: the last one tried, and the last one durable.
    pub(super) pins: u64,
    pub(super) pins_saved: u64,
    /// Length and fate of every checkpoint.
    pub(super) checkpoints: BTreeMap<u64, (usize, Fate)>,
    pub(super) incoming: Option<Incoming>,
    /// Whether the script was cut short.
    pub(super) ended: bool,
}

impl Known {
    pub(super) fn hard_record(&self) -> Vec<u8> {
        [&b"H"[..], &self.hard.to_le_bytes()].concat()
    }

    /// The record of the next slot: `bytes` long at least, filled with `fill`.
    pub(super) fn record(&mut self, bytes: usize, fill: u8) -> (u64, Vec<u8>) {
        self.appended += 1;
        let slot = self.appended;
        let mut record = [&b"D"[..], &slot.to_le_bytes(), &self.life.to_le_bytes()].concat();
        record.resize(bytes.max(record.len()), fill);
        self.slots.insert(slot, record.clone());
        (slot, record)
    }

    /// The block under way is durable.
    pub(super) fn synced(&mut self) {
        if let Some((slot, hard)) = self.written.take() {
            (self.committed, self.hard_committed) = (slot, hard);
        }
    }

    /// Opens everything as a new process does, checks what is there, and takes it over.
    ///
    /// - The journal gives a range of slots without gaps, each with the record appended last; all that
    ///   was committed and not trimmed is in it, nothing that a finished trim has dropped, and nothing
    ///   that was never appended; the hard state is at least the one committed.
    /// - A file under the name of a checkpoint is whole and what was to be saved; one that was saved is
    ///   there, and one that was removed is not.
    /// - Of an incoming checkpoint there is what was synced; nothing is said of the rest.
    /// - The file that is replaced has the last content that was saved, or one tried since.
    pub(super) fn recovered(&mut self, disk: &SimDisk, options: JournalOptions) -> Vec<Bytes> {
        for dir in [files(), crate::dir()] {
            remove_leftovers(disk, dir).unwrap();
        }
        let (_, records) = open_with(disk, options).unwrap();
        self.on_journal(&records);
        self.on_files(disk);
        self.on_pins(disk);
        self.ended = false;
        records
    }

    /// Another owner has opened the journal: what it was given is durable.
    pub(super) fn reopened(&mut self, records: &[Bytes]) {
        self.on_journal(records);
    }

    /// A trim has returned, and left these records.
    pub(super) fn left(&mut self, records: &[Bytes]) {
        let slot = records.iter().find(|record| record[0] == b'D');
        let slot = slot.map(|record| u64::from_le_bytes(record[1..9].try_into().unwrap()));
        self.first = slot.map_or(self.first, |slot| self.first.max(slot));
    }

    fn on_journal(&mut self, records: &[Bytes]) {
        let (mut slots, mut hard) = (Vec::new(), 0);
        for record in records {
            let number = u64::from_le_bytes(record[1..9].try_into().unwrap());
            match record[0] {
                b'D' => {
                    assert_eq!(self.slots.get(&number).unwrap(), record, "slot {number}");
                    slots.push(number);
                }
                b'H' => hard = number.max(hard),
                other => panic!("a record of kind {other} was never written"),
            }
        }
        let first = slots.first().copied().unwrap_or(self.trimmed + 1);
        let last = slots.last().copied().unwrap_or(self.trimmed);
        let range: Vec<u64> = (first..=last).collect();
        assert_eq!(slots, range, "slots out of order or missing");
        assert!(first <= self.trimmed + 1, "{first} is first, trimmed through {}", self.trimmed);
        assert!(self.first <= first, "{first} is there, which was trimmed below {}", self.first);
        assert!(self.committed <= last, "{} committed, {last} found", self.committed);
        assert!(last <= self.appended, "{last} found, {} appended", self.appended);
        assert!(self.hard_committed <= hard && hard <= self.hard, "the hard state is {hard}");
        (self.committed, self.appended, self.written) = (last, last, None);
        (self.hard, self.hard_committed) = (hard, hard);
        self.life += 1;
    }

    fn on_files(&mut self, disk: &SimDisk) {
        let names = match disk.list(files()) {
            Err(error) if error.is_not_found() => Vec::new(),
            names => names.unwrap(),
        };
        let there: Vec<Numbered> = names.iter().filter_map(|name| Numbered::of(name)).collect();
        for (index, (len, fate)) in &mut self.checkpoints {
            let found = read_atomic(disk, &checkpoint(*index)).unwrap();
            match (&found, *fate) {
                (Some(_), Fate::Removed) => panic!("checkpoint {index} was removed, and is there"),
                (None, Fate::Saved) => panic!("checkpoint {index} was saved, and is not there"),
                _ => {}
            }
            if let Some(found) = &found {
                assert!(*found == content(*index, *len), "checkpoint {index} is another one");
            }
            // Whatever was found was made durable by reading it, and so is what was not.
            *fate = if found.is_some() { Fate::Saved } else { Fate::Removed };
        }
        for found in there {
            match found {
                Numbered::Checkpoint(index) => assert!(self.checkpoints.contains_key(&index)),
                Numbered::Incoming(index) => {
                    let known = self.incoming.as_ref().is_some_and(|it| it.index == index);
                    // One that was adopted goes when the directory says so.
                    assert!(known, "incoming {index} came back");
                }
            }
        }
        if let Some(coming) = &mut self.incoming {
            let found = disk.peek(&incoming(coming.index)).unwrap_or_default();
            let adopted = self.checkpoints.get(&coming.index);
            if adopted.is_some_and(|(_, fate)| *fate == Fate::Saved) {
                assert!(found.is_empty(), "it has two names");
                self.incoming = None;
                return;
            }
            // It may be adopted once more.
            self.checkpoints.remove(&coming.index);
            let synced = coming.synced;
            assert!(found.len() >= synced, "{} of {synced} bytes are left", found.len());
            assert!(found[..synced] == coming.file[..synced], "what was synced has changed");
            (coming.written, coming.resumed) = (found.len(), false);
        }
    }

    fn on_pins(&mut self, disk: &SimDisk) {
        let found = read_atomic(disk, &pins()).unwrap();
        let found = found.map_or(0, |bytes| u64::from_le_bytes(bytes.try_into().unwrap()));
        assert!(self.pins_saved <= found && found <= self.pins, "the pins are {found}");
        (self.pins, self.pins_saved) = (found, found);
    }

    /// A byte at `offset` of `file`, no segment, has changed: whether that is found out. It must be, in
    /// a file that is complete.
    pub(super) fn finds_damage(&self, disk: &SimDisk, file: &Path, offset: usize) -> bool {
        let name = file.file_name().unwrap().to_str().unwrap();
        if *file != pins() && !matches!(Numbered::of(name), Some(Numbered::Checkpoint(_))) {
            return false;
        }
        match read_atomic(disk, file) {
            Err(FileError::Corrupt { file: named, offset: found, .. }) => {
                assert_eq!(named, file);
                assert!(found as usize <= offset, "changed at {offset}, found at {found}");
                true
            }
            other => panic!("a bit at {offset} of {file:?} gives {:?}", other.map(|_| "content")),
        }
    }
}
