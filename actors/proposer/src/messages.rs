//! What a proposer hears, and what it says to other proposers. Plain data.

use std::fmt;

use quorate_acceptor::{Answer, Ballot, Progress, Slot};
use quorate_learner::Notice;
use quorate_protocol::{
    Change, NodeId,
    log::{Proposal, ProposalId, Request},
};
use serde::{Deserialize, Serialize};

/// Something to be chosen.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Wish {
    /// In this slot only (the labs' library), or wherever there is room.
    pub slot: Option<Slot>,
    /// What.
    pub proposal: Proposal,
}

/// What a proposer can be told.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Message {
    /// From an acceptor, to what was asked of it.
    Answer(Answer),
    /// From a learner.
    Notice(Notice),
    /// From the rsm of this node.
    #[serde(skip)]
    Log(Request),
    /// From the labs' library: start(seq, value).
    #[serde(skip)]
    Start(Wish),
    /// From a proposer that believes that this one leads; or that has no vote, and that this one may lead.
    Forward {
        /// What it wants to be chosen.
        wishes: Vec<Wish>,
        /// The read barrier that it wants, if any.
        barrier: Option<ProposalId>,
        /// What it wants to become of the members, if anything.
        #[serde(default)]
        change: Option<Change>,
        /// The highest ballot that it has heard of, if whoever holds that one, or nobody, does not answer
        /// and it may not campaign itself: do you.
        #[serde(default)]
        appeal: Option<Ballot>,
    },
    /// The answer to Forward when another one leads.
    Redirect {
        /// The highest ballot heard of.
        ballot: Ballot,
    },
    /// The answer to a read barrier that was forwarded.
    Barrier {
        /// Which one; all smaller ones of that life are answered too.
        id: ProposalId,
        /// The ballot that was confirmed.
        ballot: Ballot,
        /// What is chosen.
        progress: Progress,
        /// First slot that need not be applied.
        from: Slot,
    },
    /// From the cluster: the link to a node has come up.
    #[serde(skip)]
    LinkUp(NodeId),
    /// From the cluster: the link to a node is down.
    #[serde(skip)]
    LinkDown(NodeId),
}

quorate_stage::kinds!(Message {
    Answer,
    Notice,
    Log,
    Start,
    Forward,
    Redirect,
    Barrier,
    LinkUp,
    LinkDown,
});

impl quorate_stage::WireMessage for Message {
    fn class(&self) -> quorate_stage::Class {
        match self {
            Message::Forward { .. } => quorate_stage::Class::Request,
            _ => quorate_stage::Class::Answer,
        }
    }
}

impl From<Answer> for Message {
    fn from(answer: Answer) -> Self {
        Message::Answer(answer)
    }
}

impl From<Notice> for Message {
    fn from(notice: Notice) -> Self {
        Message::Notice(notice)
    }
}

impl From<Request> for Message {
    fn from(request: Request) -> Self {
        Message::Log(request)
    }
}

impl fmt::Display for Message {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Message::Answer(answer) => write!(f, "{answer}"),
            Message::Notice(notice) => write!(f, "{notice}"),
            Message::Log(Request::Propose(proposal)) => write!(f, "Propose {}", proposal.id),
            Message::Log(Request::Offer(proposal)) => write!(f, "Offer {}", proposal.id),
            Message::Log(Request::ReadBarrier { id }) => write!(f, "ReadBarrier {id}"),
            Message::Log(Request::Reconfigure(change)) => write!(f, "Reconfigure {change}"),
            Message::Log(_) => f.write_str("Log"),
            Message::Start(wish) => match wish.slot {
                Some(slot) => write!(f, "Start slot={slot} {}", wish.proposal.id),
                None => write!(f, "Start {}", wish.proposal.id),
            },
            Message::Forward { wishes, barrier, change, appeal } => {
                write!(f, "Forward {} wishes", wishes.len())?;
                change.as_ref().map_or(Ok(()), |change| write!(f, " {change}"))?;
                appeal.map_or(Ok(()), |ballot| write!(f, " appeal over={ballot}"))?;
                barrier.map_or(Ok(()), |id| write!(f, " barrier={id}"))
            }
            Message::Redirect { ballot } => write!(f, "Redirect {ballot}"),
            Message::Barrier { id, ballot, from, .. } => {
                write!(f, "Barrier {id} {ballot} from={from}")
            }
            Message::LinkUp(node) => write!(f, "LinkUp {node}"),
            Message::LinkDown(node) => write!(f, "LinkDown {node}"),
        }
    }
}
