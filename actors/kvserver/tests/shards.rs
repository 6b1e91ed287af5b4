//! The machine of a group of several: what becomes of its shards, by which commands, and that it is the
//! same machine whoever carries a shard, in whichever pieces, and after any restart.

use std::sync::Arc;

use bytes::Bytes;
use quorate_kvserver::{
    Command, Condition, Cursor, HashSlot, KvError, Load, Machine, Moving, Op, Phase, Piece, Reply,
    View,
};
use quorate_protocol::{GroupId, NodeId, log::Index};
use quorate_rsm::{At, Scopes, SessionImage, StateMachine, Verdict};
use quorate_shardmaster::{Configuration, ShardId};
use rand::{Rng, SeedableRng};
use rand_chacha::ChaCha8Rng;

const A: GroupId = GroupId(100);
const B: GroupId = GroupId(101);
const C: GroupId = GroupId(102);
const NOBODY: GroupId = GroupId(0);
const S0: ShardId = ShardId(0);
const S1: ShardId = ShardId(1);
const S2: ShardId = ShardId(2);
const S3: ShardId = ShardId(3);
const WHOLE: u32 = u32::MAX;

fn configuration(number: u64, owners: [GroupId; 4]) -> Arc<Configuration> {
    let groups = [A, B, C].map(|group| (group, vec![NodeId(group.0), NodeId(group.0 + 10)]));
    Arc::new(Configuration { number, owners: owners.into(), groups: groups.into() })
}

/// A replica of a group: the machine, and what its rsm keeps for clients.
#[derive(Clone)]
struct Replica {
    machine: Machine,
    scopes: Scopes<Reply>,
    index: u64,
}

/// A key of a shard.
fn key(shard: ShardId, name: &str) -> Bytes {
    let tags = (0..).map(|n: u32| format!("{{{n}}}{name}"));
    let of = |tag: &String| ShardId::of_slot(HashSlot::of(tag.as_bytes()).number(), 4);
    tags.into_iter().find(|tag| of(tag) == shard).expect("every shard has a tag").into()
}

fn put(key: &Bytes, value: impl Into<Bytes>) -> Command {
    let (key, value) = (key.clone(), value.into());
    Command::Op(Op::Put { key, value, condition: Condition::Always, want_old: false })
}

fn get(key: &Bytes) -> Command {
    Command::Op(Op::Get { key: key.clone() })
}

impl Replica {
    fn new(group: GroupId) -> Self {
        Replica { machine: Machine::of_group(group), scopes: Scopes::default(), index: 0 }
    }

    /// Applies a command, as an rsm does.
    fn apply(&mut self, command: Command) -> Reply {
        self.index += 1;
        let at = At { index: Index(self.index), time_ms: self.index * 10 };
        if let Some(refusal) = self.machine.refusal(&command) {
            return refusal;
        }
        self.machine.apply_among(at, command, &mut self.scopes)
    }

    /// The same for a client, whose answer is kept.
    fn serve(&mut self, client_id: u64, serial: u64, command: Command) -> Reply {
        if let Some(refusal) = self.machine.refusal(&command) {
            return refusal;
        }
        let scope = self.machine.scope(&command);
        let mut sessions = self.scopes.take(scope);
        if let Verdict::Replay(reply) = sessions.check(client_id, serial) {
            self.scopes.put(scope, sessions);
            return reply;
        }
        let reply = self.apply(command);
        sessions.applied(client_id, serial, serial, reply.clone(), self.index * 10);
        self.scopes.put(scope, sessions);
        reply
    }

    fn count(&mut self, command: Command) -> u64 {
        match self.apply(command) {
            Reply::Count(count) => count,
            reply => panic!("{reply:?}"),
        }
    }

    fn configure(&mut self, number: u64, owners: [GroupId; 4]) -> u64 {
        self.count(Command::Configure(configuration(number, owners)))
    }

    fn give_up(&mut self, shard: ShardId, number: u64) -> u64 {
        self.count(Command::GiveUp { shard, number })
    }

    fn delete(&mut self, shard: ShardId, number: u64) -> u64 {
        self.count(Command::Delete { shard, number })
    }

    fn receive(&mut self, shard: ShardId, number: u64, piece: &Piece) -> u64 {
        self.count(Command::Receive { shard, number, piece: piece.encode() })
    }

    fn piece(&self, shard: ShardId, number: u64, after: &Cursor, bytes_max: u32) -> Option<Piece> {
        let command = Command::Piece { shard, number, after: after.clone(), bytes_max };
        match self.machine.query(&command) {
            Reply::Piece(piece) => piece.map(|piece| Piece::decode(&piece).expect("our own")),
            reply => panic!("{reply:?}"),
        }
    }

    fn view(&self) -> View {
        self.machine.view()
    }

    fn moving(&self, shard: ShardId) -> Option<Moving> {
        self.view().moving.into_iter().find(|moving| moving.shard == shard)
    }

    fn phase(&self, shard: ShardId) -> Option<Phase> {
        self.moving(shard).map(|moving| moving.phase)
    }

    fn cursor(&self, shard: ShardId) -> Option<Cursor> {
        match self.phase(shard)? {
            Phase::Awaited { cursor, .. } => Some(cursor),
            _ => None,
        }
    }

    fn ask(&self, key: &Bytes) -> Option<GroupId> {
        match self.machine.query(&get(key)) {
            Reply::Error(KvError::WrongGroup { ask, number }) => {
                assert_eq!(number, self.view().number);
                Some(ask)
            }
            _ => None,
        }
    }

    fn value(&self, key: &Bytes) -> Option<Bytes> {
        match self.machine.query(&get(key)) {
            Reply::Value(value) => value.map(|found| found.value),
            reply => panic!("{reply:?}"),
        }
    }

    fn bytes(&self) -> Vec<u8> {
        self.machine.snapshot().flatten().collect()
    }

    /// What is kept for the clients of a shard.
    fn sessions(&self, shard: ShardId) -> Vec<u8> {
        let sessions = self.scopes.get(shard.0);
        let images: Vec<(u64, SessionImage<Reply>)> =
            sessions.into_iter().flat_map(|sessions| sessions.after(None)).collect();
        rmp_serde::to_vec(&images).expect("plain data")
    }

    /// The same replica after a restart: its machine is made again of a snapshot, cut anywhere.
    fn restarted(&self, cut: usize) -> Replica {
        let mut restore = Machine::restore();
        for bytes in self.bytes().chunks(cut) {
            restore.feed(bytes).expect("our own bytes");
        }
        let machine = restore.finish().expect("all of them");
        Replica { machine, scopes: self.scopes.clone(), index: self.index }
    }

    /// Takes a shard over from a giver, in pieces of so many bytes.
    fn fetch(&mut self, giver: &Replica, shard: ShardId, number: u64, bytes_max: u32) {
        while let Some(cursor) = self.cursor(shard) {
            let piece = giver.piece(shard, number, &cursor, bytes_max).expect("it is given up");
            assert_eq!(self.receive(shard, number, &piece), 1);
        }
    }
}

/// A and B after configuration 1, in which A has everything, and 2, in which B gets shards 2 and 3.
fn pair() -> (Replica, Replica) {
    let (mut a, mut b) = (Replica::new(A), Replica::new(B));
    for group in [&mut a, &mut b] {
        assert_eq!(group.configure(1, [A; 4]), 1);
    }
    for shard in [S0, S1, S2, S3] {
        for n in 0..20 {
            let key = key(shard, &format!(":{n}"));
            let reply = a.serve(n % 7, n + 1, put(&key, vec![n as u8; 10 * n as usize]));
            assert!(matches!(reply, Reply::Stored { .. }), "{reply:?}");
        }
    }
    for group in [&mut a, &mut b] {
        assert_eq!(group.configure(2, [A, A, B, B]), 2);
    }
    (a, b)
}

#[test]
fn a_group_that_knows_no_configuration_serves_nothing() {
    let mut group = Replica::new(A);
    let reply = group.apply(put(&"k".into(), "v"));
    assert_eq!(reply, Reply::Error(KvError::WrongGroup { ask: NOBODY, number: 0 }));
    assert_eq!(group.view(), View { group: A, ..View::default() });
    for command in [
        Command::GiveUp { shard: S0, number: 0 },
        Command::Delete { shard: S0, number: 0 },
        Command::Receive { shard: S0, number: 0, piece: Bytes::new() },
    ] {
        assert_eq!(group.count(command), 0);
    }
}

#[test]
fn configurations_are_taken_over_one_by_one() {
    let mut group = Replica::new(A);
    assert_eq!(group.configure(2, [A; 4]), 0, "one from the future");
    assert_eq!(group.configure(0, [A; 4]), 0, "an old one");
    assert_eq!(group.configure(1, [NOBODY; 4]), 1);
    let stirred = group.machine.stirred();
    assert_eq!(group.configure(3, [A; 4]), 1);
    assert_eq!(group.configure(1, [A; 4]), 1, "the same again, or another by its number");
    assert_eq!(group.machine.stirred(), stirred, "nothing of it is worth telling");
    assert_eq!(group.view().serving, 0);
    assert_eq!(group.configure(2, [A, B, A, NOBODY]), 2);
    assert_eq!(group.machine.served().collect::<Vec<_>>(), [S0, S2], "what nobody had, at once");
    assert!(group.view().moving.is_empty());
    let other = Configuration { number: 3, owners: vec![A; 5], ..Configuration::default() };
    assert_eq!(group.count(Command::Configure(other.into())), 2, "another number of shards");
    let none = Configuration { number: 3, ..Configuration::default() };
    assert_eq!(group.count(Command::Configure(none.into())), 2);
    let many = Configuration { number: 1, owners: vec![A; 16_385], ..Configuration::default() };
    assert_eq!(Replica::new(A).count(Command::Configure(many.into())), 0);
}

#[test]
fn a_shard_that_goes_is_served_until_it_is_given_up_and_kept_until_the_other_group_has_it() {
    let (mut a, mut b) = pair();
    let k = key(S2, ":5");
    assert_eq!((a.view().serving, a.phase(S2)), (4, Some(Phase::Leaving)));
    assert_eq!(
        (a.ask(&k), b.ask(&k)),
        (None, Some(A)),
        "until it is asked for, it is served there"
    );
    assert!(matches!(a.apply(put(&k, "later")), Reply::Stored { .. }));
    assert!(a.piece(S2, 2, &Cursor::Start, WHOLE).is_none(), "what is served does not travel");
    assert_eq!(a.delete(S2, 2), 0, "nor is it deleted");

    assert_eq!(a.give_up(S2, 1), 0, "by another configuration");
    assert_eq!(a.give_up(S2, 3), 0);
    assert_eq!(a.give_up(S0, 2), 0, "it stays");
    assert_eq!(b.give_up(S2, 2), 0, "it is not there");
    assert_eq!(a.give_up(S2, 2), 1);
    assert_eq!(a.give_up(S2, 2), 1, "given up, and given up still");
    assert!(a.scopes.get(S2.0).is_none(), "the sessions go with it");
    assert_eq!((a.ask(&k), b.ask(&k)), (Some(B), Some(A)));
    let refused = Reply::Error(KvError::WrongGroup { ask: B, number: 2 });
    assert_eq!(a.apply(put(&k, "too late")), refused);

    let (keys, total) = (20, a.piece(S2, 2, &Cursor::Start, 1).expect("given up").total);
    assert_eq!(a.phase(S2), Some(Phase::GivenUp(total)));
    assert_eq!(total.keys, keys);
    assert_eq!(a.delete(S2, 1), 0, "by another configuration");
    assert_eq!(a.delete(S3, 2), 0, "it is served");
    b.fetch(&a, S2, 2, WHOLE);
    assert_eq!((b.ask(&k), b.value(&k)), (None, Some("later".into())));
    assert_eq!(a.delete(S2, 2), 1);
    assert_eq!(a.delete(S2, 2), 0, "it is gone");
    assert!(a.piece(S2, 2, &Cursor::Start, WHOLE).is_none());
    assert_eq!((a.phase(S2), a.ask(&k)), (None, Some(B)));
    assert_eq!(a.machine.store().len(), 60, "nothing is left of it");
    let garbage = a.machine.take_garbage().expect("it is to be freed");
    assert_eq!(garbage.bytes, total.bytes, "as many bytes as a checkpoint without it is shorter");
    assert!(a.machine.take_garbage().is_none());
}

#[test]
fn no_configuration_is_taken_over_before_the_last_one_is_carried_out() {
    let (mut a, mut b) = pair();
    assert_eq!(b.configure(3, [A, A, B, B]), 2, "B waits for two shards");
    assert_eq!(a.configure(3, [A, A, A, B]), 2, "A still has what would come back");
    assert_eq!(a.give_up(S2, 2), 1);
    assert_eq!(a.configure(3, [A, A, A, B]), 2, "and it still has");
    // What goes somewhere else, or nowhere, or on from there, A need not wait for.
    for owners in [[A, A, B, B], [A, A, C, B], [A, A, NOBODY, B]] {
        assert_eq!(a.clone().configure(3, owners), 3, "{owners:?}");
    }
    b.fetch(&a, S2, 2, WHOLE);
    assert_eq!(b.configure(3, [A, A, B, B]), 2, "one is missing");
    assert_eq!(a.give_up(S3, 2), 1);
    b.fetch(&a, S3, 2, WHOLE);
    assert_eq!(b.configure(3, [A, A, A, B]), 3);
    assert_eq!(b.phase(S2), Some(Phase::Leaving), "and back again");
    assert_eq!(a.delete(S2, 2), 1);
    assert_eq!(a.configure(3, [A, A, A, B]), 3, "now it can be awaited");
    assert_eq!(b.give_up(S2, 3), 1);
    a.fetch(&b, S2, 3, 100);
    assert_eq!(a.view().serving, 3);
    assert_eq!(a.delete(S3, 2), 1, "late, but it is that of configuration 2");
    assert!(a.view().moving.is_empty());
}

#[test]
fn groups_that_exchange_shards_do_not_wait_for_each_other() {
    let (mut a, mut b) = (Replica::new(A), Replica::new(B));
    for group in [&mut a, &mut b] {
        group.configure(1, [A, A, B, B]);
        group.configure(2, [B, A, A, B]);
    }
    assert_eq!((a.phase(S0), b.phase(S2)), (Some(Phase::Leaving), Some(Phase::Leaving)));
    // Each gives up while it waits itself.
    assert_eq!((a.give_up(S0, 2), b.give_up(S2, 2)), (1, 1));
    a.fetch(&b, S2, 2, WHOLE);
    b.fetch(&a, S0, 2, WHOLE);
    assert_eq!((a.delete(S0, 2), b.delete(S2, 2)), (1, 1));
    assert_eq!(a.machine.served().collect::<Vec<_>>(), [S1, S2]);
    assert_eq!(b.machine.served().collect::<Vec<_>>(), [S0, S3]);
}

#[test]
fn what_nobody_gets_is_dropped() {
    let (mut a, _) = pair();
    let before = a.machine.store().bytes();
    assert_eq!(a.configure(3, [NOBODY, A, B, B]), 3);
    assert_eq!(a.machine.store().len(), 60);
    assert!(a.scopes.get(S0.0).is_none() && a.scopes.get(S1.0).is_some());
    let garbage = a.machine.take_garbage().expect("to be freed");
    assert_eq!(garbage.bytes, before - a.machine.store().bytes());
    assert_eq!(a.ask(&key(S0, ":5")), Some(NOBODY));
    assert_eq!(a.configure(4, [A, A, B, B]), 4);
    assert_eq!(a.value(&key(S0, ":5")), None, "it begins empty");
}

/// Whoever proposes it: a shard that there is not must not end every replica.
#[test]
fn commands_about_shards_that_there_are_not_have_no_effect() {
    let (mut a, _) = pair();
    let before = a.bytes();
    for shard in [4, 5, 20, 16_383, 16_384, u16::MAX].map(ShardId) {
        assert_eq!(a.give_up(shard, 2), 0, "{shard}");
        assert_eq!(a.delete(shard, 2), 0, "{shard}");
        assert_eq!(a.count(Command::Receive { shard, number: 2, piece: Bytes::new() }), 0);
        assert!(a.piece(shard, 2, &Cursor::Start, WHOLE).is_none());
    }
    assert_eq!(a.bytes(), before);
    // Nor those of a group of several, where there is one.
    let mut whole = Replica { machine: Machine::whole(), ..Replica::new(A) };
    assert_eq!(whole.configure(1, [A; 4]), 0);
    assert_eq!((whole.give_up(S0, 0), whole.delete(S0, 0)), (0, 0));
    assert!(whole.piece(S0, 0, &Cursor::Start, WHOLE).is_none());
    assert!(matches!(whole.apply(put(&"k".into(), "v")), Reply::Stored { .. }));
}

#[test]
fn an_operation_on_several_shards_is_refused() {
    let (mut a, _) = pair();
    let keys = vec![key(S0, ":1"), key(S1, ":1")];
    assert_eq!(a.apply(Command::Op(Op::Delete { keys })), Reply::Error(KvError::CrossShard));
    let keys = vec![key(S0, ":1"), key(S0, ":2")];
    assert_eq!(a.apply(Command::Op(Op::Delete { keys })), Reply::Count(2));
}

#[test]
fn a_piece_that_is_not_the_next_one_has_no_effect() {
    let (mut a, mut b) = pair();
    assert_eq!((a.give_up(S2, 2), a.give_up(S3, 2)), (1, 1));
    let first = a.piece(S2, 2, &Cursor::Start, 300).expect("given up");
    let next = first.next.clone().expect("there is more");
    let second = a.piece(S2, 2, &next, 300).expect("given up");
    let before = b.bytes();
    let nothing = |b: &mut Replica, piece: Bytes, shard, number, why: &str| {
        assert_eq!(b.count(Command::Receive { shard, number, piece }), 0, "{why}");
    };
    for garbage in [&b""[..], b"garbage", &[0xc1; 50], &first.encode()[..20]] {
        nothing(&mut b, Bytes::copy_from_slice(garbage), S2, 2, "garbage");
    }
    nothing(&mut b, second.encode(), S2, 2, "the second before the first");
    nothing(&mut b, first.encode(), S3, 2, "a piece of another shard");
    nothing(&mut b, first.encode(), S2, 1, "by another configuration");
    nothing(&mut b, first.encode(), S0, 2, "a shard that does not come");
    // Empty pieces are alike but for what they say they are.
    let empty = Piece { sessions: vec![], pairs: vec![], next: None, ..first.clone() };
    let empty = Piece { total: Load::default(), ..empty };
    nothing(&mut b, empty.encode(), S3, 2, "an empty piece of another shard");
    nothing(&mut b, Piece { number: 3, ..empty }.encode(), S2, 2, "of another configuration");
    let pair = &a.piece(S3, 2, &Cursor::Start, WHOLE).expect("given up").pairs[0];
    let foreign = Piece { pairs: vec![pair.clone()], ..first.clone() };
    nothing(&mut b, foreign.encode(), S2, 2, "a pair of another shard");
    let still = Piece { next: Some(Cursor::Start), ..first.clone() };
    nothing(&mut b, still.encode(), S2, 2, "one that leads nowhere");
    assert_eq!(b.bytes(), before);

    assert_eq!(b.receive(S2, 2, &first), 1);
    let after_first = b.bytes();
    assert_eq!(b.receive(S2, 2, &first), 0, "twice");
    let other_total = Piece { total: Load { keys: 1, bytes: 1 }, ..second.clone() };
    assert_eq!(b.receive(S2, 2, &other_total), 0, "of a shard with other contents");
    assert_eq!(b.bytes(), after_first);
    b.fetch(&a, S2, 2, 300);
    assert_eq!(b.receive(S2, 2, &first), 0, "when all is here");
    assert_eq!(b.receive(S2, 2, &second), 0);
    assert_eq!(b.machine.store().len(), 20);
}

/// Its giver says that there is more than what came: then nothing of it counts.
#[test]
fn a_shard_of_which_something_is_missing_is_fetched_anew() {
    let (mut a, mut b) = pair();
    assert_eq!(a.give_up(S2, 2), 1);
    let whole = a.piece(S2, 2, &Cursor::Start, WHOLE).expect("given up");
    let cut = Piece { pairs: whole.pairs[1..].to_vec(), ..whole.clone() };
    assert_eq!(b.receive(S2, 2, &cut), 1);
    let begins = Phase::Awaited { cursor: Cursor::Start, here: Load::default(), total: None };
    assert_eq!(b.phase(S2), Some(begins), "from the start");
    assert_eq!((b.machine.store().len(), b.view().serving), (0, 0));
    assert!(b.machine.take_garbage().is_some_and(|garbage| garbage.bytes > 0));
    b.fetch(&a, S2, 2, 100);
    assert_eq!(b.machine.store().len(), 20);
}

/// Pieces of any size, from any replica, resumed wherever a restart has left off, some of them twice or
/// late: the same store, the same sessions.
#[test]
fn whoever_carries_a_shard_and_however_it_is_the_same_shard() {
    let (mut a, b) = pair();
    assert_eq!(a.give_up(S2, 2), 1);
    let lagging = pair().0;
    let givers = [a.clone(), a.restarted(7), a.restarted(100_000)];
    let mut reference = b.clone();
    reference.fetch(&a, S2, 2, WHOLE);
    for seed in 0..200 {
        let mut rng = ChaCha8Rng::seed_from_u64(seed);
        let mut to = b.clone();
        let mut seen: Vec<Piece> = vec![];
        while let Some(cursor) = to.cursor(S2) {
            assert!(lagging.piece(S2, 2, &cursor, WHOLE).is_none(), "it has not given it up yet");
            let giver = &givers[rng.random_range(0..givers.len())];
            let bytes_max = rng.random_range(0..600);
            let piece = giver.piece(S2, 2, &cursor, bytes_max).expect("it is given up");
            for old in &seen {
                assert_eq!(to.receive(S2, 2, old), 0, "seed {seed}: twice");
            }
            assert_eq!(to.receive(S2, 2, &piece), 1, "seed {seed}");
            seen.push(piece);
            if rng.random_ratio(1, 4) {
                to = to.restarted(rng.random_range(1..500));
            }
        }
        assert_eq!(to.machine.store(), reference.machine.store(), "seed {seed}");
        assert_eq!(to.view(), reference.view(), "seed {seed}");
        let sessions = |to: &Replica| to.scopes.get(S2.0).map(|sessions| sessions.len());
        assert_eq!(sessions(&to), Some(7), "seed {seed}");
        assert_eq!(sessions(&reference), Some(7));
    }
}

/// What was applied at the old owner is not applied again at the new one, and is answered as it was.
#[test]
fn what_was_answered_goes_with_the_shard() {
    let (mut a, mut b) = pair();
    let k = key(S2, "list");
    let append = || Command::Op(Op::Append { key: k.clone(), value: "x".into() });
    assert_eq!(a.serve(77, 5, append()), Reply::Length(1));
    assert_eq!(a.serve(77, 5, append()), Reply::Length(1), "again, at the same group");
    let before = a.sessions(S2);
    assert_eq!(a.give_up(S2, 2), 1);
    b.fetch(&a, S2, 2, 64);
    assert_eq!(a.sessions(S2), Replica::new(A).sessions(S2), "they are not here any more");
    assert_ne!(before, a.sessions(S2));
    assert_eq!(b.serve(77, 5, append()), Reply::Length(1), "again, at the new one");
    assert_eq!(b.serve(77, 6, append()), Reply::Length(2));
    assert_eq!(b.value(&k), Some("xx".into()));
}

/// In every phase a replica that starts from its snapshot is the replica that it was, and goes on as one
/// that never stopped.
#[test]
fn snapshots_of_every_phase_are_restored_to_the_byte() {
    let (a, b) = pair();
    // One step after the other; each says what it does to the two groups.
    type Step = fn(&mut Replica, &mut Replica);
    let steps: [Step; 9] = [
        |_, _| {},
        |a, _| assert_eq!(a.give_up(S2, 2), 1),
        |a, b| {
            let piece = a.piece(S2, 2, &Cursor::Start, 40).expect("given up");
            assert!(matches!(piece.next, Some(Cursor::Client(_))), "amid the sessions");
            assert_eq!(b.receive(S2, 2, &piece), 1);
        },
        |a, b| {
            let piece = a.piece(S2, 2, &b.cursor(S2).expect("awaited"), 500).expect("given up");
            assert!(matches!(piece.next, Some(Cursor::Key(_))), "amid the pairs");
            assert_eq!(b.receive(S2, 2, &piece), 1);
        },
        |a, b| b.fetch(a, S2, 2, 500),
        |a, _| assert_eq!(a.delete(S2, 2), 1),
        |a, b| {
            assert_eq!(a.give_up(S3, 2), 1);
            b.fetch(a, S3, 2, WHOLE);
        },
        |a, b| {
            assert_eq!(a.delete(S3, 2), 1);
            assert_eq!(
                (a.configure(3, [A, NOBODY, A, B]), b.configure(3, [A, NOBODY, A, B])),
                (3, 3)
            );
        },
        |a, b| {
            assert_eq!(b.give_up(S2, 3), 1);
            a.fetch(b, S2, 3, 100);
        },
    ];
    let (mut one, mut other) = ((a.clone(), b.clone()), (a, b));
    for (n, step) in steps.into_iter().enumerate() {
        step(&mut one.0, &mut one.1);
        other = (other.0.restarted(13), other.1.restarted(1000));
        step(&mut other.0, &mut other.1);
        assert_eq!(one.0.bytes(), other.0.bytes(), "A after step {n}");
        assert_eq!(one.1.bytes(), other.1.bytes(), "B after step {n}");
        for group in [&one.0, &one.1] {
            let again = group.restarted(1);
            assert_eq!(again.bytes(), group.bytes(), "step {n}");
            assert_eq!(again.view(), group.view(), "step {n}");
            assert_eq!(again.machine.stirred(), group.machine.stirred(), "step {n}");
        }
    }
    assert_eq!(one.0.machine.served().collect::<Vec<_>>(), [S0, S2]);
    assert_eq!(one.1.machine.served().collect::<Vec<_>>(), [S3]);
}

#[test]
fn snapshots_that_are_cut_short_or_of_no_machine_are_refused() {
    let bytes = pair().0.bytes();
    for len in [0, 3, 4, 100, bytes.len() - 1] {
        let mut restore = Machine::restore();
        let fed = restore.feed(&bytes[..len]);
        assert!(fed.and_then(|()| restore.finish().map(drop)).is_err(), "{len} bytes");
    }
    let mut table = bytes.clone();
    table[4..8].fill(0xc1);
    let mut restore = Machine::restore();
    assert!(restore.feed(&table).is_err(), "a table that cannot be read");
}

#[test]
fn damaged_pieces_are_refused_or_are_pieces() {
    let (mut a, b) = pair();
    assert_eq!(a.give_up(S2, 2), 1);
    let bytes = a.piece(S2, 2, &Cursor::Start, 400).expect("given up").encode();
    let mut refused = 0;
    for seed in 0..2000 {
        let mut rng = ChaCha8Rng::seed_from_u64(seed);
        let mut damaged = bytes.to_vec();
        for _ in 0..rng.random_range(1..4) {
            let at = rng.random_range(0..damaged.len());
            damaged[at] = rng.random();
        }
        damaged.truncate(rng.random_range(1..=damaged.len() * 4).min(damaged.len()));
        refused += usize::from(Piece::decode(&damaged).is_err());
        // Checksums keep such bytes from the log; if one came there it would end nobody.
        let mut to = b.clone();
        to.apply(Command::Receive { shard: S2, number: 2, piece: damaged.into() });
        assert_eq!(to.restarted(1000).bytes(), to.bytes(), "seed {seed}");
    }
    assert!(refused > 500, "{refused}");
}
