//! The key/value machine.

mod messages;
pub use messages::*;
