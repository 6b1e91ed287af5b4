//! The supervised context: an actor that survives its own panics.

use std::{
    any::Any,
    cell::Cell,
    collections::{BTreeMap, VecDeque},
    future::Future,
    panic::{AssertUnwindSafe, catch_unwind, resume_unwind},
    pin::Pin,
    rc::Rc,
    sync::Arc,
    task::{Context as Cx, Poll},
    time::Duration,
};

use actix::{Actor, Addr, AsyncContext, Context, Handler, Supervised};
use quorate_protocol::Name;
use rand::{Rng, RngCore, SeedableRng};
use rand_chacha::ChaCha8Rng;
use tokio::{
    task::AbortHandle,
    time::{Instant, Sleep, sleep_until},
};

use crate::{
    mailbox::{Letter, Mailbox, Message},
    registry::{CrashMode, Node},
    stats::Stats,
};

/// An actor's behaviour. It is made anew, from durable state, after every panic.
pub trait Role: Sized + Unpin + 'static {
    /// What it can be told.
    type Message: Message;
    /// What it can ask to be woken for.
    type Timer: Ord + Clone + Unpin + 'static;

    /// The role has been made: first sends, first timers.
    fn started(&mut self, _stage: &mut Stage<Self>) {}
    /// One message has come.
    fn receive(&mut self, from: Name, message: Self::Message, stage: &mut Stage<Self>);
    /// A timer that was set has run out.
    fn on_timer(&mut self, _timer: Self::Timer, _stage: &mut Stage<Self>) {}
    /// Every message has been handled that was waiting when [`Stage::request_flush`] was called.
    fn flush(&mut self, _stage: &mut Stage<Self>) {}
}

/// What is thrown by an injected crash.
#[derive(Clone, Copy, Debug)]
pub struct InjectedCrash;

#[derive(Clone, Copy)]
pub(crate) struct Crash(pub(crate) CrashMode);

impl actix::Message for Crash {
    type Result = ();
}

enum Signal {
    Flush,
    Tick,
}

impl actix::Message for Signal {
    type Result = ();
}

/// Seeded chance: the only source of randomness of an actor.
pub struct Chance(ChaCha8Rng);

impl Chance {
    /// A stream of its own for each seed.
    pub fn new(seed: u64) -> Self {
        Chance(ChaCha8Rng::seed_from_u64(seed))
    }

    /// Any number.
    pub fn number(&mut self) -> u64 {
        self.0.next_u64()
    }

    /// A number below `bound`, which is above 0.
    pub fn below(&mut self, bound: u64) -> u64 {
        self.0.random_range(0..bound)
    }

    /// True with this probability, in parts of a thousand.
    pub fn permille(&mut self, permille: u64) -> bool {
        self.below(1000) < permille
    }

    /// A time between the two, both included, in whole microseconds.
    pub fn within(&mut self, at_least: Duration, at_most: Duration) -> Duration {
        let (low, high) = (at_least.as_micros() as u64, at_most.as_micros() as u64);
        Duration::from_micros(self.0.random_range(low..=high.max(low)))
    }
}

/// What a role sees of the stage it stands on.
pub struct Stage<R: Role> {
    node: Node,
    mailbox: Mailbox<R::Message>,
    addr: Addr<Performer<R>>,
    chance: Chance,
    timers: BTreeMap<R::Timer, Instant>,
    alarm: Rc<Cell<Option<Instant>>>,
    flush_requested: bool,
    doomed: bool,
}

impl<R: Role> Stage<R> {
    /// The actor's name.
    pub fn name(&self) -> Name {
        self.mailbox.name()
    }

    /// The node it lives on.
    pub fn node(&self) -> &Node {
        &self.node
    }

    /// Shows something to the observer, as a core is shown after each of its steps.
    pub fn observe(&self, what: &dyn Any) {
        if let Some(observer) = self.node.observer() {
            observer.on_step(self.name(), what);
        }
    }

    /// Its own mailbox.
    pub fn mailbox(&self) -> &Mailbox<R::Message> {
        &self.mailbox
    }

    /// Its chance.
    pub fn chance(&mut self) -> &mut Chance {
        &mut self.chance
    }

    /// Time now; virtual in the simulator.
    pub fn now(&self) -> Instant {
        Instant::now()
    }

    /// Wakes the role for `timer` after `after`. A timer that is set already is moved.
    pub fn set_timer(&mut self, timer: R::Timer, after: Duration) {
        self.timers.insert(timer, Instant::now() + after);
        self.alarm.set(self.timers.values().min().copied());
    }

    /// Wakes the role for `timer` at a moment drawn between the two.
    pub fn set_timer_within(&mut self, timer: R::Timer, at_least: Duration, at_most: Duration) {
        let after = self.chance.within(at_least, at_most);
        self.set_timer(timer, after);
    }

    /// Does not wake the role for `timer` any more.
    pub fn cancel_timer(&mut self, timer: &R::Timer) {
        self.timers.remove(timer);
        self.alarm.set(self.timers.values().min().copied());
    }

    /// Whether `timer` is set.
    pub fn timer_is_set(&self, timer: &R::Timer) -> bool {
        self.timers.contains_key(timer)
    }

    /// Has [`Role::flush`] called once everything that waits in the mailbox now is handled.
    pub fn request_flush(&mut self) {
        if !self.flush_requested {
            self.flush_requested = true;
            #[expect(clippy::disallowed_methods, reason = "the stage's own signal")]
            self.addr.do_send(Signal::Flush);
        }
    }

    /// Ends the node: see [`Node::fatal`].
    pub fn fatal(&self, reason: String) {
        self.node.fatal(self.name(), reason);
    }

    /// Starts the role anew, because what it remembers may be ahead of what is durable. Unwinds.
    pub fn restart(&self, reason: &str) -> ! {
        tracing::info!(actor = %self.name(), reason, "the actor starts anew");
        resume_unwind(Box::new(InjectedCrash));
    }

    /// Throws if a crash was injected that strikes before anything of this step is done. The
    /// driver calls it between a step and its effects.
    pub fn last_moment(&self) {
        if self.doomed {
            resume_unwind(Box::new(InjectedCrash));
        }
    }
}

type Make<R> = Box<dyn FnMut(&mut Stage<R>) -> R>;

/// The actix actor around a role.
struct Performer<R: Role> {
    role: Option<R>,
    make: Make<R>,
    stage: Stage<R>,
    crash: Option<CrashMode>,
    gone: Rc<Cell<bool>>,
}

impl<R: Role> Actor for Performer<R> {
    type Context = Context<Self>;

    fn started(&mut self, _: &mut Self::Context) {
        let mut role = (self.make)(&mut self.stage);
        role.started(&mut self.stage);
        self.role = Some(role);
    }
}

impl<R: Role> Supervised for Performer<R> {
    fn restarting(&mut self, _: &mut Self::Context) {
        self.role = None;
        self.crash = None;
        self.stage.timers.clear();
        self.stage.alarm.set(None);
        self.stage.flush_requested = false;
        self.stage.doomed = false;
    }
}

impl<R: Role> Handler<Letter<R::Message>> for Performer<R> {
    type Result = ();

    fn handle(&mut self, letter: Letter<R::Message>, _: &mut Self::Context) {
        if self.gone.get() {
            return;
        }
        let Letter { from, enqueued_at, message } = letter;
        let stats = self.stage.mailbox.stats.clone();
        let kind = message.kind();
        let began_at = stats.begin(kind);
        match self.crash.take() {
            Some(CrashMode::AfterNext) => self.stage.doomed = true,
            Some(_) => resume_unwind(Box::new(InjectedCrash)),
            None => {}
        }
        if let Some(observer) = self.stage.node.observer() {
            observer.on_handle(stats.name(), from, &message);
        }
        if let Some(role) = &mut self.role {
            role.receive(from, message, &mut self.stage);
        }
        self.stage.last_moment();
        stats.end(kind, from, enqueued_at, began_at);
    }
}

impl<R: Role> Handler<Signal> for Performer<R> {
    type Result = ();

    fn handle(&mut self, signal: Signal, _: &mut Self::Context) {
        if self.gone.get() {
            return;
        }
        let Some(role) = &mut self.role else { return };
        match signal {
            Signal::Flush => {
                self.stage.flush_requested = false;
                role.flush(&mut self.stage);
            }
            Signal::Tick => {
                let now = Instant::now();
                let due = self.stage.timers.iter().filter(|(_, at)| **at <= now);
                let mut due: Vec<(Instant, R::Timer)> =
                    due.map(|(timer, at)| (*at, timer.clone())).collect();
                due.sort();
                for (at, timer) in due {
                    // An earlier one may have moved or cancelled this one.
                    if self.stage.timers.get(&timer) == Some(&at) {
                        self.stage.timers.remove(&timer);
                        role.on_timer(timer, &mut self.stage);
                    }
                }
                self.stage.alarm.set(self.stage.timers.values().min().copied());
            }
        }
    }
}

impl<R: Role> Handler<Crash> for Performer<R> {
    type Result = ();

    fn handle(&mut self, Crash(mode): Crash, _: &mut Self::Context) {
        if mode == CrashMode::Now && !self.gone.get() {
            resume_unwind(Box::new(InjectedCrash));
        }
        self.crash = Some(mode);
    }
}

/// An actor's place, with its mailbox, before the actor itself is there: mailboxes can be handed
/// round before anybody speaks.
pub struct Seat<R: Role> {
    ctx: Context<Performer<R>>,
    node: Node,
    mailbox: Mailbox<R::Message>,
}

/// Makes a place for an actor on the current thread.
pub fn seat<R: Role>(node: &Node, name: Name) -> Seat<R> {
    let mut ctx = Context::<Performer<R>>::new();
    // A bounded actix mailbox breaks the order of its senders, and bounds nothing, as measured.
    ctx.set_mailbox_capacity(0);
    let stats = Arc::new(Stats::new(name, node.base(), R::Message::KINDS));
    node.register(stats.clone(), ctx.address().recipient());
    let mailbox = Mailbox { recipient: ctx.address().recipient(), stats };
    Seat { ctx, node: node.clone(), mailbox }
}

impl<R: Role> Seat<R> {
    /// Where messages for the actor go.
    pub fn mailbox(&self) -> Mailbox<R::Message> {
        self.mailbox.clone()
    }

    /// Lets the actor begin. `make` is called now and after every panic; it must build the role
    /// from what is durable. The handle ends the actor as a kill would: no hook of it runs.
    pub fn take(self, make: impl FnMut(&mut Stage<R>) -> R + 'static) -> AbortHandle {
        let Seat { ctx, node, mailbox } = self;
        let alarm = Rc::new(Cell::new(None));
        let gone = Rc::new(Cell::new(false));
        let stats = mailbox.stats.clone();
        let stage = Stage {
            chance: Chance::new(seed_of(&node, stats.name())),
            addr: ctx.address(),
            timers: BTreeMap::new(),
            alarm: alarm.clone(),
            flush_requested: false,
            doomed: false,
            node: node.clone(),
            mailbox,
        };
        let addr = ctx.address();
        let make = Box::new(make);
        let actor = Performer { role: None, make, stage, crash: None, gone: gone.clone() };
        let supervised = Supervisor {
            context: ctx.into_future(actor),
            addr,
            node,
            stats,
            alarm,
            armed: None,
            sleep: Box::pin(sleep_until(Instant::now())),
            panics: VecDeque::new(),
            gone,
        };
        actix_rt::spawn(supervised).abort_handle()
    }
}

fn seed_of(node: &Node, name: Name) -> u64 {
    // FNV-1a: any fixed mixing will do, as long as it is the same in every process.
    let bytes = name.to_string();
    let start = 0xcbf2_9ce4_8422_2325 ^ node.seed();
    bytes.bytes().fold(start, |h, b| (h ^ u64::from(b)).wrapping_mul(0x0100_0000_01b3))
}

/// Drives an actor's context and catches what it throws.
struct Supervisor<R: Role> {
    context: actix::dev::ContextFut<Performer<R>, Context<Performer<R>>>,
    addr: Addr<Performer<R>>,
    node: Node,
    stats: Arc<Stats>,
    /// The earliest deadline that the role has asked for.
    alarm: Rc<Cell<Option<Instant>>>,
    /// What `sleep` is set to. It may be earlier than `alarm`: timers that are moved back again
    /// and again cost nothing.
    armed: Option<Instant>,
    sleep: Pin<Box<Sleep>>,
    /// When the last real panics were.
    panics: VecDeque<Instant>,
    gone: Rc<Cell<bool>>,
}

impl<R: Role> Drop for Supervisor<R> {
    fn drop(&mut self) {
        // Dropping the context polls the actor once more; it must not speak any more.
        self.gone.set(true);
    }
}

impl<R: Role> Supervisor<R> {
    fn caught(&mut self, thrown: Box<dyn Any + Send>) -> Poll<()> {
        let injected = thrown.is::<InjectedCrash>();
        let text = thrown.downcast_ref::<String>().cloned();
        let text = text.or_else(|| thrown.downcast_ref::<&str>().map(|text| text.to_string()));
        let text = text.unwrap_or_else(|| "injected crash".into());
        self.stats.restarted(text.clone(), injected);
        let name = self.stats.name();
        if let Some(observer) = self.node.observer() {
            observer.on_restart(name, &text, injected);
        }
        if !injected {
            tracing::error!(actor = %name, panic = %text, "an actor panicked; it is restarted");
            let limits = self.node.limits();
            let now = Instant::now();
            self.panics.push_back(now);
            while self.panics.front().is_some_and(|at| now - *at > limits.restarts_within) {
                self.panics.pop_front();
            }
            if self.panics.len() > limits.restarts_max {
                self.gone.set(true);
                let reason = format!(
                    "panicked {} times within {:?}, last with `{text}`; the node stops. Look at \
                     the log for the first panic; the data directory is safe to start from again",
                    self.panics.len(),
                    limits.restarts_within,
                );
                self.node.fatal(name, reason);
                return Poll::Ready(());
            }
        } else {
            tracing::info!(actor = %name, "injected crash; the actor is restarted");
        }
        Poll::Pending
    }
}

impl<R: Role> Future for Supervisor<R> {
    type Output = ();

    fn poll(self: Pin<&mut Self>, cx: &mut Cx<'_>) -> Poll<()> {
        let this = self.get_mut();
        if this.node.gate().holds(cx) {
            return Poll::Pending;
        }
        loop {
            let polled = catch_unwind(AssertUnwindSafe(|| Pin::new(&mut this.context).poll(cx)));
            match polled {
                Ok(Poll::Pending) => {}
                Ok(Poll::Ready(())) => return Poll::Ready(()),
                Err(thrown) => {
                    if this.caught(thrown).is_ready() || !this.context.restart() {
                        return Poll::Ready(());
                    }
                    continue;
                }
            }
            if let Some(at) = this.alarm.get()
                && this.armed.is_none_or(|armed| at < armed)
            {
                this.armed = Some(at);
                this.sleep.as_mut().reset(at);
            }
            if this.armed.is_none() || this.sleep.as_mut().poll(cx).is_pending() {
                return Poll::Pending;
            }
            this.armed = None;
            if this.alarm.get().is_some() {
                #[expect(clippy::disallowed_methods, reason = "the stage's own signal")]
                this.addr.do_send(Signal::Tick);
            }
        }
    }
}
