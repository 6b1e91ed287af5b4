//! The judge against a checker that cannot be wrong, on random small histories.

mod brute;
mod random;

use quorate_history::{Budget, History, Input, Outcome, Output, Verdict, check, check_within};
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
        random::spoil(&mut chance, &mut history);
    }
    history
}

/// Both verdicts on one history; true when it is linearizable.
fn agree(seed: u64) -> bool {
    let history = random_history(seed);
    let expected = brute::is_linearizable(&history);
    match check(&history) {
        Verdict::Linearizable => assert!(expected, "seed {seed}: missed {history:#?}"),
        Verdict::Violation(window) => {
            assert!(!expected, "seed {seed}: false alarm in {history:#?}\n{}", window.text());
            // The window proves itself: from its initial state, no order explains it.
            let mut ops = window.ops.clone();
            if let Some((value, version)) = window.initial.clone() {
                ops.extend(prologue(&window.key, &value, version));
            }
            assert!(
                ops.len() > 12 || !brute::is_linearizable(&History { ops: after_prologue(ops) }),
                "seed {seed}: the window is no violation {history:#?} {}",
                window.text()
            );
        }
        verdict => panic!("seed {seed}: {verdict}"),
    }
    expected
}

/// Operations that bring a key to its initial state.
fn prologue(
    key: &quorate_history::Blob,
    value: &quorate_history::Blob,
    version: u64,
) -> Vec<quorate_history::Operation> {
    let put = |_| quorate_history::Operation {
        client: u64::MAX,
        key: key.clone(),
        input: Input::Put { value: value.clone() },
        invoked: 0,
        outcome: Outcome::Returned { at: 0, output: Output::Done },
    };
    (0..version.max(1)).map(put).collect()
}

/// Moves all but the prologue behind it.
fn after_prologue(mut ops: Vec<quorate_history::Operation>) -> Vec<quorate_history::Operation> {
    for op in ops.iter_mut().filter(|op| op.client != u64::MAX) {
        op.invoked += 1;
        if let Outcome::Returned { at, .. } = &mut op.outcome {
            *at += 1;
        }
    }
    ops
}

#[test]
fn agrees_with_brute_force_on_ten_thousand_small_histories() {
    let good = (0..1_500_000).filter(|seed| agree(*seed)).count();
    assert!((3_000..=7_000).contains(&good), "{good} of 10000 are linearizable");
}

/// Larger histories of one key that is asked by many at once, too large for brute force; they are
/// linearizable by construction, and must be judged so with little effort.
#[test]
fn hot_keys_are_judged_with_little_effort() {
    let mixes = [
        ("put and get", [5, 5, 0, 0, 0], false, 2),
        ("append and get", [3, 0, 7, 0, 0], false, 2),
        ("append, get, put", [4, 2, 4, 0, 0], false, 2),
        ("versions", [4, 0, 0, 0, 6], true, 2),
        ("versions and puts", [4, 4, 0, 0, 2], true, 2),
        ("appends and versions", [4, 2, 4, 0, 0], true, 2),
        ("deletes", [5, 4, 0, 1, 0], false, 2),
        ("all", [5, 2, 2, 1, 2], true, 2),
        ("all but cas", [5, 2, 2, 1, 0], false, 2),
    ];
    for (name, weights, tells_more, unknown) in mixes {
        for clients in [16, 64] {
            for unknown in [0, 2, 10] {
                let mut bad = String::new();
                for seed in 0..10 {
                    let mut chance = Chance::new(seed);
                    let mix = Mix {
                        clients,
                        ops: 2_000,
                        keys: 1,
                        weights,
                        values: 0,
                        unknown,
                        tells_more,
                    };
                    let history = random::linearizable(&mut chance, mix);
                    let budget = Budget { steps: 2_000_000, configurations: 500_000 };
                    let verdict = check_within(&history, budget);
                    if verdict != Verdict::Linearizable {
                        bad += &format!(
                            " {seed}:{}",
                            if matches!(verdict, Verdict::Unknown { .. }) { "?" } else { "WRONG" }
                        );
                    }
                }
                println!("{name}, clients {clients} unknown {unknown}: {bad}");
            }
        }
    }
    panic!();
}
