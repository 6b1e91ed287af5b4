//! Messages that may cross to another node: one encoding, whatever the number of receivers.

use std::{
    collections::BTreeMap,
    fmt,
    sync::{Arc, Mutex},
};

use bytes::Bytes;
use quorate_protocol::{GroupId, Name, NodeId, Role, encode};
use serde::{Serialize, de::DeserializeOwned};

use crate::mailbox::{Mailbox, Message};

/// Whether a message opens an exchange or answers one. The labs' networks treat the two
/// differently: a deaf server still hears answers, and a request can be lost on its way back.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Class {
    /// Sent unasked.
    Request,
    /// Sent because its receiver asked.
    Answer,
}

/// A message that may cross to another node.
pub trait WireMessage: Message + Serialize + DeserializeOwned {
    /// Request or answer?
    fn class(&self) -> Class;
}

/// An encoded message on its way to another node.
#[derive(Clone, Debug)]
pub struct Parcel {
    /// Who sends it.
    pub from: Name,
    /// Who shall have it.
    pub to: Name,
    /// Request or answer.
    pub class: Class,
    /// Which kind of message, for counters and traces.
    pub kind: &'static str,
    /// The message, rmp-serde.
    pub body: Bytes,
}

/// Carries parcels to other nodes: TCP links, or the simulator's network. May lose, repeat, delay
/// and reorder them.
pub trait Transport: Send + Sync {
    /// Takes a parcel. Never blocks.
    fn send(&self, parcel: Parcel);
}

/// Why bytes that came from another node were refused.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DecodeError(pub String);

impl fmt::Display for DecodeError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "a message could not be read: {}", self.0)
    }
}

impl std::error::Error for DecodeError {}

/// Takes encoded messages for one local actor.
pub trait Port: Send + Sync {
    /// Decodes `body` and puts it into the mailbox.
    fn deliver(&self, from: Name, body: &[u8]) -> Result<(), DecodeError>;
}

struct MailboxPort<M: Message>(Mailbox<M>);

impl<M: WireMessage> Port for MailboxPort<M> {
    fn deliver(&self, from: Name, body: &[u8]) -> Result<(), DecodeError> {
        let mut reader = rmp_serde::Deserializer::from_read_ref(body);
        let message = M::deserialize(&mut reader).map_err(|e| DecodeError(e.to_string()))?;
        self.0.send(from, message);
        Ok(())
    }
}

impl<M: WireMessage> Mailbox<M> {
    /// The door through which encoded messages come in.
    pub fn port(&self) -> Arc<dyn Port> {
        Arc::new(MailboxPort(self.clone()))
    }
}

/// The actors of one role and group on all nodes, the local one included: the sender cannot tell
/// them apart.
pub struct Peers<M: Message> {
    local: Mailbox<M>,
    transport: Arc<dyn Transport>,
}

impl<M: Message> Clone for Peers<M> {
    fn clone(&self) -> Self {
        Peers { local: self.local.clone(), transport: self.transport.clone() }
    }
}

impl<M: WireMessage> Peers<M> {
    /// The peers of the actor behind `local`, itself included.
    pub fn new(local: Mailbox<M>, transport: Arc<dyn Transport>) -> Self {
        Peers { local, transport }
    }

    /// Sends to the actor on `node`.
    pub fn send(&self, from: Name, node: NodeId, message: M) {
        let to = self.local.name();
        if node == to.node {
            self.local.send(from, message);
        } else {
            self.post(from, to.on(node), &message, encode(&message));
        }
    }

    /// Sends one message to the actors on several nodes; it is encoded once. The local actor, if
    /// it is among them, gets it last and unencoded.
    pub fn send_all(&self, from: Name, nodes: &[NodeId], message: M) {
        let to = self.local.name();
        let mut body = None;
        for node in nodes.iter().filter(|node| **node != to.node) {
            let body = body.get_or_insert_with(|| encode(&message)).clone();
            self.post(from, to.on(*node), &message, body);
        }
        if nodes.contains(&to.node) {
            self.local.send(from, message);
        }
    }

    fn post(&self, from: Name, to: Name, message: &M, body: Bytes) {
        let kind = M::KINDS.get(message.kind()).copied().unwrap_or("?");
        self.transport.send(Parcel { from, to, class: message.class(), kind, body });
    }
}

/// The actors of one role on all nodes, seen through one vocabulary.
pub struct PeerOutlet<T> {
    send: SendToPeer<T>,
}

type SendToPeer<T> = Arc<dyn Fn(Name, NodeId, T) + Send + Sync>;

impl<T> Clone for PeerOutlet<T> {
    fn clone(&self) -> Self {
        PeerOutlet { send: self.send.clone() }
    }
}

impl<T> PeerOutlet<T> {
    /// An outlet that hands every message to a function.
    pub fn from_fn(send: impl Fn(Name, NodeId, T) + Send + Sync + 'static) -> Self {
        PeerOutlet { send: Arc::new(send) }
    }

    /// Sends to the actor on `node`.
    pub fn send(&self, from: Name, node: NodeId, message: T) {
        (self.send)(from, node, message);
    }
}

impl<M: WireMessage> Peers<M> {
    /// The same peers, for a sender that knows only one of the vocabularies they understand.
    pub fn outlet<T: Send + 'static>(&self) -> PeerOutlet<T>
    where
        M: From<T>,
    {
        let peers = self.clone();
        PeerOutlet { send: Arc::new(move |from, node, m| peers.send(from, node, M::from(m))) }
    }
}

/// One role of one group on other nodes, for a sender that has none of its own kind here: a
/// clerk's view of the servers.
pub struct Link<M> {
    group: GroupId,
    role: Role,
    transport: Arc<dyn Transport>,
    message: std::marker::PhantomData<fn(M)>,
}

impl<M> Clone for Link<M> {
    fn clone(&self) -> Self {
        Link { transport: self.transport.clone(), message: std::marker::PhantomData, ..*self }
    }
}

impl<M: WireMessage> Link<M> {
    /// The actors of `role` in `group`.
    pub fn new(group: GroupId, role: Role, transport: Arc<dyn Transport>) -> Self {
        Link { group, role, transport, message: std::marker::PhantomData }
    }

    /// Sends to the actor on `node`.
    pub fn send(&self, from: Name, node: NodeId, message: &M) {
        let kind = M::KINDS.get(message.kind()).copied().unwrap_or("?");
        let to = Name::new(node, self.group, self.role);
        let body = encode(message);
        self.transport.send(Parcel { from, to, class: message.class(), kind, body });
    }
}

/// The actors of one role in every group and on every node, this one included: the sender cannot tell
/// them apart.
pub struct Directory<M: Message> {
    node: NodeId,
    role: Role,
    /// Those on this node.
    here: Arc<Mutex<BTreeMap<GroupId, Mailbox<M>>>>,
    transport: Arc<dyn Transport>,
}

impl<M: Message> Clone for Directory<M> {
    fn clone(&self) -> Self {
        let (here, transport) = (self.here.clone(), self.transport.clone());
        Directory { node: self.node, role: self.role, here, transport }
    }
}

impl<M: WireMessage> Directory<M> {
    /// Of a role, seen from a node where none has begun yet.
    pub fn new(node: NodeId, role: Role, transport: Arc<dyn Transport>) -> Self {
        Directory { node, role, here: Arc::default(), transport }
    }

    /// One of them begins on this node.
    pub fn add(&self, mailbox: Mailbox<M>) {
        let mut here = self.here.lock().unwrap_or_else(|poisoned| poisoned.into_inner());
        here.insert(mailbox.name().group, mailbox);
    }

    /// The one of a group on this node, if there is one.
    pub fn here(&self, group: GroupId) -> Option<Mailbox<M>> {
        let here = self.here.lock().unwrap_or_else(|poisoned| poisoned.into_inner());
        here.get(&group).cloned()
    }

    /// All of them on this node.
    pub fn all_here(&self) -> Vec<Mailbox<M>> {
        let here = self.here.lock().unwrap_or_else(|poisoned| poisoned.into_inner());
        here.values().cloned().collect()
    }

    /// Sends to the one of a group on a node.
    pub fn send(&self, from: Name, group: GroupId, node: NodeId, message: M) {
        if node != self.node {
            Link::new(group, self.role, self.transport.clone()).send(from, node, &message);
        } else if let Some(mailbox) = self.here(group) {
            mailbox.send(from, message);
        }
    }
}
