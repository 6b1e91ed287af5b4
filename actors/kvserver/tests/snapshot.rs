//! A snapshot is a moment: it can be encoded later and elsewhere, and is read back with care.

use bytes::Bytes;
use quorate_kvserver::{
    CHUNK_BYTES_MAX, Condition, DecodeError, Op, Restore, Snapshot, Store, VALUE_BYTES_MAX,
};
use rand::{Rng, SeedableRng};
use rand_chacha::ChaCha8Rng;

fn set(store: &mut Store, key: impl Into<Bytes>, value: impl Into<Bytes>) {
    store.apply(&Op::Put {
        key: key.into(),
        value: value.into(),
        condition: Condition::Always,
        want_old: false,
    });
}

fn some_store() -> Store {
    let mut store = Store::new();
    set(&mut store, "", "");
    set(&mut store, "k", "one");
    set(&mut store, "k", "two");
    set(&mut store, "{k}", "");
    set(&mut store, "{k}2", vec![7; 300]);
    set(&mut store, vec![0xff; 500], "x");
    store
}

fn bytes_of(snapshot: &Snapshot) -> Vec<u8> {
    snapshot.encode_chunks().flatten().collect()
}

#[test]
fn a_snapshot_is_not_touched_by_what_comes_after_it() {
    let mut store = some_store();
    let before = store.clone();
    let snapshot = store.snapshot();
    set(&mut store, "k", "three");
    set(&mut store, "new", "key");
    store.apply(&Op::Delete { keys: vec!["".into(), "{k}2".into()] });
    store.apply(&Op::Append { key: "{k}".into(), value: "tail".into() });

    let encoded = std::thread::spawn(move || bytes_of(&snapshot)).join().expect("encodes");
    let then = Store::decode([encoded]).expect("own bytes");
    assert_eq!(then, before);
    assert_eq!(then.get(b"k").map(|stored| stored.version.0), Some(2), "versions are kept");
    assert_ne!(then, store);
}

#[test]
fn the_format_is_what_its_description_says() {
    let mut store = Store::new();
    assert_eq!(bytes_of(&store.snapshot()), b"quorate-kv\x01\0\0\0\0\0\0\0\0\0");
    set(&mut store, "foo", "a");
    set(&mut store, "foo", "bar!");
    set(&mut store, "", "");
    // The empty key lies in slot 0, "foo" in 12182.
    assert_eq!(
        bytes_of(&store.snapshot()),
        b"quorate-kv\x01\0\x02\0\0\0\0\0\0\0\
          \0\0\0\0\0\0\0\0\x01\0\0\0\0\0\0\0\
          \x03\0\0\0\x04\0\0\0\x02\0\0\0\0\0\0\0foobar!"
    );
}

#[test]
fn chunks_are_bounded_and_may_be_cut_anywhere() {
    let mut store = some_store();
    set(&mut store, "big", vec![1; VALUE_BYTES_MAX]);
    for n in 0..3000 {
        set(&mut store, format!("key{n}"), vec![b'v'; n]);
    }
    let snapshot = store.snapshot();
    let chunks: Vec<Bytes> = snapshot.encode_chunks().collect();
    let (last, full) = chunks.split_last().expect("at least one");
    assert!(full.iter().all(|chunk| chunk.len() == CHUNK_BYTES_MAX));
    assert!((1..=CHUNK_BYTES_MAX).contains(&last.len()));
    let total: usize = chunks.iter().map(Bytes::len).sum();
    assert_eq!(total as u64, snapshot.encoded_len());
    assert_eq!(Store::decode(&chunks).expect("own bytes"), store);

    let bytes = chunks.concat();
    for seed in 0..20 {
        let mut rng = ChaCha8Rng::seed_from_u64(seed);
        let mut restore = Restore::new();
        let mut rest = &bytes[..];
        while !rest.is_empty() {
            let most = if rng.random() { 50 } else { 2_000_000 };
            let (piece, later) = rest.split_at(rng.random_range(0..=most.min(rest.len())));
            restore.feed(piece).expect("own bytes");
            rest = later;
        }
        assert_eq!(restore.finish().expect("complete"), store, "seed {seed}");
    }
}

#[test]
fn one_byte_at_a_time() {
    let store = some_store();
    let bytes = bytes_of(&store.snapshot());
    assert_eq!(Store::decode(bytes.chunks(1)).expect("own bytes"), store);
}

#[test]
fn bad_bytes_are_refused_with_the_reason() {
    let header = |count: u8| [b"quorate-kv\x01\0", &[count, 0, 0, 0, 0, 0, 0, 0][..]].concat();
    let entry = |key: &[u8], value: &[u8], version: u8| {
        let mut entry = (key.len() as u32).to_le_bytes().to_vec();
        entry.extend((value.len() as u32).to_le_bytes());
        entry.extend([version, 0, 0, 0, 0, 0, 0, 0]);
        [&entry[..], key, value].concat()
    };
    let announced = |key: u32, value: u32| {
        let entry = [&key.to_le_bytes()[..], &value.to_le_bytes(), &[1, 0, 0, 0, 0, 0, 0, 0]];
        [header(1), entry.concat()].concat()
    };
    let one = [header(1), entry(b"k", b"v", 1)].concat();
    for (bytes, error) in [
        (vec![], DecodeError::Truncated { missing: 0 }),
        (b"quor".to_vec(), DecodeError::Truncated { missing: 0 }),
        (b"x".to_vec(), DecodeError::NotASnapshot),
        (b"quorate-log.............".to_vec(), DecodeError::NotASnapshot),
        (b"quorate-kv\x02\x01........".to_vec(), DecodeError::Format { found: 258 }),
        (header(3), DecodeError::Truncated { missing: 3 }),
        (one[..one.len() - 1].to_vec(), DecodeError::Truncated { missing: 1 }),
        ([&one[..], b"x"].concat(), DecodeError::TrailingBytes),
        (announced(65537, 0), DecodeError::KeyTooLong { len: 65537 }),
        (announced(u32::MAX, 0), DecodeError::KeyTooLong { len: u32::MAX }),
        (announced(1, u32::MAX), DecodeError::ValueTooLong { len: u32::MAX }),
        ([header(1), entry(b"k", b"v", 0)].concat(), DecodeError::ZeroVersion),
        ([header(2), entry(b"k", b"v", 1), entry(b"k", b"w", 1)].concat(), DecodeError::OutOfOrder),
        ([header(2), entry(b"foo", b"v", 1), entry(b"", b"", 1)].concat(), DecodeError::OutOfOrder),
    ] {
        let whole = Store::decode([&bytes]).expect_err("bad bytes");
        assert_eq!(whole, error, "{}", bytes.escape_ascii());
        let split = Store::decode(bytes.chunks(1)).expect_err("bad bytes");
        assert_eq!(split, error, "byte by byte: {}", bytes.escape_ascii());
    }
}

#[test]
fn random_damage_never_panics() {
    let bytes = bytes_of(&some_store().snapshot());
    for seed in 0..3000 {
        let mut rng = ChaCha8Rng::seed_from_u64(seed);
        let mut bytes = bytes.clone();
        for _ in 0..rng.random_range(1..4) {
            let at = rng.random_range(0..bytes.len());
            bytes[at] = rng.random();
        }
        bytes.truncate(rng.random_range(0..=bytes.len()));
        let _ = Store::decode([bytes]);
    }
}
