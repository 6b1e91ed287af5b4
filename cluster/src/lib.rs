//! The cluster actor: turns names into mailboxes on other nodes, over TCP. Its pure parts.

pub mod faults;
pub mod frame;
pub mod handshake;

pub use faults::{Faults, FaultsError, LinkFaults, Loss, Switches, Verdict};
