//! SIGHUP: the configuration is read again, and taken over as far as that can be while it runs.

use std::path::PathBuf;
use std::sync::Arc;

use flowsluice::config::{self, Config, Http};
use flowsluice::http::{self, Access, AccessError};
use flowsluice::log::one_line;
use flowsluice::receive::allow::AllowList;
use flowsluice::receive::limit::Limits;
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
    limits: Arc<Limits>,
}

impl Reloading {
    pub(super) fn new(file: Option<PathBuf>, started: &Config) -> Self {
        Self {
            file,
            started: started.clone(),
            allow: AllowList::new(started.receive.allow.clone()),
            limits: Limits::new(started.receive.limit.clone()),
        }
    }

    /// Whom datagrams are taken of.
    pub(super) fn allow(&self) -> &Arc<AllowList> {
        &self.allow
    }

    /// How much one sender may send.
    pub(super) fn limits(&self) -> &Arc<Limits> {
        &self.limits
    }

    /// Reads the file. One with a fault changes nothing.
    pub(super) fn reload(
        &self,
        (enriching, storage, state): (&Enriching, &Storage, &http::State),
        runtime: &Runtime,
    ) {
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
        self.admit(&config.http, state);
        enriching.reload(Some(config));
        info!(file, "SIGHUP: the configuration was read again");
    }

    fn take_over(&self, config: &Config, storage: &Storage, runtime: &Runtime) {
        let allow = &config.receive.allow;
        if self.allow.get() != *allow {
            self.allow.replace(allow.clone());
            info!(
                prefixes = allow.len(),
                "SIGHUP: receive.allow is taken over"
            );
        }
        let limit = &config.receive.limit;
        if self.limits.get() != *limit {
            self.limits.replace(limit.clone());
            info!("SIGHUP: receive.limit is taken over");
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

    /// Token and password are read again, also where no key changed: the files may have.
    fn admit(&self, http: &Http, state: &http::State) {
        match access(&self.started.http, http) {
            Ok(access) => {
                if state.admit(access) {
                    info!("SIGHUP: who is answered by HTTP is taken over");
                }
            }
            Err(error) => {
                let error = one_line(&error);
                error!("SIGHUP: who is answered by HTTP stays as it was: {error}");
            }
        }
    }
}

/// Who is answered by what the files of `http` say now. The listener stays where it is, so whether
/// others than this host can ask is decided by that.
fn access(started: &Http, now: &Http) -> Result<Access, AccessError> {
    Access::of(&Http {
        listen: started.listen,
        ..now.clone()
    })
}

/// Whether a key of the file can change while the collector runs.
fn is_taken_over(key: &str, is_enrich_off: bool) -> bool {
    let at_start = ["enrich.services", "enrich.dns", "enrich.snmp"];
    let is_of = |table: &str| key == table || key.starts_with(&format!("{table}."));
    match key {
        "receive.allow" | "store.retention" => true,
        "http.user" | "http.password_file" | "http.token_file" => true,
        _ if is_of("receive.limit") || is_of("store.retention_of") => true,
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
            ("receive.limit.rate", true),
            ("receive.workers", false),
            ("store.retention", true),
            ("store.retention_of.names", true),
            ("store.partition", false),
            ("enrich.networks", true),
            ("enrich.snmp.every", false),
            ("enrich.services", false),
            ("http.listen", false),
            ("http.token_file", true),
        ] {
            assert_eq!(is_taken_over(key, false), expected, "{key}");
        }
        assert!(
            !is_taken_over("enrich.networks", true),
            "nobody is there to read them"
        );
    }

    #[test]
    fn a_listener_that_others_reach_is_not_left_open_by_another_address_in_the_file() {
        let file = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(&file, "a token that is long\n").unwrap();
        let started = Http {
            listen: "0.0.0.0:9190".parse().unwrap(),
            token_file: Some(file.path().to_owned()),
            ..Http::default()
        };
        assert!(access(&started, &started).is_ok());
        let refused = access(&started, &Http::default()).unwrap_err();
        assert!(matches!(refused, AccessError::Open(_)), "{refused}");
        assert!(access(&Http::default(), &Http::default()).is_ok());
    }
}
