//! Which groups this node is a member of, and how it becomes one of others: a steward for each group, and a
//! replica for each that the node is a member of.

use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use quorate_cluster::Ports;
use quorate_persistence::{DataDir, Disk, read_atomic};
use quorate_protocol::{Configuration, GroupId, NodeId, Role as RoleName, log::Request};
use quorate_stage::{Mailbox, Outlet, seat};
use quorate_steward::{
    Config, Membership, Message as ToSteward, Standing, Steward, StewardActor, Wiring, recorded,
};
use tokio::sync::mpsc::{UnboundedReceiver, UnboundedSender};

use crate::{engine::GroupConfig, group::Ground, replicas::Replicas};

/// How long a node waits before it asks again to be taken in.
const RETRY: Duration = Duration::from_millis(100);

/// A group has taken the node in, as this member.
pub(crate) type Begin = (GroupId, NodeId, Configuration);

/// What outlives a crash of a steward.
#[derive(Clone)]
struct Kept(Arc<Mutex<Known>>);

struct Known {
    standing: Standing,
    engine: Option<Outlet<Request>>,
    configuration: Option<Configuration>,
}

impl Kept {
    fn known(&self) -> MutexGuard<'_, Known> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A group that the node has, or is to have, a replica of.
pub(crate) struct Place {
    config: GroupConfig,
    steward: Mailbox<ToSteward>,
    kept: Kept,
}

impl Place {
    /// Whether the group has to take the node in first.
    pub(crate) fn is_awaited(&self) -> bool {
        self.kept.known().standing == Standing::Blank
    }

    /// Which group.
    pub(crate) fn group(&self) -> GroupId {
        self.config.group
    }

    /// Its steward begins; what the directory says of the node's standing is read.
    ///
    /// # Errors
    /// What is wrong with the file that says so.
    pub(crate) fn take(
        ground: &Ground,
        (disk, dir): (&dyn Disk, &DataDir),
        mut config: GroupConfig,
        begin: &UnboundedSender<Begin>,
        gone: &Outlet<(GroupId, String)>,
    ) -> Result<Place, String> {
        let record = dir.member(config.group.0);
        let me = config.me;
        let standing = match dir.identity().founder {
            true => Standing::Member(me.node),
            false => match read_atomic(disk, &record).map_err(|error| error.to_string())? {
                None => Standing::Blank,
                Some(bytes) => {
                    let membership = Membership::decode(&bytes);
                    let Membership { node, configuration, .. } =
                        membership.map_err(|why| format!("{}: {why}", record.display()))?;
                    config.me.node = node;
                    config.admitted = Some(configuration);
                    Standing::Member(node)
                }
            },
        };
        let kept = Known { standing, engine: None, configuration: None };
        let kept = Kept(Arc::new(Mutex::new(kept)));
        let place = seat::<StewardActor>(&ground.node, config.name(RoleName::Steward));
        let steward = place.mailbox();
        let begin = begin.clone();
        let wiring = Wiring {
            stewards: ground.directories.stewards.clone(),
            files: ground.files.clone(),
            record: (record, recorded(&steward)),
            // Nobody listens only if the node ends.
            begin: Outlet::from_fn(move |_, begun| _ = begin.send(begun)),
            gone: gone.clone(),
        };
        ground.directories.stewards.add(steward.clone());
        let (nodes, lives) = (config.machines(), kept.clone());
        place.take(move |_| {
            let known = lives.known();
            let config = Config { me, nodes: nodes.clone(), retry: RETRY };
            let steward = Steward::new(config, known.standing.clone());
            let steward = steward.knowing(known.engine.clone(), known.configuration.clone());
            StewardActor::new(steward, wiring.clone())
        });
        let (to, known) = (steward.clone(), kept.clone());
        config.configured = Some(Outlet::from_fn(move |from, configuration: Configuration| {
            known.known().configuration = Some(configuration.clone());
            to.send(from, ToSteward::Configured(configuration));
        }));
        Ok(Place { config, steward, kept })
    }

    /// The replica begins.
    ///
    /// # Errors
    /// It cannot: no thread.
    fn begin(self, ground: &Ground, replicas: &Replicas, ports: &Ports) -> Result<(), String> {
        let Place { config, steward, kept } = self;
        kept.known().standing = Standing::Member(config.me.node);
        let (doors, engine) = replicas.begin(ground, config)?;
        ports.open(doors);
        kept.known().engine = Some(engine.clone());
        steward.send(steward.name(), ToSteward::Begun(engine));
        Ok(())
    }
}

/// Opens the doors of the stewards, and begins the replicas of the groups that the node is a member of. Answers
/// the others.
pub(crate) fn begin(
    places: Vec<Place>,
    ground: &Ground,
    replicas: &Replicas,
    ports: &Ports,
) -> Result<BTreeMap<GroupId, Place>, String> {
    let mut awaited = BTreeMap::new();
    for place in places {
        ports.open([(place.steward.name(), place.steward.port())]);
        match place.is_awaited() {
            true => _ = awaited.insert(place.group(), place),
            false => place.begin(ground, replicas, ports)?,
        }
    }
    Ok(awaited)
}

/// Begins replicas when groups take the node in.
pub(crate) async fn wait(
    mut awaited: BTreeMap<GroupId, Place>,
    mut begun: UnboundedReceiver<Begin>,
    ground: Ground,
    replicas: Replicas,
    ports: Ports,
) {
    while let Some((group, node, configuration)) = begun.recv().await {
        // A steward that crashes in the midst of it says so twice.
        let Some(mut place) = awaited.remove(&group) else { continue };
        tracing::info!(%group, %node, "taken in: {configuration}");
        place.config.me.node = node;
        place.config.admitted = Some(configuration);
        if let Err(why) = place.begin(&ground, &replicas, &ports) {
            tracing::error!(%group, "the replica cannot begin: {why}");
        }
    }
}
