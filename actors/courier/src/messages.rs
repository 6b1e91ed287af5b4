//! What a courier hears, and what it tells its application. Plain data.

use std::fmt;

use bytes::Bytes;
use quorate_persistence::FileEvent;
use quorate_protocol::{NodeId, log::Index};
use serde::{Deserialize, Serialize};

/// What a courier can be told.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Message {
    /// From the application: bring a checkpoint of this index or a later one. Answered by
    /// [`Event::Fetched`]; until then it may be asked for again.
    #[serde(skip)]
    Fetch {
        /// Who is said to have one; others are asked when it does not answer.
        from: NodeId,
        /// The least that it must hold.
        index: Index,
    },
    /// From the application: what was to be fetched is not needed any more.
    #[serde(skip)]
    Enough,
    /// From the application: its state through this index is durable here, as a checkpoint. Older
    /// ones may go.
    #[serde(skip)]
    Kept {
        /// That index.
        index: Index,
    },
    /// From the files.
    #[serde(skip)]
    File(FileEvent),
    /// From another courier: send me a part of a checkpoint. Answered by Part or Gone.
    Ask {
        /// Comes back in the answer; grows.
        number: u64,
        /// Any checkpoint of this index or a later one will do ...
        index: Index,
        /// ... but this one is half there already, if one is.
        having: Option<Index>,
        /// From which byte on, of the one that is half there.
        offset: u64,
    },
    /// The answer to Ask: a part of a checkpoint. It is the one that was half there, from the
    /// offset on, or another one from its start.
    Part(Part),
    /// The answer to Ask: there is none here.
    Gone {
        /// The number of the question.
        number: u64,
    },
}

/// A part of a file.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Part {
    /// The number of the question.
    pub number: u64,
    /// Which checkpoint.
    pub index: Index,
    /// Where in its file the part begins, in bytes.
    pub offset: u64,
    /// Bytes of the whole file.
    pub total: u64,
    /// The sum of the whole file: of two files with one length and sum, either will do.
    pub sum: u32,
    /// Checksum of `bytes`.
    pub crc: u32,
    /// The part; empty only at the end of the file.
    pub bytes: Bytes,
}

quorate_stage::kinds!(Message { Fetch, Enough, Kept, File, Ask, Part, Gone });

impl quorate_stage::WireMessage for Message {
    fn class(&self) -> quorate_stage::Class {
        match self {
            Message::Part(_) | Message::Gone { .. } => quorate_stage::Class::Answer,
            _ => quorate_stage::Class::Request,
        }
    }
}

impl From<FileEvent> for Message {
    fn from(event: FileEvent) -> Self {
        Message::File(event)
    }
}

/// What a courier tells its application.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Event {
    /// A transfer goes on.
    Carried {
        /// Which checkpoint.
        index: Index,
        /// Bytes that are here.
        done: u64,
        /// Bytes of the whole file.
        total: u64,
    },
    /// A checkpoint is here, whole and durable.
    Fetched {
        /// Its index.
        index: Index,
    },
    /// The disk would not take what comes; it is tried again later, from the start.
    Failed {
        /// What the disk says.
        why: String,
    },
}

impl fmt::Display for Message {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Message::Fetch { from, index } => write!(f, "Fetch {index} from={from}"),
            Message::Enough => f.write_str("Enough"),
            Message::Kept { index } => write!(f, "Kept {index}"),
            Message::File(event) => write!(f, "{event}"),
            Message::Ask { number, index, having, offset } => {
                write!(f, "Ask #{} {index}", number & 0xffff)?;
                having.map_or(Ok(()), |having| write!(f, " having={having} from={offset}"))
            }
            Message::Part(Part { number, index, offset, total, bytes, .. }) => {
                let end = offset + bytes.len() as u64;
                write!(f, "Part #{} {index} bytes={offset}..{end} of {total}", number & 0xffff)
            }
            Message::Gone { number } => write!(f, "Gone #{}", number & 0xffff),
        }
    }
}

impl fmt::Display for Event {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Event::Carried { index, done, total } => write!(f, "Carried {index} {done} of {total}"),
            Event::Fetched { index } => write!(f, "Fetched {index}"),
            Event::Failed { why } => write!(f, "Failed {why}"),
        }
    }
}
