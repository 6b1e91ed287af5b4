//! Crashes after every single disk operation: what was committed is there, and no garbage.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;

use bytes::Bytes;
use quorate_persistence::{
    FileError, Journal, JournalError, JournalOptions, SimDisk, read_atomic, write_atomic,
};
use rand::{Rng, SeedableRng};
use rand_chacha::ChaCha8Rng;

use crate::{OPTIONS, ZERO_FILLED, dir, open_with, segments};

/// What survives is drawn anew this often for every crash point.
const SEEDS: u64 = 24;

/// What the owner of a journal knows: what it was told is durable, and what it has tried.
#[derive(Clone, Default)]
struct Owner {
    /// Every slot's record, as it was appended last.
    slots: BTreeMap<u64, Vec<u8>>,
    appended: u64,
    committed: u64,
    trimmed: u64,
    /// The hard state only grows; its preamble is the number.
    hard: u64,
    hard_committed: u64,
    /// The content of the atomic file, a number too.
    file: u64,
    file_written: u64,
    life: u64,
}

fn hard_record(hard: u64) -> Vec<u8> {
    [&b"H"[..], &hard.to_le_bytes()].concat()
}

fn file_path() -> &'static Path {
    Path::new("/manifest")
}

/// Anything that ends a life.
#[derive(Debug)]
struct Ended;

impl From<JournalError> for Ended {
    fn from(error: JournalError) -> Ended {
        assert!(error.to_string().contains("crashed"), "{error}");
        Ended
    }
}

impl From<FileError> for Ended {
    fn from(error: FileError) -> Ended {
        assert!(error.to_string().contains("crashed"), "{error}");
        Ended
    }
}

impl Owner {
    /// A record for the next slot: short, long, of zeros, or a copy of the journal itself.
    fn append(&mut self, disk: &SimDisk, journal: &mut Journal, script: &mut ChaCha8Rng) {
        let slot = self.appended + 1;
        let mut record = [&b"D"[..], &slot.to_le_bytes(), &self.life.to_le_bytes()].concat();
        match script.random_range(0..12) {
            0..6 => record.resize(script.random_range(17..120), slot as u8),
            6..8 => record.resize(script.random_range(500..900), !slot as u8),
            8 | 9 => record.resize(script.random_range(1100..2600), 0),
            10 => record.resize(5000, 0xee),
            _ => record
                .extend(segments(disk).last().and_then(|file| disk.peek(file)).iter().flatten()),
        }
        journal.append(&record, slot).unwrap();
        self.slots.insert(slot, record);
        self.appended = slot;
    }

    fn commit(&mut self, journal: &mut Journal) -> Result<(), Ended> {
        journal.commit(&hard_record(self.hard))?;
        (self.committed, self.hard_committed) = (self.appended, self.hard);
        // As the journal's actor does; without zeros to fill in it does nothing.
        journal.prepare(300)?;
        Ok(())
    }

    /// One step of the script.
    fn step(
        &mut self,
        disk: &SimDisk,
        journal: &mut Journal,
        script: &mut ChaCha8Rng,
    ) -> Result<(), Ended> {
        match script.random_range(0..12) {
            0..6 => {
                for _ in 0..script.random_range(1..4) {
                    self.append(disk, journal, script);
                }
            }
            6 | 7 => {
                self.hard += 1;
                journal.append(&hard_record(self.hard), 0)?;
            }
            8 => {
                self.trimmed = script.random_range(self.trimmed..=self.committed);
                journal.trim(self.trimmed)?;
                return Ok(());
            }
            9 => {
                journal.roll();
                return Ok(());
            }
            _ => {
                self.file += 1;
                write_atomic(disk, file_path(), &self.file.to_le_bytes())?;
                self.file_written = self.file;
                return Ok(());
            }
        }
        self.commit(journal)
    }

    fn run(
        &mut self,
        disk: &SimDisk,
        options: JournalOptions,
        script: &mut ChaCha8Rng,
        steps: usize,
    ) -> Result<(), Ended> {
        let (mut journal, _) = open_with(disk, options)?;
        for _ in 0..steps {
            self.step(disk, &mut journal, script)?;
        }
        Ok(())
    }

    /// Checks what a recovery has found, and takes it over.
    fn recovered(&mut self, disk: &SimDisk, records: &[Bytes]) {
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
        assert!(self.committed <= last, "{} committed, {last} found", self.committed);
        assert!(last <= self.appended, "{last} found, {} appended", self.appended);
        assert!(self.hard_committed <= hard && hard <= self.hard, "the hard state is {hard}");
        (self.committed, self.appended) = (last, last);
        (self.hard, self.hard_committed) = (hard, hard);

        let file = read_atomic(disk, file_path()).unwrap();
        let file = file.map_or(0, |bytes| u64::from_le_bytes(bytes.try_into().unwrap()));
        assert!(self.file_written <= file && file <= self.file, "the file is {file}");
        (self.file, self.file_written) = (file, file);
        self.life += 1;
    }
}

fn recover(disk: &SimDisk, options: JournalOptions, owner: &mut Owner) -> Vec<Bytes> {
    let (_, records) = open_with(disk, options).unwrap();
    owner.recovered(disk, &records);
    records
}

/// Runs the script up to `operations` disk operations; `None` when it ended before.
fn run_until(
    operations: u64,
    options: JournalOptions,
    script_seed: u64,
) -> Option<(SimDisk, Owner)> {
    let (disk, mut owner) = (SimDisk::new(0), Owner::default());
    disk.crash_after(operations);
    let mut script = ChaCha8Rng::seed_from_u64(script_seed);
    match owner.run(&disk, options, &mut script, 80) {
        Ok(()) => None,
        Err(Ended) => Some((disk, owner)),
    }
}

fn every_crash_point(options: JournalOptions, script_seed: u64) -> u64 {
    for operations in 0.. {
        let Some((stopped, owner)) = run_until(operations, options, script_seed) else {
            return operations;
        };
        for seed in 0..SEEDS {
            let (disk, mut owner) = (stopped.fork(), owner.clone());
            disk.reseed(seed);
            disk.crash();
            disk.restart();
            let first = recover(&disk, options, &mut owner);
            // What recovery answered is durable, whatever happens next.
            disk.crash();
            disk.restart();
            assert_eq!(first, recover(&disk, options, &mut owner), "a second recovery differs");
            let mut script = ChaCha8Rng::seed_from_u64(seed);
            owner.run(&disk, options, &mut script, 4).unwrap();
            disk.crash();
            disk.restart();
            recover(&disk, options, &mut owner);
        }
        // Only the process dies: the next one sees what was unsynced, and then power is lost.
        stopped.kill();
        let mut owner = owner.clone();
        let first = recover(&stopped, options, &mut owner);
        for seed in 0..SEEDS {
            let disk = stopped.fork();
            disk.reseed(seed);
            disk.crash();
            disk.restart();
            assert_eq!(first, recover(&disk, options, &mut owner.clone()), "seen, then lost");
        }
    }
    unreachable!("the script ends")
}

#[test]
fn a_crash_after_every_operation_loses_nothing_committed() {
    let points: u64 = (0..3).map(|script| every_crash_point(OPTIONS, script)).sum();
    assert!(points > 600, "{points} crash points are too few to mean anything");
}

#[test]
fn a_crash_after_every_operation_on_zero_filled_segments_loses_nothing_committed() {
    let points: u64 = (3..6).map(|script| every_crash_point(ZERO_FILLED, script)).sum();
    assert!(points > 600, "{points} crash points are too few to mean anything");
}

/// Many lives on one disk, each ended somewhere, also in the middle of a recovery.
#[test]
fn many_short_lives_lose_nothing_committed() {
    for seed in 0..150 {
        let mut script = ChaCha8Rng::seed_from_u64(1000 + seed);
        let (disk, mut owner) = (SimDisk::new(seed), Owner::default());
        let options = [OPTIONS, ZERO_FILLED][script.random_range(0..2)];
        for _ in 0..25 {
            disk.crash_after(script.random_range(0..90));
            let _ = owner.run(&disk, options, &mut script, 12);
            match script.random_bool(0.7) {
                true => {
                    disk.crash();
                    disk.restart();
                }
                false => disk.kill(),
            }
            disk.crash_after(script.random_range(0..12));
            if let Ok((_, records)) = Journal::open(Arc::new(disk.clone()), dir(), options) {
                drop(records);
            }
            match script.random_bool(0.7) {
                true => {
                    disk.crash();
                    disk.restart();
                }
                false => disk.kill(),
            }
            recover(&disk, options, &mut owner);
        }
    }
}
