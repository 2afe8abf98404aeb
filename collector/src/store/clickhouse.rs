//! ClickHouse over HTTP.

use std::time::Duration;

use clickhouse::insert_formatted::InsertFormatted;
use clickhouse::{Client, Compression};

use super::dictionary::Dictionary;
use super::insert::{Attempt, Insert, InsertError, Taken};
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
    async fn in_time(
        &self,
        sent: impl Future<Output = Result<(), InsertError>>,
    ) -> Result<Taken, InsertError> {
        tokio::time::timeout(self.insert_timeout, sent)
            .await
            .unwrap_or_else(|_| Err(InsertError::outage("no answer in time")))
            .map(|()| Taken::Stored)
    }
}

impl Insert for ClickHouse {
    fn prepare(&self) -> Attempt<'_> {
        Box::pin(async {
            // A server that hangs is found out before the long wait for the nodes of a cluster.
            tokio::time::timeout(self.insert_timeout, self.answers())
                .await
                .unwrap_or_else(|_| Err(InsertError::outage("no answer in time")))?;
            let applied = schema::apply(&self.client, &self.database, &self.tables);
            let limit = cluster::prepare_max(self.insert_timeout, self.cluster.as_deref());
            tokio::time::timeout(limit, applied)
                .await
                .unwrap_or_else(|_| Err(InsertError::outage("no answer in time")))?;
            window::verify(&self.client, &self.database, self.insert_timeout).await;
            self.dictionary
                .make(&self.client, self.insert_timeout)
                .await;
            Ok(())
        })
    }

    fn insert<'a>(&'a self, block: &'a Block) -> Attempt<'a, Taken> {
        Box::pin(self.in_time(self.send(block)))
    }

    fn insert_side<'a>(&'a self, batch: &'a SideBatch) -> Attempt<'a, Taken> {
        Box::pin(self.in_time(self.send_side(batch)))
    }

    fn answers(&self) -> Attempt<'_> {
        Box::pin(async {
            let cluster = self.cluster.as_deref();
            cluster::takes_inserts(&self.client, &self.database, cluster).await
        })
    }
}
