//! The rules of the mover.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
    time::Duration,
};

use bytes::Bytes;
use quorate_kvserver::{Command, Cursor, Moving, Phase, Piece, Reply, View};
use quorate_protocol::{
    Core, GroupId, Name, Never, NodeId, Out,
    planted::{Bug, is_planted},
};
use quorate_rsm::{Answers, Outcome, Stirred};
use quorate_shardmaster::{Configuration, Message as ToMaster, ShardId};

use crate::messages::Message;

/// Bytes of a piece, about, where nothing else is wanted.
pub const PIECE_BYTES: u32 = 256 * 1024;
/// Questions of other movers that are being answered at one time; others ask again.
const PULLS_MAX: usize = 256;
/// Rounds of the timer without any change, after which a mover acts that is not beside the leader.
const PATIENCE: u32 = 3;
/// After which pause a giver is asked again that had nothing to give yet.
const SOON: Duration = Duration::from_millis(10);

/// What a mover is told once.
#[derive(Clone, Debug)]
pub struct Config {
    /// Its node.
    pub me: NodeId,
    /// Its group.
    pub group: GroupId,
    /// The nodes that the shardmaster has replicas on.
    pub masters: Vec<NodeId>,
    /// How long to wait for any answer.
    pub retry: Duration,
    /// How often a shardmaster on another node is asked again for what it has not told: it may have
    /// forgotten the question, or hear nothing itself.
    pub poll: Duration,
    /// The nodes of its group. While nobody leads, the first one acts, so that groups come to be led by
    /// different nodes.
    pub nodes: Vec<NodeId>,
    /// Shards that are carried at one time, at most ...
    pub transfers: usize,
    /// ... and about how many bytes of them: what is being carried is not served. Two shards may be
    /// carried whatever they hold.
    pub transfer_bytes: u64,
    /// Pieces of each that are on their way into the log.
    pub pieces: usize,
    /// Bytes of a piece, about.
    pub piece_bytes: u32,
}

/// What a mover asks to be woken for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Timer {
    /// Something is under way: does it move?
    Again,
    /// A giver had nothing to give yet.
    Soon,
    /// The shardmaster has been silent for long.
    Poll,
}

/// What a mover says, and to whom.
#[derive(Clone, Debug)]
pub enum Outbound {
    /// To the rsm of its replica: answer this from what is applied here.
    Peek {
        /// Comes back with the answer.
        token: u64,
        /// What.
        command: Command,
    },
    /// To the rsm of its replica: put this into the log.
    Submit {
        /// This mover, in this life.
        client_id: u64,
        /// Which of its commands; comes back with the answer.
        serial: u64,
        /// Nothing below is waited for.
        acked_below: u64,
        /// What.
        command: Command,
    },
    /// To the mover of a group on a node.
    Mover(GroupId, NodeId, Message),
    /// To the shardmaster on a node.
    Master(NodeId, ToMaster),
}

/// A shard that comes.
#[derive(Clone, Debug)]
struct Transfer {
    number: u64,
    from: GroupId,
    nodes: Vec<NodeId>,
    /// Which of the nodes is asked.
    source: usize,
    /// Where the next piece begins; `None`: there is none.
    next: Option<Cursor>,
    /// The question that is open.
    asked: Option<u64>,
    /// Whether to ask again before long.
    pausing: bool,
    /// Pieces on their way into the log.
    submitted: usize,
    /// Bytes that are still to come, once that is known.
    bytes: Option<u64>,
    /// Nothing has happened since the timer was set.
    quiet: bool,
}

/// A shard whose giver had nothing to give when it was its turn.
#[derive(Clone, Copy, Debug, Default)]
struct Passed {
    /// How often.
    times: u32,
    /// Which of the giver's nodes is to be asked next, if some have answered.
    source: Option<usize>,
}

/// What a token was drawn for.
#[derive(Clone, Debug)]
enum Purpose {
    /// To see what is here.
    Look,
    /// A piece for another mover, which waits for it.
    Piece(Pull),
    /// To give a shard up that another mover wants.
    GiveUp(Pull),
    /// To take over the next configuration.
    Configure,
    /// To take in a piece; whether it is the last one.
    Receive { shard: ShardId, number: u64, last: bool },
    /// To delete what another group has.
    Delete { shard: ShardId, number: u64 },
}

/// Shards, each with the configuration by which it moves.
type Shards = Vec<(ShardId, u64)>;

/// A question of another mover.
#[derive(Clone, Debug)]
struct Pull {
    from: Name,
    question: u64,
    shard: ShardId,
    number: u64,
    after: Cursor,
}

/// The mover of one replica.
#[derive(Clone, Debug)]
pub struct Mover {
    config: Config,
    client_id: u64,
    last: u64,
    /// What is under way at the rsm, by token.
    open: BTreeMap<u64, Purpose>,
    leader: Option<NodeId>,
    view: View,
    /// A look is under way, and whether another one is wanted after it.
    looking: Option<bool>,
    /// The next configuration, once it is known.
    next: Option<Arc<Configuration>>,
    /// Above which number one is waited for, at which of the masters.
    awaiting: Option<u64>,
    master: usize,
    transfers: BTreeMap<ShardId, Transfer>,
    /// Bytes of the shard that was carried last: others may hold as much.
    usual: u64,
    /// Shards that have let others go first.
    passed: BTreeMap<ShardId, Passed>,
    /// The timer is set, and which token was the last when it ran out before.
    watching: bool,
    marked: u64,
    /// Rounds of the timer without any change.
    quiet: u32,
    /// Which node of another group is asked next.
    turn: usize,
}

impl Mover {
    /// A mover that knows nothing yet. `chance` are two numbers drawn at random.
    pub fn new(config: Config, chance: (u64, u64)) -> Self {
        let own = config.masters.iter().position(|node| *node == config.me);
        Mover {
            master: own.unwrap_or((chance.0 % config.masters.len().max(1) as u64) as usize),
            client_id: chance.0,
            last: chance.1 >> 1,
            config,
            open: BTreeMap::new(),
            leader: None,
            view: View::default(),
            looking: None,
            next: None,
            awaiting: None,
            transfers: BTreeMap::new(),
            usual: PIECE_BYTES.into(),
            passed: BTreeMap::new(),
            watching: false,
            marked: 0,
            quiet: 0,
            turn: 0,
        }
    }

    /// First words after a start.
    pub fn start(&mut self, out: &mut Out<Self>) {
        self.look(out);
    }

    /// What its replica had applied when it last looked.
    pub fn view(&self) -> &View {
        &self.view
    }

    fn token(&mut self, purpose: Purpose) -> u64 {
        self.last += 1;
        self.open.insert(self.last, purpose);
        self.last
    }

    fn peek(&mut self, purpose: Purpose, command: Command, out: &mut Out<Self>) {
        let token = self.token(purpose);
        out.send(Outbound::Peek { token, command });
    }

    fn submit(&mut self, purpose: Purpose, command: Command, out: &mut Out<Self>) {
        let serial = self.token(purpose);
        let acked_below = self.open.first_key_value().map_or(serial, |(first, _)| *first);
        let client_id = self.client_id;
        out.send(Outbound::Submit { client_id, serial, acked_below, command });
        self.watch(out);
    }

    fn look(&mut self, out: &mut Out<Self>) {
        match &mut self.looking {
            Some(again) => *again = true,
            None => {
                self.looking = Some(false);
                self.peek(Purpose::Look, Command::View, out);
            }
        }
        self.watch(out);
    }

    /// Wakes us again if anything is under way. Nothing is in a group whose shards are where they belong.
    fn watch(&mut self, out: &mut Out<Self>) {
        // Not moved by whatever goes on: it would never run out.
        if !std::mem::replace(&mut self.watching, true) {
            out.set_timer(Timer::Again, self.config.retry, self.config.retry * 2);
        }
    }

    fn is_busy(&self) -> bool {
        !self.open.is_empty() || !self.view.moving.is_empty() || self.next.is_some()
    }

    fn acts(&self) -> bool {
        let first = self.config.nodes.first() == Some(&self.config.me);
        match self.leader {
            Some(leader) if leader == self.config.me => true,
            None if first || self.quiet > 0 => true,
            _ => self.quiet >= PATIENCE,
        }
    }

    fn awaited(&self) -> impl Iterator<Item = (&Moving, &Cursor)> {
        self.view.moving.iter().filter_map(|moving| match &moving.phase {
            Phase::Awaited { cursor, .. } => Some((moving, cursor)),
            _ => None,
        })
    }

    /// Does what comes next, as far as that can be seen here.
    fn advance(&mut self, out: &mut Out<Self>) {
        let View { number, .. } = self.view;
        if self.next.as_ref().is_some_and(|next| next.number <= number) {
            self.next = None;
        }
        // Everybody listens, so that whoever comes to act knows.
        if self.next.is_none() && self.awaiting != Some(number) {
            self.ask_master(out);
        }
        if !self.acts() {
            return;
        }
        self.configure(out);
        self.carry(out);
    }

    fn ask_master(&mut self, out: &mut Out<Self>) {
        let Some(node) = self.config.masters.get(self.master).copied() else { return };
        let above = self.view.number;
        self.awaiting = Some(above);
        out.send(Outbound::Master(node, ToMaster::Await { above, next: true }));
        if node != self.config.me {
            out.set_timer(Timer::Poll, self.config.poll, self.config.poll * 2);
        }
    }

    fn configure(&mut self, out: &mut Out<Self>) {
        let under_way = self.open.values().any(|open| matches!(open, Purpose::Configure));
        let complete = self.awaited().next().is_none() || is_planted(Bug::ConfigurationTooEarly);
        if let (Some(next), true, false) = (&self.next, complete, under_way) {
            // What comes back to us must have been handed over before: the machine says so.
            let next = next.clone();
            self.submit(Purpose::Configure, Command::Configure(next), out);
        }
    }

    /// Has the shards carried that are to come, a few at a time. Those whose givers had nothing to give let
    /// the others go first: a giver may be dead for good.
    fn carry(&mut self, out: &mut Out<Self>) {
        let awaited: BTreeMap<ShardId, u64> =
            self.awaited().map(|(moving, _)| (moving.shard, moving.number)).collect();
        self.transfers.retain(|shard, transfer| awaited.get(shard) == Some(&transfer.number));
        self.passed.retain(|shard, _| awaited.contains_key(shard));
        let free = self.free();
        let passed = |shard: &ShardId| self.passed.get(shard).copied().unwrap_or_default();
        let new = self.awaited().filter(|(moving, _)| !self.transfers.contains_key(&moving.shard));
        let mut new: Vec<(&Moving, &Cursor)> = new.collect();
        new.sort_by_key(|(moving, _)| passed(&moving.shard).times);
        let new: Vec<(ShardId, Transfer)> = new
            .into_iter()
            .take(free)
            .map(|(moving, cursor)| {
                let nodes = moving.nodes.clone();
                let own = nodes.iter().position(|node| *node == self.config.me);
                let source = own.filter(|_| self.quiet < 2).unwrap_or(self.turn);
                let transfer = Transfer {
                    number: moving.number,
                    from: moving.other,
                    source: passed(&moving.shard).source.unwrap_or(source),
                    nodes,
                    next: Some(cursor.clone()),
                    asked: None,
                    pausing: false,
                    submitted: 0,
                    bytes: None,
                    quiet: false,
                };
                (moving.shard, transfer)
            })
            .collect();
        self.transfers.extend(new);
        self.pull_all(out);
    }

    /// How many more shards may be carried now.
    fn free(&self) -> usize {
        let carried = self.transfers.len();
        let usual = self.usual.max(1);
        let bytes = self.transfers.values().map(|transfer| transfer.bytes.unwrap_or(usual)).sum();
        let more = self.config.transfer_bytes.saturating_sub(bytes).div_ceil(usual);
        let more = usize::try_from(more).unwrap_or(usize::MAX).max(2_usize.saturating_sub(carried));
        more.min(self.config.transfers.saturating_sub(carried))
    }

    fn pull_all(&mut self, out: &mut Out<Self>) {
        let shards: Vec<ShardId> = self.transfers.keys().copied().collect();
        for shard in shards {
            self.pull(shard, out);
        }
    }

    /// A shard's giver has nothing to give: another one that waits has its turn now, if there is any.
    fn pass(&mut self, shard: ShardId, source: Option<usize>) {
        self.transfers.remove(&shard);
        let passed = self.passed.entry(shard).or_default();
        (passed.times, passed.source) = (passed.times.saturating_add(1), source);
    }

    /// Asks for the next piece of a shard, unless enough is under way.
    fn pull(&mut self, shard: ShardId, out: &mut Out<Self>) {
        let question = self.last + 1;
        let Some(transfer) = self.transfers.get_mut(&shard) else { return };
        let Some(after) = transfer.next.clone() else { return };
        let busy = transfer.asked.is_some() || transfer.pausing;
        if busy || transfer.submitted >= self.config.pieces || transfer.nodes.is_empty() {
            return;
        }
        self.last = question;
        transfer.asked = Some(question);
        transfer.quiet = false;
        let node = transfer.nodes[transfer.source % transfer.nodes.len()];
        let pull = Message::Pull { question, shard, number: transfer.number, after };
        out.send(Outbound::Mover(transfer.from, node, pull));
        self.watch(out);
    }

    fn on_pulled(&mut self, question: u64, piece: Option<Bytes>, crc: u32, out: &mut Out<Self>) {
        // V4.
        let asked = self.transfers.iter_mut().find(|(_, t)| t.asked == Some(question));
        let Some((shard, transfer)) = asked else { return };
        let shard = *shard;
        transfer.asked = None;
        let right = piece.filter(|piece| crc32fast::hash(piece) == crc);
        let read = right.and_then(|piece| Some((Piece::decode(&piece).ok()?, piece)));
        let is_asked = |read: &Piece| {
            (read.shard, read.number) == (shard, transfer.number)
                && transfer.next.as_ref() == Some(&read.after)
        };
        let Some((read, piece)) = read.filter(|(read, _)| is_asked(read)) else {
            // V1. It lags, or another replica does better.
            transfer.source = transfer.source.wrapping_add(1);
            transfer.pausing = true;
            return out.set_timer(Timer::Soon, SOON, SOON * 2);
        };
        transfer.quiet = false;
        transfer.submitted += 1;
        transfer.next = read.next;
        let came: u64 =
            read.pairs.iter().map(|pair| (pair.key.len() + pair.value.len()) as u64).sum();
        transfer.bytes = Some(transfer.bytes.unwrap_or(read.total.bytes).saturating_sub(came));
        self.usual = read.total.bytes;
        self.passed.remove(&shard);
        let (number, last) = (transfer.number, transfer.next.is_none());
        let (from, nodes) = (transfer.from, transfer.nodes.clone());
        if last && is_planted(Bug::DeletedWhenFetched) {
            self.tell_received(shard, number, from, &nodes, out);
        }
        let receive = Command::Receive { shard, number, piece };
        self.submit(Purpose::Receive { shard, number, last }, receive, out);
        self.pull(shard, out);
        // It may be known only now that there is room for more.
        if self.acts() && self.free() > 0 {
            self.carry(out);
        }
    }

    fn tell_received(
        &self,
        shard: ShardId,
        number: u64,
        to: GroupId,
        nodes: &[NodeId],
        out: &mut Out<Self>,
    ) {
        // One is enough: who has given it up asks, should this be lost.
        let near = nodes.iter().find(|node| **node == self.config.me).or(nodes.first());
        if let Some(node) = near {
            let shards = vec![(shard, number)];
            out.send(Outbound::Mover(to, *node, Message::Received { shards }));
        }
    }

    fn on_receive(
        &mut self,
        (shard, number, last): (ShardId, u64, bool),
        done: bool,
        out: &mut Out<Self>,
    ) {
        let Some(transfer) = self.transfers.get_mut(&shard) else { return };
        if transfer.number != number {
            return;
        }
        if !done {
            // Another mover was quicker, or it began anew: from what the log says.
            self.transfers.remove(&shard);
            return self.look(out);
        }
        transfer.submitted = transfer.submitted.saturating_sub(1);
        transfer.quiet = false;
        if last {
            let (from, nodes) = (transfer.from, transfer.nodes.clone());
            self.transfers.remove(&shard);
            // V2. It is applied here.
            self.tell_received(shard, number, from, &nodes, out);
            return self.look(out);
        }
        self.pull(shard, out);
    }

    fn on_pull(&mut self, pull: Pull, out: &mut Out<Self>) {
        let open = |open: &&Purpose| matches!(open, Purpose::Piece(_) | Purpose::GiveUp(_));
        if self.open.values().filter(open).count() >= PULLS_MAX {
            return;
        }
        let leaving = |moving: &Moving| {
            let same = (moving.shard, moving.number) == (pull.shard, pull.number);
            same && moving.phase == Phase::Leaving
        };
        if self.view.moving.iter().any(leaving) {
            let (shard, number) = (pull.shard, pull.number);
            return self.submit(Purpose::GiveUp(pull), Command::GiveUp { shard, number }, out);
        }
        self.read_piece(pull, out);
    }

    fn read_piece(&mut self, pull: Pull, out: &mut Out<Self>) {
        let (shard, number, after) = (pull.shard, pull.number, pull.after.clone());
        let bytes_max = self.config.piece_bytes;
        let piece = Command::Piece { shard, number, after, bytes_max };
        self.peek(Purpose::Piece(pull), piece, out);
        self.watch(out);
    }

    fn on_ask(&self, from: Name, shards: Vec<(ShardId, u64)>, out: &mut Out<Self>) {
        let here = |(shard, number): &(ShardId, u64)| self.view.has_received(*shard, *number);
        let shards: Vec<(ShardId, u64)> = shards.into_iter().filter(here).collect();
        if !shards.is_empty() {
            out.send(Outbound::Mover(from.group, from.node, Message::Received { shards }));
        }
    }

    fn on_received(&mut self, from: GroupId, shards: &[(ShardId, u64)], out: &mut Out<Self>) {
        let deleting = self.open.values().filter_map(|open| match open {
            Purpose::Delete { shard, number } => Some((*shard, *number)),
            _ => None,
        });
        let deleting: BTreeSet<(ShardId, u64)> = deleting.collect();
        let given = self.view.moving.iter().filter(|moving| {
            let key = (moving.shard, moving.number);
            let given = matches!(moving.phase, Phase::GivenUp(_)) && moving.other == from;
            given && shards.contains(&key) && !deleting.contains(&key)
        });
        let given: Vec<(ShardId, u64)> =
            given.map(|moving| (moving.shard, moving.number)).collect();
        for (shard, number) in given {
            self.submit(Purpose::Delete { shard, number }, Command::Delete { shard, number }, out);
        }
    }

    fn on_answers(&mut self, answers: Answers<Reply>, out: &mut Out<Self>) {
        for (token, answer) in answers {
            let Some(purpose) = self.open.remove(&token) else { continue };
            let reply = match answer {
                Outcome::Done(reply) => Some(reply),
                _ => None,
            };
            let done = matches!(reply, Some(Reply::Count(1..)));
            match purpose {
                Purpose::Look => {
                    if let Some(Reply::View(view)) = reply {
                        self.quiet = if view == self.view { self.quiet } else { 0 };
                        self.view = view;
                    }
                    let again = self.looking.take();
                    self.advance(out);
                    if again == Some(true) {
                        self.look(out);
                    }
                }
                Purpose::Configure => self.look(out),
                Purpose::GiveUp(pull) => match done {
                    true => self.read_piece(pull, out),
                    false => Mover::answer(&pull, None, out),
                },
                Purpose::Piece(pull) => {
                    let piece = match reply {
                        Some(Reply::Piece(piece)) => piece,
                        _ => None,
                    };
                    Mover::answer(&pull, piece, out);
                }
                Purpose::Receive { shard, number, last } => {
                    self.on_receive((shard, number, last), done, out);
                }
                Purpose::Delete { .. } => self.look(out),
            }
        }
    }

    fn answer(pull: &Pull, piece: Option<Bytes>, out: &mut Out<Self>) {
        let crc = piece.as_ref().map_or(0, |piece| crc32fast::hash(piece));
        let pulled = Message::Pulled { question: pull.question, piece, crc };
        out.send(Outbound::Mover(pull.from.group, pull.from.node, pulled));
    }

    /// Asks again those that had nothing to give, unless other shards wait for their turn.
    fn on_soon(&mut self, out: &mut Out<Self>) {
        let waiting = self.awaited().count().saturating_sub(self.transfers.len());
        let idle = |t: &Transfer| t.pausing && t.submitted == 0;
        let idle = self.transfers.iter().filter(|(_, transfer)| idle(transfer));
        let idle: Vec<(ShardId, usize)> =
            idle.map(|(shard, transfer)| (*shard, transfer.source)).collect();
        if self.acts() {
            for (shard, source) in idle.into_iter().take(waiting) {
                self.pass(shard, Some(source));
            }
        }
        for transfer in self.transfers.values_mut() {
            transfer.pausing = false;
        }
        match self.acts() {
            true => self.carry(out),
            false => self.pull_all(out),
        }
    }

    /// What has been silent for a whole round of the timer is begun anew.
    fn on_again(&mut self, out: &mut Out<Self>) {
        self.watching = false;
        let busy = self.is_busy();
        self.turn = self.turn.wrapping_add(1);
        self.quiet = self.quiet.saturating_add(1);
        // A message under way is lost when an actor crashes; then its answer never comes.
        let silent: Vec<ShardId> =
            self.transfers.iter().filter(|(_, t)| t.quiet).map(|(shard, _)| *shard).collect();
        for shard in silent {
            self.pass(shard, None);
        }
        for transfer in self.transfers.values_mut() {
            transfer.quiet = true;
        }
        // What has waited for a whole round is lost: an actor has crashed over it. What is slow only will be
        // asked for again, which harms nothing.
        let old = std::mem::replace(&mut self.marked, self.last);
        let transfers = &self.transfers;
        self.open.retain(|token, purpose| match purpose {
            Purpose::Receive { shard, .. } => transfers.contains_key(shard) || *token > old,
            _ => *token > old,
        });
        if !self.open.values().any(|purpose| matches!(purpose, Purpose::Look)) {
            self.looking = None;
        }
        let mut asked: BTreeMap<GroupId, (Vec<NodeId>, Shards)> = BTreeMap::new();
        if self.acts() {
            let given =
                self.view.moving.iter().filter(|moving| matches!(moving.phase, Phase::GivenUp(_)));
            for moving in given {
                let ask =
                    asked.entry(moving.other).or_insert_with(|| (moving.nodes.clone(), vec![]));
                ask.1.push((moving.shard, moving.number));
            }
        }
        for (group, (nodes, shards)) in asked {
            if let Some(node) = nodes.get(self.turn % nodes.len().max(1)) {
                out.send(Outbound::Mover(group, *node, Message::Ask { shards }));
            }
        }
        if busy {
            self.look(out);
        }
    }
}

impl Core for Mover {
    type Inbound = Message;
    type Outbound = Outbound;
    type Timer = Timer;
    type Record = Never;

    fn on_message(&mut self, from: Name, message: Message, out: &mut Out<Self>) {
        match message {
            Message::Stirred(Stirred { leader }) => {
                self.leader = leader;
                self.look(out);
            }
            Message::Peeked(answers) | Message::Answered(answers) => self.on_answers(answers, out),
            Message::MasterStarted => {
                self.awaiting = None;
                self.advance(out);
            }
            Message::Told(configuration) => {
                self.awaiting = None;
                if configuration.number == self.view.number + 1 {
                    self.next = Some(configuration);
                    out.cancel_timer(Timer::Poll);
                    self.quiet = 0;
                    self.watch(out);
                }
                self.advance(out);
            }
            Message::Pull { question, shard, number, after } => {
                self.on_pull(Pull { from, question, shard, number, after }, out);
            }
            Message::Pulled { question, piece, crc } => self.on_pulled(question, piece, crc, out),
            Message::Ask { shards } => self.on_ask(from, shards, out),
            Message::Received { shards } => self.on_received(from.group, &shards, out),
        }
    }

    fn on_timer(&mut self, timer: Timer, out: &mut Out<Self>) {
        match timer {
            Timer::Again => self.on_again(out),
            Timer::Soon => self.on_soon(out),
            Timer::Poll => {
                if self.next.is_none() {
                    self.master = (self.master + 1) % self.config.masters.len().max(1);
                    self.ask_master(out);
                }
            }
        }
    }

    fn invariants(&self) {
        assert!(
            self.transfers.len() <= self.config.transfers,
            "V3: {} shards are carried at one time",
            self.transfers.len()
        );
    }
}
