//! The mailbox of the journal: group commit.

use std::{
    collections::BTreeMap,
    path::PathBuf,
    sync::{
        Arc, Mutex,
        atomic::{AtomicU64, Ordering::Relaxed},
    },
    time::Duration,
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
    messages::{JournalEvent, JournalMessage, Room},
};

/// Who must be told when the journal's actor has started anew, and what it counts. Kept outside
/// of the actor: it is wiring, not memory.
#[derive(Clone, Default)]
pub struct Owners {
    outlets: Arc<Mutex<BTreeMap<GroupId, Outlet<JournalEvent>>>>,
    watchers: Arc<Mutex<BTreeMap<GroupId, Outlet<Room>>>>,
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

    fn watch(&self, group: GroupId, outlet: Outlet<Room>) {
        let mut watchers = self.watchers.lock().unwrap_or_else(|poisoned| poisoned.into_inner());
        watchers.insert(group, outlet);
    }

    fn watchers(&self) -> Vec<Outlet<Room>> {
        let watchers = self.watchers.lock().unwrap_or_else(|poisoned| poisoned.into_inner());
        watchers.values().cloned().collect()
    }

    fn watcher(&self, group: GroupId) -> Option<Outlet<Room>> {
        let watchers = self.watchers.lock().unwrap_or_else(|poisoned| poisoned.into_inner());
        watchers.get(&group).cloned()
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

/// How long a full disk is left alone before what waits is written again.
const FULL_PAUSE: Duration = Duration::from_millis(500);
/// Bytes that may wait for room in one journal: 64 MiB. What its owner says meanwhile goes unheard, so
/// more than that comes only of a node that others still send everything to; it ends, and fetches what
/// it lacks when there is room again.
pub const WAITING_BYTES_MAX: usize = 64 * 1024 * 1024;

/// What the journals' actor asks to be woken for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Due {
    /// The sync of what a group has written.
    Sync(GroupId),
    /// There may be room for what a group waits to write.
    Again(GroupId),
    /// There may be more room than is reserved.
    Look,
}

/// Segments that must fit for new commands to be taken: with a write that is stuck on a majority reads
/// would stop too, since whoever leads comes to be doubted and no promise can be written down.
pub const RESERVE_SEGMENTS: u64 = 8;
/// How often the room is looked at, at most, unless much is written.
const LOOK_PAUSE: Duration = Duration::from_secs(1);

/// One group's journal.
struct Stream {
    group: GroupId,
    journal: Journal,
    reply: Outlet<JournalEvent>,
    /// The last number appended, and the last one reported durable.
    appended: u64,
    reported: u64,
    standing: Bytes,
    records: u64,
    /// Written, and not yet synced: under this number.
    written: Option<u64>,
    /// The disk had no room for what was appended, which waits in the journal.
    full: bool,
    /// What its watcher has heard last: whether room is short.
    told: bool,
    /// Records below are not needed any more, once what waits has been written.
    trim_below: Option<u64>,
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
    /// When the room was looked at last, and bytes committed before that.
    looked: Option<Duration>,
    looked_bytes: u64,
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
        let (dir, looked_bytes) = (Box::new(dir), owners.bytes());
        JournalActor { disk, dir, options, streams, owners, restarted, looked: None, looked_bytes }
    }

    fn open(
        &mut self,
        group: GroupId,
        reply: Outlet<JournalEvent>,
        stage: &mut Stage<Self>,
    ) -> Result<(), String> {
        if let Some(stream) = self.streams.get_mut(&group) {
            // Its owner has started anew. What the former life appended counts.
            // But for what waits for room: of that nobody was told.
            Self::settle(stream, &self.owners, stage)?;
            self.streams.remove(&group);
            stage.cancel_timer(&Due::Again(group));
        }
        let opened = Journal::open(self.disk.clone(), &(self.dir)(group), self.options);
        let (journal, records) = opened.map_err(|error| error.to_string())?;
        self.owners.add(group, reply.clone());
        reply.send(stage.name(), JournalEvent::Recovered(records));
        let stream = Stream {
            group,
            journal,
            reply,
            appended: 0,
            reported: 0,
            standing: Bytes::new(),
            records: 0,
            written: None,
            full: false,
            told: false,
            trim_below: None,
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
        let waiting = stream.journal.buffered_bytes();
        if stream.full && waiting > WAITING_BYTES_MAX {
            return Err(format!("the disk is full, and {waiting} bytes wait for room"));
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
            let idle = stream.written.is_some() || stream.appended == stream.reported;
            if idle || stream.full || !Self::write_one(stream, &self.owners, stage)? {
                continue;
            }
            if delay.is_zero() {
                Self::sync(stream, &self.owners, stage.name())?;
            } else {
                stage.set_timer(Due::Sync(*group), delay);
            }
        }
        Ok(())
    }

    /// Writes what was appended; false if there is no room for it.
    fn write_one(
        stream: &mut Stream,
        owners: &Owners,
        stage: &mut Stage<Self>,
    ) -> Result<bool, String> {
        let was_full = stream.full;
        let committed = match stream.journal.write(&stream.standing) {
            // Nothing has changed on the disk, and nobody was told anything.
            Err(error) if error.is_full() => {
                if !was_full {
                    tracing::warn!(actor = %stage.name(), group = %stream.group, "{error}");
                }
                (stream.full, stream.told) = (true, true);
                stage.set_timer(Due::Again(stream.group), FULL_PAUSE);
                Self::tell(stream.group, owners, Room::Full, stage.name());
                return Ok(false);
            }
            committed => committed.map_err(|error| error.to_string())?,
        };
        stream.full = false;
        if was_full {
            tracing::info!(actor = %stage.name(), group = %stream.group, "there is room again");
            stage.cancel_timer(&Due::Again(stream.group));
        }
        owners.bytes.fetch_add(committed.bytes, Relaxed);
        owners.records.fetch_add(std::mem::take(&mut stream.records), Relaxed);
        stream.written = Some(stream.appended);
        Ok(true)
    }

    /// Looks at the room that is left, if it is time to, and tells those who watch.
    fn look(&mut self, stage: &mut Stage<Self>) -> Result<(), String> {
        let (now, bytes) = (stage.node().uptime(), self.owners.bytes());
        let reserve = RESERVE_SEGMENTS * self.options.segment_bytes;
        let written = bytes - self.looked_bytes;
        let is_time = self.looked.is_none_or(|looked| now - looked >= LOOK_PAUSE);
        let told = self.streams.values().any(|stream| stream.told);
        if !(is_time && (written > 0 || told) || written >= reserve / 8) {
            return Ok(());
        }
        (self.looked, self.looked_bytes) = (Some(now), bytes);
        let mut short = false;
        for (group, stream) in &mut self.streams {
            // Its directory is made by the first commit.
            if stream.reported > 0 {
                let free = self.disk.available_bytes(&(self.dir)(*group));
                let is_short = free.map_err(|error| error.to_string())? < reserve;
                let should = is_short || stream.full;
                match should {
                    // Again and again: whoever watches may have started anew.
                    true => Self::tell(*group, &self.owners, Room::Full, stage.name()),
                    false if stream.told => {
                        Self::tell(*group, &self.owners, Room::Free, stage.name());
                    }
                    false => {}
                }
                stream.told = should;
            }
            short |= stream.told;
        }
        if short {
            stage.set_timer(Due::Look, LOOK_PAUSE);
        }
        Ok(())
    }

    fn tell(group: GroupId, owners: &Owners, room: Room, me: Name) {
        if let Some(watcher) = owners.watcher(group) {
            watcher.send(me, room);
        }
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
            if let Some(below) = stream.trim_below.take() {
                Self::trim_one(stream, below)?;
            }
            stream.journal.prepare(PREPARE_BYTES).map_err(|error| error.to_string())?;
        }
        Ok(())
    }

    /// Makes everything appended so far durable, at once; false if there is no room for it.
    fn settle(
        stream: &mut Stream,
        owners: &Owners,
        stage: &mut Stage<Self>,
    ) -> Result<bool, String> {
        Self::sync(stream, owners, stage.name())?;
        if stream.appended > stream.reported {
            if !Self::write_one(stream, owners, stage)? {
                return Ok(false);
            }
            Self::sync(stream, owners, stage.name())?;
        }
        Ok(true)
    }

    fn trim(&mut self, group: GroupId, below: u64, stage: &mut Stage<Self>) -> Result<(), String> {
        let Some(stream) = self.streams.get_mut(&group) else { return Ok(()) };
        // What says that they are not needed must be durable before they go.
        if !Self::settle(stream, &self.owners, stage)? {
            stream.trim_below = stream.trim_below.max(Some(below));
            return Ok(());
        }
        Self::trim_one(stream, below)
    }

    fn trim_one(stream: &mut Stream, below: u64) -> Result<(), String> {
        let trimmed = stream.journal.trim(below.saturating_sub(1));
        trimmed.map(drop).map_err(|error| error.to_string())
    }
}

pub(crate) fn or_fatal<R: Role>(result: Result<(), String>, stage: &Stage<R>) {
    if let Err(error) = result {
        stage.fatal(error);
    }
}

impl Role for JournalActor {
    type Message = JournalMessage;
    type Timer = Due;

    fn started(&mut self, stage: &mut Stage<Self>) {
        if self.restarted {
            for owner in self.owners.all() {
                owner.send(stage.name(), JournalEvent::Lost);
            }
            // What waited for room is lost with the former life; whether there is room will show.
            for watcher in self.owners.watchers() {
                watcher.send(stage.name(), Room::Free);
            }
        }
    }

    fn receive(&mut self, _: Name, message: JournalMessage, stage: &mut Stage<Self>) {
        let done = match message {
            JournalMessage::Open { group, reply } => self.open(group, reply, stage),
            JournalMessage::Append { group, number, records, standing } => {
                self.append(group, number, records, standing, stage)
            }
            JournalMessage::Trim { group, below } => self.trim(group, below, stage),
            JournalMessage::Watch { group, reply } => {
                self.owners.watch(group, reply);
                Ok(())
            }
        };
        or_fatal(done, stage);
    }

    fn flush(&mut self, stage: &mut Stage<Self>) {
        let written = self.write(stage);
        or_fatal(written, stage);
        let looked = self.look(stage);
        or_fatal(looked, stage);
    }

    fn on_timer(&mut self, due: Due, stage: &mut Stage<Self>) {
        let done = match due {
            Due::Sync(group) | Due::Again(group) => match self.streams.get_mut(&group) {
                Some(stream) if due == Due::Sync(group) => {
                    Self::sync(stream, &self.owners, stage.name())
                }
                Some(stream) if stream.written.is_none() => {
                    Self::settle(stream, &self.owners, stage).map(drop)
                }
                _ => Ok(()),
            },
            Due::Look => Ok(()),
        };
        or_fatal(done, stage);
        // What came during the sync is the next commit.
        let written = self.write(stage);
        or_fatal(written, stage);
        let looked = self.look(stage);
        or_fatal(looked, stage);
    }
}
