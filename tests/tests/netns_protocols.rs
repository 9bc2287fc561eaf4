//! Packets to a service address that are no business of weir reach the node's stack as they are:
//! SCTP, UDP-Lite and others that have ports like TCP and UDP, and ICMP.

use std::io::ErrorKind;
use std::net::{IpAddr, SocketAddr, UdpSocket};
use std::time::Duration;

use socket2::{Domain, Protocol, Socket, Type};
use weir_tests::agent::Setup;
use weir_tests::netns::Netns;
use weir_tests::resource::SplitYaml;
use weir_tests::scene::{PORT, Scene};
use weir_tests::topology::{VIP_V4, VIP_V6, client_ip};

/// SCTP, UDP-Lite, DCCP, GRE.
const PROTOCOLS: [i32; 4] = [132, 136, 33, 47];
const TIMEOUT: Duration = Duration::from_secs(30);

fn raw(ns: &Netns, like: IpAddr, protocol: i32) -> Socket {
    let domain = if like.is_ipv4() { Domain::IPV4 } else { Domain::IPV6 };
    let socket = ns.run(|| Socket::new(domain, Type::RAW, Some(Protocol::from(protocol))));
    let socket = socket.unwrap_or_else(|error| panic!("protocol {protocol}: {error}"));
    socket.set_read_timeout(Some(TIMEOUT)).expect("a time-out");
    socket
}

/// What comes next behind the IP header, from that address.
fn receive(socket: &Socket, from: IpAddr) -> std::io::Result<Vec<u8>> {
    let socket = UdpSocket::from(socket.try_clone()?);
    let mut buffer = [0; 2048];
    loop {
        let (length, sender) = socket.recv_from(&mut buffer)?;
        if sender.ip() == from {
            // IPv4 gives the IP header, too.
            let start = if from.is_ipv4() { usize::from(buffer[0] & 15) * 4 } else { 0 };
            return Ok(buffer[start..length].to_vec());
        }
    }
}

/// Asks for an echo, which the node has to send.
fn echo(client: &Netns, vip: IpAddr) -> std::io::Result<()> {
    let (domain, protocol, [ask, answer]) = if vip.is_ipv4() {
        (Domain::IPV4, Protocol::ICMPV4, [8, 0])
    } else {
        (Domain::IPV6, Protocol::ICMPV6, [128, 129])
    };
    client.sysctl("net/ipv4/ping_group_range", "0 2147483647").expect("sysctl");
    let socket = client.run(|| Socket::new(domain, Type::DGRAM, Some(protocol)))?;
    socket.connect(&SocketAddr::new(vip, 0).into())?;
    socket.set_read_timeout(Some(TIMEOUT))?;
    // The kernel fills in checksum and identifier.
    let mut message = vec![ask, 0, 0, 0, 0, 0, 0, 7];
    message.extend(b"is anybody there?");
    socket.send(&message)?;
    let mut buffer = [0; 2048];
    let length = UdpSocket::from(socket).recv(&mut buffer)?;
    assert_eq!((buffer[0], &buffer[8..length]), (answer, &message[8..]), "{vip}: an echo");
    Ok(())
}

#[test]
fn protocols_other_than_tcp_and_udp_pass_to_the_stack() {
    for hook in ["tc", "xdp"] {
        let vips = [IpAddr::from(VIP_V4), VIP_V6.into()];
        let scene = Scene::new(&["v1"], |topology| {
            vips.into_iter().fold(Setup::default().forward(hook), |setup, vip| {
                let (at, ips) = (SocketAddr::new(vip, PORT), topology.ips(&["v1"], vip));
                let family = if vip.is_ipv4() { "v4" } else { "v6" };
                let tcp = SplitYaml::tcp(&format!("tcp-{family}"), at).subset("v1", 1, &ips, PORT);
                let udp = SplitYaml::udp(&format!("udp-{family}"), at).subset("v1", 1, &ips, PORT);
                setup.split(&tcp.text()).split(&udp.text())
            })
        })
        .expect("a scene");
        let (client, node) = (&scene.topology.client, &scene.topology.node);
        let v6 = format!("address add {VIP_V6}/128 dev lo nodad");
        node.ip(&["link set lo up".into(), format!("address add {VIP_V4}/32 dev lo"), v6])
            .expect("the node has the service addresses");
        let before = scene.agent.status().expect("status").reasons;
        for (vip, protocol) in vips.iter().flat_map(|vip| PROTOCOLS.map(|p| (*vip, p))) {
            let what = format!("{hook}, {vip}, protocol {protocol}");
            let (sender, receiver) = (raw(client, vip, protocol), raw(node, vip, protocol));
            let endpoint = raw(&scene.topology.endpoints[0].ns, vip, protocol);
            endpoint.set_read_timeout(Some(Duration::from_millis(1))).expect("a time-out");
            // The first four bytes are where ports are.
            let mut packet = vec![0x12, 0x34, 0, PORT as u8];
            packet.extend((4..64).map(|n| n * 3));
            sender.send_to(&packet, &SocketAddr::new(vip, 0).into()).expect("sent");
            let got = receive(&receiver, client_ip(vip)).unwrap_or_else(|e| panic!("{what}: {e}"));
            assert_eq!(got, packet, "{what}");
            let at_endpoint = receive(&endpoint, client_ip(vip)).expect_err("nothing came");
            assert_eq!(at_endpoint.kind(), ErrorKind::WouldBlock, "{what}");
        }
        for vip in vips {
            echo(client, vip).unwrap_or_else(|error| panic!("{hook}, {vip}: {error}"));
        }
        let after = scene.agent.status().expect("status").reasons;
        assert_eq!(after, before, "{hook}: nothing is counted");
    }
}
