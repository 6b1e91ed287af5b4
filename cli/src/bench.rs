//! `quorate bench`: throughput and latency, as clients see them.
//!
//! A closed loop on one thread: the load generator often shares the machine with what it measures,
//! and each batch costs it one write and one read.

mod client;
mod history;
mod plan;
mod progress;
mod report;

use std::cell::RefCell;
use std::path::PathBuf;
use std::rc::Rc;
use std::time::Duration;

use bytes::BytesMut;
use clap::Args as ClapArgs;
use quorate_gateway::resp::Value;
use quorate_gateway::resp::client::{AnswerDecoder, encode_command};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::task::{JoinSet, LocalSet};

use self::client::Shared;
use self::history::History;
use self::plan::{Load, Source, key};
use self::report::{Report, Tally};
use crate::exit::{Done, Failure, Kind as Exit};
use crate::{clock, output};

/// How long answers may take that are still missing when the time is over.
const GRACE: Duration = Duration::from_secs(12);
/// How many keys are written at a time before anything is measured.
const FILL: u64 = 256;

/// `quorate bench`.
#[derive(Debug, ClapArgs)]
pub(crate) struct Args {
    /// Nodes to ask, separated by commas or the option repeated; the clients spread over them
    #[arg(long, value_name = "HOST:PORT", value_delimiter = ',', default_value = "127.0.0.1:7001")]
    node: Vec<String>,
    /// Operations that each client asks at once
    #[arg(long, value_name = "N", default_value_t = 1)]
    #[arg(value_parser = clap::value_parser!(u16).range(1..=10_000))]
    pipeline: u16,
    /// Write down every invocation and completion, as JSON lines that can be judged
    #[arg(long, value_name = "FILE")]
    history: Option<PathBuf>,
    #[command(flatten)]
    load: Load,
}

/// Runs `quorate bench`.
pub(crate) fn run(args: Args) -> Done {
    let json = args.load.json;
    let report = measure(args).map_err(|failure| failure.in_json(json))?;
    let text = if json { report.to_json().to_string() } else { report.to_text() };
    let _ = output::say(text.trim_end());
    match report.nothing_done() {
        Some(_) if json => Err(Failure::new(Exit::Unreachable, "").silent()),
        Some(text) => Err(Failure::new(Exit::Unreachable, text)),
        None => Ok(()),
    }
}

fn measure(args: Args) -> Result<Report, Failure> {
    let Args { node: nodes, pipeline, history, load } = args;
    if history.is_some() && load.fill {
        return Err(Failure::usage("--fill is not for --history: its keys begin as absent ones"));
    }
    let history = history.map(|path| History::create(&path)).transpose().map_err(Failure::usage)?;
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    let runtime = runtime.map_err(|error| Failure::new(Exit::Refused, error.to_string()))?;
    LocalSet::new().block_on(&runtime, async move {
        if load.fill {
            fill(&nodes[0], &load).await.map_err(|text| Failure::new(Exit::Unreachable, text))?;
        }
        let from = clock::now() + load.warmed();
        let until = from + load.measured();
        let tally = Rc::new(RefCell::new(Tally::new(from, until)));
        let history = history.map(RefCell::new);
        let shared = Rc::new(Shared { nodes, load, pipeline, tally: tally.clone(), history });
        let progress = tokio::task::spawn_local(progress::show(tally.clone(), shared.load.clone()));
        let mut clients = JoinSet::new();
        for number in 0..shared.load.clients {
            clients.spawn_local(client::run(shared.clone(), number.into()));
        }
        let all = async { while clients.join_next().await.is_some() {} };
        let is_over = tokio::time::timeout_at((until + GRACE).into(), all).await.is_ok();
        progress.abort();
        let _ = progress.await;
        if !is_over {
            let mut tally = tally.borrow_mut();
            (0..clients.len()).for_each(|_| tally.record_error("no answer"));
        }
        clients.shutdown().await;
        let shared = Rc::into_inner(shared).expect("the clients are gone");
        let finished = shared.history.map_or(Ok(()), |history| history.into_inner().finish());
        finished.map_err(|text| Failure::new(Exit::Refused, text))?;
        drop(shared.tally);
        let tally = Rc::into_inner(tally).expect("nobody counts any more").into_inner();
        Ok(tally.report("quorate", &shared.load, pipeline))
    })
}

/// Writes every key once.
async fn fill(node: &str, load: &Load) -> Result<(), String> {
    let failed = |error: std::io::Error| format!("{node} cannot be filled: {error}");
    let mut stream = TcpStream::connect(node).await.map_err(failed)?;
    let mut decoder = AnswerDecoder::new();
    let mut out = BytesMut::new();
    let mut source = Source::new(load, u64::MAX);
    for first in (0..load.keys).step_by(FILL as usize) {
        out.clear();
        let batch = first..load.keys.min(first + FILL);
        for number in batch.clone() {
            encode_command(&[&b"SET"[..], &key(number), source.value()], &mut out);
        }
        stream.write_all(&out).await.map_err(failed)?;
        let mut missing = batch.end - batch.start;
        while missing > 0 {
            match decoder.decode().map_err(|error| error.to_string())? {
                Some(Value::Simple(_)) => missing -= 1,
                Some(Value::Error(text)) => {
                    return Err(format!("{node}: {}", String::from_utf8_lossy(&text)));
                }
                Some(other) => return Err(format!("{node} has answered {other:?} to SET")),
                None => {
                    let buffer = decoder.buffer();
                    buffer.reserve(4096);
                    if stream.read_buf(buffer).await.map_err(failed)? == 0 {
                        return Err(format!("{node} has closed the connection"));
                    }
                }
            }
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use clap::Parser;

    use super::*;

    #[derive(Debug, Parser)]
    struct Line {
        #[command(flatten)]
        args: Args,
    }

    #[test]
    fn nodes_come_in_lists_or_one_by_one() {
        let line = Line::try_parse_from(["bench", "--node", "a:1,b:2", "--node", "c:3"]).unwrap();
        assert_eq!(line.args.node, ["a:1", "b:2", "c:3"]);
        let line = Line::try_parse_from(["bench"]).unwrap();
        assert_eq!(line.args.node, ["127.0.0.1:7001"]);
    }
}
