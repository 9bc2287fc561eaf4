//! The way past the node's stack beside connection tracking, which is to see a flow from its first
//! packet on or not at all; and whose flows may go there.

mod fast_path;

use std::collections::BTreeSet;
use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use fast_path::{DATAGRAMS, LINES, LOST, counted, echo, scene, setup, tcp_flow, udp_flow};
use socket2::{Domain, Socket, Type};
use weir::conntrack::{Connection, Conntrack};
use weir_tests::client::{exchange, udp_from};
use weir_tests::netns::Netns;
use weir_tests::scene::Scene;
use weir_tests::topology::{EndpointSpec, Topology, client_ip, vips};

/// Rules that ask for the state of connections, and matter to no steered packet.
const TRACKS: &str = "table inet k {\nchain f {\ntype filter hook forward priority 0;\n\
                      ct state invalid drop\nct state established accept\ncounter\n}\n}\n";
/// A rule that lets all pass, and keeps account of it.
const BARS: &str = "table inet b {\nchain f {\ntype filter hook forward priority 0;\n\
                    limit rate 1000000/second accept\n}\n}\n";

/// The connections that a namespace keeps account of.
fn tracked(ns: &Netns) -> BTreeSet<String> {
    ns.run(|| {
        let mut found = BTreeSet::new();
        let mut conntrack = Conntrack::open().expect("connection tracking");
        let mut put = |connection: Connection| found.insert(format!("{connection:?}"));
        conntrack
            .visit(|entry| {
                put(entry.connection);
            })
            .expect("connections");
        found
    })
}

fn nft(ns: &Netns, rules: &str) {
    ns.output("nft", &[rules]).unwrap_or_else(|error| panic!("{rules}: {error:#}"));
}

/// Loads [`TRACKS`], and waits until the programs know that the stack keeps account of flows.
fn track(ns: &Netns) {
    nft(ns, TRACKS);
    // Nothing shows it: the agent is told at once, and looks twice a second besides.
    std::thread::sleep(Duration::from_secs(1));
}

#[test]
fn what_goes_past_the_stack_leaves_nothing_in_connection_tracking() {
    const CONNECTIONS: usize = 20;
    for setting in ["on", "auto"] {
        let scene = scene(setting);
        let (client, node, agent) = (&scene.topology.client, &scene.topology.node, &scene.agent);
        track(node);
        // These find neighbours unknown, and go through the stack.
        for (vip, port) in vips().into_iter().zip(20_000..) {
            tcp_flow(client, vip);
            udp_flow(client, vip, port);
        }
        agent.await_status("the way is open", |status| status.fast_path.used);
        let before = tracked(node);
        assert!(!before.is_empty(), "{setting}: connections are tracked");
        let redirected = counted(agent, "redirected");
        for (vip, port) in vips().into_iter().zip(20_100..) {
            for n in 0..CONNECTIONS {
                echo(&mut tcp_flow(client, vip)).expect("an echo");
                udp_flow(client, vip, port + 10 * n as u16);
            }
        }
        let new: Vec<String> = tracked(node).difference(&before).cloned().collect();
        assert!(new.is_empty(), "{setting}: {new:?}");
        let redirected = counted(agent, "redirected") - redirected;
        // Of each connection, four datagrams and a dozen segments.
        assert!(redirected >= 16 * CONNECTIONS as u64, "{setting}: {redirected}");
    }
}

#[test]
fn a_flow_goes_the_way_on_which_it_began_whatever_opens_and_shuts() {
    let scene = scene("auto");
    let (client, node, agent) = (&scene.topology.client, &scene.topology.node, &scene.agent);
    track(node);
    nft(node, BARS);
    let shut = agent.await_status("the way is shut", |status| !status.fast_path.used);
    assert!(shut.fast_path.reason.contains("limit"), "{}", shut.fast_path.reason);
    let mut streams = Vec::new();
    for vip in vips() {
        let mut stream = tcp_flow(client, vip);
        echo(&mut stream).expect("through the stack");
        streams.push(stream);
    }
    for round in 0..5 {
        node.output("nft", &["delete table inet b"]).expect("no rule");
        agent.await_status("the way is open", |status| status.fast_path.used);
        let before = counted(agent, "redirected");
        if round == 0 {
            streams.iter_mut().for_each(|stream| echo(stream).expect("through the stack"));
            assert_eq!(counted(agent, "redirected"), before, "they began in the stack");
        }
        // One more that begins past it.
        for vip in vips() {
            let mut stream = tcp_flow(client, vip);
            echo(&mut stream).expect("past the stack");
            streams.push(stream);
        }
        assert!(counted(agent, "redirected") > before, "{round}");
        streams.iter_mut().for_each(|stream| echo(stream).expect("while it is open"));
        nft(node, BARS);
        agent.await_status("the way is shut", |status| !status.fast_path.used);
        let before = counted(agent, "redirected");
        streams.iter_mut().for_each(|stream| echo(stream).expect("while it is shut"));
        assert_eq!(counted(agent, "redirected"), before, "{round}");
    }
}

#[test]
fn who_uses_the_address_of_another_does_not_get_past_the_stack() {
    let topology =
        Topology::new(&[EndpointSpec::new("a"), EndpointSpec::new("thief")]).expect("topology");
    for name in ["all", "veth-client", "veth-ep2"] {
        let key = format!("net/ipv4/conf/{name}/rp_filter");
        topology.node.sysctl(&key, "1").expect("rp_filter");
    }
    let scene = Scene::on(topology, |topology| setup(topology, "on")).expect("scene");
    let (topology, agent) = (&scene.topology, &scene.agent);
    let thief = topology.endpoint("thief");
    track(&topology.node);
    for (vip, port) in vips().into_iter().zip(20_000..) {
        let (own, stolen) = (thief.ip(vip), client_ip(vip));
        let length = if vip.is_ipv4() { 32 } else { 128 };
        let address = format!("address add {stolen}/{length} dev lo");
        thief.ns.ip(&[if vip.is_ipv4() { address } else { address + " nodad" }]).expect("address");
        // Neighbours are known, of the thief and of whom it steals from.
        tcp_flow(&topology.client, vip);
        let from = |source: IpAddr, port| {
            let to = SocketAddr::new(vip, DATAGRAMS);
            let socket = thief.ns.run(|| udp_from(SocketAddr::new(source, port), to));
            let socket = socket.expect("socket");
            socket.set_read_timeout(Some(LOST)).expect("time-out");
            socket
        };
        from(own, port).send(b"hello").expect("sent");
        std::thread::sleep(LOST);
        let before = counted(agent, "redirected");
        let answer = exchange(&from(own, port + 10), b"hello").expect("answer");
        assert_eq!(answer, "a", "{vip}: its own address");
        assert!(counted(agent, "redirected") > before, "{vip}: its own address");
        // The answers go to whom the address belongs to.
        let before = counted(agent, "redirected");
        exchange(&from(stolen, port + 20), b"hello").expect_err("an answer");
        thief.ns.run(|| {
            let domain = Domain::for_address(SocketAddr::new(vip, 0));
            let socket = Socket::new(domain, Type::STREAM, None).expect("socket");
            socket.bind(&SocketAddr::new(stolen, 0).into()).expect("bind");
            let to = SocketAddr::new(vip, LINES);
            socket.connect_timeout(&to.into(), LOST).expect_err("a connection");
        });
        let past = counted(agent, "redirected") - before;
        assert_eq!(past, 0, "{vip}: past the stack");
    }
}
