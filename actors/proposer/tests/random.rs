//! Random schedules: messages are lost, repeated, late and out of order, nodes and single roles die and
//! come back from what is durable, links are cut, members change, disks are lost. One value per slot at
//! every step; then all heals, and whatever a live proposer wants is chosen and applied everywhere.

mod common;

use common::{World, member};
use quorate_protocol::{Change, NodeId};

const SECONDS: u64 = 6;
const MACHINES_MAX: u32 = 6;

struct Run {
    world: World,
    seq: u64,
    incarnation: u64,
    led_to_the_end: u64,
}

impl Run {
    fn new(seed: u64) -> Run {
        let mut world = World::new(seed, 3);
        world.loss_permille = world.below(150);
        world.duplicates_permille = world.below(100);
        world.delay_us = (0, 1000 + world.below(15_000));
        world.sync_us_max = world.below(10_000);
        world.save_every = 20 + world.below(500);
        Run { world, seq: 0, incarnation: 100, led_to_the_end: 0 }
    }

    /// Any member, or any node that runs.
    fn anybody(&mut self) -> Option<NodeId> {
        let all: Vec<NodeId> =
            self.world.nodes.keys().copied().filter(|id| self.world.runs(*id)).collect();
        let place = self.world.below(all.len().max(1) as u64) as usize;
        all.get(place).copied()
    }

    /// Whether it could start: a machine without its disk stays away until it is somebody else.
    fn is_down(&self, id: NodeId) -> bool {
        let is_there = self.world.nodes.contains_key(&id) && !self.world.lost.contains(&id);
        is_there && !self.world.runs(id)
    }

    fn work(&mut self) {
        let Some(id) = self.anybody() else { return };
        self.seq += 1;
        match self.world.below(3) {
            0 => self.world.read(id),
            _ => self.world.want(id, self.seq),
        }
    }

    fn harm(&mut self) {
        let Some(id) = self.anybody() else { return };
        match self.world.below(8) {
            0 => self.world.kill(id),
            1..=3 => {
                let members = self.world.members().members();
                let is_down = |id: &&NodeId| self.is_down(**id);
                let down = members.iter().find(is_down).copied();
                if let Some(down) = down {
                    self.world.start(down);
                }
            }
            4 | 5 => {
                let role = self.world.below(3);
                self.world.restart_role(id, role);
            }
            6 => {
                if let Some(other) = self.anybody() {
                    self.world.cut.insert((id.home(), other.home()));
                }
            }
            _ => self.world.cut.clear(),
        }
    }

    /// One change at a time: a disk is lost only while a majority is there without it.
    fn change(&mut self) {
        if self.world.change.is_some() {
            return;
        }
        let now = self.world.members();
        let members: Vec<NodeId> = now.members().into_iter().collect();
        let all_run = members.iter().all(|id| self.world.runs(*id));
        let of_members = self.world.below(members.len() as u64) as usize;
        let leader = members
            .iter()
            .copied()
            .find(|id| self.world.nodes[id].proposer().is_some_and(|proposer| proposer.leads()));
        let victim = leader.filter(|_| self.world.below(2) == 0).unwrap_or(members[of_members]);
        self.incarnation += 1;
        match self.world.below(3) {
            0 if all_run => self.world.lose_disk(victim.home(), self.incarnation),
            1 if members.len() < 5 => {
                let is_free = |machine: &u32| now.member_at(NodeId(*machine)).is_none();
                if let Some(machine) = (1..=MACHINES_MAX).find(is_free) {
                    let newcomer = member(NodeId(machine), self.incarnation);
                    self.world.change = Some(Change::Add(newcomer));
                }
            }
            2 if members.len() > 3 && all_run => {
                self.led_to_the_end += u64::from(leader == Some(victim));
                self.world.change = Some(Change::Remove(victim));
            }
            _ => {}
        }
    }

    fn run(&mut self) {
        let until = self.world.now_us + SECONDS * 1_000_000;
        while self.world.now_us < until {
            for _ in 0..self.world.below(4) {
                self.work();
            }
            match self.world.below(30) {
                0 | 1 => self.harm(),
                2 => self.change(),
                3..=6 => self.world.steward(),
                _ => {}
            }
            let pause = 1 + self.world.below(30);
            self.world.run_ms(pause);
        }
    }

    fn converge(&mut self) {
        self.world.cut.clear();
        self.world.loss_permille = 0;
        for id in self.world.members().members() {
            if self.is_down(id) {
                self.world.start(id);
            }
        }
        for _ in 0..200 {
            self.world.steward();
            self.world.run_ms(50);
            if self.world.change.is_none() {
                break;
            }
        }
        assert!(self.world.change.is_none(), "no change:\n{}", self.world.describe());
        for id in self.world.live() {
            self.seq += 1;
            self.world.want(id, self.seq);
            self.world.read(id);
        }
        let members = self.world.members().members();
        self.world.run_until(20_000, "everybody has everything", |world| {
            let last = world.chosen.last_key_value().map_or(0, |(slot, _)| slot.0);
            members.iter().all(|id| {
                let on = &world.nodes[id];
                world.runs(*id) && on.wanted.is_empty() && on.applied == last
            })
        });
        let configured = members.iter().map(|id| self.world.nodes[id].configured.clone());
        let now = self.world.members();
        assert!(configured.into_iter().all(|told| told == Some(now.clone())), "all are told {now}");
        assert!(self.world.alarms.is_empty(), "{:?}", self.world.alarms);
    }
}

fn seeds(usual: u64) -> std::ops::Range<u64> {
    let number = |name| std::env::var(name).ok().and_then(|text| text.parse::<u64>().ok());
    match number("QUORATE_SEED") {
        Some(seed) => seed..seed + 1,
        None => 1..1 + number("QUORATE_SEEDS").unwrap_or(usual),
    }
}

#[test]
fn one_value_per_slot_while_the_members_change() {
    let (mut changes, mut reads, mut chosen, mut leaders) = (0, 0, 0, 0);
    let seeds = seeds(60);
    let count = seeds.end - seeds.start;
    for seed in seeds {
        let run = std::panic::catch_unwind(|| {
            let mut run = Run::new(seed);
            run.run();
            run.converge();
            run
        });
        let run = run.unwrap_or_else(|panic| {
            eprintln!("failed with seed {seed}; replay with QUORATE_SEED={seed}");
            std::panic::resume_unwind(panic)
        });
        changes += run.world.changes_made;
        reads += run.world.barriers_answered;
        chosen += run.world.chosen.values().flatten().count();
        leaders += run.led_to_the_end;
    }
    println!(
        "{count} runs: {changes} changes of members, {leaders} of them removed who led, {chosen} \
         commands chosen, {reads} reads answered"
    );
    // The schedules do what they are for.
    if count >= 30 {
        assert!(changes > 2 * count && leaders > 0 && reads > 20 * count, "too little happens");
    }
}

/// Every machine in turn loses its disk or its process, and comes back after a second; two more seconds
/// later it is the next one's turn. Nothing is ever saved: newcomers get the log.
#[test]
fn disks_are_lost_one_after_the_other() {
    for seed in seeds(20) {
        let mut world = World::new(seed, 3);
        world.loss_permille = 100;
        world.delay_us = (0, 27_000);
        world.sync_us_max = 5000;
        let mut seq = 0;
        for round in 0..30_u64 {
            let machine = |place: u64| NodeId((place % 3) as u32 + 1);
            let now = world.members();
            let [victim, via] = [round, round + 1].map(|place| now.member_at(machine(place)));
            let (Some(victim), Some(via)) = (victim, via) else { panic!("{now}") };
            seq += 1;
            world.want(via, seq);
            let pause = world.below(200);
            world.run_ms(pause);
            let is_lost = world.below(2) == 0;
            match is_lost {
                true => world.lose_disk(machine(round), 1000 + round),
                false => world.kill(victim),
            }
            world.run_ms(1000);
            if !is_lost {
                world.start(victim);
            }
            for _ in 0..22 {
                world.petition();
                world.run_ms(100);
            }
            let wanted = &world.nodes[&via].wanted;
            assert!(wanted.is_empty(), "seed {seed}, round {round}: {}", world.describe());
            let now = world.members();
            assert!(!now.is_joint(), "seed {seed}, round {round}: {}", world.describe());
        }
        assert!(world.alarms.is_empty(), "{:?}", world.alarms);
    }
}
