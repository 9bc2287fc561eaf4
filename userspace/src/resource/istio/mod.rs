//! `networking.istio.io`.
//!
//! The types are written here, one file for each kind, with the fields that
//! weir honours and no others: of the crates that have Istio's types, none can
//! be had without a second copy of `kube` with its HTTP client and TLS library,
//! which is no dependency for what reads files. The fields that are missing
//! here are in the list of [`super::table`], from which they are rejected or noted.

mod destination_rule;
mod gateway;
mod service_entry;
mod virtual_service;
mod workload_entry;

pub(super) use destination_rule::DestinationRule;
pub(super) use gateway::{Gateway, Server};
pub(super) use service_entry::read as read_service_entry;
pub(super) use virtual_service::{Destination, Parent, RouteRule, VirtualService};
pub(super) use workload_entry::Workload;
