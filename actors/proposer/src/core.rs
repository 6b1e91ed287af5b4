//! The rules of the proposer: whom to ask, when to campaign, when to step down.

use std::{
    collections::{BTreeMap, BTreeSet},
    time::Duration,
};

use quorate_acceptor::{Answer, Ballot, Message as ToAcceptor, Round, Slot, Vote, is_own};
use quorate_learner::{Holes, Message as ToLearner};
use quorate_protocol::{
    Change, Configuration, Core, Member, Name, Never, NodeId, Out,
    log::{Event, Index, Position, Proposal, ProposalId, Request},
    planted::{Bug, is_planted},
};

use crate::{
    campaign::Campaign,
    lead::Lead,
    messages::{Message, Wish},
    reign::Reign,
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
    /// The members when the group was formed. They rule the labs' library; of a log the learner says who
    /// does.
    pub formation: Configuration,
    /// How slots are used.
    pub holes: Holes,
    /// Its bounds.
    pub limits: Limits,
    /// Its patience.
    pub timing: Timing,
}

/// Whether those who agree are a majority of the voters; `extra` is for a planted error.
pub(crate) fn is_majority(
    voters: &BTreeSet<NodeId>,
    agree: &BTreeSet<NodeId>,
    extra: usize,
) -> bool {
    let needed = voters.len() / 2 + usize::from(!is_planted(Bug::PaxosQuorumTooSmall));
    voters.intersection(agree).count() + extra >= needed
}

#[derive(Clone, Debug)]
pub(crate) enum Phase {
    /// Another one leads, or nobody does.
    Following,
    /// Phase 1 of our own ballot.
    Campaigning(Box<Campaign>),
    /// A majority has promised: phase 2 for every slot.
    Leading(Box<Lead>),
}

/// The proposer of one group on one node.
#[derive(Clone, Debug)]
pub struct Proposer {
    pub(crate) config: Config,
    pub(crate) phase: Phase,
    /// The highest ballot heard of. Its proposer is the one to ask.
    pub(crate) highest: Ballot,
    /// What our own acceptor had promised when we started: no ballot of a former life is above.
    pub(crate) promised_known: bool,
    pub(crate) decided_known: bool,
    /// What is wanted here and not known to be chosen.
    pub(crate) wishes: BTreeMap<ProposalId, Wish>,
    /// Those that have not been forwarded or queued.
    pub(crate) fresh: Vec<ProposalId>,
    pub(crate) barrier: Option<ProposalId>,
    /// Offers that have a place in our lead and are not known to be chosen.
    pub(crate) offers: BTreeSet<ProposalId>,
    /// Every slot below is known to our learner, or was before it started anew.
    pub(crate) below: Slot,
    /// Chosen, needed here, and known to no learner: to be proposed again from here on.
    pub(crate) missing: Option<Slot>,
    /// Where the log stands before `missing`.
    pub(crate) missing_before: Option<Position>,
    pub(crate) forgotten: Slot,
    /// Of a log: where it stands as far as our learner knows the members now.
    pub(crate) heard: Option<Position>,
    /// The same, or what it knew before it started anew, if that is further.
    pub(crate) view: Option<Position>,
    /// What somebody here wants to become of the members, until it is in a lead's hands.
    pub(crate) change: Option<Change>,
    /// The stretch of a lead is over: somebody must begin the next one, so that everybody hears of it.
    pub(crate) hands_over: bool,
    /// How often we have asked a voter to campaign: the next one is asked next time.
    pub(crate) appeals: usize,
    /// The labs' library only: decided instances that are not forgotten.
    pub(crate) decided: BTreeSet<Slot>,
    /// Machines whose link is known to be down.
    pub(crate) down: BTreeSet<NodeId>,
    /// How often the leader has been asked without effect.
    pub(crate) attempts: u32,
    /// How many campaigns in a row were lost.
    pub(crate) lost: u32,
    pub(crate) retry_armed: bool,
    /// What was open when the retry timer was set: only that has waited long enough.
    pub(crate) watched: BTreeSet<ProposalId>,
    pub(crate) watched_barrier: Option<ProposalId>,
    pub(crate) leader_told: Option<Option<NodeId>>,
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
            missing_before: None,
            forgotten: Slot(0),
            heard: None,
            view: None,
            change: None,
            hands_over: false,
            appeals: 0,
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

    pub(crate) fn ask_own_node(&mut self, out: &mut Out<Self>) {
        let me = self.config.me.node;
        if !self.promised_known {
            out.send(Outbound::Acceptors(vec![me], ToAcceptor::AskPromised));
        }
        if !self.decided_known {
            out.send(Outbound::Learner(me, ToLearner::AskDecided));
        }
    }

    pub(crate) fn ready(&self) -> bool {
        let knows_members = self.view.is_some() || self.config.holes == Holes::Left;
        self.promised_known && self.decided_known && knows_members
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

    /// Who is to be asked: the proposer of the highest ballot, if that is somebody else and has part in the
    /// group, as far as is known.
    pub(crate) fn leader(&self) -> Option<NodeId> {
        let proposer = self.highest.proposer.map(|p| p.node)?;
        (proposer != self.config.me.node && !self.has_left(proposer)).then_some(proposer)
    }

    pub(crate) fn is_down(&self, node: NodeId) -> bool {
        self.down.contains(&node.home())
    }

    pub(crate) fn wants_something(&self) -> bool {
        !self.wishes.is_empty()
            || self.barrier.is_some()
            || self.missing.is_some()
            || self.change.is_some()
            || self.hands_over
    }

    /// Remembers what is open now, to see later whether it still is.
    pub(crate) fn watch(&mut self) {
        self.retry_armed = true;
        self.watched = self.wishes.keys().copied().collect();
        self.watched_barrier = self.barrier;
    }

    pub(crate) fn arm_retry(&mut self, out: &mut Out<Self>) {
        self.watch();
        let after = self.config.timing.retry * (1 << self.lost.min(8));
        let after = after.min(self.config.timing.backoff_max);
        out.set_timer(Timer::Retry, after, after * 2);
    }

    pub(crate) fn tell_leader(&mut self, out: &mut Out<Self>) {
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
        if self.config.holes == Holes::Filled && is_own(id) {
            return out.alarm(format!("{id} has the name of an entry of the engine"));
        }
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
            Request::Reconfigure(change) => self.on_change(change, out),
            Request::Subscribe { .. } | Request::Forget { .. } => {
                out.alarm("the proposer was asked what the learner does".into());
            }
        }
    }

    /// Places it if we lead, at most once: it is never a wish, so nobody repeats it.
    fn on_offer(&mut self, proposal: Proposal, out: &mut Out<Self>) {
        let id = proposal.id;
        let place = match &mut self.phase {
            Phase::Leading(lead) if lead.has_no_end() => {
                let slot = lead.enqueue_last(proposal);
                self.offers.insert(id);
                Some((Index(slot.0), lead.ballot().round))
            }
            // It ends, and what has no place in it has to wait for the next one.
            Phase::Leading(_) => None,
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
    pub(crate) fn drop_offers(&mut self, out: &mut Out<Self>) {
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
                Some(leader) if !self.is_down(leader) => {
                    let fresh = std::mem::take(&mut self.fresh);
                    self.forward(leader, fresh, None, out);
                    if !self.retry_armed {
                        self.arm_retry(out);
                    }
                }
                _ if self.may_campaign() => self.campaign(out),
                _ if self.retry_armed => {}
                _ => self.appeal(out),
            },
        }
    }

    /// Asks another one for what we want: the leader or, with an appeal, a voter who may lead.
    pub(crate) fn forward(
        &mut self,
        to: NodeId,
        ids: Vec<ProposalId>,
        appeal: Option<Ballot>,
        out: &mut Out<Self>,
    ) {
        let mut change = self.change.take();
        if change.is_some() {
            // Nobody answers that, and whoever wants it says so again. The barrier, which is nobody's,
            // shows whether there is a leader.
            self.barrier.get_or_insert(self.probe());
        }
        let mut barrier = self.barrier;
        let (mut wishes, mut bytes) = (vec![], 0);
        for wish in ids.iter().filter_map(|id| self.wishes.get(id)) {
            bytes += wish.proposal.command.len();
            if bytes > FORWARD_BYTES_MAX && !wishes.is_empty() {
                let wishes = std::mem::take(&mut wishes);
                let (barrier, change) = (barrier.take(), change.take());
                let forward = Message::Forward { wishes, barrier, change, appeal };
                out.send(Outbound::Proposer(to, forward));
                bytes = wish.proposal.command.len();
            }
            wishes.push(wish.clone());
        }
        if !wishes.is_empty() || barrier.is_some() || appeal.is_some() {
            let forward = Message::Forward { wishes, barrier, change, appeal };
            out.send(Outbound::Proposer(to, forward));
        }
    }

    /// Phase 1: our own acceptor first. Once it has promised, durably, this ballot can never be
    /// ours again by mistake: a restart asks that acceptor what to surpass.
    pub(crate) fn campaign(&mut self, out: &mut Out<Self>) {
        let me = self.config.me;
        self.drop_offers(out);
        let Some((first, configuration, position)) = self.stretch() else {
            // Our learner has to catch up before we can know who rules.
            return self.follow(out);
        };
        if !configuration.voters.contains(&me.node) {
            self.follow(out);
            return if self.wants_something() {
                self.appeal(out)
            };
        }
        let is_ours = self.highest.proposer == Some(me);
        let step = u64::from(!(is_ours && is_planted(Bug::BallotReused)));
        let ballot = Ballot::new(self.highest.round + step, me);
        self.highest = ballot;
        let campaign = Campaign::new(ballot, first, configuration, position);
        out.send(Outbound::Acceptors(vec![me.node], campaign.prepare()));
        self.phase = Phase::Campaigning(Box::new(campaign));
        self.arm_campaign(0, out);
        self.tell_leader(out);
    }

    pub(crate) fn arm_campaign(&mut self, tries: u32, out: &mut Out<Self>) {
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
        // What anybody else promises, also a former life of a voter, is of no use to us.
        if !is_due || !campaign.configuration().voters.contains(&from) {
            return;
        }
        // Also from a part that does not complete a promise: it is true whoever says it.
        campaign.on_forgotten(forgotten);
        if !campaign.on_promise(from, (first, below), votes) {
            return;
        }
        if from == me {
            let voters = campaign.configuration().voters.iter().copied();
            let others = voters.filter(|node| *node != me).collect();
            out.send(Outbound::Acceptors(others, campaign.prepare()));
        }
        // Our own promise is part of every majority of ours: see `campaign`.
        let voters = &campaign.configuration().voters;
        if campaign.promised_by(me) && is_majority(voters, campaign.promised(), 0) {
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
        let mut lead = Lead::new(&self.config, *campaign, first, &self.down);
        let heard = self.heard.as_ref().map_or(Slot(0), |heard| Slot(heard.index.0 + 1));
        if self.config.holes == Holes::Filled && first > self.below.min(heard) {
            // Our own learner must hear of it, also when there is nothing to propose.
            let (ballot, progress) = (lead.ballot(), lead.progress());
            let me = self.config.me.node;
            out.send(Outbound::Learner(me, ToLearner::Inform { ballot, progress }));
        }
        // What our learner has learnt since we began to campaign.
        let heard = self.heard.as_ref().filter(|_| self.config.holes == Holes::Filled);
        let reign = heard.map_or(Reign::GoesOn, |heard| lead.on_members(heard, &self.down));
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
        if let Some(change) = self.change.take() {
            lead.reconfigure(&change);
        }
        if reign == Reign::GoesOn {
            lead.pump(&self.config, out);
        }
        self.phase = Phase::Leading(Box::new(lead));
        self.tell_leader(out);
        for (from, wishes, barrier) in forwarded {
            self.on_forward(from, (wishes, barrier), (None, None), out);
        }
        if let Phase::Leading(lead) = &mut self.phase
            && std::mem::take(&mut self.hands_over)
        {
            lead.show_itself();
            out.want_drained();
        }
        self.go_by(reign, out);
    }

    /// A higher ballot is at work: ours is over. What is open is taken to its proposer.
    pub(crate) fn heard_of(&mut self, ballot: Ballot, out: &mut Out<Self>) {
        if ballot <= self.highest {
            return;
        }
        self.highest = ballot;
        self.hands_over = false;
        self.step_down(out);
    }

    /// Follows whoever has the highest ballot heard of, or nobody if that is ours.
    pub(crate) fn step_down(&mut self, out: &mut Out<Self>) {
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

    /// Leads and campaigns no more, though nobody is known to have a higher ballot.
    pub(crate) fn follow(&mut self, out: &mut Out<Self>) {
        self.phase = Phase::Following;
        for timer in [Timer::Campaign, Timer::Linger, Timer::Resend] {
            out.cancel_timer(timer);
        }
        self.fresh = self.wishes.keys().copied().collect();
        if self.wants_something() {
            self.arm_retry(out);
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

    fn on_forward(
        &mut self,
        from: NodeId,
        (mut wishes, barrier): (Vec<Wish>, Option<ProposalId>),
        (change, appeal): (Option<Change>, Option<Ballot>),
        out: &mut Out<Self>,
    ) {
        if self.config.holes == Holes::Filled && wishes.iter().any(|w| is_own(w.proposal.id)) {
            out.alarm(format!("{from} wishes for an entry of the engine"));
            wishes.retain(|wish| !is_own(wish.proposal.id));
        }
        if let (Some(over), Phase::Following) = (appeal, &self.phase)
            && self.heeds(over)
        {
            self.hands_over = true;
            self.campaign(out);
        }
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
                if let Some(change) = change {
                    lead.reconfigure(&change);
                }
                lead.inform_again(out);
                out.want_drained();
            }
            Phase::Campaigning(campaign) => {
                campaign.on_forward(from, wishes, barrier);
                self.change = change.or(self.change.take());
            }
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
            Message::Forward { wishes, barrier, change, appeal } => {
                self.on_forward(from, (wishes, barrier), (change, appeal), out);
            }
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
