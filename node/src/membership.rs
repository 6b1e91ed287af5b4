//! Which groups this node is a member of, and how it becomes one of others: a steward for each group, and a
//! replica for each that the node is a member of.

use std::{
    collections::BTreeMap,
    path::PathBuf,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use quorate_persistence::{Disk, read_atomic};
use quorate_protocol::{
    Configuration, GroupId, Name, NodeId, Role as RoleName,
    log::Request,
    planted::{Bug, is_planted},
};
use quorate_stage::{Mailbox, Outlet, Port, seat};
use quorate_steward::{
    Config, Membership, Message as ToSteward, Standing, Steward, StewardActor, Wiring, recorded,
};
use tokio::{
    sync::mpsc::{UnboundedReceiver, UnboundedSender},
    task::AbortHandle,
};

use crate::{engine::GroupConfig, group::Ground};

/// How long a node waits before it asks again to be taken in.
const RETRY: Duration = Duration::from_millis(100);

/// A group has taken the node in, as this member.
pub type Begin = (GroupId, NodeId, Configuration);

/// Who is told about places: a replica can begin, or the group has no place for its node any more, and why.
pub type Told<'a> = (&'a UnboundedSender<Begin>, &'a Outlet<(GroupId, String)>);

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
pub struct Place {
    config: GroupConfig,
    steward: Mailbox<ToSteward>,
    kept: Kept,
    abort: AbortHandle,
}

impl Place {
    /// Whether the group has to take the node in first.
    pub fn is_awaited(&self) -> bool {
        self.kept.known().standing == Standing::Blank
    }

    /// Which group.
    pub fn group(&self) -> GroupId {
        self.config.group
    }

    /// The door of its steward for messages of other nodes.
    pub fn port(&self) -> (Name, Arc<dyn Port>) {
        (self.steward.name(), self.steward.port())
    }

    /// Ends its steward, as a kill would.
    pub fn abort(&self) -> AbortHandle {
        self.abort.clone()
    }

    /// Its steward begins; what the directory says of the node's standing is read, if it is no founder's:
    /// `record` is where that lies.
    ///
    /// # Errors
    /// What is wrong with the file that says so.
    pub fn take(
        ground: &Ground,
        (disk, record): (&dyn Disk, PathBuf),
        founder: bool,
        mut config: GroupConfig,
        (begin, gone): Told<'_>,
    ) -> Result<Place, String> {
        let me = config.me;
        let standing = match founder || is_planted(Bug::BlankKeepsItsName) {
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
        let abort = place.take(move |_| {
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
        Ok(Place { config, steward, kept, abort })
    }

    /// The replica begins: `start` begins it, and answers where its engine takes requests.
    fn begin(self, start: &mut Start<'_>) -> Result<(), String> {
        let Place { config, steward, kept, .. } = self;
        kept.known().standing = Standing::Member(config.me.node);
        let engine = start(config)?;
        kept.known().engine = Some(engine.clone());
        steward.send(steward.name(), ToSteward::Begun(engine));
        Ok(())
    }
}

/// Begins a replica, opens its doors, and answers where its engine takes requests.
pub type Start<'a> = dyn FnMut(GroupConfig) -> Result<Outlet<Request>, String> + 'a;

/// Begins the replicas of the groups that the node is a member of. Answers the others.
///
/// # Errors
/// One cannot begin, and why.
pub fn begin(
    places: Vec<Place>,
    start: &mut Start<'_>,
) -> Result<BTreeMap<GroupId, Place>, String> {
    let mut awaited = BTreeMap::new();
    for place in places {
        match place.is_awaited() {
            true => _ = awaited.insert(place.group(), place),
            false => place.begin(start)?,
        }
    }
    Ok(awaited)
}

/// Begins replicas when groups take the node in.
pub async fn wait(
    mut awaited: BTreeMap<GroupId, Place>,
    mut begun: UnboundedReceiver<Begin>,
    mut start: Box<Start<'static>>,
) {
    while let Some((group, node, configuration)) = begun.recv().await {
        // A steward that crashes in the midst of it says so twice.
        let Some(mut place) = awaited.remove(&group) else { continue };
        tracing::info!(%group, %node, "taken in: {configuration}");
        place.config.me.node = node;
        place.config.admitted = Some(configuration);
        if let Err(why) = place.begin(&mut start) {
            tracing::error!(%group, "the replica cannot begin: {why}");
        }
    }
}
