//! What weir counts of connections against what both of their ends logged: the two must be equal,
//! for each subset and each way in which a connection can end.

use std::collections::BTreeMap;
use std::io::{self, ErrorKind, Read as _, Write as _};
use std::net::{IpAddr, Ipv6Addr, SocketAddr, TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use socket2::{Domain, SockRef, Socket, Type};
use weir_tests::agent::{Agent, SPLITS, Setup};
use weir_tests::netns::Netns;
use weir_tests::resource::SplitYaml;
use weir_tests::topology::{EndpointSpec, Topology, VIP_V4, VIP_V6, client_ip};

/// Where the endpoints listen for connections to a service.
fn port(service: SocketAddr) -> u16 {
    if service.is_ipv4() { 90 } else { 91 }
}

/// The client's ports, in each of its addresses.
const PORTS: std::ops::Range<u16> = 10_000..30_000;
/// Those of them whose SYNs v3 refuses, and those whose SYNs it drops.
const REFUSED: std::ops::Range<u16> = 10_100..10_200;
const DROPPED: std::ops::Range<u16> = 10_200..10_250;
/// For so long a client waits for an answer to its SYN: Linux has sent it again after four seconds
/// or more by then, whatever kernel it is (tcp_syn_linear_timeouts since 6.5).
const PATIENCE: Duration = Duration::from_millis(7500);
/// Connections that are made at a time, apart from those that wait for an answer.
const THREADS: u16 = 4;

/// How a connection goes, once it is there.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Fate {
    /// Asked, answered, closed by the client and then by the endpoint.
    Closed,
    /// Asked, reset by the endpoint.
    ResetBeforeReply,
    /// Asked, answered, reset by the endpoint.
    ResetAfterReply,
    /// Asked, answered, reset by the client.
    ResetByClient,
    /// Asked, and closed by the client, who had no answer.
    Silent,
    /// Nobody asked: closed by the client at once.
    Idle,
    /// It is not there: refused.
    Refused,
    /// It is not there: nobody answered.
    Unanswered,
}

impl Fate {
    /// Of a connection from that port that was accepted.
    fn of(port: u16) -> Self {
        match port % 12 {
            0 => Self::ResetBeforeReply,
            1 => Self::ResetAfterReply,
            2 => Self::ResetByClient,
            3 => Self::Silent,
            4 => Self::Idle,
            _ => Self::Closed,
        }
    }
}

/// How many connections met which fate.
type Log = BTreeMap<Fate, u64>;

fn add(log: &mut Log, other: Log) {
    for (fate, count) in other {
        *log.entry(fate).or_default() += count;
    }
}

/// Has the end of a connection be a reset.
fn resets(stream: &TcpStream) {
    SockRef::from(stream).set_linger(Some(Duration::ZERO)).expect("SO_LINGER");
}

/// An endpoint's side of a connection.
fn serve(mut stream: TcpStream) -> io::Result<Fate> {
    let fate = Fate::of(stream.peer_addr()?.port());
    let mut question = [0; 2];
    if fate != Fate::Idle {
        stream.read_exact(&mut question)?;
    }
    match fate {
        Fate::ResetBeforeReply => resets(&stream),
        Fate::Silent | Fate::Idle => assert_eq!(stream.read(&mut question)?, 0, "{fate:?}"),
        _ => {
            stream.write_all(b"ok")?;
            match (fate, stream.read(&mut question)) {
                // The client has the answer: it says so.
                (Fate::ResetAfterReply, Ok(1)) => resets(&stream),
                (Fate::ResetByClient, Err(error)) if error.kind() == ErrorKind::ConnectionReset => {
                }
                (Fate::Closed, Ok(0)) => {}
                other => panic!("{other:?}"),
            }
        }
    }
    Ok(fate)
}

/// The client's side of one.
fn ask(source: SocketAddr, to: SocketAddr) -> io::Result<Fate> {
    let socket = Socket::new(Domain::for_address(source), Type::STREAM, None)?;
    socket.bind(&source.into())?;
    if let Err(error) = socket.connect_timeout(&to.into(), PATIENCE) {
        return match error.kind() {
            ErrorKind::ConnectionRefused => Ok(Fate::Refused),
            ErrorKind::TimedOut => Ok(Fate::Unanswered),
            _ => Err(error),
        };
    }
    let mut stream = TcpStream::from(socket);
    stream.set_read_timeout(Some(Duration::from_secs(10)))?;
    let fate = Fate::of(source.port());
    let mut answer = [0; 2];
    match fate {
        Fate::Idle => return Ok(fate),
        Fate::Silent => {
            stream.write_all(b"?\n")?;
            std::thread::sleep(Duration::from_millis(2));
            return Ok(fate);
        }
        Fate::ResetBeforeReply => {
            stream.write_all(b"?\n")?;
            let error = stream.read(&mut answer).expect_err("a reset");
            assert_eq!(error.kind(), ErrorKind::ConnectionReset);
            return Ok(fate);
        }
        _ => {}
    }
    stream.write_all(b"?\n")?;
    stream.read_exact(&mut answer)?;
    match fate {
        Fate::ResetAfterReply => {
            stream.write_all(b"!")?;
            let error = stream.read(&mut answer).expect_err("a reset");
            assert_eq!(error.kind(), ErrorKind::ConnectionReset);
        }
        Fate::ResetByClient => resets(&stream),
        _ => {
            stream.shutdown(std::net::Shutdown::Write)?;
            assert_eq!(stream.read(&mut answer)?, 0, "the endpoint closes, too");
        }
    }
    Ok(fate)
}

/// Listens in a namespace.
fn listen(ns: &Netns, port: u16) -> TcpListener {
    let listener = ns.run(|| TcpListener::bind((Ipv6Addr::UNSPECIFIED, port)));
    let listener = listener.expect("a listener");
    listener.set_nonblocking(true).expect("nonblocking");
    listener
}

/// Serves until it is told to stop; what became of the connections.
fn endpoint(listener: &TcpListener, stop: &AtomicBool) -> Log {
    std::thread::scope(|scope| {
        let (mut log, mut open) = (Log::new(), Vec::new());
        loop {
            match listener.accept() {
                Ok((stream, _)) => {
                    stream.set_nonblocking(false).expect("blocking");
                    open.push(scope.spawn(move || serve(stream).expect("the endpoint's side")));
                }
                Err(_) if stop.load(Ordering::Relaxed) => break,
                Err(_) => std::thread::sleep(Duration::from_millis(1)),
            }
            let (over, rest) = open.into_iter().partition(|one| one.is_finished());
            open = rest;
            let over: Vec<std::thread::ScopedJoinHandle<'_, Fate>> = over;
            for one in over {
                *log.entry(one.join().expect("a connection")).or_default() += 1;
            }
        }
        for one in open {
            *log.entry(one.join().expect("a connection")).or_default() += 1;
        }
        log
    })
}

/// Connects from all of these ports of an address; what became of the connections.
fn client(from: IpAddr, to: SocketAddr, count: u16) -> Log {
    let run = |ports: Vec<u16>| {
        let mut log = Log::new();
        for port in ports {
            let fate = ask(SocketAddr::new(from, port), to);
            let fate = fate.unwrap_or_else(|error| panic!("from port {port}: {error}"));
            *log.entry(fate).or_default() += 1;
        }
        log
    };
    let ports: Vec<u16> = PORTS.take(count.into()).collect();
    std::thread::scope(|scope| {
        let waiting = ports.iter().filter(|port| DROPPED.contains(port));
        let mut all: Vec<_> = waiting.map(|&port| scope.spawn(move || run(vec![port]))).collect();
        for at in 0..THREADS {
            let own = ports.iter().filter(|port| **port % THREADS == at);
            let own: Vec<u16> = own.filter(|port| !DROPPED.contains(port)).copied().collect();
            all.push(scope.spawn(move || run(own)));
        }
        let mut log = Log::new();
        all.into_iter().for_each(|one| add(&mut log, one.join().expect("a client")));
        log
    })
}

/// Connections in each family; many more with `cargo xtask stress truth`.
fn connections() -> usize {
    let wanted = std::env::var("WEIR_TRUTH_CONNECTIONS").ok();
    wanted.map_or(1200, |text| text.parse().expect("a number"))
}

fn check(agent: &Agent, name: &str, client: &Log, endpoints: &[(&str, Log); 2]) {
    let split = agent.stats(name).expect("counters");
    let of = |log: &Log, fate| log.get(&fate).copied().unwrap_or_default();
    for ((subset, log), counted) in endpoints.iter().zip(&split.subsets) {
        assert_eq!(counted.name, *subset);
        let accepted: u64 = log.values().sum();
        let of = |fates: &[Fate]| fates.iter().map(|&fate| of(log, fate)).sum::<u64>();
        let replied = of(&[Fate::Closed, Fate::ResetAfterReply, Fate::ResetByClient]);
        let signals = &counted.signals;
        for (what, found, wanted) in [
            ("completed", counted.completed, accepted),
            ("asked", signals.asked, accepted - of(&[Fate::Idle])),
            ("replied", signals.replied, replied),
            ("ended", counted.ended, accepted),
            ("by a FIN", signals.ended_by_fin, of(&[Fate::Closed, Fate::Silent, Fate::Idle])),
            ("by the client", signals.reset_by_client, of(&[Fate::ResetByClient])),
            ("before a reply", signals.reset_before_reply, of(&[Fate::ResetBeforeReply])),
            ("after a reply", signals.reset_after_reply, of(&[Fate::ResetAfterReply])),
            ("early", signals.early_resets, of(&[Fate::ResetBeforeReply, Fate::ResetAfterReply])),
        ] {
            assert_eq!(found, wanted, "{name} {subset} {what}: {log:?}");
        }
        let times = counted.times.expect("times are measured");
        let counts = [times.handshake, times.reply, times.life].map(|time| time.map(|t| t.count));
        assert_eq!(counts, [accepted, replied, accepted].map(Some), "{name} {subset}: times");
        let endpoint = counted.endpoints[0].signals;
        assert_eq!(
            (endpoint.completed, endpoint.ended_by_fin, endpoint.reset_before_reply),
            (accepted, signals.ended_by_fin, signals.reset_before_reply),
            "{name} {subset}: its endpoint"
        );
    }
    // v1 refuses and drops none.
    let [v1, v3] = [&split.subsets[0], &split.subsets[1]];
    assert_eq!((v1.refused, v1.signals.unanswered), (0, 0));
    let (refused, unanswered) = (of(client, Fate::Refused), of(client, Fate::Unanswered));
    assert_eq!((v3.refused, v3.signals.unanswered), (refused, unanswered), "{name}: {client:?}");
    assert_eq!(v3.endpoints[0].signals.unanswered, unanswered);
    assert!(refused > 0 && unanswered > 0, "{client:?}: no case of it");
    for (_, log) in endpoints {
        assert!(log.len() >= 6, "not every fate: {log:?}");
    }
}

#[test]
fn what_is_counted_is_what_both_ends_logged() {
    let specs = ["v1", "v3"].map(EndpointSpec::new);
    let topology = Topology::new(&specs).unwrap();
    let services = [("four", IpAddr::from(VIP_V4)), ("six", VIP_V6.into())]
        .map(|(name, ip)| (name, SocketAddr::new(ip, 9080)));
    let splits = services.map(|(name, service)| {
        let ips = |name| topology.ips(&[name], service.ip());
        SplitYaml::tcp(name, service)
            .subset("v1", 60, &ips("v1"), port(service))
            .subset("v3", 40, &ips("v3"), port(service))
            .text()
    });
    let v3 = &topology.endpoints[1].ns;
    v3.output("nft", &["add", "table", "inet", "truth"]).unwrap();
    let chain = "{ type filter hook input priority 0; }";
    v3.output("nft", &["add", "chain", "inet", "truth", "in", chain]).unwrap();
    for (ports, action) in [(REFUSED, "reject with tcp reset"), (DROPPED, "drop")] {
        let rule = format!("tcp sport {}-{} {action}", ports.start, ports.end - 1);
        v3.output("nft", &["add", "rule", "inet", "truth", "in", &rule]).unwrap();
    }
    let agent = Setup::default().resource(SPLITS, &splits.join("---\n")).start(&topology.node);
    let agent = agent.unwrap();
    std::thread::scope(|scope| {
        for (name, service) in services {
            let (agent, topology) = (&agent, &topology);
            scope.spawn(move || family(agent, topology, name, service));
        }
    });
}

/// Connects to a split, and compares what was counted with what was logged.
fn family(agent: &Agent, topology: &Topology, name: &str, service: SocketAddr) {
    let listeners = [0, 1].map(|at| listen(&topology.endpoints[at].ns, port(service)));
    let (each, limit) = (connections(), PORTS.len());
    let first = client_ip(service.ip());
    let addresses: Vec<IpAddr> =
        (0..each.div_ceil(limit)).map(|n| another(topology, first, n)).collect();
    let (stop, begun) = (AtomicBool::new(false), Instant::now());
    let (log, [v1, v3]) = std::thread::scope(|scope| {
        let servers =
            listeners.each_ref().map(|listener| scope.spawn(|| endpoint(listener, &stop)));
        let mut log = Log::new();
        for (at, &address) in addresses.iter().enumerate() {
            let count = (each - at * limit).min(limit) as u16;
            add(&mut log, topology.client.run(|| client(address, service, count)));
        }
        stop.store(true, Ordering::Relaxed);
        (log, servers.map(|server| server.join().expect("an endpoint")))
    });
    assert_eq!(log.values().sum::<u64>(), each as u64, "{log:?}");
    println!("{name}: {each} connections in {:?}: {log:?}", begun.elapsed());
    check(agent, name, &log, &[("v1", v1), ("v3", v3)]);
}

/// The client's own address, or the n-th other one of its network.
fn another(topology: &Topology, first: IpAddr, n: usize) -> IpAddr {
    if n == 0 {
        return first;
    }
    let (address, length) = match first {
        IpAddr::V4(ip) => (IpAddr::from((u32::from(ip) + n as u32).to_be_bytes()), 24),
        IpAddr::V6(ip) => (IpAddr::from((u128::from(ip) + n as u128).to_be_bytes()), 64),
    };
    let client = &topology.client;
    let flags = if first.is_ipv6() { " nodad" } else { "" };
    client.ip(&[format!("address add {address}/{length} dev eth0{flags}")]).unwrap();
    address
}
