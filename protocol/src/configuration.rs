//! Who decides in a group: the majorities that count, also while they change.

use std::{collections::BTreeSet, fmt};

use serde::{Deserialize, Serialize};

use crate::{
    NodeId,
    planted::{Bug, is_planted},
};

/// The members of a group. While `outgoing` is not empty two configurations rule together (Raft,
/// section 6: joint consensus), and whatever is agreed needs a majority of each.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Configuration {
    /// Whose votes count; of two configurations, the new one.
    pub voters: BTreeSet<NodeId>,
    /// The voters of the old configuration, while it still rules too.
    pub outgoing: BTreeSet<NodeId>,
    /// Who gets the log and has no vote.
    pub learners: BTreeSet<NodeId>,
}

impl Configuration {
    /// One configuration of these voters.
    pub fn of(voters: impl IntoIterator<Item = NodeId>) -> Self {
        let voters = voters.into_iter().collect();
        Configuration { voters, ..Configuration::default() }
    }

    /// Whether two configurations rule together.
    pub fn is_joint(&self) -> bool {
        !self.outgoing.is_empty()
    }

    /// Whether the nodes for which `agrees` holds may decide: a majority of the voters, and of the
    /// outgoing ones too. Nobody decides in a group without voters.
    pub fn has_quorum(&self, agrees: impl Fn(NodeId) -> bool) -> bool {
        let majority = |voters: &BTreeSet<NodeId>| {
            let agreed = voters.iter().filter(|node| agrees(**node)).count();
            2 * (agreed + usize::from(is_planted(Bug::RaftQuorumTooSmall))) > voters.len()
        };
        majority(&self.voters) && (!self.is_joint() || majority(&self.outgoing))
    }

    /// Whether a node has a vote.
    pub fn votes(&self, node: NodeId) -> bool {
        self.voters.contains(&node) || self.outgoing.contains(&node)
    }

    /// Everybody who gets the log, in order.
    pub fn members(&self) -> BTreeSet<NodeId> {
        let all = self.voters.iter().chain(&self.outgoing).chain(&self.learners);
        all.copied().collect()
    }
}

impl fmt::Display for Configuration {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let list = |nodes: &BTreeSet<NodeId>| {
            nodes.iter().map(ToString::to_string).collect::<Vec<_>>().join(",")
        };
        if self.is_joint() {
            write!(f, "{}&", list(&self.outgoing))?;
        }
        write!(f, "{}", list(&self.voters))?;
        if !self.learners.is_empty() {
            write!(f, "+{}", list(&self.learners))?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn nodes(numbers: &[u32]) -> BTreeSet<NodeId> {
        numbers.iter().copied().map(NodeId).collect()
    }

    #[test]
    fn a_majority_decides_and_two_configurations_need_both() {
        let one = Configuration::of(nodes(&[1, 2, 3]));
        assert!(one.has_quorum(|node| node.0 <= 2));
        assert!(!one.has_quorum(|node| node.0 == 1));
        let joint = Configuration { outgoing: nodes(&[3, 4, 5]), ..one };
        assert!(!joint.has_quorum(|node| node.0 <= 3), "one of three old voters");
        assert!(joint.has_quorum(|node| node.0 >= 2 && node.0 <= 4));
        assert!(!Configuration::default().has_quorum(|_| true));
    }
}
