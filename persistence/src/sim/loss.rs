//! What a simulated disk has not synced yet, and which of it a crash keeps.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use rand::Rng;

use super::{Power, SimDisk, State};
use crate::disk::SECTOR_BYTES;

#[derive(Clone)]
pub(super) enum Change {
    Write { offset: usize, bytes: Vec<u8> },
    Truncate { len: usize },
}

#[derive(Clone)]
pub(super) enum NameChange {
    Create { name: String, inode: u64 },
    Rename { from: String, to: String, inode: u64 },
    Remove { name: String },
}

fn write_into(content: &mut Vec<u8>, offset: usize, bytes: &[u8]) {
    let end = offset + bytes.len();
    if content.len() < end {
        content.resize(end, 0);
    }
    content[offset..end].copy_from_slice(bytes);
}

impl Change {
    pub(super) fn apply(&self, content: &mut Vec<u8>) {
        match self {
            Change::Write { offset, bytes } => write_into(content, *offset, bytes),
            Change::Truncate { len } => content.resize(*len, 0),
        }
    }

    /// Applies the sectors of the change that `keep` chooses.
    fn apply_torn(&self, content: &mut Vec<u8>, mut keep: impl FnMut() -> bool) {
        let Change::Write { offset, bytes } = self else {
            return if keep() {
                self.apply(content)
            };
        };
        let (mut from, end, sector) = (*offset, offset + bytes.len(), SECTOR_BYTES as usize);
        while from < end {
            let to = end.min((from / sector + 1) * sector);
            if keep() {
                write_into(content, from, &bytes[from - offset..to - offset]);
            }
            from = to;
        }
    }
}

impl NameChange {
    pub(super) fn apply(&self, names: &mut BTreeMap<String, u64>) {
        match self {
            NameChange::Create { name, inode } => {
                names.insert(name.clone(), *inode);
            }
            NameChange::Rename { from, to, inode } => {
                names.remove(from);
                names.insert(to.clone(), *inode);
            }
            NameChange::Remove { name } => {
                names.remove(name);
            }
        }
    }

    pub(super) fn inode(&self) -> Option<u64> {
        match self {
            NameChange::Create { inode, .. } | NameChange::Rename { inode, .. } => Some(*inode),
            NameChange::Remove { .. } => None,
        }
    }
}

impl State {
    /// Keeps, tears or drops everything unsynced, as the seed will have it.
    pub(super) fn lose_unsynced(&mut self) {
        let State { rng, inodes, dirs, .. } = self;
        // Some crashes lose everything, some nothing, most of them a bit of each.
        let odds = [0.0, 1.0, 0.5, 0.5, 0.8, 0.2][rng.random_range(0..6)];
        for inode in inodes.values_mut() {
            for (_, change) in std::mem::take(&mut inode.unsynced) {
                match rng.random_bool(0.5) {
                    true if rng.random_bool(odds) => change.apply(&mut inode.durable),
                    true => {}
                    false => change.apply_torn(&mut inode.durable, || rng.random_bool(odds)),
                }
            }
        }
        for dir in dirs.values_mut() {
            for (_, change) in std::mem::take(&mut dir.unsynced) {
                if rng.random_bool(odds) {
                    change.apply(&mut dir.durable);
                }
            }
        }
    }

    /// The power is gone: what is left is what was durable.
    pub(super) fn go_down(&mut self) {
        for inode in self.inodes.values_mut() {
            inode.unsynced.clear();
            inode.visible = inode.durable.clone();
            inode.handles = 0;
        }
        for dir in self.dirs.values_mut() {
            dir.unsynced.clear();
            dir.visible = dir.durable.clone();
        }
        self.sweep();
        self.locks.clear();
        self.life += 1;
        self.power = Power::Down;
        self.read_only = false;
        self.disarm();
    }

    pub(super) fn disarm(&mut self) {
        (self.crash_in, self.fail_in) = (None, None);
        (self.fail_sync_in, self.fail_dir_sync_in) = (None, None);
    }

    /// Everything unsynced, in the order in which it was done.
    fn unsynced(&self) -> Vec<Unsynced> {
        let mut found = Vec::new();
        for (inode, it) in &self.inodes {
            let changes = it.unsynced.iter().enumerate();
            found.extend(changes.map(|(at, (number, _))| (*number, Unsynced::Bytes(*inode, at))));
        }
        for (dir, it) in &self.dirs {
            let changes = it.unsynced.iter().enumerate();
            found.extend(
                changes.map(|(at, (number, _))| (*number, Unsynced::Name(dir.clone(), at))),
            );
        }
        found.sort_by_key(|(number, _)| *number);
        found.into_iter().map(|(_, unsynced)| unsynced).collect()
    }

    /// Applies to what is durable those parts of what is not that `keep` chooses by their number, and
    /// answers how many parts there are.
    fn keep(&mut self, mut keep: impl FnMut(usize) -> bool) -> usize {
        let mut part = 0;
        let mut next = || {
            part += 1;
            keep(part - 1)
        };
        for unsynced in self.unsynced() {
            match unsynced {
                Unsynced::Bytes(inode, at) => {
                    let inode = self.inode(inode);
                    let (_, change) = inode.unsynced[at].clone();
                    change.apply_torn(&mut inode.durable, &mut next);
                }
                Unsynced::Name(dir, at) => {
                    let Some(dir) = self.dirs.get_mut(&dir) else { continue };
                    if next() {
                        dir.unsynced[at].1.apply(&mut dir.durable);
                    }
                }
            }
        }
        part
    }
}

/// Where a change stands.
enum Unsynced {
    Bytes(u64, usize),
    Name(PathBuf, usize),
}

impl SimDisk {
    /// How many parts of what is unsynced a crash may keep or lose, each by itself: the sectors of
    /// writes, cuts of files, and changes of names.
    pub fn unsynced_parts(&self) -> usize {
        self.state().clone().keep(|_| false)
    }

    /// [`SimDisk::crash`], but `keep` chooses what survives: it is asked for every part by its number,
    /// and they are numbered in the order in which they were done. Nothing is drawn.
    pub fn crash_keeping(&self, keep: impl FnMut(usize) -> bool) {
        let mut state = self.state();
        state.keep(keep);
        state.go_down();
    }

    /// Flips a bit of a durable byte, drawn from the seed, as [`SimDisk::flip_bit`] does; answers in
    /// which file and where. `None` when no file with a name holds a byte.
    pub fn rot(&self) -> Option<(PathBuf, usize)> {
        let mut files = self.files();
        files.retain(|file| self.durable_bytes(file) > 0);
        let (file, offset, bit) = {
            let rng = &mut self.state().rng;
            let file = files.get(rng.random_range(0..files.len().max(1)))?.clone();
            (file, rng.random_range(0..usize::MAX), rng.random_range(0..8))
        };
        let offset = offset % self.durable_bytes(&file);
        self.flip_bit(&file, offset, bit).ok().map(|()| (file, offset))
    }

    /// Bytes that the file `path` has on the platters and for its readers alike.
    fn durable_bytes(&self, path: &Path) -> usize {
        let mut state = self.state();
        let Ok(number) = state.find("look at", path) else { return 0 };
        let inode = state.inode(number);
        inode.durable.len().min(inode.visible.len())
    }
}
