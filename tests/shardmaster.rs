//! The shardmaster: 6.824 2015, Lab 4A (rows SM-01 to SM-09) and the shard controller of 2016-2020, one
//! test per row, with every engine.
//!
//! A clerk of the labs asks one server after the other until one answers; here `Replicas::call` asks
//! one server until it answers, and a row says which.

use std::{
    collections::{BTreeMap, BTreeSet},
    future::Future,
    sync::Arc,
};

use quorate_protocol::{GroupId, NodeId};
use quorate_shardmaster::{Command, Configuration, Refusal, Reply, ShardId, ShardMaster};
use quorate_sim::{
    ENGINES, Options, for_each_seed,
    machine::{Replicas, run_machine_with},
};

const N1: NodeId = NodeId(1);
const N2: NodeId = NodeId(2);
const N3: NodeId = NodeId(3);
/// The labs' number of shards.
const SHARDS: u16 = 10;
/// So small that checkpoints are made within a row.
const LOG_BYTES_MAX: u64 = 4096;

/// A cluster of shardmasters as the rows use it.
#[derive(Clone)]
struct Masters(Replicas<ShardMaster>);

/// Runs a row with every engine and seed, on three servers.
fn row(name: &str, test: impl AsyncFn(Masters)) {
    for_each_seed(name, 2, |seed| {
        for engine in ENGINES {
            let options = Options { engine, log_bytes_max: LOG_BYTES_MAX, ..Options::servers(3) };
            run_machine_with(seed, options, ShardMaster::default, async |replicas| {
                let masters = Masters(replicas);
                let formed = masters.0.call(N1, Command::Form { shards: SHARDS }).await;
                assert_eq!(formed, Reply::Done { number: 0 });
                test(masters).await;
            });
        }
    });
}

fn servers(group: u32) -> Vec<NodeId> {
    [3, 1, 2].map(|server| NodeId(100 * group + server)).into()
}

impl Masters {
    async fn join_at(&self, node: NodeId, groups: &[u32]) -> Reply {
        let groups = groups.iter().map(|group| (GroupId(*group), servers(*group))).collect();
        self.0.call(node, Command::Join { groups }).await
    }

    async fn leave_at(&self, node: NodeId, groups: &[u32]) -> Reply {
        let groups = groups.iter().map(|group| GroupId(*group)).collect();
        self.0.call(node, Command::Leave { groups, even_the_last: true }).await
    }

    async fn join(&self, groups: &[u32]) -> Reply {
        self.join_at(N1, groups).await
    }

    async fn leave(&self, groups: &[u32]) -> Reply {
        self.leave_at(N1, groups).await
    }

    async fn move_to(&self, shard: u16, group: u32) -> Reply {
        let (shard, group) = (ShardId(shard), GroupId(group));
        self.0.call(N1, Command::Move { shard, group }).await
    }

    async fn query_at(&self, node: NodeId, number: Option<u64>) -> Arc<Configuration> {
        match self.0.call(node, Command::Query { number }).await {
            Reply::Configuration(configuration) => configuration,
            reply => panic!("a query is answered by a configuration, not by {reply:?}"),
        }
    }

    async fn query(&self) -> Arc<Configuration> {
        self.query_at(N1, None).await
    }

    /// The labs' check: exactly these groups, every shard at one of them, and balanced.
    async fn check(&self, groups: &[u32]) -> Arc<Configuration> {
        let newest = self.query().await;
        let expected: BTreeSet<GroupId> = groups.iter().map(|group| GroupId(*group)).collect();
        assert_eq!(newest.groups.keys().copied().collect::<BTreeSet<_>>(), expected);
        assert_eq!(newest.owners.len(), usize::from(SHARDS));
        let counts = newest.counts();
        match groups.is_empty() {
            true => assert!(newest.owners.iter().all(|owner| *owner == GroupId(0))),
            false => {
                let owned: usize = counts.values().sum();
                assert_eq!(owned, usize::from(SHARDS), "a shard has no group: {newest:?}");
                let (least, most) = (counts.values().min(), counts.values().max());
                assert!(most <= least.map(|least| least + 1).as_ref(), "{counts:?}");
            }
        }
        newest
    }

    /// All of these at once, each by a client of its own.
    async fn at_once<F: Future<Output = ()> + 'static>(
        &self,
        clients: impl IntoIterator<Item = u32>,
        client: impl Fn(Masters, u32) -> F,
    ) {
        let world = self.0.world();
        let clients: Vec<_> =
            clients.into_iter().map(|g| world.spawn(client(self.clone(), g))).collect();
        for client in clients {
            client.await.expect("a client failed");
        }
    }

    /// Ten clients, each at a server of its own.
    async fn join_and_leave(&self) {
        self.at_once(1..=10, async |masters, g| {
            let server = |place: u32| NodeId(1 + place % 3);
            masters.join_at(server(g - 1), &[g + 1000]).await;
            masters.join_at(server(g - 1), &[g]).await;
            masters.leave_at(server(g), &[g + 1000]).await;
        })
        .await;
    }

    /// SM-01 and "Basic leave/join" of TestBasic: joins and leaves, again and again. The
    /// configurations that were seen, in order.
    async fn basic(&self) -> Vec<Arc<Configuration>> {
        let mut seen = vec![self.check(&[]).await];
        self.join(&[1]).await;
        seen.push(self.check(&[1]).await);
        self.join(&[2]).await;
        let both = self.check(&[1, 2]).await;
        seen.push(both.clone());
        assert_eq!(both.groups[&GroupId(1)], servers(1), "intact, and in order");
        assert_eq!(both.groups[&GroupId(2)], servers(2), "intact, and in order");
        assert_eq!(self.join(&[2]).await, Reply::Refused(Refusal::Member(GroupId(2))));
        seen.push(self.check(&[1, 2]).await);
        self.leave(&[1]).await;
        seen.push(self.check(&[2]).await);
        assert_eq!(self.leave(&[1]).await, Reply::Refused(Refusal::UnknownGroup(GroupId(1))));
        seen.push(self.check(&[2]).await);
        self.leave(&[2]).await;
        seen.push(self.check(&[]).await);
        seen
    }

    /// No shard is at another group than before that was and is a member.
    fn stayed(before: &Configuration, after: &Configuration) {
        let member =
            |configuration: &Configuration, group| configuration.groups.contains_key(group);
        for (shard, (was, is)) in before.owners.iter().zip(&after.owners).enumerate() {
            let needless = was != is && member(after, was) && member(before, is);
            assert!(!needless, "shard {shard} went from {was} to {is}, both were and are members");
        }
    }

    /// The groups join, and leave, all in one call or one by one: shards move to who joined, and
    /// from who left, and nowhere else (the intent of the labs' vacuous loop: specification, 11.4).
    async fn minimal_transfers(&self, more: &[u32], in_one_call: bool) {
        let mut groups: Vec<u32> = self.query().await.groups.keys().map(|group| group.0).collect();
        let calls: Vec<&[u32]> = if in_one_call { vec![more] } else { more.chunks(1).collect() };
        for call in &calls {
            let before = self.query().await;
            self.join(call).await;
            groups.extend(*call);
            Self::stayed(&before, &*self.check(&groups).await);
        }
        for call in &calls {
            let before = self.query().await;
            self.leave(call).await;
            groups.retain(|group| !call.contains(group));
            Self::stayed(&before, &*self.check(&groups).await);
        }
    }
}

/// SM-01: Basic leave/join.
#[test]
fn sm_01_basic_leave_join() {
    row("SM-01", async |masters| {
        let seen = masters.basic().await;
        let numbers: Vec<u64> = seen.iter().map(|one| one.number).collect();
        assert_eq!(numbers, [0, 1, 2, 2, 3, 3, 4], "what changes nothing makes no number");
    });
}

/// SM-02: Historical queries; and in TestBasic with each server stopped in turn.
#[test]
fn sm_02_historical_queries() {
    row("SM-02", async |masters| {
        let seen = masters.basic().await;
        for stopped in [N1, N2, N3] {
            masters.0.kill(stopped);
            let asked = if stopped == N1 { N2 } else { N1 };
            for known in &seen {
                let again = masters.query_at(asked, Some(known.number)).await;
                assert_eq!(again, *known, "number {} at {asked}", known.number);
            }
            masters.0.start(stopped);
        }
        for node in [N1, N2, N3] {
            let newest = seen.last().expect("some were seen");
            assert_eq!(masters.query_at(node, Some(10_000)).await, *newest, "one to come");
        }
    });
}

/// SM-03: Move.
#[test]
fn sm_03_move() {
    row("SM-03", async |masters| {
        masters.join(&[503]).await;
        masters.join(&[504]).await;
        masters.check(&[503, 504]).await;
        for shard in 0..SHARDS {
            let before = masters.query().await;
            let group = if shard < SHARDS / 2 { 503 } else { 504 };
            masters.move_to(shard, group).await;
            let after = masters.query().await;
            if before.owner(ShardId(shard)) != Some(GroupId(group)) {
                assert!(after.number > before.number, "shard {shard} has moved");
            }
        }
        let moved = masters.query().await;
        for shard in 0..SHARDS {
            let group = if shard < SHARDS / 2 { 503 } else { 504 };
            assert_eq!(moved.owner(ShardId(shard)), Some(GroupId(group)), "shard {shard}");
        }
        masters.leave(&[503]).await;
        masters.leave(&[504]).await;
        masters.check(&[]).await;
    });
}

/// SM-04: Concurrent leave/join.
#[test]
fn sm_04_concurrent_leave_join() {
    row("SM-04", async |masters| {
        // As in the row before it, group 1 has left and 2 is a member.
        masters.join(&[1]).await;
        masters.join(&[2]).await;
        masters.leave(&[1]).await;
        masters.join_and_leave().await;
        masters.check(&(1..=10).collect::<Vec<u32>>()).await;
    });
}

/// SM-05: Min advances after joins: every replica has let go of a part of its log.
#[test]
fn sm_05_min_advances_after_joins() {
    row("SM-05", async |masters| {
        masters.join_and_leave().await;
        for round in 0..20 {
            masters.move_to(round % SHARDS, 1 + u32::from(round) % 10).await;
        }
        for node in [N1, N2, N3] {
            let status = masters.0.status(node).await.expect("it runs");
            assert!(status.checkpointed > 0, "{node} keeps all of its log");
        }
        let size = masters.0.log_size().await;
        assert!(size <= 8 * LOG_BYTES_MAX, "{size} bytes of log are kept");
    });
}

/// SM-06 and SM-07: Minimal transfers after joins, and after leaves.
#[test]
fn sm_06_and_07_minimal_transfers_after_joins_and_leaves() {
    row("SM-06", async |masters| {
        masters.join(&(1..=10).collect::<Vec<u32>>()).await;
        masters.minimal_transfers(&[11, 12, 13, 14, 15], false).await;
        masters.leave(&[4, 5, 6, 7, 8, 9, 10]).await;
        masters.minimal_transfers(&[11, 12, 13, 14, 15], false).await;
    });
}

/// SM-08: Concurrent leave/join, failure: one server becomes deaf meanwhile.
#[test]
fn sm_08_concurrent_leave_join_failure() {
    row("SM-08", async |masters| {
        masters
            .at_once(1..=20, async |masters, g| {
                let world = masters.0.world().clone();
                let any = || NodeId(2 + world.below(2) as u32);
                masters.join_at(any(), &[g + 1000]).await;
                masters.join_at(any(), &[g]).await;
                masters.leave_at(any(), &[g + 1000]).await;
                world.net.set_deaf([N1]);
            })
            .await;
        let newest = masters.query_at(N2, None).await;
        let groups: Vec<u32> = newest.groups.keys().map(|group| group.0).collect();
        assert_eq!(groups, (1..=20).collect::<Vec<u32>>());
        let counts = newest.counts();
        assert!(counts.values().max() <= counts.values().min().map(|least| least + 1).as_ref());
        masters.0.world().net.set_deaf([]);
        masters.check(&(1..=20).collect::<Vec<u32>>()).await;
    });
}

/// SM-09: Query() returns latest configuration, at a server that its peers cannot reach.
#[test]
fn sm_09_query_returns_the_latest_configuration() {
    row("SM-09", async |masters| {
        masters.0.world().net.set_deaf([N1]);
        masters.join_at(N2, &[1001]).await;
        let newest = masters.query_at(N1, None).await;
        assert!(newest.groups.contains_key(&GroupId(1001)), "{newest:?}");
    });
}

/// TestMulti, "Multi-group join/leave": one number per call, not per group.
#[test]
fn test_multi_group_join_leave() {
    row("TestMulti", async |masters| {
        assert_eq!(masters.join(&[1, 2]).await, Reply::Done { number: 1 });
        let both = masters.check(&[1, 2]).await;
        assert_eq!(both.groups[&GroupId(1)], servers(1));
        assert_eq!(both.groups[&GroupId(2)], servers(2));
        assert_eq!(masters.join(&[3]).await, Reply::Done { number: 2 });
        masters.check(&[1, 2, 3]).await;
        assert_eq!(masters.leave(&[1, 3]).await, Reply::Done { number: 3 });
        masters.check(&[2]).await;
        assert_eq!(masters.leave(&[2]).await, Reply::Done { number: 4 });
        masters.check(&[]).await;
    });
}

/// TestBasic, "Concurrent leave/join", with the groups of 2016: 100, 110, ... 190.
#[test]
fn test_basic_concurrent_leave_join() {
    row("TestBasic concurrent", async |masters| {
        masters
            .at_once((0..10).map(|i| 100 + 10 * i), async |masters, g| {
                masters.join(&[g + 1000]).await;
                masters.join(&[g]).await;
                masters.leave(&[g + 1000]).await;
            })
            .await;
        let newest = masters.check(&(0..10).map(|i| 100 + 10 * i).collect::<Vec<u32>>()).await;
        assert!(newest.counts().values().all(|count| *count == 1), "10 shards, 10 groups");
        assert_eq!(newest.number, 30, "each call has made one number, none two");
    });
}

/// TestMulti, "Concurrent multi leave/join".
#[test]
fn test_multi_concurrent_leave_join() {
    row("TestMulti concurrent", async |masters| {
        masters
            .at_once(1000..1010, async |masters, g| {
                masters.join(&[g, g + 1000, g + 2000]).await;
                masters.leave(&[g + 1000, g + 2000]).await;
            })
            .await;
        masters.check(&(1000..1010).collect::<Vec<u32>>()).await;
        assert_eq!(masters.query().await.number, 20);
    });
}

/// TestBasic and TestMulti, "Minimal transfers": joiners name one of their servers twice.
#[test]
fn test_minimal_transfers_after_multijoins_and_multileaves() {
    row("TestMulti transfers", async |masters| {
        let twice = vec![NodeId(5), NodeId(6), NodeId(5)];
        let groups = BTreeMap::from([(GroupId(1), twice.clone())]);
        masters.0.call(N1, Command::Join { groups }).await;
        assert_eq!(masters.query().await.groups[&GroupId(1)], twice);
        masters.join(&[2, 3]).await;
        masters.minimal_transfers(&[11, 12, 13, 14, 15], true).await;
        masters.minimal_transfers(&[4, 5, 6, 7, 8, 9, 10, 11, 12, 13], true).await;
    });
}

/// After 2020: the leader is stopped, and the next one has the same configuration.
#[test]
fn test_the_next_leader_has_the_same_configuration() {
    row("TestMulti leaders", async |masters| {
        masters.join(&[1, 2, 3]).await;
        masters.move_to(3, 1).await;
        let known = masters.query().await;
        for stopped in [N1, N2, N3] {
            masters.0.kill(stopped);
            let asked = if stopped == N3 { N1 } else { N3 };
            assert_eq!(masters.query_at(asked, None).await, known, "without {stopped}");
            masters.0.start(stopped);
        }
        masters.0.restart_all().await;
        assert_eq!(masters.query().await, known, "after the death of all");
    });
}

/// What cannot be done is refused, and makes no configuration.
#[test]
fn what_cannot_be_done_is_refused() {
    row("refusals", async |masters| {
        let call = |command| masters.0.call(N2, command);
        masters.join(&[1]).await;
        let form = Command::Form { shards: SHARDS };
        assert_eq!(call(form).await, Reply::Done { number: 1 }, "again, and nothing changes");
        let join =
            |group, nodes| Command::Join { groups: BTreeMap::from([(GroupId(group), nodes)]) };
        let leave = |groups: &[u32]| {
            let groups = groups.iter().map(|group| GroupId(*group)).collect();
            Command::Leave { groups, even_the_last: false }
        };
        let to = |shard, group| Command::Move { shard: ShardId(shard), group: GroupId(group) };
        let wrong = [
            (Command::Form { shards: 11 }, Refusal::FormedWith(SHARDS)),
            (join(1, servers(1)), Refusal::Member(GroupId(1))),
            (join(2, vec![]), Refusal::NoNodes(GroupId(2))),
            (join(0, servers(1)), Refusal::GroupZero),
            (Command::Join { groups: BTreeMap::new() }, Refusal::NoGroup),
            (leave(&[]), Refusal::NoGroup),
            (leave(&[9]), Refusal::UnknownGroup(GroupId(9))),
            (leave(&[1]), Refusal::LastGroup),
            (to(0, 9), Refusal::UnknownGroup(GroupId(9))),
            (to(0, 0), Refusal::UnknownGroup(GroupId(0))),
            (to(SHARDS, 1), Refusal::UnknownShard(ShardId(SHARDS))),
        ];
        let before = masters.query().await;
        for (command, refusal) in wrong {
            assert_eq!(call(command.clone()).await, Reply::Refused(refusal), "{command:?}");
        }
        assert_eq!(masters.query().await, before);
    });
    // Before the number of shards is agreed on.
    run_machine_with(1, Options::servers(3), ShardMaster::default, async |replicas| {
        let groups = BTreeMap::from([(GroupId(1), servers(1))]);
        let refused = replicas.call(N1, Command::Join { groups }).await;
        assert_eq!(refused, Reply::Refused(Refusal::NotFormed));
        let refused = replicas.call(N1, Command::Form { shards: 0 }).await;
        assert_eq!(refused, Reply::Refused(Refusal::ShardCount(0)));
        let refused = replicas.call(N1, Command::Form { shards: 16_385 }).await;
        assert_eq!(refused, Reply::Refused(Refusal::ShardCount(16_385)));
    });
}
