//! Leases among several, by clocks of their own.

use std::time::{Duration, Instant};

use crate::controller::election::{DURATION, EVERY, Election, Move, Record, WRITES};

fn record(holder: &str, version: u64) -> Option<Record> {
    Some(Record { holder: holder.into(), version: version.to_string(), duration: DURATION })
}

#[test]
fn the_first_makes_it_and_renews_it_and_others_wait() {
    let now = Instant::now();
    let (mut one, mut other) = (Election::new("one".into()), Election::new("other".into()));
    assert_eq!(one.look(None, now), Move::Create);
    assert_eq!(one.writes_until(), None);
    one.won(now);
    assert_eq!(one.writes_until(), Some(now + WRITES));
    assert_eq!(other.look(record("one", 1), now), Move::Wait);
    let later = now + EVERY;
    assert_eq!(one.look(record("one", 1), later), Move::Renew);
    one.won(later);
    assert_eq!(one.writes_until(), Some(later + WRITES));
}

#[test]
fn another_takes_it_when_it_was_not_renewed_for_so_long_and_not_before() {
    let now = Instant::now();
    let mut other = Election::new("other".into());
    assert_eq!(other.look(record("one", 1), now), Move::Wait);
    // A renewal counts from when it is seen.
    let seen = now + Duration::from_secs(10);
    assert_eq!(other.look(record("one", 2), seen), Move::Wait);
    let almost = seen + DURATION - Duration::from_millis(1);
    assert_eq!(other.look(record("one", 2), almost), Move::Wait);
    assert_eq!(other.look(record("one", 2), seen + DURATION), Move::Take);
    // Who held it has written no more for a while by then.
    const { assert!(WRITES.as_secs() < DURATION.as_secs() && EVERY.as_secs() < WRITES.as_secs()) };
}

#[test]
fn one_that_was_given_back_is_taken_at_once() {
    let mut other = Election::new("other".into());
    assert_eq!(other.look(record("", 3), Instant::now()), Move::Take);
}

#[test]
fn who_lost_it_writes_no_more() {
    let now = Instant::now();
    let mut one = Election::new("one".into());
    one.won(now);
    assert_eq!(one.look(record("other", 9), now), Move::Wait);
    assert_eq!(one.writes_until(), None);
    one.won(now);
    one.lost();
    assert_eq!(one.writes_until(), None);
    // Without an answer it is over by itself.
    one.won(now);
    assert!(one.writes_until().is_some_and(|until| until < now + DURATION));
}
