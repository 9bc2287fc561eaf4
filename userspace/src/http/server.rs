//! Accepting connections.

use std::io;
use std::sync::Arc;
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncWrite};
use tokio::sync::{Semaphore, oneshot};
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep_until, timeout};
use tracing::warn;

use super::connection::{Common, overloaded, say, serve_connection};
use super::quota::{Full, Permit, Permits};
use super::{Handler, QuotaOwner, RequestLimits};

/// How long is waited when no connection can be accepted, for want of memory or descriptors.
const PAUSE: Duration = Duration::from_millis(500);

/// Where connections come from.
pub trait Listen: Send + 'static {
    /// A connection.
    type Stream: AsyncRead + AsyncWrite + Unpin + Send + 'static;
    /// Who is at its other end.
    type Client: QuotaOwner;

    /// The next connection.
    fn accept(&self) -> impl Future<Output = io::Result<(Self::Stream, Self::Client)>> + Send;
}

/// Answers requests until `shutdown` is ready, and those that were made by then.
pub async fn serve<L: Listen, D: Handler<Client = L::Client>>(
    listener: L,
    handler: D,
    limits: RequestLimits,
    shutdown: impl Future<Output = ()> + Send,
) {
    let permits = Permits::new(limits.connections);
    let bodies = Arc::new(Semaphore::new(limits.bodies));
    let common = Arc::new(Common { handler, limits, bodies });
    let mut connections = JoinSet::new();
    let mut shutdown = std::pin::pin!(shutdown);
    loop {
        let accepted = tokio::select! {
            () = &mut shutdown => break,
            Some(_) = connections.join_next() => continue,
            accepted = listener.accept() => accepted,
        };
        match accepted {
            Ok((stream, client)) => match permit(&permits, client.quota_key()).await {
                Some(permit) => {
                    let talk = serve_connection(Arc::clone(&common), stream, client, permit);
                    connections.spawn(async move {
                        match limits.life {
                            // Whoever lasts longer is cut off.
                            Some(life) => drop(timeout(life, talk).await),
                            None => talk.await,
                        }
                    });
                }
                None => say(&common.handler, stream, &overloaded()).await,
            },
            Err(error) => {
                warn!("cannot accept a connection: {error}");
                tokio::time::sleep(PAUSE).await;
            }
        }
    }
    drop(listener);
    permits.close();
    while connections.join_next().await.is_some() {}
}

/// Waits for a place; None if there will be none soon.
async fn permit<K: Ord + Clone>(
    permits: &Permits<K>,
    of: K,
) -> Option<(Permit<K>, oneshot::Receiver<()>)> {
    loop {
        match permits.take(of.clone(), Instant::now()) {
            Ok(permit) => return Some(permit),
            // Others wait in the kernel's queue meanwhile.
            Err(Full::Until(then)) => sleep_until(then).await,
            Err(Full::Busy) => return None,
        }
    }
}
