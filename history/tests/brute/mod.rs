//! A checker that cannot be wrong: it tries every order of all operations on all keys at once, with
//! the bytes themselves. It shares nothing with the crate but the types.

use std::collections::BTreeMap;

use quorate_history::{Blob, History, Input, Operation, Output};

/// What the store holds: value and version of each key that is present.
type Store = BTreeMap<Blob, (Vec<u8>, u64)>;

/// Whether some order explains every answer.
pub(crate) fn is_linearizable(history: &History) -> bool {
    extend(&history.ops, 0, &Store::new())
}

/// Whether the operations outside the set can follow, given what the store holds.
fn extend(ops: &[Operation], done: u32, store: &Store) -> bool {
    let waits = |place: usize| done >> place & 1 == 0;
    if (0..ops.len()).all(|place| !waits(place) || ops[place].returned().is_none()) {
        return true;
    }
    (0..ops.len()).filter(|place| waits(*place)).any(|place| {
        let is_too_early = (0..ops.len()).any(|other| {
            waits(other) && ops[other].returned().is_some_and(|at| at < ops[place].invoked)
        });
        if is_too_early {
            return false;
        }
        let mut next = store.clone();
        let answer = apply(&mut next, &ops[place]);
        let is_explained = match (ops[place].output(), answer) {
            (None, _) => true,
            (Some(Output::Done), Output::Length(_)) => true,
            (Some(Output::Value { value, version: None }), Output::Value { value: held, .. }) => {
                *value == held
            }
            (Some(seen), answer) => *seen == answer,
        };
        is_explained && extend(ops, done | 1 << place, &next)
    })
}

fn apply(store: &mut Store, op: &Operation) -> Output {
    let key = op.key.clone();
    let held = store.get(&key).cloned();
    let next = held.as_ref().map_or(1, |(_, version)| version + 1);
    match (&op.input, held) {
        (Input::Get, None) => Output::Absent,
        (Input::Get, Some((value, version))) => {
            Output::Value { value: value.into(), version: Some(version) }
        }
        (Input::Put { value }, _) => {
            store.insert(key, (value.to_vec(), next));
            Output::Done
        }
        (Input::Append { value }, held) => {
            let mut whole = held.map_or(Vec::new(), |(value, _)| value);
            whole.extend(value.iter());
            let length = whole.len() as u64;
            store.insert(key, (whole, next));
            Output::Length(length)
        }
        (Input::Delete, held) => {
            store.remove(&key);
            Output::Deleted { present: held.is_some() }
        }
        (Input::Cas { value, version }, held) => match (held, *version) {
            (None, wanted) if wanted > 0 => Output::ErrNoKey,
            (Some((_, stored)), wanted) if stored != wanted => Output::ErrVersion,
            _ => {
                store.insert(key, (value.to_vec(), next));
                Output::Stored { version: next }
            }
        },
    }
}
