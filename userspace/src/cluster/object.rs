//! Objects as the server has them, to texts that hold what can matter to weir.

use std::fmt;

use serde::Deserialize;
use serde_json::{Map, Value};

use super::served::{Served, Tracked, What};
use crate::resource::{Id, Kind};

/// What of an object's metadata can matter. The rest changes without any meaning to steering, or
/// is large.
const METADATA: &[&str] =
    &["name", "namespace", "uid", "labels", "creationTimestamp", "deletionTimestamp"];
/// What of it a controller looks at.
const TRACKED_METADATA: &[&str] = &["name", "namespace", "uid", "generation", "resourceVersion"];
/// Prefixes of annotations that can matter to steering; others hold whatever tools note.
const ANNOTATIONS: &[&str] = &["weir.dev/", "networking.istio.io/", "service.kubernetes.io/"];

/// What tells an object from others of its kind: its namespace, if it is in one, and its name.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(super) struct Key(Box<str>);

impl Key {
    fn new(namespace: &str, name: &str) -> Self {
        match namespace {
            "" => Self(name.into()),
            namespace => Self(format!("{namespace}/{name}").into()),
        }
    }

    /// Its name alone.
    pub fn name(&self) -> &str {
        self.0.rsplit('/').next().unwrap_or_default()
    }

    /// What an object is known by that nobody can read.
    pub fn id(&self, kind: Kind) -> Id {
        let (namespace, name) = self.0.split_once('/').unwrap_or(("", &self.0));
        let (namespace, name) = match (kind, namespace) {
            (Kind::TrafficSplit, "") => (String::new(), name.to_owned()),
            (Kind::TrafficSplit, namespace) => (String::new(), format!("{name}.{namespace}")),
            _ => (namespace.to_owned(), name.to_owned()),
        };
        Id { kind, namespace, name }
    }
}

impl fmt::Display for Key {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// An object.
#[derive(Debug)]
pub(super) struct Object {
    pub key: Key,
    /// Its resourceVersion.
    pub version: String,
    /// What of it can matter, as JSON on one line, keys sorted: equal objects are equal here. Or
    /// why it cannot be read.
    pub text: Result<String, String>,
}

#[derive(Deserialize)]
struct Header {
    #[serde(default)]
    metadata: Metadata,
}

#[derive(Default, Deserialize)]
#[serde(default, rename_all = "camelCase")]
struct Metadata {
    name: String,
    namespace: String,
    resource_version: String,
}

impl Object {
    /// Reads one. Those in lists lack apiVersion and kind, and those of which only metadata was
    /// asked for have others.
    ///
    /// # Errors
    ///
    /// If it does not even say what its name is.
    pub fn read(json: &str, of: &Served) -> serde_json::Result<Self> {
        let Header { metadata } = serde_json::from_str(json)?;
        let key = Key::new(&metadata.namespace, &metadata.name);
        let text = match serde_json::from_str(json) {
            Ok(Value::Object(object)) => Ok(Value::Object(essence(object, of)).to_string()),
            Ok(_) => Err("not an object".to_owned()),
            // It is nested more deeply than anything that says how to steer.
            Err(error) => Err(error.to_string()),
        };
        Ok(Self { key, version: metadata.resource_version, text })
    }

    /// The key of a text that [`Object::read`] made, and its kind; `None` if it did not.
    pub fn of_text(text: &str) -> Option<(Kind, Key)> {
        #[derive(Deserialize)]
        #[serde(rename_all = "camelCase")]
        struct Said<'a> {
            #[serde(borrow)]
            api_version: std::borrow::Cow<'a, str>,
            #[serde(borrow)]
            kind: std::borrow::Cow<'a, str>,
            metadata: Metadata,
        }
        let Said { api_version, kind, metadata } = serde_json::from_str(text).ok()?;
        let group = api_version.split_once('/').map_or("", |(group, _)| group);
        let kind = Kind::all().find(|one| one.name() == kind && one.group() == group)?;
        Some((kind, Key::new(&metadata.namespace, &metadata.name)))
    }
}

/// What of an object can matter.
fn essence(mut object: Map<String, Value>, of: &Served) -> Map<String, Value> {
    let kind = match of.what {
        What::Kind(kind) => kind.name(),
        What::Definitions => "CustomResourceDefinition",
        What::Tracked(tracked) => return tracked_essence(object, tracked),
    };
    object.insert("apiVersion".into(), of.api_version.clone().into());
    object.insert("kind".into(), kind.into());
    if let Some(Value::Object(metadata)) = object.get_mut("metadata") {
        let annotations = match metadata.remove("annotations") {
            Some(Value::Object(mut all)) if !of.is_metadata() => {
                all.retain(|key, _| ANNOTATIONS.iter().any(|prefix| key.starts_with(prefix)));
                all
            }
            _ => Map::new(),
        };
        metadata.retain(|key, _| METADATA.contains(&key.as_str()));
        if !annotations.is_empty() {
            metadata.insert("annotations".into(), annotations.into());
        }
    }
    // Of a Gateway, the addresses that somebody gave it. All else is what controllers, weir's
    // own among them, say about what is there already.
    let addresses = match object.remove("status") {
        Some(Value::Object(mut status)) if of.what == What::Kind(Kind::Gateway) => {
            status.remove("addresses")
        }
        _ => None,
    };
    if let Some(addresses) = addresses {
        object.insert("status".into(), Map::from_iter([("addresses".into(), addresses)]).into());
    }
    object.sort_keys();
    for value in object.values_mut() {
        value.sort_all_objects();
    }
    object
}

/// What of an object a controller looks at.
fn tracked_essence(mut object: Map<String, Value>, of: Tracked) -> Map<String, Value> {
    if let Some(Value::Object(metadata)) = object.get_mut("metadata") {
        metadata.retain(|key, _| TRACKED_METADATA.contains(&key.as_str()));
    }
    let kept: &[&str] = match of {
        Tracked::Splits => &["metadata", "status"],
        Tracked::Reports => &["metadata", "report"],
        Tracked::Nodes => &["metadata"],
        Tracked::Pods => &["metadata", "spec"],
    };
    object.retain(|key, _| kept.contains(&key.as_str()));
    if let (Tracked::Pods, Some(Value::Object(spec))) = (of, object.get_mut("spec")) {
        spec.retain(|key, _| key == "nodeName");
    }
    object
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn text(kind: Kind, version: &str, object: &Value) -> String {
        Object::read(&object.to_string(), &Served::of(kind, version)).unwrap().text.unwrap()
    }

    #[test]
    fn a_text_has_its_kind_and_what_can_matter_with_its_keys_in_order() {
        let object = json!({
            "spec": {"b": 1, "a": {"d": 2, "c": 3}},
            "metadata": {
                "name": "web", "namespace": "shop", "uid": "u", "resourceVersion": "7",
                "generation": 2, "selfLink": "/x", "managedFields": [], "finalizers": ["f"],
                "labels": {"z": "1", "a": "2"},
                "annotations": {"tool/note": "x", "networking.istio.io/exportTo": "."},
                "creationTimestamp": "2030-01-01T00:00:00Z",
            },
            "status": {"conditions": []},
        });
        let expected = concat!(
            r#"{"apiVersion":"networking.istio.io/v1","kind":"VirtualService","metadata":"#,
            r#"{"annotations":{"networking.istio.io/exportTo":"."},"#,
            r#""creationTimestamp":"2030-01-01T00:00:00Z","labels":{"a":"2","z":"1"},"#,
            r#""name":"web","namespace":"shop","uid":"u"},"spec":{"a":{"c":3,"d":2},"b":1}}"#
        );
        assert_eq!(text(Kind::VirtualService, "v1", &object), expected);
        let (kind, key) = Object::of_text(expected).unwrap();
        assert_eq!((kind, key.to_string()), (Kind::VirtualService, "shop/web".into()));
    }

    #[test]
    fn of_a_status_only_the_addresses_of_a_gateway_matter() {
        let object = json!({
            "metadata": {"name": "g"},
            "status": {"addresses": [{"value": "192.0.2.1"}], "conditions": [{"type": "x"}]},
        });
        let of = |kind| serde_json::from_str::<Value>(&text(kind, "v1", &object)).unwrap();
        assert_eq!(of(Kind::Gateway)["status"], json!({"addresses": [{"value": "192.0.2.1"}]}));
        assert_eq!(of(Kind::IstioGateway)["status"], Value::Null);
        assert_eq!(of(Kind::Service)["status"], Value::Null);
    }

    #[test]
    fn kinds_of_the_same_name_are_told_apart_by_their_groups() {
        let gateway = |group: &str| {
            let text = format!(r#"{{"apiVersion":"{group}/v1","kind":"Gateway","metadata":{{}}}}"#);
            Object::of_text(&text).map(|found| found.0)
        };
        assert_eq!(gateway("networking.istio.io"), Some(Kind::IstioGateway));
        assert_eq!(gateway("gateway.networking.k8s.io"), Some(Kind::Gateway));
        assert_eq!(gateway("example.com"), None);
        assert!(Object::of_text("nonsense").is_none());
    }

    #[test]
    fn what_cannot_be_read_is_known_by_its_key() {
        let id = |kind, namespace, name| Key::new(namespace, name).id(kind).to_string();
        assert_eq!(id(Kind::Service, "shop", "web"), "Service shop/web");
        assert_eq!(id(Kind::TrafficSplit, "shop", "web"), "TrafficSplit web.shop");
        assert_eq!(id(Kind::Namespace, "", "shop"), "Namespace shop");
    }
}
