//! `quorate check`: is a recorded history linearizable?

use std::fs::File;
use std::io::{self, BufReader, IsTerminal, Read, Write as _};
use std::path::{Path, PathBuf};
use std::time::Duration;

use clap::Args as ClapArgs;
use indicatif::{ProgressBar, ProgressStyle};
use quorate_history::{Budget, History, ReadError, Reason, Verdict, Window, check_watched, read};
use serde_json::{Value as Json, json};

use crate::clock;
use crate::exit::{Done, Failure, Kind};
use crate::output::{bytes, say, thousands};

/// What the exit codes mean, for --help.
pub(crate) const HELP: &str = "Exit codes: 0 linearizable; 1 violation: no order of the operations \
    explains what clients saw; 2 usage, or FILE is not a whole history; 3 unknown: no verdict \
    within --budget and --memory. The format of FILE: docs/history.md";

/// Steps that the judge may take per second of its budget: more than one core can, so that the time
/// decides, and few enough that one hard key does not use up the time of all others.
const STEPS_PER_SECOND: u64 = 10_000_000;
/// What one dead end that is remembered takes, at most.
const CONFIGURATION_BYTES: u64 = 43;
/// How often the bar moves.
const BAR: Duration = Duration::from_millis(100);

/// `quorate check`.
#[derive(Debug, ClapArgs)]
pub(crate) struct Args {
    /// A history, as `quorate bench --history FILE` writes it
    file: PathBuf,
    /// Draw the smallest part that is wrong, if there is one, as a picture
    #[arg(long, value_name = "OUT")]
    svg: Option<PathBuf>,
    /// Longest time for the judgement, in seconds
    #[arg(long, value_name = "SECONDS", default_value_t = 60)]
    #[arg(value_parser = clap::value_parser!(u32).range(1..=1_000_000))]
    budget: u32,
    /// Most memory for what the judgement remembers of one key, in MiB; the history comes on top
    #[arg(long, value_name = "MIB", default_value_t = 256)]
    #[arg(value_parser = clap::value_parser!(u32).range(1..=1_000_000))]
    memory: u32,
    /// Answer in JSON
    #[arg(long)]
    json: bool,
}

/// Runs `quorate check`.
pub(crate) fn run(args: Args) -> Done {
    let json = args.json;
    judge(&args).map_err(|failure| failure.in_json(json))
}

fn judge(args: &Args) -> Done {
    let begun = clock::now();
    let history = load(&args.file)?;
    let operations = history.ops.len() as u64;
    if operations == 0 {
        let text = format!("{} holds no operation: nothing to judge", args.file.display());
        return Err(Failure::usage(text));
    }
    let verdict = watch(&history, args);
    let seconds = clock::now().duration_since(begun).as_secs_f64();
    let keys = history.keys() as u64;
    let counted =
        format!("{} operations on {} keys, {seconds:.1} s", thousands(operations), thousands(keys));
    let mut answer = json!({ "operations": operations, "keys": keys, "seconds": seconds });
    let (word, text, kind) = match &verdict {
        Verdict::Linearizable => ("linearizable", format!("linearizable: {counted}"), None),
        Verdict::Violation(window) => {
            answer["key"] = bytes(&window.key);
            answer["window"] = window_json(window);
            answer["text"] = json!(window.text());
            let text = format!("violation: {counted}\n\n{}", window.text());
            ("violation", text, Some(Kind::Refused))
        }
        Verdict::Unknown { key, reason } => {
            let advice = advice(*reason, args);
            answer["key"] = bytes(key);
            answer["reason"] = json!(reason.to_string());
            answer["advice"] = json!(advice);
            let key = key.escape_ascii();
            let text =
                format!("unknown: {counted}\nkey \"{key}\" has no verdict: {reason}; {advice}");
            ("unknown", text, Some(Kind::Unknown))
        }
    };
    answer["verdict"] = json!(word);
    let drawn = match (&verdict, &args.svg) {
        (Verdict::Violation(window), Some(path)) => draw(window, path),
        _ => Ok(()),
    };
    let said = if args.json { answer.to_string() } else { text };
    let _ = say(said.trim_end());
    if let Err(text) = drawn {
        // The verdict is said, and decides how we end.
        let _ = writeln!(io::stderr(), "quorate: {text}");
    }
    kind.map_or(Ok(()), |kind| Err(Failure::new(kind, "").silent()))
}

fn draw(window: &Window, path: &Path) -> Result<(), String> {
    std::fs::write(path, window.svg())
        .map_err(|error| format!("the picture {} cannot be written: {error}", path.display()))
}

/// What would help.
fn advice(reason: Reason, args: &Args) -> String {
    let values = "histories in which every value is written once are far easier to judge";
    match reason {
        Reason::Steps | Reason::Stopped => {
            format!("try --budget {}, or record less: {values}", u64::from(args.budget) * 10)
        }
        Reason::Configurations => {
            format!("try --memory {}, or record less: {values}", u64::from(args.memory) * 4)
        }
        Reason::Collision => "record again: another run has other values".into(),
    }
}

fn window_json(window: &Window) -> Json {
    let ops = window.ops.iter().enumerate().map(|(place, op)| {
        json!({
            "client": op.client,
            "operation": op.to_string(),
            "invoked": op.invoked,
            "returned": op.returned(),
            "culprit": place == window.culprit,
        })
    });
    let initial = window.initial.as_ref();
    let initial =
        initial.map(|(value, version)| json!({"value": bytes(value), "version": version}));
    json!({ "initial": initial, "operations": ops.collect::<Vec<_>>() })
}

/// A bar on a terminal, nothing elsewhere.
fn bar(of: u64, what: &'static str) -> ProgressBar {
    if !io::stderr().is_terminal() {
        return ProgressBar::hidden();
    }
    let bar = ProgressBar::new(of);
    // The one style there is; were it wrong, the usual one would be shown.
    if let Ok(style) = ProgressStyle::with_template("{msg:8} {bar:30} {percent}% {elapsed}") {
        bar.set_style(style);
    }
    bar.set_message(what);
    bar
}

fn load(path: &Path) -> Result<History, Failure> {
    let name = path.display();
    let unreadable = |error: io::Error| {
        Failure::usage(format!("{name} cannot be read: {error}; give the path of a history"))
    };
    let file = File::open(path).map_err(unreadable)?;
    let meta = file.metadata().map_err(unreadable)?;
    if meta.is_dir() {
        return Err(Failure::usage(format!("{name} is a directory; give the path of a history")));
    }
    let bar = bar(meta.len(), "reading");
    let counted = Counted { file, bar: bar.clone() };
    let history = read(BufReader::with_capacity(1 << 20, counted));
    bar.finish_and_clear();
    history.map_err(|error| Failure::usage(explain(&name.to_string(), &error)))
}

/// What is wrong with a file, and what to do.
fn explain(name: &str, error: &ReadError) -> String {
    match error {
        ReadError::CutOff { line } if *line > 1 => format!(
            "{name} is cut off in line {line}: whoever wrote it was interrupted. What stands \
             before is a history: head -n {} {name}",
            line - 1
        ),
        ReadError::Io { source, .. } => format!("{name} cannot be read on: {source}"),
        ReadError::CutOff { line: 1 } | ReadError::Malformed { line: 1, .. } => {
            format!("{name} is not a history: {error} (docs/history.md shows what is)")
        }
        _ => format!(
            "{name} is damaged: {error} (docs/history.md shows how a line looks); nothing was judged"
        ),
    }
}

/// A file, and how far it has been read.
struct Counted {
    file: File,
    bar: ProgressBar,
}

impl Read for Counted {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let count = self.file.read(buffer)?;
        self.bar.inc(count as u64);
        Ok(count)
    }
}

/// Judges, within the budget.
fn watch(history: &History, args: &Args) -> Verdict {
    let seconds = u64::from(args.budget);
    let configurations = u64::from(args.memory) * (1 << 20) / CONFIGURATION_BYTES;
    let budget = Budget {
        steps: seconds * STEPS_PER_SECOND,
        configurations: usize::try_from(configurations).unwrap_or(usize::MAX),
    };
    let until = clock::now() + Duration::from_secs(seconds);
    let (mut shown, mut bar) = (clock::now(), None);
    let verdict = check_watched(history, budget, &mut |progress| {
        let now = clock::now();
        if now.duration_since(shown) >= BAR {
            shown = now;
            let bar = bar.get_or_insert_with(|| self::bar(progress.keys as u64, "judging"));
            bar.set_position(progress.keys_seen as u64);
        }
        now < until
    });
    if let Some(bar) = bar {
        bar.finish_and_clear();
    }
    verdict
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_wrong_with_a_file_is_said_with_what_to_do() {
        let malformed =
            |line| ReadError::Malformed { line, problem: "client 1 never invoked op 1".into() };
        for (error, words) in [
            (malformed(1), &["f is not a history", "line 1", "docs/history.md"][..]),
            (malformed(7), &["f is damaged", "line 7", "never invoked", "nothing was judged"]),
            (ReadError::CutOff { line: 1 }, &["f is not a history"]),
            (ReadError::CutOff { line: 9 }, &["cut off in line 9", "head -n 8 f"]),
            (ReadError::TooLong { line: 3 }, &["f is damaged", "line 3", "longer than"]),
        ] {
            let text = explain("f", &error);
            for word in words {
                assert!(text.contains(word), "`{word}` is missing in: {text}");
            }
        }
    }
}
