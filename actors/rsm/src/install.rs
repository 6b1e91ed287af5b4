//! Checkpoints: when one is made, and how a replica goes on from one: its own when it starts, that
//! of another replica when it has fallen behind.
//!
//! ```text
//!   engine          rsm                            courier      files
//!     |              | -- List, Read --------------------------> |   at the start: the newest one
//!     |              | <- Restored ----------------------------- |   made on their thread
//!     | <- Forget -- |
//!     | <- Subscribe |
//!     |                ...
//!     | -- Behind -> | -- Fetch ------------------> |            |
//!     |              | <- Fetched ----------------- |            |
//!     |              | -- Read --------------------------------> |
//!     |              | <- Restored ----------------------------- |   if it is ahead of us: ours now
//!     | <- Forget, Subscribe
//! ```

use quorate_courier::{Event as CourierEvent, Message as ToCourier};
use quorate_persistence::{FilesMessage, Numbered};
use quorate_protocol::{
    NodeId,
    log::{Index, Request as ToEngine},
    planted::{Bug, is_planted},
};
use quorate_stage::Stage;

use crate::{
    actor::{Batch, OwnBatch, RsmActor, Timer, answer},
    checkpoint::{self, Books, Restored},
    machine::StateMachine,
    messages::{Outcome, Request},
    sessions::{Scopes, Verdict},
};

/// What is being read from the files.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Reading {
    Nothing,
    /// Which checkpoints are there.
    Listing,
    /// The checkpoint of this index.
    File(Index),
}

impl<M: StateMachine> RsmActor<M> {
    /// First of all: which checkpoints are there?
    pub(crate) fn list(&mut self, stage: &mut Stage<Self>) {
        let (dir, reply) = (self.config.checkpoints.clone(), stage.mailbox().outlet());
        self.reading = Reading::Listing;
        self.wiring.files.send(stage.name(), FilesMessage::List { dir, reply });
        stage.set_timer(Timer::Again, self.config.propose_again);
    }

    pub(crate) fn on_listed(&mut self, names: &[String], stage: &mut Stage<Self>) {
        if self.reading != Reading::Listing {
            return;
        }
        let numbers = names.iter().filter_map(|name| match Numbered::of(name) {
            Some(Numbered::Checkpoint(index)) => Some(index),
            _ => None,
        });
        match numbers.max() {
            Some(index) => self.read(Index(index), stage),
            None => {
                self.reading = Reading::Nothing;
                self.machine = Some((self.empty)());
                self.begin(stage);
            }
        }
    }

    fn path(&self, index: Index) -> std::path::PathBuf {
        Numbered::Checkpoint(index.0).path(&self.config.checkpoints)
    }

    fn read(&mut self, index: Index, stage: &mut Stage<Self>) {
        self.reading = Reading::File(index);
        let reader = Restored::<M>::reader(stage.mailbox().outlet());
        let (path, reply) = (self.path(index), stage.mailbox().outlet());
        let read = FilesMessage::Read { path, id: index.0, reader, reply };
        self.wiring.files.send(stage.name(), read);
        self.wake_again(stage);
    }

    pub(crate) fn wake_again(&self, stage: &mut Stage<Self>) {
        if !stage.timer_is_set(&Timer::Again) {
            stage.set_timer(Timer::Again, self.config.propose_again);
        }
    }

    /// All of a file has gone to its reader, or it is not there.
    pub(crate) fn on_read(&mut self, id: u64, found: bool, stage: &mut Stage<Self>) {
        if self.reading != Reading::File(Index(id)) {
            return;
        }
        self.reading = Reading::Nothing;
        if !found && self.machine.is_none() {
            self.list(stage);
        }
    }

    pub(crate) fn on_refused(&self, id: u64, why: &str, stage: &Stage<Self>) {
        let path = self.path(Index(id));
        stage.fatal(format!(
            "the checkpoint {} cannot be used: {why}. Its checksums are right, so it was written \
             by another version of quorate; start that version",
            path.display()
        ));
    }

    /// The files' actor may have crashed over what it was asked. Answers whether anything is open.
    pub(crate) fn ask_files(&self, stage: &Stage<Self>) -> bool {
        let ask = |index: Index| {
            let (path, reply) = (self.path(index), stage.mailbox().outlet());
            let ask = FilesMessage::Ask { path, id: index.0, reply };
            self.wiring.files.send(stage.name(), ask);
        };
        if let Some(saving) = &self.saving {
            ask(saving.index);
        }
        if let Reading::File(index) = self.reading {
            ask(index);
        }
        self.saving.is_some() || matches!(self.reading, Reading::File(_))
    }

    /// What the files say of a long request. Answers come in order, so what is neither under way
    /// nor answered is lost.
    pub(crate) fn on_asked(&mut self, id: u64, under_way: bool, stage: &mut Stage<Self>) {
        if under_way {
            return;
        }
        if self.saving.take_if(|saving| saving.index == Index(id)).is_some() {
            // Whether it was due or asked for.
            self.checkpoint_if(true, stage);
        } else if self.reading == Reading::File(Index(id)) {
            match self.machine {
                None => self.list(stage),
                Some(_) => self.read(Index(id), stage),
            }
        }
    }

    pub(crate) fn on_restored(&mut self, restored: Restored<M>, stage: &mut Stage<Self>) {
        let index = restored.position.index;
        let late = match self.machine {
            // The log was quicker.
            Some(_) => index < self.next,
            // Asked for by a former life of ours, and perhaps not the newest.
            None => self.reading != Reading::File(index),
        };
        if late {
            return self.wiring.files.send(stage.name(), FilesMessage::Drop(Box::new(restored)));
        }
        let Restored { machine, scopes, origins, time_ms, position } = restored;
        let former = self.machine.replace(machine);
        let former = (former, std::mem::replace(&mut self.scopes, scopes));
        if !is_planted(Bug::OriginsNotRestored) {
            self.origins = origins;
        }
        self.time_ms = time_ms;
        self.clock.learn(time_ms, stage.node().uptime());
        self.next = position.index.next();
        self.position = position.clone();
        self.checkpointed = position;
        (self.bytes_since_checkpoint, self.garbage_bytes) = (0, 0);
        if former.0.is_none() {
            // What the engine has kept below, it may keep: others may lag.
            self.kept_from = Index(1);
            return self.begin(stage);
        }
        self.kept_from = self.next;
        self.saving = None;
        self.installed += 1;
        self.wiring.files.send(stage.name(), FilesMessage::Drop(Box::new(former)));
        self.tell_watcher(stage);
        self.settle_behind(stage);
        self.answer_installed(stage);
        self.go_on(stage);
        self.answer_barred(stage.name());
        self.pump(stage);
    }

    /// The machine is there: the log goes on behind it.
    fn begin(&mut self, stage: &mut Stage<Self>) {
        stage.cancel_timer(&Timer::Again);
        self.go_on(stage);
        self.early_requests = 0;
        self.tell_watcher(stage);
        for (from, message) in std::mem::take(&mut self.early) {
            quorate_stage::Role::receive(self, from, message, stage);
        }
    }

    /// Tells the engine what is durable here, and from where on the log is wanted.
    pub(crate) fn go_on(&self, stage: &Stage<Self>) {
        self.forget(stage);
        self.wiring.log.send(stage.name(), ToEngine::Subscribe { from: self.next });
    }

    /// Tells the engine and the courier what is durable here.
    fn forget(&self, stage: &Stage<Self>) {
        if self.checkpointed.index > Index(0) {
            let (saved, below) = (self.checkpointed.clone(), self.kept_from);
            let kept = ToCourier::Kept { index: saved.index };
            self.wiring.log.send(stage.name(), ToEngine::Forget { saved, below });
            self.wiring.courier.send(stage.name(), kept);
        }
    }

    /// Own batches that the installed state holds already are answered from its sessions. They were
    /// applied once, before it was made (R2): to propose them again would be of no effect, since
    /// their origin is further.
    fn answer_installed(&mut self, stage: &mut Stage<Self>) {
        let through = self.origins.last_seq(self.node, self.life);
        let later = self.own.split_off(&(through + 1));
        let covered = std::mem::replace(&mut self.own, later);
        let Some(machine) = &self.machine else { return };
        let once = self.once.take_covered(&self.origins);
        for OwnBatch { command, waiters, .. } in covered.into_values().chain(once) {
            let Ok(batch) = rmp_serde::from_slice::<Batch<M::Command>>(&command) else { continue };
            let outcomes = batch.requests.into_iter().map(|request| {
                let Request { client_id, serial, command, .. } = request;
                if M::is_read(&command) {
                    return Outcome::Done(machine.query(&command));
                }
                // It has left, with what was kept of its clients: it may have been carried out before.
                if machine.refusal(&command).is_some() {
                    return Outcome::Displaced;
                }
                let sessions = self.scopes.get(machine.scope(&command));
                match sessions.map(|sessions| sessions.check(client_id, serial)) {
                    Some(Verdict::Replay(reply)) => Outcome::Done(reply),
                    _ => Outcome::Forgotten,
                }
            });
            answer(waiters.into_iter().zip(outcomes), stage.name());
        }
    }

    /// The log that comes next here is forgotten by those who have it.
    pub(crate) fn on_behind(&mut self, ask: NodeId, index: Index, stage: &mut Stage<Self>) {
        if index < self.next {
            return;
        }
        self.behind = Some((ask, index));
        self.fetch(stage);
        self.wake_again(stage);
    }

    pub(crate) fn fetch(&self, stage: &Stage<Self>) {
        if let (Some((from, index)), Reading::Nothing) = (self.behind, self.reading) {
            self.wiring.courier.send(stage.name(), ToCourier::Fetch { from, index });
        }
    }

    /// Whether what was wanted of others is here by now.
    pub(crate) fn settle_behind(&mut self, stage: &Stage<Self>) {
        if self.behind.is_some_and(|(_, index)| index < self.next) {
            self.behind = None;
            self.carried = None;
            self.wiring.courier.send(stage.name(), ToCourier::Enough);
        }
    }

    pub(crate) fn on_courier(&mut self, event: CourierEvent, stage: &mut Stage<Self>) {
        match event {
            CourierEvent::Carried { done, total, .. } => {
                self.carried = self.behind.map(|_| (done, total));
            }
            CourierEvent::Fetched { index } => {
                self.carried = None;
                if index >= self.next && self.reading != Reading::File(index) {
                    self.read(index, stage);
                }
            }
            // It says so itself, and tries again.
            CourierEvent::Failed { .. } => self.carried = None,
        }
    }

    /// One generation of the log stays for replicas that lag a little, so a checkpoint is due after
    /// half of what may be kept. What the state has got rid of counts too: it is on the disk until a
    /// checkpoint is made without it.
    pub(crate) fn checkpoint_if_due(&mut self, stage: &mut Stage<Self>) {
        let max = self.config.log_bytes_max;
        let bytes = self.bytes_since_checkpoint.saturating_add(self.garbage_bytes);
        let due = max != u64::MAX && bytes >= (max / 2).max(1);
        self.checkpoint_if(due, stage);
    }

    /// Makes a checkpoint of what is applied, unless one is under way or there is nothing new.
    pub(crate) fn checkpoint_if(&mut self, due: bool, stage: &mut Stage<Self>) {
        let whole = self.position.index.next() == self.next;
        if !due || !whole || self.saving.is_some() || self.position == self.checkpointed {
            return;
        }
        let Some(machine) = &self.machine else { return };
        self.generation_bytes = std::mem::take(&mut self.bytes_since_checkpoint);
        self.garbage_bytes = 0;
        let position = self.position.clone();
        let books = Books {
            position: position.clone(),
            time_ms: self.time_ms,
            origins: self.origins.clone(),
            scopes: match is_planted(Bug::SessionsNotSaved) {
                true => Scopes::default(),
                false => self.scopes.clone(),
            },
        };
        let writer = checkpoint::writer(books, machine.snapshot());
        let (path, id) = (self.path(position.index), position.index.0);
        if is_planted(Bug::ForgottenBeforeSaved) {
            self.kept_from = position.index.next();
            self.checkpointed = position.clone();
            self.forget(stage);
        }
        self.saving = Some(position);
        let save = FilesMessage::Save { path, id, writer, reply: stage.mailbox().outlet() };
        self.wiring.files.send(stage.name(), save);
        self.wake_again(stage);
    }

    pub(crate) fn on_saved(&mut self, id: u64, stage: &mut Stage<Self>) {
        if let Some(saved) = self.saving.take_if(|saving| saving.index == Index(id)) {
            self.taken += 1;
            // A generation that came all at once may be more than what may be kept.
            let kept = self.generation_bytes <= self.config.log_bytes_max;
            let former = if kept { &self.checkpointed } else { &saved };
            self.kept_from = former.index.next();
            self.checkpointed = saved;
            self.forget(stage);
        }
        self.checkpoint_if_due(stage);
    }
}
