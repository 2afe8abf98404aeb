//! Requests to the kernel over netlink, and the attributes of its answers.
//!
//! Spec: <https://www.kernel.org/doc/html/latest/userspace-api/netlink/intro.html>,
//! `linux/netlink.h`, `linux/genetlink.h`.

use std::io::{self, Read as _, Write as _};

use socket2::{Domain, Protocol, Socket, Type};

/// A socket that questions are sent to the kernel by, one at a time.
#[derive(Debug)]
pub struct Netlink {
    socket: Socket,
    sequence: u32,
}

impl Netlink {
    /// For interfaces and addresses (`NETLINK_ROUTE`).
    ///
    /// # Errors
    /// When the socket cannot be made.
    pub fn route() -> io::Result<Self> {
        Self::open(libc::NETLINK_ROUTE)
    }

    /// For the families of generic netlink (`NETLINK_GENERIC`).
    ///
    /// # Errors
    /// When the socket cannot be made.
    pub fn generic() -> io::Result<Self> {
        Self::open(libc::NETLINK_GENERIC)
    }

    fn open(protocol: i32) -> io::Result<Self> {
        let domain = Domain::from(libc::AF_NETLINK);
        let protocol = Protocol::from(protocol);
        let socket = Socket::new(domain, Type::from(libc::SOCK_RAW), Some(protocol))?;
        Ok(Self {
            socket,
            sequence: 0,
        })
    }

    /// Every object of a kind: the bodies of the answers to a request of type `kind`.
    ///
    /// # Errors
    /// What the kernel answers, and `EINTR` when the objects changed during each of some attempts.
    pub fn dump(&mut self, kind: u16, body: &[u8]) -> io::Result<Vec<Vec<u8>>> {
        const ATTEMPTS: usize = 4;
        for _ in 0..ATTEMPTS {
            let (bodies, is_whole) = self.request(kind, DUMP, body)?;
            if is_whole {
                return Ok(bodies);
            }
        }
        Err(io::Error::from_raw_os_error(libc::EINTR))
    }

    /// One object: the bodies of the answers to a request of type `kind`.
    ///
    /// # Errors
    /// What the kernel answers.
    pub fn ask(&mut self, kind: u16, body: &[u8]) -> io::Result<Vec<Vec<u8>>> {
        self.request(kind, ACKNOWLEDGE, body)
            .map(|(bodies, _)| bodies)
    }

    /// The answers, and whether they are of one moment.
    fn request(&mut self, kind: u16, flags: u16, body: &[u8]) -> io::Result<(Vec<Vec<u8>>, bool)> {
        self.sequence += 1;
        let mut message = Vec::with_capacity(HEADER_BYTES + body.len());
        let len = u32::try_from(HEADER_BYTES + body.len()).expect("requests are short");
        message.extend(len.to_ne_bytes());
        message.extend(kind.to_ne_bytes());
        message.extend((flags | REQUEST).to_ne_bytes());
        message.extend(self.sequence.to_ne_bytes());
        // The kernel fills the port in.
        message.extend([0; 4]);
        message.extend(body);
        (&self.socket).write_all(&message)?;
        let mut bodies = Vec::new();
        let mut is_whole = true;
        // The kernel sends at most half of this at once (netlink_dump, net/netlink/af_netlink.c).
        let mut buffer = vec![0; 1 << 16];
        loop {
            let received = (&self.socket).read(&mut buffer)?;
            for message in Messages(&buffer[..received]) {
                if message.sequence != self.sequence {
                    continue;
                }
                is_whole &= message.flags & INTERRUPTED == 0;
                match message.kind {
                    // Both begin with an error number, negative, or zero at a good end.
                    DONE | ERROR => {
                        let errno = message
                            .body
                            .first_chunk()
                            .map_or(0, |n| i32::from_ne_bytes(*n));
                        return match errno {
                            0 => Ok((bodies, is_whole)),
                            errno => Err(io::Error::from_raw_os_error(errno.saturating_neg())),
                        };
                    }
                    _ => bodies.push(message.body.to_vec()),
                }
            }
        }
    }
}

/// Generic netlink: the number of a family by its name, for this boot.
///
/// # Errors
/// `ENOENT` when the kernel has no such family.
pub fn family(netlink: &mut Netlink, name: &str) -> io::Result<u16> {
    const CTRL_VERSION: u8 = 2;
    let mut body = generic_header(libc::CTRL_CMD_GETFAMILY as u8, CTRL_VERSION);
    let name = [name.as_bytes(), &[0]].concat();
    body.extend(attribute(libc::CTRL_ATTR_FAMILY_NAME as u16, &name));
    let answers = netlink.ask(libc::GENL_ID_CTRL as u16, &body)?;
    let id = answers.iter().find_map(|answer| {
        let mut attributes = Attributes::after(answer, GENERIC_HEADER_BYTES);
        let (_, id) = attributes.find(|(kind, _)| *kind == libc::CTRL_ATTR_FAMILY_ID as u16)?;
        Some(u16::from_ne_bytes(*id.first_chunk()?))
    });
    id.ok_or_else(|| io::Error::from_raw_os_error(libc::ENOENT))
}

/// The beginning of a request to a family: `struct genlmsghdr`.
#[must_use]
pub fn generic_header(command: u8, version: u8) -> Vec<u8> {
    vec![command, version, 0, 0]
}

/// An attribute of a request: `struct nlattr`, the value, padding.
#[must_use]
pub fn attribute(kind: u16, value: &[u8]) -> Vec<u8> {
    let len = u16::try_from(ATTRIBUTE_HEADER_BYTES + value.len()).expect("requests are short");
    let mut bytes = Vec::from(len.to_ne_bytes());
    bytes.extend(kind.to_ne_bytes());
    bytes.extend(value);
    bytes.resize(bytes.len().next_multiple_of(ALIGN), 0);
    bytes
}

/// The attributes of an answer: kind without its flags, and value. Ends at the first whose length
/// cannot be right.
#[derive(Clone, Debug)]
pub struct Attributes<'a>(&'a [u8]);

impl<'a> Attributes<'a> {
    /// Those in the value of an attribute that nests others.
    #[must_use]
    pub fn of(value: &'a [u8]) -> Self {
        Self(value)
    }

    /// Those behind a fixed part of `header_bytes`.
    #[must_use]
    pub fn after(body: &'a [u8], header_bytes: usize) -> Self {
        Self(body.get(header_bytes..).unwrap_or_default())
    }
}

impl<'a> Iterator for Attributes<'a> {
    type Item = (u16, &'a [u8]);

    fn next(&mut self) -> Option<Self::Item> {
        let (len, rest) = self.0.split_first_chunk()?;
        let (kind, _) = rest.split_first_chunk()?;
        let len = usize::from(u16::from_ne_bytes(*len));
        let value = self.0.get(ATTRIBUTE_HEADER_BYTES..len)?;
        self.0 = self
            .0
            .get(len.next_multiple_of(ALIGN)..)
            .unwrap_or_default();
        Some((u16::from_ne_bytes(*kind) & KIND_MASK, value))
    }
}

/// A value of four bytes.
#[must_use]
pub fn number(value: &[u8]) -> Option<u32> {
    value.first_chunk().map(|bytes| u32::from_ne_bytes(*bytes))
}

/// A value that is text, without its final zero.
#[must_use]
pub fn text(value: &[u8]) -> String {
    let end = value.iter().position(|byte| *byte == 0);
    String::from_utf8_lossy(&value[..end.unwrap_or(value.len())]).into_owned()
}

struct Message<'a> {
    kind: u16,
    flags: u16,
    sequence: u32,
    body: &'a [u8],
}

/// The messages of one read: `struct nlmsghdr` each.
struct Messages<'a>(&'a [u8]);

impl<'a> Iterator for Messages<'a> {
    type Item = Message<'a>;

    fn next(&mut self) -> Option<Message<'a>> {
        let (len, rest) = self.0.split_first_chunk()?;
        let (kind, rest) = rest.split_first_chunk()?;
        let (flags, rest) = rest.split_first_chunk()?;
        let (sequence, _) = rest.split_first_chunk()?;
        let len = usize::try_from(u32::from_ne_bytes(*len)).ok()?;
        let body = self.0.get(HEADER_BYTES..len)?;
        self.0 = self
            .0
            .get(len.next_multiple_of(ALIGN)..)
            .unwrap_or_default();
        Some(Message {
            kind: u16::from_ne_bytes(*kind),
            flags: u16::from_ne_bytes(*flags),
            sequence: u32::from_ne_bytes(*sequence),
            body,
        })
    }
}

/// Length of `struct genlmsghdr`.
pub const GENERIC_HEADER_BYTES: usize = 4;

const HEADER_BYTES: usize = 16;
const ATTRIBUTE_HEADER_BYTES: usize = 4;
/// `NLMSG_ALIGNTO` and `NLA_ALIGNTO`.
const ALIGN: usize = 4;
const KIND_MASK: u16 = libc::NLA_TYPE_MASK as u16;
const REQUEST: u16 = libc::NLM_F_REQUEST as u16;
const ACKNOWLEDGE: u16 = libc::NLM_F_ACK as u16;
const DUMP: u16 = libc::NLM_F_DUMP as u16;
const INTERRUPTED: u16 = libc::NLM_F_DUMP_INTR as u16;
const ERROR: u16 = libc::NLMSG_ERROR as u16;
const DONE: u16 = libc::NLMSG_DONE as u16;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn attributes_are_read_as_they_are_written() {
        let bytes = [
            attribute(3, b"eth0\0"),
            attribute(4, &1500_u32.to_ne_bytes()),
        ]
        .concat();
        assert_eq!(bytes.len(), 12 + 8);
        let mut read = Attributes::of(&bytes);
        let (kind, name) = read.next().unwrap();
        assert_eq!((kind, text(name).as_str()), (3, "eth0"));
        let (kind, mtu) = read.next().unwrap();
        assert_eq!((kind, number(mtu)), (4, Some(1500)));
        assert!(read.next().is_none());
    }

    #[test]
    fn a_nested_attribute_is_found_by_its_plain_kind() {
        let nested = attribute(18 | libc::NLA_F_NESTED as u16, &attribute(1, b"vlan\0"));
        let (kind, value) = Attributes::of(&nested).next().unwrap();
        assert_eq!(kind, 18);
        let (kind, name) = Attributes::of(value).next().unwrap();
        assert_eq!((kind, text(name).as_str()), (1, "vlan"));
    }

    #[test]
    fn a_length_that_cannot_be_right_ends_the_attributes() {
        for len in [0_u16, 3, 200] {
            let mut bytes = attribute(1, &[0; 4]);
            bytes[..2].copy_from_slice(&len.to_ne_bytes());
            assert!(Attributes::of(&bytes).next().is_none(), "{len}");
        }
        assert!(Attributes::after(&[0; 3], 16).next().is_none());
    }

    #[test]
    fn the_kernel_answers_a_dump_and_refuses_what_does_not_exist() {
        let mut route = Netlink::route().unwrap();
        let links = route.dump(libc::RTM_GETLINK, &[0; 16]).unwrap();
        assert!(!links.is_empty(), "there is at least lo");
        let mut generic = Netlink::generic().unwrap();
        assert!(family(&mut generic, "nlctrl").is_ok());
        let error = family(&mut generic, "flowsluice").unwrap_err();
        assert_eq!(error.raw_os_error(), Some(libc::ENOENT));
    }
}
