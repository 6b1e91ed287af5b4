//! Clusters in which anything may fail, as `quorate sim` runs them: the network, the processes, the
//! disks, the clocks and the clients. `docs/testing.md` says how to go on from a failure.

use std::{collections::BTreeSet, fs, path::Path, process::Command, time::Duration};

use quorate_node::config::Engine;
use quorate_protocol::{NodeId, Role};
use quorate_sim::{
    chaos::{
        Fault, Kind, Plan, Profile, Schedule, play, play_traced, schedule::Action, transcript,
    },
    for_each_seed,
};

fn plan(engine: Engine, seed: u64, faults: &str) -> Plan {
    let faults = faults.parse().expect("a profile");
    Plan { engine, seed, steps: 300, faults, servers: None, groups: 0 }
}

fn swarm(engine: Engine) {
    for_each_seed(&format!("chaos on {engine}"), 100, |seed| {
        if let Err(failed) = play(&Schedule::draw(&plan(engine, seed, "swarm"))) {
            panic!("after {:?}: {}", failed.at, failed.violation);
        }
    });
}

/// Multi-Paxos.
#[test]
fn swarm_of_faults_on_paxos() {
    swarm(Engine::Paxos);
}

/// Raft.
#[test]
fn swarm_of_faults_on_raft() {
    swarm(Engine::Raft);
}

fn divided(engine: Engine) {
    for_each_seed(&format!("chaos of groups on {engine}"), 60, |seed| {
        let groups = 2 + (seed % 3) as u32;
        if let Err(failed) = play(&Schedule::draw(&Plan { groups, ..plan(engine, seed, "swarm") }))
        {
            panic!("after {:?}: {}", failed.at, failed.violation);
        }
    });
}

/// Groups that join and leave and shards that move, meanwhile; Multi-Paxos.
#[test]
fn swarm_of_faults_on_groups_of_paxos() {
    divided(Engine::Paxos);
}

/// The same on Raft.
#[test]
fn swarm_of_faults_on_groups_of_raft() {
    divided(Engine::Raft);
}

/// Each kind of fault by itself, and all together.
#[test]
fn every_profile_on_both_engines() {
    let kinds = Profile::HELP.rsplit_once("any of ").expect("the help names them").1;
    let kinds = kinds.split(',').map(str::trim).take_while(|word| !word.starts_with("with"));
    let mut profiles: Vec<&str> = kinds.map(|kind| kind.trim_end_matches(" with")).collect();
    assert!(profiles.len() >= 18, "{profiles:?}");
    profiles.extend(["all", "none", "network", "process", "disk"]);
    for engine in Engine::ALL {
        for profile in &profiles {
            // Nobody is taken in again on Paxos yet (ARCHITECTURE.md, What is not there yet).
            if (engine, *profile) == (Engine::Paxos, "wipes") {
                continue;
            }
            // Where clients have no sessions, nothing is sent twice.
            let mut drawn = (1..).map(|seed| Schedule::draw(&plan(engine, seed, profile)));
            let all = |schedule: &Schedule| schedule.clients.iter().all(|session| *session);
            let schedule = drawn.find(all).expect("some seed has only sessions");
            let played = play(&schedule);
            let played = played.unwrap_or_else(|failed| panic!("{profile}: {}", failed.violation));
            assert!(played.answered > 100, "{profile} on {engine}: {played:?}");
            assert_eq!(*profile == "none", schedule.faults() == 0, "{profile}");
            assert_eq!(played.faults == 0, schedule.faults() == 0, "{profile}: {played:?}");
        }
    }
}

/// Runs that once broke a rule.
#[test]
fn what_failed_once_does_not_fail_again() {
    let dir = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/regressions");
    let mut played = 0;
    for file in fs::read_dir(&dir).expect("the directory is there") {
        let path = file.expect("it can be listed").path();
        let name = path.display();
        let text = fs::read_to_string(&path).expect("it can be read");
        let schedule = Schedule::parse(&text).unwrap_or_else(|error| panic!("{name}: {error}"));
        if let Err(failed) = play(&schedule) {
            panic!("{name}: {} after {:?}", failed.violation, failed.at);
        }
        played += 1;
    }
    assert!(played >= 4, "only {played} schedules are in {}", dir.display());
}

/// A schedule survives its JSON, and what is none is refused with a word about why.
#[test]
fn schedules_are_written_and_read() {
    for engine in Engine::ALL {
        let mut kinds = BTreeSet::new();
        for seed in 1..=9 {
            let schedule = Schedule::draw(&plan(engine, seed, "all"));
            assert_eq!(schedule.steps.len(), 300);
            assert_eq!(Schedule::parse(&schedule.to_json()), Ok(schedule.clone()));
            kinds.extend(schedule.steps.iter().filter_map(|step| match &step.action {
                Action::Fault(fault) => fault.to_string().split(' ').next().map(str::to_string),
                Action::Ask(_) | Action::Change(_) => None,
            }));
        }
        assert!(kinds.len() > 10, "{} kinds", kinds.len());
    }
    let drawn = |seed| Schedule::draw(&plan(Engine::Paxos, seed, "all")).to_json();
    let good = (7..).map(drawn).find(|text| text.contains("\"node\":1")).expect("some seed has n1");
    let refused = |from: &str, to: &str| {
        assert!(good.contains(from), "{from}");
        Schedule::parse(&good.replacen(from, to, 1)).expect_err(to).to_string()
    };
    assert!(refused("\"format\":1", "\"format\":2").contains("format 2"));
    assert!(refused("\"engine\":\"paxos\"", "\"engine\":\"zab\"").contains("zab"));
    assert!(refused("\"keys\":", "\"keys\":0,\"kez\":").contains("kez"));
    assert!(refused("\"client\":0", "\"client\":99").contains("99 as a client"));
    assert!(refused("\"node\":1", "\"node\":77").contains("77 as a server"));
    assert!(refused("\"at_ms\":", "\"at_ms\":99999999").contains("step"));
    let mut big = Schedule::parse(&good).expect("it was good");
    big.servers = 1_000_000;
    assert!(Schedule::parse(&big.to_json()).is_err());
    for text in ["", "{", "[]", "null", "\u{0}", &"[".repeat(100_000)] {
        assert!(Schedule::parse(text).is_err());
    }
}

/// Any part of a schedule is a schedule.
#[test]
fn any_steps_may_be_left_out() {
    for engine in Engine::ALL {
        let whole = Schedule::draw(&plan(engine, 11, "all"));
        for keep in [2, 3, 5] {
            let mut part = whole.clone();
            let mut place = 0;
            part.steps.retain(|_| {
                place += 1;
                place % keep == 0
            });
            if let Err(failed) = play(&part) {
                panic!("{keep} on {engine}: {}", failed.violation);
            }
        }
    }
}

/// What happens is drawn: nodes side by side, messages between them, and what fails.
#[test]
fn a_transcript_shows_space_and_time() {
    let mut schedule = Schedule::draw(&Plan { servers: Some(3), ..plan(Engine::Paxos, 1, "none") });
    schedule.steps.truncate(4);
    let fault = Fault::Power { nodes: vec![NodeId(2)], down_ms: 50 };
    schedule.steps.push(quorate_sim::chaos::Step {
        at_ms: schedule.steps[3].at_ms + 400,
        action: Action::Fault(fault),
    });
    let (played, lines) = play_traced(&schedule);
    assert!(played.is_ok());
    let drawn = transcript(&lines, 3, 10_000);
    println!("{drawn}");
    let head = drawn.lines().next().expect("a headline");
    assert!(head.contains("n1     n2     n3     c1"), "{head}");
    let kill = drawn.lines().find(|line| line.ends_with("kill n2")).expect("the kill is shown");
    assert!(kill.contains("│      ╳      │"), "{kill}");
    assert!(drawn.lines().any(|line| line.contains("<──────o") && line.contains("Accept ")));
    let at = |line: &&str| line.split_whitespace().next().map(str::to_string);
    let times: Vec<f64> =
        drawn.lines().skip(1).filter_map(|line| at(&line)?.parse().ok()).collect();
    assert!(times.len() > 50 && times.is_sorted(), "time goes down");
    let short = transcript(&lines, 3, 20);
    assert!(short.lines().count() <= 22 && short.contains("lines are left out"), "{short}");
}

/// Names in `--faults`.
#[test]
fn profiles_are_read_and_said() {
    for text in ["swarm", "none", "loss", "cuts,crashes", "power,power-points,disk-errors"] {
        assert_eq!(text.parse::<Profile>().expect(text).to_string(), text);
    }
    let disk: Profile = "disk".parse().expect("a profile");
    let kinds =
        [Kind::Power, Kind::PowerPoints, Kind::DiskErrors, Kind::FullDisks, Kind::SlowDisks];
    let kinds = kinds.into_iter().chain([Kind::Wipes]);
    assert_eq!(disk, Profile::Kinds(kinds.collect()));
    let error = "loss,earthquake".parse::<Profile>().expect_err("there are none");
    assert!(error.contains("`earthquake`") && error.contains("slow-links"), "{error}");
}

fn sim(args: &[&str]) -> (i32, String, String) {
    let output = Command::new(env!("CARGO_BIN_EXE_quorate")).arg("sim").args(args).output();
    let output = output.expect("the binary runs");
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    (output.status.code().unwrap_or(-1), text(&output.stdout), text(&output.stderr))
}

/// Two processes, one seed: one trace. Another seed: another one.
#[test]
fn one_seed_is_one_run_in_every_process() {
    for engine in ["paxos", "raft"] {
        let hash = |seed: &str| {
            let (code, out, err) = sim(&["--engine", engine, "--seed", seed, "--json"]);
            assert_eq!((code, err.as_str()), (0, ""), "{out}");
            let story: serde_json::Value = serde_json::from_str(&out).expect("an answer in JSON");
            assert!(story["events"].as_u64().expect("a number") > 1000, "{out}");
            story["trace"].as_str().expect("a hash").to_string()
        };
        let first = hash("7");
        assert_eq!(first, hash("7"), "{engine}");
        assert_ne!(first, hash("8"), "{engine}");
    }
}

/// The command: a few seeds, a file that is none, words that mean nothing.
#[test]
fn the_command_says_what_it_did_and_what_is_wrong() {
    let (code, out, _) = sim(&["--seeds", "2", "--steps", "50", "--jobs", "1"]);
    assert!(code == 0 && out.contains("no violation; 4 seeds"), "{out}");
    let (code, _, err) = sim(&["--replay", "Cargo.toml"]);
    assert!(code == 2 && err.contains("Cargo.toml: not a schedule"), "{err}");
    let (code, _, err) = sim(&["--replay", "nowhere.json"]);
    assert!(code == 2 && err.contains("nowhere.json cannot be read"), "{err}");
    for wrong in [
        ["--faults", "earthquake"],
        ["--soak", "0"],
        ["--soak", "NaN"],
        ["--steps", "0"],
        ["--servers", "10"],
        ["--engine", "zab"],
    ] {
        let (code, _, err) = sim(&wrong);
        assert!(code == 2 && err.contains(wrong[1]), "{wrong:?}: {err}");
    }
    let (code, _, err) = sim(&["--soak", "1", "--replay", "x.json"]);
    assert!(code == 2 && err.contains("cannot be used with"), "{err}");
}

/// A fault that names an actor which the engine does not have harms nothing.
#[test]
fn a_crash_of_nobody_is_nothing() {
    let mut schedule = Schedule::draw(&plan(Engine::Raft, 5, "none"));
    for step in &mut schedule.steps {
        let (node, role) = (NodeId(1), Role::Acceptor);
        let mode = quorate_stage::CrashMode::Now;
        step.action = Action::Fault(Fault::Crash { node, role, mode });
    }
    let played = play(&schedule).expect("nothing happens");
    assert_eq!((played.faults, played.answered), (0, 0));
    assert!(played.simulated < Duration::from_secs(200));
}
