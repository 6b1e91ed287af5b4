//! The journal: records in the order they were committed, and nothing else, after any crash.
//!
//! One journal belongs to one group. Its owner appends records, and one `commit` makes all of
//! them durable with one write and one sync (group commit).
//!
//! ```text
//! append append append commit ----> one block: one write, one sync    (Committed)
//!                                    in the current segment, or in a new one that begins
//!                                    with the preamble: the owner's hard state
//! trim(through) ------------------> drops segments from the front
//! ```
//!
//! # Invariants
//! J1. Block sequence numbers grow by one over the whole life of the journal, from 1 on.
//! J2. A block is written only after the former one was synced. At most one block is unsynced.
//! J3. The place of a block is zeros, or beyond the end of the file, when it is written:
//!     nothing is appended to a segment that was there at `open`.
//! J4. A segment has its name only when its header (and its zeros) are durable, and gets its
//!     first block only when its name is. The name is the sequence number of that block.
//! J5. A segment is dropped only when a later one holds a synced block, whose first record is
//!     the preamble. Segments vanish from the front, one after the other.
//!
//! # Recovery
//! `open` reads blocks in order. When one is not as it should be, there are two possibilities:
//!
//! - *A torn tail*: the block was being written when the machine or the process died. By J2
//!   nothing was written after it, so it lies in the last segment with no good block of a
//!   later sequence number anywhere behind it; and by J3 it has zeros where other bytes were
//!   meant. No one was told that it is durable: it is cut off.
//! - *Damage*: everything else. A good block follows, or the segment is a closed one, or a
//!   sequence number is missing, or bytes have changed in a way that no interrupted write
//!   changes them. Something that was acknowledged is lost: [`JournalError::Corrupt`] names
//!   file and offset, and the owner must not go on with this journal.
//!
//! Under D1 to D3 (see [`disk`](crate::disk)) this is exact: a torn tail is never taken for
//! damage, and changed bits are never taken for a torn tail, even in the very last block.
//! User data cannot mislead it: every checksum is salted per segment and bound to its place.
//! Out of reach is only a disk that turns the last synced sectors back into zeros or forgets
//! the last segment as a whole.
//!
//! `open` also syncs what it has read, because a process that was killed may have left bytes
//! which the next process sees and the next power cut takes away. Apart from cutting a torn
//! tail it writes nothing; the first commit after it makes a new segment.

mod segment;

use std::collections::VecDeque;
use std::fmt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use bytes::Bytes;
use quorate_protocol::planted::{Bug, is_planted};

use crate::disk::{Disk, DiskError, DiskFile};
use segment::{BadHeader, FRAME_BYTES, Found, HEADER_BYTES, SegmentHeader};

/// The most bytes that the records of one commit may take, frames included: 1 GiB.
pub const COMMIT_BYTES_MAX: usize = 1 << 30;

/// Bytes of memory kept for the next commit; what a larger one took is given back.
const BUFFER_BYTES_KEPT: usize = 256 * 1024;

/// How many zeros are written at once when a new segment is filled.
static ZEROS: [u8; 64 * 1024] = [0; 64 * 1024];

/// How a journal lays out its files.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct JournalOptions {
    /// Bytes of a segment file. A commit that needs more gets a segment of its own size.
    pub segment_bytes: u64,
    /// Whether a new segment is filled with zeros first: making one costs more, every sync in
    /// it costs a third less, and the room on the disk is taken beforehand.
    pub zero_fill: bool,
    /// Where the salts of new segments are drawn from. Different in every journal, and unknown
    /// to clients.
    pub seed: u64,
}

/// What a commit, or its first phase, has done.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Committed {
    /// Bytes that the block takes on the disk; 0 when there was nothing to write.
    pub bytes: u64,
}

/// Numbers about a journal.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct JournalStats {
    /// Bytes of all segment files, zeros and the one that is being prepared included.
    pub bytes_on_disk: u64,
    /// Number of segment files.
    pub segments: usize,
    /// Syncs of files and directories since `open`, those of `open` included.
    pub syncs: u64,
    /// Blocks written since `open`.
    pub writes: u64,
    /// Bytes of those blocks.
    pub bytes_written: u64,
}

/// An open journal, the only one of its directory.
pub struct Journal {
    disk: Arc<dyn Disk>,
    dir: PathBuf,
    options: JournalOptions,
    segments: VecDeque<Segment>,
    current: Option<Current>,
    spare: Option<Spare>,
    sequence_next: u64,
    /// Room for a block's header, then the records appended since the last `write`.
    buffer: Vec<u8>,
    /// The highest mark in `buffer`.
    buffer_mark: u64,
    unsynced: Option<Unsynced>,
    bytes_since_trim: u64,
    counts: JournalStats,
    poison: Option<JournalError>,
}

struct Segment {
    first_sequence: u64,
    /// Length of the file in bytes.
    len: u64,
    /// Bytes of its synced blocks.
    live: u64,
    /// Highest mark of any record in it.
    mark: u64,
}

/// The last segment, open for writing.
struct Current {
    file: Box<dyn DiskFile>,
    salt: u64,
    /// Where the next block begins.
    end: usize,
    capacity: usize,
}

/// The file that becomes the next segment, while zeros are written to it.
struct Spare {
    file: Box<dyn DiskFile>,
    /// Zeros are durable up to here, from the end of the header on.
    filled: usize,
}

/// The block between `write` and `sync`.
struct Unsynced {
    bytes: usize,
    mark: u64,
}

pub(crate) fn segment_name(first_sequence: u64) -> String {
    format!("{first_sequence:020}.seg")
}

/// The first sequence number that a segment's name tells; `None` for any other file.
pub(crate) fn sequence_of(name: &str) -> Option<u64> {
    let digits = name.strip_suffix(".seg")?;
    let sequence = digits.parse().ok()?;
    (segment_name(sequence) == name).then_some(sequence)
}

/// The salt of the segment that begins with `first_sequence` (the mixer of SplitMix64).
fn salt_of(seed: u64, first_sequence: u64) -> u64 {
    let mut salt = seed.wrapping_add(first_sequence.wrapping_mul(0x9e37_79b9_7f4a_7c15));
    salt = (salt ^ (salt >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    salt = (salt ^ (salt >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    salt ^ (salt >> 31)
}

fn write_zeros(file: &mut dyn DiskFile, from: usize, to: usize) -> Result<(), DiskError> {
    let mut at = from;
    while at < to {
        let bytes = ZEROS.len().min(to - at);
        file.write_at(at as u64, &ZEROS[..bytes])?;
        at += bytes;
    }
    Ok(())
}

/// What `open` has found out about a segment.
struct Scanned {
    segment: Segment,
    sequence_next: u64,
    /// Where the last good block ends.
    end: u64,
    /// Whether something lies behind it that must be cut.
    torn: bool,
}

/// Reads one segment and adds its records to `records`. `below` is the first block of the next
/// segment, if there is one: whoever began that had synced, or read, exactly what comes before it, and
/// wrote no block into this one from then on (`begin_segment`). Whatever lies behind in this one was
/// never durable, and may be there all the same, whole or in part, after a failed sync that has also
/// lost the cut that was to undo it.
fn scan(
    file: &Path,
    content: &[u8],
    first_sequence: u64,
    below: Option<u64>,
    records: &mut Vec<Bytes>,
) -> Result<Scanned, JournalError> {
    let corrupt = |offset: usize, what| JournalError::Corrupt {
        file: file.to_path_buf(),
        offset: offset as u64,
        what,
    };
    let header = SegmentHeader::decode(content).map_err(|bad| match bad {
        BadHeader::Damaged => corrupt(0, "the header of the segment is damaged"),
        BadHeader::Newer(found) => {
            JournalError::NewerFormat { file: file.to_path_buf(), found, known: segment::FORMAT }
        }
    })?;
    if header.first_sequence != first_sequence {
        return Err(corrupt(0, "the segment has another one's name"));
    }
    let (mut offset, mut sequence, mut mark_max) = (HEADER_BYTES, first_sequence, 0);
    let torn = loop {
        if Some(sequence) == below {
            break false;
        }
        match segment::read_block(content, offset, header.salt, sequence) {
            Found::Block { payload, end } => {
                // One copy per block, so that a record does not keep its whole segment.
                let payload = Bytes::copy_from_slice(&content[payload]);
                let frames = segment::records(&payload)
                    .ok_or_else(|| corrupt(offset, "the records do not fill their block"))?;
                for (range, mark) in frames {
                    records.push(payload.slice(range));
                    mark_max = mark.max(mark_max);
                }
                (offset, sequence) = (end, sequence + 1);
            }
            Found::End => break false,
            Found::Damaged(what) => return Err(corrupt(offset, what)),
            Found::Torn if below.is_some() => {
                return Err(corrupt(offset, "a segment that later ones follow ends torn"));
            }
            Found::Torn => {
                let above = sequence.saturating_sub(1);
                match segment::later_block(content, offset, header.salt, above) {
                    Some(_) => return Err(corrupt(offset, "a bad block before a good one")),
                    None => break true,
                }
            }
        }
    };
    let live = (offset - HEADER_BYTES) as u64;
    let segment = Segment { first_sequence, len: content.len() as u64, live, mark: mark_max };
    Ok(Scanned { segment, sequence_next: sequence, end: offset as u64, torn })
}

/// Reads a segment that another one follows, which begins with block `below`.
pub(crate) fn verify(disk: &dyn Disk, file: &Path, below: u64) -> Result<(), JournalError> {
    let name = file.file_name().and_then(|name| name.to_str());
    let first = name.and_then(sequence_of).unwrap_or_default();
    let content = disk.read(file)?;
    let scanned = scan(file, &content, first, Some(below), &mut Vec::new())?;
    match scanned.sequence_next == below {
        true => Ok(()),
        false => {
            let (file, offset) = (file.to_path_buf(), scanned.end);
            Err(JournalError::Corrupt { file, offset, what: "blocks are missing at its end" })
        }
    }
}

impl Journal {
    /// Opens the journal in `dir` and answers with every record in it, in order, preambles
    /// included. A directory that is missing or empty is an empty journal; nothing is made
    /// there before the first commit.
    ///
    /// # Errors
    /// [`JournalError::Corrupt`] when something that was committed is damaged or missing,
    /// [`JournalError::NewerFormat`], or what the disk says.
    pub fn open(
        disk: Arc<dyn Disk>,
        dir: &Path,
        options: JournalOptions,
    ) -> Result<(Journal, Vec<Bytes>), JournalError> {
        let mut journal = Journal {
            disk,
            dir: dir.to_path_buf(),
            options,
            segments: VecDeque::new(),
            current: None,
            spare: None,
            sequence_next: 1,
            buffer: vec![0; HEADER_BYTES],
            buffer_mark: 0,
            unsynced: None,
            bytes_since_trim: 0,
            counts: JournalStats::default(),
            poison: None,
        };
        let records = journal.recover()?;
        Ok((journal, records))
    }

    fn recover(&mut self) -> Result<Vec<Bytes>, JournalError> {
        let names = match self.disk.list(&self.dir) {
            Err(error) if error.is_not_found() => return Ok(Vec::new()),
            names => names?,
        };
        // The names are sorted, and their digits filled up with zeros: this is their order.
        let firsts: Vec<u64> = names.iter().filter_map(|name| sequence_of(name)).collect();
        let mut records = Vec::new();
        for (index, first) in firsts.iter().enumerate() {
            let file = self.dir.join(segment_name(*first));
            if index > 0 && *first != self.sequence_next {
                let what = "blocks are missing before this segment";
                return Err(JournalError::Corrupt { file, offset: 0, what });
            }
            let below = firsts.get(index + 1).copied();
            let content = self.disk.read(&file)?;
            let scanned = scan(&file, &content, *first, below, &mut records)?;
            if below.is_none() {
                self.settle(&file, &scanned, &content)?;
            }
            self.sequence_next = scanned.sequence_next;
            self.bytes_since_trim += scanned.segment.live;
            self.segments.push_back(scanned.segment);
            if scanned.torn
                && let Some(last) = self.segments.back_mut()
            {
                last.len = scanned.end;
            }
        }
        self.disk.sync_dir(&self.dir)?;
        self.counts.syncs += 1;
        Ok(records)
    }

    /// Makes the last segment durable as it was read, without its torn tail. It is written again for
    /// that: what a former process wrote and could not sync may be read and yet be on no disk, and a
    /// sync alone would not put it there (D4).
    fn settle(&mut self, file: &Path, scanned: &Scanned, read: &[u8]) -> Result<(), JournalError> {
        let mut handle = self.disk.open_existing(file)?;
        if scanned.torn {
            tracing::warn!(
                file = %file.display(),
                offset = scanned.end,
                "cutting a torn tail: a block that was being written when the node went down"
            );
            handle.truncate(scanned.end)?;
        }
        handle.write_at(0, &read[..scanned.end as usize])?;
        handle.sync_data()?;
        self.counts.syncs += 1;
        Ok(())
    }

    /// Adds a record to the next commit; nothing is written yet. `mark` is the highest log slot
    /// in the record, 0 for none: `trim` goes by it.
    ///
    /// # Errors
    /// [`JournalError::TooLarge`] when the next commit would exceed [`COMMIT_BYTES_MAX`] with
    /// it (the record is not added), or what poisoned the journal.
    pub fn append(&mut self, record: &[u8], mark: u64) -> Result<(), JournalError> {
        self.check()?;
        let payload = self.buffer.len() - HEADER_BYTES;
        let bytes = payload.saturating_add(FRAME_BYTES).saturating_add(record.len());
        if bytes > COMMIT_BYTES_MAX {
            return Err(JournalError::TooLarge { bytes });
        }
        segment::put_record(&mut self.buffer, record, mark);
        self.buffer_mark = self.buffer_mark.max(mark);
        Ok(())
    }

    /// Makes everything appended so far durable: `write`, then `sync`.
    ///
    /// # Errors
    /// As those of [`Journal::write`] and [`Journal::sync`].
    pub fn commit(&mut self, preamble: &[u8]) -> Result<Committed, JournalError> {
        let committed = self.write(preamble)?;
        self.sync()?;
        Ok(committed)
    }

    /// The first phase of a commit: writes everything appended so far as one block. It is not
    /// durable, and nobody may hear of it, before [`Journal::sync`]. Records may be appended
    /// meanwhile; they belong to the next commit.
    ///
    /// When the block begins a new segment, `preamble` becomes its first record, with mark 0
    /// (no record if it is empty). It must hold all that the owner needs from records of mark 0
    /// up to now, because older segments may be dropped from then on. Records of the same
    /// commit come after it, so the owner must bear to meet them after a newer preamble.
    ///
    /// # Errors
    /// When the disk is full ([`JournalError::is_full`]) nothing has changed: the records are
    /// still there and the commit may be tried again. [`JournalError::TooLarge`] as in `append`.
    /// Any other error poisons the journal: every later call returns it.
    ///
    /// # Panics
    /// When the former block was not synced (J2).
    pub fn write(&mut self, preamble: &[u8]) -> Result<Committed, JournalError> {
        self.check()?;
        assert!(self.unsynced.is_none(), "J2: a block is written before the former is synced");
        let payload = self.buffer.len() - HEADER_BYTES;
        if payload == 0 {
            return Ok(Committed { bytes: 0 });
        }
        if payload.saturating_add(FRAME_BYTES).saturating_add(preamble.len()) > COMMIT_BYTES_MAX {
            return Err(JournalError::TooLarge { bytes: payload + FRAME_BYTES + preamble.len() });
        }
        match self.write_buffer(preamble) {
            Ok(bytes) => {
                self.unsynced = Some(Unsynced { bytes, mark: self.buffer_mark });
                self.buffer.truncate(HEADER_BYTES);
                self.buffer.shrink_to(BUFFER_BYTES_KEPT);
                self.buffer_mark = 0;
                Ok(Committed { bytes: bytes as u64 })
            }
            Err(error) => {
                // A block that did not fit was padded already.
                self.buffer.truncate(HEADER_BYTES + payload);
                Err(error)
            }
        }
    }

    /// The second phase of a commit: makes the written block durable. Without one it does
    /// nothing.
    ///
    /// # Errors
    /// Any error poisons the journal: what a failed sync left behind is unknown (D4), so it is
    /// never tried again.
    pub fn sync(&mut self) -> Result<(), JournalError> {
        self.check()?;
        let Some(unsynced) = self.unsynced.take() else {
            return Ok(());
        };
        let (Some(current), Some(segment)) = (&mut self.current, self.segments.back_mut()) else {
            unreachable!("an unsynced block lies in the current segment, the last one");
        };
        self.counts.syncs += 1;
        let synced = match is_planted(Bug::BlockNotSynced) {
            true => Ok(()),
            false => current.file.sync_data(),
        };
        let synced = match is_planted(Bug::FailedSyncTriedAgain) {
            true => synced.or_else(|_| current.file.sync_data()),
            false => synced,
        };
        if let Err(error) = synced {
            // So that no later process takes the bytes for durable because it can see them.
            let _ = current.file.truncate(current.end as u64);
            return Err(self.poisoned_by(error));
        }
        current.end += unsynced.bytes;
        segment.len = segment.len.max(current.end as u64);
        segment.live += unsynced.bytes as u64;
        segment.mark = match is_planted(Bug::TrimByLastMark) {
            true => unsynced.mark,
            false => segment.mark.max(unsynced.mark),
        };
        self.sequence_next += 1;
        self.bytes_since_trim += unsynced.bytes as u64;
        Ok(())
    }

    /// Fills a part of the next segment with zeros, at most `bytes_max`, once the present one is half
    /// full: to be called between commits, so that none of them has to wait for a whole segment.
    ///
    /// # Errors
    /// Any error poisons the journal, but for a full disk: then nothing has changed.
    pub fn prepare(&mut self, bytes_max: usize) -> Result<(), JournalError> {
        self.check()?;
        let half_full = |current: &Current| 2 * current.end >= current.capacity;
        if !self.options.zero_fill || !self.current.as_ref().is_some_and(half_full) {
            return Ok(());
        }
        match self.fill_spare(bytes_max) {
            // The spare is gone, and with it the room that it took.
            Err(error) if error.is_full() => Ok(()),
            filled => filled.map_err(|error| self.poisoned_by(error)),
        }
    }

    fn fill_spare(&mut self, bytes_max: usize) -> Result<(), DiskError> {
        let capacity = self.options.segment_bytes as usize;
        let mut spare = match self.spare.take() {
            Some(spare) => spare,
            None => Spare { file: self.disk.create_temp(&self.dir)?, filled: HEADER_BYTES },
        };
        let end = capacity.min(spare.filled.saturating_add(bytes_max));
        if spare.filled < end {
            write_zeros(spare.file.as_mut(), spare.filled, end)?;
            spare.file.sync_data()?;
            self.counts.syncs += 1;
            spare.filled = end;
        }
        self.spare = Some(spare);
        Ok(())
    }

    /// Lets the next commit begin a new segment, so that `trim` can drop the present one.
    ///
    /// # Panics
    /// When a written block was not synced.
    pub fn roll(&mut self) {
        assert!(self.unsynced.is_none(), "J2: the segment is left before its block is synced");
        if self.segments.back().is_some_and(|segment| segment.live > 0) {
            self.current = None;
        }
    }

    /// Drops segments from the front as long as all their marks are at most `through`, but none
    /// without a later one that holds a synced block (J5). Answers how many there were.
    ///
    /// # Errors
    /// Any error poisons the journal.
    pub fn trim(&mut self, through: u64) -> Result<usize, JournalError> {
        self.check()?;
        let mut dropped = 0;
        while let (Some(front), Some(next)) = (self.segments.front(), self.segments.get(1))
            && front.mark <= through
            && next.live > 0
        {
            // Synced one by one: were they to vanish out of order, a gap would be left.
            let path = self.dir.join(segment_name(front.first_sequence));
            let gone = self.disk.remove(&path).and_then(|()| self.disk.sync_dir(&self.dir));
            gone.map_err(|error| self.poisoned_by(error))?;
            self.counts.syncs += 1;
            self.segments.pop_front();
            dropped += 1;
        }
        self.bytes_since_trim = 0;
        Ok(dropped)
    }

    /// Numbers about the journal.
    pub fn stats(&self) -> JournalStats {
        let spare = self.spare.as_ref().map_or(0, |spare| spare.filled as u64);
        let segments: u64 = self.segments.iter().map(|segment| segment.len).sum();
        let bytes_on_disk = segments + spare;
        JournalStats { bytes_on_disk, segments: self.segments.len(), ..self.counts }
    }

    /// Bytes of blocks synced since the last `trim`, or since the beginning: what `open` found
    /// counts too. The owner decides by it when to make a checkpoint.
    pub fn bytes_since_trim(&self) -> u64 {
        self.bytes_since_trim
    }

    /// Bytes of all synced blocks that the journal still holds.
    pub fn live_bytes(&self) -> u64 {
        self.segments.iter().map(|segment| segment.live).sum()
    }

    /// Bytes of records appended and not yet written, frames included.
    pub fn buffered_bytes(&self) -> usize {
        self.buffer.len() - HEADER_BYTES
    }

    fn check(&self) -> Result<(), JournalError> {
        self.poison.clone().map_or(Ok(()), Err)
    }

    fn poisoned_by(&mut self, error: DiskError) -> JournalError {
        self.poison = Some(error.clone().into());
        error.into()
    }

    fn current_path(&self) -> PathBuf {
        let first = self.segments.back().map_or(0, |segment| segment.first_sequence);
        self.dir.join(segment_name(first))
    }

    /// Writes the buffer as the next block, where it fits; answers the bytes of the block.
    fn write_buffer(&mut self, preamble: &[u8]) -> Result<usize, JournalError> {
        let preamble = if is_planted(Bug::SegmentWithoutStanding) { &[] } else { preamble };
        let payload = self.buffer.len() - HEADER_BYTES;
        let first_payload = match preamble.is_empty() {
            true => payload,
            false => payload + FRAME_BYTES + preamble.len(),
        };
        let fits = self.current.as_ref().is_some_and(|current| {
            let first = current.end == HEADER_BYTES;
            let payload = if first { first_payload } else { payload };
            current.end + segment::block_bytes(payload) <= current.capacity
        });
        if !fits {
            self.begin_segment(HEADER_BYTES + segment::block_bytes(first_payload))?;
        }
        let Some(current) = &mut self.current else {
            unreachable!("there is room in the current segment");
        };
        let mut first_block;
        let block = match current.end == HEADER_BYTES && !preamble.is_empty() {
            true => {
                first_block = vec![0; HEADER_BYTES];
                segment::put_record(&mut first_block, preamble, 0);
                first_block.extend_from_slice(&self.buffer[HEADER_BYTES..]);
                &mut first_block
            }
            false => &mut self.buffer,
        };
        segment::seal_block(block, current.salt, current.end, self.sequence_next);
        let bytes = block.len();
        self.counts.writes += 1;
        self.counts.bytes_written += bytes as u64;
        if let Err(error) = current.file.write_at(current.end as u64, block) {
            return Err(self.give_way(error));
        }
        Ok(bytes)
    }

    /// After a failed write of a block: a full disk is no harm once the place of the block is
    /// as it was before (J3). Everything else is the end.
    fn give_way(&mut self, error: DiskError) -> JournalError {
        let Some(current) = self.current.as_mut().filter(|_| error.is_full()) else {
            return self.poisoned_by(error);
        };
        let end = current.end as u64;
        self.counts.syncs += 1;
        match current.file.truncate(end).and_then(|()| current.file.sync_data()) {
            Ok(()) => {
                if let Some(segment) = self.segments.back_mut() {
                    segment.len = end;
                }
                JournalError::Disk(error)
            }
            Err(worse) => self.poisoned_by(worse),
        }
    }

    /// Makes a segment of at least `bytes_min` bytes, for the block that is next (J4).
    fn begin_segment(&mut self, bytes_min: usize) -> Result<(), JournalError> {
        let first_sequence = self.sequence_next;
        let capacity = bytes_min.max(self.options.segment_bytes as usize);
        let salt = salt_of(self.options.seed, first_sequence);
        self.current = None;
        // One that never got a block has the same name, and is replaced.
        let unused = match self.segments.back() {
            Some(last) if last.first_sequence == first_sequence => self.segments.pop_back(),
            _ => None,
        };
        let file = match self.make_segment(SegmentHeader { salt, first_sequence }, capacity) {
            Ok(file) => file,
            Err(error) => {
                self.segments.extend(unused);
                return Err(match error.is_full() {
                    true => JournalError::Disk(error),
                    false => self.poisoned_by(error),
                });
            }
        };
        let len = if self.options.zero_fill { capacity } else { HEADER_BYTES } as u64;
        self.segments.push_back(Segment { first_sequence, len, live: 0, mark: 0 });
        self.current = Some(Current { file, salt, end: HEADER_BYTES, capacity });
        if !is_planted(Bug::SegmentNameNotSynced) {
            self.disk.sync_dir(&self.dir).map_err(|error| self.poisoned_by(error))?;
        }
        self.counts.syncs += 1;
        Ok(())
    }

    /// Makes the file of a segment, up to its name. When it fails nothing has changed.
    fn make_segment(
        &mut self,
        header: SegmentHeader,
        capacity: usize,
    ) -> Result<Box<dyn DiskFile>, DiskError> {
        self.disk.create_dir_all(&self.dir)?;
        let spare = self.spare.take();
        let (mut file, filled) = match spare {
            Some(Spare { file, filled }) => (file, filled),
            None => (self.disk.create_temp(&self.dir)?, HEADER_BYTES),
        };
        file.write_at(0, &header.encode())?;
        if self.options.zero_fill {
            write_zeros(file.as_mut(), filled, capacity)?;
        }
        self.counts.syncs += 1;
        file.sync_data()?;
        file.persist(&self.dir.join(segment_name(header.first_sequence)))
    }
}

impl fmt::Debug for Journal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Journal")
            .field("current", &self.current_path())
            .field("sequence_next", &self.sequence_next)
            .field("stats", &self.stats())
            .field("poison", &self.poison)
            .finish_non_exhaustive()
    }
}

/// Why a journal cannot be opened or written.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum JournalError {
    /// The disk failed or is full.
    Disk(DiskError),
    /// Something that was committed is damaged or missing.
    Corrupt {
        /// The segment file.
        file: PathBuf,
        /// Where in the file, in bytes, the damaged block or header begins.
        offset: u64,
        /// What is wrong there.
        what: &'static str,
    },
    /// A newer version of the program has written the file.
    NewerFormat {
        /// The segment file.
        file: PathBuf,
        /// The format of the file.
        found: u32,
        /// The newest format that this version reads.
        known: u32,
    },
    /// The records of one commit take more than [`COMMIT_BYTES_MAX`].
    TooLarge {
        /// The bytes that they would take.
        bytes: usize,
    },
}

impl JournalError {
    /// Whether the disk was full: then nothing has changed, and a commit may be tried again.
    pub fn is_full(&self) -> bool {
        matches!(self, JournalError::Disk(error) if error.is_full())
    }
}

impl From<DiskError> for JournalError {
    fn from(error: DiskError) -> JournalError {
        JournalError::Disk(error)
    }
}

impl fmt::Display for JournalError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            JournalError::Disk(error) => error.fmt(f),
            JournalError::Corrupt { file, offset, what } => {
                write!(f, "{} is corrupt at offset {offset}: {what}", file.display())
            }
            JournalError::NewerFormat { file, found, known } => write!(
                f,
                "{} has journal format {found}, this version knows formats up to {known}: \
                 use the newer version",
                file.display()
            ),
            JournalError::TooLarge { bytes } => {
                write!(f, "{bytes} bytes in one commit, at most {COMMIT_BYTES_MAX} are possible")
            }
        }
    }
}

impl std::error::Error for JournalError {}
