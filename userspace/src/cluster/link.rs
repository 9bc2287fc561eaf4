//! Whether the server is there. One of an agent's tasks asks when it is not; the others wait for
//! what it finds, so that a server that comes back meets one connection of each node first, and
//! all kinds go on as soon as that got through.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use serde::Deserialize;
use serde::de::IgnoredAny;
use tokio::sync::{mpsc, watch};
use tokio::time::{Instant, sleep, timeout};

use super::client::Server;
use super::failure::Failure;
use super::health::Health;
use super::timing::{Backoff, Timing};
use super::told::Told;

/// The namespace whose uid tells clusters apart.
const IDENTITY: &str = "/api/v1/namespaces?fieldSelector=metadata.name%3Dkube-system";

/// A server that answered, and how it was reached.
pub(super) struct Session {
    pub server: Server,
    number: u64,
    /// How many times it was away before.
    outages: u64,
}

/// What tasks know of the server.
#[derive(Clone)]
pub(super) struct Link {
    sessions: watch::Receiver<Option<Arc<Session>>>,
    losses: mpsc::UnboundedSender<u64>,
    /// How often something was answered that had failed before.
    answers: Arc<watch::Sender<u64>>,
}

/// Who finds the server again.
pub(super) struct Keeper {
    kubeconfig: Option<PathBuf>,
    timing: Timing,
    health: Arc<Health>,
    sessions: watch::Sender<Option<Arc<Session>>>,
    losses: mpsc::UnboundedReceiver<u64>,
    to: mpsc::Sender<Told>,
}

impl Link {
    /// A link, and who keeps it.
    pub fn new(
        kubeconfig: Option<PathBuf>,
        timing: Timing,
        health: Arc<Health>,
        to: mpsc::Sender<Told>,
    ) -> (Self, Keeper) {
        let (sender, sessions) = watch::channel(None);
        // Each task says it once, and waits for what is found.
        let (lost, losses) = mpsc::unbounded_channel();
        let keeper = Keeper { kubeconfig, timing, health, sessions: sender, losses, to };
        let answers = Arc::new(watch::Sender::new(0));
        (Self { sessions, losses: lost, answers }, keeper)
    }

    /// The server, as soon as it is there.
    pub async fn session(&self) -> Arc<Session> {
        self.wait_for(|_| true).await
    }

    /// There was no answer in that session: returns when the server was found again, and whether
    /// it was away meanwhile.
    pub async fn lost(&self, session: &Session) -> bool {
        // Otherwise all of it ends.
        let _ = self.losses.send(session.number);
        let later = |now: &Session| now.number > session.number;
        self.wait_for(later).await.outages > session.outages
    }

    /// Returns when the server was away since that session began, and is there again.
    pub async fn is_back(&self, session: &Session) {
        self.wait_for(|now| now.outages > session.outages).await;
    }

    /// What had failed was answered: others that had, such as for want of an etcd, may be.
    pub fn answered(&self) {
        self.answers.send_modify(|count| *count += 1);
    }

    /// Returns when something of another task is answered that had failed.
    pub async fn is_answering(&self) {
        let mut answers = self.answers.subscribe();
        // The sender is there for as long as this is.
        let _ = answers.changed().await;
    }

    /// Some session, if all of it does not end.
    async fn wait_for(&self, is: impl Fn(&Session) -> bool) -> Arc<Session> {
        let mut sessions = self.sessions.clone();
        let found = sessions.wait_for(|now| now.as_deref().is_some_and(&is)).await;
        match found.ok().and_then(|found| found.clone()) {
            Some(session) => session,
            None => std::future::pending().await,
        }
    }
}

#[derive(Deserialize)]
struct Namespaces {
    items: Vec<Namespace>,
}

#[derive(Deserialize)]
struct Namespace {
    metadata: Metadata,
}

#[derive(Deserialize)]
struct Metadata {
    uid: String,
}

impl Keeper {
    /// Keeps the link until nobody uses it any more.
    pub async fn run(mut self) {
        let (mut number, mut outages) = (0, 0);
        loop {
            let (server, identity, at_once) = self.reach().await;
            self.health.reached(identity.as_deref());
            number += 1;
            outages += u64::from(!at_once);
            // Before anybody says what is there.
            if self.to.send(Told::Reached(identity)).await.is_err() {
                return;
            }
            let session = Arc::new(Session { server, number, outages });
            self.sessions.send_replace(Some(Arc::clone(&session)));
            loop {
                tokio::select! {
                    lost = self.losses.recv() => match lost {
                        None => return,
                        // Of one before: it was found again since.
                        Some(lost) if lost < number => {}
                        Some(_) => break,
                    },
                    error = silence(&self.health, &self.timing, &session.server) => {
                        self.health.lost(&error);
                        outages += 1;
                        break;
                    }
                }
            }
            self.sessions.send_replace(None);
        }
    }

    /// Tries until the server answers; says which cluster it is of, if it says so, and whether it
    /// answered the first time.
    async fn reach(&self) -> (Server, Option<String>, bool) {
        let mut backoff = Backoff::new(&self.timing);
        let mut at_once = true;
        loop {
            match self.attempt().await {
                Ok((server, identity)) => return (server, identity, at_once),
                Err((error, wish)) => {
                    at_once = false;
                    self.health.lost(&error);
                    sleep(backoff.pause().max(wish)).await;
                }
            }
        }
    }

    /// What the client is made of is read anew each time, and so are its connections: those of
    /// before may be dead without knowing it.
    async fn attempt(&self) -> Result<(Server, Option<String>), (String, Duration)> {
        let (kubeconfig, health) = (self.kubeconfig.clone(), Arc::clone(&self.health));
        let server = Server::connect(kubeconfig, self.timing, health).await;
        let server = server.map_err(|error| (error, Duration::ZERO))?;
        match server.get::<Namespaces>(IDENTITY).await {
            Ok(found) => {
                let uid = found.items.into_iter().next().map(|found| found.metadata.uid);
                Ok((server, uid))
            }
            // It is there, but does not say who it is.
            Err(Failure::Forbidden(_) | Failure::Missing | Failure::Gone(_)) => Ok((server, None)),
            Err(failure) => {
                let wish = match failure {
                    Failure::Busy(_, Some(wish)) => wish,
                    _ => Duration::ZERO,
                };
                Err((failure.to_string(), wish))
            }
        }
    }
}

/// Returns when the server is silent, and does not answer when it is asked.
async fn silence(health: &Health, timing: &Timing, server: &Server) -> String {
    let (mut heard, mut since) = (health.heard(), Instant::now());
    loop {
        sleep(timing.heartbeat / 4).await;
        if std::mem::replace(&mut heard, health.heard()) != heard {
            since = Instant::now();
        }
        if since.elapsed() < timing.heartbeat {
            continue;
        }
        let patience = 2 * timing.connect;
        match timeout(patience, server.get::<IgnoredAny>(IDENTITY)).await {
            Ok(Err(failure)) if failure.is_loss() => return failure.to_string(),
            Ok(_) => {}
            Err(_) => return format!("no answer: silent for {} s", patience.as_secs()),
        }
    }
}
