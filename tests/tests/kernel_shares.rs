//! Millions of first packets through the kernel programs: they fall on subsets
//! by weight, and where user space says.

mod kernel;

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

use kernel::{Hook, Node, SEED, Verdict, casts, client_number, socket, split, with_port};
use probe_common::reason::Reason;
use weir::explain::explain;
use weir::model::{Affinity, Protocol, Split};
use weir_tests::model::looks_partial;
use weir_tests::model::sight::{Sight, look};
use weir_tests::packet::{ACK, Packet, RST, SYN, checksums_ok, set_source, tuple};
use weir_tests::rng::Rng;
use weir_tests::stats::assert_shares;

/// Of each vector and kind of tuples.
const FLOWS: u32 = 1_000_000;

/// Clients one after the other, or at random: of 2^24 addresses.
#[derive(Debug, Clone, Copy)]
enum Tuples {
    Sequential,
    Random,
}

impl Tuples {
    fn client(self, v4: bool, n: u32, rng: &mut Rng) -> SocketAddr {
        let (host, port) = match self {
            Self::Sequential => (n / 60_000, 1024 + n % 60_000),
            Self::Random => (rng.below(1 << 24) as u32, 1 + rng.below(65_535) as u32),
        };
        let ip: IpAddr = if v4 {
            Ipv4Addr::from(u32::from(Ipv4Addr::new(10, 0, 0, 0)) + host).into()
        } else {
            Ipv6Addr::new(0x2001, 0xdb8, 7, 0, 0, 0, (host >> 16) as u16, host as u16).into()
        };
        SocketAddr::new(ip, port as u16)
    }
}

/// A subset: its weight, and how many endpoints it has.
type Part = (u32, usize);

/// The split "reviews" with these subsets, and the endpoints of each.
fn reviews(vip: SocketAddr, parts: &[Part]) -> (Split, Vec<Vec<SocketAddr>>) {
    let endpoint = |subset: usize, n: usize| {
        let ip: IpAddr = if vip.is_ipv4() {
            Ipv4Addr::new(198, 51, 100, (subset * 12 + n + 1) as u8).into()
        } else {
            Ipv6Addr::new(0x2001, 0xdb8, 1, subset as u16, 0, 0, 0, n as u16 + 1).into()
        };
        SocketAddr::new(ip, 8080)
    };
    let endpoints: Vec<Vec<_>> = (parts.iter().enumerate())
        .map(|(subset, &(_, count))| (0..count).map(|n| endpoint(subset, n)).collect())
        .collect();
    let names: Vec<String> = (1..=parts.len()).map(|n| format!("v{n}")).collect();
    let subsets: Vec<(&str, u32, &[SocketAddr])> = (names.iter().zip(parts).zip(&endpoints))
        .map(|((name, &(weight, _)), endpoints)| (name.as_str(), weight, endpoints.as_slice()))
        .collect();
    (split("reviews", (vip, Protocol::Tcp), Affinity::None, &subsets), endpoints)
}

/// Counts by subset where a million SYNs go.
fn observe(parts: &[Part], tuples: Tuples) -> Vec<u64> {
    // Each kind of tuples takes another family and hook.
    let (cast, hook) = match tuples {
        Tuples::Sequential => (&casts()[0], Hook::Tc),
        Tuples::Random => (&casts()[1], Hook::Xdp),
    };
    let mut node = Node::new();
    let (split, endpoints) = reviews(cast.vip, parts);
    node.publish(&split);
    let mut frame = Packet::tcp(cast.client, cast.vip).flags(SYN).build();
    let (mut rng, mut observed) = (Rng::new(11), vec![0; parts.len()]);
    for n in 0..FLOWS {
        set_source(&mut frame, tuples.client(cast.vip.is_ipv4(), n, &mut rng));
        let to = tuple(node.pass(hook, &frame)).expect("a tuple").destination;
        let subset = endpoints.iter().position(|subset| subset.contains(&to));
        observed[subset.unwrap_or_else(|| panic!("SYN {n} went to {to}"))] += 1;
    }
    observed
}

/// Hypothesis: the SYNs fall on subsets binomially with p = weight / sum,
/// whatever their endpoints.
fn shares_hold(parts: &[Part]) {
    let weights: Vec<u64> = parts.iter().map(|&(weight, _)| weight.into()).collect();
    let sum: u64 = weights.iter().sum();
    let expected: Vec<u64> = weights
        .iter()
        .map(|&w| (u128::from(FLOWS) * u128::from(w) / u128::from(sum)) as u64)
        .collect();
    let [sequential, random] = std::thread::scope(|scope| {
        [Tuples::Sequential, Tuples::Random]
            .map(|tuples| scope.spawn(move || observe(parts, tuples)))
            .map(|thread| thread.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic)))
    });
    for (tuples, observed) in [("sequential", sequential), ("random", random)] {
        println!("{parts:?} {tuples}: observed {observed:?}, expected {expected:?}");
        assert_shares(&observed, &weights, &format!("{parts:?} {tuples}"));
    }
}

#[test]
fn a_million_syns_fall_by_small_weights() {
    shares_hold(&[(1, 1), (1, 1)]);
    shares_hold(&[(90, 1), (10, 1)]);
    shares_hold(&[(99, 1), (1, 1)]);
    shares_hold(&[(1, 1), (1, 1), (1, 1)]);
    shares_hold(&[(70, 1), (30, 1), (0, 1)]);
}

#[test]
fn a_million_syns_fall_by_extreme_weights() {
    shares_hold(&[(999_999, 1), (1, 1)]);
    shares_hold(&[(u32::MAX, 1), (u32::MAX / 3, 1), (1000, 1)]);
    let sixteen: Vec<Part> = (1..=16).map(|weight| (weight, 1)).collect();
    shares_hold(&sixteen);
    shares_hold(&[(u32::MAX, 1); 16]);
}

#[test]
fn the_number_of_endpoints_does_not_change_the_share_of_a_subset() {
    shares_hold(&[(80, 3), (20, 1)]);
    shares_hold(&[(80, 10), (20, 1)]);
}

#[test]
fn kernel_and_user_space_choose_alike() {
    let mut rng = Rng::new(3);
    let mut agreed = 0;
    for cast in casts() {
        let mut node = Node::new();
        for round in 0..40 {
            let count = 1 + rng.below(16) as usize;
            let mut parts: Vec<Part> = (0..count)
                .map(|_| {
                    let bits = rng.below(33);
                    (rng.below(1 << bits) as u32, 1 + rng.below(6) as usize)
                })
                .collect();
            parts[0].0 = parts[0].0.max(1);
            let (split, _) = reviews(cast.vip, &parts);
            node.publish(&split);
            let mut frame = Packet::tcp(cast.client, cast.vip).flags(SYN).build();
            for _ in 0..1000 {
                let client = Tuples::Random.client(cast.vip.is_ipv4(), 0, &mut rng);
                let wanted = explain(SEED, &split, client).unwrap().endpoint.unwrap();
                set_source(&mut frame, client);
                let Sight::Packet(packet) = look(&frame) else { panic!("a packet") };
                let unclear = looks_partial(&frame, &packet);
                for hook in kernel::FORWARD {
                    if hook == Hook::XdpVirtual && unclear {
                        // One in 65,536, which is left to TC.
                        assert!(node.pass(hook, &frame) == frame, "{cast} {client}");
                        continue;
                    }
                    let out = tuple(node.pass(hook, &frame)).expect("a tuple");
                    assert_eq!(out.destination, wanted, "{cast} {hook:?} {parts:?}, {client}");
                    node.forget_new_flows(client);
                }
                agreed += 1;
            }
            assert_eq!(node.entries(), [0, 0], "round {round}: each hook chose for itself");
        }
    }
    println!("{agreed} random flows of 80 random splits: the same at each hook and in user space");
}

#[test]
fn with_affinity_all_flows_of_a_client_go_to_one_endpoint() {
    for (cast, hook) in casts().iter().flat_map(|cast| kernel::FORWARD.map(|hook| (cast, hook))) {
        let mut node = Node::new();
        let subsets: [(&str, u32, &[SocketAddr]); 2] = [("v1", 50, &cast.v1), ("v2", 50, &cast.v2)];
        let affine = (cast.vip, Protocol::Tcp);
        let reviews = split("reviews", affine, Affinity::ClientIp, &subsets);
        node.publish(&reviews);
        let mut rng = Rng::new(7);
        let mut of_v2 = 0;
        for n in 0..100u16 {
            let client = client_number(cast, n);
            let wanted = explain(SEED, &reviews, client).unwrap().endpoint.unwrap();
            for _ in 0..20 {
                let client = with_port(client, 1 + rng.below(65_535) as u16);
                let syn = Packet::tcp(client, cast.vip).flags(SYN).build();
                let out = tuple(node.pass(hook, &syn)).expect("a tuple");
                assert_eq!(out.destination, wanted, "{cast} {hook:?} {client}");
            }
            of_v2 += u32::from(cast.v2.contains(&wanted));
        }
        assert!((10..90).contains(&of_v2), "{cast} {hook:?}: {of_v2} of 100 clients on v2");
    }
}

/// Hypothesis: 200,000 SYNs are rejected binomially with p = the share of the
/// subsets without endpoints.
#[test]
fn subsets_without_endpoints_reject_their_share() {
    for (cast, hook) in casts().iter().zip([Hook::Xdp, Hook::Tc]) {
        let mut node = Node::new();
        let (split, _) = reviews(cast.vip, &[(70, 3), (20, 0), (10, 0)]);
        node.publish(&split);
        let mut frame = Packet::tcp(cast.client, cast.vip).flags(SYN).build();
        let mut observed = [0u64; 2];
        for n in 0..200_000 {
            let client = Tuples::Sequential.client(cast.vip.is_ipv4(), n, &mut Rng::new(0));
            set_source(&mut frame, client);
            let (verdict, _) = node.run(hook, &frame);
            observed[usize::from(verdict == Verdict::Answer)] += 1;
        }
        println!("{cast} {hook:?}: observed {observed:?}, expected [140000, 60000]");
        assert_shares(&observed, &[70, 30], &format!("{cast} {hook:?}"));
        assert_eq!(node.reason(Reason::RejectNoEndpoint), observed[1], "{cast}");
        let rejected = ["v2", "v3"].map(|name| node.subset(&split, name).stats.rejected);
        assert_eq!(rejected.iter().sum::<u64>(), observed[1], "{cast}: by subset");
        assert_shares(&rejected, &[20, 10], &format!("{cast}: by subset"));
        assert_eq!(node.subset(&split, "v1").stats.flows, observed[0], "{cast}: steered");
    }
}

#[test]
fn a_rejected_packet_is_answered_as_its_sender_expects() {
    for (cast, hook) in casts().iter().flat_map(|cast| [Hook::Tc, Hook::Xdp].map(|h| (cast, h))) {
        let mut node = Node::new();
        let names = socket(if cast.vip.is_ipv4() { "192.0.2.10:53" } else { "[2001:db8::10]:53" });
        let none: [(&str, u32, &[SocketAddr]); 1] = [("v1", 1, &[])];
        node.publish(&split("empty", (cast.vip, Protocol::Tcp), Affinity::None, &none));
        node.publish(&split("names", (names, Protocol::Udp), Affinity::None, &none));
        let what = format!("{cast} {hook:?}");
        // RFC 9293, 3.5.2: a segment with ACK gives the number, one without is acknowledged.
        let tcp = Packet::tcp(cast.client, cast.vip).seq(7).ack(99).payload(b"fast");
        let cases = [(SYN, (0, 12)), (ACK, (99, 0)), (SYN | ACK, (99, 0))];
        for (vlan, (flags, numbers)) in [false, true].iter().flat_map(|v| cases.map(|c| (v, c))) {
            let packet = tcp.clone().flags(flags);
            let packet = if *vlan { packet.vlan(0x8100, 5) } else { packet };
            let (verdict, out) = node.run(hook, &packet.build());
            assert_eq!(verdict, Verdict::Answer, "{what} {flags}");
            let seen = tuple(out).expect("a tuple");
            assert_eq!((seen.source, seen.destination), (cast.vip, cast.client), "{what}");
            assert_eq!(weir_tests::packet::tcp_seq_ack(out), Some(numbers), "{what} {flags}");
            let reset = if flags & ACK == 0 { RST | ACK } else { RST };
            assert_eq!(weir_tests::packet::tcp_flags(out), Some(reset), "{what} {flags}");
            assert!(checksums_ok(out), "{what} {flags}: {out:02x?}");
            assert_eq!(
                out[..12],
                [&[2, 0, 0, 0, 0, 1], &[2, 0, 0, 0, 0, 2][..]].concat(),
                "{what}: link"
            );
        }
        let question = Packet::udp(cast.client, names).payload(b"who?").build();
        let (verdict, out) = node.run(hook, &question);
        assert_eq!(verdict, Verdict::Answer, "{what}");
        assert!(checksums_ok(out), "{what}: {out:02x?}");
        let parsed = weir_tests::packet::parse(out).expect("a packet");
        assert_eq!((parsed.source, parsed.destination), (names.ip(), cast.client.ip()), "{what}");
        // Type, code; then, behind eight bytes, the start of the packet that it is about.
        let kind = if cast.vip.is_ipv4() { [3, 3] } else { [1, 4] };
        assert_eq!(out[parsed.l4..parsed.l4 + 2], kind, "{what}");
        let quote = &out[parsed.l4 + 8..parsed.end];
        assert!(question[14..].starts_with(quote) && quote.len() >= 28, "{what}: {quote:02x?}");
        // Not to be answered.
        let options = tcp.clone().flags(SYN);
        let options = if cast.vip.is_ipv4() {
            options.ip_options(&[1; 4])
        } else {
            options.ext(weir_tests::packet::Ext::DestOpts(1))
        };
        for silent in [tcp.flags(RST).build(), options.build()] {
            assert_eq!(node.run(hook, &silent).0, Verdict::Drop, "{what}");
        }
        assert_eq!(node.reason(Reason::RejectSilent), 2, "{what}");
        let syn = Packet::tcp(cast.client, cast.vip).flags(SYN).build();
        assert!(node.pass(Hook::XdpVirtual, &syn) == syn, "{what}: virtual devices leave it to TC");
    }
}
