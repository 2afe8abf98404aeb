-- Made from ../004_names.sql by 'cargo xtask cluster-sql': edit that.
CREATE TABLE IF NOT EXISTS {database}.interfaces_local ON CLUSTER '{cluster}'
(
    exporter_addr IPv6 CODEC(ZSTD(1)),
    observation_domain UInt32 CODEC(ZSTD(1)),
    if_index UInt32 CODEC(T64, ZSTD(1)),
    name String CODEC(ZSTD(1)),
    description String CODEC(ZSTD(1)),
    source Enum8('unknown' = 0, 'options' = 1, 'static' = 2, 'snmp' = 3) CODEC(ZSTD(1)),
    last_seen DateTime('UTC') CODEC(ZSTD(1))
)
ENGINE = ReplicatedReplacingMergeTree('/clickhouse/tables/{shard}/{database_text}/interfaces_local', '{replica}', last_seen)
ORDER BY (exporter_addr, if_index, observation_domain, source)
TTL last_seen + toIntervalSecond({retention_seconds})
SETTINGS
    replicated_deduplication_window = 10000,
    replicated_deduplication_window_seconds = 604800,
    fsync_after_insert = 1,
    fsync_part_directory = 1;

CREATE TABLE IF NOT EXISTS {database}.interfaces ON CLUSTER '{cluster}' AS {database}.interfaces_local
ENGINE = Distributed('{cluster}', '{database_text}', 'interfaces_local', cityHash64(exporter_addr));

CREATE TABLE IF NOT EXISTS {database}.applications_local ON CLUSTER '{cluster}'
(
    exporter_addr IPv6 CODEC(ZSTD(1)),
    application_id String CODEC(ZSTD(1)),
    name String CODEC(ZSTD(1)),
    description String CODEC(ZSTD(1)),
    last_seen DateTime('UTC') CODEC(ZSTD(1))
)
ENGINE = ReplicatedReplacingMergeTree('/clickhouse/tables/{shard}/{database_text}/applications_local', '{replica}', last_seen)
ORDER BY (exporter_addr, application_id)
TTL last_seen + toIntervalSecond({retention_seconds})
SETTINGS
    replicated_deduplication_window = 10000,
    replicated_deduplication_window_seconds = 604800,
    fsync_after_insert = 1,
    fsync_part_directory = 1;

CREATE TABLE IF NOT EXISTS {database}.applications ON CLUSTER '{cluster}' AS {database}.applications_local
ENGINE = Distributed('{cluster}', '{database_text}', 'applications_local', cityHash64(exporter_addr));

CREATE TABLE IF NOT EXISTS {database}.vrfs_local ON CLUSTER '{cluster}'
(
    exporter_addr IPv6 CODEC(ZSTD(1)),
    observation_domain UInt32 CODEC(ZSTD(1)),
    vrf UInt32 CODEC(T64, ZSTD(1)),
    name String CODEC(ZSTD(1)),
    last_seen DateTime('UTC') CODEC(ZSTD(1))
)
ENGINE = ReplicatedReplacingMergeTree('/clickhouse/tables/{shard}/{database_text}/vrfs_local', '{replica}', last_seen)
ORDER BY (exporter_addr, vrf, observation_domain)
TTL last_seen + toIntervalSecond({retention_seconds})
SETTINGS
    replicated_deduplication_window = 10000,
    replicated_deduplication_window_seconds = 604800,
    fsync_after_insert = 1,
    fsync_part_directory = 1;

CREATE TABLE IF NOT EXISTS {database}.vrfs ON CLUSTER '{cluster}' AS {database}.vrfs_local
ENGINE = Distributed('{cluster}', '{database_text}', 'vrfs_local', cityHash64(exporter_addr));
