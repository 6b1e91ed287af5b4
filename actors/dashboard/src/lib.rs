//! The debug endpoints and the metrics of one node, over HTTP; a page that shows its mailboxes.
//!
//! ```text
//!   GET  /                                   a page: the actors and their mailboxes, live
//!   GET  /debug/actors                       all actors
//!   GET  /debug/actors/{name}                one of them: n1/g1/acceptor, n1/gateway
//!   GET  /debug/actors/{name}/mailbox        what it has handled, what waits
//!   POST /debug/actors/{name}/crash?mode=    now | before | after        (only with faults on)
//!   GET  /debug/status                       where the replica stands
//!   GET  /debug/faults                       the faults set on its links
//!   POST /debug/checkpoint                   make one now; GET: where the last one stands
//!   POST /debug/faults                       set them                    (only with faults on)
//!   GET  /metrics                            OpenMetrics text
//!   GET  /healthz                            200 as long as the process lives
//!   GET  /readyz                             200 when it can serve, 503 and the reason otherwise
//! ```
//!
//! In a path, the slashes of a name may stand as they are or as `%2F`. Answers are JSON, errors
//! are `{"error": ".."}` with what to do next; HEAD works wherever GET does. Only what never
//! becomes a request is answered without words: 400, 408 or 431, and the connection ends.
//!
//! # When a node is ready
//! `/readyz` says 200 when the rsm answers, has recovered its state, and either knows a leader or
//! has nobody waiting. Without the last clause a Paxos group would never be ready before its first
//! command: it elects nobody, and says nothing, while it is idle. That a majority can be reached
//! is therefore not known of an idle node; it shows as soon as somebody waits.
//!
//! # What always holds
//! H1. Looking changes nothing: a GET reads counters, and sends no message but one, `AskStatus` to
//!     the rsm. An idle group stays idle, on the network and on the disk.
//! H2. At most one `AskStatus` is under way, however many ask: a stuck rsm finds one question in
//!     its mailbox, not one per scrape. Nobody waits for it longer than [`STATUS_TIMEOUT`].
//! H3. Nothing can be broken from here unless [`Sources::faults_allowed`] says so, nor by a page of
//!     another site in the operator's browser.
//! H4. Every request is bounded in size and time, and so is their number ([`CONNECTIONS_MAX`]).
//! H5. HTTP never runs on the thread of an actor, so a stuck actor can be looked at.
//!
//! # Deviations
//! - It is no actor of the stage: actix-web brings its own threads, and it speaks to actors as
//!   somebody from outside. It reads counters that are shared memory; see `stage`.
//! - There is no login, and nothing is encrypted. The address belongs on loopback.
//! - `GET /debug/faults` shows what was set at the start or from here; what is set behind its back,
//!   through the cluster's handle, does not show.

mod answer;
mod metrics;
mod routes;
mod server;
mod status;

pub use server::{
    BODY_BYTES_MAX, BODY_TIMEOUT, CONNECTIONS_MAX, HEADERS_BYTES_MAX, Handle, KEEP_ALIVE,
    REQUEST_TIMEOUT, Sources, TARGET_BYTES_MAX, serve, spawn_thread,
};
pub use status::{GroupStatus, MovingShard, NodeStatus, STATUS_TIMEOUT, Shards};
