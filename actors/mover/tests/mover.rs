//! The mover's rules (V1 to V4), step by step: what it is told, and what it says.

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use bytes::Bytes;
use quorate_kvserver::{Command, Cursor, Load, Moving, Pair, Phase, Piece, Reply, Version, View};
use quorate_mover::{Config, Message, Mover, Outbound, Timer};
use quorate_protocol::{Core, GroupId, Name, NodeId, Out, Role, TimerRequest};
use quorate_rsm::{Outcome, Stirred};
use quorate_shardmaster::{Configuration, Message as ToMaster, ShardId};

const US: GroupId = GroupId(101);
const THEY: GroupId = GroupId(100);
const OTHERS: GroupId = GroupId(102);
const ME: NodeId = NodeId(4);
/// What runs between two groups is by configuration 7.
const NUMBER: u64 = 7;

fn config() -> Config {
    let ms = Duration::from_millis;
    Config {
        me: ME,
        group: US,
        masters: vec![NodeId(1), NodeId(2)],
        retry: ms(100),
        poll: ms(250),
        nodes: vec![ME, NodeId(5), NodeId(6)],
        transfers: 2,
        transfer_bytes: 1024 * 1024,
        pieces: 2,
        piece_bytes: 1000,
    }
}

/// A mover that nobody drives but the test.
struct Scene {
    mover: Mover,
    /// What it has said and the test has not looked at.
    said: Vec<Outbound>,
    timers: BTreeMap<Timer, TimerRequest>,
}

fn mover_of(group: GroupId, node: u32) -> Name {
    Name::new(NodeId(node), group, Role::Mover)
}

fn rsm() -> Name {
    Name::new(ME, US, Role::Rsm)
}

/// A shard that comes, nothing of which is here.
fn awaited(shard: u16, other: GroupId) -> Moving {
    let phase = Phase::Awaited { cursor: Cursor::Start, here: Load::default(), total: None };
    Moving { shard: ShardId(shard), number: NUMBER, other, nodes: nodes(other), phase }
}

fn going(shard: u16, phase: Phase) -> Moving {
    Moving { phase, ..awaited(shard, THEY) }
}

fn nodes(group: GroupId) -> Vec<NodeId> {
    [1, 2, 3].map(|node| NodeId(10 * group.0 + node)).into()
}

fn view(moving: Vec<Moving>) -> View {
    View { group: US, number: NUMBER, serving: 0, moving }
}

fn piece(shard: u16, after: Cursor, next: Option<Cursor>) -> Piece {
    let pair = Pair { key: "k".into(), value: "v".into(), version: Version(1) };
    let total = Load { keys: 9, bytes: 99 };
    let (sessions, pairs) = (vec![], vec![pair]);
    Piece { shard: ShardId(shard), number: NUMBER, after, sessions, pairs, next, total }
}

fn pulled(question: u64, piece: &Piece) -> Message {
    let piece = piece.encode();
    let crc = crc32fast::hash(&piece);
    Message::Pulled { question, piece: Some(piece), crc }
}

fn at(key: &str) -> Cursor {
    Cursor::Key(Bytes::copy_from_slice(key.as_bytes()))
}

impl Scene {
    /// A mover whose replica has applied this, and leads.
    fn new(view: View) -> Scene {
        Scene::with(config(), view)
    }

    fn with(config: Config, view: View) -> Scene {
        let mover = Mover::new(config, (6, 1000));
        let mut scene = Scene { mover, said: vec![], timers: BTreeMap::new() };
        let mut out = Out::default();
        scene.mover.start(&mut out);
        scene.take(out);
        scene.tell(rsm(), Message::Stirred(Stirred { leader: Some(ME) }));
        // Two looks: what was asked for at the start, and what the rsm has said meanwhile.
        scene.applied(view.clone());
        scene.applied(view);
        scene
    }

    fn take(&mut self, out: Out<Mover>) {
        assert!(out.alarms.is_empty(), "{:?}", out.alarms);
        self.said.extend(out.sends);
        self.timers.extend(out.timers);
        self.timers.retain(|_, request| *request != TimerRequest::Cancel);
        self.mover.invariants();
    }

    fn tell(&mut self, from: Name, message: Message) {
        let mut out = Out::default();
        self.mover.on_message(from, message, &mut out);
        self.take(out);
    }

    /// A timer that was set runs out.
    fn run_out(&mut self, timer: Timer) {
        assert!(self.timers.remove(&timer).is_some(), "{timer:?} is not set: {:?}", self.timers);
        let mut out = Out::default();
        self.mover.on_timer(timer, &mut out);
        self.take(out);
    }

    /// What it has said, of one kind.
    fn heard<T>(&mut self, of: impl Fn(&Outbound) -> Option<T>) -> Vec<T> {
        let heard = self.said.iter().filter_map(&of).collect();
        self.said.retain(|outbound| of(outbound).is_none());
        heard
    }

    /// Answers a look, which must be under way.
    fn applied(&mut self, view: View) {
        let looks = self.heard(|outbound| match outbound {
            Outbound::Peek { token, command: Command::View } => Some(*token),
            _ => None,
        });
        let token = looks.last().expect("it looks");
        let answers = vec![(*token, Outcome::Done(Reply::View(view)))];
        self.tell(rsm(), Message::Peeked(answers));
    }

    /// The questions that it has asked other movers: group, node, question, shard, what is here.
    fn pulls(&mut self) -> Vec<(GroupId, NodeId, u64, u16, Cursor)> {
        self.heard(|outbound| match outbound {
            Outbound::Mover(group, node, Message::Pull { question, shard, number, after }) => {
                assert_eq!(*number, NUMBER);
                Some((*group, *node, *question, shard.0, after.clone()))
            }
            _ => None,
        })
    }

    /// What it wants to have in the log, and under which token.
    fn submitted(&mut self) -> Vec<(u64, Command)> {
        self.heard(|outbound| match outbound {
            Outbound::Submit { serial, command, .. } => Some((*serial, command.clone())),
            _ => None,
        })
    }

    /// What it has told other movers.
    fn told(&mut self) -> Vec<(GroupId, NodeId, Message)> {
        self.heard(|outbound| match outbound {
            Outbound::Mover(group, node, message) if !matches!(message, Message::Pull { .. }) => {
                Some((*group, *node, message.clone()))
            }
            _ => None,
        })
    }

    fn count(&mut self, token: u64, count: u64) {
        let answers = vec![(token, Outcome::Done(Reply::Count(count)))];
        self.tell(rsm(), Message::Answered(answers));
    }

    fn asked_masters(&mut self) -> Vec<(NodeId, u64)> {
        self.heard(|outbound| match outbound {
            Outbound::Master(node, ToMaster::Await { above, next: true }) => Some((*node, *above)),
            _ => None,
        })
    }
}

fn configuration(number: u64) -> Arc<Configuration> {
    Arc::new(Configuration { number, ..Configuration::default() })
}

#[test]
fn a_mover_that_has_nothing_to_do_is_quiet() {
    let mut scene = Scene::new(view(vec![]));
    assert_eq!(scene.asked_masters(), [(NodeId(1), NUMBER)]);
    assert!(scene.said.is_empty(), "{:?}", scene.said);
    scene.run_out(Timer::Again);
    assert!(scene.said.is_empty(), "{:?}", scene.said);
    assert_eq!(scene.timers.keys().collect::<Vec<_>>(), [&Timer::Poll], "but for the shardmaster");
    scene.run_out(Timer::Poll);
    assert_eq!(scene.asked_masters(), [(NodeId(2), NUMBER)], "another one, after a while");
}

#[test]
fn the_next_configuration_is_taken_over_when_the_last_one_is_carried_out() {
    let mut scene = Scene::new(view(vec![awaited(3, THEY)]));
    let master = Name::new(NodeId(1), GroupId(0), Role::ShardMaster);
    for number in [NUMBER - 1, NUMBER, NUMBER + 2] {
        scene.tell(master, Message::Told(configuration(number)));
        assert!(scene.submitted().is_empty(), "{number} is not the next one");
    }
    scene.tell(master, Message::Told(configuration(NUMBER + 1)));
    assert!(scene.submitted().is_empty(), "a shard is on its way here");
    scene.tell(rsm(), Message::Stirred(Stirred { leader: Some(ME) }));
    scene.applied(view(vec![going(4, Phase::Leaving)]));
    let submitted = scene.submitted();
    let [(token, Command::Configure(next))] = &submitted[..] else { panic!("{submitted:?}") };
    assert_eq!(next.number, NUMBER + 1);
    scene.tell(rsm(), Message::Stirred(Stirred { leader: Some(ME) }));
    scene.applied(view(vec![going(4, Phase::Leaving)]));
    assert!(scene.submitted().is_empty(), "it is under way");
    scene.count(*token, NUMBER + 1);
    scene.applied(View { number: NUMBER + 1, ..view(vec![]) });
    assert_eq!(scene.asked_masters().last(), Some(&(NodeId(1), NUMBER + 1)), "and the one after");
}

#[test]
fn who_is_not_beside_the_leader_acts_only_when_nothing_moves() {
    let mut scene = Scene::new(view(vec![]));
    scene.tell(rsm(), Message::Stirred(Stirred { leader: Some(NodeId(5)) }));
    scene.applied(view(vec![awaited(3, THEY)]));
    assert!(scene.pulls().is_empty());
    let mut rounds = 0;
    while scene.pulls().is_empty() {
        scene.run_out(Timer::Again);
        scene.applied(view(vec![awaited(3, THEY)]));
        rounds += 1;
        assert!(rounds < 10, "it never acts");
    }
    assert!(rounds > 1, "at once");
    // Whatever moves, it leaves the rest to the leader's.
    scene.tell(rsm(), Message::Stirred(Stirred { leader: Some(NodeId(5)) }));
    scene.applied(view(vec![awaited(3, THEY), awaited(4, THEY)]));
    assert!(scene.pulls().is_empty());
}

#[test]
fn while_nobody_leads_the_first_node_acts_and_then_any() {
    for (nodes, rounds) in [([ME, NodeId(5)], 0), ([NodeId(5), ME], 1)] {
        let config = Config { nodes: nodes.into(), ..config() };
        let mut scene = Scene::with(config, view(vec![]));
        scene.tell(rsm(), Message::Stirred(Stirred { leader: None }));
        scene.applied(view(vec![awaited(3, THEY)]));
        for round in 0..rounds {
            assert!(scene.pulls().is_empty(), "round {round}");
            scene.run_out(Timer::Again);
            scene.applied(view(vec![awaited(3, THEY)]));
        }
        assert_eq!(scene.pulls().len(), 1, "{nodes:?}");
    }
}

/// V3.
#[test]
fn a_few_shards_are_carried_at_one_time_each_a_few_pieces_ahead() {
    let all = vec![awaited(1, THEY), awaited(3, OTHERS), awaited(5, THEY)];
    let mut scene = Scene::new(view(all.clone()));
    let pulls = scene.pulls();
    let shards: Vec<u16> = pulls.iter().map(|(_, _, _, shard, _)| *shard).collect();
    assert_eq!(shards, [1, 3], "two at one time");
    assert_eq!((pulls[0].0, pulls[1].0), (THEY, OTHERS));
    let (from, node, question, ..) = pulls[0].clone();
    scene.tell(mover_of(from, node.0), pulled(question, &piece(1, Cursor::Start, Some(at("a")))));
    let [(first, Command::Receive { shard, number, .. })] = scene.submitted()[..] else { panic!() };
    assert_eq!((shard, number), (ShardId(1), NUMBER));
    let [(.., question, 1, Cursor::Key(_))] = scene.pulls()[..] else { panic!("the next piece") };
    let next = pulled(question, &piece(1, at("a"), Some(at("b"))));
    scene.tell(mover_of(from, node.0), next);
    let second = scene.submitted()[0].0;
    assert!(scene.pulls().is_empty(), "two pieces are on their way into the log");
    scene.count(first, 1);
    let [(.., question, 1, _)] = scene.pulls()[..] else { panic!("one of them is there") };
    scene.tell(mover_of(from, node.0), pulled(question, &piece(1, at("b"), None)));
    let last = scene.submitted()[0].0;
    scene.count(second, 1);
    assert!(scene.told().is_empty(), "V2: not before it is applied");
    assert!(scene.pulls().is_empty());
    scene.count(last, 1);
    let told = scene.told();
    let [(THEY, _, Message::Received { shards })] = &told[..] else { panic!("{told:?}") };
    assert_eq!(shards, &[(ShardId(1), NUMBER)]);
    scene.applied(view(all[1..].to_vec()));
    assert_eq!(scene.pulls()[0].3, 5, "the third one's turn");
}

/// While a shard is carried nobody serves it: few large ones at one time, and many small ones.
#[test]
fn so_many_shards_are_carried_as_hold_few_bytes_together() {
    let all: Vec<Moving> = (0..20).map(|shard| awaited(shard, THEY)).collect();
    let config = || Config { transfers: 12, transfer_bytes: 1000, ..config() };
    for (bytes, more) in [(100, 9), (1, 10), (0, 10), (500, 1), (600, 0), (100_000, 0)] {
        let mut scene = Scene::with(config(), view(all.clone()));
        let pulls = scene.pulls();
        assert_eq!(pulls.len(), 2, "two, whatever they hold");
        let (from, node, question, ..) = pulls[0].clone();
        let total = Load { keys: 9, bytes };
        let first = Piece { total, ..piece(0, Cursor::Start, Some(at("a"))) };
        scene.tell(mover_of(from, node.0), pulled(question, &first));
        let pulls: Vec<u16> = scene.pulls().iter().map(|(.., shard, _)| *shard).collect();
        assert_eq!(pulls[0], 0, "the next piece");
        assert_eq!(pulls.len() - 1, more, "of {bytes} bytes each");
    }
}

/// V1 and V4: what comes is what was asked for, or nothing comes of it but another question.
#[test]
fn an_answer_that_is_wrong_in_any_way_is_asked_for_again_of_another_node() {
    let right = piece(1, Cursor::Start, None);
    let crc = |piece: &Bytes| crc32fast::hash(piece);
    type Wrong = Box<dyn Fn(u64) -> Message>;
    let wrong: [(&str, Wrong); 7] = [
        ("there is none", Box::new(|question| Message::Pulled { question, piece: None, crc: 0 })),
        ("a wrong checksum", {
            let piece = right.encode();
            Box::new(move |question| {
                let crc = crc(&piece) ^ 1;
                Message::Pulled { question, piece: Some(piece.clone()), crc }
            })
        }),
        (
            "garbage",
            Box::new(move |question| {
                let piece = Bytes::from_static(b"garbage");
                Message::Pulled { question, crc: crc(&piece), piece: Some(piece) }
            }),
        ),
        ("of another shard", Box::new(|q| pulled(q, &piece(2, Cursor::Start, None)))),
        ("of another place", Box::new(|q| pulled(q, &piece(1, at("x"), None)))),
        ("that leads nowhere", {
            Box::new(|q| pulled(q, &piece(1, Cursor::Start, Some(Cursor::Start))))
        }),
        ("by another configuration", {
            Box::new(|q| pulled(q, &Piece { number: 8, ..piece(1, Cursor::Start, None) }))
        }),
    ];
    let mut scene = Scene::new(view(vec![awaited(1, THEY)]));
    let mut pulls = scene.pulls();
    for (why, message) in wrong {
        let (from, node, question, ..) = pulls[0].clone();
        // V4. An answer to another question, late or made up.
        scene.tell(mover_of(from, node.0), pulled(question + 1, &right));
        scene.tell(mover_of(from, node.0), pulled(question - 1, &right));
        assert!(scene.submitted().is_empty(), "V4");
        scene.tell(mover_of(from, node.0), message(question));
        assert!(scene.submitted().is_empty(), "{why}");
        assert!(scene.pulls().is_empty(), "{why}: after a pause");
        scene.tell(mover_of(from, node.0), pulled(question, &right));
        assert!(scene.submitted().is_empty(), "that question is closed");
        scene.run_out(Timer::Soon);
        pulls = scene.pulls();
        assert_eq!((pulls[0].0, pulls[0].3), (from, 1), "{why}: asked again");
        assert_ne!(pulls[0].1, node, "{why}: of another node");
    }
    scene.tell(mover_of(THEY, 1), pulled(pulls[0].2, &right));
    let submitted = scene.submitted();
    assert!(matches!(submitted[..], [(_, Command::Receive { .. })]), "{submitted:?}");
}

/// Another mover was quicker, or the shard began anew: what the log says is where to go on.
#[test]
fn a_piece_that_the_log_did_not_take_is_not_counted() {
    let mut scene = Scene::new(view(vec![awaited(1, THEY)]));
    let (from, node, question, ..) = scene.pulls()[0].clone();
    scene.tell(mover_of(from, node.0), pulled(question, &piece(1, Cursor::Start, None)));
    let token = scene.submitted()[0].0;
    scene.count(token, 0);
    assert!(scene.told().is_empty(), "V2: it may not be here");
    let here = Load { keys: 4, bytes: 40 };
    let phase = Phase::Awaited { cursor: at("d"), here, total: None };
    scene.applied(view(vec![Moving { phase, ..awaited(1, THEY) }]));
    let [(.., 1, Cursor::Key(key))] = &scene.pulls()[..] else { panic!("from there on") };
    assert_eq!(key, "d");
}

#[test]
fn who_is_asked_for_a_shard_gives_it_up_before_it_shows_it() {
    let mut scene = Scene::new(view(vec![going(2, Phase::Leaving)]));
    let from = mover_of(THEY, 1);
    let (question, shard, after) = (77, ShardId(2), Cursor::Start);
    let pull = Message::Pull { question, shard, number: NUMBER, after };
    scene.tell(from, pull.clone());
    let submitted = scene.submitted();
    let [(token, Command::GiveUp { shard: ShardId(2), number: NUMBER })] = submitted[..] else {
        panic!("{submitted:?}")
    };
    assert!(scene.told().is_empty());
    let peeks = |scene: &mut Scene| {
        scene.heard(|outbound| match outbound {
            Outbound::Peek { token, command: Command::Piece { bytes_max: 1000, .. } } => {
                Some(*token)
            }
            _ => None,
        })
    };
    assert!(peeks(&mut scene).is_empty(), "not before it is chosen");
    scene.count(token, 1);
    let [token] = peeks(&mut scene)[..] else { panic!("now it is read") };
    let bytes = piece(2, Cursor::Start, None).encode();
    let crc = crc32fast::hash(&bytes);
    let answers = vec![(token, Outcome::Done(Reply::Piece(Some(bytes.clone()))))];
    scene.tell(rsm(), Message::Peeked(answers));
    let told = scene.told();
    let [(THEY, NodeId(1), Message::Pulled { question: 77, piece, crc: sum })] = &told[..] else {
        panic!("{told:?}")
    };
    assert_eq!((piece.as_ref(), *sum), (Some(&bytes), crc));
    // The log has not taken it: there is nothing to show.
    scene.tell(from, pull);
    let token = scene.submitted()[0].0;
    scene.count(token, 0);
    let told = scene.told();
    assert!(matches!(told[..], [(_, _, Message::Pulled { piece: None, .. })]), "{told:?}");
}

/// V2, seen from the giver.
#[test]
fn a_shard_is_deleted_when_its_new_group_says_that_it_has_it() {
    let given = Phase::GivenUp(Load { keys: 1, bytes: 10 });
    let mut scene = Scene::new(view(vec![going(2, given), going(4, Phase::Leaving)]));
    let shards = vec![(ShardId(2), NUMBER), (ShardId(4), NUMBER), (ShardId(9), NUMBER)];
    scene.tell(mover_of(OTHERS, 1), Message::Received { shards: shards.clone() });
    assert!(scene.submitted().is_empty(), "a group that it did not go to");
    let old = vec![(ShardId(2), NUMBER - 1)];
    scene.tell(mover_of(THEY, 1), Message::Received { shards: old });
    assert!(scene.submitted().is_empty(), "by another configuration");
    scene.tell(mover_of(THEY, 1), Message::Received { shards: shards.clone() });
    let submitted = scene.submitted();
    let delete = Command::Delete { shard: ShardId(2), number: NUMBER };
    assert_eq!(submitted.iter().map(|(_, command)| command).collect::<Vec<_>>(), [&delete]);
    scene.tell(mover_of(THEY, 2), Message::Received { shards });
    assert!(scene.submitted().is_empty(), "it is under way");
    // Should the word be lost, it asks.
    scene.run_out(Timer::Again);
    let told = scene.told();
    let [(THEY, _, Message::Ask { shards })] = &told[..] else { panic!("{told:?}") };
    assert_eq!(shards, &[(ShardId(2), NUMBER)]);
}

/// V2, seen from the receiver.
#[test]
fn only_what_is_applied_here_is_said_to_be_here() {
    let mut scene = Scene::new(view(vec![awaited(1, THEY)]));
    let shards = vec![(ShardId(1), NUMBER), (ShardId(2), NUMBER), (ShardId(3), NUMBER + 1)];
    scene.tell(mover_of(THEY, 1), Message::Ask { shards });
    let told = scene.told();
    let [(THEY, NodeId(1), Message::Received { shards })] = &told[..] else { panic!("{told:?}") };
    assert_eq!(shards, &[(ShardId(2), NUMBER)], "1 is on its way, and 3 is still to come");
    scene.tell(mover_of(THEY, 1), Message::Ask { shards: vec![(ShardId(1), NUMBER)] });
    assert!(scene.told().is_empty());
}

/// What is asked of a dead group is asked for ever, but not by all that can be asked at one time.
#[test]
fn a_giver_that_is_silent_holds_nobody_up() {
    let all = vec![awaited(0, OTHERS), awaited(1, OTHERS), awaited(2, OTHERS), awaited(9, THEY)];
    let mut scene = Scene::new(view(all.clone()));
    let mut asked = BTreeMap::<u16, u32>::new();
    for _ in 0..24 {
        for (.., shard, _) in scene.pulls() {
            *asked.entry(shard).or_default() += 1;
        }
        scene.run_out(Timer::Again);
        scene.applied(view(all.clone()));
    }
    assert!(asked.get(&9).is_some_and(|times| *times > 2), "times asked, by shard: {asked:?}");
    assert_eq!(asked.len(), 4);
    let (least, most) = (asked.values().min().unwrap(), asked.values().max().unwrap());
    assert!(most - least <= 1, "each has its turn: {asked:?}");
}

/// The same of one that answers that it has nothing: it has not come so far.
#[test]
fn a_giver_that_has_nothing_to_give_yet_holds_nobody_up() {
    let all = vec![awaited(0, OTHERS), awaited(1, OTHERS), awaited(9, THEY)];
    let mut scene = Scene::new(view(all));
    for _ in 0..3 {
        let pulls = scene.pulls();
        if let Some((.., question, _, _)) = pulls.iter().find(|(.., shard, _)| *shard == 9) {
            scene.tell(mover_of(THEY, 1), pulled(*question, &piece(9, Cursor::Start, None)));
            assert_eq!(scene.submitted().len(), 1);
            return;
        }
        let mut nodes = vec![];
        for (group, node, question, ..) in pulls {
            nodes.push(node);
            let nothing = Message::Pulled { question, piece: None, crc: 0 };
            scene.tell(mover_of(group, node.0), nothing);
        }
        scene.run_out(Timer::Soon);
    }
    panic!("shard 9 has never had its turn");
}

/// An rsm, or a mailbox, may crash and forget what it was told.
#[test]
fn what_is_never_answered_is_begun_anew() {
    let mut scene = Scene::new(view(vec![awaited(1, THEY)]));
    let (from, node, question, ..) = scene.pulls()[0].clone();
    scene.tell(mover_of(from, node.0), pulled(question, &piece(1, Cursor::Start, None)));
    assert_eq!(scene.submitted().len(), 1);
    for _ in 0..3 {
        scene.run_out(Timer::Again);
        scene.applied(view(vec![awaited(1, THEY)]));
    }
    let [(.., question, 1, Cursor::Start)] = scene.pulls()[..] else { panic!("asked anew") };
    scene.tell(mover_of(from, node.0), pulled(question, &piece(1, Cursor::Start, None)));
    let token = scene.submitted()[0].0;
    scene.count(token, 1);
    assert!(matches!(scene.told()[..], [(THEY, _, Message::Received { .. })]));
    // A look that is not answered for a whole round is asked for again.
    scene.heard(|outbound| matches!(outbound, Outbound::Peek { .. }).then_some(()));
    scene.run_out(Timer::Again);
    assert!(!scene.said.iter().any(|said| matches!(said, Outbound::Peek { .. })), "it may be slow");
    scene.run_out(Timer::Again);
    scene.applied(view(vec![]));
    scene.run_out(Timer::Again);
    assert!(scene.said.iter().all(|said| matches!(said, Outbound::Master(..))), "{:?}", scene.said);
}
