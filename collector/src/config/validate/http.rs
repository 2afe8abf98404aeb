//! `[http]`, and TCP listeners that cannot all be bound.

use std::net::SocketAddr;

use super::{Problem, Problems};
use crate::config::{Config, Http, StoreTarget};

impl Problems {
    pub(super) fn http(&mut self, http: &Http) {
        // RFC 7617 section 2: a user-id holds no colon.
        if http.user.is_empty() || http.user.contains(|c: char| c.is_control() || c == ':') {
            let text = format!("found {:?}; allowed: a name without a colon", http.user);
            self.add("http.user", text);
        }
        for (key, path) in [
            ("http.password_file", &http.password_file),
            ("http.token_file", &http.token_file),
            ("http.tls.cert", &http.tls.cert),
            ("http.tls.key", &http.tls.key),
        ] {
            if let Some(path) = path {
                self.absolute(key, path);
            }
        }
        self.pair("http.tls", (&http.tls.cert, &http.tls.key));
    }

    /// Ports that two parts of one collector would take.
    pub(super) fn clashes(&mut self, config: &Config) {
        let mut named = vec![("http.listen", config.http.listen)];
        if config.store.target() == StoreTarget::Embedded {
            let embedded = &config.store.embedded;
            named.extend(embedded.tcp.map(|tcp| ("store.embedded.tcp", tcp)));
            named.push(("store.embedded.http", embedded.http));
        }
        for (at, (key, address)) in named.iter().enumerate() {
            for (other_key, other) in &named[at + 1..] {
                if clash(*address, *other) {
                    let text = format!("{address} is also {other_key}; give each its own port");
                    self.0.push(Problem::new(*key, text).with(other_key));
                }
            }
        }
        for (index, listener) in config.receive.tcp.listeners.iter().enumerate() {
            let address = SocketAddr::new(listener.address, listener.port);
            let other = named.iter().find(|(_, other)| clash(address, *other));
            if let Some((other, _)) = other {
                let text = format!("{address} is also {other}; give each its own port");
                self.add(format!("receive.tcp.listeners[{index}].port"), text);
            }
        }
    }
}

/// Two TCP listeners that cannot both be bound.
fn clash(a: SocketAddr, b: SocketAddr) -> bool {
    let overlap = a.ip() == b.ip() || a.ip().is_unspecified() || b.ip().is_unspecified();
    a.port() == b.port() && a.port() != 0 && overlap
}
