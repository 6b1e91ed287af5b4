//! The sockets and their limits.

use std::{
    io,
    net::{SocketAddr, TcpListener},
    sync::mpsc,
    thread::JoinHandle,
    time::Duration,
};

use actix_web::{
    App, HttpServer,
    dev::{Server, ServerHandle},
    middleware::{DefaultHeaders, from_fn},
    web,
};
use quorate_cluster::{ClusterHandle, Faults};
use quorate_persistence::Owners;
use quorate_stage::{Node, Outlet};

use crate::routes::{self, Inside};
use crate::status::NodeStatus;

/// So many connections may be open at one time; more wait until one ends.
pub const CONNECTIONS_MAX: usize = 64;
/// A connection without a request is closed after this time.
pub const KEEP_ALIVE: Duration = Duration::from_secs(5);
/// The head of a request must have come within this time.
pub const REQUEST_TIMEOUT: Duration = Duration::from_secs(3);
/// And its body within this.
pub const BODY_TIMEOUT: Duration = Duration::from_secs(3);
/// A path and its query are at most so long.
pub const TARGET_BYTES_MAX: usize = 2 * 1024;
/// Headers are at most so long, all together.
pub const HEADERS_BYTES_MAX: usize = 16 * 1024;
/// A body is at most so long.
pub const BODY_BYTES_MAX: usize = 64 * 1024;

/// A client that does not close when told to is cut off after this time.
const DISCONNECT_TIMEOUT: Duration = Duration::from_secs(1);
/// What is under way when the server is asked to stop gracefully may take so long, in seconds.
const SHUTDOWN_SECONDS: u64 = 1;

/// What can be looked at.
#[derive(Clone)]
pub struct Sources {
    /// The node, with its actors.
    pub node: Node,
    /// Its links to other nodes, if it has any.
    pub cluster: Option<ClusterHandle>,
    /// What its journal counts.
    pub journal: Owners,
    /// Asks the replicas where they stand. A question may be dropped; then it counts as lost.
    pub ask_status: Outlet<Outlet<NodeStatus>>,
    /// Has each of them make a checkpoint.
    pub take_checkpoint: Outlet<()>,
    /// The faults that hold at the start, as the cluster actor was told.
    pub faults: Faults,
    /// Whether actors may be crashed and faults set from here.
    pub faults_allowed: bool,
    /// The version of the program.
    pub version: String,
}

/// Makes the server. It serves when its future is polled, on the threads of actix-web: one for
/// accepting, one for answering. The future must be awaited in a tokio runtime or an actix system.
///
/// # Errors
/// The socket cannot be used.
pub fn serve(listener: TcpListener, sources: Sources) -> io::Result<(Server, ServerHandle)> {
    let inside = web::Data::new(Inside::new(sources));
    let app = move || {
        let headers = DefaultHeaders::new()
            .add(("Cache-Control", "no-store"))
            .add(("Content-Security-Policy", "default-src 'self'; frame-ancestors 'none'"))
            .add(("X-Content-Type-Options", "nosniff"));
        App::new()
            .app_data(inside.clone())
            .configure(routes::configure)
            .wrap(from_fn(routes::bounded))
            .wrap(headers)
    };
    let server = HttpServer::new(app)
        .workers(1)
        .worker_max_blocking_threads(1)
        .max_connections(CONNECTIONS_MAX)
        .keep_alive(KEEP_ALIVE)
        .client_request_timeout(REQUEST_TIMEOUT)
        .client_disconnect_timeout(DISCONNECT_TIMEOUT)
        .shutdown_timeout(SHUTDOWN_SECONDS)
        .disable_signals()
        .listen(listener)?
        .run();
    let handle = server.handle();
    Ok((server, handle))
}

/// A server on threads of its own. It stops when this is dropped.
pub struct Handle {
    address: SocketAddr,
    server: ServerHandle,
    thread: Option<JoinHandle<()>>,
}

impl Handle {
    /// Where it listens.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Stops it at once, and waits until it has stopped; requests under way are cut off. Blocks
    /// for some milliseconds: not for the thread of an actor.
    pub fn stop(mut self) {
        self.tell_to_stop();
        if let Some(thread) = self.thread.take() {
            // A panic there has been reported by the thread itself.
            let _ = thread.join();
        }
    }

    fn tell_to_stop(&self) {
        // The order is given by the call; the future only waits.
        drop(self.server.stop(false));
    }
}

impl Drop for Handle {
    fn drop(&mut self) {
        if self.thread.is_some() {
            self.tell_to_stop();
        }
    }
}

/// Serves on threads of its own.
///
/// # Errors
/// The socket cannot be used, or no thread can be had.
pub fn spawn_thread(listener: TcpListener, sources: Sources) -> io::Result<Handle> {
    let address = listener.local_addr()?;
    let (tell, told) = mpsc::sync_channel(1);
    let name = format!("{}-debug", sources.node.id());
    let thread = std::thread::Builder::new().name(name).spawn(move || {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
        let served = runtime.and_then(|runtime| {
            // Inside of the runtime: actix-web looks for one when it is built.
            runtime.block_on(async {
                let (server, handle) = serve(listener, sources)?;
                // Nobody listens any more only if the caller's thread is gone.
                let _ = tell.send(Ok(handle));
                server.await
            })
        });
        if let Err(error) = served {
            tracing::error!(%address, %error, "the debug endpoints are gone; the node goes on");
            let _ = tell.try_send(Err(error));
        }
    })?;
    let gone = |_| Err(io::Error::other("the thread of the debug endpoints ended at once"));
    let server = told.recv().unwrap_or_else(gone)?;
    Ok(Handle { address, server, thread: Some(thread) })
}
