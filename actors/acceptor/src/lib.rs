//! The acceptor: remembers promises and votes, and never goes back on either.
//!
//! Paxos Made Simple (PMS), section 2.2; the acceptor of Paxos Made Moderately Complex (PMMC).
//!
//! ```text
//!   proposer        acceptor              learner (same node)
//!      | -- Prepare --> |      phase 1a: promise to ignore lower ballots?
//!      | <- Promise --- |      phase 1b: yes, and here is what I voted for
//!      | -- Accept ---> |      phase 2a: vote for these?
//!      | <- Accepted -- |      phase 2b: done, durably
//!      |                | -- Voted --> |   learning by the acceptors' reports (PMS 2.3)
//!      | -- Confirm --> |      has a higher ballot been promised? (for reads)
//!      | <- Confirmed - |      no
//! ```
//!
//! # Invariants
//! A1. `promised` never decreases, across crashes too.
//! A2. No vote stands above `promised` (PMS section 2.2, P1a).
//! A3. Nothing is answered before every promise and vote it rests on is durable.
//! A4. No vote is kept for a forgotten slot, and none is cast.
//!
//! # Deviations
//! - One promise covers every slot (multi-decree), as PMMC does.
//! - An Accept of a higher ballot than promised is also a promise, as in PMMC.
//! - One Accept carries many slots, under a round number; Accepted names only the round.
//! - What the proposer says is chosen rides on Accept and is remembered with the vote, so that a
//!   restart knows it without asking.

mod actor;
mod core;
mod messages;

pub use crate::core::{Acceptor, Outbound, Timer};
pub use actor::{AcceptorActor, Wiring};
pub use messages::*;
