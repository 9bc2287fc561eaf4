//! Which interfaces XDP can send packets to, and from which: what the kernel
//! says of them (generic netlink, family "netdev", Linux 6.3), and what weir makes of it.

use std::collections::BTreeMap;
use std::io;

use probe_common::map::{
    DEVICE_NDO_XMIT, DEVICE_NDO_XMIT_SG, DEVICE_XDP_RX, DEVICE_XDP_TX, device_mac,
};

use super::{Device, Filters};
use crate::netlink::{Netlink, attribute, encode, number};

// From linux/genetlink.h and linux/netdev.h.
const GENL_ID_CTRL: u16 = 0x10;
const CTRL_CMD_GETFAMILY: u8 = 3;
const CTRL_ATTR_FAMILY_ID: u16 = 1;
const CTRL_ATTR_FAMILY_NAME: u16 = 2;
const NETDEV_CMD_DEV_GET: u8 = 1;
const NETDEV_A_DEV_IFINDEX: u16 = 1;
const NETDEV_A_DEV_XDP_FEATURES: u16 = 3;
/// `struct genlmsghdr`: command, version, two bytes of nothing.
const HEADER: usize = 4;

/// What a driver can do with XDP: bits of `enum netdev_xdp_act`.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct XdpFeatures(pub u64);

impl XdpFeatures {
    /// To run programs, and to send back what came in.
    pub const BASIC: Self = Self(1);
    /// To send what came in elsewhere.
    pub const SEND: Self = Self(1 << 2);
    /// To send it in several buffers.
    pub const SEND_PARTS: Self = Self(1 << 6);

    fn has(self, feature: Self) -> bool {
        self.0 & feature.0 == feature.0
    }
}

/// Asks the kernel for them.
pub struct Drivers {
    netlink: Netlink,
    /// The number of the family; none where the kernel does not have it.
    family: Option<u16>,
}

impl Drivers {
    /// Of the network namespace of the calling thread.
    pub fn new() -> io::Result<Self> {
        let mut netlink = Netlink::open(libc::NETLINK_GENERIC)?;
        let mut request = vec![CTRL_CMD_GETFAMILY, 1, 0, 0];
        request.extend(encode(CTRL_ATTR_FAMILY_NAME, b"netdev\0"));
        let family = match netlink.ask(GENL_ID_CTRL, &request) {
            Ok(answer) => id(&answer),
            Err(error) if error.raw_os_error() == Some(libc::ENOENT) => None,
            Err(error) => return Err(error),
        };
        Ok(Self { netlink, family })
    }

    /// Of all interfaces, by index; of none where the kernel does not say.
    pub fn list(&mut self) -> io::Result<BTreeMap<u32, XdpFeatures>> {
        let Some(family) = self.family else {
            return Ok(BTreeMap::new());
        };
        let messages = self.netlink.list(family, &[NETDEV_CMD_DEV_GET, 1, 0, 0])?;
        Ok(messages.iter().filter_map(|message| features(message)).collect())
    }
}

fn id(answer: &[u8]) -> Option<u16> {
    let id = attribute(answer.get(HEADER..)?, CTRL_ATTR_FAMILY_ID)?;
    id.first_chunk().map(|bytes| u16::from_ne_bytes(*bytes))
}

fn features(message: &[u8]) -> Option<(u32, XdpFeatures)> {
    let attributes = message.get(HEADER..)?;
    let index = attribute(attributes, NETDEV_A_DEV_IFINDEX).and_then(number)?;
    let bits = attribute(attributes, NETDEV_A_DEV_XDP_FEATURES)?.first_chunk()?;
    Some((index.cast_unsigned(), XdpFeatures(u64::from_ne_bytes(*bits))))
}

/// The words of the map DEVICES, of the interfaces that packets of XDP may go
/// from or to. `gives` says from which they may, as far as weir is concerned,
/// `has_foreign_programs` whether other programs than weir's are at an egress.
pub fn xdp_devices(
    devices: &BTreeMap<u32, Device>,
    drivers: &BTreeMap<u32, XdpFeatures>,
    gives: impl Fn(u32) -> bool,
    has_foreign_programs: impl Fn(u32) -> bool,
) -> BTreeMap<u32, u64> {
    let word = |(&index, device): (&u32, &Device)| {
        let driver = drivers.get(&index)?;
        let basic = driver.has(XdpFeatures::BASIC);
        // A master would take the packets of its ports, or not, before they are routed.
        let gives = basic && device.master.is_none() && gives(index);
        // What leaves from XDP waits in no queue of the stack, and meets no filter.
        let filtered = device.filters.is_some_and(Filters::has_egress);
        let free = !device.shapes && !filtered && !has_foreign_programs(index);
        let takes = free && driver.has(XdpFeatures::SEND);
        let flags = [
            (gives, DEVICE_XDP_RX),
            (free && basic, DEVICE_XDP_TX),
            (takes, DEVICE_NDO_XMIT),
            (free && driver.has(XdpFeatures::SEND_PARTS), DEVICE_NDO_XMIT_SG),
        ];
        let flags = flags.iter().filter(|(has, _)| *has).fold(0, |sum, (_, flag)| sum | flag);
        (gives || takes).then(|| (index, device_mac(device.mac) | flags))
    };
    devices.iter().filter_map(word).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    const MAC: [u8; 6] = [2, 0, 0, 0, 0, 9];
    const ALL: u64 = DEVICE_XDP_RX | DEVICE_XDP_TX | DEVICE_NDO_XMIT | DEVICE_NDO_XMIT_SG;

    fn word_of(change: impl Fn(&mut Device, &mut u64, &mut [bool; 2])) -> Option<u64> {
        let mut device = Device { name: "a".into(), mac: MAC, ..Device::default() };
        let [XdpFeatures(basic), XdpFeatures(send), XdpFeatures(parts)] =
            [XdpFeatures::BASIC, XdpFeatures::SEND, XdpFeatures::SEND_PARTS];
        let (mut driver, mut said) = (basic | send | parts, [true, false]);
        change(&mut device, &mut driver, &mut said);
        let [gives, foreign_programs] = said;
        let drivers = BTreeMap::from([(7, XdpFeatures(driver))]);
        let devices = BTreeMap::from([(7, device)]);
        xdp_devices(&devices, &drivers, |_| gives, |_| foreign_programs).remove(&7)
    }

    #[test]
    fn packets_go_only_where_the_driver_sends_them_and_nothing_is_passed_over() {
        let mac = device_mac(MAC);
        let word = |flags: u64| Some(mac | flags);
        let only_in = word(DEVICE_XDP_RX);
        assert_eq!(word_of(|_, _, _| {}), word(ALL));
        assert_eq!(word_of(|_, _, said| said[1] = true), only_in, "programs of others");
        assert_eq!(word_of(|device, _, _| device.shapes = true), only_in, "a shaper");
        let filters = |which| {
            move |device: &mut Device, _: &mut u64, _: &mut [bool; 2]| {
                device.filters = Some(which);
            }
        };
        assert_eq!(word_of(filters(Filters::Clsact)), only_in);
        assert_eq!(word_of(filters(Filters::Ingress)), word(ALL), "nothing at egress");
        let no_source = word(ALL & !DEVICE_XDP_RX);
        assert_eq!(word_of(|_, _, said| said[0] = false), no_source, "not at XDP");
        assert_eq!(word_of(|device, _, _| device.master = Some(3)), no_source, "a port");
        let no_driver = word(DEVICE_NDO_XMIT | DEVICE_NDO_XMIT_SG);
        assert_eq!(word_of(|_, driver, _| *driver &= !1), no_driver, "no programs");
        let one_buffer = word(ALL & !DEVICE_NDO_XMIT_SG);
        assert_eq!(word_of(|_, driver, _| *driver = 0b101), one_buffer);
        assert_eq!(word_of(|_, driver, _| *driver = 1), word(DEVICE_XDP_RX | DEVICE_XDP_TX));
        assert_eq!(word_of(|_, driver, _| *driver = 0), None, "neither");
    }

    #[test]
    fn of_a_device_that_the_kernel_says_nothing_about_none_is_taken() {
        let devices = BTreeMap::from([(7, Device { mac: MAC, ..Device::default() })]);
        assert_eq!(xdp_devices(&devices, &BTreeMap::new(), |_| true, |_| false), BTreeMap::new());
    }

    #[test]
    fn a_message_of_the_kernel_is_read() {
        let mut message = vec![NETDEV_CMD_DEV_GET, 1, 0, 0];
        message.extend(encode(NETDEV_A_DEV_IFINDEX, &7_u32.to_ne_bytes()));
        message.extend(encode(NETDEV_A_DEV_XDP_FEATURES, &0x47_u64.to_ne_bytes()));
        assert_eq!(features(&message), Some((7, XdpFeatures(0x47))));
        assert_eq!(features(&message[..12]), None, "without features");
        assert_eq!(features(&[]), None);
    }
}
