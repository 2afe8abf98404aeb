//! The dictionary `host_names`: names of addresses for queries, also those that were learned after
//! a row was written.
//!
//! It is made anew at each start, because it holds the user and the password that ClickHouse reads
//! `hosts` with: those of the collector. Without them ClickHouse would read as its user `default`,
//! which may do nothing here and is locked on many servers. ClickHouse shows the password to
//! nobody, in no system table and no log; it stands in the metadata of its data directory, where
//! the embedded engine keeps its users as well.

use std::time::Duration;

use clickhouse::Client;
use tracing::warn;

use super::insert::{InsertError, in_time};
use super::{Endpoint, schema};
use crate::config::Secret;

/// Addresses that it holds, those seen last; they take some 50 MB.
const ADDRESSES_MAX: u32 = 250_000;
/// An address that was not asked for in so long is not in it.
const SEEN_WITHIN_S: u32 = 7 * 24 * 3600;

/// How it is made and looked at.
pub(super) struct Dictionary {
    create: Secret,
    look: String,
}

impl Dictionary {
    pub fn new(endpoint: &Endpoint) -> Self {
        let database = schema::quoted(&endpoint.database);
        // By position: an alias `name` would be taken for the column.
        let rows = format!(
            "SELECT addr, argMax(name, last_seen) FROM {database}.hosts \
             WHERE last_seen > now() - {SEEN_WITHIN_S} GROUP BY addr \
             ORDER BY max(last_seen) DESC LIMIT {ADDRESSES_MAX}"
        );
        // All of it in memory: one that asks for what is missing took 35 s for 200,000 addresses.
        let create = format!(
            "CREATE OR REPLACE DICTIONARY {database}.host_names (addr IPv6, name String) \
             PRIMARY KEY addr \
             SOURCE(CLICKHOUSE(USER {} PASSWORD {} QUERY {} INVALIDATE_QUERY {})) \
             LAYOUT(COMPLEX_KEY_HASHED()) LIFETIME(MIN 30 MAX 60)",
            literal(&endpoint.user),
            literal(endpoint.password.reveal()),
            literal(&rows),
            literal(&format!(
                "SELECT count(), max(last_seen) FROM {database}.hosts"
            )),
        );
        let name = literal(&format!("{}.host_names", endpoint.database));
        Self {
            create: Secret::new(create),
            look: format!("SELECT dictHas({name}, tuple(toIPv6('::')))"),
        }
    }

    /// Makes it within `limit`. Flows are stored without it as well, so that it cannot be had is
    /// told only.
    pub async fn make(&self, client: &Client, limit: Duration) {
        if let Err(error) = in_time(limit, self.try_make(client)).await {
            warn!(
                %error,
                remedy = "grant the collector's user CREATE DICTIONARY, dictGet and SELECT on its \
                          database and let it log in from the server itself, or join hosts",
                "dictionary host_names cannot be had: queries see no names that came late"
            );
        }
    }

    async fn try_make(&self, client: &Client) -> Result<(), InsertError> {
        client.query_raw(self.create.reveal()).execute().await?;
        // It is read when it is asked first, and whether it can be would be seen only then.
        client.query_raw(&self.look).fetch_one::<u8>().await?;
        Ok(())
    }
}

/// `text` as a string of SQL.
fn literal(text: &str) -> String {
    format!("'{}'", text.replace('\\', "\\\\").replace('\'', "\\'"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_and_passwords_cannot_break_out_of_the_statement() {
        let dictionary = Dictionary::new(&Endpoint {
            database: "flow`s".into(),
            user: "o'writer".into(),
            password: Secret::new("a\\'b"),
            ..Endpoint::at("http://127.0.0.1:8123")
        });
        let create = dictionary.create.reveal();
        assert!(create.contains("DICTIONARY `flow\\`s`.host_names "));
        assert!(create.contains("USER 'o\\'writer' PASSWORD 'a\\\\\\'b' QUERY"));
        assert!(create.contains("FROM `flow\\\\`s`.hosts "));
    }
}
