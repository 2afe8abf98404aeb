//! ClickHouse servers: what `flowsluice check` says of them.

use std::net::IpAddr;
use std::path::Path;

use flowsluice::config::{self, Compression, Config, PASSWORD_VARIABLE};

use super::{Report, counted};

impl Report {
    /// Where rows go, as whom, and what TLS and the cluster make of it.
    pub(super) fn servers(&mut self, store: &config::Store) {
        let (user, place) = store.server_user();
        let user = match place {
            "store.user" => user,
            other => format!("{user} (of {other})"),
        };
        let password = match store.server_password_place() {
            Some(place) => format!("password from {place}"),
            None => "without a password".into(),
        };
        let mut role = "";
        for url in store.servers() {
            self.line("store", url, &format!("{role}as user {user}, {password}"));
            role = "standby; ";
        }
        if let Some(cluster) = &store.cluster {
            let note = "cluster; rows go to the local tables of these servers' shard";
            self.line("store", cluster, note);
        }
        if store.compression == Compression::None {
            self.line("store", "none", "compression");
        }
        if store.servers().any(|url| url.starts_with("https://")) {
            self.tls(&store.tls);
        }
    }

    fn tls(&mut self, tls: &config::Tls) {
        let shown = |path: &Path| path.display().to_string();
        match &tls.ca {
            Some(ca) => self.line(
                "tls",
                &shown(ca),
                "CAs that may sign a server's certificate",
            ),
            None => self.line(
                "tls",
                "Mozilla's list",
                "CAs that may sign a server's certificate",
            ),
        }
        if let Some(cert) = &tls.cert {
            self.line("tls", &shown(cert), "certificate that the collector shows");
        }
    }

    /// What is wrong or unsafe about them.
    pub(super) fn server(&mut self, config: &Config) {
        let store = &config.store;
        let Ok(password) = store.server_password() else {
            return;
        };
        let key = store.servers_key();
        if password.is_none() {
            self.warnings.push(format!(
                "store.password_file: absent, so user {} has no password; set it, or \
                 {PASSWORD_VARIABLE}",
                store.server_user().0
            ));
        } else {
            let in_clear = |url: &&str| url.starts_with("http://") && !is_local(url);
            for url in store.servers().filter(in_clear) {
                self.warnings.push(format!(
                    "{key}: the password goes to {url} in clear; use https:// outside of a \
                     network of your own"
                ));
            }
        }
        let servers = store.servers().count();
        if servers > 1 && store.cluster.is_none() {
            self.warnings.push(format!(
                "store.urls: {} without store.cluster know nothing of each other: each gets a part \
                 of the rows, and a block that one of them stored without being able to say so is \
                 stored by another once more; let them be replicas of one shard and set \
                 store.cluster, or name one",
                counted(servers, "server")
            ));
        }
    }
}

fn is_local(url: &str) -> bool {
    let authority = url.trim_start_matches("http://").trim_end_matches('/');
    let host = match authority.strip_prefix('[') {
        Some(rest) => rest.split(']').next(),
        None => authority.split(':').next(),
    };
    let host = host.unwrap_or_default();
    host == "localhost" || host.parse::<IpAddr>().is_ok_and(|ip| ip.is_loopback())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn report(text: &str) -> Report {
        Report::of(&config::parse("f.toml", text).unwrap(), None)
    }

    #[test]
    fn a_server_on_this_host_hears_the_password_alone() {
        for url in [
            "http://localhost:8123",
            "http://127.0.0.1",
            "http://[::1]:8123/",
        ] {
            assert!(is_local(url), "{url}");
        }
        assert!(!is_local("http://10.0.0.5:8123"));
        assert!(!is_local("http://localhost.example"));
    }

    #[test]
    fn servers_that_share_nothing_are_warned_of_and_replicas_are_not() {
        let urls = "[store]\nurls = [\"https://a:8443\", \"https://b:8443\"]\npassword = \"p\"\n";
        let said = report(urls);
        let warned = |report: &Report| {
            let mut warnings = report.warnings.iter();
            warnings.any(|warning| warning.contains("2 servers without store.cluster"))
        };
        assert!(warned(&said), "{:?}", said.warnings);
        let said = report(&format!("{urls}cluster = \"main\"\n"));
        assert!(!warned(&said), "{:?}", said.warnings);
        for line in [
            "store       https://a:8443              as user default, password from store.password",
            "store       https://b:8443              standby; as user default, password from",
            "store       main                        cluster; rows go to the local tables",
            "tls         Mozilla's list              CAs that may sign",
        ] {
            assert!(said.text.contains(line), "{line}\n{}", said.text);
        }
    }

    #[test]
    fn files_of_tls_that_cannot_be_used_are_errors() {
        let said = report(
            "[store]\nurl = \"https://a\"\npassword = \"p\"\n[store.tls]\nca = \"/no/such\"\n",
        );
        let expected = "store.tls.ca: /no/such cannot be read (No such file or directory";
        assert!(
            said.errors.iter().any(|error| error.starts_with(expected)),
            "{:?}",
            said.errors
        );
    }
}
