//! Following one kind: it is listed, then watched from there on for as long as the server's
//! history allows.

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::mpsc;
use tokio::time::{Instant, sleep, timeout};

use super::client::{Event, Page, parsed};
use super::failure::Failure;
use super::health::{Health, Standing, Verb};
use super::link::{Link, Session};
use super::object::Object;
use super::served::Served;
use super::timing::{Backoff, Timing};
use super::told::{News, Told};

/// Who follows one kind.
pub(super) struct Watcher {
    served: Served,
    /// Tells what it says from what one before it said.
    run: u64,
    link: Link,
    timing: Timing,
    health: Arc<Health>,
    to: mpsc::Sender<Told>,
    /// Up to where it has told everything; `None` if it has to be listed.
    position: Option<String>,
    /// Whether the server may have gone back to before that position: an etcd that was restored
    /// knows nothing of what came after, and a watch from there would say nothing.
    doubted: bool,
    /// What was asked for last.
    verb: Verb,
    /// Since when it watches, if the server took that.
    watching: Option<Instant>,
    /// Whether the last attempt was in vain.
    has_failed: bool,
    /// How long a watch may be silent.
    patience: Duration,
    /// When it was heard last.
    heard: Option<Instant>,
}

/// Why a watch ended that did not fail.
enum End {
    /// The server ended it, as it does in time.
    Closed,
    /// Nothing was heard for too long.
    Silent,
    /// The server was away: this connection may not know it.
    Back,
}

impl Watcher {
    pub fn new(
        (served, run): (Served, u64),
        link: Link,
        timing: Timing,
        health: Arc<Health>,
        to: mpsc::Sender<Told>,
    ) -> Self {
        let (position, doubted, verb, watching) = (None, false, Verb::List, None);
        let (has_failed, patience, heard) = (false, timing.silence, None);
        Self {
            served,
            run,
            link,
            timing,
            health,
            to,
            position,
            doubted,
            verb,
            watching,
            has_failed,
            patience,
            heard,
        }
    }

    /// Follows it until it is dropped.
    pub async fn run(mut self) {
        let mut backoff = Backoff::new(&self.timing);
        let mut failures = 0;
        // Whether it was told since it last worked that its position is too old.
        let mut outdated = false;
        loop {
            let session = self.link.session().await;
            self.watching = None;
            let ended = self.follow(&session).await;
            let watched = self.watching.map_or(Duration::ZERO, |since| since.elapsed());
            // An end that comes at once is like a failure.
            let worked = watched > self.timing.first_pause;
            if worked {
                backoff.reset();
                (failures, outdated) = (0, false);
            }
            match ended {
                Ok(End::Closed) if worked => continue,
                Ok(End::Closed) => failures += 1,
                Ok(ended @ (End::Silent | End::Back)) => {
                    if matches!(ended, End::Silent) {
                        self.patience = (2 * self.patience).min(2 * self.timing.watch);
                    }
                    self.doubted = true;
                    self.tell(News::Waiting).await;
                    continue;
                }
                // It is listed instead: no failure, unless that leads to the same.
                Err(Failure::Gone(_)) if self.position.is_some() && !outdated => {
                    (self.position, outdated) = (None, true);
                    continue;
                }
                Err(failure) => {
                    failures += 1;
                    self.failed(&failure, failures).await;
                    let was_away = failure.is_loss() && self.link.lost(&session).await;
                    if was_away {
                        backoff.reset();
                        failures = 0;
                        continue;
                    }
                    // The first time there is nothing to wait for.
                    if failures == 1 && (failure.is_loss() || matches!(failure, Failure::Gone(_))) {
                        continue;
                    }
                    if let Failure::Busy(_, Some(wish)) = failure {
                        sleep(wish).await;
                    }
                }
            }
            self.has_failed = true;
            tokio::select! {
                () = sleep(backoff.pause()) => {}
                () = self.link.is_back(&session) => backoff.reset(),
                () = self.link.is_answering() => {}
            }
        }
    }

    async fn failed(&mut self, failure: &Failure, failures: u32) {
        let what = self.served.what;
        let error = format!("cannot {} {what}: {failure}", self.verb.name());
        match failure {
            Failure::Gone(_) => self.position = None,
            Failure::Unreachable(_) | Failure::Unauthorized(_) => self.doubted = true,
            _ => {}
        }
        // What is over at once is not worth a word. What is not served any more will be known.
        if failures > 1 || !(failure.is_passing() || *failure == Failure::Missing) {
            let standing = match failure {
                Failure::Forbidden(_) => Standing::Forbidden(error),
                _ => Standing::Failing(error),
            };
            self.health.standing(what, standing);
        }
        self.tell(match failure {
            Failure::Missing => News::Missing,
            failure if failure.is_passing() => News::Waiting,
            _ => News::Failing,
        })
        .await;
    }

    /// Lists it, unless it is known from where on to watch; and watches it.
    async fn follow(&mut self, session: &Arc<Session>) -> Result<End, Failure> {
        if let (Some(position), true) = (&self.position, self.doubted) {
            self.verb = Verb::List;
            let now = session.server.version(&self.served).await?;
            if is_before(&now, position) {
                self.position = None;
            }
        }
        self.doubted = false;
        if self.position.is_none() {
            self.verb = Verb::List;
            self.list(session).await?;
        }
        self.verb = Verb::Watch;
        self.watch(session).await
    }

    async fn list(&mut self, session: &Session) -> Result<(), Failure> {
        let what = self.served.what;
        self.health.standing(what, Standing::Listing);
        self.tell(News::Listing).await;
        let server = &session.server;
        let (mut next, mut size) = (String::new(), server.page());
        loop {
            let text = match server.list(&self.served, &next, size).await {
                // The pages that are left are those of a list which the server has forgotten.
                Err(Failure::Gone(_)) if size > 0 && !next.is_empty() => {
                    (next, size) = (String::new(), 0);
                    self.tell(News::Listing).await;
                    continue;
                }
                text => text?,
            };
            let page: Page<'_> = parsed(&text)?;
            let mut objects = Vec::new();
            for item in page.items.unwrap_or_default() {
                objects.push(object(item.get(), &self.served)?);
            }
            self.tell(News::Page(objects)).await;
            if page.metadata.next.is_empty() {
                self.health.at(what, &page.metadata.resource_version);
                self.position = Some(page.metadata.resource_version.clone());
                self.got_through();
                self.tell(News::Listed(page.metadata.resource_version)).await;
                return Ok(());
            }
            next = page.metadata.next;
        }
    }

    async fn watch(&mut self, session: &Arc<Session>) -> Result<End, Failure> {
        let what = self.served.what;
        let position = self.position.clone().unwrap_or_default();
        let mut lines = session.server.watch(&self.served, &position).await?;
        self.health.standing(what, Standing::Following);
        self.health.reconnected(what);
        self.watching = Some(Instant::now());
        self.got_through();
        self.tell(News::Resumed).await;
        let link = self.link.clone();
        let back = link.is_back(session);
        tokio::pin!(back);
        loop {
            let line = tokio::select! {
                line = timeout(self.patience, lines.next()) => line,
                () = &mut back => return Ok(End::Back),
            };
            let line = match line {
                Err(_) => return Ok(End::Silent),
                Ok(line) => line?,
            };
            match line {
                None => return Ok(End::Closed),
                Some(line) if line.trim_ascii().is_empty() => {}
                Some(line) => self.event(parsed(line)?).await?,
            }
        }
    }

    async fn event(&mut self, event: Event<'_>) -> Result<(), Failure> {
        let what = self.served.what;
        if event.what == "ERROR" {
            let status = parsed(event.object.get().as_bytes())?;
            return Err(Failure::of_status(status));
        }
        let object = object(event.object.get(), &self.served)?;
        if self.position.as_ref().is_some_and(|position| is_before(&object.version, position)) {
            let message = format!("the server went back to version {}", object.version);
            return Err(Failure::Gone(message));
        }
        self.health.at(what, &object.version);
        // What is heard so often would be heard.
        let heard = self.heard.replace(Instant::now());
        if heard.is_some_and(|last| last.elapsed() < self.timing.silence) {
            self.patience = self.timing.silence;
        }
        let version = object.version.clone();
        match event.what.as_ref() {
            "ADDED" | "MODIFIED" => {
                self.health.event(what);
                self.tell(News::Put(object)).await;
            }
            "DELETED" => {
                self.health.event(what);
                self.tell(News::Deleted(object.key, object.version)).await;
            }
            "BOOKMARK" => self.tell(News::At(object.version)).await,
            // What servers have come to say since.
            _ => {}
        }
        self.position = Some(version);
        Ok(())
    }

    fn got_through(&mut self) {
        if std::mem::take(&mut self.has_failed) {
            self.link.answered();
        }
    }

    async fn tell(&self, news: News) {
        let told = Told::Of(self.served.what, self.run, news);
        if self.to.send(told).await.is_err() {
            // All of it ends.
            std::future::pending::<()>().await;
        }
    }
}

fn object(json: &str, of: &Served) -> Result<Object, Failure> {
    Object::read(json, of)
        .map_err(|error| Failure::Rejected(format!("an object that cannot be read: {error}")))
}

/// Whether a version is before another. They are numbers (KEP-5504); what is none may be
/// anything, and is taken for one that is not.
fn is_before(one: &str, other: &str) -> bool {
    matches!((one.parse::<u64>(), other.parse::<u64>()), (Ok(one), Ok(other)) if one < other)
}
