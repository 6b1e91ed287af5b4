//! What the node wants, on its way to the leader (section 8): proposals and read barriers are
//! forwarded, repeated, and sent another way if the leader hears nothing of them.
//!
//! ```text
//!   rsm        follower                          leader           another follower
//!    | Propose -> | -- Forward ---------------X    |                     |    Direct
//!    |            | <- AppendEntries ------------- |                     |
//!    |            | -- Appeal -------------------> |                     |    InAnswers
//!    |            | <- AppendEntries ------------- |                     |
//!    |            | -- PassOn -----------------------------------------> |    Through
//!    |            |                                | <- PassOn --------- |
//! ```
//!
//! A leader that can open an exchange, but with whom none can be opened, goes on leading: its followers
//! hear its heartbeats, and it hears their answers. So what they want comes to it in these. If not even
//! the answers of one follower come to it, another follower passes them on.

use std::{
    collections::{BTreeMap, BTreeSet},
    ops::Bound::{Excluded, Unbounded},
};

use quorate_protocol::{
    NodeId, Out,
    log::{Event, Index, Proposal, ProposalId},
};

use crate::{
    core::{Outbound, Peer, Role, Shared, Timer, to},
    follower::Follower,
    messages::{Appeal, Match, Message},
};

/// Bytes of wishes in one message, unless a single one is longer.
const FORWARD_BYTES_MAX: usize = 1024 * 1024;
/// After so many retries in a row that found nothing done, although the leader is heard, the next route
/// is tried.
const FAILURES_MAX: u32 = 3;
/// So many retries later the direct route is tried again, and left again at the first failure.
const DETOUR_RETRIES_MAX: u32 = 16;

/// How what is wanted here comes to the leader, besides being forwarded once.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum Route {
    /// It is forwarded again.
    #[default]
    Direct,
    /// With the next answer to the leader.
    InAnswers,
    /// With the next answer, and by way of this node, which passes both on.
    Through(NodeId),
}

/// What is wanted here, and how far it has come.
#[derive(Clone, Debug, Default)]
pub(crate) struct Wishes {
    /// What is wanted here and not seen committed.
    pub(crate) open: BTreeMap<ProposalId, Proposal>,
    /// Those that have not been forwarded to the present leader, or taken up by it.
    pub(crate) fresh: Vec<ProposalId>,
    pub(crate) barrier: Option<ProposalId>,
    /// Whether the barrier has not been forwarded or asked for.
    pub(crate) barrier_is_fresh: bool,
    retry_armed: bool,
    /// What was open when the retry timer was set: only that has waited long enough.
    watched: BTreeSet<ProposalId>,
    watched_barrier: Option<ProposalId>,
    route: Route,
    /// Which one is taken instead of the direct route when that fails next; `None`: the first.
    detour: Option<Route>,
    /// Retries in a row that found nothing done.
    failures: u32,
    /// Retries since the direct route was left.
    away: u32,
    /// What the route, if it is not the direct one, has not carried yet.
    due: BTreeSet<ProposalId>,
    barrier_is_due: bool,
}

impl Wishes {
    /// Remembers a wish; `false` if it is known.
    pub(crate) fn add(&mut self, proposal: Proposal) -> bool {
        let id = proposal.id;
        let is_new = self.open.insert(id, proposal).is_none();
        if is_new {
            self.fresh.push(id);
        }
        is_new
    }

    fn wants_something(&self) -> bool {
        !self.open.is_empty() || self.barrier.is_some()
    }

    /// Whether something that was open when the retry timer was set is done.
    fn has_got_something(&self) -> bool {
        self.watched.iter().any(|id| !self.open.contains_key(id))
            || (self.watched_barrier.is_some() && self.barrier.is_none())
    }

    /// What has been open since the retry timer was set.
    fn overdue(&self) -> (Vec<ProposalId>, Option<ProposalId>) {
        let open = self.watched.iter().filter(|id| self.open.contains_key(id));
        (open.copied().collect(), self.barrier.filter(|id| Some(*id) == self.watched_barrier))
    }

    /// Takes another route if this one has failed for too long. `others` can pass something on.
    fn reroute(&mut self, others: &BTreeSet<NodeId>) {
        if self.failures >= FAILURES_MAX {
            let next = match self.route {
                Route::Direct => self.detour.or(Some(Route::InAnswers)),
                Route::InAnswers => others.first().copied().map(Route::Through),
                Route::Through(node) => {
                    let after = others.range((Excluded(node), Unbounded)).next();
                    after.copied().map(Route::Through)
                }
            };
            self.take(next.unwrap_or(Route::Direct));
        } else if self.route != Route::Direct {
            self.away += 1;
            if self.away >= DETOUR_RETRIES_MAX {
                let detour = self.route;
                self.take(Route::Direct);
                self.detour = Some(detour);
                self.failures = FAILURES_MAX - 1;
            }
        }
    }

    fn take(&mut self, route: Route) {
        self.route = route;
        (self.detour, self.failures, self.away) = (None, 0, 0);
        self.due.clear();
        self.barrier_is_due = false;
    }

    /// What is to be carried by the route, if it is not the direct one.
    fn carry(&mut self, ids: &[ProposalId], barrier: Option<ProposalId>) {
        if self.route != Route::Direct {
            self.due.extend(ids);
            self.barrier_is_due |= barrier.is_some();
        }
    }

    /// What goes with one message, of what is due.
    fn take_due(&mut self) -> (Vec<Proposal>, Option<ProposalId>) {
        let (mut wishes, mut bytes) = (vec![], 0);
        while let Some(id) = self.due.pop_first() {
            let Some(wish) = self.open.get(&id) else { continue };
            bytes += wish.command.len();
            if bytes > FORWARD_BYTES_MAX && !wishes.is_empty() {
                self.due.insert(id);
                break;
            }
            wishes.push(wish.clone());
        }
        (wishes, self.barrier.filter(|_| std::mem::take(&mut self.barrier_is_due)))
    }
}

impl Shared {
    /// Everything that is wanted here is to be taken to the leader, whoever it is.
    pub(crate) fn refresh(&mut self, out: &mut Out<Peer>) {
        let wishes = &mut self.wishes;
        wishes.take(Route::Direct);
        wishes.fresh = wishes.open.keys().copied().collect();
        wishes.barrier_is_fresh = wishes.barrier.is_some();
        if wishes.wants_something() {
            out.want_drained();
        }
    }

    /// Remembers what is open, to see later whether it still is.
    pub(crate) fn arm_retry(&mut self, out: &mut Out<Peer>) {
        let wishes = &mut self.wishes;
        if !wishes.retry_armed && wishes.wants_something() {
            wishes.retry_armed = true;
            wishes.watched = wishes.open.keys().copied().collect();
            wishes.watched_barrier = wishes.barrier;
            let after = self.config.timing.retry;
            out.set_timer(Timer::Retry, after, after * 2);
        }
    }

    /// Whoever leads needs no reminder.
    pub(crate) fn stop_retry(&mut self, out: &mut Out<Peer>) {
        self.wishes.retry_armed = false;
        out.cancel_timer(Timer::Retry);
    }

    /// A barrier is answered.
    pub(crate) fn settle_barrier(&mut self, id: ProposalId, from: Index, out: &mut Out<Peer>) {
        let wishes = &mut self.wishes;
        if wishes.barrier.is_some_and(|open| open.life == id.life && open.seq <= id.seq) {
            wishes.barrier = None;
            wishes.barrier_is_fresh = false;
        }
        out.send_at_once(Outbound::Log(Event::Barrier { id, from }));
    }

    fn forward(
        &self,
        leader: NodeId,
        ids: &[ProposalId],
        mut barrier: Option<ProposalId>,
        out: &mut Out<Peer>,
    ) {
        let (mut wishes, mut bytes) = (vec![], 0);
        for wish in ids.iter().filter_map(|id| self.wishes.open.get(id)) {
            bytes += wish.command.len();
            if bytes > FORWARD_BYTES_MAX && !wishes.is_empty() {
                let (wishes, barrier) = (std::mem::take(&mut wishes), barrier.take());
                out.send_at_once(to(leader, Message::Forward { wishes, barrier }));
                bytes = wish.command.len();
            }
            wishes.push(wish.clone());
        }
        if !wishes.is_empty() || barrier.is_some() {
            out.send_at_once(to(leader, Message::Forward { wishes, barrier }));
        }
    }

    /// Answers the leader, once all before is durable; and says with that what starves here.
    pub(crate) fn answer(
        &mut self,
        leader: NodeId,
        round: u64,
        result: Match,
        out: &mut Out<Peer>,
    ) {
        let (term, me) = (self.term, self.me());
        let wishes = &mut self.wishes;
        let appended = Message::Appended { term, round, result };
        if wishes.route == Route::Direct || !wishes.wants_something() {
            return out.send(to(leader, appended));
        }
        let (carried, barrier) = wishes.take_due();
        let is_empty = carried.is_empty() && barrier.is_none();
        let appeal = Appeal { term, round, result, wishes: carried, barrier };
        match wishes.route {
            Route::Through(node) => {
                // The answer is wanted too: it may be why nothing more comes of the log.
                out.send(to(leader, appended));
                out.send(to(node, Message::PassOn { of: me, appeal }));
            }
            _ if is_empty => out.send(to(leader, appended)),
            _ => out.send(to(leader, Message::Appeal(appeal))),
        }
    }
}

impl Peer {
    /// Takes what is fresh to the leader.
    pub(crate) fn pursue(&mut self, out: &mut Out<Self>) {
        let Some(leader) = self.leader().filter(|node| !self.shared.is_down(*node)) else {
            return;
        };
        let wishes = &mut self.shared.wishes;
        let barrier = wishes.barrier.filter(|_| wishes.barrier_is_fresh);
        wishes.barrier_is_fresh = false;
        let fresh = std::mem::take(&mut wishes.fresh);
        wishes.carry(&fresh, barrier);
        self.shared.forward(leader, &fresh, barrier, out);
    }

    pub(crate) fn on_retry(&mut self, out: &mut Out<Self>) {
        self.shared.wishes.retry_armed = false;
        if self.leads() {
            return;
        }
        let (old, barrier) = self.shared.wishes.overdue();
        let leader = self.leader().filter(|node| !self.shared.is_down(*node));
        if let Some(leader) = leader {
            self.detour(leader, !old.is_empty() || barrier.is_some());
            match self.shared.wishes.route {
                Route::Direct => self.shared.forward(leader, &old, barrier, out),
                Route::InAnswers | Route::Through(_) => self.shared.wishes.carry(&old, barrier),
            }
        }
        self.shared.arm_retry(out);
    }

    /// Looks whether the route to the leader is still the right one. Who does not hear the leader has
    /// other worries.
    fn detour(&mut self, leader: NodeId, is_overdue: bool) {
        let Role::Follower(follower) = &self.role else { return };
        let Shared { wishes, down, log, config, .. } = &mut self.shared;
        wishes.failures = match is_overdue && !wishes.has_got_something() {
            true if follower.has_heard => wishes.failures + 1,
            true => wishes.failures,
            false => 0,
        };
        let mut others = log.configuration().0.members();
        others.retain(|node| *node != config.me && *node != leader && !down.contains(&node.home()));
        wishes.reroute(&others);
    }

    pub(crate) fn on_forward(
        &mut self,
        from: NodeId,
        wishes: Vec<Proposal>,
        barrier: Option<ProposalId>,
        out: &mut Out<Self>,
    ) {
        // Who does not lead says nothing: whoever leads makes itself heard.
        if let Role::Leader(leader) = &mut self.role {
            leader.on_forward(&self.shared, from, wishes, barrier);
            out.want_drained();
        }
    }

    /// An answer of `of` has come, with what it wants.
    pub(crate) fn on_appeal(&mut self, of: NodeId, appeal: Appeal, out: &mut Out<Self>) {
        let Appeal { term, round, result, wishes, barrier } = appeal;
        self.on_appended(of, term, round, result, out);
        self.on_forward(of, wishes, barrier, out);
    }

    /// What `of` says to the leader, who does not hear it. It is passed on once, so it cannot go in
    /// circles.
    pub(crate) fn on_pass_on(
        &mut self,
        from: NodeId,
        of: NodeId,
        appeal: Appeal,
        out: &mut Out<Self>,
    ) {
        let is_member = self.shared.configuration().members().contains(&of);
        if !is_member || of == self.shared.me() {
            return;
        }
        match &self.role {
            Role::Leader(_) => self.on_appeal(of, appeal, out),
            Role::Follower(Follower { leader: Some(leader), .. }) => {
                if from == of && *leader != of {
                    out.send_at_once(to(*leader, Message::PassOn { of, appeal }));
                }
            }
            Role::Follower(_) | Role::Candidate(_) => {}
        }
    }
}
