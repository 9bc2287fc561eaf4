//! The programs of weir: the packet walk is in [`steps`]; both hooks and both families
//! run the same code, generic over [`hook::Hook`] and [`family::Family`].
//!
//! No module imports, directly or by way of others, one that imports it: those that
//! keep nothing but tables come first, then what is known of flows, then the steps, then
//! hooks and entry points.

mod atomic;
mod choice;
mod clock;
mod compiler;
mod counters;
mod creation;
mod delivery;
mod departing;
mod entry;
mod extensions;
mod family;
mod filter;
mod first_packet;
mod flows;
mod foreign;
mod fragment;
mod fragments;
mod generations;
mod global;
mod header_offsets;
mod hit;
mod hook;
mod icmp;
mod live;
mod log;
mod maps;
mod new_flow;
mod new_flows;
mod other;
mod redirect;
mod reject;
mod route;
mod set_lock;
mod shortcut;
mod signals;
mod sort;
mod steps;
mod successor;
mod tc;
mod tc_steps;
mod times;
mod tracking;
mod transfer;
mod unknown;
mod values;
mod verdict;
mod way;
mod xdp;
mod xdp_redirect;
mod xdp_steps;
