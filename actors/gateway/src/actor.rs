//! The gateway's mailbox: sockets on one side, the clerk on the other.

use std::{
    cell::Cell,
    collections::{BTreeMap, BTreeSet},
    io,
    net::TcpListener,
    rc::Rc,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering::Relaxed},
    },
    time::Duration,
};

use bytes::{Buf, BytesMut};
use quorate_clerk::{Administered, Message as ToClerk, Outcome, Outcomes, Refusal};
use quorate_protocol::{GroupId, Name, NodeId};
use quorate_stage::{Mailbox, Outlet, Role, Stage};
use tokio::task::{AbortHandle, spawn_local};

use crate::{
    Connection, Errors, NodeInfo, Redirect, Seq, Session, Socket, Submission, Work,
    messages::{ConnectionId, Message},
};

/// Bytes asked of a socket at one time.
const READ_BYTES: usize = 64 * 1024;
/// How often the replicas are asked who leads and how much they hold, while there are clients.
const LOOK_EVERY: Duration = Duration::from_secs(1);
/// How soon they are asked when who leads may have changed: a client has been sent elsewhere, or a node
/// has come or gone.
const LOOK_SOON: Duration = Duration::from_millis(50);
/// What a client is told that comes when there are too many; Redis' own text.
const TOO_MANY: &[u8] = b"-ERR max number of clients reached\r\n";

/// What a gateway is made from.
pub struct Config {
    /// Where clients come, bound already. It stays bound while the actor restarts.
    pub listen: TcpListener,
    /// Where operations go.
    pub clerk: Mailbox<ToClerk>,
    /// What is known of the node at the start.
    pub info: NodeInfo,
    /// Whether clients are sent to whoever leads.
    pub redirect: Redirect,
    /// The groups that there may be, with their nodes. Empty where the store is not divided.
    pub groups: BTreeMap<GroupId, Vec<NodeId>>,
    /// Connections at one time.
    pub clients_max: usize,
    /// Asks for a [`crate::Standing`] and, where the store is divided, for the newest configuration. They
    /// come as messages; a gateway that has begun anew has no other way to learn them.
    pub look: Outlet<()>,
    /// Where the numbers of connections and counters are kept across restarts.
    pub counts: Rc<Counts>,
}

/// Counted across restarts of the gateway.
#[derive(Default)]
pub struct Counts {
    last_connection: AtomicU64,
    commands: AtomicU64,
    errors: Cell<Errors>,
    rejected: AtomicU64,
    input_bytes: AtomicU64,
    output_bytes: AtomicU64,
}

/// What a gateway asks to be woken for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Timer {
    /// Ask the replicas who leads and how much they hold.
    Look,
}

/// A client that is connected. Dropped, it closes its socket: whoever waits for an answer that
/// will not come must not wait for ever.
struct Client {
    connection: Connection,
    socket: Arc<Socket>,
    outcomes: Outlet<Outcomes>,
    administered: Outlet<Administered>,
    /// What is being written by a task, since it did not fit at once.
    writing: bool,
    /// The reader waits to be told to go on.
    paused: bool,
    tally: crate::Tally,
}

impl Drop for Client {
    fn drop(&mut self) {
        self.socket.close();
    }
}

/// The gateway's actor.
pub struct Gateway {
    config: Rc<Config>,
    info: NodeInfo,
    clients: BTreeMap<ConnectionId, Client>,
    listener: Option<AbortHandle>,
    out: BytesMut,
    /// Who leads may have changed since the replicas were asked last.
    doubted: bool,
    stopped: bool,
}

impl Drop for Gateway {
    fn drop(&mut self) {
        if let Some(listener) = &self.listener {
            listener.abort();
        }
    }
}

impl Gateway {
    /// A gateway without clients; `reachable` are the nodes that answer now.
    pub fn new(config: Rc<Config>, reachable: &BTreeSet<NodeId>) -> Self {
        let mut info = config.info.clone();
        info.redirect = config.redirect;
        info.groups = config.groups.clone();
        info.remap();
        for node in reachable {
            info.on_peer(*node, true);
        }
        Gateway {
            config,
            info,
            clients: BTreeMap::new(),
            listener: None,
            out: BytesMut::new(),
            doubted: false,
            stopped: false,
        }
    }

    fn listen(&mut self, stage: &Stage<Self>) -> io::Result<()> {
        let listen = self.config.listen.try_clone()?;
        listen.set_nonblocking(true)?;
        let listen = tokio::net::TcpListener::from_std(listen)?;
        let (mailbox, counts) = (stage.mailbox().clone(), self.config.counts.clone());
        let task = spawn_local(async move {
            loop {
                match listen.accept().await {
                    Ok((stream, peer)) => {
                        let Ok(local) = stream.local_addr() else { continue };
                        // A client that waits for an answer must not wait for a timer of TCP.
                        let _ = stream.set_nodelay(true);
                        let id = counts.last_connection.fetch_add(1, Relaxed) + 1;
                        let socket = Arc::new(Socket::new(stream, peer, local));
                        mailbox.send(mailbox.name(), Message::Opened(ConnectionId(id), socket));
                    }
                    Err(error) => {
                        // Out of file descriptors, most likely: some will be given back.
                        tracing::warn!(%error, "a client could not be accepted");
                        tokio::time::sleep(Duration::from_millis(50)).await;
                    }
                }
            }
        });
        self.listener = Some(task.abort_handle());
        Ok(())
    }

    fn on_opened(&mut self, id: ConnectionId, socket: Arc<Socket>, stage: &mut Stage<Self>) {
        if self.clients.len() >= self.config.clients_max || self.stopped {
            self.config.counts.rejected.fetch_add(1, Relaxed);
            let _ = socket.stream.try_write(TOO_MANY);
            return;
        }
        let (peer, local) = (socket.peer.to_string(), socket.local.to_string());
        let session = Session::new(id.0, peer, local, stage.node().wall_ms() * 1000);
        let mailbox = stage.mailbox().clone();
        let outcomes = {
            let mailbox = mailbox.clone();
            Outlet::from_fn(move |from, outcomes| {
                mailbox.send(from, Message::Outcomes(id, outcomes));
            })
        };
        let administered = {
            let mailbox = mailbox.clone();
            Outlet::from_fn(move |from, outcomes| {
                mailbox.send(from, Message::Administered(id, outcomes));
            })
        };
        spawn_local(read(id, socket.clone(), mailbox));
        let client = Client {
            connection: Connection::new(session),
            socket,
            outcomes,
            administered,
            writing: false,
            paused: false,
            tally: crate::Tally::default(),
        };
        self.clients.insert(id, client);
        if !stage.timer_is_set(&Timer::Look) {
            self.look(stage);
        }
    }

    fn look(&mut self, stage: &mut Stage<Self>) {
        self.doubted = false;
        self.config.look.send(stage.name(), ());
        stage.set_timer(Timer::Look, LOOK_EVERY);
    }

    fn look_soon(&mut self, stage: &mut Stage<Self>) {
        if !self.clients.is_empty() && !std::mem::replace(&mut self.doubted, true) {
            stage.set_timer(Timer::Look, LOOK_SOON);
        }
    }

    fn on_input(&mut self, id: ConnectionId, bytes: BytesMut, stage: &mut Stage<Self>) {
        self.config.counts.input_bytes.fetch_add(bytes.len() as u64, Relaxed);
        let Some(client) = self.clients.get_mut(&id) else { return };
        client.paused = true;
        let buffer = client.connection.buffer();
        if buffer.is_empty() {
            *buffer = bytes;
        } else {
            buffer.extend_from_slice(&bytes);
        }
        self.advance(id, stage);
    }

    /// Lets a connection go as far as it can: what it asks to the clerk, answers to the socket.
    fn advance(&mut self, id: ConnectionId, stage: &mut Stage<Self>) {
        let Some(client) = self.clients.get_mut(&id) else { return };
        self.info.now_us = stage.node().wall_ms() * 1000;
        self.info.uptime_s = stage.node().uptime().as_secs();
        let (mut ops, mut calls) = (vec![], vec![]);
        loop {
            let submissions = client.connection.advance(&self.info);
            if submissions.is_empty() {
                break;
            }
            for Submission { seq, work } in submissions {
                match work {
                    // Certainly not executed: nobody has been asked.
                    Work::Operate(_) if self.stopped => {
                        client.connection.complete(seq, Outcome::Refused(Refusal::NotReady));
                    }
                    Work::Administer(_) if self.stopped => {
                        client.connection.administered(seq, Outcome::Refused(Refusal::NotReady));
                    }
                    Work::Operate(op) if !self.info.reaches(&op) => {
                        client.connection.complete(seq, Outcome::Refused(Refusal::NoQuorum));
                    }
                    Work::Operate(op) => ops.push((seq.0, op)),
                    Work::Administer(call) => calls.push((seq.0, call)),
                }
            }
        }
        if !ops.is_empty() {
            let submit = ToClerk::Submit { ops, reply: client.outcomes.clone() };
            self.config.clerk.send(stage.name(), submit);
        }
        if !calls.is_empty() {
            let administer = ToClerk::Administer { calls, reply: client.administered.clone() };
            self.config.clerk.send(stage.name(), administer);
        }
        self.write(id, stage);
        let Some(client) = self.clients.get_mut(&id) else { return };
        if client.paused && client.connection.wants_input() {
            client.paused = false;
            client.socket.go_on.notify_one();
        }
    }

    /// Writes what there is to be read, at once if it fits into the socket.
    fn write(&mut self, id: ConnectionId, stage: &mut Stage<Self>) {
        let Some(client) = self.clients.get_mut(&id) else { return };
        while !client.writing && client.connection.has_output() {
            self.out.clear();
            client.connection.drain_output(&mut self.out);
            self.config.counts.output_bytes.fetch_add(self.out.len() as u64, Relaxed);
            while !self.out.is_empty() {
                match client.socket.stream.try_write(&self.out) {
                    Ok(written) => self.out.advance(written),
                    Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                        client.writing = true;
                        let rest = self.out.split();
                        let mailbox = stage.mailbox().clone();
                        spawn_local(write_rest(id, client.socket.clone(), rest, mailbox));
                        break;
                    }
                    Err(_) => {
                        self.clients.remove(&id);
                        return;
                    }
                }
            }
        }
        let (counts, tally) = (&self.config.counts, client.connection.tally());
        counts.commands.fetch_add(tally.commands - client.tally.commands, Relaxed);
        let mut errors = counts.errors.get();
        let moved = errors.moved();
        tally.errors.add_since(&client.tally.errors, &mut errors);
        counts.errors.set(errors);
        client.tally = tally;
        let sent_elsewhere = errors.moved() > moved;
        if client.connection.is_finished() && !client.writing {
            self.clients.remove(&id);
        }
        if sent_elsewhere {
            self.look_soon(stage);
        }
        self.count();
    }

    fn count(&mut self) {
        let counts = &self.config.counts;
        self.info.counters = crate::Counters {
            clients: self.clients.len() as u64,
            connections: counts.last_connection.load(Relaxed),
            rejected: counts.rejected.load(Relaxed),
            commands: counts.commands.load(Relaxed),
            errors: counts.errors.get(),
            input_bytes: counts.input_bytes.load(Relaxed),
            output_bytes: counts.output_bytes.load(Relaxed),
        };
    }

    fn on_outcomes(&mut self, id: ConnectionId, outcomes: Outcomes, stage: &mut Stage<Self>) {
        let Some(client) = self.clients.get_mut(&id) else { return };
        for (token, outcome) in outcomes {
            client.connection.complete(Seq(token), outcome);
        }
        self.advance(id, stage);
    }

    fn on_administered(
        &mut self,
        id: ConnectionId,
        outcomes: Administered,
        stage: &mut Stage<Self>,
    ) {
        let Some(client) = self.clients.get_mut(&id) else { return };
        for (token, outcome) in outcomes {
            client.connection.administered(Seq(token), outcome);
        }
        self.advance(id, stage);
    }

    fn on_closed(&mut self, id: ConnectionId, stage: &mut Stage<Self>) {
        let Some(client) = self.clients.get_mut(&id) else { return };
        // It may have closed only its own way out, and wait for what is under way.
        client.connection.end();
        self.advance(id, stage);
    }
}

/// Reads a socket until it ends. Waits after each read until the gateway wants more.
async fn read(id: ConnectionId, socket: Arc<Socket>, gateway: Mailbox<Message>) {
    let me = gateway.name();
    let mut buffer = BytesMut::with_capacity(READ_BYTES);
    loop {
        let ready = tokio::select! {
            biased;
            () = socket.go_on.notified() => Ok(()),
            ready = socket.stream.readable() => ready,
        };
        if socket.is_closed() || ready.is_err() {
            break;
        }
        match socket.stream.try_read_buf(&mut buffer) {
            Ok(0) => break,
            Ok(_) => {
                gateway.send(me, Message::Input(id, buffer.split()));
                socket.go_on.notified().await;
                if socket.is_closed() {
                    return;
                }
                buffer.reserve(READ_BYTES / 4);
            }
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
            Err(_) => break,
        }
    }
    gateway.send(me, Message::Closed(id));
}

async fn write_rest(
    id: ConnectionId,
    socket: Arc<Socket>,
    mut rest: BytesMut,
    gateway: Mailbox<Message>,
) {
    while !rest.is_empty() && !socket.is_closed() {
        if socket.stream.writable().await.is_err() {
            break;
        }
        match socket.stream.try_write(&rest) {
            Ok(written) => rest.advance(written),
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
            Err(_) => {
                gateway.send(gateway.name(), Message::Closed(id));
                break;
            }
        }
    }
    gateway.send(gateway.name(), Message::Written(id));
}

impl Role for Gateway {
    type Message = Message;
    type Timer = Timer;

    fn started(&mut self, stage: &mut Stage<Self>) {
        if let Err(error) = self.listen(stage) {
            stage.fatal(format!("cannot listen for clients: {error}"));
        }
    }

    fn receive(&mut self, _: Name, message: Message, stage: &mut Stage<Self>) {
        match message {
            Message::Opened(id, socket) => self.on_opened(id, socket, stage),
            Message::Input(id, bytes) => self.on_input(id, bytes, stage),
            Message::Closed(id) => self.on_closed(id, stage),
            Message::Written(id) => {
                if let Some(client) = self.clients.get_mut(&id) {
                    client.writing = false;
                    self.advance(id, stage);
                }
            }
            Message::Outcomes(id, outcomes) => self.on_outcomes(id, outcomes, stage),
            Message::ClerkStarted => {
                let clients: Vec<ConnectionId> = self.clients.keys().copied().collect();
                for id in clients {
                    if let Some(client) = self.clients.get_mut(&id) {
                        client.connection.abandon();
                        self.advance(id, stage);
                    }
                }
            }
            Message::Administered(id, outcomes) => self.on_administered(id, outcomes, stage),
            Message::Peer(node, up) => {
                self.info.on_peer(node, up);
                self.look_soon(stage);
            }
            Message::Standing(standing) => self.info.on_standing(&standing),
            Message::Configured(configuration) => self.info.on_configured(configuration),
            Message::Stop => self.stopped = true,
        }
    }

    fn on_timer(&mut self, Timer::Look: Timer, stage: &mut Stage<Self>) {
        if !self.clients.is_empty() {
            self.look(stage);
        }
    }
}
