//! Ethernet II headers and 802.1Q tags.

use crate::array_at;

/// EtherTypes that the parsers know (IEEE 802 Numbers, IANA).
pub mod ethertype {
    /// IPv4.
    pub const IPV4: u16 = 0x0800;
    /// IPv6.
    pub const IPV6: u16 = 0x86dd;
    /// 802.1Q customer tag.
    pub const VLAN: u16 = 0x8100;
    /// 802.1ad service tag.
    pub const SERVICE_VLAN: u16 = 0x88a8;
    /// The service tag of switches older than 802.1ad.
    pub const SERVICE_VLAN_OLD: u16 = 0x9100;
    /// MPLS unicast.
    pub const MPLS: u16 = 0x8847;
    /// MPLS with an upstream-assigned label, once "multicast".
    pub const MPLS_UPSTREAM: u16 = 0x8848;
    /// PPPoE session stage.
    pub const PPPOE_SESSION: u16 = 0x8864;
    /// Values below are the length of an 802.3 frame (IEEE 802.3 §3.2.6).
    pub const FIRST: u16 = 0x0600;
}

/// Tags read of one frame; a third one ends the walk and stands in [`Tags::ethertype`].
pub const VLANS_MAX: usize = 2;

/// Two addresses and the EtherType.
pub(crate) const UNTAGGED_BYTES: usize = 14;
pub(crate) const TAG_BYTES: usize = 4;
const VLAN_ID_MASK: u16 = 0x0fff;

/// The 802.1Q tags of a frame and what follows them.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Tags {
    /// VLAN ids, outermost first; `count` of them are valid.
    pub vlans: [u16; VLANS_MAX],
    /// Tags read.
    pub count: u8,
    /// What follows the tags; a tag's own type when it was cut or one too many.
    pub ethertype: u16,
    /// Bytes that the tags took.
    pub length: usize,
}

impl Tags {
    /// Reads the tags at the start of `bytes`, the payload of a frame of type `ethertype`.
    #[must_use]
    #[inline]
    pub fn parse(ethertype: u16, bytes: &[u8]) -> Self {
        let mut tags = Self {
            ethertype,
            ..Self::default()
        };
        for vlan in 0..VLANS_MAX {
            if !is_tag(tags.ethertype) {
                break;
            }
            let Some(&[t0, t1, e0, e1]) = array_at(bytes, tags.length) else {
                break;
            };
            if let Some(slot) = tags.vlans.get_mut(vlan) {
                *slot = u16::from_be_bytes([t0, t1]) & VLAN_ID_MASK;
            }
            tags.count += 1;
            tags.ethertype = u16::from_be_bytes([e0, e1]);
            tags.length += TAG_BYTES;
        }
        tags
    }
}

/// An Ethernet header with its tags.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Ethernet {
    /// Destination address.
    pub dst_mac: [u8; 6],
    /// Source address.
    pub src_mac: [u8; 6],
    /// Tags, and the type of the payload.
    pub tags: Tags,
    /// Bytes from the start of the frame to its payload.
    pub length: usize,
}

impl Ethernet {
    /// Reads the header at the start of `frame`; `None` when it is shorter than 14 bytes.
    #[must_use]
    #[inline]
    pub fn parse(frame: &[u8]) -> Option<Self> {
        // One check for all of it.
        let (&[d0, d1, d2, d3, d4, d5, s0, s1, s2, s3, s4, s5, t0, t1], payload) =
            frame.split_first_chunk::<UNTAGGED_BYTES>()?;
        let tags = Tags::parse(u16::from_be_bytes([t0, t1]), payload);
        Some(Self {
            dst_mac: [d0, d1, d2, d3, d4, d5],
            src_mac: [s0, s1, s2, s3, s4, s5],
            tags,
            length: UNTAGGED_BYTES + tags.length,
        })
    }
}

#[inline]
pub(crate) fn is_tag(value: u16) -> bool {
    matches!(
        value,
        ethertype::VLAN | ethertype::SERVICE_VLAN | ethertype::SERVICE_VLAN_OLD
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    const ADDRESSES: [u8; 12] = [1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12];

    fn frame<const N: usize>(rest: [u8; N]) -> ([u8; 64], usize) {
        let mut bytes = [0; 64];
        bytes[..12].copy_from_slice(&ADDRESSES);
        bytes[12..12 + N].copy_from_slice(&rest);
        (bytes, 12 + N)
    }

    #[test]
    fn an_untagged_frame_is_fourteen_bytes_of_header() {
        let (bytes, length) = frame([0x08, 0x00, 0x45]);
        let ethernet = Ethernet::parse(&bytes[..length]).unwrap();
        assert_eq!(ethernet.dst_mac, [1, 2, 3, 4, 5, 6]);
        assert_eq!(ethernet.src_mac, [7, 8, 9, 10, 11, 12]);
        assert_eq!(ethernet.tags.count, 0);
        assert_eq!(ethernet.tags.ethertype, ethertype::IPV4);
        assert_eq!(ethernet.length, 14);
    }

    #[test]
    fn two_tags_are_read_outermost_first_without_their_priority() {
        let (bytes, length) = frame([0x88, 0xa8, 0xe0, 0x64, 0x81, 0x00, 0x20, 0x07, 0x86, 0xdd]);
        let ethernet = Ethernet::parse(&bytes[..length]).unwrap();
        assert_eq!(ethernet.tags.vlans, [100, 7]);
        assert_eq!(ethernet.tags.count, 2);
        assert_eq!(ethernet.tags.ethertype, ethertype::IPV6);
        assert_eq!(ethernet.length, 22);
    }

    #[test]
    fn a_third_tag_is_left_in_the_ethertype() {
        let (bytes, length) = frame([
            0x81, 0x00, 0, 1, 0x81, 0x00, 0, 2, 0x81, 0x00, 0, 3, 0x08, 0x00,
        ]);
        let ethernet = Ethernet::parse(&bytes[..length]).unwrap();
        assert_eq!(ethernet.tags.vlans, [1, 2]);
        assert_eq!(ethernet.tags.ethertype, ethertype::VLAN);
        assert_eq!(ethernet.length, 22);
    }

    #[test]
    fn a_cut_tag_is_not_read() {
        let (bytes, length) = frame([0x81, 0x00, 0x00, 0x07, 0x08]);
        let ethernet = Ethernet::parse(&bytes[..length]).unwrap();
        assert_eq!(ethernet.tags.count, 0);
        assert_eq!(ethernet.tags.ethertype, ethertype::VLAN);
        assert_eq!(ethernet.length, 14);
    }

    #[test]
    fn a_frame_shorter_than_its_header_is_none() {
        let (bytes, _) = frame([0x08, 0x00]);
        assert!(Ethernet::parse(&bytes[..13]).is_none());
        assert!(Ethernet::parse(&bytes[..14]).is_some());
    }
}
