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

/// Tables are made anew no more often for names that captures tell.
const RENEW_EVERY: Duration = Duration::from_millis(200);

/// Marks flows by what files say and captures tell; asks nobody.
#[derive(Debug)]
pub struct Offline {
    parts: Parts,
    published: Arc<Published>,
    enricher: Enricher,
    names_epoch: u64,
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
            names_epoch: 0,
            renewed: Instant::now(),
        })
    }

    /// Looks whether there are new names in `shared`.
    pub fn follow(&mut self, shared: &decode::Shared) {
        let epoch = shared.names.epoch();
        if epoch == self.names_epoch || self.renewed.elapsed() < RENEW_EVERY {
            return;
        }
        self.names_epoch = epoch;
        let exporters = shared.exporters();
        let exporters = exporters
            .iter()
            .map(|exporter| exporter.exporter_addr.into());
        let learned = Learned {
            names: shared.names.snapshot(),
            exporters: exporters.collect(),
            ..Learned::default()
        };
        self.published.publish(self.parts.tables(&learned));
        self.renewed = Instant::now();
    }

    /// True when the next flows are marked by other tables than those before: a batch ends there.
    #[must_use]
    pub fn is_stale(&self) -> bool {
        self.enricher.is_stale()
    }

    /// Marks `flows`, as [`Enricher::mark`].
    pub fn mark(&mut self, flows: &mut [Flow]) -> Marked<'_> {
        if self.enricher.is_stale() {
            self.enricher.renew();
        }
        self.enricher.mark(flows)
    }
}
