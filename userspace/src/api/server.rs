//! The agent's side of the API: its routes, and who may take them.

use std::io;
use std::os::fd::AsFd as _;
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::body::Body;
use axum::extract::DefaultBodyLimit;
use axum::http::request::Parts;
use axum::http::{Request, Response, StatusCode};
use hyper::body::Bytes;
use hyper::service::Service as _;
use hyper_util::service::TowerToHyperService;
use tokio::net::{UnixListener, UnixStream};

use super::Control;
use super::handlers::Rejected;
use super::openapi;
use crate::access::peer::credentials;
use crate::access::{Access, Credentials, Need};
use crate::http::{self, Handler, Listen, QuotaOwner, Rejection, RequestLimits};

/// The largest body of a request that holds no documents, in bytes.
pub(super) const MAX_BODY: usize = 64 << 10;
/// The largest body of a request with documents, in bytes.
pub(super) const MAX_DOCUMENTS: usize = 64 << 20;

/// The routes of the API.
pub(super) fn router<C: Control>(control: Arc<C>) -> Router {
    openapi::routes()
        // Bodies are whole by now, and within bounds: see `Reception::admit`.
        .layer(DefaultBodyLimit::disable())
        .fallback(async || Rejected(StatusCode::NOT_FOUND, "no such resource".into()))
        .method_not_allowed_fallback(async || {
            Rejected(StatusCode::METHOD_NOT_ALLOWED, "this resource has no such method".into())
        })
        .with_state(control)
}

/// What clients may take. A change of weights is small; of documents there may
/// be 64 MiB, which a client on the same node sends in a moment.
pub(super) const LIMITS: RequestLimits = RequestLimits {
    connections: 64,
    head: Duration::from_secs(5),
    body: Duration::from_secs(30),
    // Listings of flows are read by people, in a pager.
    stall: Duration::from_secs(60),
    // Whoever has no place takes that of the oldest that is idle, of those who have the most.
    idle: Some(Duration::from_secs(60)),
    life: None,
    bodies: 4 * MAX_DOCUMENTS,
};

impl QuotaOwner for Credentials {
    type QuotaKey = u32;

    fn quota_key(&self) -> u32 {
        self.uid
    }
}

/// Connections to the API's socket.
struct Connections(UnixListener);

impl Listen for Connections {
    type Stream = UnixStream;
    type Client = Credentials;

    async fn accept(&self) -> io::Result<(UnixStream, Credentials)> {
        let (stream, _) = self.0.accept().await?;
        let client = credentials(stream.as_fd())?;
        Ok((stream, client))
    }
}

/// Hands requests to the routes, if who asks may.
struct Reception {
    access: Access,
    /// The agent's own user.
    own: u32,
    routes: TowerToHyperService<Router>,
}

/// What looks is harmless; whatever else there is, or will be, may not be.
fn need(head: &Parts) -> Need {
    match head.uri.path() {
        _ if head.method.is_safe() => Need::Look,
        "/v1/unload" => Need::Unload,
        _ => Need::Change,
    }
}

impl Handler for Reception {
    type Client = Credentials;

    fn admit(&self, client: &Credentials, head: &Parts) -> Result<usize, Rejection> {
        let judged = self.access.judge(self.own, client, need(head));
        judged.map_err(|denial| Rejection::new(StatusCode::FORBIDDEN, denial.to_string()))?;
        let documents = ["/v1/apply", "/v1/delete"].contains(&head.uri.path());
        Ok(if documents { MAX_DOCUMENTS } else { MAX_BODY })
    }

    async fn answer(&self, client: &Credentials, request: Request<Bytes>) -> Response<Body> {
        let mut request = request.map(Body::from);
        request.extensions_mut().insert(client.clone());
        match self.routes.call(request).await {
            Ok(response) => response,
            Err(never) => match never {},
        }
    }

    fn text(&self, message: &str) -> (&'static str, String) {
        ("application/json", serde_json::json!({ "error": message }).to_string())
    }
}

/// Answers requests until `shutdown` is ready and those under way are answered.
pub async fn serve<C: Control>(
    listener: std::os::unix::net::UnixListener,
    access: Access,
    control: Arc<C>,
    shutdown: impl Future<Output = ()> + Send + 'static,
) -> io::Result<()> {
    serve_with(LIMITS, listener, access, control, shutdown).await
}

/// [`serve`], within other limits.
pub(super) async fn serve_with<C: Control>(
    limits: RequestLimits,
    listener: std::os::unix::net::UnixListener,
    access: Access,
    control: Arc<C>,
    shutdown: impl Future<Output = ()> + Send + 'static,
) -> io::Result<()> {
    let listener = Connections(UnixListener::from_std(listener)?);
    let own = nix::unistd::geteuid().as_raw();
    let reception = Reception { access, own, routes: TowerToHyperService::new(router(control)) };
    http::serve(listener, reception, limits, shutdown).await;
    Ok(())
}
