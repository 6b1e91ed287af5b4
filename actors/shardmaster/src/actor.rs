//! The shardmaster's mailbox: the door of its group for clerks and movers.

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use quorate_protocol::Name;
use quorate_rsm::{Answers, Message as ToRsm, Outcome, Placing, Request, Submit};
use quorate_stage::{Mailbox, Outlet, Role, Stage};
use tokio::time::Instant;

use crate::{
    ShardMaster,
    door::{Message, Notice},
    messages::{Command, Reply},
};

/// Askers that may wait for a configuration at one time. Each node has one for each of its groups; who
/// comes beyond is answered by another replica, or later.
const WAITING_MAX: usize = 16 * 1024;

/// After so long a read that was not answered counts as lost.
const AGAIN: Duration = Duration::from_secs(2);

/// The ways to those who ask.
pub type Askers = Arc<dyn Fn(Name, Name, Notice) + Send + Sync>;

/// Who waits, and for what.
struct Waiting {
    asker: Name,
    above: u64,
    next: bool,
}

/// The shardmaster's actor.
pub struct ShardMasterActor {
    rsm: Mailbox<ToRsm<ShardMaster>>,
    askers: Askers,
    /// Who is told that this door knows of nobody who waits.
    started: Outlet<()>,
    /// By number of the question.
    waiting: BTreeMap<u64, Waiting>,
    last: u64,
    /// Since when a read is under way.
    reading: Option<Instant>,
}

impl ShardMasterActor {
    /// The door in front of `rsm`.
    pub fn new(rsm: Mailbox<ToRsm<ShardMaster>>, askers: Askers, started: Outlet<()>) -> Self {
        ShardMasterActor { rsm, askers, started, waiting: BTreeMap::new(), last: 0, reading: None }
    }

    fn peek(&self, questions: impl Iterator<Item = u64>, stage: &Stage<Self>) {
        let command = |question: u64| {
            let waiting = self.waiting.get(&question)?;
            let number = waiting.next.then(|| waiting.above.saturating_add(1));
            Some((question, Command::Query { number }))
        };
        let commands: Vec<(u64, Command)> = questions.filter_map(command).collect();
        if !commands.is_empty() {
            let mailbox = stage.mailbox().clone();
            let reply = Outlet::from_fn(move |from, answers| {
                mailbox.send(from, Message::Peeked(answers));
            });
            self.rsm.send(stage.name(), ToRsm::Peek { commands, reply });
        }
    }

    fn on_await(&mut self, asker: Name, above: u64, next: bool, stage: &Stage<Self>) {
        self.waiting.retain(|_, waiting| waiting.asker != asker);
        if self.waiting.len() < WAITING_MAX {
            self.last += 1;
            self.waiting.insert(self.last, Waiting { asker, above, next });
            self.peek(std::iter::once(self.last), stage);
            self.read(stage);
        }
    }

    /// Reads through the log, on behalf of all that wait. What is applied here may be old, and after the
    /// death of many replicas nobody may know what was chosen last, until somebody wants to know.
    fn read(&mut self, stage: &Stage<Self>) {
        let now = stage.now();
        if self.reading.is_some_and(|since| now - since < AGAIN) {
            return;
        }
        self.reading = Some(now);
        let mailbox = stage.mailbox().clone();
        let reply = Outlet::from_fn(move |from, _: Answers<Reply>| {
            mailbox.send(from, Message::HasRead);
        });
        let command = Command::Query { number: None };
        let request = Request { client_id: 0, serial: 0, acked_below: 0, after: 0, command };
        let submit = Submit { requests: vec![(0, request)], placing: Placing::UntilApplied, reply };
        self.rsm.send(stage.name(), ToRsm::Submit(submit));
    }

    fn on_peeked(&mut self, answers: Answers<Reply>, me: Name) {
        for (question, answer) in answers {
            let Outcome::Done(Reply::Configuration(configuration)) = answer else { continue };
            let passed = |waiting: &Waiting| configuration.number > waiting.above;
            if self.waiting.get(&question).is_some_and(passed)
                && let Some(waiting) = self.waiting.remove(&question)
            {
                (self.askers)(me, waiting.asker, Notice::Told(configuration));
            }
        }
    }

    fn on_call(&self, clerk: Name, requests: Vec<Request<Command>>, stage: &Stage<Self>) {
        let Some(client_id) = requests.first().map(|request| request.client_id) else { return };
        let mailbox = stage.mailbox().clone();
        let reply = Outlet::from_fn(move |from, answers| {
            mailbox.send(from, Message::Answered { to: clerk, client_id, answers });
        });
        let requests = requests.into_iter().map(|request| (request.serial, request)).collect();
        let submit = Submit { requests, placing: Placing::UntilApplied, reply };
        self.rsm.send(stage.name(), ToRsm::Submit(submit));
    }
}

impl Role for ShardMasterActor {
    type Message = Message;
    type Timer = ();

    fn started(&mut self, stage: &mut Stage<Self>) {
        self.started.send(stage.name(), ());
    }

    fn receive(&mut self, from: Name, message: Message, stage: &mut Stage<Self>) {
        match message {
            Message::Await { above, next } => self.on_await(from, above, next, stage),
            Message::Call { requests } => self.on_call(from, requests, stage),
            Message::Stirred(_) => self.peek(self.waiting.keys().copied(), stage),
            Message::HasRead => {
                self.reading = None;
                self.peek(self.waiting.keys().copied(), stage);
            }
            Message::Peeked(answers) => self.on_peeked(answers, stage.name()),
            Message::Answered { to, client_id, answers } => {
                (self.askers)(stage.name(), to, Notice::Called { client_id, answers });
            }
        }
    }
}
