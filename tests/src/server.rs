//! Servers that say who they are, and clients for them.
//!
//! Sockets belong to the namespace a server was started in; its threads end when it is dropped.
//! A server bound to `[::]` takes IPv4 as well.

use std::collections::HashMap;
use std::io::{self, ErrorKind, Read, Write};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream, UdpSocket};
use std::os::fd::AsRawFd;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Condvar, Mutex};
use std::thread::JoinHandle;
use std::time::Duration;

use anyhow::{Context, Result};
use nix::sys::socket;
use socket2::SockRef;

use crate::content::{Checksum, content, content_checksum};
use crate::netns::Netns;

/// How long a server that is being dropped waits for its connections' threads.
const STOP: Duration = Duration::from_secs(5);
/// Threads that a TCP server keeps waiting for connections.
const IDLE: usize = 8;
/// How often a UDP server looks whether it shall stop.
const POLL: Duration = Duration::from_millis(20);
/// Bytes per read or write of bulk data.
const CHUNK: usize = 64 << 10;

/// What a server's threads share.
#[derive(Debug, Default)]
struct Shared {
    stop: AtomicBool,
    served: AtomicU64,
    bytes: AtomicU64,
    state: Mutex<State>,
    ended: Condvar,
}

/// The connections of a TCP server, and the threads that serve them.
#[derive(Debug, Default)]
struct State {
    open: HashMap<u64, TcpStream>,
    /// Threads, of which `waiting` are in accept.
    threads: usize,
    waiting: usize,
}

/// A running server; stops on drop.
#[derive(Debug)]
pub struct Server {
    address: SocketAddr,
    shared: Arc<Shared>,
    listener: Option<Arc<TcpListener>>,
    thread: Option<JoinHandle<()>>,
}

impl Server {
    /// A TCP server that sends its identity and a newline on accept, then echoes until the
    /// client's end of stream.
    ///
    /// # Errors
    ///
    /// Fails if the address cannot be bound in the namespace.
    pub fn tcp(ns: &Netns, address: SocketAddr, identity: &str) -> Result<Self> {
        let line = format!("{identity}\n");
        Self::accept(ns, address, move |stream, shared| {
            stream.write_all(line.as_bytes())?;
            echo(stream, shared)
        })
    }

    /// A TCP server that answers each line with its prefix, a space and the line.
    ///
    /// # Errors
    ///
    /// Fails if the address cannot be bound in the namespace.
    pub fn lines(ns: &Netns, address: SocketAddr, prefix: &str) -> Result<Self> {
        let prefix = prefix.to_owned();
        Self::accept(ns, address, move |stream, shared| {
            while let Ok(line) = read_line(stream) {
                shared.bytes.fetch_add(line.len() as u64 + 1, Ordering::Relaxed);
                stream.write_all(format!("{prefix} {line}\n").as_bytes())?;
            }
            Ok(())
        })
    }

    /// A TCP server whose first byte from the client selects what follows.
    ///
    /// * `E`: echo until the end of stream.
    /// * `I`: send the identity and a newline, then close.
    /// * `S`, length (u64, big endian), that many bytes: answer their [`Checksum`] (8 bytes, big
    ///   endian), then close.
    /// * `R`: send the identity and a newline, and reset the connection after another byte.
    /// * `B`, length (u64, big endian): send that many bytes of [`content`], then close.
    ///
    /// # Errors
    ///
    /// Fails if the address cannot be bound in the namespace.
    pub fn bulk(ns: &Netns, address: SocketAddr, identity: &str) -> Result<Self> {
        let line = format!("{identity}\n");
        Self::accept(ns, address, move |stream, shared| {
            let mut mode = [0];
            stream.read_exact(&mut mode)?;
            match mode[0] {
                b'E' => echo(stream, shared),
                b'I' => stream.write_all(line.as_bytes()),
                b'R' => {
                    stream.write_all(line.as_bytes())?;
                    stream.read_exact(&mut mode)?;
                    SockRef::from(&*stream).set_linger(Some(Duration::ZERO))
                }
                b'S' => {
                    let length = read_u64(stream)?;
                    let sum = sink(stream, length, &shared.bytes)?;
                    stream.write_all(&sum.to_be_bytes())
                }
                b'B' => {
                    let length = read_u64(stream)?;
                    send_content(stream, length)
                }
                _ => Err(ErrorKind::InvalidData.into()),
            }
        })
    }

    /// A UDP server that answers each datagram with its identity, a space and the payload.
    ///
    /// # Errors
    ///
    /// Fails if the address cannot be bound in the namespace.
    pub fn udp(ns: &Netns, address: SocketAddr, identity: &str) -> Result<Self> {
        let socket = ns.run(|| UdpSocket::bind(address)).with_context(|| format!("{address}"))?;
        socket.set_read_timeout(Some(POLL))?;
        // Room for many of the longest datagrams: none is to be lost here.
        socket::setsockopt(&socket, socket::sockopt::RcvBufForce, &(8 << 20))?;
        let (address, shared) = (socket.local_addr()?, Arc::new(Shared::default()));
        let prefix = format!("{identity} ").into_bytes();
        let thread = std::thread::Builder::new().name(format!("udp {identity}")).spawn({
            let shared = Arc::clone(&shared);
            move || {
                let mut buffer = vec![0; CHUNK];
                let head = prefix.len();
                buffer[..head].copy_from_slice(&prefix);
                while !shared.stop.load(Ordering::Relaxed) {
                    // An error is the timeout, or an ICMP error for an earlier answer.
                    let Ok((length, from)) = socket.recv_from(&mut buffer[head..]) else {
                        continue;
                    };
                    shared.served.fetch_add(1, Ordering::Relaxed);
                    shared.bytes.fetch_add(length as u64, Ordering::Relaxed);
                    let _ = socket.send_to(&buffer[..head + length], from);
                }
            }
        })?;
        Ok(Self { address, shared, listener: None, thread: Some(thread) })
    }

    /// Starts a TCP server in which each connection has a thread to itself.
    fn accept<F>(ns: &Netns, address: SocketAddr, serve: F) -> Result<Self>
    where
        F: Fn(&mut TcpStream, &Shared) -> io::Result<()> + Send + Sync + 'static,
    {
        // The standard library sets SO_REUSEADDR.
        let listener =
            ns.run(|| TcpListener::bind(address)).with_context(|| format!("{address}"))?;
        let listener = Arc::new(listener);
        let (address, shared) = (listener.local_addr()?, Arc::new(Shared::default()));
        let worker = Worker {
            listener: Arc::clone(&listener),
            shared: Arc::clone(&shared),
            serve: Arc::new(serve),
        };
        worker.start(&mut shared.state.lock().unwrap())?;
        Ok(Self { address, shared, listener: Some(listener), thread: None })
    }

    /// The address it is bound to, with the port that was chosen if 0 was asked for.
    #[must_use]
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Connections accepted, or datagrams received, so far.
    #[must_use]
    pub fn served(&self) -> u64 {
        self.shared.served.load(Ordering::Relaxed)
    }

    /// Bytes received so far in echoes, sinks and datagrams.
    #[must_use]
    pub fn bytes(&self) -> u64 {
        self.shared.bytes.load(Ordering::Relaxed)
    }

    /// Connections that are open now.
    #[must_use]
    pub fn open(&self) -> usize {
        self.shared.state.lock().unwrap().open.len()
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.shared.stop.store(true, Ordering::Relaxed);
        if let Some(listener) = &self.listener {
            // Wakes accept, which then fails.
            let _ = socket::shutdown(listener.as_raw_fd(), socket::Shutdown::Both);
        }
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
        let state = self.shared.state.lock().unwrap();
        for stream in state.open.values() {
            let _ = stream.shutdown(Shutdown::Both);
        }
        let wait = self.shared.ended.wait_timeout_while(state, STOP, |state| state.threads > 0);
        if let Ok((state, _)) = wait
            && state.threads > 0
        {
            eprintln!("server {}: {} threads did not end", self.address, state.threads);
        }
    }
}

/// A thread that accepts a connection, serves it, and comes back for the next one.
///
/// The threads take turns in accept, so that a short connection costs neither a new thread nor a
/// hand-over: whoever accepts starts another thread only if nobody else is waiting.
struct Worker<F> {
    listener: Arc<TcpListener>,
    shared: Arc<Shared>,
    serve: Arc<F>,
}

impl<F> Worker<F>
where
    F: Fn(&mut TcpStream, &Shared) -> io::Result<()> + Send + Sync + 'static,
{
    /// Starts a thread that waits for a connection.
    fn start(&self, state: &mut State) -> io::Result<()> {
        let worker = Self {
            listener: Arc::clone(&self.listener),
            shared: Arc::clone(&self.shared),
            serve: Arc::clone(&self.serve),
        };
        std::thread::Builder::new().stack_size(256 << 10).spawn(move || worker.work())?;
        state.threads += 1;
        state.waiting += 1;
        Ok(())
    }

    /// Serves connections until the server stops or enough other threads wait.
    fn work(self) {
        let Self { listener, shared, .. } = &self;
        loop {
            // Errors are those of a connection that is gone already, or of the shutdown on drop.
            let accepted = listener.accept().and_then(|(s, _)| Ok((s.try_clone()?, s)));
            let mut state = shared.state.lock().unwrap();
            if shared.stop.load(Ordering::Relaxed) {
                state.waiting -= 1;
                break;
            }
            let Ok((handle, mut stream)) = accepted else { continue };
            let id = shared.served.fetch_add(1, Ordering::Relaxed);
            state.open.insert(id, handle);
            state.waiting -= 1;
            if state.waiting == 0
                && let Err(error) = self.start(&mut state)
            {
                eprintln!("connections have to wait for each other: {error}");
            }
            drop(state);
            // A client may break off at any time.
            let _ = stream.set_nodelay(true);
            let _ = (self.serve)(&mut stream, shared);
            drop(stream);
            let mut state = shared.state.lock().unwrap();
            state.open.remove(&id);
            if state.waiting >= IDLE || shared.stop.load(Ordering::Relaxed) {
                break;
            }
            state.waiting += 1;
        }
        let Self { listener, shared, serve } = self;
        // The port is free as soon as the last thread has said that it ended.
        drop((listener, serve));
        shared.state.lock().unwrap().threads -= 1;
        shared.ended.notify_all();
    }
}

/// Echoes until the end of stream.
fn echo(stream: &mut TcpStream, shared: &Shared) -> io::Result<()> {
    let mut buffer = [0; 16 << 10];
    loop {
        let length = stream.read(&mut buffer)?;
        if length == 0 {
            return Ok(());
        }
        shared.bytes.fetch_add(length as u64, Ordering::Relaxed);
        stream.write_all(&buffer[..length])?;
    }
}

/// Reads a length.
fn read_u64(stream: &mut TcpStream) -> io::Result<u64> {
    let mut length = [0; 8];
    stream.read_exact(&mut length)?;
    Ok(u64::from_be_bytes(length))
}

/// Reads exactly `length` bytes and returns their checksum.
fn sink(stream: &mut TcpStream, length: u64, bytes: &AtomicU64) -> io::Result<u64> {
    let (mut sum, mut left, mut buffer) = (Checksum::default(), length, vec![0; CHUNK]);
    while left > 0 {
        let want = left.min(CHUNK as u64) as usize;
        let length = stream.read(&mut buffer[..want])?;
        if length == 0 {
            return Err(ErrorKind::UnexpectedEof.into());
        }
        bytes.fetch_add(length as u64, Ordering::Relaxed);
        sum.update(&buffer[..length]);
        left -= length as u64;
    }
    Ok(sum.finish())
}

/// Sends `length` bytes of [`content`].
fn send_content(stream: &mut TcpStream, length: u64) -> io::Result<()> {
    let mut sent = 0;
    while sent < length {
        let part = content(sent);
        let part = &part[..part.len().min((length - sent).min(CHUNK as u64) as usize)];
        stream.write_all(part)?;
        sent += part.len() as u64;
    }
    Ok(())
}

/// Connects with `timeout` for the connection and for each read and write.
///
/// Like all clients here it uses the current thread's namespace: call it in [`Netns::run`].
///
/// # Errors
///
/// As the socket's.
pub fn connect(address: SocketAddr, timeout: Duration) -> io::Result<TcpStream> {
    let stream = TcpStream::connect_timeout(&address, timeout)?;
    stream.set_read_timeout(Some(timeout))?;
    stream.set_write_timeout(Some(timeout))?;
    stream.set_nodelay(true)?;
    Ok(stream)
}

/// Reads one line from a stream, without its newline and without reading beyond it.
///
/// # Errors
///
/// As the socket's; `UnexpectedEof` if the stream ends before the newline.
pub fn read_line(stream: &mut TcpStream) -> io::Result<String> {
    let (mut line, mut byte) = (Vec::new(), [0]);
    loop {
        stream.read_exact(&mut byte)?;
        if byte[0] == b'\n' {
            return String::from_utf8(line).map_err(|_| ErrorKind::InvalidData.into());
        }
        line.push(byte[0]);
    }
}

/// Makes a connection to a [`Server::tcp`] and returns who answered.
///
/// # Errors
///
/// As the socket's.
pub fn tcp_identity(address: SocketAddr, timeout: Duration) -> io::Result<String> {
    read_line(&mut connect(address, timeout)?)
}

/// Sends a line to a [`Server::lines`] and returns the answer.
///
/// # Errors
///
/// As the socket's; `UnexpectedEof` if the stream ends before the newline.
pub fn say(stream: &mut TcpStream, line: &str) -> io::Result<String> {
    stream.write_all(format!("{line}\n").as_bytes())?;
    read_line(stream)
}

/// Asks a [`Server::bulk`] who it is.
///
/// # Errors
///
/// As the socket's.
pub fn bulk_identity(address: SocketAddr, timeout: Duration) -> io::Result<String> {
    let mut stream = connect(address, timeout)?;
    stream.write_all(b"I")?;
    read_line(&mut stream)
}

/// Sends `length` bytes of [`content`] to a [`Server::bulk`], which must have received just that.
///
/// # Errors
///
/// As the socket's; `InvalidData` if the server's checksum differs.
pub fn bulk_send(address: SocketAddr, length: u64, timeout: Duration) -> io::Result<()> {
    let mut stream = connect(address, timeout)?;
    stream.write_all(b"S")?;
    stream.write_all(&length.to_be_bytes())?;
    send_content(&mut stream, length)?;
    let sum = read_u64(&mut stream)?;
    if sum == content_checksum(length) { Ok(()) } else { Err(ErrorKind::InvalidData.into()) }
}

/// Fetches `length` bytes of [`content`] from a [`Server::bulk`].
///
/// # Errors
///
/// As the socket's; `InvalidData` if anything else arrived.
pub fn bulk_receive(address: SocketAddr, length: u64, timeout: Duration) -> io::Result<()> {
    let mut stream = connect(address, timeout)?;
    stream.write_all(b"B")?;
    stream.write_all(&length.to_be_bytes())?;
    let sum = sink(&mut stream, length, &AtomicU64::new(0))?;
    let ended = stream.read(&mut [0])? == 0;
    let right = ended && sum == content_checksum(length);
    if right { Ok(()) } else { Err(ErrorKind::InvalidData.into()) }
}

/// Sends a datagram to a [`Server::udp`] from a new socket and returns who answered.
///
/// # Errors
///
/// As the socket's; `InvalidData` if the answer does not carry the payload.
pub fn udp_identity(address: SocketAddr, payload: &str, timeout: Duration) -> io::Result<String> {
    let any = if address.is_ipv4() { "0.0.0.0:0" } else { "[::]:0" };
    let socket = UdpSocket::bind(any)?;
    // Connected, so that an answer from any other address does not count.
    socket.connect(address)?;
    socket.set_read_timeout(Some(timeout))?;
    socket.send(payload.as_bytes())?;
    let mut buffer = vec![0; CHUNK];
    let length = socket.recv(&mut buffer)?;
    let answer = std::str::from_utf8(&buffer[..length]).map_err(|_| ErrorKind::InvalidData)?;
    match answer.split_once(' ') {
        Some((identity, rest)) if rest == payload => Ok(identity.to_owned()),
        _ => Err(ErrorKind::InvalidData.into()),
    }
}
