//! The judge against a checker that cannot be wrong, on random small histories.

mod brute;
mod random;

use quorate_history::{
    Budget, History, Input, Operation, Outcome, Output, Verdict, Window, check, check_within,
};
use random::{Chance, Mix};

fn mix(chance: &mut Chance) -> Mix {
    let weights = match chance.below(8) {
        0 => [4, 4, 0, 0, 0],
        1 => [4, 0, 4, 0, 0],
        2 => [4, 2, 4, 0, 0],
        3 => [4, 3, 2, 2, 0],
        4 => [4, 3, 0, 3, 0],
        5 => [3, 0, 0, 0, 5],
        6 => [3, 2, 1, 1, 4],
        _ => [4, 2, 2, 1, 1],
    };
    Mix {
        clients: 2 + chance.below(4),
        ops: 3 + chance.below(6),
        keys: 1 + chance.below(5) / 4,
        weights,
        values: [0, 1, 2, 3][chance.below(4) as usize],
        unknown: [0, 0, 20, 50][chance.below(4) as usize],
        tells_more: chance.below(3) == 0,
    }
}

fn random_history(seed: u64) -> History {
    let mut chance = Chance::new(seed);
    let mix = mix(&mut chance);
    let mut history = random::linearizable(&mut chance, mix);
    if chance.below(40) > 0 {
        spoil(&mut chance, &mut history);
    }
    history
}

/// Changes some answers for others of the same history, or moves them in time.
fn spoil(chance: &mut Chance, history: &mut History) {
    let others: Vec<(Input, Option<Output>)> =
        history.ops.iter().map(|op| (op.input.clone(), op.output().cloned())).collect();
    for _ in 0..=chance.below(6) {
        let other = &others[chance.below(others.len() as u64) as usize];
        let place = chance.below(history.ops.len() as u64) as usize;
        let op = &mut history.ops[place];
        let Outcome::Returned { at, output } = &mut op.outcome else { continue };
        *output = match (&op.input, output.clone()) {
            (Input::Get, before) => match other {
                (Input::Get, Some(seen)) => seen.clone(),
                (Input::Put { value } | Input::Append { value }, _) => {
                    Output::Value { value: value.clone(), version: None }
                }
                _ => before,
            },
            (Input::Delete, Output::Deleted { present }) => Output::Deleted { present: !present },
            (Input::Cas { .. }, Output::ErrVersion) => Output::ErrNoKey,
            (Input::Cas { version, .. }, _) if chance.below(2) == 0 => {
                Output::Stored { version: version + 1 }
            }
            (Input::Cas { .. }, _) => Output::ErrVersion,
            (Input::Append { .. }, Output::Length(length)) => {
                Output::Length((length + chance.below(4)).saturating_sub(2))
            }
            (_, before) => before,
        };
        if chance.below(4) == 0 {
            let length = *at - op.invoked;
            op.invoked = (op.invoked + chance.below(9)).saturating_sub(4);
            *at = op.invoked + length;
        }
    }
}

/// Both verdicts on one history; true when it is linearizable.
fn agree(seed: u64) -> bool {
    let history = random_history(seed);
    let expected = brute::is_linearizable(&history);
    match check(&history) {
        Verdict::Linearizable => assert!(expected, "seed {seed}: missed {history:#?}"),
        Verdict::Violation(window) => {
            assert!(!expected, "seed {seed}: false alarm\n{}", window.text());
            assert!(is_wrong(&window), "seed {seed}: no violation\n{}", window.text());
        }
        verdict => panic!("seed {seed}: {verdict}"),
    }
    expected
}

/// Whether a window proves itself: after Puts that bring the key to where it begins, no order
/// explains it.
fn is_wrong(window: &Window) -> bool {
    let mut ops = window.ops.clone();
    let (value, version) = window.initial.clone().unwrap_or_default();
    let puts = if window.initial.is_some() { version.max(1) } else { 0 };
    for op in &mut ops {
        op.invoked += puts * 2;
        if let Outcome::Returned { at, .. } = &mut op.outcome {
            *at += puts * 2;
        }
    }
    for put in 0..puts {
        let input = Input::Put { value: value.clone() };
        let outcome = Outcome::Returned { at: put * 2, output: Output::Done };
        let key = window.key.clone();
        ops.push(Operation { client: 0, key, input, invoked: put * 2, outcome });
    }
    !brute::is_linearizable(&History { ops })
}

#[test]
fn agrees_with_brute_force_on_ten_thousand_small_histories() {
    let good = (0..10_000).filter(|seed| agree(*seed)).count();
    assert!((3_000..=7_000).contains(&good), "{good} of 10000 are linearizable");
}

/// Histories of one key that many ask at once, too large for brute force. They are linearizable by
/// construction, and must be judged so with little effort.
#[test]
fn hot_keys_are_judged_with_little_effort() {
    let mixes = [
        ("put and get", [5, 5, 0, 0, 0], false),
        ("append and get", [3, 0, 7, 0, 0], false),
        ("append, get and put", [4, 2, 4, 0, 0], false),
        ("versioned put and get", [4, 0, 0, 0, 6], true),
        ("both puts and get", [4, 4, 0, 0, 2], true),
        ("put, get and delete", [5, 4, 0, 1, 0], false),
    ];
    for (name, weights, tells_more) in mixes {
        for (clients, unknown, seed) in [(16, 0, 1), (16, 2, 2), (64, 0, 3), (64, 2, 4)] {
            let mut chance = Chance::new(seed);
            let mix = Mix { clients, ops: 2_000, keys: 1, weights, values: 0, unknown, tells_more };
            let history = random::linearizable(&mut chance, mix);
            let budget = Budget { steps: 1_000_000, configurations: 200_000 };
            let verdict = check_within(&history, budget);
            assert_eq!(verdict, Verdict::Linearizable, "{name}, {clients} clients");
        }
    }
}
