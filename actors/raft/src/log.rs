//! The log: where it begins, and the entries after that.

use std::collections::{BTreeMap, VecDeque};

use quorate_protocol::{
    Configuration,
    log::{Index, Position},
    planted::{Bug, is_planted},
};

use crate::messages::{Entry, Payload, Place, Term};

/// What an encoded entry takes at most, besides the command in it.
const ENTRY_BYTES: u64 = 56;
/// What a node's number takes at most in a configuration.
const NODE_BYTES: u64 = 5;

/// An entry, and the index of the last command up to it.
#[derive(Clone, Debug)]
struct Kept {
    entry: Entry,
    index: Index,
}

/// The log of one peer, from its base on.
#[derive(Clone, Debug)]
pub struct Log {
    base: Position,
    entries: VecDeque<Kept>,
    /// The configurations among the entries.
    configurations: BTreeMap<Place, Configuration>,
    bytes: u64,
}

fn bytes(entry: &Entry) -> u64 {
    ENTRY_BYTES
        + match &entry.payload {
            Payload::NoOp => 0,
            Payload::Command(proposal) => proposal.command.len() as u64,
            Payload::Configuration(configuration) => {
                let nodes = configuration.voters.len()
                    + configuration.outgoing.len()
                    + configuration.learners.len();
                nodes as u64 * NODE_BYTES
            }
        }
}

impl Log {
    /// A log that begins, and ends, at `base`.
    pub fn new(base: Position) -> Self {
        let (entries, configurations) = (VecDeque::new(), BTreeMap::new());
        Log { base, entries, configurations, bytes: 0 }
    }

    /// Where it begins: everything through this position is in a snapshot.
    pub fn base(&self) -> &Position {
        &self.base
    }

    /// The place of its base: the entry after it is the first that is kept.
    pub fn base_place(&self) -> Place {
        Place(self.base.place)
    }

    /// The place of its last entry.
    pub fn last(&self) -> Place {
        Place(self.base.place + self.entries.len() as u64)
    }

    /// The term of its last entry.
    pub fn last_term(&self) -> Term {
        self.entries.back().map_or(Term(self.base.term), |kept| kept.entry.term)
    }

    /// Bytes of the kept entries, encoded; a little more rather than less.
    pub fn bytes(&self) -> u64 {
        self.bytes
    }

    fn kept(&self, place: Place) -> Option<&Kept> {
        let at = place.0.checked_sub(self.base.place + 1)?;
        self.entries.get(usize::try_from(at).ok()?)
    }

    /// The entry at a place.
    pub fn get(&self, place: Place) -> Option<&Entry> {
        self.kept(place).map(|kept| &kept.entry)
    }

    /// The term of the entry at a place, the base included; `None` beyond.
    pub fn term_at(&self, place: Place) -> Option<Term> {
        if place == self.base_place() {
            return Some(Term(self.base.term));
        }
        self.get(place).map(|entry| entry.term)
    }

    /// The index of the last command through a place that is at least the base.
    pub fn index_at(&self, place: Place) -> Index {
        let at = place.min(self.last());
        self.kept(at).map_or(self.base.index, |kept| kept.index)
    }

    /// The first place whose commands reach `index`: where that command stands, if it is kept.
    pub fn place_of(&self, index: Index) -> Place {
        let before = self.entries.partition_point(|kept| kept.index < index);
        Place(self.base.place + before as u64).next()
    }

    /// The first place with the same term as `place`, as far as it is kept.
    pub fn first_of_term(&self, place: Place) -> Place {
        let Some(term) = self.term_at(place) else { return place };
        let before = self.entries.partition_point(|kept| kept.entry.term < term);
        Place(self.base.place + before as u64).next().min(place)
    }

    /// The last place with this term, the base included; `None` if there is none.
    pub fn last_of_term(&self, term: Term) -> Option<Place> {
        let through = self.entries.partition_point(|kept| kept.entry.term <= term);
        let place = Place(self.base.place + through as u64);
        (self.term_at(place) == Some(term)).then_some(place)
    }

    /// The newest configuration, and its place: it rules from the moment it is in the log, whether
    /// it is committed or not (section 6).
    pub fn configuration(&self) -> (&Configuration, Place) {
        self.configuration_at(self.last())
    }

    /// The configuration that rules after the entry at `place`, and where it stands.
    pub fn configuration_at(&self, place: Place) -> (&Configuration, Place) {
        match self.configurations.range(..=place).next_back() {
            Some((place, configuration)) => (configuration, *place),
            None => (&self.base.configuration, self.base_place()),
        }
    }

    /// What describes the prefix that ends at a place, the base or later.
    pub fn position(&self, place: Place) -> Position {
        let place = place.min(self.last()).max(self.base_place());
        let term = match is_planted(Bug::PositionOfALaterTerm) {
            true => self.last_term(),
            false => self.term_at(place).unwrap_or_default(),
        };
        Position {
            index: self.index_at(place),
            place: place.0,
            term: term.0,
            configuration: self.configuration_at(place).0.clone(),
        }
    }

    /// Where a message that begins at `from` ends, if it takes so many entries and bytes at most:
    /// one entry at least, if there is one.
    pub fn batch_end(&self, from: Place, entries_max: usize, bytes_max: u64) -> Place {
        let (mut end, mut size) = (from.before(), 0);
        for _ in 0..entries_max {
            let Some(entry) = self.get(end.next()) else { break };
            size += bytes(entry);
            if size > bytes_max && end >= from {
                break;
            }
            end = end.next();
        }
        end
    }

    /// The entries after `after`, through `through`.
    pub fn slice(&self, after: Place, through: Place) -> Vec<Entry> {
        (after.0 + 1..=through.0).filter_map(|place| self.get(Place(place)).cloned()).collect()
    }

    /// Adds an entry behind the last one.
    pub fn append(&mut self, entry: Entry) {
        let command = matches!(entry.payload, Payload::Command(_));
        let index = Index(self.index_at(self.last()).0 + u64::from(command));
        self.bytes += bytes(&entry);
        let place = self.last().next();
        if let Payload::Configuration(configuration) = &entry.payload {
            self.configurations.insert(place, configuration.clone());
        }
        self.entries.push_back(Kept { entry, index });
    }

    /// Drops the entries from a place on.
    pub fn truncate(&mut self, from: Place) {
        while self.last() >= from
            && let Some(kept) = self.entries.pop_back()
        {
            self.bytes -= bytes(&kept.entry);
        }
        self.configurations.split_off(&from);
    }

    /// Drops the entries through a place, which becomes the base.
    pub fn compact(&mut self, through: Place) {
        let base = self.position(through);
        while self.base.place < base.place
            && let Some(kept) = self.entries.pop_front()
        {
            self.bytes -= bytes(&kept.entry);
            self.base.place += 1;
        }
        self.base = base;
        self.configurations = self.configurations.split_off(&self.base_place().next());
    }
}

#[cfg(test)]
mod tests {
    use quorate_protocol::{
        NodeId,
        log::{Proposal, ProposalId},
    };

    use super::*;

    fn command(term: u64, seq: u64) -> Entry {
        let id = ProposalId { node: NodeId(1), life: 1, seq };
        let command = vec![0; 10].into();
        Entry { term: Term(term), payload: Payload::Command(Proposal { id, command }) }
    }

    fn log() -> Log {
        let mut log = Log::new(Position::default());
        for (term, is_command) in [(1, false), (1, true), (1, true), (3, false), (3, true)] {
            match is_command {
                true => log.append(command(term, log.last().0)),
                false => log.append(Entry { term: Term(term), payload: Payload::NoOp }),
            }
        }
        log
    }

    #[test]
    fn indexes_count_commands_and_places_count_all() {
        let log = log();
        let indexes: Vec<u64> = (0..=5).map(|place| log.index_at(Place(place)).0).collect();
        assert_eq!(indexes, [0, 0, 1, 2, 2, 3]);
        assert_eq!(log.place_of(Index(1)), Place(2));
        assert_eq!(log.place_of(Index(3)), Place(5));
        assert_eq!(log.place_of(Index(4)), Place(6));
        assert_eq!(log.position(Place(4)).to_string(), "2@4t3");
    }

    #[test]
    fn terms_are_found_also_after_the_log_was_cut() {
        let mut log = log();
        assert_eq!(log.first_of_term(Place(3)), Place(1));
        assert_eq!(log.first_of_term(Place(5)), Place(4));
        assert_eq!(log.last_of_term(Term(1)), Some(Place(3)));
        assert_eq!(log.last_of_term(Term(2)), None);
        assert_eq!(log.last_of_term(Term(3)), Some(Place(5)));
        let all = log.bytes();
        log.compact(Place(3));
        assert_eq!((log.base().to_string(), log.last()), ("2@3t1".into(), Place(5)));
        assert_eq!(log.term_at(Place(2)), None);
        assert_eq!(log.last_of_term(Term(1)), Some(Place(3)));
        assert_eq!(log.index_at(Place(5)), Index(3));
        assert!(log.bytes() < all);
        log.truncate(Place(4));
        assert_eq!((log.last(), log.last_term(), log.bytes()), (Place(3), Term(1), 0));
    }

    #[test]
    fn the_newest_configuration_rules_until_it_is_cut_off() {
        let mut log = log();
        let first = Configuration::of([NodeId(1)]);
        let second = Configuration::of([NodeId(2)]);
        for configuration in [&first, &second] {
            let payload = Payload::Configuration(configuration.clone());
            log.append(Entry { term: Term(3), payload });
        }
        assert_eq!(log.configuration(), (&second, Place(7)));
        log.truncate(Place(7));
        assert_eq!(log.configuration(), (&first, Place(6)));
        log.compact(Place(6));
        assert_eq!(log.configuration(), (&first, Place(6)));
        assert_eq!(log.base().configuration, first);
    }

    #[test]
    fn a_message_takes_one_entry_at_least() {
        let log = log();
        assert_eq!(log.batch_end(Place(2), 2, 1000), Place(3));
        assert_eq!(log.batch_end(Place(2), 9, 1), Place(2));
        assert_eq!(log.batch_end(Place(6), 9, 1000), Place(5));
        assert_eq!(log.slice(Place(3), Place(5)).len(), 2);
    }
}
