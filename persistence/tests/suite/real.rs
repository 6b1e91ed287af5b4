//! The same claims on the file system of this machine.

use std::fs;
use std::sync::Arc;

use quorate_persistence::{
    Disk, DiskError, Journal, JournalError, Kind, RealDisk, read_atomic, remove_leftovers,
    write_atomic,
};
use tempfile::TempDir;

use crate::{OPTIONS, ZERO_FILLED};

fn names(dir: &TempDir) -> Vec<String> {
    RealDisk.list(dir.path()).unwrap()
}

#[test]
fn a_journal_goes_round() {
    for options in [OPTIONS, ZERO_FILLED] {
        let dir = TempDir::new().unwrap();
        let path = dir.path().join("groups/g1/journal");
        let disk: Arc<dyn Disk> = Arc::new(RealDisk);
        let mut expected = Vec::new();
        for life in 0..3_u8 {
            let (mut journal, records) = Journal::open(disk.clone(), &path, options).unwrap();
            assert_eq!(records, expected);
            for slot in 0..20 {
                let record = vec![life * 20 + slot; 40 * usize::from(slot)];
                journal.append(&record, u64::from(life * 20 + slot)).unwrap();
                journal.commit(b"").unwrap();
                expected.push(record);
            }
            let stored: u64 = fs::read_dir(&path)
                .unwrap()
                .map(|entry| entry.unwrap().metadata().unwrap().len())
                .sum();
            assert_eq!(journal.stats().bytes_on_disk, stored);
        }
        let (mut journal, _) = Journal::open(disk.clone(), &path, options).unwrap();
        assert!(journal.trim(u64::MAX).unwrap() > 3);
        assert_eq!(RealDisk.list(&path).unwrap().len(), 1);
        let (_, records) = Journal::open(disk, &path, options).unwrap();
        assert!(expected.ends_with(&records.iter().map(|it| it.to_vec()).collect::<Vec<_>>()));
    }
}

#[test]
fn a_torn_tail_is_cut_and_damage_is_told() {
    let dir = TempDir::new().unwrap();
    let disk: Arc<dyn Disk> = Arc::new(RealDisk);
    let (mut journal, _) = Journal::open(disk.clone(), dir.path(), OPTIONS).unwrap();
    for slot in 1..=2 {
        journal.append(&[slot as u8; 600], slot).unwrap();
        journal.commit(b"").unwrap();
    }
    let file = dir.path().join("00000000000000000001.seg");
    let content = fs::read(&file).unwrap();
    fs::write(&file, &content[..content.len() - 100]).unwrap();
    let (_, records) = Journal::open(disk.clone(), dir.path(), OPTIONS).unwrap();
    assert_eq!(records, [vec![1; 600]]);
    let cut = fs::read(&file).unwrap();
    assert!(content.starts_with(&cut));
    assert_eq!(cut.len(), 32 + 32 + 640);

    let mut damaged = content.clone();
    damaged[1000] ^= 1;
    fs::write(&file, &damaged).unwrap();
    let error = Journal::open(disk, dir.path(), OPTIONS).unwrap_err();
    assert!(matches!(error, JournalError::Corrupt { .. }), "{error}");
    assert_eq!(fs::read(&file).unwrap(), damaged, "and nothing is cut");
}

#[test]
fn an_atomic_file_goes_round() {
    let dir = TempDir::new().unwrap();
    let path = dir.path().join("manifest");
    assert_eq!(read_atomic(&RealDisk, &path).unwrap(), None);
    for content in [vec![1; 10], vec![2; 600_000], Vec::new()] {
        write_atomic(&RealDisk, &path, &content).unwrap();
        assert_eq!(read_atomic(&RealDisk, &path).unwrap(), Some(content));
        assert_eq!(names(&dir), ["manifest"]);
    }
}

#[test]
fn a_locked_directory_is_refused() {
    let dir = TempDir::new().unwrap();
    let held = RealDisk.lock(dir.path()).unwrap();
    let in_use = DiskError::InUse { path: dir.path().into() };
    assert_eq!(RealDisk.lock(dir.path()).unwrap_err(), in_use);
    drop(held);
    drop(RealDisk.lock(dir.path()).unwrap());
}

#[test]
fn temporary_files_vanish_and_leftovers_are_removed() {
    let dir = TempDir::new().unwrap();
    let temp = RealDisk.create_temp(dir.path()).unwrap();
    assert!(names(&dir)[0].starts_with(".tmp-"));
    drop(temp);
    assert!(names(&dir).is_empty());
    fs::write(dir.path().join(".tmp-left"), b"half").unwrap();
    fs::write(dir.path().join("whole"), b"whole").unwrap();
    assert_eq!(remove_leftovers(&RealDisk, dir.path()).unwrap(), 1);
    assert_eq!(names(&dir), ["whole"]);
    assert_eq!(remove_leftovers(&RealDisk, &dir.path().join("none")).unwrap(), 0);
}

#[test]
fn files_and_directories_are_what_they_are() {
    let dir = TempDir::new().unwrap();
    let deep = dir.path().join("a/b/c");
    RealDisk.create_dir_all(&deep).unwrap();
    RealDisk.create_dir_all(&deep).unwrap();
    assert_eq!(RealDisk.kind(&deep).unwrap(), Some(Kind::Dir));
    assert!(RealDisk.available_bytes(&deep).unwrap() > 0);
    let file = deep.join("file");
    assert!(!RealDisk.exists(&file).unwrap());
    assert!(RealDisk.read(&file).unwrap_err().is_not_found());
    fs::write(&file, b"0123456789").unwrap();
    assert_eq!(RealDisk.kind(&file).unwrap(), Some(Kind::File));
    assert_eq!(RealDisk.read_at(&file, 7, 100).unwrap(), b"789");
    assert_eq!(RealDisk.read_at(&file, 70, 100).unwrap(), b"");
    let mut handle = RealDisk.open_existing(&file).unwrap();
    handle.truncate(4).unwrap();
    handle.write_at(2, b"xy").unwrap();
    handle.sync_data().unwrap();
    assert_eq!(handle.len().unwrap(), 4);
    assert_eq!(RealDisk.read(&file).unwrap(), b"01xy");
    RealDisk.remove(&file).unwrap();
    RealDisk.sync_dir(&deep).unwrap();
    assert!(RealDisk.list(&deep).unwrap().is_empty());
}
