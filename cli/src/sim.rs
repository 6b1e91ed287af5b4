//! `quorate sim`: whole clusters in virtual time, in which anything may fail.

use std::{
    collections::BTreeMap,
    fs,
    io::{self, IsTerminal, Write as _},
    path::{Path, PathBuf},
    sync::atomic::{AtomicU64, Ordering::Relaxed},
    time::Duration,
};

use clap::{ArgGroup, Args as ClapArgs};
use quorate_node::config::Engine;
use quorate_sim::chaos::{
    Failed, Plan, Played, Profile, Schedule, play, play_traced, shrink, transcript,
};
use serde_json::json;

use crate::clock;
use crate::exit::{Done, Failure, Kind};
use crate::output::{say, thousands};

/// What the exit codes mean, for --help.
pub(crate) const HELP: &str = "Exit codes: 0 no violation; 1 violation: what to do next is said; \
    2 usage, or FILE is not a schedule. docs/testing.md explains the faults, the rules that are \
    held, and how to go on from a violation";

/// How long a failing run is made shorter.
const SHRINK: Duration = Duration::from_secs(120);
/// How many lines of a transcript are drawn.
const TRANSCRIPT_LINES: usize = 400;
/// How often the line of a soak is written.
const PROGRESS: Duration = Duration::from_millis(500);

/// `quorate sim`.
#[derive(Debug, ClapArgs)]
#[command(group = ArgGroup::new("what").args(["soak", "replay", "seeds"]))]
pub(crate) struct Args {
    /// Only this engine: paxos or raft; a soak takes both in turn, everything else paxos
    #[arg(long)]
    engine: Option<Engine>,
    /// The seed of the run, or the first of several
    #[arg(long, default_value_t = 1)]
    seed: u64,
    /// Operations and faults of a run, together
    #[arg(long, default_value_t = 400)]
    #[arg(value_parser = clap::value_parser!(u32).range(1..=1_000_000))]
    steps: u32,
    /// What may fail
    #[arg(long, value_name = "PROFILE", default_value = "swarm", help = faults_help())]
    faults: Profile,
    /// Servers; three or five by seed, if not said
    #[arg(long, value_parser = clap::value_parser!(u32).range(1..=9))]
    servers: Option<u32>,
    /// Groups that the store is divided among; 0: it is not. A soak divides every third, if not said
    #[arg(long, value_parser = clap::value_parser!(u32).range(0..=16))]
    groups: Option<u32>,
    /// Run one seed after the other for so long, until one fails
    #[arg(long, value_name = "MINUTES", value_parser = minutes)]
    soak: Option<Duration>,
    /// Run so many seeds
    #[arg(long, value_name = "COUNT", value_parser = clap::value_parser!(u64).range(1..))]
    seeds: Option<u64>,
    /// Threads that a soak takes; all there are, if not said
    #[arg(long, value_parser = clap::value_parser!(u32).range(1..=1024))]
    jobs: Option<u32>,
    /// Run the schedule in FILE, as a failed run has left it
    #[arg(long, value_name = "FILE")]
    replay: Option<PathBuf>,
    /// Write what happens in the run, every message, into FILE
    #[arg(long, value_name = "FILE")]
    trace: Option<PathBuf>,
    /// Where the files of a failed run go
    #[arg(long, value_name = "DIR", default_value = ".")]
    out: PathBuf,
    /// Answer in JSON
    #[arg(long)]
    json: bool,
}

fn faults_help() -> String {
    format!("What may fail: {}", Profile::HELP)
}

fn minutes(text: &str) -> Result<Duration, String> {
    let minutes: f64 = text.parse().map_err(|_| "write a number of minutes".to_string())?;
    if !(minutes > 0.0 && minutes <= 1e6) {
        return Err("write a number of minutes above 0, and at most a million".into());
    }
    Ok(Duration::from_secs_f64(minutes * 60.0))
}

/// Runs `quorate sim`.
pub(crate) fn run(args: Args) -> Done {
    let json = args.json;
    let done = match (&args.replay, args.soak.is_some() || args.seeds.is_some()) {
        (Some(path), _) => replay(&args, path),
        (None, true) => soak(&args),
        (None, false) => once(&args),
    };
    done.map_err(|failure| failure.in_json(json))
}

fn plan(args: &Args, engine: Engine, seed: u64) -> Plan {
    let (steps, faults) = (args.steps as usize, args.faults.clone());
    let several = args.soak.is_some() || args.seeds.is_some();
    let by_seed = if several && seed.is_multiple_of(3) { 3 } else { 0 };
    let groups = args.groups.unwrap_or(by_seed);
    Plan { engine, seed, steps, faults, servers: args.servers, groups }
}

fn once(args: &Args) -> Done {
    let engine = args.engine.unwrap_or_default();
    let schedule = Schedule::draw(&plan(args, engine, args.seed));
    one(args, &schedule, &format!("seed {} on {engine}", args.seed))
}

fn replay(args: &Args, path: &Path) -> Done {
    let name = path.display();
    let text = fs::read_to_string(path)
        .map_err(|error| Failure::usage(format!("{name} cannot be read: {error}")))?;
    let schedule = Schedule::parse(&text)
        .map_err(|error| Failure::usage(format!("{name}: {error}; nothing was run")))?;
    one(args, &schedule, &name.to_string())
}

/// One run, and what there is to say of it.
fn one(args: &Args, schedule: &Schedule, name: &str) -> Done {
    let begun = clock::now();
    let (played, lines) = match &args.trace {
        Some(_) => play_traced(schedule),
        None => (play(schedule), vec![]),
    };
    let took = clock::now().duration_since(begun);
    if let Some(path) = &args.trace {
        let mut text = String::new();
        for line in &lines {
            text += &format!("{line}\n");
        }
        write(path, &text)?;
    }
    match played {
        Ok(played) => {
            let said = match args.json {
                true => story(&played, took).to_string(),
                false => format!("{name}: {}", sentence(&played, took)),
            };
            let _ = say(&said);
            Ok(())
        }
        Err(failed) => Err(report(args, schedule, &failed, name)),
    }
}

fn story(played: &Played, took: Duration) -> serde_json::Value {
    json!({
        "verdict": "no violation",
        "answered": played.answered,
        "unanswered": played.unanswered,
        "faults": played.faults,
        "simulated_seconds": played.simulated.as_secs_f64(),
        "seconds": took.as_secs_f64(),
        "events": played.events,
        "trace": format!("{:016x}", played.hash),
    })
}

fn sentence(played: &Played, took: Duration) -> String {
    format!(
        "no violation; {} operations, {} faults, {:.1} simulated s in {:.2} s\ntrace {:016x} of {} events",
        thousands(played.answered),
        thousands(played.faults),
        played.simulated.as_secs_f64(),
        took.as_secs_f64(),
        played.hash,
        thousands(played.events),
    )
}

/// What all runs of a soak have done together.
#[derive(Default)]
struct Sum {
    runs: AtomicU64,
    answered: AtomicU64,
    faults: AtomicU64,
    simulated_ms: AtomicU64,
}

impl Sum {
    fn add(&self, played: &Played) {
        self.runs.fetch_add(1, Relaxed);
        self.answered.fetch_add(played.answered, Relaxed);
        self.faults.fetch_add(played.faults, Relaxed);
        self.simulated_ms.fetch_add(played.simulated.as_millis() as u64, Relaxed);
    }

    fn json(&self, took: Duration, jobs: u32) -> serde_json::Value {
        let (runs, simulated) =
            (self.runs.load(Relaxed), self.simulated_ms.load(Relaxed) as f64 / 1e3);
        json!({
            "seeds": runs,
            "operations": self.answered.load(Relaxed),
            "faults": self.faults.load(Relaxed),
            "seconds": took.as_secs_f64(),
            "jobs": jobs,
            "seeds_per_second": runs as f64 / took.as_secs_f64(),
            "simulated_seconds": simulated,
            "simulated_per_second_and_core": simulated / took.as_secs_f64() / f64::from(jobs),
        })
    }

    fn text(&self, took: Duration, jobs: u32) -> String {
        let seconds = took.as_secs_f64().max(0.001);
        let (runs, simulated) =
            (self.runs.load(Relaxed), self.simulated_ms.load(Relaxed) as f64 / 1e3);
        format!(
            "{} seeds, {} operations, {} faults in {seconds:.0} s: {:.1} seeds/s, {:.0} simulated s \
             per second and core",
            thousands(runs),
            thousands(self.answered.load(Relaxed)),
            thousands(self.faults.load(Relaxed)),
            runs as f64 / seconds,
            simulated / seconds / f64::from(jobs),
        )
    }
}

fn soak(args: &Args) -> Done {
    let cores = std::thread::available_parallelism().map_or(1, |cores| cores.get() as u32);
    let jobs = args.jobs.unwrap_or(cores);
    let engines: Vec<Engine> = args.engine.map_or(Engine::ALL.to_vec(), |engine| vec![engine]);
    let (begun, sum, next) = (clock::now(), Sum::default(), AtomicU64::new(0));
    let runs_max = args.seeds.map(|seeds| seeds * engines.len() as u64);
    let failed = std::sync::Mutex::new(None::<(Schedule, Failed)>);
    let is_over = |run: u64| {
        let late = args.soak.is_some_and(|soak| clock::now().duration_since(begun) >= soak);
        let found = failed.lock().map_or(true, |failed| failed.is_some());
        late || found || runs_max.is_some_and(|max| run >= max)
    };
    std::thread::scope(|scope| {
        let work = || loop {
            let run = next.fetch_add(1, Relaxed);
            if is_over(run) {
                return;
            }
            // Each seed with each engine, in turn.
            let engine = engines[(run % engines.len() as u64) as usize];
            let seed = args.seed + run / engines.len() as u64;
            let schedule = Schedule::draw(&plan(args, engine, seed));
            match play(&schedule) {
                Ok(played) => sum.add(&played),
                Err(found) => {
                    if let Ok(mut failed) = failed.lock() {
                        failed.get_or_insert((schedule, found));
                    }
                }
            }
        };
        let workers: Vec<_> = (0..jobs).map(|_| scope.spawn(work)).collect();
        let is_terminal = io::stderr().is_terminal();
        let mut said = clock::now();
        while workers.iter().any(|worker| !worker.is_finished()) {
            clock::pause(Duration::from_millis(20));
            // A log gets a line now and then, a terminal one that moves.
            let pause = if is_terminal { PROGRESS } else { 60 * PROGRESS };
            if clock::now().duration_since(said) >= pause {
                said = clock::now();
                let (front, end) = if is_terminal { ("\r\x1b[K", "") } else { ("", "\n") };
                let text = sum.text(clock::now().duration_since(begun), jobs);
                let _ = write!(io::stderr(), "{front}{text}{end}");
            }
        }
        if is_terminal {
            let _ = write!(io::stderr(), "\r\x1b[K");
        }
    });
    let took = clock::now().duration_since(begun);
    let found = failed.into_inner().unwrap_or_else(|poisoned| poisoned.into_inner());
    if let Some((schedule, failed)) = found {
        let name = format!("seed {} on {}", schedule.seed, schedule.engine);
        return Err(report(args, &schedule, &failed, &name));
    }
    let engines = engines.iter().map(ToString::to_string).collect::<Vec<_>>().join(" and ");
    let said = match args.json {
        true => {
            let mut story = sum.json(took, jobs);
            story["verdict"] = json!("no violation");
            story.to_string()
        }
        false => format!("{engines}: no violation; {}", sum.text(took, jobs)),
    };
    let _ = say(&said);
    Ok(())
}

/// Says what is wrong, makes the run shorter, and leaves it for others.
fn report(args: &Args, schedule: &Schedule, failed: &Failed, name: &str) -> Failure {
    let rule = failed.violation.rule.clone();
    let at = failed.at.as_secs_f64();
    let mut text = format!("{name}: VIOLATION after {at:.3} simulated s\n{}\n", failed.violation);
    if args.replay.is_none() {
        text += &format!("replay: {}\n", command(args, schedule));
    }
    let begun = clock::now();
    let is_terminal = io::stderr().is_terminal();
    let short = shrink(schedule, &rule, |left| {
        if is_terminal {
            let _ = write!(io::stderr(), "\r\x1b[Kshrinking: {left} steps");
        }
        clock::now().duration_since(begun) < SHRINK
    });
    if is_terminal {
        let _ = write!(io::stderr(), "\r\x1b[K");
    }
    let (played, lines) = play_traced(&short);
    let violation = match played {
        Err(failed) => failed.violation.to_string(),
        Ok(_) => failed.violation.to_string(),
    };
    let stem = format!("sim-{}-{}-{rule}", schedule.engine, schedule.seed);
    let (file, drawing) =
        (args.out.join(format!("{stem}.json")), args.out.join(format!("{stem}.txt")));
    let drawn = transcript(&lines, short.servers, TRANSCRIPT_LINES);
    let story = format!("{violation}\n\n{drawn}");
    let saved = write(&file, &short.to_json()).and_then(|()| write(&drawing, &story));
    text += &format!(
        "{} of {} steps suffice, {} of them faults\n",
        short.steps.len(),
        schedule.steps.len(),
        short.faults()
    );
    text += &match &saved {
        Ok(()) => format!(
            "they are in {}; what happens in them, in space and time, is in {}\n\
             replay: quorate sim --replay {}",
            file.display(),
            drawing.display(),
            file.display()
        ),
        Err(failure) => failure.text.clone(),
    };
    if args.json {
        let story = json!({
            "verdict": "violation",
            "rule": rule,
            "violation": violation,
            "engine": schedule.engine.to_string(),
            "seed": schedule.seed,
            "steps": short.steps.len(),
            "schedule": file,
            "transcript": drawing,
        });
        let _ = say(&story.to_string());
    } else {
        let _ = say(&text);
    }
    Failure::new(Kind::Refused, "").silent()
}

/// The command that runs it again.
fn command(args: &Args, schedule: &Schedule) -> String {
    let options: BTreeMap<&str, String> = BTreeMap::from([
        ("--engine", schedule.engine.to_string()),
        ("--seed", schedule.seed.to_string()),
        ("--steps", args.steps.to_string()),
    ]);
    let mut words = vec!["quorate sim".to_string()];
    words.extend(options.iter().map(|(name, value)| format!("{name} {value}")));
    words.push(format!("--faults {}", args.faults));
    words.extend(args.servers.map(|servers| format!("--servers {servers}")));
    words.join(" ")
}

fn write(path: &Path, text: &str) -> Done {
    fs::write(path, text).map_err(|error| {
        Failure::usage(format!("{} cannot be written: {error}; see --out", path.display()))
    })
}
