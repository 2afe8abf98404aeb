//! ClickHouse as a cluster: the same schema, replicated within a shard and distributed over them.
//!
//! `sql/cluster/` has it, made from `sql/` by `cargo xtask cluster-sql`. Of each table `x` rows go
//! to the `x_local` of the shard that the collector's servers are replicas of, and `x` asks those
//! of all shards. Statements that make tables run `ON CLUSTER`.

use std::time::Duration;

use clickhouse::Client;

use super::insert::InsertError;

/// The migrations, in the order of their numbers.
pub(super) const MIGRATIONS: &[&str] = &[
    include_str!("../../../sql/cluster/001_flows.sql"),
    include_str!("../../../sql/cluster/002_exporters.sql"),
    include_str!("../../../sql/cluster/003_interface_counters.sql"),
    include_str!("../../../sql/cluster/004_names.sql"),
    include_str!("../../../sql/cluster/005_extra.sql"),
    include_str!("../../../sql/cluster/006_enrich.sql"),
    include_str!("../../../sql/cluster/007_hosts.sql"),
    include_str!("../../../sql/cluster/008_interfaces.sql"),
    include_str!("../../../sql/cluster/009_agent_drops.sql"),
    include_str!("../../../sql/cluster/010_rollups.sql"),
    include_str!("../../../sql/cluster/011_collector_stats.sql"),
    include_str!("../../../sql/cluster/012_dashboards.sql"),
    include_str!("../../../sql/cluster/013_merging.sql"),
];

/// How long a statement waits for the nodes of the cluster. One that is away runs it when it is
/// back, and the collector need not wait for that.
const NODES_WAIT: Duration = Duration::from_secs(20);
/// The whole schema on a cluster some of whose nodes are away: each of some fifty statements waits
/// for them.
const PREPARE_MAX: Duration = Duration::from_secs(30 * 60);

/// The table that rows of `table` are written to.
#[must_use]
pub fn written(table: &str, cluster: Option<&str>) -> String {
    match cluster {
        Some(_) => format!("{table}_local"),
        None => table.to_owned(),
    }
}

/// ` ON CLUSTER 'name'`, or nothing.
#[must_use]
pub fn on_cluster(cluster: Option<&str>) -> String {
    cluster.map_or_else(String::new, |name| format!(" ON CLUSTER '{name}'"))
}

/// How long making the tables may take where an insert may take `insert_timeout`.
pub(super) fn prepare_max(insert_timeout: Duration, cluster: Option<&str>) -> Duration {
    match cluster {
        Some(_) => insert_timeout.max(PREPARE_MAX),
        None => insert_timeout,
    }
}

/// A client whose statements wait for the nodes of the cluster, but not for ever, and do not fail
/// because one of them is away.
pub(super) fn for_schema(client: &Client, cluster: Option<&str>) -> Client {
    match cluster {
        None => client.clone(),
        Some(_) => (client.clone())
            .with_setting(
                "distributed_ddl_task_timeout",
                NODES_WAIT.as_secs().to_string(),
            )
            .with_setting("distributed_ddl_output_mode", "null_status_on_timeout"),
    }
}

/// Asks whether the server takes inserts: it answers, and its replica of `flows` is not read-only.
///
/// # Errors
/// When it does not.
pub(super) async fn takes_inserts(
    client: &Client,
    database: &str,
    cluster: Option<&str>,
) -> Result<(), InsertError> {
    client.query_raw("SELECT 1").execute().await?;
    if cluster.is_none() {
        return Ok(());
    }
    let sql = "SELECT count() FROM system.replicas \
               WHERE database = ? AND table = ? AND is_readonly";
    let table = written("flows", cluster);
    let query = client.query(sql).bind(database).bind(&table);
    match query.fetch_one::<u64>().await.map_err(InsertError::from) {
        Ok(0) => Ok(()),
        Ok(_) => Err(InsertError::outage(format!(
            "its replica of {database}.{table} is read-only: it has lost ClickHouse Keeper"
        ))),
        // Whoever may not look learns it from the inserts.
        Err(error) if error.code == Some(ACCESS_DENIED) => Ok(()),
        Err(error) => Err(error),
    }
}

/// <https://github.com/ClickHouse/ClickHouse/blob/master/src/Common/ErrorCodes.cpp>
pub(super) const ACCESS_DENIED: u32 = 497;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rows_go_to_local_tables_on_a_cluster_only() {
        assert_eq!(written("flows", None), "flows");
        assert_eq!(written("flows", Some("main")), "flows_local");
        assert_eq!(on_cluster(None), "");
        assert_eq!(on_cluster(Some("main-1")), " ON CLUSTER 'main-1'");
    }

    #[test]
    fn nodes_that_are_away_get_their_time() {
        let second = Duration::from_secs(1);
        assert_eq!(prepare_max(second, None), second);
        assert_eq!(prepare_max(second, Some("main")), PREPARE_MAX);
    }
}
