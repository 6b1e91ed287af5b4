//! Random histories: clients work against a real store, then perhaps an answer is changed.

use quorate_history::{Blob, History, Input, Operation, Outcome, Output};

/// A small generator (xorshift64*), so that the tests need no other crate.
pub(crate) struct Chance(u64);

impl Chance {
    /// A generator; equal seeds give equal numbers.
    pub(crate) fn new(seed: u64) -> Self {
        let mut chance = Chance(seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1);
        for _ in 0..4 {
            chance.below(2);
        }
        chance
    }

    /// A number below a bound.
    pub(crate) fn below(&mut self, bound: u64) -> u64 {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        (self.0.wrapping_mul(0x2545_f491_4f6c_dd1d) >> 33) % bound
    }
}

/// What a history is made of.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Mix {
    pub(crate) clients: u64,
    pub(crate) ops: u64,
    pub(crate) keys: u64,
    /// Weights of get, put, append, delete, cas.
    pub(crate) weights: [u64; 5],
    /// Different values; 0 makes every value unique.
    pub(crate) values: u64,
    /// Of 100 writes, how many stay unknown.
    pub(crate) unknown: u64,
    /// Whether gets tell versions, and appends lengths.
    pub(crate) tells_more: bool,
}

/// Which client does what at a moment of the simulation.
enum Phase {
    Idle,
    /// Asked, and has not taken effect; the operation's place.
    Asked(usize),
    /// Took effect; the answer is on its way.
    Answered(usize, Output),
}

/// A history that is linearizable.
pub(crate) fn linearizable(chance: &mut Chance, mix: Mix) -> History {
    let mut ops: Vec<Operation> = Vec::new();
    let mut store: Vec<Option<(Vec<u8>, u64)>> = vec![None; mix.keys as usize];
    let mut phases: Vec<Phase> = (0..mix.clients).map(|_| Phase::Idle).collect();
    let mut late: Vec<usize> = Vec::new();
    let mut now = 0;
    let mut is_open = true;
    while is_open {
        now += chance.below(2);
        let client = chance.below(mix.clients);
        let key = |op: &Operation| usize::from(op.key[0] - b'a');
        if !late.is_empty() && chance.below(4) == 0 {
            let op = &ops[late.swap_remove(chance.below(late.len() as u64) as usize)];
            apply(&mut store[key(op)], &op.input, mix.tells_more);
        }
        let phase = &mut phases[client as usize];
        *phase = match std::mem::replace(phase, Phase::Idle) {
            Phase::Idle if ops.len() as u64 == mix.ops => Phase::Idle,
            Phase::Idle => {
                let key = chance.below(mix.keys);
                let version = store[key as usize].as_ref().map_or(0, |(_, version)| *version);
                let input = input(chance, mix, ops.len() as u64, version);
                let key = [b'a' + key as u8].as_slice().into();
                let outcome = Outcome::Unknown;
                ops.push(Operation { client, key, input, invoked: now, outcome });
                let place = ops.len() - 1;
                if !ops[place].input.is_read() && chance.below(100) < mix.unknown {
                    if chance.below(2) == 0 {
                        late.push(place);
                    }
                    Phase::Idle
                } else {
                    Phase::Asked(place)
                }
            }
            Phase::Asked(place) => {
                let op = &ops[place];
                let answer = apply(&mut store[key(op)], &op.input, mix.tells_more);
                Phase::Answered(place, answer)
            }
            Phase::Answered(place, output) => {
                ops[place].outcome = Outcome::Returned { at: now, output };
                Phase::Idle
            }
        };
        is_open = (ops.len() as u64) < mix.ops
            || phases.iter().any(|phase| !matches!(phase, Phase::Idle));
    }
    History { ops }
}

fn input(chance: &mut Chance, mix: Mix, place: u64, version: u64) -> Input {
    let number = if mix.values == 0 { place } else { chance.below(mix.values) };
    let value: Blob = match number {
        0 if mix.values > 2 => Blob::default(),
        number => format!("<{number}>").into_bytes().into(),
    };
    let mut pick = chance.below(mix.weights.iter().sum());
    for (kind, weight) in mix.weights.iter().enumerate() {
        if pick < *weight {
            return match kind {
                0 => Input::Get,
                1 => Input::Put { value },
                2 => Input::Append { value },
                3 => Input::Delete,
                _ => Input::Cas { value, version: (version + chance.below(4)).saturating_sub(1) },
            };
        }
        pick -= weight;
    }
    Input::Get
}

fn apply(held: &mut Option<(Vec<u8>, u64)>, input: &Input, tells_more: bool) -> Output {
    let version = held.as_ref().map_or(0, |(_, version)| *version);
    match input {
        Input::Get => match held {
            None => Output::Absent,
            Some((value, version)) => Output::Value {
                value: value.as_slice().into(),
                version: tells_more.then_some(*version),
            },
        },
        Input::Put { value } => {
            *held = Some((value.to_vec(), version + 1));
            Output::Done
        }
        Input::Append { value } => {
            let (whole, version) = held.get_or_insert_default();
            whole.extend_from_slice(value);
            *version += 1;
            if tells_more { Output::Length(whole.len() as u64) } else { Output::Done }
        }
        Input::Delete => Output::Deleted { present: held.take().is_some() },
        Input::Cas { version: wanted, .. } if *wanted != version && held.is_none() => {
            Output::ErrNoKey
        }
        Input::Cas { version: wanted, .. } if *wanted != version => Output::ErrVersion,
        Input::Cas { value, .. } => {
            *held = Some((value.to_vec(), version + 1));
            Output::Stored { version: version + 1 }
        }
    }
}
