//! A node as a process of its own: real disk, real sockets, real threads.

use std::net::SocketAddr;

use crate::config::NodeConfig;

/// A node that runs.
#[derive(Clone, Debug)]
pub struct Ready {
    /// Its number.
    pub node: u32,
    /// Where clients reach it.
    pub resp: SocketAddr,
    /// Where other nodes reach it.
    pub peer: SocketAddr,
    /// Its debug endpoints.
    pub debug: SocketAddr,
    /// Whether its directory was made just now.
    pub new: bool,
}

/// Runs a node on this thread until SIGINT or SIGTERM comes, or it cannot go on. `on_ready` is
/// called once its sockets are open and its state has been recovered.
///
/// # Errors
/// Why it could not start or go on, as a text that says what to do next.
pub fn run(config: NodeConfig, on_ready: impl FnOnce(Ready) + 'static) -> Result<(), String> {
    let _ = (config, on_ready);
    Err("not yet".into())
}
