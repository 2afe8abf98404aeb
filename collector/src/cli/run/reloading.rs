//! SIGHUP: the configuration is read again, and taken over as far as that can be while it runs.

use std::path::PathBuf;
use std::sync::Arc;

use flowsluice::config::{self, Config};
use flowsluice::log::one_line;
use flowsluice::receive::allow::AllowList;
use tokio::runtime::Runtime;
use tracing::{error, info, warn};

use super::enriching::Enriching;
use crate::cli::storage::Storage;

/// What a reload is held against, and what it changes.
pub(super) struct Reloading {
    /// `None` where the built-in defaults are in force.
    file: Option<PathBuf>,
    /// As it was at the start: what differs from it and is not taken over is told each time.
    started: Config,
    allow: Arc<AllowList>,
}

impl Reloading {
    pub(super) fn new(file: Option<PathBuf>, started: &Config) -> Self {
        Self {
            file,
            started: started.clone(),
            allow: AllowList::new(&started.receive.allow),
        }
    }

    /// Whom datagrams are taken of.
    pub(super) fn allow(&self) -> &Arc<AllowList> {
        &self.allow
    }

    /// Reads the file. One with a fault changes nothing.
    pub(super) fn reload(&self, enriching: &Enriching, storage: &Storage, runtime: &Runtime) {
        let Some(file) = &self.file else {
            info!("SIGHUP: there is no configuration file; files that changed are read again");
            return enriching.reload(None);
        };
        let config = match config::load(file) {
            Ok(config) => config,
            Err(error) => {
                let error = one_line(&error);
                error!("SIGHUP: the configuration stays as it was: {error}");
                return;
            }
        };
        let file = file.display().to_string();
        let mut left = self.started.keys_changed(&config);
        left.retain(|key| !is_taken_over(key, enriching.is_off()));
        if !left.is_empty() {
            let keys = left.join(", ");
            warn!(
                file,
                keys, "SIGHUP: these are read at a start only; restart flowsluice"
            );
        }
        self.take_over(&config, storage, runtime);
        enriching.reload(Some(config));
        info!(file, "SIGHUP: the configuration was read again");
    }

    fn take_over(&self, config: &Config, storage: &Storage, runtime: &Runtime) {
        let allow = &config.receive.allow;
        if self.allow.prefixes() != *allow {
            self.allow.replace(allow);
            info!(
                prefixes = allow.len(),
                "SIGHUP: receive.allow is taken over"
            );
        }
        let (store, started) = (&config.store, &self.started.store);
        let now = (store.retention, store.retention_of.clone());
        let before = started.live.get();
        let before = before.unwrap_or((started.retention, started.retention_of.clone()));
        if now != before {
            started.live.set(now.0, now.1);
            storage.retain(started, runtime);
        }
    }
}

/// Whether a key of the file can change while the collector runs.
fn is_taken_over(key: &str, is_enrich_off: bool) -> bool {
    let at_start = ["enrich.services", "enrich.dns", "enrich.snmp"];
    let is_of = |table: &str| key == table || key.starts_with(&format!("{table}."));
    match key {
        "receive.allow" | "store.retention" => true,
        _ if is_of("store.retention_of") => true,
        _ if is_of("enrich") => !is_enrich_off && !at_start.into_iter().any(is_of),
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_holds_threads_and_sockets_is_read_at_a_start_only() {
        for (key, expected) in [
            ("receive.allow", true),
            ("receive.workers", false),
            ("store.retention", true),
            ("store.retention_of.names", true),
            ("store.partition", false),
            ("enrich.networks", true),
            ("enrich.snmp.every", false),
            ("enrich.services", false),
            ("http.listen", false),
        ] {
            assert_eq!(is_taken_over(key, false), expected, "{key}");
        }
        assert!(
            !is_taken_over("enrich.networks", true),
            "nobody is there to read them"
        );
    }
}
