//! Everything that is known at one moment. Nobody changes it any more.

use std::any::Any;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};

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

/// Texts of a table.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
#[allow(missing_docs, reason = "each is what columns of the same name have")]
pub enum Texts {
    Countries,
    Places,
    Systems,
    Networks,
    Threats,
    Hosts,
    Vendors,
    Exporters,
    Interfaces,
    Applications,
    Services,
}

impl Texts {
    /// How many there are.
    pub const COUNT: usize = Self::Services as usize + 1;
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

    /// Whose texts they are; those of sources and of destinations are the same.
    #[must_use]
    pub const fn texts(self) -> Texts {
        match self {
            Self::SrcCountry | Self::DstCountry => Texts::Countries,
            Self::SrcPlace | Self::DstPlace => Texts::Places,
            Self::SrcAsName | Self::DstAsName => Texts::Systems,
            Self::SrcNet | Self::DstNet => Texts::Networks,
            Self::SrcThreatTags | Self::DstThreatTags => Texts::Threats,
            Self::SrcHost | Self::DstHost => Texts::Hosts,
            Self::SrcMacVendor | Self::DstMacVendor => Texts::Vendors,
            Self::ExporterLabels => Texts::Exporters,
            Self::InIfLabels | Self::OutIfLabels => Texts::Interfaces,
            Self::Application => Texts::Applications,
            Self::Service => Texts::Services,
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
        self.text_of(label.texts(), id)
    }

    /// The same.
    #[must_use]
    pub fn text_of(&self, texts: Texts, id: u32) -> &str {
        if id == 0 {
            return "";
        }
        match texts {
            Texts::Countries => country_and_place(self.places.label(id)).0,
            Texts::Places => country_and_place(self.places.label(id)).1,
            Texts::Systems => self.places.as_name(id),
            Texts::Networks => self.sites.network(id),
            Texts::Threats => self.sites.threats(id),
            Texts::Hosts => self.hosts.label(id),
            Texts::Vendors => self.vendors.label(id),
            Texts::Exporters => self.exporters.label(id),
            Texts::Interfaces => self.interfaces.label(id),
            Texts::Applications => self.applications.label(id),
            Texts::Services => self.applications.services().label(id),
        }
    }

    /// The table that has `texts`, to tell it from others without keeping it.
    #[must_use]
    pub fn table_of(&self, texts: Texts) -> Weak<dyn Any + Send + Sync> {
        fn weak<T: Send + Sync + 'static>(table: &Arc<T>) -> Weak<dyn Any + Send + Sync> {
            let table: Weak<T> = Arc::downgrade(table);
            table
        }
        match texts {
            Texts::Countries | Texts::Places | Texts::Systems => weak(&self.places),
            Texts::Networks | Texts::Threats => weak(&self.sites),
            Texts::Hosts => weak(&self.hosts),
            Texts::Vendors => weak(&self.vendors),
            Texts::Exporters => weak(&self.exporters),
            Texts::Interfaces => weak(&self.interfaces),
            Texts::Applications | Texts::Services => weak(&self.applications),
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

/// Where the tables of now are, for who marks rows and for whoever makes new ones.
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
