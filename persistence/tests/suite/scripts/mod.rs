//! Every crash point of long scripts, and for each of them everything that the disk may have kept.
//!
//! A script drives a journal (write, sync, prepare, roll, trim, reopen) and, beside it on the same
//! disk, the files' actor (Save in steps, Remove, WritePart, Resume, Adopt, Read). It is run up to
//! each single disk operation, where the power goes, and then once for each choice of what was not
//! synced: sectors of writes, cuts, and changes of names, each kept or lost by itself.
//!
//! Of up to [`ALL_OF`] such parts every choice is tried. Of more of them: nothing, everything, each
//! prefix in the order of time, each one alone, each one missing (of [`EACH_OF`] parts, evenly
//! spread), and [`SAMPLE`] choices drawn from the seed.
//!
//! What must hold is [`model::Known::recovered`]. `CRASH_SCRIPTS` in the environment says how many
//! scripts are drawn besides the one made by hand.

mod model;
mod play;

use std::collections::BTreeSet;

use quorate_persistence::{JournalError, JournalOptions, SimDisk};
use rand::{Rng, SeedableRng};
use rand_chacha::ChaCha8Rng;

use crate::{OPTIONS, ZERO_FILLED, open_with};
use model::Known;
use play::{Op, drawn, made_by_hand, play};

/// Parts of what is unsynced of which every choice is tried: 256 choices.
const ALL_OF: usize = 8;
/// Of how many parts each is tried alone, missing, and as the end of a prefix.
const EACH_OF: usize = 16;
/// Choices that are drawn where there are too many.
const SAMPLE: usize = 24;
/// Operations of a script that is drawn.
const OPS: usize = 80;

/// What was looked at, for the figures.
#[derive(Default, Debug)]
struct Figures {
    points: usize,
    crashes: usize,
    /// Crash points of which every choice was tried.
    exhausted: usize,
    flips: usize,
    found: usize,
}

/// Which parts of `parts` survive: the choices that are tried.
fn choices(parts: usize, rng: &mut ChaCha8Rng) -> Vec<BTreeSet<usize>> {
    if parts <= ALL_OF {
        let all = 0..1_usize << parts;
        return all.map(|mask| (0..parts).filter(|part| mask >> part & 1 == 1).collect()).collect();
    }
    let mut found: Vec<BTreeSet<usize>> = vec![BTreeSet::new(), (0..parts).collect()];
    for part in (0..parts).step_by(parts.div_ceil(EACH_OF)) {
        found.push((0..part).collect());
        found.push(BTreeSet::from([part]));
        found.push((0..parts).filter(|other| *other != part).collect());
    }
    for _ in 0..SAMPLE {
        let odds = rng.random_range(0.1..0.9);
        found.push((0..parts).filter(|_| rng.random_bool(odds)).collect());
    }
    found
}

/// What the disk is after the power has gone and come back, with these parts kept.
fn after(disk: &SimDisk, kept: &BTreeSet<usize>) -> SimDisk {
    let disk = disk.fork();
    disk.crash_keeping(|part| kept.contains(&part));
    disk.restart();
    disk
}

/// Everything that may be there after a crash of `stopped`.
fn crash_every_way(
    stopped: &SimDisk,
    known: &Known,
    options: JournalOptions,
    seed: u64,
    figures: &mut Figures,
) {
    let mut rng = ChaCha8Rng::seed_from_u64(seed);
    let parts = stopped.unsynced_parts();
    figures.points += 1;
    figures.exhausted += usize::from(parts <= ALL_OF);
    for (number, kept) in choices(parts, &mut rng).iter().enumerate() {
        figures.crashes += 1;
        let disk = after(stopped, kept);
        let mut known = known.clone();
        let first = known.recovered(&disk, options);
        // What recovery has answered is durable, whatever happens next.
        let lost = after(&disk, &BTreeSet::new());
        assert_eq!(first, known.recovered(&lost, options), "a second recovery differs");
        if number % 8 == 0 {
            flip(&disk, &known, options, rng.random(), figures);
            // Life goes on from there.
            let onward = drawn(rng.random(), 6);
            let mut known = play(&disk, known, options, &onward);
            known.recovered(&after(&disk, &BTreeSet::new()), options);
        }
    }
}

/// One bit of what is durable changes: either nothing is missing, or it is told where.
fn flip(disk: &SimDisk, known: &Known, options: JournalOptions, seed: u64, figures: &mut Figures) {
    let (good, disk) = (disk.fork(), disk.fork());
    disk.reseed(seed);
    let Some((file, offset)) = disk.rot() else { return };
    figures.flips += 1;
    let (_, records) = open_with(&good, options).unwrap();
    let is_segment = file.extension().is_some_and(|it| it == "seg");
    match open_with(&disk, options) {
        Ok((_, found)) => assert_eq!(found, records, "a bit at {offset} of {file:?} not found"),
        Err(JournalError::Corrupt { file: named, .. }) if is_segment => {
            assert_eq!(named, file);
            figures.found += 1;
        }
        Err(other) => panic!("a bit at {offset} of {file:?}: {other}"),
    }
    if !is_segment {
        figures.found += usize::from(known.finds_damage(&disk, &file, offset));
    }
}

/// Runs a script up to every operation of the disk.
fn explore(script: &[Op], options: JournalOptions, seed: u64, figures: &mut Figures) {
    for operations in 0.. {
        let disk = SimDisk::new(seed);
        disk.crash_after(operations);
        let known = play(&disk, Known::default(), options, script);
        let stopped = disk.is_stopped();
        crash_every_way(&disk, &known, options, seed ^ operations, figures);
        // Only the process dies: the next one sees what was unsynced, and then power is lost.
        let disk = disk.fork();
        disk.kill();
        let mut seen = known.clone();
        let first = seen.recovered(&disk, options);
        for kept in choices(disk.unsynced_parts(), &mut ChaCha8Rng::seed_from_u64(operations)) {
            let lost = after(&disk, &kept);
            assert_eq!(first, seen.clone().recovered(&lost, options), "seen, then lost");
        }
        if !stopped {
            return;
        }
    }
}

/// How many scripts are drawn.
fn scripts() -> u64 {
    std::env::var("CRASH_SCRIPTS").map_or(3, |number| number.parse().expect("a number"))
}

fn every_crash_point(options: JournalOptions, first_seed: u64) {
    let mut figures = Figures::default();
    explore(&made_by_hand(), options, first_seed, &mut figures);
    for seed in (first_seed..).take(scripts() as usize) {
        explore(&drawn(seed, OPS), options, seed, &mut figures);
    }
    println!("{figures:?}");
    assert!(
        figures.points > 300 && figures.crashes > 5000,
        "too few to mean anything: {figures:?}"
    );
    assert!(figures.found > 50, "too few bits were found: {figures:?}");
}

#[test]
fn a_crash_at_any_operation_of_a_script_loses_nothing_acknowledged() {
    every_crash_point(OPTIONS, 100);
}

#[test]
fn a_crash_at_any_operation_of_a_script_on_zero_filled_segments_loses_nothing_acknowledged() {
    every_crash_point(ZERO_FILLED, 200);
}

/// Each way in which one operation can fail, at each operation: the process ends, another one starts,
/// and later the power goes.
#[test]
fn a_failure_of_any_operation_of_a_script_loses_nothing_acknowledged() {
    let fail: [fn(&SimDisk, u64); 3] = [
        |disk, at| disk.fail_after(at, std::io::ErrorKind::Other),
        SimDisk::fail_sync_after,
        SimDisk::fail_dir_sync_after,
    ];
    let (mut figures, mut ended) = (Figures::default(), 0);
    for (kind, fail) in fail.iter().enumerate() {
        for options in [OPTIONS, ZERO_FILLED] {
            for at in 0.. {
                let disk = SimDisk::new(at);
                fail(&disk, at);
                let known = play(&disk, Known::default(), options, &made_by_hand());
                if !known.ended {
                    break;
                }
                ended += 1;
                disk.kill();
                if kind == 2 {
                    // Nothing can be changed any more, and the next process is told so.
                    match open_with(&disk.fork(), options) {
                        Err(error) => assert!(error.to_string().contains("read-only"), "{error}"),
                        Ok((_, records)) => assert!(records.is_empty(), "no journal was made yet"),
                    }
                    crash_every_way(&disk, &known, options, at, &mut figures);
                    continue;
                }
                let mut seen = known.clone();
                let first = seen.recovered(&disk, options);
                let mut rng = ChaCha8Rng::seed_from_u64(at);
                for kept in choices(disk.unsynced_parts(), &mut rng) {
                    figures.crashes += 1;
                    let lost = after(&disk, &kept);
                    assert_eq!(first, seen.clone().recovered(&lost, options), "seen, then lost");
                }
            }
        }
    }
    println!("{ended} runs ended by a failure, {figures:?}");
    assert!(ended > 300, "{ended} failures are too few to mean anything");
}
