//! Disks that are full, on both engines: a server without room to spare refuses writes by name and goes
//! on reading, the others go on, and nothing that was answered is lost.

use std::{cell::Cell, rc::Rc, time::Duration};

use bytes::Bytes;
use quorate_clerk::{Outcome, Refusal};
use quorate_kvserver::{Condition, Op, Reply};
use quorate_persistence::Disk;
use quorate_protocol::NodeId;
use quorate_sim::{Client, ENGINES, Options, World, for_each_seed, run};
use tokio::time::{Instant, timeout};

/// How long anything may take that must happen.
const PATIENCE: Duration = Duration::from_secs(20);

fn on_each_engine(name: &str, log_bytes_max: u64, test: impl AsyncFn(World)) {
    for_each_seed(name, 5, |seed| {
        for engine in ENGINES {
            let options = Options { engine, log_bytes_max, ..Options::servers(3) };
            run(seed, options, async |world| {
                world.start_all(false);
                let done = timeout(Duration::from_secs(300), test(world)).await;
                assert!(done.is_ok(), "{name} on {engine} does not come to an end");
            });
        }
    });
}

/// So many bytes of room are left on a node's disk; `None`: as many as one likes.
fn leave(world: &World, node: NodeId, room: Option<u64>) {
    let disk = world.disk(node);
    disk.set_bytes_max(room.map(|room| disk.counters().bytes_stored + room));
}

fn put(key: &str, value: impl Into<Bytes>) -> Op {
    let (key, value) = (Bytes::copy_from_slice(key.as_bytes()), value.into());
    Op::Put { key, value, condition: Condition::Always, want_old: false }
}

async fn stored(client: &Client, key: &str, value: impl Into<Bytes>) {
    let outcome =
        timeout(PATIENCE, client.run(put(key, value))).await.expect("a put comes through");
    assert!(matches!(outcome, Outcome::Done(Reply::Stored { .. })), "{outcome:?}");
}

async fn reads(client: &Client, key: &str, value: &str) {
    let found = timeout(PATIENCE, client.get(key)).await.expect("a get comes through");
    assert_eq!(found, value);
}

/// A client of one server alone.
fn clients(world: &World) -> Vec<Client> {
    world.servers().into_iter().map(|node| Client::new(world, vec![node])).collect()
}

/// Puts until a server says that its disk is full.
async fn until_refused(world: &World, client: &Client) {
    let begin = Instant::now();
    while client.run(put("filler", "x")).await != Outcome::Refused(Refusal::DiskFull) {
        assert!(begin.elapsed() < PATIENCE, "it is never refused");
        world.sleep_ms(50).await;
    }
}

/// Puts until a server takes it again.
async fn until_taken(world: &World, client: &Client) {
    let begin = Instant::now();
    while client.run(put("filler", "x")).await == Outcome::Refused(Refusal::DiskFull) {
        assert!(begin.elapsed() < PATIENCE, "it is always refused");
        world.sleep_ms(50).await;
    }
}

#[test]
fn a_server_without_room_to_spare_refuses_writes_by_name_and_the_others_go_on() {
    on_each_engine("one full", 64 * 1024, async |world| {
        let clients = clients(&world);
        stored(&clients[0], "a", "before").await;
        // Also when it is the one that leads; first there is little room, then none.
        for (full, node) in world.servers().into_iter().enumerate() {
            for room in [100_000, world.below(300)] {
                leave(&world, node, Some(room));
                let others = [(full + 1) % 3, (full + 2) % 3].map(|other| &clients[other]);
                for round in 0..20 {
                    let value = format!("{node} {room} {round}");
                    stored(others[round % 2], "a", value.clone()).await;
                    reads(others[round % 2], "a", &value).await;
                }
                until_refused(&world, &clients[full]).await;
                let begin = Instant::now();
                let outcome = clients[full].run(put("a", "refused")).await;
                assert_eq!(outcome, Outcome::Refused(Refusal::DiskFull));
                assert!(begin.elapsed() < Duration::from_millis(500), "{:?}", begin.elapsed());
                reads(&clients[full], "a", &format!("{node} {room} 19")).await;
            }
            leave(&world, node, None);
            until_taken(&world, &clients[full]).await;
        }
    });
}

#[test]
fn a_cluster_without_room_to_spare_reads_and_goes_on_when_there_is_room() {
    on_each_engine("all full", 64 * 1024, async |world| {
        let clients = clients(&world);
        stored(&clients[0], "a", "before").await;
        for node in world.servers() {
            leave(&world, node, Some(100_000));
        }
        for client in &clients {
            until_refused(&world, client).await;
        }
        // Reads go on for as long as it takes.
        for _ in 0..10 {
            world.sleep_ms(6_000).await;
            for client in &clients {
                assert_eq!(
                    client.run(put("a", "refused")).await,
                    Outcome::Refused(Refusal::DiskFull)
                );
                reads(client, "a", "before").await;
            }
        }
        for node in world.servers() {
            leave(&world, node, None);
        }
        for client in &clients {
            until_taken(&world, client).await;
        }
        stored(&clients[0], "a", "after").await;
        reads(&clients[2], "a", "after").await;
    });
}

/// Faster than anybody can look: a write waits on disks where nothing fits any more.
#[test]
fn what_waits_for_room_is_carried_out_when_there_is_some_and_no_server_ends() {
    on_each_engine("waits", 64 * 1024, async |world| {
        let clients = clients(&world);
        stored(&clients[0], "a", "before").await;
        world.sleep_ms(1500).await;
        for node in world.servers() {
            leave(&world, node, Some(0));
        }
        let done = Rc::new(Cell::new(false));
        let (first, told) = (clients[0].clone(), done.clone());
        let waits = world.spawn(async move {
            stored_in_the_end(&first, "b").await;
            told.set(true);
        });
        world.sleep_ms(60_000).await;
        assert!(!done.get(), "there is no room for it");
        // A majority has room again, and then everybody.
        let free = world.shuffled();
        leave(&world, free[0], None);
        leave(&world, free[1], None);
        timeout(PATIENCE, waits).await.expect("what has waited comes through").unwrap();
        leave(&world, free[2], None);
        until_taken(&world, &clients[0]).await;
        stored(&clients[0], "a", "after").await;
        world.sleep_ms(5000).await;
        // The power goes everywhere at once.
        for node in world.servers() {
            world.kill(node);
        }
        world.start_all(false);
        for client in &clients {
            reads(client, "a", "after").await;
            reads(client, "b", "waited").await;
        }
    });
}

async fn stored_in_the_end(client: &Client, key: &str) {
    let outcome = client.run(put(key, "waited")).await;
    assert!(matches!(outcome, Outcome::Done(Reply::Stored { .. })), "{outcome:?}");
}

/// A checkpoint that does not fit leaves nothing behind, and is made when there is room.
#[test]
fn a_checkpoint_that_does_not_fit_is_given_up_and_made_later() {
    on_each_engine("checkpoints", 16 * 1024, async |world| {
        let node = world.shuffled()[0];
        let mut others = world.servers();
        others.retain(|other| *other != node);
        let client = Client::new(&world, others);
        // A state that takes more than what will be left.
        for key in 0..12 {
            stored(&client, &format!("key{key}"), vec![b'x'; 2000]).await;
        }
        world.sleep_ms(3000).await;
        let taken = |world: &World| {
            let newest = world.newest_checkpoint(node);
            newest.map(|content| content.len()).unwrap_or_default()
        };
        let before = taken(&world);
        leave(&world, node, Some(20_000));
        for round in 0..10 {
            stored(&client, "more", format!("{round}").repeat(1500)).await;
            let left: Vec<_> = world.disk(node).files();
            let temporary = |file: &std::path::PathBuf| {
                file.file_name().is_some_and(|name| name.to_string_lossy().starts_with(".tmp"))
            };
            assert!(!left.iter().any(temporary), "{left:?}");
        }
        assert_eq!(taken(&world), before, "there was room for one");
        leave(&world, node, None);
        world.sleep_ms(30_000).await;
        stored(&client, "last", "value").await;
        assert!(taken(&world) > before, "there is room, and no checkpoint");
        let free = world.disk(node).available_bytes(std::path::Path::new("/")).unwrap();
        assert_eq!(free, u64::MAX);
    });
}
