//! Persistence: what must outlive a crash, and the disks that it is kept on.
//!
//! Nothing is said before it is durable, so everything that a node promises, votes or
//! acknowledges passes through here first. This crate holds the rules of keeping it, as plain
//! synchronous code: no clock, no thread, no mailbox. The two actors that own a node's files stand
//! on top: `JournalActor` with group commit, on a thread of its own, and `FilesActor` for whole
//! files, on another, so that a long checkpoint never stands in the way of a vote. A long request
//! is carried out in steps of some megabytes, each synced by itself: what is asked for meanwhile
//! does not wait for the whole, and nor does the journal's next sync on the same disk.
//!
//! ```text
//!   layout    whose directory is it, what lies where
//!   journal   records in order, group commit, torn tails   \  both stand on D1 to D5
//!   files     the old content or the new, streamed images  /  of `disk`, and on nothing else
//!   scrub     reads again what nobody has read for long
//!   disk      the only door to files: trait `Disk`
//!   real sim  the file system of the machine; one in memory that loses, tears and fails
//! ```
//!
//! # Invariants
//! D1 to D5 stand in [`disk`], what a disk promises; J1 to J5 in [`journal`].
//!
//! # What is deliberately missing
//! - Retries. After a failed write or sync the journal refuses everything; the node ends. Only
//!   a full disk may be tried again, because then nothing has changed.
//! - Meaning. Records, preambles and images are bytes; their owners encode and merge them.

mod actor;
pub mod disk;
pub mod files;
pub mod journal;
mod keeper;
pub mod layout;
mod messages;
pub mod pins;
pub mod real;
mod scrub;
pub mod sim;

pub use actor::{JournalActor, Owners};
pub use disk::{DirLock, Disk, DiskError, DiskFile, Kind, remove_leftovers};
pub use files::{
    AtomicReader, Cursor, FileError, Sink, Stamp, read_atomic, remove_atomic, stamp, write_atomic,
    write_atomic_with,
};
pub use journal::{Committed, Journal, JournalError, JournalOptions, JournalStats};
pub use keeper::{Due as FilesDue, FilesActor, SAVE_PAUSE, STEP_BYTES};
pub use layout::{DataDir, Expected, Identity, LayoutError, Numbered};
pub use messages::{FileEvent, FilesMessage, JournalEvent, JournalMessage, Reader, Writer};
pub use pins::{PINS_FORMAT, encode_pins, read_pins};
pub use real::RealDisk;
pub use scrub::{Damage, SCRUB_PAUSE, Scrub};
pub use sim::{SimCounters, SimDisk};
