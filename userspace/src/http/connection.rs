//! One connection: a request and its answer, and then others while the client makes them.

use std::convert::Infallible;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use axum::body::Body;
use axum::http::request::Parts;
use axum::http::{Request, Response, StatusCode, header};
use futures_util::FutureExt as _;
use futures_util::future::Shared;
use http_body_util::BodyExt as _;
use hyper::body::{Body as HttpBody, Bytes, Frame, Incoming, SizeHint};
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use tokio::io::{AsyncRead, AsyncWrite, AsyncWriteExt as _};
use tokio::sync::{OwnedSemaphorePermit, Semaphore, oneshot, watch};
use tokio::time::{Instant, sleep_until, timeout};
use tokio_io_timeout::TimeoutStream;

use super::quota::{Permit, Phase};
use super::{Handler, QuotaOwner, Rejection, RequestLimits};

/// How long is read what nobody wants, so that its sender reads the answer
/// instead of failing to send.
const DRAIN: Duration = Duration::from_secs(1);
/// How long it may take to send a few words.
const WORDS: Duration = Duration::from_millis(100);

/// The kind of a client of that handler.
pub(super) type QuotaKey<D> = <<D as Handler>::Client as QuotaOwner>::QuotaKey;

/// What all connections of a server have in common.
pub(super) struct Common<D> {
    pub handler: D,
    pub limits: RequestLimits,
    /// A permit for each byte of a body.
    pub bodies: Arc<Semaphore>,
}

/// Ready when the place has to be given up. The sender lives as long as that.
type Evicted = Shared<oneshot::Receiver<()>>;

/// What of a request has come.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Stage {
    /// Nothing, or a part of the head, of the first request.
    Head,
    Body,
    All,
    /// Nothing, or a part of the head, of another request.
    Idle,
}

/// Answers the request of a connection, or says why not.
pub(super) async fn serve_connection<D: Handler, S: AsyncRead + AsyncWrite + Send + 'static>(
    common: Arc<Common<D>>,
    stream: S,
    client: D::Client,
    (permit, evicted): (Permit<QuotaKey<D>>, oneshot::Receiver<()>),
) {
    let mut stream = TimeoutStream::new(stream);
    stream.set_write_timeout(Some(common.limits.stall));
    let evicted = evicted.shared();
    let exchange = Arc::new(Exchange {
        common: Arc::clone(&common),
        client,
        permit,
        evicted: evicted.clone(),
        stage: watch::Sender::new((Stage::Head, Instant::now())),
    });
    let service = service_fn(|request| {
        exchange.reach(Stage::Body);
        let exchange = Arc::clone(&exchange);
        async move { Ok::<_, Infallible>(exchange.answer(request).await) }
    });
    let mut connection = http1::Builder::new()
        .header_read_timeout(None)
        .max_headers(RequestLimits::HEADERS)
        .max_header_size(RequestLimits::HEAD_BYTES)
        .keep_alive(common.limits.idle.is_some())
        .serve_connection(TokioIo::new(Box::pin(stream)), service);
    let silent = silence(exchange.stage.subscribe(), common.limits);
    let why = tokio::select! {
        // What went wrong is the client's business.
        _ = &mut connection => return,
        () = silent => Rejection::new(
            StatusCode::REQUEST_TIMEOUT,
            format!("no request came within {} s", common.limits.head.as_secs_f32()),
        ),
        _ = evicted => overloaded(),
    };
    match exchange.stage() {
        Stage::Head => say(&common.handler, connection.into_parts().io.into_inner(), &why).await,
        // The exchange says so.
        Stage::Body => drop(timeout(WORDS, connection).await),
        // It breaks off.
        Stage::All => {}
        // There is nobody to tell; the end of the last answer may be on its way.
        Stage::Idle => {
            Pin::new(&mut connection).graceful_shutdown();
            drop(timeout(WORDS, connection).await);
        }
    }
}

/// Ready when a client has been silent for too long, where it is for the client to speak.
async fn silence(mut stage: watch::Receiver<(Stage, Instant)>, limits: RequestLimits) {
    loop {
        let (stage_now, since) = *stage.borrow_and_update();
        let limit = match stage_now {
            Stage::Head => Some(limits.head),
            Stage::Idle => limits.idle,
            Stage::Body | Stage::All => None,
        };
        let end = async {
            match limit {
                Some(limit) => sleep_until(since + limit).await,
                None => std::future::pending().await,
            }
        };
        tokio::select! {
            () = end => return,
            changed = stage.changed() => if changed.is_err() {
                // The connection ends.
                return std::future::pending().await;
            },
        }
    }
}

/// Why somebody has no place.
pub(super) fn overloaded() -> Rejection {
    let message = "too many connections at a time; try again";
    Rejection::new(StatusCode::SERVICE_UNAVAILABLE, message)
}

/// Answers a client of whom nothing was read.
pub(super) async fn say<D: Handler>(
    handler: &D,
    mut stream: impl AsyncWrite + Unpin,
    Rejection { status, message }: &Rejection,
) {
    let (kind, text) = handler.text(message);
    let answer = format!(
        "HTTP/1.1 {status}\r\ncontent-type: {kind}\r\ncontent-length: {}\r\nconnection: close\
         \r\n\r\n{text}",
        text.len()
    );
    let send = async {
        stream.write_all(answer.as_bytes()).await?;
        stream.shutdown().await
    };
    // A client that is not there does not hear it.
    let _ = timeout(WORDS, send).await;
}

/// A request and who sent it.
struct Exchange<D: Handler> {
    common: Arc<Common<D>>,
    client: D::Client,
    permit: Permit<QuotaKey<D>>,
    evicted: Evicted,
    /// What has come, and since when.
    stage: watch::Sender<(Stage, Instant)>,
}

impl<D: Handler> Exchange<D> {
    fn reach(&self, stage: Stage) {
        self.stage.send_replace((stage, Instant::now()));
    }

    fn stage(&self) -> Stage {
        self.stage.borrow().0
    }

    async fn answer(self: &Arc<Self>, request: Request<Incoming>) -> Response<Body> {
        let handler = &self.common.handler;
        let (head, mut body) = request.into_parts();
        let read = tokio::select! {
            read = self.read(&head, &mut body) => read,
            _ = self.evicted.clone() => return reject(handler, overloaded()),
        };
        let answer = match read {
            Ok((bytes, permits)) => {
                self.reach(Stage::All);
                self.permit.enter(Phase::Working);
                let answer = handler.answer(&self.client, Request::from_parts(head, bytes)).await;
                drop(permits);
                answer
            }
            Err(rejection) => {
                let rest = async { while let Some(Ok(_)) = body.frame().await {} };
                let _ = timeout(DRAIN, rest).await;
                self.reach(Stage::All);
                reject(handler, rejection)
            }
        };
        self.permit.enter(Phase::Answering);
        let exchange = Arc::clone(self);
        answer.map(|body| Body::new(Answered { body, exchange }))
    }

    /// Reads the body of a request, if that is admitted.
    async fn read(&self, head: &Parts, body: &mut Incoming) -> Result<Whole, Rejection> {
        let Common { handler, limits, bodies } = &*self.common;
        let most = handler.admit(&self.client, head)?;
        let read = timeout(limits.body, whole(body, most, bodies)).await;
        read.unwrap_or_else(|_| {
            let message = format!("the body took longer than {} s", limits.body.as_secs_f32());
            Err(Rejection::new(StatusCode::REQUEST_TIMEOUT, message))
        })
    }
}

/// The body of an answer. When it has been taken, the client may ask again.
struct Answered<D: Handler> {
    body: Body,
    exchange: Arc<Exchange<D>>,
}

impl<D: Handler> HttpBody for Answered<D> {
    type Data = Bytes;
    type Error = axum::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, axum::Error>>> {
        Pin::new(&mut self.body).poll_frame(context)
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}

impl<D: Handler> Drop for Answered<D> {
    fn drop(&mut self) {
        if self.exchange.common.limits.idle.is_some() {
            self.exchange.reach(Stage::Idle);
            self.exchange.permit.enter(Phase::Asking);
        }
    }
}

/// A body, and what it takes of what all may have together.
type Whole = (Bytes, Option<OwnedSemaphorePermit>);

fn reject<D: Handler>(handler: &D, Rejection { status, message }: Rejection) -> Response<Body> {
    let (kind, text) = handler.text(&message);
    let mut response = Response::new(Body::from(text));
    *response.status_mut() = status;
    response.headers_mut().insert(header::CONTENT_TYPE, header::HeaderValue::from_static(kind));
    // What is left of its body is not read.
    response.headers_mut().insert(header::CONNECTION, header::HeaderValue::from_static("close"));
    response
}

/// Reads a body to its end.
async fn whole(
    body: &mut Incoming,
    most: usize,
    budget: &Arc<Semaphore>,
) -> Result<Whole, Rejection> {
    let large = || {
        let message = format!("the body is larger than {most} bytes");
        Rejection::new(StatusCode::PAYLOAD_TOO_LARGE, message)
    };
    if body.size_hint().lower() > most as u64 {
        return Err(large());
    }
    let (mut bytes, mut permits) = (Vec::new(), None::<OwnedSemaphorePermit>);
    while let Some(frame) = body.frame().await {
        let frame = frame.map_err(|error| {
            Rejection::new(StatusCode::BAD_REQUEST, format!("the body cannot be read: {error}"))
        })?;
        // Trailers say nothing here.
        let Ok(data) = frame.into_data() else { continue };
        if data.len() > most - bytes.len() {
            return Err(large());
        }
        let more = u32::try_from(data.len()).ok();
        let more = more.and_then(|more| Arc::clone(budget).try_acquire_many_owned(more).ok());
        let more = more.ok_or_else(|| {
            let message = "all clients together send too much at a time; try again";
            Rejection::new(StatusCode::SERVICE_UNAVAILABLE, message)
        })?;
        match &mut permits {
            Some(permits) => permits.merge(more),
            None => permits = Some(more),
        }
        bytes.extend_from_slice(&data);
    }
    Ok((bytes.into(), permits))
}
