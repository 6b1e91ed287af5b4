//! Bytes to requests: arrays of byte strings, and inline commands.
//!
//! Every limit and every text is Redis', but for two bounds: a byte string may not be longer than a
//! value may be (and a little, so that one that is too long can be refused by name), and all that a
//! request holds is bounded. After a protocol error nothing that follows can be trusted; the
//! connection answers it and ends.
//!
//! Like Redis, the decoder does not look at the line feed of a length line nor at the two bytes
//! after a byte string.

use std::fmt;

use bytes::{Buf, Bytes, BytesMut};
use quorate_kvserver::{VALUE_BYTES_MAX, canonical_i64};

use super::inline;
use super::line::{Found, Line};

/// Most arguments of one request, its name included.
pub const ARGS_MAX: usize = 1024 * 1024;

/// Longest inline command, and longest line that announces a length, in bytes.
pub const LINE_BYTES_MAX: usize = 64 * 1024;

/// Longest byte string that is read: a value and 64 KiB.
pub const BULK_BYTES_MAX: usize = VALUE_BYTES_MAX + 64 * 1024;

/// Most bytes that the arguments of one request may have together (64 MiB).
pub const REQUEST_BYTES_MAX: usize = 64 * 1024 * 1024;

/// Why bytes are not a request. Fatal for the connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ProtocolError {
    /// The number of arguments is not a number, or too large.
    InvalidMultibulkLength,
    /// The length of an argument is not a number, or too large.
    InvalidBulkLength,
    /// An argument does not begin with `$`.
    ExpectedBulk {
        /// What it begins with.
        got: u8,
    },
    /// A quote of an inline command is not closed, or not followed by a space.
    UnbalancedQuotes,
    /// An inline command is longer than [`LINE_BYTES_MAX`].
    InlineTooBig,
    /// The line with the number of arguments does not end.
    CountLineTooBig,
    /// The line with the length of an argument does not end.
    LengthLineTooBig,
    /// The arguments have more than [`REQUEST_BYTES_MAX`] bytes together.
    RequestTooBig,
}

impl ProtocolError {
    /// The error as it is answered.
    pub fn answer(self) -> Bytes {
        let mut text = b"ERR Protocol error: ".to_vec();
        match self {
            // Any byte, which need not be text; a zero byte would end the line in some clients.
            ProtocolError::ExpectedBulk { got } => {
                text.extend_from_slice(b"expected '$', got '");
                text.push(if got == 0 { b' ' } else { got });
                text.push(b'\'');
            }
            other => text.extend_from_slice(other.to_string().as_bytes()),
        }
        Bytes::from(text)
    }
}

impl fmt::Display for ProtocolError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            ProtocolError::InvalidMultibulkLength => f.write_str("invalid multibulk length"),
            ProtocolError::InvalidBulkLength => f.write_str("invalid bulk length"),
            ProtocolError::ExpectedBulk { got } => {
                write!(f, "expected '$', got '{}'", got.escape_ascii())
            }
            ProtocolError::UnbalancedQuotes => f.write_str("unbalanced quotes in request"),
            ProtocolError::InlineTooBig => f.write_str("too big inline request"),
            ProtocolError::CountLineTooBig => f.write_str("too big mbulk count string"),
            ProtocolError::LengthLineTooBig => f.write_str("too big bulk count string"),
            ProtocolError::RequestTooBig => {
                write!(f, "request exceeds {REQUEST_BYTES_MAX} bytes")
            }
        }
    }
}

impl std::error::Error for ProtocolError {}

/// Reads requests out of bytes that arrive in pieces of any size.
#[derive(Debug, Default)]
pub struct Decoder {
    buffer: BytesMut,
    /// The line that has begun at the front of the buffer.
    line: Line,
    /// The request that has begun.
    request: Option<Request>,
    /// What went wrong, once something has.
    failed: Option<ProtocolError>,
}

/// An array of byte strings, of which some have arrived.
#[derive(Debug)]
struct Request {
    args: Vec<Bytes>,
    /// How many are still to come.
    missing: usize,
    /// The length of the next one, once its line has arrived.
    next: Option<usize>,
    /// The bytes of all arguments so far, announced ones included.
    bytes: usize,
}

impl Decoder {
    /// Nothing read yet.
    pub fn new() -> Decoder {
        Decoder::default()
    }

    /// Where to put what was read from the socket.
    pub fn buffer(&mut self) -> &mut BytesMut {
        &mut self.buffer
    }

    /// Bytes that were read but do not make a request yet.
    pub fn buffered(&self) -> usize {
        self.buffer.len()
    }

    /// The next request: its name and arguments, at least one. `None`: more bytes are needed. After
    /// an error there is nothing but that error.
    pub fn decode(&mut self) -> Result<Option<Vec<Bytes>>, ProtocolError> {
        if let Some(error) = self.failed {
            return Err(error);
        }
        let result = self.step();
        if let Err(error) = result {
            self.failed = Some(error);
            (self.buffer, self.request) = (BytesMut::new(), None);
        }
        result
    }

    fn step(&mut self) -> Result<Option<Vec<Bytes>>, ProtocolError> {
        loop {
            if self.request.is_some() {
                return self.arguments();
            }
            match self.buffer.first() {
                None => return Ok(None),
                Some(b'*') => {
                    let Some(count) = self.length_line(ProtocolError::CountLineTooBig)? else {
                        return Ok(None);
                    };
                    let count = canonical_i64(&count[1..])
                        .filter(|&count| count <= ARGS_MAX as i64)
                        .ok_or(ProtocolError::InvalidMultibulkLength)?;
                    // No argument, or fewer: nothing was asked.
                    if let Some(missing) = usize::try_from(count).ok().filter(|&count| count > 0) {
                        // What is announced is not believed before it arrives.
                        let args = Vec::with_capacity(missing.min(16));
                        self.request = Some(Request { args, missing, next: None, bytes: 0 });
                    }
                }
                Some(_) => match self.inline()? {
                    None => return Ok(None),
                    Some(args) if args.is_empty() => {}
                    Some(args) => return Ok(Some(args)),
                },
            }
        }
    }

    /// Goes on with the arguments of the request that has begun.
    fn arguments(&mut self) -> Result<Option<Vec<Bytes>>, ProtocolError> {
        loop {
            let Some(request) = &self.request else { return Ok(None) };
            if request.missing == 0 {
                return Ok(self.request.take().map(|request| request.args));
            }
            let len = match request.next {
                Some(len) => len,
                None => {
                    let Some(line) = self.length_line(ProtocolError::LengthLineTooBig)? else {
                        return Ok(None);
                    };
                    if line[0] != b'$' {
                        return Err(ProtocolError::ExpectedBulk { got: line[0] });
                    }
                    canonical_i64(&line[1..])
                        .and_then(|len| usize::try_from(len).ok())
                        .filter(|&len| len <= BULK_BYTES_MAX)
                        .ok_or(ProtocolError::InvalidBulkLength)?
                }
            };
            let Some(request) = &mut self.request else { return Ok(None) };
            if request.next.is_none() {
                request.next = Some(len);
                request.bytes += len;
                if request.bytes > REQUEST_BYTES_MAX {
                    return Err(ProtocolError::RequestTooBig);
                }
            }
            if self.buffer.len() < len + 2 {
                return Ok(None);
            }
            request.args.push(self.buffer.split_to(len).freeze());
            request.missing -= 1;
            request.next = None;
            self.buffer.advance(2);
        }
    }

    /// Takes a line that ends with a carriage return and a byte more; at least one byte of it is
    /// left when it is given.
    fn length_line(&mut self, too_big: ProtocolError) -> Result<Option<Bytes>, ProtocolError> {
        match self.line.find(b'\r', LINE_BYTES_MAX, &self.buffer) {
            Found::No => Ok(None),
            Found::TooLong => Err(too_big),
            Found::At(end) if self.buffer.len() < end + 2 => Ok(None),
            // An empty line: what stands in the place of its first byte is its end.
            Found::At(end) => {
                let line = self.buffer.split_to(end.max(1)).freeze();
                self.buffer.advance(if end == 0 { 1 } else { 2 });
                Ok(Some(line))
            }
        }
    }

    /// Takes an inline command; without arguments it asks for nothing.
    fn inline(&mut self) -> Result<Option<Vec<Bytes>>, ProtocolError> {
        match self.line.find(b'\n', LINE_BYTES_MAX, &self.buffer) {
            Found::No => Ok(None),
            Found::TooLong => Err(ProtocolError::InlineTooBig),
            Found::At(end) => {
                let mut line = self.buffer.split_to(end).freeze();
                self.buffer.advance(1);
                if line.ends_with(b"\r") {
                    line.truncate(line.len() - 1);
                }
                inline::split(&line).map(Some).ok_or(ProtocolError::UnbalancedQuotes)
            }
        }
    }
}
