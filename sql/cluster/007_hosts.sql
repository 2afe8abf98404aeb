-- Made from ../007_hosts.sql by 'cargo xtask cluster-sql': edit that.
CREATE TABLE IF NOT EXISTS {database}.hosts_local ON CLUSTER '{cluster}'
(
    addr IPv6 CODEC(ZSTD(1)),
    name String CODEC(ZSTD(1)),
    last_seen DateTime('UTC') CODEC(ZSTD(1))
)
ENGINE = ReplicatedReplacingMergeTree('/clickhouse/tables/{shard}/{database_text}/hosts_local', '{replica}', last_seen)
ORDER BY addr
TTL last_seen + toIntervalSecond({retention_seconds})
SETTINGS
    replicated_deduplication_window = 10000,
    replicated_deduplication_window_seconds = 604800,
    fsync_after_insert = 1,
    fsync_part_directory = 1;

CREATE TABLE IF NOT EXISTS {database}.hosts ON CLUSTER '{cluster}' AS {database}.hosts_local
ENGINE = Distributed('{cluster}', '{database_text}', 'hosts_local', rand());
