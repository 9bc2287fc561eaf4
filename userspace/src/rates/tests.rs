//! Rates of samples that are written down here.

use super::*;
use crate::api::types::Protocol;

fn endpoint(address: &str, packets: u64) -> EndpointStatsView {
    EndpointStatsView {
        address: address.parse().unwrap(),
        phase: "live".into(),
        new_flows: 0,
        open_flows: None,
        packets_forward: packets,
        bytes_forward: packets * 100,
        packets_reply: packets * 2,
        bytes_reply: packets * 1000,
        signals: Default::default(),
    }
}

fn subset(name: &str, flows: u64, endpoints: Vec<EndpointStatsView>) -> SubsetStatsView {
    SubsetStatsView {
        name: name.into(),
        weight: 1,
        wanted_share: 0.5,
        new_flows: flows,
        new_flows_since_change: flows,
        completed: flows,
        endpoints,
        ..SubsetStatsView::default()
    }
}

fn stats(seconds: u64, affinity: Affinity, subsets: Vec<SubsetStatsView>) -> StatsView {
    let split = SplitStatsView {
        name: "reviews".into(),
        address: "2001:db8::1".parse().unwrap(),
        port: 80,
        protocol: Protocol::Tcp,
        settings: affinity.into(),
        version: 4,
        changed: 9,
        last_change: None,
        subsets,
    };
    let uptime_nanos = seconds * 1_000_000_000;
    StatsView { time: "then".into(), uptime_nanos, splits: vec![split], ..StatsView::default() }
}

fn only(sample: &Sample) -> &SubsetRates {
    &sample.splits[0].subsets[0]
}

#[test]
fn rates_are_differences_over_time() {
    let old = SubsetStatsView {
        rejected: 5,
        refused: 1,
        ..subset("v1", 100, vec![endpoint("[::1]:1", 10), endpoint("[::1]:2", 10)])
    };
    let new = SubsetStatsView {
        rejected: 9,
        refused: 5,
        completed: 110,
        ..subset("v1", 120, vec![endpoint("[::1]:1", 30), endpoint("[::1]:2", 10)])
    };
    let (before, now) =
        (stats(10, Affinity::None, vec![old]), stats(12, Affinity::None, vec![new]));
    let sample = rates(Some(&before), &now);
    let expected = Rates {
        new_flows_per_second: 10.0,
        packets_per_second: 30.0,
        bits_per_second: 20.0 * 1100.0 * 8.0 / 2.0,
        rejected_per_second: 2.0,
        refused_per_second: 2.0,
        // 120 - 110 - 5 are open, and none were before (one was refused that is not a flow here).
        unanswered_per_second: 2.5,
    };
    assert_eq!(only(&sample).rates, Some(expected));
    assert_eq!(sample.splits[0].service, "[2001:db8::1]:80 TCP");
    assert_eq!(only(&rates(None, &now)).rates, None, "one sample has no rates");
    assert_eq!(only(&rates(Some(&now), &now)).rates, None, "nor have two of the same time");
}

#[test]
fn counters_that_began_anew_count_from_zero() {
    let old = subset("v1", 1000, vec![endpoint("[::1]:1", 500), endpoint("[::1]:2", 500)]);
    // The subset was made anew, one endpoint too, and another one is forgotten.
    let new = subset("v1", 30, vec![endpoint("[::1]:1", 10), endpoint("[::1]:3", 20)]);
    let (before, now) =
        (stats(10, Affinity::None, vec![old]), stats(11, Affinity::None, vec![new]));
    let sample = rates(Some(&before), &now);
    let found = only(&sample).rates.unwrap();
    assert_eq!((found.new_flows_per_second, found.packets_per_second), (30.0, 90.0));
}

#[test]
fn answered_handshakes_are_not_negative_failures() {
    let old = SubsetStatsView { completed: 90, ..subset("v1", 100, vec![]) };
    let new = subset("v1", 100, vec![]);
    let (before, now) =
        (stats(10, Affinity::None, vec![old]), stats(11, Affinity::None, vec![new]));
    assert_eq!(only(&rates(Some(&before), &now)).rates.unwrap().unanswered_per_second, 0.0);
}

#[test]
fn observed_share_is_compared_with_the_wanted_one_if_flows_are_independent() {
    let sample = |affinity, v1, v2| {
        rates(None, &stats(1, affinity, vec![subset("v1", v1, vec![]), subset("v2", v2, vec![])]))
    };
    let right = sample(Affinity::None, 510, 490);
    assert_eq!(only(&right).observed_share, Some(0.51));
    assert_eq!(only(&right).is_as_wanted(), Some(true));
    assert_eq!(only(&sample(Affinity::None, 600, 400)).is_as_wanted(), Some(false));
    let none = sample(Affinity::None, 0, 0);
    assert_eq!((only(&none).observed_share, only(&none).is_as_wanted()), (None, None));
    let affine = sample(Affinity::ClientIp, 600, 400);
    assert_eq!((only(&affine).observed_share, only(&affine).is_as_wanted()), (Some(0.6), None));
}
