//! How following a cluster goes: for status, metrics and doctor.

use std::collections::BTreeMap;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::SystemTime;

use serde::Serialize;
use tracing::{debug, info, warn};

use super::served::What;
use crate::desired::Time;
use crate::resource::Kind;

/// What an API server is asked to do.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Verb {
    /// To give a document, of discovery for the most part.
    Get,
    /// To give a page of a list.
    List,
    /// To tell what changes.
    Watch,
    /// To make an object.
    Create,
    /// To replace an object.
    Update,
    /// To have an object say something, and leave the rest of it.
    Patch,
    /// To delete an object.
    Delete,
}

impl Verb {
    /// As RBAC has it.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Get => "get",
            Self::List => "list",
            Self::Watch => "watch",
            Self::Create => "create",
            Self::Update => "update",
            Self::Patch => "patch",
            Self::Delete => "delete",
        }
    }
}

/// How it goes with one kind.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize)]
#[serde(rename_all = "camelCase", tag = "state", content = "error")]
pub enum Standing {
    /// It was not asked for yet.
    #[default]
    Unknown,
    /// The cluster does not have the kind.
    NotServed,
    /// Nothing that is in force needs it, so it is not asked for.
    NotNeeded,
    /// What there is of it is being listed.
    Listing,
    /// What changes is told.
    Following,
    /// What is known of it is that of before, since this fails; it is tried again.
    Failing(String),
    /// As `Failing`; the agent may not do it.
    Forbidden(String),
}

impl Standing {
    /// One word, for metrics and tables.
    pub const fn name(&self) -> &'static str {
        match self {
            Self::Unknown => "unknown",
            Self::NotServed => "notServed",
            Self::NotNeeded => "notNeeded",
            Self::Listing => "listing",
            Self::Following => "following",
            Self::Failing(_) => "failing",
            Self::Forbidden(_) => "forbidden",
        }
    }

    /// What fails, if something does.
    pub fn error(&self) -> Option<&str> {
        match self {
            Self::Failing(error) | Self::Forbidden(error) => Some(error),
            _ => None,
        }
    }
}

/// What is known of one kind.
#[derive(Debug, Clone, Default, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct KindHealth {
    /// How it goes.
    #[serde(flatten)]
    pub standing: Standing,
    /// The version of its group in which it is served, such as `networking.istio.io/v1`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub api_version: Option<String>,
    /// How many objects of it are known, those of the cache among them.
    pub objects: usize,
    /// Up to where it is known.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub resource_version: Option<String>,
    /// Since when it fails; `None` if it does not.
    #[serde(skip)]
    pub failing_since: Option<SystemTime>,
    /// The last error, also if it is over.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub last_error: Option<String>,
    /// How many objects were put, changed or deleted.
    pub events: u64,
    /// How often it was followed anew.
    pub reconnects: u64,
}

/// How it goes, at one time.
#[derive(Debug, Clone, Default, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct View {
    /// Where the API server is, as a URL.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub server: Option<String>,
    /// The cluster's identity: the uid of its namespace kube-system.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub cluster: Option<String>,
    /// Whether the server answers.
    pub connected: bool,
    /// Why it does not.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub error: Option<String>,
    /// Since when the server was not reached, or a kind is not followed. `None`: what is known is
    /// what is there.
    #[serde(skip_serializing_if = "Option::is_none", serialize_with = "written")]
    pub stale_since: Option<SystemTime>,
    /// Whether every kind that is served has been listed since the agent started.
    pub complete: bool,
    /// Why it is not known what is served, or may not be known any more.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub discovery_error: Option<String>,
    /// What is wrong with the cache; `None` if nothing is.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub cache_error: Option<String>,
    /// What is known of each kind.
    pub kinds: BTreeMap<String, KindHealth>,
    /// How many requests were made, by verb.
    pub requests: BTreeMap<&'static str, u64>,
    /// How many bytes of answers came.
    pub bytes: u64,
    /// How often the server was lost.
    pub outages: u64,
}

fn written<S: serde::Serializer>(at: &Option<SystemTime>, to: S) -> Result<S::Ok, S::Error> {
    at.map(|at| Time::from(at).to_string()).serialize(to)
}

/// How following a cluster goes. Whoever asks gets a copy; nobody waits for the network here.
#[derive(Debug)]
pub struct Health(Mutex<Inner>);

#[derive(Debug)]
struct Inner {
    server: Option<String>,
    cluster: Option<String>,
    /// Since when the server is not reached, and why.
    lost: Option<(SystemTime, String)>,
    discovery_error: Option<String>,
    complete: bool,
    cache_error: Option<String>,
    kinds: BTreeMap<What, KindHealth>,
    requests: BTreeMap<&'static str, u64>,
    bytes: u64,
    outages: u64,
}

impl Default for Health {
    fn default() -> Self {
        let kinds = Kind::all().map(What::Kind).chain([What::Definitions]);
        Self(Mutex::new(Inner {
            server: None,
            cluster: None,
            lost: Some((SystemTime::now(), "it was not asked yet".to_owned())),
            discovery_error: None,
            complete: false,
            cache_error: None,
            kinds: kinds.map(|what| (what, KindHealth::default())).collect(),
            requests: BTreeMap::new(),
            bytes: 0,
            outages: 0,
        }))
    }
}

impl Health {
    /// How it goes now.
    pub fn view(&self) -> View {
        let inner = self.lock();
        let named = |(what, kind): (&What, &KindHealth)| (what.to_string(), kind.clone());
        let lost = inner.lost.as_ref();
        View {
            server: inner.server.clone(),
            cluster: inner.cluster.clone(),
            connected: lost.is_none(),
            error: lost.map(|(_, error)| error.clone()),
            stale_since: inner.stale_since(),
            complete: inner.complete,
            discovery_error: inner.discovery_error.clone(),
            cache_error: inner.cache_error.clone(),
            kinds: inner.kinds.iter().map(named).collect(),
            requests: inner.requests.clone(),
            bytes: inner.bytes,
            outages: inner.outages,
        }
    }

    /// Since when what is known may not be what is there; `None` if it is.
    pub fn stale_since(&self) -> Option<SystemTime> {
        self.lock().stale_since()
    }

    pub(super) fn server(&self, url: &str) {
        let mut inner = self.lock();
        if inner.server.as_deref() != Some(url) {
            inner.server = Some(url.to_owned());
        }
    }

    pub(super) fn asked(&self, verb: Verb) {
        *self.lock().requests.entry(verb.name()).or_default() += 1;
    }

    /// How much was heard of the server.
    pub(super) fn heard(&self) -> u64 {
        self.lock().bytes
    }

    pub(super) fn received(&self, bytes: usize) {
        self.lock().bytes += bytes as u64;
    }

    /// The server answers.
    pub(super) fn reached(&self, cluster: Option<&str>) {
        let mut inner = self.lock();
        let server = inner.server.clone().unwrap_or_default();
        if inner.lost.take().is_some() {
            info!("cluster: {server} answers");
        }
        if let Some(cluster) = cluster {
            inner.cluster = Some(cluster.to_owned());
        }
    }

    /// The server does not answer, or cannot be asked.
    pub(super) fn lost(&self, error: &str) {
        let mut inner = self.lock();
        let since = inner.lost.as_ref().map(|(since, _)| *since);
        if since.is_none() {
            inner.outages += 1;
        }
        if inner.lost.as_ref().is_none_or(|(_, known)| known != error) {
            warn!("cluster: {error}; what is known of it goes on, and it is tried again");
        }
        inner.lost = Some((since.unwrap_or_else(SystemTime::now), error.to_owned()));
    }

    pub(super) fn standing(&self, what: What, standing: Standing) {
        let mut inner = self.lock();
        let kind = inner.kinds.entry(what).or_default();
        if kind.standing == standing {
            return;
        }
        match standing.error() {
            Some(error) => {
                if kind.last_error.as_deref() != Some(error) || kind.failing_since.is_none() {
                    warn!("cluster: {error}; what is known goes on, and it is tried again");
                }
                kind.last_error = Some(error.to_owned());
                kind.failing_since.get_or_insert_with(SystemTime::now);
            }
            // A list that begins does not end what failed.
            None if standing == Standing::Listing => {}
            None if kind.failing_since.take().is_some() => info!("cluster: {what}: works again"),
            None => debug!("cluster: {what}: {}", standing.name()),
        }
        kind.standing = standing;
    }

    pub(super) fn served(&self, what: What, api_version: Option<&str>) {
        self.of(what, |kind| kind.api_version = api_version.map(str::to_owned));
    }

    pub(super) fn at(&self, what: What, version: &str) {
        self.of(what, |kind| {
            let text = kind.resource_version.get_or_insert_default();
            text.clear();
            text.push_str(version);
        });
    }

    pub(super) fn reconnected(&self, what: What) {
        self.of(what, |kind| kind.reconnects += 1);
    }

    pub(super) fn event(&self, what: What) {
        self.of(what, |kind| kind.events += 1);
    }

    pub(super) fn objects(&self, what: What, count: usize) {
        self.of(what, |kind| kind.objects = count);
    }

    pub(super) fn complete(&self, complete: bool) {
        self.lock().complete = complete;
    }

    /// What is wrong with asking what is served.
    pub(super) fn discovery(&self, error: Option<String>) {
        let mut inner = self.lock();
        if let Some(error) =
            error.as_ref().filter(|error| inner.discovery_error.as_ref() != Some(error))
        {
            warn!("cluster: {error}; it is tried again");
        }
        inner.discovery_error = error;
    }

    pub(super) fn cache(&self, error: Option<String>) {
        let mut inner = self.lock();
        if let Some(error) =
            error.as_ref().filter(|error| inner.cache_error.as_ref() != Some(error))
        {
            warn!("cluster: {error}");
        }
        inner.cache_error = error;
    }

    fn of(&self, what: What, change: impl FnOnce(&mut KindHealth)) {
        change(self.lock().kinds.entry(what).or_default());
    }

    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Inner {
    fn stale_since(&self) -> Option<SystemTime> {
        // What is known of kinds does not depend on whether new ones would be noticed at once.
        let kinds = self.kinds.iter().filter(|(what, _)| **what != What::Definitions);
        let failing = kinds.filter_map(|(_, kind)| kind.failing_since);
        failing.chain(self.lost.iter().map(|(since, _)| *since)).min()
    }
}
