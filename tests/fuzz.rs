//! Every decoder that meets bytes from outside, on damaged input; `tests/decoders` has them.
//!
//! No input makes one panic or take memory out of proportion; how bytes are cut into pieces makes no
//! difference; what is accepted can be encoded, and is accepted again as the same. The inputs are
//! drawn from seeds: `QUORATE_FUZZ=1000000` tries that many of each target, `QUORATE_FUZZ_SEED=n`
//! the one that has failed. `fuzz/` has libFuzzer look for others.

mod damage;
mod decoders;

use std::{
    collections::BTreeSet,
    env, fs,
    path::{Path, PathBuf},
};

use damage::{Bound, Target, alone, fuzz, seeds};
use toml::{Table, Value};

/// Something of the crate that runs libFuzzer.
fn of_libfuzzer(path: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("fuzz").join(path)
}

macro_rules! each_decoder {
    ($($name:ident)*) => {$(
        #[test]
        fn $name() {
            let _alone = alone();
            let name = stringify!($name);
            let target = decoders::target(name).expect("it is in the list");
            fuzz(seeds(), &target, &of_libfuzzer("corpus").join(name));
        }
    )*};
}

decoders::for_all!(each_decoder);

/// Reads a length and as many bytes, as a decoder must not.
fn gullible(input: &[u8]) -> Option<Vec<u8>> {
    let (length, rest) = input.split_first_chunk::<4>()?;
    let length = u32::from_le_bytes(*length) as usize & 0xfff_ffff;
    let mut found = Vec::with_capacity(length);
    found.extend_from_slice(rest.get(..length)?);
    Some(found)
}

fn what_is_found(holds: impl Fn(&[u8]) -> bool + 'static) -> String {
    let _alone = alone();
    let sample = b"\x05\0\0\0hello".to_vec();
    let target = Target::new(vec![sample], &[], Bound::SMALL, move |input, _| holds(input));
    let fuzzed = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
        fuzz(0..1000, &target, &of_libfuzzer("corpus/none"));
    }));
    damage::words_of(&*fuzzed.expect_err("the planted error is found"))
}

#[test]
fn a_decoder_that_believes_a_length_is_found() {
    let found = what_is_found(|input| gullible(input).is_some());
    assert!(found.contains("of memory"), "{found}");
    let found = what_is_found(|input| {
        let length = usize::from(*input.first().unwrap_or(&0));
        input.get(4..).is_some_and(|rest| rest[..length].len() == length)
    });
    assert!(found.starts_with("QUORATE_FUZZ_SEED=") && found.contains("out of range"), "{found}");
}

/// `fuzz/Cargo.toml` has a binary for each decoder, and nobody has a corpus but those.
#[test]
fn libfuzzer_has_every_decoder() {
    let _alone = alone();
    let manifest = fs::read_to_string(of_libfuzzer("Cargo.toml")).expect("it is a crate");
    let manifest: Table = manifest.parse().expect("its manifest can be read");
    let name = |bin: &Value| bin["name"].as_str().expect("a name is text").to_string();
    let bins = manifest["bin"].as_array().expect("it has binaries");
    let bins: BTreeSet<String> = bins.iter().map(name).collect();
    assert_eq!(bins, decoders::NAMES.iter().map(|name| name.to_string()).collect());
    let corpora = fs::read_dir(of_libfuzzer("corpus")).expect("some have a corpus");
    for corpus in corpora {
        let name = corpus.expect("it can be listed").file_name().to_string_lossy().into_owned();
        assert!(bins.contains(&name), "fuzz/corpus/{name} is of no decoder");
    }
}

/// Writes every sample into a file, for libFuzzer to begin with: set `QUORATE_FUZZ_SAMPLES` to a
/// directory. Without it, only what a directory would be filled with is looked at.
#[test]
fn every_decoder_has_samples() {
    let _alone = alone();
    let to = env::var_os("QUORATE_FUZZ_SAMPLES").map(PathBuf::from);
    for name in decoders::NAMES {
        let target = decoders::target(name).expect("it is in the list");
        assert!(!target.samples.is_empty(), "{name} has no sample");
        let Some(to) = to.as_ref().map(|to| to.join(name)) else { continue };
        fs::create_dir_all(&to).expect("the directory can be made");
        for (place, sample) in target.samples.iter().enumerate() {
            fs::write(to.join(format!("sample-{place}")), sample).expect("it can be written");
        }
    }
}
