//! Atomic files: whole, checked, and never half replaced.

use std::path::Path;

use quorate_persistence::{
    AtomicReader, Disk, FileError, SimDisk, read_atomic, remove_atomic, write_atomic,
    write_atomic_with,
};

fn path() -> &'static Path {
    Path::new("/data/image")
}

fn disk() -> SimDisk {
    let disk = SimDisk::new(1);
    disk.create_dir_all(Path::new("/data")).unwrap();
    disk
}

#[test]
fn what_was_written_is_read() {
    let disk = disk();
    assert_eq!(read_atomic(&disk, path()).unwrap(), None);
    assert_eq!(read_atomic(&disk, Path::new("/none/such")).unwrap(), None);
    for len in [0, 1, 262_143, 262_144, 262_145, 1_000_000] {
        let content: Vec<u8> = (0..len).map(|at| (at % 253) as u8).collect();
        let bytes = write_atomic(&disk, path(), &content).unwrap();
        assert_eq!(bytes, disk.peek(path()).unwrap().len() as u64);
        assert_eq!(read_atomic(&disk, path()).unwrap().unwrap(), content);
    }
    remove_atomic(&disk, path()).unwrap();
    remove_atomic(&disk, path()).unwrap();
    assert_eq!(read_atomic(&disk, path()).unwrap(), None);
}

#[test]
fn a_small_file_is_one_write_one_sync_one_rename() {
    let disk = disk();
    let before = disk.counters();
    write_atomic(&disk, path(), b"small").unwrap();
    let after = disk.counters();
    assert_eq!(after.operations - before.operations, 5);
    assert_eq!((after.writes - before.writes, after.syncs - before.syncs), (1, 1));
    assert_eq!(after.bytes_stored, 12 + 8 + 5 + 20);
}

#[test]
fn a_streamed_file_is_read_in_chunks() {
    let disk = disk();
    let write = |sink: &mut quorate_persistence::Sink| -> Result<(), FileError> {
        (0..10_000_u32).try_for_each(|number| sink.write(&number.to_be_bytes().repeat(20)))
    };
    write_atomic_with(&disk, path(), write).unwrap();
    let mut reader = AtomicReader::open(&disk, path()).unwrap().unwrap();
    let mut content = Vec::new();
    while let Some(chunk) = reader.next_chunk().unwrap() {
        assert!((1..=262_144).contains(&chunk.len()));
        content.extend(chunk);
    }
    assert_eq!(reader.next_chunk().unwrap(), None);
    assert_eq!(content.len(), 800_000);
    assert_eq!(content[799_999 - 3..], 9_999_u32.to_be_bytes());
}

#[test]
fn a_producer_that_gives_up_changes_nothing() {
    let disk = disk();
    write_atomic(&disk, path(), b"old").unwrap();
    let given_up = FileError::Corrupt { file: "elsewhere".into(), offset: 0, what: "bad" };
    let result = write_atomic_with(&disk, path(), |sink| {
        sink.write(&[1; 300_000])?;
        Err::<(), FileError>(given_up.clone())
    });
    assert_eq!(result, Err(given_up));
    assert_eq!(read_atomic(&disk, path()).unwrap().unwrap(), b"old");
    assert_eq!(disk.files(), [path()], "the temporary file is gone");
}

#[test]
fn every_change_of_the_file_is_found() {
    let disk = disk();
    write_atomic(&disk, path(), &[9; 100]).unwrap();
    let content = disk.peek(path()).unwrap();
    let corrupt = |changed: &[u8]| {
        disk.plant(path(), changed);
        match read_atomic(&disk, path()) {
            Err(FileError::Corrupt { file, offset, .. }) => {
                assert_eq!(file, path());
                offset
            }
            other => panic!("{other:?}"),
        }
    };
    for offset in 0..content.len() {
        for bit in 0..8 {
            let mut changed = content.clone();
            changed[offset] ^= 1 << bit;
            let found = corrupt(&changed) as usize;
            assert!(found <= offset, "changed at {offset}, found at {found}");
        }
        corrupt(&content[..offset]);
    }
    assert_eq!(corrupt(&[&content[..], b"x"].concat()), 120, "the end begins there");
}

#[test]
fn swapped_and_missing_chunks_are_found() {
    let disk = disk();
    let chunk = 256 * 1024;
    let content = [vec![1; chunk], vec![2; chunk], vec![3; 10]].concat();
    write_atomic(&disk, path(), &content).unwrap();
    let file = disk.peek(path()).unwrap();
    let (head, one) = (&file[..12], &file[12..12 + 8 + chunk]);
    let (two, rest) = file[12 + 8 + chunk..].split_at(8 + chunk);
    for changed in [[head, two, one, rest].concat(), [head, one, rest].concat()] {
        disk.plant(path(), &changed);
        assert!(matches!(read_atomic(&disk, path()), Err(FileError::Corrupt { .. })));
    }
}

#[test]
fn a_huge_announced_length_is_refused() {
    let disk = disk();
    write_atomic(&disk, path(), b"content").unwrap();
    let mut file = disk.peek(path()).unwrap();
    file[12..16].copy_from_slice(&u32::MAX.to_le_bytes());
    disk.plant(path(), &file);
    let error = read_atomic(&disk, path()).unwrap_err();
    assert!(error.to_string().contains("/data/image is corrupt at offset 12"), "{error}");
}

#[test]
fn a_newer_format_is_refused_by_name() {
    let disk = disk();
    write_atomic(&disk, path(), b"content").unwrap();
    let mut file = disk.peek(path()).unwrap();
    file[4] = 3;
    let crc = crc32fast::hash(&file[..8]);
    file[8..12].copy_from_slice(&crc.to_le_bytes());
    disk.plant(path(), &file);
    let error = read_atomic(&disk, path()).unwrap_err();
    assert!(matches!(error, FileError::NewerFormat { found: 3, known: 2, .. }), "{error}");
}

#[test]
fn a_full_disk_keeps_the_old_content() {
    let disk = disk();
    write_atomic(&disk, path(), b"old").unwrap();
    let stored = disk.counters().bytes_stored;
    disk.set_bytes_max(Some(stored + 1000));
    let error = write_atomic(&disk, path(), &[1; 5000]).unwrap_err();
    assert!(matches!(&error, FileError::Disk(disk) if disk.is_full()), "{error}");
    assert_eq!(read_atomic(&disk, path()).unwrap().unwrap(), b"old");
    assert_eq!(disk.counters().bytes_stored, stored);
}
