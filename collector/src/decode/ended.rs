//! Exporters whose transport session has ended: the status page goes on showing what they sent.

use super::shared::ExporterStatus;

/// Exporters and domains remembered; of more, those that sent last.
const ENDED_MAX: usize = 256;

/// What domains were when their session ended; the sessions of one domain together.
#[derive(Debug, Default)]
pub struct Ended(Vec<ExporterStatus>);

impl Ended {
    /// Adds a domain. Its templates went with the session.
    pub fn add(&mut self, status: ExporterStatus) {
        let status = ExporterStatus {
            templates: 0,
            ..status
        };
        if let Some(known) = self.0.iter_mut().find(|known| known.key() == status.key()) {
            known.add(&status);
            return;
        }
        if self.0.len() >= ENDED_MAX {
            let oldest = (0..self.0.len()).min_by_key(|at| self.0.get(*at).map(|s| s.last_seen));
            if let Some(at) = oldest {
                self.0.swap_remove(at);
            }
        }
        self.0.push(status);
    }

    /// All of them.
    #[must_use]
    pub fn statuses(&self) -> &[ExporterStatus] {
        &self.0
    }
}
