//! What is right and cannot be steered: that nobody routes to it by weir is no mistake.

use crate::resource::host::Host;

/// A document that weir leaves alone: of a Service, of something of Istio.
#[derive(Debug, Clone, Default)]
pub(in crate::resource) struct Unsteered {
    /// The names by which routes may mean it.
    pub hosts: Vec<Host>,
    /// Why, for messages.
    pub why: String,
}
