//! The simulated disk keeps D1 to D4, and no more than that.

use std::collections::BTreeSet;
use std::path::Path;
use std::time::Duration;

use quorate_persistence::{Disk, DiskError, SimDisk};

fn path(name: &str) -> std::path::PathBuf {
    Path::new("/d").join(name)
}

/// A disk with the durable file `/d/file` of 2048 bytes `a`.
fn disk(seed: u64) -> SimDisk {
    let disk = SimDisk::new(seed);
    disk.plant(&path("file"), &[b'a'; 2048]);
    disk
}

fn crash(disk: &SimDisk) {
    disk.crash();
    disk.restart();
}

#[test]
fn synced_bytes_survive_and_unsynced_ones_survive_sector_by_sector() {
    let mut outcomes = BTreeSet::new();
    for seed in 0..400 {
        let disk = disk(seed);
        let mut file = disk.open_existing(&path("file")).unwrap();
        file.write_at(0, b"synced").unwrap();
        file.sync_data().unwrap();
        file.write_at(500, &[b'b'; 1100]).unwrap();
        file.write_at(1800, &[b'c'; 400]).unwrap();
        crash(&disk);
        let found = disk.peek(&path("file")).unwrap();
        assert!(found.starts_with(b"synced"));
        // The sectors' shares of the two writes.
        let shares = [500..512, 512..1024, 1024..1536, 1536..1600, 1800..2048, 2048..2200];
        let kept = shares.map(|share| {
            let part = found.get(share).unwrap_or(&[0]);
            assert!(part.iter().all(|byte| *byte == part[0]), "a sector is whole");
            part[0]
        });
        outcomes.insert(kept);
    }
    assert!(outcomes.len() > 30, "{} different outcomes", outcomes.len());
    assert!(outcomes.contains(b"aaaacc"), "later ones only");
    assert!(outcomes.contains(b"bbbbcc") && outcomes.contains(b"aaaaa\0"));
}

#[test]
fn names_survive_when_the_directory_was_synced_and_otherwise_perhaps() {
    let mut outcomes = BTreeSet::new();
    for seed in 0..200 {
        let disk = disk(seed);
        let mut temp = disk.create_temp(Path::new("/d")).unwrap();
        temp.write_at(0, b"new").unwrap();
        temp.sync_data().unwrap();
        temp.persist(&path("file")).unwrap();
        disk.plant(&path("gone"), b"gone");
        disk.remove(&path("gone")).unwrap();
        let synced = seed % 2 == 0;
        if synced {
            disk.sync_dir(Path::new("/d")).unwrap();
        }
        assert_eq!(disk.read(&path("file")).unwrap(), b"new");
        crash(&disk);
        let found = disk.read(&path("file")).unwrap();
        assert!(found == b"new" || found == [b'a'; 2048], "old or new, never mixed");
        let gone = !disk.exists(&path("gone")).unwrap();
        assert!(!synced || (found == b"new" && gone));
        outcomes.insert((synced, found.len(), gone));
    }
    assert_eq!(outcomes.len(), 1 + 4);
}

#[test]
fn a_crashed_disk_answers_nothing_until_it_is_restarted() {
    let disk = disk(1);
    let mut file = disk.open_existing(&path("file")).unwrap();
    let lock = disk.lock(Path::new("/d")).unwrap();
    assert!(matches!(disk.lock(Path::new("/d")), Err(DiskError::InUse { .. })));
    disk.crash_after(2);
    file.write_at(0, b"x").unwrap();
    file.sync_data().unwrap();
    assert_eq!(file.write_at(1, b"y"), Err(DiskError::Crashed));
    assert!(disk.is_stopped());
    disk.restart();
    assert_eq!(disk.read(&path("file")), Err(DiskError::Crashed), "it did not crash yet");
    disk.crash();
    assert_eq!(disk.read(&path("file")), Err(DiskError::Crashed));
    disk.restart();
    assert_eq!(disk.read(&path("file")).unwrap()[..2], *b"xa");
    assert_eq!(file.write_at(1, b"y"), Err(DiskError::Crashed), "a handle of an earlier life");
    let again = disk.lock(Path::new("/d")).unwrap();
    drop(lock);
    assert!(disk.lock(Path::new("/d")).is_err(), "an old guard does not open a new lock");
    drop(again);
    disk.lock(Path::new("/d")).unwrap();
}

#[test]
fn the_same_seed_gives_the_same_disk() {
    let run = |seed| {
        let disk = disk(seed);
        disk.set_sync_delay(Duration::from_micros(50)..=Duration::from_millis(5));
        let mut found = Vec::new();
        for round in 0..20 {
            let mut file = disk.open_existing(&path("file")).unwrap();
            file.write_at(round * 97, &[round as u8; 900]).unwrap();
            found.push((disk.sync_delay(), disk.peek(&path("file"))));
            crash(&disk);
        }
        (found, disk.counters())
    };
    assert_eq!(run(5), run(5));
    assert_ne!(run(5), run(6));
    assert_eq!(disk(5).sync_delay(), Duration::ZERO, "no delay by default");
}

#[test]
fn a_failed_sync_is_not_made_good_by_a_later_one() {
    let lost = (0..100).filter(|seed| {
        let disk = disk(*seed);
        let mut file = disk.open_existing(&path("file")).unwrap();
        file.write_at(0, b"b").unwrap();
        disk.fail_sync_after(0);
        assert!(file.sync_data().is_err());
        file.sync_data().unwrap();
        assert_eq!(disk.read(&path("file")).unwrap()[0], b'b', "readers still see it");
        crash(&disk);
        disk.read(&path("file")).unwrap()[0] == b'a'
    });
    assert!(lost.count() > 20);
}

#[test]
fn a_full_disk_takes_what_fits() {
    let disk = disk(1);
    disk.set_bytes_max(Some(3000));
    assert_eq!(disk.available_bytes(Path::new("/d")).unwrap(), 952);
    let mut file = disk.open_existing(&path("file")).unwrap();
    file.write_at(0, &[b'b'; 2048]).unwrap();
    assert!(file.write_at(2000, &[b'c'; 1001]).unwrap_err().is_full());
    assert_eq!(file.len().unwrap(), 3000);
    file.truncate(100).unwrap();
    file.write_at(100, &[b'd'; 1000]).unwrap();
    assert_eq!(disk.counters().bytes_stored, 1100);
    assert_eq!((disk.counters().writes, disk.counters().bytes_written), (3, 2048 + 1000 + 1000));
}

#[test]
fn an_injected_error_happens_once_and_does_nothing() {
    let disk = disk(1);
    disk.fail_after(1, std::io::ErrorKind::PermissionDenied);
    disk.read(&path("file")).unwrap();
    let error = disk.remove(&path("file")).unwrap_err();
    assert_eq!(error.kind(), Some(std::io::ErrorKind::PermissionDenied));
    assert!(error.to_string().contains("cannot remove /d/file"), "{error}");
    assert!(disk.exists(&path("file")).unwrap());
    assert!(disk.flip_bit(&path("none"), 0, 0).is_err());
    assert!(disk.flip_bit(&path("file"), 9999, 0).is_err());
}
