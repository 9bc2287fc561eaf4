//! The servers: few system calls, many connections to a thread.

use std::collections::HashMap;
use std::io::{self, ErrorKind, Read, Write};
use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::os::fd::AsRawFd;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread::JoinHandle;

use anyhow::{Context as _, Result};
use nix::errno::Errno;
use nix::sys::epoll::{Epoll, EpollCreateFlags, EpollEvent, EpollFlags, EpollTimeout};
use socket2::{Domain, Socket, Type};
use weir_tests::netns::Netns;

/// Where they listen.
pub const PORT: u16 = 9080;
/// Bytes of a request, and of its answer.
pub const MESSAGE: usize = 64;
/// First byte of a request: answer and close.
pub const CLOSE: u8 = b'c';
/// Answer and await the next one.
pub const KEEP: u8 = b'k';
/// Answer, then take all that comes.
pub const UPLOAD: u8 = b'u';
/// Answer, then send for as long as it is taken.
pub const DOWNLOAD: u8 = b'd';
/// Bytes per read and write of bulk data.
pub const CHUNK: usize = 256 << 10;

/// Threads, each with a listening socket of its own.
const THREADS: usize = 2;
/// Milliseconds after which a thread looks whether it shall end.
const POLL: u16 = 50;
/// The listening socket in epoll; connections are numbered by their descriptors.
const LISTENER: u64 = u64::MAX;

/// A server of one endpoint, which ends on drop.
pub struct Server {
    stop: Arc<AtomicBool>,
    received: Arc<AtomicU64>,
    threads: Vec<JoinHandle<()>>,
}

impl Server {
    /// Starts it. The first byte of all answers is `identity`.
    pub fn start(ns: &Netns, identity: u8) -> Result<Self> {
        let (stop, received) = (Arc::<AtomicBool>::default(), Arc::<AtomicU64>::default());
        let mut server = Self { stop, received, threads: Vec::new() };
        for _ in 0..THREADS {
            let worker = Worker {
                listener: ns.run(listen).context("listen")?,
                epoll: Epoll::new(EpollCreateFlags::empty())?,
                connections: HashMap::new(),
                answer: [identity; MESSAGE],
                stop: Arc::clone(&server.stop),
                received: Arc::clone(&server.received),
            };
            let spawn = std::thread::Builder::new().name(format!("server {identity}"));
            server.threads.push(spawn.spawn(move || {
                if let Err(error) = worker.work() {
                    eprintln!("a server ended: {error}");
                }
            })?);
        }
        Ok(server)
    }

    /// Bytes of uploads so far.
    pub fn received(&self) -> u64 {
        self.received.load(Ordering::Relaxed)
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        for thread in self.threads.drain(..) {
            // A panic of it has been printed.
            let _ = thread.join();
        }
    }
}

/// A listening socket that does not block.
pub fn listen() -> io::Result<TcpListener> {
    let socket = Socket::new(Domain::IPV4, Type::STREAM, None)?;
    socket.set_reuse_address(true)?;
    socket.set_reuse_port(true)?;
    socket.set_nonblocking(true)?;
    socket.bind(&SocketAddr::from((Ipv4Addr::UNSPECIFIED, PORT)).into())?;
    socket.listen(4096)?;
    Ok(socket.into())
}

/// What becomes of a connection.
enum Next {
    /// It is closed.
    Close,
    /// A request is to come.
    Await,
    /// A thread of its own takes it.
    Bulk(u8),
}

struct Worker {
    listener: TcpListener,
    epoll: Epoll,
    connections: HashMap<u64, TcpStream>,
    answer: [u8; MESSAGE],
    stop: Arc<AtomicBool>,
    received: Arc<AtomicU64>,
}

impl Worker {
    fn work(mut self) -> Result<()> {
        self.epoll.add(&self.listener, EpollEvent::new(EpollFlags::EPOLLIN, LISTENER))?;
        let mut events = [EpollEvent::empty(); 64];
        while !self.stop.load(Ordering::Relaxed) {
            let ready = match self.epoll.wait(&mut events, EpollTimeout::from(POLL)) {
                Err(Errno::EINTR) => 0,
                ready => ready?,
            };
            for event in &events[..ready] {
                if event.data() == LISTENER {
                    self.accept()?;
                } else if let Some(stream) = self.connections.remove(&event.data()) {
                    self.serve(stream, true)?;
                }
            }
        }
        Ok(())
    }

    /// Takes all connections that wait.
    fn accept(&mut self) -> Result<()> {
        loop {
            match self.listener.accept() {
                Ok((stream, _)) => {
                    stream.set_nonblocking(true)?;
                    self.serve(stream, false)?;
                }
                Err(error) if error.kind() == ErrorKind::WouldBlock => return Ok(()),
                // Gone before it was accepted.
                Err(error) if error.kind() == ErrorKind::ConnectionAborted => {}
                Err(error) => return Err(error.into()),
            }
        }
    }

    /// Serves a request, if one is there. `known`: whether epoll has the connection.
    fn serve(&mut self, mut stream: TcpStream, known: bool) -> Result<()> {
        // A client may break off; it is the client that reports failures.
        match self.answer(&mut stream).unwrap_or(Next::Close) {
            Next::Close => {}
            Next::Await => {
                let id = u64::try_from(stream.as_raw_fd())?;
                if !known {
                    self.epoll.add(&stream, EpollEvent::new(EpollFlags::EPOLLIN, id))?;
                }
                self.connections.insert(id, stream);
            }
            Next::Bulk(kind) => {
                if known {
                    self.epoll.delete(&stream)?;
                }
                stream.set_nonblocking(false)?;
                let received = Arc::clone(&self.received);
                // Ends when the client closes.
                std::thread::Builder::new().name("bulk".into()).spawn(move || {
                    // How every transfer ends, since the client breaks it off.
                    let _ = if kind == UPLOAD { take(stream, &received) } else { give(stream) };
                })?;
            }
        }
        Ok(())
    }

    fn answer(&self, stream: &mut TcpStream) -> io::Result<Next> {
        let mut request = [0; MESSAGE];
        match stream.read(&mut request) {
            Ok(0) => return Ok(Next::Close),
            // In one segment, or something is wrong.
            Ok(MESSAGE) => {}
            Ok(_) => return Err(ErrorKind::InvalidData.into()),
            Err(error) if error.kind() == ErrorKind::WouldBlock => return Ok(Next::Await),
            Err(error) => return Err(error),
        }
        stream.write_all(&self.answer)?;
        match request[0] {
            CLOSE => Ok(Next::Close),
            KEEP => Ok(Next::Await),
            kind @ (UPLOAD | DOWNLOAD) => Ok(Next::Bulk(kind)),
            _ => Err(ErrorKind::InvalidData.into()),
        }
    }
}

fn take(mut stream: TcpStream, received: &AtomicU64) -> io::Result<()> {
    let mut buffer = vec![0; CHUNK];
    loop {
        let length = stream.read(&mut buffer)?;
        if length == 0 {
            return Ok(());
        }
        received.fetch_add(length as u64, Ordering::Relaxed);
    }
}

fn give(mut stream: TcpStream) -> io::Result<()> {
    let buffer = vec![0x77; CHUNK];
    loop {
        stream.write_all(&buffer)?;
    }
}
