//! The mailbox of the files: long requests in steps, short ones in between.

use std::{
    collections::VecDeque,
    path::{Path, PathBuf},
    sync::Arc,
    time::Duration,
};

use bytes::Bytes;
use quorate_protocol::{
    Name,
    planted::{Bug, is_planted},
};
use quorate_stage::{Outlet, Role, Stage};

use crate::{
    actor::or_fatal,
    disk::{Disk, DiskError},
    files::{Cursor, FileError, Sink, Stamp, stamp},
    messages::{FileEvent, FilesMessage, Reader, Writer},
    scrub::Scrub,
};

/// Bytes of a long request that are carried out, and synced, at one go: 1 MiB. Short requests, and
/// the journal's syncs on the same disk, get their turn in between.
pub const STEP_BYTES: u64 = 1024 * 1024;
/// The pause after each step of a Save, so that a checkpoint is written at 64 MiB a second at most:
/// nobody waits for it, and whoever waits for the disk or the processor comes first.
pub const SAVE_PAUSE: Duration = Duration::from_millis(16);
/// Long requests under way at one time. Each asker has few, about files of its own, and one about
/// the same file takes the place of the former.
const JOBS_MAX: usize = 64;

/// A request that may take many steps.
struct Job {
    path: PathBuf,
    id: u64,
    reply: Outlet<FileEvent>,
    work: Work,
}

enum Work {
    /// Nothing has been written before the first step.
    Save {
        sink: Option<Sink>,
        writer: Writer,
    },
    Read {
        cursor: Option<Cursor>,
        reader: Box<dyn Reader>,
    },
    Resume {
        cursor: Option<Cursor>,
    },
    Adopt {
        cursor: Option<Cursor>,
        to: PathBuf,
    },
}

/// What became of a step.
enum Step {
    /// There is more to do.
    More(Job),
    /// That was the last one.
    Done,
}

/// Reads and replaces whole files.
pub struct FilesActor {
    disk: Arc<dyn Disk>,
    step_bytes: u64,
    save_pause: Duration,
    jobs: VecDeque<Job>,
    scrub: Option<Scrub>,
}

/// What the files' actor asks to be woken for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Due {
    /// The next step of a long request.
    Step,
    /// The next step of the scrub.
    Scrub,
}

impl FilesActor {
    /// The files of one node. `step_bytes` is [`STEP_BYTES`], or less where steps are looked at;
    /// `save_pause` is [`SAVE_PAUSE`], or none where time is not real.
    pub fn new(disk: Arc<dyn Disk>, step_bytes: u64, save_pause: Duration) -> Self {
        FilesActor { disk, step_bytes, save_pause, jobs: VecDeque::new(), scrub: None }
    }

    /// The same, which also reads at leisure what nobody else reads. It says what is damaged, and does
    /// nothing about it: whoever hears it knows whether others have the same.
    pub fn scrubbing(self, scrub: Scrub) -> Self {
        FilesActor { scrub: Some(scrub), ..self }
    }

    fn wake_for_scrub(&self, stage: &mut Stage<Self>) {
        if let Some(scrub) = &self.scrub {
            stage.set_timer(Due::Scrub, scrub.pause);
        }
    }

    /// Begins a long request. If one step is all it takes, it is done when this returns.
    fn begin(&mut self, job: Job, stage: &mut Stage<Self>) -> Result<(), FileError> {
        if let Some(former) = self.jobs.iter_mut().find(|former| former.path == job.path) {
            // Its asker has started anew.
            *former = job;
            return Ok(());
        }
        if let Step::More(job) = self.step(job, stage.name())? {
            assert!(self.jobs.len() < JOBS_MAX, "{JOBS_MAX} long requests for files are under way");
            self.jobs.push_back(job);
            self.go_on(stage);
        }
        Ok(())
    }

    fn go_on(&self, stage: &mut Stage<Self>) {
        if !self.jobs.is_empty() && !stage.timer_is_set(&Due::Step) {
            // Somebody waits for everything but a Save.
            let only_saves = self.jobs.iter().all(|job| matches!(job.work, Work::Save { .. }));
            let pause = if only_saves { self.save_pause } else { Duration::ZERO };
            stage.set_timer(Due::Step, self.disk.sync_delay().max(pause));
        }
    }

    fn step(&self, job: Job, me: Name) -> Result<Step, FileError> {
        let Job { path, id, reply, work } = job;
        let work = match work {
            Work::Save { sink, writer } => self.save(&path, (sink, writer), id, &reply, me)?,
            Work::Read { cursor, reader } => self.read(&path, (cursor, reader), id, &reply, me)?,
            Work::Resume { cursor } => match self.resume(&path, cursor, id, &reply, me) {
                Ok(work) => work,
                Err(error) => {
                    reply.send(me, FileEvent::Failed { id, why: error.to_string() });
                    None
                }
            },
            Work::Adopt { cursor, to } => self.adopt(&path, (cursor, to), id, &reply, me)?,
        };
        Ok(work.map_or(Step::Done, |work| Step::More(Job { path, id, reply, work })))
    }

    fn save(
        &self,
        path: &Path,
        (sink, mut writer): (Option<Sink>, Writer),
        id: u64,
        reply: &Outlet<FileEvent>,
        me: Name,
    ) -> Result<Option<Work>, FileError> {
        let disk = self.disk.as_ref();
        let mut sink = match sink {
            Some(sink) => sink,
            None => {
                if let Some(dir) = path.parent() {
                    disk.create_dir_all(dir)?;
                }
                Sink::create(disk, path)?
            }
        };
        let end = sink.len() + self.step_bytes;
        while sink.len() < end {
            let Some(piece) = writer.next() else {
                let bytes = sink.finish(disk)?;
                reply.send(me, FileEvent::Saved { id, bytes });
                return Ok(None);
            };
            sink.write(&piece)?;
        }
        sink.sync()?;
        Ok(Some(Work::Save { sink: Some(sink), writer }))
    }

    fn read(
        &self,
        path: &Path,
        (cursor, mut reader): (Option<Cursor>, Box<dyn Reader>),
        id: u64,
        reply: &Outlet<FileEvent>,
        me: Name,
    ) -> Result<Option<Work>, FileError> {
        let disk = self.disk.as_ref();
        let opened = match cursor {
            Some(cursor) => Some(cursor),
            None => Cursor::open(disk, path)?,
        };
        let Some(mut cursor) = opened else {
            reply.send(me, FileEvent::Read { id, found: false });
            return Ok(None);
        };
        let end = cursor.offset() + self.step_bytes;
        while cursor.offset() < end {
            let taken = match cursor.next_chunk(disk) {
                // Removed meanwhile: nobody needs it any more.
                Err(FileError::Disk(error)) if error.is_not_found() => {
                    reply.send(me, FileEvent::Read { id, found: false });
                    return Ok(None);
                }
                Err(error) => return Err(error),
                Ok(Some(chunk)) => reader.feed(&chunk),
                Ok(None) => {
                    let event = match reader.finish(me) {
                        Ok(()) => FileEvent::Read { id, found: true },
                        Err(why) => FileEvent::Refused { id, why },
                    };
                    reply.send(me, event);
                    return Ok(None);
                }
            };
            if let Err(why) = taken {
                reply.send(me, FileEvent::Refused { id, why });
                return Ok(None);
            }
        }
        Ok(Some(Work::Read { cursor: Some(cursor), reader }))
    }

    fn resume(
        &self,
        path: &Path,
        cursor: Option<Cursor>,
        id: u64,
        reply: &Outlet<FileEvent>,
        me: Name,
    ) -> Result<Option<Work>, FileError> {
        let disk = self.disk.as_ref();
        let opened = match cursor {
            Some(cursor) => Ok(Some(cursor)),
            None => Cursor::open(disk, path),
        };
        let mut cursor = match opened {
            Ok(Some(cursor)) => cursor,
            Ok(None) => {
                reply.send(me, FileEvent::Resumed { id, end: 0 });
                return Ok(None);
            }
            Err(FileError::Disk(error)) => return Err(error.into()),
            Err(_) => return self.cut(path, 0, id, reply, me),
        };
        let step_end = cursor.offset() + self.step_bytes;
        while cursor.offset() < step_end {
            match cursor.next_chunk(disk) {
                Ok(Some(_)) => {}
                Ok(None) | Err(FileError::Corrupt { .. } | FileError::NewerFormat { .. }) => {
                    return self.cut(path, cursor.offset(), id, reply, me);
                }
                Err(FileError::Disk(error)) => return Err(error.into()),
            }
        }
        Ok(Some(Work::Resume { cursor: Some(cursor) }))
    }

    /// What lies behind `end` is not what was sent.
    fn cut(
        &self,
        path: &Path,
        end: u64,
        id: u64,
        reply: &Outlet<FileEvent>,
        me: Name,
    ) -> Result<Option<Work>, FileError> {
        let mut file = self.disk.open_existing(path)?;
        file.truncate(end)?;
        file.sync_data()?;
        reply.send(me, FileEvent::Resumed { id, end });
        Ok(None)
    }

    fn adopt(
        &self,
        path: &Path,
        (cursor, to): (Option<Cursor>, PathBuf),
        id: u64,
        reply: &Outlet<FileEvent>,
        me: Name,
    ) -> Result<Option<Work>, FileError> {
        let disk = self.disk.as_ref();
        let wrong = || -> Result<Option<Work>, FileError> {
            self.remove(&[path.to_path_buf()])?;
            reply.send(me, FileEvent::Adopted { id, right: false });
            Ok(None)
        };
        let opened = match cursor {
            Some(cursor) => Ok(Some(cursor)),
            None => Cursor::open(disk, path),
        };
        let mut cursor = match opened {
            Ok(Some(cursor)) => cursor,
            Ok(None) => {
                // A former life of the actor may have been done with it.
                let right = disk.exists(&to)?;
                reply.send(me, FileEvent::Adopted { id, right });
                return Ok(None);
            }
            Err(FileError::Disk(error)) => return Err(error.into()),
            Err(_) => return wrong(),
        };
        let step_end = cursor.offset() + self.step_bytes;
        while cursor.offset() < step_end {
            match cursor.next_chunk(disk) {
                Ok(Some(_)) => {}
                Ok(None) => {
                    if !is_planted(Bug::FetchedFileNotSynced) {
                        disk.open_existing(path)?.sync_data()?;
                    }
                    disk.rename(path, &to)?;
                    if let Some(dir) = to.parent() {
                        disk.sync_dir(dir)?;
                    }
                    reply.send(me, FileEvent::Adopted { id, right: true });
                    return Ok(None);
                }
                Err(FileError::Disk(error)) => return Err(error.into()),
                Err(_) => return wrong(),
            }
        }
        Ok(Some(Work::Adopt { cursor: Some(cursor), to }))
    }

    fn list(&self, dir: &Path) -> Result<Vec<String>, FileError> {
        match self.disk.list(dir) {
            Err(error) if error.is_not_found() => Ok(vec![]),
            names => Ok(names?),
        }
    }

    fn remove(&self, paths: &[PathBuf]) -> Result<(), FileError> {
        let mut dir = None;
        for path in paths {
            match self.disk.remove(path) {
                Err(error) if error.is_not_found() => {}
                removed => {
                    removed?;
                    dir = path.parent();
                }
            }
        }
        Ok(dir.map_or(Ok(()), |dir| self.disk.sync_dir(dir))?)
    }

    fn read_part(
        &self,
        path: &Path,
        offset: u64,
        bytes_max: usize,
    ) -> Result<Option<(Bytes, Stamp)>, DiskError> {
        let Some(stamp) = stamp(self.disk.as_ref(), path)? else { return Ok(None) };
        let bytes = self.disk.read_at(path, offset, bytes_max)?;
        Ok(Some((bytes.into(), stamp)))
    }

    fn write_part(
        &self,
        path: &Path,
        offset: u64,
        bytes: &[u8],
        sync: bool,
    ) -> Result<u64, DiskError> {
        let mut file = match self.disk.open_existing(path) {
            Err(error) if error.is_not_found() => {
                let dir = path.parent().unwrap_or(path);
                self.disk.create_dir_all(dir)?;
                let file = self.disk.create_temp(dir)?.persist(path)?;
                self.disk.sync_dir(dir)?;
                file
            }
            file => file?,
        };
        let end = offset + bytes.len() as u64;
        // Nothing may be missing below: what a crash has cut off is asked for again.
        let had = file.len()?;
        if had < offset {
            return Ok(had);
        }
        if had > end {
            file.truncate(end)?;
        }
        file.write_at(offset, bytes)?;
        if sync {
            file.sync_data()?;
        }
        Ok(end)
    }
}

impl Role for FilesActor {
    type Message = FilesMessage;
    type Timer = Due;

    fn started(&mut self, stage: &mut Stage<Self>) {
        self.wake_for_scrub(stage);
    }

    fn receive(&mut self, _: Name, message: FilesMessage, stage: &mut Stage<Self>) {
        let me = stage.name();
        let done = match message {
            FilesMessage::List { dir, reply } => {
                self.list(&dir).map(|names| reply.send(me, FileEvent::Listed(names)))
            }
            FilesMessage::Read { path, id, reader, reply } => {
                let work = Work::Read { cursor: None, reader };
                self.begin(Job { path, id, reply, work }, stage)
            }
            FilesMessage::Save { path, id, writer, reply } => {
                let work = Work::Save { sink: None, writer };
                self.begin(Job { path, id, reply, work }, stage)
            }
            FilesMessage::Ask { path, id, reply } => {
                let under_way = self.jobs.iter().any(|job| job.path == path && job.id == id);
                reply.send(me, FileEvent::Asked { id, under_way });
                Ok(())
            }
            FilesMessage::Remove { paths } => self.remove(&paths),
            FilesMessage::Drop(what) => {
                drop(what);
                Ok(())
            }
            FilesMessage::ReadPart { path, id, offset, bytes_max, reply } => {
                let part = self.read_part(&path, offset, bytes_max).unwrap_or_else(|error| {
                    // Whoever asked can ask somebody else; this node reads it when it must.
                    tracing::warn!(actor = %me, "a part cannot be read: {error}");
                    None
                });
                reply.send(me, FileEvent::Part { id, part });
                Ok(())
            }
            FilesMessage::WritePart { path, id, offset, bytes, sync, reply } => {
                let event = match self.write_part(&path, offset, &bytes, sync) {
                    Ok(end) => FileEvent::Written { id, end },
                    Err(error) => FileEvent::Failed { id, why: error.to_string() },
                };
                reply.send(me, event);
                Ok(())
            }
            FilesMessage::Resume { path, id, reply } => {
                self.begin(Job { path, id, reply, work: Work::Resume { cursor: None } }, stage)
            }
            FilesMessage::Adopt { path, to, id, reply } => {
                let work = Work::Adopt { cursor: None, to };
                self.begin(Job { path, id, reply, work }, stage)
            }
        };
        or_fatal(done.map_err(|error| error.to_string()), stage);
    }

    fn on_timer(&mut self, due: Due, stage: &mut Stage<Self>) {
        if due == Due::Scrub {
            if let Some(scrub) = &mut self.scrub
                && let Some(damage) = scrub.step(self.disk.as_ref(), self.step_bytes)
            {
                tracing::error!(actor = %stage.name(), "{damage}");
                scrub.report.send(stage.name(), damage);
            }
            return self.wake_for_scrub(stage);
        }
        let Some(job) = self.jobs.pop_front() else { return };
        match self.step(job, stage.name()) {
            Ok(Step::More(job)) => self.jobs.push_back(job),
            Ok(Step::Done) => {}
            Err(error) => stage.fatal(error.to_string()),
        }
        self.go_on(stage);
    }
}
