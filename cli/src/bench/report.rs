//! What a bench has seen, and how it is shown. Knows nothing of who is measured.
//!
//! All clients share one thread, and therefore one [`Tally`]: there is nothing to merge, and the
//! histograms stay in the cache.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use hdrhistogram::Histogram;
use serde_json::{Value as Json, json};

use super::plan::{Kind, Load};
use crate::output::{table, thousands};

/// Longest latency that is told apart, in microseconds.
const LATENCY_US_MAX: u64 = 120_000_000;

/// What has happened so far.
#[derive(Debug)]
pub(crate) struct Tally {
    /// What ends before this is not counted.
    from: Instant,
    /// What ends at this or later is not counted.
    until: Instant,
    latencies: BTreeMap<Kind, Histogram<u64>>,
    errors: BTreeMap<String, u64>,
    /// Reads of keys that are absent.
    missing: u64,
    /// Operations that were done, counted or not.
    done: u64,
    /// When the last write was acknowledged, and the longest time without one.
    last_write: Instant,
    pause: Duration,
}

impl Tally {
    /// Counts what ends from `from` on and before `until`.
    pub(crate) fn new(from: Instant, until: Instant) -> Tally {
        let latencies = [Kind::Put, Kind::Get].into_iter().map(|kind| {
            let histogram = Histogram::new_with_bounds(1, LATENCY_US_MAX, 3);
            (kind, histogram.expect("the bounds are in order and the digits few"))
        });
        Tally {
            from,
            until,
            latencies: latencies.collect(),
            errors: BTreeMap::new(),
            missing: 0,
            done: 0,
            last_write: from,
            pause: Duration::ZERO,
        }
    }

    /// When to stop asking.
    pub(crate) fn until(&self) -> Instant {
        self.until
    }

    /// Operations that were done, counted or not: for the display.
    pub(crate) fn done(&self) -> u64 {
        self.done
    }

    /// Errors so far.
    pub(crate) fn error_count(&self) -> u64 {
        self.errors.values().sum()
    }

    /// An operation was done.
    pub(crate) fn record(&mut self, kind: Kind, begun: Instant, ended: Instant) {
        self.done += 1;
        if ended < self.from || ended >= self.until {
            return;
        }
        let us = (ended - begun).as_micros() as u64;
        if let Some(histogram) = self.latencies.get_mut(&kind) {
            histogram.saturating_record(us.max(1));
        }
        if kind == Kind::Put {
            self.pause = self.pause.max(ended.saturating_duration_since(self.last_write));
            self.last_write = ended;
        }
    }

    /// A read has found nothing.
    pub(crate) fn record_missing(&mut self) {
        self.missing += 1;
    }

    /// An operation has failed; `what` in one or a few words.
    pub(crate) fn record_error(&mut self, what: &str) {
        match self.errors.get_mut(what) {
            Some(count) => *count += 1,
            None => {
                self.errors.insert(what.to_string(), 1);
            }
        }
    }

    /// The result, once the time is over.
    pub(crate) fn report(self, target: &str, load: &Load, pipeline: u16) -> Report {
        let pause = self.pause.max(self.until.saturating_duration_since(self.last_write));
        let has_writes = self.latencies.get(&Kind::Put).is_some_and(|h| !h.is_empty());
        Report {
            target: target.to_string(),
            load: load.clone(),
            pipeline,
            latencies: self.latencies,
            errors: self.errors,
            missing: self.missing,
            pause: has_writes.then_some(pause),
        }
    }
}

/// What a bench has measured.
#[derive(Debug)]
pub(crate) struct Report {
    target: String,
    load: Load,
    pipeline: u16,
    latencies: BTreeMap<Kind, Histogram<u64>>,
    errors: BTreeMap<String, u64>,
    missing: u64,
    /// The longest time without a write that was acknowledged.
    pause: Option<Duration>,
}

const QUANTILES: [(&str, f64); 4] =
    [("p50_us", 0.5), ("p90_us", 0.9), ("p99_us", 0.99), ("p999_us", 0.999)];

fn name(kind: Kind) -> &'static str {
    match kind {
        Kind::Put => "put",
        Kind::Get => "get",
    }
}

impl Report {
    /// How many operations were done.
    pub(crate) fn ops(&self) -> u64 {
        self.latencies.values().map(Histogram::len).sum()
    }

    fn per_second(&self, ops: u64) -> u64 {
        (ops as f64 / self.load.seconds).round() as u64
    }

    /// What has gone wrong, if nothing was done at all.
    pub(crate) fn nothing_done(&self) -> Option<String> {
        let errors: Vec<String> =
            self.errors.iter().map(|(what, count)| format!("{what} ({count} times)")).collect();
        (self.ops() == 0).then(|| format!("no operation was done: {}", errors.join(", ")))
    }

    /// For scripts. Latencies are in microseconds.
    pub(crate) fn to_json(&self) -> Json {
        let load = &self.load;
        let mut report = json!({
            "target": self.target,
            "workload": format!("{:?}", load.workload).to_lowercase(),
            "clients": load.clients,
            "pipeline": self.pipeline,
            "value_size": load.value_size,
            "keys": load.keys,
            "seconds": load.seconds,
            "ops": self.ops(),
            "ops_per_second": self.per_second(self.ops()),
            "errors": self.errors,
            "missing": self.missing,
            "longest_write_pause_ms": self.pause.map(|pause| pause.as_micros() as f64 / 1000.0),
        });
        for (kind, histogram) in self.measured() {
            let mut part = json!({
                "ops": histogram.len(),
                "ops_per_second": self.per_second(histogram.len()),
                "mean_us": histogram.mean(),
                "max_us": histogram.max(),
            });
            for (name, quantile) in QUANTILES {
                part[name] = json!(histogram.value_at_quantile(quantile));
            }
            report[name(kind)] = part;
        }
        report
    }

    /// For a person: one screen.
    pub(crate) fn to_text(&self) -> String {
        let load = &self.load;
        let mut text = format!(
            "{}: {} clients, pipeline {}, values of {} bytes, {} keys, {} s\n\n",
            self.target,
            load.clients,
            self.pipeline,
            load.value_size,
            thousands(load.keys),
            load.seconds
        );
        let row = |(kind, histogram): (Kind, &Histogram<u64>)| {
            let mut row = vec![name(kind).to_string(), thousands(self.per_second(histogram.len()))];
            row.extend(
                QUANTILES.map(|(_, quantile)| millis(histogram.value_at_quantile(quantile))),
            );
            row.push(millis(histogram.max()));
            row
        };
        let rows: Vec<Vec<String>> = self.measured().map(row).collect();
        text += &table(&["", "ops/s", "p50 ms", "p90 ms", "p99 ms", "p99.9 ms", "max ms"], &rows);
        if let Some(pause) = self.pause {
            let ms = pause.as_secs_f64() * 1000.0;
            text += &format!("\nlongest time without an acknowledged write: {ms:.1} ms\n");
        }
        if self.missing > 0 {
            let missing = thousands(self.missing);
            text += &format!("reads of absent keys: {missing} (--fill writes every key first)\n");
        }
        if self.errors.is_empty() {
            return text + "errors: none\n";
        }
        text += "errors:\n";
        for (what, count) in &self.errors {
            text += &format!("  {}  {what}\n", thousands(*count));
        }
        text
    }

    fn measured(&self) -> impl Iterator<Item = (Kind, &Histogram<u64>)> {
        let measured = self.latencies.iter().filter(|(_, histogram)| !histogram.is_empty());
        measured.map(|(kind, histogram)| (*kind, histogram))
    }
}

/// Microseconds in milliseconds.
fn millis(us: u64) -> String {
    format!("{:.3}", us as f64 / 1000.0)
}

#[cfg(test)]
mod tests {
    use clap::Parser;

    use super::*;
    use crate::clock;

    #[derive(Debug, Parser)]
    struct Line {
        #[command(flatten)]
        load: Load,
    }

    fn report() -> Report {
        let load = Line::try_parse_from(["bench", "--seconds", "1"]).unwrap().load;
        let ms = Duration::from_millis;
        let from = clock::now() + ms(100);
        let mut tally = Tally::new(from, from + ms(1000));
        tally.record(Kind::Put, from - ms(2), from - ms(1)); // warm-up
        for at in 0..100 {
            tally.record(Kind::Put, from + ms(at), from + ms(at + 2));
        }
        tally.record(Kind::Put, from + ms(400), from + ms(700));
        tally.record(Kind::Put, from, from + ms(1000)); // too late
        tally.record_error("INDETERMINATE");
        tally.record_error("INDETERMINATE");
        assert_eq!((tally.done(), tally.error_count()), (103, 2));
        tally.report("quorate", &load, 1)
    }

    #[test]
    fn what_lies_outside_the_time_is_not_counted() {
        let json = report().to_json();
        assert_eq!(json["ops"], 101);
        assert_eq!(json["ops_per_second"], 101);
        assert_eq!(json["errors"]["INDETERMINATE"], 2);
        assert_eq!(json["put"]["ops"], 101);
        assert!((1990..2010).contains(&json["put"]["p50_us"].as_u64().unwrap()), "{json}");
        assert!((299_000..301_000).contains(&json["put"]["max_us"].as_u64().unwrap()), "{json}");
        // From the write at 101 ms to that at 700 ms.
        assert_eq!(json["longest_write_pause_ms"], 599.0);
        assert_eq!(json["get"], Json::Null);
    }

    #[test]
    fn one_screen_for_a_person() {
        let text = report().to_text();
        assert!(text.contains("longest time without an acknowledged write: 599.0 ms"), "{text}");
        assert!(text.contains("errors:\n  2  INDETERMINATE\n"), "{text}");
        assert!(text.lines().count() < 24, "{text}");
    }
}
