//! Atomic files: the old content or the new one, never a mixture, never a silent change.
//!
//! Written to a temporary file in the same directory, synced, renamed, and the directory
//! synced. For what is rewritten as a whole: identity, checkpoint manifests, shard images.
//!
//! ```text
//! file     "QRAF" | format u32 | crc of both u32 | chunks | end
//! chunk    length u32, 1 to CHUNK_BYTES | crc u32 | bytes
//! end      0 u32 | crc u32 | bytes in all chunks u64
//! ```
//! All numbers are little-endian. A chunk's checksum covers its position in the order of
//! chunks, its length and its bytes, so chunks cannot be swapped, and the end covers how much
//! there was, so none can be missing. Nothing may follow the end. A reader keeps one chunk in
//! memory at a time, so that images may be larger than that.

use std::fmt;
use std::path::{Path, PathBuf};

use crc32fast::Hasher;

use crate::disk::{Disk, DiskError, DiskFile};

/// The format that this version writes, and the newest that it reads.
pub const FILE_FORMAT: u32 = 1;

/// The most bytes in one chunk: 256 KiB.
pub const CHUNK_BYTES: usize = 256 * 1024;

const MAGIC: [u8; 4] = *b"QRAF";
const HEADER_BYTES: usize = 12;
const FRAME_BYTES: usize = 8;

fn header(format: u32) -> [u8; HEADER_BYTES] {
    let mut header = [0; HEADER_BYTES];
    header[0..4].copy_from_slice(&MAGIC);
    header[4..8].copy_from_slice(&format.to_le_bytes());
    let crc = crc32fast::hash(&header[..8]);
    header[8..12].copy_from_slice(&crc.to_le_bytes());
    header
}

fn chunk_crc(index: u64, len: u32, bytes: &[u8]) -> u32 {
    let mut hasher = Hasher::new();
    hasher.update(&index.to_le_bytes());
    hasher.update(&len.to_le_bytes());
    hasher.update(bytes);
    hasher.finalize()
}

/// The directory that holds `path`; `.` for a bare name.
fn dir_of(path: &Path) -> &Path {
    match path.parent() {
        Some(dir) if dir != Path::new("") => dir,
        _ => Path::new("."),
    }
}

/// Takes the content of an atomic file, piece by piece; see [`write_atomic_with`].
pub struct Sink {
    file: Box<dyn DiskFile>,
    /// Encoded and not yet written.
    out: Vec<u8>,
    /// Bytes of the chunk that is being filled.
    chunk: Vec<u8>,
    offset: u64,
    index: u64,
    total: u64,
}

impl Sink {
    /// Adds `bytes` to the content. Pieces may be of any size.
    pub fn write(&mut self, mut bytes: &[u8]) -> Result<(), FileError> {
        while !bytes.is_empty() {
            let (taken, rest) = bytes.split_at(bytes.len().min(CHUNK_BYTES - self.chunk.len()));
            self.chunk.extend_from_slice(taken);
            bytes = rest;
            if self.chunk.len() == CHUNK_BYTES {
                self.end_chunk();
                self.flush()?;
            }
        }
        Ok(())
    }

    fn end_chunk(&mut self) {
        if self.chunk.is_empty() {
            return;
        }
        let len = self.chunk.len() as u32;
        self.out.extend_from_slice(&len.to_le_bytes());
        self.out.extend_from_slice(&chunk_crc(self.index, len, &self.chunk).to_le_bytes());
        self.out.append(&mut self.chunk);
        self.index += 1;
        self.total += u64::from(len);
    }

    fn flush(&mut self) -> Result<(), FileError> {
        self.file.write_at(self.offset, &self.out)?;
        self.offset += self.out.len() as u64;
        self.out.clear();
        Ok(())
    }

    fn finish(mut self) -> Result<(Box<dyn DiskFile>, u64), FileError> {
        self.end_chunk();
        let total = self.total.to_le_bytes();
        self.out.extend_from_slice(&0_u32.to_le_bytes());
        self.out.extend_from_slice(&chunk_crc(self.index, 0, &total).to_le_bytes());
        self.out.extend_from_slice(&total);
        self.flush()?;
        self.file.sync_data()?;
        Ok((self.file, self.offset))
    }
}

/// Replaces the file `path` by one with the content `bytes`; durable when it returns. Answers
/// how many bytes the file takes. Its directory must exist.
///
/// # Errors
/// What the disk says. The former content is then still there, unless syncing the directory
/// failed: then either may be found after a crash.
pub fn write_atomic(disk: &dyn Disk, path: &Path, bytes: &[u8]) -> Result<u64, FileError> {
    write_atomic_with(disk, path, |sink| sink.write(bytes))
}

/// As [`write_atomic`], with the content produced piece by piece by `fill`, for what is too
/// large to lie in memory at once. When `fill` fails, nothing has changed.
///
/// # Errors
/// What `fill` answers, or as those of [`write_atomic`].
pub fn write_atomic_with<E: From<FileError>>(
    disk: &dyn Disk,
    path: &Path,
    fill: impl FnOnce(&mut Sink) -> Result<(), E>,
) -> Result<u64, E> {
    let file = disk.create_temp(dir_of(path)).map_err(FileError::from)?;
    let (out, chunk) = (header(FILE_FORMAT).to_vec(), Vec::new());
    let mut sink = Sink { file, out, chunk, offset: 0, index: 0, total: 0 };
    fill(&mut sink)?;
    let (file, bytes) = sink.finish()?;
    file.persist(path).map_err(FileError::from)?;
    disk.sync_dir(dir_of(path)).map_err(FileError::from)?;
    Ok(bytes)
}

/// The content of the atomic file `path`, `None` when it is not there.
///
/// # Errors
/// As those of [`AtomicReader::next_chunk`].
pub fn read_atomic(disk: &dyn Disk, path: &Path) -> Result<Option<Vec<u8>>, FileError> {
    let Some(mut reader) = AtomicReader::open(disk, path)? else {
        return Ok(None);
    };
    let mut content = Vec::new();
    while let Some(chunk) = reader.next_chunk()? {
        content.extend_from_slice(&chunk);
    }
    Ok(Some(content))
}

/// Removes the atomic file `path`, if it is there; durable when it returns.
pub fn remove_atomic(disk: &dyn Disk, path: &Path) -> Result<(), FileError> {
    match disk.remove(path) {
        Err(error) if error.is_not_found() => {}
        removed => removed?,
    }
    Ok(disk.sync_dir(dir_of(path))?)
}

/// Reads an atomic file chunk by chunk.
pub struct AtomicReader<'a> {
    disk: &'a dyn Disk,
    path: PathBuf,
    offset: u64,
    index: u64,
    total: u64,
    ended: bool,
}

impl<'a> AtomicReader<'a> {
    /// Opens `path`, `None` when it is not there. Whichever it is, it is durable from then on:
    /// the directory is synced, because a process that was killed may have renamed a file that
    /// the next process sees and the next power cut takes away.
    ///
    /// # Errors
    /// [`FileError::Corrupt`] at offset 0, [`FileError::NewerFormat`], or what the disk says.
    pub fn open(disk: &'a dyn Disk, path: &Path) -> Result<Option<AtomicReader<'a>>, FileError> {
        match disk.sync_dir(dir_of(path)) {
            Err(error) if error.is_not_found() => return Ok(None),
            synced => synced?,
        }
        let found = match disk.read_at(path, 0, HEADER_BYTES) {
            Err(error) if error.is_not_found() => return Ok(None),
            found => found?,
        };
        let path = path.to_path_buf();
        if found != header(FILE_FORMAT) {
            // A newer format is told from a damaged one by its checksum.
            let format = found.get(4..8).and_then(|format| format.try_into().ok());
            let format = format.map_or(0, u32::from_le_bytes);
            return Err(match format > FILE_FORMAT && found == header(format) {
                true => FileError::NewerFormat { file: path, found: format, known: FILE_FORMAT },
                false => FileError::Corrupt { file: path, offset: 0, what: "bad header" },
            });
        }
        let offset = HEADER_BYTES as u64;
        Ok(Some(AtomicReader { disk, path, offset, index: 0, total: 0, ended: false }))
    }

    /// The next chunk of the content, 1 to [`CHUNK_BYTES`] bytes; `None` after the last one.
    /// The content is known to be complete only when `None` was answered.
    ///
    /// # Errors
    /// [`FileError::Corrupt`] with the offset of the bad chunk, or what the disk says.
    pub fn next_chunk(&mut self) -> Result<Option<Vec<u8>>, FileError> {
        if self.ended {
            return Ok(None);
        }
        let frame = self.disk.read_at(&self.path, self.offset, FRAME_BYTES)?;
        if frame.len() < FRAME_BYTES {
            return Err(self.corrupt("the file is cut off"));
        }
        let word = |at: usize| frame[at..at + 4].try_into().map_or(0, u32::from_le_bytes);
        let (len, crc) = (word(0), word(4));
        if len as usize > CHUNK_BYTES {
            return Err(self.corrupt("a chunk longer than chunks are"));
        }
        // The end is followed by the total, and by nothing: one byte more is asked for to see.
        let (bytes, asked) = if len == 0 { (8, 9) } else { (len as usize, len as usize) };
        let from = self.offset + FRAME_BYTES as u64;
        let chunk = self.disk.read_at(&self.path, from, asked)?;
        if chunk.len() < bytes {
            return Err(self.corrupt("the file is cut off"));
        }
        if crc != chunk_crc(self.index, len, &chunk[..bytes]) {
            return Err(self.corrupt("wrong checksum"));
        }
        if len > 0 {
            self.offset = from + u64::from(len);
            self.index += 1;
            self.total += u64::from(len);
            return Ok(Some(chunk));
        }
        if chunk[..bytes] != self.total.to_le_bytes() {
            return Err(self.corrupt("chunks are missing"));
        }
        if chunk.len() > bytes {
            return Err(self.corrupt("something follows the end"));
        }
        self.ended = true;
        Ok(None)
    }

    fn corrupt(&self, what: &'static str) -> FileError {
        FileError::Corrupt { file: self.path.clone(), offset: self.offset, what }
    }
}

/// Why an atomic file cannot be read or written.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum FileError {
    /// The disk failed or is full.
    Disk(DiskError),
    /// The content is not what was written.
    Corrupt {
        /// The file.
        file: PathBuf,
        /// Where in the file, in bytes, the bad part begins.
        offset: u64,
        /// What is wrong there.
        what: &'static str,
    },
    /// A newer version of the program has written the file.
    NewerFormat {
        /// The file.
        file: PathBuf,
        /// The format of the file.
        found: u32,
        /// The newest format that this version reads.
        known: u32,
    },
}

impl From<DiskError> for FileError {
    fn from(error: DiskError) -> FileError {
        FileError::Disk(error)
    }
}

impl fmt::Display for FileError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            FileError::Disk(error) => error.fmt(f),
            FileError::Corrupt { file, offset, what } => {
                write!(f, "{} is corrupt at offset {offset}: {what}", file.display())
            }
            FileError::NewerFormat { file, found, known } => write!(
                f,
                "{} has file format {found}, this version knows formats up to {known}: \
                 use the newer version",
                file.display()
            ),
        }
    }
}

impl std::error::Error for FileError {}
