//! A thread of the agent's own, which ends when nobody holds it any more.

use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;

/// The thread. It is told to end on drop, and awaited.
pub(super) struct Background {
    stop: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

impl Background {
    /// Starts it; `run` returns soon after what it is given has become true.
    ///
    /// # Errors
    ///
    /// If the system has no room for another thread.
    pub fn start(name: &str, run: impl FnOnce(&AtomicBool) + Send + 'static) -> io::Result<Self> {
        let stop = Arc::<AtomicBool>::default();
        let stopped = Arc::clone(&stop);
        let builder = std::thread::Builder::new().name(name.to_owned());
        let thread = builder.spawn(move || run(&stopped))?;
        Ok(Self { stop, thread: Some(thread) })
    }
}

impl Drop for Background {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        // A panic of it has been printed.
        self.thread.take().map(JoinHandle::join);
    }
}
