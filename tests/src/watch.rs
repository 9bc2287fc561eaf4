//! Watches what comes to an interface, packet by packet, and misses none.

use std::net::IpAddr;

use anyhow::{Context as _, Result};

use crate::netns::Netns;

/// Counts packets at an interface's ingress (a chain of nftables) by who sent them, as long as the
/// namespace lives.
#[derive(Clone, Copy, Debug)]
pub struct Watch<'a> {
    ns: &'a Netns,
}

impl<'a> Watch<'a> {
    /// Counts what comes from each of these addresses, of one or both families.
    ///
    /// # Errors
    ///
    /// Needs `nft`.
    pub fn new(ns: &'a Netns, ifname: &str, senders: &[IpAddr]) -> Result<Self> {
        let (mut counters, mut lines) = (String::new(), String::new());
        for sender in senders {
            let name = counter(*sender);
            let family = if sender.is_ipv4() { "ip" } else { "ip6" };
            counters.push_str(&format!("counter {name} {{}}\n"));
            lines.push_str(&format!("{family} saddr {sender} counter name {name}\n"));
        }
        let chain = format!("type filter hook ingress device \"{ifname}\" priority 0");
        let table =
            format!("table netdev watch {{\n{counters}chain incoming {{\n{chain}\n{lines}}}\n}}");
        ns.output("nft", &[&table])?;
        Ok(Self { ns })
    }

    /// Packets that came from one of them so far.
    ///
    /// # Errors
    ///
    /// If it is none of them.
    pub fn seen(&self, sender: IpAddr) -> Result<u64> {
        let text =
            self.ns.output("nft", &["list", "counter", "netdev", "watch", &counter(sender)])?;
        let count = text.split("packets ").nth(1).and_then(|rest| rest.split(' ').next());
        count.and_then(|count| count.parse().ok()).with_context(|| text.clone())
    }
}

/// The name of the counter of an address.
fn counter(ip: IpAddr) -> String {
    format!("from-{}", ip.to_string().replace(['.', ':'], "-"))
}
