//! What an answer consists of.

use bytes::Bytes;

/// Which form of the protocol a connection speaks; HELLO changes it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub enum Protocol {
    /// RESP2, how every connection begins.
    #[default]
    Resp2,
    /// RESP3, with maps, sets, doubles, booleans and pushes.
    Resp3,
}

impl Protocol {
    /// Its number in HELLO.
    pub fn number(self) -> i64 {
        match self {
            Protocol::Resp2 => 2,
            Protocol::Resp3 => 3,
        }
    }
}

/// One answer. The variants are those of RESP3; in RESP2 each has the form that Redis gives it
/// there.
#[derive(Clone, Debug, PartialEq)]
pub enum Value {
    /// A status, such as `OK`: one line.
    Simple(Bytes),
    /// An error: one line, its first word says of what kind.
    Error(Bytes),
    /// An integer.
    Integer(i64),
    /// A byte string.
    Bulk(Bytes),
    /// Text for a person, such as INFO. In RESP2 a byte string.
    Verbatim(Bytes),
    /// Nothing. In RESP2 a null byte string.
    Null,
    /// Nothing, in the place of an array. In RESP2 a null array; in RESP3 the same as
    /// [`Value::Null`].
    NullArray,
    /// Values in order.
    Array(Vec<Value>),
    /// Pairs. In RESP2 an array of keys and values in turn.
    Map(Vec<(Value, Value)>),
    /// Values in no order that matters. In RESP2 an array.
    Set(Vec<Value>),
    /// A floating-point number. In RESP2 a byte string.
    Double(f64),
    /// True or false. In RESP2 1 or 0.
    Boolean(bool),
    /// A message that answers no request. In RESP2 an array.
    Push(Vec<Value>),
}

impl Value {
    /// The status `OK`.
    pub const OK: Value = Value::Simple(Bytes::from_static(b"OK"));

    /// A status.
    pub const fn simple(text: &'static str) -> Value {
        Value::Simple(Bytes::from_static(text.as_bytes()))
    }

    /// A byte string out of text.
    pub fn bulk(text: impl Into<Bytes>) -> Value {
        Value::Bulk(text.into())
    }

    /// An error; its first word should say of what kind.
    pub fn error(text: impl Into<Bytes>) -> Value {
        Value::Error(text.into())
    }

    /// An integer out of a count, which is never negative.
    pub fn count(count: u64) -> Value {
        Value::Integer(i64::try_from(count).unwrap_or(i64::MAX))
    }
}
