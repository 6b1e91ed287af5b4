//! At most once: what was applied for whom.
//!
//! Every command carries a client and a serial (Raft, section 8). The check is made when a command
//! is applied, so it is part of the replicated state: the same on every replica, in every snapshot.
//! A client may have many commands under way; each names the lowest serial that it still waits
//! for, and replies below are dropped.

use std::{collections::BTreeMap, ops::Bound, sync::Arc};

use serde::{Deserialize, Serialize};

/// Replies kept for one client; beyond, the oldest is dropped and its command counts as applied.
pub const REPLIES_MAX: usize = 16 * 1024;
/// A client that is silent for so long, in log time, is forgotten: one hour.
pub const EXPIRY_MS: u64 = 60 * 60 * 1000;
/// A batch that was stamped so long before the log time at which it is applied is not carried out:
/// its clients may have been forgotten, and nobody waits for it.
pub const STALE_MS: u64 = EXPIRY_MS / 2;

/// What is known of one client.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct Session<R> {
    /// Every serial below was answered, and the client knows.
    acked_below: u64,
    replies: BTreeMap<u64, R>,
    last_ms: u64,
}

/// Whether a command may be applied.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Verdict<R> {
    /// It is new.
    Apply,
    /// It was applied before, and this was the answer.
    Replay(R),
    /// It was applied before, and the answer is not kept any more.
    Forgotten,
}

/// The sessions of every scope.
#[derive(Clone, Debug)]
pub struct Scopes<R>(pub(crate) BTreeMap<u16, Sessions<R>>);

impl<R> Default for Scopes<R> {
    fn default() -> Self {
        Scopes(BTreeMap::new())
    }
}

impl<R: Clone> Scopes<R> {
    /// Takes the sessions of a scope that leaves this machine.
    pub fn take(&mut self, scope: u16) -> Sessions<R> {
        self.0.remove(&scope).unwrap_or_default()
    }

    /// Puts in the sessions of a scope that has come from another machine. Nothing may have been applied
    /// in that scope here.
    pub fn put(&mut self, scope: u16, sessions: Sessions<R>) {
        if !sessions.is_empty() {
            let former = self.0.insert(scope, sessions);
            assert!(
                former.is_none_or(|former| former.is_empty()),
                "R2: scope {scope} has sessions"
            );
        }
    }

    /// Of a scope; `None` if nothing was applied there.
    pub fn get(&self, scope: u16) -> Option<&Sessions<R>> {
        self.0.get(&scope)
    }
}

/// One client's session, to be sent to another machine.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct SessionImage<R>(Arc<Session<R>>);

impl<R> SessionImage<R> {
    /// About how many bytes it takes, if its replies are short.
    pub fn weight(&self) -> usize {
        32 + 32 * self.0.replies.len()
    }
}

/// The clients of one scope. A clone shares every session until one of the two changes it.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Sessions<R> {
    pub(crate) clients: BTreeMap<u64, Arc<Session<R>>>,
    pub(crate) swept_ms: u64,
}

impl<R> Default for Sessions<R> {
    fn default() -> Self {
        Sessions { clients: BTreeMap::new(), swept_ms: 0 }
    }
}

impl<R: Clone> Sessions<R> {
    /// Looks a command up.
    pub fn check(&self, client_id: u64, serial: u64) -> Verdict<R> {
        match self.clients.get(&client_id) {
            None => Verdict::Apply,
            Some(session) if serial < session.acked_below => Verdict::Forgotten,
            Some(session) => match session.replies.get(&serial) {
                Some(reply) => Verdict::Replay(reply.clone()),
                None => Verdict::Apply,
            },
        }
    }

    /// Notes that a command was applied, and that the client waits for nothing below
    /// `acked_below`.
    pub fn applied(
        &mut self,
        client_id: u64,
        serial: u64,
        acked_below: u64,
        reply: R,
        time_ms: u64,
    ) {
        let new = || Session { acked_below: 0, replies: BTreeMap::new(), last_ms: time_ms };
        let session = self.clients.entry(client_id).or_insert_with(|| Arc::new(new()));
        let session = Arc::make_mut(session);
        session.last_ms = time_ms;
        session.replies.insert(serial, reply);
        if acked_below > session.acked_below {
            session.acked_below = acked_below;
            session.replies = session.replies.split_off(&acked_below);
        }
        while session.replies.len() > REPLIES_MAX {
            if let Some((serial, _)) = session.replies.pop_first() {
                session.acked_below = serial + 1;
            }
        }
        if time_ms.saturating_sub(self.swept_ms) >= EXPIRY_MS / 60 {
            self.swept_ms = time_ms;
            self.clients.retain(|_, session| time_ms.saturating_sub(session.last_ms) < EXPIRY_MS);
        }
    }

    /// The sessions of clients after one, in order.
    pub fn after(&self, client_id: Option<u64>) -> impl Iterator<Item = (u64, SessionImage<R>)> {
        let from = client_id.map_or(Bound::Unbounded, Bound::Excluded);
        let range = self.clients.range((from, Bound::Unbounded));
        range.map(|(client_id, session)| (*client_id, SessionImage(session.clone())))
    }

    /// Takes over a session from another machine, at this time of our log. The two logs do not share a
    /// time, so the client counts as having been heard of just now.
    pub fn adopt(&mut self, client_id: u64, image: SessionImage<R>, time_ms: u64) {
        let mut session = image.0;
        Arc::make_mut(&mut session).last_ms = time_ms;
        self.swept_ms = self.swept_ms.max(time_ms);
        self.clients.insert(client_id, session);
    }

    /// Number of clients.
    pub fn len(&self) -> usize {
        self.clients.len()
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.clients.is_empty()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_repeated_command_is_replayed_and_an_acknowledged_one_is_forgotten() {
        let mut sessions = Sessions::default();
        assert_eq!(sessions.check(7, 1), Verdict::Apply);
        sessions.applied(7, 1, 1, "one", 0);
        sessions.applied(7, 3, 1, "three", 0);
        assert_eq!(sessions.check(7, 1), Verdict::Replay("one"));
        assert_eq!(sessions.check(7, 2), Verdict::Apply, "serials may overtake each other");
        sessions.applied(7, 4, 3, "four", 0);
        assert_eq!(sessions.check(7, 1), Verdict::Forgotten);
        assert_eq!(sessions.check(7, 2), Verdict::Forgotten, "acknowledged without having come");
        assert_eq!(sessions.check(7, 3), Verdict::Replay("three"));
        assert_eq!(sessions.check(8, 3), Verdict::Apply);
    }

    #[test]
    fn replies_are_bounded_and_what_is_dropped_is_never_applied_again() {
        let mut sessions = Sessions::default();
        for serial in 1..=REPLIES_MAX as u64 + 5 {
            sessions.applied(7, serial, 1, serial, 0);
        }
        assert_eq!(sessions.check(7, 5), Verdict::Forgotten);
        assert_eq!(sessions.check(7, 6), Verdict::Replay(6));
    }

    #[test]
    fn a_silent_client_is_forgotten_by_log_time() {
        let mut sessions = Sessions::default();
        sessions.applied(7, 1, 1, (), 1000);
        sessions.applied(8, 1, 1, (), EXPIRY_MS);
        assert_eq!(sessions.len(), 2);
        sessions.applied(8, 2, 1, (), EXPIRY_MS + 61_000);
        assert_eq!(sessions.len(), 1);
    }
}
