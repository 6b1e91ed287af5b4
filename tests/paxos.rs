//! The Paxos library: 2015 Lab 3A, one test per row PX-01..PX-19 of the acceptance specification.
//!
//! Peer 0 of the labs is node n1. Rows that share a cluster in the labs are tests of their own,
//! which first bring a cluster into the state that the row begins with.

use std::{cell::Cell, collections::BTreeMap, rc::Rc};

use bytes::Bytes;
use quorate_learner::Fate;
use quorate_protocol::NodeId;
use quorate_sim::{Options, Partition, Peer, World, deciders, for_each_seed, run, wait_for};

/// A row: all its peers are up, on a reliable network.
fn px(row: &str, servers: u32, test: impl AsyncFn(World, Vec<Peer>)) {
    for_each_seed(row, 3, |seed| {
        let options = Options { keep_trace: true, ..Options::servers(servers) };
        run(seed, options, async |world| {
            world.start_all(true);
            let peers: Vec<Peer> =
                world.servers().into_iter().map(|node| Peer::new(&world, node)).collect();
            test(world, peers).await;
        });
    });
}

/// Peer `i` of the labs.
fn node(i: usize) -> NodeId {
    NodeId(i as u32 + 1)
}

/// The labs' way to write a partition.
fn parts(sets: &[&[usize]]) -> Partition {
    sets.iter().map(|set| set.iter().map(|i| node(*i)).collect()).collect()
}

fn all_unreliable(world: &World) {
    world.net.set_unreliable(world.servers());
}

fn all_reliable(world: &World) {
    world.net.set_unreliable([]);
}

fn number(n: u64) -> Bytes {
    n.to_string().into()
}

/// What all who have decided have decided.
async fn value_of(peers: &[Peer], seq: u64) -> Bytes {
    for peer in peers {
        if let Some(value) = peer.decided(seq).await {
            return value;
        }
    }
    panic!("nobody has decided instance {seq}");
}

/// Single proposer: peer 0 starts 0.
#[test]
fn px_01_single_proposer() {
    px("PX-01", 3, async |_, peers| {
        peers[0].start(0, "hello");
        wait_for(&peers, 0, 3).await;
        assert_eq!(value_of(&peers, 0).await, "hello");
    });
}

/// Many proposers, same value: all 3 start instance 1.
#[test]
fn px_02_many_proposers_same_value() {
    px("PX-02", 3, async |_, peers| {
        for peer in &peers {
            peer.start(1, number(77));
        }
        wait_for(&peers, 1, 3).await;
        assert_eq!(value_of(&peers, 1).await, number(77));
    });
}

/// Many proposers, different values: one of the three is decided.
#[test]
fn px_03_many_proposers_different_values() {
    px("PX-03", 3, async |_, peers| {
        for (i, peer) in peers.iter().enumerate() {
            peer.start(2, number(100 + i as u64));
        }
        wait_for(&peers, 2, 3).await;
        let value = value_of(&peers, 2).await;
        assert!((100..103).any(|n| value == number(n)), "{value:?} was never proposed");
    });
}

/// Out-of-order instances: 7 does not wait for what is below it.
#[test]
fn px_04_out_of_order_instances() {
    px("PX-04", 3, async |_, peers| {
        peers[0].start(7, number(700));
        peers[0].start(6, number(600));
        peers[1].start(5, number(500));
        wait_for(&peers, 7, 3).await;
        peers[0].start(4, number(400));
        peers[1].start(3, number(300));
        for seq in [6, 5, 4, 3] {
            wait_for(&peers, seq, 3).await;
            assert_eq!(value_of(&peers, seq).await, number(seq * 100));
        }
        assert_eq!(peers[0].max().await, 7);
    });
}

/// Deaf proposer: who cannot be told learns by proposing, and only then.
#[test]
fn px_05_deaf_proposer() {
    px("PX-05", 5, async |world, peers| {
        peers[0].start(0, "hello");
        wait_for(&peers, 0, 5).await;
        world.net.set_deaf([node(0), node(4)]);

        peers[1].start(1, "goodbye");
        wait_for(&peers, 1, 3).await;
        world.sleep_ms(1000).await;
        assert_eq!(deciders(&peers, 1).await, 3, "a deaf peer heard\n{}", world.trace.tail(60));

        peers[0].start(1, "xxx");
        wait_for(&peers, 1, 4).await;
        world.sleep_ms(1000).await;
        assert_eq!(deciders(&peers, 1).await, 4, "a deaf peer heard\n{}", world.trace.tail(60));
        assert_eq!(peers[4].decided(1).await, None);

        peers[4].start(1, "yyy");
        wait_for(&peers, 1, 5).await;
        assert_eq!(value_of(&peers, 1).await, "goodbye");
    });
}

/// Forgetting: min() follows the slowest done() of all, and holes do not hold it back.
#[test]
fn px_06_forgetting() {
    px("PX-06", 6, async |world, peers| {
        for peer in &peers {
            assert!(peer.min().await == 0, "min() at first");
        }
        for (peer, seq) in [(0, 0), (1, 1), (2, 2), (0, 6), (1, 7)] {
            peers[peer].start(seq, number(seq * 11));
        }
        for seq in [0, 1] {
            wait_for(&peers, seq, 6).await;
            for peer in &peers {
                assert_eq!(peer.min().await, 0, "nobody is done yet");
            }
        }
        for peer in &peers {
            peer.done(0);
        }
        for peer in &peers[1..] {
            peer.done(1);
        }
        for (i, peer) in peers.iter().enumerate() {
            peer.start(8 + i as u64, "xx");
        }
        let mut mins = vec![];
        for _ in 0..12 {
            mins.clear();
            for peer in &peers {
                mins.push(peer.min().await);
            }
            if mins == [1; 6] {
                return;
            }
            world.sleep_ms(1000).await;
        }
        panic!("min() is {mins:?}, not 1 everywhere\n{}", world.trace.tail(60));
    });
}

/// Lots of forgetting: done(k) while lower instances are undecided gives them up.
#[test]
fn px_07_lots_of_forgetting() {
    const INSTANCES: u64 = 20;
    px("PX-07", 3, async |world, peers| {
        all_unreliable(&world);
        let stop = Rc::new(Cell::new(false));
        let starter = {
            let (world, peers) = (world.clone(), peers.clone());
            async move {
                let mut order: Vec<u64> = (0..INSTANCES).collect();
                for i in (1..order.len()).rev() {
                    order.swap(i, world.below(i as u64 + 1) as usize);
                }
                for seq in order {
                    peers[world.below(3) as usize].start(seq, number(world.below(1 << 31)));
                    tokio::task::yield_now().await;
                }
            }
        };
        // Whatever was ever seen to be decided.
        let seen: Rc<Cell<BTreeMap<u64, Bytes>>> = Rc::default();
        let check = {
            let seen = seen.clone();
            move |seq: u64, value: Bytes| {
                let mut all = seen.take();
                let first = all.entry(seq).or_insert_with(|| value.clone()).clone();
                seen.set(all);
                assert_eq!(first, value, "instance {seq} was decided twice");
            }
        };
        let forgetter = {
            let (world, peers, stop) = (world.clone(), peers.clone(), stop.clone());
            let check = check.clone();
            async move {
                while !stop.get() {
                    let seq = world.below(INSTANCES);
                    let peer = &peers[world.below(3) as usize];
                    if seq >= peer.min().await
                        && let Some(value) = peer.decided(seq).await
                    {
                        check(seq, value);
                        peer.done(seq);
                    }
                    // As tight as virtual time allows: it passes only when everybody waits.
                    world.sleep_ms(1).await;
                }
            }
        };
        let (starter, forgetter) = (world.spawn(starter), world.spawn(forgetter));
        world.sleep_ms(5000).await;
        stop.set(true);
        starter.await.expect("the starter ends");
        forgetter.await.expect("the forgetter ends");
        all_reliable(&world);
        world.sleep_ms(2000).await;
        for peer in &peers {
            for seq in 0..INSTANCES {
                if let Fate::Decided(value) = peer.status(seq).await {
                    check(seq, value.expect("no holes are filled").command);
                }
            }
        }
    });
}

/// Paxos Max() after Done()s: forgetting does not lower max().
#[test]
fn px_09_max_after_dones() {
    px("PX-09", 3, async |world, peers| {
        for seq in 0..=10 {
            peers[0].start(seq, number(seq));
            wait_for(&peers, seq, 3).await;
        }
        for peer in &peers {
            peer.done(10);
        }
        for peer in &peers {
            peer.start(10, number(10));
        }
        world.sleep_ms(2000).await;
        for peer in &peers {
            assert_eq!(peer.max().await, 10);
        }
    });
}

/// Five agreements, one after the other, started by peer 0; then 2 s of idleness.
async fn five_by_one(world: &World, peers: &[Peer]) -> u64 {
    for seq in 0..5 {
        peers[0].start(seq, "x");
        wait_for(peers, seq, 3).await;
    }
    world.sleep_ms(2000).await;
    world.net.received()
}

/// RPC counts aren't too high (a): 9 requests per agreement, and none while idle.
#[test]
fn px_10a_rpc_counts_single_proposer() {
    px("PX-10a", 3, async |world, peers| {
        let total = five_by_one(&world, &peers).await;
        assert!(total <= 45, "{total} requests for 5 agreements\n{}", world.trace.tail(80));
    });
}

/// RPC counts aren't too high (b): 45 requests per agreement when all start it at once.
#[test]
fn px_10b_rpc_counts_duelling_proposers() {
    px("PX-10b", 3, async |world, peers| {
        let before = five_by_one(&world, &peers).await;
        for round in 0..5 {
            let seq = 5 + round;
            for (i, peer) in peers.iter().enumerate() {
                peer.start(seq, number(round * 10 + i as u64));
            }
            wait_for(&peers, seq, 3).await;
        }
        world.sleep_ms(2000).await;
        let total = world.net.received() - before;
        assert!(total <= 225, "{total} requests for 5 agreements\n{}", world.trace.tail(80));
    });
}

/// 49 instances started at all peers, each when the one `window` before it is decided.
async fn many_instances(world: &World, peers: &[Peer], window: u64) {
    const INSTANCES: u64 = 50;
    for peer in peers {
        peer.start(0, number(0));
    }
    let begin = tokio::time::Instant::now();
    let in_time = || {
        // The labs' limit for a whole package.
        assert!(begin.elapsed().as_secs() < 600, "no end\n{}", world.trace.tail(60));
    };
    for seq in 1..INSTANCES {
        while seq >= window && deciders(peers, seq - window).await < peers.len() {
            in_time();
            world.sleep_ms(20).await;
        }
        for (i, peer) in peers.iter().enumerate() {
            peer.start(seq, number(seq * 10 + i as u64));
        }
    }
    for seq in 1..INSTANCES {
        while deciders(peers, seq).await < peers.len() {
            in_time();
            world.sleep_ms(100).await;
        }
        let value = value_of(peers, seq).await;
        assert!((0..3).any(|i| value == number(seq * 10 + i)), "{value:?} for instance {seq}");
    }
}

/// Many instances: five at a time, started everywhere with different values.
#[test]
fn px_11_many_instances() {
    px("PX-11", 3, async |world, peers| many_instances(&world, &peers, 5).await);
}

/// Minority proposal ignored: who comes late adopts what a majority has decided.
#[test]
fn px_12_minority_proposal_ignored() {
    for_each_seed("PX-12", 3, |seed| {
        let options = Options { keep_trace: true, ..Options::servers(5) };
        run(seed, options, async |world| {
            let peer = |i| {
                world.start(node(i), true);
                Peer::new(&world, node(i))
            };
            let mut peers = vec![peer(1), peer(2), peer(3)];
            peers[0].start(1, number(111));
            // A majority of 5: all of those that are up.
            wait_for(&peers, 1, 3).await;
            peers.push(peer(0));
            peers[3].start(1, number(222));
            wait_for(&peers, 1, 4).await;
            assert_eq!(deciders(&peers, 1).await, 4);
            assert_eq!(value_of(&peers, 1).await, number(111));
        });
    });
}

/// Many instances, unreliable RPC: three at a time.
#[test]
fn px_13_many_instances_unreliable() {
    px("PX-13", 3, async |world, peers| {
        all_unreliable(&world);
        many_instances(&world, &peers, 3).await;
    });
}

/// {0,2} {1,3} {4}: peer 1 starts instance 0, and nobody can decide.
async fn partitioned(world: &World, peers: &[Peer]) {
    world.net.partition(parts(&[&[0, 2], &[1, 3], &[4]]));
    peers[1].start(0, number(111));
    world.sleep_ms(3000).await;
    assert_eq!(deciders(peers, 0).await, 0, "decided by a minority\n{}", world.trace.tail(60));
}

/// {0} {1,2,3} {4}: there is a majority now.
async fn majority(world: &World, peers: &[Peer]) {
    world.net.partition(parts(&[&[0], &[1, 2, 3], &[4]]));
    world.sleep_ms(2000).await;
    wait_for(peers, 0, 3).await;
}

/// No decision if partitioned.
#[test]
fn px_14_no_decision_if_partitioned() {
    px("PX-14", 5, async |world, peers| partitioned(&world, &peers).await);
}

/// Decision in majority partition: what was started goes on by itself.
#[test]
fn px_15_decision_in_majority_partition() {
    px("PX-15", 5, async |world, peers| {
        partitioned(&world, &peers).await;
        majority(&world, &peers).await;
        assert_eq!(value_of(&peers, 0).await, number(111));
    });
}

/// All agree after full heal: also those who wanted something else while cut off.
#[test]
fn px_16_all_agree_after_full_heal() {
    px("PX-16", 5, async |world, peers| {
        partitioned(&world, &peers).await;
        majority(&world, &peers).await;
        peers[0].start(0, number(1000));
        peers[4].start(0, number(1001));
        world.net.partition(parts(&[&[0, 1, 2, 3, 4]]));
        wait_for(&peers, 0, 5).await;
        assert_eq!(value_of(&peers, 0).await, number(111));
    });
}

/// The state in which the labs' cluster is after PX-16.
async fn healed(world: &World, peers: &[Peer]) {
    partitioned(world, peers).await;
    majority(world, peers).await;
    peers[0].start(0, number(1000));
    peers[4].start(0, number(1001));
    world.net.partition(parts(&[&[0, 1, 2, 3, 4]]));
    wait_for(peers, 0, 5).await;
}

/// One peer switches partitions: peer 2 carries what is decided to the other side.
#[test]
fn px_17_one_peer_switches_partitions() {
    px("PX-17", 5, async |world, peers| {
        healed(&world, &peers).await;
        for seq in 1..=20 {
            world.net.partition(parts(&[&[0, 1, 2], &[3, 4]]));
            peers[0].start(seq, number(seq * 10));
            peers[3].start(seq, number(seq * 10 + 1));
            wait_for(&peers, seq, 3).await;
            assert_eq!(deciders(&peers, seq).await, 3, "too many\n{}", world.trace.tail(60));
            world.net.partition(parts(&[&[0, 1], &[2, 3, 4]]));
            wait_for(&peers, seq, 5).await;
            assert_eq!(value_of(&peers, seq).await, number(seq * 10));
        }
    });
}

/// One peer switches partitions, unreliable.
#[test]
fn px_18_one_peer_switches_partitions_unreliable() {
    px("PX-18", 5, async |world, peers| {
        healed(&world, &peers).await;
        for seq in 1..=20 {
            all_unreliable(&world);
            world.net.partition(parts(&[&[0, 1, 2], &[3, 4]]));
            for (i, peer) in peers.iter().enumerate() {
                peer.start(seq, number(seq * 10 + i as u64));
            }
            wait_for(&peers, seq, 3).await;
            assert_eq!(deciders(&peers, seq).await, 3, "too many\n{}", world.trace.tail(60));
            world.net.partition(parts(&[&[0, 1], &[2, 3, 4]]));
            all_reliable(&world);
            wait_for(&peers, seq, 5).await;
            let value = value_of(&peers, seq).await;
            assert!((0..3).any(|i| value == number(seq * 10 + i)), "{value:?} from a minority");
        }
    });
}

/// Many requests, changing partitions.
#[test]
fn px_19_many_requests_changing_partitions() {
    px("PX-19", 5, async |world, peers| {
        all_unreliable(&world);
        let stop = Rc::new(Cell::new(false));
        let started = Rc::new(Cell::new(0));
        let partitioner = {
            let (world, stop) = (world.clone(), stop.clone());
            async move {
                while !stop.get() {
                    world.net.partition(world.random_partition());
                    world.sleep_ms(world.below(200)).await;
                }
            }
        };
        let starter = {
            let (world, peers, stop) = (world.clone(), peers.clone(), stop.clone());
            let started = started.clone();
            async move {
                while !stop.get() {
                    let mut short = 0;
                    for seq in 0..started.get() {
                        short += u64::from(deciders(&peers, seq).await < 5);
                    }
                    if short < 10 {
                        for peer in &peers {
                            peer.start(started.get(), number(world.below(10)));
                        }
                        started.set(started.get() + 1);
                    }
                    world.sleep_ms(world.below(300)).await;
                }
            }
        };
        let reader = {
            let (world, peers, stop) = (world.clone(), peers.clone(), stop.clone());
            let started = started.clone();
            async move {
                while !stop.get() {
                    for seq in 0..started.get() {
                        deciders(&peers, seq).await;
                    }
                    world.sleep_ms(world.below(300)).await;
                }
            }
        };
        let tasks = [world.spawn(partitioner), world.spawn(starter), world.spawn(reader)];
        world.sleep_ms(20_000).await;
        stop.set(true);
        for task in tasks {
            task.await.expect("it ends, and has seen no conflict");
        }
        all_reliable(&world);
        world.net.heal();
        world.sleep_ms(5000).await;
        assert!(started.get() > 10, "only {} instances were started", started.get());
        for seq in 0..started.get() {
            wait_for(&peers, seq, 3).await;
        }
    });
}
