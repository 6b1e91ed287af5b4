//! Words that every actor shares: who is who, what a protocol core is, and the log interface that
//! both engines offer.
//!
//! Nothing here knows actix, tokio, a clock, a disk or a random number.

mod configuration;
mod core;
mod encode;
mod ids;
pub mod log;
mod name;
pub mod planted;

pub use crate::configuration::{Change, Configuration, Life, Unchanged};
pub use crate::core::{Core, Never, Out, TimerRequest};
pub use crate::encode::encode;
pub use ids::{GroupId, Incarnation, Member, NodeId};
pub use name::{Name, ParseNameError, Role};
