//! What became of connections: what the agent counted, handshakes that wait for an answer,
//! neighbours that do not answer, and packets that others have dropped.

use std::collections::{BTreeMap, BTreeSet};
use std::net::{IpAddr, SocketAddr};
use std::process::{Command, Stdio};

use futures_util::TryStreamExt as _;
use rtnetlink::Handle;
use rtnetlink::packet_route::neighbour::{
    NeighbourAddress, NeighbourAttribute, NeighbourMessage, NeighbourState,
};
use serde_json::Value;

use super::super::{Neighbour, Waiting};
use super::routes::Routes;
use crate::api::Client;
use crate::api::types::{FlowQuery, FlowState, FlowView, StatsQuery, StatsView};
use crate::conntrack::{self, Conntrack};
use crate::model::Protocol;

/// So many seconds ago is long ago.
const MINUTE: u64 = 60;
/// How many handshakes are looked at.
const MOST: usize = 500;

/// What the agent has counted; None if it does not say.
pub async fn stats(client: &Client) -> Option<StatsView> {
    client.stats(&StatsQuery::default()).await.ok()
}

/// Handshakes that have waited for an answer for a second or more, and where the answer would go.
pub async fn waiting(client: &Client, routes: &mut Routes) -> Vec<Waiting> {
    let query = FlowQuery {
        state: Some(FlowState::Pending),
        limit: Some(MOST as u64),
        ..FlowQuery::default()
    };
    let mut found = Vec::new();
    let Ok(mut flows) = client.flows(&query).await else { return found };
    while let Ok(Some(some)) = flows.next().await {
        for flow in some.into_iter().filter(is_waiting) {
            let (Some(split), Some(subset)) = (flow.split, flow.subset) else { continue };
            let back = routes.to(flow.client.ip()).await;
            let (client, endpoint) = (flow.client, flow.endpoint);
            found.push(Waiting { split, subset, client, endpoint, back });
        }
    }
    found
}

/// Whether it is a handshake that somebody waits for, or did in the last minute.
fn is_waiting(flow: &FlowView) -> bool {
    flow.protocol == Protocol::Tcp.into() && flow.age_seconds > 0 && flow.idle_seconds < MINUTE
}

/// The neighbours that the kernel knows, or asks for in vain.
pub async fn neighbours(handle: &Handle) -> BTreeMap<IpAddr, Neighbour> {
    let messages = handle.neighbours().get().execute().try_collect::<Vec<_>>().await;
    let mut found = BTreeMap::new();
    for message in messages.unwrap_or_default() {
        let state = match message.header.state {
            NeighbourState::Failed | NeighbourState::Incomplete => Neighbour::Silent,
            NeighbourState::Reachable
            | NeighbourState::Stale
            | NeighbourState::Delay
            | NeighbourState::Probe
            | NeighbourState::Permanent => Neighbour::Answers,
            _ => continue,
        };
        found.extend(destination(&message).map(|ip| (ip, state)));
    }
    found
}

/// The addresses for which the node answers in place of others.
pub async fn proxied(handle: &Handle) -> BTreeSet<IpAddr> {
    let messages = handle.neighbours().get().proxies().execute().try_collect::<Vec<_>>().await;
    messages.unwrap_or_default().iter().filter_map(destination).collect()
}

fn destination(message: &NeighbourMessage) -> Option<IpAddr> {
    message.attributes.iter().find_map(|attribute| match attribute {
        NeighbourAttribute::Destination(NeighbourAddress::Inet(ip)) => Some((*ip).into()),
        NeighbourAttribute::Destination(NeighbourAddress::Inet6(ip)) => Some((*ip).into()),
        _ => None,
    })
}

/// Of splits that counted no new flow, how many connections to their addresses connection tracking
/// knows.
pub fn elsewhere(stats: Option<&StatsView>) -> BTreeMap<String, u64> {
    let mut found = BTreeMap::new();
    let splits = stats.iter().flat_map(|stats| &stats.splits);
    let idle = splits.filter(|split| split.subsets.iter().all(|subset| subset.new_flows == 0));
    let idle: BTreeMap<(SocketAddr, u8), &str> = idle
        .map(|split| {
            let protocol = Protocol::from(split.protocol).number();
            ((SocketAddr::new(split.address, split.port), protocol), split.name.as_str())
        })
        .collect();
    if idle.is_empty() || !conntrack::is_loaded() {
        return found;
    }
    // Where the kernel does not say, nothing is known.
    let Ok(mut known) = Conntrack::open() else { return found };
    let _ = known.visit(|entry| {
        let to = (entry.connection.service, entry.connection.protocol);
        if let Some(name) = idle.get(&to) {
            *found.entry((*name).to_owned()).or_default() += 1;
        }
    });
    found
}

/// Rules of nftables that count what they drop, and have dropped something; none where `nft` is
/// not there, or may not look.
pub fn drops() -> Vec<String> {
    let mut nft = Command::new("nft");
    let output = nft.args(["-j", "list", "ruleset"]).stdin(Stdio::null()).output();
    let rules = output.ok().and_then(|output| serde_json::from_slice::<Value>(&output.stdout).ok());
    rules.as_ref().map(dropping).unwrap_or_default()
}

fn dropping(ruleset: &Value) -> Vec<String> {
    let objects = ruleset["nftables"].as_array().into_iter().flatten();
    let rules = objects.filter_map(|object| object.get("rule"));
    rules.filter_map(drops_of).collect()
}

fn drops_of(rule: &Value) -> Option<String> {
    let parts = rule["expr"].as_array()?;
    parts.iter().find(|part| part.get("drop").is_some())?;
    let counter = parts.iter().find_map(|part| part.get("counter"))?;
    let packets = counter["packets"].as_u64().filter(|packets| *packets > 0)?;
    let word = |key: &str| rule[key].as_str().unwrap_or("?");
    let (family, table, chain) = (word("family"), word("table"), word("chain"));
    let handle = rule["handle"].as_u64().unwrap_or_default();
    Some(format!("{packets} packets dropped by {family} {table} {chain} (handle {handle})"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rules_that_have_dropped_are_named() {
        let rule = |expr: &str| {
            format!(
                r#"{{"rule": {{"family": "inet", "table": "filter", "chain": "forward", "handle": 5,
                "expr": [{expr}]}}}}"#
            )
        };
        let counter = |packets| format!(r#"{{"counter": {{"packets": {packets}, "bytes": 9}}}}"#);
        let drop = r#"{"drop": null}"#;
        let rules = [
            r#"{"metainfo": {}}"#.to_owned(),
            rule(&format!("{}, {drop}", counter(12))),
            rule(&format!("{}, {drop}", counter(0))),
            rule(&format!("{}, {}", counter(3), r#"{"accept": null}"#)),
            rule(drop),
        ];
        let ruleset = format!(r#"{{"nftables": [{}]}}"#, rules.join(","));
        let found = dropping(&serde_json::from_str(&ruleset).unwrap());
        assert_eq!(found, ["12 packets dropped by inet filter forward (handle 5)"]);
    }
}
