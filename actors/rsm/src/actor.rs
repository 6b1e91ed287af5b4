//! The rsm's mailbox: batches in, the log through the machine, answers out.

use std::{
    collections::{BTreeMap, VecDeque},
    path::PathBuf,
    time::Duration,
};

use bytes::Bytes;
use quorate_persistence::{FileEvent, FilesMessage, Writer};
use quorate_protocol::{
    Name, NodeId,
    log::{Chosen, Event, Index, Position, Proposal, ProposalId, Request as ToEngine},
};
use quorate_stage::{Outlet, Role, Stage};
use serde::{Deserialize, Serialize};

use crate::{
    machine::{At, StateMachine},
    messages::{Answers, Message, Outcome, Placing, Request, Status, Submit},
    once::Once,
    origins::Origins,
    sessions::{STALE_MS, Sessions, Verdict},
};

/// What an rsm is told once.
#[derive(Clone, Debug)]
pub struct Config {
    /// Where the checkpoint lies.
    pub checkpoint: PathBuf,
    /// Bytes of log after which a checkpoint is made (the labs' maxraftstate).
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
    pub fn new(checkpoint: PathBuf) -> Self {
        Config {
            checkpoint,
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
}

/// What an rsm asks to be woken for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Timer {
    /// Something may have been forgotten: say it again.
    Again,
}

/// What goes into the log, encoded once for all replicas.
#[derive(Serialize, Deserialize)]
struct Batch<C> {
    /// Stamp of the proposer's clock.
    time_ms: u64,
    /// Whether it is placed once only: see R4.
    once: bool,
    requests: Vec<Request<C>>,
}

/// The start of a checkpoint; the machine's own snapshot follows.
#[derive(Serialize, Deserialize)]
struct Heading<R> {
    position: Position,
    time_ms: u64,
    origins: Origins,
    scopes: BTreeMap<u16, Sessions<R>>,
}

/// Format of a checkpoint.
const CHECKPOINT_FORMAT: u32 = 2;

pub(crate) struct Waiter<R> {
    pub(crate) token: u64,
    pub(crate) reply: Outlet<Answers<R>>,
}

struct OwnBatch<R> {
    command: Bytes,
    waiters: Vec<Waiter<R>>,
    /// Was under way already when the timer was set.
    old: bool,
}

/// Commands that wait for room in a batch.
pub(crate) type Queue<M> =
    VecDeque<(Request<<M as StateMachine>::Command>, Waiter<<M as StateMachine>::Reply>)>;

struct Read<M: StateMachine> {
    command: M::Command,
    waiter: Waiter<M::Reply>,
}

/// The rsm's actor, hosting a machine.
pub struct RsmActor<M: StateMachine> {
    config: Config,
    wiring: Wiring,
    node: NodeId,
    /// Drawn at random: the identities of this life's proposals begin with it.
    life: u64,
    /// None until the checkpoint has been read; what comes meanwhile waits.
    machine: Option<M>,
    early: Vec<(Name, Message<M>)>,
    empty: fn() -> M,
    scopes: BTreeMap<u16, Sessions<M::Reply>>,
    origins: Origins,
    next: Index,
    time_ms: u64,
    queue: Queue<M>,
    /// Of the last batch, and of the last read barrier.
    last_seq: u64,
    last_barrier: u64,
    own: BTreeMap<u64, OwnBatch<M::Reply>>,
    /// What is to be placed once.
    once: Once<M>,
    /// Reads that came since the last barrier was asked for.
    fresh_reads: Vec<Read<M>>,
    /// Reads by the barrier that was asked for on their behalf.
    asked_reads: BTreeMap<u64, Vec<Read<M>>>,
    /// Reads that wait for an index to be applied.
    barred_reads: BTreeMap<Index, Vec<Read<M>>>,
    bytes_since_checkpoint: u64,
    /// Where the log stands after what is applied.
    position: Position,
    /// The checkpoint that is being written.
    saving: Option<Position>,
    checkpointed: Position,
    leader: Option<NodeId>,
    stopped: bool,
    commands: u64,
    duplicates: u64,
}

impl<M: StateMachine> RsmActor<M> {
    /// An rsm whose machine is read from its checkpoint, or begins as `empty`.
    pub fn new(config: Config, wiring: Wiring, empty: fn() -> M, stage: &mut Stage<Self>) -> Self {
        let node = stage.name().node;
        RsmActor {
            config,
            wiring,
            node,
            life: stage.chance().number(),
            once: Once::new(node, stage.chance().number()),
            machine: None,
            early: vec![],
            empty,
            scopes: BTreeMap::new(),
            origins: Origins::default(),
            next: Index(1),
            time_ms: 0,
            queue: VecDeque::new(),
            last_seq: 0,
            last_barrier: 0,
            own: BTreeMap::new(),
            fresh_reads: vec![],
            asked_reads: BTreeMap::new(),
            barred_reads: BTreeMap::new(),
            bytes_since_checkpoint: 0,
            position: Position::default(),
            saving: None,
            checkpointed: Position::default(),
            leader: None,
            stopped: false,
            commands: 0,
            duplicates: 0,
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
        for (token, request) in requests {
            let waiter = Waiter { token, reply: reply.clone() };
            if M::is_read(&request.command) && !self.config.reads_in_log {
                self.fresh_reads.push(Read { command: request.command, waiter });
            } else {
                match placing {
                    Placing::UntilApplied => self.queue.push_back((request, waiter)),
                    Placing::Once => self.once.push(request, waiter),
                }
            }
        }
        stage.request_flush();
    }

    /// Proposes what has gathered, and asks for a barrier if reads have come.
    fn pump(&mut self, stage: &mut Stage<Self>) {
        while self.own.len() < self.config.batches_in_flight_max && !self.queue.is_empty() {
            let count = self.queue.len().min(self.config.batch_commands_max);
            let (requests, waiters): (Vec<_>, Vec<_>) = self.queue.drain(..count).unzip();
            let command = self.encode(requests, false, stage);
            self.last_seq += 1;
            let id = self.id(self.last_seq);
            let own = OwnBatch { command: command.clone(), waiters, old: false };
            self.own.insert(id.seq, own);
            let proposal = Proposal { id, command };
            self.wiring.proposals.send(stage.name(), ToEngine::Propose(proposal));
        }
        if let Some(requests) = self.once.take(self.config.batch_commands_max) {
            let command = self.encode(requests, true, stage);
            self.once.offer(command, &self.wiring.proposals, stage.name());
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
        // Never behind log time: a slow clock must not make a batch look stale.
        let time_ms = stage.node().wall_ms().max(self.time_ms);
        let batch = Batch { time_ms, once, requests };
        let batch = rmp_serde::to_vec(&batch);
        batch.expect("commands are plain data, which always encodes").into()
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
            if index != self.next {
                continue;
            }
            self.next = index.next();
            if let Some(Proposal { id, command }) = proposal {
                self.bytes_since_checkpoint += command.len() as u64;
                self.apply(index, id, &command, stage);
            }
        }
        if position.index.next() == self.next {
            self.position = position;
        }
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
        let stale = batch.time_ms + STALE_MS < self.time_ms;
        let at = At { index, time_ms: self.time_ms };
        let mine = id.node == self.node && id.life == self.life;
        if !self.origins.admit(id, batch.once, self.time_ms) {
            // R4. Not the next one of its origin: a copy of one that was applied, or one that came
            // before its predecessor.
            if mine && self.own.contains_key(&id.seq) {
                self.begin_new_life(stage);
            }
            // One that came after its successor will never be applied.
            self.once.give_up(id, &Outcome::NotPlaced, stage.name());
            return;
        }
        let waiters = match mine {
            true => self.own.remove(&id.seq).map(|own| own.waiters),
            false => self.once.settle(id),
        };
        let mut answers = Vec::with_capacity(waiters.as_ref().map_or(0, Vec::len));
        for request in batch.requests {
            let Request { client_id, serial, acked_below, command } = request;
            let outcome = if M::is_read(&command) {
                Outcome::Done(machine.query(&command))
            } else if stale {
                Outcome::Forgotten
            } else {
                let sessions = self.scopes.entry(M::scope(&command)).or_default();
                match sessions.check(client_id, serial) {
                    Verdict::Apply => {
                        let reply = machine.apply(at, command);
                        self.commands += 1;
                        let kept = reply.clone();
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
        if let Some(waiters) = waiters {
            answer(waiters.into_iter().zip(answers), stage.name());
        }
    }

    /// What is open is proposed again, in order, as the batches of a new life: the old ones may
    /// not be applied any more. At most once holds all the same, by the sessions.
    fn begin_new_life(&mut self, stage: &mut Stage<Self>) {
        self.life = stage.chance().number();
        let open = std::mem::take(&mut self.own);
        self.last_seq = open.len() as u64;
        self.own = (1..).zip(open.into_values()).collect();
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
    fn answer_barred(&mut self, me: Name) {
        let Some(machine) = &self.machine else { return };
        let later = self.barred_reads.split_off(&self.next.next());
        let passed = std::mem::replace(&mut self.barred_reads, later);
        let reads = passed.into_values().flatten();
        let answered = reads.map(|read| (read.waiter, Outcome::Done(machine.query(&read.command))));
        answer(answered, me);
    }

    fn checkpoint_if_due(&mut self, stage: &mut Stage<Self>) {
        if self.bytes_since_checkpoint < self.config.log_bytes_max || self.saving.is_some() {
            return;
        }
        let Some(machine) = &self.machine else { return };
        self.bytes_since_checkpoint = 0;
        let position = self.position.clone();
        let id = position.index.0;
        let heading = Heading {
            position: position.clone(),
            time_ms: self.time_ms,
            origins: self.origins.clone(),
            scopes: self.scopes.clone(),
        };
        let state = machine.snapshot();
        let writer: Writer = Box::new(move |sink| {
            let heading =
                rmp_serde::to_vec(&heading).expect("replies are plain data, which always encodes");
            sink.write(&CHECKPOINT_FORMAT.to_le_bytes())?;
            sink.write(&(heading.len() as u64).to_le_bytes())?;
            sink.write(&heading)?;
            state(sink)
        });
        self.saving = Some(position);
        let path = self.config.checkpoint.clone();
        let reply = stage.mailbox().outlet();
        let save = FilesMessage::Save { path, id, writer, reply };
        self.wiring.files.send(stage.name(), save);
        if !stage.timer_is_set(&Timer::Again) {
            stage.set_timer(Timer::Again, self.config.propose_again);
        }
    }

    fn on_saved(&mut self, id: u64, me: Name) {
        if let Some(saved) = self.saving.take_if(|saving| saving.index == Index(id)) {
            self.checkpointed = saved;
            self.forget(me);
        }
    }

    /// Tells the engine what is durable here.
    fn forget(&self, me: Name) {
        if self.checkpointed.index > Index(0) {
            let saved = self.checkpointed.clone();
            let below = saved.index.next();
            self.wiring.log.send(me, ToEngine::Forget { saved, below });
        }
    }

    fn load(&self, stage: &mut Stage<Self>) {
        let reply = stage.mailbox().outlet();
        let path = self.config.checkpoint.clone();
        self.wiring.files.send(stage.name(), FilesMessage::Load { path, reply });
        stage.set_timer(Timer::Again, self.config.propose_again);
    }

    fn on_loaded(&mut self, content: Option<Bytes>, stage: &mut Stage<Self>) {
        if self.machine.is_some() {
            return;
        }
        let restored = match content {
            None => Ok((self.empty)()),
            Some(bytes) => self.restore(&bytes),
        };
        match restored {
            Ok(machine) => self.machine = Some(machine),
            Err(error) => {
                let path = self.config.checkpoint.display();
                return stage.fatal(format!(
                    "the checkpoint {path} cannot be used: {error}. Its checksum is right, so it \
                     was written by another version of quorate; start that version"
                ));
            }
        }
        self.forget(stage.name());
        self.wiring.log.send(stage.name(), ToEngine::Subscribe { from: self.next });
        stage.cancel_timer(&Timer::Again);
        for (from, message) in std::mem::take(&mut self.early) {
            self.receive(from, message, stage);
        }
    }

    fn restore(&mut self, bytes: &[u8]) -> Result<M, String> {
        let (format, rest) = bytes.split_first_chunk::<4>().ok_or("it is cut short")?;
        let format = u32::from_le_bytes(*format);
        if format != CHECKPOINT_FORMAT {
            return Err(format!("format {format}, this version reads {CHECKPOINT_FORMAT}"));
        }
        let (len, rest) = rest.split_first_chunk::<8>().ok_or("it is cut short")?;
        let len = usize::try_from(u64::from_le_bytes(*len)).map_err(|error| error.to_string())?;
        let (heading, state) = rest.split_at_checked(len).ok_or("it is cut short")?;
        let heading: Heading<M::Reply> =
            rmp_serde::from_slice(heading).map_err(|error| error.to_string())?;
        let machine = M::restore(state)?;
        self.scopes = heading.scopes;
        self.origins = heading.origins;
        self.time_ms = heading.time_ms;
        self.next = heading.position.index.next();
        self.position = heading.position.clone();
        self.checkpointed = heading.position;
        Ok(machine)
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
        self.load(stage);
    }

    fn receive(&mut self, from: Name, message: Message<M>, stage: &mut Stage<Self>) {
        if self.machine.is_none()
            && !matches!(message, Message::File(_) | Message::AskStatus(_) | Message::Stop)
        {
            return self.early.push((from, message));
        }
        match message {
            Message::Submit(submit) => self.on_submit(submit, stage),
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
            Message::Engine(Event::Behind { .. }) => {}
            Message::Engine(Event::Barrier { id, from }) => self.on_barrier(id, from, stage),
            Message::Engine(Event::Role { leader }) => self.leader = leader,
            Message::Engine(Event::SubscribeAgain) => {
                let from = self.next;
                self.wiring.log.send(stage.name(), ToEngine::Subscribe { from });
                self.forget(stage.name());
            }
            Message::Engine(Event::ProposeAgain) => {
                self.propose_again(false, stage.name());
                self.once.forgotten(stage.name());
                self.pump(stage);
            }
            Message::File(FileEvent::Loaded(content)) => self.on_loaded(content, stage),
            Message::File(FileEvent::Saved { id, .. }) => {
                self.on_saved(id, stage.name());
                self.checkpoint_if_due(stage);
            }
            Message::File(FileEvent::Asked { id }) => {
                // Answers come in order, so the checkpoint would have been reported before.
                if self.saving.take_if(|saving| saving.index == Index(id)).is_some() {
                    self.bytes_since_checkpoint = self.config.log_bytes_max;
                    self.checkpoint_if_due(stage);
                }
            }
            Message::Stop => self.stop(stage.name()),
            Message::AskStatus(reply) => reply.send(stage.name(), self.status()),
        }
    }

    fn flush(&mut self, stage: &mut Stage<Self>) {
        self.pump(stage);
    }

    fn on_timer(&mut self, Timer::Again: Timer, stage: &mut Stage<Self>) {
        if self.machine.is_none() {
            return self.load(stage);
        }
        self.propose_again(true, stage.name());
        if let Some(saving) = &self.saving {
            // The files' actor may have crashed over it.
            let ask = FilesMessage::Ask { id: saving.index.0, reply: stage.mailbox().outlet() };
            self.wiring.files.send(stage.name(), ask);
            stage.set_timer(Timer::Again, self.config.propose_again);
        }
        self.pump(stage);
    }
}
