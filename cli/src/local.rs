//! `quorate local`: a cluster of node processes on this machine, until Ctrl-C.
//!
//! ```text
//!   quorate local ── spawns ──▶ quorate node --config DIR/n1/node.toml ... one for each node
//!        │ ◀── stdout: ready; stderr: logs ──  │
//!        │ ─── stdin: held open ────────────▶  │   a node stops when it ends
//! ```
//!
//! What always holds: no node outlives this process, however it ends, since each holds the other
//! end of a pipe from it. A node that ends is reported and not started again.

mod child;
mod home;
mod ports;
mod screen;

use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use clap::{ArgAction, Args as ClapArgs};
use quorate_gateway::resp::Value;
use quorate_node::config::{Engine, Redirect};
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::sync::mpsc;

use self::child::{Event, Process};
use self::home::{Common, Home, Wish};
use self::ports::{Ports, on_loopback};
use self::screen::{Ended, Screen, Shown};
use crate::exit::{Done, Failure, Kind};
use crate::resp::Client;
use crate::{clock, output};

/// How long the cluster may take until it serves.
const START: Duration = Duration::from_secs(60);
/// How often ports are chosen anew because somebody else was quicker.
const ATTEMPTS: u32 = 5;

/// `quorate local`.
#[derive(Debug, ClapArgs)]
pub(crate) struct Args {
    /// How many nodes [default: 3, or as many as DIR has]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u16).range(1..=9))]
    nodes: Option<u16>,
    /// Divide the store: so many groups of up to three replicas, spread over the nodes [default: one
    /// undivided group, or as DIR has it]
    #[arg(long, value_name = "G", value_parser = clap::value_parser!(u16).range(1..=64))]
    groups: Option<u16>,
    /// Divide the store into so many shards [default with --groups: 1024]
    #[arg(long, value_name = "S", value_parser = clap::value_parser!(u16).range(1..=16384))]
    shards: Option<u16>,
    /// What clients are told whose key another node leads: never (nothing, the node forwards) or always
    /// (MOVED, as Redis Cluster does)
    #[arg(long, value_name = "WHEN", value_parser = redirect, default_value = "never")]
    redirect: Redirect,
    /// Threads of each node that carry its groups; 0: one thread for everything
    #[arg(long, value_name = "N", default_value_t = 0)]
    group_threads: usize,
    /// What agrees on the log: paxos or raft [default: paxos, or what DIR has]
    #[arg(long)]
    engine: Option<Engine>,
    /// Where the nodes keep their data; resumed when it is there. Without it a fresh temporary
    /// directory is used, and removed at the end
    #[arg(long)]
    dir: Option<PathBuf>,
    /// Do not remove the temporary directory at the end
    #[arg(long)]
    keep: bool,
    /// Node i serves clients on PORT+i, its debug endpoints on PORT+100+i, other nodes on
    /// PORT+200+i; 0: any free ports [default: 7000, or others when those are taken]
    #[arg(long)]
    port: Option<u16>,
    /// Whether actors may be crashed and links cut by the debug endpoints
    #[arg(
        long, value_name = "BOOL", default_value_t = true, action = ArgAction::Set,
        num_args = 0..=1, default_missing_value = "true"
    )]
    faults: bool,
    /// Bytes of log after which a node makes a checkpoint and cuts its log
    #[arg(long, value_name = "BYTES", value_parser = clap::value_parser!(u64).range(1024..))]
    log_bytes_max: Option<u64>,
    /// One JSON line for each event: starting, note, log, ready, node_exited, stopping, stopped
    #[arg(long)]
    json: bool,
}

fn redirect(text: &str) -> Result<Redirect, String> {
    match text {
        "never" => Ok(Redirect::Never),
        "always" => Ok(Redirect::Always),
        _ => Err("there are never and always".into()),
    }
}

/// Runs `quorate local`.
pub(crate) fn run(args: Args) -> Done {
    let json = args.json;
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    let runtime = runtime.map_err(|error| Failure::new(Kind::Refused, error.to_string()));
    let done = runtime.and_then(|runtime| {
        let done = runtime.block_on(serve(args));
        // Whoever still asks a node does not hold up the end.
        runtime.shutdown_background();
        done
    });
    done.map_err(|failure| failure.in_json(json))
}

/// How the time of one set of processes ended.
enum End {
    /// Somebody wanted it to.
    Wanted,
    /// Another program has taken a port that was free when it was chosen.
    PortTaken,
}

async fn serve(args: Args) -> Done {
    let mut signals = Signals::new().map_err(refused)?;
    let program = std::env::current_exe().map_err(|error| refused(error.to_string()))?;
    let wish = Wish {
        dir: args.dir.clone(),
        nodes: args.nodes,
        engine: args.engine,
        groups: args.groups,
        shards: args.shards,
    };
    let mut home = Home::open(wish).map_err(Failure::usage)?;
    let screen =
        Screen { json: args.json, colours: output::colours(), program: how_called(&program) };
    let common = Common {
        faults: args.faults,
        log_bytes_max: args.log_bytes_max,
        redirect: args.redirect,
        group_threads: args.group_threads,
    };
    if args.keep {
        home.keep();
    }
    let begun = clock::now();
    screen.starting(&home);
    let mut attempt = 1;
    let done = loop {
        let (ports, note) =
            ports::choose(args.port, home.nodes(), &ports::is_free).map_err(Failure::usage)?;
        if let Some(note) = note {
            screen.note(&note);
        }
        home.configure(&ports, common).map_err(refused)?;
        let cluster = Cluster::start(&program, &home, &screen, ports, common, begun)?;
        let may_retry = attempt < ATTEMPTS && args.port.is_none_or(|port| port == 0);
        match cluster.run(&mut home, &mut signals, may_retry).await {
            Ok(End::PortTaken) => attempt += 1,
            Ok(End::Wanted) => break Ok(()),
            Err(failure) => break Err(failure),
        }
    };
    let removed = home.is_temporary().then(|| home.path().to_path_buf());
    drop(home);
    screen.stopped(removed.as_deref());
    done
}

fn refused(text: impl Into<String>) -> Failure {
    Failure::new(Kind::Refused, text)
}

/// How this program was called, if that can be typed again.
fn how_called(program: &Path) -> String {
    let called = std::env::args_os().next().map(PathBuf::from);
    let called = called.filter(|called| called.components().count() == 1 || called.exists());
    let here = std::env::current_dir().ok();
    let shown = called.unwrap_or_else(|| program.to_path_buf());
    let shown = match here.and_then(|here| Some(shown.strip_prefix(here).ok()?.to_path_buf())) {
        Some(relative) if relative.components().count() > 1 => relative,
        _ => shown,
    };
    shown.display().to_string()
}

/// Whoever wants the cluster to stop.
struct Signals {
    interrupt: Signal,
    terminate: Signal,
    hang_up: Signal,
}

impl Signals {
    fn new() -> Result<Signals, String> {
        let listen = |kind| signal(kind).map_err(|error| error.to_string());
        Ok(Signals {
            interrupt: listen(SignalKind::interrupt())?,
            terminate: listen(SignalKind::terminate())?,
            hang_up: listen(SignalKind::hangup())?,
        })
    }

    async fn next(&mut self) {
        tokio::select! {
            _ = self.interrupt.recv() => {}
            _ = self.terminate.recv() => {}
            _ = self.hang_up.recv() => {}
        }
    }
}

/// A node of the cluster that runs.
struct Node {
    ports: Ports,
    /// `None`: it has ended.
    process: Option<Process>,
    is_ready: bool,
}

/// The processes of a cluster.
struct Cluster<'a> {
    screen: &'a Screen,
    common: Common,
    begun: Instant,
    nodes: Vec<Node>,
    events: mpsc::Receiver<Event>,
    /// Tells whether the cluster serves.
    verdict: mpsc::Receiver<Result<(), String>>,
    judge: mpsc::Sender<Result<(), String>>,
    is_asked: bool,
    is_ready: bool,
}

impl<'a> Cluster<'a> {
    fn start(
        program: &Path,
        home: &Home,
        screen: &'a Screen,
        ports: Vec<Ports>,
        common: Common,
        begun: Instant,
    ) -> Result<Cluster<'a>, Failure> {
        let (sender, events) = mpsc::channel(1024);
        let (judge, verdict) = mpsc::channel(16);
        let mut nodes = Vec::new();
        for (ports, node) in ports.into_iter().zip(1..) {
            let process = child::start(node, program, &home.node_config(node), &sender);
            let process = process.map_err(|error| {
                refused(format!("{} cannot be started: {error}", program.display()))
            })?;
            nodes.push(Node { ports, process: Some(process), is_ready: false });
        }
        let (is_asked, is_ready) = (false, false);
        Ok(Cluster { screen, common, begun, nodes, events, verdict, judge, is_asked, is_ready })
    }

    /// Until it ends, and no process is left.
    async fn run(
        mut self,
        home: &mut Home,
        signals: &mut Signals,
        may_retry: bool,
    ) -> Result<End, Failure> {
        let end = self.serve(home, signals, may_retry).await;
        if matches!(end, Ok(End::Wanted)) {
            self.screen.stopping();
        }
        self.stop().await;
        end
    }

    async fn serve(
        &mut self,
        home: &mut Home,
        signals: &mut Signals,
        may_retry: bool,
    ) -> Result<End, Failure> {
        let patience = tokio::time::sleep(START);
        tokio::pin!(patience);
        loop {
            tokio::select! {
                () = signals.next() => return Ok(End::Wanted),
                () = &mut patience, if !self.is_ready => {
                    let text = format!("the cluster did not become ready in {} s", START.as_secs());
                    return Err(refused(text));
                }
                Some(verdict) = self.verdict.recv(), if !self.is_ready => {
                    verdict.map_err(refused)?;
                    self.is_ready = true;
                    self.screen.ready(&self.shown(home), self.begun.elapsed());
                }
                Some(event) = self.events.recv() => match event {
                    Event::Log { node, line } => self.screen.log(node, &line),
                    Event::Ready { node } => self.on_ready(node, home)?,
                    Event::Ended(ended) => {
                        if self.on_ended(&ended, home, may_retry)? {
                            return Ok(End::PortTaken);
                        }
                    }
                }
            }
        }
    }

    fn on_ready(&mut self, node: u16, home: &mut Home) -> Result<(), Failure> {
        self.nodes[usize::from(node - 1)].is_ready = true;
        if self.nodes.iter().all(|node| node.is_ready) && home.set_formed().map_err(refused)? {
            let ports: Vec<Ports> = self.nodes.iter().map(|node| node.ports).collect();
            home.configure(&ports, self.common).map_err(refused)?;
        }
        self.ask_whether_it_serves();
        Ok(())
    }

    /// Answers whether to begin again with other ports.
    fn on_ended(&mut self, ended: &Ended, home: &Home, may_retry: bool) -> Result<bool, Failure> {
        let node = &mut self.nodes[usize::from(ended.node - 1)];
        node.process = None;
        if !node.is_ready && may_retry && !node.ports.are_free() {
            self.screen.note("another program has taken a port meanwhile: choosing others");
            return Ok(true);
        }
        self.screen.exited(ended, &home.node_config(ended.node));
        let (alive, all) = (self.alive().count(), self.nodes.len());
        if alive * 2 <= all {
            let text = format!("{alive} of {all} nodes run: no majority");
            if !self.is_ready {
                return Err(refused(format!("{text}; the cluster cannot start")));
            }
            self.screen.note(&format!("{text}; nothing is answered until one is back"));
        }
        // The question that is under way may wait for this node for ever.
        self.is_asked = self.is_ready;
        self.ask_whether_it_serves();
        Ok(false)
    }

    fn alive(&self) -> impl Iterator<Item = &Node> {
        self.nodes.iter().filter(|node| node.process.is_some())
    }

    /// Once every node that lives is ready: whether they answer, and a write can be read.
    fn ask_whether_it_serves(&mut self) {
        if self.is_asked || !self.alive().all(|node| node.is_ready) {
            return;
        }
        self.is_asked = true;
        let nodes: Vec<String> =
            self.alive().map(|node| on_loopback(node.ports.resp).to_string()).collect();
        let judge = self.judge.clone();
        tokio::task::spawn_blocking(move || judge.blocking_send(serves(&nodes)));
    }

    fn shown(&self, home: &Home) -> Vec<Shown> {
        let shown = |(node, number): (&Node, u16)| Shown {
            node: number,
            pid: node.process.as_ref().map(|process| process.pid),
            ports: node.ports,
            dir: home.node_dir(number),
            config: home.node_config(number),
        };
        self.nodes.iter().zip(1..).map(shown).collect()
    }

    /// Stops every process, and waits until it has ended.
    async fn stop(&mut self) {
        let mut left = self.alive().count();
        for node in &mut self.nodes {
            node.process = None;
        }
        while left > 0 {
            match self.events.recv().await {
                Some(Event::Ended(_)) => left -= 1,
                Some(Event::Log { node, line }) => self.screen.log(node, &line),
                Some(Event::Ready { .. }) => {}
                None => break,
            }
        }
    }
}

/// Whether all answer PING, and a value that one stores can be read from another. The key is one
/// that nobody else uses, and is gone afterwards.
fn serves(nodes: &[String]) -> Result<(), String> {
    const KEY: &[u8] = b"quorate:local:ready";
    let limit = Duration::from_secs(10);
    let deadline = clock::now() + START;
    loop {
        let round = || -> Result<(), String> {
            let mut clients = Vec::new();
            for node in nodes {
                let mut client =
                    Client::connect(node, limit).map_err(|trouble| trouble.to_string())?;
                expect(&mut client, &[b"PING"], &Value::simple("PONG"))?;
                clients.push(client);
            }
            let Some(first) = clients.first_mut() else { return Err("no node runs".into()) };
            expect(first, &[b"SET", KEY, b"yes"], &Value::OK)?;
            let Some(last) = clients.last_mut() else { return Err("no node runs".into()) };
            expect(last, &[b"GET", KEY], &Value::bulk("yes"))?;
            expect(last, &[b"DEL", KEY], &Value::Integer(1))
        };
        match round() {
            Ok(()) => return Ok(()),
            Err(text) if clock::now() > deadline => return Err(text),
            Err(_) => clock::pause(Duration::from_millis(20)),
        }
    }
}

fn expect(client: &mut Client, args: &[&[u8]], expected: &Value) -> Result<(), String> {
    match client.ask(args).map_err(|trouble| trouble.to_string())? {
        answer if answer == *expected => Ok(()),
        Value::Error(text) => Err(String::from_utf8_lossy(&text).into_owned()),
        other => Err(format!("{other:?} instead of {expected:?}")),
    }
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

    fn parsed(line: &str) -> Result<Args, clap::Error> {
        Line::try_parse_from(line.split(' ')).map(|line| line.args)
    }

    #[test]
    fn arguments_have_their_defaults() {
        let args = parsed("local").unwrap();
        assert_eq!((args.nodes, args.port, args.faults), (None, None, true));
        let args = parsed("local --nodes 5 --port 9000 --faults false --engine paxos").unwrap();
        assert_eq!((args.nodes, args.port, args.faults), (Some(5), Some(9000), false));
        assert_eq!(args.engine, Some(Engine::Paxos));
        assert!(parsed("local --faults").unwrap().faults);
    }

    #[test]
    fn arguments_that_make_no_sense_are_refused() {
        for line in
            ["local --nodes 0", "local --nodes 10", "local --engine x", "local --log-bytes-max 9"]
        {
            assert!(parsed(line).is_err(), "{line}");
        }
    }
}
