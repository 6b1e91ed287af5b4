//! `etcd-load`: the closed loop of `quorate bench`, against etcd. Same options, same keys, same
//! histogram, same JSON: plan, report and progress are the very files of the bench.

#[path = "../../../cli/src/clock.rs"]
#[allow(dead_code)]
mod clock;
mod etcd;
#[path = "../../../cli/src/output.rs"]
#[allow(dead_code)]
mod output;
#[path = "../../../cli/src/bench/plan.rs"]
mod plan;
#[path = "../../../cli/src/bench/progress.rs"]
mod progress;
#[path = "../../../cli/src/bench/report.rs"]
mod report;

use std::cell::RefCell;
use std::process::ExitCode;
use std::rc::Rc;
use std::time::Duration;

use clap::Parser;
use tokio::task::{JoinSet, LocalSet};
use tonic::Status;
use tonic::transport::{Channel, Endpoint};

use crate::etcd::{Etcd, Put, Range};
use crate::plan::{Kind, Load, Source, key};
use crate::report::{Report, Tally};

/// How long answers may take that are still missing when the time is over.
const GRACE: Duration = Duration::from_secs(12);
/// How many keys are under way at a time before anything is measured.
const FILL: u64 = 64;
/// How long a client waits after an error.
const PAUSE: Duration = Duration::from_millis(10);

/// The load of `quorate bench`, against etcd.
#[derive(Debug, Parser)]
struct Args {
    /// Members to ask, such as http://127.0.0.1:2379; the clients spread over them
    #[arg(long, value_name = "URL", value_delimiter = ',')]
    #[arg(default_value = "http://127.0.0.1:2379")]
    node: Vec<String>,
    /// HTTP/2 connections to each member, shared by its clients
    #[arg(long, value_name = "N", default_value_t = 1)]
    #[arg(value_parser = clap::value_parser!(u16).range(1..))]
    connections: u16,
    #[command(flatten)]
    load: Load,
}

fn main() -> ExitCode {
    let args = Args::parse();
    let json = args.load.json;
    let report = match measure(args) {
        Ok(report) => report,
        Err(text) => {
            eprintln!("etcd-load: {text}");
            return ExitCode::from(4);
        }
    };
    let text = if json { report.to_json().to_string() } else { report.to_text() };
    let _ = output::say(text.trim_end());
    match report.nothing_done() {
        Some(text) => {
            eprintln!("etcd-load: {text}");
            ExitCode::from(4)
        }
        None => ExitCode::SUCCESS,
    }
}

fn measure(args: Args) -> Result<Report, String> {
    let Args { node: nodes, connections, load } = args;
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    let runtime = runtime.map_err(|error| error.to_string())?;
    LocalSet::new().block_on(&runtime, async move {
        let mut members = Vec::new();
        for _ in 0..connections {
            for node in &nodes {
                members.push(Etcd::new(connect(node)?));
            }
        }
        if load.fill {
            fill(&members[0], &load).await?;
        }
        let from = clock::now() + load.warmed();
        let until = from + load.measured();
        let tally = Rc::new(RefCell::new(Tally::new(from, until)));
        let progress = tokio::task::spawn_local(progress::show(tally.clone(), load.clone()));
        let mut clients = JoinSet::new();
        for number in 0..u64::from(load.clients) {
            let source = Source::new(&load, number);
            clients.spawn_local(client(members.clone(), number, source, tally.clone()));
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
        let tally = Rc::into_inner(tally).expect("the clients are gone").into_inner();
        Ok(tally.report("etcd", &load, 1))
    })
}

fn connect(node: &str) -> Result<Channel, String> {
    let endpoint = Endpoint::from_shared(node.to_string()).map_err(|error| error.to_string())?;
    let endpoint = endpoint.tcp_nodelay(true).connect_timeout(Duration::from_secs(2));
    Ok(endpoint.connect_lazy())
}

/// One client, which goes on to the next member whenever one fails.
async fn client(members: Vec<Etcd>, number: u64, mut source: Source, tally: Rc<RefCell<Tally>>) {
    let until = tally.borrow().until();
    let mut turn = number as usize;
    let mut member = members[turn % members.len()].clone();
    loop {
        let begun = clock::now();
        if begun >= until {
            return;
        }
        let (kind, number) = source.operation();
        let done = once(&mut member, kind, number, &mut source).await;
        let ended = clock::now();
        match done {
            Ok(found) => {
                let mut tally = tally.borrow_mut();
                tally.record(kind, begun, ended);
                if !found {
                    tally.record_missing();
                }
            }
            Err(status) => {
                tally.borrow_mut().record_error(&format!("{:?}", status.code()));
                turn += 1;
                member = members[turn % members.len()].clone();
                tokio::time::sleep(PAUSE).await;
            }
        }
    }
}

/// Answers whether there was something to read.
async fn once(
    member: &mut Etcd,
    kind: Kind,
    number: u64,
    source: &mut Source,
) -> Result<bool, Status> {
    let key = key(number).to_vec();
    match kind {
        Kind::Put => {
            member.put(Put { key, value: source.value().to_vec() }).await?;
            Ok(true)
        }
        Kind::Get => {
            let found = member.range(Range { key }).await?;
            Ok(found.kvs.first().is_some_and(|found| !found.value.is_empty()))
        }
    }
}

/// Writes every key once.
async fn fill(member: &Etcd, load: &Load) -> Result<(), String> {
    let mut writers = JoinSet::new();
    for first in 0..FILL {
        let (mut member, keys) = (member.clone(), load.keys);
        let mut source = Source::new(load, u64::MAX - first);
        writers.spawn_local(async move {
            for number in (first..keys).step_by(FILL as usize) {
                let put = Put { key: key(number).to_vec(), value: source.value().to_vec() };
                member.put(put).await.map_err(|status| status.to_string())?;
            }
            Ok::<(), String>(())
        });
    }
    while let Some(done) = writers.join_next().await {
        done.map_err(|error| error.to_string())??;
    }
    Ok(())
}
