//! Where a bench writes down what its clients saw, for the judge of histories.

use std::fs::File;
use std::io::{self, BufWriter};
use std::path::Path;
use std::time::Instant;

use quorate_gateway::resp::Value;
use quorate_history::{Input, Output, Recorder};
use rand::TryRngCore;
use rand::rngs::OsRng;

use super::plan::{self, Kind};
use crate::clock;

/// One more than the highest number that a key can hold.
const KEYS_MAX: u64 = 10_000_000_000_000;

/// A file that takes invocations and completions.
pub(crate) struct History {
    recorder: Recorder<BufWriter<File>>,
    begun: Instant,
    /// Added to the numbers of the keys.
    first_key: u64,
    /// Operations so far: each has a name of its own.
    count: u64,
    /// The first trouble with the file.
    trouble: Option<io::Error>,
}

impl History {
    /// Makes the file.
    ///
    /// # Errors
    /// It cannot be made.
    pub(crate) fn create(path: &Path) -> Result<History, String> {
        let file = File::create(path)
            .map_err(|error| format!("{} cannot be written: {error}", path.display()))?;
        let recorder = Recorder::new(BufWriter::with_capacity(1 << 20, file));
        let number = OsRng.try_next_u64().map_err(|error| error.to_string())?;
        let first_key = number % (KEYS_MAX - plan::KEYS_MAX);
        Ok(History { recorder, begun: clock::now(), first_key, count: 0, trouble: None })
    }

    /// What to add to the numbers of the keys, so that they are keys that nobody has used: a judge
    /// takes a key to be absent until somebody writes it.
    pub(crate) fn first_key(&self) -> u64 {
        self.first_key
    }

    /// A client is about to ask; answers the name of the operation.
    pub(crate) fn invoke(&mut self, client: u64, kind: Kind, key: &[u8], value: &[u8]) -> u64 {
        self.count += 1;
        let input = match kind {
            Kind::Put => Input::Put { value: value.into() },
            Kind::Get => Input::Get,
        };
        let now = self.now();
        let written = self.recorder.invoke(now, client, self.count, &key.into(), &input);
        self.keep(written);
        self.count
    }

    /// The answer came.
    pub(crate) fn complete(&mut self, client: u64, op: u64, kind: Kind, answer: &Value) {
        let now = self.now();
        let output = match (kind, answer) {
            (Kind::Put, Value::Simple(_)) => Some(Output::Done),
            (Kind::Get, Value::Bulk(value)) => {
                Some(Output::Value { value: value[..].into(), version: None })
            }
            (Kind::Get, Value::Null) => Some(Output::Absent),
            _ => None,
        };
        let written = match (output, answer) {
            (Some(output), _) => self.recorder.ok(now, client, op, &output),
            (None, Value::Error(text)) if was_refused(text) => self.recorder.fail(now, client, op),
            (None, _) => self.recorder.unknown(now, client, op),
        };
        self.keep(written);
    }

    /// No answer will come.
    pub(crate) fn lose(&mut self, client: u64, op: u64) {
        let now = self.now();
        let written = self.recorder.unknown(now, client, op);
        self.keep(written);
    }

    /// Writes out what is held back.
    ///
    /// # Errors
    /// Something could not be written, now or before.
    pub(crate) fn finish(mut self) -> Result<(), String> {
        let flushed = self.recorder.flush();
        self.keep(flushed);
        self.trouble.map_or(Ok(()), |error| Err(format!("the history is incomplete: {error}")))
    }

    fn now(&self) -> u64 {
        (clock::now() - self.begun).as_micros() as u64
    }

    fn keep(&mut self, written: io::Result<()>) {
        if let Err(error) = written {
            self.trouble.get_or_insert(error);
        }
    }
}

/// Whether an error says that the command was certainly not executed.
fn was_refused(text: &[u8]) -> bool {
    [&b"TRYAGAIN "[..], b"CLUSTERDOWN ", b"LOADING "].iter().any(|word| text.starts_with(word))
}

#[cfg(test)]
mod tests {
    use std::io::BufReader;

    use quorate_history::{Verdict, check, read};

    use super::*;

    #[test]
    fn what_is_written_down_can_be_judged() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("history");
        let mut history = History::create(&path).unwrap();
        let put = history.invoke(1, Kind::Put, b"k", b"v");
        let lost = history.invoke(2, Kind::Put, b"k", b"w");
        let refused = history.invoke(3, Kind::Put, b"k", b"x");
        history.complete(1, put, Kind::Put, &Value::OK);
        history.lose(2, lost);
        history.complete(3, refused, Kind::Put, &Value::error("TRYAGAIN busy"));
        let get = history.invoke(1, Kind::Get, b"k", b"");
        history.complete(1, get, Kind::Get, &Value::bulk("w"));
        history.finish().unwrap();
        let history = read(BufReader::new(File::open(&path).unwrap())).unwrap();
        assert_eq!(history.ops.len(), 3);
        assert!(matches!(check(&history), Verdict::Linearizable));
    }
}
