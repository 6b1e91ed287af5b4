//! What a connection remembers between its requests.

use bytes::Bytes;

use crate::NodeInfo;
use crate::resp::Protocol;

/// Whether requests of a connection are answered (CLIENT REPLY).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Replies {
    /// They are.
    #[default]
    On,
    /// None is.
    Off,
    /// The next one is not.
    SkipNext,
    /// The one that is being read is not.
    SkipThis,
}

/// What a connection remembers between its requests.
#[derive(Clone, Debug)]
pub struct Session {
    /// Number of the connection, different for each of a node's.
    pub id: u64,
    /// Address of the client.
    pub peer: String,
    /// Address that the client has connected to.
    pub local: String,
    /// When it began, in microseconds since 1970.
    pub since_us: u64,
    /// Which form of the protocol it speaks.
    pub protocol: Protocol,
    /// Whether its requests are answered.
    pub replies: Replies,
    /// Whether it wants its reads answered by replicas too (READONLY).
    pub reads_replicas: bool,
    /// The name it has given itself; may be empty.
    pub name: Bytes,
    /// The client library and its version, as far as told.
    pub lib_name: Bytes,
    /// See [`Session::lib_name`].
    pub lib_version: Bytes,
}

impl Session {
    /// A connection that has just begun.
    pub fn new(id: u64, peer: String, local: String, since_us: u64) -> Session {
        Session {
            id,
            peer,
            local,
            since_us,
            protocol: Protocol::default(),
            replies: Replies::default(),
            reads_replicas: false,
            name: Bytes::new(),
            lib_name: Bytes::new(),
            lib_version: Bytes::new(),
        }
    }

    /// RESET: as it began, but for the library, which is still the same.
    pub(crate) fn reset(&mut self) {
        self.protocol = Protocol::default();
        self.replies = Replies::default();
        self.reads_replicas = false;
        self.name = Bytes::new();
    }

    /// The line of CLIENT INFO. What this node does not measure is 0.
    pub(crate) fn describe(&self, command: &str, node: &NodeInfo) -> String {
        let text = |bytes: &Bytes| String::from_utf8_lossy(bytes).into_owned();
        format!(
            "id={} addr={} laddr={} fd=0 name={} age={} idle=0 flags={} db=0 sub=0 psub=0 ssub=0 \
             multi=-1 qbuf=0 qbuf-free=0 argv-mem=0 multi-mem=0 rbs=0 rbp=0 obl=0 oll=0 omem=0 \
             tot-mem=0 events=r cmd={command} user=default redir=-1 resp={} lib-name={} \
             lib-ver={}\n",
            self.id,
            self.peer,
            self.local,
            text(&self.name),
            node.now_us.saturating_sub(self.since_us) / 1_000_000,
            if self.reads_replicas { 'r' } else { 'N' },
            self.protocol.number(),
            text(&self.lib_name),
            text(&self.lib_version),
        )
    }
}
