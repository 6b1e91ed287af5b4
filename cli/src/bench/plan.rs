//! What a bench does: options, keys, values, and what each client does next.
//!
//! Knows nothing of who is measured: `benches/etcd-load` is built from this same file.

use std::time::Duration;

use clap::{Args, ValueEnum};

/// What is measured.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum Workload {
    /// Writes of random keys.
    Put,
    /// Linearizable reads of random keys.
    Get,
    /// Both.
    Mixed,
}

/// One operation.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Kind {
    /// A write.
    Put,
    /// A read.
    Get,
}

/// The load: a closed loop, each client waits for its answers before it asks again.
#[derive(Clone, Debug, Args)]
pub(crate) struct Load {
    /// What the clients do
    #[arg(long, value_enum, default_value = "put")]
    pub(crate) workload: Workload,
    /// Per cent of reads in the mixed workload
    #[arg(long, value_name = "PERCENT", default_value_t = 50)]
    #[arg(value_parser = clap::value_parser!(u8).range(0..=100))]
    pub(crate) reads: u8,
    /// Clients, each on a connection of its own
    #[arg(long, value_name = "N", default_value_t = 16)]
    #[arg(value_parser = clap::value_parser!(u16).range(1..))]
    pub(crate) clients: u16,
    /// Bytes of a value
    #[arg(long, value_name = "BYTES", default_value_t = 256)]
    #[arg(value_parser = clap::value_parser!(u32).range(0..=16 * 1024 * 1024))]
    pub(crate) value_size: u32,
    /// How many keys there are, 16 bytes each, all as likely
    #[arg(long, value_name = "N", default_value_t = 10_000)]
    #[arg(value_parser = clap::value_parser!(u64).range(1..=KEYS_MAX))]
    pub(crate) keys: u64,
    /// Write every key once before anything is measured
    #[arg(long)]
    pub(crate) fill: bool,
    /// Seconds to measure
    #[arg(long, default_value_t = 10.0, value_parser = seconds)]
    pub(crate) seconds: f64,
    /// Seconds of the same load before that, not measured
    #[arg(long, value_name = "SECONDS", default_value_t = 1.0, value_parser = seconds_or_none)]
    pub(crate) warmup: f64,
    /// The result as one JSON object
    #[arg(long)]
    pub(crate) json: bool,
}

fn seconds_or_none(text: &str) -> Result<f64, String> {
    match text.parse() {
        Ok(seconds) if (0.0..=86_400.0).contains(&seconds) => Ok(seconds),
        _ => Err("a number of seconds, at most a day".into()),
    }
}

fn seconds(text: &str) -> Result<f64, String> {
    match seconds_or_none(text)? {
        0.0 => Err("more than 0 seconds".into()),
        seconds => Ok(seconds),
    }
}

impl Load {
    /// How long is measured.
    pub(crate) fn measured(&self) -> Duration {
        Duration::from_secs_f64(self.seconds)
    }

    /// How long before that.
    pub(crate) fn warmed(&self) -> Duration {
        Duration::from_secs_f64(self.warmup)
    }
}

/// Most keys of a bench.
pub(crate) const KEYS_MAX: u64 = 1_000_000_000_000;

/// Bytes of a key.
const KEY_BYTES: usize = 16;

/// A key: `key` and 13 digits.
pub(crate) fn key(number: u64) -> [u8; KEY_BYTES] {
    let mut key = *b"key0000000000000";
    let mut rest = number;
    for digit in key[3..].iter_mut().rev() {
        *digit = b'0' + (rest % 10) as u8;
        rest /= 10;
    }
    key
}

/// What one client does, one thing after the other. The same client does the same in each run.
#[derive(Clone, Debug)]
pub(crate) struct Source {
    state: u64,
    workload: Workload,
    reads: u8,
    keys: u64,
    value: Vec<u8>,
    /// Values so far, so that no two are alike.
    count: u64,
}

impl Source {
    /// What client number `client` does.
    pub(crate) fn new(load: &Load, client: u64) -> Source {
        let mut source = Source {
            state: client.wrapping_mul(0xd134_2543_de82_ef95).wrapping_add(1),
            workload: load.workload,
            reads: load.reads,
            keys: load.keys,
            value: Vec::new(),
            count: 0,
        };
        // Nothing that a disk or a network could make smaller; printable, for histories.
        let size = load.value_size as usize;
        source.value = (0..size).map(|_| b'!' + (source.next() % 94) as u8).collect();
        source
    }

    /// The next operation and the number of its key.
    pub(crate) fn operation(&mut self) -> (Kind, u64) {
        let kind = match self.workload {
            Workload::Put => Kind::Put,
            Workload::Get => Kind::Get,
            Workload::Mixed => {
                if self.next() % 100 < u64::from(self.reads) {
                    Kind::Get
                } else {
                    Kind::Put
                }
            }
        };
        (kind, self.next() % self.keys)
    }

    /// The next value, different from all that this client has written when it has room to be.
    pub(crate) fn value(&mut self) -> &[u8] {
        self.count += 1;
        let mut rest = self.count;
        for byte in self.value.iter_mut().take(8) {
            *byte = b'!' + (rest % 94) as u8;
            rest /= 94;
        }
        &self.value
    }

    /// Splitmix64 (Steele, Lea, Flood, 2014): quick, and even enough for keys.
    fn next(&mut self) -> u64 {
        self.state = self.state.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.state;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use clap::Parser;

    use super::*;

    #[derive(Debug, Parser)]
    struct Line {
        #[command(flatten)]
        load: Load,
    }

    fn load(line: &str) -> Result<Load, clap::Error> {
        Line::try_parse_from(line.split(' ')).map(|line| line.load)
    }

    #[test]
    fn keys_have_16_bytes() {
        assert_eq!(&key(0), b"key0000000000000");
        assert_eq!(&key(1_234_567), b"key0000001234567");
    }

    #[test]
    fn a_client_does_the_same_in_each_run() {
        let load = load("bench --workload mixed --reads 90 --keys 7").unwrap();
        let run = |client| {
            let mut source = Source::new(&load, client);
            (0..1000).map(|_| source.operation()).collect::<Vec<_>>()
        };
        assert_eq!(run(1), run(1));
        assert_ne!(run(1), run(2));
        let reads = run(1).iter().filter(|(kind, _)| *kind == Kind::Get).count();
        assert!((850..950).contains(&reads), "{reads}");
        let keys: BTreeSet<u64> = run(1).iter().map(|(_, key)| *key).collect();
        assert_eq!(keys.len(), 7);
    }

    #[test]
    fn values_differ() {
        let mut source = Source::new(&load("bench --value-size 20").unwrap(), 1);
        let values: BTreeSet<Vec<u8>> = (0..10_000).map(|_| source.value().to_vec()).collect();
        assert_eq!(values.len(), 10_000);
        assert!(values.iter().all(|value| value.len() == 20));
        assert_eq!(Source::new(&load("bench --value-size 0").unwrap(), 1).value(), b"");
    }

    #[test]
    fn options_that_make_no_sense_are_refused() {
        for line in [
            "bench --clients 0",
            "bench --reads 101",
            "bench --seconds 0",
            "bench --seconds NaN",
            "bench --keys 0",
            "bench --workload fast",
        ] {
            assert!(load(line).is_err(), "{line}");
        }
    }
}
