//! Requests to an API server.

use std::borrow::Cow;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use hyper::header::{ACCEPT, CONTENT_TYPE, HeaderValue, USER_AGENT};
use hyper::{Method, Request, Response};
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::rt::TokioExecutor;
use kube::client::{Body, ConfigExt as _};
use kube::config::{KubeConfigOptions, Kubeconfig, KubeconfigError};
use kube::{Client, Config};
use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, utf8_percent_encode};
use serde::Deserialize;
use serde::de::DeserializeOwned;
use serde_json::value::RawValue;
use tokio::time::timeout;
use tower::{BoxError, ServiceBuilder};

use super::failure::{Failure, chain};
use super::health::{Health, Verb};
use super::lines::{Lines, whole};
use super::served::Served;
use super::timing::{Timing, chance};

/// Objects of a page.
const PAGE: usize = 500;
/// The most of an error that is read.
const ERROR: usize = 64 << 10;
/// What of a parameter goes as it is.
const PLAIN: &AsciiSet = &NON_ALPHANUMERIC.remove(b'-').remove(b'_').remove(b'.').remove(b'~');

pub(super) const JSON: &str = "application/json";
const METADATA: &str = "application/json;as=PartialObjectMetadata;g=meta.k8s.io;v=v1";
const METADATA_LIST: &str = "application/json;as=PartialObjectMetadataList;g=meta.k8s.io;v=v1";

/// An API server, and who the agent is there.
#[derive(Clone)]
pub(super) struct Server {
    client: Client,
    timing: Timing,
    health: Arc<Health>,
}

/// A page of a list.
#[derive(Deserialize)]
pub(super) struct Page<'a> {
    #[serde(default)]
    pub metadata: PageMetadata,
    #[serde(borrow, default)]
    pub items: Option<Vec<&'a RawValue>>,
}

/// What a page says of its list.
#[derive(Default, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub(super) struct PageMetadata {
    pub resource_version: String,
    #[serde(rename = "continue")]
    pub next: String,
}

/// What a watch says.
#[derive(Deserialize)]
pub(super) struct Event<'a> {
    #[serde(rename = "type", borrow)]
    pub what: Cow<'a, str>,
    #[serde(borrow)]
    pub object: &'a RawValue,
}

/// Reads how to reach the server, from a kubeconfig or a Pod's service account. It blocks.
///
/// # Errors
///
/// In words, with the file where there is one.
pub(super) fn configuration(kubeconfig: Option<&Path>) -> Result<Config, String> {
    let Some(path) = kubeconfig else {
        return Config::incluster_env().map_err(|error| {
            format!(
                "no service account of a Pod: {}; outside of a cluster, give `kubernetes.kubeconfig`",
                chain(&error)
            )
        });
    };
    let name = path.display().to_string();
    loaded(&name, Kubeconfig::read_from(path), &KubeConfigOptions::default())
}

/// What a kubeconfig says, with the name that messages give it.
pub(super) fn loaded(
    name: &str,
    read: Result<Kubeconfig, KubeconfigError>,
    options: &KubeConfigOptions,
) -> Result<Config, String> {
    let named = |error: &KubeconfigError| match error {
        // In full, that shows the lines around, with whatever secrets they hold.
        KubeconfigError::Parse(error) => {
            let at = error.location().map(|at| format!(":{}:{}", at.line(), at.column()));
            format!("{name}{}: not a kubeconfig in YAML", at.unwrap_or_default())
        }
        error => format!("{name}: {}", chain(error)),
    };
    let read = read.map_err(|error| named(&error))?;
    // It waits for nothing: what it reads, it reads by system calls.
    let loaded =
        futures_util::FutureExt::now_or_never(Config::from_custom_kubeconfig(read, options));
    loaded.ok_or("not loaded at once".to_owned())?.map_err(|error| named(&error))
}

impl Server {
    /// Makes a client, with connections of its own; none is made yet.
    ///
    /// # Errors
    ///
    /// In words, with the kubeconfig's name.
    pub async fn connect(
        kubeconfig: Option<PathBuf>,
        timing: Timing,
        health: Arc<Health>,
    ) -> Result<Self, String> {
        let noted = Arc::clone(&health);
        // Files are read, and helpers for tokens may be run.
        let made = tokio::task::spawn_blocking(move || {
            let config = configuration(kubeconfig.as_deref())?;
            noted.server(&config.cluster_url.to_string());
            Self::of(config, timing, noted).map_err(|error| {
                let of = kubeconfig.map(|path| format!("{}: ", path.display()));
                format!("{}{error}", of.unwrap_or_default())
            })
        });
        made.await.map_err(|error| error.to_string())?
    }

    /// A client of a server that is configured; no connection is made yet. It blocks: helpers
    /// for tokens may be run.
    ///
    /// # Errors
    ///
    /// In words.
    pub fn of(config: Config, timing: Timing, health: Arc<Health>) -> Result<Self, String> {
        Ok(Self { client: client(config, &timing)?, timing, health })
    }

    /// A document that the server has at a path.
    ///
    /// # Errors
    ///
    /// `Missing` if it has none.
    pub async fn get<T: DeserializeOwned>(&self, path: &str) -> Result<T, Failure> {
        let response = self.send(Verb::Get, path, JSON).await?;
        let text = self.whole(response).await?;
        parsed(&text)
    }

    /// A page of a list, as text: the first, or the one after `next`. `size` is how many objects
    /// it has at most, 0 all.
    pub async fn list(&self, of: &Served, next: &str, size: usize) -> Result<Vec<u8>, Failure> {
        let mut parameters = of.parameters();
        if size > 0 {
            parameters.push(("limit", size.to_string()));
        }
        if !next.is_empty() {
            parameters.push(("continue", next.to_owned()));
        }
        self.page_at(&of.url(&parameters), of).await
    }

    /// A page of a list that is at a path with its parameters, as text.
    pub async fn page_at(&self, url: &str, of: &Served) -> Result<Vec<u8>, Failure> {
        let accept = if of.is_metadata() { METADATA_LIST } else { JSON };
        let response = self.send(Verb::List, url, accept).await?;
        self.whole(response).await
    }

    /// Writes: the body goes to a path by a method, and what the server has then comes back.
    pub async fn write<T: DeserializeOwned>(
        &self,
        method: Method,
        path: &str,
        (kind, body): (&str, Vec<u8>),
    ) -> Result<T, Failure> {
        let request = Request::builder().method(method).uri(path);
        let request = request.header(ACCEPT, JSON).header(CONTENT_TYPE, kind);
        let request = request.body(Body::from(body));
        let request = request.map_err(|error| Failure::Rejected(error.to_string()))?;
        let response = self.ask(request).await?;
        let text = self.whole(response).await?;
        parsed(&text)
    }

    /// How many objects a page has.
    pub const fn page(&self) -> usize {
        PAGE
    }

    /// The version at which the server's objects are now.
    pub async fn version(&self, of: &Served) -> Result<String, Failure> {
        let text = self.list(of, "", 1).await?;
        Ok(parsed::<Page<'_>>(&text)?.metadata.resource_version)
    }

    /// What changes after a version.
    pub async fn watch(&self, of: &Served, after: &str) -> Result<Lines<'_>, Failure> {
        let seconds = self.timing.watch.mul_f64(1.0 - chance() / 5.0).as_secs().max(1);
        let mut parameters = of.parameters();
        parameters.push(("watch", "true".into()));
        parameters.push(("allowWatchBookmarks", "true".into()));
        parameters.push(("timeoutSeconds", seconds.to_string()));
        parameters.push(("resourceVersion", after.to_owned()));
        let accept = if of.is_metadata() { METADATA } else { JSON };
        let response = self.send(Verb::Watch, &of.url(&parameters), accept).await?;
        Ok(Lines::new(response.into_body(), &self.health))
    }

    pub(super) async fn whole(&self, response: Response<Body>) -> Result<Vec<u8>, Failure> {
        whole(response.into_body(), (self.timing.answer, usize::MAX), &self.health).await
    }

    async fn send(&self, verb: Verb, url: &str, accept: &str) -> Result<Response<Body>, Failure> {
        let request = Request::get(url).header(ACCEPT, accept).body(Body::empty());
        let request = request.map_err(|error| Failure::Rejected(error.to_string()))?;
        self.exchange(verb, request).await
    }

    /// Sends a request; an answer that is no success is a failure.
    pub(super) async fn exchange(
        &self,
        verb: Verb,
        request: Request<Body>,
    ) -> Result<Response<Body>, Failure> {
        self.health.asked(verb);
        self.ask(request).await
    }

    async fn ask(&self, request: Request<Body>) -> Result<Response<Body>, Failure> {
        let patience = self.timing.answer;
        let response = match timeout(patience, self.client.send(request)).await {
            Ok(Ok(response)) => response,
            Ok(Err(kube::Error::Service(error))) => {
                return Err(Failure::Unreachable(chain(&*error)));
            }
            Ok(Err(error)) => return Err(Failure::Unreachable(chain(&error))),
            Err(_) => {
                return Err(Failure::Unreachable(format!("silent for {} s", patience.as_secs())));
            }
        };
        let (status, headers) = (response.status(), response.headers().clone());
        if status.is_success() {
            return Ok(response);
        }
        let body = whole(response.into_body(), (patience, ERROR), &self.health).await;
        Err(Failure::of_answer(status, &headers, &body.unwrap_or_default()))
    }
}

/// As kube makes it, but for the connections: a peer that is silent is asked by the kernel whether
/// it is there. Otherwise nobody would notice where packets are dropped, since a server may have
/// nothing to say for minutes.
fn client(mut config: Config, timing: &Timing) -> Result<Client, String> {
    if let Some(proxy) = &config.proxy_url {
        return Err(format!("it is to be reached by a proxy, {proxy}, which weir cannot do"));
    }
    let agent = HeaderValue::from_static(concat!("weir/", env!("CARGO_PKG_VERSION")));
    config.headers.push((USER_AGENT, agent));
    let mut connector = HttpConnector::new();
    connector.enforce_http(false);
    connector.set_nodelay(true);
    connector.set_connect_timeout(Some(timing.connect));
    connector.set_keepalive(Some(timing.silence / 3));
    connector.set_keepalive_interval(Some(timing.silence / 9));
    connector.set_keepalive_retries(Some(6));
    connector.set_tcp_user_timeout(Some(timing.silence));
    let said = |error: kube::Error| chain(&error);
    let connector = config.rustls_https_connector_with_connector(connector).map_err(said)?;
    let http = hyper_util::client::legacy::Client::builder(TokioExecutor::new()).build(connector);
    let service = ServiceBuilder::new()
        .layer(config.base_uri_layer())
        .option_layer(config.auth_layer().map_err(said)?)
        .layer(config.extra_headers_layer().map_err(said)?)
        .map_err(BoxError::from)
        .service(http);
    Ok(Client::new(service, config.default_namespace))
}

/// An answer as what it should be.
pub(super) fn parsed<'a, T: Deserialize<'a>>(text: &'a [u8]) -> Result<T, Failure> {
    serde_json::from_slice(text)
        .map_err(|error| Failure::Rejected(format!("an answer that cannot be read: {error}")))
}

/// A path with parameters.
pub(super) fn with_parameters(path: &str, parameters: &[(&str, String)]) -> String {
    let mut url = path.to_owned();
    for (index, (name, value)) in parameters.iter().enumerate() {
        url.push(if index == 0 { '?' } else { '&' });
        url.push_str(name);
        url.push('=');
        url.extend(utf8_percent_encode(value, PLAIN));
    }
    url
}
