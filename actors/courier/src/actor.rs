//! The courier's mailbox.

use std::path::PathBuf;

use quorate_persistence::{FileEvent, FilesMessage, Numbered};
use quorate_protocol::{Name, Out};
use quorate_stage::{Effects, Outlet, Peers, PlainActor, PlainCore};

use crate::{
    core::{Courier, Outbound, Task},
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
    /// The courier itself, for the answers of the files.
    pub events: Outlet<FileEvent>,
}

/// The courier's actor.
pub type CourierActor = PlainActor<Courier, Wiring>;

impl PlainCore for Courier {
    fn start(&mut self, out: &mut Out<Self>) {
        Courier::start(self, out);
    }
}

impl Wiring {
    fn message(&self, task: Task) -> FilesMessage {
        let reply = self.events.clone();
        let dir = &self.dir;
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

impl Effects<Courier> for Wiring {
    fn perform(&mut self, me: Name, outbound: Outbound) {
        match outbound {
            Outbound::Courier(node, message) => self.couriers.send(me, node, message),
            Outbound::Files(task) => self.files.send(me, self.message(task)),
            Outbound::Application(event) => {
                if let Event::Failed { why } = &event {
                    tracing::warn!(actor = %me, "a checkpoint cannot be fetched for now: {why}");
                }
                self.application.send(me, event);
            }
        }
    }
}
