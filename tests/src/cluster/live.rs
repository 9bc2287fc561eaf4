//! Connections that live while something happens.

use std::collections::BTreeSet;
use std::net::{SocketAddr, TcpStream};
use std::time::Duration;

use super::steered::Client;
use crate::client::connect_from;
use crate::server::{read_line, say};

/// Connections that live, and who answers each.
#[derive(Debug)]
pub struct Live(Vec<(TcpStream, String)>);

impl Live {
    /// Opens so many.
    ///
    /// # Panics
    ///
    /// If one fails.
    #[must_use]
    pub fn open(client: &mut Client, to: SocketAddr, count: u16) -> Self {
        let sources = client.sources(to.ip(), count);
        let open = |source: SocketAddr| {
            let mut stream = connect_from(source, to).expect("a connection");
            stream.set_read_timeout(Some(Duration::from_secs(10))).expect("a socket");
            let name = read_line(&mut stream).expect("its name");
            (stream, name)
        };
        Self(client.ns().run(|| sources.into_iter().map(open).collect()))
    }

    /// That each still speaks with whom it spoke at first: another one would know nothing of it.
    ///
    /// # Panics
    ///
    /// If one does not.
    #[track_caller]
    pub fn check(&mut self, what: &str) {
        for (stream, name) in &mut self.0 {
            let answer = say(stream, what);
            assert_eq!(answer.as_deref().ok(), Some(what), "{name}: {answer:?}");
        }
    }

    /// Who answers them.
    #[must_use]
    pub fn names(&self) -> BTreeSet<&str> {
        self.0.iter().map(|(_, name)| &**name).collect()
    }
}
