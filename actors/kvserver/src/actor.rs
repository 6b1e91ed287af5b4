//! The kvserver's mailbox, and the store as a replicated machine.

use std::{collections::BTreeMap, time::Duration};

use quorate_protocol::{
    Name, NodeId,
    planted::{Bug, is_planted},
};
use quorate_rsm::{Answers, Message as ToRsm, Placing, Request, Submit};
use quorate_stage::{Mailbox, Outlet, PeerOutlet, Role, Stage};

use crate::{
    door::Door,
    messages::{Op, Reply},
    request::{Message, Served},
    shards::{Command, Machine},
};

/// Ways to clerks that are remembered.
const CLERKS_MAX: usize = 1024;

/// A client's request as it stands in the log.
fn in_log(request: Request<Op>) -> Request<Command> {
    let Request { client_id, serial, acked_below, after, command } = request;
    Request { client_id, serial, acked_below, after, command: command.into() }
}

/// How often it is looked for operations of clerks without sessions that will not be answered.
const SWEEP: Duration = Duration::from_secs(10);

/// What a kvserver asks to be woken for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Timer {
    /// Give up what is never answered.
    Sweep,
}

/// The kvserver's actor: the door of a group for its clients.
pub struct KvServer {
    rsm: Mailbox<ToRsm<Machine>>,
    clerks: PeerOutlet<Served>,
    /// Per clerk and life of it, where the rsm puts its answers.
    replies: BTreeMap<(NodeId, u64), Outlet<Answers<Reply>>>,
    /// On behalf of clerks without sessions, and where the rsm puts those answers.
    door: Door,
    own: Outlet<Answers<Reply>>,
}

impl KvServer {
    /// A kvserver in front of `rsm`.
    pub fn new(
        rsm: Mailbox<ToRsm<Machine>>,
        clerks: PeerOutlet<Served>,
        stage: &mut Stage<Self>,
    ) -> Self {
        let session = match is_planted(Bug::SerialsReused) {
            true => stage.name().node.0.into(),
            false => stage.chance().number(),
        };
        let mailbox = stage.mailbox().clone();
        let own = Outlet::from_fn(move |from, answers| {
            mailbox.send(from, Message::AnsweredOwn { session, answers });
        });
        KvServer { rsm, clerks, replies: BTreeMap::new(), door: Door::new(session), own }
    }

    fn serve_sessionless(
        &mut self,
        clerk: NodeId,
        client_id: u64,
        ops: Vec<(u64, Op)>,
        stage: &mut Stage<Self>,
    ) {
        let (requests, refused) = self.door.admit(clerk, client_id, ops);
        if !refused.answers.is_empty() {
            self.clerks.send(stage.name(), clerk, refused);
        }
        let requests = requests.into_iter().map(|(own, request)| (own, in_log(request))).collect();
        let (placing, reply) = (Placing::UntilApplied, self.own.clone());
        self.rsm.send(stage.name(), ToRsm::Submit(Submit { requests, placing, reply }));
        self.watch(stage);
    }

    fn watch(&self, stage: &mut Stage<Self>) {
        if !self.door.is_idle() && !stage.timer_is_set(&Timer::Sweep) {
            stage.set_timer(Timer::Sweep, SWEEP);
        }
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
    type Timer = Timer;

    fn receive(&mut self, from: Name, message: Message, stage: &mut Stage<Self>) {
        match message {
            Message::Serve { requests } => {
                let Some(client_id) = requests.first().map(|(_, request)| request.client_id) else {
                    return;
                };
                let reply = self.reply_to(from.node, client_id, stage);
                let requests = requests.into_iter();
                let requests = requests.map(|(copy, request)| (copy, in_log(request))).collect();
                let placing = Placing::UntilApplied;
                let submit = Submit { requests, placing, reply };
                self.rsm.send(stage.name(), ToRsm::Submit(submit));
            }
            Message::ServeSessionless { client_id, ops } => {
                self.serve_sessionless(from.node, client_id, ops, stage);
            }
            Message::AnsweredOwn { session, answers } => {
                if session == self.door.session() {
                    for (clerk, served) in self.door.settle(answers) {
                        self.clerks.send(stage.name(), clerk, served);
                    }
                }
            }
            Message::Answered { to, client_id, answers } => {
                self.clerks.send(stage.name(), to, Served { client_id, answers });
            }
        }
    }

    fn on_timer(&mut self, Timer::Sweep: Timer, stage: &mut Stage<Self>) {
        self.door.sweep();
        self.watch(stage);
    }
}
