//! A server of a world: it starts as the process of a node does, is killed, and loses its disk.
//!
//! ```text
//!   World ── start ──> a steward for each group ── member ──> the replica begins
//!                                               └─ blank  ──> ... when its group has taken it in
//!         ── wipe  ──> an empty disk, in a new incarnation, and no founder's
//! ```

use std::{
    cell::RefCell,
    collections::BTreeMap,
    path::{Path, PathBuf},
    rc::Rc,
    sync::Arc,
    time::Duration,
};

use quorate_kvserver::Machine;
use quorate_node::{
    Directories, Ground, Group, GroupConfig, KvGroup, Library, Ports,
    membership::{self, Place},
};
use quorate_persistence::{
    Disk, FilesActor, FilesMessage, JournalActor, JournalMessage, JournalOptions, Owners, SimDisk,
    remove_leftovers,
};
use quorate_protocol::{
    GroupId, Incarnation, Member, Name, NodeId, Role, log::Index, log::Request,
};
use quorate_shardmaster::ShardMaster;
use quorate_stage::{Mailbox, Node, Outlet, Transport, seat};
use tokio::{sync::mpsc::unbounded_channel, task::AbortHandle};

use crate::{
    layout::{GROUP, MASTERS, checkpoints, group_dir},
    world::World,
};

/// A running server.
pub struct SimNode {
    /// Its stage: mailboxes to look into, actors to crash.
    pub stage: Node,
    /// The labs' library, if it runs instead of a replica.
    pub library: Option<Library>,
    /// Group commits so far.
    pub owners: Owners,
    replicas: RefCell<Replicas>,
    aborts: RefCell<Vec<AbortHandle>>,
}

#[derive(Default)]
struct Replicas {
    groups: BTreeMap<GroupId, Rc<KvGroup>>,
    master: Option<Rc<Group<ShardMaster>>>,
}

impl SimNode {
    /// The replicas of the store that have begun.
    pub fn groups(&self) -> BTreeMap<GroupId, Rc<KvGroup>> {
        self.replicas.borrow().groups.clone()
    }

    /// The replica of the shardmaster, if it has begun.
    pub fn master(&self) -> Option<Rc<Group<ShardMaster>>> {
        self.replicas.borrow().master.clone()
    }

    /// The replica, if it has begun; of several, the first group's.
    pub fn replica(&self) -> Option<Rc<KvGroup>> {
        self.replicas.borrow().groups.values().next().cloned()
    }

    /// The name of an actor of a group here. One of an engine is named after its life.
    pub fn actor(&self, group: GroupId, role: Role) -> Option<Name> {
        let mailboxes = self.stage.mailboxes().into_iter().map(|mailbox| mailbox.name());
        mailboxes.filter(|name| (name.group, name.role) == (group, role)).max()
    }
}

impl World {
    /// The directory that a server has now: another one after each loss of its disk.
    pub fn incarnation(&self, node: NodeId) -> Incarnation {
        let lost = self.lost.borrow().get(&node).copied().unwrap_or_default();
        Incarnation(lost << 32 | u64::from(node.0))
    }

    /// Whether a server's directory was made when the groups were formed.
    fn is_founder(&self, node: NodeId) -> bool {
        !self.lost.borrow().contains_key(&node)
    }

    /// Takes the disk of a server away, which does not run: it starts with an empty one, as nobody.
    ///
    /// # Panics
    /// If it runs.
    pub fn wipe(&self, node: NodeId) {
        assert!(!self.runs(node), "{node} runs");
        *self.lost.borrow_mut().entry(node).or_default() += 1;
        self.trace.note(format_args!("wipe {node}"));
        self.trace.on_wiped(node, self.incarnation(node));
        let disk = self.new_disk(node);
        self.disks.borrow_mut().insert(node, disk);
    }

    /// Whether a server holds, on its disk, all that it has said as a voter of a group.
    pub fn is_intact(&self, node: NodeId, group: GroupId) -> bool {
        self.trace.is_intact(node, group)
    }

    /// Whether every group keeps a majority of intact voters if a server loses its disk.
    pub fn can_lose(&self, node: NodeId) -> bool {
        let keeps = |group: GroupId| {
            let members = self.members(group);
            let gone = |other: &&NodeId| **other == node || !self.is_intact(**other, group);
            2 * members.iter().filter(gone).count() < members.len()
        };
        self.groups_on(node).into_iter().all(keeps)
    }

    pub(crate) fn config(&self, node: NodeId) -> GroupConfig {
        self.config_of(node, GROUP)
    }

    fn config_of(&self, node: NodeId, group: GroupId) -> GroupConfig {
        let me = Member { node, incarnation: self.incarnation(node) };
        let (engine, dir) = (self.options.engine, checkpoints(group));
        let lossy = self.options.expects_loss;
        let nodes = self.members(group);
        let mut config = GroupConfig::new(engine, group, me, nodes, dir, lossy);
        if self.options.sharding.is_some() && group != MASTERS {
            config.mover.masters = self.members(MASTERS);
        }
        config.courier.part_bytes = self.options.part_bytes;
        config.mover.piece_bytes = self.options.piece_bytes;
        config.rsm.log_bytes_max = self.options.log_bytes_max;
        config.rsm.reads_in_log = self.options.reads_in_log;
        config
    }

    /// The journal of a server that starts.
    pub(crate) fn journal(
        &self,
        stage: &Node,
        owners: &Owners,
        aborts: &mut Vec<AbortHandle>,
    ) -> Mailbox<JournalMessage> {
        let place = seat::<JournalActor>(stage, Name::of_node(stage.id(), Role::Journal));
        let journal = place.mailbox();
        let (disk, owners): (Arc<dyn Disk>, _) = (Arc::new(self.disk(stage.id())), owners.clone());
        let segment_bytes = (self.options.log_bytes_max / 2).clamp(1024, 4 * 1024 * 1024);
        let options = JournalOptions { segment_bytes, zero_fill: false, seed: self.seed };
        let mut restarted = false;
        aborts.push(place.take(move |_| {
            let dir = |group: GroupId| Path::new("/data/groups").join(group.to_string());
            let again = std::mem::replace(&mut restarted, true);
            JournalActor::new(disk.clone(), dir, options, owners.clone(), again)
        }));
        journal
    }

    /// The files of a server that starts.
    pub(crate) fn files(
        &self,
        stage: &Node,
        aborts: &mut Vec<AbortHandle>,
    ) -> Mailbox<FilesMessage> {
        let place = seat::<FilesActor>(stage, Name::of_node(stage.id(), Role::Files));
        let files = place.mailbox();
        let disk: Arc<dyn Disk> = Arc::new(self.disk(stage.id()));
        // As a data directory does when it is opened. A disk that fails here fails below as well.
        for group in self.groups_on(stage.id()) {
            let _ = remove_leftovers(disk.as_ref(), &checkpoints(group));
            if !self.is_founder(stage.id()) {
                let _ = remove_leftovers(disk.as_ref(), &group_dir(group));
            }
        }
        let step_bytes = self.options.step_bytes;
        aborts.push(place.take(move |_| FilesActor::new(disk.clone(), step_bytes, Duration::ZERO)));
        files
    }

    /// Starts a server: its replicas, each when its group has taken the server in, or the labs' library
    /// alone.
    ///
    /// # Panics
    /// If it runs already.
    pub fn start(&self, node: NodeId, library_only: bool) {
        assert!(!self.runs(node), "{node} runs already");
        self.begin(node);
        let stage = self.stage_of(node);
        let owners = Owners::default();
        let mut aborts = vec![];
        let journal = self.journal(&stage, &owners, &mut aborts);
        let transport: Arc<dyn Transport> = Arc::new(self.net.clone());
        let mut library = None;
        let mut ports = Ports::new();
        let mut ground = None;
        if library_only {
            let config = self.config(node);
            let made = quorate_node::library(&stage, &config, &transport, &journal);
            aborts.extend(made.aborts.iter().cloned());
            ports.extend(made.ports.clone());
            library = Some(made);
        } else {
            let files = self.files(&stage, &mut aborts);
            let directories = Directories::new(node, &transport);
            let stage = stage.clone();
            ground =
                Some(Ground { node: stage, transport, journal, files, clerk: None, directories });
        }
        self.net.plug_in(Some(node), ports);
        let (replicas, aborts) = (RefCell::default(), RefCell::new(aborts));
        let running = Rc::new(SimNode { stage, library, owners, replicas, aborts });
        self.nodes.borrow_mut().insert(node, running.clone());
        if let Some(ground) = ground
            && let Err(why) = self.take_places(&running, ground)
        {
            running.stage.fatal(Name::of_node(node, Role::Steward), why);
        }
    }

    /// Begins the replicas of a server, or waits with them until they are taken in.
    fn take_places(&self, running: &Rc<SimNode>, ground: Ground) -> Result<(), String> {
        let node = running.stage.id();
        let configs = self.groups_on(node).into_iter().map(|group| self.config_of(node, group));
        let (begin, begun) = unbounded_channel();
        let gone = self.gone(&running.stage);
        let (disk, founder) = (self.disk(node), self.is_founder(node));
        let mut places = vec![];
        for config in configs {
            let record: (&dyn Disk, PathBuf) = (&disk, group_dir(config.group).join("member"));
            let place = Place::take(&ground, record, founder, config, (&begin, &gone))?;
            running.aborts.borrow_mut().push(place.abort());
            self.net.plug_in(None, [place.port()].into());
            places.push(place);
        }
        let (world, own) = (self.clone(), running.clone());
        let mut start = move |config: GroupConfig| Ok(world.replicate(&own, &ground, &config));
        let awaited = membership::begin(places, &mut start)?;
        if !awaited.is_empty() {
            let wait = self.spawn(membership::wait(awaited, begun, Box::new(start)));
            running.aborts.borrow_mut().push(wait.abort_handle());
        }
        Ok(())
    }

    /// A replica begins. Answers where its engine takes requests.
    fn replicate(
        &self,
        running: &SimNode,
        ground: &Ground,
        config: &GroupConfig,
    ) -> Outlet<Request> {
        let mut replicas = running.replicas.borrow_mut();
        let (ports, aborts, engine) = if config.group == MASTERS {
            let (made, _) = quorate_node::master_group(ground, config);
            let parts = (made.ports.clone(), made.aborts.clone(), made.engine.clone());
            replicas.master = Some(Rc::new(made));
            parts
        } else {
            let made = quorate_node::kv_group(ground, config);
            let Group { ports, aborts, engine, .. }: &Group<Machine> = &made.group;
            let parts = (ports.clone(), aborts.clone(), engine.clone());
            replicas.groups.insert(config.group, Rc::new(made));
            parts
        };
        running.aborts.borrow_mut().extend(aborts);
        self.net.plug_in(None, ports);
        engine
    }

    /// Starts every server.
    pub fn start_all(&self, library_only: bool) {
        for node in self.servers() {
            self.start(node, library_only);
        }
    }

    /// Kills a server as a loss of power does: its actors end where they are, its disk loses what
    /// was not synced.
    ///
    /// # Panics
    /// If it does not run.
    pub fn kill(&self, node: NodeId) {
        let gone = self.remove(node);
        self.end(node, &gone.aborts.borrow());
        if gone.library.is_none() {
            for group in self.groups_on(node) {
                let saved = self.newest_saved(node, group).map_or(0, |(index, _)| index);
                self.trace.on_power_lost(node, group, Index(saved));
            }
        }
    }

    /// Kills the process of a server: its actors end where they are, what it has written stays,
    /// also what was not synced.
    ///
    /// # Panics
    /// If it does not run.
    pub fn kill_process(&self, node: NodeId) {
        let gone = self.remove(node);
        self.trace.note(format_args!("kill process {node}"));
        self.abort(node, &gone.aborts.borrow());
        self.disk(node).kill();
    }

    fn remove(&self, node: NodeId) -> Rc<SimNode> {
        let gone = self.nodes.borrow_mut().remove(&node);
        gone.unwrap_or_else(|| panic!("{node} does not run"))
    }

    fn abort(&self, node: NodeId, aborts: &[AbortHandle]) {
        self.net.unplug(node);
        for abort in aborts {
            abort.abort();
        }
    }

    /// Ends the actors of a server, and its disk loses what was not synced.
    pub(crate) fn end(&self, node: NodeId, aborts: &[AbortHandle]) {
        self.trace.note(format_args!("kill {node}"));
        self.abort(node, aborts);
        let disk = self.disk(node);
        disk.crash();
        disk.restart();
    }

    /// A server's disk.
    pub fn disk(&self, node: NodeId) -> SimDisk {
        let mut disks = self.disks.borrow_mut();
        disks.entry(node).or_insert_with(|| self.new_disk(node)).clone()
    }
}
