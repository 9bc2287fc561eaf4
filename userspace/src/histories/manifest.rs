//! A cluster as documents.

use std::collections::BTreeMap;
use std::fmt::Write as _;

use super::cluster::{Cluster, Form, PODS, Pod, Port, SITES, Site, VERSIONS};
use crate::model::Protocol;

/// Kind, name and text of each document of a site.
pub type Manifest = BTreeMap<(&'static str, String), String>;

const ISTIO: &str = "networking.istio.io/v1";
const GATEWAY: &str = "gateway.networking.k8s.io/v1";

/// The documents of a site.
pub fn of(cluster: &Cluster, site: usize) -> Manifest {
    let own = &cluster.sites[site];
    let mut out = Writer { cluster, site, own, manifest: Manifest::new() };
    let everybody: &dyn Fn(usize) -> bool = &|_| true;
    match own.form {
        Form::Nothing => {}
        Form::Service | Form::Rule | Form::Routed => {
            out.service(own.name(), &own.vip().to_string(), own.ports(), false);
            for version in 0..VERSIONS {
                out.slice(own.name(), own.ports(), version, &|v| v == version);
            }
            if own.form != Form::Service {
                out.rule(own.name());
            }
            if own.form == Form::Routed {
                out.routes(own.name());
            }
        }
        Form::ServiceRoute => {
            out.service(own.name(), &own.vip().to_string(), own.ports(), false);
            out.slice(own.name(), own.ports(), 0, everybody);
            out.backends();
            out.tcp_route(&format!("{{group: \"\", kind: Service, name: {}}}", own.name()));
        }
        Form::Gateway => {
            out.gateway();
            out.backends();
            out.tcp_route(&format!("{{name: {}}}", own.name()));
        }
        Form::Splits => own.ports().iter().enumerate().for_each(|(at, port)| out.split(at, port)),
        Form::Entry | Form::RoutedEntry => {
            out.entry();
            if own.form == Form::RoutedEntry {
                out.rule(&own.host());
                out.routes(&own.host());
            }
        }
        Form::Workloads => {
            out.service(own.name(), &own.vip().to_string(), own.ports(), true);
            (0..PODS).for_each(|pod| out.workload(pod));
            out.rule(own.name());
            out.routes(own.name());
        }
    }
    out.manifest
}

/// The documents of all sites that are in files, as pairs of name and text.
pub fn files(cluster: &Cluster) -> Vec<(String, String)> {
    const FILES: usize = 3;
    let mut files = vec![Vec::new(); FILES];
    let layout = usize::from(cluster.layout);
    for site in (0..SITES).filter(|&site| !cluster.sites[site].applied) {
        for (at, (_, text)) in of(cluster, site).into_iter().enumerate() {
            files[(layout / 7 * at + layout + site) % FILES].push(text);
        }
    }
    for documents in &mut files {
        if layout.is_multiple_of(2) {
            documents.reverse();
        }
    }
    let named = files.into_iter().enumerate();
    named.map(|(n, documents)| (format!("/etc/{n}.yaml"), documents.join("---\n"))).collect()
}

struct Writer<'a> {
    cluster: &'a Cluster,
    site: usize,
    own: &'a Site,
    manifest: Manifest,
}

impl Site {
    fn host(&self) -> String {
        format!("{}.example.com", self.name())
    }
}

impl Writer<'_> {
    fn put(&mut self, kind: &'static str, version: &str, name: &str, labels: &str, spec: &str) {
        let text = format!(
            "apiVersion: {version}\nkind: {kind}\nmetadata: {{name: {name}, labels: {{{labels}}}}}\n{spec}\n"
        );
        self.manifest.insert((kind, name.to_owned()), text);
    }

    fn service(&mut self, name: &str, ip: &str, ports: &[Port], selects: bool) {
        let ports = ports.iter().map(|port| {
            let Port { name, number, target, protocol } = port;
            format!("{{name: {name}, port: {number}, targetPort: {target}, protocol: {protocol}}}")
        });
        let selector = if selects { format!("selector: {{app: {name}}}, ") } else { String::new() };
        let ports = join(ports);
        let spec = format!("spec: {{clusterIP: {ip}, {selector}ports: [{ports}]}}");
        self.put("Service", "v1", name, "", &spec);
    }

    /// The Pods of the versions that are wanted, in the slice of one.
    fn slice(
        &mut self,
        service: &str,
        ports: &[Port],
        version: usize,
        wants: &dyn Fn(usize) -> bool,
    ) {
        let ports = ports.iter().map(|port| {
            let Port { name, target, protocol, .. } = port;
            format!("{{name: {name}, port: {target}, protocol: {protocol}}}")
        });
        let ports = join(ports);
        let endpoints = join(self.pods().filter(|(_, pod)| wants(pod.version)).map(|(n, pod)| {
            let ip = Cluster::pod_ip(self.site, n);
            format!("{{addresses: [{ip}], conditions: {{ready: {}}}}}", pod.ready)
        }));
        let labels = format!("kubernetes.io/service-name: {service}, version: x{version}");
        let spec = format!("addressType: IPv4\nports: [{ports}]\nendpoints: [{endpoints}]");
        let name = format!("{service}-{version}");
        self.put("EndpointSlice", "discovery.k8s.io/v1", &name, &labels, &spec);
    }

    fn pods(&self) -> impl Iterator<Item = (usize, Pod)> + use<> {
        let pods = self.own.pods;
        (0..PODS).filter_map(move |n| Some((n, pods[n]?)))
    }

    /// Subsets by the labels of Pods.
    fn rule(&mut self, host: &str) {
        let subsets = self.own.versions().into_iter().enumerate();
        let subsets =
            join(subsets.map(|(v, name)| format!("{{name: {name}, labels: {{version: x{v}}}}}")));
        let spec = format!("spec: {{host: {host}, subsets: [{subsets}]}}");
        self.put("DestinationRule", ISTIO, self.own.name(), "", &spec);
    }

    fn routes(&mut self, host: &str) {
        let own = self.own;
        let mut destinations: Vec<String> = Vec::new();
        for version in own.routed() {
            let (subset, weight) = (own.versions()[version], own.weight(version));
            destinations.push(format!(
                "{{destination: {{host: {host}, subset: {subset}}}, weight: {weight}}}"
            ));
        }
        if let Some(other) = self.cluster.beside(self.site) {
            let other = self.cluster.sites[other].name();
            destinations.push(format!("{{destination: {{host: {other}}}, weight: 1}}"));
        }
        let destinations = destinations.join(", ");
        let spec = format!("spec: {{hosts: [{host}], tcp: [{{route: [{destinations}]}}]}}");
        self.put("VirtualService", ISTIO, own.name(), "", &spec);
    }

    /// A Service for each version, without an address of its own.
    fn backends(&mut self) {
        let web = [super::cluster::PORTS[0][0]];
        for version in 0..VERSIONS {
            let name = format!("{}-{}", self.own.name(), self.own.versions()[version]);
            let name = name.to_lowercase();
            self.service(&name, "None", &web, false);
            self.slice(&name, &web, version, &|v| v == version);
        }
    }

    fn tcp_route(&mut self, parent: &str) {
        let own = self.own;
        let mut backends: Vec<String> = Vec::new();
        for version in own.routed() {
            let (name, subset) = (own.name(), own.versions()[version].to_lowercase());
            let weight = own.weight(version);
            backends.push(format!("{{name: {name}-{subset}, port: 80, weight: {weight}}}"));
        }
        if let Some(other) = self.cluster.beside(self.site) {
            let other = self.cluster.sites[other].name();
            backends.push(format!("{{name: {other}, port: 80, weight: 1}}"));
        }
        let backends = backends.join(", ");
        let spec =
            format!("spec: {{parentRefs: [{parent}], rules: [{{backendRefs: [{backends}]}}]}}");
        self.put("TCPRoute", GATEWAY, own.name(), "", &spec);
    }

    fn gateway(&mut self) {
        let listeners = join(self.own.ports().iter().map(|port| {
            let Port { name, number, protocol, .. } = port;
            format!("{{name: {name}, port: {number}, protocol: {protocol}}}")
        }));
        let spec = format!(
            "spec: {{gatewayClassName: x, addresses: [{{value: {}}}], listeners: [{listeners}]}}",
            self.own.vip()
        );
        self.put("Gateway", GATEWAY, self.own.name(), "", &spec);
    }

    fn split(&mut self, at: usize, port: &Port) {
        let own = self.own;
        let name = match at {
            0 => own.name().to_owned(),
            _ => format!("{}.{}", own.name(), port.name),
        };
        let mut subsets = String::new();
        for (version, subset) in own.versions().into_iter().enumerate() {
            let also = own.shared && version == VERSIONS - 1;
            let wanted = |v: usize| v == version || also && v == 0;
            let endpoints = join(
                self.pods()
                    .filter(|(_, pod)| pod.ready && wanted(pod.version))
                    .map(|(n, _)| format!("'{}:{}'", Cluster::pod_ip(self.site, n), port.target)),
            );
            let weight = own.weights[version].max(u8::from(version == 0));
            let comma = if version == 0 { "" } else { ", " };
            let _ = write!(
                subsets,
                "{comma}{{name: {subset}, weight: {weight}, endpoints: [{endpoints}]}}"
            );
        }
        let spec = format!(
            "spec: {{address: {}, port: {}, protocol: {}, drainSeconds: {}, subsets: [{subsets}]}}",
            own.vip(),
            port.number,
            port.protocol,
            own.drain
        );
        self.put("TrafficSplit", "weir.dev/v1alpha1", &name, "", &spec);
    }

    fn entry(&mut self) {
        let ports = join(self.own.ports().iter().map(|port| {
            let Port { name, number, target, protocol } = port;
            let protocol = if *protocol == Protocol::Udp { "UDP" } else { "\"\"" };
            format!(
                "{{name: {name}, number: {number}, targetPort: {target}, protocol: {protocol}}}"
            )
        }));
        let endpoints = join(self.pods().filter(|(_, pod)| pod.ready).map(|(n, pod)| {
            let ip = Cluster::pod_ip(self.site, n);
            format!("{{address: {ip}, labels: {{version: x{}}}}}", pod.version)
        }));
        let spec = format!(
            "spec: {{hosts: [{}], addresses: [{}], resolution: STATIC, ports: [{ports}], endpoints: [{endpoints}]}}",
            self.own.host(),
            self.own.vip()
        );
        self.put("ServiceEntry", ISTIO, self.own.name(), "", &spec);
    }

    fn workload(&mut self, pod: usize) {
        let Some(Pod { version, ready: true }) = self.own.pods[pod] else { return };
        let (ip, app) = (Cluster::pod_ip(self.site, pod), self.own.name());
        let spec = format!("spec: {{address: {ip}, labels: {{app: {app}, version: x{version}}}}}");
        self.put("WorkloadEntry", ISTIO, &format!("w{}-{pod}", self.site), "", &spec);
    }
}

fn join(texts: impl Iterator<Item = String>) -> String {
    texts.collect::<Vec<_>>().join(", ")
}
