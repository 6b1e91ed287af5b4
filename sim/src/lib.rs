//! A whole cluster on one thread, in virtual time: the real actors, a seeded network, seeded disks.
//!
//! ```text
//!   World ── nodes ── the actors of `node`, unchanged
//!        ├── net   ── every parcel between nodes: delay, loss, cuts, deafness, as the seed says
//!        ├── disks ── lose what was not synced when a node is killed, or everything
//!        └── trace ── a running hash of everything that any actor has handled
//! ```
//!
//! # What always holds
//! - One seed, one run: the same trace hash in every process. Chance comes from the seed only,
//!   time from the paused runtime, and nothing iterates over an unordered map.
//! - Time passes only when every actor waits, so that ten minutes of waiting cost seconds.
//!
//! - A panic that nobody injected, or an actor's alarm that a peer broke the rules, fails the test.
//!
//! # Seeds and traces
//! `QUORATE_SEEDS=100` runs every test with 100 seeds (the soak), `QUORATE_SEED=n` with that one,
//! and `QUORATE_TRACE=file` writes everything that was handled in a failed world to that file.
//!
//! # The labs' networks
//! A message is one way here, while the labs speak of a request with its reply. So a server that
//! is *unreliable* loses 10 % of the requests that come to it and, of those that it has handled,
//! 20 % of its answers: together 28 %, as there. A *deaf* server hears answers only.
//!
//! The network of the Raft labs is *lossy* as a whole: requests take 0 to 26 ms longer, and one in
//! ten of them is lost, as is one in ten answers.

pub mod chaos;
mod checkers;
mod clients;

pub mod generic;
mod layout;
pub mod logs;
pub mod machine;
mod net;
mod peers;
mod record;
mod seeds;
mod server;
mod shards;
mod trace;
mod world;

pub use checkers::Violation;
pub use clients::{Client, PutError};
pub use layout::Sharding;
pub use net::{Net, Partition};
pub use peers::{Peer, deciders, wait_for};
pub use record::{Record, Recorded};
pub use seeds::{for_each_seed, seeds};
pub use server::SimNode;
pub use trace::{Line, Trace};
pub use world::{CHECKPOINTS, ENGINES, Options, World, run};
