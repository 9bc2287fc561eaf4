//! Services that netfilter served before weir, as kube-proxy has it do: open connections go on
//! where they are when weir takes the service over, and whenever an interface gets its programs.

use std::collections::BTreeSet;
use std::io;
use std::net::{IpAddr, SocketAddr, TcpStream, UdpSocket};
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use nix::net::if_::if_nametoindex;
use nix::sys::signal::Signal;
use weir_tests::agent::Setup;
use weir_tests::attachment::detach;
use weir_tests::client::{exchange, udp_from};
use weir_tests::kube_proxy;
use weir_tests::netns::Netns;
use weir_tests::resource::SplitYaml;
use weir_tests::scene::{PORT, Scene};
use weir_tests::server::{Server, connect, read_line, say, tcp_identity};
use weir_tests::topology::{CLIENT_FACING, Topology, client_ip, vips};

const TIMEOUT: Duration = Duration::from_secs(10);
const NAMES: [&str; 3] = ["v1-a", "v1-b", "v2-a"];
/// Where endpoints answer each line with their names.
const LINES: u16 = 82;
/// Connections to each service.
const CONNECTIONS: usize = 100;

/// A service address, of connections that talk for long.
fn talks(ip: IpAddr) -> SocketAddr {
    SocketAddr::new(ip, 9082)
}

/// A service address, of short connections and of datagrams.
fn asks(ip: IpAddr) -> SocketAddr {
    SocketAddr::new(ip, 9080)
}

/// Connections that trade bytes until they are told to end.
struct Load {
    stop: Arc<AtomicBool>,
    exchanges: Arc<AtomicU64>,
    /// How many were cut.
    cut: Arc<AtomicU64>,
    threads: Vec<JoinHandle<Vec<Connection>>>,
}

/// A connection that has ended.
struct Connection {
    /// Who answered.
    endpoints: BTreeSet<String>,
    error: Option<io::Error>,
}

impl Load {
    /// Connections to these services, as many to each; all of them have been answered once.
    fn start(client: &Netns, services: &[SocketAddr], count: usize) -> Self {
        let stop = Arc::<AtomicBool>::default();
        let (exchanges, cut) = <(Arc<AtomicU64>, Arc<AtomicU64>)>::default();
        let connect = |&service: &SocketAddr| {
            let mut streams: Vec<TcpStream> = client.run(|| {
                (0..count).map(|_| connect(service, TIMEOUT).expect("a connection")).collect()
            });
            streams.iter_mut().for_each(|stream| {
                say(stream, "first").expect("the first answer");
            });
            let (stop, counts) = (Arc::clone(&stop), [&exchanges, &cut].map(Arc::clone));
            std::thread::spawn(move || talk(streams, &stop, &counts))
        };
        let threads = services.iter().map(connect).collect();
        Self { stop, exchanges, cut, threads }
    }

    /// Waits until each connection may have said something several times.
    #[track_caller]
    fn goes_on(&self) {
        let wanted = self.exchanges.load(Ordering::Relaxed) + 6 * CONNECTIONS as u64;
        let begun = Instant::now();
        while self.exchanges.load(Ordering::Relaxed) < wanted {
            assert!(begun.elapsed() < TIMEOUT * 3, "connections are silent");
            std::thread::sleep(Duration::from_millis(20));
        }
        let cut = self.cut.load(Ordering::Relaxed);
        assert_eq!(cut, 0, "{cut} connections were cut");
    }

    /// Ends all of them: none was cut, and each had one endpoint.
    #[track_caller]
    fn end(self, what: &str) {
        self.stop.store(true, Ordering::Relaxed);
        let joined = self.threads.into_iter().map(|thread| thread.join().expect("a thread"));
        let all: Vec<Connection> = joined.flatten().collect();
        let errors: Vec<_> = all.iter().filter_map(|one| one.error.as_ref()).collect();
        let first = errors.first();
        assert!(errors.is_empty(), "{what}: {} of {} cut: {first:?}", errors.len(), all.len());
        let moved = all.iter().filter(|one| one.endpoints.len() != 1).count();
        assert_eq!(moved, 0, "{what}: {moved} of {} changed their endpoint", all.len());
        let used: BTreeSet<&String> = all.iter().flat_map(|one| &one.endpoints).collect();
        assert!(used.len() > 1, "{what}: all at {used:?}, which proves nothing");
    }
}

fn talk(
    streams: Vec<TcpStream>,
    stop: &AtomicBool,
    [exchanges, cut]: &[Arc<AtomicU64>; 2],
) -> Vec<Connection> {
    let open = |stream| (stream, Connection { endpoints: BTreeSet::new(), error: None });
    let mut all: Vec<_> = streams.into_iter().map(open).collect();
    while !stop.load(Ordering::Relaxed) {
        for (stream, connection) in all.iter_mut().filter(|(_, one)| one.error.is_none()) {
            match say(stream, "again") {
                Ok(answer) => {
                    let endpoint = answer.split(' ').next().unwrap_or_default();
                    connection.endpoints.insert(endpoint.to_owned());
                    exchanges.fetch_add(1, Ordering::Relaxed);
                }
                Err(error) => {
                    cut.fetch_add(1, Ordering::Relaxed);
                    connection.error = Some(error);
                }
            }
        }
        std::thread::sleep(Duration::from_millis(5));
    }
    all.into_iter().map(|(_, connection)| connection).collect()
}

struct Stage {
    scene: Scene,
    _servers: Vec<Server>,
}

/// Netfilter serves all addresses; weir runs, and has no split.
fn stage(hook: &'static str) -> Stage {
    let scene = Scene::new(&NAMES, |_| {
        Setup::default().interfaces(&[(CLIENT_FACING, hook), ("veth-ep*", "tc")])
    })
    .unwrap();
    let topology = &scene.topology;
    let servers = topology.endpoints.iter().map(|endpoint| {
        let at = SocketAddr::new(std::net::Ipv6Addr::UNSPECIFIED.into(), LINES);
        Server::lines(&endpoint.ns, at, &endpoint.name).unwrap()
    });
    let servers = servers.collect();
    for ip in vips() {
        let at = |port| -> Vec<SocketAddr> {
            let ips = topology.ips(&NAMES, ip).into_iter();
            ips.map(|ip| SocketAddr::new(ip, port)).collect()
        };
        serve(topology, talks(ip), &at(LINES));
        serve(topology, asks(ip), &at(PORT));
    }
    Stage { scene, _servers: servers }
}

fn serve(topology: &Topology, service: SocketAddr, endpoints: &[SocketAddr]) {
    kube_proxy::serve(&topology.node, service, endpoints).unwrap();
}

/// Splits of all addresses: new connections go to v1-a alone.
fn splits(topology: &Topology) -> String {
    let mut all = Vec::new();
    for (family, ip) in ["v4", "v6"].into_iter().zip(vips()) {
        let [v1, v2] = [["v1-a"], ["v2-a"]].map(|names| topology.ips(&names, ip));
        let with = |split: SplitYaml, port| {
            split.subset("v1", 1, &v1, port).subset("v2", 0, &v2, port).text()
        };
        let name = |what: &str| format!("{what}-{family}");
        all.push(with(SplitYaml::tcp(&name("talks"), talks(ip)), LINES));
        all.push(with(SplitYaml::tcp(&name("asks"), asks(ip)), PORT));
        all.push(with(SplitYaml::udp(&name("datagrams"), asks(ip)), PORT));
    }
    all.join("---\n")
}

impl Stage {
    fn client(&self) -> &Netns {
        &self.scene.topology.client
    }

    fn take_over(&self) {
        let agent = &self.scene.agent;
        agent.replace("splits.yaml", &splits(&self.scene.topology));
        let begun = Instant::now();
        while agent.split("datagrams-v6").is_err() {
            assert!(begun.elapsed() < TIMEOUT, "not in force: {}", agent.stderr());
            std::thread::sleep(Duration::from_millis(20));
        }
    }

    /// New connections go where weir says.
    #[track_caller]
    fn is_steered(&self, what: &str) {
        for ip in vips() {
            for _ in 0..20 {
                let answer = self.client().run(|| tcp_identity(asks(ip), TIMEOUT));
                assert_eq!(answer.unwrap(), "v1-a", "{what}");
            }
        }
    }

    #[track_caller]
    fn await_connections(&self, what: &str, fits: impl Fn(u64) -> bool) {
        self.scene.agent.await_status(what, |status| {
            !status.takeover.reading && fits(status.takeover.connections)
        });
    }

    /// Where the forward program at TC is pinned, which is there with either hook.
    fn pin(&self) -> PathBuf {
        let node = &self.scene.topology.node;
        let index = node.run(|| if_nametoindex(CLIENT_FACING)).unwrap();
        self.scene.agent.pins().link(index, "forward")
    }
}

fn take_over_under_load(hook: &'static str) {
    let mut stage = stage(hook);
    let services = vips().map(talks);
    let load = Load::start(stage.client(), &services, CONNECTIONS);
    stage.take_over();
    load.goes_on();
    stage.is_steered("after the take-over");
    let all = 2 * CONNECTIONS as u64;
    stage.await_connections("all are known", |known| known == all);
    load.goes_on();
    let text = stage.scene.agent.printed(&["status"]);
    assert!(text.contains(&format!("connections of before: {all}\n")), "{text}");

    // Somebody detaches the programs, and the agent attaches them again.
    detach(&stage.pin()).unwrap();
    stage.scene.agent.await_status("attached again", |status| {
        let of_client = |view: &&weir::api::types::InterfaceView| view.name == CLIENT_FACING;
        status.interfaces.iter().find(of_client).is_some_and(|view| view.detached == 1)
    });
    load.goes_on();
    stage.is_steered("attached again");

    // Others begin while no program is there, and no agent: as of a pod that is born meanwhile.
    stage.scene.agent.end(Signal::SIGTERM).unwrap();
    load.goes_on();
    let index = stage.scene.topology.node.run(|| if_nametoindex(CLIENT_FACING)).unwrap();
    for hook in ["forward", "reply", "xdp-native", "xdp-generic"] {
        let pin = stage.scene.agent.pins().link(index, hook);
        if pin.exists() {
            // At once; without its pin alone, the link goes somewhat later.
            detach(&pin).unwrap();
            std::fs::remove_file(pin).unwrap();
        }
    }
    let others = Load::start(stage.client(), &services, 20);
    stage.scene.agent.start_again(&stage.scene.topology.node).unwrap();
    load.goes_on();
    stage.is_steered("by the next agent");
    stage.await_connections("the others, too", |known| known == all + 40);
    load.goes_on();
    let reasons = stage.scene.agent.status().unwrap().reasons;
    for none in ["pass_reply_untracked", "flow_adopted", "flow_port_changed"] {
        assert_eq!(reasons[none], 0, "{none}");
    }
    assert!(reasons["pass_foreign"] > 0);
    others.end("began while no agent was there");
    load.end("all the time");
    stage.await_connections("all have ended", |known| known == 0);
    stage.is_steered("when all have ended");
}

#[test]
fn open_connections_go_on_when_their_service_is_taken_over_at_tc() {
    take_over_under_load("tc");
}

#[test]
fn open_connections_go_on_when_their_service_is_taken_over_at_xdp() {
    take_over_under_load("xdp");
}

/// Asks in a datagram, and who answers.
fn ask(client: &Netns, socket: &UdpSocket) -> String {
    client.run(|| exchange(socket, b"who are you?")).expect("an answer")
}

#[test]
fn datagrams_that_were_answered_go_on_where_they_went_and_others_are_steered() {
    let stage = stage("tc");
    let client = stage.client();
    let sockets: Vec<UdpSocket> = vips()
        .into_iter()
        .flat_map(|ip| (0..20).map(move |n| (ip, 20_000 + n)))
        .map(|(ip, port)| {
            client.run(|| udp_from(SocketAddr::new(client_ip(ip), port), asks(ip))).unwrap()
        })
        .collect();
    let before: Vec<String> = sockets.iter().map(|socket| ask(client, socket)).collect();
    assert!(before.iter().any(|name| name != "v1-a"), "{before:?}");
    stage.take_over();
    let after: Vec<String> = sockets.iter().map(|socket| ask(client, socket)).collect();
    assert_eq!(after, before);
    for ip in vips() {
        let other = client.run(|| udp_from(SocketAddr::new(client_ip(ip), 30_000), asks(ip)));
        assert_eq!(ask(client, &other.unwrap()), "v1-a", "another client");
    }
    stage.await_connections("silent for long enough", |known| known == 0);
    let steered: Vec<String> = sockets.iter().map(|socket| ask(client, socket)).collect();
    assert!(steered.iter().all(|name| name == "v1-a"), "{steered:?}");
}

#[test]
fn a_service_that_nobody_served_before_is_taken_without_waiting() {
    let topology = Topology::new(&NAMES.map(weir_tests::topology::EndpointSpec::new)).unwrap();
    let scene = Scene::on(topology, |topology| Setup::default().split(&splits(topology))).unwrap();
    let status = scene.agent.status().unwrap().takeover;
    assert_eq!((status.connections, status.reading, status.error), (0, false, None));
    let mut stream = scene.topology.client.run(|| connect(asks(vips()[0]), TIMEOUT)).unwrap();
    assert_eq!(read_line(&mut stream).unwrap(), "v1-a");
}
