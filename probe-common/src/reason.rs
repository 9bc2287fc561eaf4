//! Why packets were passed, rejected or dropped: the index of the counter in
//! the map REASONS, and its name in metrics and commands.

macro_rules! reasons {
    ($($variant:ident = $name:literal, $doc:literal;)*) => {
        /// Why a packet was not simply steered.
        #[repr(u32)]
        #[derive(Debug, Clone, Copy, PartialEq, Eq)]
        pub enum Reason { $(#[doc = $doc] $variant,)* }

        impl Reason {
            /// All reasons, in the order of their counters.
            pub const ALL: &[Reason] = &[$(Reason::$variant,)*];

            /// The stable name.
            pub const fn name(self) -> &'static str {
                match self { $(Reason::$variant => $name,)* }
            }
        }
    };
}

reasons! {
    PassFragment = "pass_fragment", "A fragment from or to an address of weir's, whose first one was not steered, or not yet: passed untouched.";
    PassUnparsed = "pass_unparsed", "Headers truncated, beyond the end of the IP packet, contradictory, or too long a chain: passed untouched.";
    PassReplyUntracked = "pass_reply_untracked", "From an endpoint's address, but of no known flow: passed untouched.";
    PassNoFlowReset = "pass_no_flow_reset", "A RST of no known flow to a service address: steered without an entry.";
    RejectNoEndpoint = "reject_no_endpoint", "The flow's subset has no endpoint: RST or port unreachable.";
    RejectEndpointGone = "reject_endpoint_gone", "The flow's endpoint was removed and its drain time is over: RST or port unreachable, or dropped.";
    RejectSilent = "reject_silent", "To be rejected, but the packet may not be answered or could not be: dropped.";
    RejectNoPort = "reject_no_port", "No source port was free to tell the flow from another to the same endpoint: RST or port unreachable.";
    FlowTableFull = "flow_table_full", "The kernel rejected a flow entry: steered without one, replies not translated; or it stays among the pending.";
    EntryTorn = "entry_torn", "A flow entry was replaced while it was read: the packet was treated as of no known flow.";
    RewriteFailed = "rewrite_failed", "The packet could not be changed (headers not writable): dropped.";
    Redirected = "redirected", "Steered past the node's stack.";
    StackHeaders = "stack_headers", "Left to the node's stack: VLAN tag, IP options, extension headers, fragment, or not addressed to the node's MAC address.";
    StackMark = "stack_mark", "Left to the node's stack: another program has marked the packet, and routes may depend on that.";
    StackTtl = "stack_ttl", "Left to the node's stack: TTL or hop limit is used up.";
    StackMtu = "stack_mtu", "Left to the node's stack: longer than the MTU of its route.";
    StackNoNeighbour = "stack_no_neighbour", "Left to the node's stack: the link-layer address of the next hop is not known yet.";
    StackRoute = "stack_route", "Left to the node's stack: no route, or not one to a next hop (local, blackhole, prohibited, tunnel), or forwarding is off; at XDP also if the interface of the route takes no packets from there.";
    FlowReused = "flow_reused", "A new flow on the tuple of one that was closing, closed or idle, or whose endpoint is draining or gone.";
    FlowAdopted = "flow_adopted", "A flow that was first seen in its middle, or was evicted from a full table and goes on.";
    IcmpTranslated = "icmp_translated", "An ICMP error about a packet of a flow: translated.";
    PassIcmpUntracked = "pass_icmp_untracked", "An ICMP error about what may be a packet of weir's, but of no known flow: passed untouched.";
    AnswerOther = "answer_other", "To a service address, but for no split, with `otherPorts: answer`: echo reply, RST or port unreachable.";
    FlowPortChanged = "flow_port_changed", "A flow whose source port was changed to keep its replies apart.";
    PassRouteLeft = "pass_route_left", "Its addresses are not those that it goes between (source route or routing header with hops left, home address): passed untouched.";
    DropRedirect = "drop_redirect", "An ICMP redirect that would have a client or an endpoint pass by the node: dropped.";
    PassForeign = "pass_foreign", "To a service address, of a connection that the node's connection tracking translated before weir steered it, or of which that is not known yet: passed untouched.";
}
