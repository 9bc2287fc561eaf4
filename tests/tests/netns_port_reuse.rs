//! One client port, used for two hundred real connections, however each of them ends: through
//! weir, and through a NAT of the kernel beside it, which weir must not be worse than.

use std::collections::BTreeMap;
use std::io::{self, ErrorKind, Read as _, Write as _};
use std::net::{IpAddr, Shutdown, SocketAddr, TcpStream};
use std::time::{Duration, Instant};

use nix::sys::socket::{setsockopt, sockopt::TcpRepair};
use socket2::SockRef;
use weir_tests::agent::Setup;
use weir_tests::client::connect_from;
use weir_tests::netns::Netns;
use weir_tests::resource::SplitYaml;
use weir_tests::scene::{BULK, PORT, Scene};
use weir_tests::server::{Server, read_line};
use weir_tests::topology::{EndpointSpec, Topology, VIP_V4, VIP_V6, client_ip};

/// Connections that use the port.
const CONNECTIONS: usize = 200;
/// After so many, new ones go to the other endpoint.
const SHIFT: usize = 20;
/// How long the client's own port may be in its own way.
const PATIENCE: Duration = Duration::from_secs(10);
/// The endpoints.
const NAMES: [&str; 2] = ["a", "b"];

/// A way in which a connection ends, with what the client does from connecting to the end; gives
/// who answered.
struct Ending {
    name: &'static str,
    /// Of the endpoints.
    port: u16,
    talk: fn(SocketAddr, SocketAddr) -> io::Result<String>,
    /// Whether both sides use timestamps (RFC 7323): an endpoint in TIME_WAIT then takes a SYN by
    /// its time, else by its number.
    timestamps: bool,
}

/// Connects from a port whose last connection may be in its last moments: the client does not wait
/// in TIME_WAIT.
fn connect(source: SocketAddr, to: SocketAddr) -> io::Result<TcpStream> {
    let deadline = Instant::now() + PATIENCE;
    loop {
        match connect_from(source, to) {
            Err(error)
                if error.kind() == ErrorKind::AddrNotAvailable && Instant::now() < deadline => {}
            other => return other,
        }
    }
}

fn end_of(stream: &mut TcpStream) -> io::Result<()> {
    if stream.read(&mut [0])? == 0 { Ok(()) } else { Err(ErrorKind::InvalidData.into()) }
}

fn client_closes(source: SocketAddr, to: SocketAddr) -> io::Result<String> {
    let mut stream = connect(source, to)?;
    let name = read_line(&mut stream)?;
    stream.shutdown(Shutdown::Write)?;
    end_of(&mut stream)?;
    Ok(name)
}

fn client_resets(source: SocketAddr, to: SocketAddr) -> io::Result<String> {
    let mut stream = connect(source, to)?;
    let name = read_line(&mut stream)?;
    SockRef::from(&stream).set_linger(Some(Duration::ZERO))?;
    Ok(name)
}

fn endpoint_closes(source: SocketAddr, to: SocketAddr) -> io::Result<String> {
    let mut stream = connect(source, to)?;
    stream.write_all(b"I")?;
    let name = read_line(&mut stream)?;
    end_of(&mut stream)?;
    Ok(name)
}

fn endpoint_resets(source: SocketAddr, to: SocketAddr) -> io::Result<String> {
    let mut stream = connect(source, to)?;
    stream.write_all(b"R")?;
    let name = read_line(&mut stream)?;
    stream.write_all(b"now")?;
    match stream.read(&mut [0]) {
        Err(error) if error.kind() == ErrorKind::ConnectionReset => Ok(name),
        Err(error) => Err(error),
        Ok(_) => Err(ErrorKind::InvalidData.into()),
    }
}

fn endings() -> [Ending; 5] {
    let ending = |name, port, talk| Ending { name, port, talk, timestamps: true };
    [
        ending("the client closes", PORT, client_closes),
        ending("the client resets", PORT, client_resets),
        ending("the endpoint closes and waits in TIME_WAIT", BULK, endpoint_closes),
        Ending {
            timestamps: false,
            ..ending("the same without timestamps", BULK, endpoint_closes)
        },
        ending("the endpoint resets", BULK, endpoint_resets),
    ]
}

/// What balances.
enum Balancer {
    Weir(Box<Scene>),
    /// nftables on the node.
    Nat(Topology, #[expect(dead_code, reason = "they serve until they are dropped")] Vec<Server>),
}

impl Balancer {
    /// A service at `vip` for endpoints that listen at `port`.
    fn weir(hook: &'static str, vip: SocketAddr, port: u16) -> Self {
        let scene = Scene::new(&NAMES, |t| {
            let split = NAMES.iter().fold(SplitYaml::tcp("reviews", vip), |split, &name| {
                split.subset(name, 1, &t.ips(&[name], vip.ip()), port)
            });
            Setup::default().forward(hook).split(&split.text())
        });
        Self::Weir(Box::new(scene.expect("a scene")))
    }

    fn nat(vip: SocketAddr) -> Self {
        let topology = Topology::new(&NAMES.map(EndpointSpec::new)).expect("a topology");
        let family = if vip.is_ipv4() { "ip" } else { "ip6" };
        let table = format!(
            "table {family} nat {{\nchain prerouting {{\n\
             type nat hook prerouting priority dstnat\n}}\n}}"
        );
        topology.node.output("nft", &[&table]).expect("a table");
        let any = |port| SocketAddr::new(std::net::Ipv6Addr::UNSPECIFIED.into(), port);
        let mut servers = Vec::new();
        for endpoint in &topology.endpoints {
            let (ns, name) = (&endpoint.ns, endpoint.name.as_str());
            servers.push(Server::tcp(ns, any(PORT), name).expect("a server"));
            servers.push(Server::bulk(ns, any(BULK), name).expect("a server"));
        }
        Self::Nat(topology, servers)
    }

    fn topology(&self) -> &Topology {
        match self {
            Self::Weir(scene) => &scene.topology,
            Self::Nat(topology, _) => topology,
        }
    }

    fn client(&self) -> &Netns {
        &self.topology().client
    }

    /// The client forgets its connections at once when they are closed, and both sides use
    /// timestamps or not.
    fn tune(&self, timestamps: bool) {
        let topology = self.topology();
        let value = if timestamps { "1" } else { "0" };
        for ns in topology.namespaces() {
            ns.sysctl("net/ipv4/tcp_timestamps", value).expect("a setting");
        }
        topology.client.sysctl("net/ipv4/tcp_max_tw_buckets", "0").expect("a setting");
    }

    /// New connections go to that endpoint from now on.
    fn shift(&self, to: &str, vip: SocketAddr, port: u16) {
        match self {
            Self::Weir(scene) => {
                let weights = NAMES.map(|name| (name, u32::from(name == to)));
                scene.agent.weights("reviews", &weights).expect("weights");
            }
            Self::Nat(topology, _) => {
                let endpoint = SocketAddr::new(topology.endpoint(to).ip(vip.ip()), port);
                let family = if vip.is_ipv4() { "ip" } else { "ip6" };
                let rules = format!(
                    "flush chain {family} nat prerouting\n\
                     add rule {family} nat prerouting {family} daddr {} tcp dport {} dnat to {endpoint}",
                    vip.ip(),
                    vip.port()
                );
                topology.node.output("nft", &[&rules]).expect("a rule");
            }
        }
    }
}

/// How many connections were answered by the right endpoint, and what became of the others.
#[derive(Debug, Default)]
struct Outcome {
    right: usize,
    others: BTreeMap<String, usize>,
}

impl Outcome {
    fn add(&mut self, answer: io::Result<String>, wanted: &str) {
        match answer {
            Ok(name) if name == wanted => self.right += 1,
            Ok(name) => *self.others.entry(format!("reached {name}")).or_default() += 1,
            Err(error) => *self.others.entry(error.to_string()).or_default() += 1,
        }
    }
}

fn use_again(balancer: &Balancer, ending: &Ending, vip: SocketAddr) -> Outcome {
    balancer.tune(ending.timestamps);
    let source = SocketAddr::new(client_ip(vip.ip()), 20_000);
    let mut outcome = Outcome::default();
    for first in (0..CONNECTIONS).step_by(SHIFT) {
        let wanted = NAMES[first / SHIFT % 2];
        balancer.shift(wanted, vip, ending.port);
        balancer.client().run(|| {
            (0..SHIFT).for_each(|_| outcome.add((ending.talk)(source, vip), wanted));
        });
    }
    outcome
}

fn check(hook: &'static str, vip: IpAddr) {
    let vip = SocketAddr::new(vip, 9080);
    for ending in endings() {
        let what = format!("{hook}, {vip}, {}", ending.name);
        let weir = use_again(&Balancer::weir(hook, vip, ending.port), &ending, vip);
        let nat = use_again(&Balancer::nat(vip), &ending, vip);
        println!("{what}: of {CONNECTIONS}, weir {weir:?}, NAT of the kernel {nat:?}");
        // All of them, so at least as many as the NAT.
        assert_eq!(weir.right, CONNECTIONS, "{what}: {weir:?}");
    }
}

#[test]
fn a_port_that_is_used_again_and_again_follows_the_weights_over_ipv4_at_tc() {
    check("tc", VIP_V4.into());
}

#[test]
fn a_port_that_is_used_again_and_again_follows_the_weights_over_ipv6_at_xdp() {
    check("xdp", VIP_V6.into());
}

/// Ports of clients that know nothing of their last connection, and how often each does so.
const FORGETFUL: u16 = 20;
const ROUNDS: usize = 3;

/// Connects and forgets the connection without a word, as a client that loses its power.
fn connect_and_vanish(source: SocketAddr, to: SocketAddr) -> io::Result<String> {
    let mut stream = connect(source, to)?;
    let name = read_line(&mut stream)?;
    setsockopt(&stream, TcpRepair, &1)?;
    Ok(name)
}

fn vanish(balancer: &Balancer, vip: SocketAddr) -> Outcome {
    let mut outcome = Outcome::default();
    for round in 0..=ROUNDS {
        let wanted = NAMES[round % 2];
        balancer.shift(wanted, vip, PORT);
        let answers: Vec<_> = balancer.client().run(|| {
            std::thread::scope(|scope| {
                let ask = |port: u16| {
                    let source = SocketAddr::new(client_ip(vip.ip()), port);
                    scope.spawn(move || connect_and_vanish(source, vip))
                };
                let threads: Vec<_> = (0..FORGETFUL).map(|n| ask(20_000 + n)).collect();
                threads.into_iter().map(|thread| thread.join().expect("a thread")).collect()
            })
        });
        for answer in answers {
            outcome.add(answer, wanted);
        }
    }
    outcome
}

#[test]
fn a_client_that_lost_its_connections_reaches_todays_endpoint_from_the_same_ports() {
    let all = usize::from(FORGETFUL) * (ROUNDS + 1);
    for (hook, vip) in [("tc", IpAddr::from(VIP_V4)), ("xdp", VIP_V6.into())] {
        let vip = SocketAddr::new(vip, 9080);
        let weir = vanish(&Balancer::weir(hook, vip, PORT), vip);
        let nat = vanish(&Balancer::nat(vip), vip);
        println!("{hook}, {vip}: of {all}, weir {weir:?}, NAT of the kernel {nat:?}");
        assert_eq!(weir.right, all, "{hook}, {vip}: {weir:?}");
    }
}
