//! The judge: is there one order of all operations, in keeping with time, that explains every
//! answer? Each key is judged by itself, which Herlihy & Wing (1990, theorem 1) allow.
//!
//! Values are compared by fingerprint while searching. An order that was found is then replayed
//! with the bytes themselves, so *linearizable* never rests on a fingerprint. That two of the
//! configurations a search remembers share one, and a good history is called wrong for it, has a
//! chance far below that of the memory having failed.

use std::cell::Cell;
use std::collections::BTreeMap;
use std::fmt;

use crate::fingerprint::Print;
use crate::operation::{Blob, History, Input, Operation, Output, Shown};
use crate::plan::{Plan, State};
use crate::search::{Found, Meter, Search};
use crate::window::{self, Window};

/// What a judgement may cost.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Budget {
    /// Attempts to let an operation take effect, over all keys; a good history needs little more
    /// than one per write. A second of one core makes two to ten millions.
    pub steps: u64,
    /// Dead ends that are remembered, per key, at up to 43 bytes each.
    pub configurations: usize,
}

impl Default for Budget {
    /// Some ten to twenty seconds of one core, and 200 MiB.
    fn default() -> Self {
        Budget { steps: 50_000_000, configurations: 4_000_000 }
    }
}

/// Why there is no verdict.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reason {
    /// The steps of the budget ran out.
    Steps,
    /// The configurations of the budget ran out.
    Configurations,
    /// The caller said to stop.
    Stopped,
    /// Two different values have one fingerprint.
    Collision,
}

impl fmt::Display for Reason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Reason::Steps => write!(f, "the budget of steps ran out"),
            Reason::Configurations => write!(f, "the budget of configurations ran out"),
            Reason::Stopped => write!(f, "the check was stopped"),
            Reason::Collision => write!(f, "two values have one fingerprint"),
        }
    }
}

/// What the judge says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// There is an order that explains every answer.
    Linearizable,
    /// There is none, and here is where.
    Violation(Window),
    /// No violation was found, and at least one key was too hard for the budget.
    Unknown {
        /// The first such key.
        key: Blob,
        /// Why.
        reason: Reason,
    },
}

impl fmt::Display for Verdict {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Verdict::Linearizable => write!(f, "linearizable"),
            Verdict::Violation(window) => write!(f, "violation\n{}", window.text()),
            Verdict::Unknown { key, reason } => write!(f, "unknown: key {}: {reason}", Shown(key)),
        }
    }
}

/// What became of one key.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Judgement {
    Linearizable,
    Violation,
    Unknown(Reason),
}

/// Judges a history within the default budget.
pub fn check(history: &History) -> Verdict {
    check_within(history, Budget::default())
}

/// Judges a history within a budget.
pub fn check_within(history: &History, budget: Budget) -> Verdict {
    check_while(history, budget, &mut || true)
}

/// Judges a history within a budget and for as long as the caller wishes, who is asked every few
/// thousand steps and may look at a clock.
pub fn check_while(history: &History, budget: Budget, go_on: &mut dyn FnMut() -> bool) -> Verdict {
    check_watched(history, budget, &mut |_| go_on())
}

/// How far a check is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Progress {
    /// How many keys have a verdict, or have been put off as too hard for a first round.
    pub keys_seen: usize,
    /// How many there are.
    pub keys: usize,
}

/// As [`check_while`], and tells the caller how far it is: every few thousand steps and after every
/// key.
pub fn check_watched(
    history: &History,
    budget: Budget,
    go_on: &mut dyn FnMut(Progress) -> bool,
) -> Verdict {
    let mut by_key: BTreeMap<&[u8], Vec<&Operation>> = BTreeMap::new();
    for op in &history.ops {
        by_key.entry(&op.key).or_default().push(op);
    }
    let (keys, seen) = (by_key.len(), Cell::new(0));
    let mut tell = || go_on(Progress { keys_seen: seen.get(), keys });
    let (steps, configurations) = (budget.steps, budget.configurations);
    let mut meter = Meter { steps, configurations, go_on: &mut tell };
    let mut doubts: Vec<(&[u8], Reason)> = Vec::new();
    // A first round in which no hard key can use up what the others need, then a second.
    let share = (budget.steps / 2) / (by_key.len() as u64).max(1);
    let mut stopped = None;
    for (key, ops) in &by_key {
        match judge_with_share(ops, share, &mut meter) {
            Judgement::Linearizable => {}
            Judgement::Violation => return Verdict::Violation(window::find(ops)),
            Judgement::Unknown(Reason::Stopped) => stopped = Some(*key),
            Judgement::Unknown(reason) => doubts.push((key, reason)),
        }
        seen.set(seen.get() + 1);
        if stopped.is_none() && !(meter.go_on)() {
            stopped = by_key.keys().nth(seen.get()).or(doubts.first().map(|(key, _)| key)).copied();
        }
        if let Some(key) = stopped {
            return Verdict::Unknown { key: key.into(), reason: Reason::Stopped };
        }
    }
    let mut unknown = None;
    for (key, reason) in doubts {
        let ops = &by_key[key];
        let again = match reason {
            Reason::Steps => judge(ops, None, &mut meter),
            _ => Judgement::Unknown(reason),
        };
        match again {
            Judgement::Linearizable => {}
            Judgement::Violation => return Verdict::Violation(window::find(ops)),
            Judgement::Unknown(Reason::Stopped) => {
                return Verdict::Unknown { key: key.into(), reason: Reason::Stopped };
            }
            Judgement::Unknown(reason) => {
                unknown.get_or_insert(Verdict::Unknown { key: key.into(), reason });
            }
        }
    }
    unknown.unwrap_or(Verdict::Linearizable)
}

/// Judges a key with no more than its share of the steps.
fn judge_with_share(ops: &[&Operation], share: u64, meter: &mut Meter<'_>) -> Judgement {
    let share = share.min(meter.steps);
    let saved = meter.steps - share;
    meter.steps = share;
    let judgement = judge(ops, None, meter);
    meter.steps += saved;
    judgement
}

/// Judges one key that begins with a value and version, or absent.
pub(crate) fn judge(
    ops: &[&Operation],
    initial: Option<&(Blob, u64)>,
    meter: &mut Meter<'_>,
) -> Judgement {
    let plan = Plan::new(ops.iter().copied(), initial_state(initial));
    match Search::new(&plan).run(meter) {
        Found::Order(order) if replay(&plan, &order, initial) => Judgement::Linearizable,
        Found::Order(_) => Judgement::Unknown(Reason::Collision),
        Found::Nothing => Judgement::Violation,
        Found::OutOfSteps => Judgement::Unknown(Reason::Steps),
        Found::OutOfMemory => Judgement::Unknown(Reason::Configurations),
        Found::Stopped => Judgement::Unknown(Reason::Stopped),
    }
}

fn initial_state(initial: Option<&(Blob, u64)>) -> State {
    match initial {
        Some((value, version)) => {
            State { is_present: true, version: *version, print: Print::of(value) }
        }
        None => State::default(),
    }
}

/// Applies the operations in that order to real bytes; whether every answer is the one given.
fn replay(plan: &Plan<'_>, order: &[u32], initial: Option<&(Blob, u64)>) -> bool {
    let mut stored = initial.map(|(value, version)| (value.to_vec(), *version));
    order.iter().all(|op| {
        let op = plan.source[*op as usize];
        apply(&mut stored, &op.input, op.output())
    })
}

/// Applies one operation; whether that answer is the right one. No answer is always right.
fn apply(stored: &mut Option<(Vec<u8>, u64)>, input: &Input, output: Option<&Output>) -> bool {
    let version = stored.as_ref().map_or(0, |(_, version)| *version);
    match input {
        Input::Get => match (stored.as_ref(), output) {
            (None, Some(answer)) => *answer == Output::Absent,
            (Some((bytes, _)), Some(Output::Value { value, version: seen })) => {
                **value == bytes[..] && seen.is_none_or(|seen| seen == version)
            }
            (_, answer) => answer.is_none(),
        },
        Input::Put { value } => {
            *stored = Some((value.to_vec(), version + 1));
            matches!(output, None | Some(Output::Done))
        }
        Input::Append { value } => {
            let (bytes, version) = stored.get_or_insert_default();
            bytes.extend_from_slice(value);
            *version += 1;
            match output {
                Some(Output::Length(length)) => *length == bytes.len() as u64,
                answer => matches!(answer, None | Some(Output::Done)),
            }
        }
        Input::Delete => {
            let was_present = stored.take().is_some();
            output.is_none_or(|answer| *answer == Output::Deleted { present: was_present })
        }
        Input::Cas { value, version: wanted } => {
            let answer = if *wanted == version {
                *stored = Some((value.to_vec(), version + 1));
                Output::Stored { version: version + 1 }
            } else if stored.is_none() {
                Output::ErrNoKey
            } else {
                Output::ErrVersion
            };
            output.is_none_or(|output| *output == answer)
        }
    }
}
