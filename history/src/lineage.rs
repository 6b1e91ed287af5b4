//! What the values that were read tell about appends.
//!
//! Reads of one family whose values are prefixes of one string make a group. That string is taken
//! apart in every way that begins with a root of the family (or with what was there at first) and
//! goes on with values that someone appended. An append that stands in no way of any group was
//! never seen. An append that stands in every way, and has no other like it, is pinned: whenever it
//! took effect, the value was exactly what stands before it. A root that no way begins with is no
//! root. Where there is one way only, a version that was read tells the versions along it.

use std::collections::{BTreeMap, BTreeSet};

use crate::fingerprint::{Prefixes, Print, Suffix};
use crate::operation::Output;
use crate::plan::{ABSENT, Change, Plan, Role, Seen};

/// Reads of prefixes of one string.
#[derive(Clone, Debug)]
pub(crate) struct Group {
    /// The reads, those of longer values first.
    pub(crate) reads: Vec<u32>,
    /// Tokens that may stand in the string.
    pub(crate) tokens: Vec<u32>,
}

/// Appends of one value.
#[derive(Clone, Copy, Debug)]
struct Token {
    suffix: Suffix,
    name: u32,
    /// How many appends.
    writers: u32,
    /// The last of them.
    writer: u32,
}

/// Places times lengths of tokens that are looked at, over one key.
const WORK_MAX: usize = 20_000_000;

/// How many strings of a family a value is compared with, to find one that it begins.
const STRINGS_MAX: usize = 8;

/// One token at one place of a string.
struct Edge {
    from: usize,
    to: usize,
    token: Print,
}

/// Fills in groups, tokens and pins.
pub(crate) fn find(plan: &mut Plan<'_>) {
    let tokens = find_tokens(plan);
    if tokens.is_empty() {
        return;
    }
    let lengths: BTreeMap<u64, Suffix> =
        tokens.iter().map(|(print, token)| (print.len, token.suffix)).collect();
    let mut work = 0;
    for family in 0..plan.families.len() {
        let mut starts = BTreeSet::new();
        let mut is_clear = true;
        let groups = split(plan, family);
        let has_groups = !groups.is_empty();
        for reads in groups {
            let longest = value(plan, reads[0]);
            work += longest.len() * lengths.len();
            let group = plan.groups.len() as u32;
            for (rank, read) in reads.iter().enumerate() {
                plan.steps[*read as usize].group = Some((group, rank as u32));
            }
            let mut here = Vec::new();
            if work <= WORK_MAX {
                let (useful_starts, tokens_here) =
                    take_apart(plan, family, &reads, &tokens, &lengths);
                starts.extend(useful_starts);
                here = tokens_here;
            } else {
                is_clear = false;
            }
            plan.groups.push(Group { reads, tokens: here });
        }
        if !is_clear {
            plan.is_opaque = true;
        } else if has_groups {
            let classes = &plan.classes;
            let is_start = |root: &u32| starts.contains(&(classes[*root as usize].length as usize));
            plan.families[family].roots.retain(is_start);
        }
    }
}

fn find_tokens(plan: &mut Plan<'_>) -> BTreeMap<Print, Token> {
    let mut tokens: BTreeMap<Print, Token> = BTreeMap::new();
    for (place, step) in plan.steps.iter_mut().enumerate() {
        let Role::Write(Change::Append { suffix, .. }) = step.role else { continue };
        let fresh = Token { suffix, name: tokens.len() as u32, writers: 0, writer: 0 };
        let token = tokens.entry(suffix.print()).or_insert(fresh);
        token.writers += 1;
        token.writer = place as u32;
        step.token = Some(token.name);
    }
    plan.tokens = tokens.len();
    tokens
}

fn value<'a>(plan: &Plan<'a>, read: u32) -> &'a [u8] {
    match plan.source[read as usize].output() {
        Some(Output::Value { value, .. }) => value,
        _ => &[],
    }
}

/// Splits a family into groups. One that saw the key absent needs none.
fn split(plan: &Plan<'_>, family: usize) -> Vec<Vec<u32>> {
    let mut groups: Vec<(Prefixes, Vec<u32>)> = Vec::new();
    for read in &plan.families[family].reads {
        let Role::Read(Seen::Value { print, .. }) = plan.steps[*read as usize].role else {
            continue;
        };
        let begins =
            |group: &&mut (Prefixes, Vec<u32>)| group.0.begins_with(value(plan, group.1[0]), print);
        match groups.iter_mut().rev().take(STRINGS_MAX).find(begins) {
            Some((_, reads)) => reads.push(*read),
            None => groups.push((Prefixes::of(value(plan, *read)), vec![*read])),
        }
    }
    groups.into_iter().map(|(_, reads)| reads).collect()
}

/// Takes a group's string apart and pins what can be pinned. Returns where the ways through it
/// begin, and the tokens that stand in it.
fn take_apart(
    plan: &mut Plan<'_>,
    family: usize,
    reads: &[u32],
    tokens: &BTreeMap<Print, Token>,
    lengths: &BTreeMap<u64, Suffix>,
) -> (Vec<usize>, Vec<u32>) {
    let prefixes = Print::of_prefixes(value(plan, reads[0]));
    let starts = starts(plan, family, &prefixes);
    let edges = edges(&prefixes, &starts, tokens, lengths);
    // From the end: what leads to the end of a value that was read.
    let mut leads = vec![false; prefixes.len()];
    for read in reads {
        leads[value(plan, *read).len()] = true;
    }
    let mut useful: Vec<&Edge> = Vec::new();
    for edge in edges.iter().rev().filter(|edge| edge.from < edge.to) {
        if leads[edge.to] {
            leads[edge.from] = true;
            useful.push(edge);
        }
    }
    // How many edges lie over each byte, and how many bytes before it have more than one.
    let mut over = vec![0_i64; prefixes.len() + 1];
    for edge in &useful {
        over[edge.from] += 1;
        over[edge.to] -= 1;
    }
    let mut crowded: Vec<u32> = vec![0; prefixes.len() + 1];
    let mut depth = 0;
    for place in 0..prefixes.len() {
        depth += over[place];
        crowded[place + 1] = crowded[place] + u32::from(depth != 1);
    }
    let useful_starts: Vec<usize> = starts.into_iter().filter(|start| leads[*start]).collect();
    let last_start = useful_starts.last().copied().unwrap_or(0);
    let group = plan.groups.len() as u32;
    let mut here = BTreeSet::new();
    for edge in &useful {
        let token = &tokens[&edge.token];
        here.insert(token.name);
        let is_alone = crowded[edge.from] == crowded[edge.to] && last_start <= edge.from;
        let pin = &mut plan.steps[token.writer as usize].pin;
        if is_alone && token.writers == 1 && pin.is_none() {
            *pin = Some((group, edge.from as u64));
        }
    }
    let end = prefixes.len() - 1;
    let empty = tokens.get(&Print::default());
    if let [start] = useful_starts[..]
        && crowded[start] == crowded[end]
        && empty.is_none()
    {
        useful.reverse();
        tell_versions(plan, (family, start), reads, &useful, tokens);
    }
    // Nothing appended can be seen anywhere, so it can never be called unseen.
    here.extend(empty.map(|token| token.name));
    (useful_starts, here.into_iter().collect())
}

/// Along the one way through a string, each append adds one to the version.
fn tell_versions(
    plan: &mut Plan<'_>,
    (family, start): (usize, usize),
    reads: &[u32],
    way: &[&Edge],
    tokens: &BTreeMap<Print, Token>,
) {
    let versions = reads.iter().filter_map(|read| match plan.steps[*read as usize].role {
        Role::Read(Seen::Value { print, version: Some(version) }) => Some((print.len, version)),
        _ => None,
    });
    let Some((length, version)) = versions.max() else { return };
    let before_end = way.partition_point(|edge| edge.to as u64 <= length) as u64;
    let Some(first) = version.checked_sub(before_end) else { return };
    for (edge, version) in way.iter().take(before_end as usize).zip(first + 1..) {
        let token = &tokens[&edge.token];
        if token.writers == 1 {
            plan.steps[token.writer as usize].target = Some(version);
        }
    }
    // What was there at first, or nothing at all, may be the root instead.
    let is_start = |root: &&u32| plan.classes[**root as usize].length == start as u64;
    let mut roots = plan.families[family].roots.iter().filter(is_start);
    if let (Some(root), None) = (roots.next(), roots.next())
        && *root != ABSENT
        && plan.initial.print.len != start as u64
        && plan.classes[*root as usize].writers == 1
    {
        plan.steps[plan.classes[*root as usize].writer as usize].target = Some(first);
    }
}

/// Where in the string appends may begin, in order.
fn starts(plan: &Plan<'_>, family: usize, prefixes: &[Print]) -> Vec<usize> {
    let mut starts = BTreeSet::new();
    for root in &plan.families[family].roots {
        starts.insert(match *root {
            ABSENT => 0,
            root => plan.classes[root as usize].length as usize,
        });
    }
    let initial = plan.initial.print;
    if prefixes.get(initial.len as usize) == Some(&initial) {
        starts.insert(initial.len as usize);
    }
    starts.into_iter().collect()
}

/// Every token at every place that can be reached, by place.
fn edges(
    prefixes: &[Print],
    starts: &[usize],
    tokens: &BTreeMap<Print, Token>,
    lengths: &BTreeMap<u64, Suffix>,
) -> Vec<Edge> {
    let mut is_reached = vec![false; prefixes.len()];
    for start in starts {
        is_reached[*start] = true;
    }
    let mut edges = Vec::new();
    for from in 0..prefixes.len() {
        if !is_reached[from] {
            continue;
        }
        for (length, like) in lengths {
            let to = from + *length as usize;
            let Some(whole) = prefixes.get(to) else { break };
            let token = like.part(prefixes[from], *whole);
            if tokens.contains_key(&token) {
                is_reached[to] = true;
                edges.push(Edge { from, to, token });
            }
        }
    }
    edges
}
