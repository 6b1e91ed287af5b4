//! Clients whose operations are recorded, and the judgement of what they saw.

use std::{
    cell::RefCell,
    collections::{BTreeMap, BTreeSet},
    io::{self, Write},
    rc::Rc,
};

use quorate_clerk::Outcome as ClerkOutcome;
use quorate_history::{
    Blob, History, Input, Operation, Outcome, Output, Recorder, Verdict, check, read,
};
use quorate_kvserver::{Condition, Op, Reply, Versioned};

use crate::{
    checkers::Violation,
    clients::{Client, PutError},
    world::World,
};

/// Lines that can be read while more are written.
#[derive(Clone, Default)]
struct Lines(Rc<RefCell<Vec<u8>>>);

impl Write for Lines {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.borrow_mut().write(bytes)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

struct State {
    recorder: Recorder<Lines>,
    lines: Lines,
    clients: u64,
    ops: u64,
    /// Values of versioned Puts that ended as ErrMaybe. No two clients put the same value.
    maybes: BTreeSet<Blob>,
}

/// What the recorded clients of a world have asked and heard.
#[derive(Clone)]
pub struct Record {
    world: World,
    state: Rc<RefCell<State>>,
}

impl Record {
    /// Nothing yet.
    pub fn new(world: &World) -> Self {
        let lines = Lines::default();
        let recorder = Recorder::new(lines.clone());
        let state = State { recorder, lines, clients: 0, ops: 0, maybes: BTreeSet::new() };
        Record { world: world.clone(), state: Rc::new(RefCell::new(state)) }
    }

    /// Records what is asked through this client from now on.
    pub fn client(&self, client: Client) -> Recorded {
        self.state.borrow_mut().clients += 1;
        let name = self.state.borrow().clients;
        Recorded { client, name, record: self.clone() }
    }

    fn now(&self) -> u64 {
        self.world.elapsed().as_micros() as u64
    }

    fn invoke(&self, client: u64, key: &str, input: &Input) -> u64 {
        let now = self.now();
        let state = &mut *self.state.borrow_mut();
        state.ops += 1;
        let shown = key.escape_debug();
        self.world.trace.note(format_args!("client {client} asks #{}: {input} {shown}", state.ops));
        let invoked = state.recorder.invoke(now, client, state.ops, &key.as_bytes().into(), input);
        invoked.expect("a vector takes every line");
        state.ops
    }

    fn returned(&self, client: u64, op: u64, output: &Output) {
        let now = self.now();
        self.world.trace.note(format_args!("client {client} hears #{op}: {output}"));
        let returned = self.state.borrow_mut().recorder.ok(now, client, op, output);
        returned.expect("a vector takes every line");
    }

    /// Judges everything that was recorded so far.
    ///
    /// # Errors
    /// If it is not linearizable, or if that cannot be found out within the checker's budget (ten
    /// to twenty seconds of one core).
    pub fn verdict(&self) -> Result<(), Violation> {
        let state = self.state.borrow();
        let lines = state.lines.0.borrow();
        let mut history = read(&lines[..]).expect("what was recorded can be read");
        resolve_maybes(&mut history, &state.maybes);
        match check(&history) {
            Verdict::Linearizable => Ok(()),
            verdict => {
                let text = format!("{} operations: {verdict}", history.ops.len());
                Err(Violation::new("histories-are-linearizable", text))
            }
        }
    }

    /// The same.
    ///
    /// # Panics
    /// Where [`Record::verdict`] has an error.
    pub fn check(&self) {
        if let Err(violation) = self.verdict() {
            panic!("{violation}");
        }
    }
}

/// ErrMaybe says: carried out, or refused for its version, before this answer. Who made the next
/// version tells which of the two it was, and is known if anybody has seen that version: each
/// version is made once, unless the key is removed in between. If nobody has, it may be either, for
/// all that the history shows.
fn resolve_maybes(history: &mut History, maybes: &BTreeSet<Blob>) {
    let mut makers: BTreeMap<(Blob, u64), Blob> = BTreeMap::new();
    let removals = history.ops.iter().filter(|op| matches!(op.input, Input::Delete));
    let removed: BTreeSet<Blob> = removals.map(|op| op.key.clone()).collect();
    for Operation { key, input, outcome, .. } in &history.ops {
        let Outcome::Returned { output, .. } = outcome else { continue };
        match (input, output) {
            (Input::Cas { value, .. }, Output::Stored { version })
            | (_, Output::Value { value, version: Some(version) }) => {
                makers.insert((key.clone(), *version), value.clone());
            }
            _ => {}
        }
    }
    for op in &mut history.ops {
        let Input::Cas { value, version } = &op.input else { continue };
        let Outcome::Returned { output, .. } = &mut op.outcome else { continue };
        if !maybes.contains(value) {
            continue;
        }
        let made = makers.get(&(op.key.clone(), version + 1));
        match made.filter(|_| !removed.contains(&op.key)) {
            Some(made) if made == value => *output = Output::Stored { version: version + 1 },
            // As it was recorded: refused for its version.
            Some(_) => {}
            None => op.outcome = Outcome::Unknown,
        }
    }
}

/// A client whose operations are recorded.
#[derive(Clone)]
pub struct Recorded {
    client: Client,
    name: u64,
    record: Record,
}

impl Recorded {
    /// Get(key), with its version.
    pub async fn get(&self, key: &str) -> Option<Versioned> {
        let op = self.record.invoke(self.name, key, &Input::Get);
        let found = self.client.get_versioned(key).await;
        let output = match &found {
            Some(Versioned { value, version }) => {
                Output::Value { value: value[..].into(), version: Some(version.0) }
            }
            None => Output::Absent,
        };
        self.record.returned(self.name, op, &output);
        found
    }

    /// Put(key, value).
    pub async fn put(&self, key: &str, value: &str) {
        let input = Input::Put { value: value.as_bytes().into() };
        let op = self.record.invoke(self.name, key, &input);
        self.client.put(key, value.to_string()).await;
        self.record.returned(self.name, op, &Output::Done);
    }

    /// Append(key, value).
    pub async fn append(&self, key: &str, value: &str) {
        let input = Input::Append { value: value.as_bytes().into() };
        let op = self.record.invoke(self.name, key, &input);
        self.client.append(key, value).await;
        self.record.returned(self.name, op, &Output::Done);
    }

    /// Carries out a Get, an Append or a Put without condition. `None`: the clerk crashed meanwhile,
    /// and nobody can say what has become, or will become, of it.
    ///
    /// # Panics
    /// If it is another operation.
    pub async fn attempt(&self, op: Op) -> Option<ClerkOutcome> {
        let (key, input) = match &op {
            Op::Get { key } => (key, Input::Get),
            Op::Append { key, value } => (key, Input::Append { value: value[..].into() }),
            Op::Put { key, value, condition: Condition::Always, .. } => {
                (key, Input::Put { value: value[..].into() })
            }
            op => panic!("{op:?} is not recorded"),
        };
        let number = self.record.invoke(self.name, &String::from_utf8_lossy(key), &input);
        let outcome = self.client.attempt(op).await;
        let output = match &outcome {
            Some(ClerkOutcome::Done(Reply::Value(Some(Versioned { value, version })))) => {
                Output::Value { value: value[..].into(), version: Some(version.0) }
            }
            Some(ClerkOutcome::Done(Reply::Value(None))) => Output::Absent,
            Some(ClerkOutcome::Done(Reply::Length(length))) => Output::Length(*length),
            Some(ClerkOutcome::Done(Reply::Stored { .. })) => Output::Done,
            // Carried out, perhaps, and nobody knows when.
            _ => return outcome,
        };
        self.record.returned(self.name, number, &output);
        outcome
    }

    /// Delete(key).
    pub async fn delete(&self, key: &str) {
        let op = self.record.invoke(self.name, key, &Input::Delete);
        let present = self.client.delete(key).await;
        self.record.returned(self.name, op, &Output::Deleted { present });
    }

    /// The versioned Put. No other Put of the key may have the same value at the same version.
    ///
    /// # Errors
    /// The labs' errors.
    pub async fn put_at(&self, key: &str, value: &str, version: u64) -> Result<(), PutError> {
        let blob: Blob = value.as_bytes().into();
        let op = self.record.invoke(self.name, key, &Input::Cas { value: blob.clone(), version });
        let put = self.client.put_at(key, value, version).await;
        let output = match put {
            Ok(()) => Output::Stored { version: version + 1 },
            Err(PutError::NoKey) => Output::ErrNoKey,
            Err(PutError::Version) => Output::ErrVersion,
            Err(PutError::Maybe) => {
                self.record.state.borrow_mut().maybes.insert(blob);
                Output::ErrVersion
            }
        };
        self.record.returned(self.name, op, &output);
        put
    }

    /// The labs' PutAtLeastOnce: at this version, or at the next one at which it succeeds. Gives the
    /// version that it has made.
    pub async fn put_at_least_once(&self, key: &str, value: &str, mut version: u64) -> u64 {
        while let Err(error) = self.put_at(key, value, version).await {
            assert_ne!(error, PutError::NoKey, "Put({key}, {version})");
            version += 1;
        }
        version + 1
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn cas(value: &str, version: u64, moment: u64, output: Output) -> Operation {
        let outcome = Outcome::Returned { at: moment + 5, output };
        let input = Input::Cas { value: value.as_bytes().into(), version };
        Operation { client: 1, key: b"k"[..].into(), input, invoked: moment, outcome }
    }

    #[test]
    fn who_made_the_next_version_tells_what_became_of_a_maybe() {
        let get = |value: &str, version| Output::Value {
            value: value.as_bytes().into(),
            version: Some(version),
        };
        let read = Operation { input: Input::Get, ..cas("", 0, 30, get("b", 1)) };
        let ops = vec![
            cas("a", 0, 0, Output::ErrVersion),
            cas("b", 0, 10, Output::ErrVersion),
            read,
            cas("c", 1, 40, Output::ErrVersion),
        ];
        let mut history = History { ops };
        let maybes = ["a", "b", "c"].map(|value| Blob::from(value.as_bytes()));
        resolve_maybes(&mut history, &maybes.into());
        assert_eq!(history.ops[0].output(), Some(&Output::ErrVersion), "b has made version 1");
        assert_eq!(history.ops[1].output(), Some(&Output::Stored { version: 1 }));
        assert_eq!(history.ops[3].outcome, Outcome::Unknown, "nobody has seen version 2");
    }
}
