//! Runs in which anything may fail: drawn from a seed, judged at every step, shrunk when they fail.
//!
//! ```text
//!   seed ── draw ──▶ Schedule ── play ──▶ Played: what was done, the hash of the trace
//!                       ▲          │
//!                       │          └────▶ Violation ── shrink ──▶ a short Schedule, a transcript
//!                     JSON                                            │ JSON: a regression test
//! ```
//!
//! - [`fault`]: what may fail, and which of it a profile allows.
//! - [`schedule`]: everything that is done to a world, as data.
//! - [`play`](mod@play): does it, heals, and holds that the cluster then converges and serves.
//! - [`shrink`](mod@shrink): the same violation with fewer steps.
//! - [`transcript`](mod@transcript): what happened, in space and time.
//!
//! # What always holds
//! C1. A schedule is the whole run: the same schedule gives the same trace in every process.
//! C2. Each fault ends by itself, so that any subset of a schedule's steps is a schedule.
//! C3. After the last step everything is healed. Then every client is answered, every server serves
//!     and holds the same state within [`play::CONVERGE_MAX`], and what clients saw is linearizable.

pub mod fault;
mod groups;
pub mod play;
pub mod schedule;
pub mod shrink;
pub mod transcript;

pub use fault::{Fault, Kind, Profile};
pub use groups::{Change, Divided};
pub use play::{Failed, Played, play, play_traced};
pub use schedule::{Ask, Op, Plan, Schedule, ScheduleError, Step};
pub use shrink::shrink;
pub use transcript::transcript;
