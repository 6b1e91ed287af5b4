//! What an idle group says (nothing), and what a put costs when nothing else goes on.

use std::collections::BTreeMap;

use quorate_protocol::NodeId;
use quorate_rsm::{Message as ToRsm, Status};
use quorate_sim::{Client, Options, World, for_each_seed, run};
use quorate_stage::Outlet;
use tokio::sync::oneshot;

/// What all disks have done: every operation counts, also reads.
fn disk_operations(world: &World) -> u64 {
    world.servers().iter().map(|node| world.disk(*node).counters().operations).sum()
}

async fn status(world: &World, node: NodeId) -> Status {
    let (answer, answered) = oneshot::channel();
    let answer = std::sync::Mutex::new(Some(answer));
    let reply = Outlet::from_fn(move |_, status| {
        if let Some(answer) = answer.lock().ok().and_then(|mut answer| answer.take()) {
            let _ = answer.send(status);
        }
    });
    let node = world.node(node);
    let rsm = node.replica().expect("a replica runs").group.rsm.clone();
    rsm.send(rsm.name(), ToRsm::AskStatus(reply));
    answered.await.expect("an rsm answers")
}

/// An idle group sends nothing and writes nothing for 10 s, once what came before is settled:
/// also after crashes, losses and partitions.
#[test]
fn an_idle_group_is_silent() {
    for_each_seed("quiet/idle", 6, |seed| {
        let options = Options { log_bytes_max: 4096, keep_trace: true, ..Options::servers(5) };
        run(seed, options, async |world| {
            world.start_all(false);
            if seed % 2 == 0 {
                world.net.set_unreliable(world.servers());
            }
            let client = |me: u64| {
                let (world, client) = (world.clone(), Client::new(&world, world.shuffled()));
                tokio::task::spawn_local(async move {
                    for n in 0..100 {
                        client.append("k", &format!("x {me} {n} y")).await;
                        client.get("k").await;
                        world.sleep_ms(world.below(10)).await;
                    }
                })
            };
            let clients: Vec<_> = (0..5).map(client).collect();
            for _ in 0..3 {
                world.net.partition(world.random_partition());
                world.sleep_ms(world.below(300)).await;
                world.net.heal();
                let victim = world.shuffled()[0];
                world.kill(victim);
                world.sleep_ms(world.below(300)).await;
                world.start(victim, false);
            }
            for client in clients {
                client.await.expect("every client ends");
            }
            // Settled: everybody knows what is chosen, and what may be forgotten.
            world.sleep_ms(10_000).await;
            let (sent, written) = (world.net.sent(), disk_operations(&world));
            world.sleep_ms(10_000).await;
            let tail = world.trace.tail(40);
            assert_eq!(world.net.sent() - sent, 0, "an idle group speaks\n{tail}");
            assert_eq!(disk_operations(&world) - written, 0, "an idle group writes\n{tail}");
            let first = status(&world, NodeId(1)).await;
            for node in world.servers() {
                let status = status(&world, node).await;
                assert_eq!(status.applied, first.applied, "{node} is behind, and nobody says so");
                assert_eq!(status.waiting, 0, "{node} has somebody waiting");
            }
        });
    });
}

/// One client, asking the server that leads: per put one Accept to each other replica, one answer
/// from each, one sync on each.
#[test]
fn a_put_costs_one_exchange_and_one_sync_per_replica() {
    const PUTS: u64 = 200;
    for servers in [3, 5] {
        for_each_seed("quiet/put", 3, |seed| {
            // No checkpoint falls into the count.
            let log_bytes_max = 1 << 30;
            let options = Options { log_bytes_max, keep_trace: true, ..Options::servers(servers) };
            run(seed, options, async |world| {
                world.start_all(false);
                let client = Client::new(&world, vec![NodeId(1)]);
                client.put("k", "first").await;
                assert_eq!(status(&world, NodeId(1)).await.leader, Some(1));
                world.sleep_ms(2000).await;

                let syncs = |node: &NodeId| world.node(*node).owners.syncs();
                let nodes = world.servers();
                let before: Vec<u64> = nodes.iter().map(syncs).collect();
                let kinds = world.net.sent_by_kind();
                for n in 0..PUTS {
                    client.put("k", n.to_string()).await;
                }
                world.sleep_ms(2000).await;

                let now = world.net.sent_by_kind();
                let mut cost: BTreeMap<&str, u64> = now
                    .into_iter()
                    .map(|(kind, count)| (kind, count - kinds.get(kind).copied().unwrap_or(0)))
                    .filter(|(_, count)| *count > 0)
                    .collect();
                let others = u64::from(servers) - 1;
                let tail = world.trace.tail(60);
                // Between client and server.
                assert_eq!(cost.remove("Serve"), Some(PUTS));
                assert_eq!(cost.remove("Served"), Some(PUTS));
                assert_eq!(cost.remove("Accept"), Some(PUTS * others), "{cost:?}\n{tail}");
                assert_eq!(cost.remove("Answer"), Some(PUTS * others), "{cost:?}\n{tail}");
                // What the last put's successor would have carried goes by itself, once.
                assert_eq!(cost.remove("Announce"), Some(others), "{cost:?}\n{tail}");
                assert_eq!(cost.remove("Notice"), Some(others), "{cost:?}\n{tail}");
                assert!(cost.is_empty(), "{cost:?}\n{tail}");
                for (node, before) in nodes.iter().zip(before) {
                    assert_eq!(syncs(node) - before, PUTS, "{node}\n{tail}");
                }
            });
        });
    }
}
