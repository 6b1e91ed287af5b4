//! Every error that can be planted is found: what shows that the checkers see something.
//!
//! `cargo test --features planted --test planted -- --nocapture` prints a table: which error, on which
//! engine and under which faults the simulator has found it, with how many seeds, within how many
//! seconds, and what the checkers said. `docs/testing.md` tells more.

use std::{
    env,
    sync::Mutex,
    time::{Duration, Instant},
};

use quorate_node::config::Engine;
use quorate_protocol::planted::{Bug, plant};
use quorate_sim::{
    ENGINES,
    chaos::{Plan, Profile, Schedule, play, play_traced, shrink, transcript},
    seeds,
};

/// One error is planted at a time, in a whole process.
static ONE_AT_A_TIME: Mutex<()> = Mutex::new(());

/// Steps of one run: operations and faults together.
const STEPS: usize = 300;
/// Faults of the runs, in turn. What takes a few of them together is found late by a swarm alone.
const FAULTS: [&str; 6] = [
    "swarm",
    "slow-links,delays,cuts",
    "power,power-points",
    "crashes",
    "kills,partitions,checkpoints",
    "loss,delays,partitions",
];
/// Runs of each engine without an error, in which nothing may be found.
const CLEAN: u64 = 40;
/// How long one error is looked for, unless `QUORATE_PLANTED_SECONDS` says otherwise.
const BUDGET: Duration = Duration::from_secs(150);

/// The engines that an error concerns.
fn engines(bug: Bug) -> &'static [Engine] {
    match bug {
        _ if bug < Bug::TwoVotesInATerm => &[Engine::Paxos],
        _ if bug < Bug::DuplicatesApplied => &[Engine::Raft],
        _ => &ENGINES,
    }
}

/// The groups of a turn: errors about shards show in a store that is divided.
fn groups(bug: Bug, turn: u64) -> u32 {
    if bug < Bug::GivenUpShardServed || bug == Bug::BlankKeepsItsName {
        0
    } else {
        2 + (turn % 2) as u32
    }
}

/// The run of a turn.
fn draw(engine: Engine, turn: u64, groups: u32) -> (Schedule, &'static str) {
    let faults = FAULTS[turn as usize % FAULTS.len()];
    let profile: Profile = faults.parse().expect("faults by their names");
    let plan =
        Plan { engine, seed: turn + 1, steps: STEPS, faults: profile, servers: None, groups };
    (Schedule::draw(&plan), faults)
}

/// What is said of a run with this planted.
fn said(schedule: &Schedule, bug: Option<Bug>) -> Option<String> {
    plant(bug);
    let played = play(schedule);
    plant(None);
    played.err().map(|failed| failed.violation.to_string())
}

/// A run with nothing planted of which something is said all the same.
fn wrong(schedule: &Schedule, faults: &str) -> Option<String> {
    let (engine, seed) = (schedule.engine, schedule.seed);
    said(schedule, None).map(|said| format!("{engine}, seed {seed}, {faults}: {said}"))
}

/// Prints a line of the table.
fn print(bug: &str, [engine, faults]: [&str; 2], [seeds, seconds, said]: [&str; 3]) {
    let said: String = said.lines().next().unwrap_or_default().chars().take(120).collect();
    println!("{bug:<27} {engine:<6} {faults:<30} {seeds:>5} {seconds:>6}  {said}");
}

#[test]
#[expect(clippy::disallowed_methods, reason = "how long a search takes is measured")]
fn every_planted_error_is_found() {
    let _alone = ONE_AT_A_TIME.lock();
    let seconds = env::var("QUORATE_PLANTED_SECONDS").ok();
    let budget = seconds.map_or(BUDGET, |text| {
        Duration::from_secs(text.parse().expect("QUORATE_PLANTED_SECONDS is a number"))
    });
    let bugs: Vec<Bug> = match env::var("QUORATE_PLANTED") {
        Ok(names) => names.split(',').map(|name| name.parse().expect("its name")).collect(),
        Err(_) => Bug::ALL.to_vec(),
    };
    let turns = seeds(CLEAN).into_iter().map(|seed| seed.saturating_sub(1));
    let clean = turns.flat_map(|turn| {
        let groups = if turn % 4 == 3 { 2 } else { 0 };
        ENGINES.map(|engine| draw(engine, turn, groups))
    });
    let mut wrongs: Vec<String> = clean.filter_map(|(run, faults)| wrong(&run, faults)).collect();
    let mut missed = vec![];
    print("error", ["engine", "faults"], ["seeds", "s", "said"]);
    for bug in bugs {
        let begun = Instant::now();
        let engines = engines(bug);
        let mut seeds = 0;
        let found = loop {
            if begun.elapsed() >= budget {
                break None;
            }
            let turn = seeds / engines.len() as u64;
            let engine = engines[seeds as usize % engines.len()];
            let (schedule, faults) = draw(engine, turn, groups(bug, turn));
            seeds += 1;
            let Some(said) = said(&schedule, Some(bug)) else { continue };
            // It must be the planted error that shows.
            match wrong(&schedule, faults) {
                None => break Some((schedule.engine, faults, said)),
                Some(wrong) => wrongs.push(wrong),
            }
        };
        let (seeds, seconds) = (seeds.to_string(), format!("{:.1}", begun.elapsed().as_secs_f64()));
        match found {
            Some((engine, faults, said)) => {
                let under = [&engine.to_string(), faults];
                print(bug.name(), under, [&seeds, &seconds, &said]);
            }
            None => {
                print(bug.name(), ["", ""], [&seeds, &seconds, "NOTHING"]);
                missed.push(bug.name());
            }
        }
    }
    assert!(wrongs.is_empty(), "found with nothing planted:\n{}", wrongs.join("\n"));
    assert!(missed.is_empty(), "not found: {}", missed.join(", "));
}

/// A run that shows an error is made short, and stays one that shows it: as data, in its JSON, drawn.
#[test]
fn a_run_that_shows_an_error_is_made_short() {
    let _alone = ONE_AT_A_TIME.lock();
    for bug in [Bug::PromiseNotRecorded, Bug::VoteNotRecorded, Bug::DuplicatesApplied] {
        let engine = engines(bug)[0];
        let mut runs = (0..).map(|turn| draw(engine, turn, 0).0);
        let long = runs.find(|run| said(run, Some(bug)).is_some()).expect("some turn shows it");
        plant(Some(bug));
        let failed = play(&long).expect_err("one schedule is one run");
        let rule = failed.violation.rule;
        let mut attempts = 0;
        let short = shrink(&long, &rule, |_| {
            attempts += 1;
            true
        });
        let again = Schedule::parse(&short.to_json()).expect("what is written can be read");
        let (played, lines) = play_traced(&again);
        plant(None);
        assert_eq!(played.expect_err("it still fails").violation.rule, rule, "{}", bug.name());
        let (before, after) = (long.steps.len(), short.steps.len());
        println!("{}: {rule} with {after} of {before} steps, {attempts} attempts", bug.name());
        assert!(after <= before / 5, "{after} of {before} steps are left");
        let drawn = transcript(&lines, short.servers, 10_000);
        assert!(drawn.contains(&format!("VIOLATION {rule}")), "{drawn}");
        assert!(play(&again).is_ok(), "without the error nothing is wrong");
    }
}
