//! The gateway: the Redis protocol, RESP2 and RESP3, in front of the clerk.
//!
//! A [`Connection`] is pure: bytes and outcomes in, operations and bytes out. The actor owns the
//! sockets and the mailbox.
//!
//! ```text
//!   socket          Connection            clerk
//!      | -- bytes --> |                     |
//!      |              | -- Submission --> * |   all that one read holds, together
//!      |              | <---- Outcome ---   |   in any order
//!      | <- answers - |                     |   in the order of the requests
//! ```
//!
//! # Invariants
//! G1. Answers leave in the order of their requests, one for each that is not silenced.
//! G2. A pipeline sees its own effects: a read is not handed over while a write of a key that it
//!     reads is under way on the same connection, nor the other way round. Operations are handed
//!     over in the order of their requests.
//! G3. An error that makes client libraries send a command again (TRYAGAIN, CLUSTERDOWN, LOADING)
//!     is given only when the command was certainly not executed.
//! G4. What a connection holds is bounded: one incomplete request, [`OUTSTANDING_MAX`] operations,
//!     and about [`OUTPUT_BYTES_MAX`] bytes of answers that the client does not read.
//! G5. No input harms anything but its own connection.
//!
//! # Deviations
//! From Redis, and each answered by name: keys do not expire, values are at most 16 MiB, keys at
//! most 64 KiB, a request at most 64 MiB; CONFIG SET, CLIENT KILL and CLIENT TRACKING are refused.
//! WAIT never waits, since an acknowledged write is on a majority already.

mod actor;
pub mod cmd;
mod connection;
mod messages;
mod node;
mod order;
pub mod resp;
mod session;
mod socket;

pub use actor::{Config, Counts, Gateway, Timer};
pub use connection::{Connection, OUTPUT_BYTES_MAX, OUTSTANDING_MAX, Seq, Submission, Tally};
pub use messages::{ConnectionId, Message, Standing};
pub use node::{Counters, Member, NodeInfo};
pub use session::{Replies, Session};
pub use socket::Socket;
