//! What a node reads from its disk: the journal, files that are replaced as a whole, checkpoints.

use std::{
    collections::BTreeMap,
    path::{Path, PathBuf},
    sync::{Arc, Mutex},
};

use bytes::Bytes;
use quorate_kvserver::{Command, Condition, Machine, Op, Reply, Restore, Store};
use quorate_persistence::{
    AtomicReader, DataDir, Disk, Expected, Identity, Journal, JournalError, JournalOptions,
    SimDisk, encode_pins, read_atomic, read_pins, write_atomic,
};
use quorate_protocol::{GroupId, Incarnation, Member, Name, NodeId, Role, log::Index};
use quorate_rsm::{At, Restored, StateMachine};
use quorate_shardmaster::{Configuration, ShardId};
use quorate_stage::Outlet;
use serde::Serialize;

use super::nodes::{position, replies};
use crate::damage::{Bound, Target};

const JOURNAL: &str = "/data/journal";
const OPTIONS: JournalOptions = JournalOptions { segment_bytes: 1024, zero_fill: false, seed: 9 };

fn open(disk: &SimDisk) -> Result<Vec<Bytes>, JournalError> {
    let (_, records) = Journal::open(Arc::new(disk.clone()), Path::new(JOURNAL), OPTIONS)?;
    Ok(records)
}

/// A journal of several segments; its first one is damaged, or its last.
pub(super) fn journal(begins: bool) -> Target {
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
    let file = if begins { segments.first() } else { segments.last() }.unwrap().clone();
    let sample = disk.peek(&file).unwrap();
    let words: &[&[u8]] = &[b"QRJS", b"QRJB", b"End."];
    Target::new(vec![sample], words, Bound { base: 1 << 20, per_byte: 40 }, move |input, _| {
        let disk = disk.fork();
        disk.plant(&file, input);
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
    })
}

pub(super) fn atomic_files() -> Target {
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
    Target::new(samples.into(), &[b"QRAF"], Bound::SMALL, move |input, _| {
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
    })
}

/// What an identity says is damaged behind a checksum that is right: other code has written it.
pub(super) fn identities() -> Target {
    let identity =
        Identity { format: 1, cluster_id: "test".into(), node: 2, incarnation: 77, founder: true };
    let sample = rmp_serde::to_vec_named(&identity).unwrap();
    let expected = Expected { cluster_id: "test".into(), node: 2, incarnation: 1, initial: false };
    Target::new(vec![sample], &[b"format", b"\xa6"], Bound::SERDE, move |input, _| {
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
    })
}

/// The pins likewise, with their format and as they were before they had one.
pub(super) fn pins() -> Target {
    let path = Path::new("/data/peers");
    let incarnation = Incarnation(0xfeed_f00d);
    let members: Vec<Member> = [2, 1].map(|node| Member { node: NodeId(node), incarnation }).into();
    let samples = vec![encode_pins(members.clone()), rmp_serde::to_vec(&members).unwrap()];
    Target::new(samples, &[b"format", b"members"], Bound::SERDE, move |input, _| {
        let disk = SimDisk::new(1);
        disk.create_dir_all(Path::new("/data")).unwrap();
        write_atomic(&disk, path, input).unwrap();
        let Ok(found) = read_pins(&disk, path) else { return false };
        write_atomic(&disk, path, &encode_pins(found.clone())).unwrap();
        assert_eq!(read_pins(&disk, path), Ok(found), "written again it is the same");
        true
    })
}

fn encoded(store: &Store) -> Vec<u8> {
    store.snapshot().encode_chunks().flatten().collect()
}

pub(super) fn machines() -> Target {
    let put = |store: &mut Store, key: &[u8], value: &[u8]| {
        let (key, value) = (Bytes::copy_from_slice(key), Bytes::copy_from_slice(value));
        store.apply(&Op::Put { key, value, condition: Condition::Always, want_old: false });
    };
    let mut stores = vec![Store::new(); 3];
    put(&mut stores[1], b"k", b"v");
    for number in 0..20_u32 {
        put(&mut stores[2], format!("key{number}").as_bytes(), &vec![b'v'; number as usize * 9]);
    }
    let samples: Vec<Vec<u8>> = stores.iter().map(encoded).collect();
    // An empty store alone has a table of all hash slots.
    Target::new(
        samples,
        &[b"quorate-kv"],
        Bound { base: 8 << 20, per_byte: 100 },
        |input, chance| {
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
        },
    )
}

/// The state that the bytes of a checkpoint hold.
fn restored(pieces: &[&[u8]]) -> Result<Restored<Machine>, String> {
    let found = Arc::new(Mutex::new(None));
    let place = found.clone();
    let to = Outlet::from_fn(move |_, restored| *place.lock().unwrap() = Some(restored));
    let mut reader = Restored::<Machine>::reader(to);
    pieces.iter().try_for_each(|piece| reader.feed(piece))?;
    reader.finish(Name::of_node(NodeId(1), Role::Files))?;
    let restored = found.lock().unwrap().take();
    Ok(restored.expect("whoever wants it has it"))
}

/// A group's machine with shards in every phase of a move.
fn sharded() -> Machine {
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
    assert_eq!(machine.apply(At { index: Index(3), time_ms: 9 }, give_up), Reply::Count(1));
    machine
}

/// What a whole replica is made of: the machine with its sessions and origins.
pub(super) fn checkpoints() -> Target {
    fn framed(what: &impl Serialize) -> Vec<u8> {
        let encoded = rmp_serde::to_vec(what).unwrap();
        [&(encoded.len() as u32).to_le_bytes(), &encoded[..]].concat()
    }
    let origins = BTreeMap::from([((NodeId(1), 5_u64), (1_u64, 40_u64))]);
    let scopes = vec![(0_u16, 50_u64, 0_u64), (7, 50, 2)];
    let heading = framed(&(position(), 60_u64, (origins, 50_u64), scopes));
    let replies: BTreeMap<u64, Reply> = (3..).zip(replies()).collect();
    let session = |client: u64| framed(&(client, (3_u64, &replies, 50_u64)));
    let format = 4_u32.to_le_bytes().to_vec();
    let samples = [Machine::whole(), sharded()].map(|machine| {
        let machine = StateMachine::snapshot(&machine).flatten().collect::<Vec<u8>>();
        [&format[..], &heading, &session(1), &session(1 << 60), &machine].concat()
    });
    let bound = Bound { base: 16 << 20, per_byte: 400 };
    Target::new(samples.to_vec(), &[b"quorate-kv"], bound, |input, chance| {
        let written =
            |restored: Restored<Machine>| restored.writer().flatten().collect::<Vec<u8>>();
        let whole = restored(&[input]).map(written);
        let in_pieces = restored(&chance.pieces(input)).map(written);
        assert_eq!(whole.is_ok(), in_pieces.is_ok(), "pieces make a difference");
        let (Ok(whole), Ok(in_pieces)) = (whole, in_pieces) else { return false };
        assert_eq!(whole, in_pieces);
        let again = restored(&[&whole]).map(written);
        assert_eq!(again, Ok(whole), "one state, one encoding");
        true
    })
}
