//! Who serves what: a replicated machine that keeps the configurations of a sharded store.
//!
//! It is the shardmaster of 6.824 (2015, Lab 4A; the shard controller of 2016-2020): a state machine
//! on `rsm`, with either engine beneath. A configuration names the groups of the cluster, the nodes
//! of each, and the group of every shard. Each change makes the next one; all former ones stay.
//!
//! ```text
//!   admin ── Join, Leave, Move ──▶ rsm ── log ──▶ the machine on every replica
//!   clerks, kvservers ── Query ──▶      ── barrier ──▶
//! ```
//!
//! The door (`ShardMasterActor`) stands in front of the machine. Calls are carried out once, by the sessions
//! of the rsm; whoever wants to hear of the next configuration is told when there is one.
//!
//! # Invariants
//! M1. Configurations are numbered without gaps from 0, and none ever changes.
//! M2. Every shard has a group of the same configuration, or group 0 where there are no groups.
//! M3. After a Join or a Leave no group has two shards more than another, and no shard has moved that
//!     could have stayed: there are as few moves as balance allows.
//! M4. The same commands in the same order give the same configurations: nothing here depends on an
//!     unordered map, on time or on chance.
//!
//! # Deviations
//! - What cannot be done is refused and makes no configuration: a Join of a member or of a group
//!   without nodes, a Leave of a stranger, a Move to where there is nobody. To the labs' clients
//!   these are silent, or make a configuration that is the same.
//! - A Leave of the last group is refused unless it is said that the data may go: the labs' tests say
//!   so each time.
//! - The number of shards is agreed on by the first command, [`Command::Form`], and is the same for
//!   ever: a key must have the same shard on all nodes.

mod actor;
mod balance;
mod door;
mod machine;
mod messages;

pub use actor::{Askers, ShardMasterActor};
pub use balance::rebalance;
pub use door::{Message, Notice};
pub use machine::ShardMaster;
pub use messages::{Command, Configuration, Refusal, Reply, SHARDS_MAX, ShardId};
