//! Resource files: what is saved is soon in force, what is broken changes nothing.

use std::io::ErrorKind;
use std::net::{IpAddr, SocketAddr};
use std::time::{Duration, Instant};

use weir_tests::agent::{SPLITS, Setup};
use weir_tests::netns::Netns;
use weir_tests::resource::SplitYaml;
use weir_tests::scene::{PORT, Scene};
use weir_tests::server::tcp_identity;
use weir_tests::topology::{Topology, VIP_V4};

const TIMEOUT: Duration = Duration::from_secs(5);
/// How long a change is waited for; far more than it may take.
const PATIENCE: Duration = Duration::from_secs(10);

fn vip(port: u16) -> SocketAddr {
    SocketAddr::new(VIP_V4.into(), port)
}

/// A split whose one subset has one endpoint.
fn to(topology: &Topology, name: &str, port: u16, endpoint: &str) -> String {
    let ips = topology.ips(&[endpoint], vip(port).ip());
    SplitYaml::tcp(name, vip(port)).subset("all", 1, &ips, PORT).text()
}

/// Connects until `wanted` answers; how long that took.
fn await_answer(client: &Netns, vip: SocketAddr, wanted: &str) -> Duration {
    let begun = Instant::now();
    client.run(|| {
        loop {
            let answer = tcp_identity(vip, TIMEOUT);
            let took = begun.elapsed();
            match answer {
                Ok(name) if name == wanted => return took,
                _ if took > PATIENCE => panic!("{wanted} does not answer, but {answer:?}"),
                _ => {}
            }
        }
    })
}

#[test]
fn a_saved_file_is_soon_in_force() {
    let scene =
        Scene::new(&["a", "b"], |t| Setup::default().split(&to(t, "reviews", 9080, "a"))).unwrap();
    let mut times = Vec::new();
    for round in 0..20 {
        let name = if round % 2 == 0 { "b" } else { "a" };
        let text = to(&scene.topology, "reviews", 9080, name);
        match round % 4 {
            0 | 1 => scene.agent.write(SPLITS, &text),
            _ => scene.agent.replace(SPLITS, &text),
        }
        times.push(await_answer(&scene.topology.client, vip(9080), name));
    }
    times.sort();
    println!(
        "from saved to answered by the new endpoint: median {:?}, longest {:?}",
        times[times.len() / 2],
        times[times.len() - 1]
    );
}

/// What is wrong, the file, and what the agent must say after the file's name.
const BROKEN: &[(&str, &str, &str)] = &[
    ("no YAML", "kind: TrafficSplit\nspec: ]\n", ":2: invalid YAML: "),
    ("an unknown kind", "apiVersion: weir.dev/v1alpha1\nkind: Splits\n", ":2: kind: unknown kind"),
    (
        "an unknown field",
        "apiVersion: weir.dev/v1alpha1\nkind: TrafficSplit\nmetadata:\n  name: x\nspec:\n  \
         adress: 203.0.113.11\n  port: 80\n  subsets: []\n",
        ":6: spec.adress: unknown field",
    ),
    (
        "a weight out of range",
        "apiVersion: weir.dev/v1alpha1\nkind: TrafficSplit\nmetadata:\n  name: x\nspec:\n  \
         address: 203.0.113.11\n  port: 80\n  subsets:\n  - name: a\n    weight: -1\n    \
         endpoints: []\n",
        ":10: spec.subsets[0].weight: ",
    ),
    (
        "the name of another split",
        "apiVersion: weir.dev/v1alpha1\nkind: TrafficSplit\nmetadata:\n  name: reviews\nspec:\n  \
         address: 203.0.113.11\n  port: 80\n  subsets:\n  - {name: a, weight: 1, endpoints: []}\n",
        ":4: metadata.name: ",
    ),
    (
        "the address of another split",
        "apiVersion: weir.dev/v1alpha1\nkind: TrafficSplit\nmetadata:\n  name: x\nspec:\n  \
         address: 203.0.113.10\n  port: 9080\n  subsets:\n  - {name: a, weight: 1, endpoints: []}\n",
        ":6: spec.address: service address 203.0.113.10:9080/TCP is already taken",
    ),
];

#[test]
fn a_broken_file_changes_nothing_says_where_and_holds_up_no_other() {
    // The file with the good split comes first, so that the other one is at fault.
    let scene = Scene::new(&["a", "b"], |t| {
        Setup::default().resource("a.yaml", &to(t, "reviews", 9080, "a"))
    })
    .unwrap();
    let (agent, client) = (&scene.agent, &scene.topology.client);
    for (case, text, expected) in BROKEN {
        agent.write("b.yaml", text);
        agent.await_status(case, |status| !status.last_error.is_empty());
        assert_eq!(client.run(|| tcp_identity(vip(9080), TIMEOUT)).expect(case), "a", "{case}");
        // A good change beside it.
        agent.write("a.yaml", &to(&scene.topology, "reviews", 9080, "b"));
        await_answer(client, vip(9080), "b");
        let path = agent.resources().join("b.yaml").display().to_string();
        let status = agent.status().unwrap();
        let line = status.last_error.iter().find(|line| line.starts_with(&path));
        let line = line.unwrap_or_else(|| panic!("{case}: {status:?}"));
        assert!(line[path.len()..].starts_with(expected), "{case}: {line}, expected {expected}");
        assert!(agent.stderr().contains(line), "{case}: standard error has {line}");
        let shown = agent.printed(&["status"]);
        assert!(shown.contains(line), "{case}: `weir status` shows {shown}");

        // Repaired.
        std::fs::remove_file(agent.resources().join("b.yaml")).expect("remove");
        agent.await_status(case, |status| status.last_error.is_empty());
        assert_eq!(client.run(|| tcp_identity(vip(9080), TIMEOUT)).expect(case), "b", "{case}");
        agent.write("a.yaml", &to(&scene.topology, "reviews", 9080, "a"));
        await_answer(client, vip(9080), "a");
    }
}

#[test]
fn an_agent_that_starts_with_a_broken_file_recovers() {
    let scene = Scene::new(&["a"], |_| Setup::default().resource("a.yaml", "spec: ]")).unwrap();
    let status = scene.agent.status().unwrap();
    assert!(status.last_error[0].contains("a.yaml:1: "), "{status:?}");
    scene.agent.replace("a.yaml", &to(&scene.topology, "reviews", 9080, "a"));
    await_answer(&scene.topology.client, vip(9080), "a");
    assert!(scene.agent.status().unwrap().last_error.is_empty());
}

#[test]
fn a_limit_that_is_exceeded_changes_nothing() {
    let limits: &[(&str, &str)] = &[
        ("splits", "limits: {splits: 1}"),
        ("endpoints", "limits: {endpoints: 2}"),
        ("tableSlots", "limits: {tableSlots: 1024}"),
    ];
    for (limit, config) in limits {
        let scene = Scene::new(&["a", "b"], |t| {
            Setup::default().config(config).split(&to(t, "reviews", 9080, "a"))
        })
        .unwrap();
        let (agent, client) = (&scene.agent, &scene.topology.client);
        // The change to "reviews" is good; "zz" is one too many, with more endpoints than fit.
        let many: Vec<IpAddr> = (1..=60).map(|n| IpAddr::from([10, 9, 0, n])).collect();
        let extra = SplitYaml::tcp("zz", vip(9999)).subset("x", 1, &many, PORT).text();
        let good = to(&scene.topology, "reviews", 9080, "b");
        agent.replace(SPLITS, &format!("{good}---\n{extra}"));
        let status = agent.await_status(limit, |status| !status.last_error.is_empty());
        let errors = status.last_error.join("\n");
        assert!(errors.contains(&format!("limits.{limit}")), "{limit}: {errors}");
        let answer = client.run(|| tcp_identity(vip(9080), TIMEOUT));
        assert_eq!(answer.expect(limit), "a", "{limit}: nothing may have changed");
        assert!(agent.split("zz").is_err(), "{limit}: not in force");

        agent.replace(SPLITS, &good);
        agent.await_status(limit, |status| status.last_error.is_empty());
        assert_eq!(client.run(|| tcp_identity(vip(9080), TIMEOUT)).expect(limit), "b", "{limit}");
    }
}

#[test]
fn weights_set_live_last_until_the_split_is_changed_in_its_file() {
    let both = |topology: &Topology, weights: [u32; 2]| {
        let ips = |name| topology.ips(&[name], vip(9080).ip());
        SplitYaml::tcp("reviews", vip(9080))
            .subset("a", weights[0], &ips("a"), PORT)
            .subset("b", weights[1], &ips("b"), PORT)
            .text()
    };
    let scene = Scene::new(&["a", "b"], |t| Setup::default().split(&both(t, [1, 0]))).unwrap();
    let (agent, client) = (&scene.agent, &scene.topology.client);
    let ask = || client.run(|| tcp_identity(vip(9080), TIMEOUT)).expect("an answer");
    agent.weights("reviews", &[("a", 0), ("b", 5)]).unwrap();
    assert_eq!(ask(), "b");
    // Another split comes: no reason to undo what was set.
    agent.write("other.yaml", &to(&scene.topology, "other", 9999, "a"));
    await_answer(client, vip(9999), "a");
    assert_eq!(ask(), "b");
    agent.replace(SPLITS, &both(&scene.topology, [2, 0]));
    await_answer(client, vip(9080), "a");
    let weights: Vec<u32> =
        agent.split("reviews").unwrap().subsets.iter().map(|subset| subset.weight).collect();
    assert_eq!(weights, [2, 0]);
}

#[test]
fn an_address_that_moves_to_another_split_or_port_is_served() {
    let scene =
        Scene::new(&["a", "b"], |t| Setup::default().split(&to(t, "reviews", 9080, "a"))).unwrap();
    let (agent, client) = (&scene.agent, &scene.topology.client);
    await_answer(client, vip(9080), "a");
    agent.replace(SPLITS, &to(&scene.topology, "reviews", 9081, "a"));
    await_answer(client, vip(9081), "a");
    // Nobody owns the old address: packets to it are lost, or rejected by the node.
    let old = client.run(|| tcp_identity(vip(9080), Duration::from_millis(300)));
    assert!(matches!(old.map_err(|e| e.kind()), Err(ErrorKind::TimedOut | ErrorKind::WouldBlock)));
    agent.replace(SPLITS, &to(&scene.topology, "ratings", 9081, "b"));
    await_answer(client, vip(9081), "b");
    agent.replace(SPLITS, &to(&scene.topology, "reviews", 9081, "a"));
    await_answer(client, vip(9081), "a");
}
