//! Runs a program on prepared packets, as fast as it can (see probe-ebpf/src/bench.rs).

use std::ops::Range;

use anyhow::{Context as _, Result, bail, ensure};
use aya::maps::{Array, HashMap, MapData, ProgramArray};
use aya::programs::{
    Program, ProgramFd, SchedClassifier, TestRun as _, TestRunOptions, TestRunResult, Xdp,
};
use aya::{Ebpf, EbpfLoader};
use nix::time::{ClockId, clock_gettime};

/// The part of a frame that the driver restores, in words.
type Headers = [u64; 10];

/// Which packets are driven; as in the object.
#[repr(C)]
#[derive(Clone, Copy)]
struct Cursor {
    next: u32,
    first: u32,
    end: u32,
    zero: u32,
    driven: u64,
}

// SAFETY: repr(C), plain integers, no padding.
unsafe impl aya::Pod for Cursor {}

/// Where programs are attached.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Hook {
    Tc,
    Xdp,
}

impl Hook {
    pub const ALL: [Self; 2] = [Self::Tc, Self::Xdp];

    pub fn name(self) -> &'static str {
        match self {
            Self::Tc => "TC",
            Self::Xdp => "XDP",
        }
    }

    /// What a program returns that lets a packet go on. TC_ACT_UNSPEC is -1.
    pub fn pass(self) -> u32 {
        match self {
            Self::Tc => u32::MAX,
            Self::Xdp => 2,
        }
    }

    /// The names of driver, empty program, and map of the measured program.
    fn names(self) -> [&'static str; 3] {
        match self {
            Self::Tc => ["drive_tc", "empty_tc", "MEASURED_TC"],
            Self::Xdp => ["drive_xdp", "empty_xdp", "MEASURED_XDP"],
        }
    }
}

/// A part of what a packet's way consists of.
#[derive(Clone, Copy, Debug)]
pub enum Part {
    Call,
    /// What a packet pays that begins or ends a time.
    Clock,
    Checksum,
    LookUp,
    /// With packets of many flows in turn.
    LookUpMany,
}

impl Part {
    pub const ALL: [Self; 5] =
        [Self::Call, Self::Clock, Self::Checksum, Self::LookUp, Self::LookUpMany];

    pub fn name(self) -> &'static str {
        self.names()[1]
    }

    /// The names of the program, and for people.
    fn names(self) -> [&'static str; 2] {
        match self {
            Self::Call => ["call_tc", "call of a function of the program"],
            Self::Clock => ["clock_tc", "call of the helper that reads the clock"],
            Self::Checksum => ["checksum_tc", "call of the helper that changes a checksum"],
            Self::LookUp => ["look_up_tc", "look-up in an LRU hash table, one flow"],
            Self::LookUpMany => ["look_up_tc", "look-up in an LRU hash table, 64,000 in turn"],
        }
    }
}

/// A loaded program that can be driven.
pub struct Target {
    fd: ProgramFd,
    id: u32,
    pub hook: Hook,
}

impl Target {
    pub fn new(program: &Program, hook: Hook) -> Result<Self> {
        Ok(Self { fd: program.fd()?.try_clone()?, id: program.info()?.id(), hook })
    }
}

/// What came of a run.
pub struct Run {
    /// CPU time per packet.
    pub ns: f64,
    /// The last packet, as it came out.
    pub frame: Vec<u8>,
}

/// The driver, with the packets that it was given.
pub struct Driver {
    ebpf: Ebpf,
    /// Of [`Part::LookUp`]: addresses and ports.
    table: HashMap<MapData, [u64; 2], [u64; 5]>,
    frames: Array<MapData, Headers>,
    cursor: Array<MapData, Cursor>,
    /// Behind the last packet that was added.
    end: u32,
    /// By hook.
    measured: [ProgramArray<MapData>; 2],
    /// The id of the program there.
    current: [u32; 2],
    buffer: Vec<u8>,
}

impl Driver {
    /// Loads it, with room for that many packets, and for flows in the table of
    /// [`Part::LookUp`].
    pub fn load(packets: u32, flows: u32) -> Result<Self> {
        // One more, for packets that are run once.
        let mut ebpf = EbpfLoader::new()
            .map_max_entries("FRAMES", packets + 1)
            .map_max_entries("TABLE", 2 * flows)
            .load(crate::OBJECT)?;
        for (_, program) in ebpf.programs_mut() {
            match program {
                Program::Xdp(program) => program.load()?,
                Program::SchedClassifier(program) => program.load()?,
                _ => bail!("a program of an unknown type"),
            }
        }
        let mut take = |name: &str| ebpf.take_map(name).with_context(|| format!("no map {name}"));
        let table = HashMap::try_from(take("TABLE")?)?;
        let frames = Array::try_from(take("FRAMES")?)?;
        let cursor = Array::try_from(take("CURSOR")?)?;
        let [tc, xdp] = Hook::ALL.map(|hook| take(hook.names()[2]));
        let measured = [ProgramArray::try_from(tc?)?, ProgramArray::try_from(xdp?)?];
        let buffer = vec![0; 4096];
        Ok(Self { ebpf, table, frames, cursor, end: 1, measured, current: [0; 2], buffer })
    }

    /// Adds packets and tells where they are.
    pub fn add(&mut self, frames: impl Iterator<Item = Vec<u8>>) -> Result<Range<u32>> {
        let first = self.end;
        for frame in frames {
            self.frames.set(self.end, headers(&frame)?, 0)?;
            self.end += 1;
        }
        Ok(first..self.end)
    }

    /// Adds the two entries of a flow to the table of [`Part::LookUp`], from packets over IPv4 of
    /// both directions.
    pub fn know(&mut self, both: [&[u8]; 2]) -> Result<()> {
        for frame in both {
            let ends = frame.get(14 + 12..14 + 24).context("a frame without ports")?;
            let mut key = [0; 16];
            key[..ends.len()].copy_from_slice(ends);
            let (words, _) = key.as_chunks::<8>();
            let key = [words[0], words[1]].map(u64::from_ne_bytes);
            self.table.insert(key, [1; 5], 0)?;
        }
        Ok(())
    }

    /// A point in what was added.
    pub fn mark(&self) -> u32 {
        self.end
    }

    /// Takes out what was added after a mark.
    pub fn forget(&mut self, mark: u32) {
        self.end = mark;
    }

    /// The program that does nothing.
    pub fn empty(&self, hook: Hook) -> Result<Target> {
        Target::new(self.program(hook.names()[1])?, hook)
    }

    /// A program that does a part of what a packet's way consists of, at TC.
    pub fn part(&self, part: Part) -> Result<Target> {
        Target::new(self.program(part.names()[0])?, Hook::Tc)
    }

    /// CPU time per packet of the program that does nothing, not driven: what the kernel's
    /// loop takes.
    pub fn floor(&mut self, hook: Hook, frame: &[u8], count: u32) -> Result<f64> {
        let mut buffer = std::mem::take(&mut self.buffer);
        let (ns, _) = repeat(self.program(hook.names()[1])?, frame, &mut buffer, count)?;
        self.buffer = buffer;
        Ok(ns)
    }

    /// Runs a program on one packet and gives what came out, which must pass.
    pub fn once(&mut self, target: &Target, frame: &[u8]) -> Result<Vec<u8>> {
        self.frames.set(0, headers(frame)?, 0)?;
        Ok(self.run(target, 0..1, frame, 1)?.frame)
    }

    /// Runs a program on `count` packets, taken from `packets` in turn. All of them have the
    /// length of `frame` and, behind the headers, its bytes.
    pub fn run(
        &mut self,
        target: &Target,
        packets: Range<u32>,
        frame: &[u8],
        count: u32,
    ) -> Result<Run> {
        let hook = target.hook;
        if self.current[hook as usize] != target.id {
            self.measured[hook as usize].set(0, &target.fd, 0)?;
            self.current[hook as usize] = target.id;
        }
        let Range { start, end } = packets;
        let cursor = Cursor { next: start, first: start, end, zero: 0, driven: 0 };
        self.cursor.set(0, cursor, 0)?;
        let mut buffer = std::mem::take(&mut self.buffer);
        let (ns, result) = repeat(self.program(hook.names()[0])?, frame, &mut buffer, count)?;
        self.buffer = buffer;
        let driven = self.cursor.get(&0, 0)?.driven;
        ensure!(driven == u64::from(count), "{driven} packets were driven instead of {count}");
        let verdict = result.return_value;
        ensure!(verdict == hook.pass(), "{} program returned {verdict}", hook.name());
        Ok(Run { ns, frame: self.buffer[..result.data_size_out as usize].to_vec() })
    }

    fn program(&self, name: &str) -> Result<&Program> {
        self.ebpf.program(name).with_context(|| format!("no program {name}"))
    }
}

/// Runs a program `count` times on one buffer: CPU time of this thread for each, and the result.
/// The system call itself, some microseconds, is part of it.
fn repeat(
    program: &Program,
    frame: &[u8],
    buffer: &mut [u8],
    count: u32,
) -> Result<(f64, TestRunResult)> {
    let options = TestRunOptions {
        data_in: Some(frame),
        data_out: Some(buffer),
        repeat: count,
        ..TestRunOptions::default()
    };
    let before = clock_gettime(ClockId::CLOCK_THREAD_CPUTIME_ID)?;
    let result = match program {
        Program::Xdp(program) => <Xdp as aya::programs::TestRun>::test_run(program, options),
        Program::SchedClassifier(program) => SchedClassifier::test_run(program, options),
        _ => bail!("a program of an unknown type"),
    }?;
    let after = clock_gettime(ClockId::CLOCK_THREAD_CPUTIME_ID)?;
    let spent = std::time::Duration::from(after - before);
    Ok((spent.as_nanos() as f64 / f64::from(count), result))
}

fn headers(frame: &[u8]) -> Result<Headers> {
    let (words, _) = frame.as_chunks::<8>();
    let mut headers = Headers::default();
    ensure!(words.len() >= headers.len(), "a frame of {} bytes", frame.len());
    for (to, from) in headers.iter_mut().zip(words) {
        *to = u64::from_ne_bytes(*from);
    }
    Ok(headers)
}
