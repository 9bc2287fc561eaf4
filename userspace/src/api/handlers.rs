//! Requests to calls of [`Control`], and results to answers.

use std::collections::BTreeMap;
use std::sync::Arc;

use axum::Json;
use axum::extract::rejection::{JsonRejection, PathRejection, QueryRejection};
use axum::extract::{Path, Query, State};
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Response};
use futures_util::StreamExt as _;

use super::author::Signed;
use super::types::{
    ApiError, ApplyRequest, ApplyView, ChangeView, DeleteRequest, DocumentView, DrainRequest,
    ExplainRequest, ExplainView, FileText, FlowQuery, FlowView, ResetQuery, RollbackRequest,
    SplitView, StatsQuery, StatsView, StatusView, UndrainRequest, WeightsRequest,
};
use super::{Control, Failure};
use crate::desired::{DrainGuard, Guard, Rejection};
use crate::model::{Key, Name as SplitName};
use crate::resource::{self, Id};
use crate::source::Problem;

/// The most files of a request.
const MAX_FILES: usize = 10_000;
/// The most documents of a request: the most splits that a node can have.
const MAX_DOCUMENTS: usize = 65_536;

/// A rejected request.
pub(super) struct Rejected(pub StatusCode, pub String);

impl IntoResponse for Rejected {
    fn into_response(self) -> Response {
        (self.0, Json(ApiError { error: self.1 })).into_response()
    }
}

impl From<Failure> for Rejected {
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

impl From<JsonRejection> for Rejected {
    fn from(rejection: JsonRejection) -> Self {
        // A body of the wrong shape (422 by axum) is as bad a request as one that is no JSON.
        let status = match rejection.status() {
            StatusCode::UNPROCESSABLE_ENTITY => StatusCode::BAD_REQUEST,
            status => status,
        };
        Self(status, rejection.body_text())
    }
}

impl From<QueryRejection> for Rejected {
    fn from(rejection: QueryRejection) -> Self {
        Self(rejection.status(), rejection.body_text())
    }
}

impl From<PathRejection> for Rejected {
    fn from(rejection: PathRejection) -> Self {
        Self(rejection.status(), rejection.body_text())
    }
}

impl From<Rejection> for Rejected {
    fn from(rejection: Rejection) -> Self {
        Failure::from(rejection).into()
    }
}

/// What handlers return.
type Answer<T> = Result<Json<T>, Rejected>;
/// The name in a path.
type Name = Result<Path<String>, PathRejection>;
/// The body of a request.
type Body<T> = Result<Json<T>, JsonRejection>;

/// All splits, by name.
#[utoipa::path(get, path = "/v1/splits", responses(
    (status = 200, body = Vec<SplitView>),
))]
pub(super) async fn splits<C: Control>(State(control): State<Arc<C>>) -> Answer<Vec<SplitView>> {
    Ok(Json(control.splits().await?))
}

/// A split.
#[utoipa::path(get, path = "/v1/splits/{name}", params(
    ("name" = String, Path, description = "The split"),
), responses(
    (status = 200, body = SplitView),
    (status = 404, body = ApiError, description = "There is no such split"),
))]
pub(super) async fn split<C: Control>(
    State(control): State<Arc<C>>,
    name: Name,
) -> Answer<SplitView> {
    let Path(name) = name?;
    Ok(Json(control.split(name).await?))
}

/// The documents of files and those that were applied, by kind, namespace and name.
#[utoipa::path(get, path = "/v1/documents", responses(
    (status = 200, body = Vec<DocumentView>),
))]
pub(super) async fn documents<C: Control>(
    State(control): State<Arc<C>>,
) -> Answer<Vec<DocumentView>> {
    Ok(Json(control.documents().await?))
}

/// Applies documents, all or none.
///
/// The answer says what becomes of each object, and what part of new flows
/// moves between which subsets.
#[utoipa::path(post, path = "/v1/apply", params(
    ("weir-reason" = Option<String>, Header, description = "Why, percent-encoded"),
    ("weir-sudo-user" = Option<String>, Header, description = "For whom root asks"),
), request_body = ApplyRequest, responses(
    (status = 200, body = ApplyView),
    (status = 400, body = ApiError, description = "A line for each thing wrong: FILE:LINE: FIELD: message"),
    (status = 413, body = ApiError, description = "More than 64 MiB"),
))]
pub(super) async fn apply<C: Control>(
    State(control): State<Arc<C>>,
    Signed(author): Signed,
    body: Body<ApplyRequest>,
) -> Answer<ApplyView> {
    let Json(ApplyRequest { files, dry_run, in_place_of_files }) = body?;
    if in_place_of_files && !dry_run {
        let message = "in_place_of_files without dry_run: the API changes no file";
        return Err(Failure::Invalid(message.to_owned()).into());
    }
    let mut documents = read(files, resource::declarations).await?;
    bounded(documents.documents.len())?;
    documents.in_place_of_files = in_place_of_files;
    Ok(Json(control.apply(documents, dry_run, author).await?))
}

/// Deletes applied objects, all or none.
#[utoipa::path(post, path = "/v1/delete", params(
    ("weir-reason" = Option<String>, Header, description = "Why, percent-encoded"),
    ("weir-sudo-user" = Option<String>, Header, description = "For whom root asks"),
), request_body = DeleteRequest, responses(
    (status = 200, body = ApplyView),
    (status = 400, body = ApiError, description = "The request makes no sense"),
    (status = 404, body = ApiError, description = "An object was not applied"),
    (status = 409, body = ApiError, description = "An object is defined by a file, or something needs it"),
))]
pub(super) async fn delete<C: Control>(
    State(control): State<Arc<C>>,
    Signed(author): Signed,
    body: Body<DeleteRequest>,
) -> Answer<ApplyView> {
    let Json(DeleteRequest { objects, files, dry_run }) = body?;
    let mut keys: Vec<Key> = objects.into_iter().map(Key::from).collect();
    bounded(keys.len())?;
    let ids = read(files, resource::ids).await?;
    bounded(ids.len())?;
    keys.extend(ids.iter().map(Id::key));
    if keys.is_empty() {
        return Err(Failure::Invalid("the request names no object".into()).into());
    }
    Ok(Json(control.delete(keys, dry_run, author).await?))
}

/// Overrides weights of a split.
///
/// They last until they are reset or the weights in the split's definition change.
#[utoipa::path(put, path = "/v1/splits/{name}/weights", params(
    ("name" = String, Path, description = "The split"),
    ("weir-reason" = Option<String>, Header, description = "Why, percent-encoded"),
    ("weir-sudo-user" = Option<String>, Header, description = "For whom root asks"),
), request_body = WeightsRequest, responses(
    (status = 200, body = SplitView),
    (status = 400, body = ApiError, description = "The weights make no sense"),
    (status = 404, body = ApiError, description = "There is no such split"),
    (status = 409, body = ApiError, description = "The weights or the version are not as expected, or the split is the cluster's"),
))]
pub(super) async fn set_weights<C: Control>(
    State(control): State<Arc<C>>,
    name: Name,
    Signed(author): Signed,
    body: Body<WeightsRequest>,
) -> Answer<SplitView> {
    let (Path(name), Json(request)) = (name?, body?);
    if request.weights.is_empty() {
        return Err(Failure::Invalid("\"weights\" names no subset".into()).into());
    }
    let guard = Guard { this_node: request.this_node, ..guard(request.expect, request.version)? };
    let weights = names(request.weights)?;
    Ok(Json(control.set_weights(name, weights, guard, author).await?))
}

/// Ends the override of a split's weights, if there is one.
#[utoipa::path(delete, path = "/v1/splits/{name}/weights", params(
    ("name" = String, Path, description = "The split"), ResetQuery,
    ("weir-reason" = Option<String>, Header, description = "Why, percent-encoded"),
    ("weir-sudo-user" = Option<String>, Header, description = "For whom root asks"),
), responses(
    (status = 200, body = SplitView),
    (status = 404, body = ApiError, description = "There is no such split"),
    (status = 409, body = ApiError, description = "The weights or the version are not as expected"),
))]
pub(super) async fn reset_weights<C: Control>(
    State(control): State<Arc<C>>,
    name: Name,
    Signed(author): Signed,
    query: Result<Query<ResetQuery>, QueryRejection>,
) -> Answer<SplitView> {
    let (Path(name), Query(ResetQuery { expect, version })) = (name?, query?);
    let expect = pairs(expect.as_deref().unwrap_or_default())?;
    Ok(Json(control.reset_weights(name, guard(expect, version)?, author).await?))
}

/// Goes back to weights that a split had before.
#[utoipa::path(post, path = "/v1/splits/{name}/rollback", params(
    ("name" = String, Path, description = "The split"),
    ("weir-reason" = Option<String>, Header, description = "Why, percent-encoded"),
    ("weir-sudo-user" = Option<String>, Header, description = "For whom root asks"),
), request_body = RollbackRequest, responses(
    (status = 200, body = SplitView),
    (status = 400, body = ApiError, description = "There is no way back"),
    (status = 404, body = ApiError, description = "There is no such split or change"),
    (status = 409, body = ApiError, description = "The split has other subsets now, is not as expected, or is the cluster's"),
))]
pub(super) async fn rollback<C: Control>(
    State(control): State<Arc<C>>,
    name: Name,
    Signed(author): Signed,
    body: Body<RollbackRequest>,
) -> Answer<SplitView> {
    let (Path(name), Json(RollbackRequest { to, expect, version, this_node })) = (name?, body?);
    let guard = Guard { this_node, ..guard(expect, version)? };
    Ok(Json(control.rollback(name, to, guard, author).await?))
}

/// Takes an endpoint out of a split.
///
/// No new flows go there, and live ones keep it for the split's drain time. It stays out until it
/// is put back, or the split's definition does not have it any more.
#[utoipa::path(post, path = "/v1/splits/{name}/drain", params(
    ("name" = String, Path, description = "The split"),
    ("weir-reason" = Option<String>, Header, description = "Why, percent-encoded"),
    ("weir-sudo-user" = Option<String>, Header, description = "For whom root asks"),
), request_body = DrainRequest, responses(
    (status = 200, body = SplitView),
    (status = 404, body = ApiError, description = "There is no such split or endpoint"),
    (status = 409, body = ApiError, description = "A subset with a weight would have no endpoint, or the split is the cluster's"),
))]
pub(super) async fn drain<C: Control>(
    State(control): State<Arc<C>>,
    name: Name,
    Signed(author): Signed,
    body: Body<DrainRequest>,
) -> Answer<SplitView> {
    let (Path(name), Json(DrainRequest { endpoint, force, this_node })) = (name?, body?);
    let guard = DrainGuard { force, this_node };
    Ok(Json(control.drain(name, endpoint, guard, author).await?))
}

/// Puts an endpoint back that was taken out of a split.
#[utoipa::path(post, path = "/v1/splits/{name}/undrain", params(
    ("name" = String, Path, description = "The split"),
    ("weir-reason" = Option<String>, Header, description = "Why, percent-encoded"),
    ("weir-sudo-user" = Option<String>, Header, description = "For whom root asks"),
), request_body = UndrainRequest, responses(
    (status = 200, body = SplitView),
    (status = 404, body = ApiError, description = "There is no such split, or the endpoint was not taken out"),
))]
pub(super) async fn undrain<C: Control>(
    State(control): State<Arc<C>>,
    name: Name,
    Signed(author): Signed,
    body: Body<UndrainRequest>,
) -> Answer<SplitView> {
    let (Path(name), Json(UndrainRequest { endpoint })) = (name?, body?);
    Ok(Json(control.undrain(name, endpoint, author).await?))
}

/// The last changes of a split's weights, oldest first.
#[utoipa::path(get, path = "/v1/splits/{name}/history", params(
    ("name" = String, Path, description = "The split"),
), responses(
    (status = 200, body = Vec<ChangeView>),
    (status = 404, body = ApiError, description = "There is no such split, and was none lately"),
))]
pub(super) async fn history<C: Control>(
    State(control): State<Arc<C>>,
    name: Name,
) -> Answer<Vec<ChangeView>> {
    let Path(name) = name?;
    Ok(Json(control.history(name).await?))
}

/// Where a new flow would go, and why.
#[utoipa::path(get, path = "/v1/explain", params(ExplainRequest), responses(
    (status = 200, body = ExplainView),
    (status = 404, body = ApiError, description = "No split has that address"),
))]
pub(super) async fn explain<C: Control>(
    State(control): State<Arc<C>>,
    query: Result<Query<ExplainRequest>, QueryRejection>,
) -> Answer<ExplainView> {
    let Query(request) = query?;
    Ok(Json(control.explain(request).await?))
}

/// The flows in the flow tables, a line of JSON for each.
///
/// The tables are read while the answer is, so it is no picture of one moment:
/// a flow that begins or ends meanwhile may be missing. An answer that breaks
/// off is not complete.
#[utoipa::path(get, path = "/v1/flows", params(FlowQuery), responses(
    (status = 200, body = FlowView, content_type = "application/x-ndjson"),
))]
pub(super) async fn flows<C: Control>(
    State(control): State<Arc<C>>,
    query: Result<Query<FlowQuery>, QueryRejection>,
) -> Result<Response, Rejected> {
    let Query(query) = query?;
    let lines = control.flows(query).await?.map(|flows| flows.and_then(|flows| lines(&flows)));
    let kind = [(header::CONTENT_TYPE, "application/x-ndjson")];
    Ok((kind, axum::body::Body::from_stream(lines)).into_response())
}

/// Things as JSON, a line for each.
fn lines<T: serde::Serialize>(things: &[T]) -> Result<Vec<u8>, Failure> {
    let mut text = Vec::new();
    for thing in things {
        serde_json::to_writer(&mut text, thing).map_err(|e| Failure::Internal(e.to_string()))?;
        text.push(b'\n');
    }
    Ok(text)
}

/// What the programs have counted.
#[utoipa::path(get, path = "/v1/stats", params(StatsQuery), responses(
    (status = 200, body = StatsView),
    (status = 404, body = ApiError, description = "There is no such split"),
))]
pub(super) async fn stats<C: Control>(
    State(control): State<Arc<C>>,
    query: Result<Query<StatsQuery>, QueryRejection>,
) -> Answer<StatsView> {
    let Query(query) = query?;
    Ok(Json(control.stats(query).await?))
}

/// Takes weir out of the kernel.
///
/// The answer comes before that is done: then `unloaded` of the status is there, and the agent
/// steers nothing until it is restarted.
#[utoipa::path(post, path = "/v1/unload", params(
    ("weir-reason" = Option<String>, Header, description = "Why, percent-encoded"),
    ("weir-sudo-user" = Option<String>, Header, description = "For whom root asks"),
), responses(
    (status = 200, body = (), description = "The agent is at it"),
    (status = 409, body = ApiError, description = "It was told before"),
))]
pub(super) async fn unload<C: Control>(
    State(control): State<Arc<C>>,
    Signed(author): Signed,
) -> Answer<()> {
    Ok(Json(control.unload(author).await?))
}

/// How the agent is.
#[utoipa::path(get, path = "/v1/status", responses((status = 200, body = StatusView)))]
pub(super) async fn status<C: Control>(State(control): State<Arc<C>>) -> Answer<StatusView> {
    Ok(Json(control.status().await?))
}

/// Reads files, away from the threads that answer requests: megabytes take seconds.
async fn read<T: Send + 'static>(
    files: Vec<FileText>,
    how: impl FnOnce(&[(String, String)]) -> Result<T, Vec<Problem>> + Send + 'static,
) -> Result<T, Rejected> {
    if files.len() > MAX_FILES {
        let message = format!("{} files in one request, at most {MAX_FILES} may be", files.len());
        return Err(Failure::Invalid(message).into());
    }
    let files: Vec<(String, String)> = files.into_iter().map(|f| (f.name, f.text)).collect();
    let found = tokio::task::spawn_blocking(move || how(&files))
        .await
        .map_err(|error| Failure::Internal(error.to_string()))?;
    Ok(found.map_err(Rejection::Problems)?)
}

fn bounded(documents: usize) -> Result<(), Failure> {
    if documents <= MAX_DOCUMENTS {
        return Ok(());
    }
    let message = format!("{documents} objects in one request, at most {MAX_DOCUMENTS} may be");
    Err(Failure::Invalid(message))
}

fn guard(expect: BTreeMap<String, u32>, version: Option<u64>) -> Result<Guard, Failure> {
    Ok(Guard { expect: names(expect)?, version, this_node: false })
}

fn names(weights: BTreeMap<String, u32>) -> Result<BTreeMap<SplitName, u32>, Failure> {
    let named = weights.into_iter().map(|(name, weight)| Ok((SplitName::new(name)?, weight)));
    named
        .collect::<Result<_, crate::model::NameError>>()
        .map_err(|error| Failure::Invalid(error.to_string()))
}

/// Weights as `v1=90,v3=10`.
fn pairs(text: &str) -> Result<BTreeMap<String, u32>, Failure> {
    let mut pairs = BTreeMap::new();
    for part in text.split(',').filter(|part| !part.is_empty()) {
        let no = || Failure::Invalid(format!("\"{part}\" is not SUBSET=WEIGHT, as v1=90 is"));
        let (name, weight) = part.split_once('=').ok_or_else(no)?;
        if pairs.insert(name.to_owned(), weight.parse().map_err(|_| no())?).is_some() {
            return Err(Failure::Invalid(format!("subset \"{name}\" is given two weights")));
        }
    }
    Ok(pairs)
}
