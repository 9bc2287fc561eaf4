//! The state directory under crashes: what was acknowledged is there, what was
//! not is there as a whole or not at all.

use std::fs::{self, File};
use std::io::{BufRead as _, BufReader, Read as _};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use nix::mount::{MsFlags, mount};
use nix::sched::{CloneFlags, unshare};
use nix::sys::signal::{Signal, kill};
use nix::sys::wait::{WaitPidFlag, WaitStatus, waitpid};
use nix::unistd::Pid;
use probe_common::hash::mix;
use weir_tests::applies::{check, last_acknowledged};

/// Acknowledged applies in all.
const APPLIES: u32 = 1000;

/// Power cuts.
const CUTS: u64 = 20;
/// The size of the disk that loses its power, in bytes.
const DISK: u64 = 48 << 20;

/// The applier, which is killed on drop, if not before.
struct Applier(Child);

impl Applier {
    fn start(directory: &Path, first: u32, out: Stdio) -> Self {
        let child = Command::new(env!("CARGO_BIN_EXE_applier"))
            .arg(directory)
            .arg(first.to_string())
            .stdout(out)
            .spawn()
            .expect("applier starts");
        Self(child)
    }

    fn pid(&self) -> Pid {
        Pid::from_raw(self.0.id().try_into().expect("a pid"))
    }

    fn signal(&self, signal: Signal) {
        kill(self.pid(), signal).expect("applier is there");
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
        let mut applier = Applier::start(directory.path(), there + 1, Stdio::piped());
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

fn run(program: &str, arguments: &[&str]) {
    let output = Command::new(program).args(arguments).output().expect(program);
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{program} {arguments:?}: {said}");
}

/// Copies a disk as it is at one moment, though it may be written to.
fn copy_at_once(disk: &Path, copy: &Path) {
    for _ in 0..100 {
        fs::copy(disk, copy).unwrap();
        if fs::read(disk).unwrap() == fs::read(copy).unwrap() {
            return;
        }
    }
    panic!("the disk is never at rest, though its only user is stopped");
}

/// The directory is on a disk of its own, a file behind a loop device. A copy
/// of that file holds what a power cut would have left: nothing that the file
/// system had only in memory.
#[test]
fn what_was_acknowledged_survives_power_cuts() {
    // Mounts of this thread and its children, which go away with them.
    unshare(CloneFlags::CLONE_NEWNS).expect("a mount namespace (root is needed)");
    mount(None::<&str>, "/", None::<&str>, MsFlags::MS_REC | MsFlags::MS_PRIVATE, None::<&str>)
        .unwrap();
    let directory = tempfile::tempdir().unwrap();
    let path = |name: &str| directory.path().join(name);
    let text = |name: &str| path(name).display().to_string();
    File::create(path("disk")).unwrap().set_len(DISK).unwrap();
    run("mkfs.ext4", &["-q", &text("disk")]);
    fs::create_dir(path("live")).unwrap();
    fs::create_dir(path("after")).unwrap();
    run("mount", &["-o", "loop", &text("disk"), &text("live")]);
    let printed = File::create(path("printed")).unwrap();
    let applier = Applier::start(&path("live/state"), 1, printed.into());
    let (mut acknowledged, mut unacknowledged) = (0, 0);
    for cut in 0..CUTS {
        std::thread::sleep(Duration::from_micros(20_000 + mix(cut) % 60_000));
        applier.signal(Signal::SIGSTOP);
        let stopped = waitpid(applier.pid(), Some(WaitPidFlag::WUNTRACED)).unwrap();
        assert!(matches!(stopped, WaitStatus::Stopped(..)), "{stopped:?}");
        let now = last_acknowledged(0, &fs::read_to_string(path("printed")).unwrap()).unwrap();
        copy_at_once(&path("disk"), &path("copy"));
        applier.signal(Signal::SIGCONT);
        run("mount", &["-o", "loop", &text("copy"), &text("after")]);
        let found = check(&path("after/state"), now);
        run("umount", &[&text("after")]);
        let found = found.unwrap_or_else(|error| panic!("after power cut {cut}: {error:#}"));
        unacknowledged += u32::from(found.last > now);
        acknowledged = now;
    }
    println!(
        "{CUTS} power cuts in {acknowledged} applies: {unacknowledged} left an apply that had not \
         been acknowledged"
    );
    assert!(u64::from(acknowledged) >= CUTS, "only {acknowledged} applies in {CUTS} cuts");
    drop(applier);
    run("umount", &[&text("live")]);
}
