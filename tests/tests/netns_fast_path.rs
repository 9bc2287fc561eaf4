//! The way past the node's stack: that it is taken, what is left to the stack, and that it
//! follows what changes on the node.

mod fast_path;

use std::collections::BTreeSet;
use std::io::{ErrorKind, Read as _, Write as _};
use std::net::{IpAddr, SocketAddr};
use std::os::fd::AsRawFd;
use std::time::Duration;

use fast_path::{BULKS, LOST, TIMEOUT, counted, echo, scene, setup, tcp_flow, udp_flow};
use nix::sys::socket::{setsockopt, sockopt};
use weir_tests::client::{exchange, udp_from};
use weir_tests::netns::Netns;
use weir_tests::priorities::Priorities;
use weir_tests::scene::{PORT, Scene};
use weir_tests::server::{bulk_receive, bulk_send};
use weir_tests::topology::{
    CLIENT_FACING, ETH, EndpointSpec, Topology, VIP_V4, client_ip, set_tx_offload, vips,
};

/// Packets that the stack of a namespace has forwarded, of both families.
fn forwarded(ns: &Netns) -> u64 {
    let read = |path: &str| std::fs::read_to_string(path).expect("statistics of the stack");
    let (v4, v6) =
        ns.run(|| (read("/proc/thread-self/net/snmp"), read("/proc/thread-self/net/snmp6")));
    let mut ip = v4.lines().filter_map(|line| line.strip_prefix("Ip: "));
    let (names, values) = (ip.next().expect("names"), ip.next().expect("values"));
    let at = names.split(' ').position(|name| name == "ForwDatagrams").expect("ForwDatagrams");
    let v4: u64 = values.split(' ').nth(at).expect("value").parse().expect("number");
    let v6 = v6.lines().find_map(|line| line.strip_prefix("Ip6OutForwDatagrams"));
    v4 + v6.expect("Ip6OutForwDatagrams").trim().parse::<u64>().expect("number")
}

#[test]
fn steered_packets_go_past_the_stack_whoever_computes_checksums() {
    const BYTES: u64 = 5_000_011;
    for offload in [true, false] {
        let topology = Topology::new(&[EndpointSpec::new("a")]).expect("topology");
        let endpoint = topology.endpoint("a");
        for (ns, ifname) in [
            (&topology.node, CLIENT_FACING),
            (&topology.node, endpoint.node_ifname.as_str()),
            (&topology.client, ETH),
            (&endpoint.ns, ETH),
        ] {
            set_tx_offload(ns, ifname, offload).expect("offloads");
        }
        // Whatever rp_filter would say to replies with the service address as source.
        for mode in ["1", "2"] {
            for name in ["all", CLIENT_FACING, &endpoint.node_ifname] {
                let key = format!("net/ipv4/conf/{name}/rp_filter");
                topology.node.sysctl(&key, mode).expect("rp_filter");
            }
        }
        let scene = Scene::on(topology, |t| setup(t, "auto")).expect("scene");
        let (client, node) = (&scene.topology.client, &scene.topology.node);
        for (vip, port) in vips().into_iter().zip(20_000..) {
            let what = format!("{vip}, offload {offload}");
            // Neighbours are known, and peers have been looked for.
            let mut stream = tcp_flow(client, vip);
            let datagrams = udp_flow(client, vip, port);
            let before = (forwarded(node), counted(&scene.agent, "redirected"));
            for _ in 0..100 {
                echo(&mut stream).unwrap_or_else(|error| panic!("{what}: {error}"));
                exchange(&datagrams, b"hello").unwrap_or_else(|error| panic!("{what}: {error}"));
            }
            let bulk = SocketAddr::new(vip, BULKS);
            client.run(|| {
                bulk_send(bulk, BYTES, TIMEOUT).unwrap_or_else(|error| panic!("{what}: {error}"));
                bulk_receive(bulk, BYTES, TIMEOUT)
                    .unwrap_or_else(|error| panic!("{what}: {error}"));
            });
            let stack = forwarded(node) - before.0;
            let redirected = counted(&scene.agent, "redirected") - before.1;
            println!("{what}: {redirected} past the stack, {stack} through it");
            assert!(redirected >= 400, "{what}: {redirected} packets past the stack");
            // The first packets of two connections; neighbours are probed by the stack itself.
            assert!(stack <= 10, "{what}: {stack} packets through the stack");
        }
    }
}

#[test]
fn without_the_fast_path_the_stack_forwards_all() {
    let scene = scene("off");
    let status = scene.agent.status().expect("status");
    assert_eq!(status.fast_path.reason, "fastPath: off");
    for (vip, port) in vips().into_iter().zip(20_000..) {
        let socket = udp_flow(&scene.topology.client, vip, port);
        let before = forwarded(&scene.topology.node);
        for _ in 0..50 {
            exchange(&socket, b"hello").expect("answer");
        }
        assert!(forwarded(&scene.topology.node) - before >= 100, "{vip}");
    }
    assert_eq!(counted(&scene.agent, "redirected"), 0);
}

#[test]
fn a_packet_at_the_end_of_its_life_is_the_stacks() {
    let scene = scene("auto");
    let (client, node) = (&scene.topology.client, &scene.topology.node);
    for (vip, port) in vips().into_iter().zip(20_000..) {
        let socket = udp_flow(client, vip, port);
        let hops = |hops: i32| match vip {
            IpAddr::V4(_) => setsockopt(&socket, sockopt::Ipv4Ttl, &hops).expect("TTL"),
            IpAddr::V6(_) => setsockopt(&socket, sockopt::Ipv6Ttl, &hops).expect("hop limit"),
        };
        hops(2);
        assert_eq!(exchange(&socket, b"far enough").expect("answer"), "a", "{vip}");
        let (before, stack) = (counted(&scene.agent, "stack_ttl"), exceeded(node));
        hops(1);
        socket.set_read_timeout(Some(LOST)).expect("time-out");
        exchange(&socket, b"too far").expect_err("an answer from beyond the last hop");
        assert_eq!(counted(&scene.agent, "stack_ttl") - before, 1, "{vip}");
        assert_eq!(exceeded(node) - stack, 1, "{vip}: the stack answers");
    }
}

/// Messages "time exceeded" that the namespace has sent.
fn exceeded(ns: &Netns) -> u64 {
    let read = |path: &str| std::fs::read_to_string(path).expect("statistics of the stack");
    let (v4, v6) =
        ns.run(|| (read("/proc/thread-self/net/snmp"), read("/proc/thread-self/net/snmp6")));
    let mut icmp = v4.lines().filter_map(|line| line.strip_prefix("Icmp: "));
    let (names, values) = (icmp.next().expect("names"), icmp.next().expect("values"));
    let at = names.split(' ').position(|name| name == "OutTimeExcds").expect("OutTimeExcds");
    let v4: u64 = values.split(' ').nth(at).expect("value").parse().expect("number");
    let v6 = v6.lines().find_map(|line| line.strip_prefix("Icmp6OutTimeExcds"));
    v4 + v6.expect("Icmp6OutTimeExcds").trim().parse::<u64>().expect("number")
}

/// Lets the stack cut packets of a socket (IP_MTU_DISCOVER, IP_PMTUDISC_DONT).
fn allow_fragments(socket: &impl AsRawFd) {
    let value: libc::c_int = 0;
    // SAFETY: an int, of its size.
    let result = unsafe {
        libc::setsockopt(
            socket.as_raw_fd(),
            libc::IPPROTO_IP,
            libc::IP_MTU_DISCOVER,
            (&raw const value).cast(),
            4,
        )
    };
    assert_eq!(result, 0, "IP_MTU_DISCOVER");
}

#[test]
fn what_exceeds_the_mtu_is_the_stacks() {
    let scene = scene("auto");
    let endpoint = scene.topology.endpoint("a");
    let ifname = &endpoint.node_ifname;
    scene.topology.node.ip(&[format!("link set {ifname} mtu 1400")]).expect("MTU");
    // One datagram.
    let socket = udp_flow(&scene.topology.client, VIP_V4.into(), 20_000);
    allow_fragments(&socket);
    for (length, left) in [(1372, 0), (1373, 1)] {
        let before = counted(&scene.agent, "stack_mtu");
        assert_eq!(exchange(&socket, &vec![0x55; length]).expect("answer"), "a", "{length}");
        assert_eq!(counted(&scene.agent, "stack_mtu") - before, left, "{length}");
    }
    // A train of segments, each of which is too long by itself; the whole is longer in any case.
    let mut stream = tcp_flow(&scene.topology.client, VIP_V4.into());
    allow_fragments(&stream);
    let before = counted(&scene.agent, "stack_mtu");
    let sent: Vec<u8> = (0..100_000u32).map(|n| (n % 251) as u8).collect();
    let mut writer = stream.try_clone().expect("clone");
    let payload = sent.clone();
    let thread = std::thread::spawn(move || writer.write_all(&payload));
    let mut got = vec![0; sent.len()];
    stream.read_exact(&mut got).expect("echo");
    thread.join().expect("writer").expect("sent");
    assert_eq!(got, sent);
    assert!(counted(&scene.agent, "stack_mtu") > before, "segments of 1500 bytes");
    // With a larger MTU, the same trains go past the stack.
    scene.topology.node.ip(&[format!("link set {ifname} mtu 1500")]).expect("MTU");
    let before = counted(&scene.agent, "stack_mtu");
    let bulk = SocketAddr::new(VIP_V4.into(), BULKS);
    scene.topology.client.run(|| bulk_send(bulk, 1_000_000, TIMEOUT)).expect("bulk");
    assert_eq!(counted(&scene.agent, "stack_mtu"), before);
    routes_with_an_mtu(&scene);
}

/// Routes have MTUs below that of their interface.
fn routes_with_an_mtu(scene: &Scene) {
    const MTU: usize = 1300;
    let endpoint = scene.topology.endpoint("a");
    let routes = vips().map(|vip| {
        format!("route add {} dev {} mtu {MTU}", endpoint.ip(vip), endpoint.node_ifname)
    });
    scene.topology.node.ip(&routes).expect("routes");
    for (vip, port) in vips().into_iter().zip(20_010..) {
        let socket = udp_flow(&scene.topology.client, vip, port);
        if vip.is_ipv4() {
            allow_fragments(&socket);
        }
        let fits = MTU - if vip.is_ipv4() { 28 } else { 48 };
        let left = |length: usize| {
            let before = counted(&scene.agent, "stack_mtu");
            // Over IPv6 the stack tells the client, and lets it send again.
            let answer = (0..2).find_map(|_| exchange(&socket, &vec![0x55; length]).ok());
            assert_eq!(answer.as_deref(), Some("a"), "{vip}, {length} bytes");
            counted(&scene.agent, "stack_mtu") - before
        };
        socket.set_read_timeout(Some(LOST)).expect("time-out");
        let deadline = std::time::Instant::now() + TIMEOUT;
        while left(fits + 1) == 0 {
            assert!(std::time::Instant::now() < deadline, "{vip}: the route's MTU is not known");
            // It is learnt anew: the client keeps what it was told of a path.
            for family in ["-4", "-6"] {
                let flush = [family, "route", "flush", "cache"];
                scene.topology.client.output("ip", &flush).expect("flushed");
            }
        }
        assert_eq!(left(fits), 0, "{vip}: what fits goes past the stack");
    }
}

/// Packets of a flow through the split, and of one to the endpoint itself, one of each in turn,
/// while something happens on the node: how many of each were not answered.
fn lost(scene: &Scene, event: impl FnOnce() + Send) -> [usize; 2] {
    const PACKETS: u32 = 1500;
    const PAUSE: Duration = Duration::from_millis(1);
    let client = &scene.topology.client;
    let direct = SocketAddr::new(scene.topology.endpoint("a").v4.into(), PORT);
    let source = |port| SocketAddr::new(client_ip(direct.ip()), port);
    let flows = [
        udp_flow(client, VIP_V4.into(), 20_000),
        client.run(|| udp_from(source(20_001), direct)).expect("socket"),
    ];
    std::thread::scope(|scope| {
        let receivers = flows.each_ref().map(|socket| {
            socket.set_read_timeout(Some(LOST * 3)).expect("time-out");
            scope.spawn(move || {
                let (mut seen, mut buffer) = (BTreeSet::new(), [0; 64]);
                loop {
                    match socket.recv(&mut buffer) {
                        Ok(length) => seen.insert(buffer[..length].to_vec()),
                        Err(error) if error.kind() == ErrorKind::WouldBlock => break seen.len(),
                        // What ICMP says of an earlier packet.
                        Err(_) => continue,
                    };
                }
            })
        });
        let mut event = Some(event);
        for n in 0..PACKETS {
            for socket in &flows {
                // An error is that of an earlier packet.
                let _ = socket.send(&n.to_be_bytes());
            }
            if n == PACKETS / 3 {
                event.take().map(|event| scope.spawn(event));
            }
            std::thread::sleep(PAUSE);
        }
        receivers.map(|receiver| PACKETS as usize - receiver.join().expect("receiver"))
    })
}

/// Losses of the flow through the split must be those of plain forwarding, but for a few packets,
/// since no two packets meet the same moment.
#[track_caller]
fn assert_no_more_lost([steered, plain]: [usize; 2], what: &str) {
    println!("{what}: {steered} of the split's packets were lost, {plain} of the others");
    assert!(steered <= plain + 10, "{what}: {steered}, and {plain} without weir");
}

/// Gives the interface towards the endpoint a queue: packets are not handed to its peer then.
fn add_queue(scene: &Scene) {
    let ifname = &scene.topology.endpoint("a").node_ifname;
    let qdisc = ["qdisc", "add", "dev", ifname, "root", "pfifo"];
    scene.topology.node.output("tc", &qdisc).expect("qdisc");
    // The agent looks twice a second.
    std::thread::sleep(Duration::from_millis(1500));
}

/// Priorities that the stack gives to packets it forwards, by type of service: best effort, bulk,
/// interactive, interactive bulk.
const PRIORITIES: [(u8, u32); 4] = [(0x00, 0), (0x08, 2), (0x10, 6), (0x18, 4)];

#[test]
fn packets_to_a_neighbour_have_the_priority_of_their_type_of_service() {
    const PACKETS: u64 = 10;
    for (setting, redirects) in [("off", false), ("on", true)] {
        let scene = scene(setting);
        let node = &scene.topology.node;
        let ifname = &scene.topology.endpoint("a").node_ifname;
        let priorities = Priorities::new(node, ifname).expect("a program that counts");
        add_queue(&scene);
        let socket = udp_flow(&scene.topology.client, VIP_V4.into(), 20_000);
        for (service, priority) in PRIORITIES {
            let what = format!("fastPath: {setting}, type of service {service:#04x}");
            setsockopt(&socket, sockopt::Ipv4Tos, &service.into()).expect("IP_TOS");
            let leaving = || priorities.count(priority).expect("a counter");
            let before = (leaving(), counted(&scene.agent, "redirected"));
            for _ in 0..PACKETS {
                assert_eq!(exchange(&socket, b"hello").expect("answer"), "a", "{what}");
            }
            let sent = leaving() - before.0;
            assert!(sent >= PACKETS, "{what}: {sent} with priority {priority}");
            assert_eq!(counted(&scene.agent, "redirected") > before.1, redirects, "{what}");
        }
    }
}

#[test]
fn a_neighbour_with_another_mac_address_is_found() {
    for queue in [false, true] {
        let scene = scene("auto");
        if queue {
            add_queue(&scene);
        }
        let endpoint = scene.topology.endpoint("a");
        let before = counted(&scene.agent, "redirected");
        let result = lost(&scene, || {
            endpoint.ns.ip(&[format!("link set {ETH} address 02:00:00:00:00:77")]).expect("MAC");
            let flush = ["neigh", "flush", "dev", &endpoint.node_ifname];
            scene.topology.node.output("ip", &flush).expect("flush");
        });
        assert_no_more_lost(result, &format!("another MAC address, queue {queue}"));
        assert!(counted(&scene.agent, "redirected") - before > 2000, "queue {queue}");
    }
}

#[test]
fn a_route_that_changes_is_followed_at_once() {
    for queue in [false, true] {
        let scene = scene("auto");
        if queue {
            add_queue(&scene);
        }
        let (node, endpoint) = (&scene.topology.node, scene.topology.endpoint("a"));
        node.ip(&[
            format!("link add veth-alt type veth peer name eth1 netns {}", endpoint.ns.name()),
            "address add 198.51.100.1/24 dev veth-alt".to_owned(),
            "link set veth-alt up".to_owned(),
        ])
        .expect("second link");
        endpoint
            .ns
            .ip(&["address add 198.51.100.2/24 dev eth1", "link set eth1 up"])
            .expect("eth1");
        scene.agent.await_status("the second link is known", |status| {
            status.interfaces.iter().any(|i| i.name == "veth-alt" && i.error.is_none())
        });
        let before = counted(&scene.agent, "redirected");
        let result = lost(&scene, || {
            let back = format!("route replace default via 198.51.100.1 src {}", endpoint.v4);
            endpoint.ns.ip(&[back]).expect("route back");
            node.ip(&[format!("route add {}/32 via 198.51.100.2", endpoint.v4)]).expect("route");
            // Whoever still goes the old way is lost.
            node.ip(&[format!("link set {} down", endpoint.node_ifname)]).expect("down");
        });
        assert_no_more_lost(result, &format!("another route, queue {queue}"));
        assert!(counted(&scene.agent, "redirected") - before > 2000, "queue {queue}");
    }
}

#[test]
fn an_endpoint_on_another_interface_is_found() {
    let scene = scene("auto");
    let (node, endpoint) = (&scene.topology.node, scene.topology.endpoint("a"));
    let ifname = &endpoint.node_ifname;
    let gateway = "10.1.1.1";
    let result = lost(&scene, || {
        node.ip(&[
            format!("link del {ifname}"),
            format!("link add {ifname} type veth peer name {ETH} netns {}", endpoint.ns.name()),
            format!("address add {gateway}/24 dev {ifname}"),
            format!("link set {ifname} up"),
        ])
        .expect("another interface");
        endpoint
            .ns
            .ip(&[
                format!("address add {}/24 dev {ETH}", endpoint.v4),
                format!("link set {ETH} up"),
                format!("route add default via {gateway}"),
            ])
            .expect("another interface");
    });
    assert_no_more_lost(result, "another interface");
    // Both found it.
    assert!(result[0] < 900, "{result:?}");
    let socket = udp_flow(&scene.topology.client, VIP_V4.into(), 20_002);
    scene.agent.await_status("it has the programs", |status| {
        status.interfaces.iter().any(|i| i.name == *ifname && i.error.is_none())
    });
    let before = counted(&scene.agent, "redirected");
    exchange(&socket, b"hello").expect("answer");
    assert!(counted(&scene.agent, "redirected") >= before + 2, "past the stack, both ways");
}
