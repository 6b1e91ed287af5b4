//! What the actor and its tasks share, on their one thread.

use std::{
    cell::{Cell, RefCell},
    collections::{BTreeMap, BTreeSet},
    rc::Rc,
    sync::Arc,
    time::Duration,
};

use bytes::Bytes;
use quorate_protocol::{Member, Name, NodeId};
use quorate_stage::{Chance, Class, Mailbox, Outlet, Parcel};
use tokio::{
    sync::Notify,
    task::{AbortHandle, JoinSet},
};

use crate::{
    actor::{Bounds, Ports},
    counters::{Counters, Dropped, NOBODY},
    delay::DelayLine,
    faults::{Faults, Verdict},
    frame::PARCEL_OVERHEAD,
    handshake::{Identity, Pinned, Pins, Refusal},
    link::Queue,
    messages::{LinkEvent, Message, TaskPanic, Way},
};

/// What outlives a crash of the actor: what is durable elsewhere (pins, and which have been asked
/// for), what an operator has set (faults), and what others have been told and believe.
pub(crate) struct Kept {
    pub(crate) pins: RefCell<Pins>,
    pub(crate) faults: RefCell<Faults>,
    pub(crate) told_up: RefCell<BTreeSet<NodeId>>,
    pub(crate) life: Cell<u64>,
}

/// A parcel that a fault holds back.
pub(crate) enum Delayed {
    Out(Parcel),
    In { from: Name, to: Name, body: Bytes },
}

/// Accepted connections.
#[derive(Default)]
struct Guests {
    /// Those that have not shaken hands, oldest first.
    strangers: BTreeMap<u64, AbortHandle>,
    /// The one connection of each peer that may bring parcels.
    seated: BTreeMap<NodeId, (u64, AbortHandle)>,
}

/// One life of the actor: all that ends when it crashes.
pub(crate) struct Hub {
    pub(crate) life: u64,
    pub(crate) name: Name,
    pub(crate) identity: Identity,
    pub(crate) bounds: Bounds,
    pub(crate) kept: Rc<Kept>,
    pub(crate) pins_changed: Notify,
    pub(crate) queues: BTreeMap<NodeId, Queue>,
    pub(crate) delays: DelayLine<Delayed>,
    pub(crate) counters: Arc<Counters>,
    mailbox: Mailbox<Message>,
    ports: Ports,
    save_pins: Outlet<Vec<Member>>,
    chance: RefCell<Chance>,
    guests: RefCell<Guests>,
    connections: Cell<u64>,
    /// The last complaint about each node, to say it once.
    said: RefCell<BTreeMap<NodeId, String>>,
}

impl Hub {
    #[expect(clippy::too_many_arguments, reason = "made in one place, from parts of one config")]
    pub(crate) fn new(
        kept: Rc<Kept>,
        mailbox: Mailbox<Message>,
        identity: Identity,
        bounds: Bounds,
        queues: BTreeMap<NodeId, Queue>,
        ports: Ports,
        save_pins: Outlet<Vec<Member>>,
        counters: Arc<Counters>,
        chance: Chance,
    ) -> Self {
        kept.life.set(kept.life.get() + 1);
        Hub {
            life: kept.life.get(),
            name: mailbox.name(),
            identity,
            bounds,
            kept,
            pins_changed: Notify::new(),
            queues,
            delays: DelayLine::new(),
            counters,
            mailbox,
            ports,
            save_pins,
            chance: RefCell::new(chance),
            guests: RefCell::default(),
            connections: Cell::new(0),
            said: RefCell::default(),
        }
    }

    fn me(&self) -> NodeId {
        self.identity.me.node
    }

    /// A chance of its own for a task.
    pub(crate) fn chance(&self) -> Chance {
        Chance::new(self.chance.borrow_mut().number())
    }

    // Out.

    /// Takes a parcel of this node.
    pub(crate) fn post(&self, parcel: Parcel) {
        let (from, to) = (parcel.from.node.home(), parcel.to.node.home());
        let counters = self.counters.of(to);
        if from != self.me() {
            let what = format!("{} is no actor of this node and cannot send from it", parcel.from);
            counters.drop_one(Dropped::ForeignSender);
            return self.alarm(NOBODY, what);
        }
        if to == self.me() {
            self.deliver(to, parcel.from, parcel.to, &parcel.body);
            return;
        }
        let Some(queue) = self.queues.get(&to) else {
            return counters.drop_one(Dropped::UnknownNode);
        };
        match self.verdict(from, to, parcel.class) {
            Verdict::Once(Duration::ZERO) => queue.push(parcel),
            verdict => self.post_faulty(queue, parcel, verdict),
        }
    }

    fn post_faulty(&self, queue: &Queue, parcel: Parcel, verdict: Verdict) {
        let counters = self.counters.of(parcel.to.node.home());
        if let Verdict::Lost(loss) = verdict {
            return counters.drop_one(loss.into());
        }
        for delay in verdict.delays() {
            if delay.is_zero() {
                queue.push(parcel.clone());
            } else if self.delays.push(delay, Delayed::Out(parcel.clone())).is_err() {
                counters.drop_one(Dropped::Delayed);
            }
        }
    }

    fn verdict(&self, from: NodeId, to: NodeId, class: Class) -> Verdict {
        let faults = self.kept.faults.borrow();
        if faults.is_none() {
            return Verdict::Once(Duration::ZERO);
        }
        faults.decide(from, to, class, &mut self.chance.borrow_mut())
    }

    /// A parcel has been held back long enough.
    pub(crate) fn release(&self, delayed: Delayed) {
        match delayed {
            Delayed::Out(parcel) => {
                if let Some(queue) = self.queues.get(&parcel.to.node.home()) {
                    queue.push(parcel);
                }
            }
            Delayed::In { from, to, body } => {
                self.deliver(from.node.home(), from, to, &body);
            }
        }
    }

    // In.

    /// Takes a parcel that came over a connection of `peer`. False if it could not be read.
    pub(crate) fn receive(
        &self,
        peer: NodeId,
        from: Name,
        to: Name,
        class: Class,
        body: &[u8],
    ) -> bool {
        let counters = self.counters.of(peer);
        let verdict = self.verdict(peer, self.me(), class);
        if let Verdict::Lost(loss) = verdict {
            counters.drop_one(loss.into());
        }
        let mut readable = true;
        for delay in verdict.delays() {
            if delay.is_zero() {
                readable &= self.deliver(peer, from, to, body);
                continue;
            }
            let body = Bytes::copy_from_slice(body);
            if self.delays.push(delay, Delayed::In { from, to, body }).is_err() {
                counters.drop_one(Dropped::Delayed);
            }
        }
        readable
    }

    /// Puts a message into its mailbox. False if it could not be read.
    fn deliver(&self, peer: NodeId, from: Name, to: Name, body: &[u8]) -> bool {
        let counters = self.counters.of(peer);
        let Some(port) = self.ports.get(&to) else {
            counters.drop_one(Dropped::UnknownActor);
            return true;
        };
        match port.deliver(from, body) {
            Ok(()) => {
                counters.received(&to, PARCEL_OVERHEAD + body.len());
                true
            }
            Err(error) => {
                counters.drop_one(Dropped::Unreadable);
                tracing::debug!(%from, %to, %error, "a parcel is dropped");
                false
            }
        }
    }

    // Handshakes.

    /// Waits until a handshake may complete, having its pin saved if need be.
    pub(crate) async fn pinned(
        &self,
        judge: impl Fn(&mut Pins) -> Result<Pinned, Refusal>,
    ) -> Result<(), Refusal> {
        let mut asked = false;
        loop {
            // Made before the look, so that no change is missed.
            let changed = self.pins_changed.notified();
            let verdict = judge(&mut self.kept.pins.borrow_mut())?;
            if verdict == Pinned::Saved {
                return Ok(());
            }
            if !asked {
                // Each handshake asks for itself: the answer to an earlier one may be lost.
                asked = true;
                let wanted = self.kept.pins.borrow().to_save();
                self.save_pins.send(self.name, wanted);
            }
            changed.await;
        }
    }

    // Accepted connections.

    pub(crate) fn next_connection(&self) -> u64 {
        self.connections.set(self.connections.get() + 1);
        self.connections.get()
    }

    /// Lets a stranger in. If there are too many, the one that has been idling for longest goes.
    pub(crate) fn admit(&self, connection: u64, task: AbortHandle) {
        let mut guests = self.guests.borrow_mut();
        guests.strangers.insert(connection, task);
        if guests.strangers.len() > self.bounds.strangers_max
            && let Some((_, oldest)) = guests.strangers.pop_first()
        {
            oldest.abort();
            drop(guests);
            let most = self.bounds.strangers_max;
            self.complain(NOBODY, format!("more than {most} connections that shake no hands"));
        }
    }

    /// A stranger has shaken hands: its connection replaces the one that the peer had. False if
    /// it has just been sent away.
    pub(crate) fn seat(&self, connection: u64, peer: NodeId) -> bool {
        let mut guests = self.guests.borrow_mut();
        let Some(task) = guests.strangers.remove(&connection) else { return false };
        if let Some((_, former)) = guests.seated.insert(peer, (connection, task)) {
            former.abort();
        }
        drop(guests);
        self.said.borrow_mut().remove(&peer);
        self.tell(Message::Connected, peer, Way::In, connection);
        true
    }

    /// An accepted connection is gone.
    pub(crate) fn leave(&self, connection: u64, peer: Option<NodeId>) {
        let mut guests = self.guests.borrow_mut();
        guests.strangers.remove(&connection);
        if let Some(peer) = peer {
            if guests.seated.get(&peer).is_some_and(|(seated, _)| *seated == connection) {
                guests.seated.remove(&peer);
            }
            self.tell(Message::Disconnected, peer, Way::In, connection);
        }
    }

    // What is said.

    pub(crate) fn tell(
        &self,
        what: fn(LinkEvent) -> Message,
        peer: NodeId,
        way: Way,
        connection: u64,
    ) {
        let event = LinkEvent { life: self.life, peer, way, connection };
        self.mailbox.send(self.name, what(event));
    }

    /// Says something at warn, once per change of what is to be said about a node.
    pub(crate) fn complain(&self, about: NodeId, text: String) {
        let mut said = self.said.borrow_mut();
        if said.get(&about) != Some(&text) {
            tracing::warn!(node = %self.me(), "{text}");
            said.insert(about, text);
        }
    }

    /// A peer did what no correct peer does.
    pub(crate) fn alarm(&self, peer: NodeId, text: String) {
        self.counters.of(peer).alarm();
        self.complain(peer, text);
    }

    /// Runs a task of this life; a panic of it becomes one of the actor.
    pub(crate) fn launch(
        self: &Rc<Self>,
        tasks: &mut JoinSet<()>,
        task: impl Future<Output = ()> + 'static,
    ) {
        let hub = self.clone();
        tasks.spawn_local(async move {
            let mut inner = JoinSet::new();
            inner.spawn_local(task);
            if let Some(Err(error)) = inner.join_next().await
                && error.is_panic()
            {
                let panic = TaskPanic { life: hub.life, text: error.to_string() };
                hub.mailbox.send(hub.name, Message::TaskPanicked(panic));
            }
        });
    }
}
