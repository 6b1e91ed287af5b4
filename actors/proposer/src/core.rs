//! The rules of the proposer: whom to ask, when to campaign, when to step down.

use std::{
    collections::{BTreeMap, BTreeSet},
    time::Duration,
};

use quorate_acceptor::{Answer, Ballot, Message as ToAcceptor, Round, Slot, Vote};
use quorate_learner::{Holes, Message as ToLearner, Notice};
use quorate_protocol::{
    Core, Member, Name, Never, NodeId, Out,
    log::{Event, Index, Proposal, ProposalId, Request},
    planted::{Bug, is_planted},
};

use crate::{
    campaign::Campaign,
    lead::Lead,
    messages::{Message, Wish},
};

/// Bytes of wishes in one Forward.
const FORWARD_BYTES_MAX: usize = 1024 * 1024;

/// What bounds a proposer.
#[derive(Clone, Copy, Debug)]
pub struct Limits {
    /// Accept messages under way at one time. What arrives meanwhile forms the next batch.
    pub rounds_in_flight_max: usize,
    /// Slots in one Accept message.
    pub entries_per_round_max: usize,
    /// Bytes of values in one Accept message, unless a single value is longer.
    pub bytes_per_round_max: usize,
    /// Rounds kept for members that have not accepted them; beyond, they ask for what they miss.
    pub rounds_kept_max: usize,
}

impl Default for Limits {
    fn default() -> Self {
        Limits {
            rounds_in_flight_max: 2,
            entries_per_round_max: 1024,
            bytes_per_round_max: 1024 * 1024,
            rounds_kept_max: 256,
        }
    }
}

/// How long a proposer waits.
#[derive(Clone, Copy, Debug)]
pub struct Timing {
    /// For the leader to get a wish chosen, before it is asked again, and then deposed.
    pub retry: Duration,
    /// For promises, before asking again.
    pub campaign: Duration,
    /// Longest such pause, and longest back-off after a lost campaign.
    pub backoff_max: Duration,
    /// Before what is chosen is announced by itself; it rides on the next Accept if there is one.
    pub linger: Duration,
    /// For an acknowledgement, before a message is repeated.
    pub resend: Duration,
    /// When the leader's link is known to be down: at most this long before campaigning.
    pub hurry: Duration,
}

/// What a proposer asks to be woken for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Timer {
    /// Wishes are still open.
    Retry,
    /// Promises are still missing.
    Campaign,
    /// Something chosen has not been announced.
    Linger,
    /// Something said has not been acknowledged.
    Resend,
}

/// What a proposer says, and to whom.
#[derive(Clone, Debug, PartialEq)]
pub enum Outbound {
    /// To the acceptors on these nodes.
    Acceptors(Vec<NodeId>, ToAcceptor),
    /// To the learner on that node.
    Learner(NodeId, ToLearner),
    /// To the proposer on that node.
    Proposer(NodeId, Message),
    /// To the rsm of this node.
    Log(Event),
}

/// What a proposer is, from its first to its last day.
#[derive(Clone, Debug)]
pub struct Config {
    /// Who it is.
    pub me: Member,
    /// The group's nodes.
    pub nodes: Vec<NodeId>,
    /// How slots are used.
    pub holes: Holes,
    /// Its bounds.
    pub limits: Limits,
    /// Its patience.
    pub timing: Timing,
}

impl Config {
    pub(crate) fn quorum(&self) -> usize {
        self.nodes.len() / 2 + usize::from(!is_planted(Bug::PaxosQuorumTooSmall))
    }
}

#[derive(Clone, Debug)]
pub(crate) enum Phase {
    /// Another one leads, or nobody does.
    Following,
    /// Phase 1 of our own ballot.
    Campaigning(Campaign),
    /// A majority has promised: phase 2 for every slot.
    Leading(Box<Lead>),
}

/// The proposer of one group on one node.
#[derive(Clone, Debug)]
pub struct Proposer {
    config: Config,
    phase: Phase,
    /// The highest ballot heard of. Its proposer is the one to ask.
    highest: Ballot,
    /// What our own acceptor had promised when we started: no ballot of a former life is above.
    promised_known: bool,
    decided_known: bool,
    /// What is wanted here and not known to be chosen.
    wishes: BTreeMap<ProposalId, Wish>,
    /// Those that have not been forwarded or queued.
    fresh: Vec<ProposalId>,
    barrier: Option<ProposalId>,
    /// Offers that have a place in our lead and are not known to be chosen.
    offers: BTreeSet<ProposalId>,
    /// Every slot below is known to our learner, or was before it started anew.
    below: Slot,
    /// Chosen, needed here, and known to no learner: to be proposed again from here on.
    missing: Option<Slot>,
    forgotten: Slot,
    /// The labs' library only: decided instances that are not forgotten.
    decided: BTreeSet<Slot>,
    down: BTreeSet<NodeId>,
    /// How often the leader has been asked without effect.
    attempts: u32,
    /// How many campaigns in a row were lost.
    lost: u32,
    retry_armed: bool,
    /// What was open when the retry timer was set: only that has waited long enough.
    watched: BTreeSet<ProposalId>,
    watched_barrier: Option<ProposalId>,
    leader_told: Option<Option<NodeId>>,
}

impl Proposer {
    /// A proposer that has yet to learn what was promised and decided, see [`Proposer::start`].
    pub fn new(config: Config) -> Self {
        Proposer {
            config,
            phase: Phase::Following,
            highest: Ballot::NONE,
            promised_known: false,
            decided_known: false,
            wishes: BTreeMap::new(),
            fresh: vec![],
            barrier: None,
            offers: BTreeSet::new(),
            below: Slot(0),
            missing: None,
            forgotten: Slot(0),
            decided: BTreeSet::new(),
            down: BTreeSet::new(),
            attempts: 0,
            lost: 0,
            retry_armed: false,
            watched: BTreeSet::new(),
            watched_barrier: None,
            leader_told: None,
        }
    }

    /// First words after a start.
    pub fn start(&mut self, out: &mut Out<Self>) {
        self.ask_own_node(out);
        out.send(Outbound::Log(Event::ProposeAgain));
        self.arm_retry(out);
    }

    fn ask_own_node(&mut self, out: &mut Out<Self>) {
        let me = self.config.me.node;
        if !self.promised_known {
            out.send(Outbound::Acceptors(vec![me], ToAcceptor::AskPromised));
        }
        if !self.decided_known {
            out.send(Outbound::Learner(me, ToLearner::AskDecided));
        }
    }

    fn ready(&self) -> bool {
        self.promised_known && self.decided_known
    }

    /// Whether this proposer leads.
    pub fn leads(&self) -> bool {
        matches!(self.phase, Phase::Leading(_))
    }

    /// The highest ballot heard of.
    pub fn highest(&self) -> Ballot {
        self.highest
    }

    /// Whose votes it has counted for its newest rounds, if it leads.
    pub fn counted(&self) -> impl Iterator<Item = (Ballot, Round, &BTreeSet<NodeId>)> {
        let lead = match &self.phase {
            Phase::Leading(lead) => Some(lead),
            Phase::Following | Phase::Campaigning(_) => None,
        };
        lead.into_iter().flat_map(|lead| lead.counted())
    }

    /// How many wishes are open here.
    pub fn open(&self) -> usize {
        self.wishes.len()
    }

    /// Who is to be asked: the proposer of the highest ballot, if that is somebody else.
    fn leader(&self) -> Option<NodeId> {
        self.highest.proposer.map(|p| p.node).filter(|node| *node != self.config.me.node)
    }

    fn wants_something(&self) -> bool {
        !self.wishes.is_empty() || self.barrier.is_some() || self.missing.is_some()
    }

    /// Remembers what is open now, to see later whether it still is.
    fn watch(&mut self) {
        self.retry_armed = true;
        self.watched = self.wishes.keys().copied().collect();
        self.watched_barrier = self.barrier;
    }

    fn arm_retry(&mut self, out: &mut Out<Self>) {
        self.watch();
        let after = self.config.timing.retry * (1 << self.lost.min(8));
        let after = after.min(self.config.timing.backoff_max);
        out.set_timer(Timer::Retry, after, after * 2);
    }

    fn tell_leader(&mut self, out: &mut Out<Self>) {
        let leader = match &self.phase {
            Phase::Leading(_) => Some(self.config.me.node),
            Phase::Following => self.leader(),
            Phase::Campaigning(_) => None,
        };
        if self.leader_told != Some(leader) {
            self.leader_told = Some(leader);
            out.send(Outbound::Log(Event::Role { leader }));
        }
    }

    fn wish(&mut self, wish: Wish, out: &mut Out<Self>) {
        let id = wish.proposal.id;
        if let Some(slot) = wish.slot
            && (slot < self.forgotten || self.decided.contains(&slot))
        {
            return;
        }
        if self.wishes.insert(id, wish).is_none() {
            self.fresh.push(id);
            out.want_drained();
        }
    }

    fn on_log(&mut self, request: Request, out: &mut Out<Self>) {
        match request {
            Request::Propose(proposal) => self.wish(Wish { slot: None, proposal }, out),
            Request::Offer(proposal) => self.on_offer(proposal, out),
            Request::ReadBarrier { id } => {
                self.barrier = Some(id);
                let me = self.config.me.node;
                if let Phase::Leading(lead) = &mut self.phase {
                    lead.ask(me, id);
                }
                out.want_drained();
            }
            Request::Reconfigure(_) => {}
            Request::Subscribe { .. } | Request::Forget { .. } => {
                out.alarm("the proposer was asked what the learner does".into());
            }
        }
    }

    /// Places it if we lead, at most once: it is never a wish, so nobody repeats it.
    fn on_offer(&mut self, proposal: Proposal, out: &mut Out<Self>) {
        let id = proposal.id;
        let place = match &mut self.phase {
            Phase::Leading(lead) => {
                let slot = lead.enqueue_last(proposal);
                self.offers.insert(id);
                Some((Index(slot.0), lead.ballot().round))
            }
            Phase::Following | Phase::Campaigning(_) => {
                // Ask who leads, as a read would: so one that is dead, or none, is noticed, and
                // the next offer finds somebody. The answer is nobody's barrier.
                self.barrier.get_or_insert(id);
                None
            }
        };
        out.send(Outbound::Log(Event::Offered { id, place }));
        out.want_drained();
    }

    /// We lead no longer: what was offered to this lead and is not chosen is on its own.
    fn drop_offers(&mut self, out: &mut Out<Self>) {
        let Phase::Leading(lead) = &self.phase else { return };
        for id in std::mem::take(&mut self.offers) {
            if !lead.has_chosen(id) {
                out.send(Outbound::Log(Event::Dropped { id }));
            }
        }
    }

    /// Takes what is fresh to whoever can get it chosen.
    fn pursue(&mut self, out: &mut Out<Self>) {
        if !self.ready() || !self.wants_something() {
            return;
        }
        match &mut self.phase {
            Phase::Leading(lead) => {
                for id in std::mem::take(&mut self.fresh) {
                    if let Some(wish) = self.wishes.get(&id) {
                        lead.enqueue(wish.clone(), None);
                    }
                }
            }
            Phase::Campaigning(_) => {}
            Phase::Following => match self.leader() {
                Some(leader) if !self.down.contains(&leader) => {
                    let fresh = std::mem::take(&mut self.fresh);
                    self.forward(leader, fresh, out);
                    if !self.retry_armed {
                        self.arm_retry(out);
                    }
                }
                _ => self.campaign(out),
            },
        }
    }

    fn forward(&mut self, leader: NodeId, ids: Vec<ProposalId>, out: &mut Out<Self>) {
        let mut barrier = self.barrier;
        let (mut wishes, mut bytes) = (vec![], 0);
        for wish in ids.iter().filter_map(|id| self.wishes.get(id)) {
            bytes += wish.proposal.command.len();
            if bytes > FORWARD_BYTES_MAX && !wishes.is_empty() {
                let wishes = std::mem::take(&mut wishes);
                let barrier = barrier.take();
                out.send(Outbound::Proposer(leader, Message::Forward { wishes, barrier }));
                bytes = wish.proposal.command.len();
            }
            wishes.push(wish.clone());
        }
        if !wishes.is_empty() || barrier.is_some() {
            out.send(Outbound::Proposer(leader, Message::Forward { wishes, barrier }));
        }
    }

    /// Phase 1: our own acceptor first. Once it has promised, durably, this ballot can never be
    /// ours again by mistake: a restart asks that acceptor what to surpass.
    fn campaign(&mut self, out: &mut Out<Self>) {
        let me = self.config.me;
        self.drop_offers(out);
        let is_ours = self.highest.proposer == Some(me);
        let step = u64::from(!(is_ours && is_planted(Bug::BallotReused)));
        let ballot = Ballot::new(self.highest.round + step, me);
        self.highest = ballot;
        let first = self.missing.map_or(self.below, |missing| missing.min(self.below));
        let campaign = Campaign::new(ballot, first);
        out.send(Outbound::Acceptors(vec![me.node], campaign.prepare()));
        self.phase = Phase::Campaigning(campaign);
        self.arm_campaign(0, out);
        self.tell_leader(out);
    }

    fn arm_campaign(&mut self, tries: u32, out: &mut Out<Self>) {
        let after = self.config.timing.campaign * (1 << tries.min(8));
        let after = after.min(self.config.timing.backoff_max);
        out.set_timer(Timer::Campaign, after, after * 2);
    }

    fn on_promise(
        &mut self,
        from: NodeId,
        ballot: Ballot,
        (first, below): (Slot, Option<Slot>),
        (votes, forgotten): (Vec<(Slot, Vote)>, Slot),
        out: &mut Out<Self>,
    ) {
        let me = self.config.me.node;
        let Phase::Campaigning(campaign) = &mut self.phase else { return };
        let is_due = ballot == campaign.ballot() || is_planted(Bug::FormerPromiseCounted);
        if !is_due || !self.config.nodes.contains(&from) {
            return;
        }
        // Also from a part that does not complete a promise: it is true whoever says it.
        campaign.on_forgotten(forgotten);
        if !campaign.on_promise(from, (first, below), votes) {
            return;
        }
        if from == me {
            let others = self.config.nodes.iter().copied().filter(|node| *node != me).collect();
            out.send(Outbound::Acceptors(others, campaign.prepare()));
        }
        // Our own promise is part of every majority of ours: see `campaign`.
        if campaign.promised_by(me) && campaign.promised() >= self.config.quorum() {
            self.lead(out);
        }
    }

    fn lead(&mut self, out: &mut Out<Self>) {
        let Phase::Campaigning(mut campaign) = std::mem::replace(&mut self.phase, Phase::Following)
        else {
            return;
        };
        let forwarded = campaign.take_forwarded();
        // What some acceptor has forgotten it could not show. It is chosen: to propose anything
        // there, even a no-op, would be a second value for the slot. In the labs' library nobody
        // needs it; of a log somebody may, and then needs a checkpoint.
        let forgotten = match is_planted(Bug::NoOpWhereForgotten) {
            true => Slot(0),
            false => campaign.forgotten(),
        };
        if self.config.holes == Holes::Left {
            self.forget(forgotten);
        }
        let known = if self.missing.is_some() { campaign.first() } else { self.below };
        let first = known.max(self.forgotten).max(forgotten).max(campaign.first());
        self.missing = self.missing.filter(|missing| *missing >= first);
        let mut lead = Lead::new(&self.config, campaign, first, &self.down);
        if self.config.holes == Holes::Filled && first > self.below {
            // Our own learner must hear of it, also when there is nothing to propose.
            let (ballot, progress) = (lead.ballot(), lead.progress());
            let me = self.config.me.node;
            out.send(Outbound::Learner(me, ToLearner::Inform { ballot, progress }));
        }
        self.lost = 0;
        self.attempts = 0;
        out.cancel_timer(Timer::Campaign);
        out.cancel_timer(Timer::Retry);
        self.retry_armed = false;
        self.fresh.clear();
        for wish in self.wishes.values() {
            lead.enqueue(wish.clone(), None);
        }
        if let Some(id) = self.barrier {
            lead.ask(self.config.me.node, id);
        }
        lead.pump(&self.config, out);
        self.phase = Phase::Leading(Box::new(lead));
        self.tell_leader(out);
        for (from, wishes, barrier) in forwarded {
            self.on_forward(from, wishes, barrier, out);
        }
    }

    /// A higher ballot is at work: ours is over. What is open is taken to its proposer.
    fn heard_of(&mut self, ballot: Ballot, out: &mut Out<Self>) {
        if ballot <= self.highest {
            return;
        }
        self.highest = ballot;
        self.step_down(out);
    }

    /// Follows whoever has the highest ballot heard of, or nobody if that is ours.
    fn step_down(&mut self, out: &mut Out<Self>) {
        if !matches!(self.phase, Phase::Following) {
            self.lost += 1;
            self.drop_offers(out);
            self.phase = Phase::Following;
            for timer in [Timer::Campaign, Timer::Linger, Timer::Resend] {
                out.cancel_timer(timer);
            }
        }
        self.attempts = 0;
        self.fresh = self.wishes.keys().copied().collect();
        if self.wants_something() {
            self.arm_retry(out);
            out.want_drained();
        }
        self.tell_leader(out);
    }

    fn on_answer(&mut self, from: NodeId, answer: Answer, out: &mut Out<Self>) {
        match answer {
            Answer::Promise { ballot, from: first, below, votes, forgotten } => {
                self.on_promise(from, ballot, (first, below), (votes, forgotten), out);
            }
            Answer::Accepted { ballot, round } => {
                if let Phase::Leading(lead) = &mut self.phase
                    && (ballot == lead.ballot() || is_planted(Bug::FormerVoteCounted))
                {
                    lead.on_accepted(&self.config, from, round, out);
                }
            }
            Answer::Forgotten { ballot, round, .. } => {
                if let Phase::Leading(lead) = &mut self.phase
                    && ballot == lead.ballot()
                    && !lead.on_forgotten(&self.config, from, round, out)
                {
                    // Chosen without us: a higher ballot has been at work. Ours has no business
                    // there any more, and our next one will be told what is forgotten.
                    self.step_down(out);
                }
            }
            Answer::Confirmed { ballot, id } => {
                if let Phase::Leading(lead) = &mut self.phase
                    && ballot == lead.ballot()
                {
                    lead.on_confirmed(&self.config, from, id, out);
                    self.settle_own_barrier(out);
                }
            }
            Answer::Nack { promised, .. } => self.heard_of(promised, out),
            Answer::Promised { promised } => {
                self.promised_known = true;
                self.heard_of(promised, out);
                out.want_drained();
            }
        }
    }

    /// Barriers of our own rsm that the lead has answered are not open any more.
    fn settle_own_barrier(&mut self, out: &mut Out<Self>) {
        let Phase::Leading(lead) = &mut self.phase else { return };
        for (id, from) in lead.take_own_answers() {
            self.answer_barrier(id, from, out);
        }
    }

    fn answer_barrier(&mut self, id: ProposalId, from: Slot, out: &mut Out<Self>) {
        if self.barrier.is_some_and(|open| open.life == id.life && open.seq <= id.seq) {
            self.barrier = None;
            self.attempts = 0;
        }
        out.send(Outbound::Log(Event::Barrier { id, from: Index(from.0) }));
    }

    fn on_notice(&mut self, from: NodeId, notice: Notice, out: &mut Out<Self>) {
        match notice {
            Notice::Known { ballot, progress } => {
                if let Phase::Leading(lead) = &mut self.phase
                    && ballot == lead.ballot()
                {
                    lead.on_known(from, progress);
                }
            }
            Notice::Decided { slots, below } => self.on_decided(slots, below, out),
            Notice::Missing { from } => self.on_missing(from, out),
            Notice::Recalled => {
                if let Phase::Leading(lead) = &self.phase {
                    // It had heard of each round once, from us, and has forgotten.
                    let (ballot, progress) = (lead.ballot(), lead.progress());
                    let me = self.config.me.node;
                    out.send(Outbound::Learner(me, ToLearner::Inform { ballot, progress }));
                }
            }
            Notice::Ballot(ballot) => self.heard_of(ballot, out),
            Notice::Forgotten { below } => {
                self.forget(below);
                let forgotten = self.forgotten;
                if let Phase::Leading(lead) = &mut self.phase {
                    lead.forget(forgotten);
                }
            }
        }
    }

    /// What is below is not needed here any more: nothing is to be wished for there.
    fn forget(&mut self, below: Slot) {
        self.forgotten = self.forgotten.max(below);
        let forgotten = self.forgotten;
        if self.config.holes == Holes::Filled {
            self.below = self.below.max(forgotten);
            self.missing = self.missing.filter(|missing| *missing >= forgotten);
        }
        self.decided = self.decided.split_off(&forgotten);
        self.wishes.retain(|_, wish| wish.slot.is_none_or(|slot| slot >= forgotten));
    }

    /// Phase 1 shows what was voted for in a slot that no learner knows; then it is chosen again, in
    /// our ballot, with the same value.
    fn on_missing(&mut self, from: Slot, out: &mut Out<Self>) {
        if !self.ready() || from < self.forgotten {
            return;
        }
        let under_way = match &self.phase {
            Phase::Following => false,
            Phase::Campaigning(campaign) => campaign.first() <= from,
            // What is chosen in our own ballot already will not be chosen once more in it.
            Phase::Leading(lead) => lead.first() <= from && lead.progress().below <= from,
        };
        if !under_way {
            self.missing = Some(from);
            self.campaign(out);
        }
    }

    fn on_decided(
        &mut self,
        slots: Vec<(Slot, Option<ProposalId>)>,
        below: Slot,
        out: &mut Out<Self>,
    ) {
        self.below = self.below.max(below);
        self.missing = self.missing.filter(|missing| *missing >= below);
        if !self.decided_known {
            self.decided_known = true;
            out.want_drained();
        }
        let open = self.wishes.len();
        for (slot, id) in &slots {
            if let Some(id) = id {
                self.offers.remove(id);
                self.wishes.remove(id);
            }
            if self.config.holes == Holes::Left {
                self.decided.insert(*slot);
            }
        }
        if self.config.holes == Holes::Left {
            let decided = &self.decided;
            self.wishes.retain(|_, wish| wish.slot.is_none_or(|slot| !decided.contains(&slot)));
        }
        if self.wishes.len() < open {
            self.attempts = 0;
            self.lost = 0;
        }
    }

    fn on_forward(
        &mut self,
        from: NodeId,
        wishes: Vec<Wish>,
        barrier: Option<ProposalId>,
        out: &mut Out<Self>,
    ) {
        let known: Vec<Slot> =
            wishes.iter().filter_map(|w| w.slot).filter(|s| self.decided.contains(s)).collect();
        if !known.is_empty() {
            let me = self.config.me.node;
            out.send(Outbound::Learner(me, ToLearner::Teach { node: from, slots: known }));
        }
        match &mut self.phase {
            Phase::Leading(lead) => {
                for wish in wishes {
                    let settled =
                        |slot: Slot| slot < self.forgotten || self.decided.contains(&slot);
                    if wish.slot.is_none_or(|slot| !settled(slot)) {
                        lead.enqueue(wish, Some(from));
                    }
                }
                if let Some(id) = barrier {
                    lead.ask(from, id);
                }
                lead.inform_again(out);
                out.want_drained();
            }
            Phase::Campaigning(campaign) => campaign.on_forward(from, wishes, barrier),
            // We do not campaign for the wishes of others: they can.
            Phase::Following => {
                let ballot = self.highest;
                out.send(Outbound::Proposer(from, Message::Redirect { ballot }));
            }
        }
    }

    fn on_redirect(&mut self, from: NodeId, ballot: Ballot, out: &mut Out<Self>) {
        let asked_it = self.leader() == Some(from);
        self.heard_of(ballot, out);
        if asked_it && self.leader() == Some(from) && matches!(self.phase, Phase::Following) {
            // It does not lead, and knows nobody better.
            self.hurry(out);
        }
    }

    fn on_barrier(
        &mut self,
        id: ProposalId,
        ballot: Ballot,
        progress: quorate_acceptor::Progress,
        from: Slot,
        out: &mut Out<Self>,
    ) {
        let me = self.config.me.node;
        out.send(Outbound::Learner(me, ToLearner::Inform { ballot, progress }));
        self.answer_barrier(id, from, out);
    }

    fn on_link_down(&mut self, node: NodeId, out: &mut Out<Self>) {
        self.down.insert(node);
        match &mut self.phase {
            Phase::Leading(lead) => lead.on_link(node, false),
            Phase::Campaigning(_) => {}
            Phase::Following => {
                if self.leader() == Some(node) {
                    self.hurry(out);
                }
            }
        }
    }

    /// Nobody leads, as far as we know: campaign soon, if there is a reason to.
    fn hurry(&mut self, out: &mut Out<Self>) {
        if self.wants_something() {
            self.watch();
            self.attempts = u32::MAX;
            out.set_timer(Timer::Retry, Duration::ZERO, self.config.timing.hurry);
        }
    }

    fn on_link_up(&mut self, node: NodeId, out: &mut Out<Self>) {
        self.down.remove(&node);
        match &mut self.phase {
            Phase::Leading(lead) => {
                lead.on_link(node, true);
                lead.resend_all_to(node, out);
                lead.arm_resend(&self.config, out);
            }
            Phase::Campaigning(campaign) => {
                if campaign.promised_by(self.config.me.node) && !campaign.promised_by(node) {
                    out.send(Outbound::Acceptors(vec![node], campaign.prepare()));
                }
            }
            Phase::Following => {}
        }
    }

    fn on_retry(&mut self, out: &mut Out<Self>) {
        self.retry_armed = false;
        if !self.ready() {
            self.ask_own_node(out);
            return self.arm_retry(out);
        }
        if !self.wants_something() || !matches!(self.phase, Phase::Following) {
            return;
        }
        let stuck = self.missing.is_some()
            || self.watched.iter().any(|id| self.wishes.contains_key(id))
            || (self.barrier.is_some() && self.barrier == self.watched_barrier);
        if !stuck {
            return self.arm_retry(out);
        }
        self.attempts = self.attempts.saturating_add(1);
        match self.leader() {
            Some(leader) if self.attempts <= 1 && !self.down.contains(&leader) => {
                self.fresh.clear();
                let open = self.wishes.keys().copied().collect();
                self.forward(leader, open, out);
                self.arm_retry(out);
            }
            _ => self.campaign(out),
        }
    }

    fn on_campaign(&mut self, out: &mut Out<Self>) {
        let Phase::Campaigning(campaign) = &mut self.phase else { return };
        let tries = campaign.again();
        let me = self.config.me.node;
        let missing: Vec<NodeId> = if campaign.promised_by(me) {
            let nodes = self.config.nodes.iter().copied();
            nodes.filter(|node| !campaign.promised_by(*node)).collect()
        } else {
            vec![me]
        };
        let prepare = campaign.prepare();
        if self.wants_something() {
            out.send(Outbound::Acceptors(missing, prepare));
            self.arm_campaign(tries, out);
        } else {
            self.phase = Phase::Following;
            self.tell_leader(out);
        }
    }
}

impl Core for Proposer {
    type Inbound = Message;
    type Outbound = Outbound;
    type Timer = Timer;
    type Record = Never;

    fn on_message(&mut self, from: Name, message: Message, out: &mut Out<Self>) {
        let from = from.node;
        match message {
            Message::Answer(answer) => self.on_answer(from, answer, out),
            Message::Notice(notice) => self.on_notice(from, notice, out),
            Message::Log(request) => self.on_log(request, out),
            Message::Start(wish) => self.wish(wish, out),
            Message::Forward { wishes, barrier } => self.on_forward(from, wishes, barrier, out),
            Message::Redirect { ballot } => self.on_redirect(from, ballot, out),
            Message::Barrier { id, ballot, progress, from } => {
                self.on_barrier(id, ballot, progress, from, out);
            }
            Message::LinkUp(node) => self.on_link_up(node, out),
            Message::LinkDown(node) => self.on_link_down(node, out),
        }
    }

    fn on_timer(&mut self, timer: Timer, out: &mut Out<Self>) {
        match timer {
            Timer::Retry => self.on_retry(out),
            Timer::Campaign => self.on_campaign(out),
            Timer::Linger => {
                if let Phase::Leading(lead) = &mut self.phase {
                    lead.announce(out);
                    lead.arm_resend(&self.config, out);
                }
            }
            Timer::Resend => {
                if let Phase::Leading(lead) = &mut self.phase {
                    lead.resend(&self.config, out);
                }
            }
        }
    }

    fn on_drained(&mut self, out: &mut Out<Self>) {
        self.pursue(out);
        if let Phase::Leading(lead) = &mut self.phase {
            lead.pump(&self.config, out);
        }
    }

    fn invariants(&self) {
        if let Phase::Leading(lead) = &self.phase {
            assert!(lead.ballot() == self.highest, "P3: leads below the highest ballot heard of");
            lead.invariants();
        } else {
            assert!(self.offers.is_empty(), "P6: an offer is kept by who does not lead");
        }
    }
}
