//! Who may send parcels to whom. Pure: the rules of the handshake, not its sockets.
//!
//! ```text
//!   dialler                    listener
//!      | -- Hello {cluster, from, to} --> |   my cluster? me? a node I know? in the life I know?
//!      |                                  |   a life not known yet is pinned: waits for the disk
//!      | <- Welcome {cluster, from} ----- |   or Refuse {reason}, and the connection is closed
//!      |   the same questions             |
//!      | -- Parcel, Parcel ... ---------> |
//! ```
//!
//! A directory is a founder's if it was made when the cluster was formed: what its node promises and votes
//! as a member, it does under its plain number (`NodeId::life` 0), so there must be only one such directory for
//! each number: that is what pins are for. Any later directory of a node, empty at first, begins as nobody, and
//! becomes a member under a name that its group has given to it and to nobody else. It needs no pin.
//!
//! # What always holds
//! H1. Parcels of a founder are heard only in the life (incarnation) that is pinned for it; of any other
//!     directory none is heard that an engine sends under the plain number of its node.
//! H2. A pin is durable before the first handshake that rests on it is complete; a node has one
//!     pin, and a pin that has been asked to be saved is never taken back.
//! H3. A refusal names both values that do not fit, and what to do about it.

use std::{collections::BTreeMap, fmt};

use quorate_protocol::{Incarnation, Member, NodeId};

use crate::frame::{FrameError, Hello, PROTOCOL_VERSION, Welcome, cut};

/// Longer names of clusters are cut in texts.
const CLUSTER_ID_SHOWN_MAX: usize = 100;

/// Who this node is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Identity {
    /// Its cluster.
    pub cluster_id: String,
    /// Itself.
    pub me: Member,
    /// Whether its directory was made when the cluster was formed.
    pub founder: bool,
}

/// Why a handshake is refused. The text is sent to the other side, so it names nodes and never
/// says "you" or "I".
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Refusal {
    /// Another version of the protocol.
    Version {
        /// Who refuses.
        at: NodeId,
        /// What the other side speaks.
        theirs: u16,
    },
    /// Another cluster.
    Cluster {
        /// Who refuses.
        at: NodeId,
        /// Its cluster.
        ours: String,
        /// Who is refused.
        from: Member,
        /// Its cluster.
        theirs: String,
    },
    /// The node at this address is not the one that was meant.
    OtherNode {
        /// Who is there.
        found: NodeId,
        /// Who was meant.
        wanted: NodeId,
    },
    /// A node that is not in the configuration.
    UnknownNode {
        /// Who refuses.
        at: NodeId,
        /// Who is refused.
        from: Member,
    },
    /// A node in another life than the one that is pinned for it.
    OtherLife {
        /// Who refuses.
        at: NodeId,
        /// Who is refused.
        from: Member,
        /// The life that is pinned.
        pinned: Incarnation,
    },
    /// Not a handshake.
    Garbled {
        /// Who refuses.
        at: NodeId,
        /// What came.
        what: String,
    },
}

impl fmt::Display for Refusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Refusal::Version { at, theirs } => write!(
                f,
                "{at} speaks protocol version {PROTOCOL_VERSION}, the other side speaks {theirs}: \
                 upgrade the node with the lower one",
            ),
            Refusal::Cluster { at, ours, from, theirs } => write!(
                f,
                "{at} belongs to cluster `{}`, {from} to cluster `{}`: give both the same \
                 cluster id, or correct the address of the peer",
                cut(ours, CLUSTER_ID_SHOWN_MAX),
                cut(theirs, CLUSTER_ID_SHOWN_MAX),
            ),
            Refusal::OtherNode { found, wanted } => write!(
                f,
                "{found} is at this address, {wanted} was meant: correct the address of {wanted} \
                 in the list of peers",
            ),
            Refusal::UnknownNode { at, from } => write!(
                f,
                "{from} is not in the list of peers of {at}: add it there, or correct the node's \
                 number",
            ),
            Refusal::OtherLife { at, from, pinned } => write!(
                f,
                "{at} knows {} as incarnation {pinned}, it comes as {}: its data directory is not \
                 the one it had. Start it from its old directory, or from an empty one without \
                 `initial = true`: then the group takes it in again",
                from.node, from.incarnation,
            ),
            Refusal::Garbled { at, what } => write!(f, "{at} expected a handshake: {what}"),
        }
    }
}

impl std::error::Error for Refusal {}

impl Refusal {
    /// The refusal of something that is not a frame of a handshake.
    pub fn of_frame(at: NodeId, error: FrameError) -> Refusal {
        match error {
            FrameError::Version(theirs) => Refusal::Version { at, theirs },
            other => Refusal::Garbled { at, what: other.to_string() },
        }
    }
}

/// How a node that may come in stands with the disk.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Pinned {
    /// Its life is pinned and durable: the handshake may complete.
    Saved,
    /// Its life has to be saved first.
    Unsaved,
}

/// Which life of each node is heard.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Pins {
    saved: BTreeMap<NodeId, Incarnation>,
    /// Met, and perhaps on their way to the disk.
    asked: BTreeMap<NodeId, Incarnation>,
}

impl Pins {
    /// The pins that are durable.
    pub fn new(saved: BTreeMap<NodeId, Incarnation>) -> Self {
        Pins { saved, asked: BTreeMap::new() }
    }

    /// Compares a member with the pin of its node, which is made if there is none. `Err` has the
    /// life that is pinned.
    pub fn check(&mut self, member: Member) -> Result<Pinned, Incarnation> {
        if let Some(&saved) = self.saved.get(&member.node) {
            return if saved == member.incarnation { Ok(Pinned::Saved) } else { Err(saved) };
        }
        let asked = *self.asked.entry(member.node).or_insert(member.incarnation);
        if asked == member.incarnation { Ok(Pinned::Unsaved) } else { Err(asked) }
    }

    /// Everything that has to be on the disk, the durable pins included.
    pub fn to_save(&self) -> Vec<Member> {
        let all = self.saved.iter().chain(&self.asked);
        all.map(|(&node, &incarnation)| Member { node, incarnation }).collect()
    }

    /// These are durable. Answers those that contradict what was asked for: nobody here did.
    pub fn on_saved(&mut self, members: Vec<Member>) -> Vec<Member> {
        let strange = |pins: &mut Pins, member: &Member| match pins.check(*member) {
            Ok(_) => {
                pins.asked.remove(&member.node);
                pins.saved.insert(member.node, member.incarnation);
                false
            }
            Err(_) => true,
        };
        members.into_iter().filter(|member| strange(self, member)).collect()
    }
}

/// The listener's judgement. `known` says whether a node is in the list of peers.
pub fn judge_hello(
    identity: &Identity,
    known: impl Fn(NodeId) -> bool,
    pins: &mut Pins,
    hello: &Hello,
) -> Result<Pinned, Refusal> {
    let at = identity.me.node;
    same_cluster(identity, &hello.cluster_id, hello.from)?;
    if hello.to != at {
        return Err(Refusal::OtherNode { found: at, wanted: hello.to });
    }
    if !known(hello.from.node) {
        return Err(Refusal::UnknownNode { at, from: hello.from });
    }
    right_life(at, pins, hello.from, hello.founder)
}

/// The dialler's judgement; it meant to reach `wanted`.
pub fn judge_welcome(
    identity: &Identity,
    wanted: NodeId,
    pins: &mut Pins,
    welcome: &Welcome,
) -> Result<Pinned, Refusal> {
    same_cluster(identity, &welcome.cluster_id, welcome.from)?;
    if welcome.from.node != wanted {
        return Err(Refusal::OtherNode { found: welcome.from.node, wanted });
    }
    right_life(identity.me.node, pins, welcome.from, welcome.founder)
}

fn same_cluster(identity: &Identity, theirs: &str, from: Member) -> Result<(), Refusal> {
    if theirs == identity.cluster_id {
        return Ok(());
    }
    Err(Refusal::Cluster {
        at: identity.me.node,
        ours: identity.cluster_id.clone(),
        from,
        theirs: theirs.to_owned(),
    })
}

fn right_life(at: NodeId, pins: &mut Pins, from: Member, founder: bool) -> Result<Pinned, Refusal> {
    if !founder {
        return Ok(Pinned::Saved);
    }
    pins.check(from).map_err(|pinned| Refusal::OtherLife { at, from, pinned })
}
