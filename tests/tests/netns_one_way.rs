//! Replies that weir sees only where they come in, or that the node sends back to the link they
//! came from: they reach the client in the service's name, with an agent and without.

mod fast_path;

use std::io::ErrorKind;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::time::Duration;

use fast_path::{DATAGRAMS, LOST, TIMEOUT, counted, echo, setup, tcp_flow, udp_flow};
use nix::sys::signal::Signal;
use weir::model::Protocol;
use weir_tests::client::{exchange, udp_from};
use weir_tests::netns::Netns;
use weir_tests::resource::SplitYaml;
use weir_tests::scene::{PORT, Scene};
use weir_tests::server::Server;
use weir_tests::topology::{
    CLIENT_V4, CLIENT_V6, ETH, EndpointSpec, NODE_V4, NODE_V6, Topology, client_ip, vips,
};

/// A service whose endpoint has nobody at its port.
const CLOSED: u16 = 9083;
/// The word that opens the way past the stack has run out by then, without an agent.
const RUN_OUT: Duration = Duration::from_secs(4);

/// Packets to the client leave the node by another interface, where no program is.
fn lead_back_elsewhere(topology: &Topology) {
    let (node, client) = (&topology.node, &topology.client);
    node.ip(&[
        format!("link add back0 type veth peer name back0 netns {}", client.name()),
        "address add 10.8.0.1/24 dev back0".to_owned(),
        "address add 2001:db8:8::1/64 dev back0 nodad".to_owned(),
        "link set back0 up".to_owned(),
    ])
    .expect("link");
    client
        .ip(&[
            "address add 10.8.0.2/24 dev back0",
            "address add 2001:db8:8::2/64 dev back0 nodad",
            "link set back0 up",
        ])
        .expect("link");
    node.ip(&[
        format!("route add {CLIENT_V4} via 10.8.0.2 dev back0"),
        format!("route add {CLIENT_V6} via 2001:db8:8::2 dev back0"),
    ])
    .expect("routes");
}

/// Opens connections and flows, and uses them.
fn serves(client: &Netns, port: u16, what: &str) {
    for vip in vips() {
        let mut stream = tcp_flow(client, vip);
        let datagrams = udp_flow(client, vip, port);
        for _ in 0..5 {
            echo(&mut stream).unwrap_or_else(|error| panic!("{what}, {vip}: {error}"));
            let answer = exchange(&datagrams, b"hello");
            assert_eq!(answer.unwrap_or_else(|e| panic!("{what}, {vip}: {e}")), "a", "{what}");
        }
    }
}

/// Fragments of a reply, and an error of an endpoint.
fn serves_odd_ones(client: &Netns, port: u16, what: &str) {
    for vip in vips() {
        let datagrams = udp_flow(client, vip, port);
        let long = exchange(&datagrams, &[0x55; 4000]);
        assert_eq!(long.unwrap_or_else(|e| panic!("{what}, {vip}: {e}")), "a", "{what}: fragments");
        let source = SocketAddr::new(client_ip(vip), port + 1);
        let closed = client.run(|| udp_from(source, SocketAddr::new(vip, CLOSED))).expect("socket");
        closed.set_read_timeout(Some(TIMEOUT)).expect("time-out");
        let rejected = exchange(&closed, b"anybody?").expect_err("nobody is there");
        assert_eq!(rejected.kind(), ErrorKind::ConnectionRefused, "{what}, {vip}: {rejected}");
    }
}

#[test]
fn replies_that_leave_where_no_program_is_come_from_the_service_with_and_without_an_agent() {
    // Past the stack, whatever it has against the service's address; through it, if nothing.
    for (setting, rp_filter) in [("auto", "1"), ("off", "0")] {
        let topology = Topology::new(&[EndpointSpec::new("a")]).expect("topology");
        lead_back_elsewhere(&topology);
        let ifname = &topology.endpoint("a").node_ifname;
        let key = format!("net/ipv4/conf/{ifname}/rp_filter");
        topology.node.sysctl(&key, rp_filter).expect("rp_filter");
        let mut scene = Scene::on(topology, |t| {
            vips().into_iter().fold(setup(t, setting), |setup, vip| {
                let name = if vip.is_ipv4() { "closed-v4" } else { "closed-v6" };
                let split = SplitYaml::new(name, SocketAddr::new(vip, CLOSED), Protocol::Udp);
                setup.split(&split.subset("v1", 1, &t.ips(&["a"], vip), CLOSED).text())
            })
        })
        .expect("scene");
        let old = vips().map(|vip| tcp_flow(&scene.topology.client, vip));
        serves(&scene.topology.client, 20_000, &format!("{setting}, with an agent"));
        if setting == "off" {
            serves_odd_ones(&scene.topology.client, 21_000, "with an agent");
        }
        scene.agent.end(Signal::SIGKILL).expect("killed");
        if setting == "auto" {
            std::thread::sleep(RUN_OUT);
        }
        for mut stream in old {
            echo(&mut stream).unwrap_or_else(|error| panic!("{setting}, an old one: {error}"));
        }
        serves(&scene.topology.client, 22_000, &format!("{setting}, without an agent"));
        if setting == "off" {
            serves_odd_ones(&scene.topology.client, 23_000, "without an agent");
        }
        let untracked = counted(&scene.agent, "pass_reply_untracked");
        assert_eq!(untracked, 0, "{setting}");
    }
}

/// ICMP redirects that a host has received, of both families.
fn redirects(ns: &Netns) -> u64 {
    let read = |path: &str| std::fs::read_to_string(path).expect("statistics of the stack");
    let (v4, v6) =
        ns.run(|| (read("/proc/thread-self/net/snmp"), read("/proc/thread-self/net/snmp6")));
    let mut icmp = v4.lines().filter_map(|line| line.strip_prefix("Icmp: "));
    let (names, values) = (icmp.next().expect("names"), icmp.next().expect("values"));
    let at = names.split(' ').position(|name| name == "InRedirects").expect("InRedirects");
    let v4: u64 = values.split(' ').nth(at).expect("value").parse().expect("number");
    let v6 = v6.lines().find_map(|line| line.strip_prefix("Icmp6InRedirects"));
    v4 + v6.expect("Icmp6InRedirects").trim().parse::<u64>().expect("number")
}

/// Client, node and endpoint on one link; the node has one interface, and is the others' gateway.
struct OneArm {
    client: Netns,
    node: Netns,
    endpoint: Netns,
    _switch: Netns,
}

const ENDPOINT_V4: Ipv4Addr = Ipv4Addr::new(10, 1, 1, 2);
const ENDPOINT_V6: Ipv6Addr = Ipv6Addr::new(0x2001, 0xdb8, 1, 1, 0, 0, 0, 2);

impl OneArm {
    fn new() -> Self {
        let hosts = [(); 4].map(|()| Netns::new().expect("namespace"));
        let [switch, client, node, endpoint] = &hosts;
        switch.ip(&["link add br0 type bridge", "link set br0 up"]).expect("switch");
        for (n, host) in [client, node, endpoint].into_iter().enumerate() {
            switch
                .ip(&[
                    format!("link add p{n} type veth peer name {ETH} netns {}", host.name()),
                    format!("link set p{n} master br0 up"),
                ])
                .expect("port");
        }
        node.sysctl("net/ipv4/ip_forward", "1").expect("forwarding");
        node.sysctl("net/ipv6/conf/all/forwarding", "1").expect("forwarding");
        // Its only address on the link, from which redirects come.
        node.ip(&[
            format!("link set {ETH} addrgenmode none"),
            format!("link set {ETH} up"),
            format!("address add fe80::1/64 dev {ETH} nodad"),
            format!("address add {NODE_V4}/24 dev {ETH}"),
            format!("address add {NODE_V6}/64 dev {ETH} nodad"),
            format!("address add 10.1.1.1/24 dev {ETH}"),
            format!("address add 2001:db8:1:1::1/64 dev {ETH} nodad"),
        ])
        .expect("node");
        for (host, v4, v6, gateway) in [
            (client, CLIENT_V4, CLIENT_V6, NODE_V4),
            (endpoint, ENDPOINT_V4, ENDPOINT_V6, Ipv4Addr::new(10, 1, 1, 1)),
        ] {
            host.ip(&[
                format!("link set {ETH} up"),
                format!("address add {v4}/24 dev {ETH}"),
                format!("address add {v6}/64 dev {ETH} nodad"),
                format!("route add default via {gateway}"),
                format!("route add default via fe80::1 dev {ETH}"),
            ])
            .expect("host");
        }
        let [switch, client, node, endpoint] = hosts;
        Self { client, node, endpoint, _switch: switch }
    }
}

#[test]
fn a_node_with_one_arm_tells_neither_clients_nor_endpoints_to_go_round_it() {
    let all = OneArm::new();
    let at = |port| SocketAddr::new(Ipv6Addr::UNSPECIFIED.into(), port);
    let _servers = (
        Server::tcp(&all.endpoint, at(PORT), "a").expect("TCP"),
        Server::udp(&all.endpoint, at(PORT), "a").expect("UDP"),
    );
    let mut setup = weir_tests::agent::Setup::default()
        .config("hashSeed: 0x5eed\nfastPath: auto\n")
        .interfaces(&[(ETH, "tc")]);
    for vip in vips() {
        let ip = if vip.is_ipv4() { IpAddr::from(ENDPOINT_V4) } else { ENDPOINT_V6.into() };
        for (protocol, port) in [(Protocol::Tcp, fast_path::LINES), (Protocol::Udp, DATAGRAMS)] {
            let name = format!("{protocol}-{}", if vip.is_ipv4() { "v4" } else { "v6" });
            let split = SplitYaml::new(&name.to_lowercase(), SocketAddr::new(vip, port), protocol);
            setup = setup.split(&split.subset("v1", 1, &[ip], PORT).text());
        }
    }
    let mut agent = setup.start(&all.node).expect("agent");
    // The stack of the node sends redirects, about what is none of weir's business too.
    let [from, to] = [(CLIENT_V4, 30_000), (ENDPOINT_V4, 9)].map(SocketAddr::from);
    let direct = all.client.run(|| udp_from(from, to)).expect("socket");
    direct.set_read_timeout(Some(LOST)).expect("time-out");
    exchange(&direct, b"anybody?").expect_err("nobody is there");
    let others = redirects(&all.client);
    assert!(others > 0, "they are told of a shorter way");
    let mut old = vips().map(|vip| tcp_flow(&all.client, vip));
    serves(&all.client, 20_000, "with an agent");
    agent.end(Signal::SIGKILL).expect("killed");
    std::thread::sleep(RUN_OUT);
    for stream in &mut old {
        echo(stream).expect("an old connection, without an agent");
    }
    serves(&all.client, 22_000, "without an agent");
    let told = [&all.client, &all.endpoint].map(redirects);
    assert_eq!(told, [others, 0], "redirects to client and endpoint");
    assert!(counted(&agent, "drop_redirect") > 0, "there would have been some");
}
