//! Paxos on one node: an acceptor, a proposer and a learner, wired together.

use std::sync::Arc;

use quorate_acceptor::{AcceptorActor, Message as ToAcceptor, Wiring as AcceptorWiring};
use quorate_learner::{
    Holes, Learner, LearnerActor, Message as ToLearner, Wiring as LearnerWiring,
};
use quorate_persistence::JournalMessage;
use quorate_proposer::{
    Config as ProposerConfig, Message as ToProposer, Proposer, ProposerActor,
    Wiring as ProposerWiring,
};
use quorate_protocol::{
    Configuration, Role as RoleName,
    log::{Event, Request},
};
use quorate_stage::{Mailbox, Node, Outlet, Peers, Transport, seat};
use tokio::task::AbortHandle;

use crate::{
    engine::{Engine, GroupConfig, Ports},
    journal::GroupJournal,
};

/// The three roles without a machine: the labs' library.
pub struct Library {
    /// The proposer.
    pub proposer: Mailbox<ToProposer>,
    /// The learner.
    pub learner: Mailbox<ToLearner>,
    /// Doors for messages of other nodes.
    pub ports: Ports,
    /// Ends its actors.
    pub aborts: Vec<AbortHandle>,
}

/// Paxos as the engine of a log.
pub(crate) fn engine(
    node: &Node,
    config: &GroupConfig,
    transport: &Arc<dyn Transport>,
    journal: &Mailbox<JournalMessage>,
    events: Outlet<Event>,
) -> Engine {
    let Roles { acceptor, proposer, learner, ports, aborts } =
        roles(node, config, Holes::Filled, transport, journal, Some(events));
    let to = proposer.clone();
    let links = Outlet::from_fn(move |from, (node, up)| {
        let message = if up { ToProposer::LinkUp(node) } else { ToProposer::LinkDown(node) };
        to.send(from, message);
    });
    let bytes =
        Outlet::from_fn(move |from, reply| acceptor.send(from, ToAcceptor::AskBytes(reply)));
    let proposals = Outlet::from_fn(move |from, request| match request {
        // Not yet: see ARCHITECTURE.md, What is not there yet.
        Request::Reconfigure(_) => {}
        request => proposer.send(from, request.into()),
    });
    let log = learner.outlet();
    Engine { proposals, log, links, raft: None, bytes, ports, aborts }
}

struct Roles {
    acceptor: Mailbox<ToAcceptor>,
    proposer: Mailbox<ToProposer>,
    learner: Mailbox<ToLearner>,
    ports: Ports,
    aborts: Vec<AbortHandle>,
}

fn roles(
    node: &Node,
    config: &GroupConfig,
    holes: Holes,
    transport: &Arc<dyn Transport>,
    journal: &Mailbox<JournalMessage>,
    log: Option<Outlet<Event>>,
) -> Roles {
    let acceptor_seat = seat::<AcceptorActor<GroupJournal>>(node, config.name(RoleName::Acceptor));
    let proposer_seat = seat::<ProposerActor>(node, config.name(RoleName::Proposer));
    let learner_seat = seat::<LearnerActor>(node, config.name(RoleName::Learner));
    let acceptor = acceptor_seat.mailbox();
    let proposer = proposer_seat.mailbox();
    let learner = learner_seat.mailbox();
    let acceptors = Peers::new(acceptor.clone(), transport.clone());
    let proposers = Peers::new(proposer.clone(), transport.clone());
    let learners = Peers::new(learner.clone(), transport.clone());
    let mut ports = Ports::new();
    ports.insert(acceptor.name(), acceptor.port());
    ports.insert(proposer.name(), proposer.port());
    ports.insert(learner.name(), learner.port());
    // Who lags may not know which life of ours to ask.
    ports.insert(learner.name().on(config.me.node.home()), learner.port());

    let (group, me) = (config.group, acceptor.name());
    let wiring = AcceptorWiring { proposers: proposers.outlet(), learner: learner.outlet() };
    let (journal, durability) = (journal.clone(), acceptor.outlet());
    let newcomer = config.me.node.life() > 0;
    let mut aborts = vec![acceptor_seat.take(move |_| {
        let journal = GroupJournal::new(group, journal.clone(), durability.clone());
        AcceptorActor::new(me, newcomer, journal, wiring.clone())
    })];

    let wiring = LearnerWiring {
        acceptor: acceptor.outlet(),
        learners: learners.clone(),
        proposers: proposers.outlet(),
        log: log.clone(),
    };
    let formation = Configuration::of(config.nodes.iter().copied());
    // Who was taken in later learns from the log, or from a checkpoint, who ruled before.
    let told = config.admitted.clone().unwrap_or_else(|| formation.clone());
    let (timing, me) = (config.learner_timing, config.me);
    aborts.push(learner_seat.take(move |_| {
        let core = Learner::new(me.node, told.clone(), holes, timing);
        LearnerActor::new(core, wiring.clone())
    }));

    let wiring = ProposerWiring { acceptors, learners, proposers, log };
    let proposer_config = ProposerConfig {
        me: config.me,
        formation,
        holes,
        limits: config.limits,
        timing: config.timing,
    };
    aborts.push(
        proposer_seat.take(move |_| {
            ProposerActor::new(Proposer::new(proposer_config.clone()), wiring.clone())
        }),
    );
    Roles { acceptor, proposer, learner, ports, aborts }
}

/// The labs' Paxos library on this node: instances, no log.
pub fn library(
    node: &Node,
    config: &GroupConfig,
    transport: &Arc<dyn Transport>,
    journal: &Mailbox<JournalMessage>,
) -> Library {
    let Roles { proposer, learner, ports, aborts, .. } =
        roles(node, config, Holes::Left, transport, journal, None);
    Library { proposer, learner, ports, aborts }
}
