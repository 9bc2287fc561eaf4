//! Requests beside what is followed: an agent's report, a controller's lease and status.

use std::path::PathBuf;
use std::sync::Arc;

use hyper::Request;
use hyper::header::{ACCEPT, CONTENT_TYPE};
use kube::client::Body;
use serde_json::Value;
use tokio::sync::Mutex;

use super::client::{JSON, Server, parsed, with_parameters};
use super::failure::Failure;
use super::health::{Health, Verb};
use super::timing::Timing;
use crate::config::Kubernetes;

/// JSON is YAML.
const APPLY: &str = "application/apply-patch+yaml";

/// What is to become of an object.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Change {
    /// It says this, of this field manager, and is made if it is not there (server-side apply).
    /// If it names a resourceVersion or uid, only if that is the object's.
    Apply(&'static str),
    /// It is made; the path is that of all objects of the kind.
    Create,
    /// It is replaced, if the resourceVersion is still its own.
    Replace,
    /// It is deleted.
    Delete,
}

/// Asks an API server by a connection of its own, which is made when it is needed.
pub struct Writer {
    kubeconfig: Option<PathBuf>,
    timing: Timing,
    health: Arc<Health>,
    server: Mutex<Option<Server>>,
}

impl Writer {
    /// For the server of a configuration; requests are counted in `health`. Nobody is asked
    /// anything yet.
    pub fn new(config: &Kubernetes, health: Arc<Health>) -> Self {
        let kubeconfig = config.kubeconfig.clone();
        Self { kubeconfig, timing: Timing::default(), health, server: Mutex::default() }
    }

    /// The object at a path.
    ///
    /// # Errors
    ///
    /// `Missing` if there is none. No request is repeated here.
    pub async fn get(&self, path: &str) -> Result<Value, Failure> {
        let request = Request::get(path).header(ACCEPT, JSON).body(Body::empty());
        self.ask(Verb::Get, request).await
    }

    /// Changes an object, and returns what it is then.
    ///
    /// # Errors
    ///
    /// `Conflict` if the object is another than the body says. No request is repeated here.
    pub async fn change(&self, how: Change, path: &str, body: &Value) -> Result<Value, Failure> {
        let (verb, request, content) = match how {
            Change::Apply(manager) => {
                let parameters =
                    [("fieldManager", manager.to_owned()), ("force", "true".to_owned())];
                (Verb::Patch, Request::patch(with_parameters(path, &parameters)), APPLY)
            }
            Change::Create => (Verb::Create, Request::post(path), JSON),
            Change::Replace => (Verb::Update, Request::put(path), JSON),
            Change::Delete => (Verb::Delete, Request::delete(path), JSON),
        };
        let request = request.header(ACCEPT, JSON).header(CONTENT_TYPE, content);
        self.ask(verb, request.body(Body::from(body.to_string().into_bytes()))).await
    }

    async fn ask(
        &self,
        verb: Verb,
        request: hyper::http::Result<Request<Body>>,
    ) -> Result<Value, Failure> {
        let request = request.map_err(|error| Failure::Rejected(error.to_string()))?;
        let mut kept = self.server.lock().await;
        let server = match kept.take() {
            Some(server) => server,
            None => {
                let (kubeconfig, health) = (self.kubeconfig.clone(), Arc::clone(&self.health));
                let server = Server::connect(kubeconfig, self.timing, health).await;
                server.map_err(Failure::Unreachable)?
            }
        };
        let answered = async {
            let response = server.exchange(verb, request).await?;
            parsed(&server.whole(response).await?)
        }
        .await;
        // What is known of the server is read again after a loss, and connections are made anew.
        if !answered.as_ref().is_err_and(Failure::is_loss) {
            *kept = Some(server);
        }
        answered
    }
}
