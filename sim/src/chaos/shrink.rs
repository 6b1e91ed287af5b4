//! The same violation with fewer steps.

use super::{play, schedule::Schedule};

/// What is left out shifts all that chance decides after it. So a part that does not fail by itself
/// gets a few more chances.
const SEEDS: u64 = 5;

/// Leaves out steps as long as the same rule is broken: halves first, then ever smaller parts, down
/// to single steps (delta debugging: Zeller & Hildebrandt, *Simplifying and Isolating
/// Failure-Inducing Input*, 2002). `rule` is what the schedule breaks; `go_on` is told, before each
/// attempt, how many steps are left, and says whether there is time for it.
pub fn shrink(schedule: &Schedule, rule: &str, mut go_on: impl FnMut(usize) -> bool) -> Schedule {
    let mut best = schedule.clone();
    // `None`: there is no time for more.
    let mut fails = |candidate: &mut Schedule, left: usize| {
        for _ in 0..SEEDS {
            if !go_on(left) {
                return None;
            }
            if play(candidate).is_err_and(|failed| failed.violation.rule == rule) {
                return Some(true);
            }
            candidate.seed = candidate.seed.wrapping_add(1);
        }
        Some(false)
    };
    let mut part = best.steps.len().div_ceil(2);
    while part > 0 {
        let mut at = 0;
        let mut has_shrunk = false;
        while at < best.steps.len() {
            let mut candidate = best.clone();
            let end = (at + part).min(candidate.steps.len());
            candidate.steps.drain(at..end);
            match fails(&mut candidate, best.steps.len()) {
                Some(true) => {
                    best = candidate;
                    has_shrunk = true;
                }
                Some(false) => at = end,
                None => return best,
            }
        }
        // Single steps again, as long as one of them can go: each may have needed another.
        part = if part == 1 && has_shrunk { 1 } else { part / 2 };
    }
    for mut candidate in simpler(&best) {
        match fails(&mut candidate, best.steps.len()) {
            Some(true) => best = candidate,
            Some(false) => {}
            None => return best,
        }
    }
    best
}

/// The same with clients that are not needed left out.
fn simpler(schedule: &Schedule) -> Vec<Schedule> {
    use super::{Fault, schedule::Action};
    let uses = |client: usize| {
        schedule.steps.iter().any(|step| match &step.action {
            Action::Ask(ask) => ask.client == client,
            Action::Fault(Fault::Vanish { client: gone }) => *gone == client,
            Action::Fault(_) | Action::Change(_) => false,
        })
    };
    let needed = (0..schedule.clients.len()).rev().find(|client| uses(*client));
    let mut fewer = schedule.clone();
    fewer.clients.truncate(needed.map_or(1, |last| last + 1));
    if fewer == *schedule { vec![] } else { vec![fewer] }
}
