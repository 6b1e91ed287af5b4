//! Damaged bytes: what a decoder must bear from a stranger, a broken disk or a bad copy.
//!
//! An input is one of the target's samples, or of its corpus, with some edits, all drawn from one
//! seed: the same seed is the same input. Samples and words bring a decoder to where its lengths and
//! tags are; noise alone is refused at the first byte. When an input fails, edits are taken back for
//! as long as it still does.
//!
//! The crate `fuzz` has libFuzzer hold the same targets against inputs of its own.

#![allow(dead_code, unreachable_pub, reason = "each of the two users has its own part of this")]

use std::{
    any::Any,
    fs,
    ops::Range,
    panic::{AssertUnwindSafe, catch_unwind},
    path::Path,
    sync::{Mutex, MutexGuard},
};

use peak_alloc::PeakAlloc;
use rand::{Rng, RngCore, SeedableRng, rngs::StdRng};

#[global_allocator]
static HEAP: PeakAlloc = PeakAlloc;

/// Inputs of a target, unless `QUORATE_FUZZ` says how many.
const INPUTS: u64 = 20_000;
/// Edits of one input, at most.
const EDITS_MAX: usize = 12;
/// Numbers that lengths, counts and versions go wrong at.
const NUMBERS: [u64; 12] = [
    0,
    1,
    0x7f,
    0x80,
    0xff,
    0x7fff,
    0xffff,
    0x7fff_ffff,
    0x8000_0000,
    0xffff_ffff,
    i64::MAX as u64,
    u64::MAX,
];

/// A source of choices.
pub(crate) struct Chance(StdRng);

impl Chance {
    fn new(seed: u64) -> Self {
        Chance(StdRng::seed_from_u64(seed))
    }

    pub(crate) fn below(&mut self, bound: usize) -> usize {
        self.0.random_range(0..bound.max(1))
    }

    fn pick<'a, T>(&mut self, all: &'a [T]) -> &'a T {
        &all[self.below(all.len())]
    }

    /// Some bytes as they might arrive: in pieces.
    pub(crate) fn pieces<'a>(&mut self, mut bytes: &'a [u8]) -> Vec<&'a [u8]> {
        let size = *self.pick(&[1, 3, 20, 300, 5000]);
        let mut pieces = vec![];
        while !bytes.is_empty() {
            let (piece, rest) = bytes.split_at((1 + self.below(size)).min(bytes.len()));
            pieces.push(piece);
            bytes = rest;
        }
        pieces
    }
}

/// One change to an input. Places count modulo its length.
#[derive(Clone, Debug)]
enum Edit {
    Flip { at: usize, bit: u8 },
    Byte { at: usize, to: u8 },
    Number { at: usize, number: u64, bytes: usize, big_endian: bool },
    Digits { at: usize, number: u64 },
    Insert { at: usize, bytes: Vec<u8> },
    Remove { at: usize, count: usize },
    Repeat { at: usize, count: usize, times: usize },
    Splice { at: usize, from: usize, start: usize, count: usize },
    Cut { at: usize },
}

impl Edit {
    fn any(chance: &mut Chance, words: &[&[u8]]) -> Edit {
        let at = chance.0.random::<u32>() as usize;
        let count = *chance.pick(&[1, 1, 2, 4, 16, 100]);
        match chance.below(12) {
            0 | 1 => Edit::Flip { at, bit: chance.below(8) as u8 },
            2 | 3 => Edit::Byte { at, to: chance.0.random() },
            4 => {
                let number = *chance.pick(&NUMBERS);
                let (bytes, big_endian) = (*chance.pick(&[1, 2, 4, 8]), chance.0.random());
                Edit::Number { at, number, bytes, big_endian }
            }
            5 => Edit::Digits { at, number: *chance.pick(&NUMBERS) },
            6 if !words.is_empty() => Edit::Insert { at, bytes: chance.pick(words).to_vec() },
            6 | 7 => {
                let mut bytes = vec![0; 1 + chance.below(8)];
                chance.0.fill_bytes(&mut bytes);
                Edit::Insert { at, bytes }
            }
            8 => Edit::Remove { at, count },
            9 => Edit::Repeat { at, count, times: *chance.pick(&[1, 1, 3, 40]) },
            10 => {
                let (from, start) = (chance.below(1 << 16), chance.below(1 << 16));
                Edit::Splice { at, from, start, count: count * 4 }
            }
            _ => Edit::Cut { at },
        }
    }

    fn apply(&self, bytes: &mut Vec<u8>, samples: &[Vec<u8>]) {
        let len = bytes.len();
        let place = |at: usize| at % (len + 1);
        let range = |at: usize, count: usize| place(at)..(place(at) + count).min(len);
        match self {
            Edit::Flip { at, bit } => {
                if let Some(byte) = bytes.get_mut(place(*at)) {
                    *byte ^= 1 << bit;
                }
            }
            Edit::Byte { at, to } => {
                if let Some(byte) = bytes.get_mut(place(*at)) {
                    *byte = *to;
                }
            }
            Edit::Number { at, number, bytes: width, big_endian } => {
                let number = match big_endian {
                    true => number.to_be_bytes()[8 - width..].to_vec(),
                    false => number.to_le_bytes()[..*width].to_vec(),
                };
                bytes.splice(range(*at, *width), number);
            }
            Edit::Digits { at, number } => {
                // In place of the next digits there are.
                let from = place(*at);
                let is_digit = |at: &usize| bytes[*at].is_ascii_digit();
                let start = (from..bytes.len()).find(is_digit).unwrap_or(from);
                let end = (start..bytes.len()).find(|at| !is_digit(at)).unwrap_or(bytes.len());
                bytes.splice(start..end, number.to_string().into_bytes());
            }
            Edit::Insert { at, bytes: new } => {
                let at = place(*at);
                bytes.splice(at..at, new.iter().copied());
            }
            Edit::Remove { at, count } => {
                bytes.drain(range(*at, *count));
            }
            Edit::Repeat { at, count, times } => {
                let range = range(*at, *count);
                let again = bytes[range.clone()].repeat(*times);
                bytes.splice(range.end..range.end, again);
            }
            Edit::Splice { at, from, start, count } => {
                let other = &samples[from % samples.len()];
                let start = start % (other.len() + 1);
                let part = other[start..(start + count).min(other.len())].to_vec();
                let at = place(*at);
                bytes.splice(at..at, part);
            }
            Edit::Cut { at } => {
                let end = place(*at);
                bytes.truncate(end);
            }
        }
    }
}

/// What a target may take of the heap at one time, besides its input.
#[derive(Clone, Copy)]
pub(crate) struct Bound {
    /// However small the input is.
    pub(crate) base: usize,
    /// For each of its bytes.
    pub(crate) per_byte: usize,
}

impl Bound {
    /// For what is read into lists of small things: a few words for each byte.
    pub(crate) const SMALL: Bound = Bound { base: 256 << 10, per_byte: 100 };

    /// serde makes room for up to a mebibyte of a list before it has seen more than its length, and
    /// a list may lie in a list.
    pub(crate) const SERDE: Bound = Bound { base: 4 << 20, per_byte: 200 };
}

/// Takes an input, panics if a property does not hold, and answers whether it was accepted.
pub(crate) type Holds = dyn Fn(&[u8], &mut Chance) -> bool;

/// A decoder that meets bytes from outside, and what must hold of it.
pub(crate) struct Target {
    /// Inputs that are accepted.
    pub(crate) samples: Vec<Vec<u8>>,
    /// Bytes that mean something to it.
    pub(crate) words: &'static [&'static [u8]],
    pub(crate) bound: Bound,
    pub(crate) holds: Box<Holds>,
}

impl Target {
    pub(crate) fn new(
        samples: Vec<Vec<u8>>,
        words: &'static [&'static [u8]],
        bound: Bound,
        holds: impl Fn(&[u8], &mut Chance) -> bool + 'static,
    ) -> Target {
        Target { samples, words, bound, holds: Box::new(holds) }
    }

    /// Takes an input; answers whether it was accepted, or what went wrong. `seed` is for what the
    /// property draws, as where it cuts the input.
    pub(crate) fn try_input(&self, input: &[u8], seed: u64) -> Result<bool, String> {
        let mut chance = Chance::new(seed);
        let before = HEAP.current_usage();
        HEAP.reset_peak_usage();
        let accepted = catch_unwind(AssertUnwindSafe(|| (self.holds)(input, &mut chance)));
        let accepted = accepted.map_err(|panic| words_of(&*panic))?;
        let taken = HEAP.peak_usage().saturating_sub(before);
        let allowed = self.bound.base + self.bound.per_byte * input.len();
        match taken <= allowed {
            true => Ok(accepted),
            false => Err(format!("{} bytes take {taken} of memory, not {allowed}", input.len())),
        }
    }
}

/// One target at a time, from when its samples are made: the allocator counts for all threads.
pub(crate) fn alone() -> MutexGuard<'static, ()> {
    static ALONE: Mutex<()> = Mutex::new(());
    ALONE.lock().unwrap_or_else(|poisoned| poisoned.into_inner())
}

fn number(name: &str) -> Option<u64> {
    let text = std::env::var(name).ok()?;
    Some(text.parse().unwrap_or_else(|_| panic!("{name}={text} is not a number")))
}

pub(crate) fn words_of(panic: &(dyn Any + Send)) -> String {
    let text = panic.downcast_ref::<String>().cloned();
    text.or(panic.downcast_ref::<&str>().map(|text| (*text).to_string())).unwrap_or_default()
}

/// The files of a directory by their names, in order; none if there is no directory.
fn files(dir: &Path) -> Vec<(String, Vec<u8>)> {
    let Ok(entries) = fs::read_dir(dir) else { return vec![] };
    let read = |entry: std::io::Result<fs::DirEntry>| {
        let path = entry.expect("a directory can be listed").path();
        let bytes = fs::read(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
        (path.display().to_string(), bytes)
    };
    let mut files: Vec<_> = entries.map(read).collect();
    files.sort();
    files
}

/// As many seeds as the environment says.
pub(crate) fn seeds() -> Range<u64> {
    let inputs = number("QUORATE_FUZZ").unwrap_or(INPUTS);
    number("QUORATE_FUZZ_SEED").map_or(0..inputs, |seed| seed..seed + 1)
}

/// Holds a decoder against its samples and its corpus, whole and damaged. Only while it is alone.
pub(crate) fn fuzz(seeds: Range<u64>, target: &Target, corpus: &Path) {
    for (place, sample) in target.samples.iter().enumerate() {
        let whole = target.try_input(sample, 0);
        assert_eq!(whole, Ok(true), "sample {place} is not accepted: {}", sample.escape_ascii());
    }
    let mut whole = target.samples.clone();
    for (name, input) in files(corpus) {
        if let Err(wrong) = target.try_input(&input, 0) {
            panic!("{name}: {wrong}\n{} bytes: {}", input.len(), input.escape_ascii());
        }
        whole.push(input);
    }
    let (mut accepted, all) = (0, seeds.end - seeds.start);
    for seed in seeds {
        let mut chance = Chance::new(seed);
        let sample = chance.pick(&whole).clone();
        let count = 1 + chance.below(EDITS_MAX);
        let words = target.words;
        let mut edits: Vec<Edit> = (0..count).map(|_| Edit::any(&mut chance, words)).collect();
        let attempt = |edits: &[Edit]| {
            let mut input = sample.clone();
            edits.iter().for_each(|edit| edit.apply(&mut input, &whole));
            (target.try_input(&input, seed), input)
        };
        match attempt(&edits).0 {
            Ok(true) => accepted += 1,
            Ok(false) => {}
            Err(_) => {
                for place in (0..edits.len()).rev() {
                    let mut fewer = edits.clone();
                    fewer.remove(place);
                    if attempt(&fewer).0.is_err() {
                        edits = fewer;
                    }
                }
                let (wrong, input) = attempt(&edits);
                panic!(
                    "QUORATE_FUZZ_SEED={seed}: {}\nafter {edits:?}\nof {}\n{} bytes: {}",
                    wrong.err().unwrap_or_default(),
                    sample.escape_ascii(),
                    input.len(),
                    input.escape_ascii(),
                );
            }
        }
    }
    println!("{all} inputs, {accepted} of them accepted");
}
