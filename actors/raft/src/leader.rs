//! The leader: replicates, commits by counting, answers reads (sections 5.3, 5.4 and 8), and
//! changes who rules (section 6).

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use quorate_protocol::{
    Change as Wanted, Configuration, Life, NodeId, Out,
    log::{Index, Proposal, ProposalId},
    planted::{Bug, is_planted},
};
use quorate_stage::Outlet;

use crate::{
    core::{Limits, Outbound, Peer, Shared, Timer, to},
    messages::{Entry, Match, Message, Payload, Place, Reconfigured, Term},
};

/// How entries come to a follower.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Mode {
    /// Where the logs part is being found out: one message with entries at a time.
    Probe {
        /// The heartbeat after which it was sent.
        sent: Option<u64>,
    },
    /// The logs are the same up to `match_index`: messages follow each other without waiting.
    Replicate,
    /// It needs what is not kept here any more, and fetches a snapshot.
    Snapshot {
        /// Whether it has been told.
        told: bool,
    },
}

/// What is known of a follower, or of a learner.
#[derive(Clone, Debug)]
struct Progress {
    /// Its log is durable, and the same as ours, through here (Figure 2).
    match_index: Place,
    /// The next entry to send to it (Figure 2).
    next_index: Place,
    mode: Mode,
    /// The last place of each message with entries that is under way, and the heartbeat after
    /// which it was sent.
    in_flight: VecDeque<(Place, u64)>,
    /// The highest round that it has answered.
    acked_round: u64,
    /// It has answered since the quorum was last looked at.
    is_active: bool,
    /// The highest commit that was told to it.
    commit_sent: Place,
    /// It waits for a commit: tell it at once.
    tell: bool,
}

impl Progress {
    fn new(last: Place) -> Self {
        Progress {
            match_index: Place(0),
            next_index: last.next(),
            mode: Mode::Probe { sent: None },
            in_flight: VecDeque::new(),
            acked_round: 0,
            is_active: false,
            commit_sent: Place(0),
            tell: false,
        }
    }

    /// Find out anew, from `next_index` on.
    fn probe(&mut self, next_index: Place) {
        self.next_index = next_index.max(self.match_index.next());
        self.mode = Mode::Probe { sent: None };
        self.in_flight.clear();
    }
}

/// Read barriers that one round of heartbeats answers (section 8).
#[derive(Clone, Debug)]
struct ReadRound {
    round: u64,
    from: Index,
    asked: BTreeMap<(NodeId, u64), u64>,
}

/// A change of members that is under way.
#[derive(Clone, Debug)]
struct Change {
    target: Target,
    /// `None`: whoever wants it looks at who the members are.
    reply: Option<Outlet<Reconfigured>>,
}

/// Who the members are to be.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Target {
    pub(crate) voters: BTreeSet<NodeId>,
    pub(crate) learners: BTreeSet<NodeId>,
    pub(crate) lives: BTreeMap<NodeId, Life>,
}

impl Change {
    fn tell(self, what: Reconfigured, out: &mut Out<Peer>) {
        if let Some(reply) = self.reply {
            out.send(Outbound::Reconfigured(reply, what));
        }
    }
}

/// What belongs to a leader alone.
#[derive(Clone, Debug)]
pub(crate) struct Leader {
    /// Everybody who gets the log, but ourselves.
    progress: BTreeMap<NodeId, Progress>,
    /// Our own log is durable through here.
    own_match: Place,
    /// The first entry of our term. Once it is committed, so is all that former leaders have
    /// committed, and we know it (section 8).
    first: Place,
    /// Number of the last round of messages.
    round: u64,
    /// Heartbeats so far.
    beats: u64,
    /// Commands in the log that are not committed.
    proposed: BTreeSet<ProposalId>,
    /// What was forwarded, until all that has come is handled.
    inbox: Vec<(NodeId, Proposal)>,
    /// Who has forwarded what stands at a place that is not committed.
    forwarders: VecDeque<(Place, NodeId)>,
    /// Barriers, by node and life of the rsm, that wait for a round.
    asked: BTreeMap<(NodeId, u64), u64>,
    reads: VecDeque<ReadRound>,
    linger_is_set: bool,
    transfer: Option<NodeId>,
    change: Option<Change>,
}

impl Leader {
    /// The leader of the present term, which begins with a no-op of its own.
    pub(crate) fn new(shared: &mut Shared, out: &mut Out<Peer>) -> Self {
        let mut leader = Leader {
            progress: BTreeMap::new(),
            own_match: Place(0),
            first: shared.log.last().next(),
            round: 0,
            beats: 0,
            proposed: BTreeSet::new(),
            inbox: vec![],
            forwarders: VecDeque::new(),
            asked: BTreeMap::new(),
            reads: VecDeque::new(),
            linger_is_set: false,
            transfer: None,
            change: None,
        };
        let uncommitted = shared.log.slice(shared.commit, shared.log.last());
        leader.proposed.extend(uncommitted.iter().filter_map(|entry| match &entry.payload {
            Payload::Command(proposal) => Some(proposal.id),
            _ => None,
        }));
        leader.retarget(shared);
        leader.append(shared, vec![Payload::NoOp], out);
        let Timings { heartbeat, quorum } = Timings::of(shared);
        out.set_timer(Timer::Heartbeat, heartbeat, heartbeat);
        out.set_timer(Timer::Quorum, quorum, quorum);
        leader
    }

    /// The lead is lost: who waits for something is told.
    pub(crate) fn resign(self, out: &mut Out<Peer>) {
        if let Some(change) = self.change {
            change.tell(Reconfigured::Unknown, out);
        }
    }

    /// Adds entries of our term. They count here when they are durable: then a message to
    /// ourselves comes, as one comes from a follower.
    fn append(&mut self, shared: &mut Shared, payloads: Vec<Payload>, out: &mut Out<Peer>) {
        let term = shared.term;
        for payload in &payloads {
            if let Payload::Command(proposal) = payload {
                self.proposed.insert(proposal.id);
            }
        }
        let entries = payloads.into_iter().map(|payload| Entry { term, payload }).collect();
        shared.append(entries, out);
        if is_planted(Bug::LeaderCountsItselfEarly) {
            self.own_match = shared.log.last();
        }
        let result = Match::Through(shared.log.last());
        out.send(to(shared.me(), Message::Appended { term, round: 0, result }));
        out.want_drained();
    }

    fn has_room(&self, shared: &Shared) -> bool {
        shared.log.last().0 - shared.commit.0 < shared.config.limits.uncommitted_max
    }

    /// Takes an offer up, once, and answers where it stands.
    pub(crate) fn on_offer(
        &mut self,
        shared: &mut Shared,
        proposal: Proposal,
        out: &mut Out<Peer>,
    ) -> Option<(Index, u64)> {
        let is_leaving = self.transfer.is_some() || !shared.configuration().votes(shared.me());
        if is_leaving || !self.has_room(shared) {
            return None;
        }
        shared.offers.insert(proposal.id);
        self.append(shared, vec![Payload::Command(proposal)], out);
        Some((shared.log.index_at(shared.log.last()), shared.term.0))
    }

    pub(crate) fn on_forward(
        &mut self,
        shared: &Shared,
        from: NodeId,
        wishes: Vec<Proposal>,
        barrier: Option<ProposalId>,
    ) {
        if self.inbox.len() as u64 <= shared.config.limits.uncommitted_max {
            self.inbox.extend(wishes.into_iter().map(|wish| (from, wish)));
        }
        if let Some(id) = barrier {
            self.ask(from, id);
        }
    }

    fn ask(&mut self, from: NodeId, id: ProposalId) {
        let seq = self.asked.entry((from, id.life)).or_default();
        *seq = id.seq.max(*seq);
    }

    /// Puts what was forwarded, and what is wanted here, into the log: all of it in one record.
    pub(crate) fn take_up(&mut self, shared: &mut Shared, out: &mut Out<Peer>) {
        if let Some(id) = shared.wishes.barrier.filter(|_| shared.wishes.barrier_is_fresh) {
            shared.wishes.barrier_is_fresh = false;
            self.ask(shared.me(), id);
        }
        if self.transfer.is_some() {
            // Left to the next leader: it is forwarded again, and ours is still fresh.
            self.inbox.clear();
            return;
        }
        let (me, mut place) = (shared.me(), shared.log.last());
        let room = shared.config.limits.uncommitted_max.saturating_sub(place.0 - shared.commit.0);
        let mut payloads = vec![];
        let own = std::mem::take(&mut shared.wishes.fresh);
        let own = own.into_iter().filter_map(|id| Some((me, shared.wishes.open.get(&id)?.clone())));
        let own: Vec<(NodeId, Proposal)> = own.collect();
        for (from, proposal) in std::mem::take(&mut self.inbox).into_iter().chain(own) {
            if payloads.len() as u64 >= room {
                // What is forwarded comes again; what is ours waits for room.
                if from == me {
                    shared.wishes.fresh.push(proposal.id);
                }
                continue;
            }
            if self.proposed.insert(proposal.id) {
                place = place.next();
                if from != me {
                    self.forwarders.push_back((place, from));
                }
                payloads.push(Payload::Command(proposal));
            }
        }
        if !payloads.is_empty() {
            self.append(shared, payloads, out);
        }
    }

    /// Who gets the log: the members of the newest configuration and, until that is committed, of
    /// the one before it.
    fn retarget(&mut self, shared: &Shared) {
        let (newest, place) = shared.log.configuration();
        let mut members = newest.members();
        if place > shared.commit {
            members.extend(shared.log.configuration_at(place.before()).0.members());
        }
        members.remove(&shared.me());
        self.progress.retain(|node, _| members.contains(node));
        for node in members {
            self.progress.entry(node).or_insert_with(|| Progress::new(shared.log.last()));
        }
    }

    /// A heartbeat is due. Entries that were not answered for too long are sent again.
    pub(crate) fn tick(&mut self, shared: &Shared, out: &mut Out<Peer>) {
        self.beats += 1;
        let resend_after = shared.config.timing.resend_after;
        for progress in self.progress.values_mut() {
            let waiting = progress.in_flight.front();
            if waiting.is_some_and(|(_, sent)| self.beats - sent > resend_after) {
                progress.probe(Place(0));
            }
        }
        self.retarget(shared);
        if let Some(node) = self.transfer {
            self.hurry(shared, node, out);
        }
        let Timings { heartbeat, .. } = Timings::of(shared);
        out.set_timer(Timer::Heartbeat, heartbeat, heartbeat);
    }

    /// Whoever has not been told of a commit is told now.
    pub(crate) fn tell_all(&mut self) {
        self.linger_is_set = false;
        for progress in self.progress.values_mut() {
            progress.tell = true;
        }
    }

    /// Sends what each follower lacks, as far as its window allows; with `beat`, something to
    /// everybody. At once: what is sent counts for nothing here before it is durable here.
    pub(crate) fn pump(&mut self, shared: &mut Shared, mut beat: bool, out: &mut Out<Peer>) {
        // Section 8: a read waits for our first entry, and then for a round sent after it has come.
        let rounds_max = shared.config.limits.read_rounds_max;
        let knows_all = shared.commit >= self.first || is_planted(Bug::RaftReadTooEarly);
        if !self.asked.is_empty() && knows_all && self.reads.len() < rounds_max {
            beat = true;
            let (asked, round) = (std::mem::take(&mut self.asked), self.round + 1);
            let from = shared.log.index_at(shared.commit).next();
            self.reads.push_back(ReadRound { round, from, asked });
        }
        self.round += 1;
        let mut batches: BTreeMap<(Place, Place), Vec<NodeId>> = BTreeMap::new();
        let mut behind = vec![];
        for (node, progress) in &mut self.progress {
            if shared.is_down(*node) {
                continue;
            }
            let (sends, tells) = progress.next_messages(shared, self.beats, beat);
            if tells {
                behind.push(*node);
            }
            for batch in sends {
                batches.entry(batch).or_default().push(*node);
            }
        }
        let (term, round) = (shared.term, self.round);
        for (ends, nodes) in batches {
            out.send_at_once(Outbound::Peers(nodes, append_entries(shared, ends, round)));
        }
        if !behind.is_empty() {
            let position = shared.log.base().clone();
            let message = Message::InstallSnapshot { term, position, round };
            out.send_at_once(Outbound::Peers(behind, message));
        }
        self.arm_linger(shared, out);
        self.confirm(shared, out);
    }

    /// A follower asks whether it could campaign: it hears nothing of us, and may hear answers all the
    /// same. So it gets what it lacks in one. The round is 0: no read rests on an answer to this.
    pub(crate) fn on_pre_vote(&self, shared: &Shared, node: NodeId, out: &mut Out<Peer>) {
        let Some(progress) = self.progress.get(&node) else { return };
        let prev = match progress.mode {
            Mode::Probe { .. } => progress.next_index.before(),
            // What is under way does not arrive.
            Mode::Replicate | Mode::Snapshot { .. } => progress.match_index,
        };
        let message = if prev < shared.log.base_place() {
            let (term, position) = (shared.term, shared.log.base().clone());
            Message::InstallSnapshot { term, position, round: 0 }
        } else {
            append_entries(shared, (prev, batch_end(shared, prev.next())), 0)
        };
        out.send_at_once(to(node, message));
    }

    fn arm_linger(&mut self, shared: &Shared, out: &mut Out<Peer>) {
        let waits = |(node, progress): (&NodeId, &Progress)| {
            progress.commit_sent < shared.commit && !shared.is_down(*node)
        };
        if !self.linger_is_set && self.progress.iter().any(waits) {
            self.linger_is_set = true;
            let linger = shared.config.timing.linger;
            out.set_timer(Timer::Linger, linger, linger);
        }
    }

    pub(crate) fn on_appended(
        &mut self,
        shared: &mut Shared,
        from: NodeId,
        round: u64,
        result: Match,
        out: &mut Out<Peer>,
    ) {
        if from == shared.me() {
            // Our own log is durable so far.
            if let Match::Through(place) = result {
                self.own_match = self.own_match.max(place);
                self.advance(shared, out);
            }
            return;
        }
        let Some(progress) = self.progress.get_mut(&from) else { return };
        if matches!(result, Match::Through(place) if place > shared.log.last()) {
            out.alarm(format!("{from} has more of our log than there is: {result}"));
            return;
        }
        progress.is_active = true;
        progress.acked_round = progress.acked_round.max(round);
        progress.on_result(shared, result);
        if self.transfer == Some(from) {
            self.hurry(shared, from, out);
        }
        self.advance(shared, out);
        self.confirm(shared, out);
        // The window may have room now, or a place to begin from is known.
        out.want_drained();
    }

    /// Through which place a node's log is known to be durable and the same as ours.
    pub(crate) fn match_of(&self, me: NodeId, node: NodeId) -> Option<Place> {
        if node == me {
            return Some(self.own_match);
        }
        self.progress.get(&node).map(|progress| progress.match_index)
    }

    /// Commits what a majority has, if it is of our own term (section 5.4.2).
    fn advance(&mut self, shared: &mut Shared, out: &mut Out<Peer>) {
        let me = shared.me();
        let match_of = |node: NodeId| self.match_of(me, node).unwrap_or_default();
        let places: BTreeSet<Place> =
            shared.configuration().members().into_iter().map(match_of).collect();
        let before = shared.commit;
        for place in places.into_iter().rev().take_while(|place| *place > before) {
            let is_ours = shared.log.term_at(place) == Some(shared.term);
            if !is_ours && !is_planted(Bug::FormerTermCommitted) {
                // Nor is anything before it: it is committed together with an entry of ours.
                break;
            }
            if shared.configuration().has_quorum(|node| match_of(node) >= place) {
                assert!(
                    place >= self.first,
                    "T6: {place} would be committed by counting, and our term begins at {}",
                    self.first
                );
                shared.commit_through(place, out);
                break;
            }
        }
        if shared.commit > before {
            self.committed(before, shared, out);
        }
        self.go_on_changing(shared, out);
    }

    fn committed(&mut self, before: Place, shared: &Shared, out: &mut Out<Peer>) {
        for entry in shared.log.slice(before, shared.commit) {
            if let Payload::Command(proposal) = entry.payload {
                self.proposed.remove(&proposal.id);
            }
        }
        while let Some((place, node)) = self.forwarders.front()
            && *place <= shared.commit
        {
            // It has a client that waits.
            if let Some(progress) = self.progress.get_mut(node) {
                progress.tell = true;
            }
            self.forwarders.pop_front();
        }
        let (_, place) = shared.log.configuration();
        if before < place && place <= shared.commit {
            // Who is no member any more hears of it before it hears no more.
            self.tell_all();
        }
        out.want_drained();
    }

    /// Answers the reads whose round a majority has answered: nobody else led when it was sent.
    fn confirm(&mut self, shared: &mut Shared, out: &mut Out<Peer>) {
        let me = shared.me();
        while let Some(read) = self.reads.front() {
            let agrees = |node: NodeId| {
                node == me || self.progress.get(&node).is_some_and(|p| p.acked_round >= read.round)
            };
            let confirmed = shared.configuration().has_quorum(agrees);
            if !confirmed && !is_planted(Bug::RaftReadUnconfirmed) {
                break;
            }
            let Some(ReadRound { from, asked, .. }) = self.reads.pop_front() else { break };
            for ((node, life), seq) in asked {
                let id = ProposalId { node, life, seq };
                if node == me {
                    shared.settle_barrier(id, from, out);
                    continue;
                }
                out.send_at_once(to(node, Message::Barrier { id, from }));
                if let Some(progress) = self.progress.get_mut(&node) {
                    // It cannot read before it has what is committed.
                    progress.tell = true;
                }
            }
            out.want_drained();
        }
    }

    /// Whether a majority has answered since this was asked before (thesis, 6.2).
    pub(crate) fn still_has_quorum(&mut self, shared: &Shared, out: &mut Out<Peer>) -> bool {
        let me = shared.me();
        let is_active = |node: NodeId| {
            node == me || self.progress.get(&node).is_some_and(|progress| progress.is_active)
        };
        let has_quorum = shared.configuration().has_quorum(is_active);
        for progress in self.progress.values_mut() {
            progress.is_active = false;
        }
        let Timings { quorum, .. } = Timings::of(shared);
        out.set_timer(Timer::Quorum, quorum, quorum);
        has_quorum
    }

    pub(crate) fn on_link_up(&mut self, node: NodeId) {
        for (member, progress) in &mut self.progress {
            if member.home() == node {
                // What was under way is lost with the former connection.
                let known = progress.match_index > Place(0);
                progress.probe(if known { Place(0) } else { progress.next_index });
            }
        }
    }

    pub(crate) fn on_transfer(&mut self, shared: &Shared, node: NodeId, out: &mut Out<Peer>) {
        if node == shared.me() || !shared.configuration().voters.contains(&node) {
            return;
        }
        self.transfer = Some(node);
        let Timings { quorum, .. } = Timings::of(shared);
        out.set_timer(Timer::Transfer, quorum, quorum);
        self.hurry(shared, node, out);
        out.want_drained();
    }

    /// It has not campaigned in time: the lead stays here.
    pub(crate) fn give_up_transfer(&mut self) {
        self.transfer = None;
    }

    /// Has `node` campaign if it has all that we have.
    fn hurry(&self, shared: &Shared, node: NodeId, out: &mut Out<Peer>) {
        let progress = self.progress.get(&node);
        if progress.is_some_and(|progress| progress.match_index == shared.log.last()) {
            out.send_at_once(to(node, Message::TimeoutNow { term: shared.term }));
        }
    }

    /// Whether a committed configuration has no vote for us: then our lead is over (section 6).
    pub(crate) fn is_removed(&self, shared: &Shared) -> bool {
        let (configuration, place) = shared.log.configuration();
        place <= shared.commit && !configuration.votes(shared.me())
    }

    /// Leaves the lead to the voter that has most of the log.
    pub(crate) fn hand_over_lead(&self, shared: &Shared, out: &mut Out<Peer>) {
        let voters = &shared.configuration().voters;
        let voters = self.progress.iter().filter(|(node, _)| voters.contains(node));
        if let Some((node, _)) = voters.max_by_key(|(_, progress)| progress.match_index) {
            out.send_at_once(to(*node, Message::TimeoutNow { term: shared.term }));
        }
    }

    pub(crate) fn on_reconfigure(
        &mut self,
        shared: &mut Shared,
        target: Target,
        reply: Option<Outlet<Reconfigured>>,
        out: &mut Out<Peer>,
    ) {
        let change = Change { target, reply };
        let Target { voters, learners, .. } = &change.target;
        let refusal = if voters.is_empty() {
            Some("a group needs a voter")
        } else if !voters.is_disjoint(learners) {
            Some("a node is a voter or a learner, not both")
        } else {
            None
        };
        if let Some(why) = refusal {
            return change.tell(Reconfigured::Refused(why.into()), out);
        }
        if shared.configuration().is_joint() {
            return change.tell(Reconfigured::Busy, out);
        }
        if let Some(former) = self.change.replace(change) {
            former.tell(Reconfigured::Superseded, out);
        }
        self.go_on_changing(shared, out);
    }

    /// Somebody wants the members changed, and may have said so before.
    pub(crate) fn on_change(&mut self, shared: &mut Shared, wanted: &Wanted, out: &mut Out<Peer>) {
        let Ok(next) = shared.configuration().after(wanted) else { return };
        let Configuration { voters, learners, lives, .. } = next;
        let target = Target { voters, learners, lives };
        if self.change.as_ref().is_none_or(|change| change.target != target) {
            self.on_reconfigure(shared, target, None, out);
        }
    }

    /// Takes the next step of a change, once the step before is committed: newcomers as learners,
    /// then both configurations together, then the new one (section 6).
    fn go_on_changing(&mut self, shared: &mut Shared, out: &mut Out<Peer>) {
        let (newest, place) = shared.log.configuration();
        if place > shared.commit || shared.commit < self.first {
            return;
        }
        let newest = newest.clone();
        let next = if newest.is_joint() {
            Some(Configuration { outgoing: BTreeSet::new(), ..newest })
        } else {
            let Some(change) = self.change.take() else { return };
            match self.next_configuration(shared, &newest, &change) {
                Ok(next) => {
                    self.change = Some(change);
                    next
                }
                Err(()) => return change.tell(Reconfigured::Done, out),
            }
        };
        if let Some(next) = next {
            self.append(shared, vec![Payload::Configuration(next)], out);
            self.retarget(shared);
        }
    }

    /// The configuration that comes after `newest` on the way of a change: `None` while its
    /// newcomers are too far behind, an error when there is none to come.
    fn next_configuration(
        &self,
        shared: &Shared,
        newest: &Configuration,
        change: &Change,
    ) -> Result<Option<Configuration>, ()> {
        let Target { voters, learners, lives } = &change.target;
        if newest.voters == *voters && newest.learners == *learners {
            return Err(());
        }
        let members = newest.members();
        if !voters.is_subset(&members) {
            let learners = newest.learners.iter().chain(voters.difference(&members));
            let (learners, lives) = (learners.copied().collect(), lives.clone());
            return Ok(Some(Configuration { learners, lives, ..newest.clone() }));
        }
        let lag_max = shared.config.limits.newcomer_lag_max;
        let lags = |node: &NodeId| {
            let progress = self.progress.get(node);
            let match_index = progress.map_or(Place(0), |progress| progress.match_index);
            match_index.0 + lag_max < shared.log.last().0 || match_index == Place(0)
        };
        if voters.difference(&newest.voters).any(lags) {
            return Ok(None);
        }
        let (voters, learners, lives) = (voters.clone(), learners.clone(), lives.clone());
        let same = voters == newest.voters;
        let outgoing = if same { BTreeSet::new() } else { newest.voters.clone() };
        Ok(Some(Configuration { voters, outgoing, learners, lives }))
    }

    pub(crate) fn invariants(&self, shared: &Shared) {
        for (node, progress) in &self.progress {
            assert!(
                progress.match_index < progress.next_index
                    && progress.next_index <= shared.log.last().next(),
                "T9: {node} has {}, gets {}, and the log ends at {}",
                progress.match_index,
                progress.next_index,
                shared.log.last()
            );
        }
        assert!(
            shared.log.last() >= self.first
                && shared.log.term_at(self.first.max(shared.log.base_place())).is_some(),
            "T4: a leader's log has become shorter"
        );
        assert!(
            shared.log.last_term() == shared.term,
            "T4: the last entry of a leader is of {}, not of {}",
            shared.log.last_term(),
            shared.term
        );
    }
}

/// Where a message ends that begins at `from`.
fn batch_end(shared: &Shared, from: Place) -> Place {
    let Limits { entries_per_message_max, bytes_per_message_max, .. } = shared.config.limits;
    shared.log.batch_end(from, entries_per_message_max, bytes_per_message_max)
}

/// The entries after `prev_log_index`, through `through`.
fn append_entries(
    shared: &Shared,
    (prev_log_index, through): (Place, Place),
    round: u64,
) -> Message {
    Message::AppendEntries {
        term: shared.term,
        prev_log_index,
        prev_log_term: shared.log.term_at(prev_log_index).unwrap_or_default(),
        entries: shared.log.slice(prev_log_index, through),
        leader_commit: shared.commit,
        round,
    }
}

struct Timings {
    heartbeat: std::time::Duration,
    quorum: std::time::Duration,
}

impl Timings {
    fn of(shared: &Shared) -> Self {
        let timing = &shared.config.timing;
        Timings { heartbeat: timing.heartbeat, quorum: timing.election.1 }
    }
}

impl Progress {
    /// Which messages it is to get now: the ends of each AppendEntries, and whether it is told to
    /// fetch a snapshot.
    fn next_messages(
        &mut self,
        shared: &Shared,
        beats: u64,
        beat: bool,
    ) -> (Vec<(Place, Place)>, bool) {
        let Limits { messages_in_flight_max, .. } = shared.config.limits;
        let (base, last) = (shared.log.base_place(), shared.log.last());
        if self.next_index <= base && !matches!(self.mode, Mode::Snapshot { .. }) {
            // Section 7: what comes next for it is not kept.
            self.in_flight.clear();
            self.mode = Mode::Snapshot { told: false };
        }
        let wants_commit = self.tell && self.commit_sent < shared.commit;
        self.tell = false;
        let mut batches = vec![];
        match &mut self.mode {
            Mode::Snapshot { told } => {
                let tells = beat || !*told;
                *told = true;
                return (batches, tells);
            }
            Mode::Probe { sent } => {
                let prev = self.next_index.before();
                let resend_after = shared.config.timing.resend_after;
                if sent.is_none_or(|sent| beats - sent >= resend_after) {
                    *sent = Some(beats);
                    batches.push((prev, batch_end(shared, self.next_index)));
                } else if beat || wants_commit {
                    batches.push((prev, prev));
                }
            }
            Mode::Replicate => {
                while self.in_flight.len() < messages_in_flight_max && self.next_index <= last {
                    let end = batch_end(shared, self.next_index);
                    batches.push((self.next_index.before(), end));
                    self.in_flight.push_back((end, beats));
                    self.next_index = end.next();
                }
                if batches.is_empty() && (beat || wants_commit) {
                    // What is under way may be overtaken: only what has arrived for certain is
                    // built upon.
                    let prev = match self.in_flight.is_empty() {
                        true => self.next_index.before(),
                        false => self.match_index.max(base),
                    };
                    batches.push((prev, prev));
                }
            }
        }
        if !batches.is_empty() {
            self.commit_sent = shared.commit;
        }
        (batches, false)
    }

    fn on_result(&mut self, shared: &Shared, result: Match) {
        match result {
            Match::Through(place) => {
                // Answers come late and in any order: what was known is never unlearnt.
                self.match_index = self.match_index.max(place);
                let match_index = self.match_index;
                self.in_flight.retain(|(through, _)| *through > match_index);
                self.next_index = self.next_index.max(match_index.next());
                if match_index.next() == self.next_index && match_index >= shared.log.base_place() {
                    self.mode = Mode::Replicate;
                }
            }
            Match::Conflict { prev_log_index, conflict_term, conflict_index } => {
                let asked = match self.mode {
                    Mode::Probe { .. } => prev_log_index == self.next_index.before(),
                    Mode::Replicate => prev_log_index < self.next_index,
                    Mode::Snapshot { .. } => false,
                };
                if !asked || prev_log_index <= self.match_index {
                    return;
                }
                // Section 5.3, at its end: behind our last entry of the conflicting term, if we
                // have one, otherwise where that term begins in the follower's log.
                let ours = conflict_term.and_then(|term: Term| shared.log.last_of_term(term));
                let next = ours.map_or(conflict_index, Place::next).min(prev_log_index);
                self.probe(next.max(Place(1)));
            }
            Match::Fetching => {}
        }
    }
}
