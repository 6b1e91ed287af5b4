//! The simulated network. It carries between machines: in which life a member speaks is the same to it.

use std::{
    cmp::Reverse,
    collections::{BTreeMap, BTreeSet, BinaryHeap},
    sync::{Arc, Mutex, MutexGuard},
    time::Duration,
};

use quorate_protocol::{Name, NodeId};
use quorate_stage::{Chance, Class, Parcel, Port, Transport};
use tokio::{
    sync::Notify,
    time::{Instant, timeout_at},
};

use crate::trace::Trace;

/// A request to an unreliable server is lost with this probability, in parts of a thousand.
const REQUEST_LOSS: u64 = 100;
/// An answer of an unreliable server is lost with this probability: 20 % of the other 90 %.
const ANSWER_LOSS: u64 = 200;

/// On the unreliable network of the Raft labs this many of a thousand requests are lost, and as
/// many answers.
const LOSS: u64 = 100;
/// There a request takes 0 to 26 ms longer.
const REQUEST_DELAY_MAX: Duration = Duration::from_millis(26);
/// With long reordering this many of a thousand answers are held back ...
const HELD: u64 = 667;
/// ... by so much ...
const HELD_AT_LEAST: Duration = Duration::from_millis(200);
/// ... and then below a bound that is itself drawn below this one.
const HELD_BOUND_MAX_MS: u64 = 2000;

/// Sets of nodes that hear each other; a server in none of them is alone.
pub type Partition = Vec<Vec<NodeId>>;

struct UnderWay {
    at: Instant,
    seq: u64,
    parcel: Parcel,
}

impl PartialEq for UnderWay {
    fn eq(&self, other: &Self) -> bool {
        (self.at, self.seq) == (other.at, other.seq)
    }
}

impl Eq for UnderWay {}

impl PartialOrd for UnderWay {
    fn partial_cmp(&self, other: &Self) -> Option<std::cmp::Ordering> {
        Some(self.cmp(other))
    }
}

impl Ord for UnderWay {
    fn cmp(&self, other: &Self) -> std::cmp::Ordering {
        (self.at, self.seq).cmp(&(other.at, other.seq))
    }
}

/// May change a parcel before it is on its way.
type Tamper = Box<dyn FnMut(&mut Parcel) + Send>;

struct State {
    chance: Chance,
    ports: BTreeMap<Name, Arc<dyn Port>>,
    servers: BTreeSet<NodeId>,
    heap: BinaryHeap<Reverse<UnderWay>>,
    seq: u64,
    delay: (Duration, Duration),
    unreliable: BTreeSet<NodeId>,
    deaf: BTreeSet<NodeId>,
    /// The unreliable network of the Raft labs, and its long reordering.
    is_lossy: bool,
    is_reordering: bool,
    partition: Option<Partition>,
    cut: BTreeSet<(NodeId, NodeId)>,
    /// What a parcel from the one to the other takes longer.
    slow: BTreeMap<(NodeId, NodeId), Duration>,
    /// Of a thousand parcels between any two nodes, so many are lost.
    loss_permille: u64,
    disconnected: BTreeSet<NodeId>,
    duplicate_permille: u64,
    /// Requests of servers that came over the network and were handed over.
    received: BTreeMap<NodeId, u64>,
    sent: u64,
    /// Of requests that were sent and answers that were handed over.
    bytes: u64,
    by_kind: BTreeMap<&'static str, u64>,
    tamper: Option<Tamper>,
}

/// The network of one world. Cheap to clone.
#[derive(Clone)]
pub struct Net {
    state: Arc<Mutex<State>>,
    wake: Arc<Notify>,
    trace: Arc<Trace>,
}

impl Net {
    pub(crate) fn new(seed: u64, trace: Arc<Trace>) -> Self {
        let state = State {
            chance: Chance::new(seed ^ 0x006e_6574),
            ports: BTreeMap::new(),
            servers: BTreeSet::new(),
            heap: BinaryHeap::new(),
            seq: 0,
            delay: (Duration::ZERO, Duration::from_millis(1)),
            unreliable: BTreeSet::new(),
            deaf: BTreeSet::new(),
            is_lossy: false,
            is_reordering: false,
            partition: None,
            cut: BTreeSet::new(),
            slow: BTreeMap::new(),
            loss_permille: 0,
            disconnected: BTreeSet::new(),
            duplicate_permille: 0,
            received: BTreeMap::new(),
            sent: 0,
            bytes: 0,
            by_kind: BTreeMap::new(),
            tamper: None,
        };
        Net { state: Arc::new(Mutex::new(state)), wake: Arc::new(Notify::new()), trace }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(|poisoned| poisoned.into_inner())
    }

    /// Carries parcels until the world ends.
    pub(crate) async fn run(self) {
        loop {
            let next = self.state().heap.peek().map(|Reverse(first)| first.at);
            match next {
                None => self.wake.notified().await,
                // Woken early when something earlier has come.
                Some(at) => drop(timeout_at(at, self.wake.notified()).await),
            }
            while let Some((port, parcel)) = self.next_due() {
                if let Err(error) = port.deliver(parcel.from, &parcel.body) {
                    panic!("{} → {} {}: {error}", parcel.from, parcel.to, parcel.kind);
                }
            }
        }
    }

    fn next_due(&self) -> Option<(Arc<dyn Port>, Parcel)> {
        let mut state = self.state();
        let now = Instant::now();
        while state.heap.peek().is_some_and(|Reverse(first)| first.at <= now) {
            let Reverse(UnderWay { parcel, .. }) = state.heap.pop()?;
            if let Some(port) = state.ports.get(&parcel.to).cloned() {
                let server = |name: Name| state.servers.contains(&name.node.home());
                if parcel.class == Class::Request && server(parcel.from) && server(parcel.to) {
                    *state.received.entry(parcel.to.node.home()).or_default() += 1;
                }
                if parcel.class == Class::Answer {
                    state.bytes += parcel.body.len() as u64;
                }
                return Some((port, parcel));
            }
        }
        None
    }

    pub(crate) fn plug_in(&self, server: Option<NodeId>, ports: BTreeMap<Name, Arc<dyn Port>>) {
        let mut state = self.state();
        state.servers.extend(server);
        state.ports.extend(ports);
    }

    pub(crate) fn unplug(&self, node: NodeId) {
        self.state().ports.retain(|name, _| name.node.home() != node);
    }

    /// The labs' unreliable servers: requests to them and their answers are lost now and then.
    pub fn set_unreliable(&self, nodes: impl IntoIterator<Item = NodeId>) {
        self.state().unreliable = nodes.into_iter().collect();
    }

    /// The labs' deaf servers: nobody can open an exchange with them.
    pub fn set_deaf(&self, nodes: impl IntoIterator<Item = NodeId>) {
        self.state().deaf = nodes.into_iter().collect();
    }

    /// The unreliable network of the Raft labs: a request takes 0 to 26 ms longer, one in ten
    /// requests is lost, and one in ten answers.
    pub fn set_lossy(&self, is_lossy: bool) {
        self.state().is_lossy = is_lossy;
    }

    /// Whether it is that network.
    pub fn is_lossy(&self) -> bool {
        self.state().is_lossy
    }

    /// Long reordering: two of three answers are held back by 200 to 2199 ms.
    pub fn set_reordering(&self, is_reordering: bool) {
        self.state().is_reordering = is_reordering;
    }

    /// Nothing passes between a server and the others. Clients reach it.
    pub fn disconnect(&self, node: NodeId) {
        self.trace.note(format_args!("disconnect {node}"));
        self.state().disconnected.insert(node);
    }

    /// Ends what `disconnect` has begun.
    pub fn connect(&self, node: NodeId) {
        self.trace.note(format_args!("connect {node}"));
        self.state().disconnected.remove(&node);
    }

    /// Only servers in one set hear each other. What is under way arrives. Clients reach everybody.
    pub fn partition(&self, partition: Partition) {
        self.trace.note(format_args!("partition {partition:?}"));
        self.state().partition = Some(partition);
    }

    /// Everybody hears everybody.
    pub fn heal(&self) {
        self.trace.note(format_args!("heal"));
        let mut state = self.state();
        state.partition = None;
        state.cut.clear();
        state.disconnected.clear();
    }

    /// Nothing passes from one node to the other; the way back is not touched.
    pub fn cut(&self, from: NodeId, to: NodeId) {
        self.state().cut.insert((from, to));
    }

    /// Nothing passes from the first to the second of each of these pairs; any other cut ends.
    pub fn set_cuts(&self, cuts: BTreeSet<(NodeId, NodeId)>) {
        self.state().cut = cuts;
    }

    /// From the first to the second of each pair a parcel takes so much longer; any other link is
    /// as quick as usual.
    pub fn set_slow(&self, slow: BTreeMap<(NodeId, NodeId), Duration>) {
        self.state().slow = slow;
    }

    /// How many parcels of a thousand are lost, whoever sends them.
    pub fn set_loss(&self, permille: u64) {
        self.state().loss_permille = permille;
    }

    /// How long a parcel takes.
    pub fn set_delay(&self, at_least: Duration, at_most: Duration) {
        self.state().delay = (at_least, at_most);
    }

    /// How many parcels of a thousand arrive twice.
    pub fn set_duplicates(&self, permille: u64) {
        self.state().duplicate_permille = permille;
    }

    /// Shows every parcel to this before it is sent, to be looked at or changed. What it makes of one
    /// must be a message still: bytes that are none never pass a real link's checksums.
    pub fn set_tamper(&self, tamper: impl FnMut(&mut Parcel) + Send + 'static) {
        self.state().tamper = Some(Box::new(tamper));
    }

    /// Requests between servers that have come over the network so far, in all.
    pub fn received(&self) -> u64 {
        self.state().received.values().sum()
    }

    /// Requests of other servers that have come to this one so far.
    pub fn received_by(&self, node: NodeId) -> u64 {
        self.state().received.get(&node).copied().unwrap_or_default()
    }

    /// Bytes of all requests that were sent so far and of all answers that have arrived.
    pub fn bytes(&self) -> u64 {
        self.state().bytes
    }

    /// Parcels sent so far, whatever became of them.
    pub fn sent(&self) -> u64 {
        self.state().sent
    }

    /// Parcels sent so far, by kind.
    pub fn sent_by_kind(&self) -> BTreeMap<&'static str, u64> {
        self.state().by_kind.clone()
    }
}

impl State {
    fn lost(&mut self, parcel: &Parcel) -> bool {
        let (from, to) = (parcel.from.node.home(), parcel.to.node.home());
        let between_servers = self.servers.contains(&from) && self.servers.contains(&to);
        if self.cut.contains(&(from, to)) {
            return true;
        }
        let is_away = |node| self.disconnected.contains(node);
        if between_servers && (is_away(&from) || is_away(&to)) {
            return true;
        }
        if let (true, Some(sets)) = (between_servers, &self.partition)
            && !sets.iter().any(|set| set.contains(&from) && set.contains(&to))
        {
            return true;
        }
        if self.is_lossy && self.chance.permille(LOSS) {
            return true;
        }
        if self.loss_permille > 0 && self.chance.permille(self.loss_permille) {
            return true;
        }
        match parcel.class {
            Class::Request => {
                self.deaf.contains(&to)
                    || (self.unreliable.contains(&to) && self.chance.permille(REQUEST_LOSS))
            }
            Class::Answer => self.unreliable.contains(&from) && self.chance.permille(ANSWER_LOSS),
        }
    }
}

impl State {
    /// How long a parcel takes.
    fn delay(&mut self, parcel: &Parcel) -> Duration {
        let (at_least, at_most) = self.delay;
        let mut delay = self.chance.within(at_least, at_most);
        let class = parcel.class;
        if let Some(longer) = self.slow.get(&(parcel.from.node.home(), parcel.to.node.home())) {
            delay += *longer;
        }
        if self.is_lossy && class == Class::Request {
            delay += self.chance.within(Duration::ZERO, REQUEST_DELAY_MAX);
        }
        if self.is_reordering && class == Class::Answer && self.chance.permille(HELD) {
            let bound = self.chance.below(HELD_BOUND_MAX_MS) + 1;
            delay += HELD_AT_LEAST + Duration::from_millis(self.chance.below(bound));
        }
        delay
    }
}

impl Transport for Net {
    fn send(&self, mut parcel: Parcel) {
        let mut state = self.state();
        state.sent += 1;
        if let Some(tamper) = &mut state.tamper {
            tamper(&mut parcel);
        }
        *state.by_kind.entry(parcel.kind).or_default() += 1;
        if parcel.class == Class::Request {
            state.bytes += parcel.body.len() as u64;
        }
        if state.lost(&parcel) {
            return;
        }
        let duplicates = state.duplicate_permille;
        let copies = if duplicates > 0 && state.chance.permille(duplicates) { 2 } else { 1 };
        let earliest = state.heap.peek().map(|Reverse(first)| first.at);
        let mut wake = earliest.is_none();
        for _ in 0..copies {
            let at = Instant::now() + state.delay(&parcel);
            state.seq += 1;
            let seq = state.seq;
            wake |= earliest.is_some_and(|earliest| at < earliest);
            state.heap.push(Reverse(UnderWay { at, seq, parcel: parcel.clone() }));
        }
        drop(state);
        if wake {
            self.wake.notify_one();
        }
    }
}
