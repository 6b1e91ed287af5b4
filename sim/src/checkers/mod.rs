//! What must hold after every step of every core, whatever the faults.
//!
//! Nothing here asks an actor. The stage shows each core after each of its steps, and each word of
//! it as it leaves; out of those words the checkers work out for themselves what is chosen, and
//! hold the cores against that.
//!
//! | | Paxos | Raft |
//! |---|---|---|
//! | agreement | one value per slot; no proposal against what is chosen | one entry per place; logs that share an entry share what is before it |
//! | order | promises never fall | terms and commit never fall; one vote per term; one leader per term, whom a majority has elected; leaders hold all that is committed |
//! | durability | what an acceptor has said it remembers after any crash; what it has forgotten is in a checkpoint | likewise votes, terms and entries |
//! | evidence | nothing is proposed in a ballot that no majority has promised, or announced or handed over that none has said to hold; a proposer counts what was said | likewise; no entry of an older term is committed by counting; no round is answered that was not begun; a leader counts what was said in its term |
//!
//! Of members: a life is given once, to one directory; nobody acts under a name that its group's log has not
//! given to its directory; no configuration brings a dead life back, and no vote of one is counted.
//!
//! Of shards: at most one group carries out operations on a shard, at any time.
//!
//! Memory is bounded: only the newest [`WINDOW`] places are remembered.

mod members;
mod paxos;
mod raft;
mod shards;

use std::{any::Any, collections::BTreeMap, fmt};

use quorate_acceptor as acceptor;
use quorate_kvserver::Machine;
use quorate_learner as learner;
use quorate_proposer as proposer;
use quorate_protocol::{
    Configuration, GroupId, Incarnation, Name, NodeId, Role,
    log::{Event, Index, ProposalId},
};
use quorate_raft as raft_peer;

/// So many of the newest slots, places, rounds and terms are remembered.
const WINDOW: usize = 4096;

/// A rule that was broken.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Violation {
    /// Which rule, by a short name that stays the same from run to run.
    pub rule: String,
    /// Who broke it, and how.
    pub text: String,
}

impl Violation {
    pub(crate) fn new(rule: &str, text: impl Into<String>) -> Self {
        Violation { rule: rule.into(), text: text.into() }
    }
}

impl fmt::Display for Violation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.rule, self.text)
    }
}

type Checked = Result<(), Violation>;

/// A break of `rule`.
fn broken(rule: &str, text: String) -> Checked {
    Err(Violation::new(rule, text))
}

/// A map that forgets what has the lowest keys.
struct Window<K, V>(BTreeMap<K, V>);

impl<K, V> Default for Window<K, V> {
    fn default() -> Self {
        Window(BTreeMap::new())
    }
}

impl<K: Ord + Copy, V> Window<K, V> {
    fn get(&self, key: &K) -> Option<&V> {
        self.0.get(key)
    }

    fn insert(&mut self, key: K, value: V) {
        self.0.insert(key, value);
        self.trim();
    }

    /// Whether a key is so low that it would be forgotten at once.
    fn is_beyond(&self, key: &K) -> bool {
        self.0.len() >= WINDOW && self.0.first_key_value().is_some_and(|(first, _)| key < first)
    }

    fn or_default(&mut self, key: K) -> &mut V
    where
        V: Default,
    {
        self.trim();
        self.0.entry(key).or_default()
    }

    fn trim(&mut self) {
        while self.0.len() > WINDOW {
            self.0.pop_first();
        }
    }
}

/// What two replicas of a group were handed at one index.
#[derive(Default)]
struct Delivered(Window<Index, Option<ProposalId>>);

impl Delivered {
    fn on_event(&mut self, node: NodeId, event: &Event) -> Checked {
        let Event::Chosen { entries, .. } = event else { return Ok(()) };
        for entry in entries {
            let id = entry.proposal.as_ref().map(|proposal| proposal.id);
            match self.0.get(&entry.index) {
                Some(known) if *known != id => {
                    let at = entry.index;
                    return broken(
                        "one-value-per-index",
                        format!("{node} hands over {} at {at}, another node {}", s(id), s(*known)),
                    );
                }
                Some(_) => {}
                None => self.0.insert(entry.index, id),
            }
        }
        Ok(())
    }
}

/// A proposal's identity, for people.
fn s(id: Option<ProposalId>) -> String {
    id.map_or_else(|| "a no-op".into(), |id| id.to_string())
}

struct Group {
    members: members::Members,
    delivered: Delivered,
    paxos: paxos::Checker,
    raft: raft::Checker,
}

impl Group {
    fn new(founders: &[NodeId]) -> Self {
        Group {
            members: members::Members::new(founders),
            delivered: Delivered::default(),
            paxos: paxos::Checker::new(Configuration::of(founders.iter().copied())),
            raft: raft::Checker::default(),
        }
    }
}

/// All rules, over all groups of a world.
pub(crate) struct Checkers {
    groups: BTreeMap<GroupId, Group>,
    /// Which directory a machine has that has lost its disk.
    incarnations: BTreeMap<NodeId, Incarnation>,
    shards: shards::Checker,
}

impl Checkers {
    /// For groups of these servers.
    pub(crate) fn new(members: &BTreeMap<GroupId, Vec<NodeId>>) -> Self {
        let groups = members.iter().map(|(group, nodes)| (*group, Group::new(nodes))).collect();
        let (incarnations, shards) = (BTreeMap::new(), shards::Checker::default());
        Checkers { groups, incarnations, shards }
    }

    /// A core has taken a step.
    pub(crate) fn on_step(&mut self, actor: Name, core: &dyn Any) -> Checked {
        self.on_act(actor)?;
        let Some(group) = self.groups.get_mut(&actor.group) else { return Ok(()) };
        if let Some(core) = core.downcast_ref::<acceptor::Acceptor>() {
            group.paxos.on_acceptor(actor.node, core)
        } else if let Some(core) = core.downcast_ref::<proposer::Proposer>() {
            group.paxos.on_proposer(actor.node, core)
        } else if let Some(core) = core.downcast_ref::<raft_peer::Peer>() {
            group.raft.on_peer(actor.node, core, &mut group.members)
        } else if let Some(machine) = core.downcast_ref::<Machine>() {
            self.shards.on_machine(actor.group, machine)
        } else {
            Ok(())
        }
    }

    /// A core says something.
    pub(crate) fn on_say(&mut self, actor: Name, said: &dyn Any) -> Checked {
        self.on_act(actor)?;
        let node = actor.node;
        let Some(Group { members, delivered, paxos, raft }) = self.groups.get_mut(&actor.group)
        else {
            return Ok(());
        };
        if let Some(said) = said.downcast_ref::<acceptor::Outbound>() {
            match said {
                acceptor::Outbound::Answer(_, answer) => paxos.on_answer(node, answer),
                acceptor::Outbound::Report(acceptor::Report::Voted { ballot, entries, .. }) => {
                    paxos.on_vote(node, *ballot, entries, members)
                }
                _ => Ok(()),
            }
        } else if let Some(said) = said.downcast_ref::<proposer::Outbound>() {
            match said {
                proposer::Outbound::Acceptors(_, message) => paxos.on_proposal(node, message),
                proposer::Outbound::Learner(_, learner::Message::Decided { entries }) => {
                    paxos.on_decided(node, entries)
                }
                _ => Ok(()),
            }
        } else if let Some(said) = said.downcast_ref::<learner::Outbound>() {
            match said {
                learner::Outbound::Log(Event::Configured { configuration }) => {
                    members.on_told(node, configuration)
                }
                learner::Outbound::Log(event) => {
                    paxos.on_event(node, event)?;
                    delivered.on_event(node, event)
                }
                _ => Ok(()),
            }
        } else if let Some(said) = said.downcast_ref::<raft_peer::Outbound>() {
            match said {
                raft_peer::Outbound::Peers(to, message) => raft.on_message(node, to, message),
                raft_peer::Outbound::Log(Event::Configured { configuration }) => {
                    members.on_told(node, configuration)
                }
                raft_peer::Outbound::Log(event) => {
                    raft.on_event(node, event)?;
                    delivered.on_event(node, event)
                }
                _ => Ok(()),
            }
        } else {
            Ok(())
        }
    }

    /// An actor does something. Whoever agrees in a group must have its name from the group.
    fn on_act(&self, actor: Name) -> Checked {
        match self.groups.get(&actor.group).filter(|_| actor.role.is_of_engine()) {
            Some(group) => {
                let incarnation = self.incarnations.get(&actor.node.home()).copied();
                group.members.on_act(actor.node, incarnation)
            }
            None => Ok(()),
        }
    }

    /// An actor recovers from what is durable.
    pub(crate) fn on_restart(&mut self, actor: Name) {
        let Some(group) = self.groups.get_mut(&actor.group) else { return };
        match actor.role {
            Role::Acceptor => group.paxos.on_restart(actor.node),
            Role::Raft => group.raft.on_restart(actor.node),
            _ => {}
        }
    }

    /// All actors of a server recover from what is durable.
    pub(crate) fn on_start(&mut self, node: NodeId) {
        for group in self.groups.values_mut() {
            group.paxos.on_start(node);
            group.raft.on_start(node);
        }
    }

    /// A server has lost power: its newest checkpoint is of this index, so that nothing above may be
    /// forgotten there.
    pub(crate) fn on_power_lost(&self, node: NodeId, group: GroupId, saved: Index) -> Checked {
        if let Some(group) = self.groups.get(&group) {
            let forgotten = group.paxos.forgotten(node).max(group.raft.forgotten(node));
            if forgotten > saved {
                let text = format!(
                    "{node} has forgotten its log through {forgotten}, and its newest checkpoint \
                     is of {saved}"
                );
                return broken("what-is-forgotten-is-saved", text);
            }
        }
        Ok(())
    }

    /// A server has another disk than before: what it said binds nobody any more.
    pub(crate) fn on_other_disk(&mut self, node: NodeId) {
        for group in self.groups.values_mut() {
            group.paxos.on_other_disk(node);
            group.raft.on_other_disk(node);
        }
    }

    /// A server has lost its disk, and gets an empty one in this incarnation. What it has said stays said.
    pub(crate) fn on_wiped(&mut self, node: NodeId, incarnation: Incarnation) {
        self.incarnations.insert(node, incarnation);
        for group in self.groups.values_mut() {
            group.paxos.on_wiped(node);
            group.raft.on_wiped(node);
        }
    }

    /// Whether the server is a voter of a group in its present incarnation.
    pub(crate) fn is_intact(&self, node: NodeId, group: GroupId) -> bool {
        let incarnation = self.incarnations.get(&node).copied();
        self.groups.get(&group).is_some_and(|group| {
            let Group { members, paxos, .. } = group;
            members.is_intact(node, incarnation) && paxos.reaches(node, members.given_at(node))
        })
    }
}
