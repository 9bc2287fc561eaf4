//! What the API answers, held against its own description.

use std::collections::BTreeSet;

use serde_json::{Value, json};

use super::*;

/// The description, in which an object holds what is described and nothing else.
fn description() -> Value {
    let mut document = serde_json::to_value(openapi::describe()).unwrap();
    // What is a part of others, which have more.
    let mut parts = BTreeSet::new();
    note_parts(&document, &mut parts);
    for (name, schema) in document["components"]["schemas"].as_object_mut().unwrap() {
        let is_closed = schema.get("additionalProperties").is_some();
        let is_object = schema.get("properties").is_some() || schema.get("allOf").is_some();
        if is_object && !is_closed && !parts.contains(&format!("#/components/schemas/{name}")) {
            schema["unevaluatedProperties"] = false.into();
        }
    }
    document
}

fn note_parts(value: &Value, parts: &mut BTreeSet<String>) {
    match value {
        Value::Object(fields) => {
            let all = fields.get("allOf").and_then(Value::as_array).into_iter().flatten();
            parts.extend(all.filter_map(|part| part["$ref"].as_str().map(str::to_owned)));
            fields.values().for_each(|value| note_parts(value, parts));
        }
        Value::Array(values) => values.iter().for_each(|value| note_parts(value, parts)),
        _ => {}
    }
}

/// What is wrong with `value` by a schema of the description.
fn mistakes(document: &Value, schema: &Value, value: &Value) -> Vec<String> {
    let mut found = Vec::new();
    Checker { document, found: &mut found }.check(schema, value, "answer");
    found
}

/// Holds values against schemas, as far as the description makes use of JSON Schema: a keyword
/// that is not known here is a failure of the test.
struct Checker<'a> {
    document: &'a Value,
    found: &'a mut Vec<String>,
}

impl Checker<'_> {
    fn resolve<'s>(&'s self, schema: &'s Value) -> &'s Value {
        match schema["$ref"].as_str() {
            Some(path) => {
                let target = self.document.pointer(path.trim_start_matches('#'));
                target.unwrap_or_else(|| panic!("{path} leads nowhere"))
            }
            None => schema,
        }
    }

    /// The fields that a schema and its parts name.
    fn named(&self, schema: &Value) -> BTreeSet<String> {
        let schema = self.resolve(schema);
        let own = schema["properties"].as_object().into_iter().flatten();
        let mut named: BTreeSet<String> = own.map(|(name, _)| name.clone()).collect();
        for part in schema["allOf"].as_array().into_iter().flatten() {
            named.extend(self.named(part));
        }
        named
    }

    fn fits(&self, schema: &Value, value: &Value) -> bool {
        mistakes(self.document, schema, value).is_empty()
    }

    fn check(&mut self, schema: &Value, value: &Value, at: &str) {
        let document = self.document;
        let schema = Checker { document, found: &mut Vec::new() }.resolve(schema).clone();
        for (keyword, says) in schema.as_object().expect("a schema") {
            let parts = || says.as_array().expect("a list").iter();
            let fits = match keyword.as_str() {
                "default" | "description" | "example" | "format" | "title" => true,
                "type" => match says {
                    Value::Array(types) => types.iter().any(|name| is_of(name, value)),
                    name => is_of(name, value),
                },
                "enum" => parts().any(|one| one == value),
                "oneOf" => parts().filter(|part| self.fits(part, value)).count() == 1,
                "allOf" => {
                    parts().for_each(|part| self.check(part, value, at));
                    true
                }
                "minimum" => value.as_f64().is_none_or(|n| n >= says.as_f64().expect("a number")),
                "minItems" => value.as_array().is_none_or(|v| v.len() as u64 >= number(says)),
                "maxItems" => value.as_array().is_none_or(|v| v.len() as u64 <= number(says)),
                "required" => value
                    .as_object()
                    .is_none_or(|f| parts().all(|p| f.contains_key(p.as_str().expect("a name")))),
                "properties" => {
                    for (name, schema) in says.as_object().expect("properties") {
                        if let Some(value) = value.get(name) {
                            self.check(schema, value, &format!("{at}.{name}"));
                        }
                    }
                    true
                }
                "items" => {
                    for (index, value) in value.as_array().into_iter().flatten().enumerate() {
                        self.check(says, value, &format!("{at}[{index}]"));
                    }
                    true
                }
                "propertyNames" => value.as_object().is_none_or(|fields| {
                    fields.keys().all(|name| self.fits(says, &name.as_str().into()))
                }),
                "additionalProperties" | "unevaluatedProperties" => {
                    // Of the parts of the whole, each only knows its own.
                    let named = match keyword.as_str() {
                        "additionalProperties" => self.named(&json!({
                            "properties": schema["properties"]
                        })),
                        _ => self.named(&schema),
                    };
                    let fields = value.as_object().into_iter().flatten();
                    let others = fields.filter(|(name, _)| !named.contains(*name));
                    for (name, value) in others {
                        match says {
                            Value::Bool(true) => {}
                            Value::Bool(false) => self.found.push(format!("{at}.{name}: unknown")),
                            says => self.check(says, value, &format!("{at}.{name}")),
                        }
                    }
                    true
                }
                other => panic!("{at}: the keyword {other} is not known to this test"),
            };
            if !fits {
                self.found.push(format!("{at}: {value} does not fit {keyword} {says}"));
            }
        }
    }
}

fn number(value: &Value) -> u64 {
    value.as_u64().expect("a number")
}

fn is_of(kind: &Value, value: &Value) -> bool {
    match kind.as_str().expect("the name of a type") {
        "null" => value.is_null(),
        "boolean" => value.is_boolean(),
        "string" => value.is_string(),
        "integer" => value.is_i64() || value.is_u64(),
        "number" => value.is_number(),
        "array" => value.is_array(),
        "object" => value.is_object(),
        other => panic!("{other} is no type"),
    }
}

/// The schema of an answer.
fn schema_of<'a>(
    document: &'a Value,
    (method, path): (&str, &str),
    status: &str,
    kind: &str,
) -> &'a Value {
    let call = &document["paths"][path][method.to_lowercase()];
    let schema = &call["responses"][status]["content"][kind]["schema"];
    assert!(schema.is_object(), "{method} {path}: {status} {kind} is not described");
    schema
}

/// Each call with what leads to an answer: method, path as it is described, what is asked for, the
/// body, and the status.
const CALLS: &[(&str, &str, &str, &str, &str)] = &[
    ("GET", "/v1/splits", "", "", "200"),
    ("GET", "/v1/splits/{name}", "/v1/splits/reviews", "", "200"),
    ("GET", "/v1/splits/{name}", "/v1/splits/none", "", "404"),
    ("GET", "/v1/splits/{name}", "/v1/splits/%ff", "", "400"),
    ("POST", "/v1/apply", "", "APPLY", "200"),
    ("POST", "/v1/apply", "", "{\"files\":[{\"name\":\"a\",\"text\":\"kind: x\"}]}", "400"),
    ("POST", "/v1/apply", "", "{\"files\":[],\"other\":1}", "400"),
    ("POST", "/v1/apply", "", "TEXT", "415"),
    ("GET", "/v1/documents", "", "", "200"),
    ("GET", "/v1/splits/{name}", "/v1/splits/applied", "", "200"),
    ("PUT", "/v1/splits/{name}/weights", "/v1/splits/reviews/weights", WEIGHTS, "200"),
    ("PUT", "/v1/splits/{name}/weights", "/v1/splits/reviews/weights", "{\"weights\":{}}", "400"),
    ("PUT", "/v1/splits/{name}/weights", "/v1/splits/reviews/weights", "TEXT", "415"),
    ("PUT", "/v1/splits/{name}/weights", "/v1/splits/none/weights", WEIGHTS, "404"),
    (
        "PUT",
        "/v1/splits/{name}/weights",
        "/v1/splits/reviews/weights",
        "{\"weights\":{\"v1\":1},\"version\":77}",
        "409",
    ),
    ("GET", "/v1/splits/{name}/history", "/v1/splits/reviews/history", "", "200"),
    ("GET", "/v1/splits/{name}/history", "/v1/splits/none/history", "", "404"),
    ("POST", "/v1/splits/{name}/rollback", "/v1/splits/reviews/rollback", "{}", "200"),
    ("POST", "/v1/splits/{name}/rollback", "/v1/splits/reviews/rollback", "{\"to\":77}", "404"),
    ("POST", "/v1/unload", "", "", "409"),
    ("DELETE", "/v1/splits/{name}/weights", "/v1/splits/reviews/weights", "", "200"),
    ("DELETE", "/v1/splits/{name}/weights", "/v1/splits/reviews/weights?version=77", "", "409"),
    ("DELETE", "/v1/splits/{name}/weights", "/v1/splits/reviews/weights?expect=x", "", "400"),
    ("GET", "/v1/explain", "/v1/explain?from=10.0.0.1:1&to=10.0.0.2:80", "", "200"),
    ("GET", "/v1/explain", "/v1/explain?from=x", "", "400"),
    ("GET", "/v1/flows", "/v1/flows?limit=3", "", "200"),
    ("GET", "/v1/flows", "/v1/flows?state=x", "", "400"),
    ("GET", "/v1/stats", "", "", "200"),
    ("GET", "/v1/stats", "/v1/stats?split=none", "", "404"),
    ("GET", "/v1/status", "", "", "500"),
    ("POST", "/v1/delete", "", "{\"objects\":[]}", "400"),
    ("POST", "/v1/delete", "", DELETE_NONE, "404"),
    ("POST", "/v1/delete", "", DELETE_OF_FILE, "409"),
    ("POST", "/v1/splits/{name}/drain", "/v1/splits/applied/drain", "{}", "400"),
    ("POST", "/v1/splits/{name}/drain", "/v1/splits/applied/drain", DRAIN_NONE, "404"),
    ("POST", "/v1/splits/{name}/drain", "/v1/splits/applied/drain", DRAIN, "409"),
    ("POST", "/v1/splits/{name}/drain", "/v1/splits/applied/drain", DRAIN_BY_FORCE, "200"),
    ("GET", "/v1/splits/{name}", "/v1/splits/applied", "", "200"),
    ("POST", "/v1/splits/{name}/undrain", "/v1/splits/applied/undrain", DRAIN, "200"),
    ("POST", "/v1/splits/{name}/undrain", "/v1/splits/applied/undrain", DRAIN, "404"),
    ("POST", "/v1/delete", "", DELETE, "200"),
];
const WEIGHTS: &str = "{\"weights\":{\"v1\":50}}";
const DRAIN: &str = "{\"endpoint\":\"10.1.0.1:80\"}";
const DRAIN_NONE: &str = "{\"endpoint\":\"192.0.2.1:80\"}";
const DRAIN_BY_FORCE: &str = "{\"endpoint\":\"10.1.0.1:80\",\"force\":true}";
const DELETE: &str = "{\"objects\":[{\"kind\":\"TrafficSplit\",\"name\":\"applied\"}]}";
const DELETE_NONE: &str = "{\"objects\":[{\"kind\":\"TrafficSplit\",\"name\":\"none\"}]}";
const DELETE_OF_FILE: &str = "{\"objects\":[{\"kind\":\"TrafficSplit\",\"name\":\"reviews\"}]}";
/// Objects with a namespace and without, a split of several documents, and a note.
const APPLIED: &str = "
apiVersion: weir.dev/v1alpha1
kind: TrafficSplit
metadata: {name: applied}
spec:
  address: 10.0.0.9
  port: 80
  subsets: [{name: v1, weight: 1, endpoints: ['10.1.0.1:80']}]
---
apiVersion: v1
kind: Service
metadata: {name: shop, namespace: there}
spec: {clusterIP: 10.0.0.8, selector: {app: shop}, ports: [{port: 80}], sessionAffinity: None}
---
apiVersion: gateway.networking.k8s.io/v1alpha2
kind: TCPRoute
metadata: {name: shop, namespace: there}
spec:
  parentRefs: [{kind: Service, group: '', name: shop, port: 80}]
  rules: [{backendRefs: [{name: nobody, port: 80}]}]
";

#[tokio::test]
async fn what_is_answered_is_what_is_described() {
    let running = start(FILE);
    let document = description();
    let mut untried: BTreeSet<(String, String)> = BTreeSet::new();
    for (path, methods) in document["paths"].as_object().unwrap() {
        let methods = methods.as_object().unwrap().keys();
        untried.extend(methods.map(|method| (method.to_uppercase(), path.clone())));
    }
    for &(method, path, asked, body, expected) in CALLS {
        let asked = if asked.is_empty() { path } else { asked };
        let (kind, body) = match body {
            "TEXT" => ("text/plain", "text".to_owned()),
            "APPLY" => {
                let files = [json!({"name": "x.yaml", "text": APPLIED})];
                ("application/json", json!({"files": files}).to_string())
            }
            body => ("application/json", body.to_owned()),
        };
        let request = format!(
            "{method} {asked} HTTP/1.1\r\nHost: x\r\nConnection: close\r\nContent-Type: {kind}\r\n\
             Content-Length: {}\r\n\r\n{body}",
            body.len()
        );
        let (status, answer) = raw(&running.socket, &request).await;
        assert_eq!(status, expected, "{method} {asked} {body}: {answer}");
        let lines = path == "/v1/flows" && status == "200";
        let kind = if lines { "application/x-ndjson" } else { "application/json" };
        let schema = schema_of(&document, (method, path), &status, kind);
        let answers = if lines { unchunked(&answer) } else { vec![answer] };
        assert!(!answers.is_empty());
        for answer in answers {
            let value = serde_json::from_str(&answer).unwrap();
            let found = mistakes(&document, schema, &value);
            assert_eq!(found, Vec::<String>::new(), "{method} {asked}: {value:#}");
        }
        untried.remove(&(method.to_owned(), path.to_owned()));
    }
    assert_eq!(untried, BTreeSet::new(), "endpoints of which no answer was looked at");
}

/// The lines of a body that came in chunks.
fn unchunked(body: &str) -> Vec<String> {
    body.lines().filter(|line| line.starts_with('{')).map(str::to_owned).collect()
}

#[test]
fn a_status_with_everything_is_as_described() {
    let document = description();
    let schema = schema_of(&document, ("GET", "/v1/status"), "200", "application/json");
    let text = || Some("text".to_owned());
    let status = StatusView {
        reloaded: text(),
        interfaces: vec![InterfaceView {
            error: text(),
            last_detached: text(),
            passed_over: text(),
            ..InterfaceView::default()
        }],
        troubles: vec![TroubleView { what: "a".into(), error: "b".into(), since: "c".into() }],
        flow_tables: vec![FlowTableView {
            family: "ipv4".into(),
            table: "live".into(),
            open_flows: Some(1),
            expired: Some(2),
            limit: 3,
            full_since: text(),
        }],
        maps: vec![MapView { kind: "splits".into(), used: 1, limit: 2 }],
        kubernetes: Some(KubernetesView {
            server: text(),
            cluster: text(),
            stale_since: text(),
            kinds: [("Service".to_owned(), KubernetesKindView::default())].into(),
            requests: [("list".to_owned(), 1)].into(),
            ..KubernetesView::default()
        }),
        takeover: TakeoverView { error: text(), ..TakeoverView::default() },
        detours: vec![DetourView { interface: "a".into(), count: 1, endpoints: vec![] }],
        drained: vec![DrainedEndpointView {
            split: "a".into(),
            endpoint: DrainedView {
                address: "192.0.2.1:80".parse().unwrap(),
                subsets: vec!["v1".into()],
                since: "b".into(),
                by: text(),
                reason: text(),
            },
        }],
        unloaded: Some(UnloadedView {
            since: "a".into(),
            by: "b".into(),
            reason: text(),
            error: text(),
        }),
        flows_counted: text(),
        reasons: [("pass_unparsed".to_owned(), 1)].into(),
        ..StatusView::default()
    };
    for status in [StatusView::default(), status] {
        let value = serde_json::to_value(status).unwrap();
        assert_eq!(mistakes(&document, schema, &value), Vec::<String>::new(), "{value:#}");
    }
    // What would be found.
    let mut value = serde_json::to_value(StatusView::default()).unwrap();
    value["interfaces"] = json!([{"name": 1}]);
    value["unknown"] = true.into();
    assert!(mistakes(&document, schema, &value).len() > 1);
}
