//! Operations of clerks without sessions, which the server submits as its own.

use std::collections::BTreeMap;

use quorate_protocol::NodeId;
use quorate_rsm::{Answers, Outcome, REPLIES_MAX, Request};

use crate::{
    messages::{Op, Reply},
    request::Served,
};

/// Operations under way at one time; beyond, they are refused. Well below the number of replies
/// that are kept for one session.
pub(crate) const SESSIONLESS_MAX: usize = REPLIES_MAX / 2;

/// Whom an answer goes to: the clerk's node, its life, and its number.
type Clerk = (NodeId, u64, u64);

/// What is under way on behalf of clerks without sessions.
pub(crate) struct Door {
    /// Drawn at random: the client_id of all of them.
    session: u64,
    last_serial: u64,
    pending: BTreeMap<u64, Clerk>,
    /// What is pending through this serial was so already when the timer was set.
    old: u64,
}

impl Door {
    pub(crate) fn new(session: u64) -> Self {
        Door { session, last_serial: 0, pending: BTreeMap::new(), old: 0 }
    }

    pub(crate) fn session(&self) -> u64 {
        self.session
    }

    pub(crate) fn is_idle(&self) -> bool {
        self.pending.is_empty()
    }

    /// Names operations, each by a serial of ours. What is not taken in has its answer already.
    pub(crate) fn admit(
        &mut self,
        clerk: NodeId,
        client_id: u64,
        ops: Vec<(u64, Op)>,
    ) -> (Vec<(u64, Request<Op>)>, Served) {
        let (mut named, mut refused) = (vec![], vec![]);
        for (copy, command) in ops {
            if self.pending.len() >= SESSIONLESS_MAX || !command.is_sessionless() {
                refused.push((copy, Outcome::Busy));
                continue;
            }
            self.last_serial += 1;
            self.pending.insert(self.last_serial, (clerk, client_id, copy));
            named.push((self.last_serial, command));
        }
        let acked_below = self.acked_below();
        let client_id_own = self.session;
        let request = |(serial, command)| {
            (serial, Request { client_id: client_id_own, serial, acked_below, after: 0, command })
        };
        (named.into_iter().map(request).collect(), Served { client_id, answers: refused })
    }

    fn acked_below(&self) -> u64 {
        self.pending.first_key_value().map_or(self.last_serial + 1, |(serial, _)| *serial)
    }

    /// Sorts answers by the clerks that they are for.
    pub(crate) fn settle(&mut self, answers: Answers<Reply>) -> Vec<(NodeId, Served)> {
        let mut served: BTreeMap<(NodeId, u64), Answers<Reply>> = BTreeMap::new();
        for (own, answer) in answers {
            if let Some((clerk, client_id, copy)) = self.pending.remove(&own) {
                served.entry((clerk, client_id)).or_default().push((copy, answer));
            }
        }
        let served = served.into_iter();
        served.map(|((node, client_id), answers)| (node, Served { client_id, answers })).collect()
    }

    /// Gives up what was pending at the last look already: its answer is lost (an actor has
    /// crashed), or its clerk has asked elsewhere long ago. Should it be applied after all, and
    /// something later before it, it counts as answered.
    pub(crate) fn sweep(&mut self) {
        self.pending = self.pending.split_off(&(self.old + 1));
        self.old = self.last_serial;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn get() -> Op {
        Op::Get { key: "k".into() }
    }

    #[test]
    fn answers_go_to_whoever_asked_and_nothing_is_kept() {
        let mut door = Door::new(7);
        let (one, _) = door.admit(NodeId(1001), 41, vec![(5, get()), (6, get())]);
        let (two, _) = door.admit(NodeId(1002), 42, vec![(5, get())]);
        assert_eq!(two[0].1.acked_below, 1, "the first is still open");
        let answers = [&one[1], &two[0], &one[0]].map(|(own, _)| (*own, Outcome::Stopped));
        let served = door.settle(answers.to_vec());
        let to = |node, client_id, serials: &[u64]| {
            let answers = serials.iter().map(|serial| (*serial, Outcome::Stopped)).collect();
            (NodeId(node), Served { client_id, answers })
        };
        assert_eq!(served, [to(1001, 41, &[6, 5]), to(1002, 42, &[5])]);
        assert!(door.is_idle());
        let (next, _) = door.admit(NodeId(1001), 41, vec![(7, get())]);
        assert_eq!((next[0].1.serial, next[0].1.acked_below), (4, 4));
    }

    #[test]
    fn what_needs_a_session_and_what_is_too_much_has_no_effect() {
        let mut door = Door::new(7);
        let append = Op::Append { key: "k".into(), value: "v".into() };
        let (named, refused) = door.admit(NodeId(1001), 41, vec![(1, append), (2, get())]);
        assert_eq!(named.len(), 1);
        assert_eq!(refused.answers, [(1, Outcome::Busy)]);
        let many = (3..3 + SESSIONLESS_MAX as u64).map(|serial| (serial, get())).collect();
        let (_, refused) = door.admit(NodeId(1001), 41, many);
        assert_eq!(refused.answers, [(2 + SESSIONLESS_MAX as u64, Outcome::Busy)]);
    }

    #[test]
    fn what_is_never_answered_is_given_up() {
        let mut door = Door::new(7);
        door.admit(NodeId(1001), 41, vec![(1, get())]);
        door.sweep();
        assert!(!door.is_idle(), "it may just have come");
        door.admit(NodeId(1001), 41, vec![(2, get())]);
        door.sweep();
        assert!(!door.is_idle());
        door.sweep();
        assert!(door.is_idle());
    }
}
