//! What has crossed the links and what has not. Shared with the metrics page, so atomics.

use std::{
    collections::BTreeMap,
    fmt,
    sync::{
        Arc, Mutex,
        atomic::{AtomicU64, Ordering::Relaxed},
    },
};

use quorate_protocol::{Name, NodeId};
use serde::Serialize;

use crate::faults::Loss;

/// Why a parcel did not get through.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Dropped {
    /// Too much waits for the link.
    Full,
    /// The link is down, and more came than is kept for it.
    Unlinked,
    /// It is longer than a frame may be.
    TooLong,
    /// It is for a node that is not in the list of peers.
    UnknownNode,
    /// It is for an actor that does not live here.
    UnknownActor,
    /// Its message could not be read.
    Unreadable,
    /// It claims to come from another node than it does.
    ForeignSender,
    /// Fault: the link is cut.
    Cut,
    /// Fault: the receiver is deaf.
    Deaf,
    /// Fault: chance.
    Chance,
    /// Fault: chance took an answer.
    ReplyLost,
    /// Fault: too many parcels are being delayed.
    Delayed,
}

impl Dropped {
    /// All reasons, in the order of [`Counters`].
    pub const ALL: [Dropped; 12] = [
        Dropped::Full,
        Dropped::Unlinked,
        Dropped::TooLong,
        Dropped::UnknownNode,
        Dropped::UnknownActor,
        Dropped::Unreadable,
        Dropped::ForeignSender,
        Dropped::Cut,
        Dropped::Deaf,
        Dropped::Chance,
        Dropped::ReplyLost,
        Dropped::Delayed,
    ];
}

impl fmt::Display for Dropped {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Dropped::Full => "full",
            Dropped::Unlinked => "unlinked",
            Dropped::TooLong => "too_long",
            Dropped::UnknownNode => "unknown_node",
            Dropped::UnknownActor => "unknown_actor",
            Dropped::Unreadable => "unreadable",
            Dropped::ForeignSender => "foreign_sender",
            Dropped::Cut => "cut",
            Dropped::Deaf => "deaf",
            Dropped::Chance => "chance",
            Dropped::ReplyLost => "reply_lost",
            Dropped::Delayed => "delayed",
        })
    }
}

impl From<Loss> for Dropped {
    fn from(loss: Loss) -> Dropped {
        match loss {
            Loss::Cut => Dropped::Cut,
            Loss::Deaf => Dropped::Deaf,
            Loss::Dropped => Dropped::Chance,
            Loss::ReplyLost => Dropped::ReplyLost,
        }
    }
}

/// Parcels and their bytes on the wire.
#[derive(Debug, Default)]
pub struct Tally {
    parcels: AtomicU64,
    bytes: AtomicU64,
}

impl Tally {
    pub(crate) fn add(&self, bytes: usize) {
        self.parcels.fetch_add(1, Relaxed);
        self.bytes.fetch_add(bytes as u64, Relaxed);
    }

    /// How many parcels.
    pub fn parcels(&self) -> u64 {
        self.parcels.load(Relaxed)
    }

    /// How many bytes, headers included.
    pub fn bytes(&self) -> u64 {
        self.bytes.load(Relaxed)
    }

    fn view(&self, what: String) -> TallyView {
        TallyView { what, parcels: self.parcels(), bytes: self.bytes() }
    }
}

/// A [`Tally`] and what it counts.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct TallyView {
    /// A kind of message, or the name of an actor.
    pub what: String,
    /// Parcels.
    pub parcels: u64,
    /// Bytes, headers included.
    pub bytes: u64,
}

/// Counts of one peer.
#[derive(Debug)]
pub struct PeerCounters {
    sent: Mutex<BTreeMap<&'static str, Arc<Tally>>>,
    received: BTreeMap<Name, Tally>,
    dropped: [AtomicU64; Dropped::ALL.len()],
    connects: AtomicU64,
    refused: AtomicU64,
    refused_by_it: AtomicU64,
    alarms: AtomicU64,
    queued_bytes: AtomicU64,
}

fn bump(counter: &AtomicU64) {
    counter.fetch_add(1, Relaxed);
}

impl PeerCounters {
    fn new(ports: &[Name]) -> Self {
        PeerCounters {
            sent: Mutex::default(),
            received: ports.iter().map(|name| (*name, Tally::default())).collect(),
            dropped: std::array::from_fn(|_| AtomicU64::new(0)),
            connects: AtomicU64::new(0),
            refused: AtomicU64::new(0),
            refused_by_it: AtomicU64::new(0),
            alarms: AtomicU64::new(0),
            queued_bytes: AtomicU64::new(0),
        }
    }

    /// The tally of what is sent of one kind. Takes a lock: the link keeps what it answers.
    pub(crate) fn sent_of(&self, kind: &'static str) -> Arc<Tally> {
        let mut sent = self.sent.lock().unwrap_or_else(|poisoned| poisoned.into_inner());
        sent.entry(kind).or_default().clone()
    }

    pub(crate) fn received(&self, by: &Name, bytes: usize) {
        if let Some(tally) = self.received.get(by) {
            tally.add(bytes);
        }
    }

    pub(crate) fn drop_one(&self, why: Dropped) {
        self.drop_many(why, 1);
    }

    pub(crate) fn drop_many(&self, why: Dropped, count: u64) {
        self.dropped[why as usize].fetch_add(count, Relaxed);
    }

    pub(crate) fn connected(&self) {
        bump(&self.connects);
    }

    pub(crate) fn refused(&self) {
        bump(&self.refused);
    }

    pub(crate) fn refused_by_it(&self) {
        bump(&self.refused_by_it);
    }

    pub(crate) fn alarm(&self) {
        bump(&self.alarms);
    }

    pub(crate) fn set_queued_bytes(&self, bytes: usize) {
        self.queued_bytes.store(bytes as u64, Relaxed);
    }

    /// Parcels lost for a reason.
    pub fn dropped(&self, why: Dropped) -> u64 {
        self.dropped[why as usize].load(Relaxed)
    }

    /// Handshakes that this node refused.
    pub fn refusals(&self) -> u64 {
        self.refused.load(Relaxed)
    }

    /// Handshakes of this node that were refused there.
    pub fn refusals_by_it(&self) -> u64 {
        self.refused_by_it.load(Relaxed)
    }

    /// How often the outgoing link was made.
    pub fn connects(&self) -> u64 {
        self.connects.load(Relaxed)
    }

    /// How often it broke the rules.
    pub fn alarms(&self) -> u64 {
        self.alarms.load(Relaxed)
    }

    /// Bytes that wait for the link.
    pub fn queued_bytes(&self) -> u64 {
        self.queued_bytes.load(Relaxed)
    }

    /// All parcels sent.
    pub fn parcels_sent(&self) -> u64 {
        let sent = self.sent.lock().unwrap_or_else(|poisoned| poisoned.into_inner());
        sent.values().map(|tally| tally.parcels()).sum()
    }

    /// All parcels received and taken.
    pub fn parcels_received(&self) -> u64 {
        self.received.values().map(Tally::parcels).sum()
    }

    fn view(&self, node: NodeId) -> PeerView {
        let sent = self.sent.lock().unwrap_or_else(|poisoned| poisoned.into_inner());
        let received = self.received.iter().filter(|(_, tally)| tally.parcels() > 0);
        let lost = Dropped::ALL.into_iter().map(|why| (why.to_string(), self.dropped(why)));
        PeerView {
            node,
            sent: sent.iter().map(|(kind, tally)| tally.view(kind.to_string())).collect(),
            received: received.map(|(name, tally)| tally.view(name.to_string())).collect(),
            dropped: lost.filter(|(_, count)| *count > 0).collect(),
            connects: self.connects(),
            refusals: self.refusals(),
            refusals_by_it: self.refusals_by_it(),
            alarms: self.alarms(),
            queued_bytes: self.queued_bytes(),
        }
    }
}

/// What can be seen of one peer.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct PeerView {
    /// The peer; node 0 gathers what cannot be laid to any.
    pub node: NodeId,
    /// Sent, per kind of message.
    pub sent: Vec<TallyView>,
    /// Received, per receiving actor: a kind is not known before the message is read.
    pub received: Vec<TallyView>,
    /// Lost, per reason; reasons that never occurred are left out.
    pub dropped: BTreeMap<String, u64>,
    /// How often the outgoing link was made: reconnects and one.
    pub connects: u64,
    /// Handshakes that this node refused.
    pub refusals: u64,
    /// Handshakes of this node that were refused there.
    pub refusals_by_it: u64,
    /// How often it broke the rules.
    pub alarms: u64,
    /// Bytes that wait for the link.
    pub queued_bytes: u64,
}

/// Counts of all peers.
#[derive(Debug)]
pub struct Counters(BTreeMap<NodeId, Arc<PeerCounters>>);

/// Stands for whoever is not a peer.
pub const NOBODY: NodeId = NodeId(0);

impl Counters {
    pub(crate) fn new(peers: impl Iterator<Item = NodeId>, ports: &[Name]) -> Self {
        let all = peers.chain([NOBODY]);
        Counters(all.map(|node| (node, Arc::new(PeerCounters::new(ports)))).collect())
    }

    /// The counts of one peer; of whoever is none, those of [`NOBODY`].
    pub fn of(&self, node: NodeId) -> &Arc<PeerCounters> {
        self.0.get(&node).unwrap_or_else(|| &self.0[&NOBODY])
    }

    /// Everything, in the order of the nodes.
    pub fn view(&self) -> Vec<PeerView> {
        self.0.iter().map(|(node, counters)| counters.view(*node)).collect()
    }
}
