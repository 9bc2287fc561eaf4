//! A sample as text, in the OpenMetrics format that Prometheus scrapes.

use std::fmt::Error;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use probe_common::map::{EndpointSignals, SubsetSignals};
use probe_common::times::{Measured, SubsetTimes, UNIT_SHIFT};
use prometheus_client::collector::Collector;
use prometheus_client::encoding::{DescriptorEncoder, MetricEncoder, NoLabelSet, text};
use prometheus_client::metrics::MetricType;
use prometheus_client::registry::{Registry, Unit};

use super::catalog::{self, Kind, Metric};
use super::sample::{ClusterSample, EndpointSample, Sample, SubsetSample};

/// The content type of an [`exposition`].
pub(super) const CONTENT_TYPE: &str = "application/openmetrics-text; version=1.0.0; charset=utf-8";

/// The text of a sample.
pub fn exposition(sample: Sample) -> Result<String, Error> {
    let mut registry = Registry::default();
    registry.register_collector(Box::new(Families(sample)));
    let mut text = String::new();
    text::encode(&mut text, &registry)?;
    Ok(text)
}

#[derive(Debug)]
struct Families(Sample);

/// The value of a series.
#[derive(Clone, Copy)]
enum Value {
    Whole(u64),
    Real(f64),
}

/// A histogram: its sum in seconds, and how many there were up to each time.
struct Distribution {
    sum: f64,
    count: u64,
    buckets: Vec<(f64, u64)>,
}

impl Distribution {
    /// The usual times alone, which is where buckets begin and end: a series for each bucket of
    /// each subset is what a monitoring system has to keep. Nine or more are in a factor of ten.
    fn of(times: &SubsetTimes, measured: Measured) -> Self {
        // From 32 us to 34 s, every third of eight in a factor of two; from 1 ms to 18 minutes,
        // each of four.
        let (from, to, step) = match measured {
            Measured::Handshake | Measured::Reply => (5, 25, 3),
            Measured::Life => (10, 30, 1),
        };
        let all = times.buckets(measured);
        let is_usual = |at: usize| {
            let least = measured.least(at);
            (1 << from..=1u64 << to).contains(&least)
        };
        let edges = (1..all.len()).filter(|&at| is_usual(at)).step_by(step);
        let mut begin = 0;
        let mut buckets: Vec<(f64, u64)> = edges
            .map(|at| {
                let count = all[begin..at].iter().sum();
                begin = at;
                (seconds_of(measured.least(at)), count)
            })
            .collect();
        buckets.push((f64::INFINITY, all[begin..].iter().sum()));
        let sum = seconds_of(times.sum(measured));
        Self { sum, count: all.iter().sum(), buckets }
    }
}

fn seconds_of(units: u64) -> f64 {
    Duration::from_nanos(units << UNIT_SHIFT).as_secs_f64()
}

/// A series: the values of the metric's labels, and its own.
type Series<'a, const N: usize> = ([&'a str; N], Value);

/// Writes families.
struct Writer<'a>(DescriptorEncoder<'a>);

impl Writer<'_> {
    fn family<'v, const N: usize>(
        &mut self,
        metric: Metric,
        all: impl IntoIterator<Item = Series<'v, N>>,
    ) -> Result<(), Error> {
        let kind = match metric.kind {
            Kind::Counter => MetricType::Counter,
            Kind::Gauge => MetricType::Gauge,
            Kind::Histogram => MetricType::Histogram,
        };
        let unit = metric.unit.map(|unit| Unit::Other(unit.to_owned()));
        let mut family = self.0.encode_descriptor(metric.stem, metric.help, unit.as_ref(), kind)?;
        for (values, value) in all {
            debug_assert_eq!(metric.labels.len(), N, "{}", metric.stem);
            let labels: Vec<(&str, &str)> = metric.labels.iter().copied().zip(values).collect();
            if labels.is_empty() {
                encode(&mut family, metric.kind, value)?;
            } else {
                encode(&mut family.encode_family(&labels)?, metric.kind, value)?;
            }
        }
        Ok(())
    }

    fn distributions<'v, const N: usize>(
        &mut self,
        metric: Metric,
        all: impl IntoIterator<Item = ([&'v str; N], Distribution)>,
    ) -> Result<(), Error> {
        let unit = metric.unit.map(|unit| Unit::Other(unit.to_owned()));
        let kind = MetricType::Histogram;
        let mut family = self.0.encode_descriptor(metric.stem, metric.help, unit.as_ref(), kind)?;
        for (values, Distribution { sum, count, buckets }) in all {
            let labels: Vec<(&str, &str)> = metric.labels.iter().copied().zip(values).collect();
            let mut series = family.encode_family(&labels)?;
            series.encode_histogram::<NoLabelSet>(sum, count, &buckets, None)?;
        }
        Ok(())
    }
}

fn encode(series: &mut MetricEncoder<'_>, kind: Kind, value: Value) -> Result<(), Error> {
    match (kind, value) {
        (Kind::Counter, Value::Whole(value)) => {
            series.encode_counter::<NoLabelSet, u64, u64>(&value, None)
        }
        (Kind::Counter, Value::Real(value)) => {
            series.encode_counter::<NoLabelSet, f64, u64>(&value, None)
        }
        (Kind::Gauge, Value::Whole(value)) => series.encode_gauge(&value),
        (Kind::Gauge, Value::Real(value)) => series.encode_gauge(&value),
        // These are distributions.
        (Kind::Histogram, _) => Err(Error),
    }
}

fn seconds(time: SystemTime) -> Value {
    Value::Real(time.duration_since(UNIX_EPOCH).unwrap_or_default().as_secs_f64())
}

impl Collector for Families {
    fn encode(&self, encoder: DescriptorEncoder<'_>) -> Result<(), Error> {
        let (Self(sample), mut writer) = (self, Writer(encoder));
        agent(&mut writer, sample)?;
        flow_tables(&mut writer, sample)?;
        splits(&mut writer, sample)?;
        subsets(&mut writer, &sample.subsets, sample.tick)?;
        endpoints(&mut writer, &sample.endpoints)
    }
}

fn agent(writer: &mut Writer<'_>, sample: &Sample) -> Result<(), Error> {
    let layout = probe_common::map::ABI_VERSION.to_string();
    let build = ([env!("CARGO_PKG_VERSION"), layout.as_str()], Value::Whole(1));
    writer.family(catalog::BUILD_INFO, [build])?;
    writer.family(catalog::UNLOADED, [([], Value::Whole(u64::from(sample.unloaded)))])?;
    let configuration = &sample.configuration;
    writer.family(catalog::CONFIG_PROBLEMS, [([], Value::Whole(configuration.problems))])?;
    let reloaded = configuration.reloaded.map(|time| ([], seconds(time)));
    writer.family(catalog::CONFIG_RELOADED, reloaded)?;
    cluster(writer, sample.cluster.as_ref())?;
    let interfaces = sample.interfaces.iter().map(|found| {
        let labels = [found.interface.as_str(), &found.hook, &found.mode];
        (labels, Value::Whole(u64::from(!found.mode.is_empty())))
    });
    writer.family(catalog::INTERFACE_ATTACHED, interfaces)?;
    let detached = sample.interfaces.iter();
    let detached = detached.map(|i| ([i.interface.as_str(), &i.hook], Value::Whole(i.detached)));
    writer.family(catalog::INTERFACE_DETACHED, detached)?;
    let limits = sample.limits.iter();
    writer.family(catalog::IDS_USED, limits.clone().map(|l| ([l.kind], Value::Whole(l.used))))?;
    writer.family(catalog::IDS_LIMIT, limits.map(|l| ([l.kind], Value::Whole(l.limit))))
}

fn cluster(writer: &mut Writer<'_>, found: Option<&ClusterSample>) -> Result<(), Error> {
    let Some(found) = found else { return Ok(()) };
    let whole = |value: u64| [([], Value::Whole(value))];
    writer.family(catalog::CLUSTER_CONNECTED, whole(u64::from(found.connected)))?;
    let stale = found.stale_since.map(|time| ([], seconds(time)));
    writer.family(catalog::CLUSTER_STALE, stale)?;
    let objects = found.objects.iter();
    let objects = objects.map(|(kind, &count)| ([kind.as_str()], Value::Whole(count)));
    writer.family(catalog::CLUSTER_OBJECTS, objects)?;
    let failing = found
        .objects
        .keys()
        .map(|kind| ([kind.as_str()], Value::Whole(u64::from(found.failing.contains(kind)))));
    writer.family(catalog::CLUSTER_FAILING, failing)?;
    writer.family(catalog::CLUSTER_REJECTED, whole(found.rejected))?;
    let requests = found.requests.iter();
    let requests = requests.map(|(verb, &count)| ([verb.as_str()], Value::Whole(count)));
    writer.family(catalog::CLUSTER_REQUESTS, requests)?;
    writer.family(catalog::CLUSTER_RECEIVED, whole(found.bytes))?;
    writer.family(catalog::CLUSTER_OUTAGES, whole(found.outages))
}

fn flow_tables(writer: &mut Writer<'_>, sample: &Sample) -> Result<(), Error> {
    let limits = sample.flows.limits.iter();
    let limits = limits.map(|(&(family, table), &flows)| ([family, table], Value::Whole(flows)));
    writer.family(catalog::FLOW_TABLE_LIMIT, limits)?;
    let counted = sample.flows.counted.as_ref();
    let flows = counted.iter().flat_map(|(_, tables)| tables);
    let flows = flows.flat_map(|(&(family, table), flows)| {
        let [active, expired] = flows.map(Value::Whole);
        [([family, table, "active"], active), ([family, table, "expired"], expired)]
    });
    writer.family(catalog::FLOW_TABLE_FLOWS, flows)?;
    let live = counted.iter().flat_map(|(_, tables)| tables.keys());
    let full = live.filter(|(_, table)| *table == "live").map(|name @ &(family, table)| {
        ([family, table], Value::Whole(u64::from(sample.flows.full.contains(name))))
    });
    writer.family(catalog::FLOW_TABLE_FULL, full)?;
    let time = counted.map(|&(time, _)| ([], seconds(time)));
    writer.family(catalog::FLOW_TABLE_COUNTED, time)
}

fn splits(writer: &mut Writer<'_>, sample: &Sample) -> Result<(), Error> {
    let reasons = sample.reasons.iter();
    let reasons = reasons.map(|(reason, &packets)| ([reason.as_str()], Value::Whole(packets)));
    writer.family(catalog::REASON_PACKETS, reasons)?;
    let splits = sample.splits.iter().map(|found| {
        let labels = [found.split.as_str(), &found.address, &found.protocol, &found.affinity];
        (labels, Value::Whole(1))
    });
    writer.family(catalog::SPLIT_INFO, splits)
}

/// One of the counters of what became of flows.
type Of = fn(&SubsetSignals) -> u64;

fn subsets(writer: &mut Writer<'_>, all: &[SubsetSample], tick: Duration) -> Result<(), Error> {
    let mut family = |metric, value: &dyn Fn(&SubsetSample) -> Option<Value>| {
        let series = all
            .iter()
            .filter_map(|one| Some(([one.split.as_str(), one.subset.as_str()], value(one)?)));
        writer.family(metric, series)
    };
    let whole = |value| Some(Value::Whole(value));
    family(catalog::SUBSET_WEIGHT, &|one| whole(one.weight.into()))?;
    family(catalog::SUBSET_WANTED_SHARE, &|one| Some(Value::Real(one.wanted_share)))?;
    family(catalog::SUBSET_FLOWS, &|one| whole(one.counters.stats.flows))?;
    family(catalog::SUBSET_REJECTED, &|one| whole(one.counters.stats.rejected))?;
    family(catalog::SUBSET_COMPLETED, &|one| whole(one.counters.stats.completed))?;
    family(catalog::SUBSET_REFUSED, &|one| whole(one.counters.stats.refused))?;
    family(catalog::SUBSET_ENDED, &|one| whole(one.counters.stats.ended))?;
    family(catalog::SUBSET_DURATION, &|one| {
        Some(Value::Real(one.counters.stats.ended_ticks as f64 * tick.as_secs_f64()))
    })?;
    let signals: [(_, Of); 10] = [
        (catalog::SUBSET_SYN_RETRANSMITS, |signals| signals.syn_retransmits),
        (catalog::SUBSET_UNANSWERED, |signals| signals.unanswered),
        (catalog::SUBSET_SYN_ACK_RETRANSMITS, |signals| signals.syn_ack_retransmits),
        (catalog::SUBSET_ASKED, |signals| signals.asked),
        (catalog::SUBSET_REPLIED, |signals| signals.replied),
        (catalog::SUBSET_ENDED_BY_FIN, |signals| signals.ended_by_fin),
        (catalog::SUBSET_RESET_BY_CLIENT, |signals| signals.reset_by_client),
        (catalog::SUBSET_RESET_BEFORE_REPLY, |signals| signals.reset_before_reply),
        (catalog::SUBSET_RESET_AFTER_REPLY, |signals| signals.reset_after_reply),
        (catalog::SUBSET_EARLY_RESETS, |signals| signals.early_resets),
    ];
    for (metric, of) in signals {
        family(metric, &|one| whole(of(&one.counters.signals)))?;
    }
    family(catalog::SUBSET_UNREACHABLE, &|one| whole(one.counters.errors.unreachable))?;
    times(writer, all)?;
    let active = all.iter().filter_map(|one| {
        Some(([one.split.as_str(), one.subset.as_str()], Value::Whole(one.open_flows?)))
    });
    writer.family(catalog::SUBSET_ACTIVE, active)
}

/// Of the subsets of which any time was measured.
fn times(writer: &mut Writer<'_>, all: &[SubsetSample]) -> Result<(), Error> {
    for (metric, measured) in [
        (catalog::SUBSET_HANDSHAKE, Measured::Handshake),
        (catalog::SUBSET_REPLY, Measured::Reply),
        (catalog::SUBSET_LIFE, Measured::Life),
    ] {
        let found = all.iter().filter_map(|one| {
            let distribution = Distribution::of(one.times.as_deref()?, measured);
            let labels = [one.split.as_str(), one.subset.as_str()];
            (distribution.count > 0).then_some((labels, distribution))
        });
        writer.distributions(metric, found)?;
    }
    Ok(())
}

/// One of the counters of what became of an endpoint's flows.
type OfEndpoint = fn(&EndpointSignals) -> u64;

/// By the names that the label has.
const OUTCOMES: [(&str, OfEndpoint); 8] = [
    ("completed", |signals| signals.completed),
    ("refused", |signals| signals.refused),
    ("unanswered", |signals| signals.unanswered),
    ("unreachable", |signals| signals.unreachable),
    ("ended_by_fin", |signals| signals.ended_by_fin),
    ("reset_by_client", |signals| signals.reset_by_client),
    ("reset_before_reply", |signals| signals.reset_before_reply),
    ("reset_after_reply", |signals| signals.reset_after_reply),
];

fn endpoints(writer: &mut Writer<'_>, all: &[EndpointSample]) -> Result<(), Error> {
    /// With its address as text.
    type Named<'a> = (&'a EndpointSample, String);
    fn labels<'a>((one, address): &'a Named<'_>) -> [&'a str; 3] {
        [one.split.as_str(), one.subset.as_str(), address]
    }
    fn labelled<'a>((one, address): &'a Named<'_>, last: &'a str) -> [&'a str; 4] {
        [one.split.as_str(), one.subset.as_str(), address, last]
    }
    let all: Vec<Named<'_>> = all.iter().map(|one| (one, one.endpoint.to_string())).collect();
    let phases = all.iter().map(|one| (labelled(one, one.0.phase), Value::Whole(1)));
    writer.family(catalog::ENDPOINT_PHASE, phases)?;
    let flows = all.iter().map(|one| (labels(one), Value::Whole(one.0.counters.stats.flows)));
    writer.family(catalog::ENDPOINT_FLOWS, flows)?;
    let outcomes = all.iter().flat_map(|one| {
        OUTCOMES.map(|(name, of)| (labelled(one, name), Value::Whole(of(&one.0.counters.signals))))
    });
    writer.family(catalog::ENDPOINT_OUTCOMES, outcomes)?;
    let mut both_ways = |metric, values: fn(&EndpointSample) -> [u64; 2]| {
        let series = all.iter().flat_map(|one| {
            let [forward, reply] = values(one.0).map(Value::Whole);
            [(labelled(one, "forward"), forward), (labelled(one, "reply"), reply)]
        });
        writer.family(metric, series)
    };
    both_ways(catalog::ENDPOINT_PACKETS, |one| {
        [one.counters.stats.forward_packets, one.counters.stats.reply_packets]
    })?;
    both_ways(catalog::ENDPOINT_BYTES, |one| {
        [one.counters.stats.forward_bytes, one.counters.stats.reply_bytes]
    })?;
    let active = all.iter().filter_map(|one| Some((labels(one), Value::Whole(one.0.open_flows?))));
    writer.family(catalog::ENDPOINT_ACTIVE, active)
}
