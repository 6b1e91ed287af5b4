//! Worlds of several groups: what is with each, and what each keeps.

use quorate_kvserver::{Command, Machine, Reply, View};
use quorate_protocol::{GroupId, Name, NodeId, Role};
use quorate_rsm::{Answers, Message as ToRsm, Outcome, Placing, Request, Submit};
use quorate_stage::Mailbox;

use crate::world::{World, ask};

impl World {
    fn rsm_of(&self, node: NodeId, group: GroupId) -> Option<Mailbox<ToRsm<Machine>>> {
        let on = self.node(node);
        on.groups().get(&group).map(|replica| replica.group.rsm.clone())
    }

    /// Which shards are with a group, as its replica on a running server has applied it. `None` if
    /// there is no such replica, or its rsm crashes over the question.
    pub async fn view(&self, node: NodeId, group: GroupId) -> Option<View> {
        let rsm = self.rsm_of(node, group)?;
        let peek = |reply| ToRsm::Peek { commands: vec![(0, Command::View)], reply };
        let answers: Answers<Reply> = ask(|reply| rsm.send(rsm.name(), peek(reply))).await?;
        match answers.into_iter().next() {
            Some((_, Outcome::Done(Reply::View(view)))) => Some(view),
            _ => None,
        }
    }

    /// Puts a command into the log of a group, through its replica on a running server, as a client of
    /// its own, and waits for what becomes of it. `None` as above.
    pub async fn submit(
        &self,
        node: NodeId,
        group: GroupId,
        command: Command,
    ) -> Option<Outcome<Reply>> {
        let rsm = self.rsm_of(node, group)?;
        let client_id = self.below(u64::MAX);
        let request = Request { client_id, serial: 1, acked_below: 1, after: 0, command };
        let (requests, placing) = (vec![(0, request)], Placing::UntilApplied);
        let submit = |reply| ToRsm::Submit(Submit { requests, placing, reply });
        let answers: Answers<Reply> = ask(|reply| rsm.send(rsm.name(), submit(reply))).await?;
        answers.into_iter().next().map(|(_, outcome)| outcome)
    }

    /// Bytes of log that a group's replica on a server keeps. One that is down counts with the files of
    /// the server's journals, which hold a little more.
    pub async fn log_bytes_of(&self, node: NodeId, group: GroupId) -> u64 {
        let on = self.runs(node).then(|| self.node(node));
        let replica = on.and_then(|on| on.groups().remove(&group));
        let kept = match replica.map(|replica| replica.group.log_bytes.clone()) {
            Some(bytes) => ask(|reply| bytes.send(Name::of_node(node, Role::Outside), reply)).await,
            None => None,
        };
        kept.unwrap_or_else(|| self.journal_bytes(node))
    }
}
