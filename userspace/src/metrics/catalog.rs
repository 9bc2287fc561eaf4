//! All metrics there are.

use std::fmt::Write as _;

/// How a metric moves.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// Up only, unless what it counts for is removed and defined anew.
    Counter,
    /// Up and down.
    Gauge,
    /// How often something took how long.
    Histogram,
}

/// A metric.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Metric {
    /// How it moves.
    pub kind: Kind,
    /// Its name without unit and `_total`.
    pub stem: &'static str,
    /// Its unit, if it does not simply count things.
    pub unit: Option<&'static str>,
    /// Its labels.
    pub labels: &'static [&'static str],
    /// What it means.
    pub help: &'static str,
}

impl Metric {
    /// The name of its series.
    pub fn name(&self) -> String {
        let unit = self.unit.map(|unit| format!("_{unit}")).unwrap_or_default();
        let total = if self.kind == Kind::Counter { "_total" } else { "" };
        format!("{}{unit}{total}", self.stem)
    }
}

macro_rules! catalog {
    ($($id:ident: $kind:ident $stem:literal $(in $unit:literal)? [$($label:literal),*] $help:literal;)*) => {
        $(
            #[doc = $help]
            pub const $id: Metric = Metric {
                kind: Kind::$kind,
                stem: $stem,
                unit: catalog!(@unit $($unit)?),
                labels: &[$($label),*],
                help: $help,
            };
        )*

        /// All, in the order in which they are served.
        pub const ALL: &[Metric] = &[$($id),*];
    };
    (@unit) => { None };
    (@unit $unit:literal) => { Some($unit) };
}

catalog! {
    BUILD_INFO: Gauge "weir_build_info" ["version", "map_layout"]
        "Always 1: the version of the agent, and that of the layout of its maps in the kernel.";
    UNLOADED: Gauge "weir_unloaded" []
        "Whether the agent was told to unload: 1 until it is restarted, and nothing is steered meanwhile.";
    CONFIG_PROBLEMS: Gauge "weir_config_problems" []
        "What is wrong with the resources, in lines of the agent's log; 0 if all of them are in force.";
    CONFIG_RELOADED: Gauge "weir_config_last_reload_success_timestamp" in "seconds" []
        "When resource files were last put into force by this agent. Absent before that.";
    CLUSTER_CONNECTED: Gauge "weir_cluster_connected" []
        "Whether the API server of the cluster that is followed answers. Absent, as all metrics of a cluster, if none is.";
    CLUSTER_STALE: Gauge "weir_cluster_stale_since_timestamp" in "seconds" []
        "Since when the API server is not reached, or a kind is not followed. Absent if what is known is what is there.";
    CLUSTER_OBJECTS: Gauge "weir_cluster_objects" ["kind"]
        "Objects of the cluster that are known.";
    CLUSTER_FAILING: Gauge "weir_cluster_kind_failing" ["kind"]
        "Whether a kind cannot be followed; what is known of it goes on.";
    CLUSTER_REJECTED: Gauge "weir_cluster_problems" []
        "What is wrong with objects of the cluster, in lines of the agent's log; it has no effect.";
    CLUSTER_REQUESTS: Counter "weir_cluster_requests" ["verb"]
        "Requests to the API server.";
    CLUSTER_RECEIVED: Counter "weir_cluster_received" in "bytes" []
        "Bytes of the API server's answers.";
    CLUSTER_OUTAGES: Counter "weir_cluster_outages" []
        "How often the API server was lost.";
    INTERFACE_ATTACHED: Gauge "weir_interface_attached" ["interface", "hook", "mode"]
        "Whether the programs are attached to a matching interface. Where they are not, mode is empty.";
    INTERFACE_DETACHED: Counter "weir_interface_detached" ["interface", "hook"]
        "How often this agent found that somebody else had detached programs from an interface, and attached them again.";
    IDS_USED: Gauge "weir_ids_used" ["kind"]
        "Places in the kernel's maps that are taken, those of what drains included.";
    IDS_LIMIT: Gauge "weir_ids_limit" ["kind"]
        "Places in the kernel's maps, as configured under limits.";
    FLOW_TABLE_LIMIT: Gauge "weir_flow_table_limit" ["family", "table"]
        "Flows for which there is room: live ones as configured with flows.max, and pending ones, of which only one side has spoken yet.";
    FLOW_TABLE_FLOWS: Gauge "weir_flow_table_flows" ["family", "table", "state"]
        "Flows in the table: active, or expired (closed, or idle for too long), whose place is taken when it is needed. Counted in the background.";
    FLOW_TABLE_FULL: Gauge "weir_flow_table_full" ["family", "table"]
        "Whether all places of a table of live flows are taken: new flows then evict those that were silent for longest, though they may live. Looked at when flows are counted.";
    FLOW_TABLE_COUNTED: Gauge "weir_flow_table_counted_timestamp" in "seconds" []
        "When flows were last counted. Absent before that, as all numbers of flows in a state.";
    REASON_PACKETS: Counter "weir_reason_packets" ["reason"]
        "Packets that were not simply steered, by reason: passed, rejected, dropped, or steered in an unusual way.";
    SPLIT_INFO: Gauge "weir_split_info" ["split", "address", "protocol", "affinity"]
        "Always 1: the service address of a split.";
    SUBSET_WEIGHT: Gauge "weir_subset_weight" ["split", "subset"]
        "The weight in force.";
    SUBSET_WANTED_SHARE: Gauge "weir_subset_wanted_share" in "ratio" ["split", "subset"]
        "The weight over the sum of the split's weights: the share of new flows that the subset is to get.";
    SUBSET_FLOWS: Counter "weir_subset_flows" ["split", "subset"]
        "New flows that were steered to an endpoint of the subset.";
    SUBSET_REJECTED: Counter "weir_subset_rejected_packets" ["split", "subset"]
        "Packets of new flows that were rejected, since the subset has no endpoint.";
    SUBSET_COMPLETED: Counter "weir_subset_completed_flows" ["split", "subset"]
        "Flows whose handshake was completed; of UDP, flows that were answered.";
    SUBSET_REFUSED: Counter "weir_subset_refused_flows" ["split", "subset"]
        "Flows whose handshake the endpoint refused with a RST.";
    SUBSET_ENDED: Counter "weir_subset_ended_flows" ["split", "subset"]
        "Completed flows that ended, by a FIN from both sides or by a RST.";
    SUBSET_DURATION: Counter "weir_subset_ended_flows_duration" in "seconds" ["split", "subset"]
        "The sum of the durations of ended flows. Each is known to about a second.";
    SUBSET_SYN_RETRANSMITS: Counter "weir_subset_syn_retransmits" ["split", "subset"]
        "SYNs of clients that were sent again, before the handshake was complete.";
    SUBSET_UNANSWERED: Counter "weir_subset_unanswered_flows" ["split", "subset"]
        "TCP flows whose client sent its SYN again after two to three seconds or more, and had no answer by then.";
    SUBSET_SYN_ACK_RETRANSMITS: Counter "weir_subset_syn_ack_retransmits" ["split", "subset"]
        "SYNs of endpoints that were sent again, before the handshake was complete.";
    SUBSET_ASKED: Counter "weir_subset_asked_flows" ["split", "subset"]
        "TCP flows whose client has sent data.";
    SUBSET_REPLIED: Counter "weir_subset_replied_flows" ["split", "subset"]
        "TCP flows whose endpoint has sent data.";
    SUBSET_ENDED_BY_FIN: Counter "weir_subset_ended_by_fin_flows" ["split", "subset"]
        "Completed TCP flows that both sides ended by a FIN.";
    SUBSET_RESET_BY_CLIENT: Counter "weir_subset_reset_by_client_flows" ["split", "subset"]
        "Completed flows that the client reset.";
    SUBSET_RESET_BEFORE_REPLY: Counter "weir_subset_reset_before_reply_flows" ["split", "subset"]
        "Completed flows that the endpoint reset before it had sent any data.";
    SUBSET_RESET_AFTER_REPLY: Counter "weir_subset_reset_after_reply_flows" ["split", "subset"]
        "Completed flows that the endpoint reset after it had sent data; and adopted flows, of which nobody knows.";
    SUBSET_EARLY_RESETS: Counter "weir_subset_early_reset_flows" ["split", "subset"]
        "Completed flows that the endpoint reset before any FIN, within about 10 seconds of their SYN. Each is in one of the two before, too.";
    SUBSET_UNREACHABLE: Counter "weir_subset_unreachable_flows" ["split", "subset"]
        "Flows of whose first packet an ICMP error said that it cannot reach the endpoint, before anybody had answered.";
    SUBSET_HANDSHAKE: Histogram "weir_subset_handshake_duration" in "seconds" ["split", "subset"]
        "From the client's first SYN to the endpoint's, as they pass the node.";
    SUBSET_REPLY: Histogram "weir_subset_reply_duration" in "seconds" ["split", "subset"]
        "From the first data of the client to the first of the endpoint; where the server speaks first, from the end of the handshake; of UDP, from a flow's first datagram to the first answer.";
    SUBSET_LIFE: Histogram "weir_subset_flow_lifetime" in "seconds" ["split", "subset"]
        "From the first packet of a TCP flow to its end, by a FIN from both sides or by a RST.";
    SUBSET_ACTIVE: Gauge "weir_subset_active_flows" ["split", "subset"]
        "Open flows: live, and not expired, those of draining endpoints included. Counted in the background.";
    ENDPOINT_PHASE: Gauge "weir_endpoint_phase" ["split", "subset", "endpoint", "phase"]
        "Always 1: live (new flows go to it), draining (removed, live flows keep it) or gone (its drain time is over, packets of its flows are rejected).";
    ENDPOINT_FLOWS: Counter "weir_endpoint_flows" ["split", "subset", "endpoint"]
        "New flows that were steered to the endpoint.";
    ENDPOINT_OUTCOMES: Counter "weir_endpoint_outcome_flows" ["split", "subset", "endpoint", "outcome"]
        "What became of its flows: completed, refused, unanswered, unreachable, ended_by_fin, reset_by_client, reset_before_reply, reset_after_reply; each as the metric of that name of subsets.";
    ENDPOINT_PACKETS: Counter "weir_endpoint_packets" ["split", "subset", "endpoint", "direction"]
        "Packets of flows, forward (from clients) or reply (to clients).";
    ENDPOINT_BYTES: Counter "weir_endpoint" in "bytes" ["split", "subset", "endpoint", "direction"]
        "Bytes of these packets, link layer included.";
    ENDPOINT_ACTIVE: Gauge "weir_endpoint_active_flows" ["split", "subset", "endpoint"]
        "Open flows: live, and not expired. Counted in the background.";
}

/// The table of all metrics for `docs/metrics.md`.
pub fn markdown() -> String {
    let mut text = "| metric | type | labels | meaning |\n|---|---|---|---|\n".to_owned();
    for metric in ALL {
        let kind = match metric.kind {
            Kind::Counter => "counter",
            Kind::Gauge => "gauge",
            Kind::Histogram => "histogram",
        };
        let labels: Vec<String> = metric.labels.iter().map(|label| format!("`{label}`")).collect();
        let (name, labels) = (metric.name(), labels.join(" "));
        // Infallible: a String takes all.
        let _ = writeln!(text, "| `{name}` | {kind} | {labels} | {} |", metric.help);
    }
    text
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn the_documentation_shows_this_catalog() {
        let found = include_str!("../../../docs/metrics.md");
        assert!(found.contains(&markdown()), "docs/metrics.md lacks this table:\n{}", markdown());
    }

    #[test]
    fn names_follow_the_conventions() {
        let names: BTreeSet<String> = ALL.iter().map(Metric::name).collect();
        assert_eq!(names.len(), ALL.len(), "names are unique");
        for metric in ALL {
            let name = metric.name();
            let word = |text: &str| text.bytes().all(|c| c.is_ascii_lowercase() || c == b'_');
            assert!(name.starts_with("weir_") && word(&name), "{name}");
            assert_eq!(name.ends_with("_total"), metric.kind == Kind::Counter, "{name}");
            assert!(matches!(metric.unit, None | Some("seconds" | "bytes" | "ratio")), "{name}");
            assert!(metric.labels.iter().all(|label| word(label)), "{name}");
            assert!(metric.help.ends_with('.') && !metric.help.contains(['\n', '|']), "{name}");
        }
    }
}
