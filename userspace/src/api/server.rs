//! The agent's side of the API.

use std::collections::BTreeMap;
use std::io;
use std::os::unix::fs::{FileTypeExt as _, PermissionsExt as _};
use std::path::Path;
use std::sync::Arc;

use axum::extract::rejection::{JsonRejection, PathRejection, QueryRejection};
use axum::extract::{self, DefaultBodyLimit, Query, State};
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use axum::routing::{get, put};
use axum::{Json, Router};
use tokio::net::UnixListener;

use super::types::{ApiError, ExplainRequest, ExplainView, SplitView, StatusView, WeightsRequest};

/// The largest body of a request, in bytes.
const MAX_BODY: usize = 64 * 1024;

/// Why the agent does not do what it was asked for. Each has a text for people.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Failure {
    /// What was asked for makes no sense (status 400).
    #[error("{0}")]
    Invalid(String),
    /// There is no such thing (status 404).
    #[error("{0}")]
    NotFound(String),
    /// It makes sense, but not in the agent's present state (status 409).
    #[error("{0}")]
    Conflict(String),
    /// The agent tried and failed (status 500).
    #[error("{0}")]
    Internal(String),
}

/// What the API can do to an agent.
pub trait Control: Send + Sync + 'static {
    /// All splits, by name.
    fn splits(&self) -> impl Future<Output = Result<Vec<SplitView>, Failure>> + Send;
    /// The split of that name.
    fn split(&self, name: String) -> impl Future<Output = Result<SplitView, Failure>> + Send;
    /// Gives subsets of a split other weights, and returns it as it is then.
    fn set_weights(
        &self,
        name: String,
        weights: BTreeMap<String, u32>,
    ) -> impl Future<Output = Result<SplitView, Failure>> + Send;
    /// Where a new flow would go.
    fn explain(
        &self,
        request: ExplainRequest,
    ) -> impl Future<Output = Result<ExplainView, Failure>> + Send;
    /// How the agent is.
    fn status(&self) -> impl Future<Output = Result<StatusView, Failure>> + Send;
}

/// A refused request.
struct Refusal(StatusCode, String);

impl IntoResponse for Refusal {
    fn into_response(self) -> Response {
        (self.0, Json(ApiError { error: self.1 })).into_response()
    }
}

impl From<Failure> for Refusal {
    fn from(failure: Failure) -> Self {
        let status = match &failure {
            Failure::Invalid(_) => StatusCode::BAD_REQUEST,
            Failure::NotFound(_) => StatusCode::NOT_FOUND,
            Failure::Conflict(_) => StatusCode::CONFLICT,
            Failure::Internal(_) => StatusCode::INTERNAL_SERVER_ERROR,
        };
        Self(status, failure.to_string())
    }
}

impl From<JsonRejection> for Refusal {
    fn from(rejection: JsonRejection) -> Self {
        // A body of the wrong shape (422 by axum) is as bad a request as one that is no JSON.
        let status = match rejection.status() {
            StatusCode::UNPROCESSABLE_ENTITY => StatusCode::BAD_REQUEST,
            status => status,
        };
        Self(status, rejection.body_text())
    }
}

impl From<QueryRejection> for Refusal {
    fn from(rejection: QueryRejection) -> Self {
        Self(rejection.status(), rejection.body_text())
    }
}

impl From<PathRejection> for Refusal {
    fn from(rejection: PathRejection) -> Self {
        Self(rejection.status(), rejection.body_text())
    }
}

/// What handlers return.
type Answer<T> = Result<Json<T>, Refusal>;
/// The name in a path.
type Name = Result<extract::Path<String>, PathRejection>;

/// The routes of the API.
fn router<C: Control>(control: Arc<C>) -> Router {
    Router::new()
        .route("/v1/splits", get(splits::<C>))
        .route("/v1/splits/{name}", get(split::<C>))
        .route("/v1/splits/{name}/weights", put(set_weights::<C>))
        .route("/v1/explain", get(explain::<C>))
        .route("/v1/status", get(status::<C>))
        .fallback(async || Refusal(StatusCode::NOT_FOUND, "no such resource".into()))
        .method_not_allowed_fallback(async || {
            Refusal(StatusCode::METHOD_NOT_ALLOWED, "this resource has no such method".into())
        })
        .layer(DefaultBodyLimit::max(MAX_BODY))
        .with_state(control)
}

async fn splits<C: Control>(State(control): State<Arc<C>>) -> Answer<Vec<SplitView>> {
    Ok(Json(control.splits().await?))
}

async fn split<C: Control>(State(control): State<Arc<C>>, name: Name) -> Answer<SplitView> {
    let extract::Path(name) = name?;
    Ok(Json(control.split(name).await?))
}

async fn set_weights<C: Control>(
    State(control): State<Arc<C>>,
    name: Name,
    body: Result<Json<WeightsRequest>, JsonRejection>,
) -> Answer<SplitView> {
    let (extract::Path(name), Json(request)) = (name?, body?);
    if request.weights.is_empty() {
        return Err(Failure::Invalid("\"weights\" names no subset".into()).into());
    }
    Ok(Json(control.set_weights(name, request.weights).await?))
}

async fn explain<C: Control>(
    State(control): State<Arc<C>>,
    query: Result<Query<ExplainRequest>, QueryRejection>,
) -> Answer<ExplainView> {
    let Query(request) = query?;
    Ok(Json(control.explain(request).await?))
}

async fn status<C: Control>(State(control): State<Arc<C>>) -> Answer<StatusView> {
    Ok(Json(control.status().await?))
}

/// Listens at `path`, with mode 0600. Makes the directory if there is none. A
/// socket which nobody listens at (its agent died) is replaced; anything else
/// that is there, another agent's socket above all, is an error.
///
/// The socket is bound and restricted under another name, then moved into
/// place: at no time can anyone else connect.
pub fn bind(path: &Path) -> io::Result<UnixListener> {
    let directory = path.parent().filter(|d| !d.as_os_str().is_empty()).unwrap_or(Path::new("."));
    std::fs::create_dir_all(directory)?;
    match std::fs::symlink_metadata(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => {}
        Err(error) => return Err(error),
        Ok(found) if !found.file_type().is_socket() => {
            let message = format!("{} exists and is not a socket", path.display());
            return Err(io::Error::new(io::ErrorKind::AlreadyExists, message));
        }
        Ok(_) => match std::os::unix::net::UnixStream::connect(path) {
            Err(error) if error.kind() == io::ErrorKind::ConnectionRefused => {}
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            Err(error) => return Err(error),
            Ok(_) => {
                let message = format!("another agent listens at {}", path.display());
                return Err(io::Error::new(io::ErrorKind::AddrInUse, message));
            }
        },
    }
    // Short, since the path of a socket may have 107 bytes only.
    let private = directory.join(format!(".{}", std::process::id()));
    match std::fs::remove_file(&private) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
        _ => {}
    }
    let listener = std::os::unix::net::UnixListener::bind(&private)?;
    let ready = std::fs::set_permissions(&private, std::fs::Permissions::from_mode(0o600))
        .and_then(|()| listener.set_nonblocking(true))
        .and_then(|()| UnixListener::from_std(listener))
        .and_then(|listener| std::fs::rename(&private, path).map(|()| listener));
    if ready.is_err() {
        // The first error is the one worth telling.
        let _ = std::fs::remove_file(&private);
    }
    ready
}

/// Answers requests until `shutdown` is ready and those under way are answered.
pub async fn serve<C: Control>(
    listener: UnixListener,
    control: Arc<C>,
    shutdown: impl Future<Output = ()> + Send + 'static,
) -> io::Result<()> {
    axum::serve(listener, router(control)).with_graceful_shutdown(shutdown).await
}

#[cfg(test)]
#[path = "tests.rs"]
mod tests;
