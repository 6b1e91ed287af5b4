//! The machine of a group: the store, and which shards of it are the group's.
//!
//! A group takes over configurations one by one, each as an entry of its log. A shard that goes is
//! served until the group that it goes to asks for it; then it is given up, by an entry of this log, and
//! from there on no operation on it is carried out here. It travels in pieces, each of which is an entry
//! of the other log, its pairs as well as what its clients were answered. With the last piece it is
//! served there; that is said here, and here it is deleted. So a shard is not served only for as long as
//! it takes to carry that one shard.

mod messages;
mod table;

use std::{ops::RangeInclusive, sync::Arc};

use bytes::Bytes;
use quorate_protocol::{
    GroupId,
    planted::{Bug, is_planted},
};
use quorate_rsm::{At, Garbage, Restore, Restoring, Scopes, Sessions, StateMachine, Writer};
use quorate_shardmaster::{Configuration, ShardId};

pub use self::messages::{Command, Cursor, Load, Moving, Pair, Phase, Piece, View};
use self::table::{Place, Table};
use crate::{
    HashSlot, Key, KvError, Op, Reply, Store, Versioned, machine::Slots,
    snapshot::Restore as StoreRestore,
};

/// The scope of what belongs to no shard.
const NO_SHARD: u16 = u16::MAX;

/// The store of a group.
#[derive(Clone, Debug, Default)]
pub struct Machine {
    store: Store,
    /// `None`: the group serves everything, for ever.
    table: Option<Table>,
    /// What is to be freed, and how many bytes of keys and values that are.
    garbage: Option<(Slots, u64)>,
}

impl Machine {
    /// The machine of the only group there is, which serves every key.
    pub fn whole() -> Self {
        Machine::default()
    }

    /// The machine of one group of several, which serves what a configuration gives it.
    pub fn of_group(group: GroupId) -> Self {
        Machine { table: Some(Table::new(group)), ..Machine::default() }
    }

    /// What is stored.
    pub fn store(&self) -> &Store {
        &self.store
    }

    /// Which shards are here, and which on their way. Of a machine that serves everything: none.
    pub fn view(&self) -> View {
        self.table.as_ref().map(Table::view).unwrap_or_default()
    }

    /// The configuration that was taken over last; `None` where there are no shards.
    pub fn configuration(&self) -> Option<&Arc<Configuration>> {
        self.table.as_ref().map(|table| &table.configuration)
    }

    /// The shards whose operations are carried out here.
    pub fn served(&self) -> impl Iterator<Item = ShardId> {
        let table = self.table.as_ref();
        let shards = table.map_or(0, Table::shards);
        (0..shards)
            .map(ShardId)
            .filter(move |shard| table.is_some_and(|table| table.serves(*shard).is_ok()))
    }

    /// The shard that an operation is about, where there are so many.
    fn shard(op: &Op, shards: u16) -> Option<ShardId> {
        Some(ShardId::of_slot(op.hash_slots().next()?.number(), shards))
    }

    fn refuse(&self, op: &Op) -> Option<KvError> {
        let table = self.table.as_ref()?;
        let number = table.configuration.number;
        if table.shards() == 0 {
            return Some(KvError::WrongGroup { ask: GroupId(0), number });
        }
        let mut first = None;
        for slot in op.hash_slots() {
            let shard = ShardId::of_slot(slot.number(), table.shards());
            if *first.get_or_insert(shard) != shard {
                return Some(KvError::CrossShard);
            }
        }
        let ask = table.serves(first?).err()?;
        Some(KvError::WrongGroup { ask, number })
    }

    fn slots(&self, shard: ShardId) -> RangeInclusive<u16> {
        shard.slots(self.table.as_ref().map_or(1, Table::shards))
    }

    fn configure(&mut self, next: Arc<Configuration>, scopes: &mut Scopes<Reply>) -> Reply {
        let Some(table) = &mut self.table else { return Reply::Count(0) };
        if table.may_take_over(&next) {
            let turn = table.take_over(next);
            for shard in turn.dropped {
                scopes.take(shard.0);
                self.discard(shard);
            }
        }
        Reply::Count(self.table.as_ref().map_or(0, |table| table.configuration.number))
    }

    fn give_up(&mut self, shard: ShardId, number: u64, scopes: &mut Scopes<Reply>) -> Reply {
        let slots = self.slots(shard);
        let Some(table) = &mut self.table else { return Reply::Count(0) };
        match table.place(shard) {
            Place::GivenUp(given) => Reply::Count(u64::from(given.0.number == number)),
            Place::Leaving(way) if way.number == number => {
                let way = (**way).clone();
                let (keys, bytes) = self.store.load(slots);
                let sessions = match is_planted(Bug::SessionsStayBehind) {
                    true => Sessions::default(),
                    false => scopes.take(shard.0),
                };
                table.set(shard, Place::GivenUp((way, Load { keys, bytes }, sessions).into()));
                table.changes += 1;
                Reply::Count(1)
            }
            _ => Reply::Count(0),
        }
    }

    fn receive(
        &mut self,
        at: At,
        (shard, number): (ShardId, u64),
        piece: &[u8],
        scopes: &mut Scopes<Reply>,
    ) -> Reply {
        let slots = self.slots(shard);
        let Some(table) = &mut self.table else { return Reply::Count(0) };
        let place = usize::from(shard.0);
        let Some(Place::Awaited(arrival)) = table.places.get_mut(place) else {
            return Reply::Count(0);
        };
        let Ok(piece) = Piece::decode(piece) else { return Reply::Count(0) };
        let right = (piece.shard, piece.number) == (shard, arrival.way.number);
        let known = arrival.total.is_none_or(|total| total == piece.total);
        if arrival.way.number != number || !right || arrival.cursor != piece.after || !known {
            return Reply::Count(0);
        }
        let foreign = |pair: &Pair| !slots.contains(&HashSlot::of(&pair.key).number());
        let twice = |pair: &Pair| self.store.get(&pair.key).is_some();
        if piece.pairs.iter().any(|pair| foreign(pair) || twice(pair)) {
            return Reply::Count(0);
        }
        table.changes += 1;
        arrival.total = Some(piece.total);
        for (client_id, image) in piece.sessions {
            arrival.sessions.adopt(client_id, image, at.time_ms);
        }
        for Pair { key, value, version } in &piece.pairs {
            arrival.here.keys += 1;
            arrival.here.bytes += (key.len() + value.len()) as u64;
            let value = Bytes::copy_from_slice(value);
            self.store.restore(Arc::from(&key[..]), Versioned { value, version: *version });
        }
        if let Some(next) = piece.next {
            arrival.cursor = next;
        } else if arrival.here == piece.total {
            scopes.put(shard.0, std::mem::take(&mut arrival.sessions));
            table.set(shard, Place::Serving);
        } else {
            // Something is missing or too much, and nobody has seen it: from the start.
            (arrival.cursor, arrival.here, arrival.total) = (Cursor::Start, Load::default(), None);
            arrival.sessions = Sessions::default();
            self.discard(shard);
        }
        Reply::Count(1)
    }

    fn delete(&mut self, shard: ShardId, number: u64) -> Reply {
        let Some(table) = &mut self.table else { return Reply::Count(0) };
        match table.place(shard) {
            Place::GivenUp(given) if given.0.number == number => {
                table.set(shard, Place::Absent);
                table.changes += 1;
                self.discard(shard);
                Reply::Count(1)
            }
            _ => Reply::Count(0),
        }
    }

    fn discard(&mut self, shard: ShardId) {
        let former = self.store.bytes();
        let cut = self.store.cut(self.slots(shard));
        let (garbage, bytes) = self.garbage.get_or_insert_default();
        garbage.extend(cut);
        *bytes += former - self.store.bytes();
    }

    fn piece(&self, shard: ShardId, number: u64, after: &Cursor, bytes_max: u32) -> Option<Piece> {
        let Some(Place::GivenUp(given)) = self.table.as_ref().map(|table| table.place(shard))
        else {
            return None;
        };
        let (way, total, sessions) = &**given;
        if way.number != number {
            return None;
        }
        let mut piece = Piece {
            shard,
            number,
            after: after.clone(),
            sessions: vec![],
            pairs: vec![],
            next: None,
            total: *total,
        };
        let bytes_max = bytes_max as usize;
        let mut bytes = 0;
        let (client, key) = match after {
            Cursor::Start => (Some(None), None),
            Cursor::Client(client_id) => (Some(Some(*client_id)), None),
            Cursor::Key(key) => (None, Some(key)),
        };
        if let Some(client) = client {
            for (client_id, image) in sessions.after(client) {
                if bytes >= bytes_max && bytes > 0 {
                    return Some(piece);
                }
                bytes += image.weight();
                piece.sessions.push((client_id, image));
                piece.next = Some(Cursor::Client(client_id));
            }
        }
        for (key, stored) in self.store.pairs_after(self.slots(shard), key) {
            if bytes >= bytes_max && bytes > 0 {
                return Some(piece);
            }
            bytes += key.len() + stored.value.len() + 16;
            let (key, value) = (Key::copy_from_slice(key), stored.value.clone());
            piece.next = Some(Cursor::Key(key.clone()));
            piece.pairs.push(Pair { key, value, version: stored.version });
        }
        piece.next = None;
        Some(piece)
    }
}

impl StateMachine for Machine {
    type Command = Command;
    type Reply = Reply;

    fn is_read(command: &Command) -> bool {
        match command {
            Command::Op(op) => op.is_read(),
            Command::View | Command::Piece { .. } => true,
            _ => false,
        }
    }

    fn scope(&self, command: &Command) -> u16 {
        match (&self.table, command) {
            (None, Command::Op(_)) => 0,
            (Some(table), Command::Op(op)) => {
                Machine::shard(op, table.shards()).map_or(NO_SHARD, |shard| shard.0)
            }
            _ => NO_SHARD,
        }
    }

    fn refusal(&self, command: &Command) -> Option<Reply> {
        match command {
            Command::Op(op) => self.refuse(op).map(Reply::Error),
            _ => None,
        }
    }

    fn apply(&mut self, at: At, command: Command) -> Reply {
        self.apply_among(at, command, &mut Scopes::default())
    }

    fn apply_among(&mut self, at: At, command: Command, scopes: &mut Scopes<Reply>) -> Reply {
        match command {
            Command::Op(op) => self.store.apply(&op),
            Command::Configure(next) => self.configure(next, scopes),
            Command::GiveUp { shard, number } => self.give_up(shard, number, scopes),
            Command::Receive { shard, number, piece } => {
                self.receive(at, (shard, number), &piece, scopes)
            }
            Command::Delete { shard, number } => self.delete(shard, number),
            read @ (Command::View | Command::Piece { .. }) => self.query(&read),
        }
    }

    fn query(&self, command: &Command) -> Reply {
        match command {
            Command::Op(op) => match self.refuse(op) {
                Some(error) => Reply::Error(error),
                None => self.store.query(op),
            },
            Command::Piece { shard, number, after, bytes_max } => {
                let piece = self.piece(*shard, *number, after, *bytes_max);
                Reply::Piece(piece.map(|piece| piece.encode()))
            }
            Command::View => Reply::View(self.view()),
            // K1. A change is no question.
            _ => Reply::Count(0),
        }
    }

    fn stirred(&self) -> u64 {
        self.table.as_ref().map_or(0, |table| table.changes)
    }

    fn take_garbage(&mut self) -> Option<Garbage> {
        let (slots, bytes) = self.garbage.take()?;
        Some(Garbage { what: Box::new(slots), bytes })
    }

    fn size(&self) -> (u64, u64) {
        (self.store.len(), self.store.bytes())
    }

    /// The table behind its length (u32, little-endian), 0 for none; then the store.
    fn snapshot(&self) -> Writer {
        let (table, store) = (self.table.clone(), self.store.snapshot());
        // Encoded on the thread of the files.
        let head = std::iter::once_with(move || {
            let table = table.map(|table| rmp_serde::to_vec(&table));
            let table = table.map(|encoded| encoded.expect("a table is plain data"));
            let table = table.unwrap_or_default();
            Bytes::from([&(table.len() as u32).to_le_bytes()[..], &table].concat())
        });
        Writer::new(head.chain(store.encode_chunks()))
    }

    fn restore() -> Restore<Self> {
        Restore::streamed(MachineRestore { head: vec![], table: None, store: StoreRestore::new() })
    }
}

/// A machine that is being restored.
struct MachineRestore {
    /// Bytes of the table, as far as they have come.
    head: Vec<u8>,
    /// It is read: what follows is the store's.
    table: Option<Option<Table>>,
    store: StoreRestore,
}

impl Restoring<Machine> for MachineRestore {
    fn feed(&mut self, bytes: &[u8]) -> Result<(), String> {
        if self.table.is_some() {
            return self.store.feed(bytes).map_err(|error| error.to_string());
        }
        self.head.extend_from_slice(bytes);
        let Some((len, rest)) = self.head.split_first_chunk::<4>() else { return Ok(()) };
        let Some((table, rest)) = rest.split_at_checked(u32::from_le_bytes(*len) as usize) else {
            return Ok(());
        };
        self.table = Some(match table {
            [] => None,
            table => {
                let table: Table =
                    rmp_serde::from_slice(table).map_err(|error| error.to_string())?;
                Some(table.checked()?)
            }
        });
        let rest = rest.to_vec();
        self.head = vec![];
        self.store.feed(&rest).map_err(|error| error.to_string())
    }

    fn finish(self: Box<Self>) -> Result<Machine, String> {
        let MachineRestore { table, store, .. } = *self;
        let table = table.ok_or("it is cut short")?;
        let store = store.finish().map_err(|error| error.to_string())?;
        Ok(Machine { store, table, garbage: None })
    }
}
