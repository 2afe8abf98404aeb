//! What two configurations do not say alike, by key.

use toml::{Table, Value};

use super::Config;

impl Config {
    /// The keys whose values differ from those of `other`, in the order of the alphabet. Passwords
    /// are named as well, and never shown.
    #[must_use]
    pub fn keys_changed(&self, other: &Self) -> Vec<String> {
        let table = |config: &Self| Table::try_from(config).expect("a configuration is a table");
        let mut changed = Vec::new();
        compare("", &table(self), &table(other), &mut changed);
        // Secrets are all alike in a table.
        for (key, is_same) in [
            (
                "store.password",
                self.store.password == other.store.password,
            ),
            ("enrich.snmp.targets", self.enrich.snmp == other.enrich.snmp),
        ] {
            let is_told = changed
                .iter()
                .any(|told| told.starts_with("enrich.snmp") || told == key);
            if !is_same && !is_told {
                changed.push(key.to_owned());
            }
        }
        changed.sort();
        changed
    }
}

fn compare(at: &str, one: &Table, other: &Table, changed: &mut Vec<String>) {
    let added = other.keys().filter(|name| !one.contains_key(*name));
    for name in one.keys().chain(added) {
        let key = format!("{at}{name}");
        match (one.get(name), other.get(name)) {
            (Some(Value::Table(one)), Some(Value::Table(other))) => {
                compare(&format!("{key}."), one, other, changed);
            }
            (one, other) if one != other => changed.push(key),
            _ => {}
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::{Secret, parse};

    #[test]
    fn keys_that_differ_are_named_and_no_other() {
        let config = |text: &str| parse("test", text).unwrap();
        let one = config("[receive]\nworkers = 2\n[http]\nlisten = \"127.0.0.1:1\"\n");
        let other = config("[receive]\nworkers = 3\n[store.retention_of]\nnames = \"2days\"\n");
        let changed = one.keys_changed(&other);
        assert_eq!(
            changed,
            ["http.listen", "receive.workers", "store.retention_of.names"]
        );
        assert!(one.keys_changed(&one).is_empty());
    }

    #[test]
    fn another_password_is_named() {
        let with = |password: &str| {
            let mut config = Config::default();
            config.store.password = Some(Secret::new(password));
            config
        };
        assert_eq!(with("a").keys_changed(&with("b")), ["store.password"]);
    }
}
