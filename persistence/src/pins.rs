//! The file of the pins: which incarnation of each other node is heard, see `quorate-cluster`.
//!
//! The content of the atomic file is rmp-serde: a map of its format and the members. Format 0, which
//! had the members alone, is read too.

use std::path::Path;

use quorate_protocol::Member;
use serde::{Deserialize, Serialize};

use crate::disk::Disk;
use crate::files::{FileError, read_atomic};

/// The format of the pins that this version writes, and the newest that it reads.
pub const PINS_FORMAT: u32 = 1;

#[derive(Serialize, Deserialize)]
struct Pins {
    format: u32,
    members: Vec<Member>,
}

/// The content of the file.
pub fn encode_pins(members: Vec<Member>) -> Vec<u8> {
    let pins = Pins { format: PINS_FORMAT, members };
    rmp_serde::to_vec_named(&pins).expect("numbers can be encoded")
}

/// What the file `path` says; nothing when it is not there.
///
/// # Errors
/// [`FileError::NewerFormat`], [`FileError::Corrupt`], or what the disk says.
pub fn read_pins(disk: &dyn Disk, path: &Path) -> Result<Vec<Member>, FileError> {
    /// What every format but the first begins with.
    #[derive(Deserialize)]
    struct Format {
        format: u32,
    }
    let Some(bytes) = read_atomic(disk, path)? else { return Ok(vec![]) };
    let unreadable = |_| FileError::Corrupt {
        file: path.to_path_buf(),
        offset: 0,
        what: "no pins can be read from it",
    };
    if let Ok(members) = rmp_serde::from_slice::<Vec<Member>>(&bytes) {
        return Ok(members);
    }
    let Format { format: found } = rmp_serde::from_slice(&bytes).map_err(unreadable)?;
    if found > PINS_FORMAT {
        let (file, known) = (path.to_path_buf(), PINS_FORMAT);
        return Err(FileError::NewerFormat { file, found, known });
    }
    let pins: Pins = rmp_serde::from_slice(&bytes).map_err(unreadable)?;
    Ok(pins.members)
}
