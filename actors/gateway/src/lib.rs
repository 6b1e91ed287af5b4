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
//! G6. The map of hash slots has somebody to ask for each of the 16384, whoever is known, alive, or a
//!     member. Nobody is redirected to the node that he has asked, nor to one that may not lead.
//!
//! # Deviations
//! From Redis, and each answered by name: keys do not expire, values are at most 16 MiB, keys at
//! most 64 KiB, a request at most 64 MiB; CONFIG SET, CLIENT KILL and CLIENT TRACKING are refused.
//! WAIT never waits, since an acknowledged write is on a majority already.
//!
//! - Any node answers any key, and keys of several hash slots in one command, unless the configuration
//!   says `redirect = "always"`: then MOVED and CROSSSLOT are given as Redis Cluster gives them. The keys
//!   of one command (MGET, MSET, DEL, UNLINK, EXISTS) are then each atomic by itself: those of several
//!   shards are read and written at several moments, and an error may come after some have been written.
//! - READONLY costs no freshness: a replica's reads are linearizable. It only ends their being redirected.
//! - A slot that no group serves has somebody to ask in the map all the same, since clients take a gap for
//!   an error; CLUSTER INFO tells it.
//! - SHARDS is a command of our own, for operators.

mod actor;
pub mod cmd;
mod connection;
mod counters;
mod messages;
mod node;
mod order;
pub mod resp;
mod session;
mod slots;
mod socket;

pub use actor::{Config, Counts, Gateway, Timer};
pub use connection::{Connection, OUTPUT_BYTES_MAX, OUTSTANDING_MAX, Seq, Submission, Tally, Work};
pub use counters::{Counters, Errors};
pub use messages::{ConnectionId, GroupStanding, Message, Standing};
pub use node::{Member, NodeInfo, Redirect};
pub use session::{Replies, Session};
pub use slots::{Row, SlotMap, SlotRange};
pub use socket::Socket;
