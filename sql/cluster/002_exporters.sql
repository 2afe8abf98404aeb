-- Made from ../002_exporters.sql by 'cargo xtask cluster-sql': edit that.
CREATE TABLE IF NOT EXISTS {database}.exporter_gaps_local ON CLUSTER '{cluster}'
(
    minute DateTime('UTC') CODEC(Delta, ZSTD(1)),
    exporter_addr IPv6 CODEC(ZSTD(1)),
    exporter_source IPv6 CODEC(ZSTD(1)),
    flow_type Enum8('unknown' = 0, 'netflow1' = 1, 'netflow5' = 5, 'netflow7' = 7, 'netflow9' = 9, 'ipfix' = 10, 'sflow5' = 15) CODEC(ZSTD(1)),
    observation_domain UInt32 CODEC(ZSTD(1)),
    unit Enum8('unknown' = 0, 'packets' = 1, 'flows' = 2, 'records' = 3) CODEC(ZSTD(1)),
    received UInt64 CODEC(T64, ZSTD(1)),
    lost UInt64 CODEC(T64, ZSTD(1)),
    reordered UInt64 CODEC(T64, ZSTD(1)),
    duplicated UInt64 CODEC(T64, ZSTD(1)),
    restarts UInt64 CODEC(T64, ZSTD(1))
)
ENGINE = ReplicatedSummingMergeTree('/clickhouse/tables/{shard}/{database_text}/exporter_gaps_local', '{replica}', (received, lost, reordered, duplicated, restarts))
PARTITION BY toDate(minute)
ORDER BY (minute, exporter_addr, exporter_source, flow_type, observation_domain, unit)
TTL minute + toIntervalSecond({retention_seconds})
SETTINGS
    ttl_only_drop_parts = 1,
    replicated_deduplication_window = 10000,
    replicated_deduplication_window_seconds = 604800,
    fsync_after_insert = 1,
    fsync_part_directory = 1;

CREATE TABLE IF NOT EXISTS {database}.exporter_gaps ON CLUSTER '{cluster}' AS {database}.exporter_gaps_local
ENGINE = Distributed('{cluster}', '{database_text}', 'exporter_gaps_local', cityHash64(exporter_addr));

CREATE TABLE IF NOT EXISTS {database}.exporters_local ON CLUSTER '{cluster}'
(
    exporter_addr IPv6 CODEC(ZSTD(1)),
    exporter_source IPv6 CODEC(ZSTD(1)),
    flow_type Enum8('unknown' = 0, 'netflow1' = 1, 'netflow5' = 5, 'netflow7' = 7, 'netflow9' = 9, 'ipfix' = 10, 'sflow5' = 15) CODEC(ZSTD(1)),
    observation_domain UInt32 CODEC(ZSTD(1)),
    last_seen DateTime('UTC') CODEC(ZSTD(1)),
    counted_since DateTime('UTC') CODEC(ZSTD(1)),
    datagrams UInt64 CODEC(T64, ZSTD(1)),
    flows UInt64 CODEC(T64, ZSTD(1)),
    templates UInt32 CODEC(T64, ZSTD(1)),
    sampling_rate UInt32 CODEC(ZSTD(1)),
    sampling_source Enum8('unknown' = 0, 'header' = 1, 'record' = 2, 'options' = 3, 'static' = 4, 'default' = 5) CODEC(ZSTD(1)),
    sequence_unit Enum8('unknown' = 0, 'packets' = 1, 'flows' = 2, 'records' = 3) CODEC(ZSTD(1)),
    sequence_next UInt32 CODEC(ZSTD(1)),
    lost UInt64 CODEC(T64, ZSTD(1)),
    reordered UInt64 CODEC(T64, ZSTD(1)),
    duplicated UInt64 CODEC(T64, ZSTD(1)),
    restarts UInt64 CODEC(T64, ZSTD(1))
)
ENGINE = ReplicatedReplacingMergeTree('/clickhouse/tables/{shard}/{database_text}/exporters_local', '{replica}', last_seen)
ORDER BY (exporter_source, flow_type, observation_domain)
TTL last_seen + toIntervalSecond({retention_seconds})
SETTINGS
    replicated_deduplication_window = 10000,
    replicated_deduplication_window_seconds = 604800,
    fsync_after_insert = 1,
    fsync_part_directory = 1;

CREATE TABLE IF NOT EXISTS {database}.exporters ON CLUSTER '{cluster}' AS {database}.exporters_local
ENGINE = Distributed('{cluster}', '{database_text}', 'exporters_local', cityHash64(exporter_addr));
