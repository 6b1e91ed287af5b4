//! The acceptor: remembers promises and votes, and never goes back on either.
//!
//! Paxos Made Simple (PMS), section 2.2; the acceptor of Paxos Made Moderately Complex (PMMC).
//!
//! ```text
//!   proposer        acceptor              learner (same node)
//!      | -- Prepare --> |      phase 1a: promise to ignore lower ballots?
//!      | <- Promise --- |      phase 1b: yes, and here is what I voted for
//!      | -- Accept ---> |      phase 2a: vote for these?
//!      | <- Accepted -- |      phase 2b: done, durably (or Forgotten: it is chosen, see below)
//!      |                | -- Voted --> |   learning by the acceptors' reports (PMS 2.3)
//!      | -- Confirm --> |      has a higher ballot been promised? (for reads)
//!      | <- Confirmed - |      no
//! ```
//!
//! # Invariants
//! A1. `promised` never decreases, across crashes too.
//! A2. No vote stands above `promised` (PMS section 2.2, P1a).
//! A3. Nothing is answered before every promise and vote it rests on is durable.
//! A4. No vote is kept for a forgotten slot, and none is cast or seems to be: whoever asks for one is
//!     told that the slot is forgotten.
//!
//! # Forgetting
//! An acceptor of a log forgets what its own node needs no more, whatever the others need: what is
//! chosen below `forgotten` is in a checkpoint of this node. Why that is safe:
//!
//! - A slot that is forgotten anywhere is chosen, since it was applied before.
//! - A majority that promises a ballot shares a member with the one that voted for the value of a
//!   chosen slot. That member shows its vote, or says that it has forgotten the slot; and nothing
//!   is proposed below what a counted promise has forgotten (P2 of the proposer).
//! - A proposer may have got its promises before the slot was chosen in a higher ballot. It must
//!   not take an acceptor that has forgotten the slot, perhaps without ever having voted there,
//!   for one that votes for its value: so the answer is Forgotten, never Accepted.
//!
//! A5. On a node that was taken in later it promises, votes and confirms nothing before everything that was chosen
//!     before its first slot is durable on its node. So whoever agrees on the next change of the members has it,
//!     and the last one who had it from the first may be replaced.
//!
//! # Members
//! An acceptor answers whoever asks. Whose answers count is for the proposer to say, by who rules the slot:
//! see [`Membership`].
//!
//! # Deviations
//! - One promise covers every slot (multi-decree), as PMMC does.
//! - An Accept of a higher ballot than promised is also a promise, as in PMMC.
//! - One Accept carries many slots, under a round number; Accepted names only the round.
//! - What the proposer says is chosen rides on Accept and is remembered with the vote, so that a
//!   restart knows it without asking.

mod actor;
mod core;
mod membership;
mod messages;

pub use crate::core::{Acceptor, Outbound, Timer};
pub use actor::{AcceptorActor, Wiring};
pub use membership::{
    ALPHA, Membership, NoConfiguration, configuration_of, configuration_proposal, foreseen,
    is_former, is_own, pending_until, ruler,
};
pub use messages::*;
