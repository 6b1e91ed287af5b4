//! One connection: bytes in, operations out, outcomes in, answers out.
//!
//! The shell's loop, whenever something has happened:
//!
//! 1. Bytes were read, if [`Connection::wants_input`]: they are in [`Connection::buffer`].
//! 2. Outcomes have come: [`Connection::complete`] for each.
//! 3. [`Connection::advance`]; all it gives goes to the clerk, in that order.
//! 4. [`Connection::drain_output`] once what was drained before has been written, and again from 3
//!    when something was drained.
//! 5. When [`Connection::is_finished`], the socket is closed.

use std::collections::VecDeque;
use std::fmt;

use bytes::{Bytes, BytesMut};
use quorate_clerk::{Outcome, Refusal};
use quorate_kvserver::Op;
use quorate_shardmaster::{Command, Reply as Administered};

use crate::cmd::{self, Action, Shape};
use crate::order::{Footprint, UnderWay};
use crate::resp::{self, Decoder, Protocol, Value};
use crate::session::Replies;
use crate::{Errors, NodeInfo, Session};

/// Most requests of one connection that are decoded and not answered yet. What lies beyond stays in
/// the socket.
pub const OUTSTANDING_MAX: usize = 1024;

/// Bytes of answers that may wait for the client to read them (64 MiB), before its further requests
/// are left in the socket. Large, since many clients write a whole pipeline before they read.
pub const OUTPUT_BYTES_MAX: usize = 64 * 1024 * 1024;

/// Bytes of answers known at once that may wait behind operations (1 MiB).
const LOCAL_BYTES_MAX: usize = 1024 * 1024;

/// Number of a request of one connection that waits for an outcome, ascending.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Seq(pub u64);

impl fmt::Display for Seq {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "q{}", self.0)
    }
}

/// Something for the clerk.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Submission {
    /// Which request it is; its outcome is told with this number.
    pub seq: Seq,
    /// What to do.
    pub work: Work,
}

/// What the clerk is asked to do.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Work {
    /// An operation on the store; see [`Connection::complete`].
    Operate(Op),
    /// A call to the shardmaster; see [`Connection::administered`].
    Administer(Command),
}

/// What a connection has answered.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Tally {
    /// Requests that were answered, or silenced.
    pub commands: u64,
    /// Those whose answer was an error.
    pub errors: Errors,
}

impl Tally {
    fn count(&mut self, answer: &Value) {
        if let Value::Error(text) = answer {
            self.errors.add(text);
        }
    }
}

/// One connection of a client.
#[derive(Debug)]
pub struct Connection {
    session: Session,
    decoder: Decoder,
    /// A request that has been decoded, but must wait for others (G2).
    held: Option<(Work, Pending)>,
    under_way: UnderWay,
    /// Requests that have no answer yet, or one that must wait for those before it.
    answers: VecDeque<Answer>,
    /// The number of the first of them.
    first: Seq,
    /// Bytes of those that are known already.
    local_bytes: usize,
    /// What the client is to read, in order.
    output: BytesMut,
    /// Nothing more is read.
    ending: bool,
    tally: Tally,
}

/// How to answer what the clerk is at.
#[derive(Debug)]
struct Pending {
    /// The shape of an operation's answer; a call to the shardmaster has its own.
    shape: Option<Shape>,
    protocol: Protocol,
    silent: bool,
    footprint: Footprint,
}

#[derive(Debug)]
enum Answer {
    /// The clerk is at it.
    Pending(Pending),
    /// Its outcome has come.
    Outcome(Value, Protocol),
    /// It was known at once, and has been encoded. Empty when it is silenced.
    Encoded(Bytes),
}

impl Connection {
    /// A connection that has just begun.
    pub fn new(session: Session) -> Connection {
        Connection {
            session,
            decoder: Decoder::new(),
            held: None,
            under_way: UnderWay::default(),
            answers: VecDeque::new(),
            first: Seq(0),
            local_bytes: 0,
            output: BytesMut::new(),
            ending: false,
            tally: Tally::default(),
        }
    }

    /// What the connection remembers.
    pub fn session(&self) -> &Session {
        &self.session
    }

    /// What the connection has answered.
    pub fn tally(&self) -> Tally {
        self.tally
    }

    /// Where to put what was read from the socket.
    pub fn buffer(&mut self) -> &mut BytesMut {
        self.decoder.buffer()
    }

    /// Puts bytes that were read elsewhere.
    pub fn feed(&mut self, bytes: &[u8]) {
        self.buffer().extend_from_slice(bytes);
    }

    /// Whether more should be read from the socket. Not while the connection is full: then some
    /// outcome has to come, or the client has to read its answers.
    pub fn wants_input(&self) -> bool {
        !self.ending && self.held.is_none() && self.has_room()
    }

    /// Decodes what has arrived, as far as there is room, and gives what it asks of the clerk, in the
    /// order of the requests. What can be answered at once is.
    pub fn advance(&mut self, node: &NodeInfo) -> Vec<Submission> {
        let mut submissions = Vec::new();
        loop {
            if let Some((work, pending)) = self.held.take() {
                if self.under_way.conflicts(&pending.footprint) {
                    self.held = Some((work, pending));
                    break;
                }
                submissions.push(self.push_pending(work, pending));
            }
            if self.ending || !self.has_room() {
                break;
            }
            match self.decoder.decode() {
                Ok(None) => break,
                Ok(Some(args)) => self.on_request(args, node),
                Err(error) => {
                    let silent = self.session.replies == Replies::Off;
                    self.push_local(&Value::Error(error.answer()), silent);
                    self.ending = true;
                }
            }
        }
        self.flush();
        submissions
    }

    /// Takes the outcome of an operation. One that is not waited for is ignored.
    pub fn complete(&mut self, seq: Seq, outcome: Outcome) {
        if let Some(shape) = self.pending(seq).and_then(|pending| pending.shape) {
            self.answer(seq, shape.answer(outcome));
            self.flush();
        }
    }

    /// Takes the outcome of a call to the shardmaster. One that is not waited for is ignored.
    pub fn administered(&mut self, seq: Seq, outcome: Outcome<Administered>) {
        if self.pending(seq).is_some_and(|pending| pending.shape.is_none()) {
            self.answer(seq, cmd::administered(outcome));
            self.flush();
        }
    }

    /// What is under way under a number.
    fn pending(&self, seq: Seq) -> Option<&Pending> {
        let place = usize::try_from(seq.0.checked_sub(self.first.0)?).ok()?;
        match self.answers.get(place)? {
            Answer::Pending(pending) => Some(pending),
            Answer::Outcome(..) | Answer::Encoded(_) => None,
        }
    }

    fn answer(&mut self, seq: Seq, value: Value) {
        let place = (seq.0 - self.first.0) as usize;
        let Some(answer) = self.answers.get_mut(place) else { return };
        let Answer::Pending(pending) = answer else { return };
        self.under_way.end(&pending.footprint);
        self.tally.count(&value);
        *answer = match pending.silent {
            true => Answer::Encoded(Bytes::new()),
            false => Answer::Outcome(value, pending.protocol),
        };
    }

    /// No outcome will come for what is under way: a write may or may not take effect.
    pub fn abandon(&mut self) {
        for place in 0..self.answers.len() {
            let Some(Answer::Pending(pending)) = self.answers.get(place) else { continue };
            let is_read = pending.footprint.is_read();
            let value = match pending.shape {
                Some(shape) => shape.answer(lost(is_read)),
                None => cmd::administered(lost(is_read)),
            };
            self.answer(Seq(self.first.0 + place as u64), value);
        }
        self.flush();
    }

    /// How many operations wait for their outcome.
    pub fn outstanding(&self) -> usize {
        self.answers.iter().filter(|answer| matches!(answer, Answer::Pending(_))).count()
    }

    /// Moves to `out` what the client is to read next.
    pub fn drain_output(&mut self, out: &mut BytesMut) {
        if out.is_empty() {
            std::mem::swap(out, &mut self.output);
        } else {
            out.extend_from_slice(&self.output);
            self.output.clear();
        }
        self.flush();
    }

    /// Whether there is something for the client to read.
    pub fn has_output(&self) -> bool {
        !self.output.is_empty()
    }

    /// Ends the connection: nothing more is read; what is under way is still answered.
    pub fn end(&mut self) {
        self.ending = true;
        self.held = None;
    }

    /// Whether everything is answered and drained, and nothing more will be read.
    pub fn is_finished(&self) -> bool {
        self.ending && self.held.is_none() && self.answers.is_empty() && self.output.is_empty()
    }

    fn has_room(&self) -> bool {
        self.answers.len() < OUTSTANDING_MAX
            && self.local_bytes < LOCAL_BYTES_MAX
            && self.output.len() < OUTPUT_BYTES_MAX
    }

    fn on_request(&mut self, args: Vec<Bytes>, node: &NodeInfo) {
        if self.session.replies == Replies::SkipNext {
            self.session.replies = Replies::SkipThis;
        }
        let action = cmd::read(args, &mut self.session, node);
        let silent = matches!(self.session.replies, Replies::Off | Replies::SkipThis);
        if self.session.replies == Replies::SkipThis {
            self.session.replies = Replies::On;
        }
        match action {
            Action::Answer(value) => self.push_local(&value, silent),
            Action::Operate { op, shape } => {
                let (protocol, footprint) = (self.session.protocol, Footprint::of(&op));
                let pending = Pending { shape: Some(shape), protocol, silent, footprint };
                self.held = Some((Work::Operate(op), pending));
            }
            Action::Administer(call) => {
                let (protocol, footprint) = (self.session.protocol, Footprint::of_call(&call));
                let pending = Pending { shape: None, protocol, silent, footprint };
                self.held = Some((Work::Administer(call), pending));
            }
            Action::Silence => self.tally.commands += 1,
            Action::Quit => {
                self.push_local(&Value::OK, silent);
                self.ending = true;
            }
            Action::Close => self.ending = true,
        }
    }

    fn push_pending(&mut self, work: Work, pending: Pending) -> Submission {
        let seq = Seq(self.first.0 + self.answers.len() as u64);
        self.under_way.begin(&pending.footprint);
        self.answers.push_back(Answer::Pending(pending));
        Submission { seq, work }
    }

    fn push_local(&mut self, value: &Value, silent: bool) {
        self.tally.count(value);
        if self.answers.is_empty() {
            self.tally.commands += 1;
            if !silent {
                resp::encode(value, self.session.protocol, &mut self.output);
            }
            return;
        }
        let mut bytes = BytesMut::new();
        if !silent {
            resp::encode(value, self.session.protocol, &mut bytes);
        }
        self.local_bytes += bytes.len();
        self.answers.push_back(Answer::Encoded(bytes.freeze()));
    }

    /// Moves the answers that nothing stands before to the output, as far as there is room.
    fn flush(&mut self) {
        while self.output.len() < OUTPUT_BYTES_MAX {
            match self.answers.front() {
                None | Some(Answer::Pending(_)) => break,
                Some(Answer::Outcome(value, protocol)) => {
                    resp::encode(value, *protocol, &mut self.output);
                }
                Some(Answer::Encoded(bytes)) => {
                    self.local_bytes -= bytes.len();
                    self.output.extend_from_slice(bytes);
                }
            }
            self.answers.pop_front();
            self.first.0 += 1;
            self.tally.commands += 1;
        }
    }
}

/// The outcome of what was under way when the clerk began anew.
fn lost<R>(is_read: bool) -> Outcome<R> {
    match is_read {
        true => Outcome::Refused(Refusal::NotReady),
        false => Outcome::Unknown,
    }
}
