//! The clerk's mailbox.

use std::{collections::BTreeMap, time::Duration};

use quorate_kvserver::{
    Condition, KEY_BYTES_MAX, KvError, Message as ToServer, Op, Reply, Served, VALUE_BYTES_MAX,
};
use quorate_protocol::{
    Name, NodeId,
    planted::{Bug, is_planted},
};
use quorate_rsm::{Outcome as Answer, Request, STALE_MS};
use quorate_stage::{Link, Mailbox, Outlet, Role, Stage};
use tokio::time::Instant;

use crate::messages::{Message, Outcome, Outcomes, Refusal};

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

/// Which servers a clerk may ask, in its order of preference.
pub struct Servers {
    /// The nodes.
    pub nodes: Vec<NodeId>,
    /// The kvserver of the clerk's own node, if it has one.
    pub local: Option<Mailbox<ToServer>>,
    /// Those of other nodes.
    pub remote: Option<Link<ToServer>>,
    /// Who is told when the clerk starts: outcomes that a former life owed will not come.
    pub started: Option<Outlet<()>>,
}

/// What a clerk asks to be woken for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Timer {
    /// Look for operations that have waited too long.
    Patience,
}

struct Pending {
    op: Op,
    token: u64,
    reply: Outlet<Outcomes>,
    since: Instant,
    /// When to ask the next server.
    due: Instant,
    /// Whether a former copy may be, or may have been, carried out.
    again: bool,
    /// Whether the last copy certainly was not and will not be.
    void: bool,
}

/// The clerk's actor.
pub struct Clerk {
    config: Config,
    servers: Servers,
    /// Which of the servers is asked now.
    current: usize,
    client_id: u64,
    last_serial: u64,
    pending: BTreeMap<u64, Pending>,
    stopped: bool,
    /// Whether the timer was set to run out soon.
    hurries: bool,
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
        Clerk {
            config,
            servers,
            current: 0,
            client_id: stage.chance().number(),
            last_serial: 0,
            pending: BTreeMap::new(),
            stopped: false,
            hurries: false,
        }
    }

    fn on_submit(&mut self, ops: Vec<(u64, Op)>, reply: Outlet<Outcomes>, stage: &mut Stage<Self>) {
        let now = stage.now();
        let (mut serials, mut refused) = (vec![], vec![]);
        for (token, op) in ops {
            let refusal = if self.stopped {
                Some(Refusal::NotReady)
            } else if too_long(&op) {
                Some(Refusal::TooLong)
            } else if !self.config.sessions && !op.is_sessionless() {
                Some(Refusal::NeedsSession)
            } else if self.pending.len() >= self.config.under_way_max {
                Some(Refusal::Busy)
            } else {
                None
            };
            if let Some(refusal) = refusal {
                refused.push((token, Outcome::Refused(refusal)));
                continue;
            }
            self.last_serial += 1;
            let (reply, due) = (reply.clone(), now + self.config.retry);
            let pending = Pending { op, token, reply, since: now, due, again: false, void: false };
            self.pending.insert(self.last_serial, pending);
            serials.push(self.last_serial);
        }
        if !refused.is_empty() {
            reply.send(stage.name(), refused);
        }
        self.send(&serials, stage);
        self.watch(stage);
    }

    fn message(&self, serials: &[u64]) -> Option<ToServer> {
        let client_id = self.client_id;
        if !self.config.sessions {
            let op = |serial: &u64| Some((*serial, self.pending.get(serial)?.op.clone()));
            let ops: Vec<(u64, Op)> = serials.iter().filter_map(op).collect();
            return (!ops.is_empty()).then_some(ToServer::ServeSessionless { client_id, ops });
        }
        let acked_below = self.acked_below();
        let requests = serials.iter().filter_map(|serial| {
            let pending = self.pending.get(serial)?;
            let command = pending.op.clone();
            Some(Request { client_id, serial: *serial, acked_below, command })
        });
        let requests: Vec<Request<Op>> = requests.collect();
        (!requests.is_empty()).then_some(ToServer::Serve { requests })
    }

    fn send(&self, serials: &[u64], stage: &Stage<Self>) {
        let Some(message) = self.message(serials) else { return };
        let node = self.servers.nodes[self.current % self.servers.nodes.len()];
        match (&self.servers.local, &self.servers.remote) {
            (Some(local), _) if local.name().node == node => local.send(stage.name(), message),
            (_, Some(remote)) => remote.send(stage.name(), node, &message),
            _ => {}
        }
    }

    fn acked_below(&self) -> u64 {
        if is_planted(Bug::AcknowledgedTooEarly) {
            return self.last_serial + 1;
        }
        self.pending.first_key_value().map_or(self.last_serial + 1, |(serial, _)| *serial)
    }

    /// Sets the timer, unless it is set. It is coarse: half the patience.
    fn watch(&self, stage: &mut Stage<Self>) {
        if !self.pending.is_empty() && !stage.timer_is_set(&Timer::Patience) {
            stage.set_timer(Timer::Patience, self.config.retry / 2);
        }
    }

    fn on_served(&mut self, served: Served, stage: &mut Stage<Self>) {
        if served.client_id != self.client_id {
            return;
        }
        let soon = stage.now() + PAUSE;
        let mut hurry = false;
        let mut outcomes: Vec<(Outlet<Outcomes>, Outcomes)> = vec![];
        for (serial, answer) in served.answers {
            let Some(pending) = self.pending.get_mut(&serial) else { continue };
            let outcome = match answer {
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
                    pending.void = matches!(answer, Answer::Busy | Answer::NotPlaced);
                    pending.due = pending.due.min(soon);
                    hurry = true;
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
                Answer::Stopped | Answer::Displaced if self.servers.nodes.len() > 1 => continue,
                Answer::Stopped | Answer::Displaced => Outcome::Unknown,
            };
            let Some(pending) = self.pending.remove(&serial) else { continue };
            match outcomes.last_mut() {
                Some((reply, list)) if *reply == pending.reply => {
                    list.push((pending.token, outcome))
                }
                _ => outcomes.push((pending.reply, vec![(pending.token, outcome)])),
            }
        }
        for (reply, list) in outcomes {
            reply.send(stage.name(), list);
        }
        // Not moved by every answer: it would never run out.
        if hurry && !std::mem::replace(&mut self.hurries, true) {
            stage.set_timer(Timer::Patience, PAUSE);
        }
    }

    /// Gives up what is past its deadline, asks the next server about what waits too long.
    fn on_patience(&mut self, stage: &mut Stage<Self>) {
        self.hurries = false;
        let now = stage.now();
        let patience = self.config.deadline.unwrap_or(KNOWN).min(KNOWN);
        let over = |pending: &Pending| now - pending.since >= patience;
        let over: Vec<u64> =
            self.pending.iter().filter(|(_, p)| over(p)).map(|(serial, _)| *serial).collect();
        for serial in over {
            let Some(pending) = self.pending.remove(&serial) else { continue };
            let outcome = match pending.op.is_read() {
                true => Outcome::Refused(Refusal::NoQuorum),
                false => Outcome::Unknown,
            };
            pending.reply.send(stage.name(), vec![(pending.token, outcome)]);
        }
        let mut slow: Vec<u64> = self
            .pending
            .iter()
            .filter(|(_, pending)| now >= pending.due)
            .map(|(serial, _)| *serial)
            .collect();
        if is_planted(Bug::RetryIsAnotherCommand) {
            for serial in &mut slow {
                let Some(pending) = self.pending.remove(serial) else { continue };
                self.last_serial += 1;
                *serial = self.last_serial;
                self.pending.insert(*serial, pending);
            }
        }
        if !slow.is_empty() {
            self.current = (self.current + 1) % self.servers.nodes.len();
            for serial in &slow {
                if let Some(pending) = self.pending.get_mut(serial) {
                    pending.due = now + self.config.retry;
                    pending.again |= !pending.void;
                    pending.void = false;
                }
            }
            self.send(&slow, stage);
        }
        self.watch(stage);
    }

    fn stop(&mut self, stage: &mut Stage<Self>) {
        self.stopped = true;
        for (_, pending) in std::mem::take(&mut self.pending) {
            let outcome = match pending.op.is_read() {
                true => Outcome::Refused(Refusal::NotReady),
                false => Outcome::Unknown,
            };
            pending.reply.send(stage.name(), vec![(pending.token, outcome)]);
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
    }

    fn receive(&mut self, _: Name, message: Message, stage: &mut Stage<Self>) {
        match message {
            Message::Submit { ops, reply } => self.on_submit(ops, reply, stage),
            Message::Administer { calls, reply } => {
                let refused = Outcome::Refused(Refusal::NotReady);
                let outcomes = calls.iter().map(|(token, _)| (*token, refused.clone())).collect();
                reply.send(stage.name(), outcomes);
            }
            Message::Served(served) => self.on_served(served, stage),
            Message::Stop => self.stop(stage),
        }
    }

    fn on_timer(&mut self, Timer::Patience: Timer, stage: &mut Stage<Self>) {
        self.on_patience(stage);
    }
}
