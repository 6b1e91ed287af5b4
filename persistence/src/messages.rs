//! What the persistence actors hear and answer.

use std::{fmt, path::PathBuf};

use bytes::Bytes;
use quorate_protocol::GroupId;
use quorate_stage::Outlet;

use crate::files::{FileError, Sink};

/// What the journal's actor can be told. Each group has a journal of its own.
pub enum JournalMessage {
    /// From a group's acceptor when it starts: read everything back. Answer:
    /// [`JournalEvent::Recovered`]; the outlet also hears of what becomes durable from then on.
    Open {
        /// Whose journal.
        group: GroupId,
        /// Where to answer.
        reply: Outlet<JournalEvent>,
    },
    /// Make these records durable. Answer: [`JournalEvent::Durable`].
    Append {
        /// Whose journal.
        group: GroupId,
        /// Comes back in the answer; grows.
        number: u64,
        /// The records, each with the highest slot that it is about (0 for none).
        records: Vec<(Bytes, u64)>,
        /// What a new segment begins with, see [`crate::Journal::write`].
        standing: Bytes,
    },
    /// Records about slots below this one are not needed any more.
    Trim {
        /// Whose journal.
        group: GroupId,
        /// First slot that is.
        below: u64,
    },
}

quorate_stage::kinds!(JournalMessage { Open, Append, Trim });

impl fmt::Display for JournalMessage {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            JournalMessage::Open { group, .. } => write!(f, "Open {group}"),
            JournalMessage::Append { group, number, records, .. } => {
                write!(f, "Append {group} #{number} {} records", records.len())
            }
            JournalMessage::Trim { group, below } => write!(f, "Trim {group} below={below}"),
        }
    }
}

/// What the journal's actor tells a group's acceptor.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum JournalEvent {
    /// Every record that was ever made durable and not trimmed, in order.
    Recovered(Vec<Bytes>),
    /// Every record appended under a number up to this one is durable.
    Durable(u64),
    /// The actor has started anew: what was appended and not reported durable is lost. Whoever
    /// hears it must recover from [`JournalMessage::Open`].
    Lost,
}

/// Writes the content of a file, on the thread of the files' actor.
pub type Writer = Box<dyn FnOnce(&mut Sink) -> Result<(), FileError> + Send>;

/// What the files' actor can be told.
pub enum FilesMessage {
    /// Read a file whole. Answer: [`FileEvent::Loaded`].
    Load {
        /// Which file.
        path: PathBuf,
        /// Where to answer.
        reply: Outlet<FileEvent>,
    },
    /// Replace a file, atomically. Answer: [`FileEvent::Saved`] once it is durable.
    Save {
        /// Which file.
        path: PathBuf,
        /// Comes back in the answer.
        id: u64,
        /// Writes the content.
        writer: Writer,
        /// Where to answer.
        reply: Outlet<FileEvent>,
    },
    /// What has become of a Save? Requests are answered in order, so whoever is answered this
    /// first knows that the actor crashed over the Save. Answer: [`FileEvent::Asked`].
    Ask {
        /// Comes back in the answer.
        id: u64,
        /// Where to answer.
        reply: Outlet<FileEvent>,
    },
}

quorate_stage::kinds!(FilesMessage { Load, Save, Ask });

impl fmt::Display for FilesMessage {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let name = |path: &PathBuf| path.file_name().map(|name| name.display().to_string());
        match self {
            FilesMessage::Load { path, .. } => write!(f, "Load {}", name(path).unwrap_or_default()),
            FilesMessage::Save { path, id, .. } => {
                write!(f, "Save {} #{id}", name(path).unwrap_or_default())
            }
            FilesMessage::Ask { id, .. } => write!(f, "Ask #{id}"),
        }
    }
}

/// What the files' actor answers.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum FileEvent {
    /// The content; `None` if there is no such file.
    Loaded(Option<Bytes>),
    /// The file is durable.
    Saved {
        /// The request's number.
        id: u64,
        /// Bytes on the disk.
        bytes: u64,
    },
    /// Every request before the Ask of this number is answered or lost.
    Asked {
        /// The request's number.
        id: u64,
    },
}
