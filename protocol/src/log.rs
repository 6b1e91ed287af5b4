//! The log interface: the seam between a replicated state machine and the engine beneath it.
//!
//! ```text
//!   rsm                         engine (Paxos or Raft)
//!    | -- Propose ----------------> |   get this chosen, in some slot, at least once
//!    | -- ReadBarrier ------------> |   from which index on is a local read linearizable?
//!    | -- Subscribe, Forget ------> |   hand over from here; nobody here needs what is below
//!    | <- Chosen, Barrier, Role --- |
//!    | <- Restarted --------------- |   what I was told is gone: tell me again
//! ```
//!
//! An engine never looks inside a command. It may choose one proposal in two slots (after a crash
//! or a change of leader): whoever applies recognises it by its identity.

use std::fmt;

use bytes::Bytes;
use serde::{Deserialize, Serialize};

use crate::NodeId;

/// A place in the log. The first command stands at 1 or later; indexes are dense.
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize,
)]
pub struct Index(pub u64);

impl Index {
    /// The index after this one.
    pub fn next(self) -> Index {
        Index(self.0 + 1)
    }
}

impl fmt::Display for Index {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.0)
    }
}

/// Which proposal, or which read barrier: unique for ever, since `life` is drawn at random when an rsm begins to propose.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct ProposalId {
    /// Where it comes from.
    pub node: NodeId,
    /// Which life of the proposer's client.
    pub life: u64,
    /// Which proposal of that life, from 1.
    pub seq: u64,
}

impl fmt::Display for ProposalId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{:04x}.{}", self.node, self.life & 0xffff, self.seq)
    }
}

/// A command and its identity.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Proposal {
    /// Which proposal.
    pub id: ProposalId,
    /// What to order. Opaque to the engine.
    pub command: Bytes,
}

/// What an rsm asks of its engine.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Request {
    /// Have this chosen. To be repeated until it is seen in a `Chosen`: an engine that restarts
    /// forgets it, and says so.
    Propose(Proposal),
    /// From which index on is a local read linearizable that was asked for before this request?
    ReadBarrier {
        /// Comes back in the answer; an answer to a later one of the same life answers this too.
        id: ProposalId,
    },
    /// Hand over what is chosen, in order, from here on.
    Subscribe {
        /// The first index that is wanted.
        from: Index,
    },
    /// Nobody on this node needs the log through this index: its effect is durable elsewhere.
    Forget {
        /// Last index that may be forgotten.
        through: Index,
    },
}

/// One chosen place of the log.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Chosen {
    /// Where.
    pub index: Index,
    /// What; `None` for an entry of the engine itself, which is not for the machine.
    pub proposal: Option<Proposal>,
}

/// What an engine tells its rsm.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Event {
    /// The next places of the log, in order and without gaps from what was subscribed to.
    Chosen(Vec<Chosen>),
    /// A local read that came before the request `id` is linearizable once everything below `from`
    /// is applied.
    Barrier {
        /// The highest request of its life that is answered by this.
        id: ProposalId,
        /// First index that need not be applied.
        from: Index,
    },
    /// Who leads, as far as is known here.
    Role {
        /// Who would be asked.
        leader: Option<NodeId>,
    },
    /// The engine's part that hands over has lost its memory of us: subscribe again.
    SubscribeAgain,
    /// The engine's part that proposes has lost what it was asked: ask again.
    ProposeAgain,
}
