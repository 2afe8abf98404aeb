-- What exporters call their interfaces, applications and VRFs. One row a name is kept: FINAL, or
-- argMax(name, last_seen), where a merge has not happened yet.
CREATE TABLE IF NOT EXISTS {database}.interfaces
(
    exporter_addr IPv6 CODEC(ZSTD(1)),
    observation_domain UInt32 CODEC(ZSTD(1)),
    if_index UInt32 CODEC(T64, ZSTD(1)),
    name String CODEC(ZSTD(1)),
    description String CODEC(ZSTD(1)),
    source Enum8('unknown' = 0, 'options' = 1, 'static' = 2, 'snmp' = 3) CODEC(ZSTD(1)),
    last_seen DateTime('UTC') CODEC(ZSTD(1))
)
ENGINE = ReplacingMergeTree(last_seen)
ORDER BY (exporter_addr, if_index, observation_domain, source)
TTL last_seen + toIntervalSecond({retention_seconds})
SETTINGS
    non_replicated_deduplication_window = 1000,
    fsync_after_insert = 1,
    fsync_part_directory = 1;

-- application_id is engine:selector of RFC 6759, as routers show it: 13:82.
CREATE TABLE IF NOT EXISTS {database}.applications
(
    exporter_addr IPv6 CODEC(ZSTD(1)),
    application_id String CODEC(ZSTD(1)),
    name String CODEC(ZSTD(1)),
    description String CODEC(ZSTD(1)),
    last_seen DateTime('UTC') CODEC(ZSTD(1))
)
ENGINE = ReplacingMergeTree(last_seen)
ORDER BY (exporter_addr, application_id)
TTL last_seen + toIntervalSecond({retention_seconds})
SETTINGS
    non_replicated_deduplication_window = 1000,
    fsync_after_insert = 1,
    fsync_part_directory = 1;

-- vrf is what the columns ingress_vrf and egress_vrf of flows hold.
CREATE TABLE IF NOT EXISTS {database}.vrfs
(
    exporter_addr IPv6 CODEC(ZSTD(1)),
    observation_domain UInt32 CODEC(ZSTD(1)),
    vrf UInt32 CODEC(T64, ZSTD(1)),
    name String CODEC(ZSTD(1)),
    last_seen DateTime('UTC') CODEC(ZSTD(1))
)
ENGINE = ReplacingMergeTree(last_seen)
ORDER BY (exporter_addr, vrf, observation_domain)
TTL last_seen + toIntervalSecond({retention_seconds})
SETTINGS
    non_replicated_deduplication_window = 1000,
    fsync_after_insert = 1,
    fsync_part_directory = 1;
