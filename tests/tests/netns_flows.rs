//! Flows that are unlike a client's first connection to a service.

use std::collections::BTreeMap;
use std::io::{Read, Write};
use std::net::{IpAddr, SocketAddr, TcpStream};
use std::time::Duration;

use socket2::SockRef;
use weir::model::Protocol;
use weir_tests::agent::{SPLITS, Setup};
use weir_tests::client::{connect_from, exchange, ports, survey, tally, udp_from};
use weir_tests::netns::Netns;
use weir_tests::resource::SplitYaml;
use weir_tests::scene::{BULK, PORT, Scene};
use weir_tests::server::read_line;
use weir_tests::stats::assert_shares;
use weir_tests::topology::{Topology, VIP_V4, VIP_V6, client_ip};

const PROTOCOLS: [Protocol; 2] = [Protocol::Tcp, Protocol::Udp];

fn families() -> [IpAddr; 2] {
    [VIP_V4.into(), VIP_V6.into()]
}

fn name(base: &str, protocol: Protocol, vip: IpAddr) -> String {
    format!("{base}-{protocol}-{}", if vip.is_ipv4() { "v4" } else { "v6" }).to_lowercase()
}

/// Splits of this name and port for both protocols and families, all alike.
fn splits(
    setup: Setup,
    topology: &Topology,
    base: &str,
    port: u16,
    subsets: &[(u32, &[&str])],
) -> Setup {
    let mut setup = setup;
    for (vip, protocol) in families().into_iter().flat_map(|vip| PROTOCOLS.map(|p| (vip, p))) {
        let split =
            SplitYaml::new(&name(base, protocol, vip), SocketAddr::new(vip, port), protocol);
        let split = subsets.iter().enumerate().fold(split, |split, (n, (weight, names))| {
            split.subset(&format!("s{n}"), *weight, &topology.ips(names, vip), PORT)
        });
        setup = setup.split(&split.text());
    }
    setup
}

/// Sends bytes and expects them back.
fn echo(stream: &mut TcpStream, what: &str) {
    let payload = [0x5a; 3000];
    let mut answer = [0; 3000];
    stream.write_all(&payload).unwrap_or_else(|error| panic!("{what}: {error}"));
    stream.read_exact(&mut answer).unwrap_or_else(|error| panic!("{what}: {error}"));
    assert_eq!(answer, payload, "{what}");
}

#[test]
fn an_endpoint_reaches_its_own_service_and_itself() {
    for hook in ["tc", "xdp"] {
        let scene = Scene::new(&["a", "b"], |t| {
            splits(Setup::default().forward(hook), t, "reviews", 9080, &[(1, &["a"]), (1, &["b"])])
        })
        .unwrap();
        let endpoint = scene.topology.endpoint("a");
        for (vip, protocol) in families().into_iter().flat_map(|vip| PROTOCOLS.map(|p| (vip, p))) {
            let what = format!("{hook}, {protocol}, {vip}");
            let sources = ports(endpoint.ip(vip), 10_000..10_400);
            let to = SocketAddr::new(vip, 9080);
            let answers = survey(&endpoint.ns, protocol, to, &sources);
            let counts = tally(&answers).unwrap_or_else(|kind| panic!("{what}: {kind}"));
            println!("{what}: {counts:?}");
            assert_shares(&[counts["a"], counts["b"]], &[1, 1], &what);
        }
        // Content, in a connection to itself.
        let vip = SocketAddr::new(VIP_V4.into(), 9080);
        let mut own = endpoint.ns.run(|| {
            (11_000..11_100).find_map(|port| {
                let source = SocketAddr::new(endpoint.v4.into(), port);
                let mut stream = connect_from(source, vip).expect("connect");
                (read_line(&mut stream).expect("identity") == "a").then_some(stream)
            })
        });
        echo(own.as_mut().expect("one of a hundred connections is to itself"), hook);
    }
}

#[test]
fn one_client_port_reaches_one_endpoint_through_two_services() {
    for hook in ["tc", "xdp"] {
        let scene = Scene::new(&["a"], |t| {
            let setup = Setup::default().forward(hook);
            let setup = splits(setup, t, "reviews", 9080, &[(1, &["a"])]);
            splits(setup, t, "ratings", 9081, &[(1, &["a"])])
        })
        .unwrap();
        let client = &scene.topology.client;
        for vip in families() {
            let to = [9080, 9081].map(|port| SocketAddr::new(vip, port));
            for source in ports(client_ip(vip), 10_000..10_050) {
                let what = format!("{hook}, {source}");
                let mut open = to.map(|to| {
                    let stream = client.run(|| connect_from(source, to));
                    stream.unwrap_or_else(|error| panic!("{what} to {to}: {error}"))
                });
                for stream in &mut open {
                    assert_eq!(read_line(stream).expect(&what), "a", "{what}");
                }
                // Both are open, and neither gets what is the other's.
                for _ in 0..2 {
                    open.iter_mut().for_each(|stream| echo(stream, &what));
                }
                let sockets = to.map(|to| client.run(|| udp_from(source, to)).expect(&what));
                for round in 0..2 {
                    for (n, socket) in sockets.iter().enumerate() {
                        let payload = format!("service {n}, round {round}");
                        let answer = exchange(socket, payload.as_bytes());
                        assert_eq!(answer.unwrap_or_else(|e| panic!("{what}, UDP: {e}")), "a");
                    }
                }
            }
        }
        let reasons = scene.agent.status().expect("status").reasons;
        assert!(reasons["flow_port_changed"] >= 200, "{hook}: {reasons:?}");
    }
}

/// Gives the client all addresses of 10.200.0.0/16, one network of clients.
fn many_clients(topology: &Topology) {
    topology.client.ip(&["route add local 10.200.0.0/16 dev lo"]).expect("addresses");
    let route = format!("route add 10.200.0.0/16 via {}", client_ip(VIP_V4.into()));
    topology.node.ip(&[route]).expect("route");
    // The endpoints answer by their default route.
}

/// Which endpoint each client reaches from a port.
fn by_client(
    ns: &Netns,
    to: SocketAddr,
    clients: &[IpAddr],
    port: u16,
) -> BTreeMap<IpAddr, String> {
    let sources: Vec<_> = clients.iter().map(|&ip| SocketAddr::new(ip, port)).collect();
    let answers = survey(ns, Protocol::Tcp, to, &sources);
    let answers = answers.into_iter().map(|answer| answer.expect("an answer"));
    clients.iter().copied().zip(answers).collect()
}

#[test]
fn a_client_with_affinity_stays_while_the_weight_of_its_subset_grows() {
    let vip = SocketAddr::new(VIP_V4.into(), 9080);
    let document = |topology: &Topology, weights: [u32; 2]| {
        let ips = |names: &[&str]| topology.ips(names, vip.ip());
        SplitYaml::tcp("reviews", vip)
            .client_ip()
            .subset("v1", weights[0], &ips(&["v1-a", "v1-b"]), PORT)
            .subset("v2", weights[1], &ips(&["v2-a"]), PORT)
            .text()
    };
    let names = ["v1-a", "v1-b", "v2-a"];
    let scene = Scene::new(&names, |t| Setup::default().split(&document(t, [90, 10]))).unwrap();
    many_clients(&scene.topology);
    let client = &scene.topology.client;
    let clients: Vec<IpAddr> =
        (0..2000_u16).map(|n| IpAddr::from([10, 200, (n >> 8) as u8, n as u8])).collect();
    let mut before = by_client(client, vip, &clients, 20_000);
    for (round, v2) in [10, 10, 30, 60, 100].into_iter().enumerate() {
        let weights = [100 - v2, v2];
        let pairs = [("v1", weights[0]), ("v2", weights[1])];
        scene.agent.weights("reviews", &pairs).unwrap();
        let now = by_client(client, vip, &clients, 20_001 + round as u16);
        let on_v2 = now.values().filter(|name| *name == "v2-a").count() as u64;
        println!("v2 has {v2} %: {on_v2} of {} clients", clients.len());
        let shares = [clients.len() as u64 - on_v2, on_v2];
        assert_shares(&shares, &weights.map(u64::from), &format!("clients, {weights:?}"));
        for (ip, endpoint) in &now {
            let moved = before[ip] != *endpoint;
            assert!(!moved || endpoint == "v2-a", "{ip} moved from {} to {endpoint}", before[ip]);
            assert!(!moved || round != 0, "{ip} moved although no weight was changed");
        }
        before = now;
    }
    // Back to flows of their own: the same clients reach several endpoints.
    let without = document(&scene.topology, [50, 50]).replace("ClientIP", "None");
    scene.agent.replace(SPLITS, &without);
    scene.agent.await_status("no affinity", |_| {
        scene
            .agent
            .split("reviews")
            .is_ok_and(|split| split.settings.affinity == weir::model::Affinity::None)
    });
    let sources = ports(clients[0], 30_000..30_100);
    let answers = survey(client, Protocol::Tcp, vip, &sources);
    assert_eq!(tally(&answers).expect("answers").len(), 3);
}

/// Who answers from `source`; the connection is reset then.
fn reset(source: SocketAddr, to: SocketAddr) -> String {
    let mut stream = connect_from(source, to).expect("connect");
    let identity = read_line(&mut stream).expect("identity");
    SockRef::from(&stream).set_linger(Some(Duration::ZERO)).expect("linger");
    identity
}

/// Who answers from `source`; the connection is closed by the endpoint first, so that the client
/// may use its port again at once.
fn finish(source: SocketAddr, to: SocketAddr) -> String {
    let mut stream = connect_from(source, to).expect("connect");
    stream.write_all(b"I").expect("ask");
    let identity = read_line(&mut stream).expect("identity");
    assert_eq!(stream.read(&mut [0]).expect("end of stream"), 0);
    identity
}

#[test]
fn a_port_that_is_used_again_is_steered_by_todays_weights() {
    type Talk = fn(SocketAddr, SocketAddr) -> String;
    let cases: [(&str, u16, Talk); 2] = [("after RST", PORT, reset), ("after FIN", BULK, finish)];
    for vip in families() {
        for (what, port, talk) in cases {
            let to = SocketAddr::new(vip, 9080);
            let scene = Scene::new(&["a", "b"], |t| {
                let split = SplitYaml::tcp("reviews", to)
                    .subset("a", 1, &t.ips(&["a"], vip), port)
                    .subset("b", 0, &t.ips(&["b"], vip), port);
                Setup::default().split(&split.text())
            })
            .unwrap();
            let source = SocketAddr::new(client_ip(vip), 10_000);
            for round in 0..10 {
                let (weights, expected) =
                    if round % 2 == 0 { ([1, 0], "a") } else { ([0, 1], "b") };
                let weights = [("a", weights[0]), ("b", weights[1])];
                scene.agent.weights("reviews", &weights).unwrap();
                let answer = scene.topology.client.run(|| talk(source, to));
                assert_eq!(answer, expected, "{what}, {vip}, round {round}");
            }
            let reasons = scene.agent.status().expect("status").reasons;
            assert!(reasons["flow_reused"] >= 9, "{what}, {vip}: {reasons:?}");
        }
    }
}
