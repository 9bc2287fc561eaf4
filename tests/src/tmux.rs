//! A terminal without a person: programs in tmux, with keys to press and a screen to read.

use std::process::{Command, Output};
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, ensure};

/// How long something may take to be on the screen.
const TIMEOUT: Duration = Duration::from_secs(60);
/// How often is looked.
const POLL: Duration = Duration::from_millis(20);

/// Numbers the servers of this process.
static NEXT: AtomicU32 = AtomicU32::new(0);

/// A server of tmux of its own, with one session; it ends on drop, and all in it.
#[derive(Debug)]
pub struct Tmux {
    socket: String,
}

impl Tmux {
    /// A shell in a terminal of this size.
    ///
    /// # Errors
    ///
    /// Needs tmux.
    pub fn start(width: u16, height: u16) -> Result<Self> {
        let number = NEXT.fetch_add(1, Ordering::Relaxed);
        let tmux = Self { socket: format!("weir-tests-{}-{number}", std::process::id()) };
        let (width, height) = (width.to_string(), height.to_string());
        // No prompt that depends on the machine, and no history.
        let shell = "env -i TERM=screen-256color LC_ALL=C.UTF-8 PATH=/usr/bin:/bin PS1='$ ' sh";
        let session = ["new-session", "-d", "-x", &width, "-y", &height, shell];
        let output = tmux.command(&session)?;
        ensure!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        Ok(tmux)
    }

    fn command(&self, arguments: &[&str]) -> Result<Output> {
        let mut command = Command::new("tmux");
        command.args(["-L", &self.socket, "-f", "/dev/null"]).args(arguments);
        command.output().context("start tmux")
    }

    /// Presses keys, by tmux's names: `Enter`, `Down`, `q`, or a text.
    ///
    /// # Panics
    ///
    /// If the terminal is gone.
    pub fn press(&self, keys: &[&str]) {
        for key in keys {
            let output = self.command(&["send-keys", key]).expect("tmux");
            assert!(output.status.success(), "{key}: {output:?}");
        }
    }

    /// What is on the screen, without what is invisible at the ends.
    ///
    /// # Panics
    ///
    /// If the terminal is gone.
    #[must_use]
    pub fn screen(&self) -> String {
        self.capture(&[])
    }

    /// What is on the screen, with the escape sequences that made its colours.
    ///
    /// # Panics
    ///
    /// If the terminal is gone.
    #[must_use]
    pub fn coloured(&self) -> String {
        self.capture(&["-e"])
    }

    fn capture(&self, how: &[&str]) -> String {
        let output = self.command(&[&["capture-pane", "-p"], how].concat()).expect("tmux");
        assert!(output.status.success(), "{output:?}");
        String::from_utf8_lossy(&output.stdout).trim_end().to_owned()
    }

    /// Waits until the screen is as `done` says, and returns it.
    ///
    /// # Panics
    ///
    /// With the screen, after a minute.
    #[track_caller]
    pub fn await_screen(&self, what: &str, done: impl Fn(&str) -> bool) -> String {
        let deadline = Instant::now() + TIMEOUT;
        loop {
            let screen = self.screen();
            if done(&screen) {
                return screen;
            }
            assert!(Instant::now() < deadline, "{what}: not so, but\n{screen}");
            std::thread::sleep(POLL);
        }
    }

    /// Runs a line of shell in the terminal and waits until its output has `mark` in it, which
    /// the line itself has not.
    ///
    /// # Panics
    ///
    /// As [`Tmux::await_screen`].
    #[track_caller]
    pub fn run(&self, line: &str, mark: &str) -> String {
        self.press(&[line, "Enter"]);
        self.await_screen(line, |screen| screen.contains(mark))
    }
}

impl Drop for Tmux {
    fn drop(&mut self) {
        if std::thread::panicking() {
            let shown = self.command(&["capture-pane", "-p"]);
            let shown = shown.map(|o| String::from_utf8_lossy(&o.stdout).into_owned());
            eprintln!("---- the terminal shows:\n{}----", shown.unwrap_or_default());
        }
        if let Err(error) = self.command(&["kill-server"]) {
            eprintln!("{error:#}");
        }
    }
}
