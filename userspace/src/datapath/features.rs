//! What the running kernel has of what weir makes use of.

use aya::programs::ProgramType;
use aya::sys::{BpfHelper, is_helper_supported};
use aya::util::KernelVersion;

use super::{Flows, Object, Walk};

/// Something that a kernel may have or not.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Feature {
    /// What it is called.
    pub name: &'static str,
    /// Whether the kernel has it.
    pub found: bool,
    /// What it is good for, or what is done without it.
    pub note: &'static str,
}

/// Whether TC programs are attached as TCX links (Linux 6.6).
pub fn has_tcx() -> bool {
    KernelVersion::current().is_ok_and(|kernel| kernel >= KernelVersion::new(6, 6, 0))
}

/// Whether packets at XDP may be in several buffers (Linux 5.18), as jumbo frames are.
pub fn has_xdp_frags() -> bool {
    KernelVersion::current().is_ok_and(|kernel| kernel >= KernelVersion::new(5, 18, 0))
}

/// Whether the look-up of a packet's route checks its MTU (Linux 5.12). Without
/// that, what exceeds it is sent past the stack all the same, and lost. It came
/// into kernels together with a helper, which can be asked for.
pub fn has_route_mtu() -> bool {
    let helper = BpfHelper::BPF_FUNC_check_mtu;
    is_helper_supported(ProgramType::SchedClassifier, helper).unwrap_or(false)
}

/// Whether the kernel has all of it, as the loaded object and its maps show.
pub fn features(object: &Object, flows: &Flows) -> Vec<Feature> {
    let feature = |name, found, notes: [&'static str; 2]| Feature {
        name,
        found,
        note: notes[usize::from(!found)],
    };
    vec![
        feature(
            "tcx",
            has_tcx(),
            [
                "TC programs are links, which are replaced in place",
                "TC programs are filters of a clsact queueing discipline",
            ],
        ),
        feature(
            "xdp-frags",
            has_xdp_frags(),
            [
                "XDP takes jumbo frames in the driver",
                "on interfaces with jumbo frames, drivers reject XDP: it runs in the stack",
            ],
        ),
        feature(
            "route-mtu",
            has_route_mtu(),
            [
                "what exceeds the MTU of its route is left to the stack",
                "packets go past the stack only with fastPath: on, those that exceed an MTU are lost",
            ],
        ),
        feature(
            "jit",
            object.is_jitted(),
            ["programs run as machine code", "programs are interpreted, many times slower"],
        ),
        feature(
            "batch",
            flows.step(&mut Walk::new(), |_| {}).is_ok(),
            [
                "flow tables are read some thousands of flows at a time",
                "flows cannot be listed, counted or swept",
            ],
        ),
        feature(
            "membarrier",
            super::grace().is_ok(),
            [
                "a split is changed when no program reads its old version any more",
                "weights cannot be changed twice in a row",
            ],
        ),
    ]
}
