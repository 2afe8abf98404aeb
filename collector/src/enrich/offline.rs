//! Enrichment of flows that nobody is waiting to send: a replay's.

use std::sync::Arc;
use std::time::{Duration, Instant};

use super::parts::{Learned, Parts};
use super::stage::Enricher;
use super::tables::Published;
use crate::batch::Marked;
use crate::config::Enrich;
use crate::decode;
use crate::flow::Flow;

/// With so many names and more, tables are not made anew for each one that captures tell...
const NAMES_MANY: usize = 16_384;
/// ...but no more often than this.
const RENEW_EVERY: Duration = Duration::from_millis(200);

/// Marks flows by what files say and captures tell; asks nobody.
#[derive(Debug)]
pub struct Offline {
    parts: Parts,
    published: Arc<Published>,
    enricher: Enricher,
    has_services: bool,
    names_epoch: u64,
    /// What captures told since tables were made.
    learned: Option<Learned>,
    renewed: Instant,
}

impl Offline {
    /// Loads what `config` names.
    ///
    /// # Errors
    /// What is wrong with the files, in sentences.
    pub fn new(config: &Enrich) -> Result<Self, String> {
        let mut parts = Parts::new(config);
        let faults = parts.load();
        if !faults.is_empty() {
            let faults = faults
                .iter()
                .map(|(part, fault)| format!("{}: {fault}", part.name()));
            return Err(faults.collect::<Vec<_>>().join("\n"));
        }
        let published = Arc::new(Published::default());
        published.publish(parts.tables(&Learned::default()));
        let enricher = Enricher::new(Arc::clone(&published), None, config.services);
        Ok(Self {
            parts,
            published,
            enricher,
            has_services: config.services,
            names_epoch: 0,
            learned: None,
            renewed: Instant::now(),
        })
    }

    /// Looks whether there are new names in `shared`; the next flows are marked with them. The same
    /// capture says the same each time, however fast it is read.
    pub fn follow(&mut self, shared: &decode::Shared) {
        let epoch = shared.names.epoch();
        if epoch == self.names_epoch {
            return;
        }
        let counts = shared.names.counts();
        let is_many = counts.interfaces + counts.applications >= NAMES_MANY;
        if is_many && self.renewed.elapsed() < RENEW_EVERY {
            return;
        }
        self.names_epoch = epoch;
        self.renewed = Instant::now();
        let exporters = shared.exporters();
        let exporters = exporters
            .iter()
            .map(|exporter| exporter.exporter_addr.into());
        // Names come many in a row: tables are made when there are flows again.
        self.learned = Some(Learned {
            names: shared.names.snapshot(),
            exporters: exporters.collect(),
            ..Learned::default()
        });
    }

    /// One more that marks with what is known here.
    #[must_use]
    pub fn enricher(&self) -> Enricher {
        let Self { published, .. } = self;
        Enricher::new(Arc::clone(published), None, self.has_services)
    }

    /// True when captures told something since tables were made.
    #[must_use]
    pub fn is_stale(&self) -> bool {
        self.learned.is_some()
    }

    /// Makes tables of what captures told.
    pub fn renew(&mut self) {
        if let Some(learned) = self.learned.take() {
            self.published.publish(self.parts.tables(&learned));
        }
    }

    /// Marks `flows`, as [`Enricher::mark_flows`].
    pub fn mark(&mut self, flows: &mut [Flow]) -> Marked<'_> {
        self.renew();
        if self.enricher.is_stale() {
            self.enricher.renew();
        }
        self.enricher.mark_flows(flows)
    }
}
