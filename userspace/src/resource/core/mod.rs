//! Kubernetes' own kinds.

mod endpoint_slice;
mod pod;
mod service;
mod unsteered;

pub(super) use endpoint_slice::{Condition, EndpointSlice, Port as SlicePort, Reference};
pub(super) use pod::Pod;
pub(super) use service::{
    Address, App, Endpoints, PROTOCOLS, Port, Service, Target, app_of_port, app_of_protocol,
};
pub(super) use unsteered::Unsteered;
