//! Everything that is known at one moment. Nobody changes it any more.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use super::applications::Applications;
use super::dns::Hosts;
use super::exporters::ExporterLabels;
use super::geo::Places;
use super::interfaces::Interfaces;
use super::marks::Lane;
use super::sites::Sites;
use super::vendors::Vendors;

/// The tables, each shared with the moments before and after.
#[derive(Clone, Debug, Default)]
pub struct Tables {
    /// Places and autonomous systems.
    pub places: Arc<Places>,
    /// Networks and threats.
    pub sites: Arc<Sites>,
    /// Names of addresses.
    pub hosts: Arc<Hosts>,
    /// Makers of network interfaces.
    pub vendors: Arc<Vendors>,
    /// Names and labels of exporters.
    pub exporters: Arc<ExporterLabels>,
    /// Names of interfaces.
    pub interfaces: Arc<Interfaces>,
    /// Names of applications.
    pub applications: Arc<Applications>,
}

/// A column of text that follows from one number.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
#[allow(missing_docs, reason = "each is the column of the same name")]
pub enum Label {
    SrcCountry,
    DstCountry,
    SrcPlace,
    DstPlace,
    SrcAsName,
    DstAsName,
    SrcNet,
    DstNet,
    SrcThreatTags,
    DstThreatTags,
    SrcHost,
    DstHost,
    SrcMacVendor,
    DstMacVendor,
    ExporterLabels,
    InIfLabels,
    OutIfLabels,
    Application,
    Service,
}

impl Label {
    /// All of them, in the order of the table.
    pub const ALL: [Self; 19] = [
        Self::SrcCountry,
        Self::DstCountry,
        Self::SrcPlace,
        Self::DstPlace,
        Self::SrcAsName,
        Self::DstAsName,
        Self::SrcNet,
        Self::DstNet,
        Self::SrcThreatTags,
        Self::DstThreatTags,
        Self::SrcHost,
        Self::DstHost,
        Self::SrcMacVendor,
        Self::DstMacVendor,
        Self::ExporterLabels,
        Self::InIfLabels,
        Self::OutIfLabels,
        Self::Application,
        Self::Service,
    ];

    /// The name of the column.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::SrcCountry => "src_country",
            Self::DstCountry => "dst_country",
            Self::SrcPlace => "src_place",
            Self::DstPlace => "dst_place",
            Self::SrcAsName => "src_as_name",
            Self::DstAsName => "dst_as_name",
            Self::SrcNet => "src_net",
            Self::DstNet => "dst_net",
            Self::SrcThreatTags => "src_threat_tags",
            Self::DstThreatTags => "dst_threat_tags",
            Self::SrcHost => "src_host",
            Self::DstHost => "dst_host",
            Self::SrcMacVendor => "src_mac_vendor",
            Self::DstMacVendor => "dst_mac_vendor",
            Self::ExporterLabels => "exporter_labels",
            Self::InIfLabels => "in_if_labels",
            Self::OutIfLabels => "out_if_labels",
            Self::Application => "application",
            Self::Service => "service",
        }
    }

    /// Where its number stands.
    #[must_use]
    pub const fn lane(self) -> Lane {
        match self {
            Self::SrcCountry | Self::SrcPlace => Lane::SrcPlace,
            Self::DstCountry | Self::DstPlace => Lane::DstPlace,
            Self::SrcAsName => Lane::SrcAs,
            Self::DstAsName => Lane::DstAs,
            Self::SrcNet | Self::SrcThreatTags => Lane::SrcSite,
            Self::DstNet | Self::DstThreatTags => Lane::DstSite,
            Self::SrcHost => Lane::SrcHost,
            Self::DstHost => Lane::DstHost,
            Self::SrcMacVendor => Lane::SrcVendor,
            Self::DstMacVendor => Lane::DstVendor,
            Self::ExporterLabels => Lane::Exporter,
            Self::InIfLabels => Lane::InIf,
            Self::OutIfLabels => Lane::OutIf,
            Self::Application => Lane::Application,
            Self::Service => Lane::Service,
        }
    }
}

impl Tables {
    /// The text of entry `id` of the table that `label` is of; '' for what is unknown.
    #[must_use]
    pub fn text(&self, label: Label, id: u32) -> &str {
        if id == 0 {
            return "";
        }
        match label {
            Label::SrcCountry | Label::DstCountry => country_and_place(self.places.label(id)).0,
            Label::SrcPlace | Label::DstPlace => country_and_place(self.places.label(id)).1,
            Label::SrcAsName | Label::DstAsName => self.places.as_name(id),
            Label::SrcNet | Label::DstNet => self.sites.network(id),
            Label::SrcThreatTags | Label::DstThreatTags => self.sites.threats(id),
            Label::SrcHost | Label::DstHost => self.hosts.label(id),
            Label::SrcMacVendor | Label::DstMacVendor => self.vendors.label(id),
            Label::ExporterLabels => self.exporters.label(id),
            Label::InIfLabels | Label::OutIfLabels => self.interfaces.label(id),
            Label::Application => self.applications.label(id),
            Label::Service => self.applications.services().label(id),
        }
    }
}

/// The country stands in a column of its own, since everybody filters by it.
fn country_and_place(label: &str) -> (&str, &str) {
    let (country, place) = label.split_once('\t').unwrap_or((label, ""));
    // A country of which nothing more is known has no place.
    let is_empty = place.bytes().all(|byte| byte == b'\t');
    (country, if is_empty { "" } else { place })
}

/// Where the tables of now are, for workers and for whoever makes new ones.
#[derive(Debug, Default)]
pub struct Published {
    epoch: AtomicU64,
    tables: Mutex<Arc<Tables>>,
}

impl Published {
    /// Moves on with every [`Published::publish`].
    #[must_use]
    #[inline]
    pub fn epoch(&self) -> u64 {
        self.epoch.load(Ordering::Acquire)
    }

    /// The tables of now.
    #[must_use]
    pub fn tables(&self) -> Arc<Tables> {
        Arc::clone(&self.lock())
    }

    /// The same, unless somebody is just putting others there.
    #[must_use]
    pub fn try_tables(&self) -> Option<Arc<Tables>> {
        let tables = self.tables.try_lock().ok()?;
        Some(Arc::clone(&tables))
    }

    /// Puts `tables` in the place of those before, which live as long as anybody uses them.
    pub fn publish(&self, tables: Tables) {
        let before = std::mem::replace(&mut *self.lock(), Arc::new(tables));
        self.epoch.fetch_add(1, Ordering::Release);
        // Not under the lock: it may be the last that holds a large table.
        drop(before);
    }

    fn lock(&self) -> MutexGuard<'_, Arc<Tables>> {
        self.tables.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
