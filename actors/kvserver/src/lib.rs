//! The key/value machine: what is stored, and what each operation does to it.
//!
//! Every replica applies the same operations in the same order and must come to the same state, so
//! the machine is a pure function of them: no clock, no randomness, ordered iteration only.
//!
//!   rsm            machine                     another thread
//!    | -- apply -->   |     a chosen operation, in log order
//!    | <-- Reply --   |
//!    | -- query -->   |     a read, after its barrier
//!    | <-- Reply --   |
//!    | - snapshot ->  | --- Snapshot ---------> | encoded there, while applying goes on
//!
//! # Shards
//! Where the store is divided (6.824 2015, Lab 4B), the machine of a group is the store and a table of which
//! shards of it are the group's (`shards/`). Configurations are taken over one by one, as entries of the
//! log; a shard is given up when the other group asks for it, travels in pieces with the sessions of its
//! clients, and is deleted when it has arrived. `actors/mover` does the asking.
//!
//! # Clerks without sessions
//! The clerk of 6.5840 2026 keeps no session: it may only read and put at a version, and says
//! ErrMaybe where it cannot tell. For such a clerk the kvserver submits under a session of its own,
//! so that an engine which repeats a proposal does not carry it out twice, and nothing is kept of
//! any client: neither in the log's state nor here, once it is answered. The price: such a clerk
//! must not share its keys with a Delete, after which versions begin anew, and leans on a network
//! that does not repeat its messages (TCP does not): a Put that arrives twice meets its own version.
//!
//! # Invariants
//! K1. The same operations in the same order give the same replies and the same snapshot bytes.
//! K2. No stored key is longer than [`KEY_BYTES_MAX`], no value longer than [`VALUE_BYTES_MAX`].
//! K3. An operation that answers an error has changed nothing.
//! K4. A snapshot never changes, whatever is applied after it was taken.
//! K5. Nothing that is stored keeps the buffer alive that it arrived in.
//! K6. A serial of the server's session names one transmission of one clerk for ever, and its
//!     answer goes to nobody else.
//! K7. An operation on a shard is carried out only between the entry of the log with which all of the
//!     shard is here, the sessions of its clients included, and the one that gives it up.
//! K8. What is answered with ErrWrongGroup leaves no trace, neither in the store nor in a session.

mod actor;
mod door;
mod machine;
mod messages;
mod number;
mod request;
mod shards;
mod slot;
mod snapshot;
pub use actor::KvServer;
pub use machine::{ANSWER_BYTES_MAX, Store};
pub use messages::*;
pub use number::canonical_i64;
pub use request::{Message, Served};
pub use shards::{Command, Cursor, Load, Machine, Moving, Pair, Phase, Piece, View};
pub use slot::{HASH_SLOT_COUNT, HashSlot};
pub use snapshot::{CHUNK_BYTES_MAX, Chunks, DecodeError, FORMAT, Restore, Snapshot};
