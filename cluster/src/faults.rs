//! Faults on purpose: what a network may do to a parcel, per link and direction.
//!
//! Pure, and the same for both worlds: the cluster actor asks it about real parcels, the simulator
//! about all of them. The switches of the direction a → b are looked up by whoever handles a
//! parcel from a to b. In a cluster of processes both ends do: set a switch at one of the two, or
//! chance strikes twice.

use std::{fmt, time::Duration};

use quorate_protocol::NodeId;
use quorate_stage::{Chance, Class};
use serde::{Deserialize, Serialize};

/// A probability of 1.
pub const PERMILLE_MAX: u64 = 1000;

/// What happens to the parcels of one direction of one link. The default does nothing.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Switches {
    /// Nothing passes.
    pub cut: bool,
    /// Requests do not pass, answers do: the receiver is deaf, as the labs call it.
    pub deaf: bool,
    /// So many of a thousand parcels are lost.
    pub drop_permille: u64,
    /// So many of a thousand answers are lost: what was asked for has happened.
    pub reply_loss_permille: u64,
    /// So many of a thousand parcels come twice.
    pub duplicate_permille: u64,
    /// A parcel takes at least so long, in microseconds. Unequal delays reorder.
    pub delay_us_min: u64,
    /// And at most so long, in microseconds.
    pub delay_us_max: u64,
}

impl Switches {
    /// Nothing passes.
    pub const CUT: Switches = Switches { cut: true, ..Switches::NONE };
    /// All passes, once and at once.
    pub const NONE: Switches = Switches {
        cut: false,
        deaf: false,
        drop_permille: 0,
        reply_loss_permille: 0,
        duplicate_permille: 0,
        delay_us_min: 0,
        delay_us_max: 0,
    };

    fn check(&self) -> Result<(), FaultsError> {
        for (what, permille) in [
            ("drop_permille", self.drop_permille),
            ("reply_loss_permille", self.reply_loss_permille),
            ("duplicate_permille", self.duplicate_permille),
        ] {
            if permille > PERMILLE_MAX {
                return Err(FaultsError::Permille { what, permille });
            }
        }
        let (min, max) = (self.delay_us_min, self.delay_us_max);
        if min > max { Err(FaultsError::Delay { min, max }) } else { Ok(()) }
    }

    fn delay(&self, chance: &mut Chance) -> Duration {
        if self.delay_us_max == 0 {
            return Duration::ZERO;
        }
        let us = Duration::from_micros;
        chance.within(us(self.delay_us_min), us(self.delay_us_max))
    }
}

/// One direction of one link.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct LinkFaults {
    /// The sender's node.
    pub from: NodeId,
    /// The receiver's node.
    pub to: NodeId,
    /// What happens between them, instead of what holds everywhere.
    pub switches: Switches,
}

/// Why faults make no sense.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum FaultsError {
    /// More than all.
    Permille {
        /// The switch.
        what: &'static str,
        /// Its value.
        permille: u64,
    },
    /// The shortest delay is longer than the longest.
    Delay {
        /// `delay_us_min`.
        min: u64,
        /// `delay_us_max`.
        max: u64,
    },
    /// One direction is named twice.
    Twice {
        /// The sender's node.
        from: NodeId,
        /// The receiver's node.
        to: NodeId,
    },
}

impl fmt::Display for FaultsError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            FaultsError::Permille { what, permille } => {
                write!(f, "{what} is {permille}, it goes from 0 to {PERMILLE_MAX}")
            }
            FaultsError::Delay { min, max } => {
                write!(f, "delay_us_min is {min}, above delay_us_max, which is {max}")
            }
            FaultsError::Twice { from, to } => write!(f, "the link {from} to {to} stands twice"),
        }
    }
}

impl std::error::Error for FaultsError {}

/// Why a parcel is lost.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Loss {
    /// The link is cut.
    Cut,
    /// The receiver is deaf to requests.
    Deaf,
    /// Chance took it.
    Dropped,
    /// Chance took it, and it was an answer.
    ReplyLost,
}

/// What becomes of a parcel: none, one or two deliveries, each with its delay.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// It is lost.
    Lost(Loss),
    /// It comes after this time.
    Once(Duration),
    /// It comes twice, after these times.
    Twice(Duration, Duration),
}

impl Verdict {
    /// The delay of each delivery.
    pub fn delays(self) -> impl Iterator<Item = Duration> {
        let (first, second) = match self {
            Verdict::Lost(_) => (None, None),
            Verdict::Once(delay) => (Some(delay), None),
            Verdict::Twice(first, second) => (Some(first), Some(second)),
        };
        first.into_iter().chain(second)
    }
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Plain {
    #[serde(default)]
    everywhere: Switches,
    #[serde(default)]
    links: Vec<LinkFaults>,
}

/// The faults of a network.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "Plain", into = "Plain")]
pub struct Faults {
    everywhere: Switches,
    /// Ordered by direction.
    links: Vec<LinkFaults>,
}

impl TryFrom<Plain> for Faults {
    type Error = FaultsError;

    fn try_from(plain: Plain) -> Result<Self, FaultsError> {
        Faults::new(plain.everywhere, plain.links)
    }
}

impl From<Faults> for Plain {
    fn from(faults: Faults) -> Plain {
        Plain { everywhere: faults.everywhere, links: faults.links }
    }
}

impl Faults {
    /// No faults.
    pub fn none() -> Self {
        Faults::default()
    }

    /// `everywhere` on all links but those named in `links`.
    pub fn new(everywhere: Switches, mut links: Vec<LinkFaults>) -> Result<Self, FaultsError> {
        everywhere.check()?;
        links.sort_by_key(|link| (link.from, link.to));
        for link in &links {
            link.switches.check()?;
        }
        for pair in links.windows(2) {
            let (from, to) = (pair[1].from, pair[1].to);
            if (pair[0].from, pair[0].to) == (from, to) {
                return Err(FaultsError::Twice { from, to });
            }
        }
        Ok(Faults { everywhere, links })
    }

    /// Sets the switches of the direction `from` → `to`.
    pub fn set(&mut self, from: NodeId, to: NodeId, switches: Switches) -> Result<(), FaultsError> {
        switches.check()?;
        match self.find(from, to) {
            Ok(at) => self.links[at].switches = switches,
            Err(at) => self.links.insert(at, LinkFaults { from, to, switches }),
        }
        Ok(())
    }

    /// Cuts both directions between two nodes.
    pub fn cut(&mut self, one: NodeId, other: NodeId) {
        for (from, to) in [(one, other), (other, one)] {
            let switches = Switches { cut: true, ..*self.switches(from, to) };
            self.set(from, to, switches).expect("they were checked when they were set");
        }
    }

    /// The direction `from` → `to` is as all others again.
    pub fn heal(&mut self, from: NodeId, to: NodeId) {
        if let Ok(at) = self.find(from, to) {
            self.links.remove(at);
        }
    }

    /// What holds from `from` to `to`.
    pub fn switches(&self, from: NodeId, to: NodeId) -> &Switches {
        self.find(from, to).map_or(&self.everywhere, |at| &self.links[at].switches)
    }

    /// Whether nothing passes from `from` to `to`.
    pub fn is_cut(&self, from: NodeId, to: NodeId) -> bool {
        self.switches(from, to).cut
    }

    /// Whether there are none at all.
    pub fn is_none(&self) -> bool {
        self.links.is_empty() && self.everywhere == Switches::NONE
    }

    /// Decides on one parcel. A link without faults draws no chance.
    pub fn decide(&self, from: NodeId, to: NodeId, class: Class, chance: &mut Chance) -> Verdict {
        let switches = self.switches(from, to);
        let mut strikes = |permille: u64| permille > 0 && chance.permille(permille);
        if switches.cut {
            return Verdict::Lost(Loss::Cut);
        }
        if switches.deaf && class == Class::Request {
            return Verdict::Lost(Loss::Deaf);
        }
        if strikes(switches.drop_permille) {
            return Verdict::Lost(Loss::Dropped);
        }
        if class == Class::Answer && strikes(switches.reply_loss_permille) {
            return Verdict::Lost(Loss::ReplyLost);
        }
        let twice = strikes(switches.duplicate_permille);
        let first = switches.delay(chance);
        if twice { Verdict::Twice(first, switches.delay(chance)) } else { Verdict::Once(first) }
    }

    fn find(&self, from: NodeId, to: NodeId) -> Result<usize, usize> {
        self.links.binary_search_by_key(&(from, to), |link| (link.from, link.to))
    }
}
