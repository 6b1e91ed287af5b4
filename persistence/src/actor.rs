//! The mailbox of the journal: group commit.

use std::{
    collections::BTreeMap,
    path::PathBuf,
    sync::{
        Arc, Mutex,
        atomic::{AtomicU64, Ordering::Relaxed},
    },
};

use bytes::Bytes;
use quorate_protocol::{
    GroupId, Name,
    planted::{Bug, is_planted},
};
use quorate_stage::{Outlet, Role, Stage};

use crate::{
    disk::Disk,
    journal::{Journal, JournalOptions},
    messages::{JournalEvent, JournalMessage},
};

/// Who must be told when the journal's actor has started anew, and what it counts. Kept outside
/// of the actor: it is wiring, not memory.
#[derive(Clone, Default)]
pub struct Owners {
    outlets: Arc<Mutex<BTreeMap<GroupId, Outlet<JournalEvent>>>>,
    syncs: Arc<AtomicU64>,
    bytes: Arc<AtomicU64>,
    records: Arc<AtomicU64>,
}

impl Owners {
    fn add(&self, group: GroupId, outlet: Outlet<JournalEvent>) {
        let mut outlets = self.outlets.lock().unwrap_or_else(|poisoned| poisoned.into_inner());
        outlets.insert(group, outlet);
    }

    fn all(&self) -> Vec<Outlet<JournalEvent>> {
        let outlets = self.outlets.lock().unwrap_or_else(|poisoned| poisoned.into_inner());
        outlets.values().cloned().collect()
    }

    /// Group commits so far: one write and one sync each.
    pub fn syncs(&self) -> u64 {
        self.syncs.load(Relaxed)
    }

    /// Bytes of those commits.
    pub fn bytes(&self) -> u64 {
        self.bytes.load(Relaxed)
    }

    /// Records in those commits.
    pub fn records(&self) -> u64 {
        self.records.load(Relaxed)
    }
}

/// How much of the next segment is made ready after a commit: a whole segment at once would let
/// the commits behind it wait for milliseconds.
const PREPARE_BYTES: usize = 128 * 1024;

/// One group's journal.
struct Stream {
    journal: Journal,
    reply: Outlet<JournalEvent>,
    /// The last number appended, and the last one reported durable.
    appended: u64,
    reported: u64,
    standing: Bytes,
    records: u64,
    /// Written, and not yet synced: under this number.
    written: Option<u64>,
}

/// Keeps the journals of a node. While it writes and syncs, what arrives waits in its mailbox and
/// forms the next commit: no timer, and no added latency when idle.
pub struct JournalActor {
    disk: Arc<dyn Disk>,
    dir: Box<dyn Fn(GroupId) -> PathBuf>,
    options: JournalOptions,
    streams: BTreeMap<GroupId, Stream>,
    owners: Owners,
    restarted: bool,
}

impl JournalActor {
    /// `dir` tells where a group's journal lies. `restarted`: this is not the first life of the
    /// actor, so what former owners have appended may be lost.
    pub fn new(
        disk: Arc<dyn Disk>,
        dir: impl Fn(GroupId) -> PathBuf + 'static,
        options: JournalOptions,
        owners: Owners,
        restarted: bool,
    ) -> Self {
        let streams = BTreeMap::new();
        JournalActor { disk, dir: Box::new(dir), options, streams, owners, restarted }
    }

    fn open(
        &mut self,
        group: GroupId,
        reply: Outlet<JournalEvent>,
        stage: &mut Stage<Self>,
    ) -> Result<(), String> {
        if let Some(stream) = self.streams.get_mut(&group) {
            // Its owner has started anew. What the former life appended counts.
            Self::settle(stream, &self.owners, stage.name())?;
            self.streams.remove(&group);
        }
        let opened = Journal::open(self.disk.clone(), &(self.dir)(group), self.options);
        let (journal, records) = opened.map_err(|error| error.to_string())?;
        self.owners.add(group, reply.clone());
        reply.send(stage.name(), JournalEvent::Recovered(records));
        let stream = Stream {
            journal,
            reply,
            appended: 0,
            reported: 0,
            standing: Bytes::new(),
            records: 0,
            written: None,
        };
        self.streams.insert(group, stream);
        Ok(())
    }

    fn append(
        &mut self,
        group: GroupId,
        number: u64,
        records: Vec<(Bytes, u64)>,
        standing: Bytes,
        stage: &mut Stage<Self>,
    ) -> Result<(), String> {
        // Without a stream the owner has not heard yet that we started anew.
        let Some(stream) = self.streams.get_mut(&group) else { return Ok(()) };
        for (record, mark) in &records {
            stream.journal.append(record, *mark).map_err(|error| error.to_string())?;
        }
        stream.records += records.len() as u64;
        stream.appended = number;
        stream.standing = standing;
        stage.request_flush();
        Ok(())
    }

    fn write(&mut self, stage: &mut Stage<Self>) -> Result<(), String> {
        let delay = self.disk.sync_delay();
        for (group, stream) in &mut self.streams {
            if stream.written.is_some() || stream.appended == stream.reported {
                continue;
            }
            Self::write_one(stream, &self.owners)?;
            if delay.is_zero() {
                Self::sync(stream, &self.owners, stage.name())?;
            } else {
                stage.set_timer(*group, delay);
            }
        }
        Ok(())
    }

    fn write_one(stream: &mut Stream, owners: &Owners) -> Result<(), String> {
        let committed = stream.journal.write(&stream.standing);
        let committed = committed.map_err(|error| error.to_string())?;
        owners.bytes.fetch_add(committed.bytes, Relaxed);
        owners.records.fetch_add(std::mem::take(&mut stream.records), Relaxed);
        stream.written = Some(stream.appended);
        Ok(())
    }

    fn sync(stream: &mut Stream, owners: &Owners, me: Name) -> Result<(), String> {
        if let Some(number) = stream.written.take() {
            stream.journal.sync().map_err(|error| error.to_string())?;
            owners.syncs.fetch_add(1, Relaxed);
            let number = match is_planted(Bug::LaterRecordsReported) {
                true => stream.appended,
                false => number,
            };
            stream.reported = number;
            stream.reply.send(me, JournalEvent::Durable(number));
            stream.journal.prepare(PREPARE_BYTES).map_err(|error| error.to_string())?;
        }
        Ok(())
    }

    /// Makes everything appended so far durable, at once.
    fn settle(stream: &mut Stream, owners: &Owners, me: Name) -> Result<(), String> {
        Self::sync(stream, owners, me)?;
        if stream.appended > stream.reported {
            Self::write_one(stream, owners)?;
            Self::sync(stream, owners, me)?;
        }
        Ok(())
    }

    fn trim(&mut self, group: GroupId, below: u64, me: Name) -> Result<(), String> {
        let Some(stream) = self.streams.get_mut(&group) else { return Ok(()) };
        Self::settle(stream, &self.owners, me)?;
        let through = below.saturating_sub(1);
        stream.journal.trim(through).map_err(|error| error.to_string())?;
        Ok(())
    }
}

pub(crate) fn or_fatal<R: Role>(result: Result<(), String>, stage: &Stage<R>) {
    if let Err(error) = result {
        stage.fatal(error);
    }
}

impl Role for JournalActor {
    type Message = JournalMessage;
    type Timer = GroupId;

    fn started(&mut self, stage: &mut Stage<Self>) {
        if self.restarted {
            for owner in self.owners.all() {
                owner.send(stage.name(), JournalEvent::Lost);
            }
        }
    }

    fn receive(&mut self, _: Name, message: JournalMessage, stage: &mut Stage<Self>) {
        let done = match message {
            JournalMessage::Open { group, reply } => self.open(group, reply, stage),
            JournalMessage::Append { group, number, records, standing } => {
                self.append(group, number, records, standing, stage)
            }
            JournalMessage::Trim { group, below } => self.trim(group, below, stage.name()),
        };
        or_fatal(done, stage);
    }

    fn flush(&mut self, stage: &mut Stage<Self>) {
        let written = self.write(stage);
        or_fatal(written, stage);
    }

    fn on_timer(&mut self, group: GroupId, stage: &mut Stage<Self>) {
        let Some(stream) = self.streams.get_mut(&group) else { return };
        let synced = Self::sync(stream, &self.owners, stage.name());
        or_fatal(synced, stage);
        // What came during the sync is the next commit.
        let written = self.write(stage);
        or_fatal(written, stage);
    }
}
