//! The name of an actor: node, group, role.

use std::{fmt, str::FromStr};

use serde::{Deserialize, Serialize};

use crate::{GroupId, NodeId};

/// What an actor does.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub enum Role {
    /// Paxos: promises and votes.
    Acceptor,
    /// Paxos: ballots, phases 1 and 2.
    Proposer,
    /// Paxos: what is chosen, in order.
    Learner,
    /// Raft: one peer.
    Raft,
    /// Orders, applies, answers.
    Rsm,
    /// The key/value server.
    KvServer,
    /// Carries shards between groups.
    Mover,
    /// Says which group serves which shard.
    ShardMaster,
    /// A client of the store.
    Clerk,
    /// The Redis protocol.
    Gateway,
    /// The write-ahead journal of the node.
    Journal,
    /// Atomic files of the node.
    Files,
    /// Carries files between nodes.
    Courier,
    /// Takes nodes into its group.
    Steward,
    /// Links to the other nodes.
    Cluster,
    /// Whoever asks from outside: a test, a debug endpoint.
    Outside,
}

const ROLES: [(Role, &str); 16] = [
    (Role::Acceptor, "acceptor"),
    (Role::Proposer, "proposer"),
    (Role::Learner, "learner"),
    (Role::Raft, "raft"),
    (Role::Rsm, "rsm"),
    (Role::KvServer, "kvserver"),
    (Role::Mover, "mover"),
    (Role::ShardMaster, "shardmaster"),
    (Role::Clerk, "clerk"),
    (Role::Gateway, "gateway"),
    (Role::Journal, "journal"),
    (Role::Files, "files"),
    (Role::Courier, "courier"),
    (Role::Steward, "steward"),
    (Role::Cluster, "cluster"),
    (Role::Outside, "outside"),
];

impl Role {
    /// Whether a group is agreed on by actors of this role: these are named after their life in it.
    pub fn is_of_engine(self) -> bool {
        matches!(self, Role::Acceptor | Role::Proposer | Role::Learner | Role::Raft)
    }
}

impl fmt::Display for Role {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let text = ROLES.iter().find(|(role, _)| role == self).map_or("?", |(_, text)| text);
        f.write_str(text)
    }
}

/// An actor's name, `n2/g1/acceptor`; of an actor that belongs to no group, `n2/gateway`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct Name {
    /// Where it lives.
    pub node: NodeId,
    /// Which group it serves; group 0 for none.
    pub group: GroupId,
    /// What it does.
    pub role: Role,
}

impl Name {
    /// The name of a group's actor.
    pub fn new(node: NodeId, group: GroupId, role: Role) -> Self {
        Name { node, group, role }
    }

    /// The name of an actor that serves the whole node.
    pub fn of_node(node: NodeId, role: Role) -> Self {
        Name { node, group: GroupId(0), role }
    }

    /// The same role in the same group, on another node.
    pub fn on(self, node: NodeId) -> Self {
        Name { node, ..self }
    }
}

impl fmt::Display for Name {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.group == GroupId(0) {
            write!(f, "{}/{}", self.node, self.role)
        } else {
            write!(f, "{}/{}/{}", self.node, self.group, self.role)
        }
    }
}

/// Why a text is not a [`Name`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ParseNameError(String);

impl fmt::Display for ParseNameError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "`{}` is not an actor's name; write n2/g1/acceptor or n2/gateway", self.0)
    }
}

impl std::error::Error for ParseNameError {}

impl FromStr for Name {
    type Err = ParseNameError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let bad = || ParseNameError(text.chars().take(64).collect());
        let number = |part: &str, letter: char| -> Option<u32> {
            part.strip_prefix(letter).and_then(|digits| digits.parse().ok())
        };
        let node_of = |part: &str| {
            let (machine, life) = part.split_once('.').unwrap_or((part, "0"));
            let machine = number(machine, 'n').filter(|number| *number <= NodeId::NUMBER_MAX)?;
            Some(NodeId(machine).in_life(life.parse().ok()?))
        };
        let role = |part: &str| ROLES.iter().find(|(_, t)| *t == part).map(|(role, _)| *role);
        let parts: Vec<&str> = text.split('/').collect();
        let (node, group, role_text) = match parts[..] {
            [node, role] => (node, "g0", role),
            [node, group, role] => (node, group, role),
            _ => return Err(bad()),
        };
        Ok(Name {
            node: node_of(node).ok_or_else(bad)?,
            group: GroupId(number(group, 'g').ok_or_else(bad)?),
            role: role(role_text).ok_or_else(bad)?,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_reads_back_as_it_is_written() {
        for (role, _) in ROLES {
            for (group, life) in [(0, 0), (7, 0), (7, 2)] {
                let name = Name::new(NodeId(3).in_life(life), GroupId(group), role);
                assert_eq!(name.to_string().parse(), Ok(name));
            }
        }
        for bad in [
            "",
            "n1",
            "n1/g1/nobody",
            "x1/g1/rsm",
            "n1/g1/rsm/more",
            "n99999999999/rsm",
            "n65536/rsm",
        ] {
            assert!(bad.parse::<Name>().is_err(), "{bad}");
        }
    }
}
