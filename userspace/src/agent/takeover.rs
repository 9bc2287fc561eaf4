//! Connections that something else on the node translated before weir steered their service, such
//! as netfilter by kube-proxy's rules: they go on as they were, for as long as they live.
//!
//! Whenever weir begins to see packets of a service that others served so far, since the service
//! or an interface is new to it: what connection tracking knows by then is told to the programs,
//! and until all is known, TCP segments of no known flow pass (see `probe-ebpf/src/foreign.rs`).
//! Then it is read again, for what has begun meanwhile; and from time to time whether the
//! connections are still there.

use std::collections::HashSet;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result};
use tracing::{info, warn};

use super::background::Background;
use crate::api::types::TakeoverView;
use crate::conntrack::{self, Connection, Conntrack, Phase};
use crate::datapath::{DatapathError, Foreign, Gate, Pins, Told};
use crate::model::{Protocol, ServiceAddress};

/// Segments of no known flow pass for no longer than that, whatever happens to the agent.
const BOUND: Duration = Duration::from_secs(10);
/// What has passed the programs just before they knew the service is with connection tracking
/// after that.
const DEBOUNCE: Duration = Duration::from_millis(200);
/// A reading that failed is tried again after that.
const RETRY: Duration = Duration::from_secs(1);
/// How often is looked whether connections are still there.
const PERIOD: Duration = Duration::from_secs(5);
/// What was read is not read anew for the next interface, where many come at once: of what began
/// meanwhile, TCP waits for the reading that follows.
const FRESH: Duration = Duration::from_secs(1);
/// How long a thread that is to end may take to see that.
const LOOK: Duration = Duration::from_millis(200);

/// What is known of such connections, and still to be read.
pub(super) struct Takeover {
    foreign: Foreign,
    inner: Mutex<Inner>,
    /// There is something to be read.
    asked: Condvar,
}

struct Inner {
    gate: Gate,
    /// Service addresses of which the connections are to be read.
    wanted: HashSet<ServiceAddress>,
    /// When that is to be done; None as long as weir does not steer them.
    due: Option<Instant>,
    /// Until when segments of no known flow pass, at most.
    until: Instant,
    /// Counts what was asked for.
    round: u64,
    /// Of which addresses connections were read before the last one was steered, and when.
    read: Option<(Instant, HashSet<ServiceAddress>)>,
    view: TakeoverView,
}

/// What a reading found.
#[derive(Debug, Default)]
struct Found {
    known: u64,
    full: u64,
}

impl Takeover {
    /// Takes the pinned maps, and goes on with what is in them.
    pub fn load(pins: &Pins) -> Result<Arc<Self>, DatapathError> {
        let (foreign, gate) = (Foreign::pinned(pins)?, Gate::pinned(pins)?);
        let connections = foreign.all().map_err(DatapathError::Flows)?.len() as u64;
        let inner = Inner {
            gate,
            wanted: HashSet::new(),
            due: None,
            until: Instant::now(),
            round: 0,
            read: None,
            view: TakeoverView { connections, ..TakeoverView::default() },
        };
        Ok(Arc::new(Self { foreign, inner: Mutex::new(inner), asked: Condvar::new() }))
    }

    /// Reads the connections to these addresses, if an agent before this one had no time for it.
    pub fn resume(
        &self,
        addresses: impl FnOnce() -> HashSet<ServiceAddress>,
    ) -> Result<(), DatapathError> {
        let is_waiting = self.lock().gate.is_waiting()?;
        if is_waiting {
            self.expect(addresses());
            self.published();
        }
        Ok(())
    }

    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// For status.
    pub fn view(&self) -> TakeoverView {
        self.lock().view.clone()
    }

    /// Weir is about to see packets to these addresses that others served so far. To be followed
    /// by [`Self::published`]. What fails leaves it as if there were no such connections.
    pub fn expect(&self, addresses: HashSet<ServiceAddress>) {
        if addresses.is_empty() {
            return;
        }
        let mut inner = self.lock();
        let result = inner.expect(&self.foreign, addresses);
        inner.view.note(result);
    }

    /// What was expected has come about, or not: connections can be read.
    pub fn published(&self) {
        let mut inner = self.lock();
        if !inner.wanted.is_empty() {
            inner.due = Some(Instant::now() + DEBOUNCE);
            self.asked.notify_one();
        }
    }
}

impl TakeoverView {
    /// Whether connection tracking can be read, for people.
    fn note(&mut self, result: Result<()>) {
        let error = result.err().map(|error| format!("{error:#}"));
        if let Some(error) = error.as_ref().filter(|_| self.error != error) {
            warn!("connections that others translated before are not known: {error}");
        }
        self.error = error;
    }
}

/// None where nothing is tracked.
fn tracker() -> Result<Option<Conntrack>> {
    if !conntrack::is_loaded() {
        return Ok(None);
    }
    let mut tracker = Conntrack::open().context("cannot ask connection tracking")?;
    let count = tracker.count().context("cannot ask connection tracking")?;
    Ok((count > 0).then_some(tracker))
}

impl Inner {
    fn expect(&mut self, foreign: &Foreign, addresses: HashSet<ServiceAddress>) -> Result<()> {
        let Some(mut tracker) = tracker()? else { return Ok(()) };
        let last = self.read.as_ref().filter(|(read, _)| read.elapsed() < FRESH);
        let found = if last.is_some_and(|(_, of)| addresses.is_subset(of)) {
            Vec::new()
        } else {
            let now = Instant::now();
            let found = live(&mut tracker, &addresses)?;
            self.read = Some((now, addresses.clone()));
            found
        };
        self.gate.wait(BOUND)?;
        (self.until, self.due) = (Instant::now() + BOUND, None);
        self.round += 1;
        self.view.reading = true;
        self.wanted.extend(addresses);
        // For datagrams nothing waits: these have to be there before the address is steered.
        put(foreign, &found)?;
        self.view.connections += found.len() as u64;
        Ok(())
    }

    /// What is to be read now, and for which round that is.
    fn task(&self) -> Option<(HashSet<ServiceAddress>, u64)> {
        let is_due = self.due.is_some_and(|due| due <= Instant::now());
        is_due.then(|| (self.wanted.clone(), self.round))
    }

    /// Nothing is to be read any more.
    fn done(&mut self, any: bool) -> Result<(), DatapathError> {
        self.wanted.clear();
        (self.due, self.view.reading) = (None, false);
        self.gate.know(any)
    }
}

/// The connections to these addresses that would be cut.
fn live(tracker: &mut Conntrack, to: &HashSet<ServiceAddress>) -> Result<Vec<Connection>> {
    let mut found = Vec::new();
    let visited = tracker.visit(|entry| {
        if entry.is_live() && address(&entry.connection).is_some_and(|of| to.contains(&of)) {
            found.push(entry.connection);
        }
    });
    visited.context("cannot list what connection tracking knows")?;
    Ok(found)
}

fn address(of: &Connection) -> Option<ServiceAddress> {
    let protocols = [Protocol::Tcp, Protocol::Udp];
    let protocol = protocols.into_iter().find(|protocol| protocol.number() == of.protocol)?;
    Some(ServiceAddress { ip: of.service.ip(), port: of.service.port(), protocol })
}

/// Tells the programs.
fn put(foreign: &Foreign, connections: &[Connection]) -> Result<Found> {
    let mut found = Found::default();
    for connection in connections {
        match foreign.put(connection).context("cannot tell the programs")? {
            Told::Known => found.known += 1,
            Told::Full => found.full += 1,
            Told::Steered => {}
        }
    }
    Ok(found)
}

/// The thread that reads, and looks after what is known; it ends on drop.
pub(super) struct Reading(#[expect(dead_code, reason = "held until it is dropped")] Background);

impl Reading {
    /// Starts it.
    pub fn start(takeover: Arc<Takeover>) -> Result<Self> {
        let thread = Background::start("takeover", move |stop| takeover.run(stop));
        Ok(Self(thread?))
    }
}

impl Takeover {
    fn run(&self, stop: &AtomicBool) {
        let mut next_look = Instant::now();
        while !stop.load(Ordering::Relaxed) {
            let waited = self.asked.wait_timeout(self.lock(), LOOK);
            let (inner, _) = waited.unwrap_or_else(PoisonError::into_inner);
            let (task, any) = (inner.task(), inner.view.connections > 0);
            drop(inner);
            if let Some((addresses, round)) = task {
                let result = self.read(&addresses, round);
                let mut inner = self.lock();
                if result.is_err() {
                    inner.put_off();
                }
                inner.view.note(result);
            } else if any && next_look <= Instant::now() {
                let begun = Instant::now();
                let result = self.look();
                self.lock().view.note(result);
                // Of many connections it takes long.
                next_look = Instant::now() + PERIOD.max(begun.elapsed() * 20);
            }
        }
    }

    /// Reads what connection tracking knows by now of connections to these addresses.
    fn read(&self, addresses: &HashSet<ServiceAddress>, round: u64) -> Result<()> {
        let begun = Instant::now();
        let found = match tracker()? {
            Some(mut tracker) => live(&mut tracker, addresses)?,
            None => Vec::new(),
        };
        // Not under the lock: who publishes does not wait for it.
        let found = put(&self.foreign, &found)?;
        let mut inner = self.lock();
        let connections = self.foreign.all()?.len() as u64;
        inner.view.connections = connections;
        if inner.round == round {
            inner.done(connections > 0)?;
        }
        drop(inner);
        if found.known > 0 {
            let time = begun.elapsed();
            info!("{} connections of before go on as they were; read in {time:?}", found.known);
        }
        if found.full > 0 {
            let (full, room) = (found.full, Foreign::ROOM);
            warn!("{full} connections of before are not known: there is room for {room}");
        }
        Ok(())
    }

    /// Forgets the connections that connection tracking has forgotten.
    fn look(&self) -> Result<()> {
        let mut tracker = Conntrack::open().context("cannot ask connection tracking")?;
        for connection in self.foreign.all()? {
            let found = tracker.find(&connection).context("cannot ask connection tracking")?;
            if found.is_none_or(|entry| entry.phase == Some(Phase::Over)) {
                self.foreign.remove(&connection)?;
            }
        }
        let mut inner = self.lock();
        let connections = self.foreign.all()?.len() as u64;
        let before = std::mem::replace(&mut inner.view.connections, connections);
        if connections == 0 && inner.wanted.is_empty() {
            inner.done(false)?;
            if before > 0 {
                info!("the connections of before have ended");
            }
        }
        Ok(())
    }
}

impl Inner {
    /// Reading failed: once more, as long as that is waited for.
    fn put_off(&mut self) {
        let next = Instant::now() + RETRY;
        if next < self.until {
            self.due = Some(next);
            return;
        }
        // The time runs out by itself.
        self.wanted.clear();
        (self.due, self.view.reading) = (None, false);
    }
}
