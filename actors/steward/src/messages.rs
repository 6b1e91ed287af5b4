//! What a steward hears. Plain data.

use std::fmt;

use quorate_protocol::{Configuration, Incarnation, log::Request};
use quorate_stage::Outlet;
use serde::{Deserialize, Serialize};

/// What a steward can be told.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub enum Message {
    /// From the steward of another node: who are the members? Answered by Told.
    Petition {
        /// Which directory asks.
        incarnation: Incarnation,
        /// Whether it wants to take the place of the member that its machine was.
        wants: bool,
    },
    /// The answer to Petition: these are the members, as far as is known there to be chosen.
    Told {
        /// Who.
        configuration: Configuration,
    },
    /// From the engine of this node: who the members are.
    #[serde(skip)]
    Configured(Configuration),
    /// From the node: the engine of this replica has begun, and takes requests here.
    #[serde(skip)]
    Begun(Outlet<Request>),
    /// From the files: our name is on the disk.
    #[serde(skip)]
    Recorded,
}

quorate_stage::kinds!(Message { Petition, Told, Configured, Begun, Recorded });

impl quorate_stage::WireMessage for Message {
    fn class(&self) -> quorate_stage::Class {
        match self {
            Message::Told { .. } => quorate_stage::Class::Answer,
            _ => quorate_stage::Class::Request,
        }
    }
}

impl fmt::Display for Message {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Message::Petition { incarnation, wants } => {
                write!(f, "Petition {incarnation}")?;
                if *wants { f.write_str(" wants in") } else { Ok(()) }
            }
            Message::Told { configuration } => write!(f, "Told {configuration}"),
            Message::Configured(configuration) => write!(f, "Configured {configuration}"),
            Message::Begun(_) => f.write_str("Begun"),
            Message::Recorded => f.write_str("Recorded"),
        }
    }
}
