//! The cluster that other tests stand on: a real control plane, kube-proxy, and pods that are
//! network namespaces. Needs root.

use std::collections::BTreeSet;
use std::net::{IpAddr, SocketAddr};
use std::path::PathBuf;
use std::time::Duration;

use nix::sys::signal::Signal;
use weir_tests::agent::Setup;
use weir_tests::cluster::in_cluster::InCluster;
use weir_tests::cluster::node::ProxyMode;
use weir_tests::cluster::programs::Definitions;
use weir_tests::cluster::{Cluster, phase};
use weir_tests::server::{connect, read_line, say, tcp_identity, udp_identity};

const TIMEOUT: Duration = Duration::from_secs(5);

const WEB: &str = "
apiVersion: apps/v1
kind: Deployment
metadata: {name: web}
spec:
  replicas: 2
  selector: {matchLabels: {app: web}}
  template:
    metadata: {labels: {app: web}}
    spec:
      containers:
      - name: web
        image: identify
        ports: [{containerPort: 8080}, {containerPort: 8080, protocol: UDP}]
---
apiVersion: v1
kind: Service
metadata: {name: web}
spec:
  ipFamilyPolicy: RequireDualStack
  selector: {app: web}
  ports:
  - {name: tcp, port: 80, targetPort: 8080}
  - {name: udp, port: 80, targetPort: 8080, protocol: UDP}
";

/// A pod on each node.
const DAEMONS: &str = "
apiVersion: apps/v1
kind: DaemonSet
metadata: {name: daemon}
spec:
  selector: {matchLabels: {app: daemon}}
  template:
    metadata: {labels: {app: daemon}}
    spec:
      containers: [{name: daemon, image: identify, ports: [{containerPort: 8080}]}]
---
apiVersion: v1
kind: Service
metadata: {name: daemon}
spec:
  selector: {app: daemon}
  ports: [{port: 80, targetPort: 8080}]
";

/// The Service's addresses of both families.
fn service(cluster: &Cluster) -> Vec<SocketAddr> {
    let service = cluster.kubectl().get(&["service", "web"]);
    let addresses = service["spec"]["clusterIPs"].as_array().expect("addresses").iter();
    addresses
        .map(|address| SocketAddr::new(address.as_str().unwrap().parse::<IpAddr>().unwrap(), 80))
        .collect()
}

#[test]
fn a_services_connections_are_answered_by_the_pods_of_its_deployment_on_both_nodes() {
    let cluster = phase("cluster", || Cluster::start(2)).unwrap();
    let kubectl = cluster.kubectl();
    phase("kube-proxies ready", || cluster.start_proxies(ProxyMode::Nftables)).unwrap();
    phase("applied", || kubectl.apply(WEB));
    let pods = phase("pods ready", || cluster.await_pods("default", "app=web", 2));
    let names: BTreeSet<String> = pods.iter().map(|pod| pod.name.clone()).collect();
    assert_ne!(pods[0].node.name, pods[1].node.name);
    phase("Deployment available", || kubectl.wait(&["deployment/web"], "condition=Available"));

    let selector = ["endpointslices", "-l", "kubernetes.io/service-name=web"];
    let wanted: BTreeSet<IpAddr> =
        pods.iter().flat_map(|pod| [pod.v4().into(), pod.v6().into()]).collect();
    phase("slices complete", || {
        kubectl.until(&selector, "both pods are in the slices", |list| {
            let slices = list["items"].as_array().into_iter().flatten();
            let endpoints = slices.flat_map(|slice| slice["endpoints"].as_array()).flatten();
            let ready = endpoints.filter(|endpoint| endpoint["conditions"]["ready"] == true);
            let addresses = ready.filter_map(|endpoint| endpoint["addresses"][0].as_str());
            addresses.map(|address| address.parse::<IpAddr>().unwrap()).collect::<BTreeSet<_>>()
                == wanted
        })
    });

    let client = cluster.nodes[0].sandbox().unwrap();
    phase("both answer", || {
        for address in service(&cluster) {
            // The rules of kube-proxy come a moment after the slices.
            let both = (0..200).any(|_| {
                std::thread::sleep(Duration::from_millis(20));
                let ask = || tcp_identity(address, Duration::from_secs(1));
                let answers = client.ns.run(|| (0..20).filter_map(|_| ask().ok()).collect());
                names == answers
            });
            assert!(both, "{address} is not answered by both of {names:?}");
            let answer = client.ns.run(|| udp_identity(address, "who?", TIMEOUT)).unwrap();
            assert!(names.contains(&answer), "{answer}");
        }
    });
    assert!(pods.iter().all(|pod| pod.served() > 0));

    // A pod that goes is removed from the slices, and another comes.
    kubectl.run(&["delete", "pod", &pods[0].name]);
    let now = phase("replaced", || cluster.await_pods("default", "app=web", 2));
    assert!(now.iter().all(|pod| pod.name != pods[0].name));
}

#[test]
fn a_deleted_pod_serves_its_connections_until_they_end() {
    let cluster = Cluster::start(2).unwrap();
    let kubectl = cluster.kubectl();
    kubectl.apply(DAEMONS);
    let pods = phase("a pod on each node", || cluster.await_pods("default", "app=daemon", 2));
    let (leaves, stays) = (&pods[0], &pods[1]);
    assert_ne!(leaves.node.name, stays.node.name);

    // From a node to the pods of the other.
    let client = stays.node.sandbox().unwrap();
    let address = SocketAddr::new(leaves.v4().into(), 8080);
    let mut stream = client.ns.run(|| connect(address, TIMEOUT)).unwrap();
    assert_eq!(read_line(&mut stream).unwrap(), leaves.name);
    let labels = ["endpointslices", "-l", "kubernetes.io/service-name=daemon"];
    let path = format!("/api/v1/namespaces/default/pods/{}", leaves.name);
    let uid = cluster.control.api().get(&path).unwrap()["metadata"]["uid"].clone();
    kubectl.run(&["delete", "pod", &leaves.name, "--wait=false"]);
    kubectl.until(&labels, "the endpoint serves and terminates", |list| {
        let slices = list["items"].as_array().into_iter().flatten();
        let mut endpoints = slices.flat_map(|slice| slice["endpoints"].as_array()).flatten();
        endpoints.any(|endpoint| {
            let is = &endpoint["conditions"];
            endpoint["targetRef"]["uid"] == uid
                && (is["ready"] == false && is["serving"] == true && is["terminating"] == true)
        })
    });
    assert_eq!(say(&mut stream, "still there?").unwrap(), "still there?");
    assert_eq!(client.ns.run(|| tcp_identity(address, TIMEOUT)).unwrap(), leaves.name);
    assert_eq!(cluster.control.api().get(&path).unwrap()["metadata"]["uid"], uid);
    drop(stream);
    let now = phase("replaced", || {
        kubectl.run(&["wait", &format!("pod/{}", leaves.name), "--for=delete"]);
        cluster.await_pods("default", "app=daemon", 2)
    });
    let nodes: BTreeSet<&str> = now.iter().map(|pod| pod.node.name.as_str()).collect();
    assert_eq!(nodes.len(), 2, "the new one is where the old one was");

    // One that is not ready any more is none of the Service's ready endpoints.
    cluster.set_ready("default", &now[0].name, false).unwrap();
    kubectl.until(&labels, "one of two endpoints is ready", |list| {
        let slices = list["items"].as_array().into_iter().flatten();
        let endpoints = slices.flat_map(|slice| slice["endpoints"].as_array()).flatten();
        endpoints.filter(|endpoint| endpoint["conditions"]["ready"] == true).count() == 1
    });
}

#[test]
fn agents_run_on_nodes_and_the_api_server_ends_and_comes_back() {
    let mut cluster = Cluster::start(1).unwrap();
    phase("Gateway API", || cluster.define(Definitions::GatewayExperimental)).unwrap();
    phase("Istio", || cluster.define(Definitions::Istio)).unwrap();
    cluster.kubectl().run(&["create", "serviceaccount", "weir"]);
    let account = InCluster::new(&cluster.control, "default", "weir").unwrap();
    let mut agent = cluster.nodes[0].agent(&account.setup(Setup::default())).unwrap();

    let pid = agent.pid().expect("it runs");
    let inside =
        PathBuf::from(format!("/proc/{pid}/root/run/secrets/kubernetes.io/serviceaccount"));
    let token = std::fs::read_to_string(inside.join("token")).unwrap();
    account.renew(&cluster.control).unwrap();
    assert_ne!(std::fs::read_to_string(inside.join("token")).unwrap(), token);

    // Who it is, as the API server sees it.
    let kubeconfig = cluster.control.kubeconfig_of("default", "weir").unwrap();
    let weir = cluster.kubectl().of(&kubeconfig);
    let whoami = weir.run(&["auth", "whoami"]);
    assert!(whoami.contains("system:serviceaccount:default:weir"), "{whoami}");
    assert!(weir.try_get(&["services", "-A"]).is_err(), "nobody has allowed it that");

    cluster.control.stop_api_server();
    assert!(cluster.control.api().get("/readyz").is_err());
    phase("API server back", || cluster.control.start_api_server()).unwrap();
    cluster.kubectl().get(&["namespaces"]);
    agent.end(Signal::SIGTERM).unwrap();
}
