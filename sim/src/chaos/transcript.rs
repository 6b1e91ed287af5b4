//! What happened, in space and time: a column per node, a line per message that crosses to another
//! one, time going down (the diagrams of Lamport, *Time, Clocks, and the Ordering of Events*, 1978,
//! turned).
//!
//! ```text
//!     time    n1     n2     n3     c1
//!    0.0041    │      │      │<─────o    Submit 1 ops
//!    0.0052    │<─────┼──────o      │    Accept 1.n3 r4 slots=4
//!    0.0100    │      ╳      │      │    kill n2
//! ```

use std::collections::BTreeSet;

use quorate_protocol::{Name, NodeId};

use crate::trace::Line;

/// Nodes from this number on are clients.
const CLIENTS: u32 = 1000;
/// How wide a column is.
const WIDTH: usize = 7;

/// Draws at most about `lines_max` lines that are worth it: messages between nodes, and what happens
/// to nodes. If there are more, some are left out in the middle.
pub fn transcript(lines: &[Line], servers: u32, lines_max: usize) -> String {
    let crosses = |line: &Line| match line.way {
        Some((from, to)) => from.node.home() != to.node.home(),
        None => true,
    };
    let worth: Vec<&Line> = lines.iter().filter(|line| crosses(line)).collect();
    // How it begins and how it ends says most.
    let (first, last) = match worth.len() > lines_max {
        true => (lines_max / 2, worth.len() - lines_max / 2),
        false => (0, 0),
    };
    let ends = |line: &&Line| line.way.map(|(from, to)| [from.node.home(), to.node.home()]);
    let clients: BTreeSet<NodeId> = worth.iter().filter_map(ends).flatten().collect();
    let mut columns: Vec<NodeId> = (1..=servers).map(NodeId).collect();
    columns.extend(clients.into_iter().filter(|node| node.0 >= CLIENTS));
    let mut text = head(&columns);
    let mut down = BTreeSet::new();
    for (place, line) in worth.iter().enumerate() {
        update(&mut down, line);
        if (first..last).contains(&place) {
            if place == first {
                text += &format!("{:>11}  ({} lines are left out)\n", "...", last - first);
            }
            continue;
        }
        let time = format!("{:>4}.{:06}", line.at.as_secs(), line.at.subsec_micros());
        let (marks, said) = match line.way {
            Some((from, to)) => (arrow(&columns, &down, from, to), said(line, from, to)),
            None => (event(&columns, &down, line), line.text.clone()),
        };
        text += &format!("{time}  {marks}  {said}\n");
    }
    text
}

fn title(node: NodeId) -> String {
    match node.home().0.checked_sub(CLIENTS) {
        Some(client) => format!("c{client}"),
        None => node.to_string(),
    }
}

fn head(columns: &[NodeId]) -> String {
    let titles = columns.iter().map(|node| format!("{:^WIDTH$}", title(*node)));
    format!("{:>11}  {}\n", "time", titles.collect::<String>()).replace("  \n", "\n")
}

/// The role that hears, and what.
fn said(line: &Line, from: Name, to: Name) -> String {
    format!("{}→{} {}", title(from.node), to.role, line.text)
}

/// Which nodes are down after a line.
fn update(down: &mut BTreeSet<NodeId>, line: &Line) {
    if line.way.is_some() {
        return;
    }
    let node = |text: &str| text.strip_prefix('n').and_then(|text| text.parse().ok()).map(NodeId);
    if let Some(started) = line.text.strip_prefix("start ").and_then(node) {
        down.remove(&started);
    }
    let killed = line.text.strip_prefix("kill process ").or(line.text.strip_prefix("kill "));
    down.extend(killed.and_then(node));
}

/// A row of bars, one per node that is up.
fn bars(columns: &[NodeId], down: &BTreeSet<NodeId>) -> Vec<char> {
    let mut row = vec![' '; columns.len() * WIDTH];
    for (i, node) in columns.iter().enumerate() {
        row[middle(i)] = if down.contains(node) { ' ' } else { '│' };
    }
    row
}

fn middle(column: usize) -> usize {
    column * WIDTH + WIDTH / 2
}

fn arrow(columns: &[NodeId], down: &BTreeSet<NodeId>, from: Name, to: Name) -> String {
    let mut row = bars(columns, down);
    let place = |node| columns.iter().position(|column| *column == node).map(middle);
    if let (Some(from), Some(to)) = (place(from.node.home()), place(to.node.home())) {
        for mark in &mut row[from.min(to)..=from.max(to)] {
            *mark = if *mark == '│' { '┼' } else { '─' };
        }
        row[from] = 'o';
        row[to] = if from < to { '>' } else { '<' };
    }
    row.into_iter().collect()
}

fn event(columns: &[NodeId], down: &BTreeSet<NodeId>, line: &Line) -> String {
    let mut row = bars(columns, down);
    let words: BTreeSet<&str> =
        line.text.split(|c: char| !c.is_alphanumeric()).filter(|word| !word.is_empty()).collect();
    for (i, node) in columns.iter().enumerate() {
        if words.contains(title(*node).as_str()) {
            row[middle(i)] = if line.text.starts_with("start") { '●' } else { '╳' };
        }
    }
    row.into_iter().collect()
}
