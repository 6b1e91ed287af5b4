//! Windows drawn: a row per client, time to the right.
//!
//! Time is not to scale. Each moment at which something begins or ends has its place, in order, far
//! enough from the others that every operation can hold its label.

use std::collections::BTreeMap;
use std::fmt::Write;

use crate::operation::{Operation, Shown};
use crate::window::Window;

/// The places of a window's operations.
struct Layout {
    /// The client of each row, from the top; a client that asks twice at a time has two rows.
    rows: Vec<u64>,
    bars: Vec<Bar>,
    /// Columns in all.
    width: usize,
}

/// One operation in its place.
struct Bar {
    /// Its place in the window.
    place: usize,
    row: usize,
    /// The first and last column; no last one when nobody knows.
    start: usize,
    end: Option<usize>,
    label: String,
}

/// Columns between two moments, at least.
const MOMENT_COLUMNS_MIN: usize = 2;

/// Columns that stand around a label: a mark and a blank on each side.
const LABEL_MARGIN: usize = 4;

impl Layout {
    fn of(window: &Window) -> Self {
        let columns = columns(&window.ops);
        let last = columns.values().max().copied().unwrap_or(0);
        let mut lanes: BTreeMap<u64, Vec<Vec<usize>>> = BTreeMap::new();
        for (place, op) in window.ops.iter().enumerate() {
            let lanes = lanes.entry(op.client).or_default();
            let is_free = |lane: &Vec<usize>| {
                let before = lane.last().and_then(|last| window.ops[*last].returned());
                before.is_some_and(|before| before < op.invoked)
            };
            match lanes.iter_mut().find(|lane| is_free(lane)) {
                Some(lane) => lane.push(place),
                None => lanes.push(vec![place]),
            }
        }
        let mut layout = Layout { rows: Vec::new(), bars: Vec::new(), width: last + 1 };
        for (client, lanes) in lanes {
            for lane in lanes {
                for place in lane {
                    let op = &window.ops[place];
                    let label = op.to_string();
                    let start = columns[&(op.invoked, false)];
                    let end = op.returned().map(|at| columns[&(at, true)]);
                    let reach = end.unwrap_or(start + label.chars().count() + LABEL_MARGIN);
                    layout.width = layout.width.max(reach + 1);
                    let row = layout.rows.len();
                    layout.bars.push(Bar { place, row, start, end, label });
                }
                layout.rows.push(client);
            }
        }
        layout
    }
}

/// A column for each moment; of one moment, what begins stands before what ends.
fn columns(ops: &[Operation]) -> BTreeMap<(u64, bool), usize> {
    let mut starts: BTreeMap<(u64, bool), Vec<(u64, usize)>> = BTreeMap::new();
    for op in ops {
        starts.entry((op.invoked, false)).or_default();
        if let Some(at) = op.returned() {
            let label = op.to_string().chars().count() + LABEL_MARGIN;
            starts.entry((at, true)).or_default().push((op.invoked, label));
        }
    }
    let mut columns: BTreeMap<(u64, bool), usize> = BTreeMap::new();
    let mut column = 0;
    for (moment, ended) in starts {
        for (invoked, label) in ended {
            column = column.max(columns[&(invoked, false)] + label - 1);
        }
        columns.insert(moment, column);
        column += MOMENT_COLUMNS_MIN;
    }
    columns
}

/// The first line: what the key held before, and how we know.
fn beginning(window: &Window) -> String {
    let key = Shown(&window.key);
    let held = match &window.initial {
        None => "absent".into(),
        Some((value, 0)) => Shown(value).to_string(),
        Some((value, version)) => format!("{} v{version}", Shown(value)),
    };
    match &window.told_by {
        None => format!("key {key}, at first {held}"),
        Some(op) => format!("key {key}, at first {held}, as {} tells", named(op)),
    }
}

/// An operation in words: what, whose, when.
fn named(op: &Operation) -> String {
    let at = op.returned().map_or("?".into(), |at| at.to_string());
    format!("{op} of client {} ({}..{at} us)", op.client, op.invoked)
}

/// The last line: which operation no order explains.
fn conclusion(window: &Window) -> String {
    match window.ops.get(window.culprit) {
        Some(op) => format!("no order explains {}", named(op)),
        None => "nothing happened".into(),
    }
}

/// Draws with letters. The culprit stands between `!`, an unknown outcome runs out in `~`.
pub(crate) fn text(window: &Window) -> String {
    let layout = Layout::of(window);
    let mut rows = vec![vec![' '; layout.width]; layout.rows.len()];
    for bar in &layout.bars {
        let row = &mut rows[bar.row];
        let end = bar.end.unwrap_or(layout.width - 1);
        let (edge, fill) = match (bar.end, bar.place == window.culprit) {
            (_, true) => ('!', '-'),
            (Some(_), _) => ('|', '-'),
            (None, _) => ('|', '~'),
        };
        row[bar.start..=end].fill(fill);
        row[bar.start] = edge;
        if bar.end.is_some() {
            row[end] = edge;
        }
        let label = format!(" {} ", bar.label);
        for (cell, letter) in row[bar.start + 1..end].iter_mut().zip(label.chars()) {
            *cell = letter;
        }
    }
    let names: Vec<String> = layout.rows.iter().map(|client| format!("client {client}")).collect();
    let margin = names.iter().map(String::len).max().unwrap_or(0);
    let mut text = format!("{}\n", beginning(window));
    for (name, row) in names.iter().zip(rows) {
        let row: String = row.into_iter().collect();
        text.push_str(format!("{name:margin$}  {row}").trim_end());
        text.push('\n');
    }
    text.push_str(&conclusion(window));
    text.push('\n');
    text
}

/// Pixels of a column, of a row, and around the drawing.
const COLUMN: usize = 8;
const ROW: usize = 34;
const BORDER: usize = 12;

/// What the colours mean: the culprit is red, an unknown outcome is hatched by a dashed border.
const STYLE: &str = "text{font:13px ui-monospace,monospace;fill:#1b1b1f}\
    .client{fill:#5b5b66}.bar{fill:#dfe9f7;stroke:#47719f}.unknown{fill:#f1f1ee;stroke:#8a8a80;\
    stroke-dasharray:4 3}.culprit{fill:#fbdcd9;stroke:#b3261e;stroke-width:2}\
    .lane{stroke:#d5d5da}";

/// Draws as a picture that needs nothing but itself.
pub(crate) fn svg(window: &Window) -> String {
    let layout = Layout::of(window);
    let title = beginning(window);
    let conclusion = conclusion(window);
    let names: Vec<String> = layout.rows.iter().map(|client| format!("client {client}")).collect();
    let margin = names.iter().map(String::len).max().unwrap_or(0) + 2;
    let letters = [&title, &conclusion].map(|line| line.chars().count()).into_iter().max();
    let columns = (margin + layout.width).max(letters.unwrap_or(0));
    let (width, height) = (columns * COLUMN + 2 * BORDER, (names.len() + 2) * ROW + 2 * BORDER);
    let mut svg = format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" width=\"{width}\" height=\"{height}\" \
         viewBox=\"0 0 {width} {height}\">\n<style>{STYLE}</style>\n\
         <rect width=\"{width}\" height=\"{height}\" fill=\"#fff\"/>\n"
    );
    let top = |row: usize| BORDER + (row + 1) * ROW;
    letter(&mut svg, "title", BORDER, BORDER + 18, &title);
    for (row, name) in names.iter().enumerate() {
        let (left, middle) = (BORDER + margin * COLUMN, top(row) + ROW / 2);
        line(&mut svg, left, width - BORDER, middle);
        letter(&mut svg, "client", BORDER, middle + 5, name);
    }
    for bar in &layout.bars {
        let left = BORDER + (margin + bar.start) * COLUMN;
        let right = bar.end.map_or(width - BORDER, |end| BORDER + (margin + end + 1) * COLUMN);
        let class = match bar.end {
            _ if bar.place == window.culprit => "culprit",
            Some(_) => "bar",
            None => "unknown",
        };
        let (y, bar_height, bar_width) = (top(bar.row) + 4, ROW - 8, right - left);
        push(
            &mut svg,
            format_args!(
                "<rect class=\"{class}\" x=\"{left}\" y=\"{y}\" width=\"{bar_width}\" \
                 height=\"{bar_height}\" rx=\"5\"/>\n"
            ),
        );
        letter(&mut svg, "label", left + COLUMN, top(bar.row) + ROW / 2 + 5, &bar.label);
    }
    letter(&mut svg, "conclusion", BORDER, top(names.len()) + 22, &conclusion);
    svg.push_str("</svg>\n");
    svg
}

fn push(svg: &mut String, part: std::fmt::Arguments<'_>) {
    svg.write_fmt(part).expect("a String takes whatever is written to it");
}

fn line(svg: &mut String, left: usize, right: usize, y: usize) {
    push(
        svg,
        format_args!("<line class=\"lane\" x1=\"{left}\" x2=\"{right}\" y1=\"{y}\" y2=\"{y}\"/>\n"),
    );
}

/// One line of text; the letters that mean something to XML are escaped.
fn letter(svg: &mut String, class: &str, x: usize, y: usize, text: &str) {
    let text = text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;");
    push(svg, format_args!("<text class=\"{class}\" x=\"{x}\" y=\"{y}\">{text}</text>\n"));
}
