//! Operations as their clients saw them, and the history they form. Plain data.

use std::collections::BTreeSet;
use std::fmt;
use std::sync::Arc;

/// Bytes of a key or a value; copies share them.
pub type Blob = Arc<[u8]>;

/// What a client asked of one key.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Input {
    /// Reads the value.
    Get,
    /// Stores a value, whatever was there.
    Put {
        /// What to store.
        value: Blob,
    },
    /// Appends to the value, which is made when absent.
    Append {
        /// What to append; empty still counts as a change.
        value: Blob,
    },
    /// Removes the key.
    Delete,
    /// The versioned Put: stores a value only at this version.
    Cas {
        /// What to store.
        value: Blob,
        /// The version that must be stored; 0 means absent.
        version: u64,
    },
}

impl Input {
    /// Whether the operation leaves every state as it is, whatever its outcome.
    pub fn is_read(&self) -> bool {
        matches!(self, Input::Get)
    }
}

/// What the store answered.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Output {
    /// To a Get: the key is present.
    Value {
        /// What it holds.
        value: Blob,
        /// Its version from 1, when the client was told.
        version: Option<u64>,
    },
    /// To a Get: the key is absent.
    Absent,
    /// To a Put, or to an Append whose client was told nothing else.
    Done,
    /// To an Append: how long the value is now, in bytes.
    Length(u64),
    /// To a Delete.
    Deleted {
        /// Whether the key was there.
        present: bool,
    },
    /// OK to a versioned Put: the new version.
    Stored {
        /// One more than the version that was asked for.
        version: u64,
    },
    /// To a versioned Put: the key is present at another version.
    ErrVersion,
    /// To a versioned Put above version 0: the key is absent.
    ErrNoKey,
}

/// What became of an operation.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// It took effect between its invocation and this answer.
    Returned {
        /// When the client had the answer; not before the invocation.
        at: u64,
        /// The answer.
        output: Output,
    },
    /// Nobody knows: it took effect at one moment after its invocation, however late, or never.
    Unknown,
}

/// One operation of one client on one key.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Operation {
    /// Who asked.
    pub client: u64,
    /// On which key.
    pub key: Blob,
    /// What was asked.
    pub input: Input,
    /// When, in microseconds since the start.
    pub invoked: u64,
    /// What became of it.
    pub outcome: Outcome,
}

impl Operation {
    /// When the answer came. An answer before its question counts as come at once.
    pub fn returned(&self) -> Option<u64> {
        match &self.outcome {
            Outcome::Returned { at, .. } => Some((*at).max(self.invoked)),
            Outcome::Unknown => None,
        }
    }

    /// The answer, if one came.
    pub fn output(&self) -> Option<&Output> {
        match &self.outcome {
            Outcome::Returned { output, .. } => Some(output),
            Outcome::Unknown => None,
        }
    }

    /// Whether the version is part of the question or of the answer.
    pub(crate) fn speaks_of_versions(&self) -> bool {
        matches!(self.input, Input::Cas { .. })
            || matches!(self.output(), Some(Output::Value { version: Some(_), .. }))
    }

    /// Whether the answer says that the key was left as it was.
    pub(crate) fn changed_nothing(&self) -> bool {
        let Some(output) = self.output() else { return self.input.is_read() };
        match output {
            Output::Value { .. } | Output::Absent | Output::ErrVersion | Output::ErrNoKey => true,
            Output::Deleted { present } => !present,
            Output::Done | Output::Length(_) | Output::Stored { .. } => false,
        }
    }
}

/// Everything that clients saw. Operations that certainly did not happen are left out.
///
/// An operation comes before another when its answer came strictly before the other's invocation;
/// all others are concurrent. The order of `ops` means nothing.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct History {
    /// The operations, in any order.
    pub ops: Vec<Operation>,
}

impl History {
    /// How many keys the history names.
    pub fn keys(&self) -> usize {
        self.ops.iter().map(|op| &op.key).collect::<BTreeSet<_>>().len()
    }
}

/// A value in print: quoted, escaped, its middle left out when it is long.
pub(crate) struct Shown<'a>(pub(crate) &'a [u8]);

/// How many bytes of a long value are shown, half of them from its end.
const SHOWN_BYTES_MAX: usize = 24;

impl fmt::Display for Shown<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let bytes = self.0;
        if bytes.len() <= SHOWN_BYTES_MAX {
            return write!(f, "\"{}\"", bytes.escape_ascii());
        }
        let half = SHOWN_BYTES_MAX / 2;
        let (head, tail) = (&bytes[..half], &bytes[bytes.len() - half..]);
        write!(f, "\"{}..{}\"", head.escape_ascii(), tail.escape_ascii())
    }
}

impl fmt::Display for Input {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Input::Get => write!(f, "get"),
            Input::Put { value } => write!(f, "put {}", Shown(value)),
            Input::Append { value } => write!(f, "append {}", Shown(value)),
            Input::Delete => write!(f, "delete"),
            Input::Cas { value, version } => write!(f, "cas v{version} {}", Shown(value)),
        }
    }
}

impl fmt::Display for Output {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Output::Value { value, version: None } => write!(f, "{}", Shown(value)),
            Output::Value { value, version: Some(v) } => write!(f, "{} v{v}", Shown(value)),
            Output::Absent => write!(f, "absent"),
            Output::Done => write!(f, "ok"),
            Output::Length(length) => write!(f, "length {length}"),
            Output::Deleted { present: true } => write!(f, "was present"),
            Output::Deleted { present: false } => write!(f, "was absent"),
            Output::Stored { version } => write!(f, "v{version}"),
            Output::ErrVersion => write!(f, "ErrVersion"),
            Output::ErrNoKey => write!(f, "ErrNoKey"),
        }
    }
}

/// What was asked and what was answered; `?` when nobody knows.
impl fmt::Display for Operation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.output() {
            None => write!(f, "{} ?", self.input),
            Some(Output::Done) => write!(f, "{}", self.input),
            Some(output) => write!(f, "{} → {output}", self.input),
        }
    }
}
