//! How long things are waited for.

use std::time::Duration;

/// Times of a follower; tests have shorter ones.
#[derive(Debug, Clone, Copy)]
pub(super) struct Timing {
    /// For a connection, with its TLS handshake.
    pub connect: Duration,
    /// For an answer's beginning, and then for each of its parts.
    pub answer: Duration,
    /// For an event or a bookmark of a watch. Bookmarks come about once a minute; but of a kind
    /// that does not change, they come only where etcd reports its progress. So a watch that was
    /// made anew for nothing is waited for twice as long from then on. That packets are dropped
    /// is noticed by the kernel, in this time.
    pub silence: Duration,
    /// For anything at all from the server. Then it is asked, by one request.
    pub heartbeat: Duration,
    /// The longest that the server is asked to keep a watch. Each is shorter by up to a fifth,
    /// so that those of many nodes, which began together, do not end together.
    pub watch: Duration,
    /// The first pause after a failure.
    pub first_pause: Duration,
    /// The longest one, as other clients of API servers have it. With 10 nodes, and with 5,000,
    /// each of which makes one connection in a pause, some 220 a second in all.
    pub longest_pause: Duration,
    /// How long what comes together is waited for, when nothing was told just before.
    pub gather: Duration,
    /// The shortest time between two batches: changes that go on are collected for so long.
    pub collect: Duration,
    /// How long a kind that is watched again, after the server was away, takes to say what
    /// happened meanwhile; others wait for that.
    pub catch_up: Duration,
    /// How long changes wait, when nothing was told yet, for more of kinds that are not listed
    /// whole.
    pub first_hold: Duration,
    /// How long changes wait for more of kinds that are being listed again, or for the first time
    /// because others came to need them.
    pub hold: Duration,
    /// For how long some of a list can come late, and be waited for.
    pub longest_hold: Duration,
    /// How long changes wait at most for kinds that the server does not answer for.
    pub short_hold: Duration,
    /// How long after a change of definitions it is asked what is served: discovery follows some
    /// time later.
    pub discovery: [Duration; 3],
    /// How often it is asked what is served, when changes of definitions cannot be followed.
    pub undefined: Duration,
    /// How long Pods are followed after the last document that selects by labels has gone.
    pub linger: Duration,
    /// How often it is told at most up to where all is known, when there is nothing else to tell.
    pub positions: Duration,
    /// The shortest time between two writes of the cache.
    pub cache: Duration,
}

impl Default for Timing {
    fn default() -> Self {
        let ms = Duration::from_millis;
        Self {
            connect: ms(5_000),
            answer: ms(30_000),
            silence: ms(90_000),
            heartbeat: ms(60_000),
            watch: ms(290_000),
            first_pause: ms(800),
            longest_pause: ms(30_000),
            gather: ms(5),
            collect: ms(50),
            catch_up: ms(100),
            first_hold: ms(30_000),
            hold: ms(10_000),
            longest_hold: ms(300_000),
            short_hold: ms(3_000),
            discovery: [ms(200), ms(2_000), ms(10_000)],
            undefined: ms(300_000),
            linger: ms(60_000),
            positions: ms(20_000),
            cache: ms(5_000),
        }
    }
}

/// A number from 0 to below 1, from the kernel: what many nodes would do at once, they do at
/// times of their own.
pub fn chance() -> f64 {
    // Without a number from the kernel, nodes are not told apart; nothing else follows.
    let bits = getrandom::u32().unwrap_or(u32::MAX / 2);
    f64::from(bits) / (f64::from(u32::MAX) + 1.0)
}

/// Pauses between attempts: each about twice as long as the one before, up to a longest one, and
/// shorter by up to half by chance.
#[derive(Debug)]
pub(super) struct Backoff {
    next: Duration,
    first: Duration,
    longest: Duration,
}

impl Backoff {
    pub fn new(timing: &Timing) -> Self {
        let (first, longest) = (timing.first_pause, timing.longest_pause);
        Self { next: first, first, longest }
    }

    /// How long to wait after an attempt that has failed.
    pub fn pause(&mut self) -> Duration {
        let pause = self.next;
        self.next = (2 * pause).min(self.longest);
        pause.mul_f64(1.0 - chance() / 2.0)
    }

    /// It has worked: the next failure is a first one.
    pub fn reset(&mut self) {
        self.next = self.first;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pauses_double_up_to_half_a_minute_and_differ_by_up_to_half() {
        let mut backoff = Backoff::new(&Timing::default());
        for full in [0.8, 1.6, 3.2, 6.4, 12.8, 25.6, 30.0, 30.0] {
            let pause = backoff.pause().as_secs_f64();
            assert!(pause > full / 2.0 - 1e-6 && pause <= full, "{pause} of {full}");
        }
        backoff.reset();
        assert!(backoff.pause() <= Duration::from_millis(800));
    }

    #[test]
    fn what_is_left_to_chance_is_not_always_the_same() {
        let drawn: Vec<f64> = (0..8).map(|_| chance()).collect();
        assert!(drawn.iter().all(|one| (0.0..1.0).contains(one)), "{drawn:?}");
        assert!(drawn.iter().any(|one| one != &drawn[0]), "{drawn:?}");
    }
}
