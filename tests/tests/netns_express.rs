//! The way past the node's stack at XDP of physical devices.

mod express;

use std::net::{IpAddr, Ipv6Addr, SocketAddr};
use std::time::Duration;

use express::{Express, mac};
use probe_common::map::{DEVICE_GIVES, DEVICE_RETURNS, DEVICE_TAKES, DEVICE_TAKES_PARTS};
use weir::model::Protocol;
use weir_tests::client::{exchange, udp_from};
use weir_tests::packet::{Ext, Packet, checksums_ok, parse, tuple};
use weir_tests::server::{Server, bulk_receive, bulk_send, connect, read_line, say};
use weir_tests::topology::{CLIENT_FACING, ETH, VIP_V4, VIP_V6, client_ip};

const TIMEOUT: Duration = Duration::from_secs(10);
/// A packet that has not come by then has been dropped.
const LOST: Duration = Duration::from_millis(300);
const DATAGRAMS: u16 = 9082;
const LINES: u16 = 9080;
const BULKS: u16 = 9081;

const XDP_PASS: u32 = 2;
const XDP_TX: u32 = 3;
const XDP_REDIRECT: u32 = 4;

fn vips() -> [IpAddr; 2] {
    [VIP_V4.into(), VIP_V6.into()]
}

/// What is tried: a name; what is changed before; the frame; what the program returns, and what it
/// counts.
type Case<'a> =
    (&'a str, &'a dyn Fn(&mut Express), &'a dyn Fn(Packet) -> Vec<u8>, u32, Option<&'a str>);

#[test]
fn what_is_not_plain_forwarding_is_left_to_the_stack() {
    for vip in vips() {
        let mut express = Express::new();
        let (client, own) = (SocketAddr::new(client_ip(vip), 20_000), express.mac(CLIENT_FACING));
        let service = SocketAddr::new(vip, DATAGRAMS);
        let endpoint = SocketAddr::new(express.endpoint(vip), 80);
        express.publish("udp", (service, Protocol::Udp), endpoint);
        let server = Server::udp(
            &express.topology.endpoint("a").ns,
            SocketAddr::new(Ipv6Addr::UNSPECIFIED.into(), 80),
            "a",
        )
        .expect("server");
        // The neighbour is known, and the flow lives.
        let know = |express: &Express| {
            let ask = || {
                let socket = udp_from(client, service).expect("socket");
                socket.set_read_timeout(Some(TIMEOUT)).expect("time-out");
                assert_eq!(exchange(&socket, b"hello").expect("answer"), "a");
            };
            express.topology.client.run(ask);
        };
        let base = || Packet::udp(client, service).payload(b"question").macs([2; 6], own).ttl(64);
        let target = express.target();
        let [node_mac, next_mac] =
            [express.mac(&target), express.topology.endpoint("a").ns.run(|| mac(ETH))];
        let build = |packet: Packet| packet.build();
        let nothing = |_: &mut Express| {};
        let ip = |line: String| move |e: &mut Express| e.topology.node.ip(&[&line]).expect("ip");
        let without = |name: String, flags: u64| {
            move |e: &mut Express| {
                let index = e.index(&name);
                let word = e.look()[&index];
                e.set_device(&name, word & !flags);
            }
        };
        let back =
            ip(format!("route replace {} via {} dev {CLIENT_FACING}", endpoint.ip(), client.ip()));
        let returned = without(CLIENT_FACING.to_owned(), DEVICE_RETURNS);
        let back_refused = |e: &mut Express| {
            back(e);
            returned(e);
        };
        let extended = |packet: Packet| match vip {
            IpAddr::V4(_) => packet.ip_options(&[1, 1, 1, 1]).build(),
            IpAddr::V6(_) => packet.ext(Ext::DestOpts(1)).build(),
        };
        let jumbo = ip(format!("link set {target} mtu 9000"));
        let jumbo_in_one = |e: &mut Express| {
            jumbo(e);
            without(target.clone(), DEVICE_TAKES_PARTS)(e);
        };
        let large = |packet: Packet| packet.payload(&[7; 6000]).build();
        let cases: &[Case<'_>] = &[
            ("a plain packet", &nothing, &build, XDP_REDIRECT, Some("redirected")),
            ("closed", &|e| e.open(false), &build, XDP_PASS, None),
            (
                "from elsewhere",
                &without(CLIENT_FACING.into(), DEVICE_GIVES),
                &build,
                XDP_PASS,
                None,
            ),
            (
                "a last hop but one",
                &nothing,
                &|p| p.ttl(2).build(),
                XDP_REDIRECT,
                Some("redirected"),
            ),
            ("the last hop", &nothing, &|p| p.ttl(1).build(), XDP_PASS, Some("stack_ttl")),
            (
                "to all",
                &nothing,
                &|p| p.macs([2; 6], [0xff; 6]).build(),
                XDP_PASS,
                Some("stack_headers"),
            ),
            (
                "to a group",
                &nothing,
                &|p| p.macs([2; 6], [own[0] | 1, own[1], own[2], own[3], own[4], own[5]]).build(),
                XDP_PASS,
                Some("stack_headers"),
            ),
            (
                "to another host",
                &nothing,
                &|p| p.macs([2; 6], [own[0], own[1], own[2], own[3], own[4], !own[5]]).build(),
                XDP_PASS,
                Some("stack_headers"),
            ),
            (
                "of a VLAN",
                &nothing,
                &|p| p.vlan(0x8100, 5).build(),
                XDP_PASS,
                Some("stack_headers"),
            ),
            ("with options", &nothing, &extended, XDP_PASS, Some("stack_headers")),
            (
                "a fragment",
                &nothing,
                &|p| p.payload(&[7; 100]).build_fragments(64).swap_remove(0),
                XDP_PASS,
                Some("stack_headers"),
            ),
            (
                "as long as the MTU",
                &nothing,
                &|p| fill(p, vip, 1500),
                XDP_REDIRECT,
                Some("redirected"),
            ),
            ("longer than the MTU", &nothing, &|p| fill(p, vip, 1501), XDP_PASS, Some("stack_mtu")),
            ("in parts", &jumbo, &large, XDP_REDIRECT, Some("redirected")),
            ("parts, of which one is taken", &jumbo_in_one, &large, XDP_PASS, Some("stack_route")),
            (
                "the neighbour is not known",
                &ip(format!("neigh flush dev {target}")),
                &build,
                XDP_PASS,
                Some("stack_no_neighbour"),
            ),
            (
                "no packets are taken",
                &without(target.clone(), DEVICE_TAKES),
                &build,
                XDP_PASS,
                Some("stack_route"),
            ),
            (
                "no route",
                &ip(format!("route replace blackhole {}", endpoint.ip())),
                &build,
                XDP_PASS,
                Some("stack_route"),
            ),
            ("back to where it came from", &back, &build, XDP_TX, Some("redirected")),
            ("not back from there", &back_refused, &build, XDP_PASS, Some("stack_route")),
        ];
        let names = ["redirected", "stack_headers", "stack_ttl", "stack_mtu", "stack_route"];
        let names = names.map(str::to_owned).into_iter().chain(["stack_no_neighbour".to_owned()]);
        let names: Vec<String> = names.collect();
        know(&express);
        express.reply(&Packet::udp(endpoint, client).payload(b"answer").build());
        for (name, change, frame, code, reason) in cases {
            let what = format!("{vip}, {name}");
            express.topology.node.ip(&[format!("link set {target} mtu 1500")]).expect("an MTU");
            let gone = express.topology.node.ip(&[format!("route del {}", endpoint.ip())]);
            drop(gone);
            express.open(true);
            express.look();
            know(&express);
            change(&mut express);
            let before = express.reasons();
            let sent = frame(base());
            let (returned, out) = express.forward(&sent);
            let after = express.reasons();
            assert_eq!(returned, *code, "{what}");
            for counter in &names {
                let more = u64::from(*reason == Some(counter.as_str()));
                assert_eq!(after[counter] - before[counter], more, "{what}: {counter}");
            }
            let (old, new) = (parse(&sent).expect("IP"), parse(&out).expect("IP"));
            assert_eq!(new.destination, endpoint.ip(), "{what}");
            if !new.fragment {
                assert!(checksums_ok(&out), "{what}: checksums");
                assert_eq!(tuple(&out).expect("a tuple").source, client, "{what}");
            }
            let macs = match *code {
                XDP_REDIRECT => [next_mac, node_mac].concat(),
                XDP_TX => [express.topology.client.run(|| mac(ETH)), own].concat(),
                _ => sent[..12].to_vec(),
            };
            assert_eq!(out[..12], macs, "{what}");
            assert_eq!(new.ttl, old.ttl - u8::from(*code != XDP_PASS), "{what}");
            assert_eq!(out.len(), sent.len(), "{what}");
        }
        drop(server);
    }
}

/// A packet of so many bytes of IP.
fn fill(packet: Packet, vip: IpAddr, length: usize) -> Vec<u8> {
    let headers = if vip.is_ipv4() { 28 } else { 48 };
    packet.payload(&vec![7; length - headers]).build()
}

#[test]
fn conversations_go_past_the_stack_and_through_it_when_the_target_takes_no_packets() {
    const BYTES: u64 = 2_000_003;
    let mut express = Express::new();
    let ns = &express.topology.endpoint("a").ns;
    let at = |port| SocketAddr::new(Ipv6Addr::UNSPECIFIED.into(), port);
    let _servers = [
        Server::tcp(ns, at(80), "a").expect("server"),
        Server::udp(ns, at(80), "a").expect("server"),
        Server::bulk(ns, at(81), "a").expect("server"),
    ];
    for vip in vips() {
        let family = if vip.is_ipv4() { "v4" } else { "v6" };
        for (name, protocol, port, to) in [
            ("lines", Protocol::Tcp, LINES, 80),
            ("bulk", Protocol::Tcp, BULKS, 81),
            ("udp", Protocol::Udp, DATAGRAMS, 80),
        ] {
            let to = SocketAddr::new(express.endpoint(vip), to);
            let service = (SocketAddr::new(vip, port), protocol);
            express.publish(&format!("{name}-{family}"), service, to);
        }
    }
    for (vip, port) in vips().into_iter().zip(20_000..) {
        let (datagrams, mut stream) = express.topology.client.run(|| {
            let to = SocketAddr::new(vip, DATAGRAMS);
            let datagrams = udp_from(SocketAddr::new(client_ip(vip), port), to).expect("socket");
            datagrams.set_read_timeout(Some(TIMEOUT)).expect("time-out");
            let stream = connect(SocketAddr::new(vip, LINES), TIMEOUT).expect("connect");
            (datagrams, stream)
        });
        assert_eq!(read_line(&mut stream).expect("identity"), "a", "{vip}");
        assert_eq!(exchange(&datagrams, b"hello").expect("answer"), "a", "{vip}");
        let mut talk = |what: &str| {
            for n in 0..100 {
                exchange(&datagrams, b"hello")
                    .unwrap_or_else(|e| panic!("{vip}, {what}, {n}: {e}"));
                say(&mut stream, "hello").unwrap_or_else(|e| panic!("{vip}, {what}, {n}: {e}"));
            }
        };
        let target = express.target();
        let index = express.index(&target);
        for (gro, what) in [(true, "past"), (false, "through"), (true, "past again")] {
            express.set_gro(gro);
            if !gro {
                // Until that is seen, packets are lost: why the agent looks twice a second.
                datagrams.set_read_timeout(Some(LOST)).expect("time-out");
                exchange(&datagrams, b"lost").expect_err("an answer");
                datagrams.set_read_timeout(Some(TIMEOUT)).expect("time-out");
            }
            let takes = express.look().get(&index).is_some_and(|word| word & DEVICE_TAKES != 0);
            assert_eq!(takes, gro, "{vip}, {what}: the kernel says what it can be given");
            let before = express.reasons();
            talk(what);
            let bulk = SocketAddr::new(vip, BULKS);
            express.topology.client.run(|| {
                bulk_send(bulk, BYTES, TIMEOUT).unwrap_or_else(|e| panic!("{vip}, {what}: {e}"));
                bulk_receive(bulk, BYTES, TIMEOUT).unwrap_or_else(|e| panic!("{vip}, {what}: {e}"));
            });
            let after = express.reasons();
            let [past, through] =
                ["redirected", "stack_route"].map(|reason| after[reason] - before[reason]);
            println!("{vip}, {what}: {past} packets past the stack, {through} through it");
            let [most, none] = if gro { [past, through] } else { [through, past] };
            // 200 questions, and a segment for each 1,448 bytes.
            assert!(most > 1500, "{vip}, {what}: {past} past the stack, {through} through it");
            assert_eq!(none, 0, "{vip}, {what}");
        }
    }
}
