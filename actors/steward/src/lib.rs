//! The steward: takes nodes into its group, and has its own node taken in.
//!
//! 2015 Lab 5; DESIGN 5. A node that has lost its disk has forgotten what it promised and voted for, so as
//! a member it is dead for ever. It comes back as nobody, asks to be let in, and becomes a member under a
//! name that nobody had before: the same machine in its next life. The group says so in its log, in which
//! a majority of intact members must agree on it: nothing else is needed, and nothing less is enough.
//!
//! ```text
//!   steward of n3, blank       steward of n1            engine of n1
//!      | -- Petition -----------> | -- Reconfigure -------> |   only who leads does something
//!      |                          | <- Configured --------- |   chosen: n3 lives on as n3.1
//!      | -- Petition -----------> |                         |
//!      | <- Told n1,n2,n3.1 ----- |
//!      |  on disk: I am n3.1
//!      |  begins its engine
//! ```
//!
//! # Invariants
//! W1. An engine begins only under a name that its group has given to this directory, and after that is on
//!     the disk; or, in a directory that was made when the group was formed, under the plain number.
//! W2. A directory that was given a name and is killed before it has written that down is given the same
//!     name again, and no other directory ever is.
//! W3. A life that has ended is told so, and its node stops.
//!
//! # Deviations
//! - Lab 5 lets a blank replica return when it has heard from a majority of intact ones. It is not enough
//!   to ask them what was promised: a ballot that counted a promise of the old life may finish its quorum
//!   after they have answered.

mod actor;
mod core;
mod messages;
mod record;

pub use crate::core::{Config, Outbound, Standing, Steward, Timer};
pub use actor::{StewardActor, Wiring, recorded};
pub use messages::Message;
pub use record::Membership;
