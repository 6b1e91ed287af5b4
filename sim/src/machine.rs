//! Any state machine on a simulated cluster, for whoever writes one.
//!
//! ```text
//!   test ── call(n1, command) ──> rsm of n1 ──> engine ──> the machine on n1, n2, n3
//!        ── crash(n1, Role::Rsm, ..), kill(n2), start(n2) ──>
//! ```
//!
//! [`Replicas::call`] plays the service and its client in one: it asks again, under the same client
//! and serial, until there is an answer. So every command takes effect once, whatever is crashed or
//! killed meanwhile, and a test only has to count.

use std::{cell::RefCell, collections::BTreeMap, rc::Rc, sync::Arc, time::Duration};

use quorate_node::{Group, replicated};
use quorate_persistence::Owners;
use quorate_protocol::{Name, NodeId, Role};
use quorate_rsm::{Answers, Message, Outcome, Placing, Request, StateMachine, Status, Submit};
use quorate_stage::{CrashMode, Node, Outlet, Transport};
use tokio::{
    task::AbortHandle,
    time::{Instant, timeout},
};

use crate::{
    layout::GROUP,
    world::{Options, World, ask, run},
};

/// How long a call waits for its answer before it asks again.
const PATIENCE: Duration = Duration::from_secs(2);
/// How long it asks at all, in virtual time: whatever takes longer will not end.
const CALL_MAX: Duration = Duration::from_secs(600);
/// How long it waits when the answer is that there is none.
const PAUSE: Duration = Duration::from_millis(10);

/// Runs `test` on a cluster of `servers` replicas of a machine, each of which begins as `empty`, in
/// a world of its own: one thread, seeded chance, virtual time.
///
/// # Panics
/// As [`run`]: when the test does, or when an actor panicked by itself.
pub fn run_machine<M: StateMachine, T>(
    seed: u64,
    servers: u32,
    empty: fn() -> M,
    test: impl AsyncFnOnce(Replicas<M>) -> T,
) -> T {
    run_machine_with(seed, Options::servers(servers), empty, test)
}

/// The same, in a world that is made as `options` say.
///
/// # Panics
/// As [`run`].
pub fn run_machine_with<M: StateMachine, T>(
    seed: u64,
    options: Options,
    empty: fn() -> M,
    test: impl AsyncFnOnce(Replicas<M>) -> T,
) -> T {
    run(seed, options, async |world| {
        let replicas = Replicas { world, empty, running: Rc::default() };
        for node in replicas.world.servers() {
            replicas.start(node);
        }
        test(replicas).await
    })
}

struct Replica<M: StateMachine> {
    stage: Node,
    group: Group<M>,
    aborts: Vec<AbortHandle>,
}

/// A running cluster of replicas of one machine. All clones are the same cluster.
pub struct Replicas<M: StateMachine> {
    world: World,
    empty: fn() -> M,
    running: Rc<RefCell<BTreeMap<NodeId, Replica<M>>>>,
}

impl<M: StateMachine> Clone for Replicas<M> {
    fn clone(&self) -> Self {
        let (world, running) = (self.world.clone(), self.running.clone());
        Replicas { world, empty: self.empty, running }
    }
}

impl<M: StateMachine> Replicas<M> {
    /// The world they live in: its network, its disks, its time.
    pub fn world(&self) -> &World {
        &self.world
    }

    /// Has a command carried out by the replica on `node`, once, and answers its reply. Waits for
    /// ten minutes of virtual time, so that a node may be away.
    ///
    /// # Panics
    /// If there is no reply by then, or it has been dropped by the replicas, which keep it until the
    /// client has it.
    pub async fn call(&self, node: NodeId, command: M::Command) -> M::Reply {
        // A client for each command: the serial says all there is to say.
        let client_id = self.world.below(u64::MAX);
        let began = Instant::now();
        while began.elapsed() < CALL_MAX {
            let request = Request {
                client_id,
                serial: 1,
                acked_below: 1,
                after: 0,
                command: command.clone(),
            };
            let answers = self.ask(node, |reply: Outlet<Answers<M::Reply>>| {
                let (requests, placing) = (vec![(0, request)], Placing::UntilApplied);
                Message::Submit(Submit { requests, placing, reply })
            });
            let outcome = timeout(PATIENCE, answers).await.ok().flatten();
            match outcome.and_then(|answers| answers.into_iter().next()) {
                Some((_, Outcome::Done(reply))) => return reply,
                Some((_, Outcome::Forgotten)) => panic!("a reply that is waited for was dropped"),
                // Refused, or lost with an actor: the same serial again.
                Some(_) | None => {
                    tokio::time::sleep(PAUSE).await;
                }
            }
        }
        panic!("{command:?} at {node} has no answer after {CALL_MAX:?}; set QUORATE_TRACE=file");
    }

    /// The labs' `submit` (6.5840 2026, Lab 4A): has a command placed by the replica on `node`, once,
    /// if it leads. `None`: the replica is gone, and the command may still be carried out.
    pub async fn submit(&self, node: NodeId, command: M::Command) -> Option<Outcome<M::Reply>> {
        let client_id = self.world.below(u64::MAX);
        let request = Request { client_id, serial: 1, acked_below: 1, after: 0, command };
        let answers = self.ask(node, |reply: Outlet<Answers<M::Reply>>| {
            let (requests, placing) = (vec![(0, request)], Placing::Once);
            Message::Submit(Submit { requests, placing, reply })
        });
        answers.await?.into_iter().next().map(|(_, outcome)| outcome)
    }

    /// Has the replica on `node` let go everybody who waits, as a node does that stops.
    pub fn stop(&self, node: NodeId) {
        if let Some(replica) = self.running.borrow().get(&node) {
            let stop = Message::Stop;
            replica.group.rsm.send(Name::of_node(node, Role::Outside), stop);
        }
    }

    /// Kills every replica, waits for a second, and starts them again.
    pub async fn restart_all(&self) {
        for node in self.world.servers() {
            self.kill(node);
        }
        self.world.sleep_ms(1000).await;
        for node in self.world.servers() {
            self.start(node);
        }
    }

    /// The labs' RaftSize, see [`World::log_size`].
    pub async fn log_size(&self) -> u64 {
        let mut most = 0;
        for node in self.world.servers() {
            let engine = self.running.borrow().get(&node).map(|on| on.group.log_bytes.clone());
            let kept = match engine {
                Some(engine) => {
                    ask(|reply| engine.send(Name::of_node(node, Role::Outside), reply)).await
                }
                None => None,
            };
            most = most.max(kept.unwrap_or_else(|| self.world.journal_bytes(node)));
        }
        most
    }

    /// Where the replica on `node` stands; `None` if it does not run.
    pub async fn status(&self, node: NodeId) -> Option<Status> {
        self.ask(node, Message::AskStatus).await
    }

    async fn ask<A: Send + 'static>(
        &self,
        node: NodeId,
        question: impl FnOnce(Outlet<A>) -> Message<M>,
    ) -> Option<A> {
        let rsm = self.running.borrow().get(&node)?.group.rsm.clone();
        ask(|reply| rsm.send(Name::of_node(node, Role::Outside), question(reply))).await
    }

    /// Crashes an actor of the group on `node`; it restarts in place, from what is durable.
    ///
    /// # Panics
    /// If there is none of that role.
    pub fn crash(&self, node: NodeId, role: Role, mode: CrashMode) {
        let running = self.running.borrow();
        let crashed =
            running.get(&node).map(|on| on.stage.crash(Name::new(node, GROUP, role), mode));
        assert!(matches!(crashed, Some(Ok(()))), "no {role} runs on {node}");
    }

    /// Starts the replica on `node`.
    ///
    /// # Panics
    /// If it runs already.
    pub fn start(&self, node: NodeId) {
        self.world.begin(node);
        let (stage, owners, mut aborts) = (self.world.stage_of(node), Owners::default(), vec![]);
        let journal = self.world.journal(&stage, &owners, &mut aborts);
        let files = self.world.files(&stage, &mut aborts);
        let transport: Arc<dyn Transport> = Arc::new(self.world.net.clone());
        let config = self.world.config(node);
        let group =
            replicated(&stage, &config, Arc::new(self.empty), None, &transport, &journal, &files);
        aborts.extend(group.aborts.iter().cloned());
        self.world.net.plug_in(Some(node), group.ports.clone());
        let former = self.running.borrow_mut().insert(node, Replica { stage, group, aborts });
        assert!(former.is_none(), "{node} runs already");
    }

    /// Kills the replica on `node`: its actors end where they are, its disk loses what was not
    /// synced.
    ///
    /// # Panics
    /// If it does not run.
    pub fn kill(&self, node: NodeId) {
        let gone = self.running.borrow_mut().remove(&node);
        let Some(gone) = gone else { panic!("{node} does not run") };
        self.world.end(node, &gone.aborts);
    }
}
