//! The listener: strangers are greeted, and the parcels of peers are taken.

use std::{net::SocketAddr, rc::Rc, time::Duration};

use quorate_protocol::NodeId;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpListener, TcpStream},
    task::JoinSet,
    time::{sleep, timeout},
};

use crate::{
    counters::{Dropped, NOBODY},
    frame::{self, Decoder, Frame, HELLO_BYTES_MAX, Welcome},
    handshake::{Refusal, judge_hello},
    hub::Hub,
    link::{Opening, OpeningError, read_opening, tune},
};

/// The wait after a connection could not be accepted: out of file descriptors, most likely.
const ACCEPT_AGAIN: Duration = Duration::from_millis(100);

/// Accepts connections, for ever.
pub(crate) async fn listen(hub: Rc<Hub>, listener: TcpListener) {
    let mut tasks = JoinSet::new();
    loop {
        tokio::select! { biased;
            Some(ended) = tasks.join_next(), if !tasks.is_empty() => {
                if let Err(error) = ended && error.is_panic() {
                    let what = format!("a connection ended in a panic: {error}");
                    hub.alarm(NOBODY, what);
                }
            }
            accepted = listener.accept() => match accepted {
                Ok((stream, address)) => {
                    let guest = Guest::new(&hub);
                    let connection = guest.connection;
                    let task = tasks.spawn_local(serve(guest, stream, address));
                    hub.admit(connection, task);
                }
                Err(error) => {
                    hub.complain(NOBODY, format!("no connection can be accepted: {error}"));
                    sleep(ACCEPT_AGAIN).await;
                }
            },
        }
    }
}

/// An accepted connection, for as long as it lasts.
struct Guest {
    hub: Rc<Hub>,
    connection: u64,
    /// Set once hands are shaken.
    peer: Option<NodeId>,
}

impl Guest {
    fn new(hub: &Rc<Hub>) -> Self {
        Guest { hub: hub.clone(), connection: hub.next_connection(), peer: None }
    }
}

impl Drop for Guest {
    fn drop(&mut self) {
        self.hub.leave(self.connection, self.peer);
    }
}

async fn serve(mut guest: Guest, mut stream: TcpStream, address: SocketAddr) {
    let hub = guest.hub.clone();
    tune(&stream);
    let mut decoder = Decoder::new(HELLO_BYTES_MAX);
    let limit = hub.bounds.handshake_timeout;
    let peer = match timeout(limit, greet(&hub, &mut stream, &mut decoder)).await {
        Ok(Ok(peer)) => peer,
        Ok(Err(Turned { peer, text, refusal })) => {
            if refusal {
                hub.counters.of(peer).refused();
                hub.complain(
                    peer,
                    format!("a connection from {} is refused: {text}", address.ip()),
                );
            } else {
                tracing::debug!(%address, "a connection ends before its handshake: {text}");
            }
            return;
        }
        Err(_) => {
            let text = format!("a connection from {} shook no hands in {limit:?}", address.ip());
            return hub.complain(NOBODY, text);
        }
    };
    if hub.seat(guest.connection, peer.node) {
        guest.peer = Some(peer.node);
        decoder.allow(hub.bounds.frame_bytes_max);
        take_parcels(&hub, peer, &mut stream, &mut decoder).await;
    }
}

/// Why a stranger is not let in.
struct Turned {
    peer: NodeId,
    text: String,
    refusal: bool,
}

/// Who has shaken hands.
#[derive(Clone, Copy)]
struct Peer {
    node: NodeId,
    founder: bool,
}

async fn greet(hub: &Hub, stream: &mut TcpStream, decoder: &mut Decoder) -> Result<Peer, Turned> {
    let identity = &hub.identity;
    let at = identity.me.node;
    let mut out = Vec::new();
    let (peer, refusal) = match read_opening(stream, decoder).await {
        Ok(Opening::Hello(hello)) => {
            let known = |node: NodeId| hub.queues.contains_key(&node);
            let judged = hub.pinned(|pins| judge_hello(identity, known, pins, &hello)).await;
            match judged {
                Ok(()) => {
                    let (cluster_id, from) = (identity.cluster_id.clone(), identity.me);
                    let founder = identity.founder;
                    frame::encode_welcome(&Welcome { cluster_id, from, founder }, &mut out);
                    let lost = |error: std::io::Error| Turned {
                        peer: hello.from.node,
                        text: error.to_string(),
                        refusal: false,
                    };
                    stream.write_all(&out).await.map_err(lost)?;
                    return Ok(Peer { node: hello.from.node, founder: hello.founder });
                }
                Err(refusal) => (hello.from.node, refusal),
            }
        }
        Ok(Opening::Welcome(_) | Opening::Refuse(_)) | Err(OpeningError::NoOpening) => {
            (NOBODY, Refusal::Garbled { at, what: "another frame than Hello came".into() })
        }
        Err(OpeningError::Frame(error)) => (NOBODY, Refusal::of_frame(at, error)),
        Err(OpeningError::Io(error)) => {
            return Err(Turned { peer: NOBODY, text: error.to_string(), refusal: false });
        }
    };
    let text = refusal.to_string();
    frame::encode_refuse(&text, &mut out);
    // Whether the other side hears it is its own affair.
    let _ = stream.write_all(&out).await;
    let _ = stream.shutdown().await;
    Err(Turned { peer, text, refusal: true })
}

/// Takes what a peer sends until the connection ends or the peer breaks the rules.
async fn take_parcels(hub: &Hub, guest: Peer, stream: &mut TcpStream, decoder: &mut Decoder) {
    let (peer, mut unreadable_told) = (guest.node, false);
    loop {
        loop {
            match decoder.next_frame() {
                Ok(None) => break,
                Ok(Some(Frame::Parcel { from, to, class, body })) => {
                    // H1. Only a founder is a member under the plain number of its node.
                    let nobodys = !guest.founder && from.role.is_of_engine() && from.node == peer;
                    if from.node.home() != peer || nobodys {
                        hub.counters.of(peer).drop_one(Dropped::ForeignSender);
                        let text = format!(
                            "{peer} sends in the name of {from}, which is not its own: its \
                             connection is closed",
                        );
                        return hub.alarm(peer, text);
                    }
                    if !hub.receive(peer, from, to, class, body) && !unreadable_told {
                        unreadable_told = true;
                        let text = format!("{peer} sends what {to} cannot read; it is dropped");
                        hub.alarm(peer, text);
                    }
                }
                Ok(Some(other)) => {
                    let kind = other.kind();
                    let text = format!("{peer} sends a {kind} among its parcels: closed");
                    return hub.alarm(peer, text);
                }
                Err(error) => {
                    return hub.alarm(peer, format!("the connection of {peer} is closed: {error}"));
                }
            }
        }
        match stream.read_buf(&mut decoder.room()).await {
            Ok(0) | Err(_) => return,
            Ok(_) => {}
        }
    }
}
