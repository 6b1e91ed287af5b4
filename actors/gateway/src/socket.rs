//! A client's socket.

use std::{
    net::SocketAddr,
    sync::atomic::{AtomicBool, Ordering::Relaxed},
};

use tokio::{net::TcpStream, sync::Notify};

/// A client's socket, shared by the gateway and the task that reads it.
pub struct Socket {
    pub(crate) stream: TcpStream,
    pub(crate) peer: SocketAddr,
    pub(crate) local: SocketAddr,
    closed: AtomicBool,
    /// The gateway wants more, or the socket is closed.
    pub(crate) go_on: Notify,
}

impl Socket {
    pub(crate) fn new(stream: TcpStream, peer: SocketAddr, local: SocketAddr) -> Socket {
        Socket { stream, peer, local, closed: AtomicBool::new(false), go_on: Notify::new() }
    }

    /// Nothing more is read from it or written to it.
    pub(crate) fn close(&self) {
        self.closed.store(true, Relaxed);
        self.go_on.notify_one();
    }

    pub(crate) fn is_closed(&self) -> bool {
        self.closed.load(Relaxed)
    }
}
