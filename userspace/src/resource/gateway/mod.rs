//! `gateway.networking.k8s.io`.

#[allow(clippy::module_inception, reason = "the kind is named as its group is")]
mod gateway;
mod grant;
mod route;

pub(super) use self::gateway::{Gateway, Namespaces};
pub(super) use grant::ReferenceGrant;
pub(super) use route::{BackendRef, GatewayRoute, ParentKind, ParentRef};

/// The group of the kinds.
pub(super) const GROUP: &str = "gateway.networking.k8s.io";
