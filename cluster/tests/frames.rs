//! Frames: what is written reads back, whatever the cuts; what is not a frame is refused, at no
//! cost.

use bytes::{BufMut, Bytes};
use quorate_cluster::frame::{
    Decoder, FRAME_BYTES_MAX, Frame, FrameError, HELLO_BYTES_MAX, Hello, MAGIC, PARCEL_OVERHEAD,
    PROTOCOL_VERSION, Welcome, decode_body, encode_hello, encode_parcel, encode_refuse,
    encode_welcome, parcel_length,
};
use quorate_protocol::{GroupId, Incarnation, Member, Name, NodeId, Role};
use quorate_stage::{Chance, Class, Parcel};

const ROLES: [Role; 11] = [
    Role::Acceptor,
    Role::Proposer,
    Role::Learner,
    Role::Rsm,
    Role::KvServer,
    Role::Clerk,
    Role::Gateway,
    Role::Journal,
    Role::Files,
    Role::Cluster,
    Role::Outside,
];

fn member(node: u32) -> Member {
    Member { node: NodeId(node), incarnation: Incarnation(u64::MAX - u64::from(node)) }
}

fn hello() -> Hello {
    Hello { cluster_id: "alpha".into(), from: member(1), founder: true, to: NodeId(2) }
}

fn parcel(role: Role, class: Class, body: &[u8]) -> Parcel {
    let from = Name::new(NodeId(u32::MAX), GroupId(7), role);
    let to = Name::new(NodeId(2), GroupId(u32::MAX), Role::Learner);
    Parcel { from, to, class, kind: "Test", body: Bytes::copy_from_slice(body) }
}

/// A frame in words that can be kept.
fn words(frame: &Frame<'_>) -> String {
    format!("{frame:?}")
}

fn feed(decoder: &mut Decoder, mut bytes: &[u8]) -> Result<Vec<String>, FrameError> {
    let mut frames = vec![];
    while !bytes.is_empty() {
        let mut room = decoder.room();
        let count = bytes.len().min(room.remaining_mut());
        room.put_slice(&bytes[..count]);
        bytes = &bytes[count..];
        while let Some(frame) = decoder.next_frame()? {
            frames.push(words(&frame));
        }
    }
    Ok(frames)
}

/// One frame of each kind, with what they should read back as.
fn samples() -> (Vec<u8>, Vec<String>) {
    let mut bytes = vec![];
    let mut expected = vec![];
    encode_hello(&hello(), &mut bytes);
    expected.push(words(&Frame::Hello(hello())));
    let welcome = Welcome { cluster_id: "alpha".into(), from: member(2), founder: true };
    encode_welcome(&welcome, &mut bytes);
    expected.push(words(&Frame::Welcome(welcome)));
    encode_refuse("no", &mut bytes);
    expected.push(words(&Frame::Refuse { reason: "no".into() }));
    for (at, role) in ROLES.into_iter().enumerate() {
        let class = if at % 2 == 0 { Class::Request } else { Class::Answer };
        let parcel = parcel(role, class, &vec![at as u8; at * 7]);
        let before = bytes.len();
        encode_parcel(&parcel, &mut bytes);
        assert_eq!(bytes.len() - before, PARCEL_OVERHEAD + parcel.body.len());
        let Parcel { from, to, class, ref body, .. } = parcel;
        expected.push(words(&Frame::Parcel { from, to, class, body }));
    }
    (bytes, expected)
}

#[test]
fn frames_read_back_at_every_split() {
    let (bytes, expected) = samples();
    for split in 0..=bytes.len() {
        let mut decoder = Decoder::new(HELLO_BYTES_MAX);
        let mut frames = feed(&mut decoder, &bytes[..split]).unwrap();
        frames.extend(feed(&mut decoder, &bytes[split..]).unwrap());
        assert_eq!(frames, expected, "split at {split}");
        assert_eq!(decoder.held(), 0);
    }
}

#[test]
fn frames_read_back_in_random_pieces() {
    for seed in 0..200 {
        let mut chance = Chance::new(seed);
        let (mut bytes, mut expected) = (vec![], vec![]);
        for _ in 0..20 {
            let length = chance.below(3000) as usize;
            let body: Vec<u8> = (0..length).map(|_| chance.number() as u8).collect();
            let role = ROLES[chance.below(ROLES.len() as u64) as usize];
            let parcel = parcel(role, Class::Answer, &body);
            encode_parcel(&parcel, &mut bytes);
            let Parcel { from, to, class, ref body, .. } = parcel;
            expected.push(words(&Frame::Parcel { from, to, class, body }));
        }
        let mut decoder = Decoder::new(HELLO_BYTES_MAX);
        let (mut frames, mut rest) = (vec![], &bytes[..]);
        while !rest.is_empty() {
            let (piece, next) = rest.split_at((1 + chance.below(5000) as usize).min(rest.len()));
            frames.extend(feed(&mut decoder, piece).unwrap());
            rest = next;
        }
        assert_eq!(frames, expected, "seed {seed}");
    }
}

#[test]
fn a_large_frame_reads_back_and_its_room_is_given_up() {
    let parcel = parcel(Role::Rsm, Class::Request, &vec![7; 5 << 20]);
    let mut bytes = vec![];
    encode_parcel(&parcel, &mut bytes);
    let mut decoder = Decoder::new(FRAME_BYTES_MAX);
    assert_eq!(feed(&mut decoder, &bytes).unwrap().len(), 1);
    assert!(decoder.room().get_ref().capacity() < 1 << 20);
}

#[test]
fn a_length_beyond_the_bound_is_refused_and_costs_nothing() {
    for (announced, max) in [
        (u32::MAX, FRAME_BYTES_MAX),
        (FRAME_BYTES_MAX as u32 + 1, FRAME_BYTES_MAX),
        (HELLO_BYTES_MAX as u32 + 1, HELLO_BYTES_MAX),
        (101, 100),
    ] {
        let mut decoder = Decoder::new(max);
        let error = feed(&mut decoder, &announced.to_le_bytes()).unwrap_err();
        assert_eq!(error, FrameError::TooLong { announced: announced as usize, max });
        assert!(error.to_string().contains(&announced.to_string()));
        assert!(error.to_string().contains(&max.to_string()));
        assert!(decoder.room().get_ref().capacity() <= 1 << 20);
    }
    // At the bound it is only waited for, and no more room is made than is read at once.
    let mut decoder = Decoder::new(FRAME_BYTES_MAX);
    assert_eq!(feed(&mut decoder, &(FRAME_BYTES_MAX as u32).to_le_bytes()), Ok(vec![]));
    assert!(decoder.room().get_ref().capacity() <= 1 << 20);
}

#[test]
fn what_waits_for_a_frame_is_bounded() {
    let mut decoder = Decoder::new(HELLO_BYTES_MAX);
    let mut bytes = (HELLO_BYTES_MAX as u32).to_le_bytes().to_vec();
    bytes.extend([PARCEL_KIND; 100]);
    assert_eq!(feed(&mut decoder, &bytes), Ok(vec![]));
    assert_eq!(decoder.held(), bytes.len());
    assert_eq!(decoder.room().remaining_mut(), HELLO_BYTES_MAX + 4 - bytes.len());
}

const PARCEL_KIND: u8 = 4;

#[test]
fn truncated_frames_are_refused_at_every_length() {
    let (bytes, _) = samples();
    let mut rest = &bytes[..];
    while !rest.is_empty() {
        let length = u32::from_le_bytes(*rest.first_chunk().unwrap()) as usize;
        let (body, next) = rest[4..].split_at(length);
        // A parcel's message has no length of its own: only its header can be cut.
        let whole = if body[0] == PARCEL_KIND { PARCEL_OVERHEAD - 4 } else { length };
        for end in 0..whole {
            assert!(decode_body(&body[..end]).is_err(), "{body:?} up to {end}");
        }
        rest = next;
    }
    let mut decoder = Decoder::new(100);
    assert_eq!(feed(&mut decoder, &[0; 4]), Err(FrameError::Truncated));
}

fn opening(kind: u8, magic: [u8; 4], version: u16, rest: &[u8]) -> Vec<u8> {
    let mut body = vec![kind];
    body.put_slice(&magic);
    body.put_u16_le(version);
    body.put_slice(rest);
    body
}

#[test]
fn what_is_not_a_frame_is_refused_by_its_name() {
    for kind in (0..=255).filter(|kind| !(1..=4).contains(kind)) {
        assert_eq!(decode_body(&[kind, 1, 2, 3]), Err(FrameError::UnknownKind(kind)));
    }
    let foreign = opening(1, *b"HTTP", PROTOCOL_VERSION, &[]);
    assert_eq!(decode_body(&foreign), Err(FrameError::Magic(*b"HTTP")));
    for version in [0, PROTOCOL_VERSION + 1, u16::MAX] {
        for kind in [1, 2] {
            let newer = opening(kind, MAGIC, version, b"whatever that version says");
            assert_eq!(decode_body(&newer), Err(FrameError::Version(version)));
        }
        // A refusal can be read in every version.
        let refuse = opening(3, MAGIC, version, b"\xa2no");
        assert_eq!(decode_body(&refuse), Ok(Frame::Refuse { reason: "no".into() }));
    }
    let long = opening(3, MAGIC, PROTOCOL_VERSION, b"\xa2no!");
    assert_eq!(decode_body(&long), Err(FrameError::Unreadable("1 bytes too many".into())));
    for hostile in [&b"\xdd\xff\xff\xff\xff"[..], b"\xdb\xff\xff\xff\xff", b"\xc1", b""] {
        for kind in [1, 2, 3] {
            let bytes = opening(kind, MAGIC, PROTOCOL_VERSION, hostile);
            assert!(matches!(decode_body(&bytes), Err(FrameError::Unreadable(_))), "{bytes:?}");
        }
    }
    let mut bytes = vec![];
    encode_parcel(&parcel(Role::Rsm, Class::Request, b"x"), &mut bytes);
    let with = |at: usize, value: u8| {
        let mut body = bytes[4..].to_vec();
        body[at] = value;
        decode_body(&body).map(|_| ())
    };
    assert_eq!(with(1, 2), Err(FrameError::UnknownClass(2)));
    assert_eq!(with(2, 0), Err(FrameError::UnknownRole(0)));
    assert_eq!(with(11, 200), Err(FrameError::UnknownRole(200)));
}

#[test]
fn garbage_never_panics_and_never_makes_room_for_more_than_the_bound() {
    for seed in 0..2000 {
        let mut chance = Chance::new(seed);
        let mut bytes: Vec<u8> = (0..chance.below(200)).map(|_| chance.number() as u8).collect();
        if chance.permille(500) && bytes.len() > 6 {
            // A plausible length and kind, so that the rest is looked at.
            let length = chance.below(bytes.len() as u64) as u32;
            bytes[..4].copy_from_slice(&length.to_le_bytes());
            bytes[4] = chance.below(5) as u8;
        }
        let mut decoder = Decoder::new(HELLO_BYTES_MAX);
        let _ = feed(&mut decoder, &bytes);
        assert!(decoder.room().get_ref().capacity() <= 4 * HELLO_BYTES_MAX);
    }
}

#[test]
fn a_very_long_reason_is_cut_between_letters() {
    let mut bytes = vec![];
    encode_refuse(&"ü".repeat(10_000), &mut bytes);
    let mut decoder = Decoder::new(HELLO_BYTES_MAX);
    let frames = feed(&mut decoder, &bytes).unwrap();
    assert!(frames[0].contains("üüü"));
}

#[test]
fn the_length_of_a_parcel_is_what_its_frame_announces() {
    let parcel = parcel(Role::Clerk, Class::Request, &[1; 300]);
    let mut bytes = vec![];
    encode_parcel(&parcel, &mut bytes);
    assert_eq!(bytes[..4], (parcel_length(&parcel) as u32).to_le_bytes());
    assert_eq!(bytes.len(), 4 + parcel_length(&parcel));
}
