//! A node whose gate is closed does nothing, and loses nothing.

use std::{cell::RefCell, rc::Rc, time::Duration};

use quorate_protocol::{Name, NodeId, Role as RoleName};
use quorate_stage::{Limits, Node, Role, Stage, seat};
use tokio::task::LocalSet;

#[derive(Clone, Debug)]
struct Word(u64);

impl std::fmt::Display for Word {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}", self.0)
    }
}

impl quorate_stage::Message for Word {
    const KINDS: &'static [&'static str] = &["Word"];

    fn kind(&self) -> usize {
        0
    }
}

struct Listener(Rc<RefCell<Vec<u64>>>);

impl Role for Listener {
    type Message = Word;
    type Timer = ();

    fn started(&mut self, stage: &mut Stage<Self>) {
        stage.set_timer((), Duration::from_millis(50));
    }

    fn receive(&mut self, _: Name, Word(word): Word, _: &mut Stage<Self>) {
        self.0.borrow_mut().push(word);
    }

    fn on_timer(&mut self, (): (), _: &mut Stage<Self>) {
        self.0.borrow_mut().push(1000);
    }
}

async fn pass(ms: u64) {
    tokio::time::sleep(Duration::from_millis(ms)).await;
}

#[test]
fn a_closed_gate_holds_messages_and_timers() {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_time()
        .start_paused(true)
        .build()
        .expect("a runtime");
    LocalSet::new().block_on(&runtime, async {
        let node = Node::new(NodeId(1), 0, 1, Limits::default(), |_| {}, None);
        let place = seat::<Listener>(&node, Name::of_node(NodeId(1), RoleName::Outside));
        let (mailbox, heard) = (place.mailbox(), Rc::new(RefCell::new(vec![])));
        let ears = heard.clone();
        let _end = place.take(move |_| Listener(ears.clone()));
        mailbox.send(mailbox.name(), Word(1));
        pass(10).await;
        assert_eq!(*heard.borrow(), [1]);

        node.gate().close();
        mailbox.send(mailbox.name(), Word(2));
        mailbox.send(mailbox.name(), Word(3));
        pass(500).await;
        assert_eq!(*heard.borrow(), [1], "it is stopped");

        node.gate().open();
        pass(1).await;
        let mut after = heard.borrow().clone();
        // Messages keep their order; the timer that ran out meanwhile is heard now, beside them.
        after.retain(|word| *word != 1000);
        assert_eq!(after, [1, 2, 3]);
        assert_eq!(heard.borrow().len(), 4);
    });
}

#[test]
fn a_clock_can_be_set() {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_time()
        .start_paused(true)
        .build()
        .expect("a runtime");
    runtime.block_on(async {
        let node = Node::new(NodeId(1), 10_000, 1, Limits::default(), |_| {}, None);
        pass(5).await;
        node.jump_clock(1000);
        assert_eq!(node.wall_ms(), 11_005);
        node.jump_clock(-3000);
        assert_eq!(node.wall_ms(), 8_005);
        node.jump_clock(-1_000_000);
        assert_eq!(node.wall_ms(), 0, "before 1970 there is nothing");
    });
}
