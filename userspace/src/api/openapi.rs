//! The API's description, generated from its code.

use axum::Json;
use utoipa::OpenApi as _;

use super::handlers;

/// Describes what [`super::handlers`] do.
#[derive(utoipa::OpenApi)]
#[openapi(
    info(
        title = "weir",
        description = "The API of weir's node agent: HTTP over a Unix socket, \
                       /run/weir/weir.sock unless it is told otherwise. Root may use it, and the \
                       groups that `access` in agent.yaml names. A connection is one request. Any \
                       may be answered by 403 (who asks may not), 408 (it took too long), 413 (its \
                       body is too large), 431 (its head is) or 503 (the agent has enough to do).",
    ),
    paths(
        handlers::splits,
        handlers::split,
        handlers::documents,
        handlers::apply,
        handlers::delete,
        handlers::set_weights,
        handlers::reset_weights,
        handlers::history,
        handlers::rollback,
        handlers::explain,
        handlers::flows,
        handlers::stats,
        handlers::status,
    )
)]
struct Description;

/// The description, as OpenAPI 3.1.
pub fn describe() -> utoipa::openapi::OpenApi {
    Description::openapi()
}

/// Answers with the description.
pub(super) async fn serve() -> Json<utoipa::openapi::OpenApi> {
    Json(describe())
}
