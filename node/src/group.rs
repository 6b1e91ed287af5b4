//! One replica of one group: its engine, its courier, its rsm, its server, wired together.

use std::sync::Arc;

use quorate_clerk::Message as ToClerk;
use quorate_courier::{Courier, CourierActor, Message as ToCourier, Wiring as CourierWiring};
use quorate_kvserver::{KvServer, Message as ToKvServer, Served};
use quorate_persistence::{FilesMessage, JournalMessage};
use quorate_protocol::{GroupId, NodeId, Role as RoleName};
use quorate_rsm::{Empty, Message as ToRsm, RsmActor, StateMachine, Stirred, Wiring as RsmWiring};
use quorate_stage::{Link, Mailbox, Node, Outlet, PeerOutlet, Peers, Transport, seat};
use tokio::task::AbortHandle;

use crate::engine::{Engine, GroupConfig, Ports, engine};

/// The store as a machine.
pub type Store = quorate_kvserver::Store;

/// A running replica: its mailboxes, and the handles that end it as a kill would.
pub struct Group<M: StateMachine> {
    /// The rsm.
    pub rsm: Mailbox<ToRsm<M>>,
    /// Tells the engine whether a node can be reached.
    pub links: Outlet<(NodeId, bool)>,
    /// Asks the engine how many bytes of log it keeps.
    pub log_bytes: Outlet<Outlet<u64>>,
    /// Doors for messages of other nodes.
    pub ports: Ports,
    /// Ends its actors.
    pub aborts: Vec<AbortHandle>,
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
    let Engine { proposals, log, links, bytes, mut ports, mut aborts, .. } =
        engine(node, config, transport, journal, rsm.outlet());
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
    let (me, nodes, bounds) = (config.me.node, config.nodes.clone(), config.courier);
    aborts.push(courier_seat.take(move |stage| {
        let core = Courier::new(me, nodes.clone(), bounds, stage.chance().number());
        CourierActor::new(core, couriers.clone())
    }));
    let rsm_config = config.rsm.clone();
    aborts.push(rsm_seat.take(move |stage| {
        RsmActor::new(rsm_config.clone(), wiring.clone(), empty.clone(), stage)
    }));
    Group { rsm, links, log_bytes: bytes, ports, aborts }
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
    let mut group = replicated(node, config, Arc::new(Store::new), None, transport, journal, files);
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
    let make = move |stage: &mut _| KvServer::new(rsm.clone(), clerks.clone(), stage);
    group.aborts.push(server_seat.take(make));
    (group, server)
}
