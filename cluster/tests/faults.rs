//! The fault switches: each does what it says, and only that.

use std::time::Duration;

use quorate_cluster::{Faults, FaultsError, LinkFaults, Loss, Switches, Verdict};
use quorate_protocol::NodeId;
use quorate_stage::{Chance, Class};

const A: NodeId = NodeId(1);
const B: NodeId = NodeId(2);
const C: NodeId = NodeId(3);

fn on(switches: Switches) -> Faults {
    let mut faults = Faults::none();
    faults.set(A, B, switches).unwrap();
    faults
}

/// How many of 10 000 parcels meet a verdict.
fn count(faults: &Faults, class: Class, is: impl Fn(Verdict) -> bool) -> usize {
    let mut chance = Chance::new(1);
    (0..10_000).filter(|_| is(faults.decide(A, B, class, &mut chance))).count()
}

#[test]
fn without_faults_all_passes_at_once_and_no_chance_is_drawn() {
    let faults = Faults::none();
    assert!(faults.is_none());
    let (mut used, mut fresh) = (Chance::new(3), Chance::new(3));
    for class in [Class::Request, Class::Answer] {
        assert_eq!(faults.decide(A, B, class, &mut used), Verdict::Once(Duration::ZERO));
    }
    assert_eq!(used.number(), fresh.number());
}

#[test]
fn a_cut_stops_one_direction() {
    let faults = on(Switches::CUT);
    let mut chance = Chance::new(1);
    for class in [Class::Request, Class::Answer] {
        assert_eq!(faults.decide(A, B, class, &mut chance), Verdict::Lost(Loss::Cut));
        assert_eq!(faults.decide(B, A, class, &mut chance), Verdict::Once(Duration::ZERO));
        assert_eq!(faults.decide(A, C, class, &mut chance), Verdict::Once(Duration::ZERO));
    }
    assert!(faults.is_cut(A, B) && !faults.is_cut(B, A));
    let mut both = Faults::none();
    both.cut(A, B);
    assert!(both.is_cut(A, B) && both.is_cut(B, A) && !both.is_cut(A, C));
    both.heal(A, B);
    assert!(!both.is_cut(A, B) && both.is_cut(B, A));
    both.heal(B, A);
    assert!(both.is_none());
}

#[test]
fn the_deaf_still_hear_answers() {
    let faults = on(Switches { deaf: true, ..Switches::NONE });
    assert_eq!(count(&faults, Class::Request, |v| v == Verdict::Lost(Loss::Deaf)), 10_000);
    assert_eq!(count(&faults, Class::Answer, |v| v == Verdict::Once(Duration::ZERO)), 10_000);
}

#[test]
fn reply_loss_takes_answers_only() {
    let faults = on(Switches { reply_loss_permille: 100, ..Switches::NONE });
    let lost = count(&faults, Class::Answer, |v| v == Verdict::Lost(Loss::ReplyLost));
    assert!((800..1200).contains(&lost), "{lost}");
    assert_eq!(count(&faults, Class::Request, |v| v == Verdict::Once(Duration::ZERO)), 10_000);
}

#[test]
fn drop_takes_its_share_of_everything() {
    for class in [Class::Request, Class::Answer] {
        let faults = on(Switches { drop_permille: 250, ..Switches::NONE });
        let lost = count(&faults, class, |v| v == Verdict::Lost(Loss::Dropped));
        assert!((2200..2800).contains(&lost), "{lost}");
        let faults = on(Switches { drop_permille: 1000, ..Switches::NONE });
        assert_eq!(count(&faults, class, |v| v == Verdict::Lost(Loss::Dropped)), 10_000);
    }
}

#[test]
fn duplicates_come_twice_each_with_a_delay_of_its_own() {
    let switches = Switches { duplicate_permille: 500, ..Switches::NONE };
    let twice = |v: Verdict| v.delays().count() == 2;
    let many = count(&on(switches), Class::Request, twice);
    assert!((4700..5300).contains(&many), "{many}");
    let delayed = Switches { duplicate_permille: 1000, delay_us_max: 1_000_000, ..switches };
    let differ = |v: Verdict| matches!(v, Verdict::Twice(first, second) if first != second);
    assert!(count(&on(delayed), Class::Request, differ) > 9_900);
}

#[test]
fn delays_fill_their_range() {
    let faults = on(Switches { delay_us_min: 100, delay_us_max: 103, ..Switches::NONE });
    for us in 100..=103 {
        let is = |v| v == Verdict::Once(Duration::from_micros(us));
        let many = count(&faults, Class::Answer, is);
        assert!((2200..2800).contains(&many), "{us}: {many}");
    }
}

#[test]
fn what_holds_everywhere_gives_way_to_what_a_link_says() {
    let link = LinkFaults { from: A, to: B, switches: Switches::NONE };
    let faults = Faults::new(Switches::CUT, vec![link]).unwrap();
    assert!(!faults.is_cut(A, B) && faults.is_cut(B, A) && faults.is_cut(B, C));
}

#[test]
fn the_same_seed_decides_the_same() {
    let switches = Switches {
        drop_permille: 100,
        reply_loss_permille: 100,
        duplicate_permille: 100,
        delay_us_max: 5000,
        ..Switches::NONE
    };
    let run = |seed| {
        let mut chance = Chance::new(seed);
        let faults = on(switches);
        (0..100).map(|_| faults.decide(A, B, Class::Answer, &mut chance)).collect::<Vec<_>>()
    };
    assert_eq!(run(5), run(5));
    assert_ne!(run(5), run(6));
}

#[test]
fn faults_are_written_by_hand_and_nonsense_is_refused() {
    let text = r#"{"links": [
        {"from": 2, "to": 1, "switches": {"cut": true}},
        {"from": 1, "to": 2, "switches": {"drop_permille": 10, "delay_us_max": 5}}
    ]}"#;
    let faults: Faults = serde_json::from_str(text).unwrap();
    assert!(faults.is_cut(B, A));
    assert_eq!(faults.switches(A, B).drop_permille, 10);
    let again: Faults = serde_json::from_str(&serde_json::to_string(&faults).unwrap()).unwrap();
    assert_eq!(again, faults);
    let none: Faults = serde_json::from_str("{}").unwrap();
    assert!(none.is_none());
    for (text, part) in [
        (r#"{"everywhere": {"drop_permille": 1001}}"#, "drop_permille is 1001"),
        (r#"{"everywhere": {"delay_us_min": 5}}"#, "above delay_us_max"),
        (r#"{"everywhere": {"typo": 5}}"#, "unknown field `typo`"),
        (r#"{"typo": {}}"#, "unknown field `typo`"),
        (
            r#"{"links": [{"from": 1, "to": 2, "switches": {}}, {"from": 1, "to": 2,
             "switches": {}}]}"#,
            "the link n1 to n2 stands twice",
        ),
    ] {
        let error = serde_json::from_str::<Faults>(text).unwrap_err().to_string();
        assert!(error.contains(part), "{error}");
    }
    let beyond = Switches { duplicate_permille: 2000, ..Switches::NONE };
    let error = Faults::none().set(A, B, beyond).unwrap_err();
    assert_eq!(error, FaultsError::Permille { what: "duplicate_permille", permille: 2000 });
}
