//! The files' actor: long requests in steps, short ones in between, and crashes anywhere.

use std::{
    path::{Path, PathBuf},
    sync::{Arc, Mutex},
    time::Duration,
};

use quorate_persistence::{
    Disk, FileEvent, FilesMessage, Reader, SimDisk, read_atomic, remove_leftovers, write_atomic,
};
use quorate_protocol::Name;
use quorate_stage::CrashMode;

use crate::desk::{Desk, STEP};

fn disk(seed: u64) -> SimDisk {
    let disk = SimDisk::new(seed);
    disk.set_sync_delay(Duration::from_millis(1)..=Duration::from_millis(2));
    disk
}

fn big() -> PathBuf {
    "/files/big".into()
}

fn content(len: usize) -> Vec<u8> {
    (0..len).map(|at| (at % 251) as u8).collect()
}

#[test]
fn short_requests_do_not_wait_for_a_long_one() {
    let disk = disk(1);
    Desk::run(&disk, async |desk| {
        desk.save(&big(), 1, &content(50 * STEP as usize));
        desk.save(Path::new("/files/small"), 2, b"small");
        desk.moment().await;
        desk.ask(&big(), 1);
        desk.moment().await;
        let answers = desk.answered();
        assert!(matches!(answers[..], [FileEvent::Saved { id: 2, .. }, _]), "{answers:?}");
        assert_eq!(answers[1], FileEvent::Asked { id: 1, under_way: true });
        desk.sleep().await;
        assert!(matches!(desk.answered()[..], [FileEvent::Saved { id: 1, .. }]));
        assert_eq!(read_atomic(&disk, &big()).unwrap().unwrap(), content(50 * STEP as usize));
        // Each step was synced by itself.
        assert!(disk.counters().syncs >= 50);
    });
}

#[test]
fn a_crash_over_a_long_request_is_told_to_who_asks() {
    let disk = disk(2);
    Desk::run(&disk, async |desk| {
        desk.save(&big(), 1, &content(50 * STEP as usize));
        desk.moment().await;
        desk.stage.crash(desk.files.name(), CrashMode::Now).unwrap();
        desk.ask(&big(), 1);
        desk.sleep().await;
        assert_eq!(desk.answered(), [FileEvent::Asked { id: 1, under_way: false }]);
        assert_eq!(read_atomic(&disk, &big()).unwrap(), None);
        assert!(disk.files().is_empty(), "{:?}", disk.files());
    });
}

/// Sums up what it is fed, and says so.
struct Sum(u64, Arc<Mutex<Option<u64>>>);

impl Reader for Sum {
    fn feed(&mut self, bytes: &[u8]) -> Result<(), String> {
        if bytes.contains(&255) {
            return Err("255 is no number".into());
        }
        self.0 += bytes.iter().map(|byte| u64::from(*byte)).sum::<u64>();
        Ok(())
    }

    fn finish(self: Box<Self>, _: Name) -> Result<(), String> {
        *self.1.lock().unwrap() = Some(self.0);
        Ok(())
    }
}

#[test]
fn a_reader_gets_all_of_a_file_or_says_why_it_does_not_want_it() {
    let disk = disk(3);
    disk.create_dir_all(Path::new("/files")).unwrap();
    write_atomic(&disk, &big(), &content(600_000)).unwrap();
    Desk::run(&disk, async |desk| {
        let sum = Arc::new(Mutex::new(None));
        let read = |path: &Path, id| {
            let (path, reader, reply) = (path.into(), Box::new(Sum(0, sum.clone())), desk.reply());
            desk.send(FilesMessage::Read { path, id, reader, reply });
        };
        read(&big(), 1);
        desk.sleep().await;
        assert_eq!(desk.answered(), [FileEvent::Read { id: 1, found: true }]);
        let expected = content(600_000).iter().map(|byte| u64::from(*byte)).sum();
        assert_eq!(*sum.lock().unwrap(), Some(expected));
        read(Path::new("/files/none"), 2);
        desk.sleep().await;
        assert_eq!(desk.answered(), [FileEvent::Read { id: 2, found: false }]);
        write_atomic(&disk, &big(), &[255]).unwrap();
        read(&big(), 3);
        desk.sleep().await;
        assert_eq!(desk.answered(), [FileEvent::Refused { id: 3, why: "255 is no number".into() }]);
        // Removed while it is read: whoever reads it does not need it.
        write_atomic(&disk, &big(), &content(600_000)).unwrap();
        read(&big(), 4);
        desk.send(FilesMessage::Remove { paths: vec![big()] });
        desk.sleep().await;
        assert_eq!(desk.answered(), [FileEvent::Read { id: 4, found: false }]);
        assert!(desk.fatals.lock().unwrap().is_empty());
    });
}

/// The bytes of an atomic file.
fn raw(content: &[u8]) -> Vec<u8> {
    let disk = SimDisk::new(9);
    disk.create_dir_all(Path::new("/files")).unwrap();
    write_atomic(&disk, &big(), content).unwrap();
    disk.peek(&big()).unwrap()
}

const INCOMING: &str = "/files/incoming-7";
const DONE: &str = "/files/checkpoint-7";

/// Carries the file over from where it is; answers whether it was adopted.
async fn carry(desk: &Desk, file: &[u8]) -> bool {
    let (incoming, done) = (Path::new(INCOMING), Path::new(DONE));
    let (path, reply) = (incoming.to_path_buf(), desk.reply());
    desk.send(FilesMessage::Resume { path, id: 1, reply });
    desk.sleep().await;
    let [FileEvent::Resumed { id: 1, end }] = desk.answered()[..] else { return false };
    let mut end = end as usize;
    while end < file.len() {
        let to = file.len().min(end + 100_000);
        desk.part(incoming, end as u64, &file[end..to]);
        desk.moment().await;
        let [FileEvent::Written { end: written, .. }] = desk.answered()[..] else { return false };
        assert_eq!(written, to as u64);
        end = to;
    }
    desk.adopt(incoming, done, 2);
    desk.sleep().await;
    match desk.answered()[..] {
        [FileEvent::Adopted { id: 2, right }] => {
            assert!(right, "what is there is right");
            true
        }
        _ => false,
    }
}

#[test]
fn a_crash_after_every_operation_of_a_transfer_leaves_a_file_that_can_be_completed() {
    let file = raw(&content(400_000));
    let mut points = 0;
    for operations in 0.. {
        let first = disk(4);
        first.crash_after(operations);
        let adopted = Desk::run(&first, async |desk| carry(&desk, &file).await);
        if adopted {
            break;
        }
        points += 1;
        for seed in 0..4 {
            let disk = first.fork();
            disk.reseed(seed);
            match seed {
                0 => disk.kill(),
                _ => {
                    disk.crash();
                    disk.restart();
                }
            }
            remove_leftovers(&disk, Path::new("/files")).unwrap();
            // A file under the name of a checkpoint is whole, whenever it was left.
            if disk.peek(Path::new(DONE)).is_some() {
                assert_eq!(read_atomic(&disk, Path::new(DONE)).unwrap().unwrap(), content(400_000));
            } else {
                assert!(Desk::run(&disk, async |desk| carry(&desk, &file).await));
            }
            disk.crash();
            disk.restart();
            assert_eq!(read_atomic(&disk, Path::new(DONE)).unwrap().unwrap(), content(400_000));
            assert_eq!(disk.peek(Path::new(INCOMING)), None);
        }
    }
    assert!(points > 30, "{points} crash points are too few to mean anything");
}

#[test]
fn a_file_of_two_files_is_not_adopted() {
    let (one, other) = (raw(&content(400_000)), raw(&vec![5; 400_000]));
    let chunk = 12 + 8 + 256 * 1024;
    let mixture = [&one[..chunk], &other[chunk..]].concat();
    let disk = disk(5);
    Desk::run(&disk, async |desk| {
        desk.part(Path::new(INCOMING), 0, &mixture);
        desk.adopt(Path::new(INCOMING), Path::new(DONE), 2);
        desk.sleep().await;
        let answers = desk.answered();
        assert_eq!(answers[1], FileEvent::Adopted { id: 2, right: false });
        assert!(disk.files().is_empty(), "{:?}", disk.files());
    });
}

#[test]
fn a_crash_after_every_operation_of_a_save_keeps_the_old_file_or_the_new_one() {
    let mut points = 0;
    for operations in 0.. {
        let first = disk(6);
        first.create_dir_all(Path::new("/files")).unwrap();
        write_atomic(&first, &big(), b"old").unwrap();
        first.crash_after(operations);
        let saved = Desk::run(&first, async |desk| {
            desk.save(&big(), 1, &content(20 * STEP as usize));
            desk.sleep().await;
            !desk.answered().is_empty()
        });
        for seed in 0..4 {
            let disk = first.fork();
            disk.reseed(seed);
            disk.crash();
            disk.restart();
            remove_leftovers(&disk, Path::new("/files")).unwrap();
            let found = read_atomic(&disk, &big()).unwrap().unwrap();
            assert!(found == content(20 * STEP as usize) || (!saved && found == b"old"));
            assert_eq!(disk.files(), [big()]);
        }
        if saved {
            break;
        }
        points += 1;
    }
    assert!(points > 20, "{points} crash points are too few to mean anything");
}
