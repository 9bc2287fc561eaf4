//! The command line's side of the API.

use std::io;
use std::path::{Path, PathBuf};
use std::time::Duration;

use http_body_util::{BodyExt as _, Full, Limited};
use hyper::body::{Bytes, Incoming};
use hyper::header::HeaderName;
use hyper::{Method, Request, Response, StatusCode, header};
use hyper_util::rt::TokioIo;
use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, utf8_percent_encode};
use serde::Serialize;
use serde::de::DeserializeOwned;
use tokio::net::UnixStream;
use tokio::task::JoinSet;

use super::author::{REASON, SUDO_USER};
use super::lines::Lines;
use super::types::{
    ApiError, ApplyRequest, ApplyView, ChangeView, DeleteRequest, DocumentView, DrainRequest,
    ExplainRequest, ExplainView, FlowQuery, FlowView, ResetQuery, RollbackRequest, SplitView,
    StatsQuery, StatsView, StatusView, UndrainRequest, WeightsRequest,
};

/// The largest answer, in bytes.
const MAX_ANSWER: usize = 256 << 20;
/// How long an answer may take.
const TIMEOUT: Duration = Duration::from_secs(10);
/// How long it may take to read megabytes of documents and put them into force.
const LONG: Duration = Duration::from_secs(300);

/// Why there is no answer, or no good one.
#[derive(Debug, thiserror::Error)]
pub enum ClientError {
    /// Nobody listens.
    #[error("no agent answers at {}: is `weir agent` running?", .0.display())]
    NotRunning(PathBuf),
    /// The socket's permissions say no.
    #[error(
        "this user may not use {}: `access` in agent.yaml says which groups may, and root may",
        .0.display()
    )]
    Denied(PathBuf),
    /// The socket cannot be used.
    #[error("cannot connect to {}: {source}", .socket.display())]
    Connect {
        /// Where.
        socket: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// The agent took too long.
    #[error("the agent at {} did not answer within {} s", .0.display(), .1.as_secs())]
    Timeout(PathBuf, Duration),
    /// The agent rejected.
    #[error("{message}")]
    Rejected {
        /// The HTTP status.
        status: u16,
        /// What the agent says.
        message: String,
    },
    /// The connection broke, or what came is not what an agent says.
    #[error("the answer of the agent cannot be understood: {0}")]
    Protocol(String),
}

impl ClientError {
    /// Whether there may be an answer later, since an agent that is restarted gives none.
    pub fn is_absence(&self) -> bool {
        matches!(self, Self::NotRunning(_) | Self::Timeout(..) | Self::Protocol(_))
    }

    pub(super) fn protocol(error: impl std::fmt::Display) -> Self {
        Self::Protocol(error.to_string())
    }
}

/// Asks the agent at a socket; each request is a connection of its own.
#[derive(Debug, Clone)]
pub struct Client {
    socket: PathBuf,
    /// What headers say of who asks, and why.
    author: Vec<(HeaderName, String)>,
}

impl Client {
    /// A client of the agent that listens at `socket`.
    pub fn new(socket: impl Into<PathBuf>) -> Self {
        Self { socket: socket.into(), author: Vec::new() }
    }

    /// The same, whose changes are made for that reason.
    #[must_use]
    pub fn because(mut self, reason: &str) -> Self {
        self.author.push((REASON, escape(reason)));
        self
    }

    /// The same, whose changes are made by root for that user, who has become root by `sudo`.
    #[must_use]
    pub fn on_behalf_of(mut self, user: &str) -> Self {
        self.author.push((SUDO_USER, escape(user)));
        self
    }

    /// All splits.
    pub async fn splits(&self) -> Result<Vec<SplitView>, ClientError> {
        self.get("/v1/splits").await
    }

    /// One split.
    pub async fn split(&self, name: &str) -> Result<SplitView, ClientError> {
        self.get(&format!("/v1/splits/{}", escape(name))).await
    }

    /// The documents of files and those that were applied.
    pub async fn documents(&self) -> Result<Vec<DocumentView>, ClientError> {
        self.get("/v1/documents").await
    }

    /// Applies documents, all or none; with `dry_run` only asks what that would do.
    pub async fn apply(&self, request: &ApplyRequest) -> Result<ApplyView, ClientError> {
        self.call_within(LONG, Method::POST, "/v1/apply", Some(request)).await
    }

    /// Deletes applied objects, all or none; with `dry_run` only asks what that would do.
    pub async fn delete(&self, request: &DeleteRequest) -> Result<ApplyView, ClientError> {
        self.call_within(LONG, Method::POST, "/v1/delete", Some(request)).await
    }

    /// Overrides weights of a split; the split as it is then.
    pub async fn set_weights(
        &self,
        name: &str,
        request: &WeightsRequest,
    ) -> Result<SplitView, ClientError> {
        self.call(Method::PUT, &weights_of(name), Some(request)).await
    }

    /// Ends the override of a split's weights; the split as it is then.
    pub async fn reset_weights(
        &self,
        name: &str,
        conditions: &ResetQuery,
    ) -> Result<SplitView, ClientError> {
        let ResetQuery { expect, version } = conditions;
        let expect = expect.as_ref().map(|expect| format!("expect={}", escape(expect)));
        let version = version.map(|version| format!("version={version}"));
        let query: Vec<String> = expect.into_iter().chain(version).collect();
        let path = format!("{}?{}", weights_of(name), query.join("&"));
        self.call(Method::DELETE, &path, None::<&()>).await
    }

    /// Goes back to weights of before; the split as it is then.
    pub async fn rollback(
        &self,
        name: &str,
        request: &RollbackRequest,
    ) -> Result<SplitView, ClientError> {
        let path = format!("/v1/splits/{}/rollback", escape(name));
        self.call(Method::POST, &path, Some(request)).await
    }

    /// Takes an endpoint out of a split; the split as it is then.
    pub async fn drain(
        &self,
        name: &str,
        request: &DrainRequest,
    ) -> Result<SplitView, ClientError> {
        let path = format!("/v1/splits/{}/drain", escape(name));
        self.call(Method::POST, &path, Some(request)).await
    }

    /// Puts an endpoint back; the split as it is then.
    pub async fn undrain(
        &self,
        name: &str,
        request: &UndrainRequest,
    ) -> Result<SplitView, ClientError> {
        let path = format!("/v1/splits/{}/undrain", escape(name));
        self.call(Method::POST, &path, Some(request)).await
    }

    /// The last changes of a split's weights, oldest first.
    pub async fn history(&self, name: &str) -> Result<Vec<ChangeView>, ClientError> {
        self.get(&format!("/v1/splits/{}/history", escape(name))).await
    }

    /// Where a new flow would go.
    pub async fn explain(&self, request: ExplainRequest) -> Result<ExplainView, ClientError> {
        let ExplainRequest { from, to, protocol } = request;
        let (from, to) = (escape(&from.to_string()), escape(&to.to_string()));
        self.get(&format!("/v1/explain?from={from}&to={to}&protocol={protocol}")).await
    }

    /// The flows in the flow tables, as they come.
    pub async fn flows(&self, query: &FlowQuery) -> Result<Lines<FlowView>, ClientError> {
        let query = serde_urlencoded::to_string(query).map_err(ClientError::protocol)?;
        let request = self.request(Method::GET, &format!("/v1/flows?{query}"), Vec::new())?;
        let begun = tokio::time::timeout(TIMEOUT, self.begin(request)).await;
        let (response, connection) = begun.map_err(|_| self.timeout(TIMEOUT))??;
        if !response.status().is_success() {
            let (status, body) = (response.status(), response.into_body());
            let body = Limited::new(body, MAX_ANSWER).collect().await;
            return Err(rejected(status, &body.map_err(ClientError::protocol)?.to_bytes()));
        }
        Ok(Lines::new(response.into_body(), connection))
    }

    /// What the programs have counted, of all splits or of one.
    pub async fn stats(&self, query: &StatsQuery) -> Result<StatsView, ClientError> {
        let query = serde_urlencoded::to_string(query).map_err(ClientError::protocol)?;
        self.get(&format!("/v1/stats?{query}")).await
    }

    /// Tells the agent to take weir out of the kernel; it is still at it then.
    pub async fn unload(&self) -> Result<(), ClientError> {
        self.call(Method::POST, "/v1/unload", None::<&()>).await
    }

    /// Where the agent listens.
    pub fn socket(&self) -> &Path {
        &self.socket
    }

    /// The same client, of the agent that listens there.
    #[must_use]
    pub fn at(self, socket: PathBuf) -> Self {
        Self { socket, ..self }
    }

    /// How the agent is.
    pub async fn status(&self) -> Result<StatusView, ClientError> {
        self.get("/v1/status").await
    }

    async fn get<T: DeserializeOwned>(&self, path: &str) -> Result<T, ClientError> {
        self.call(Method::GET, path, None::<&()>).await
    }

    async fn call<T: DeserializeOwned>(
        &self,
        method: Method,
        path: &str,
        body: Option<&impl Serialize>,
    ) -> Result<T, ClientError> {
        self.call_within(TIMEOUT, method, path, body).await
    }

    async fn call_within<T: DeserializeOwned>(
        &self,
        timeout: Duration,
        method: Method,
        path: &str,
        body: Option<&impl Serialize>,
    ) -> Result<T, ClientError> {
        let body = match body {
            Some(body) => serde_json::to_vec(body).map_err(ClientError::protocol)?,
            None => Vec::new(),
        };
        let request = self.request(method, path, body)?;
        let (status, bytes) = tokio::time::timeout(timeout, self.send(request))
            .await
            .map_err(|_| self.timeout(timeout))??;
        if status.is_success() {
            return serde_json::from_slice(&bytes).map_err(ClientError::protocol);
        }
        Err(rejected(status, &bytes))
    }

    fn timeout(&self, after: Duration) -> ClientError {
        ClientError::Timeout(self.socket.clone(), after)
    }

    fn request(
        &self,
        method: Method,
        path: &str,
        body: Vec<u8>,
    ) -> Result<Request<Full<Bytes>>, ClientError> {
        let mut request = Request::builder()
            .method(method)
            .uri(path)
            .header(header::HOST, "weir")
            .header(header::CONTENT_TYPE, "application/json");
        for (name, value) in &self.author {
            request = request.header(name, value);
        }
        request.body(Full::new(Bytes::from(body))).map_err(ClientError::protocol)
    }

    /// Sends a request over a connection of its own, and reads the whole answer.
    async fn send(
        &self,
        request: Request<Full<Bytes>>,
    ) -> Result<(StatusCode, Bytes), ClientError> {
        let (response, _connection) = self.begin(request).await?;
        let status = response.status();
        let body = Limited::new(response.into_body(), MAX_ANSWER).collect().await;
        Ok((status, body.map_err(ClientError::protocol)?.to_bytes()))
    }

    /// Sends a request over a connection of its own, which lasts until it is
    /// dropped; the answer's body is yet to be read.
    async fn begin(
        &self,
        request: Request<Full<Bytes>>,
    ) -> Result<(Response<Incoming>, Connection), ClientError> {
        use io::ErrorKind::{ConnectionRefused, NotFound, PermissionDenied};
        let stream = UnixStream::connect(&self.socket).await.map_err(|source| {
            let socket = self.socket.clone();
            match source.kind() {
                NotFound | ConnectionRefused => ClientError::NotRunning(socket),
                PermissionDenied => ClientError::Denied(socket),
                _ => ClientError::Connect { socket, source },
            }
        })?;
        let (mut sender, connection) = hyper::client::conn::http1::handshake(TokioIo::new(stream))
            .await
            .map_err(ClientError::protocol)?;
        let mut tasks = JoinSet::new();
        // How it ends is seen by who reads the answer.
        tasks.spawn(async move { drop(connection.await) });
        let response = sender.send_request(request).await.map_err(ClientError::protocol)?;
        Ok((response, Connection { _task: tasks }))
    }
}

/// A connection, driven in the background for as long as this lives.
#[derive(Debug)]
pub(super) struct Connection {
    _task: JoinSet<()>,
}

/// What an answer that is not a success says.
fn rejected(status: StatusCode, body: &[u8]) -> ClientError {
    let message = match serde_json::from_slice::<ApiError>(body) {
        Ok(body) => body.error,
        Err(_) => format!("the agent answers {status}"),
    };
    ClientError::Rejected { status: status.as_u16(), message }
}

fn weights_of(split: &str) -> String {
    format!("/v1/splits/{}/weights", escape(split))
}

/// Percent-encodes all but RFC 3986's unreserved characters.
fn escape(text: &str) -> String {
    const RESERVED: &AsciiSet =
        &NON_ALPHANUMERIC.remove(b'-').remove(b'.').remove(b'_').remove(b'~');
    utf8_percent_encode(text, RESERVED).to_string()
}
