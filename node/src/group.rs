//! One replica of one group: its engine, its courier, its rsm, its server, wired together.

use std::sync::Arc;

use quorate_clerk::Message as ToClerk;
use quorate_courier::{Courier, CourierActor, Message as ToCourier, Wiring as CourierWiring};
use quorate_kvserver::{KvServer, Machine, Message as ToKvServer, Served};
use quorate_mover::{Message as ToMover, Mover, MoverActor, Wiring as MoverWiring};
use quorate_persistence::{FilesMessage, JournalMessage};
use quorate_protocol::{
    Configuration, GroupId, NodeId, Role as RoleName,
    log::{Event, Request},
};
use quorate_rsm::{Empty, Message as ToRsm, RsmActor, StateMachine, Stirred, Wiring as RsmWiring};
use quorate_shardmaster::{Askers, Message as ToMaster, ShardMaster, ShardMasterActor};
use quorate_stage::{Directory, Link, Mailbox, Node, Outlet, PeerOutlet, Peers, Transport, seat};
use quorate_steward::Message as ToSteward;
use tokio::task::AbortHandle;

use crate::engine::{Engine, GroupConfig, Ports, engine};

/// A running replica: its mailboxes, and the handles that end it as a kill would.
pub struct Group<M: StateMachine> {
    /// The rsm.
    pub rsm: Mailbox<ToRsm<M>>,
    /// Takes proposals, and changes of the members.
    pub engine: Outlet<Request>,
    /// Tells the engine whether a node can be reached.
    pub links: Outlet<(NodeId, bool)>,
    /// Asks the engine how many bytes of log it keeps.
    pub log_bytes: Outlet<Outlet<u64>>,
    /// Doors for messages of other nodes.
    pub ports: Ports,
    /// Ends its actors.
    pub aborts: Vec<AbortHandle>,
}

/// What an engine tells: the rsm hears of machines, the steward of members.
fn sorted<M: StateMachine>(
    rsm: Mailbox<ToRsm<M>>,
    configured: Option<Outlet<Configuration>>,
) -> Outlet<Event> {
    Outlet::from_fn(move |from, event| {
        let event = match event {
            Event::Configured { configuration } => {
                if let Some(steward) = &configured {
                    steward.send(from, configuration);
                }
                return;
            }
            Event::Role { leader } => Event::Role { leader: leader.map(NodeId::home) },
            Event::Behind { ask, index } => Event::Behind { ask: ask.home(), index },
            event => event,
        };
        rsm.send(from, ToRsm::Engine(event));
    })
}

/// A replica of any machine on this node.
pub fn replicated<M: StateMachine>(
    node: &Node,
    config: &GroupConfig,
    empty: Empty<M>,
    watcher: Option<Outlet<Stirred>>,
    transport: &Arc<dyn Transport>,
    journal: &Mailbox<JournalMessage>,
    files: &Mailbox<FilesMessage>,
) -> Group<M> {
    let rsm_seat = seat::<RsmActor<M>>(node, config.name(RoleName::Rsm));
    let courier_seat = seat::<CourierActor>(node, config.name(RoleName::Courier));
    let (rsm, courier) = (rsm_seat.mailbox(), courier_seat.mailbox());
    let events = sorted(rsm.clone(), config.configured.clone());
    let Engine { proposals, log, links, bytes, mut ports, mut aborts, .. } =
        engine(node, config, transport, journal, events);
    let requests = proposals.clone();
    ports.insert(courier.name(), courier.port());
    let wiring = RsmWiring {
        proposals,
        log,
        files: files.outlet(),
        courier: courier.outlet::<ToCourier>(),
        watcher,
    };
    let couriers = CourierWiring {
        dir: config.rsm.checkpoints.clone(),
        files: files.outlet(),
        events: courier.outlet(),
        couriers: Peers::new(courier, transport.clone()),
        application: rsm.outlet(),
    };
    let (me, nodes, bounds) = (config.me.node.home(), config.machines(), config.courier);
    aborts.push(courier_seat.take(move |stage| {
        let core = Courier::new(me, nodes.clone(), bounds, stage.chance().number());
        CourierActor::new(core, couriers.clone())
    }));
    let rsm_config = config.rsm.clone();
    aborts.push(rsm_seat.take(move |stage| {
        RsmActor::new(rsm_config.clone(), wiring.clone(), empty.clone(), stage)
    }));
    Group { rsm, engine: requests, links, log_bytes: bytes, ports, aborts }
}

/// The actors of a node that other groups, and other nodes, ask by group.
#[derive(Clone)]
pub struct Directories {
    /// The kvservers.
    pub servers: Directory<ToKvServer>,
    /// The movers.
    pub movers: Directory<ToMover>,
    /// The shardmasters.
    pub masters: Directory<ToMaster>,
    /// The stewards.
    pub stewards: Directory<ToSteward>,
}

impl Directories {
    /// Seen from a node where none has begun yet.
    pub fn new(node: NodeId, transport: &Arc<dyn Transport>) -> Self {
        Directories {
            servers: Directory::new(node, RoleName::KvServer, transport.clone()),
            movers: Directory::new(node, RoleName::Mover, transport.clone()),
            masters: Directory::new(node, RoleName::ShardMaster, transport.clone()),
            stewards: Directory::new(node, RoleName::Steward, transport.clone()),
        }
    }
}

/// What the replicas of a node stand on.
#[derive(Clone)]
pub struct Ground {
    /// The stage.
    pub node: Node,
    /// To other nodes.
    pub transport: Arc<dyn Transport>,
    /// The journal of the node.
    pub journal: Mailbox<JournalMessage>,
    /// Its files.
    pub files: Mailbox<FilesMessage>,
    /// The clerk of this node, if it has one; others are answered over the network.
    pub clerk: Option<Mailbox<ToClerk>>,
    /// Who else is there.
    pub directories: Directories,
}

/// A replica of the key/value store on this node, with its kvserver, and its mover if there are shards.
pub struct KvGroup {
    /// The replica.
    pub group: Group<Machine>,
    /// Its kvserver.
    pub server: Mailbox<ToKvServer>,
    /// Its mover.
    pub mover: Option<Mailbox<ToMover>>,
}

/// A replica of the key/value store on this node. It serves what configurations give it, if there is a
/// shardmaster ([`GroupConfig::mover`] names its nodes), and otherwise everything.
pub fn kv_group(ground: &Ground, config: &GroupConfig) -> KvGroup {
    let Ground { node, transport, journal, files, clerk, directories } = ground;
    let sharded = !config.mover.masters.is_empty();
    let mover_seat = sharded.then(|| seat::<MoverActor>(node, config.name(RoleName::Mover)));
    let mover = mover_seat.as_ref().map(|place| place.mailbox());
    let id = config.group;
    let empty: Empty<Machine> = match sharded {
        true => Arc::new(move || Machine::of_group(id)),
        false => Arc::new(Machine::whole),
    };
    let watcher = mover.as_ref().map(Mailbox::outlet);
    let mut group = replicated(node, config, empty, watcher, transport, journal, files);
    let server_seat = seat::<KvServer>(node, config.name(RoleName::KvServer));
    let server = server_seat.mailbox();
    group.ports.insert(server.name(), server.port());
    directories.servers.add(server.clone());
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
    let make = move |stage: &mut _| KvServer::new(rsm.clone(), clerks.clone(), stage);
    group.aborts.push(server_seat.take(make));
    if let (Some(place), Some(mailbox)) = (mover_seat, &mover) {
        group.ports.insert(mailbox.name(), mailbox.port());
        directories.movers.add(mailbox.clone());
        let (movers, masters) = (directories.movers.clone(), directories.masters.clone());
        let wiring = MoverWiring::new(mailbox, group.rsm.clone(), movers, masters);
        let config = config.mover.clone();
        group.aborts.push(place.take(move |stage| {
            let chance = (stage.chance().number(), stage.chance().number());
            MoverActor::new(Mover::new(config.clone(), chance), wiring.clone())
        }));
    }
    KvGroup { group, server, mover }
}

/// A replica of the shardmaster on this node, and its door.
pub fn master_group(
    ground: &Ground,
    config: &GroupConfig,
) -> (Group<ShardMaster>, Mailbox<ToMaster>) {
    let Ground { node, transport, journal, files, clerk, directories } = ground;
    let place = seat::<ShardMasterActor>(node, config.name(RoleName::ShardMaster));
    let door = place.mailbox();
    let empty: Empty<ShardMaster> = Arc::new(ShardMaster::default);
    let watcher = Some(door.outlet());
    let mut group = replicated(node, config, empty, watcher, transport, journal, files);
    group.ports.insert(door.name(), door.port());
    directories.masters.add(door.clone());
    let (movers, own_clerk) = (directories.movers.clone(), clerk.clone());
    let clerks = Link::<ToClerk>::new(GroupId(0), RoleName::Clerk, transport.clone());
    let askers: Askers = Arc::new(move |from, to, notice| match (&own_clerk, to.role) {
        (_, RoleName::Mover) => {
            if let Some(message) = ToMover::of_notice(notice) {
                movers.send(from, to.group, to.node, message);
            }
        }
        (Some(clerk), RoleName::Clerk) if clerk.name() == to => clerk.send(from, notice.into()),
        (_, RoleName::Clerk) => clerks.send(from, to.node, &notice.into()),
        _ => {}
    });
    let (movers, own_clerk) = (directories.movers.clone(), clerk.clone());
    let started = Outlet::from_fn(move |from, ()| {
        for mover in movers.all_here() {
            mover.send(from, ToMover::MasterStarted);
        }
        if let Some(clerk) = &own_clerk {
            clerk.send(from, ToClerk::MasterStarted);
        }
    });
    let rsm = group.rsm.clone();
    let make = move |_: &mut _| ShardMasterActor::new(rsm.clone(), askers.clone(), started.clone());
    group.aborts.push(place.take(make));
    (group, door)
}
