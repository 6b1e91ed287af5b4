//! The rsm's mailbox: batches in, the log through the machine, answers out.

use std::{
    collections::{BTreeMap, VecDeque},
    path::PathBuf,
    sync::Arc,
    time::Duration,
};

use bytes::Bytes;
use quorate_courier::Message as ToCourier;
use quorate_persistence::{FileEvent, FilesMessage};
use quorate_protocol::{
    Name, NodeId,
    log::{Chosen, Event, Index, Position, Proposal, ProposalId, Request as ToEngine},
    planted::{Bug, is_planted},
};
use quorate_stage::{Outlet, Role, Stage};
use serde::{Deserialize, Serialize};

use crate::{
    clock::LogClock,
    install::Reading,
    machine::{At, StateMachine},
    messages::{Answers, Message, Outcome, Placing, Request, Status, Stirred, Submit},
    once::Once,
    origins::Origins,
    sessions::{STALE_MS, Scopes, Sessions, Verdict},
};

/// What an entry of the log takes besides its command, as far as an rsm can tell: its identity, its
/// place, and in what it was agreed.
const ENTRY_BYTES: u64 = 48;

/// What an rsm is told once.
#[derive(Clone, Debug)]
pub struct Config {
    /// The directory where the checkpoints lie.
    pub checkpoints: PathBuf,
    /// Bytes of log that are kept, about (the labs' maxraftstate): a checkpoint is made after half
    /// as many. `u64::MAX`: there never is one.
    pub log_bytes_max: u64,
    /// Whether every read goes through the log, as the labs describe it.
    pub reads_in_log: bool,
    /// Batches under way at one time; what arrives meanwhile forms the next one.
    pub batches_in_flight_max: usize,
    /// Commands in one batch.
    pub batch_commands_max: usize,
    /// Commands that may wait here; beyond, they are refused.
    pub waiting_max: usize,
    /// How long before a batch is proposed again: an engine's actor may have forgotten it.
    pub propose_again: Duration,
}

impl Config {
    /// The usual bounds.
    pub fn new(checkpoints: PathBuf) -> Self {
        Config {
            checkpoints,
            log_bytes_max: 64 * 1024 * 1024,
            reads_in_log: false,
            batches_in_flight_max: 4,
            batch_commands_max: 2048,
            waiting_max: 64 * 1024,
            propose_again: Duration::from_secs(1),
        }
    }
}

/// Whom the rsm speaks to.
#[derive(Clone)]
pub struct Wiring {
    /// The engine's part that proposes.
    pub proposals: Outlet<ToEngine>,
    /// The engine's part that hands over what is chosen.
    pub log: Outlet<ToEngine>,
    /// The files of its node.
    pub files: Outlet<FilesMessage>,
    /// The courier of its group and node.
    pub courier: Outlet<ToCourier>,
    /// Who wants to hear that the machine has changed ([`StateMachine::stirred`]), or who leads.
    pub watcher: Option<Outlet<Stirred>>,
}

/// What an rsm asks to be woken for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Timer {
    /// Something may have been forgotten: say it again.
    Again,
}

/// What goes into the log, encoded once for all replicas.
#[derive(Serialize, Deserialize)]
pub(crate) struct Batch<C> {
    /// Log time when it was proposed.
    pub(crate) time_ms: u64,
    /// Whether it is placed once only: see R4.
    pub(crate) once: bool,
    pub(crate) requests: Vec<Request<C>>,
}

pub(crate) struct Waiter<R> {
    pub(crate) token: u64,
    pub(crate) reply: Outlet<Answers<R>>,
}

pub(crate) struct OwnBatch<R> {
    pub(crate) command: Bytes,
    pub(crate) waiters: Vec<Waiter<R>>,
    /// Was under way already when the timer was set.
    pub(crate) old: bool,
    /// Was proposed in a former life too: that copy may be applied before this one.
    pub(crate) copied: bool,
}

/// Commands that wait for room in a batch.
pub(crate) type Queue<M> =
    VecDeque<(Request<<M as StateMachine>::Command>, Waiter<<M as StateMachine>::Reply>)>;

struct Read<M: StateMachine> {
    command: M::Command,
    waiter: Waiter<M::Reply>,
}

/// Makes a machine to which nothing has been applied.
pub type Empty<M> = Arc<dyn Fn() -> M + Send + Sync>;

/// The rsm's actor, hosting a machine.
pub struct RsmActor<M: StateMachine> {
    pub(crate) config: Config,
    pub(crate) wiring: Wiring,
    pub(crate) node: NodeId,
    /// Drawn at random: the identities of this life's proposals begin with it.
    pub(crate) life: u64,
    /// None until the checkpoint has been read; what comes meanwhile waits.
    pub(crate) machine: Option<M>,
    pub(crate) early: Vec<(Name, Message<M>)>,
    pub(crate) early_requests: usize,
    pub(crate) empty: Empty<M>,
    pub(crate) scopes: Scopes<M::Reply>,
    pub(crate) origins: Arc<Origins>,
    pub(crate) next: Index,
    /// Log time at the last batch applied, and how it has gone on since.
    pub(crate) time_ms: u64,
    pub(crate) clock: LogClock,
    queue: Queue<M>,
    /// Of the last batch, and of the last read barrier.
    last_seq: u64,
    last_barrier: u64,
    pub(crate) own: BTreeMap<u64, OwnBatch<M::Reply>>,
    /// What is to be placed once.
    pub(crate) once: Once<M>,
    /// Reads that came since the last barrier was asked for.
    fresh_reads: Vec<Read<M>>,
    /// Reads by the barrier that was asked for on their behalf.
    asked_reads: BTreeMap<u64, Vec<Read<M>>>,
    /// Reads that wait for an index to be applied.
    barred_reads: BTreeMap<Index, Vec<Read<M>>>,
    pub(crate) bytes_since_checkpoint: u64,
    /// Of the state since then: they are in no checkpoint but the last one, or in none.
    pub(crate) garbage_bytes: u64,
    /// Where the log stands after what is applied.
    pub(crate) position: Position,
    /// What is being read from the files.
    pub(crate) reading: Reading,
    /// The checkpoint that is being written.
    pub(crate) saving: Option<Position>,
    /// Bytes of the log that it takes the place of.
    pub(crate) generation_bytes: u64,
    /// The newest that is durable here, and from where on the log is kept though it is older.
    pub(crate) checkpointed: Position,
    pub(crate) kept_from: Index,
    /// The log that comes next is forgotten: who has a checkpoint, and what it must hold.
    pub(crate) behind: Option<(NodeId, Index)>,
    /// Bytes of it that have come, and how many there are.
    pub(crate) carried: Option<(u64, u64)>,
    leader: Option<NodeId>,
    /// What was told to the watcher.
    stirred: u64,
    stopped: bool,
    commands: u64,
    duplicates: u64,
    /// Checkpoints made here, and those of others taken over.
    pub(crate) taken: u64,
    pub(crate) installed: u64,
}

impl<M: StateMachine> RsmActor<M> {
    /// An rsm whose machine is read from its checkpoint, or begins as `empty`.
    pub fn new(config: Config, wiring: Wiring, empty: Empty<M>, stage: &mut Stage<Self>) -> Self {
        let node = stage.name().node;
        RsmActor {
            config,
            wiring,
            node,
            life: stage.chance().number(),
            once: Once::new(node, stage.chance().number()),
            machine: None,
            early: vec![],
            early_requests: 0,
            empty,
            scopes: Scopes::default(),
            origins: Arc::default(),
            next: Index(1),
            time_ms: 0,
            clock: LogClock::new(stage.node().uptime()),
            queue: VecDeque::new(),
            last_seq: 0,
            last_barrier: 0,
            own: BTreeMap::new(),
            fresh_reads: vec![],
            asked_reads: BTreeMap::new(),
            barred_reads: BTreeMap::new(),
            bytes_since_checkpoint: 0,
            garbage_bytes: 0,
            position: Position::default(),
            reading: Reading::Nothing,
            saving: None,
            generation_bytes: 0,
            checkpointed: Position::default(),
            kept_from: Index(1),
            behind: None,
            carried: None,
            leader: None,
            stirred: 0,
            stopped: false,
            commands: 0,
            duplicates: 0,
            taken: 0,
            installed: 0,
        }
    }

    fn waiting(&self) -> usize {
        let own: usize = self.own.values().map(|batch| batch.waiters.len()).sum();
        let reads = self.asked_reads.values().chain(self.barred_reads.values());
        let reads: usize = reads.map(Vec::len).sum();
        self.queue.len() + self.once.waiting() + own + reads + self.fresh_reads.len()
    }

    fn id(&self, seq: u64) -> ProposalId {
        ProposalId { node: self.node, life: self.life, seq }
    }

    fn on_submit(&mut self, submit: Submit<M>, stage: &mut Stage<Self>) {
        let Submit { requests, placing, reply } = submit;
        let queued = self.queue.len() + self.once.waiting();
        let refusal = if self.stopped {
            Some(Outcome::Stopped)
        } else if queued + requests.len() > self.config.waiting_max {
            Some(Outcome::Busy)
        } else {
            None
        };
        if let Some(refusal) = refusal {
            let answers = requests.iter().map(|(token, _)| (*token, refusal.clone())).collect();
            return reply.send(stage.name(), answers);
        }
        let mut refused = vec![];
        for (token, request) in requests {
            // What is refused as things are here would most likely be refused when it is applied: it is
            // not proposed, and so has certainly no effect.
            let refusal =
                self.machine.as_ref().and_then(|machine| machine.refusal(&request.command));
            if let Some(refusal) = refusal {
                refused.push((token, Outcome::Done(refusal)));
                continue;
            }
            let waiter = Waiter { token, reply: reply.clone() };
            if M::is_read(&request.command) && !self.config.reads_in_log {
                let read = Read { command: request.command, waiter };
                match is_planted(Bug::ReadServedLocally) {
                    true => self.barred_reads.entry(self.next).or_default().push(read),
                    false => self.fresh_reads.push(read),
                }
            } else {
                match placing {
                    Placing::UntilApplied => self.queue.push_back((request, waiter)),
                    Placing::Once => self.once.push(request, waiter),
                }
            }
        }
        if !refused.is_empty() {
            reply.send(stage.name(), refused);
        }
        if is_planted(Bug::ReadServedLocally) {
            self.answer_barred(stage.name());
        }
        stage.request_flush();
    }

    /// Proposes what has gathered, and asks for a barrier if reads have come.
    pub(crate) fn pump(&mut self, stage: &mut Stage<Self>) {
        while self.own.len() < self.config.batches_in_flight_max && !self.queue.is_empty() {
            let count = self.queue.len().min(self.config.batch_commands_max);
            let (requests, waiters): (Vec<_>, Vec<_>) = self.queue.drain(..count).unzip();
            let command = self.encode(requests, false, stage);
            self.last_seq += 1;
            let id = self.id(self.last_seq);
            let own = OwnBatch { command: command.clone(), waiters, old: false, copied: false };
            self.own.insert(id.seq, own);
            let proposal = Proposal { id, command };
            self.wiring.proposals.send(stage.name(), ToEngine::Propose(proposal));
        }
        if let Some((requests, waiters)) = self.once.take(self.config.batch_commands_max) {
            let command = self.encode(requests, true, stage);
            self.once.offer(command, waiters, &self.wiring.proposals, stage.name());
        }
        if is_planted(Bug::ReadSharesOldBarrier)
            && let Some(mut asked) = self.asked_reads.last_entry()
        {
            asked.get_mut().append(&mut self.fresh_reads);
        }
        // One barrier at a time, and one more for what came since: reads share them.
        if !self.fresh_reads.is_empty() && self.asked_reads.len() < 2 {
            self.last_barrier += 1;
            let id = self.id(self.last_barrier);
            self.asked_reads.insert(id.seq, std::mem::take(&mut self.fresh_reads));
            self.wiring.proposals.send(stage.name(), ToEngine::ReadBarrier { id });
        }
        let open = !self.own.is_empty() || !self.asked_reads.is_empty();
        if open && !stage.timer_is_set(&Timer::Again) {
            for batch in self.own.values_mut() {
                batch.old = true;
            }
            stage.set_timer(Timer::Again, self.config.propose_again);
        }
    }

    fn encode(&self, requests: Vec<Request<M::Command>>, once: bool, stage: &Stage<Self>) -> Bytes {
        let time_ms = self.clock.now_ms(stage.node().uptime());
        quorate_protocol::encode(&Batch { time_ms, once, requests })
    }

    fn propose_again(&self, old_only: bool, me: Name) {
        for (seq, batch) in self.own.iter().filter(|(_, batch)| batch.old || !old_only) {
            let id = self.id(*seq);
            let proposal = Proposal { id, command: batch.command.clone() };
            self.wiring.proposals.send(me, ToEngine::Propose(proposal));
        }
        if let Some((seq, _)) = self.asked_reads.last_key_value() {
            let id = self.id(*seq);
            self.wiring.proposals.send(me, ToEngine::ReadBarrier { id });
        }
    }

    fn on_chosen(&mut self, chosen: Vec<Chosen>, position: Position, stage: &mut Stage<Self>) {
        for Chosen { index, proposal } in chosen {
            // R1. What is above was meant for a former life of ours, and comes again: we have
            // subscribed from `next` on.
            let gap = index > self.next && is_planted(Bug::GapApplied);
            if index != self.next && !gap {
                continue;
            }
            self.next = index.next();
            if let Some(Proposal { id, command }) = proposal {
                self.bytes_since_checkpoint += command.len() as u64 + ENTRY_BYTES;
                self.apply(index, id, &command, stage);
            }
        }
        if position.index.next() == self.next {
            self.position = position;
        }
        if self.machine.as_ref().is_some_and(|machine| machine.stirred() != self.stirred) {
            self.tell_watcher(stage);
        }
        self.settle_behind(stage);
        self.answer_barred(stage.name());
        self.checkpoint_if_due(stage);
        self.pump(stage);
    }

    fn apply(&mut self, index: Index, id: ProposalId, command: &[u8], stage: &mut Stage<Self>) {
        let batch: Batch<M::Command> = match rmp_serde::from_slice(command) {
            Ok(batch) => batch,
            Err(error) => {
                // The same bytes on every replica: none of them may go on differently.
                return stage.fatal(format!(
                    "the command at index {index} cannot be read ({error}); was it proposed by \
                     another version of quorate?"
                ));
            }
        };
        let Some(machine) = &mut self.machine else { return };
        self.time_ms = self.time_ms.max(batch.time_ms);
        self.clock.learn(self.time_ms, stage.node().uptime());
        let stale = batch.time_ms.saturating_add(STALE_MS) < self.time_ms;
        let at = At { index, time_ms: self.time_ms };
        let mine = id.node == self.node && id.life == self.life;
        // A checkpoint that is being written has them too: then they are copied first.
        if !Arc::make_mut(&mut self.origins).admit(id, batch.once, self.time_ms) {
            // R4. Not the next one of its origin: a copy of one that was applied, or one that came
            // before its predecessor.
            if mine && self.own.contains_key(&id.seq) {
                self.begin_new_life(stage);
            }
            // One that came after its successor will never be applied.
            self.once.give_up(id, &Outcome::NotPlaced, stage.name());
            return;
        }
        let own = if mine { self.own.remove(&id.seq) } else { None };
        let copied = own.as_ref().is_some_and(|own| own.copied);
        let waiters = match mine {
            true => own.map(|own| own.waiters),
            false => self.once.settle(id),
        };
        let mut answers = Vec::with_capacity(waiters.as_ref().map_or(0, Vec::len));
        for request in batch.requests {
            let Request { client_id, serial, acked_below, after, command } = request;
            let outcome = if M::is_read(&command) {
                Outcome::Done(machine.query(&command))
            } else if let Some(refusal) = machine.refusal(&command) {
                // The copy may have been carried out while the machine still took it, and what is known of
                // its client has gone with the rest.
                match copied {
                    true => Outcome::Displaced,
                    false => Outcome::Done(refusal),
                }
            } else if stale {
                Outcome::Forgotten
            } else {
                let scope = machine.scope(&command);
                let sessions = self.scopes.get(scope);
                let verdict = match sessions {
                    Some(sessions) if !is_planted(Bug::DuplicatesApplied) => {
                        sessions.check(client_id, serial)
                    }
                    _ => Verdict::Apply,
                };
                // R7.
                let missing = |sessions: &Sessions<M::Reply>| {
                    matches!(sessions.check(client_id, after), Verdict::Apply)
                };
                let early = after > 0 && sessions.is_none_or(missing);
                match verdict {
                    Verdict::Apply if early => Outcome::Early,
                    Verdict::Apply => {
                        let reply = machine.apply_among(at, command, &mut self.scopes);
                        self.commands += 1;
                        let kept = reply.clone();
                        let sessions = self.scopes.0.entry(scope).or_default();
                        sessions.applied(client_id, serial, acked_below, kept, at.time_ms);
                        Outcome::Done(reply)
                    }
                    Verdict::Replay(reply) => {
                        self.duplicates += 1;
                        Outcome::Done(reply)
                    }
                    Verdict::Forgotten => {
                        self.duplicates += 1;
                        Outcome::Forgotten
                    }
                }
            };
            if waiters.is_some() {
                answers.push(outcome);
            }
        }
        if let Some(garbage) = machine.take_garbage() {
            self.garbage_bytes = self.garbage_bytes.saturating_add(garbage.bytes);
            self.wiring.files.send(stage.name(), FilesMessage::Drop(garbage.what));
        }
        if let Some(waiters) = waiters {
            answer(waiters.into_iter().zip(answers), stage.name());
        }
    }

    pub(crate) fn tell_watcher(&mut self, stage: &Stage<Self>) {
        let Some(machine) = &self.machine else { return };
        self.stirred = machine.stirred();
        stage.observe(machine);
        if let Some(watcher) = &self.wiring.watcher {
            watcher.send(stage.name(), Stirred { leader: self.leader });
        }
    }

    /// What is open is proposed again, in order, as the batches of a new life: the old ones may
    /// not be applied any more. At most once holds all the same, by the sessions.
    fn begin_new_life(&mut self, stage: &mut Stage<Self>) {
        self.life = stage.chance().number();
        let open = std::mem::take(&mut self.own);
        self.last_seq = open.len() as u64;
        let open = open.into_values().map(|batch| OwnBatch { copied: true, ..batch });
        self.own = (1..).zip(open).collect();
        // Barriers of the former life are not answered any more: ask for all of them anew.
        let reads = std::mem::take(&mut self.asked_reads).into_values().flatten();
        let reads: Vec<Read<M>> = reads.chain(std::mem::take(&mut self.fresh_reads)).collect();
        self.fresh_reads = reads;
        self.propose_again(false, stage.name());
        stage.request_flush();
    }

    fn on_barrier(&mut self, id: ProposalId, from: Index, stage: &mut Stage<Self>) {
        if id.life != self.life {
            return;
        }
        let later = self.asked_reads.split_off(&(id.seq + 1));
        for (_, reads) in std::mem::replace(&mut self.asked_reads, later) {
            self.barred_reads.entry(from).or_default().extend(reads);
        }
        self.answer_barred(stage.name());
        self.pump(stage);
    }

    /// Answers the reads whose barrier is passed.
    pub(crate) fn answer_barred(&mut self, me: Name) {
        let Some(machine) = &self.machine else { return };
        let reached = match is_planted(Bug::ReadNotAwaited) {
            true => Index(u64::MAX),
            false => self.next,
        };
        let later = self.barred_reads.split_off(&Index(reached.0.saturating_add(1)));
        let passed = std::mem::replace(&mut self.barred_reads, later);
        let reads = passed.into_values().flatten();
        let answered = reads.map(|read| (read.waiter, Outcome::Done(machine.query(&read.command))));
        answer(answered, me);
    }

    /// Lets everybody go: reads and commands that were not proposed have had no effect, and still
    /// the answer is the same, since the node stops and cannot tell more.
    fn stop(&mut self, me: Name) {
        self.stopped = true;
        let own = std::mem::take(&mut self.own).into_values().flat_map(|batch| batch.waiters);
        let queued = std::mem::take(&mut self.queue).into_iter().map(|(_, waiter)| waiter);
        let reads = std::mem::take(&mut self.asked_reads).into_values();
        let reads = reads.chain(std::mem::take(&mut self.barred_reads).into_values()).flatten();
        let reads = reads.chain(std::mem::take(&mut self.fresh_reads));
        let once = self.once.release();
        let all = own.chain(queued).chain(once).chain(reads.map(|read| read.waiter));
        answer(all.map(|waiter| (waiter, Outcome::Stopped)), me);
    }

    fn on_file(&mut self, event: FileEvent, stage: &mut Stage<Self>) {
        match event {
            FileEvent::Listed(names) => self.on_listed(&names, stage),
            FileEvent::Read { id, found } => self.on_read(id, found, stage),
            FileEvent::Refused { id, why } => self.on_refused(id, &why, stage),
            FileEvent::Saved { id, .. } => self.on_saved(id, stage),
            FileEvent::Asked { id, under_way } => self.on_asked(id, under_way, stage),
            // Answers to what only a courier asks.
            FileEvent::Part { .. }
            | FileEvent::Written { .. }
            | FileEvent::Failed { .. }
            | FileEvent::Resumed { .. }
            | FileEvent::Adopted { .. } => {}
        }
    }

    fn status(&self) -> Status {
        Status {
            leader: self.leader.map(|node| node.0),
            applied: self.next.0 - 1,
            checkpointed: self.checkpointed.index.0,
            commands: self.commands,
            duplicates: self.duplicates,
            waiting: self.waiting() as u64,
            ready: self.machine.is_some(),
            size: self.machine.as_ref().map_or((0, 0), M::size),
            log_bytes: self.bytes_since_checkpoint,
            taken: self.taken,
            installed: self.installed,
            fetched: self.carried,
        }
    }
}

/// Sends answers, those of neighbours with one address together.
pub(crate) fn answer<R>(answers: impl Iterator<Item = (Waiter<R>, Outcome<R>)>, me: Name) {
    let mut together: Option<(Outlet<Answers<R>>, Answers<R>)> = None;
    for (Waiter { token, reply }, outcome) in answers {
        match &mut together {
            Some((outlet, list)) if *outlet == reply => list.push((token, outcome)),
            _ => {
                if let Some((outlet, list)) = together.replace((reply, vec![(token, outcome)])) {
                    outlet.send(me, list);
                }
            }
        }
    }
    if let Some((outlet, list)) = together {
        outlet.send(me, list);
    }
}

impl<M: StateMachine> Role for RsmActor<M> {
    type Message = Message<M>;
    type Timer = Timer;

    fn started(&mut self, stage: &mut Stage<Self>) {
        self.list(stage);
    }

    fn receive(&mut self, from: Name, message: Message<M>, stage: &mut Stage<Self>) {
        let waits = |message: &Message<M>| {
            matches!(
                message,
                Message::Submit(_)
                    | Message::Peek { .. }
                    | Message::Engine(_)
                    | Message::Courier(_)
            )
        };
        if self.machine.is_none() && waits(&message) {
            if let Message::Submit(submit) = &message {
                let requests = self.early_requests + submit.requests.len();
                if requests > self.config.waiting_max {
                    let busy = |(token, _): &(u64, _)| (*token, Outcome::Busy);
                    let answers = submit.requests.iter().map(busy).collect();
                    return submit.reply.send(stage.name(), answers);
                }
                self.early_requests = requests;
            }
            return self.early.push((from, message));
        }
        match message {
            Message::Submit(submit) => self.on_submit(submit, stage),
            Message::Peek { commands, reply } => {
                let Some(machine) = &self.machine else { return };
                let answer = |(token, command): &(u64, M::Command)| {
                    (*token, Outcome::Done(machine.query(command)))
                };
                reply.send(stage.name(), commands.iter().map(answer).collect());
            }
            Message::Engine(Event::Chosen { entries, position }) => {
                self.on_chosen(entries, position, stage);
            }
            // It waits until it is applied, or dropped.
            Message::Engine(Event::Offered { place: Some(_), .. }) => {}
            Message::Engine(Event::Offered { id, place: None }) => {
                self.once.give_up(id, &Outcome::NotPlaced, stage.name());
                self.pump(stage);
            }
            Message::Engine(Event::Dropped { id }) => {
                self.once.give_up(id, &Outcome::Displaced, stage.name());
                self.pump(stage);
            }
            Message::Engine(Event::Behind { ask, index }) => self.on_behind(ask, index, stage),
            Message::Engine(Event::Barrier { id, from }) => self.on_barrier(id, from, stage),
            Message::Engine(Event::Role { leader }) => {
                self.leader = leader;
                self.tell_watcher(stage);
            }
            // Of no concern to a machine: see the steward.
            Message::Engine(Event::Configured { .. }) => {}
            Message::Engine(Event::SubscribeAgain) => self.go_on(stage),
            Message::Engine(Event::ProposeAgain) => {
                self.propose_again(false, stage.name());
                self.once.forgotten(stage.name());
                self.pump(stage);
            }
            Message::File(event) => self.on_file(event, stage),
            Message::Restored(restored) => self.on_restored(*restored, stage),
            Message::Courier(event) => self.on_courier(event, stage),
            Message::Engine(Event::Save) => self.checkpoint_if(true, stage),
            Message::TakeCheckpoint => self.checkpoint_if(true, stage),
            Message::Stop => self.stop(stage.name()),
            Message::AskStatus(reply) => reply.send(stage.name(), self.status()),
        }
    }

    fn flush(&mut self, stage: &mut Stage<Self>) {
        self.pump(stage);
    }

    fn on_timer(&mut self, Timer::Again: Timer, stage: &mut Stage<Self>) {
        if self.machine.is_none() {
            match self.reading {
                Reading::File(_) => {
                    self.ask_files(stage);
                    self.wake_again(stage);
                }
                Reading::Listing | Reading::Nothing => self.list(stage),
            }
            return;
        }
        self.propose_again(true, stage.name());
        self.fetch(stage);
        if self.ask_files(stage) || self.behind.is_some() {
            self.wake_again(stage);
        }
        self.pump(stage);
    }
}
