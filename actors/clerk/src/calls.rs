//! What is asked of the shardmaster: few calls, each carried out once.

use std::collections::BTreeMap;

use quorate_rsm::{Outcome as Answer, Request};
use quorate_shardmaster::{Command, Message as ToMaster, Reply};
use quorate_stage::Outlet;
use tokio::time::Instant;

use crate::messages::{Administered, Outcome, Refusal};

/// Calls under way at one time; beyond, they are refused.
const CALLS_MAX: usize = 256;

struct Call {
    command: Command,
    token: u64,
    reply: Outlet<Administered>,
    since: Instant,
}

/// The calls under way.
pub(crate) struct Calls {
    client_id: u64,
    last: u64,
    open: BTreeMap<u64, Call>,
}

fn is_read(command: &Command) -> bool {
    matches!(command, Command::Query { .. })
}

impl Calls {
    /// None yet; `client_id` is drawn at random.
    pub(crate) fn new(client_id: u64) -> Self {
        Calls { client_id, last: 0, open: BTreeMap::new() }
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.open.is_empty()
    }

    /// Takes calls on; answers those that it does not.
    pub(crate) fn add(
        &mut self,
        calls: Vec<(u64, Command)>,
        reply: &Outlet<Administered>,
        since: Instant,
    ) -> Administered {
        let mut refused = vec![];
        for (token, command) in calls {
            if self.open.len() >= CALLS_MAX {
                refused.push((token, Outcome::Refused(Refusal::Busy)));
                continue;
            }
            self.last += 1;
            let call = Call { command, token, reply: reply.clone(), since };
            self.open.insert(self.last, call);
        }
        refused
    }

    /// All of them, to be sent.
    pub(crate) fn message(&self) -> Option<ToMaster> {
        let acked_below = *self.open.first_key_value()?.0;
        let client_id = self.client_id;
        let request = |(serial, call): (&u64, &Call)| {
            let command = call.command.clone();
            Request { client_id, serial: *serial, acked_below, after: 0, command }
        };
        Some(ToMaster::Call { requests: self.open.iter().map(request).collect() })
    }

    /// Takes answers; gives the outcomes, and whom to tell.
    pub(crate) fn settle(
        &mut self,
        client_id: u64,
        answers: Vec<(u64, Answer<Reply>)>,
    ) -> Vec<(Outlet<Administered>, Administered)> {
        if client_id != self.client_id {
            return vec![];
        }
        let mut outcomes = vec![];
        for (serial, answer) in answers {
            let outcome = match answer {
                Answer::Done(reply) => Outcome::Done(reply),
                Answer::Forgotten => Outcome::Unknown,
                // Another copy may be carried out: it is asked for again.
                _ => continue,
            };
            if let Some(call) = self.open.remove(&serial) {
                outcomes.push((call.reply, vec![(call.token, outcome)]));
            }
        }
        outcomes
    }

    /// Gives up what `is_over`, by when it was asked.
    pub(crate) fn give_up(
        &mut self,
        is_over: impl Fn(Instant) -> bool,
        refusal: Refusal,
    ) -> Vec<(Outlet<Administered>, Administered)> {
        let over = self.open.iter().filter(|(_, call)| is_over(call.since));
        let over: Vec<u64> = over.map(|(serial, _)| *serial).collect();
        let gone = over.into_iter().filter_map(|serial| self.open.remove(&serial));
        gone.map(|call| {
            let outcome = match is_read(&call.command) {
                true => Outcome::Refused(refusal),
                false => Outcome::Unknown,
            };
            (call.reply, vec![(call.token, outcome)])
        })
        .collect()
    }
}
