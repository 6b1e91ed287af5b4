//! Budgets, unknown verdicts, and windows.

mod notation;
mod random;

use notation::history;
use quorate_history::{
    Budget, History, Operation, Reason, Verdict, Window, check, check_watched, check_while,
    check_within,
};
use random::{Chance, Mix};

/// A key that no checker can judge quickly: many appends of the same few values, all at once, and
/// a value in the end that they cannot make.
fn hard() -> History {
    let mut drawing = String::new();
    for client in 0..22 {
        let token = ["aab", "aba", "baa", "ab", "ba"][client % 5];
        drawing.push_str(&format!("{client}: [append {token}         ]\n"));
    }
    drawing.push_str("99:                       [get aababaabaabaababaabaabaabaabaab]\n");
    history(&drawing)
}

#[test]
fn a_budget_of_steps_that_runs_out_gives_unknown() {
    let budget = Budget { steps: 1_000, configurations: 1_000_000 };
    let Verdict::Unknown { key, reason } = check_within(&hard(), budget) else {
        panic!("judged within a thousand steps");
    };
    assert_eq!((&key[..], reason), (b"x".as_slice(), Reason::Steps));
}

#[test]
fn a_budget_of_configurations_that_runs_out_gives_unknown() {
    let budget = Budget { steps: 1_000_000_000, configurations: 100 };
    let verdict = check_within(&hard(), budget);
    assert!(matches!(verdict, Verdict::Unknown { reason: Reason::Configurations, .. }));
    assert_eq!(verdict.to_string(), "unknown: key \"x\": the budget of configurations ran out");
}

#[test]
fn the_caller_may_stop_a_check() {
    let mut questions = 0;
    let verdict = check_while(&hard(), Budget::default(), &mut || {
        questions += 1;
        questions < 3
    });
    assert!(matches!(verdict, Verdict::Unknown { reason: Reason::Stopped, .. }), "{verdict}");
    assert_eq!(questions, 3);
}

#[test]
fn the_caller_is_told_how_far_the_check_is() {
    let history = history("1: [a: put 1] [b: put 2] [c: get -]");
    let mut seen = vec![];
    let verdict = check_watched(&history, Budget::default(), &mut |progress| {
        seen.push((progress.keys_seen, progress.keys));
        progress.keys_seen < 2
    });
    assert_eq!(seen, [(1, 3), (2, 3)]);
    let Verdict::Unknown { key, reason: Reason::Stopped } = verdict else { panic!("{verdict}") };
    assert_eq!(&key[..], b"c", "the first key that nobody looked at");
    // Told to stop when everything is known already: then it is known.
    let verdict = check_watched(&history, Budget::default(), &mut |p| p.keys_seen < p.keys);
    assert_eq!(verdict, Verdict::Linearizable);
}

#[test]
fn a_violation_counts_for_more_than_a_doubt() {
    let mut both = hard();
    both.ops.extend(history("1: [z: put a] [z: get b]").ops);
    let budget = Budget { steps: 10_000, configurations: 1_000_000 };
    let Verdict::Violation(window) = check_within(&both, budget) else {
        panic!("the wrong key was not found");
    };
    assert_eq!(&window.key[..], b"z");
}

#[test]
fn a_hard_key_leaves_steps_for_the_others() {
    let mut both = hard();
    both.ops.extend(history("1: [z: put a] [z: get a]").ops);
    let budget = Budget { steps: 1_000, configurations: 1_000_000 };
    let verdict = check_within(&both, budget);
    let Verdict::Unknown { key, .. } = verdict else { panic!("{verdict}") };
    assert_eq!(&key[..], b"x", "only the hard key is in doubt");
}

fn window(drawing: &str) -> Window {
    match check(&history(drawing)) {
        Verdict::Violation(window) => window,
        verdict => panic!("{verdict}\n{drawing}"),
    }
}

fn labels(window: &Window) -> Vec<String> {
    window.ops.iter().map(Operation::to_string).collect()
}

#[test]
fn a_window_is_drawn_as_text() {
    let window = window(
        "1: [put a] [get a] [put b           ]
         2:                   [get b] [get a]",
    );
    let expected = "\
key \"x\", at first \"b\", as get → \"b\" of client 2 (19..25 us) tells
client 2  ! get → \"a\" !
no order explains get → \"a\" of client 2 (27..33 us)
";
    assert_eq!(window.text(), expected);
}

#[test]
fn a_window_keeps_what_the_violation_needs_and_no_more() {
    let window = window(
        "1: [put a           ]  [put e] [get e] [put f]
         2: [put b           ]       [y: put a]
         3:   [get a] [get b]  [get b] [get e]
         4:   [get b] [get a]           [append z]",
    );
    let expected = "\
key \"x\", at first absent
client 1  | put \"a\" ? ~~~~~~~~~~~~~~~~~
client 2  | put \"b\" ? ~~~~~~~~~~~~~~~~~
client 3    | get → \"a\" | | get → \"b\" |
client 4    | get → \"b\" | ! get → \"a\" !
no order explains get → \"a\" of client 4 (11..17 us)
";
    assert_eq!(window.text(), expected);
}

#[test]
fn a_window_does_not_blame_a_get_for_a_put_that_was_left_out() {
    // The put of a is what makes the first get innocent; the append that came twice is to blame.
    let window = window("1: [put a] [get a] [append b] [get ab] [get abb] [put c]");
    assert_eq!(labels(&window).last().unwrap(), "get → \"abb\"");
    assert_eq!(window.ops.len(), 1);
    let told_by = window.told_by.as_ref().unwrap();
    assert_eq!(told_by.to_string(), "get → \"ab\"");
}

#[test]
fn a_large_violation_has_a_small_window() {
    for (name, weights) in [("registers", [5, 5, 0, 0, 0]), ("all", [4, 3, 3, 0, 0])] {
        let mut chance = Chance::new(7);
        let mix = Mix {
            clients: 16,
            ops: 5_000,
            keys: 1,
            weights,
            values: 0,
            unknown: 1,
            tells_more: false,
        };
        let mut history = random::linearizable(&mut chance, mix);
        // A late get is told what an early one was told.
        let gets: Vec<usize> =
            (0..history.ops.len()).filter(|at| history.ops[*at].input.is_read()).collect();
        let (early, late) = (gets[gets.len() / 4], gets[gets.len() / 2]);
        let seen = history.ops[early].output().unwrap().clone();
        let at = history.ops[late].returned().unwrap();
        history.ops[late].outcome = quorate_history::Outcome::Returned { at, output: seen };
        let Verdict::Violation(window) = check(&history) else { panic!("{name}") };
        assert!(window.ops.len() <= 8, "{name}: {}", window.text());
        assert_eq!(window.ops[window.culprit].invoked, history.ops[late].invoked, "{name}");
    }
}

#[test]
fn a_picture_is_well_formed_and_escaped() {
    let window = window("1: [put <a&b>] [get <&>]");
    let svg = window.svg();
    assert!(svg.starts_with("<svg ") && svg.ends_with("</svg>\n"));
    assert!(svg.contains("&lt;&amp;&gt;") && !svg.contains("<&>"));
    assert_eq!(svg.matches("class=\"culprit\"").count(), 1);
    assert_eq!(svg.matches("<text").count(), svg.matches("</text>").count());
}
