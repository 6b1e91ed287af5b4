//! What a learner hears, and what it tells its proposer. Plain data.

use std::fmt;

use quorate_acceptor::{Ballot, Entry, Progress, Report, Slot, show_slots};
use quorate_protocol::{
    NodeId,
    log::{Position, ProposalId, Request},
};
use quorate_stage::Outlet;
use serde::{Deserialize, Serialize};

/// What a learner can be told.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub enum Message {
    /// From the acceptor of this node: a vote was cast.
    #[serde(skip)]
    Report(Report),
    /// From the proposer that leads, unasked: this much is chosen. Acknowledged by
    /// [`Notice::Known`] to that proposer.
    Announce {
        /// Its ballot.
        ballot: Ballot,
        /// What is chosen.
        progress: Progress,
    },
    /// As Announce, but asked for: our proposer had forwarded something to it.
    Inform {
        /// Its ballot.
        ballot: Ballot,
        /// What is chosen.
        progress: Progress,
    },
    /// From the proposer of this node, which leads: these are chosen.
    #[serde(skip)]
    Decided {
        /// What, and where.
        entries: Vec<Entry>,
    },
    /// From a learner that misses slots which are chosen, or from a proposer on behalf of one. To a machine:
    /// whichever member it is now, it may know.
    Learn {
        /// First slot that is wanted.
        from: Slot,
        /// First slot that is not.
        below: Slot,
    },
    /// From the proposer of this node: teach the learner on `node` what you know of these slots.
    #[serde(skip)]
    Teach {
        /// Whom.
        node: NodeId,
        /// What.
        slots: Vec<Slot>,
    },
    /// The answer to Learn: these are chosen. There may be more to ask for. What is left out from
    /// `from` on to the first or next entry is not known to be chosen there.
    Taught {
        /// First slot that was wanted.
        from: Slot,
        /// What, and where.
        entries: Vec<Entry>,
        /// Everything below is chosen and forgotten there: whoever needs it needs a checkpoint.
        forgotten: Slot,
        /// Where knowledge of who the members are begins there, if the question was about slots that do
        /// not lie above: whoever has what is below, but not its values, goes on from here.
        #[serde(default)]
        before: Option<Position>,
    },
    /// From another learner (the labs' library only): its node needs nothing below this slot any
    /// more.
    Done {
        /// First slot that it still needs.
        below: Slot,
    },
    /// The answer to Done, with what the answering node needs.
    DoneToo {
        /// What it has heard of the other.
        heard: Slot,
        /// First slot that it still needs itself.
        below: Slot,
    },
    /// From the proposer of this node when it starts: what is known to be chosen?
    #[serde(skip)]
    AskDecided,
    /// From the rsm of this node.
    #[serde(skip)]
    Log(Request),
    /// From the labs' library.
    #[serde(skip)]
    Library(Library),
}

/// What the labs' library asks of a learner (2015 Lab 3A). Slots are its instances.
#[derive(Clone, Debug, PartialEq)]
pub enum Library {
    /// done(seq): nothing at or below is needed here.
    Done(Slot),
    /// status(seq), min() and max() at one moment, from local knowledge only.
    Ask {
        /// Which instance.
        slot: Slot,
        /// Where the answer goes.
        reply: Outlet<View>,
    },
}

/// What the labs' library is answered.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct View {
    /// status(seq).
    pub fate: Fate,
    /// min().
    pub min: Slot,
    /// max() plus 1.
    pub bound: Slot,
}

quorate_stage::kinds!(Message {
    Report,
    Announce,
    Inform,
    Decided,
    Learn,
    Teach,
    Taught,
    Done,
    DoneToo,
    AskDecided,
    Log,
    Library,
});

impl quorate_stage::WireMessage for Message {
    fn class(&self) -> quorate_stage::Class {
        match self {
            Message::Inform { .. } | Message::Taught { .. } | Message::DoneToo { .. } => {
                quorate_stage::Class::Answer
            }
            _ => quorate_stage::Class::Request,
        }
    }
}

impl From<Report> for Message {
    fn from(report: Report) -> Self {
        Message::Report(report)
    }
}

impl From<Request> for Message {
    fn from(request: Request) -> Self {
        Message::Log(request)
    }
}

/// What a learner tells a proposer.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Notice {
    /// To the proposer that announced: heard.
    Known {
        /// Of that ballot.
        ballot: Ballot,
        /// This much.
        progress: Progress,
    },
    /// To the proposer of this node: newly known to be chosen.
    #[serde(skip)]
    Decided {
        /// Slot, and whose proposal it holds; `None` for a no-op.
        slots: Vec<(Slot, Option<ProposalId>)>,
        /// Every slot below is known here.
        below: Slot,
        /// Every slot below is taken account of in who the members are: see [`Notice::Members`].
        known: Slot,
    },
    /// To the proposer of this node: where the log stands as far as the members are known, whenever that
    /// changes in more than its index.
    #[serde(skip)]
    Members(Position),
    /// To the proposer of this node: this learner has started, and knows no more than its acceptor
    /// does. A proposer that leads tells it what is chosen, which else goes to others only.
    #[serde(skip)]
    Recalled,
    /// To the proposer of this node: this slot is chosen, and no learner knows what. Have it
    /// proposed again.
    #[serde(skip)]
    Missing {
        /// The first such slot.
        from: Slot,
        /// Where the log stands before it; `None` if that is not known, and in the labs' library.
        before: Option<Position>,
    },
    /// To the proposer of this node: a ballot was seen at work.
    #[serde(skip)]
    Ballot(Ballot),
    /// To the proposer of this node: slots below are forgotten, there is nothing left to do.
    #[serde(skip)]
    Forgotten {
        /// First slot that is kept.
        below: Slot,
    },
}

/// An instance, seen from this node (2015 Lab 3A).
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Fate {
    /// Chosen.
    Decided(quorate_acceptor::Value),
    /// Not known to be chosen.
    Pending,
    /// Below min(): forgotten.
    Forgotten,
}

struct Slots<'a>(&'a [Entry]);

impl fmt::Display for Slots<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        show_slots(f, self.0)
    }
}

impl fmt::Display for Message {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Message::Report(report) => write!(f, "{report}"),
            Message::Announce { ballot, progress } => {
                write!(f, "Announce {ballot} r{} below={}", progress.through, progress.below)
            }
            Message::Inform { ballot, progress } => {
                write!(f, "Inform {ballot} r{} below={}", progress.through, progress.below)
            }
            Message::Decided { entries } => write!(f, "Decided slots={}", Slots(entries)),
            Message::Learn { from, below } => write!(f, "Learn {from}..<{below}"),
            Message::Teach { node, slots } => write!(f, "Teach {node} {} slots", slots.len()),
            Message::Taught { from, entries, forgotten, .. } if from < forgotten => {
                write!(f, "Taught slots={} forgotten={forgotten}", Slots(entries))
            }
            Message::Taught { entries, .. } => write!(f, "Taught slots={}", Slots(entries)),
            Message::Done { below } => write!(f, "Done below={below}"),
            Message::DoneToo { heard, below } => write!(f, "DoneToo heard={heard} below={below}"),
            Message::AskDecided => f.write_str("AskDecided"),
            Message::Log(Request::Reconfigure(change)) => write!(f, "Reconfigure {change}"),
            Message::Log(Request::Subscribe { from }) => write!(f, "Subscribe from={from}"),
            Message::Log(Request::Forget { saved, below }) => {
                write!(f, "Forget below={below} saved={saved}")
            }
            Message::Log(_) => f.write_str("Log"),
            Message::Library(Library::Done(slot)) => write!(f, "LibraryDone {slot}"),
            Message::Library(Library::Ask { slot, .. }) => write!(f, "LibraryAsk {slot}"),
        }
    }
}

impl fmt::Display for Notice {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Notice::Known { ballot, progress } => write!(f, "Known {ballot} r{}", progress.through),
            Notice::Decided { slots, below, .. } => {
                write!(f, "Decided {} slots below={below}", slots.len())
            }
            Notice::Members(position) => {
                write!(f, "Members {} @{position}", position.configuration)
            }
            Notice::Missing { from, .. } => write!(f, "Missing from={from}"),
            Notice::Recalled => f.write_str("Recalled"),
            Notice::Ballot(ballot) => write!(f, "Ballot {ballot}"),
            Notice::Forgotten { below } => write!(f, "Forgotten below={below}"),
        }
    }
}
