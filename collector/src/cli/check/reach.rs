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

#[cfg(test)]
mod tests {
    use flowsluice::config::parse;

    use super::*;

    fn reached(text: &str) -> Report {
        let mut report = Report::default();
        let config = parse("f.toml", text).unwrap();
        report.http(&config.http);
        report.reach(&config);
        report
    }

    #[test]
    fn a_page_that_others_could_see_is_off_and_the_operator_is_told_what_to_do() {
        let report = reached("[http]\nlisten = \"0.0.0.0:9190\"\n");
        assert!(report.text.contains("no page"), "{}", report.text);
        let told = &report.warnings[0];
        assert!(told.starts_with("http.listen: the page is off"), "{told}");
        assert!(told.contains("set http.password_file"), "{told}");
        assert_eq!(report.errors, [""; 0]);
        let report = reached("");
        assert!(
            report.text.contains("the page, for this host"),
            "{}",
            report.text
        );
        assert_eq!(report.warnings, [""; 0]);
    }

    #[test]
    fn a_password_that_cannot_be_read_keeps_the_collector_from_starting() {
        let file = "password_file = \"/nowhere/page.password\"\n";
        let report = reached(&format!("[http]\nlisten = \"0.0.0.0:9190\"\n{file}"));
        let told = &report.errors[0];
        assert!(
            told.starts_with("http.password_file: /nowhere/page.password"),
            "{told}"
        );
        let clear = report.warnings.iter().any(|told| told.contains("in clear"));
        assert!(clear, "{:?}", report.warnings);
    }
}
