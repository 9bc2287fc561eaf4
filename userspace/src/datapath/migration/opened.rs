//! A pinned map, of whatever layout.

use std::os::fd::AsFd as _;
use std::path::Path;

use aya::maps::MapData;

use super::error::{During as _, MigrationError};
use crate::datapath::batch::Bytes;
use crate::datapath::shape::Shape;

/// A pinned map.
pub(super) struct Opened {
    data: MapData,
    /// What it was made as.
    pub shape: Shape,
}

impl Opened {
    /// The map that is pinned there.
    pub fn at(path: &Path) -> Result<Self, MigrationError> {
        let data = MapData::from_pin(path).during("open a pinned map")?;
        let info = data.info().during("look at a pinned map")?;
        Ok(Self { shape: Shape::found(&info).during("look at a pinned map")?, data })
    }

    /// Its entries; not of a map with values for each CPU.
    pub fn bytes(&self) -> Bytes<'_> {
        Bytes::new(self.data.fd().as_fd(), self.shape.key as usize, self.shape.value as usize)
    }

    /// Its id in the kernel.
    pub fn id(&self) -> Result<u32, MigrationError> {
        Ok(self.data.info().during("look at a pinned map")?.id())
    }

    /// Pins it elsewhere, too.
    pub fn pin(&self, path: &Path) -> Result<(), MigrationError> {
        self.data.pin(path).during("pin a map")
    }
}
