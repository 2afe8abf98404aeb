//! What the kernel knows of an interface's XDP and queues: the generic netlink family `netdev`.
//!
//! Spec: <https://docs.kernel.org/netlink/specs/netdev.html>, `linux/netdev.h`.

use std::io;

use serde::Serialize;

use super::netlink::{self, Attributes, GENERIC_HEADER_BYTES, Netlink};

/// What a driver can do with XDP.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub struct XdpFeatures {
    /// Programs run in the driver.
    pub native: bool,
    /// They may redirect, as into an AF_XDP socket.
    pub redirect: bool,
    /// The card writes to an AF_XDP socket's memory.
    pub zero_copy: bool,
    /// Frames of more than one buffer.
    pub fragments: bool,
}

/// A receive queue.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub struct Queue {
    /// Its number.
    pub id: u32,
    /// The number of its interrupt, where the driver tells.
    pub interrupt: Option<u32>,
    /// An AF_XDP socket is bound to it; always false before Linux 6.16.
    pub has_socket: bool,
}

/// Asks for the features of the interface with this number.
///
/// # Errors
/// `ENOENT` before Linux 6.3; `ENODEV` when there is no such interface.
pub fn xdp_features(index: u32) -> io::Result<XdpFeatures> {
    let mut netlink = Netlink::generic()?;
    let family = netlink::family(&mut netlink, FAMILY)?;
    let mut request = netlink::generic_header(DEVICE_GET, VERSION);
    request.extend(netlink::attribute(DEVICE_INDEX, &index.to_ne_bytes()));
    let answers = netlink.ask(family, &request)?;
    let bits = answers.iter().find_map(|answer| {
        let (_, value) = find(answer, DEVICE_XDP_FEATURES)?;
        Some(u64::from_ne_bytes(*value.first_chunk()?))
    });
    let bits = bits.ok_or_else(|| io::Error::from_raw_os_error(libc::ENOENT))?;
    Ok(XdpFeatures::from_bits(bits))
}

/// Asks for the receive queues of the interface with this number; one that is down has none.
///
/// # Errors
/// `ENOENT` before Linux 6.3, `EOPNOTSUPP` before 6.8.
pub fn queues(index: u32) -> io::Result<Vec<Queue>> {
    let mut netlink = Netlink::generic()?;
    let family = netlink::family(&mut netlink, FAMILY)?;
    let mut dump = |command, kind| {
        let mut request = netlink::generic_header(command, VERSION);
        request.extend(netlink::attribute(kind, &index.to_ne_bytes()));
        netlink.dump(family, &request)
    };
    let queues = dump(QUEUE_GET, QUEUE_INDEX)?;
    // Without the interrupts the queues are still worth knowing.
    let pollers = dump(NAPI_GET, NAPI_INDEX).unwrap_or_default();
    Ok((queues.iter())
        .filter_map(|body| queue(body, &pollers))
        .collect())
}

/// A receive queue with the interrupt of what polls it; `None` for one that sends.
fn queue(body: &[u8], pollers: &[Vec<u8>]) -> Option<Queue> {
    let value = |body, kind| find(body, kind).and_then(|(_, value)| netlink::number(value));
    if value(body, QUEUE_TYPE)? != QUEUE_TYPE_RX {
        return None;
    }
    let poller = value(body, QUEUE_NAPI).and_then(|id| {
        let mut pollers = pollers.iter();
        pollers.find(|poller| value(poller, NAPI_ID) == Some(id))
    });
    Some(Queue {
        id: value(body, QUEUE_ID)?,
        interrupt: poller.and_then(|poller| value(poller, NAPI_INTERRUPT)),
        has_socket: find(body, QUEUE_SOCKET).is_some(),
    })
}

fn find(body: &[u8], kind: u16) -> Option<(u16, &[u8])> {
    Attributes::after(body, GENERIC_HEADER_BYTES).find(|(found, _)| *found == kind)
}

impl XdpFeatures {
    /// `enum netdev_xdp_act`
    fn from_bits(bits: u64) -> Self {
        let has = |bit: u64| bits & bit != 0;
        Self {
            native: has(1),
            redirect: has(2),
            zero_copy: has(8),
            fragments: has(32),
        }
    }
}

const FAMILY: &str = "netdev";
const VERSION: u8 = 1;
const DEVICE_GET: u8 = 1;
const QUEUE_GET: u8 = 10;
const NAPI_GET: u8 = 11;
const DEVICE_INDEX: u16 = 1;
const DEVICE_XDP_FEATURES: u16 = 3;
const QUEUE_ID: u16 = 1;
const QUEUE_INDEX: u16 = 2;
const QUEUE_TYPE: u16 = 3;
const QUEUE_TYPE_RX: u32 = 0;
const QUEUE_NAPI: u16 = 4;
/// `NETDEV_A_QUEUE_XSK`
const QUEUE_SOCKET: u16 = 7;
const NAPI_INDEX: u16 = 1;
const NAPI_ID: u16 = 2;
const NAPI_INTERRUPT: u16 = 3;

#[cfg(test)]
mod tests {
    use super::*;

    fn body(attributes: &[(u16, u32)]) -> Vec<u8> {
        let mut body = netlink::generic_header(0, VERSION);
        for (kind, value) in attributes {
            body.extend(netlink::attribute(*kind, &value.to_ne_bytes()));
        }
        body
    }

    #[test]
    fn features_are_bits() {
        let card = XdpFeatures::from_bits(0b101_1011);
        assert!(card.native && card.redirect && card.zero_copy && !card.fragments);
        let none = XdpFeatures::from_bits(0);
        assert!(!none.native && !none.zero_copy);
    }

    #[test]
    fn a_receive_queue_has_the_interrupt_of_what_polls_it() {
        let pollers = [
            body(&[(NAPI_INDEX, 2), (NAPI_ID, 513), (NAPI_INTERRUPT, 40)]),
            body(&[(NAPI_INDEX, 2), (NAPI_ID, 514), (NAPI_INTERRUPT, 41)]),
        ];
        let one = body(&[(QUEUE_ID, 1), (QUEUE_TYPE, 0), (QUEUE_NAPI, 514)]);
        let expected = Queue {
            id: 1,
            interrupt: Some(41),
            has_socket: false,
        };
        assert_eq!(queue(&one, &pollers), Some(expected));
        let sending = body(&[(QUEUE_ID, 1), (QUEUE_TYPE, 1), (QUEUE_NAPI, 514)]);
        assert_eq!(queue(&sending, &pollers), None);
        let mut taken = body(&[(QUEUE_ID, 0), (QUEUE_TYPE, 0)]);
        taken.extend(netlink::attribute(QUEUE_SOCKET, &[]));
        let expected = Queue {
            id: 0,
            interrupt: None,
            has_socket: true,
        };
        assert_eq!(queue(&taken, &pollers), Some(expected));
    }

    #[test]
    fn an_interface_that_does_not_exist_is_an_error() {
        assert!(xdp_features(u32::MAX >> 1).is_err());
    }
}
