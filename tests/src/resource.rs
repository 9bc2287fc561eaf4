//! The YAML of a split, as an operator would write it.

use std::fmt::Write as _;
use std::net::{IpAddr, SocketAddr};

use weir::model::Protocol;

/// A `TrafficSplit` to be written to a file; [`SplitYaml::text`] ends the chain of calls.
#[derive(Clone, Debug)]
pub struct SplitYaml {
    name: String,
    address: SocketAddr,
    protocol: Protocol,
    affinity: &'static str,
    subsets: Vec<(String, u32, Vec<SocketAddr>)>,
}

impl SplitYaml {
    /// A split without affinity or subsets.
    #[must_use]
    pub fn new(name: &str, address: SocketAddr, protocol: Protocol) -> Self {
        let affinity = "None";
        Self { name: name.to_owned(), address, protocol, affinity, subsets: Vec::new() }
    }

    /// A TCP split without affinity or subsets.
    #[must_use]
    pub fn tcp(name: &str, address: SocketAddr) -> Self {
        Self::new(name, address, Protocol::Tcp)
    }

    /// A UDP split without affinity or subsets.
    #[must_use]
    pub fn udp(name: &str, address: SocketAddr) -> Self {
        Self::new(name, address, Protocol::Udp)
    }

    /// Gives it `affinity: ClientIP`.
    #[must_use]
    pub fn client_ip(mut self) -> Self {
        self.affinity = "ClientIP";
        self
    }

    /// Adds a subset whose endpoints all listen at the same port.
    #[must_use]
    pub fn subset(mut self, name: &str, weight: u32, endpoints: &[IpAddr], port: u16) -> Self {
        let endpoints = endpoints.iter().map(|&ip| SocketAddr::new(ip, port)).collect();
        self.subsets.push((name.to_owned(), weight, endpoints));
        self
    }

    /// The document.
    #[must_use]
    pub fn text(&self) -> String {
        let Self { name, address, protocol, affinity, subsets } = self;
        let mut text = format!(
            "apiVersion: weir.dev/v1alpha1\n\
             kind: TrafficSplit\n\
             metadata:\n  name: {name}\n\
             spec:\n  address: \"{}\"\n  port: {}\n  protocol: {protocol}\n  affinity: {affinity}\n  \
             subsets:\n",
            address.ip(),
            address.port()
        );
        for (name, weight, endpoints) in subsets {
            let list: Vec<String> = endpoints.iter().map(|e| format!("\"{e}\"")).collect();
            // Infallible: a String takes all.
            let _ = writeln!(text, "  - name: {name}\n    weight: {weight}");
            let _ = writeln!(text, "    endpoints: [{}]", list.join(", "));
        }
        text
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn text_is_what_the_agent_reads() {
        let yaml = SplitYaml::udp("reviews", "[2001:db8::10]:9080".parse().unwrap())
            .client_ip()
            .subset("v1", 90, &["2001:db8::1".parse().unwrap()], 80)
            .subset("v2", 10, &[], 80)
            .text();
        let desired = weir::resource::resolve(&[("x.yaml", yaml)]).unwrap();
        let split = desired.get("reviews").unwrap();
        assert_eq!(split.address().to_string(), "[2001:db8::10]:9080/UDP");
        assert_eq!(split.affinity(), weir::model::Affinity::ClientIp);
        let subsets: Vec<_> = split
            .subsets()
            .iter()
            .map(|s| (s.name.as_str(), s.weight, s.endpoints.len()))
            .collect();
        assert_eq!(subsets, [("v1", 90, 1), ("v2", 10, 0)]);
    }
}
