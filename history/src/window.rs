//! A violation made small enough to look at.
//!
//! Leaving out an operation must not create a violation that was not there: a Get of a value whose
//! Put was left out proves nothing. Only these steps are taken, and each keeps the proof whole - if
//! what is left is wrong, so was the history:
//!
//! W1. The end is cut off. What had not returned by then has an unknown outcome.
//! W2. The beginning is cut off at an operation that tells what the key held when it took effect,
//!     which becomes the initial state. What had returned before it was invoked is left out. What
//!     was concurrent with it may have come before or after: its outcome becomes unknown.
//! W3. An operation that changed nothing is left out: it only makes demands.
//! W4. Where only Gets observe, and only values: a Put is left out with all Gets of values that
//!     begin with its own; an Append with all Gets of values that contain its own; without appends,
//!     a Delete of unknown outcome with all that found the key absent.
//! W5. What answers tell besides values is forgotten: the versions that Gets saw, lengths, and
//!     whether a Delete that succeeded took place at all.

use crate::check::{Judgement, judge};
use crate::draw;
use crate::operation::{Blob, Input, Operation, Outcome, Output};
use crate::search::Meter;

/// The smallest part of a history found that no order explains. All on one key.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Window {
    /// The key.
    pub key: Blob,
    /// What it held before: value and version, the version 0 when nobody speaks of versions.
    pub initial: Option<(Blob, u64)>,
    /// Which operation tells that, when the window does not begin where the history does.
    pub told_by: Option<Operation>,
    /// The operations, in order of invocation.
    pub ops: Vec<Operation>,
    /// Which of them no order explains: the last to return. Without its answer there is an order.
    pub culprit: usize,
}

impl Window {
    /// The window drawn as text: a row per client, time to the right.
    pub fn text(&self) -> String {
        draw::text(self)
    }

    /// The window drawn as a picture, in SVG.
    pub fn svg(&self) -> String {
        draw::svg(self)
    }
}

/// Steps that all the trimming of one window may take.
const STEPS_MAX: u64 = 20_000_000;

/// Dead ends that one trial may remember.
const CONFIGURATIONS_MAX: usize = 200_000;

/// What the trimming may still cost. A trial costs a step per operation besides its search.
struct Effort {
    steps: u64,
}

impl Effort {
    fn is_wrong(&mut self, ops: &[Operation], initial: Option<&(Blob, u64)>) -> bool {
        self.steps = self.steps.saturating_sub(ops.len() as u64);
        let (steps, configurations) = (self.steps, CONFIGURATIONS_MAX);
        let mut meter = Meter { steps, configurations, go_on: &mut || true };
        let ops: Vec<&Operation> = ops.iter().collect();
        let judgement = judge(&ops, initial, &mut meter);
        self.steps = meter.steps;
        judgement == Judgement::Violation
    }
}

/// Makes a violation small.
pub(crate) fn find(ops: &[&Operation]) -> Window {
    let mut ops: Vec<Operation> = ops.iter().map(|op| (*op).clone()).collect();
    ops.sort_by_key(|op| op.invoked);
    let key = ops.first().map_or_else(Blob::default, |op| op.key.clone());
    let mut window = Window { key, initial: None, told_by: None, ops, culprit: 0 };
    let mut effort = Effort { steps: STEPS_MAX };
    cut_end(&mut window, &mut effort);
    cut_beginning(&mut window, &mut effort);
    leave_out(&mut window, &mut effort);
    forget(&mut window, &mut effort);
    // What is left may be wrong earlier than the whole was, and then need less.
    loop {
        let before = window.ops.len();
        leave_out(&mut window, &mut effort);
        cut_end(&mut window, &mut effort);
        if window.ops.len() == before {
            break;
        }
    }
    let returned = |place: &usize| window.ops[*place].returned();
    window.culprit = (0..window.ops.len()).max_by_key(returned).unwrap_or(0);
    window
}

/// What was known at a moment (W1). Reads that had not returned say nothing.
fn known_at(ops: &[Operation], moment: u64) -> Vec<Operation> {
    let mut known: Vec<Operation> = ops.iter().filter(|op| op.invoked <= moment).cloned().collect();
    for op in &mut known {
        if op.returned().is_some_and(|at| at > moment) {
            op.outcome = Outcome::Unknown;
        }
    }
    known.retain(|op| !op.input.is_read() || op.output().is_some());
    known
}

/// W1: cuts after the first return that makes the history wrong. A longer history is never less
/// wrong, so that moment is found by halving.
fn cut_end(window: &mut Window, effort: &mut Effort) {
    let mut returns: Vec<u64> = window.ops.iter().filter_map(Operation::returned).collect();
    returns.sort_unstable();
    returns.dedup();
    let mut best = None;
    let (mut low, mut high) = (0, returns.len());
    while low < high {
        let middle = low.midpoint(high);
        let known = known_at(&window.ops, returns[middle]);
        if effort.is_wrong(&known, window.initial.as_ref()) {
            best = Some(known);
            high = middle;
        } else {
            low = middle + 1;
        }
    }
    if let Some(known) = best {
        window.ops = known;
    }
}

/// What the key held just after an operation took effect, if its answer tells: value and version.
fn tells(op: &Operation, has_versions: bool) -> Option<Option<(Blob, u64)>> {
    match (&op.input, op.output()?) {
        (_, Output::Absent | Output::ErrNoKey | Output::Deleted { .. }) => Some(None),
        (_, Output::Value { value, version: Some(version) }) => {
            Some(Some((value.clone(), *version)))
        }
        (_, Output::Value { value, version: None }) | (Input::Put { value }, _)
            if !has_versions =>
        {
            Some(Some((value.clone(), 0)))
        }
        (Input::Cas { value, .. }, Output::Stored { version }) => {
            Some(Some((value.clone(), *version)))
        }
        _ => None,
    }
}

/// The history since an operation (W2).
fn since(ops: &[Operation], first: &Operation) -> Vec<Operation> {
    let first_returned = first.returned().unwrap_or(u64::MAX);
    let is_before = |op: &&Operation| op.returned().is_some_and(|at| at < first.invoked);
    let mut rest: Vec<Operation> =
        ops.iter().filter(|op| !is_before(op) && *op != first).cloned().collect();
    for op in rest.iter_mut().filter(|op| op.invoked <= first_returned) {
        op.outcome = Outcome::Unknown;
    }
    rest.retain(|op| !op.input.is_read() || op.output().is_some());
    if !ops.iter().any(|op| matches!(op.input, Input::Delete)) {
        // Versions only grow: what waits for one that is gone can no longer happen.
        let version = match first.output() {
            Some(Output::Value { version: Some(version), .. } | Output::Stored { version }) => {
                *version
            }
            _ => 0,
        };
        let is_gone =
            |input: &Input| matches!(input, Input::Cas { version: v, .. } if *v < version);
        rest.retain(|op| op.output().is_some() || !is_gone(&op.input));
    }
    rest
}

/// W2: cuts at the latest beginning that keeps the violation. The latest are all tried, those
/// further back ever more sparsely.
fn cut_beginning(window: &mut Window, effort: &mut Effort) {
    let has_versions = window.ops.iter().any(Operation::speaks_of_versions);
    let mut firsts: Vec<usize> = (0..window.ops.len()).collect();
    firsts.retain(|place| tells(&window.ops[*place], has_versions).is_some());
    firsts.sort_by_key(|place| std::cmp::Reverse(window.ops[*place].returned()));
    let mut back = 0;
    while back < firsts.len() && effort.steps > 0 {
        let first = &window.ops[firsts[back]];
        if let Some(initial) = tells(first, has_versions) {
            let rest = since(&window.ops, first);
            if effort.is_wrong(&rest, initial.as_ref()) {
                window.told_by = Some(first.clone());
                (window.ops, window.initial) = (rest, initial);
                return;
            }
        }
        back += 1 + back / 16;
    }
}

/// W5: forgets what answers tell besides values, if values alone are wrong.
fn forget(window: &mut Window, effort: &mut Effort) {
    if window.ops.iter().any(|op| matches!(op.input, Input::Cas { .. })) {
        return;
    }
    let mut ops = window.ops.clone();
    for op in &mut ops {
        let Outcome::Returned { output, .. } = &mut op.outcome else { continue };
        match output {
            Output::Value { version, .. } => *version = None,
            Output::Length(_) => *output = Output::Done,
            Output::Deleted { present: true } => op.outcome = Outcome::Unknown,
            _ => {}
        }
    }
    if ops != window.ops && effort.is_wrong(&ops, window.initial.as_ref()) {
        window.ops = ops;
        if let Some((_, version)) = &mut window.initial {
            *version = 0;
        }
    }
}

/// W3 and W4: leaves out as many as possible, by halves, quarters and so on down to single ones.
fn leave_out(window: &mut Window, effort: &mut Effort) {
    let mut size = window.ops.len().div_ceil(2);
    while size > 0 && effort.steps > 0 {
        let mut end = window.ops.len();
        while end > 0 && effort.steps > 0 {
            let start = end.saturating_sub(size);
            let rest = without(&window.ops, start..end);
            if rest.len() < window.ops.len() && effort.is_wrong(&rest, window.initial.as_ref()) {
                window.ops = rest;
            }
            end = start.min(window.ops.len());
        }
        size /= 2;
    }
}

/// The operations without those of a range that may be left out, and without what goes with them.
fn without(ops: &[Operation], range: std::ops::Range<usize>) -> Vec<Operation> {
    let is_blind = !ops.iter().any(|op| {
        op.speaks_of_versions()
            || matches!(op.output(), Some(Output::Length(_) | Output::Deleted { present: true }))
    });
    let has_appends = ops.iter().any(|op| matches!(op.input, Input::Append { .. }));
    let mut stays = vec![true; ops.len()];
    for place in range {
        let op = &ops[place];
        let changed_nothing = op.changed_nothing();
        let is_bare_delete = matches!(op.input, Input::Delete) && !has_appends;
        let is_write = matches!(op.input, Input::Put { .. } | Input::Append { .. });
        if changed_nothing || (is_blind && (is_write || is_bare_delete)) {
            stays[place] = false;
        }
        if changed_nothing || stays[place] {
            continue;
        }
        for (stays, read) in stays.iter_mut().zip(ops) {
            *stays &= !may_see(read, &op.input);
        }
    }
    ops.iter().zip(&stays).filter(|(_, stays)| **stays).map(|(op, _)| op.clone()).collect()
}

/// Whether an operation may have seen what a write left behind, appends after it included.
fn may_see(read: &Operation, write: &Input) -> bool {
    match (read.output(), write) {
        (Some(Output::Value { value: seen, .. }), Input::Put { value }) => seen.starts_with(value),
        (Some(Output::Value { value: seen, .. }), Input::Append { value }) => {
            value.is_empty() || seen.windows(value.len()).any(|part| part == &value[..])
        }
        (Some(Output::Absent | Output::Deleted { present: false }), Input::Delete) => true,
        _ => false,
    }
}
