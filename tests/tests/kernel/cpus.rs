//! Which CPU a thread runs on.

use nix::sched::{CpuSet, sched_getaffinity, sched_setaffinity};
use nix::unistd::Pid;

/// Keeps this thread on the CPU of that number among those that it may use.
pub fn stay_on_cpu(number: usize) -> usize {
    let myself = Pid::from_raw(0);
    let allowed = sched_getaffinity(myself).expect("CPUs");
    let all: Vec<usize> =
        (0..CpuSet::count()).filter(|&cpu| allowed.is_set(cpu).unwrap_or(false)).collect();
    let cpu = all[number % all.len()];
    let mut one = CpuSet::new();
    one.set(cpu).expect("a CPU");
    sched_setaffinity(myself, &one).expect("a thread that stays");
    cpu
}
