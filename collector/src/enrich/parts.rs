//! What operators' files say, each part loaded anew when its files change.
//!
//! A part whose files have a fault stays as it was before, and the fault is told; the others do not
//! mind.

use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Instant, SystemTime};

use tracing::{error, info, warn};

use super::applications::{Applications, Told};
use super::dns::Hosts;
use super::exporters::ExporterLabels;
use super::geo::Places;
use super::interfaces::{InterfaceRules, Interfaces, StaticInterfaces};
use super::networks::Networks;
use super::services::Services;
use super::sites::Sites;
use super::snmp::Polled;
use super::tables::Tables;
use super::threats::Threats;
use super::vendors::Vendors;
use super::watch_files::Watched;
use crate::config::Enrich;
use crate::flow::Address;
use crate::log::one_line;
use crate::names::Names;

/// What is loaded from files of its own.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(usize)]
pub enum Part {
    /// Places and autonomous systems.
    Geo,
    /// Networks.
    Networks,
    /// Threat lists and their whitelist.
    Threats,
    /// Makers of network interfaces.
    MacVendors,
    /// Applications by address and port, and by the ids of exporters.
    Applications,
    /// Interfaces.
    Interfaces,
}

impl Part {
    /// All of them.
    pub const ALL: [Self; 6] = [
        Self::Geo,
        Self::Networks,
        Self::Threats,
        Self::MacVendors,
        Self::Applications,
        Self::Interfaces,
    ];

    /// As metrics and messages call it.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Geo => "geo",
            Self::Networks => "networks",
            Self::Threats => "threats",
            Self::MacVendors => "mac_vendors",
            Self::Applications => "applications",
            Self::Interfaces => "interfaces",
        }
    }

    /// True when `config` names a file of it.
    #[must_use]
    pub fn is_named(self, config: &Enrich) -> bool {
        let mut files = self.files(config).into_iter();
        files.any(|file| !file.as_os_str().is_empty())
    }

    /// The files that it is loaded from.
    fn files(self, config: &Enrich) -> Vec<PathBuf> {
        let lists = [
            &config.networks,
            &config.applications,
            &config.application_ids,
            &config.interfaces,
            &config.threats_whitelist,
            &config.geo.databases,
        ];
        let [networks, applications, ids, interfaces, whitelist, geo] = lists.map(Clone::clone);
        match self {
            Self::Geo => geo,
            Self::Networks => networks,
            Self::Threats => {
                let lists = config.threats.iter().map(|list| list.file.clone());
                lists.chain(whitelist).collect()
            }
            Self::MacVendors => vec![config.mac_vendors.clone()],
            Self::Applications => applications.into_iter().chain(ids).collect(),
            Self::Interfaces => interfaces,
        }
    }
}

/// What became of one part, for whoever watches.
#[derive(Debug, Default)]
pub struct PartCounts {
    loaded: AtomicU64,
    refused: AtomicU64,
    is_faulty: AtomicBool,
    memory_bytes: AtomicU64,
}

/// [`PartCounts`] at one moment.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct PartStatus {
    /// How often it was loaded.
    pub loaded: u64,
    /// How often its files were refused; the former ones stayed in use.
    pub refused: u64,
    /// Its files were refused when they were looked at last.
    pub is_faulty: bool,
    /// Bytes of its table.
    pub memory_bytes: u64,
}

/// What became of all parts.
#[derive(Debug, Default)]
pub struct PartsCounts([PartCounts; Part::ALL.len()]);

impl PartsCounts {
    /// What became of one.
    #[must_use]
    pub fn of(&self, part: Part) -> PartStatus {
        let counts = &self.0[part as usize];
        PartStatus {
            loaded: counts.loaded.load(Ordering::Relaxed),
            refused: counts.refused.load(Ordering::Relaxed),
            is_faulty: counts.is_faulty.load(Ordering::Relaxed),
            memory_bytes: counts.memory_bytes.load(Ordering::Relaxed),
        }
    }
}

/// What exporters and servers said.
#[derive(Clone, Debug, Default)]
pub struct Learned {
    /// What exporters tell in options.
    pub names: Arc<Names>,
    /// What they say by SNMP.
    pub polled: Arc<Polled>,
    /// Names of addresses.
    pub hosts: Arc<Hosts>,
    /// Exporters that were heard of.
    pub exporters: Vec<Address>,
}

/// All parts as they are now.
#[derive(Debug)]
pub struct Parts {
    config: Enrich,
    watched: [Watched; Part::ALL.len()],
    counts: Arc<PartsCounts>,
    places: Arc<Places>,
    networks: Networks,
    threats: Threats,
    sites: Arc<Sites>,
    vendors: Arc<Vendors>,
    services: Arc<Services>,
    told: Arc<Told>,
    interfaces: StaticInterfaces,
    rules: InterfaceRules,
    /// Moves on when anything of the above is another.
    generation: u64,
    made: Option<Made>,
}

/// Tables that take work to make, and what they were made of.
#[derive(Debug)]
struct Made {
    generation: u64,
    names: Arc<Names>,
    polled: Arc<Polled>,
    interfaces: Arc<Interfaces>,
    applications: Arc<Applications>,
}

impl Parts {
    /// Nothing is loaded yet.
    #[must_use]
    pub fn new(config: &Enrich) -> Self {
        Self {
            watched: Part::ALL.map(|part| Watched::new(part.files(config))),
            counts: Arc::default(),
            places: Arc::default(),
            networks: Networks::default(),
            threats: Threats::default(),
            sites: Arc::default(),
            vendors: Arc::default(),
            services: Arc::new(Services::new()),
            told: Arc::default(),
            interfaces: StaticInterfaces::default(),
            rules: rules(config),
            generation: 0,
            made: None,
            config: config.clone(),
        }
    }

    /// What became of each part.
    #[must_use]
    pub fn counts(&self) -> Arc<PartsCounts> {
        Arc::clone(&self.counts)
    }

    /// Loads all parts; what is wrong with any is returned, part by part.
    pub fn load(&mut self) -> Vec<(Part, String)> {
        let faults = Part::ALL.map(|part| self.renew(part).err().map(|fault| (part, fault)));
        faults.into_iter().flatten().collect()
    }

    /// Loads the parts whose files have changed since they were looked at; true when any is new.
    pub fn look(&mut self, now: SystemTime) -> bool {
        let mut has_news = false;
        for part in Part::ALL {
            if !self.watched[part as usize].look(now).is_empty() {
                has_news |= self.renew_and_tell(part);
            }
        }
        has_news
    }

    /// Goes on by another configuration, and loads the parts that it changes, those whose files
    /// have changed, however recently, and those whose files were refused; true when anything is
    /// new.
    pub fn reconfigure(&mut self, config: &Enrich) -> bool {
        let before = std::mem::replace(&mut self.config, config.clone());
        self.generation += 1;
        let mut has_news = before != *config;
        if before.interface_rules != config.interface_rules {
            self.rules = rules(config);
        }
        for part in Part::ALL {
            let files = part.files(config);
            let is_same = files == part.files(&before)
                && (part != Part::Geo || before.geo == config.geo)
                && (part != Part::Threats || before.threats == config.threats);
            let has_changed = self.watched[part as usize].has_changed();
            if !is_same || has_changed || self.counts.of(part).is_faulty {
                self.watched[part as usize] = Watched::new(files);
                has_news |= self.renew_and_tell(part);
            }
        }
        has_news
    }

    fn renew_and_tell(&mut self, part: Part) -> bool {
        let sites = Arc::clone(&self.sites);
        let outcome = self.renew(part);
        if let Err(fault) = &outcome {
            let fault = one_line(fault);
            error!(
                part = part.name(),
                "what was read before stays in use: {fault}"
            );
        }
        // Of threats, the lists that are not refused are taken all the same.
        outcome.is_ok() || !Arc::ptr_eq(&sites, &self.sites)
    }

    fn renew(&mut self, part: Part) -> Result<(), String> {
        let begun = Instant::now();
        let outcome = self.read(part);
        let counts = &self.counts.0[part as usize];
        counts.is_faulty.store(outcome.is_err(), Ordering::Relaxed);
        match outcome {
            Ok(memory_bytes) => {
                self.generation += 1;
                counts.loaded.fetch_add(1, Ordering::Relaxed);
                (counts.memory_bytes).store(memory_bytes as u64, Ordering::Relaxed);
                if part.is_named(&self.config) {
                    let ms = begun.elapsed().as_millis();
                    info!(part = part.name(), memory_bytes, ms, "loaded");
                }
                Ok(())
            }
            Err(fault) => {
                counts.refused.fetch_add(1, Ordering::Relaxed);
                Err(fault)
            }
        }
    }

    /// Reads a part; returns the bytes of its table.
    fn read(&mut self, part: Part) -> Result<usize, String> {
        let config = &self.config;
        match part {
            Part::Geo => {
                let places = Places::load(&config.geo).map_err(|error| error.to_string())?;
                self.places = Arc::new(places);
                Ok(self.places.memory_bytes())
            }
            Part::Networks => {
                let networks = Networks::load(&config.networks);
                self.networks = networks.map_err(|error| error.to_string())?;
                Ok(self.combine())
            }
            Part::Threats => {
                let loaded = Threats::load(config, &self.threats);
                for left_out in &loaded.left_out {
                    warn!(part = part.name(), "{left_out}");
                }
                if loaded.sets_refused > 0 {
                    warn!(
                        part = part.name(),
                        "{} combinations of tags found no room; use fewer lists",
                        loaded.sets_refused
                    );
                }
                self.threats = loaded.threats;
                let memory_bytes = self.combine();
                let refused = loaded.refused.or(memory_bytes);
                refused.map_err(|error| error.to_string())
            }
            Part::MacVendors => {
                let path = &config.mac_vendors;
                let vendors = match path.as_os_str().is_empty() {
                    true => Vendors::default(),
                    false => Vendors::load(path).map_err(|error| error.to_string())?,
                };
                self.vendors = Arc::new(vendors);
                Ok(self.vendors.memory_bytes())
            }
            Part::Applications => {
                let told = Told::load(config).map_err(|error| error.to_string())?;
                self.told = Arc::new(told);
                Ok(0)
            }
            Part::Interfaces => {
                let interfaces = StaticInterfaces::load(&config.interfaces);
                self.interfaces = interfaces.map_err(|error| error.to_string())?;
                Ok(0)
            }
        }
    }

    fn combine(&mut self) -> usize {
        self.sites = Arc::new(Sites::combine(&self.networks, &self.threats));
        self.sites.memory_bytes()
    }

    /// The interfaces that files tell of.
    #[must_use]
    pub fn static_interfaces(&self) -> &StaticInterfaces {
        &self.interfaces
    }

    /// Tables of what is known now.
    #[must_use]
    pub fn tables(&mut self, learned: &Learned) -> Tables {
        let (interfaces, applications) = self.make(learned);
        let Learned {
            polled,
            hosts,
            exporters,
            ..
        } = learned;
        let name = |exporter: Address| {
            let told = polled
                .get(exporter)
                .map(|told| Arc::clone(&told.system_name));
            told.filter(|name| !name.is_empty())
                .or_else(|| hosts.name(exporter).map(Arc::from))
        };
        let labels = &self.config.exporters;
        Tables {
            places: Arc::clone(&self.places),
            sites: Arc::clone(&self.sites),
            hosts: Arc::clone(hosts),
            vendors: Arc::clone(&self.vendors),
            exporters: Arc::new(ExporterLabels::build(labels, exporters, name)),
            interfaces,
            applications,
        }
    }

    /// Those made before, if they would be the same.
    fn make(&mut self, learned: &Learned) -> (Arc<Interfaces>, Arc<Applications>) {
        let Learned { names, polled, .. } = learned;
        let made = self.made.take().filter(|made| {
            made.generation == self.generation
                && Arc::ptr_eq(&made.names, names)
                && Arc::ptr_eq(&made.polled, polled)
        });
        let made = made.unwrap_or_else(|| Made {
            generation: self.generation,
            names: Arc::clone(names),
            polled: Arc::clone(polled),
            interfaces: Arc::new(Interfaces::new(
                &self.interfaces,
                polled,
                names,
                &self.rules,
            )),
            applications: Arc::new(Applications::new(
                Arc::clone(&self.services),
                Arc::clone(&self.told),
                &self.config.exporters,
                names,
            )),
        });
        let made = self.made.insert(made);
        (Arc::clone(&made.interfaces), Arc::clone(&made.applications))
    }
}

/// The patterns were compiled before, when the configuration was validated.
fn rules(config: &Enrich) -> InterfaceRules {
    InterfaceRules::new(&config.interface_rules).unwrap_or_else(|fault| {
        error!("enrich.interface_rules: no rule is used: {fault}");
        InterfaceRules::default()
    })
}

#[cfg(test)]
mod tests;
