//! What columns and keys mean, for the man pages.

use crate::top;

/// Of `weir get splits`.
const SPLITS: &[(&str, &str)] = &[
    ("NAME", "The split."),
    ("SUBSET", "The version."),
    ("WEIGHT", "Its weight in force."),
    ("DEFINED", "Its weight by the split's definition; another one where weights are overridden."),
    ("WANTED", "The share of new flows that the weights in force give it."),
    ("OBSERVED", "The share that it got since the split's last change."),
    ("FLOWS", "Its new flows since then."),
    ("ENDPOINTS", "How many it has, without those that were taken out."),
    ("VERSION", "That of the last change of weights: what --expect-version takes."),
    ("SOURCE", "Where the split is defined, or that it was applied."),
];

/// Of `weir history`.
const HISTORY: &[(&str, &str)] = &[
    ("VERSION", "What `weir rollback --to` takes."),
    ("TIME", "When, in UTC."),
    (
        "CAUSE",
        "What made the change: file, cluster, apply, delete, weights, reset, rollback, drain or \
         undrain. The last two leave the weights.",
    ),
    ("BY", "The user; of files and of a cluster nobody knows."),
    ("FROM", "The weights before."),
    ("TO", "The weights after."),
    ("REASON", "The endpoint that was taken out or put back, and what the user said."),
];

/// Of `weir flows`.
const FLOWS: &[(&str, &str)] = &[
    ("PROTO", "TCP or UDP."),
    ("CLIENT", "Address and port of the client."),
    ("SERVICE", "The service address."),
    ("SPLIT", "The split that steers it, if it is known."),
    ("SUBSET", "The version that it was steered to, if that is known."),
    ("ENDPOINT", "Where its packets go."),
    ("STATE", "pending, established, closing, closed, reset or expired."),
    ("IDLE", "Since the client's last packet."),
    ("AGE", "Since its first."),
];

/// Of `weir watch`.
const WATCH: &[(&str, &str)] = &[
    ("TIME", "When the counters were read, in UTC."),
    ("SPLIT", "The split."),
    ("SUBSET", "The version."),
    ("WEIGHT", "Its weight in force."),
    ("WANTED", "The share of new flows that its weight gives."),
    ("OBSERVED", "The share that it got since the split's last change."),
    (
        "95% INTERVAL",
        "The shares that go with what was observed, by Wilson's interval. Right shares are outside \
         once in twenty times. None with client affinity.",
    ),
    ("FLOWS/S", "New flows in each second."),
    ("OPEN", "Live flows at the last count, which is up to some ten seconds old."),
    ("PKT/S", "Packets of both directions in each second."),
    ("BIT/S", "Bits of these, link layer included."),
    ("REJECT/S", "Packets of new flows that were rejected for want of an endpoint."),
    ("REFUSED/S", "New flows that the endpoint refused with a RST."),
    ("NOANSWER/S", "New flows that were neither answered nor refused; some are under way."),
    (
        "SYN P50/99",
        "From a client's first SYN to its endpoint's, since the split's last change: half of all \
         took at most that long, and 99 percent.",
    ),
    (
        "REPLY P50/99",
        "From the first data of a client to that of its endpoint, likewise; of UDP, from the first \
         datagram to the first answer.",
    ),
    ("FLOWS", "New flows since the split's last change."),
];

/// What a page has to explain: titles of sections, and entries.
pub(super) fn of(page: &str) -> Vec<(&'static str, Vec<(&'static str, &'static str)>)> {
    let columns = |list: &[(&'static str, &'static str)]| vec![("COLUMNS", list.to_vec())];
    match page {
        "weir-get" | "weir-get-splits" => columns(SPLITS),
        "weir-history" => columns(HISTORY),
        "weir-flows" => columns(FLOWS),
        "weir-watch" => columns(WATCH),
        "weir-top" => {
            let worse = (
                "!",
                "More than of the other subsets together, beyond chance: Fisher's \
                               exact test, at one in a thousand.",
            );
            let columns = top::columns().chain([worse]).collect();
            vec![("COLUMNS", columns), ("KEYS", top::KEYS.to_vec())]
        }
        _ => Vec::new(),
    }
}
