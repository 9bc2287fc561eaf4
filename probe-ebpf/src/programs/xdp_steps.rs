//! The steps of the packet walk at XDP.

use aya_ebpf::bindings::xdp_md;
use probe_common::address::{V4, V6};

use super::steps::steps;
use super::xdp::XdpFrame;

steps!(ingress XdpFrame<false>, xdp_md, V4:
    weir_xdp_hit_v4, weir_xdp_live_v4, weir_xdp_successor_v4, weir_xdp_new_flow_v4, weir_xdp_icmp_v4, weir_xdp_fragment_v4, weir_xdp_choose_v4, weir_xdp_way_v4, weir_xdp_first_packet_v4, weir_xdp_echo_v4);
steps!(ingress XdpFrame<false>, xdp_md, V6:
    weir_xdp_hit_v6, weir_xdp_live_v6, weir_xdp_successor_v6, weir_xdp_new_flow_v6, weir_xdp_icmp_v6, weir_xdp_fragment_v6, weir_xdp_choose_v6, weir_xdp_way_v6, weir_xdp_first_packet_v6, weir_xdp_echo_v6);
steps!(ingress XdpFrame<true>, xdp_md, V4:
    weir_xdp_virtual_hit_v4, weir_xdp_virtual_live_v4, weir_xdp_virtual_successor_v4, weir_xdp_virtual_new_flow_v4, weir_xdp_virtual_icmp_v4, weir_xdp_virtual_fragment_v4, weir_xdp_virtual_choose_v4, weir_xdp_virtual_way_v4, weir_xdp_virtual_first_packet_v4, weir_xdp_virtual_echo_v4);
steps!(ingress XdpFrame<true>, xdp_md, V6:
    weir_xdp_virtual_hit_v6, weir_xdp_virtual_live_v6, weir_xdp_virtual_successor_v6, weir_xdp_virtual_new_flow_v6, weir_xdp_virtual_icmp_v6, weir_xdp_virtual_fragment_v6, weir_xdp_virtual_choose_v6, weir_xdp_virtual_way_v6, weir_xdp_virtual_first_packet_v6, weir_xdp_virtual_echo_v6);
