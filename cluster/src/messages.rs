//! What the cluster actor hears and says.

use std::fmt;

use quorate_protocol::{Member, NodeId};
use quorate_stage::{Message as StageMessage, Parcel};

use crate::faults::Faults;

/// What the cluster actor can be told.
#[derive(Debug)]
pub enum Message {
    /// Any actor of this node: carry this. It may get lost.
    Send(Parcel),
    /// The files actor: these pins, as asked for by `save_pins`, are durable.
    PinsSaved(Vec<Member>),
    /// An operator or a test: from now on these faults, and no others.
    SetFaults(Faults),
    /// A task of this actor: a handshake is complete.
    Connected(LinkEvent),
    /// A task of this actor: a connection that had shaken hands is gone.
    Disconnected(LinkEvent),
    /// A task of this actor panicked, and so does the actor.
    TaskPanicked(TaskPanic),
}

/// Which way the parcels of a connection go.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Way {
    Out,
    In,
}

/// Something happened to a connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LinkEvent {
    /// Which life of the actor made the task that says so. An earlier life's tasks are dead, and
    /// what they have said is void.
    pub(crate) life: u64,
    pub(crate) peer: NodeId,
    pub(crate) way: Way,
    /// Which connection of that life.
    pub(crate) connection: u64,
}

/// A task ended as it must not.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TaskPanic {
    pub(crate) life: u64,
    pub(crate) text: String,
}

impl StageMessage for Message {
    const KINDS: &'static [&'static str] =
        &["Send", "PinsSaved", "SetFaults", "Connected", "Disconnected", "TaskPanicked"];

    fn kind(&self) -> usize {
        match self {
            Message::Send(_) => 0,
            Message::PinsSaved(_) => 1,
            Message::SetFaults(_) => 2,
            Message::Connected(_) => 3,
            Message::Disconnected(_) => 4,
            Message::TaskPanicked(_) => 5,
        }
    }
}

impl fmt::Display for LinkEvent {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let arrow = match self.way {
            Way::Out => "to",
            Way::In => "from",
        };
        write!(f, "{arrow} {}", self.peer)
    }
}

impl fmt::Display for Message {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Message::Send(parcel) => write!(f, "Send {} to {}", parcel.kind, parcel.to),
            Message::PinsSaved(members) => {
                f.write_str("PinsSaved")?;
                members.iter().try_for_each(|member| write!(f, " {member}"))
            }
            Message::SetFaults(faults) if faults.is_none() => f.write_str("SetFaults none"),
            Message::SetFaults(_) => f.write_str("SetFaults"),
            Message::Connected(event) => write!(f, "Connected {event}"),
            Message::Disconnected(event) => write!(f, "Disconnected {event}"),
            Message::TaskPanicked(panic) => write!(f, "TaskPanicked {}", panic.text),
        }
    }
}

impl From<Parcel> for Message {
    fn from(parcel: Parcel) -> Message {
        Message::Send(parcel)
    }
}

impl From<Vec<Member>> for Message {
    fn from(saved: Vec<Member>) -> Message {
        Message::PinsSaved(saved)
    }
}

impl From<Faults> for Message {
    fn from(faults: Faults) -> Message {
        Message::SetFaults(faults)
    }
}

/// What the cluster actor tells about its peers. It says nothing twice in a row.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PeerEvent {
    /// Hands are shaken in both directions and no fault cuts either: until `Down`, what is sent
    /// either way is likely to arrive.
    Up(NodeId),
    /// A connection, in either direction, was reset or replaced, or a fault cuts it, or this
    /// node's cluster actor restarted: what was under way may be lost.
    Down(NodeId),
}

impl fmt::Display for PeerEvent {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            PeerEvent::Up(node) => write!(f, "Up {node}"),
            PeerEvent::Down(node) => write!(f, "Down {node}"),
        }
    }
}
