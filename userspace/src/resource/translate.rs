//! Splits as documents.

use std::fmt::Write as _;

use serde::Serialize;

use super::Resolved;
use crate::model::{Affinity, Protocol, Split};
use crate::source::{API_VERSION, KIND};

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Manifest<'a> {
    api_version: &'static str,
    kind: &'static str,
    metadata: Metadata<'a>,
    spec: Spec<'a>,
}

#[derive(Serialize)]
struct Metadata<'a> {
    name: &'a str,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Spec<'a> {
    address: std::net::IpAddr,
    port: u16,
    protocol: Protocol,
    affinity: Affinity,
    drain_seconds: u64,
    subsets: Vec<Subset<'a>>,
}

#[derive(Serialize)]
struct Subset<'a> {
    name: &'a str,
    weight: u32,
    endpoints: Vec<String>,
}

/// The splits as a stream of TrafficSplits, each with the documents that it
/// comes from in comments. Read again, they come to the same.
pub fn translate(resolved: &Resolved) -> String {
    let mut out = String::new();
    for split in resolved.desired.splits() {
        out.push_str("---\n");
        for origin in resolved.provenance.get(split.name()).into_iter().flatten() {
            // A file's name can have a line break in it.
            let text = origin.to_string().replace(char::is_control, "?");
            writeln!(out, "# from {text}").expect("a string");
        }
        // Of plain strings and numbers.
        out.push_str(&serde_yaml::to_string(&document(split)).expect("a split is YAML"));
    }
    out
}

fn document(split: &Split) -> Manifest<'_> {
    let address = split.address();
    let subsets = split.subsets().iter().map(|subset| Subset {
        name: subset.name.as_str(),
        weight: subset.weight,
        endpoints: subset.endpoints.iter().map(ToString::to_string).collect(),
    });
    Manifest {
        api_version: API_VERSION,
        kind: KIND,
        metadata: Metadata { name: split.name().as_str() },
        spec: Spec {
            address: address.ip,
            port: address.port,
            protocol: address.protocol,
            affinity: split.affinity(),
            drain_seconds: split.drain().as_secs(),
            subsets: subsets.collect(),
        },
    }
}
