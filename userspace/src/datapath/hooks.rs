//! Attaching the programs to interfaces.

use aya::programs::{ProgramError, SchedClassifier, TcAttachType, Xdp, XdpMode, tc};
use aya::util::KernelVersion;

use super::object::{Object, ObjectError, program};

/// How an interface got its programs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Mode {
    /// TCX (Linux 6.6).
    Tcx,
    /// The clsact queueing discipline.
    Clsact,
    /// XDP in the driver.
    Native,
    /// XDP in the stack, for drivers without it.
    Generic,
}

impl Mode {
    /// The name in status and logs.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Tcx => "tcx",
            Self::Clsact => "clsact",
            Self::Native => "native",
            Self::Generic => "generic",
        }
    }
}

/// The hook of the forward direction.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Forward {
    /// TC ingress.
    Tc,
    /// XDP; TC ingress too on virtual devices, for what XDP cannot answer there.
    Xdp {
        /// The device has no hardware of its own (veth and the like).
        virtual_device: bool,
    },
}

fn attach_tc(
    object: &mut Object,
    name: &'static str,
    interface: &str,
    direction: TcAttachType,
) -> Result<Mode, ObjectError> {
    let mode = if KernelVersion::current().is_ok_and(|kernel| kernel >= KernelVersion::new(6, 6, 0))
    {
        Mode::Tcx
    } else {
        Mode::Clsact
    };
    if mode == Mode::Clsact {
        // Fails if it is there already, which is as good.
        let _ = tc::qdisc_add_clsact(interface);
    }
    let program: &mut SchedClassifier = program(object.ebpf(), name)?;
    program.attach(interface, direction).map_err(|source| ObjectError::Program { name, source })?;
    Ok(mode)
}

fn attach_xdp(
    object: &mut Object,
    name: &'static str,
    interface: &str,
) -> Result<Mode, ObjectError> {
    let program: &mut Xdp = program(object.ebpf(), name)?;
    if program.attach(interface, XdpMode::Driver).is_ok() {
        return Ok(Mode::Native);
    }
    let attached: Result<_, ProgramError> = program.attach(interface, XdpMode::Skb);
    attached.map_err(|source| ObjectError::Program { name, source })?;
    Ok(Mode::Generic)
}

/// Attaches both directions to an interface of the calling thread's network
/// namespace; says how the forward direction is attached. The programs stay
/// attached for as long as the object lives. Replies first, so that no flow is
/// steered whose replies are not translated.
pub fn attach(object: &mut Object, interface: &str, forward: Forward) -> Result<Mode, ObjectError> {
    attach_tc(object, "weir_tc_reply", interface, TcAttachType::Egress)?;
    match forward {
        Forward::Tc => attach_tc(object, "weir_tc_forward", interface, TcAttachType::Ingress),
        Forward::Xdp { virtual_device: true } => {
            attach_tc(object, "weir_tc_forward", interface, TcAttachType::Ingress)?;
            attach_xdp(object, "weir_xdp_forward_virtual", interface)
        }
        Forward::Xdp { virtual_device: false } => attach_xdp(object, "weir_xdp_forward", interface),
    }
}
