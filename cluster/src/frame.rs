//! What crosses a connection: frames, as bytes. Pure: no socket is read or written here.
//!
//! ```text
//!   frame    length: u32    body: `length` bytes                       (all little endian)
//!   Hello    1  magic: 4 bytes  version: u16  rmp-serde of `Hello`
//!   Welcome  2  magic: 4 bytes  version: u16  rmp-serde of `Welcome`
//!   Refuse   3  magic: 4 bytes  version: u16  rmp-serde of the reason, a text
//!   Parcel   4  class: u8  from: role u8, group u32, node u32  to: the same  message: the rest
//! ```
//!
//! # What always holds
//! F1. A length above the reader's bound is refused before anything is allocated for it.
//! F2. The first byte, the magic and the version of a handshake frame, and the whole of `Refuse`,
//!     stay where they are in every version, so that two versions can tell each other apart.
//! F3. Memory grows with what has arrived, never with what was announced.

use std::fmt;

use bytes::{Buf, BufMut, BytesMut, buf::Limit};
use quorate_protocol::{GroupId, Member, Name, NodeId, Role};
use quorate_stage::{Class, Parcel};
use serde::{Deserialize, Serialize, de::DeserializeOwned};

/// What a connection of ours begins with, after the length and the kind.
pub const MAGIC: [u8; 4] = *b"QRT1";
/// The version of the protocol that is spoken here. A change of any frame or message raises it.
pub const PROTOCOL_VERSION: u16 = 4;
/// The longest body of a frame, unless a node is told otherwise.
pub const FRAME_BYTES_MAX: usize = 64 << 20;
/// The longest body of a frame from somebody who has not shaken hands.
pub const HELLO_BYTES_MAX: usize = 4 << 10;
/// What a parcel's frame holds besides its message, its length included.
pub const PARCEL_OVERHEAD: usize = LENGTH_BYTES + PARCEL_HEADER_BYTES;

const LENGTH_BYTES: usize = 4;
const NAME_BYTES: usize = 9;
const PARCEL_HEADER_BYTES: usize = 2 + 2 * NAME_BYTES;
const OPENING_HEADER_BYTES: usize = 1 + MAGIC.len() + 2;
/// How much is read at once, and how much room an idle connection keeps.
const READ_BYTES_MAX: usize = 256 << 10;
/// A reason longer than this is cut.
const REASON_BYTES_MAX: usize = 2 << 10;

const HELLO: u8 = 1;
const WELCOME: u8 = 2;
const REFUSE: u8 = 3;
const PARCEL: u8 = 4;

/// The first frame of a connection, from the node that opened it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Hello {
    /// The cluster that it belongs to.
    pub cluster_id: String,
    /// Who it is.
    pub from: Member,
    /// Whether its directory was made when the cluster was formed: see [`crate::handshake`].
    pub founder: bool,
    /// Whom it wants to talk to.
    pub to: NodeId,
}

/// The answer to a [`Hello`] that is taken: parcels may come.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Welcome {
    /// The cluster that the answering node belongs to.
    pub cluster_id: String,
    /// Who it is.
    pub from: Member,
    /// Whether its directory was made when the cluster was formed.
    pub founder: bool,
}

/// A frame that has come. Borrowed from the bytes it came in.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Frame<'a> {
    /// Somebody wants to send parcels.
    Hello(Hello),
    /// It may.
    Welcome(Welcome),
    /// It may not.
    Refuse {
        /// Both values that do not fit, and what to do.
        reason: String,
    },
    /// A message for an actor.
    Parcel {
        /// Who sends it.
        from: Name,
        /// Who shall have it.
        to: Name,
        /// Request or answer.
        class: Class,
        /// The message, rmp-serde.
        body: &'a [u8],
    },
}

impl Frame<'_> {
    /// What kind it is, for a log.
    pub fn kind(&self) -> &'static str {
        match self {
            Frame::Hello(_) => "Hello",
            Frame::Welcome(_) => "Welcome",
            Frame::Refuse { .. } => "Refuse",
            Frame::Parcel { .. } => "Parcel",
        }
    }
}

/// Why bytes are not a frame. None of them can be read past: the connection is to be closed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum FrameError {
    /// More is announced than is allowed.
    TooLong {
        /// The length that is announced.
        announced: usize,
        /// The length that is allowed.
        max: usize,
    },
    /// The body ends before the frame does.
    Truncated,
    /// No frame begins with this byte.
    UnknownKind(u8),
    /// No role has this number.
    UnknownRole(u8),
    /// No class has this number.
    UnknownClass(u8),
    /// A handshake without the magic.
    Magic([u8; 4]),
    /// A handshake in another version of the protocol.
    Version(u16),
    /// A handshake that is not what its version says it is.
    Unreadable(String),
}

impl fmt::Display for FrameError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            FrameError::TooLong { announced, max } => {
                write!(f, "a frame of {announced} bytes is announced, {max} are allowed")
            }
            FrameError::Truncated => write!(f, "a frame ends too early"),
            FrameError::UnknownKind(kind) => write!(f, "no frame is of kind {kind}"),
            FrameError::UnknownRole(role) => write!(f, "no role has the number {role}"),
            FrameError::UnknownClass(class) => write!(f, "no class has the number {class}"),
            FrameError::Magic(magic) => {
                write!(f, "not a quorate node: it begins with {}", magic.escape_ascii())
            }
            FrameError::Version(theirs) => {
                write!(f, "protocol version {theirs}, where {PROTOCOL_VERSION} is spoken")
            }
            FrameError::Unreadable(why) => write!(f, "an unreadable handshake: {why}"),
        }
    }
}

impl std::error::Error for FrameError {}

/// Appends the frame of a [`Hello`].
pub fn encode_hello(hello: &Hello, out: &mut Vec<u8>) {
    encode_opening(HELLO, hello, out);
}

/// Appends the frame of a [`Welcome`].
pub fn encode_welcome(welcome: &Welcome, out: &mut Vec<u8>) {
    encode_opening(WELCOME, welcome, out);
}

/// Appends the frame of a refusal. A very long reason is cut.
pub fn encode_refuse(reason: &str, out: &mut Vec<u8>) {
    encode_opening(REFUSE, &cut(reason, REASON_BYTES_MAX), out);
}

/// The beginning of a text, at most `bytes_max` long.
pub(crate) fn cut(text: &str, bytes_max: usize) -> &str {
    let mut end = bytes_max.min(text.len());
    while !text.is_char_boundary(end) {
        end -= 1;
    }
    &text[..end]
}

fn encode_opening<T: Serialize>(kind: u8, what: &T, out: &mut Vec<u8>) {
    let start = out.len();
    out.put_u32_le(0);
    out.put_u8(kind);
    out.put_slice(&MAGIC);
    out.put_u16_le(PROTOCOL_VERSION);
    rmp_serde::encode::write(out, what).expect("plain data always encodes into memory");
    let length = (out.len() - start - LENGTH_BYTES) as u32;
    out[start..start + LENGTH_BYTES].copy_from_slice(&length.to_le_bytes());
}

/// The length that a parcel's frame announces.
pub fn parcel_length(parcel: &Parcel) -> usize {
    PARCEL_HEADER_BYTES + parcel.body.len()
}

/// Appends the frame of a parcel, whose [`parcel_length`] the caller has checked against its
/// bound.
pub fn encode_parcel(parcel: &Parcel, out: &mut Vec<u8>) {
    let mut header = [0; PARCEL_OVERHEAD];
    let mut rest = &mut header[..];
    rest.put_u32_le(parcel_length(parcel) as u32);
    rest.put_u8(PARCEL);
    rest.put_u8(match parcel.class {
        Class::Request => 0,
        Class::Answer => 1,
    });
    put_name(parcel.from, &mut rest);
    put_name(parcel.to, &mut rest);
    out.reserve(header.len() + parcel.body.len());
    out.extend_from_slice(&header);
    out.extend_from_slice(&parcel.body);
}

fn put_name(name: Name, out: &mut &mut [u8]) {
    out.put_u8(role_number(name.role));
    out.put_u32_le(name.group.0);
    out.put_u32_le(name.node.0);
}

/// A role's number on the wire. It never changes; a new role gets a new one.
fn role_number(role: Role) -> u8 {
    match role {
        Role::Acceptor => 1,
        Role::Proposer => 2,
        Role::Learner => 3,
        Role::Rsm => 4,
        Role::KvServer => 5,
        Role::Clerk => 6,
        Role::Gateway => 7,
        Role::Journal => 8,
        Role::Files => 9,
        Role::Cluster => 10,
        Role::Outside => 11,
        Role::Raft => 12,
        Role::Courier => 13,
        Role::Mover => 14,
        Role::ShardMaster => 15,
        Role::Steward => 16,
    }
}

fn role_of(number: u8) -> Result<Role, FrameError> {
    Ok(match number {
        1 => Role::Acceptor,
        2 => Role::Proposer,
        3 => Role::Learner,
        4 => Role::Rsm,
        5 => Role::KvServer,
        6 => Role::Clerk,
        7 => Role::Gateway,
        8 => Role::Journal,
        9 => Role::Files,
        10 => Role::Cluster,
        11 => Role::Outside,
        12 => Role::Raft,
        13 => Role::Courier,
        14 => Role::Mover,
        15 => Role::ShardMaster,
        16 => Role::Steward,
        _ => return Err(FrameError::UnknownRole(number)),
    })
}

/// The length announced by the first bytes of a frame, once they are there and if it is allowed.
fn announced(bytes: &[u8], max: usize) -> Result<Option<usize>, FrameError> {
    let Some(length) = bytes.first_chunk() else { return Ok(None) };
    let announced = u32::from_le_bytes(*length) as usize;
    match announced {
        _ if announced > max => Err(FrameError::TooLong { announced, max }),
        0 => Err(FrameError::Truncated),
        _ => Ok(Some(announced)),
    }
}

/// Reads the body of a frame.
pub fn decode_body(body: &[u8]) -> Result<Frame<'_>, FrameError> {
    match body.first() {
        None => Err(FrameError::Truncated),
        Some(&HELLO) => Ok(Frame::Hello(decode_opening(body, true)?)),
        Some(&WELCOME) => Ok(Frame::Welcome(decode_opening(body, true)?)),
        Some(&REFUSE) => Ok(Frame::Refuse { reason: decode_opening(body, false)? }),
        Some(&PARCEL) => decode_parcel(body),
        Some(&other) => Err(FrameError::UnknownKind(other)),
    }
}

fn decode_opening<T: DeserializeOwned>(body: &[u8], of_version: bool) -> Result<T, FrameError> {
    let Some((mut header, rest)) = body.split_at_checked(OPENING_HEADER_BYTES) else {
        return Err(FrameError::Truncated);
    };
    header.advance(1);
    let mut magic = [0; MAGIC.len()];
    header.copy_to_slice(&mut magic);
    if magic != MAGIC {
        return Err(FrameError::Magic(magic));
    }
    let version = header.get_u16_le();
    if of_version && version != PROTOCOL_VERSION {
        return Err(FrameError::Version(version));
    }
    let mut unread = rest;
    let mut reader = rmp_serde::Deserializer::new(&mut unread);
    let read = T::deserialize(&mut reader).map_err(|e| FrameError::Unreadable(e.to_string()))?;
    if !unread.is_empty() {
        return Err(FrameError::Unreadable(format!("{} bytes too many", unread.len())));
    }
    Ok(read)
}

fn decode_parcel(body: &[u8]) -> Result<Frame<'_>, FrameError> {
    let Some((mut header, body)) = body.split_at_checked(PARCEL_HEADER_BYTES) else {
        return Err(FrameError::Truncated);
    };
    header.advance(1);
    let class = match header.get_u8() {
        0 => Class::Request,
        1 => Class::Answer,
        other => return Err(FrameError::UnknownClass(other)),
    };
    let (from, to) = (get_name(&mut header)?, get_name(&mut header)?);
    Ok(Frame::Parcel { from, to, class, body })
}

fn get_name(header: &mut &[u8]) -> Result<Name, FrameError> {
    let role = role_of(header.get_u8())?;
    let group = GroupId(header.get_u32_le());
    Ok(Name::new(NodeId(header.get_u32_le()), group, role))
}

/// Bytes of a connection, as they come, and the frames in them.
pub struct Decoder {
    bytes: BytesMut,
    /// How many bytes at the front belong to the frame that was given out last.
    taken: usize,
    body_bytes_max: usize,
}

impl Decoder {
    /// A decoder that refuses bodies longer than `body_bytes_max`.
    pub fn new(body_bytes_max: usize) -> Self {
        Decoder { bytes: BytesMut::new(), taken: 0, body_bytes_max }
    }

    /// From now on, bodies of up to `body_bytes_max` are taken.
    pub fn allow(&mut self, body_bytes_max: usize) {
        self.body_bytes_max = body_bytes_max;
    }

    /// Room for the next read, never empty. Bounded, whatever is announced (F3). To be called when
    /// [`Decoder::next_frame`] has answered `None`.
    pub fn room(&mut self) -> Limit<&mut BytesMut> {
        self.drop_taken();
        if self.bytes.is_empty() && self.bytes.capacity() > 4 * READ_BYTES_MAX {
            self.bytes = BytesMut::new();
        }
        // What is held is less than one whole frame.
        let missing = (LENGTH_BYTES + self.body_bytes_max).saturating_sub(self.bytes.len());
        let room = missing.clamp(1, READ_BYTES_MAX);
        self.bytes.reserve(room);
        (&mut self.bytes).limit(room)
    }

    /// The next whole frame, if it is there.
    pub fn next_frame(&mut self) -> Result<Option<Frame<'_>>, FrameError> {
        self.drop_taken();
        let Some(length) = announced(&self.bytes, self.body_bytes_max)? else { return Ok(None) };
        let end = LENGTH_BYTES + length;
        if self.bytes.len() < end {
            return Ok(None);
        }
        self.taken = end;
        decode_body(&self.bytes[LENGTH_BYTES..end]).map(Some)
    }

    /// How many bytes wait for the rest of their frame.
    pub fn held(&self) -> usize {
        self.bytes.len() - self.taken
    }

    fn drop_taken(&mut self) {
        self.bytes.advance(self.taken);
        self.taken = 0;
    }
}
