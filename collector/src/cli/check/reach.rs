//! Listeners that others can reach: what `flowsluice check` says of them.

use flowsluice::config::{Config, Http, StoreTarget};

use super::Report;

impl Report {
    /// What is answered over HTTP, and whom the page is for.
    pub(super) fn http(&mut self, http: &Http) {
        let page = match (http.has_page(), &http.password_file) {
            (true, Some(_)) => format!("the page, for user {}", http.user),
            (true, None) => "the page, for this host".into(),
            (false, _) => "no page".into(),
        };
        let note = format!("/metrics /healthz /readyz /status; {page}");
        self.line("tcp", &http.listen.to_string(), &note);
    }

    /// Listeners without passwords, or with guessable ones, that others can reach.
    pub(super) fn reach(&mut self, config: &Config) {
        self.page(&config.http);
        if !config.http.listen.ip().is_loopback() {
            self.warnings.push(format!(
                "http.listen: everybody who can connect to {} sees the exporters' addresses; \
                 /metrics and /status have no password",
                config.http.listen
            ));
        }
        let embedded = &config.store.embedded;
        for (key, address) in [
            ("store.embedded.http", Some(embedded.http)),
            ("store.embedded.tcp", embedded.tcp),
        ] {
            let open = address.filter(|address| !address.ip().is_loopback());
            if let (Some(address), StoreTarget::Embedded) = (open, config.store.target()) {
                self.warnings.push(format!(
                    "{key}: everybody who can connect to {address} may try passwords, and those \
                     go in clear"
                ));
            }
        }
    }

    fn page(&mut self, http: &Http) {
        if let Err(error) = http.password() {
            self.errors.push(error.to_string());
        }
        self.secret("http.password_file", http.password_file.as_deref());
        let listen = http.listen;
        if !http.has_page() {
            self.warnings.push(format!(
                "http.listen: the page is off, since others than this host can connect to \
                 {listen}; set http.password_file to a file with a password, or listen on \
                 127.0.0.1"
            ));
        } else if !listen.ip().is_loopback() {
            self.warnings.push(format!(
                "http.listen: the page's password crosses the network to {listen} in clear; put a \
                 proxy with TLS before it"
            ));
        }
    }
}
