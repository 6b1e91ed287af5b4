//! The cluster actor: turns names into mailboxes on other nodes, over TCP.
//!
//! ```text
//!   actor --Parcel--> cluster (n1) ==== TCP: n1's link to n2 ====> cluster (n2) --> actor's Port
//!   actor <---------- cluster (n1) <=== TCP: n2's link to n1 ===== cluster (n2)
//! ```
//!
//! It hears [`Message::Send`] from every actor of its node, through [`ClusterHandle`], and puts
//! what comes from other nodes straight into the mailboxes of their receivers. It says
//! [`PeerEvent`]s to whoever asked for them at construction, and has pins saved.
//!
//! Each node keeps one connection to each other node, and only sends on it; what is answered
//! comes over the other's own. Sending never waits: what does not fit is dropped and counted, and
//! the protocols above ask again.
//!
//! # What always holds
//! C1. Parcels from one actor to another over one connection arrive in the order in which they
//!     were sent; a peer has one connection at a time that is heard, and a new one ends the old.
//! C2. What is heard from a node comes from the life that is pinned for it, and the pin was
//!     durable before ([`handshake`]).
//! C3. A parcel's sender lives on the node whose connection it came over.
//! C4. Every queue is bounded, in bytes and in number ([`Bounds`]); what is beyond is dropped and
//!     counted ([`Counters`]). Whoever has not shaken hands holds a few KiB for a few seconds.
//! C5. A crash of the actor costs its connections and what they held, never its port: the others
//!     are told `Down`, and then `Up` when hands are shaken again.
//! C6. Without faults set, faults draw no chance and take no time.
//!
//! # Deliberately missing
//! - Delivery is not promised, and nothing is sent again: that is the protocols' business.
//! - Nothing is encrypted, and a pin proves nothing about a forger: the node port belongs in a
//!   network of its own.

mod accept;
mod actor;
pub mod counters;
mod delay;
pub mod faults;
pub mod frame;
pub mod handshake;
mod hub;
mod link;
mod messages;

pub use actor::{
    Bounds, ClusterHandle, Config, HANDSHAKE_TIMEOUT, LINK_BYTES_MAX, LINK_PARCELS_MAX, Ports,
    STRANGERS_MAX, UNLINKED_BYTES_MAX, UNLINKED_PARCELS_MAX, spawn,
};
pub use counters::{Counters, Dropped, PeerCounters, PeerView};
pub use faults::{Faults, FaultsError, LinkFaults, Loss, Switches, Verdict};
pub use messages::{LinkEvent, Message, PeerEvent, TaskPanic};
