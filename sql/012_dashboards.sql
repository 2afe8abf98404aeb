-- What dashboards ask beside flows and their sums: names of exporters, and servers that listen.

-- What enrichment calls exporters. One row an address is kept: FINAL, or argMax(name, last_seen).
CREATE TABLE IF NOT EXISTS {database}.exporter_names
(
    exporter_addr IPv6 CODEC(ZSTD(1)),
    name String CODEC(ZSTD(1)),
    last_seen DateTime('UTC') CODEC(ZSTD(1))
)
ENGINE = ReplacingMergeTree(last_seen)
ORDER BY exporter_addr
TTL last_seen + toIntervalSecond({retention_seconds})
SETTINGS
    non_replicated_deduplication_window = 1000,
    fsync_after_insert = 1,
    fsync_part_directory = 1;

CREATE MATERIALIZED VIEW IF NOT EXISTS {database}.exporter_names_mv
TO {database}.exporter_names AS
SELECT
    exporter_addr,
    toString(any(exporter_name)) AS name,
    max(time_received) AS last_seen
FROM {database}.flows
WHERE exporter_labels != ''
GROUP BY exporter_addr;

-- Servers that listen, inside: what is new among them needs a memory. Kept is who answered: by TCP with
-- SYN or data and without RST, so a refused probe is none; below the ports that clients draw from; by UDP
-- only at ports that mean a service, since media streams take any. Inside is who has a private address or
-- a network that the operator named. min and max are right when a block is sent twice.
CREATE TABLE IF NOT EXISTS {database}.listening_servers
(
    server_addr IPv6 CODEC(ZSTD(1)),
    protocol UInt8 CODEC(ZSTD(1)),
    server_port UInt16 CODEC(ZSTD(1)),
    first_seen SimpleAggregateFunction(min, DateTime('UTC')) CODEC(ZSTD(1)),
    last_seen SimpleAggregateFunction(max, DateTime('UTC')) CODEC(ZSTD(1))
)
ENGINE = AggregatingMergeTree
ORDER BY (server_addr, protocol, server_port)
TTL last_seen + toIntervalSecond({retention_seconds})
SETTINGS
    non_replicated_deduplication_window = 1000,
    fsync_after_insert = 1,
    fsync_part_directory = 1;

CREATE MATERIALIZED VIEW IF NOT EXISTS {database}.listening_servers_mv
TO {database}.listening_servers AS
SELECT
    src_addr AS server_addr,
    protocol,
    src_port AS server_port,
    min(time_received) AS first_seen,
    max(time_received) AS last_seen
FROM {database}.flows
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
