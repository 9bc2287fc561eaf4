//! What is written into which object, so that a split has other weights.

use std::collections::BTreeMap;
use std::time::SystemTime;

use serde_json::{Value, json};

use super::super::edit::{Edit, Note, edit};
use super::super::picture::Picture;
use super::super::served::Served;
use crate::desired::Time;
use crate::resource::Kind;
use crate::source::documents;

/// A Service of both families, with Services behind it.
const SERVICES: &str = "
apiVersion: v1
kind: Service
metadata: {name: web, namespace: shop}
spec:
  clusterIPs: [192.0.2.1, '2001:db8::1']
  ports: [{name: tcp, port: 80}, {name: tcp-admin, port: 81}]
---
apiVersion: v1
kind: Service
metadata: {name: web-a, namespace: shop}
spec: {clusterIP: 192.0.2.2, ports: [{name: tcp, port: 80}, {name: tcp-admin, port: 81}]}
---
apiVersion: v1
kind: Service
metadata: {name: web-b, namespace: shop}
spec: {clusterIP: 192.0.2.3, ports: [{name: tcp, port: 80}, {name: tcp-admin, port: 81}]}
---
";

const RULE: &str = "
apiVersion: networking.istio.io/v1
kind: DestinationRule
metadata: {name: web, namespace: shop}
spec: {host: web, subsets: [{name: a, labels: {v: a}}, {name: b, labels: {v: b}}]}
---
";

fn routed(routes: &str) -> String {
    format!(
        "{SERVICES}{RULE}
apiVersion: networking.istio.io/v1
kind: VirtualService
metadata: {{name: web, namespace: shop, resourceVersion: '7', generation: 3}}
spec:
  hosts: [web]
  tcp:
{routes}"
    )
}

fn picture(text: &str) -> Picture {
    let mut picture = Picture::default();
    let (nodes, problems) = documents("f", text);
    assert_eq!(problems, []);
    for node in nodes {
        let object: Value = serde_json::to_value(&node.value).unwrap();
        let text = |key: &str| object[key].as_str().unwrap();
        let group = text("apiVersion").split_once('/').map_or("", |(group, _)| group);
        let kind = Kind::all().find(|k| k.name() == text("kind") && k.group() == group).unwrap();
        let version = text("apiVersion").rsplit('/').next().unwrap();
        picture.put(kind, &Served::of(kind, version), &object.to_string());
    }
    picture.resolve();
    picture
}

fn note(reason: Option<&str>) -> Note {
    Note {
        cause: "weights",
        by: Some("jane".into()),
        reason: reason.map(str::to_owned),
        time: Time::from(SystemTime::UNIX_EPOCH),
    }
}

fn wanted(text: &str) -> BTreeMap<String, u32> {
    let pair = |pair: &str| {
        let (name, weight) = pair.split_once('=').unwrap();
        (name.to_owned(), weight.parse().unwrap())
    };
    text.split(' ').map(pair).collect()
}

fn edited(picture: &Picture, split: &str, weights: &str) -> Result<Option<Edit>, String> {
    edit(picture, picture.split(split, "default")?, &wanted(weights), note(None))
}

/// The fields that are set below spec.
fn fields(edit: &Edit) -> Vec<String> {
    let of_spec = |operation: &&Value| operation["path"].as_str().unwrap().starts_with("/spec");
    let line = |operation: &Value| format!("{} {}", operation["path"], operation["value"]);
    edit.operations.iter().filter(of_spec).map(line).map(|line| line.replace('"', "")).collect()
}

#[test]
fn each_kind_has_its_weights_where_its_specification_has_them() {
    let istio = routed(
        "  - match: [{port: 81}]
    route: [{destination: {host: web, subset: a}}]
  - route:
    - {destination: {host: web, subset: a}, weight: 90}
    - {destination: {host: web, subset: b}, weight: 10}
",
    );
    let route = |kind: &str| {
        format!(
            "{}
apiVersion: gateway.networking.k8s.io/v1
kind: {kind}
metadata: {{name: web, namespace: shop}}
spec:
  parentRefs: [{{group: '', kind: Service, name: web, port: 80}}]
  rules:
  - backendRefs: [{{name: web-a, port: 80}}, {{name: web-b, port: 80, weight: 3}}]
",
            if kind == "UDPRoute" {
                SERVICES.replace("port: 80}", "port: 80, protocol: UDP}")
            } else {
                SERVICES.to_owned()
            }
        )
    };
    let smi = format!(
        "{SERVICES}
apiVersion: split.smi-spec.io/v1alpha4
kind: TrafficSplit
metadata: {{name: any, namespace: shop}}
spec:
  service: web
  backends: [{{service: web-a, weight: 1}}, {{service: web-b, weight: 1}}]
"
    );
    let own = "
apiVersion: weir.dev/v1alpha1
kind: TrafficSplit
metadata: {name: web, namespace: shop}
spec:
  address: 192.0.2.9
  port: 80
  subsets: [{name: a, weight: 9, endpoints: ['10.0.0.1:80']}, {name: b, weight: 1, endpoints: []}]
";
    let crd = "/apis/networking.istio.io/v1/namespaces/shop/virtualservices/web";
    let (tcp, udp) = (route("TCPRoute"), route("UDPRoute"));
    for (text, weights, expected, path) in [
        (istio.as_str(), "b=20", vec!["/spec/tcp/1/route/1/weight 20"], crd),
        (
            &tcp,
            "web-a=4 web-b=6",
            vec!["/spec/rules/0/backendRefs/0/weight 4", "/spec/rules/0/backendRefs/1/weight 6"],
            "/apis/gateway.networking.k8s.io/v1/namespaces/shop/tcproutes/web",
        ),
        (
            &udp,
            "web-b=2",
            vec!["/spec/rules/0/backendRefs/1/weight 2"],
            "/apis/gateway.networking.k8s.io/v1/namespaces/shop/udproutes/web",
        ),
        (
            &smi,
            "web-b=0",
            vec!["/spec/backends/1/weight 0"],
            "/apis/split.smi-spec.io/v1alpha4/namespaces/shop/trafficsplits/any",
        ),
        (
            own,
            "a=1 b=1",
            vec!["/spec/subsets/0/weight 1"],
            "/apis/weir.dev/v1alpha1/namespaces/shop/trafficsplits/web",
        ),
    ] {
        let picture = picture(text);
        let edit = edited(&picture, "web.shop", weights).unwrap().unwrap();
        assert_eq!(
            (fields(&edit), edit.path.as_str()),
            (expected.iter().map(ToString::to_string).collect(), path)
        );
    }
}

#[test]
fn an_edit_is_for_one_version_of_its_object_and_says_what_it_was() {
    let route = "  - route:
    - {destination: {host: web, subset: a}, weight: 90}
    - {destination: {host: web, subset: b}, weight: 10}
";
    let mut text = routed(route);
    let picture_ = picture(&text);
    let split = picture_.split("web", "shop").unwrap();
    let found =
        edit(&picture_, split, &wanted("a=50 b=50"), note(Some("canary"))).unwrap().unwrap();
    let record = "[{\"split\":\"web.shop\",\"generation\":4,\"time\":\"1970-01-01T00:00:00.000Z\",\
                  \"cause\":\"weights\",\"by\":\"jane\",\"reason\":\"canary\",\
                  \"from\":{\"a\":90,\"b\":10},\"to\":{\"a\":50,\"b\":50}}]";
    let expected = json!([
        {"op": "replace", "path": "/metadata/resourceVersion", "value": "7"},
        {"op": "add", "path": "/spec/tcp/0/route/0/weight", "value": 50},
        {"op": "add", "path": "/spec/tcp/0/route/1/weight", "value": 50},
        {"op": "add", "path": "/metadata/annotations", "value": {}},
        {"op": "add", "path": "/metadata/annotations/weir.dev~1reason", "value": "canary"},
        {"op": "add", "path": "/metadata/annotations/weir.dev~1weights-history", "value": record},
    ]);
    assert_eq!(Value::Array(found.operations), expected);
    // The other port, and the other family, go by the same route.
    let also: Vec<&str> = found.also.iter().map(|name| name.as_str()).collect();
    assert_eq!(also, ["web.shop.81-tcp", "web.shop.81-tcp.ipv6", "web.shop.ipv6"]);
    assert_eq!(edited(&picture_, "web.shop", "a=90").unwrap(), None, "it has these weights");

    // What is known afterwards; and when somebody else has changed them.
    text = text
        .replace("generation: 3", &format!("generation: 4, annotations: {{weir.dev/reason: x, weir.dev/weights-history: '{record}'}}"))
        .replace("weight: 90", "weight: 50")
        .replace("weight: 10", "weight: 50");
    let later = picture(&text);
    let records = later.records(later.split("web.shop", "").unwrap());
    assert_eq!((records.len(), records[0].generation), (1, 4));
    let again = edited(&later, "web.shop", "a=1").unwrap().unwrap();
    let removed = json!({"op": "remove", "path": "/metadata/annotations/weir.dev~1reason"});
    assert!(again.operations.contains(&removed), "the reason was of the change before");
    let by_others = text
        .replace("weight: 50}\n    - ", "weight: 51}\n    - ")
        .replace(
            "generation: 4,",
            "generation: 5, managedFields: [{manager: flagger, time: '2026-01-01T00:00:00Z', fieldsV1: {'f:spec': {}}}, {manager: kubectl-edit, time: '2025-01-01T00:00:00Z', fieldsV1: {'f:spec': {}}}],",
        );
    let later = picture(&by_others);
    let split = later.split("web.shop", "").unwrap();
    let last = later.records(split).pop().unwrap();
    assert_eq!(
        (last.cause.as_str(), last.by.as_deref(), last.generation),
        ("cluster", Some("flagger"), 5)
    );
    assert_eq!((last.from["a"], last.to["a"]), (50, 51));
    assert_eq!(later.controllers(split.name()), ["flagger"]);
}

#[test]
fn what_is_kept_of_changes_is_bounded() {
    let mut annotation = "[]".to_owned();
    for n in 1..40_u64 {
        let route = "  - route:
    - {destination: {host: web, subset: a}, weight: 90}
    - {destination: {host: web, subset: b}, weight: 10}
";
        let with =
            format!("generation: {n}, annotations: {{weir.dev/weights-history: '{annotation}'}}");
        let picture = picture(&routed(route).replace("generation: 3", &with));
        let edit = edited(&picture, "web.shop", &format!("a={n}")).unwrap().unwrap();
        annotation = edit.operations.last().unwrap()["value"].as_str().unwrap().to_owned();
    }
    let kept: Value = serde_json::from_str(&annotation).unwrap();
    let generations: Vec<u64> =
        kept.as_array().unwrap().iter().map(|r| r["generation"].as_u64().unwrap()).collect();
    assert_eq!(generations, (31..=40).collect::<Vec<_>>());
}

#[test]
fn what_is_not_one_weight_of_one_subset_is_rejected() {
    let twice = routed(
        "  - route:
    - {destination: {host: web, subset: a}, weight: 90}
    - {destination: {host: web, subset: b}, weight: 5}
    - {destination: {host: web, subset: b}, weight: 5}
",
    );
    let single = routed("  - route: [{destination: {host: web, subset: a}}]\n");
    let two = routed("  - route: [{destination: {host: web, subset: a}}]\n")
        + "---\napiVersion: networking.istio.io/v1\nkind: VirtualService\nmetadata: {name: other, namespace: shop}\nspec: {hosts: [web], tcp: [{route: [{destination: {host: web}}]}]}\n";
    let good = routed(
        "  - route:
    - {destination: {host: web, subset: a}, weight: 90}
    - {destination: {host: web, subset: b}, weight: 10}
",
    );
    for (text, split, weights, says) in [
        (
            twice.as_str(),
            "web.shop",
            "b=20",
            "several fields of VirtualService shop/web: spec.tcp[0].route[1].weight, spec.tcp[0].route[2].weight",
        ),
        (
            &single,
            "web.shop",
            "a=20",
            "has one subset, \"a\", which gets all connections: VirtualService shop/web divides",
        ),
        (&two, "web.shop", "a=20", "already routed by VirtualService shop/"),
        (
            SERVICES,
            "web.shop",
            "web=5",
            "no object says how split \"web.shop\" (Service shop/web) is divided",
        ),
        (&good, "web.shop", "c=5", "there is no subset \"c\""),
        (&good, "web.shop", "a=0 b=0", "must not all be 0"),
        (&good, "web.shop", "a=2147483648", "a VirtualService can have at most 2147483647"),
        (
            &good,
            "web",
            "a=1",
            "the cluster has no split \"web\"; there are web.shop, web.shop.81-tcp",
        ),
        (&good, "wed.shop", "a=1", "did you mean \"web.shop\""),
    ] {
        let error = edited(&picture(text), split, weights).unwrap_err();
        assert!(error.contains(says), "{split} {weights}: {error}");
    }
}
