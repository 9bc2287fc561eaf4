//! The objects that this build carries: its own, and those of earlier layouts,
//! whose maps it can take over and give back. See userspace/frozen/README.md.

use std::sync::LazyLock;

use probe_common::map::ABI_VERSION;

/// The last object of layout 7, compressed.
static LAYOUT_7: &[u8] = include_bytes!("../../frozen/layout-7.o.zlib");
/// More than any object has.
const MOST: usize = 1 << 26;

/// An object, and the layout of its maps.
pub(super) struct Build {
    layout: u32,
    object: Bytes,
}

enum Bytes {
    Own,
    /// In words, since who reads objects wants them aligned; and how many bytes there are.
    Frozen(Vec<u64>, usize),
}

static CURRENT: Build = Build { layout: ABI_VERSION, object: Bytes::Own };
static SEVEN: LazyLock<Build> = LazyLock::new(|| Build { layout: 7, object: thaw(LAYOUT_7) });

/// An object that was compressed.
fn thaw(frozen: &[u8]) -> Bytes {
    let bytes = miniz_oxide::inflate::decompress_to_vec_zlib_with_limit(frozen, MOST)
        .expect("what the build carries is whole: a test reads it");
    let words = bytes.chunks(8).map(|chunk| {
        let mut word = [0; 8];
        word[..chunk.len()].copy_from_slice(chunk);
        u64::from_ne_bytes(word)
    });
    Bytes::Frozen(words.collect(), bytes.len())
}

impl Build {
    /// This one.
    pub fn current() -> &'static Self {
        &CURRENT
    }

    /// The one whose maps have that layout, if this build knows it.
    pub fn of(layout: u32) -> Option<&'static Self> {
        match layout {
            _ if layout == ABI_VERSION => Some(&CURRENT),
            7 => Some(&SEVEN),
            _ => None,
        }
    }

    /// Whether this one.
    pub fn is_current(&self) -> bool {
        self.layout == ABI_VERSION
    }

    /// The layout of its maps.
    pub fn layout(&self) -> u32 {
        self.layout
    }

    /// Its object.
    pub fn object(&self) -> &[u8] {
        match &self.object {
            Bytes::Own => super::OBJECT,
            Bytes::Frozen(words, length) => &bytemuck::cast_slice(words)[..*length],
        }
    }
}
