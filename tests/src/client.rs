//! Many flows from chosen addresses and ports, and who answered each.
//!
//! A survey never uses a tuple twice, so that its answers are independent draws: a client port
//! that the kernel picks may come back, and then gets the answer that it got before.

use std::collections::BTreeMap;
use std::io::{self, ErrorKind};
use std::net::{IpAddr, SocketAddr, TcpStream, UdpSocket};
use std::ops::Range;
use std::sync::OnceLock;
use std::time::Duration;

use socket2::{Domain, Socket, Type};
use weir::model::Protocol;

use crate::netns::Netns;
use crate::server::read_line;

/// How long an answer may take.
const TIMEOUT: Duration = Duration::from_secs(10);
/// Threads that ask at the same time.
const THREADS: usize = 4;

/// Who answered, or how asking failed.
pub type Answer = Result<String, ErrorKind>;

/// A socket bound to `source`, which earlier connections may have used too.
fn bound(source: SocketAddr, kind: Type) -> io::Result<Socket> {
    let socket = Socket::new(Domain::for_address(source), kind, None)?;
    socket.set_reuse_address(true)?;
    socket.set_read_timeout(Some(TIMEOUT))?;
    socket.set_write_timeout(Some(TIMEOUT))?;
    socket.bind(&source.into())?;
    Ok(socket)
}

/// A TCP connection from an address and port of the caller's choice.
///
/// # Errors
///
/// As the socket's.
pub fn connect_from(source: SocketAddr, to: SocketAddr) -> io::Result<TcpStream> {
    let socket = bound(source, Type::STREAM)?;
    socket.connect(&to.into())?;
    socket.set_tcp_nodelay(true)?;
    Ok(socket.into())
}

/// A UDP socket at an address and port of the caller's choice that takes answers of `to` alone.
///
/// # Errors
///
/// As the socket's.
pub fn udp_from(source: SocketAddr, to: SocketAddr) -> io::Result<UdpSocket> {
    let socket = bound(source, Type::DGRAM)?;
    socket.connect(&to.into())?;
    Ok(socket.into())
}

/// Sends a datagram to a [`crate::server::Server::udp`] and returns who answered.
///
/// # Errors
///
/// As the socket's; `InvalidData` if the answer does not carry the payload.
pub fn exchange(socket: &UdpSocket, payload: &[u8]) -> io::Result<String> {
    let mut buffer = [0; 4096];
    socket.send(payload)?;
    let length = socket.recv(&mut buffer)?;
    let head = buffer[..length].strip_suffix(payload).and_then(|head| head.strip_suffix(b" "));
    let identity = head.and_then(|head| std::str::from_utf8(head).ok());
    identity.map(str::to_owned).ok_or_else(|| ErrorKind::InvalidData.into())
}

/// Asks once from `source` who answers at `to`.
fn ask(protocol: Protocol, source: SocketAddr, to: SocketAddr) -> io::Result<String> {
    match protocol {
        Protocol::Tcp => read_line(&mut connect_from(source, to)?),
        Protocol::Udp => exchange(&udp_from(source, to)?, b"who are you?"),
    }
}

/// Asks from each of these sources, which must be the namespace's own, who answers at `to`.
#[must_use]
pub fn survey(
    ns: &Netns,
    protocol: Protocol,
    to: SocketAddr,
    sources: &[SocketAddr],
) -> Vec<Answer> {
    survey_with(ns, sources, |source| ask(protocol, source, to))
}

/// Asks in a way of the caller's own from each of these sources, which must be the namespace's own.
///
/// Once asking has failed in any way but by a rejection, which is an answer, nobody is asked any
/// more, and the rest fail alike: thousands of time-outs would tell no more than the first.
#[must_use]
pub fn survey_with(
    ns: &Netns,
    sources: &[SocketAddr],
    ask: impl Fn(SocketAddr) -> io::Result<String> + Sync,
) -> Vec<Answer> {
    let failure = OnceLock::new();
    let answer = |&source: &SocketAddr| {
        if let Some(&kind) = failure.get() {
            return Err(kind);
        }
        let answer = ask(source).map_err(|error| error.kind());
        if let Err(kind) = answer
            && kind != ErrorKind::ConnectionRefused
        {
            failure.get_or_init(|| kind);
        }
        answer
    };
    let answer = &answer;
    let part = |sources: &[SocketAddr]| sources.iter().map(answer).collect::<Vec<_>>();
    let share = sources.len().div_ceil(THREADS).max(1);
    ns.run(|| {
        std::thread::scope(|scope| {
            let threads: Vec<_> =
                sources.chunks(share).map(|sources| scope.spawn(move || part(sources))).collect();
            let answers = threads.into_iter().map(|thread| thread.join());
            answers.flat_map(|part| part.expect("a thread of a survey")).collect()
        })
    })
}

/// Sources: one address, these ports.
#[must_use]
pub fn ports(ip: IpAddr, ports: Range<u16>) -> Vec<SocketAddr> {
    ports.map(|port| SocketAddr::new(ip, port)).collect()
}

/// How often each name answered.
///
/// # Errors
///
/// Fails if any asking failed.
pub fn tally(answers: &[Answer]) -> Result<BTreeMap<String, u64>, ErrorKind> {
    let mut counts = BTreeMap::new();
    for answer in answers {
        *counts.entry(answer.clone()?).or_default() += 1;
    }
    Ok(counts)
}
