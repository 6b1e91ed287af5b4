//! Who is a member, and under which name (DESIGN 5): a life is given once, to one directory, and before
//! anybody acts in it; and whoever has lost its disk acts in no former one.

use std::collections::{BTreeMap, BTreeSet};

use quorate_protocol::{Configuration, Incarnation, Member, NodeId};
use quorate_raft::{Place, Term};

use super::{Checked, broken};

/// More than half of the voters, and of the outgoing ones too.
pub(super) fn has_majority(of: &Configuration, agrees: impl Fn(NodeId) -> bool) -> bool {
    let majority = |voters: &BTreeSet<NodeId>| {
        2 * voters.iter().filter(|node| agrees(**node)).count() > voters.len()
    };
    majority(&of.voters) && (!of.is_joint() || majority(&of.outgoing))
}

/// The members of a group, by what its log says.
pub(super) struct Members {
    /// The newest configuration that is chosen.
    newest: Configuration,
    /// To whom each life was given.
    given: BTreeMap<NodeId, Incarnation>,
    /// Where a life was given.
    given_at: BTreeMap<NodeId, Place>,
    /// Where, and by the leader of which term, the first configuration was chosen that a member is not in.
    ended: BTreeMap<NodeId, (Place, Term)>,
}

impl Members {
    /// Of a group that was formed by these.
    pub(super) fn new(founders: &[NodeId]) -> Self {
        let newest = Configuration::of(founders.iter().copied());
        Members {
            newest,
            given: BTreeMap::new(),
            given_at: BTreeMap::new(),
            ended: BTreeMap::new(),
        }
    }

    /// The newest configuration that is chosen.
    pub(super) fn newest(&self) -> &Configuration {
        &self.newest
    }

    /// The next configuration is chosen.
    pub(super) fn on_chosen(&mut self, next: &Configuration, at: (Place, Term)) -> Checked {
        for (machine, life) in &next.lives {
            let node = machine.in_life(life.number);
            let before = self.newest.lives.get(machine).map_or(0, |life| life.number);
            let same = self.given.get(&node).is_none_or(|to| *to == life.incarnation);
            if life.number < before || !same {
                let text = format!("{node} is given to {}: {next}", life.incarnation);
                return broken("a-life-is-given-once", text);
            }
            self.given.insert(node, life.incarnation);
            self.given_at.entry(node).or_insert(at.0);
        }
        let former = std::mem::replace(&mut self.newest, next.clone());
        let members = self.newest.members();
        let last = |node: &NodeId| next.lives.get(&node.home()).map_or(0, |life| life.number);
        let former = former.members().into_iter().filter(|node| node.life() < last(node));
        let ended = former.filter(|node| !members.contains(node));
        ended.for_each(|node| _ = self.ended.entry(node).or_insert(at));
        if let Some(back) = members.iter().find(|node| self.ended.contains_key(node)) {
            return broken("the-dead-stay-dead", format!("{back} is a member again: {next}"));
        }
        Ok(())
    }

    /// Somebody says that these are the members.
    pub(super) fn on_told(&self, node: NodeId, told: &Configuration) -> Checked {
        for (machine, life) in &told.lives {
            let name = machine.in_life(life.number);
            if self.given.get(&name) != Some(&life.incarnation) {
                let text = format!("{node} says that {name} is {}: not chosen", life.incarnation);
                return broken("only-the-chosen-are-members", text);
            }
        }
        Ok(())
    }

    /// A member acts, on a directory of this incarnation; `None` for that of a founder.
    pub(super) fn on_act(&self, node: NodeId, incarnation: Option<Incarnation>) -> Checked {
        let right = match (node.life(), incarnation) {
            (0, None) => true,
            (0, Some(_)) | (_, None) => false,
            (_, Some(incarnation)) => self.given.get(&node) == Some(&incarnation),
        };
        if !right {
            let text = match incarnation {
                Some(incarnation) => format!("{incarnation} acts as {node}"),
                None => format!("a founder's directory acts as {node}"),
            };
            return broken("only-the-named-act", text);
        }
        Ok(())
    }

    /// Whether the word of a member counts for what is chosen there: it is not known to be dead.
    pub(super) fn counts_at(&self, node: NodeId, at: Place) -> bool {
        self.ended.get(&node).is_none_or(|(end, _)| at <= *end)
    }

    /// Whether its vote counts in a term.
    pub(super) fn counts_in(&self, node: NodeId, term: Term) -> bool {
        self.ended.get(&node).is_none_or(|(_, end)| term < *end)
    }

    /// Where the life was given in which this machine is now; 0 if it has its founder's directory.
    pub(super) fn given_at(&self, machine: NodeId) -> Place {
        let node = machine.in_life(self.newest.last_life(machine));
        self.given_at.get(&node).copied().unwrap_or_default()
    }

    /// Whether a machine, with a directory of this incarnation, is a voter whatever rules now.
    pub(super) fn is_intact(&self, machine: NodeId, incarnation: Option<Incarnation>) -> bool {
        let node = match incarnation {
            None => Some(machine),
            Some(incarnation) => self.newest.admitted(Member { node: machine, incarnation }),
        };
        let votes = |node: NodeId| {
            let old = &self.newest.outgoing;
            self.newest.voters.contains(&node) && (old.is_empty() || old.contains(&node))
        };
        node.is_some_and(votes)
    }
}
