//! The journal in daily life: what it writes, when it rolls and trims, how it fails.

use std::io::ErrorKind;

use quorate_persistence::{Journal, JournalError, JournalOptions, SimDisk};

use crate::{OPTIONS, ZERO_FILLED, open, open_with, segments};

fn commit(journal: &mut Journal, record: &[u8], mark: u64) -> Result<u64, JournalError> {
    journal.append(record, mark)?;
    Ok(journal.commit(b"hard")?.bytes)
}

#[test]
fn one_commit_is_one_write_and_one_sync() {
    let disk = SimDisk::new(1);
    let (mut journal, _) = open(&disk).unwrap();
    commit(&mut journal, b"first", 1).unwrap();
    let before = disk.counters();
    for slot in 2..10 {
        journal.append(b"record", slot).unwrap();
    }
    assert_eq!(disk.counters(), before, "nothing is written before the commit");
    let bytes = journal.commit(b"hard").unwrap().bytes;
    let after = disk.counters();
    assert_eq!(after.operations, before.operations + 2);
    assert_eq!((after.writes, after.syncs), (before.writes + 1, before.syncs + 1));
    assert_eq!(after.bytes_written, before.bytes_written + bytes);
    assert_eq!(bytes, 32 + 160, "eight records of six bytes, framed");
}

#[test]
fn records_come_back_in_order_with_the_preamble_first_in_each_segment() {
    for options in [OPTIONS, ZERO_FILLED] {
        let disk = SimDisk::new(1);
        let (mut journal, records) = open_with(&disk, options).unwrap();
        assert!(records.is_empty());
        for slot in 0..40_u64 {
            journal.append(&[slot as u8; 100], slot).unwrap();
            journal.commit(&[200 + (slot % 50) as u8]).unwrap();
        }
        assert_eq!(journal.stats().segments, segments(&disk).len());
        assert_eq!(journal.stats().bytes_on_disk, disk.counters().bytes_stored);
        let (journal, records) = open_with(&disk, options).unwrap();
        assert_eq!(journal.stats().bytes_on_disk, disk.counters().bytes_stored);
        let preambles = records.iter().filter(|record| record.len() == 1).count();
        assert_eq!(preambles, segments(&disk).len());
        assert_eq!(records[0][..], [200], "the first segment begins with a preamble too");
        let data: Vec<u8> =
            records.iter().filter(|record| record.len() == 100).map(|record| record[0]).collect();
        assert_eq!(data, (0..40).collect::<Vec<u8>>());
    }
}

/// But for the last segment, which is written again as it was read.
#[test]
fn an_idle_restart_writes_nothing_new() {
    for options in [OPTIONS, ZERO_FILLED] {
        let disk = SimDisk::new(1);
        let (mut journal, _) = open_with(&disk, options).unwrap();
        commit(&mut journal, &[1; 100], 1).unwrap();
        let before = (disk.files(), disk.counters().bytes_stored);
        for _ in 0..3 {
            let (mut journal, records) = open_with(&disk, options).unwrap();
            assert_eq!(records, [&b"hard"[..], &[1; 100]]);
            assert_eq!(journal.commit(b"hard").unwrap().bytes, 0, "nothing was appended");
            assert_eq!((disk.files(), disk.counters().bytes_stored), before);
        }
        let (mut journal, _) = open_with(&disk, options).unwrap();
        commit(&mut journal, &[2; 100], 2).unwrap();
        assert_eq!(segments(&disk).len(), 2, "the first commit begins a segment");
    }
}

/// A sync fails and throws a block away, and the process is gone before it can cut that block off:
/// the next one reads it all the same, and so has to write it.
#[test]
fn what_a_failed_sync_has_lost_and_is_still_read_is_written_again() {
    let mut lost = 0;
    for seed in 0..20 {
        let disk = SimDisk::new(seed);
        let (mut journal, _) = open_with(&disk, OPTIONS).unwrap();
        commit(&mut journal, &[1; 100], 1).unwrap();
        journal.append(&[2; 100], 2).unwrap();
        journal.write(b"hard").unwrap();
        disk.fail_sync_after(0);
        // The write is done, the sync fails, and so does what would undo it.
        disk.fail_after(1, std::io::ErrorKind::Other);
        assert!(journal.sync().is_err());
        disk.kill();
        let (_, records) = open_with(&disk, OPTIONS).unwrap();
        let read = records.contains(&vec![2; 100].into());
        disk.crash();
        disk.restart();
        let (_, after) = open_with(&disk, OPTIONS).unwrap();
        assert_eq!(records, after, "seed {seed}: what was read once must stay");
        lost += u64::from(read);
    }
    assert!(lost > 0, "the block was never there to be read");
}

/// The disk is full, so a block is written in part; the sync that is to make the cut of it durable
/// fails, and loses the cut. The next process begins a segment behind what it can read, and after a
/// loss of power there is something behind the former one's last block.
#[test]
fn what_a_failed_sync_leaves_behind_the_last_block_is_nothing() {
    let mut left = 0;
    for seed in 0..40 {
        let disk = SimDisk::new(seed);
        let (mut journal, _) = open_with(&disk, OPTIONS).unwrap();
        commit(&mut journal, &[1; 100], 1).unwrap();
        disk.set_bytes_max(Some(disk.counters().bytes_stored + 70));
        disk.fail_sync_after(0);
        journal.append(&[2; 100], 2).unwrap();
        assert!(journal.commit(b"hard").is_err());
        disk.kill();
        disk.set_bytes_max(None);
        let (mut journal, records) = open_with(&disk, OPTIONS).unwrap();
        commit(&mut journal, &[3; 100], 3).unwrap();
        disk.crash();
        disk.restart();
        let (_, after) = open_with(&disk, OPTIONS).unwrap();
        assert_eq!(after[..records.len()], records, "seed {seed}");
        assert_eq!(after.last().map(|record| &record[..]), Some(&[3; 100][..]));
        let first = disk.peek(&segments(&disk)[0]).unwrap();
        left += u64::from(first.contains(&2));
    }
    assert!(left > 0, "nothing was ever left behind");
}

#[test]
fn a_journal_may_live_on_another_thread() {
    fn is_send<T: Send>(_: &T) {}
    is_send(&open(&SimDisk::new(1)).unwrap().0);
}

#[test]
fn a_missing_directory_is_made_by_the_first_commit() {
    let disk = SimDisk::new(1);
    let (mut journal, _) = open(&disk).unwrap();
    assert!(disk.files().is_empty());
    assert_eq!(journal.commit(b"hard").unwrap().bytes, 0);
    assert!(disk.files().is_empty());
    commit(&mut journal, b"record", 1).unwrap();
    assert_eq!(segments(&disk).len(), 1);
}

#[test]
fn trimming_drops_whole_segments_from_the_front_but_never_the_last() {
    let disk = SimDisk::new(1);
    let (mut journal, _) = open(&disk).unwrap();
    for slot in 1..=30 {
        commit(&mut journal, &[1; 300], slot).unwrap();
    }
    let all = segments(&disk).len();
    assert!(journal.bytes_since_trim() > 30 * 300);
    assert_eq!(journal.trim(0).unwrap(), 0);
    assert_eq!(journal.bytes_since_trim(), 0);
    let dropped = journal.trim(15).unwrap();
    assert!(0 < dropped && dropped < all - 1, "{dropped} of {all}");
    assert_eq!(segments(&disk).len(), all - dropped);

    // The marks are known again after a restart, and the last segment stays although a mark
    // above everything is given: it holds the hard state.
    let (mut journal, records) = open(&disk).unwrap();
    assert_eq!(records[0], &b"hard"[..]);
    assert!(journal.live_bytes() > 0 && journal.bytes_since_trim() == journal.live_bytes());
    journal.trim(15).unwrap();
    assert_eq!(segments(&disk).len(), all - dropped);
    journal.trim(u64::MAX).unwrap();
    assert_eq!(segments(&disk).len(), 1);

    // Once another segment holds a commit, the former can go.
    commit(&mut journal, b"record", 31).unwrap();
    journal.trim(30).unwrap();
    assert_eq!(segments(&disk).len(), 1);
    assert_eq!(open(&disk).unwrap().1, [&b"hard"[..], b"record"]);
}

#[test]
fn rolling_lets_a_checkpoint_drop_everything_before_it() {
    let disk = SimDisk::new(1);
    let (mut journal, _) = open(&disk).unwrap();
    commit(&mut journal, &[1; 300], 5).unwrap();
    journal.roll();
    journal.append(b"after", 6).unwrap();
    journal.write(b"hard").unwrap();
    assert_eq!(journal.trim(5).unwrap(), 0, "the block after it is not durable yet");
    journal.sync().unwrap();
    assert_eq!(journal.trim(5).unwrap(), 1);
    assert_eq!(open(&disk).unwrap().1, [&b"hard"[..], b"after"]);
}

#[test]
fn a_record_larger_than_a_segment_gets_one_of_its_own_size() {
    for options in [OPTIONS, ZERO_FILLED] {
        let disk = SimDisk::new(1);
        let (mut journal, _) = open_with(&disk, options).unwrap();
        let large = vec![5; 10_000];
        commit(&mut journal, b"small", 1).unwrap();
        commit(&mut journal, &large, 2).unwrap();
        commit(&mut journal, b"small", 3).unwrap();
        assert_eq!(segments(&disk).len(), 3);
        let len = disk.peek(&segments(&disk)[1]).unwrap().len();
        assert!(len < 10_000 + 128, "{len}");
        let (_, records) = open_with(&disk, options).unwrap();
        let hard = &b"hard"[..];
        assert_eq!(records, [hard, b"small", hard, &large, hard, b"small"]);
    }
}

#[test]
fn too_large_a_record_is_refused_and_the_rest_goes_on() {
    let disk = SimDisk::new(1);
    let (mut journal, _) = open(&disk).unwrap();
    journal.append(b"before", 1).unwrap();
    let huge = vec![0; quorate_persistence::journal::COMMIT_BYTES_MAX];
    assert!(matches!(journal.append(&huge, 2), Err(JournalError::TooLarge { .. })));
    assert!(matches!(journal.commit(&huge), Err(JournalError::TooLarge { .. })));
    journal.commit(b"").unwrap();
    assert_eq!(open(&disk).unwrap().1, [&b"before"[..]]);
}

#[test]
#[should_panic(expected = "J2")]
fn a_second_block_before_the_sync_of_the_first_is_a_bug_of_the_owner() {
    let disk = SimDisk::new(1);
    let (mut journal, _) = open(&disk).unwrap();
    for slot in 1..=2 {
        journal.append(b"record", slot).unwrap();
        journal.write(b"").unwrap();
    }
}

#[test]
fn records_appended_between_write_and_sync_belong_to_the_next_commit() {
    let disk = SimDisk::new(1);
    let (mut journal, _) = open(&disk).unwrap();
    journal.append(b"one", 1).unwrap();
    journal.write(b"").unwrap();
    journal.append(b"two", 2).unwrap();
    journal.sync().unwrap();
    assert!(journal.buffered_bytes() > 0);
    disk.crash();
    disk.restart();
    assert_eq!(open(&disk).unwrap().1, [&b"one"[..]]);
}

#[test]
fn a_failed_sync_poisons_and_is_never_tried_again() {
    for seed in 0..100 {
        let disk = SimDisk::new(seed);
        let (mut journal, _) = open(&disk).unwrap();
        commit(&mut journal, b"kept", 1).unwrap();
        disk.fail_sync_after(0);
        let error = commit(&mut journal, b"lost", 2).unwrap_err();
        assert!(error.to_string().contains("cannot sync"), "{error}");
        let syncs = disk.counters().syncs;
        assert_eq!(journal.sync().unwrap_err(), error);
        assert_eq!(journal.append(b"more", 3).unwrap_err(), error);
        assert_eq!(journal.commit(b"").unwrap_err(), error);
        assert_eq!(journal.trim(3).unwrap_err(), error);
        assert_eq!(disk.counters().syncs, syncs);
        drop(journal);

        // The next process must not take for durable what it can still see.
        disk.kill();
        let (_, seen) = open(&disk).unwrap();
        assert_eq!(seen, [&b"hard"[..], b"kept"]);
        disk.crash();
        disk.restart();
        assert_eq!(open(&disk).unwrap().1, seen);
    }
}

#[test]
fn any_failed_operation_of_a_commit_poisons() {
    for options in [OPTIONS, ZERO_FILLED] {
        for operation in 0.. {
            let disk = SimDisk::new(1);
            let (mut journal, _) = open_with(&disk, options).unwrap();
            commit(&mut journal, b"kept", 1).unwrap();
            journal.roll();
            disk.fail_after(operation, ErrorKind::Other);
            let Err(error) = commit(&mut journal, b"lost", 2) else {
                assert!(operation >= 7, "create, write, sync, rename, sync, write, sync");
                break;
            };
            assert_eq!(commit(&mut journal, b"more", 3).unwrap_err(), error);
            drop(journal);
            disk.kill();
            assert_eq!(open_with(&disk, options).unwrap().1, [&b"hard"[..], b"kept"]);
        }
    }
}

#[test]
fn a_full_disk_refuses_and_goes_on_when_there_is_room() {
    for options in [OPTIONS, ZERO_FILLED] {
        for room in 0..4000 {
            let disk = SimDisk::new(room);
            let (mut journal, _) = open_with(&disk, options).unwrap();
            commit(&mut journal, &[1; 1200], 1).unwrap();
            disk.set_bytes_max(Some(disk.counters().bytes_stored + room));
            journal.append(&[2; 900], 2).unwrap();
            journal.append(&[3; 50], 3).unwrap();
            let first = journal.commit(b"hard");
            if first.is_ok() {
                assert!(room >= 900);
                break;
            }
            assert!(first.as_ref().is_err_and(JournalError::is_full), "{first:?}");
            assert!(journal.commit(b"hard").unwrap_err().to_string().contains("no room"));
            let stored = disk.counters().bytes_stored;
            assert_eq!(journal.stats().bytes_on_disk, stored, "what was tried is gone");
            assert_eq!(open_with(&disk.fork(), options).unwrap().1.len(), 2, "reads go on");

            disk.set_bytes_max(None);
            journal.commit(b"hard").unwrap();
            disk.crash();
            disk.restart();
            let hard = &b"hard"[..];
            let expected = [hard, &[1; 1200], hard, &[2; 900], &[3; 50]];
            assert_eq!(open_with(&disk, options).unwrap().1, expected);
        }
    }
}

#[test]
fn a_block_that_did_not_fit_leaves_its_place_clean() {
    for room in 0..700 {
        let disk = SimDisk::new(room);
        let (mut journal, _) = open(&disk).unwrap();
        commit(&mut journal, b"kept", 1).unwrap();
        disk.set_bytes_max(Some(disk.counters().bytes_stored + room));
        if commit(&mut journal, &[7; 600], 2).is_ok() {
            break;
        }
        let copy = disk.fork();
        copy.crash();
        copy.restart();
        assert_eq!(open(&copy).unwrap().1, [&b"hard"[..], b"kept"]);
        disk.set_bytes_max(None);
        journal.append(b"more", 3).unwrap();
        journal.commit(b"").unwrap();
        assert_eq!(open(&disk).unwrap().1, [&b"hard"[..], b"kept", &[7; 600], b"more"]);
        assert_eq!(segments(&disk).len(), 1);
    }
}

#[test]
fn a_few_kilobytes_are_enough_for_a_journal_that_is_trimmed() {
    let options = JournalOptions { segment_bytes: 1024, ..OPTIONS };
    let disk = SimDisk::new(1);
    let (mut journal, _) = open_with(&disk, options).unwrap();
    for slot in 1..500 {
        commit(&mut journal, &[1; 100], slot).unwrap();
        if journal.bytes_since_trim() > 2000 {
            journal.trim(slot).unwrap();
        }
        assert!(disk.counters().bytes_stored <= 5 * 1024, "{:?}", disk.counters());
    }
}
