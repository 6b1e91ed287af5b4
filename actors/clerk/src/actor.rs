//! The clerk's mailbox.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
    time::Duration,
};

use quorate_kvserver::{
    Condition, KEY_BYTES_MAX, KvError, Message as ToServer, Op, Reply, Served, VALUE_BYTES_MAX,
};
use quorate_protocol::{
    GroupId, Name, NodeId,
    planted::{Bug, is_planted},
};
use quorate_rsm::{Outcome as Answer, Request, STALE_MS};
use quorate_shardmaster::{Command, Configuration, Message as ToMaster, Notice, ShardId};
use quorate_stage::{Outlet, Role, Stage};
use tokio::time::Instant;

use crate::{
    calls::Calls,
    gather::{self, Gather, Part},
    messages::{Administered, Message, Outcome, Outcomes, Refusal},
    routes::{Layout, Routes, Servers},
};

/// What a clerk is told once.
#[derive(Clone, Copy, Debug)]
pub struct Config {
    /// How long to wait for an answer before asking the next server.
    pub retry: Duration,
    /// How long to wait for an outcome at all; `None`: as long as what is sent again is known again,
    /// half an hour (C6).
    pub deadline: Option<Duration>,
    /// Operations under way at one time; beyond, they are refused. Must be well below the number
    /// of replies that servers keep.
    pub under_way_max: usize,
    /// Whether the servers remember what they have answered. Without, only reads and versioned Puts
    /// are taken; `retry` should be well above what an election takes, since a Put that is sent
    /// again may end as [`Outcome::Maybe`].
    pub sessions: bool,
}

/// Servers remember a client for twice as long after its last operation; and what they have taken
/// in themselves they do not carry out when it is older than this.
const KNOWN: Duration = Duration::from_millis(STALE_MS);

/// How long before another server is asked when one has said that it cannot serve.
const PAUSE: Duration = Duration::from_millis(50);
/// How long before a shard is looked for again that was not where it was said to be: it is on its way.
const DETOUR: Duration = Duration::from_millis(4);

/// What a clerk asks to be woken for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Timer {
    /// Look for operations that have waited too long.
    Patience,
}

struct Pending {
    op: Op,
    shard: ShardId,
    token: u64,
    reply: To,
    since: Instant,
    /// When to ask again, and perhaps somebody else.
    due: Instant,
    /// Whom it was sent to.
    group: Option<GroupId>,
    /// How often it has been sent.
    copies: u64,
    /// Whether a former copy may be, or may have been, carried out.
    again: bool,
    /// Whether the last copy certainly was not and will not be.
    void: bool,
    /// How often a group has said that the shard is not with it.
    detours: u32,
}

/// Copies of one operation that are told apart; of later ones none is void.
const COPIES_BITS: u32 = 16;
const COPIES_MAX: u64 = (1 << COPIES_BITS) - 1;

/// The name of a copy of an operation, which comes back with its answer: an answer that a network repeats is
/// about that copy, not about one that was sent since. A serial would have to exceed 2^48 to be cut.
fn copy_name(serial: u64, copies: u64) -> u64 {
    (serial << COPIES_BITS) | copies.min(COPIES_MAX)
}

/// Which operation, and which copy of it.
fn named(copy: u64) -> (u64, u64) {
    (copy >> COPIES_BITS, copy & COPIES_MAX)
}

/// Who waits for an outcome: a user, or an operation of which this is a part.
enum To {
    User(Outlet<Outcomes>),
    Gather { gather: u64, part: usize },
}

/// An operation in parts, and the user who waits for all of them.
struct Whole {
    gather: Gather,
    token: u64,
    reply: Outlet<Outcomes>,
}

/// The clerk's actor.
pub struct Clerk {
    config: Config,
    servers: Servers,
    routes: Routes,
    client_id: u64,
    last_serial: u64,
    pending: BTreeMap<u64, Pending>,
    /// The serials of `pending`, by shard.
    shards: BTreeMap<ShardId, BTreeSet<u64>>,
    /// Operations in parts.
    wholes: BTreeMap<u64, Whole>,
    /// Those that no shard is known for yet: they wait for a configuration.
    unplaced: Vec<(u64, Op, Outlet<Outcomes>, Instant)>,
    calls: Calls,
    /// Which of the shardmasters is asked, and whether it owes us a configuration.
    master: usize,
    awaiting: bool,
    stopped: bool,
    /// When the timer runs out, if it is set.
    wakes: Option<Instant>,
}

fn too_long(op: &Op) -> bool {
    let key = |key: &bytes::Bytes| key.len() > KEY_BYTES_MAX;
    let value = |value: &bytes::Bytes| value.len() > VALUE_BYTES_MAX;
    match op {
        Op::Get { key: k } | Op::Take { key: k } | Op::Add { key: k, .. } => key(k),
        Op::GetMany { keys } | Op::Exists { keys } | Op::Delete { keys } => keys.iter().any(key),
        Op::Put { key: k, value: v, .. }
        | Op::Append { key: k, value: v }
        | Op::Overwrite { key: k, value: v, .. } => key(k) || value(v),
        Op::PutMany { pairs } => {
            let total: usize = pairs.iter().map(|(_, v)| v.len()).sum();
            total > VALUE_BYTES_MAX || pairs.iter().any(|(k, _)| key(k))
        }
        Op::Count { .. } => false,
    }
}

fn is_versioned(op: &Op) -> bool {
    matches!(op, Op::Put { condition: Condition::IfVersion(_), .. })
}

impl Clerk {
    /// A clerk with an identity of its own, drawn from the stage's chance.
    pub fn new(config: Config, servers: Servers, stage: &mut Stage<Self>) -> Self {
        let me = stage.name().node;
        let routes = Routes::new(me, &servers.layout);
        let master = match &servers.layout {
            Layout::Sharded { nodes, .. } => nodes.iter().position(|node| *node == me),
            Layout::Whole { .. } => None,
        };
        Clerk {
            config,
            servers,
            routes,
            client_id: stage.chance().number(),
            last_serial: 0,
            pending: BTreeMap::new(),
            shards: BTreeMap::new(),
            wholes: BTreeMap::new(),
            unplaced: vec![],
            calls: Calls::new(stage.chance().number()),
            master: master.unwrap_or_default(),
            awaiting: false,
            stopped: false,
            wakes: None,
        }
    }

    fn refusal(&self, op: &Op) -> Option<Refusal> {
        if self.stopped {
            Some(Refusal::NotReady)
        } else if too_long(op) {
            Some(Refusal::TooLong)
        } else if !self.config.sessions && !op.is_sessionless() {
            Some(Refusal::NeedsSession)
        } else if self.pending.len() + self.unplaced.len() >= self.config.under_way_max {
            Some(Refusal::Busy)
        } else {
            None
        }
    }

    fn on_submit(&mut self, ops: Vec<(u64, Op)>, reply: Outlet<Outcomes>, stage: &mut Stage<Self>) {
        let now = stage.now();
        let (mut serials, mut refused) = (vec![], vec![]);
        for (token, op) in ops {
            if let Some(refusal) = self.refusal(&op) {
                refused.push((token, Outcome::Refused(refusal)));
                continue;
            }
            match self.routes.shards() {
                Some(shards) => self.take(token, op, &reply, (now, shards), &mut serials),
                None => self.unplaced.push((token, op, reply.clone(), now)),
            }
        }
        if !refused.is_empty() {
            reply.send(stage.name(), refused);
        }
        if !self.unplaced.is_empty() {
            self.ask_master(stage);
        }
        self.send(&serials, stage);
        self.watch(stage);
    }

    /// Takes an operation on, in parts if it is about several shards.
    fn take(
        &mut self,
        token: u64,
        op: Op,
        reply: &Outlet<Outcomes>,
        (since, shards): (Instant, u16),
        serials: &mut Vec<u64>,
    ) {
        let parts = match shards {
            1 => vec![Part::whole(op)],
            shards => gather::parts(op, shards),
        };
        let several = parts.len() > 1;
        if several {
            let gather = Gather::new(&parts);
            self.wholes.insert(self.last_serial + 1, Whole { gather, token, reply: reply.clone() });
        }
        let whole = self.last_serial + 1;
        for (part, Part { shard, op, .. }) in parts.into_iter().enumerate() {
            self.last_serial += 1;
            let reply = match several {
                true => To::Gather { gather: whole, part },
                false => To::User(reply.clone()),
            };
            let pending = Pending {
                op,
                shard,
                token,
                reply,
                since,
                due: since,
                group: None,
                copies: 0,
                again: false,
                void: true,
                detours: 0,
            };
            self.pending.insert(self.last_serial, pending);
            self.shards.entry(shard).or_default().insert(self.last_serial);
            serials.push(self.last_serial);
        }
    }

    fn remove(&mut self, serial: u64) -> Option<Pending> {
        let pending = self.pending.remove(&serial)?;
        if let Some(serials) = self.shards.get_mut(&pending.shard) {
            serials.remove(&serial);
            if serials.is_empty() {
                self.shards.remove(&pending.shard);
            }
        }
        Some(pending)
    }

    /// The client waits for nothing below, among what it asks of this shard.
    fn acked_below(&self, shard: ShardId) -> u64 {
        if is_planted(Bug::AcknowledgedTooEarly) {
            return self.last_serial + 1;
        }
        let first = self.shards.get(&shard).and_then(|serials| serials.first());
        first.copied().unwrap_or(self.last_serial + 1)
    }

    /// The last write of the same shard before this one that somebody still waits for. It must have been
    /// applied before: so a pipeline takes effect in its order, whoever is asked, and however often.
    fn after(&self, serial: u64, pending: &Pending) -> u64 {
        if pending.op.is_read() {
            return 0;
        }
        let serials = self.shards.get(&pending.shard).into_iter().flat_map(|s| s.range(..serial));
        let is_write = |serial: &u64| self.pending.get(serial).is_some_and(|p| !p.op.is_read());
        serials.copied().rfind(is_write).unwrap_or_default()
    }

    fn message(&self, serials: &[u64]) -> Option<ToServer> {
        let client_id = self.client_id;
        if !self.config.sessions {
            let op = |serial: &u64| {
                let pending = self.pending.get(serial)?;
                Some((copy_name(*serial, pending.copies), pending.op.clone()))
            };
            let ops: Vec<(u64, Op)> = serials.iter().filter_map(op).collect();
            return (!ops.is_empty()).then_some(ToServer::ServeSessionless { client_id, ops });
        }
        let requests = serials.iter().filter_map(|serial| {
            let pending = self.pending.get(serial)?;
            let (acked_below, command) = (self.acked_below(pending.shard), pending.op.clone());
            let after = self.after(*serial, pending);
            let request = Request { client_id, serial: *serial, acked_below, after, command };
            Some((copy_name(*serial, pending.copies), request))
        });
        let requests: Vec<(u64, Request<Op>)> = requests.collect();
        (!requests.is_empty()).then_some(ToServer::Serve { requests })
    }

    /// Sends operations to the groups of their shards: one message for each node that is asked.
    fn send(&mut self, serials: &[u64], stage: &mut Stage<Self>) {
        let due = stage.now() + self.config.retry;
        let mut to: BTreeMap<(GroupId, NodeId), Vec<u64>> = BTreeMap::new();
        for serial in serials {
            let Some(pending) = self.pending.get_mut(serial) else { continue };
            pending.due = due;
            let Some((group, node)) = self.routes.find(pending.shard) else {
                pending.group = None;
                continue;
            };
            pending.group = Some(group);
            pending.again |= !pending.void;
            pending.void = false;
            pending.copies += 1;
            to.entry((group, node)).or_default().push(*serial);
        }
        for ((group, node), serials) in to {
            if let Some(message) = self.message(&serials) {
                self.servers.servers.send(stage.name(), group, node, message);
            }
        }
    }

    /// Sets the timer, unless it is set. It is coarse: half the patience.
    fn watch(&mut self, stage: &mut Stage<Self>) {
        let idle = self.pending.is_empty() && self.unplaced.is_empty() && self.calls.is_empty();
        if !idle && self.wakes.is_none() {
            self.wake_in(self.config.retry / 2, stage);
        }
    }

    /// Wakes us so soon, or earlier.
    fn wake_in(&mut self, pause: Duration, stage: &mut Stage<Self>) {
        let at = stage.now() + pause;
        if self.wakes.is_none_or(|wakes| at < wakes) {
            self.wakes = Some(at);
            stage.set_timer(Timer::Patience, pause);
        }
    }

    fn on_served(&mut self, served: Served, stage: &mut Stage<Self>) {
        if served.client_id != self.client_id {
            return;
        }
        let now = stage.now();
        let (mut outcomes, mut at_once, mut pause) = (vec![], vec![], None);
        let mut later = |due: &mut Instant, after: Duration| {
            *due = (*due).min(now + after);
            pause = Some(pause.map_or(after, |pause: Duration| pause.min(after)));
        };
        let mut newer = false;
        for (copy, answer) in served.answers {
            let (serial, copy) = named(copy);
            let Some(pending) = self.pending.get_mut(&serial) else { continue };
            // What is said of a former copy, or of one that cannot be told from others, makes nothing void.
            let is_last = copy == pending.copies && copy < COPIES_MAX;
            let nodes = pending.group.map_or(0, |group| self.routes.nodes(group));
            let outcome = match answer {
                Answer::Done(Reply::Error(KvError::WrongGroup { .. })) | Answer::Early
                    if !is_last =>
                {
                    continue;
                }
                Answer::Done(Reply::Error(KvError::WrongGroup { ask, number })) => {
                    pending.void = true;
                    self.routes.hint(pending.shard, ask);
                    newer |= number > self.routes.number() || ask == GroupId(0);
                    pending.detours += 1;
                    match pending.detours {
                        1 => at_once.push(serial),
                        detours => later(&mut pending.due, DETOUR * (1 << detours.min(5)) / 4),
                    }
                    continue;
                }
                Answer::Early => {
                    pending.void = true;
                    later(&mut pending.due, DETOUR);
                    continue;
                }
                Answer::Done(Reply::Error(KvError::Version { .. }))
                    if !self.config.sessions
                        && pending.again
                        && !is_planted(Bug::RetryTakenForRefused) =>
                {
                    Outcome::Maybe
                }
                Answer::Done(reply) => Outcome::Done(reply),
                _ if !self.config.sessions => {
                    // Another server may do better. Of a copy that was refused nothing will come.
                    pending.void |= is_last && matches!(answer, Answer::Busy | Answer::NotPlaced);
                    later(&mut pending.due, PAUSE);
                    continue;
                }
                Answer::Forgotten if is_versioned(&pending.op) => Outcome::Maybe,
                Answer::Forgotten => Outcome::Unknown,
                // An earlier copy may be under way elsewhere: ask again later.
                _ if pending.again => continue,
                Answer::Busy => Outcome::Refused(Refusal::Busy),
                Answer::NotPlaced => Outcome::Refused(Refusal::NotReady),
                Answer::Stopped | Answer::Displaced if pending.op.is_read() => {
                    Outcome::Refused(Refusal::NotReady)
                }
                Answer::Stopped | Answer::Displaced if nodes > 1 => continue,
                Answer::Stopped | Answer::Displaced => Outcome::Unknown,
            };
            outcomes.push((serial, outcome));
        }
        self.finish(outcomes, stage.name());
        if newer {
            self.ask_master(stage);
        }
        self.send(&at_once, stage);
        if let Some(pause) = pause {
            self.wake_in(pause, stage);
        }
    }

    /// Tells users what has become of their operations, those of neighbours together.
    fn finish(&mut self, outcomes: Vec<(u64, Outcome)>, me: Name) {
        let mut told: Vec<(Outlet<Outcomes>, Outcomes)> = vec![];
        for (serial, outcome) in outcomes {
            let Some(pending) = self.remove(serial) else { continue };
            let (reply, token, outcome) = match pending.reply {
                To::User(reply) => (reply, pending.token, outcome),
                To::Gather { gather, part } => {
                    let whole = self.wholes.get_mut(&gather);
                    let Some(outcome) = whole.and_then(|whole| whole.gather.take(part, outcome))
                    else {
                        continue;
                    };
                    let Some(whole) = self.wholes.remove(&gather) else { continue };
                    (whole.reply, whole.token, outcome)
                }
            };
            match told.last_mut() {
                Some((last, list)) if *last == reply => list.push((token, outcome)),
                _ => told.push((reply, vec![(token, outcome)])),
            }
        }
        for (reply, list) in told {
            reply.send(me, list);
        }
    }

    /// What becomes of an operation that is given up.
    fn given_up(pending: &Pending, refusal: Refusal) -> Outcome {
        match (pending.op.is_read(), pending.void && !pending.again) {
            (true, _) => Outcome::Refused(refusal),
            // No copy of it was taken in by anybody.
            (false, true) if pending.detours > 0 => Outcome::Refused(Refusal::Moving),
            (false, true) => Outcome::Refused(refusal),
            (false, false) => Outcome::Unknown,
        }
    }

    /// Gives up what is past its deadline, asks the next server about what waits too long.
    fn on_patience(&mut self, stage: &mut Stage<Self>) {
        self.wakes = None;
        let now = stage.now();
        let patience = self.config.deadline.unwrap_or(KNOWN).min(KNOWN);
        let is_over = |since: Instant| now - since >= patience;
        let over = self.pending.iter().filter(|(_, pending)| is_over(pending.since));
        let over: Vec<(u64, Outcome)> = over
            .map(|(serial, pending)| (*serial, Clerk::given_up(pending, Refusal::NoQuorum)))
            .collect();
        self.finish(over, stage.name());
        let (over, unplaced) = std::mem::take(&mut self.unplaced)
            .into_iter()
            .partition(|(_, _, _, since)| is_over(*since));
        self.unplaced = unplaced;
        for (token, _, reply, _) in over {
            let refused = Outcome::Refused(Refusal::NoQuorum);
            reply.send(stage.name(), vec![(token, refused)]);
        }
        for (reply, outcomes) in self.calls.give_up(is_over, Refusal::NoQuorum) {
            reply.send(stage.name(), outcomes);
        }
        self.ask_again(now, stage);
        if self.awaiting_needed() {
            self.awaiting = false;
            self.master = self.master.wrapping_add(1);
            self.ask_master(stage);
        }
        if !self.calls.is_empty() {
            self.master = self.master.wrapping_add(1);
            self.call(stage);
        }
        let soonest = self.pending.values().map(|pending| pending.due).min();
        if let Some(due) = soonest.filter(|due| *due < now + self.config.retry / 2) {
            self.wake_in((due - now).max(Duration::from_millis(1)), stage);
        }
        self.watch(stage);
    }

    fn ask_again(&mut self, now: Instant, stage: &mut Stage<Self>) {
        let due = self.pending.iter().filter(|(_, pending)| now >= pending.due);
        let mut slow: Vec<u64> = due.map(|(serial, _)| *serial).collect();
        if is_planted(Bug::RetryIsAnotherCommand) {
            for serial in &mut slow {
                let Some(pending) = self.remove(*serial) else { continue };
                self.last_serial += 1;
                *serial = self.last_serial;
                self.shards.entry(pending.shard).or_default().insert(*serial);
                self.pending.insert(*serial, pending);
            }
        }
        // Groups that have not answered: another node of theirs is asked. Not those that have said that
        // they do not have the shard.
        let silent = slow.iter().filter_map(|serial| {
            let pending = self.pending.get(serial).filter(|p| !p.void || p.detours % 8 == 7)?;
            Some((pending.group?, pending.shard))
        });
        let silent: BTreeSet<(GroupId, ShardId)> = silent.collect();
        for (_, shard) in &silent {
            self.routes.drop_hint(*shard);
        }
        let groups: BTreeSet<GroupId> = silent.into_iter().map(|(group, _)| group).collect();
        for group in groups {
            self.routes.turn(group);
        }
        self.send(&slow, stage);
    }

    /// Whether something cannot go on without a configuration that is not known yet.
    fn awaiting_needed(&self) -> bool {
        !self.unplaced.is_empty()
            || self.pending.values().any(|pending| {
                // A group that is silent may have nothing to do with the shard any more.
                pending.group.is_none() || pending.detours > 0 || pending.again
            })
    }

    /// Asks a shardmaster for what is newer than what is known. It answers when there is something.
    fn ask_master(&mut self, stage: &Stage<Self>) {
        if let (Layout::Sharded { nodes, masters }, false) = (&self.servers.layout, self.awaiting) {
            let Some(node) = nodes.get(self.master % nodes.len().max(1)) else { return };
            let await_ = ToMaster::Await { above: self.routes.number(), next: false };
            self.awaiting = true;
            masters.send(stage.name(), GroupId(0), *node, await_);
        }
    }

    /// Whether the node has a shardmaster: then every configuration is heard of at once, and at no cost.
    fn has_own_master(&self, me: NodeId) -> bool {
        match &self.servers.layout {
            Layout::Sharded { nodes, .. } => nodes.contains(&me),
            Layout::Whole { .. } => false,
        }
    }

    fn on_told(&mut self, configuration: Arc<Configuration>, stage: &mut Stage<Self>) {
        self.awaiting = false;
        if self.routes.learn(configuration.clone()) {
            if let Some(configured) = &self.servers.configured {
                configured.send(stage.name(), configuration);
            }
            let mut serials = vec![];
            if let Some(shards) = self.routes.shards() {
                for (token, op, reply, since) in std::mem::take(&mut self.unplaced) {
                    self.take(token, op, &reply, (since, shards), &mut serials);
                }
            }
            // What had nowhere to go may have now.
            let placed = self.pending.iter().filter(|(_, p)| p.group.is_none() || p.void);
            let placed: BTreeSet<u64> = placed.map(|(serial, _)| *serial).collect();
            serials = placed.into_iter().collect();
            self.send(&serials, stage);
        }
        if self.has_own_master(stage.name().node) {
            self.ask_master(stage);
        }
    }

    fn on_administer(
        &mut self,
        calls: Vec<(u64, Command)>,
        reply: Outlet<Administered>,
        stage: &mut Stage<Self>,
    ) {
        if self.stopped || matches!(self.servers.layout, Layout::Whole { .. }) {
            let refused = || Outcome::Refused(Refusal::NotReady);
            let outcomes = calls.iter().map(|(token, _)| (*token, refused())).collect();
            return reply.send(stage.name(), outcomes);
        }
        let refused = self.calls.add(calls, &reply, stage.now());
        if !refused.is_empty() {
            reply.send(stage.name(), refused);
        }
        self.call(stage);
        self.watch(stage);
    }

    fn call(&self, stage: &Stage<Self>) {
        if let (Layout::Sharded { nodes, masters }, Some(message)) =
            (&self.servers.layout, self.calls.message())
            && let Some(node) = nodes.get(self.master % nodes.len().max(1))
        {
            masters.send(stage.name(), GroupId(0), *node, message);
        }
    }

    fn on_notice(&mut self, notice: Notice, stage: &mut Stage<Self>) {
        match notice {
            Notice::Told(configuration) => self.on_told(configuration, stage),
            Notice::Called { client_id, answers } => {
                for (reply, outcomes) in self.calls.settle(client_id, answers) {
                    reply.send(stage.name(), outcomes);
                }
            }
        }
    }

    fn stop(&mut self, stage: &mut Stage<Self>) {
        self.stopped = true;
        let all = self.pending.iter();
        let all: Vec<(u64, Outcome)> = all
            .map(|(serial, pending)| (*serial, Clerk::given_up(pending, Refusal::NotReady)))
            .collect();
        self.finish(all, stage.name());
        for (token, _, reply, _) in std::mem::take(&mut self.unplaced) {
            let refused = Outcome::Refused(Refusal::NotReady);
            reply.send(stage.name(), vec![(token, refused)]);
        }
        for (reply, outcomes) in self.calls.give_up(|_| true, Refusal::NotReady) {
            reply.send(stage.name(), outcomes);
        }
    }
}

impl Role for Clerk {
    type Message = Message;
    type Timer = Timer;

    fn started(&mut self, stage: &mut Stage<Self>) {
        if let Some(users) = &self.servers.started {
            users.send(stage.name(), ());
        }
        if self.has_own_master(stage.name().node) {
            self.ask_master(stage);
        }
    }

    fn receive(&mut self, _: Name, message: Message, stage: &mut Stage<Self>) {
        match message {
            Message::Submit { ops, reply } => self.on_submit(ops, reply, stage),
            Message::Administer { calls, reply } => self.on_administer(calls, reply, stage),
            Message::Notice(notice) => self.on_notice(notice, stage),
            Message::MasterStarted => {
                self.awaiting = false;
                self.ask_master(stage);
            }
            Message::Served(served) => self.on_served(served, stage),
            Message::Stop => self.stop(stage),
        }
    }

    fn on_timer(&mut self, Timer::Patience: Timer, stage: &mut Stage<Self>) {
        self.on_patience(stage);
    }
}
