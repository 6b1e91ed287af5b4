//! A small world around the cores of an engine, every run of which is explored.
//!
//! The network keeps whatever was ever sent, and delivers any of it at any moment, again and again
//! or never: loss, delay, reordering and duplication in one. Timers that are set run out in any
//! order. A disk syncs at a moment of its own; a crash before it keeps some of the records that
//! were on their way. Timers and crashes are bounded by a budget, ballots or terms by the engine,
//! so that the world is finite.

use std::{
    collections::BTreeSet,
    fmt::{self, Debug, Write as _},
    hash::{DefaultHasher, Hash, Hasher},
    ops::Deref,
    panic::{AssertUnwindSafe, catch_unwind},
    sync::Arc,
};

use quorate_protocol::NodeId;
use stateright::{Model, Path, Property};

/// Plain data that can be told apart by how it is shown.
pub trait Data: Clone + Debug + Send + Sync + 'static {}
impl<T: Clone + Debug + Send + Sync + 'static> Data for T {}

/// What a step does outside of its node.
pub struct Effects<E: Engine> {
    /// Messages to other nodes.
    pub sends: Vec<(NodeId, E::Wire)>,
    /// What is worth knowing to whoever judges.
    pub news: Vec<E::News>,
}

impl<E: Engine> Default for Effects<E> {
    fn default() -> Self {
        Effects { sends: vec![], news: vec![] }
    }
}

/// An engine, as a world sees it: how its cores are wired on a node, and what must hold.
pub trait Engine: Sized + Send + Sync + 'static {
    /// The cores of a node, in their seats.
    type Node: Data;
    /// What crosses the network.
    type Wire: Data + fmt::Display;
    /// A timer of one of the node's cores.
    type Timer: Data + PartialEq;
    /// What clients ask, once each.
    type Input: Data;
    /// Which part of a node crashes.
    type Part: Data + PartialEq;
    /// What a step tells the judge.
    type News;
    /// What the judge remembers of a run.
    type Judge: Data + Default;

    /// A node that starts for the first time.
    fn boot(&self, node: NodeId, fx: &mut Effects<Self>) -> Self::Node;
    /// A message of another node arrives.
    fn deliver(
        &self,
        node: &mut Self::Node,
        from: NodeId,
        wire: &Self::Wire,
        fx: &mut Effects<Self>,
    );
    /// A client asks.
    fn ask(&self, node: &mut Self::Node, input: &Self::Input, fx: &mut Effects<Self>);
    /// The timers that may run out.
    fn timers(&self, node: &Self::Node) -> Vec<Self::Timer>;
    /// One does.
    fn fire(&self, node: &mut Self::Node, timer: &Self::Timer, fx: &mut Effects<Self>);
    /// How many records are on their way to the disk.
    fn unsynced(&self, node: &Self::Node) -> usize;
    /// They arrive.
    fn sync(&self, node: &mut Self::Node, fx: &mut Effects<Self>);
    /// What may crash, and how many of the unsynced records may survive that.
    fn crashes(&self, node: &Self::Node) -> Vec<(Self::Part, usize)>;
    /// It does, and starts again.
    fn crash(
        &self,
        node: &mut Self::Node,
        part: &Self::Part,
        survive: usize,
        fx: &mut Effects<Self>,
    );
    /// The step is over: what is kept as [`Known`] in the node has changed as much as it will.
    fn settle(&self, node: &mut Self::Node);
    /// Whether a run may go on through this.
    fn within(&self, node: &Self::Node) -> bool;

    /// Takes a step's news.
    ///
    /// # Errors
    /// What must never be.
    fn learn(&self, judge: &mut Self::Judge, node: NodeId, news: Self::News) -> Result<(), String>;
    /// A client is about to ask.
    fn asked(&self, judge: &mut Self::Judge, input: &Self::Input);
    /// Holds a node against what is known of the run.
    ///
    /// # Errors
    /// What must never be.
    fn judge(&self, judge: &Self::Judge, node: NodeId, now: &Self::Node) -> Result<(), String>;
    /// What some run is to reach: a world in which nothing happens proves nothing.
    fn goals(&self) -> Vec<Property<World<Self>>>;
}

/// Something that states share until one of them changes it, and the hash of how it is shown, by
/// which states are told apart.
pub struct Known<T> {
    /// 0 while it is being changed.
    print: u64,
    what: Arc<T>,
}

impl<T: Debug> Known<T> {
    /// Something that will not change for a while.
    pub fn new(what: T) -> Self {
        let mut known = Known { print: 0, what: Arc::new(what) };
        known.settle();
        known
    }

    /// It has changed as much as it will in this step.
    pub fn settle(&mut self) {
        if self.print == 0 {
            let mut shown = String::with_capacity(4096);
            write!(shown, "{:?}", self.what).expect("a String takes everything");
            let mut hasher = DefaultHasher::new();
            hasher.write(shown.as_bytes());
            self.print = hasher.finish() | 1;
        }
    }

    fn print(&self) -> u64 {
        assert!(self.print != 0, "it was changed and has not settled");
        self.print
    }
}

impl<T: Clone> Known<T> {
    /// It, to be changed.
    pub fn change(&mut self) -> &mut T {
        self.print = 0;
        Arc::make_mut(&mut self.what)
    }
}

impl<T> Clone for Known<T> {
    fn clone(&self) -> Self {
        Known { print: self.print, what: self.what.clone() }
    }
}

impl<T> Deref for Known<T> {
    type Target = T;

    fn deref(&self) -> &T {
        &self.what
    }
}

impl<T: Debug> PartialEq for Known<T> {
    fn eq(&self, other: &Self) -> bool {
        self.print() == other.print()
    }
}

/// In short by its hash, at length (`{:#?}`) by itself.
impl<T: Debug> Debug for Known<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match f.alternate() {
            true => self.what.fmt(f),
            false => write!(f, "{:x}", self.print()),
        }
    }
}

/// A message that was sent.
#[derive(Debug)]
pub struct Sent<W> {
    from: NodeId,
    to: NodeId,
    wire: W,
}

/// A world at one moment.
pub struct State<E: Engine> {
    pub nodes: Vec<Known<E::Node>>,
    /// Whatever was ever sent, by its hash, and how often it has arrived if that is counted.
    network: Vec<(Known<Sent<E::Wire>>, u8)>,
    /// Which inputs have been asked.
    asked: u32,
    timers_left: u32,
    crashes_left: u32,
    pub judge: Known<E::Judge>,
    /// What must never be, and is. Nothing follows.
    pub broken: Option<Arc<str>>,
}

impl<E: Engine> State<E> {
    /// Whether the nemesis has crashed something.
    pub fn has_crashed(&self, world: &World<E>) -> bool {
        self.crashes_left < world.crashes
    }

    fn send(&mut self, sent: Sent<E::Wire>) {
        let sent = Known::new(sent);
        let place = self.network.binary_search_by_key(&sent.print(), |(known, _)| known.print());
        if let Err(place) = place {
            self.network.insert(place, (sent, 0));
        }
    }
}

impl<E: Engine> Clone for State<E> {
    fn clone(&self) -> Self {
        State {
            nodes: self.nodes.clone(),
            network: self.network.clone(),
            judge: self.judge.clone(),
            broken: self.broken.clone(),
            ..*self
        }
    }
}

impl<E: Engine> PartialEq for State<E> {
    fn eq(&self, other: &Self) -> bool {
        self.nodes == other.nodes
            && self.network == other.network
            && self.judge == other.judge
            && (self.asked, self.timers_left, self.crashes_left)
                == (other.asked, other.timers_left, other.crashes_left)
    }
}

impl<E: Engine> Hash for State<E> {
    fn hash<H: Hasher>(&self, hasher: &mut H) {
        self.nodes.iter().for_each(|node| hasher.write_u64(node.print()));
        for (sent, arrived) in &self.network {
            hasher.write_u64(sent.print());
            hasher.write_u8(*arrived);
        }
        hasher.write_u64(self.judge.print());
        (self.asked, self.timers_left, self.crashes_left).hash(hasher);
    }
}

impl<E: Engine> Debug for State<E> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut shown = f.debug_struct("State");
        shown.field("nodes", &self.nodes).field("network", &self.network);
        shown.field("judge", &self.judge).field("broken", &self.broken).finish()
    }
}

/// What happens next.
#[derive(Clone, Debug, PartialEq)]
pub enum Step<T, P> {
    /// This message of the network, by its place, arrives.
    Deliver(usize),
    /// A client asks, by the place of the input.
    Ask(usize),
    /// A timer of a node, by the place of the node, runs out.
    Fire(usize, T),
    /// What a node has written becomes durable.
    Sync(usize),
    /// A part of a node crashes; so many of the unsynced records survive.
    Crash(usize, P, usize),
}

/// The bounds of a world.
pub struct World<E: Engine> {
    pub engine: E,
    pub nodes: Vec<NodeId>,
    /// What clients ask, and where; each once, in any order, or never.
    pub inputs: Vec<(NodeId, E::Input)>,
    /// How many timers may run out in a run.
    pub timers: u32,
    /// How many crashes there may be in a run.
    pub crashes: u32,
    /// How often a message may arrive; `None` if that makes no difference to how many states there
    /// are, as with cores that know a copy when they see one.
    pub copies: Option<u8>,
    /// From whom, and to whom, nothing ever arrives.
    pub cut: BTreeSet<(NodeId, NodeId)>,
    /// Which nodes may crash.
    pub mortal: BTreeSet<NodeId>,
    /// Nodes whose syncs are events of their own, rather than part of the step that asks for them.
    pub slow_disks: BTreeSet<NodeId>,
}

impl<E: Engine> World<E> {
    /// Lets one node take a step, and carries out what follows.
    fn step(
        &self,
        state: &State<E>,
        place: usize,
        step: impl FnOnce(&mut E::Node, &mut Effects<E>),
    ) -> State<E> {
        let me = self.nodes[place];
        let mut next = state.clone();
        let mut node = state.nodes[place].clone();
        let mut fx = Effects::default();
        // A core whose invariant breaks panics. That ends the run, and is what we look for.
        let stepped = catch_unwind(AssertUnwindSafe(|| {
            let node = node.change();
            step(node, &mut fx);
            while !self.slow_disks.contains(&me) && self.engine.unsynced(node) > 0 {
                self.engine.sync(node, &mut fx);
            }
            self.engine.settle(node);
        }));
        if let Err(panic) = stepped {
            let text = panic.downcast_ref::<String>().cloned();
            let text = text.or(panic.downcast_ref::<&str>().map(|text| (*text).to_string()));
            next.broken = Some(text.unwrap_or_default().into());
            return next;
        }
        let arrives = |to: NodeId| !self.cut.contains(&(me, to));
        for (to, wire) in fx.sends.into_iter().filter(|(to, _)| arrives(*to)) {
            next.send(Sent { from: me, to, wire });
        }
        let mut verdict = Ok(());
        for news in fx.news {
            let judge = next.judge.change();
            verdict = verdict.and_then(|()| self.engine.learn(judge, me, news));
        }
        next.judge.settle();
        node.settle();
        let verdict = verdict.and_then(|()| self.engine.judge(&next.judge, me, &node));
        next.broken = verdict.err().map(Into::into);
        next.nodes[place] = node;
        next
    }

    fn place(&self, node: NodeId) -> usize {
        self.nodes.iter().position(|n| *n == node).expect("messages go to nodes of the world")
    }
}

impl<E: Engine> Model for World<E> {
    type State = State<E>;
    type Action = Step<E::Timer, E::Part>;

    fn init_states(&self) -> Vec<State<E>> {
        let mut booted = vec![];
        let mut sent = vec![];
        for node in &self.nodes {
            let mut fx = Effects::default();
            let mut node_now = self.engine.boot(*node, &mut fx);
            self.engine.settle(&mut node_now);
            booted.push(Known::new(node_now));
            sent.extend(fx.sends.into_iter().map(|(to, wire)| Sent { from: *node, to, wire }));
        }
        let mut state = State {
            nodes: booted,
            network: vec![],
            asked: 0,
            timers_left: self.timers,
            crashes_left: self.crashes,
            judge: Known::new(E::Judge::default()),
            broken: None,
        };
        sent.into_iter().for_each(|sent| state.send(sent));
        vec![state]
    }

    fn actions(&self, state: &State<E>, actions: &mut Vec<Self::Action>) {
        if state.broken.is_some() {
            return;
        }
        let copies = self.copies.unwrap_or(u8::MAX);
        let arrives = |place: &usize| state.network[*place].1 < copies;
        actions.extend((0..state.network.len()).filter(arrives).map(Step::Deliver));
        let open = (0..self.inputs.len()).filter(|input| state.asked >> input & 1 == 0);
        actions.extend(open.map(Step::Ask));
        for (place, node) in state.nodes.iter().enumerate() {
            if state.timers_left > 0 {
                let timers = self.engine.timers(node).into_iter();
                actions.extend(timers.map(|timer| Step::Fire(place, timer)));
            }
            if self.engine.unsynced(node) > 0 {
                actions.push(Step::Sync(place));
            }
            if state.crashes_left > 0 && self.mortal.contains(&self.nodes[place]) {
                for (part, survive_max) in self.engine.crashes(node) {
                    let each =
                        (0..=survive_max).map(|survive| Step::Crash(place, part.clone(), survive));
                    actions.extend(each);
                }
            }
        }
    }

    fn next_state(&self, state: &State<E>, action: Self::Action) -> Option<State<E>> {
        let engine = &self.engine;
        let next = match action {
            Step::Deliver(message) => {
                let sent = &state.network[message].0;
                let mut next = self.step(state, self.place(sent.to), |node, fx| {
                    engine.deliver(node, sent.from, &sent.wire, fx);
                });
                // What makes no difference has not arrived, as far as anybody can tell.
                if self.copies.is_some() && next != *state {
                    let print = sent.print();
                    let place =
                        next.network.binary_search_by_key(&print, |(known, _)| known.print());
                    let place = place.expect("whatever was sent stays");
                    next.network[place].1 += 1;
                }
                next
            }
            Step::Ask(input) => {
                let (node, what) = &self.inputs[input];
                let mut before = state.clone();
                before.asked |= 1 << input;
                engine.asked(before.judge.change(), what);
                before.judge.settle();
                self.step(&before, self.place(*node), |node, fx| engine.ask(node, what, fx))
            }
            Step::Fire(place, timer) => {
                let mut next = self.step(state, place, |node, fx| engine.fire(node, &timer, fx));
                next.timers_left -= 1;
                next
            }
            Step::Sync(place) => self.step(state, place, |node, fx| engine.sync(node, fx)),
            Step::Crash(place, part, survive) => {
                let mut next =
                    self.step(state, place, |node, fx| engine.crash(node, &part, survive, fx));
                next.crashes_left -= 1;
                next
            }
        };
        (next != *state || next.broken.is_some()).then_some(next)
    }

    fn within_boundary(&self, state: &State<E>) -> bool {
        state.nodes.iter().all(|node| self.engine.within(node))
    }

    fn properties(&self) -> Vec<Property<Self>> {
        let sound = Property::always(NOTHING_BROKEN, |_, state: &State<E>| state.broken.is_none());
        [sound].into_iter().chain(self.engine.goals()).collect()
    }

    fn format_action(&self, action: &Self::Action) -> String {
        match action {
            Step::Deliver(message) => format!("deliver #{message}"),
            Step::Ask(input) => format!("ask {:?}", self.inputs[*input]),
            Step::Fire(place, timer) => format!("{} wakes for {timer:?}", self.nodes[*place]),
            Step::Sync(place) => format!("{} syncs", self.nodes[*place]),
            Step::Crash(place, part, survive) => {
                format!("{} crashes: {part:?}, {survive} records survive", self.nodes[*place])
            }
        }
    }
}

impl<E: Engine> World<E> {
    /// A run in words, a line for each step, and what is broken in the end.
    pub fn tell(&self, path: Path<State<E>, Step<E::Timer, E::Part>>) -> String {
        let mut text = String::new();
        for (state, step) in path.into_vec() {
            text += &match step {
                Some(Step::Deliver(message)) => {
                    let Sent { from, to, wire } = &*state.network[message].0;
                    format!("  {from} → {to}  {wire}\n")
                }
                Some(step) => format!("  {}\n", self.format_action(&step)),
                None => state.broken.map_or(String::new(), |broken| format!("  {broken}\n")),
            };
        }
        text
    }
}

/// The property that no run may break; `State::broken` says how it did.
pub const NOTHING_BROKEN: &str = "nothing is broken";
