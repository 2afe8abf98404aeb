-- Made from ../011_collector_stats.sql by 'cargo xtask cluster-sql': edit that.
CREATE TABLE IF NOT EXISTS {database}.collector_stats_local ON CLUSTER '{cluster}'
(
    minute DateTime('UTC') CODEC(Delta, ZSTD(1)),
    collector LowCardinality(String) CODEC(ZSTD(1)),
    started DateTime('UTC') CODEC(ZSTD(1)),
    instance UInt64 CODEC(ZSTD(1)),
    interval_s UInt32 CODEC(ZSTD(1)),
    name LowCardinality(String) CODEC(ZSTD(1)),
    kind Enum8('unknown' = 0, 'counter' = 1, 'gauge' = 2) CODEC(ZSTD(1)),
    labels Map(LowCardinality(String), String) CODEC(ZSTD(1)),
    worker LowCardinality(String) ALIAS labels['worker'],
    reason LowCardinality(String) ALIAS labels['reason'],
    value Float64 CODEC(ZSTD(1)),
    delta Float64 CODEC(ZSTD(1))
)
ENGINE = ReplicatedMergeTree('/clickhouse/tables/{shard}/{database_text}/collector_stats_local', '{replica}')
PARTITION BY toDate(minute)
ORDER BY (name, collector, minute)
TTL minute + toIntervalSecond({retention_seconds})
SETTINGS
    ttl_only_drop_parts = 1,
    replicated_deduplication_window = 10000,
    replicated_deduplication_window_seconds = 604800,
    fsync_after_insert = 1,
    fsync_part_directory = 1;

CREATE TABLE IF NOT EXISTS {database}.collector_stats ON CLUSTER '{cluster}' AS {database}.collector_stats_local
ENGINE = Distributed('{cluster}', '{database_text}', 'collector_stats_local', rand());
