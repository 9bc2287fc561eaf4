//! Accepting connections.

use std::io;
use std::sync::Arc;
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncWrite};
use tokio::sync::{Semaphore, oneshot};
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep_until, timeout};
use tracing::warn;

use super::connection::{Common, converse, crowded, say};
use super::places::{Full, Place, Places};
use super::{Desk, Limits, Owner};

/// How long is waited when no connection can be accepted, for want of memory or descriptors.
const PAUSE: Duration = Duration::from_millis(500);

/// Where connections come from.
pub trait Listen: Send + 'static {
    /// A connection.
    type Stream: AsyncRead + AsyncWrite + Unpin + Send + 'static;
    /// Who is at its other end.
    type Client: Owner;

    /// The next connection.
    fn accept(&self) -> impl Future<Output = io::Result<(Self::Stream, Self::Client)>> + Send;
}

/// Answers requests until `shutdown` is ready, and those that were made by then.
pub async fn serve<L: Listen, D: Desk<Client = L::Client>>(
    listener: L,
    desk: D,
    limits: Limits,
    shutdown: impl Future<Output = ()> + Send,
) {
    let places = Places::new(limits.places);
    let bodies = Arc::new(Semaphore::new(limits.bodies));
    let common = Arc::new(Common { desk, limits, bodies });
    let mut connections = JoinSet::new();
    let mut shutdown = std::pin::pin!(shutdown);
    loop {
        let accepted = tokio::select! {
            () = &mut shutdown => break,
            Some(_) = connections.join_next() => continue,
            accepted = listener.accept() => accepted,
        };
        match accepted {
            Ok((stream, client)) => match seat(&places, client.of()).await {
                Some(seat) => {
                    let talk = converse(Arc::clone(&common), stream, client, seat);
                    connections.spawn(async move {
                        match limits.life {
                            // Whoever lasts longer is cut off.
                            Some(life) => drop(timeout(life, talk).await),
                            None => talk.await,
                        }
                    });
                }
                None => say(&common.desk, stream, &crowded()).await,
            },
            Err(error) => {
                warn!("cannot accept a connection: {error}");
                tokio::time::sleep(PAUSE).await;
            }
        }
    }
    drop(listener);
    places.close();
    while connections.join_next().await.is_some() {}
}

/// Waits for a place; None if there will be none soon.
async fn seat<K: Ord + Clone>(
    places: &Places<K>,
    of: K,
) -> Option<(Place<K>, oneshot::Receiver<()>)> {
    loop {
        match places.take(of.clone(), Instant::now()) {
            Ok(seat) => return Some(seat),
            // Others wait in the kernel's queue meanwhile.
            Err(Full::Until(then)) => sleep_until(then).await,
            Err(Full::Busy) => return None,
        }
    }
}
