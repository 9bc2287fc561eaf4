//! Latency at a fixed rate. The loop is open: what is to be sent is due at times that are fixed
//! beforehand, and latency counts from then, however late it is sent. So all that had to wait
//! while a system stalled counts against it (no coordinated omission).

use std::collections::{HashMap, VecDeque};
use std::io::{self, ErrorKind, Read, Write};
use std::net::TcpStream;
use std::os::fd::AsRawFd;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail, ensure};
use hdrhistogram::Histogram;
use nix::sys::epoll::{Epoll, EpollCreateFlags, EpollEvent, EpollFlags, EpollTimeout};
use nix::sys::time::TimeSpec;
use nix::sys::timerfd::{ClockId, Expiration, TimerFd, TimerFlags, TimerSetTimeFlags};

use super::load::{self, TIMEOUT, WARM_UP};
use super::server::{CLOSE, KEEP, MESSAGE};
use super::system::Path;

/// Open connections that take turns. One has no more than one request under way.
const OPEN: usize = 32;
/// What is late is sent so many at once, and answers are read in between: more would overflow the
/// kernel's queues after a pause of this thread.
const BURST: usize = 64;
/// The timer in epoll.
const TIMER: u64 = u64::MAX;

/// What is done at the rate.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Way {
    /// A request and its answer, on an open connection.
    Request,
    /// Connect, a request, its answer, until the server has closed.
    Connection,
}

/// What was seen in an interval.
#[derive(Clone, Copy, Debug)]
pub struct Percentiles {
    /// Seconds: 50th, 99th and 99.9th percentile.
    pub seconds: [f64; 3],
    /// Connections that were reset.
    pub reset: u64,
}

impl Way {
    pub const ALL: [Self; 2] = [Self::Request, Self::Connection];

    /// Does it `rate` times a second for `interval`, in one thread.
    pub fn measure(self, path: &Path, rate: f64, interval: Duration) -> Result<Percentiles> {
        path.client().run(|| match self {
            Self::Request => {
                let pace = Pace::new(rate, interval)?;
                let requests = Requests::new(path, &pace.epoll)?;
                pace.run(requests)
            }
            Self::Connection => Pace::new(rate, interval)?.run(Connections::new(path)),
        })
    }
}

/// Something that is done again and again.
trait Work {
    /// Begins what was due then.
    fn start(&mut self, due: Instant, epoll: &Epoll) -> Result<()>;
    /// Goes on where epoll says so. When something is done: the time at which it was due.
    fn proceed(&mut self, id: u64) -> Result<Option<Instant>>;
    /// Begun and not done.
    fn under_way(&self) -> usize;
    /// What those under way wait for.
    fn wait_for(&self) -> String;
    /// Connections that were reset.
    fn reset(&self) -> u64;
}

/// When what is due.
struct Pace {
    epoll: Epoll,
    timer: TimerFd,
    gap: Duration,
    interval: Duration,
}

impl Pace {
    fn new(rate: f64, interval: Duration) -> Result<Self> {
        let timer = TimerFd::new(ClockId::CLOCK_MONOTONIC, TimerFlags::TFD_NONBLOCK)?;
        let gap = Duration::from_secs_f64(1.0 / rate);
        let epoll = Epoll::new(EpollCreateFlags::empty())?;
        epoll.add(&timer, EpollEvent::new(EpollFlags::EPOLLIN, TIMER))?;
        timer.set(Expiration::Interval(TimeSpec::from(gap)), TimerSetTimeFlags::empty())?;
        Ok(Self { epoll, timer, gap, interval })
    }

    fn run(self, mut work: impl Work) -> Result<Percentiles> {
        let begun = Instant::now();
        let (measured, end) = (begun + WARM_UP, begun + WARM_UP + self.interval);
        let mut latencies = Histogram::<u64>::new(3)?;
        let mut events = [EpollEvent::empty(); 64];
        let mut due = begun;
        loop {
            let now = Instant::now();
            for _ in 0..BURST {
                if due > now || due >= end {
                    break;
                }
                work.start(due, &self.epoll)?;
                due += self.gap;
            }
            if due >= end && work.under_way() == 0 {
                break;
            }
            if now > end + TIMEOUT {
                bail!("for {TIMEOUT:?}, {}", work.wait_for());
            }
            let ready = self.epoll.wait(&mut events, EpollTimeout::from(50_u8))?;
            for event in &events[..ready] {
                if event.data() == TIMER {
                    self.timer.wait()?;
                } else if let Some(due) = work.proceed(event.data())?
                    && due >= measured
                {
                    latencies.record(due.elapsed().as_nanos().try_into()?)?;
                }
            }
        }
        ensure!(!latencies.is_empty(), "nothing was done");
        let reset = work.reset();
        ensure!(reset * 1000 < latencies.len(), "{reset} connections were reset");
        let seconds = |quantile| latencies.value_at_quantile(quantile) as f64 / 1e9;
        Ok(Percentiles { seconds: [0.5, 0.99, 0.999].map(seconds), reset })
    }
}

/// Requests on open connections.
struct Requests {
    streams: Vec<TcpStream>,
    /// When the request under way on each was due.
    due: Vec<Option<Instant>>,
    idle: VecDeque<usize>,
    /// When those were due for which no connection was idle.
    waiting: VecDeque<Instant>,
}

impl Requests {
    fn new(path: &Path, epoll: &Epoll) -> Result<Self> {
        let targets = path.targets().iter().cycle().take(OPEN).zip(0..);
        let streams = targets.map(|(&to, id)| {
            let stream = load::connect(path, 0, to).context("connect")?;
            stream.set_nonblocking(true)?;
            epoll.add(&stream, EpollEvent::new(EpollFlags::EPOLLIN, id))?;
            Ok(stream)
        });
        let streams = streams.collect::<Result<_>>()?;
        let (due, idle) = (vec![None; OPEN], (0..OPEN).collect());
        Ok(Self { streams, due, idle, waiting: VecDeque::new() })
    }

    fn send(&mut self) -> io::Result<()> {
        while !self.waiting.is_empty()
            && let Some(at) = self.idle.pop_front()
        {
            self.streams[at].write_all(&[KEEP; MESSAGE])?;
            self.due[at] = self.waiting.pop_front();
        }
        Ok(())
    }
}

impl Work for Requests {
    fn start(&mut self, due: Instant, _: &Epoll) -> Result<()> {
        self.waiting.push_back(due);
        Ok(self.send()?)
    }

    fn proceed(&mut self, id: u64) -> Result<Option<Instant>> {
        let at = usize::try_from(id)?;
        self.streams[at].read_exact(&mut [0; MESSAGE]).context("an answer")?;
        let due = self.due[at].take().context("an answer without a request")?;
        self.idle.push_back(at);
        self.send()?;
        Ok(Some(due))
    }

    fn under_way(&self) -> usize {
        self.waiting.len() + OPEN - self.idle.len()
    }

    fn wait_for(&self) -> String {
        let (asked, waiting) = (OPEN - self.idle.len(), self.waiting.len());
        format!("{asked} requests had no answer, and {waiting} were not sent")
    }

    fn reset(&self) -> u64 {
        0
    }
}

/// A connection for each request.
struct Connections<'a> {
    path: &'a Path,
    /// The next of the path's targets.
    target: usize,
    open: HashMap<u64, Open>,
    reset: u64,
}

/// A connection under way.
struct Open {
    stream: TcpStream,
    due: Instant,
    asked: bool,
    /// Bytes of the answer.
    answered: usize,
}

impl<'a> Connections<'a> {
    fn new(path: &'a Path) -> Self {
        Self { path, target: 0, open: HashMap::new(), reset: 0 }
    }
}

impl Work for Connections<'_> {
    fn start(&mut self, due: Instant, epoll: &Epoll) -> Result<()> {
        let targets = self.path.targets();
        let stream = load::begin_to_connect(self.path, 0, targets[self.target])?;
        self.target = (self.target + 1) % targets.len();
        let id = u64::try_from(stream.as_raw_fd())?;
        let each_change = EpollFlags::EPOLLIN | EpollFlags::EPOLLOUT | EpollFlags::EPOLLET;
        epoll.add(&stream, EpollEvent::new(each_change, id))?;
        self.open.insert(id, Open { stream, due, asked: false, answered: 0 });
        Ok(())
    }

    fn proceed(&mut self, id: u64) -> Result<Option<Instant>> {
        let open = self.open.get_mut(&id).context("an event of no connection")?;
        let done = match open.proceed() {
            Ok(done) => done,
            // See `load::connect_again`.
            Err(error) if error.kind() == ErrorKind::ConnectionReset => {
                self.reset += 1;
                self.open.remove(&id);
                return Ok(None);
            }
            Err(error) => return Err(error).context("a connection"),
        };
        Ok(if done { self.open.remove(&id).map(|open| open.due) } else { None })
    }

    fn under_way(&self) -> usize {
        self.open.len()
    }

    fn wait_for(&self) -> String {
        let unconnected = self.open.values().filter(|open| !open.asked).count();
        let unanswered = self.open.values().filter(|open| open.asked && open.answered == 0).count();
        let unclosed = self.open.len() - unconnected - unanswered;
        format!(
            "{unconnected} were not connected, {unanswered} not answered, {unclosed} not closed"
        )
    }

    fn reset(&self) -> u64 {
        self.reset
    }
}

impl Open {
    /// Whether the server has answered and closed.
    fn proceed(&mut self) -> io::Result<bool> {
        if !self.asked {
            if let Some(error) = self.stream.take_error()? {
                return Err(error);
            }
            self.stream.write_all(&[CLOSE; MESSAGE])?;
            self.asked = true;
        }
        loop {
            match self.stream.read(&mut [0; MESSAGE]) {
                Ok(0) if self.answered == MESSAGE => return Ok(true),
                Ok(0) => return Err(ErrorKind::UnexpectedEof.into()),
                Ok(length) => self.answered += length,
                Err(error) if error.kind() == ErrorKind::WouldBlock => return Ok(false),
                Err(error) => return Err(error),
            }
        }
    }
}
