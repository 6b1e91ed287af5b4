//! `/metrics`: what is counted, as OpenMetrics text.
//!
//! Nothing is counted here. The counters live with those who count; a scrape reads them, and
//! writes them through a registry of its own, so that many nodes fit into one process.

use std::{borrow::Cow, fmt, time::Duration};

use prometheus_client::{
    collector::Collector,
    encoding::{DescriptorEncoder, EncodeLabelSet, EncodeMetric, text},
    metrics::{MetricType, counter::ConstCounter, gauge::ConstGauge},
    registry::Registry,
};
use quorate_cluster::PeerView;
use quorate_persistence::Owners;
use quorate_protocol::NodeId;
use quorate_rsm::Status;
use quorate_stage::MailboxView;

/// What [`render`] writes.
pub(crate) const CONTENT_TYPE: &str = "application/openmetrics-text; version=1.0.0; charset=utf-8";

/// The counts of the journal.
#[derive(Clone, Copy, Debug)]
pub(crate) struct JournalCounts {
    syncs: u64,
    bytes: u64,
    records: u64,
}

impl From<&Owners> for JournalCounts {
    fn from(owners: &Owners) -> Self {
        let (syncs, bytes, records) = (owners.syncs(), owners.bytes(), owners.records());
        JournalCounts { syncs, bytes, records }
    }
}

/// Everything that one scrape has read.
#[derive(Clone, Debug)]
pub(crate) struct Scrape {
    pub(crate) node: NodeId,
    pub(crate) version: String,
    pub(crate) uptime: Duration,
    pub(crate) actors: Vec<MailboxView>,
    /// None for a node without links.
    pub(crate) peers: Option<Vec<PeerView>>,
    pub(crate) journal: JournalCounts,
    /// None if the rsm did not answer.
    pub(crate) rsm: Option<Status>,
}

/// The text of a scrape.
pub(crate) fn render(scrape: Scrape) -> Result<String, fmt::Error> {
    let node = (Cow::Borrowed("node"), Cow::Owned(scrape.node.to_string()));
    let mut registry = Registry::with_prefix_and_labels("quorate", [node].into_iter());
    registry.register_collector(Box::new(scrape));
    let mut written = String::new();
    text::encode(&mut written, &registry)?;
    Ok(written)
}

impl Collector for Scrape {
    fn encode(&self, encoder: DescriptorEncoder<'_>) -> Result<(), fmt::Error> {
        let mut page = Page(encoder);
        self.write_node(&mut page)?;
        self.write_actors(&mut page)?;
        if let Some(peers) = &self.peers {
            write_peers(peers, &mut page)?;
        }
        self.write_journal(&mut page)?;
        self.write_rsm(&mut page)
    }
}

impl Scrape {
    fn write_node(&self, page: &mut Page<'_>) -> fmt::Result {
        let help = "The version of quorate that runs here";
        let mut build = page.0.encode_descriptor("build", help, None, MetricType::Info)?;
        build.encode_info(&[("version", self.version.as_str())])?;
        page.gauge("uptime_seconds", "Time since the node started", self.uptime.as_secs_f64())
    }

    fn write_actors(&self, page: &mut Page<'_>) -> fmt::Result {
        let kinds = || {
            self.actors.iter().flat_map(|view| {
                let name = view.actor.name.as_str();
                view.kinds.iter().map(move |kind| ([("actor", name), ("kind", kind.kind)], kind))
            })
        };
        page.counters(
            "actor_messages_enqueued",
            "Messages put into an actor's mailbox; AskStatus is what this page asks the rsm",
            kinds().map(|(labels, kind)| (labels, kind.enqueued)),
        )?;
        page.counters(
            "actor_messages_handled",
            "Messages taken out of an actor's mailbox",
            kinds().map(|(labels, kind)| (labels, kind.handled)),
        )?;
        let actors =
            || self.actors.iter().map(|view| ([("actor", view.actor.name.as_str())], &view.actor));
        page.gauges(
            "actor_mailbox_depth",
            "Messages that wait in an actor's mailbox",
            actors().map(|(labels, actor)| (labels, actor.depth as f64)),
        )?;
        let seconds = |ns: u64| Duration::from_nanos(ns).as_secs_f64();
        page.gauges(
            "actor_busy_seconds",
            "How long an actor has been working on its present message, 0 for none",
            actors().map(|(labels, actor)| {
                (labels, actor.busy.as_ref().map_or(0.0, |busy| seconds(busy.age_ns)))
            }),
        )?;
        page.counters(
            "actor_restarts",
            "Restarts of an actor after a panic or an injected crash",
            actors().map(|(labels, actor)| (labels, actor.restarts)),
        )
    }

    fn write_journal(&self, page: &mut Page<'_>) -> fmt::Result {
        let JournalCounts { syncs, bytes, records } = self.journal;
        page.counter("journal_syncs", "Group commits: one write and one sync each", syncs)?;
        page.counter("journal_bytes", "Bytes of the group commits", bytes)?;
        page.counter("journal_records", "Records in the group commits", records)
    }

    fn write_rsm(&self, page: &mut Page<'_>) -> fmt::Result {
        let answered = if self.rsm.is_some() { 1.0 } else { 0.0 };
        let help = "1 if the rsm answered this scrape in time; if not, nothing else of it is here";
        page.gauge("rsm_answered", help, answered)?;
        let Some(rsm) = &self.rsm else { return Ok(()) };
        let flag = |is: bool| if is { 1.0 } else { 0.0 };
        let leader = f64::from(rsm.leader.unwrap_or_default());
        page.gauge("rsm_ready", "1 when the state has been recovered", flag(rsm.ready))?;
        page.gauge("rsm_leader", "The node that leads, as far as known here, or 0", leader)?;
        page.gauge("rsm_applied", "Last index applied", rsm.applied as f64)?;
        let help = "Last index in a durable checkpoint";
        page.gauge("rsm_checkpointed", help, rsm.checkpointed as f64)?;
        let help = "Bytes of the log since the last checkpoint was begun";
        page.gauge("rsm_log_bytes", help, rsm.log_bytes as f64)?;
        page.counter("rsm_checkpoints_taken", "Checkpoints made since the rsm started", rsm.taken)?;
        let help = "Checkpoints of other nodes taken over since the rsm started";
        page.counter("rsm_checkpoints_installed", help, rsm.installed)?;
        page.gauge("rsm_waiting", "Commands and reads that wait", rsm.waiting as f64)?;
        let help = "Commands applied since the rsm started, duplicates not counted";
        page.counter("rsm_commands", help, rsm.commands)?;
        page.counter("rsm_duplicates", "Duplicates found since the rsm started", rsm.duplicates)
    }
}

fn write_peers(peers: &[PeerView], page: &mut Page<'_>) -> fmt::Result {
    let named: Vec<(String, &PeerView)> =
        peers.iter().map(|view| (view.node.to_string(), view)).collect();
    let sent = || {
        named.iter().flat_map(|(peer, view)| {
            let labels = |what| [("peer", peer.as_str()), ("kind", what)];
            view.sent.iter().map(move |tally| (labels(tally.what.as_str()), tally))
        })
    };
    let received = || {
        named.iter().flat_map(|(peer, view)| {
            let labels = |what| [("peer", peer.as_str()), ("actor", what)];
            view.received.iter().map(move |tally| (labels(tally.what.as_str()), tally))
        })
    };
    page.counters(
        "cluster_sent_parcels",
        "Messages sent to a peer, by kind",
        sent().map(|(labels, tally)| (labels, tally.parcels)),
    )?;
    page.counters(
        "cluster_sent_bytes",
        "Bytes of the messages sent to a peer, headers included",
        sent().map(|(labels, tally)| (labels, tally.bytes)),
    )?;
    page.counters(
        "cluster_received_parcels",
        "Messages received from a peer, by the actor that they are for",
        received().map(|(labels, tally)| (labels, tally.parcels)),
    )?;
    page.counters(
        "cluster_received_bytes",
        "Bytes of the messages received from a peer, headers included",
        received().map(|(labels, tally)| (labels, tally.bytes)),
    )?;
    page.counters(
        "cluster_dropped_parcels",
        "Messages to or from a peer that were lost here; n0 is whoever is not a peer",
        named.iter().flat_map(|(peer, view)| {
            view.dropped.iter().map(move |(reason, count)| {
                ([("peer", peer.as_str()), ("reason", reason.as_str())], *count)
            })
        }),
    )?;
    let each = |count: fn(&PeerView) -> u64| {
        named.iter().map(move |(peer, view)| ([("peer", peer.as_str())], count(view)))
    };
    page.counters("cluster_connects", "How often the link was made", each(|view| view.connects))?;
    page.counters("cluster_refusals", "Handshakes refused here", each(|view| view.refusals))?;
    let help = "Handshakes refused by the peer";
    page.counters("cluster_refusals_by_peer", help, each(|view| view.refusals_by_it))?;
    page.counters("cluster_alarms", "How often it broke the rules", each(|view| view.alarms))?;
    let waiting = each(|view| view.queued_bytes).map(|(labels, bytes)| (labels, bytes as f64));
    page.gauges("cluster_queued_bytes", "Bytes that wait for the link", waiting)
}

/// Writes whole families: a name, and all that bears it.
struct Page<'a>(DescriptorEncoder<'a>);

impl Page<'_> {
    fn family<L: EncodeLabelSet, M: EncodeMetric>(
        &mut self,
        name: &str,
        help: &str,
        kind: MetricType,
        rows: impl Iterator<Item = (L, M)>,
    ) -> fmt::Result {
        let mut family = self.0.encode_descriptor(name, help, None, kind)?;
        for (labels, metric) in rows {
            metric.encode(family.encode_family(&labels)?)?;
        }
        Ok(())
    }

    fn counters<L: EncodeLabelSet>(
        &mut self,
        name: &str,
        help: &str,
        rows: impl Iterator<Item = (L, u64)>,
    ) -> fmt::Result {
        let rows = rows.map(|(labels, count)| (labels, ConstCounter::new(count)));
        self.family(name, help, MetricType::Counter, rows)
    }

    fn gauges<L: EncodeLabelSet>(
        &mut self,
        name: &str,
        help: &str,
        rows: impl Iterator<Item = (L, f64)>,
    ) -> fmt::Result {
        let rows = rows.map(|(labels, value)| (labels, ConstGauge::new(value)));
        self.family(name, help, MetricType::Gauge, rows)
    }

    fn counter(&mut self, name: &str, help: &str, count: u64) -> fmt::Result {
        let metric = ConstCounter::new(count);
        metric.encode(self.0.encode_descriptor(name, help, None, MetricType::Counter)?)
    }

    fn gauge(&mut self, name: &str, help: &str, value: f64) -> fmt::Result {
        let metric = ConstGauge::new(value);
        metric.encode(self.0.encode_descriptor(name, help, None, MetricType::Gauge)?)
    }
}
