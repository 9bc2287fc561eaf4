//! What a real Prometheus makes of the agent's metrics, and what the agent says of its health.

use std::collections::BTreeMap;
use std::io::ErrorKind;
use std::net::{IpAddr, Ipv4Addr, SocketAddr, TcpStream};
use std::ops::Range;
use std::path::Path;
use std::process::Command;
use std::time::Instant;

use nix::sys::signal::Signal;
use serde_json::Value;
use weir::model::Protocol;
use weir_tests::agent::{SPLITS, Setup};
use weir_tests::client::{connect_from, ports, survey, tally};
use weir_tests::prometheus::{Prometheus, Series, get};
use weir_tests::resource::SplitYaml;
use weir_tests::scene::{PORT, Scene};
use weir_tests::server::read_line;
use weir_tests::stats::assert_shares;
use weir_tests::topology::{Topology, VIP_V4, VIP_V6, client_ip};

/// Where the agent serves metrics unless it is told otherwise.
const TARGET: SocketAddr = SocketAddr::new(IpAddr::V4(Ipv4Addr::LOCALHOST), 9464);
/// The dashboard.
const DASHBOARD: &str = include_str!("../../deploy/grafana/weir.json");

/// Of TCP over IPv4, UDP over IPv6, TCP to no endpoint, and TCP to one that does not listen.
fn vips() -> [SocketAddr; 4] {
    let at = SocketAddr::new;
    let v4 = |port| at(VIP_V4.into(), port);
    [v4(9080), at(VIP_V6.into(), 9053), v4(9098), v4(9099)]
}

fn splits(topology: &Topology, v1: &[&str]) -> String {
    let [reviews, ratings, closed, deaf] = vips();
    let ips = |names: &[&str], vip: SocketAddr| topology.ips(names, vip.ip());
    let documents =
        [
            SplitYaml::tcp("reviews", reviews).subset("v1", 80, &ips(v1, reviews), PORT).subset(
                "v2",
                20,
                &ips(&["v2-a"], reviews),
                PORT,
            ),
            SplitYaml::udp("ratings", ratings)
                .subset("v1", 30, &ips(&["v1-a"], ratings), PORT)
                .subset("v2", 70, &ips(&["v2-a"], ratings), PORT),
            SplitYaml::tcp("closed", closed).subset("v1", 1, &[], PORT),
            SplitYaml::tcp("deaf", deaf).subset("v1", 1, &ips(&["v1-a"], deaf), 9),
        ];
    documents.map(|split| split.text()).join("---\n")
}

/// The values of series, by the values of these labels.
fn by<const N: usize>(series: &[Series], labels: [&str; N]) -> BTreeMap<String, f64> {
    let key = |one: &Series| labels.map(|label| one.label(label)).join(" ");
    series.iter().map(|one| (key(one), one.value)).collect()
}

/// How many flows of each split and subset reached an endpoint, as the client saw it.
type Seen = BTreeMap<String, f64>;

/// One flow from each of the client's ports; adds to `seen` where it went.
fn send(scene: &Scene, seen: &mut Seen, split: &str, ports_used: Range<u16>) {
    let [reviews, ratings, ..] = vips();
    let (vip, protocol) =
        if split == "reviews" { (reviews, Protocol::Tcp) } else { (ratings, Protocol::Udp) };
    let sources = ports(client_ip(vip.ip()), ports_used);
    let answers = survey(&scene.topology.client, protocol, vip, &sources);
    for (endpoint, flows) in tally(&answers).expect("every flow is answered") {
        let subset = endpoint.split('-').next().unwrap_or_default();
        *seen.entry(format!("{split} {subset}")).or_default() += flows as f64;
    }
}

/// The flows of subsets that answer.
const FLOWS: &str = "weir_subset_flows_total{split=~\"r.*\"}";

fn check_subsets(prometheus: &Prometheus<'_>, seen: &Seen) {
    let total: f64 = seen.values().sum();
    prometheus.await_value(&format!("sum({FLOWS})"), total);
    let query = |expression: &str| prometheus.query(expression).expect(expression);
    assert_eq!(by(&query(FLOWS), ["split", "subset"]), *seen);
    let endpoints = query("sum by (split, subset) (weir_endpoint_flows_total{split=~\"r.*\"})");
    assert_eq!(by(&endpoints, ["split", "subset"]), *seen, "the sums of the endpoints");
    let counts = |split: &str| ["v1", "v2"].map(|v| seen[&format!("{split} {v}")] as u64);
    // Hypothesis: each flow falls on a subset with the probability that the weights say.
    assert_shares(&counts("reviews"), &[80, 20], "reviews");
    assert_shares(&counts("ratings"), &[30, 70], "ratings");
    let observed = query(&format!("{FLOWS} / on (split) group_left sum by (split) ({FLOWS})"));
    for (key, share) in by(&observed, ["split", "subset"]) {
        let split = key.split(' ').next().unwrap_or_default();
        let sum: u64 = counts(split).iter().sum();
        assert!((share - seen[&key] / sum as f64).abs() < 1e-9, "{key}: {share}");
    }
    let wanted = by(&query("weir_subset_wanted_share_ratio"), ["split", "subset"]);
    let expected = [
        ("closed v1", 1.0),
        ("deaf v1", 1.0),
        ("ratings v1", 0.3),
        ("ratings v2", 0.7),
        ("reviews v1", 0.8),
        ("reviews v2", 0.2),
    ];
    assert_eq!(wanted, expected.map(|(key, share)| (key.to_owned(), share)).into());
}

fn check_traffic(prometheus: &Prometheus<'_>, seen: &Seen) {
    let query = |expression: &str| prometheus.query(expression).expect(expression);
    // A datagram each way for each flow of UDP. Ethernet, IPv6, UDP, and "who are you?", to which
    // the answer adds a name and a space.
    let of = |metric: &str| {
        let all = query(&format!("sum by (subset, direction) ({metric}{{split=\"ratings\"}})"));
        by(&all, ["subset", "direction"])
    };
    let (packets, bytes) = (of("weir_endpoint_packets_total"), of("weir_endpoint_bytes_total"));
    for subset in ["v1", "v2"] {
        let flows = seen[&format!("ratings {subset}")];
        for (direction, size) in [("forward", 74.0), ("reply", 79.0)] {
            let key = format!("{subset} {direction}");
            assert_eq!((packets[&key], bytes[&key]), (flows, flows * size), "{key}");
        }
    }
    let tcp = query("weir_endpoint_bytes_total{split=\"reviews\"}");
    assert_eq!(tcp.len(), 6, "three endpoints, two directions: {tcp:?}");
    assert!(tcp.iter().all(|one| one.value > 0.0), "{tcp:?}");
    let rejected = query("weir_subset_rejected_packets_total{split=\"closed\"}");
    assert_eq!(by(&rejected, ["subset"]), [("v1".to_owned(), 20.0)].into());
    let reasons = query("weir_reason_packets_total{reason=\"reject_no_endpoint\"}");
    assert_eq!(by(&reasons, ["reason"]), [("reject_no_endpoint".to_owned(), 20.0)].into());
}

/// Handshakes and ends; `open` connections are open.
fn check_handshakes(prometheus: &Prometheus<'_>, seen: &Seen, open: f64) {
    let sum = |split: &str| ["v1", "v2"].map(|v| seen[&format!("{split} {v}")]).iter().sum::<f64>();
    let value = |metric: &str, split: &str, value: f64| {
        prometheus.await_value(&format!("sum(weir_{metric}{{split=\"{split}\"}})"), value);
    };
    for split in ["reviews", "ratings"] {
        value("subset_completed_flows_total", split, sum(split));
        value("subset_refused_flows_total", split, 0.0);
    }
    value("subset_ended_flows_total", "reviews", sum("reviews") - open);
    value("subset_flows_total", "deaf", 10.0);
    value("subset_completed_flows_total", "deaf", 0.0);
    value("subset_refused_flows_total", "deaf", 10.0);
    value("subset_active_flows", "reviews", open);
    value("endpoint_active_flows", "reviews", open);
    let table = |family: &str, table: &str, flows: f64| {
        let labels = format!("family=\"{family}\",table=\"{table}\",state=\"active\"");
        prometheus.await_value(&format!("weir_flow_table_flows{{{labels}}}"), flows);
    };
    table("ipv4", "live", open);
    // One datagram each way.
    table("ipv6", "live", 0.0);
    table("ipv6", "pending", sum("ratings"));
}

fn check_agent(prometheus: &Prometheus<'_>) {
    let query = |expression: &str| prometheus.query(expression).expect(expression);
    let attached = query("weir_interface_attached");
    assert_eq!(attached.len(), 4, "{attached:?}");
    for one in attached {
        assert_eq!((one.label("hook"), one.value), ("tc", 1.0), "{one:?}");
        assert!(["tcx", "clsact"].contains(&one.label("mode")), "{one:?}");
    }
    let used = by(&query("weir_ids_used"), ["kind"]);
    assert_eq!((used["splits"], used["endpoints"]), (4.0, 6.0));
    assert_eq!(by(&query("weir_ids_limit"), ["kind"])["splits"], 1024.0);
    prometheus.await_value("weir_config_problems", 0.0);
    prometheus.await_value("count(weir_build_info)", 1.0);
    let limit = by(&query("weir_flow_table_limit"), ["family", "table"]);
    let expected = [("ipv4 live", 4096.0), ("ipv4 pending", 2048.0)];
    expected.iter().for_each(|(table, flows)| assert_eq!(limit[*table], *flows, "{table}"));
}

/// All expressions of the dashboard, with what Grafana fills in.
fn expressions(dashboard: &Value) -> Vec<String> {
    let own = dashboard.get("expr").and_then(Value::as_str).map(|expression| {
        ["$instance", "$split"]
            .iter()
            .fold(expression.to_owned(), |text, variable| text.replace(variable, ".*"))
            .replace("$__rate_interval", "5m")
    });
    let children: Vec<&Value> = match dashboard {
        Value::Object(fields) => fields.values().collect(),
        Value::Array(items) => items.iter().collect(),
        _ => Vec::new(),
    };
    own.into_iter().chain(children.into_iter().flat_map(expressions)).collect()
}

fn check_dashboard(prometheus: &Prometheus<'_>) {
    let dashboard: Value = serde_json::from_str(DASHBOARD).expect("the dashboard is JSON");
    let all = expressions(&dashboard);
    assert!(all.len() >= 15, "{all:?}");
    for expression in &all {
        assert!(!expression.contains('$'), "an unknown variable: {expression}");
        let data = |series: &[Series]| series.iter().any(|one| one.value.is_finite());
        let series = prometheus.await_query(expression, data);
        println!("{} series: {expression}", series.len());
    }
}

/// All that the alerts speak of is there.
fn check_rules(prometheus: &Prometheus<'_>) {
    let rules = prometheus.await_rules();
    assert_eq!(rules.len(), 9, "{rules:?}");
    let is_word = |c: char| c.is_ascii_alphanumeric() || c == '_' || c == ':';
    for word in rules.iter().flat_map(|rule| rule.split(|c| !is_word(c))) {
        if word.starts_with("weir_") {
            assert!(!prometheus.query(word).unwrap().is_empty(), "{word}");
        }
    }
}

#[test]
fn alerts_wake_who_should_be_woken_and_nobody_else() {
    let rules = Path::new(env!("CARGO_MANIFEST_DIR")).join("rules.test.yaml");
    let mut promtool = Command::new("promtool");
    let output = promtool.args(["test", "rules"]).arg(rules).output().expect("promtool");
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{}{said}", String::from_utf8_lossy(&output.stdout));
}

/// Connections that are open, and the endpoint that each reached.
type Open = Vec<(TcpStream, String)>;

fn open(scene: &Scene, seen: &mut Seen) -> Open {
    let [vip, ..] = vips();
    let connect = |source| {
        let mut stream = connect_from(source, vip).unwrap_or_else(|e| panic!("{source}: {e}"));
        let endpoint = read_line(&mut stream).unwrap_or_else(|e| panic!("{source}: {e}"));
        (stream, endpoint)
    };
    let sources = ports(client_ip(vip.ip()), 22_000..22_040);
    let open: Open = scene.topology.client.run(|| sources.into_iter().map(connect).collect());
    for (_, endpoint) in &open {
        *seen.entry(format!("reviews {}", &endpoint[..2])).or_default() += 1.0;
    }
    open
}

/// Asks splits that do not answer.
fn knock(scene: &Scene, vip: SocketAddr, ports_used: Range<u16>) {
    let sources = ports(client_ip(vip.ip()), ports_used);
    let answers = survey(&scene.topology.client, Protocol::Tcp, vip, &sources);
    let refused = answers.iter().all(|answer| *answer == Err(ErrorKind::ConnectionRefused));
    assert!(refused, "{vip}: {answers:?}");
}

#[test]
fn prometheus_sees_shares_and_counts_that_survive_a_crash() {
    let all = ["v1-a", "v1-b", "v2-a"];
    let mut scene = Scene::new(&all, |topology| {
        let lines = "hashSeed: 0x5eed\nflows: {max: 4096, udpIdle: 1h}\n";
        Setup::default().config(lines).resource(SPLITS, &splits(topology, &["v1-a", "v1-b"]))
    })
    .unwrap();
    let mut seen = Seen::new();
    let (begun, open) = (Instant::now(), open(&scene, &mut seen));
    let opened = begun.elapsed();
    send(&scene, &mut seen, "reviews", 20_000..20_600);
    send(&scene, &mut seen, "ratings", 20_000..20_300);
    let [_, _, closed, deaf] = vips();
    knock(&scene, closed, 30_000..30_020);
    knock(&scene, deaf, 30_000..30_010);

    let prometheus = Prometheus::start(&scene.topology.node, TARGET).unwrap();
    let open_now = open.len() as f64;
    check_subsets(&prometheus, &seen);
    check_traffic(&prometheus, &seen);
    check_handshakes(&prometheus, &seen, open_now);
    check_agent(&prometheus);
    check_rules(&prometheus);

    // Nothing is forgotten, and what happens while the agent is dead counts.
    let reloaded = "weir_config_last_reload_success_timestamp_seconds";
    let before = prometheus.query(reloaded).unwrap()[0].value;
    scene.agent.end(Signal::SIGKILL).unwrap();
    prometheus.await_value("up", 0.0);
    prometheus.await_query("ALERTS{alertname=\"WeirAgentDown\"}", |all| !all.is_empty());
    send(&scene, &mut seen, "reviews", 21_000..21_100);
    scene.agent.start_again(&scene.topology.node).unwrap();
    prometheus.await_query(reloaded, |all| matches!(all, [one] if one.value > before));
    check_subsets(&prometheus, &seen);
    check_handshakes(&prometheus, &seen, open_now);
    for counter in ["weir_subset_flows_total", "weir_endpoint_bytes_total"] {
        prometheus.await_value(&format!("sum(resets({counter}[1h]))"), 0.0);
    }

    // Connections to an endpoint that goes: it drains, and is seen.
    let draining = open.iter().filter(|(_, endpoint)| endpoint == "v1-b").count();
    assert!(draining > 0, "one of {} connections reaches v1-b", open.len());
    scene.agent.replace(SPLITS, &splits(&scene.topology, &["v1-a"]));
    let found =
        prometheus.await_query("weir_endpoint_phase{phase=\"draining\"}", |all| !all.is_empty());
    let v1_b = SocketAddr::new(scene.topology.endpoint("v1-b").v4.into(), PORT);
    assert_eq!(found.len(), 1, "{found:?}");
    assert_eq!(found[0].label("endpoint"), v1_b.to_string());
    let live = format!("weir_endpoint_active_flows{{endpoint=\"{v1_b}\"}}");
    prometheus.await_value(&live, draining as f64);
    let view = scene.agent.split("reviews").unwrap().draining;
    let [shown] = view.as_slice() else { panic!("{view:?}") };
    assert_eq!((shown.subset.as_str(), shown.address), ("v1", v1_b));
    assert_eq!(shown.open_flows, Some(draining as u64));
    assert!((1..=300).contains(&shown.seconds_left), "five minutes, unless told: {shown:?}");
    let text = scene.agent.ask(&["get", "reviews"]).unwrap();
    assert!(text.contains(&format!("reviews: {v1_b} of subset v1 drains for ")), "{text}");

    check_dashboard(&prometheus);

    // The connections end: they lasted at least since they were open, to a tick of a second.
    let least = (begun.elapsed() - opened).as_secs_f64() - 1.1;
    drop(open);
    check_handshakes(&prometheus, &seen, 0.0);
    let lasted = "sum(weir_subset_ended_flows_duration_seconds_total)";
    prometheus.await_query(lasted, |all| all[0].value >= open_now * least);
}

#[test]
fn readiness_says_what_is_missing() {
    let scene = Scene::new(&["v1-a", "v1-b", "v2-a"], |topology| {
        Setup::default().resource(SPLITS, &splits(topology, &["v1-a"]))
    })
    .unwrap();
    let node = &scene.topology.node;
    let ask = |path: &str| get(node, TARGET, path).unwrap_or_else(|e| panic!("{path}: {e}"));
    let answer = |status, text: &str| (status, text.to_owned());
    assert_eq!(ask("/readyz"), answer(200, "ready\n"));
    assert_eq!(ask("/healthz"), answer(200, "ok\n"));
    assert_eq!(ask("/v1/splits").0, 404);

    // An interface that a pattern fits and that cannot carry programs is passed over.
    node.ip(&["tuntap add dev veth-tun mode tun"]).unwrap();
    scene.agent.await_status("the interface is seen", |s| s.interfaces.len() == 5);
    assert_eq!(ask("/readyz"), answer(200, "ready\n"));
    assert!(!ask("/metrics").1.contains("interface=\"veth-tun\""));
    node.ip(&["link del veth-tun"]).unwrap();
    scene.agent.await_status("the interface is gone", |s| s.interfaces.len() == 4);
    assert_eq!(ask("/readyz").0, 200);

    // A mistake changes nothing, readiness included.
    scene.agent.replace(SPLITS, "kind: Nonsense\n");
    scene.agent.await_status("the mistake is seen", |s| !s.last_error.is_empty());
    assert_eq!(ask("/readyz").0, 200);
    let text = ask("/metrics").1;
    let problems = text.lines().find_map(|line| line.strip_prefix("weir_config_problems "));
    assert!(problems.is_some_and(|count| count != "0"), "{problems:?}");
    assert!(text.contains("weir_subset_weight{split=\"reviews\",subset=\"v1\"} 80\n"));
}

#[test]
fn agent_that_starts_with_a_mistake_is_not_ready() {
    let scene = Scene::new(&["v1-a"], |_| Setup::default().resource(SPLITS, "kind: Nonsense\n"));
    let scene = scene.unwrap();
    let (status, text) = get(&scene.topology.node, TARGET, "/readyz").unwrap();
    assert_eq!(status, 503, "{text}");
    let first = "the resources were not put into force since the agent started\n";
    assert!(text.starts_with(first) && text.contains(SPLITS), "{text}");
}

#[test]
fn metrics_can_be_turned_off_or_be_elsewhere() {
    let scene = Scene::new(&["v1-a"], |_| Setup::default().config("metrics: off\n")).unwrap();
    assert!(get(&scene.topology.node, TARGET, "/healthz").is_err());
    drop(scene);
    let lines = "metrics: '[::1]:8080'\n";
    let scene = Scene::new(&["v1-a"], |_| Setup::default().config(lines)).unwrap();
    let elsewhere = "[::1]:8080".parse().unwrap();
    assert_eq!(get(&scene.topology.node, elsewhere, "/healthz").unwrap().0, 200);
    assert!(get(&scene.topology.node, TARGET, "/healthz").is_err());
}
