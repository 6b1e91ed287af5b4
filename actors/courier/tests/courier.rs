//! Couriers with real files on simulated disks, between them a network that loses, repeats and
//! damages; a plain application that only wants files.

use std::{
    cell::RefCell,
    collections::BTreeMap,
    path::Path,
    rc::Rc,
    sync::{Arc, Mutex},
    time::Duration,
};

use quorate_courier::{Config, Courier, CourierActor, Event, Message, Wiring};
use quorate_persistence::{
    Disk, FilesActor, Numbered, SimDisk, read_atomic, remove_leftovers, write_atomic,
};
use quorate_protocol::{GroupId, Name, NodeId, Role, log::Index};
use quorate_sim::for_each_seed;
use quorate_stage::{
    Chance, CrashMode, Limits, Mailbox, Node, Outlet, Parcel, Peers, Port, Transport, seat,
};
use tokio::task::{AbortHandle, LocalSet};

const DIR: &str = "/checkpoints";
const GROUP: GroupId = GroupId(1);
/// What a step of the files and a part of a file are here.
const BYTES: usize = 8 * 1024;

/// What the network does to messages, in parts of a thousand.
#[derive(Clone, Copy, Default)]
struct Trouble {
    lose: u64,
    repeat: u64,
    damage: u64,
}

struct State {
    chance: Chance,
    ports: BTreeMap<Name, Arc<dyn Port>>,
    trouble: Trouble,
    deaf: Vec<NodeId>,
    sent: BTreeMap<&'static str, u64>,
    /// What is repeated comes again with the next message.
    late: Vec<Parcel>,
}

#[derive(Clone)]
struct Network(Arc<Mutex<State>>);

impl Network {
    fn deliver(&self, parcel: Parcel) {
        let state = self.0.lock().unwrap();
        let deaf = |node| state.deaf.contains(&node);
        if let Some(port) = state.ports.get(&parcel.to)
            && !deaf(parcel.to.node)
            && !deaf(parcel.from.node)
        {
            port.deliver(parcel.from, &parcel.body).expect("its head is whole");
        }
    }

    fn sent(&self, kind: &str) -> u64 {
        self.0.lock().unwrap().sent.get(kind).copied().unwrap_or(0)
    }
}

impl Transport for Network {
    fn send(&self, mut parcel: Parcel) {
        let mut state = self.0.lock().unwrap();
        *state.sent.entry(parcel.kind).or_default() += 1;
        let trouble = state.trouble;
        let mut all = std::mem::take(&mut state.late);
        if state.chance.permille(trouble.repeat) {
            state.late.push(parcel.clone());
        }
        if parcel.kind == "Part" && state.chance.permille(trouble.damage) {
            // A bit of the bytes, behind what can be decoded only one way.
            let mut body = parcel.body.to_vec();
            let at = body.len() - 1 - state.chance.below(16) as usize;
            body[at] ^= 1;
            parcel.body = body.into();
        }
        if !state.chance.permille(trouble.lose) {
            all.push(parcel);
        }
        for parcel in all {
            let network = self.clone();
            tokio::task::spawn_local(async move {
                tokio::time::sleep(Duration::from_millis(1)).await;
                network.deliver(parcel);
            });
        }
    }
}

struct Running {
    stage: Node,
    courier: Mailbox<Message>,
    aborts: Vec<AbortHandle>,
}

/// Some nodes with couriers and files, and nothing else.
#[derive(Clone)]
struct World {
    seed: u64,
    network: Network,
    disks: BTreeMap<NodeId, SimDisk>,
    running: Rc<RefCell<BTreeMap<NodeId, Running>>>,
    events: Arc<Mutex<Vec<(NodeId, Event)>>>,
    fatals: Arc<Mutex<Vec<String>>>,
}

const N1: NodeId = NodeId(1);
const N2: NodeId = NodeId(2);
const N3: NodeId = NodeId(3);

impl World {
    fn run(seed: u64, test: impl AsyncFnOnce(World)) {
        let runtime = tokio::runtime::Builder::new_current_thread();
        let runtime = { runtime }.enable_time().start_paused(true).build().unwrap();
        LocalSet::new().block_on(&runtime, async {
            let state = State {
                chance: Chance::new(seed),
                ports: BTreeMap::new(),
                trouble: Trouble::default(),
                deaf: vec![],
                sent: BTreeMap::new(),
                late: vec![],
            };
            let disk = |node: NodeId| {
                let disk = SimDisk::new(seed ^ u64::from(node.0) << 32);
                disk.set_sync_delay(Duration::ZERO..=Duration::from_millis(3));
                disk.create_dir_all(Path::new(DIR)).unwrap();
                (node, disk)
            };
            let world = World {
                seed,
                network: Network(Arc::new(Mutex::new(state))),
                disks: [N1, N2, N3].into_iter().map(disk).collect(),
                running: Rc::default(),
                events: Arc::default(),
                fatals: Arc::default(),
            };
            for node in [N1, N2, N3] {
                world.start(node);
            }
            test(world.clone()).await;
            assert_eq!(*world.fatals.lock().unwrap(), Vec::<String>::new());
        });
    }

    fn start(&self, node: NodeId) {
        let fatals = self.fatals.clone();
        let on_fatal =
            move |fatal: quorate_stage::Fatal| fatals.lock().unwrap().push(fatal.to_string());
        let stage = Node::new(node, 0, self.seed, Limits::default(), on_fatal, None);
        let disk = self.disks[&node].clone();
        remove_leftovers(&disk, Path::new(DIR)).unwrap();
        let disk: Arc<dyn Disk> = Arc::new(disk);
        let place = seat::<FilesActor>(&stage, Name::of_node(node, Role::Files));
        let files = place.mailbox();
        let mut aborts =
            vec![place.take(move |_| FilesActor::new(disk.clone(), BYTES as u64, Duration::ZERO))];
        let place = seat::<CourierActor>(&stage, Name::new(node, GROUP, Role::Courier));
        let courier = place.mailbox();
        let events = self.events.clone();
        let transport: Arc<dyn Transport> = Arc::new(self.network.clone());
        let wiring = Wiring {
            dir: DIR.into(),
            files: files.outlet(),
            couriers: Peers::new(courier.clone(), transport),
            application: Outlet::from_fn(move |_, event| {
                events.lock().unwrap().push((node, event))
            }),
            events: courier.outlet(),
        };
        let config = Config {
            patience: Duration::from_millis(50),
            pin: Duration::from_secs(30),
            part_bytes: BYTES,
        };
        aborts.push(place.take(move |stage| {
            let core = Courier::new(node, vec![N1, N2, N3], config, stage.chance().number());
            CourierActor::new(core, wiring.clone())
        }));
        self.network.0.lock().unwrap().ports.insert(courier.name(), courier.port());
        self.running.borrow_mut().insert(node, Running { stage, courier, aborts });
    }

    /// Its process is killed, and perhaps the machine loses power.
    fn kill(&self, node: NodeId, power: bool) {
        let gone = self.running.borrow_mut().remove(&node).expect("it runs");
        self.network.0.lock().unwrap().ports.remove(&gone.courier.name());
        gone.aborts.iter().for_each(AbortHandle::abort);
        if power {
            self.disks[&node].crash();
            self.disks[&node].restart();
        } else {
            self.disks[&node].kill();
        }
    }

    fn crash(&self, node: NodeId, role: Role) {
        let name = match role {
            Role::Files => Name::of_node(node, role),
            _ => Name::new(node, GROUP, role),
        };
        self.running.borrow()[&node].stage.crash(name, CrashMode::BeforeNext).unwrap();
    }

    fn trouble(&self, trouble: Trouble) {
        self.network.0.lock().unwrap().trouble = trouble;
    }

    fn tell(&self, node: NodeId, message: Message) {
        let from = Name::of_node(node, Role::Outside);
        self.running.borrow()[&node].courier.send(from, message);
    }

    fn fetch(&self, from: NodeId, index: u64) {
        self.tell(N3, Message::Fetch { from, index: Index(index) });
    }

    /// Puts a checkpoint on a node's disk, and tells its courier.
    fn keep(&self, node: NodeId, index: u64, content: &[u8]) {
        write_atomic(&self.disks[&node], &path(index), content).unwrap();
        self.tell(node, Message::Kept { index: Index(index) });
    }

    fn fetched(&self, node: NodeId) -> Option<u64> {
        let events = self.events.lock().unwrap();
        events.iter().find_map(|(at, event)| match event {
            Event::Fetched { index } if *at == node => Some(index.0),
            _ => None,
        })
    }

    fn carried(&self) -> u64 {
        let events = self.events.lock().unwrap();
        let done = events.iter().filter_map(|(_, event)| match event {
            Event::Carried { done, .. } => Some(*done),
            _ => None,
        });
        done.max().unwrap_or(0)
    }

    async fn sleep_ms(&self, ms: u64) {
        tokio::time::sleep(Duration::from_millis(ms)).await;
    }

    /// Until n3 has what it wants, asked for again and again as an application would.
    async fn until_fetched(&self, from: NodeId, index: u64) -> u64 {
        for _ in 0..3000 {
            if let Some(index) = self.fetched(N3) {
                return index;
            }
            self.fetch(from, index);
            self.sleep_ms(20).await;
        }
        panic!("nothing comes: {:?}", self.events.lock().unwrap().last());
    }

    fn content(&self, node: NodeId, index: u64) -> Option<Vec<u8>> {
        read_atomic(&self.disks[&node], &path(index)).unwrap()
    }

    fn files(&self, node: NodeId) -> Vec<String> {
        self.disks[&node].list(Path::new(DIR)).unwrap()
    }
}

fn path(index: u64) -> std::path::PathBuf {
    Numbered::Checkpoint(index).path(Path::new(DIR))
}

/// Bytes of some chunks, all different.
fn content(seed: u64) -> Vec<u8> {
    let mut chance = Chance::new(seed);
    (0..100_000).flat_map(|_| chance.number().to_le_bytes()).collect()
}

fn some_trouble(seed: u64) -> Trouble {
    match seed % 2 {
        0 => Trouble { lose: 100, repeat: 100, damage: 50 },
        _ => Trouble::default(),
    }
}

#[test]
fn a_checkpoint_comes_whole_whatever_the_network_does() {
    for_each_seed("courier/network", 6, |seed| {
        World::run(seed, async |world| {
            world.trouble(some_trouble(seed));
            let content = content(seed);
            world.keep(N1, 70, &content);
            assert_eq!(world.until_fetched(N1, 61).await, 70);
            assert_eq!(world.content(N3, 70).unwrap(), content);
            assert_eq!(world.disks[&N3].peek(&path(70)), world.disks[&N1].peek(&path(70)));
            let needed = (content.len() / BYTES) as u64;
            let parts = world.network.sent("Part");
            assert!(parts >= needed && parts < 2 * needed + 10, "{parts} parts for {needed}");
            // It is durable, and nothing else is left.
            world.kill(N3, true);
            assert_eq!(world.content(N3, 70).unwrap(), content);
            assert_eq!(world.files(N3), ["checkpoint-70"]);
        });
    });
}

#[test]
fn a_transfer_goes_on_where_it_stopped_whoever_starts_anew() {
    for_each_seed("courier/restart", 8, |seed| {
        World::run(seed, async |world| {
            world.trouble(some_trouble(seed));
            let content = content(seed);
            world.keep(N1, 70, &content);
            let mut chance = Chance::new(seed);
            for _ in 0..12 {
                world.fetch(N1, 70);
                world.sleep_ms(chance.below(25)).await;
                if world.fetched(N3).is_some() {
                    break;
                }
                let node = if chance.permille(500) { N1 } else { N3 };
                match chance.below(4) {
                    0 => world.crash(node, Role::Courier),
                    1 => world.crash(node, Role::Files),
                    power => {
                        world.kill(node, power == 2);
                        world.start(node);
                    }
                }
            }
            world.until_fetched(N1, 70).await;
            assert_eq!(world.content(N3, 70).unwrap(), content);
        });
    });
}

#[test]
fn nothing_is_sent_twice_over_a_restart_when_nothing_was_lost() {
    World::run(1, async |world| {
        let content = content(1);
        world.keep(N1, 70, &content);
        world.fetch(N1, 70);
        while world.carried() < 400_000 {
            world.sleep_ms(1).await;
        }
        world.kill(N3, false);
        let before = world.network.sent("Part");
        world.start(N3);
        assert_eq!(world.until_fetched(N1, 70).await, 70);
        assert_eq!(world.content(N3, 70).unwrap(), content);
        // What is not a whole chunk of the file is fetched again: less than 256 KiB.
        let again = world.network.sent("Part") - before;
        let most = ((content.len() - 400_000 + 256 * 1024) / BYTES) as u64 + 4;
        assert!(again <= most, "{again} parts, {most} are allowed");
    });
}

#[test]
fn another_source_goes_on_where_one_has_stopped() {
    World::run(2, async |world| {
        let content = content(2);
        world.keep(N1, 70, &content);
        world.keep(N2, 70, &content);
        world.fetch(N1, 70);
        while world.carried() < 300_000 {
            world.sleep_ms(1).await;
        }
        world.network.0.lock().unwrap().deaf.push(N1);
        let before = world.network.sent("Part");
        assert_eq!(world.until_fetched(N1, 70).await, 70);
        assert_eq!(world.content(N3, 70).unwrap(), content);
        let parts = world.network.sent("Part") - before;
        let most = ((content.len() - 300_000) / BYTES) as u64 + 4;
        assert!(parts <= most, "{parts} parts, {most} are allowed");
    });
}

#[test]
fn another_file_under_the_same_name_is_never_mixed_in() {
    for_each_seed("courier/mixture", 6, |seed| {
        World::run(seed, async |world| {
            world.keep(N1, 70, &content(seed));
            world.keep(N2, 70, &content(seed + 1000));
            world.fetch(N1, 70);
            let part = 100_000 + seed % 12 * 50_000;
            while world.carried() < part {
                world.sleep_ms(1).await;
            }
            // In odd runs n3 has forgotten which file it was carrying, and only the sum tells.
            world.network.0.lock().unwrap().deaf.push(N1);
            if seed % 2 == 1 {
                world.kill(N3, false);
                world.start(N3);
            }
            assert_eq!(world.until_fetched(N2, 70).await, 70);
            assert_eq!(world.content(N3, 70).unwrap(), content(seed + 1000));
        });
    });
}

#[test]
fn a_newer_one_takes_the_place_of_one_that_is_gone() {
    World::run(3, async |world| {
        world.keep(N1, 70, &content(3));
        world.fetch(N1, 70);
        while world.carried() < 300_000 {
            world.sleep_ms(1).await;
        }
        // It is kept for who carries it, though there is a newer one ...
        world.keep(N1, 90, &content(4));
        world.sleep_ms(10).await;
        assert_eq!(world.files(N1), ["checkpoint-70", "checkpoint-90"]);
        // ... but not for ever.
        world.network.0.lock().unwrap().deaf.push(N3);
        world.sleep_ms(61_000).await;
        assert_eq!(world.files(N1), ["checkpoint-90"]);
        world.network.0.lock().unwrap().deaf.clear();
        assert_eq!(world.until_fetched(N1, 70).await, 90);
        assert_eq!(world.content(N3, 90).unwrap(), content(4));
        assert_eq!(world.files(N3), ["checkpoint-90"], "what was half there is gone");
    });
}

#[test]
fn a_file_that_is_damaged_at_its_source_comes_from_another_one() {
    World::run(4, async |world| {
        let content = content(4);
        world.keep(N1, 70, &content);
        world.keep(N2, 70, &content);
        world.disks[&N1].flip_bit(&path(70), 500_000, 3).unwrap();
        assert_eq!(world.until_fetched(N1, 70).await, 70);
        assert_eq!(world.content(N3, 70).unwrap(), content);
    });
}

#[test]
fn a_full_disk_is_tried_again_and_ends_nothing() {
    World::run(5, async |world| {
        let content = content(5);
        world.keep(N1, 70, &content);
        world.disks[&N3].set_bytes_max(Some(300_000));
        for _ in 0..100 {
            world.fetch(N1, 70);
            world.sleep_ms(20).await;
        }
        let failed = |(_, event): &(NodeId, Event)| matches!(event, Event::Failed { .. });
        assert!(world.events.lock().unwrap().iter().any(failed), "nobody says so");
        assert_eq!(world.fetched(N3), None);
        world.disks[&N3].set_bytes_max(None);
        assert_eq!(world.until_fetched(N1, 70).await, 70);
        assert_eq!(world.content(N3, 70).unwrap(), content);
    });
}

#[test]
fn a_failed_sync_makes_the_transfer_begin_again() {
    World::run(6, async |world| {
        let content: Vec<u8> = (0..7).flat_map(content).collect();
        world.keep(N1, 70, &content);
        world.disks[&N3].fail_sync_after(0);
        assert_eq!(world.until_fetched(N1, 70).await, 70);
        let failed = |(_, event): &(NodeId, Event)| matches!(event, Event::Failed { .. });
        assert!(world.events.lock().unwrap().iter().any(failed), "a sync of parts has failed");
        assert_eq!(world.content(N3, 70).unwrap(), content);
    });
}

#[test]
fn nobody_has_one_until_somebody_has() {
    World::run(7, async |world| {
        world.fetch(N1, 70);
        world.sleep_ms(2000).await;
        assert_eq!(world.fetched(N3), None);
        world.keep(N2, 71, b"small");
        world.sleep_ms(2000).await;
        assert_eq!(world.fetched(N3), Some(71), "others than the first are asked too");
        assert_eq!(world.content(N3, 71).unwrap(), b"small");
    });
}

#[test]
fn what_is_not_needed_any_more_is_not_fetched() {
    World::run(8, async |world| {
        world.keep(N1, 70, &content(8));
        world.fetch(N1, 70);
        while world.carried() < 300_000 {
            world.sleep_ms(1).await;
        }
        world.tell(N3, Message::Enough);
        world.sleep_ms(100).await;
        let asked = world.network.sent("Ask");
        world.sleep_ms(5000).await;
        assert_eq!(world.network.sent("Ask"), asked, "it still asks");
        assert_eq!(world.fetched(N3), None);
        world.keep(N3, 80, b"our own");
        world.sleep_ms(10).await;
        assert_eq!(world.files(N3), ["checkpoint-80"], "what was half there is older");
    });
}
