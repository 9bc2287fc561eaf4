//! The HTTP server. Whoever reaches its address may be slow or hostile, and
//! must not hold up the agent: connections are few, short and answer one
//! request each, and one sample is taken at a time.

use std::convert::Infallible;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use anyhow::Context as _;
use axum::Router;
use axum::extract::State;
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use hyper::server::conn::http1;
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::service::TowerToHyperService;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Semaphore;
use tracing::warn;

use super::exposition::CONTENT_TYPE;
use super::{Source, exposition};

/// How long is waited when no connection can be accepted, for want of memory or descriptors.
const PAUSE: Duration = Duration::from_millis(500);

/// What clients may take.
#[derive(Debug, Clone, Copy)]
pub struct Limits {
    /// Connections at a time; more wait in the kernel's queue.
    pub connections: usize,
    /// How long the head of a request may take.
    pub header: Duration,
    /// How long a connection may last.
    pub connection: Duration,
}

impl Limits {
    /// The most bytes of a request's head: the least that the library allows.
    const HEADER_BYTES: usize = 8192;
    /// The most header fields of a request.
    const HEADERS: usize = 32;
}

impl Default for Limits {
    /// For scrapers that are on the node, or near.
    fn default() -> Self {
        let (header, connection) = (Duration::from_secs(5), Duration::from_secs(30));
        Self { connections: 16, header, connection }
    }
}

/// Listens at `address`, if there is one.
pub async fn bind(address: Option<SocketAddr>) -> anyhow::Result<Option<TcpListener>> {
    let Some(address) = address else { return Ok(None) };
    let listener = TcpListener::bind(address).await;
    listener.map(Some).with_context(|| format!("cannot listen at {address} for metrics"))
}

/// Answers requests for as long as it is polled.
pub async fn serve<S: Source>(listener: TcpListener, source: Arc<S>, limits: Limits) -> Infallible {
    let service = TowerToHyperService::new(router(source));
    let connections = Arc::new(Semaphore::new(limits.connections));
    loop {
        // Never closed, so the permit is there.
        let permit = Arc::clone(&connections).acquire_owned().await;
        match listener.accept().await {
            Ok((stream, _)) => {
                let answer = connection(stream, service.clone(), limits);
                tokio::spawn(async move {
                    // What went wrong is the client's business.
                    let _ = tokio::time::timeout(limits.connection, answer).await;
                    drop(permit);
                });
            }
            Err(error) => {
                warn!("metrics: {error}");
                tokio::time::sleep(PAUSE).await;
            }
        }
    }
}

async fn connection(
    stream: TcpStream,
    service: TowerToHyperService<Router>,
    limits: Limits,
) -> Result<(), hyper::Error> {
    http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(limits.header)
        .max_headers(Limits::HEADERS)
        .max_buf_size(Limits::HEADER_BYTES)
        .keep_alive(false)
        .serve_connection(TokioIo::new(stream), service)
        .await
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
        Ok(reasons) if reasons.is_empty() => "ready\n".into_response(),
        Ok(reasons) => {
            let text = reasons.iter().map(|reason| format!("{reason}\n")).collect::<String>();
            (StatusCode::SERVICE_UNAVAILABLE, text).into_response()
        }
        Err(error) => failed(&error),
    }
}
