//! Documents to splits. Each unit is resolved by itself:
//! [`service`] what is addressed to services, [`istio_gateway`] and [`gateway`]
//! what is addressed to gateways; [`conditions`] says of routes what became of
//! them, [`routing`] the same of VirtualServices.

pub(super) mod authority;
pub(super) mod conditions;
mod endpoints;
pub(super) mod gateway;
pub(super) mod istio_gateway;
mod names;
mod plan;
pub(super) mod routing;
pub(super) mod service;
pub(super) mod traffic_split;

pub(super) use plan::{Outcome, Planned, Rank};
