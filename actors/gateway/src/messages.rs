//! What the gateway hears. Plain data, but for the socket of a client that has come.

use std::{collections::BTreeMap, fmt, sync::Arc};

use bytes::BytesMut;
use quorate_clerk::{Administered, Outcomes};
use quorate_protocol::{GroupId, NodeId};
use quorate_shardmaster::Configuration;

use crate::Socket;

/// Number of a connection, different for each of a node's, also across restarts of the gateway.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct ConnectionId(pub u64);

/// What the gateway can be told.
pub enum Message {
    /// From its listener: a client has come.
    Opened(ConnectionId, Arc<Socket>),
    /// From the task that reads a socket.
    Input(ConnectionId, BytesMut),
    /// From that task: the client has gone, or will not send more.
    Closed(ConnectionId),
    /// From the task that writes what did not fit at once: it has.
    Written(ConnectionId),
    /// From the clerk. Tokens are numbers of requests.
    Outcomes(ConnectionId, Outcomes),
    /// From the clerk: what the shardmaster has answered. Tokens are numbers of requests.
    Administered(ConnectionId, Administered),
    /// From the clerk: it has started, and what a former life owed will not come.
    ClerkStarted,
    /// From the cluster: another node answers, or does not.
    Peer(NodeId, bool),
    /// From the node: who leads the groups that have a replica here, and how much is stored in each.
    Standing(Standing),
    /// From the node: the newest configuration that it knows. Never where the store is not divided.
    Configured(Arc<Configuration>),
    /// From the node: it stops. No more clients; those that are there get what is under way.
    Stop,
}

/// Where this node's replicas stand.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Standing {
    /// Each group that has a replica here. Where the store is not divided: g1.
    pub groups: BTreeMap<GroupId, GroupStanding>,
}

/// Where this node's replica of a group stands.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct GroupStanding {
    /// Who leads, as far as is known here.
    pub leader: Option<NodeId>,
    /// Keys in the replica.
    pub keys: u64,
    /// Their bytes.
    pub bytes: u64,
    /// Whether the replica has recovered.
    pub ready: bool,
}

quorate_stage::kinds!(Message {
    Opened,
    Input,
    Closed,
    Written,
    Outcomes,
    Administered,
    ClerkStarted,
    Peer,
    Standing,
    Configured,
    Stop
});

impl fmt::Display for Message {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Message::Opened(id, socket) => write!(f, "Opened c{} {}", id.0, socket.peer),
            Message::Input(id, bytes) => write!(f, "Input c{} {} bytes", id.0, bytes.len()),
            Message::Closed(id) => write!(f, "Closed c{}", id.0),
            Message::Written(id) => write!(f, "Written c{}", id.0),
            Message::Outcomes(id, outcomes) => write!(f, "Outcomes c{} {}", id.0, outcomes.len()),
            Message::Administered(id, outcomes) => {
                write!(f, "Administered c{} {}", id.0, outcomes.len())
            }
            Message::ClerkStarted => f.write_str("ClerkStarted"),
            Message::Peer(node, up) => write!(f, "Peer {node} up={up}"),
            Message::Standing(standing) => {
                f.write_str("Standing")?;
                for (group, GroupStanding { leader, .. }) in &standing.groups {
                    match leader {
                        Some(leader) => write!(f, " {group}={leader}")?,
                        None => write!(f, " {group}=?")?,
                    }
                }
                Ok(())
            }
            Message::Configured(configuration) => {
                write!(f, "Configured {}", configuration.number)
            }
            Message::Stop => f.write_str("Stop"),
        }
    }
}
