//! What the programs tell of rare events.

use std::os::fd::{AsFd, AsRawFd, BorrowedFd, RawFd};

use aya::Ebpf;
use aya_log::EbpfLogger;

/// The events that the programs of one object tell; off unless
/// [`super::Settings::log_rare`] is set.
///
/// The buffer is not pinned. Its records are of the build that made them, so
/// every agent reads those of its own programs, which replace the old ones as
/// it attaches; what the old ones told meanwhile, nobody reads.
pub struct KernelLog(EbpfLogger<&'static dyn log::Log>);

/// Why the events cannot be read.
#[derive(Debug, thiserror::Error)]
#[error("cannot read what the programs tell: {0}")]
pub struct KernelLogError(#[from] aya_log::Error);

impl KernelLog {
    /// The events of that object, which go to the process's log. To be taken once.
    pub fn of(ebpf: &mut Ebpf) -> Result<Self, KernelLogError> {
        Ok(Self(EbpfLogger::init(ebpf)?))
    }

    /// Logs what was told since the last time.
    pub fn flush(&mut self) {
        self.0.flush();
    }
}

impl AsFd for KernelLog {
    /// Readable when there is something to log.
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }
}

impl AsRawFd for KernelLog {
    fn as_raw_fd(&self) -> RawFd {
        self.0.as_raw_fd()
    }
}
