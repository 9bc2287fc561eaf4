//! What a split is set to beside its address and subsets.

use std::fmt;
use std::time::Duration;

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

/// How long live flows keep an endpoint that was removed, unless the split says otherwise.
pub const DEFAULT_DRAIN: Duration = Duration::from_secs(300);

/// The settings of a split, as its document's `spec` has them. They are copied whole: from the
/// document to the ledger, to the kernel's map IDENTITIES, from which the next agent adopts them,
/// to what the API shows, and to the difference between two states.
///
/// In IDENTITIES they go by name. A build that does not know a name passes over it, and a name
/// that an earlier build did not write has its default: so each has one.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase", default)]
pub struct SplitSettings {
    /// What makes flows belong together.
    pub affinity: Affinity,
    /// How long live flows keep an endpoint that was removed, in seconds.
    #[serde(alias = "drain")]
    pub drain_seconds: u64,
}

impl SplitSettings {
    /// How long live flows keep an endpoint that was removed.
    pub fn drain(&self) -> Duration {
        Duration::from_secs(self.drain_seconds)
    }
}

impl Default for SplitSettings {
    fn default() -> Self {
        Self { affinity: Affinity::None, drain_seconds: DEFAULT_DRAIN.as_secs() }
    }
}

impl From<Affinity> for SplitSettings {
    fn from(affinity: Affinity) -> Self {
        Self { affinity, ..Self::default() }
    }
}

/// What makes flows belong together.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default, Serialize, Deserialize, ToSchema)]
pub enum Affinity {
    /// Each flow is steered by itself, by its 5-tuple.
    #[default]
    None,
    /// All flows of a client address go to the same endpoint.
    #[serde(rename = "ClientIP")]
    ClientIp,
}

impl fmt::Display for Affinity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Self::None => "None",
            Self::ClientIp => "ClientIP",
        })
    }
}
