//! One key's operations prepared for the search: values become fingerprints, moments become places
//! in one sequence of events, and what every read tells about the writes is worked out once.

use std::collections::{BTreeMap, BTreeSet};

use crate::fingerprint::{Prefixes, Print, Suffix};
use crate::lineage::{self, Group};
use crate::operation::{Input, Operation, Output};

/// What a key holds, as far as the search must know.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct State {
    /// Whether the key is there.
    pub(crate) is_present: bool,
    /// Its version; 0 when absent, or when no operation of the history speaks of versions.
    pub(crate) version: u64,
    /// Its value.
    pub(crate) print: Print,
}

/// What a completed operation that changes nothing saw.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Seen {
    /// A value, and perhaps its version.
    Value { print: Print, version: Option<u64> },
    /// No key: a Get, a Delete, a versioned Put that met ErrNoKey.
    Absent,
    /// A present key at another version than this: ErrVersion.
    NotVersion(u64),
}

/// What an operation does to the key.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Change {
    Put { print: Print },
    Append { suffix: Suffix, length: Option<u64> },
    Delete,
    Cas { print: Print, version: u64 },
}

/// The part that an operation plays.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Role {
    /// Changes nothing and saw something.
    Read(Seen),
    /// Changes the key.
    Write(Change),
    /// Got an answer that its question cannot have.
    Impossible,
}

/// An operation in the plan. Operations are named by their place in order of invocation.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Step {
    pub(crate) role: Role,
    /// The event of its return; [`NEVER`] when its outcome is unknown.
    pub(crate) returned: u32,
    /// A write that fixes the whole state: its class.
    pub(crate) class: Option<u32>,
    /// A read of a value or of absence: its family, and its place in it.
    pub(crate) family: Option<(u32, u32)>,
    /// An operation of unknown outcome: the one before it that is just the same.
    pub(crate) twin: Option<u32>,
    /// A write whose value was read with a version that nothing else explains: that version.
    pub(crate) target: Option<u64>,
    /// A write that alone explains some reads: the first event at which one of them returns, and
    /// which. By then the write must have taken effect.
    pub(crate) due: Option<(u32, u32)>,
    /// The same: the last event at which one of them is invoked, and which. Until then no other
    /// write may fix the state.
    pub(crate) holds_until: Option<(u32, u32)>,
    /// A read of a value, when there are appends: its group, and its place in it.
    pub(crate) group: Option<(u32, u32)>,
    /// An append: its token.
    pub(crate) token: Option<u32>,
    /// An append that every value of a group beyond some length must contain: the group, and the
    /// length of the value that it was appended to.
    pub(crate) pin: Option<(u32, u64)>,
}

/// The return of an operation whose outcome is unknown.
pub(crate) const NEVER: u32 = u32::MAX;

/// The class of the writes that leave the key absent.
pub(crate) const ABSENT: u32 = 0;

/// What happens at one place in the sequence.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Event {
    Invoke(u32),
    Return(u32),
}

/// Writes that fix the whole state and leave the same value behind.
#[derive(Clone, Debug, Default)]
pub(crate) struct Class {
    /// How many writes.
    pub(crate) writers: u32,
    /// The last of them.
    pub(crate) writer: u32,
    /// The length of the value.
    pub(crate) length: u64,
    /// The families that may descend from this class.
    pub(crate) families: Vec<u32>,
}

/// Reads that may descend from the same classes: between the write of one of those classes and the
/// read, there were only appends.
#[derive(Clone, Debug)]
pub(crate) struct Family {
    pub(crate) roots: Vec<u32>,
    /// The reads, those of longer values first.
    pub(crate) reads: Vec<u32>,
}

/// A key ready to be searched.
#[derive(Debug)]
pub(crate) struct Plan<'a> {
    /// The operations in order of invocation; reads of unknown outcome are left out.
    pub(crate) source: Vec<&'a Operation>,
    pub(crate) steps: Vec<Step>,
    pub(crate) events: Vec<Event>,
    pub(crate) classes: Vec<Class>,
    pub(crate) families: Vec<Family>,
    /// With appends: what the values that were read tell about them.
    pub(crate) groups: Vec<Group>,
    /// How many different values are appended.
    pub(crate) tokens: usize,
    /// Whether some values were too much work to take apart: any append may be in them.
    pub(crate) is_opaque: bool,
    /// Which write leads to a version, where that is certain.
    pub(crate) owners: BTreeMap<u64, u32>,
    /// Where the key begins.
    pub(crate) initial: State,
    /// Whether versions are part of the state.
    pub(crate) has_versions: bool,
    pub(crate) has_appends: bool,
    /// Whether an append told the length of the value.
    pub(crate) has_lengths: bool,
    /// Whether only Gets observe anything, and only values, and nothing is deleted: then a Put that
    /// no read descends from, or an append that no read contains, can happen just before any Put.
    pub(crate) is_blind: bool,
    /// Whether an answer does not fit its question.
    pub(crate) is_impossible: bool,
    /// With appends: the reads of values in order of return, each with its event.
    pub(crate) value_returns: Vec<(u32, u32)>,
}

/// The part that an operation plays.
fn role(op: &Operation) -> Role {
    let print = |value: &[u8]| Print::of(value);
    match (&op.input, op.output()) {
        (Input::Get, Some(Output::Value { value, version })) if *version != Some(0) => {
            Role::Read(Seen::Value { print: print(value), version: *version })
        }
        (Input::Get, Some(Output::Absent)) => Role::Read(Seen::Absent),
        (Input::Put { value }, None | Some(Output::Done)) => {
            Role::Write(Change::Put { print: print(value) })
        }
        (Input::Append { value }, None | Some(Output::Done)) => {
            Role::Write(Change::Append { suffix: Suffix::of(value), length: None })
        }
        (Input::Append { value }, Some(Output::Length(length))) => {
            Role::Write(Change::Append { suffix: Suffix::of(value), length: Some(*length) })
        }
        (Input::Delete, None | Some(Output::Deleted { present: true })) => {
            Role::Write(Change::Delete)
        }
        (Input::Delete, Some(Output::Deleted { present: false })) => Role::Read(Seen::Absent),
        (Input::Cas { value, version }, None) => {
            Role::Write(Change::Cas { print: print(value), version: *version })
        }
        (Input::Cas { value, version }, Some(Output::Stored { version: new }))
            if version.checked_add(1) == Some(*new) =>
        {
            Role::Write(Change::Cas { print: print(value), version: *version })
        }
        (Input::Cas { version, .. }, Some(Output::ErrVersion)) => {
            Role::Read(Seen::NotVersion(*version))
        }
        (Input::Cas { version, .. }, Some(Output::ErrNoKey)) if *version > 0 => {
            Role::Read(Seen::Absent)
        }
        _ => Role::Impossible,
    }
}

impl<'a> Plan<'a> {
    /// Prepares the operations of one key that begins in a state.
    pub(crate) fn new(ops: impl Iterator<Item = &'a Operation>, initial: State) -> Self {
        let mut source: Vec<&Operation> =
            ops.filter(|op| !op.input.is_read() || op.output().is_some()).collect();
        source.sort_by_key(|op| op.invoked);
        let steps: Vec<Step> = source
            .iter()
            .map(|op| Step {
                role: role(op),
                returned: NEVER,
                class: None,
                family: None,
                twin: None,
                target: None,
                due: None,
                holds_until: None,
                group: None,
                token: None,
                pin: None,
            })
            .collect();
        let has_versions = source.iter().any(|op| op.speaks_of_versions());
        let spoils_blindness = |step: &Step| {
            let Role::Write(change) = step.role else { return false };
            matches!(change, Change::Delete | Change::Append { length: Some(_), .. })
        };
        let is_append = |step: &Step| matches!(step.role, Role::Write(Change::Append { .. }));
        let mut plan = Plan {
            has_versions,
            has_appends: steps.iter().any(is_append),
            has_lengths: source.iter().any(|op| matches!(op.output(), Some(Output::Length(_)))),
            is_blind: !has_versions && !steps.iter().any(spoils_blindness),
            is_impossible: steps.iter().any(|step| matches!(step.role, Role::Impossible)),
            initial: State { version: if has_versions { initial.version } else { 0 }, ..initial },
            source,
            steps,
            events: Vec::new(),
            classes: vec![Class::default()],
            families: Vec::new(),
            groups: Vec::new(),
            tokens: 0,
            is_opaque: false,
            owners: BTreeMap::new(),
            value_returns: Vec::new(),
        };
        plan.order_events();
        plan.find_twins();
        let lengths = plan.find_classes();
        plan.find_families(&lengths);
        lineage::find(&mut plan);
        for (family, members) in plan.families.iter().enumerate() {
            for root in &members.roots {
                plan.classes[*root as usize].families.push(family as u32);
            }
        }
        plan.find_targets();
        let invoked = plan.invocations();
        plan.find_dues(&invoked);
        plan.is_impossible |= plan.zones_clash(&invoked);
        plan
    }

    /// Puts invocations and returns in order; at one moment invocations come first.
    fn order_events(&mut self) {
        let mut moments: Vec<(u64, bool, u32)> = Vec::with_capacity(self.steps.len() * 2);
        for (place, op) in self.source.iter().enumerate() {
            moments.push((op.invoked, false, place as u32));
            moments.extend(op.returned().map(|at| (at, true, place as u32)));
        }
        moments.sort_unstable();
        for (place, (_, is_return, op)) in moments.into_iter().enumerate() {
            if !is_return {
                self.events.push(Event::Invoke(op));
                continue;
            }
            self.events.push(Event::Return(op));
            self.steps[op as usize].returned = place as u32;
            let reads_value =
                matches!(self.steps[op as usize].role, Role::Read(Seen::Value { .. }));
            if self.has_appends && reads_value {
                self.value_returns.push((place as u32, op));
            }
        }
    }

    /// Two operations of unknown outcome that do the same are interchangeable, once both are
    /// invoked: the search takes the older one first.
    fn find_twins(&mut self) {
        let mut last: BTreeMap<(u8, Print, u64), u32> = BTreeMap::new();
        for (place, step) in self.steps.iter_mut().enumerate() {
            let Role::Write(change) = step.role else { continue };
            if step.returned == NEVER {
                let kind = match change {
                    Change::Put { print } => (0, print, 0),
                    Change::Append { suffix, .. } => (1, suffix.print(), 0),
                    Change::Delete => (2, Print::default(), 0),
                    Change::Cas { print, version } => (3, print, version),
                };
                step.twin = last.insert(kind, place as u32);
            }
        }
    }

    /// Gives each write that fixes the state its class. Returns the classes by value.
    fn find_classes(&mut self) -> BTreeMap<Print, u32> {
        let mut by_print = BTreeMap::new();
        for (place, step) in self.steps.iter_mut().enumerate() {
            let (class, length) = match step.role {
                Role::Write(Change::Put { print } | Change::Cas { print, .. }) => {
                    let next = self.classes.len() as u32;
                    (*by_print.entry(print).or_insert(next), print.len)
                }
                Role::Write(Change::Delete) => (ABSENT, 0),
                _ => continue,
            };
            if class as usize == self.classes.len() {
                self.classes.push(Class::default());
            }
            let entry = &mut self.classes[class as usize];
            entry.writers += 1;
            entry.length = length;
            entry.writer = place as u32;
            step.class = Some(class);
        }
        by_print
    }

    /// Gathers the reads by the classes that they may descend from.
    fn find_families(&mut self, by_print: &BTreeMap<Print, u32>) {
        let lengths: BTreeSet<u64> = by_print.keys().map(|print| print.len).collect();
        let mut by_roots: BTreeMap<(bool, Vec<u32>), u32> = BTreeMap::new();
        for place in 0..self.steps.len() {
            let Role::Read(seen) = self.steps[place].role else { continue };
            let (is_absent, roots) = match seen {
                Seen::Absent => (true, vec![ABSENT]),
                Seen::Value { print, .. } => (false, self.roots(place, print, by_print, &lengths)),
                Seen::NotVersion(_) => continue,
            };
            let next = self.families.len() as u32;
            let family = *by_roots.entry((is_absent, roots)).or_insert(next);
            if family == next {
                self.families.push(Family { roots: Vec::new(), reads: Vec::new() });
            }
            self.families[family as usize].reads.push(place as u32);
        }
        for ((_, roots), family) in by_roots {
            self.families[family as usize].roots = roots;
        }
        for (family, members) in self.families.iter_mut().enumerate() {
            let length = |read: &u32| self.source[*read as usize].output().map_or(0, value_length);
            members.reads.sort_by_key(|read| std::cmp::Reverse(length(read)));
            for (rank, read) in members.reads.iter().enumerate() {
                self.steps[*read as usize].family = Some((family as u32, rank as u32));
            }
        }
    }

    /// The classes whose value begins this one, in order. Without appends: whose value this is.
    fn roots(
        &self,
        place: usize,
        print: Print,
        by_print: &BTreeMap<Print, u32>,
        lengths: &BTreeSet<u64>,
    ) -> Vec<u32> {
        if !self.has_appends {
            return by_print.get(&print).copied().into_iter().collect();
        }
        let Some(Output::Value { value, .. }) = self.source[place].output() else {
            return Vec::new();
        };
        // Appends make a value out of nothing too.
        let mut roots =
            if self.classes[ABSENT as usize].writers > 0 { vec![ABSENT] } else { Vec::new() };
        let mut prefix = Print::default();
        for length in lengths.range(..=print.len) {
            prefix = prefix.then(&value[prefix.len as usize..*length as usize]);
            roots.extend(by_print.get(&prefix));
        }
        roots.sort_unstable();
        roots
    }

    /// Works out which write led to which version, where the answers leave no choice.
    fn find_targets(&mut self) {
        if !self.has_versions {
            return;
        }
        for family in self.families.iter().filter(|_| !self.has_appends) {
            let [root] = family.roots[..] else { continue };
            let class = &self.classes[root as usize];
            if root == ABSENT || class.writers != 1 {
                continue;
            }
            for read in &family.reads {
                let Role::Read(Seen::Value { print, version: Some(version) }) =
                    self.steps[*read as usize].role
                else {
                    continue;
                };
                if !(self.initial.is_present && self.initial.print == print) {
                    self.steps[class.writer as usize].target = Some(version);
                }
            }
        }
        // Deletion forgets the version: only without it does each version come once.
        if self.classes[ABSENT as usize].writers > 0 {
            return;
        }
        for (place, step) in self.steps.iter().enumerate() {
            if let Role::Write(Change::Cas { version, .. }) = step.role
                && step.returned != NEVER
            {
                self.owners.insert(version + 1, place as u32);
            }
            if let Some(target) = step.target {
                self.owners.insert(target, place as u32);
            }
        }
    }

    /// The event at which each operation is invoked.
    fn invocations(&self) -> Vec<u32> {
        let mut invoked = vec![0; self.steps.len()];
        for (place, event) in self.events.iter().enumerate() {
            if let Event::Invoke(op) = event {
                invoked[*op as usize] = place as u32;
            }
        }
        invoked
    }

    /// Works out how long each write can wait, and how long its value must stand.
    fn find_dues(&mut self, invoked: &[u32]) {
        for family in &self.families {
            let [root] = family.roots[..] else { continue };
            let class = &self.classes[root as usize];
            if root == ABSENT || class.writers != 1 {
                continue;
            }
            for read in &family.reads {
                let returned = (self.steps[*read as usize].returned, *read);
                let asked = (invoked[*read as usize], *read);
                let writer = &mut self.steps[class.writer as usize];
                writer.due = Some(writer.due.map_or(returned, |due| due.min(returned)));
                writer.holds_until = writer.holds_until.max(Some(asked));
            }
        }
        self.find_dues_of_pinned(invoked);
    }

    /// The same for appends that every longer value of a group contains.
    fn find_dues_of_pinned(&mut self, invoked: &[u32]) {
        let mut pinned: BTreeMap<u32, Vec<(u64, u32)>> = BTreeMap::new();
        for (place, step) in self.steps.iter().enumerate() {
            if let Some((group, length)) = step.pin {
                pinned.entry(group).or_default().push((length, place as u32));
            }
        }
        for (group, mut appends) in pinned {
            // Both from the longest on: what a read demands, it demands of all before it.
            appends.sort_unstable_by(|a, b| b.cmp(a));
            let mut reads = self.groups[group as usize].reads.iter().peekable();
            let (mut due, mut holds_until): (Option<(u32, u32)>, _) = (None, None);
            for (length, append) in appends {
                let source = &self.source;
                let contains = |read: &&u32| {
                    source[**read as usize].output().map_or(0, value_length) as u64 > length
                };
                while let Some(read) = reads.next_if(contains) {
                    let returned = (self.steps[*read as usize].returned, *read);
                    due = Some(due.map_or(returned, |due| due.min(returned)));
                    holds_until = holds_until.max(Some((invoked[*read as usize], *read)));
                }
                let step = &mut self.steps[append as usize];
                (step.due, step.holds_until) = (due, holds_until);
            }
        }
    }

    /// Whether a value must stand while another write must happen. From the moment a write is due
    /// to its last read is its zone (Gibbons & Korach, *Testing Shared Memories*, 1997): no other
    /// write that fixes the state fits inside, and without appends no two zones overlap. A search
    /// would find out as well, having tried every order of what came before.
    fn zones_clash(&self, invoked: &[u32]) -> bool {
        let is_initial = |place: usize| {
            let class = self.steps[place].class.map(|class| &self.classes[class as usize]);
            class.is_some_and(|class| {
                self.initial.is_present && class.length == self.initial.print.len
            })
        };
        // Whether the reads that give a write its due are its own and nothing else's.
        let is_certain = |place: usize| {
            self.steps[place].pin.is_some() || !self.has_appends && !is_initial(place)
        };
        let due = |place: usize| match self.steps[place].due {
            Some((due, _)) if is_certain(place) => due.min(self.steps[place].returned),
            _ => self.steps[place].returned,
        };
        // The earliest due of all writes that are invoked at this place or later.
        let mut earliest = vec![NEVER; self.steps.len() + 1];
        for place in (0..self.steps.len()).rev() {
            let fixes = self.steps[place].class.is_some();
            earliest[place] = earliest[place + 1].min(if fixes { due(place) } else { NEVER });
        }
        let mut zones = Vec::new();
        for (place, step) in self.steps.iter().enumerate() {
            let Some((end, _)) = step.holds_until.filter(|_| is_certain(place)) else { continue };
            let start = due(place);
            let after = invoked.partition_point(|invoked| *invoked < start);
            if earliest[after] < end {
                return true;
            }
            if !self.has_appends && start < end {
                zones.push((start, end));
            }
        }
        zones.sort_unstable();
        zones.windows(2).any(|pair| pair[1].0 < pair[0].1)
    }

    /// How long the value is that an operation read.
    pub(crate) fn value_length(&self, read: u32) -> u64 {
        self.source[read as usize].output().map_or(0, value_length) as u64
    }

    /// The state that a write leaves behind; none when its answer forbids it to happen here.
    pub(crate) fn after(&self, op: u32, state: State) -> Option<State> {
        let step = &self.steps[op as usize];
        let Role::Write(change) = step.role else { return None };
        let version = if self.has_versions { state.version + 1 } else { 0 };
        let next = match change {
            Change::Put { print } => State { is_present: true, version, print },
            Change::Append { suffix, length } => {
                let print = suffix.after(state.print);
                if length.is_some_and(|length| length != print.len) {
                    return None;
                }
                State { is_present: true, version, print }
            }
            Change::Delete if state.is_present => return Some(State::default()),
            Change::Cas { print, version: stored } if stored == state.version => {
                State { is_present: true, version, print }
            }
            Change::Delete | Change::Cas { .. } => return None,
        };
        let is_on_target = step.target.is_none_or(|target| target == version);
        let is_owner = self.owners.get(&version).is_none_or(|owner| *owner == op);
        (is_on_target && is_owner).then_some(next)
    }
}

impl Seen {
    /// Whether this would be seen in a state.
    pub(crate) fn matches(&self, state: State) -> bool {
        match *self {
            Seen::Value { print, version } => {
                state.is_present
                    && state.print == print
                    && version.is_none_or(|version| version == state.version)
            }
            Seen::Absent => !state.is_present,
            Seen::NotVersion(version) => state.is_present && state.version != version,
        }
    }
}

/// How long the value is that was read.
fn value_length(output: &Output) -> usize {
    match output {
        Output::Value { value, .. } => value.len(),
        _ => 0,
    }
}

/// Tables of the prefixes of values that were read, made when first asked for.
#[derive(Debug, Default)]
pub(crate) struct Tables {
    by_read: BTreeMap<u32, Prefixes>,
}

impl Tables {
    /// Whether a value begins the one that was read.
    pub(crate) fn begins(&mut self, plan: &Plan<'_>, read: u32, prefix: Print) -> bool {
        match plan.source[read as usize].output() {
            Some(Output::Value { value, .. }) => {
                let table = self.by_read.entry(read).or_insert_with(|| Prefixes::of(value));
                table.begins_with(value, prefix)
            }
            _ => false,
        }
    }
}
