//! Attaching the programs to interfaces.
//!
//! Every attachment is a link that is pinned, so that it outlives the agent; an
//! agent that finds the pin replaces the program in the link, which costs no
//! packet. Kernels without TCX get a clsact filter of a fixed place instead,
//! for which the pinned program stands.

use std::collections::BTreeSet;
use std::io;
use std::path::Path;

use aya::pin::PinError;
use aya::programs::links::{FdLink, LinkError, PinnedLink};
use aya::programs::tc::{NlOptions, SchedClassifierLink, TcAttachOptions, TcHandle};
use aya::programs::xdp::XdpLink;
use aya::programs::{LinkOrder, ProgramError, SchedClassifier, TcAttachType, Xdp, XdpMode, tc};

use super::Pins;
use super::features::has_tcx;
use super::network::interface_of;
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

/// Names of hooks, as in the names of pins.
const REPLY: &str = "reply";
const FORWARD: &str = "forward";
const XDP_NATIVE: &str = "xdp-native";
const XDP_GENERIC: &str = "xdp-generic";
/// Ends the names of pins that are programs, not links.
const CLSACT: &str = "-clsact";

/// The priority of weir's clsact filters.
pub const CLSACT_PRIORITY: u16 = 0xc0de;
/// Their number among those of that priority.
pub const CLSACT_HANDLE: u32 = 1;

/// Where weir's clsact filters are.
const PLACE: NlOptions = NlOptions {
    priority: CLSACT_PRIORITY,
    handle: TcHandle::new(0, CLSACT_HANDLE as u16),
    classid: None,
};

/// Why a program cannot be attached.
#[derive(Debug, thiserror::Error)]
pub enum AttachError {
    /// The kernel rejected.
    #[error(transparent)]
    Program(#[from] ProgramError),
    /// The kernel gave a link of an unexpected kind.
    #[error(transparent)]
    Link(#[from] LinkError),
    /// The attachment cannot be pinned.
    #[error(transparent)]
    Pin(#[from] PinError),
    /// A pin cannot be removed.
    #[error(transparent)]
    Io(#[from] io::Error),
}

/// An interface of the calling thread's network namespace.
#[derive(Debug, Clone, Copy)]
pub struct Interface<'a> {
    /// Its index.
    pub index: u32,
    /// Its name.
    pub name: &'a str,
}

/// Attaches both directions to an interface; says how the forward direction is
/// attached. Replies first, so that no flow is steered whose replies are not
/// translated. What was attached for another forward hook is detached at last.
pub fn attach(
    object: &mut Object,
    pins: &Pins,
    interface: Interface<'_>,
    forward: Forward,
) -> Result<Mode, ObjectError> {
    use TcAttachType::{Egress, Ingress};
    let mut wanted = Vec::new();
    wanted.push(attach_tc(object, pins, "weir_tc_reply", interface, (REPLY, Egress))?.0);
    let ingress = (FORWARD, Ingress);
    let mode = match forward {
        Forward::Tc => {
            let (hook, mode) = attach_tc(object, pins, "weir_tc_forward", interface, ingress)?;
            wanted.push(hook);
            mode
        }
        Forward::Xdp { virtual_device } => {
            if virtual_device {
                let (hook, _) = attach_tc(object, pins, "weir_tc_forward", interface, ingress)?;
                wanted.push(hook);
            }
            let name = Object::xdp(virtual_device);
            let (hook, mode) = attach_xdp(object, pins, name, interface.index)?;
            wanted.push(hook);
            mode
        }
    };
    for (index, hook) in pins.attached()? {
        if index == interface.index && !wanted.contains(&hook) {
            detach(pins, index, &hook)?;
        }
    }
    Ok(mode)
}

/// The interfaces where replies that leave are seen.
pub fn carriers_of_replies(pins: &Pins) -> Result<BTreeSet<u32>, ObjectError> {
    let attached = pins.attached()?.into_iter();
    let replies = attached.filter(|(_, hook)| tc_hook(hook) == Some(REPLY));
    Ok(replies.map(|(index, _)| index).collect())
}

/// The interfaces where a program at TC ingress deals with what comes in.
pub fn takers_of_replies(pins: &Pins) -> Result<BTreeSet<u32>, ObjectError> {
    let attached = pins.attached()?.into_iter();
    let forward = attached.filter(|(_, hook)| tc_hook(hook) == Some(FORWARD));
    Ok(forward.map(|(index, _)| index).collect())
}

/// What [`attach`] attached to an interface and somebody else has detached since, for
/// people; none if all is there. Of a clsact filter, `has_filter` says whether it is there.
pub fn detached(
    pins: &Pins,
    index: u32,
    (forward, mode): (Forward, Mode),
    mut has_filter: impl FnMut(TcAttachType) -> io::Result<bool>,
) -> io::Result<Vec<&'static str>> {
    use TcAttachType::{Egress, Ingress};
    let at_ingress = forward != Forward::Xdp { virtual_device: false };
    let tc = [(REPLY, Egress, "TC egress"), (FORWARD, Ingress, "TC ingress")];
    let mut missing = Vec::new();
    for (hook, direction, place) in tc {
        let is_wanted = direction == Egress || at_ingress;
        let mut is_there = || match has_tcx() {
            true => is_at(&pins.link(index, hook), index),
            false => has_filter(direction),
        };
        if is_wanted && !is_there()? {
            missing.push(place);
        }
    }
    let xdp = match mode {
        Mode::Native => Some(XDP_NATIVE),
        Mode::Generic => Some(XDP_GENERIC),
        Mode::Tcx | Mode::Clsact => None,
    };
    if let Some(hook) = xdp
        && !is_at(&pins.link(index, hook), index)?
    {
        missing.push("XDP");
    }
    Ok(missing)
}

/// Whether the link of that pin is at the interface. It is not once the pin is gone, which
/// alone holds it.
fn is_at(pin: &Path, index: u32) -> io::Result<bool> {
    match interface_of(pin) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(false),
        at => at.map(|at| at == index),
    }
}

/// Has the programs of an object take the place of those that are attached by all
/// pins, whosever they are. Interfaces that are gone are passed over.
pub(super) fn replace_all(object: &mut Object, pins: &Pins) -> Result<(), ObjectError> {
    let attached = pins.attached()?;
    for (index, hook) in &attached {
        let Ok(name) = nix::net::if_::if_indextoname(*index) else { continue };
        let name = name.to_string_lossy();
        let has_forward =
            |(of, hook): &(u32, String)| of == index && tc_hook(hook).is_some_and(|h| h == FORWARD);
        let interface = Interface { index: *index, name: &name };
        match tc_hook(hook) {
            Some(FORWARD) => {
                let place = (FORWARD, TcAttachType::Ingress);
                attach_tc(object, pins, "weir_tc_forward", interface, place)?;
            }
            Some(_) => {
                let place = (REPLY, TcAttachType::Egress);
                attach_tc(object, pins, "weir_tc_reply", interface, place)?;
            }
            None => {
                // Virtual devices have the program at TC as well, see `attach`.
                let name = Object::xdp(attached.iter().any(has_forward));
                attach_xdp(object, pins, name, *index)?;
            }
        }
    }
    Ok(())
}

/// The hook at TC of a pin; None if it is of XDP.
fn tc_hook(hook: &str) -> Option<&str> {
    let hook = hook.strip_suffix(CLSACT).unwrap_or(hook);
    [FORWARD, REPLY].contains(&hook).then_some(hook)
}

/// Detaches what is attached to the interface of that index, if anything is.
pub fn detach_all(pins: &Pins, index: u32) -> Result<(), ObjectError> {
    for (of, hook) in pins.attached()? {
        if of == index {
            detach(pins, index, &hook)?;
        }
    }
    Ok(())
}

fn detach(pins: &Pins, index: u32, hook: &str) -> Result<(), ObjectError> {
    if let Some(direction) = hook.strip_suffix(CLSACT)
        && let Ok(name) = nix::net::if_::if_indextoname(index)
        && let Ok(name) = name.to_str()
    {
        // Without the interface there is no filter either.
        drop(clsact_link(name, direction_of(direction)));
    }
    remove(&pins.link(index, hook))
}

fn remove(path: &Path) -> Result<(), ObjectError> {
    std::fs::remove_file(path)
        .map_err(|source| super::PinsError::Io { path: path.to_owned(), source }.into())
}

fn direction_of(hook: &str) -> TcAttachType {
    if hook == REPLY { TcAttachType::Egress } else { TcAttachType::Ingress }
}

/// The filter at weir's place; it is detached when this is dropped.
fn clsact_link(interface: &str, direction: TcAttachType) -> Option<SchedClassifierLink> {
    let NlOptions { priority, handle, classid } = PLACE;
    SchedClassifierLink::attached(interface, direction, priority, handle, classid).ok()
}

fn attach_tc(
    object: &mut Object,
    pins: &Pins,
    name: &'static str,
    interface: Interface<'_>,
    (hook, direction): (&str, TcAttachType),
) -> Result<(String, Mode), ObjectError> {
    let program: &mut SchedClassifier = program(object.ebpf(), name)?;
    let tcx = has_tcx();
    let (hook, mode) =
        if tcx { (hook.to_owned(), Mode::Tcx) } else { (format!("{hook}{CLSACT}"), Mode::Clsact) };
    let path = pins.link(interface.index, &hook);
    let result = if tcx {
        attach_tcx(program, &path, interface.name, direction)
    } else {
        attach_clsact(program, &path, interface.name, direction)
    };
    result.map_err(|source| ObjectError::Attach { name, source })?;
    Ok((hook, mode))
}

/// Where in line weir's program is: at ingress before all that are there, so that they see
/// packets as they go on; at egress behind them, so that they see what they saw before weir came.
/// Whoever keeps state at both hooks then sees the same addresses in both directions.
fn order(direction: TcAttachType) -> LinkOrder {
    match direction {
        TcAttachType::Ingress => LinkOrder::first(),
        _ => LinkOrder::last(),
    }
}

fn attach_tcx(
    program: &mut SchedClassifier,
    path: &Path,
    interface: &str,
    direction: TcAttachType,
) -> Result<(), AttachError> {
    if let Ok(pinned) = PinnedLink::from_pin(path) {
        let link: SchedClassifierLink = FdLink::from(pinned).try_into()?;
        if let Ok(id) = program.attach_to_link(link) {
            // The pin holds it.
            drop(program.take_link(id)?);
            return Ok(());
        }
        // Of an interface that is gone, whose index this one has now.
        std::fs::remove_file(path)?;
    }
    let options = TcAttachOptions::TcxOrder(order(direction));
    let id = program.attach_with_options(interface, direction, options)?;
    let link: FdLink = program.take_link(id)?.try_into()?;
    pin(link, path)
}

fn attach_clsact(
    program: &mut SchedClassifier,
    path: &Path,
    interface: &str,
    direction: TcAttachType,
) -> Result<(), AttachError> {
    // Fails if it is there already, which is as good.
    let _ = tc::qdisc_add_clsact(interface);
    let replaced = path.exists().then(|| clsact_link(interface, direction)).flatten();
    let replaced = replaced.and_then(|link| program.attach_to_link(link).ok());
    let id = match replaced {
        Some(id) => id,
        None => {
            program.attach_with_options(interface, direction, TcAttachOptions::Netlink(PLACE))?
        }
    };
    // A filter stays when nobody holds a link; dropping this one would remove it.
    std::mem::forget(program.take_link(id)?);
    let _ = std::fs::remove_file(path);
    Ok(program.pin(path)?)
}

fn attach_xdp(
    object: &mut Object,
    pins: &Pins,
    name: &'static str,
    index: u32,
) -> Result<(String, Mode), ObjectError> {
    let program: &mut Xdp = program(object.ebpf(), name)?;
    let modes =
        [(XDP_NATIVE, Mode::Native, XdpMode::Driver), (XDP_GENERIC, Mode::Generic, XdpMode::Skb)];
    for (hook, mode, _) in modes {
        let path = pins.link(index, hook);
        if let Ok(pinned) = PinnedLink::from_pin(&path) {
            if replace_xdp(program, pinned).is_ok() {
                return Ok((hook.into(), mode));
            }
            remove(&path)?;
        }
    }
    let mut rejected = None;
    for (hook, mode, how) in modes {
        match create_xdp(program, &pins.link(index, hook), index, how) {
            Ok(()) => return Ok((hook.into(), mode)),
            Err(error) => rejected = Some(error),
        }
    }
    let source = rejected.unwrap_or(ProgramError::NotLoaded.into());
    Err(ObjectError::Attach { name, source })
}

fn replace_xdp(program: &mut Xdp, pinned: PinnedLink) -> Result<(), AttachError> {
    let link: XdpLink = FdLink::from(pinned).try_into()?;
    let id = program.attach_to_link(link)?;
    // The pin holds it.
    drop(program.take_link(id)?);
    Ok(())
}

fn create_xdp(
    program: &mut Xdp,
    path: &Path,
    index: u32,
    mode: XdpMode,
) -> Result<(), AttachError> {
    let id = program.attach_to_if_index(index, mode)?;
    let link: FdLink = program.take_link(id)?.try_into()?;
    pin(link, path)
}

fn pin(link: FdLink, path: &Path) -> Result<(), AttachError> {
    // The pin holds it.
    drop(link.pin(path)?);
    Ok(())
}
