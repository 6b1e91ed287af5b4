//! The proposer: campaigns for a ballot when it must, and then gets values chosen.
//!
//! Paxos Made Simple (PMS), sections 2.2 and 3; leader and commander of Paxos Made Moderately
//! Complex (PMMC), in one role.
//!
//! ```text
//!   rsm      proposer                     acceptors                 other proposers
//!    | Propose -> |                            |                           |
//!    |            | -- Forward ----------------------------------------->  |   it leads
//!    |            | <- Redirect -----------------------------------------  |   no, somebody else
//!    |            | -- Prepare --------------> |   phase 1a: own acceptor, then the others
//!    |            | <- Promise --------------- |   phase 1b: a majority: we lead
//!    |            | -- Accept ---------------> |   phase 2a: a round of any number of slots
//!    |            | <- Accepted -------------- |   phase 2b: a majority: chosen
//!    |            | -- Confirm --------------> |   do we still lead? (on behalf of reads)
//! ```
//!
//! # Invariants
//! P1. A ballot is sent to others only after our own acceptor has promised it durably; a proposer
//!     that starts surpasses what that acceptor has promised. So no ballot is used twice.
//! P2. One value per slot and ballot. A slot with votes is proposed the value of the highest one, and
//!     none is proposed below what a counted promise has forgotten, or counted where it is forgotten.
//! P3. Who leads has heard of no higher ballot.
//! P4. The number of rounds under way is bounded.
//! P5. What is announced as chosen was accepted by a majority, round by round without gaps.
//! P6. What is offered (to be placed once) gets a place only from who leads. Whoever offered it
//!     hears when that lead is over; after that only phase 1 can bring it up again (P2).
//! P7. A lead is of one configuration. Only promises and votes of its voters count, and nothing is proposed
//!     for a slot unless it is known that they rule it.
//!
//! # Members
//! A configuration that is chosen in slot i rules from i + ALPHA on (`quorate_acceptor::Membership`). So who
//! leads runs at most ALPHA slots ahead of what its learner knows. When it has had one chosen it fills the
//! slots below i + ALPHA with no-ops, and campaigns anew, among the new voters, once all of them are chosen.
//! Whoever has no vote then leads no more: it asks a voter, who campaigns on its behalf.
//!
//! What one configuration has chosen is durable with its voters. Those who rule next learn it, which does not
//! make it durable: before the former voters are done without, and before another disk may be lost, the new
//! members need it in a state of theirs.
//!
//! # Reads
//! A read is linearizable at an index if every write that was acknowledged before the read came
//! stands below it. Who leads answers the first slot above all that is chosen (also behind a gap,
//! which a learner may fill from another ballot) and all that phase 1 brought up, once a majority has confirmed that it has promised nothing higher: had another
//! proposer completed phase 1 before, some member of that majority would have refused.
//!
//! One who leads other voters is refused by nobody here. But it could begin only when a newer configuration
//! was chosen, by our voters. In a higher ballot than ours: then some member of our majority refuses. In
//! ours: then we know. In a lower one: then our phase 1 has shown it, or that something is forgotten which
//! we do not know. So nothing is answered while there may be a configuration that we have not taken account
//! of, or while one is pending.
//!
//! # Deviations
//! - No heartbeats. An idle group sends nothing: a dead leader is noticed by whoever wants
//!   something of it.
//! - Wishes of others are forwarded once and then campaigned for by their owner, who alone repeats
//!   them: the leader owes nothing but its own ballot.
//! - What has been chosen is announced by round numbers, on the next Accept or after a short
//!   linger, and repeated until acknowledged. What is acknowledged by all is forgotten.

mod actor;
mod campaign;
mod core;
mod lead;
mod members;
mod messages;
mod notices;
mod patience;
mod reign;

pub use crate::core::{Config, Limits, Outbound, Proposer, Timer, Timing};
pub use actor::{ProposerActor, Wiring};
pub use messages::*;
