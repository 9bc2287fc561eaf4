//! A server that is made up: it lists, pages, watches and forgets as an API server does, over
//! HTTP on the loopback interface.

use std::collections::{BTreeMap, HashMap};
use std::convert::Infallible;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Duration;

use futures_util::stream;
use http_body_util::combinators::BoxBody;
use http_body_util::{BodyExt, Full, StreamBody};
use hyper::body::{Bytes, Frame, Incoming};
use hyper::header::{ACCEPT, AUTHORIZATION, HeaderName, USER_AGENT};
use hyper::service::service_fn;
use hyper::{Request, Response};
use hyper_util::rt::TokioIo;
use serde_json::{Value, json};
use tokio::net::TcpListener;
use tokio::sync::mpsc::{UnboundedReceiver, UnboundedSender, unbounded_channel};
use tokio::task::{JoinHandle, JoinSet};

/// A request.
#[derive(Debug, Clone)]
pub struct Asked {
    pub path: String,
    pub parameters: HashMap<String, String>,
    pub accept: String,
    pub agent: String,
    pub token: String,
}

impl Asked {
    /// As RBAC names it, with the plural: `list services`.
    pub fn verb(&self) -> String {
        let what = self.path.rsplit('/').next().unwrap_or_default();
        match self.parameters.get("watch") {
            Some(_) => format!("watch {what}"),
            None => format!("list {what}"),
        }
    }
}

#[derive(Default)]
pub struct Inner {
    version: u64,
    /// By path, then by key.
    objects: BTreeMap<String, BTreeMap<String, Value>>,
    served: Vec<Served>,
    /// Version, path and event of all that happened.
    log: Vec<(u64, String, Value)>,
    /// Before that, nothing is known any more.
    oldest: u64,
    watches: Vec<(String, UnboundedSender<Bytes>)>,
    pub asked: Vec<Asked>,
    /// What is answered instead: by verb and plural.
    pub errors: HashMap<String, (u16, String)>,
    /// Watches are taken, and nothing is said.
    pub silent: bool,
    /// How long each page of a list takes.
    pub page_pause: Duration,
    /// Connections are taken, and no request is answered.
    pub deaf: bool,
    /// Every token but this is rejected, if there is one.
    pub token: Option<String>,
    /// The cluster's identity.
    pub uid: String,
    /// Pages that are left are forgotten so many times.
    pub forget_pages: usize,
}

/// The server.
pub struct Fake {
    pub address: SocketAddr,
    pub inner: Arc<Mutex<Inner>>,
    serving: Option<JoinHandle<()>>,
}

/// Group, version, plural, kind.
type Served = (String, String, String, String);

type Reply = Response<BoxBody<Bytes, Infallible>>;

impl Fake {
    /// One that serves the core kinds, and has nothing.
    pub async fn start() -> Self {
        let mut inner = Inner { version: 100, uid: "cluster-1".into(), ..Inner::default() };
        for (group, plural, kind) in [
            ("", "services", "Service"),
            ("", "pods", "Pod"),
            ("", "namespaces", "Namespace"),
            ("discovery.k8s.io", "endpointslices", "EndpointSlice"),
            ("apiextensions.k8s.io", "customresourcedefinitions", "CustomResourceDefinition"),
        ] {
            inner.serve(group, "v1", plural, kind);
        }
        let mut fake = Self {
            address: "127.0.0.1:0".parse().unwrap(),
            inner: Arc::new(Mutex::new(inner)),
            serving: None,
        };
        fake.resume().await;
        fake
    }

    pub fn lock(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap()
    }

    /// It is there (again), at the address where it was.
    pub async fn resume(&mut self) {
        let listener = TcpListener::bind(self.address).await.unwrap();
        self.address = listener.local_addr().unwrap();
        let inner = Arc::clone(&self.inner);
        self.serving = Some(tokio::spawn(async move {
            // All connections end with the server.
            let mut connections = JoinSet::new();
            loop {
                let (stream, _) = listener.accept().await.unwrap();
                let inner = Arc::clone(&inner);
                let serve = service_fn(move |request| {
                    let is_deaf = inner.lock().unwrap().deaf;
                    let is_page = request.uri().query().is_some_and(|q| q.contains("limit=500"));
                    let pause = inner.lock().unwrap().page_pause;
                    let reply = answer(&inner, &request);
                    async move {
                        if is_deaf {
                            std::future::pending::<()>().await;
                        }
                        if is_page {
                            tokio::time::sleep(pause).await;
                        }
                        Ok::<_, Infallible>(reply)
                    }
                });
                let http = hyper::server::conn::http1::Builder::new();
                connections.spawn(async move {
                    let _ = http.serve_connection(TokioIo::new(stream), serve).await;
                });
            }
        }));
    }

    /// It is away: nobody listens, and connections are reset.
    pub async fn halt(&mut self) {
        if let Some(serving) = self.serving.take() {
            serving.abort();
            let _ = serving.await;
        }
        self.lock().watches.clear();
    }

    /// A kind is defined and served.
    pub fn define(&self, group: &str, version: &str, plural: &str, kind: &str) {
        let mut inner = self.lock();
        inner.serve(group, version, plural, kind);
        let name = format!("{plural}.{group}");
        inner.put(DEFINITIONS, json!({"metadata": {"name": name}}));
    }

    /// A kind goes, and all objects of it.
    pub fn undefine(&self, group: &str, plural: &str) {
        let mut inner = self.lock();
        inner.served.retain(|(g, _, p, _)| g != group || p != plural);
        let path = format!("/{plural}");
        inner.objects.retain(|at, _| !(at.contains(group) && at.ends_with(&path)));
        inner.watches.retain(|(at, _)| !(at.contains(group) && at.ends_with(&path)));
        inner.delete(DEFINITIONS, &format!("{plural}.{group}"));
    }

    /// An object is there.
    pub fn put(&self, path: &str, object: Value) {
        self.lock().put(path, object);
    }

    /// An object goes.
    pub fn delete(&self, path: &str, key: &str) {
        self.lock().delete(path, key);
    }

    /// The version of what happened last.
    pub fn version(&self) -> u64 {
        self.lock().version
    }

    /// What was asked that begins like this.
    pub fn count(&self, verb: &str) -> usize {
        self.lock().asked.iter().filter(|asked| asked.verb() == verb).count()
    }
}

pub const DEFINITIONS: &str = "/apis/apiextensions.k8s.io/v1/customresourcedefinitions";

impl Inner {
    fn serve(&mut self, group: &str, version: &str, plural: &str, kind: &str) {
        self.served.push((group.into(), version.into(), plural.into(), kind.into()));
    }

    /// Nothing is told of it.
    pub fn put_quietly(&mut self, path: &str, mut object: Value) -> (&'static str, Value) {
        self.version += 1;
        object["metadata"]["resourceVersion"] = self.version.to_string().into();
        let key = key(&object);
        let before = self.objects.entry(path.into()).or_default().insert(key, object.clone());
        (if before.is_some() { "MODIFIED" } else { "ADDED" }, object)
    }

    fn put(&mut self, path: &str, object: Value) {
        let (what, object) = self.put_quietly(path, object);
        self.tell(path, what, object);
    }

    /// Nothing is told of it.
    pub fn delete_quietly(&mut self, path: &str, key: &str) -> Value {
        self.version += 1;
        let mut object = self.objects.get_mut(path).unwrap().remove(key).unwrap();
        object["metadata"]["resourceVersion"] = self.version.to_string().into();
        object
    }

    fn delete(&mut self, path: &str, key: &str) {
        let object = self.delete_quietly(path, key);
        self.tell(path, "DELETED", object);
    }

    fn tell(&mut self, path: &str, what: &str, object: Value) {
        let event = json!({"type": what, "object": object});
        self.log.push((self.version, path.to_owned(), event.clone()));
        if !self.silent {
            self.watches.retain(|(at, watch)| at != path || watch.send(line(&event)).is_ok());
        }
    }

    /// A bookmark for all who watch that.
    pub fn bookmark(&mut self, path: &str) {
        self.version += 1;
        let object = json!({"metadata": {"resourceVersion": self.version.to_string()}});
        let event = json!({"type": "BOOKMARK", "object": object});
        self.watches.retain(|(at, watch)| at != path || watch.send(line(&event)).is_ok());
    }

    /// An error for all who watch that.
    pub fn break_watches(&mut self, path: &str, code: u16) {
        let status = json!({"kind": "Status", "code": code, "reason": "Expired", "message": "old"});
        let event = json!({"type": "ERROR", "object": status});
        for (at, watch) in &self.watches {
            if at == path {
                let _ = watch.send(line(&event));
            }
        }
        self.end_watches(path);
    }

    /// The end of all watches of that, as it comes in time.
    pub fn end_watches(&mut self, path: &str) {
        self.watches.retain(|(at, _)| at != path);
    }

    /// What is served of a group is not, for all that discovery says.
    pub fn take_served(&mut self, group: &str) -> Vec<Served> {
        self.served.extract_if(.., |(own, ..)| own == group).collect()
    }

    /// It is served again.
    pub fn give_served(&mut self, served: Vec<Served>) {
        self.served.extend(served);
    }

    /// What happened until now is forgotten.
    pub fn compact(&mut self) {
        self.version += 1;
        self.oldest = self.version;
        self.log.clear();
    }

    /// As an etcd that was restored: everything is as it was at an earlier version.
    pub fn go_back(&mut self, to: u64) {
        self.version = to;
        self.oldest = 0;
        self.log.clear();
    }
}

fn key(object: &Value) -> String {
    let metadata = &object["metadata"];
    let name = metadata["name"].as_str().unwrap();
    match metadata["namespace"].as_str() {
        Some(namespace) => format!("{namespace}/{name}"),
        None => name.to_owned(),
    }
}

fn line(value: &Value) -> Bytes {
    format!("{value}\n").into()
}

fn reply(code: u16, value: &Value) -> Reply {
    let body = Full::new(Bytes::from(value.to_string())).boxed();
    Response::builder().status(code).body(body).unwrap()
}

fn error(code: u16, message: &str) -> Reply {
    reply(code, &json!({"kind": "Status", "code": code, "message": message}))
}

fn answer(inner: &Arc<Mutex<Inner>>, request: &Request<Incoming>) -> Reply {
    let path = request.uri().path().to_owned();
    let query = request.uri().query().unwrap_or_default();
    let parameters: HashMap<String, String> = serde_urlencoded::from_str(query).unwrap();
    let header = |name: HeaderName| {
        let value = request.headers().get(name).map(|value| value.to_str().unwrap().to_owned());
        value.unwrap_or_default()
    };
    let (accept, agent, token) = (header(ACCEPT), header(USER_AGENT), header(AUTHORIZATION));
    let mut inner = inner.lock().unwrap();
    let asked = Asked { path: path.clone(), parameters: parameters.clone(), accept, agent, token };
    let (verb, given) = (asked.verb(), asked.token.clone());
    inner.asked.push(asked);
    if inner.token.as_ref().is_some_and(|token| given != format!("Bearer {token}")) {
        return error(401, "Unauthorized");
    }
    if parameters.contains_key("fieldSelector") {
        let uid = inner.uid.clone();
        return reply(200, &json!({"items": [{"metadata": {"uid": uid}}]}));
    }
    if let Some((code, message)) = inner.errors.get(&verb) {
        return error(*code, message);
    }
    if let Some(found) = discovery(&inner, &path) {
        return found;
    }
    let is_served = |(group, version, plural, _): &&Served| {
        path == if group.is_empty() {
            format!("/api/{version}/{plural}")
        } else {
            format!("/apis/{group}/{version}/{plural}")
        }
    };
    if !inner.served.iter().any(|one| is_served(&one)) {
        return error(404, "the server could not find the requested resource");
    }
    match parameters.contains_key("watch") {
        true => watch(&mut inner, &path, &parameters),
        false => list(&mut inner, &path, &parameters),
    }
}

fn discovery(inner: &Inner, path: &str) -> Option<Reply> {
    let (group, version) = match path.strip_prefix("/apis/") {
        None => ("", path.strip_prefix("/api/")?),
        Some(rest) => rest.split_once('/').unwrap_or((rest, "")),
    };
    if version.contains('/') {
        return None;
    }
    let of: Vec<_> = inner.served.iter().filter(|(own, ..)| own == group).collect();
    if version.is_empty() {
        let versions: Vec<Value> = of.iter().map(|(_, v, ..)| json!({"version": v})).collect();
        return Some(match versions.is_empty() {
            true => error(404, "no such group"),
            false => reply(200, &json!({"kind": "APIGroup", "versions": versions})),
        });
    }
    let of = of.iter().filter(|(_, own, ..)| own == version);
    let verbs = ["get", "list", "watch"];
    let resources: Vec<Value> = of
        .map(|(_, _, plural, kind)| json!({"name": plural, "kind": kind, "verbs": verbs}))
        .collect();
    Some(match resources.is_empty() {
        true => error(404, "no such version"),
        false => reply(200, &json!({"kind": "APIResourceList", "resources": resources})),
    })
}

fn list(inner: &mut Inner, path: &str, parameters: &HashMap<String, String>) -> Reply {
    let number = |name: &str| parameters.get(name).and_then(|text| text.parse::<usize>().ok());
    let from = number("continue").unwrap_or(0);
    if from > 0 && inner.forget_pages > 0 {
        inner.forget_pages -= 1;
        return error(410, "The provided continue parameter is too old");
    }
    let mut all: Vec<Value> =
        inner.objects.get(path).map(|all| all.values().cloned().collect()).unwrap_or_default();
    for object in &mut all {
        // Lists do not carry them.
        object.as_object_mut().unwrap().retain(|key, _| key != "kind" && key != "apiVersion");
    }
    let size = number("limit").unwrap_or(usize::MAX);
    let rest = all.split_off(from.min(all.len()));
    let next = if rest.len() > size { (from + size).to_string() } else { String::new() };
    let items: Vec<Value> = rest.into_iter().take(size).collect();
    let metadata = json!({"resourceVersion": inner.version.to_string(), "continue": next});
    reply(200, &json!({"kind": "List", "metadata": metadata, "items": items}))
}

fn watch(inner: &mut Inner, path: &str, parameters: &HashMap<String, String>) -> Reply {
    let from: u64 = parameters["resourceVersion"].parse().unwrap();
    if from < inner.oldest {
        return error(410, "too old resource version");
    }
    let (sender, receiver) = unbounded_channel::<Bytes>();
    if !inner.silent {
        for (version, at, event) in &inner.log {
            if at == path && *version > from {
                sender.send(line(event)).unwrap();
            }
        }
    }
    inner.watches.push((path.to_owned(), sender));
    let next = |mut receiver: UnboundedReceiver<Bytes>| async move {
        let data = receiver.recv().await?;
        Some((Ok::<_, Infallible>(Frame::data(data)), receiver))
    };
    let body = BodyExt::boxed(StreamBody::new(stream::unfold(receiver, next)));
    Response::builder().status(200).body(body).unwrap()
}
