//! What the programs have counted.

use std::net::{IpAddr, SocketAddr};

use probe_common::map::{EndpointSignals, SubsetCounters};
use probe_common::times::{Measured, SubsetTimes, UNIT_SHIFT};
use serde::{Deserialize, Serialize};
use utoipa::{IntoParams, ToSchema};

use super::{ChangeView, Protocol};
use crate::model::{Split, SplitSettings};

/// Whose counters to show.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub struct StatsQuery {
    /// Only those of this split.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub split: Option<String>,
    /// With histograms of the times of subsets.
    #[serde(default)]
    pub histograms: bool,
}

/// Counters, at one time. All of them only grow, but begin anew with their
/// subset or endpoint: what happens in a second is the difference of two
/// answers over that of their times.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct StatsView {
    /// The time, as in RFC 3339.
    pub time: String,
    /// The time in nanoseconds since the node started.
    pub uptime_nanos: u64,
    /// How many seconds ago open flows were counted; None before that.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub open_flows_age: Option<u64>,
    /// The splits in force, by name.
    pub splits: Vec<SplitStatsView>,
}

/// Counters of a split.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct SplitStatsView {
    /// Its name.
    pub name: String,
    /// The virtual IP address.
    #[schema(value_type = String)]
    pub address: IpAddr,
    /// The port.
    pub port: u16,
    /// The transport protocol.
    pub protocol: Protocol,
    /// What it is set to.
    pub settings: SplitSettings,
    /// The version of the last change of its weights.
    pub version: u64,
    /// Seconds since its last change, or since the agent started.
    pub changed: u64,
    /// The last change of its weights, if any is remembered.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub last_change: Option<ChangeView>,
    /// Its subsets, in the order in which they were written.
    pub subsets: Vec<SubsetStatsView>,
}

impl SplitStatsView {
    /// Those of `subsets`, of a split whose weights last changed at `version`, and that itself
    /// changed that many seconds ago.
    pub fn of(split: &Split, version: u64, changed: u64, subsets: Vec<SubsetStatsView>) -> Self {
        Self {
            name: split.name().to_string(),
            address: split.address().ip,
            port: split.address().port,
            protocol: split.address().protocol.into(),
            settings: split.settings(),
            version,
            changed,
            last_change: None,
            subsets,
        }
    }
}

/// What became of TCP flows, as packets show that the programs saw. Of UDP, all are 0 but
/// `unreachable`.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct SignalsView {
    /// SYNs of clients that were sent again, before the handshake was complete.
    pub syn_retransmits: u64,
    /// Flows whose client sent its SYN again after two to three seconds or more, and had no answer
    /// by then.
    pub unanswered: u64,
    /// SYNs of endpoints that were sent again, before the handshake was complete.
    pub syn_ack_retransmits: u64,
    /// Flows whose client has sent data.
    pub asked: u64,
    /// Flows whose endpoint has sent data.
    pub replied: u64,
    /// Completed flows that both sides ended by a FIN.
    pub ended_by_fin: u64,
    /// Completed flows that the client reset.
    pub reset_by_client: u64,
    /// Completed flows that the endpoint reset before it had sent any data.
    pub reset_before_reply: u64,
    /// Completed flows that the endpoint reset after it had sent data.
    pub reset_after_reply: u64,
    /// Completed flows that the endpoint reset before any FIN, within about 10 seconds of their
    /// SYN; these are in one of the two before, too.
    pub early_resets: u64,
    /// Flows of whose first packet an ICMP error said that it cannot reach the endpoint, before
    /// anybody had answered.
    #[serde(default)]
    pub unreachable: u64,
}

impl SignalsView {
    /// What was counted since it was `before`.
    pub fn since(now: &SubsetCounters, before: &SubsetCounters) -> Self {
        let unreachable = now.errors.unreachable.saturating_sub(before.errors.unreachable);
        let (now, before) = (&now.signals, &before.signals);
        let since =
            |of: fn(&probe_common::map::SubsetSignals) -> u64| of(now).saturating_sub(of(before));
        Self {
            unreachable,
            syn_retransmits: since(|signals| signals.syn_retransmits),
            unanswered: since(|signals| signals.unanswered),
            syn_ack_retransmits: since(|signals| signals.syn_ack_retransmits),
            asked: since(|signals| signals.asked),
            replied: since(|signals| signals.replied),
            ended_by_fin: since(|signals| signals.ended_by_fin),
            reset_by_client: since(|signals| signals.reset_by_client),
            reset_before_reply: since(|signals| signals.reset_before_reply),
            reset_after_reply: since(|signals| signals.reset_after_reply),
            early_resets: since(|signals| signals.early_resets),
        }
    }

    /// Flows that the endpoint reset after their handshake.
    pub fn reset_by_endpoint(&self) -> u64 {
        self.reset_before_reply + self.reset_after_reply
    }
}

impl From<&SubsetCounters> for SignalsView {
    fn from(counters: &SubsetCounters) -> Self {
        Self::since(counters, &SubsetCounters::default())
    }
}

/// How long something took, as far as the buckets of the histogram tell: percentiles are within
/// 7 % (of lives 13 %).
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct TimeView {
    /// How often it was measured.
    pub count: u64,
    /// Nanoseconds on average.
    pub mean_nanos: u64,
    /// Half of all were at most so many nanoseconds.
    pub p50_nanos: u64,
    /// 90 % were.
    pub p90_nanos: u64,
    /// 99 % were.
    pub p99_nanos: u64,
    /// Whether the subset is slower than the others of its split: whether more of these than chance explains (p < 0.001)
    /// took one and a half times as long as nine tenths of those of the others together. Not said of all times since the beginning.
    #[serde(default)]
    pub slower: bool,
}

impl TimeView {
    fn of(times: &SubsetTimes, measured: Measured) -> Option<Self> {
        let count = times.count(measured);
        let at = |part| times.quantile(measured, part).map(|units| units << UNIT_SHIFT);
        Some(Self {
            count,
            mean_nanos: (times.sum(measured) << UNIT_SHIFT).checked_div(count)?,
            p50_nanos: at(0.5)?,
            p90_nanos: at(0.9)?,
            p99_nanos: at(0.99)?,
            slower: false,
        })
    }
}

/// How long things took, as packets passed the node. What was not measured is absent.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct TimesView {
    /// From the client's first SYN to the endpoint's.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub handshake: Option<TimeView>,
    /// From what the client asked, its first data, to the first data of the endpoint; where the
    /// server speaks first, from the end of the handshake. Of UDP, from the first datagram of a flow to the first
    /// answer.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reply: Option<TimeView>,
    /// From the first packet of a flow to its end. TCP alone.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub life: Option<TimeView>,
}

impl From<&SubsetTimes> for TimesView {
    fn from(times: &SubsetTimes) -> Self {
        Self {
            handshake: TimeView::of(times, Measured::Handshake),
            reply: TimeView::of(times, Measured::Reply),
            life: TimeView::of(times, Measured::Life),
        }
    }
}

/// A bucket of a histogram.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct BucketView {
    /// At least so many nanoseconds.
    pub from_nanos: u64,
    /// Less than these. The last bucket has all that is longer, too.
    pub to_nanos: u64,
    /// How many.
    pub count: u64,
}

/// The buckets in which anything was counted, the shortest first; see [`TimesView`].
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct HistogramsView {
    /// Of handshakes.
    pub handshake: Vec<BucketView>,
    /// Of replies.
    pub reply: Vec<BucketView>,
    /// Of lives.
    pub life: Vec<BucketView>,
}

impl From<&SubsetTimes> for HistogramsView {
    fn from(times: &SubsetTimes) -> Self {
        let of = |measured: Measured| {
            let buckets = times.buckets(measured).iter().enumerate();
            let bucket = |(at, &count): (usize, &u64)| BucketView {
                from_nanos: measured.least(at) << UNIT_SHIFT,
                to_nanos: measured.least(at + 1) << UNIT_SHIFT,
                count,
            };
            buckets.filter(|(_, count)| **count > 0).map(bucket).collect()
        };
        Self {
            handshake: of(Measured::Handshake),
            reply: of(Measured::Reply),
            life: of(Measured::Life),
        }
    }
}

/// What became of the new flows of a time.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct PeriodView {
    /// How long that was, in seconds.
    pub seconds: u64,
    /// New flows.
    pub new_flows: u64,
    /// Flows whose handshake was completed; of UDP, flows that were answered.
    pub completed: u64,
    /// Flows whose handshake the endpoint refused with a RST.
    pub refused: u64,
    /// Packets of new flows that were rejected for want of an endpoint.
    pub rejected: u64,
    /// What else became of flows, also of those that began before.
    #[serde(default)]
    pub signals: SignalsView,
    /// How long things took; absent if the subset is not measured.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub times: Option<TimesView>,
}

impl PeriodView {
    /// New flows that were neither completed nor refused: nobody answered, or they are under way.
    pub fn unanswered(&self) -> u64 {
        self.new_flows.saturating_sub(self.completed).saturating_sub(self.refused)
    }
}

/// Counters of a subset.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct SubsetStatsView {
    /// Its name.
    pub name: String,
    /// Its weight.
    pub weight: u32,
    /// Its weight over the sum of weights, 0 to 1.
    pub wanted_share: f64,
    /// New flows since the split's last change, or since the agent started.
    pub new_flows_since_change: u64,
    /// What became of the new flows since the split's last change, or since the agent started.
    #[serde(default)]
    pub since_change: PeriodView,
    /// What became of those of the last minute; of a shorter time in the first minute of the agent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub last_minute: Option<PeriodView>,
    /// New flows.
    pub new_flows: u64,
    /// Packets of new flows that were rejected for want of an endpoint.
    pub rejected: u64,
    /// Flows whose handshake was completed; of UDP, flows that were answered.
    pub completed: u64,
    /// Flows whose handshake the endpoint refused with a RST.
    pub refused: u64,
    /// Completed flows that ended.
    pub ended: u64,
    /// How they ended, and what else became of flows.
    #[serde(default)]
    pub signals: SignalsView,
    /// How long things took; absent if the subset is not measured, see `limits.histograms`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub times: Option<TimesView>,
    /// The same in full, if it was asked for.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub histograms: Option<HistogramsView>,
    /// Flows that are open, as they were last counted; None before that.
    pub open_flows: Option<u64>,
    /// Its endpoints, those that drain included.
    pub endpoints: Vec<EndpointStatsView>,
}

/// What became of an endpoint's flows; each as the number of that name of a subset.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[expect(missing_docs, reason = "those of subsets say it")]
pub struct EndpointSignalsView {
    pub completed: u64,
    pub refused: u64,
    pub unanswered: u64,
    pub unreachable: u64,
    pub ended_by_fin: u64,
    pub reset_by_client: u64,
    pub reset_before_reply: u64,
    pub reset_after_reply: u64,
}

impl From<&EndpointSignals> for EndpointSignalsView {
    fn from(signals: &EndpointSignals) -> Self {
        let EndpointSignals {
            completed,
            refused,
            unanswered,
            unreachable,
            ended_by_fin,
            reset_by_client,
            reset_before_reply,
            reset_after_reply,
        } = *signals;
        Self {
            completed,
            refused,
            unanswered,
            unreachable,
            ended_by_fin,
            reset_by_client,
            reset_before_reply,
            reset_after_reply,
        }
    }
}

/// Counters of an endpoint.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct EndpointStatsView {
    /// Where it listens.
    #[schema(value_type = String)]
    pub address: SocketAddr,
    /// "live", "draining" or "gone".
    pub phase: String,
    /// New flows.
    pub new_flows: u64,
    /// Flows that are open, as they were last counted; None before that.
    pub open_flows: Option<u64>,
    /// Packets from clients.
    pub packets_forward: u64,
    /// Bytes from clients, link layer included.
    pub bytes_forward: u64,
    /// Packets to clients.
    pub packets_reply: u64,
    /// Bytes to clients, link layer included.
    pub bytes_reply: u64,
    /// What became of its flows.
    #[serde(default)]
    pub signals: EndpointSignalsView,
}

impl EndpointStatsView {
    /// New flows that were neither completed nor refused: nobody answered, or they are under way.
    pub fn unanswered(&self) -> u64 {
        let EndpointSignalsView { completed, refused, .. } = self.signals;
        self.new_flows.saturating_sub(completed).saturating_sub(refused)
    }
}
