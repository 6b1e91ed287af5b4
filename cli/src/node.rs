//! `quorate node`: one node in this process.

use std::io::{self, IsTerminal, Read, Write};
use std::path::PathBuf;
use std::process::exit;
use std::time::Duration;

use clap::Args as ClapArgs;
use quorate_node::config::NodeConfig;
use quorate_node::process::{self, Ready};
use serde_json::json;
use tokio::sync::oneshot;
use tracing_subscriber::EnvFilter;

use crate::clock;
use crate::exit::{Done, Failure, Kind};
use crate::output::say;

/// How long a node that was told to stop may take before it is ended.
const STOP: Duration = Duration::from_secs(3);

/// `quorate node`.
#[derive(Debug, ClapArgs)]
pub(crate) struct Args {
    /// The node's configuration (TOML); `quorate local` writes one for each of its nodes
    #[arg(long, value_name = "FILE")]
    config: PathBuf,
    /// Say `ready` and `stopped` in JSON, one line each
    #[arg(long)]
    json: bool,
    /// Stop when standard input ends: whoever started the node is gone then
    #[arg(long)]
    stop_with_stdin: bool,
}

/// Runs `quorate node`.
pub(crate) fn run(args: Args) -> Done {
    let json = args.json;
    logs();
    let config = NodeConfig::read(&args.config)
        .map_err(|error| Failure::usage(error.to_string()).in_json(json))?;
    let (stop, stopped) = oneshot::channel();
    let stop = if args.stop_with_stdin {
        // Without this thread nobody would notice: better no node than an orphan.
        watch_stdin(stop).map_err(|error| Failure::usage(error.to_string()).in_json(json))?;
        None
    } else {
        Some(stop)
    };
    let number = config.node;
    let (cluster, dir) = (config.cluster_id.clone(), config.dir.clone());
    let on_ready = move |ready: Ready| {
        let Ready { node, resp, peer, debug, new, awaited } = ready;
        let debug = format!("http://{debug}");
        let line = if json {
            json!({
                "event": "ready", "node": node, "cluster": cluster, "pid": std::process::id(),
                "dir": dir, "new": new, "resp": resp.to_string(), "peer": peer.to_string(),
                "debug": debug, "awaited": awaited,
            })
            .to_string()
        } else {
            let how = match (new, awaited.is_empty()) {
                (_, false) => "blank: it serves once its group has taken it in",
                (true, true) => "new",
                (false, true) => "resumed",
            };
            format!(
                "node {node} of {cluster} is ready: clients {resp}, nodes {peer}, debug {debug}, \
                 data in {} ({how})",
                dir.display()
            )
        };
        // Whoever does not listen can ask the node itself.
        let _ = say(&line);
    };
    let ended = process::run(config, on_ready, async move {
        // Held for as long as the node runs: without a sender it would end at once.
        let _stop = stop;
        let _ = stopped.await;
    });
    ended.map_err(|text| Failure::new(Kind::Refused, text).in_json(json))?;
    let line = match json {
        true => json!({ "event": "stopped", "node": number }).to_string(),
        false => format!("node {number} has stopped"),
    };
    let _ = say(&line);
    Ok(())
}

/// Tells `stop` when standard input ends, and ends the process if that does not help.
fn watch_stdin(stop: oneshot::Sender<()>) -> io::Result<()> {
    let watch = move || {
        let mut bytes = [0; 64];
        loop {
            match io::stdin().read(&mut bytes) {
                Ok(1..) => {}
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Ok(0) | Err(_) => break,
            }
        }
        // The node may have ended already.
        let _ = stop.send(());
        clock::pause(STOP);
        let _ = writeln!(io::stderr(), "quorate: the node did not stop in {STOP:?} and is ended");
        exit(process::EXIT_FATAL);
    };
    std::thread::Builder::new().name("stdin".into()).spawn(watch).map(|_| ())
}

/// Logs on standard error: warnings, unless RUST_LOG says otherwise.
fn logs() {
    let filter = EnvFilter::try_from_default_env().unwrap_or_else(|_| EnvFilter::new("warn"));
    let logs = tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_writer(io::stderr)
        .with_ansi(io::stderr().is_terminal())
        .log_internal_errors(false);
    // A process has one log; a second call would be a mistake of ours, and harmless.
    let _ = logs.try_init();
}
