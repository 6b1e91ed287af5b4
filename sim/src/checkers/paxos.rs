//! The rules of Paxos (Lamport, *Paxos Made Simple*, 2001: P1a, P2b, P2c).

use std::collections::{BTreeMap, BTreeSet};

use quorate_acceptor::{
    Acceptor, Answer, Ballot, Entry, Membership, Message, Round, Slot, Value, foreseen, is_own,
    ruler,
};
use quorate_proposer::Proposer;
use quorate_protocol::{
    Configuration, NodeId,
    log::{Event, Index, ProposalId},
};

use quorate_raft::{Place, Term};

use super::{
    Checked, Window, broken,
    members::{Members, has_majority},
    s,
};

/// So many of a proposer's newest rounds are looked at after each step: more than are under way.
const ROUNDS_LOOKED_AT: usize = 8;

type Id = Option<ProposalId>;

fn id(value: &Value) -> Id {
    value.as_ref().map(|proposal| proposal.id)
}

/// What an acceptor has said, which it must remember.
#[derive(Default)]
struct Said {
    promised: Ballot,
    votes: Window<Slot, Ballot>,
}

/// What an acceptor knew after its last step.
#[derive(Default)]
struct Seen {
    promised: Ballot,
    forgotten: Slot,
    recovers: bool,
}

pub(super) struct Checker {
    said: BTreeMap<NodeId, Said>,
    seen: BTreeMap<NodeId, Seen>,
    /// Who has promised.
    promises: Window<Ballot, BTreeSet<NodeId>>,
    /// Who has answered a round with a vote, or with what makes a vote needless.
    answered: Window<(Ballot, Round), BTreeSet<NodeId>>,
    /// Who has said to have voted so.
    voters: Window<(Slot, Ballot), BTreeSet<NodeId>>,
    proposed: Window<(Slot, Ballot), Id>,
    chosen: Window<Slot, (Id, Ballot)>,
    /// Every slot ever chosen lies below.
    bound: Slot,
    /// Through which slot each has handed over what is chosen.
    handed_over: BTreeMap<NodeId, Slot>,
    /// Who rules, by what is chosen.
    membership: Membership,
    /// Configurations that are chosen, and that `membership` does not know.
    configurations: BTreeMap<Slot, Value>,
}

impl Checker {
    /// Of a group that was formed so.
    pub(super) fn new(formed: Configuration) -> Self {
        Checker {
            said: BTreeMap::new(),
            seen: BTreeMap::new(),
            promises: Window::default(),
            answered: Window::default(),
            voters: Window::default(),
            proposed: Window::default(),
            chosen: Window::default(),
            bound: Slot::default(),
            handed_over: BTreeMap::new(),
            membership: Membership::formed(formed),
            configurations: BTreeMap::new(),
        }
    }

    /// Whose majority chooses in a slot. Of an instance of the library, and of a slot so far ahead that
    /// nobody may propose for it, whoever rules last.
    fn voters(&self, slot: Slot) -> Configuration {
        let membership = &self.membership;
        let position = match slot < membership.known() {
            true => membership.at(Index(slot.0.saturating_sub(1))),
            false => membership.newest(),
        };
        let last = Slot(foreseen(&position).0 - 1);
        ruler(&position, slot.min(last)).0
    }

    /// Something is chosen: takes account of it in who rules.
    fn advance(&mut self, members: &mut Members) -> Checked {
        let membership = &mut self.membership;
        while self.chosen.get(&membership.known()).is_some() {
            let value = self.configurations.remove(&membership.known()).flatten();
            let slot = membership.known();
            match membership.learn(&value) {
                Err(error) => return broken("configurations-can-be-read", error.to_string()),
                // One that does not rule yet shows as joint, until the slots before are chosen too.
                Ok(is_new) if is_new || members.newest().is_joint() => {
                    let newest = membership.newest().configuration;
                    members.on_chosen(&newest, (Place(slot.0), Term::default()))?;
                }
                Ok(_) => {}
            }
        }
        Ok(())
    }

    pub(super) fn on_restart(&mut self, node: NodeId) {
        self.seen.entry(node).or_default().recovers = true;
    }

    /// A machine starts, in whatever life it is.
    pub(super) fn on_start(&mut self, machine: NodeId) {
        let here = self.seen.keys().copied().filter(|node| node.home() == machine);
        for node in here.collect::<Vec<_>>() {
            self.on_restart(node);
        }
    }

    /// A machine has lost its disk.
    pub(super) fn on_wiped(&mut self, machine: NodeId) {
        self.seen.retain(|node, _| node.home() != machine);
        self.handed_over.retain(|node, _| node.home() != machine);
    }

    pub(super) fn on_other_disk(&mut self, node: NodeId) {
        self.said.remove(&node);
        self.seen.remove(&node);
    }

    /// Through which slot a server has forgotten its votes.
    pub(super) fn forgotten(&self, machine: NodeId) -> Index {
        let here = self.seen.iter().filter(|(node, _)| node.home() == machine);
        let first = here.map(|(_, seen)| seen.forgotten.0).max().unwrap_or_default();
        Index(first.saturating_sub(1))
    }

    pub(super) fn on_acceptor(&mut self, node: NodeId, core: &Acceptor) -> Checked {
        let seen = self.seen.entry(node).or_default();
        let (promised, forgotten) = (core.promised(), core.forgotten());
        if std::mem::take(&mut seen.recovers) {
            // Only what it said counts; what it knew may not have become durable.
            if let Some(said) = self.said.get(&node) {
                recovered(node, core, said)?;
            }
        } else {
            if promised < seen.promised {
                let text = format!("{node} had promised {}, now {promised}", seen.promised);
                return broken("promises-never-fall", text);
            }
            if forgotten < seen.forgotten {
                let text =
                    format!("{node} had forgotten below {}, now {forgotten}", seen.forgotten);
                return broken("forgotten-stays-forgotten", text);
            }
        }
        (seen.promised, seen.forgotten) = (promised, forgotten);
        Ok(())
    }

    pub(super) fn on_proposer(&mut self, node: NodeId, core: &Proposer) -> Checked {
        for (ballot, round, votes) in core.counted().take(ROUNDS_LOOKED_AT) {
            let answered = self.answered.get(&(ballot, round));
            let silent = |voter: &&NodeId| answered.is_none_or(|all| !all.contains(*voter));
            if self.answered.is_beyond(&(ballot, round)) {
                continue;
            }
            if let Some(voter) = votes.iter().find(silent) {
                let text = format!("{node} counts {voter} for round {round} of {ballot}");
                return broken("only-what-was-said-is-counted", text);
            }
        }
        Ok(())
    }

    pub(super) fn on_answer(&mut self, node: NodeId, answer: &Answer) -> Checked {
        if let Answer::Accepted { ballot, round } | Answer::Forgotten { ballot, round, .. } = answer
        {
            self.answered.or_default((*ballot, *round)).insert(node);
        }
        let (Answer::Promise { ballot, .. }
        | Answer::Accepted { ballot, .. }
        | Answer::Confirmed { ballot, .. }) = answer
        else {
            return Ok(());
        };
        let said = self.said.entry(node).or_default();
        if *ballot < said.promised {
            let text = format!("{node} says {answer}, and has promised {}", said.promised);
            return broken("promises-are-kept", text);
        }
        if matches!(answer, Answer::Promise { .. }) {
            self.promises.or_default(*ballot).insert(node);
        }
        if !matches!(answer, Answer::Confirmed { .. }) {
            // Confirmed says that nothing higher is promised, and promises nothing.
            said.promised = *ballot;
        }
        Ok(())
    }

    pub(super) fn on_vote(
        &mut self,
        node: NodeId,
        ballot: Ballot,
        entries: &[Entry],
        members: &mut Members,
    ) -> Checked {
        for (slot, voted) in entries {
            let value = id(voted);
            self.said.entry(node).or_default().votes.insert(*slot, ballot);
            if let Some(known) = self.proposed.get(&(*slot, ballot))
                && *known != value
            {
                let text = format!(
                    "{node} votes for {} at slot {slot} in {ballot}, proposed was {}",
                    s(value),
                    s(*known)
                );
                return broken("votes-are-for-proposals", text);
            }
            let is_new = self.voters.or_default((*slot, ballot)).insert(node);
            if !is_new || self.chosen.get(slot).is_some_and(|(known, _)| *known == value) {
                continue;
            }
            let configuration = self.voters(*slot);
            let voters = self.voters.get(&(*slot, ballot));
            if !has_majority(&configuration, |node| voters.is_some_and(|all| all.contains(&node))) {
                continue;
            }
            match self.chosen.get(slot) {
                Some((known, before)) if *known != value => {
                    let text = format!(
                        "{} is chosen for slot {slot} in {ballot}, {} was in {before}",
                        s(value),
                        s(*known)
                    );
                    return broken("one-value-per-slot", text);
                }
                Some(_) => {}
                None => self.chosen.insert(*slot, (value, ballot)),
            }
            if value.is_some_and(is_own) {
                self.configurations.insert(*slot, voted.clone());
            }
            self.bound = self.bound.max(slot.next());
            self.advance(members)?;
        }
        Ok(())
    }

    pub(super) fn on_proposal(&mut self, node: NodeId, message: &Message) -> Checked {
        let Message::Accept { ballot, entries, .. } = message else { return Ok(()) };
        if ballot.proposer.is_none_or(|proposer| proposer.node != node) {
            return broken("ballots-are-owned", format!("{node} proposes in {ballot}"));
        }
        for (slot, _) in entries.first().into_iter().chain(entries.last()) {
            let configuration = self.voters(*slot);
            let promises = self.promises.get(ballot);
            let promised = |node| promises.is_some_and(|all| all.contains(&node));
            if !has_majority(&configuration, promised) && !self.promises.is_beyond(ballot) {
                let count = promises.map_or(0, BTreeSet::len);
                let text = format!(
                    "{node} proposes for slot {slot} in {ballot}, which {count} have promised, and \
                     {configuration} rule"
                );
                return broken("a-majority-promises", text);
            }
        }
        for (slot, value) in entries {
            let value = id(value);
            match self.proposed.get(&(*slot, *ballot)) {
                Some(known) if *known != value => {
                    let text = format!(
                        "{node} proposes {} for slot {slot} in {ballot}, before it was {}",
                        s(value),
                        s(*known)
                    );
                    return broken("one-value-per-ballot", text);
                }
                _ => self.proposed.insert((*slot, *ballot), value),
            }
            if let Some((known, before)) = self.chosen.get(slot)
                && before < ballot
                && *known != value
            {
                let text = format!(
                    "{node} proposes {} for slot {slot} in {ballot}, while {} is chosen since \
                     {before}",
                    s(value),
                    s(*known)
                );
                return broken("no-proposal-against-the-chosen", text);
            }
        }
        Ok(())
    }

    pub(super) fn on_decided(&mut self, node: NodeId, entries: &[Entry]) -> Checked {
        for (slot, value) in entries {
            let known = self.chosen.get(slot).map(|(known, _)| *known);
            if known != Some(id(value)) && !self.chosen.is_beyond(slot) {
                let text = format!(
                    "{node} announces {} at slot {slot}, chosen is {}",
                    s(id(value)),
                    known.map_or_else(|| "nothing".into(), s)
                );
                return broken("only-the-chosen-is-announced", text);
            }
        }
        Ok(())
    }

    /// Whether a machine has what is chosen through a place. A voter of Paxos may vote for what comes before it
    /// has what has been: that lies with others until then. Raft has its newcomers catch up first.
    pub(super) fn reaches(&self, machine: NodeId, place: Place) -> bool {
        let is_paxos = self.bound > Slot::default();
        let here = self.handed_over.iter().filter(|(node, _)| node.home() == machine);
        let handed_over = here.map(|(_, slot)| slot.0).max().unwrap_or_default();
        !is_paxos || handed_over.max(self.forgotten(machine).0) >= place.0
    }

    pub(super) fn on_event(&mut self, node: NodeId, event: &Event) -> Checked {
        let Event::Chosen { entries, .. } = event else { return Ok(()) };
        if let Some(last) = entries.last() {
            self.handed_over.insert(node, Slot(last.index.0));
        }
        for entry in entries {
            let (slot, value) = (Slot(entry.index.0), entry.proposal.as_ref().map(|p| p.id));
            // What is the engine's own is not for the machine.
            let for_machine = |known: Id| known.filter(|id| !is_own(*id));
            let known = self.chosen.get(&slot).map(|(known, _)| for_machine(*known));
            if known.is_some_and(|known| known != value) {
                let known = s(known.flatten());
                let text =
                    format!("{node} hands over {} at slot {slot}, chosen is {known}", s(value));
                return broken("only-the-chosen-is-handed-over", text);
            }
            if known.is_none() && slot >= self.bound {
                let text = format!("{node} hands over slot {slot}, which no majority has accepted");
                return broken("only-the-chosen-is-handed-over", text);
            }
        }
        Ok(())
    }
}

/// An acceptor that recovers holds to what it has said.
fn recovered(node: NodeId, core: &Acceptor, said: &Said) -> Checked {
    let promised = core.promised();
    if promised < said.promised {
        let text = format!("{node} recovers with promise {promised}, it said {}", said.promised);
        return broken("what-was-said-is-remembered", text);
    }
    for (slot, ballot) in said.votes.0.range(core.forgotten()..) {
        let held = core.votes().get(slot).map(|vote| vote.ballot);
        if held.is_none_or(|held| held < *ballot) {
            let held = held.unwrap_or_default();
            let text =
                format!("{node} recovers with vote {held} for slot {slot}, it said {ballot}");
            return broken("what-was-said-is-remembered", text);
        }
    }
    Ok(())
}
