//! Who of several controllers writes: a pure function of what the lease says and of a clock of
//! one's own, so that clocks may differ.

use std::time::{Duration, Instant};

/// After how long without a renewal another one may take the lease.
pub const DURATION: Duration = Duration::from_secs(15);
/// How long after a renewal who holds it writes: less than that, since requests take time.
pub const WRITES: Duration = Duration::from_secs(10);
/// How often it is renewed, or looked at by others.
pub const EVERY: Duration = Duration::from_secs(3);

/// What a lease says.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Record {
    /// Who holds it; empty if nobody does.
    pub holder: String,
    /// The version of the object: another one is a renewal.
    pub version: String,
    /// For how long it is held after a renewal.
    pub duration: Duration,
}

/// What to do about it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Move {
    /// Nobody has made it.
    Create,
    /// It is one's own.
    Renew,
    /// It is nobody's any more.
    Take,
    /// Somebody else holds it.
    Wait,
}

/// One who would hold it.
#[derive(Debug)]
pub struct Election {
    identity: String,
    /// What was seen last, and since when.
    seen: Option<(Record, Instant)>,
    /// When the request was sent by which it was last made, taken or renewed.
    renewed: Option<Instant>,
}

impl Election {
    /// One of that name, which no other has.
    pub fn new(identity: String) -> Self {
        Self { identity, seen: None, renewed: None }
    }

    /// Its name.
    pub fn identity(&self) -> &str {
        &self.identity
    }

    /// What is to be done, by what the lease says now; `None` if there is none.
    pub fn look(&mut self, record: Option<Record>, now: Instant) -> Move {
        let Some(record) = record else {
            self.seen = None;
            return Move::Create;
        };
        if record.holder != self.identity {
            self.renewed = None;
        }
        let since = match &self.seen {
            Some((seen, since)) if *seen == record => *since,
            _ => now,
        };
        let is_over = record.holder.is_empty() || now >= since + record.duration;
        let is_own = record.holder == self.identity;
        self.seen = Some((record, since));
        match (is_own, is_over) {
            (true, _) => Move::Renew,
            (false, true) => Move::Take,
            (false, false) => Move::Wait,
        }
    }

    /// A request that was sent then has made, taken or renewed it.
    pub fn won(&mut self, sent: Instant) {
        self.renewed = Some(sent);
    }

    /// Somebody else may hold it.
    pub fn lost(&mut self) {
        self.renewed = None;
    }

    /// Until when this one writes, if it does.
    pub fn writes_until(&self) -> Option<Instant> {
        self.renewed.map(|renewed| renewed + WRITES)
    }
}
