//! Every kind of actor, and whole servers, crashed again and again under load: nothing that was
//! acknowledged is lost, nothing is applied twice, what clients have seen is linearizable, and all
//! servers end with the same state.

use std::{cell::Cell, collections::BTreeSet, rc::Rc, sync::Arc, time::Duration};

use bytes::Bytes;
use quorate_clerk::Outcome;
use quorate_kvserver::{Op, Reply};
use quorate_node::config::Engine;
use quorate_protocol::{GroupId, Name, Role};
use quorate_sim::{Client, Options, Record, Recorded, World, for_each_seed, run};
use quorate_stage::{CrashMode, Node, Stats};
use tokio::{task::JoinHandle, time::timeout};

const CRASHES: u64 = 200;
const CLIENTS: usize = 4;
const KEY: &str = "tokens";

/// What a client has appended, in order, and whether that was acknowledged.
type Sent = Vec<(String, bool)>;

/// Each acknowledged token of a client stands there once, and they stand in its order. A token
/// whose fate is unknown may be missing, may come late, and never stands there twice; it cannot
/// come before one that was acknowledged before it was sent.
fn check_tokens(value: &str, client: usize, sent: &Sent) {
    let prefix = format!("{client}.");
    let found = value.split_terminator(';').filter(|token| token.starts_with(&prefix));
    let found: Vec<&str> = found.collect();
    let once: BTreeSet<&str> = found.iter().copied().collect();
    assert_eq!(once.len(), found.len(), "client {client}: a token was applied twice: {found:?}");
    let known: BTreeSet<&str> = sent.iter().map(|(token, _)| token.as_str()).collect();
    assert!(once.is_subset(&known), "client {client}: a token was never sent: {found:?}");
    let mut last = None;
    for (token, acknowledged) in sent {
        let place = found.iter().position(|other| other == token);
        assert!(
            place.is_some() || !acknowledged,
            "client {client}: {token} was acknowledged and is lost: {found:?}"
        );
        assert!(
            place.is_none() || place > last,
            "client {client}: {token} is too early: {found:?}"
        );
        if *acknowledged {
            last = place;
        }
    }
}

/// None: the clerk crashed.
async fn read(client: &Recorded) -> Option<String> {
    match client.attempt(Op::Get { key: Bytes::from_static(KEY.as_bytes()) }).await? {
        Outcome::Done(Reply::Value(value)) => {
            let value = value.map(|found| found.value).unwrap_or_default();
            Some(String::from_utf8_lossy(&value).into_owned())
        }
        outcome => panic!("Get: {outcome:?}"),
    }
}

/// Appends unique tokens, and reads now and then, until it is told to stop.
async fn work(world: World, client: Recorded, me: usize, stop: Rc<Cell<bool>>) -> Sent {
    let mut sent = Sent::new();
    while !stop.get() {
        let token = format!("{me}.{}", sent.len());
        let (key, value) = (Bytes::from_static(KEY.as_bytes()), Bytes::from(format!("{token};")));
        let acknowledged = match client.attempt(Op::Append { key, value }).await {
            Some(Outcome::Done(Reply::Length(_))) => true,
            None => false,
            Some(outcome) => panic!("Append: {outcome:?}"),
        };
        sent.push((token, acknowledged));
        if world.permille(300)
            && let Some(value) = read(&client).await
        {
            check_tokens(&value, me, &sent);
        }
        world.sleep_ms(world.below(20)).await;
    }
    sent
}

struct Load {
    stop: Rc<Cell<bool>>,
    clients: Vec<Client>,
    tasks: Vec<JoinHandle<Sent>>,
    record: Record,
}

impl Load {
    fn begin(world: &World) -> Self {
        let stop = Rc::new(Cell::new(false));
        let clients: Vec<Client> =
            (0..CLIENTS).map(|_| Client::new(world, world.shuffled())).collect();
        let record = Record::new(world);
        let task = |(me, client): (usize, &Client)| {
            let client = record.client(client.clone());
            tokio::task::spawn_local(work(world.clone(), client, me, stop.clone()))
        };
        let tasks = clients.iter().enumerate().map(task).collect();
        Load { stop, clients, tasks, record }
    }

    /// Ends it, and checks that every server, asked by itself, has the same right value, and that
    /// all of it is linearizable.
    async fn end(self, world: &World) {
        // Nothing may be stuck: everybody gets something done after the last crash.
        world.sleep_ms(3000).await;
        self.stop.set(true);
        let mut sent = vec![];
        for task in self.tasks {
            let sent_by_one = timeout(Duration::from_secs(30), task).await;
            let sent_by_one = sent_by_one.expect("a client hangs, though nobody crashes any more");
            sent.push(sent_by_one.expect("a client failed"));
        }
        let mut first = None;
        for server in world.servers() {
            let client = self.record.client(Client::new(world, vec![server]));
            let value = timeout(Duration::from_secs(30), read(&client)).await;
            let value = value.expect("a server is stuck").expect("nobody crashes now");
            for (me, sent) in sent.iter().enumerate() {
                check_tokens(&value, me, sent);
                assert!(sent.iter().rev().any(|(_, acknowledged)| *acknowledged));
            }
            let first = first.get_or_insert_with(|| value.clone());
            assert_eq!(*first, value, "{server} has another value than the first server");
        }
        self.record.check();
    }
}

/// Small enough that checkpoints are made and the journal is trimmed all the time.
const LOG_BYTES_MAX: u64 = 4096;

fn options(engine: Engine) -> Options {
    Options { engine, log_bytes_max: LOG_BYTES_MAX, ..Options::servers(3) }
}

fn restarts(stats: &[Arc<Stats>]) -> u64 {
    stats.iter().map(|stats| stats.actor().restarts).sum()
}

/// Crashes actors of one role, on servers (or clients) and at moments drawn from the seed.
fn crashed(engine: Engine, role: Role) {
    for_each_seed(&format!("actors/{engine}/{role}"), 1, |seed| {
        run(seed, options(engine), async |world| {
            world.start_all(false);
            let load = Load::begin(&world);
            let of_node = matches!(role, Role::Journal | Role::Files | Role::Clerk);
            let stages: Vec<Node> = match role {
                Role::Clerk => load.clients.iter().map(|client| client.stage().clone()).collect(),
                _ => world.servers().iter().map(|node| world.node(*node).stage.clone()).collect(),
            };
            let name = |stage: &Node| match of_node {
                true => Name::of_node(stage.id(), role),
                false => Name::new(stage.id(), GroupId(1), role),
            };
            let mailbox = |stage: &Node| stage.mailbox(name(stage)).expect("it lives here");
            let before: Vec<Arc<Stats>> = stages.iter().map(mailbox).collect();
            // The very first messages are struck too.
            while restarts(&before) < CRASHES {
                let stage = &stages[world.below(stages.len() as u64) as usize];
                let modes = [CrashMode::Now, CrashMode::BeforeNext, CrashMode::AfterNext];
                stage.crash(name(stage), modes[world.below(3) as usize]).expect("it lives here");
                world.sleep_ms(world.below(100)).await;
                assert!(world.elapsed().as_secs() < 600, "too few of {role} crash");
            }
            let handled: Vec<u64> = before.iter().map(|stats| stats.actor().handled).collect();
            load.end(&world).await;
            for (stage, (stats, handled)) in stages.iter().zip(before.iter().zip(handled)) {
                let same = Arc::ptr_eq(stats, &mailbox(stage));
                assert!(same, "{} has another mailbox", stats.name());
                let now = stats.actor().handled;
                // What was sent to the mailbox of old was handled by the actor of now.
                assert!(now > handled, "{} handles nothing more", stats.name());
            }
        });
    });
}

fn on_both(test: impl Fn(Engine)) {
    test(Engine::Paxos);
    test(Engine::Raft);
}

/// 200 crashes of acceptors.
#[test]
fn acceptor_crashes_200_times() {
    crashed(Engine::Paxos, Role::Acceptor);
}

/// 200 crashes of proposers.
#[test]
fn proposer_crashes_200_times() {
    crashed(Engine::Paxos, Role::Proposer);
}

/// 200 crashes of learners.
#[test]
fn learner_crashes_200_times() {
    crashed(Engine::Paxos, Role::Learner);
}

/// 200 crashes of Raft peers.
#[test]
fn raft_peer_crashes_200_times() {
    crashed(Engine::Raft, Role::Raft);
}

/// 200 crashes of replicated state machines.
#[test]
fn rsm_crashes_200_times() {
    on_both(|engine| crashed(engine, Role::Rsm));
}

/// 200 crashes of key/value servers.
#[test]
fn kvserver_crashes_200_times() {
    on_both(|engine| crashed(engine, Role::KvServer));
}

/// 200 crashes of journals.
#[test]
fn journal_crashes_200_times() {
    on_both(|engine| crashed(engine, Role::Journal));
}

/// 200 crashes of the keepers of files.
#[test]
fn files_crashes_200_times() {
    on_both(|engine| crashed(engine, Role::Files));
}

/// 200 crashes of clerks. What a clerk had under way is lost with it: nobody knows its fate, and
/// still it is never applied twice.
#[test]
fn clerk_crashes_200_times() {
    on_both(|engine| crashed(engine, Role::Clerk));
}

/// Actors of every kind crash in the same run, so that recoveries meet each other.
#[test]
fn all_kinds_crash_together() {
    on_both(all_kinds_crash);
}

fn all_kinds_crash(engine: Engine) {
    for_each_seed(&format!("actors/{engine}/all"), 2, |seed| {
        run(seed, options(engine), async |world| {
            world.start_all(false);
            let load = Load::begin(&world);
            for _ in 0..CRASHES {
                let servers = world.servers();
                let node = servers[world.below(servers.len() as u64) as usize];
                let stage = world.node(node).stage.clone();
                let names: Vec<Name> = stage.mailboxes().iter().map(|stats| stats.name()).collect();
                let name = names[world.below(names.len() as u64) as usize];
                let modes = [CrashMode::Now, CrashMode::BeforeNext, CrashMode::AfterNext];
                stage.crash(name, modes[world.below(3) as usize]).expect("it lives here");
                world.sleep_ms(world.below(60)).await;
            }
            load.end(&world).await;
        });
    });
}

/// Whole servers are killed at random moments, also all of them; what was not synced is lost.
fn servers_killed(engine: Engine, name: &str, unreliable: bool) {
    for_each_seed(&format!("actors/{engine}/{name}"), 2, |seed| {
        run(seed, options(engine), async |world| {
            world.start_all(false);
            if unreliable {
                world.net.set_unreliable(world.servers());
                world.net.set_duplicates(50);
            }
            let load = Load::begin(&world);
            for _ in 0..40 {
                world.sleep_ms(world.below(600)).await;
                let mut victims = world.shuffled();
                victims.truncate(1 + world.below(3) as usize);
                for victim in &victims {
                    world.kill(*victim);
                    world.sleep_ms(world.below(20)).await;
                }
                world.sleep_ms(world.below(300)).await;
                for victim in victims {
                    world.start(victim, false);
                    world.sleep_ms(world.below(50)).await;
                }
            }
            load.end(&world).await;
            let checkpointed = world.disk_bytes() / 3;
            assert!(checkpointed < 200_000, "{checkpointed} bytes per disk: nothing was trimmed");
        });
    });
}

/// Servers are killed and started again, on a good network.
#[test]
fn servers_killed_at_random_moments() {
    on_both(|engine| servers_killed(engine, "kill", false));
}

/// Servers are killed and started again, on a network that loses and repeats.
#[test]
fn servers_killed_on_an_unreliable_network() {
    on_both(|engine| servers_killed(engine, "kill-unreliable", true));
}
