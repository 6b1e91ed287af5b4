//! The store on disks that crash and vanish, on virtual time: 6.824 2015, Lab 5 (rows DK-06 to DK-15, and the
//! scenarios that were withdrawn), one test per row, with the labs' clerks, which have sessions and send again.
//!
//! Where the labs wait, what must have come to pass by then is asserted: a server that has lost its disk is a
//! voter again. With odd seeds servers are killed as by a loss of power, with even ones as processes are.
//! `tests/diskv.rs` has the same rows with real processes.

mod labs;

use std::{
    cell::Cell,
    rc::Rc,
    sync::{Arc, Mutex},
    time::Duration,
};

use labs::{Edition, Lab, check, value};
use quorate_node::config::Engine;
use quorate_protocol::{GroupId, Name, NodeId, Role};
use quorate_raft::Message as ToRaft;
use quorate_sim::{ENGINES, Options, Recorded, World, for_each_seed, run};
use quorate_stage::{Parcel, Transport};
use tokio::{task::JoinHandle, time::timeout};

/// How long the labs' clerk has to be without an answer.
const SILENCE_MS: u64 = 3000;
/// Longer than this no client waits while a majority is there.
const PATIENCE: Duration = Duration::from_secs(5);
const GROUP: GroupId = GroupId(1);

/// Server `i` of the labs.
fn node(i: usize) -> NodeId {
    NodeId(i as u32 + 1)
}

/// The engines that take a node in again whose disk is lost (ARCHITECTURE.md, What is not there yet).
const REPLACING: &[Engine] = &[Engine::Raft];

/// A row in which no disk is lost, on every engine.
fn row(name: &str, few: u64, options: Options, test: impl AsyncFn(Disks)) {
    row_on(&ENGINES, name, few, options, test);
}

/// A row in which disks are lost.
fn losing(name: &str, few: u64, options: Options, test: impl AsyncFn(Disks)) {
    row_on(REPLACING, name, few, options, test);
}

fn row_on(engines: &[Engine], name: &str, few: u64, options: Options, test: impl AsyncFn(Disks)) {
    for_each_seed(name, few, |seed| {
        for engine in engines.iter().copied() {
            run(seed, Options { engine, ..options }, async |world| {
                world.start_all(false);
                let test = async |lab| test(Disks { lab }).await;
                labs::judged(world, Edition::Sessions, test).await;
            });
        }
    });
}

fn servers(count: u32) -> Options {
    Options { log_bytes_max: 256 * 1024, ..Options::servers(count) }
}

/// A cluster, and what is done to it.
#[derive(Clone)]
struct Disks {
    lab: Lab,
}

impl Disks {
    fn world(&self) -> &World {
        &self.lab.world
    }

    fn text(&self, chars: usize) -> String {
        let letter = |_| char::from(b'a' + self.world().below(26) as u8);
        (0..chars).map(letter).collect()
    }

    /// So many, both included.
    fn between(&self, low: u64, high: u64) -> u64 {
        low + self.world().below(high - low + 1)
    }

    async fn pause(&self, ms: u64) {
        self.world().sleep_ms(ms).await;
    }

    fn kill(&self, i: usize) {
        match self.world().seed.is_multiple_of(2) {
            true => self.world().kill_process(node(i)),
            false => self.world().kill(node(i)),
        }
    }

    fn wipe(&self, i: usize) {
        self.kill(i);
        self.world().wipe(node(i));
    }

    fn kill_or_wipe(&self, i: usize, loses_disk: bool) {
        match loses_disk {
            true => self.wipe(i),
            false => self.kill(i),
        }
    }

    fn start(&self, i: usize) {
        self.world().start(node(i), false);
    }

    fn kill_all(&self) {
        (0..self.world().servers().len()).for_each(|i| self.kill(i));
    }

    fn is_voter(&self, i: usize) -> bool {
        self.world().runs(node(i)) && self.world().is_intact(node(i), GROUP)
    }

    /// It has been taken in, by the time that the labs leave it.
    fn expect_voter(&self, i: usize) {
        let at = self.world().elapsed();
        let tail = self.world().trace.tail(60);
        assert!(self.is_voter(i), "{} is no voter again at {at:?}\n{tail}", node(i));
    }

    /// In which life a server takes part.
    fn life(&self, i: usize) -> u16 {
        let running = self.world().node(node(i));
        let roles = [Role::Raft, Role::Acceptor];
        let name = roles.into_iter().find_map(|role| running.actor(GROUP, role));
        name.expect("it takes part").node.life()
    }

    fn get_in_background(&self, key: &'static str) -> JoinHandle<String> {
        let clerk = self.lab.shuffled();
        self.world().spawn(async move { value(&clerk, key).await })
    }
}

/// Something that must not take long.
async fn soon<T>(what: impl Future<Output = T>) -> T {
    timeout(PATIENCE, what).await.expect("a majority is there, and nobody answers")
}

/// A clerk whose value of a key is known.
struct Known {
    clerk: Recorded,
    key: &'static str,
    value: String,
}

impl Known {
    fn new(disks: &Disks, key: &'static str) -> Self {
        Known { clerk: disks.lab.shuffled(), key, value: String::new() }
    }

    async fn append(&mut self, more: &str) {
        soon(self.clerk.append(self.key, more)).await;
        self.value += more;
    }

    async fn put(&mut self, value: &str) {
        soon(self.clerk.put(self.key, value)).await;
        self.value = value.into();
    }

    async fn check(&self) {
        soon(check(&self.clerk, self.key, &self.value)).await;
    }

    /// Each server that runs says the same.
    async fn check_everywhere(&self, disks: &Disks) {
        for server in disks.world().servers().into_iter().filter(|node| disks.world().runs(*node)) {
            let clerk = disks.lab.clerk(vec![server]);
            soon(check(&clerk, self.key, &self.value)).await;
        }
    }
}

/// DK-06: Basic Persistence.
#[test]
fn dk_06_basic_persistence() {
    row("DK-06", 4, servers(3), async |disks| {
        let mut k = Known::new(&disks, "k");
        k.append("x").await;
        k.append("y").await;
        k.check().await;
        disks.kill_all();
        let waiting = disks.get_in_background("k");
        disks.pause(SILENCE_MS).await;
        assert!(!waiting.is_finished(), "an answer, and all are down");
        (0..3).for_each(|i| disks.start(i));
        disks.pause(2000).await;
        k.append("z").await;
        k.check_everywhere(&disks).await;
        let answer = soon(waiting).await.expect("the client ends");
        assert!(["xy", "xyz"].contains(&&*answer), "{answer}");
    });
}

/// 7 to 13 rounds of Append to the one, Put of the other.
async fn data(disks: &Disks) -> (Known, Known) {
    let (mut k1, mut k2) = (Known::new(disks, "k1"), Known::new(disks, "k2"));
    for _ in 0..disks.between(7, 13) {
        k1.append(&disks.text(10)).await;
        k2.put(&disks.text(10)).await;
    }
    (k1, k2)
}

/// A turn of rows DK-07, 10 and 11: one server is killed, and has two seconds to come back.
async fn turn(disks: &Disks, i: usize, loses_disk: bool, (k1, k2): (&mut Known, &mut Known)) {
    k1.check().await;
    k2.check().await;
    disks.kill_or_wipe(i, loses_disk);
    disks.pause(1000).await;
    k1.append(&disks.text(10)).await;
    k2.put(&disks.text(10)).await;
    disks.start(i);
    if loses_disk {
        k1.append(&disks.text(10)).await;
        disks.pause(10).await;
        k1.append(&disks.text(10)).await;
    }
    disks.pause(2000).await;
    disks.expect_voter(i);
}

fn one_server_restarts(name: &str, loses_disk: bool) {
    let engines = if loses_disk { REPLACING } else { &ENGINES };
    row_on(engines, name, 4, servers(3), async |disks| {
        let (mut k1, mut k2) = data(&disks).await;
        if loses_disk {
            disks.pause(300).await;
            k1.check().await;
            disks.pause(300).await;
            k1.check().await;
        }
        for i in 0..3 {
            turn(&disks, i, loses_disk, (&mut k1, &mut k2)).await;
        }
        k1.check_everywhere(&disks).await;
        k2.check_everywhere(&disks).await;
    });
}

/// DK-07: One server restarts.
#[test]
fn dk_07_one_server_restarts() {
    one_server_restarts("DK-07", false);
}

/// DK-10: One server loses disk and restarts.
#[test]
fn dk_10_one_server_loses_disk_and_restarts() {
    one_server_restarts("DK-10", true);
}

fn disk_space(name: &str, appends: bool) {
    let options = Options { log_bytes_max: 2048, ..servers(3) };
    row(name, 2, options, async |disks| {
        let world = disks.world();
        let [mut k1, mut k2, mut k3, mut k4] =
            ["k1", "k2", "k3", "k4"].map(|key| Known::new(&disks, key));
        for known in [&mut k1, &mut k2, &mut k3, &mut k4] {
            known.put("small").await;
        }
        let rounds = disks.between(100, 119);
        let chars = if appends { 1000 } else { 1 };
        for round in 0..=rounds {
            let last = round == rounds;
            let between = if last { 100 } else { 0 };
            k2.put(&disks.text(1000)).await;
            disks.pause(between).await;
            k3.append(&disks.text(if last && appends { 1 } else { chars })).await;
            disks.pause(between).await;
            k4.check().await;
        }
        let most = if appends { 3 * rounds * 1000 + 20_000 } else { 20_000 };
        let measure = |when: &str| {
            let bytes = world.disk_bytes();
            println!("{name} on {}: {bytes} of {most} bytes {when}", world.options.engine);
            let files = world.servers().into_iter().map(|node| (node, world.disk(node).files()));
            let files: Vec<_> = files.collect();
            assert!(bytes <= most, "{bytes} bytes {when}, {most} are allowed: {files:#?}");
        };
        disks.pause(2100).await;
        measure("when idle");
        disks.kill_all();
        measure("when all are dead");
        (0..3).for_each(|i| disks.start(i));
        disks.pause(1000).await;
        if appends {
            k3.check().await;
            disks.pause(100).await;
            k2.check().await;
            disks.pause(1100).await;
            k1.check().await;
        } else {
            k1.check().await;
            k2.check().await;
            k3.check().await;
        }
        measure("after the restart");
    });
}

/// DK-08: Servers don't use too much disk space.
#[test]
fn dk_08_servers_do_not_use_too_much_disk_space() {
    disk_space("DK-08", false);
}

/// DK-09: Servers don't use too much disk space for Appends.
#[test]
fn dk_09_servers_do_not_use_too_much_disk_space_for_appends() {
    disk_space("DK-09", true);
}

/// DK-11: One server down, another loses disk.
#[test]
fn dk_11_one_server_down_another_loses_disk() {
    losing("DK-11", 4, servers(5), async |disks| {
        let (mut k1, mut k2) = data(&disks).await;
        disks.kill(0);
        for i in 1..5 {
            turn(&disks, i, true, (&mut k1, &mut k2)).await;
        }
        disks.start(0);
        k2.put("a").await;
        disks.pause(1000).await;
        k2.put("b").await;
        k1.check_everywhere(&disks).await;
        k2.check_everywhere(&disks).await;
    });
}

/// The element check (specification, 0.3) of what a key holds, while some of it may be under way.
fn check_elements(value: &str, client: usize, acknowledged: usize, asked: usize) {
    let mut after = 0;
    for n in 0..asked {
        let element = format!("x {client} {n} y");
        let places: Vec<usize> = value.match_indices(&element).map(|(at, _)| at).collect();
        assert!(places.len() <= 1, "`{element}` twice in `{value}`");
        assert!(n >= acknowledged || places.len() == 1, "`{element}` is lost in `{value}`");
        for place in places {
            assert!(place >= after, "`{element}` is out of order in `{value}`");
            after = place;
        }
    }
}

/// A client that appends its elements until it is told to stop, and how many it has.
fn appending(disks: &Disks, client: usize, stop: Rc<Cell<bool>>) -> JoinHandle<usize> {
    let (disks, clerk) = (disks.clone(), disks.lab.shuffled());
    disks.world().clone().spawn(async move {
        let mut count = 0;
        while !stop.get() {
            clerk.append("k", &format!("x {client} {count} y")).await;
            count += 1;
            disks.pause(200).await;
        }
        count
    })
}

/// DK-12: Concurrent Append and Crash; the withdrawn scenario of the same on an unreliable network.
fn concurrent_append_and_crash(name: &str, unreliable: bool) {
    losing(name, 2, servers(3), async |disks| {
        if unreliable {
            disks.world().net.set_unreliable(disks.world().servers());
        }
        let more = if unreliable { 5000 } else { 0 };
        let stop = Rc::new(Cell::new(false));
        let clients: Vec<_> = (0..5).map(|i| appending(&disks, i, stop.clone())).collect();
        let clerk = disks.lab.shuffled();
        for loses_disk in [false, true] {
            for i in 0..3 {
                disks.kill_or_wipe(i, loses_disk);
                disks.pause(1000).await;
                soon(value(&clerk, "k")).await;
                disks.start(i);
                disks.pause(3000 + more).await;
                disks.expect_voter(i);
                soon(value(&clerk, "k")).await;
            }
        }
        disks.pause(2000).await;
        stop.set(true);
        let mut counts = vec![];
        for client in clients {
            counts.push(soon(client).await.expect("a client ends"));
        }
        let last = soon(value(&clerk, "k")).await;
        for (client, count) in counts.into_iter().enumerate() {
            assert!(count > 30, "{count} appends of client {client}");
            check_elements(&last, client, count, count);
        }
        for i in 0..3 {
            disks.kill(i);
            soon(check(&clerk, "k", &last)).await;
            disks.start(i);
            soon(check(&clerk, "k", &last)).await;
            disks.pause(3000 + more).await;
            soon(check(&clerk, "k", &last)).await;
        }
    });
}

/// DK-12: Concurrent Append and Crash.
#[test]
fn dk_12_concurrent_append_and_crash() {
    concurrent_append_and_crash("DK-12", false);
}

/// Withdrawn: Concurrent Append and Crash Unreliable.
#[test]
fn withdrawn_concurrent_append_and_crash_unreliable() {
    concurrent_append_and_crash("DK-12 unreliable", true);
}

/// DK-13: Simultaneous Append and Crash, on an unreliable network.
#[test]
fn dk_13_simultaneous_append_and_crash() {
    losing("DK-13", 3, servers(3), async |disks| {
        disks.world().net.set_unreliable(disks.world().servers());
        let clerk = disks.lab.shuffled();
        soon(clerk.put("k", "")).await;
        for round in 0..50 {
            let client = disks.lab.shuffled();
            let append = disks.world().spawn(async move {
                client.append("k", &format!("x 0 {round} y")).await;
            });
            disks.pause(disks.world().below(200)).await;
            let victim = round % 3;
            disks.kill_or_wipe(victim, disks.world().permille(500));
            disks.pause(1000).await;
            check_elements(&soon(value(&clerk, "k")).await, 0, round, round + 1);
            disks.start(victim);
            disks.pause(2200).await;
            disks.expect_voter(victim);
            soon(append).await.expect("each append ends");
        }
        check_elements(&soon(value(&clerk, "k")).await, 0, 50, 50);
    });
}

/// DK-14: replica waits correctly after disk loss.
#[test]
fn dk_14_replica_waits_correctly_after_disk_loss() {
    losing("DK-14", 6, servers(5), async |disks| {
        let mut k = Known::new(&disks, "k");
        for _ in 0..disks.between(7, 13) {
            k.append(&disks.text(10)).await;
        }
        k.check().await;
        disks.kill(0);
        k.append(&disks.text(10)).await;
        k.append(&disks.text(10)).await;
        k.check().await;
        disks.wipe(1);
        disks.wipe(2);
        disks.kill(3);
        disks.kill(4);
        (0..3).for_each(|i| disks.start(i));
        disks.pause(300).await;
        let waiting = disks.get_in_background("k");
        disks.pause(SILENCE_MS).await;
        assert!(!waiting.is_finished(), "one of five is intact, and somebody answers");
        assert!(!disks.is_voter(1) && !disks.is_voter(2), "taken in by one of five");
        disks.start(3);
        disks.start(4);
        k.append(&disks.text(10)).await;
        k.check().await;
        let answer = soon(waiting).await.expect("the client ends");
        assert!(k.value.starts_with(&answer) && answer.len() + 10 >= k.value.len(), "{answer}");
        disks.pause(SILENCE_MS).await;
        disks.expect_voter(1);
        disks.expect_voter(2);
        k.check_everywhere(&disks).await;
    });
}

/// DK-15: replica Paxos resumes correctly after disk loss.
#[test]
fn dk_15_replica_resumes_correctly_after_disk_loss() {
    losing("DK-15", 6, servers(5), async |disks| {
        let mut k = Known::new(&disks, "k");
        for _ in 0..disks.between(7, 13) {
            k.append(&disks.text(10)).await;
        }
        k.check().await;
        disks.kill(1);
        disks.kill(2);
        for _ in 0..disks.between(100, 106) {
            k.append(&disks.text(10)).await;
        }
        disks.wipe(0);
        disks.pause(50).await;
        disks.start(1);
        disks.start(2);
        disks.pause(1).await;
        disks.start(0);
        k.append(&disks.text(10)).await;
        disks.pause(10).await;
        k.append(&disks.text(10)).await;
        k.check().await;
        disks.pause(2000).await;
        disks.expect_voter(0);
        k.check_everywhere(&disks).await;
    });
}

/// Withdrawn: "replica continues correctly after disk loss". The labs let the blank server go on once it has met
/// both others, at different times; here a majority has to agree at one time that it is taken in: the group
/// waits for that, and loses nothing.
#[test]
fn withdrawn_replica_continues_correctly_after_disk_loss() {
    losing("DK continues", 6, servers(3), async |disks| {
        let mut k = Known::new(&disks, "k");
        k.append("x").await;
        k.check().await;
        disks.kill(0);
        k.append("y").await;
        k.append("z").await;
        disks.wipe(1);
        disks.kill(2);
        disks.start(0);
        disks.start(1);
        let waiting = disks.get_in_background("k");
        disks.pause(SILENCE_MS).await;
        disks.kill(0);
        disks.start(2);
        disks.pause(SILENCE_MS).await;
        assert!(!waiting.is_finished(), "one of three is intact, and somebody answers");
        assert!(!disks.is_voter(1), "taken in by one of three");
        disks.start(0);
        disks.pause(1000).await;
        assert_eq!(soon(waiting).await.expect("the client ends"), "xyz");
        k.append("!").await;
        disks.pause(1000).await;
        disks.expect_voter(1);
        k.check_everywhere(&disks).await;
    });
}

/// A server that is killed in the midst of being taken in, after every number of operations of its disk, is
/// a member in the end, in the life that it was given at first.
#[test]
fn an_interrupted_recovery_ends_as_one_member() {
    losing("interrupted", 6, servers(3), async |disks| {
        let world = disks.world();
        let (mut k, victim) = (Known::new(&disks, "k"), node(2));
        for _ in 0..20 {
            k.append(&disks.text(10)).await;
        }
        disks.wipe(2);
        let mut interrupted = 0;
        for operations in 0.. {
            world.start(victim, false);
            world.disk(victim).crash_after(operations);
            // With so many it becomes a voter before they have come to pass.
            if timeout(Duration::from_secs(3), world.struck()).await.is_err() {
                world.disk(victim).disarm();
                break;
            }
            interrupted += 1;
            world.kill(victim);
            k.append(&disks.text(10)).await;
        }
        assert!(interrupted > 10, "killed {interrupted} times");
        disks.pause(1000).await;
        disks.expect_voter(2);
        assert_eq!(disks.life(2), 1, "one directory, one life");
        k.check_everywhere(&disks).await;
    });
}

/// The same, killed after random times, and with another empty disk now and then.
#[test]
fn a_server_that_is_killed_again_and_again_ends_as_a_member() {
    losing("again and again", 6, servers(3), async |disks| {
        let mut k = Known::new(&disks, "k");
        k.append(&disks.text(10)).await;
        disks.kill(2);
        for _ in 0..30 {
            if disks.world().permille(300) {
                disks.world().wipe(node(2));
            }
            disks.start(2);
            disks.pause(disks.world().below(400)).await;
            k.append(&disks.text(10)).await;
            disks.kill(2);
        }
        disks.start(2);
        disks.pause(2000).await;
        disks.expect_voter(2);
        k.check_everywhere(&disks).await;
    });
}

/// Two of five lose their disks at one time, and the three others are up.
#[test]
fn two_of_five_lose_their_disks_at_one_time() {
    losing("two of five", 6, servers(5), async |disks| {
        let mut k = Known::new(&disks, "k");
        for _ in 0..disks.between(7, 13) {
            k.append(&disks.text(10)).await;
        }
        // Whoever leads may be one of them.
        let first = disks.world().below(5) as usize;
        let (one, other) = (first, (first + 1 + disks.world().below(4) as usize) % 5);
        disks.wipe(one);
        disks.wipe(other);
        k.append(&disks.text(10)).await;
        disks.start(one);
        disks.start(other);
        k.append(&disks.text(10)).await;
        disks.pause(SILENCE_MS).await;
        disks.expect_voter(one);
        disks.expect_voter(other);
        // Now two others may be away.
        let rest: Vec<usize> = (0..5).filter(|i| ![one, other].contains(i)).collect();
        disks.kill(rest[0]);
        disks.kill(rest[1]);
        k.append(&disks.text(10)).await;
        k.check_everywhere(&disks).await;
    });
}

/// All servers of a group lose their disks, each as soon as the one before is a voter again.
#[test]
fn every_server_loses_its_disk_one_after_the_other() {
    for count in [3, 5] {
        losing("one after the other", 4, servers(count), async |disks| {
            let mut k = Known::new(&disks, "k");
            for round in 0..2 * count as usize {
                k.append(&disks.text(10)).await;
                let i = round % count as usize;
                assert!(disks.world().can_lose(node(i)), "{}", node(i));
                disks.wipe(i);
                disks.start(i);
                let asked = disks.world().elapsed();
                while !disks.is_voter(i) {
                    let waited = disks.world().elapsed() - asked;
                    assert!(waited < Duration::from_secs(2), "{} waits {waited:?}", node(i));
                    disks.pause(1).await;
                }
            }
            for i in 0..count as usize {
                assert_eq!(disks.life(i), 2);
            }
            k.check_everywhere(&disks).await;
        });
    }
}

/// DESIGN 5, the run that breaks "ask the others what I promised": a vote of the old life is under way, the blank
/// server comes back and knows nothing of it, and another candidate asks in the same term. If it voted under its
/// old name, or asked the others, who know of no vote either, two would lead in one term.
#[test]
fn a_vote_that_is_under_way_when_its_voter_loses_its_disk() {
    let options = servers(3);
    for_each_seed("vote under way", 10, |seed| {
        run(seed, Options { engine: Engine::Raft, ..options }, async |world| {
            world.start_all(false);
            labs::judged(world, Edition::Sessions, async |lab| {
                let disks = Disks { lab };
                let (world, mut k) = (disks.world(), Known::new(&disks, "k"));
                k.append("before ").await;
                let leader = world.leader().await.expect("somebody has carried out the Append");
                // The first vote that one of the others gives the third is held on its way.
                let held: Arc<Mutex<Option<Parcel>>> = Arc::default();
                let take = held.clone();
                world.net.set_tamper(move |parcel| hold_vote(&take, parcel));
                world.net.disconnect(leader);
                let vote = loop {
                    disks.pause(1).await;
                    let taken = held.lock().unwrap().clone();
                    if let Some(vote) = taken {
                        break vote;
                    }
                };
                let (voter, candidate) = (vote.from.node, vote.to.node);
                let i = voter.0 as usize - 1;
                disks.wipe(i);
                world.net.connect(leader);
                world.net.disconnect(candidate);
                disks.start(i);
                let clerk = disks.lab.clerk(vec![leader, voter]);
                let append = world.spawn(async move { clerk.append("k", "meanwhile ").await });
                disks.pause(SILENCE_MS).await;
                assert!(!append.is_finished(), "one of three is intact and connected");
                assert!(!disks.is_voter(i), "taken in by one of three");
                let raft = world.node(voter).actor(GROUP, Role::Raft);
                assert_eq!(raft, None::<Name>, "a blank server has no engine");
                world.net.send(vote);
                disks.pause(50).await;
                world.net.heal();
                soon(append).await.expect("a client ends");
                k.value += "meanwhile ";
                k.append("after ").await;
                disks.pause(2000).await;
                disks.expect_voter(i);
                k.check_everywhere(&disks).await;
            })
            .await;
        });
    });
}

/// Takes the first vote off the network. It never comes where it is sent instead.
fn hold_vote(held: &Mutex<Option<Parcel>>, parcel: &mut Parcel) {
    let mut held = held.lock().unwrap();
    if parcel.to.role != Role::Raft || held.is_some() {
        return;
    }
    let message: ToRaft = rmp_serde::from_slice(&parcel.body).expect("it is the message of a peer");
    if matches!(message, ToRaft::Vote { pre_vote: false, granted: true, .. }) {
        *held = Some(parcel.clone());
        parcel.to.role = Role::Outside;
    }
}
