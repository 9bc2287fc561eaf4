//! A subset without endpoints rejects its share of new flows, at once.

use std::io::ErrorKind;
use std::net::{IpAddr, SocketAddr};

use weir::model::Protocol;
use weir_tests::agent::{SPLITS, Setup};
use weir_tests::client::{ports, survey};
use weir_tests::resource::SplitYaml;
use weir_tests::scene::{PORT, Scene};
use weir_tests::stats::assert_shares;
use weir_tests::topology::{VIP_V4, VIP_V6, client_ip};

const FLOWS: u16 = 2_000;
/// Subsets: weight, and whether it has an endpoint.
const CASES: &[(&str, &[(u32, bool)])] = &[
    ("half is rejected", &[(1, true), (1, false)]),
    ("a tenth is rejected", &[(90, true), (10, false)]),
    ("a subset of weight 0 rejects nothing", &[(1, true), (0, false)]),
    ("everything is rejected, one subset", &[(1, false)]),
    ("everything is rejected, endpoints have weight 0", &[(1, false), (0, true)]),
];

/// A TCP and a UDP split at each family's service address; each case has a port.
fn vips() -> impl Iterator<Item = (Protocol, IpAddr)> {
    let families = [IpAddr::from(VIP_V4), VIP_V6.into()];
    families.into_iter().flat_map(|vip| [(Protocol::Tcp, vip), (Protocol::Udp, vip)])
}

fn name(at: usize, protocol: Protocol, vip: IpAddr) -> String {
    format!("case-{at}-{protocol}-{}", if vip.is_ipv4() { "v4" } else { "v6" }).to_lowercase()
}

fn check(hook: &'static str) {
    let scene = Scene::new(&["v1-a"], |topology| {
        let mut setup = Setup::default().forward(hook);
        for (at, (_, subsets)) in CASES.iter().enumerate() {
            for (protocol, vip) in vips() {
                let address = SocketAddr::new(vip, 9080 + at as u16);
                let mut split = SplitYaml::new(&name(at, protocol, vip), address, protocol);
                for (n, &(weight, some)) in subsets.iter().enumerate() {
                    let ips = topology.ips(if some { &["v1-a"] } else { &[] }, vip);
                    split = split.subset(&format!("s{n}"), weight, &ips, PORT);
                }
                setup = setup.split(&split.text());
            }
        }
        setup
    })
    .unwrap();
    for (at, (case, subsets)) in CASES.iter().enumerate() {
        for (protocol, vip) in vips() {
            let what = format!("{hook}, {protocol}, {vip}, {case}");
            // Ports of its own for each case: replies of one endpoint must not collide.
            let first = 10_000 + FLOWS * at as u16;
            let sources = ports(client_ip(vip), first..first + FLOWS);
            let to = SocketAddr::new(vip, 9080 + at as u16);
            let answers = survey(&scene.topology.client, protocol, to, &sources);
            let mut seen = [0_u64, 0];
            for answer in answers {
                match answer {
                    Ok(_) => seen[0] += 1,
                    Err(ErrorKind::ConnectionRefused) => seen[1] += 1,
                    Err(other) => panic!("{what}: {other}"),
                }
            }
            let weight = |some| subsets.iter().filter(move |s| s.1 == some).map(|s| u64::from(s.0));
            println!("{what}: answered and rejected: {seen:?}");
            assert_shares(&seen, &[weight(true).sum(), weight(false).sum()], &what);
            // Each was rejected at its first packet: none was sent again.
            let split = scene.agent.split(&name(at, protocol, vip)).expect("split");
            let rejected: u64 = split.subsets.iter().map(|subset| subset.rejected).sum();
            assert_eq!(rejected, seen[1], "{what}: counted as rejected");
        }
    }
    let reasons = scene.agent.status().expect("status").reasons;
    assert!(reasons["reject_no_endpoint"] > 0, "{reasons:?}");
}

#[test]
fn rejected_in_proportion_forward_at_tc() {
    check("tc");
}

#[test]
fn rejected_in_proportion_forward_at_xdp() {
    check("xdp");
}

#[test]
fn endpoints_that_come_take_the_share_over() {
    let vip = SocketAddr::new(VIP_V4.into(), 9080);
    let split = |ips: &[IpAddr]| SplitYaml::tcp("reviews", vip).subset("v1", 1, ips, PORT).text();
    let scene = Scene::new(&["v1-a"], |_| Setup::default().split(&split(&[]))).unwrap();
    let source = |port| ports(client_ip(vip.ip()), port..port + 1);
    let ask = |port| survey(&scene.topology.client, Protocol::Tcp, vip, &source(port)).remove(0);
    assert_eq!(ask(10_000), Err(ErrorKind::ConnectionRefused));
    scene.agent.replace(SPLITS, &split(&scene.topology.ips(&["v1-a"], vip.ip())));
    scene.agent.await_status("the endpoint is there", |_| {
        scene.agent.split("reviews").is_ok_and(|split| split.subsets[0].endpoints.len() == 1)
    });
    // The tuple that was rejected too.
    assert_eq!(ask(10_000).as_deref(), Ok("v1-a"));
    assert_eq!(ask(10_001).as_deref(), Ok("v1-a"));
}
