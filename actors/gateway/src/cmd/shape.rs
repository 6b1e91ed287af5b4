//! Outcomes to answers.
//!
//! Client libraries send a command again by themselves when its error begins with TRYAGAIN,
//! CLUSTERDOWN or LOADING. These words are therefore used only for [`Outcome::Refused`], which says
//! that the command was certainly not executed. What may have been executed is INDETERMINATE, a
//! word that no library knows.

use bytes::Bytes;
use quorate_clerk::{Outcome, Refusal};
use quorate_kvserver::{ANSWER_BYTES_MAX, KvError, Reply};

use super::error;
use crate::resp::Value;

/// How the outcome of an operation is answered.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Shape {
    /// The value, or null (GET, GETDEL).
    Value,
    /// OK, or null when the condition did not hold (SET).
    Ok,
    /// The former value, or null (SET .. GET, GETSET).
    Old,
    /// 1, or 0 when the condition did not hold (SETNX).
    Flag,
    /// The values in an array (MGET).
    Values,
    /// A number: a count, a length or a sum (DEL, APPEND, INCR).
    Number,
    /// The length of the value, 0 when there is none (STRLEN).
    Length,
    /// A part of the value, from one place through another, both counted from the end when negative
    /// (GETRANGE).
    Range {
        /// The first byte.
        start: i64,
        /// The last byte.
        end: i64,
    },
    /// The kind of what is stored, `none` when there is nothing (TYPE).
    Type,
    /// The value and its version, or null (VGET).
    Versioned,
    /// The new version (VPUT).
    Version,
}

impl Shape {
    /// The answer to an outcome.
    pub fn answer(self, outcome: Outcome) -> Value {
        match outcome {
            Outcome::Done(Reply::Error(error)) => self.error(error),
            Outcome::Done(reply) => self.reply(reply),
            Outcome::Maybe => error::fixed(
                "INDETERMINATE the versioned write was carried out or refused, once, and its answer \
                 is lost: read the key to see which value it holds",
            ),
            Outcome::Refused(refusal) => refused(refusal),
            Outcome::Unknown => unknown(),
        }
    }

    fn reply(self, reply: Reply) -> Value {
        match (self, reply) {
            (Shape::Value, Reply::Value(stored)) => bulk_or_null(stored.map(|stored| stored.value)),
            (Shape::Ok, Reply::Stored { .. }) => Value::OK,
            (Shape::Ok, Reply::NotStored { .. }) => Value::Null,
            (Shape::Old, Reply::Stored { old, .. } | Reply::NotStored { old }) => bulk_or_null(old),
            (Shape::Flag, Reply::Stored { .. }) => Value::Integer(1),
            (Shape::Flag, Reply::NotStored { .. }) => Value::Integer(0),
            (Shape::Values, Reply::Values(values)) => {
                Value::Array(values.into_iter().map(bulk_or_null).collect())
            }
            (Shape::Number, Reply::Count(number) | Reply::Length(number)) => Value::count(number),
            (Shape::Number, Reply::Integer(number)) => Value::Integer(number),
            (Shape::Length, Reply::Value(stored)) => {
                Value::count(stored.map_or(0, |stored| stored.value.len() as u64))
            }
            (Shape::Range { start, end }, Reply::Value(stored)) => {
                let value = stored.map(|stored| stored.value).unwrap_or_default();
                Value::Bulk(range(&value, start, end))
            }
            (Shape::Type, Reply::Value(None)) => Value::simple("none"),
            (Shape::Type, Reply::Value(Some(_))) => Value::simple("string"),
            (Shape::Versioned, Reply::Value(None)) => Value::NullArray,
            (Shape::Versioned, Reply::Value(Some(stored))) => {
                Value::Array(vec![Value::Bulk(stored.value), Value::count(stored.version.0)])
            }
            (Shape::Version, Reply::Stored { version, .. }) => Value::count(version.0),
            // Whoever answered broke the rules; the operation may have taken effect.
            (_, _) => error::fixed(
                "INDETERMINATE the store gave an answer of another kind than the command has: \
                 the command may have been executed",
            ),
        }
    }

    fn error(self, error: KvError) -> Value {
        match error {
            KvError::NoKey => error::fixed("NOKEY the key is absent: version 0 creates it"),
            KvError::Version { stored } => {
                Value::error(format!("VERSION stored version is {}", stored.0))
            }
            KvError::NotAnInteger => error::fixed(error::NOT_AN_INTEGER),
            KvError::Overflow => error::fixed("ERR increment or decrement would overflow"),
            KvError::TooLong if self == Shape::Values => Value::error(format!(
                "ERR the values exceed {ANSWER_BYTES_MAX} bytes together: ask for fewer keys"
            )),
            KvError::TooLong => error::fixed(error::STRING_TOO_LONG),
            KvError::CrossShard => {
                error::fixed("CROSSSLOT Keys in request don't hash to the same slot")
            }
            // A clerk goes on to who serves it; should one give up, nothing has been executed.
            KvError::WrongGroup { .. } => refused(Refusal::Moving),
        }
    }
}

/// The answer to what was certainly not executed.
pub(super) fn refused(refusal: Refusal) -> Value {
    let word = match refusal {
        Refusal::Busy | Refusal::Moving => "TRYAGAIN",
        Refusal::NoQuorum => "CLUSTERDOWN",
        Refusal::NotReady => "LOADING",
        Refusal::TooLong | Refusal::NeedsSession => "ERR",
    };
    Value::error(format!("{word} {refusal}; the command was not executed"))
}

/// The answer to what may have been executed.
pub(super) fn unknown() -> Value {
    error::fixed(
        "INDETERMINATE the outcome is unknown: the command may have been executed, or may still be; \
         read what it changes before sending it again",
    )
}

fn bulk_or_null(value: Option<Bytes>) -> Value {
    value.map_or(Value::Null, Value::Bulk)
}

/// The bytes from `start` through `end`; a negative place counts from the end, and places beyond
/// the value are moved to its ends.
fn range(value: &Bytes, start: i64, end: i64) -> Bytes {
    let len = value.len() as i64;
    if start < 0 && end < 0 && start > end {
        return Bytes::new();
    }
    let place = |at: i64| if at < 0 { at.saturating_add(len).max(0) } else { at };
    let (start, end) = (place(start), place(end).min(len - 1));
    if start > end {
        return Bytes::new();
    }
    // Both lie within the value now.
    value.slice(start as usize..=end as usize)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ranges_are_cut_as_redis_cuts_them() {
        let value = Bytes::from_static(b"xyzabc");
        for (start, end, expected) in [
            (0, -1, "xyzabc"),
            (1, 3, "yza"),
            (-3, -1, "abc"),
            (-100, 100, "xyzabc"),
            (5, 1, ""),
            (-1, -5, ""),
            (6, 10, ""),
            (0, -7, "x"),
            (-1, -1, "c"),
            (-9, -7, "x"),
            (0, i64::MAX, "xyzabc"),
            (i64::MIN, i64::MAX, "xyzabc"),
            (i64::MAX, i64::MIN, ""),
        ] {
            assert_eq!(range(&value, start, end), expected, "{start} {end}");
            assert_eq!(range(&Bytes::new(), start, end), "", "{start} {end}");
        }
    }
}
