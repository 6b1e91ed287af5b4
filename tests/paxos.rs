//! The Paxos library: 2015 Lab 3A, one test per row PX-01..PX-19.

use quorate_learner::Fate;
use quorate_protocol::NodeId;
use quorate_sim::{Options, Peer, World, for_each_seed, run};

/// The labs' "wait for k": 30 polls, 10 ms doubling to 1280 ms, about 30.7 s in all.
async fn deciders(peers: &[Peer], seq: u64) -> usize {
    let mut value = None;
    let mut count = 0;
    for (i, peer) in peers.iter().enumerate() {
        let Some(decided) = peer.decided(seq).await else { continue };
        count += 1;
        let first = value.get_or_insert_with(|| decided.clone());
        assert!(*first == decided, "peer {i} disagrees about instance {seq}");
    }
    count
}

async fn wait_for(world: &World, peers: &[Peer], seq: u64, wanted: usize) {
    let mut pause = 10;
    let mut count = 0;
    for _ in 0..30 {
        count = deciders(peers, seq).await;
        if count >= wanted {
            return;
        }
        world.sleep_ms(pause).await;
        pause = (pause * 2).min(1280);
    }
    panic!("too few decided instance {seq}: {count} of {wanted}\n{}", world.trace.tail(80));
}

fn px(name: &str, servers: u32, test: impl AsyncFn(World, Vec<Peer>)) {
    for_each_seed(name, 3, |seed| {
        run(seed, Options { keep_trace: true, ..Options::servers(servers) }, async |world| {
            world.start_all(true);
            let peers: Vec<Peer> =
                world.servers().into_iter().map(|node| Peer::new(&world, node)).collect();
            test(world, peers).await;
        });
    });
}

#[test]
fn px_01_single_proposer() {
    px("PX-01", 3, async |world, peers| {
        peers[0].start(0, "hello");
        wait_for(&world, &peers, 0, 3).await;
    });
}
