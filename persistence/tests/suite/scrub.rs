//! The scrub finds what has changed, wherever nobody reads, and tells nothing else.

use std::{
    path::{Path, PathBuf},
    sync::{Arc, Mutex},
    time::Duration,
};

use quorate_persistence::{
    Damage, DataDir, Disk, FilesActor, Journal, Numbered, Scrub, SimDisk, write_atomic,
};
use quorate_stage::Outlet;

use crate::{OPTIONS, desk::Desk, segments};

const STEP: u64 = 100_000;

/// A data directory with a journal of several segments and a checkpoint of several steps.
fn filled() -> (SimDisk, PathBuf) {
    let disk = SimDisk::new(1);
    let dir = DataDir::journal_in(Path::new("/data"), 3);
    let (mut journal, _) = Journal::open(Arc::new(disk.clone()), &dir, OPTIONS).unwrap();
    for slot in 1..=12_u64 {
        journal.append(&[slot as u8; 500], slot).unwrap();
        journal.commit(b"hard").unwrap();
    }
    let checkpoints = Path::new("/data/groups/g3/checkpoint");
    disk.create_dir_all(checkpoints).unwrap();
    let checkpoint = Numbered::Checkpoint(7).path(checkpoints);
    write_atomic(&disk, &checkpoint, &[5; 900_000]).unwrap();
    (disk, checkpoint)
}

/// What a scrub of two rounds tells.
fn scrubbed(disk: &SimDisk) -> Vec<Damage> {
    let found: Arc<Mutex<Vec<Damage>>> = Arc::default();
    let told = found.clone();
    let make = move |disk: Arc<dyn Disk>| {
        let told = told.clone();
        let report = Outlet::from_fn(move |_, damage| told.lock().unwrap().push(damage));
        let scrub = Scrub::new(Path::new("/data"), Duration::from_secs(1), report);
        FilesActor::new(disk, STEP, Duration::ZERO).scrubbing(scrub)
    };
    Desk::with(disk, make, async |desk| {
        for _ in 0..4 {
            desk.sleep().await;
        }
        assert!(desk.fatals.lock().unwrap().is_empty());
    });
    let found = found.lock().unwrap();
    found.clone()
}

#[test]
fn a_flipped_bit_is_told_with_its_file_and_offset_and_nothing_is_changed() {
    let (disk, checkpoint) = filled();
    let closed = segments(&disk);
    assert!(closed.len() >= 3, "several segments");
    assert_eq!(scrubbed(&disk.fork()), [], "nothing is wrong");
    for (file, offset) in [(&closed[0], 5), (&closed[1], 700), (&checkpoint, 600_000)] {
        let copy = disk.fork();
        copy.flip_bit(file, offset, 3).unwrap();
        let before: Vec<_> = copy.files().iter().map(|file| copy.peek(file)).collect();
        let told = scrubbed(&copy);
        assert!(told.len() >= 2, "in each round: {told:?}");
        for damage in told {
            assert_eq!(&damage.path, file);
            assert!(damage.offset <= offset as u64 && offset as u64 <= damage.offset + 300_000);
            assert!(damage.to_string().contains("is damaged at offset"), "{damage}");
        }
        assert_eq!(copy.files().iter().map(|file| copy.peek(file)).collect::<Vec<_>>(), before);
    }
    // The last segment is being written: whoever opens it looks.
    let copy = disk.fork();
    copy.flip_bit(closed.last().unwrap(), 50, 3).unwrap();
    assert_eq!(scrubbed(&copy), []);
}

#[test]
fn a_file_that_is_removed_meanwhile_is_not_damaged_and_one_that_cannot_be_read_is() {
    let (disk, checkpoint) = filled();
    let copy = disk.fork();
    copy.remove(&checkpoint).unwrap();
    assert_eq!(scrubbed(&copy), []);
    let copy = disk.fork();
    copy.plant(&checkpoint, b"QRAF");
    assert!(!scrubbed(&copy).is_empty());
}
