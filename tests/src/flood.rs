//! Floods of packets from invented clients, made in the kernel one by one (see
//! `probe-ebpf/src/flood.rs`): ten million take seconds.

use anyhow::{Context as _, Result, bail, ensure};
use aya::maps::{Array, MapData, ProgramArray};
use aya::programs::{Program, SchedClassifier, TestRun as _, TestRunOptions, Xdp, XdpMode};
use aya::{Ebpf, EbpfLoader};

use crate::netns::Netns;
use crate::packet::{TCP, parse};

pub(crate) static OBJECT: &[u8] =
    aya::include_bytes_aligned!(concat!(env!("OUT_DIR"), "/weir-flood-ebpf"));

/// The bytes of a frame that the generator writes: what is behind them stays as it is.
const HEADERS: usize = 80;

/// A number that is drawn for each packet; as in the object.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default)]
struct Drawn {
    at: u32,
    least: u32,
    count: u32,
}

/// What packets are made of; as in the object.
#[repr(C)]
#[derive(Clone, Copy, Debug)]
struct Recipe {
    frame: [u16; HEADERS / 2],
    next: u64,
    address: Drawn,
    port: Drawn,
    sequence: Drawn,
    checksum: u32,
    ip_checksum: u32,
    target: u32,
}

// SAFETY: repr(C), plain integers, no padding: 80, 8 and 12 times 4 bytes.
unsafe impl aya::Pod for Recipe {}
const _: () = assert!(size_of::<Recipe>() == 136);

/// Where the client stands in a packet.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Client {
    /// It is the sender.
    Source,
    /// It is the receiver, of an endpoint's answer.
    Destination,
}

/// Packets that are alike but for the client and the sequence number. Waves of the same clients
/// meet them in the same order: an answer can follow each question.
#[derive(Clone, Debug)]
pub struct Wave {
    frame: Vec<u8>,
    recipe: Recipe,
}

impl Wave {
    /// Packets like `frame`, from or to any of `addresses` times `ports` clients: the one in the
    /// frame and those behind it. The frame has no VLAN tags, options or extension headers.
    ///
    /// # Panics
    ///
    /// If it is no such frame.
    #[must_use]
    pub fn new(frame: &[u8], client: Client, addresses: u32, ports: u32) -> Self {
        let parsed = parse(frame).expect("a whole frame");
        let v4 = parsed.source.is_ipv4();
        let l4 = if v4 { 34 } else { 54 };
        assert_eq!((parsed.l3, parsed.l4), (14, l4), "a frame without options");
        let mut frame = frame.to_vec();
        frame.resize(frame.len().max(HEADERS), 0);
        // In halfwords. Of an address, the last one.
        let (address, port) = match (client, v4) {
            (Client::Source, true) => (14, 17),
            (Client::Source, false) => (18, 27),
            (Client::Destination, true) => (16, 18),
            (Client::Destination, false) => (26, 28),
        };
        let half = |at: usize| u32::from(u16::from_be_bytes([frame[2 * at], frame[2 * at + 1]]));
        let least = half(address - 1) << 16 | half(address);
        let drawn = |at: usize, least, count| Drawn { at: at as u32, least, count };
        let field = if parsed.protocol == TCP { 16 } else { 6 };
        let mut halves = [0; HEADERS / 2];
        for (half, bytes) in halves.iter_mut().zip(frame.as_chunks::<2>().0) {
            *half = u16::from_ne_bytes(*bytes);
        }
        let recipe = Recipe {
            frame: halves,
            next: 0,
            address: drawn(address, least, addresses),
            port: drawn(port, half(port), ports),
            sequence: Drawn::default(),
            checksum: (l4 + field) as u32 / 2,
            ip_checksum: if v4 { 12 } else { 0 },
            target: 0,
        };
        Self { frame, recipe }
    }

    /// Draws the sequence number, too: any of `count` from `least` on.
    #[must_use]
    pub fn sequences(mut self, least: u32, count: u32) -> Self {
        let at = if self.recipe.ip_checksum == 0 { 30 } else { 20 };
        self.recipe.sequence = Drawn { at, least, count };
        self
    }
}

/// A program of weir that can be flooded.
#[derive(Clone, Copy, Debug)]
pub struct Target {
    xdp: bool,
    number: u32,
}

/// The loaded generator.
pub struct Generator {
    ebpf: Ebpf,
    recipe: Array<MapData, Recipe>,
    /// At TC and XDP.
    targets: [ProgramArray<MapData>; 2],
    /// How many there are of these.
    aimed: [u32; 2],
    buffer: Vec<u8>,
    /// Where no packet ever comes.
    _quiet: Netns,
}

impl Generator {
    /// Loads it; needs root.
    ///
    /// # Errors
    ///
    /// As the kernel's.
    pub fn load() -> Result<Self> {
        let mut ebpf = EbpfLoader::new().load(OBJECT)?;
        let quiet = Netns::new()?;
        for (_, program) in ebpf.programs_mut() {
            match program {
                Program::Xdp(program) => {
                    program.load()?;
                    // A run of many packets tells the kernel's dispatcher of XDP programs about
                    // the program, and waits twice until all CPUs know. If it is attached
                    // somewhere, they know already.
                    quiet.run(|| program.attach("lo", XdpMode::Skb))?;
                }
                Program::SchedClassifier(program) => program.load()?,
                _ => bail!("a program of an unknown type"),
            }
        }
        let mut take = |name: &str| ebpf.take_map(name).with_context(|| format!("no map {name}"));
        let recipe = Array::try_from(take("RECIPE")?)?;
        let [tc, xdp] = ["TARGETS_TC", "TARGETS_XDP"].map(&mut take);
        let targets = [ProgramArray::try_from(tc?)?, ProgramArray::try_from(xdp?)?];
        Ok(Self { ebpf, recipe, targets, aimed: [0; 2], buffer: vec![0; 4096], _quiet: quiet })
    }

    /// Takes a loaded program as one that can be flooded.
    ///
    /// # Errors
    ///
    /// If there are too many already.
    pub fn aim(&mut self, program: &Program) -> Result<Target> {
        let xdp = matches!(program, Program::Xdp(_));
        let number = self.aimed[usize::from(xdp)];
        self.targets[usize::from(xdp)].set(number, program.fd()?, 0)?;
        self.aimed[usize::from(xdp)] += 1;
        Ok(Target { xdp, number })
    }

    /// Runs a program on the next `count` packets of a wave. Gives what it returned for the last
    /// one, and what became of that.
    ///
    /// # Errors
    ///
    /// As the kernel's; and if not all packets were made.
    pub fn send(&mut self, target: Target, wave: &mut Wave, count: u32) -> Result<(u32, &[u8])> {
        wave.recipe.target = target.number;
        self.recipe.set(0, wave.recipe, 0)?;
        let options = TestRunOptions {
            data_in: Some(&wave.frame),
            data_out: Some(&mut self.buffer),
            repeat: count,
            ..TestRunOptions::default()
        };
        let name = if target.xdp { "flood_xdp" } else { "flood_tc" };
        let result = match self.ebpf.program(name).with_context(|| format!("no program {name}"))? {
            Program::Xdp(program) => <Xdp as aya::programs::TestRun>::test_run(program, options),
            Program::SchedClassifier(program) => SchedClassifier::test_run(program, options),
            _ => bail!("a program of an unknown type"),
        }?;
        let before = wave.recipe.next;
        wave.recipe = self.recipe.get(&0, 0)?;
        let made = wave.recipe.next - before;
        ensure!(made == u64::from(count), "{made} packets were made instead of {count}");
        Ok((result.return_value, &self.buffer[..result.data_size_out as usize]))
    }
}
