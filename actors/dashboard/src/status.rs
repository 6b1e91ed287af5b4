//! Asks the rsm where it stands: one question at a time, and with a limit.

use std::{
    fmt,
    sync::{Arc, Mutex, MutexGuard, Weak},
    time::Duration,
};

use quorate_protocol::Name;
use quorate_rsm::Status;
use quorate_stage::Outlet;
use serde::{Deserialize, Serialize};
use tokio::{sync::oneshot, time::timeout};

/// So long the rsm may take to say where it stands.
pub const STATUS_TIMEOUT: Duration = Duration::from_secs(1);

/// Why there is no status.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum NoStatus {
    /// It did not answer in time.
    Late,
    /// The question was lost: the rsm restarted, or is gone.
    Lost,
}

impl fmt::Display for NoStatus {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            NoStatus::Late => write!(f, "the rsm has not answered within {STATUS_TIMEOUT:?}"),
            NoStatus::Lost => f.write_str("the rsm has lost the question: it restarts, or is gone"),
        }
    }
}

/// Where a node stands: all its replicas together, and each by itself.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct NodeStatus {
    /// Ready if all are; the leader is that of the first; the rest are sums.
    #[serde(flatten)]
    pub whole: Status,
    /// Each replica.
    #[serde(default)]
    pub groups: Vec<GroupStatus>,
}

/// Where the replica of a group stands.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct GroupStatus {
    /// The group; 0 is the shardmaster's.
    pub group: u32,
    /// Its rsm.
    #[serde(flatten)]
    pub status: Status,
    /// Its shards, where the store is divided.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub shards: Option<Shards>,
}

/// The shards of a group, as its replica has applied it.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Shards {
    /// The configuration that was taken over last.
    pub configuration: u64,
    /// Shards that are served.
    pub serving: u16,
    /// Those on their way.
    pub moving: Vec<MovingShard>,
}

/// A shard on its way.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct MovingShard {
    /// Its number.
    pub shard: u16,
    /// "leaving" (still served here), "given-up" or "awaited".
    pub phase: String,
    /// The other group.
    pub other: u32,
    /// Bytes that have come, or that are kept.
    pub bytes: u64,
    /// Bytes in all, once that is known.
    pub total: Option<u64>,
}

impl NodeStatus {
    /// Of these replicas.
    pub fn of(groups: Vec<GroupStatus>) -> Self {
        let mut all = groups.iter().map(|group| &group.status);
        let Some(mut whole) = all.next().cloned() else { return NodeStatus::default() };
        for status in all {
            whole.ready &= status.ready;
            whole.leader = whole.leader.or(status.leader);
            whole.applied += status.applied;
            whole.checkpointed += status.checkpointed;
            whole.commands += status.commands;
            whole.duplicates += status.duplicates;
            whole.waiting += status.waiting;
            whole.size = (whole.size.0 + status.size.0, whole.size.1 + status.size.1);
            whole.log_bytes += status.log_bytes;
            whole.taken += status.taken;
            whole.installed += status.installed;
            whole.fetched = whole.fetched.or(status.fetched);
        }
        NodeStatus { whole, groups }
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(|poisoned| poisoned.into_inner())
}

/// A question under way, and who waits for its answer; None once it has come. Only the outlet
/// that the rsm was given keeps it alive, so that a lost question is known to be lost.
struct Question(Mutex<Option<Vec<oneshot::Sender<NodeStatus>>>>);

/// Asks on behalf of everybody.
pub(crate) struct Asker {
    me: Name,
    ask: Outlet<Outlet<NodeStatus>>,
    current: Mutex<Weak<Question>>,
}

impl Asker {
    pub(crate) fn new(me: Name, ask: Outlet<Outlet<NodeStatus>>) -> Self {
        Asker { me, ask, current: Mutex::default() }
    }

    /// Where the replicas stand.
    pub(crate) async fn status(&self) -> Result<NodeStatus, NoStatus> {
        match timeout(STATUS_TIMEOUT, self.question()).await {
            Ok(Ok(status)) => Ok(status),
            Ok(Err(_)) => Err(NoStatus::Lost),
            Err(_) => Err(NoStatus::Late),
        }
    }

    /// Joins the question that is under way, or puts one.
    fn question(&self) -> oneshot::Receiver<NodeStatus> {
        let (answer, answered) = oneshot::channel();
        let mut current = lock(&self.current);
        if let Some(question) = current.upgrade()
            && let Some(waiting) = &mut *lock(&question.0)
        {
            waiting.retain(|waiter| !waiter.is_closed());
            waiting.push(answer);
            return answered;
        }
        let question = Arc::new(Question(Mutex::new(Some(vec![answer]))));
        *current = Arc::downgrade(&question);
        drop(current);
        let reply = Outlet::from_fn(move |_, status: NodeStatus| {
            for waiter in lock(&question.0).take().into_iter().flatten() {
                // Who has gone away meanwhile needs no answer.
                let _ = waiter.send(status.clone());
            }
        });
        self.ask.send(self.me, reply);
        answered
    }
}

#[cfg(test)]
mod tests {
    use quorate_protocol::{NodeId, Role};

    use super::*;

    type Asked = Arc<Mutex<Vec<Outlet<NodeStatus>>>>;

    fn asker() -> (Arc<Asker>, Asked, Name) {
        let (asked, me) = (Asked::default(), Name::of_node(NodeId(1), Role::Outside));
        let kept = asked.clone();
        let ask = Outlet::from_fn(move |_, reply| kept.lock().unwrap().push(reply));
        (Arc::new(Asker::new(me, ask)), asked, me)
    }

    #[tokio::test(start_paused = true)]
    async fn one_question_at_a_time_however_many_ask() {
        let (asker, asked, me) = asker();
        for _ in 0..3 {
            assert_eq!(asker.status().await, Err(NoStatus::Late));
        }
        assert_eq!(asked.lock().unwrap().len(), 1);

        let both = tokio::join!(asker.status(), asker.status(), async {
            let reply = asked.lock().unwrap()[0].clone();
            let whole = Status { applied: 7, ..Status::default() };
            reply.send(me, NodeStatus { whole, groups: vec![] });
            // A second answer, or a late one, is nobody's.
            reply.send(me, NodeStatus::default());
        });
        assert_eq!((both.0.unwrap().whole.applied, both.1.unwrap().whole.applied), (7, 7));
        assert_eq!(asked.lock().unwrap().len(), 1);
    }

    #[tokio::test(start_paused = true)]
    async fn a_lost_question_is_put_again() {
        let (asker, asked, me) = asker();
        let lost = tokio::join!(asker.status(), async { asked.lock().unwrap().clear() });
        assert_eq!(lost.0, Err(NoStatus::Lost));
        let answered = tokio::join!(asker.status(), async {
            let reply = asked.lock().unwrap().pop().unwrap();
            reply.send(me, NodeStatus::default());
        });
        assert!(answered.0.is_ok());
    }
}
