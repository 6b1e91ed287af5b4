//! The engine of a group on one node: what agrees on its log.

use std::{
    collections::{BTreeMap, BTreeSet},
    path::PathBuf,
    sync::Arc,
    time::Duration,
};

use quorate_courier::{Config as CourierConfig, PART_BYTES};
use quorate_learner::Timing as LearnerTiming;
use quorate_mover::{Config as MoverConfig, PIECE_BYTES};
use quorate_persistence::JournalMessage;
use quorate_proposer::{Limits, Timing};
use quorate_protocol::{
    Configuration, GroupId, Member, Name, NodeId, Role as RoleName,
    log::{Event, Request},
};
use quorate_raft::Message as ToRaft;
use quorate_raft::{Limits as RaftLimits, Timing as RaftTiming};
use quorate_rsm::Config as RsmConfig;
use quorate_stage::{Mailbox, Node, Outlet, Port, Transport};
use tokio::task::AbortHandle;

use crate::{config::Engine as Kind, paxos, raft};

/// What the actors of a group are told once.
#[derive(Clone, Debug)]
pub struct GroupConfig {
    /// Which group.
    pub group: GroupId,
    /// Who we are.
    pub me: Member,
    /// Which protocol agrees on the log.
    pub engine: Kind,
    /// The nodes of the group when it was formed.
    pub nodes: Vec<NodeId>,
    /// Who the members were when this node was taken in; `None` for one that was there from the first.
    pub admitted: Option<Configuration>,
    /// Who is told who the members are.
    pub configured: Option<Outlet<Configuration>>,
    /// Bounds of the proposer.
    pub limits: Limits,
    /// Patience of the proposer.
    pub timing: Timing,
    /// Patience of the learner.
    pub learner_timing: LearnerTiming,
    /// Bounds of a Raft peer.
    pub raft_limits: RaftLimits,
    /// Patience of a Raft peer.
    pub raft_timing: RaftTiming,
    /// Patience and bounds of the courier.
    pub courier: CourierConfig,
    /// Bounds of the rsm.
    pub rsm: RsmConfig,
    /// Patience and bounds of the mover. Where no shardmaster is named, there is none.
    pub mover: MoverConfig,
}

impl GroupConfig {
    /// The usual bounds and patience. `lossy`: the network loses single messages, as the labs' do;
    /// over TCP a message is lost only with its connection.
    pub fn new(
        engine: Kind,
        group: GroupId,
        me: Member,
        nodes: Vec<NodeId>,
        checkpoints: PathBuf,
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
            fetch_after_max: if lossy { ms(100) } else { ms(500) },
            done_after: ms(10),
            done_after_max: ms(2000),
        };
        // The labs want a leader soon, and few requests of it; over TCP a message takes well under
        // a tenth of the shortest election timeout, also on a busy machine.
        let raft_timing = RaftTiming {
            heartbeat: if lossy { ms(50) } else { ms(100) },
            election: if lossy { (ms(150), ms(300)) } else { (ms(300), ms(600)) },
            linger: ms(5),
            retry: if lossy { ms(100) } else { ms(250) },
            resend_after: if lossy { 1 } else { 5 },
            hurry: (ms(20), ms(40)),
        };
        let courier = CourierConfig {
            patience: if lossy { ms(40) } else { ms(1000) },
            pin: Duration::from_secs(30),
            part_bytes: PART_BYTES,
        };
        let rsm = RsmConfig::new(checkpoints);
        let mover = MoverConfig {
            me: me.node.home(),
            group,
            masters: vec![],
            retry: if lossy { ms(100) } else { ms(1000) },
            poll: if lossy { ms(250) } else { ms(5000) },
            nodes: nodes.clone(),
            transfers: 32,
            transfer_bytes: 1 << 20,
            pieces: 4,
            piece_bytes: PIECE_BYTES,
        };
        GroupConfig {
            group,
            me,
            engine,
            nodes,
            admitted: None,
            configured: None,
            limits: Limits::default(),
            timing,
            learner_timing,
            raft_limits: RaftLimits::default(),
            raft_timing,
            courier,
            rsm,
            mover,
        }
    }

    /// The machines of the group, as far as is known when the replica begins.
    pub(crate) fn machines(&self) -> Vec<NodeId> {
        let admitted = self.admitted.iter().flat_map(Configuration::members);
        let all = self.nodes.iter().copied().chain(admitted).map(NodeId::home);
        all.collect::<BTreeSet<NodeId>>().into_iter().collect()
    }

    /// The name of an actor of this replica. Those that agree go by their life in the group, the others by
    /// the machine.
    pub(crate) fn name(&self, role: RoleName) -> Name {
        let node = if role.is_of_engine() { self.me.node } else { self.me.node.home() };
        Name::new(node, self.group, role)
    }
}

/// The doors through which messages of other nodes come in.
pub type Ports = BTreeMap<Name, Arc<dyn Port>>;

/// What agrees on the log of a group, on this node.
pub struct Engine {
    /// Takes Propose, Offer and ReadBarrier.
    pub proposals: Outlet<Request>,
    /// Takes Subscribe and Forget.
    pub log: Outlet<Request>,
    /// Hears whether a node can be reached.
    pub links: Outlet<(NodeId, bool)>,
    /// The peer, if the engine is Raft: for whoever looks into it, or changes the group.
    pub raft: Option<Mailbox<ToRaft>>,
    /// Answers how many bytes of log are kept.
    pub bytes: Outlet<Outlet<u64>>,
    /// Doors for messages of other nodes.
    pub ports: Ports,
    /// Ends its actors.
    pub aborts: Vec<AbortHandle>,
}

/// The engine that `config` asks for; it speaks to `events`.
pub fn engine(
    node: &Node,
    config: &GroupConfig,
    transport: &Arc<dyn Transport>,
    journal: &Mailbox<JournalMessage>,
    events: Outlet<Event>,
) -> Engine {
    match config.engine {
        Kind::Paxos => paxos::engine(node, config, transport, journal, events),
        Kind::Raft => raft::engine(node, config, transport, journal, events),
    }
}
