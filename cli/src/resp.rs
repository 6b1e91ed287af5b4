//! A client that blocks: one connection, one request at a time, a time limit on each.

use std::fmt;
use std::io::{self, Read, Write};
use std::net::{TcpStream, ToSocketAddrs};
use std::time::Duration;

use bytes::BytesMut;
use quorate_gateway::resp::Value;
use quorate_gateway::resp::client::{AnswerDecoder, encode_command};

use crate::clock;

/// How long a connection may take to be made.
const CONNECT: Duration = Duration::from_secs(2);

/// Why there is no answer.
#[derive(Debug)]
pub(crate) enum Trouble {
    /// No connection was made: nothing was asked.
    Unreachable(String),
    /// The request may have been read, but no answer has come.
    NoAnswer(String),
}

impl fmt::Display for Trouble {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Trouble::Unreachable(text) | Trouble::NoAnswer(text) => f.write_str(text),
        }
    }
}

/// A connection to a node.
pub(crate) struct Client {
    node: String,
    stream: TcpStream,
    decoder: AnswerDecoder,
    timeout: Duration,
}

/// Connects to the first address of `host:port` that answers.
///
/// # Errors
/// Why none does.
pub(crate) fn connect(address: &str, limit: Duration) -> io::Result<TcpStream> {
    let mut last = io::Error::other("the name has no address");
    for address in address.to_socket_addrs()? {
        match TcpStream::connect_timeout(&address, limit) {
            Ok(stream) => {
                stream.set_nodelay(true)?;
                return Ok(stream);
            }
            Err(error) => last = error,
        }
    }
    Err(last)
}

impl Client {
    /// Connects to `host:port`; each answer must come within `timeout`.
    ///
    /// # Errors
    /// [`Trouble::Unreachable`].
    pub(crate) fn connect(node: &str, timeout: Duration) -> Result<Client, Trouble> {
        let stream = connect(node, CONNECT.min(timeout)).map_err(|error| {
            Trouble::Unreachable(format!(
                "{node} cannot be reached: {error}; is a node running there? (--node names another)"
            ))
        })?;
        let decoder = AnswerDecoder::new();
        Ok(Client { node: node.to_string(), stream, decoder, timeout })
    }

    /// Asks once, and never again by itself.
    ///
    /// # Errors
    /// [`Trouble::NoAnswer`]: the request may have been executed.
    pub(crate) fn ask(&mut self, args: &[&[u8]]) -> Result<Value, Trouble> {
        let node = self.node.clone();
        self.exchange(args).map_err(|error| {
            Trouble::NoAnswer(match error.kind() {
                io::ErrorKind::WouldBlock | io::ErrorKind::TimedOut => {
                    format!("{node} has not answered within {} ms", self.timeout.as_millis())
                }
                _ => format!("the connection to {node} was lost before an answer came: {error}"),
            })
        })
    }

    fn exchange(&mut self, args: &[&[u8]]) -> io::Result<Value> {
        let deadline = clock::now() + self.timeout;
        let mut request = BytesMut::new();
        encode_command(args, &mut request);
        self.stream.set_write_timeout(Some(self.timeout))?;
        self.stream.write_all(&request)?;
        let mut bytes = [0; 16 * 1024];
        loop {
            let answer = self.decoder.decode();
            if let Some(value) = answer.map_err(|error| io::Error::other(error.to_string()))? {
                return Ok(value);
            }
            let left = deadline.saturating_duration_since(clock::now());
            if left.is_zero() {
                return Err(io::ErrorKind::TimedOut.into());
            }
            self.stream.set_read_timeout(Some(left))?;
            match self.stream.read(&mut bytes) {
                Ok(0) => return Err(io::Error::other("the node closed it")),
                Ok(len) => self.decoder.buffer().extend_from_slice(&bytes[..len]),
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
    }
}
