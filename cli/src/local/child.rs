//! One node's process: what it says, how it ends, and that it does end.

use std::io;
use std::os::unix::process::ExitStatusExt;
use std::path::Path;
use std::process::Stdio;
use std::time::Duration;

use serde_json::Value as Json;
use tokio::io::{AsyncBufReadExt, AsyncRead, BufReader};
use tokio::process::{Child, Command};
use tokio::sync::{mpsc, oneshot};
use tokio::task::JoinHandle;

use super::screen::Ended;

/// How long a node may take to stop.
const STOP: Duration = Duration::from_secs(3);
/// How long its last words may take to arrive once it has ended.
const LAST_WORDS: Duration = Duration::from_millis(500);

/// What happens to a node.
#[derive(Debug)]
pub(crate) enum Event {
    /// It serves.
    Ready {
        /// Which.
        node: u16,
    },
    /// It has logged a line.
    Log {
        /// Which.
        node: u16,
        /// What.
        line: String,
    },
    /// Its process has ended.
    Ended(Ended),
}

/// A node's process, as long as this is held: when it goes, the process stops.
pub(crate) struct Process {
    pub(crate) pid: u32,
    _stop: oneshot::Sender<()>,
}

/// Starts a node. Events go to `events`, [`Event::Ended`] last.
///
/// # Errors
/// No process could be made.
pub(crate) fn start(
    node: u16,
    program: &Path,
    config: &Path,
    events: &mpsc::Sender<Event>,
) -> io::Result<Process> {
    let mut command = Command::new(program);
    if std::env::var_os("RUST_LOG").is_none() {
        // That a node is gone, or not there yet, is said here once; the others need not repeat it.
        command.env("RUST_LOG", "warn,quorate_cluster::link=error");
    }
    let mut child = command
        .args(["node", "--json", "--stop-with-stdin", "--config"])
        .arg(config)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        // Ctrl-C is for us: we pass it on.
        .process_group(0)
        .kill_on_drop(true)
        .spawn()?;
    let pid = child.id().unwrap_or_default();
    let out = child.stdout.take().map(|out| {
        let events = events.clone();
        tokio::spawn(async move { listen(out, |line| heard(node, line), &events).await })
    });
    let err = child.stderr.take().map(|err| {
        let events = events.clone();
        tokio::spawn(async move {
            listen(err, |line| Some(Event::Log { node, line: line.into() }), &events).await
        })
    });
    let (stop, stopped) = oneshot::channel();
    tokio::spawn(tend(node, pid, child, [out, err], stopped, events.clone()));
    Ok(Process { pid, _stop: stop })
}

/// What a line on standard output means.
fn heard(node: u16, line: &str) -> Option<Event> {
    let Ok(event) = serde_json::from_str::<Json>(line) else {
        return Some(Event::Log { node, line: line.into() });
    };
    match event["event"].as_str() {
        Some("ready") => Some(Event::Ready { node }),
        Some("stopped") => None,
        _ => {
            let line = event["error"].as_str().unwrap_or(line).to_string();
            Some(Event::Log { node, line })
        }
    }
}

/// Passes lines on, and answers the last one that was logged.
async fn listen(
    stream: impl AsyncRead + Unpin,
    meaning: impl Fn(&str) -> Option<Event>,
    events: &mpsc::Sender<Event>,
) -> String {
    let (mut last, mut bytes) = (String::new(), Vec::new());
    let mut stream = BufReader::new(stream);
    loop {
        bytes.clear();
        match stream.read_until(b'\n', &mut bytes).await {
            Ok(0) | Err(_) => return last,
            Ok(_) => {}
        }
        let line = String::from_utf8_lossy(&bytes);
        let Some(event) = meaning(line.trim_end()) else { continue };
        if let Event::Log { line, .. } = &event {
            last.clone_from(line);
        }
        if events.send(event).await.is_err() {
            return last;
        }
    }
}

/// Until the process has ended, by itself or because it was told to.
async fn tend(
    node: u16,
    pid: u32,
    mut child: Child,
    listeners: [Option<JoinHandle<String>>; 2],
    stopped: oneshot::Receiver<()>,
    events: mpsc::Sender<Event>,
) {
    // The process stops when this goes.
    let stdin = child.stdin.take();
    tokio::select! {
        _ = child.wait() => {}
        _ = stopped => {
            drop(stdin);
            if tokio::time::timeout(STOP, child.wait()).await.is_err() {
                let line = format!("has not stopped within {} s: killed", STOP.as_secs());
                let _ = events.send(Event::Log { node, line }).await;
                let _ = child.start_kill();
            }
        }
    }
    let status = child.wait().await.ok();
    let mut reason = String::new();
    for listener in listeners.into_iter().flatten() {
        let last = tokio::time::timeout(LAST_WORDS, listener).await;
        if let Ok(Ok(last)) = last
            && !last.is_empty()
        {
            reason = last;
        }
    }
    let code = status.and_then(|status| status.code());
    let signal = status.and_then(|status| status.signal());
    // Nobody listens only when everything ends anyway.
    let _ = events.send(Event::Ended(Ended { node, pid, code, signal, reason })).await;
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_of_a_node_are_understood() {
        let ready = r#"{"event":"ready","node":2,"new":true}"#;
        assert!(matches!(heard(2, ready), Some(Event::Ready { node: 2 })));
        assert!(heard(2, r#"{"event":"stopped","node":2}"#).is_none());
        let error = heard(2, r#"{"error":"no room","kind":"refused"}"#);
        assert!(matches!(error, Some(Event::Log { line, .. }) if line == "no room"));
        assert!(matches!(heard(2, "hm"), Some(Event::Log { line, .. }) if line == "hm"));
    }
}
