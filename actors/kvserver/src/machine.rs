//! The key/value machine: 16384 ordered maps and the rules of every operation.
//!
//! The pairs lie in one map per hash slot, shared behind an `Arc`. A snapshot copies only the row
//! of pointers; the first write to a slot after that copies that slot's map of pointers to keys and
//! values, and nothing else (copy-on-write). Keys and values are copied into buffers of their own size when they are stored:
//! what arrives is a slice of a whole batch, which must not live as long as its smallest value.

use std::collections::BTreeMap;
use std::ops::{Bound, RangeInclusive};
use std::sync::Arc;

use bytes::Bytes;
use quorate_protocol::planted::{Bug, is_planted};

use crate::{
    Condition, HASH_SLOT_COUNT, HashSlot, KEY_BYTES_MAX, Key, KvError, Op, Reply, Snapshot,
    VALUE_BYTES_MAX, Version, Versioned, canonical_i64,
};

/// Most bytes that the values of one [`Op::GetMany`] may have together (64 MiB): a short request
/// that names one big key many times is answered with [`KvError::TooLong`].
pub const ANSWER_BYTES_MAX: usize = 64 * 1024 * 1024;

/// The pairs of one hash slot, in the order of their keys. Both sides of a pair are shared with the
/// copies of the map: a copy makes no room for anything but itself.
pub(crate) type Pairs = BTreeMap<Arc<[u8]>, Arc<Versioned>>;

/// One row per hash slot; a slot without keys has no map.
pub(crate) type Slots = Vec<Option<Arc<Pairs>>>;

/// The deterministic key/value store.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Store {
    slots: Slots,
    /// How many keys are present.
    len: u64,
    /// Bytes of all keys and values together.
    bytes: u64,
    /// Those of each hash slot.
    weights: Vec<u64>,
}

impl Default for Store {
    fn default() -> Store {
        Store::new()
    }
}

impl Store {
    /// An empty store.
    pub fn new() -> Store {
        let count = usize::from(HASH_SLOT_COUNT);
        Store { slots: vec![None; count], len: 0, bytes: 0, weights: vec![0; count] }
    }

    /// Applies one operation, of any kind, and gives its answer.
    pub fn apply(&mut self, op: &Op) -> Reply {
        match op {
            Op::Get { .. } | Op::GetMany { .. } | Op::Exists { .. } | Op::Count { .. } => {
                self.query(op)
            }
            Op::Put { key, value, condition, want_old } => {
                self.put(key, value, *condition, *want_old)
            }
            Op::PutMany { pairs } => self.put_many(pairs),
            Op::Append { key, value } => self.append(key, value),
            Op::Delete { keys } => self.delete(keys),
            Op::Take { key } => Reply::Value(self.remove(key)),
            Op::Add { key, delta } => self.add(key, *delta),
            Op::Overwrite { key, offset, value } => self.overwrite(key, *offset, value),
        }
    }

    /// Answers a read.
    ///
    /// # Panics
    /// When the operation is not a read ([`Op::is_read`]).
    pub fn query(&self, op: &Op) -> Reply {
        match op {
            Op::Get { key } => Reply::Value(self.get(key).cloned()),
            Op::GetMany { keys } => self.get_many(keys),
            Op::Exists { keys } => {
                Reply::Count(keys.iter().filter(|key| self.get(key).is_some()).count() as u64)
            }
            Op::Count { first, last } => Reply::Count(self.count(*first, *last)),
            write => panic!("K1: {} is a write and must be applied", write.kind()),
        }
    }

    /// The state as it is now. Copies one pointer per hash slot.
    pub fn snapshot(&self) -> Snapshot {
        Snapshot { slots: self.slots.clone(), len: self.len, bytes: self.bytes }
    }

    /// What is stored under a key.
    pub fn get(&self, key: &[u8]) -> Option<&Versioned> {
        self.slots[HashSlot::of(key).index()].as_ref()?.get(key).map(Arc::as_ref)
    }

    /// How many keys are present in these hash slots.
    fn count(&self, first: u16, last: u16) -> u64 {
        if (first, last) == (0, HASH_SLOT_COUNT - 1) {
            return self.len;
        }
        let last = last.min(HASH_SLOT_COUNT - 1);
        let pairs = (first..=last).filter_map(|slot| self.slots[usize::from(slot)].as_ref());
        pairs.map(|pairs| pairs.len() as u64).sum()
    }

    /// How many keys are present.
    pub fn len(&self) -> u64 {
        self.len
    }

    /// Whether there is no key.
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// Bytes of all keys and values together, without what it costs to keep them.
    pub fn bytes(&self) -> u64 {
        self.bytes
    }

    fn get_many(&self, keys: &[Key]) -> Reply {
        let mut total = 0_usize;
        let mut values = Vec::with_capacity(keys.len());
        for key in keys {
            let value = self.get(key).map(|stored| stored.value.clone());
            total = total.saturating_add(value.as_ref().map_or(0, Bytes::len));
            values.push(value);
        }
        if total > ANSWER_BYTES_MAX {
            return Reply::Error(KvError::TooLong);
        }
        Reply::Values(values)
    }

    fn put(&mut self, key: &Key, value: &[u8], condition: Condition, want_old: bool) -> Reply {
        if !fits(key, value.len()) {
            return Reply::Error(KvError::TooLong);
        }
        let stored = self.get(key);
        let old = stored.filter(|_| want_old).map(|stored| stored.value.clone());
        let version = stored.map(|stored| stored.version);
        let holds = match condition {
            Condition::Always => true,
            Condition::IfAbsent => version.is_none(),
            Condition::IfPresent => version.is_some(),
            Condition::IfVersion(expected) => match version {
                None if expected == Version(0) => true,
                None => return Reply::Error(KvError::NoKey),
                Some(version) if version == expected || is_planted(Bug::VersionNotCompared) => true,
                Some(stored) => return Reply::Error(KvError::Version { stored }),
            },
        };
        if !holds {
            return Reply::NotStored { old };
        }
        Reply::Stored { version: self.store(key, Bytes::copy_from_slice(value)), old }
    }

    fn put_many(&mut self, pairs: &[(Key, Bytes)]) -> Reply {
        if !pairs.iter().all(|(key, value)| fits(key, value.len())) {
            return Reply::Error(KvError::TooLong);
        }
        let mut version = Version(0);
        for (key, value) in pairs {
            version = self.store(key, Bytes::copy_from_slice(value));
        }
        Reply::Stored { version, old: None }
    }

    fn append(&mut self, key: &Key, tail: &[u8]) -> Reply {
        let head = self.get(key).map_or(&[][..], |stored| &stored.value);
        let len = head.len().saturating_add(tail.len());
        if !fits(key, len) {
            return Reply::Error(KvError::TooLong);
        }
        let mut value = Vec::with_capacity(len);
        value.extend_from_slice(head);
        value.extend_from_slice(tail);
        self.store(key, Bytes::from(value));
        Reply::Length(len as u64)
    }

    fn delete(&mut self, keys: &[Key]) -> Reply {
        Reply::Count(keys.iter().filter_map(|key| self.remove(key)).count() as u64)
    }

    fn add(&mut self, key: &Key, delta: i64) -> Reply {
        let stored = match self.get(key) {
            None => 0,
            Some(stored) => match canonical_i64(&stored.value) {
                Some(number) => number,
                None => return Reply::Error(KvError::NotAnInteger),
            },
        };
        let Some(sum) = stored.checked_add(delta) else {
            return Reply::Error(KvError::Overflow);
        };
        let text = sum.to_string();
        if !fits(key, text.len()) {
            return Reply::Error(KvError::TooLong);
        }
        self.store(key, Bytes::copy_from_slice(text.as_bytes()));
        Reply::Integer(sum)
    }

    fn overwrite(&mut self, key: &Key, offset: u64, part: &[u8]) -> Reply {
        let stored = self.get(key).map_or(&[][..], |stored| &stored.value);
        if part.is_empty() {
            return Reply::Length(stored.len() as u64);
        }
        // Beyond usize is beyond the bound too.
        let start = usize::try_from(offset).unwrap_or(usize::MAX);
        let end = start.saturating_add(part.len());
        let len = end.max(stored.len());
        if !fits(key, len) {
            return Reply::Error(KvError::TooLong);
        }
        let mut value = Vec::with_capacity(len);
        value.extend_from_slice(stored);
        value.resize(len, 0);
        value[start..end].copy_from_slice(part);
        self.store(key, Bytes::from(value));
        Reply::Length(len as u64)
    }

    /// Stores a value, which must own its buffer, and gives the key's new version.
    fn store(&mut self, key: &[u8], value: Bytes) -> Version {
        let at = HashSlot::of(key).index();
        let (slot, weight) = (self.slots[at].get_or_insert_default(), &mut self.weights[at]);
        let pairs = Arc::make_mut(slot);
        self.bytes += value.len() as u64;
        *weight += value.len() as u64;
        if let Some(stored) = pairs.get_mut(key) {
            self.bytes -= stored.value.len() as u64;
            *weight -= stored.value.len() as u64;
            let version = Version(stored.version.0 + 1);
            let versioned = Versioned { value, version };
            match Arc::get_mut(stored) {
                Some(stored) => *stored = versioned,
                // A snapshot has it too.
                None => *stored = Arc::new(versioned),
            }
            return version;
        }
        self.bytes += key.len() as u64;
        *weight += key.len() as u64;
        self.len += 1;
        let version = Version(1);
        pairs.insert(key.into(), Arc::new(Versioned { value, version }));
        version
    }

    /// Removes a key and gives what it held. An absent key costs no copy of its slot.
    fn remove(&mut self, key: &[u8]) -> Option<Versioned> {
        let at = HashSlot::of(key).index();
        let slot = &mut self.slots[at];
        let shared = slot.as_mut().filter(|pairs| pairs.contains_key(key))?;
        let pairs = Arc::make_mut(shared);
        let removed = pairs.remove(key)?;
        if pairs.is_empty() {
            *slot = None;
        }
        self.len -= 1;
        self.bytes -= (key.len() + removed.value.len()) as u64;
        self.weights[at] -= (key.len() + removed.value.len()) as u64;
        Some(Arc::unwrap_or_clone(removed))
    }

    /// Puts back a pair of a snapshot, which must not be present.
    pub(crate) fn restore(&mut self, key: Arc<[u8]>, versioned: Versioned) {
        let (at, weight) = (HashSlot::of(&key).index(), (key.len() + versioned.value.len()) as u64);
        self.len += 1;
        self.bytes += weight;
        self.weights[at] += weight;
        let slot = self.slots[at].get_or_insert_default();
        let former = Arc::make_mut(slot).insert(key, Arc::new(versioned));
        assert!(former.is_none(), "a snapshot names each key once");
    }

    /// Keys in these hash slots, and the bytes of these pairs.
    pub(crate) fn load(&self, slots: RangeInclusive<u16>) -> (u64, u64) {
        let bytes = slots.clone().map(|slot| self.weights[usize::from(slot)]).sum();
        (self.count(*slots.start(), *slots.end()), bytes)
    }

    /// Pairs of these hash slots, by slot and key, that come after a key.
    pub(crate) fn pairs_after<'a>(
        &'a self,
        slots: RangeInclusive<u16>,
        key: Option<&'a Key>,
    ) -> impl Iterator<Item = (&'a Arc<[u8]>, &'a Arc<Versioned>)> {
        let first = key.map_or(*slots.start(), |key| HashSlot::of(key).number());
        (first.max(*slots.start())..=*slots.end()).flat_map(move |slot| {
            let from = match key {
                Some(key) if slot == first => Bound::Excluded(&key[..]),
                _ => Bound::Unbounded,
            };
            let pairs = self.slots[usize::from(slot)].as_ref();
            pairs
                .into_iter()
                .flat_map(move |pairs| pairs.range::<[u8], _>((from, Bound::Unbounded)))
        })
    }

    /// Removes all pairs of these hash slots. They are given back, since to free them may take long.
    pub(crate) fn cut(&mut self, slots: RangeInclusive<u16>) -> Slots {
        let (keys, bytes) = self.load(slots.clone());
        self.len -= keys;
        self.bytes -= bytes;
        let places = slots.map(usize::from);
        places
            .map(|place| {
                self.weights[place] = 0;
                self.slots[place].take()
            })
            .collect()
    }
}

impl From<Snapshot> for Store {
    fn from(snapshot: Snapshot) -> Store {
        let bytes =
            |(key, stored): (&Arc<[u8]>, &Arc<Versioned>)| (key.len() + stored.value.len()) as u64;
        let weight = |slot: &Option<Arc<Pairs>>| {
            slot.as_ref().map_or(0, |pairs| pairs.iter().map(bytes).sum())
        };
        let weights = snapshot.slots.iter().map(weight).collect();
        Store { slots: snapshot.slots, len: snapshot.len, bytes: snapshot.bytes, weights }
    }
}

/// K2: whether a key and the length of its value are within the bounds.
fn fits(key: &[u8], value_len: usize) -> bool {
    key.len() <= KEY_BYTES_MAX && value_len <= VALUE_BYTES_MAX
}
