//! The log interface: the seam between a replicated state machine and the engine beneath it.
//!
//! ```text
//!   rsm                         engine (Paxos or Raft)
//!    | -- Propose ----------------> |   get this chosen, in some slot, at least once
//!    | -- Offer ------------------> |   the same at most once, and only if you lead (the labs' Start)
//!    | -- ReadBarrier ------------> |   from which index on is a local read linearizable?
//!    | -- Subscribe, Forget ------> |   hand over from here; what is below is durable elsewhere
//!    | -- Reconfigure ------------> |   let these be the members
//!    | <- Chosen, Barrier, Role --- |
//!    | <- Configured -------------- |   who the members are
//!    | <- Behind ------------------ |   what comes next is forgotten: fetch a snapshot
//!    | <- SubscribeAgain, ... ----- |   what I was told is gone: tell me again
//! ```
//!
//! An engine never looks inside a command. It may choose one proposal in two slots (after a crash
//! or a change of leader): whoever applies recognises it by its identity.

use std::fmt;

use bytes::Bytes;
use serde::{Deserialize, Serialize};

use crate::{Change, Configuration, NodeId};

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

/// Where a prefix of the log ends, and what an engine must know to go on from there. It travels with
/// every snapshot; only engines look at more than `index`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Position {
    /// The last index of the prefix; 0 for none.
    pub index: Index,
    /// The engine's own number for that place: the slot in Paxos; in Raft the index that counts
    /// the engine's own entries too.
    pub place: u64,
    /// Raft: the term of the entry there. Paxos: 0.
    pub term: u64,
    /// Who rules there.
    pub configuration: Configuration,
}

impl fmt::Display for Position {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}@{}t{}", self.index, self.place, self.term)
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
    /// Have this chosen if this node leads: it is placed once, never forwarded and never repeated.
    /// Answered by [`Event::Offered`], and by [`Event::Dropped`] should it lose its place.
    Offer(Proposal),
    /// From which index on is a local read linearizable that was asked for before this request?
    ReadBarrier {
        /// Comes back in the answer; an answer to a later one of the same life answers this too.
        id: ProposalId,
    },
    /// Have the members changed. To be repeated until it is seen in [`Event::Configured`]: whoever does
    /// not lead, or has another change under way, does nothing.
    Reconfigure(Change),
    /// Hand over what is chosen, in order, from here on.
    Subscribe {
        /// The first index that is wanted.
        from: Index,
    },
    /// The state through `saved` is durable on this node, and what is below `below` is not wanted
    /// here any more. A log that does not reach `saved` begins anew there: the state came as a
    /// snapshot.
    Forget {
        /// Where the durable state ends.
        saved: Position,
        /// First index that is kept; at most one above `saved`.
        below: Index,
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
    Chosen {
        /// Those places.
        entries: Vec<Chosen>,
        /// Where the log stands after the last of them.
        position: Position,
    },
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
    /// The newest configuration that is known here to be chosen: at the start, and whenever there is a
    /// newer one.
    Configured {
        /// Who the members are.
        configuration: Configuration,
    },
    /// This node was taken in, and does not count before its state is durable: make a checkpoint, though the
    /// log is short.
    Save,
    /// What became of an offer at once.
    Offered {
        /// Which one.
        id: ProposalId,
        /// Where it will stand if it is chosen, and the term (Raft) or the ballot's round (Paxos)
        /// in which that was said; `None` if another node leads, or none.
        place: Option<(Index, u64)>,
    },
    /// An offer that had a place has lost it, or its leader has lost the lead: it may be chosen
    /// all the same, and nobody here works for it any more.
    Dropped {
        /// Which one.
        id: ProposalId,
    },
    /// The log that is wanted here is forgotten by those who have it: a snapshot through `index`
    /// or later must be fetched.
    Behind {
        /// Who has one.
        ask: NodeId,
        /// The least that it must hold.
        index: Index,
    },
    /// The engine's part that hands over has lost its memory of us: subscribe again.
    SubscribeAgain,
    /// The engine's part that proposes has lost what it was asked: ask again.
    ProposeAgain,
}
