//! What the persistence actors hear and answer.

use std::{
    fmt,
    path::{Path, PathBuf},
};

use bytes::Bytes;
use quorate_protocol::{GroupId, Name};
use quorate_stage::Outlet;

use crate::files::Stamp;

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

/// The content of a file that is to be written, as pieces that are made on the thread of the files'
/// actor, when it comes to them.
pub struct Writer(Box<dyn Iterator<Item = Bytes> + Send>);

impl Writer {
    /// Content that is made piece by piece, for what is too large to lie in memory at once. A
    /// piece should not be longer than some 256 KiB.
    pub fn new(pieces: impl Iterator<Item = Bytes> + Send + 'static) -> Self {
        Writer(Box::new(pieces))
    }

    /// Content that is there already.
    pub fn of(bytes: impl Into<Bytes>) -> Self {
        Writer::new(std::iter::once(bytes.into()))
    }
}

impl Iterator for Writer {
    type Item = Bytes;

    fn next(&mut self) -> Option<Bytes> {
        self.0.next()
    }
}

/// Takes the content of a file, piece by piece, on the thread of the files' actor.
pub trait Reader: Send {
    /// The next piece of the content.
    ///
    /// # Errors
    /// What is wrong with it; then nothing more comes.
    fn feed(&mut self, bytes: &[u8]) -> Result<(), String>;

    /// The content was complete. Whatever was made of it is sent from here to whoever wants it;
    /// `me` is who sends.
    ///
    /// # Errors
    /// What is missing.
    fn finish(self: Box<Self>, me: Name) -> Result<(), String>;
}

/// What the files' actor can be told.
pub enum FilesMessage {
    /// Which files are in a directory? Answer: [`FileEvent::Listed`].
    List {
        /// The directory; one that is not there has none.
        dir: PathBuf,
        /// Where to answer.
        reply: Outlet<FileEvent>,
    },
    /// Feed an atomic file to a reader. Answer: [`FileEvent::Read`] or [`FileEvent::Refused`].
    Read {
        /// Which file.
        path: PathBuf,
        /// Comes back in the answer.
        id: u64,
        /// Takes the content.
        reader: Box<dyn Reader>,
        /// Where to answer.
        reply: Outlet<FileEvent>,
    },
    /// Replace a file, atomically. Answer: [`FileEvent::Saved`] once it is durable.
    Save {
        /// Which file.
        path: PathBuf,
        /// Comes back in the answer.
        id: u64,
        /// Makes the content.
        writer: Writer,
        /// Where to answer.
        reply: Outlet<FileEvent>,
    },
    /// What has become of a long request about this file? Answer: [`FileEvent::Asked`]. Whoever
    /// is told that it is not under way, and has no answer, knows that the actor crashed over it.
    Ask {
        /// Which file.
        path: PathBuf,
        /// Comes back in the answer.
        id: u64,
        /// Where to answer.
        reply: Outlet<FileEvent>,
    },
    /// Remove these files, if they are there. No answer.
    Remove {
        /// Which files, of one directory.
        paths: Vec<PathBuf>,
    },
    /// Drop this here: freeing much memory takes long. No answer.
    Drop(Box<dyn Send>),
    /// Read some bytes of a file as they lie on the disk. Answer: [`FileEvent::Part`].
    ReadPart {
        /// Which file.
        path: PathBuf,
        /// Comes back in the answer.
        id: u64,
        /// From which byte of the file on.
        offset: u64,
        /// How many bytes at most.
        bytes_max: usize,
        /// Where to answer.
        reply: Outlet<FileEvent>,
    },
    /// Write some bytes of a file that is not complete. Answer: [`FileEvent::Written`] or
    /// [`FileEvent::Failed`].
    WritePart {
        /// Which file; it is made if it is not there.
        path: PathBuf,
        /// Comes back in the answer.
        id: u64,
        /// From which byte of the file on; what lies above is cut off.
        offset: u64,
        /// What.
        bytes: Bytes,
        /// Whether to sync it.
        sync: bool,
        /// Where to answer.
        reply: Outlet<FileEvent>,
    },
    /// How much of a file that is not complete is right? The rest is cut off. Answer:
    /// [`FileEvent::Resumed`] or [`FileEvent::Failed`].
    Resume {
        /// Which file.
        path: PathBuf,
        /// Comes back in the answer.
        id: u64,
        /// Where to answer.
        reply: Outlet<FileEvent>,
    },
    /// A file is complete: check all of it, sync it, and give it another name. Answer:
    /// [`FileEvent::Adopted`].
    Adopt {
        /// Which file.
        path: PathBuf,
        /// Its name from then on, in the same directory.
        to: PathBuf,
        /// Comes back in the answer.
        id: u64,
        /// Where to answer.
        reply: Outlet<FileEvent>,
    },
}

quorate_stage::kinds!(FilesMessage {
    List,
    Read,
    Save,
    Ask,
    Remove,
    Drop,
    ReadPart,
    WritePart,
    Resume,
    Adopt,
});

impl fmt::Display for FilesMessage {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let name = |path: &Path| {
            let name = path.file_name().map(|name| name.display().to_string());
            name.unwrap_or_default()
        };
        match self {
            FilesMessage::List { dir, .. } => write!(f, "List {}", name(dir)),
            FilesMessage::Read { path, id, .. } => write!(f, "Read {} #{id}", name(path)),
            FilesMessage::Save { path, id, .. } => write!(f, "Save {} #{id}", name(path)),
            FilesMessage::Ask { path, id, .. } => write!(f, "Ask {} #{id}", name(path)),
            FilesMessage::Remove { paths } => {
                f.write_str("Remove")?;
                paths.iter().try_for_each(|path| write!(f, " {}", name(path)))
            }
            FilesMessage::Drop(_) => f.write_str("Drop"),
            FilesMessage::ReadPart { path, id, offset, .. } => {
                write!(f, "ReadPart {} #{id} from={offset}", name(path))
            }
            FilesMessage::WritePart { path, id, offset, bytes, .. } => {
                write!(f, "WritePart {} #{id} from={offset} {} bytes", name(path), bytes.len())
            }
            FilesMessage::Resume { path, id, .. } => write!(f, "Resume {} #{id}", name(path)),
            FilesMessage::Adopt { path, id, .. } => write!(f, "Adopt {} #{id}", name(path)),
        }
    }
}

/// What the files' actor answers.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum FileEvent {
    /// The names in the directory, sorted.
    Listed(Vec<String>),
    /// All of the file went to the reader; or there is no such file.
    Read {
        /// The request's number.
        id: u64,
        /// Whether there is such a file.
        found: bool,
    },
    /// The reader did not take the content, whose checksums are right.
    Refused {
        /// The request's number.
        id: u64,
        /// What the reader says.
        why: String,
    },
    /// The file is durable.
    Saved {
        /// The request's number.
        id: u64,
        /// Bytes on the disk.
        bytes: u64,
    },
    /// What is known of a long request.
    Asked {
        /// The request's number.
        id: u64,
        /// Whether it is still being worked at.
        under_way: bool,
    },
    /// Some bytes of a file, and its stamp; `None` if it cannot be read.
    Part {
        /// The request's number.
        id: u64,
        /// Those bytes; none behind the end of the file.
        part: Option<(Bytes, Stamp)>,
    },
    /// The part is in the file, and so is what was below it; durable if that was asked for.
    Written {
        /// The request's number.
        id: u64,
        /// Where the file ends.
        end: u64,
    },
    /// The file that is not complete can be neither read nor written: remove it, try later.
    Failed {
        /// The request's number.
        id: u64,
        /// What the disk says.
        why: String,
    },
    /// So much of the file that is not complete is right.
    Resumed {
        /// The request's number.
        id: u64,
        /// Where the file ends now.
        end: u64,
    },
    /// The file was checked.
    Adopted {
        /// The request's number.
        id: u64,
        /// Whether it is right and has its new name, durably. If not, it is gone.
        right: bool,
    },
}

impl fmt::Display for FileEvent {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            FileEvent::Listed(names) => write!(f, "Listed {} files", names.len()),
            FileEvent::Read { id, found: true } => write!(f, "Read #{id}"),
            FileEvent::Read { id, found: false } => write!(f, "Read #{id} no such file"),
            FileEvent::Refused { id, why } => write!(f, "Refused #{id} {why}"),
            FileEvent::Saved { id, bytes } => write!(f, "Saved #{id} {bytes} bytes"),
            FileEvent::Asked { id, under_way } => write!(f, "Asked #{id} under_way={under_way}"),
            FileEvent::Part { id, part: Some((bytes, stamp)) } => {
                write!(f, "Part #{id} {} of {} bytes", bytes.len(), stamp.bytes)
            }
            FileEvent::Part { id, part: None } => write!(f, "Part #{id} no such file"),
            FileEvent::Written { id, end } => write!(f, "Written #{id} end={end}"),
            FileEvent::Failed { id, why } => write!(f, "Failed #{id} {why}"),
            FileEvent::Resumed { id, end } => write!(f, "Resumed #{id} end={end}"),
            FileEvent::Adopted { id, right } => write!(f, "Adopted #{id} right={right}"),
        }
    }
}
