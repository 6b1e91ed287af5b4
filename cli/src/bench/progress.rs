//! What a bench shows while it runs: a bar on a terminal, otherwise plain lines.

use std::cell::RefCell;
use std::io::{self, IsTerminal, Write};
use std::rc::Rc;
use std::time::Duration;

use indicatif::{ProgressBar, ProgressStyle};

use super::plan::Load;
use super::report::Tally;
use crate::clock;
use crate::output::thousands;

/// How often the bar moves.
const BAR: Duration = Duration::from_millis(250);
/// How often a line is written where there is no terminal.
const LINE: Duration = Duration::from_secs(5);

/// Shows how far the bench is, until it is dropped or aborted. Says nothing with `--json`, where
/// no terminal would show it.
pub(crate) async fn show(tally: Rc<RefCell<Tally>>, load: Load) {
    let is_terminal = io::stderr().is_terminal();
    if load.json && !is_terminal {
        return;
    }
    let begun = clock::now();
    let whole = load.warmed() + load.measured();
    let bar = is_terminal.then(|| bar(whole));
    let (mut last, mut at) = (0, begun);
    loop {
        tokio::time::sleep(if bar.is_some() { BAR } else { LINE }).await;
        let now = clock::now();
        let (done, errors) = (tally.borrow().done(), tally.borrow().error_count());
        let rate = (done - last) as f64 / (now - at).as_secs_f64();
        (last, at) = (done, now);
        let elapsed = now - begun;
        let phase = if elapsed < load.warmed() { "warming up" } else { "measuring" };
        let errors = match errors {
            0 => String::new(),
            errors => format!(", {} errors", thousands(errors)),
        };
        let text = format!("{phase}: {} ops/s{errors}", thousands(rate as u64));
        match &bar {
            Some(bar) => {
                bar.set_position((elapsed.min(whole)).as_millis() as u64);
                bar.set_message(text);
            }
            None => {
                let line =
                    format!("{:.0} of {:.0} s, {text}", elapsed.as_secs_f64(), whole.as_secs_f64());
                let _ = writeln!(io::stderr(), "{line}");
            }
        }
    }
}

fn bar(whole: Duration) -> ProgressBar {
    let bar = ProgressBar::new(whole.as_millis() as u64);
    // The one style there is; were it wrong, the usual one would be shown.
    if let Ok(style) = ProgressStyle::with_template("{bar:30} {msg}") {
        bar.set_style(style);
    }
    bar
}
