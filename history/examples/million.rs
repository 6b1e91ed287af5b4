//! Generates a history of a million operations on a thousand keys by 64 clients, has it judged, and
//! says how long that took.
//!
//! `cargo run --release -p quorate-history --example million [OPERATIONS] [KEYS] [FILE]`, which also
//! leaves the history in FILE, for `quorate check`.

use std::collections::BTreeMap;
use std::time::Instant;

use quorate_history::{History, Input, Operation, Outcome, Output, check, read, write};

/// How many clients there are; each has one operation under way at any time.
const CLIENTS: u64 = 64;

/// A small generator (xorshift64*).
struct Chance(u64);

impl Chance {
    fn below(&mut self, bound: u64) -> u64 {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        (self.0.wrapping_mul(0x2545_f491_4f6c_dd1d) >> 33) % bound
    }
}

/// Of ten operations four are Gets, three Appends, two Puts and one is a Delete.
fn input(chance: &mut Chance, place: usize) -> Input {
    let value = format!("<{place}>").into_bytes().into();
    match chance.below(10) {
        0..4 => Input::Get,
        4..7 => Input::Append { value },
        7..9 => Input::Put { value },
        _ => Input::Delete,
    }
}

fn apply(held: &mut Option<Vec<u8>>, input: &Input) -> Output {
    match input {
        Input::Get => match held {
            Some(value) => Output::Value { value: value.as_slice().into(), version: None },
            None => Output::Absent,
        },
        Input::Append { value } => {
            held.get_or_insert_default().extend_from_slice(value);
            Output::Done
        }
        Input::Delete => Output::Deleted { present: held.take().is_some() },
        Input::Put { value } | Input::Cas { value, .. } => {
            *held = Some(value.to_vec());
            Output::Done
        }
    }
}

/// Clients take turns at random: ask, take effect, hear the answer. One write in a hundred is never
/// answered.
fn generate(operations: usize, keys: u64) -> History {
    let mut chance = Chance(42);
    let mut store: BTreeMap<u64, Option<Vec<u8>>> = BTreeMap::new();
    let mut ops: Vec<Operation> = Vec::with_capacity(operations);
    let mut under_way: Vec<Option<(usize, u64, Option<Output>)>> = vec![None; CLIENTS as usize];
    for now in 0.. {
        let client = chance.below(CLIENTS);
        let turn = &mut under_way[client as usize];
        *turn = match turn.take() {
            None if ops.len() == operations => break,
            None => {
                let key = chance.below(keys);
                let input = input(&mut chance, ops.len());
                let name = format!("key{key}").into_bytes().into();
                let outcome = Outcome::Unknown;
                ops.push(Operation { client, key: name, input, invoked: now, outcome });
                Some((ops.len() - 1, key, None))
            }
            Some((place, key, None)) => {
                let output = apply(store.entry(key).or_default(), &ops[place].input);
                Some((place, key, Some(output)))
            }
            Some((place, _, Some(output))) => {
                if ops[place].input.is_read() || chance.below(100) > 0 {
                    ops[place].outcome = Outcome::Returned { at: now, output };
                }
                None
            }
        };
    }
    History { ops }
}

#[expect(clippy::disallowed_methods, reason = "a stopwatch, outside of any actor")]
fn now() -> Instant {
    Instant::now()
}

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let mut numbers = arguments.iter().take(2).map(|argument| argument.parse::<u64>());
    let operations = numbers.next().transpose()?.unwrap_or(1_000_000);
    let keys = numbers.next().transpose()?.unwrap_or(1_000).max(1);

    let start = now();
    let history = generate(operations as usize, keys);
    println!("generated {operations} operations on {keys} keys in {:.2?}", start.elapsed());

    let start = now();
    let mut file = Vec::new();
    write(&history, &mut file)?;
    println!("written as {} MiB in {:.2?}", file.len() >> 20, start.elapsed());
    if let Some(path) = arguments.get(2) {
        std::fs::write(path, &file)?;
    }

    let start = now();
    let history = read(file.as_slice())?;
    println!("read in {:.2?}", start.elapsed());

    let start = now();
    let verdict = check(&history);
    println!("judged in {:.2?}: {verdict}", start.elapsed());
    Ok(())
}
