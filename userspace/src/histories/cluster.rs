//! What an operator has in mind: sites, which have a service address, Pods of
//! some versions, and a way in which they are written down. From this come both
//! the documents ([`super::manifest`]) and what they mean as addresses alone,
//! which is computed here without a look at any document.

use std::collections::{BTreeMap, BTreeSet};
use std::net::{IpAddr, SocketAddr};

use crate::model::{DEFAULT_DRAIN, Protocol, ServiceAddress};

pub const SITES: usize = 3;
pub const PODS: usize = 5;
pub const VERSIONS: usize = 3;
/// Names of sites; those that none has now are for renaming.
pub const NAMES: [&str; 5] = ["a", "b", "c", "d", "e"];

/// In which documents a site is written down.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Form {
    Nothing,
    Service,
    /// A DestinationRule beside the Service.
    Rule,
    /// A VirtualService as well.
    Routed,
    /// A Service with a TCPRoute to Services of the versions.
    ServiceRoute,
    /// weir's own TrafficSplits, one for each port.
    Splits,
    /// A Gateway with a TCPRoute to Services of the versions.
    Gateway,
    /// A ServiceEntry.
    Entry,
    /// One with a DestinationRule and a VirtualService.
    RoutedEntry,
    /// A Service that selects WorkloadEntries, with a DestinationRule and a VirtualService.
    Workloads,
}

pub const FORMS: [Form; 10] = [
    Form::Nothing,
    Form::Service,
    Form::Rule,
    Form::Routed,
    Form::ServiceRoute,
    Form::Splits,
    Form::Gateway,
    Form::Entry,
    Form::RoutedEntry,
    Form::Workloads,
];

/// A port of a site.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Port {
    pub name: &'static str,
    pub number: u16,
    pub target: u16,
    pub protocol: Protocol,
}

const WEB: Port = Port { name: "web", number: 80, target: 8080, protocol: Protocol::Tcp };
const ADMIN: Port = Port { name: "admin", number: 81, target: 9090, protocol: Protocol::Tcp };
const DNS: Port = Port { name: "dns", number: 53, target: 5353, protocol: Protocol::Udp };

/// The ports that a site may have, in this order.
pub const PORTS: [&[Port]; 6] =
    [&[WEB], &[WEB, ADMIN], &[ADMIN, WEB], &[DNS, WEB], &[WEB, DNS, ADMIN], &[ADMIN, WEB, DNS]];

/// What the versions of a site are called; one that was of one version may be of
/// another next.
pub const SCHEMES: [[&str; VERSIONS]; 5] = [
    ["v1", "v2", "v3"],
    ["v2", "v1", "v3"],
    ["blue", "green", "canaryV2"],
    ["v3", "blue", "v1"],
    ["green", "v2", "blue"],
];

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Pod {
    pub version: usize,
    /// One that is not is no endpoint, though it is written down where that can be said.
    pub ready: bool,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Site {
    pub name: usize,
    /// The last byte of its service address.
    pub vip: u8,
    pub form: Form,
    pub ports: usize,
    pub pods: [Option<Pod>; PODS],
    pub scheme: usize,
    /// Of the versions, where something is routed.
    pub weights: [u8; VERSIONS],
    /// Versions that the route has.
    pub routed: [bool; VERSIONS],
    /// Of [`Form::Splits`], in seconds.
    pub drain: u64,
    /// Whether the last version of [`Form::Splits`] also has the endpoints of the first.
    pub shared: bool,
    /// Whether it was applied; else it is in files.
    pub applied: bool,
    /// A site that the route leads to as well, if that can be.
    pub beside: Option<usize>,
}

/// All sites. `layout` says which document is in which file, and in which order.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Cluster {
    pub sites: [Site; SITES],
    pub layout: u8,
}

/// The endpoints of a service address, and how long those that are removed drain.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Wanted {
    pub endpoints: BTreeSet<SocketAddr>,
    pub drain: u64,
}

impl Default for Cluster {
    fn default() -> Self {
        let site = |n: usize| Site {
            name: n,
            vip: n as u8 + 1,
            form: Form::Service,
            ports: 0,
            pods: [Some(Pod { version: 0, ready: true }), None, None, None, None],
            scheme: 0,
            weights: [1; VERSIONS],
            routed: [true; VERSIONS],
            drain: 30,
            shared: false,
            applied: false,
            beside: None,
        };
        Self { sites: std::array::from_fn(site), layout: 0 }
    }
}

impl Site {
    pub fn name(&self) -> &'static str {
        NAMES[self.name]
    }

    pub fn vip(&self) -> IpAddr {
        [10, 96, 0, self.vip].into()
    }

    pub fn ports(&self) -> &'static [Port] {
        PORTS[self.ports]
    }

    pub fn versions(&self) -> [&'static str; VERSIONS] {
        SCHEMES[self.scheme]
    }

    /// The versions that a route has: never none.
    pub fn routed(&self) -> BTreeSet<usize> {
        let some: BTreeSet<usize> = (0..VERSIONS).filter(|&v| self.routed[v]).collect();
        if some.is_empty() { BTreeSet::from([0]) } else { some }
    }

    /// The weight of a version in a route: that of the first one is never zero.
    pub fn weight(&self, version: usize) -> u8 {
        let first = self.routed().first() == Some(&version);
        self.weights[version].max(u8::from(first))
    }

    /// Whether Kubernetes' Service of this name is there, with all of `ports` of TCP.
    fn has_service(&self, ports: &[Port]) -> bool {
        use Form::{Routed, Rule, Service, ServiceRoute, Workloads};
        let tcp = ports.iter().filter(|port| port.protocol == Protocol::Tcp);
        matches!(self.form, Service | Rule | Routed | ServiceRoute | Workloads)
            && tcp.into_iter().all(|port| self.ports().contains(port))
    }
}

impl Cluster {
    pub fn pod_ip(site: usize, pod: usize) -> IpAddr {
        [10, 0, site as u8, pod as u8 + 1].into()
    }

    /// The site to which the route of another leads as well. Both are in files, so
    /// that neither is ever there without the other.
    pub fn beside(&self, site: usize) -> Option<usize> {
        let (own, other) = (&self.sites[site], self.sites[site].beside?);
        let there = &self.sites[other];
        let routes = matches!(own.form, Form::Routed | Form::ServiceRoute | Form::Gateway);
        let fits = match own.form {
            Form::Routed => there.has_service(own.ports()),
            _ => there.has_service(&[WEB]),
        };
        (other != site && routes && fits && !own.applied && !there.applied).then_some(other)
    }

    fn endpoints(
        &self,
        site: usize,
        target: u16,
        versions: impl Fn(usize) -> bool,
    ) -> BTreeSet<SocketAddr> {
        let pods = self.sites[site].pods.iter().enumerate();
        let ready = pods.filter(|(_, pod)| pod.is_some_and(|p| p.ready && versions(p.version)));
        ready.map(|(pod, _)| SocketAddr::new(Self::pod_ip(site, pod), target)).collect()
    }

    /// What all of it means, as addresses.
    pub fn wanted(&self) -> BTreeMap<ServiceAddress, Wanted> {
        let mut all = BTreeMap::new();
        for site in 0..SITES {
            for port in self.sites[site].ports() {
                if let Some(wanted) = self.wanted_at(site, port) {
                    let Port { number, protocol, .. } = *port;
                    let ip = self.sites[site].vip();
                    all.insert(ServiceAddress { ip, port: number, protocol }, wanted);
                }
            }
        }
        all
    }

    fn wanted_at(&self, site: usize, port: &Port) -> Option<Wanted> {
        let own = &self.sites[site];
        let routed = own.routed();
        let drain = match own.form {
            Form::Splits => own.drain,
            _ => DEFAULT_DRAIN.as_secs(),
        };
        let tcp = port.protocol == Protocol::Tcp;
        let all = |target| self.endpoints(site, target, |_| true);
        let of_route = |target| self.endpoints(site, target, |v| routed.contains(&v));
        let beside = |target| {
            let other = self.beside(site);
            other.map(|other| self.endpoints(other, target, |_| true)).unwrap_or_default()
        };
        let endpoints = match own.form {
            Form::Nothing => return None,
            Form::Service | Form::Rule | Form::Entry | Form::Splits => all(port.target),
            Form::Routed if tcp => &of_route(port.target) | &beside(port.target),
            Form::RoutedEntry | Form::Workloads if tcp => of_route(port.target),
            // Istio routes no UDP, and a TCPRoute none.
            Form::Routed | Form::RoutedEntry | Form::Workloads => all(port.target),
            Form::ServiceRoute if tcp => &of_route(WEB.target) | &beside(WEB.target),
            Form::ServiceRoute => all(port.target),
            Form::Gateway if tcp => &of_route(WEB.target) | &beside(WEB.target),
            Form::Gateway => return None,
        };
        Some(Wanted { endpoints, drain })
    }
}
