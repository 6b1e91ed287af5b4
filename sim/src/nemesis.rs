//! Faults at random: which ones a run has is drawn from its seed, and so is each of them.
//!
//! A run with every fault at once hides what a few of them do together, so each seed has its own
//! choice (swarm testing: Groce et al., 2012).

use std::{collections::BTreeMap, fmt, time::Duration};

use quorate_protocol::NodeId;
use quorate_stage::CrashMode;
use tokio::time::Instant;

use crate::world::World;

/// Which faults a run has.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Faults {
    /// Requests and answers are lost, as on the labs' unreliable network.
    pub loss: bool,
    /// Parcels arrive twice.
    pub duplicates: bool,
    /// Parcels take long, and so overtake each other.
    pub delays: bool,
    /// Servers fall into sets that do not hear each other.
    pub partitions: bool,
    /// Nothing passes from one server to another, while the way back is open.
    pub one_way_cuts: bool,
    /// Servers are killed, also all of them; what was not synced is lost.
    pub kills: bool,
    /// Single actors crash, before or after the message at hand.
    pub crashes: bool,
}

impl Faults {
    /// None at all.
    pub const NONE: Faults = Faults {
        loss: false,
        duplicates: false,
        delays: false,
        partitions: false,
        one_way_cuts: false,
        kills: false,
        crashes: false,
    };

    /// Each with even chances.
    pub fn draw(world: &World) -> Faults {
        let draw = || world.permille(500);
        Faults {
            loss: draw(),
            duplicates: draw(),
            delays: draw(),
            partitions: draw(),
            one_way_cuts: draw(),
            kills: draw(),
            crashes: draw(),
        }
    }

    fn names(self) -> impl Iterator<Item = &'static str> {
        let all = [
            ("loss", self.loss),
            ("duplicates", self.duplicates),
            ("delays", self.delays),
            ("partitions", self.partitions),
            ("one-way-cuts", self.one_way_cuts),
            ("kills", self.kills),
            ("crashes", self.crashes),
        ];
        all.into_iter().filter(|(_, is_on)| *is_on).map(|(name, _)| name)
    }
}

impl fmt::Display for Faults {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if *self == Faults::NONE {
            return f.write_str("none");
        }
        for (i, name) in self.names().enumerate() {
            write!(f, "{}{name}", if i == 0 { "" } else { "," })?;
        }
        Ok(())
    }
}

/// The usual way of a parcel, and a bad one.
const DELAY: Duration = Duration::from_millis(1);
const DELAY_BAD: Duration = Duration::from_millis(60);

/// Troubles the servers of a world for a while, then heals everything and starts who is down.
pub async fn trouble(world: &World, faults: Faults, during: Duration) {
    let end = Instant::now() + during;
    if faults.loss {
        world.net.set_unreliable(world.servers());
    }
    if faults.duplicates {
        world.net.set_duplicates(50);
    }
    if faults.delays {
        world.net.set_delay(Duration::ZERO, DELAY_BAD);
    }
    let mut down: BTreeMap<NodeId, Instant> = BTreeMap::new();
    while Instant::now() < end {
        world.sleep_ms(50 + world.below(1500)).await;
        let now = Instant::now();
        let due: Vec<NodeId> =
            down.iter().filter(|(_, until)| **until <= now).map(|(node, _)| *node).collect();
        for node in due {
            down.remove(&node);
            world.start(node, false);
        }
        match world.below(5) {
            0 if faults.partitions => world.net.partition(world.random_partition()),
            1 if faults.one_way_cuts => {
                let order = world.shuffled();
                if let [from, to, ..] = order[..] {
                    world.net.cut(from, to);
                }
            }
            2 if faults.kills => {
                let mut victims = world.shuffled();
                // Mostly one; now and then several, up to all.
                let most = if world.permille(700) { 1 } else { victims.len() as u64 };
                victims.truncate(1 + world.below(most) as usize);
                victims.retain(|node| world.runs(*node));
                for node in victims {
                    world.kill(node);
                    down.insert(node, now + Duration::from_millis(world.below(5000)));
                }
            }
            3 if faults.crashes => crash_one(world),
            _ => world.net.heal(),
        }
    }
    world.net.heal();
    world.net.set_unreliable([]);
    world.net.set_duplicates(0);
    world.net.set_delay(Duration::ZERO, DELAY);
    for node in down.into_keys() {
        world.start(node, false);
    }
}

/// Crashes an actor of any kind on a server that runs.
fn crash_one(world: &World) {
    let Some(node) = world.shuffled().into_iter().find(|node| world.runs(*node)) else { return };
    let stage = world.node(node).stage.clone();
    let names: Vec<_> = stage.mailboxes().iter().map(|stats| stats.name()).collect();
    let name = names[world.below(names.len() as u64) as usize];
    let modes = [CrashMode::Now, CrashMode::BeforeNext, CrashMode::AfterNext];
    let crashed = stage.crash(name, modes[world.below(3) as usize]);
    assert!(crashed.is_ok(), "{name} is one of the actors there");
}
