//! One client of a bench: asks a batch, waits for its answers, asks again.

use std::cell::RefCell;
use std::io;
use std::rc::Rc;
use std::time::{Duration, Instant};

use bytes::BytesMut;
use quorate_gateway::resp::Value;
use quorate_gateway::resp::client::{AnswerDecoder, encode_command};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use super::history::History;
use super::plan::{Kind, Load, Source, key};
use super::report::Tally;
use crate::clock;

/// How long a connection may take to be made.
const CONNECT: Duration = Duration::from_secs(2);
/// How long a client waits after an error, so that it does not only make errors.
const PAUSE: Duration = Duration::from_millis(10);

/// What all clients share; they live on one thread.
pub(crate) struct Shared {
    pub(crate) nodes: Vec<String>,
    pub(crate) load: Load,
    pub(crate) pipeline: u16,
    pub(crate) tally: Rc<RefCell<Tally>>,
    pub(crate) history: Option<RefCell<History>>,
}

/// An operation that was asked.
struct Asked {
    kind: Kind,
    /// Its name in the history.
    op: u64,
}

/// Runs client number `number` until the time is over. It begins with the node of its number and
/// goes on to the next whenever a connection is lost.
pub(crate) async fn run(shared: Rc<Shared>, number: u64) {
    let mut client = Client {
        source: Source::new(&shared.load, number),
        first: number * u64::from(shared.pipeline),
        first_key: shared.history.as_ref().map_or(0, |history| history.borrow().first_key()),
        batch: Vec::new(),
        out: BytesMut::new(),
        answered: 0,
        shared,
    };
    let until = client.shared.tally.borrow().until();
    let nodes = client.shared.nodes.len();
    for turn in number as usize.. {
        let node = client.shared.nodes[turn % nodes].clone();
        let Err(trouble) = client.serve(&node, until).await else { return };
        client.shared.tally.borrow_mut().record_error(trouble);
        client.lose();
        if clock::now() >= until {
            return;
        }
        tokio::time::sleep(PAUSE).await;
    }
}

struct Client {
    shared: Rc<Shared>,
    source: Source,
    /// Each place in the pipeline is a client of its own in a history.
    first: u64,
    /// Added to the numbers of the keys.
    first_key: u64,
    batch: Vec<Asked>,
    out: BytesMut,
    /// How many of the batch are answered.
    answered: usize,
}

impl Client {
    /// Asks on one connection until the time is over, or the connection is lost.
    async fn serve(&mut self, node: &str, until: Instant) -> Result<(), &'static str> {
        let connected = tokio::time::timeout(CONNECT, TcpStream::connect(node)).await;
        let mut stream = match connected {
            Ok(Ok(stream)) => stream,
            Ok(Err(error)) if error.kind() == io::ErrorKind::ConnectionRefused => {
                return Err("connection refused");
            }
            Ok(Err(_)) => return Err("cannot connect"),
            Err(_) => return Err("connecting takes too long"),
        };
        stream.set_nodelay(true).map_err(|_| "connection lost")?;
        let mut decoder = AnswerDecoder::new();
        loop {
            let begun = clock::now();
            if begun >= until {
                return Ok(());
            }
            self.ask();
            stream.write_all(&self.out).await.map_err(|_| "connection lost")?;
            let has_errors = self.hear(&mut stream, &mut decoder, begun).await?;
            if has_errors {
                tokio::time::sleep(PAUSE).await;
            }
        }
    }

    /// Puts the next batch together.
    fn ask(&mut self) {
        self.out.clear();
        self.batch.clear();
        self.answered = 0;
        for place in 0..u64::from(self.shared.pipeline) {
            let (kind, number) = self.source.operation();
            let key = key(self.first_key + number);
            let value = match kind {
                Kind::Put => self.source.value(),
                Kind::Get => &[],
            };
            match kind {
                Kind::Put => encode_command(&[&b"SET"[..], &key, value], &mut self.out),
                Kind::Get => encode_command(&[&b"GET"[..], &key], &mut self.out),
            }
            let op = self.shared.history.as_ref().map_or(0, |history| {
                history.borrow_mut().invoke(self.first + place, kind, &key, value)
            });
            self.batch.push(Asked { kind, op });
        }
    }

    /// Waits for the answers of the batch; answers whether some were errors.
    async fn hear(
        &mut self,
        stream: &mut TcpStream,
        decoder: &mut AnswerDecoder,
        begun: Instant,
    ) -> Result<bool, &'static str> {
        let mut has_errors = false;
        while self.answered < self.batch.len() {
            let buffer = decoder.buffer();
            buffer.reserve(4096);
            match stream.read_buf(buffer).await {
                Ok(0) | Err(_) => return Err("connection lost"),
                Ok(_) => {}
            }
            let arrived = clock::now();
            let mut tally = self.shared.tally.borrow_mut();
            while self.answered < self.batch.len() {
                let Some(answer) = decoder.decode().map_err(|_| "malformed answer")? else { break };
                let asked = &self.batch[self.answered];
                if let Some(history) = &self.shared.history {
                    let client = self.first + self.answered as u64;
                    history.borrow_mut().complete(client, asked.op, asked.kind, &answer);
                }
                self.answered += 1;
                match (asked.kind, &answer) {
                    (Kind::Put, Value::Simple(_)) | (Kind::Get, Value::Bulk(_)) => {
                        tally.record(asked.kind, begun, arrived);
                    }
                    (Kind::Get, Value::Null) => {
                        tally.record(asked.kind, begun, arrived);
                        tally.record_missing();
                    }
                    (_, Value::Error(text)) => {
                        has_errors = true;
                        let word = text.split(|&byte| byte == b' ').next().unwrap_or_default();
                        tally.record_error(&String::from_utf8_lossy(word));
                    }
                    _ => {
                        has_errors = true;
                        tally.record_error("unexpected answer");
                    }
                }
            }
        }
        Ok(has_errors)
    }

    /// The answers that are missing will not come.
    fn lose(&mut self) {
        if let Some(history) = &self.shared.history {
            for (place, asked) in self.batch.iter().enumerate().skip(self.answered) {
                history.borrow_mut().lose(self.first + place as u64, asked.op);
            }
        }
        self.answered = self.batch.len();
    }
}
