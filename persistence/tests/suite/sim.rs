//! The simulated disk keeps D1 to D5, and no more than that.

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

#[test]
fn after_a_failed_sync_of_a_directory_nothing_changes_any_more_until_the_machine_starts_anew() {
    let mut outcomes = BTreeSet::new();
    for seed in 0..60 {
        let disk = disk(seed);
        disk.plant(&path("gone"), b"gone");
        let mut file = disk.open_existing(&path("file")).unwrap();
        disk.remove(&path("gone")).unwrap();
        disk.fail_dir_sync_after(0);
        assert!(disk.sync_dir(Path::new("/d")).is_err());
        disk.create_dir_all(Path::new("/d")).unwrap();
        let refused = [
            disk.sync_dir(Path::new("/d")),
            disk.create_dir_all(Path::new("/e")),
            disk.remove(&path("file")),
            disk.rename(&path("file"), &path("other")),
            disk.create_temp(Path::new("/d")).map(drop),
            disk.open_existing(&path("file")).map(drop),
            disk.lock(Path::new("/d")).map(drop),
            file.write_at(0, b"b"),
            file.sync_data(),
            file.truncate(1),
        ];
        for error in refused.map(Result::unwrap_err) {
            assert_eq!(error.kind(), Some(std::io::ErrorKind::ReadOnlyFilesystem), "{error}");
        }
        assert_eq!(disk.list(Path::new("/d")).unwrap(), ["file"], "reads go on");
        disk.kill();
        assert!(disk.remove(&path("file")).is_err(), "another process is refused as well");
        crash(&disk);
        outcomes.insert(disk.list(Path::new("/d")).unwrap().len());
        disk.sync_dir(Path::new("/d")).unwrap();
    }
    assert_eq!(outcomes, BTreeSet::from([1, 2]), "the old name or the new one");
}

#[test]
fn a_crash_keeps_the_parts_that_are_chosen() {
    let made = || {
        let disk = disk(1);
        disk.plant(&path("gone"), b"gone");
        let mut file = disk.open_existing(&path("file")).unwrap();
        file.write_at(500, &[b'b'; 600]).unwrap();
        disk.remove(&path("gone")).unwrap();
        file.truncate(1050).unwrap();
        disk
    };
    assert_eq!(made().unsynced_parts(), 5, "three sectors, a name, a cut");
    let mut outcomes = BTreeSet::new();
    for mask in 0..32 {
        let disk = made();
        disk.crash_keeping(|part| mask >> part & 1 == 1);
        disk.restart();
        let found = disk.peek(&path("file")).unwrap();
        let sectors = [500, 512, 1024].map(|at| found[at] == b'b');
        assert_eq!(sectors, [0, 1, 2].map(|part| mask >> part & 1 == 1));
        assert_eq!(disk.exists(&path("gone")).unwrap(), mask & 8 == 0);
        assert_eq!(found.len() == 1050, mask & 16 != 0);
        outcomes.insert(found);
    }
    assert_eq!(outcomes.len(), 16);
}

#[test]
fn durable_bits_change_by_themselves_when_they_are_told_to() {
    let disk = disk(3);
    let mut places = BTreeSet::new();
    for _ in 0..50 {
        let before = disk.peek(&path("file")).unwrap();
        let (file, offset) = disk.rot().unwrap();
        let after = disk.peek(&file).unwrap();
        let changed: Vec<usize> = (0..2048).filter(|at| before[*at] != after[*at]).collect();
        assert_eq!(changed, [offset]);
        crash(&disk);
        assert_eq!(disk.peek(&path("file")).unwrap(), after, "on the platters");
        places.insert(offset);
    }
    assert!(places.len() > 40);
    assert_eq!(SimDisk::new(1).rot(), None);
}
