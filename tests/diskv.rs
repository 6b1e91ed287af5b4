//! 2015 Lab 5, on real processes: killed with SIGKILL, some with their directories.

mod common;

use common::{Cluster, pause, wait_until};
use quorate_node::config::Engine;

fn one_server_loses_disk(engine: Engine) {
    let mut cluster = Cluster::started_on(engine, 3);
    let append = |cluster: &Cluster, i: usize, text: &str| {
        let mut connection = cluster.connect(i);
        let _: u64 = redis::cmd("APPEND").arg("k1").arg(text).query(&mut connection).unwrap();
    };
    let mut expected = String::new();
    for turn in 0..3 {
        let via = (turn + 1) % 3;
        append(&cluster, via, "a");
        expected.push('a');
        cluster.wipe(turn);
        pause(1000);
        append(&cluster, via, "b");
        expected.push('b');
        cluster.start(turn);
        append(&cluster, via, "c");
        expected.push('c');
        let begun = common::now();
        wait_until("it is a member again", || {
            let mut connection = cluster.connect(turn);
            let got: redis::RedisResult<String> =
                redis::cmd("GET").arg("k1").query(&mut connection);
            got.ok().filter(|got| *got == expected)
        });
        println!("{engine:?} turn {turn}: {:?}", begun.elapsed());
    }
}

#[test]
fn raft() {
    one_server_loses_disk(Engine::Raft);
}
