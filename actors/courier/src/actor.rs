//! The courier's mailbox.

use std::path::PathBuf;

use quorate_persistence::{FileEvent, FilesMessage, Numbered};
use quorate_protocol::{Core as _, Name, Never};
use quorate_stage::{Driver, Effects, Ledger, Outlet, Peers, Role, Stage};

use crate::{
    core::{Courier, Outbound, Task, Timer},
    messages::{Event, Message},
};

/// Whom the courier speaks to.
#[derive(Clone)]
pub struct Wiring {
    /// Where the checkpoints of its group lie.
    pub dir: PathBuf,
    /// The files of its node.
    pub files: Outlet<FilesMessage>,
    /// The couriers of its group.
    pub couriers: Peers<Message>,
    /// Whoever wants checkpoints.
    pub application: Outlet<Event>,
}

/// The courier's actor.
pub struct CourierActor {
    driver: Driver<Courier>,
    hands: Hands,
}

struct Hands {
    wiring: Wiring,
    events: Outlet<FileEvent>,
}

impl CourierActor {
    /// Drives `core`.
    pub fn new(core: Courier, wiring: Wiring, stage: &Stage<Self>) -> Self {
        let events = stage.mailbox().outlet();
        CourierActor { driver: Driver::new(core), hands: Hands { wiring, events } }
    }
}

impl Ledger<Courier> for Hands {
    fn append(&mut self, _: &Courier, _: Vec<Never>) -> u64 {
        0
    }
}

impl Hands {
    fn message(&self, task: Task) -> FilesMessage {
        let reply = self.events.clone();
        let dir = &self.wiring.dir;
        let incoming = |index| Numbered::Incoming(index).path(dir);
        let checkpoint = |index| Numbered::Checkpoint(index).path(dir);
        match task {
            Task::List => FilesMessage::List { dir: dir.clone(), reply },
            Task::Resume { task, index } => {
                FilesMessage::Resume { path: incoming(index), id: task, reply }
            }
            Task::Write { task, index, offset, bytes, sync } => {
                let path = incoming(index);
                FilesMessage::WritePart { path, id: task, offset, bytes, sync, reply }
            }
            Task::Adopt { task, index } => {
                let (path, to) = (incoming(index), checkpoint(index));
                FilesMessage::Adopt { path, to, id: task, reply }
            }
            Task::Check { task, index } => {
                FilesMessage::Ask { path: incoming(index), id: task, reply }
            }
            Task::Read { task, index, offset, bytes_max } => FilesMessage::ReadPart {
                path: checkpoint(index),
                id: task,
                offset,
                bytes_max,
                reply,
            },
            Task::Remove(files) => {
                let paths = files.into_iter().map(|file| file.path(dir)).collect();
                FilesMessage::Remove { paths }
            }
        }
    }
}

impl Effects<Courier> for Hands {
    fn perform(&mut self, me: Name, outbound: Outbound) {
        match outbound {
            Outbound::Courier(node, message) => self.wiring.couriers.send(me, node, message),
            Outbound::Files(task) => self.wiring.files.send(me, self.message(task)),
            Outbound::Application(event) => {
                if let Event::Failed { why } = &event {
                    tracing::warn!(actor = %me, "a checkpoint cannot be fetched for now: {why}");
                }
                self.wiring.application.send(me, event);
            }
        }
    }
}

impl Role for CourierActor {
    type Message = Message;
    type Timer = Timer;

    fn started(&mut self, stage: &mut Stage<Self>) {
        self.driver.step(stage, &mut self.hands, |core, out| core.start(out));
    }

    fn receive(&mut self, from: Name, message: Message, stage: &mut Stage<Self>) {
        self.driver.step(stage, &mut self.hands, |core, out| core.on_message(from, message, out));
    }

    fn on_timer(&mut self, timer: Timer, stage: &mut Stage<Self>) {
        self.driver.step(stage, &mut self.hands, |core, out| core.on_timer(timer, out));
    }
}
