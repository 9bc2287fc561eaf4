//! A full table of live flows: the agent says so once, everywhere, and says when it is over.

use std::net::SocketAddr;
use std::time::Duration;

use weir::model::Protocol;
use weir_tests::agent::{Agent, Setup};
use weir_tests::client::{exchange, ports, survey, tally, udp_from};
use weir_tests::netns::Netns;
use weir_tests::prometheus::get;
use weir_tests::resource::SplitYaml;
use weir_tests::scene::{PORT, Scene};
use weir_tests::topology::{VIP_V4, client_ip};

/// Live flows for which there is room.
const ROOM: u16 = 1024;
/// Flows that are made at once, and the pause after them: the table has room for those of some
/// seconds, so that what goes of one direction is made anew by the other, once a second.
const BURST: usize = 50;
/// See [`BURST`].
const PAUSE: Duration = Duration::from_millis(150);

/// Both sides speak twice.
fn speak(source: SocketAddr, vip: SocketAddr) {
    let socket = udp_from(source, vip).expect("a socket");
    for _ in 0..2 {
        exchange(&socket, b"x").unwrap_or_else(|error| panic!("{source}: {error}"));
    }
}

/// Lines of the agent's log with this in them.
fn lines(agent: &Agent, text: &str) -> Vec<String> {
    agent.stderr().lines().filter(|line| line.contains(text)).map(str::to_owned).collect()
}

/// What the metrics say of the table of live flows over IPv4.
fn metric(node: &Netns) -> String {
    let at = "127.0.0.1:9464".parse().expect("an address");
    let (status, text) = get(node, at, "/metrics").expect("metrics");
    assert_eq!(status, 200, "{text}");
    let name = r#"weir_flow_table_full{family="ipv4",table="live"} "#;
    let value = text.lines().find_map(|line| line.strip_prefix(name));
    value.unwrap_or_else(|| panic!("no {name}:\n{text}")).to_owned()
}

#[test]
fn a_full_table_is_told_of_once_and_so_is_its_end() {
    let vip = SocketAddr::new(VIP_V4.into(), 9053);
    let scene = Scene::new(&["a", "b"], |t| {
        let split = SplitYaml::udp("ratings", vip)
            .subset("v1", 1, &t.ips(&["a"], vip.ip()), PORT)
            .subset("v2", 1, &t.ips(&["b"], vip.ip()), PORT);
        // Five seconds of silence, and a flow is over; ten, and it leaves.
        let lines = format!("flows: {{max: {ROOM}, udpIdle: 5s}}\n");
        Setup::default().config(&lines).split(&split.text())
    })
    .expect("a scene");
    let (agent, client) = (&scene.agent, &scene.topology.client);
    agent.await_status("flows are counted", |status| status.flows_counted.is_some());
    assert_eq!(metric(&scene.topology.node), "0");

    // From more ports than there is room for, until the agent has seen it.
    let is_full =
        || agent.status().expect("status").flow_tables.iter().any(|t| t.full_since.is_some());
    let mut rounds = 0;
    while !is_full() {
        let sources = ports(client_ip(vip.ip()), 10_000..10_000 + ROOM + ROOM / 2);
        for sources in sources.chunks(BURST) {
            client.run(|| sources.iter().for_each(|&source| speak(source, vip)));
            std::thread::sleep(PAUSE);
        }
        rounds += 1;
        assert!(rounds < 10_000, "the agent does not see it: {:?}", agent.status());
    }
    let text = agent.printed(&["status"]);
    let told = text.lines().filter(|line| line.starts_with("ipv4 live is full since ")).count();
    assert_eq!(told, 1, "{text}");
    assert_eq!(metric(&scene.topology.node), "1");
    // New flows find their endpoints as before, and each gets its answers from the service.
    let sources = ports(client_ip(vip.ip()), 30_000..30_500);
    let counts = tally(&survey(client, Protocol::Udp, vip, &sources)).expect("answers");
    assert_eq!(counts.len(), 2, "{counts:?}");

    agent.await_status("there is room again", |status| {
        status.flow_tables.iter().all(|table| table.full_since.is_none())
    });
    assert_eq!(metric(&scene.topology.node), "0");
    let [full, over] =
        ["flow table ipv4 live is full: ", "flow table ipv4 live is not full any more"]
            .map(|text| lines(agent, text));
    println!("{text}\n{}\n{}\n{rounds} rounds", full.join("\n"), over.join("\n"));
    assert_eq!((full.len(), over.len()), (1, 1), "{full:?} {over:?}");
}
