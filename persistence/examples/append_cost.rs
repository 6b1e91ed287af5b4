//! What an append and its sync cost on the disk under a directory (default: the temporary one).
//!
//! `cargo run --release -p quorate-persistence --example append_cost -- [DIRECTORY]`

use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, Instant};

use quorate_persistence::{Journal, JournalError, JournalOptions, RealDisk, write_atomic};

const SEGMENT_BYTES: u64 = 64 << 20;

#[expect(clippy::disallowed_methods, reason = "measures this machine, not a simulated one")]
fn timed(work: impl FnOnce()) -> Duration {
    let start = Instant::now();
    work();
    start.elapsed()
}

fn show(what: &str, mut times: Vec<Duration>) {
    times.sort();
    let at = |part: usize| times[(times.len() - 1) * part / 100].as_micros();
    println!("{what:<44} p50 {:>6} us   p99 {:>6} us", at(50), at(99));
}

fn main() -> Result<(), JournalError> {
    let below = std::env::args().nth(1).map_or_else(std::env::temp_dir, PathBuf::from);
    let scratch = tempfile::tempdir_in(below).expect("a directory for the measurement");
    for (record_bytes, rounds) in [(4096, 5000), (65536, 1500), (1 << 20, 200)] {
        for zero_fill in [true, false] {
            let dir = scratch.path().join(format!("{record_bytes}-{zero_fill}"));
            let options = JournalOptions { segment_bytes: SEGMENT_BYTES, zero_fill, seed: 1 };
            let (mut journal, _) = Journal::open(Arc::new(RealDisk), &dir, options)?;
            let record = vec![0xa5; record_bytes];
            let mut commit = |slot| {
                journal.append(&record, slot).and_then(|()| journal.commit(b"hard")).map(drop)
            };
            commit(0)?;
            let mut times = Vec::new();
            for slot in 1..rounds {
                times.push(timed(|| commit(slot).expect("a commit")));
            }
            let kib = record_bytes / 1024;
            show(&format!("{kib} KiB, zero_fill {zero_fill}"), times);
        }
    }
    for mib in [1, 4, 16, 64] {
        let dir = scratch.path().join(format!("segments-{mib}"));
        let options = JournalOptions { segment_bytes: mib << 20, zero_fill: true, seed: 1 };
        let (mut journal, _) = Journal::open(Arc::new(RealDisk), &dir, options)?;
        let mut begin = |slot| {
            journal.roll();
            journal.append(b"record", slot)?;
            journal.commit(b"hard").map(drop)
        };
        let times = (1..10).map(|slot| timed(|| begin(slot).expect("a segment"))).collect();
        show(&format!("commit that begins a segment of {mib} MiB"), times);
    }
    let path = scratch.path().join("atomic");
    let write =
        |_| timed(|| write_atomic(&RealDisk, &path, &[7; 4096]).map(|_| ()).expect("a file"));
    show("atomic file of 4 KiB", (0..200).map(write).collect());
    Ok(())
}
