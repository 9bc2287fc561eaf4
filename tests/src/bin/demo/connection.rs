//! One connection that is open, and in use, all the time.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread::JoinHandle;
use std::time::Duration;

use anyhow::{Context, Result, bail};
use weir_tests::client::connect_from;
use weir_tests::netns::Netns;
use weir_tests::server::read_line;

/// Bytes of a message.
pub const MESSAGE: usize = 64;
/// Between two messages.
const PAUSE: Duration = Duration::from_millis(2);

#[derive(Default)]
struct Shared {
    stop: AtomicBool,
    answered: AtomicU64,
}

/// A connection on which a message goes to and fro every few milliseconds.
pub struct Connection {
    /// Who accepted it.
    pub endpoint: String,
    shared: Arc<Shared>,
    thread: Option<JoinHandle<Result<()>>>,
}

impl Connection {
    /// Connects, from that port, and begins to talk.
    pub fn open(client: &Netns, source: SocketAddr, service: SocketAddr) -> Result<Self> {
        let mut stream = client.run(|| connect_from(source, service))?;
        let endpoint = read_line(&mut stream)?;
        let shared = Arc::new(Shared::default());
        let talking = Arc::clone(&shared);
        let thread = std::thread::Builder::new()
            .name("connection".to_owned())
            .spawn(move || talk(stream, &talking))?;
        Ok(Self { endpoint, shared, thread: Some(thread) })
    }

    /// Waits until a message that was sent after the call has been answered; the number of
    /// messages that have been answered so far.
    pub fn answered(&mut self) -> Result<u64> {
        let count = || self.shared.answered.load(Ordering::Relaxed);
        let begun = count();
        while count() < begun + 2 {
            if self.thread.as_ref().is_none_or(JoinHandle::is_finished) {
                self.close()?;
                bail!("the open connection ended");
            }
            std::thread::sleep(PAUSE);
        }
        Ok(count())
    }

    /// Ends it; the number of messages, each of which was answered.
    pub fn close(&mut self) -> Result<u64> {
        self.shared.stop.store(true, Ordering::Relaxed);
        if let Some(thread) = self.thread.take() {
            let result = thread.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic));
            result.context("the open connection broke")?;
        }
        Ok(self.shared.answered.load(Ordering::Relaxed))
    }
}

impl Drop for Connection {
    fn drop(&mut self) {
        // Its end matters only to who calls close.
        self.shared.stop.store(true, Ordering::Relaxed);
    }
}

/// Exchanges messages, all different, until told to stop.
fn talk(mut stream: TcpStream, shared: &Shared) -> Result<()> {
    let mut answer = [0; MESSAGE];
    while !shared.stop.load(Ordering::Relaxed) {
        let number = shared.answered.load(Ordering::Relaxed);
        let mut message = [0x2e; MESSAGE];
        message[..8].copy_from_slice(&number.to_be_bytes());
        stream.write_all(&message)?;
        stream.read_exact(&mut answer)?;
        if answer != message {
            bail!("message {number} came back changed");
        }
        shared.answered.fetch_add(1, Ordering::Relaxed);
        std::thread::sleep(PAUSE);
    }
    Ok(())
}
