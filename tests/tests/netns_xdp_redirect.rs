//! The way past the node's stack at XDP of physical devices.

mod xdp_redirect;

use std::net::{IpAddr, Ipv6Addr, SocketAddr};
use std::time::Duration;

use probe_common::map::{DEVICE_NDO_XMIT, DEVICE_NDO_XMIT_SG, DEVICE_XDP_RX, DEVICE_XDP_TX};
use weir::model::Protocol;
use weir_tests::client::{exchange, udp_from};
use weir_tests::packet::{Ext, Packet, checksums_ok, parse, tuple};
use weir_tests::server::{Server, bulk_receive, bulk_send, connect, read_line, say};
use weir_tests::topology::{CLIENT_FACING, ETH, client_ip, vips};
use xdp_redirect::{PhysicalNode, mac};

const TIMEOUT: Duration = Duration::from_secs(10);
/// A packet that has not come by then has been dropped.
const LOST: Duration = Duration::from_millis(300);
const DATAGRAMS: u16 = 9082;
const LINES: u16 = 9080;
const BULKS: u16 = 9081;

const XDP_PASS: u32 = 2;
const XDP_TX: u32 = 3;
const XDP_REDIRECT: u32 = 4;

/// What is tried: a name; what is changed before; the frame; what the program returns, and what it
/// counts.
type Case<'a> =
    (&'a str, &'a dyn Fn(&mut PhysicalNode), &'a dyn Fn(Packet) -> Vec<u8>, u32, Option<&'a str>);

/// What may be counted.
const COUNTERS: [&str; 6] =
    ["redirected", "stack_headers", "stack_ttl", "stack_mtu", "stack_route", "stack_no_neighbour"];

/// A live flow of datagrams between neighbours who know each other.
struct Stage {
    node: PhysicalNode,
    vip: IpAddr,
    client: SocketAddr,
    service: SocketAddr,
    endpoint: SocketAddr,
    /// The node's interface towards the endpoint.
    target: String,
    _server: Server,
}

impl Stage {
    fn new(vip: IpAddr) -> Self {
        let mut node = PhysicalNode::new();
        let client = SocketAddr::new(client_ip(vip), 20_000);
        let service = SocketAddr::new(vip, DATAGRAMS);
        let endpoint = SocketAddr::new(node.endpoint(vip), 80);
        node.publish("udp", (service, Protocol::Udp), endpoint);
        let any = SocketAddr::new(Ipv6Addr::UNSPECIFIED.into(), 80);
        let server = Server::udp(&node.topology.endpoint("a").ns, any, "a").expect("a server");
        let target = node.target();
        let mut stage = Self { node, vip, client, service, endpoint, target, _server: server };
        stage.speak();
        stage.node.reply(&Packet::udp(endpoint, client).payload(b"answer").build());
        stage
    }

    /// After this the neighbour is known, and the flow lives.
    fn speak(&self) {
        self.node.topology.client.run(|| {
            let socket = udp_from(self.client, self.service).expect("socket");
            socket.set_read_timeout(Some(TIMEOUT)).expect("time-out");
            assert_eq!(exchange(&socket, b"hello").expect("answer"), "a");
        });
    }

    /// A packet of the flow.
    fn packet(&self) -> Packet {
        let own = self.node.mac(CLIENT_FACING);
        let packet = Packet::udp(self.client, self.service).payload(b"question");
        packet.macs([2; 6], own).ttl(64)
    }

    /// Has everything be as it was.
    fn restore(&mut self) {
        let node = &self.node.topology.node;
        node.ip(&[format!("link set {} mtu 1500", self.target)]).expect("an MTU");
        // There is none unless the case before has made it.
        let _ = node.ip(&[format!("route del {}", self.endpoint.ip())]);
        self.node.open(true);
        self.node.look();
        self.speak();
    }

    fn check(&mut self, &(name, change, frame, code, reason): &Case<'_>) {
        let what = format!("{}, {name}", self.vip);
        self.restore();
        change(&mut self.node);
        let sent = frame(self.packet());
        let before = self.node.reasons();
        let (returned, out) = self.node.forward(&sent);
        let after = self.node.reasons();
        assert_eq!(returned, code, "{what}");
        for counter in COUNTERS {
            let more = u64::from(reason == Some(counter));
            assert_eq!(after[counter] - before[counter], more, "{what}: {counter}");
        }
        let (old, new) = (parse(&sent).expect("IP"), parse(&out).expect("IP"));
        assert_eq!(new.destination, self.endpoint.ip(), "{what}");
        if !new.fragment {
            assert!(checksums_ok(&out), "{what}: checksums");
            assert_eq!(tuple(&out).expect("a tuple").source, self.client, "{what}");
        }
        let topology = &self.node.topology;
        let macs = match code {
            XDP_REDIRECT => {
                [topology.endpoint("a").ns.run(|| mac(ETH)), self.node.mac(&self.target)].concat()
            }
            XDP_TX => [topology.client.run(|| mac(ETH)), self.node.mac(CLIENT_FACING)].concat(),
            _ => sent[..12].to_vec(),
        };
        assert_eq!(out[..12], macs, "{what}");
        assert_eq!(new.ttl, old.ttl - u8::from(code != XDP_PASS), "{what}");
        assert_eq!(out.len(), sent.len(), "{what}");
    }
}

#[test]
fn packets_that_are_not_plain_ones_are_left_to_the_stack() {
    let nothing = |_: &mut PhysicalNode| {};
    for vip in vips() {
        let mut stage = Stage::new(vip);
        let [a, b, c, d, e, f] = stage.node.mac(CLIENT_FACING);
        let to = |mac: [u8; 6]| move |packet: Packet| packet.macs([2; 6], mac).build();
        let to_another = to([a, b, c, d, e, !f]);
        let extended = |packet: Packet| match vip {
            IpAddr::V4(_) => packet.ip_options(&[1, 1, 1, 1]).build(),
            IpAddr::V6(_) => packet.ext(Ext::DestOpts(1)).build(),
        };
        let fragment =
            |packet: Packet| packet.payload(&[7; 100]).build_fragments(64).swap_remove(0);
        let ttl = |ttl: u8| move |packet: Packet| packet.ttl(ttl).build();
        let long = |length: usize| move |packet: Packet| fill(packet, vip, length);
        let headers = Some("stack_headers");
        let cases: [Case<'_>; 9] = [
            ("plain", &nothing, &|p| p.build(), XDP_REDIRECT, Some("redirected")),
            ("a last hop but one", &nothing, &ttl(2), XDP_REDIRECT, Some("redirected")),
            ("the last hop", &nothing, &ttl(1), XDP_PASS, Some("stack_ttl")),
            ("to another host", &nothing, &to_another, XDP_PASS, headers),
            ("of a VLAN", &nothing, &|p| p.vlan(0x8100, 5).build(), XDP_PASS, headers),
            ("with options", &nothing, &extended, XDP_PASS, headers),
            ("a fragment", &nothing, &fragment, XDP_PASS, headers),
            ("as long as the MTU", &nothing, &long(1500), XDP_REDIRECT, Some("redirected")),
            ("longer than the MTU", &nothing, &long(1501), XDP_PASS, Some("stack_mtu")),
        ];
        cases.iter().for_each(|case| stage.check(case));
    }
}

#[test]
fn packets_go_only_where_they_are_taken() {
    for vip in vips() {
        let mut stage = Stage::new(vip);
        let (target, endpoint) = (stage.target.clone(), stage.endpoint.ip());
        let ip =
            |line: String| move |e: &mut PhysicalNode| e.topology.node.ip(&[&line]).expect("ip");
        let without = |name: &str, flags: u64| {
            let name = name.to_owned();
            move |e: &mut PhysicalNode| {
                let index = e.index(&name);
                let word = e.look()[&index];
                e.set_device(&name, word & !flags);
            }
        };
        let closed = |e: &mut PhysicalNode| e.open(false);
        let elsewhere = without(CLIENT_FACING, DEVICE_XDP_RX);
        let not_taken = without(&target, DEVICE_NDO_XMIT);
        let unknown = ip(format!("neigh flush dev {target}"));
        let blackhole = ip(format!("route replace blackhole {endpoint}"));
        let client = stage.client.ip();
        let back = ip(format!("route replace {endpoint} via {client} dev {CLIENT_FACING}"));
        let rejected = without(CLIENT_FACING, DEVICE_XDP_TX);
        let back_refused = |e: &mut PhysicalNode| {
            back(e);
            rejected(e);
        };
        let jumbo = ip(format!("link set {target} mtu 9000"));
        let in_one = without(&target, DEVICE_NDO_XMIT_SG);
        let jumbo_in_one = |e: &mut PhysicalNode| {
            jumbo(e);
            in_one(e);
        };
        let build = |packet: Packet| packet.build();
        let large = |packet: Packet| packet.payload(&[7; 6000]).build();
        let (gone, route) = (Some("redirected"), Some("stack_route"));
        let cases: [Case<'_>; 9] = [
            ("closed", &closed, &build, XDP_PASS, None),
            ("from elsewhere", &elsewhere, &build, XDP_PASS, None),
            ("in parts", &jumbo, &large, XDP_REDIRECT, gone),
            ("parts, of which one is taken", &jumbo_in_one, &large, XDP_PASS, route),
            ("unknown neighbour", &unknown, &build, XDP_PASS, Some("stack_no_neighbour")),
            ("no packets are taken", &not_taken, &build, XDP_PASS, route),
            ("no route", &blackhole, &build, XDP_PASS, route),
            ("back to where it came from", &back, &build, XDP_TX, gone),
            ("not back from there", &back_refused, &build, XDP_PASS, route),
        ];
        cases.iter().for_each(|case| stage.check(case));
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
    let mut node = PhysicalNode::new();
    let ns = &node.topology.endpoint("a").ns;
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
            let to = SocketAddr::new(node.endpoint(vip), to);
            let service = (SocketAddr::new(vip, port), protocol);
            node.publish(&format!("{name}-{family}"), service, to);
        }
    }
    for (vip, port) in vips().into_iter().zip(20_000..) {
        let (datagrams, mut stream) = node.topology.client.run(|| {
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
        let target = node.target();
        let index = node.index(&target);
        for (gro, what) in [(true, "past"), (false, "through"), (true, "past again")] {
            node.set_gro(gro);
            if !gro {
                // Until that is seen, packets are lost: why the agent looks twice a second.
                datagrams.set_read_timeout(Some(LOST)).expect("time-out");
                exchange(&datagrams, b"lost").expect_err("an answer");
                datagrams.set_read_timeout(Some(TIMEOUT)).expect("time-out");
            }
            let takes = node.look().get(&index).is_some_and(|word| word & DEVICE_NDO_XMIT != 0);
            assert_eq!(takes, gro, "{vip}, {what}: the kernel says what it can be given");
            let before = node.reasons();
            talk(what);
            let bulk = SocketAddr::new(vip, BULKS);
            node.topology.client.run(|| {
                bulk_send(bulk, BYTES, TIMEOUT).unwrap_or_else(|e| panic!("{vip}, {what}: {e}"));
                bulk_receive(bulk, BYTES, TIMEOUT).unwrap_or_else(|e| panic!("{vip}, {what}: {e}"));
            });
            let after = node.reasons();
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
