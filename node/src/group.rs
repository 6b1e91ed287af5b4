//! One replica of one group: its actors, wired together.

use std::{collections::BTreeMap, path::PathBuf, sync::Arc, time::Duration};

use bytes::Bytes;
use quorate_acceptor::{
    AcceptorActor, Durability, JournalLink, Message as ToAcceptor, Wiring as AcceptorWiring,
};
use quorate_clerk::Message as ToClerk;
use quorate_kvserver::{KvServer, Message as ToKvServer, Served};
use quorate_learner::{
    Holes, Learner, LearnerActor, Message as ToLearner, Timing as LearnerTiming,
    Wiring as LearnerWiring,
};
use quorate_persistence::{FilesMessage, JournalEvent, JournalMessage};
use quorate_proposer::{
    Config as ProposerConfig, Limits, Message as ToProposer, Proposer, ProposerActor, Timing,
    Wiring as ProposerWiring,
};
use quorate_protocol::{GroupId, Member, Name, NodeId, Role as RoleName};
use quorate_rsm::{
    Config as RsmConfig, Message as ToRsm, RsmActor, StateMachine, Wiring as RsmWiring,
};
use quorate_stage::{Link, Mailbox, Node, Outlet, PeerOutlet, Peers, Port, Transport, seat};
use tokio::task::AbortHandle;

/// The store as a machine.
pub type Store = quorate_kvserver::Store;

/// What the actors of a group are told once.
#[derive(Clone, Debug)]
pub struct GroupConfig {
    /// Which group.
    pub group: GroupId,
    /// Who we are.
    pub me: Member,
    /// The nodes of the group.
    pub nodes: Vec<NodeId>,
    /// Bounds of the proposer.
    pub limits: Limits,
    /// Patience of the proposer.
    pub timing: Timing,
    /// Patience of the learner.
    pub learner_timing: LearnerTiming,
    /// Bounds of the rsm.
    pub rsm: RsmConfig,
}

impl GroupConfig {
    /// The usual bounds and patience. `lossy`: the network loses single messages, as the labs' do;
    /// over TCP a message is lost only with its connection.
    pub fn new(
        group: GroupId,
        me: Member,
        nodes: Vec<NodeId>,
        checkpoint: PathBuf,
        lossy: bool,
    ) -> Self {
        let ms = Duration::from_millis;
        let timing = Timing {
            retry: if lossy { ms(100) } else { ms(250) },
            campaign: ms(100),
            backoff_max: ms(700),
            linger: ms(5),
            resend: if lossy { ms(40) } else { ms(500) },
            hurry: ms(20),
        };
        let learner_timing = LearnerTiming {
            fetch_after: ms(10),
            fetch_after_max: ms(500),
            done_after: ms(10),
            done_after_max: ms(2000),
        };
        let rsm = RsmConfig::new(checkpoint);
        GroupConfig { group, me, nodes, limits: Limits::default(), timing, learner_timing, rsm }
    }

    fn name(&self, role: RoleName) -> Name {
        Name::new(self.me.node, self.group, role)
    }
}

/// The doors through which messages of other nodes come in.
pub type Ports = BTreeMap<Name, Arc<dyn Port>>;

/// A running replica: its mailboxes, and the handles that end it as a kill would.
pub struct Group<M: StateMachine> {
    /// The acceptor.
    pub acceptor: Mailbox<ToAcceptor>,
    /// The proposer.
    pub proposer: Mailbox<ToProposer>,
    /// The learner.
    pub learner: Mailbox<ToLearner>,
    /// The rsm.
    pub rsm: Mailbox<ToRsm<M>>,
    /// Doors for messages of other nodes.
    pub ports: Ports,
    /// Ends its actors.
    pub aborts: Vec<AbortHandle>,
}

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

/// A group's part of the node's journal.
struct GroupJournal {
    group: GroupId,
    journal: Mailbox<JournalMessage>,
    events: Outlet<JournalEvent>,
}

impl GroupJournal {
    fn new(group: GroupId, journal: Mailbox<JournalMessage>, to: Mailbox<ToAcceptor>) -> Self {
        let events = Outlet::from_fn(move |from, event| {
            let event = match event {
                JournalEvent::Recovered(records) => Durability::Recovered(records),
                JournalEvent::Durable(number) => Durability::Durable(number),
                JournalEvent::Lost => Durability::Lost,
            };
            to.send(from, ToAcceptor::Journal(event));
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
    log: Option<Outlet<quorate_protocol::log::Event>>,
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

    let (group, me) = (config.group, acceptor.name());
    let wire = {
        let (answers, reports) = (proposers.outlet(), learner.outlet());
        let (journal, acceptor) = (journal.clone(), acceptor.clone());
        move || AcceptorWiring {
            journal: GroupJournal::new(group, journal.clone(), acceptor.clone()),
            proposers: answers.clone(),
            learner: reports.clone(),
        }
    };
    let mut aborts = vec![acceptor_seat.take(move |_| AcceptorActor::new(me, wire()))];

    let wiring = LearnerWiring {
        acceptor: acceptor.outlet(),
        learners: learners.clone(),
        proposers: proposers.outlet(),
        log: log.clone(),
    };
    let (nodes, timing, me) = (config.nodes.clone(), config.learner_timing, config.me);
    aborts.push(learner_seat.take(move |_| {
        let core = Learner::new(me.node, nodes.clone(), holes, timing);
        LearnerActor::new(core, wiring.clone())
    }));

    let wiring = ProposerWiring { acceptors, learners, proposers, log };
    let proposer_config = ProposerConfig {
        me: config.me,
        nodes: config.nodes.clone(),
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

/// A replica of any machine on this node.
pub fn replicated<M: StateMachine>(
    node: &Node,
    config: &GroupConfig,
    empty: fn() -> M,
    transport: &Arc<dyn Transport>,
    journal: &Mailbox<JournalMessage>,
    files: &Mailbox<FilesMessage>,
) -> Group<M> {
    let rsm_seat = seat::<RsmActor<M>>(node, config.name(RoleName::Rsm));
    let rsm = rsm_seat.mailbox();
    let Roles { acceptor, proposer, learner, ports, mut aborts } =
        roles(node, config, Holes::Filled, transport, journal, Some(rsm.outlet()));
    let wiring =
        RsmWiring { proposals: proposer.outlet(), log: learner.outlet(), files: files.outlet() };
    let rsm_config = config.rsm.clone();
    aborts.push(
        rsm_seat.take(move |stage| RsmActor::new(rsm_config.clone(), wiring.clone(), empty, stage)),
    );
    Group { acceptor, proposer, learner, rsm, ports, aborts }
}

/// A replica of the key/value store on this node, with its kvserver. `clerk` is the clerk of this
/// node, if it has one; others are answered over the network.
pub fn kv_group(
    node: &Node,
    config: &GroupConfig,
    clerk: Option<&Mailbox<ToClerk>>,
    transport: &Arc<dyn Transport>,
    journal: &Mailbox<JournalMessage>,
    files: &Mailbox<FilesMessage>,
) -> (Group<Store>, Mailbox<ToKvServer>) {
    let mut group = replicated(node, config, Store::new, transport, journal, files);
    let server_seat = seat::<KvServer>(node, config.name(RoleName::KvServer));
    let server = server_seat.mailbox();
    group.ports.insert(server.name(), server.port());
    let clerks: PeerOutlet<Served> = match clerk {
        Some(clerk) => Peers::new(clerk.clone(), transport.clone()).outlet(),
        None => {
            let link = Link::<ToClerk>::new(GroupId(0), RoleName::Clerk, transport.clone());
            PeerOutlet::from_fn(move |from, node, served| {
                link.send(from, node, &ToClerk::Served(served));
            })
        }
    };
    let rsm = group.rsm.clone();
    group.aborts.push(server_seat.take(move |_| KvServer::new(rsm.clone(), clerks.clone())));
    (group, server)
}
