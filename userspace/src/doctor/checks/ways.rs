//! Checks of the ways that packets take by this node, or round it.

use std::collections::BTreeSet;
use std::net::IpAddr;

use super::{Facts, Found, NextHop};

/// What comes to a service address and is for no split, where the node would
/// send it back to where it came from.
pub(super) fn loops(facts: &Facts) -> Found {
    let mut found = Found::fine("what is for no split goes round nowhere");
    let mut told = BTreeSet::new();
    for split in &facts.splits {
        let address = split.address;
        match &split.route {
            NextHop::Via { interface, gateway: true }
                if facts.answers != Some(true)
                    && forwards(facts, address)
                    && told.insert(address) =>
            {
                found.problem(
                    format!(
                        "what comes to {address} and is for no split, such as pings, is sent on \
                         by {interface} to a router: if that routes the address to this node, \
                         such packets go round until their hops are used up"
                    ),
                    format!(
                        "otherPorts: answer in agent.yaml and a restart of the agent, or ip route \
                         add unreachable {address}"
                    ),
                );
            }
            NextHop::Local if facts.answers == Some(true) && told.insert(address) => found.problem(
                format!(
                    "{address} is an address of the node itself, whose own servers at it are out \
                     of reach: `otherPorts: answer` rejects what is for no split"
                ),
                "otherPorts: pass in agent.yaml, and a restart of the agent",
            ),
            _ => {}
        }
    }
    found
}

fn forwards(facts: &Facts, address: IpAddr) -> bool {
    let on = if address.is_ipv4() { facts.forward_v4 } else { facts.forward_v6 };
    on == Some(true)
}

/// Endpoints whose answers to clients of their own network do not come by this
/// node.
pub(super) fn detours(facts: &Facts) -> Found {
    let mut found = Found::fine("no endpoint shares a link with clients");
    let mut told = BTreeSet::new();
    for split in &facts.splits {
        for endpoint in &split.endpoints {
            let NextHop::Via { interface, gateway: false } = &endpoint.route else { continue };
            if !facts.links.contains(interface) || !told.insert(endpoint.address) {
                continue;
            }
            let (address, split, subset) = (endpoint.address, &split.name, &endpoint.subset);
            found.note(
                format!(
                    "endpoint {address} ({split}, {subset}) is on the clients' link {interface}: \
                     what it answers to clients of that network goes straight to them, in its own \
                     name and not the service's, and they reject it"
                ),
                "give endpoints a network of their own behind this node, or each of them a route \
                 to the clients' network by this node; clients behind a router are served if the \
                 endpoint's answers to them come by this node",
            );
        }
    }
    found
}

/// What is so on every node.
pub(super) fn own_clients(_: &Facts) -> Found {
    Found::fine(
        "connections of the node itself are not steered: they come in at no interface; clients \
         are other hosts, or other network namespaces (pods, containers)",
    )
}
