//! Generated frames: a million damaged ones through both forward programs, of which nothing is
//! dropped and nothing changed that is not addressed to a split; and talks of clients and
//! endpoints, damaged layer by layer, through TC, XDP and a model of what is to come of each.
//! `cargo xtask fuzz` has more of the latter.

mod kernel;

use kernel::{Cast, Hook, Node, Verdict, casts, with_port};
use weir::model::{Affinity, Protocol};
use weir_tests::fuzz::{Benches, Figures, history};
use weir_tests::icmp::IcmpError;
use weir_tests::packet::{ACK, Ext, FIN, Packet, RST, SYN, mutate, tuple};
use weir_tests::rng::Rng;

const FRAMES: usize = 1_000_000;
/// Histories of some hundred frames each, over the model.
const HISTORIES: u64 = 500;

/// Errors about replies of a live flow.
fn errors(cast: &Cast) -> impl Iterator<Item = Vec<u8>> {
    let kind = if cast.vip.is_ipv4() { [3, 4] } else { [2, 0] };
    let reply = Packet::tcp(cast.vip, cast.client).flags(ACK).payload(&[5; 100]).build();
    let error = IcmpError::new(cast.client.ip(), cast.vip.ip(), kind).rest([0, 0, 5, 20]);
    let error = move |bytes| error.clone().quote(&reply, bytes);
    let behind = (!cast.vip.is_ipv4()).then(|| error(200).ext(Ext::HopByHop(1)).build());
    [48, 68, 200].map(|bytes| error(bytes).build()).into_iter().chain(behind)
}

/// Whole frames, of which damaged ones are made.
fn seeds() -> Vec<Vec<u8>> {
    let mut seeds = Vec::new();
    for cast in casts() {
        seeds.extend(errors(&cast));
        let other = with_port(cast.vip, 9999);
        for to in [cast.vip, other, cast.v1[0]] {
            let (tcp, udp) = (Packet::tcp(cast.client, to), Packet::udp(cast.client, to));
            for flags in [SYN, ACK, FIN | ACK, RST, SYN | ACK] {
                seeds.push(tcp.clone().flags(flags).payload(b"payload of some length").build());
            }
            seeds.push(udp.clone().payload(b"datagram").build());
            seeds.push(udp.clone().zero_checksum().payload(b"datagram").build());
            seeds.push(tcp.clone().vlan(0x8100, 5).build());
            seeds.push(udp.clone().vlan(0x88a8, 5).vlan(0x8100, 6).build());
            seeds.extend(udp.clone().payload(&[1; 300]).build_fragments(120));
            if cast.vip.is_ipv4() {
                seeds.push(tcp.clone().ip_options(&[1; 12]).build());
            } else {
                let chain = tcp.ext(Ext::HopByHop(1)).ext(Ext::Routing(0)).ext(Ext::AtomicFragment);
                seeds.push(chain.ext(Ext::DestOpts(2)).build());
            }
        }
    }
    seeds
}

fn node() -> Node {
    let mut node = Node::new();
    for (cast, family) in casts().iter().zip(["v4", "v6"]) {
        for (protocol, name) in [(Protocol::Tcp, "tcp"), (Protocol::Udp, "udp")] {
            let subsets: [(&str, u32, &[std::net::SocketAddr]); 2] =
                [("v1", 80, &cast.v1), ("v2", 20, &cast.v2)];
            let name = format!("{name}-{family}");
            node.publish(&kernel::split(&name, (cast.vip, protocol), Affinity::None, &subsets));
        }
        // A flow that lives, so that errors are about something.
        let from_client = |flags| Packet::tcp(cast.client, cast.vip).flags(flags).ack(2).build();
        let there = tuple(node.pass(Hook::Tc, &from_client(SYN))).expect("a tuple").destination;
        let answer = Packet::tcp(there, cast.client).flags(SYN | ACK).seq(1).ack(2).build();
        node.pass(Hook::Reply, &answer);
        node.pass(Hook::Tc, &from_client(ACK));
    }
    node
}

/// Whether a service address is somewhere in the frame.
fn mentions_a_service(frame: &[u8], casts: &[Cast]) -> bool {
    casts.iter().any(|cast| match cast.vip.ip() {
        std::net::IpAddr::V4(ip) => frame.windows(4).any(|w| w == ip.octets()),
        std::net::IpAddr::V6(ip) => frame.windows(16).any(|w| w == ip.octets()),
    })
}

#[test]
fn damaged_frames_pass_both_programs_alike() {
    let (mut tc, mut xdp) = (node(), node());
    for (node, hook) in [(&mut tc, Hook::Tc), (&mut xdp, Hook::Xdp)] {
        for error in casts().iter().flat_map(errors) {
            assert!(node.pass(hook, &error) != error, "{hook:?}: an error is translated");
        }
    }
    let (seeds, casts) = (seeds(), casts());
    let (mut rng, mut changed) = (Rng::new(2), 0);
    let mut frame = Vec::new();
    for n in 0..FRAMES {
        frame.clone_from(&seeds[n % seeds.len()]);
        mutate(&mut frame, &mut rng);
        if n % 16 == 0 {
            frame.iter_mut().skip(14).for_each(|byte| *byte = rng.next_u64() as u8);
        }
        // What BPF_PROG_TEST_RUN takes at both hooks.
        frame.resize(frame.len().clamp(64, 2000), 0);
        let (verdict, from_tc) = tc.run(Hook::Tc, &frame);
        let (other, from_xdp) = xdp.run(Hook::Xdp, &frame);
        assert_eq!((verdict, other), (Verdict::Pass, Verdict::Pass), "frame {n}: {frame:02x?}");
        assert!(
            from_tc == from_xdp,
            "frame {n}: {frame:02x?}\nTC made {from_tc:02x?}\nXDP made {from_xdp:02x?}"
        );
        if from_tc == frame {
            continue;
        }
        changed += 1;
        assert_eq!(from_tc.len(), frame.len(), "frame {n}");
        assert!(mentions_a_service(&frame, &casts), "frame {n} was changed: {frame:02x?}");
        if let Some(seen) = tuple(from_tc) {
            let endpoint = casts.iter().any(|cast| {
                cast.v1.contains(&seen.destination) || cast.v2.contains(&seen.destination)
            });
            assert!(endpoint, "frame {n} went to {}: {frame:02x?}", seen.destination);
        }
    }
    println!("{FRAMES} damaged frames: {changed} steered, the others untouched, TC and XDP alike");
    assert!(changed > FRAMES / 20 && changed < FRAMES * 3 / 4, "{changed} steered");
}

#[test]
fn what_comes_out_of_both_programs_is_what_the_model_says() {
    let mut benches = Benches::new().expect("the object loads (root is needed)");
    let mut figures = Figures::default();
    for number in 0..HISTORIES {
        history(&mut benches, number, &mut figures).unwrap_or_else(|case| panic!("{case:#}"));
    }
    println!("{figures}; differences between TC, XDP and model: 0");
    // A generator of which nothing is steered, or all, would show nothing.
    let Figures { frames, changed, answered, dropped, .. } = figures;
    assert!(changed > frames / 4 && changed < frames * 9 / 10, "{figures}");
    assert!(answered > 100 && dropped > 50, "{figures}");
}
