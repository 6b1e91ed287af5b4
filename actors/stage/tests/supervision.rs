//! What the stage promises of an actor's life (S1-S4 of the crate's documentation).

use std::{
    fmt,
    sync::{Arc, Mutex},
    time::Duration,
};

use quorate_protocol::{GroupId, Name, NodeId, Role as RoleName};
use quorate_stage::{CrashMode, Limits, Message, Node, Role, Stage, seat};

enum Told {
    Add(u64),
    Panic,
    Wake(u64),
    Flush,
}

impl Message for Told {
    const KINDS: &'static [&'static str] = &["Add", "Panic", "Wake", "Flush"];

    fn kind(&self) -> usize {
        match self {
            Told::Add(_) => 0,
            Told::Panic => 1,
            Told::Wake(_) => 2,
            Told::Flush => 3,
        }
    }
}

impl fmt::Display for Told {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(Self::KINDS[self.kind()])
    }
}

type Seen = Arc<Mutex<Vec<String>>>;

struct Counter {
    seen: Seen,
    sum: u64,
}

impl Role for Counter {
    type Message = Told;
    type Timer = u64;

    fn receive(&mut self, _: Name, message: Told, stage: &mut Stage<Self>) {
        match message {
            Told::Add(n) => {
                self.sum += n;
                self.seen.lock().unwrap().push(format!("sum {}", self.sum));
            }
            Told::Panic => panic!("poison"),
            Told::Wake(ms) => stage.set_timer(ms, Duration::from_millis(ms)),
            Told::Flush => stage.request_flush(),
        }
    }

    fn on_timer(&mut self, timer: u64, _: &mut Stage<Self>) {
        self.seen.lock().unwrap().push(format!("woken {timer}"));
    }

    fn flush(&mut self, _: &mut Stage<Self>) {
        self.seen.lock().unwrap().push("flush".into());
    }
}

fn name() -> Name {
    Name::new(NodeId(1), GroupId(1), RoleName::Rsm)
}

fn on_stage(test: impl AsyncFnOnce(Node, quorate_stage::Mailbox<Told>, Seen, Seen)) {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_time()
        .start_paused(true)
        .build()
        .unwrap();
    tokio::task::LocalSet::new().block_on(&runtime, async {
        let (seen, died) = (Seen::default(), Seen::default());
        let told = died.clone();
        let fatal = move |fatal: quorate_stage::Fatal| told.lock().unwrap().push(fatal.reason);
        let node = Node::new(NodeId(1), 0, 7, Limits::default(), fatal, None);
        let place = seat::<Counter>(&node, name());
        let mailbox = place.mailbox();
        let shown = seen.clone();
        place.take(move |_| Counter { seen: shown.clone(), sum: 0 });
        test(node, mailbox, seen, died).await;
    });
}

async fn settle() {
    tokio::time::sleep(Duration::from_millis(1)).await;
}

#[test]
fn a_panic_costs_memory_and_one_message_and_nothing_that_waits() {
    on_stage(async |node, mailbox, seen, _| {
        mailbox.send(name(), Told::Add(5));
        mailbox.send(name(), Told::Panic);
        mailbox.send(name(), Told::Add(1));
        settle().await;
        assert_eq!(*seen.lock().unwrap(), ["sum 5", "sum 1"]);
        let view = node.mailbox(name()).unwrap().mailbox();
        assert_eq!((view.actor.depth, view.actor.handled, view.actor.restarts), (0, 3, 1));
        assert_eq!(view.actor.last_panic.unwrap().message, "poison");
        assert_eq!(view.kinds[0].handled, 2);
        assert_eq!(view.recent.len(), 2);
    });
}

#[test]
fn injected_crashes_strike_where_they_are_told_and_have_no_limit() {
    on_stage(async |node, mailbox, seen, died| {
        mailbox.send(name(), Told::Add(5));
        node.crash(name(), CrashMode::Now).unwrap();
        mailbox.send(name(), Told::Add(1));
        node.crash(name(), CrashMode::BeforeNext).unwrap();
        mailbox.send(name(), Told::Add(100));
        mailbox.send(name(), Told::Add(2));
        settle().await;
        assert_eq!(*seen.lock().unwrap(), ["sum 5", "sum 1", "sum 2"]);
        for _ in 0..500 {
            node.crash(name(), CrashMode::Now).unwrap();
        }
        mailbox.send(name(), Told::Add(9));
        settle().await;
        assert_eq!(seen.lock().unwrap().last().unwrap(), "sum 9");
        assert!(died.lock().unwrap().is_empty());
        assert!(node.crash(name().on(NodeId(2)), CrashMode::Now).is_err());
    });
}

#[test]
fn a_poison_message_that_comes_again_and_again_ends_the_node() {
    on_stage(async |_, mailbox, seen, died| {
        for _ in 0..20 {
            mailbox.send(name(), Told::Panic);
        }
        mailbox.send(name(), Told::Add(1));
        settle().await;
        let died = died.lock().unwrap();
        assert_eq!(died.len(), 1);
        assert!(died[0].contains("panicked 11 times") && died[0].contains("poison"), "{died:?}");
        assert!(seen.lock().unwrap().is_empty(), "an actor beyond its limit must be silent");
    });
}

#[test]
fn timers_fire_in_order_move_and_do_not_survive_a_crash() {
    on_stage(async |node, mailbox, seen, _| {
        for ms in [30, 10, 20] {
            mailbox.send(name(), Told::Wake(ms));
        }
        tokio::time::sleep(Duration::from_millis(15)).await;
        mailbox.send(name(), Told::Wake(20));
        tokio::time::sleep(Duration::from_millis(16)).await;
        assert_eq!(*seen.lock().unwrap(), ["woken 10", "woken 30"]);
        tokio::time::sleep(Duration::from_millis(20)).await;
        assert_eq!(seen.lock().unwrap()[2], "woken 20");
        mailbox.send(name(), Told::Wake(20));
        node.crash(name(), CrashMode::Now).unwrap();
        mailbox.send(name(), Told::Wake(40));
        tokio::time::sleep(Duration::from_millis(100)).await;
        assert_eq!(seen.lock().unwrap()[3..], ["woken 40"]);
    });
}

#[test]
fn a_flush_comes_after_what_was_waiting_and_before_what_came_later() {
    on_stage(async |_, mailbox, seen, _| {
        mailbox.send(name(), Told::Flush);
        mailbox.send(name(), Told::Add(1));
        mailbox.send(name(), Told::Add(1));
        settle().await;
        assert_eq!(*seen.lock().unwrap(), ["sum 1", "sum 2", "flush"]);
    });
}
