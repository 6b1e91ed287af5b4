//! What a segment file looks like, and how to tell a torn block from a damaged one.
//!
//! ```text
//! segment   header (32 bytes)  block  block  block  zeros or nothing
//! header    "QRJS" | format u32 | salt u64 | first sequence u64 | crc u32 | zeros
//! block     header (32 bytes) | payload | zeros | END        a multiple of 32 bytes
//!   header  "QRJB" | payload length u32 | sequence u64 | crc of the body u32
//!           | zero sectors u32 | crc of the header u32 | "End."
//! payload   records: length u32 | mark u64 | bytes
//! ```
//! All numbers are little-endian. Every checksum begins with the segment's salt, which clients
//! never see, and a block header's covers its offset too: bytes that a client stored, be they a
//! copy of a journal, are not taken for blocks. A body's covers its padding too.
//!
//! # Torn or damaged
//! The place of a block is all zeros, or beyond the end of the file, before the block is
//! written. A write that a crash interrupted therefore leaves *zeros where something else was
//! meant*, in whole sectors or, when only the process died, from some byte on. A block header
//! lies within one sector and ends in "End.", a body ends in END, neither of which is zero, and
//! the header announces how many sectors' shares of the block are zeros by intention. So
//! - header or body without its last byte, or more zero sectors than announced: **torn**;
//! - a wrong checksum otherwise: **damaged**, because no torn write looks like that.
//!
//! What this cannot see is a disk that turns synced sectors into zeros.

use std::ops::Range;

use crc32fast::Hasher;
use quorate_protocol::planted::{Bug, is_planted};

use crate::disk::SECTOR_BYTES;

/// The format that this version writes, and the newest that it reads.
pub(crate) const FORMAT: u32 = 1;
/// Bytes of a segment's header, of a block's header, and the unit of a block's length.
pub(crate) const HEADER_BYTES: usize = 32;
/// Bytes in front of every record.
pub(crate) const FRAME_BYTES: usize = 12;

const SEGMENT_MAGIC: [u8; 4] = *b"QRJS";
const BLOCK_MAGIC: [u8; 4] = *b"QRJB";
const HEADER_END: [u8; 4] = *b"End.";
const BODY_END: u8 = b'.';

/// The beginning of a segment.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct SegmentHeader {
    pub(crate) salt: u64,
    pub(crate) first_sequence: u64,
}

/// Why a segment header cannot be used.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum BadHeader {
    Damaged,
    Newer(u32),
}

fn u32_at(bytes: &[u8], at: usize) -> u32 {
    u32::from_le_bytes(bytes[at..at + 4].try_into().expect("four bytes"))
}

fn u64_at(bytes: &[u8], at: usize) -> u64 {
    u64::from_le_bytes(bytes[at..at + 8].try_into().expect("eight bytes"))
}

fn is_zero(bytes: &[u8]) -> bool {
    bytes.iter().all(|byte| *byte == 0)
}

impl SegmentHeader {
    pub(crate) fn encode(&self) -> [u8; HEADER_BYTES] {
        let mut bytes = [0; HEADER_BYTES];
        bytes[0..4].copy_from_slice(&SEGMENT_MAGIC);
        bytes[4..8].copy_from_slice(&FORMAT.to_le_bytes());
        bytes[8..16].copy_from_slice(&self.salt.to_le_bytes());
        bytes[16..24].copy_from_slice(&self.first_sequence.to_le_bytes());
        let crc = crc32fast::hash(&bytes[..24]);
        bytes[24..28].copy_from_slice(&crc.to_le_bytes());
        bytes
    }

    pub(crate) fn decode(segment: &[u8]) -> Result<SegmentHeader, BadHeader> {
        let bytes = segment.get(..HEADER_BYTES).ok_or(BadHeader::Damaged)?;
        let header = SegmentHeader { salt: u64_at(bytes, 8), first_sequence: u64_at(bytes, 16) };
        let format = u32_at(bytes, 4);
        // With another format in it the rest would not be as we would write it: then it was
        // written by a newer version. Otherwise just these bytes are damaged.
        let ours = header.encode();
        match bytes[..4] == SEGMENT_MAGIC {
            true if bytes == ours => Ok(header),
            true if format > FORMAT && bytes[8..] != ours[8..] => Err(BadHeader::Newer(format)),
            _ => Err(BadHeader::Damaged),
        }
    }
}

/// Bytes that a block with a payload of `payload` bytes takes in a segment.
pub(crate) fn block_bytes(payload: usize) -> usize {
    HEADER_BYTES + (payload + 1).next_multiple_of(HEADER_BYTES)
}

/// Appends a record to a payload.
pub(crate) fn put_record(payload: &mut Vec<u8>, record: &[u8], mark: u64) {
    payload.extend_from_slice(&(record.len() as u32).to_le_bytes());
    payload.extend_from_slice(&mark.to_le_bytes());
    payload.extend_from_slice(record);
}

fn body_crc(salt: u64, sequence: u64, body: &[u8]) -> u32 {
    let mut hasher = Hasher::new();
    hasher.update(&salt.to_le_bytes());
    hasher.update(&sequence.to_le_bytes());
    hasher.update(body);
    hasher.finalize()
}

fn header_crc(salt: u64, offset: usize, header: &[u8]) -> u32 {
    let mut hasher = Hasher::new();
    hasher.update(&salt.to_le_bytes());
    hasher.update(&(offset as u64).to_le_bytes());
    hasher.update(&header[..24]);
    hasher.finalize()
}

/// How many sectors' shares of `block`, which lies at `offset`, hold nothing but zeros.
fn zero_sectors(offset: usize, block: &[u8]) -> u32 {
    let sector = SECTOR_BYTES as usize;
    let head = block.len().min(sector - offset % sector);
    let (head, rest) = block.split_at(head);
    let shares = std::iter::once(head).chain(rest.chunks(sector));
    shares.filter(|share| is_zero(share)).count() as u32
}

/// Makes a block of `block`, which holds [`HEADER_BYTES`] of room and then the payload.
pub(crate) fn seal_block(block: &mut Vec<u8>, salt: u64, offset: usize, sequence: u64) {
    let payload = block.len() - HEADER_BYTES;
    block.resize(block_bytes(payload), 0);
    if let Some(last) = block.last_mut() {
        *last = BODY_END;
    }
    let body_crc = body_crc(salt, sequence, &block[HEADER_BYTES..]);
    block[0..4].copy_from_slice(&BLOCK_MAGIC);
    block[4..8].copy_from_slice(&(payload as u32).to_le_bytes());
    block[8..16].copy_from_slice(&sequence.to_le_bytes());
    block[16..20].copy_from_slice(&body_crc.to_le_bytes());
    block[28..32].copy_from_slice(&HEADER_END);
    let zero_sectors = zero_sectors(offset, block);
    block[20..24].copy_from_slice(&zero_sectors.to_le_bytes());
    let header_crc = header_crc(salt, offset, block);
    block[24..28].copy_from_slice(&header_crc.to_le_bytes());
}

/// What lies where a block may begin.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Found {
    /// A good block: where its payload lies and where the next block would begin.
    Block { payload: Range<usize>, end: usize },
    /// Zeros up to the end of the file, or the end itself.
    End,
    /// What an interrupted write may leave.
    Torn,
    /// What no interrupted write leaves, in words.
    Damaged(&'static str),
}

/// The header of a block at `offset`: payload length and sequence, if its checksum is right.
fn block_header(segment: &[u8], offset: usize, salt: u64) -> Option<(usize, u64)> {
    let header = segment.get(offset..offset + HEADER_BYTES)?;
    let framed = header[..4] == BLOCK_MAGIC && header[28..] == HEADER_END;
    let good = framed && u32_at(header, 24) == header_crc(salt, offset, header);
    good.then(|| (u32_at(header, 4) as usize, u64_at(header, 8)))
}

/// Reads what lies at `offset`, where the block `sequence` is due.
pub(crate) fn read_block(segment: &[u8], offset: usize, salt: u64, sequence: u64) -> Found {
    let rest = &segment[offset..];
    if rest.len() < HEADER_BYTES || rest[HEADER_BYTES - 1] == 0 {
        return if is_zero(rest) { Found::End } else { Found::Torn };
    }
    let Some((payload, found)) = block_header(segment, offset, salt) else {
        return Found::Damaged("the header of a block is damaged");
    };
    if found != sequence {
        return Found::Damaged("a block with another sequence number than is due");
    }
    // Compared before anything of that size is touched: the length is only a claim so far.
    let planted = is_planted(Bug::TornTailTaken);
    let block = match rest.get(..block_bytes(payload)) {
        Some(block) => block,
        None if planted => rest,
        None => return Found::Torn,
    };
    let body = &block[HEADER_BYTES..];
    if body.last() == Some(&0) && !planted {
        return Found::Torn;
    }
    if u32_at(block, 16) == body_crc(salt, sequence, body) || planted {
        let (from, end) = (offset + HEADER_BYTES, offset + block.len());
        return Found::Block { payload: from..end.min(from + payload), end };
    }
    match zero_sectors(offset, block) > u32_at(block, 20) {
        true => Found::Torn,
        false => Found::Damaged("the content of a block is damaged"),
    }
}

/// Where, after `offset`, a good block lies whose sequence number is above `sequence`.
pub(crate) fn later_block(
    segment: &[u8],
    offset: usize,
    salt: u64,
    sequence: u64,
) -> Option<usize> {
    let places = (offset + HEADER_BYTES..segment.len()).step_by(HEADER_BYTES);
    places.into_iter().find(|place| match block_header(segment, *place, salt) {
        Some((_, found)) if found > sequence => {
            matches!(read_block(segment, *place, salt, found), Found::Block { .. })
        }
        _ => false,
    })
}

/// The records in a payload with their marks, or `None` when the frames do not fill it exactly.
pub(crate) fn records(payload: &[u8]) -> Option<Vec<(Range<usize>, u64)>> {
    let (mut found, mut at) = (Vec::new(), 0);
    while at < payload.len() {
        let frame = payload.get(at..at + FRAME_BYTES)?;
        let (from, len) = (at + FRAME_BYTES, u32_at(frame, 0) as usize);
        payload.get(from..from + len)?;
        found.push((from..from + len, u64_at(frame, 4)));
        at = from + len;
    }
    Some(found)
}

#[cfg(test)]
mod tests {
    use super::*;

    const SALT: u64 = 77;

    fn segment(payloads: &[&[u8]]) -> Vec<u8> {
        let header = SegmentHeader { salt: SALT, first_sequence: 1 };
        let mut segment = header.encode().to_vec();
        for (index, payload) in payloads.iter().enumerate() {
            let mut block = vec![0; HEADER_BYTES];
            block.extend_from_slice(payload);
            seal_block(&mut block, SALT, segment.len(), index as u64 + 1);
            segment.extend_from_slice(&block);
        }
        segment
    }

    #[test]
    fn an_announced_length_beyond_the_file_is_torn_and_never_allocated() {
        let mut segment = segment(&[b"payload"]);
        let header = &mut segment[HEADER_BYTES..2 * HEADER_BYTES];
        header[4..8].copy_from_slice(&u32::MAX.to_le_bytes());
        let crc = header_crc(SALT, HEADER_BYTES, header);
        header[24..28].copy_from_slice(&crc.to_le_bytes());
        assert_eq!(read_block(&segment, HEADER_BYTES, SALT, 1), Found::Torn);
    }

    #[test]
    fn a_record_longer_than_its_payload_is_refused() {
        let mut payload = Vec::new();
        put_record(&mut payload, b"abc", 1);
        assert_eq!(records(&payload), Some(vec![(12..15, 1)]));
        payload[0..4].copy_from_slice(&u32::MAX.to_le_bytes());
        assert_eq!(records(&payload), None);
        assert_eq!(records(&[0; 5]), None);
    }

    #[test]
    fn a_block_copied_elsewhere_or_of_another_salt_is_no_block() {
        let mut segment = segment(&[b"one", b"two"]);
        let copy = segment[HEADER_BYTES..].to_vec();
        let at = segment.len();
        segment.extend_from_slice(&copy);
        assert!(matches!(read_block(&segment, at, SALT, 1), Found::Damaged(_)));
        assert_eq!(later_block(&segment, at - HEADER_BYTES, SALT, 0), None);
        assert_eq!(later_block(&segment, 0, SALT, 1), Some(HEADER_BYTES + 64));
        assert_eq!(later_block(&segment, 0, SALT + 1, 0), None);
    }

    #[test]
    fn a_newer_segment_is_told_from_a_flipped_bit() {
        let header = SegmentHeader { salt: SALT, first_sequence: 5 };
        let mut bytes = header.encode();
        assert_eq!(SegmentHeader::decode(&bytes), Ok(header));
        bytes[4] = 3;
        assert_eq!(SegmentHeader::decode(&bytes), Err(BadHeader::Damaged));
        let crc = crc32fast::hash(&bytes[..24]);
        bytes[24..28].copy_from_slice(&crc.to_le_bytes());
        assert_eq!(SegmentHeader::decode(&bytes), Err(BadHeader::Newer(3)));
        assert_eq!(SegmentHeader::decode(&bytes[..9]), Err(BadHeader::Damaged));
    }
}
