//! A real flood of SYNs from invented addresses through a running agent's node, which its endpoint
//! answers as well as it can, while connections stay up and new ones are made.

use std::io::{self, Read as _, Write as _};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, TcpStream};
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};

use nix::net::if_::if_nametoindex;
use socket2::{Domain, SockAddr, Socket, Type};
use weir_tests::agent::Setup;
use weir_tests::client::connect_from;
use weir_tests::packet::{Packet, SYN, set_source};
use weir_tests::prometheus::get;
use weir_tests::resource::SplitYaml;
use weir_tests::rng::Rng;
use weir_tests::scene::{PORT, Scene};
use weir_tests::server::read_line;
use weir_tests::topology::{CLIENT_FACING, ETH, Topology, VIP_V4, VIP_V6, client_ip};

/// Packets of the flood: more than there is room for flows without an answer (131,072).
const FLOOD: u32 = 200_000;
/// Connections that must be made meanwhile, at least.
const MADE: u16 = 100;
/// And at most, each from a port of its own.
const MOST: u16 = 44_000;
/// Connections that live before it.
const LIVE: u16 = 50;
/// Packets that are sent at once, and the pause after them: what is more than fits the queue of a
/// veth is lost before any program sees it, honest packets too.
const BURST: u32 = 16;
/// See [`BURST`].
const PAUSE: Duration = Duration::from_micros(300);
/// Where the invented addresses are.
const NETWORKS: [&str; 2] = ["10.128.0.0/9", "2001:db8:8::/64"];

fn invented(vip: IpAddr, rng: &mut Rng) -> SocketAddr {
    let host = rng.below(1 << 23) as u32;
    let ip: IpAddr = if vip.is_ipv4() {
        Ipv4Addr::from(u32::from(Ipv4Addr::new(10, 128, 0, 0)) + host).into()
    } else {
        Ipv6Addr::new(0x2001, 0xdb8, 8, 0, 0, 0, (host >> 16) as u16, host as u16).into()
    };
    SocketAddr::new(ip, 1 + rng.below(65_535) as u16)
}

/// The link-layer address of the node's interface towards the client.
fn mac(topology: &Topology) -> [u8; 6] {
    let text = topology.node.output("ip", &["-br", "link", "show", CLIENT_FACING]).expect("link");
    let address = text.split_whitespace().nth(2).expect("an address");
    let bytes = address.split(':').map(|byte| u8::from_str_radix(byte, 16).expect("a byte"));
    bytes.collect::<Vec<_>>().try_into().expect("six bytes")
}

/// A socket that sends frames out of the client's interface. For a thread of its namespace.
fn raw() -> io::Result<Socket> {
    let socket = Socket::new(Domain::PACKET, Type::RAW, None)?;
    let index = if_nametoindex(ETH)?.cast_signed();
    // SAFETY: a storage has room for an address of any family, and is aligned for it; all fields
    // that are not set are zero, and the length is what was set.
    let ((), address) = unsafe {
        SockAddr::try_init(|storage, length| {
            let address = storage.cast::<libc::sockaddr_ll>();
            (*address).sll_family = libc::AF_PACKET as libc::sa_family_t;
            (*address).sll_ifindex = index;
            *length = size_of::<libc::sockaddr_ll>() as libc::socklen_t;
            Ok(())
        })
    }?;
    socket.bind(&address)?;
    Ok(socket)
}

/// Sends the flood; counts what was sent.
fn flood(vip: SocketAddr, mac: [u8; 6], sent: &AtomicU32) -> io::Result<()> {
    let (socket, mut rng) = (raw()?, Rng::new(3));
    let first = invented(vip.ip(), &mut rng);
    let mut frame = Packet::tcp(first, vip).macs([2, 0, 0, 0, 0, 1], mac).flags(SYN).build();
    while sent.load(Ordering::Relaxed) < FLOOD {
        set_source(&mut frame, invented(vip.ip(), &mut rng));
        let pause = match socket.send(&frame) {
            Ok(_) => sent.fetch_add(1, Ordering::Relaxed).is_multiple_of(BURST),
            // The queue is full.
            Err(error) if error.raw_os_error() == Some(libc::ENOBUFS) => true,
            Err(error) => return Err(error),
        };
        if pause {
            std::thread::sleep(PAUSE);
        }
    }
    Ok(())
}

/// Sends a few bytes, which must come back.
fn echo(stream: &mut TcpStream, what: &str) {
    let mut answer = [0; 5];
    let result = stream.write_all(b"still").and_then(|()| stream.read_exact(&mut answer));
    result.unwrap_or_else(|error| panic!("{what}: {error}"));
    assert_eq!(&answer, b"still", "{what}");
}

/// A connection from a port, and who answered.
fn open(source: SocketAddr, vip: SocketAddr) -> (TcpStream, String) {
    let stream = connect_from(source, vip).and_then(|mut s| Ok((read_line(&mut s)?, s)));
    let (name, stream) = stream.unwrap_or_else(|error| panic!("{source}: {error}"));
    (stream, name)
}

fn check(hook: &'static str, vip: IpAddr) {
    let vip = SocketAddr::new(vip, 9080);
    let what = format!("{hook}, {vip}");
    let scene = Scene::new(&["old", "new"], |t| {
        let split = SplitYaml::tcp("reviews", vip)
            .subset("v1", 1, &t.ips(&["old"], vip.ip()), PORT)
            .subset("v2", 0, &t.ips(&["new"], vip.ip()), PORT);
        Setup::default().forward(hook).split(&split.text())
    })
    .expect("a scene");
    let Scene { topology, agent, .. } = &scene;
    // What the endpoint says to invented clients goes to where they seem to be, and is lost there.
    let network = NETWORKS[usize::from(vip.is_ipv6())];
    topology.node.ip(&[format!("route add {network} via {}", client_ip(vip.ip()))]).expect("route");
    let (mac, sent, source) =
        (mac(topology), AtomicU32::new(0), |port| SocketAddr::new(client_ip(vip.ip()), port));
    let waits = topology.client.run(|| {
        let mut live: Vec<_> = (0..LIVE).map(|n| open(source(20_000 + n), vip)).collect();
        assert!(live.iter().all(|(_, name)| name == "old"), "{what}");
        agent.weights("reviews", &[("v1", 0), ("v2", 1)]).expect("weights");
        std::thread::scope(|scope| {
            let flood = scope.spawn(|| flood(vip, mac, &sent));
            let (mut made, mut waits) = (0, Vec::new());
            while !flood.is_finished() && made < MOST {
                let begun = Instant::now();
                let (mut stream, name) = open(source(21_000 + made), vip);
                waits.push(begun.elapsed());
                assert_eq!(name, "new", "{what}: connection {made}");
                echo(&mut stream, &format!("{what}: connection {made}"));
                let at = usize::from(made % LIVE);
                echo(&mut live[at].0, &format!("{what}: live connection {at}"));
                made += 1;
            }
            flood.join().expect("a thread").expect("a flood");
            for (n, (stream, _)) in live.iter_mut().enumerate() {
                echo(stream, &format!("{what}: live connection {n} after the flood"));
            }
            waits
        })
    });
    let made = waits.len();
    assert!(made >= usize::from(MADE), "{what}: {made} connections were made meanwhile");
    // Whose SYN, or its answer, is lost sends it again after a second.
    let again = waits.iter().filter(|&&wait| wait >= Duration::from_secs(1)).count();
    assert!(again <= made / 2, "{what}: {again} of {made} connections had to ask again");
    let metrics = "127.0.0.1:9464".parse().expect("an address");
    let (_, metrics) = get(&topology.node, metrics, "/metrics").expect("metrics");
    let series = r#"weir_subset_flows_total{split="reviews",subset="v2"} "#;
    let flows = metrics.lines().find_map(|line| line.strip_prefix(series)).expect(series);
    let flows: u64 = flows.parse().expect("a number");
    let sent = sent.into_inner();
    println!(
        "{what}: {sent} SYNs, {flows} flows, {made} made meanwhile, {again} of these had to ask again; {LIVE} stay up"
    );
    assert!(flows >= u64::from(FLOOD) / 2, "{what}: only {flows} flows: the flood was lost");
}

#[test]
fn a_flood_of_syns_over_ipv4_at_tc_ends_no_connection_and_prevents_none() {
    check("tc", VIP_V4.into());
}

#[test]
fn a_flood_of_syns_over_ipv6_at_tc_ends_no_connection_and_prevents_none() {
    check("tc", VIP_V6.into());
}

#[test]
fn a_flood_of_syns_over_ipv4_at_xdp_ends_no_connection_and_prevents_none() {
    check("xdp", VIP_V4.into());
}

#[test]
fn a_flood_of_syns_over_ipv6_at_xdp_ends_no_connection_and_prevents_none() {
    check("xdp", VIP_V6.into());
}
