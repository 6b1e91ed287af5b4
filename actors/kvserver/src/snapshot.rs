//! The machine's state at one moment, and its form in bytes.
//!
//! The bytes are one stream that is cut into chunks at any place; all numbers are little-endian:
//!
//! ```text
//! header   "quorate-kv" (10 bytes)   format u16 = 1   number of keys u64
//! key 1    key length u32   value length u32   version u64   key   value
//! ...      ordered by hash slot, then by key
//! ```
//!
//! Equal states give equal bytes. There is no checksum here: whoever stores or sends chunks guards
//! them. What arrives is nevertheless checked for everything that the machine relies on.

use std::fmt;
use std::ops::Bound;
use std::sync::Arc;

use bytes::{Buf, BufMut, Bytes, BytesMut};
use quorate_protocol::planted::{Bug, is_planted};

use crate::machine::Slots;
use crate::{HashSlot, KEY_BYTES_MAX, Store, VALUE_BYTES_MAX, Version, Versioned};

/// Version of the form above. A change of the form changes it.
pub const FORMAT: u16 = 1;

/// Longest chunk that is produced (256 KiB).
pub const CHUNK_BYTES_MAX: usize = 256 * 1024;

const MAGIC: &[u8; 10] = b"quorate-kv";
const HEADER_BYTES: usize = MAGIC.len() + 2 + 8;
const LENGTHS_BYTES: usize = 4 + 4 + 8;

/// The machine's state at one moment. It can be sent to another thread and encoded there.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Snapshot {
    pub(crate) slots: Slots,
    pub(crate) len: u64,
    pub(crate) bytes: u64,
}

impl Snapshot {
    /// How many keys it holds.
    pub fn len(&self) -> u64 {
        self.len
    }

    /// Whether it holds no key.
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// How many bytes all chunks will have together.
    pub fn encoded_len(&self) -> u64 {
        HEADER_BYTES as u64 + self.len * LENGTHS_BYTES as u64 + self.bytes
    }

    /// The state in bytes: at least one chunk, each of 1 to [`CHUNK_BYTES_MAX`] bytes.
    pub fn encode_chunks(&self) -> Chunks {
        let mut header = BytesMut::with_capacity(HEADER_BYTES);
        header.put_slice(MAGIC);
        header.put_u16_le(FORMAT);
        header.put_u64_le(self.len);
        let (head, value) = (header.freeze(), Bytes::new());
        Chunks { snapshot: self.clone(), slot: 0, last: None, head, value }
    }
}

/// The chunks of a [`Snapshot`], in order.
#[derive(Clone, Debug)]
pub struct Chunks {
    snapshot: Snapshot,
    /// The slot that is being written.
    slot: usize,
    /// The key of that slot that was written last.
    last: Option<Arc<[u8]>>,
    /// What is still to be written of an entry: its lengths and key, then its value.
    head: Bytes,
    value: Bytes,
}

impl Chunks {
    /// Prepares the next entry; false when there is none.
    fn advance(&mut self) -> bool {
        while let Some(slot) = self.snapshot.slots.get(self.slot) {
            let from = self.last.as_deref().map_or(Bound::Unbounded, Bound::Excluded);
            let next = slot
                .as_ref()
                .and_then(|pairs| pairs.range::<[u8], _>((from, Bound::Unbounded)).next());
            let Some((key, versioned)) = next else {
                self.slot += 1;
                self.last = None;
                continue;
            };
            let mut head = BytesMut::with_capacity(LENGTHS_BYTES + key.len());
            head.put_u32_le(key.len() as u32);
            head.put_u32_le(versioned.value.len() as u32);
            head.put_u64_le(versioned.version.0);
            head.put_slice(key);
            self.head = head.freeze();
            self.value = versioned.value.clone();
            self.last = Some(key.clone());
            return true;
        }
        false
    }
}

impl Iterator for Chunks {
    type Item = Bytes;

    fn next(&mut self) -> Option<Bytes> {
        let mut chunk = BytesMut::new();
        loop {
            for part in [&mut self.head, &mut self.value] {
                let room = CHUNK_BYTES_MAX - chunk.len();
                chunk.extend_from_slice(&part.split_to(room.min(part.len())));
            }
            if !self.head.is_empty() || !self.value.is_empty() || !self.advance() {
                break;
            }
        }
        (!chunk.is_empty()).then(|| chunk.freeze())
    }
}

/// Why bytes are not a snapshot of this machine.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum DecodeError {
    /// They do not begin like one.
    NotASnapshot,
    /// They are one of another format than [`FORMAT`].
    Format {
        /// The format that they announce.
        found: u16,
    },
    /// A key is announced that is longer than [`KEY_BYTES_MAX`].
    KeyTooLong {
        /// The announced length.
        len: u32,
    },
    /// A value is announced that is longer than [`VALUE_BYTES_MAX`].
    ValueTooLong {
        /// The announced length.
        len: u32,
    },
    /// A present key has version 0.
    ZeroVersion,
    /// A key does not come after the one before it.
    OutOfOrder,
    /// They end too early.
    Truncated {
        /// How many keys are missing, as far as that can be said.
        missing: u64,
    },
    /// They go on after the last key.
    TrailingBytes,
}

impl fmt::Display for DecodeError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            DecodeError::NotASnapshot => write!(f, "not a snapshot of the key/value machine"),
            DecodeError::Format { found } => {
                write!(f, "snapshot format {found}, but this version reads only {FORMAT}")
            }
            DecodeError::KeyTooLong { len } => {
                write!(f, "a key of {len} bytes, longer than {KEY_BYTES_MAX}")
            }
            DecodeError::ValueTooLong { len } => {
                write!(f, "a value of {len} bytes, longer than {VALUE_BYTES_MAX}")
            }
            DecodeError::ZeroVersion => write!(f, "a present key with version 0"),
            DecodeError::OutOfOrder => write!(f, "keys out of order"),
            DecodeError::Truncated { missing } => write!(f, "truncated: {missing} keys missing"),
            DecodeError::TrailingBytes => write!(f, "bytes after the last key"),
        }
    }
}

impl std::error::Error for DecodeError {}

/// A store that is being restored from chunks as they arrive, however they are cut. Between two
/// chunks it holds at most one incomplete entry besides the store.
#[derive(Debug, Default)]
pub struct Restore {
    store: Store,
    /// Bytes that do not make an entry yet.
    partial: BytesMut,
    /// How many keys are still to come; `None` before the header.
    missing: Option<u64>,
    last: Option<(HashSlot, Arc<[u8]>)>,
}

impl Restore {
    /// Nothing restored yet.
    pub fn new() -> Restore {
        Restore::default()
    }

    /// Takes the next bytes. After an error the whole restoration must be given up.
    pub fn feed(&mut self, chunk: &[u8]) -> Result<(), DecodeError> {
        // An entry that lies in one chunk is read where it lies.
        let mut input = chunk;
        while !input.is_empty() {
            if self.partial.is_empty() {
                match self.step(input)? {
                    0 => {
                        self.partial.extend_from_slice(input);
                        return Ok(());
                    }
                    used => input.advance(used),
                }
                continue;
            }
            let wanted = self.wanted(&self.partial)?;
            let taken = (wanted - self.partial.len()).min(input.len());
            self.partial.extend_from_slice(&input[..taken]);
            input.advance(taken);
            let partial = std::mem::take(&mut self.partial);
            if self.step(&partial)? == 0 {
                self.partial = partial;
            }
        }
        Ok(())
    }

    /// The store, when everything has arrived.
    pub fn finish(self) -> Result<Store, DecodeError> {
        match self.missing {
            Some(0) => Ok(self.store),
            Some(missing) => Err(DecodeError::Truncated { missing }),
            None => Err(DecodeError::Truncated { missing: 0 }),
        }
    }

    /// How many bytes there must be before more can be said: more than there are, unless the header
    /// or an entry is complete.
    fn wanted(&self, input: &[u8]) -> Result<usize, DecodeError> {
        match self.missing {
            None => Ok(HEADER_BYTES),
            Some(0) => Err(DecodeError::TrailingBytes),
            Some(_) if input.len() < LENGTHS_BYTES => Ok(LENGTHS_BYTES),
            Some(_) => {
                let mut lengths = input;
                let (key, value) = (lengths.get_u32_le(), lengths.get_u32_le());
                if key as usize > KEY_BYTES_MAX {
                    return Err(DecodeError::KeyTooLong { len: key });
                }
                if value as usize > VALUE_BYTES_MAX {
                    return Err(DecodeError::ValueTooLong { len: value });
                }
                Ok(LENGTHS_BYTES + key as usize + value as usize)
            }
        }
    }

    /// Reads the header or one entry from the front of the input. Gives the bytes used; 0 when
    /// there are not enough.
    fn step(&mut self, input: &[u8]) -> Result<usize, DecodeError> {
        if self.missing.is_none() && !input.starts_with(&MAGIC[..MAGIC.len().min(input.len())]) {
            return Err(DecodeError::NotASnapshot);
        }
        let wanted = self.wanted(input)?;
        if input.len() < wanted {
            return Ok(0);
        }
        let mut fields = &input[..wanted];
        match self.missing {
            None => {
                fields.advance(MAGIC.len());
                let found = fields.get_u16_le();
                if found != FORMAT {
                    return Err(DecodeError::Format { found });
                }
                self.missing = Some(fields.get_u64_le());
            }
            Some(missing) => {
                let key_len = fields.get_u32_le() as usize;
                fields.advance(4);
                let version = Version(fields.get_u64_le());
                let (key, value) = fields.split_at(key_len);
                self.restore(key, value, version)?;
                self.missing = Some(missing - 1);
            }
        }
        Ok(wanted)
    }

    fn restore(&mut self, key: &[u8], value: &[u8], version: Version) -> Result<(), DecodeError> {
        if version == Version(0) {
            return Err(DecodeError::ZeroVersion);
        }
        let place = (HashSlot::of(key), Arc::from(key));
        if self.last.as_ref().is_some_and(|last| *last >= place) {
            return Err(DecodeError::OutOfOrder);
        }
        let version = if is_planted(Bug::VersionsNotRestored) { Version(1) } else { version };
        let versioned = Versioned { value: Bytes::copy_from_slice(value), version };
        self.store.restore(place.1.clone(), versioned);
        self.last = Some(place);
        Ok(())
    }
}

impl Store {
    /// The store that these chunks describe, see [`Restore`].
    pub fn decode<C: AsRef<[u8]>>(
        chunks: impl IntoIterator<Item = C>,
    ) -> Result<Store, DecodeError> {
        let mut restore = Restore::new();
        for chunk in chunks {
            restore.feed(chunk.as_ref())?;
        }
        restore.finish()
    }
}
