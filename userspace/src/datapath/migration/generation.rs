//! A build's programs and the maps that they run on.

use std::path::{Path, PathBuf};

use aya::maps::{Array, Map, MapData, ProgramArray};
use aya::programs::{Program, ProgramFd};
use probe_common::map::Meta;

use super::compare::knows_reasons;
use super::error::{During as _, MigrationError};
use super::layout::Layout;
use super::opened::Opened;
use super::tables;
use crate::datapath::builds::Build;
use crate::datapath::object::{Object, ObjectError, Role};
use crate::datapath::shape::{Shape, is_pinned, shapes};
use crate::datapath::{Settings, grace};

/// A generation. Its maps are pinned in a directory of their own.
pub(super) struct Generation {
    build: &'static Build,
    /// How its entries are read and written.
    pub layout: Layout,
    /// What its maps are made for.
    pub settings: Settings,
    /// Where they are.
    pub maps: PathBuf,
    /// Whether it is known what its REASONS count.
    pub knows_reasons: bool,
}

impl Generation {
    /// The generation of a layout, if this build knows that.
    pub fn new(layout: u32, settings: Settings, maps: PathBuf) -> Result<Self, MigrationError> {
        let build = Build::of(layout).ok_or(MigrationError::Layout { found: layout })?;
        let layout = Layout::of(layout, &maps)?;
        Ok(Self { build, layout, settings, maps, knows_reasons: true })
    }

    /// The one whose maps are there, as they say themselves.
    pub fn found(found: &Meta, settings: &Settings, maps: PathBuf) -> Result<Self, MigrationError> {
        let mut generation = Self::new(found.abi_version, settings.of(found), maps)?;
        if generation.build.is_current() {
            let entries = generation.map("REASONS")?.shape.entries;
            generation.knows_reasons = knows_reasons(found, entries);
        }
        Ok(generation)
    }

    /// Loads its programs on its maps, and makes those that are missing.
    pub fn load(&self, role: Role) -> Result<Object, MigrationError> {
        Object::load_of(self.build, &self.settings, Some(&self.maps), role)
            .during("load the programs")
    }

    /// Says that its maps may be adopted.
    pub fn complete(&self, object: &mut Object) -> Result<(), MigrationError> {
        object.complete(&self.settings, self.build.layout()).during("write META")
    }

    fn map(&self, name: &str) -> Result<Opened, MigrationError> {
        Opened::at(&self.maps.join(name))
    }

    fn shapes(&self) -> Result<Vec<(String, Shape)>, MigrationError> {
        let found = shapes(self.build.object(), &self.settings).during("read the object")?;
        Ok(found.into_iter().filter(|(name, _)| is_pinned(name)).collect())
    }

    /// Takes those maps of another generation that serve here as they are; their
    /// names. Nothing that is in these has to be copied, and both count in the same.
    pub fn share(&self, other: &Self) -> Result<Vec<String>, MigrationError> {
        let own = self.shapes()?;
        let serves = |(name, shape): &(String, Shape)| -> Result<bool, MigrationError> {
            let is_there = other.maps.join(name).exists();
            let is_known = name != "REASONS" || other.knows_reasons;
            Ok(is_there
                && is_known
                && self.layout.means_as(&other.layout, name)
                && other.map(name)?.shape == *shape)
        };
        let mut shared = Vec::new();
        for map in own.iter().filter(|(name, _)| name != "META") {
            if serves(map)? {
                shared.push(map.0.clone());
            }
        }
        // Those of flows belong together: each says where in the others to look.
        let parts = ["FLOWS", "NEW_", "YOUNG", "FLOW_TIMES"];
        let of_flows = |name: &str| parts.iter().any(|part| name.starts_with(part));
        // Times may be new: earlier builds measured none.
        let is_needed = |name: &str| {
            of_flows(name) && (!name.starts_with("FLOW_TIMES") || other.maps.join(name).exists())
        };
        let flows = own.iter().filter(|(name, _)| is_needed(name)).count();
        if shared.iter().filter(|name| of_flows(name)).count() < flows {
            shared.retain(|name| !of_flows(name));
        }
        for name in &shared {
            other.map(name)?.pin(&self.maps.join(name))?;
        }
        Ok(shared)
    }

    /// Copies what is in force from another generation, but for what is shared.
    pub fn copy(&self, other: &Self, shared: &[String]) -> Result<(), MigrationError> {
        let converter = other.layout.converter(&self.layout, &other.maps)?;
        for name in tables::NAMES.iter().filter(|name| !shared.iter().any(|other| other == *name)) {
            if !self.maps.join(name).exists() {
                continue;
            }
            let own = self.map(name)?;
            if other.maps.join(name).exists() {
                let convert = |key: &[u8], value: &[u8]| converter.value(name, key, value);
                tables::copy(&other.map(name)?, &own, convert)?;
            }
            tables::write(&own, converter.made(name))?;
        }
        Ok(())
    }
}

/// Has the programs of an object, which is transitional, know where those of the other
/// generation are.
pub(super) fn connect(object: &mut Object, other: &mut Object) -> Result<(), MigrationError> {
    let xdp = [false, true].map(Object::xdp);
    for (map, programs) in [("OTHER_TC", Object::TC), ("OTHER_XDP", xdp)] {
        for (slot, name) in (0..).zip(programs) {
            set(object, map, slot, &fd(other, name)?).during("connect the programs")?;
        }
    }
    Ok(())
}

fn fd(object: &mut Object, name: &'static str) -> Result<ProgramFd, MigrationError> {
    let fd = match object.ebpf().program(name) {
        Some(Program::SchedClassifier(program)) => program.fd(),
        Some(Program::Xdp(program)) => program.fd(),
        _ => Err(aya::programs::ProgramError::NotLoaded),
    };
    fd.and_then(|fd| Ok(fd.try_clone()?))
        .map_err(|source| ObjectError::Program { name, source })
        .during("find the programs")
}

fn set(object: &mut Object, map: &str, slot: u32, program: &ProgramFd) -> Result<(), ObjectError> {
    if let Some(map) = object.ebpf().map_mut(map) {
        ProgramArray::try_from(map)?.set(slot, program, 0)?;
    }
    Ok(())
}

/// Which generation has the say, in the map that is pinned with a transitional one's.
pub(super) struct Stage(Array<MapData, u32>);

impl Stage {
    /// The one in a directory of maps; None if there is none.
    pub fn at(maps: &Path) -> Result<Option<Self>, MigrationError> {
        const STEP: &str = "open the map STAGE";
        let path = maps.join("STAGE");
        if !path.exists() {
            return Ok(None);
        }
        let data = MapData::from_pin(path).during(STEP)?;
        let stage = Array::<MapData, u32>::try_from(Map::Array(data));
        Ok(Some(Self(stage.during(STEP)?)))
    }

    /// What it is.
    pub fn get(&self) -> Result<u32, MigrationError> {
        self.0.get(&0, 0).during("read the map STAGE")
    }

    /// Changes it, for all hooks at once; when this returns, no program runs that
    /// began before.
    pub fn set(&mut self, stage: u32) -> Result<(), MigrationError> {
        self.0.set(0, stage, 0).during("write the map STAGE")?;
        grace().during("wait for running programs")
    }
}
