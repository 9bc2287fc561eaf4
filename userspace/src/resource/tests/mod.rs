//! Documents to splits, without a kernel.

mod authority;
mod documents;
mod fuzz;
mod gateway;
mod ghosts;
mod given;
mod increments;
mod istio;
mod shapes;
mod smi;
mod table;
mod together;
mod traffic_splits;
mod unsteered;

use std::net::SocketAddr;

pub(crate) use documents::GOOD;

use super::{Resolved, resolve_all};
use crate::model::Split;

/// What texts come to; the files are "0", "1", ...
fn resolve(texts: &[&str]) -> Resolved {
    let files: Vec<(String, &str)> =
        texts.iter().enumerate().map(|(n, text)| (n.to_string(), *text)).collect();
    resolve_all(&files)
}

/// The same, without problems.
#[track_caller]
fn good(texts: &[&str]) -> Resolved {
    let resolved = resolve(texts);
    assert_eq!(lines(&resolved.problems), Vec::<String>::new());
    resolved
}

fn lines(problems: &[crate::source::Problem]) -> Vec<String> {
    problems.iter().map(ToString::to_string).collect()
}

/// The subsets of a split as `NAME WEIGHT ENDPOINTS`.
#[track_caller]
fn subsets(resolved: &Resolved, split: &str) -> Vec<String> {
    let all: Vec<_> = resolved.desired.splits().map(|s| s.name().to_string()).collect();
    match resolved.desired.get(split) {
        Some(split) => shown(split),
        None => panic!("no split {split}, there are {all:?}"),
    }
}

fn shown(split: &Split) -> Vec<String> {
    let endpoints = |all: &std::collections::BTreeSet<SocketAddr>| {
        all.iter().map(|endpoint| format!(" {endpoint}")).collect::<String>()
    };
    let subset =
        |s: &crate::model::Subset| format!("{} {}{}", s.name, s.weight, endpoints(&s.endpoints));
    split.subsets().iter().map(subset).collect()
}

/// The names and addresses of all splits.
fn splits(resolved: &Resolved) -> Vec<String> {
    resolved.desired.splits().map(|s| format!("{} {}", s.name(), s.address())).collect()
}

/// A Service with a cluster address.
fn service(name: &str, ip: &str, ports: &str) -> String {
    format!(
        "apiVersion: v1\nkind: Service\nmetadata: {{name: {name}}}\nspec: {{clusterIP: \"{ip}\", ports: [{ports}]}}\n---\n"
    )
}

/// A slice of a Service's endpoints, of port `name`, with a label `version`.
fn slice(service: &str, version: &str, name: &str, port: u16, ips: &[&str]) -> String {
    let family = if ips.iter().any(|ip| ip.contains(':')) { "IPv6" } else { "IPv4" };
    let endpoints: Vec<String> =
        ips.iter().map(|ip| format!("{{addresses: [\"{ip}\"]}}")).collect();
    let endpoints = endpoints.join(", ");
    format!(
        "apiVersion: discovery.k8s.io/v1\nkind: EndpointSlice\nmetadata:\n  name: {service}-{version}-{}\n  \
         labels: {{kubernetes.io/service-name: {service}, version: {version}}}\naddressType: {family}\n\
         ports: [{{name: {name}, port: {port}}}]\nendpoints: [{endpoints}]\n---\n",
        family.to_lowercase()
    )
}

/// Subsets of a host by the label `version`.
fn rule(host: &str, versions: &[&str]) -> String {
    let subsets: String =
        versions.iter().map(|v| format!("  - {{name: {v}, labels: {{version: {v}}}}}\n")).collect();
    format!(
        "apiVersion: networking.istio.io/v1\nkind: DestinationRule\nmetadata: {{name: {host}}}\nspec:\n  host: {host}\n  subsets:\n{subsets}---\n"
    )
}

/// A VirtualService of a host with routes below `kind`.
fn routes(host: &str, kind: &str, destinations: &[(&str, u32)]) -> String {
    let destinations: String = destinations
        .iter()
        .map(|(subset, weight)| {
            format!("    - {{destination: {{host: {host}, subset: {subset}}}, weight: {weight}}}\n")
        })
        .collect();
    format!(
        "apiVersion: networking.istio.io/v1\nkind: VirtualService\nmetadata: {{name: {host}}}\nspec:\n  hosts: [{host}]\n  {kind}:\n  - route:\n{destinations}---\n"
    )
}

/// Of no protocol by its name, so that both kinds of route apply.
const PORT: &str = "{name: web, port: 9080}";

/// A Service `reviews` with endpoints of v1 (three), v2 (one) and v3 (two).
fn reviews() -> String {
    [
        service("reviews", "10.96.0.10", PORT),
        slice("reviews", "v1", "web", 80, &["10.0.1.1", "10.0.1.2", "10.0.1.3"]),
        slice("reviews", "v2", "web", 80, &["10.0.2.1"]),
        slice("reviews", "v3", "web", 80, &["10.0.3.1", "10.0.3.2"]),
        rule("reviews", &["v1", "v2", "v3", "v4"]),
    ]
    .concat()
}
