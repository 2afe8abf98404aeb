//! `[enrich]`: whether the values mean something together.

use std::net::{IpAddr, SocketAddr};
use std::path::Path;
use std::time::Duration;

use bytesize::ByteSize;
use regex::Regex;

use super::Problems;
use crate::config::{
    Dns, Enrich, Geo, InterfaceRule, Snmp, SnmpAuth, SnmpPrivacy, SnmpTarget, SnmpVersion,
};

/// Most files, rules or prefixes of one kind.
const ENTRIES_MAX: usize = 4096;
const DAY: Duration = Duration::from_secs(24 * 3600);

impl Problems {
    pub(super) fn enrich(&mut self, enrich: &Enrich) {
        let Enrich {
            networks,
            applications,
            application_ids,
            interfaces,
            threats_whitelist,
            ..
        } = enrich;
        for (key, files) in [
            ("enrich.networks", networks),
            ("enrich.applications", applications),
            ("enrich.application_ids", application_ids),
            ("enrich.interfaces", interfaces),
            ("enrich.threats_whitelist", threats_whitelist),
            ("enrich.geo.databases", &enrich.geo.databases),
        ] {
            self.count(key, files.len(), 0..=ENTRIES_MAX);
            for file in files {
                self.absolute(key, file);
            }
        }
        self.absolute_or_none("enrich.mac_vendors", &enrich.mac_vendors);
        let look = Duration::from_millis(100)..=DAY;
        self.time("enrich.look_every", enrich.look_every, look);
        self.geo(&enrich.geo);
        self.dns(&enrich.dns);
        self.snmp(&enrich.snmp);
        let exporters = enrich.exporters.iter().map(|exporter| exporter.source);
        self.prefixes("enrich.exporters", exporters);
        self.count(
            "enrich.interface_rules",
            enrich.interface_rules.len(),
            0..=ENTRIES_MAX,
        );
        for (number, rule) in enrich.interface_rules.iter().enumerate() {
            self.interface_rule(&format!("enrich.interface_rules[{number}]"), rule);
        }
        self.count("enrich.threats", enrich.threats.len(), 0..=ENTRIES_MAX);
        for (number, list) in enrich.threats.iter().enumerate() {
            self.absolute(&format!("enrich.threats[{number}].file"), &list.file);
            self.tag(&format!("enrich.threats[{number}].tag"), &list.tag);
        }
    }

    /// A tag stands in a list that commas divide.
    fn tag(&mut self, key: &str, tag: &str) {
        if tag.is_empty() || tag.contains(|c: char| c == ',' || c.is_control()) {
            self.add(key, "a tag is some text without commas");
        }
    }

    fn absolute_or_none(&mut self, key: &str, path: &Path) {
        if !path.as_os_str().is_empty() {
            self.absolute(key, path);
        }
    }

    /// One prefix twice would make one of the two mean nothing.
    pub(super) fn prefixes(&mut self, key: &str, prefixes: impl Iterator<Item = ipnet::IpNet>) {
        let mut seen = std::collections::HashSet::new();
        let mut count = 0;
        for (number, prefix) in prefixes.enumerate() {
            count += 1;
            if !seen.insert(prefix.trunc()) {
                let text = format!("{} is listed twice; remove one of the two", prefix.trunc());
                self.add(format!("{key}[{number}].source"), text);
            }
        }
        self.count(key, count, 0..=ENTRIES_MAX);
    }

    fn geo(&mut self, geo: &Geo) {
        let memory = ByteSize::mib(1)..=ByteSize::gib(16);
        self.bytes("enrich.geo.memory_max", geo.memory_max, memory);
        if geo.language.is_empty() {
            let text = "name a language that the database has, such as \"en\"";
            self.add("enrich.geo.language", text);
        }
        for (number, update) in geo.updates.iter().enumerate() {
            let key = format!("enrich.geo.updates[{number}]");
            self.absolute(&format!("{key}.file"), &update.file);
            self.origin(&format!("{key}.from"), &update.from);
            if !update.sha256_from.is_empty() {
                self.origin(&format!("{key}.sha256_from"), &update.sha256_from);
            }
            self.absolute_or_none(&format!("{key}.password_file"), &update.password_file);
        }
    }

    fn origin(&mut self, key: &str, origin: &str) {
        let is_address = ["https://", "http://"]
            .iter()
            .any(|scheme| origin.starts_with(scheme));
        if !is_address && !Path::new(origin).is_absolute() {
            let text = format!("found {origin:?}; allowed: an http(s) address or an absolute path");
            self.add(key, text);
        }
    }

    fn dns(&mut self, dns: &Dns) {
        for (number, server) in dns.servers.iter().enumerate() {
            if server.parse::<IpAddr>().is_err() && server.parse::<SocketAddr>().is_err() {
                let text = format!(
                    "found {server:?}; allowed: an address, or an address with a port such as \
                     \"192.0.2.53:53\" or \"[2001:db8::53]:53\""
                );
                self.add(format!("enrich.dns.servers[{number}]"), text);
            }
        }
        self.count("enrich.dns.servers", dns.servers.len(), 0..=16);
        self.count("enrich.dns.hits_max", dns.hits_max, 1..=4_000_000);
        self.count("enrich.dns.misses_max", dns.misses_max, 1..=4_000_000);
        let lifetime = Duration::from_secs(1)..=30 * DAY;
        self.time(
            "enrich.dns.hit_lifetime",
            dns.hit_lifetime,
            lifetime.clone(),
        );
        self.time("enrich.dns.miss_lifetime", dns.miss_lifetime, lifetime);
        self.count("enrich.dns.queries_max", dns.queries_max, 1..=4096);
        self.count("enrich.dns.rate_max", dns.rate_max, 1..=100_000);
        let timeout = Duration::from_millis(10)..=Duration::from_secs(60);
        self.time("enrich.dns.timeout", dns.timeout, timeout);
    }

    fn snmp(&mut self, snmp: &Snmp) {
        self.time(
            "enrich.snmp.every",
            snmp.every,
            Duration::from_secs(1)..=DAY,
        );
        let timeout = Duration::from_millis(10)..=Duration::from_secs(60);
        self.time("enrich.snmp.timeout", snmp.timeout, timeout);
        self.count("enrich.snmp.retries", snmp.retries, 0..=10);
        let at_once = snmp.exporters_at_once;
        self.count("enrich.snmp.exporters_at_once", at_once, 1..=256);
        let sources = snmp.targets.iter().map(|target| target.source);
        self.prefixes("enrich.snmp.targets", sources);
        for (number, target) in snmp.targets.iter().enumerate() {
            self.snmp_target(&format!("enrich.snmp.targets[{number}]"), target);
        }
    }

    fn snmp_target(&mut self, key: &str, target: &SnmpTarget) {
        for (name, file) in [
            ("community_file", &target.community_file),
            ("auth_password_file", &target.auth_password_file),
            ("privacy_password_file", &target.privacy_password_file),
        ] {
            self.absolute_or_none(&format!("{key}.{name}"), file);
        }
        let is_named = |file: &Path| !file.as_os_str().is_empty();
        match target.version {
            SnmpVersion::V2c => {
                if target.community.is_none() && !is_named(&target.community_file) {
                    let text = "version 2c wants a community or a community_file";
                    self.add(key, text);
                }
            }
            SnmpVersion::V3 => {
                if target.user.is_empty() {
                    self.add(format!("{key}.user"), "version 3 wants a user");
                }
                let is_plain = target.auth == SnmpAuth::None;
                if !is_plain && !is_named(&target.auth_password_file) {
                    let text = "wanted for auth; auth = \"none\" does without";
                    self.add(format!("{key}.auth_password_file"), text);
                }
                if target.privacy == SnmpPrivacy::None {
                    return;
                }
                if is_plain {
                    let text = "there is no encryption without authentication (RFC 3414)";
                    self.add(format!("{key}.privacy"), text);
                } else if !is_named(&target.privacy_password_file) {
                    let text = "wanted for privacy; privacy = \"none\" does without";
                    self.add(format!("{key}.privacy_password_file"), text);
                }
            }
        }
    }

    fn interface_rule(&mut self, key: &str, rule: &InterfaceRule) {
        for (name, pattern) in [("name", &rule.name), ("alias", &rule.alias)] {
            if let Err(error) = Regex::new(pattern) {
                // What is above the last line draws the place with spaces.
                let error = error.to_string();
                let why = error.lines().last().unwrap_or_default();
                let why = why.trim_start_matches("error: ");
                let text = format!(
                    "found {pattern:?}, which is no regular expression ({why}); put a backslash \
                     before a character that stands for itself"
                );
                self.add(format!("{key}.{name}"), text);
            }
        }
        if rule.speed_max != 0 && rule.speed_max < rule.speed_min {
            let text = "it is below speed_min, so the rule never fits";
            self.add(format!("{key}.speed_max"), text);
        }
    }
}
