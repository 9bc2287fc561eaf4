//! The agent's side of the API: its socket and its routes.

use std::io;
use std::os::unix::fs::{FileTypeExt as _, PermissionsExt as _};
use std::path::Path;
use std::sync::Arc;

use axum::Router;
use axum::extract::DefaultBodyLimit;
use axum::http::StatusCode;
use axum::routing::{get, post, put};
use tokio::net::UnixListener;

use super::Control;
use super::handlers::{self, Refused};
use super::openapi;

/// The largest body of a request that holds no documents, in bytes.
pub(super) const MAX_BODY: usize = 64 << 10;
/// The largest body of a request with documents, in bytes.
pub(super) const MAX_DOCUMENTS: usize = 64 << 20;

/// The routes of the API.
pub(super) fn router<C: Control>(control: Arc<C>) -> Router {
    let documents = Router::new()
        .route("/v1/apply", post(handlers::apply::<C>))
        .route("/v1/delete", post(handlers::delete::<C>))
        .route("/v1/documents", get(handlers::documents::<C>))
        .layer(DefaultBodyLimit::max(MAX_DOCUMENTS));
    Router::new()
        .route("/v1/splits", get(handlers::splits::<C>))
        .route("/v1/splits/{name}", get(handlers::split::<C>))
        .route(
            "/v1/splits/{name}/weights",
            put(handlers::set_weights::<C>).delete(handlers::reset_weights::<C>),
        )
        .route("/v1/splits/{name}/history", get(handlers::history::<C>))
        .route("/v1/splits/{name}/rollback", post(handlers::rollback::<C>))
        .route("/v1/explain", get(handlers::explain::<C>))
        .route("/v1/flows", get(handlers::flows::<C>))
        .route("/v1/stats", get(handlers::stats::<C>))
        .route("/v1/status", get(handlers::status::<C>))
        .route("/v1/openapi.json", get(openapi::serve))
        .layer(DefaultBodyLimit::max(MAX_BODY))
        .merge(documents)
        .fallback(async || Refused(StatusCode::NOT_FOUND, "no such resource".into()))
        .method_not_allowed_fallback(async || {
            Refused(StatusCode::METHOD_NOT_ALLOWED, "this resource has no such method".into())
        })
        .with_state(control)
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
