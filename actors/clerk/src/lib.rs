//! The clerk.

mod messages;
pub use messages::*;
