//! The follower: it answers, and takes over what the leader has (sections 5.2, 5.3 and 7).

use quorate_protocol::{
    NodeId, Out,
    log::{Event, Position},
    planted::{Bug, is_planted},
};

use crate::{
    core::{Outbound, Peer, Role, Shared, Timer, to},
    messages::{Entry, Match, Message, Place, Term},
};

/// What belongs to a follower alone.
#[derive(Clone, Debug, Default)]
pub(crate) struct Follower {
    /// Whom it follows, once that is known.
    pub(crate) leader: Option<NodeId>,
    /// Heard from the leader within the shortest election timeout.
    pub(crate) has_heard: bool,
    /// Through here the log is known to be the same as the leader's.
    matched: Place,
    /// The highest round heard of.
    round: u64,
}

impl Follower {
    pub(crate) fn of(leader: Option<NodeId>) -> Self {
        Follower { leader, ..Follower::default() }
    }

    /// A snapshot has taken the place of the log through `place`: the leader, which waits for it,
    /// is told once that is durable.
    pub(crate) fn installed(&mut self, shared: &mut Shared, place: Place, out: &mut Out<Peer>) {
        // What a snapshot covers is committed, so every leader has it (section 5.4).
        self.matched = place;
        if let Some(leader) = self.leader {
            shared.answer(leader, self.round, Match::Through(place), out);
        }
    }
}

impl Peer {
    /// A word of a leader has come. Answers whether it is the one to follow.
    pub(crate) fn on_leader(
        &mut self,
        from: NodeId,
        term: Term,
        round: u64,
        out: &mut Out<Self>,
    ) -> bool {
        if term < self.shared.term {
            // So that it hears of our term, and steps down. No round of this term is answered by
            // that: should it lead this term when it hears of it, it must not take the round of
            // its former lead for one of this.
            let (term, result) = (self.shared.term, Match::Through(Place(0)));
            let round = if is_planted(Bug::DeposedRoundAnswered) { round } else { 0 };
            out.send(to(from, Message::Appended { term, round, result }));
            return false;
        }
        if term == self.shared.term && self.leads() {
            out.alarm(format!("{from} leads in {term}, and so do we"));
            return false;
        }
        if term > self.shared.term || !matches!(self.role, Role::Follower(_)) {
            self.follow(term, Some(from), out);
        }
        let Role::Follower(follower) = &mut self.role else { return false };
        match follower.leader {
            Some(leader) if leader != from => {
                out.alarm(format!("{from} leads in {term}, and so does {leader}"));
                return false;
            }
            Some(_) => {}
            None => {
                follower.leader = Some(from);
                self.shared.refresh(out);
            }
        }
        follower.has_heard = true;
        follower.round = follower.round.max(round);
        let quiet = self.shared.config.timing.election.0;
        out.set_timer(Timer::Election, quiet, quiet);
        true
    }

    pub(crate) fn on_append_entries(
        &mut self,
        from: NodeId,
        prev: (Place, Term),
        entries: Vec<Entry>,
        (leader_commit, round): (Place, u64),
        out: &mut Out<Self>,
    ) {
        let Role::Follower(follower) = &mut self.role else { return };
        let Some(result) = self.shared.accept(from, prev, entries, out) else { return };
        let result = match result {
            Match::Through(place) => {
                follower.matched = follower.matched.max(place);
                // Not beyond: what stands there need not be what the leader has.
                let through = match is_planted(Bug::CommitsBeyondTheMatch) {
                    true => self.shared.log.last(),
                    false => follower.matched,
                };
                self.shared.commit_through(leader_commit.min(through), out);
                Match::Through(follower.matched)
            }
            other => other,
        };
        self.shared.answer(from, round, result, out);
    }

    pub(crate) fn on_install_snapshot(
        &mut self,
        from: NodeId,
        position: Position,
        round: u64,
        out: &mut Out<Self>,
    ) {
        let Role::Follower(follower) = &mut self.role else { return };
        let (shared, place) = (&mut self.shared, Place(position.place));
        let has = shared.log.term_at(place) == Some(Term(position.term));
        let result = if has || place <= shared.commit {
            // Section 7: what the snapshot would bring is here.
            follower.matched = follower.matched.max(place);
            shared.commit_through(place, out);
            Match::Through(follower.matched)
        } else {
            let index = position.index;
            out.send_at_once(Outbound::Log(Event::Behind { ask: from, index }));
            Match::Fetching
        };
        shared.answer(from, round, result, out);
    }

    pub(crate) fn on_timeout_now(&mut self, from: NodeId, term: Term, out: &mut Out<Self>) {
        let Role::Follower(follower) = &self.role else { return };
        if term == self.shared.term && follower.leader.is_none_or(|leader| leader == from) {
            self.campaign(true, out);
        }
    }

    pub(crate) fn on_election_timer(&mut self, out: &mut Out<Self>) {
        let (at_least, at_most) = self.shared.config.timing.election;
        match &mut self.role {
            Role::Leader(_) => {}
            Role::Follower(follower) if follower.has_heard => {
                // The shortest timeout is over: others may campaign from now on, and so may we
                // after the rest, by chance.
                follower.has_heard = false;
                out.set_timer(Timer::Election, std::time::Duration::ZERO, at_most - at_least);
            }
            Role::Follower(_) | Role::Candidate(_) => self.pre_campaign(out),
        }
    }
}

impl Shared {
    /// Makes the log the same as the leader's through the last of `entries` (section 5.3). Answers
    /// how far it is, or `None` if the message can come from no correct leader.
    fn accept(
        &mut self,
        from: NodeId,
        (prev_log_index, prev_log_term): (Place, Term),
        mut entries: Vec<Entry>,
        out: &mut Out<Peer>,
    ) -> Option<Match> {
        if prev_log_index > self.log.last() {
            let (conflict_term, conflict_index) = (None, self.log.last().next());
            return Some(Match::Conflict { prev_log_index, conflict_term, conflict_index });
        }
        let standing = self.log.term_at(prev_log_index);
        if let Some(term) = standing.filter(|term| *term != prev_log_term) {
            if prev_log_index <= self.commit {
                out.alarm(format!(
                    "{from} has {prev_log_term} at {prev_log_index}, where {term} is committed"
                ));
                return None;
            }
            let conflict_index = self.log.first_of_term(prev_log_index);
            let conflict_term = Some(term);
            return Some(Match::Conflict { prev_log_index, conflict_term, conflict_index });
        }
        let end = Place(prev_log_index.0 + entries.len() as u64);
        // What is covered by the base is committed, and so the same.
        let places = (prev_log_index.0 + 1..).map(Place);
        let same = places.zip(&entries).take_while(|(place, entry)| {
            let term = self.log.term_at(*place);
            let kept = term.is_some() && is_planted(Bug::ConflictKept);
            *place < self.log.base_place() || term == Some(entry.term) || kept
        });
        let new = entries.split_off(same.count());
        if new.is_empty() && end >= self.commit && is_planted(Bug::MatchedCutOff) {
            self.cut_off(end.next());
        }
        if let Some(first) = new.first() {
            let place = Place(end.0 - new.len() as u64).next();
            let before = self.log.term_at(place.before()).unwrap_or_default();
            let terms = std::iter::once(before).chain(new.iter().map(|entry| entry.term));
            if !terms.is_sorted() || new.last().is_some_and(|entry| entry.term > self.term) {
                out.alarm(format!("{from} sends entries whose terms fall, or are to come"));
                return None;
            }
            if place <= self.commit {
                let term = first.term;
                out.alarm(format!("{from} replaces {place}, which is committed, by one of {term}"));
                return None;
            }
            self.cut_off(place);
            self.append(new, out);
        }
        Some(Match::Through(end.max(self.log.base_place())))
    }
}
