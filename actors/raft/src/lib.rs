//! Raft: one peer of a group, which follows, campaigns or leads.
//!
//! Ongaro and Ousterhout, *In Search of an Understandable Consensus Algorithm*, extended version: the
//! sections that are named here. Where it says *thesis*: Ongaro, *Consensus: Bridging Theory and
//! Practice*.
//!
//! ```text
//!   rsm        follower                    leader                     follower
//!    | Propose -> | -- Forward ------------> |                            |    section 8
//!    |            | <- AppendEntries ------- | -- AppendEntries --------> |    section 5.3
//!    |            |    [disk]         [disk] |                     [disk] |    at the same time
//!    |            | -- Appended -----------> | <- Appended -------------- |
//!    |            | <- AppendEntries ------- |    a majority has it: committed
//!    | <- Chosen  |
//!
//!   candidate                 voter
//!      | -- RequestVote pre --> |     would you vote for me?               thesis, 9.6
//!      | <- Vote -------------- |     my leader is silent, and your log is as good as mine
//!      | -- RequestVote ------> |     section 5.2
//!      | <- Vote -------------- |     [disk]
//!
//!   rsm        follower                    leader
//!    | Barrier -> | -- Forward ------------> |     notes its commit; everybody gets a round
//!    |            | -- Appended -----------> |     a majority follows it still     section 8
//!    | <--------- | <- Barrier ------------- |     read, once that commit is applied
//!
//!   rsm        follower                    leader
//!    |            | <- InstallSnapshot ----- |     what you need is forgotten      section 7
//!    | <- Behind  |
//!    | Forget --> | -- Appended -----------> |     it is here, and durable
//!
//!   follower                  leader                 another follower
//!      | -- Forward ---------X  |                            |    no request comes to it
//!      | <- AppendEntries ----- |                            |    but it goes on leading
//!      | -- Appeal -----------> |                            |    answers do come
//!      | -- PassOn --------------------------------------->  |    or not even these do
//!      |                        | <- PassOn ---------------  |
//!
//!   follower                  leader
//!      | X-- AppendEntries ---- |     requests do not come here
//!      | -- RequestVote pre --> |
//!      | <- AppendEntries ----- |     round 0: in an answer
//! ```
//!
//! `core.rs` has what all roles share and how one becomes another; `follower.rs`, `candidate.rs` and
//! `leader.rs` have what belongs to one of them; `wishes.rs` has what the node wants and how it comes
//! to the leader; `log.rs` has the entries.
//!
//! # Invariants
//! T1. The term never decreases, and there is one vote in each, across crashes too (section 5.2).
//! T2. Terms of entries never fall along the log, and none is above the peer's term.
//! T3. base <= commit <= last entry, and neither base nor commit ever decreases.
//! T4. A leader only appends to its log (section 5.3).
//! T5. What is committed is never cut off, and never replaced.
//! T6. A leader commits by counting only what is of its own term; all before goes with it
//!     (section 5.4.2).
//! T7. Commands are handed over in the order of their indexes, without gaps, and committed.
//! T8. A leader has the durable votes of a majority, its own too if it counts.
//! T9. What a follower is known to have lies before what it gets next, and in the leader's log.
//!
//! # Places and indexes
//! A [`Place`] counts all entries; the log interface's index counts commands. So the first command
//! has index 1 whatever Raft itself has put into the log, and a [`Position`] names both.
//!
//! # Deviations
//! - *InstallSnapshot carries no state.* The follower asks its rsm for a snapshot, which fetches it as a
//!   file, in parts that can be resumed; the peer hears of it by Forget. One mechanism serves both
//!   engines, the receiver sets the pace, and the leader keeps no state for each transfer.
//! - *A leader's entries leave before they are durable here*, as the thesis allows (10.2.1): its own log
//!   counts towards a majority only when it is durable. Terms and votes always are before anything
//!   that rests on them is said.
//! - *What is committed is handed over at once*, also where this peer's disk does not have it yet: a
//!   majority has.
//! - *Vote and log are records of one journal*, not a file that is replaced. A segment begins with all
//!   that is not an entry.
//! - *A follower that has heard a leader ignores campaigns for the shortest election timeout* (section 6)
//!   unless the leader itself has asked for one (thesis, 3.10).
//! - *A leader that hears of no majority steps down* (thesis, 6.2), in its term. What was offered to it
//!   stays open until another term begins, since it may still be committed.
//! - *A new voter is a learner first*, until it has nearly all of the log (section 6 leaves open for how
//!   long).
//! - *Who hears answers only is not deposed, and not left behind.* The paper's leader is one that can be
//!   asked. What is forwarded to a leader in vain comes with the answers to its AppendEntries (Appeal), or
//!   by way of another follower (PassOn). A leader answers a pre-vote of a follower in its own term with
//!   the entries that it lacks as well: they have not come otherwise. No campaign is needed, nobody's term
//!   moves, and where nothing starves no byte is said. A learner asks for no votes, so a deaf one is fed by
//!   nobody.
//! - *A forwarded proposal may be committed twice*, if it was forwarded twice: whoever applies it knows
//!   it by its identity.
//!
//! [`Position`]: quorate_protocol::log::Position

mod actor;
mod candidate;
mod core;
mod follower;
mod leader;
mod log;
mod messages;
mod wishes;

pub use crate::core::{Config, Limits, Outbound, Peer, Timer, Timing};
pub use actor::{RaftActor, Wiring};
pub use log::Log;
pub use messages::*;
