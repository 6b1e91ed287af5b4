//! The rows that measure memory: PX-08 (2015 Lab 3A), KV-03 (Lab 3B), and
//! TestMemPutManyClientsReliable (6.5840 2026, Lab 2).
//!
//! They have a process of their own, whose allocator counts, and wait for each other. All servers
//! of a world live in this one process, as in the labs. The simulated disks do too, which real
//! ones would not: what they take is subtracted.

use std::sync::{Mutex, MutexGuard};

use bytes::Bytes;
use peak_alloc::PeakAlloc;
use quorate_learner::Fate;
use quorate_protocol::NodeId;
use quorate_sim::{Client, ENGINES, Options, Peer, PutError, World, for_each_seed, run, wait_for};

#[global_allocator]
static HEAP: PeakAlloc = PeakAlloc;

const VALUE_BYTES: usize = 1_000_000;

/// One measurement at a time.
fn alone() -> MutexGuard<'static, ()> {
    static ALONE: Mutex<()> = Mutex::new(());
    ALONE.lock().unwrap_or_else(|poisoned| poisoned.into_inner())
}

/// Bytes in use now, without those of simulated disks.
fn heap(world: &World) -> u64 {
    (HEAP.current_usage() as u64).checked_sub(world.disk_memory()).expect("disks lie in the heap")
}

/// Bytes that look like nothing else.
fn random_value(world: &World) -> Bytes {
    (0..VALUE_BYTES / 8).flat_map(|_| world.below(u64::MAX).to_le_bytes()).collect()
}

/// PX-08: Paxos frees forgotten instance memory.
#[test]
fn px_08_frees_forgotten_instance_memory() {
    let _alone = alone();
    for_each_seed("PX-08", 3, |seed| {
        run(seed, Options::servers(3), async |world| {
            world.start_all(true);
            let peers: Vec<Peer> =
                world.servers().into_iter().map(|node| Peer::new(&world, node)).collect();
            peers[0].start(0, "x");
            wait_for(&peers, 0, 3).await;
            let empty = heap(&world);

            for seq in 1..=10 {
                peers[0].start(seq, random_value(&world));
                wait_for(&peers, seq, 3).await;
            }
            let full = heap(&world);
            let values = 10 * VALUE_BYTES as u64;
            assert!(full >= empty + values, "{empty} to {full} bytes: are the values held at all?");

            for peer in &peers {
                peer.done(10);
            }
            for (i, peer) in peers.iter().enumerate() {
                peer.start(11 + i as u64, "x");
            }
            world.sleep_ms(3000).await;
            for peer in &peers {
                assert_eq!(peer.min().await, 11);
            }
            let freed = heap(&world);
            assert!(freed <= full / 2, "{full} to {freed} bytes");
            // Sharper than the row: less than one value is left, on all servers together.
            assert!(freed < empty + VALUE_BYTES as u64, "{empty} to {freed} bytes");

            let forgotten = async |when: &str| {
                for peer in &peers {
                    for seq in 0..=2 {
                        assert_eq!(peer.status(seq).await, Fate::Forgotten, "{seq} {when}");
                    }
                }
            };
            forgotten("before they are started again").await;
            for peer in &peers {
                for seq in 0..=2 {
                    peer.start(seq, "again");
                }
            }
            forgotten("when they are started again").await;
            world.sleep_ms(1000).await;
            forgotten("after they were started again").await;
        });
    });
}

/// KV-03: server frees Paxos log memory.
#[test]
fn kv_03_server_frees_log_memory() {
    let _alone = alone();
    for_each_seed("KV-03", 2, |seed| {
        for reads_in_log in [false, true] {
            let options = Options { reads_in_log, ..Options::servers(3) };
            run(seed, options, async |world| {
                world.start_all(false);
                let full = Client::new(&world, world.servers());
                let pinned = |i: usize| Client::new(&world, vec![NodeId(i as u32 + 1)]);
                let pinned: Vec<Client> = (0..3).map(pinned).collect();
                full.put("a", "aa").await;
                assert_eq!(full.get("a").await, "aa");
                let before = heap(&world);

                for _ in 0..2 {
                    for i in 0..10 {
                        let (key, value) = (i.to_string(), random_value(&world));
                        full.put(&key, value.clone()).await;
                        let found = pinned[i % 3].get_versioned(&key).await;
                        assert!(found.is_some_and(|found| found.value == value), "Get({key})");
                    }
                }
                for _ in 0..2 {
                    for client in &pinned {
                        client.put("a", "aa").await;
                        assert_eq!(client.get("a").await, "aa");
                    }
                }
                world.sleep_ms(1000).await;
                let after = heap(&world);
                let allowed = before + 3 * 10 * VALUE_BYTES as u64 * 2;
                assert!(after <= allowed, "{before} to {after} bytes, {allowed} are allowed");
                // Sharper than the row: hardly more than the live data, once on each server.
                let live = 3 * 10 * VALUE_BYTES as u64;
                assert!(after <= before + live * 5 / 4, "{before} to {after} bytes, {live} live");
            });
        }
    });
}

/// TestMemPutManyClientsReliable: nothing is kept of a client, nor of a value that was replaced.
#[test]
fn test_mem_put_many_clients_reliable() {
    const CLERKS: u64 = 20_000;
    let _alone = alone();
    for_each_seed("TestMemPutManyClientsReliable", 1, |seed| {
        for engine in ENGINES {
            // What of the log is kept in memory must not hide what is kept of clients.
            let options = Options { engine, log_bytes_max: 16 * 1024, ..Options::servers(1) };
            run(seed, options, async |world| {
                world.start_all(false);
                let value = "x".repeat(1000);
                let put = async |version| {
                    let clerk = Client::sessionless(&world, world.servers());
                    let put = clerk.put_at("k", &value, version).await;
                    clerk.end(&world);
                    put
                };
                // As many clerks as later, in vain: whatever serves them has its size then.
                for _ in 0..CLERKS {
                    assert_eq!(put(1).await, Err(PutError::NoKey));
                }
                world.sleep_ms(1000).await;
                let before = heap(&world);
                for version in 0..CLERKS {
                    assert_eq!(put(version).await, Ok(()));
                }
                world.sleep_ms(1000).await;
                let after = heap(&world);
                let allowed = before + 10 * CLERKS;
                assert!(after <= allowed, "{before} to {after} bytes, {allowed} are allowed");
            });
        }
    });
}
