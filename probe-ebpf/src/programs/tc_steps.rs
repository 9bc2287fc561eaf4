//! The steps of the packet walk at TC.

use aya_ebpf::bindings::__sk_buff;
use probe_common::address::{V4, V6};

use super::steps::steps;
use super::tc::TcFrame;

steps!(ingress TcFrame, __sk_buff, V4:
    weir_tc_forward_hit_v4, weir_tc_forward_live_v4, weir_tc_forward_successor_v4, weir_tc_forward_new_flow_v4, weir_tc_forward_icmp_v4, weir_tc_forward_fragment_v4, weir_tc_forward_choose_v4, weir_tc_forward_way_v4, weir_tc_forward_first_packet_v4, weir_tc_forward_echo_v4);
steps!(ingress TcFrame, __sk_buff, V6:
    weir_tc_forward_hit_v6, weir_tc_forward_live_v6, weir_tc_forward_successor_v6, weir_tc_forward_new_flow_v6, weir_tc_forward_icmp_v6, weir_tc_forward_fragment_v6, weir_tc_forward_choose_v6, weir_tc_forward_way_v6, weir_tc_forward_first_packet_v6, weir_tc_forward_echo_v6);
steps!(egress TcFrame, __sk_buff, V4:
    weir_tc_reply_hit_v4, weir_tc_reply_live_v4, weir_tc_reply_new_flow_v4, weir_tc_reply_icmp_v4, weir_tc_reply_fragment_v4, weir_tc_reply_redirect_v4);
steps!(egress TcFrame, __sk_buff, V6:
    weir_tc_reply_hit_v6, weir_tc_reply_live_v6, weir_tc_reply_new_flow_v6, weir_tc_reply_icmp_v6, weir_tc_reply_fragment_v6, weir_tc_reply_redirect_v6);
