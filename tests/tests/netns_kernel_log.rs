//! What the programs tell the agent's log, and how much of it.

use std::io::ErrorKind;
use std::net::{IpAddr, SocketAddr};
use std::time::{Duration, Instant};

use nix::sys::signal::Signal;
use weir::model::Protocol;
use weir_tests::agent::Setup;
use weir_tests::client::{ports, survey};
use weir_tests::resource::SplitYaml;
use weir_tests::scene::Scene;
use weir_tests::topology::{VIP_V4, VIP_V6, client_ip};

/// Lines of a reason in a tick, and what CPUs that race may add.
const LIMIT: usize = 5;
/// How long a line may take.
const PATIENCE: Duration = Duration::from_secs(10);

/// Splits that have no endpoint, of each protocol and family.
fn scene(hook: &'static str, log: &str) -> Scene {
    let setup = |setup: Setup, (protocol, vip): (Protocol, IpAddr)| {
        let name = format!("{protocol}-{}", if vip.is_ipv4() { "v4" } else { "v6" }).to_lowercase();
        let split = SplitYaml::new(&name, SocketAddr::new(vip, 9080), protocol);
        setup.split(&split.subset("v1", 1, &[], 80).text())
    };
    let start = Setup::default().forward(hook).config(&format!("metrics: off\n{log}"));
    Scene::new(&[], |_| cases().fold(start, setup)).expect("a scene")
}

fn cases() -> impl Iterator<Item = (Protocol, IpAddr)> {
    let families = [IpAddr::from(VIP_V4), VIP_V6.into()];
    families.into_iter().flat_map(|vip| [(Protocol::Tcp, vip), (Protocol::Udp, vip)])
}

/// Asks from these ports; each is refused.
fn refused(scene: &Scene, protocol: Protocol, vip: IpAddr, from: std::ops::Range<u16>) {
    let to = SocketAddr::new(vip, 9080);
    let sources = ports(client_ip(vip), from);
    for answer in survey(&scene.topology.client, protocol, to, &sources) {
        assert_eq!(answer, Err(ErrorKind::ConnectionRefused), "{protocol} {to}");
    }
}

/// Lines of that reason.
fn lines(scene: &Scene) -> Vec<String> {
    let text = scene.agent.stderr();
    text.lines().filter(|line| line.contains("reject_no_endpoint: ")).map(str::to_owned).collect()
}

/// Waits for a line that ends so.
fn await_line(scene: &Scene, end: &str) {
    let deadline = Instant::now() + PATIENCE;
    while !lines(scene).iter().any(|line| line.ends_with(end)) {
        assert!(Instant::now() < deadline, "no line \"{end}\" in:\n{}", scene.agent.stderr());
        std::thread::sleep(Duration::from_millis(10));
    }
}

fn check_lines(hook: &'static str) {
    let mut scene = scene(hook, "kernelLog: rare\n");
    for (round, port) in [(0, 20_000_u16), (1, 21_000)] {
        for (protocol, vip) in cases() {
            refused(&scene, protocol, vip, port..port + 1);
            let (from, to) = (SocketAddr::new(client_ip(vip), port), SocketAddr::new(vip, 9080));
            await_line(&scene, &format!("WARN reject_no_endpoint: {protocol} {from} to {to}"));
        }
        if round == 0 {
            // The next agent reads what its own programs tell.
            scene.agent.end(Signal::SIGTERM).expect("an end");
            scene.agent.start_again(&scene.topology.node).expect("an agent");
        }
    }
}

#[test]
fn rejected_flows_are_told_and_told_again_by_the_next_agent_forward_at_tc() {
    check_lines("tc");
}

#[test]
fn rejected_flows_are_told_and_told_again_by_the_next_agent_forward_at_xdp() {
    check_lines("xdp");
}

#[test]
fn a_flood_of_rejects_is_no_flood_of_the_log() {
    let scene = scene("tc", "kernelLog: rare\n");
    let begun = Instant::now();
    refused(&scene, Protocol::Tcp, VIP_V4.into(), 10_000..14_000);
    // A tick is at least half a second; the first and the last are not whole.
    let ticks = begun.elapsed().as_secs() as usize * 2 + 3;
    let cpus = std::thread::available_parallelism().map_or(1, usize::from);
    let found = lines(&scene).len();
    println!("4000 rejects in {:?}: {found} lines", begun.elapsed());
    assert!(found >= 1 && found <= ticks * (LIMIT + cpus), "{found} lines in {ticks} ticks");
    let counted = scene.agent.status().expect("status").reasons["reject_no_endpoint"];
    assert_eq!(counted, 4000, "all are counted");
}

#[test]
fn nothing_is_told_unless_it_is_wanted() {
    let scene = scene("tc", "");
    refused(&scene, Protocol::Tcp, VIP_V4.into(), 10_000..10_100);
    let counted = scene.agent.status().expect("status").reasons["reject_no_endpoint"];
    assert_eq!((counted, lines(&scene)), (100, Vec::new()));
}
