//! Every decoder that meets bytes from outside, on damaged input.
//!
//! No input makes one panic or take memory out of proportion; how bytes are cut into pieces makes no
//! difference; what is accepted can be encoded, and is accepted again as the same. The inputs are
//! drawn from seeds: `QUORATE_FUZZ=1000000` tries that many of each target, `QUORATE_FUZZ_SEED=n`
//! the one that has failed.

mod damage;

use std::{
    fmt::Debug,
    path::{Path, PathBuf},
    sync::Arc,
};

use bytes::{BufMut, Bytes, BytesMut};
use damage::{Bound, Chance, fuzz, fuzz_with};
use quorate_acceptor::{
    Answer, Ballot, Message as ToAcceptor, Progress, Record, Round, Slot, Vote,
};
use quorate_clerk::Message as ToClerk;
use quorate_cluster::frame::{self, FRAME_BYTES_MAX, Frame, FrameError, Hello, Welcome};
use quorate_courier::{Message as ToCourier, Part};
use quorate_gateway::resp::{
    Decoder, Protocol, ProtocolError, Value,
    client::{AnswerDecoder, AnswerError, encode_command},
    encode,
};
use quorate_history::{Budget, Input, Output, Recorder, check_within};
use quorate_kvserver::{
    Condition, KvError, Message as ToKvServer, Op, Reply, Restore, Served, Store, Version,
    Versioned,
};
use quorate_learner::{Message as ToLearner, Notice};
use quorate_node::config::{Engine, NodeConfig, Peer, Reads};
use quorate_persistence::{
    AtomicReader, DataDir, Disk, Expected, Identity, Journal, JournalError, JournalOptions,
    SimDisk, read_atomic, write_atomic,
};
use quorate_proposer::{Message as ToProposer, Wish};
use quorate_protocol::{
    Configuration, GroupId, Incarnation, Member, Name, NodeId, Role,
    log::{Index, Position, Proposal, ProposalId},
};
use quorate_raft::{Entry, Match, Message as ToRaft, Payload, Place, Record as RaftRecord, Term};
use quorate_rsm::{Outcome, Request};
use quorate_stage::{Class, Parcel};
use serde::{Serialize, de::DeserializeOwned};

/// For what is read into lists of small things: a few words for each byte.
const SMALL: Bound = Bound { base: 256 << 10, per_byte: 100 };

/// serde makes room for up to a mebibyte of a list before it has seen more than its length, and a
/// list may lie in a list.
const SERDE: Bound = Bound { base: 4 << 20, per_byte: 200 };

// --- The fuzzer itself ---

/// Reads a length and as many bytes, as a decoder must not.
fn gullible(input: &[u8]) -> Option<Vec<u8>> {
    let (length, rest) = input.split_first_chunk::<4>()?;
    let length = u32::from_le_bytes(*length) as usize & 0xfff_ffff;
    let mut found = Vec::with_capacity(length);
    found.extend_from_slice(rest.get(..length)?);
    Some(found)
}

fn what_is_found(target: &damage::Target<'_>) -> String {
    let sample = b"\x05\0\0\0hello".to_vec();
    let fuzzed = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
        fuzz_with(0..1000, &[sample], &[], SMALL, target);
    }));
    damage::words_of(&*fuzzed.expect_err("the planted error is found"))
}

#[test]
fn a_decoder_that_believes_a_length_is_found() {
    let found = what_is_found(&|input, _| gullible(input).is_some());
    assert!(found.contains("of memory"), "{found}");
    let found = what_is_found(&|input, _| {
        let length = usize::from(*input.first().unwrap_or(&0));
        input.get(4..).is_some_and(|rest| rest[..length].len() == length)
    });
    assert!(found.starts_with("QUORATE_FUZZ_SEED=") && found.contains("out of range"), "{found}");
}

// --- The Redis protocol ---

fn requests(pieces: &[&[u8]]) -> (Vec<Vec<Bytes>>, Option<ProtocolError>) {
    let (mut decoder, mut found) = (Decoder::new(), vec![]);
    for piece in pieces {
        decoder.buffer().put_slice(piece);
        loop {
            match decoder.decode() {
                Ok(Some(request)) => found.push(request),
                Ok(None) => break,
                Err(error) => {
                    assert_eq!(decoder.decode(), Err(error), "an error is the end");
                    return (found, Some(error));
                }
            }
        }
    }
    (found, None)
}

#[test]
fn requests_of_the_redis_protocol() {
    let command = |args: &[&[u8]]| {
        let mut out = BytesMut::new();
        encode_command(args, &mut out);
        out.to_vec()
    };
    let samples = [
        command(&[b"SET", b"key", b"value"]),
        [command(&[b"GET", b"k"]), command(&[b"PING"]), b"PING\r\n".to_vec()].concat(),
        command(&[b"MSET", b"a", b"", b"\x00\xff\r\n", &[7; 300]]),
        b"set \"a\\x00b\" 'it\\'s'\r\n".to_vec(),
        b"*0\r\n*-1\r\n\r\n*1\r\n$4\r\nPING\r\n".to_vec(),
    ];
    let words: [&[u8]; 6] = [b"\r\n", b"*", b"$", b"$-1\r\n", b"*1048577\r\n", b"\""];
    fuzz(&samples, &words, SMALL, &|input, chance| {
        let (whole, error) = requests(&[input]);
        let in_pieces = requests(&chance.pieces(input));
        assert_eq!(in_pieces, (whole.clone(), error), "pieces make a difference");
        for request in &whole {
            assert!(!request.is_empty(), "a request without a name");
            let mut again = BytesMut::new();
            encode_command(request, &mut again);
            assert_eq!(requests(&[&again]), (vec![request.clone()], None));
        }
        error.is_none() && !whole.is_empty()
    });
}

fn answers(pieces: &[&[u8]]) -> (Vec<Value>, Option<AnswerError>) {
    let (mut decoder, mut found) = (AnswerDecoder::new(), vec![]);
    for piece in pieces {
        decoder.buffer().put_slice(piece);
        loop {
            match decoder.decode() {
                Ok(Some(answer)) => found.push(answer),
                Ok(None) => break,
                Err(error) => return (found, Some(error)),
            }
        }
    }
    (found, None)
}

fn encoded(value: &Value, protocol: Protocol) -> BytesMut {
    let mut out = BytesMut::new();
    encode(value, protocol, &mut out);
    out
}

#[test]
fn answers_of_the_redis_protocol() {
    let values = [
        Value::OK,
        Value::error("ERR no such key"),
        Value::Integer(-42),
        Value::bulk("some\r\nbytes"),
        Value::Verbatim("txt".into()),
        Value::Null,
        Value::NullArray,
        Value::Array(vec![Value::bulk("a"), Value::Array(vec![]), Value::Null]),
        Value::Map(vec![(Value::simple("key"), Value::Set(vec![Value::Boolean(true)]))]),
        Value::Push(vec![Value::Double(-1.5e10), Value::Boolean(false)]),
    ];
    let by = |protocol: Protocol| {
        values.iter().map(|value| encoded(value, protocol).to_vec()).collect::<Vec<_>>()
    };
    let mut samples = [by(Protocol::Resp2), by(Protocol::Resp3)].concat();
    samples.push(by(Protocol::Resp3).concat());
    samples.push(b"|1\r\n+remark\r\n:1\r\n(123456789012345678901234567890\r\n".to_vec());
    samples.push(b"!5\r\nERR x\r\n,inf\r\n,nan\r\n=7\r\ntxt:abc\r\n".to_vec());
    let words: [&[u8]; 6] = [b"\r\n", b"*1\r\n", b"%1\r\n", b"$-1\r\n", b"|1\r\n", b"*4194304\r\n"];
    fuzz(&samples, &words, SMALL, &|input, chance| {
        let (whole, error) = answers(&[input]);
        let in_pieces = answers(&chance.pieces(input));
        // Not a number is not even equal to itself.
        let shown = |found: &(Vec<Value>, Option<AnswerError>)| format!("{found:?}");
        assert_eq!(shown(&in_pieces), shown(&(whole.clone(), error)), "pieces make a difference");
        for value in &whole {
            for protocol in [Protocol::Resp2, Protocol::Resp3] {
                let once = encoded(value, protocol);
                let (again, error) = answers(&[&once]);
                assert_eq!((again.len(), error), (1, None), "one answer is one answer");
                assert_eq!(encoded(&again[0], protocol), once, "and stays the same");
            }
        }
        error.is_none() && !whole.is_empty()
    });
}

// --- Between nodes ---

fn ballot() -> Ballot {
    Ballot::new(7, member())
}

fn member() -> Member {
    Member { node: NodeId(2), incarnation: Incarnation(0xfeed_f00d) }
}

fn proposal(seq: u64) -> Proposal {
    let id = ProposalId { node: NodeId(2), life: u64::MAX, seq };
    Proposal { id, command: Bytes::from_static(b"a command, of which an engine knows nothing") }
}

/// What frames can be told, without the decoder that lends them.
fn frames(pieces: &[&[u8]]) -> (Vec<String>, Vec<Vec<u8>>, Option<FrameError>) {
    let (mut decoder, mut found, mut again) =
        (frame::Decoder::new(FRAME_BYTES_MAX), vec![], vec![]);
    for piece in pieces {
        let mut piece = *piece;
        while !piece.is_empty() {
            let mut room = decoder.room();
            let (now, rest) = piece.split_at(room.remaining_mut().min(piece.len()));
            room.put_slice(now);
            piece = rest;
            loop {
                match decoder.next_frame() {
                    Ok(Some(frame)) => {
                        found.push(format!("{frame:?}"));
                        again.push(frame_encoded(&frame));
                    }
                    Ok(None) => break,
                    Err(error) => return (found, again, Some(error)),
                }
            }
        }
    }
    (found, again, None)
}

fn frame_encoded(frame: &Frame<'_>) -> Vec<u8> {
    let mut out = vec![];
    match frame {
        Frame::Hello(hello) => frame::encode_hello(hello, &mut out),
        Frame::Welcome(welcome) => frame::encode_welcome(welcome, &mut out),
        Frame::Refuse { reason } => frame::encode_refuse(reason, &mut out),
        Frame::Parcel { from, to, class, body } => {
            let body = Bytes::copy_from_slice(body);
            let parcel = Parcel { from: *from, to: *to, class: *class, kind: "?", body };
            frame::encode_parcel(&parcel, &mut out);
        }
    }
    out
}

#[test]
fn frames_and_handshakes() {
    let name = |node, role| Name::new(NodeId(node), GroupId(1), role);
    let parcel = Frame::Parcel {
        from: name(2, Role::Proposer),
        to: name(1, Role::Acceptor),
        class: Class::Answer,
        body: b"a message",
    };
    let hello = Hello { cluster_id: "test".into(), from: member(), to: NodeId(1) };
    let welcome = Welcome { cluster_id: "test".into(), from: member() };
    let refuse = Frame::Refuse { reason: "another cluster".into() };
    let mut samples: Vec<Vec<u8>> = [Frame::Hello(hello), Frame::Welcome(welcome), refuse, parcel]
        .iter()
        .map(frame_encoded)
        .collect();
    samples.push(samples.concat());
    fuzz(&samples, &[b"QRT1"], Bound { base: 1 << 20, per_byte: 100 }, &|input, chance| {
        let (found, again, error) = frames(&[input]);
        let (in_pieces, _, error_then) = frames(&chance.pieces(input));
        assert_eq!((&in_pieces, error_then), (&found, error.clone()), "pieces make a difference");
        for (frame, again) in found.iter().zip(again) {
            let (then, _, error) = frames(&[&again]);
            // A reason is cut when it is written, should it be very long.
            let same = then == [frame.clone()] || (then.len() == 1 && frame.starts_with("Refuse"));
            assert!(same && error.is_none(), "{frame} becomes {then:?}, {error:?}");
        }
        error.is_none() && !found.is_empty()
    });
}

/// Decodes as the door of a mailbox does.
fn message<M: DeserializeOwned>(bytes: &[u8]) -> Option<M> {
    M::deserialize(&mut rmp_serde::Deserializer::from_read_ref(bytes)).ok()
}

fn messages<M: Serialize + DeserializeOwned + Debug>(samples: Vec<M>) {
    let encoded = |message: &M| rmp_serde::to_vec(message).expect("plain data always encodes");
    let bytes: Vec<Vec<u8>> = samples.iter().map(encoded).collect();
    for (sample, bytes) in samples.iter().zip(&bytes) {
        let again: M = message(bytes).expect("its own encoding");
        assert_eq!(format!("{again:?}"), format!("{sample:?}"));
    }
    // Lists, maps and byte strings that announce a lot.
    let words: [&[u8]; 5] = [
        &[0xdd, 0xff, 0xff, 0xff, 0xff],
        &[0xdf, 0xff, 0xff, 0xff, 0xff],
        &[0xc6, 0xff, 0xff, 0xff, 0xff],
        &[0xdc, 0xff, 0xff],
        &[0x91; 40],
    ];
    fuzz(&bytes, &words, SERDE, &|input, _| {
        let Some(found) = message::<M>(input) else { return false };
        let again: M = message(&encoded(&found)).expect("what was accepted is accepted again");
        assert_eq!(format!("{again:?}"), format!("{found:?}"));
        true
    });
}

fn entries() -> Vec<(Slot, Option<Proposal>)> {
    vec![(Slot(1), Some(proposal(1))), (Slot(2), None), (Slot(u64::MAX), Some(proposal(3)))]
}

fn progress() -> Progress {
    Progress { through: Round(3), below: Slot(9) }
}

#[test]
fn messages_to_acceptors() {
    messages(vec![
        ToAcceptor::Prepare { ballot: ballot(), from: Slot(1) },
        ToAcceptor::Accept {
            ballot: ballot(),
            round: Round(4),
            entries: entries(),
            progress: progress(),
        },
        ToAcceptor::Confirm { ballot: ballot(), id: 300 },
    ]);
}

#[test]
fn messages_to_proposers() {
    let vote = |value| Vote { ballot: ballot(), round: Round(2), value };
    let votes = entries().into_iter().map(|(slot, value)| (slot, vote(value))).collect();
    let promise = Answer::Promise {
        ballot: ballot(),
        from: Slot(1),
        below: Some(Slot(70_000)),
        votes,
        forgotten: Slot(0),
    };
    let id = proposal(1).id;
    messages(vec![
        ToProposer::Answer(promise),
        ToProposer::Answer(Answer::Accepted { ballot: ballot(), round: Round(1) }),
        ToProposer::Answer(Answer::Nack { refused: Ballot::NONE, promised: ballot() }),
        ToProposer::Answer(Answer::Confirmed { ballot: ballot(), id: 1 }),
        ToProposer::Notice(Notice::Known { ballot: ballot(), progress: progress() }),
        ToProposer::Forward {
            wishes: vec![Wish { slot: None, proposal: proposal(1) }],
            barrier: Some(id),
        },
        ToProposer::Redirect { ballot: ballot() },
        ToProposer::Barrier { id, ballot: ballot(), progress: progress(), from: Slot(5) },
    ]);
}

#[test]
fn messages_to_learners() {
    messages(vec![
        ToLearner::Announce { ballot: ballot(), progress: progress() },
        ToLearner::Inform { ballot: ballot(), progress: progress() },
        ToLearner::Learn { from: Slot(1), below: Slot(1000) },
        ToLearner::Taught { from: Slot(1), entries: entries(), forgotten: Slot(0) },
        ToLearner::Done { below: Slot(3) },
        ToLearner::DoneToo { heard: Slot(3), below: Slot(4) },
    ]);
}

fn position() -> Position {
    let configuration = Configuration {
        voters: [1, 2, 3].map(NodeId).into(),
        outgoing: [3, 4].map(NodeId).into(),
        learners: [NodeId(9)].into(),
    };
    Position { index: Index(5), place: 7, term: 2, configuration }
}

fn raft_entries() -> Vec<Entry> {
    let configuration = position().configuration;
    [Payload::NoOp, Payload::Command(proposal(2)), Payload::Configuration(configuration)]
        .map(|payload| Entry { term: Term(3), payload })
        .into()
}

#[test]
fn messages_to_raft_peers() {
    let conflict = Match::Conflict {
        prev_log_index: Place(7),
        conflict_term: Some(Term(2)),
        conflict_index: Place(3),
    };
    messages(vec![
        ToRaft::RequestVote {
            term: Term(4),
            last_log_index: Place(7),
            last_log_term: Term(3),
            pre_vote: true,
            transfer: false,
        },
        ToRaft::Vote { term: Term(4), pre_vote: false, granted: true },
        ToRaft::AppendEntries {
            term: Term(4),
            prev_log_index: Place(7),
            prev_log_term: Term(3),
            entries: raft_entries(),
            leader_commit: Place(6),
            round: 1000,
        },
        ToRaft::Appended { term: Term(4), round: 9, result: Match::Through(Place(8)) },
        ToRaft::Appended { term: Term(4), round: 9, result: conflict },
        ToRaft::InstallSnapshot { term: Term(4), position: position(), round: 10 },
        ToRaft::TimeoutNow { term: Term(4) },
        ToRaft::Forward { wishes: vec![proposal(1)], barrier: Some(proposal(4).id) },
        ToRaft::Barrier { id: proposal(4).id, from: Index(7) },
    ]);
}

#[test]
fn messages_to_couriers() {
    let part = Part {
        number: 3,
        index: Index(9),
        offset: 1 << 20,
        total: 3 << 20,
        sum: 0xdead_beef,
        crc: 1,
        bytes: Bytes::from_static(b"a part of a checkpoint"),
    };
    messages(vec![
        ToCourier::Ask { number: 3, index: Index(9), having: Some(Index(8)), offset: 77 },
        ToCourier::Part(part),
        ToCourier::Gone { number: 3 },
    ]);
}

fn ops() -> Vec<Op> {
    let (key, value) = (Bytes::from_static(b"key"), Bytes::from_static(b"value"));
    vec![
        Op::Get { key: key.clone() },
        Op::GetMany { keys: vec![key.clone(), Bytes::new()] },
        Op::Put {
            key: key.clone(),
            value: value.clone(),
            condition: Condition::IfVersion(Version(3)),
            want_old: true,
        },
        Op::Append { key: key.clone(), value },
        Op::Delete { keys: vec![key] },
    ]
}

#[test]
fn messages_to_kvservers_and_clerks() {
    let request = |command| Request { client_id: 1 << 60, serial: 9, acked_below: 8, command };
    messages(vec![ToKvServer::Serve { requests: ops().into_iter().map(request).collect() }]);
    let value = Versioned { value: Bytes::from_static(b"v"), version: Version(1) };
    let replies = [
        Reply::Value(Some(value)),
        Reply::Values(vec![None, Some(Bytes::new())]),
        Reply::Stored { version: Version(2), old: None },
        Reply::NotStored { old: Some(Bytes::from_static(b"o")) },
        Reply::Integer(-1),
        Reply::Error(KvError::Version { stored: Version(7) }),
    ];
    let answers = replies.into_iter().map(Outcome::Done).chain([Outcome::Forgotten, Outcome::Busy]);
    let answers = answers.enumerate().map(|(serial, outcome)| (serial as u64, outcome)).collect();
    messages(vec![ToClerk::Served(Served { client_id: 7, answers })]);
}

// --- The disk ---

#[test]
fn records_of_a_journal_and_pins() {
    messages(vec![
        Record::Standing {
            promised: ballot(),
            marks: vec![(ballot(), Round(8))],
            forgotten: Slot(2),
        },
        Record::Promised(ballot()),
        Record::Voted { ballot: ballot(), round: Round(1), entries: entries(), through: Round(0) },
    ]);
    messages(vec![
        RaftRecord::Standing { term: Term(3), voted_for: Some(NodeId(1)), base: position() },
        RaftRecord::Voted { term: Term(4), voted_for: None },
        RaftRecord::Appended { from: Place(8), entries: raft_entries() },
        RaftRecord::Installed { base: position() },
    ]);
    messages(vec![vec![member(), Member { node: NodeId(1), ..member() }]]);
}

const JOURNAL: &str = "/data/journal";
const OPTIONS: JournalOptions = JournalOptions { segment_bytes: 1024, zero_fill: false, seed: 9 };

fn open(disk: &SimDisk) -> Result<Vec<Bytes>, JournalError> {
    let (_, records) = Journal::open(Arc::new(disk.clone()), Path::new(JOURNAL), OPTIONS)?;
    Ok(records)
}

/// A journal of several segments; its last one is damaged, or its first.
#[test]
fn segments_of_a_journal() {
    let disk = SimDisk::new(1);
    let (mut journal, _) =
        Journal::open(Arc::new(disk.clone()), Path::new(JOURNAL), OPTIONS).unwrap();
    for slot in 1..=12_u64 {
        journal
            .append(format!("record {slot} {}", "x".repeat(20 * slot as usize)).as_bytes(), slot)
            .unwrap();
        journal.commit(b"preamble").unwrap();
    }
    drop(journal);
    let segments: Vec<PathBuf> = disk
        .files()
        .into_iter()
        .filter(|file| file.extension().is_some_and(|end| end == "seg"))
        .collect();
    assert!(segments.len() >= 3, "several segments");
    let written = open(&disk).unwrap();
    for file in [segments.first().unwrap(), segments.last().unwrap()] {
        let sample = disk.peek(file).unwrap();
        fuzz(
            &[sample],
            &[b"QRJS", b"QRJB", b"End."],
            Bound { base: 1 << 20, per_byte: 40 },
            &|input, _| {
                let disk = disk.fork();
                disk.plant(file, input);
                match open(&disk) {
                    Err(JournalError::Corrupt { file: named, .. }) => {
                        assert!(segments.contains(&named), "{} is named", named.display());
                        false
                    }
                    Err(_) => false,
                    Ok(found) => {
                        // Nothing is invented, and nothing that stands after damage is kept.
                        assert!(
                            written.starts_with(&found) || written.ends_with(&found),
                            "{} records of {}",
                            found.len(),
                            written.len()
                        );
                        assert_eq!(open(&disk).unwrap(), found, "opened again it is the same");
                        true
                    }
                }
            },
        );
    }
}

#[test]
fn atomic_files() {
    let path = Path::new("/data/file");
    let contents: [&[u8]; 3] = [b"", b"a few bytes", &[7; 3000]];
    let samples = contents.map(|content| {
        let disk = SimDisk::new(1);
        disk.create_dir_all(Path::new("/data")).unwrap();
        write_atomic(&disk, path, content).unwrap();
        disk.peek(path).unwrap()
    });
    let disk = SimDisk::new(2);
    disk.create_dir_all(Path::new("/data")).unwrap();
    fuzz(&samples, &[b"QRAF"], SMALL, &|input, _| {
        disk.plant(path, input);
        let Ok(found) = read_atomic(&disk, path) else { return false };
        let found = found.expect("the file is there");
        assert!(contents.contains(&&found[..]), "nobody wrote this: {}", found.escape_ascii());
        let mut reader = AtomicReader::open(&disk, path).unwrap().unwrap();
        let mut again = vec![];
        while let Some(chunk) = reader.next_chunk().unwrap() {
            again.extend(chunk);
        }
        assert_eq!(again, found);
        true
    });
}

/// What an identity says is damaged behind a checksum that is right: other code has written it.
#[test]
fn identities_of_data_directories() {
    let identity = Identity { format: 1, cluster_id: "test".into(), node: 2, incarnation: 77 };
    let sample = rmp_serde::to_vec_named(&identity).unwrap();
    let expected = Expected { cluster_id: "test".into(), node: 2, incarnation: 1, initial: false };
    fuzz(&[sample], &[b"format", b"\xa6"], SERDE, &|input, _| {
        let disk = SimDisk::new(1);
        disk.create_dir_all(Path::new("/data")).unwrap();
        write_atomic(&disk, Path::new("/data/identity"), input).unwrap();
        let disk: Arc<dyn Disk> = Arc::new(disk);
        match DataDir::open(&disk, Path::new("/data"), &expected) {
            Ok(dir) => {
                let found = dir.identity();
                assert_eq!((found.cluster_id.as_str(), found.node), ("test", 2));
                true
            }
            Err(_) => false,
        }
    });
}

#[test]
fn snapshots_of_the_machine() {
    let put = |store: &mut Store, key: &[u8], value: &[u8]| {
        let (key, value) = (Bytes::copy_from_slice(key), Bytes::copy_from_slice(value));
        store.apply(&Op::Put { key, value, condition: Condition::Always, want_old: false });
    };
    let mut stores = vec![Store::new(); 3];
    put(&mut stores[1], b"k", b"v");
    for number in 0..20_u32 {
        put(&mut stores[2], format!("key{number}").as_bytes(), &vec![b'v'; number as usize * 9]);
    }
    let encoded =
        |store: &Store| -> Vec<u8> { store.snapshot().encode_chunks().flatten().collect() };
    let samples: Vec<Vec<u8>> = stores.iter().map(encoded).collect();
    // An empty store alone has a table of all hash slots.
    fuzz(&samples, &[b"quorate-kv"], Bound { base: 8 << 20, per_byte: 100 }, &|input, chance| {
        let restored = |pieces: &[&[u8]]| {
            let mut restore = Restore::new();
            pieces.iter().try_for_each(|piece| restore.feed(piece))?;
            restore.finish()
        };
        let whole = restored(&[input]);
        let in_pieces = restored(&chance.pieces(input));
        match (&whole, &in_pieces) {
            (Ok(whole), Ok(in_pieces)) => assert_eq!(whole, in_pieces),
            (whole, in_pieces) => {
                assert_eq!(whole.is_ok(), in_pieces.is_ok(), "pieces make a difference");
            }
        }
        let Ok(store) = whole else { return false };
        assert_eq!(encoded(&store), input, "one store, one encoding");
        true
    });
}

// --- Files that people write ---

#[test]
fn configurations() {
    let peer = |node| Peer {
        node,
        peer: format!("127.0.0.1:{}", 7200 + node),
        resp: format!("127.0.0.1:{}", 7000 + node),
    };
    let address = |port: u16| ([127, 0, 0, 1], port).into();
    let config = NodeConfig {
        cluster_id: "test".into(),
        node: 1,
        dir: "data/n1".into(),
        initial: true,
        engine: Engine::Paxos,
        listen_peer: address(7201),
        listen_resp: address(7001),
        listen_debug: address(7101),
        faults: false,
        reads: Reads::Barrier,
        log_bytes_max: 1 << 20,
        clients_max: 100,
        request_deadline_ms: 1000,
        nodes: (1..=3).map(peer).collect(),
    };
    let sample = config.to_toml().unwrap().into_bytes();
    let words: [&[u8]; 6] = [b"[[nodes]]\n", b"\"", b"'''", b"= [", b"{", b"\n"];
    // A document as a tree, with what it looked like, before it is a configuration.
    let bound = Bound { base: 1 << 20, per_byte: 1000 };
    fuzz(&[sample], &words, bound, &|input, _| {
        let text = String::from_utf8_lossy(input);
        let Ok(config) = toml::from_str::<NodeConfig>(&text) else { return false };
        if config.check().is_err() {
            return false;
        }
        let again: NodeConfig = toml::from_str(&config.to_toml().unwrap()).unwrap();
        assert_eq!(again, config);
        true
    });
}

fn history() -> Vec<u8> {
    let mut recorder = Recorder::new(vec![]);
    let (key, value) = (b"k\xff".as_slice().into(), b"v".as_slice().into());
    let inputs = [
        (Input::Put { value }, Some(Output::Done)),
        (Input::Get, Some(Output::Value { value: b"v".as_slice().into(), version: Some(1) })),
        (Input::Append { value: b"\x00\xfe".as_slice().into() }, Some(Output::Length(3))),
        (Input::Cas { value: b"w".as_slice().into(), version: 2 }, Some(Output::ErrVersion)),
        (Input::Delete, Some(Output::Deleted { present: true })),
        (Input::Get, Some(Output::Absent)),
        (Input::Put { value: b"lost".as_slice().into() }, None),
    ];
    for (at, (input, output)) in inputs.into_iter().enumerate() {
        let (t, op) = (at as u64 * 20, at as u64);
        recorder.invoke(t, 1, op, &key, &input).unwrap();
        match output {
            Some(output) => recorder.ok(t + 10, 1, op, &output).unwrap(),
            None => recorder.unknown(t + 10, 1, op).unwrap(),
        }
    }
    recorder.into_inner()
}

#[test]
fn histories() {
    let words: [&[u8]; 6] =
        [b"null", b"\"ok\"", b"\"fail\"", b"{\"hex\":\"0g\"}", b"\n", b"18446744073709551616"];
    let bound = Bound { base: 4 << 20, per_byte: 300 };
    fuzz(&[history()], &words, bound, &|input, _| {
        let Ok(found) = quorate_history::read(input) else { return false };
        let mut again = vec![];
        quorate_history::write(&found, &mut again).unwrap();
        let again = quorate_history::read(&again[..]).expect("what was accepted");
        assert_eq!(again.ops.len(), found.ops.len());
        // It can be judged, whatever the verdict.
        check_within(&found, Budget { steps: 10_000, configurations: 1_000 });
        true
    });
}

#[test]
fn names_of_actors() {
    let samples = [b"n1/g1/acceptor".to_vec(), b"n4294967295/gateway".to_vec()];
    fuzz(&samples, &[b"/", b"n", b"g0"], SMALL, &|input, _: &mut Chance| {
        let text = String::from_utf8_lossy(input);
        let Ok(name) = text.parse::<Name>() else { return false };
        assert_eq!(name.to_string().parse(), Ok(name));
        true
    });
}
