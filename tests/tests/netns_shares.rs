//! New flows fall on subsets in proportion to weights, and inside a subset evenly.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

use weir::model::Protocol;
use weir::table::maglev;
use weir_tests::agent::Setup;
use weir_tests::client::{ports, survey, tally};
use weir_tests::resource::SplitYaml;
use weir_tests::scene::{PORT, Scene};
use weir_tests::stats::assert_shares;
use weir_tests::topology::{ETH, Topology};

/// Flows for each case.
const FLOWS: u16 = 20_000;
/// The client's first port.
const FIRST: u16 = 10_000;

/// Subsets: weight, number of endpoints.
struct Case(&'static str, &'static [(u32, usize)]);

// rustfmt would give each of the sixteen pairs a line.
#[rustfmt::skip]
const CASES: &[Case] = &[
    Case("1:1", &[(1, 1), (1, 1)]),
    Case("90:10", &[(90, 1), (10, 1)]),
    Case("99:1", &[(99, 1), (1, 1)]),
    Case("999999:1", &[(999_999, 1), (1, 1)]),
    Case("1:1:1", &[(1, 1), (1, 1), (1, 1)]),
    Case("70:30:0", &[(70, 1), (30, 1), (0, 1)]),
    Case("80:20, 3+1 endpoints", &[(80, 3), (20, 1)]),
    Case("80:20, 10+1 endpoints", &[(80, 10), (20, 1)]),
    Case("huge weights", &[(u32::MAX, 1), (u32::MAX, 2), (1 << 31, 1)]),
    Case(
        "16 subsets",
        &[
            (1, 1), (2, 1), (3, 1), (4, 1), (5, 1), (6, 1), (7, 1), (8, 1),
            (9, 1), (10, 1), (11, 1), (12, 1), (13, 1), (14, 1), (15, 1), (16, 1),
        ],
    ),
];

/// The service address and the client address of a case. Each has its own, so that flows of other
/// cases, which are remembered for a while, are not in the way of its own.
fn addresses(family: IpAddr, at: usize) -> (SocketAddr, IpAddr) {
    let host = 20 + at as u16;
    let (vip, client): (IpAddr, IpAddr) = match family {
        IpAddr::V4(_) => (
            Ipv4Addr::new(203, 0, 113, host as u8).into(),
            Ipv4Addr::new(192, 0, 2, host as u8).into(),
        ),
        IpAddr::V6(_) => (
            Ipv6Addr::new(0x2001, 0xdb8, 0xf, 0, 0, 0, 0, host).into(),
            Ipv6Addr::new(0x2001, 0xdb8, 2, 0, 0, 0, 0, host).into(),
        ),
    };
    (SocketAddr::new(vip, 9080), client)
}

fn name(at: usize, protocol: Protocol) -> String {
    format!("case-{at}-{protocol}").to_lowercase()
}

/// The addresses of a case's endpoints by subset: the first endpoints of the topology, in order.
fn endpoints(topology: &Topology, case: &Case, family: IpAddr) -> Vec<Vec<IpAddr>> {
    let mut all = topology.endpoints.iter().map(|endpoint| endpoint.ip(family));
    case.1.iter().map(|&(_, count)| all.by_ref().take(count).collect()).collect()
}

/// The share of each endpoint in its subset: its slots in the subset's table. In the order of
/// addresses.
fn slots(ips: &[IpAddr]) -> Vec<u64> {
    let seeds: Vec<u64> = ips.iter().map(|&ip| maglev::seed(SocketAddr::new(ip, PORT))).collect();
    let table = maglev::populate(&seeds, maglev::size_for(ips.len()).expect("not too many"));
    let count = |at| table.iter().filter(|&&slot| slot as usize == at).count() as u64;
    (0..ips.len()).map(count).collect()
}

fn check_case(scene: &Scene, at: usize, family: IpAddr, protocol: Protocol) {
    let case = &CASES[at];
    let what =
        format!("{}, {protocol}, {}", case.0, if family.is_ipv4() { "IPv4" } else { "IPv6" });
    let (vip, client) = addresses(family, at);
    let (ns, length) = (&scene.topology.client, if family.is_ipv4() { 24 } else { 64 });
    ns.ip(&[format!("address add {client}/{length} dev {ETH} nodad")]).expect("address");
    let answers = survey(ns, protocol, vip, &ports(client, FIRST..FIRST + FLOWS));
    let counts = tally(&answers).unwrap_or_else(|kind| panic!("{what}: {kind}"));
    let count = |ip: IpAddr| {
        let found = scene.topology.endpoints.iter().find(|endpoint| endpoint.ip(family) == ip);
        counts.get(&found.expect("an endpoint of the topology").name).copied().unwrap_or(0)
    };
    let subsets = endpoints(&scene.topology, case, family);
    let observed: Vec<u64> =
        subsets.iter().map(|ips| ips.iter().map(|&ip| count(ip)).sum()).collect();
    println!("{what}: {observed:?}");
    assert_eq!(observed.iter().sum::<u64>(), u64::from(FLOWS), "{what}: {counts:?}");
    let weights: Vec<u64> = case.1.iter().map(|&(weight, _)| weight.into()).collect();
    assert_shares(&observed, &weights, &what);
    for ips in subsets.iter().filter(|ips| ips.len() > 1) {
        let inside: Vec<u64> = ips.iter().map(|&ip| count(ip)).collect();
        assert_shares(&inside, &slots(ips), &format!("{what}, inside {ips:?}"));
    }
    let shown = scene.agent.split(&name(at, protocol)).expect("the split");
    let shown: Vec<u64> =
        shown.subsets.iter().map(|subset| subset.new_flows_since_change).collect();
    assert_eq!(shown, observed, "{what}: what `weir get splits` shows");
}

/// All cases of a protocol in a family.
fn check(family: IpAddr, protocol: Protocol) {
    let most = CASES.iter().map(|case| case.1.iter().map(|&(_, count)| count).sum()).max();
    let names: Vec<String> = (0..most.unwrap_or(0)).map(|at| format!("e{at}")).collect();
    let names: Vec<&str> = names.iter().map(String::as_str).collect();
    let scene = Scene::new(&names, |topology| {
        CASES.iter().enumerate().fold(Setup::default(), |setup, (at, case)| {
            let split = SplitYaml::new(&name(at, protocol), addresses(family, at).0, protocol);
            let subsets = case.1.iter().zip(endpoints(topology, case, family)).enumerate();
            let split = subsets.fold(split, |split, (n, (&(weight, _), ips))| {
                split.subset(&format!("s{n}"), weight, &ips, PORT)
            });
            setup.split(&split.text())
        })
    })
    .unwrap();
    for at in 0..CASES.len() {
        check_case(&scene, at, family, protocol);
    }
}

#[test]
fn tcp_over_ipv4_is_split_by_weight() {
    check(Ipv4Addr::UNSPECIFIED.into(), Protocol::Tcp);
}

#[test]
fn tcp_over_ipv6_is_split_by_weight() {
    check(Ipv6Addr::UNSPECIFIED.into(), Protocol::Tcp);
}

#[test]
fn udp_over_ipv4_is_split_by_weight() {
    check(Ipv4Addr::UNSPECIFIED.into(), Protocol::Udp);
}

#[test]
fn udp_over_ipv6_is_split_by_weight() {
    check(Ipv6Addr::UNSPECIFIED.into(), Protocol::Udp);
}
