//! Clients of the store, as the labs' tests see them (2015 Lab 3B).

use std::{
    sync::{Arc, Mutex},
    time::Duration,
};

use bytes::Bytes;
use quorate_clerk::{Clerk, Config, Message as ToClerk, Outcome, Servers};
use quorate_kvserver::{Condition, Op, Reply, Version, Versioned};
use quorate_protocol::{GroupId, Name, NodeId, Role};
use quorate_stage::{Link, Mailbox, Node, Outlet, Transport, seat};
use tokio::sync::oneshot;

use crate::world::World;

/// A clerk on a node of its own; every message of it crosses the network.
#[derive(Clone)]
pub struct Client {
    stage: Node,
    clerk: Mailbox<ToClerk>,
}

impl Client {
    /// A clerk that asks these servers in turn, for ever.
    pub fn new(world: &World, servers: Vec<NodeId>) -> Self {
        let stage = world.client_stage();
        let name = Name::of_node(stage.id(), Role::Clerk);
        let place = seat::<Clerk>(&stage, name);
        let clerk = place.mailbox();
        let transport: Arc<dyn Transport> = Arc::new(world.net.clone());
        world.net.plug_in(None, [(name, clerk.port())].into());
        let config =
            Config { retry: Duration::from_millis(150), deadline: None, under_way_max: 4096 };
        place.take(move |stage| {
            let remote = Link::new(GroupId(1), Role::KvServer, transport.clone());
            let servers = Servers {
                nodes: servers.clone(),
                local: None,
                remote: Some(remote),
                started: None,
            };
            Clerk::new(config, servers, stage)
        });
        Client { stage, clerk }
    }

    /// The stage of its clerk: to crash it, to look into its mailbox.
    pub fn stage(&self) -> &Node {
        &self.stage
    }

    /// Its clerk's mailbox.
    pub fn clerk(&self) -> &Mailbox<ToClerk> {
        &self.clerk
    }

    /// Carries out an operation; blocks until there is an outcome.
    ///
    /// # Panics
    /// If the clerk crashes meanwhile.
    pub async fn run(&self, op: Op) -> Outcome {
        self.attempt(op).await.expect("a clerk answers every operation, once")
    }

    /// Carries out an operation. `None`: the clerk crashed meanwhile, and nobody can say what has
    /// become, or will become, of it.
    pub async fn attempt(&self, op: Op) -> Option<Outcome> {
        let (done, outcome) = oneshot::channel();
        let done = Mutex::new(Some(done));
        let reply = Outlet::from_fn(move |_, outcomes: quorate_clerk::Outcomes| {
            let done = done.lock().unwrap_or_else(|poisoned| poisoned.into_inner()).take();
            if let (Some(done), Some((_, outcome))) = (done, outcomes.into_iter().next()) {
                // Whoever has stopped waiting does not need it.
                let _ = done.send(outcome);
            }
        });
        let from = self.clerk.name();
        self.clerk.send(from, ToClerk::Submit { ops: vec![(0, op)], reply });
        outcome.await.ok()
    }

    async fn done(&self, op: Op) -> Reply {
        match self.run(op).await {
            Outcome::Done(reply) => reply,
            outcome => panic!("a clerk without deadline has only success: {outcome:?}"),
        }
    }

    /// Put(key, value).
    pub async fn put(&self, key: &str, value: impl Into<Bytes>) {
        let (key, value) = (Bytes::copy_from_slice(key.as_bytes()), value.into());
        let op = Op::Put { key, value, condition: Condition::Always, want_old: false };
        let reply = self.done(op).await;
        assert!(matches!(reply, Reply::Stored { .. }), "{reply:?}");
    }

    /// Append(key, value).
    pub async fn append(&self, key: &str, value: &str) {
        let key = Bytes::copy_from_slice(key.as_bytes());
        let value = Bytes::copy_from_slice(value.as_bytes());
        let reply = self.done(Op::Append { key, value }).await;
        assert!(matches!(reply, Reply::Length(_)), "{reply:?}");
    }

    /// Get(key): "" when absent.
    pub async fn get(&self, key: &str) -> String {
        let value = self.get_versioned(key).await.map(|found| found.value).unwrap_or_default();
        String::from_utf8_lossy(&value).into_owned()
    }

    /// Get(key), with its version.
    pub async fn get_versioned(&self, key: &str) -> Option<Versioned> {
        let key = Bytes::copy_from_slice(key.as_bytes());
        match self.done(Op::Get { key }).await {
            Reply::Value(value) => value,
            reply => panic!("{reply:?}"),
        }
    }

    /// The versioned Put.
    pub async fn put_version(&self, key: &str, value: &str, version: u64) -> Outcome {
        let key = Bytes::copy_from_slice(key.as_bytes());
        let value = Bytes::copy_from_slice(value.as_bytes());
        let condition = Condition::IfVersion(Version(version));
        self.run(Op::Put { key, value, condition, want_old: false }).await
    }
}
