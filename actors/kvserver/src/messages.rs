//! What the key/value machine can be told, and what it answers. Plain data.

use std::fmt;

use bytes::Bytes;
use quorate_protocol::GroupId;
use serde::{Deserialize, Serialize};

use crate::{HASH_SLOT_COUNT, HashSlot, View};

/// A key: any bytes, at most [`KEY_BYTES_MAX`].
pub type Key = Bytes;

/// Longest key that is accepted, in bytes.
pub const KEY_BYTES_MAX: usize = 64 * 1024;

/// Longest value that an operation may leave behind, in bytes (16 MiB). Redis allows 512 MiB; a
/// value here is copied to every replica's journal in one record, so the bound is lower and named.
pub const VALUE_BYTES_MAX: usize = 16 * 1024 * 1024;

/// A key's version: 1 when it is created, plus 1 with every change (6.5840 2026, Lab 2). An absent
/// key has version 0. A key that is deleted and made again begins at 1 again.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Version(pub u64);

impl fmt::Display for Version {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "v{}", self.0)
    }
}

/// When a Put takes effect.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Condition {
    /// Always.
    Always,
    /// Only when the key is absent (SET NX).
    IfAbsent,
    /// Only when the key is present (SET XX).
    IfPresent,
    /// Only when the stored version is this one; 0 means absent (the versioned Put of Lab 2, 2026).
    IfVersion(Version),
}

/// One operation on the store. Each is atomic, whatever the number of its keys.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Op {
    /// The value and version of a key. Answer: [`Reply::Value`].
    Get {
        /// Which key.
        key: Key,
    },
    /// The values of several keys at one moment. Answer: [`Reply::Values`].
    GetMany {
        /// Which keys; the answer keeps their order.
        keys: Vec<Key>,
    },
    /// How many of these keys are present, each counted as often as it is named. Answer:
    /// [`Reply::Count`].
    Exists {
        /// Which keys.
        keys: Vec<Key>,
    },
    /// The number of keys in hash slots, from the first through the last. Answer: [`Reply::Count`].
    Count {
        /// The first slot.
        first: u16,
        /// The last one.
        last: u16,
    },
    /// Stores a value. Answer: [`Reply::Stored`], [`Reply::NotStored`], or with
    /// [`Condition::IfVersion`] an error.
    Put {
        /// Which key.
        key: Key,
        /// What to store.
        value: Bytes,
        /// When.
        condition: Condition,
        /// Whether the answer carries the former value (SET .. GET, GETSET).
        want_old: bool,
    },
    /// Stores several pairs (MSET). Answer: [`Reply::Stored`].
    PutMany {
        /// Key and value; a key named twice ends with its last value.
        pairs: Vec<(Key, Bytes)>,
    },
    /// Appends to the value, which is made when absent. Answer: [`Reply::Length`].
    Append {
        /// Which key.
        key: Key,
        /// What to append.
        value: Bytes,
    },
    /// Removes keys. Answer: [`Reply::Count`], the number of those that were present.
    Delete {
        /// Which keys.
        keys: Vec<Key>,
    },
    /// Removes a key and answers what it held (GETDEL). Answer: [`Reply::Value`].
    Take {
        /// Which key.
        key: Key,
    },
    /// Adds to the decimal integer that is stored, 0 when absent (INCRBY). Answer:
    /// [`Reply::Integer`] or [`KvError::NotAnInteger`], [`KvError::Overflow`].
    Add {
        /// Which key.
        key: Key,
        /// What to add.
        delta: i64,
    },
    /// Writes over part of a value, which is padded with zero bytes as needed (SETRANGE). Answer:
    /// [`Reply::Length`].
    Overwrite {
        /// Which key.
        key: Key,
        /// First byte to write, from 0.
        offset: u64,
        /// What to write. Empty: nothing changes, and an absent key stays absent.
        value: Bytes,
    },
}

impl Op {
    /// Whether the operation leaves the store as it is.
    pub fn is_read(&self) -> bool {
        matches!(self, Op::Get { .. } | Op::GetMany { .. } | Op::Exists { .. } | Op::Count { .. })
    }

    /// The hash slots that it is about, as often as they are named; of a count, its first one and its
    /// last one.
    pub fn hash_slots(&self) -> impl Iterator<Item = HashSlot> {
        let none: &[Key] = &[];
        let (one, keys, pairs, counted) = match self {
            Op::Get { key }
            | Op::Put { key, .. }
            | Op::Append { key, .. }
            | Op::Take { key }
            | Op::Add { key, .. }
            | Op::Overwrite { key, .. } => (Some(key), none, &[][..], None),
            Op::GetMany { keys } | Op::Exists { keys } | Op::Delete { keys } => {
                (None, &keys[..], &[][..], None)
            }
            Op::PutMany { pairs } => (None, none, &pairs[..], None),
            Op::Count { first, last } => (None, none, &[][..], Some([*first, *last])),
        };
        let keys = one.into_iter().chain(keys).chain(pairs.iter().map(|(key, _)| key));
        let counted = counted.into_iter().flatten().map(HashSlot::numbered);
        keys.map(|key| HashSlot::of(key)).chain(counted)
    }

    /// Whether a clerk without sessions may ask for it: it can be sent again without being carried
    /// out twice, because a version comes only once.
    pub fn is_sessionless(&self) -> bool {
        match self {
            Op::Put { condition: Condition::IfVersion(_), want_old: false, .. } => true,
            op => op.is_read(),
        }
    }

    /// The number of all keys.
    pub fn count_all() -> Op {
        Op::Count { first: 0, last: HASH_SLOT_COUNT - 1 }
    }

    /// Short name, for logs and counters.
    pub fn kind(&self) -> &'static str {
        match self {
            Op::Get { .. } => "get",
            Op::GetMany { .. } => "get-many",
            Op::Exists { .. } => "exists",
            Op::Count { .. } => "count",
            Op::Put { .. } => "put",
            Op::PutMany { .. } => "put-many",
            Op::Append { .. } => "append",
            Op::Delete { .. } => "delete",
            Op::Take { .. } => "take",
            Op::Add { .. } => "add",
            Op::Overwrite { .. } => "overwrite",
        }
    }
}

/// A present key's value and version.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Versioned {
    /// What is stored.
    pub value: Bytes,
    /// Its version, from 1.
    pub version: Version,
}

/// What an operation answers once it has been applied.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Reply {
    /// The value, or `None` when the key is (or was) absent.
    Value(Option<Versioned>),
    /// One per key asked for.
    Values(Vec<Option<Bytes>>),
    /// The Put took effect.
    Stored {
        /// The key's version now; of the last pair for PutMany.
        version: Version,
        /// The former value, when it was asked for and there was one.
        old: Option<Bytes>,
    },
    /// The condition (NX, XX) did not hold; nothing changed.
    NotStored {
        /// The value that is stored, when it was asked for and there is one.
        old: Option<Bytes>,
    },
    /// Length of the value now, in bytes.
    Length(u64),
    /// A number of keys.
    Count(u64),
    /// The integer that is stored now.
    Integer(i64),
    /// Nothing was changed, for this reason.
    Error(KvError),
    /// Which shards are with the group.
    View(View),
    /// A part of a shard, encoded; `None` if it has not been given up, or has been deleted.
    Piece(Option<Bytes>),
}

/// Why an operation changed nothing. The same on every replica.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum KvError {
    /// ErrNoKey: a versioned Put with a version above 0 met an absent key.
    NoKey,
    /// ErrVersion: a versioned Put met another version.
    Version {
        /// The version that is stored.
        stored: Version,
    },
    /// The stored value is not a decimal integer of 64 bits.
    NotAnInteger,
    /// The sum does not fit 64 bits.
    Overflow,
    /// The value would become longer than [`VALUE_BYTES_MAX`].
    TooLong,
    /// The keys are of several shards, each of which may be somewhere else: ask for each by itself.
    CrossShard,
    /// ErrWrongGroup: the group does not serve the shard, at this place of its log. The operation had no
    /// effect, and its identity is not used up.
    WrongGroup {
        /// Who may serve it; group 0 if that is not known here.
        ask: GroupId,
        /// The newest configuration that the group has taken over.
        number: u64,
    },
}

impl fmt::Display for KvError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            KvError::NoKey => write!(f, "ErrNoKey"),
            KvError::Version { stored } => write!(f, "ErrVersion stored={stored}"),
            KvError::NotAnInteger => write!(f, "the value is not an integer"),
            KvError::Overflow => write!(f, "the sum does not fit 64 bits"),
            KvError::CrossShard => write!(f, "the keys are of several shards"),
            KvError::WrongGroup { ask, number } => {
                write!(f, "ErrWrongGroup ask={ask} configuration={number}")
            }
            KvError::TooLong => write!(f, "the value would exceed {VALUE_BYTES_MAX} bytes"),
        }
    }
}
