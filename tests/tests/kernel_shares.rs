//! Shares of new flows, by the kernel programs. Needs root; attaches nothing.

mod kernel;

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

use kernel::{Hook, Node, SEED};
use weir::datapath::Settings;
use weir::model::{Affinity, Name, Protocol, ServiceAddress, Split, Subset};
use weir_tests::packet::{Packet, Rng, SYN, tuple};
use weir_tests::stats::assert_shares;

/// SYNs for each vector of weights.
const SYNS: u32 = 1_000_000;

fn endpoint(v6: bool, subset: usize, n: usize) -> SocketAddr {
    let (subset, n) = (subset as u8, n as u8 + 1);
    let ip: IpAddr = if v6 {
        Ipv6Addr::new(0x2001, 0xdb8, 1, 0, 0, 0, subset.into(), n.into()).into()
    } else {
        Ipv4Addr::new(10, 9, subset, n).into()
    };
    SocketAddr::new(ip, 8080)
}

/// A split of these weights and numbers of endpoints; endpoints tell their subset.
fn split(vip: SocketAddr, weights: &[u32], endpoints: &[usize]) -> Split {
    let subsets = weights.iter().zip(endpoints).enumerate().map(|(at, (&weight, &count))| Subset {
        name: Name::new(format!("v{at}")).unwrap(),
        weight,
        endpoints: (0..count).map(|n| endpoint(vip.is_ipv6(), at, n)).collect(),
    });
    let address = ServiceAddress { ip: vip.ip(), port: vip.port(), protocol: Protocol::Tcp };
    let name = Name::new("shares").unwrap();
    Split::new(name, address, Affinity::None, subsets.collect()).unwrap()
}

/// Client `n`: sequential ports of sequential addresses, or random ones.
fn client(v6: bool, n: u32, random: Option<&mut Rng>) -> SocketAddr {
    let (host, port) = match random {
        Some(rng) => (rng.next_u64() as u32 & 0xff_ffff, 1024 + rng.below(64_000) as u16),
        None => (n / 60_000, 1024 + (n % 60_000) as u16),
    };
    let ip: IpAddr = if v6 {
        Ipv6Addr::new(0x2001, 0xdb8, 7, 0, 0, 0, (host >> 16) as u16, host as u16).into()
    } else {
        Ipv4Addr::from(0x0a00_0000 | host).into()
    };
    SocketAddr::new(ip, port)
}

fn subset_of(endpoint: SocketAddr) -> usize {
    match endpoint.ip() {
        IpAddr::V4(ip) => ip.octets()[2].into(),
        IpAddr::V6(ip) => ip.segments()[6].into(),
    }
}

/// Hypothesis: a million SYNs fall on subsets binomially with p = weight / sum,
/// whatever the number of endpoints.
fn shares_hold(hook: Hook, v6: bool, random: bool, weights: &[u32], endpoints: &[usize]) {
    let vip: SocketAddr =
        if v6 { "[2001:db8::10]:9080" } else { "192.0.2.10:9080" }.parse().unwrap();
    // Pending flows are short-lived; a small table makes the test quick.
    let mut node = Node::with(Settings { hash_seed: SEED, flows: 1024, ..Settings::default() });
    node.put(split(vip, weights, endpoints));
    let mut rng = Rng::new(9);
    let mut observed = vec![0u64; weights.len()];
    for n in 0..SYNS {
        let client = client(v6, n, random.then_some(&mut rng));
        // A SYN of a tuple that was drawn before is a new flow by its number.
        let (_, out) = node.run(hook, &Packet::tcp(client, vip).flags(SYN).seq(n).build());
        observed[subset_of(tuple(&out).unwrap().destination)] += 1;
    }
    let sum: u64 = weights.iter().map(|&w| u64::from(w)).sum();
    let wanted: Vec<u64> = weights
        .iter()
        .map(|&w| (u128::from(SYNS) * u128::from(w) / u128::from(sum)) as u64)
        .collect();
    let what = format!(
        "{hook:?}, IPv{}, random {random}, {weights:?} over {endpoints:?} endpoints",
        if v6 { 6 } else { 4 }
    );
    println!("{what}: observed {observed:?}, expected {wanted:?}");
    let weights: Vec<u64> = weights.iter().map(|&w| w.into()).collect();
    assert_shares(&observed, &weights, &what);
}

#[test]
fn a_million_syns_fall_by_small_weights() {
    shares_hold(Hook::Tc, false, false, &[1, 1], &[1, 1]);
    shares_hold(Hook::Xdp, true, true, &[90, 10], &[2, 2]);
    shares_hold(Hook::Xdp, false, false, &[99, 1], &[1, 3]);
    shares_hold(Hook::Tc, true, false, &[1, 1, 1], &[1, 2, 3]);
    shares_hold(Hook::Tc, false, true, &[70, 30, 0], &[1, 1, 1]);
}

#[test]
fn a_million_syns_fall_by_extreme_weights() {
    shares_hold(Hook::Xdp, false, true, &[999_999, 1], &[1, 1]);
    shares_hold(Hook::Tc, true, false, &[u32::MAX; 16], &[1; 16]);
    let sixteen: Vec<u32> = (1..=16).collect();
    shares_hold(Hook::Xdp, false, false, &sixteen, &[2; 16]);
}

#[test]
fn many_endpoints_in_one_subset_draw_no_more_than_its_weight() {
    shares_hold(Hook::Xdp, false, false, &[80, 20], &[3, 1]);
    shares_hold(Hook::Tc, true, true, &[80, 20], &[10, 1]);
}
