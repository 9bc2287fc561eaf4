//! Kubernetes' own kinds.

mod endpoint_slice;
mod service;

pub(super) use endpoint_slice::{Condition, EndpointSlice, Port as SlicePort};
pub(super) use service::{Address, App, Endpoints, Port, Service, Target, app_of_name};
