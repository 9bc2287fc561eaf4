//! ICMP errors through weir: path MTU discovery works in both directions, a closed port refuses,
//! a trace shows the path, and nobody learns the other side's address.

use std::io::{self, ErrorKind};
use std::net::{IpAddr, SocketAddr, UdpSocket};
use std::os::fd::AsRawFd as _;
use std::time::Duration;

use nix::libc;
use socket2::{Domain, Protocol as IpProtocol, Socket, Type};
use weir_tests::agent::{Agent, Setup};
use weir_tests::client::exchange;
use weir_tests::netns::Netns;
use weir_tests::path::{LEFT, Path, RIGHT, address, client_ip, endpoint_ip};
use weir_tests::resource::SplitYaml;
use weir_tests::scene::{BULK, PORT};
use weir_tests::server::{Server, bulk_receive, bulk_send};
use weir_tests::topology::vips;
use weir_tests::watch::Watch;

/// Bytes of TCP in each direction.
const BYTES: u64 = 10_000_019;
const TIMEOUT: Duration = Duration::from_secs(30);
/// How long an answer is waited for that may have been lost.
const PATIENCE: Duration = Duration::from_millis(300);
const MTU: u32 = 1300;
/// Does not fit the narrow link, and fits.
const LONG: usize = 1400;
const SHORT: usize = 1200;
/// Which link is narrow, and who is told that packets are too big: the client, or the endpoint.
const NARROW: [(usize, &str, bool); 3] = [
    (3, "behind the node, which says so itself", true),
    (4, "behind a router behind the node", true),
    (1, "before a router before the node", false),
];
const HOOKS: [&str; 2] = ["tc", "xdp"];

fn cases() -> impl Iterator<Item = (&'static str, (usize, &'static str, bool))> {
    HOOKS.into_iter().flat_map(|hook| NARROW.map(|narrow| (hook, narrow)))
}

/// Watches who sends to the client: both services, and the endpoint.
fn watch(path: &Path) -> Watch<'_> {
    let senders: Vec<IpAddr> = vips().into_iter().flat_map(|vip| [vip, endpoint_ip(vip)]).collect();
    Watch::new(path.client(), RIGHT, &senders).expect("a watch")
}

/// Something came to the client from each service, and nothing from the endpoint.
#[track_caller]
fn assert_only_services_spoke(watch: Watch<'_>, what: &str) {
    let seen = |ip| watch.seen(ip).expect("a counter");
    for vip in vips() {
        assert!(seen(vip) > 0, "{what}: nothing came from {vip}");
        assert_eq!(seen(endpoint_ip(vip)), 0, "{what}: packets from the endpoint's address");
    }
}

/// An agent whose splits send both service addresses to the endpoint.
fn agent(path: &Path, hook: &'static str) -> Agent {
    agent_of(path, Setup::default().interfaces(&[(LEFT, hook)]))
}

/// The same, set up in a way of the caller's own.
fn agent_of(path: &Path, start: Setup) -> Agent {
    let setup = vips().into_iter().fold(start, |setup, vip| {
        let family = if vip.is_ipv4() { "v4" } else { "v6" };
        let tcp = SplitYaml::tcp(&format!("tcp-{family}"), SocketAddr::new(vip, BULK));
        let udp = SplitYaml::udp(&format!("udp-{family}"), SocketAddr::new(vip, PORT));
        setup
            .split(&tcp.subset("v1", 1, &[endpoint_ip(vip)], BULK).text())
            .split(&udp.subset("v1", 1, &[endpoint_ip(vip)], PORT).text())
    });
    setup.start(path.node()).expect("an agent")
}

/// Hears all ICMP that comes to a namespace.
struct Ear(Socket);

impl Ear {
    fn new(ns: &Netns, like: IpAddr) -> Self {
        let (domain, protocol) = if like.is_ipv4() {
            (Domain::IPV4, IpProtocol::ICMPV4)
        } else {
            (Domain::IPV6, IpProtocol::ICMPV6)
        };
        let socket = ns.run(|| Socket::new(domain, Type::RAW, Some(protocol))).expect("a socket");
        socket.set_read_timeout(Some(PATIENCE)).expect("a time-out");
        Self(socket)
    }

    /// The errors that came since the last time: from whom, and their bytes from the ICMP header.
    fn errors(&self) -> Vec<(IpAddr, Vec<u8>)> {
        let mut found = Vec::new();
        let mut buffer = [0; 4096];
        let socket = UdpSocket::from(self.0.try_clone().expect("a socket"));
        while let Ok((length, from)) = socket.recv_from(&mut buffer) {
            // IPv4 gives the IP header, too.
            let start = if from.is_ipv4() { usize::from(buffer[0] & 15) * 4 } else { 0 };
            let message = &buffer[start..length];
            let is_error = if from.is_ipv4() {
                matches!(message[0], 3 | 11 | 12)
            } else {
                matches!(message[0], 1..=4)
            };
            if is_error {
                found.push((from.ip(), message.to_vec()));
            }
        }
        found
    }
}

fn mentions(bytes: &[u8], ip: IpAddr) -> bool {
    match ip {
        IpAddr::V4(ip) => bytes.windows(4).any(|window| window == ip.octets()),
        IpAddr::V6(ip) => bytes.windows(16).any(|window| window == ip.octets()),
    }
}

/// Errors that came to one side speak of the address that it knows, and not of the other.
#[track_caller]
fn assert_speak_of(errors: &[(IpAddr, Vec<u8>)], known: IpAddr, hidden: IpAddr, what: &str) {
    assert!(!errors.is_empty(), "{what}: no error came");
    for (from, message) in errors {
        assert_ne!(*from, hidden, "{what}: {message:02x?}");
        assert!(mentions(message, known), "{what}: from {from}, not of {known}: {message:02x?}");
        assert!(!mentions(message, hidden), "{what}: from {from}, of {hidden}: {message:02x?}");
    }
}

#[test]
fn tcp_finds_the_narrow_link_in_both_directions() {
    for (hook, (narrow, place, client_is_told)) in cases() {
        let path = Path::new(narrow, MTU).expect("a path");
        let watch = watch(&path);
        for vip in vips() {
            let _server =
                Server::bulk(path.endpoint(), SocketAddr::new(endpoint_ip(vip), BULK), "v1");
            let agent = agent(&path, hook);
            let what = format!("{hook}, {vip}, narrow {place}");
            let ears = [Ear::new(path.client(), vip), Ear::new(path.endpoint(), vip)];
            let to = SocketAddr::new(vip, BULK);
            path.client().run(|| {
                // Who has learnt the MTU asks for shorter segments in the next connection: the
                // side that is to be told sends first.
                let send = || bulk_send(to, BYTES, TIMEOUT);
                let receive = || bulk_receive(to, BYTES, TIMEOUT);
                let done = if client_is_told {
                    send().and_then(|()| receive())
                } else {
                    receive().and_then(|()| send())
                };
                done.unwrap_or_else(|error| panic!("{what}: {error}"));
            });
            let [at_client, at_endpoint] = ears.map(|ear| ear.errors());
            if client_is_told {
                assert_speak_of(&at_client, vip, endpoint_ip(vip), &what);
            } else {
                assert_speak_of(&at_endpoint, endpoint_ip(vip), vip, &what);
            }
            let translated = agent.status().expect("status").reasons["icmp_translated"];
            assert!(translated > 0, "{what}");
            println!("{what}: {BYTES} bytes each way, {translated} errors translated");
        }
        assert_only_services_spoke(watch, hook);
    }
}

/// Sets the DF bit on all that a socket sends, and rejects what is too long for the path.
fn never_fragment(socket: &UdpSocket) -> io::Result<()> {
    let (level, name, value) = if socket.local_addr()?.is_ipv4() {
        (libc::IPPROTO_IP, libc::IP_MTU_DISCOVER, libc::IP_PMTUDISC_DO)
    } else {
        (libc::IPPROTO_IPV6, libc::IPV6_MTU_DISCOVER, libc::IPV6_PMTUDISC_DO)
    };
    // SAFETY: an open socket, and a pointer to an int of the length that is given.
    let done =
        unsafe { libc::setsockopt(socket.as_raw_fd(), level, name, (&raw const value).cast(), 4) };
    if done == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}

fn datagrams(from: SocketAddr) -> UdpSocket {
    let socket = UdpSocket::bind(from).unwrap_or_else(|error| panic!("{from}: {error}"));
    never_fragment(&socket).expect("IP_MTU_DISCOVER");
    socket.set_read_timeout(Some(PATIENCE)).expect("a time-out");
    socket
}

fn is_too_long(error: &io::Error) -> bool {
    error.raw_os_error() == Some(libc::EMSGSIZE)
}

/// One side sends as much as the path takes: `LONG`, and once it has learnt better, `SHORT`
/// bytes. The other one answers with a byte. Whether that has learnt better.
fn speak(sender: &UdpSocket, receiver: &UdpSocket) -> bool {
    let mut buffer = [0; 2 * LONG];
    let mut learnt = false;
    for _ in 0..20 {
        match sender.send(&[7; LONG]) {
            Ok(_) => {}
            Err(error) if is_too_long(&error) => {
                learnt = true;
                // The error of an earlier datagram may be reported first.
                let sent = (0..3).any(|_| sender.send(&[7; SHORT]).is_ok());
                assert!(sent, "the short one does not fit either");
            }
            Err(error) => panic!("send: {error}"),
        }
        if let Ok((length, from)) = receiver.recv_from(&mut buffer) {
            assert_eq!(length, SHORT, "what came through");
            receiver.send_to(&[1], from).expect("an answer");
            // What is read first may be the error.
            let answered = (0..3).any(|_| sender.recv(&mut buffer).is_ok_and(|n| n == 1));
            assert!(answered, "no answer came");
            return learnt;
        }
    }
    panic!("nothing came through");
}

#[test]
fn udp_that_may_not_be_fragmented_finds_the_narrow_link_in_both_directions() {
    for (hook, (narrow, place, client_is_told)) in cases() {
        let path = Path::new(narrow, MTU).expect("a path");
        let watch = watch(&path);
        let _agent = agent(&path, hook);
        for vip in vips() {
            let what = format!("{hook}, {vip}, narrow {place}");
            let ears = [Ear::new(path.client(), vip), Ear::new(path.endpoint(), vip)];
            let client = path.client().run(|| datagrams(SocketAddr::new(client_ip(vip), 41_000)));
            client.connect(SocketAddr::new(vip, PORT)).expect("connected");
            let at = SocketAddr::new(endpoint_ip(vip), PORT);
            let endpoint = path.endpoint().run(|| datagrams(at));
            // The endpoint learns who the client is.
            client.send(b"hello").expect("a datagram");
            let (_, from) = endpoint.recv_from(&mut [0; 16]).expect("a datagram");
            assert_eq!(from, client.local_addr().expect("an address"), "{what}");
            let learnt = if client_is_told {
                speak(&client, &endpoint)
            } else {
                endpoint.connect(from).expect("connected");
                speak(&endpoint, &client)
            };
            assert!(learnt, "{what}: the sender did not learn the MTU");
            let [at_client, at_endpoint] = ears.map(|ear| ear.errors());
            if client_is_told {
                assert_speak_of(&at_client, vip, endpoint_ip(vip), &what);
            } else {
                assert_speak_of(&at_endpoint, endpoint_ip(vip), vip, &what);
            }
        }
        assert_only_services_spoke(watch, hook);
    }
}

#[test]
fn a_closed_port_of_an_endpoint_rejects_in_the_name_of_the_service() {
    for hook in HOOKS {
        let path = Path::new(0, 1500).expect("a path");
        let watch = watch(&path);
        let _agent = agent(&path, hook);
        for vip in vips() {
            let what = format!("{hook}, {vip}");
            let ear = Ear::new(path.client(), vip);
            let client = path.client().run(|| datagrams(SocketAddr::new(client_ip(vip), 41_000)));
            client.connect(SocketAddr::new(vip, PORT)).expect("connected");
            client.send(b"anybody?").expect("a datagram");
            client.set_read_timeout(Some(TIMEOUT)).expect("a time-out");
            let refused = client.recv(&mut [0; 16]).expect_err("nobody is there");
            assert_eq!(refused.kind(), ErrorKind::ConnectionRefused, "{what}");
            let errors = ear.errors();
            assert_speak_of(&errors, vip, endpoint_ip(vip), &what);
            assert_eq!(errors[0].0, vip, "{what}: who rejects");
        }
        assert_only_services_spoke(watch, hook);
    }
}

/// Sets for how many hops packets of a socket go.
fn set_hops(socket: &Socket, hops: u32, like: IpAddr) {
    let set = if like.is_ipv4() { Socket::set_ttl_v4 } else { Socket::set_unicast_hops_v6 };
    set(socket, hops).expect("a TTL");
}

#[test]
fn a_trace_shows_each_router_and_the_service_at_its_end() {
    for hook in HOOKS {
        let path = Path::new(0, 1500).expect("a path");
        let watch = watch(&path);
        let _agent = agent(&path, hook);
        for vip in vips() {
            let ear = Ear::new(path.client(), vip);
            let client = path.client().run(|| datagrams(SocketAddr::new(client_ip(vip), 41_000)));
            let socket = Socket::from(client);
            let mut seen = Vec::new();
            for hops in 1..=6 {
                set_hops(&socket, hops, vip);
                socket.send_to(b"trace", &SocketAddr::new(vip, PORT).into()).expect("a datagram");
                let errors = ear.errors();
                assert_speak_of(&errors, vip, endpoint_ip(vip), &format!("{hook}, hop {hops}"));
                seen.extend(errors.into_iter().map(|(from, _)| from));
            }
            let mut wanted: Vec<IpAddr> = (0..5).map(|link| address(link, 2, vip)).collect();
            wanted.push(vip);
            assert_eq!(seen, wanted, "{hook}");
        }
        assert_only_services_spoke(watch, hook);
    }
}

/// What `traceroute -T -p PORT` does: SYNs with few hops, from another port each.
#[test]
fn a_trace_by_syns_shows_each_router_and_the_service_at_its_end() {
    for hook in HOOKS {
        let path = Path::new(0, 1500).expect("a path");
        let watch = watch(&path);
        let _agent = agent(&path, hook);
        for vip in vips() {
            let what = format!("{hook}, {vip}");
            let at = SocketAddr::new(endpoint_ip(vip), BULK);
            let _server = Server::bulk(path.endpoint(), at, "v1").expect("a server");
            let ear = Ear::new(path.client(), vip);
            let syn = |hops: u16| {
                let from = SocketAddr::new(client_ip(vip), 42_000 + hops);
                let socket = path.client().run(|| {
                    Socket::new(Domain::for_address(from), Type::STREAM, None).expect("a socket")
                });
                socket.bind(&from.into()).expect("a port");
                set_hops(&socket, hops.into(), vip);
                socket
            };
            let to = SocketAddr::new(vip, BULK).into();
            // The service, at its end, accepts. From now on all know their neighbours.
            syn(6).connect_timeout(&to, TIMEOUT).unwrap_or_else(|e| panic!("{what}: {e}"));
            // Those of five hops and fewer get no answer but the error.
            let sockets: Vec<Socket> = (1..=5).map(syn).collect();
            for socket in &sockets {
                socket.set_nonblocking(true).expect("O_NONBLOCK");
                let error = socket.connect(&to).expect_err("it takes time");
                assert_eq!(error.raw_os_error(), Some(libc::EINPROGRESS), "{what}");
            }
            let mut errors = Vec::new();
            for _ in 0..10 {
                errors.extend(ear.errors());
                if errors.len() >= sockets.len() {
                    break;
                }
            }
            drop(sockets);
            assert_speak_of(&errors, vip, endpoint_ip(vip), &what);
            let mut seen: Vec<IpAddr> = errors.into_iter().map(|(from, _)| from).collect();
            seen.sort_unstable();
            let wanted: Vec<IpAddr> = (0..5).map(|link| address(link, 2, vip)).collect();
            assert_eq!(seen, wanted, "{what}");
        }
        assert_only_services_spoke(watch, hook);
    }
}

/// A live flow whose packets have one hop less than it takes: whoever drops them says so, also
/// where they would go past the node's stack.
#[test]
fn a_packet_of_a_live_flow_whose_hops_end_at_the_node_is_told_of_by_the_node() {
    for (hook, fast_path) in [("tc", "auto"), ("tc", "off"), ("xdp", "auto"), ("xdp", "off")] {
        let path = Path::new(0, 1500).expect("a path");
        let setup = Setup::default().interfaces(&[(LEFT, hook)]);
        let agent = agent_of(&path, setup.config(&format!("fastPath: {fast_path}\n")));
        for vip in vips() {
            let what = format!("{hook}, fastPath {fast_path}, {vip}");
            let _server =
                Server::udp(path.endpoint(), SocketAddr::new(endpoint_ip(vip), PORT), "v1")
                    .expect("a server");
            let ear = Ear::new(path.client(), vip);
            let client = path.client().run(|| datagrams(SocketAddr::new(client_ip(vip), 41_000)));
            client.connect(SocketAddr::new(vip, PORT)).expect("connected");
            client.set_read_timeout(Some(TIMEOUT)).expect("a time-out");
            let talk = || assert_eq!(exchange(&client, b"who are you?").expect(&what), "v1");
            (0..3).for_each(|_| talk());
            let socket = socket2::SockRef::from(&client);
            // Behind two routers.
            let to_the_node = 3;
            if vip.is_ipv4() {
                socket.set_ttl_v4(to_the_node).expect("a TTL");
            } else {
                socket.set_unicast_hops_v6(to_the_node).expect("a hop limit");
            }
            let before = agent.status().expect("status").reasons["stack_ttl"];
            client.send(b"not far enough").expect("a datagram");
            let errors = ear.errors();
            assert_speak_of(&errors, vip, endpoint_ip(vip), &what);
            assert_eq!(errors[0].0, address(2, 2, vip), "{what}: who says so");
            let by_stack = agent.status().expect("status").reasons["stack_ttl"] - before;
            // XDP of a veth leaves to TC what has perhaps a partial checksum, as what comes from
            // a host's own stack has.
            let past_the_stack = fast_path == "auto";
            assert_eq!(by_stack, u64::from(past_the_stack), "{what}: left to the stack");
            if vip.is_ipv4() {
                socket.set_ttl_v4(64).expect("a TTL");
            } else {
                socket.set_unicast_hops_v6(64).expect("a hop limit");
            }
            // The error may be what is read first.
            let _ = client.take_error();
            talk();
        }
    }
}
