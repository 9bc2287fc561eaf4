//! Permits for connections, and who gives up one when all are taken.

use std::cmp::Reverse;
use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::sync::oneshot;
use tokio::time::Instant;

/// What an honest client has before it can lose its permit: it sends its request
/// when it has connected, and takes an answer when that is there.
const MOMENT: Duration = Duration::from_millis(50);

/// A client, as far as sharing goes.
pub trait QuotaOwner: Clone + Send + Sync + 'static {
    /// Clients of the same kind share what they get.
    type QuotaKey: Ord + Clone + Send + 'static;

    /// What kind.
    fn quota_key(&self) -> Self::QuotaKey;
}

/// What a connection waits for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Phase {
    /// For the client, to send its request.
    Asking,
    /// For us.
    Working,
    /// For the client, to take the answer.
    Answering,
}

/// A connection that has a permit.
struct Holder<K> {
    of: K,
    phase: Phase,
    /// When that began.
    since: Instant,
    evict: oneshot::Sender<()>,
}

/// All that have a permit, by age.
struct Table<K> {
    holders: BTreeMap<u64, Holder<K>>,
    next: u64,
}

/// Why there is no permit.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Full {
    /// There may be one from then on.
    Until(Instant),
    /// All are taken by clients that wait for us, or by those of clients that
    /// have fewer than the new one.
    Busy,
}

/// A limited number of connections.
pub(super) struct Permits<K> {
    limit: usize,
    table: Arc<Mutex<Table<K>>>,
}

impl<K: Ord + Clone> Permits<K> {
    pub fn new(limit: usize) -> Self {
        let table = Table { holders: BTreeMap::new(), next: 0 };
        Self { limit, table: Arc::new(Mutex::new(table)) }
    }

    /// A permit for a new client, and what is ready when it has to give that up.
    pub fn take(&self, of: K, now: Instant) -> Result<(Permit<K>, oneshot::Receiver<()>), Full> {
        let mut table = lock(&self.table);
        if table.holders.len() >= self.limit {
            let holders = table.holders.iter().map(|(&id, holder)| (id, &holder.of, holder.phase));
            let victim = yields(holders, &of).ok_or(Full::Busy)?;
            let ready = table.holders.get(&victim).map_or(now, |holder| holder.since + MOMENT);
            if ready > now {
                return Err(Full::Until(ready));
            }
            if let Some(holder) = table.holders.remove(&victim) {
                // It may just have ended.
                let _ = holder.evict.send(());
            }
        }
        let (evict, evicted) = oneshot::channel();
        let id = table.next;
        table.next += 1;
        table.holders.insert(id, Holder { of, phase: Phase::Asking, since: now, evict });
        Ok((Permit { id, table: Arc::clone(&self.table) }, evicted))
    }

    /// Evicts those that have not asked yet.
    pub fn close(&self) {
        let mut table = lock(&self.table);
        let asking = table.holders.extract_if(.., |_, holder| holder.phase == Phase::Asking);
        for (_, holder) in asking {
            let _ = holder.evict.send(());
        }
    }
}

fn lock<K>(table: &Mutex<Table<K>>) -> MutexGuard<'_, Table<K>> {
    table.lock().unwrap_or_else(PoisonError::into_inner)
}

/// The permit of a connection, until this is dropped.
pub(super) struct Permit<K> {
    id: u64,
    table: Arc<Mutex<Table<K>>>,
}

impl<K> Permit<K> {
    /// Says what the connection waits for from now on.
    pub fn enter(&self, phase: Phase) {
        if let Some(holder) = lock(&self.table).holders.get_mut(&self.id) {
            (holder.phase, holder.since) = (phase, Instant::now());
        }
    }
}

impl<K> Drop for Permit<K> {
    fn drop(&mut self) {
        lock(&self.table).holders.remove(&self.id);
    }
}

/// Who gives up a permit for a candidate: of those who have the most, the one that
/// is there for longest. Nobody who waits for us, and nobody who has fewer connections
/// than the candidate would have.
fn yields<'a, K: Ord + 'a>(
    holders: impl Iterator<Item = (u64, &'a K, Phase)> + Clone,
    candidate: &K,
) -> Option<u64> {
    let mut counts = BTreeMap::from([(candidate, 1_usize)]);
    for (_, of, _) in holders.clone() {
        *counts.entry(of).or_default() += 1;
    }
    holders
        .filter(|&(_, of, phase)| phase != Phase::Working && counts[of] >= counts[candidate])
        .max_by_key(|&(id, of, _)| (counts[of], Reverse(id)))
        .map(|(id, ..)| id)
}

#[cfg(test)]
mod tests {
    use super::*;
    use Phase::{Answering, Asking, Working};

    fn chosen(holders: &[(&str, Phase)], candidate: &str) -> Option<u64> {
        let holders = holders.iter().enumerate().map(|(id, (of, phase))| (id as u64, of, *phase));
        yields(holders, &candidate)
    }

    #[test]
    fn the_oldest_of_those_who_have_most_gives_way() {
        for (holders, candidate, expected) in [
            (&[("a", Asking), ("b", Asking)][..], "c", Some(0)),
            (&[("a", Asking), ("b", Asking), ("b", Asking)], "c", Some(1)),
            (&[("a", Asking), ("b", Answering), ("b", Asking)], "a", Some(0)),
            (&[("a", Working), ("a", Answering), ("b", Asking)], "a", Some(1)),
            (&[("a", Working), ("a", Working)], "b", None),
            // Not from those who have less.
            (&[("a", Working), ("a", Working), ("b", Asking)], "a", None),
            (&[("a", Working), ("b", Asking)], "c", Some(1)),
        ] {
            assert_eq!(chosen(holders, candidate), expected, "{holders:?} {candidate}");
        }
    }

    #[test]
    fn places_are_given_up_and_given_back() {
        let (permits, now) = (Permits::new(2), Instant::now());
        let (first, mut first_evicted) = permits.take("a", now).unwrap();
        let (second, mut second_evicted) = permits.take("a", now).unwrap();
        assert!(first_evicted.try_recv().is_err(), "there is room");
        first.enter(Working);
        let full = permits.take("b", now).err();
        assert_eq!(full, Some(Full::Until(now + MOMENT)), "the second has a moment");
        let (third, _evicted) = permits.take("b", now + MOMENT).unwrap();
        assert!(second_evicted.try_recv().is_ok(), "the second gives way");
        third.enter(Working);
        let later = now + 2 * MOMENT;
        assert_eq!(permits.take("a", later).err(), Some(Full::Busy), "both wait for us");
        // It has no permit any more, and gives none back.
        second.enter(Asking);
        drop(second);
        assert_eq!(permits.take("a", later).err(), Some(Full::Busy));
        drop(first);
        assert!(permits.take("a", later).is_ok());
    }
}
