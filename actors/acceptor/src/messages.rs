//! What an acceptor hears, answers, reports and remembers. Plain data.

use std::fmt;

use quorate_protocol::{Member, log::Proposal};
use quorate_stage::{Durability, Outlet};
use serde::{Deserialize, Serialize};

/// A ballot: who proposes, and in which of his rounds. Totally ordered; no two proposers share one,
/// and no life of a proposer uses one of a former life (Paxos Made Simple, section 2.2, on the
/// numbering of proposals).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Ballot {
    /// Grows with every campaign. 0: no ballot at all.
    pub round: u64,
    /// Who proposes. `None` only in the ballot that stands for none.
    pub proposer: Option<Member>,
}

impl Ballot {
    /// Below every real ballot.
    pub const NONE: Ballot = Ballot { round: 0, proposer: None };

    /// The ballot of `proposer` with this number.
    pub fn new(round: u64, proposer: Member) -> Self {
        Ballot { round, proposer: Some(proposer) }
    }
}

impl fmt::Display for Ballot {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.proposer {
            Some(proposer) => write!(f, "{}.{}", self.round, proposer.node),
            None => f.write_str("-"),
        }
    }
}

/// A place in the log, or an instance of the labs' library.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Slot(pub u64);

impl Slot {
    /// The slot after this one.
    pub fn next(self) -> Slot {
        Slot(self.0 + 1)
    }
}

impl fmt::Display for Slot {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.0)
    }
}

/// Number of an Accept message within its ballot, from 1. One round carries any number of slots.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Round(pub u64);

impl Round {
    /// The round after this one.
    pub fn next(self) -> Round {
        Round(self.0 + 1)
    }
}

impl fmt::Display for Round {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.0)
    }
}

/// What is proposed for a slot; `None` is a no-op.
pub type Value = Option<Proposal>;

/// A slot and what is proposed for it.
pub type Entry = (Slot, Value);

/// What the proposer of a ballot knows to be chosen.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Progress {
    /// Every round of the ballot through this one is chosen.
    pub through: Round,
    /// Every slot below this one is chosen, in whatever ballot. 0 where slots are instances, which
    /// are chosen in any order.
    pub below: Slot,
}

/// An acceptor's vote.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Vote {
    /// The ballot it was cast in.
    pub ballot: Ballot,
    /// The round of that ballot.
    pub round: Round,
    /// What it is for.
    pub value: Value,
}

/// What an acceptor can be told.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Message {
    /// Phase 1a, from a proposer that campaigns: promise to ignore ballots below this one, in every
    /// slot, and show the votes that stand from a slot on.
    Prepare {
        /// The ballot campaigned for.
        ballot: Ballot,
        /// First slot whose votes are wanted; the proposer knows what is chosen below.
        from: Slot,
    },
    /// Phase 2a, from the proposer of the ballot.
    Accept {
        /// The ballot, for which a majority has promised.
        ballot: Ballot,
        /// Which Accept of that ballot.
        round: Round,
        /// What is proposed; at least one entry.
        entries: Vec<Entry>,
        /// What was chosen when this was sent.
        progress: Progress,
    },
    /// From a proposer that leads, on behalf of reads: have you promised a higher ballot?
    Confirm {
        /// The ballot that leads.
        ballot: Ballot,
        /// Comes back in the answer.
        id: u64,
    },
    /// From the local proposer when it starts: which ballot must I surpass?
    #[serde(skip)]
    AskPromised,
    /// From the local learner when it starts: show every vote.
    #[serde(skip)]
    Recall,
    /// From the local learner: votes below this slot are not needed here any more. What is chosen
    /// there is part of a state that is durable on this node (or, in the labs' library, everybody
    /// is done with it).
    #[serde(skip)]
    Forget {
        /// First slot that is kept.
        below: Slot,
    },
    /// From the local learner of a node that was taken in: all that was chosen before it had a vote is
    /// durable on this node.
    #[serde(skip)]
    Intact,
    /// From whoever looks: how many bytes of log do you keep?
    #[serde(skip)]
    AskBytes(Outlet<u64>),
    /// From the journal: what was remembered.
    #[serde(skip)]
    Journal(Durability),
}

/// What an acceptor answers to a proposer.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Answer {
    /// Phase 1b: lower ballots are ignored from now on, and these are my votes. Bounded in size,
    /// so there may be several parts.
    Promise {
        /// The ballot promised to.
        ballot: Ballot,
        /// This part shows every vote from this slot on ...
        from: Slot,
        /// ... and below this one; `None` in the last part.
        below: Option<Slot>,
        /// Those votes.
        votes: Vec<(Slot, Vote)>,
        /// Votes below this slot are forgotten here: they cannot be shown, though something is
        /// chosen there. Nothing may be proposed below by whoever counts this promise.
        forgotten: Slot,
    },
    /// Phase 2b: voted for everything in the round.
    Accepted {
        /// The ballot.
        ballot: Ballot,
        /// The round.
        round: Round,
    },
    /// No vote was cast for the slots of the round that are below `below`, which is above the first
    /// of them: they are chosen, and forgotten here. For the others, if any, a vote was cast.
    Forgotten {
        /// The ballot.
        ballot: Ballot,
        /// The round.
        round: Round,
        /// First slot whose votes are kept.
        below: Slot,
    },
    /// Refused, since a higher ballot has been promised.
    Nack {
        /// The ballot that was refused.
        refused: Ballot,
        /// The ballot promised.
        promised: Ballot,
    },
    /// No higher ballot has been promised.
    Confirmed {
        /// The ballot asked about.
        ballot: Ballot,
        /// Number of the question.
        id: u64,
    },
    /// To the local proposer: the highest ballot promised.
    Promised {
        /// That ballot.
        promised: Ballot,
    },
}

/// What an acceptor reports to the learner on its node.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Report {
    /// A durable vote was cast for all of these.
    Voted {
        /// In this ballot.
        ballot: Ballot,
        /// In this round.
        round: Round,
        /// For these.
        entries: Vec<Entry>,
        /// What was chosen when the proposer asked for it.
        progress: Progress,
    },
    /// All votes, for a learner that starts.
    Recalled {
        /// The votes that stand.
        votes: Vec<(Slot, Vote)>,
        /// Per ballot, through which round everything is chosen.
        marks: Vec<(Ballot, Round)>,
        /// Everything below is chosen and forgotten.
        forgotten: Slot,
    },
}

/// What an acceptor remembers across a crash.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Record {
    /// Everything but the votes; begins every segment of the journal.
    Standing {
        /// The highest ballot promised.
        promised: Ballot,
        /// Per ballot, through which round everything is chosen.
        marks: Vec<(Ballot, Round)>,
        /// First slot whose votes are kept.
        forgotten: Slot,
        /// On a node that was taken in later: what was chosen before is durable here.
        #[serde(default, skip_serializing_if = "std::ops::Not::not")]
        intact: bool,
    },
    /// A promise.
    Promised(Ballot),
    /// A vote for each entry, which is also a promise.
    Voted {
        /// The ballot.
        ballot: Ballot,
        /// The round.
        round: Round,
        /// What for.
        entries: Vec<Entry>,
        /// Through which round of the ballot everything is chosen.
        through: Round,
    },
}

impl Record {
    /// The highest slot that the record says something about; 0 if none.
    pub fn mark(&self) -> Slot {
        match self {
            Record::Voted { entries, .. } => {
                entries.iter().map(|(slot, _)| *slot).max().unwrap_or_default()
            }
            _ => Slot(0),
        }
    }
}

quorate_stage::kinds!(Message {
    Prepare,
    Accept,
    Confirm,
    AskPromised,
    Recall,
    Forget,
    Intact,
    AskBytes,
    Journal,
});

impl From<Durability> for Message {
    fn from(event: Durability) -> Self {
        Message::Journal(event)
    }
}

impl quorate_stage::WireMessage for Message {
    fn class(&self) -> quorate_stage::Class {
        quorate_stage::Class::Request
    }
}

/// Writes the slots of some entries: `7`, `7..9` or `7,9`.
pub fn show_slots<T>(f: &mut fmt::Formatter<'_>, entries: &[(Slot, T)]) -> fmt::Result {
    match entries {
        [] => f.write_str("none"),
        [(slot, _)] => write!(f, "{slot}"),
        // Instances may stand in any order.
        [(first, _), .., (last, _)]
            if entries.windows(2).all(|pair| pair[1].0 == pair[0].0.next()) =>
        {
            write!(f, "{first}..{last}")
        }
        _ => {
            for (i, (slot, _)) in entries.iter().enumerate() {
                write!(f, "{}{slot}", if i == 0 { "" } else { "," })?;
            }
            Ok(())
        }
    }
}

struct Slots<'a, T>(&'a [(Slot, T)]);

impl<T> fmt::Display for Slots<'_, T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        show_slots(f, self.0)
    }
}

impl fmt::Display for Message {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Message::Prepare { ballot, from } => write!(f, "Prepare {ballot} from={from}"),
            Message::Accept { ballot, round, entries, progress } => {
                let through = progress.through;
                write!(f, "Accept {ballot} r{round} slots={} chosen=r{through}", Slots(entries))
            }
            Message::Confirm { ballot, id } => write!(f, "Confirm {ballot} #{id}"),
            Message::AskPromised => f.write_str("AskPromised"),
            Message::Recall => f.write_str("Recall"),
            Message::Forget { below } => write!(f, "Forget below={below}"),
            Message::Intact => f.write_str("Intact"),
            Message::AskBytes(_) => f.write_str("AskBytes"),
            Message::Journal(event) => write!(f, "{event}"),
        }
    }
}

impl fmt::Display for Answer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Answer::Promise { ballot, from, below, votes, .. } => {
                write!(f, "Promise {ballot} from={from} votes={}", Slots(votes))?;
                below.map_or(Ok(()), |below| write!(f, " more from={below}"))
            }
            Answer::Accepted { ballot, round } => write!(f, "Accepted {ballot} r{round}"),
            Answer::Forgotten { ballot, round, below } => {
                write!(f, "Forgotten {ballot} r{round} below={below}")
            }
            Answer::Nack { refused, promised } => write!(f, "Nack {refused} promised={promised}"),
            Answer::Confirmed { ballot, id } => write!(f, "Confirmed {ballot} #{id}"),
            Answer::Promised { promised } => write!(f, "Promised {promised}"),
        }
    }
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Report::Voted { ballot, round, entries, .. } => {
                write!(f, "Voted {ballot} r{round} slots={}", Slots(entries))
            }
            Report::Recalled { votes, forgotten, .. } => {
                write!(f, "Recalled votes={} forgotten={forgotten}", votes.len())
            }
        }
    }
}
