//! Atomic files: the old content or the new one, never a mixture, never a silent change.
//!
//! Written to a temporary file in the same directory, synced, renamed, and the directory
//! synced. For what is rewritten as a whole: identity, checkpoint manifests, shard images.
//!
//! ```text
//! file     "QRAF" | format u32 | crc of both u32 | chunks | end
//! chunk    length u32, 1 to CHUNK_BYTES | crc u32 | bytes
//! end      0 u32 | crc u32 | bytes in all chunks u64 | sum u32
//! ```
//! All numbers are little-endian. A chunk's checksum covers its position in the order of
//! chunks, its length and its bytes, so chunks cannot be swapped, and the end covers how much
//! there was, so none can be missing. The sum covers the checksums of all chunks, in order, so a
//! mixture of two files is no file, and two files of one length and sum are the same. Format 1
//! has no sum. Nothing may follow the end. A reader keeps one chunk in memory at a time, so that
//! images may be larger than that.

use std::fmt;
use std::path::{Path, PathBuf};

use crc32fast::Hasher;
use quorate_protocol::planted::{Bug, is_planted};

use crate::disk::{Disk, DiskError, DiskFile};

/// The format that this version writes, and the newest that it reads. It reads 1 too.
pub const FILE_FORMAT: u32 = 2;

/// The most bytes in one chunk: 256 KiB.
pub const CHUNK_BYTES: usize = 256 * 1024;

const MAGIC: [u8; 4] = *b"QRAF";
const HEADER_BYTES: usize = 12;
const FRAME_BYTES: usize = 8;
/// What follows the frame of the end: how much there was, and the sum.
const END_BYTES: usize = 12;

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

/// A new atomic file, until it is complete: takes the content piece by piece. Dropped before
/// [`Sink::finish`] it leaves nothing behind.
pub struct Sink {
    path: PathBuf,
    file: Box<dyn DiskFile>,
    /// Encoded and not yet written.
    out: Vec<u8>,
    /// Bytes of the chunk that is being filled.
    chunk: Vec<u8>,
    offset: u64,
    index: u64,
    total: u64,
    sum: Hasher,
}

impl Sink {
    /// Begins a file that will replace `path`, whose directory must exist.
    ///
    /// # Errors
    /// What the disk says.
    pub fn create(disk: &dyn Disk, path: &Path) -> Result<Sink, FileError> {
        let file = disk.create_temp(dir_of(path))?;
        let (out, chunk) = (header(FILE_FORMAT).to_vec(), Vec::new());
        let (path, sum) = (path.to_path_buf(), Hasher::new());
        Ok(Sink { path, file, out, chunk, offset: 0, index: 0, total: 0, sum })
    }

    /// Adds `bytes` to the content. Pieces may be of any size.
    ///
    /// # Errors
    /// What the disk says.
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

    /// Bytes of content so far.
    pub fn len(&self) -> u64 {
        self.total + self.chunk.len() as u64
    }

    /// Whether there is no content yet.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Has the disk write what it was given, so that the end will not have to wait for all of it.
    ///
    /// # Errors
    /// What the disk says; then the file must be given up (D4).
    pub fn sync(&mut self) -> Result<(), FileError> {
        Ok(self.file.sync_data()?)
    }

    fn end_chunk(&mut self) {
        if self.chunk.is_empty() {
            return;
        }
        let len = self.chunk.len() as u32;
        let crc = chunk_crc(self.index, len, &self.chunk).to_le_bytes();
        self.sum.update(&crc);
        self.out.extend_from_slice(&len.to_le_bytes());
        self.out.extend_from_slice(&crc);
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

    /// Completes the file and gives it its name; durable when it returns. Answers how many bytes
    /// it takes.
    ///
    /// # Errors
    /// As those of [`write_atomic`].
    pub fn finish(mut self, disk: &dyn Disk) -> Result<u64, FileError> {
        self.end_chunk();
        let mut end = [0; END_BYTES];
        end[..8].copy_from_slice(&self.total.to_le_bytes());
        end[8..].copy_from_slice(&self.sum.clone().finalize().to_le_bytes());
        self.out.extend_from_slice(&0_u32.to_le_bytes());
        self.out.extend_from_slice(&chunk_crc(self.index, 0, &end).to_le_bytes());
        self.out.extend_from_slice(&end);
        self.flush()?;
        if !is_planted(Bug::FileNotSynced) {
            self.file.sync_data()?;
        }
        self.file.persist(&self.path)?;
        if !is_planted(Bug::FileNameNotSynced) {
            disk.sync_dir(dir_of(&self.path))?;
        }
        Ok(self.offset)
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
    let mut sink = Sink::create(disk, path)?;
    fill(&mut sink)?;
    Ok(sink.finish(disk)?)
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
    cursor: Cursor,
}

impl<'a> AtomicReader<'a> {
    /// Opens `path`, see [`Cursor::open`].
    ///
    /// # Errors
    /// As those of [`Cursor::open`].
    pub fn open(disk: &'a dyn Disk, path: &Path) -> Result<Option<AtomicReader<'a>>, FileError> {
        Ok(Cursor::open(disk, path)?.map(|cursor| AtomicReader { disk, cursor }))
    }

    /// The next chunk of the content, see [`Cursor::next_chunk`].
    ///
    /// # Errors
    /// As those of [`Cursor::next_chunk`].
    pub fn next_chunk(&mut self) -> Result<Option<Vec<u8>>, FileError> {
        self.cursor.next_chunk(self.disk)
    }
}

/// A place in an atomic file that is read chunk by chunk, by whoever has the disk at hand.
pub struct Cursor {
    path: PathBuf,
    offset: u64,
    index: u64,
    total: u64,
    sum: Hasher,
    /// Bytes that follow the frame of the end, which depends on the format.
    end_bytes: usize,
    ended: bool,
}

impl Cursor {
    /// The start of the file `path`, `None` when it is not there. Whichever it is, it is durable
    /// from then on: the directory is synced, because a process that was killed may have renamed a
    /// file that the next process sees and the next power cut takes away.
    ///
    /// # Errors
    /// [`FileError::Corrupt`] at offset 0, [`FileError::NewerFormat`], or what the disk says.
    pub fn open(disk: &dyn Disk, path: &Path) -> Result<Option<Cursor>, FileError> {
        match disk.sync_dir(dir_of(path)) {
            Err(error) if error.is_not_found() => return Ok(None),
            synced => synced?,
        }
        let found = match disk.read_at(path, 0, HEADER_BYTES) {
            Err(error) if error.is_not_found() => return Ok(None),
            found => found?,
        };
        let path = path.to_path_buf();
        // A newer format is told from a damaged one by its checksum.
        let format = found.get(4..8).and_then(|format| format.try_into().ok());
        let format = format.map_or(0, u32::from_le_bytes);
        let end_bytes = match format {
            _ if found != header(format) => 0,
            1 => END_BYTES - 4,
            FILE_FORMAT => END_BYTES,
            found if found > FILE_FORMAT => {
                return Err(FileError::NewerFormat { file: path, found, known: FILE_FORMAT });
            }
            _ => 0,
        };
        if end_bytes == 0 {
            return Err(FileError::Corrupt { file: path, offset: 0, what: "bad header" });
        }
        let (offset, sum) = (HEADER_BYTES as u64, Hasher::new());
        Ok(Some(Cursor { path, offset, index: 0, total: 0, sum, end_bytes, ended: false }))
    }

    /// The file.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Where the file reads well so far: bytes from its start, up to the end of a chunk.
    pub fn offset(&self) -> u64 {
        self.offset
    }

    /// The next chunk of the content, 1 to [`CHUNK_BYTES`] bytes; `None` after the last one.
    /// The content is known to be complete only when `None` was answered.
    ///
    /// # Errors
    /// [`FileError::Corrupt`] with the offset of the bad chunk, or what the disk says.
    pub fn next_chunk(&mut self, disk: &dyn Disk) -> Result<Option<Vec<u8>>, FileError> {
        if self.ended {
            return Ok(None);
        }
        let frame = disk.read_at(&self.path, self.offset, FRAME_BYTES)?;
        if frame.len() < FRAME_BYTES {
            return Err(self.corrupt("the file is cut off"));
        }
        let word = |at: usize| frame[at..at + 4].try_into().map_or(0, u32::from_le_bytes);
        let (len, crc) = (word(0), word(4));
        if len as usize > CHUNK_BYTES {
            return Err(self.corrupt("a chunk longer than chunks are"));
        }
        // The end is followed by nothing: one byte more is asked for to see.
        let end = self.end_bytes;
        let (bytes, asked) = if len == 0 { (end, end + 1) } else { (len as usize, len as usize) };
        let from = self.offset + FRAME_BYTES as u64;
        let chunk = disk.read_at(&self.path, from, asked)?;
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
            self.sum.update(&crc.to_le_bytes());
            return Ok(Some(chunk));
        }
        if chunk[..8] != self.total.to_le_bytes() {
            return Err(self.corrupt("chunks are missing"));
        }
        if bytes > 8 && chunk[8..bytes] != self.sum.clone().finalize().to_le_bytes() {
            return Err(self.corrupt("its chunks are not of one file"));
        }
        if chunk.len() > bytes {
            return Err(self.corrupt("something follows the end"));
        }
        self.offset = from + bytes as u64;
        self.ended = true;
        Ok(None)
    }

    fn corrupt(&self, what: &'static str) -> FileError {
        FileError::Corrupt { file: self.path.clone(), offset: self.offset, what }
    }
}

/// Which atomic file it is: of two complete files, the same stamp means the same bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Stamp {
    /// Bytes of the whole file.
    pub bytes: u64,
    /// The sum at its end.
    pub sum: u32,
}

/// The stamp of the atomic file `path`, `None` when it is not there. Nothing is checked.
///
/// # Errors
/// What the disk says.
pub fn stamp(disk: &dyn Disk, path: &Path) -> Result<Option<Stamp>, DiskError> {
    let file = match disk.open_existing(path) {
        Err(error) if error.is_not_found() => return Ok(None),
        file => file?,
    };
    let bytes = file.len()?;
    let last = disk.read_at(path, bytes.saturating_sub(4), 4)?;
    let sum = last.as_slice().try_into().map_or(0, u32::from_le_bytes);
    Ok(Some(Stamp { bytes, sum }))
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
