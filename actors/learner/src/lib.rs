//! The learner: knows what is chosen, and hands it over in slot order.
//!
//! Paxos Made Simple (PMS), sections 2.3 and 3; Paxos Made Moderately Complex (PMMC).
//!
//! ```text
//!   acceptor    proposer           learner                 rsm       other learners
//!      | -- Voted ----------------> |                       |             |
//!      |           | -- Announce -> |   chosen through r3   |             |
//!      |           | <-- Known ---- |                       |             |
//!      |           | -- Decided --> |   (own node)          |             |
//!      |           | <- Decided --- | -- Chosen ----------> |             |
//!      |           |                | -- Learn ----------------------->   |   missed some
//!      |           |                | <- Taught -----------------------   |
//!      |           |                | -- Behind ----------> |             |   they have forgotten
//!      |           |                | <- Forget, Subscribe- |             |   a checkpoint is there
//!      | <- Forget -----------------|                       |             |
//!      |           |                | -- Done ------------------------>   |   the library: min()
//! ```
//!
//! # Invariants
//! L1. One value per slot, whatever the source.
//! L2. What is known to be chosen does not wait.
//! L3. Of a log nothing is forgotten before it is part of a state that is durable on this node; then
//!     it is, whatever the other members need. Of the labs' instances nothing is kept that every
//!     member has done with, and nothing is forgotten before.
//! L4. The rsm gets slots in order, without gaps.
//! L5. A log begins at slot 1.
//! L6. Who the members are is known from what is chosen, in order, or from a durable state, and never
//!     beyond what is known to be chosen.
//!
//! # Deviations
//! - Acceptors report to their own learner only, and the proposer says what is chosen by round
//!   number: an announcement costs a few bytes whatever was chosen (PMS 2.3 has acceptors tell a
//!   distinguished learner; that one is the proposer here).
//! - Votes of an older ballot than the newest seen are dropped: a chosen one among them is proposed
//!   again, or is asked for by slot.
//! - What a learner knows is not durable, beyond what its acceptor's votes and marks show. A slot
//!   that is chosen and that no learner knows any more is proposed again by whoever needs it.
//! - A log that does not reach a checkpoint goes on behind it, as the log interface wants it; but what
//!   is kept below stays until it is said to be of no use, because others may lag less than we did.
//! - The labs' `done` travels between learners when it changes, never otherwise, and is repeated
//!   until heard. A log has no need of it: a member that was away fetches a checkpoint.

mod actor;
mod core;
mod members;
mod messages;

pub use crate::core::{Holes, Learner, Outbound, Timer, Timing};
pub use actor::{LearnerActor, Wiring};
pub use messages::*;
