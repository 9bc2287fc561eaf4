//! The HTTP server. Whoever reaches its address may be slow or hostile, and
//! must not hold up the agent: see [`crate::http`]; and one sample is taken at a
//! time.

use std::io;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use anyhow::Context as _;
use axum::Router;
use axum::body::Body;
use axum::extract::State;
use axum::http::request::Parts;
use axum::http::{Request, StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use hyper::body::Bytes;
use hyper::service::Service as _;
use hyper_util::service::TowerToHyperService;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Semaphore;

use super::exposition::CONTENT_TYPE;
use super::{Source, exposition};
use crate::http::{self, Handler, Listen, QuotaOwner, Rejection, RequestLimits};

/// What clients may take: for scrapers that are on the node, or near.
pub const LIMITS: RequestLimits = RequestLimits {
    connections: 16,
    head: Duration::from_secs(5),
    body: Duration::from_secs(5),
    stall: Duration::from_secs(10),
    idle: None,
    life: Some(Duration::from_secs(30)),
    bodies: 0,
};

/// Listens at `address`.
pub fn bind(address: SocketAddr) -> anyhow::Result<std::net::TcpListener> {
    let listener = std::net::TcpListener::bind(address);
    let ready = listener.and_then(|listener| {
        listener.set_nonblocking(true)?;
        Ok(listener)
    });
    ready.with_context(|| format!("cannot listen at {address}"))
}

impl QuotaOwner for SocketAddr {
    type QuotaKey = IpAddr;

    fn quota_key(&self) -> IpAddr {
        self.ip()
    }
}

impl Listen for TcpListener {
    type Stream = TcpStream;
    type Client = SocketAddr;

    async fn accept(&self) -> io::Result<(TcpStream, SocketAddr)> {
        TcpListener::accept(self).await
    }
}

/// Hands requests to the routes.
struct Scrapes(TowerToHyperService<Router>);

impl Handler for Scrapes {
    type Client = SocketAddr;

    /// No request has anything to say but where it goes.
    fn admit(&self, _: &SocketAddr, _: &Parts) -> Result<usize, Rejection> {
        Ok(0)
    }

    async fn answer(&self, _: &SocketAddr, request: Request<Bytes>) -> Response {
        match self.0.call(request.map(Body::from)).await {
            Ok(response) => response,
            Err(never) => match never {},
        }
    }

    fn text(&self, message: &str) -> (&'static str, String) {
        ("text/plain; charset=utf-8", format!("{message}\n"))
    }
}

/// Answers requests for as long as it is polled.
pub async fn serve<S: Source>(listener: TcpListener, source: Arc<S>, limits: RequestLimits) {
    let handler = Scrapes(TowerToHyperService::new(router(source)));
    http::serve(listener, handler, limits, std::future::pending()).await;
}

/// Answers whether something is well and ready, for as long as it is polled: `unready` says why it
/// is not ready, a sentence each, at once.
pub async fn serve_health(
    listener: TcpListener,
    unready: impl Fn() -> Vec<String> + Clone + Send + Sync + 'static,
) {
    let router = Router::new()
        .route("/healthz", get(async || "ok\n"))
        .route("/readyz", get(async move || readiness(&unready())))
        .fallback(async || (StatusCode::NOT_FOUND, "there are /healthz and /readyz\n"))
        .method_not_allowed_fallback(async || (StatusCode::METHOD_NOT_ALLOWED, "read-only\n"));
    let handler = Scrapes(TowerToHyperService::new(router));
    http::serve(listener, handler, LIMITS, std::future::pending()).await;
}

fn readiness(reasons: &[String]) -> Response {
    if reasons.is_empty() {
        return "ready\n".into_response();
    }
    let text = reasons.iter().map(|reason| format!("{reason}\n")).collect::<String>();
    (StatusCode::SERVICE_UNAVAILABLE, text).into_response()
}

/// The source, and how many questions it answers at a time: one of each kind,
/// even if those who asked have gone.
struct Asked<S> {
    source: Arc<S>,
    sample: Arc<Semaphore>,
    readiness: Arc<Semaphore>,
}

impl<S: Source> Asked<S> {
    async fn ask<T: Send + 'static>(
        &self,
        turns: &Arc<Semaphore>,
        question: impl FnOnce(&S) -> T + Send + 'static,
    ) -> anyhow::Result<T> {
        let turn = Arc::clone(turns).acquire_owned().await?;
        let source = Arc::clone(&self.source);
        let answer = tokio::task::spawn_blocking(move || {
            let answer = question(&source);
            drop(turn);
            answer
        });
        Ok(answer.await?)
    }
}

fn router<S: Source>(source: Arc<S>) -> Router {
    let turns = || Arc::new(Semaphore::new(1));
    let asked = Asked { source, sample: turns(), readiness: turns() };
    Router::new()
        .route("/metrics", get(metrics::<S>))
        .route("/healthz", get(async || "ok\n"))
        .route("/readyz", get(readyz::<S>))
        .fallback(async || (StatusCode::NOT_FOUND, "there are /metrics, /healthz and /readyz\n"))
        .method_not_allowed_fallback(async || (StatusCode::METHOD_NOT_ALLOWED, "read-only\n"))
        .with_state(Arc::new(asked))
}

fn failed(error: &anyhow::Error) -> Response {
    (StatusCode::INTERNAL_SERVER_ERROR, format!("{error:#}\n")).into_response()
}

async fn metrics<S: Source>(State(asked): State<Arc<Asked<S>>>) -> Response {
    let text = |source: &S| Ok(exposition(source.sample()?)?);
    match asked.ask(&asked.sample, text).await.flatten() {
        Ok(text) => ([(header::CONTENT_TYPE, CONTENT_TYPE)], text).into_response(),
        Err(error) => failed(&error),
    }
}

async fn readyz<S: Source>(State(asked): State<Arc<Asked<S>>>) -> Response {
    match asked.ask(&asked.readiness, S::unready).await {
        Ok(reasons) => readiness(&reasons),
        Err(error) => failed(&error),
    }
}
