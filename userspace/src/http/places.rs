//! Places for connections, and who gives up one when all are taken.

use std::cmp::Reverse;
use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::sync::oneshot;
use tokio::time::Instant;

/// What an honest client has before it can lose its place: it sends its request
/// when it has connected, and takes an answer when that is there.
const MOMENT: Duration = Duration::from_millis(50);

/// A client, as far as sharing goes.
pub trait Owner: Clone + Send + Sync + 'static {
    /// Clients of the same kind share what they get.
    type Of: Ord + Clone + Send + 'static;

    /// What kind.
    fn of(&self) -> Self::Of;
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

/// A connection that has a place.
struct Seat<K> {
    of: K,
    phase: Phase,
    /// When that began.
    since: Instant,
    evict: oneshot::Sender<()>,
}

/// All that have a place, by age.
struct Table<K> {
    seats: BTreeMap<u64, Seat<K>>,
    next: u64,
}

/// Why there is no place.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Full {
    /// There may be one from then on.
    Until(Instant),
    /// All are taken by clients that wait for us, or by those of clients that
    /// have fewer than the new one.
    Busy,
}

/// So many places.
pub(super) struct Places<K> {
    limit: usize,
    table: Arc<Mutex<Table<K>>>,
}

impl<K: Ord + Clone> Places<K> {
    pub fn new(limit: usize) -> Self {
        let table = Table { seats: BTreeMap::new(), next: 0 };
        Self { limit, table: Arc::new(Mutex::new(table)) }
    }

    /// A place for a new client, and what is ready when it has to give that up.
    pub fn take(&self, of: K, now: Instant) -> Result<(Place<K>, oneshot::Receiver<()>), Full> {
        let mut table = lock(&self.table);
        if table.seats.len() >= self.limit {
            let seats = table.seats.iter().map(|(&id, seat)| (id, &seat.of, seat.phase));
            let victim = yields(seats, &of).ok_or(Full::Busy)?;
            let ready = table.seats.get(&victim).map_or(now, |seat| seat.since + MOMENT);
            if ready > now {
                return Err(Full::Until(ready));
            }
            if let Some(seat) = table.seats.remove(&victim) {
                // It may just have ended.
                let _ = seat.evict.send(());
            }
        }
        let (evict, evicted) = oneshot::channel();
        let id = table.next;
        table.next += 1;
        table.seats.insert(id, Seat { of, phase: Phase::Asking, since: now, evict });
        Ok((Place { id, table: Arc::clone(&self.table) }, evicted))
    }

    /// Takes their places from those that have not asked yet.
    pub fn close(&self) {
        let mut table = lock(&self.table);
        let asking = table.seats.extract_if(.., |_, seat| seat.phase == Phase::Asking);
        for (_, seat) in asking {
            let _ = seat.evict.send(());
        }
    }
}

fn lock<K>(table: &Mutex<Table<K>>) -> MutexGuard<'_, Table<K>> {
    table.lock().unwrap_or_else(PoisonError::into_inner)
}

/// The place of a connection, until this is dropped.
pub(super) struct Place<K> {
    id: u64,
    table: Arc<Mutex<Table<K>>>,
}

impl<K> Place<K> {
    /// Says what the connection waits for from now on.
    pub fn enter(&self, phase: Phase) {
        if let Some(seat) = lock(&self.table).seats.get_mut(&self.id) {
            (seat.phase, seat.since) = (phase, Instant::now());
        }
    }
}

impl<K> Drop for Place<K> {
    fn drop(&mut self) {
        lock(&self.table).seats.remove(&self.id);
    }
}

/// Who gives up a place for a newcomer: of those who have the most, the one that
/// is there for longest. Nobody who waits for us, and nobody who has fewer places
/// than the newcomer would have.
fn yields<'a, K: Ord + 'a>(
    seats: impl Iterator<Item = (u64, &'a K, Phase)> + Clone,
    newcomer: &K,
) -> Option<u64> {
    let mut counts = BTreeMap::from([(newcomer, 1_usize)]);
    for (_, of, _) in seats.clone() {
        *counts.entry(of).or_default() += 1;
    }
    seats
        .filter(|&(_, of, phase)| phase != Phase::Working && counts[of] >= counts[newcomer])
        .max_by_key(|&(id, of, _)| (counts[of], Reverse(id)))
        .map(|(id, ..)| id)
}

#[cfg(test)]
mod tests {
    use super::*;
    use Phase::{Answering, Asking, Working};

    fn chosen(seats: &[(&str, Phase)], newcomer: &str) -> Option<u64> {
        let seats = seats.iter().enumerate().map(|(id, (of, phase))| (id as u64, of, *phase));
        yields(seats, &newcomer)
    }

    #[test]
    fn the_oldest_of_those_who_have_most_gives_way() {
        for (seats, newcomer, expected) in [
            (&[("a", Asking), ("b", Asking)][..], "c", Some(0)),
            (&[("a", Asking), ("b", Asking), ("b", Asking)], "c", Some(1)),
            (&[("a", Asking), ("b", Answering), ("b", Asking)], "a", Some(0)),
            (&[("a", Working), ("a", Answering), ("b", Asking)], "a", Some(1)),
            (&[("a", Working), ("a", Working)], "b", None),
            // Not from those who have less.
            (&[("a", Working), ("a", Working), ("b", Asking)], "a", None),
            (&[("a", Working), ("b", Asking)], "c", Some(1)),
        ] {
            assert_eq!(chosen(seats, newcomer), expected, "{seats:?} {newcomer}");
        }
    }

    #[test]
    fn places_are_given_up_and_given_back() {
        let (places, now) = (Places::new(2), Instant::now());
        let (first, mut first_evicted) = places.take("a", now).unwrap();
        let (second, mut second_evicted) = places.take("a", now).unwrap();
        assert!(first_evicted.try_recv().is_err(), "there is room");
        first.enter(Working);
        let full = places.take("b", now).err();
        assert_eq!(full, Some(Full::Until(now + MOMENT)), "the second has a moment");
        let (third, _evicted) = places.take("b", now + MOMENT).unwrap();
        assert!(second_evicted.try_recv().is_ok(), "the second gives way");
        third.enter(Working);
        let later = now + 2 * MOMENT;
        assert_eq!(places.take("a", later).err(), Some(Full::Busy), "both wait for us");
        // It has no place any more, and gives none back.
        second.enter(Asking);
        drop(second);
        assert_eq!(places.take("a", later).err(), Some(Full::Busy));
        drop(first);
        assert!(places.take("a", later).is_ok());
    }
}
