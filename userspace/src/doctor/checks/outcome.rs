//! Checks of what became of connections: what was counted, and what waits for an answer.

use std::collections::{BTreeMap, BTreeSet};
use std::net::{IpAddr, SocketAddr};

use super::{Facts, Found, Neighbour, NextHop, some};
use crate::api::types::{SplitStatsView, SubsetStatsView};
use crate::model::{counted, nowhere};
use crate::rates::{mostly_failing, worse_than_others};

/// So few handshakes that wait for an answer may be about to get one.
const FEW: usize = 3;

fn splits(facts: &Facts) -> impl Iterator<Item = &SplitStatsView> {
    facts.stats.iter().flat_map(|stats| &stats.splits)
}

fn percent(share: f64) -> String {
    format!("{:.2}%", share * 100.0)
}

/// Weighted subsets without endpoints, and endpoints where nothing can be.
pub(super) fn endpoints(facts: &Facts) -> Found {
    let mut found = Found::fine("each subset with a weight has endpoints");
    for split in splits(facts) {
        for subset in split.subsets.iter().filter(|subset| is_empty(subset)) {
            let (name, own, share) = (&split.name, &subset.name, percent(subset.wanted_share));
            let minute = subset.last_minute.map_or(0, |minute| minute.rejected);
            found.problem(
                format!(
                    "split {name}: subset {own} has no endpoint: {share} of new connections are \
                     rejected; {} in the last minute, {} since the last change",
                    counted(minute as usize, "packet"),
                    subset.since_change.rejected
                ),
                format!("give it an endpoint, or weight 0: weir weights {name} {own}=0"),
            );
        }
    }
    let mut told = BTreeSet::new();
    for split in &facts.splits {
        for endpoint in &split.endpoints {
            let (address, of) = (endpoint.address, (&split.name, &endpoint.subset));
            if let Some(why) = nowhere(address.ip())
                && told.insert(address)
            {
                found.problem(
                    format!("endpoint {address} ({}, {}) is {why}", of.0, of.1),
                    "name an address that other hosts can reach",
                );
            }
        }
    }
    found
}

fn is_empty(subset: &SubsetStatsView) -> bool {
    subset.weight > 0 && subset.endpoints.iter().all(|endpoint| endpoint.phase != "live")
}

/// Endpoints on a link of the node's own that do not answer ARP or NDP.
pub(super) fn neighbours(facts: &Facts) -> Found {
    let mut found = Found::fine("no endpoint is asked for in vain on its link");
    let mut told = BTreeSet::new();
    for split in &facts.splits {
        for endpoint in &split.endpoints {
            let NextHop::Via { interface, gateway: false } = &endpoint.route else { continue };
            let (address, ip) = (endpoint.address, endpoint.address.ip());
            if facts.neighbours.get(&ip) != Some(&Neighbour::Silent) || !told.insert(address) {
                continue;
            }
            let asks = if ip.is_ipv4() { "ARP requests" } else { "neighbour solicitations" };
            let (name, subset) = (&split.name, &endpoint.subset);
            found.problem(
                format!(
                    "endpoint {address} ({name}, {subset}) does not answer {asks} on {interface}: \
                     nothing gets there"
                ),
                format!(
                    "see whether the host is up and has that address (ip neigh show {ip}); \
                     meanwhile take it out: weir drain {name} {address}"
                ),
            );
        }
    }
    found
}

/// Handshakes that endpoints leave without an answer, though their links work.
pub(super) fn handshakes(facts: &Facts) -> Found {
    let mut found = Found::fine("no handshake waits long for an answer");
    let mut waiting = BTreeMap::<(&str, &str, SocketAddr), usize>::new();
    for one in facts.waiting.iter().filter(|one| leaves_unseen(facts, &one.back).is_none()) {
        let silent = facts.neighbours.get(&one.endpoint.ip()) == Some(&Neighbour::Silent);
        if !silent {
            *waiting.entry((&one.split, &one.subset, one.endpoint)).or_default() += 1;
        }
    }
    for ((split, subset, endpoint), count) in waiting {
        if count < FEW {
            continue;
        }
        let answers = facts.neighbours.get(&endpoint.ip()) == Some(&Neighbour::Answers);
        let (link, who) = if answers {
            ("whose link answers: ", "a firewall here or there drops packets, or nobody accepts")
        } else {
            ("", "the host, the way to it or the way back fails, or a firewall drops packets")
        };
        let drops = some(facts.drops.iter().map(String::as_str));
        let drops = if drops.is_empty() { drops } else { format!("; nftables here: {drops}") };
        found.problem(
            format!(
                "{} with endpoint {endpoint} ({split}, {subset}) {} without an answer, {link}\
                 {who}{drops}",
                counted(count, "handshake"),
                if count == 1 { "is" } else { "are" },
            ),
            format!(
                "look at firewalls (nft list ruleset) on the node and the endpoint, and whether it \
                 listens (ss -ltn); meanwhile take it out: weir drain {split} {endpoint}"
            ),
        );
    }
    found
}

/// The interface by which an answer leaves that carries no program.
fn leaves_unseen<'a>(facts: &'a Facts, back: &'a NextHop) -> Option<&'a str> {
    match back {
        NextHop::Via { interface, .. } if !facts.carriers.is_empty() => {
            (!facts.carriers.contains(interface)).then_some(interface)
        }
        _ => None,
    }
}

/// Answers that leave by an interface without weir, in the endpoint's name and not the service's.
pub(super) fn replies(facts: &Facts) -> Found {
    let mut found = Found::fine("answers leave by interfaces with weir");
    let mut by = BTreeMap::<&str, BTreeSet<IpAddr>>::new();
    let mut lost = BTreeSet::new();
    for one in &facts.waiting {
        match leaves_unseen(facts, &one.back) {
            Some(interface) => _ = by.entry(interface).or_default().insert(one.client.ip()),
            None if matches!(one.back, NextHop::None(_)) => _ = lost.insert(one.client.ip()),
            None => {}
        }
    }
    let named = |clients: &BTreeSet<IpAddr>| {
        let clients: Vec<String> = clients.iter().map(ToString::to_string).collect();
        some(clients.iter().map(String::as_str))
    };
    for (interface, clients) in by {
        let clients = named(&clients);
        found.problem(
            format!(
                "answers to {clients} leave by {interface}, where weir is not: they carry the \
                 endpoint's address and not the service's, and clients reject them"
            ),
            format!(
                "add {interface} to `interfaces` in agent.yaml and restart the agent, or mend the \
                 route to these clients (ip route get)"
            ),
        );
    }
    if !lost.is_empty() {
        found.problem(
            format!("there is no route to {}, whose handshakes wait for an answer", named(&lost)),
            "ip route add NETWORK via GATEWAY dev INTERFACE",
        );
    }
    found
}

/// Versions that fail more often than the others of their split, beyond chance, or mostly.
pub(super) fn versions(facts: &Facts) -> Found {
    let mut found = Found::fine("no version fails more often than the others, or mostly");
    for split in splits(facts) {
        for line in worse_than_others(split) {
            let (name, subset) = (&split.name, &line.subset);
            found.problem(
                format!("split {name}: {}", line.text),
                format!(
                    "weir history {name} shows who changed what; weir rollback {name} takes it \
                     back, weir weights {name} {subset}=0 takes new connections away from {subset}"
                ),
            );
        }
        for line in mostly_failing(split) {
            let (name, subset) = (&split.name, &line.subset);
            found.problem(
                format!("split {name}: {}", line.text),
                format!(
                    "see whether the endpoints of {subset} listen (ss -ltn there) and nothing drops \
                     packets to them; weir history {name} shows who changed what"
                ),
            );
        }
    }
    found
}

/// Service addresses that hosts on a link of clients ask for by ARP or NDP, and nobody answers.
pub(super) fn service_addresses(facts: &Facts) -> Found {
    let mut found = Found::fine("no service address is on a link where nobody answers for it");
    let mut told = BTreeSet::new();
    for split in &facts.splits {
        let NextHop::Via { interface, gateway: false } = &split.route else { continue };
        let on_it = facts.interfaces.iter().find(|one| one.name == *interface);
        let Some(on_it) = on_it.filter(|one| one.proxy_arp != Some(true)) else { continue };
        let address = split.address;
        if facts.proxied.contains(&address) || !told.insert(address) {
            continue;
        }
        let counted = splits(facts).find(|stats| stats.name == split.name);
        let arrives = counted.is_some_and(|stats| stats.subsets.iter().any(|s| s.new_flows > 0));
        let text = format!(
            "service address {address} ({}) is in the network of {}, and this node does not answer \
             for it: clients of that network ask by {} and get no answer",
            split.name,
            on_it.name,
            if address.is_ipv4() { "ARP" } else { "NDP" },
        );
        let bits = if address.is_ipv4() { 32 } else { 128 };
        let advice = format!(
            "give it to the node: ip addr add {address}/{bits} dev lo; or take one that is in no \
             network of clients, and route it here"
        );
        if arrives { found.note(text, advice) } else { found.problem(text, advice) }
    }
    found
}

/// Splits that count nothing, while packets to their addresses pass.
pub(super) fn elsewhere(facts: &Facts) -> Found {
    let mut found = Found::fine("no connection is known that passes a split by");
    for (name, count) in &facts.elsewhere {
        let count = counted(*count as usize, "connection");
        found.problem(
            format!(
                "split {name} has counted no new connection, and connection tracking knows {count} \
                 to its address: they come in at an interface without weir, or are the node's own"
            ),
            format!(
                "see where they come in (weir get {name}; conntrack -L; ip route get CLIENT), and \
                 add that interface to `interfaces` in agent.yaml"
            ),
        );
    }
    found
}
