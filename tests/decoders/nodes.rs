//! What nodes tell each other: frames and handshakes, and the messages in them.

use std::fmt::Debug;

use bytes::{BufMut, Bytes};
use quorate_acceptor::{
    Answer, Ballot, Message as ToAcceptor, Progress, Record, Round, Slot, Vote,
};
use quorate_clerk::Message as ToClerk;
use quorate_cluster::frame::{self, FRAME_BYTES_MAX, Frame, FrameError, Hello, Welcome};
use quorate_courier::{Message as ToCourier, Part};
use quorate_kvserver::{
    Condition, KvError, Message as ToKvServer, Op, Reply, Served, Version, Versioned,
};
use quorate_learner::{Message as ToLearner, Notice};
use quorate_proposer::{Message as ToProposer, Wish};
use quorate_protocol::{
    Change, Configuration, GroupId, Incarnation, Life, Member, Name, NodeId, Role,
    log::{Index, Position, Proposal, ProposalId},
};
use quorate_raft::{
    Appeal, Entry, Match, Message as ToRaft, Payload, Place, Record as RaftRecord, Term,
};
use quorate_rsm::{Outcome, Request};
use quorate_stage::{Class, Parcel};
use serde::{Serialize, de::DeserializeOwned};

use crate::damage::{Bound, Target};

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

pub(super) fn frames_and_handshakes() -> Target {
    let name = |node, role| Name::new(NodeId(node), GroupId(1), role);
    let parcel = Frame::Parcel {
        from: name(2, Role::Proposer),
        to: name(1, Role::Acceptor),
        class: Class::Answer,
        body: b"a message",
    };
    let hello = Hello { cluster_id: "test".into(), from: member(), founder: true, to: NodeId(1) };
    let welcome = Welcome { cluster_id: "test".into(), from: member(), founder: true };
    let refuse = Frame::Refuse { reason: "another cluster".into() };
    let mut samples: Vec<Vec<u8>> = [Frame::Hello(hello), Frame::Welcome(welcome), refuse, parcel]
        .iter()
        .map(frame_encoded)
        .collect();
    samples.push(samples.concat());
    Target::new(samples, &[b"QRT1"], Bound { base: 1 << 20, per_byte: 100 }, |input, chance| {
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
    })
}

/// Decodes as the door of a mailbox does.
fn message<M: DeserializeOwned>(bytes: &[u8]) -> Option<M> {
    M::deserialize(&mut rmp_serde::Deserializer::from_read_ref(bytes)).ok()
}

fn encoded<M: Serialize>(message: &M) -> Vec<u8> {
    rmp_serde::to_vec(message).expect("plain data always encodes")
}

fn messages<M: Serialize + DeserializeOwned + Debug + 'static>(samples: Vec<M>) -> Target {
    let bytes: Vec<Vec<u8>> = samples.iter().map(encoded).collect();
    for (sample, bytes) in samples.iter().zip(&bytes) {
        let again: M = message(bytes).expect("its own encoding");
        assert_eq!(format!("{again:?}"), format!("{sample:?}"));
    }
    // Lists, maps and byte strings that announce a lot.
    let words: &[&[u8]] = &[
        &[0xdd, 0xff, 0xff, 0xff, 0xff],
        &[0xdf, 0xff, 0xff, 0xff, 0xff],
        &[0xc6, 0xff, 0xff, 0xff, 0xff],
        &[0xdc, 0xff, 0xff],
        &[0x91; 40],
    ];
    Target::new(bytes, words, Bound::SERDE, |input, _| {
        let Some(found) = message::<M>(input) else { return false };
        let again: M = message(&encoded(&found)).expect("what was accepted is accepted again");
        assert_eq!(format!("{again:?}"), format!("{found:?}"));
        true
    })
}

fn entries() -> Vec<(Slot, Option<Proposal>)> {
    vec![(Slot(1), Some(proposal(1))), (Slot(2), None), (Slot(u64::MAX), Some(proposal(3)))]
}

fn progress() -> Progress {
    Progress { through: Round(3), below: Slot(9) }
}

pub(super) fn acceptors() -> Target {
    messages(vec![
        ToAcceptor::Prepare { ballot: ballot(), from: Slot(1) },
        ToAcceptor::Accept {
            ballot: ballot(),
            round: Round(4),
            entries: entries(),
            progress: progress(),
        },
        ToAcceptor::Confirm { ballot: ballot(), id: 300 },
    ])
}

pub(super) fn proposers() -> Target {
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
            change: Some(Change::Replace(member())),
            appeal: Some(ballot()),
        },
        ToProposer::Redirect { ballot: ballot() },
        ToProposer::Barrier { id, ballot: ballot(), progress: progress(), from: Slot(5) },
    ])
}

pub(super) fn learners() -> Target {
    messages(vec![
        ToLearner::Announce { ballot: ballot(), progress: progress() },
        ToLearner::Inform { ballot: ballot(), progress: progress() },
        ToLearner::Learn { from: Slot(1), below: Slot(1000) },
        ToLearner::Taught {
            from: Slot(1),
            entries: entries(),
            forgotten: Slot(0),
            before: Some(position()),
        },
        ToLearner::Done { below: Slot(3) },
        ToLearner::DoneToo { heard: Slot(3), below: Slot(4) },
    ])
}

pub(super) fn position() -> Position {
    let life = Life { number: 2, incarnation: Incarnation(0xfeed) };
    let configuration = Configuration {
        lives: [(NodeId(4), life)].into(),
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

pub(super) fn rafts() -> Target {
    let conflict = Match::Conflict {
        prev_log_index: Place(7),
        conflict_term: Some(Term(2)),
        conflict_index: Place(3),
    };
    let appeal = Appeal {
        term: Term(4),
        round: 9,
        result: conflict,
        wishes: vec![proposal(1)],
        barrier: Some(proposal(4).id),
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
        ToRaft::Appeal(appeal.clone()),
        ToRaft::PassOn { of: NodeId(3), appeal },
    ])
}

pub(super) fn couriers() -> Target {
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
    ])
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

pub(super) fn kvservers() -> Target {
    let request =
        |command| Request { client_id: 1 << 60, serial: 9, acked_below: 8, after: 7, command };
    messages(vec![ToKvServer::Serve {
        requests: ops()
            .into_iter()
            .map(request)
            .map(|request| (request.serial << 16, request))
            .collect(),
    }])
}

pub(super) fn replies() -> Vec<Reply> {
    let value = Versioned { value: Bytes::from_static(b"v"), version: Version(1) };
    vec![
        Reply::Value(Some(value)),
        Reply::Values(vec![None, Some(Bytes::new())]),
        Reply::Stored { version: Version(2), old: None },
        Reply::NotStored { old: Some(Bytes::from_static(b"o")) },
        Reply::Integer(-1),
        Reply::Error(KvError::Version { stored: Version(7) }),
    ]
}

pub(super) fn clerks() -> Target {
    let answers = replies().into_iter().map(Outcome::Done);
    let answers = answers.chain([Outcome::Forgotten, Outcome::Busy]);
    let answers = answers.enumerate().map(|(serial, outcome)| (serial as u64, outcome)).collect();
    messages(vec![ToClerk::Served(Served { client_id: 7, answers })])
}

// What acceptors, Raft peers and the doors of a node have written, which is encoded likewise.

pub(super) fn votes() -> Target {
    messages(vec![
        Record::Standing {
            promised: ballot(),
            marks: vec![(ballot(), Round(8))],
            forgotten: Slot(2),
            intact: true,
        },
        Record::Promised(ballot()),
        Record::Voted { ballot: ballot(), round: Round(1), entries: entries(), through: Round(0) },
    ])
}

pub(super) fn terms() -> Target {
    messages(vec![
        RaftRecord::Standing { term: Term(3), voted_for: Some(NodeId(1)), base: position() },
        RaftRecord::Voted { term: Term(4), voted_for: None },
        RaftRecord::Appended { from: Place(8), entries: raft_entries() },
        RaftRecord::Installed { base: position() },
    ])
}
