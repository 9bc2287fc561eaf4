//! The desired state, in types that cannot hold a wrong one.
//!
//! Whatever the source (a file today), its documents resolve to these types;
//! the plan, the tables and the explanation work on nothing else. No clock,
//! no file system, no kernel.

mod address;
mod counted;
mod derived;
mod key;
mod name;
mod near;
mod reach;
mod settings;
mod split;
mod weights;

pub use address::{Family, Protocol, ServiceAddress};
pub use counted::counted;
pub use derived::{derived_split, derived_subset};
pub use key::Key;
pub use name::{Name, NameError, is_any_label, is_label};
pub use near::hint;
pub use reach::nowhere;
pub use settings::{Affinity, DEFAULT_DRAIN, SplitSettings};
pub use split::{
    MAX_SUBSETS, Split, SplitError, SplitSet, SplitSetError, Subset, WeightsError, check_subsets,
    total_weight,
};
pub use weights::Weights;
