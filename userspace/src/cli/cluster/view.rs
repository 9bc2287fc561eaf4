//! Splits as a cluster's objects say them: what nodes counted is not among that.

use std::collections::BTreeMap;

use serde::Serialize;

use crate::api::types::{OriginView, Protocol, SplitView, SubsetView};
use crate::cli::columns::Align::{Left, Right};
use crate::cli::documents;
use crate::cli::render::{self, share, table as aligned};
use crate::cluster::{Edit, Picture};
use crate::desired::PersistedState;
use crate::model::{Split, Weights, total_weight};

/// A split, for who asks for JSON or YAML.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub(super) struct ClusterSplitView {
    /// Its name.
    pub name: String,
    /// Its service address.
    pub address: std::net::IpAddr,
    /// The port.
    pub port: u16,
    /// The transport protocol.
    pub protocol: Protocol,
    /// The objects that say how it is divided.
    pub objects: Vec<String>,
    /// The generation of the object that divides it.
    pub generation: u64,
    /// Its subsets.
    pub subsets: Vec<ClusterSubsetView>,
    /// Other splits that a change just changed, too.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub also: Vec<String>,
    /// What is to be said about its objects.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub notes: Vec<String>,
}

/// A subset.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub(super) struct ClusterSubsetView {
    /// Its name.
    pub name: String,
    /// Its weight.
    pub weight: u32,
    /// Its weight over the sum of weights, 0 to 1.
    pub wanted_share: f64,
    /// How many endpoints it has.
    pub endpoints: usize,
}

/// A split as an agent would show it that has steered nothing yet; its version is the generation
/// of the object that divides it.
pub(super) fn split(picture: &Picture, split: &Split) -> SplitView {
    let sum = total_weight(split.subsets()) as f64;
    let nothing = PersistedState::default();
    let mut origin = OriginView::of(picture.desired_state(), &nothing, split.name().as_str());
    origin.version = picture.generation(split.name());
    let endpoint = |&address: &std::net::SocketAddr| crate::api::types::EndpointView {
        address,
        new_flows: 0,
        packets_forward: 0,
        bytes_forward: 0,
        packets_reply: 0,
        bytes_reply: 0,
    };
    let subset = |subset: &crate::model::Subset| SubsetView {
        name: subset.name.to_string(),
        weight: subset.weight,
        wanted_share: f64::from(subset.weight) / sum,
        observed_share: None,
        new_flows_since_change: 0,
        new_flows: 0,
        rejected: 0,
        endpoints: subset.endpoints.iter().map(endpoint).collect(),
    };
    SplitView {
        name: split.name().to_string(),
        address: split.address().ip,
        port: split.address().port,
        protocol: split.address().protocol.into(),
        settings: split.settings(),
        changed: 0,
        origin,
        subsets: split.subsets().iter().map(subset).collect(),
        draining: Vec::new(),
    }
}

/// The weights of a split.
pub(super) fn weights(split: &Split) -> BTreeMap<String, u32> {
    Weights::of(split).iter().map(|(name, weight)| (name.to_string(), weight)).collect()
}

/// The weights that a split has now.
pub(super) fn now(split: &SplitView) -> String {
    let weights = split.subsets.iter().map(|s| (s.name.clone(), s.weight)).collect();
    let version = split.origin.version;
    format!("split \"{}\" has {} (version {version})", split.name, render::weights(&weights))
}

/// What is shown of a split of which endpoints were looked for.
pub(super) fn whole(split: &SplitView) -> ClusterSplitView {
    ClusterSplitView { notes: split.origin.notes.clone(), ..view(split, None) }
}

/// What is shown of a split of which they were not, and of the change that it has just had.
pub(super) fn view(split: &SplitView, edit: Option<&Edit>) -> ClusterSplitView {
    let subset = |subset: &SubsetView| ClusterSubsetView {
        name: subset.name.clone(),
        weight: subset.weight,
        wanted_share: subset.wanted_share,
        endpoints: subset.endpoints.len(),
    };
    let also = edit.map(|edit| edit.also.iter().map(ToString::to_string).collect());
    ClusterSplitView {
        name: split.name.clone(),
        address: split.address,
        port: split.port,
        protocol: split.protocol,
        objects: split.origin.cluster.clone(),
        generation: split.origin.version,
        subsets: split.subsets.iter().map(subset).collect(),
        also: also.unwrap_or_default(),
        notes: Vec::new(),
    }
}

/// Splits, a line for each subset.
pub(super) fn table(splits: &[ClusterSplitView]) -> String {
    let columns = [
        ("NAME", Left),
        ("SUBSET", Left),
        ("WEIGHT", Right),
        ("WANTED", Right),
        ("VERSION", Right),
        ("OBJECT", Left),
    ];
    let rows: Vec<[String; 6]> = splits
        .iter()
        .flat_map(|split| split.subsets.iter().map(move |subset| (split, subset)))
        .map(|(split, subset)| {
            [
                split.name.clone(),
                subset.name.clone(),
                subset.weight.to_string(),
                share(Some(subset.wanted_share)),
                split.generation.to_string(),
                split.objects.join(", "),
            ]
        })
        .collect();
    let notes = splits.iter().flat_map(|split| &split.notes);
    aligned(columns, &rows) + &documents::notes(notes)
}
