//! A client that always uses the same port, when the endpoint is removed to which its last flow
//! went: syslog, statsd, SIP, NFS, pools of connections.

use std::io::{Read as _, Write as _};
use std::net::{SocketAddr, TcpStream};
use std::time::{Duration, Instant};

use nix::sys::socket::{setsockopt, sockopt::TcpRepair};
use socket2::{Domain, Protocol as IpProtocol, Socket, Type};
use weir::model::Protocol;
use weir_tests::agent::{SPLITS, Setup};
use weir_tests::client::{connect_from, exchange, udp_from};
use weir_tests::packet::{Packet, SYN};
use weir_tests::resource::SplitYaml;
use weir_tests::rng::Rng;
use weir_tests::scene::{PORT, Scene};
use weir_tests::server::read_line;
use weir_tests::topology::{ETH, Topology, client_ip, vips};

/// Where the services are.
const SERVICE: u16 = 9080;
/// The client's port.
const SOURCE: u16 = 10_000;
/// What takes longer is lost.
const PATIENCE: Duration = Duration::from_secs(5);

/// Splits for both families and protocols whose one endpoint has that name.
fn splits(topology: &Topology, endpoint: &str, drain: u32) -> String {
    let mut texts = Vec::new();
    for (vip, protocol) in
        vips().into_iter().flat_map(|vip| [Protocol::Tcp, Protocol::Udp].map(|p| (vip, p)))
    {
        let family = if vip.is_ipv4() { "v4" } else { "v6" };
        let name = format!("{protocol}-{family}").to_lowercase();
        let split = SplitYaml::new(&name, SocketAddr::new(vip, SERVICE), protocol);
        let text = split.subset("v1", 1, &topology.ips(&[endpoint], vip), PORT).text();
        texts.push(text.replace("  affinity", &format!("  drainSeconds: {drain}\n  affinity")));
    }
    texts.join("---\n")
}

/// Two endpoints, of which `a` is in force.
fn scene(hook: &'static str, drain: u32) -> Scene {
    let scene =
        Scene::new(&["a", "b"], |t| Setup::default().forward(hook).split(&splits(t, "a", drain)))
            .expect("scene");
    // A connection that gets no answer fails in 7 seconds, not in 127.
    scene.topology.client.sysctl("net/ipv4/tcp_syn_retries", "2").expect("tcp_syn_retries");
    scene
}

/// Has `b` in the place of `a`.
fn replace(scene: &Scene, drain: u32) {
    scene.agent.replace(SPLITS, &splits(&scene.topology, "b", drain));
    let b = scene.topology.endpoint("b");
    scene.agent.await_status("b is in force", |_| {
        vips().iter().all(|vip| {
            let family = if vip.is_ipv4() { "v4" } else { "v6" };
            ["tcp", "udp"].iter().all(|protocol| {
                let split = scene.agent.split(&format!("{protocol}-{family}"));
                let b = SocketAddr::new(b.ip(*vip), PORT);
                split.is_ok_and(|s| s.subsets[0].endpoints.iter().any(|e| e.address == b))
            })
        })
    });
}

/// Ends a connection without a word, as a host does that loses its power.
fn lose(stream: TcpStream) {
    setsockopt(&stream, TcpRepair, &1).expect("TCP_REPAIR");
    drop(stream);
}

/// Connects from the client's one port; the connection, and who answers.
fn connect(scene: &Scene, ends: [SocketAddr; 2], what: &str) -> (TcpStream, String) {
    let [source, to] = ends;
    let stream = scene.topology.client.run(|| connect_from(source, to));
    let mut stream = stream.unwrap_or_else(|error| panic!("{what}: {error}"));
    let name = read_line(&mut stream).unwrap_or_else(|error| panic!("{what}: {error}"));
    (stream, name)
}

fn echo(stream: &mut TcpStream, what: &str) {
    let mut answer = [0; 5];
    stream.write_all(b"hello").unwrap_or_else(|error| panic!("{what}: {error}"));
    stream.read_exact(&mut answer).unwrap_or_else(|error| panic!("{what}: {error}"));
}

/// Client and service, for both families.
fn ends() -> [[SocketAddr; 2]; 2] {
    vips().map(|vip| [SocketAddr::new(client_ip(vip), SOURCE), SocketAddr::new(vip, SERVICE)])
}

#[test]
fn a_port_whose_endpoint_is_gone_is_served_at_once() {
    for hook in ["tc", "xdp"] {
        let scene = scene(hook, 0);
        let client = &scene.topology.client;
        let lost = ends().map(|ends| connect(&scene, ends, hook));
        let sockets = ends().map(|[source, to]| client.run(|| udp_from(source, to)).expect(hook));
        for _ in 0..2 {
            sockets.iter().for_each(|socket| assert_eq!(exchange(socket, b"x").expect(hook), "a"));
        }
        for (stream, name) in lost {
            assert_eq!(name, "a", "{hook}");
            lose(stream);
        }
        replace(&scene, 0);
        for (socket, ends) in sockets.iter().zip(ends()) {
            let what = format!("{hook}, {ends:?}");
            let start = Instant::now();
            // Until the janitor has come by.
            loop {
                let name = exchange(socket, b"x").unwrap_or_else(|e| panic!("{what}, UDP: {e}"));
                if name == "b" {
                    break;
                }
                assert!(start.elapsed() < PATIENCE, "{what}: datagrams still go to {name}");
                std::thread::sleep(Duration::from_millis(20));
            }
            assert_eq!(connect(&scene, ends, &what).1, "b", "{what}");
        }
    }
}

#[test]
fn a_port_whose_endpoint_is_dead_and_drains_is_served_at_once() {
    for hook in ["tc", "xdp"] {
        let scene = scene(hook, 300);
        for (stream, name) in ends().map(|ends| connect(&scene, ends, hook)) {
            assert_eq!(name, "a", "{hook}");
            lose(stream);
        }
        let dead = scene.topology.endpoint("a");
        dead.ns.ip(&[format!("link set {ETH} down")]).expect("a dead host");
        replace(&scene, 300);
        for ends in ends() {
            let what = format!("{hook}, {ends:?}");
            let start = Instant::now();
            let (mut stream, name) = connect(&scene, ends, &what);
            assert_eq!(name, "b", "{what}");
            let took = start.elapsed();
            assert!(took < Duration::from_millis(900), "{what}: no SYN was lost, yet {took:?}");
            (0..10).for_each(|_| echo(&mut stream, &what));
        }
    }
}

#[test]
fn syns_in_the_name_of_a_live_client_change_nothing_while_its_endpoint_drains() {
    const SYNS: usize = 2_000;
    for hook in ["tc", "xdp"] {
        let scene = scene(hook, 300);
        let mut open = ends().map(|ends| connect(&scene, ends, hook));
        replace(&scene, 300);
        for ((stream, name), [source, to]) in open.iter_mut().zip(ends()) {
            let what = format!("{hook}, {source} to {to}");
            assert_eq!(name, "a", "{what}");
            let raw = scene.topology.client.run(|| {
                let domain = Domain::for_address(source);
                Socket::new(domain, Type::RAW, Some(IpProtocol::from(libc::IPPROTO_RAW)))
            });
            let raw = raw.expect("a raw socket");
            let mut rng = Rng::new(1);
            for n in 0..SYNS {
                let seq = rng.next_u64() as u32;
                let syn = Packet::tcp(source, to).flags(SYN).seq(seq).build();
                raw.send_to(&syn[14..], &SocketAddr::new(to.ip(), 0).into()).expect(&what);
                if n % 20 == 0 {
                    echo(stream, &what);
                }
            }
            echo(stream, &what);
            let flows = scene.agent.status().expect("status").reasons["flow_reused"];
            assert!(flows > 1_000, "{what}: the SYNs have begun flows, of which {flows} are over");
        }
    }
}
