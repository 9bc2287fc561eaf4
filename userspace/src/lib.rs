//! weir: a node agent that shifts traffic between the versions of a service, in the kernel.

pub mod access;
pub mod agent;
pub mod api;
pub mod cli;
pub mod cluster;
pub mod config;
pub mod conntrack;
pub mod controller;
pub mod datapath;
pub mod desired;
pub mod directory;
pub mod doctor;
pub mod ethtool;
pub mod explain;
pub mod fast_path;
pub mod files;
#[cfg(test)]
mod histories;
pub mod http;
pub mod interfaces;
pub mod metrics;
pub mod model;
pub mod netlink;
pub mod nftables;
pub mod plan;
pub mod privilege;
pub mod rates;
pub mod resource;
pub mod source;
pub mod store;
pub mod table;
pub mod top;
