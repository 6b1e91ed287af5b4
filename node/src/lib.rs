//! Assembles a node out of actors, for a given world: clock, disks, network.

pub mod group;

pub use group::{Group, GroupConfig, Library, Store, kv_group, library, replicated};
