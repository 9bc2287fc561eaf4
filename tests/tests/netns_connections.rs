//! TCP connections that are odd but legal, of real sockets: Fast Open, ECN, both sides that open
//! or close at the same time, and long silence.

use std::io::{Read as _, Write as _};
use std::net::{IpAddr, SocketAddr, TcpStream};
use std::os::fd::AsRawFd as _;
use std::time::{Duration, Instant};

use nix::libc;
use socket2::{Domain, SockAddr, Socket, TcpKeepalive, Type};
use weir_tests::agent::{Agent, Setup};
use weir_tests::client::connect_from;
use weir_tests::netns::Netns;
use weir_tests::resource::SplitYaml;
use weir_tests::scene::{PORT, Scene};
use weir_tests::server::read_line;
use weir_tests::topology::{EndpointSpec, Topology, client_ip, vips};

const HOOKS: [&str; 2] = ["tc", "xdp"];
const TIMEOUT: Duration = Duration::from_secs(30);
/// Where the test itself is the endpoint.
const BARE: u16 = 9;

fn name(vip: IpAddr, base: &str) -> String {
    format!("{base}-{}", if vip.is_ipv4() { "v4" } else { "v6" })
}

/// Splits of both families, each endpoint a subset of the same weight; at `PORT` and at `BARE`.
fn scene(hook: &'static str, endpoints: &[&str], config: &str) -> Scene {
    scene_on(topology(endpoints), hook, endpoints, config)
}

fn topology(endpoints: &[&str]) -> Topology {
    let specs: Vec<_> = endpoints.iter().map(|name| EndpointSpec::new(name)).collect();
    Topology::new(&specs).expect("a topology")
}

fn scene_on(topology: Topology, hook: &'static str, endpoints: &[&str], config: &str) -> Scene {
    let splits = |setup: Setup, vip: IpAddr, topology: &Topology| {
        [("servers", PORT), ("bare", BARE)].into_iter().fold(setup, |setup, (base, port)| {
            let split = SplitYaml::tcp(&name(vip, base), SocketAddr::new(vip, port));
            let split = endpoints.iter().fold(split, |split, endpoint| {
                split.subset(endpoint, 1, &topology.ips(&[endpoint], vip), port)
            });
            setup.split(&split.text())
        })
    };
    Scene::on(topology, |topology| {
        let start = Setup::default().forward(hook).config(&format!("hashSeed: 0x5eed\n{config}"));
        vips().into_iter().fold(start, |setup, vip| splits(setup, vip, topology))
    })
    .expect("a scene")
}

fn bound(ns: &Netns, at: SocketAddr) -> Socket {
    ns.run(|| {
        let socket = Socket::new(Domain::for_address(at), Type::STREAM, None).expect("a socket");
        socket.set_reuse_address(true).expect("SO_REUSEADDR");
        socket.bind(&at.into()).unwrap_or_else(|error| panic!("{at}: {error}"));
        socket.set_read_timeout(Some(TIMEOUT)).expect("a time-out");
        socket.set_write_timeout(Some(TIMEOUT)).expect("a time-out");
        socket
    })
}

/// A counter of the section `TcpExt` in /proc/net/netstat.
fn counter(ns: &Netns, name: &str) -> u64 {
    let text = ns.output("cat", &["/proc/net/netstat"]).expect("netstat");
    let mut lines = text.lines().filter(|line| line.starts_with("TcpExt:"));
    let (names, values) = (lines.next().expect("names"), lines.next().expect("values"));
    let at = names.split(' ').position(|found| found == name);
    let at = at.unwrap_or_else(|| panic!("no counter {name}"));
    values.split(' ').nth(at).expect("a value").parse().expect("a number")
}

/// A connection whose SYN has data as soon as the client has a cookie. The cookie is one of the
/// endpoint that gave it: another one refuses it, and gets the data after the handshake.
#[test]
fn fast_open_delivers_the_data_whichever_endpoint_gave_the_cookie() {
    const CONNECTIONS: u16 = 40;
    for hook in HOOKS {
        let topology = topology(&["v1", "v2"]);
        topology.client.sysctl("net/ipv4/tcp_fastopen", "1").expect("sysctl");
        for endpoint in &topology.endpoints {
            // Serve, and all listeners that are made from now on.
            endpoint.ns.sysctl("net/ipv4/tcp_fastopen", "1026").expect("sysctl");
        }
        let scene = scene_on(topology, hook, &["v1", "v2"], "");
        let (client, endpoints) = (&scene.topology.client, &scene.topology.endpoints);
        for vip in vips() {
            let at_endpoints =
                |name| endpoints.iter().map(|e| counter(&e.ns, name)).collect::<Vec<_>>();
            let (passive, refused) = ("TCPFastOpenPassive", "TCPFastOpenPassiveFail");
            let before = (at_endpoints(passive), at_endpoints(refused));
            let mut answered = std::collections::BTreeMap::<String, u32>::new();
            for n in 0..CONNECTIONS {
                let from = SocketAddr::new(client_ip(vip), 20_000 + n);
                let to = SockAddr::from(SocketAddr::new(vip, PORT));
                let question = format!("question {n} with the SYN");
                let socket = bound(client, from);
                let sent = socket.send_to_with_flags(question.as_bytes(), &to, libc::MSG_FASTOPEN);
                let what = format!("{hook}, {vip}, connection {n}");
                assert_eq!(sent.unwrap_or_else(|e| panic!("{what}: {e}")), question.len());
                let mut stream = TcpStream::from(socket);
                *answered.entry(read_line(&mut stream).expect("a name")).or_default() += 1;
                let mut echo = vec![0; question.len()];
                stream.read_exact(&mut echo).unwrap_or_else(|e| panic!("{what}: {e}"));
                assert_eq!(echo, question.as_bytes(), "{what}");
            }
            let grown = |name, before: &[u64]| {
                at_endpoints(name).iter().zip(before).map(|(new, old)| new - old).sum::<u64>()
            };
            let (took, refused) = (grown(passive, &before.0), grown(refused, &before.1));
            // Forty fair draws are never all alike: 2^-39.
            assert_eq!(answered.len(), 2, "{hook}, {vip}: {answered:?}");
            assert!(took > 0, "{hook}, {vip}: no endpoint took data with a SYN");
            assert!(refused > 0, "{hook}, {vip}: no endpoint refused another's cookie");
            println!("{hook}, {vip}: {took} SYNs with data taken, {refused} cookies refused");
        }
    }
}

/// What a socket says of itself: `struct tcp_info` of the kernel, which only grows.
fn tcp_info(stream: &TcpStream) -> [u8; 232] {
    let mut info = [0; 232];
    let mut length = info.len() as libc::socklen_t;
    let (fd, pointer) = (stream.as_raw_fd(), info.as_mut_ptr().cast());
    // SAFETY: an open socket, a buffer and its length.
    let failed = unsafe {
        libc::getsockopt(fd, libc::IPPROTO_TCP, libc::TCP_INFO, pointer, &raw mut length)
    };
    assert_eq!(failed, 0, "TCP_INFO");
    assert!(length >= 200, "TCP_INFO of {length} bytes");
    info
}

#[test]
fn congestion_is_notified_through_weir() {
    /// TCPI_OPT_ECN.
    const NEGOTIATED: u8 = 8;
    for (hook, fast_path) in [("tc", "auto"), ("tc", "off"), ("xdp", "auto")] {
        let scene = scene(hook, &["v1"], &format!("fastPath: {fast_path}\n"));
        let (client, endpoint) = (&scene.topology.client, &scene.topology.endpoints[0].ns);
        for ns in [client, endpoint] {
            ns.sysctl("net/ipv4/tcp_ecn", "1").expect("sysctl");
        }
        // A router before the node that sees congestion in all that may say so.
        let router = "table inet router { chain congested { type filter hook output priority 0\n\
                      ip ecn 1-2 ip ecn set 3\nip6 ecn 1-2 ip6 ecn set 3\n}\n}";
        client.output("nft", &[router]).expect("nft");
        for vip in vips() {
            let what = format!("{hook}, fastPath {fast_path}, {vip}");
            let from = SocketAddr::new(client_ip(vip), 20_000);
            let mut stream = client
                .run(|| connect_from(from, SocketAddr::new(vip, PORT)))
                .unwrap_or_else(|e| panic!("{what}: {e}"));
            stream.set_read_timeout(Some(TIMEOUT)).expect("a time-out");
            assert_eq!(read_line(&mut stream).expect("a name"), "v1", "{what}");
            let data = vec![7; 100_000];
            let mut echo = vec![0; data.len()];
            std::thread::scope(|scope| {
                scope.spawn(|| (&stream).write_all(&data).expect("sent"));
                (&stream).read_exact(&mut echo).unwrap_or_else(|e| panic!("{what}: {e}"));
            });
            assert!(echo == data, "{what}");
            let info = tcp_info(&stream);
            assert_ne!(info[5] & NEGOTIATED, 0, "{what}: ECN is not negotiated");
            // tcpi_delivered_ce: the endpoint has told of so many marks.
            let marks = u32::from_ne_bytes(info[196..200].try_into().expect("four bytes"));
            assert!(marks > 0, "{what}: no mark arrived");
            println!("{what}: {marks} segments marked, and the endpoint told so");
        }
    }
}

/// Makes a host deaf: what it is sent is lost at its door, behind weir.
struct Deaf<'a>(&'a Netns);

impl<'a> Deaf<'a> {
    fn new(ns: &'a Netns) -> Self {
        let rules = "table inet door { chain closed { type filter hook input priority 0\n\
                     meta l4proto tcp drop\n}\n}";
        ns.output("nft", &[rules]).expect("nft");
        Self(ns)
    }
}

impl Drop for Deaf<'_> {
    fn drop(&mut self) {
        let deleted = self.0.output("nft", &["delete table inet door"]);
        if !std::thread::panicking() {
            deleted.expect("nft");
        }
    }
}

/// Both SYNs are under way before either arrives (RFC 9293, section 3.5).
#[test]
fn both_sides_may_open_at_the_same_time() {
    for hook in HOOKS {
        let scene = scene(hook, &["v1"], "");
        let (client, endpoint) = (&scene.topology.client, &scene.topology.endpoints[0]);
        for vip in vips() {
            let what = format!("{hook}, {vip}");
            let near = SocketAddr::new(client_ip(vip), 20_001);
            let far = SocketAddr::new(endpoint.ip(vip), BARE);
            let service = SocketAddr::new(vip, BARE);
            let deaf = [Deaf::new(client), Deaf::new(&endpoint.ns)];
            let sockets =
                [(client, near, service), (&endpoint.ns, far, near)].map(|(ns, from, to)| {
                    let socket = bound(ns, from);
                    socket.set_nonblocking(true).expect("non-blocking");
                    let begun = socket.connect(&to.into()).expect_err("nobody hears it");
                    assert_eq!(begun.raw_os_error(), Some(libc::EINPROGRESS), "{what}");
                    socket.set_nonblocking(false).expect("blocking");
                    socket
                });
            drop(deaf);
            // Each SYN is sent again.
            let [mut near, mut far] = sockets.map(|socket| {
                await_connection(&socket, &what);
                TcpStream::from(socket)
            });
            assert_eq!(near.peer_addr().expect("a peer"), service, "{what}");
            for (from, to) in [(0, 1), (1, 0)] {
                let ends = [&mut near, &mut far];
                ends[from].try_clone().unwrap().write_all(b"hello").expect("sent");
                let mut heard = [0; 5];
                ends[to].try_clone().unwrap().read_exact(&mut heard).expect(&what);
                assert_eq!(&heard, b"hello", "{what}");
            }
        }
    }
}

/// Waits until a connection that was begun is there.
fn await_connection(socket: &Socket, what: &str) {
    let begun = Instant::now();
    while socket.peer_addr().is_err() {
        if let Some(error) = socket.take_error().expect("SO_ERROR") {
            panic!("{what}: {error}");
        }
        assert!(begun.elapsed() < TIMEOUT, "{what}: no connection");
        std::thread::sleep(Duration::from_millis(20));
    }
}

/// Both FINs are under way before either arrives: each side closes actively, and waits.
#[test]
fn both_sides_may_close_at_the_same_time() {
    for hook in HOOKS {
        let scene = scene(hook, &["v1"], "");
        let (client, endpoint) = (&scene.topology.client, &scene.topology.endpoints[0]);
        for vip in vips() {
            let what = format!("{hook}, {vip}");
            let near = SocketAddr::new(client_ip(vip), 20_002);
            let listener = bound(&endpoint.ns, SocketAddr::new(endpoint.ip(vip), BARE));
            listener.listen(1).expect("listening");
            let socket = bound(client, near);
            socket.connect(&SocketAddr::new(vip, BARE).into()).expect(&what);
            let (accepted, _) = listener.accept().expect("a connection");
            accepted.set_read_timeout(Some(TIMEOUT)).expect("a time-out");
            {
                let _deaf = [Deaf::new(client), Deaf::new(&endpoint.ns)];
                for end in [&socket, &accepted] {
                    end.shutdown(std::net::Shutdown::Write).expect("FIN");
                }
            }
            for end in [socket, accepted] {
                let read = TcpStream::from(end).read(&mut [0; 8]);
                assert_eq!(read.unwrap_or_else(|e| panic!("{what}: {e}")), 0, "{what}: the end");
            }
            for ns in [client, &endpoint.ns] {
                let begun = Instant::now();
                while !ns.output("ss", &["-Htan", "state", "time-wait"]).expect("ss").contains(':')
                {
                    assert!(begun.elapsed() < TIMEOUT, "{what}: one side did not close actively");
                    std::thread::sleep(Duration::from_millis(20));
                }
            }
            let flow = flow(&scene.agent, near);
            assert!(flow.contains("closed"), "{what}: {flow}");
        }
    }
}

/// The line of a client's flow.
fn flow(agent: &Agent, client: SocketAddr) -> String {
    let flows = agent.ask(&["flows"]).expect("flows");
    let found = flows.lines().find(|line| line.contains(&client.to_string()));
    found.unwrap_or_else(|| panic!("no flow of {client}:\n{flows}")).to_owned()
}

/// A connection that was silent beyond `tcpIdle` has lost its claim to its place in the table, but
/// as long as nobody takes that, it goes on at its endpoint. With keep-alives it keeps its claim.
#[test]
fn a_silent_connection_goes_on_while_nobody_takes_its_place() {
    for hook in HOOKS {
        let scene = scene(hook, &["v1", "v2"], "flows: {tcpIdle: 2s}\n");
        for vip in vips() {
            let open = |port| {
                let from = SocketAddr::new(client_ip(vip), port);
                let open = || connect_from(from, SocketAddr::new(vip, PORT));
                let mut stream = scene.topology.client.run(open).expect("a connection");
                let name = read_line(&mut stream).expect("a name");
                (from, stream, name)
            };
            let (silent, alive) = (open(20_003), open(20_004));
            let every = Duration::from_secs(1);
            let keep = TcpKeepalive::new().with_time(every).with_interval(every);
            socket2::SockRef::from(&alive.1).set_tcp_keepalive(&keep).expect("SO_KEEPALIVE");
            let begun = Instant::now();
            while !flow(&scene.agent, silent.0).contains("expired") {
                assert!(begun.elapsed() < TIMEOUT, "{hook}, {vip}: the silent flow lives");
                std::thread::sleep(Duration::from_millis(100));
            }
            let kept = flow(&scene.agent, alive.0);
            assert!(kept.contains("established"), "{hook}, {vip}: {kept}");
            for (_, mut stream, name) in [silent, alive] {
                let other = if name == "v1" { ("v1", 0) } else { ("v2", 0) };
                let to = if name == "v1" { ("v2", 1) } else { ("v1", 1) };
                scene.agent.weights(&self::name(vip, "servers"), &[other, to]).expect("weights");
                stream.write_all(b"still there?").expect("sent");
                let mut echo = [0; 12];
                stream.read_exact(&mut echo).unwrap_or_else(|e| panic!("{hook}, {vip}: {e}"));
                assert_eq!(&echo, b"still there?", "{hook}, {vip}: from {name}");
            }
        }
    }
}
