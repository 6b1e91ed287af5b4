//! The client's side: requests to bytes, and bytes to answers. For our own command line and bench.

use std::fmt;

use bytes::{Buf, Bytes, BytesMut};
use quorate_kvserver::canonical_i64;

use super::Value;
use super::encode::{bulk, length};
use super::line::{Found, Line};
use super::request::{ARGS_MAX, BULK_BYTES_MAX, LINE_BYTES_MAX};

/// Deepest nesting of an answer.
pub const DEPTH_MAX: usize = 32;

/// Most elements of one array, and most of the nested ones of an answer together.
pub const ITEMS_MAX: usize = 4 * ARGS_MAX;

/// Most bytes of one answer (256 MiB).
pub const ANSWER_BYTES_MAX: usize = 256 * 1024 * 1024;

/// Appends a request: its name and arguments.
pub fn encode_command<A: AsRef<[u8]>>(args: &[A], out: &mut BytesMut) {
    length(b'*', args.len(), out);
    for arg in args {
        bulk(arg.as_ref(), out);
    }
}

/// Why bytes are not an answer. Nothing that follows can be trusted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum AnswerError {
    /// No answer begins with this byte.
    UnknownType(u8),
    /// A length or a number is not one.
    InvalidNumber,
    /// A line does not end.
    LineTooLong,
    /// A byte string is not followed by a line end.
    MissingLineEnd,
    /// A byte string, an array or the whole answer is too large.
    TooBig,
    /// Arrays are nested deeper than [`DEPTH_MAX`].
    TooDeep,
}

impl fmt::Display for AnswerError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            AnswerError::UnknownType(byte) => {
                write!(f, "no answer begins with '{}'", byte.escape_ascii())
            }
            AnswerError::InvalidNumber => f.write_str("not a number"),
            AnswerError::LineTooLong => write!(f, "a line exceeds {LINE_BYTES_MAX} bytes"),
            AnswerError::MissingLineEnd => f.write_str("a byte string without a line end"),
            AnswerError::TooBig => f.write_str("the answer is too big"),
            AnswerError::TooDeep => write!(f, "arrays nested deeper than {DEPTH_MAX}"),
        }
    }
}

impl std::error::Error for AnswerError {}

/// Reads answers, RESP2 or RESP3, out of bytes that arrive in pieces of any size.
#[derive(Debug, Default)]
pub struct AnswerDecoder {
    buffer: BytesMut,
    line: Line,
    /// The length of the byte string that has begun, and what it is.
    blob: Option<(Blob, usize)>,
    /// The arrays that have begun, the outermost first.
    stack: Vec<Partial>,
    /// Bytes and elements of the answer that has begun.
    bytes: usize,
    items: usize,
    failed: Option<AnswerError>,
}

#[derive(Clone, Copy, Debug)]
enum Blob {
    Bulk,
    Error,
    Verbatim,
}

#[derive(Clone, Copy, Debug)]
enum Kind {
    Array,
    Set,
    Push,
    Map,
    /// Remarks on the value after them, which are read and dropped.
    Attribute,
}

/// An array of which some elements have arrived.
#[derive(Debug)]
struct Partial {
    kind: Kind,
    missing: usize,
    items: Vec<Value>,
}

/// What one step of reading gives.
enum Token {
    Value(Value),
    Begin(Kind, usize),
}

impl AnswerDecoder {
    /// Nothing read yet.
    pub fn new() -> AnswerDecoder {
        AnswerDecoder::default()
    }

    /// Where to put what was read from the socket.
    pub fn buffer(&mut self) -> &mut BytesMut {
        &mut self.buffer
    }

    /// The next answer. `None`: more bytes are needed. After an error there is nothing but that
    /// error.
    pub fn decode(&mut self) -> Result<Option<Value>, AnswerError> {
        if let Some(error) = self.failed {
            return Err(error);
        }
        let result = self.step();
        match result {
            Ok(Some(_)) => (self.bytes, self.items) = (0, 0),
            Ok(None) => {}
            Err(error) => {
                self.failed = Some(error);
                (self.buffer, self.stack, self.blob) = (BytesMut::new(), Vec::new(), None);
            }
        }
        result
    }

    fn step(&mut self) -> Result<Option<Value>, AnswerError> {
        while let Some(token) = self.token()? {
            let value = match token {
                Token::Begin(Kind::Attribute, 0) => continue,
                Token::Begin(kind, 0) => finished(kind, Vec::new()),
                Token::Begin(kind, missing) => {
                    if self.stack.len() == DEPTH_MAX {
                        return Err(AnswerError::TooDeep);
                    }
                    self.items = self.items.saturating_add(missing);
                    if self.items > ITEMS_MAX {
                        return Err(AnswerError::TooBig);
                    }
                    let items = Vec::with_capacity(missing.min(16));
                    self.stack.push(Partial { kind, missing, items });
                    continue;
                }
                Token::Value(value) => value,
            };
            if let Some(answer) = self.place(value) {
                return Ok(Some(answer));
            }
        }
        Ok(None)
    }

    /// Puts a value where it belongs; gives the answer when that completes it.
    fn place(&mut self, mut value: Value) -> Option<Value> {
        loop {
            let Some(partial) = self.stack.last_mut() else { return Some(value) };
            partial.items.push(value);
            partial.missing -= 1;
            if partial.missing > 0 {
                return None;
            }
            let Partial { kind, items, .. } = self.stack.pop()?;
            if matches!(kind, Kind::Attribute) {
                return None;
            }
            value = finished(kind, items);
        }
    }

    fn token(&mut self) -> Result<Option<Token>, AnswerError> {
        if self.blob.is_some() {
            return self.blob();
        }
        let end = match self.line.find(b'\r', LINE_BYTES_MAX, &self.buffer) {
            Found::No => return Ok(None),
            Found::TooLong => return Err(AnswerError::LineTooLong),
            Found::At(end) if self.buffer.len() < end + 2 => return Ok(None),
            Found::At(end) => end,
        };
        let mut text = self.buffer.split_to(end).freeze();
        self.buffer.advance(2);
        self.charge(end + 2)?;
        let Some(kind) = text.first().copied() else {
            return Err(AnswerError::UnknownType(b'\r'));
        };
        text.advance(1);
        Ok(Some(match kind {
            b'+' => Token::Value(Value::Simple(text)),
            b'-' => Token::Value(Value::Error(text)),
            b':' => Token::Value(Value::Integer(number(&text)?)),
            b'(' => Token::Value(Value::Bulk(text)),
            b',' => Token::Value(Value::Double(double(&text)?)),
            b'_' => Token::Value(Value::Null),
            b'#' => Token::Value(Value::Boolean(match &text[..] {
                b"t" => true,
                b"f" => false,
                _ => return Err(AnswerError::InvalidNumber),
            })),
            b'$' if text == "-1" => Token::Value(Value::Null),
            b'*' if text == "-1" => Token::Value(Value::NullArray),
            b'$' => return self.begin_blob(Blob::Bulk, &text),
            b'!' => return self.begin_blob(Blob::Error, &text),
            b'=' => return self.begin_blob(Blob::Verbatim, &text),
            b'*' => Token::Begin(Kind::Array, count(&text)?),
            b'~' => Token::Begin(Kind::Set, count(&text)?),
            b'>' => Token::Begin(Kind::Push, count(&text)?),
            b'%' => Token::Begin(Kind::Map, 2 * count(&text)?),
            b'|' => Token::Begin(Kind::Attribute, 2 * count(&text)?),
            other => return Err(AnswerError::UnknownType(other)),
        }))
    }

    fn begin_blob(&mut self, kind: Blob, len: &[u8]) -> Result<Option<Token>, AnswerError> {
        let len = usize::try_from(number(len)?).map_err(|_| AnswerError::InvalidNumber)?;
        if len > BULK_BYTES_MAX {
            return Err(AnswerError::TooBig);
        }
        self.charge(len + 2)?;
        self.blob = Some((kind, len));
        self.blob()
    }

    fn blob(&mut self) -> Result<Option<Token>, AnswerError> {
        let Some((kind, len)) = self.blob else { return Ok(None) };
        if self.buffer.len() < len + 2 {
            return Ok(None);
        }
        self.blob = None;
        let mut bytes = self.buffer.split_to(len).freeze();
        if !self.buffer.starts_with(b"\r\n") {
            return Err(AnswerError::MissingLineEnd);
        }
        self.buffer.advance(2);
        Ok(Some(Token::Value(match kind {
            Blob::Bulk => Value::Bulk(bytes),
            Blob::Error => Value::Error(bytes),
            Blob::Verbatim => {
                // Three letters say of what kind the text is.
                bytes.advance(if bytes.get(3) == Some(&b':') { 4 } else { 0 });
                Value::Verbatim(bytes)
            }
        })))
    }

    fn charge(&mut self, bytes: usize) -> Result<(), AnswerError> {
        self.bytes = self.bytes.saturating_add(bytes);
        if self.bytes > ANSWER_BYTES_MAX { Err(AnswerError::TooBig) } else { Ok(()) }
    }
}

fn finished(kind: Kind, items: Vec<Value>) -> Value {
    match kind {
        Kind::Set => Value::Set(items),
        Kind::Push => Value::Push(items),
        Kind::Map => {
            let mut items = items.into_iter();
            let pairs = std::iter::from_fn(|| Some((items.next()?, items.next()?)));
            Value::Map(pairs.collect())
        }
        Kind::Array | Kind::Attribute => Value::Array(items),
    }
}

fn number(text: &[u8]) -> Result<i64, AnswerError> {
    // RESP3 allows a plus sign.
    canonical_i64(text.strip_prefix(b"+").unwrap_or(text)).ok_or(AnswerError::InvalidNumber)
}

fn count(text: &Bytes) -> Result<usize, AnswerError> {
    match usize::try_from(number(text)?) {
        Ok(count) if count <= ITEMS_MAX => Ok(count),
        Ok(_) => Err(AnswerError::TooBig),
        Err(_) => Err(AnswerError::InvalidNumber),
    }
}

fn double(text: &[u8]) -> Result<f64, AnswerError> {
    let text = std::str::from_utf8(text).map_err(|_| AnswerError::InvalidNumber)?;
    text.parse().map_err(|_| AnswerError::InvalidNumber)
}
