//! Which operations of one connection may be under way together.
//!
//! The clerk keeps the order of writes, but a read takes another way than a write and may overtake
//! it. A client that sends `SET k 1` and `GET k` in one go must nevertheless see its own write, and
//! must not see the write that it sends after a read. So the two are kept apart when they share a
//! key; all others go together.

use std::collections::BTreeMap;

use quorate_kvserver::{Key, Op};
use quorate_shardmaster::Command;

/// The keys that an operation reads or writes.
#[derive(Debug)]
pub(crate) struct Footprint {
    keys: Keys,
    is_read: bool,
}

#[derive(Debug)]
enum Keys {
    One(Key),
    Some(Vec<Key>),
    /// The whole store.
    All,
    /// Nothing that is stored: administration is not about keys.
    None,
}

impl Footprint {
    pub(crate) fn of(op: &Op) -> Footprint {
        let keys = match op {
            Op::Get { key }
            | Op::Put { key, .. }
            | Op::Append { key, .. }
            | Op::Take { key }
            | Op::Add { key, .. }
            | Op::Overwrite { key, .. } => Keys::One(key.clone()),
            Op::GetMany { keys } | Op::Exists { keys } | Op::Delete { keys } => {
                Keys::Some(keys.clone())
            }
            Op::PutMany { pairs } => Keys::Some(pairs.iter().map(|(key, _)| key.clone()).collect()),
            Op::Count { .. } => Keys::All,
        };
        Footprint { keys, is_read: op.is_read() }
    }

    /// That of a call to the shardmaster, which is in nobody's way.
    pub(crate) fn of_call(call: &Command) -> Footprint {
        Footprint { keys: Keys::None, is_read: matches!(call, Command::Query { .. }) }
    }

    /// Whether the operation leaves the store as it is.
    pub(crate) fn is_read(&self) -> bool {
        self.is_read
    }

    fn keys(&self) -> &[Key] {
        match &self.keys {
            Keys::One(key) => std::slice::from_ref(key),
            Keys::Some(keys) => keys,
            Keys::All | Keys::None => &[],
        }
    }
}

/// How many operations under way read and write something.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Uses {
    reads: u64,
    writes: u64,
}

/// The operations of one connection that are under way.
#[derive(Debug, Default)]
pub(crate) struct UnderWay {
    keys: BTreeMap<Key, Uses>,
    /// All writes, and the reads of the whole store.
    store: Uses,
}

impl UnderWay {
    /// Whether an operation must wait for one that is under way.
    pub(crate) fn conflicts(&self, footprint: &Footprint) -> bool {
        let whole = match (footprint.is_read, &footprint.keys) {
            (_, Keys::None) => false,
            (true, keys) => matches!(keys, Keys::All) && self.store.writes > 0,
            (false, _) => self.store.reads > 0,
        };
        whole
            || footprint
                .keys()
                .iter()
                .filter_map(|key| self.keys.get(key))
                .any(|uses| if footprint.is_read { uses.writes > 0 } else { uses.reads > 0 })
    }

    pub(crate) fn begin(&mut self, footprint: &Footprint) {
        match (footprint.is_read, &footprint.keys) {
            (_, Keys::None) => {}
            (false, _) => self.store.writes += 1,
            (true, Keys::All) => self.store.reads += 1,
            (true, _) => {}
        }
        for key in footprint.keys() {
            let uses = self.keys.entry(key.clone()).or_default();
            *(if footprint.is_read { &mut uses.reads } else { &mut uses.writes }) += 1;
        }
    }

    pub(crate) fn end(&mut self, footprint: &Footprint) {
        match (footprint.is_read, &footprint.keys) {
            (_, Keys::None) => {}
            (false, _) => self.store.writes -= 1,
            (true, Keys::All) => self.store.reads -= 1,
            (true, _) => {}
        }
        for key in footprint.keys() {
            let uses = self.keys.get_mut(key).expect("G2: what ends has begun");
            *(if footprint.is_read { &mut uses.reads } else { &mut uses.writes }) -= 1;
            if *uses == Uses::default() {
                self.keys.remove(key);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn under_way(ops: &[Op]) -> UnderWay {
        let mut under_way = UnderWay::default();
        ops.iter().for_each(|op| under_way.begin(&Footprint::of(op)));
        under_way
    }

    #[test]
    fn only_reads_and_writes_of_the_same_key_are_kept_apart() {
        let get = |key: &'static str| Op::Get { key: key.into() };
        let add = |key: &'static str| Op::Add { key: key.into(), delta: 1 };
        let many = |keys: [&'static str; 2]| Op::GetMany { keys: keys.map(Key::from).into() };
        let del = |keys: [&'static str; 2]| Op::Delete { keys: keys.map(Key::from).into() };
        for (before, next, expected) in [
            (get("a"), get("a"), false),
            (add("a"), add("a"), false),
            (add("a"), get("a"), true),
            (get("a"), add("a"), true),
            (add("a"), get("b"), false),
            (del(["a", "b"]), many(["c", "b"]), true),
            (many(["a", "b"]), del(["c", "d"]), false),
            (Op::count_all(), add("a"), true),
            (add("a"), Op::count_all(), true),
            (Op::count_all(), get("a"), false),
            (get("a"), Op::count_all(), false),
        ] {
            let under_way = under_way(std::slice::from_ref(&before));
            assert_eq!(under_way.conflicts(&Footprint::of(&next)), expected, "{before:?} {next:?}");
        }
    }

    #[test]
    fn administration_waits_for_nothing_and_nothing_for_it() {
        let calls = [
            Command::Query { number: None },
            Command::Leave { groups: vec![], even_the_last: true },
        ];
        for call in calls.iter().map(Footprint::of_call) {
            let mut busy = under_way(&[Op::count_all(), Op::Add { key: "a".into(), delta: 1 }]);
            assert!(!busy.conflicts(&call));
            busy.end(&Footprint::of(&Op::count_all()));
            busy.end(&Footprint::of(&Op::Add { key: "a".into(), delta: 1 }));
            busy.begin(&call);
            assert!(!busy.conflicts(&Footprint::of(&Op::count_all())));
            assert!(!busy.conflicts(&Footprint::of(&Op::Add { key: "a".into(), delta: 1 })));
            busy.end(&call);
            assert_eq!(busy.store, Uses::default());
        }
    }

    #[test]
    fn nothing_is_left_of_what_has_ended() {
        let ops = [
            Op::Delete { keys: vec!["a".into(), "a".into()] },
            Op::Add { key: "a".into(), delta: 1 },
            Op::count_all(),
        ];
        let mut under_way = under_way(&ops);
        ops.iter().for_each(|op| under_way.end(&Footprint::of(op)));
        assert!(under_way.keys.is_empty());
        assert_eq!(under_way.store, Uses::default());
    }
}
