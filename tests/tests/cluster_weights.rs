//! Weights that are changed in the cluster's objects by `weir` and `kubectl weir`, for all nodes;
//! and on one node alone. Needs root.

use std::collections::BTreeMap;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::process::Output;

use serde_json::Value;
use weir::cluster::{Account, Failure, Note, Scope, Session, edit};
use weir_tests::cluster::phase;
use weir_tests::cluster::programs::{Definitions, kubernetes};
use weir_tests::cluster::steered::{
    FOLLOW, Steered, repository, rule, service, versions, virtual_service,
};

const FLOWS: u16 = 1_500;
/// What [`FOLLOW`] says.
const SEED: &str = "24301";

/// SMI's TrafficSplit, as far as a server has to know it.
const SMI: &str = "
apiVersion: apiextensions.k8s.io/v1
kind: CustomResourceDefinition
metadata:
  name: trafficsplits.split.smi-spec.io
  annotations: {api-approved.kubernetes.io: unapproved}
spec:
  group: split.smi-spec.io
  scope: Namespaced
  names: {kind: TrafficSplit, listKind: TrafficSplitList, plural: trafficsplits, singular: trafficsplit}
  versions:
  - name: v1alpha4
    served: true
    storage: true
    schema: {openAPIV3Schema: {type: object, x-kubernetes-preserve-unknown-fields: true}}
";

/// `weir`, where the API server can be reached.
struct Weir<'a> {
    steered: &'a Steered,
    kubeconfig: PathBuf,
}

impl Weir<'_> {
    fn output(&self, program: &Path, line: &str, variables: &[(&str, &Path)]) -> Output {
        let mut command = self.steered.cluster.control.ns().command(program.to_str().unwrap());
        command.args(line.split(' ')).env_remove("KUBECONFIG").env("HOME", "/nonexistent");
        command.envs(variables.iter().copied());
        command.output().unwrap()
    }

    /// What it prints of the cluster; or, if it fails, on standard error.
    fn ask(&self, line: &str) -> Result<String, String> {
        let program = weir_tests::agent::program().unwrap();
        let line = format!("{line} --kubeconfig {}", self.kubeconfig.display());
        let output = self.output(&program, &line, &[]);
        let text = |bytes: &[u8]| String::from_utf8(bytes.to_vec()).unwrap();
        match output.status.code() {
            Some(0) => Ok(text(&output.stdout)),
            Some(1) => Err(text(&output.stderr)),
            code => panic!("{line}: {code:?} {}", text(&output.stderr)),
        }
    }

    #[track_caller]
    fn done(&self, line: &str) -> String {
        let said = self.ask(line).unwrap_or_else(|error| panic!("{line}: {error}"));
        eprintln!("weir {line}\n{said}");
        said
    }

    #[track_caller]
    fn rejected(&self, line: &str, says: &str) {
        let error = self.ask(line).expect_err(line);
        eprintln!("weir {line}\n{error}");
        assert!(error.contains(says), "{line}: {error}");
    }
}

/// The words after `undo: weir` of an answer, without the kubeconfig.
fn undo(said: &str) -> String {
    let line = said.lines().find_map(|line| line.strip_prefix("undo: weir ")).expect(said);
    line.split(" --kubeconfig ").next().unwrap().to_owned()
}

#[test]
fn a_virtual_service_is_shifted_by_connections_and_taken_back() {
    let steered = Steered::start(1, &[Definitions::Istio], FOLLOW).unwrap();
    let kubectl = steered.kubectl();
    let route = virtual_service("web", &[("v1", 90), ("v2", 10)]);
    kubectl.apply(&(versions("web", 1) + &rule("web") + &route));
    steered.cluster.await_pods("default", "app=web", 2);
    let split = |v1: u32, v2: u32| {
        phase("steered", || steered.await_split("web.default", &[("v1", v1, 1), ("v2", v2, 1)]));
    };
    split(90, 10);
    let weir = Weir { steered: &steered, kubeconfig: steered.cluster.control.kubeconfig() };
    let address = steered.addresses("default", "web")[0];
    let mut client = steered.client(0);

    let would = weir.done("weights web.default v2=30% --dry-run");
    assert!(would.contains("would get: v1 90.00% -> 70.00%, v2 10.00% -> 30.00%"), "{would}");
    let shifted = weir.done("weights web.default v2=30% --reason canary");
    assert!(shifted.contains("changed VirtualService default/web; all nodes follow"), "{shifted}");
    // The Service's second family is divided by the same route.
    assert!(shifted.contains("the same fields divide web.default.ipv6"), "{shifted}");
    split(70, 30);
    client.assert_shares("shifted", address, FLOWS, &[("web-v1-", 70), ("web-v2-", 30)]);
    let object = kubectl.get(&["virtualservice", "web", "--show-managed-fields"]);
    assert_eq!(object["metadata"]["annotations"]["weir.dev/reason"], "canary");
    let managers = object["metadata"]["managedFields"].as_array().unwrap();
    assert!(managers.iter().any(|entry| entry["manager"] == "weir"), "{managers:?}");
    let generation = object["metadata"]["generation"].as_u64().unwrap();

    // What is not as expected is rejected, and changes nothing.
    let late = "split \"web.default\" has v1=70 v2=30";
    weir.rejected("weights web.default v2=5 --expect v2=10", late);
    weir.rejected(&format!("weights web.default v2=5 --expect-version {}", generation - 1), late);
    weir.rejected("weights web.default v3=5", "there is no subset \"v3\"");
    weir.rejected("weights wbe.default v2=5", "did you mean \"web.default\"");
    assert_eq!(kubectl.get(&["virtualservice", "web"])["metadata"]["generation"], generation);

    let history = weir.done("history web.default");
    assert!(
        history.contains("canary") && history.contains("v1=90 v2=10  v1=70 v2=30"),
        "{history}"
    );
    let explained = weir
        .done(&format!("explain --from 192.0.2.7:4000 --to {address} --hash-seed {SEED} -o json"));
    let explained: Value = serde_json::from_str(&explained).unwrap();
    let of_agent = steered.agents[0].explain(weir::api::types::ExplainRequest {
        from: "192.0.2.7:4000".parse().unwrap(),
        to: address,
        protocol: weir::api::types::Protocol::Tcp,
    });
    let of_agent = of_agent.unwrap();
    assert_eq!(explained["endpoint"], of_agent.endpoint.unwrap().to_string());
    assert_eq!(explained["hash"], of_agent.hash);

    // As it was printed; then it is too late for it.
    let undo = undo(&shifted);
    weir.done(&undo);
    split(90, 10);
    client.assert_shares("taken back", address, FLOWS, &[("web-v1-", 90), ("web-v2-", 10)]);
    weir.rejected(&undo, "expected version");

    // Somebody writes between what was read and what is written.
    let account = Account { kubeconfig: Some(weir.kubeconfig.clone()), context: None };
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    steered.cluster.control.ns().run(|| {
        runtime.block_on(async {
            let session = Session::open(account).await.unwrap();
            let picture = session.picture(&Scope::default()).await.unwrap();
            let split = picture.split("web", "default").unwrap();
            let time = weir::desired::Time::from(std::time::SystemTime::now());
            let note = Note { cause: "weights", by: None, reason: None, time };
            let wanted = BTreeMap::from([("v2".to_owned(), 77)]);
            let edit = edit(&picture, split, &wanted, note).unwrap().unwrap();
            kubectl.run(&["label", "virtualservice", "web", "somebody=faster"]);
            let written = session.write(&edit, false).await;
            assert!(matches!(written, Err(Failure::Conflict(_))), "{written:?}");
        });
    });
    let weights = |object: &Value| object["spec"]["tcp"][0]["route"][1]["weight"].clone();
    assert_eq!(weights(&kubectl.get(&["virtualservice", "web"])), 10);

    // Somebody who leaves no record: what was there before is known from the one before.
    kubectl.patch(
        &["virtualservice", "web"],
        "json",
        &serde_json::json!([{"op": "replace", "path": "/spec/tcp/0/route/1/weight", "value": 40}]),
    );
    split(90, 40);
    let history = weir.done("history web.default");
    assert!(history.lines().last().unwrap().contains("kubectl-patch"), "{history}");
    weir.done("rollback web.default");
    split(90, 10);
    this_node_alone(&steered, &weir);
    called_by_kubectl(&steered, &weir);
    rights_are_the_users(&steered, &weir);
}

/// The agent's socket changes what the cluster divides only if that is said.
fn this_node_alone(steered: &Steered, weir: &Weir<'_>) {
    let agent = &steered.agents[0];
    let refused = |line: &[&str]| {
        let output = agent.weir(line);
        let error = String::from_utf8(output.stderr).unwrap();
        eprintln!("{error}");
        assert_eq!(output.status.code(), Some(1), "{line:?}: {error}");
        for words in ["is the cluster's (VirtualService default/web)", "--cluster", "--this-node"] {
            assert!(error.contains(words), "{line:?}: {error}");
        }
    };
    refused(&["weights", "web.default", "v2=50%"]);
    refused(&["rollback", "web.default"]);
    let split = agent.split("web.default").unwrap();
    assert_eq!((split.subsets[1].weight, split.origin.this_node), (10, false));
    let endpoint = split.subsets[1].endpoints[0].address.to_string();
    let drain = agent.weir(&["drain", "web.default", &endpoint, "--force"]);
    assert_eq!(drain.status.code(), Some(1));

    agent.printed(&["weights", "web.default", "v1=1", "v2=1", "--this-node"]);
    steered.await_split("web.default", &[("v1", 1, 1), ("v2", 1, 1)]);
    let status = agent.status().unwrap();
    assert_eq!(status.this_node.len(), 1, "{:?}", status.this_node);
    for (command, says) in [
        (&["get", "web.default"][..], "of this node alone since"),
        (&["history", "web.default"], "of this node alone since"),
    ] {
        let text = agent.printed(command);
        assert!(text.contains(says), "{text}");
    }
    let status = String::from_utf8(agent.weir(&["status"]).stdout).unwrap();
    assert!(status.contains("web.default: v1=1 v2=1 instead of v1=90 v2=10"), "{status}");
    let address = steered.addresses("default", "web")[0].to_string();
    let explained = agent.printed(&["explain", "--from", "192.0.2.7:4000", "--to", &address]);
    assert!(explained.contains("on this node alone"), "{explained}");
    // The cluster is what it was.
    assert!(weir.done("get web.default -o json").contains("\"weight\": 90"));
    agent.printed(&["weights", "web.default", "--reset"]);
    assert_eq!(agent.status().unwrap().this_node, []);
}

/// kubectl finds it by its name, and the kubeconfig is the one of kubectl.
fn called_by_kubectl(steered: &Steered, weir: &Weir<'_>) {
    let directory = tempfile::tempdir().unwrap();
    symlink(weir_tests::agent::program().unwrap(), directory.path().join("kubectl-weir")).unwrap();
    let variables = [("PATH", directory.path()), ("KUBECONFIG", weir.kubeconfig.as_path())];
    let output = weir.output(
        &kubernetes("kubectl").unwrap(),
        "weir weights web v2=20% -n default",
        &variables,
    );
    let said = String::from_utf8([output.stdout, output.stderr].concat()).unwrap();
    eprintln!("kubectl weir:\n{said}");
    assert!(output.status.success(), "{said}");
    assert!(said.contains("undo: kubectl weir rollback web.default --expect-version"), "{said}");
    steered.await_split("web.default", &[("v1", 80, 1), ("v2", 20, 1)]);
}

/// Who may look at one namespace sees that one; who may not write is told so.
fn rights_are_the_users(steered: &Steered, weir: &Weir<'_>) {
    let kubectl = steered.kubectl();
    let looks = "get,list,watch";
    let kinds = "services,virtualservices.networking.istio.io,destinationrules.networking.istio.io";
    kubectl.run(&["create", "serviceaccount", "dev"]);
    let role = ["create", "role", "looks", "--verb", looks, "--resource", kinds];
    kubectl.run(&role);
    kubectl.run(&["create", "rolebinding", "dev", "--role=looks", "--serviceaccount=default:dev"]);
    let kubeconfig = steered.cluster.control.kubeconfig_of("default", "dev").unwrap();
    let dev = Weir { steered, kubeconfig };
    let seen = dev.done("get web.default");
    assert!(seen.contains("web.default  v1") && seen.contains("80.00%"), "{seen}");
    dev.rejected("weights web.default v2=5", "VirtualService default/web: forbidden");
    dev.rejected("get web.elsewhere", "not looked at, for want of rights");
    let patches = ["create", "role", "patches", "--verb=patch", "--resource", kinds];
    kubectl.run(&patches);
    kubectl.run(&[
        "create",
        "rolebinding",
        "more",
        "--role=patches",
        "--serviceaccount=default:dev",
    ]);
    dev.done("weights web.default v2=50%");
    let history = weir.done("history web.default");
    assert!(history.contains("system:serviceaccount:default:dev"), "{history}");
}

#[test]
fn routes_and_splits_of_every_kind_get_their_weights() {
    let config =
        format!("{}\n", FOLLOW.replace("{}", "{addresses: [198.51.100.0/24, 10.128.0.0/9]}"));
    let steered = Steered::start(1, &[Definitions::GatewayStandard], &config).unwrap();
    steered.define_traffic_splits();
    let kubectl = steered.kubectl();
    kubectl.apply(SMI);
    kubectl.wait(&["crd/trafficsplits.split.smi-spec.io"], "condition=Established");
    let backend =
        |name: &str, version: &str| service(name, &format!("app: web, version: {version}"));
    let udp = |text: String| {
        text.replace("{name: tcp, port: 80,", "{name: dns, protocol: UDP, port: 53,")
    };
    let route = |kind: &str, name: &str, port: u16| {
        format!(
            "
apiVersion: gateway.networking.k8s.io/v1
kind: {kind}
metadata: {{name: {name}}}
spec:
  parentRefs: [{{group: '', kind: Service, name: {name}, port: {port}}}]
  rules:
  - backendRefs: [{{name: {name}-a, port: {port}, weight: 1}}, {{name: {name}-b, port: {port}, weight: 1}}]
---"
        )
    };
    let smi = "
apiVersion: split.smi-spec.io/v1alpha4
kind: TrafficSplit
metadata: {name: smi}
spec: {service: smi, backends: [{service: smi-a, weight: 1}, {service: smi-b, weight: 1}]}
---";
    let mut documents = versions("web", 1);
    for name in ["tcp", "smi"] {
        documents += &(service(name, "app: web") + &backend(&format!("{name}-a"), "v1"));
        documents += &backend(&format!("{name}-b"), "v2");
    }
    documents += &udp(service("udp", "app: web"));
    documents += &udp(backend("udp-a", "v1") + &backend("udp-b", "v2"));
    documents += &(route("TCPRoute", "tcp", 80) + &route("UDPRoute", "udp", 53) + smi);
    kubectl.apply(&documents);
    let pods = steered.cluster.await_pods("default", "app=web", 2);
    let own = format!(
        "
apiVersion: weir.dev/v1alpha1
kind: TrafficSplit
metadata: {{name: own}}
spec:
  address: 198.51.100.10
  port: 80
  subsets:
  - {{name: own-a, weight: 1, endpoints: ['{}:8080']}}
  - {{name: own-b, weight: 1, endpoints: ['{}:8080']}}
",
        pods[0].v4(),
        pods[1].v4()
    );
    kubectl.apply(&own);
    // Of a Service, by labels and by a Service behind it.
    let of_service = "
apiVersion: weir.dev/v1alpha1
kind: TrafficSplit
metadata: {name: any}
spec:
  serviceRef: {name: ref, port: 80}
  subsets:
  - {name: ref-a, weight: 1, selector: {matchLabels: {version: v1}}}
  - {name: ref-b, weight: 1, service: {name: tcp-b, port: 80}}
---";
    kubectl.apply(&(service("ref", "app: web") + of_service));
    let weir = Weir { steered: &steered, kubeconfig: steered.cluster.control.kubeconfig() };
    for name in ["tcp", "udp", "smi", "own", "ref"] {
        let (a, b) = (format!("{name}-a"), format!("{name}-b"));
        let split = format!("{name}.default");
        let shape = |one: u32, other: u32| {
            steered.await_split(&split, &[(a.as_str(), one, 1), (b.as_str(), other, 1)]);
        };
        shape(1, 1);
        let said = weir.done(&format!("weights {split} {b}=75%"));
        assert!(said.contains("50.00% -> 75.00%"), "{said}");
        shape(25, 75);
        weir.done(&format!("rollback {split}"));
        shape(1, 1);
    }
    let address = steered.addresses("default", "ref")[0];
    let mut client = steered.client(0);
    weir.done("weights ref.default ref-b=20%");
    steered.await_split("ref.default", &[("ref-a", 80, 1), ("ref-b", 20, 1)]);
    client.assert_shares("of a Service", address, FLOWS, &[("web-v1-", 80), ("web-v2-", 20)]);
    // README's sample, with an image that there is here.
    let sample = std::fs::read_to_string(repository("deploy/examples/kubernetes.yaml")).unwrap();
    kubectl.apply(&sample.replace("image: traefik/whoami", "image: identify"));
    steered.cluster.await_pods("default", "app=hello", 3);
    steered.await_split("hello.default", &[("v1", 1, 2), ("v2", 0, 1)]);
    weir.done("weights hello.default v2=10%");
    steered.await_split("hello.default", &[("v1", 90, 2), ("v2", 10, 1)]);
    let address = steered.addresses("default", "hello")[0];
    client.assert_shares("sample", address, FLOWS, &[("hello-v1-", 90), ("hello-v2-", 10)]);
    // The words of what cannot be.
    weir.rejected("weights tcp.default tcp-a=1000001", "can have at most 1000000");
    let listed = weir.done("get splits");
    let names: Vec<&str> = listed.lines().filter_map(|line| line.split(' ').next()).collect();
    assert!(names.contains(&"own.default") && !names.contains(&"web.default"), "{listed}");
}
