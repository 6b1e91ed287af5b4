//! What the labs' suites of the key/value store share: clerks whose operations are recorded, the
//! judgement at the end of a row, and the rows that are alike in all editions.

#![allow(dead_code, unreachable_pub, reason = "each test binary uses its own part of this")]

use std::time::Duration;

use quorate_protocol::NodeId;
use quorate_sim::{Client, Record, Recorded, World, generic::Row};
use tokio::time::timeout;

const SECOND: Duration = Duration::from_secs(1);

/// The two kinds of clerks that the editions have.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Edition {
    /// Until 2020: Put, Append and Get; whatever is sent again takes effect once.
    Sessions,
    /// Since 2024: Get, and Put at a version, which may end as ErrMaybe.
    Versions,
}

/// A world whose clerks are recorded.
#[derive(Clone)]
pub struct Lab {
    pub world: World,
    record: Record,
    edition: Edition,
}

/// Runs a test and judges everything that its clerks have seen: it is linearizable, or the test
/// fails, also when that cannot be found out within the checker's budget.
pub async fn judged(world: World, edition: Edition, test: impl AsyncFn(Lab)) {
    let lab = Lab { record: Record::new(&world), world, edition };
    test(lab.clone()).await;
    lab.record.check();
}

/// Runs a test of a row, with every engine and seed, and judges it.
pub fn row(row: Row, edition: Edition, test: impl AsyncFn(Lab)) {
    row.run(async |world| judged(world, edition, &test).await);
}

impl Lab {
    /// A clerk that knows these servers.
    pub fn clerk(&self, servers: Vec<NodeId>) -> Recorded {
        let client = match self.edition {
            Edition::Sessions => Client::new(&self.world, servers),
            Edition::Versions => Client::sessionless(&self.world, servers),
        };
        self.record.client(client)
    }

    /// A clerk that knows all servers.
    pub fn full(&self) -> Recorded {
        self.clerk(self.world.servers())
    }

    /// A clerk that knows all servers, in an order of its own.
    pub fn shuffled(&self) -> Recorded {
        self.clerk(self.world.shuffled())
    }

    /// Per server, a clerk that knows only it.
    pub fn pinned(&self) -> Vec<Recorded> {
        self.world.servers().into_iter().map(|server| self.clerk(vec![server])).collect()
    }

    /// Put, as the edition has it: at this version, or at the next one at which it succeeds. Gives
    /// the version that was made, if that can be known.
    async fn put(&self, clerk: &Recorded, key: &str, value: &str, version: u64) -> Option<u64> {
        match self.edition {
            Edition::Sessions => {
                clerk.put(key, value).await;
                None
            }
            Edition::Versions => Some(clerk.put_at_least_once(key, value, version).await),
        }
    }
}

/// The value of a key: "" when absent.
pub async fn value(clerk: &Recorded, key: &str) -> String {
    let value = clerk.get(key).await.map(|found| found.value).unwrap_or_default();
    String::from_utf8_lossy(&value).into_owned()
}

/// Get(key) has this value.
pub async fn check(clerk: &Recorded, key: &str, expected: &str) {
    assert_eq!(value(clerk, key).await, expected, "Get({key})");
}

/// Get(key) has this value, at this version if one is given.
pub async fn check_at(clerk: &Recorded, key: &str, value: &str, version: Option<u64>) {
    let found = clerk.get(key).await.map(|found| (found.value, found.version.0));
    let version = version.or(found.as_ref().map(|(_, version)| *version)).unwrap_or_default();
    assert_eq!(found, Some((value.to_string().into(), version)), "Get({key})");
}

/// Progress in majority; no progress in minority; completion after heal: the Put within 3 s of the
/// second that the labs wait, and the Get too (the labs wait for it in name only).
pub fn one_partition(one: Row, edition: Edition) {
    row(one, edition, async |lab| {
        let world = &lab.world;
        let all = lab.shuffled();
        let first = lab.put(&all, "1", "13", 0).await;
        let leader = world.leader().await.expect("somebody has carried out the Put");
        let mut rest = world.servers();
        rest.retain(|node| *node != leader);
        let minority = vec![leader, rest.remove(0)];
        world.net.partition(vec![minority.clone(), rest.clone()]);
        let majority = lab.clerk(rest);
        let second = lab.put(&majority, "1", "14", first.unwrap_or_default()).await;
        check_at(&majority, "1", "14", second).await;

        let (a, b) = (lab.clerk(minority.clone()), lab.clerk(minority));
        let put = {
            let lab = lab.clone();
            world.spawn(async move { lab.put(&a, "1", "15", second.unwrap_or_default()).await })
        };
        let get = world.spawn(async move { value(&b, "1").await });
        world.sleep_ms(1000).await;
        assert!(!put.is_finished(), "a Put was carried out by a minority");
        assert!(!get.is_finished(), "a Get was carried out by a minority");
        check_at(&majority, "1", "14", second).await;
        let third = lab.put(&majority, "1", "16", second.unwrap_or_default()).await;
        check_at(&majority, "1", "16", third).await;
        assert!(!put.is_finished() && !get.is_finished());

        world.net.heal();
        world.sleep_ms(1000).await;
        let last = timeout(3 * SECOND, put).await.expect("the Put completes within 1 s + 3 s");
        let last = last.expect("and succeeds");
        let got = timeout(3 * SECOND, get).await.expect("the Get completes within 1 s + 3 s");
        let got = got.expect("and succeeds");
        assert!(got == "16" || got == "15", "the Get was answered {got:?}");
        check_at(&all, "1", "15", last).await;
        one.check_sizes(world).await;
    });
}

/// A server that lagged behind catches up by a snapshot.
pub fn snapshot_rpc(rpc: Row, edition: Edition) {
    row(rpc, edition, async |lab| {
        let world = &lab.world;
        let nodes: Vec<NodeId> = world.servers();
        let pair = |a: usize, b: usize| vec![nodes[a], nodes[b]];
        // Every key is put once.
        let version = Some(1);
        let all = lab.shuffled();
        lab.put(&all, "a", "A", 0).await;
        check_at(&all, "a", "A", version).await;

        world.net.partition(vec![pair(0, 1), vec![nodes[2]]]);
        let clerk = lab.clerk(pair(0, 1));
        for i in 0..50 {
            lab.put(&clerk, &i.to_string(), &i.to_string(), 0).await;
        }
        world.sleep_ms(1000).await;
        lab.put(&clerk, "b", "B", 0).await;
        // The majority has thrown away most of its log.
        rpc.check_sizes(world).await;

        // A majority that needs the server that lagged.
        world.net.partition(vec![pair(0, 2), vec![nodes[1]]]);
        let clerk = lab.clerk(pair(0, 2));
        lab.put(&clerk, "c", "C", 0).await;
        lab.put(&clerk, "d", "D", 0).await;
        for (key, value) in [("a", "A"), ("b", "B"), ("1", "1"), ("49", "49")] {
            check_at(&clerk, key, value, version).await;
        }
        // It serves by itself, too.
        check_at(&lab.clerk(vec![nodes[2]]), "49", "49", version).await;

        world.net.heal();
        lab.put(&all, "e", "E", 0).await;
        for (key, value) in [("c", "C"), ("d", "D"), ("e", "E"), ("1", "1")] {
            check_at(&all, key, value, version).await;
        }
        rpc.check_sizes(world).await;
    });
}

/// 1000 operations, one after the other: no slower than 30 a second, none above half a second.
/// `one` gets a clerk and the number of the operation.
pub async fn speed(lab: &Lab, one: impl AsyncFn(&Recorded, u64)) -> Recorded {
    const OPERATIONS: u32 = 1000;
    let clerk = lab.full();
    assert_eq!(clerk.get("x").await, None);
    let began = lab.world.elapsed();
    for n in 0..OPERATIONS {
        let asked = lab.world.elapsed();
        one(&clerk, n.into()).await;
        let took = lab.world.elapsed() - asked;
        assert!(took < Duration::from_millis(500), "{took:?} for operation {n}");
    }
    let mean = (lab.world.elapsed() - began) / OPERATIONS;
    assert!(mean <= Duration::from_micros(33_300), "{mean:?} for one operation");
    clerk
}
