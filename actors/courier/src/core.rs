//! The rules of the courier.

use std::{
    collections::{BTreeMap, BTreeSet},
    time::Duration,
};

use bytes::Bytes;
use quorate_persistence::{FileEvent, Numbered, Stamp};
use quorate_protocol::{Core, Name, Never, NodeId, Out, log::Index};

use crate::messages::{Event, Message, Part};

/// Bytes in one part: 256 KiB. What else is on the link does not wait longer than for that.
pub const PART_BYTES: usize = 256 * 1024;
/// Bytes that are written before they are synced: 4 MiB.
const SYNC_BYTES: u64 = 4 * 1024 * 1024;
/// Couriers that are served at one time; others ask again.
const ASKERS_MAX: usize = 16;
/// How often a source may leave a question open before another one is asked.
const SILENT_MAX: u32 = 3;

/// How long a courier waits, and how much it takes at one go.
#[derive(Clone, Copy, Debug)]
pub struct Config {
    /// For an answer, of another courier or of the files.
    pub patience: Duration,
    /// How long, and at most twice that, a checkpoint stays after somebody has asked for a part of
    /// it, though there is a newer one.
    pub pin: Duration,
    /// Bytes in one part that is sent from here: [`PART_BYTES`], or less where parts are looked at.
    pub part_bytes: usize,
}

/// What a courier asks to be woken for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Timer {
    /// The files have not said yet what is there.
    List,
    /// A transfer is under way: does it move?
    Again,
    /// Files are kept for those who carry them: do they still ask?
    Pins,
}

/// What a courier asks of the files of its node. Each but the last two is answered, under its
/// number.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Task {
    /// Which checkpoints are there?
    List,
    /// How much of the incoming file is right?
    Resume {
        /// Number of the task.
        task: u64,
        /// Which file.
        index: u64,
    },
    /// Write a part of the incoming file.
    Write {
        /// Number of the task.
        task: u64,
        /// Which file.
        index: u64,
        /// From which byte on.
        offset: u64,
        /// What.
        bytes: Bytes,
        /// Whether to sync the file.
        sync: bool,
    },
    /// The incoming file is complete: make it a checkpoint.
    Adopt {
        /// Number of the task.
        task: u64,
        /// Which file.
        index: u64,
    },
    /// Is this task, about an incoming file, still under way?
    Check {
        /// Number of the task.
        task: u64,
        /// Which file.
        index: u64,
    },
    /// Read a part of a checkpoint.
    Read {
        /// Number of the task.
        task: u64,
        /// Which file.
        index: u64,
        /// From which byte on.
        offset: u64,
        /// How many bytes at most.
        bytes_max: usize,
    },
    /// Remove these.
    Remove(Vec<Numbered>),
}

/// What a courier says, and to whom.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Outbound {
    /// To the courier on that node.
    Courier(NodeId, Message),
    /// To the files of this node.
    Files(Task),
    /// To the application.
    Application(Event),
}

/// What a transfer waits for on this node.
#[derive(Clone, Debug)]
enum Doing {
    Nothing,
    Resuming { task: u64 },
    Writing { task: u64, part: Part, sync: bool },
    Adopting { task: u64 },
}

impl Doing {
    fn task(&self) -> Option<u64> {
        match self {
            Doing::Nothing => None,
            Doing::Resuming { task } | Doing::Writing { task, .. } | Doing::Adopting { task } => {
                Some(*task)
            }
        }
    }
}

/// A transfer to this node.
#[derive(Clone, Debug)]
struct Fetch {
    /// The least that is wanted.
    least: Index,
    source: NodeId,
    /// What is being carried, and which file it is, once a part of it has come.
    file: Option<(Index, Option<Stamp>)>,
    /// Bytes of it that are in the incoming file.
    end: u64,
    unsynced: u64,
    doing: Doing,
    /// The question that is open.
    asked: Option<u64>,
    /// The question that was open when the timer was set.
    asked_before: Option<u64>,
    /// What came while the part before it was being written.
    next: Option<Part>,
    /// Questions that were left open, since an answer came.
    silent: u32,
}

impl Fetch {
    fn new(least: Index, source: NodeId) -> Self {
        Fetch {
            least,
            source,
            file: None,
            end: 0,
            unsynced: 0,
            doing: Doing::Nothing,
            asked: None,
            asked_before: None,
            next: None,
            silent: 0,
        }
    }

    /// First byte that has not come.
    fn wanted(&self) -> u64 {
        match (&self.next, &self.doing) {
            (Some(part), _) | (None, Doing::Writing { part, .. }) => {
                part.offset + part.bytes.len() as u64
            }
            _ => self.end,
        }
    }

    fn total(&self) -> Option<u64> {
        self.file.and_then(|(_, stamp)| stamp).map(|stamp| stamp.bytes)
    }

    /// Begins with another file, of which nothing is here.
    fn begin(&mut self, file: Option<(Index, Option<Stamp>)>) {
        self.file = file;
        (self.end, self.unsynced) = (0, 0);
        (self.doing, self.next) = (Doing::Nothing, None);
    }
}

/// What is being read for another courier.
#[derive(Clone, Copy, Debug)]
struct Serving {
    task: u64,
    number: u64,
    index: Index,
    offset: u64,
}

/// The courier of one group on one node.
#[derive(Clone, Debug)]
pub struct Courier {
    me: NodeId,
    nodes: Vec<NodeId>,
    config: Config,
    /// The files have said what is there.
    listed: bool,
    /// Complete checkpoints.
    here: BTreeSet<u64>,
    /// Files that are not complete.
    incoming: BTreeSet<u64>,
    /// The newest that the application keeps.
    kept: u64,
    fetch: Option<Fetch>,
    /// Per asker, which checkpoint it carries, and whether it has asked since the timer was set.
    pins: BTreeMap<NodeId, (u64, bool)>,
    /// The one before the newest, at the start: whoever carries it does not know that we have
    /// started anew.
    former: Option<u64>,
    serving: BTreeMap<NodeId, Serving>,
    pins_armed: bool,
    last_number: u64,
    last_task: u64,
}

impl Courier {
    /// A courier that does not know yet what is there, see [`Courier::start`]. `chance` is drawn
    /// at random: answers to questions of a former life must not look like answers to ours.
    pub fn new(me: NodeId, nodes: Vec<NodeId>, config: Config, chance: u64) -> Self {
        let first = chance >> 1;
        Courier {
            me,
            nodes,
            config,
            listed: false,
            here: BTreeSet::new(),
            incoming: BTreeSet::new(),
            kept: 0,
            fetch: None,
            pins: BTreeMap::new(),
            former: None,
            serving: BTreeMap::new(),
            pins_armed: false,
            last_number: first,
            last_task: first,
        }
    }

    /// First words after a start, repeated until they are answered.
    pub fn start(&mut self, out: &mut Out<Self>) {
        out.send(Outbound::Files(Task::List));
        out.set_timer(Timer::List, self.config.patience, self.config.patience * 2);
    }

    /// Bytes here and in all, of what is being carried.
    pub fn progress(&self) -> Option<(u64, u64)> {
        let fetch = self.fetch.as_ref()?;
        Some((fetch.end, fetch.total()?))
    }

    fn task(&mut self) -> u64 {
        self.last_task += 1;
        self.last_task
    }

    fn on_listed(&mut self, names: &[String], out: &mut Out<Self>) {
        if self.listed {
            return;
        }
        self.listed = true;
        out.cancel_timer(Timer::List);
        for name in names {
            match Numbered::of(name) {
                Some(Numbered::Checkpoint(index)) => drop(self.here.insert(index)),
                Some(Numbered::Incoming(index)) => drop(self.incoming.insert(index)),
                None => {}
            }
        }
        self.former = self.here.iter().rev().nth(1).copied();
        if self.former.is_some() {
            self.arm_pins(out);
        }
        self.sweep(out);
        if self.fetch.is_some() {
            self.begin(out);
        }
    }

    fn on_fetch(&mut self, from: NodeId, index: Index, out: &mut Out<Self>) {
        if let Some(fetch) = &mut self.fetch {
            fetch.least = fetch.least.max(index);
            if fetch.file.is_none() && from != self.me {
                fetch.source = from;
            }
            return;
        }
        self.fetch = Some(Fetch::new(index, from));
        self.arm_again(out);
        if self.listed {
            self.begin(out);
        }
    }

    fn arm_again(&self, out: &mut Out<Self>) {
        out.set_timer(Timer::Again, self.config.patience, self.config.patience * 2);
    }

    /// Begins the transfer that is wanted, or goes on with one that was interrupted.
    fn begin(&mut self, out: &mut Out<Self>) {
        let task = self.task();
        let Some(fetch) = &mut self.fetch else { return };
        if let Some(index) = self.here.last().copied().filter(|here| *here >= fetch.least.0) {
            // It came before, and whoever was told so has started anew.
            self.end_fetch(out);
            let index = Index(index);
            return out.send(Outbound::Application(Event::Fetched { index }));
        }
        let least = fetch.least.0;
        let late: Vec<u64> = self.incoming.range(..least).copied().collect();
        if !late.is_empty() {
            self.incoming = self.incoming.split_off(&least);
            let late = late.into_iter().map(Numbered::Incoming).collect();
            out.send(Outbound::Files(Task::Remove(late)));
        }
        match self.incoming.last().copied() {
            Some(index) => {
                fetch.begin(Some((Index(index), None)));
                fetch.doing = Doing::Resuming { task };
                out.send(Outbound::Files(Task::Resume { task, index }));
            }
            None => self.ask(out),
        }
    }

    /// Nobody needs what is being fetched. If it is being checked already it comes all the same: a
    /// file may not be taken away from under that.
    fn on_enough(&mut self, out: &mut Out<Self>) {
        let adopting = |fetch: &Fetch| matches!(fetch.doing, Doing::Adopting { .. });
        if !self.fetch.as_ref().is_some_and(adopting) {
            self.end_fetch(out);
        }
    }

    fn end_fetch(&mut self, out: &mut Out<Self>) {
        self.fetch = None;
        out.cancel_timer(Timer::Again);
    }

    /// Asks for the next part, unless one is on its way or waits to be written (C2).
    fn ask(&mut self, out: &mut Out<Self>) {
        let Some(fetch) = &mut self.fetch else { return };
        let offset = fetch.wanted();
        let complete = fetch.total().is_some_and(|total| offset >= total);
        let busy = matches!(fetch.doing, Doing::Resuming { .. } | Doing::Adopting { .. });
        if fetch.asked.is_some() || fetch.next.is_some() || busy || complete {
            return;
        }
        if fetch.source == self.me {
            return self.next_source();
        }
        self.last_number += 1;
        let (number, index) = (self.last_number, fetch.least);
        fetch.asked = Some(number);
        let having = fetch.file.map(|(index, _)| index);
        let ask = Message::Ask { number, index, having, offset };
        out.send(Outbound::Courier(fetch.source, ask));
    }

    fn next_source(&mut self) {
        let Some(fetch) = &mut self.fetch else { return };
        let others: Vec<NodeId> =
            self.nodes.iter().copied().filter(|node| *node != self.me).collect();
        let place = others.iter().position(|node| *node == fetch.source);
        if let Some(next) = others.get(place.map_or(0, |place| (place + 1) % others.len())) {
            fetch.source = *next;
        }
        fetch.silent = 0;
    }

    fn on_part(&mut self, part: Part, out: &mut Out<Self>) {
        let Some(fetch) = &mut self.fetch else { return };
        // C5. Also when it is damaged: then the question stays open, and is asked again.
        if fetch.asked != Some(part.number) || crc32fast::hash(&part.bytes) != part.crc {
            return;
        }
        (fetch.asked, fetch.silent) = (None, 0);
        let stamp = Stamp { bytes: part.total, sum: part.sum };
        let known = fetch.file.filter(|(index, _)| *index == part.index);
        match known {
            Some((_, Some(known))) if known != stamp => {
                // Another file of that name: what is here is not of it.
                fetch.begin(Some((part.index, Some(stamp))));
            }
            Some((index, _)) => fetch.file = Some((index, Some(stamp))),
            None if part.index >= fetch.least && part.offset == 0 => {
                let former = fetch.file.map(|(index, _)| index.0);
                fetch.begin(Some((part.index, Some(stamp))));
                if let Some(former) = former.filter(|former| self.incoming.remove(former)) {
                    out.send(Outbound::Files(Task::Remove(vec![Numbered::Incoming(former)])));
                }
            }
            None => return,
        }
        if part.offset == fetch.wanted() && !part.bytes.is_empty() {
            self.incoming.insert(part.index.0);
            match fetch.doing {
                Doing::Nothing => self.write(part, out),
                _ => fetch.next = Some(part),
            }
        } else if part.offset > part.total || fetch.end > part.total {
            // More is here than the source has.
            fetch.begin(Some((part.index, Some(stamp))));
        }
        self.adopt_if_complete(out);
        self.ask(out);
    }

    fn write(&mut self, part: Part, out: &mut Out<Self>) {
        let task = self.task();
        let Some(fetch) = &mut self.fetch else { return };
        fetch.unsynced += part.bytes.len() as u64;
        let sync = fetch.unsynced >= SYNC_BYTES;
        if sync {
            fetch.unsynced = 0;
        }
        fetch.doing = Doing::Writing { task, part, sync };
        self.do_again(out);
    }

    /// Asks the files, for the first time or once more, for what is under way.
    fn do_again(&mut self, out: &mut Out<Self>) {
        let Some(fetch) = &self.fetch else { return };
        let Some((index, _)) = fetch.file else { return };
        let index = index.0;
        let task = match &fetch.doing {
            Doing::Nothing => return,
            Doing::Resuming { task } => Task::Resume { task: *task, index },
            Doing::Adopting { task } => Task::Adopt { task: *task, index },
            Doing::Writing { task, part, sync } => {
                let (offset, bytes) = (part.offset, part.bytes.clone());
                Task::Write { task: *task, index, offset, bytes, sync: *sync }
            }
        };
        out.send(Outbound::Files(task));
    }

    fn on_written(&mut self, id: u64, end: u64, out: &mut Out<Self>) {
        let Some(fetch) = &mut self.fetch else { return };
        let Doing::Writing { task, part, .. } = &fetch.doing else { return };
        if *task != id {
            return;
        }
        let whole = part.offset + part.bytes.len() as u64 == end;
        fetch.doing = Doing::Nothing;
        fetch.end = end;
        let next = fetch.next.take().filter(|_| whole);
        if !whole {
            // The files have lost something below: go on from there.
            fetch.asked = None;
        }
        if let (Some((index, _)), Some(total)) = (fetch.file, fetch.total()) {
            let done = fetch.end;
            out.send(Outbound::Application(Event::Carried { index, done, total }));
        }
        if let Some(part) = next {
            self.write(part, out);
        }
        self.adopt_if_complete(out);
        self.ask(out);
    }

    fn adopt_if_complete(&mut self, out: &mut Out<Self>) {
        let task = self.task();
        let Some(fetch) = &mut self.fetch else { return };
        if fetch.total() == Some(fetch.end) && matches!(fetch.doing, Doing::Nothing) {
            fetch.doing = Doing::Adopting { task };
            self.do_again(out);
        }
    }

    fn on_adopted(&mut self, id: u64, right: bool, out: &mut Out<Self>) {
        let Some(fetch) = &mut self.fetch else { return };
        let (Doing::Adopting { task }, Some((index, _))) = (&fetch.doing, fetch.file) else {
            return;
        };
        if *task != id {
            return;
        }
        self.incoming.remove(&index.0);
        if right {
            self.here.insert(index.0);
            self.end_fetch(out);
            out.send(Outbound::Application(Event::Fetched { index }));
            self.sweep(out);
        } else {
            // Damaged at its source or on its way, or a mixture of two: begin again elsewhere.
            fetch.begin(None);
            self.next_source();
            self.ask(out);
        }
    }

    fn on_failed(&mut self, id: u64, why: String, out: &mut Out<Self>) {
        let Some(fetch) = &mut self.fetch else { return };
        if fetch.doing.task() != Some(id) {
            return;
        }
        // After a failed sync nothing is known of the file: it is of no use any more. The timer
        // asks again, so a full disk is not asked all the time.
        if let Some((index, _)) = fetch.file {
            self.incoming.remove(&index.0);
            out.send(Outbound::Files(Task::Remove(vec![Numbered::Incoming(index.0)])));
        }
        fetch.begin(None);
        fetch.asked = None;
        out.send(Outbound::Application(Event::Failed { why }));
    }

    fn on_file(&mut self, event: FileEvent, out: &mut Out<Self>) {
        match event {
            FileEvent::Listed(names) => self.on_listed(&names, out),
            FileEvent::Resumed { id, end } => {
                if let Some(fetch) = &mut self.fetch
                    && matches!(fetch.doing, Doing::Resuming { task } if task == id)
                {
                    fetch.doing = Doing::Nothing;
                    fetch.end = end;
                    self.ask(out);
                }
            }
            FileEvent::Written { id, end } => self.on_written(id, end, out),
            FileEvent::Adopted { id, right } => self.on_adopted(id, right, out),
            FileEvent::Failed { id, why } => self.on_failed(id, why, out),
            FileEvent::Asked { id, under_way } => {
                let task = self.fetch.as_ref().and_then(|fetch| fetch.doing.task());
                if !under_way && task == Some(id) {
                    // The answer would have come before: the files have lost the task.
                    self.do_again(out);
                }
            }
            FileEvent::Part { id, part } => self.on_read(id, part, out),
            FileEvent::Read { .. } | FileEvent::Refused { .. } | FileEvent::Saved { .. } => {
                out.alarm("the courier was answered what it had not asked".into());
            }
        }
    }

    fn on_again(&mut self, out: &mut Out<Self>) {
        let Some(fetch) = &mut self.fetch else { return };
        if let (Some(task), Some((index, _))) = (fetch.doing.task(), fetch.file) {
            out.send(Outbound::Files(Task::Check { task, index: index.0 }));
        }
        if fetch.asked.is_some() && fetch.asked == fetch.asked_before {
            fetch.asked = None;
            fetch.silent += 1;
            if fetch.silent >= SILENT_MAX {
                self.next_source();
            }
        }
        self.ask(out);
        if let Some(fetch) = &mut self.fetch {
            fetch.asked_before = fetch.asked;
        }
        self.arm_again(out);
    }

    fn on_ask(&mut self, from: NodeId, ask: (u64, Index, Option<Index>, u64), out: &mut Out<Self>) {
        let (number, least, having, offset) = ask;
        // Before we know what is here there is no answer: it is asked again.
        if !self.listed || (self.serving.len() >= ASKERS_MAX && !self.serving.contains_key(&from)) {
            return;
        }
        let having = having.filter(|index| self.here.contains(&index.0));
        let newest = self.here.last().copied().filter(|newest| *newest >= least.0);
        let (index, offset) = match (having, newest) {
            (Some(index), _) => (index, offset),
            (None, Some(newest)) => (Index(newest), 0),
            (None, None) => {
                return out.send(Outbound::Courier(from, Message::Gone { number }));
            }
        };
        self.pins.insert(from, (index.0, true));
        self.arm_pins(out);
        let task = self.task();
        self.serving.insert(from, Serving { task, number, index, offset });
        let (index, bytes_max) = (index.0, self.config.part_bytes);
        out.send(Outbound::Files(Task::Read { task, index, offset, bytes_max }));
    }

    fn on_read(&mut self, id: u64, part: Option<(Bytes, Stamp)>, out: &mut Out<Self>) {
        let asker = self.serving.iter().find(|(_, serving)| serving.task == id);
        let Some((asker, serving)) = asker.map(|(asker, serving)| (*asker, *serving)) else {
            return;
        };
        self.serving.remove(&asker);
        let Serving { number, index, offset, .. } = serving;
        let answer = match part {
            Some((bytes, Stamp { bytes: total, sum })) => {
                let crc = crc32fast::hash(&bytes);
                Message::Part(Part { number, index, offset, total, sum, crc, bytes })
            }
            None => {
                // It cannot be read: nobody needs to be told that it is here.
                self.here.remove(&index.0);
                Message::Gone { number }
            }
        };
        out.send(Outbound::Courier(asker, answer));
    }

    fn arm_pins(&mut self, out: &mut Out<Self>) {
        if !self.pins_armed {
            self.pins_armed = true;
            out.set_timer(Timer::Pins, self.config.pin, self.config.pin);
        }
    }

    fn on_pins(&mut self, out: &mut Out<Self>) {
        self.pins_armed = false;
        self.former = None;
        self.pins.retain(|_, (_, fresh)| std::mem::replace(fresh, false));
        if !self.pins.is_empty() {
            self.arm_pins(out);
        }
        self.sweep(out);
    }

    /// Removes what nobody needs any more (C4).
    fn sweep(&mut self, out: &mut Out<Self>) {
        let pinned = |index: &u64| {
            self.former == Some(*index) || self.pins.values().any(|(pinned, _)| pinned == index)
        };
        let kept = self.kept;
        let carried = self.fetch.as_ref().and_then(|fetch| fetch.file).map(|(index, _)| index.0);
        let old = self.here.range(..kept).filter(|index| !pinned(index));
        let late = self.incoming.range(..=kept).filter(|index| Some(**index) != carried);
        let gone: Vec<Numbered> = old
            .map(|index| Numbered::Checkpoint(*index))
            .chain(late.map(|index| Numbered::Incoming(*index)))
            .collect();
        for file in &gone {
            match file {
                Numbered::Checkpoint(index) => self.here.remove(index),
                Numbered::Incoming(index) => self.incoming.remove(index),
            };
        }
        if !gone.is_empty() {
            out.send(Outbound::Files(Task::Remove(gone)));
        }
    }
}

impl Core for Courier {
    type Inbound = Message;
    type Outbound = Outbound;
    type Timer = Timer;
    type Record = Never;

    fn on_message(&mut self, from: Name, message: Message, out: &mut Out<Self>) {
        match message {
            Message::Fetch { from, index } => self.on_fetch(from, index, out),
            Message::Enough => self.on_enough(out),
            Message::Kept { index } => {
                self.kept = self.kept.max(index.0);
                self.here.insert(index.0);
                if self.fetch.as_ref().is_some_and(|fetch| fetch.least <= index) {
                    self.on_enough(out);
                }
                if self.listed {
                    self.sweep(out);
                }
            }
            Message::File(event) => self.on_file(event, out),
            Message::Ask { number, index, having, offset } => {
                self.on_ask(from.node, (number, index, having, offset), out);
            }
            Message::Part(part) => self.on_part(part, out),
            Message::Gone { number } => {
                if self.fetch.as_ref().is_some_and(|fetch| fetch.asked == Some(number)) {
                    // The timer asks the next one: there may be none anywhere for a while.
                    self.next_source();
                    if let Some(fetch) = &mut self.fetch {
                        fetch.asked = None;
                    }
                }
            }
        }
    }

    fn on_timer(&mut self, timer: Timer, out: &mut Out<Self>) {
        match timer {
            Timer::List => self.start(out),
            Timer::Again => self.on_again(out),
            Timer::Pins => self.on_pins(out),
        }
    }

    fn invariants(&self) {
        if let Some(fetch) = &self.fetch {
            let writing = matches!(fetch.doing, Doing::Writing { .. });
            assert!(fetch.next.is_none() || (writing && fetch.asked.is_none()), "C2: three parts");
            if let (Doing::Adopting { .. }, total) = (&fetch.doing, fetch.total()) {
                assert!(total == Some(fetch.end), "C1: adopted before it is complete");
            }
        }
        assert!(self.serving.len() <= ASKERS_MAX, "C2: too many are served");
    }
}
