//! The mover: carries shards between groups, one on each replica.
//!
//! 6.824 2015, Lab 4B. What is decided, and what has arrived, stands in the logs of the two groups; a
//! mover remembers nothing that matters. It looks at what its replica has applied, does what comes next,
//! and looks again.
//!
//! ```text
//!   shardmaster      mover of g2              rsm of g2        mover of g1         rsm of g1
//!      | <- Await 6 --- |                        |                  |                  |
//!      | -- Told 7 ---> | -- Configure 7 ------> |                  | (has it as well) |
//!      |                | <- s3 comes from g1 -- |                  |                  |
//!      |                | -- Pull s3 ---------------------------->  | -- GiveUp s3 --> |  unserved
//!      |                | <- Pulled: a piece ---------------------- | <- Piece ------- |
//!      |                | -- Receive ----------> |                  |                  |
//!      |                |     ... until the last piece: served      |                  |
//!      |                | -- Received s3 ------------------------>  | -- Delete s3 --> |
//! ```
//!
//! # Invariants
//! V1. A piece is put into the log only if its checksum is right and it is what was asked for.
//! V2. A shard is deleted only when a replica of the other group has applied all of it, so that it is
//!     chosen there.
//! V3. At most [`Config::transfers`] shards are asked for at one time, each with a few pieces on
//!     their way: a shard that waits for its turn is served by its giver, and memory is bounded.
//! V4. An answer counts only if it answers the last question about its shard.
//!
//! # Who acts
//! The mover beside the leader. When nobody leads, or nothing moves for a while, any: everything here may
//! be done twice, since the log takes each step once.
//!
//! # Deviations
//! - The labs poll for configurations and freeze every shard of a change at once. Here the shardmaster
//!   tells, and a shard is frozen when its turn has come.
//! - A group takes over a configuration only when all shards that the last one brought are there: one
//!   whose giver is dead for good waits, and serves what it has.

mod actor;
mod core;
mod messages;

pub use crate::core::{Config, Mover, Outbound, PIECE_BYTES, Timer};
pub use actor::{MoverActor, Wiring};
pub use messages::Message;
