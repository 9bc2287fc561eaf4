//! The clock of flow entries. The programs count time in ticks of 2^shift
//! jiffies (`bpf_jiffies64`), about a second each, modulo 2^32.

use std::time::Duration;

use nix::time::{ClockId, clock_getres, clock_gettime};

/// The ticks of the running kernel.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Clock {
    jiffy: Duration,
    shift: u32,
}

impl Clock {
    /// The running kernel's.
    pub fn new() -> Self {
        // The coarse clock advances by jiffies. 4 ms is the usual configuration.
        let resolution = clock_getres(ClockId::CLOCK_MONOTONIC_COARSE).map(Duration::from);
        let usual = Duration::from_millis(4);
        Self::of(resolution.ok().filter(|jiffy| !jiffy.is_zero()).unwrap_or(usual))
    }

    fn of(jiffy: Duration) -> Self {
        let per_second = Duration::from_secs(1).as_nanos() / jiffy.as_nanos();
        Self { jiffy, shift: per_second.next_power_of_two().ilog2() }
    }

    /// log2 of the jiffies in a tick.
    pub fn shift(self) -> u32 {
        self.shift
    }

    /// The length of a tick.
    pub fn tick(self) -> Duration {
        self.jiffy * (1 << self.shift)
    }

    /// That, in the units of [`probe_common::times`].
    pub fn tick_units(self) -> u64 {
        (self.tick().as_nanos() >> probe_common::times::UNIT_SHIFT) as u64
    }

    /// Ticks that are not shorter than `time`.
    pub fn ticks(self, time: Duration) -> u32 {
        let ticks = time.as_nanos().div_ceil(self.tick().as_nanos());
        u32::try_from(ticks).unwrap_or(u32::MAX >> 1)
    }

    /// What the kernel's count of jiffies is in that time, give or take a tick.
    pub fn jiffies_in(self, time: Duration) -> u64 {
        let uptime = clock_gettime(ClockId::CLOCK_MONOTONIC).map_or(Duration::ZERO, Duration::from);
        self.jiffies_at(uptime + time)
    }

    /// The tick that it is now, give or take one: jiffies do not begin to count
    /// exactly when the monotonic clock does.
    pub fn now(self) -> u32 {
        let uptime = clock_gettime(ClockId::CLOCK_MONOTONIC).map_or(Duration::ZERO, Duration::from);
        self.at(uptime)
    }

    /// The tick at that time since boot. Jiffies begin 300 seconds before a
    /// 32-bit counter of them wraps around, so that what cannot bear that shows
    /// it early.
    fn at(self, uptime: Duration) -> u32 {
        (self.jiffies_at(uptime) >> self.shift) as u32
    }

    fn jiffies_at(self, uptime: Duration) -> u64 {
        let jiffies = |time: Duration| (time.as_nanos() / self.jiffy.as_nanos()) as u64;
        let first = (1 << 32) - jiffies(Duration::from_secs(300));
        first + jiffies(uptime)
    }
}

impl Default for Clock {
    fn default() -> Self {
        Self::new()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ticks_are_about_a_second() {
        // CONFIG_HZ 100, 250, 300 and 1000.
        let cases = [
            (10_000_000, 7, 1280),
            (4_000_000, 8, 1024),
            (3_333_333, 9, 1706),
            (1_000_000, 10, 1024),
        ];
        for (nanos, shift, millis) in cases {
            let clock = Clock::of(Duration::from_nanos(nanos));
            assert_eq!((clock.shift(), clock.tick().as_millis()), (shift, millis), "{nanos} ns");
            assert_eq!(clock.tick_units(), nanos << shift >> 10, "{nanos} ns");
        }
        let clock = Clock::of(Duration::from_millis(4));
        assert_eq!(clock.ticks(Duration::from_millis(1024)), 1);
        assert_eq!(clock.ticks(Duration::from_millis(1025)), 2);
    }

    #[test]
    fn ticks_count_from_the_kernels_first_jiffy() {
        // From /proc/timer_list of a kernel with CONFIG_HZ=250: 5474.57 s, 4296260882 jiffies.
        let clock = Clock::of(Duration::from_millis(4));
        let tick = clock.at(Duration::from_millis(5_474_574));
        assert!(tick.abs_diff((4_296_260_882_u64 >> 8) as u32) <= 1, "{tick}");
    }
}
