//! CPU time of the whole machine, from the time that it was idle.
//!
//! The kernel adds work in interrupts to whoever was interrupted, or to nobody; what is idle is
//! sure.

use std::time::Instant;

use anyhow::{Context as _, Result};
use nix::unistd::{SysconfVar, sysconf};

/// A point in time.
pub struct Cpu {
    at: Instant,
    cpus: f64,
    /// Seconds that the CPUs were idle since boot.
    idle: f64,
}

impl Cpu {
    pub fn now() -> Result<Self> {
        let text = std::fs::read_to_string("/proc/stat").context("/proc/stat")?;
        let ticks = sysconf(SysconfVar::CLK_TCK)?.context("no clock ticks")? as f64;
        let idle = idle(&text).context("/proc/stat: no idle time")? as f64 / ticks;
        let cpus = sysconf(SysconfVar::_NPROCESSORS_ONLN)?.context("no number of CPUs")? as f64;
        Ok(Self { at: Instant::now(), cpus, idle })
    }

    /// Seconds that the CPUs were not idle, all added up.
    pub fn busy_since(&self, earlier: &Self) -> f64 {
        let elapsed = (self.at - earlier.at).as_secs_f64();
        elapsed * self.cpus - (self.idle - earlier.idle)
    }
}

/// Ticks of all CPUs in idle and iowait: the fourth and fifth number.
fn idle(stat: &str) -> Option<u64> {
    let mut numbers = stat.lines().next()?.strip_prefix("cpu ")?.split_whitespace().skip(3);
    let mut next = || numbers.next()?.parse::<u64>().ok();
    Some(next()? + next()?)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn idle_is_the_sum_of_the_fourth_and_fifth_number() {
        assert_eq!(idle("cpu  10 20 30 400 5 6 7 8 0 0\ncpu0 1 1 1 1 1\n"), Some(405));
        assert_eq!(idle("cpu 1 2 3\n"), None);
        assert_eq!(idle("intr 1\n"), None);
    }
}
