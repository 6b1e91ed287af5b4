//! The rules of a peer: what its roles share, and how it comes from one role to another.

use std::{
    collections::{BTreeMap, BTreeSet},
    time::Duration,
};

use quorate_protocol::{
    Configuration, Core, Name, NodeId, Out,
    log::{Chosen, Event, Index, Position, ProposalId, Request},
    planted::{Bug, is_planted},
};
use quorate_stage::{Durability, DurableCore, Outlet};

use crate::{
    candidate::Candidate,
    follower::Follower,
    leader::{Leader, Target},
    log::Log,
    messages::{
        Entry, Match, Message, Payload, Place, Reconfigured, Record, Standing, Status, Term,
    },
    wishes::Wishes,
};

/// Entries handed to the rsm in one message.
const CHOSEN_ENTRIES_MAX: usize = 512;
/// Bytes of what is kept besides the entries: term, vote, base.
const STANDING_BYTES: u64 = 64;

/// What bounds a peer.
#[derive(Clone, Copy, Debug)]
pub struct Limits {
    /// AppendEntries with entries that may be under way to one follower.
    pub messages_in_flight_max: usize,
    /// Entries in one of them.
    pub entries_per_message_max: usize,
    /// Bytes of entries in one of them, unless a single entry is longer.
    pub bytes_per_message_max: u64,
    /// Entries of a leader that are not committed. Beyond, offers are refused, what is forwarded is
    /// left to be forwarded again, and what is wanted here waits.
    pub uncommitted_max: u64,
    /// Rounds of read barriers under way at one time: barriers that come meanwhile share the next.
    pub read_rounds_max: usize,
    /// How many entries a new voter may lack when its vote begins to count.
    pub newcomer_lag_max: u64,
}

impl Default for Limits {
    fn default() -> Self {
        Limits {
            messages_in_flight_max: 8,
            entries_per_message_max: 1024,
            bytes_per_message_max: 1024 * 1024,
            uncommitted_max: 64 * 1024,
            read_rounds_max: 2,
            newcomer_lag_max: 1024,
        }
    }
}

/// How long a peer waits.
#[derive(Clone, Copy, Debug)]
pub struct Timing {
    /// Between two heartbeats of a leader, and before a candidate asks again who has not answered.
    pub heartbeat: Duration,
    /// Without a word of a leader before campaigning: drawn between the two (section 5.2). The
    /// lower one is also how long others' campaigns are ignored after a word of the leader.
    pub election: (Duration, Duration),
    /// Before a commit is told by itself; it rides on the next AppendEntries if there is one.
    pub linger: Duration,
    /// For the leader to commit a wish, before it is forwarded again.
    pub retry: Duration,
    /// Heartbeats without an answer before entries are sent again. A network that loses single
    /// messages needs 1; over TCP a message is lost only with its connection, which is told.
    pub resend_after: u64,
    /// When the leader's link is known to be down: how long before campaigning.
    pub hurry: (Duration, Duration),
}

/// What a peer is, from its first to its last day.
#[derive(Clone, Debug)]
pub struct Config {
    /// Who it is.
    pub me: NodeId,
    /// The members when the group was formed; empty for a node that was added later, which hears
    /// from the leader who they are.
    pub formation: Configuration,
    /// Its bounds.
    pub limits: Limits,
    /// Its patience.
    pub timing: Timing,
}

/// What a peer asks to be woken for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Timer {
    /// The journal has not answered: see `quorate_stage::DurableActor`.
    Open,
    /// No word of a leader, or too few votes.
    Election,
    /// Say something, so that nobody campaigns; ask again who has not voted.
    Heartbeat,
    /// A commit has not been told.
    Linger,
    /// Has a majority answered since this was set?
    Quorum,
    /// The lead could not be handed over in time.
    Transfer,
    /// Wishes are still open.
    Retry,
}

/// What a peer says, and to whom.
#[derive(Clone, Debug, PartialEq)]
pub enum Outbound {
    /// To the peers on these nodes; to ourselves too, which shows that all before it is durable.
    Peers(Vec<NodeId>, Message),
    /// To the rsm of this node.
    Log(Event),
    /// To who wanted other members.
    Reconfigured(Outlet<Reconfigured>, Reconfigured),
    /// To who looks in.
    Status(Outlet<Status>, Status),
}

/// The role of section 5.1, with what belongs to it alone.
#[derive(Clone, Debug)]
pub(crate) enum Role {
    Follower(Follower),
    Candidate(Candidate),
    Leader(Box<Leader>),
}

/// One peer of one group.
#[derive(Clone, Debug)]
pub struct Peer {
    pub(crate) shared: Shared,
    pub(crate) role: Role,
    leader_told: Option<Option<NodeId>>,
    /// The last configuration that was told, and where it stood.
    configured_told: Option<(Place, Configuration)>,
}

/// What a peer has in every role.
#[derive(Clone, Debug)]
pub(crate) struct Shared {
    pub(crate) config: Config,
    pub(crate) term: Term,
    pub(crate) voted_for: Option<NodeId>,
    pub(crate) log: Log,
    pub(crate) commit: Place,
    /// The next index to hand over, once somebody has subscribed.
    next: Option<Index>,
    pub(crate) wishes: Wishes,
    /// Offers that were taken up here in the present term, and not committed.
    pub(crate) offers: BTreeSet<ProposalId>,
    /// Machines whose link is known to be down.
    pub(crate) down: BTreeSet<NodeId>,
}

pub(crate) fn to(node: NodeId, message: Message) -> Outbound {
    Outbound::Peers(vec![node], message)
}

impl Shared {
    pub(crate) fn me(&self) -> NodeId {
        self.config.me
    }

    /// Whether the machine that a member lives on is known to be out of reach.
    pub(crate) fn is_down(&self, node: NodeId) -> bool {
        self.down.contains(&node.home())
    }

    /// The newest configuration in the log.
    pub(crate) fn configuration(&self) -> &Configuration {
        self.log.configuration().0
    }

    /// Enters a term, or votes in the present one, and remembers it.
    pub(crate) fn enter(&mut self, term: Term, voted_for: Option<NodeId>, out: &mut Out<Peer>) {
        assert!(
            term > self.term || (term == self.term && self.voted_for.is_none()),
            "T1: {term} for {voted_for:?} after {} for {:?}",
            self.term,
            self.voted_for
        );
        let is_new = term > self.term;
        if is_new {
            // Somebody else may lead by now: what becomes of the offers is not ours to say.
            for id in std::mem::take(&mut self.offers) {
                out.send_at_once(Outbound::Log(Event::Dropped { id }));
            }
        }
        (self.term, self.voted_for) = (term, voted_for);
        if is_new || !is_planted(Bug::VoteNotRecorded) {
            out.persist(Record::Voted { term, voted_for });
        }
    }

    /// Cuts off what stands from `from` on, which a leader replaces.
    pub(crate) fn cut_off(&mut self, from: Place) {
        assert!(from > self.commit, "T5: {from} is cut off, and {} is committed", self.commit);
        self.log.truncate(from);
    }

    /// Adds entries behind the last one, and remembers them.
    pub(crate) fn append(&mut self, entries: Vec<Entry>, out: &mut Out<Peer>) {
        let from = self.log.last().next();
        for entry in &entries {
            self.log.append(entry.clone());
        }
        out.persist(Record::Appended { from, entries });
    }

    /// Everything through `place` is committed: it is handed over, and nobody here wishes for it
    /// any more.
    pub(crate) fn commit_through(&mut self, place: Place, out: &mut Out<Peer>) {
        if place <= self.commit {
            return;
        }
        assert!(place <= self.log.last(), "T3: {place} is committed, and not in the log");
        for place in self.commit.0 + 1..=place.0 {
            if let Some(Payload::Command(proposal)) = self.log.get(Place(place)).map(|e| &e.payload)
            {
                self.wishes.open.remove(&proposal.id);
                self.offers.remove(&proposal.id);
            }
        }
        self.commit = place;
        self.hand_over(out);
    }

    /// Gives the rsm what comes next. At once: a majority has it, whatever this disk does.
    fn hand_over(&mut self, out: &mut Out<Peer>) {
        let Some(mut next) = self.next else { return };
        let through = self.log.index_at(self.commit);
        if next <= self.log.base().index {
            return;
        }
        while next <= through {
            let mut entries = vec![];
            let mut place = self.log.place_of(next);
            let mut last = place;
            while place <= self.commit && entries.len() < CHOSEN_ENTRIES_MAX {
                if let Some(Payload::Command(proposal)) = self.log.get(place).map(|e| &e.payload) {
                    assert!(
                        self.log.index_at(place) == next,
                        "T7: {next} is due, and {place} would be handed over"
                    );
                    entries.push(Chosen { index: next, proposal: Some(proposal.clone()) });
                    next = next.next();
                    last = place;
                }
                place = place.next();
            }
            // Where the last command stands, not behind what the engine has added: so a position is
            // a function of the index, and whoever has applied that index has the place as well.
            let position = self.log.position(last);
            out.send_at_once(Outbound::Log(Event::Chosen { entries, position }));
        }
        self.next = Some(next);
    }

    fn standing(&self) -> Record {
        let base = self.log.base().clone();
        Record::Standing { term: self.term, voted_for: self.voted_for, base }
    }
}

impl Peer {
    /// The peer that remembers `records`, given in the order in which they became durable.
    ///
    /// # Errors
    /// Which entry is missing, or out of place.
    pub fn recover(config: Config, records: Vec<Record>) -> Result<Self, String> {
        let (mut term, mut voted_for) = (Term(0), None);
        let mut base: Option<Position> = None;
        let mut entries: BTreeMap<Place, Entry> = BTreeMap::new();
        for record in records {
            // A segment may begin with a standing that is newer than the records behind it.
            let (vote, newer_base) = match record {
                Record::Standing { base, .. } if is_planted(Bug::TermLostWithSegment) => {
                    (None, Some(base))
                }
                Record::Standing { term, voted_for, base } => (Some((term, voted_for)), Some(base)),
                Record::Voted { term, voted_for } => (Some((term, voted_for)), None),
                Record::Appended { from, entries: new } => {
                    entries.split_off(&from);
                    entries.extend((from.0..).map(Place).zip(new));
                    (None, None)
                }
                Record::Installed { base } => {
                    entries.clear();
                    (None, Some(base))
                }
            };
            if let Some((of, who)) = vote
                && (of > term || (of == term && who.is_some()))
            {
                (term, voted_for) = (of, who);
            }
            if let Some(newer) = newer_base
                && base.as_ref().is_none_or(|base| newer.place >= base.place)
            {
                base = Some(newer);
            }
        }
        let base = base.unwrap_or_else(|| Position {
            configuration: config.formation.clone(),
            ..Position::default()
        });
        let mut log = Log::new(base);
        for (place, entry) in entries.split_off(&log.base_place().next()) {
            if place != log.last().next() {
                return Err(format!("the log ends at {}, and goes on at {place}", log.last()));
            }
            if entry.term < log.last_term() || entry.term > term {
                return Err(format!(
                    "the entry at {place} is of {}, after one of {}, in {term}",
                    entry.term,
                    log.last_term()
                ));
            }
            log.append(entry);
        }
        let commit = log.base_place();
        let shared = Shared {
            config,
            term,
            voted_for,
            log,
            commit,
            next: None,
            wishes: Wishes::default(),
            offers: BTreeSet::new(),
            down: BTreeSet::new(),
        };
        let role = Role::Follower(Follower::default());
        Ok(Peer { shared, role, leader_told: None, configured_told: None })
    }

    /// Its term.
    pub fn term(&self) -> Term {
        self.shared.term
    }

    /// Whom it has voted for in its term.
    pub fn voted_for(&self) -> Option<NodeId> {
        self.shared.voted_for
    }

    /// Through which place it takes another's log, or its own durable one, for the same as its log:
    /// `None` unless it leads, and the other gets its log.
    pub fn match_index(&self, node: NodeId) -> Option<Place> {
        match &self.role {
            Role::Leader(leader) => leader.match_of(self.shared.me(), node),
            Role::Follower(_) | Role::Candidate(_) => None,
        }
    }

    /// Its log.
    pub fn log(&self) -> &Log {
        &self.shared.log
    }

    /// Through which place everything is committed.
    pub fn commit(&self) -> Place {
        self.shared.commit
    }

    /// Whether it leads.
    pub fn leads(&self) -> bool {
        matches!(self.role, Role::Leader(_))
    }

    /// Who leads, as far as it knows.
    pub fn leader(&self) -> Option<NodeId> {
        match &self.role {
            Role::Follower(follower) => follower.leader,
            Role::Candidate(_) => None,
            Role::Leader(_) => Some(self.shared.me()),
        }
    }

    /// What can be seen of it.
    pub fn status(&self) -> Status {
        let shared = &self.shared;
        Status {
            term: shared.term,
            standing: match &self.role {
                Role::Follower(_) => Standing::Follower,
                Role::Candidate(_) => Standing::Candidate,
                Role::Leader(_) => Standing::Leader,
            },
            leader: self.leader(),
            commit: shared.commit,
            last: shared.log.last(),
            last_index: shared.log.index_at(shared.log.last()),
            base: shared.log.base().clone(),
            log_bytes: STANDING_BYTES + shared.log.bytes(),
            configuration: shared.configuration().clone(),
        }
    }

    fn tell_leader(&mut self, out: &mut Out<Self>) {
        let leader = self.leader();
        if self.leader_told != Some(leader) {
            self.leader_told = Some(leader);
            out.send_at_once(Outbound::Log(Event::Role { leader }));
        }
    }

    /// Tells who the members are, by what is committed.
    fn tell_configured(&mut self, out: &mut Out<Self>) {
        let (configuration, place) = self.shared.log.configuration_at(self.shared.commit);
        let told = self.configured_told.as_ref();
        if told.is_none_or(|(at, told)| *at != place && told != configuration) {
            let configuration = configuration.clone();
            self.configured_told = Some((place, configuration.clone()));
            out.send_at_once(Outbound::Log(Event::Configured { configuration }));
        }
    }

    /// Sets the time after which this peer campaigns.
    pub(crate) fn arm_election(&self, out: &mut Out<Self>) {
        let (at_least, at_most) = self.shared.config.timing.election;
        out.set_timer(Timer::Election, at_least, at_most);
    }

    /// Becomes, or stays, a follower: of `leader`, in a term that is not lower than the present.
    pub(crate) fn follow(&mut self, term: Term, leader: Option<NodeId>, out: &mut Out<Self>) {
        if term > self.shared.term {
            self.shared.enter(term, None, out);
        }
        let former = std::mem::replace(&mut self.role, Role::Follower(Follower::of(leader)));
        match former {
            // Its timer goes on: nobody has been heard or voted for.
            Role::Follower(_) => {}
            Role::Candidate(_) => self.arm_election(out),
            Role::Leader(former) => {
                former.resign(out);
                self.arm_election(out);
            }
        }
        for timer in [Timer::Heartbeat, Timer::Linger, Timer::Quorum, Timer::Transfer] {
            out.cancel_timer(timer);
        }
        self.shared.refresh(out);
    }

    pub(crate) fn on_appended(
        &mut self,
        from: NodeId,
        term: Term,
        round: u64,
        result: Match,
        out: &mut Out<Self>,
    ) {
        if term > self.shared.term {
            return self.follow(term, None, out);
        }
        if let Role::Leader(leader) = &mut self.role
            && (term == self.shared.term || is_planted(Bug::FormerTermMatchCounted))
        {
            leader.on_appended(&mut self.shared, from, round, result, out);
        }
    }

    fn on_log(&mut self, request: Request, out: &mut Out<Self>) {
        match request {
            Request::Propose(proposal) => {
                if self.shared.wishes.add(proposal) {
                    out.want_drained();
                }
            }
            Request::Offer(proposal) => {
                let id = proposal.id;
                let place = match &mut self.role {
                    Role::Leader(leader) => leader.on_offer(&mut self.shared, proposal, out),
                    _ => None,
                };
                out.send_at_once(Outbound::Log(Event::Offered { id, place }));
            }
            Request::ReadBarrier { id } => {
                self.shared.wishes.barrier = Some(id);
                self.shared.wishes.barrier_is_fresh = true;
                out.want_drained();
            }
            Request::Reconfigure(change) => {
                if let Role::Leader(leader) = &mut self.role {
                    leader.on_change(&mut self.shared, &change, out);
                }
            }
            Request::Subscribe { from } => {
                self.shared.next = Some(from);
                let base = self.shared.log.base().index;
                if from <= base {
                    // The rsm's own node has forgotten what it wants: others have snapshots.
                    let me = self.shared.me();
                    let members = self.shared.configuration().members();
                    let leader = self.leader().filter(|node| *node != me);
                    let ask = leader.or_else(|| members.into_iter().find(|node| *node != me));
                    if let Some(ask) = ask {
                        out.send_at_once(Outbound::Log(Event::Behind { ask, index: base }));
                    }
                }
                self.shared.hand_over(out);
            }
            Request::Forget { saved, below } => self.on_forget(saved, below, out),
        }
    }

    /// The state through `saved` is durable on this node.
    fn on_forget(&mut self, saved: Position, below: Index, out: &mut Out<Self>) {
        let (place, leads) = (Place(saved.place), self.leads());
        let shared = &mut self.shared;
        if place <= shared.log.base_place() {
            return;
        }
        if shared.log.term_at(place) == Some(Term(saved.term)) {
            // A state is saved of what is committed only.
            shared.commit_through(place, out);
            return self.compact(place, below, out);
        }
        if place <= shared.commit || leads {
            out.alarm(format!("the state at {saved} is of another log than ours"));
            return;
        }
        // Section 7: the state came as a snapshot, and the log begins anew behind it. It may be of a
        // term that has not been heard of here.
        if Term(saved.term) > shared.term {
            self.follow(Term(saved.term), None, out);
        }
        let shared = &mut self.shared;
        shared.log = Log::new(saved.clone());
        shared.commit = place;
        shared.next = shared.next.map(|next| next.max(saved.index.next()));
        out.persist(Record::Installed { base: saved });
        if let Role::Follower(follower) = &mut self.role {
            follower.installed(&mut self.shared, place, out);
        }
    }

    /// Lets go of the entries whose commands are below `below`, none of them behind `saved`.
    fn compact(&mut self, saved: Place, below: Index, out: &mut Out<Self>) {
        let commit = self.shared.commit;
        assert!(saved <= commit, "T3: {saved} becomes the base, and {commit} is committed");
        let log = &mut self.shared.log;
        if below <= log.base().index.next() {
            return;
        }
        // Through a command, see `hand_over`.
        let through = log.place_of(Index(below.0 - 1)).min(saved);
        if through > log.base_place() {
            log.compact(through);
            out.persist(self.shared.standing());
        }
    }

    fn on_link_down(&mut self, node: NodeId, out: &mut Out<Self>) {
        self.shared.down.insert(node);
        if let Role::Follower(follower) = &mut self.role
            && follower.leader.is_some_and(|leader| leader.home() == node)
        {
            // It is known to be gone: nobody need wait for its silence.
            follower.leader = None;
            follower.has_heard = false;
            let (at_least, at_most) = self.shared.config.timing.hurry;
            out.set_timer(Timer::Election, at_least, at_most);
            self.shared.refresh(out);
        }
    }

    fn on_link_up(&mut self, node: NodeId, out: &mut Out<Self>) {
        self.shared.down.remove(&node);
        match &mut self.role {
            Role::Follower(_) => {}
            Role::Candidate(candidate) => candidate.solicit(&self.shared, out),
            Role::Leader(leader) => {
                leader.on_link_up(node);
                out.want_drained();
            }
        }
    }

    /// Lets a leader go on, and lets it go if the group wants no leader of this node any more.
    fn drive(&mut self, beat: bool, out: &mut Out<Self>) {
        let Role::Leader(leader) = &mut self.role else { return };
        leader.take_up(&mut self.shared, out);
        leader.pump(&mut self.shared, beat, out);
        if leader.is_removed(&self.shared) {
            leader.hand_over_lead(&self.shared, out);
            self.follow(self.shared.term, None, out);
        }
    }

    /// At the end of each step.
    fn conclude(&mut self, out: &mut Out<Self>) {
        self.tell_leader(out);
        self.tell_configured(out);
        if !self.leads() {
            self.shared.arm_retry(out);
        }
    }
}

impl Core for Peer {
    type Inbound = Message;
    type Outbound = Outbound;
    type Timer = Timer;
    type Record = Record;

    fn on_message(&mut self, from: Name, message: Message, out: &mut Out<Self>) {
        let from = from.node;
        match message {
            Message::RequestVote { term, last_log_index, last_log_term, pre_vote, transfer } => {
                let last = (last_log_term, last_log_index);
                self.on_request_vote(from, term, last, (pre_vote, transfer), out);
            }
            Message::Vote { term, pre_vote, granted } => {
                self.on_vote(from, term, (pre_vote, granted), out);
            }
            Message::AppendEntries {
                term,
                prev_log_index,
                prev_log_term,
                entries,
                leader_commit,
                round,
            } => {
                if self.on_leader(from, term, round, out) {
                    let prev = (prev_log_index, prev_log_term);
                    self.on_append_entries(from, prev, entries, (leader_commit, round), out);
                }
            }
            Message::Appended { term, round, result } => {
                self.on_appended(from, term, round, result, out);
            }
            Message::InstallSnapshot { term, position, round } => {
                if self.on_leader(from, term, round, out) {
                    self.on_install_snapshot(from, position, round, out);
                }
            }
            Message::TimeoutNow { term } => self.on_timeout_now(from, term, out),
            Message::Forward { wishes, barrier } => self.on_forward(from, wishes, barrier, out),
            Message::Appeal(appeal) => self.on_appeal(from, appeal, out),
            Message::PassOn { of, appeal } => self.on_pass_on(from, of, appeal, out),
            Message::Barrier { id, from } => self.shared.settle_barrier(id, from, out),
            Message::Log(request) => self.on_log(request, out),
            Message::Journal(_) => {}
            Message::Reconfigure { voters, learners, reply } => match &mut self.role {
                Role::Leader(leader) => {
                    let lives = self.shared.configuration().lives.clone();
                    let target = Target { voters, learners, lives };
                    leader.on_reconfigure(&mut self.shared, target, Some(reply), out);
                }
                _ => {
                    let answer = Reconfigured::NotLeader { leader: self.leader() };
                    out.send(Outbound::Reconfigured(reply, answer));
                }
            },
            Message::Transfer { to } => {
                if let Role::Leader(leader) = &mut self.role {
                    leader.on_transfer(&self.shared, to, out);
                }
            }
            Message::AskStatus(reply) => {
                out.send_at_once(Outbound::Status(reply, self.status()));
            }
            Message::LinkUp(node) => self.on_link_up(node, out),
            Message::LinkDown(node) => self.on_link_down(node, out),
        }
        self.conclude(out);
    }

    fn on_timer(&mut self, timer: Timer, out: &mut Out<Self>) {
        match timer {
            Timer::Open => {}
            Timer::Election => self.on_election_timer(out),
            Timer::Heartbeat => match &mut self.role {
                Role::Follower(_) => {}
                Role::Candidate(candidate) => candidate.solicit(&self.shared, out),
                Role::Leader(leader) => {
                    leader.tick(&self.shared, out);
                    self.drive(true, out);
                }
            },
            Timer::Linger => {
                if let Role::Leader(leader) = &mut self.role {
                    leader.tell_all();
                    self.drive(false, out);
                }
            }
            Timer::Quorum => {
                if let Role::Leader(leader) = &mut self.role
                    && !leader.still_has_quorum(&self.shared, out)
                {
                    self.follow(self.shared.term, None, out);
                }
            }
            Timer::Transfer => {
                if let Role::Leader(leader) = &mut self.role {
                    leader.give_up_transfer();
                    self.drive(false, out);
                }
            }
            Timer::Retry => self.on_retry(out),
        }
        self.conclude(out);
    }

    fn on_drained(&mut self, out: &mut Out<Self>) {
        match &self.role {
            Role::Follower(_) => self.pursue(out),
            // What is open waits for a leader.
            Role::Candidate(_) => {}
            Role::Leader(_) => self.drive(false, out),
        }
        self.conclude(out);
    }

    fn invariants(&self) {
        let Shared { term, voted_for, log, commit, config, .. } = &self.shared;
        assert!(log.last_term() <= *term, "T2: an entry of {} in {term}", log.last_term());
        assert!(
            log.base_place() <= *commit && *commit <= log.last(),
            "T3: base {}, commit {commit}, last {}",
            log.base_place(),
            log.last()
        );
        if let Role::Leader(leader) = &self.role {
            assert!(*voted_for == Some(config.me), "T8: leads without its own vote in {term}");
            leader.invariants(&self.shared);
        }
    }
}

impl DurableCore for Peer {
    type Config = Config;

    fn recover(config: &Config, records: Vec<Record>) -> Result<Self, String> {
        Peer::recover(config.clone(), records)
    }

    fn start(&mut self, out: &mut Out<Self>) {
        self.arm_election(out);
        for event in [Event::SubscribeAgain, Event::ProposeAgain] {
            out.send_at_once(Outbound::Log(event));
        }
        self.tell_configured(out);
        self.tell_leader(out);
    }

    fn standing(&self) -> Record {
        self.shared.standing()
    }

    fn mark(record: &Record) -> u64 {
        record.mark().0
    }

    fn kept_from(&self) -> u64 {
        self.shared.log.base_place().next().0
    }

    fn from_journal(message: Message) -> Result<Durability, Message> {
        match message {
            Message::Journal(event) => Ok(event),
            other => Err(other),
        }
    }

    fn open_timer() -> Timer {
        Timer::Open
    }
}
