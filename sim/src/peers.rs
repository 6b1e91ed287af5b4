//! The labs' Paxos library, as its tests see it (2015 Lab 3A).

use bytes::Bytes;
use quorate_acceptor::Slot;
use quorate_learner::{Fate, Library, Message as ToLearner, View};
use quorate_node::Library as Running;
use quorate_proposer::{Message as ToProposer, Wish};
use quorate_protocol::{
    Name, NodeId, Role,
    log::{Proposal, ProposalId},
};
use quorate_stage::Outlet;
use tokio::sync::oneshot;

use crate::world::World;

/// How many of these peers know instance `seq` to be decided.
///
/// # Panics
/// When two of them know different values: the invariant of every row (specification, 0.3).
pub async fn deciders(peers: &[Peer], seq: u64) -> usize {
    let mut value = None;
    let mut count = 0;
    for peer in peers {
        let Some(decided) = peer.decided(seq).await else { continue };
        count += 1;
        let first = value.get_or_insert_with(|| decided.clone());
        assert!(*first == decided, "{} disagrees about instance {seq}", peer.node);
    }
    count
}

/// The labs' "wait for k": 30 polls, 10 ms apart and doubling to 1280 ms, about 30.7 s in all.
///
/// # Panics
/// When fewer than `wanted` peers know instance `seq` to be decided after that.
pub async fn wait_for(peers: &[Peer], seq: u64, wanted: usize) {
    let Some(world) = peers.first().map(|peer| peer.world.clone()) else { return };
    let mut pause = 10;
    let mut count = 0;
    for _ in 0..30 {
        count = deciders(peers, seq).await;
        if count >= wanted {
            return;
        }
        world.sleep_ms(pause).await;
        pause = (pause * 2).min(1280);
    }
    let tail = world.trace.tail(60);
    panic!("too few decided instance {seq}: {count} of {wanted}\n{tail}");
}

/// One peer: start, status, done, max, min.
#[derive(Clone)]
pub struct Peer {
    world: World,
    node: NodeId,
    started: std::rc::Rc<std::cell::Cell<u64>>,
}

impl Peer {
    /// The library on a running server.
    pub fn new(world: &World, node: NodeId) -> Self {
        Peer { world: world.clone(), node, started: Default::default() }
    }

    fn with_library(&self, act: impl FnOnce(&Running)) {
        let node = self.world.node(self.node);
        act(node.library.as_ref().expect("the rows of the library start it"));
    }

    fn outside(&self) -> Name {
        Name::of_node(self.node, Role::Outside)
    }

    /// start(seq, value): returns at once.
    pub fn start(&self, seq: u64, value: impl Into<Bytes>) {
        self.started.set(self.started.get() + 1);
        let id = ProposalId { node: self.node, life: self.world.seed, seq: self.started.get() };
        let proposal = Proposal { id, command: value.into() };
        let wish = Wish { slot: Some(Slot(seq)), proposal };
        self.with_library(|library| library.proposer.send(self.outside(), ToProposer::Start(wish)));
    }

    async fn view(&self, seq: u64) -> View {
        let (answer, answered) = oneshot::channel();
        let answer = std::sync::Mutex::new(Some(answer));
        let reply = Outlet::from_fn(move |_, view: View| {
            let answer = answer.lock().unwrap_or_else(|poisoned| poisoned.into_inner()).take();
            if let Some(answer) = answer {
                // Whoever has stopped waiting does not need it.
                let _ = answer.send(view);
            }
        });
        let ask = ToLearner::Library(Library::Ask { slot: Slot(seq), reply });
        self.with_library(|library| library.learner.send(self.outside(), ask));
        answered.await.expect("a learner answers from local knowledge, at once")
    }

    /// status(seq): from local state only. `None` as a value is a no-op, which the library never
    /// proposes.
    pub async fn status(&self, seq: u64) -> Fate {
        self.view(seq).await.fate
    }

    /// What was decided, if it is known here.
    pub async fn decided(&self, seq: u64) -> Option<Bytes> {
        match self.status(seq).await {
            Fate::Decided(value) => Some(value.expect("the library leaves holes open").command),
            Fate::Pending | Fate::Forgotten => None,
        }
    }

    /// done(seq): the application here needs nothing at or below.
    pub fn done(&self, seq: u64) {
        let done = ToLearner::Library(Library::Done(Slot(seq)));
        self.with_library(|library| library.learner.send(self.outside(), done));
    }

    /// max(): the highest instance ever heard of here, -1 at first.
    pub async fn max(&self) -> i64 {
        self.view(0).await.bound.0 as i64 - 1
    }

    /// min(): the first instance that is not forgotten.
    pub async fn min(&self) -> u64 {
        self.view(0).await.min.0
    }
}
