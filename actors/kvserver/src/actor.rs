//! The kvserver's mailbox, and the store as a replicated machine.

use std::collections::BTreeMap;

use quorate_persistence::Writer;
use quorate_protocol::{Name, NodeId};
use quorate_rsm::{Answers, At, Message as ToRsm, Request, StateMachine, Submit};
use quorate_stage::{Mailbox, Outlet, PeerOutlet, Role, Stage};

use crate::{
    machine::Store,
    messages::{Op, Reply},
    request::{Message, Served},
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

    fn snapshot(&self) -> Writer {
        let snapshot = Store::snapshot(self);
        Box::new(move |sink| {
            for chunk in snapshot.encode_chunks() {
                sink.write(&chunk)?;
            }
            Ok(())
        })
    }

    fn restore(bytes: &[u8]) -> Result<Self, String> {
        Store::decode([bytes]).map_err(|error| error.to_string())
    }
}

/// The kvserver's actor: the door of a group for its clients.
pub struct KvServer {
    rsm: Mailbox<ToRsm<Store>>,
    clerks: PeerOutlet<Served>,
    /// Per clerk, its present life and where the rsm puts the answers to that.
    replies: BTreeMap<NodeId, (u64, Outlet<Answers<Reply>>)>,
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
        if let Some((known, reply)) = self.replies.get(&clerk)
            && *known == client_id
        {
            return reply.clone();
        }
        let mailbox = stage.mailbox().clone();
        let reply = Outlet::from_fn(move |from, answers| {
            mailbox.send(from, Message::Answered { to: clerk, client_id, answers });
        });
        self.replies.insert(clerk, (client_id, reply.clone()));
        reply
    }
}

impl Role for KvServer {
    type Message = Message;
    type Timer = ();

    fn receive(&mut self, from: Name, message: Message, stage: &mut Stage<Self>) {
        match message {
            Message::Serve { requests } => {
                let mut by_client: BTreeMap<u64, Vec<(u64, Request<Op>)>> = BTreeMap::new();
                for request in requests {
                    let of_client = by_client.entry(request.client_id).or_default();
                    of_client.push((request.serial, request));
                }
                for (client_id, requests) in by_client {
                    let reply = self.reply_to(from.node, client_id, stage);
                    self.rsm.send(stage.name(), ToRsm::Submit(Submit { requests, reply }));
                }
            }
            Message::Answered { to, client_id, answers } => {
                self.clerks.send(stage.name(), to, Served { client_id, answers });
            }
        }
    }
}
