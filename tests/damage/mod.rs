//! Damaged bytes: what a decoder must bear from a stranger, a broken disk or a bad copy.
//!
//! An input is one of the target's samples with some edits, all drawn from one seed: the same seed
//! is the same input. Samples and words bring a decoder to where its lengths and tags are; noise
//! alone is refused at the first byte. When an input fails, edits are taken back for as long as it
//! still does.

use std::{
    any::Any,
    ops::Range,
    panic::{AssertUnwindSafe, catch_unwind},
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

/// One target at a time: the allocator counts for all.
fn alone() -> MutexGuard<'static, ()> {
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

/// Runs a target on an input; answers what went wrong.
fn run(bound: Bound, input: &[u8], seed: u64, target: &Target<'_>) -> Result<bool, String> {
    let mut chance = Chance::new(seed);
    let before = HEAP.current_usage();
    HEAP.reset_peak_usage();
    let accepted = catch_unwind(AssertUnwindSafe(|| target(input, &mut chance)));
    let accepted = accepted.map_err(|panic| words_of(&*panic))?;
    let taken = HEAP.peak_usage().saturating_sub(before);
    let allowed = bound.base + bound.per_byte * input.len();
    match taken <= allowed {
        true => Ok(accepted),
        false => Err(format!("{} bytes take {taken} of memory, not {allowed}", input.len())),
    }
}

/// Takes an input, panics if a property does not hold, and answers whether it was accepted.
pub(crate) type Target<'a> = dyn Fn(&[u8], &mut Chance) -> bool + 'a;

/// Holds a decoder against its samples, whole and damaged, with as many seeds as the environment
/// says.
pub(crate) fn fuzz(samples: &[Vec<u8>], words: &[&[u8]], bound: Bound, target: &Target<'_>) {
    let inputs = number("QUORATE_FUZZ").unwrap_or(INPUTS);
    let seeds = number("QUORATE_FUZZ_SEED").map_or(0..inputs, |seed| seed..seed + 1);
    fuzz_with(seeds, samples, words, bound, target);
}

/// The same with these seeds.
pub(crate) fn fuzz_with(
    seeds: Range<u64>,
    samples: &[Vec<u8>],
    words: &[&[u8]],
    bound: Bound,
    target: &Target<'_>,
) {
    let _alone = alone();
    for (place, sample) in samples.iter().enumerate() {
        let whole = run(bound, sample, 0, target);
        assert_eq!(whole, Ok(true), "sample {place} is not accepted: {}", sample.escape_ascii());
    }
    let (mut accepted, all) = (0, seeds.end - seeds.start);
    for seed in seeds {
        let mut chance = Chance::new(seed);
        let sample = chance.pick(samples).clone();
        let count = 1 + chance.below(EDITS_MAX);
        let mut edits: Vec<Edit> = (0..count).map(|_| Edit::any(&mut chance, words)).collect();
        let attempt = |edits: &[Edit]| {
            let mut input = sample.clone();
            edits.iter().for_each(|edit| edit.apply(&mut input, samples));
            (run(bound, &input, seed, target), input)
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
