//! The tests of persistence, one module per claim.

mod crash_points;
mod damage;
mod desk;
mod files;
mod journal;
mod keeper;
mod layout;
mod real;
mod scripts;
mod scrub;
mod sim;

use std::path::{Path, PathBuf};
use std::sync::Arc;

use bytes::Bytes;
use quorate_persistence::{Journal, JournalError, JournalOptions, SimDisk};

/// Small segments, so that a short script fills many.
const OPTIONS: JournalOptions = JournalOptions { segment_bytes: 2048, zero_fill: false, seed: 9 };
const ZERO_FILLED: JournalOptions = JournalOptions { zero_fill: true, ..OPTIONS };

fn dir() -> &'static Path {
    Path::new("/data/journal")
}

fn open_with(
    disk: &SimDisk,
    options: JournalOptions,
) -> Result<(Journal, Vec<Bytes>), JournalError> {
    Journal::open(Arc::new(disk.clone()), dir(), options)
}

fn open(disk: &SimDisk) -> Result<(Journal, Vec<Bytes>), JournalError> {
    open_with(disk, OPTIONS)
}

/// The segment files, oldest first.
fn segments(disk: &SimDisk) -> Vec<PathBuf> {
    let mut files = disk.files();
    files.retain(|file| file.extension().is_some_and(|extension| extension == "seg"));
    files
}
