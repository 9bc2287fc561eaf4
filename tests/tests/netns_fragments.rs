//! Datagrams that do not fit a packet, through weir and back.

use std::io::ErrorKind;
use std::net::{IpAddr, SocketAddr, UdpSocket};
use std::time::Duration;

use nix::libc;
use nix::sched::{CpuSet, sched_getcpu, sched_setaffinity};
use nix::unistd::Pid;
use socket2::{Domain, Protocol, Socket, Type};
use weir_tests::agent::{Agent, Setup};
use weir_tests::client::{exchange, udp_from};
use weir_tests::netns::Netns;
use weir_tests::packet::Packet;
use weir_tests::path::{self, LEFT, Path};
use weir_tests::resource::SplitYaml;
use weir_tests::rng::Rng;
use weir_tests::scene::{PORT, Scene};
use weir_tests::server::Server;
use weir_tests::topology::{VIP_V4, VIP_V6, client_ip};

/// Bytes of a datagram: whole, cut in three, and cut in forty.
const SIZES: [usize; 3] = [1000, 4_000, 60_000];
/// Clients that send at the same time.
const CLIENTS: u16 = 8;
/// Datagrams of each size from each client.
const ROUNDS: usize = 25;

/// Sends datagrams, each after the answer to the one before.
fn speak(client: SocketAddr, vip: SocketAddr) {
    let socket = udp_from(client, vip).expect("a socket");
    let mut rng = Rng::new(client.port().into());
    let mut buffer = vec![0; 1 << 16];
    for size in (0..ROUNDS).flat_map(|_| SIZES) {
        let question: Vec<u8> = (0..size).map(|_| rng.next_u64() as u8).collect();
        socket.send(&question).expect("a datagram");
        let length = socket.recv(&mut buffer);
        let length = length.unwrap_or_else(|e| panic!("{client} to {vip}, {size} bytes: {e}"));
        let answer = &buffer[..length];
        assert!(
            answer.strip_prefix(b"v1-a ") == Some(&question)
                || answer.strip_prefix(b"v1-b ") == Some(&question),
            "{client} to {vip}, {size} bytes: {length} bytes of something else"
        );
    }
}

/// Keeps this thread, and those that it starts, on one CPU: a sender that moves to another one
/// in the middle of a datagram may have its fragments overtake each other. What comes of that is
/// tested in `kernel_fragments`.
fn stay_on_this_cpu() {
    let mut cpus = CpuSet::new();
    cpus.set(sched_getcpu().expect("a CPU")).expect("a number of a CPU");
    sched_setaffinity(Pid::from_raw(0), &cpus).expect("affinity");
}

fn check(hook: &'static str) {
    stay_on_this_cpu();
    let scene = Scene::new(&["v1-a", "v1-b"], |topology| {
        let start = Setup::default().forward(hook);
        [IpAddr::from(VIP_V4), VIP_V6.into()].into_iter().fold(start, |setup, vip| {
            let name = if vip.is_ipv4() { "v4" } else { "v6" };
            let split = SplitYaml::udp(name, SocketAddr::new(vip, PORT));
            let ips = topology.ips(&["v1-a", "v1-b"], vip);
            setup.split(&split.subset("v1", 1, &ips, PORT).text())
        })
    })
    .expect("a scene");
    for vip in [IpAddr::from(VIP_V4), VIP_V6.into()] {
        scene.topology.client.run(|| {
            std::thread::scope(|scope| {
                for n in 0..CLIENTS {
                    let client = SocketAddr::new(client_ip(vip), 20_000 + n);
                    scope.spawn(move || speak(client, SocketAddr::new(vip, PORT)));
                }
            });
        });
        let datagrams = usize::from(CLIENTS) * ROUNDS * SIZES.len();
        println!("{hook}, {vip}: {datagrams} datagrams of up to 60,000 bytes there and back");
    }
    let reasons = scene.agent.status().expect("status").reasons;
    assert_eq!(reasons["pass_fragment"], 0, "{hook}: fragments that did not follow");
}

#[test]
fn datagrams_in_fragments_come_whole_forward_at_tc() {
    check("tc");
}

#[test]
fn datagrams_in_fragments_come_whole_forward_at_xdp() {
    check("xdp");
}

/// Sends the fragments of a datagram last to first, with a socket that takes whole IP packets.
fn send_reversed(ns: &Netns, id: u32, from: SocketAddr, to: SocketAddr, payload: &[u8]) {
    let domain = if to.is_ipv4() { Domain::IPV4 } else { Domain::IPV6 };
    let raw = Some(Protocol::from(libc::IPPROTO_RAW));
    let socket = ns.run(|| Socket::new(domain, Type::RAW, raw)).expect("a raw socket");
    let fragments = Packet::udp(from, to).id(id).payload(payload).build_fragments(1400);
    for frame in fragments.iter().rev() {
        socket.send_to(&frame[14..], &SocketAddr::new(to.ip(), 0).into()).expect("sent");
    }
}

/// A datagram whose fragments come reversed is lost, and counted; and comes whole once `tracker`
/// tracks connections. `send` sends one of that number, of which `receiver` gets `wanted`.
fn check_reversed(
    agent: &Agent,
    tracker: &Netns,
    receiver: &UdpSocket,
    wanted: &[u8],
    send: impl Fn(u32),
    what: &str,
) {
    const TIMEOUT: Duration = Duration::from_secs(30);
    const PATIENCE: Duration = Duration::from_millis(500);
    let passed = || agent.status().expect("status").reasons["pass_fragment"];
    let (mut buffer, before) = (vec![0; 1 << 14], passed());
    receiver.set_read_timeout(Some(PATIENCE)).expect("a time-out");
    send(0xbeef);
    let lost = receiver.recv(&mut buffer).expect_err("it is lost");
    assert_eq!(lost.kind(), ErrorKind::WouldBlock, "{what}");
    assert_eq!(passed() - before, 4, "{what}: all but the first fragment");
    let tracking = "table inet tracking { chain every { type filter hook prerouting priority 0\n\
                    ct state invalid drop\n}\n}";
    tracker.output("nft", &[tracking]).expect("nft");
    receiver.set_read_timeout(Some(TIMEOUT)).expect("a time-out");
    send(0xbef0);
    let length = receiver.recv(&mut buffer).unwrap_or_else(|e| panic!("{what}: {e}"));
    assert!(buffer[..length] == *wanted, "{what}: {length} bytes");
    assert_eq!(passed() - before, 4, "{what}: all followed the first");
    tracker.output("nft", &["delete table inet tracking"]).expect("nft");
}

/// Fragments that a network delivers in another order: weir holds none back, so those before the
/// first one are lost. What an operator can do is have a router before the node put them together,
/// as Linux does where it tracks connections: they leave it in order. For replies, the node itself
/// can do that.
#[test]
fn who_tracks_connections_before_weir_puts_fragments_into_order() {
    stay_on_this_cpu();
    for hook in ["tc", "xdp"] {
        let path = Path::new(0, 1500).expect("a path");
        let vips = [IpAddr::from(VIP_V4), VIP_V6.into()];
        let start = Setup::default().interfaces(&[(LEFT, hook)]);
        let setup = vips.into_iter().fold(start, |setup, vip| {
            let name = if vip.is_ipv4() { "v4" } else { "v6" };
            let split = SplitYaml::udp(name, SocketAddr::new(vip, PORT));
            setup.split(&split.subset("v1", 1, &[path::endpoint_ip(vip)], PORT).text())
        });
        let agent = setup.start(path.node()).expect("an agent");
        let payload: Vec<u8> = (0..6_000).map(|n| (n * 7 + n / 251) as u8).collect();
        let answer = [&b"v1 "[..], &payload].concat();
        for vip in vips {
            let at = SocketAddr::new(path::endpoint_ip(vip), PORT);
            let _server = Server::udp(path.endpoint(), at, "v1").expect("a server");
            let from = SocketAddr::new(path::client_ip(vip), 30_000);
            let to = SocketAddr::new(vip, PORT);
            let client = path.client().run(|| udp_from(from, to)).expect("a socket");
            assert_eq!(exchange(&client, b"who are you?").expect("an answer"), "v1");
            let ask = |id| send_reversed(path.client(), id, from, to, &payload);
            let what = format!("{hook}, {vip}, to the service");
            check_reversed(&agent, path.router(), &client, &answer, ask, &what);
            let reply = |id| send_reversed(path.endpoint(), id, at, from, &payload);
            let what = format!("{hook}, {vip}, from the endpoint");
            check_reversed(&agent, path.node(), &client, &payload, reply, &what);
        }
    }
}
