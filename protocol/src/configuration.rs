//! Who decides in a group: the majorities that count, also while they change.

use std::{
    collections::{BTreeMap, BTreeSet},
    fmt,
};

use serde::{Deserialize, Serialize};

use crate::{
    Incarnation, Member, NodeId,
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
    /// By machine, the last life in which one was taken in since the group was formed. Whoever is removed
    /// gets one more, which is nobody's: an earlier life is never a member again.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub lives: BTreeMap<NodeId, Life>,
}

/// The life of a machine in a group.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Life {
    /// Which one, from 1.
    pub number: u16,
    /// To whom it was given. Whoever asks again is told the same.
    pub incarnation: Incarnation,
}

/// What is to become of the members of a group.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Change {
    /// A machine that is a member, in whatever life, has lost its disk and comes back as this one.
    Replace(Member),
    /// A machine that is no member becomes one.
    Add(Member),
    /// A machine is to be a member no more.
    Remove(NodeId),
}

impl fmt::Display for Change {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Change::Replace(member) => write!(f, "replace {member}"),
            Change::Add(member) => write!(f, "add {member}"),
            Change::Remove(node) => write!(f, "remove {node}"),
        }
    }
}

/// Why a change makes no other configuration.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Unchanged {
    /// It has been made.
    AlreadySo,
    /// It cannot be made, and why.
    Impossible(&'static str),
}

fn next_life(last: Option<&Life>) -> Result<u16, Unchanged> {
    let next = last.map_or(0, |life| life.number).checked_add(1);
    next.ok_or(Unchanged::Impossible("it has had too many lives"))
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

    /// The life in which a machine is a member; of several, while one replaces another, the last one.
    pub fn member_at(&self, machine: NodeId) -> Option<NodeId> {
        self.members().into_iter().filter(|node| node.home() == machine.home()).max()
    }

    /// The life that was given to this incarnation of a machine, if it is a member in it.
    pub fn admitted(&self, member: Member) -> Option<NodeId> {
        let life = self.lives.get(&member.node.home())?;
        let node = member.node.in_life(life.number);
        let is_member = self.members().contains(&node);
        (life.incarnation == member.incarnation && is_member).then_some(node)
    }

    /// What is to hold once a change has been made: one configuration, without learners that become voters.
    ///
    /// # Errors
    /// Nothing is to be done, or nothing can be.
    pub fn after(&self, change: &Change) -> Result<Configuration, Unchanged> {
        let machine = match change {
            Change::Replace(member) | Change::Add(member) => member.node.home(),
            Change::Remove(node) => node.home(),
        };
        let mut next = Configuration { outgoing: BTreeSet::new(), ..self.clone() };
        let other = |node: &NodeId| node.home() != machine;
        next.voters.retain(other);
        next.learners.retain(other);
        match change {
            Change::Replace(member) | Change::Add(member) => {
                let present = self.member_at(machine);
                let node = match (self.admitted(*member), change) {
                    (Some(node), _) if self.voters.contains(&node) && !self.is_joint() => {
                        return Err(Unchanged::AlreadySo);
                    }
                    (Some(node), _) => node,
                    (None, Change::Replace(_)) if present.is_none() => {
                        return Err(Unchanged::Impossible("it is no member: it has to be added"));
                    }
                    (None, Change::Add(_)) if present.is_some() => {
                        return Err(Unchanged::Impossible("it is a member already"));
                    }
                    (None, _) => {
                        let number = next_life(self.lives.get(&machine))?;
                        let incarnation = member.incarnation;
                        next.lives.insert(machine, Life { number, incarnation });
                        machine.in_life(number)
                    }
                };
                next.voters.insert(node);
            }
            Change::Remove(_) => {
                if self.member_at(machine).is_none() {
                    return Err(Unchanged::AlreadySo);
                }
                if next.voters.is_empty() {
                    return Err(Unchanged::Impossible("it is the last member"));
                }
                // A life that nobody gets, so that what was removed can be told that it is dead.
                let number = next_life(self.lives.get(&machine))?;
                next.lives.insert(machine, Life { number, incarnation: Incarnation(0) });
            }
        }
        Ok(next)
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

    fn member(node: u32, incarnation: u64) -> Member {
        Member { node: NodeId(node), incarnation: Incarnation(incarnation) }
    }

    #[test]
    fn a_life_is_given_once_and_to_one_incarnation() {
        let formed = Configuration::of(nodes(&[1, 2, 3]));
        assert_eq!(formed.admitted(member(3, 7)), None, "nobody was given a life yet");
        let replaced = formed.after(&Change::Replace(member(3, 7))).unwrap();
        let third = NodeId(3).in_life(1);
        assert_eq!(replaced.voters, [NodeId(1), NodeId(2), third].into());
        assert_eq!(replaced.admitted(member(3, 7)), Some(third));
        assert_eq!(replaced.admitted(member(3, 8)), None);
        assert_eq!(replaced.after(&Change::Replace(member(3, 7))), Err(Unchanged::AlreadySo));
        let again = replaced.after(&Change::Replace(member(3, 8))).unwrap();
        assert_eq!(again.member_at(NodeId(3)), Some(NodeId(3).in_life(2)));
        assert_eq!(again.admitted(member(3, 7)), None, "that one is dead for ever");
        let removed = again.after(&Change::Remove(NodeId(3))).unwrap();
        assert_eq!(removed.voters, nodes(&[1, 2]));
        assert!(matches!(
            removed.after(&Change::Replace(member(3, 9))),
            Err(Unchanged::Impossible(_))
        ));
        let back = removed.after(&Change::Add(member(3, 8))).unwrap();
        assert_eq!(
            back.member_at(NodeId(3)),
            Some(NodeId(3).in_life(4)),
            "a new life all the same"
        );
        let fourth = back.after(&Change::Add(member(4, 1))).unwrap();
        assert_eq!(fourth.voters.len(), 4);
        let impossible = fourth.after(&Change::Add(member(4, 2)));
        assert!(matches!(impossible, Err(Unchanged::Impossible(_))));
        let alone = Configuration::of(nodes(&[1]));
        assert!(matches!(alone.after(&Change::Remove(NodeId(1))), Err(Unchanged::Impossible(_))));
        assert_eq!(alone.after(&Change::Remove(NodeId(2))), Err(Unchanged::AlreadySo));
    }

    #[test]
    fn a_life_that_has_no_vote_yet_gets_one() {
        let formed = Configuration::of(nodes(&[1, 2, 3]));
        let target = formed.after(&Change::Replace(member(3, 7))).unwrap();
        let third = NodeId(3).in_life(1);
        let learners = [third].into();
        let half_way = Configuration { learners, lives: target.lives.clone(), ..formed.clone() };
        assert_eq!(half_way.admitted(member(3, 7)), Some(third));
        assert_eq!(half_way.after(&Change::Replace(member(3, 7))), Ok(target));
        // Its disk is lost once more.
        let next = half_way.after(&Change::Replace(member(3, 8))).unwrap();
        assert_eq!(next.members(), [NodeId(1), NodeId(2), NodeId(3).in_life(2)].into());
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
