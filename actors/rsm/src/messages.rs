//! What an rsm hears and answers. Plain data.

use std::fmt;

use quorate_courier::Event as CourierEvent;
use quorate_persistence::FileEvent;
use quorate_protocol::{NodeId, log::Event};
use quorate_stage::Outlet;
use serde::{Deserialize, Serialize};

use crate::{checkpoint::Restored, machine::StateMachine};

/// A command, and whose it is.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Request<C> {
    /// The client, by a number drawn at random.
    pub client_id: u64,
    /// Which of its commands; never used for another one.
    pub serial: u64,
    /// The client waits for nothing below this serial.
    pub acked_below: u64,
    /// To be applied only if this serial of the client has been, in the same scope; 0: whenever it comes.
    pub after: u64,
    /// The command.
    pub command: C,
}

/// Commands submitted together. They are answered one by one.
pub struct Submit<M: StateMachine> {
    /// Each with a token that comes back in its answer.
    pub requests: Vec<(u64, Request<M::Command>)>,
    /// How hard to try.
    pub placing: Placing,
    /// Where the answers go.
    pub reply: Outlet<Answers<M::Reply>>,
}

/// How hard an rsm tries to have a command applied.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Placing {
    /// From any node, and again until it is applied.
    #[default]
    UntilApplied,
    /// From the node that leads, and at most one time: 6.5840 2026, Lab 4A. Reads that need no
    /// entry in the log are answered as ever.
    Once,
}

/// Answers, each with the token of its request.
pub type Answers<R> = Vec<(u64, Outcome<R>)>;

/// What became of a command.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Outcome<R> {
    /// It was applied, once, and this is the answer.
    Done(R),
    /// It was applied before, once; the answer is not kept any more.
    Forgotten,
    /// It was not carried out: the command that it is to follow has not been. It can be sent again.
    Early,
    /// It was not, and will not be, carried out: too much is under way here.
    Busy,
    /// The node stops. A command that changes something may still be carried out.
    Stopped,
    /// It was to be placed once, and this node does not lead: it was not, and will not be, carried
    /// out.
    NotPlaced,
    /// It was placed once, and this node leads no longer; or what it is about has gone to another machine
    /// while this node lagged. It may have been, or may still be, carried out, and nobody here waits for
    /// it any more.
    Displaced,
}

/// What an rsm can be told.
pub enum Message<M: StateMachine> {
    /// From a service: carry these out.
    Submit(Submit<M>),
    /// From a service: answer these from what is applied here, at once. What was true, not what is.
    Peek {
        /// Commands that change nothing, each with a token that comes back in its answer.
        commands: Vec<(u64, M::Command)>,
        /// Where the answers go.
        reply: Outlet<Answers<M::Reply>>,
    },
    /// From the engine.
    Engine(Event),
    /// From the files.
    File(FileEvent),
    /// From the files: what a checkpoint holds.
    Restored(Box<Restored<M>>),
    /// From the courier.
    Courier(CourierEvent),
    /// From an operator: make a checkpoint now, however little the log has grown.
    TakeCheckpoint,
    /// From the node: it stops; let everybody go who waits.
    Stop,
    /// From whoever looks: where are you?
    AskStatus(Outlet<Status>),
}

/// To whoever watches a machine: it has changed in a way that was to be told
/// ([`StateMachine::stirred`]), or another one leads.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Stirred {
    /// Who leads, as far as is known here.
    pub leader: Option<NodeId>,
}

/// Where a replica stands.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Status {
    /// Who leads, as far as is known here.
    pub leader: Option<u32>,
    /// Last index applied.
    pub applied: u64,
    /// Last index in a durable checkpoint.
    pub checkpointed: u64,
    /// Commands applied here since the start, duplicates not counted.
    pub commands: u64,
    /// Duplicates found here since the start.
    pub duplicates: u64,
    /// Commands and reads that wait.
    pub waiting: u64,
    /// Whether the state has been recovered.
    pub ready: bool,
    /// How much the machine holds: things, and bytes.
    pub size: (u64, u64),
    /// Bytes of the log since the last checkpoint was begun.
    #[serde(default)]
    pub log_bytes: u64,
    /// Checkpoints made here since the start.
    #[serde(default)]
    pub taken: u64,
    /// Checkpoints of other replicas taken over since the start.
    #[serde(default)]
    pub installed: u64,
    /// Of a checkpoint that is being fetched: bytes that are here, and in all.
    #[serde(default)]
    pub fetched: Option<(u64, u64)>,
}

impl<M: StateMachine> quorate_stage::Message for Message<M> {
    const KINDS: &'static [&'static str] = &[
        "Submit",
        "Peek",
        "Engine",
        "File",
        "Restored",
        "Courier",
        "TakeCheckpoint",
        "Stop",
        "AskStatus",
    ];

    fn kind(&self) -> usize {
        match self {
            Message::Submit(_) => 0,
            Message::Peek { .. } => 1,
            Message::Engine(_) => 2,
            Message::File(_) => 3,
            Message::Restored(_) => 4,
            Message::Courier(_) => 5,
            Message::TakeCheckpoint => 6,
            Message::Stop => 7,
            Message::AskStatus(_) => 8,
        }
    }
}

impl<M: StateMachine> From<Event> for Message<M> {
    fn from(event: Event) -> Self {
        Message::Engine(event)
    }
}

impl<M: StateMachine> From<FileEvent> for Message<M> {
    fn from(event: FileEvent) -> Self {
        Message::File(event)
    }
}

impl<M: StateMachine> From<Restored<M>> for Message<M> {
    fn from(restored: Restored<M>) -> Self {
        Message::Restored(Box::new(restored))
    }
}

impl<M: StateMachine> From<CourierEvent> for Message<M> {
    fn from(event: CourierEvent) -> Self {
        Message::Courier(event)
    }
}

impl<M: StateMachine> fmt::Display for Message<M> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Message::Submit(submit) => {
                write!(f, "Submit")?;
                for (_, request) in submit.requests.iter().take(4) {
                    write!(f, " {:04x}.{}", request.client_id & 0xffff, request.serial)?;
                }
                match submit.requests.len() {
                    0..=4 => Ok(()),
                    n => write!(f, " and {} more", n - 4),
                }
            }
            Message::Peek { commands, .. } => write!(f, "Peek {}", commands.len()),
            Message::Engine(Event::Chosen { entries, .. }) => {
                match (entries.first(), entries.last()) {
                    (Some(first), Some(last)) => {
                        write!(f, "Chosen {}..{}", first.index, last.index)
                    }
                    _ => f.write_str("Chosen nothing"),
                }
            }
            Message::Engine(Event::Offered { id, place: Some((index, _)) }) => {
                write!(f, "Offered {id} at={index}")
            }
            Message::Engine(Event::Offered { id, place: None }) => write!(f, "Offered {id} no"),
            Message::Engine(Event::Dropped { id }) => write!(f, "Dropped {id}"),
            Message::Engine(Event::Behind { ask, index }) => {
                write!(f, "Behind ask={ask} index={index}")
            }
            Message::Engine(Event::Barrier { id, from }) => write!(f, "Barrier {id} from={from}"),
            Message::Engine(Event::Role { leader: Some(node) }) => write!(f, "Role leader={node}"),
            Message::Engine(Event::Role { leader: None }) => f.write_str("Role leader=?"),
            Message::Engine(Event::Configured { configuration }) => {
                write!(f, "Configured {configuration}")
            }
            Message::Engine(Event::Save) => f.write_str("Save"),
            Message::Engine(Event::SubscribeAgain) => f.write_str("SubscribeAgain"),
            Message::Engine(Event::ProposeAgain) => f.write_str("ProposeAgain"),
            Message::File(event) => write!(f, "{event}"),
            Message::Restored(restored) => write!(f, "Restored {}", restored.position),
            Message::Courier(event) => write!(f, "{event}"),
            Message::TakeCheckpoint => f.write_str("TakeCheckpoint"),
            Message::Stop => f.write_str("Stop"),
            Message::AskStatus(_) => f.write_str("AskStatus"),
        }
    }
}
