//! Open connections keep their endpoint whatever changes; new ones follow what is in force.

use std::collections::BTreeMap;
use std::io::{Read, Write};
use std::net::{IpAddr, SocketAddr, TcpStream};
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::thread::ScopedJoinHandle;
use std::time::Duration;

use weir::explain::explain;
use weir::model::{Name, Protocol, Split, SplitSet};
use weir_tests::agent::{SPLITS, Setup};
use weir_tests::client::{connect_from, exchange, ports, survey, udp_from};
use weir_tests::netns::Netns;
use weir_tests::resource::SplitYaml;
use weir_tests::rng::Rng;
use weir_tests::scene::{PORT, Scene};
use weir_tests::server::read_line;
use weir_tests::topology::{Topology, VIP_V4, VIP_V6, client_ip};

/// What [`Setup`] gives the agent.
const SEED: u64 = 0x5eed;
/// Connections that are open all the time.
const OPEN: u16 = 200;
/// New connections after each change.
const NEW: u16 = 30;

/// A connection, and the endpoint which it reached.
struct Open {
    stream: TcpStream,
    endpoint: String,
    rounds: u32,
}

impl Open {
    fn new(source: SocketAddr, vip: SocketAddr) -> Self {
        let mut stream = connect_from(source, vip).unwrap_or_else(|e| panic!("{source}: {e}"));
        let endpoint = read_line(&mut stream).unwrap_or_else(|e| panic!("{source}: {e}"));
        Self { stream, endpoint, rounds: 0 }
    }

    /// Sends bytes that no other round of any connection sends, and expects them back.
    fn exchange(&mut self, number: usize) {
        let mut payload = [0; 64];
        let mut rng = Rng::new((number as u64) << 32 | u64::from(self.rounds));
        payload.chunks_mut(8).for_each(|part| part.copy_from_slice(&rng.next_u64().to_le_bytes()));
        let mut answer = [0; 64];
        let result =
            self.stream.write_all(&payload).and_then(|()| self.stream.read_exact(&mut answer));
        let what = || format!("connection {number} to {}, round {}", self.endpoint, self.rounds);
        result.unwrap_or_else(|error| panic!("{}: {error}", what()));
        assert_eq!(answer, payload, "{}", what());
        self.rounds += 1;
    }
}

/// Traffic on connections, until it goes out of scope.
struct Chat<'a> {
    stop: &'a AtomicBool,
    rounds: &'a AtomicU32,
    thread: ScopedJoinHandle<'a, ()>,
}

impl Chat<'_> {
    /// Waits until each connection has exchanged something that was sent after this was called.
    fn await_round(&self) {
        let begun = self.rounds.load(Ordering::Relaxed);
        // The round that is under way may have begun before.
        while self.rounds.load(Ordering::Relaxed) < begun + 2 {
            assert!(!self.thread.is_finished(), "a connection is broken");
            std::thread::sleep(Duration::from_millis(1));
        }
    }
}

impl Drop for Chat<'_> {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
    }
}

fn reviews(topology: &Topology, vip: SocketAddr, v1: &[&str]) -> String {
    let ips = |names: &[&str]| topology.ips(names, vip.ip());
    SplitYaml::tcp("reviews", vip)
        .subset("v1", 100, &ips(v1), PORT)
        .subset("v2", 100, &ips(&["v2-a"]), PORT)
        .subset("v3", 100, &ips(&["v3-a"]), PORT)
        .text()
}

fn model(document: &str) -> Split {
    let desired: SplitSet = weir::source::resolve(&[("splits.yaml", document)]).expect("valid");
    desired.get("reviews").expect("the split").clone()
}

/// Weights of which not all are 0; every other draw has a 0 for sure.
fn random_weights(rng: &mut Rng, round: u64) -> [u32; 3] {
    let mut weights = [0; 3].map(|_: u32| rng.below(1000) as u32 + 1);
    if round.is_multiple_of(2) {
        weights[rng.below(3) as usize] = 0;
    }
    weights
}

/// New connections, each from a port that was never used, go where `split` says.
fn check_new(client: &Netns, topology: &Topology, split: &Split, sources: &[SocketAddr]) {
    let vip = split.address().socket();
    for (source, answer) in sources.iter().zip(survey(client, Protocol::Tcp, vip, sources)) {
        let expected = explain(SEED, split, *source).and_then(|found| found.endpoint);
        let expected = expected.expect("every subset has an endpoint").ip();
        let reached = answer.unwrap_or_else(|kind| panic!("{source}: {kind}"));
        assert_eq!(topology.endpoint(&reached).ip(vip.ip()), expected, "{source}, {split:?}");
    }
}

fn check_live(vip: IpAddr) {
    let vip = SocketAddr::new(vip, 9080);
    let before = |topology: &Topology| reviews(topology, vip, &["v1-a"]);
    let names = ["v1-a", "v1-b", "v2-a", "v3-a"];
    let scene = Scene::new(&names, |t| Setup::default().split(&before(t))).unwrap();
    let (client, topology) = (&scene.topology.client, &scene.topology);
    let ip = client_ip(vip.ip());
    let sources = ports(ip, 10_000..10_000 + OPEN);
    let mut open: Vec<Open> =
        client.run(|| sources.iter().map(|&source| Open::new(source, vip)).collect());
    let mut reached = BTreeMap::<_, u32>::new();
    open.iter().for_each(|one| *reached.entry(one.endpoint.clone()).or_default() += 1);
    assert_eq!(reached.len(), 3, "some are open to each: {reached:?}");

    let (stop, rounds) = (AtomicBool::new(false), AtomicU32::new(0));
    std::thread::scope(|scope| {
        let thread = scope.spawn(|| {
            while !stop.load(Ordering::Relaxed) {
                open.iter_mut().enumerate().for_each(|(number, one)| one.exchange(number));
                rounds.fetch_add(1, Ordering::Relaxed);
            }
        });
        let chat = Chat { stop: &stop, rounds: &rounds, thread };
        let mut split = model(&before(topology));
        let mut rng = Rng::new(7);
        for round in 0..100 {
            if round == 50 {
                let added = reviews(topology, vip, &["v1-a", "v1-b"]);
                scene.agent.replace(SPLITS, &added);
                split = model(&added);
                scene.agent.await_status("an endpoint is added", |_| {
                    scene.agent.split("reviews").unwrap().subsets[0].endpoints.len() == 2
                });
            }
            let weights = random_weights(&mut rng, round);
            let named = ["v1", "v2", "v3"].into_iter().zip(weights);
            scene.agent.weights("reviews", &named.clone().collect::<Vec<_>>()).unwrap();
            let named = named.map(|(name, weight)| (Name::new(name).unwrap(), weight));
            split = split.with_weights(&named.collect()).expect("weights");
            let first = 20_000 + NEW * round as u16;
            check_new(client, topology, &split, &ports(ip, first..first + NEW));
            chat.await_round();
        }
    });
    let least = open.iter().map(|one| one.rounds).min().expect("some are open");
    println!(
        "{vip}: {OPEN} connections {reached:?} exchanged {least} times each during 100 changes \
         with {} new connections",
        100 * NEW
    );
    assert!(least >= 100, "traffic after each change");
}

#[test]
fn open_connections_survive_100_changes_and_new_ones_follow_ipv4() {
    check_live(VIP_V4.into());
}

#[test]
fn open_connections_survive_100_changes_and_new_ones_follow_ipv6() {
    check_live(VIP_V6.into());
}

#[test]
fn flows_outlive_what_the_files_no_longer_say() {
    // TCP and UDP flows to v1, then v1 goes, then the whole file.
    let tcp = SocketAddr::new(VIP_V4.into(), 9080);
    let udp = SocketAddr::new(VIP_V4.into(), 9081);
    let both = |topology: &Topology, version: &str| {
        let ips = topology.ips(&[&format!("{version}-a")], tcp.ip());
        let one = SplitYaml::tcp("reviews", tcp).subset(version, 1, &ips, PORT).text();
        let other = SplitYaml::udp("ratings", udp).subset(version, 1, &ips, PORT).text();
        format!("{one}---\n{other}")
    };
    let scene = Scene::new(&["v1-a", "v2-a"], |t| Setup::default().split(&both(t, "v1"))).unwrap();
    let client = &scene.topology.client;
    let source = |port| SocketAddr::new(client_ip(tcp.ip()), port);
    let mut stream = client.run(|| Open::new(source(10_000), tcp));
    let socket = client.run(|| udp_from(source(10_000), udp)).expect("socket");
    let check = |stream: &mut Open| {
        stream.exchange(0);
        assert_eq!(exchange(&socket, b"more").expect("UDP"), "v1-a");
    };
    check(&mut stream);
    assert_eq!(stream.endpoint, "v1-a");

    scene.agent.replace(SPLITS, &both(&scene.topology, "v2"));
    scene.agent.await_status("v1 is gone", |_| {
        scene.agent.split("ratings").is_ok_and(|split| split.subsets[0].name == "v2")
    });
    check(&mut stream);
    assert_eq!(client.run(|| Open::new(source(10_001), tcp)).endpoint, "v2-a");
    let new = client.run(|| udp_from(source(10_001), udp)).expect("socket");
    assert_eq!(exchange(&new, b"new").expect("UDP"), "v2-a");

    std::fs::remove_file(scene.agent.resources().join(SPLITS)).expect("remove");
    scene.agent.await_status("all splits are gone", |_| {
        scene.agent.split("ratings").is_err() && scene.agent.split("reviews").is_err()
    });
    check(&mut stream);
}
