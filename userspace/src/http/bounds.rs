//! What clients may take, and who answers them.

use std::time::Duration;

use axum::body::Body;
use axum::http::request::Parts;
use axum::http::{Request, Response, StatusCode};
use hyper::body::Bytes;

/// What clients may take.
#[derive(Debug, Clone, Copy)]
pub struct RequestLimits {
    /// Connections at a time.
    pub connections: usize,
    /// How long the head of a request may take.
    pub head: Duration,
    /// How long the body of a request may take, after the head.
    pub body: Duration,
    /// How long nothing of an answer may be taken.
    pub stall: Duration,
    /// How long a connection may last in all.
    pub life: Option<Duration>,
    /// Bytes of bodies of all requests that are read, or read and not yet answered.
    pub bodies: usize,
}

impl RequestLimits {
    /// The most bytes of a request's head.
    pub const HEAD_BYTES: usize = 8192;
    /// The most header fields of a request.
    pub const HEADERS: usize = 32;
}

/// A request that is not answered as it was meant, and why.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Rejection {
    /// What kind of reason.
    pub status: StatusCode,
    /// The reason, for people.
    pub message: String,
}

impl Rejection {
    /// A rejection with that status.
    pub fn new(status: StatusCode, message: impl Into<String>) -> Self {
        Self { status, message: message.into() }
    }
}

/// Who answers requests.
pub trait Handler: Send + Sync + 'static {
    /// Who asks.
    type Client: super::QuotaOwner;

    /// Judges a request by its head: the most bytes of body that it may have.
    fn admit(&self, client: &Self::Client, head: &Parts) -> Result<usize, Rejection>;

    /// Answers a request that was admitted.
    fn answer(
        &self,
        client: &Self::Client,
        request: Request<Bytes>,
    ) -> impl Future<Output = Response<Body>> + Send;

    /// The type and the text of an answer that only says that.
    fn text(&self, message: &str) -> (&'static str, String);
}
