//! The loads: what clients do, and how much of it was done.

use std::io::{self, ErrorKind, Read, Write};
use std::net::{IpAddr, Ipv4Addr, SocketAddr, TcpStream};
use std::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, ensure};
use socket2::{Domain, Socket, Type};

use super::cpu::Cpu;
use super::server::{CHUNK, CLOSE, DOWNLOAD, KEEP, MESSAGE, UPLOAD};
use super::system::Path;

/// A load that runs for a while before it is measured.
pub const WARM_UP: Duration = Duration::from_millis(200);
/// No answer for so long is a failure.
pub const TIMEOUT: Duration = Duration::from_secs(5);
/// Threads that make short connections.
const CONNECTORS: u8 = 4;
/// Threads that send requests, and the open connections of each.
const REQUESTERS: u8 = 2;
const OPEN: usize = 16;
/// Client ports, each used once before any is used again, so that connections are independent
/// draws of a hash.
const PORTS: std::ops::Range<u16> = 10_000..65_000;
/// Client addresses, one for each thread.
const SOURCES: Ipv4Addr = Ipv4Addr::new(192, 0, 2, 201);

/// What clients do.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Load {
    /// Connect, one request, close; by the server first, as HTTP does.
    Short,
    /// Requests on open connections.
    Requests,
    /// One stream from client to endpoint.
    Upload,
    /// One stream from endpoint to client.
    Download,
}

impl Load {
    pub const ALL: [Self; 4] = [Self::Short, Self::Requests, Self::Upload, Self::Download];
}

/// The client addresses that loads need, besides that of the topology.
pub fn sources() -> impl Iterator<Item = Ipv4Addr> {
    (0..CONNECTORS).map(source)
}

fn source(thread: u8) -> Ipv4Addr {
    Ipv4Addr::from(u32::from(SOURCES) + u32::from(thread))
}

/// What was done in an interval.
#[derive(Clone, Copy, Debug)]
pub struct Sample {
    /// Connections, requests or bytes per second.
    pub rate: f64,
    /// CPU seconds of the whole machine for each of these.
    pub cpu: f64,
    /// Connections, or requests, by who answered.
    pub answers: [u64; 2],
    /// Short connections that were reset.
    pub reset: u64,
}

/// What the threads of a load count.
#[derive(Default)]
struct Counts {
    stop: AtomicBool,
    bytes: AtomicU64,
    answers: [AtomicU64; 2],
    reset: AtomicU64,
}

impl Counts {
    fn on(&self) -> bool {
        !self.stop.load(Ordering::Relaxed)
    }

    fn answered(&self, answer: &[u8; MESSAGE]) -> io::Result<()> {
        let counter = self.answers.get(usize::from(answer[0])).ok_or(ErrorKind::InvalidData)?;
        counter.fetch_add(1, Ordering::Relaxed);
        Ok(())
    }
}

/// The next client port of each thread.
#[derive(Default)]
pub struct Ports([AtomicU32; CONNECTORS as usize]);

impl Ports {
    fn next(&self, thread: u8) -> u16 {
        let n = self.0[usize::from(thread)].fetch_add(1, Ordering::Relaxed);
        PORTS.start + (n % PORTS.len() as u32) as u16
    }
}

impl Load {
    /// Puts the load on a path and measures for `interval`.
    pub fn measure(self, path: &Path, interval: Duration) -> Result<Sample> {
        let counts = Counts::default();
        path.client().run(|| {
            std::thread::scope(|scope| {
                let counts = &counts;
                // A thread belongs to the namespace of the thread that starts it.
                let threads: Vec<_> = (0..self.threads())
                    .map(|thread| scope.spawn(move || self.work(path, thread, counts)))
                    .collect();
                let sample = self.watch(path, counts, interval);
                counts.stop.store(true, Ordering::Relaxed);
                for thread in threads {
                    match thread.join() {
                        Ok(result) => result.context("the client failed")?,
                        Err(panic) => std::panic::resume_unwind(panic),
                    }
                }
                sample
            })
        })
    }

    fn threads(self) -> u8 {
        match self {
            Self::Short => CONNECTORS,
            Self::Requests => REQUESTERS,
            Self::Upload | Self::Download => 1,
        }
    }

    fn work(self, path: &Path, thread: u8, counts: &Counts) -> io::Result<()> {
        match self {
            Self::Short => connect_again(path, thread, counts),
            Self::Requests => request_again(path, thread, counts),
            Self::Upload => upload(path, counts),
            Self::Download => download(path, counts),
        }
    }

    fn watch(self, path: &Path, counts: &Counts, interval: Duration) -> Result<Sample> {
        let done = || {
            let answers = counts.answers.each_ref().map(|n| n.load(Ordering::Relaxed));
            let units = match self {
                Self::Short | Self::Requests => answers.iter().sum(),
                // Counted where it arrives.
                Self::Upload => path.received(),
                Self::Download => counts.bytes.load(Ordering::Relaxed),
            };
            (units, answers)
        };
        std::thread::sleep(WARM_UP);
        let (before, start, cpu) = (done(), Instant::now(), Cpu::now()?);
        std::thread::sleep(interval);
        let (after, seconds, cpu) =
            (done(), start.elapsed().as_secs_f64(), Cpu::now()?.busy_since(&cpu));
        let units = (after.0 - before.0) as f64;
        ensure!(units > 0.0, "nothing was done");
        let answers = std::array::from_fn(|at| after.1[at] - before.1[at]);
        let reset = counts.reset.load(Ordering::Relaxed);
        ensure!((reset as f64) < units / 1e3, "{reset} connections were reset");
        Ok(Sample { rate: units / seconds, cpu: cpu / units, answers, reset })
    }
}

fn connect_again(path: &Path, thread: u8, counts: &Counts) -> io::Result<()> {
    for to in path.targets().iter().cycle() {
        if !counts.on() {
            break;
        }
        match connect_once(path, thread, *to) {
            Ok(answer) => counts.answered(&answer)?,
            // Native XDP on a veth may bring the packets of a connection to two CPUs. Where the
            // end of the handshake and the request arrive at once, the server's kernel resets a
            // few connections in a million, also if the program only passes.
            Err(error) if error.kind() == ErrorKind::ConnectionReset => {
                counts.reset.fetch_add(1, Ordering::Relaxed);
            }
            Err(error) => return Err(error),
        }
    }
    Ok(())
}

fn connect_once(path: &Path, thread: u8, to: SocketAddr) -> io::Result<[u8; MESSAGE]> {
    let mut answer = [0; MESSAGE];
    let mut stream = connect(path, thread, to)?;
    stream.write_all(&[CLOSE; MESSAGE])?;
    stream.read_exact(&mut answer)?;
    // The end of the stream: the server closes first, and keeps the waiting time.
    if stream.read(&mut [0])? != 0 {
        return Err(ErrorKind::InvalidData.into());
    }
    Ok(answer)
}

fn request_again(path: &Path, thread: u8, counts: &Counts) -> io::Result<()> {
    let targets = path.targets().iter().cycle();
    let streams = targets.take(OPEN).map(|&to| connect(path, thread, to));
    let mut streams = streams.collect::<io::Result<Vec<_>>>()?;
    let request = [KEEP; MESSAGE];
    let mut answer = [0; MESSAGE];
    while counts.on() {
        for stream in &mut streams {
            stream.write_all(&request)?;
        }
        for stream in &mut streams {
            stream.read_exact(&mut answer)?;
            counts.answered(&answer)?;
        }
    }
    Ok(())
}

fn upload(path: &Path, counts: &Counts) -> io::Result<()> {
    let mut stream = begin(path, UPLOAD)?;
    let buffer = vec![0x77; CHUNK];
    while counts.on() {
        stream.write_all(&buffer)?;
    }
    Ok(())
}

fn download(path: &Path, counts: &Counts) -> io::Result<()> {
    let mut stream = begin(path, DOWNLOAD)?;
    let mut buffer = vec![0; CHUNK];
    while counts.on() {
        let length = stream.read(&mut buffer)?;
        if length == 0 {
            return Err(ErrorKind::UnexpectedEof.into());
        }
        counts.bytes.fetch_add(length as u64, Ordering::Relaxed);
    }
    Ok(())
}

/// Opens a connection for bulk data.
fn begin(path: &Path, kind: u8) -> io::Result<TcpStream> {
    let mut stream = connect(path, 0, path.targets()[0])?;
    stream.write_all(&[kind; MESSAGE])?;
    stream.read_exact(&mut [0; MESSAGE])?;
    Ok(stream)
}

/// Connects from the thread's address and its next port.
pub fn connect(path: &Path, thread: u8, to: SocketAddr) -> io::Result<TcpStream> {
    let socket = bound(path, thread)?;
    socket.connect(&to.into())?;
    Ok(socket.into())
}

/// The same for a stream that does not block: it is connected when something can be written.
pub fn begin_to_connect(path: &Path, thread: u8, to: SocketAddr) -> io::Result<TcpStream> {
    let socket = bound(path, thread)?;
    socket.set_nonblocking(true)?;
    match socket.connect(&to.into()) {
        Err(error) if error.raw_os_error() == Some(libc::EINPROGRESS) => Ok(socket.into()),
        result => result.map(|()| socket.into()),
    }
}

fn bound(path: &Path, thread: u8) -> io::Result<Socket> {
    let socket = Socket::new(Domain::IPV4, Type::STREAM, None)?;
    socket.set_reuse_address(true)?;
    socket.set_read_timeout(Some(TIMEOUT))?;
    let from = SocketAddr::new(IpAddr::V4(source(thread)), path.ports().next(thread));
    socket.bind(&from.into())?;
    Ok(socket)
}
