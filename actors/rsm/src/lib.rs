//! The replicated state machine: orders the commands of a service, applies them once, answers.
//!
//! Any [`StateMachine`] can be hosted, on any engine that offers the log interface of
//! [`quorate_protocol::log`]. A whole replicated service stands at the end of this page.
//!
//! ```text
//!   service        rsm                          engine            files     courier
//!      | -- Submit --> | -- Propose -------------> |                 |          |   a batch
//!      |               | -- ReadBarrier ---------> |                 |          |   for all reads
//!      |               | <- Chosen, Barrier ------ |                 |          |
//!      | <- Answers -- |   applied, once           |                 |          |
//!      |               | -- Save --------------------------------->  |          |   checkpoint
//!      |               | -- Forget --------------> |  <- Saved ----- |          |
//!      |               | <- Behind --------------- |                 |          |   was away long
//!      |               | -- Fetch ---------------------------------------------> |
//!      |               | <- Restored ------------------------------- | <- Fetched
//! ```
//!
//! # Invariants
//! R1. Commands are applied in the order of the log, each index once.
//! R2. A command that changes something is applied at most once, whoever repeats it and however
//!     often: the check is made when it is applied ([`Sessions`]).
//! R3. A read is answered from a state that holds every write that was acknowledged before the
//!     read came: it waits for a barrier that was asked for afterwards.
//! R4. The batches of one life of an rsm are applied in the order in which it made them, each once;
//!     so what a client sends one after the other, without waiting, takes effect in that order.
//!     A batch that is placed once only ([`Placing::Once`]) belongs to a life of its own kind, in
//!     which batches may be missing: none waits for one before it that is never chosen, and none
//!     is applied after one that was made later. So each is applied at most once.
//! R5. The log is forgotten only below a durable checkpoint, and one generation of it stays: what
//!     came between the last checkpoint and the one before, for replicas that lag a little.
//! R6. A checkpoint is a function of its index: the same bytes on every replica. One that is taken
//!     over is ahead of what is applied here; nothing ever goes back.
//! R7. A command that is to follow another one of its client is not applied before that.
//!
//! # Deviations
//! - Every replica takes commands and proposes them (2015 Lab 3B); who leads is the engine's
//!   business. A batch is proposed again until it is seen in the log.
//! - Who wants the labs' `submit` says so ([`Placing::Once`]): its command is offered to the engine
//!   one time, and whoever waits is let go when the engine has dropped it.
//! - A waiter is known by its batch's identity, not by an index, so there is nothing to release
//!   when leadership moves: the batch is chosen elsewhere. All are let go when the node stops.
//!
//! - A replica that has fallen behind fetches a checkpoint itself, from whoever is said to have one
//!   (Raft 7 has the leader send it). It is read on the thread of the files, and what makes the old
//!   state is freed there. What this replica had proposed and finds in it is answered from its
//!   sessions.
//!
//! # A whole replicated service
//! `cargo run -p quorate-rsm --example counter`:
//! ```
#![doc = include_str!("../examples/counter.rs")]
//! ```

mod actor;
mod checkpoint;
mod clock;
mod install;
mod machine;
mod messages;
mod once;
mod origins;
mod sessions;

pub use actor::{Config, Empty, RsmActor, Timer, Wiring};
pub use checkpoint::Restored;
pub use machine::{At, Garbage, Restore, Restoring, StateMachine};
pub use messages::*;
pub use quorate_persistence::Writer;
pub use sessions::{EXPIRY_MS, REPLIES_MAX, STALE_MS, Scopes, SessionImage, Sessions, Verdict};
