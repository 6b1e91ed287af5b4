//! What the clerk promises (C1 to C5), against servers that the test plays.

use std::{
    sync::{Arc, Mutex},
    time::Duration,
};

use bytes::Bytes;
use quorate_clerk::{Clerk, Config, Layout, Message, Outcome, Outcomes, Refusal, Servers};
use quorate_kvserver::{Condition, KvError, Message as ToServer, Op, Reply, Served, Version};
use quorate_protocol::{GroupId, Name, NodeId, Role};
use quorate_rsm::{Outcome as Answer, Request};
use quorate_stage::{CrashMode, Directory, Limits, Mailbox, Node, Outlet, Parcel, Transport, seat};

/// A copy of a request, and which server it went to.
#[derive(Clone)]
struct Sent {
    node: NodeId,
    copy: u64,
    request: Request<Op>,
}

/// What the clerk has sent.
#[derive(Clone, Default)]
struct Wire(Arc<Mutex<Vec<Sent>>>);

impl Transport for Wire {
    fn send(&self, parcel: Parcel) {
        let message: ToServer = rmp_serde::from_slice(&parcel.body).unwrap();
        let requests = match message {
            ToServer::Serve { requests } => requests,
            ToServer::ServeSessionless { client_id, ops } => {
                // It has no serial.
                let request = |(copy, command)| {
                    (copy, Request { client_id, serial: 0, acked_below: 0, after: 0, command })
                };
                ops.into_iter().map(request).collect()
            }
            other => panic!("{other}"),
        };
        let mut sent = self.0.lock().unwrap();
        let node = parcel.to.node;
        sent.extend(requests.into_iter().map(|(copy, request)| Sent { node, copy, request }));
    }
}

struct Scene {
    node: Node,
    clerk: Mailbox<Message>,
    wire: Wire,
    outcomes: Arc<Mutex<Outcomes>>,
}

impl Scene {
    fn submit(&self, ops: Vec<(u64, Op)>) {
        let outcomes = self.outcomes.clone();
        let reply = Outlet::from_fn(move |_, told: Outcomes| outcomes.lock().unwrap().extend(told));
        self.clerk.send(self.clerk.name(), Message::Submit { ops, reply });
    }

    fn answer(&self, sent: &Sent, answer: Answer<Reply>) {
        let Sent { copy, request: Request { client_id, .. }, .. } = *sent;
        let served = Served { client_id, answers: vec![(copy, answer)] };
        self.clerk.send(Name::of_node(NodeId(1), Role::KvServer), Message::Served(served));
    }

    fn sent(&self) -> Vec<Sent> {
        std::mem::take(&mut self.wire.0.lock().unwrap())
    }

    fn told(&self) -> Outcomes {
        std::mem::take(&mut self.outcomes.lock().unwrap())
    }

    async fn after(&self, ms: u64) {
        tokio::time::sleep(Duration::from_millis(ms)).await;
    }
}

fn put(value: &str) -> Op {
    versioned(value, Condition::Always)
}

fn versioned(value: &str, condition: Condition) -> Op {
    let (key, value) = (Bytes::from_static(b"k"), Bytes::copy_from_slice(value.as_bytes()));
    Op::Put { key, value, condition, want_old: false }
}

fn get() -> Op {
    Op::Get { key: Bytes::from_static(b"k") }
}

fn stored(version: u64) -> Reply {
    Reply::Stored { version: Version(version), old: None }
}

fn scene(deadline: Option<Duration>, test: impl AsyncFnOnce(Scene)) {
    scene_with(true, deadline, test);
}

fn scene_with(sessions: bool, deadline: Option<Duration>, test: impl AsyncFnOnce(Scene)) {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_time()
        .start_paused(true)
        .build()
        .unwrap();
    tokio::task::LocalSet::new().block_on(&runtime, async {
        let node = Node::new(NodeId(9), 0, 1, Limits::default(), |fatal| panic!("{fatal}"), None);
        let place = seat::<Clerk>(&node, Name::of_node(NodeId(9), Role::Clerk));
        let clerk = place.mailbox();
        let wire = Wire::default();
        let transport: Arc<dyn Transport> = Arc::new(wire.clone());
        let retry = Duration::from_millis(100);
        let config = Config { retry, deadline, under_way_max: 4, sessions };
        place.take(move |stage| {
            let servers = Directory::new(NodeId(9), Role::KvServer, transport.clone());
            let layout = Layout::Whole { group: GroupId(1), nodes: vec![NodeId(1), NodeId(2)] };
            let servers = Servers { layout, servers, started: None, configured: None };
            Clerk::new(config, servers, stage)
        });
        test(Scene { node, clerk, wire, outcomes: Arc::default() }).await;
    });
}

#[test]
fn what_is_sent_again_keeps_its_serial_and_goes_to_the_next_server() {
    scene(None, async |scene| {
        scene.submit(vec![(7, put("a"))]);
        scene.after(1).await;
        let first = scene.sent();
        scene.after(200).await;
        let again = scene.sent();
        let (first, again) = (&first[0], &again[0]);
        assert_eq!((first.node, again.node), (NodeId(1), NodeId(2)));
        let identity = |sent: &Sent| (sent.request.client_id, sent.request.serial);
        assert_eq!(identity(first), identity(again));
        // Both copies are answered: the user hears once.
        scene.answer(first, Answer::Done(stored(1)));
        scene.answer(again, Answer::Done(stored(1)));
        scene.after(1).await;
        assert_eq!(scene.told(), [(7, Outcome::Done(stored(1)))]);
        scene.after(1000).await;
        assert!(scene.sent().is_empty(), "nothing is sent for who has been answered");
    });
}

#[test]
fn acked_below_stops_at_what_somebody_waits_for() {
    scene(None, async |scene| {
        scene.submit(vec![(1, put("a")), (2, put("b"))]);
        scene.after(1).await;
        let sent = scene.sent();
        let serial = sent[0].request.serial;
        scene.answer(&sent[1], Answer::Done(stored(2)));
        scene.submit(vec![(3, put("c"))]);
        scene.after(1).await;
        assert_eq!(scene.sent()[0].request.acked_below, serial, "the first is still open");
        scene.answer(&sent[0], Answer::Done(stored(1)));
        scene.submit(vec![(4, put("d"))]);
        scene.after(1).await;
        assert_eq!(scene.sent()[0].request.acked_below, serial + 2);
    });
}

#[test]
fn an_unknown_outcome_is_said_to_be_unknown() {
    scene(Some(Duration::from_secs(1)), async |scene| {
        let version = Condition::IfVersion(Version(3));
        scene.submit(vec![(1, put("a")), (2, versioned("b", version)), (3, get())]);
        scene.after(1).await;
        let sent = scene.sent();
        scene.answer(&sent[0], Answer::Forgotten);
        scene.answer(&sent[1], Answer::Forgotten);
        scene.after(1).await;
        assert_eq!(scene.told(), [(1, Outcome::Unknown), (2, Outcome::Maybe)]);
        scene.submit(vec![(4, put("c"))]);
        scene.after(1500).await;
        // The deadline: a read had no effect, a write may have one.
        let no_quorum = Outcome::Refused(Refusal::NoQuorum);
        assert_eq!(scene.told(), [(3, no_quorum), (4, Outcome::Unknown)]);
    });
}

/// C6. The clerk's process is stopped for hours, as by SIGSTOP, and goes on.
#[test]
fn what_servers_may_have_forgotten_is_not_sent_again() {
    scene(None, async |scene| {
        scene.submit(vec![(1, put("a"))]);
        scene.after(1).await;
        assert_eq!(scene.sent().len(), 1);
        scene.node.gate().close();
        scene.after(2 * 60 * 60 * 1000).await;
        scene.node.gate().open();
        scene.after(1000).await;
        assert!(scene.sent().is_empty());
        assert_eq!(scene.told(), [(1, Outcome::Unknown)]);
    });
}

#[test]
fn refused_means_that_no_copy_can_take_effect() {
    scene(None, async |scene| {
        scene.submit((0..5).map(|token| (token, put("a"))).collect());
        scene.after(1).await;
        assert_eq!(scene.told(), [(4, Outcome::Refused(Refusal::Busy))], "four is the bound");
        let sent = scene.sent();
        scene.answer(&sent[0], Answer::Busy);
        scene.after(1).await;
        assert_eq!(scene.told(), [(0, Outcome::Refused(Refusal::Busy))], "the only copy");
        scene.after(200).await;
        // A second copy is under way: that the first was refused says nothing of it.
        scene.answer(&sent[1], Answer::Busy);
        scene.after(1).await;
        assert!(scene.told().is_empty());
        let long = put(&"x".repeat(quorate_kvserver::VALUE_BYTES_MAX + 1));
        scene.submit(vec![(9, long)]);
        scene.after(1).await;
        assert_eq!(scene.told(), [(9, Outcome::Refused(Refusal::TooLong))]);
    });
}

#[test]
fn a_clerk_that_starts_anew_takes_no_answer_of_its_former_life() {
    scene(None, async |scene| {
        scene.submit(vec![(1, put("a"))]);
        scene.after(1).await;
        let former = scene.sent()[0].clone();
        scene.node.crash(scene.clerk.name(), CrashMode::Now).unwrap();
        scene.submit(vec![(2, put("b"))]);
        scene.after(1).await;
        let present = scene.sent()[0].clone();
        assert_eq!(present.request.serial, former.request.serial, "serials begin anew");
        assert_ne!(present.request.client_id, former.request.client_id);
        scene.answer(&former, Answer::Done(stored(1)));
        scene.after(1).await;
        assert!(scene.told().is_empty(), "that was for the former life");
        scene.answer(&present, Answer::Done(stored(2)));
        scene.after(1).await;
        assert_eq!(scene.told(), [(2, Outcome::Done(stored(2)))]);
    });
}

fn at(version: u64) -> Op {
    versioned("v", Condition::IfVersion(Version(version)))
}

fn other_version() -> Answer<Reply> {
    Answer::Done(Reply::Error(KvError::Version { stored: Version(9) }))
}

#[test]
fn without_a_session_err_version_is_certain_only_of_what_was_sent_once() {
    scene_with(false, None, async |scene| {
        scene.submit(vec![(1, at(3)), (2, at(3)), (3, at(3)), (4, at(3))]);
        scene.after(1).await;
        let sent = scene.sent();
        scene.answer(&sent[0], other_version());
        scene.after(1).await;
        let certain = Reply::Error(KvError::Version { stored: Version(9) });
        assert_eq!(scene.told(), [(1, Outcome::Done(certain))]);
        scene.after(1000).await;
        assert!(scene.told().is_empty(), "time alone says nothing");
        assert!(scene.sent().len() > 3, "it is sent again for ever");
        let no_key = Reply::Error(KvError::NoKey);
        scene.answer(&sent[1], other_version());
        scene.answer(&sent[2], Answer::Done(no_key.clone()));
        scene.answer(&sent[3], Answer::Done(stored(4)));
        scene.after(1).await;
        let told = [(2, Outcome::Maybe), (3, Outcome::Done(no_key)), (4, Outcome::Done(stored(4)))];
        assert_eq!(scene.told(), told);
    });
}

#[test]
fn without_a_session_a_copy_that_was_refused_does_not_count() {
    scene_with(false, None, async |scene| {
        scene.submit(vec![(1, at(3)), (2, at(3))]);
        scene.after(1).await;
        let sent = scene.sent();
        scene.answer(&sent[0], Answer::Busy);
        // Who stops may have handed it on.
        scene.answer(&sent[1], Answer::Stopped);
        scene.after(60).await;
        let again = scene.sent();
        assert_eq!(again.len(), 2, "at once, without waiting for the patience to end");
        assert!(again.iter().all(|sent| sent.node == NodeId(2)), "the next server");
        scene.answer(&again[0], other_version());
        scene.answer(&again[1], other_version());
        scene.after(1).await;
        let certain = Reply::Error(KvError::Version { stored: Version(9) });
        assert_eq!(scene.told(), [(1, Outcome::Done(certain)), (2, Outcome::Maybe)]);
    });
}

/// A network may repeat an answer: it is about one copy, not about one that was sent since.
#[test]
fn without_a_session_a_refusal_that_is_repeated_says_nothing_of_the_next_copy() {
    scene_with(false, None, async |scene| {
        scene.submit(vec![(1, at(3))]);
        scene.after(1).await;
        let first = scene.sent();
        scene.answer(&first[0], Answer::Busy);
        scene.after(60).await;
        let second = scene.sent();
        scene.answer(&first[0], Answer::Busy);
        scene.after(200).await;
        let later = scene.sent();
        assert!(second.len() == 1 && !later.is_empty(), "it is sent again");
        // The second copy may have made that version.
        scene.answer(&later[0], other_version());
        scene.after(1).await;
        assert_eq!(scene.told(), [(1, Outcome::Maybe)]);
    });
}

#[test]
fn without_a_session_nothing_is_taken_that_could_be_carried_out_twice() {
    scene_with(false, None, async |scene| {
        let append = Op::Append { key: "k".into(), value: "v".into() };
        scene.submit(vec![(1, append), (2, put("a")), (3, get())]);
        scene.after(1).await;
        let refused = Outcome::Refused(Refusal::NeedsSession);
        assert_eq!(scene.told(), [(1, refused.clone()), (2, refused)]);
        assert_eq!(scene.sent().len(), 1);
    });
}
