//! The mover's mailbox.

use quorate_kvserver::{Command, Machine, Reply};
use quorate_protocol::{GroupId, Name, Out};
use quorate_rsm::{Answers, Message as ToRsm, Placing, Request, Submit};
use quorate_shardmaster::Message as ToMaster;
use quorate_stage::{Directory, Effects, Mailbox, Outlet, PlainActor, PlainCore};

use crate::{
    core::{Mover, Outbound},
    messages::Message,
};

/// Whom the mover speaks to.
#[derive(Clone)]
pub struct Wiring {
    /// The rsm of its replica.
    pub rsm: Mailbox<ToRsm<Machine>>,
    /// Where that puts its answers to looks.
    pub peeked: Outlet<Answers<Reply>>,
    /// And to commands.
    pub answered: Outlet<Answers<Reply>>,
    /// The movers of all groups.
    pub movers: Directory<Message>,
    /// The shardmasters.
    pub masters: Directory<ToMaster>,
}

impl Wiring {
    /// The wiring of the mover behind `mailbox`.
    pub fn new(
        mailbox: &Mailbox<Message>,
        rsm: Mailbox<ToRsm<Machine>>,
        movers: Directory<Message>,
        masters: Directory<ToMaster>,
    ) -> Self {
        let to = mailbox.clone();
        let peeked = Outlet::from_fn(move |from, answers| to.send(from, Message::Peeked(answers)));
        let to = mailbox.clone();
        let answered =
            Outlet::from_fn(move |from, answers| to.send(from, Message::Answered(answers)));
        Wiring { rsm, peeked, answered, movers, masters }
    }
}

/// The mover's actor.
pub type MoverActor = PlainActor<Mover, Wiring>;

impl PlainCore for Mover {
    fn start(&mut self, out: &mut Out<Self>) {
        Mover::start(self, out);
    }
}

impl Effects<Mover> for Wiring {
    fn perform(&mut self, me: Name, outbound: Outbound) {
        match outbound {
            Outbound::Peek { token, command } => {
                let (commands, reply) = (vec![(token, command)], self.peeked.clone());
                self.rsm.send(me, ToRsm::Peek { commands, reply });
            }
            Outbound::Submit { client_id, serial, acked_below, command } => {
                let request: Request<Command> =
                    Request { client_id, serial, acked_below, after: 0, command };
                let (placing, reply) = (Placing::UntilApplied, self.answered.clone());
                let submit = Submit { requests: vec![(serial, request)], placing, reply };
                self.rsm.send(me, ToRsm::Submit(submit));
            }
            Outbound::Mover(group, node, message) => {
                self.movers.send(me, group, node, message);
            }
            Outbound::Master(node, message) => {
                self.masters.send(me, GroupId(0), node, message);
            }
        }
    }
}
