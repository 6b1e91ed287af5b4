//! The store on disks that crash and vanish: 6.824 2015, Lab 5 (rows DK-06 to DK-15, and the scenarios that
//! were withdrawn), one test per row, with real processes that are really killed, on every engine.
//!
//! The labs' clerks have sessions of their own. Here they are Redis clients, whose node has the session: if that
//! is killed over an Append, its outcome is unknown to the client, which then does not repeat it, and the
//! element may be there or not, once.

mod common;

use std::{
    fs,
    path::{Path, PathBuf},
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, Ordering::SeqCst},
    },
    thread,
};

use common::{Cluster, connect, load::certainly_not, now, pause, wait_until};
use quorate_node::config::{Engine, NodeConfig};
use rand::{Rng, SeedableRng, rngs::StdRng};

/// How long the labs' clerk has to be without an answer.
const SILENCE_MS: u64 = 3000;

/// A cluster, and what is done to it.
struct Disks {
    cluster: Cluster,
    chance: StdRng,
}

impl Disks {
    fn new(engine: Engine, nodes: u32) -> Disks {
        Disks::with_log(engine, nodes, 256 * 1024)
    }

    fn with_log(engine: Engine, nodes: u32, log_bytes_max: u64) -> Disks {
        Disks::started(Cluster::of(engine, nodes), |config| config.log_bytes_max = log_bytes_max)
    }

    /// Three nodes on a network that loses messages.
    fn unreliable(engine: Engine) -> Disks {
        let disks = Disks::started(Cluster::of(engine, 3), |config| config.lossy = true);
        set_unreliable(&disks.cluster);
        disks
    }

    fn started(mut cluster: Cluster, configure: impl Fn(&mut NodeConfig)) -> Disks {
        cluster.configs.iter_mut().for_each(configure);
        cluster.start_all();
        // From now on an empty directory is a lost one.
        for config in &mut cluster.configs {
            config.initial = false;
        }
        Disks { cluster, chance: StdRng::seed_from_u64(5) }
    }

    fn text(&mut self, chars: usize) -> String {
        (0..chars).map(|_| char::from(self.chance.random_range(b'a'..=b'z'))).collect()
    }

    fn ask<T: redis::FromRedisValue>(&self, via: usize, command: &[&str]) -> T {
        ask(&self.cluster, via, command)
    }

    fn put(&self, via: usize, key: &str, value: &str) {
        self.ask::<()>(via, &["SET", key, value]);
    }

    fn append(&self, via: usize, key: &str, value: &str) {
        self.ask::<u64>(via, &["APPEND", key, value]);
    }

    fn get(&self, via: usize, key: &str) -> String {
        self.ask(via, &["GET", key])
    }

    /// What is asked of a node in the background: an answer comes in the end, and not before it may.
    fn get_in_background(&self, via: usize, key: &str) -> Waiting {
        let (address, key) = (self.cluster.resp(via), key.to_string());
        let told: Arc<Mutex<Option<String>>> = Arc::default();
        let tell = told.clone();
        let thread = thread::spawn(move || {
            let value = wait_until("an answer in the end", || {
                let mut connection = connect(address).ok()?;
                redis::cmd("GET").arg(&key).query::<String>(&mut connection).ok()
            });
            *tell.lock().unwrap() = Some(value);
        });
        Waiting { told, thread }
    }

    /// All files of all nodes, with their bytes as `ls` shows them.
    fn files(&self) -> Vec<(PathBuf, u64)> {
        self.cluster.configs.iter().flat_map(|config| files_in(&config.dir)).collect()
    }

    fn kill_all(&mut self) {
        for i in 0..self.cluster.configs.len() {
            self.cluster.kill(i);
        }
    }

    fn start_all(&mut self) {
        for i in 0..self.cluster.configs.len() {
            self.cluster.start(i);
        }
    }
}

struct Waiting {
    told: Arc<Mutex<Option<String>>>,
    thread: thread::JoinHandle<()>,
}

impl Waiting {
    fn is_silent(&self) -> bool {
        self.told.lock().unwrap().is_none()
    }

    fn answer(self) -> String {
        self.thread.join().expect("the client ends");
        self.told.lock().unwrap().take().expect("it has told")
    }
}

/// Asks one node until it answers. What is not certainly without effect is not asked again.
fn ask<T: redis::FromRedisValue>(cluster: &Cluster, via: usize, command: &[&str]) -> T {
    let asked = format!("{command:?} of node {}", via + 1);
    wait_until(&asked, || {
        let mut connection = connect(cluster.resp(via)).ok()?;
        let mut request = redis::cmd(command[0]);
        for part in &command[1..] {
            request.arg(*part);
        }
        match request.query(&mut connection) {
            Ok(answer) => Some(answer),
            Err(error) if certainly_not(&error) => None,
            Err(error) => panic!("{asked}: {error}\n{}", cluster.describe()),
        }
    })
}

fn files_in(dir: &Path) -> Vec<(PathBuf, u64)> {
    let entries = fs::read_dir(dir).into_iter().flatten().flatten();
    let files = entries.flat_map(|entry| match entry.file_type() {
        Ok(kind) if kind.is_dir() => files_in(&entry.path()),
        // It may be gone by now.
        _ => vec![(entry.path(), entry.metadata().map_or(0, |metadata| metadata.len()))],
    });
    files.collect()
}

/// DK-06: Basic Persistence.
fn basic_persistence(engine: Engine) {
    let mut disks = Disks::new(engine, 3);
    disks.append(0, "k", "x");
    disks.append(1, "k", "y");
    assert_eq!(disks.get(2, "k"), "xy");
    disks.kill_all();
    let waiting = disks.get_in_background(0, "k");
    pause(SILENCE_MS);
    assert!(waiting.is_silent(), "an answer, and all are down");
    disks.start_all();
    pause(2000);
    disks.append(1, "k", "z");
    assert!(["xy", "xyz"].contains(&&*waiting.answer()));
    assert_eq!(disks.get(0, "k"), "xyz");
}

/// DK-07: One server restarts. DK-10: One server loses disk and restarts.
fn one_server_restarts(engine: Engine, loses_disk: bool) {
    let mut disks = Disks::new(engine, 3);
    let mut k1 = String::new();
    let mut k2 = String::new();
    for round in 0..disks.chance.random_range(7..=13) {
        let more = disks.text(10);
        disks.append(round % 3, "k1", &more);
        k1 += &more;
        k2 = disks.text(10);
        disks.put(round % 3, "k2", &k2);
    }
    for turn in 0..3 {
        let (next, third) = ((turn + 1) % 3, (turn + 2) % 3);
        assert_eq!((disks.get(next, "k1"), disks.get(third, "k2")), (k1.clone(), k2.clone()));
        match loses_disk {
            true => disks.cluster.wipe(turn),
            false => disks.cluster.kill(turn),
        }
        pause(1000);
        let mut append = |disks: &mut Disks, via| {
            let more = disks.text(10);
            disks.append(via, "k1", &more);
            k1 += &more;
        };
        append(&mut disks, next);
        k2 = disks.text(10);
        disks.put(third, "k2", &k2);
        disks.cluster.start(turn);
        if loses_disk {
            append(&mut disks, next);
            pause(10);
            append(&mut disks, third);
        }
        // Within this it is a member again, or the next one is one too many.
        pause(2000);
    }
    for via in 0..3 {
        assert_eq!((disks.get(via, "k1"), disks.get(via, "k2")), (k1.clone(), k2.clone()));
    }
}

/// DK-08: Servers don't use too much disk space. DK-09: the same for Appends.
fn disk_space(engine: Engine, appends: bool) {
    let mut disks = Disks::with_log(engine, 3, 2048);
    for key in ["k1", "k2", "k3", "k4"] {
        disks.put(0, key, "small");
    }
    let rounds = disks.chance.random_range(100..=119);
    let chars = if appends { 1000 } else { 1 };
    let (mut k2, mut k3) = (String::new(), "small".to_string());
    for round in 0..=rounds {
        let last = round == rounds;
        let (via, more) = (round % 3, disks.text(if last && appends { 1 } else { chars }));
        k2 = disks.text(1000);
        let between = if last { 100 } else { 0 };
        disks.put(via, "k2", &k2);
        pause(between);
        disks.append(via, "k3", &more);
        k3 += &more;
        pause(between);
        assert_eq!(disks.get(via, "k4"), "small");
    }
    let most = if appends { 3 * rounds as u64 * 1000 + 20_000 } else { 20_000 };
    let measure = |disks: &Disks, when: &str| {
        let files = disks.files();
        let bytes: u64 = files.iter().map(|(_, bytes)| bytes).sum();
        println!("{engine:?}: {bytes} of {most} bytes {when}");
        assert!(bytes <= most, "{bytes} bytes {when}, {most} are allowed: {files:#?}");
    };
    pause(2100);
    measure(&disks, "when idle");
    disks.kill_all();
    measure(&disks, "when all are dead");
    disks.start_all();
    pause(1000);
    if appends {
        assert_eq!(disks.get(0, "k3"), k3);
        pause(100);
        assert_eq!(disks.get(1, "k2"), k2);
        pause(1100);
        assert_eq!(disks.get(2, "k1"), "small");
    } else {
        assert_eq!(disks.get(0, "k1"), "small");
        assert_eq!(disks.get(1, "k2"), k2);
        assert_eq!(disks.get(2, "k3"), k3);
    }
    measure(&disks, "after the restart");
}

/// DK-11: One server down, another loses disk.
fn one_down_another_loses_disk(engine: Engine) {
    let mut disks = Disks::new(engine, 5);
    let mut k1 = String::new();
    let mut k2 = String::new();
    for _ in 0..disks.chance.random_range(7..=13) {
        let more = disks.text(10);
        disks.append(1, "k1", &more);
        k1 += &more;
        k2 = disks.text(10);
        disks.put(2, "k2", &k2);
    }
    disks.cluster.kill(0);
    for turn in 1..5 {
        let (next, other) = (turn % 4 + 1, (turn + 1) % 4 + 1);
        assert_eq!((disks.get(next, "k1"), disks.get(other, "k2")), (k1.clone(), k2.clone()));
        disks.cluster.wipe(turn);
        pause(1000);
        let mut append = |disks: &mut Disks, via| {
            let more = disks.text(10);
            disks.append(via, "k1", &more);
            k1 += &more;
        };
        append(&mut disks, next);
        k2 = disks.text(10);
        disks.put(other, "k2", &k2);
        disks.cluster.start(turn);
        append(&mut disks, next);
        pause(10);
        append(&mut disks, other);
        pause(2000);
    }
    disks.cluster.start(0);
    disks.put(1, "k2", "a");
    pause(1000);
    disks.put(2, "k2", "b");
    assert_eq!((disks.get(0, "k1"), disks.get(0, "k2")), (k1.clone(), "b".into()));
    assert_eq!((disks.get(4, "k1"), disks.get(4, "k2")), (k1, "b".into()));
}

/// What became of a client's elements: those that were acknowledged, and those of which nobody knows.
#[derive(Default)]
struct Elements {
    acknowledged: Vec<String>,
    unknown: Vec<String>,
    /// What was said of those.
    errors: Vec<String>,
}

impl Elements {
    /// Appends an element through any node that runs; once, whatever happens.
    fn append(&mut self, address: std::net::SocketAddr, element: String) {
        let Ok(mut connection) = connect(address) else { return };
        match redis::cmd("APPEND").arg("k").arg(&element).query::<u64>(&mut connection) {
            Ok(_) => self.acknowledged.push(element),
            Err(error) if certainly_not(&error) => {}
            Err(error) => {
                self.unknown.push(element);
                self.errors.push(error.to_string());
            }
        }
    }

    /// What was acknowledged is in `value`, once and in order; the rest at most once.
    fn check(&self, value: &str) {
        let mut from = 0;
        for element in &self.acknowledged {
            let at = value[from..].find(element.as_str());
            let at = at.unwrap_or_else(|| panic!("{element} is lost or out of order in {value}"));
            from += at + element.len();
        }
        for element in self.acknowledged.iter().chain(&self.unknown) {
            assert!(value.matches(element.as_str()).count() <= 1, "{element} twice in {value}");
        }
    }
}

/// DK-12: Concurrent Append and Crash; the withdrawn scenario of the same on an unreliable network.
fn concurrent_append_and_crash(engine: Engine, unreliable: bool) {
    let mut disks = match unreliable {
        true => Disks::unreliable(engine),
        false => Disks::new(engine, 3),
    };
    let more = if unreliable { 5000 } else { 0 };
    let stop = Arc::new(AtomicBool::new(false));
    let addresses: Vec<_> = (0..3).map(|i| disks.cluster.resp(i)).collect();
    let clients: Vec<thread::JoinHandle<Elements>> = (0..5)
        .map(|client: usize| {
            let (stop, addresses) = (stop.clone(), addresses.clone());
            thread::spawn(move || {
                let mut elements = Elements::default();
                for n in 0.. {
                    if stop.load(SeqCst) {
                        break;
                    }
                    elements.append(addresses[(client + n) % 3], format!("x {client} {n} y"));
                    pause(200);
                }
                elements
            })
        })
        .collect();
    for loses_disk in [false, true] {
        for turn in 0..3 {
            let other = (turn + 1) % 3;
            match loses_disk {
                true => disks.cluster.wipe(turn),
                false => disks.cluster.kill(turn),
            }
            pause(1000);
            disks.get(other, "k");
            disks.cluster.start(turn);
            // The labs' time, in which a blank one must be a member again.
            pause(3000 + more);
            if unreliable {
                set_unreliable(&disks.cluster);
            }
            disks.get(other, "k");
        }
    }
    pause(2000);
    stop.store(true, SeqCst);
    let seen: Vec<Elements> =
        clients.into_iter().map(|client| client.join().expect("a client ends")).collect();
    let last = disks.get(0, "k");
    for elements in &seen {
        assert!(elements.acknowledged.len() > 20, "{}", elements.acknowledged.len());
        elements.check(&last);
    }
    for turn in 0..3 {
        disks.cluster.kill(turn);
        assert_eq!(disks.get((turn + 1) % 3, "k"), last);
        disks.cluster.start(turn);
        assert_eq!(disks.get((turn + 2) % 3, "k"), last);
        pause(3000 + more);
        assert_eq!(disks.get(turn, "k"), last);
    }
}

/// About as in the labs: one message in ten is lost, and of the answers 18 in a hundred.
const UNRELIABLE: &str = r#"{"everywhere": {"drop_permille": 100, "reply_loss_permille": 100}}"#;

fn set_unreliable(cluster: &Cluster) {
    for i in 0..cluster.configs.len() {
        if cluster.running[i].is_some() {
            wait_until("faults are set", || {
                let answer = common::http_post_json(cluster.debug(i), "/debug/faults", UNRELIABLE)?;
                assert!(answer.starts_with("HTTP/1.1 200"), "{answer}");
                Some(())
            });
        }
    }
}

/// DK-13: Simultaneous Append and Crash, on an unreliable network.
fn simultaneous_append_and_crash(engine: Engine) {
    let mut disks = Disks::unreliable(engine);
    let mut before = Elements::default();
    disks.put(0, "k", "");
    for round in 0..50 {
        let victim = round % 3;
        let via = disks.cluster.resp((round + 1) % 3);
        let element = format!("x {round} y");
        let client = thread::spawn(move || {
            let mut elements = Elements::default();
            // Sent until it is acknowledged: its node is not the one that dies.
            while elements.acknowledged.is_empty() {
                elements.append(via, element.clone());
                assert!(elements.unknown.is_empty(), "its node lives: {:?}", elements.errors);
            }
            element
        });
        pause(disks.chance.random_range(0..200));
        match disks.chance.random_bool(0.5) {
            true => disks.cluster.wipe(victim),
            false => disks.cluster.kill(victim),
        }
        pause(1000);
        before.check(&disks.get((round + 2) % 3, "k"));
        disks.cluster.start(victim);
        let restarted = now();
        // Its faults are set as soon as it can hear of them.
        set_unreliable(&disks.cluster);
        pause(2200_u64.saturating_sub(restarted.elapsed().as_millis() as u64));
        before.acknowledged.push(client.join().expect("each append ends"));
    }
    before.check(&disks.get(0, "k"));
}

/// DK-14: replica waits correctly after disk loss.
fn waits_correctly_after_disk_loss(engine: Engine) {
    let mut disks = Disks::new(engine, 5);
    let mut expected = String::new();
    let mut append = |disks: &mut Disks, via| {
        let more = disks.text(10);
        disks.append(via, "k", &more);
        expected += &more;
    };
    for _ in 0..disks.chance.random_range(7..=13) {
        append(&mut disks, 1);
    }
    disks.get(0, "k");
    disks.cluster.kill(0);
    for _ in 0..2 {
        append(&mut disks, 2);
    }
    disks.get(1, "k");
    disks.cluster.wipe(1);
    disks.cluster.wipe(2);
    disks.cluster.kill(3);
    disks.cluster.kill(4);
    for i in 0..3 {
        disks.cluster.start(i);
    }
    pause(300);
    let waiting: Vec<Waiting> = (0..3).map(|i| disks.get_in_background(i, "k")).collect();
    pause(SILENCE_MS);
    assert!(waiting.iter().all(Waiting::is_silent), "one of five is intact, and somebody answers");
    disks.cluster.start(3);
    disks.cluster.start(4);
    append(&mut disks, 3);
    assert_eq!(disks.get(4, "k"), expected);
    for (i, waiting) in waiting.into_iter().enumerate() {
        assert!(expected.starts_with(&waiting.answer()), "of node {}", i + 1);
    }
    for i in 0..5 {
        assert_eq!(disks.get(i, "k"), expected);
    }
}

/// DK-15: replica Paxos resumes correctly after disk loss.
fn resumes_correctly_after_disk_loss(engine: Engine) {
    let mut disks = Disks::new(engine, 5);
    let mut expected = String::new();
    let mut append = |disks: &mut Disks, via| {
        let more = disks.text(10);
        disks.append(via, "k", &more);
        expected += &more;
    };
    for _ in 0..disks.chance.random_range(7..=13) {
        append(&mut disks, 1);
    }
    disks.get(2, "k");
    disks.cluster.kill(1);
    disks.cluster.kill(2);
    for _ in 0..disks.chance.random_range(100..=106) {
        append(&mut disks, 0);
    }
    disks.cluster.wipe(0);
    pause(50);
    disks.cluster.start(1);
    disks.cluster.start(2);
    pause(1);
    disks.cluster.start(0);
    append(&mut disks, 3);
    pause(10);
    append(&mut disks, 3);
    for i in 0..5 {
        assert_eq!(disks.get(i, "k"), expected, "at node {}", i + 1);
    }
}

/// The withdrawn scenario "replica continues correctly after disk loss": node 1 has met both others, though
/// at different times. The labs let it go on with the one that is up; here a majority has to agree, at one
/// time, that it is taken in: the group waits for it, and loses nothing.
fn continues_correctly_after_disk_loss(engine: Engine) {
    let mut disks = Disks::new(engine, 3);
    disks.append(0, "k", "x");
    disks.get(2, "k");
    disks.cluster.kill(0);
    disks.append(1, "k", "y");
    disks.append(2, "k", "z");
    disks.cluster.wipe(1);
    disks.cluster.kill(2);
    disks.cluster.start(0);
    disks.cluster.start(1);
    let waiting: Vec<Waiting> = (0..2).map(|i| disks.get_in_background(i, "k")).collect();
    pause(SILENCE_MS);
    assert!(waiting.iter().all(Waiting::is_silent), "one of three is intact, and somebody answers");
    disks.cluster.kill(0);
    disks.cluster.start(2);
    pause(SILENCE_MS);
    assert!(waiting.iter().all(Waiting::is_silent), "one of three is intact, and somebody answers");
    disks.cluster.start(0);
    pause(1000);
    for waiting in waiting {
        assert_eq!(waiting.answer(), "xyz");
    }
    disks.append(1, "k", "!");
    for i in 0..3 {
        assert_eq!(disks.get(i, "k"), "xyz!");
    }
}

/// A directory whose place another one has taken, put back where it was: its node is told, says what to do, and
/// stops. Nothing that it remembers does harm.
fn an_old_directory_that_comes_back_is_told_and_stops(engine: Engine) {
    let mut disks = Disks::new(engine, 3);
    disks.append(0, "k", "a");
    let dir = disks.cluster.configs[2].dir.clone();
    let aside = |name: &str| dir.with_file_name(name);
    disks.cluster.kill(2);
    fs::rename(&dir, aside("old")).unwrap();
    disks.cluster.start(2);
    assert_eq!(disks.get(2, "k"), "a", "it is a member again");
    disks.append(2, "k", "b");
    disks.cluster.kill(2);
    fs::rename(&dir, aside("new")).unwrap();
    fs::rename(aside("old"), &dir).unwrap();
    let config = disks.cluster.config_file(2);
    let (code, _, said) = common::run(common::quorate().args(["node", "--config"]).arg(config));
    assert_eq!(code, Some(70), "{said}");
    assert!(said.contains("n3 is a member no more: n3.1 has taken its place"), "{said}");
    assert!(said.contains("set it aside"), "{said}");
    disks.append(0, "k", "c");
    fs::rename(&dir, aside("old")).unwrap();
    fs::rename(aside("new"), &dir).unwrap();
    disks.cluster.start(2);
    assert_eq!(disks.get(2, "k"), "abc");
}

/// Rows in which no disk is lost.
macro_rules! rows {
    ($($engine:ident => $kind:expr),*) => { $(
        mod $engine {
            use super::*;

            #[test]
            fn dk_06_basic_persistence() {
                basic_persistence($kind);
            }

            #[test]
            fn dk_07_one_server_restarts() {
                one_server_restarts($kind, false);
            }

            #[test]
            fn dk_08_servers_do_not_use_too_much_disk_space() {
                disk_space($kind, false);
            }

            #[test]
            fn dk_09_servers_do_not_use_too_much_disk_space_for_appends() {
                disk_space($kind, true);
            }
        }
    )* };
}

/// Rows in which disks are lost.
macro_rules! losing {
    ($($engine:ident => $kind:expr),*) => { $(
        mod $engine {
            use super::*;

            #[test]
            fn dk_10_one_server_loses_disk_and_restarts() {
                one_server_restarts($kind, true);
            }

            #[test]
            fn dk_11_one_server_down_another_loses_disk() {
                one_down_another_loses_disk($kind);
            }

            #[test]
            fn dk_12_concurrent_append_and_crash() {
                concurrent_append_and_crash($kind, false);
            }

            #[test]
            fn dk_13_simultaneous_append_and_crash() {
                simultaneous_append_and_crash($kind);
            }

            #[test]
            fn dk_14_replica_waits_correctly_after_disk_loss() {
                waits_correctly_after_disk_loss($kind);
            }

            #[test]
            fn dk_15_replica_resumes_correctly_after_disk_loss() {
                resumes_correctly_after_disk_loss($kind);
            }

            #[test]
            fn withdrawn_concurrent_append_and_crash_unreliable() {
                concurrent_append_and_crash($kind, true);
            }

            #[test]
            fn an_old_directory_that_comes_back_is_told_and_stops() {
                super::an_old_directory_that_comes_back_is_told_and_stops($kind);
            }

            #[test]
            fn withdrawn_replica_continues_correctly_after_disk_loss() {
                continues_correctly_after_disk_loss($kind);
            }
        }
    )* };
}

rows!(paxos => Engine::Paxos, raft => Engine::Raft);
// Not Paxos yet: see ARCHITECTURE.md, What is not there yet.
losing!(raft_loses_disks => Engine::Raft);
