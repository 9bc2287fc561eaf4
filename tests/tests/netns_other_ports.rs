//! Pings and other ports of a service address that is routed to a node and is nobody's.

use std::io::ErrorKind;
use std::net::{IpAddr, SocketAddr, TcpStream, UdpSocket};
use std::time::Duration;

use nix::sys::socket::{AddressFamily, SockFlag, SockProtocol, SockType, socket};
use weir_tests::agent::{Setup, program};
use weir_tests::netns::Netns;
use weir_tests::resource::SplitYaml;
use weir_tests::scene::{PORT, Scene};
use weir_tests::server::tcp_identity;
use weir_tests::topology::{
    CLIENT_FACING, CLIENT_V4, CLIENT_V6, Topology, VIP_V4, VIP_V6, packets,
};

const TIMEOUT: Duration = Duration::from_secs(5);

fn vips() -> [SocketAddr; 2] {
    [VIP_V4.into(), VIP_V6.into()].map(|ip: IpAddr| SocketAddr::new(ip, 9080))
}

/// A node whose default route leads back to where clients are.
fn scene(hook: &'static str, choice: &str) -> Scene {
    let splits = |topology: &Topology| {
        let [v4, v6] = vips().map(|vip| {
            let name = if vip.is_ipv4() { "reviews" } else { "ratings" };
            let ips = topology.ips(&["v1-a"], vip.ip());
            SplitYaml::tcp(name, vip).subset("v1", 1, &ips, PORT).text()
        });
        let lines = format!("hashSeed: 7\notherPorts: {choice}\n");
        Setup::default().forward(hook).config(&lines).split(&v4).split(&v6)
    };
    let scene = Scene::new(&["v1-a"], splits).unwrap();
    let node = &scene.topology.node;
    for gateway in [IpAddr::from(CLIENT_V4), CLIENT_V6.into()] {
        node.ip(&[format!("route add default via {gateway} dev {CLIENT_FACING}")]).unwrap();
    }
    let client = &scene.topology.client;
    client.sysctl("net/ipv4/ping_group_range", "0 0").unwrap();
    // As a router does, which takes the address to be the node's.
    client.sysctl("net/ipv4/ip_forward", "1").unwrap();
    client.sysctl("net/ipv6/conf/all/forwarding", "1").unwrap();
    // Behind a router, clients have other addresses than it.
    client.sysctl("net/ipv4/conf/all/accept_local", "1").unwrap();
    scene
}

/// What `weir doctor` finds of loops.
fn loops(scene: &Scene) -> usize {
    let mut command = scene.topology.node.command(program().unwrap().to_str().unwrap());
    command.arg("--socket").arg(scene.agent.socket()).arg("doctor");
    command.arg("--config").arg(scene.agent.directory().join("agent.yaml"));
    let output = command.output().unwrap();
    let text = String::from_utf8(output.stdout).unwrap();
    text.lines().filter(|line| line.starts_with("PROBLEM") && line.contains("go round")).count()
}

/// Sends an echo request; what comes back, if anything does.
fn ping(client: &Netns, to: IpAddr, patience: Duration) -> std::io::Result<Vec<u8>> {
    client.run(|| {
        let (family, protocol) = match to {
            IpAddr::V4(_) => (AddressFamily::Inet, SockProtocol::Icmp),
            IpAddr::V6(_) => (AddressFamily::Inet6, SockProtocol::IcmpV6),
        };
        let socket = socket(family, SockType::Datagram, SockFlag::SOCK_CLOEXEC, protocol)?;
        let socket = UdpSocket::from(socket);
        socket.set_read_timeout(Some(patience))?;
        let kind = if to.is_ipv4() { 8 } else { 128 };
        socket.send_to(&[&[kind, 0, 0, 0, 0, 0, 0, 1][..], b"payload"].concat(), (to, 0))?;
        let mut buffer = [0; 100];
        let (length, from) = socket.recv_from(&mut buffer)?;
        assert_eq!(from.ip(), to);
        Ok(buffer[..length].to_vec())
    })
}

#[test]
fn what_is_for_no_split_goes_round_and_doctor_says_so() {
    let scene = scene("tc", "pass");
    assert_eq!(loops(&scene), 2);
    let client = &scene.topology.client;
    let [before, _] = packets(&scene.topology.node, CLIENT_FACING).unwrap();
    assert!(ping(client, VIP_V4.into(), Duration::from_millis(500)).is_err());
    let [after, _] = packets(&scene.topology.node, CLIENT_FACING).unwrap();
    println!("a ping came in {} times", after - before);
    assert!(after - before > 20, "{}", after - before);
    // The other choice that doctor names.
    for vip in vips() {
        scene.topology.node.ip(&[format!("route add unreachable {}", vip.ip())]).unwrap();
    }
    assert_eq!(loops(&scene), 0);
}

#[test]
fn what_is_for_no_split_is_answered_where_that_is_chosen() {
    for hook in ["tc", "xdp"] {
        let scene = scene(hook, "answer");
        assert_eq!(loops(&scene), 0);
        let client = &scene.topology.client;
        for vip in vips() {
            let what = format!("{hook} {vip}");
            let reply = ping(client, vip.ip(), TIMEOUT).unwrap_or_else(|e| panic!("{what}: {e}"));
            assert_eq!(reply[0], if vip.is_ipv4() { 0 } else { 129 }, "{what}");
            assert_eq!(&reply[8..], b"payload", "{what}");
            let other = SocketAddr::new(vip.ip(), 22);
            let refused = client.run(|| TcpStream::connect_timeout(&other, TIMEOUT).map(drop));
            assert_eq!(refused.map_err(|e| e.kind()), Err(ErrorKind::ConnectionRefused), "{what}");
            let refused = client.run(|| {
                let socket = UdpSocket::bind((if vip.is_ipv4() { "0.0.0.0" } else { "::" }, 0))?;
                socket.connect(vip)?;
                socket.set_read_timeout(Some(TIMEOUT))?;
                socket.send(b"question")?;
                socket.recv(&mut [0; 10])
            });
            assert_eq!(refused.map_err(|e| e.kind()), Err(ErrorKind::ConnectionRefused), "{what}");
            let answer = client.run(|| tcp_identity(vip, TIMEOUT));
            assert_eq!(answer.unwrap(), "v1-a", "{what}");
        }
        let reasons = scene.agent.status().unwrap().reasons;
        assert_eq!(reasons["answer_other"], 6, "{hook}");
        // An address is the service's for as long as a split has it.
        scene.agent.replace("splits.yaml", "");
        scene.agent.await_status("no split is left", |status| {
            status.maps.iter().any(|map| map.kind == "splits" && map.used <= 2)
                && scene.agent.split("reviews").is_err()
        });
        assert!(ping(client, VIP_V4.into(), Duration::from_millis(300)).is_err(), "{hook}");
    }
}
