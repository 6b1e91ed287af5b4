//! Finding the end of a line that has arrived in part.

use bytes::BytesMut;

/// A line that begins at the front of a buffer, while it arrives: what has been searched once is
/// not searched again.
#[derive(Clone, Debug, Default)]
pub(super) struct Line {
    searched: usize,
}

/// Whether a line is complete.
pub(super) enum Found {
    /// Not yet.
    No,
    /// Its text ends here, before the byte that was looked for.
    At(usize),
    /// It has more bytes than are allowed.
    TooLong,
}

impl Line {
    /// Looks for the byte that ends the line, which may have `max` bytes before it. The answer does
    /// not depend on how the bytes were cut when they arrived.
    pub(super) fn find(&mut self, end: u8, max: usize, buffer: &BytesMut) -> Found {
        let window = &buffer[self.searched..buffer.len().min(max + 1)];
        match window.iter().position(|&byte| byte == end) {
            Some(at) => {
                let at = self.searched + at;
                self.searched = 0;
                Found::At(at)
            }
            None if buffer.len() > max => Found::TooLong,
            None => {
                self.searched = buffer.len();
                Found::No
            }
        }
    }
}
