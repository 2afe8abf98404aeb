//! ClickHouse over HTTP.

use std::time::Duration;

use clickhouse::insert_formatted::InsertFormatted;
use clickhouse::{Client, Compression};

use super::dictionary::Dictionary;
use super::insert::{Attempt, Insert, InsertError, Taken};
use super::{Block, Endpoint, SideBatch, cluster, schema, tls};
use crate::batch::schema::stored;
use crate::config;

/// The tables of one database.
pub struct ClickHouse {
    client: Client,
    database: String,
    insert_sql: String,
    dictionary: Dictionary,
    insert_timeout: Duration,
    retention: Duration,
    cluster: Option<String>,
}

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
        let columns: Vec<_> = stored().map(|column| column.name).collect();
        Self {
            client: client(endpoint),
            insert_sql: format!(
                "INSERT INTO {}.{} ({}) FORMAT Native",
                schema::quoted(&endpoint.database),
                cluster::written("flows", endpoint.cluster.as_deref()),
                columns.join(", ")
            ),
            dictionary: Dictionary::new(endpoint),
            database: endpoint.database.clone(),
            insert_timeout: config.insert_timeout,
            retention: config.retention,
            cluster: endpoint.cluster.clone(),
        }
    }

    /// An insert by `sql` whose answer means that all is stored, once if `token` is the same.
    fn insert_once(&self, sql: &str, token: &str) -> InsertFormatted {
        self.client
            .insert_formatted_with(sql)
            .with_setting("async_insert", "0")
            .with_setting("wait_end_of_query", "1")
            .with_setting("insert_deduplication_token", token)
    }

    async fn send(&self, block: &Block) -> Result<(), InsertError> {
        let mut insert = self
            .insert_once(&self.insert_sql, &block.token)
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
            let cluster = self.cluster.as_deref();
            let applied = schema::apply(&self.client, &self.database, self.retention, cluster);
            let limit = cluster::prepare_max(self.insert_timeout, cluster);
            tokio::time::timeout(limit, applied)
                .await
                .unwrap_or_else(|_| Err(InsertError::outage("no answer in time")))?;
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
