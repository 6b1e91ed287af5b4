//! Assembles a node out of actors, for a given world: clock, disks, network.

pub mod config;
mod engine;
mod group;
mod journal;
mod membership;
mod paxos;
pub mod process;
mod raft;
mod replicas;

pub use engine::{Engine, GroupConfig, Ports, engine};
pub use group::{Directories, Ground, Group, KvGroup, kv_group, master_group, replicated};
pub use paxos::{Library, library};
