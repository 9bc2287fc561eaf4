//! The harness itself: namespaces, topology and servers. Needs root.

use std::net::{IpAddr, Ipv6Addr, SocketAddr};
use std::path::PathBuf;
use std::process::Stdio;
use std::time::{Duration, Instant};

use weir_tests::netns::Netns;
use weir_tests::server::{
    Server, bulk_identity, bulk_receive, bulk_send, tcp_identity, udp_identity,
};
use weir_tests::topology::{CLIENT_FACING, EndpointSpec, Topology, VIP_V4, set_tx_offload};

const TIMEOUT: Duration = Duration::from_secs(5);

fn any(port: u16) -> SocketAddr {
    SocketAddr::new(Ipv6Addr::UNSPECIFIED.into(), port)
}

#[test]
fn client_reaches_endpoints_directly() {
    let topology =
        Topology::new(&[EndpointSpec::new("v1-a"), EndpointSpec::new("v2-a")]).expect("topology");
    let left: Vec<PathBuf> = topology.namespaces().map(Netns::path).collect();
    assert_eq!(left.len(), 4);
    assert!(left.iter().all(|path| path.exists()));

    let servers: Vec<_> = topology
        .endpoints
        .iter()
        .map(|e| {
            [
                Server::tcp(&e.ns, any(80), &e.name).unwrap(),
                Server::bulk(&e.ns, any(81), &e.name).unwrap(),
                Server::udp(&e.ns, any(80), &e.name).unwrap(),
            ]
        })
        .collect();
    for offload in [true, false] {
        for ifname in [CLIENT_FACING, "veth-ep1", "veth-ep2"] {
            set_tx_offload(&topology.node, ifname, offload).expect("offload");
        }
        topology.client.run(|| {
            for endpoint in &topology.endpoints {
                for ip in [IpAddr::from(endpoint.v4), IpAddr::from(endpoint.v6)] {
                    let (a, b) = (SocketAddr::new(ip, 80), SocketAddr::new(ip, 81));
                    assert_eq!(tcp_identity(a, TIMEOUT).expect("tcp"), endpoint.name);
                    assert_eq!(udp_identity(a, "ping pong", TIMEOUT).expect("udp"), endpoint.name);
                    assert_eq!(bulk_identity(b, TIMEOUT).expect("identity"), endpoint.name);
                    bulk_send(b, 1_000_001, TIMEOUT).expect("send");
                    bulk_receive(b, 1_000_001, TIMEOUT).expect("receive");
                }
            }
        });
    }
    assert_eq!(servers[0][0].served(), 4);
    assert_eq!(servers[1][2].served(), 4);
    // Without weir nobody answers for the service address.
    let vip = SocketAddr::new(VIP_V4.into(), 80);
    assert!(topology.client.run(|| tcp_identity(vip, Duration::from_millis(300))).is_err());

    drop(servers);
    drop(topology);
    assert!(left.iter().all(|path| !path.exists()), "left behind: {left:?}");
}

#[test]
fn servers_are_fast_enough() {
    let topology = Topology::new(&[EndpointSpec::new("v1-a")]).expect("topology");
    let endpoint = &topology.endpoints[0];
    let server = Server::tcp(&endpoint.ns, any(80), "v1-a").unwrap();
    let (address, start) = (SocketAddr::new(endpoint.v4.into(), 80), Instant::now());
    topology.client.run(|| {
        std::thread::scope(|scope| {
            for _ in 0..4 {
                scope.spawn(|| {
                    for _ in 0..1_000 {
                        tcp_identity(address, TIMEOUT).expect("tcp");
                    }
                });
            }
        });
    });
    assert_eq!(server.served(), 4_000);
    println!("4000 connections of 4 clients in {:?}", start.elapsed());
    // Generous: other tests run at the same time.
    assert!(start.elapsed() < Duration::from_secs(20));
}

#[test]
fn a_dropped_server_ends_its_connections() {
    let ns = Netns::new().expect("namespace");
    let server = Server::tcp(&ns, any(0), "x").unwrap();
    let address = SocketAddr::new(Ipv6Addr::LOCALHOST.into(), server.address().port());
    let stream = ns.run(|| std::net::TcpStream::connect(address)).expect("connect");
    let start = Instant::now();
    drop(server);
    assert!(start.elapsed() < Duration::from_secs(2));
    drop(stream);
    // The port is free again at once.
    Server::tcp(&ns, address, "y").expect("bind again");
}

#[test]
fn panic_passes_and_cleans_up() {
    let mut path = PathBuf::new();
    let result = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
        let ns = Netns::new().expect("namespace");
        path = ns.path();
        ns.run(|| panic!("on purpose"));
    }));
    assert_eq!(result.unwrap_err().downcast_ref::<&str>(), Some(&"on purpose"));
    assert!(path.file_name().is_some() && !path.exists());
}

#[test]
fn run_returns_and_is_inside() {
    let ns = Netns::new().expect("namespace");
    let inside = ns.run(|| std::fs::read_link("/proc/thread-self/ns/net").unwrap());
    let by_command = ns.output("readlink", &["/proc/self/ns/net"]).expect("readlink");
    assert_eq!(inside.to_str(), Some(by_command.trim()));
    assert_ne!(inside, std::fs::read_link("/proc/thread-self/ns/net").unwrap());
    assert!(ns.output("false", &[]).is_err());
}

#[test]
fn drop_ends_only_its_own_children() {
    let (one, other) = (Netns::new().expect("namespace"), Netns::new().expect("namespace"));
    let sleep = |ns: &Netns| ns.command("sleep").arg("60").stdout(Stdio::null()).spawn().unwrap();
    let (mut ended, mut running) = (sleep(&one), sleep(&other));
    drop(one);
    assert!(!ended.wait().expect("wait").success());
    assert!(running.try_wait().expect("wait").is_none());
    drop(other);
    assert!(!running.wait().expect("wait").success());
}
