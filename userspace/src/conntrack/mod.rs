//! The node's connection tracking, asked over netlink: which connections it knows to an address,
//! and whether it still knows one.
//!
//! What it says is read by pure functions, in `message`.

mod message;

use std::io;
use std::net::SocketAddr;
use std::path::Path;

use crate::netlink::Netlink;

/// A connection as its client began it. If packets of it are translated, the service's address is
/// the one before that.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Connection {
    /// Who began it.
    pub client: SocketAddr,
    /// Whom it was meant for.
    pub service: SocketAddr,
    /// The IP protocol number.
    pub protocol: u8,
    /// The zone of connection tracking: 0, but where rules say otherwise.
    pub zone: u16,
}

/// How far a TCP connection is, as far as it matters here.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Phase {
    /// From the first SYN to the last acknowledgement.
    Lives,
    /// Both sides have closed it: what may come are repetitions.
    Lingers,
    /// It was reset, or never began.
    Over,
}

/// What connection tracking knows of a connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Entry {
    /// Which.
    pub connection: Connection,
    /// Whether packets went both ways.
    pub answered: bool,
    /// Whether its packets get another destination.
    pub translated: bool,
    /// None of what is not TCP.
    pub phase: Option<Phase>,
}

impl Entry {
    /// Whether it would be cut if its client's packets went elsewhere from now on. Datagrams that
    /// nobody has answered are as well sent to somebody else.
    pub fn is_live(&self) -> bool {
        match self.phase {
            Some(phase) => phase == Phase::Lives && (self.answered || self.translated),
            None => self.answered,
        }
    }
}

/// Whether this kernel has connection tracking at work, or could have: asking for it is not to be
/// what loads it.
pub fn is_loaded() -> bool {
    Path::new("/sys/module/nf_conntrack").exists()
}

/// A socket to ask.
pub struct Conntrack(Netlink);

impl Conntrack {
    /// In the network namespace of the calling thread.
    pub fn open() -> io::Result<Self> {
        Netlink::open(libc::NETLINK_NETFILTER).map(Self)
    }

    /// How many connections are known.
    pub fn count(&mut self) -> io::Result<u32> {
        let answer = self.0.ask(message::GET_STATISTICS, &message::header(libc::AF_UNSPEC))?;
        message::count(&answer).ok_or_else(|| io::Error::other("no count of connections"))
    }

    /// All connections of TCP and UDP, one after the other. Those that come or go meanwhile may
    /// be missing or come twice.
    pub fn visit(&mut self, mut each: impl FnMut(Entry)) -> io::Result<()> {
        for family in [libc::AF_INET, libc::AF_INET6] {
            self.0.visit(message::GET, &message::header(family), |found| {
                message::entry(found).into_iter().for_each(&mut each);
            })?;
        }
        Ok(())
    }

    /// What is known of a connection, if anything is.
    pub fn find(&mut self, connection: &Connection) -> io::Result<Option<Entry>> {
        match self.0.ask(message::GET, &message::question(connection)) {
            Ok(found) => Ok(message::entry(&found)),
            Err(error) if error.raw_os_error() == Some(libc::ENOENT) => Ok(None),
            Err(error) => Err(error),
        }
    }
}
