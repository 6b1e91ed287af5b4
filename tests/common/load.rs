//! Redis clients that read and write at random, and remember what they have seen.

use std::{
    collections::BTreeMap,
    net::SocketAddr,
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, AtomicU64, Ordering::SeqCst},
    },
    thread,
    time::Instant,
};

use quorate_history::{
    Blob, Budget, History, Input, Operation, Outcome, Output, Verdict, check_within,
};
use rand::{Rng, SeedableRng, rngs::StdRng};

use super::{connect, now, pause};

/// What the clients of a test have seen, and may still do.
pub struct Load {
    pub begin: Instant,
    pub ops: Mutex<Vec<Operation>>,
    pub stop: AtomicBool,
    pub acknowledged: AtomicU64,
    /// Errors that say that nothing was executed, by their codes.
    pub refused: Mutex<BTreeMap<String, u64>>,
    /// Outcomes that nobody knows, by what was said.
    pub unknown: Mutex<BTreeMap<String, u64>>,
    /// Longest time between two acknowledged writes since it was last asked, in microseconds.
    pub last_ack: AtomicU64,
}

impl Load {
    pub fn new() -> Arc<Load> {
        Arc::new(Load {
            begin: now(),
            ops: Mutex::default(),
            stop: AtomicBool::new(false),
            acknowledged: AtomicU64::new(0),
            refused: Mutex::default(),
            unknown: Mutex::default(),
            last_ack: AtomicU64::new(0),
        })
    }

    pub fn micros(&self) -> u64 {
        self.begin.elapsed().as_micros() as u64
    }
}

pub fn blob(text: &str) -> Blob {
    text.as_bytes().into()
}

/// Whether an error says that the command was certainly not executed.
pub fn certainly_not(error: &redis::RedisError) -> bool {
    matches!(error.code(), Some("CLUSTERDOWN" | "TRYAGAIN" | "LOADING" | "ERR"))
}

/// One client: unique values, a few keys, reads and writes, any node that answers. `first` is the
/// number of its first operation, so that values stay unique over all rounds.
pub fn client(load: Arc<Load>, id: u64, nodes: Vec<SocketAddr>, seed: u64, keys: u64) {
    let mut chance = StdRng::seed_from_u64(seed ^ id);
    let mut connection = None;
    let mut node = id as usize;
    let mut count = 0;
    while !load.stop.load(SeqCst) {
        let Some(open) = &mut connection else {
            node += 1;
            connection = connect(nodes[node % nodes.len()]).ok();
            if connection.is_none() {
                pause(10);
            }
            continue;
        };
        count += 1;
        let number = chance.random_range(0..keys);
        let key = format!("key{number}");
        let value = format!("{id}.{seed:x}.{count} ");
        let invoked = load.micros();
        let (input, result) = match chance.random_range(0..100) {
            0..40 => {
                let read = redis::cmd("GET").arg(&key).query::<Option<String>>(open);
                let read = read.map(|value| match value {
                    Some(value) => Output::Value { value: blob(&value), version: None },
                    None => Output::Absent,
                });
                (Input::Get, read)
            }
            40..70 => {
                let put = redis::cmd("SET").arg(&key).arg(&value).query::<()>(open);
                (Input::Put { value: blob(&value) }, put.map(|()| Output::Done))
            }
            // A key is appended to or deleted, not both: the two together, with outcomes that
            // nobody knows, are what makes judging hard.
            70.. if number % 2 == 0 => {
                let append = redis::cmd("APPEND").arg(&key).arg(&value).query::<u64>(open);
                (Input::Append { value: blob(&value) }, append.map(|_| Output::Done))
            }
            _ => {
                let delete = redis::cmd("DEL").arg(&key).query::<u64>(open);
                (Input::Delete, delete.map(|n| Output::Deleted { present: n == 1 }))
            }
        };
        let at = load.micros();
        let outcome = match result {
            Ok(output) => {
                if !matches!(input, Input::Get) {
                    load.acknowledged.fetch_add(1, SeqCst);
                    load.last_ack.fetch_max(at, SeqCst);
                }
                Outcome::Returned { at, output }
            }
            Err(error) if certainly_not(&error) => {
                let code = error.code().unwrap_or_default().to_string();
                *load.refused.lock().unwrap().entry(code).or_default() += 1;
                pause(5);
                continue;
            }
            Err(error) => {
                connection = None;
                let said = error.code().map_or_else(|| "connection lost".into(), str::to_string);
                *load.unknown.lock().unwrap().entry(said).or_default() += 1;
                Outcome::Unknown
            }
        };
        let op = Operation { client: id, key: blob(&key), input, invoked, outcome };
        load.ops.lock().unwrap().push(op);
    }
}

pub fn clients(
    load: &Arc<Load>,
    count: u64,
    nodes: &[SocketAddr],
    seed: u64,
    keys: u64,
) -> Vec<thread::JoinHandle<()>> {
    (0..count)
        .map(|id| {
            let (load, nodes) = (load.clone(), nodes.to_vec());
            thread::spawn(move || client(load, id, nodes, seed, keys))
        })
        .collect()
}

pub fn judge(load: &Load) {
    let ops = std::mem::take(&mut *load.ops.lock().unwrap());
    let count = ops.len();
    match check_within(&History { ops }, Budget::default()) {
        Verdict::Linearizable => println!("{count} operations: linearizable"),
        Verdict::Violation(window) => panic!("not linearizable:\n{}", window.text()),
        verdict => panic!("{verdict:?}"),
    }
}
