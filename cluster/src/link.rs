//! The outgoing link to one peer: a bounded queue, and a task that connects and writes.
//!
//! ```text
//!   push --> [ Queue ] --drained as a whole--> one buffer --one write--> socket
//! ```

use std::{cell::RefCell, collections::VecDeque, fmt, io, rc::Rc, sync::Arc, time::Duration};

use quorate_protocol::NodeId;
use quorate_stage::{Chance, Parcel};
use socket2::{SockRef, TcpKeepalive};
use tokio::{
    io::{AsyncRead, AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
    sync::Notify,
    time::{Instant, sleep, timeout},
};

use crate::{
    actor::Bounds,
    counters::{Dropped, PeerCounters, Tally},
    frame::{self, Decoder, Frame, FrameError, HELLO_BYTES_MAX, Hello, PARCEL_OVERHEAD, Welcome},
    handshake::{Refusal, judge_welcome},
    hub::Hub,
    messages::{Message, Way},
};

/// The first wait before a link is made again, and the shortest ever.
const BACKOFF_MIN: Duration = Duration::from_millis(10);
/// The longest wait before a link is made again.
const BACKOFF_MAX: Duration = Duration::from_secs(1);
/// A link that held for so long was a good one: the back-off begins anew.
const STEADY: Duration = Duration::from_secs(1);
/// A write takes at most so much, or one parcel.
const WRITE_BYTES_MAX: usize = 1 << 20;
/// A silent connection is probed after this time, and then as often.
const KEEPALIVE_IDLE: Duration = Duration::from_secs(3);
const KEEPALIVE_INTERVAL: Duration = Duration::from_secs(1);
const KEEPALIVE_PROBES: u32 = 3;
/// What was sent and is not acknowledged by the other machine for so long resets the connection.
#[cfg(target_os = "linux")]
const UNACKNOWLEDGED_MAX: Duration = Duration::from_secs(6);

/// What waits for one link.
pub(crate) struct Queue {
    pub(crate) peer: NodeId,
    /// Host and port, resolved at each dial.
    pub(crate) address: String,
    /// The peer has just shaken hands with us: now is a good time to dial.
    pub(crate) kick: Notify,
    filled: Notify,
    counters: Arc<PeerCounters>,
    bounds: Bounds,
    state: RefCell<State>,
}

#[derive(Default)]
struct State {
    linked: bool,
    parcels: VecDeque<Parcel>,
    /// What `parcels` will take on the wire.
    bytes: usize,
    /// The counters of the kinds seen so far: a handful.
    tallies: Vec<(&'static str, Arc<Tally>)>,
}

impl State {
    fn pop(&mut self) -> Option<Parcel> {
        let parcel = self.parcels.pop_front()?;
        self.bytes -= PARCEL_OVERHEAD + parcel.body.len();
        Some(parcel)
    }

    fn tally(&mut self, kind: &'static str, counters: &PeerCounters) -> &Tally {
        let known = self.tallies.iter().position(|(known, _)| *known == kind);
        let at = known.unwrap_or_else(|| {
            self.tallies.push((kind, counters.sent_of(kind)));
            self.tallies.len() - 1
        });
        &self.tallies[at].1
    }

    /// While there is no link, only the newest few are kept.
    fn trim(&mut self, bounds: &Bounds, counters: &PeerCounters) {
        while self.parcels.len() > bounds.unlinked_parcels_max
            || self.bytes > bounds.unlinked_bytes_max
        {
            self.pop();
            counters.drop_one(Dropped::Unlinked);
        }
    }
}

impl Queue {
    pub(crate) fn new(
        peer: NodeId,
        address: String,
        bounds: Bounds,
        counters: Arc<PeerCounters>,
    ) -> Self {
        let (kick, filled, state) = (Notify::new(), Notify::new(), RefCell::default());
        counters.set_queued_bytes(0);
        Queue { peer, address, kick, filled, counters, bounds, state }
    }

    /// Puts a parcel in, if there is room.
    pub(crate) fn push(&self, parcel: Parcel) {
        let length = frame::parcel_length(&parcel);
        if length > self.bounds.frame_bytes_max {
            let (kind, to, most) = (parcel.kind, parcel.to, self.bounds.frame_bytes_max);
            tracing::error!(kind, %to, length, most, "a parcel is too long for a frame: dropped");
            return self.counters.drop_one(Dropped::TooLong);
        }
        let bytes = PARCEL_OVERHEAD + parcel.body.len();
        let state = &mut *self.state.borrow_mut();
        if state.linked
            && (state.parcels.len() >= self.bounds.link_parcels_max
                || state.bytes + bytes > self.bounds.link_bytes_max)
        {
            return self.counters.drop_one(Dropped::Full);
        }
        state.parcels.push_back(parcel);
        state.bytes += bytes;
        if !state.linked {
            state.trim(&self.bounds, &self.counters);
        } else if state.parcels.len() == 1 {
            self.filled.notify_one();
        }
        self.counters.set_queued_bytes(state.bytes);
    }

    fn set_linked(&self, linked: bool) {
        let state = &mut *self.state.borrow_mut();
        state.linked = linked;
        if !linked {
            state.trim(&self.bounds, &self.counters);
            self.counters.set_queued_bytes(state.bytes);
        }
    }

    /// Moves what waits into `out`, as far as one write goes.
    fn drain(&self, out: &mut Vec<u8>) {
        let state = &mut *self.state.borrow_mut();
        out.reserve(state.bytes.min(WRITE_BYTES_MAX));
        while out.len() < WRITE_BYTES_MAX
            && let Some(parcel) = state.pop()
        {
            let before = out.len();
            frame::encode_parcel(&parcel, out);
            state.tally(parcel.kind, &self.counters).add(out.len() - before);
        }
        self.counters.set_queued_bytes(state.bytes);
    }
}

/// How long to wait before the next attempt: random, growing.
struct BackOff {
    chance: Chance,
    ceiling: Duration,
}

impl BackOff {
    fn new(chance: Chance) -> Self {
        BackOff { chance, ceiling: BACKOFF_MIN }
    }

    fn reset(&mut self) {
        self.ceiling = BACKOFF_MIN;
    }

    fn next(&mut self) -> Duration {
        let ceiling = self.ceiling;
        self.ceiling = (ceiling * 2).min(BACKOFF_MAX);
        self.chance.within((ceiling / 2).max(BACKOFF_MIN), ceiling)
    }
}

/// Why there is no link.
enum DialError {
    Unreachable(io::Error),
    TimedOut(Duration),
    /// They refuse us.
    Refused(String),
    /// We refuse them.
    Refusal(Refusal),
}

impl From<io::Error> for DialError {
    fn from(error: io::Error) -> Self {
        DialError::Unreachable(error)
    }
}

impl fmt::Display for DialError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            DialError::Unreachable(error) => write!(f, "{error}"),
            DialError::TimedOut(after) => write!(f, "no handshake within {after:?}"),
            DialError::Refused(reason) => write!(f, "it refuses: {reason}"),
            DialError::Refusal(refusal) => write!(f, "refused here: {refusal}"),
        }
    }
}

/// Makes the link to a peer again and again, and writes what is in its queue.
pub(crate) async fn keep(hub: Rc<Hub>, peer: NodeId) {
    let queue = &hub.queues[&peer];
    let counters = hub.counters.of(peer);
    let mut backoff = BackOff::new(hub.chance());
    let mut told = None;
    loop {
        match timeout(hub.bounds.handshake_timeout, dial(&hub, queue)).await {
            Ok(Ok(stream)) => {
                told = None;
                counters.connected();
                tracing::info!(node = %hub.name.node, %peer, "linked");
                let (since, connection) = (Instant::now(), hub.next_connection());
                queue.set_linked(true);
                hub.tell(Message::Connected, peer, Way::Out, connection);
                let end = write_all(&hub, queue, stream).await;
                queue.set_linked(false);
                hub.tell(Message::Disconnected, peer, Way::Out, connection);
                tracing::info!(node = %hub.name.node, %peer, "link lost: {end}");
                if since.elapsed() >= STEADY {
                    backoff.reset();
                }
            }
            failed => {
                let late = || DialError::TimedOut(hub.bounds.handshake_timeout);
                let error = failed.map_or_else(
                    |_| late(),
                    |dialled| match dialled {
                        Ok(_) => late(),
                        Err(error) => error,
                    },
                );
                match error {
                    DialError::Refused(_) => counters.refused_by_it(),
                    DialError::Refusal(_) => counters.refused(),
                    _ => {}
                }
                let text = error.to_string();
                if told.as_ref() != Some(&text) {
                    let (node, address) = (hub.name.node, &queue.address);
                    tracing::warn!(%node, "no link to {peer} at {address}, retrying: {text}");
                    told = Some(text);
                }
            }
        }
        let wait = backoff.next();
        sleep(BACKOFF_MIN).await;
        tokio::select! { biased;
            () = queue.kick.notified() => backoff.reset(),
            () = sleep(wait - BACKOFF_MIN) => {}
        }
    }
}

async fn dial(hub: &Hub, queue: &Queue) -> Result<TcpStream, DialError> {
    let mut stream = TcpStream::connect(queue.address.as_str()).await?;
    tune(&stream);
    let identity = &hub.identity;
    let (cluster_id, from) = (identity.cluster_id.clone(), identity.me);
    let mut out = Vec::new();
    let (founder, to) = (identity.founder, queue.peer);
    frame::encode_hello(&Hello { cluster_id, from, founder, to }, &mut out);
    stream.write_all(&out).await?;
    let mut decoder = Decoder::new(HELLO_BYTES_MAX);
    let garbled = |what: String| Refusal::Garbled { at: identity.me.node, what };
    let welcome = match read_opening(&mut stream, &mut decoder).await {
        Ok(Opening::Welcome(welcome)) => welcome,
        Ok(Opening::Refuse(reason)) => return Err(DialError::Refused(printable(&reason))),
        Ok(Opening::Hello(_)) => return Err(DialError::Refusal(garbled("a Hello came".into()))),
        Err(OpeningError::Io(error)) => return Err(error.into()),
        Err(OpeningError::Frame(error)) => {
            return Err(DialError::Refusal(Refusal::of_frame(identity.me.node, error)));
        }
        Err(OpeningError::NoOpening) => {
            return Err(DialError::Refusal(garbled("a Parcel came".into())));
        }
    };
    let judge = |pins: &mut _| judge_welcome(identity, queue.peer, pins, &welcome);
    hub.pinned(judge).await.map_err(DialError::Refusal)?;
    if decoder.held() > 0 {
        hub.counters.of(queue.peer).alarm();
        return Err(DialError::Refusal(garbled(answers(queue.peer))));
    }
    Ok(stream)
}

/// What is wrong with a peer that sends on a connection of ours, after its Welcome.
fn answers(peer: NodeId) -> String {
    format!("{peer} answers on a connection made for sending")
}

/// A text of others that is safe in a log.
fn printable(text: &str) -> String {
    text.chars().map(|c| if c.is_control() { ' ' } else { c }).collect()
}

/// A frame of a handshake.
pub(crate) enum Opening {
    Hello(Hello),
    Welcome(Welcome),
    Refuse(String),
}

/// Why there is none.
pub(crate) enum OpeningError {
    Io(io::Error),
    Frame(FrameError),
    NoOpening,
}

/// Reads the one frame with which each side opens.
pub(crate) async fn read_opening(
    stream: &mut (impl AsyncRead + Unpin),
    decoder: &mut Decoder,
) -> Result<Opening, OpeningError> {
    loop {
        match decoder.next_frame().map_err(OpeningError::Frame)? {
            Some(Frame::Hello(hello)) => return Ok(Opening::Hello(hello)),
            Some(Frame::Welcome(welcome)) => return Ok(Opening::Welcome(welcome)),
            Some(Frame::Refuse { reason }) => return Ok(Opening::Refuse(reason)),
            Some(Frame::Parcel { .. }) => return Err(OpeningError::NoOpening),
            None => {}
        }
        if stream.read_buf(&mut decoder.room()).await.map_err(OpeningError::Io)? == 0 {
            let closed = "closed before the handshake was complete";
            return Err(OpeningError::Io(io::Error::new(io::ErrorKind::UnexpectedEof, closed)));
        }
    }
}

/// Writes until the connection ends; answers why it did.
async fn write_all(hub: &Hub, queue: &Queue, mut stream: TcpStream) -> String {
    let (mut reader, mut writer) = stream.split();
    let mut out = Vec::new();
    let mut unexpected = [0; 16];
    loop {
        out.clear();
        if out.capacity() > 4 * WRITE_BYTES_MAX {
            out = Vec::new();
        }
        queue.drain(&mut out);
        let came = if out.is_empty() {
            tokio::select! { biased;
                came = reader.read(&mut unexpected) => came,
                () = queue.filled.notified() => continue,
            }
        } else {
            tokio::select! { biased;
                came = reader.read(&mut unexpected) => came,
                wrote = writer.write_all(&out) => match wrote {
                    Ok(()) => continue,
                    Err(error) => Err(error),
                },
            }
        };
        return match came {
            Ok(0) => "closed by the peer".into(),
            Ok(_) => {
                let what = answers(queue.peer);
                hub.alarm(queue.peer, what.clone());
                what
            }
            Err(error) => error.to_string(),
        };
    }
}

/// Small delays, and an early word when the other machine is gone.
pub(crate) fn tune(stream: &TcpStream) {
    let socket = SockRef::from(stream);
    let keepalive = TcpKeepalive::new()
        .with_time(KEEPALIVE_IDLE)
        .with_interval(KEEPALIVE_INTERVAL)
        .with_retries(KEEPALIVE_PROBES);
    let tuned = socket.set_tcp_nodelay(true).and_then(|()| socket.set_tcp_keepalive(&keepalive));
    #[cfg(target_os = "linux")]
    let tuned = tuned.and_then(|()| socket.set_tcp_user_timeout(Some(UNACKNOWLEDGED_MAX)));
    if let Err(error) = tuned {
        tracing::debug!(%error, "a connection could not be tuned");
    }
}
