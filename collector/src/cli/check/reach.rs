//! Listeners that others can reach: what `flowsluice check` says of them.

use flowsluice::config::{Config, Http, StoreTarget, TOKEN_VARIABLE};

use super::Report;

impl Report {
    /// What is answered over HTTP, and whom the page is for.
    pub(super) fn http(&mut self, http: &Http) {
        let is_local = http.listen.ip().is_loopback();
        let has_token = std::env::var(TOKEN_VARIABLE).is_ok() || http.token_file.is_some();
        let whom = match (has_token, &http.password_file) {
            (true, _) => "for who has the token".to_owned(),
            (false, Some(_)) if is_local => format!("the page for user {}", http.user),
            (false, Some(_)) => format!("for user {}", http.user),
            (false, None) => "for this host".to_owned(),
        };
        let scheme = if http.tls.cert.is_some() {
            "https"
        } else {
            "http"
        };
        let note = format!("{scheme}; the page, /metrics /healthz /readyz /status; {whom}");
        self.line("tcp", &http.listen.to_string(), &note);
    }

    /// Listeners without passwords, or with guessable ones, that others can reach.
    pub(super) fn reach(&mut self, config: &Config) {
        let http = &config.http;
        if !http.listen.ip().is_loopback() && http.tls.cert.is_none() {
            self.warnings.push(format!(
                "http.listen: the token and the page's password cross the network to {} in \
                 clear; set http.tls.cert and http.tls.key, or put a proxy with TLS before it",
                http.listen
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
    fn a_secret_that_crosses_the_network_in_clear_is_warned_of() {
        let file = "password_file = \"/etc/flowsluice/page.password\"\n";
        let open = format!("[http]\nlisten = \"0.0.0.0:9190\"\n{file}");
        let report = reached(&open);
        let told = report.warnings.concat();
        assert!(told.contains("in clear; set http.tls.cert"), "{told}");
        assert!(
            report.text.contains("for user flowsluice"),
            "{}",
            report.text
        );
        let tls = "[http.tls]\ncert = \"/etc/c.pem\"\nkey = \"/etc/c.key\"\n";
        let report = reached(&format!("{open}{tls}"));
        assert_eq!(report.warnings, [""; 0]);
        assert!(report.text.contains("https; the page"), "{}", report.text);
        let report = reached("");
        assert!(report.text.contains("for this host"), "{}", report.text);
        assert_eq!(report.warnings, [""; 0]);
    }
}
