//! ClickHouse over HTTP.

use std::time::Duration;

use clickhouse::insert_formatted::InsertFormatted;
use clickhouse::{Client, Compression};

use super::dictionary::Dictionary;
use super::insert::{Attempt, Insert, InsertError, Taken, in_time};
use super::{Block, Endpoint, SideBatch, cluster, schema, tls, window};
use crate::config;

/// The tables of one database.
pub struct ClickHouse {
    client: Client,
    database: String,
    dictionary: Dictionary,
    insert_timeout: Duration,
    tables: schema::Wanted,
    cluster: Option<String>,
}

/// More rows than any insert has: what comes is gathered until it ends.
const SERVER_BLOCK_ROWS_MIN: &str = "1000000000";

/// A client of `endpoint` for queries. It names no database, since that may not exist yet.
#[must_use]
pub fn client(endpoint: &Endpoint) -> Client {
    tls::client(endpoint.tls.as_ref())
        .with_url(&endpoint.url)
        .with_user(&endpoint.user)
        .with_password(endpoint.password.reveal())
        .with_compression(Compression::None)
        .with_product_info("flowsluice", env!("CARGO_PKG_VERSION"))
}

impl ClickHouse {
    /// Speaks to `endpoint`; nothing is sent yet.
    #[must_use]
    pub fn new(endpoint: &Endpoint, config: &config::Store) -> Self {
        Self {
            client: client(endpoint),
            dictionary: Dictionary::new(endpoint),
            database: endpoint.database.clone(),
            insert_timeout: config.insert_timeout,
            tables: schema::Wanted::new(config),
            cluster: endpoint.cluster.clone(),
        }
    }

    /// An insert by `sql` whose answer means that all is stored, once if `token` is the same.
    fn insert_once(&self, sql: &str, token: &str) -> InsertFormatted {
        self.client
            .insert_formatted_with(sql)
            .with_setting("async_insert", "0")
            .with_setting("wait_end_of_query", "1")
            .with_setting("insert_deduplicate", "1")
            .with_setting("insert_deduplication_token", token)
            // All of it is one block of ClickHouse's and so at most one part a partition, however
            // many Native blocks the body has. By default it is cut at 1,048,449 rows or 256 MiB
            // of memory, and some of the pieces may be stored when an insert fails.
            .with_setting("min_insert_block_size_rows", SERVER_BLOCK_ROWS_MIN)
            .with_setting("min_insert_block_size_bytes", "0")
            .with_setting("max_insert_threads", "1")
    }

    async fn send(&self, block: &Block) -> Result<(), InsertError> {
        let sql = format!(
            "INSERT INTO {}.{} ({}) FORMAT Native",
            schema::quoted(&self.database),
            cluster::written("flows", self.cluster.as_deref()),
            block.columns
        );
        let mut insert = self
            .insert_once(&sql, &block.token)
            // The body is in ClickHouse's compressed frames already, whatever the client thinks.
            .with_setting("decompress", "1")
            // A replay may span more days than the hundred partitions that are allowed by default.
            .with_setting("max_partitions_per_insert_block", "0")
            // Views group what they insert, so their tables need not add it up once more.
            .with_setting("optimize_on_insert", "0")
            // What hangs on the table takes a repeated block once as well.
            .with_setting("deduplicate_blocks_in_dependent_materialized_views", "1");
        insert.send(block.compressed.clone()).await?;
        insert.end().await?;
        Ok(())
    }

    async fn send_side(&self, batch: &SideBatch) -> Result<(), InsertError> {
        let sql = format!(
            "INSERT INTO {}.{} FORMAT JSONEachRow",
            schema::quoted(&self.database),
            cluster::written(batch.table.name(), self.cluster.as_deref())
        );
        let mut insert = self
            .insert_once(&sql, &batch.token)
            // A column that the table lacks is a fault, not something to leave out.
            .with_setting("input_format_skip_unknown_fields", "0");
        insert.send(batch.lines.clone()).await?;
        insert.end().await?;
        Ok(())
    }

    /// Waits for an insert as long as `store.insert_timeout` allows.
    async fn stored(
        &self,
        sent: impl Future<Output = Result<(), InsertError>>,
    ) -> Result<Taken, InsertError> {
        let sent = in_time(self.insert_timeout, sent).await;
        sent.map(|()| Taken::Stored)
    }
}

impl Insert for ClickHouse {
    fn prepare(&self) -> Attempt<'_> {
        Box::pin(async {
            // A server that hangs is found out before the long wait for the nodes of a cluster.
            self.answers().await?;
            let applied = schema::apply(&self.client, &self.database, &self.tables);
            let limit = cluster::prepare_max(self.insert_timeout, self.cluster.as_deref());
            in_time(limit, applied).await?;
            window::verify(&self.client, &self.database, self.insert_timeout).await;
            self.dictionary
                .make(&self.client, self.insert_timeout)
                .await;
            Ok(())
        })
    }

    fn insert<'a>(&'a self, block: &'a Block) -> Attempt<'a, Taken> {
        Box::pin(self.stored(self.send(block)))
    }

    fn insert_side<'a>(&'a self, batch: &'a SideBatch) -> Attempt<'a, Taken> {
        Box::pin(self.stored(self.send_side(batch)))
    }

    fn answers(&self) -> Attempt<'_> {
        let cluster = self.cluster.as_deref();
        let asked = cluster::takes_inserts(&self.client, &self.database, cluster);
        Box::pin(in_time(self.insert_timeout, asked))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_server_that_accepts_and_says_nothing_is_given_up() {
        // The kernel accepts for it.
        let silent = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let endpoint = Endpoint::at(format!("http://{}", silent.local_addr().unwrap()));
        let config = config::Store {
            insert_timeout: Duration::from_millis(50),
            ..config::Store::default()
        };
        let server = ClickHouse::new(&endpoint, &config);
        for asked in [server.answers(), server.prepare()] {
            let answer = tokio::time::timeout(Duration::from_secs(20), asked).await;
            let error = answer.expect("it is given up").unwrap_err();
            assert_eq!(error, InsertError::outage("no answer in time"));
        }
    }
}
