//! Who rules which slots of a log.
//!
//! The configuration is part of the replicated state (PMS, section 3; *Reconfiguring a State Machine*,
//! Lamport, Malkhi and Zhou, 2010, R-alpha): one that is chosen in slot i rules from slot i + [`ALPHA`]
//! on. Who knows everything below a slot knows who rules the next [`ALPHA`] slots from it on.
//!
//! At most one configuration is pending, chosen and not ruling yet: an entry that stands less than
//! [`ALPHA`] above the last one that had an effect is void. So each configuration that has an effect was
//! made out of the one before it, whoever proposed it.

use std::{collections::BTreeMap, fmt};

use quorate_protocol::{
    Configuration, NodeId, encode,
    log::{Index, Position, Proposal, ProposalId},
};

use crate::messages::{Slot, Value};

/// How many slots above its own a configuration begins to rule.
pub const ALPHA: u64 = 256;

/// Bytes that are no configuration, in the place of one.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NoConfiguration(pub String);

impl fmt::Display for NoConfiguration {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "a configuration cannot be read: {}", self.0)
    }
}

impl std::error::Error for NoConfiguration {}

/// A configuration as a proposal of the engine's own: the seqs of all others count from 1.
/// `proposer` and `life` name it, and must do so for good.
pub fn configuration_proposal(
    proposer: NodeId,
    life: u64,
    configuration: &Configuration,
) -> Proposal {
    Proposal { id: ProposalId { node: proposer, life, seq: 0 }, command: encode(configuration) }
}

/// Whether this is the engine's own, and not for the machine.
pub fn is_own(id: ProposalId) -> bool {
    id.seq == 0
}

/// The configuration that a value is, if it is one.
///
/// # Errors
/// What stands there is none, or one that cannot rule. It has no effect, on any replica.
pub fn configuration_of(value: &Value) -> Option<Result<Configuration, NoConfiguration>> {
    let proposal = value.as_ref().filter(|proposal| is_own(proposal.id))?;
    let mut reader = rmp_serde::Deserializer::from_read_ref(&proposal.command[..]);
    let read: Result<Configuration, _> = serde::Deserialize::deserialize(&mut reader);
    let configuration = match read {
        Ok(configuration) => configuration,
        Err(error) => return Some(Err(NoConfiguration(error.to_string()))),
    };
    let refuse = |why: &str| Some(Err(NoConfiguration(why.into())));
    if configuration.voters.is_empty() {
        return refuse("nobody has a vote");
    }
    if configuration.is_joint() {
        return refuse("two of them would rule together");
    }
    Some(Ok(configuration))
}

/// The first slot that the newest configuration of a position rules, if that is above the position.
pub fn pending_until(position: &Position) -> Option<Slot> {
    position.configuration.is_joint().then_some(Slot(position.term.saturating_add(ALPHA)))
}

/// The first slot about whose ruler a position says nothing.
pub fn foreseen(position: &Position) -> Slot {
    Slot(position.index.0.saturating_add(1).saturating_add(ALPHA))
}

/// Who rules a slot above a position and below what it [foresees](foreseen), and the first slot that
/// is known to be ruled by somebody else.
pub fn ruler(position: &Position, slot: Slot) -> (Configuration, Option<Slot>) {
    let newest = &position.configuration;
    match pending_until(position) {
        Some(until) if slot < until => {
            let former = Configuration {
                voters: newest.outgoing.clone(),
                outgoing: [].into(),
                ..newest.clone()
            };
            (former, Some(until))
        }
        _ => (Configuration { outgoing: [].into(), ..newest.clone() }, None),
    }
}

/// Whether this life of a machine was a member before, and is none any more.
pub fn is_former(configuration: &Configuration, node: NodeId) -> bool {
    let last = configuration.lives.get(&node.home()).map_or(0, |life| life.number);
    node.life() <= last && !configuration.members().contains(&node)
}

/// The configurations of a log, from some place on, as far as everything is known.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Membership {
    /// Where knowledge begins.
    base: Position,
    /// Those that stand above and have an effect.
    entries: BTreeMap<Slot, Configuration>,
    /// Every entry below has been seen, or is covered by `base`.
    known: Slot,
}

impl Membership {
    /// Of a group that was formed so: this rules from slot 1 on.
    pub fn formed(configuration: Configuration) -> Self {
        Membership::after(Position { configuration, ..Position::default() })
    }

    /// Of whoever knows a position, and nothing that stands above.
    pub fn after(position: Position) -> Self {
        let known = Slot(position.index.0 + 1);
        Membership { base: position, entries: BTreeMap::new(), known }
    }

    /// Every entry below is taken account of: who rules is known below [`ALPHA`] above this.
    pub fn known(&self) -> Slot {
        self.known
    }

    /// Where knowledge begins.
    pub fn base(&self) -> &Position {
        &self.base
    }

    /// Where the log stands after everything that is known.
    pub fn newest(&self) -> Position {
        self.at(Index(self.known.0 - 1))
    }

    /// Where the log stands at an index, from the base on and below [`Membership::known`]. It depends on
    /// the index alone: the newest configuration that stands there and has an effect; while it does not
    /// rule the next slot, with the voters that do as `outgoing`, and the slot where it stands as `term`.
    pub fn at(&self, index: Index) -> Position {
        let base = &self.base;
        let mut below = self.entries.range(..=Slot(index.0));
        let (entry, newest, former) = match below.next_back() {
            Some((slot, newest)) => {
                let former = below.next_back().map_or(&base.configuration, |(_, former)| former);
                (slot.0, newest, &former.voters)
            }
            None => (base.term, &base.configuration, &base.configuration.outgoing),
        };
        let mut configuration = Configuration { outgoing: [].into(), ..newest.clone() };
        let is_pending = index.0 + 1 < entry.saturating_add(ALPHA) && entry > 0;
        if is_pending {
            configuration.outgoing = former.clone();
        }
        let term = if configuration.is_joint() { entry } else { 0 };
        Position { index, place: index.0, term, configuration }
    }

    /// Takes what was chosen in the slot [`Membership::known`]. Answers whether there is a newer
    /// configuration now.
    ///
    /// # Errors
    /// What stands there is none, though it should be. It has no effect.
    pub fn learn(&mut self, value: &Value) -> Result<bool, NoConfiguration> {
        let slot = self.known;
        let is_void =
            value.as_ref().is_some_and(|p| is_own(p.id)) && self.newest().configuration.is_joint();
        self.known = slot.next();
        match configuration_of(value) {
            None => Ok(false),
            Some(Err(error)) => Err(error),
            Some(Ok(_)) if is_void => Ok(false),
            Some(Ok(configuration)) => {
                self.entries.insert(slot, configuration);
                Ok(true)
            }
        }
    }

    /// Nobody will ask for a position below the one before `slot`.
    pub fn forget(&mut self, slot: Slot) {
        let last = slot.0.min(self.known.0).saturating_sub(1);
        if last > self.base.index.0 {
            self.base = self.at(Index(last));
            self.entries = self.entries.split_off(&Slot(last + 1));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(voters: &[u32]) -> Configuration {
        Configuration::of(voters.iter().copied().map(NodeId))
    }

    fn value(life: u64, voters: &[u32]) -> Value {
        Some(configuration_proposal(NodeId(1), life, &of(voters)))
    }

    fn through(membership: &mut Membership, slot: u64) {
        while membership.known() <= Slot(slot) {
            membership.learn(&None).unwrap();
        }
    }

    fn pending(index: u64, entry: u64, voters: &[u32], outgoing: &[u32]) -> Position {
        let outgoing = outgoing.iter().copied().map(NodeId).collect();
        let configuration = Configuration { outgoing, ..of(voters) };
        Position { index: Index(index), place: index, term: entry, configuration }
    }

    fn ruling(index: u64, voters: &[u32]) -> Position {
        pending(index, 0, voters, &[])
    }

    #[test]
    fn a_configuration_rules_alpha_slots_later() {
        let mut membership = Membership::formed(of(&[1, 2, 3]));
        through(&mut membership, 9);
        assert_eq!(membership.newest(), ruling(9, &[1, 2, 3]));
        assert_eq!(membership.learn(&value(1, &[1, 2, 4])), Ok(true));
        let now = membership.newest();
        assert_eq!(now, pending(10, 10, &[1, 2, 4], &[1, 2, 3]));
        let until = Slot(10 + ALPHA);
        assert_eq!(ruler(&now, Slot(until.0 - 1)), (of(&[1, 2, 3]), Some(until)));
        assert_eq!(ruler(&now, until), (of(&[1, 2, 4]), None));
        through(&mut membership, until.0 - 2);
        assert!(membership.newest().configuration.is_joint());
        through(&mut membership, until.0 - 1);
        assert_eq!(membership.newest(), ruling(until.0 - 1, &[1, 2, 4]));
        assert_eq!(membership.at(Index(9)), ruling(9, &[1, 2, 3]), "it stays what it was");
    }

    #[test]
    fn a_second_one_is_void_while_one_is_pending() {
        let mut membership = Membership::formed(of(&[1, 2, 3]));
        assert_eq!(membership.learn(&value(1, &[1, 2, 4])), Ok(true));
        through(&mut membership, ALPHA - 1);
        assert_eq!(membership.learn(&value(2, &[1, 2])), Ok(false), "the last void slot");
        assert_eq!(membership.newest(), ruling(ALPHA, &[1, 2, 4]));
        assert_eq!(membership.learn(&value(3, &[1, 4])), Ok(true));
        assert_eq!(membership.newest(), pending(ALPHA + 1, ALPHA + 1, &[1, 4], &[1, 2, 4]));
    }

    /// Whoever begins at any position goes on as whoever has seen everything.
    #[test]
    fn a_position_says_all_that_is_needed_to_go_on() {
        let values = |slot: u64| match slot {
            5 => value(1, &[1, 2, 4]),
            100 => value(2, &[7]),
            300 => value(3, &[1, 4]),
            _ => None,
        };
        let mut whole = Membership::formed(of(&[1, 2, 3]));
        for slot in 1..=700 {
            whole.learn(&values(slot)).unwrap();
        }
        for begin in 0..=600 {
            let mut late = Membership::after(whole.at(Index(begin)));
            for slot in begin + 1..=700 {
                late.learn(&values(slot)).unwrap();
                assert_eq!(late.newest(), whole.at(Index(slot)), "from {begin}, at {slot}");
            }
            let mut short = whole.clone();
            short.forget(Slot(begin + 1));
            assert_eq!(short.at(Index(begin)), whole.at(Index(begin)));
            assert_eq!(short.newest(), whole.newest());
        }
    }

    #[test]
    fn what_is_no_configuration_has_no_effect() {
        let joint = Configuration { outgoing: [NodeId(1)].into(), ..of(&[2]) };
        let bytes = |command: &[u8]| Some(Proposal { command: command.to_vec().into(), ..own() });
        fn own() -> Proposal {
            configuration_proposal(NodeId(1), 1, &Configuration::default())
        }
        let values = [
            Some(own()),
            Some(configuration_proposal(NodeId(1), 1, &joint)),
            bytes(b"\xc1 no encoding"),
            bytes(b""),
        ];
        for value in values {
            let mut membership = Membership::formed(of(&[1, 2, 3]));
            assert!(membership.learn(&value).is_err(), "{value:?}");
            assert_eq!(membership.newest(), ruling(1, &[1, 2, 3]));
        }
        let client = Proposal { id: ProposalId { seq: 1, ..own().id }, ..own() };
        assert_eq!(configuration_of(&Some(client)), None);
    }

    #[test]
    fn a_former_life_is_known_for_one() {
        use quorate_protocol::{Change, Incarnation, Member};
        let member = Member { node: NodeId(3), incarnation: Incarnation(7) };
        let replaced = of(&[1, 2, 3]).after(&Change::Replace(member)).unwrap();
        assert!(is_former(&replaced, NodeId(3)));
        assert!(!is_former(&replaced, NodeId(3).in_life(1)));
        assert!(!is_former(&replaced, NodeId(3).in_life(2)), "not heard of yet");
        assert!(is_former(&replaced, NodeId(9)), "removed: life 0 is of those who formed it");
    }
}
