//! What an engine's actor sees of the journal of its node.

use bytes::Bytes;
use quorate_persistence::{JournalEvent, JournalMessage};
use quorate_protocol::{GroupId, Name};
use quorate_stage::{Durability, JournalLink, Mailbox, Outlet};

/// A group's part of the node's journal.
pub(crate) struct GroupJournal {
    group: GroupId,
    journal: Mailbox<JournalMessage>,
    events: Outlet<JournalEvent>,
}

impl GroupJournal {
    /// The journal of `group`, which speaks to `to`.
    pub(crate) fn new(
        group: GroupId,
        journal: Mailbox<JournalMessage>,
        to: Outlet<Durability>,
    ) -> Self {
        let events = Outlet::from_fn(move |from, event| {
            let event = match event {
                JournalEvent::Recovered(records) => Durability::Recovered(records),
                JournalEvent::Durable(number) => Durability::Durable(number),
                JournalEvent::Lost => Durability::Lost,
            };
            to.send(from, event);
        });
        GroupJournal { group, journal, events }
    }
}

impl JournalLink for GroupJournal {
    fn open(&mut self, me: Name) {
        let (group, reply) = (self.group, self.events.clone());
        self.journal.send(me, JournalMessage::Open { group, reply });
    }

    fn append(&mut self, me: Name, number: u64, records: Vec<(Bytes, u64)>, standing: Bytes) {
        let group = self.group;
        self.journal.send(me, JournalMessage::Append { group, number, records, standing });
    }

    fn trim(&mut self, me: Name, below: u64) {
        self.journal.send(me, JournalMessage::Trim { group: self.group, below });
    }
}
