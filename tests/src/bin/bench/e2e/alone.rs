//! Client and endpoint in one thread on one CPU: what the way between them takes, without the
//! scheduler. Whatever a packet causes on its way happens in the call that sends it.

use std::io::{self, ErrorKind, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result};
use nix::sched::{CpuSet, sched_getcpu, sched_setaffinity};
use nix::unistd::Pid;
use serde::Serialize;

use super::load;
use super::server::{self, MESSAGE};
use super::system::{Path, System};
use crate::report::{Summary, Table};

/// Units that are timed together. The shortest of many such times is the one in which nothing
/// else ran.
const BATCH: usize = 16;
/// Batches of a load on a system in a round.
const BATCHES: usize = 40;
/// Bytes of a bulk transfer, written at once.
const BULK: usize = 60 << 10;
/// Nothing arrives for so long: something is lost.
const TIMEOUT: Duration = Duration::from_secs(5);

/// What is timed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Unit {
    /// Connect, a request, its answer, close from both sides.
    Connection,
    /// A request and its answer on an open connection.
    Request,
    /// [`BULK`] bytes to the endpoint.
    Upload,
    /// The same to the client.
    Download,
}

const UNITS: [Unit; 4] = [Unit::Connection, Unit::Request, Unit::Upload, Unit::Download];

/// What a run found.
#[derive(Serialize)]
pub struct Report {
    rounds: usize,
    systems: Vec<Line>,
}

#[derive(Serialize)]
struct Line {
    system: &'static str,
    /// Microseconds, by unit.
    time: [Summary; 4],
    /// The same as a ratio to the first system in the same round.
    ratio: [Summary; 4],
}

/// A path with both ends in this thread.
struct Alone {
    path: Path,
    listeners: Vec<TcpListener>,
    /// An open connection, and its other end.
    open: [TcpStream; 2],
    buffer: Vec<u8>,
}

/// Measures those of the systems that need no other process, in each of the rounds.
pub fn run(rounds: usize, systems: &[&'static System]) -> Result<Report> {
    // A thread of its own, which stays on one CPU.
    std::thread::scope(|scope| {
        let measure = scope.spawn(|| measure(rounds, systems));
        measure.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic))
    })
}

fn measure(rounds: usize, systems: &[&'static System]) -> Result<Report> {
    let mut cpus = CpuSet::new();
    cpus.set(sched_getcpu()?)?;
    sched_setaffinity(Pid::from_raw(0), &cpus).context("cannot stay on one CPU")?;
    let mut all = systems
        .iter()
        .filter(|system| system.in_kernel)
        .map(|system| Alone::new(Path::without_servers(system)?).context(system.name))
        .collect::<Result<Vec<_>>>()?;
    let mut times = vec![UNITS.map(|_| Vec::new()); all.len()];
    for round in 0..rounds {
        for unit in UNITS {
            for turn in 0..all.len() {
                let at = (turn + round) % all.len();
                let name = all[at].path.name;
                let time = all[at].shortest(unit).with_context(|| format!("{name}, {unit:?}"))?;
                times[at][unit as usize].push(time * 1e6);
            }
        }
    }
    let systems = all.iter().zip(&times).map(|(alone, own)| {
        let ratio = |unit: Unit| {
            let (own, base) = (&own[unit as usize], &times[0][unit as usize]);
            Summary::of(&own.iter().zip(base).map(|(t, b)| t / b).collect::<Vec<_>>())
        };
        Line {
            system: alone.path.name,
            time: UNITS.map(|unit| Summary::of(&own[unit as usize])),
            ratio: UNITS.map(ratio),
        }
    });
    Ok(Report { rounds, systems: systems.collect() })
}

impl Alone {
    fn new(path: Path) -> Result<Self> {
        let listeners = path.endpoints().map(|ns| Ok(ns.run(server::listen)?));
        let listeners = listeners.collect::<Result<Vec<_>>>()?;
        let open = connect(&path, &listeners)?;
        Ok(Self { path, listeners, open, buffer: vec![0; BULK] })
    }

    /// Seconds for a unit in the fastest of the batches.
    fn shortest(&mut self, unit: Unit) -> io::Result<f64> {
        let mut shortest = f64::INFINITY;
        for _ in 0..BATCHES {
            let begun = Instant::now();
            for _ in 0..BATCH {
                self.once(unit)?;
            }
            shortest = shortest.min(begun.elapsed().as_secs_f64() / BATCH as f64);
        }
        Ok(shortest)
    }

    fn once(&mut self, unit: Unit) -> io::Result<()> {
        let ([client, endpoint], buffer) = (&mut self.open, &mut self.buffer[..]);
        match unit {
            Unit::Request => {
                carry(client, endpoint, MESSAGE, buffer)?;
                carry(endpoint, client, MESSAGE, buffer)
            }
            Unit::Upload => carry(client, endpoint, BULK, buffer),
            Unit::Download => carry(endpoint, client, BULK, buffer),
            Unit::Connection => {
                let [mut client, mut endpoint] = connect(&self.path, &self.listeners)?;
                carry(&mut client, &mut endpoint, MESSAGE, buffer)?;
                carry(&mut endpoint, &mut client, MESSAGE, buffer)?;
                drop(endpoint);
                patiently(|| client.read(&mut [0]))?;
                Ok(())
            }
        }
    }
}

/// Until there is something.
fn patiently<T>(mut attempt: impl FnMut() -> io::Result<T>) -> io::Result<T> {
    let begun = Instant::now();
    loop {
        match attempt() {
            Err(error) if error.kind() == ErrorKind::WouldBlock => {
                if begun.elapsed() > TIMEOUT {
                    return Err(error);
                }
                // Softirqs that were put off run in a thread of the kernel.
                std::thread::yield_now();
            }
            result => return result,
        }
    }
}

fn connect(path: &Path, listeners: &[TcpListener]) -> io::Result<[TcpStream; 2]> {
    let client = path.client().run(|| load::connect(path, 0, path.targets()[0]))?;
    let mut accept = || {
        let mut last = Err(ErrorKind::WouldBlock.into());
        for listener in listeners {
            last = listener.accept();
            if last.is_ok() {
                break;
            }
        }
        last
    };
    let (endpoint, _) = patiently(&mut accept)?;
    for stream in [&client, &endpoint] {
        stream.set_nonblocking(true)?;
        stream.set_nodelay(true)?;
    }
    Ok([client, endpoint])
}

/// Writes so many bytes and reads them at the other end.
fn carry(
    from: &mut TcpStream,
    to: &mut TcpStream,
    bytes: usize,
    buffer: &mut [u8],
) -> io::Result<()> {
    static NOTHING: [u8; BULK] = [0; BULK];
    let (mut written, mut read) = (0, 0);
    while read < bytes {
        if written < bytes {
            match from.write(&NOTHING[written..bytes]) {
                Ok(more) => written += more,
                Err(error) if error.kind() == ErrorKind::WouldBlock => {}
                Err(error) => return Err(error),
            }
        }
        read += match patiently(|| to.read(buffer))? {
            0 => return Err(ErrorKind::UnexpectedEof.into()),
            more => more,
        };
    }
    Ok(())
}

impl Report {
    /// As tables for people.
    pub fn tables(&self) -> Vec<Table> {
        let title = format!(
            "Microseconds on one CPU, without the scheduler: median of {} rounds (ratio to plain forwarding)",
            self.rounds
        );
        let header = ["system", "connection", "request", "60 KB to endpoint", "60 KB to client"];
        let mut table = Table::new(&title, &header);
        for line in &self.systems {
            let cell =
                |at: usize| format!("{:.2} ({:.3})", line.time[at].median, line.ratio[at].median);
            table.row([line.system.to_owned(), cell(0), cell(1), cell(2), cell(3)]);
        }
        vec![table]
    }
}
