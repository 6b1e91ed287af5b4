//! The search for a linearization of one key.
//!
//! Wing & Gong (1993) with Lowe's just-in-time order (2017): walk along the events; only when an
//! operation returns that has not yet taken effect, choose pending operations to take effect, the
//! last of them the one that returns. A configuration - which operations took effect, and the
//! state - that led nowhere is never tried again. The stack is explicit; going back undoes a trail.
//!
//! Most histories would still be hopeless without what the answers say in advance. The rules, each
//! of which keeps at least one linearization if there is one:
//!
//! S1. A read takes effect as soon as the state agrees: it disturbs nobody.
//! S2. When no write is left that could begin the string a read saw, the state must be a prefix of
//!     that string until the read has taken effect (equal to it, when the key has no appends).
//! S3. A write whose version is known from answers happens at that version and no other does.
//! S4. A write that alone explains some reads waits for all others that fix the state, and appends
//!     that no read contains, which are due before the last of those reads is invoked: in between,
//!     there is no room for them.
//! S5. Where only Gets observe, and only values, and nothing is deleted: a Put that no remaining
//!     read can descend from, or an append that none can contain, happens just before the next Put,
//!     where nobody looks.
//! S6. Without versions, an operation of unknown outcome that a later write hides, unobserved, did
//!     not happen. Of two that are the same, the older happens first. Without lengths, one that no
//!     remaining read can show happens only to an absent key, which it makes present.
//! S7. An append that stands at one place in every way to explain a read waits for that place. Once
//!     it took effect, rule S2 holds for that read too.

use std::collections::BTreeSet;

use crate::fingerprint::{scatter, scatter_wide};
use crate::memo::Memo;
use crate::plan::{Change, Event, NEVER, Plan, Role, Seen, State, Step, Tables};

/// What one key may still cost.
pub(crate) struct Meter<'m> {
    /// Attempts to let an operation take effect.
    pub(crate) steps: u64,
    /// Configurations that may be remembered.
    pub(crate) configurations: usize,
    /// Asked now and then whether to go on.
    pub(crate) go_on: &'m mut dyn FnMut() -> bool,
}

/// How a search ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Found {
    /// The operations in an order that explains every answer.
    Order(Vec<u32>),
    /// There is no such order.
    Nothing,
    /// The steps ran out.
    OutOfSteps,
    /// The memory ran out.
    OutOfMemory,
    /// The caller had enough.
    Stopped,
}

/// How many steps lie between two questions whether to go on.
const STEPS_BETWEEN_QUESTIONS: u64 = 1 << 12;

/// How many of the next reads are looked at for one that has not taken effect.
const GUIDES_MAX: usize = 64;

/// The three lists of operations that are pending and have not taken effect.
const READS: usize = 0;
const KNOWN: usize = 1;
const UNKNOWN: usize = 2;
const LISTS: usize = 3;

/// Something that going back must undo.
#[derive(Clone, Copy)]
enum Mark {
    Invoked(u32),
    Read { op: u32, was_loose: bool },
    Wrote(u32),
}

/// A return at which a choice is open.
struct Frame {
    /// The operation that must take effect here.
    required: u32,
    event: usize,
    trail: usize,
    /// The configuration, for the memo.
    memo: u128,
    /// What is tried first, if anything stood out.
    preferred: Option<u32>,
    /// The other candidates, worked out when the first was not the one; the next is last.
    candidates: Option<Vec<u32>>,
}

/// A search under way.
pub(crate) struct Search<'p, 'a> {
    plan: &'p Plan<'a>,
    state: State,
    /// Whether an unknown operation took effect that nothing has observed yet (rule S6).
    is_loose: bool,
    /// The next event.
    event: usize,
    has_effect: Vec<bool>,
    /// How many writes that fix the state took effect.
    fixes: u32,
    /// A fingerprint of `has_effect`.
    effects: u128,
    lists: Lists,
    trail: Vec<Mark>,
    /// The state and looseness before each write of the trail.
    states: Vec<(State, bool)>,
    frames: Vec<Frame>,
    memo: Memo,
    /// Per family: writes of its classes still to come; reads still to come.
    open: Vec<u32>,
    remaining: Vec<u32>,
    /// Per family: all reads before this rank have taken effect.
    cursor: Vec<u32>,
    /// Per class: reads still to come that may descend from it.
    live: Vec<u32>,
    /// Per group: reads still to come; all reads before this rank have taken effect.
    remaining_in_group: Vec<u32>,
    group_cursor: Vec<u32>,
    /// Per group: the places of its pinned appends that took effect.
    places_taken: Vec<Vec<u64>>,
    /// Groups with such a place and some reads still to come.
    bound_groups: BTreeSet<u32>,
    /// Per token: groups with reads still to come that may contain it.
    live_tokens: Vec<u32>,
    /// Families with no writes and some reads still to come: rule S2 binds the state to them.
    bound: BTreeSet<u32>,
    tables: Tables,
}

impl<'p, 'a> Search<'p, 'a> {
    /// A search at the beginning.
    pub(crate) fn new(plan: &'p Plan<'a>) -> Self {
        let writers = |class: &u32| plan.classes[*class as usize].writers;
        let open: Vec<u32> =
            plan.families.iter().map(|family| family.roots.iter().map(writers).sum()).collect();
        let remaining: Vec<u32> =
            plan.families.iter().map(|family| family.reads.len() as u32).collect();
        let reads = |family: &u32| remaining[*family as usize];
        let live = plan.classes.iter().map(|class| class.families.iter().map(reads).sum());
        let bound = (0..open.len() as u32).filter(|family| open[*family as usize] == 0).collect();
        let mut live_tokens = vec![0; plan.tokens];
        for token in plan.groups.iter().flat_map(|group| &group.tokens) {
            live_tokens[*token as usize] += 1;
        }
        Search {
            plan,
            remaining_in_group: plan.groups.iter().map(|group| group.reads.len() as u32).collect(),
            group_cursor: vec![0; plan.groups.len()],
            places_taken: vec![Vec::new(); plan.groups.len()],
            bound_groups: BTreeSet::new(),
            live_tokens,
            state: plan.initial,
            is_loose: false,
            event: 0,
            has_effect: vec![false; plan.steps.len()],
            fixes: 0,
            effects: 0,
            lists: Lists::new(plan.steps.len()),
            trail: Vec::with_capacity(plan.events.len()),
            states: Vec::new(),
            frames: Vec::new(),
            memo: Memo::default(),
            live: live.collect(),
            cursor: vec![0; open.len()],
            open,
            remaining,
            bound,
            tables: Tables::default(),
        }
    }

    /// Looks for an order of the operations that explains every answer.
    pub(crate) fn run(mut self, meter: &mut Meter<'_>) -> Found {
        if self.plan.is_impossible || !self.is_bound_kept() {
            return Found::Nothing;
        }
        while let Some(required) = self.advance() {
            self.push_frame(required);
            if let Some(end) = self.choose(meter) {
                return end;
            }
        }
        Found::Order(self.order())
    }

    /// Walks to the next return of an operation that has not taken effect.
    fn advance(&mut self) -> Option<u32> {
        while let Some(event) = self.plan.events.get(self.event) {
            match *event {
                Event::Invoke(op) => self.on_invoke(op),
                Event::Return(op) if self.has_effect[op as usize] => {}
                Event::Return(op) => return Some(op),
            }
            self.event += 1;
        }
        None
    }

    fn on_invoke(&mut self, op: u32) {
        let step = &self.plan.steps[op as usize];
        let list = match step.role {
            Role::Read(_) | Role::Impossible => READS,
            Role::Write(_) if step.returned == NEVER => UNKNOWN,
            Role::Write(_) => KNOWN,
        };
        self.lists.push(list, op);
        self.trail.push(Mark::Invoked(op));
        if let Role::Read(seen) = step.role
            && seen.matches(self.state)
        {
            self.take_read(op);
        }
    }

    /// Opens a choice, unless the configuration is known to lead nowhere.
    fn push_frame(&mut self, required: u32) {
        let memo = self.configuration();
        let is_known = self.memo.contains(memo);
        let preferred = if is_known { None } else { self.preferred(required) };
        self.frames.push(Frame {
            required,
            event: self.event,
            trail: self.trail.len(),
            memo,
            preferred,
            candidates: is_known.then(Vec::new),
        });
    }

    /// Takes the next choice that is possible, going back as far as needed.
    fn choose(&mut self, meter: &mut Meter<'_>) -> Option<Found> {
        while let Some(frame) = self.frames.last_mut() {
            let (trail, event, required) = (frame.trail, frame.event, frame.required);
            let next = match (frame.preferred.take(), &mut frame.candidates) {
                (Some(preferred), _) => Some(preferred),
                (None, Some(candidates)) => candidates.pop(),
                (None, candidates) => {
                    *candidates = Some(Vec::new());
                    self.undo_to(trail, event);
                    let mut list = self.candidates(required);
                    let next = list.pop();
                    if let Some(frame) = self.frames.last_mut() {
                        frame.candidates = Some(list);
                    }
                    next
                }
            };
            let Some(op) = next else {
                let memo = frame_memo(self.frames.pop());
                self.memo.insert(memo);
                if self.memo.len() > meter.configurations {
                    return Some(Found::OutOfMemory);
                }
                continue;
            };
            if meter.steps == 0 {
                return Some(Found::OutOfSteps);
            }
            meter.steps -= 1;
            if meter.steps.is_multiple_of(STEPS_BETWEEN_QUESTIONS) && !(meter.go_on)() {
                return Some(Found::Stopped);
            }
            self.undo_to(trail, event);
            if self.try_write(op) {
                return None;
            }
        }
        Some(Found::Nothing)
    }

    /// Lets a write take effect, if its answer and the rules allow that.
    fn try_write(&mut self, op: u32) -> bool {
        let Some(next) = self.plan.after(op, self.state) else { return false };
        if self.squeezed_out(op).is_some() || !self.is_in_place(op) {
            return false;
        }
        let step = &self.plan.steps[op as usize];
        let is_unknown = step.returned == NEVER;
        let mut is_loose = self.is_loose;
        match step.role {
            // Whatever happened unobserved before this need not have happened (S6).
            Role::Write(Change::Put { .. }) if is_loose => return false,
            Role::Write(Change::Delete) if is_loose && is_unknown => return false,
            Role::Write(Change::Delete | Change::Append { length: Some(_), .. }) => {
                is_loose = false;
            }
            _ => {}
        }
        let is_put = matches!(step.role, Role::Write(Change::Put { .. }));
        if is_put && self.plan.is_blind {
            self.take_dead(op);
        }
        self.take_write(op);
        self.state = next;
        self.is_loose = !self.plan.has_versions && (is_loose || is_unknown);
        self.take_matching_reads();
        self.is_bound_kept()
    }

    /// Rule S5: what nobody will see happens where nobody looks.
    fn take_dead(&mut self, except: u32) {
        let mut next = self.lists.first(KNOWN);
        while let Some(op) = next {
            next = self.lists.next(op);
            if op != except && self.is_dead(op) {
                self.take_write(op);
            }
        }
    }

    /// Rule S1.
    fn take_matching_reads(&mut self) {
        let mut next = self.lists.first(READS);
        while let Some(op) = next {
            next = self.lists.next(op);
            if let Role::Read(seen) = self.plan.steps[op as usize].role
                && seen.matches(self.state)
            {
                self.take_read(op);
            }
        }
    }

    /// Rules S2 and S7: whether the state can still become what the reads bound to it saw.
    fn is_bound_kept(&mut self) -> bool {
        let plan = self.plan;
        for family in &self.bound {
            let reads = &plan.families[*family as usize].reads;
            // A family in `bound` has a read that has not taken effect.
            let cursor = &mut self.cursor[*family as usize];
            let longest = first_without_effect(reads, cursor, &self.has_effect);
            let Role::Read(seen) = plan.steps[longest as usize].role else { continue };
            let is_kept = match seen {
                Seen::Value { version, .. } if plan.has_appends => {
                    version.is_none_or(|version| self.state.version <= version)
                        && self.tables.begins(plan, longest, self.state.print)
                }
                seen => seen.matches(self.state),
            };
            if !is_kept {
                return false;
            }
        }
        for group in &self.bound_groups {
            let reads = &plan.groups[*group as usize].reads;
            let cursor = &mut self.group_cursor[*group as usize];
            let longest = first_without_effect(reads, cursor, &self.has_effect);
            let place = self.places_taken[*group as usize].first().copied().unwrap_or(0);
            let is_bound = plan.value_length(longest) > place;
            if is_bound && !self.tables.begins(plan, longest, self.state.print) {
                return false;
            }
        }
        true
    }

    /// Whether no remaining read may descend from this Put, or contain this append.
    fn is_dead(&self, op: u32) -> bool {
        let step = &self.plan.steps[op as usize];
        match step.role {
            Role::Write(Change::Put { .. }) => {
                step.class.is_some_and(|class| self.live[class as usize] == 0)
            }
            Role::Write(Change::Append { .. }) => {
                !self.plan.is_opaque
                    && step.token.is_some_and(|token| self.live_tokens[token as usize] == 0)
            }
            _ => false,
        }
    }

    /// Whether a write of unknown outcome can matter only by making an absent key present (S6).
    fn is_unseen(&self, op: u32) -> bool {
        !self.plan.has_versions && !self.plan.has_lengths && self.is_dead(op)
    }

    /// Rule S7: whether an append is where it must be, if it must be somewhere.
    fn is_in_place(&mut self, op: u32) -> bool {
        let plan = self.plan;
        let Some((group, length)) = plan.steps[op as usize].pin else { return true };
        if self.remaining_in_group[group as usize] == 0 {
            return true;
        }
        let reads = &plan.groups[group as usize].reads;
        let cursor = &mut self.group_cursor[group as usize];
        let longest = first_without_effect(reads, cursor, &self.has_effect);
        // A value that ends before this place need not contain the append.
        plan.value_length(longest) <= length
            || (self.state.print.len == length
                && self.tables.begins(plan, longest, self.state.print))
    }

    /// Rule S4: the first write to be due among those that this one leaves no room for.
    fn squeezed_out(&self, op: u32) -> Option<u32> {
        let step = &self.plan.steps[op as usize];
        let (holds_until, last_read) = step.holds_until?;
        // What was there at first may explain the reads of a Put as well, and did explain those
        // that have taken effect. The reads of a pinned append wait for it.
        let is_certain = |step: &Step| step.pin.is_some() || self.fixes > 0;
        if !is_certain(step) || self.has_effect[last_read as usize] {
            return None;
        }
        let mut first: Option<(u32, u32)> = None;
        for list in [KNOWN, UNKNOWN] {
            let mut next = self.lists.first(list);
            while let Some(other) = next {
                next = self.lists.next(other);
                let step = &self.plan.steps[other as usize];
                let due = match step.due {
                    Some((due, read)) if is_certain(step) && !self.has_effect[read as usize] => {
                        due.min(step.returned)
                    }
                    _ => step.returned,
                };
                if other == op || due >= holds_until {
                    continue;
                }
                // Rule S5 lets dead writes happen together with this one.
                let is_dead = self.is_dead(other);
                if is_dead && !self.plan.is_blind || !is_dead && step.class.is_some() {
                    first = Some(first.map_or((due, other), |f| f.min((due, other))));
                }
            }
        }
        first.map(|(_, other)| other)
    }

    /// What to try first at a return: a guess that the answers to come make likely.
    fn preferred(&mut self, required: u32) -> Option<u32> {
        let Role::Write(change) = self.plan.steps[required as usize].role else { return None };
        if self.plan.has_appends
            && self.bound.is_empty()
            && let Some(op) = self.guided(required)
        {
            return Some(op);
        }
        if let Some(op) = self.squeezed_out(required) {
            return Some(op);
        }
        if matches!(change, Change::Put { .. }) && !self.plan.is_blind && !self.plan.has_versions {
            let mut next = self.lists.first(KNOWN);
            while let Some(op) = next {
                let is_put = self.plan.steps[op as usize].class.is_some();
                if op != required && is_put && self.is_dead(op) {
                    return Some(op);
                }
                next = self.lists.next(op);
            }
        }
        Some(required)
    }

    /// The append that brings the state closer to the value of the next read.
    fn guided(&mut self, required: u32) -> Option<u32> {
        let plan = self.plan;
        let from = plan.value_returns.partition_point(|(event, _)| (*event as usize) < self.event);
        let mut reads = plan.value_returns[from..].iter().take(GUIDES_MAX).map(|(_, op)| *op);
        let read = reads.find(|op| !self.has_effect[*op as usize])?;
        if !self.tables.begins(plan, read, self.state.print) {
            return None;
        }
        if self.leads_to(required, read) {
            return Some(required);
        }
        for list in [KNOWN, UNKNOWN] {
            let mut next = self.lists.first(list);
            while let Some(op) = next {
                if self.leads_to(op, read) {
                    return Some(op);
                }
                next = self.lists.next(op);
            }
        }
        None
    }

    /// Whether a pending append makes a longer prefix of what a read saw.
    fn leads_to(&mut self, op: u32, read: u32) -> bool {
        let plan = self.plan;
        let step = &plan.steps[op as usize];
        let Role::Write(Change::Append { .. }) = step.role else { return false };
        match plan.after(op, self.state) {
            Some(next) => {
                next.print.len > self.state.print.len && self.tables.begins(plan, read, next.print)
            }
            None => false,
        }
    }

    /// All that may take effect before `required` or is it, the best guess last.
    fn candidates(&mut self, required: u32) -> Vec<u32> {
        let plan = self.plan;
        let mut ranked = Vec::new();
        let mut has_maker = plan.is_blind;
        for list in [KNOWN, UNKNOWN] {
            let mut next = self.lists.first(list);
            while let Some(op) = next {
                next = self.lists.next(op);
                let step = &plan.steps[op as usize];
                let twin_first = step.twin.is_some_and(|twin| !self.has_effect[twin as usize]);
                let mut is_hidden = plan.is_blind && op != required && self.is_dead(op);
                if list == UNKNOWN && self.is_unseen(op) {
                    // All of these do the same: they make the key present.
                    is_hidden = self.state.is_present || has_maker;
                    has_maker = true;
                }
                if !twin_first && !is_hidden {
                    ranked.push((self.rank(op, required), step.returned, op));
                }
            }
        }
        ranked.sort_unstable_by(|a, b| b.cmp(a));
        ranked.into_iter().map(|(_, _, op)| op).collect()
    }

    /// How far a candidate is from what is required: lower is better.
    fn rank(&mut self, op: u32, required: u32) -> u8 {
        let plan = self.plan;
        let Role::Read(seen) = plan.steps[required as usize].role else {
            return u8::from(op != required);
        };
        match plan.after(op, self.state) {
            Some(next) if seen.matches(next) => 0,
            Some(_) if self.leads_to(op, required) => 1,
            _ => 2,
        }
    }

    /// Marks a read as having taken effect.
    fn take_read(&mut self, op: u32) {
        self.lists.remove(op);
        self.has_effect[op as usize] = true;
        self.effects ^= scatter_wide(u64::from(op));
        self.trail.push(Mark::Read { op, was_loose: self.is_loose });
        self.is_loose = false;
        if let Some((group, _)) = self.plan.steps[op as usize].group {
            self.remaining_in_group[group as usize] -= 1;
            if self.remaining_in_group[group as usize] == 0 {
                self.bound_groups.remove(&group);
                for token in &self.plan.groups[group as usize].tokens {
                    self.live_tokens[*token as usize] -= 1;
                }
            }
        }
        let Some((family, _)) = self.plan.steps[op as usize].family else { return };
        for root in &self.plan.families[family as usize].roots {
            self.live[*root as usize] -= 1;
        }
        self.remaining[family as usize] -= 1;
        if self.remaining[family as usize] == 0 {
            self.bound.remove(&family);
        }
    }

    /// Marks a write as having taken effect; the caller changes the state.
    fn take_write(&mut self, op: u32) {
        self.lists.remove(op);
        self.has_effect[op as usize] = true;
        self.effects ^= scatter_wide(u64::from(op));
        self.trail.push(Mark::Wrote(op));
        self.states.push((self.state, self.is_loose));
        if let Some((group, place)) = self.plan.steps[op as usize].pin {
            self.places_taken[group as usize].push(place);
            if self.remaining_in_group[group as usize] > 0 {
                self.bound_groups.insert(group);
            }
        }
        let Some(class) = self.plan.steps[op as usize].class else { return };
        self.fixes += 1;
        for family in &self.plan.classes[class as usize].families {
            self.open[*family as usize] -= 1;
            if self.open[*family as usize] == 0 && self.remaining[*family as usize] > 0 {
                self.bound.insert(*family);
            }
        }
    }

    /// Goes back to an earlier moment of the search.
    fn undo_to(&mut self, trail: usize, event: usize) {
        while self.trail.len() > trail {
            match self.trail.pop() {
                Some(Mark::Invoked(op)) => self.lists.remove(op),
                Some(Mark::Read { op, was_loose }) => self.undo_read(op, was_loose),
                Some(Mark::Wrote(op)) => self.undo_write(op),
                None => {}
            }
        }
        self.event = event;
    }

    fn undo_read(&mut self, op: u32, was_loose: bool) {
        self.lists.put_back(op);
        self.has_effect[op as usize] = false;
        self.effects ^= scatter_wide(u64::from(op));
        self.is_loose = was_loose;
        if let Some((group, rank)) = self.plan.steps[op as usize].group {
            let at = group as usize;
            if self.remaining_in_group[at] == 0 {
                if !self.places_taken[at].is_empty() {
                    self.bound_groups.insert(group);
                }
                for token in &self.plan.groups[at].tokens {
                    self.live_tokens[*token as usize] += 1;
                }
            }
            self.remaining_in_group[at] += 1;
            self.group_cursor[at] = self.group_cursor[at].min(rank);
        }
        let Some((family, rank)) = self.plan.steps[op as usize].family else { return };
        for root in &self.plan.families[family as usize].roots {
            self.live[*root as usize] += 1;
        }
        let family_at = family as usize;
        self.remaining[family_at] += 1;
        self.cursor[family_at] = self.cursor[family_at].min(rank);
        if self.open[family_at] == 0 {
            self.bound.insert(family);
        }
    }

    fn undo_write(&mut self, op: u32) {
        self.lists.put_back(op);
        self.has_effect[op as usize] = false;
        self.effects ^= scatter_wide(u64::from(op));
        if let Some((state, is_loose)) = self.states.pop() {
            (self.state, self.is_loose) = (state, is_loose);
        }
        if let Some((group, _)) = self.plan.steps[op as usize].pin {
            self.places_taken[group as usize].pop();
            if self.places_taken[group as usize].is_empty() {
                self.bound_groups.remove(&group);
            }
        }
        let Some(class) = self.plan.steps[op as usize].class else { return };
        self.fixes -= 1;
        for family in &self.plan.classes[class as usize].families {
            if self.open[*family as usize] == 0 {
                self.bound.remove(family);
            }
            self.open[*family as usize] += 1;
        }
    }

    /// Which operations took effect, and the state: everything that the future depends on.
    fn configuration(&self) -> u128 {
        let State { is_present, version, print } = self.state;
        let flags = version << 2 | u64::from(is_present) << 1 | u64::from(self.is_loose);
        let high = scatter(print.folded() ^ scatter(flags));
        let low = scatter(flags ^ scatter(print.folded()).rotate_left(32));
        let mixed = self.effects ^ (u128::from(high) << 64 | u128::from(low));
        mixed.max(1)
    }

    /// The operations in the order in which they took effect.
    fn order(&self) -> Vec<u32> {
        let effects = self.trail.iter().filter_map(|mark| match mark {
            Mark::Invoked(_) => None,
            Mark::Read { op, .. } | Mark::Wrote(op) => Some(*op),
        });
        effects.collect()
    }
}

/// The first of these reads that has not taken effect; there is one. All before the cursor have.
fn first_without_effect(reads: &[u32], cursor: &mut u32, has_effect: &[bool]) -> u32 {
    while has_effect[reads[*cursor as usize] as usize] {
        *cursor += 1;
    }
    reads[*cursor as usize]
}

fn frame_memo(frame: Option<Frame>) -> u128 {
    frame.map_or(1, |frame| frame.memo)
}

/// Doubly linked lists over the operations, from which one can be taken out and put back in the
/// reverse order at no cost (Knuth's dancing links).
struct Lists {
    previous: Vec<u32>,
    following: Vec<u32>,
    operations: usize,
}

impl Lists {
    fn new(operations: usize) -> Self {
        // The heads stand behind the operations; an empty list is a head linked to itself.
        let links: Vec<u32> = (0..(operations + LISTS) as u32).collect();
        Lists { previous: links.clone(), following: links, operations }
    }

    fn first(&self, list: usize) -> Option<u32> {
        self.next((self.operations + list) as u32)
    }

    fn next(&self, op: u32) -> Option<u32> {
        let next = self.following[op as usize];
        ((next as usize) < self.operations).then_some(next)
    }

    fn push(&mut self, list: usize, op: u32) {
        let head = (self.operations + list) as u32;
        self.previous[op as usize] = self.previous[head as usize];
        self.following[op as usize] = head;
        self.put_back(op);
    }

    fn remove(&mut self, op: u32) {
        let (previous, following) = (self.previous[op as usize], self.following[op as usize]);
        self.following[previous as usize] = following;
        self.previous[following as usize] = previous;
    }

    fn put_back(&mut self, op: u32) {
        let (previous, following) = (self.previous[op as usize], self.following[op as usize]);
        self.following[previous as usize] = op;
        self.previous[following as usize] = op;
    }
}
