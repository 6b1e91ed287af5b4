//! The acceptor's mailbox.

use std::time::Duration;

use bytes::Bytes;
use quorate_protocol::{Core as _, Name};
use quorate_stage::{Driver, Effects, Ledger, Outlet, PeerOutlet, Role, Stage};

use crate::{
    core::{Acceptor, Outbound, Timer},
    messages::{Answer, Durability, Message, Record, Report},
};

/// How long the journal may take to answer before it is asked again, at first and at most: the
/// question is lost if the journal's actor crashes over it.
const OPEN_AGAIN: (Duration, Duration) = (Duration::from_secs(1), Duration::from_secs(60));

/// What the acceptor asks of the journal.
pub trait JournalLink: Unpin + 'static {
    /// Read everything back; comes as [`Durability::Recovered`].
    fn open(&mut self, me: Name);
    /// Make records durable; comes back as [`Durability::Durable`] with this number. `standing`
    /// begins a new segment, should one be needed; each record comes with its highest slot.
    fn append(&mut self, me: Name, number: u64, records: Vec<(Bytes, u64)>, standing: Bytes);
    /// Records about slots below this one are not needed any more.
    fn trim(&mut self, me: Name, below: u64);
}

/// Whom the acceptor speaks to.
pub struct Wiring<J> {
    /// The journal of its node.
    pub journal: J,
    /// The proposers of its group.
    pub proposers: PeerOutlet<Answer>,
    /// The learner of its node.
    pub learner: Outlet<Report>,
}

/// The acceptor's actor: recovers from the journal, then serves.
pub struct AcceptorActor<J> {
    state: State,
    hands: Hands<J>,
    open_again: Duration,
}

enum State {
    /// The journal is being read; what comes meanwhile waits.
    Recovering(Vec<(Name, Message)>),
    Serving(Box<Driver<Acceptor>>),
}

struct Hands<J> {
    me: Name,
    wiring: Wiring<J>,
    number: u64,
}

fn encode(record: &Record) -> Bytes {
    rmp_serde::to_vec(record).expect("records are plain data, which always encodes").into()
}

impl<J: JournalLink> Ledger<Acceptor> for Hands<J> {
    fn append(&mut self, core: &Acceptor, records: Vec<Record>) -> u64 {
        self.number += 1;
        let records = records.iter().map(|record| (encode(record), record.mark().0)).collect();
        let standing = encode(&core.standing());
        self.wiring.journal.append(self.me, self.number, records, standing);
        self.number
    }
}

impl<J> Effects<Acceptor> for Hands<J> {
    fn perform(&mut self, me: Name, outbound: Outbound) {
        match outbound {
            Outbound::Answer(node, answer) => self.wiring.proposers.send(me, node, answer),
            Outbound::Report(report) => self.wiring.learner.send(me, report),
            Outbound::Bytes(reply, bytes) => reply.send(me, bytes),
        }
    }
}

impl<J: JournalLink> AcceptorActor<J> {
    /// An acceptor that has yet to read its journal.
    pub fn new(me: Name, wiring: Wiring<J>) -> Self {
        let hands = Hands { me, wiring, number: 0 };
        AcceptorActor { state: State::Recovering(vec![]), hands, open_again: OPEN_AGAIN.0 }
    }

    fn on_journal(&mut self, event: Durability, stage: &mut Stage<Self>) {
        match (event, &mut self.state) {
            (Durability::Lost, _) => stage.restart("the journal started anew"),
            (Durability::Recovered(records), State::Recovering(waiting)) => {
                let waiting = std::mem::take(waiting);
                let mut decoded = Vec::with_capacity(records.len());
                for (i, record) in records.iter().enumerate() {
                    match rmp_serde::from_slice(record) {
                        Ok(record) => decoded.push(record),
                        Err(error) => {
                            // The checksum was right: this was written by other code.
                            return stage.fatal(format!(
                                "journal record {i} of {} cannot be read ({error}); was it \
                                 written by another version of quorate?",
                                self.hands.me
                            ));
                        }
                    }
                }
                let core = Acceptor::recover(decoded);
                core.invariants();
                stage.cancel_timer(&Timer::Open);
                self.state = State::Serving(Box::new(Driver::new(core)));
                for (from, message) in waiting {
                    self.receive(from, message, stage);
                }
            }
            (Durability::Durable(number), State::Serving(driver)) => {
                driver.on_durable(self.hands.me, number, &mut self.hands);
            }
            // Of a former life.
            (Durability::Recovered(_), State::Serving(_))
            | (Durability::Durable(_), State::Recovering(_)) => {}
        }
    }
}

impl<J: JournalLink> Role for AcceptorActor<J> {
    type Message = Message;
    type Timer = Timer;

    fn started(&mut self, stage: &mut Stage<Self>) {
        self.hands.wiring.journal.open(stage.name());
        stage.set_timer(Timer::Open, self.open_again);
    }

    fn on_timer(&mut self, Timer::Open: Timer, stage: &mut Stage<Self>) {
        if let State::Recovering(_) = &self.state {
            self.open_again = (self.open_again * 2).min(OPEN_AGAIN.1);
            self.started(stage);
        }
    }

    fn receive(&mut self, from: Name, message: Message, stage: &mut Stage<Self>) {
        if let Message::Journal(event) = message {
            return self.on_journal(event, stage);
        }
        match &mut self.state {
            State::Recovering(waiting) => waiting.push((from, message)),
            State::Serving(driver) => {
                let forget = matches!(message, Message::Forget { .. });
                driver.step(stage, &mut self.hands, |core, out| {
                    core.on_message(from, message, out);
                });
                if forget {
                    let below = driver.core().forgotten().0;
                    self.hands.wiring.journal.trim(self.hands.me, below);
                }
            }
        }
    }
}
