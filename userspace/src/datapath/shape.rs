//! What a map is made as: all that the kernel fixes then.

use std::collections::BTreeMap;
use std::fmt;

use aya::maps::MapInfo;

use super::Settings;
use super::object::ObjectError;

/// Maps that belong to the programs of one agent: what is in them has no
/// layout that the next one would know.
const NOT_PINNED: [&str; 9] = [
    "AYA_LOGS",
    "LOG_NOTES",
    "LOG_BUDGETS",
    "FIRST_FRAGMENT_V4",
    "FIRST_FRAGMENT_V6",
    "NEW_SCRATCH_V4",
    "NEW_SCRATCH_V6",
    "SOUGHT_V4",
    "SOUGHT_V6",
];
/// Maps that are pinned while two generations are there, and only then.
const OF_TRANSITION: [&str; 3] = ["STAGE", "OTHER_TC", "OTHER_XDP"];

/// Whether a map of the object is pinned: all are but its read-only data, and
/// what is listed above.
pub(super) fn is_pinned(name: &str) -> bool {
    !name.starts_with('.') && !NOT_PINNED.contains(&name) && !is_of_transition(name)
}

/// Whether a map is pinned while two generations are there.
pub(super) fn is_of_transition(name: &str) -> bool {
    OF_TRANSITION.contains(&name)
}

/// What a map is made as. Two maps of one shape can stand for each other, as far
/// as their sizes go.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Shape {
    /// The number of its type.
    pub kind: u32,
    /// Bytes of a key.
    pub key: u32,
    /// Bytes of a value.
    pub value: u32,
    /// The most entries.
    pub entries: u32,
    /// BPF_F_MMAPABLE and the like.
    pub flags: u32,
}

impl fmt::Display for Shape {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { kind, key, value, entries, flags } = self;
        write!(f, "{entries} entries of {key} and {value} bytes (type {kind}, flags {flags:#x})")
    }
}

impl Shape {
    /// Of a map in the kernel.
    pub fn found(info: &MapInfo) -> Result<Self, ObjectError> {
        Ok(Self {
            kind: info.map_type()? as u32,
            key: info.key_size(),
            value: info.value_size(),
            entries: info.max_entries(),
            flags: info.map_flags(),
        })
    }
}

/// The maps that an object makes with these settings, but for read-only data.
pub(super) fn shapes(
    object: &[u8],
    settings: &Settings,
) -> Result<BTreeMap<String, Shape>, ObjectError> {
    let object = aya_obj::Object::parse(object).map_err(aya::EbpfError::ParseError)?;
    let sizes: BTreeMap<_, _> = settings.entries().into_iter().collect();
    let maps = object.maps.into_iter().filter(|(name, _)| !name.starts_with('.'));
    let shape = |(name, map): (String, aya_obj::Map)| {
        let entries = sizes.get(name.as_str()).copied().unwrap_or(map.max_entries());
        let (kind, flags) = (map.map_type(), map.map_flags());
        (name, Shape { kind, key: map.key_size(), value: map.value_size(), entries, flags })
    };
    Ok(maps.map(shape).collect())
}
