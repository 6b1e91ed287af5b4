//! Raft on one node: one peer.

use std::sync::Arc;

use quorate_persistence::JournalMessage;
use quorate_protocol::{Configuration, Role as RoleName, log::Event};
use quorate_raft::{Config, Message, RaftActor, Status, Wiring};
use quorate_stage::{Mailbox, Node, Outlet, Peers, Transport, seat};

use crate::{
    engine::{Engine, GroupConfig, Ports},
    journal::GroupJournal,
};

/// Raft as the engine of a log.
pub(crate) fn engine(
    node: &Node,
    config: &GroupConfig,
    transport: &Arc<dyn Transport>,
    journal: &Mailbox<JournalMessage>,
    events: Outlet<Event>,
) -> Engine {
    let place = seat::<RaftActor<GroupJournal>>(node, config.name(RoleName::Raft));
    let mailbox: Mailbox<Message> = place.mailbox();
    let ports = Ports::from([(mailbox.name(), mailbox.port())]);
    let peer = Config {
        me: config.me.node,
        // Who was taken in later hears from the leader who the members are.
        formation: match config.admitted {
            Some(_) => Configuration::default(),
            None => Configuration::of(config.nodes.iter().copied()),
        },
        limits: config.raft_limits,
        timing: config.raft_timing,
    };
    let wiring = Wiring { peers: Peers::new(mailbox.clone(), transport.clone()), log: events };
    let (group, me, journal) = (config.group, mailbox.name(), journal.clone());
    let durability = mailbox.outlet();
    let abort = place.take(move |_| {
        let journal = GroupJournal::new(group, journal.clone(), durability.clone());
        RaftActor::new(me, peer.clone(), journal, wiring.clone())
    });
    let to = mailbox.clone();
    let links = Outlet::from_fn(move |from, (node, up)| {
        to.send(from, if up { Message::LinkUp(node) } else { Message::LinkDown(node) });
    });
    let to = mailbox.clone();
    let bytes = Outlet::from_fn(move |from, reply: Outlet<u64>| {
        let reply = Outlet::from_fn(move |from, status: Status| {
            reply.send(from, status.log_bytes);
        });
        to.send(from, Message::AskStatus(reply));
    });
    let (proposals, log) = (mailbox.outlet(), mailbox.outlet());
    Engine { proposals, log, links, raft: Some(mailbox), bytes, ports, aborts: vec![abort] }
}
