//! The clerk: the client of the store. Each operation is carried out once, however often it has
//! to be sent.
//!
//! Raft, section 8 (client interaction); the Clerk of the 6.824 labs.
//!
//! ```text
//!   user        clerk                         kvserver 1     kvserver 2
//!     | Submit -> | -- Serve (client, serial) --> |              |
//!     |           |        (no answer)            |              |
//!     |           | -- Serve (same serial) --------------------> |
//!     | <- Outcome| <- Served ---------------------------------- |
//! ```
//!
//! # What always holds
//! C1. A serial names one operation for ever. What is sent again is sent under its serial.
//! C2. An outcome that is not known is reported as [`Outcome::Unknown`], never as failure or
//!     success. [`Outcome::Refused`] means that the operation had no effect and will have none.
//! C3. A clerk that starts anew is another client: it takes no answer that was meant for a former
//!     life, and its users are told that what they have asked will not be answered.
//! C4. `acked_below` never passes a serial that somebody still waits for, among those of one shard.
//! C5. A clerk without a session says ErrVersion only of a Put that was sent one time, and
//!     [`Outcome::Maybe`] only of one that was sent again and then met another version. It is never
//!     said because time has passed.
//! C6. Nothing is sent again that servers may have forgotten: after half an hour an outcome is unknown,
//!     also to a clerk whose process was stopped meanwhile.
//! C7. A write names the one before it that is under way in its shard, and is applied after that: what is
//!     sent one after the other takes effect in that order, whatever had to be sent again.
//!
//! # Finding the group
//! Where the store is divided, a clerk sends each operation to the group of its shard, by the newest
//! configuration that it has heard of, and divides what is about several shards. A group that does not have
//! the shard says so, and whom to ask: the operation goes there under the same serial, for the sessions
//! travel with the shard. A shardmaster on the clerk's own node tells it of every configuration; others are
//! asked when a group is silent, or says that there is a newer one. A group that cannot be reached holds up
//! what is asked of it, and nothing else.
//!
//! # Without a session
//! The clerk of 6.5840 2026 asks the servers to remember nothing. It may read, and put at a version:
//! since a key's version only rises, a second copy of a Put that took effect finds another version.
//! So it is carried out at most once, ErrNoKey is certain even when it was sent again, and ErrVersion
//! is not: the first copy may have raised the version. Deleting a key makes it begin at version 1
//! anew; clerks without sessions must not share keys with clients that delete.
//!
//! # Deviations
//! - A clerk serves many users at once: serials overtake each other, and the servers keep replies
//!   for a window of them. The labs' clerk has one operation under way.
//! - A clerk has a deadline, at the most that of C6. The labs' clerk has none: it blocks until it
//!   succeeds.

mod actor;
mod calls;
mod gather;
mod messages;
mod routes;

pub use actor::{Clerk, Config, Timer};
pub use messages::*;
pub use routes::{Layout, Servers};
