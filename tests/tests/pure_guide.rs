//! The traffic-shifting tasks step by step, from files to splits.

use std::sync::Arc;

use weir::resource::{Document, Resolved, Resolver, read};
use weir_tests::samples::{Sample, Samples};

/// Services with addresses and endpoints, as a cluster or an operator would describe them.
const SERVICES: &str = include_str!("guide/services.yaml");

fn documents(text: &str) -> Vec<Arc<Document>> {
    let found = read("f", text);
    assert!(found.problems.is_empty(), "{:?}", found.problems);
    found.documents
}

struct Walk {
    samples: Samples,
    resolver: Resolver,
}

impl Walk {
    fn new(samples: Samples) -> Self {
        let mut resolver = Resolver::default();
        resolver.apply(documents(SERVICES));
        Self { samples, resolver }
    }

    fn resolve(&mut self) -> Resolved {
        let resolved = self.resolver.resolve();
        assert!(resolved.problems.is_empty(), "{:?}", resolved.problems);
        resolved
    }

    fn apply(&mut self, sample: Sample) -> Resolved {
        self.resolver.apply(documents(&self.samples.text(sample)));
        self.resolve()
    }

    fn delete(&mut self, sample: Sample) -> Resolved {
        let documents = documents(&self.samples.text(sample));
        let missing = self.resolver.delete(documents.iter().map(|document| document.id()));
        assert!(missing.is_empty(), "{missing:?}");
        self.resolve()
    }

    fn touched(&self) -> Vec<&str> {
        self.resolver.touched().iter().map(|name| name.as_str()).collect()
    }
}

/// Subsets of a split: name, share in percent, number of endpoints.
#[track_caller]
fn shares(resolved: &Resolved, split: &str) -> Vec<(String, u64, usize)> {
    let split = resolved.desired.get(split).unwrap_or_else(|| panic!("no split {split}"));
    let total = weir::model::total_weight(split.subsets());
    let share = |weight: u32| u64::from(weight) * 100 / total;
    split
        .subsets()
        .iter()
        .map(|s| (s.name.to_string(), share(s.weight), s.endpoints.len()))
        .collect()
}

fn own(all: &[(&str, u64, usize)]) -> Vec<(String, u64, usize)> {
    all.iter().map(|&(name, share, endpoints)| (name.to_owned(), share, endpoints)).collect()
}

fn bookinfo(samples: Samples) {
    let mut walk = Walk::new(samples);
    let reviews = "reviews.default";
    let plain = walk.resolve();
    assert_eq!(shares(&plain, reviews), own(&[("reviews", 100, 5)]), "before the first file");
    walk.apply(Sample::DestinationRules);
    let resolved = walk.apply(Sample::AllV1);
    for (service, endpoints) in [("productpage", 1), ("reviews", 3), ("ratings", 1), ("details", 1)]
    {
        let found = shares(&resolved, &format!("{service}.default"));
        assert_eq!(found, own(&[("v1", 100, endpoints)]), "{service}, all v1");
    }
    let resolved = walk.apply(Sample::Reviews5050);
    assert_eq!(shares(&resolved, reviews), own(&[("v1", 50, 3), ("v3", 50, 1)]));
    assert_eq!(walk.touched(), [reviews], "nothing else was resolved again");
    let resolved = walk.apply(Sample::Reviews9010);
    assert_eq!(shares(&resolved, reviews), own(&[("v1", 90, 3), ("v2", 10, 1)]));
    let resolved = walk.apply(Sample::ReviewsV3);
    assert_eq!(shares(&resolved, reviews), own(&[("v3", 100, 1)]));
    let resolved = walk.delete(Sample::AllV1);
    assert_eq!(resolved.desired, plain.desired, "balancing over all endpoints, as before");
}

#[test]
fn bookinfo_shifts_step_by_step() {
    bookinfo(Samples::find());
}

#[test]
fn bookinfo_in_other_words_shifts_step_by_step() {
    bookinfo(Samples::own());
}

#[test]
fn routing_by_a_header_is_rejected_by_name() {
    for samples in [Samples::find(), Samples::own()] {
        let found = read("f", &samples.text(Sample::ReviewsByHeader));
        let [problem] = found.problems.as_slice() else { panic!("{:?}", found.problems) };
        assert_eq!(problem.field, "spec.http[0].match[0].headers");
        assert_eq!(
            problem.message,
            "rejected: layer 4 cannot match HTTP requests; the only condition that it can is `port`"
        );
    }
}

#[test]
fn tcp_echo_shifts_through_istio_files() {
    for samples in [Samples::find(), Samples::own()] {
        let mut walk = Walk::new(samples);
        let split = "31400.tcp-echo-gateway.default";
        let resolved = walk.apply(Sample::EchoV1);
        assert_eq!(shares(&resolved, split), own(&[("v1", 100, 1)]));
        assert_eq!(
            resolved.desired.get(split).unwrap().address().to_string(),
            "203.0.113.31:31400/TCP"
        );
        let resolved = walk.apply(Sample::Echo8020);
        assert_eq!(shares(&resolved, split), own(&[("v1", 80, 1), ("v2", 20, 1)]));
    }
}

#[test]
fn tcp_echo_shifts_through_gateway_api_files() {
    for samples in [Samples::find(), Samples::own()] {
        let mut walk = Walk::new(samples);
        let split = "tcp-31400.tcp-echo-gateway.default";
        let resolved = walk.apply(Sample::EchoRouteV1);
        assert_eq!(shares(&resolved, split), own(&[("tcp-echo-v1", 100, 1)]));
        assert_eq!(
            resolved.desired.get(split).unwrap().address().to_string(),
            "203.0.113.32:31400/TCP"
        );
        let resolved = walk.apply(Sample::EchoRoute8020);
        assert_eq!(
            shares(&resolved, split),
            own(&[("tcp-echo-v1", 80, 1), ("tcp-echo-v2", 20, 1)])
        );
        assert!(
            resolved.conditions.iter().all(|condition| condition.status),
            "{:?}",
            resolved.conditions
        );
    }
}
