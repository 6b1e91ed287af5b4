//! Histories on disk: one JSON object per line, in the order of time.
//!
//! | field | in | holds |
//! |---|---|---|
//! | `t` | every line | microseconds since the start; never less than on the line before |
//! | `client` | every line | who asks (u64) |
//! | `op` | every line | the client's name for the operation (u64), never used twice by it |
//! | `e` | every line | `invoke`, then at most one of `ok`, `fail`, `unknown` |
//! | `f` | `invoke` | `get`, `put`, `append`, `delete`, `cas` |
//! | `key` | `invoke` | bytes |
//! | `value` | `invoke` of put, append, cas | bytes |
//! | `version` | `invoke` of cas | the version that must be stored, 0 for absent |
//! | `value` | `ok` of get | bytes, or `null` for absent |
//! | `version` | `ok` of get | the version, when the client was told |
//! | `length` | `ok` of append | the length of the value, when the client was told |
//! | `present` | `ok` of delete | whether the key was there |
//! | `version` | `ok` of cas | the new version |
//! | `err` | `ok` of cas | `ErrVersion` or `ErrNoKey`, in place of `version` |
//!
//! Bytes are a string when they are UTF-8, otherwise `{"hex": "00ff"}`. `fail` says that the
//! operation certainly did not happen. `unknown` says that it may have happened at any time after
//! the invocation, or never; so does the absence of a completion. Empty lines mean nothing.
//!
//! ```text
//! {"t":10,"client":1,"op":1,"e":"invoke","f":"put","key":"a","value":"1"}
//! {"t":25,"client":1,"op":1,"e":"ok"}
//! {"t":31,"client":2,"op":1,"e":"invoke","f":"get","key":"a"}
//! {"t":40,"client":2,"op":1,"e":"ok","value":"1","version":1}
//! ```
//!
//! Two lines with the same `t` count as concurrent. A [`Recorder`] therefore uses each moment once,
//! and moves a later line of the same microsecond on by one: the order of the file is the order of
//! time. Whoever shares a recorder must write `invoke` before the request leaves and the completion
//! after the answer came.

use std::collections::BTreeMap;
use std::fmt;
use std::io::{self, BufRead, Write};

use serde::de::{self, Deserializer, MapAccess, Visitor};
use serde::ser::{SerializeMap, Serializer};
use serde::{Deserialize, Serialize};

use crate::operation::{Blob, History, Input, Operation, Outcome, Output};

/// The longest line that is read: 256 MiB, far above what the store takes in one operation.
pub const LINE_BYTES_MAX: usize = 256 << 20;

/// Bytes as they stand in a line.
#[derive(Clone, Debug)]
struct Data(Blob);

impl Serialize for Data {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match std::str::from_utf8(&self.0) {
            Ok(text) => serializer.serialize_str(text),
            Err(_) => {
                let hex: String = self.0.iter().map(|byte| format!("{byte:02x}")).collect();
                let mut map = serializer.serialize_map(Some(1))?;
                map.serialize_entry("hex", &hex)?;
                map.end()
            }
        }
    }
}

impl<'de> Deserialize<'de> for Data {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(DataVisitor)
    }
}

struct DataVisitor;

impl<'de> Visitor<'de> for DataVisitor {
    type Value = Data;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "a string or {{\"hex\": \"..\"}}")
    }

    fn visit_str<E: de::Error>(self, text: &str) -> Result<Data, E> {
        Ok(Data(text.as_bytes().into()))
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Data, A::Error> {
        let Some((name, hex)) = map.next_entry::<String, String>()? else {
            return Err(de::Error::custom("expected {\"hex\": \"..\"}, found {}"));
        };
        if name != "hex" || map.next_key::<String>()?.is_some() {
            return Err(de::Error::custom("bytes have the one field \"hex\""));
        }
        match unhex(&hex) {
            Some(bytes) => Ok(Data(bytes.into())),
            None => Err(de::Error::custom(format!("not hexadecimal bytes: {hex:?}"))),
        }
    }
}

fn unhex(hex: &str) -> Option<Vec<u8>> {
    let digits: Option<Vec<u8>> =
        hex.chars().map(|c| c.to_digit(16).and_then(|digit| u8::try_from(digit).ok())).collect();
    let digits = digits?;
    let (pairs, rest) = digits.as_chunks::<2>();
    rest.is_empty().then(|| pairs.iter().map(|[high, low]| high << 4 | low).collect())
}

/// Which of a line's four kinds it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
enum Event {
    Invoke,
    Ok,
    Fail,
    Unknown,
}

/// Which operation is invoked.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
enum Function {
    Get,
    Put,
    Append,
    Delete,
    Cas,
}

/// Why a versioned Put changed nothing.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
enum CasError {
    ErrVersion,
    ErrNoKey,
}

/// One line, every field that one may have.
#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Line {
    t: u64,
    client: u64,
    op: u64,
    e: Event,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    f: Option<Function>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    key: Option<Data>,
    /// Missing, null, or bytes: an absent key must say so.
    #[serde(default, skip_serializing_if = "Option::is_none", deserialize_with = "null_is_said")]
    value: Option<Option<Data>>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    version: Option<u64>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    length: Option<u64>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    present: Option<bool>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    err: Option<CasError>,
}

fn null_is_said<'de, D: Deserializer<'de>>(
    deserializer: D,
) -> Result<Option<Option<Data>>, D::Error> {
    Option::<Data>::deserialize(deserializer).map(Some)
}

impl Line {
    fn new(t: u64, client: u64, op: u64, e: Event) -> Self {
        Line {
            t,
            client,
            op,
            e,
            f: None,
            key: None,
            value: None,
            version: None,
            length: None,
            present: None,
            err: None,
        }
    }

    fn set_input(&mut self, key: &Blob, input: &Input) {
        self.key = Some(Data(key.clone()));
        let (function, value) = match input {
            Input::Get => (Function::Get, None),
            Input::Put { value } => (Function::Put, Some(value)),
            Input::Append { value } => (Function::Append, Some(value)),
            Input::Delete => (Function::Delete, None),
            Input::Cas { value, version } => {
                self.version = Some(*version);
                (Function::Cas, Some(value))
            }
        };
        self.f = Some(function);
        self.value = value.map(|value| Some(Data(value.clone())));
    }

    fn set_output(&mut self, output: &Output) {
        match output {
            Output::Value { value, version } => {
                self.value = Some(Some(Data(value.clone())));
                self.version = *version;
            }
            Output::Absent => self.value = Some(None),
            Output::Done => {}
            Output::Length(length) => self.length = Some(*length),
            Output::Deleted { present } => self.present = Some(*present),
            Output::Stored { version } => self.version = Some(*version),
            Output::ErrVersion => self.err = Some(CasError::ErrVersion),
            Output::ErrNoKey => self.err = Some(CasError::ErrNoKey),
        }
    }

    /// The invocation in this line. Each field is taken, so that one left over can be named.
    fn take_input(&mut self) -> Result<(Blob, Input), String> {
        let function = self.f.take().ok_or("an invocation needs \"f\"")?;
        let key = self.key.take().ok_or("an invocation needs \"key\"")?.0;
        let input = match function {
            Function::Get => Input::Get,
            Function::Put => Input::Put { value: self.take_bytes("put")? },
            Function::Append => Input::Append { value: self.take_bytes("append")? },
            Function::Delete => Input::Delete,
            Function::Cas => Input::Cas {
                value: self.take_bytes("cas")?,
                version: self.version.take().ok_or("a cas needs \"version\"")?,
            },
        };
        Ok((key, input))
    }

    fn take_bytes(&mut self, function: &str) -> Result<Blob, String> {
        match self.value.take() {
            Some(Some(data)) => Ok(data.0),
            Some(None) => Err(format!("the \"value\" of a {function} cannot be null")),
            None => Err(format!("a {function} needs \"value\"")),
        }
    }

    /// The answer in this line to that question.
    fn take_output(&mut self, input: &Input) -> Result<Output, String> {
        match input {
            Input::Get => match self.value.take() {
                Some(Some(Data(value))) => {
                    Ok(Output::Value { value, version: self.version.take() })
                }
                Some(None) => Ok(Output::Absent),
                None => Err("the answer to a get needs \"value\", null for absent".into()),
            },
            Input::Put { .. } => Ok(Output::Done),
            Input::Append { .. } => Ok(self.length.take().map_or(Output::Done, Output::Length)),
            Input::Delete => match self.present.take() {
                Some(present) => Ok(Output::Deleted { present }),
                None => Err("the answer to a delete needs \"present\"".into()),
            },
            Input::Cas { .. } => match (self.version.take(), self.err.take()) {
                (Some(version), None) => Ok(Output::Stored { version }),
                (None, Some(CasError::ErrVersion)) => Ok(Output::ErrVersion),
                (None, Some(CasError::ErrNoKey)) => Ok(Output::ErrNoKey),
                _ => Err("the answer to a cas needs either \"version\" or \"err\"".into()),
            },
        }
    }

    /// Refuses what the kind of line has no use for: it was meant for something.
    fn refuse_rest(&self) -> Result<(), String> {
        let rest = [
            ("f", self.f.is_some()),
            ("key", self.key.is_some()),
            ("value", self.value.is_some()),
            ("version", self.version.is_some()),
            ("length", self.length.is_some()),
            ("present", self.present.is_some()),
            ("err", self.err.is_some()),
        ];
        match rest.iter().find(|(_, is_there)| *is_there) {
            Some((name, _)) => Err(format!("\"{name}\" has no meaning here")),
            None => Ok(()),
        }
    }
}

/// Writes a history while it happens. Reads no clock: the caller says when.
#[derive(Debug)]
pub struct Recorder<W: Write> {
    out: W,
    /// The moment of the last line.
    last: Option<u64>,
}

impl<W: Write> Recorder<W> {
    /// A recorder at the beginning of a file. Each line is one write: buffer as you wish.
    pub fn new(out: W) -> Self {
        Recorder { out, last: None }
    }

    /// A client is about to ask. Call it before the request leaves.
    pub fn invoke(
        &mut self,
        t: u64,
        client: u64,
        op: u64,
        key: &Blob,
        input: &Input,
    ) -> io::Result<()> {
        let mut line = Line::new(t, client, op, Event::Invoke);
        line.set_input(key, input);
        self.write(line)
    }

    /// The answer came. Call it after the answer is there.
    pub fn ok(&mut self, t: u64, client: u64, op: u64, output: &Output) -> io::Result<()> {
        let mut line = Line::new(t, client, op, Event::Ok);
        line.set_output(output);
        self.write(line)
    }

    /// The operation certainly did not and will not happen.
    pub fn fail(&mut self, t: u64, client: u64, op: u64) -> io::Result<()> {
        self.write(Line::new(t, client, op, Event::Fail))
    }

    /// The client stopped waiting. The operation may still happen.
    pub fn unknown(&mut self, t: u64, client: u64, op: u64) -> io::Result<()> {
        self.write(Line::new(t, client, op, Event::Unknown))
    }

    /// Writes out what the writer holds back.
    pub fn flush(&mut self) -> io::Result<()> {
        self.out.flush()
    }

    /// The writer, not flushed.
    pub fn into_inner(self) -> W {
        self.out
    }

    fn write(&mut self, mut line: Line) -> io::Result<()> {
        if let Some(last) = self.last {
            line.t = line.t.max(last + 1);
        }
        self.last = Some(line.t);
        let mut text = serde_json::to_vec(&line)?;
        text.push(b'\n');
        self.out.write_all(&text)
    }
}

/// What is wrong with a history file.
#[derive(Debug)]
pub enum ReadError {
    /// The file could not be read.
    Io {
        /// The line that was expected, from 1.
        line: usize,
        /// Why.
        source: io::Error,
    },
    /// The last line has no end and is not whole: whoever wrote it was interrupted. The lines before
    /// it are a history of their own, in which what was not answered is unknown.
    CutOff {
        /// Which line, from 1.
        line: usize,
    },
    /// A line is longer than [`LINE_BYTES_MAX`].
    TooLong {
        /// Which line, from 1.
        line: usize,
    },
    /// A line is not of the format, or contradicts the lines before it.
    Malformed {
        /// Which line, from 1.
        line: usize,
        /// In which way.
        problem: String,
    },
}

impl fmt::Display for ReadError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            ReadError::Io { line, source } => write!(f, "line {line}: {source}"),
            ReadError::CutOff { line } => write!(f, "line {line}: the file ends within it"),
            ReadError::TooLong { line } => {
                write!(f, "line {line}: longer than {LINE_BYTES_MAX} bytes")
            }
            ReadError::Malformed { line, problem } => write!(f, "line {line}: {problem}"),
        }
    }
}

impl std::error::Error for ReadError {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match self {
            ReadError::Io { source, .. } => Some(source),
            ReadError::CutOff { .. } | ReadError::TooLong { .. } | ReadError::Malformed { .. } => {
                None
            }
        }
    }
}

/// An operation while its file is read.
struct Draft {
    op: Operation,
    /// Whether its completion was read.
    is_complete: bool,
    /// Whether it certainly did not happen.
    is_void: bool,
}

/// What has been read so far.
#[derive(Default)]
struct Reader {
    drafts: Vec<Draft>,
    /// Client and op of each draft, to its place.
    places: BTreeMap<(u64, u64), usize>,
    last: u64,
}

impl Reader {
    fn on_line(&mut self, mut line: Line) -> Result<(), String> {
        if line.t < self.last {
            return Err(format!("time goes back from {} to {}", self.last, line.t));
        }
        self.last = line.t;
        match line.e {
            Event::Invoke => self.on_invoke(&mut line)?,
            _ => self.on_completion(&mut line)?,
        }
        line.refuse_rest()
    }

    fn on_invoke(&mut self, line: &mut Line) -> Result<(), String> {
        let (client, id) = (line.client, line.op);
        if self.places.insert((client, id), self.drafts.len()).is_some() {
            return Err(format!("client {client} invoked op {id} before"));
        }
        let (key, input) = line.take_input()?;
        let op = Operation { client, key, input, invoked: line.t, outcome: Outcome::Unknown };
        self.drafts.push(Draft { op, is_complete: false, is_void: false });
        Ok(())
    }

    fn on_completion(&mut self, line: &mut Line) -> Result<(), String> {
        let (client, id) = (line.client, line.op);
        let Some(&place) = self.places.get(&(client, id)) else {
            return Err(format!("client {client} never invoked op {id}"));
        };
        let draft = &mut self.drafts[place];
        if draft.is_complete {
            return Err(format!("op {id} of client {client} was completed before"));
        }
        draft.is_complete = true;
        match line.e {
            Event::Ok => {
                let output = line.take_output(&draft.op.input)?;
                draft.op.outcome = Outcome::Returned { at: line.t, output };
            }
            Event::Fail => draft.is_void = true,
            Event::Invoke | Event::Unknown => {}
        }
        Ok(())
    }
}

/// Reads a history. Operations that failed are left out; those without a completion are unknown.
///
/// # Errors
/// The first line that is not as it should be, by its number.
pub fn read<R: BufRead>(mut input: R) -> Result<History, ReadError> {
    let mut reader = Reader::default();
    let mut text = Vec::new();
    for number in 1.. {
        text.clear();
        let mut bounded = io::Read::take(&mut input, LINE_BYTES_MAX as u64 + 1);
        let length = bounded.read_until(b'\n', &mut text);
        let length = length.map_err(|source| ReadError::Io { line: number, source })?;
        if length == 0 {
            break;
        }
        if length > LINE_BYTES_MAX {
            return Err(ReadError::TooLong { line: number });
        }
        if text.trim_ascii().is_empty() {
            continue;
        }
        let line = serde_json::from_slice(&text).map_err(|error| {
            if error.is_eof() && text.last() != Some(&b'\n') {
                return ReadError::CutOff { line: number };
            }
            // The number that the error has is that of the only line it was given.
            let what = error.to_string();
            let what = what.split(" at line 1 ").next().unwrap_or_default();
            let problem = format!("{what} (column {})", error.column());
            ReadError::Malformed { line: number, problem }
        })?;
        let taken = reader.on_line(line);
        taken.map_err(|problem| ReadError::Malformed { line: number, problem })?;
    }
    let drafts = reader.drafts.into_iter();
    Ok(History { ops: drafts.filter(|draft| !draft.is_void).map(|draft| draft.op).collect() })
}

/// Writes a whole history, each operation named by its place in `ops`. Moments that several
/// operations share are moved apart, and what was concurrent stays so.
pub fn write<W: Write>(history: &History, out: W) -> io::Result<()> {
    // At one moment invocations come first: what meets at a moment is concurrent.
    let mut moments: Vec<(u64, bool, usize)> = Vec::with_capacity(history.ops.len() * 2);
    for (place, op) in history.ops.iter().enumerate() {
        moments.push((op.invoked, false, place));
        moments.extend(op.returned().map(|at| (at, true, place)));
    }
    moments.sort_unstable();
    let mut recorder = Recorder::new(out);
    for (t, is_return, place) in moments {
        let op = &history.ops[place];
        match op.output() {
            Some(output) if is_return => recorder.ok(t, op.client, place as u64, output)?,
            _ => recorder.invoke(t, op.client, place as u64, &op.key, &op.input)?,
        }
    }
    recorder.flush()
}
