//! Assembles a node out of actors, for a given world: clock, disks, network.

pub mod config;
pub mod group;
pub mod process;

pub use group::{Group, GroupConfig, Library, Store, kv_group, library, replicated};
