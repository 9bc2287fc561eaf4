//! The way past the node's stack: that it is taken, what is left to the stack, and that it
//! follows what changes on the node.

use std::collections::BTreeSet;
use std::io::{ErrorKind, Read as _, Write as _};
use std::net::{IpAddr, SocketAddr, TcpStream, UdpSocket};
use std::os::fd::AsRawFd;
use std::time::{Duration, Instant};

use aya::programs::{SchedClassifier, TcAttachType};
use nix::sys::signal::Signal;
use nix::sys::socket::{setsockopt, sockopt};
use weir::datapath::{Counters, Object, Settings};
use weir::fast_path::{Devices, Filters};
use weir::model::Protocol;
use weir_tests::agent::{Agent, Setup};
use weir_tests::client::{exchange, udp_from};
use weir_tests::netns::Netns;
use weir_tests::priorities::Priorities;
use weir_tests::resource::SplitYaml;
use weir_tests::scene::{BULK, PORT, Scene};
use weir_tests::server::{bulk_receive, bulk_send, connect, read_line};
use weir_tests::topology::{
    CLIENT_FACING, ETH, EndpointSpec, Topology, VIP_V4, VIP_V6, client_ip, set_tx_offload,
};

const TIMEOUT: Duration = Duration::from_secs(10);
/// A packet that has not come by then has been dropped.
const LOST: Duration = Duration::from_millis(400);

/// Where the service listens: TCP lines, TCP bulk, UDP.
const LINES: u16 = 9080;
const BULKS: u16 = 9081;
const DATAGRAMS: u16 = 9082;

fn vips() -> [IpAddr; 2] {
    [VIP_V4.into(), VIP_V6.into()]
}

/// Splits with one endpoint, of both families; `setting` is fastPath's.
fn setup(topology: &Topology, setting: &str) -> Setup {
    let lines = format!("hashSeed: 0x5eed\nfastPath: {setting}\n");
    let mut setup = Setup::default().config(&lines);
    for vip in vips() {
        let family = if vip.is_ipv4() { "v4" } else { "v6" };
        let ports = [
            ("lines", Protocol::Tcp, LINES, PORT),
            ("bulk", Protocol::Tcp, BULKS, BULK),
            ("udp", Protocol::Udp, DATAGRAMS, PORT),
        ];
        for (name, protocol, port, to) in ports {
            let address = SocketAddr::new(vip, port);
            let split = SplitYaml::new(&format!("{name}-{family}"), address, protocol);
            setup = setup.split(&split.subset("v1", 1, &topology.ips(&["a"], vip), to).text());
        }
    }
    setup
}

fn scene(setting: &str) -> Scene {
    Scene::new(&["a"], |t| setup(t, setting)).expect("scene")
}

/// Packets by reason, also without an agent.
fn counted(agent: &Agent, reason: &str) -> u64 {
    let counters = Counters::pinned(agent.pins()).expect("pinned counters");
    counters.reasons().expect("reasons")[reason]
}

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

/// A UDP flow that both sides have spoken in.
fn udp_flow(client: &Netns, vip: IpAddr, port: u16) -> UdpSocket {
    let to = SocketAddr::new(vip, DATAGRAMS);
    let socket =
        client.run(|| udp_from(SocketAddr::new(client_ip(vip), port), to)).expect("socket");
    socket.set_read_timeout(Some(TIMEOUT)).expect("time-out");
    for _ in 0..2 {
        assert_eq!(exchange(&socket, b"hello").expect("answer"), "a");
    }
    socket
}

/// A TCP flow to a server that sends back what it gets.
fn tcp_flow(client: &Netns, vip: IpAddr) -> TcpStream {
    let mut stream = client.run(|| connect(SocketAddr::new(vip, LINES), TIMEOUT)).expect("connect");
    assert_eq!(read_line(&mut stream).expect("identity"), "a");
    stream
}

fn echo(stream: &mut TcpStream) -> std::io::Result<()> {
    let mut answer = [0; 5];
    stream.write_all(b"hello")?;
    stream.read_exact(&mut answer)?;
    assert_eq!(&answer, b"hello");
    Ok(())
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
}

#[test]
fn a_firewall_closes_the_way_and_opens_it_when_it_goes() {
    let scene = scene("auto");
    let (client, node, agent) = (&scene.topology.client, &scene.topology.node, &scene.agent);
    for vip in vips() {
        let mut stream = tcp_flow(client, vip);
        echo(&mut stream).expect("before the rule");
        let endpoint = scene.topology.endpoint("a").ip(vip);
        let family = if vip.is_ipv4() { "ip" } else { "ip6" };
        let rules = format!(
            "table inet fw {{ chain fw {{ type filter hook forward priority 0; \
             {family} daddr {endpoint} drop\n}}\n}}"
        );
        let begun = Instant::now();
        node.output("nft", &[&rules]).expect("rule");
        let status = agent.await_status("the way is closed", |s| !s.fast_path.used);
        let spent = begun.elapsed();
        println!("{vip}: closed after {spent:?}: {}", status.fast_path.reason);
        assert!(spent < Duration::from_secs(1), "{vip}: closed after {spent:?}");
        assert_eq!(status.fast_path.reason, "nftables has chain fw fw at inet forward");
        stream.set_read_timeout(Some(LOST)).expect("time-out");
        let kind = echo(&mut stream).map_err(|error| error.kind());
        assert_eq!(kind, Err(ErrorKind::WouldBlock), "{vip}: the rule drops");

        let begun = Instant::now();
        node.output("nft", &["delete table inet fw"]).expect("no rule");
        agent.await_status("the way is open", |s| s.fast_path.used);
        println!("{vip}: open after {:?}", begun.elapsed());
        stream.set_read_timeout(Some(TIMEOUT)).expect("time-out");
        // What was dropped is sent again.
        let mut late = [0; 5];
        stream.read_exact(&mut late).expect("after the rule");
        let before = counted(agent, "redirected");
        echo(&mut stream).expect("after the rule");
        assert!(counted(agent, "redirected") > before, "{vip}");
    }
}

#[test]
fn what_does_not_tell_of_itself_is_found_too() {
    let scene = scene("auto");
    let (node, agent) = (&scene.topology.node, &scene.agent);
    let await_closed = |reason: &str| {
        let status = agent.await_status(reason, |s| !s.fast_path.used);
        assert_eq!(status.fast_path.reason, reason);
    };
    let await_open = |what: &str| {
        agent.await_status(what, |s| s.fast_path.used);
    };
    for qdisc in ["clsact", "ingress"] {
        node.output("tc", &["qdisc", "add", "dev", CLIENT_FACING, qdisc]).expect(qdisc);
        await_closed(&format!("{qdisc} is behind weir on veth-client"));
        node.output("tc", &["qdisc", "del", "dev", CLIENT_FACING, qdisc]).expect(qdisc);
        await_open(&format!("{qdisc} is gone"));
    }

    let settings = Settings { flows: 1024, ..Settings::default() };
    let mut object = Object::load(&settings).expect("any programs");
    let program = object.ebpf().program_mut("weir_tc_reply").expect("a program");
    let program: &mut SchedClassifier = program.try_into().expect("a classifier");
    let link = node.run(|| program.attach(CLIENT_FACING, TcAttachType::Ingress)).expect("attach");
    let id = program.info().expect("its number").id();
    await_closed(&format!("program {id} is behind weir on veth-client"));
    program.detach(link).expect("detach");
    await_open("the program is gone");

    let policy =
        ["xfrm", "policy", "add", "src", "198.51.100.0/24", "dir", "fwd", "action", "block"];
    node.output("ip", &policy).expect("policy");
    await_closed("1 IPsec policies");
    node.output("ip", &["xfrm", "policy", "flush"]).expect("no policy");
    await_open("policies are gone");

    // Neither does a chain bar that sees no forwarded packets.
    node.output("nft", &["table inet fw { chain fw { type filter hook input priority 0\n}\n}"])
        .expect("chain");
    // One of ip6tables does, and is there until the namespace ends.
    node.run(|| use_legacy_table("mangle")).expect("legacy table");
    await_closed("ip6tables (legacy) has table mangle");
}

#[test]
fn filters_at_ingress_are_listed_whatever_they_hang_on() {
    let ns = Netns::new().expect("namespace");
    ns.ip(&["link add veth-a type veth peer name veth-b"]).expect("link");
    let tc = |line: &str| {
        // Returns TC_ACT_UNSPEC.
        let program = line.starts_with("filter").then_some(["bytecode", "1,6 0 0 4294967295"]);
        let words: Vec<&str> = line.split(' ').chain(program.into_iter().flatten()).collect();
        ns.output("tc", &words).unwrap_or_else(|error| panic!("{line}: {error}"));
    };
    let list = || {
        ns.run(|| {
            let mut devices = Devices::new().expect("netlink");
            let found = devices.list().expect("interfaces");
            let (&index, device) =
                found.iter().find(|(_, device)| device.name == "veth-a").expect("it");
            let filters = devices.ingress_filters(index).expect("filters");
            let places = filters.iter().map(|filter| (filter.priority, filter.handle));
            (device.filters, places.collect::<BTreeSet<_>>())
        })
    };
    assert_eq!(list(), (None, BTreeSet::new()));
    for (qdisc, name) in [(Filters::Clsact, "clsact"), (Filters::Ingress, "ingress")] {
        tc(&format!("qdisc add dev veth-a {name}"));
        assert_eq!(list(), (Some(qdisc), BTreeSet::new()), "{name}");
        tc("filter add dev veth-a parent ffff:fff2 prio 9 handle 4 bpf");
        if qdisc.has_egress() {
            tc("filter add dev veth-a egress prio 8 bpf");
        }
        // The one without a handle stands for all of its priority.
        assert_eq!(list(), (Some(qdisc), BTreeSet::from([(9, 0), (9, 4)])), "{name}");
        tc(&format!("qdisc del dev veth-a {name}"));
    }
}

/// Asks about a table of ip6tables, upon which the kernel makes it.
fn use_legacy_table(name: &str) -> std::io::Result<()> {
    /// IP6T_SO_GET_INFO.
    const GET_INFO: libc::c_int = 64;
    /// `struct ip6t_getinfo`.
    const SIZE: usize = 84;
    let mut info = [0_u8; SIZE];
    info[..name.len()].copy_from_slice(name.as_bytes());
    let socket = socket2::Socket::new(
        socket2::Domain::IPV6,
        socket2::Type::RAW,
        Some(socket2::Protocol::from(libc::IPPROTO_RAW)),
    )?;
    let mut length = SIZE as libc::socklen_t;
    // SAFETY: a buffer of the length that is given.
    let result = unsafe {
        libc::getsockopt(
            socket.as_raw_fd(),
            libc::IPPROTO_IPV6,
            GET_INFO,
            info.as_mut_ptr().cast(),
            &raw mut length,
        )
    };
    if result == 0 { Ok(()) } else { Err(std::io::Error::last_os_error()) }
}

#[test]
fn on_is_the_operators_word() {
    let scene = scene("on");
    let (client, node, agent) = (&scene.topology.client, &scene.topology.node, &scene.agent);
    let mut stream = tcp_flow(client, VIP_V4.into());
    let rules = "table inet fw { chain fw { type filter hook forward priority 0; drop\n}\n}";
    node.output("nft", &[rules]).expect("rule");
    // Notices come at once: whoever follows them has done so when a later change is seen.
    std::thread::sleep(Duration::from_secs(1));
    let before = counted(agent, "redirected");
    echo(&mut stream).expect("past the rule");
    assert!(counted(agent, "redirected") >= before + 2);
    let status = agent.status().expect("status");
    assert_eq!(status.fast_path.reason, "fastPath: on, whatever else is on the node");
    // The first packet of a connection is still the stack's.
    let refused = client.run(|| connect(SocketAddr::new(VIP_V4.into(), LINES), LOST));
    assert_eq!(refused.map(drop).map_err(|error| error.kind()), Err(ErrorKind::TimedOut));
}

#[test]
fn nobody_watches_so_the_way_closes() {
    for (signal, setting, stays) in [
        (Signal::SIGTERM, "auto", false),
        (Signal::SIGKILL, "auto", false),
        (Signal::SIGKILL, "on", true),
    ] {
        let what = format!("{signal}, {setting}");
        let mut scene = scene(setting);
        let socket = udp_flow(&scene.topology.client, VIP_V4.into(), 20_000);
        let before = counted(&scene.agent, "redirected");
        exchange(&socket, b"hello").expect("answer");
        assert!(counted(&scene.agent, "redirected") > before, "{what}");
        scene.agent.end(signal).expect("end");
        // Longer than a choice is valid, and a tick.
        std::thread::sleep(Duration::from_secs(5));
        let before = counted(&scene.agent, "redirected");
        exchange(&socket, b"hello").unwrap_or_else(|error| panic!("{what}: {error}"));
        assert_eq!(counted(&scene.agent, "redirected") > before, stays, "{what}");
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
