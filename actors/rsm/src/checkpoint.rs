//! What a checkpoint holds, and its form in bytes.
//!
//! ```text
//! format u32 | heading | one session for each client of each scope | the machine's own bytes
//! ```
//! The heading and each session are rmp-serde behind their length (u32, little-endian). Everything
//! in it is a function of the log up to its index, so it is the same bytes on every replica.

use std::{
    collections::{BTreeMap, VecDeque},
    sync::Arc,
};

use bytes::Bytes;
use quorate_persistence::{Reader, Writer};
use quorate_protocol::{Name, log::Position};
use quorate_stage::Outlet;
use serde::{Deserialize, Serialize, de::DeserializeOwned};

use crate::{
    machine::{Restore, StateMachine},
    origins::Origins,
    sessions::{Scopes, Session, Sessions},
};

/// Format of a checkpoint.
pub(crate) const CHECKPOINT_FORMAT: u32 = 4;

/// Everything that a replica is made of, as of one place in the log.
pub struct Restored<M: StateMachine> {
    pub(crate) machine: M,
    pub(crate) scopes: Scopes<M::Reply>,
    pub(crate) origins: Arc<Origins>,
    pub(crate) time_ms: u64,
    pub(crate) position: Position,
}

impl<M: StateMachine> Restored<M> {
    /// What makes a replica's state of the bytes of a checkpoint, and sends it to `to`.
    pub fn reader(to: Outlet<Restored<M>>) -> Box<dyn Reader> {
        Box::new(CheckpointReader::<M>::new(to))
    }

    /// A checkpoint of it.
    pub fn writer(&self) -> Writer {
        let Restored { machine, scopes, origins, time_ms, position } = self;
        let (origins, scopes) = (origins.clone(), scopes.clone());
        let books = Books { position: position.clone(), time_ms: *time_ms, origins, scopes };
        writer(books, machine.snapshot())
    }
}

#[derive(Serialize, Deserialize)]
struct Heading {
    position: Position,
    time_ms: u64,
    origins: Arc<Origins>,
    /// Per scope: its number, when its sessions were swept, how many there are.
    scopes: VecDeque<(u16, u64, u64)>,
}

/// What an rsm keeps besides its machine, shared with the rsm until that changes it.
pub(crate) struct Books<R> {
    pub(crate) position: Position,
    pub(crate) time_ms: u64,
    pub(crate) origins: Arc<Origins>,
    pub(crate) scopes: Scopes<R>,
}

fn framed(what: &impl Serialize, before: &[u8]) -> Bytes {
    let encoded = rmp_serde::to_vec(what).expect("replies are plain data, which always encodes");
    let mut bytes = Vec::with_capacity(before.len() + 4 + encoded.len());
    bytes.extend_from_slice(before);
    bytes.extend_from_slice(&(encoded.len() as u32).to_le_bytes());
    bytes.extend_from_slice(&encoded);
    bytes.into()
}

/// A checkpoint of the machine that `machine` writes.
pub(crate) fn writer<R>(books: Books<R>, machine: Writer) -> Writer
where
    R: Serialize + Send + Sync + 'static,
{
    let Books { position, time_ms, origins, scopes } = books;
    let sizes = scopes.0.iter();
    let sizes =
        sizes.map(|(scope, sessions)| (*scope, sessions.swept_ms, sessions.clients.len() as u64));
    let heading = Heading { position, time_ms, origins, scopes: sizes.collect() };
    // Encoded on the thread of the files.
    let heading = std::iter::once_with(move || framed(&heading, &CHECKPOINT_FORMAT.to_le_bytes()));
    let sessions = scopes.0.into_values().flat_map(|sessions| sessions.clients);
    let sessions = sessions.map(|(client, session)| framed(&(client, session.as_ref()), &[]));
    Writer::new(heading.chain(sessions).chain(machine))
}

/// Where in a checkpoint a reader is.
enum Place {
    Format,
    Heading,
    Sessions(Heading),
    Machine(Heading),
}

/// Makes a replica's state of the bytes of a checkpoint, and sends it to `to`.
pub(crate) struct CheckpointReader<M: StateMachine> {
    place: Place,
    /// Bytes that do not make a piece yet.
    partial: Vec<u8>,
    scopes: BTreeMap<u16, Sessions<M::Reply>>,
    machine: Restore<M>,
    to: Outlet<Restored<M>>,
}

impl<M: StateMachine> CheckpointReader<M> {
    pub(crate) fn new(to: Outlet<Restored<M>>) -> Self {
        let (place, partial, scopes) = (Place::Format, vec![], BTreeMap::new());
        CheckpointReader { place, partial, scopes, machine: M::restore(), to }
    }

    /// Takes one piece from `bytes`; false if it is not complete.
    fn piece(&mut self, bytes: &mut &[u8]) -> Result<bool, String> {
        if let Place::Format = self.place {
            let Some((format, rest)) = bytes.split_first_chunk::<4>() else { return Ok(false) };
            let found = u32::from_le_bytes(*format);
            if found != CHECKPOINT_FORMAT {
                return Err(format!("format {found}, this version reads {CHECKPOINT_FORMAT}"));
            }
            (*bytes, self.place) = (rest, Place::Heading);
            return Ok(true);
        }
        let Some((len, rest)) = bytes.split_first_chunk::<4>() else { return Ok(false) };
        let Some((frame, rest)) = rest.split_at_checked(u32::from_le_bytes(*len) as usize) else {
            return Ok(false);
        };
        *bytes = rest;
        match &mut self.place {
            Place::Heading => {
                let heading: Heading = decode(frame)?;
                for (scope, swept_ms, _) in &heading.scopes {
                    let sessions = Sessions { clients: BTreeMap::new(), swept_ms: *swept_ms };
                    self.scopes.insert(*scope, sessions);
                }
                self.place = Place::Sessions(heading);
            }
            Place::Sessions(heading) => {
                let (client, session): (u64, Session<M::Reply>) = decode(frame)?;
                let Some((scope, _, missing)) = heading.scopes.front_mut() else { return Ok(true) };
                *missing -= 1;
                if let Some(sessions) = self.scopes.get_mut(scope) {
                    sessions.clients.insert(client, Arc::new(session));
                }
            }
            Place::Format | Place::Machine(_) => {}
        }
        Ok(true)
    }

    /// Goes on to the machine when no session is missing any more.
    fn pass_sessions(&mut self) {
        if let Place::Sessions(heading) = &mut self.place {
            while heading.scopes.front().is_some_and(|(_, _, missing)| *missing == 0) {
                heading.scopes.pop_front();
            }
        }
        self.place = match std::mem::replace(&mut self.place, Place::Format) {
            Place::Sessions(heading) if heading.scopes.is_empty() => Place::Machine(heading),
            place => place,
        };
    }
}

fn decode<T: DeserializeOwned>(frame: &[u8]) -> Result<T, String> {
    rmp_serde::from_slice(frame).map_err(|error| error.to_string())
}

impl<M: StateMachine> Reader for CheckpointReader<M> {
    fn feed(&mut self, bytes: &[u8]) -> Result<(), String> {
        if let Place::Machine(_) = self.place {
            return self.machine.feed(bytes);
        }
        let mut all = std::mem::take(&mut self.partial);
        all.extend_from_slice(bytes);
        let mut rest = all.as_slice();
        while !matches!(self.place, Place::Machine(_)) && self.piece(&mut rest)? {
            self.pass_sessions();
        }
        match self.place {
            Place::Machine(_) => self.machine.feed(rest),
            _ => {
                self.partial = rest.to_vec();
                Ok(())
            }
        }
    }

    fn finish(self: Box<Self>, me: Name) -> Result<(), String> {
        let CheckpointReader { place, scopes, machine, to, .. } = *self;
        let Place::Machine(heading) = place else { return Err("it is cut short".into()) };
        let Heading { position, time_ms, origins, .. } = heading;
        let machine = machine.finish()?;
        let scopes = Scopes(scopes);
        to.send(me, Restored { machine, scopes, origins, time_ms, position });
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Mutex;

    use quorate_protocol::{
        Configuration, NodeId,
        log::{Index, ProposalId},
    };

    use super::*;
    use crate::machine::At;

    /// A machine whose state is a text.
    struct Text(String);

    impl StateMachine for Text {
        type Command = String;
        type Reply = String;

        fn is_read(_: &String) -> bool {
            false
        }

        fn apply(&mut self, _: At, command: String) -> String {
            self.0.push_str(&command);
            self.0.clone()
        }

        fn query(&self, _: &String) -> String {
            self.0.clone()
        }

        fn snapshot(&self) -> Writer {
            Writer::of(self.0.clone().into_bytes())
        }

        fn restore() -> Restore<Self> {
            Restore::whole(|bytes| {
                let text = String::from_utf8(bytes.to_vec()).map_err(|error| error.to_string())?;
                Ok(Text(text))
            })
        }
    }

    fn bytes(state: &Restored<Text>) -> Vec<u8> {
        state.writer().flatten().collect()
    }

    fn state() -> Restored<Text> {
        let mut scopes: BTreeMap<u16, Sessions<String>> = BTreeMap::new();
        for scope in [0, 7, 9] {
            // One scope stays without a client.
            let sessions = scopes.entry(scope).or_default();
            for client in 0..u64::from(scope) {
                sessions.applied(client, 3, 2, format!("{scope}.{client}"), 50);
            }
        }
        let mut origins = Origins::default();
        origins.admit(ProposalId { node: NodeId(1), life: 5, seq: 1 }, false, 40);
        let configuration = Configuration::of([NodeId(1), NodeId(2), NodeId(3)]);
        let position = Position { index: Index(70), place: 70, term: 0, configuration };
        let machine = Text("some text of the machine".into());
        let (scopes, origins) = (Scopes(scopes), Arc::new(origins));
        Restored { machine, scopes, origins, time_ms: 60, position }
    }

    fn read(pieces: impl Iterator<Item = Vec<u8>>) -> Result<Restored<Text>, String> {
        let found = Arc::new(Mutex::new(None));
        let place = found.clone();
        let to = Outlet::from_fn(move |_, restored| *place.lock().unwrap() = Some(restored));
        let mut reader = Restored::<Text>::reader(to);
        for piece in pieces {
            reader.feed(&piece)?;
        }
        reader.finish(Name::of_node(NodeId(1), quorate_protocol::Role::Files))?;
        Ok(found.lock().unwrap().take().unwrap())
    }

    #[test]
    fn a_checkpoint_is_read_back_however_it_is_cut_and_written_again_with_the_same_bytes() {
        let written = bytes(&state());
        for cut in [1, 2, 3, 7, 50, written.len()] {
            let restored = read(written.chunks(cut).map(<[u8]>::to_vec)).unwrap();
            assert_eq!(restored.machine.0, "some text of the machine");
            assert_eq!(restored.position, state().position);
            assert_eq!((restored.scopes.0.len(), restored.scopes.0[&9].len()), (3, 9));
            assert_eq!(restored.origins.last_seq(NodeId(1), 5), 1);
            assert_eq!(bytes(&restored), written, "cut every {cut} bytes");
        }
    }

    #[test]
    fn a_checkpoint_that_is_cut_short_or_of_another_format_is_refused() {
        let written = bytes(&state());
        let machine = written.len() - "some text of the machine".len();
        for len in [0, 3, 4, 20, machine - 1] {
            let error = read([written[..len].to_vec()].into_iter()).err().unwrap();
            assert_eq!(error, "it is cut short", "{len} bytes");
        }
        let old = [&2_u32.to_le_bytes(), &written[4..]].concat();
        let error = read([old].into_iter()).err().unwrap();
        assert_eq!(error, "format 2, this version reads 4");
    }

    #[test]
    fn a_state_without_a_client_has_no_sessions() {
        let empty = Restored { scopes: Scopes::default(), ..state() };
        let restored = read([bytes(&empty)].into_iter()).unwrap();
        assert_eq!(restored.machine.0, "some text of the machine");
        assert!(restored.scopes.0.is_empty());
    }

    #[test]
    fn a_checkpoint_keeps_what_was_when_it_was_begun() {
        let mut state = state();
        let before = bytes(&state);
        let writer = state.writer();
        state.scopes.0.entry(7).or_default().applied(1, 4, 4, "later".into(), 70);
        let id = ProposalId { node: NodeId(1), life: 5, seq: 2 };
        Arc::make_mut(&mut state.origins).admit(id, false, 70);
        assert_eq!(writer.flatten().collect::<Vec<u8>>(), before);
        assert_ne!(bytes(&state), before);
    }
}
