//! The speed rows of the labs (2026 Lab 4B and 4C) on real processes, real disks and real sockets:
//! one client, three servers, 1000 puts one after the other, each naming the version it replaces.
//! How fast they are is printed, and compared nowhere: the machine may be busy. (On virtual time
//! the bounds of the labs are asserted in tests/kvraft1.rs.)

mod common;

use std::time::Duration;

use common::{Cluster, ENGINES, now};
use quorate_node::config::Engine;

/// As many as in the labs.
const PUTS: u64 = 1000;

/// The mean and the longest of the puts, all of which must succeed.
fn puts(engine: Engine, log_bytes_max: u64) -> (Duration, Duration) {
    let mut cluster = Cluster::of(engine, 3);
    for config in &mut cluster.configs {
        config.log_bytes_max = log_bytes_max;
    }
    cluster.start_all();
    let mut client = cluster.connect(0);
    let absent: Option<String> = redis::cmd("GET").arg("k").query(&mut client).unwrap();
    assert_eq!(absent, None);
    let (begin, mut worst) = (now(), Duration::ZERO);
    for version in 0..PUTS {
        let before = begin.elapsed();
        let put: redis::RedisResult<u64> =
            redis::cmd("VPUT").arg("k").arg(version.to_string()).arg(version).query(&mut client);
        assert_eq!(put.unwrap(), version + 1, "put {version}\n{}", cluster.describe());
        worst = worst.max(begin.elapsed() - before);
    }
    let mean = begin.elapsed() / PUTS as u32;
    let got: (String, u64) = redis::cmd("VGET").arg("k").query(&mut client).unwrap();
    assert_eq!(got, ((PUTS - 1).to_string(), PUTS), "the value and version of the last put");
    (mean, worst)
}

fn speed(row: &str, log_bytes_max: u64) {
    for engine in ENGINES {
        let (mean, worst) = puts(*engine, log_bytes_max);
        println!(
            "{row} on {engine}: 1000 puts, mean {:.3} ms, longest {:.1} ms",
            mean.as_secs_f64() * 1e3,
            worst.as_secs_f64() * 1e3
        );
    }
}

/// Test: speed.
#[test]
fn test_speed_4b() {
    // More than is ever written here: no snapshot.
    speed("TestSpeed4B", 1 << 40);
}

/// Test: snapshots and speed.
#[test]
fn test_speed_4c() {
    speed("TestSpeed4C", 1024);
}
