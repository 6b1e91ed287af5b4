//! Asks the rsm where it stands: one question at a time, and with a limit.

use std::{
    fmt,
    sync::{Arc, Mutex, MutexGuard, Weak},
    time::Duration,
};

use quorate_protocol::Name;
use quorate_rsm::Status;
use quorate_stage::Outlet;
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

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(|poisoned| poisoned.into_inner())
}

/// A question under way, and who waits for its answer; None once it has come. Only the outlet
/// that the rsm was given keeps it alive, so that a lost question is known to be lost.
struct Question(Mutex<Option<Vec<oneshot::Sender<Status>>>>);

/// Asks on behalf of everybody.
pub(crate) struct Asker {
    me: Name,
    ask: Outlet<Outlet<Status>>,
    current: Mutex<Weak<Question>>,
}

impl Asker {
    pub(crate) fn new(me: Name, ask: Outlet<Outlet<Status>>) -> Self {
        Asker { me, ask, current: Mutex::default() }
    }

    /// Where the rsm stands.
    pub(crate) async fn status(&self) -> Result<Status, NoStatus> {
        match timeout(STATUS_TIMEOUT, self.question()).await {
            Ok(Ok(status)) => Ok(status),
            Ok(Err(_)) => Err(NoStatus::Lost),
            Err(_) => Err(NoStatus::Late),
        }
    }

    /// Joins the question that is under way, or puts one.
    fn question(&self) -> oneshot::Receiver<Status> {
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
        let reply = Outlet::from_fn(move |_, status: Status| {
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

    type Asked = Arc<Mutex<Vec<Outlet<Status>>>>;

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
            reply.send(me, Status { applied: 7, ..Status::default() });
            // A second answer, or a late one, is nobody's.
            reply.send(me, Status::default());
        });
        assert_eq!((both.0.unwrap().applied, both.1.unwrap().applied), (7, 7));
        assert_eq!(asked.lock().unwrap().len(), 1);
    }

    #[tokio::test(start_paused = true)]
    async fn a_lost_question_is_put_again() {
        let (asker, asked, me) = asker();
        let lost = tokio::join!(asker.status(), async { asked.lock().unwrap().clear() });
        assert_eq!(lost.0, Err(NoStatus::Lost));
        let answered = tokio::join!(asker.status(), async {
            let reply = asked.lock().unwrap().pop().unwrap();
            reply.send(me, Status::default());
        });
        assert!(answered.0.is_ok());
    }
}
