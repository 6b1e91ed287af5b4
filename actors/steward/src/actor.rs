//! The steward's mailbox.

use std::path::PathBuf;

use quorate_persistence::{FileEvent, FilesMessage, Writer};
use quorate_protocol::{Configuration, GroupId, Name, NodeId, Out};
use quorate_stage::{Directory, Effects, Mailbox, Outlet, PlainActor, PlainCore};

use crate::{
    core::{Outbound, Steward},
    messages::Message,
    record::Membership,
};

/// Whom a steward speaks to.
#[derive(Clone)]
pub struct Wiring {
    /// The stewards of its group.
    pub stewards: Directory<Message>,
    /// The files of its node ...
    pub files: Mailbox<FilesMessage>,
    /// ... the one that says who it is, and where it is told that this one is durable.
    pub record: (PathBuf, Outlet<FileEvent>),
    /// Begins its replica.
    pub begin: Outlet<(GroupId, NodeId, Configuration)>,
    /// Told that the group has no place for its node any more.
    pub gone: Outlet<(GroupId, String)>,
}

/// Where the files tell a steward that its record is durable.
pub fn recorded(steward: &Mailbox<Message>) -> Outlet<FileEvent> {
    let to = steward.clone();
    Outlet::from_fn(move |from, event| {
        if let FileEvent::Saved { .. } = event {
            to.send(from, Message::Recorded);
        }
    })
}

/// The steward's actor.
pub type StewardActor = PlainActor<Steward, Wiring>;

impl PlainCore for Steward {
    fn start(&mut self, out: &mut Out<Self>) {
        Steward::start(self, out);
    }
}

impl Effects<Steward> for Wiring {
    fn perform(&mut self, me: Name, outbound: Outbound) {
        match outbound {
            Outbound::Stewards(machines, message) => {
                for machine in machines {
                    self.stewards.send(me, me.group, machine, message.clone());
                }
            }
            Outbound::Engine(engine, request) => engine.send(me, request),
            Outbound::Record(node, configuration) => {
                let writer = Writer::of(Membership::new(node, configuration).encode());
                let (path, reply) = self.record.clone();
                self.files.send(me, FilesMessage::Save { path, id: 0, writer, reply });
            }
            Outbound::Begin(node, configuration) => {
                self.begin.send(me, (me.group, node, configuration));
            }
            Outbound::Gone(why) => self.gone.send(me, (me.group, why)),
            Outbound::Warn(text) => tracing::warn!(actor = %me, "{text}"),
        }
    }
}
