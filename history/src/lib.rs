//! Histories: what clients saw, written down, and judged.
//!
//! Quorate promises linearizability: every operation seems to take effect at one moment between
//! its invocation and its answer (Herlihy & Wing, *Linearizability: A Correctness Condition for
//! Concurrent Objects*, 1990). This crate holds the promise against what clients really saw. It
//! knows nothing of the cluster, of Paxos or of Raft; whoever breaks the promise, it shows here.
//!
//! ```text
//!   clients ──▶ Recorder ──▶ file, one JSON line per event ──▶ read ──▶ History
//!                                                                         │ check
//!                     Linearizable  │  Violation(Window)  │  Unknown  ◀───┘
//! ```
//!
//! - [`record`]: the format of the file, its writer and its reader.
//! - [`operation`]: the same in memory, as tests build it.
//! - [`check`](mod@check): the judge. Each key is judged by itself, which locality allows (Herlihy
//!   & Wing, theorem 1). The search is that of Wing & Gong (*Testing and Verifying Concurrent
//!   Objects*, 1993) with Lowe's just-in-time order and his memory of configurations (*Testing for
//!   Linearizability*, 2017).
//! - [`window`]: of a violation, the smallest part that is still one, drawn as text and as SVG.
//!
//! ```
//! use quorate_history::{History, Input, Operation, Outcome, Output, Verdict, check};
//!
//! let op = |client, input, invoked, at, output| Operation {
//!     client,
//!     key: b"x".as_slice().into(),
//!     input,
//!     invoked,
//!     outcome: Outcome::Returned { at, output },
//! };
//! let put = Input::Put { value: b"1".as_slice().into() };
//! // The Get begins after the Put has returned, and misses it.
//! let ops = vec![op(1, put, 0, 10, Output::Done), op(2, Input::Get, 20, 30, Output::Absent)];
//! assert!(matches!(check(&History { ops }), Verdict::Violation(_)));
//! ```
//!
//! # The object
//!
//! A key is absent, or holds a value and a version. Put, Append, and a versioned Put that finds its
//! version store a value and add 1 to the version; creation gives version 1. Delete removes the key
//! and forgets the version. A versioned Put at version 0 creates the key; above 0 it answers
//! ErrNoKey when the key is absent; otherwise a wrong version is ErrVersion.
//!
//! # Invariants
//! H1. *Linearizable* is said only with an order in hand, replayed on the bytes themselves.
//! H2. *Violation* is said only when no order exists; every operation of its window is from the
//!     history, and what was left out or forgotten could only have helped the accused.
//! H3. An operation of unknown outcome may take effect at any time after its invocation, or never.
//! H4. The verdict depends on the history and the budget alone: no clock, no chance.
//! H5. Steps and memory are bounded by the budget. What lies beyond is *unknown*, never a guess.
//!
//! # How hard it is
//! In general the question is NP-complete. With values and appended tokens that are unique, and
//! appends that tell no lengths, 64 clients on one key are no trouble; a thousand operations cost
//! milliseconds. What makes it hard is doubt: repeated values, deletes next to many unknown
//! outcomes, and lengths or versions where most writes are never read. Suites should write unique
//! values. `examples/million.rs` measures.
//!
//! # Deviations
//! - Configurations are remembered as 128-bit fingerprints rather than as bit sets with a state
//!   (Lowe keeps both whole): a key with a million operations would need a million bits for each.
//! - The search follows rules that the answers imply (S1 to S7 in `search`). The papers' algorithms
//!   know nothing of registers and appends; without the rules a hot key of 64 clients is hopeless.
//!
//! # Deliberately missing
//! - Operations on several keys (MGET, MSET, a transaction): locality would be lost.
//! - Weaker conditions (sequential consistency, session guarantees) and other objects (counters).
//! - Clocks and threads: the caller passes timestamps in, and may stop a check that takes too long.

pub mod check;
mod draw;
mod fingerprint;
mod lineage;
mod memo;
pub mod operation;
mod plan;
pub mod record;
mod search;
pub mod window;

pub use check::{
    Budget, Progress, Reason, Verdict, check, check_watched, check_while, check_within,
};
pub use operation::{Blob, History, Input, Operation, Outcome, Output};
pub use record::{ReadError, Recorder, read, write};
pub use window::Window;
