//! A sharded store as the labs have it: three shardmasters, and groups 100, 101 and 102 of three
//! servers each, every server a world's node of its own.

#![allow(dead_code, unreachable_pub, reason = "each test binary uses its own part of this")]

use std::{cell::Cell, collections::BTreeMap, rc::Rc, sync::Arc, time::Duration};

use quorate_kvserver::{HashSlot, View};
use quorate_protocol::{GroupId, NodeId};
use quorate_shardmaster::{Command, Configuration, Reply, ShardId};
use quorate_sim::{
    Client, ENGINES, Options, Record, Recorded, Sharding, World, for_each_seed, run,
};
use tokio::{task::JoinHandle, time::timeout};

/// The labs' number of shards.
pub const SHARDS: u16 = 10;
/// The labs' groups.
pub const GROUPS: [u32; 3] = [100, 101, 102];
/// After so long without a fault every shard must be where it belongs.
const SETTLED_WITHIN: Duration = Duration::from_secs(20);

/// Keys and the values that they should have.
pub type Pairs = Vec<(String, String)>;

/// A world of groups, whose clerks are recorded.
#[derive(Clone)]
pub struct Lab {
    pub world: World,
    record: Record,
    admin: Client,
}

/// Runs a row with every engine and seed, and judges what its clerks have seen.
pub fn row(name: &str, log_bytes_max: u64, test: impl AsyncFn(Lab)) {
    let options = |_| Options { log_bytes_max, ..Options::sharded(Sharding::LABS) };
    row_with(name, 1, options, test);
}

/// The same, with so many seeds, and options that may depend on the seed.
pub fn row_with(name: &str, few: u64, options: impl Fn(u64) -> Options, test: impl AsyncFn(Lab)) {
    for_each_seed(name, few, |seed| {
        for engine in ENGINES {
            let options = Options { engine, ..options(seed) };
            run(seed, options, async |world| {
                world.start_all(false);
                let admin = Client::new(&world, vec![]);
                let lab = Lab { record: Record::new(&world), world, admin };
                let formed = lab.admin.administer(Command::Form { shards: SHARDS }).await;
                assert_eq!(formed, Reply::Done { number: 0 });
                test(lab.clone()).await;
                lab.record.check();
            });
        }
    });
}

/// A key of a shard: the labs hash the first byte of a key, here the tag does it.
pub fn key(shard: u16, name: &str) -> String {
    let tags = (0..).map(|n: u32| format!("{{{n}}}"));
    let of = |tag: &String| ShardId::of_slot(HashSlot::of(tag.as_bytes()).number(), SHARDS);
    let mut tags = tags.filter(|tag| of(tag) == ShardId(shard));
    format!("{}{name}", tags.next().expect("every shard has a tag"))
}

impl Lab {
    /// A clerk, recorded.
    pub fn clerk(&self) -> Recorded {
        self.record.client(Client::new(&self.world, vec![]))
    }

    pub async fn call(&self, command: Command) -> Reply {
        self.admin.administer(command).await
    }

    /// Join; returns before anything has moved.
    pub async fn join(&self, groups: &[u32]) {
        let groups = groups.iter().map(|group| GroupId(*group));
        let groups: BTreeMap<GroupId, Vec<NodeId>> =
            groups.map(|group| (group, self.world.members(group))).collect();
        let reply = self.call(Command::Join { groups }).await;
        assert!(matches!(reply, Reply::Done { .. }), "{reply:?}");
    }

    pub async fn leave(&self, groups: &[u32]) {
        let groups = groups.iter().map(|group| GroupId(*group)).collect();
        let reply = self.call(Command::Leave { groups, even_the_last: true }).await;
        assert!(matches!(reply, Reply::Done { .. }), "{reply:?}");
    }

    pub async fn move_to(&self, shard: u16, group: u32) {
        let (shard, group) = (ShardId(shard), GroupId(group));
        let reply = self.call(Command::Move { shard, group }).await;
        assert!(matches!(reply, Reply::Done { .. }), "{reply:?}");
    }

    pub async fn query(&self) -> Arc<Configuration> {
        match self.call(Command::Query { number: None }).await {
            Reply::Configuration(configuration) => configuration,
            reply => panic!("{reply:?}"),
        }
    }

    /// The servers of a group.
    pub fn servers(&self, group: u32) -> Vec<NodeId> {
        self.world.members(GroupId(group))
    }

    /// Servers that run, each with its group.
    pub fn running(&self) -> Vec<(NodeId, GroupId)> {
        let of =
            |group: u32| self.servers(group).into_iter().map(move |node| (node, GroupId(group)));
        GROUPS.into_iter().flat_map(of).filter(|(node, _)| self.world.runs(*node)).collect()
    }

    /// What a replica has applied.
    pub async fn view(&self, node: NodeId) -> View {
        let group = self.world.groups_on(node)[0];
        self.world.view(node, group).await.expect("it runs, and does not crash")
    }

    /// The server of a group that leads, by its own word.
    pub async fn leader(&self, group: u32) -> Option<NodeId> {
        for node in self.servers(group).into_iter().filter(|node| self.world.runs(*node)) {
            let leader = self.world.status(node).await.and_then(|status| status.leader);
            if leader == Some(node.0) {
                return Some(node);
            }
        }
        None
    }

    /// Waits until every replica that runs has taken over the newest configuration, has what that gives
    /// its group, and nothing is on its way.
    pub async fn settle(&self) -> Arc<Configuration> {
        let began = self.world.elapsed();
        loop {
            let newest = self.query().await;
            let mut behind = vec![];
            for (node, group) in self.running() {
                let view = self.view(node).await;
                let serving = newest.shards_of(group).count();
                let here = (view.number, usize::from(view.serving), view.moving.len());
                if here != (newest.number, serving, 0) {
                    behind.push((node, view));
                }
            }
            if behind.is_empty() {
                return newest;
            }
            let waited = self.world.elapsed() - began;
            assert!(waited < SETTLED_WITHIN, "after {waited:?} of {newest:?}: {behind:#?}");
            self.world.sleep_ms(10).await;
        }
    }

    /// Kills every server of a group that runs.
    pub fn stop(&self, group: u32) {
        for node in self.servers(group) {
            if self.world.runs(node) {
                self.world.kill(node);
            }
        }
    }

    /// Starts every server of a group that does not run.
    pub fn start(&self, group: u32) {
        for node in self.servers(group) {
            if !self.world.runs(node) {
                self.world.start(node, false);
            }
        }
    }
}

/// A value of so many characters.
pub fn random(lab: &Lab, chars: usize) -> String {
    (0..chars).map(|_| char::from(b'a' + lab.world.below(26) as u8)).collect()
}

/// The value of a key: "" when absent.
pub async fn value(clerk: &Recorded, key: &str) -> String {
    let value = clerk.get(key).await.map(|found| found.value).unwrap_or_default();
    String::from_utf8_lossy(&value).into_owned()
}

/// Every key has its value.
pub async fn check(clerk: &Recorded, pairs: &[(String, String)]) {
    for (key, expected) in pairs {
        assert_eq!(value(clerk, key).await, *expected, "Get({key})");
    }
}

/// One clerk per key, which appends so many characters at a time, and pauses, until it is told to stop.
pub struct Appenders {
    stop: Rc<Cell<bool>>,
    clerks: Vec<JoinHandle<(String, String, u64)>>,
}

impl Appenders {
    pub fn start(lab: &Lab, pairs: Pairs, chars: usize, pause_ms: u64) -> Appenders {
        let stop = Rc::new(Cell::new(false));
        let clerks = pairs.into_iter().map(|(key, mut expected)| {
            let (lab, stop) = (lab.clone(), stop.clone());
            lab.world.clone().spawn(async move {
                let (clerk, mut appends) = (lab.clerk(), 0);
                while !stop.get() {
                    let more = random(&lab, chars);
                    clerk.append(&key, &more).await;
                    expected += &more;
                    appends += 1;
                    if pause_ms > 0 {
                        lab.world.sleep_ms(pause_ms).await;
                    }
                }
                (key, expected, appends)
            })
        });
        Appenders { clerks: clerks.collect(), stop }
    }

    /// What each key should have now. Every clerk has got something done.
    pub async fn stop(self) -> Pairs {
        self.stop.set(true);
        let mut pairs = vec![];
        for clerk in self.clerks {
            let ended = timeout(Duration::from_secs(20), clerk).await;
            let (key, expected, appends) =
                ended.expect("a clerk ends what it has begun").expect("a clerk failed");
            assert!(appends > 0, "the clerk of {key} has never got anything done");
            pairs.push((key, expected));
        }
        pairs
    }
}
