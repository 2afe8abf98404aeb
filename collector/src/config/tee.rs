//! `[[receive.tee]]`: other collectors that get the same datagrams.

use ipnet::IpNet;
use serde::{Deserialize, Serialize};

/// `[[receive.tee]]`
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub struct Tee {
    /// Where to: `HOST:PORT`, UDP.
    pub to: String,
    /// Prefixes of the exporters whose datagrams are forwarded; empty forwards all.
    #[serde(default)]
    pub exporters: Vec<IpNet>,
    /// Forwarded datagrams come from the exporter's address and port, not from this host's.
    #[serde(default)]
    pub keep_source: bool,
}

impl Tee {
    /// Why `to` is not where datagrams can be sent, with the remedy.
    #[must_use]
    pub fn fault(&self) -> Option<String> {
        const FORM: &str = "write HOST:PORT, such as \"192.0.2.20:2055\" or \"[2001:db8::1]:2055\"";
        let Self { to, .. } = self;
        let Some((host, port)) = to.rsplit_once(':') else {
            return Some(format!("\"{to}\" has no port; {FORM}"));
        };
        if host.is_empty() || host.contains(char::is_whitespace) {
            return Some(format!("\"{to}\" names no host; {FORM}"));
        }
        if host.contains(':') && !(host.starts_with('[') && host.ends_with(']')) {
            return Some(format!(
                "in \"{to}\" the IPv6 address has no brackets; {FORM}"
            ));
        }
        match port.parse::<u16>() {
            Ok(1..) => None,
            _ => Some(format!("\"{to}\" has no port from 1 to 65535; {FORM}")),
        }
    }
}
