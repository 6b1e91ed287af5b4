//! The replicated key/value store: 2015 Lab 3B, one test per row KV-01..KV-13 of the acceptance
//! specification. (KV-03, which measures memory, is in tests/memory.rs.)
//!
//! Server 0 of the labs is node n1. Rows that share a cluster in the labs are tests of their own,
//! which first bring a cluster into the state that the row begins with. Every row runs twice: with
//! reads by barriers, and with reads through the log, as the labs describe them.

mod labs;

use std::{cell::Cell, rc::Rc};

use labs::{Edition, Lab, check, value};
use quorate_protocol::NodeId;
use quorate_sim::{Options, Partition, Recorded, World, for_each_seed, run};
use tokio::{task::JoinHandle, time::timeout};

/// A row: all its servers are up.
fn kv(row: &str, servers: u32, test: impl AsyncFn(Lab)) {
    for_each_seed(row, 3, |seed| {
        for reads_in_log in [false, true] {
            let options = Options { reads_in_log, ..Options::servers(servers) };
            run(seed, options, async |world| {
                world.start_all(false);
                labs::judged(world, Edition::Sessions, &test).await;
            });
        }
    });
}

/// As `kv`, on a network that loses requests and answers.
fn kv_unreliable(row: &str, servers: u32, test: impl AsyncFn(Lab)) {
    kv(row, servers, async |lab: Lab| {
        lab.world.net.set_unreliable(lab.world.servers());
        test(lab).await;
    });
}

/// Server `i` of the labs.
fn node(i: usize) -> NodeId {
    NodeId(i as u32 + 1)
}

/// The labs' way to write a partition.
fn parts(sets: &[&[usize]]) -> Partition {
    sets.iter().map(|set| set.iter().map(|i| node(*i)).collect()).collect()
}

fn chance(world: &World) -> String {
    world.below(1 << 31).to_string()
}

/// Lets every task end, and fails as they do.
async fn join<T>(tasks: Vec<JoinHandle<T>>) {
    for task in tasks {
        task.await.expect("a client of this row failed");
    }
}

/// 20 rounds of 15 clients, each with one Put or Get of the same key; `servers_of` tells whom a
/// client knows. After each round all servers give one value.
async fn concurrent_clients(lab: &Lab, servers_of: fn(&World) -> Vec<NodeId>) {
    let pinned = lab.pinned();
    for _ in 0..20 {
        let client = |_| {
            let client = lab.clerk(servers_of(&lab.world));
            let put = lab.world.permille(500).then(|| chance(&lab.world));
            lab.world.spawn(async move {
                match put {
                    Some(value) => client.put("b", &value).await,
                    None => drop(client.get("b").await),
                }
            })
        };
        join((0..15).map(client).collect()).await;
        let first = value(&pinned[0], "b").await;
        for other in &pinned[1..] {
            check(other, "b", &first).await;
        }
    }
}

/// Basic put/append/get.
#[test]
fn kv_01_basic_put_append_get() {
    kv("KV-01", 3, async |lab| {
        let (client, pinned) = (lab.full(), lab.pinned());
        client.append("app", "x").await;
        client.append("app", "y").await;
        check(&client, "app", "xy").await;
        client.put("a", "aa").await;
        check(&client, "a", "aa").await;
        pinned[1].put("a", "aaa").await;
        check(&pinned[2], "a", "aaa").await;
        check(&pinned[1], "a", "aaa").await;
        check(&client, "a", "aaa").await;
        check(&client, "absent", "").await;
    });
}

/// Concurrent clients: each knows one server, drawn at random.
#[test]
fn kv_02_concurrent_clients() {
    kv("KV-02", 3, async |lab| {
        concurrent_clients(&lab, |world| vec![node(world.below(3) as usize)]).await;
    });
}

/// No partition: put by 0, put by 2, get by 3.
async fn no_partition(lab: &Lab) -> Vec<Recorded> {
    let pinned = lab.pinned();
    lab.world.net.partition(parts(&[&[0, 1, 2, 3, 4]]));
    pinned[0].put("1", "12").await;
    pinned[2].put("1", "13").await;
    check(&pinned[3], "1", "13").await;
    pinned
}

/// Progress in majority: put by 2, get by 4.
async fn progress_in_majority(lab: &Lab) -> Vec<Recorded> {
    let pinned = no_partition(lab).await;
    lab.world.net.partition(parts(&[&[2, 3, 4], &[0, 1]]));
    pinned[2].put("1", "14").await;
    check(&pinned[4], "1", "14").await;
    pinned
}

/// No progress in minority; the Put and the Get that hang.
async fn no_progress_in_minority(lab: &Lab) -> (Vec<Recorded>, JoinHandle<()>, JoinHandle<String>) {
    let pinned = progress_in_majority(lab).await;
    let (client0, client1) = (pinned[0].clone(), pinned[1].clone());
    let put = lab.world.spawn(async move { client0.put("1", "15").await });
    let get = lab.world.spawn(async move { value(&client1, "1").await });
    lab.world.sleep_ms(1000).await;
    assert!(!put.is_finished(), "a Put was carried out by a minority");
    assert!(!get.is_finished(), "a Get was carried out by a minority");
    check(&pinned[4], "1", "14").await;
    pinned[3].put("1", "16").await;
    check(&pinned[4], "1", "16").await;
    assert!(!put.is_finished() && !get.is_finished());
    (pinned, put, get)
}

/// No partition.
#[test]
fn kv_04_no_partition() {
    kv("KV-04", 5, async |lab| drop(no_partition(&lab).await));
}

/// Progress in majority.
#[test]
fn kv_05_progress_in_majority() {
    kv("KV-05", 5, async |lab| drop(progress_in_majority(&lab).await));
}

/// No progress in minority.
#[test]
fn kv_06_no_progress_in_minority() {
    kv("KV-06", 5, async |lab| drop(no_progress_in_minority(&lab).await));
}

/// Completion after heal: the Put within 3 s, and the Get within 10 s of its own turn.
#[test]
fn kv_07_completion_after_heal() {
    kv("KV-07", 5, async |lab| {
        let (pinned, put, mut get) = no_progress_in_minority(&lab).await;
        lab.world.net.partition(parts(&[&[0, 2, 3, 4], &[1]]));
        let put = timeout(std::time::Duration::from_secs(3), put).await;
        put.expect("the Put completes within 3 s").expect("and succeeds");
        assert!(!get.is_finished(), "a Get was carried out by a minority");
        check(&pinned[4], "1", "15").await;
        check(&pinned[0], "1", "15").await;
        assert!(!get.is_finished(), "a Get was carried out by a minority");
        lab.world.net.partition(parts(&[&[0, 1, 2], &[3, 4]]));
        let got = timeout(std::time::Duration::from_secs(10), &mut get).await;
        let got = got.expect("the Get completes within 10 s").expect("and succeeds");
        assert_eq!(got, "15");
        check(&pinned[1], "1", "15").await;
    });
}

/// Basic put/get, unreliable.
#[test]
fn kv_08_basic_put_get_unreliable() {
    kv_unreliable("KV-08", 3, async |lab| {
        let (client, pinned) = (lab.full(), lab.pinned());
        client.put("a", "aa").await;
        check(&client, "a", "aa").await;
        pinned[1].put("a", "aaa").await;
        check(&pinned[2], "a", "aaa").await;
        check(&pinned[1], "a", "aaa").await;
        check(&client, "a", "aaa").await;
    });
}

/// Sequence of puts, unreliable: each client sees its own appends, once each.
#[test]
fn kv_09_sequence_of_puts_unreliable() {
    kv_unreliable("KV-09", 3, async |lab| {
        for _ in 0..6 {
            let client = |me: usize| {
                let (world, client) = (lab.world.clone(), lab.shuffled());
                let key = me.to_string();
                let work = async move {
                    let before = value(&client, &key).await;
                    for value in ["0", "1", "2"] {
                        client.append(&key, value).await;
                    }
                    world.sleep_ms(100).await;
                    let expected = before + "012";
                    check(&client, &key, &expected).await;
                    check(&client, &key, &expected).await;
                };
                tokio::task::spawn_local(work)
            };
            join((0..5).map(client).collect()).await;
        }
        let client = lab.full();
        for me in 0..5 {
            check(&client, &me.to_string(), &"012".repeat(6)).await;
        }
    });
}

/// Concurrent clients, unreliable: each knows all servers, in an order of its own.
#[test]
fn kv_10_concurrent_clients_unreliable() {
    kv_unreliable("KV-10", 3, async |lab| {
        concurrent_clients(&lab, World::shuffled).await;
    });
}

/// The element check (specification, 0.3): every element once, each client's in order.
fn check_elements(value: &str, clients: usize, counts: impl Fn(usize) -> usize) {
    let mut length = 0;
    for client in 0..clients {
        let mut after = 0;
        for n in 0..counts(client) {
            let element = format!("x {client} {n} y");
            let places: Vec<usize> = value.match_indices(&element).map(|(at, _)| at).collect();
            assert_eq!(places.len(), 1, "`{element}` in `{value}`");
            assert!(places[0] >= after, "`{element}` is out of order in `{value}`");
            after = places[0];
            length += element.len();
        }
    }
    assert_eq!(value.len(), length, "something else is in `{value}`");
}

/// Concurrent Append to same key, unreliable.
#[test]
fn kv_11_concurrent_append_unreliable() {
    kv_unreliable("KV-11", 3, async |lab| {
        let client = |me: usize| {
            let client = lab.shuffled();
            lab.world.spawn(async move {
                for n in 0..5 {
                    client.append("k", &format!("x {me} {n} y")).await;
                }
            })
        };
        join((0..5).map(client).collect()).await;
        let pinned = lab.pinned();
        let value = value(&pinned[0], "k").await;
        check_elements(&value, 5, |_| 5);
        check(&pinned[1], "k", &value).await;
        check(&pinned[2], "k", &value).await;
    });
}

/// Tolerates holes in paxos sequence: a minority is cut off with requests under way.
#[test]
fn kv_12_tolerates_holes() {
    kv("KV-12", 5, async |lab| {
        for _ in 0..5 {
            lab.world.net.partition(parts(&[&[0, 1, 2, 3, 4]]));
            let second = lab.clerk(vec![node(2)]);
            second.put("q", "q").await;
            let stop = Rc::new(Cell::new(false));
            let client = |me: usize| {
                let (world, stop, pinned) = (lab.world.clone(), stop.clone(), lab.pinned());
                let work = async move {
                    let (key, mut last) = (me.to_string(), String::new());
                    pinned[0].put(&key, &last).await;
                    while !stop.get() {
                        let client = &pinned[world.below(2) as usize];
                        if world.permille(500) {
                            last = chance(&world);
                            client.put(&key, &last).await;
                        } else {
                            check(client, &key, &last).await;
                        }
                    }
                };
                tokio::task::spawn_local(work)
            };
            let clients: Vec<JoinHandle<()>> = (0..10).map(client).collect();
            lab.world.sleep_ms(3000).await;
            lab.world.net.partition(parts(&[&[2, 3, 4], &[0, 1]]));
            check(&second, "q", "q").await;
            second.put("q", "qq").await;
            check(&second, "q", "qq").await;
            lab.world.net.partition(parts(&[&[0, 1, 2, 3, 4]]));
            stop.set(true);
            join(clients).await;
            check(&second, "q", "qq").await;
        }
    });
}

/// Many clients, changing partitions.
#[test]
fn kv_13_many_clients_changing_partitions() {
    kv_unreliable("KV-13", 5, async |lab| {
        let stop = Rc::new(Cell::new(false));
        let partitioner = {
            let (world, stop) = (lab.world.clone(), stop.clone());
            async move {
                while !stop.get() {
                    world.net.partition(world.random_partition());
                    world.sleep_ms(world.below(200)).await;
                }
            }
        };
        let partitioner = lab.world.spawn(partitioner);
        let client = |me: usize| {
            let (world, stop) = (lab.world.clone(), stop.clone());
            let client = lab.shuffled();
            let work = async move {
                let (key, mut last) = (me.to_string(), String::new());
                client.put(&key, &last).await;
                let mut operations = 1;
                while !stop.get() {
                    operations += 1;
                    if world.permille(500) {
                        let more = chance(&world);
                        client.append(&key, &more).await;
                        last += &more;
                    } else {
                        check(&client, &key, &last).await;
                    }
                }
                operations
            };
            tokio::task::spawn_local(work)
        };
        let clients: Vec<JoinHandle<u64>> = (0..10).map(client).collect();
        lab.world.sleep_ms(20_000).await;
        stop.set(true);
        partitioner.await.expect("it ends");
        lab.world.net.heal();
        let mut operations = 0;
        for client in clients {
            operations += client.await.expect("a client of this row failed");
        }
        // The row has no such limit; but who never gets anything done cannot be wrong either.
        assert!(operations >= 50, "only {operations} operations in 20 s");
    });
}
