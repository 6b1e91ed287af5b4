//! What each operation does, case by case, and against a naive model.

use std::collections::BTreeMap;

use bytes::Bytes;
use quorate_kvserver::{
    ANSWER_BYTES_MAX, Condition, HASH_SLOT_COUNT, HashSlot, KEY_BYTES_MAX, KvError, Op, Reply,
    Store, VALUE_BYTES_MAX, Version, Versioned,
};
use rand::{Rng, SeedableRng};
use rand_chacha::ChaCha8Rng;

fn b(text: &str) -> Bytes {
    Bytes::copy_from_slice(text.as_bytes())
}

fn get(key: &str) -> Op {
    Op::Get { key: b(key) }
}

fn put(key: &str, value: &str, condition: Condition, want_old: bool) -> Op {
    Op::Put { key: b(key), value: b(value), condition, want_old }
}

fn set(key: &str, value: &str) -> Op {
    put(key, value, Condition::Always, false)
}

fn present(value: &str, version: u64) -> Reply {
    Reply::Value(Some(Versioned { value: b(value), version: Version(version) }))
}

fn stored(version: u64, old: Option<&str>) -> Reply {
    Reply::Stored { version: Version(version), old: old.map(b) }
}

#[test]
fn a_version_counts_the_changes_since_the_key_was_made() {
    let mut store = Store::new();
    assert_eq!(store.query(&get("k")), Reply::Value(None));
    assert_eq!(store.apply(&set("k", "a")), stored(1, None));
    assert_eq!(store.apply(&set("k", "a")), stored(2, None), "the same value is a change too");
    assert_eq!(store.apply(&Op::Append { key: b("k"), value: b("bc") }), Reply::Length(3));
    assert_eq!(store.query(&get("k")), present("abc", 3));
    assert_eq!(store.apply(&Op::Delete { keys: vec![b("k"), b("k"), b("x")] }), Reply::Count(1));
    assert_eq!(store.apply(&set("k", "again")), stored(1, None));
    assert_eq!(store.apply(&Op::Take { key: b("k") }), present("again", 1));
    assert_eq!(store.apply(&Op::Take { key: b("k") }), Reply::Value(None));
    assert_eq!((store.len(), store.bytes()), (0, 0));
}

#[test]
fn conditions_hold_or_leave_everything_as_it_was() {
    use Condition::{IfAbsent, IfPresent};
    let mut store = Store::new();
    assert_eq!(store.apply(&put("k", "a", IfPresent, true)), Reply::NotStored { old: None });
    assert_eq!(store.apply(&put("k", "a", IfAbsent, true)), stored(1, None));
    let kept = Reply::NotStored { old: Some(b("a")) };
    assert_eq!(store.apply(&put("k", "b", IfAbsent, true)), kept);
    assert_eq!(store.apply(&put("k", "b", IfAbsent, false)), Reply::NotStored { old: None });
    assert_eq!(store.apply(&put("k", "b", IfPresent, true)), stored(2, Some("a")));
    assert_eq!(store.query(&get("k")), present("b", 2));
}

#[test]
fn a_versioned_put_meets_its_version_or_says_why_not() {
    let at = |version| Condition::IfVersion(Version(version));
    let mut store = Store::new();
    assert_eq!(store.apply(&put("k", "a", at(1), false)), Reply::Error(KvError::NoKey));
    assert_eq!(store.apply(&put("k", "a", at(0), false)), stored(1, None));
    let refused = |stored| Reply::Error(KvError::Version { stored: Version(stored) });
    assert_eq!(store.apply(&put("k", "b", at(0), true)), refused(1));
    assert_eq!(store.apply(&put("k", "b", at(2), true)), refused(1));
    assert_eq!(store.apply(&put("k", "b", at(1), true)), stored(2, Some("a")));
    assert_eq!(store.apply(&put("k", "c", at(1), false)), refused(2));
    assert_eq!(store.query(&get("k")), present("b", 2));
}

#[test]
fn several_keys_at_once() {
    let mut store = Store::new();
    let pairs = vec![(b("a"), b("1")), (b("b"), b("2")), (b("a"), b("3"))];
    assert_eq!(store.apply(&Op::PutMany { pairs }), stored(2, None), "of the last pair");
    assert_eq!(store.apply(&Op::PutMany { pairs: vec![] }), stored(0, None));
    let keys = vec![b("b"), b("none"), b("a"), b("a")];
    let values = vec![Some(b("2")), None, Some(b("3")), Some(b("3"))];
    assert_eq!(store.query(&Op::GetMany { keys: keys.clone() }), Reply::Values(values));
    assert_eq!(store.query(&Op::Exists { keys }), Reply::Count(3));
    assert_eq!(store.query(&Op::count_all()), Reply::Count(2));
}

#[test]
fn sums_take_canonical_integers_only() {
    let add = |delta| Op::Add { key: b("n"), delta };
    let mut store = Store::new();
    assert_eq!(store.apply(&add(5)), Reply::Integer(5));
    assert_eq!(store.apply(&add(-7)), Reply::Integer(-2));
    assert_eq!(store.query(&get("n")), present("-2", 2));
    for text in ["", " 1", "+1", "01", "-0", "1 ", "abc", "9223372036854775808"] {
        store.apply(&set("n", text));
        assert_eq!(store.apply(&add(1)), Reply::Error(KvError::NotAnInteger), "{text:?}");
    }
    store.apply(&set("n", "9223372036854775807"));
    assert_eq!(store.apply(&add(1)), Reply::Error(KvError::Overflow));
    assert_eq!(store.apply(&add(i64::MIN)), Reply::Integer(-1));
    assert_eq!(store.apply(&add(i64::MIN)), Reply::Error(KvError::Overflow));
}

#[test]
fn overwriting_pads_with_zero_bytes() {
    let over = |offset, value| Op::Overwrite { key: b("k"), offset, value: b(value) };
    let mut store = Store::new();
    assert_eq!(store.apply(&over(9, "")), Reply::Length(0));
    assert_eq!(store.query(&get("k")), Reply::Value(None), "an absent key stays absent");
    assert_eq!(store.apply(&over(2, "xy")), Reply::Length(4));
    assert_eq!(store.query(&get("k")), present("\0\0xy", 1));
    assert_eq!(store.apply(&over(1, "ab")), Reply::Length(4));
    assert_eq!(store.query(&get("k")), present("\0aby", 2));
    assert_eq!(store.apply(&over(u64::MAX, "")), Reply::Length(4), "nothing is written");
    assert_eq!(store.query(&get("k")), present("\0aby", 2));
}

#[test]
fn what_is_too_long_changes_nothing() {
    let long = Bytes::from(vec![b'v'; VALUE_BYTES_MAX]);
    let longer = Bytes::from(vec![b'v'; VALUE_BYTES_MAX + 1]);
    let too_long = Reply::Error(KvError::TooLong);
    let mut store = Store::new();
    let put = |value: &Bytes| Op::Put {
        key: b("k"),
        value: value.clone(),
        condition: Condition::Always,
        want_old: false,
    };
    assert_eq!(store.apply(&put(&longer)), too_long);
    assert!(store.is_empty());
    assert_eq!(store.apply(&put(&long)), stored(1, None));
    assert_eq!(store.apply(&Op::Append { key: b("k"), value: b("v") }), too_long);
    for offset in [VALUE_BYTES_MAX as u64, u64::MAX, u64::from(u32::MAX)] {
        assert_eq!(store.apply(&Op::Overwrite { key: b("k"), offset, value: b("v") }), too_long);
    }
    let pairs = vec![(b("other"), b("1")), (b("k"), longer)];
    assert_eq!(store.apply(&Op::PutMany { pairs }), too_long);
    let key = Bytes::from(vec![b'k'; KEY_BYTES_MAX + 1]);
    assert_eq!(store.apply(&Op::Add { key: key.clone(), delta: 1 }), too_long);
    assert_eq!(store.apply(&Op::Append { key, value: Bytes::new() }), too_long);
    assert_eq!((store.len(), store.bytes()), (1, 1 + VALUE_BYTES_MAX as u64));

    let times = |n| Op::GetMany { keys: vec![b("k"); n] };
    let most = ANSWER_BYTES_MAX / VALUE_BYTES_MAX;
    assert!(matches!(store.query(&times(most)), Reply::Values(values) if values.len() == most));
    assert_eq!(store.query(&times(most + 1)), too_long);
}

#[test]
fn nothing_stored_keeps_the_batch_it_came_in() {
    let batch = Bytes::from(vec![b'x'; 1 << 20]);
    let inside = |slice: &Bytes| {
        let start = batch.as_ptr() as usize;
        (start..start + batch.len()).contains(&(slice.as_ptr() as usize))
    };
    let mut store = Store::new();
    let (key, value) = (batch.slice(10..13), batch.slice(100..200));
    store.apply(&Op::Put {
        key: key.clone(),
        value,
        condition: Condition::Always,
        want_old: false,
    });
    store.apply(&Op::PutMany { pairs: vec![(batch.slice(10..14), batch.slice(5..6))] });
    store.apply(&Op::Append { key: batch.slice(10..15), value: batch.slice(9..10) });
    for key in [&key[..], b"xxxx", b"xxxxx"] {
        assert!(!inside(&store.get(key).expect("stored").value));
    }
    drop((key, store));
    assert!(batch.is_unique(), "somebody still holds a part of the batch");
}

#[test]
#[should_panic(expected = "put is a write")]
fn a_write_is_not_a_query() {
    Store::new().query(&set("k", "v"));
}

/// The same rules, written as directly as can be: one map, values as vectors.
#[derive(Default)]
struct Model(BTreeMap<Vec<u8>, (Vec<u8>, u64)>);

impl Model {
    fn write(&mut self, key: &Bytes, value: Vec<u8>) -> u64 {
        let entry = self.0.entry(key.to_vec()).or_default();
        *entry = (value, entry.1 + 1);
        entry.1
    }

    fn value(&self, key: &Bytes) -> Option<Vec<u8>> {
        self.0.get(&key[..]).map(|(value, _)| value.clone())
    }

    fn versioned(&self, key: &Bytes) -> Option<Versioned> {
        let (value, version) = self.0.get(&key[..])?;
        Some(Versioned { value: Bytes::from(value.clone()), version: Version(*version) })
    }

    fn apply(&mut self, op: &Op) -> Reply {
        match op {
            Op::Get { key } => Reply::Value(self.versioned(key)),
            Op::GetMany { keys } => {
                Reply::Values(keys.iter().map(|key| self.value(key).map(Bytes::from)).collect())
            }
            Op::Exists { keys } => {
                Reply::Count(keys.iter().filter(|key| self.value(key).is_some()).count() as u64)
            }
            Op::Count { first, last } => {
                let slots = *first..=*last;
                let inside = |key: &&Vec<u8>| slots.contains(&HashSlot::of(key).number());
                Reply::Count(self.0.keys().filter(inside).count() as u64)
            }
            Op::Put { key, value, condition, want_old } => {
                let now = self.versioned(key);
                let version = now.as_ref().map_or(0, |now| now.version.0);
                let old = now.filter(|_| *want_old).map(|now| now.value);
                match condition {
                    Condition::IfAbsent if version != 0 => return Reply::NotStored { old },
                    Condition::IfPresent if version == 0 => return Reply::NotStored { old },
                    Condition::IfVersion(v) if v.0 != version && version == 0 => {
                        return Reply::Error(KvError::NoKey);
                    }
                    Condition::IfVersion(v) if v.0 != version => {
                        return Reply::Error(KvError::Version { stored: Version(version) });
                    }
                    _ => {}
                }
                Reply::Stored { version: Version(self.write(key, value.to_vec())), old }
            }
            Op::PutMany { pairs } => {
                let mut version = 0;
                for (key, value) in pairs {
                    version = self.write(key, value.to_vec());
                }
                Reply::Stored { version: Version(version), old: None }
            }
            Op::Append { key, value } => {
                let value = [&self.value(key).unwrap_or_default()[..], value].concat();
                let length = value.len() as u64;
                self.write(key, value);
                Reply::Length(length)
            }
            Op::Delete { keys } => Reply::Count(
                keys.iter().filter(|key| self.0.remove(&key[..]).is_some()).count() as u64,
            ),
            Op::Take { key } => {
                let taken = self.versioned(key);
                self.0.remove(&key[..]);
                Reply::Value(taken)
            }
            Op::Add { key, delta } => {
                let text = self.value(key).unwrap_or(b"0".to_vec());
                let text = String::from_utf8_lossy(&text).into_owned();
                let Some(number) = text.parse::<i64>().ok().filter(|n| n.to_string() == text)
                else {
                    return Reply::Error(KvError::NotAnInteger);
                };
                let Some(sum) = number.checked_add(*delta) else {
                    return Reply::Error(KvError::Overflow);
                };
                self.write(key, sum.to_string().into_bytes());
                Reply::Integer(sum)
            }
            Op::Overwrite { key, offset, value } => {
                let mut now = self.value(key).unwrap_or_default();
                if value.is_empty() {
                    return Reply::Length(now.len() as u64);
                }
                for (at, byte) in (*offset as usize..).zip(value) {
                    if now.len() <= at {
                        now.resize(at + 1, 0);
                    }
                    now[at] = *byte;
                }
                let length = now.len() as u64;
                self.write(key, now);
                Reply::Length(length)
            }
        }
    }
}

fn random_op(rng: &mut ChaCha8Rng) -> Op {
    let key = |rng: &mut ChaCha8Rng| b(["", "a", "b", "{a}1", "{a}2", "c"][rng.random_range(0..6)]);
    let keys = |rng: &mut ChaCha8Rng| (0..rng.random_range(0..4)).map(|_| key(rng)).collect();
    let value = |rng: &mut ChaCha8Rng| match rng.random_range(0..8) {
        0 => Bytes::new(),
        1 => b("9223372036854775806"),
        2 => b("-0"),
        3 | 4 => b(&rng.random_range(-20..20).to_string()),
        _ => Bytes::from((0..rng.random_range(0..9)).map(|_| rng.random()).collect::<Vec<u8>>()),
    };
    match rng.random_range(0..13) {
        0 => Op::Get { key: key(rng) },
        1 => Op::GetMany { keys: keys(rng) },
        2 => Op::Exists { keys: keys(rng) },
        3 => match rng.random_range(0..2) {
            0 => Op::count_all(),
            _ => {
                let first = rng.random_range(0..HASH_SLOT_COUNT);
                Op::Count { first, last: rng.random_range(first..HASH_SLOT_COUNT) }
            }
        },
        4..=6 => Op::Put {
            key: key(rng),
            value: value(rng),
            condition: match rng.random_range(0..6) {
                0 => Condition::IfAbsent,
                1 => Condition::IfPresent,
                2 | 3 => Condition::IfVersion(Version(rng.random_range(0..4))),
                _ => Condition::Always,
            },
            want_old: rng.random(),
        },
        7 => Op::PutMany {
            pairs: (0..rng.random_range(0..4)).map(|_| (key(rng), value(rng))).collect(),
        },
        8 => Op::Append { key: key(rng), value: value(rng) },
        9 => Op::Delete { keys: keys(rng) },
        10 => Op::Take { key: key(rng) },
        11 => Op::Add { key: key(rng), delta: rng.random_range(-3..9) },
        _ => Op::Overwrite { key: key(rng), offset: rng.random_range(0..12), value: value(rng) },
    }
}

#[test]
fn the_machine_agrees_with_the_model() {
    for seed in 0..200 {
        let mut rng = ChaCha8Rng::seed_from_u64(seed);
        let (mut store, mut model) = (Store::new(), Model::default());
        let mut kept = Vec::new();
        for step in 0..200 {
            let op = random_op(&mut rng);
            if op.is_read() {
                assert_eq!(store.query(&op), store.apply(&op));
            }
            assert_eq!(store.apply(&op), model.apply(&op), "seed {seed} step {step} {op:?}");
            assert_eq!(store.len(), model.0.len() as u64);
            let bytes: usize =
                model.0.iter().map(|(key, (value, _))| key.len() + value.len()).sum();
            assert_eq!(store.bytes(), bytes as u64, "seed {seed} step {step} {op:?}");
            if rng.random_bool(0.02) {
                // K4: what is encoded later is the state of now.
                kept.push((store.snapshot(), store.snapshot().encode_chunks().collect::<Vec<_>>()));
            }
        }
        for (snapshot, then) in kept {
            assert_eq!(snapshot.encode_chunks().collect::<Vec<_>>(), then, "seed {seed}");
            assert_eq!(Store::decode(&then).expect("own bytes"), Store::from(snapshot));
        }
        assert_eq!(Store::decode(store.snapshot().encode_chunks()).expect("own bytes"), store);
    }
}
