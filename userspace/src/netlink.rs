//! Asking the kernel over netlink, and waiting for the answer.

use std::io;
use std::os::fd::{AsRawFd as _, BorrowedFd};

use nix::sys::socket::{setsockopt, sockopt};
use nix::sys::time::{TimeVal, TimeValLike as _};
use rtnetlink::packet_core::{NLM_F_DUMP, NLM_F_REQUEST, NetlinkBuffer, NlaBuffer, NlasIterator};
use rtnetlink::sys::{Socket, SocketAddr};

const NLMSG_ERROR: u16 = 2;
const NLMSG_DONE: u16 = 3;
/// NLM_F_DUMP_INTR: something changed while it was listed.
const INTERRUPTED: u16 = 0x10;
/// How often a list is asked for that changes meanwhile.
const ATTEMPTS: usize = 5;

/// A netlink socket of one protocol.
pub struct Netlink {
    socket: Socket,
    sequence: u32,
}

impl Netlink {
    /// In the network namespace of the calling thread; `protocol` is
    /// `NETLINK_ROUTE` and the like.
    pub fn open(protocol: libc::c_int) -> io::Result<Self> {
        let mut socket = Socket::new(protocol as isize)?;
        socket.bind_auto()?;
        // The kernel answers at once; should it not, nobody waits for ever.
        // SAFETY: the descriptor is the socket's, which lives longer.
        let fd = unsafe { BorrowedFd::borrow_raw(socket.as_raw_fd()) };
        setsockopt(&fd, sockopt::ReceiveTimeout, &TimeVal::seconds(1))?;
        Ok(Self { socket, sequence: 0 })
    }

    /// All objects of a kind: what follows the message headers.
    pub fn list(&mut self, kind: u16, body: &[u8]) -> io::Result<Vec<Vec<u8>>> {
        for _ in 0..ATTEMPTS {
            let mut list = Vec::new();
            if self.exchange(kind, NLM_F_DUMP, body, |message| list.push(message.to_vec()))? {
                return Ok(list);
            }
        }
        Err(io::Error::other("it changes faster than it can be listed"))
    }

    /// All objects of a kind, one after the other, of which there may be too many to be kept. If
    /// some change meanwhile, others may be missing or come twice.
    pub fn visit(&mut self, kind: u16, body: &[u8], visit: impl FnMut(&[u8])) -> io::Result<()> {
        self.exchange(kind, NLM_F_DUMP, body, visit).map(|_| ())
    }

    /// The one answer to a question.
    pub fn ask(&mut self, kind: u16, body: &[u8]) -> io::Result<Vec<u8>> {
        let mut answer = None;
        self.exchange(kind, 0, body, |message| answer = Some(message.to_vec()))?;
        answer.ok_or_else(|| io::Error::other("no answer"))
    }

    /// False if what was listed changed meanwhile.
    fn exchange(
        &mut self,
        kind: u16,
        flags: u16,
        body: &[u8],
        mut visit: impl FnMut(&[u8]),
    ) -> io::Result<bool> {
        self.sequence = self.sequence.wrapping_add(1);
        let mut request = vec![0; 16];
        request.extend_from_slice(body);
        let length = request.len() as u32;
        let mut header = NetlinkBuffer::new(&mut request);
        header.set_length(length);
        header.set_message_type(kind);
        header.set_flags(NLM_F_REQUEST | flags);
        header.set_sequence_number(self.sequence);
        self.socket.send_to(&request, &SocketAddr::new(0, 0), 0)?;
        let mut whole = true;
        loop {
            let (datagram, _) = self.socket.recv_from_full()?;
            let mut rest = datagram.as_slice();
            while !rest.is_empty() {
                let message = NetlinkBuffer::new_checked(rest).map_err(io::Error::other)?;
                let length = message.length() as usize;
                whole &= message.flags() & INTERRUPTED == 0;
                let ours = message.sequence_number() == self.sequence;
                match message.message_type() {
                    _ if !ours => {}
                    NLMSG_DONE | NLMSG_ERROR => {
                        let code = number(message.payload()).unwrap_or_default();
                        return match code {
                            0 => Ok(whole),
                            code => Err(io::Error::from_raw_os_error(-code)),
                        };
                    }
                    _ => visit(message.payload()),
                }
                if ours && flags == 0 {
                    return Ok(whole);
                }
                rest = rest.get(length.next_multiple_of(4)..).unwrap_or_default();
            }
        }
    }
}

/// The attributes in a message, behind its fixed part; nothing behind a malformed one.
pub fn attributes(bytes: &[u8]) -> impl Iterator<Item = (u16, &[u8])> {
    NlasIterator::new(bytes).map_while(Result::ok).map(|nla: NlaBuffer<&[u8]>| {
        let (kind, length) = (nla.kind(), nla.value_length());
        (kind, nla.into_inner().get(4..4 + length).unwrap_or_default())
    })
}

/// The value of the attribute of that kind.
pub fn attribute(bytes: &[u8], kind: u16) -> Option<&[u8]> {
    attributes(bytes).find(|(found, _)| *found == kind).map(|(_, value)| value)
}

/// A text, which ends at its null byte.
pub fn text(bytes: &[u8]) -> String {
    let end = bytes.iter().position(|&byte| byte == 0).unwrap_or(bytes.len());
    String::from_utf8_lossy(&bytes[..end]).into_owned()
}

/// The number at the beginning, in the machine's order.
pub fn number(bytes: &[u8]) -> Option<i32> {
    bytes.first_chunk().map(|bytes| i32::from_ne_bytes(*bytes))
}

/// The number at the beginning, in the order of the wire, as netfilter has them.
pub fn word(bytes: &[u8]) -> Option<u32> {
    bytes.first_chunk().map(|bytes| u32::from_be_bytes(*bytes))
}

/// An attribute, padded.
pub fn encode(kind: u16, value: &[u8]) -> Vec<u8> {
    let mut bytes = Vec::from(((value.len() + 4) as u16).to_ne_bytes());
    bytes.extend(kind.to_ne_bytes());
    bytes.extend(value);
    bytes.resize(bytes.len().next_multiple_of(4), 0);
    bytes
}
