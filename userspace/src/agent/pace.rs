//! When a report is written: a pure function of times.

use tokio::time::Instant;

use crate::config::Reports;

/// When it is.
#[derive(Debug)]
pub(super) struct Pace {
    reports: Reports,
    /// Of the last one that was written.
    written: Option<Instant>,
    /// When the next one is due at the latest.
    renewal: Instant,
    /// When one is due since something changed.
    change: Option<Instant>,
    /// Not before that, since an attempt failed.
    barred: Option<Instant>,
}

impl Pace {
    /// The first one is due at once.
    pub fn new(reports: Reports, now: Instant) -> Self {
        Self { reports, written: None, renewal: now, change: None, barred: None }
    }

    /// Something may have changed. `chance` is from 0 to below 1: what changes for all nodes at
    /// once is not reported by all at once.
    pub fn changed(&mut self, now: Instant, chance: f64) {
        if self.change.is_none() {
            let soon = now + self.reports.pause.mul_f64(chance);
            self.change = Some(self.written.map_or(soon, |at| soon.max(at + self.reports.pause)));
        }
    }

    /// When the next attempt is due.
    pub fn due(&self) -> Instant {
        let due = self.change.map_or(self.renewal, |at| at.min(self.renewal));
        self.barred.map_or(due, |at| due.max(at))
    }

    /// Whether a renewal is due, though nothing has changed.
    pub fn is_renewal(&self, now: Instant) -> bool {
        self.renewal <= now
    }

    /// There was nothing to write.
    pub fn passed(&mut self) {
        self.change = None;
    }

    /// It was written. Renewals are sooner by up to a fifth, by chance.
    pub fn wrote(&mut self, now: Instant, chance: f64) {
        (self.written, self.change, self.barred) = (Some(now), None, None);
        self.renewal = now + self.reports.renewal.mul_f64(1.0 - chance / 5.0);
    }

    /// It is tried again after a pause.
    pub fn failed(&mut self, until: Instant) {
        self.barred = Some(until);
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    fn pace() -> (Pace, Instant) {
        let now = Instant::now();
        let reports = Reports { pause: Duration::from_secs(2), renewal: Duration::from_secs(300) };
        (Pace::new(reports, now), now)
    }

    #[test]
    fn the_first_is_due_at_once_and_the_next_before_it_would_be_missed() {
        let (mut pace, now) = pace();
        assert!(pace.due() <= now && pace.is_renewal(now));
        pace.wrote(now, 0.0);
        assert_eq!(pace.due(), now + Duration::from_secs(300));
        pace.wrote(now, 0.5);
        assert_eq!(pace.due(), now + Duration::from_secs(270));
        assert!(!pace.is_renewal(now + Duration::from_secs(269)));
    }

    #[test]
    fn a_change_is_reported_within_the_pause_and_no_two_within_one() {
        let (mut pace, now) = pace();
        let at = |seconds: f64| now + Duration::from_secs_f64(seconds);
        pace.wrote(now, 0.0);
        // Long after the last one.
        pace.changed(at(10.0), 0.5);
        assert_eq!(pace.due(), at(11.0));
        // More of them do not put it off.
        pace.changed(at(10.9), 0.9);
        assert_eq!(pace.due(), at(11.0));
        pace.wrote(at(11.0), 0.0);
        // Right after it.
        pace.changed(at(11.1), 0.1);
        assert_eq!(pace.due(), at(13.0));
        // What came to nothing is over.
        pace.passed();
        assert_eq!(pace.due(), at(311.0));
    }

    #[test]
    fn after_a_failure_neither_a_change_nor_a_renewal_is_tried_before_its_time() {
        let (mut pace, now) = pace();
        let later = now + Duration::from_secs(8);
        pace.failed(later);
        pace.changed(now, 0.0);
        assert_eq!(pace.due(), later);
        pace.wrote(later, 0.0);
        assert_eq!(pace.due(), later + Duration::from_secs(300));
    }
}
