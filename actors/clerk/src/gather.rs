//! Operations on keys of several shards: a part for each shard, and one outcome out of theirs.
//!
//! Each key is read or changed atomically by itself; all of them together are not, since their shards
//! may be with different groups.

use std::collections::BTreeMap;

use bytes::Bytes;
use quorate_kvserver::{ANSWER_BYTES_MAX, HashSlot, Key, KvError, Op, Reply};
use quorate_shardmaster::ShardId;

use crate::messages::{Outcome, Refusal};

/// A part of an operation: what is asked of one shard, and which of the operation's keys that are.
pub(crate) struct Part {
    pub(crate) shard: ShardId,
    pub(crate) op: Op,
    places: Vec<usize>,
}

impl Part {
    /// All of an operation, where there is one shard.
    pub(crate) fn whole(op: Op) -> Part {
        Part { shard: ShardId(0), op, places: vec![] }
    }
}

/// Makes an operation of the keys at these places.
type Choice<'a> = Box<dyn Fn(&[usize]) -> Op + 'a>;

/// The parts of an operation, where there are so many shards. One, if all its keys are of one shard.
pub(crate) fn parts(op: Op, shards: u16) -> Vec<Part> {
    let of = |slot: HashSlot| ShardId::of_slot(slot.number(), shards);
    let mut slots = op.hash_slots().map(of);
    let first = slots.next().unwrap_or_default();
    if slots.all(|shard| shard == first) {
        drop(slots);
        return vec![Part { shard: first, op, places: vec![] }];
    }
    drop(slots);
    if let Op::Count { first, last } = op {
        let (from, to) = (ShardId::of_slot(first, shards), ShardId::of_slot(last, shards));
        let count = |number: u16| {
            let shard = ShardId(number);
            let slots = shard.slots(shards);
            let (first, last) = (first.max(*slots.start()), last.min(*slots.end()));
            Part { shard, op: Op::Count { first, last }, places: vec![] }
        };
        return (from.0..=to.0).map(count).collect();
    }
    let by_shard = |keys: &[Key]| {
        let mut places: BTreeMap<ShardId, Vec<usize>> = BTreeMap::new();
        for (place, key) in keys.iter().enumerate() {
            places.entry(of(HashSlot::of(key))).or_default().push(place);
        }
        places
    };
    let keys = |keys: &[Key], places: &[usize]| places.iter().map(|at| keys[*at].clone()).collect();
    let make: Choice<'_> = match &op {
        Op::GetMany { keys: all } => Box::new(|places| Op::GetMany { keys: keys(all, places) }),
        Op::Exists { keys: all } => Box::new(|places| Op::Exists { keys: keys(all, places) }),
        Op::Delete { keys: all } => Box::new(|places| Op::Delete { keys: keys(all, places) }),
        Op::PutMany { pairs } => Box::new(|places| Op::PutMany {
            pairs: places.iter().map(|at| pairs[*at].clone()).collect(),
        }),
        _ => return vec![Part { shard: first, op, places: vec![] }],
    };
    let all: Vec<Key> = match &op {
        Op::PutMany { pairs } => pairs.iter().map(|(key, _)| key.clone()).collect(),
        Op::GetMany { keys } | Op::Exists { keys } | Op::Delete { keys } => keys.clone(),
        _ => vec![],
    };
    let parts = by_shard(&all).into_iter();
    parts.map(|(shard, places)| Part { shard, op: make(&places), places }).collect()
}

/// An operation whose parts are under way.
pub(crate) struct Gather {
    /// Which of the operation's keys each part has.
    places: Vec<Vec<usize>>,
    open: usize,
    is_read: bool,
    /// Whether values are asked for, not a number.
    wants_values: bool,
    /// Values, by place of their key.
    values: Vec<Option<Bytes>>,
    count: u64,
    stored: Option<Reply>,
    error: Option<KvError>,
    /// Parts that have taken effect, or may have.
    touched: bool,
    refused: Option<Refusal>,
    unknown: bool,
}

impl Gather {
    /// Of an operation with these parts.
    pub(crate) fn new(parts: &[Part]) -> Self {
        let places: Vec<Vec<usize>> = parts.iter().map(|part| part.places.clone()).collect();
        let keys = places.iter().map(Vec::len).sum();
        Gather {
            places,
            open: parts.len(),
            is_read: parts.first().is_some_and(|part| part.op.is_read()),
            wants_values: matches!(parts.first(), Some(Part { op: Op::GetMany { .. }, .. })),
            values: vec![None; keys],
            count: 0,
            stored: None,
            error: None,
            touched: false,
            refused: None,
            unknown: false,
        }
    }

    /// Takes the outcome of a part. Answers that of the whole once all are there.
    pub(crate) fn take(&mut self, part: usize, outcome: Outcome) -> Option<Outcome> {
        match outcome {
            Outcome::Done(Reply::Error(error)) => self.error = Some(error),
            Outcome::Done(reply) => {
                self.touched = true;
                self.on_reply(part, reply);
            }
            Outcome::Refused(refusal) => self.refused = Some(refusal),
            Outcome::Unknown | Outcome::Maybe => (self.unknown, self.touched) = (true, true),
        }
        self.open = self.open.saturating_sub(1);
        (self.open == 0).then(|| self.outcome())
    }

    fn on_reply(&mut self, part: usize, reply: Reply) {
        match reply {
            Reply::Count(count) => self.count += count,
            Reply::Values(values) => {
                let places = self.places.get(part).into_iter().flatten();
                for (place, value) in places.zip(values) {
                    if let Some(at) = self.values.get_mut(*place) {
                        *at = value;
                    }
                }
            }
            stored => self.stored = Some(stored),
        }
    }

    fn outcome(&mut self) -> Outcome {
        match (self.refused, self.error) {
            // Some keys may have been changed, and others not.
            (Some(_), _) if self.touched && !self.is_read => return Outcome::Unknown,
            (Some(refusal), _) => return Outcome::Refused(refusal),
            _ if self.unknown => return Outcome::Unknown,
            (None, Some(_)) if self.touched && !self.is_read => return Outcome::Unknown,
            (None, Some(error)) => return Outcome::Done(Reply::Error(error)),
            (None, None) => {}
        }
        if let Some(stored) = self.stored.take() {
            return Outcome::Done(stored);
        }
        if !self.wants_values {
            return Outcome::Done(Reply::Count(self.count));
        }
        let bytes: usize = self.values.iter().flatten().map(Bytes::len).sum();
        match bytes > ANSWER_BYTES_MAX {
            true => Outcome::Done(Reply::Error(KvError::TooLong)),
            false => Outcome::Done(Reply::Values(std::mem::take(&mut self.values))),
        }
    }
}
