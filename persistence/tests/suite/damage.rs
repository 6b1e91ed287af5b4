//! Changed bits are found wherever they are, and user data is not mistaken for the journal.

use bytes::Bytes;
use quorate_persistence::{Disk, JournalError, SimDisk};

use crate::{OPTIONS, ZERO_FILLED, dir, open, open_with, segments};

/// A journal of several segments and its records; the last block is large.
fn filled(options: quorate_persistence::JournalOptions) -> (SimDisk, Vec<Bytes>) {
    let disk = SimDisk::new(1);
    let (mut journal, _) = open_with(&disk, options).unwrap();
    for slot in 1..=9_u64 {
        let byte = if slot % 3 == 0 { 0 } else { slot as u8 };
        journal.append(&vec![byte; 90 * slot as usize], slot).unwrap();
        journal.append(b"second", slot).unwrap();
        journal.commit(b"hard").unwrap();
    }
    drop(journal);
    let (_, records) = open_with(&disk, options).unwrap();
    (disk, records)
}

#[test]
fn every_flipped_bit_of_a_written_block_is_found() {
    for options in [OPTIONS, ZERO_FILLED] {
        let (disk, records) = filled(options);
        let files = segments(&disk);
        assert!(files.len() >= 3, "several segments");
        for file in &files {
            let content = disk.peek(file).unwrap();
            let used = content.iter().rposition(|byte| *byte != 0).unwrap() + 1;
            for offset in 0..content.len() {
                for bit in [0, 3, 7] {
                    let copy = disk.fork();
                    copy.flip_bit(file, offset, bit).unwrap();
                    match open_with(&copy, options) {
                        Err(JournalError::Corrupt { file: named, .. }) => {
                            assert_eq!(&named, file);
                        }
                        Err(other) => panic!("{other}"),
                        // Beyond the last block of a segment nothing is lost.
                        Ok((_, found)) => {
                            assert!(offset >= used, "bit {bit} at {offset} of {file:?} not found");
                            assert_eq!(found, records);
                        }
                    }
                }
            }
        }
    }
}

#[test]
fn every_flipped_byte_is_found_too() {
    let (disk, _) = filled(OPTIONS);
    let last = segments(&disk).pop().unwrap();
    for offset in 0..disk.peek(&last).unwrap().len() {
        let copy = disk.fork();
        (0..8).for_each(|bit| copy.flip_bit(&last, offset, bit).unwrap());
        assert!(matches!(open(&copy), Err(JournalError::Corrupt { .. })), "byte {offset}");
    }
}

#[test]
fn a_damaged_block_is_named_by_file_and_offset() {
    let (disk, _) = filled(OPTIONS);
    let first = segments(&disk).remove(0);
    disk.flip_bit(&first, 80, 0).unwrap();
    let error = open(&disk).unwrap_err();
    let JournalError::Corrupt { file, offset: 32, .. } = &error else { panic!("{error}") };
    assert_eq!(file, &first);
    assert!(error.to_string().contains("00000000000000000001.seg is corrupt at offset 32"));
}

#[test]
fn a_missing_segment_is_found() {
    let (disk, records) = filled(OPTIONS);
    let files = segments(&disk);
    for (index, file) in files.iter().enumerate() {
        let copy = disk.fork();
        copy.remove(file).unwrap();
        match (index, open(&copy)) {
            // Indistinguishable from a trimmed one: the owner's checkpoint knows better.
            (0, found) => assert!(records.ends_with(&found.unwrap().1)),
            (last, found) if last + 1 == files.len() => {
                assert!(records.starts_with(&found.unwrap().1));
            }
            (_, found) => {
                let error = found.unwrap_err().to_string();
                assert!(error.contains("blocks are missing before"), "{error}");
            }
        }
    }
}

#[test]
fn a_segment_cut_short_is_damage_unless_it_is_the_last() {
    let (disk, records) = filled(OPTIONS);
    let files = segments(&disk);
    for (index, file) in files.iter().enumerate() {
        let content = disk.peek(file).unwrap();
        for len in 0..content.len() {
            let copy = disk.fork();
            copy.plant(file, &content[..len]);
            let found = open(&copy);
            if index + 1 < files.len() || len < 32 {
                assert!(matches!(found, Err(JournalError::Corrupt { .. })), "cut to {len}");
            } else {
                let found = found.unwrap().1;
                assert!(records.starts_with(&found));
                assert_eq!(open(&copy).unwrap().1, found);
            }
        }
    }
}

#[test]
fn a_write_that_stopped_at_any_byte_is_torn() {
    for record in [vec![0; 700], vec![7; 700], vec![0, 0, 7, 0, 0]] {
        let disk = SimDisk::new(1);
        let (mut journal, _) = open_with(&disk, ZERO_FILLED).unwrap();
        journal.append(b"kept", 1).unwrap();
        journal.commit(b"").unwrap();
        journal.append(&record, 2).unwrap();
        let bytes = journal.commit(b"").unwrap().bytes as usize;
        let file = segments(&disk).remove(0);
        let content = disk.peek(&file).unwrap();
        let block = 32 + 64;
        for written in 0..bytes {
            let mut stopped = content.clone();
            stopped[block + written..].fill(0);
            disk.plant(&file, &stopped);
            assert_eq!(open_with(&disk, ZERO_FILLED).unwrap().1, [&b"kept"[..]]);
        }
        disk.plant(&file, &content);
        assert_eq!(open_with(&disk, ZERO_FILLED).unwrap().1, [&b"kept"[..], &record]);
    }
}

#[test]
fn a_torn_block_before_a_good_one_is_damage() {
    let disk = SimDisk::new(1);
    let (mut journal, _) = open(&disk).unwrap();
    for slot in 1..=3 {
        journal.append(&[7; 300], slot).unwrap();
        journal.commit(b"").unwrap();
    }
    drop(journal);
    let file = segments(&disk).remove(0);
    let content = disk.peek(&file).unwrap();
    // The second block loses its first sector's share, as a torn write would.
    let block = 32 + 32 + 320;
    let mut lost = content.clone();
    lost[block..512].fill(0);
    disk.plant(&file, &lost);
    let error = open(&disk).unwrap_err();
    let expected = "a bad block before a good one";
    assert!(
        matches!(error, JournalError::Corrupt { offset, what, .. }
            if offset == block as u64 && what == expected),
        "{error}"
    );
    // Without the third block the same is a torn tail.
    lost.truncate(block + 352);
    disk.plant(&file, &lost);
    assert_eq!(open(&disk).unwrap().1, [vec![7; 300]]);
    assert_eq!(disk.peek(&file).unwrap().len(), block, "the tail is cut");
}

#[test]
fn user_data_that_copies_the_journal_is_only_user_data() {
    for seed in 0..200 {
        let disk = SimDisk::new(seed);
        let (mut journal, _) = open(&disk).unwrap();
        let mut records = Vec::new();
        for slot in 1..=4 {
            // The whole journal so far, moved to every alignment that blocks may have.
            let mut copy = vec![0xab; (seed % 64) as usize];
            for file in segments(&disk) {
                copy.extend(disk.peek(&file).unwrap());
            }
            journal.append(&copy, slot).unwrap();
            records.push(copy);
            match slot {
                4 => drop(journal.write(b"").unwrap()),
                _ => drop(journal.commit(b"").unwrap()),
            }
        }
        disk.crash();
        disk.restart();
        let (_, found) = open(&disk).unwrap();
        assert!(found.len() >= 3 && found == records[..found.len()], "seed {seed}");
    }
}

#[test]
fn a_newer_format_is_refused_by_name() {
    let (disk, _) = filled(OPTIONS);
    let file = segments(&disk).remove(0);
    let mut content = disk.peek(&file).unwrap();
    content[4] = 9;
    let crc = crc32fast::hash(&content[..24]);
    content[24..28].copy_from_slice(&crc.to_le_bytes());
    disk.plant(&file, &content);
    let error = open(&disk).unwrap_err();
    assert!(matches!(error, JournalError::NewerFormat { found: 9, known: 1, .. }));
    assert!(error.to_string().contains("journal format 9"), "{error}");
}

#[test]
fn random_bytes_are_refused() {
    for len in [0, 1, 31, 32, 33, 500, 5000] {
        let disk = SimDisk::new(1);
        let bytes: Vec<u8> = (0..len).map(|at: u32| (at * 31 % 251) as u8).collect();
        disk.plant(&dir().join("00000000000000000001.seg"), &bytes);
        assert!(matches!(open(&disk), Err(JournalError::Corrupt { offset: 0, .. })), "{len}");
    }
}
