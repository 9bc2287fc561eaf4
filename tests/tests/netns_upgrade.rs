//! The agent is started with other sizes, or another layout, under traffic: no
//! connection is lost, none moves, and counters go on.
//!
//! Layout 7 is what `weir downgrade` puts in force, but for the test that is ignored:
//! it needs that build itself, which `cargo xtask stress upgrade` makes.

use std::io::{Read as _, Write as _};
use std::net::{IpAddr, SocketAddr, TcpStream, UdpSocket};
use std::os::unix::fs::MetadataExt as _;
use std::path::Path;
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use nix::sys::signal::Signal;
use probe_common::times::Measured;
use socket2::SockRef;
use weir::datapath::Counters;
use weir::model::Protocol;
use weir_tests::agent::{Agent, SPLITS, Setup, program};
use weir_tests::client::{connect_from, exchange, ports, udp_from};
use weir_tests::resource::SplitYaml;
use weir_tests::scene::{PORT, Scene};
use weir_tests::server::read_line;
use weir_tests::topology::{ETH, Topology, VIP_V4, VIP_V6, client_ip};
use weir_tests::watch::Watch;

/// Sizes at the end of agent.yaml. So many flows have ended just now that a table for those that
/// live would be full.
const SMALL: &str =
    "flows:\n  max: 131072\nlimits:\n  splits: 16\n  endpoints: 64\n  tableSlots: 16384\n";
/// Connections that live all the time, of each family.
const LIVE: u16 = 500;
/// A host behind an interface of its own, which serves nothing.
const GUEST: &str = "guest";
/// An endpoint whose packets wait for others on their way, so that handshakes take some tenths
/// of a second, and some are under way at any time.
const SLOW: &str = "slow";
/// How its packets leave: each takes about 18 ms.
const NARROW: [&str; 8] = ["root", "tbf", "rate", "32kbit", "burst", "1600", "limit", "30000"];
/// Where the split of that endpoint is, over TCP and IPv4.
const SLOW_PORT: u16 = 9090;
/// How many connect to it at the same time.
const WAITING: u16 = 20;
/// Datagram flows that live all the time, of each family.
const DATAGRAM: u16 = 50;

fn service(protocol: Protocol) -> [SocketAddr; 2] {
    let port = if protocol == Protocol::Tcp { 9080 } else { 9053 };
    [VIP_V4.into(), VIP_V6.into()].map(|ip| SocketAddr::new(ip, port))
}

/// Splits over TCP and UDP, of both families, between two subsets of two.
fn splits(topology: &Topology, weights: [u32; 2]) -> String {
    let mut documents = Vec::new();
    for (family, at) in [("v4", 0), ("v6", 1)] {
        for (name, protocol) in [("reviews", Protocol::Tcp), ("names", Protocol::Udp)] {
            let address = service(protocol)[at];
            let split = SplitYaml::new(&format!("{name}-{family}"), address, protocol)
                .subset("v1", weights[0], &topology.ips(&["v1-a", "v1-b"], address.ip()), PORT)
                .subset("v2", weights[1], &topology.ips(&["v2-a"], address.ip()), PORT)
                .text();
            documents.push(split);
        }
    }
    let vip = SocketAddr::new(VIP_V4.into(), SLOW_PORT);
    let slow = SplitYaml::new("slow", vip, Protocol::Tcp);
    documents.push(slow.subset("v1", 1, &topology.ips(&[SLOW], vip.ip()), PORT).text());
    documents.join("---\n")
}

/// Flows that live, with the endpoints that they reached.
struct Live {
    connections: Vec<(TcpStream, String)>,
    datagrams: Vec<(UdpSocket, String)>,
}

impl Live {
    fn begin(scene: &Scene) -> Self {
        scene.topology.client.run(|| {
            let (mut connections, mut datagrams) = (Vec::new(), Vec::new());
            for vip in service(Protocol::Tcp) {
                for source in ports(client_ip(vip.ip()), 10_000..10_000 + LIVE) {
                    let mut stream = connect_from(source, vip).unwrap();
                    let endpoint = read_line(&mut stream).unwrap();
                    connections.push((stream, endpoint));
                }
            }
            for vip in service(Protocol::Udp) {
                for source in ports(client_ip(vip.ip()), 12_000..12_000 + DATAGRAM) {
                    let socket = udp_from(source, vip).unwrap();
                    // It lives when both sides have spoken, and the client once more.
                    let endpoint = exchange(&socket, b"first").unwrap();
                    assert_eq!(exchange(&socket, b"second").unwrap(), endpoint);
                    datagrams.push((socket, endpoint));
                }
            }
            Self { connections, datagrams }
        })
    }

    /// Something there and back on each.
    fn go_on(&mut self, when: &str) {
        for (number, (stream, endpoint)) in self.connections.iter_mut().enumerate() {
            let (text, mut answer) = (format!("{number:016}"), [0; 16]);
            let done =
                stream.write_all(text.as_bytes()).and_then(|()| stream.read_exact(&mut answer));
            done.unwrap_or_else(|e| panic!("{when}: connection {number} to {endpoint}: {e}"));
            assert_eq!(answer, text.as_bytes(), "{when}: connection {number} to {endpoint}");
        }
        for (number, (socket, endpoint)) in self.datagrams.iter().enumerate() {
            let now = exchange(socket, b"again");
            let now = now.unwrap_or_else(|e| panic!("{when}: datagrams {number}: {e}"));
            assert_eq!(now, *endpoint, "{when}: datagrams {number}");
        }
    }
}

/// Connections that are made all the time, at full rate, by hosts behind different interfaces.
#[derive(Default)]
struct NewConnections {
    stop: AtomicBool,
    made: AtomicU64,
    failures: Mutex<Vec<String>>,
}

impl NewConnections {
    fn run(&self, hosts: [IpAddr; 2], first: u16) {
        let mut port = first;
        while !self.stop.load(Ordering::Relaxed) {
            port = if port == first + 14_999 { first } else { port + 1 };
            for (host, vip) in hosts.into_iter().zip(service(Protocol::Tcp)) {
                let source = SocketAddr::new(host, port);
                let mut served = connect_from(source, vip);
                let line = served.as_mut().map(read_line);
                match line {
                    Ok(Ok(_)) => self.made.fetch_add(1, Ordering::Relaxed),
                    Ok(Err(error)) => return self.failed(source, &error),
                    Err(error) => return self.failed(source, error),
                };
            }
        }
    }

    /// Connects to the slow endpoint all the time, from some hundreds of ports.
    fn wait(&self, first: u16) {
        let vip = SocketAddr::new(VIP_V4.into(), SLOW_PORT);
        for source in ports(client_ip(vip.ip()), first..first + 400).into_iter().cycle() {
            if self.stop.load(Ordering::Relaxed) {
                return;
            }
            let served = connect_from(source, vip).and_then(|mut stream| {
                read_line(&mut stream)?;
                // So that the endpoint has nothing more to say.
                SockRef::from(&stream).set_linger(Some(Duration::ZERO))
            });
            match served {
                Ok(()) => self.made.fetch_add(1, Ordering::Relaxed),
                Err(error) => return self.failed(source, &error),
            };
        }
    }

    fn failed(&self, source: SocketAddr, error: &std::io::Error) {
        self.failures.lock().unwrap().push(format!("from {source}: {error}"));
    }
}

/// Ends them, also when the test panics.
struct Stop<'a>(&'a NewConnections);

impl Drop for Stop<'_> {
    fn drop(&mut self) {
        self.0.stop.store(true, Ordering::Relaxed);
    }
}

/// Does something while connections live and others are made.
fn under_traffic(scene: &mut Scene, act: impl FnOnce(&mut Agent, &Topology, &mut Live)) {
    let slow = scene.topology.endpoint(SLOW);
    let narrow = [&["qdisc", "add", "dev", ETH], &NARROW[..]].concat();
    slow.ns.output("tc", &narrow).unwrap();
    // What the new programs do not know of comes from the endpoint itself.
    let unknown = IpAddr::from(slow.v4);
    let client = Watch::new(&scene.topology.client, ETH, &[unknown]).unwrap();
    let mut live = Live::begin(scene);
    // So that weights of today would send a part of them elsewhere.
    weigh(scene, [10, 90]);
    let new_connections = NewConnections::default();
    let (topology, agent) = (&scene.topology, &mut scene.agent);
    let before = counts(agent);
    std::thread::scope(|scope| {
        let stop = Stop(&new_connections);
        let guest = topology.endpoint(GUEST);
        let hosts = [
            (&topology.client, service(Protocol::Tcp).map(|vip| client_ip(vip.ip()))),
            (&guest.ns, service(Protocol::Tcp).map(|vip| guest.ip(vip.ip()))),
        ];
        for ((ns, hosts), first) in hosts.into_iter().zip([20_000, 40_000]) {
            let new_connections = &new_connections;
            scope.spawn(move || ns.run(|| new_connections.run(hosts, first)));
        }
        for worker in 0..WAITING {
            let new_connections = &new_connections;
            scope.spawn(move || topology.client.run(|| new_connections.wait(2_000 + 400 * worker)));
        }
        act(agent, topology, &mut live);
        live.go_on("at the end");
        drop(stop);
    });
    let failures = new_connections.failures.lock().unwrap();
    let made = new_connections.made.load(Ordering::Relaxed);
    assert!(failures.is_empty(), "{} of {made}: {}", failures.len(), failures[0]);
    assert_eq!(client.seen(unknown).unwrap(), 0, "answers of handshakes that were forgotten");
    let after = counts(agent);
    // A SYN that was sent again while both generations were there is counted by both. A flow that
    // was closing then may not be known to be closed: its port's next one counts for the same.
    for (counted, what) in [(after[0] - before[0], "subsets"), (after[1] - before[1], "endpoints")]
    {
        assert!(counted.abs_diff(made) < 100, "{what} counted {counted} of {made} flows");
    }
    // What was adopted can be changed.
    weigh(scene, [70, 30]);
    live.go_on("after a change of weights");
    println!("{} live flows, {made} new connections: 0 failures", live.connections.len());
}

/// Puts other weights in force.
fn weigh(scene: &Scene, weights: [u32; 2]) {
    scene.agent.replace(SPLITS, &splits(&scene.topology, weights));
    // Its log says so, of whatever build it is.
    let said = format!("split reviews-v6: v1={} v2={}", weights[0], weights[1]);
    let deadline = Instant::now() + Duration::from_secs(60);
    while !scene.agent.stderr().contains(&said) {
        assert!(Instant::now() < deadline, "never said: {said}");
        std::thread::sleep(Duration::from_millis(10));
    }
}

/// New flows that all subsets have counted, and all endpoints; by the pinned maps, since they
/// began.
fn counts(agent: &Agent) -> [u64; 2] {
    let counters = Counters::pinned(agent.pins()).unwrap();
    // Of five splits with sixteen subsets each, in each layout.
    let subsets = (0..80).map(|id| counters.subset_stats(id).unwrap().flows).sum();
    [subsets, (0..32).map(|id| counters.endpoint(id).unwrap().stats.flows).sum()]
}

/// What became of all flows, and how many times were measured, by the pinned maps.
fn outcomes(agent: &Agent) -> [(&'static str, u64); 6] {
    let counters = Counters::pinned(agent.pins()).unwrap();
    let subsets = || (0..80).map(|id| (id, counters.subset(id).unwrap()));
    let endpoints = || (0..32).map(|id| counters.endpoint(id).unwrap().signals);
    let times = |measured| {
        let each = (0..80).filter_map(|id| counters.times(id).unwrap());
        each.map(|times| times.count(measured)).sum()
    };
    [
        ("completed, of subsets", subsets().map(|(_, of)| of.stats.completed).sum()),
        ("ended by a FIN, of subsets", subsets().map(|(_, of)| of.signals.ended_by_fin).sum()),
        ("completed, of endpoints", endpoints().map(|of| of.completed).sum()),
        ("ended by a FIN, of endpoints", endpoints().map(|of| of.ended_by_fin).sum()),
        ("times of handshakes", times(Measured::Handshake)),
        ("times of lives", times(Measured::Life)),
    ]
}

fn scene(setup: &Setup) -> Scene {
    let names = ["v1-a", "v1-b", "v2-a", GUEST, SLOW];
    Scene::new(&names, |t| setup.clone().config(SMALL).split(&splits(t, [50, 50]))).unwrap()
}

fn configure(agent: &Agent, lines: &str) {
    let path = agent.directory().join("agent.yaml");
    let text = std::fs::read_to_string(&path).unwrap();
    let kept = text.split("flows:").next().unwrap().split("limits:").next().unwrap();
    std::fs::write(&path, format!("{kept}{lines}")).unwrap();
}

/// The file of a pinned map: another one where the map is another one.
fn inode(maps: &Path, name: &str) -> u64 {
    std::fs::metadata(maps.join(name)).unwrap().ino()
}

#[test]
fn other_sizes_cost_no_connection_and_no_count() {
    let mut scene = scene(&Setup::default());
    under_traffic(&mut scene, |agent, topology, live| {
        agent.end(Signal::SIGTERM).unwrap();
        let too_small = [
            (
                "limits:\n  splits: 2\n",
                "limits.splits: 2 is configured, but what lives needs at least 5",
            ),
            (
                "limits:\n  endpoints: 2\n",
                "limits.endpoints: 2 is configured, but what lives needs at least",
            ),
        ];
        for (lines, expected) in too_small {
            configure(agent, lines);
            let error = agent.start_again(&topology.node).unwrap_err().to_string();
            assert!(error.contains(expected), "{error}");
            live.go_on(lines);
        }
        let sizes = [
            "flows:\n  max: 262144\nlimits:\n  splits: 16\n  endpoints: 64\n  tableSlots: 16384\n",
            "flows:\n  max: 262144\nlimits:\n  splits: 64\n  endpoints: 256\n  tableSlots: 32768\n",
            "flows:\n  max: 65536\nlimits:\n  splits: 8\n  endpoints: 32\n  tableSlots: 8192\n",
        ];
        for lines in sizes {
            let before = inode(&agent.pins().maps(), "META");
            let counted = outcomes(agent);
            configure(agent, lines);
            agent.start_again(&topology.node).unwrap();
            for ((what, before), (_, after)) in counted.into_iter().zip(outcomes(agent)) {
                assert!(before > 0 && after >= before, "{lines}: {what} fell: {before}, {after}");
            }
            live.go_on(lines);
            assert_ne!(inode(&agent.pins().maps(), "META"), before, "{lines}: new maps");
            agent.end(Signal::SIGTERM).unwrap();
        }
        agent.start_again(&topology.node).unwrap();
        assert!(!agent.pins().are_in_transition());
    });
}

#[test]
fn an_agent_that_is_killed_while_flows_move_is_started_again_and_goes_on() {
    let mut scene = scene(&Setup::default());
    under_traffic(&mut scene, |agent, topology, live| {
        for (attempt, wait) in [150, 450, 800, 1300].into_iter().enumerate() {
            let max = 131_072 + 1024 * attempt;
            configure(agent, &format!("flows:\n  max: {max}\n"));
            agent.end(Signal::SIGKILL).unwrap();
            agent.start_for(&topology.node, Duration::from_millis(wait)).unwrap();
            live.go_on(&format!("killed after {wait} ms"));
            agent.start_again(&topology.node).unwrap();
        }
        assert!(!agent.pins().are_in_transition());
    });
}

/// Gives the maps to layout 7 and takes them again.
fn layout_7_and_back(hook: &'static str) {
    let mut scene = scene(&Setup::default().forward(hook));
    under_traffic(&mut scene, |agent, topology, live| {
        let rejected = downgrade(agent, topology).unwrap_err();
        assert!(rejected.contains("uses the maps"), "beside an agent: {rejected}");
        agent.end(Signal::SIGTERM).unwrap();
        let said = downgrade(agent, topology).unwrap();
        assert!(said.contains("the earlier build can be started"), "{said}");
        assert!(!agent.pins().map("SUBSET_IDS").exists(), "maps of layout 7");
        assert!(!agent.pins().are_in_transition());
        live.go_on("in layout 7");
        let said = downgrade(agent, topology).unwrap();
        assert!(said.contains("nothing to give back"), "{said}");
        agent.start_again(&topology.node).unwrap();
        assert!(agent.pins().map("SUBSET_IDS").exists(), "maps of this layout");
        live.go_on("in this layout again");
    });
}

/// Runs `weir downgrade --to 7`: what it says, or its error.
fn downgrade(agent: &Agent, topology: &Topology) -> Result<String, String> {
    let mut command = topology.node.command(agent.program().to_str().unwrap());
    command.args(["downgrade", "--to", "7", "--config"]);
    let output = command.arg(agent.directory().join("agent.yaml")).output().unwrap();
    let text = |bytes| String::from_utf8(bytes).unwrap();
    if output.status.success() { Ok(text(output.stdout)) } else { Err(text(output.stderr)) }
}

/// The real build of layout 7 is upgraded, rejects what came after it while the kernel goes on,
/// and gets it back.
fn the_real_build(hook: &'static str) {
    let previous = std::env::var("WEIR_PREVIOUS").expect("WEIR_PREVIOUS names that build's weir");
    let mut scene = scene(&Setup::default().forward(hook).program(previous.as_ref()));
    under_traffic(&mut scene, |agent, topology, live| {
        live.go_on("in layout 7");
        agent.end(Signal::SIGTERM).unwrap();
        agent.becomes(program().unwrap());
        agent.start_again(&topology.node).unwrap();
        assert!(agent.stderr().contains("they have layout 7"), "{}", agent.stderr());
        live.go_on("upgraded");
        agent.end(Signal::SIGTERM).unwrap();
        agent.becomes(previous.clone().into());
        let rejected = agent.start_again(&topology.node).unwrap_err().to_string();
        assert!(rejected.contains("have layout 8"), "{rejected}");
        live.go_on("while the earlier build rejects");
        agent.becomes(program().unwrap());
        downgrade(agent, topology).unwrap();
        live.go_on("given back");
        agent.becomes(previous.clone().into());
        agent.start_again(&topology.node).unwrap();
        let adopted = agent.stderr().matches("adopted 5 splits").count();
        assert_eq!(adopted, 2, "by each of the two builds:\n{}", agent.stderr());
        live.go_on("in layout 7 again");
    });
}

#[test]
#[ignore = "needs the build of layout 7, which cargo xtask stress upgrade makes"]
fn the_real_build_of_layout_7_at_tc() {
    the_real_build("tc");
}

#[test]
#[ignore = "needs the build of layout 7, which cargo xtask stress upgrade makes"]
fn the_real_build_of_layout_7_at_xdp() {
    the_real_build("xdp");
}

#[test]
fn layout_7_and_back_at_tc() {
    layout_7_and_back("tc");
}

#[test]
fn layout_7_and_back_at_xdp() {
    layout_7_and_back("xdp");
}
