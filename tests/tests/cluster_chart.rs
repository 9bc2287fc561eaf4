//! The chart, rendered and installed by a real Helm; its Pods are run by an OCI runtime of the
//! image that `cargo xtask image` writes. Needs root.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Arc;
use std::time::{Duration, Instant};

use serde_json::Value;
use tempfile::TempDir;
use weir::config::AgentConfig;
use weir_tests::cluster::helm::{Helm, NAMESPACE};
use weir_tests::cluster::live::Live;
use weir_tests::cluster::node::{Node, ProxyMode};
use weir_tests::cluster::pod::Pod;
use weir_tests::cluster::programs::Definitions;
use weir_tests::cluster::steered::{Client, repository, rule, versions, virtual_service};
use weir_tests::cluster::{Cluster, phase};

const TIMEOUT: Duration = Duration::from_secs(60);
const FLOWS: u16 = 1_500;
const LIVE: u16 = 1_000;
/// What the test's interfaces are called, as those of kindnet are.
const CNI: &str = "cni=kindnet";
/// Of the chart's agents, as it labels them.
const PODS: &str = "app.kubernetes.io/component=agent";
/// And of its controllers.
const CONTROLLERS: &str = "app.kubernetes.io/component=controller";
/// In which networks TrafficSplits may name addresses.
const ADDRESSES: &str = "kubernetes.addresses={198.51.100.0/24,10.128.0.0/9}";

/// Values, and a piece of what is rendered by them.
const GOOD: [(&[&str], &str); 14] = [
    (&[CNI], "match: \"veth*\""),
    (&["cni=aws"], "match: \"vlan*\""),
    (&["interfaces[0].match=eth0", "interfaces[0].forward=xdp"], "forward: xdp"),
    (&[CNI, "kubernetes.mode=observe"], "mode: observe"),
    (&[CNI, "kubernetes.addresses={198.51.100.0/24,2001:db8::/32}"], "2001:db8::/32"),
    (&[CNI, "flows.max=1048576", "limits.tableSlots=67108864"], "tableSlots: 67108864"),
    (&[CNI, "podMonitor.enabled=true"], "metrics: \"0.0.0.0:9464\""),
    (&[CNI, "metrics.address=::1"], "metrics: \"[::1]:9464\""),
    (&[CNI, "prometheusRule.enabled=true"], "kind: PrometheusRule"),
    (&[CNI, "dashboard.enabled=true"], "grafana_dashboard: \"1\""),
    (&[CNI, "extraCapabilities={SYS_RESOURCE}"], "\"NET_ADMIN\",\"SYS_RESOURCE\"]"),
    (&[CNI, "kubernetes.reports.pause=30s"], "reports: {pause: 30s, renewal: 5m}"),
    (&[CNI, "controller.replicas=3"], "replicas: 3"),
    (&[CNI, "mountBpffs.enabled=true"], "mountPropagation: Bidirectional"),
];

/// Values that are wrong, and a piece of what is said of them.
const BAD: [(&[&str], &str); 17] = [
    (&[], "say which container network the cluster has"),
    (&["cni=weave"], "at '/cni': value must be one of"),
    (&[CNI, "interface=eth0"], "additional properties 'interface' not allowed"),
    (&[CNI, "flows.maximum=5"], "additional properties 'maximum' not allowed"),
    (&[CNI, "flows.max=1000"], "at '/flows/max': minimum"),
    (&[CNI, "flows.tcpIdle=90"], "at '/flows/tcpIdle'"),
    (&[CNI, "kernelLog=false"], "at '/kernelLog'"),
    (&[CNI, "kubernetes.addresses={198.51.100.1}"], "at '/kubernetes/addresses/0'"),
    (&[CNI, "updateStrategy.maxUnavailable=0"], "at '/updateStrategy/maxUnavailable'"),
    (&[CNI, "kubernetes.reports.pause=soon"], "at '/kubernetes/reports/pause'"),
    (&[CNI, "controller.replicas=0"], "at '/controller/replicas': minimum"),
    (&[CNI, "controller.enable=false"], "additional properties 'enable' not allowed"),
    (&[CNI, "extraCapabilities={ALL}"], "at '/extraCapabilities/0'"),
    (&[CNI, "extraCapabilities={CAP_SYS_ADMIN}"], "at '/extraCapabilities/0'"),
    (&[CNI, "image.digest=sha256:12"], "at '/image/digest'"),
    (&[CNI, "podMonitor.enabled=true", "metrics.address=127.0.0.1"], "Prometheus reaches no Pod"),
    (&[CNI, "serviceAccount.create=false"], "say the name of one that is there"),
];

fn chart() -> String {
    repository(xtask::chart::CHART).display().to_string()
}

fn template(helm: &Helm, values: &[&str]) -> anyhow::Result<String> {
    let chart = chart();
    let mut arguments = vec!["template", "weir", &chart, "--namespace", NAMESPACE];
    arguments.extend(values.iter().flat_map(|value| ["--set", value]));
    helm.alone(&arguments)
}

/// The objects of a text of YAML documents.
fn objects(text: &str) -> Vec<Value> {
    let documents = serde_yaml::Deserializer::from_str(text);
    let objects = documents.map(|document| serde::Deserialize::deserialize(document).unwrap());
    objects.filter(|object: &Value| !object.is_null()).collect()
}

fn find<'a>(objects: &'a [Value], kind: &str) -> &'a Value {
    let found = objects.iter().find(|object| object["kind"] == kind);
    found.unwrap_or_else(|| panic!("no {kind}"))
}

#[test]
fn what_is_rendered_is_what_the_agent_takes_and_wrong_values_are_rejected() {
    let helm = Helm::find().unwrap();
    helm.alone(&["lint", "--strict", &chart(), "--set", CNI]).unwrap();
    helm.alone(&["lint", "--strict", &chart()]).unwrap();
    for (values, expected) in GOOD {
        let text = template(&helm, values).unwrap_or_else(|error| panic!("{values:?}: {error:#}"));
        assert!(text.contains(expected), "{values:?}: no {expected} in:\n{text}");
        let objects = objects(&text);
        let maps = objects.iter().find(|object| !object["data"]["agent.yaml"].is_null());
        let config = maps.expect("agent.yaml")["data"]["agent.yaml"].as_str().unwrap();
        let parsed = AgentConfig::parse("agent.yaml", config);
        let config = parsed.unwrap_or_else(|problems| panic!("{values:?}: {problems:?}"));
        assert!(config.kubernetes.is_some() && config.metrics.is_some(), "{config:?}");
    }
    for (values, expected) in BAD {
        match template(&helm, values) {
            Ok(text) => panic!("{values:?} is taken:\n{text}"),
            Err(error) => {
                let said = format!("{error:#}");
                assert!(said.contains(expected), "{values:?}: no {expected} in:\n{said}");
            }
        }
    }
}

#[test]
fn a_change_of_values_is_another_pod_and_a_change_of_none_is_not() {
    let helm = Helm::find().unwrap();
    let checksum = |values: &[&str]| {
        let objects = objects(&template(&helm, values).unwrap());
        let set = find(&objects, "DaemonSet");
        set["spec"]["template"]["metadata"]["annotations"]["checksum/config"].clone()
    };
    assert_eq!(checksum(&[CNI]), checksum(&[CNI, "resources.limits.memory=1Gi"]));
    assert_ne!(checksum(&[CNI]), checksum(&[CNI, "kernelLog=rare"]));
}

#[test]
fn the_plain_manifests_are_what_the_chart_renders() {
    for (path, text) in xtask::chart::manifests(&repository("")).unwrap() {
        let there = std::fs::read_to_string(&path).unwrap();
        assert!(there == text, "{} is not: `cargo xtask manifests` writes it", path.display());
    }
    // One source of each, by links.
    for (link, file) in [
        ("deploy/kubernetes/crds/trafficsplit.yaml", "files/crds/trafficsplit.yaml"),
        ("deploy/kubernetes/crds/nodereport.yaml", "files/crds/nodereport.yaml"),
        ("deploy/prometheus/weir.rules.yaml", "files/weir.rules.yaml"),
        ("deploy/grafana/weir.json", "files/weir.json"),
    ] {
        let file = repository(xtask::chart::CHART).join(file).canonicalize().unwrap();
        assert_eq!(repository(link).canonicalize().unwrap(), file);
    }
}

/// The image, unpacked; and the directory in which it is.
fn image() -> (PathBuf, TempDir) {
    let directory = tempfile::Builder::new().prefix("weir-image-").tempdir().unwrap();
    let (to, version) = (directory.path().join("image"), env!("CARGO_PKG_VERSION"));
    let made = xtask::image::write(&weir_tests::agent::program().unwrap(), version, &to).unwrap();
    for (name, size) in &made.files {
        eprintln!("{size:>12}  /{name}");
    }
    let (oci, root) = (directory.path().join("oci"), directory.path().join("root"));
    untar(&made.archive, &oci);
    let read = |path: PathBuf| -> Value {
        serde_json::from_slice(&std::fs::read(path).unwrap()).expect("JSON")
    };
    let blob = |descriptor: &Value| {
        let digest = descriptor["digest"].as_str().unwrap().strip_prefix("sha256:").unwrap();
        let path = oci.join("blobs/sha256").join(digest);
        let size = std::fs::metadata(&path).unwrap().len();
        assert_eq!(descriptor["size"], size, "{}", path.display());
        path
    };
    let index = read(oci.join("index.json"));
    let manifest = read(blob(&index["manifests"][0]));
    let config = read(blob(&manifest["config"]));
    assert_eq!(config["rootfs"]["diff_ids"][0], manifest["layers"][0]["digest"]);
    untar(&blob(&manifest["layers"][0]), &root);
    (root, directory)
}

fn untar(archive: &Path, to: &Path) {
    std::fs::create_dir(to).unwrap();
    let mut command = Command::new("tar");
    command.args(["--extract", "--file"]).arg(archive).arg("--directory").arg(to);
    assert!(command.status().unwrap().success(), "{}", archive.display());
}

/// The chart as a version before could have been: its definition of TrafficSplits has no columns.
fn chart_before(directory: &Path) -> String {
    let to = directory.join("before");
    let copied = Command::new("cp").arg("-rL").arg(chart()).arg(&to).status().unwrap();
    assert!(copied.success());
    let file = to.join("files/crds/trafficsplit.yaml");
    let text = std::fs::read_to_string(&file).unwrap();
    let columns = |line: &&str| !line.contains("jsonPath:") && !line.contains("PrinterColumns");
    let without: Vec<&str> = text.lines().filter(columns).collect();
    assert!(without.len() < text.lines().count(), "there are columns");
    std::fs::write(&file, without.join("\n") + "\n").unwrap();
    to.display().to_string()
}

/// Waits until what a Pod's agent is asked prints this.
fn await_print(pod: &Pod, arguments: &[&str], expected: &str) {
    let deadline = Instant::now() + TIMEOUT;
    loop {
        let printed = pod.exec(arguments);
        if printed.as_ref().is_ok_and(|text| text.contains(expected)) {
            return;
        }
        assert!(Instant::now() < deadline, "{arguments:?}: no {expected}: {printed:?}");
        std::thread::sleep(Duration::from_millis(200));
    }
}

#[test]
fn helm_installs_upgrades_rolls_back_and_uninstalls_agents_that_steer_as_their_pods_say() {
    let helm = Helm::find().unwrap();
    let (root, directory) = phase("image", image);
    let cluster = phase("cluster", || Cluster::start(2)).unwrap();
    let control = &cluster.control;
    cluster.start_proxies(ProxyMode::Nftables).unwrap();
    cluster.define(Definitions::Istio).unwrap();
    cluster.kubelet.unpacked(&format!("weir:{}", env!("CARGO_PKG_VERSION")), root);

    let (chart, before) = (chart(), chart_before(directory.path()));
    let install =
        ["install", "weir", &before, "--create-namespace", "--set", CNI, "--set", ADDRESSES];
    let dry =
        phase("dry run", || helm.run(control, &[&install[..], &["--dry-run=server"]].concat()));
    assert!(dry.contains("kind: DaemonSet"), "{dry}");
    let crd = ["crd/trafficsplits.weir.dev"];
    assert!(cluster.kubectl().try_get(&crd).is_err(), "a dry run installs nothing");
    let notes = phase("installed", || helm.run(control, &install));
    assert!(notes.contains("rollout status daemonset/weir"), "{notes}");
    eprintln!("{notes}");
    let pods = phase("ready", || cluster.await_pods(NAMESPACE, PODS, 2));
    assert_ne!(pods[0].node.name, pods[1].node.name);

    phase("controllers ready", || cluster.await_pods(NAMESPACE, CONTROLLERS, 2));

    let kubectl = cluster.kubectl();
    kubectl.apply(&(versions("web", 1) + &rule("web")));
    cluster.await_pods("default", "app=web", 2);
    let address = {
        let service = kubectl.get(&["service", "web"]);
        let ip = service["spec"]["clusterIP"].as_str().unwrap().parse().unwrap();
        std::net::SocketAddr::new(ip, 80)
    };
    kubectl.apply(&virtual_service("web", &[("v1", 80), ("v2", 20)]));
    let mut client = Client::new(&cluster.nodes[0]).unwrap();
    let here = pods.iter().find(|pod| pod.node.name == "node-1").unwrap();
    await_print(here, &["weir", "get", "web.default"], "80");
    await_print(here, &["weir", "status"], client.node_ifname());
    eprintln!("{}", here.exec(&["weir", "status"]).unwrap());
    client.assert_shares("80/20", address, FLOWS, &[("web-v1-", 80), ("web-v2-", 20)]);
    let mut live = Live::open(&mut client, address, LIVE);

    // The agents report by tokens that are bound to their Pods, and a controller hears of it.
    let endpoint = cluster.await_pods("default", "app=web", 2)[0].v4();
    kubectl.apply(&format!(
        "
apiVersion: weir.dev/v1alpha1
kind: TrafficSplit
metadata: {{name: own, namespace: default}}
spec:
  address: 198.51.100.10
  port: 80
  subsets: [{{name: v1, weight: 1, endpoints: ['{endpoint}:8080']}}]
"
    ));
    kubectl.wait(&["trafficsplit/own"], "condition=Programmed");
    let nodes = kubectl.get(&["trafficsplit", "own"])["status"]["nodes"].clone();
    assert_eq!(nodes, serde_json::json!({"ready": 2, "total": 2}));
    eprintln!("{}", kubectl.run(&["get", "trafficsplits,nodereports"]));
    kubectl.run(&["delete", "trafficsplit", "own"]);

    let (most, refused) = here.memory().unwrap();
    eprintln!("memory: {} MiB at most, limit met {refused} times", most >> 20);
    assert_eq!(refused, 0, "the limit of memory is too low");

    // The definition is another one now, and agents are started again; one after the other.
    let columns = |of: &Cluster| of.kubectl().get(&crd)["spec"]["versions"][0].clone();
    assert!(columns(&cluster)["additionalPrinterColumns"].as_array().is_none_or(|c| c.len() <= 1));
    let upgrade = ["upgrade", "weir", &chart, "--set", CNI, "--set", "kernelLog=rare"];
    phase("upgraded", || helm.run(control, &upgrade));
    let rolled = ["-n", NAMESPACE, "rollout", "status", "daemonset/weir", "--timeout=120s"];
    phase("rolled out", || kubectl.run(&rolled));
    assert!(columns(&cluster)["additionalPrinterColumns"].as_array().unwrap().len() > 2);
    live.check("after the upgrade");
    let now = cluster.await_pods(NAMESPACE, PODS, 2);
    assert!(now.iter().all(|pod| pods.iter().all(|before| before.name != pod.name)));
    client.assert_shares("upgraded", address, FLOWS, &[("web-v1-", 80), ("web-v2-", 20)]);
    phase("rolled back", || helm.run(control, &["rollback", "weir"]));
    phase("rolled out", || kubectl.run(&rolled));
    live.check("after the way back");

    // As docs/kubernetes.md has it: agents take weir out of the kernel when they end.
    let leave = ["upgrade", "weir", &chart, "--reuse-values", "--set", "unloadOnExit=true"];
    phase("asked to unload", || helm.run(control, &leave));
    phase("rolled out", || kubectl.run(&rolled));
    live.check("before all is over");
    let pins = |node: &Arc<Node>| {
        let pins = node.host_path("/sys/fs/bpf").unwrap().join("weir");
        pins.read_dir().map_or(0, Iterator::count)
    };
    assert!(
        cluster.nodes.iter().all(|node| pins(node) > 0),
        "agents that end leave what they have"
    );
    phase("uninstalled", || helm.run(control, &["uninstall", "weir", "--wait"]));
    cluster.await_pods(NAMESPACE, PODS, 0);
    assert_eq!(cluster.nodes.iter().map(pins).collect::<Vec<_>>(), [0, 0]);
    // All TrafficSplits would go with their definition.
    kubectl.get(&crd);
    let sets = kubectl.get(&["daemonset", "-n", NAMESPACE]);
    assert_eq!(sets["items"].as_array().map(Vec::len), Some(0));
}
