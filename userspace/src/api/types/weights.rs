//! Requests that change weights, and what became of earlier ones.

use std::collections::BTreeMap;
use std::net::SocketAddr;

use serde::{Deserialize, Serialize};
use utoipa::{IntoParams, ToSchema};

use super::{ConditionView, OriginDocument};
use crate::desired::{Change, DesiredState, Drain, Override, PersistedState, Source, version_of};
use crate::model::{Name, Weights};
use crate::source::Problem;

fn is_false(value: &bool) -> bool {
    !value
}

/// Other weights for a split: a subset that is not named keeps its weight.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct WeightsRequest {
    /// By subset name.
    pub weights: BTreeMap<String, u32>,
    /// Weights in force without which nothing is to happen, of all subsets or some.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub expect: BTreeMap<String, u32>,
    /// The version without which nothing is to happen.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub version: Option<u64>,
    /// Whether this node may differ from the others, of a split of the cluster.
    #[serde(default, skip_serializing_if = "is_false")]
    pub this_node: bool,
}

/// Conditions on a reset.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub struct ResetQuery {
    /// Weights in force without which nothing is to happen, as `v1=90,v3=10`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub expect: Option<String>,
    /// The version without which nothing is to happen.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub version: Option<u64>,
}

/// Back to weights of before.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct RollbackRequest {
    /// The version of the change to whose weights to return; to those before
    /// the last change without one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub to: Option<u64>,
    /// Weights in force without which nothing is to happen, of all subsets or some.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub expect: BTreeMap<String, u32>,
    /// The version without which nothing is to happen.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub version: Option<u64>,
    /// Whether this node may differ from the others, of a split of the cluster.
    #[serde(default, skip_serializing_if = "is_false")]
    pub this_node: bool,
}

/// An endpoint to take out of a split.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct DrainRequest {
    /// ADDRESS:PORT, or ADDRESS where that is enough.
    pub endpoint: String,
    /// Also if a subset with a weight has no endpoint then.
    #[serde(default)]
    pub force: bool,
    /// Whether this node may differ from the others, of a split of the cluster.
    #[serde(default, skip_serializing_if = "is_false")]
    pub this_node: bool,
}

/// An endpoint to put back.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct UndrainRequest {
    /// ADDRESS:PORT, or ADDRESS where that is enough.
    pub endpoint: String,
}

/// A change of a split's weights.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct ChangeView {
    /// What `weir rollback --to` takes.
    pub version: u64,
    /// When, as in RFC 3339.
    pub time: String,
    /// What made it: `file`, `apply`, `delete`, `weights`, `reset` or `rollback`; or `drain`
    /// or `undrain`, which leave the weights.
    pub cause: String,
    /// The user who made it; of files nobody knows.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub by: Option<String>,
    /// What the user said about it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
    /// The endpoint that was taken out or put back.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<String>)]
    pub endpoint: Option<SocketAddr>,
    /// The weights before; empty if there was no such split.
    pub from: BTreeMap<String, u32>,
    /// The weights after; empty if there is no such split any more.
    pub to: BTreeMap<String, u32>,
    /// The weights of an override that ended since the definition's weights changed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ended: Option<BTreeMap<String, u32>>,
}

impl From<&Change> for ChangeView {
    fn from(change: &Change) -> Self {
        Self {
            version: change.version,
            time: change.time.to_string(),
            cause: change.cause.to_string(),
            by: change.author.as_ref().map(|author| author.by.clone()),
            reason: change.author.as_ref().and_then(|author| author.reason.clone()),
            endpoint: change.endpoint.as_deref().copied(),
            from: plain(&change.from),
            to: plain(&change.to),
            ended: change.ended.as_ref().map(plain),
        }
    }
}

/// Where what a split is comes from.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct OriginView {
    /// Who says what it is: `FILE:LINE`, with the documents that it is made of if it is no
    /// TrafficSplit; or `applied` for what was applied through the API.
    pub source: String,
    /// The version of the last change of its weights: what requests can name as
    /// the one that they expect.
    pub version: u64,
    /// The documents of which it is made, if no single one says what it is.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub documents: Vec<OriginDocument>,
    /// What became of the routes among them.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub conditions: Vec<ConditionView>,
    /// What is to be said about it and its documents.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub notes: Vec<String>,
    /// Why it goes on as it was, if it is not what documents say now.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub problems: Vec<String>,
    /// If its weights are not those of its definition.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub overridden: Option<OverrideView>,
    /// Endpoints of its definition that get no new flows, since they were taken out.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub drained: Vec<DrainedView>,
    /// The cluster's objects that say on all nodes how its connections are divided, as `KIND
    /// NAMESPACE/NAME`; none if the node's operator says so.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub cluster: Vec<String>,
    /// Whether this node does otherwise than the cluster says: `overridden` and `drained` say how.
    #[serde(default, skip_serializing_if = "is_false")]
    pub this_node: bool,
    /// The weights of an override that the last change of weights ended, since
    /// the definition's weights changed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ended: Option<BTreeMap<String, u32>>,
}

impl OriginView {
    /// Where what a split is comes from; empty for one that is not there.
    pub fn of(desired_state: &DesiredState, persisted: &PersistedState, split: &str) -> Self {
        let last = persisted.changes(split).next_back();
        let source = desired_state.source(split);
        let origins = match &source {
            Some(Source::Documents(provenance)) => provenance.documents.as_slice(),
            Some(Source::Adopted) | None => &[],
        };
        let resolver = desired_state.resolver();
        let conditions = origins.iter().flat_map(|origin| resolver.conditions_of(&origin.id));
        let name = Name::new(split).ok();
        let say = |problems: Vec<Problem>| problems.iter().map(ToString::to_string).collect();
        let is_held = desired_state.is_held(split);
        let cluster =
            name.as_ref().map(|name| desired_state.divided_by_cluster(name)).unwrap_or_default();
        Self {
            source: source.as_ref().map(ToString::to_string).unwrap_or_default(),
            documents: origins.iter().map(Into::into).collect(),
            conditions: conditions.map(Into::into).collect(),
            notes: name.as_ref().map(|n| say(resolver.notes_of(n))).unwrap_or_default(),
            problems: name
                .as_ref()
                .filter(|_| is_held)
                .map(|name| say(desired_state.problems_of(name)))
                .unwrap_or_default(),
            version: version_of(last),
            drained: persisted.drains_of(split).into_iter().flatten().map(Into::into).collect(),
            cluster: cluster.iter().map(|document| document.id().to_string()).collect(),
            this_node: name
                .as_ref()
                .is_some_and(|name| desired_state.is_of_this_node(persisted, name)),
            overridden: persisted.override_of(split).map(OverrideView::from),
            ended: last.and_then(|last| last.ended.as_ref()).map(plain),
        }
    }
}

/// A split of the cluster that this node steers otherwise than the others.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct ThisNodeView {
    /// The split.
    pub split: String,
    /// The weights that are in force here.
    pub weights: BTreeMap<String, u32>,
    /// Those that the cluster says, if they are others.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub overridden: Option<OverrideView>,
    /// Endpoints that get no new flows here.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub drained: Vec<DrainedView>,
}

impl ThisNodeView {
    /// All of them, by name.
    pub fn all(desired_state: &DesiredState, persisted: &PersistedState) -> Vec<Self> {
        let view = |name: Name| {
            let in_force = desired_state.split_set().get(name.as_str());
            let drained = persisted.drains_of(name.as_str()).into_iter().flatten();
            Self {
                weights: in_force.map(|split| plain(&Weights::of(split))).unwrap_or_default(),
                overridden: persisted.override_of(name.as_str()).map(Into::into),
                drained: drained.map(Into::into).collect(),
                split: name.to_string(),
            }
        };
        desired_state.of_this_node(persisted).into_iter().map(view).collect()
    }
}

/// An endpoint that was taken out.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct DrainedView {
    /// Where it listens.
    #[schema(value_type = String)]
    pub address: SocketAddr,
    /// The subsets that have it.
    pub subsets: Vec<String>,
    /// Since when, as in RFC 3339.
    pub since: String,
    /// Who took it out.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub by: Option<String>,
    /// What the user said about it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
}

impl From<(&SocketAddr, &Drain)> for DrainedView {
    fn from((&address, drain): (&SocketAddr, &Drain)) -> Self {
        Self {
            address,
            subsets: drain.subsets.iter().map(ToString::to_string).collect(),
            since: drain.since.to_string(),
            by: drain.author.as_ref().map(|author| author.by.clone()),
            reason: drain.author.as_ref().and_then(|author| author.reason.clone()),
        }
    }
}

/// An override of a split's weights.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct OverrideView {
    /// Since when, as in RFC 3339.
    pub since: String,
    /// The weights of the split's definition, which are not in force.
    pub defined: BTreeMap<String, u32>,
}

impl From<&Override> for OverrideView {
    fn from(weights: &Override) -> Self {
        Self { since: weights.since.to_string(), defined: plain(&weights.defined) }
    }
}

fn plain(weights: &Weights) -> BTreeMap<String, u32> {
    weights.iter().map(|(name, weight)| (name.to_string(), weight)).collect()
}
