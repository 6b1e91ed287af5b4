//! Exhaustive exploration of the cores themselves, with stateright.
//!
//! ```text
//!   world   nodes, a network, a disk per node, clients, a nemesis: every interleaving of them
//!   seat    one core as its driver holds it: records first, then sends; timers that may run out
//!   paxos   acceptor, proposer and learner of a node, wired together, and what must hold of them
//!   raft    the same of a peer
//!   wiped   acceptors of which one loses its disk, and comes back as somebody else or as if nothing were
//! ```
//!
//! Another engine joins by an [`Engine`](world::Engine) of its own: its cores sit in seats, and it
//! says what its messages are and what must hold.

#![allow(dead_code, unreachable_pub, reason = "what a second engine needs is kept whole")]

pub mod paxos;
pub mod raft;
pub mod seat;
pub mod wiped;
pub mod world;
