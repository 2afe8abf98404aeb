//! What enrichment says of the rows of sealed batches, before they are encoded.
//!
//! Not in the workers: what a worker's thread does is what datagrams wait for in the socket, and
//! this needs nothing of what it has at hand. The marks are as new as can be, and who marks all
//! batches remembers the addresses of all workers.

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::watch;

use super::Phase;
use super::queue::Exchange;
use crate::enrich::Enricher;

/// How soon older tables are let go while no batch comes. A database may stand in them.
const RENEW_EVERY: Duration = Duration::from_millis(100);

/// Marks batches as they come and hands them on to the encoder. Waits for no room: what is behind
/// it has room for all batches there are.
pub(super) struct MarkerTask {
    exchange: Arc<Exchange>,
    phase: watch::Receiver<Phase>,
}

impl MarkerTask {
    /// From here on the encoder waits for [`MarkerTask::run`] to end.
    pub(super) fn new(exchange: Arc<Exchange>, phase: watch::Receiver<Phase>) -> Self {
        exchange.marking_begins();
        Self { exchange, phase }
    }

    /// Runs until the workers have finished and all their batches are marked.
    pub(super) async fn run(mut self, mut enricher: Enricher) {
        loop {
            // Looked at before the queue: whoever says that no more comes has handed over before.
            let phase = *self.phase.borrow();
            if !self.exchange.to_mark.is_empty() || enricher.is_stale() {
                let exchange = Arc::clone(&self.exchange);
                // Milliseconds of work, as is the end of tables that nobody else has: too long for
                // a thread that serves others.
                let marking = tokio::task::spawn_blocking(move || {
                    mark_all(&exchange, &mut enricher);
                    enricher
                });
                match marking.await {
                    Ok(marked) => enricher = marked,
                    Err(_) => return, // the runtime ends
                }
            } else if phase == Phase::Running {
                tokio::select! {
                    () = self.exchange.to_mark.changed() => {}
                    _ = self.phase.changed() => {}
                    () = tokio::time::sleep(RENEW_EVERY) => {}
                }
            } else {
                return;
            }
        }
    }
}

impl Drop for MarkerTask {
    fn drop(&mut self) {
        self.exchange.marking_ends();
    }
}

/// Marks what there is, each batch with the newest tables.
fn mark_all(exchange: &Exchange, enricher: &mut Enricher) {
    loop {
        if enricher.is_stale() {
            enricher.renew();
        }
        let Some(mut sealed) = exchange.to_mark.take() else {
            return;
        };
        sealed.batch.mark(enricher);
        exchange.to_encode.push(sealed);
    }
}
