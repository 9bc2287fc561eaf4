//! The state directory under crashes: what was acknowledged is there, what was
//! not is there as a whole or not at all.

use std::io::{BufRead as _, BufReader, Read as _};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use probe_common::hash::mix;
use weir_tests::applies::{check, last_acknowledged};

/// Acknowledged applies in all.
const APPLIES: u32 = 1000;

/// The applier, which is killed on drop, if not before.
struct Applier(Child);

impl Applier {
    fn start(directory: &Path, first: u32) -> Self {
        let child = Command::new(env!("CARGO_BIN_EXE_applier"))
            .arg(directory)
            .arg(first.to_string())
            .stdout(Stdio::piped())
            .spawn()
            .expect("applier starts");
        Self(child)
    }

    fn signal(&self, signal: Signal) {
        let pid = Pid::from_raw(self.0.id().try_into().expect("a pid"));
        kill(pid, signal).expect("applier is there");
    }
}

impl Drop for Applier {
    fn drop(&mut self) {
        // It may be dead; and it is waited for in any case.
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

#[test]
fn killed_at_any_moment_no_acknowledged_apply_is_lost_and_none_is_torn() {
    let directory = tempfile::tempdir().unwrap();
    let (mut acknowledged, mut kills, mut unacknowledged, mut torn) = (0, 0u64, 0, 0);
    let mut there = 0;
    while acknowledged < APPLIES {
        let mut applier = Applier::start(directory.path(), there + 1);
        let mut out = BufReader::new(applier.0.stdout.take().unwrap());
        // After up to 40 applies, at a moment of the next one or two.
        let draw = mix(kills);
        let mut printed = String::new();
        for _ in 0..draw % 41 {
            out.read_line(&mut printed).unwrap();
        }
        std::thread::sleep(Duration::from_micros((draw >> 32) % 6000));
        applier.signal(Signal::SIGKILL);
        out.read_to_string(&mut printed).unwrap();
        drop(applier);
        kills += 1;
        // A number that was cut short was not printed.
        printed.truncate(printed.rfind('\n').map_or(0, |end| end + 1));
        acknowledged = last_acknowledged(there, &printed).unwrap();
        let found = check(directory.path(), acknowledged)
            .unwrap_or_else(|error| panic!("after kill {kills}: {error:#}"));
        unacknowledged += u32::from(found.last > acknowledged);
        torn += u32::from(found.torn);
        there = found.last;
    }
    println!(
        "{acknowledged} applies, {kills} kills: {unacknowledged} left an apply that had not been \
         acknowledged, {torn} left the beginning of one"
    );
    assert!(kills >= 20, "only {kills} kills");
}
