//! Assembles a node out of actors, for a given world: clock, disks, network.

pub mod config;
mod engine;
mod group;
mod journal;
mod paxos;
pub mod process;
mod raft;

pub use engine::{Engine, GroupConfig, Ports, engine};
pub use group::{Group, Store, kv_group, replicated};
pub use paxos::{Library, library};
