//! `weir flows`: what the flow table holds, and what it costs to look.

use std::collections::{BTreeMap, BTreeSet};
use std::io::{BufRead as _, BufReader, Read as _};
use std::net::{SocketAddr, TcpStream, UdpSocket};
use std::process::{Child, Command, Stdio};

use aya::maps::{Array, HashMap, Map, MapData};
use probe_common::address::{Tuple, V4};
use probe_common::flow::{ESTABLISHED, Entry, FORWARD, Facts, REPLY, SYNCED};
use probe_common::new_flow::NewFlow;
use probe_common::parse::TCP;
use weir::api::types::{FlowState, FlowView, Protocol};
use weir_tests::agent::{SPLITS, Setup, program};
use weir_tests::client::{connect_from, exchange, ports, udp_from};
use weir_tests::resource::SplitYaml;
use weir_tests::scene::{PORT, Scene};
use weir_tests::server::read_line;
use weir_tests::topology::{Topology, VIP_V4, VIP_V6, client_ip};

fn vips() -> [SocketAddr; 2] {
    [SocketAddr::new(VIP_V4.into(), 9080), SocketAddr::new(VIP_V6.into(), 9053)]
}

fn scene() -> Scene {
    let splits = |topology: &Topology| {
        let [reviews, ratings] = vips();
        let ips = |name: &str, vip: SocketAddr| topology.ips(&[name], vip.ip());
        let reviews = SplitYaml::tcp("reviews", reviews)
            .subset("v1", 60, &ips("v1-a", reviews), PORT)
            .subset("v2", 40, &ips("v2-a", reviews), PORT);
        let ratings =
            SplitYaml::udp("ratings", ratings).subset("v1", 1, &ips("v1-a", ratings), PORT);
        [reviews, ratings].map(|split| split.text()).join("---\n")
    };
    Scene::new(&["v1-a", "v2-a"], |topology| Setup::default().resource(SPLITS, &splits(topology)))
        .unwrap()
}

/// What `weir flows -o json` says with these arguments.
fn flows(scene: &Scene, arguments: &[&str]) -> Vec<FlowView> {
    let arguments = [&["flows", "-o", "json"], arguments].concat();
    let text = scene.agent.ask(&arguments).unwrap();
    text.lines().map(|line| serde_json::from_str(line).expect(line)).collect()
}

fn clients(flows: &[FlowView]) -> BTreeSet<SocketAddr> {
    flows.iter().map(|flow| flow.client).collect()
}

/// Opens connections to the split reviews; who answered each.
fn connect(scene: &Scene, vip: SocketAddr) -> BTreeMap<SocketAddr, (TcpStream, String)> {
    let sources = ports(client_ip(vip.ip()), 20_000..20_040);
    let connect = |source| {
        let mut stream = connect_from(source, vip).unwrap_or_else(|e| panic!("{source}: {e}"));
        let endpoint = read_line(&mut stream).unwrap_or_else(|e| panic!("{source}: {e}"));
        (source, (stream, endpoint))
    };
    scene.topology.client.run(|| sources.into_iter().map(connect).collect())
}

/// Sends `count` datagrams to the split ratings and awaits the answer of each.
fn speak(scene: &Scene, source: SocketAddr, vip: SocketAddr, count: usize) -> UdpSocket {
    scene.topology.client.run(|| {
        let socket = udp_from(source, vip).unwrap();
        (0..count).for_each(|_| assert_eq!(exchange(&socket, b"x").unwrap(), "v1-a"));
        socket
    })
}

#[test]
fn flows_are_shown_as_their_clients_know_them() {
    let scene = scene();
    let [reviews, ratings] = vips();
    let mut open = connect(&scene, reviews);
    let source = |port| SocketAddr::new(client_ip(ratings.ip()), port);
    let _short = speak(&scene, source(30_000), ratings, 1);
    let _long = speak(&scene, source(30_001), ratings, 3);

    let all = flows(&scene, &[]);
    assert_eq!(all.len(), 42, "40 connections, 2 conversations: {all:?}");
    for flow in all.iter().filter(|flow| flow.protocol == Protocol::Tcp) {
        let (_, name) = &open[&flow.client];
        let endpoint = SocketAddr::new(scene.topology.endpoint(name).ip(reviews.ip()), PORT);
        assert_eq!((flow.service, flow.endpoint), (reviews, endpoint), "{name}: {flow:?}");
        let names = (flow.split.as_deref(), flow.subset.as_deref());
        assert_eq!(names, (Some("reviews"), name.split('-').next()), "{flow:?}");
        assert_eq!(flow.state, FlowState::Established, "{flow:?}");
        assert!(flow.idle_seconds <= flow.age_seconds && flow.age_seconds < 3600, "{flow:?}");
    }
    let udp: BTreeMap<_, _> = all
        .iter()
        .filter(|flow| flow.protocol == Protocol::Udp)
        .map(|flow| (flow.client.port(), flow.state))
        .collect();
    assert_eq!(udp, [(30_000, FlowState::Pending), (30_001, FlowState::Established)].into());

    // Each filter, and some together.
    let one = SocketAddr::new(client_ip(reviews.ip()), 20_007);
    assert_eq!(clients(&flows(&scene, &["--client", &one.to_string()])), [one].into());
    let v2 = scene.topology.endpoint("v2-a").v4;
    let to_v2: BTreeSet<_> =
        open.iter().filter(|(_, (_, name))| name == "v2-a").map(|(&client, _)| client).collect();
    assert!(!to_v2.is_empty() && to_v2.len() < 40, "both subsets have flows: {to_v2:?}");
    for filter in [
        vec!["--endpoint", &v2.to_string()],
        vec!["--endpoint", &format!("{v2}:{PORT}")],
        vec!["--subset", "v2"],
        vec!["--subset", "v2", "--split", "reviews", "--state", "established"],
    ] {
        assert_eq!(clients(&flows(&scene, &filter)), to_v2, "{filter:?}");
    }
    assert_eq!(flows(&scene, &["--split", "ratings", "--state", "pending"]).len(), 1);
    let unknown = scene.agent.ask(&["flows", "--split", "unknown"]).unwrap_err().to_string();
    assert!(unknown.contains("there is ratings, reviews"), "{unknown}");

    let table = scene.agent.ask(&["flows", "--client", &one.to_string()]).unwrap();
    print!("{table}");
    let title = "PROTO CLIENT SERVICE SPLIT SUBSET ENDPOINT STATE IDLE AGE";
    assert_eq!(
        table.lines().next().unwrap().split_whitespace().collect::<Vec<_>>().join(" "),
        title
    );
    assert!(
        table.lines().nth(1).unwrap().starts_with(&format!("TCP    {one}  {reviews}  reviews"))
    );
    let limited = scene.agent.weir(&["flows", "--limit", "5"]);
    assert_eq!(String::from_utf8_lossy(&limited.stdout).lines().count(), 6);
    assert_eq!(String::from_utf8_lossy(&limited.stderr), "weir: there are more flows than 5\n");
    let wrong = scene.agent.weir(&["flows", "--client", "192.0.2.0/24"]);
    assert_eq!(wrong.status.code(), Some(2), "{wrong:?}");

    // A connection that ends is closed, and the others are not.
    drop(open.remove(&one));
    let closed = || clients(&flows(&scene, &["--state", "closed"]));
    while closed().is_empty() {
        std::thread::sleep(std::time::Duration::from_millis(5));
    }
    assert_eq!(closed(), [one].into());
    // What was removed shows to whom its flows belong while it drains.
    std::fs::remove_file(scene.agent.resources().join(SPLITS)).unwrap();
    scene.agent.await_status("the splits are gone", |_| scene.agent.split("reviews").is_err());
    let draining = flows(&scene, &["--split", "reviews", "--state", "established"]);
    assert_eq!(draining.len(), 39, "{draining:?}");
}

/// How many flows are added.
const MANY: u32 = 200_000;

/// Adds as many flows like one that is there, of other clients, as their entries would be.
fn fill(scene: &Scene) {
    let data = MapData::from_pin(scene.agent.pins().map("FLOWS_V4")).unwrap();
    let mut map: HashMap<MapData, Tuple<V4>, Entry<V4>> = Map::LruHashMap(data).try_into().unwrap();
    let data = MapData::from_pin(scene.agent.pins().map("NEW_FLOWS_V4")).unwrap();
    let new_flows: Array<MapData, NewFlow<V4>> = Map::Array(data).try_into().unwrap();
    // It is a new one for a second, and then in the table.
    let of_new_flow = || new_flows.iter().flatten().find(NewFlow::is_whole);
    let of_new_flow = of_new_flow().map(|flow| (flow.forward_key(), flow.entry(false)));
    let forward = |(_, entry): &(Tuple<V4>, Entry<V4>)| entry.direction == FORWARD;
    let (key, entry) = of_new_flow.or_else(|| map.iter().flatten().find(forward)).expect("a flow");
    for number in 0..MANY {
        let src = V4((0x0a80_0000 + number).to_be());
        let (forward, there) = (Tuple { src, ..key }, Tuple { src, ..entry.to(&key) });
        let facts = |direction| Facts {
            endpoint: entry.endpoint,
            subset: entry.subset,
            state: ESTABLISHED | SYNCED,
            direction,
            seen: entry.seen,
            created: entry.created,
            sequence: 0,
        };
        assert_eq!(key.protocol, TCP);
        map.insert(forward, Entry::new(&forward, &there, &facts(FORWARD)), 0).unwrap();
        let (reply, back) = (there.reversed(), forward.reversed());
        map.insert(reply, Entry::new(&reply, &back, &facts(REPLY)), 0).unwrap();
    }
}

/// `weir flows` that writes to a pipe which nobody reads, yet; killed on drop.
struct Stalled(Child);

impl Stalled {
    fn start(scene: &Scene) -> Self {
        let mut command = Command::new(program().unwrap());
        command.arg("--socket").arg(scene.agent.socket()).args(["flows", "-o", "json"]);
        let child = command.stdin(Stdio::null()).stdout(Stdio::piped()).spawn().unwrap();
        let mut stalled = Self(child);
        // It has begun.
        stalled.0.stdout.as_mut().unwrap().read_exact(&mut [0; 1]).unwrap();
        stalled
    }
}

impl Drop for Stalled {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// The most memory that the agent ever had, in KiB.
fn peak(scene: &Scene) -> u64 {
    let path = format!("/proc/{}/status", scene.agent.pid().unwrap());
    let status = std::fs::read_to_string(path).unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:")).unwrap();
    line.trim().trim_end_matches(" kB").parse().unwrap()
}

#[test]
fn listing_200_000_flows_neither_stops_the_agent_nor_fills_its_memory() {
    let scene = scene();
    let [reviews, _] = vips();
    let _open = connect(&scene, reviews);
    fill(&scene);
    let before = peak(&scene);

    // Three that do not read, and the agent does everything else meanwhile.
    let mut stalled: Vec<_> = (0..3).map(|_| Stalled::start(&scene)).collect();
    scene.agent.weights("reviews", &[("v1", 50), ("v2", 50)]).unwrap();
    assert_eq!(scene.agent.split("reviews").unwrap().subsets[0].weight, 50);
    // A fourth that does.
    let all = flows(&scene, &["--split", "reviews"]);
    assert_eq!(all.len(), MANY as usize + 40);
    let few = flows(&scene, &["--client", "10.128.0.7"]);
    assert_eq!(few.len(), 1, "{few:?}");
    // Those that waited get all of it when they read.
    let first = stalled[0].0.stdout.take().unwrap();
    assert_eq!(BufReader::new(first).lines().count(), MANY as usize + 40);
    let grown = peak(&scene) - before;
    println!("{} flows listed, the agent grew by {grown} KiB at most", all.len());
    // As JSON they are more than 40 MiB, for each of the four.
    assert!(grown < 40 << 10, "the agent grew by {grown} KiB");
}
