//! What every actor stands on: a supervised context, a mailbox that can be looked into, timers,
//! seeded chance, and the injection of crashes.
//!
//! ```text
//!   Mailbox<M> --Letter--> [ actix mailbox ] --> Performer<R> --> R: Role   (the actor)
//!        \__ Stats: depth, per kind, oldest waiting, last 64 __/
//! ```
//!
//! # What always holds
//! S1. A panic, real or injected, restarts the actor in place: its address and what waits in its
//!     mailbox survive, its memory and the message under way do not. Whoever needs memory across a
//!     restart puts it on the disk and reads it back when the role is made again.
//! S2. More than [`Limits::restarts_max`] real panics within [`Limits::restarts_within`] end the
//!     node with a clear error: a poison message must not spin for ever.
//! S3. A mailbox keeps the order of its senders, and never blocks one: it is unbounded, and flow
//!     is controlled by the roles' own windows and admission limits.
//! S4. What a mailbox shows can be read while its actor is stuck.
//! S5. Nothing happens in `stopping` or `stopped`: actix runs them while unwinding.
//!
//! # Deviations
//! - actix's own `Supervisor` does not survive a panic, so [`Seat::take`] drives the context's
//!   future itself and catches what it throws.
//! - Timers are kept here, not in the context: actix polls every timer at every wake-up.
//! - `Stats` is memory shared between threads. It is the one exception, made so that an actor can
//!   be looked at while it does not answer.

#[macro_use]
mod kinds;
mod driver;
mod durable;
mod gate;
mod mailbox;
mod performer;
mod plain;
mod registry;
mod stats;
mod wire;

pub use driver::{Driver, Effects, Ledger};
pub use durable::{Durability, DurableActor, DurableCore, JournalLink};
pub use gate::Gate;
pub use mailbox::{Letter, Mailbox, Message, Outlet};
pub use performer::{Chance, InjectedCrash, Role, Seat, Stage, seat};
pub use plain::{PlainActor, PlainCore};
pub use registry::{CrashError, CrashMode, Fatal, Limits, Node, Observer};
pub use stats::{ActorView, Handled, KindView, MailboxView, PanicView, Stats, Waiting};
pub use wire::{
    Class, DecodeError, Directory, Link, Parcel, PeerOutlet, Peers, Port, Transport, WireMessage,
};
