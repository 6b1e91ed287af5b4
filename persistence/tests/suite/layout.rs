//! The data directory lets in its own node, once, and nobody else.

use std::io::ErrorKind;
use std::path::Path;
use std::sync::Arc;

use quorate_persistence::{
    DataDir, Disk, Expected, FileError, LayoutError, Numbered, RealDisk, SimDisk,
};

fn path() -> &'static Path {
    Path::new("/srv/node")
}

fn node(cluster_id: &str, node: u32, initial: bool) -> Expected {
    Expected { cluster_id: cluster_id.into(), node, incarnation: 77, initial }
}

fn sim() -> (SimDisk, Arc<dyn Disk>) {
    let disk = SimDisk::new(1);
    (disk.clone(), Arc::new(disk))
}

#[test]
fn a_directory_is_made_once_and_opened_ever_after() {
    let (_, disk) = sim();
    let made = DataDir::open(&disk, path(), &node("blue", 1, true)).unwrap();
    assert!(made.is_new());
    drop(made);
    for initial in [true, false] {
        let again = Expected { incarnation: 78, ..node("blue", 1, initial) };
        let opened = DataDir::open(&disk, path(), &again).unwrap();
        assert!(!opened.is_new());
        assert_eq!(opened.identity().incarnation, 77, "the incarnation is the first one");
        assert_eq!(opened.journal(3), Path::new("/srv/node/groups/g3/journal"));
        assert_eq!(opened.checkpoint(3), Path::new("/srv/node/groups/g3/checkpoint"));
        assert_eq!(opened.peers(), Path::new("/srv/node/peers"));
    }
}

#[test]
fn an_owner_of_the_wrong_name_is_refused_by_name() {
    let (_, disk) = sim();
    drop(DataDir::open(&disk, path(), &node("blue", 1, true)).unwrap());
    let error = DataDir::open(&disk, path(), &node("red", 1, true)).unwrap_err();
    assert!(matches!(error, LayoutError::OtherCluster { .. }));
    assert!(error.to_string().contains("belongs to cluster blue, this node to red"), "{error}");
    let error = DataDir::open(&disk, path(), &node("blue", 2, true)).unwrap_err();
    assert!(matches!(error, LayoutError::OtherNode { found: 1, expected: 2, .. }));
    assert!(error.to_string().contains("belongs to node 1, this is node 2"), "{error}");
    DataDir::open(&disk, path(), &node("blue", 1, true)).expect("a refused one holds no lock");
}

#[test]
fn a_second_owner_is_refused_until_the_first_is_gone() {
    let dir = tempfile::TempDir::new().unwrap();
    let real: Arc<dyn Disk> = Arc::new(RealDisk);
    for (disk, path) in [(sim().1, path()), (real, dir.path())] {
        let first = DataDir::open(&disk, path, &node("blue", 1, true)).unwrap();
        let error = DataDir::open(&disk, path, &node("blue", 1, true)).unwrap_err();
        assert_eq!(error, LayoutError::InUse { path: path.into() });
        assert!(error.to_string().contains("in use by another process"), "{error}");
        drop(first);
        DataDir::open(&disk, path, &node("blue", 1, false)).unwrap();
    }
}

#[test]
fn a_blank_directory_is_not_taken_for_a_founders() {
    let (_, disk) = sim();
    let later = DataDir::open(&disk, path(), &node("blue", 1, false)).unwrap();
    assert!(later.is_new() && !later.identity().founder);
    drop(later);
    // What it is stands in it, whatever is said of the cluster.
    let again = DataDir::open(&disk, path(), &node("blue", 1, true)).unwrap();
    assert!(!again.is_new() && !again.identity().founder);
    let (_, disk) = sim();
    let first = DataDir::open(&disk, path(), &node("blue", 1, true)).unwrap();
    assert!(first.is_new() && first.identity().founder);
}

#[test]
fn a_lost_identity_is_not_made_again_over_data() {
    let (sim, disk) = sim();
    drop(DataDir::open(&disk, path(), &node("blue", 1, true)).unwrap());
    sim.plant(Path::new("/srv/node/groups/g1/journal/1.seg"), b"data");
    disk.remove(Path::new("/srv/node/identity")).unwrap();
    for initial in [true, false] {
        let error = DataDir::open(&disk, path(), &node("blue", 1, initial)).unwrap_err();
        assert!(matches!(&error, LayoutError::NoIdentity { found, .. } if found == "groups"));
        assert!(error.to_string().contains("set it aside"), "{error}");
    }
}

#[test]
fn a_file_in_place_of_the_directory_is_told() {
    let (sim, disk) = sim();
    sim.plant(path(), b"a file");
    let error = DataDir::open(&disk, path(), &node("blue", 1, true)).unwrap_err();
    assert_eq!(error, LayoutError::NotADirectory { path: path().into() });

    let dir = tempfile::TempDir::new().unwrap();
    let file = dir.path().join("file");
    std::fs::write(&file, b"a file").unwrap();
    let real: Arc<dyn Disk> = Arc::new(RealDisk);
    for path in [file.clone(), file.join("below")] {
        let error = DataDir::open(&real, &path, &node("blue", 1, true)).unwrap_err();
        assert!(matches!(error, LayoutError::NotADirectory { .. }), "{error}");
    }
}

#[test]
fn a_directory_that_cannot_be_written_is_told() {
    for kind in [ErrorKind::PermissionDenied, ErrorKind::ReadOnlyFilesystem] {
        for operation in 0..5 {
            let (sim, disk) = sim();
            sim.fail_after(operation, kind);
            let error = DataDir::open(&disk, path(), &node("blue", 1, true)).unwrap_err();
            assert!(matches!(error, LayoutError::NotWritable { .. }), "{operation}: {error:?}");
            assert!(error.to_string().contains("make it writable"), "{error}");
        }
    }
}

#[test]
fn a_file_system_that_takes_no_change_any_more_and_a_full_one_are_told() {
    let (sim, disk) = sim();
    drop(DataDir::open(&disk, path(), &node("blue", 1, true)).unwrap());
    sim.fail_dir_sync_after(0);
    sim.sync_dir(path()).unwrap_err();
    let error = DataDir::open(&disk, path(), &node("blue", 1, false)).unwrap_err();
    assert!(matches!(error, LayoutError::NotWritable { .. }), "{error:?}");
    let text = error.to_string();
    assert!(text.contains("read-only") && text.contains("make it writable"), "{text}");

    let full = SimDisk::new(2);
    full.set_bytes_max(Some(0));
    let disk: Arc<dyn Disk> = Arc::new(full.clone());
    let error = DataDir::open(&disk, path(), &node("blue", 1, true)).unwrap_err();
    assert!(error.to_string().contains("no room on the disk for /srv/node/"), "{error}");
    full.set_bytes_max(None);
    DataDir::open(&disk, path(), &node("blue", 1, true)).expect("nothing is left of the attempt");
}

#[test]
fn a_damaged_or_newer_identity_is_refused() {
    let (sim, disk) = sim();
    let file = path().join("identity");
    drop(DataDir::open(&disk, path(), &node("blue", 1, true)).unwrap());
    let content = sim.peek(&file).unwrap();
    for offset in 0..content.len() {
        sim.flip_bit(&file, offset, 2).unwrap();
        let error = DataDir::open(&disk, path(), &node("blue", 1, true)).unwrap_err();
        assert!(matches!(error, LayoutError::File(FileError::Corrupt { .. })), "{error}");
        sim.flip_bit(&file, offset, 2).unwrap();
    }
    let newer = [&[0x81, 0xa6][..], b"format", &[7]].concat();
    quorate_persistence::write_atomic(&sim, &file, &newer).unwrap();
    let error = DataDir::open(&disk, path(), &node("blue", 1, true)).unwrap_err();
    assert!(matches!(error, LayoutError::File(FileError::NewerFormat { found: 7, .. })), "{error}");
}

#[test]
fn leftovers_are_removed_at_the_start() {
    let (sim, disk) = sim();
    drop(DataDir::open(&disk, path(), &node("blue", 1, true)).unwrap());
    for dir in ["", "groups", "groups/g1", "groups/g1/journal", "groups/g2/checkpoint"] {
        sim.plant(&path().join(dir).join(".tmp-left"), b"half");
    }
    let kept = path().join("groups/g1/journal/00000000000000000001.seg");
    sim.plant(&kept, b"whole");
    drop(DataDir::open(&disk, path(), &node("blue", 1, true)).unwrap());
    assert_eq!(sim.files(), [path().join("identity"), kept]);
}

#[test]
fn a_crash_while_the_directory_is_made_leaves_a_blank_or_a_whole_one() {
    for operations in 0..30 {
        for seed in 0..40 {
            let disk = SimDisk::new(seed);
            let shared: Arc<dyn Disk> = Arc::new(disk.clone());
            disk.crash_after(operations);
            let made = DataDir::open(&shared, path(), &node("blue", 1, true)).is_ok();
            disk.crash();
            disk.restart();
            let again = Expected { incarnation: 78, ..node("blue", 1, false) };
            let opened = DataDir::open(&shared, path(), &again).unwrap();
            let incarnation = if opened.identity().founder { 77 } else { 78 };
            assert_eq!(opened.identity().incarnation, incarnation);
            assert!(opened.identity().founder || !made, "a founder for ever");
        }
    }
}

#[test]
fn a_checkpoint_of_an_earlier_version_is_refused_by_name() {
    let (disk, dyn_disk) = sim();
    drop(DataDir::open(&dyn_disk, path(), &node("blue", 1, true)).unwrap());
    disk.plant(&path().join("groups/g1/checkpoint"), b"one file of all");
    let error = DataDir::open(&dyn_disk, path(), &node("blue", 1, true)).unwrap_err();
    assert!(matches!(error, LayoutError::OldCheckpoint { .. }));
    let text = error.to_string();
    assert!(text.contains("groups/g1/checkpoint is a checkpoint of format 2 or older"), "{text}");
    assert!(text.contains("start the version that wrote it"), "{text}");
}

#[test]
fn names_of_checkpoints_say_their_index() {
    for file in [Numbered::Checkpoint(0), Numbered::Checkpoint(70), Numbered::Incoming(u64::MAX)] {
        let path = file.path(Path::new("/dir"));
        assert_eq!(Numbered::of(path.file_name().unwrap().to_str().unwrap()), Some(file));
    }
    for other in ["checkpoint", "checkpoint-", "checkpoint-07", "checkpoint-+7", ".tmp-000001"] {
        assert_eq!(Numbered::of(other), None, "{other}");
    }
}
