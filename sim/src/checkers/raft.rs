//! The rules of Raft (Ongaro & Ousterhout, *In Search of an Understandable Consensus Algorithm*,
//! 2014, figure 3).

use std::collections::BTreeMap;

use quorate_protocol::{
    NodeId,
    log::{Event, Index, ProposalId},
};
use quorate_raft::{Appeal, Entry, Match, Message, Payload, Peer, Place, Term};

use super::{
    Checked, Window, broken,
    members::{Members, has_majority},
    s,
};

type Id = Option<ProposalId>;

fn id(entry: &Entry) -> Id {
    match &entry.payload {
        Payload::Command(proposal) => Some(proposal.id),
        Payload::NoOp | Payload::Configuration(_) => None,
    }
}

/// What a peer has said, which it must remember.
#[derive(Default)]
struct Said {
    term: Term,
    votes: Window<Term, NodeId>,
    /// Through which place it holds the log of the leader of a term.
    holds: Window<Term, Place>,
}

/// What a peer knew after its last step.
#[derive(Default)]
struct Seen {
    term: Term,
    commit: Place,
    last: (Place, Term),
    leads: Option<Term>,
    base: Index,
    recovers: bool,
}

struct Committed {
    term: Term,
    id: Id,
    /// The term of the leader that committed it.
    by: Term,
}

#[derive(Default)]
pub(super) struct Checker {
    said: BTreeMap<NodeId, Said>,
    seen: BTreeMap<NodeId, Seen>,
    leaders: Window<Term, NodeId>,
    /// The highest round that each leader has begun.
    rounds: Window<(Term, NodeId), u64>,
    /// Each entry ever seen, with the term of the one before it.
    entries: Window<(Place, Term), (Id, Option<Term>)>,
    committed: Window<Place, Committed>,
    /// The highest place that is committed.
    through: Place,
}

impl Checker {
    pub(super) fn on_restart(&mut self, node: NodeId) {
        let seen = self.seen.entry(node).or_default();
        *seen = Seen { recovers: true, ..Seen::default() };
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
    }

    pub(super) fn on_other_disk(&mut self, node: NodeId) {
        self.said.remove(&node);
        self.seen.remove(&node);
    }

    /// Through which index a server has forgotten its log.
    pub(super) fn forgotten(&self, machine: NodeId) -> Index {
        let here = self.seen.iter().filter(|(node, _)| node.home() == machine);
        here.map(|(_, seen)| seen.base).max().unwrap_or_default()
    }

    pub(super) fn on_peer(&mut self, node: NodeId, peer: &Peer, members: &mut Members) -> Checked {
        let seen = self.seen.entry(node).or_default();
        if std::mem::take(&mut seen.recovers)
            && let Some(said) = self.said.get(&node)
        {
            recovered(node, peer, said, &self.committed)?;
        }
        let (term, commit, log) = (peer.term(), peer.commit(), peer.log());
        if term < seen.term {
            let text = format!("{node} was in {}, now in {term}", seen.term);
            return broken("terms-never-fall", text);
        }
        if commit < seen.commit {
            let text = format!("{node} had committed through {}, now {commit}", seen.commit);
            return broken("commit-never-falls", text);
        }
        let former = std::mem::replace(&mut seen.commit, commit);
        (seen.term, seen.base) = (term, log.base().index);
        let last = (log.last(), log.last_term());
        if last != seen.last {
            seen.last = last;
            matching(node, peer, &mut self.entries)?;
        }
        if peer.leads() && seen.leads != Some(term) {
            seen.leads = Some(term);
            self.on_leader(node, peer, members)?;
        }
        for (member, said) in self.said.iter().filter(|_| peer.leads()) {
            let said = said.holds.get(&term).copied().unwrap_or_default();
            if let Some(counted) = peer.match_index(*member).filter(|counted| *counted > said) {
                let text = format!(
                    "{node}, leader of {term}, counts {member} through {counted}, it said {said}"
                );
                return broken("only-what-was-said-is-counted", text);
            }
        }
        if commit > self.through {
            self.on_committed(node, peer, members)?;
        }
        if commit > former {
            let first = former.next().max(log.base_place().next());
            for place in (first.0..=commit.0).map(Place) {
                let (Some(entry), Some(known)) = (log.get(place), self.committed.get(&place))
                else {
                    continue;
                };
                if (entry.term, id(entry)) != (known.term, known.id) {
                    let text = format!(
                        "{node} has {} of {} committed at {place}, where {} of {} is",
                        s(id(entry)),
                        entry.term,
                        s(known.id),
                        known.term
                    );
                    return broken("one-entry-per-place", text);
                }
            }
        }
        Ok(())
    }

    /// Election Safety and Leader Completeness.
    fn on_leader(&mut self, node: NodeId, peer: &Peer, members: &Members) -> Checked {
        let (term, log) = (peer.term(), peer.log());
        match self.leaders.get(&term) {
            Some(other) if *other != node => {
                let text = format!("{node} and {other} both lead {term}");
                return broken("one-leader-per-term", text);
            }
            _ => self.leaders.insert(term, node),
        }
        let voted = |voter: NodeId| {
            // What a founder has said that was given another disk is not known.
            let said = self.said.get(&voter);
            said.map_or(voter.life() == 0, |said| said.votes.get(&term) == Some(&node))
                && members.counts_in(voter, term)
        };
        if !has_majority(log.configuration().0, voted) {
            let text = format!("{node} leads {term} without the votes of a majority");
            return broken("a-majority-elects", text);
        }
        for (place, known) in self.committed.0.range(log.base_place().next()..) {
            if known.by < term && log.term_at(*place) != Some(known.term) {
                let text = format!(
                    "{node} leads {term} without place {place}, which was committed in {}",
                    known.by
                );
                return broken("leaders-hold-all-that-is-committed", text);
            }
        }
        Ok(())
    }

    /// Somebody says, as the first of all, that its log is committed so far.
    fn on_committed(&mut self, node: NodeId, peer: &Peer, members: &mut Members) -> Checked {
        let (term, commit, log) = (peer.term(), peer.commit(), peer.log());
        let holds = |voter: NodeId| {
            let said = self.said.get(&voter);
            said.and_then(|said| said.holds.get(&term)).is_some_and(|place| *place >= commit)
                && members.counts_at(voter, commit)
        };
        if !peer.leads() || !has_majority(log.configuration().0, holds) {
            let text = format!("{node} commits place {commit} in {term}: no majority holds it");
            return broken("a-majority-holds-what-is-committed", text);
        }
        if log.term_at(commit) != Some(term) {
            let of = log.term_at(commit).unwrap_or_default();
            let text =
                format!("{node}, leader of {term}, commits place {commit} of {of} by counting");
            return broken("only-entries-of-ones-own-term-are-counted", text);
        }
        let first = self.through.next().max(log.base_place().next());
        for place in (first.0..=commit.0).map(Place) {
            if let Some(entry) = log.get(place) {
                let committed = Committed { term: entry.term, id: id(entry), by: term };
                self.committed.insert(place, committed);
                if let Payload::Configuration(next) = &entry.payload {
                    members.on_chosen(next, (place, term))?;
                }
            }
        }
        self.through = commit;
        Ok(())
    }

    pub(super) fn on_message(&mut self, node: NodeId, to: &[NodeId], message: &Message) -> Checked {
        let (term, vote) = match message {
            Message::Vote { term, pre_vote: false, granted } => {
                (*term, to.first().filter(|_| *granted).copied())
            }
            Message::RequestVote { term, pre_vote: false, .. } => (*term, Some(node)),
            Message::Appended { term, result, round } => {
                let leader = to.first().copied().unwrap_or(node);
                self.on_answer(node, leader, (*term, *round), *result)?;
                (*term, None)
            }
            Message::Appeal(Appeal { term, result, round, .. }) => {
                let leader = to.first().copied().unwrap_or(node);
                self.on_answer(node, leader, (*term, *round), *result)?;
                (*term, None)
            }
            // Who passes on what another has said says nothing itself: if it is not what the other
            // has said, whoever counts it is found.
            Message::PassOn { of, appeal } if *of == node => {
                let Appeal { term, result, round, .. } = appeal;
                let leader = self.leaders.get(term).copied().unwrap_or(node);
                self.on_answer(node, leader, (*term, *round), *result)?;
                (*term, None)
            }
            Message::AppendEntries { term, round, .. }
            | Message::InstallSnapshot { term, round, .. } => {
                let begun = self.rounds.or_default((*term, node));
                *begun = (*begun).max(*round);
                (*term, None)
            }
            _ => return Ok(()),
        };
        let said = self.said.entry(node).or_default();
        if let Some(vote) = vote {
            match said.votes.get(&term) {
                Some(former) if *former != vote => {
                    let text = format!("{node} votes for {vote} in {term}, and did for {former}");
                    return broken("one-vote-per-term", text);
                }
                _ => said.votes.insert(term, vote),
            }
        }
        said.term = said.term.max(term);
        Ok(())
    }

    /// A follower says to its leader what it holds.
    fn on_answer(
        &mut self,
        node: NodeId,
        leader: NodeId,
        (term, round): (Term, u64),
        result: Match,
    ) -> Checked {
        let begun = self.rounds.get(&(term, leader)).copied().unwrap_or_default();
        if round > begun && !self.rounds.is_beyond(&(term, leader)) {
            let text = format!(
                "{node} answers round {round} to {leader}, which has begun {begun} in {term}"
            );
            return broken("answers-are-to-questions", text);
        }
        if let Match::Through(place) = result {
            let holds = self.said.entry(node).or_default().holds.or_default(term);
            *holds = (*holds).max(place);
        }
        Ok(())
    }

    pub(super) fn on_event(&mut self, node: NodeId, event: &Event) -> Checked {
        let Event::Chosen { position, .. } = event else { return Ok(()) };
        if Place(position.place) > self.through {
            let text = format!("{node} hands over through place {}", position.place);
            return broken("only-the-committed-is-handed-over", text);
        }
        Ok(())
    }
}

/// Log Matching: downwards from the last entry, until one that was there before.
fn matching(
    node: NodeId,
    peer: &Peer,
    entries: &mut Window<(Place, Term), (Id, Option<Term>)>,
) -> Checked {
    let log = peer.log();
    let mut place = log.last();
    while let Some(entry) = log.get(place) {
        let new = (id(entry), log.term_at(place.before()));
        match entries.get(&(place, entry.term)) {
            Some(known) if known.0 != new.0 || (known.1 != new.1 && place > Place(1)) => {
                let text = format!("{node} has another entry of {} at {place}", entry.term);
                return broken("logs-match", text);
            }
            Some(_) => break,
            None if entries.is_beyond(&(place, entry.term)) => break,
            None => entries.insert((place, entry.term), new),
        }
        place = place.before();
    }
    Ok(())
}

/// A peer that recovers holds to what it has said.
fn recovered(
    node: NodeId,
    peer: &Peer,
    said: &Said,
    committed: &Window<Place, Committed>,
) -> Checked {
    let (term, log) = (peer.term(), peer.log());
    let rule = "what-was-said-is-remembered";
    if term < said.term {
        return broken(rule, format!("{node} recovers in {term}, it spoke in {}", said.term));
    }
    if let Some(vote) = said.votes.get(&term)
        && peer.voted_for() != Some(*vote)
    {
        return broken(rule, format!("{node} recovers without its vote for {vote} in {term}"));
    }
    if let Some(place) = said.holds.get(&term)
        && log.last() < *place
    {
        let last = log.last();
        return broken(
            rule,
            format!("{node} recovers with {last} places of {term}, it said {place}"),
        );
    }
    for (place, known) in committed.0.range(log.base_place().next()..) {
        let said_so = said.holds.get(&known.by).is_some_and(|through| through >= place);
        if said_so && log.term_at(*place) != Some(known.term) {
            let text = format!(
                "{node} recovers without place {place}, which is committed, and which it said in \
                 {} to hold",
                known.by
            );
            return broken(rule, text);
        }
    }
    Ok(())
}
