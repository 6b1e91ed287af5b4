//! The sharded store: 6.824 2015, Lab 4B (rows SK-01 to SK-05), one test per row, with every engine.
//!
//! The labs' shard of a key is that of its first byte; here it is that of its hash slot, and a row that
//! wants a key of a shard takes one with a fitting tag.

mod shards;

use std::time::Duration;

use quorate_sim::Recorded;
use shards::{Lab, SHARDS, key, row, value};
use tokio::time::timeout;

/// So small that checkpoints are made within a row.
const LOG_BYTES_MAX: u64 = 8192;

/// Ten random keys and their values.
async fn ten_keys(lab: &Lab, clerk: &Recorded) -> Vec<(String, String)> {
    let mut pairs = vec![];
    for _ in 0..SHARDS {
        let (key, value) = (lab.world.below(1 << 40).to_string(), lab.world.below(1 << 40));
        clerk.put(&key, &value.to_string()).await;
        pairs.push((key, value.to_string()));
    }
    pairs
}

/// Each has the value that it should have, and gets another one.
async fn get_and_put(lab: &Lab, clerk: &Recorded, pairs: &mut [(String, String)]) {
    for (key, expected) in pairs {
        assert_eq!(value(clerk, key).await, *expected, "{key}");
        *expected = lab.world.below(1 << 40).to_string();
        clerk.put(key, expected).await;
    }
}

/// SK-01: Basic Join/Leave.
#[test]
fn sk_01_basic_join_leave() {
    row("SK-01", LOG_BYTES_MAX, async |lab| {
        lab.join(&[100]).await;
        let clerk = lab.clerk();
        clerk.put("a", "x").await;
        clerk.append("a", "b").await;
        assert_eq!(value(&clerk, "a").await, "xb");
        let mut pairs = ten_keys(&lab, &clerk).await;
        for group in [101, 102] {
            lab.join(&[group]).await;
            lab.world.sleep_ms(1000).await;
            get_and_put(&lab, &clerk, &mut pairs).await;
        }
        for group in [100, 101] {
            lab.leave(&[group]).await;
            lab.world.sleep_ms(1000).await;
            get_and_put(&lab, &clerk, &mut pairs).await;
        }
    });
}

/// SK-02: Shards really move. With the servers of group 100 deaf, four or five of ten shards are
/// answered: the half that has moved.
#[test]
fn sk_02_shards_really_move() {
    row("SK-02", LOG_BYTES_MAX, async |lab| {
        lab.join(&[100]).await;
        let clerk = lab.clerk();
        let keys: Vec<String> = (0..SHARDS).map(|shard| key(shard, "")).collect();
        for key in &keys {
            clerk.put(key, key).await;
        }
        lab.join(&[101]).await;
        lab.world.sleep_ms(5000).await;
        for key in &keys {
            assert_eq!(value(&clerk, key).await, *key);
        }
        lab.world.net.set_deaf(lab.servers(100));
        let gets: Vec<_> = keys
            .into_iter()
            .map(|key| {
                let clerk = lab.clerk();
                lab.world.spawn(async move {
                    let got = timeout(Duration::from_secs(10), value(&clerk, &key)).await;
                    got.ok().inspect(|value| assert_eq!(*value, key))
                })
            })
            .collect();
        let mut answered = 0;
        for get in gets {
            answered += usize::from(get.await.expect("a get failed").is_some());
        }
        assert!(answered > 3 && answered < 6, "{answered} of 10 shards are answered");
        assert_eq!(answered, 5, "the ideal");
    });
}

/// SK-03: Reconfiguration with some dead replicas: 2 s after a Leave, every shard is agreed on at its
/// new owner, which has two of three replicas.
#[test]
fn sk_03_reconfiguration_with_some_dead_replicas() {
    row("SK-03", LOG_BYTES_MAX, async |lab| {
        lab.join(&[100]).await;
        let clerk = lab.clerk();
        clerk.put("a", "b").await;
        assert_eq!(value(&clerk, "a").await, "b");
        for group in [100, 101, 102] {
            let servers = lab.servers(group);
            lab.world.kill(servers[lab.world.below(3) as usize]);
        }
        let mut pairs = ten_keys(&lab, &clerk).await;
        for group in [101, 102] {
            lab.join(&[group]).await;
            lab.world.sleep_ms(1000).await;
            get_and_put(&lab, &clerk, &mut pairs).await;
        }
        for group in [100, 101] {
            lab.leave(&[group]).await;
            lab.world.sleep_ms(2000).await;
            lab.stop(group);
            get_and_put(&lab, &clerk, &mut pairs).await;
        }
    });
}

/// Eleven clients, each with a key of its own, of which two share a shard; each appends, gets, and has
/// a shard moved somewhere, three times.
async fn concurrent(lab: &Lab) {
    lab.join(&[100, 101, 102]).await;
    let clients: Vec<_> = (0..11)
        .map(|me: u16| {
            let lab = lab.clone();
            lab.world.clone().spawn(async move {
                let (clerk, key) = (lab.clerk(), key(me % SHARDS, &me.to_string()));
                let mut last = lab.world.below(1 << 40).to_string();
                clerk.put(&key, &last).await;
                for _ in 0..3 {
                    let more = lab.world.below(1 << 40).to_string();
                    clerk.append(&key, &more).await;
                    last += &more;
                    assert_eq!(value(&clerk, &key).await, last);
                    let group = 100 + lab.world.below(3) as u32;
                    lab.move_to(lab.world.below(SHARDS.into()) as u16, group).await;
                    lab.world.sleep_ms(lab.world.below(30)).await;
                }
                assert_eq!(value(&clerk, &key).await, last);
            })
        })
        .collect();
    for client in clients {
        let ended = timeout(Duration::from_secs(60), client).await;
        ended.expect("within a minute").expect("a client failed");
    }
}

/// SK-04: Concurrent Put/Get/Move.
#[test]
fn sk_04_concurrent_put_get_move() {
    row("SK-04", LOG_BYTES_MAX, async |lab| concurrent(&lab).await);
}

/// SK-05: Concurrent Put/Get/Move (unreliable).
#[test]
fn sk_05_concurrent_put_get_move_unreliable() {
    row("SK-05", LOG_BYTES_MAX, async |lab| {
        let masters = lab.servers(0);
        let servers = lab.world.servers().into_iter().filter(|server| !masters.contains(server));
        lab.world.net.set_unreliable(servers);
        concurrent(&lab).await;
    });
}
