//! Why what is pinned cannot be taken over.

use std::io;

use probe_common::map::ABI_VERSION;

use crate::datapath::object::ObjectError;
use crate::datapath::{DatapathError, PinsError};

/// Why what another generation left cannot be taken over, or given back. Its
/// programs go on steering.
#[derive(Debug, thiserror::Error)]
pub enum MigrationError {
    /// A layout that this build does not know.
    #[error(
        "the pinned maps have layout {found}, which this build ({ABI_VERSION}) does not know: they \
         cannot be adopted. If a newer build made them, run its `weir downgrade --to \
         {ABI_VERSION}` first. `weir agent --replace` starts with empty maps: live flows are then \
         steered anew, by today's weights, and those that go to another endpoint than before are \
         reset"
    )]
    Layout {
        /// The layout that was found.
        found: u32,
    },
    /// Maps of this build's layout that are no such maps.
    #[error(
        "the pinned maps have this build's layout, but not its maps: {what}: {found}, expected \
         {wanted}; they cannot be adopted. `weir agent --replace` starts with empty maps: live \
         flows are then steered anew, by today's weights, and those that go to another endpoint \
         than before are reset"
    )]
    Shape {
        /// What differs.
        what: String,
        /// What was found.
        found: String,
        /// What this build has.
        wanted: String,
    },
    /// What is in the maps is more than is configured.
    #[error(
        "{name}: {configured} is configured, but what lives needs at least {needed}; configure \
         that, or wait until there is less"
    )]
    TooSmall {
        /// The key in the agent's configuration.
        name: &'static str,
        /// Its value.
        configured: u32,
        /// The least that would do.
        needed: u32,
    },
    /// A downgrade was begun and not ended.
    #[error(
        "a downgrade was interrupted: run `weir downgrade --to {layout}` once more; until then the \
         programs in the kernel go on steering"
    )]
    Interrupted {
        /// The layout that it was to.
        layout: u32,
    },
    /// A step failed, and what was there goes on.
    #[error("cannot {step}: {source}; the programs that were there go on steering")]
    Step {
        /// What was being done.
        step: &'static str,
        /// Why it failed.
        source: Box<dyn std::error::Error + Send + Sync>,
    },
}

/// Says what was being done when something failed.
pub(super) trait During<T> {
    /// With the step's name.
    fn during(self, step: &'static str) -> Result<T, MigrationError>;
}

macro_rules! during {
    ($($error:ty),*) => {$(
        impl<T> During<T> for Result<T, $error> {
            fn during(self, step: &'static str) -> Result<T, MigrationError> {
                self.map_err(|source| MigrationError::Step { step, source: source.into() })
            }
        }
    )*};
}
during!(io::Error, ObjectError, DatapathError, PinsError, aya::maps::MapError, aya::pin::PinError);
