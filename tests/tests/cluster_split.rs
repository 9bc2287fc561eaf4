//! weir's own TrafficSplit, as a real API server takes it. Needs root.

use std::io::Write as _;
use std::process::{Command, Stdio};

use serde_json::Value;
use weir_tests::cluster::control_plane::ControlPlane;
use weir_tests::cluster::phase;
use weir_tests::cluster::steered::repository;

const GOOD: &str = "\
apiVersion: weir.dev/v1alpha1
kind: TrafficSplit
metadata: {name: web, namespace: default}
spec:
  address: 198.51.100.10
  port: 80
  protocol: TCP
  affinity: ClientIP
  drainSeconds: 60
  subsets:
  - name: v1
    weight: 90
    endpoints: ['10.1.1.1:8080', '10.1.1.2:8080']
  - name: v2
    weight: 10
    endpoints: []
";

/// What is put in place of what, and what both say of it: whether it is right.
const BOTH: [(&str, &str, bool); 60] = [
    ("name: web", "name: web.shop-1", true),
    ("name: web", "name: Web", false),
    ("name: web", "name: web_1", false),
    ("TrafficSplit", "TrafficSplitt", false),
    ("v1alpha1", "v1alpha2", false),
    ("  port: 80\n", "", false),
    ("port: 80\n", "port: 65535\n", true),
    ("port: 80\n", "port: 0\n", false),
    ("port: 80\n", "port: 65536\n", false),
    ("port: 80\n", "port: \"80\"\n", false),
    ("  address: 198.51.100.10\n", "", false),
    ("198.51.100.10", "169.254.1.1", true),
    ("198.51.100.10", "reviews.local", false),
    ("198.51.100.10", "198.51.100.010", false),
    ("198.51.100.10", "198.51.100.10/32", false),
    ("198.51.100.10", "0.0.0.0", false),
    ("198.51.100.10", "0.1.2.3", false),
    ("198.51.100.10", "127.0.0.1", false),
    ("198.51.100.10", "224.0.0.1", false),
    ("198.51.100.10", "239.255.255.255", false),
    ("198.51.100.10", "240.0.0.1", false),
    ("198.51.100.10", "250.0.0.1", false),
    ("198.51.100.10", "255.255.255.255", false),
    ("198.51.100.10", "'::1'", false),
    ("198.51.100.10", "'::ffff:10.0.0.1'", false),
    ("198.51.100.10", "fe80::1", false),
    ("198.51.100.10", "ff02::1", false),
    ("198.51.100.10", "2001:db8::1", false),
    ("protocol: TCP", "protocol: UDP", true),
    ("  protocol: TCP\n", "", true),
    ("protocol: TCP", "protocol: SCTP", false),
    ("affinity: ClientIP", "affinity: None", true),
    ("affinity: ClientIP", "affinity: Cookie", false),
    ("drainSeconds: 60", "drainSeconds: 0", true),
    ("drainSeconds: 60", "drainSeconds: 86401", false),
    ("drainSeconds: 60", "drainSeconds: -1", false),
    ("drainSeconds: 60", "drain: 60", false),
    ("name: v2", "name: Blue.v2", true),
    ("name: v2", "name: v1", false),
    ("name: v2", "name: -v2", false),
    ("name: v2", "name: v_2", false),
    ("name: v2", "name: v2..a", false),
    ("weight: 10", "weight: 0", true),
    ("weight: 10", "weight: 4294967295", true),
    ("weight: 10", "weight: 4294967296", false),
    ("weight: 10", "weight: -1", false),
    ("weight: 10", "weight: 1.5", false),
    ("    weight: 10\n", "", false),
    ("    endpoints: []\n", "", false),
    ("    endpoints: []\n", "    service: {name: web-v1, port: 80}\n", true),
    ("    endpoints: []\n", "    selector: {matchLabels: {a: b}}\n", false),
    ("10.1.1.2:8080", "10.1.1.1:8080", false),
    ("10.1.1.2:8080", "10.1.1.2", false),
    ("10.1.1.2:8080", "10.1.1.2:0", false),
    ("10.1.1.2:8080", "10.1.1.2:65536", false),
    ("10.1.1.2:8080", "10.1.1.256:80", false),
    ("10.1.1.2:8080", "224.0.0.1:80", false),
    ("10.1.1.2:8080", "[fe80::1%2]:80", false),
    ("10.1.1.2:8080", "[2001:db8::1]:80", false),
    ("10.1.1.2:8080", "198.51.100.10:80", false),
];

/// Of a Service, with a subset of each kind.
const OF_SERVICE: &str = "\
apiVersion: weir.dev/v1alpha1
kind: TrafficSplit
metadata: {name: of-service, namespace: default}
spec:
  serviceRef: {name: web, port: 80}
  subsets:
  - {name: v1, weight: 90, selector: {matchLabels: {version: v1}}}
  - {name: v2, weight: 10, service: {name: web-v2, port: 8080}}
  - {name: v3, weight: 0, endpoints: ['10.1.1.1:80', '[2001:db8::1]:80']}
";

/// The same of that.
const BOTH_OF_SERVICE: [(&str, &str, bool); 30] = [
    ("  serviceRef: {name: web, port: 80}\n", "", false),
    ("port: 80}\n", "port: 80}\n  address: 198.51.100.10\n", false),
    ("port: 80}\n", "port: 80}\n  port: 80\n", false),
    ("port: 80}\n", "port: 80}\n  protocol: TCP\n", false),
    ("port: 80}\n", "port: 80}\n  affinity: ClientIP\n  drainSeconds: 5\n", true),
    ("{name: web, port: 80}", "{name: web}", false),
    ("{name: web, port: 80}", "{port: 80}", false),
    ("{name: web, port: 80}", "{name: web, port: 0}", false),
    ("{name: web, port: 80}", "{name: web, port: http}", false),
    ("{name: web, port: 80}", "{name: web, port: 80, namespace: shop}", false),
    ("{name: web, port: 80}", "{name: web.shop, port: 80}", false),
    ("{name: web, port: 80}", "{name: Web, port: 80}", false),
    ("{name: web, port: 80}", "{name: '', port: 80}", false),
    ("serviceRef: {name: web, port: 80}", "address: 198.51.100.10\n  port: 80", false),
    (", selector: {matchLabels: {version: v1}}", "", false),
    ("{matchLabels: {version: v1}}", "{}", false),
    ("{matchLabels: {version: v1}}", "{matchLabels: {}}", false),
    ("{matchLabels: {version: v1}}", "{matchLabels: {version: 1}}", false),
    ("{matchLabels: {version: v1}}", "{matchExpressions: []}", false),
    ("{matchLabels: {version: v1}}", "{matchLabels: {a: b}, matchExpressions: []}", false),
    ("{matchLabels: {version: v1}}}", "{matchLabels: {a: b}}, endpoints: []}", false),
    ("{matchLabels: {version: v1}}}", "{matchLabels: {a: b}}, service: {name: a, port: 1}}", false),
    ("service: {name: web-v2, port: 8080}", "service: {name: web-v2}", false),
    ("service: {name: web-v2, port: 8080}", "service: {name: web-v2, port: 65536}", false),
    ("service: {name: web-v2, port: 8080}", "service: {name: web_v2, port: 80}", false),
    ("service: {name: web-v2, port: 8080}", "service: web-v2", false),
    ("['10.1.1.1:80', '[2001:db8::1]:80']", "[]", true),
    ("['10.1.1.1:80', '[2001:db8::1]:80']", "['127.0.0.1:80']", false),
    ("name: v3", "name: v1", false),
    ("weight: 90", "weight: 0", true),
];

/// What the schema cannot say, or says more strictly than weir: see docs/kubernetes.md. What is
/// put in place of what, and whether the API server and weir find it right.
const DIFFERENT: [(&str, &str, bool, bool); 1] = [
    // One endpoint, written in two ways.
    ("10.1.1.2:8080", "10.1.1.1:08080", true, false),
];

/// What the API server says of a document; nothing if it takes it.
fn api_says(control: &ControlPlane, text: &str) -> String {
    let object: Value = serde_yaml::from_str(text).unwrap();
    let path = "/apis/weir.dev/v1alpha1/namespaces/default/trafficsplits\
                ?dryRun=All&fieldValidation=Strict";
    let (status, answer) =
        control.api().call("POST", path, Some(("application/json", &object))).unwrap();
    if status == 201 {
        return String::new();
    }
    assert!((400..500).contains(&status), "{status}: {answer}");
    answer["message"].as_str().unwrap_or_default().to_owned()
}

/// The Services that it may lead to, which an API server does not ask for.
fn services(text: &str) -> String {
    let service = |(name, ip): (&str, &str)| {
        format!(
            "---\napiVersion: v1\nkind: Service\nmetadata: {{name: {name}}}\n\
             spec: {{clusterIP: {ip}, ports: [{{name: a, port: 80}}, {{name: b, port: 8080}}]}}\n"
        )
    };
    let behind = [("web-v1", "203.0.113.2"), ("web-v2", "203.0.113.3")].map(service).concat();
    // The name of its split is that of a TrafficSplit here.
    let divided =
        if text.contains("serviceRef") { service(("web", "203.0.113.1")) } else { String::new() };
    behind + &divided
}

/// What `weir validate` says of it; nothing if it takes it.
fn weir_says(text: &str) -> String {
    let mut command = Command::new(weir_tests::agent::program().unwrap());
    command.args(["validate", "-"]).stdin(Stdio::piped());
    let mut child = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    child.stdin.take().unwrap().write_all((text.to_owned() + &services(text)).as_bytes()).unwrap();
    let output = child.wait_with_output().unwrap();
    if output.status.success() {
        return String::new();
    }
    let said = [output.stdout, output.stderr].concat();
    assert!(!said.is_empty());
    String::from_utf8(said).unwrap()
}

fn edited(from: &str, to: &str) -> String {
    assert!(GOOD.contains(from), "{from}");
    GOOD.replacen(from, to, 1)
}

#[test]
fn the_api_server_takes_what_weir_takes_and_says_what_is_wrong() {
    let control = phase("control plane", ControlPlane::start).unwrap();
    let kubectl = control.kubectl();
    kubectl.apply_file(&repository("deploy/kubernetes/crds/trafficsplit.yaml"));
    kubectl.wait(&["crd/trafficsplits.weir.dev"], "condition=Established");

    let mut wrong = Vec::new();
    let mut check = |what: &str, text: &str, api: bool, weir: bool| {
        let said = [api_says(&control, text), weir_says(text)];
        if said[0].is_empty() != api || said[1].is_empty() != weir {
            wrong.push(format!("{what}: API server: {}; weir: {}", said[0], said[1]));
        }
    };
    check("as it is", GOOD, true, true);
    for (from, to, right) in BOTH {
        check(&format!("{from} -> {to}"), &edited(from, to), right, right);
    }
    check("of a Service", OF_SERVICE, true, true);
    for (from, to, right) in BOTH_OF_SERVICE {
        assert!(OF_SERVICE.contains(from), "{from}");
        let text = OF_SERVICE.replacen(from, to, 1);
        check(&format!("{from} -> {to}"), &text, right, right);
    }
    let behind = OF_SERVICE
        .replace("serviceRef: {name: web, port: 80}", "address: 198.51.100.10\n  port: 80")
        .replace("selector: {matchLabels: {version: v1}}", "service: {name: web-v1, port: 80}");
    check("Services of an address, and endpoints of both families", &behind, false, false);
    let behind = behind.replace(", '[2001:db8::1]:80'", "");
    check("Services of an address", &behind, true, true);
    for (from, to, api, weir) in DIFFERENT {
        check(&format!("{from} -> {to}"), &edited(from, to), api, weir);
    }
    let v6 = GOOD.replace("198.51.100.10", "2001:db8::10");
    let v6 = v6.replace("10.1.1.1:8080", "[2001:db8:1::1]:80");
    check("IPv6", &v6.replace("10.1.1.2:8080", "[2001:DB8:1::2]:80"), true, true);
    check("both families", &v6, false, false);
    let own = v6.replace("10.1.1.2:8080", "[2001:db8:0::10]:80");
    check("the address itself, written in another way", &own, false, false);
    let zero = GOOD.replace("weight: 90", "weight: 0").replace("weight: 10", "weight: 0");
    check("no weight", &zero, false, false);
    let head = GOOD.split("  subsets:").next().unwrap();
    check("no subsets", &format!("{head}  subsets: []\n"), false, false);
    for count in [16, 17] {
        let subset = |n| format!("  - {{name: v{n}, weight: 1, endpoints: []}}\n");
        let subsets: String = (0..count).map(subset).collect();
        let text = format!("{head}  subsets:\n{subsets}");
        check(&format!("{count} subsets"), &text, count == 16, count == 16);
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));

    // What people see.
    let said = api_says(&control, &zero);
    assert!(said.contains("spec.subsets: Invalid value") && said.contains("must not all be 0"));
    kubectl.apply(&format!("{GOOD}---\n{OF_SERVICE}"));
    let table = kubectl.run(&["get", "trafficsplits"]);
    eprintln!("{table}");
    let words = |line: usize| -> Vec<&str> {
        table.lines().nth(line).unwrap_or_default().split_whitespace().collect()
    };
    assert_eq!(words(0)[..4], ["NAME", "SERVICE", "ADDRESS", "SUBSET"]);
    assert_eq!(words(1)[..6], ["of-service", "web", "v1", "90", "v2", "10"]);
    assert_eq!(words(2)[..6], ["web", "198.51.100.10", "v1", "90", "v2", "10"]);
    let explained = kubectl.run(&["explain", "trafficsplit.spec.subsets"]);
    eprintln!("{explained}");
    for field in ["endpoints", "name", "selector", "service", "weight"] {
        let at = explained.find(&format!("  {field}\t")).unwrap_or_else(|| panic!("{explained}"));
        let text = explained[at..].lines().nth(1).unwrap_or_default().trim();
        assert!(!text.is_empty() && text != "<no description>", "{field}: {explained}");
    }
    // One subset, of one field manager; the others stay.
    let one = GOOD.split("  - name: v2").next().unwrap().replace("weight: 90", "weight: 50");
    let head = one.split("  protocol").next().unwrap();
    let subset = one.split("  subsets:").nth(1).unwrap();
    let patch = format!("{head}  subsets:{subset}");
    let apply = ["apply", "--server-side", "--force-conflicts", "--field-manager=other", "-f", "-"];
    kubectl.try_run(&apply, &patch).unwrap();
    let merged = kubectl.get(&["trafficsplit", "web"]);
    let weights = merged["spec"]["subsets"].as_array().unwrap();
    let weights: Vec<_> = weights.iter().map(|subset| subset["weight"].as_u64()).collect();
    assert_eq!(weights, [Some(50), Some(10)]);
}
