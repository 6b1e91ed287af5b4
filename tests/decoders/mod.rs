//! The decoders that meet bytes from outside, and what must hold of each of them.

#![allow(dead_code, unused_imports, reason = "each of the two users has its own part of this")]

mod disk;
mod nodes;
mod people;
mod redis;

use crate::damage::Target;

/// Calls a macro with the names of all decoders.
macro_rules! for_all {
    ($callback:ident) => {
        $callback! {
            requests answers connections
            frames acceptors proposers learners rafts couriers kvservers clerks
            votes terms pins journal_begins journal_ends atomic_files identities machines checkpoints
            configurations histories names faults
        }
    };
}
pub(crate) use for_all;

macro_rules! names {
    ($($name:ident)*) => {
        /// The names of all decoders.
        pub(crate) const NAMES: &[&str] = &[$(stringify!($name)),*];
    };
}
for_all!(names);

/// The decoder of this name.
pub(crate) fn target(name: &str) -> Option<Target> {
    Some(match name {
        "requests" => redis::requests(),
        "answers" => redis::answers(),
        "connections" => redis::connections(),
        "frames" => nodes::frames_and_handshakes(),
        "acceptors" => nodes::acceptors(),
        "proposers" => nodes::proposers(),
        "learners" => nodes::learners(),
        "rafts" => nodes::rafts(),
        "couriers" => nodes::couriers(),
        "kvservers" => nodes::kvservers(),
        "clerks" => nodes::clerks(),
        "votes" => nodes::votes(),
        "terms" => nodes::terms(),
        "pins" => disk::pins(),
        "journal_begins" => disk::journal(true),
        "journal_ends" => disk::journal(false),
        "atomic_files" => disk::atomic_files(),
        "identities" => disk::identities(),
        "machines" => disk::machines(),
        "checkpoints" => disk::checkpoints(),
        "configurations" => people::configurations(),
        "histories" => people::histories(),
        "names" => people::names(),
        "faults" => people::faults(),
        _ => return None,
    })
}
