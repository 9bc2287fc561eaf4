//! What became of connections.

use super::*;
use crate::api::types::{
    EndpointStatsView, PeriodView, Protocol, SplitStatsView, StatsView, SubsetStatsView,
};
use crate::model::{Affinity, SplitSettings};

fn minute(new_flows: u64, refused: u64, unanswered: u64) -> PeriodView {
    let completed = new_flows - refused - unanswered;
    PeriodView { seconds: 60, new_flows, completed, refused, ..PeriodView::default() }
}

fn subset(name: &str, share: f64, minute: PeriodView) -> SubsetStatsView {
    let endpoint = EndpointStatsView {
        address: "198.51.100.1:80".parse().unwrap(),
        phase: "live".into(),
        new_flows: minute.new_flows,
        open_flows: None,
        packets_forward: 0,
        bytes_forward: 0,
        packets_reply: 0,
        bytes_reply: 0,
        signals: Default::default(),
    };
    SubsetStatsView {
        name: name.into(),
        weight: (share * 100.0) as u32,
        wanted_share: share,
        new_flows: minute.new_flows,
        since_change: minute,
        last_minute: Some(minute),
        endpoints: vec![endpoint],
        ..SubsetStatsView::default()
    }
}

/// Two versions that fail alike.
pub(super) fn stats() -> StatsView {
    let reviews = SplitStatsView {
        name: "reviews".into(),
        address: "192.0.2.10".parse().unwrap(),
        port: 80,
        protocol: Protocol::Tcp,
        settings: SplitSettings::from(Affinity::None),
        version: 3,
        changed: 100,
        last_change: None,
        subsets: vec![subset("v1", 0.9, minute(900, 9, 4)), subset("v3", 0.1, minute(100, 1, 1))],
    };
    StatsView { splits: vec![reviews], ..StatsView::default() }
}

fn v3(facts: &mut Facts) -> &mut SubsetStatsView {
    &mut facts.stats.as_mut().unwrap().splits[0].subsets[1]
}

/// Handshakes with the first endpoint of reviews, whose answers would go there.
fn wait(facts: &mut Facts, count: u16, back: NextHop) {
    facts.waiting = (0..count)
        .map(|n| Waiting {
            split: "reviews".into(),
            subset: "v1".into(),
            client: format!("203.0.113.7:{}", 1000 + n).parse().unwrap(),
            endpoint: "198.51.100.1:80".parse().unwrap(),
            back: back.clone(),
        })
        .collect();
}

fn on_link(facts: &mut Facts, neighbour: Neighbour) {
    facts.splits[0].endpoints[0].route = NextHop::Via { interface: "eth1".into(), gateway: false };
    facts.neighbours.insert("198.51.100.1".parse().unwrap(), neighbour);
}

/// One split with an endpoint of that address.
fn at(facts: &mut Facts, address: &str) {
    facts.splits[0].endpoints[0].address = address.parse().unwrap();
}

const CASES: &[Case] = &[
    (
        |f| {
            let v3 = v3(f);
            v3.endpoints.clear();
            v3.since_change.rejected = 70;
            v3.last_minute.as_mut().unwrap().rejected = 7;
        },
        "endpoints",
        Level::Problem,
        "split reviews: subset v3 has no endpoint: 10.00% of new connections are rejected; 7 \
         packets in the last minute, 70 since the last change",
    ),
    // New connections go to none that drains.
    (
        |f| v3(f).endpoints[0].phase = "draining".into(),
        "endpoints",
        Level::Problem,
        "split reviews: subset v3 has no endpoint: 10.00% of new connections are rejected",
    ),
    (
        |f| at(f, "127.0.0.1:80"),
        "endpoints",
        Level::Problem,
        "endpoint 127.0.0.1:80 (reviews, v1) is a loopback address",
    ),
    (|f| at(f, "169.254.7.7:80"), "endpoints", Level::Problem, "(reviews, v1) is a link-local"),
    (|f| at(f, "[fe80::1]:80"), "endpoints", Level::Problem, "(reviews, v1) is a link-local"),
    (|f| at(f, "239.1.1.1:80"), "endpoints", Level::Problem, "is no address of one host"),
    (|f| at(f, "0.0.0.0:80"), "endpoints", Level::Problem, "is the unspecified address"),
    (
        |f| {
            on_link(f, Neighbour::Silent);
            // That they wait is no wonder.
            wait(f, 9, NextHop::Via { interface: "eth0".into(), gateway: true });
        },
        "neighbours",
        Level::Problem,
        "endpoint 198.51.100.1:80 (reviews, v1) does not answer ARP requests on eth1",
    ),
    (
        |f| {
            on_link(f, Neighbour::Answers);
            f.drops = vec!["12 packets dropped by inet filter forward (handle 5)".into()];
            wait(f, 9, NextHop::Via { interface: "eth0".into(), gateway: true });
        },
        "handshakes",
        Level::Problem,
        "9 handshakes with endpoint 198.51.100.1:80 (reviews, v1) are without an answer, whose \
         link answers: a firewall here or there drops packets, or nobody accepts; nftables here: \
         12 packets dropped by inet filter forward (handle 5)",
    ),
    (
        |f| wait(f, 9, NextHop::Via { interface: "eth0".into(), gateway: true }),
        "handshakes",
        Level::Problem,
        "are without an answer, the host, the way to it or the way back fails",
    ),
    (
        |f| wait(f, 9, NextHop::Via { interface: "eth5".into(), gateway: true }),
        "replies",
        Level::Problem,
        "answers to 203.0.113.7 leave by eth5, where weir is not",
    ),
    (
        |f| wait(f, 2, NextHop::None("unreachable".into())),
        "replies",
        Level::Problem,
        "there is no route to 203.0.113.7, whose handshakes wait for an answer",
    ),
    (
        |f| v3(f).last_minute = Some(minute(100, 20, 1)),
        "versions",
        Level::Problem,
        "split reviews: 20.00% of the 100 new connections to v3 in the last 60 s were refused, \
         and 1.00% of those to the others: more than chance explains (p < 0.001)",
    ),
    (
        |f| v3(f).last_minute.as_mut().unwrap().signals.early_resets = 20,
        "versions",
        Level::Problem,
        "20.00% of the 100 new connections to v3 in the last 60 s were reset by the endpoint after \
         the handshake, and 0.00% of those to the others",
    ),
    // Of flows that began before that minute, too.
    (
        |f| {
            v3(f).last_minute = Some(minute(50, 0, 0));
            v3(f).last_minute.as_mut().unwrap().signals.early_resets = 80;
        },
        "versions",
        Level::Problem,
        "100.00% of the 50 new connections to v3",
    ),
    (
        |f| v3(f).last_minute = Some(minute(100, 1, 30)),
        "versions",
        Level::Problem,
        "30.00% of the 100 new connections to v3 in the last 60 s were left without an answer",
    ),
    // None is worse than the other.
    (
        |f| {
            let split = &mut f.stats.as_mut().unwrap().splits[0];
            split.subsets.truncate(1);
            split.subsets[0].last_minute = Some(minute(90, 80, 0));
        },
        "versions",
        Level::Problem,
        "split reviews: 88.89% of the 90 new connections to v1 in the last 60 s were refused",
    ),
    (
        |f| {
            f.splits[0].route = NextHop::Via { interface: "eth0".into(), gateway: false };
            let split = &mut f.stats.as_mut().unwrap().splits[0];
            split.subsets.iter_mut().for_each(|subset| subset.new_flows = 0);
        },
        "service_addresses",
        Level::Problem,
        "service address 192.0.2.10 (reviews) is in the network of eth0, and this node does not \
         answer for it",
    ),
    (
        |f| f.splits[0].route = NextHop::Via { interface: "eth0".into(), gateway: false },
        "service_addresses",
        Level::Note,
        "service address 192.0.2.10 (reviews) is in the network of eth0",
    ),
    (
        |f| f.elsewhere = [("reviews".to_owned(), 5)].into(),
        "elsewhere",
        Level::Problem,
        "split reviews has counted no new connection, and connection tracking knows 5 connections",
    ),
];

#[test]
fn each_outcome_that_is_wrong_is_found_by_its_check_alone() {
    for (change, check, level, text) in CASES {
        let mut facts = healthy();
        change(&mut facts);
        let report = examine(&facts, &[]);
        let found: Vec<_> = report.findings.iter().filter(|f| f.level != Level::Ok).collect();
        assert_eq!(found.len(), 1, "{text}: {found:#?}");
        assert_eq!((found[0].check, found[0].level), (*check, *level), "{text}");
        assert!(found[0].text.contains(text), "{}", found[0].text);
        assert!(found[0].advice.is_some());
    }
}

#[test]
fn what_is_as_it_should_be_is_not_found() {
    let changes: [fn(&mut Facts); 6] = [
        |f| wait(f, 2, NextHop::Via { interface: "eth0".into(), gateway: true }),
        |f| on_link(f, Neighbour::Answers),
        // One client at a time, and too few to tell.
        |f| {
            v3(f).last_minute = Some(minute(100, 20, 0));
            let split = &mut f.stats.as_mut().unwrap().splits[0];
            split.settings = SplitSettings::from(Affinity::ClientIp);
        },
        |f| v3(f).last_minute = Some(minute(10, 1, 0)),
        |f| {
            f.splits[0].route = NextHop::Via { interface: "eth0".into(), gateway: false };
            f.proxied.insert("192.0.2.10".parse().unwrap());
        },
        |f| {
            f.splits[0].route = NextHop::Via { interface: "eth0".into(), gateway: false };
            f.interfaces[0].proxy_arp = Some(true);
        },
    ];
    for (at, change) in changes.into_iter().enumerate() {
        let mut facts = healthy();
        change(&mut facts);
        let report = examine(&facts, &[]);
        let found: Vec<_> = report.findings.iter().filter(|f| f.level != Level::Ok).collect();
        assert!(found.is_empty(), "{at}: {found:#?}");
    }
}
