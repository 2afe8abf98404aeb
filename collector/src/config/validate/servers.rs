//! `[store]`: whether what names servers means something together.

use std::collections::HashSet;
use std::path::PathBuf;
use std::time::Duration;

use super::{Problem, Problems};
use crate::config::{Embedded, Store, StoreKind, Tls};

/// Most servers of one collector: the replicas of a shard are two or three.
const SERVERS_MAX: usize = 16;

impl Problems {
    /// Addresses, TLS and cluster.
    pub(super) fn servers(&mut self, store: &Store) {
        if let Some(Err(text)) = store.url.as_deref().map(server_url) {
            self.add("store.url", text);
        }
        if store.url.is_some() && !store.urls.is_empty() {
            let text = "store.url and store.urls are both set; put all servers into store.urls and \
                        remove store.url";
            self.0
                .push(Problem::new("store.urls", text).with("store.url"));
        }
        self.count("store.urls", store.urls.len(), 0..=SERVERS_MAX);
        let mut seen = HashSet::new();
        for url in &store.urls {
            match server_url(url) {
                Err(text) => self.add("store.urls", text),
                Ok(()) if !seen.insert(url.trim_end_matches('/')) => {
                    let text = format!("\"{url}\" is listed twice; remove one of the two");
                    self.add("store.urls", text);
                }
                Ok(()) => {}
            }
        }
        let hour = Duration::from_secs(3600);
        let times = Duration::from_secs(1)..=hour;
        self.time("store.failback_after", store.failback_after, times);
        self.kind(store);
        self.cluster(store);
        self.tls(&store.tls, store);
    }

    fn cluster(&mut self, store: &Store) {
        let Some(cluster) = &store.cluster else {
            return;
        };
        let is_plain = |c: char| c.is_ascii_alphanumeric() || "_-.".contains(c);
        if cluster.is_empty() || !cluster.chars().all(is_plain) {
            let text = format!("found {cluster:?}; allowed: letters, digits, '_', '-' and '.'");
            self.add("store.cluster", text);
        }
        if store.servers().next().is_none() && store.kind != StoreKind::Null {
            let text = "set, but no server is named: the embedded ClickHouse is in no cluster; \
                        add store.urls or remove this key";
            self.add("store.cluster", text);
        }
    }

    fn tls(&mut self, tls: &Tls, store: &Store) {
        let files = [
            ("store.tls.ca", &tls.ca),
            ("store.tls.cert", &tls.cert),
            ("store.tls.key", &tls.key),
        ];
        for (key, path) in files {
            let Some(path) = path else { continue };
            self.absolute(key, path);
            let is_used = store.servers().any(|url| url.starts_with("https://"));
            if !is_used && store.kind != StoreKind::Null {
                let text = format!(
                    "set, but {} names no https:// address; write one, or remove this key",
                    store.servers_key()
                );
                self.add(key, text);
            }
        }
        self.pair("store.tls", (&tls.cert, &tls.key));
    }

    /// A certificate and its key are nothing without each other.
    pub(super) fn pair(&mut self, table: &str, pair: (&Option<PathBuf>, &Option<PathBuf>)) {
        match pair {
            (Some(_), None) => {
                let text = format!("needs {table}.key, the key to this certificate; add it");
                self.add(format!("{table}.cert"), text);
            }
            (None, Some(_)) => {
                let text = format!("needs {table}.cert, the certificate of this key; add it");
                self.add(format!("{table}.key"), text);
            }
            _ => {}
        }
    }

    /// Keys of two stores at once. A null store takes them all: it is switched on in the
    /// configuration whose cost without ClickHouse is to be measured.
    fn kind(&mut self, store: &Store) {
        match (store.kind, store.servers().next()) {
            (StoreKind::Null, _) => {}
            (StoreKind::Server, None) => {
                let text = "\"server\" needs store.url; add it, or take \"embedded\"";
                self.add("store.kind", text);
            }
            (StoreKind::Embedded, Some(_)) => {
                let text = "\"embedded\" and store.url are both set; remove store.url to use the \
                            embedded ClickHouse, or store.kind to use the server";
                self.add("store.kind", text);
            }
            (_, Some(_)) if store.embedded != Embedded::default() => {
                let text = "a server is named and [store.embedded] is set; remove \
                            [store.embedded] to use the server, or store.url to use the \
                            embedded ClickHouse";
                self.0
                    .push(Problem::new("store.url", text).with("store.embedded"));
            }
            (_, Some(_)) => {}
            (_, None) => self.without_url(store),
        }
    }

    /// The embedded ClickHouse makes its own users and passwords.
    fn without_url(&mut self, store: &Store) {
        let set = [
            ("store.user", store.user != Store::default().user),
            ("store.password", store.password.is_some()),
            ("store.password_file", store.password_file.is_some()),
        ];
        for (key, _) in set.iter().filter(|(_, is_set)| *is_set) {
            let text = "set, but there is no store.url: the embedded ClickHouse makes its own \
                        users; add store.url or remove this key";
            self.add(*key, text);
        }
    }
}

fn server_url(url: &str) -> Result<(), String> {
    const FORM: &str = "\"http://host:8123\" or \"https://host:8443\"";
    let rest = url
        .strip_prefix("http://")
        .or_else(|| url.strip_prefix("https://"));
    // What stands before an '@' may be a password: such an address is not repeated.
    if url.contains('@') {
        return Err(format!(
            "a user or password in the address is not taken; use store.user and \
             store.password_file; allowed: {FORM}"
        ));
    }
    let Some(rest) = rest else {
        return Err(format!("found {url:?}; allowed: {FORM}"));
    };
    let authority = rest.strip_suffix('/').unwrap_or(rest);
    let (host, port) = match authority.rsplit_once(':') {
        Some((host, port)) if !port.contains(']') => (host, Some(port)),
        _ => (authority, None),
    };
    let host_fits = !host.is_empty() && !host.contains(['/', '?', '#', ' ']);
    let port_fits = port.is_none_or(|port| port.parse::<u16>().is_ok_and(|port| port > 0));
    if host_fits && port_fits {
        Ok(())
    } else {
        Err(format!("found {url:?}; allowed: {FORM}"))
    }
}

#[cfg(test)]
mod tests {
    use crate::config::parse;

    fn told(text: &str) -> String {
        match parse("f.toml", text) {
            Ok(_) => String::new(),
            Err(error) => error.to_string(),
        }
    }

    #[test]
    fn several_servers_of_a_cluster_with_their_certificates_are_taken() {
        let config = parse(
            "f.toml",
            "[store]\nurls = [\"https://a:8443\", \"https://b:8443\"]\ncluster = \"main-1\"\n\
             [store.tls]\nca = \"/etc/ca.pem\"\ncert = \"/etc/c.pem\"\nkey = \"/etc/c.key\"\n",
        )
        .unwrap();
        let servers: Vec<_> = config.store.servers().collect();
        assert_eq!(servers, ["https://a:8443", "https://b:8443"]);
    }

    #[test]
    fn servers_are_named_once_in_one_key() {
        assert_eq!(
            told("[store]\nurl = \"http://a\"\nurls = [\"http://b\"]\n"),
            "f.toml:3: store.urls: store.url and store.urls are both set; put all servers into \
             store.urls and remove store.url"
        );
        assert_eq!(
            told("[store]\nurls = [\"http://b\", \"http://b/\"]\n"),
            "f.toml:2: store.urls: \"http://b/\" is listed twice; remove one of the two"
        );
        let password = told("[store]\nurls = [\"http://me:20232@b\"]\n");
        assert!(password.contains("store.password_file"), "{password}");
        assert!(!password.contains("20232"), "{password}");
    }

    #[test]
    fn a_cluster_needs_servers_and_a_plain_name() {
        assert_eq!(
            told("[store]\ncluster = \"main\"\n"),
            "f.toml:2: store.cluster: set, but no server is named: the embedded ClickHouse is in \
             no cluster; add store.urls or remove this key"
        );
        assert_eq!(
            told("[store]\nurl = \"http://a\"\ncluster = \"it's\"\n"),
            "f.toml:3: store.cluster: found \"it's\"; allowed: letters, digits, '_', '-' and '.'"
        );
    }

    #[test]
    fn certificates_come_with_keys_and_are_for_https() {
        assert_eq!(
            told("[store]\nurl = \"https://a\"\n[store.tls]\ncert = \"/c.pem\"\n"),
            "f.toml:4: store.tls.cert: needs store.tls.key, the key to this certificate; add it"
        );
        assert_eq!(
            told("[store]\nurl = \"http://a\"\n[store.tls]\nca = \"/ca.pem\"\n"),
            "f.toml:4: store.tls.ca: set, but store.url names no https:// address; write one, or \
             remove this key"
        );
    }
}
