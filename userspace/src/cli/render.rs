//! Answers of the agent as plain text.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;
use std::time::Duration;

use super::columns::{
    Align::{self, Left, Right},
    Columns,
};
use super::documents;
use crate::api::types::{
    ChangeView, ConditionView, DrainedView, DrainingView, ExplainView, SplitView,
};

/// Aligned columns with a header.
pub(super) fn table<const N: usize>(
    columns: [(&'static str, Align); N],
    rows: &[[String; N]],
) -> String {
    Columns::new(columns).lines(rows)
}

/// Per cent with two digits; "-" if unknown.
pub(super) fn share(share: Option<f64>) -> String {
    share.map_or_else(|| "-".into(), |share| format!("{:.2}%", share * 100.0))
}

/// Weights as they are typed; "-" if there are none.
pub(super) fn weights(weights: &BTreeMap<String, u32>) -> String {
    let pairs: Vec<String> =
        weights.iter().map(|(name, weight)| format!("{name}={weight}")).collect();
    if pairs.is_empty() { "-".to_owned() } else { pairs.join(" ") }
}

/// A split.
pub(super) fn split(split: &SplitView) -> String {
    splits(std::slice::from_ref(split))
}

/// Splits, a line for each subset, and what is to be said of their weights.
pub(super) fn splits(splits: &[SplitView]) -> String {
    let columns = [
        ("NAME", Left),
        ("SUBSET", Left),
        ("WEIGHT", Right),
        ("DEFINED", Right),
        ("WANTED", Right),
        ("OBSERVED", Right),
        ("FLOWS", Right),
        ("ENDPOINTS", Right),
        ("VERSION", Right),
        ("SOURCE", Left),
    ];
    let rows: Vec<[String; 10]> = splits
        .iter()
        .flat_map(|split| split.subsets.iter().map(move |subset| (split, subset)))
        .map(|(split, subset)| {
            let overridden = split.origin.overridden.as_ref();
            let defined = overridden.and_then(|o| o.defined.get(&subset.name)).copied();
            [
                split.name.clone(),
                subset.name.clone(),
                subset.weight.to_string(),
                defined.unwrap_or(subset.weight).to_string(),
                share(Some(subset.wanted_share)),
                share(subset.observed_share),
                subset.new_flows_since_change.to_string(),
                subset.endpoints.len().to_string(),
                split.origin.version.to_string(),
                split.origin.source.clone(),
            ]
        })
        .collect();
    let mut text = table(columns, &rows);
    let said: Vec<String> = splits.iter().flat_map(said).collect();
    if !said.is_empty() {
        let _ = write!(text, "\n{}\n", said.join("\n"));
    }
    let mut conditions: Vec<&ConditionView> =
        splits.iter().flat_map(|split| &split.origin.conditions).collect();
    conditions.dedup();
    if !conditions.is_empty() {
        text.push('\n');
        text.push_str(&documents::conditions(&conditions));
    }
    let notes: BTreeSet<&String> = splits.iter().flat_map(|split| &split.origin.notes).collect();
    text.push_str(&documents::notes(notes.into_iter()));
    text
}

/// What is to be said of a split itself.
fn said(split: &SplitView) -> Vec<String> {
    let held = split
        .origin
        .problems
        .iter()
        .map(|problem| format!("{}: goes on as it was: {problem}", split.name));
    note(split)
        .into_iter()
        .chain(held)
        .chain(split.origin.drained.iter().map(|d| drained(split, d)))
        .chain(split.draining.iter().map(|d| drains(split, d)))
        .collect()
}

/// An endpoint that somebody took out.
fn drained(split: &SplitView, endpoint: &DrainedView) -> String {
    let DrainedView { address, subsets, since, by, reason } = endpoint;
    let by = by.as_ref().map(|by| format!(" by {by}")).unwrap_or_default();
    let reason = reason.as_ref().map(|reason| format!(" ({reason})")).unwrap_or_default();
    let (name, subsets) = (&split.name, subsets.join(", "));
    let here = if split.origin.this_node { " on this node alone" } else { "" };
    format!(
        "{name}: {address} of {subsets} is out{here} since {since}{by}{reason}; \
         `weir undrain {name} {address}` puts it back"
    )
}

fn drains(split: &SplitView, endpoint: &DrainingView) -> String {
    let DrainingView { subset, address, open_flows, seconds_left } = endpoint;
    let flows = match open_flows {
        None => "its flows are not counted yet".to_owned(),
        Some(1) => "1 live flow at the last count".to_owned(),
        Some(count) => format!("{count} live flows at the last count"),
    };
    let left = humantime::format_duration(Duration::from_secs(*seconds_left));
    format!("{}: {address} of subset {subset} drains for {left} more: {flows}", split.name)
}

/// That a split of the cluster has other weights on this node alone.
pub(super) fn of_this_node(split: &SplitView) -> Option<String> {
    let overridden = split.origin.overridden.as_ref().filter(|_| split.origin.this_node)?;
    let (name, since, defined) = (&split.name, &overridden.since, weights(&overridden.defined));
    Some(format!(
        "{name}: weights are of this node alone since {since}; the cluster ({}) says {defined}, \
         and `weir weights {name} --reset` goes back to that",
        split.origin.cluster.join(", ")
    ))
}

/// What is to be said of a split's weights.
fn note(split: &SplitView) -> Option<String> {
    let name = &split.name;
    if let Some(overridden) = &split.origin.overridden {
        let (since, defined) = (&overridden.since, weights(&overridden.defined));
        if let Some(here) = of_this_node(split) {
            return Some(here);
        }
        return Some(format!(
            "{name}: weights are overridden since {since}; \
             `weir weights {name} --reset` goes back to {defined}"
        ));
    }
    let ended = weights(split.origin.ended.as_ref()?);
    Some(format!("{name}: the override {ended} ended when the weights in its definition changed"))
}

/// Changes of a split's weights, a line for each.
pub(super) fn history(changes: &[ChangeView]) -> String {
    let columns = [
        ("VERSION", Right),
        ("TIME", Left),
        ("CAUSE", Left),
        ("BY", Left),
        ("FROM", Left),
        ("TO", Left),
        ("REASON", Left),
    ];
    let rows: Vec<[String; 7]> = changes
        .iter()
        .map(|change| {
            let ended = change.ended.as_ref();
            let ended = ended.map(|ended| format!("ended the override {}", weights(ended)));
            let endpoint = change.endpoint.map(|endpoint| endpoint.to_string());
            let said = endpoint.into_iter().chain(change.reason.clone()).chain(ended);
            let said: Vec<String> = said.collect();
            [
                change.version.to_string(),
                change.time.clone(),
                change.cause.clone(),
                change.by.clone().unwrap_or_else(|| "-".to_owned()),
                weights(&change.from),
                weights(&change.to),
                said.join("; "),
            ]
        })
        .collect();
    table(columns, &rows)
}

/// The choice, and how each subset fared in it.
pub(super) fn explain(view: &ExplainView) -> String {
    let endpoint = match view.endpoint {
        Some(endpoint) => endpoint.to_string(),
        None => "rejected, the subset has no endpoint".into(),
    };
    let rows: Vec<[String; 5]> = view
        .candidates
        .iter()
        .map(|candidate| {
            let score = candidate.score.map_or_else(|| "-".into(), |score| format!("{score:.6}"));
            let chosen = if candidate.chosen { "<- least" } else { "" };
            let (name, weight) = (candidate.subset.clone(), candidate.weight.to_string());
            [name, weight, format!("{:.6}", candidate.log), score, chosen.into()]
        })
        .collect();
    let columns =
        [("SUBSET", Left), ("WEIGHT", Right), ("-LOG2(U)", Right), ("SCORE", Right), ("", Left)];
    let (split, subset, hash) = (&view.split, &view.subset, &view.hash);
    let mut text = format!(
        "split:     {split}\nsubset:    {subset}\nendpoint:  {endpoint}\nhash:      {hash}\n\n{}",
        table(columns, &rows)
    );
    if let Some(note) = &view.note {
        text.push_str(&format!("\nnote: {note}\n"));
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::api::types::{CandidateView, EndpointView, OriginView, Protocol, SubsetView};

    fn subset(name: &str, weight: u32, observed_share: Option<f64>, flows: u64) -> SubsetView {
        let endpoint = EndpointView {
            address: "10.0.0.1:80".parse().unwrap(),
            new_flows: flows,
            packets_forward: 0,
            bytes_forward: 0,
            packets_reply: 0,
            bytes_reply: 0,
        };
        SubsetView {
            name: name.into(),
            weight,
            wanted_share: f64::from(weight) / 100.0,
            observed_share,
            new_flows_since_change: flows,
            new_flows: flows,
            rejected: 0,
            endpoints: vec![endpoint],
        }
    }

    #[test]
    fn splits_are_aligned() {
        let split = SplitView {
            name: "reviews".into(),
            address: "10.9.0.1".parse().unwrap(),
            port: 80,
            protocol: Protocol::Tcp,
            settings: Default::default(),
            changed: 1,
            origin: OriginView { source: "weir.yaml:4".into(), version: 7, ..Default::default() },
            subsets: vec![subset("v1", 80, Some(0.80123), 80123), subset("canary", 20, None, 0)],
            draining: vec![DrainingView {
                subset: "v1".into(),
                address: "10.1.0.7:80".parse().unwrap(),
                open_flows: Some(12),
                seconds_left: 3599,
            }],
        };
        let expected = "\
NAME     SUBSET  WEIGHT  DEFINED  WANTED  OBSERVED  FLOWS  ENDPOINTS  VERSION  SOURCE
reviews  v1          80       80  80.00%    80.12%  80123          1        7  weir.yaml:4
reviews  canary      20       20  20.00%         -      0          1        7  weir.yaml:4

reviews: 10.1.0.7:80 of subset v1 drains for 59m 59s more: 12 live flows at the last count
";
        assert_eq!(splits(std::slice::from_ref(&split)), expected);
        assert_eq!(splits(&[]).lines().count(), 1);
    }

    #[test]
    fn an_explanation_shows_the_choice() {
        let candidates = vec![
            CandidateView::new("v1", 4, 2 << 24, true),
            CandidateView::new("v2", 0, 1 << 24, false),
        ];
        let view = ExplainView {
            note: None,
            split: "reviews".into(),
            subset: "v1".into(),
            endpoint: None,
            hash: ExplainView::hash_text(0xabc),
            candidates,
        };
        let expected = "\
split:     reviews
subset:    v1
endpoint:  rejected, the subset has no endpoint
hash:      0x0000000000000abc

SUBSET  WEIGHT  -LOG2(U)     SCORE
v1           4  2.000000  0.500000  <- least
v2           0  1.000000         -
";
        assert_eq!(explain(&view), expected);
    }
}
