//! What rows are marked with: for each an entry of each table, by its number.

use crate::decode::BURST_FLOWS;

/// One number a flow. 0 is unknown throughout.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum Lane {
    /// Place of the source ([`super::geo::Places`]).
    SrcPlace,
    /// Place of the destination.
    DstPlace,
    /// Autonomous system of the source, by its own number.
    SrcAs,
    /// Autonomous system of the destination.
    DstAs,
    /// Network and threats of the source ([`super::sites::Sites`]).
    SrcSite,
    /// Network and threats of the destination.
    DstSite,
    /// Name of the source ([`super::dns::Hosts`]).
    SrcHost,
    /// Name of the destination.
    DstHost,
    /// Maker of the source's interface ([`super::vendors::Vendors`]).
    SrcVendor,
    /// Maker of the destination's interface.
    DstVendor,
    /// Labels of the exporter ([`super::exporters::ExporterLabels`]).
    Exporter,
    /// Where the flow came in ([`super::interfaces::Interfaces`]).
    InIf,
    /// Where it went out.
    OutIf,
    /// Application ([`super::applications::Applications`]).
    Application,
    /// Service ([`super::services`]).
    Service,
}

/// How many lanes there are.
pub const LANES: usize = Lane::Service as usize + 1;

/// Whether both sides of a flow are private; column `locality`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[repr(u8)]
pub enum Locality {
    /// Not told.
    #[default]
    Unknown = 0,
    /// Both addresses are private (RFC 1918, RFC 4193 and the like).
    Private = 1,
    /// At least one is not.
    Public = 2,
}

impl From<u8> for Locality {
    fn from(byte: u8) -> Self {
        match byte {
            1 => Self::Private,
            2 => Self::Public,
            _ => Self::Unknown,
        }
    }
}

/// The marks of up to [`BURST_FLOWS`] flows, lane by lane.
#[derive(Clone, Debug)]
pub struct Marks {
    lanes: [[u32; BURST_FLOWS]; LANES],
    pub(super) client_is_src: [u8; BURST_FLOWS],
    pub(super) locality: [u8; BURST_FLOWS],
}

impl Default for Marks {
    fn default() -> Self {
        Self {
            lanes: [[0; BURST_FLOWS]; LANES],
            client_is_src: [1; BURST_FLOWS],
            locality: [Locality::Unknown as u8; BURST_FLOWS],
        }
    }
}

impl Marks {
    /// The numbers of all flows.
    #[must_use]
    #[inline]
    pub fn lane(&self, lane: Lane) -> &[u32; BURST_FLOWS] {
        &self.lanes[lane as usize]
    }

    /// The same, to be written.
    #[inline]
    pub fn lane_mut(&mut self, lane: Lane) -> &mut [u32; BURST_FLOWS] {
        &mut self.lanes[lane as usize]
    }

    /// All lanes, in the order of [`Lane`].
    #[inline]
    pub fn lanes(&self) -> impl Iterator<Item = &[u32; BURST_FLOWS]> {
        self.lanes.iter()
    }

    /// For each flow 1 where its source is the client.
    #[must_use]
    #[inline]
    pub fn client_is_src(&self) -> &[u8; BURST_FLOWS] {
        &self.client_is_src
    }

    /// For each flow its [`Locality`].
    #[must_use]
    #[inline]
    pub fn locality(&self) -> &[u8; BURST_FLOWS] {
        &self.locality
    }
}
