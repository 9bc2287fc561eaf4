//! What the API can do to the agent.

use std::collections::BTreeMap;

use crate::api::types::{
    CandidateView, EndpointView, ExplainRequest, ExplainView, SplitView, StatusView, SubsetView,
};
use crate::api::{Control, Failure};
use crate::explain::explain;
use crate::model::{Affinity, Name, Split, total_weight};
use crate::plan::Change;

use super::state::{Inner, State};

fn share(part: u64, whole: u64) -> Option<f64> {
    (whole > 0).then(|| part as f64 / whole as f64)
}

fn view(inner: &Inner, split: &Split) -> SplitView {
    let sum = total_weight(split.subsets());
    let change = inner.last_changes.get(split.name().as_str());
    let since = |at: usize| {
        let stats = inner.steering.subset_stats(split, at);
        let before = change.and_then(|c| c.flows.get(&split.subsets()[at].name)).copied();
        (stats, stats.flows - before.unwrap_or(0).min(stats.flows))
    };
    let fresh: u64 = (0..split.subsets().len()).map(|at| since(at).1).sum();
    let subsets = split.subsets().iter().enumerate().map(|(at, subset)| {
        let (stats, flows) = since(at);
        let endpoints = subset.endpoints.iter().map(|&address| {
            let stats = inner.steering.endpoint_stats(split, at, address);
            EndpointView {
                address,
                flows: stats.flows,
                packets_forward: stats.forward_packets,
                bytes_forward: stats.forward_bytes,
                packets_reply: stats.reply_packets,
                bytes_reply: stats.reply_bytes,
            }
        });
        SubsetView {
            name: subset.name.to_string(),
            weight: subset.weight,
            target_share: share(subset.weight.into(), sum).unwrap_or(0.0),
            observed_share: share(flows, fresh),
            flows,
            total_flows: stats.flows,
            rejected: stats.rejected,
            endpoints: endpoints.collect(),
        }
    });
    SplitView {
        name: split.name().to_string(),
        address: split.address().ip,
        port: split.address().port,
        protocol: split.address().protocol.into(),
        affinity: match split.affinity() {
            Affinity::None => "None".to_owned(),
            Affinity::ClientIp => "ClientIP".to_owned(),
        },
        changed: change.map_or(0, |change| change.at.elapsed().as_secs()),
        source: "file".to_owned(),
        subsets: subsets.collect(),
    }
}

fn no_split(name: &str) -> Failure {
    Failure::NotFound(format!("there is no split \"{name}\""))
}

impl Control for State {
    async fn splits(&self) -> Result<Vec<SplitView>, Failure> {
        let inner = self.lock();
        Ok(inner.desired.splits().map(|split| view(&inner, split)).collect())
    }

    async fn split(&self, name: String) -> Result<SplitView, Failure> {
        let inner = self.lock();
        inner.desired.get(&name).map(|split| view(&inner, split)).ok_or_else(|| no_split(&name))
    }

    async fn set_weights(
        &self,
        name: String,
        weights: BTreeMap<String, u32>,
    ) -> Result<SplitView, Failure> {
        let mut inner = self.lock();
        let split = inner.desired.get(&name).ok_or_else(|| no_split(&name))?;
        let mut named = BTreeMap::new();
        for (subset, weight) in weights {
            let subset = Name::new(subset).map_err(|e| Failure::Invalid(e.to_string()))?;
            named.insert(subset, weight);
        }
        let split = split
            .with_weights(&named)
            .map_err(|e| Failure::Invalid(format!("split \"{name}\": {e}")))?;
        let change = Change { put: vec![split.clone()], remove: Vec::new() };
        inner.apply(&change).map_err(|e| Failure::Internal(e.to_string()))?;
        self.changed.notify_one();
        Ok(view(&inner, &split))
    }

    async fn explain(&self, request: ExplainRequest) -> Result<ExplainView, Failure> {
        let inner = self.lock();
        let protocol = request.protocol.into();
        let split = inner
            .desired
            .splits()
            .find(|s| s.address().socket() == request.to && s.address().protocol == protocol)
            .ok_or_else(|| {
                Failure::NotFound(format!("{}/{} is no split's address", request.to, protocol))
            })?;
        let found = explain(inner.seed, split, request.from).ok_or_else(|| {
            Failure::Invalid(format!("{} and {} differ in family", request.from, request.to))
        })?;
        let candidates = split.subsets().iter().zip(&found.draws).map(|(subset, &draw)| {
            let chosen = subset.name == found.subset.name;
            CandidateView::new(subset.name.as_str(), subset.weight, draw, chosen)
        });
        Ok(ExplainView {
            split: split.name().to_string(),
            subset: found.subset.name.to_string(),
            endpoint: found.endpoint,
            hash: found.hash,
            candidates: candidates.collect(),
        })
    }

    async fn status(&self) -> Result<StatusView, Failure> {
        let inner = self.lock();
        Ok(StatusView {
            interfaces: inner.interfaces.views(),
            reasons: inner
                .steering
                .counters()
                .reasons()
                .map_err(|e| Failure::Internal(e.to_string()))?,
            last_error: inner.last_error.clone(),
        })
    }
}
