//! The API's description, generated from its code.

use axum::Json;
use utoipa::OpenApi as _;

use super::handlers;

/// Describes what [`super::handlers`] do.
#[derive(utoipa::OpenApi)]
#[openapi(
    info(
        title = "weir",
        description = "The API of weir's node agent: HTTP over a Unix socket of mode 0600, \
                       /run/weir/weir.sock unless it is told otherwise.",
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
