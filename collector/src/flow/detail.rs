//! The part of a flow that only some records tell.

use std::ops::{Deref, DerefMut};

use super::Address;

/// What the packet was wrapped in that became the flow; column `tunnel_type`. Where the outer
/// packet is the flow it is none.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
#[repr(i8)]
pub enum TunnelType {
    /// The flow is the outermost packet.
    #[default]
    None = 0,
    /// GRE (RFC 2784, RFC 2890).
    Gre = 1,
    /// VXLAN (RFC 7348).
    Vxlan = 2,
    /// IPv4 in IPv4 or IPv6 (protocol 4: RFC 2003, RFC 2473).
    Ipip = 3,
    /// IPv6 in IPv4 or IPv6 (protocol 41: RFC 4213, RFC 2473).
    Ipv6 = 4,
    /// GTP-U (3GPP TS 29.281).
    Gtpu = 5,
}

/// Label stack entries kept of one flow: IE 70 to 79 name ten.
pub const MPLS_LABELS_MAX: usize = 10;

/// The part of a flow that only some records tell. Knows how much of it was written to, so that
/// what has no detail costs nothing: a burst need not clear it and a batch need not store it. What
/// a sampled frame tells is cleared without the rest.
#[derive(Clone, Copy, Debug)]
pub struct Detail {
    fields: DetailFields,
}

/// What somebody wrote to of a [`Detail`]. It stands among the fields only because there is room
/// for it, and says nothing of what they tell: any two are equal.
#[derive(Clone, Copy, Debug, Default)]
pub struct Written(Extent);

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum Extent {
    #[default]
    Nothing,
    Frame,
    All,
}

impl PartialEq for Written {
    fn eq(&self, _: &Self) -> bool {
        true
    }
}

impl Eq for Written {}

/// What the headers of a frame tell beside the columns that every flow has. Unknown is zero.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Frame {
    /// Source MAC address in the low 48 bits.
    pub src_mac: u64,
    /// Destination MAC address in the low 48 bits.
    pub dst_mac: u64,
    /// IPv6 flow label, IE 31.
    pub flow_label: u32,
    /// IP identification, IE 54.
    pub fragment_id: u32,
    /// Fragment offset in units of 8 octets, IE 88.
    pub fragment_offset: u16,
    /// EtherType of the frame, IE 256.
    pub ethertype: u16,
    /// Inner tag of QinQ, IE 245.
    pub inner_vlan: u16,
}

/// The fields of [`Detail`]. Unknown is zero. In this order, what is written of each sampled packet
/// comes first: [`super::Flow`] has it in the cache lines that are written to anyway.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(C)]
pub struct DetailFields {
    /// Kept by [`Detail`].
    pub written: Written,
    /// Valid entries of `mpls_labels`.
    pub mpls_count: u8,
    /// Firewall event, IE 233.
    pub firewall_event: u8,
    /// NAT event, IE 230.
    pub nat_event: u8,
    /// Source port after translation, IE 227.
    pub src_port_nat: u16,
    /// Destination port after translation, IE 228.
    pub dst_port_nat: u16,
    /// What the headers of a frame tell.
    pub frame: Frame,
    /// BGP next hop, IE 18 / 63.
    pub bgp_next_hop: Address,
    /// Source after translation, IE 225 / 281.
    pub src_addr_nat: Address,
    /// Destination after translation, IE 226 / 282.
    pub dst_addr_nat: Address,
    /// Source of the packet around the flow's.
    pub outer_src_addr: Address,
    /// Destination of the packet around the flow's.
    pub outer_dst_addr: Address,
    /// Ingress VRF, IE 234.
    pub ingress_vrf: u32,
    /// Egress VRF, IE 235.
    pub egress_vrf: u32,
    /// GRE key, VXLAN network identifier or GTP-U tunnel endpoint identifier.
    pub tunnel_id: u32,
    /// MPLS label values (20 bits each), top of stack first; `mpls_count` are valid.
    pub mpls_labels: [u32; MPLS_LABELS_MAX],
    /// What is around the flow's packet.
    pub tunnel_type: TunnelType,
}

impl Frame {
    /// Nothing is told.
    pub const EMPTY: Self = Self {
        src_mac: 0,
        dst_mac: 0,
        flow_label: 0,
        fragment_id: 0,
        fragment_offset: 0,
        ethertype: 0,
        inner_vlan: 0,
    };
}

impl DetailFields {
    /// True when something is told of a packet around the flow's.
    #[must_use]
    #[inline]
    pub fn has_tunnel(&self) -> bool {
        self.tunnel_type != TunnelType::None
            || self.tunnel_id != 0
            || !self.outer_src_addr.is_unknown()
    }
}

impl Detail {
    /// Nothing is told.
    pub const EMPTY: Self = Self {
        fields: DetailFields {
            written: Written(Extent::Nothing),
            frame: Frame::EMPTY,
            bgp_next_hop: Address::UNKNOWN,
            src_addr_nat: Address::UNKNOWN,
            dst_addr_nat: Address::UNKNOWN,
            outer_src_addr: Address::UNKNOWN,
            outer_dst_addr: Address::UNKNOWN,
            ingress_vrf: 0,
            egress_vrf: 0,
            tunnel_id: 0,
            mpls_labels: [0; MPLS_LABELS_MAX],
            src_port_nat: 0,
            dst_port_nat: 0,
            mpls_count: 0,
            firewall_event: 0,
            nat_event: 0,
            tunnel_type: TunnelType::None,
        },
    };

    /// False when all fields are certainly zero.
    #[must_use]
    #[inline]
    pub const fn is_written(&self) -> bool {
        !matches!(self.fields.written.0, Extent::Nothing)
    }

    /// All fields are zero again.
    #[inline]
    pub fn clear(&mut self) {
        match self.fields.written.0 {
            Extent::Nothing => {}
            Extent::Frame => {
                self.fields.frame = Frame::EMPTY;
                self.fields.written = Written(Extent::Nothing);
            }
            Extent::All => self.clear_all(),
        }
    }

    /// Apart, so that [`Detail::clear`] is short where it is inlined.
    #[inline(never)]
    fn clear_all(&mut self) {
        *self = Self::EMPTY;
    }

    /// What a frame tells, to write to.
    #[inline]
    pub fn frame_mut(&mut self) -> &mut Frame {
        if self.fields.written.0 == Extent::Nothing {
            self.fields.written = Written(Extent::Frame);
        }
        &mut self.fields.frame
    }
}

impl From<DetailFields> for Detail {
    fn from(mut fields: DetailFields) -> Self {
        fields.written = Written(Extent::All);
        Self { fields }
    }
}

impl Deref for Detail {
    type Target = DetailFields;

    #[inline]
    fn deref(&self) -> &DetailFields {
        &self.fields
    }
}

impl DerefMut for Detail {
    #[inline]
    fn deref_mut(&mut self) -> &mut DetailFields {
        self.fields.written = Written(Extent::All);
        &mut self.fields
    }
}

/// By what is told, not by how it came to be.
impl PartialEq for Detail {
    fn eq(&self, other: &Self) -> bool {
        self.fields == other.fields
    }
}

impl Eq for Detail {}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn whatever_was_written_in_whatever_order_is_cleared() {
        let frame = |detail: &mut Detail| detail.frame_mut().ethertype = 0x0800;
        let rest = |detail: &mut Detail| detail.src_port_nat = 53;
        for writes in [
            &[frame as fn(&mut Detail)][..],
            &[rest],
            &[frame, rest],
            &[rest, frame],
        ] {
            let mut detail = Detail::EMPTY;
            assert!(!detail.is_written());
            writes.iter().for_each(|write| write(&mut detail));
            assert!(detail.is_written());
            assert_ne!(detail, Detail::EMPTY);
            detail.clear();
            assert_eq!(detail, Detail::EMPTY);
            assert!(!detail.is_written());
        }
    }
}
