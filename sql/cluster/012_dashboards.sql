-- Made from ../012_dashboards.sql by 'cargo xtask cluster-sql': edit that.
CREATE TABLE IF NOT EXISTS {database}.exporter_names_local ON CLUSTER '{cluster}'
(
    exporter_addr IPv6 CODEC(ZSTD(1)),
    name String CODEC(ZSTD(1)),
    last_seen DateTime('UTC') CODEC(ZSTD(1))
)
ENGINE = ReplicatedReplacingMergeTree('/clickhouse/tables/{shard}/{database_text}/exporter_names_local', '{replica}', last_seen)
ORDER BY exporter_addr
TTL last_seen + toIntervalSecond({retention_seconds})
SETTINGS
    replicated_deduplication_window = 10000,
    replicated_deduplication_window_seconds = 604800,
    fsync_after_insert = 1,
    fsync_part_directory = 1;

CREATE TABLE IF NOT EXISTS {database}.exporter_names ON CLUSTER '{cluster}' AS {database}.exporter_names_local
ENGINE = Distributed('{cluster}', '{database_text}', 'exporter_names_local', cityHash64(exporter_addr));

CREATE MATERIALIZED VIEW IF NOT EXISTS {database}.exporter_names_mv ON CLUSTER '{cluster}'
TO {database}.exporter_names_local AS
SELECT
    exporter_addr,
    toString(any(exporter_name)) AS name,
    max(time_received) AS last_seen
FROM {database}.flows_local AS flows
WHERE exporter_labels != ''
GROUP BY exporter_addr;

CREATE TABLE IF NOT EXISTS {database}.listening_servers_local ON CLUSTER '{cluster}'
(
    server_addr IPv6 CODEC(ZSTD(1)),
    protocol UInt8 CODEC(ZSTD(1)),
    server_port UInt16 CODEC(ZSTD(1)),
    first_seen SimpleAggregateFunction(min, DateTime('UTC')) CODEC(ZSTD(1)),
    last_seen SimpleAggregateFunction(max, DateTime('UTC')) CODEC(ZSTD(1))
)
ENGINE = ReplicatedAggregatingMergeTree('/clickhouse/tables/{shard}/{database_text}/listening_servers_local', '{replica}')
ORDER BY (server_addr, protocol, server_port)
TTL last_seen + toIntervalSecond({retention_seconds})
SETTINGS
    replicated_deduplication_window = 10000,
    replicated_deduplication_window_seconds = 604800,
    fsync_after_insert = 1,
    fsync_part_directory = 1;

CREATE TABLE IF NOT EXISTS {database}.listening_servers ON CLUSTER '{cluster}' AS {database}.listening_servers_local
ENGINE = Distributed('{cluster}', '{database_text}', 'listening_servers_local', rand());

CREATE MATERIALIZED VIEW IF NOT EXISTS {database}.listening_servers_mv ON CLUSTER '{cluster}'
TO {database}.listening_servers_local AS
SELECT
    src_addr AS server_addr,
    protocol,
    src_port AS server_port,
    min(time_received) AS first_seen,
    max(time_received) AS last_seen
FROM {database}.flows_local AS flows
WHERE NOT client_is_src AND src_port > 0 AND (
        (protocol IN (6, 132) AND src_port < 32768)
        OR (protocol = 17 AND (src_port < 1024 OR (service != '' AND src_port < 16384))))
    AND (protocol != 6 OR (bitAnd(tcp_flags, 10) != 0 AND bitAnd(tcp_flags, 4) = 0))
    AND (src_net != ''
        OR (src_addr >= toIPv6('::ffff:10.0.0.0') AND src_addr <= toIPv6('::ffff:10.255.255.255'))
        OR (src_addr >= toIPv6('::ffff:172.16.0.0') AND src_addr <= toIPv6('::ffff:172.31.255.255'))
        OR (src_addr >= toIPv6('::ffff:192.168.0.0') AND src_addr <= toIPv6('::ffff:192.168.255.255'))
        OR (src_addr >= toIPv6('fc00::') AND src_addr <= toIPv6('fdff:ffff:ffff:ffff:ffff:ffff:ffff:ffff')))
GROUP BY server_addr, protocol, server_port;
