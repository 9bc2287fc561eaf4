//! Ctrl-C and its like, which end the demonstration in good order.

use std::sync::Arc;
use std::sync::atomic::{AtomicI32, Ordering};
use std::time::Duration;

use anyhow::{Result, bail};
use tokio::signal::unix::{SignalKind, signal};

/// How often [`Interrupt::wait`] looks.
const POLL: Duration = Duration::from_millis(50);

/// Whether a signal asked for the end.
pub struct Interrupt(Arc<AtomicI32>);

impl Interrupt {
    /// Takes SIGINT, SIGTERM and SIGHUP from here on.
    pub fn install() -> Result<Self> {
        let taken = Arc::new(AtomicI32::new(0));
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        let entered = runtime.enter();
        let kinds = [SignalKind::interrupt(), SignalKind::terminate(), SignalKind::hangup()];
        for kind in kinds {
            let (mut signals, taken) = (signal(kind)?, Arc::clone(&taken));
            runtime.spawn(async move {
                while signals.recv().await.is_some() {
                    taken.store(kind.as_raw_value(), Ordering::Relaxed);
                }
            });
        }
        drop(entered);
        std::thread::Builder::new()
            .name("signals".to_owned())
            .spawn(move || runtime.block_on(std::future::pending::<()>()))?;
        Ok(Self(taken))
    }

    /// The number of the signal that was taken.
    pub fn signal(&self) -> Option<i32> {
        Some(self.0.load(Ordering::Relaxed)).filter(|&signal| signal != 0)
    }

    /// Fails once a signal was taken.
    pub fn check(&self) -> Result<()> {
        if let Some(signal) = self.signal() {
            bail!("interrupted by signal {signal}");
        }
        Ok(())
    }

    /// Waits for a signal.
    pub fn wait(&self) {
        while self.signal().is_none() {
            std::thread::sleep(POLL);
        }
    }
}
