//! The endpoints of the API: routes and description come from one list of the handlers, each of
//! which declares its method, path and answers (`utoipa::path`).

use std::sync::Arc;

use axum::routing::{MethodFilter, MethodRouter, on};
use axum::{Json, Router};
use utoipa::OpenApi as _;
use utoipa::openapi::path::{HttpMethod, Operation};
use utoipa::openapi::{Content, Ref, RefOr, Response};

use super::{Control, handlers};

/// What any call may be answered by, beside what it declares: status and meaning.
const ANY: &[(&str, &str)] = &[
    ("400", "The request makes no sense"),
    ("403", "Who asks may not"),
    ("408", "The request took too long"),
    ("413", "The body is too large"),
    ("431", "The head is too large"),
    ("500", "The agent failed"),
    ("503", "The agent has enough to do"),
];
/// Beside these, what any call with a body may be answered by.
const ANY_WITH_BODY: (&str, &str) = ("415", "The body is not application/json");

macro_rules! endpoints {
    ($($name:ident),+ $(,)?) => {
        #[derive(utoipa::OpenApi)]
        #[openapi(
            info(
                title = "weir",
                description = "The API of weir's node agent: HTTP over a Unix socket, \
                               /run/weir/weir.sock unless it is told otherwise. Root may use it, \
                               and the groups that `access` in agent.yaml names. A connection \
                               takes one request after the other.",
            ),
            paths($(handlers::$name),+)
        )]
        struct Description;

        /// The route of an operation, which is called as its handler.
        fn route<C: Control>(operation: &str, method: MethodFilter) -> Option<MethodRouter<Arc<C>>> {
            match operation {
                $(stringify!($name) => Some(on(method, handlers::$name::<C>)),)+
                _ => None,
            }
        }
    };
}

endpoints!(
    splits,
    split,
    documents,
    apply,
    delete,
    set_weights,
    reset_weights,
    history,
    rollback,
    drain,
    undrain,
    explain,
    flows,
    stats,
    unload,
    status,
);

/// The methods that an endpoint may have.
const METHODS: [(HttpMethod, MethodFilter); 4] = [
    (HttpMethod::Get, MethodFilter::GET),
    (HttpMethod::Post, MethodFilter::POST),
    (HttpMethod::Put, MethodFilter::PUT),
    (HttpMethod::Delete, MethodFilter::DELETE),
];

/// Each endpoint, as it is described: path, method and operation.
fn operations(
    description: &mut utoipa::openapi::OpenApi,
) -> impl Iterator<Item = (&str, MethodFilter, &mut Operation)> {
    description.paths.paths.iter_mut().flat_map(|(path, item)| {
        let found = [&mut item.get, &mut item.post, &mut item.put, &mut item.delete];
        let methods = METHODS.iter().zip(found);
        methods.filter_map(move |((_, method), operation)| {
            Some((path.as_str(), *method, operation.as_mut()?))
        })
    })
}

/// The description, as OpenAPI 3.1.
pub fn describe() -> utoipa::openapi::OpenApi {
    let mut description = Description::openapi();
    for (_, _, operation) in operations(&mut description) {
        let with_body = operation.request_body.is_some().then_some(&ANY_WITH_BODY);
        for &(status, meaning) in ANY.iter().chain(with_body) {
            let response = || {
                let mut response = Response::new(meaning);
                let schema = Ref::from_schema_name("ApiError");
                let content = Content::new(Some(RefOr::Ref(schema)));
                response.content.insert("application/json".to_owned(), content);
                RefOr::T(response)
            };
            operation.responses.responses.entry(status.to_owned()).or_insert_with(response);
        }
    }
    description
}

/// A route for each endpoint.
pub(super) fn routes<C: Control>() -> Router<Arc<C>> {
    let mut description = Description::openapi();
    let mut router = Router::new().route("/v1/openapi.json", axum::routing::get(serve));
    for (path, method, operation) in operations(&mut description) {
        let handler = operation.operation_id.as_deref().and_then(|name| route(name, method));
        // An operation is called as its handler unless its declaration says otherwise; what is
        // not routed fails the test of all documented calls.
        if let Some(handler) = handler {
            router = router.route(path, handler);
        }
    }
    router
}

/// Answers with the description.
async fn serve() -> Json<utoipa::openapi::OpenApi> {
    Json(describe())
}
