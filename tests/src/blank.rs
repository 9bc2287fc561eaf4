//! The maps of a loaded object as they were when it was loaded: to have programs verified takes
//! more than a second, to make their maps blank some milliseconds.

use std::collections::BTreeMap;
use std::io;
use std::os::fd::{AsFd as _, AsRawFd as _, OwnedFd};

use anyhow::{Context as _, Result, bail};
use aya::Ebpf;
use aya::maps::{Map, MapData};

const BPF_MAP_LOOKUP_BATCH: libc::c_long = 24;
const BPF_MAP_LOOKUP_AND_DELETE_BATCH: libc::c_long = 25;
const BPF_MAP_UPDATE_BATCH: libc::c_long = 26;

/// Elements of an array that are written at once.
const BATCH: usize = 1024;

/// The part of `union bpf_attr` that these commands use.
#[repr(C)]
#[derive(Default)]
struct Attributes {
    in_batch: u64,
    out_batch: u64,
    keys: u64,
    values: u64,
    count: u32,
    map_fd: u32,
    elem_flags: u64,
    flags: u64,
}

/// How a map is made blank.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    /// It has no entries.
    Hash,
    /// All elements are 0.
    Array,
}

/// A map that programs or user space write.
#[derive(Debug)]
struct Slate {
    name: String,
    map: OwnedFd,
    kind: Kind,
    key: usize,
    /// Bytes of a value, as system calls copy it: that of all CPUs.
    value: usize,
    entries: usize,
}

/// All maps of an object that anybody writes after it was loaded.
#[derive(Debug)]
pub struct Blank {
    slates: Vec<Slate>,
}

/// A map's file descriptor and what it is.
///
/// # Errors
///
/// If weir has no maps of its type.
pub fn data(map: &Map) -> Result<&MapData> {
    let (Map::Array(data)
    | Map::HashMap(data)
    | Map::LruHashMap(data)
    | Map::PerCpuArray(data)
    | Map::ProgramArray(data)
    | Map::RingBuf(data)) = map
    else {
        bail!("a map of another type: {map:?}");
    };
    Ok(data)
}

impl Blank {
    /// Of the maps of an object of which none has been taken yet.
    ///
    /// # Errors
    ///
    /// As the kernel's.
    pub fn of(ebpf: &Ebpf) -> Result<Self> {
        let mut slates = Vec::new();
        // Neither META nor read-only data change. The programs of another generation, and the ring,
        // are for tests with an agent.
        let written = |name: &str| !name.starts_with('.') && name != "META";
        for (name, map) in ebpf.maps().filter(|(name, _)| written(name)) {
            let kind = match map {
                Map::HashMap(_) | Map::LruHashMap(_) => Kind::Hash,
                Map::Array(_) | Map::PerCpuArray(_) => Kind::Array,
                _ => continue,
            };
            let data = data(map)?;
            let info = data.info()?;
            let value = info.value_size() as usize;
            let value = match map {
                Map::PerCpuArray(_) => {
                    let cpus = aya::util::nr_cpus().map_err(|(_, error)| error)?;
                    value.next_multiple_of(8) * cpus
                }
                _ => value,
            };
            slates.push(Slate {
                name: name.to_owned(),
                map: data.fd().as_fd().try_clone_to_owned()?,
                kind,
                key: info.key_size() as usize,
                value,
                entries: info.max_entries() as usize,
            });
        }
        Ok(Self { slates })
    }

    /// Makes them so again.
    ///
    /// # Errors
    ///
    /// As the kernel's.
    pub fn restore(&self) -> Result<()> {
        for slate in &self.slates {
            slate.wipe().with_context(|| format!("make {} blank", slate.name))?;
        }
        Ok(())
    }

    /// What is in them that is not blank, by map: keys with their values.
    ///
    /// # Errors
    ///
    /// As the kernel's.
    pub fn written(&self) -> Result<BTreeMap<String, usize>> {
        let mut written = BTreeMap::new();
        for slate in &self.slates {
            let count = slate.written().with_context(|| format!("read {}", slate.name))?;
            if count != 0 {
                written.insert(slate.name.clone(), count);
            }
        }
        Ok(written)
    }
}

impl Slate {
    fn wipe(&self) -> io::Result<()> {
        match self.kind {
            Kind::Hash => self.all(BPF_MAP_LOOKUP_AND_DELETE_BATCH).map(drop),
            Kind::Array => self.zero(),
        }
    }

    /// Entries of a hash map; elements of an array that are not 0.
    fn written(&self) -> io::Result<usize> {
        let (count, values) = self.all(BPF_MAP_LOOKUP_BATCH)?;
        let values = values[..count * self.value].chunks_exact(self.value);
        Ok(match self.kind {
            Kind::Hash => count,
            Kind::Array => values.filter(|value| value.iter().any(|&byte| byte != 0)).count(),
        })
    }

    fn zero(&self) -> io::Result<()> {
        let zeros = vec![0u8; self.value * BATCH.min(self.entries)];
        let keys: Vec<u32> = (0..self.entries as u32).collect();
        for keys in keys.chunks(BATCH) {
            let mut attributes = Attributes {
                keys: keys.as_ptr() as u64,
                values: zeros.as_ptr() as u64,
                count: keys.len() as u32,
                ..self.attributes()
            };
            // As many keys as `count` says, and as many values.
            bpf(BPF_MAP_UPDATE_BATCH, &mut attributes)?;
        }
        Ok(())
    }

    /// Has one of the commands that walk do so to the end: how many there were, and their values.
    fn all(&self, command: libc::c_long) -> io::Result<(usize, Vec<u8>)> {
        let mut keys = vec![0u8; self.key * self.entries];
        let mut values = vec![0u8; self.value * self.entries];
        let mut next = [0u32; 16];
        let mut attributes = Attributes {
            out_batch: next.as_mut_ptr() as u64,
            keys: keys.as_mut_ptr() as u64,
            values: values.as_mut_ptr() as u64,
            count: self.entries as u32,
            ..self.attributes()
        };
        // Room for all that the map can hold, and for a place of any map's size.
        match bpf(command, &mut attributes) {
            // There may be no more.
            Err(error) if error.raw_os_error() != Some(libc::ENOENT) => Err(error),
            _ => Ok((attributes.count as usize, values)),
        }
    }

    fn attributes(&self) -> Attributes {
        Attributes { map_fd: self.map.as_raw_fd().unsigned_abs(), ..Attributes::default() }
    }
}

fn bpf(command: libc::c_long, attributes: &mut Attributes) -> io::Result<()> {
    let pointer: *mut Attributes = attributes;
    // SAFETY: the pointer is valid for that many bytes; what the addresses in it point to is the
    // business of the callers.
    let result = unsafe { libc::syscall(libc::SYS_bpf, command, pointer, size_of::<Attributes>()) };
    if result < 0 { Err(io::Error::last_os_error()) } else { Ok(()) }
}
