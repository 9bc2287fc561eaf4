//! Putting splits into the maps, so that no packet sees half of one.

use std::collections::BTreeMap;
use std::net::SocketAddr;

use aya::Ebpf;
use aya::maps::{Array, HashMap, Map, MapData, MapError};
use probe_common::address::{V4, V6};
use probe_common::filter;
use probe_common::map::{self, CHUNK, MAX_SUBSETS, ServiceKey};

use crate::explain::{subset_seed, words};
use crate::model::{Affinity, Family, Name, ServiceAddress, Split, Subset};
use crate::table::{Runs, maglev};

/// Why a split is not in the kernel. Nothing of it is in force then.
#[derive(Debug, thiserror::Error)]
pub enum PublishError {
    /// The kernel refused a write.
    #[error("cannot write map {map}: {source}")]
    Map {
        /// Its name.
        map: &'static str,
        /// What the kernel said.
        source: MapError,
    },
    /// A map that the object should have is missing.
    #[error("the eBPF object has no map {0}")]
    Missing(&'static str),
    /// A limit of the configuration is reached.
    #[error("the limit of {0} is reached")]
    Full(&'static str),
    /// A subset has too many endpoints.
    #[error("subset \"{0}\" has more than {max} endpoints", max = maglev::MAX_ENDPOINTS)]
    Endpoints(Name),
    /// The kernel offers no way to wait for running programs.
    #[error("cannot wait for a grace period: {0}")]
    Grace(std::io::Error),
}

/// A Maglev table in the kernel.
#[derive(Debug, Clone)]
struct Table {
    endpoints: Vec<SocketAddr>,
    len: u32,
    /// First chunk, or the endpoint's id; see [`map::Subset::table`].
    start: u32,
}

#[derive(Debug)]
struct Published {
    id: u32,
    address: ServiceAddress,
    version: u32,
    tables: BTreeMap<Name, Table>,
}

/// Writes splits. Owns the numbers under which the maps know them.
pub struct Publisher {
    services: HashMap<MapData, ServiceKey, u32>,
    active: Array<MapData, u32>,
    splits: Array<MapData, map::Split>,
    tables: Array<MapData, [u32; CHUNK]>,
    endpoints: Array<MapData, map::Endpoint>,
    service_filter: Array<MapData, u64>,
    endpoint_filter: Array<MapData, u64>,
    runs: Runs,
    published: BTreeMap<Name, Published>,
    ids: BTreeMap<(Name, Name, SocketAddr), u32>,
    next_split: u32,
    next_endpoint: u32,
    /// Runs of chunks that programs may still read.
    retired: Vec<(u32, u32)>,
}

fn write<T>(map: &'static str, result: Result<T, MapError>) -> Result<T, PublishError> {
    result.map_err(|source| PublishError::Map { map, source })
}

/// Takes a map out of a loaded object.
pub(super) fn take<M>(ebpf: &mut Ebpf, name: &'static str) -> Result<M, PublishError>
where
    M: TryFrom<Map, Error = MapError>,
{
    write(name, M::try_from(ebpf.take_map(name).ok_or(PublishError::Missing(name))?))
}

impl Publisher {
    /// Takes the maps of a loaded object.
    pub fn new(ebpf: &mut Ebpf) -> Result<Self, PublishError> {
        let tables: Array<MapData, [u32; CHUNK]> = take(ebpf, "TABLES")?;
        Ok(Self {
            services: take(ebpf, "SERVICES")?,
            active: take(ebpf, "ACTIVE")?,
            splits: take(ebpf, "SPLITS")?,
            endpoints: take(ebpf, "ENDPOINTS")?,
            service_filter: take(ebpf, "SERVICE_FILTER")?,
            endpoint_filter: take(ebpf, "ENDPOINT_FILTER")?,
            runs: Runs::new(tables.len()),
            tables,
            published: BTreeMap::new(),
            ids: BTreeMap::new(),
            next_split: 0,
            next_endpoint: 0,
            retired: Vec::new(),
        })
    }

    /// Puts a split into force, new or in place of its former version.
    pub fn publish(&mut self, split: &Split) -> Result<(), PublishError> {
        // The version slot that is written here, and tables that were replaced,
        // were in force until the last change: no program may still read them.
        self.grace()?;
        let (id, version, old) = match self.published.get(split.name()) {
            Some(known) => (known.id, known.version ^ 1, known.tables.clone()),
            None if self.next_split == self.active.len() => {
                return Err(PublishError::Full("limits.splits"));
            }
            None => (self.next_split, self.next_split * 2, BTreeMap::new()),
        };
        let mut tables = BTreeMap::new();
        let mut entry = map::Split {
            count: split.subsets().len() as u32,
            client_affinity: u32::from(split.affinity() == Affinity::ClientIp),
            subsets: [bytemuck::Zeroable::zeroed(); MAX_SUBSETS],
        };
        for (at, subset) in split.subsets().iter().enumerate() {
            let table = match old.get(&subset.name) {
                Some(table) if table.endpoints.iter().eq(&subset.endpoints) => table.clone(),
                _ => self.build(split, subset)?,
            };
            entry.subsets[at] = map::Subset {
                seed: subset_seed(split, subset),
                weight: subset.weight,
                len: table.len,
                table: table.start,
                id: id * MAX_SUBSETS as u32 + at as u32,
            };
            tables.insert(subset.name.clone(), table);
        }
        write("SPLITS", self.splits.set(version, entry, 0))?;
        write("ACTIVE", self.active.set(id, version, 0))?;
        let address = split.address();
        if old.is_empty() {
            write("SERVICES", self.services.insert(service_key(address), id, 0))?;
            list("SERVICE_FILTER", &mut self.service_filter, address.socket())?;
            self.next_split += 1;
        }
        for (name, table) in old {
            if table.len > 1 && tables.get(&name).is_none_or(|new| new.start != table.start) {
                self.retired.push((table.start, chunks(table.len)));
            }
        }
        self.published.insert(split.name().clone(), Published { id, address, version, tables });
        Ok(())
    }

    /// Takes a split out of force: new flows to its address pass untouched.
    /// Flows that were steered keep their entries.
    pub fn withdraw(&mut self, name: &Name) -> Result<(), PublishError> {
        let Some(known) = self.published.remove(name) else { return Ok(()) };
        write("SERVICES", self.services.remove(&service_key(known.address)))
    }

    /// The id under which a subset counts, if the split is in force. `at` is its position.
    pub fn subset_id(&self, split: &Name, at: usize) -> Option<u32> {
        self.published.get(split.as_str()).map(|known| known.id * MAX_SUBSETS as u32 + at as u32)
    }

    /// The id under which an endpoint of a subset counts.
    pub fn id_of(&self, split: &Name, subset: &Name, endpoint: SocketAddr) -> Option<u32> {
        self.ids.get(&(split.clone(), subset.clone(), endpoint)).copied()
    }

    fn build(&mut self, split: &Split, subset: &Subset) -> Result<Table, PublishError> {
        let endpoints: Vec<SocketAddr> = subset.endpoints.iter().copied().collect();
        let ids: Vec<u32> = endpoints
            .iter()
            .map(|&endpoint| self.endpoint_id(split, subset, endpoint))
            .collect::<Result<_, _>>()?;
        let len = maglev::size_for(endpoints.len())
            .ok_or_else(|| PublishError::Endpoints(subset.name.clone()))?;
        if len <= 1 {
            return Ok(Table { endpoints, len, start: ids.first().copied().unwrap_or(0) });
        }
        let seeds: Vec<u64> = endpoints.iter().map(|&e| maglev::seed(e)).collect();
        let start =
            self.runs.allocate(chunks(len)).ok_or(PublishError::Full("limits.tableSlots"))?;
        for (chunk, slots) in maglev::populate(&seeds, len).chunks(CHUNK).enumerate() {
            let mut value = [0; CHUNK];
            for (slot, &position) in value.iter_mut().zip(slots) {
                *slot = ids[position as usize];
            }
            write("TABLES", self.tables.set(start + chunk as u32, value, 0))?;
        }
        Ok(Table { endpoints, len, start })
    }

    fn endpoint_id(
        &mut self,
        split: &Split,
        subset: &Subset,
        endpoint: SocketAddr,
    ) -> Result<u32, PublishError> {
        let key = (split.name().clone(), subset.name.clone(), endpoint);
        if let Some(&id) = self.ids.get(&key) {
            return Ok(id);
        }
        let id = self.next_endpoint;
        if id == self.endpoints.len() {
            return Err(PublishError::Full("limits.endpoints"));
        }
        let (address, port) = (words(endpoint.ip()), endpoint.port().to_be());
        write("ENDPOINTS", self.endpoints.set(id, map::Endpoint { address, port, zero: 0 }, 0))?;
        list("ENDPOINT_FILTER", &mut self.endpoint_filter, endpoint)?;
        self.next_endpoint += 1;
        self.ids.insert(key, id);
        Ok(id)
    }

    /// Waits until every program that runs now has ended, then frees what was
    /// retired. membarrier(MEMBARRIER_CMD_GLOBAL) waits for an RCU grace
    /// period, which covers XDP and TC programs.
    fn grace(&mut self) -> Result<(), PublishError> {
        if self.published.is_empty() {
            return Ok(());
        }
        const MEMBARRIER_CMD_GLOBAL: libc::c_int = 1;
        // SAFETY: a system call without pointers.
        if unsafe { libc::syscall(libc::SYS_membarrier, MEMBARRIER_CMD_GLOBAL, 0, 0) } != 0 {
            return Err(PublishError::Grace(std::io::Error::last_os_error()));
        }
        for (start, length) in self.retired.drain(..) {
            self.runs.release(start, length);
        }
        Ok(())
    }
}

const fn chunks(slots: u32) -> u32 {
    slots.div_ceil(CHUNK as u32)
}

fn service_key(address: ServiceAddress) -> ServiceKey {
    ServiceKey {
        address: words(address.ip),
        port: address.port.to_be(),
        protocol: address.protocol.number(),
        family: match Family::of(address.ip) {
            Family::V4 => 4,
            Family::V6 => 6,
        },
    }
}

/// Sets the bit of an address and port in a filter.
fn list(
    name: &'static str,
    map: &mut Array<MapData, u64>,
    socket: SocketAddr,
) -> Result<(), PublishError> {
    let (words, port) = (words(socket.ip()), socket.port().to_be());
    let (word, bit) = match Family::of(socket.ip()) {
        Family::V4 => filter::position(V4(words[0]), port),
        Family::V6 => filter::position(V6(words), port),
    };
    let bits = write(name, map.get(&word, 0))?;
    write(name, map.set(word, bits | bit, 0))
}
