//! Phase 2: one ballot, any number of slots, a bounded number of Accept messages under way.

use std::{
    collections::{BTreeMap, BTreeSet, VecDeque},
    time::Duration,
};

use quorate_acceptor::{
    Ballot, Entry, Message as ToAcceptor, Progress, Round, Slot, Value, is_own,
};
use quorate_learner::{Holes, Message as ToLearner};
use quorate_protocol::{
    Configuration, NodeId, Out,
    log::{Proposal, ProposalId},
    planted::{Bug, is_planted},
};

use crate::{
    campaign::Campaign,
    core::{Config, Outbound, Proposer, Timer, is_majority},
    messages::{Message, Wish},
};

/// Chosen proposals remembered, so that one that is forwarded again is not proposed again.
const RECENT_MAX: usize = 8192;
/// Rounds repeated to one member at one time.
const RESEND_ROUNDS_MAX: usize = 16;
/// Questions about our ballot under way at one time; reads that come meanwhile share the next.
const CONFIRMS_MAX: usize = 2;

/// An Accept message that was sent.
#[derive(Clone, Debug)]
struct Sent {
    entries: Vec<Entry>,
    /// What the message said to be chosen.
    carried: Round,
    votes: BTreeSet<NodeId>,
    chosen: bool,
    /// Who has forwarded something in it and waits to hear of it.
    waiters: BTreeSet<NodeId>,
}

/// What is known of another member.
#[derive(Clone, Debug, Default)]
struct Peer {
    /// Through which round it was told that everything is chosen.
    told: Round,
    /// Through which round it is known to have heard so.
    known: Round,
    down: bool,
    /// Resend timers to let pass before it is spoken to again, and how many that was last time.
    pause: u32,
    last_pause: u32,
}

/// A question about our ballot, on behalf of reads.
#[derive(Clone, Debug)]
struct Confirm {
    asks: Vec<(NodeId, ProposalId)>,
    acks: BTreeSet<NodeId>,
    from: Slot,
}

/// A ballot that a majority of one configuration has promised, for the slots that it rules.
#[derive(Clone, Debug)]
pub(crate) struct Lead {
    pub(crate) ballot: Ballot,
    pub(crate) me: NodeId,
    pub(crate) holes: Holes,
    /// What is below was chosen in other ballots.
    pub(crate) first: Slot,
    /// Whose votes count.
    pub(crate) voters: BTreeSet<NodeId>,
    /// Of a log: every slot below is taken account of in who rules.
    pub(crate) known: Slot,
    /// First slot that others are known to rule.
    pub(crate) until: Option<Slot>,
    /// The newest configuration that is known.
    pub(crate) newest: Configuration,
    /// Slots from `known` on for which phase 1 or we have brought up a configuration.
    pub(crate) unjudged: BTreeSet<Slot>,
    /// How many configurations we have proposed.
    pub(crate) changes: u64,
    /// What phase 1 showed and is not lined up yet, from `lined_up` on and below `end`.
    pub(crate) shown: BTreeMap<Slot, Value>,
    pub(crate) lined_up: Slot,
    pub(crate) end: Slot,
    /// The highest slot that we have proposed something for.
    pub(crate) last_proposed: Slot,
    pub(crate) next_slot: Slot,
    pub(crate) last_round: Round,
    /// Rounds that are not chosen, or not accepted by everybody.
    rounds: BTreeMap<Round, Sent>,
    pub(crate) in_flight: usize,
    /// Every round through this one is chosen.
    pub(crate) through: Round,
    /// Every slot below is chosen. Stays 0 where slots are instances.
    pub(crate) below: Slot,
    /// First slot above what phase 1 brought up, and above every slot that was chosen since, also
    /// where one below is not: our learner may know that one from another ballot. Reads must wait
    /// for all below.
    pub(crate) recovered: Slot,
    pub(crate) queue: VecDeque<(Wish, Option<NodeId>)>,
    /// Proposals in the queue or under way.
    pub(crate) held: BTreeSet<ProposalId>,
    /// The labs' library only: instances that this ballot has a value for, in the queue, under way
    /// or chosen. They stay until they are forgotten: a second value for one would break P2, and an
    /// acceptor that missed the first would vote for it.
    pub(crate) held_slots: BTreeSet<Slot>,
    pub(crate) recent: BTreeSet<ProposalId>,
    pub(crate) recent_order: VecDeque<ProposalId>,
    /// Who asked again for something that is chosen already.
    pub(crate) inform_again: BTreeSet<NodeId>,
    peers: BTreeMap<NodeId, Peer>,
    pub(crate) asks: Vec<(NodeId, ProposalId)>,
    confirms: BTreeMap<u64, Confirm>,
    pub(crate) last_confirm: u64,
    pub(crate) own_answers: Vec<(ProposalId, Slot)>,
    pub(crate) resend_armed: bool,
    /// What had been said when the resend timer was set: only that is old enough to be repeated.
    pub(crate) old_round: Round,
    pub(crate) old_confirm: u64,
    pub(crate) old_through: Round,
    /// The last round that was sent.
    pub(crate) sent_through: Round,
}

impl Lead {
    /// Begins to lead. What phase 1 showed is proposed again first; `first` is the first slot that
    /// is not known to be chosen.
    pub(crate) fn new(
        config: &Config,
        campaign: Campaign,
        first: Slot,
        down: &BTreeSet<NodeId>,
    ) -> Self {
        let ballot = campaign.ballot();
        let (mut votes, configuration, position) = campaign.into_parts();
        let shown: BTreeMap<Slot, Value> =
            votes.split_off(&first).into_iter().map(|(slot, vote)| (slot, vote.value)).collect();
        let me = config.me.node;
        let end = shown.last_key_value().map_or(first, |(slot, _)| slot.next());
        let own = shown.iter().filter(|(_, value)| value.as_ref().is_some_and(|p| is_own(p.id)));
        let mut lead = Lead {
            ballot,
            me,
            holes: config.holes,
            first,
            voters: configuration.voters.clone(),
            known: Slot(0),
            until: None,
            unjudged: match config.holes {
                Holes::Filled => own.map(|(slot, _)| *slot).collect(),
                Holes::Left => BTreeSet::new(),
            },
            changes: 0,
            lined_up: first,
            end,
            last_proposed: Slot(0),
            next_slot: end,
            last_round: Round(0),
            rounds: BTreeMap::new(),
            in_flight: 0,
            through: Round(0),
            below: if config.holes == Holes::Filled { first } else { Slot(0) },
            recovered: end,
            queue: VecDeque::new(),
            held: shown.values().flatten().map(|proposal| proposal.id).collect(),
            held_slots: shown.keys().copied().collect(),
            shown,
            recent: BTreeSet::new(),
            recent_order: VecDeque::new(),
            inform_again: BTreeSet::new(),
            peers: BTreeMap::new(),
            asks: vec![],
            confirms: BTreeMap::new(),
            last_confirm: 0,
            own_answers: vec![],
            resend_armed: false,
            old_round: Round(0),
            old_confirm: 0,
            old_through: Round(0),
            sent_through: Round(0),
            newest: configuration,
        };
        lead.add_peers(lead.newest.members(), down);
        if let Some(position) = &position {
            // The campaign was for who rules after it.
            let _ = lead.on_members(position, down);
        }
        lead
    }

    pub(crate) fn add_peers(&mut self, members: BTreeSet<NodeId>, down: &BTreeSet<NodeId>) {
        for node in members.into_iter().filter(|node| *node != self.me) {
            let new = || Peer { down: down.contains(&node.home()), ..Peer::default() };
            self.peers.entry(node).or_insert_with(new);
        }
    }

    pub(crate) fn ballot(&self) -> Ballot {
        self.ballot
    }

    /// First slot that this ballot has something to say about.
    pub(crate) fn first(&self) -> Slot {
        self.first
    }

    /// Whose votes were counted, from the newest round on downwards, but for rounds of which all is
    /// forgotten: nobody needs to vote there.
    pub(crate) fn counted(&self) -> impl Iterator<Item = (Ballot, Round, &BTreeSet<NodeId>)> {
        let kept = self.rounds.iter().rev().filter(|(_, sent)| !sent.entries.is_empty());
        kept.map(|(round, sent)| (self.ballot, *round, &sent.votes))
    }

    /// What is chosen behind a round that is not.
    pub(crate) fn chosen_ahead(&self) -> impl Iterator<Item = Vec<Entry>> {
        let ahead = self.rounds.range(self.through.next()..).filter(|(_, sent)| sent.chosen);
        ahead.map(|(_, sent)| sent.entries.clone())
    }

    /// What is chosen.
    pub(crate) fn progress(&self) -> Progress {
        Progress { through: self.through, below: self.below }
    }

    fn members(&self) -> Vec<NodeId> {
        self.peers.keys().copied().chain([self.me]).collect()
    }

    /// Adds a wish, unless it is being looked after already. `from` waits to hear of it.
    pub(crate) fn enqueue(&mut self, wish: Wish, from: Option<NodeId>) {
        let from = from.filter(|node| *node != self.me);
        let id = wish.proposal.id;
        if self.recent.contains(&id) {
            self.inform_again.extend(from);
            return;
        }
        if let Some(slot) = wish.slot {
            if !self.held_slots.insert(slot) {
                let holds = |sent: &&mut Sent| sent.entries.iter().any(|(s, _)| *s == slot);
                match self.rounds.values_mut().find(holds) {
                    Some(sent) if !sent.chosen => sent.waiters.extend(from),
                    Some(_) => self.inform_again.extend(from),
                    // Still in the queue, or chosen and accepted by everybody.
                    None => {
                        if !self.queue.iter().any(|(wish, _)| wish.slot == Some(slot)) {
                            self.inform_again.extend(from);
                        }
                    }
                }
                return;
            }
        } else if self.held.contains(&id) {
            return;
        }
        self.held.insert(id);
        self.queue.push_back((wish, from));
    }

    /// Adds what is to be proposed once, and tells the slot that it will get: everything in the
    /// queue of a log takes the next one.
    pub(crate) fn enqueue_last(&mut self, proposal: Proposal) -> Slot {
        let slot = Slot(self.next_slot.0 + self.queue.len() as u64);
        self.held.insert(proposal.id);
        self.queue.push_back((Wish { slot: None, proposal }, None));
        slot
    }

    /// Whether a proposal is known to be chosen in this ballot.
    pub(crate) fn has_chosen(&self, id: ProposalId) -> bool {
        self.recent.contains(&id)
    }

    /// A read wants to know from where on it is linearizable.
    pub(crate) fn ask(&mut self, from: NodeId, id: ProposalId) {
        if !self.asks.contains(&(from, id)) {
            self.asks.push((from, id));
        }
    }

    pub(crate) fn take_own_answers(&mut self) -> Vec<(ProposalId, Slot)> {
        std::mem::take(&mut self.own_answers)
    }

    /// Gives a round its number, without sending it.
    pub(crate) fn line_up(&mut self, entries: Vec<Entry>, waiters: BTreeSet<NodeId>) -> Round {
        self.last_round = self.last_round.next();
        let highest = entries.iter().map(|(slot, _)| *slot).max().unwrap_or_default();
        self.last_proposed = self.last_proposed.max(highest);
        let votes = BTreeSet::new();
        let sent = Sent { entries, carried: Round(0), votes, chosen: false, waiters };
        self.rounds.insert(self.last_round, sent);
        self.in_flight += 1;
        self.last_round
    }

    /// Sends what the bounds allow: recovered rounds, wishes, questions about the ballot.
    pub(crate) fn pump(&mut self, config: &Config, out: &mut Out<Proposer>) {
        self.line_up_shown(config);
        let unsent: Vec<Round> = self.unsent().collect();
        for round in unsent {
            self.send_round(round, out);
        }
        while self.in_flight < config.limits.rounds_in_flight_max && !self.queue.is_empty() {
            let (entries, waiters) = self.next_batch(config);
            if entries.is_empty() {
                break;
            }
            let round = self.line_up(entries, waiters);
            self.send_round(round, out);
        }
        if self.lined_up >= self.end {
            self.fill_up(config, out);
        }
        let answers = self.knows_members() && self.confirms.len() < CONFIRMS_MAX;
        if !self.asks.is_empty() && answers {
            self.last_confirm += 1;
            let id = self.last_confirm;
            let asks = std::mem::take(&mut self.asks);
            let from = match is_planted(Bug::ReadBelowRecovered) {
                true => self.below,
                false => self.below.max(self.recovered),
            };
            self.confirms.insert(id, Confirm { asks, acks: BTreeSet::new(), from });
            let message = ToAcceptor::Confirm { ballot: self.ballot, id };
            out.send(Outbound::Acceptors(self.members(), message));
        }
        self.arm_resend(config, out);
    }

    /// Rounds that phase 1 lined up and that have not been sent.
    fn unsent(&self) -> impl Iterator<Item = Round> + '_ {
        let first = self.sent_through.next();
        self.rounds.range(first..).filter(|(_, sent)| !sent.chosen).map(|(round, _)| *round)
    }

    fn next_batch(&mut self, config: &Config) -> (Vec<Entry>, BTreeSet<NodeId>) {
        let (mut entries, mut waiters, mut bytes) = (vec![], BTreeSet::new(), 0);
        if self.lined_up < self.end {
            return (entries, waiters);
        }
        let limit = self.limit();
        while let Some((wish, _)) = self.queue.front() {
            if wish.slot.unwrap_or(self.next_slot) >= limit {
                break;
            }
            bytes += wish.proposal.command.len();
            let full = bytes > config.limits.bytes_per_round_max
                || entries.len() >= config.limits.entries_per_round_max;
            if full && !entries.is_empty() {
                break;
            }
            let Some((wish, from)) = self.queue.pop_front() else { break };
            let slot = wish.slot.unwrap_or(self.next_slot);
            self.next_slot = self.next_slot.max(slot.next());
            waiters.extend(from);
            entries.push((slot, Some(wish.proposal)));
        }
        (entries, waiters)
    }

    pub(crate) fn send_round(&mut self, round: Round, out: &mut Out<Proposer>) {
        let (progress, members) = (self.progress(), self.members());
        self.sent_through = self.sent_through.max(round);
        let Some(sent) = self.rounds.get_mut(&round) else { return };
        sent.carried = progress.through;
        let entries = sent.entries.clone();
        let message = ToAcceptor::Accept { ballot: self.ballot, round, entries, progress };
        out.send(Outbound::Acceptors(members, message));
        for peer in self.peers.values_mut() {
            peer.told = peer.told.max(progress.through);
        }
    }

    pub(crate) fn on_accepted(
        &mut self,
        config: &Config,
        from: NodeId,
        round: Round,
        out: &mut Out<Proposer>,
    ) {
        let Some(sent) = self.rounds.get_mut(&round) else { return };
        if from != self.me && !self.peers.contains_key(&from) {
            out.alarm(format!("{from} is no member, yet votes"));
            return;
        }
        let again = !sent.votes.insert(from);
        if let Some(peer) = self.peers.get_mut(&from) {
            peer.known = peer.known.max(sent.carried);
            (peer.pause, peer.last_pause) = (0, 0);
        }
        let extra = usize::from(again && is_planted(Bug::VoteCountedTwice));
        if !sent.chosen && is_majority(&self.voters, &sent.votes, extra) {
            sent.chosen = true;
            self.in_flight -= 1;
            let entries = sent.entries.clone();
            for (slot, value) in &entries {
                self.recovered = self.recovered.max(slot.next());
                if let Some(proposal) = value {
                    self.held.remove(&proposal.id);
                    self.recent.insert(proposal.id);
                    self.recent_order.push_back(proposal.id);
                }
            }
            while self.recent_order.len() > RECENT_MAX {
                if let Some(id) = self.recent_order.pop_front() {
                    self.recent.remove(&id);
                }
            }
            out.send(Outbound::Learner(self.me, ToLearner::Decided { entries }));
            self.advance(config, out);
        }
        self.drop_rounds(config);
    }

    /// An acceptor has forgotten a slot of a round, so that slot is chosen. False if we do not know
    /// the round to be: then it was chosen in another ballot.
    pub(crate) fn on_forgotten(
        &mut self,
        config: &Config,
        from: NodeId,
        round: Round,
        out: &mut Out<Proposer>,
    ) -> bool {
        // A round that is not kept any more is chosen.
        let chosen = self.rounds.get(&round).is_none_or(|sent| sent.chosen);
        if chosen || config.holes == Holes::Left {
            self.on_accepted(config, from, round, out);
            return true;
        }
        false
    }

    /// Moves up what is chosen without gaps; says so to who waits, on the next Accept if there is
    /// one, else by itself.
    fn advance(&mut self, config: &Config, out: &mut Out<Proposer>) {
        let mut waiters = BTreeSet::new();
        let passes = |sent: &&mut Sent| sent.chosen || is_planted(Bug::ProgressPastAGap);
        while let Some(sent) = self.rounds.get_mut(&self.through.next()).filter(passes) {
            self.through = self.through.next();
            waiters.append(&mut sent.waiters);
            if let (Holes::Filled, Some((slot, _))) = (self.holes, sent.entries.last()) {
                self.below = self.below.max(slot.next());
            }
        }
        self.pump(config, out);
        waiters.append(&mut self.inform_again);
        self.inform(waiters, out);
        if self.peers.values().any(|peer| peer.told < self.through) {
            let linger = config.timing.linger;
            out.set_timer(Timer::Linger, linger, linger);
        }
    }

    /// Tells those who wait and have not heard it otherwise.
    fn inform(&mut self, waiters: BTreeSet<NodeId>, out: &mut Out<Proposer>) {
        let (ballot, progress) = (self.ballot, self.progress());
        for node in waiters {
            // Who has no part in the group hears it no other way.
            let told = self.peers.get_mut(&node).map(|peer| &mut peer.told);
            if told.as_ref().is_none_or(|told| **told < progress.through) {
                if let Some(told) = told {
                    *told = progress.through;
                }
                out.send(Outbound::Learner(node, ToLearner::Inform { ballot, progress }));
            }
        }
    }

    /// Answers those who forwarded again what is chosen already: the first answer was lost.
    pub(crate) fn inform_again(&mut self, out: &mut Out<Proposer>) {
        let (ballot, progress) = (self.ballot, self.progress());
        for node in std::mem::take(&mut self.inform_again) {
            out.send(Outbound::Learner(node, ToLearner::Inform { ballot, progress }));
        }
    }

    /// Announces what is chosen to every member that has not been told.
    pub(crate) fn announce(&mut self, out: &mut Out<Proposer>) {
        let (ballot, progress) = (self.ballot, self.progress());
        for (node, peer) in &mut self.peers {
            if peer.told < progress.through && !peer.down {
                peer.told = progress.through;
                out.send(Outbound::Learner(*node, ToLearner::Announce { ballot, progress }));
            }
        }
    }

    /// Forgets rounds that everybody has, and the oldest beyond the bound.
    fn drop_rounds(&mut self, config: &Config) {
        let all = self.peers.len() + 1;
        while let Some((round, sent)) = self.rounds.first_key_value() {
            let too_many =
                self.holes == Holes::Filled && self.rounds.len() > config.limits.rounds_kept_max;
            if *round > self.through || !(sent.votes.len() == all || too_many) {
                break;
            }
            self.rounds.pop_first();
        }
    }

    pub(crate) fn forget(&mut self, below: Slot) {
        let members = self.members();
        for sent in self.rounds.values_mut().filter(|sent| sent.chosen) {
            sent.entries.retain(|(slot, _)| *slot >= below);
            if sent.entries.is_empty() {
                // Whoever still needs it will ask for it, and be told how to get it.
                sent.votes.extend(members.iter().copied());
            }
        }
        self.queue.retain(|(wish, _)| wish.slot.is_none_or(|slot| slot >= below));
        self.held_slots = self.held_slots.split_off(&below);
    }

    pub(crate) fn on_known(&mut self, from: NodeId, progress: Progress) {
        if let Some(peer) = self.peers.get_mut(&from) {
            peer.known = peer.known.max(progress.through);
            (peer.pause, peer.last_pause) = (0, 0);
        }
    }

    pub(crate) fn on_confirmed(
        &mut self,
        config: &Config,
        from: NodeId,
        id: u64,
        out: &mut Out<Proposer>,
    ) {
        let Some(confirm) = self.confirms.get_mut(&id) else { return };
        confirm.acks.insert(from);
        let is_confirmed = is_majority(&self.voters, &confirm.acks, 0);
        if !is_confirmed && !is_planted(Bug::ReadUnconfirmed) {
            return;
        }
        let Some(Confirm { asks, from, .. }) = self.confirms.remove(&id) else { return };
        let (ballot, progress) = (self.ballot, self.progress());
        for (node, id) in asks {
            if node == self.me {
                self.own_answers.push((id, from));
            } else {
                let message = Message::Barrier { id, ballot, progress, from };
                out.send(Outbound::Proposer(node, message));
            }
        }
        self.pump(config, out);
    }

    pub(crate) fn on_link(&mut self, node: NodeId, up: bool) {
        for (_, peer) in self.peers.iter_mut().filter(|(peer, _)| peer.home() == node.home()) {
            peer.down = !up;
            (peer.pause, peer.last_pause) = (0, 0);
        }
    }

    /// Whether a member has not acknowledged something of what was said up to these.
    fn owes(
        &self,
        (node, peer): (NodeId, &Peer),
        (round, confirm, through): (Round, u64, Round),
    ) -> bool {
        let mut rounds = self.rounds.range(..=round);
        let mut confirms = self.confirms.range(..=confirm);
        !peer.down
            && (peer.known < through
                || rounds.any(|(_, sent)| !sent.votes.contains(&node))
                || confirms.any(|(_, confirm)| !confirm.acks.contains(&node)))
    }

    /// Sets the resend timer if something said is not acknowledged and it is not set.
    pub(crate) fn arm_resend(&mut self, config: &Config, out: &mut Out<Proposer>) {
        let own = self.rounds.values().any(|sent| !sent.votes.contains(&self.me))
            || !self.confirms.is_empty();
        let all = (self.last_round, self.last_confirm, self.through);
        let owed = own || self.peers.iter().any(|(node, peer)| self.owes((*node, peer), all));
        if owed && !self.resend_armed {
            self.resend_armed = true;
            (self.old_round, self.old_confirm, self.old_through) = all;
            let after: Duration = config.timing.resend;
            out.set_timer(Timer::Resend, after, after * 2);
        }
    }

    /// The resend timer has run out: repeats what was said before it was set.
    pub(crate) fn resend(&mut self, config: &Config, out: &mut Out<Proposer>) {
        self.resend_armed = false;
        // Counted in timers, each of which takes up to twice `resend`: nobody who can be reached
        // again waits for longer than `backoff_max` and one timer.
        let pause_max = (config.timing.backoff_max.as_micros()
            / (2 * config.timing.resend.as_micros()).max(1))
        .max(1) as u32;
        let old = (self.old_round, self.old_confirm, self.old_through);
        let mut now = vec![self.me];
        let owing: Vec<NodeId> = self
            .peers
            .iter()
            .filter(|(node, peer)| self.owes((**node, peer), old))
            .map(|(node, _)| *node)
            .collect();
        for node in owing {
            let Some(peer) = self.peers.get_mut(&node) else { continue };
            if peer.pause > 0 {
                peer.pause -= 1;
                continue;
            }
            peer.last_pause = (peer.last_pause * 2 + 1).min(pause_max);
            peer.pause = peer.last_pause;
            now.push(node);
        }
        for node in now {
            self.resend_to(node, out);
        }
        self.arm_resend(config, out);
    }

    /// A link is back: whatever was sent meanwhile is lost.
    pub(crate) fn resend_all_to(&mut self, node: NodeId, out: &mut Out<Proposer>) {
        self.old_round = self.last_round;
        self.old_confirm = self.last_confirm;
        self.old_through = self.through;
        let home = |peer: &&NodeId| peer.home() == node.home();
        let members: Vec<NodeId> = self.peers.keys().filter(home).copied().collect();
        members.into_iter().for_each(|member| self.resend_to(member, out));
    }

    /// Repeats to one member what it has not acknowledged and what is old enough.
    pub(crate) fn resend_to(&mut self, node: NodeId, out: &mut Out<Proposer>) {
        let (ballot, progress) = (self.ballot, self.progress());
        let (old, old_confirm) = (self.old_round, self.old_confirm);
        let mut said = false;
        let rounds = self.rounds.range_mut(..=old).filter(|(_, s)| !s.votes.contains(&node));
        for (round, sent) in rounds.take(RESEND_ROUNDS_MAX) {
            let (round, entries) = (*round, sent.entries.clone());
            said = true;
            let message = ToAcceptor::Accept { ballot, round, entries, progress };
            out.send(Outbound::Acceptors(vec![node], message));
        }
        for (id, _) in self.confirms.range(..=old_confirm).filter(|(_, c)| !c.acks.contains(&node))
        {
            let message = ToAcceptor::Confirm { ballot, id: *id };
            out.send(Outbound::Acceptors(vec![node], message));
        }
        if let Some(peer) = self.peers.get_mut(&node) {
            if !said && peer.known < self.old_through {
                out.send(Outbound::Learner(node, ToLearner::Announce { ballot, progress }));
                said = true;
            }
            if said {
                peer.told = peer.told.max(progress.through);
            }
        }
    }

    pub(crate) fn invariants(&self) {
        let beyond = self.until.filter(|until| self.last_proposed >= *until);
        assert!(beyond.is_none(), "P7: proposed for slot {} which others rule", self.last_proposed);
        let in_flight = self.rounds.values().filter(|sent| !sent.chosen).count();
        assert_eq!(in_flight, self.in_flight, "P4: rounds under way");
        assert!(self.through <= self.last_round, "P5: chosen through a round that was never sent");
        for (round, sent) in self.rounds.range(..=self.through) {
            assert!(sent.chosen, "P5: round {round} is below `through` and not chosen");
        }
    }
}
