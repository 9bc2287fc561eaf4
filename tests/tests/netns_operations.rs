//! A day of operations under traffic: nothing is reset, lost or moved.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream, UdpSocket};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Mutex, RwLock};
use std::time::Duration;

use aya::programs::{SchedClassifier, TcAttachType};
use nix::sys::signal::Signal;
use weir::model::Protocol;
use weir_tests::agent::{Agent, SPLITS, Setup};
use weir_tests::client::{connect_from, exchange, ports, survey, tally, udp_from};
use weir_tests::resource::SplitYaml;
use weir_tests::rng::Rng;
use weir_tests::scene::{PORT, Scene};
use weir_tests::server::read_line;
use weir_tests::stats::assert_shares;
use weir_tests::topology::{CLIENT_FACING, Topology, VIP_V4, VIP_V6, client_ip};

/// TCP connections that are open all the time, over each family.
const OPEN: u16 = 500;
/// UDP flows that live all the time, over each family.
const DATAGRAM: u16 = 20;
/// Threads that exchange on them.
const THREADS: usize = 4;
/// Ports of clients for new connections; the others are below.
const NEW: u16 = 20_000;

fn vips(port: u16) -> [SocketAddr; 2] {
    [VIP_V4.into(), VIP_V6.into()].map(|ip| SocketAddr::new(ip, port))
}

/// TCP and UDP splits of both families, v1 with these endpoints.
fn splits(topology: &Topology, v1: &[&str], v2_weight: u32, drain: u32) -> String {
    let mut documents = Vec::new();
    for (family, [tcp, udp]) in
        [("v4", 0), ("v6", 1)].map(|(f, at)| (f, [vips(9080)[at], vips(9053)[at]]))
    {
        for (name, address, protocol) in
            [("reviews", tcp, Protocol::Tcp), ("names", udp, Protocol::Udp)]
        {
            let split = SplitYaml::new(&format!("{name}-{family}"), address, protocol)
                .subset("v1", 50, &topology.ips(v1, address.ip()), PORT)
                .subset("v2", v2_weight, &topology.ips(&["v2-a"], address.ip()), PORT)
                .text();
            documents.push(split.replace("spec:\n", &format!("spec:\n  drainSeconds: {drain}\n")));
        }
    }
    documents.join("---\n")
}

/// A flow that lives all the time, and the endpoint that it reached.
struct Flow {
    kind: Kind,
    endpoint: String,
    number: u64,
}

enum Kind {
    Tcp(TcpStream),
    Udp(UdpSocket),
}

impl Flow {
    fn tcp(number: u64, source: SocketAddr, vip: SocketAddr) -> Self {
        let mut stream = connect_from(source, vip).unwrap_or_else(|e| panic!("{source}: {e}"));
        let endpoint = read_line(&mut stream).unwrap_or_else(|e| panic!("{source}: {e}"));
        Self { kind: Kind::Tcp(stream), endpoint, number }
    }

    fn udp(number: u64, source: SocketAddr, vip: SocketAddr) -> Self {
        let socket = udp_from(source, vip).unwrap_or_else(|e| panic!("{source}: {e}"));
        let endpoint = exchange(&socket, b"first").unwrap_or_else(|e| panic!("{source}: {e}"));
        Self { kind: Kind::Udp(socket), endpoint, number }
    }

    /// A request that no other resembles, and its answer.
    fn request(&mut self, round: u64) -> Result<(), String> {
        let mut rng = Rng::new(self.number << 32 | round);
        let payload: Vec<u8> = (0..4).flat_map(|_| rng.next_u64().to_le_bytes()).collect();
        let failed =
            |error: std::io::Error| format!("flow {} to {}: {error}", self.number, self.endpoint);
        match &mut self.kind {
            Kind::Tcp(stream) => {
                let mut answer = [0; 32];
                stream
                    .write_all(&payload)
                    .and_then(|()| stream.read_exact(&mut answer))
                    .map_err(failed)?;
                if answer[..] != payload[..] {
                    return Err(format!("flow {}: another answer", self.number));
                }
            }
            Kind::Udp(socket) => {
                let text = format!("{:032x}", u128::from(rng.next_u64()));
                let endpoint = exchange(socket, text.as_bytes()).map_err(failed)?;
                if endpoint != self.endpoint {
                    return Err(format!(
                        "flow {} moved from {} to {endpoint}",
                        self.number, self.endpoint
                    ));
                }
            }
        }
        Ok(())
    }
}

/// What the traffic has seen so far.
#[derive(Default)]
struct Traffic {
    stop: AtomicBool,
    /// Held by who exchanges: whoever writes makes all pause.
    gate: RwLock<()>,
    requests: AtomicU64,
    connections: AtomicU64,
    failures: Mutex<Vec<String>>,
}

impl Traffic {
    fn failed(&self, failure: String) {
        self.failures.lock().unwrap().push(failure);
    }

    fn check(&self, after: &str) {
        let failures = self.failures.lock().unwrap();
        assert!(
            failures.is_empty(),
            "{after}: {} failures, such as {}",
            failures.len(),
            failures[0]
        );
    }

    /// Waits until every flow has exchanged something that began after this.
    fn await_round(&self, flows: u64, after: &str) {
        let until = self.requests.load(Ordering::Relaxed) + 2 * flows;
        while self.requests.load(Ordering::Relaxed) < until {
            self.check(after);
            std::thread::sleep(Duration::from_millis(2));
        }
        self.check(after);
    }

    /// Requests on these flows, until told to stop.
    fn exchange(&self, flows: &mut [Flow]) {
        let mut round = 0;
        while !self.stop.load(Ordering::Relaxed) {
            round += 1;
            let gate = self.gate.read().unwrap();
            for flow in &mut *flows {
                if let Err(failure) = flow.request(round) {
                    self.failed(failure);
                    return;
                }
                self.requests.fetch_add(1, Ordering::Relaxed);
            }
            drop(gate);
        }
    }

    /// New connections one after another, from ports that go round.
    fn connect(&self) {
        let mut port = NEW;
        while !self.stop.load(Ordering::Relaxed) {
            port = if port == 59_999 { NEW } else { port + 1 };
            let gate = self.gate.read().unwrap();
            for vip in vips(9080) {
                let source = SocketAddr::new(client_ip(vip.ip()), port);
                match connect_from(source, vip).and_then(|mut stream| read_line(&mut stream)) {
                    Ok(_) => self.connections.fetch_add(1, Ordering::Relaxed),
                    Err(error) => return self.failed(format!("new from {source}: {error}")),
                };
            }
            drop(gate);
            std::thread::sleep(Duration::from_millis(1));
        }
    }
}

/// Ends the traffic, also when the test panics.
struct Stop<'a>(&'a Traffic);

impl Drop for Stop<'_> {
    fn drop(&mut self) {
        self.0.stop.store(true, Ordering::Relaxed);
    }
}

fn flows(scene: &Scene) -> Vec<Flow> {
    scene.topology.client.run(|| {
        let mut flows = Vec::new();
        for vip in vips(9080) {
            for source in ports(client_ip(vip.ip()), 10_000..10_000 + OPEN) {
                flows.push(Flow::tcp(flows.len() as u64, source, vip));
            }
        }
        for vip in vips(9053) {
            for source in ports(client_ip(vip.ip()), 11_000..11_000 + DATAGRAM) {
                flows.push(Flow::udp(flows.len() as u64, source, vip));
            }
        }
        flows
    })
}

/// Starts the agent anew with other programs: another idle time is another
/// constant in them. They replace those that run.
fn upgrade(agent: &mut Agent, topology: &Topology) {
    let config = agent.directory().join("agent.yaml");
    let text = std::fs::read_to_string(&config).unwrap();
    std::fs::write(&config, format!("{text}flows:\n  udpIdle: 90s\n")).unwrap();
    let before = program_ids(topology);
    agent.end(Signal::SIGTERM).unwrap();
    agent.start_again(&topology.node).unwrap();
    let after = program_ids(topology);
    assert!(!before.is_empty() && before.len() == after.len(), "{before:?} {after:?}");
    assert!(before.iter().all(|id| !after.contains(id)), "{before:?} {after:?}");
}

/// The ids of the programs on the node's client-facing interface.
fn program_ids(topology: &Topology) -> Vec<u32> {
    topology.node.run(|| {
        let directions = [TcAttachType::Ingress, TcAttachType::Egress].into_iter();
        let found = directions.flat_map(|direction| {
            SchedClassifier::query_tcx(CLIENT_FACING, direction).expect("query TCX").1
        });
        found.map(|program| program.id()).collect()
    })
}

#[test]
fn a_day_of_operations_costs_no_flow_no_request_and_no_connection() {
    let names = ["v1-a", "v1-b", "v1-c", "v2-a"];
    let mut scene =
        Scene::new(&names, |t| Setup::default().split(&splits(t, &["v1-a", "v1-b"], 50, 300)))
            .unwrap();
    let mut flows = flows(&scene);
    let count = flows.len() as u64;
    let traffic = Traffic::default();
    let share = flows.len().div_ceil(THREADS);
    // What the endpoints of the open connections were, to be compared at the end.
    let (topology, agent) = (&scene.topology, &mut scene.agent);
    std::thread::scope(|scope| {
        let stop = Stop(&traffic);
        for part in flows.chunks_mut(share) {
            scope.spawn(|| traffic.exchange(part));
        }
        scope.spawn(|| topology.client.run(|| traffic.connect()));
        let step = |what: &str| traffic.await_round(count, what);
        step("at first");

        for signal in [Signal::SIGKILL, Signal::SIGTERM] {
            agent.end(signal).unwrap();
            step("without an agent");
            agent.start_again(&topology.node).unwrap();
            step("with an agent again");
        }
        upgrade(agent, topology);
        step("upgraded");

        let mut rng = Rng::new(3);
        for change in 0..125 {
            for split in ["reviews-v4", "reviews-v6", "names-v4", "names-v6"] {
                let weights = [("v1", rng.below(1000) as u32), ("v2", rng.below(1000) as u32 + 1)];
                agent.weights(split, &weights).unwrap_or_else(|e| panic!("{change}: {e}"));
            }
        }
        step("500 changes of weights");

        agent.replace(SPLITS, &splits(topology, &["v1-a", "v1-b", "v1-c"], 50, 300));
        agent.await_status("an endpoint is added", |_| {
            agent.split("names-v6").unwrap().subsets[0].endpoints.len() == 3
        });
        step("an endpoint added");
        agent.replace(SPLITS, &splits(topology, &["v1-c"], 50, 300));
        agent.await_status("endpoints are drained", |_| {
            agent.split("names-v6").unwrap().subsets[0].endpoints.len() == 1
        });
        step("endpoints drain");

        {
            let _pause = traffic.gate.write().unwrap();
            topology.replace_client_link().unwrap();
            agent.await_status("the new interface is attached", |status| {
                status.interfaces.iter().any(|i| i.name == CLIENT_FACING && i.error.is_none())
            });
        }
        step("an interface replaced");
        drop(stop);
    });
    traffic.check("at the end");
    println!(
        "{count} flows exchanged {} requests, {} new connections: 0 failures",
        traffic.requests.load(Ordering::Relaxed),
        traffic.connections.load(Ordering::Relaxed)
    );
}

/// Hypothesis: connections that begin while no agent runs fall on subsets by
/// the weights that were in force when it died.
#[test]
fn new_connections_are_split_right_while_the_agent_is_dead_for_ten_seconds() {
    let mut scene = Scene::new(&["v1-a", "v1-b", "v1-c", "v2-a"], |t| {
        Setup::default().split(&splits(t, &["v1-a", "v1-b", "v1-c"], 200, 300))
    })
    .unwrap();
    scene.agent.end(Signal::SIGKILL).unwrap();
    let client = &scene.topology.client;
    let mut observed = [0u64; 2];
    for part in 0..10u16 {
        let first = 10_000 + part * 500;
        for (protocol, port) in [(Protocol::Tcp, 9080), (Protocol::Udp, 9053)] {
            for vip in vips(port) {
                let sources = ports(client_ip(vip.ip()), first..first + 500);
                let seen =
                    tally(&survey(client, protocol, vip, &sources)).expect("all are answered");
                for (name, count) in seen {
                    observed[usize::from(name == "v2-a")] += count;
                }
            }
        }
        std::thread::sleep(Duration::from_secs(1));
    }
    println!(
        "50/200 with 3 + 1 endpoints, no agent: observed {observed:?}, expected [4000, 16000]"
    );
    assert_shares(&observed, &[50, 200], "without an agent");
}

#[test]
fn a_drained_endpoint_rejects_what_still_flows_to_it() {
    let scene =
        Scene::new(&["v1-a", "v2-a"], |t| Setup::default().split(&splits(t, &["v1-a"], 0, 2)))
            .unwrap();
    let topology = &scene.topology;
    let mut flow = topology
        .client
        .run(|| Flow::tcp(0, SocketAddr::new(client_ip(VIP_V4.into()), 10_000), vips(9080)[0]));
    let text = splits(topology, &[], 1, 2);
    scene.agent.replace(SPLITS, &text);
    scene.agent.await_status("the endpoint is removed", |_| {
        scene.agent.split("reviews-v4").unwrap().subsets[0].endpoints.is_empty()
    });
    flow.request(1).expect("it drains");
    std::thread::sleep(Duration::from_secs(4));
    let error = flow.request(2).expect_err("its drain time is over");
    assert!(error.contains("reset"), "{error}");
    let status = scene.agent.status().unwrap();
    assert!(status.reasons["reject_endpoint_gone"] > 0, "{:?}", status.reasons);

    // Who waits for one that has a live flow is told that its time is over.
    scene.agent.weights("reviews-v6", &[("v1", 0)]).unwrap();
    let vip = vips(9080)[1];
    let source = SocketAddr::new(client_ip(vip.ip()), 10_000);
    let _open = topology.client.run(|| Flow::tcp(1, source, vip));
    let endpoint = format!("[{}]:{PORT}", topology.endpoint("v2-a").v6);
    let drain = ["drain", "reviews-v6", &endpoint, "--force", "--wait"];
    let said = scene.agent.ask(&drain).unwrap();
    assert!(said.contains(&format!("{endpoint}: its drain time is over")), "{said}");
}

/// What completes the last word of a line, in bash.
fn complete(scene: &Scene, line: &str) -> String {
    let words: Vec<&str> = line.split(' ').map(|word| word.trim_matches('\'')).collect();
    let mut command = std::process::Command::new(scene.agent.program());
    command.arg("--").args(&words).env("WEIR_SOCKET", scene.agent.socket());
    command.env("WEIR_COMPLETE", "bash").env("_CLAP_COMPLETE_INDEX", (words.len() - 1).to_string());
    let output = command.output().unwrap();
    assert!(output.status.success() && output.stderr.is_empty(), "{output:?}");
    String::from_utf8(output.stdout).unwrap()
}

#[test]
fn an_endpoint_that_was_taken_out_gets_no_new_flows_also_after_restarts() {
    let mut scene = Scene::new(&["v1-a", "v1-b", "v2-a"], |t| {
        Setup::default().split(&splits(t, &["v1-a", "v1-b"], 0, 60))
    })
    .unwrap();
    let vip = vips(9080)[0];
    let out = format!("{}:{PORT}", scene.topology.ips(&["v1-a"], vip.ip())[0]);
    let at = |port| SocketAddr::new(client_ip(VIP_V4.into()), port);
    let ask = |scene: &Scene, ports: std::ops::Range<u16>| -> Vec<(String, TcpStream)> {
        let one = |port| {
            let mut stream = connect_from(at(port), vip).unwrap();
            (read_line(&mut stream).unwrap(), stream)
        };
        scene.topology.client.run(|| ports.map(one).collect())
    };
    let before = ask(&scene, 10_000..10_040);
    let live = before.iter().filter(|(name, _)| name == "v1-a").count();
    assert!(live > 0 && live < before.len(), "{live}: both get some of 40");

    // A shell that asks what may come next is told.
    assert!(complete(&scene, "weir drain rev").contains("reviews-v4"));
    let endpoints = complete(&scene, "weir drain reviews-v4 ''");
    assert!(endpoints.contains(&out), "{endpoints}");
    assert_eq!(complete(&scene, "weir weights reviews-v4 v1"), "v1=");
    let error = scene.agent.ask(&["drain", "reviews-v4", "192.0.2.77"]).unwrap_err();
    assert!(error.to_string().contains("has no endpoint \"192.0.2.77\""), "{error}");
    let said = scene.agent.ask(&["drain", "reviews-v4", &out, "--reason", "disk"]).unwrap();
    assert!(said.contains(&format!("undo: weir undrain reviews-v4 {out}")), "{said}");
    let others = |scene: &Scene, ports| ask(scene, ports).iter().all(|(name, _)| name == "v1-b");
    assert!(others(&scene, 10_100..10_140));
    // Live flows keep it, and are seen.
    let late = "--timeout=1ms".to_owned();
    let error = scene.agent.ask(&["drain", "reviews-v4", &out, "--wait", &late]).unwrap_err();
    let expected = format!("{out} has {live} live flow");
    assert!(error.to_string().contains(&expected), "{error}");
    let history = scene.agent.ask(&["history", "reviews-v4"]).unwrap();
    assert!(history.contains(&format!("{out}; disk")), "{history}");
    assert!(history.contains(&format!("{out}: {live} live flow")), "{history}");
    assert!(
        history.contains("the oldest of ") && history.contains("drain time ends in"),
        "{history}"
    );
    let status = scene.agent.printed(&["status"]);
    assert!(status.contains(&format!("reviews-v4 {out}, since ")), "{status}");

    // The agent, and one that finds nothing in the kernel.
    scene.agent.end(Signal::SIGKILL).unwrap();
    scene.agent.start_again(&scene.topology.node).unwrap();
    assert!(others(&scene, 10_200..10_240));
    assert!(scene.agent.ask(&["unload", "--yes"]).is_ok());
    scene.agent.end(Signal::SIGTERM).unwrap();
    scene.agent.start_again(&scene.topology.node).unwrap();
    scene.agent.await_status("the files are read", |status| status.reloaded.is_some());
    assert!(others(&scene, 10_300..10_340));
    drop(before);
    let said = scene.agent.ask(&["drain", "reviews-v4", &out, "--wait"]).unwrap();
    assert!(said.contains(&format!("{out}: ")), "{said}");
    scene.agent.ask(&["undrain", "reviews-v4", &out]).unwrap();
    assert!(!others(&scene, 10_400..10_440), "v1-a gets new flows again");
    // These are over, and so need not be waited for.
    let said = scene.agent.ask(&["drain", "reviews-v4", &out, "--wait"]).unwrap();
    assert!(said.contains(&format!("{out}: no live flow is left")), "{said}");
}
