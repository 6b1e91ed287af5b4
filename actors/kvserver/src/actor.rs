//! The kvserver's mailbox, and the store as a replicated machine.

use std::collections::BTreeMap;

use quorate_protocol::{Name, NodeId};
use quorate_rsm::{
    Answers, At, Message as ToRsm, Restore, Restoring, StateMachine, Submit, Writer,
};
use quorate_stage::{Mailbox, Outlet, PeerOutlet, Role, Stage};

use crate::{
    machine::Store,
    messages::{Op, Reply},
    request::{Message, Served},
    snapshot::Restore as StoreRestore,
};

impl StateMachine for Store {
    type Command = Op;
    type Reply = Reply;

    fn is_read(command: &Op) -> bool {
        command.is_read()
    }

    fn apply(&mut self, _: At, command: Op) -> Reply {
        Store::apply(self, &command)
    }

    fn query(&self, command: &Op) -> Reply {
        Store::query(self, command)
    }

    fn size(&self) -> (u64, u64) {
        (self.len(), self.bytes())
    }

    fn snapshot(&self) -> Writer {
        Writer::new(Store::snapshot(self).encode_chunks())
    }

    fn restore() -> Restore<Self> {
        Restore::streamed(StoreRestore::new())
    }
}

impl Restoring<Store> for StoreRestore {
    fn feed(&mut self, bytes: &[u8]) -> Result<(), String> {
        StoreRestore::feed(self, bytes).map_err(|error| error.to_string())
    }

    fn finish(self: Box<Self>) -> Result<Store, String> {
        StoreRestore::finish(*self).map_err(|error| error.to_string())
    }
}

/// Ways to clerks that are remembered.
const CLERKS_MAX: usize = 1024;

/// The kvserver's actor: the door of a group for its clients.
pub struct KvServer {
    rsm: Mailbox<ToRsm<Store>>,
    clerks: PeerOutlet<Served>,
    /// Per clerk and life of it, where the rsm puts its answers.
    replies: BTreeMap<(NodeId, u64), Outlet<Answers<Reply>>>,
}

impl KvServer {
    /// A kvserver in front of `rsm`.
    pub fn new(rsm: Mailbox<ToRsm<Store>>, clerks: PeerOutlet<Served>) -> Self {
        KvServer { rsm, clerks, replies: BTreeMap::new() }
    }

    fn reply_to(
        &mut self,
        clerk: NodeId,
        client_id: u64,
        stage: &Stage<Self>,
    ) -> Outlet<Answers<Reply>> {
        if self.replies.len() >= CLERKS_MAX {
            // Only a shortcut: whoever asks again gets another one.
            self.replies.clear();
        }
        let outlet = || {
            let mailbox = stage.mailbox().clone();
            Outlet::from_fn(move |from, answers| {
                mailbox.send(from, Message::Answered { to: clerk, client_id, answers });
            })
        };
        self.replies.entry((clerk, client_id)).or_insert_with(outlet).clone()
    }
}

impl Role for KvServer {
    type Message = Message;
    type Timer = ();

    fn receive(&mut self, from: Name, message: Message, stage: &mut Stage<Self>) {
        match message {
            Message::Serve { requests } => {
                let Some(client_id) = requests.first().map(|request| request.client_id) else {
                    return;
                };
                let reply = self.reply_to(from.node, client_id, stage);
                let requests = requests.into_iter().map(|request| (request.serial, request));
                let submit = Submit { requests: requests.collect(), reply };
                self.rsm.send(stage.name(), ToRsm::Submit(submit));
            }
            Message::Answered { to, client_id, answers } => {
                self.clerks.send(stage.name(), to, Served { client_id, answers });
            }
        }
    }
}
