//! What a peer hears, what it says to other peers, and what it remembers. Plain data.

use std::{collections::BTreeSet, fmt};

use quorate_protocol::{
    Configuration, NodeId,
    log::{Index, Position, Proposal, ProposalId, Request},
};
use quorate_stage::{Durability, Outlet};
use serde::{Deserialize, Serialize};

/// A term: a time with at most one leader. 0 before the first election.
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize,
)]
pub struct Term(pub u64);

impl Term {
    /// The term after this one.
    pub fn next(self) -> Term {
        Term(self.0 + 1)
    }
}

impl fmt::Display for Term {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "t{}", self.0)
    }
}

/// A place in the log: what the paper calls an index. It counts every entry, those of Raft itself
/// too, from 1; the log interface's [`Index`] counts commands only.
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize,
)]
pub struct Place(pub u64);

impl Place {
    /// The place after this one.
    pub fn next(self) -> Place {
        Place(self.0 + 1)
    }

    /// The place before this one; 0 has none.
    pub fn before(self) -> Place {
        Place(self.0.saturating_sub(1))
    }
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.0)
    }
}

/// What an entry is for.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Payload {
    /// Nothing: a new leader's first entry, by which it learns what is committed (section 8).
    NoOp,
    /// The machine.
    Command(Proposal),
    /// Raft itself: who rules from here on (section 6).
    Configuration(Configuration),
}

/// One entry of the log (Figure 2). Its place follows from the entries before it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Entry {
    /// The term in which a leader took it up.
    pub term: Term,
    /// What for.
    pub payload: Payload,
}

/// What a follower makes of an AppendEntries or an InstallSnapshot.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Match {
    /// Durable here, and the same as in the leader's log, through this place.
    Through(Place),
    /// There is no such entry as the one the message builds upon (section 5.3).
    Conflict {
        /// Its place, as the message had it.
        prev_log_index: Place,
        /// The term of what stands at that place instead; `None` if the log ends before.
        conflict_term: Option<Term>,
        /// The first place of that term, or one above the end of the log.
        conflict_index: Place,
    },
    /// A snapshot is wanted and is being fetched.
    Fetching,
}

/// An answer to AppendEntries or InstallSnapshot, and what should have been forwarded: from a follower
/// that hears the leader, and whose Forwards come to nothing.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Appeal {
    /// The follower's term.
    pub term: Term,
    /// Round of what is answered.
    pub round: u64,
    /// What came of it.
    pub result: Match,
    /// As in Forward.
    pub wishes: Vec<Proposal>,
    /// As in Forward.
    pub barrier: Option<ProposalId>,
}

/// What a peer can be told.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub enum Message {
    /// From a candidate, to gather votes (section 5.2).
    RequestVote {
        /// The candidate's term; of a pre-vote, the one that it would campaign in.
        term: Term,
        /// Place of its last entry (section 5.4.1).
        last_log_index: Place,
        /// Term of that entry.
        last_log_term: Term,
        /// Only a question whether a campaign could succeed (thesis, 9.6).
        pre_vote: bool,
        /// The leader itself has asked for this campaign: it counts for nothing that there is one.
        transfer: bool,
    },
    /// The answer to RequestVote.
    Vote {
        /// The term that the vote is for, or the higher one that the voter is in.
        term: Term,
        /// The answer to a pre-vote?
        pre_vote: bool,
        /// Yes?
        granted: bool,
    },
    /// From the leader: entries to append, or none as a heartbeat (section 5.3).
    AppendEntries {
        /// The leader's term.
        term: Term,
        /// Place of the entry right before the new ones.
        prev_log_index: Place,
        /// Term of that entry.
        prev_log_term: Term,
        /// The new ones, in order.
        entries: Vec<Entry>,
        /// Through which place everything is committed.
        leader_commit: Place,
        /// Comes back in the answer. It grows within a term, so that an answer shows that the
        /// leader was followed after it had said this (section 8). 0 if this is itself an answer, to
        /// a pre-vote of a follower that hears nothing else.
        round: u64,
    },
    /// The answer to AppendEntries and InstallSnapshot.
    Appended {
        /// The follower's term.
        term: Term,
        /// Round of what is answered.
        round: u64,
        /// What came of it.
        result: Match,
    },
    /// From the leader, instead of AppendEntries, to a follower that needs what the leader does not
    /// keep any more (section 7). Carries no state: see the crate's Deviations.
    InstallSnapshot {
        /// The leader's term.
        term: Term,
        /// The least that the snapshot must cover.
        position: Position,
        /// As in AppendEntries.
        round: u64,
    },
    /// From the leader, to whom it hands over the lead: campaign at once (thesis, 3.10).
    TimeoutNow {
        /// The leader's term.
        term: Term,
    },
    /// From a follower: what its node wants to have chosen, or to read (section 8).
    Forward {
        /// Proposals.
        wishes: Vec<Proposal>,
        /// The read barrier that it wants, if any.
        barrier: Option<ProposalId>,
    },
    /// From the leader: the answer to a read barrier that was forwarded.
    Barrier {
        /// Which one; all smaller ones of that life are answered too.
        id: ProposalId,
        /// First index that need not be applied.
        from: Index,
    },
    /// From a follower, instead of Appended: the leader hears its answers, it seems, and not its
    /// Forwards.
    Appeal(Appeal),
    /// From a follower to another, and from that to the leader, which seems to hear nothing of the
    /// first.
    PassOn {
        /// Whose answer it is.
        of: NodeId,
        /// What it says.
        appeal: Appeal,
    },
    /// From the rsm of this node.
    #[serde(skip)]
    Log(Request),
    /// From the journal: what was remembered, what is durable.
    #[serde(skip)]
    Journal(Durability),
    /// From an operator: let these nodes be the members (section 6). For the leader.
    #[serde(skip)]
    Reconfigure {
        /// Whose votes shall count.
        voters: BTreeSet<NodeId>,
        /// Who shall get the log without a vote.
        learners: BTreeSet<NodeId>,
        /// Where to say what came of it.
        reply: Outlet<Reconfigured>,
    },
    /// From an operator: hand the lead over to this voter (thesis, 3.10). For the leader.
    #[serde(skip)]
    Transfer {
        /// To whom.
        to: NodeId,
    },
    /// From whoever looks in.
    #[serde(skip)]
    AskStatus(Outlet<Status>),
    /// From the cluster: the link to a node has come up.
    #[serde(skip)]
    LinkUp(NodeId),
    /// From the cluster: the link to a node is down.
    #[serde(skip)]
    LinkDown(NodeId),
}

/// What came of a Reconfigure.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Reconfigured {
    /// The new configuration is committed.
    Done,
    /// Nothing has changed: another node leads, or none.
    NotLeader {
        /// Who would be asked.
        leader: Option<NodeId>,
    },
    /// Nothing has changed: two configurations rule together, until the change before is complete.
    Busy,
    /// Nothing has changed: these cannot be the members, and why.
    Refused(String),
    /// This change was given up for a later one before the new voters had a say. Its newcomers may
    /// be learners now.
    Superseded,
    /// The lead was lost meanwhile: the next leader may complete the change, or not.
    Unknown,
}

/// Which role of section 5.1 a peer has.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Standing {
    /// It answers.
    Follower,
    /// It asks whether a campaign could succeed, or campaigns.
    Candidate,
    /// It leads.
    Leader,
}

/// A peer, seen from outside.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Status {
    /// Its term.
    pub term: Term,
    /// Its role.
    pub standing: Standing,
    /// Who leads, as far as it knows.
    pub leader: Option<NodeId>,
    /// Through which place everything is committed.
    pub commit: Place,
    /// The last place of its log.
    pub last: Place,
    /// The last index of its log.
    pub last_index: Index,
    /// Where its log begins.
    pub base: Position,
    /// Bytes that the kept entries take, encoded, together with term and vote; a little more
    /// rather than less. The labs call it the size of the raft state.
    pub log_bytes: u64,
    /// The newest configuration in its log.
    pub configuration: Configuration,
}

/// What a peer remembers across a crash.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Record {
    /// Everything but the entries; begins every segment of the journal. Entries through the base
    /// are covered by a snapshot.
    Standing {
        /// Latest term seen.
        term: Term,
        /// Who got the vote in it.
        voted_for: Option<NodeId>,
        /// Where the log begins.
        base: Position,
    },
    /// A new term, or a vote in it.
    Voted {
        /// Latest term seen.
        term: Term,
        /// Who got the vote in it.
        voted_for: Option<NodeId>,
    },
    /// These entries stand from here on, and whatever stood there or behind is gone.
    Appended {
        /// Place of the first.
        from: Place,
        /// The entries, in order.
        entries: Vec<Entry>,
    },
    /// The log is empty and begins here: a snapshot has come.
    Installed {
        /// Where the log begins.
        base: Position,
    },
}

impl Record {
    /// The highest place that the record says something about; 0 if none.
    pub fn mark(&self) -> Place {
        match self {
            Record::Appended { from, entries } => Place(from.0 + entries.len() as u64).before(),
            Record::Installed { base } => Place(base.place),
            Record::Standing { .. } | Record::Voted { .. } => Place(0),
        }
    }
}

quorate_stage::kinds!(Message {
    RequestVote,
    Vote,
    AppendEntries,
    Appended,
    InstallSnapshot,
    TimeoutNow,
    Forward,
    Barrier,
    Appeal,
    PassOn,
    Log,
    Journal,
    Reconfigure,
    Transfer,
    AskStatus,
    LinkUp,
    LinkDown,
});

impl quorate_stage::WireMessage for Message {
    fn class(&self) -> quorate_stage::Class {
        match self {
            Message::Vote { .. }
            | Message::Appended { .. }
            | Message::Barrier { .. }
            | Message::Appeal(_)
            | Message::AppendEntries { round: 0, .. }
            | Message::InstallSnapshot { round: 0, .. } => quorate_stage::Class::Answer,
            _ => quorate_stage::Class::Request,
        }
    }
}

impl From<Request> for Message {
    fn from(request: Request) -> Self {
        Message::Log(request)
    }
}

impl From<Durability> for Message {
    fn from(event: Durability) -> Self {
        Message::Journal(event)
    }
}

impl fmt::Display for Match {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Match::Through(place) => write!(f, "through={place}"),
            Match::Conflict { prev_log_index, conflict_term, conflict_index } => {
                write!(f, "conflict prev={prev_log_index} next={conflict_index}")?;
                conflict_term.map_or(Ok(()), |term| write!(f, " of {term}"))
            }
            Match::Fetching => f.write_str("fetching"),
        }
    }
}

impl fmt::Display for Standing {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Standing::Follower => "follower",
            Standing::Candidate => "candidate",
            Standing::Leader => "leader",
        })
    }
}

impl fmt::Display for Appeal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Appeal { term, round, result, wishes, barrier } = self;
        write!(f, "{term} r{round} {result} {} wishes", wishes.len())?;
        barrier.map_or(Ok(()), |id| write!(f, " barrier={id}"))
    }
}

fn show_nodes(nodes: &BTreeSet<NodeId>) -> String {
    nodes.iter().map(ToString::to_string).collect::<Vec<_>>().join(",")
}

impl fmt::Display for Message {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Message::RequestVote { term, last_log_index, last_log_term, pre_vote, transfer } => {
                let name = if *pre_vote { "PreVote" } else { "RequestVote" };
                write!(f, "{name} {term} last={last_log_index}{last_log_term}")?;
                if *transfer { f.write_str(" transfer") } else { Ok(()) }
            }
            Message::Vote { term, pre_vote, granted } => {
                let name = if *pre_vote { "PreVote" } else { "Vote" };
                write!(f, "{name} {term} {}", if *granted { "yes" } else { "no" })
            }
            Message::AppendEntries {
                term, prev_log_index, entries, leader_commit, round, ..
            } => {
                write!(f, "AppendEntries {term} r{round} prev={prev_log_index}")?;
                write!(f, " +{} commit={leader_commit}", entries.len())
            }
            Message::Appended { term, round, result } => {
                write!(f, "Appended {term} r{round} {result}")
            }
            Message::InstallSnapshot { term, position, round } => {
                write!(f, "InstallSnapshot {term} r{round} {position}")
            }
            Message::TimeoutNow { term } => write!(f, "TimeoutNow {term}"),
            Message::Forward { wishes, barrier } => {
                write!(f, "Forward {} wishes", wishes.len())?;
                barrier.map_or(Ok(()), |id| write!(f, " barrier={id}"))
            }
            Message::Barrier { id, from } => write!(f, "Barrier {id} from={from}"),
            Message::Appeal(appeal) => write!(f, "Appeal {appeal}"),
            Message::PassOn { of, appeal } => write!(f, "PassOn of={of} {appeal}"),
            Message::Log(Request::Propose(proposal)) => write!(f, "Propose {}", proposal.id),
            Message::Log(Request::Offer(proposal)) => write!(f, "Offer {}", proposal.id),
            Message::Log(Request::ReadBarrier { id }) => write!(f, "ReadBarrier {id}"),
            Message::Log(Request::Reconfigure(change)) => write!(f, "Reconfigure {change}"),
            Message::Log(Request::Subscribe { from }) => write!(f, "Subscribe from={from}"),
            Message::Log(Request::Forget { saved, below }) => {
                write!(f, "Forget saved={saved} below={below}")
            }
            Message::Journal(event) => write!(f, "{event}"),
            Message::Reconfigure { voters, learners, .. } => {
                write!(f, "Reconfigure {}+{}", show_nodes(voters), show_nodes(learners))
            }
            Message::Transfer { to } => write!(f, "Transfer {to}"),
            Message::AskStatus(_) => f.write_str("AskStatus"),
            Message::LinkUp(node) => write!(f, "LinkUp {node}"),
            Message::LinkDown(node) => write!(f, "LinkDown {node}"),
        }
    }
}
