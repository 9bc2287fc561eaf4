//! A service with one endpoint, of both families and of each protocol, to which the way past the
//! node's stack leads; and flows to it.
// Each test file uses a part of it.
#![allow(dead_code, reason = "shared by several test crates")]

use std::io::{Read as _, Write as _};
use std::net::{IpAddr, SocketAddr, TcpStream, UdpSocket};
use std::time::Duration;

use weir::datapath::Counters;
use weir::model::Protocol;
use weir_tests::agent::{Agent, Setup};
use weir_tests::client::{exchange, udp_from};
use weir_tests::netns::Netns;
use weir_tests::resource::SplitYaml;
use weir_tests::scene::{BULK, PORT, Scene};
use weir_tests::server::{connect, read_line};
use weir_tests::topology::{Topology, client_ip, vips};

pub const TIMEOUT: Duration = Duration::from_secs(10);
/// A packet that has not come by then has been dropped.
pub const LOST: Duration = Duration::from_millis(400);

/// Where the service listens: TCP lines, TCP bulk, UDP.
pub const LINES: u16 = 9080;
pub const BULKS: u16 = 9081;
pub const DATAGRAMS: u16 = 9082;

/// Splits with one endpoint, of both families; `setting` is fastPath's.
pub fn setup(topology: &Topology, setting: &str) -> Setup {
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

pub fn scene(setting: &str) -> Scene {
    Scene::new(&["a"], |t| setup(t, setting)).expect("scene")
}

/// Packets by reason, also without an agent.
pub fn counted(agent: &Agent, reason: &str) -> u64 {
    let counters = Counters::pinned(agent.pins()).expect("pinned counters");
    counters.reasons().expect("reasons")[reason]
}

/// A UDP flow that both sides have spoken in.
pub fn udp_flow(client: &Netns, vip: IpAddr, port: u16) -> UdpSocket {
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
pub fn tcp_flow(client: &Netns, vip: IpAddr) -> TcpStream {
    let mut stream = client.run(|| connect(SocketAddr::new(vip, LINES), TIMEOUT)).expect("connect");
    assert_eq!(read_line(&mut stream).expect("identity"), "a");
    stream
}

pub fn echo(stream: &mut TcpStream) -> std::io::Result<()> {
    let mut answer = [0; 5];
    stream.write_all(b"hello")?;
    stream.read_exact(&mut answer)?;
    assert_eq!(&answer, b"hello");
    Ok(())
}
