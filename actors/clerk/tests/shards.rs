//! What the clerk promises where the store is divided: each part of an operation goes to the group of its
//! shard, under one serial for ever, in the order in which writes were asked for.

use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex},
    time::Duration,
};

use bytes::Bytes;
use quorate_clerk::{Clerk, Config, Layout, Message, Outcome, Outcomes, Refusal, Servers};
use quorate_kvserver::{
    Condition, HASH_SLOT_COUNT, HashSlot, KvError, Message as ToServer, Op, Reply, Served, Version,
};
use quorate_protocol::{GroupId, Name, NodeId, Role};
use quorate_rsm::{Outcome as Answer, Request};
use quorate_shardmaster::{Configuration, Message as ToMaster, Notice, ShardId};
use quorate_stage::{Directory, Limits, Mailbox, Node, Outlet, Parcel, Transport, seat};

const A: GroupId = GroupId(100);
const B: GroupId = GroupId(101);
const RETRY_MS: u64 = 100;
/// One operation waits so long at most.
const DEADLINE: Duration = Duration::from_secs(5);

/// A copy of a request, and whom it went to.
#[derive(Clone, Debug)]
struct Sent {
    group: GroupId,
    node: NodeId,
    copy: u64,
    request: Request<Op>,
}

/// What the clerk has sent: to the groups, and to the shardmasters.
#[derive(Clone, Default)]
struct Wire(Arc<Mutex<Heard>>);

/// What went to kvservers, and above which configurations shardmasters were asked for one.
type Heard = (Vec<Sent>, Vec<(NodeId, u64)>);

impl Transport for Wire {
    fn send(&self, parcel: Parcel) {
        let (sent, asked) = &mut *self.0.lock().unwrap();
        let (group, node) = (parcel.to.group, parcel.to.node);
        if parcel.to.role == Role::ShardMaster {
            match rmp_serde::from_slice(&parcel.body).unwrap() {
                ToMaster::Await { above, next: false } => asked.push((node, above)),
                other => panic!("{other}"),
            }
            return;
        }
        match rmp_serde::from_slice(&parcel.body).unwrap() {
            ToServer::Serve { requests } => {
                let requests = requests.into_iter();
                sent.extend(requests.map(|(copy, request)| Sent { group, node, copy, request }));
            }
            other => panic!("{other}"),
        }
    }
}

struct Scene {
    clerk: Mailbox<Message>,
    wire: Wire,
    outcomes: Arc<Mutex<Outcomes>>,
    /// Lives as long as the test.
    _node: Node,
}

impl Scene {
    async fn submit(&self, ops: Vec<(u64, Op)>) {
        let outcomes = self.outcomes.clone();
        let reply = Outlet::from_fn(move |_, told: Outcomes| outcomes.lock().unwrap().extend(told));
        self.clerk.send(self.clerk.name(), Message::Submit { ops, reply });
        self.after(1).await;
    }

    async fn answer(&self, sent: &Sent, answer: Answer<Reply>) {
        let Sent { copy, request: Request { client_id, .. }, .. } = *sent;
        let served = Served { client_id, answers: vec![(copy, answer)] };
        let from = Name::new(sent.node, sent.group, Role::KvServer);
        self.clerk.send(from, Message::Served(served));
        self.after(1).await;
    }

    async fn configure(&self, number: u64, owners: [GroupId; 4]) {
        let groups = [A, B].map(|group| (group, nodes(group)));
        let owners = owners.to_vec();
        let told = Configuration { number, owners, groups: groups.into() };
        let from = Name::new(NodeId(1), GroupId(0), Role::ShardMaster);
        self.clerk.send(from, Message::Notice(Notice::Told(Arc::new(told))));
        self.after(1).await;
    }

    fn sent(&self) -> Vec<Sent> {
        std::mem::take(&mut self.wire.0.lock().unwrap().0)
    }

    /// The one request that was sent.
    fn one(&self) -> Sent {
        let sent = self.sent();
        let [one] = &sent[..] else { panic!("{sent:?}") };
        one.clone()
    }

    /// The numbers above which a configuration was asked for, and of whom.
    fn asked(&self) -> Vec<(NodeId, u64)> {
        std::mem::take(&mut self.wire.0.lock().unwrap().1)
    }

    fn told(&self) -> Outcomes {
        std::mem::take(&mut self.outcomes.lock().unwrap())
    }

    async fn after(&self, ms: u64) {
        tokio::time::sleep(Duration::from_millis(ms)).await;
    }
}

fn nodes(group: GroupId) -> Vec<NodeId> {
    (1..=3).map(|node| NodeId(10 * group.0 + node)).collect()
}

/// A clerk that has heard of no configuration yet, and has no replica of anything beside it.
fn unplaced(test: impl AsyncFnOnce(Scene)) {
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
        let retry = Duration::from_millis(RETRY_MS);
        let config = Config { retry, deadline: Some(DEADLINE), under_way_max: 64, sessions: true };
        place.take(move |stage| {
            let to = |role| (NodeId(9), role, transport.clone());
            let (me, role, transport) = to(Role::ShardMaster);
            let masters = Directory::new(me, role, transport);
            let layout = Layout::Sharded { nodes: vec![NodeId(1), NodeId(2)], masters };
            let (me, role, transport) = to(Role::KvServer);
            let servers = Directory::new(me, role, transport);
            let servers = Servers { layout, servers, started: None, configured: None };
            Clerk::new(config, servers, stage)
        });
        test(Scene { clerk, wire, outcomes: Arc::default(), _node: node }).await;
    });
}

/// The same with four shards: 0 and 1 are with A, 2 and 3 with B.
fn scene(test: impl AsyncFnOnce(Scene)) {
    unplaced(async |scene| {
        scene.configure(1, [A, A, B, B]).await;
        test(scene).await;
    });
}

/// A key of a shard.
fn key(shard: u16) -> Bytes {
    named(shard, "")
}

fn named(shard: u16, name: &str) -> Bytes {
    let of = |tag: &String| ShardId::of_slot(HashSlot::of(tag.as_bytes()).number(), 4);
    let tags = (0..).map(|n: u32| format!("{{{n}}}{name}"));
    tags.into_iter().find(|tag| of(tag) == ShardId(shard)).expect("every shard has a tag").into()
}

fn put(shard: u16, value: &str) -> Op {
    let value = Bytes::copy_from_slice(value.as_bytes());
    Op::Put { key: key(shard), value, condition: Condition::Always, want_old: false }
}

fn get(shard: u16) -> Op {
    Op::Get { key: key(shard) }
}

fn stored(version: u64) -> Reply {
    Reply::Stored { version: Version(version), old: None }
}

fn wrong_group(ask: GroupId, number: u64) -> Answer<Reply> {
    Answer::Done(Reply::Error(KvError::WrongGroup { ask, number }))
}

fn values(values: &[Option<&str>]) -> Reply {
    let value = |value: &Option<&str>| value.map(|text| Bytes::copy_from_slice(text.as_bytes()));
    Reply::Values(values.iter().map(value).collect())
}

/// The parts of the one operation that was submitted, by the shard of their first key.
fn by_shard(sent: Vec<Sent>) -> BTreeMap<u16, Sent> {
    let shard = |sent: &Sent| {
        let slot = sent.request.command.hash_slots().next().expect("a key, or a range");
        ShardId::of_slot(slot.number(), 4).0
    };
    sent.into_iter().map(|sent| (shard(&sent), sent)).collect()
}

#[test]
fn what_comes_before_the_first_configuration_waits_for_it() {
    unplaced(async |scene| {
        scene.submit(vec![(1, put(0, "a")), (2, get(3))]).await;
        assert!(scene.sent().is_empty());
        assert_eq!(scene.asked(), [(NodeId(1), 0)]);
        scene.after(RETRY_MS).await;
        assert!(scene.asked().contains(&(NodeId(2), 0)), "another shardmaster");
        scene.configure(4, [A, A, B, B]).await;
        let sent = scene.sent();
        let to: Vec<GroupId> = sent.iter().map(|sent| sent.group).collect();
        assert_eq!(to, [A, B]);
        scene.answer(&sent[0], Answer::Done(stored(1))).await;
        assert_eq!(scene.told(), [(1, Outcome::Done(stored(1)))]);
    });
    unplaced(async |scene| {
        scene.submit(vec![(1, put(0, "a"))]).await;
        scene.after(DEADLINE.as_millis() as u64 + RETRY_MS).await;
        assert_eq!(scene.told(), [(1, Outcome::Refused(Refusal::NoQuorum))], "no effect, for sure");
    });
}

#[test]
fn values_of_several_shards_come_back_in_the_order_of_their_keys() {
    scene(async |scene| {
        let keys = vec![key(3), named(0, "x"), key(1), named(3, "y"), key(0), key(3)];
        scene.submit(vec![(7, Op::GetMany { keys: keys.clone() })]).await;
        let sent = by_shard(scene.sent());
        assert_eq!(sent.keys().copied().collect::<Vec<_>>(), [0, 1, 3], "a part for each shard");
        let part = |keys: Vec<Bytes>| Op::GetMany { keys };
        assert_eq!(sent[&0].request.command, part(vec![named(0, "x"), key(0)]));
        assert_eq!(sent[&3].request.command, part(vec![key(3), named(3, "y"), key(3)]));
        assert_eq!([sent[&0].group, sent[&1].group, sent[&3].group], [A, A, B]);
        scene.answer(&sent[&3], Answer::Done(values(&[Some("3"), None, Some("3")]))).await;
        scene.answer(&sent[&0], Answer::Done(values(&[Some("0x"), Some("0")]))).await;
        assert!(scene.told().is_empty(), "one part is missing");
        scene.answer(&sent[&1], Answer::Done(values(&[None]))).await;
        let all = values(&[Some("3"), Some("0x"), None, None, Some("0"), Some("3")]);
        assert_eq!(scene.told(), [(7, Outcome::Done(all))], "once, when all are there");
        // Of one shard, it is one operation, as it was asked for.
        let keys = vec![key(2), named(2, "x")];
        scene.submit(vec![(8, Op::GetMany { keys: keys.clone() })]).await;
        assert_eq!(scene.one().request.command, Op::GetMany { keys });
    });
}

#[test]
fn numbers_of_several_shards_are_added_up() {
    scene(async |scene| {
        for op in [
            Op::Exists { keys: vec![key(0), key(2), key(0)] },
            Op::Delete { keys: vec![key(0), key(2), key(0)] },
        ] {
            scene.submit(vec![(1, op)]).await;
            let sent = by_shard(scene.sent());
            scene.answer(&sent[&0], Answer::Done(Reply::Count(2))).await;
            scene.answer(&sent[&2], Answer::Done(Reply::Count(5))).await;
            assert_eq!(scene.told(), [(1, Outcome::Done(Reply::Count(7)))]);
        }
        scene.submit(vec![(2, Op::count_all())]).await;
        let sent = by_shard(scene.sent());
        let mut next = 0;
        for (shard, sent) in &sent {
            let Op::Count { first, last } = sent.request.command else { panic!("{sent:?}") };
            assert_eq!(first, next, "shard {shard}");
            next = last + 1;
            scene.answer(sent, Answer::Done(Reply::Count(10))).await;
        }
        assert_eq!((sent.len(), next), (4, HASH_SLOT_COUNT), "every slot, once");
        assert_eq!(scene.told(), [(2, Outcome::Done(Reply::Count(40)))]);
    });
}

/// C2, of an operation in parts: refused means that none of it had an effect.
#[test]
fn an_operation_some_of_whose_parts_were_carried_out_is_unknown() {
    let put_many = || {
        let pairs = vec![(key(0), Bytes::from("a")), (key(2), Bytes::from("b"))];
        Op::PutMany { pairs }
    };
    scene(async |scene| {
        scene.submit(vec![(1, put_many())]).await;
        let sent = by_shard(scene.sent());
        let pairs = vec![(key(2), Bytes::from("b"))];
        assert_eq!(sent[&2].request.command, Op::PutMany { pairs });
        scene.answer(&sent[&0], Answer::Done(stored(1))).await;
        scene.answer(&sent[&2], Answer::Done(stored(4))).await;
        assert!(matches!(scene.told()[..], [(1, Outcome::Done(Reply::Stored { .. }))]));

        let busy = Outcome::Refused(Refusal::Busy);
        for (first, second, outcome) in [
            (Answer::Done(stored(1)), Answer::Busy, Outcome::Unknown),
            (Answer::Busy, Answer::Done(stored(1)), Outcome::Unknown),
            (Answer::Busy, Answer::Busy, busy),
            (Answer::Forgotten, Answer::Done(stored(1)), Outcome::Unknown),
            (Answer::Forgotten, Answer::Busy, Outcome::Unknown),
        ] {
            scene.submit(vec![(2, put_many())]).await;
            let sent = by_shard(scene.sent());
            scene.answer(&sent[&0], first).await;
            scene.answer(&sent[&2], second).await;
            assert_eq!(scene.told(), [(2, outcome)]);
        }
        // A read leaves no trace, whatever became of its parts.
        scene.submit(vec![(3, Op::GetMany { keys: vec![key(0), key(2)] })]).await;
        let sent = by_shard(scene.sent());
        scene.answer(&sent[&0], Answer::Done(values(&[None]))).await;
        scene.answer(&sent[&2], Answer::Busy).await;
        assert_eq!(scene.told(), [(3, Outcome::Refused(Refusal::Busy))]);
    });
}

/// C1. ErrWrongGroup had no effect, so the same operation is sent to somebody else, as the same.
#[test]
fn a_detour_keeps_the_serial() {
    scene(async |scene| {
        scene.submit(vec![(1, put(0, "a"))]).await;
        let first = scene.one();
        assert_eq!(first.group, A);
        scene.answer(&first, wrong_group(B, 1)).await;
        let second = scene.one();
        assert_eq!(second.group, B, "who is said to have it, and at once");
        assert!(scene.asked().is_empty(), "nobody knows of a newer configuration");
        // B has heard of more than we have, and says nothing of who may have it.
        scene.answer(&second, wrong_group(GroupId(0), 2)).await;
        assert_eq!(scene.asked(), [(NodeId(1), 1)]);
        scene.after(RETRY_MS).await;
        let third = scene.sent().pop().expect("it is looked for again");
        assert_eq!(third.group, A, "by the configuration");
        scene.answer(&third, wrong_group(GroupId(0), 2)).await;
        scene.configure(2, [B, A, B, B]).await;
        let fourth = scene.sent().pop().expect("now there is somebody to ask");
        assert_eq!(fourth.group, B);
        for sent in [&second, &third, &fourth] {
            let (one, other) = (&first.request, &sent.request);
            assert_eq!((one.client_id, one.serial), (other.client_id, other.serial), "C1");
            assert_eq!(one.command, other.command);
        }
        scene.answer(&fourth, Answer::Done(stored(1))).await;
        assert_eq!(scene.told(), [(1, Outcome::Done(stored(1)))]);
        scene.after(1000).await;
        assert!(scene.sent().is_empty());
    });
}

/// What was refused everywhere had no effect, and it is said why; what may have been taken in is unknown.
#[test]
fn what_finds_no_group_in_time_was_not_carried_out() {
    scene(async |scene| {
        scene.submit(vec![(1, put(0, "a"))]).await;
        let (mut asked, mut told) = (0, vec![]);
        while told.is_empty() && asked < 10_000 {
            let sent = scene.sent();
            asked += sent.len();
            for sent in sent {
                let other = if sent.group == A { B } else { A };
                scene.answer(&sent, wrong_group(other, 1)).await;
            }
            scene.after(1).await;
            told = scene.told();
        }
        assert_eq!(told, [(1, Outcome::Refused(Refusal::Moving))]);
        assert!((20..1000).contains(&asked), "asked {asked} times in {DEADLINE:?}");
    });
    scene(async |scene| {
        scene.submit(vec![(1, put(0, "a")), (2, put(2, "b"))]).await;
        let sent = scene.sent();
        scene.answer(&sent[0], wrong_group(GroupId(0), 1)).await;
        // Nobody answers any more.
        scene.after(DEADLINE.as_millis() as u64 + RETRY_MS).await;
        let told: BTreeMap<u64, Outcome> = scene.told().into_iter().collect();
        assert_eq!(told[&1], Outcome::Unknown, "its later copies may have been taken in");
        assert_eq!(told[&2], Outcome::Unknown);
    });
}

/// A network may repeat an answer. That one copy was not carried out says nothing of a later one.
#[test]
fn an_answer_that_is_repeated_makes_no_later_copy_void() {
    scene(async |scene| {
        scene.submit(vec![(1, put(0, "a"))]).await;
        let first = scene.one();
        scene.answer(&first, wrong_group(B, 1)).await;
        let second = scene.one();
        assert_ne!(second.copy, first.copy);
        // B carries it out, and its answer is lost.
        scene.answer(&first, wrong_group(B, 1)).await;
        scene.after(50).await;
        assert!(scene.sent().is_empty(), "it is news of nothing");
        scene.after(DEADLINE.as_millis() as u64).await;
        assert_eq!(scene.told(), [(1, Outcome::Unknown)]);
    });
}

/// A shard was with another group than its configuration has it, which is true for a while only: when that
/// group is silent, the owner is asked again. Otherwise a clerk would ask a group that has left for ever.
#[test]
fn who_was_said_to_have_a_shard_and_is_silent_is_not_asked_for_ever() {
    scene(async |scene| {
        scene.configure(2, [B, B, B, B]).await;
        scene.submit(vec![(1, put(0, "a"))]).await;
        let first = scene.one();
        assert_eq!(first.group, B);
        scene.answer(&first, wrong_group(A, 2)).await;
        let second = scene.one();
        assert_eq!(second.group, A, "it is on its way from there");
        scene.answer(&second, Answer::Done(stored(1))).await;
        assert_eq!(scene.told().len(), 1);
        // It has arrived at B, and A has been stopped.
        scene.submit(vec![(2, put(0, "b"))]).await;
        assert_eq!(scene.one().group, A, "where it was last");
        scene.after(3 * RETRY_MS).await;
        let groups: Vec<GroupId> = scene.sent().iter().map(|sent| sent.group).collect();
        assert!(groups.contains(&B), "{groups:?}");
    });
}

#[test]
fn a_group_that_is_silent_is_asked_at_another_node() {
    scene(async |scene| {
        scene.submit(vec![(1, put(0, "a"))]).await;
        let first = scene.one();
        scene.after(2 * RETRY_MS).await;
        let again = scene.sent();
        let again = again.first().expect("it is sent again");
        assert_eq!((again.group, again.request.serial), (A, first.request.serial));
        assert_ne!(again.node, first.node);
        assert!(!scene.asked().is_empty(), "the group may have nothing to do with it any more");
    });
}

/// A pipeline of writes takes effect in its order, whoever is asked and however often: each names the one
/// before it of the same shard that somebody waits for.
#[test]
fn writes_of_a_shard_follow_each_other() {
    scene(async |scene| {
        let ops = [put(0, "a"), put(2, "b"), get(0), put(0, "c"), put(0, "d"), put(2, "e")];
        scene.submit((0..).zip(ops).collect()).await;
        let mut sent = scene.sent();
        sent.sort_by_key(|sent| sent.request.serial);
        let serial = |at: usize| sent[at].request.serial;
        let after: Vec<u64> = sent.iter().map(|sent| sent.request.after).collect();
        assert_eq!(after, [0, 0, 0, serial(0), serial(3), serial(1)]);
        // Within a shard nothing is acknowledged that somebody waits for (C4).
        let acked: Vec<u64> = sent.iter().map(|sent| sent.request.acked_below).collect();
        let (first, second) = (serial(0), serial(1));
        assert_eq!(acked, [first, second, first, first, first, second]);
        // The first is answered; what is sent again does not wait for it any more, and keeps its order.
        scene.answer(&sent[0], Answer::Done(stored(1))).await;
        scene.answer(&sent[4], Answer::Early).await;
        scene.after(10).await;
        let again = scene.one();
        assert_eq!((again.request.serial, again.request.after), (serial(4), serial(3)));
        scene.answer(&sent[3], wrong_group(B, 1)).await;
        let again = scene.one();
        assert_eq!((again.group, again.request.serial), (B, serial(3)));
        assert_eq!(again.request.after, 0, "nobody waits for one before it");
        scene.after(2 * RETRY_MS).await;
        for sent_again in scene.sent() {
            let request = sent_again.request;
            if request.serial == serial(4) {
                assert_eq!(request.after, serial(3), "still behind it, at whatever group");
            }
            assert!(request.acked_below <= request.serial, "C4");
        }
        assert_eq!(scene.told().len(), 1, "each is told once");
    });
}
