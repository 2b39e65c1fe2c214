//! Metrics in the OpenMetrics text format. They are rendered from the node's state at each scrape, so a series ends with its channel.
//!
//! Names that begin with `milvus_wal_` are those of a Milvus streaming node, with its labels: its dashboards and alerts go on working.

use std::fmt;

use prometheus_client::collector::Collector;
use prometheus_client::encoding::{DescriptorEncoder, NoLabelSet, text};
use prometheus_client::metrics::MetricType;
use prometheus_client::registry::Registry;
use tidegate_core::ledger::Account;
use tidegate_core::pchannel::{ChannelStatus, Status};
use tidegate_message::MessageType;

use crate::node::{Durations, NODE_ID, NodeStatus};

/// Content type of the text format.
pub(super) const CONTENT_TYPE: &str = "application/openmetrics-text; version=1.0.0; charset=utf-8";

/// Renders the metrics of a node.
pub(super) fn render(status: NodeStatus) -> String {
    let mut registry = Registry::default();
    registry.register_collector(Box::new(Scrape(status)));
    let mut out = String::new();
    match text::encode(&mut out, &registry) {
        Ok(()) => out,
        Err(fmt::Error) => "# EOF\n".to_owned(),
    }
}

/// The state at one scrape.
#[derive(Debug)]
struct Scrape(NodeStatus);

/// Labels and value of one series.
type Series = (Vec<(&'static str, String)>, f64);

impl Collector for Scrape {
    fn encode(&self, mut out: DescriptorEncoder) -> fmt::Result {
        let Scrape(NodeStatus { pchannels, syncs, wal_name, .. }) = self;
        // A channel that is gone holds nothing: its series end.
        let channels: Vec<&ChannelStatus> = pchannels.iter().flat_map(|p| &p.channels).filter(|c| is_there(c)).collect();
        let mut family = |name: &str, help: &str, kind: MetricType, series: Vec<Series>| -> fmt::Result {
            let mut family = out.encode_descriptor(name, help, None, kind)?;
            for (labels, value) in &series {
                let mut one = family.encode_family(labels)?;
                match kind {
                    MetricType::Counter => one.encode_counter::<NoLabelSet, f64, f64>(value, None)?,
                    _ => one.encode_gauge(value)?,
                }
            }
            Ok(())
        };
        let by_pchannel = |of: fn(&Status) -> Series| pchannels.iter().map(of).collect::<Vec<_>>();
        let by_channel =
            |of: fn(&ChannelStatus) -> Option<f64>| channels.iter().filter_map(|c| Some((channel(c), of(c)?))).collect::<Vec<_>>();
        use MetricType::{Counter, Gauge};
        family("milvus_wal_flusher_info", "What the flusher of a pchannel is doing", Gauge, by_pchannel(info))?;
        let wal_info = |p: &Status| {
            let labels = [node(), ("channel_name", p.pchannel.clone()), ("term", p.term.to_string()), ("wal_name", wal_name.clone())];
            (labels.into(), 1.0)
        };
        family("milvus_wal_info", "Open logs", Gauge, pchannels.iter().map(wal_info).collect())?;
        family("milvus_wal_flusher_time_tick", "Seconds since 1970 of the last message read", Gauge, by_pchannel(time_tick))?;
        family("milvus_wal_flusher_empty_time_tick_filtered", "Idle ticks passed over", Counter, by_pchannel(idle_ticks))?;
        let pending = pchannels.iter().map(|p| p.syncs as f64).sum();
        let done = syncs.executed.count() as f64;
        family(
            "milvus_wal_flusher_sync_dispatcher_pending_tasks",
            "Segment writes and saves under way",
            Gauge,
            vec![(vec![node()], pending)],
        )?;
        family("milvus_wal_flusher_sync_dispatcher_task", "Segment writes and saves tried", Counter, vec![(vec![node()], done)])?;
        for (name, help, kind, of) in SCANNER {
            family(name, help, kind, pchannels.iter().flat_map(of).collect())?;
        }
        let lag = by_channel(|c| c.lag_ms.map(|ms| ms as f64 / 1_000.0));
        family(
            "tidegate_channel_checkpoint_lag_seconds",
            "Event time between the stored checkpoint and the last message read",
            Gauge,
            lag,
        )?;
        let pin_info = |c: &&ChannelStatus| {
            let kind = [("kind", c.pin_kind.clone())];
            (channel(c).into_iter().chain(kind).collect(), 1.0)
        };
        family("tidegate_channel_pin_info", "What holds the checkpoint", Gauge, channels.iter().map(pin_info).collect())?;
        family(
            "tidegate_channel_pin_age_seconds",
            "Event time between the first message that is not finished and the last message read",
            Gauge,
            by_channel(|c| c.pin_age_ms.map(|ms| ms as f64 / 1_000.0)),
        )?;
        family("tidegate_channel_pins", "Messages that hold the checkpoint", Gauge, by_channel(|c| Some(c.pins as f64)))?;
        family("tidegate_channel_held_bytes", "Bytes of messages that are not finished", Gauge, by_channel(|c| Some(c.held_bytes as f64)))?;
        let rows = channels.iter().flat_map(|c| ledger_rows(c)).collect();
        family("tidegate_ledger_rows", "Rows delivered since the scan was opened, by how they ended", Gauge, rows)?;
        family(
            "tidegate_guard_refusals",
            "Intents of the component that the host refused",
            Counter,
            by_pchannel(|p| count(p, p.guard_refusals)),
        )?;
        family(
            "tidegate_dead_letters",
            "Messages set aside because they cannot be flushed",
            Counter,
            by_pchannel(|p| count(p, p.dead_letters)),
        )?;
        family(
            "tidegate_scan_gaps",
            "Times that the record to go on from was not in the log any more",
            Counter,
            by_pchannel(|p| count(p, p.scan.gaps)),
        )?;
        family("tidegate_detached_channels", "Channels that are given up for now", Gauge, by_pchannel(|p| standing(p, "detached")))?;
        family(
            "tidegate_rejoining_channels",
            "Channels that read again what they missed while they were detached",
            Gauge,
            by_pchannel(|p| standing(p, "rejoining")),
        )?;
        family("tidegate_component_faults", "Component instances lost to a fault", Counter, by_pchannel(|p| count(p, p.faults)))?;
        family(
            "tidegate_component_events_dropped",
            "Events of the component that were not kept, because it logged too much in one call",
            Counter,
            by_pchannel(|p| count(p, p.events_dropped)),
        )?;
        for (name, help, durations) in [
            ("milvus_wal_flusher_sync_dispatcher_queue_duration_seconds", "How long segment writes and saves waited", &syncs.queued),
            ("milvus_wal_flusher_sync_dispatcher_execute_duration_seconds", "How long segment writes and saves took", &syncs.executed),
        ] {
            let bounds = Durations::bounds().chain([f64::INFINITY]);
            let buckets: Vec<(f64, u64)> = bounds.zip(durations.counts.iter().copied().chain(std::iter::repeat(0))).collect();
            let mut family = out.encode_descriptor(name, help, None, MetricType::Histogram)?;
            let labels = [node()];
            let mut one = family.encode_family(&labels)?;
            one.encode_histogram::<NoLabelSet>(durations.sum_seconds, durations.count(), &buckets, None)?;
        }
        Ok(())
    }
}

/// A family of the scanner: its name, its help, its kind, its series of one pchannel.
type ScannerFamily = (&'static str, &'static str, MetricType, fn(&Status) -> Vec<Series>);

/// What Milvus calls its scanners' state. Every scan of ours catches up from the log; there is no second one on the writer's memory.
const SCANNER: [ScannerFamily; 7] = [
    ("milvus_wal_scanner_total", "Scans of the log", MetricType::Gauge, |p| {
        let scans = f64::from(u8::from(p.state == "working"));
        vec![(of_scan(p, &[("scanner_model", "catchup")]), scans)]
    }),
    ("milvus_wal_scan_message", "Messages read from the log", MetricType::Counter, |p| {
        let series = |(kind, &count): (&MessageType, &u64)| {
            (of_scan(p, &[("message_type", kind.name()), ("scanner_model", "catchup")]), count as f64)
        };
        p.scan.messages.iter().map(series).collect()
    }),
    ("milvus_wal_scan_time_tick_violation_message", "Messages below a tick that was passed", MetricType::Counter, |p| {
        vec![(of_scan(p, &[("scanner_model", "catchup")]), p.scan.counters.violations as f64)]
    }),
    ("milvus_wal_scan_txn", "Transactions read, by how they ended", MetricType::Counter, |p| {
        let c = &p.scan.counters;
        let ends = [("committed", c.committed), ("rollback", c.rolled_back), ("expired", c.expired)];
        ends.map(|(state, count)| (of_scan(p, &[("state", state)]), count as f64)).into()
    }),
    ("milvus_wal_scanner_pending_queue_bytes", "Bytes that wait for the flusher", MetricType::Gauge, |p| {
        vec![(of_scan(p, &[]), p.scan.pending_bytes as f64)]
    }),
    ("milvus_wal_scanner_time_tick_buf_bytes", "Bytes that wait for their tick", MetricType::Gauge, |p| {
        vec![(of_scan(p, &[]), p.scan.reorder_bytes as f64)]
    }),
    ("milvus_wal_scanner_txn_buf_bytes", "Bytes of open transactions", MetricType::Gauge, |p| {
        vec![(of_scan(p, &[]), p.scan.transaction_bytes as f64)]
    }),
];

fn of_scan(p: &Status, more: &[(&'static str, &str)]) -> Vec<(&'static str, String)> {
    let labels = [node(), ("channel_name", p.pchannel.clone())];
    labels.into_iter().chain(more.iter().map(|(key, value)| (*key, (*value).to_owned()))).collect()
}

fn node() -> (&'static str, String) {
    ("node_id", NODE_ID.to_string())
}

fn info(p: &Status) -> Series {
    (vec![node(), ("channel_name", p.pchannel.clone()), ("term", p.term.to_string()), ("state", p.state.clone())], 1.0)
}

fn time_tick(p: &Status) -> Series {
    (vec![node(), ("channel_name", p.pchannel.clone()), ("term", p.term.to_string())], (p.tick >> 18) as f64 / 1_000.0)
}

fn idle_ticks(p: &Status) -> Series {
    (vec![node(), ("channel_name", p.pchannel.clone())], p.idle_ticks_filtered as f64)
}

fn count(p: &Status, count: u64) -> Series {
    (vec![node(), ("pchannel", p.pchannel.clone())], count as f64)
}

/// How many channels stand so.
fn standing(p: &Status, standing: &str) -> Series {
    count(p, p.channels.iter().filter(|c| c.standing == standing).count() as u64)
}

/// Whether a channel is there: dropped ones, and those that the coordinator never knew, are not.
fn is_there(c: &ChannelStatus) -> bool {
    !matches!(c.standing.as_str(), "dropped" | "unknown to the coordinator")
}

fn channel(c: &ChannelStatus) -> Vec<(&'static str, String)> {
    vec![node(), ("channel", c.vchannel.clone())]
}

fn ledger_rows(c: &ChannelStatus) -> Vec<Series> {
    let mut series = Vec::new();
    for (kind, account) in [("insert", &c.ledger.inserts), ("delete", &c.ledger.deletes)] {
        let Account { durable, duplicate, filtered, quarantined, pending, .. } = account;
        let ends = [("durable", durable), ("duplicate", duplicate), ("quarantined", quarantined), ("pending", pending)];
        for (end, rows) in ends.into_iter().chain(filtered.iter().map(|(reason, rows)| (reason.name(), rows))) {
            let mut labels = channel(c);
            labels.extend([("kind", kind.to_owned()), ("end", end.to_owned())]);
            series.push((labels, *rows as f64));
        }
    }
    series
}

#[cfg(test)]
mod tests {
    use tidegate_core::ledger::Ledger;
    use tidegate_core::scan::ScanStatus;

    use super::*;
    use crate::node::Syncs;

    #[test]
    fn a_scrape_has_the_names_and_labels_that_dashboards_know() {
        let mut ledger = Ledger::default();
        ledger.inserts.deliver(7);
        let channel = ChannelStatus {
            vchannel: "p_0_1v0".into(),
            standing: "served".into(),
            pin: "7 rows".into(),
            pin_kind: "rows".into(),
            pin_age_ms: Some(1_500),
            checkpoint_tick: Some(1),
            lag_ms: Some(2_500),
            pins: 3,
            held_bytes: 64,
            failing: None,
            stays_detached: false,
            behind_ms: None,
            ledger,
        };
        // Those that are gone have no series left, lag and pins included.
        let gone = ChannelStatus { vchannel: "p_0_2v0".into(), standing: "dropped".into(), ..channel.clone() };
        let unknown = ChannelStatus { vchannel: "p_0_3v0".into(), standing: "unknown to the coordinator".into(), ..channel.clone() };
        let detached = ChannelStatus { vchannel: "p_0_4v0".into(), standing: "detached".into(), ..channel.clone() };
        let rejoining = ChannelStatus { vchannel: "p_0_5v0".into(), standing: "rejoining".into(), ..channel.clone() };
        let pchannel = Status {
            pchannel: "p_0".into(),
            term: 4,
            state: "working".into(),
            reason: None,
            tick: 1_500 << 18,
            consume_tick: None,
            held_bytes: 64,
            bytes_max: 100,
            in_flight: 5,
            syncs: 2,
            faults: 1,
            guard_refusals: 0,
            dead_letters: 0,
            turns: 9,
            messages: 9,
            events_dropped: 6,
            idle_ticks_filtered: 5,
            unknown_types: 0,
            pressure_cuts: 0,
            component: "d".into(),
            good_component: None,
            probation: None,
            scan: ScanStatus { messages: [(MessageType::INSERT, 8)].into(), transaction_bytes: 12, ..ScanStatus::default() },
            channels: vec![channel, detached, rejoining, gone, unknown],
        };
        let mut counts = vec![0; 16];
        counts[0] = 3;
        let syncs =
            Syncs { queued: Durations { counts: counts.clone(), sum_seconds: 0.25 }, executed: Durations { counts, sum_seconds: 0.5 } };
        let status = NodeStatus {
            dir: "/n".into(),
            component_digest: "d".into(),
            component_bytes: 1,
            swaps: Vec::new(),
            budget_bytes: 100,
            wal_name: "rocksmq".into(),
            syncs,
            pchannels: vec![pchannel],
        };
        let text = render(status);
        for line in [
            r#"milvus_wal_flusher_info{node_id="1",channel_name="p_0",term="4",state="working"} 1.0"#,
            r#"milvus_wal_flusher_time_tick{node_id="1",channel_name="p_0",term="4"} 1.5"#,
            r#"milvus_wal_flusher_empty_time_tick_filtered_total{node_id="1",channel_name="p_0"} 5.0"#,
            r#"milvus_wal_flusher_sync_dispatcher_pending_tasks{node_id="1"} 2.0"#,
            r#"milvus_wal_flusher_sync_dispatcher_task_total{node_id="1"} 3.0"#,
            r#"milvus_wal_flusher_sync_dispatcher_queue_duration_seconds_bucket{le="0.001",node_id="1"} 3"#,
            r#"milvus_wal_flusher_sync_dispatcher_queue_duration_seconds_bucket{le="+Inf",node_id="1"} 3"#,
            r#"milvus_wal_flusher_sync_dispatcher_execute_duration_seconds_sum{node_id="1"} 0.5"#,
            r#"milvus_wal_info{node_id="1",channel_name="p_0",term="4",wal_name="rocksmq"} 1.0"#,
            r#"milvus_wal_scanner_total{node_id="1",channel_name="p_0",scanner_model="catchup"} 1.0"#,
            r#"milvus_wal_scan_message_total{node_id="1",channel_name="p_0",message_type="Insert",scanner_model="catchup"} 8.0"#,
            r#"milvus_wal_scan_txn_total{node_id="1",channel_name="p_0",state="committed"} 0.0"#,
            r#"milvus_wal_scanner_txn_buf_bytes{node_id="1",channel_name="p_0"} 12.0"#,
            r#"tidegate_channel_checkpoint_lag_seconds{node_id="1",channel="p_0_1v0"} 2.5"#,
            r#"tidegate_channel_pin_info{node_id="1",channel="p_0_1v0",kind="rows"} 1.0"#,
            r#"tidegate_channel_pin_age_seconds{node_id="1",channel="p_0_1v0"} 1.5"#,
            r#"tidegate_ledger_rows{node_id="1",channel="p_0_1v0",kind="insert",end="pending"} 7.0"#,
            r#"tidegate_detached_channels{node_id="1",pchannel="p_0"} 1.0"#,
            r#"tidegate_rejoining_channels{node_id="1",pchannel="p_0"} 1.0"#,
            r#"tidegate_component_faults_total{node_id="1",pchannel="p_0"} 1.0"#,
            r#"tidegate_component_events_dropped_total{node_id="1",pchannel="p_0"} 6.0"#,
        ] {
            assert!(text.lines().any(|l| l == line), "{line} is not in\n{text}");
        }
        assert!(!text.contains("p_0_2v0") && !text.contains("p_0_3v0"), "{text}");
        assert!(text.ends_with("# EOF\n"));
    }
}
