//! The replicated versioned store: 6.5840 2026, Lab 4B and 4C, one test per row, with every engine.
//!
//! Clerks keep no session: they get, and put at a version, and hear ErrMaybe when a Put had to be
//! sent again and met another version.

mod labs;

use std::{cell::Cell, rc::Rc, time::Duration};

use labs::{Edition, Lab, check_at, one_partition, snapshot_rpc};
use quorate_sim::{PutError, Recorded, World, generic::Row, rows};

/// Bytes of log at which a snapshot is due, in the rows of Lab 4C.
const MAXRAFTSTATE: u64 = 1000;
/// How many keys the clerks share when they are drawn at random.
const KEYS: u64 = 100;
const SECOND: Duration = Duration::from_secs(1);

/// Runs a row of this edition.
fn row(row: Row, test: impl AsyncFn(Lab)) {
    labs::row(row, Edition::Versions, test);
}

/// What a clerk's Puts came to.
#[derive(Clone, Copy, Default)]
struct Puts {
    ok: u64,
    maybe: u64,
}

/// One clerk: puts a key at the version last seen, and gets it, until it is told to stop.
async fn clerk(world: World, row: Row, me: usize, client: Recorded, stop: Rc<Cell<bool>>) -> Puts {
    let mut puts = Puts::default();
    let mut versions = vec![0; KEYS as usize];
    for n in 0.. {
        if stop.get() {
            break;
        }
        let key = if row.has_random_keys { world.below(KEYS) as usize } else { 0 };
        let name = format!("k{key}");
        let version = versions[key];
        let put = client.put_at(&name, &format!("{me} {n}"), version).await;
        match put {
            Ok(()) => puts.ok += 1,
            Err(PutError::Maybe) => puts.maybe += 1,
            Err(PutError::Version) => {}
            Err(PutError::NoKey) => panic!("{name}: ErrNoKey at version {version}"),
        }
        let found = client.get(&name).await;
        let found = found.expect("a key that was put, or was found at another version, is there");
        assert!(found.version.0 >= version, "{name}: {} after {version}", found.version);
        versions[key] = found.version.0;
    }
    puts
}

/// The common scenario, three iterations of it.
fn generic(generic: Row) {
    row(generic, async |lab| {
        let judge = lab.full();
        let is_exact = !generic.is_unreliable && !generic.has_restarts && !generic.has_partitions;
        let mut sum = Puts::default();
        for iteration in 0..3 {
            let work = |i, stop| {
                let me = iteration * generic.clerks + i;
                clerk(lab.world.clone(), generic, me, lab.full(), stop)
            };
            for puts in generic.iterate(&lab.world, SECOND, work).await {
                sum.ok += puts.ok;
                sum.maybe += puts.maybe;
            }
            if !generic.has_random_keys {
                let version = judge.get("k0").await.map_or(0, |found| found.version.0);
                let most = sum.ok + sum.maybe;
                assert!(version >= sum.ok && version <= most, "{version}: {} to {most}", sum.ok);
                // Where nothing is lost nothing is sent again.
                assert!(!is_exact || sum.maybe == 0, "{} ErrMaybe for nothing", sum.maybe);
            }
            generic.check_sizes(&lab.world).await;
        }
        assert!(sum.ok > 0, "nothing was ever carried out");
    });
}

rows! {
    /// One client.
    test_basic_4b: generic, "TestBasic4B", 1 clerks, 5 servers, [], None;
    /// Many clients.
    test_concurrent_4b: generic, "TestConcurrent4B", 5 clerks, 5 servers, [], None;
    /// Unreliable net, many clients.
    test_unreliable_4b: generic, "TestUnreliable4B", 5 clerks, 5 servers, [is_unreliable], None;
    /// Partitions, one client.
    test_many_partitions_one_client_4b:
        generic, "TestManyPartitionsOneClient4B", 1 clerks, 5 servers, [has_partitions], None;
    /// Partitions, many clients.
    test_many_partitions_many_clients_4b:
        generic, "TestManyPartitionsManyClients4B", 5 clerks, 5 servers, [has_partitions], None;
    /// Restarts, one client.
    test_persist_one_client_4b:
        generic, "TestPersistOneClient4B", 1 clerks, 5 servers, [has_restarts], None;
    /// Restarts, many clients.
    test_persist_concurrent_4b:
        generic, "TestPersistConcurrent4B", 5 clerks, 5 servers, [has_restarts], None;
    /// Unreliable net, restarts, many clients.
    test_persist_concurrent_unreliable_4b:
        generic, "TestPersistConcurrentUnreliable4B", 5 clerks, 5 servers, [is_unreliable, has_restarts], None;
    /// Restarts, partitions, many clients.
    test_persist_partition_4b:
        generic, "TestPersistPartition4B", 5 clerks, 5 servers, [has_restarts, has_partitions], None;
    /// Unreliable net, restarts, partitions, many clients.
    test_persist_partition_unreliable_4b:
        generic, "TestPersistPartitionUnreliable4B", 5 clerks, 5 servers,
        [is_unreliable, has_restarts, has_partitions], None;
    /// Unreliable net, restarts, partitions, random keys, many clients.
    test_persist_partition_unreliable_linearizable_4b:
        generic, "TestPersistPartitionUnreliableLinearizable4B", 15 clerks, 7 servers,
        [is_unreliable, has_restarts, has_partitions, has_random_keys], None;
    /// Snapshots, restarts, one client.
    test_snapshot_recover_4c:
        generic, "TestSnapshotRecover4C", 1 clerks, 5 servers, [has_restarts], Some(MAXRAFTSTATE);
    /// Snapshots, restarts, many clients.
    test_snapshot_recover_many_clients_4c:
        generic, "TestSnapshotRecoverManyClients4C", 20 clerks, 5 servers, [has_restarts],
        Some(MAXRAFTSTATE);
    /// Snapshots, unreliable net, many clients.
    test_snapshot_unreliable_4c:
        generic, "TestSnapshotUnreliable4C", 5 clerks, 5 servers, [is_unreliable], Some(MAXRAFTSTATE);
    /// Snapshots, unreliable net, restarts, many clients.
    test_snapshot_unreliable_recover_4c:
        generic, "TestSnapshotUnreliableRecover4C", 5 clerks, 5 servers, [is_unreliable, has_restarts],
        Some(MAXRAFTSTATE);
    /// Snapshots, unreliable net, restarts, partitions, many clients.
    test_snapshot_unreliable_recover_concurrent_partition_4c:
        generic, "TestSnapshotUnreliableRecoverConcurrentPartition4C", 5 clerks, 5 servers,
        [is_unreliable, has_restarts, has_partitions], Some(MAXRAFTSTATE);
    /// Snapshots, unreliable net, restarts, partitions, random keys, many clients.
    test_snapshot_unreliable_recover_concurrent_partition_linearizable_4c:
        generic, "TestSnapshotUnreliableRecoverConcurrentPartitionLinearizable4C", 15 clerks, 7 servers,
        [is_unreliable, has_restarts, has_partitions, has_random_keys], Some(MAXRAFTSTATE);
}

/// 1000 Puts, one after the other.
fn speed(name: &'static str, maxraftstate: Option<u64>) {
    let speed = Row { name, servers: 3, maxraftstate, ..Row::default() };
    row(speed, async |lab| {
        let put = async |clerk: &Recorded, version| {
            let put = clerk.put_at("x", &format!("x 0 {version} y"), version).await;
            assert_eq!(put, Ok(()), "version {version}");
        };
        let clerk = labs::speed(&lab, put).await;
        check_at(&clerk, "x", "x 0 999 y", Some(1000)).await;
        speed.check_sizes(&lab.world).await;
    });
}

/// Ops complete fast enough.
#[test]
fn test_speed_4b() {
    speed("TestSpeed4B", None);
}

/// Ops complete fast enough, with snapshots.
#[test]
fn test_speed_4c() {
    speed("TestSpeed4C", Some(MAXRAFTSTATE));
}

/// Progress in majority; no progress in minority; completion after heal.
#[test]
fn test_one_partition_4b() {
    let row = Row { name: "TestOnePartition4B", servers: 5, is_unreliable: true, ..Row::default() };
    one_partition(row, Edition::Versions);
}

/// A server that lagged behind catches up by a snapshot.
#[test]
fn test_snapshot_rpc_4c() {
    let maxraftstate = Some(MAXRAFTSTATE);
    let row = Row { name: "TestSnapshotRPC4C", servers: 3, maxraftstate, ..Row::default() };
    snapshot_rpc(row, Edition::Versions);
}

/// Snapshot size is reasonable.
#[test]
fn test_snapshot_size_4c() {
    let maxraftstate = Some(MAXRAFTSTATE);
    let size = Row { name: "TestSnapshotSize4C", servers: 3, maxraftstate, ..Row::default() };
    row(size, async |lab| {
        let client = lab.full();
        for version in (0..400).step_by(2) {
            assert_eq!(client.put_at("x", "0", version).await, Ok(()));
            check_at(&client, "x", "0", Some(version + 1)).await;
            assert_eq!(client.put_at("x", "1", version + 1).await, Ok(()));
            check_at(&client, "x", "1", Some(version + 2)).await;
        }
        size.check_sizes(&lab.world).await;
        let size = lab.world.snapshot_size();
        assert!(size > 0 && size <= 500, "{size} bytes of snapshot");
    });
}
