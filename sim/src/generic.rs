//! The scenario that most rows of the labs' fault-tolerant key/value suites share (6.824 2016-20,
//! Lab 3; 6.5840 2026, Lab 4): clients at work while the network falls in two and all servers are
//! killed and started again.

use std::{cell::Cell, rc::Rc, time::Duration};

use crate::{
    seeds::for_each_seed,
    world::{ENGINES, Options, World, run},
};

/// How long a parcel takes here, in milliseconds. The labs' networks add nothing to what their
/// machines need; with a few milliseconds a client gets as much done as theirs do.
const DELAY_MS: (u64, u64) = (1, 5);
/// A row must end so long after it has begun, as in the labs.
const ROW_MAX: Duration = Duration::from_secs(120);

/// What the labs' tables say of a row.
#[derive(Clone, Copy, Debug, Default)]
pub struct Row {
    /// Its name.
    pub name: &'static str,
    /// How many clients work at a time.
    pub clerks: usize,
    /// How many servers there are.
    pub servers: u32,
    /// Whether the network loses requests and answers.
    pub is_unreliable: bool,
    /// Whether all servers are killed and started again.
    pub has_restarts: bool,
    /// Whether the network falls in two, another way every second.
    pub has_partitions: bool,
    /// Bytes of log at which a snapshot is due; `None` for never.
    pub maxraftstate: Option<u64>,
    /// Whether the clients share many keys, drawn at random.
    pub has_random_keys: bool,
    /// Whether the log may have 2 times the bytes of `maxraftstate`, as before 2020, instead of 8.
    pub is_strict: bool,
}

/// One test per row of a labs' table: its name in the labs, how many clerks and servers it has, what
/// holds of it, and at how many bytes of log a snapshot is due.
#[macro_export]
macro_rules! rows {
    ($($(#[$doc:meta])* $test:ident: $scenario:ident, $name:literal, $clerks:literal clerks,
       $servers:literal servers, [$($is:ident),*], $maxraftstate:expr;)*) => {$(
        $(#[$doc])*
        #[test]
        fn $test() {
            let row = $crate::generic::Row {
                name: $name,
                clerks: $clerks,
                servers: $servers,
                maxraftstate: $maxraftstate,
                ..Default::default()
            };
            $(let row = $crate::generic::Row { $is: true, ..row };)*
            $scenario(row);
        }
    )*};
}

impl Row {
    /// Runs a test of this row in a world of its own, with every engine and seed. Reads wait for
    /// barriers with odd seeds, and go through the log, as the labs describe them, with even ones.
    pub fn run(self, test: impl AsyncFn(World)) {
        for_each_seed(self.name, 2, |seed| {
            for engine in ENGINES {
                let log_bytes_max = self.maxraftstate.unwrap_or(u64::MAX);
                let options = Options {
                    engine,
                    log_bytes_max,
                    reads_in_log: seed.is_multiple_of(2),
                    ..Options::servers(self.servers)
                };
                run(seed, options, async |world| {
                    let (at_least, at_most) = DELAY_MS;
                    let ms = Duration::from_millis;
                    world.net.set_delay(ms(at_least), ms(at_most));
                    world.net.set_lossy(self.is_unreliable);
                    world.start_all(false);
                    test(world.clone()).await;
                    assert!(world.elapsed() < ROW_MAX, "{}: {:?}", self.name, world.elapsed());
                });
            }
        });
    }

    /// One iteration: every client works until it is told to stop, and then ends what it has under
    /// way. `clerk` gets its number and a flag that says stop.
    ///
    /// # Panics
    /// When a client does.
    pub async fn iterate<T: 'static, F: Future<Output = T> + 'static>(
        &self,
        world: &World,
        work: Duration,
        clerk: impl Fn(usize, Rc<Cell<bool>>) -> F,
    ) -> Vec<T> {
        let stop = Rc::new(Cell::new(false));
        let clerks: Vec<_> =
            (0..self.clerks).map(|i| world.spawn(clerk(i, stop.clone()))).collect();
        let ended = Rc::new(Cell::new(false));
        let mut partitioner = None;
        if self.has_partitions {
            world.sleep_ms(1000).await;
            partitioner = Some(world.spawn(world.clone().repartition(ended.clone())));
        }
        tokio::time::sleep(work).await;
        stop.set(true);
        ended.set(true);
        if let Some(partitioner) = partitioner {
            partitioner.await.expect("it only waits");
            // A client may have asked a minority: that is answered once its servers hear more.
            world.sleep_ms(1000).await;
        }
        if self.has_restarts {
            world.restart_all().await;
        }
        let mut results = vec![];
        for clerk in clerks {
            results.push(clerk.await.expect("a client of this row failed"));
        }
        results
    }

    /// The labs' bounds on what the servers keep: the log has at most 8 times (2 times, where the row
    /// is strict) the bytes at which a snapshot is due, and without snapshots there is none.
    ///
    /// # Panics
    /// If a bound is broken.
    pub async fn check_sizes(&self, world: &World) {
        match self.maxraftstate {
            Some(max) => {
                let times = if self.is_strict { 2 } else { 8 };
                let size = world.log_size().await;
                assert!(size <= times * max, "{}: {size} bytes of log, {times} x {max}", self.name);
            }
            None => {
                let size = world.snapshot_size();
                assert_eq!(size, 0, "{}: a snapshot, though there must be none", self.name);
            }
        }
    }
}
