//! A person's talk with an API server: it is asked what there is, and told what to change.

use std::collections::BTreeSet;
use std::sync::Arc;

use hyper::Method;
use serde::Deserialize;
use serde_json::{Value, json};

use super::account::Account;
use super::client::{Page, Server, parsed, with_parameters};
use super::discovery::find;
use super::edit::Edit;
use super::failure::Failure;
use super::health::Health;
use super::picture::Picture;
use super::record::MANAGER;
use super::served::{Served, What};
use super::timing::Timing;
use crate::resource::Kind;

/// Where it says who asks.
const WHO: &str = "/apis/authentication.k8s.io/v1/selfsubjectreviews";

/// A connection to an API server.
pub struct Session {
    server: Server,
    namespace: String,
}

/// What is looked at.
#[derive(Debug, Clone, Default)]
pub struct Scope {
    /// Namespaces that are asked for what may not be listed in all of them.
    pub namespaces: BTreeSet<String>,
    /// Whether endpoints are looked at, too: they are most of what there is.
    pub endpoints: bool,
}

#[derive(Deserialize)]
struct Reviewed {
    status: ReviewStatus,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct ReviewStatus {
    user_info: User,
}

#[derive(Deserialize)]
struct User {
    username: String,
}

impl Session {
    /// Reads how to reach the server.
    ///
    /// # Errors
    ///
    /// In words, with the kubeconfig's name.
    pub async fn open(account: Account) -> Result<Self, String> {
        let opened = tokio::task::spawn_blocking(move || {
            let config = account.configuration()?;
            let namespace = config.default_namespace.clone();
            let server = Server::of(config, Timing::default(), Arc::<Health>::default())?;
            Ok(Self { server, namespace })
        });
        opened.await.map_err(|error| error.to_string())?
    }

    /// The namespace of the kubeconfig's context.
    pub fn namespace(&self) -> &str {
        &self.namespace
    }

    /// What there is now of all that weir steers by.
    ///
    /// # Errors
    ///
    /// If the server does not answer; what may not be listed is noted in the picture.
    pub async fn picture(&self, scope: &Scope) -> Result<Picture, Failure> {
        let mut picture = Picture::default();
        for (kind, served) in find(&self.server).await? {
            let is_endpoints = matches!(kind, Kind::EndpointSlice | Kind::Pod);
            if is_endpoints && !scope.endpoints {
                continue;
            }
            match self.list(&served, None, &mut picture).await {
                Err(Failure::Forbidden(_))
                    if kind.is_namespaced() || kind == Kind::TrafficSplit =>
                {
                    self.list_some(&served, scope, &mut picture).await?;
                }
                Err(Failure::Forbidden(_)) => {}
                listed => listed?,
            }
        }
        picture.resolve();
        Ok(picture)
    }

    /// Lists in some namespaces what may not be listed in all.
    async fn list_some(&self, of: &Served, scope: &Scope, to: &mut Picture) -> Result<(), Failure> {
        let mut seen = false;
        for namespace in &scope.namespaces {
            match self.list(of, Some(namespace), to).await {
                Err(Failure::Forbidden(_)) => {}
                listed => {
                    listed?;
                    seen = true;
                }
            }
        }
        if !seen && let What::Kind(kind) = of.what {
            to.unseen.push(kind.resource());
        }
        Ok(())
    }

    async fn list(
        &self,
        of: &Served,
        namespace: Option<&str>,
        to: &mut Picture,
    ) -> Result<(), Failure> {
        let What::Kind(kind) = of.what else { return Ok(()) };
        let mut next = String::new();
        loop {
            let mut parameters = of.parameters();
            parameters.push(("limit", self.server.page().to_string()));
            if !next.is_empty() {
                parameters.push(("continue", next));
            }
            let url = with_parameters(&of.path(namespace), &parameters);
            let text = self.server.page_at(&url, of).await?;
            let page: Page<'_> = parsed(&text)?;
            for item in page.items.into_iter().flatten() {
                to.put(kind, of, item.get());
            }
            next = page.metadata.next;
            if next.is_empty() {
                return Ok(());
            }
        }
    }

    /// Who asks, as the server knows them; `None` if it does not say.
    pub async fn who(&self) -> Option<String> {
        let body = json!({
            "apiVersion": "authentication.k8s.io/v1",
            "kind": "SelfSubjectReview",
        });
        let body = ("application/json", body.to_string().into_bytes());
        let reviewed = self.server.write::<Reviewed>(Method::POST, WHO, body).await.ok()?;
        Some(reviewed.status.user_info.username)
    }

    /// Changes an object, if it is still what it was in the picture; with `dry_run` the server
    /// only looks whether it would.
    ///
    /// # Errors
    ///
    /// `Conflict` if somebody has changed it meanwhile.
    pub async fn write(&self, edit: &Edit, dry_run: bool) -> Result<(), Failure> {
        let mut parameters =
            vec![("fieldManager", MANAGER.to_owned()), ("fieldValidation", "Strict".to_owned())];
        if dry_run {
            parameters.push(("dryRun", "All".to_owned()));
        }
        let url = with_parameters(&edit.path, &parameters);
        let body = Value::Array(edit.operations.clone()).to_string().into_bytes();
        let body = ("application/json-patch+json", body);
        self.server.write::<Value>(Method::PATCH, &url, body).await.map(drop)
    }
}
