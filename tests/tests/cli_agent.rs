//! The commands that ask a running agent.

use std::collections::BTreeMap;
use std::net::{IpAddr, SocketAddr};
use std::os::unix::fs::PermissionsExt as _;
use std::time::{Duration, Instant};

use serde_json::Value;
use weir::model::Protocol;
use weir_tests::agent::Setup;
use weir_tests::client::{ports, survey, tally};
use weir_tests::resource::SplitYaml;
use weir_tests::scene::{PORT, Scene};
use weir_tests::topology::{CLIENT_V4, NODE_V4, Topology, VIP_V4, VIP_V6, client_ip};

const SUBSETS: [(&str, u32, &[&str]); 4] =
    [("v1", 60, &["v1-a", "v1-b"]), ("v2", 30, &["v2-a"]), ("v3", 10, &[]), ("v4", 0, &["v2-a"])];

/// `reviews` is IPv4, TCP; `ratings` is IPv6, UDP; `votes` has client affinity.
fn splits(topology: &Topology) -> [(SplitYaml, SocketAddr, Protocol); 3] {
    let (v4, v6): (IpAddr, IpAddr) = (VIP_V4.into(), VIP_V6.into());
    let votes = SocketAddr::new(v4, 9081);
    [
        ("reviews", SocketAddr::new(v4, 9080), Protocol::Tcp),
        ("ratings", SocketAddr::new(v6, 9080), Protocol::Udp),
        ("votes", votes, Protocol::Tcp),
    ]
    .map(|(name, address, protocol)| {
        let mut split = SplitYaml::new(name, address, protocol);
        for (subset, weight, names) in SUBSETS {
            split = split.subset(subset, weight, &topology.ips(names, address.ip()), PORT);
        }
        (if name == "votes" { split.client_ip() } else { split }, address, protocol)
    })
}

fn scene() -> Scene {
    Scene::new(&["v1-a", "v1-b", "v2-a"], |topology| {
        splits(topology)
            .iter()
            .fold(Setup::default(), |setup, (split, ..)| setup.split(&split.text()))
    })
    .unwrap()
}

/// The value after "key:" in what `weir explain` prints.
fn field<'a>(text: &'a str, key: &str) -> &'a str {
    let found = text.lines().find_map(|line| line.strip_prefix(key)?.strip_prefix(':'));
    found.unwrap_or_else(|| panic!("no {key} in {text}")).trim()
}

#[test]
fn explain_says_what_connections_get() {
    let scene = scene();
    let topology = &scene.topology;
    for (_, vip, protocol) in splits(topology) {
        let sources = ports(client_ip(vip.ip()), 10_000..10_200);
        let answers = survey(&topology.client, protocol, vip, &sources);
        let mut seen = BTreeMap::<_, u32>::new();
        for (source, answer) in sources.iter().zip(answers) {
            let (from, to) = (source.to_string(), vip.to_string());
            let protocol = protocol.to_string();
            let line = ["explain", "--from", &from, "--to", &to, "--protocol", &protocol];
            let text = scene.agent.ask(&line).unwrap();
            let expected = match answer {
                Ok(name) => {
                    SocketAddr::new(topology.endpoint(&name).ip(vip.ip()), PORT).to_string()
                }
                Err(std::io::ErrorKind::ConnectionRefused) => {
                    "rejected, the subset has no endpoint".to_owned()
                }
                Err(other) => panic!("{source}: {other}"),
            };
            assert_eq!(field(&text, "endpoint"), expected, "{source}: {text}");
            let chosen = text.lines().find(|line| line.ends_with("<- least")).expect("the winner");
            assert!(chosen.starts_with(field(&text, "subset")), "{text}");
            *seen.entry(expected).or_default() += 1;
        }
        println!("{vip}/{protocol}: {seen:?}");
        // Three endpoints and the rejection; with affinity, one client has one answer.
        assert_eq!(seen.len(), if vip.port() == 9081 { 1 } else { 4 }, "{vip}: {seen:?}");
    }
    // A client on the node itself comes in at no interface.
    for (from, said) in [(NODE_V4, true), (CLIENT_V4, false)] {
        let from = format!("{from}:10000");
        let text = scene.agent.ask(&["explain", "--from", &from, "--to", "203.0.113.10:9080"]);
        let text = text.unwrap();
        assert_eq!(text.contains("not steered"), said, "{from}: {text}");
    }
    for (arguments, expected) in [
        (["192.0.2.200:1", "203.0.113.99:9080"], "203.0.113.99:9080/TCP is no split's address"),
        (["[2001:db8::1]:1", "203.0.113.10:9080"], "differ in family"),
    ] {
        let [from, to] = arguments;
        let output = scene.agent.weir(&["explain", "--from", from, "--to", to]);
        let stderr = String::from_utf8_lossy(&output.stderr);
        assert_eq!(output.status.code(), Some(1), "{arguments:?}: {stderr}");
        assert!(stderr.contains(expected), "{arguments:?}: {stderr}");
    }
}

#[test]
fn splits_are_shown_as_table_yaml_and_json() {
    let scene = scene();
    let (agent, client) = (&scene.agent, &scene.topology.client);
    let vip = SocketAddr::new(VIP_V4.into(), 9080);
    let sources = ports(client_ip(vip.ip()), 10_000..10_500);
    let answers = survey(client, Protocol::Tcp, vip, &sources);
    let reached: Vec<_> = answers.into_iter().filter(Result::is_ok).collect();
    let counts = tally(&reached).expect("only successes are left");

    let show = |format| agent.ask(&["get", "splits", "reviews", "-o", format]).unwrap();
    // When connections changed, and what the last packets of them add, may be a moment apart.
    let timeless = |mut value: Value| {
        value.as_object_mut().expect("a mapping").remove("changed");
        value
    };
    let deadline = Instant::now() + Duration::from_secs(10);
    let json = loop {
        let json: Value = serde_json::from_str(&show("json")).expect("JSON");
        let yaml: Value = serde_yaml::from_str(&show("yaml")).expect("YAML");
        let (json, yaml) = (timeless(json), timeless(yaml));
        if json == yaml || Instant::now() > deadline {
            assert_eq!(json, yaml, "YAML says what JSON says");
            break json;
        }
    };
    assert_eq!(json["name"], "reviews");
    assert_eq!(json["address"], vip.ip().to_string());
    assert_eq!((&json["port"], &json["protocol"]), (&9080.into(), &"TCP".into()));
    let v1 = &json["subsets"][0];
    assert_eq!((&v1["name"], &v1["weight"]), (&"v1".into(), &60.into()));
    assert_eq!(v1["target_share"], 0.6);
    assert_eq!(v1["flows"], counts["v1-a"] + counts["v1-b"], "{json:#}");
    assert_eq!(json["subsets"][1]["flows"], counts["v2-a"], "{json:#}");
    for (endpoint, name) in v1["endpoints"].as_array().expect("a list").iter().zip(["v1-a", "v1-b"])
    {
        let address = SocketAddr::new(scene.topology.endpoint(name).v4.into(), PORT);
        assert_eq!(endpoint["address"], address.to_string());
        assert_eq!(endpoint["flows"], counts[name], "{json:#}");
        // A connection has at least SYN, ACK, FIN; SYN and ACK, the identity, FIN.
        let least = 3 * counts[name];
        assert!(endpoint["packets_forward"].as_u64() >= Some(least), "{json:#}");
        assert!(endpoint["packets_reply"].as_u64() >= Some(least), "{json:#}");
    }

    let all: Value =
        serde_json::from_str(&agent.ask(&["get", "splits", "-o", "json"]).unwrap()).expect("JSON");
    let names: Vec<_> =
        all.as_array().expect("a list").iter().map(|split| &split["name"]).collect();
    assert_eq!(names, ["ratings", "reviews", "votes"]);

    let table = agent.ask(&["get", "splits", "reviews"]).unwrap();
    let lines: Vec<Vec<&str>> = table.lines().map(|l| l.split_whitespace().collect()).collect();
    assert_eq!(lines.len(), 1 + SUBSETS.len(), "{table}");
    let flows = (counts["v1-a"] + counts["v1-b"]).to_string();
    for (column, expected) in [
        ("NAME", "reviews"),
        ("SUBSET", "v1"),
        ("WEIGHT", "60"),
        ("TARGET", "60.00%"),
        ("FLOWS", flows.as_str()),
        ("ENDPOINTS", "2"),
    ] {
        let at = lines[0].iter().position(|title| *title == column);
        let at = at.unwrap_or_else(|| panic!("no column {column}: {table}"));
        assert_eq!(lines[1][at], expected, "{column}: {table}");
    }
    assert_eq!(agent.ask(&["get", "splits"]).unwrap().lines().count(), 1 + 3 * SUBSETS.len());
}

#[test]
fn wrong_weights_are_rejected_and_change_nothing() {
    let scene = scene();
    let weights = || -> Vec<u32> {
        let split = scene.agent.split("reviews").unwrap();
        split.subsets.iter().map(|subset| subset.weight).collect()
    };
    for (arguments, expected) in [
        (&["reviews", "v9=1"][..], "\"v9\""),
        (&["reviews", "v1=5", "v9=1"], "\"v9\""),
        (&["reviews", "V1=5"], "there is no subset \"V1\"; did you mean \"v1\"?"),
        (&["review", "v1=1"], "there is no split \"review\"; did you mean \"reviews\"?"),
        (&["nothing", "v1=1"], "there is no split \"nothing\""),
        (&["reviews", "v1=0", "v2=0", "v3=0"], "must not all be 0"),
    ] {
        let output = scene.agent.weir(&[&["weights"], arguments].concat());
        let stderr = String::from_utf8_lossy(&output.stderr);
        assert_eq!(output.status.code(), Some(1), "{arguments:?}: {stderr}");
        assert!(stderr.contains(expected), "{arguments:?}: {stderr}");
        assert!(output.stdout.is_empty(), "{arguments:?}");
        assert_eq!(weights(), [60, 30, 10, 0], "{arguments:?}");
    }
    let output = scene.agent.weir(&["get", "splits", "nothing"]);
    assert_eq!(output.status.code(), Some(1));
    assert!(String::from_utf8_lossy(&output.stderr).contains("there is no split \"nothing\""));

    // What names nothing known is no empty table.
    for (arguments, expected) in [
        (&["flows", "--split", "review"][..], "did you mean \"reviews\"?"),
        (&["flows", "--subset", "v9"], "no split has a subset \"v9\"; there is v1, v2, v3, v4"),
        (&["flows", "--endpoint", "203.0.113.77"], "203.0.113.77 is no endpoint"),
        (&["history", "review"], "did you mean \"reviews\"?"),
    ] {
        let output = scene.agent.weir(arguments);
        let stderr = String::from_utf8_lossy(&output.stderr);
        assert_eq!(output.status.code(), Some(1), "{arguments:?}: {stderr}");
        assert!(stderr.contains(expected), "{arguments:?}: {stderr}");
    }

    // A subset that is not named keeps its weight; what is in force then is shown.
    let table = scene.agent.ask(&["weights", "reviews", "v4=4294967295", "v2=0"]).unwrap();
    assert!(table.lines().any(|line| line.contains("4294967295")), "{table}");
    assert_eq!(weights(), [60, 0, 10, u32::MAX]);
}

#[test]
fn only_the_agents_user_can_talk_to_it() {
    let scene = scene();
    let mode = std::fs::metadata(scene.agent.socket()).expect("socket").permissions().mode();
    assert_eq!(mode & 0o777, 0o600);
}
