//! Clients of the store, as the labs' tests see them (2015 Lab 3B).

use std::{
    sync::{Arc, Mutex},
    time::Duration,
};

use bytes::Bytes;
use quorate_clerk::{Administered, Clerk, Config, Layout, Message as ToClerk, Outcome, Servers};
use quorate_kvserver::{Condition, KvError, Op, Reply, Version, Versioned};
use quorate_protocol::{Name, NodeId, Role};
use quorate_shardmaster::{Command, Reply as Answer};
use quorate_stage::{Directory, Mailbox, Node, Outlet, Transport, seat};
use tokio::{sync::oneshot, task::AbortHandle};

use crate::{
    layout::{GROUP, MASTERS},
    world::{World, ask},
};

/// How long a clerk with a session waits before it asks the next server.
const RETRY: Duration = Duration::from_millis(150);
/// One without: an election must fit in, since what is sent again may end as ErrMaybe ...
const RETRY_SESSIONLESS: Duration = Duration::from_millis(800);
/// ... but where messages are lost. There the labs' clerks are told at once.
const RETRY_LOSSY: Duration = Duration::from_millis(100);

/// Why a versioned Put has not been carried out (6.5840 2026, Lab 2).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PutError {
    /// ErrVersion: another version is stored.
    Version,
    /// ErrNoKey: the key is absent, and the version was not 0.
    NoKey,
    /// ErrMaybe: it was carried out, or another version was stored.
    Maybe,
}

/// A clerk on a node of its own; every message of it crosses the network.
#[derive(Clone)]
pub struct Client {
    stage: Node,
    clerk: Mailbox<ToClerk>,
    abort: AbortHandle,
}

impl Client {
    /// A clerk that asks these servers in turn, for ever.
    pub fn new(world: &World, servers: Vec<NodeId>) -> Self {
        Client::of_kind(world, servers, true)
    }

    /// The same without a session: the clerk of 6.5840 2026, whose Puts are versioned.
    pub fn sessionless(world: &World, servers: Vec<NodeId>) -> Self {
        Client::of_kind(world, servers, false)
    }

    fn of_kind(world: &World, servers: Vec<NodeId>, sessions: bool) -> Self {
        let stage = world.client_stage();
        let name = Name::of_node(stage.id(), Role::Clerk);
        let place = seat::<Clerk>(&stage, name);
        let clerk = place.mailbox();
        let transport: Arc<dyn Transport> = Arc::new(world.net.clone());
        world.net.plug_in(None, [(name, clerk.port())].into());
        let retry = match sessions {
            true => RETRY,
            false if world.net.is_lossy() => RETRY_LOSSY,
            false => RETRY_SESSIONLESS,
        };
        let config = Config { retry, deadline: None, under_way_max: 4096, sessions };
        let (me, masters) = (name.node, world.members(MASTERS));
        let abort = place.take(move |stage| {
            let layout = match masters.is_empty() {
                true => Layout::Whole { group: GROUP, nodes: servers.clone() },
                false => Layout::Sharded {
                    nodes: masters.clone(),
                    masters: Directory::new(me, Role::ShardMaster, transport.clone()),
                },
            };
            let servers = Servers {
                layout,
                servers: Directory::new(me, Role::KvServer, transport.clone()),
                started: None,
                configured: None,
            };
            Clerk::new(config, servers, stage)
        });
        Client { stage, clerk, abort }
    }

    /// Ends its clerk, which nobody must wait for.
    pub fn end(self, world: &World) {
        world.net.unplug(self.stage.id());
        self.abort.abort();
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

    /// Asks the shardmaster; blocks until it has an answer.
    ///
    /// # Panics
    /// If the clerk crashes meanwhile, or gives up.
    pub async fn administer(&self, command: Command) -> Answer {
        match self.call(command.clone()).await {
            Some(Outcome::Done(answer)) => answer,
            outcome => panic!("{command:?}: {outcome:?}"),
        }
    }

    /// Asks the shardmaster. `None`: the clerk crashed meanwhile.
    pub async fn call(&self, command: Command) -> Option<Outcome<Answer>> {
        let outcomes: Administered = ask(|reply| {
            let calls = vec![(0, command)];
            self.clerk.send(self.clerk.name(), ToClerk::Administer { calls, reply });
        })
        .await?;
        outcomes.into_iter().next().map(|(_, outcome)| outcome)
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

    /// Delete(key): whether it was there.
    pub async fn delete(&self, key: &str) -> bool {
        let keys = vec![Bytes::copy_from_slice(key.as_bytes())];
        match self.done(Op::Delete { keys }).await {
            Reply::Count(count) => count > 0,
            reply => panic!("{reply:?}"),
        }
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

    /// The versioned Put, as the labs have it.
    ///
    /// # Errors
    /// The labs' errors; anything else fails the test.
    pub async fn put_at(&self, key: &str, value: &str, version: u64) -> Result<(), PutError> {
        match self.put_version(key, value, version).await {
            Outcome::Done(Reply::Stored { version: now, .. }) => {
                assert_eq!(now, Version(version + 1), "Put({key}, {version})");
                Ok(())
            }
            Outcome::Done(Reply::Error(KvError::Version { .. })) => Err(PutError::Version),
            Outcome::Done(Reply::Error(KvError::NoKey)) => Err(PutError::NoKey),
            Outcome::Maybe => Err(PutError::Maybe),
            outcome => panic!("Put({key}, {version}): {outcome:?}"),
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
