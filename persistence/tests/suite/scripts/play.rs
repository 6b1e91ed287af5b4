//! Scripts, and how they are carried out.

use std::sync::{Arc, Mutex};
use std::time::Duration;

use bytes::Bytes;
use quorate_persistence::{
    FileEvent, FilesMessage, Journal, JournalError, JournalOptions, Reader, SimDisk, Writer,
};
use quorate_protocol::Name;
use rand::{Rng, SeedableRng};
use rand_chacha::ChaCha8Rng;

use super::model::{Fate, Incoming, Known, checkpoint, content, incoming, pins, raw};
use crate::desk::Desk;
use crate::open_with;

/// Bytes that the files' actor carries out at one go: a large checkpoint takes some steps.
const STEP: u64 = 100_000;

/// One line of a script.
#[derive(Clone, Copy, Debug)]
pub(super) enum Op {
    /// A record of so many bytes, filled with this one.
    Append(usize, u8),
    /// A change of the hard state.
    Hard,
    /// The first phase of a commit.
    Write,
    /// The second one, and what the journal's actor does after it.
    Sync,
    Roll,
    /// Through so many percent of what is committed and not trimmed.
    Trim(u64),
    /// Another owner in the same process, or the next process.
    Reopen,
    /// A checkpoint of so many bytes.
    Save(usize),
    /// Replaces the file that is replaced.
    Pins,
    /// Removes the oldest checkpoint but the newest.
    Remove,
    /// So many more bytes of a checkpoint that another node sends; whether they are synced.
    Part(usize, bool),
    /// How much of it is right?
    Resume,
    /// All the rest of it, and it is complete.
    Adopt,
    /// The newest checkpoint.
    Read,
    /// The files' actor gets so many milliseconds; otherwise it gets on beside the journal.
    Pause(u64),
}

/// Meets everything at least once, and some things in the midst of others.
pub(super) fn made_by_hand() -> Vec<Op> {
    use Op::{
        Adopt, Append, Hard, Part, Pause, Pins, Read, Remove, Reopen, Resume, Roll, Save, Sync,
        Trim, Write,
    };
    vec![
        // A block of one sector, one of some, one that has a segment of its own.
        Append(40, 1),
        Write,
        Sync,
        Append(900, 2),
        Append(30, 3),
        Write,
        Append(20, 4),
        Sync,
        Hard,
        Write,
        Sync,
        Append(3000, 0),
        Write,
        Sync,
        // A checkpoint in several steps, with commits between them.
        Save(300_000),
        Append(60, 5),
        Write,
        Pause(1),
        Sync,
        Pins,
        Append(500, 6),
        Write,
        Pause(1),
        Sync,
        Pause(20),
        Read,
        Pause(20),
        Roll,
        Append(10, 7),
        Write,
        Sync,
        Trim(60),
        // The process starts anew with a block that was not synced.
        Append(700, 8),
        Write,
        Reopen,
        Append(80, 9),
        Write,
        Sync,
        Reopen,
        Reopen,
        // A transfer that is interrupted, while the own checkpoints go on.
        Part(600, false),
        Part(700, true),
        Save(1500),
        Pause(5),
        Part(900, false),
        Resume,
        Pause(5),
        Part(400, true),
        Remove,
        Pause(5),
        Append(40, 0),
        Hard,
        Write,
        Adopt,
        Sync,
        Pause(20),
        Read,
        Pause(20),
        Trim(100),
        Pins,
        Pause(5),
        Remove,
        Pause(5),
        Append(1000, 10),
        Write,
        Sync,
        Roll,
        Append(1, 11),
        Write,
        Sync,
        Trim(100),
        Save(700),
        Pause(20),
    ]
}

/// A script that is drawn from a seed.
pub(super) fn drawn(seed: u64, ops: usize) -> Vec<Op> {
    let mut rng = ChaCha8Rng::seed_from_u64(seed);
    let mut script = Vec::new();
    while script.len() < ops {
        let op = match rng.random_range(0..24) {
            0..4 => Op::Append(rng.random_range(17..120), rng.random()),
            4 | 5 => Op::Append(rng.random_range(500..2600), rng.random_range(0..2)),
            6 => Op::Hard,
            7..11 => Op::Write,
            11..14 => Op::Sync,
            14 => Op::Roll,
            15 => Op::Trim(rng.random_range(0..=100)),
            16 => Op::Reopen,
            17 => Op::Save(rng.random_range(0..4000)),
            18 => Op::Pins,
            19 => Op::Remove,
            20 => Op::Part(rng.random_range(1..900), rng.random()),
            21 => [Op::Resume, Op::Read][rng.random_range(0..2)],
            22 => Op::Adopt,
            _ => Op::Pause(rng.random_range(1..6)),
        };
        script.push(op);
    }
    script
}

/// Anything that ends a life.
struct Ended;

impl From<JournalError> for Ended {
    fn from(error: JournalError) -> Ended {
        assert!(matches!(error, JournalError::Disk(_)), "{error}");
        Ended
    }
}

/// Compares what it is fed, and refuses anything else.
struct Compare(Vec<u8>, usize);

impl Reader for Compare {
    fn feed(&mut self, bytes: &[u8]) -> Result<(), String> {
        let rest = &self.0[self.1..];
        self.1 += bytes.len();
        rest.starts_with(bytes).then_some(()).ok_or_else(|| "another content".into())
    }

    fn finish(self: Box<Self>, _: Name) -> Result<(), String> {
        (self.1 == self.0.len()).then_some(()).ok_or_else(|| "less content".into())
    }
}

/// Carries out a script, until it ends or the disk does. Answers with what the owners
/// know.
pub(super) fn play(disk: &SimDisk, known: Known, options: JournalOptions, script: &[Op]) -> Known {
    disk.set_sync_delay(Duration::from_millis(1)..=Duration::from_millis(1));
    Desk::with_steps(disk, STEP, async |desk| {
        let known = Arc::new(Mutex::new(known));
        let mut player = Player { desk, disk, options, known: known.clone(), journal: None };
        let played = player.run(script).await;
        let mut known = known.lock().unwrap().clone();
        known.ended = played.is_err();
        known
    })
}

struct Player<'a> {
    desk: Desk,
    disk: &'a SimDisk,
    options: JournalOptions,
    known: Arc<Mutex<Known>>,
    journal: Option<Journal>,
}

impl Player<'_> {
    async fn run(&mut self, script: &[Op]) -> Result<(), Ended> {
        for op in script {
            let done = self.step(*op).await;
            self.on_answers(&mut self.known.lock().unwrap());
            done?;
            if self.disk.is_stopped() || self.ended() {
                return Err(Ended);
            }
        }
        Ok(())
    }

    fn ended(&self) -> bool {
        !self.desk.fatals.lock().unwrap().is_empty()
    }

    fn journal(&mut self) -> Result<&mut Journal, Ended> {
        if self.journal.is_none() {
            let (journal, records) = open_with(self.disk, self.options)?;
            let floor = self.known.lock().unwrap().appended;
            assert!(floor == 0 || !records.is_empty(), "opened before, and empty now");
            self.journal = Some(journal);
        }
        Ok(self.journal.as_mut().expect("it was opened just now"))
    }

    fn sync(&mut self) -> Result<(), Ended> {
        let journal = self.journal()?;
        journal.sync()?;
        self.known.lock().unwrap().synced();
        // As the journal's actor does; without zeros to fill in it does nothing.
        Ok(self.journal()?.prepare(700)?)
    }

    async fn step(&mut self, op: Op) -> Result<(), Ended> {
        let known = self.known.clone();
        match op {
            Op::Append(bytes, fill) => {
                let journal = self.journal()?;
                let (slot, record) = known.lock().unwrap().record(bytes, fill);
                journal.append(&record, slot)?;
            }
            Op::Hard => {
                let journal = self.journal()?;
                let mut known = known.lock().unwrap();
                known.hard += 1;
                journal.append(&known.hard_record(), 0)?;
            }
            Op::Write => {
                self.sync()?;
                let journal = self.journal()?;
                let mut known = known.lock().unwrap();
                journal.write(&known.hard_record())?;
                known.written = Some((known.appended, known.hard));
            }
            Op::Sync => self.sync()?,
            Op::Roll => {
                self.sync()?;
                self.journal()?.roll();
            }
            Op::Trim(percent) => self.trim(percent)?,
            Op::Reopen => {
                self.journal = None;
                let (journal, records) = open_with(self.disk, self.options)?;
                known.lock().unwrap().reopened(&records);
                self.journal = Some(journal);
            }
            Op::Pause(ms) => tokio::time::sleep(Duration::from_millis(ms)).await,
            Op::Resume => self.resume().await,
            other => {
                let is_part = matches!(other, Op::Part(..) | Op::Adopt);
                let unknown = |known: &Known| known.incoming.as_ref().is_some_and(|it| !it.resumed);
                if is_part && unknown(&known.lock().unwrap()) {
                    self.resume().await;
                }
                if matches!(other, Op::Adopt) {
                    // Complete first, and nothing more is sent until it is adopted.
                    self.ask(Op::Part(usize::MAX, false), &mut known.lock().unwrap());
                    self.answered().await;
                }
                if !self.ended() {
                    self.ask(other, &mut known.lock().unwrap());
                }
                if matches!(other, Op::Adopt) {
                    self.answered().await;
                }
            }
        }
        Ok(())
    }

    fn trim(&mut self, percent: u64) -> Result<(), Ended> {
        let through = {
            let mut known = self.known.lock().unwrap();
            known.trimmed += (known.committed - known.trimmed) * percent / 100;
            known.trimmed
        };
        let dropped = self.journal()?.trim(through)?;
        if dropped > 0 {
            // What another process would find now.
            let copy = self.disk.fork();
            copy.disarm();
            let (_, records) = open_with(&copy, self.options)?;
            self.known.lock().unwrap().left(&records);
        }
        Ok(())
    }

    /// Asks the files' actor.
    fn ask(&self, op: Op, known: &mut Known) {
        let reply = self.desk.reply();
        let index = known.checkpoints.keys().last().map_or(1, |last| last + 1);
        // The next number is the incoming one's.
        let index = index.max(known.incoming.as_ref().map_or(0, |it| it.index + 1));
        let newest = known.checkpoints.iter().rev().find(|(_, (_, fate))| *fate == Fate::Saved);
        let newest = newest.map(|(index, (len, _))| (*index, *len));
        match op {
            Op::Save(len) => {
                known.checkpoints.insert(index, (len, Fate::Tried));
                let content = content(index, len);
                let pieces = content.chunks(10_000).map(Bytes::copy_from_slice).collect::<Vec<_>>();
                let (path, writer) = (checkpoint(index), Writer::new(pieces.into_iter()));
                self.desk.send(FilesMessage::Save { path, id: index, writer, reply });
            }
            Op::Pins => {
                known.pins += 1;
                let writer = Writer::of(known.pins.to_le_bytes().to_vec());
                let id = u64::MAX - known.pins;
                self.desk.send(FilesMessage::Save { path: pins(), id, writer, reply });
            }
            Op::Remove => {
                let old = |(index, (_, fate)): &(&u64, &mut (usize, Fate))| {
                    *fate == Fate::Saved && newest.is_some_and(|(newest, _)| **index < newest)
                };
                let Some((index, (_, fate))) = known.checkpoints.iter_mut().find(old) else {
                    return;
                };
                *fate = Fate::Removing;
                self.desk.send(FilesMessage::Remove { paths: vec![checkpoint(*index)] });
                // Answered after the removal, which says nothing itself.
                self.desk.ask(&checkpoint(*index), *index);
            }
            Op::Part(len, sync) => {
                let coming = known.incoming.get_or_insert_with(|| {
                    let file = raw(index, 4000);
                    Incoming { index, file, written: 0, synced: 0, resumed: true }
                });
                let to = coming.file.len().min(coming.written.saturating_add(len));
                self.part(coming, to, sync);
            }
            Op::Adopt => {
                let Some(coming) = &known.incoming else { return };
                known.checkpoints.insert(coming.index, (4000, Fate::Tried));
                self.desk.adopt(&incoming(coming.index), &checkpoint(coming.index), coming.index);
            }
            Op::Read => {
                let Some((index, len)) = newest else { return };
                let reader = Box::new(Compare(content(index, len), 0));
                let path = checkpoint(index);
                self.desk.send(FilesMessage::Read { path, id: index, reader, reply });
            }
            other => unreachable!("{other:?} is no request for the files"),
        }
    }

    /// Asks how much of the incoming file is right, and sends nothing before that is answered.
    async fn resume(&self) {
        self.answered().await;
        let (path, id) = {
            let mut known = self.known.lock().unwrap();
            let Some(coming) = &mut known.incoming else { return };
            // What is not a whole chunk is cut off, synced or not.
            coming.synced = 0;
            (incoming(coming.index), coming.index)
        };
        self.desk.send(FilesMessage::Resume { path, id, reply: self.desk.reply() });
        self.answered().await;
    }

    /// What takes a step or two is done.
    async fn answered(&self) {
        tokio::time::sleep(Duration::from_millis(5)).await;
        self.on_answers(&mut self.known.lock().unwrap());
    }

    fn part(&self, coming: &mut Incoming, to: usize, sync: bool) {
        let (path, offset) = (incoming(coming.index), coming.written);
        let bytes = Bytes::copy_from_slice(&coming.file[offset..to]);
        coming.written = to;
        let (id, offset, reply) = (u64::from(sync), offset as u64, self.desk.reply());
        self.desk.send(FilesMessage::WritePart { path, id, offset, bytes, sync, reply });
    }

    fn on_answers(&self, known: &mut Known) {
        for event in self.desk.answered() {
            match event {
                FileEvent::Saved { id, .. } if id > u64::MAX / 2 => {
                    known.pins_saved = known.pins_saved.max(u64::MAX - id);
                }
                FileEvent::Saved { id, .. } | FileEvent::Adopted { id, right: true } => {
                    if let Some((_, fate)) = known.checkpoints.get_mut(&id) {
                        *fate = Fate::Saved;
                    }
                    known.incoming.take_if(|coming| coming.index == id);
                }
                FileEvent::Asked { id, under_way } => {
                    assert!(!under_way);
                    // Where the removal has failed, the node has ended before this could be asked.
                    let ended = !self.desk.fatals.lock().unwrap().is_empty();
                    if !ended && let Some((_, fate)) = known.checkpoints.get_mut(&id) {
                        *fate = Fate::Removed;
                    }
                }
                FileEvent::Written { id, end } => {
                    if let (Some(coming), 1) = (&mut known.incoming, id) {
                        coming.synced = coming.synced.max(end as usize);
                    }
                }
                // The rest has to be sent again.
                FileEvent::Resumed { id, end } => {
                    if let Some(coming) = known.incoming.as_mut().filter(|it| it.index == id) {
                        (coming.written, coming.synced) = (end as usize, end as usize);
                        coming.resumed = true;
                    }
                }
                FileEvent::Read { found, .. } => assert!(found, "what was saved can be read"),
                // The disk has failed; its owner would begin anew.
                FileEvent::Failed { .. } => self.desk.fatals.lock().unwrap().push("failed".into()),
                // A part of it was refused just before.
                FileEvent::Adopted { right: false, .. } if self.ended() => {}
                other => panic!("{other}"),
            }
        }
    }
}
