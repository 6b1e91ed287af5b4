//! Files that a release has written are read for ever, or refused by name.
//!
//! `tests/formats/<kind>-v<N>` was written in format N, by the samples below. Each is read with the code
//! that a node reads it with, and must hold what its sample holds now. What is written now must be the
//! very bytes of the newest one: whoever changes a format without raising its number is told here.
//!
//! After raising a number: `QUORATE_FORMATS=write cargo test --test formats` writes the files that are
//! missing, and never replaces one. They are committed; the older ones stay, for as long as the
//! changelog promises to read them. A record of an engine has no number of its own: an enum that only
//! grows at its end reads what was written before, and anything else raises the journal's.

use std::{
    collections::BTreeMap,
    env, fs,
    path::{Path, PathBuf},
    sync::{Arc, Mutex},
};

use bytes::Bytes;
use quorate_acceptor::{Ballot, Record as Vote, Round, Slot};
use quorate_kvserver::{Command, Condition, Machine, Op, Reply};
use quorate_persistence::{
    DataDir, Disk, Expected, FileError, Journal, JournalError, JournalOptions, LayoutError,
    PINS_FORMAT, Reader, SimDisk, encode_pins, layout::IDENTITY_FORMAT, read_atomic, read_pins,
    write_atomic,
};
use quorate_protocol::{
    Configuration as Members, GroupId, Incarnation, Life, Member, Name, NodeId, Role, encode,
    log::{Index, Position, Proposal, ProposalId},
};
use quorate_raft::{Entry, Payload, Place, Record as Term, Term as Number};
use quorate_rsm::{At, Restored, StateMachine};
use quorate_shardmaster::{Command as Administer, Configuration, ShardId, ShardMaster};
use quorate_stage::Outlet;
use serde::{Serialize, de::DeserializeOwned};

/// The newest formats of what has no public constant.
const JOURNAL_FORMAT: u32 = 1;
const CHECKPOINT_FORMAT: u32 = 4;

const DIR: &str = "/data";
const SEGMENT: &str = "/data/groups/g1/journal/00000000000000000001.seg";
const OPTIONS: JournalOptions = JournalOptions { segment_bytes: 1024, zero_fill: false, seed: 9 };

/// A kind of file.
struct Kind {
    name: &'static str,
    /// The format that is written now.
    format: u32,
    /// What is written now.
    written: fn() -> Vec<u8>,
    /// What is in such a file, in words; why it is refused.
    read: fn(&[u8]) -> Result<String, String>,
    /// Where it lies.
    path: &'static str,
    /// The same file, in a format that is not known yet.
    newer: fn(&[u8]) -> Vec<u8>,
}

const KINDS: [Kind; 7] = [
    Kind {
        name: "identity",
        format: IDENTITY_FORMAT,
        written: identity,
        read: read_identity,
        path: "/data/identity",
        newer: newer_content,
    },
    Kind {
        name: "peers",
        format: PINS_FORMAT,
        written: peers,
        read: read_peers,
        path: "/data/peers",
        newer: newer_content,
    },
    Kind {
        name: "journal-paxos",
        format: JOURNAL_FORMAT,
        written: votes,
        read: read_journal::<Vote>,
        path: SEGMENT,
        newer: newer_header,
    },
    Kind {
        name: "journal-raft",
        format: JOURNAL_FORMAT,
        written: terms,
        read: read_journal::<Term>,
        path: SEGMENT,
        newer: newer_header,
    },
    Kind {
        name: "checkpoint-store",
        format: CHECKPOINT_FORMAT,
        written: || checkpoint(&store(), &replies()),
        read: read_checkpoint::<Machine>,
        path: "/data/checkpoint-5",
        newer: newer_header,
    },
    Kind {
        name: "checkpoint-shards",
        format: CHECKPOINT_FORMAT,
        written: || checkpoint(&shards(), &replies()),
        read: read_checkpoint::<Machine>,
        path: "/data/checkpoint-5",
        newer: newer_header,
    },
    Kind {
        name: "checkpoint-shardmaster",
        format: CHECKPOINT_FORMAT,
        written: || checkpoint(&masters().0, &masters().1),
        read: read_checkpoint::<ShardMaster>,
        path: "/data/checkpoint-5",
        newer: newer_header,
    },
];

fn disk_with(path: &str, file: &[u8]) -> Arc<dyn Disk> {
    let disk = SimDisk::new(1);
    disk.plant(Path::new(path), file);
    Arc::new(disk)
}

/// The bytes of an atomic file.
fn atomic(content: &[u8]) -> Vec<u8> {
    let (disk, path) = (SimDisk::new(1), Path::new("/data/file"));
    disk.create_dir_all(Path::new(DIR)).unwrap();
    write_atomic(&disk, path, content).unwrap();
    disk.peek(path).unwrap()
}

fn ours() -> Expected {
    Expected { cluster_id: "blue".into(), node: 2, incarnation: 0xfeed_f00d, initial: true }
}

fn identity() -> Vec<u8> {
    let sim = SimDisk::new(1);
    let disk: Arc<dyn Disk> = Arc::new(sim.clone());
    DataDir::open(&disk, Path::new(DIR), &ours()).unwrap();
    sim.peek(Path::new("/data/identity")).unwrap()
}

fn read_identity(file: &[u8]) -> Result<String, String> {
    let disk = disk_with("/data/identity", file);
    let expected = Expected { incarnation: 1, initial: false, ..ours() };
    let opened = DataDir::open(&disk, Path::new(DIR), &expected);
    let dir = opened.map_err(|error: LayoutError| error.to_string())?;
    let found = dir.identity();
    let (founder, life) = (found.founder, found.incarnation);
    Ok(format!("{} {} {life:x} founder={founder}", found.cluster_id, found.node))
}

fn member(node: u32) -> Member {
    Member { node: NodeId(node), incarnation: Incarnation(0xfeed_f00d + u64::from(node)) }
}

fn peers() -> Vec<u8> {
    atomic(&encode_pins(vec![member(1), member(3)]))
}

/// As they were before they had a format.
fn peers_of_format_0() -> Vec<u8> {
    atomic(&rmp_serde::to_vec(&vec![member(1), member(3)]).unwrap())
}

fn read_peers(file: &[u8]) -> Result<String, String> {
    let disk = disk_with("/data/peers", file);
    let found = read_pins(disk.as_ref(), Path::new("/data/peers"));
    found.map(|members| format!("{members:?}")).map_err(|error: FileError| error.to_string())
}

fn proposal(seq: u64) -> Proposal {
    let id = ProposalId { node: NodeId(2), life: u64::MAX, seq };
    Proposal { id, command: Bytes::from_static(b"a command") }
}

fn position() -> Position {
    let life = Life { number: 2, incarnation: Incarnation(0xfeed) };
    let configuration = Members {
        lives: [(NodeId(4), life)].into(),
        voters: [1, 2, 3].map(NodeId).into(),
        outgoing: [3, 4].map(NodeId).into(),
        learners: [NodeId(9)].into(),
    };
    Position { index: Index(5), place: 7, term: 2, configuration }
}

fn journal(standing: &impl Serialize, records: &[impl Serialize]) -> Vec<u8> {
    let disk = SimDisk::new(1);
    let path = Path::new(SEGMENT);
    let dir = path.parent().unwrap();
    let (mut journal, _) = Journal::open(Arc::new(disk.clone()), dir, OPTIONS).unwrap();
    for (record, mark) in records.iter().zip(1..) {
        journal.append(&encode(record), mark).unwrap();
        journal.commit(&encode(standing)).unwrap();
    }
    disk.peek(path).unwrap()
}

fn read_journal<R: DeserializeOwned + std::fmt::Debug>(file: &[u8]) -> Result<String, String> {
    let dir = Path::new(SEGMENT).parent().unwrap();
    let opened = Journal::open(disk_with(SEGMENT, file), dir, OPTIONS);
    let (_, records) = opened.map_err(|error: JournalError| error.to_string())?;
    let records = records.iter().map(|record| rmp_serde::from_slice::<R>(record));
    let records = records.collect::<Result<Vec<R>, _>>().map_err(|error| error.to_string())?;
    Ok(format!("{records:?}"))
}

fn votes() -> Vec<u8> {
    let ballot = Ballot::new(7, member(2));
    let marks = vec![(ballot, Round(8))];
    let standing = Vote::Standing { promised: ballot, marks, forgotten: Slot(2), intact: false };
    let entries = vec![(Slot(3), Some(proposal(1))), (Slot(4), None)];
    let voted = Vote::Voted { ballot, round: Round(1), entries, through: Round(0) };
    journal(&standing, &[Vote::Promised(ballot), voted])
}

fn terms() -> Vec<u8> {
    let standing = Term::Standing { term: Number(3), voted_for: Some(NodeId(1)), base: position() };
    let configuration = position().configuration;
    let payloads =
        [Payload::NoOp, Payload::Command(proposal(2)), Payload::Configuration(configuration)];
    let entries = payloads.map(|payload| Entry { term: Number(3), payload });
    let records = [
        Term::Voted { term: Number(4), voted_for: None },
        Term::Appended { from: Place(8), entries: entries.into() },
        Term::Installed { base: position() },
    ];
    journal(&standing, &records)
}

/// A machine with some keys.
fn store() -> Machine {
    let mut machine = Machine::whole();
    for (key, at) in ["a", "key", "{tag}key"].into_iter().zip(1..) {
        let (key, value) = (Bytes::from(key), Bytes::from(format!("value {at}")));
        let put = Op::Put { key, value, condition: Condition::Always, want_old: false };
        machine.apply(At { index: Index(at), time_ms: at }, Command::Op(put));
    }
    machine
}

/// A group's machine with shards in every phase of a move.
fn shards() -> Machine {
    let (one, two) = (GroupId(1), GroupId(2));
    let mut machine = Machine::of_group(one);
    let owners = [[one, one, one, two], [two, two, one, one]];
    for (owners, number) in owners.into_iter().zip(1..) {
        let groups = [one, two].map(|group| (group, vec![NodeId(1), NodeId(2)]));
        let (owners, groups) = (owners.to_vec(), groups.into());
        let next = Arc::new(Configuration { number, owners, groups });
        machine.apply(At { index: Index(number), time_ms: 9 }, Command::Configure(next));
    }
    let give_up = Command::GiveUp { shard: ShardId(0), number: 2 };
    machine.apply(At { index: Index(3), time_ms: 9 }, give_up);
    machine
}

fn replies() -> Vec<Reply> {
    vec![Reply::Integer(-1), Reply::NotStored { old: Some(Bytes::from_static(b"o")) }]
}

/// The shardmaster's machine, and what it has answered.
fn masters() -> (ShardMaster, Vec<quorate_shardmaster::Reply>) {
    let mut machine = ShardMaster::default();
    let nodes = |group| (GroupId(group), vec![NodeId(1), NodeId(2), NodeId(3)]);
    let commands = [
        Administer::Form { shards: 4 },
        Administer::Join { groups: [nodes(1), nodes(2)].into() },
        Administer::Move { shard: ShardId(1), group: GroupId(2) },
    ];
    let at = |index| At { index: Index(index), time_ms: 9 };
    let replies = commands.into_iter().zip(1..).map(|(command, i)| machine.apply(at(i), command));
    let replies = replies.collect();
    (machine, replies)
}

/// A checkpoint of a machine, with a client's session and an origin, written as an rsm writes it: the
/// books are made here, and everything goes through its reader and writer.
fn checkpoint<M: StateMachine>(machine: &M, replies: &[M::Reply]) -> Vec<u8> {
    fn framed(what: &impl Serialize) -> Vec<u8> {
        let encoded = rmp_serde::to_vec(what).unwrap();
        [&(encoded.len() as u32).to_le_bytes(), &encoded[..]].concat()
    }
    let origins = BTreeMap::from([((NodeId(1), 5_u64), (1_u64, 40_u64))]);
    let scopes = vec![(0_u16, 50_u64, 0_u64), (7, 50, 1)];
    let heading = framed(&(position(), 60_u64, (origins, 50_u64), scopes));
    let replies: BTreeMap<u64, &M::Reply> = (3..).zip(replies).collect();
    let session = framed(&(1_u64 << 60, (3_u64, replies, 50_u64)));
    let machine = machine.snapshot().flatten().collect::<Vec<u8>>();
    let content = [&CHECKPOINT_FORMAT.to_le_bytes()[..], &heading, &session, &machine].concat();
    atomic(&rewritten::<M>(&content).unwrap())
}

/// What a checkpoint holds, as it is written now.
fn rewritten<M: StateMachine>(content: &[u8]) -> Result<Vec<u8>, String> {
    let found = Arc::new(Mutex::new(None));
    let place = found.clone();
    let to = Outlet::from_fn(move |_, restored| *place.lock().unwrap() = Some(restored));
    let mut reader: Box<dyn Reader> = Restored::<M>::reader(to);
    reader.feed(content)?;
    reader.finish(Name::of_node(NodeId(1), Role::Files))?;
    let restored = found.lock().unwrap().take().expect("whoever wants it has it");
    Ok(restored.writer().flatten().collect())
}

fn read_checkpoint<M: StateMachine>(file: &[u8]) -> Result<String, String> {
    let disk = disk_with("/data/checkpoint-5", file);
    let read = read_atomic(disk.as_ref(), Path::new("/data/checkpoint-5"));
    let content = read.map_err(|error| error.to_string())?.unwrap();
    rewritten::<M>(&content).map(|content| content.escape_ascii().to_string())
}

/// The file with a format of 9 in its header: in the same place in all of them.
fn newer_header(file: &[u8]) -> Vec<u8> {
    let mut newer = file.to_vec();
    newer[4..8].copy_from_slice(&9_u32.to_le_bytes());
    let at = if newer.starts_with(b"QRAF") { 8 } else { 24 };
    let crc = crc32fast::hash(&newer[..at]);
    newer[at..at + 4].copy_from_slice(&crc.to_le_bytes());
    newer
}

/// The atomic file with a format of 9 in its content, which is a map that begins with it.
fn newer_content(file: &[u8]) -> Vec<u8> {
    let disk = disk_with("/data/file", file);
    let mut content = read_atomic(disk.as_ref(), Path::new("/data/file")).unwrap().unwrap();
    assert_eq!(content[1..8], *b"\xa6format");
    content[8] = 9;
    atomic(&content)
}

fn files() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/formats")
}

/// Writes a file that is not there yet.
fn keep(name: &str, file: &[u8]) {
    fs::create_dir_all(files()).unwrap();
    let path = files().join(name);
    if !path.exists() {
        fs::write(&path, file).unwrap();
    }
}

/// The committed files of a kind: format and bytes, the newest one last.
fn committed(kind: &Kind) -> Vec<(u32, Vec<u8>)> {
    let mut found = vec![];
    for format in 0..=kind.format {
        if let Ok(file) = fs::read(files().join(format!("{}-v{format}", kind.name))) {
            found.push((format, file));
        }
    }
    found
}

#[test]
fn what_every_release_has_written_is_read() {
    for kind in &KINDS {
        let now = (kind.written)();
        if env::var("QUORATE_FORMATS").is_ok_and(|what| what == "write") {
            keep(&format!("{}-v{}", kind.name, kind.format), &now);
            keep("peers-v0", &peers_of_format_0());
        }
        let expected = (kind.read)(&now).unwrap();
        let committed = committed(kind);
        let newest = committed.last().map(|(format, _)| *format);
        assert_eq!(newest, Some(kind.format), "{}: its file is missing", kind.name);
        for (format, file) in committed {
            let read = (kind.read)(&file);
            assert_eq!(read.as_ref(), Ok(&expected), "{}, format {format}", kind.name);
            assert!(
                format < kind.format || file == now,
                "{} is written in other bytes than format {format} was: raise its number",
                kind.name
            );
        }
    }
}

#[test]
fn no_committed_file_is_of_an_unknown_kind() {
    let known: Vec<String> = KINDS
        .iter()
        .flat_map(|kind| (0..=kind.format).map(|format| format!("{}-v{format}", kind.name)))
        .collect();
    for file in fs::read_dir(files()).unwrap() {
        let name = file.unwrap().file_name().into_string().unwrap();
        assert!(known.contains(&name), "nothing reads {name}");
    }
}

#[test]
fn a_newer_format_is_refused_with_its_file_what_was_found_what_is_known_and_what_to_do() {
    for kind in &KINDS {
        let newer = (kind.newer)(&(kind.written)());
        let error = (kind.read)(&newer).unwrap_err();
        for words in [kind.path, "format 9", "knows formats up to ", "use the newer version"] {
            assert!(error.contains(words), "{}: {error:?} lacks {words:?}", kind.name);
        }
    }
}

#[test]
fn a_checkpoint_of_another_content_is_refused_by_number() {
    let disk = disk_with("/data/file", &checkpoint(&store(), &replies()));
    let mut content = read_atomic(disk.as_ref(), Path::new("/data/file")).unwrap().unwrap();
    content[..4].copy_from_slice(&9_u32.to_le_bytes());
    let error = rewritten::<Machine>(&content).unwrap_err();
    assert_eq!(error, format!("format 9, this version reads {CHECKPOINT_FORMAT}"));
}
