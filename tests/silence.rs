//! What a cluster does when nobody wants anything of it, and what one put costs. Counted by the
//! nodes' own metrics.

mod common;

use std::time::Duration;

use common::{Cluster, http_get, metric, now, pause, wait_until};
use quorate_node::config::Engine;

/// Parcels sent, syncs done, bytes written, files replaced, by all nodes together.
fn counted(cluster: &Cluster) -> (f64, f64, f64, f64) {
    let mut sum = (0.0, 0.0, 0.0, 0.0);
    for node in 0..cluster.configs.len() {
        let text = wait_until("metrics", || http_get(cluster.debug(node), "/metrics"));
        sum.0 += metric(&text, "quorate_cluster_sent_parcels_total", "");
        sum.1 += metric(&text, "quorate_journal_syncs_total", "");
        sum.2 += metric(&text, "quorate_journal_bytes_total", "");
        sum.3 += metric(&text, "quorate_actor_messages_handled_total", "files\",kind=\"Save\"");
    }
    sum
}

/// Messages of a kind that actors with this role have handled, on all nodes together.
fn handled(cluster: &Cluster, role: &str, kind: &str) -> f64 {
    let of = |node: usize| {
        let text = wait_until("metrics", || http_get(cluster.debug(node), "/metrics"));
        let label = format!("{role}\",kind=\"{kind}\"");
        metric(&text, "quorate_actor_messages_handled_total", &label)
    };
    (0..cluster.configs.len()).map(of).sum()
}

/// Waits until nothing is counted for longer than an unacknowledged message waits to be repeated.
fn settle(cluster: &Cluster) {
    wait_until("silence", || {
        let before = counted(cluster);
        pause(2500);
        (counted(cluster) == before).then_some(())
    });
}

#[test]
fn an_idle_group_sends_nothing_and_writes_nothing() {
    let cluster = Cluster::started(3);
    let mut connection = cluster.connect(0);
    for i in 0..100 {
        redis::cmd("SET").arg(i).arg("v").exec(&mut connection).unwrap();
    }
    settle(&cluster);
    let before = counted(&cluster);
    assert!(before.0 > 0.0 && before.1 > 0.0, "something was counted: {before:?}");
    pause(Duration::from_secs(10).as_millis() as u64);
    assert_eq!(counted(&cluster), before, "parcels, syncs, bytes in 10 s of idleness");
    // And it wakes up at once.
    redis::cmd("SET").arg("after").arg("v").exec(&mut connection).unwrap();
}

/// The leader of Raft is heard ten times a second; nothing else is done.
#[test]
fn an_idle_group_of_raft_sends_heartbeats_and_writes_nothing() {
    let cluster = Cluster::started_on(Engine::Raft, 3);
    let mut connection = cluster.connect(0);
    for i in 0..100 {
        redis::cmd("SET").arg(i).arg("v").exec(&mut connection).unwrap();
    }
    let quiet = |counted: (f64, f64, f64, f64)| (counted.1, counted.2, counted.3);
    wait_until("no more writing", || {
        let before = quiet(counted(&cluster));
        pause(1000);
        (quiet(counted(&cluster)) == before).then_some(())
    });
    let (before, begin) = (counted(&cluster), now());
    pause(10_000);
    let after = counted(&cluster);
    let seconds = begin.elapsed().as_secs_f64();
    assert_eq!(quiet(after), quiet(before), "syncs, bytes, files in 10 s of idleness");
    let parcels = after.0 - before.0;
    println!("{parcels} parcels in {seconds:.1} s of idleness");
    // To each of two followers and back, ten times a second, and one round more.
    assert!(parcels > 0.0 && parcels <= 40.0 * (seconds + 0.1), "{parcels} parcels");
}

#[test]
fn a_put_costs_one_message_each_way_and_one_sync_per_replica() {
    const PUTS: u32 = 500;
    let cluster = Cluster::started(3);
    let mut connection = cluster.connect(0);
    redis::cmd("SET").arg("k").arg("v").exec(&mut connection).unwrap();
    let leader = cluster.leader();
    let mut connection = cluster.connect(leader);
    settle(&cluster);
    let announced = handled(&cluster, "learner", "Announce");
    let before = counted(&cluster);
    for i in 0..PUTS {
        redis::cmd("SET").arg("k").arg(i).exec(&mut connection).unwrap();
    }
    settle(&cluster);
    let after = counted(&cluster);
    let (parcels, syncs) = (after.0 - before.0, after.1 - before.1);
    let announced = handled(&cluster, "learner", "Announce") - announced;
    println!("{PUTS} puts: {parcels} parcels, of {announced} announcements; {syncs} syncs");
    // One Accept and one Accepted for each of the two others. The end, and a pause of the machine
    // between two puts, cost an announcement and its acknowledgement for each.
    let puts = f64::from(PUTS);
    assert!(parcels >= 4.0 * puts, "{parcels} parcels for {PUTS} puts");
    assert!(parcels <= 4.1 * puts + 2.0 * announced, "{parcels} parcels for {PUTS} puts");
    // One sync per put and replica. A replica that falls behind takes two puts with one sync; a
    // majority cannot, since the next put is sent only when it has the last one on disk.
    assert!((2.0 * puts..=3.0 * puts + 3.0).contains(&syncs), "{syncs} syncs for {PUTS} puts");
}
