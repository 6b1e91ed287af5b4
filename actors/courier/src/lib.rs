//! The courier: carries checkpoints between nodes, as files, a part at a time.
//!
//! Raft, section 7, has the leader send its snapshot in chunks (InstallSnapshot). Here whoever
//! needs one fetches it, from any node that has one, and no engine is involved: it only says who
//! is behind ([`Behind`](quorate_protocol::log::Event::Behind)).
//!
//! ```text
//!   application      courier                      courier there        files (of each node)
//!      | -- Fetch -----> | -- Resume ------------------------------------> |   how far were we?
//!      |                 | -- Ask, from 0 ---------> | -- ReadPart ------> |
//!      |                 | <- Part ----------------- |                     |
//!      | <- Carried ---- | -- WritePart ---------------------------------> |   incoming-70
//!      |                 | -- Ask, from 262144 ----> |                     |
//!      |                 |          ...              |                     |
//!      |                 | -- Adopt -------------------------------------> |   checkpoint-70
//!      | <- Fetched ---- |                           |                     |
//!      | -- Kept ------> |   older ones may go       |                     |
//! ```
//!
//! # Invariants
//! C1. A file gets the name of a checkpoint only after every checksum in it was found right, the
//!     sum over all of them included, and it is durable: parts of two files never become one.
//! C2. At most one part is on its way here and at most one is being written, so memory is bounded
//!     whatever the size of the file.
//! C3. A transfer goes on where it stopped, after the loss of messages and the restart of either
//!     courier or either node: the length of the incoming file tells where, once its checksums
//!     were found right so far.
//! C4. Below the newest checkpoint that the application keeps, no file stays but those that
//!     somebody has asked for within the last two periods of [`Config::pin`], one for each asker,
//!     and for one period after a start the one before the newest.
//! C5. An answer counts only if it answers the last question: what is late or comes twice is
//!     without effect.
//!
//! # Deviations
//! - A checkpoint is a function of its index, the same bytes on every node, so another source can
//!   go on where one has stopped. Where that does not hold (C1 finds it) the transfer begins anew.
//! - The file may be another one than was asked for, if it is newer: the source may have made it
//!   meanwhile and removed the other.
//!
//! # What is deliberately missing
//! - Meaning. The courier knows names and bytes; what a checkpoint holds is the application's.

mod actor;
mod core;
mod messages;

pub use crate::core::{Config, Courier, Outbound, PART_BYTES, Task, Timer};
pub use actor::{CourierActor, Wiring};
pub use messages::*;
