-- Made from ../010_rollups.sql by 'cargo xtask cluster-sql': edit that.
CREATE TABLE IF NOT EXISTS {database}.ingress_only ON CLUSTER '{cluster}'
(
    exporter_addr IPv6,
    since DateTime('UTC') DEFAULT now()
)
ENGINE = ReplicatedMergeTree('/clickhouse/tables/everywhere/{database_text}/ingress_only', '{shard}-{replica}')
ORDER BY exporter_addr
SETTINGS
    replicated_deduplication_window = 10000,
    replicated_deduplication_window_seconds = 604800,
    fsync_after_insert = 1,
    fsync_part_directory = 1;

CREATE VIEW IF NOT EXISTS {database}.flows_by_minute_local ON CLUSTER '{cluster}' AS
WITH
    toUInt64(toUnixTimestamp64Milli(flow_end)) AS end_ms,
    toUInt64(least(flow_duration_ms, 3600000)) AS spread_ms,
    toUInt64(end_ms - spread_ms) AS start_ms,
    greatest(spread_ms, 1) AS length_ms,
    arrayJoin(range(intDiv(start_ms, 60000), intDiv(end_ms, 60000) + 1)) AS number,
    number = intDiv(end_ms, 60000) AS is_last,
    toUInt64(greatest(number * 60000, start_ms) - start_ms) AS before_ms,
    toUInt64((number + 1) * 60000 - start_ms) AS until_ms,
    intDiv(flows.raw_bytes, length_ms) AS bytes_a_ms,
    flows.raw_bytes % length_ms AS bytes_left,
    intDiv(flows.raw_packets, length_ms) AS packets_a_ms,
    flows.raw_packets % length_ms AS packets_left,
    toUInt64(if(is_last, flows.raw_bytes, bytes_a_ms * until_ms + intDiv(bytes_left * until_ms, length_ms))
        - (bytes_a_ms * before_ms + intDiv(bytes_left * before_ms, length_ms))) AS bytes_here,
    toUInt64(if(is_last, flows.raw_packets, packets_a_ms * until_ms + intDiv(packets_left * until_ms, length_ms))
        - (packets_a_ms * before_ms + intDiv(packets_left * before_ms, length_ms))) AS packets_here,
    greatest(sampling_rate, 1) AS scale
SELECT
    toDateTime(number * 60, 'UTC') AS minute,
    time_received, flow_end, flow_duration_ms, flow_start, exporter_addr, exporter_source,
    observation_domain, flow_type, sampling_rate, sampling_source, in_if, out_if, src_addr,
    dst_addr, src_port, dst_port, protocol, tcp_flags, tos, ttl, flow_label, icmp_type, icmp_code,
    fragment_id, fragment_offset, src_as, dst_as, src_mask, dst_mask, next_hop, bgp_next_hop,
    ingress_vrf, egress_vrf, ethertype, src_mac, dst_mac, src_vlan, dst_vlan, inner_vlan,
    mpls_labels, src_addr_nat, dst_addr_nat, src_port_nat, dst_port_nat, direction,
    forwarding_status, end_reason, firewall_event, nat_event, tunnel_type, tunnel_id,
    outer_src_addr, outer_dst_addr, extra, src_country, src_place, src_region, src_city, src_lat,
    src_lon, src_as_name, src_net, src_net_name, src_net_role, src_net_site, src_net_region,
    src_net_tenant, src_threat_tags, src_threats, src_host, src_mac_vendor, dst_country,
    dst_place, dst_region, dst_city, dst_lat, dst_lon, dst_as_name, dst_net, dst_net_name,
    dst_net_role, dst_net_site, dst_net_region, dst_net_tenant, dst_threat_tags, dst_threats,
    dst_host, dst_mac_vendor, exporter_labels, exporter_name, exporter_group, exporter_site,
    exporter_region, exporter_role, exporter_tenant, in_if_labels, in_if_name, in_if_alias,
    in_if_speed, in_if_boundary, in_if_provider, in_if_connectivity, out_if_labels, out_if_name,
    out_if_alias, out_if_speed, out_if_boundary, out_if_provider, out_if_connectivity,
    application, service, client_is_src, client_addr, server_addr, server_port, client_host,
    server_host, locality,
    bytes_here * scale AS bytes,
    packets_here * scale AS packets,
    bytes_here AS raw_bytes,
    packets_here AS raw_packets,
    toUInt64(is_last) AS flows
FROM {database}.flows_local AS flows
WHERE direction != 'egress'
    OR exporter_addr NOT IN (SELECT exporter_addr FROM {database}.ingress_only);

CREATE TABLE IF NOT EXISTS {database}.flows_by_minute ON CLUSTER '{cluster}' AS {database}.flows_by_minute_local
ENGINE = Distributed('{cluster}', '{database_text}', 'flows_by_minute_local', rand());

CREATE TABLE IF NOT EXISTS {database}.flows_spread ON CLUSTER '{cluster}'
(
    minute DateTime('UTC'),
    exporter_addr IPv6,
    in_if UInt32,
    out_if UInt32,
    service LowCardinality(String),
    src_as UInt32,
    dst_as UInt32,
    src_country LowCardinality(String),
    dst_country LowCardinality(String),
    src_addr IPv6,
    dst_addr IPv6,
    client_is_src Bool,
    bytes UInt64,
    packets UInt64,
    raw_bytes UInt64,
    raw_packets UInt64,
    flows UInt64
)
ENGINE = Null;

CREATE TABLE IF NOT EXISTS {database}.rollup_minute_services_local ON CLUSTER '{cluster}'
(
    minute DateTime('UTC') CODEC(Delta, ZSTD(1)),
    exporter_addr IPv6 CODEC(ZSTD(1)),
    in_if UInt32 CODEC(T64, ZSTD(1)),
    out_if UInt32 CODEC(T64, ZSTD(1)),
    service LowCardinality(String) CODEC(ZSTD(1)),
    bytes UInt64 CODEC(T64, ZSTD(1)),
    packets UInt64 CODEC(T64, ZSTD(1)),
    raw_bytes UInt64 CODEC(T64, ZSTD(1)),
    raw_packets UInt64 CODEC(T64, ZSTD(1)),
    flows UInt64 CODEC(T64, ZSTD(1))
)
ENGINE = ReplicatedSummingMergeTree('/clickhouse/tables/{shard}/{database_text}/rollup_minute_services_local', '{replica}', (bytes, packets, raw_bytes, raw_packets, flows))
PARTITION BY toDate(minute)
ORDER BY (toStartOfHour(minute), exporter_addr, in_if, out_if, service, minute)
TTL minute + toIntervalSecond({retention_seconds})
SETTINGS
    ttl_only_drop_parts = 1,
    replicated_deduplication_window = 10000,
    replicated_deduplication_window_seconds = 604800,
    fsync_after_insert = 1,
    fsync_part_directory = 1;

CREATE TABLE IF NOT EXISTS {database}.rollup_minute_services ON CLUSTER '{cluster}' AS {database}.rollup_minute_services_local
ENGINE = Distributed('{cluster}', '{database_text}', 'rollup_minute_services_local', cityHash64(exporter_addr));

CREATE TABLE IF NOT EXISTS {database}.rollup_minute_as_local ON CLUSTER '{cluster}'
(
    minute DateTime('UTC') CODEC(Delta, ZSTD(1)),
    exporter_addr IPv6 CODEC(ZSTD(1)),
    src_as UInt32 CODEC(ZSTD(1)),
    dst_as UInt32 CODEC(ZSTD(1)),
    src_country LowCardinality(String) CODEC(ZSTD(1)),
    dst_country LowCardinality(String) CODEC(ZSTD(1)),
    bytes UInt64 CODEC(T64, ZSTD(1)),
    packets UInt64 CODEC(T64, ZSTD(1)),
    raw_bytes UInt64 CODEC(T64, ZSTD(1)),
    raw_packets UInt64 CODEC(T64, ZSTD(1)),
    flows UInt64 CODEC(T64, ZSTD(1))
)
ENGINE = ReplicatedSummingMergeTree('/clickhouse/tables/{shard}/{database_text}/rollup_minute_as_local', '{replica}', (bytes, packets, raw_bytes, raw_packets, flows))
PARTITION BY toDate(minute)
ORDER BY (toStartOfHour(minute), exporter_addr, src_as, dst_as, src_country, dst_country, minute)
TTL minute + toIntervalSecond({retention_seconds})
SETTINGS
    ttl_only_drop_parts = 1,
    replicated_deduplication_window = 10000,
    replicated_deduplication_window_seconds = 604800,
    fsync_after_insert = 1,
    fsync_part_directory = 1;

CREATE TABLE IF NOT EXISTS {database}.rollup_minute_as ON CLUSTER '{cluster}' AS {database}.rollup_minute_as_local
ENGINE = Distributed('{cluster}', '{database_text}', 'rollup_minute_as_local', cityHash64(exporter_addr));

CREATE TABLE IF NOT EXISTS {database}.rollup_hour_services_local ON CLUSTER '{cluster}'
(
    hour DateTime('UTC') CODEC(ZSTD(1)),
    exporter_addr IPv6 CODEC(ZSTD(1)),
    in_if UInt32 CODEC(T64, ZSTD(1)),
    out_if UInt32 CODEC(T64, ZSTD(1)),
    service LowCardinality(String) CODEC(ZSTD(1)),
    bytes UInt64 CODEC(T64, ZSTD(1)),
    packets UInt64 CODEC(T64, ZSTD(1)),
    raw_bytes UInt64 CODEC(T64, ZSTD(1)),
    raw_packets UInt64 CODEC(T64, ZSTD(1)),
    flows UInt64 CODEC(T64, ZSTD(1))
)
ENGINE = ReplicatedSummingMergeTree('/clickhouse/tables/{shard}/{database_text}/rollup_hour_services_local', '{replica}', (bytes, packets, raw_bytes, raw_packets, flows))
PARTITION BY toDate(hour)
ORDER BY (hour, exporter_addr, in_if, out_if, service)
TTL hour + toIntervalSecond({retention_seconds})
SETTINGS
    ttl_only_drop_parts = 1,
    replicated_deduplication_window = 10000,
    replicated_deduplication_window_seconds = 604800,
    fsync_after_insert = 1,
    fsync_part_directory = 1;

CREATE TABLE IF NOT EXISTS {database}.rollup_hour_services ON CLUSTER '{cluster}' AS {database}.rollup_hour_services_local
ENGINE = Distributed('{cluster}', '{database_text}', 'rollup_hour_services_local', cityHash64(exporter_addr));

CREATE TABLE IF NOT EXISTS {database}.rollup_hour_as_local ON CLUSTER '{cluster}'
(
    hour DateTime('UTC') CODEC(ZSTD(1)),
    exporter_addr IPv6 CODEC(ZSTD(1)),
    src_as UInt32 CODEC(ZSTD(1)),
    dst_as UInt32 CODEC(ZSTD(1)),
    src_country LowCardinality(String) CODEC(ZSTD(1)),
    dst_country LowCardinality(String) CODEC(ZSTD(1)),
    bytes UInt64 CODEC(T64, ZSTD(1)),
    packets UInt64 CODEC(T64, ZSTD(1)),
    raw_bytes UInt64 CODEC(T64, ZSTD(1)),
    raw_packets UInt64 CODEC(T64, ZSTD(1)),
    flows UInt64 CODEC(T64, ZSTD(1))
)
ENGINE = ReplicatedSummingMergeTree('/clickhouse/tables/{shard}/{database_text}/rollup_hour_as_local', '{replica}', (bytes, packets, raw_bytes, raw_packets, flows))
PARTITION BY toDate(hour)
ORDER BY (hour, exporter_addr, src_as, dst_as, src_country, dst_country)
TTL hour + toIntervalSecond({retention_seconds})
SETTINGS
    ttl_only_drop_parts = 1,
    replicated_deduplication_window = 10000,
    replicated_deduplication_window_seconds = 604800,
    fsync_after_insert = 1,
    fsync_part_directory = 1;

CREATE TABLE IF NOT EXISTS {database}.rollup_hour_as ON CLUSTER '{cluster}' AS {database}.rollup_hour_as_local
ENGINE = Distributed('{cluster}', '{database_text}', 'rollup_hour_as_local', cityHash64(exporter_addr));

CREATE TABLE IF NOT EXISTS {database}.rollup_minute_exporters_local ON CLUSTER '{cluster}'
(
    minute DateTime('UTC') CODEC(Delta, ZSTD(1)),
    exporter_addr IPv6 CODEC(ZSTD(1)),
    bytes UInt64 CODEC(T64, ZSTD(1)),
    packets UInt64 CODEC(T64, ZSTD(1)),
    raw_bytes UInt64 CODEC(T64, ZSTD(1)),
    raw_packets UInt64 CODEC(T64, ZSTD(1)),
    flows UInt64 CODEC(T64, ZSTD(1))
)
ENGINE = ReplicatedSummingMergeTree('/clickhouse/tables/{shard}/{database_text}/rollup_minute_exporters_local', '{replica}', (bytes, packets, raw_bytes, raw_packets, flows))
PARTITION BY toDate(minute)
ORDER BY (minute, exporter_addr)
TTL minute + toIntervalSecond({retention_seconds})
SETTINGS
    ttl_only_drop_parts = 1,
    replicated_deduplication_window = 10000,
    replicated_deduplication_window_seconds = 604800,
    fsync_after_insert = 1,
    fsync_part_directory = 1;

CREATE TABLE IF NOT EXISTS {database}.rollup_minute_exporters ON CLUSTER '{cluster}' AS {database}.rollup_minute_exporters_local
ENGINE = Distributed('{cluster}', '{database_text}', 'rollup_minute_exporters_local', cityHash64(exporter_addr));

CREATE TABLE IF NOT EXISTS {database}.rollup_open_hosts_local ON CLUSTER '{cluster}'
(
    hour DateTime('UTC') CODEC(ZSTD(1)),
    stored DateTime('UTC') CODEC(ZSTD(1)),
    exporter_addr IPv6 CODEC(ZSTD(1)),
    side Enum8('source' = 1, 'destination' = 2) CODEC(ZSTD(1)),
    addr IPv6 CODEC(ZSTD(1)),
    bytes UInt64 CODEC(T64, ZSTD(1)),
    packets UInt64 CODEC(T64, ZSTD(1)),
    raw_bytes UInt64 CODEC(T64, ZSTD(1)),
    raw_packets UInt64 CODEC(T64, ZSTD(1)),
    flows UInt64 CODEC(T64, ZSTD(1))
)
ENGINE = ReplicatedSummingMergeTree('/clickhouse/tables/{shard}/{database_text}/rollup_open_hosts_local', '{replica}', (bytes, packets, raw_bytes, raw_packets, flows))
PARTITION BY tuple()
ORDER BY (stored, hour, exporter_addr, side, addr)
TTL stored + toIntervalDay(4)
SETTINGS
    ttl_only_drop_parts = 0,
    merge_with_ttl_timeout = 86400,
    replicated_deduplication_window = 10000,
    replicated_deduplication_window_seconds = 604800,
    fsync_after_insert = 1,
    fsync_part_directory = 1;

CREATE TABLE IF NOT EXISTS {database}.rollup_open_hosts ON CLUSTER '{cluster}' AS {database}.rollup_open_hosts_local
ENGINE = Distributed('{cluster}', '{database_text}', 'rollup_open_hosts_local', cityHash64(exporter_addr));

CREATE TABLE IF NOT EXISTS {database}.rollup_open_conversations_local ON CLUSTER '{cluster}'
(
    hour DateTime('UTC') CODEC(ZSTD(1)),
    stored DateTime('UTC') CODEC(ZSTD(1)),
    exporter_addr IPv6 CODEC(ZSTD(1)),
    client_addr IPv6 CODEC(ZSTD(1)),
    server_addr IPv6 CODEC(ZSTD(1)),
    service LowCardinality(String) CODEC(ZSTD(1)),
    bytes UInt64 CODEC(T64, ZSTD(1)),
    packets UInt64 CODEC(T64, ZSTD(1)),
    raw_bytes UInt64 CODEC(T64, ZSTD(1)),
    raw_packets UInt64 CODEC(T64, ZSTD(1)),
    flows UInt64 CODEC(T64, ZSTD(1))
)
ENGINE = ReplicatedSummingMergeTree('/clickhouse/tables/{shard}/{database_text}/rollup_open_conversations_local', '{replica}', (bytes, packets, raw_bytes, raw_packets, flows))
PARTITION BY tuple()
ORDER BY (stored, hour, exporter_addr, client_addr, server_addr, service)
TTL stored + toIntervalDay(4)
SETTINGS
    ttl_only_drop_parts = 0,
    merge_with_ttl_timeout = 86400,
    replicated_deduplication_window = 10000,
    replicated_deduplication_window_seconds = 604800,
    fsync_after_insert = 1,
    fsync_part_directory = 1;

CREATE TABLE IF NOT EXISTS {database}.rollup_open_conversations ON CLUSTER '{cluster}' AS {database}.rollup_open_conversations_local
ENGINE = Distributed('{cluster}', '{database_text}', 'rollup_open_conversations_local', cityHash64(exporter_addr));

CREATE TABLE IF NOT EXISTS {database}.rollup_hour_hosts_local ON CLUSTER '{cluster}'
(
    hour DateTime('UTC') CODEC(ZSTD(1)),
    stored DateTime('UTC') CODEC(ZSTD(1)),
    exporter_addr IPv6 CODEC(ZSTD(1)),
    side Enum8('source' = 1, 'destination' = 2) CODEC(ZSTD(1)),
    addr IPv6 CODEC(ZSTD(1)),
    bytes UInt64 CODEC(T64, ZSTD(1)),
    packets UInt64 CODEC(T64, ZSTD(1)),
    raw_bytes UInt64 CODEC(T64, ZSTD(1)),
    raw_packets UInt64 CODEC(T64, ZSTD(1)),
    flows UInt64 CODEC(T64, ZSTD(1))
)
ENGINE = ReplicatedSummingMergeTree('/clickhouse/tables/{shard}/{database_text}/rollup_hour_hosts_local', '{replica}', (bytes, packets, raw_bytes, raw_packets, flows))
PARTITION BY toDate(stored)
ORDER BY (hour, exporter_addr, side, addr, stored)
TTL stored + toIntervalSecond({retention_seconds})
SETTINGS
    ttl_only_drop_parts = 1,
    replicated_deduplication_window = 10000,
    replicated_deduplication_window_seconds = 604800,
    fsync_after_insert = 1,
    fsync_part_directory = 1;

CREATE TABLE IF NOT EXISTS {database}.rollup_hour_hosts ON CLUSTER '{cluster}' AS {database}.rollup_hour_hosts_local
ENGINE = Distributed('{cluster}', '{database_text}', 'rollup_hour_hosts_local', cityHash64(exporter_addr));

CREATE TABLE IF NOT EXISTS {database}.rollup_hour_conversations_local ON CLUSTER '{cluster}'
(
    hour DateTime('UTC') CODEC(ZSTD(1)),
    stored DateTime('UTC') CODEC(ZSTD(1)),
    exporter_addr IPv6 CODEC(ZSTD(1)),
    client_addr IPv6 CODEC(ZSTD(1)),
    server_addr IPv6 CODEC(ZSTD(1)),
    service LowCardinality(String) CODEC(ZSTD(1)),
    bytes UInt64 CODEC(T64, ZSTD(1)),
    packets UInt64 CODEC(T64, ZSTD(1)),
    raw_bytes UInt64 CODEC(T64, ZSTD(1)),
    raw_packets UInt64 CODEC(T64, ZSTD(1)),
    flows UInt64 CODEC(T64, ZSTD(1))
)
ENGINE = ReplicatedSummingMergeTree('/clickhouse/tables/{shard}/{database_text}/rollup_hour_conversations_local', '{replica}', (bytes, packets, raw_bytes, raw_packets, flows))
PARTITION BY toDate(stored)
ORDER BY (hour, exporter_addr, client_addr, server_addr, service, stored)
TTL stored + toIntervalSecond({retention_seconds})
SETTINGS
    ttl_only_drop_parts = 1,
    replicated_deduplication_window = 10000,
    replicated_deduplication_window_seconds = 604800,
    fsync_after_insert = 1,
    fsync_part_directory = 1;

CREATE TABLE IF NOT EXISTS {database}.rollup_hour_conversations ON CLUSTER '{cluster}' AS {database}.rollup_hour_conversations_local
ENGINE = Distributed('{cluster}', '{database_text}', 'rollup_hour_conversations_local', cityHash64(exporter_addr));

CREATE MATERIALIZED VIEW IF NOT EXISTS {database}.rollup_hour_services_mv ON CLUSTER '{cluster}'
TO {database}.rollup_hour_services_local AS
SELECT
    toStartOfHour(minute) AS hour,
    exporter_addr,
    in_if,
    out_if,
    service,
    sum(bytes) AS bytes,
    sum(packets) AS packets,
    sum(raw_bytes) AS raw_bytes,
    sum(raw_packets) AS raw_packets,
    sum(flows) AS flows
FROM {database}.rollup_minute_services_local AS rollup_minute_services
GROUP BY hour, exporter_addr, in_if, out_if, service;

CREATE MATERIALIZED VIEW IF NOT EXISTS {database}.rollup_hour_as_mv ON CLUSTER '{cluster}'
TO {database}.rollup_hour_as_local AS
SELECT
    toStartOfHour(minute) AS hour,
    exporter_addr,
    src_as,
    dst_as,
    src_country,
    dst_country,
    sum(bytes) AS bytes,
    sum(packets) AS packets,
    sum(raw_bytes) AS raw_bytes,
    sum(raw_packets) AS raw_packets,
    sum(flows) AS flows
FROM {database}.rollup_minute_as_local AS rollup_minute_as
GROUP BY hour, exporter_addr, src_as, dst_as, src_country, dst_country;

CREATE MATERIALIZED VIEW IF NOT EXISTS {database}.rollup_minute_exporters_mv ON CLUSTER '{cluster}'
TO {database}.rollup_minute_exporters_local AS
SELECT
    minute,
    exporter_addr,
    sum(bytes) AS bytes,
    sum(packets) AS packets,
    sum(raw_bytes) AS raw_bytes,
    sum(raw_packets) AS raw_packets,
    sum(flows) AS flows
FROM {database}.rollup_minute_services_local AS rollup_minute_services
GROUP BY minute, exporter_addr;

CREATE MATERIALIZED VIEW IF NOT EXISTS {database}.rollup_minute_services_mv ON CLUSTER '{cluster}'
TO {database}.rollup_minute_services_local AS
SELECT
    minute,
    exporter_addr,
    in_if,
    out_if,
    service,
    sum(bytes) AS bytes,
    sum(packets) AS packets,
    sum(raw_bytes) AS raw_bytes,
    sum(raw_packets) AS raw_packets,
    sum(flows) AS flows
FROM {database}.flows_spread
GROUP BY minute, exporter_addr, in_if, out_if, service;

CREATE MATERIALIZED VIEW IF NOT EXISTS {database}.rollup_minute_as_mv ON CLUSTER '{cluster}'
TO {database}.rollup_minute_as_local AS
SELECT
    minute,
    exporter_addr,
    src_as,
    dst_as,
    src_country,
    dst_country,
    sum(bytes) AS bytes,
    sum(packets) AS packets,
    sum(raw_bytes) AS raw_bytes,
    sum(raw_packets) AS raw_packets,
    sum(flows) AS flows
FROM {database}.flows_spread
GROUP BY minute, exporter_addr, src_as, dst_as, src_country, dst_country;

CREATE MATERIALIZED VIEW IF NOT EXISTS {database}.rollup_open_hosts_mv ON CLUSTER '{cluster}'
TO {database}.rollup_open_hosts_local AS
SELECT
    hour,
    toStartOfTenMinutes(now('UTC')) AS stored,
    exporter_addr,
    side,
    if(is_kept, of_block.addr, toIPv6('::')) AS addr,
    sum(of_block.bytes) AS bytes,
    sum(of_block.packets) AS packets,
    sum(of_block.raw_bytes) AS raw_bytes,
    sum(of_block.raw_packets) AS raw_packets,
    sum(of_block.flows) AS flows
FROM
(
    SELECT
        toStartOfHour(minute) AS hour,
        exporter_addr,
        side,
        addr,
        sum(spread.bytes) AS bytes,
        sum(spread.packets) AS packets,
        sum(spread.raw_bytes) AS raw_bytes,
        sum(spread.raw_packets) AS raw_packets,
        sum(spread.flows) AS flows,
        (bytes * 4096 >= sum(bytes) OVER ()) OR (flows * 1024 >= sum(flows) OVER ()) AS is_kept
    FROM {database}.flows_spread AS spread
    ARRAY JOIN [src_addr, dst_addr] AS addr, [1, 2] AS side
    GROUP BY hour, exporter_addr, side, addr
) AS of_block
GROUP BY hour, exporter_addr, side, addr;

CREATE MATERIALIZED VIEW IF NOT EXISTS {database}.rollup_open_conversations_mv ON CLUSTER '{cluster}'
TO {database}.rollup_open_conversations_local AS
SELECT
    hour,
    toStartOfTenMinutes(now('UTC')) AS stored,
    exporter_addr,
    if(is_kept, client, toIPv6('::')) AS client_addr,
    if(is_kept, server, toIPv6('::')) AS server_addr,
    if(is_kept, of_block.service, '') AS service,
    sum(of_block.bytes) AS bytes,
    sum(of_block.packets) AS packets,
    sum(of_block.raw_bytes) AS raw_bytes,
    sum(of_block.raw_packets) AS raw_packets,
    sum(of_block.flows) AS flows
FROM
(
    SELECT
        toStartOfHour(minute) AS hour,
        exporter_addr,
        if(client_is_src, src_addr, dst_addr) AS client,
        if(client_is_src, dst_addr, src_addr) AS server,
        service,
        sum(spread.bytes) AS bytes,
        sum(spread.packets) AS packets,
        sum(spread.raw_bytes) AS raw_bytes,
        sum(spread.raw_packets) AS raw_packets,
        sum(spread.flows) AS flows,
        bytes * 4096 >= sum(bytes) OVER () AS is_kept
    FROM {database}.flows_spread AS spread
    GROUP BY hour, exporter_addr, client, server, service
) AS of_block
GROUP BY hour, exporter_addr, client_addr, server_addr, service;

CREATE MATERIALIZED VIEW IF NOT EXISTS {database}.flows_spread_mv ON CLUSTER '{cluster}'
TO {database}.flows_spread AS
WITH
    toUInt64(toUnixTimestamp64Milli(flow_end)) AS end_ms,
    toUInt64(least(flow_duration_ms, 3600000)) AS spread_ms,
    toUInt64(end_ms - spread_ms) AS start_ms,
    greatest(spread_ms, 1) AS length_ms,
    arrayJoin(range(intDiv(start_ms, 60000), intDiv(end_ms, 60000) + 1)) AS number,
    number = intDiv(end_ms, 60000) AS is_last,
    toUInt64(greatest(number * 60000, start_ms) - start_ms) AS before_ms,
    toUInt64((number + 1) * 60000 - start_ms) AS until_ms,
    intDiv(flows.raw_bytes, length_ms) AS bytes_a_ms,
    flows.raw_bytes % length_ms AS bytes_left,
    intDiv(flows.raw_packets, length_ms) AS packets_a_ms,
    flows.raw_packets % length_ms AS packets_left,
    toUInt64(if(is_last, flows.raw_bytes, bytes_a_ms * until_ms + intDiv(bytes_left * until_ms, length_ms))
        - (bytes_a_ms * before_ms + intDiv(bytes_left * before_ms, length_ms))) AS bytes_here,
    toUInt64(if(is_last, flows.raw_packets, packets_a_ms * until_ms + intDiv(packets_left * until_ms, length_ms))
        - (packets_a_ms * before_ms + intDiv(packets_left * before_ms, length_ms))) AS packets_here,
    greatest(sampling_rate, 1) AS scale
SELECT
    toDateTime(number * 60, 'UTC') AS minute,
    exporter_addr,
    in_if,
    out_if,
    service,
    src_as,
    dst_as,
    src_country,
    dst_country,
    src_addr,
    dst_addr,
    client_is_src,
    bytes_here * scale AS bytes,
    packets_here * scale AS packets,
    bytes_here AS raw_bytes,
    packets_here AS raw_packets,
    toUInt64(is_last) AS flows
FROM {database}.flows_local AS flows
WHERE direction != 'egress'
    OR exporter_addr NOT IN (SELECT exporter_addr FROM {database}.ingress_only);

CREATE MATERIALIZED VIEW IF NOT EXISTS {database}.rollup_hour_hosts_fold ON CLUSTER '{cluster}'
REFRESH EVERY 5 MINUTE APPEND
TO {database}.rollup_hour_hosts_local AS
WITH (
    SELECT min(stored)
    FROM {database}.rollup_open_hosts_local AS rollup_open_hosts
    WHERE stored <= now('UTC') - toIntervalMinute(15)
        AND stored > (
            SELECT max(stored)
            FROM {database}.rollup_hour_hosts_local AS rollup_hour_hosts
            WHERE toDate(stored) <= toDate(now('UTC'))
        )
) AS slot
SELECT
    hour,
    slot AS stored,
    exporter_addr,
    side,
    if(is_kept, of_slot.addr, toIPv6('::')) AS addr,
    sum(of_slot.bytes) AS bytes,
    sum(of_slot.packets) AS packets,
    sum(of_slot.raw_bytes) AS raw_bytes,
    sum(of_slot.raw_packets) AS raw_packets,
    sum(of_slot.flows) AS flows
FROM
(
    SELECT
        hour,
        exporter_addr,
        side,
        addr,
        sum(open.bytes) AS bytes,
        sum(open.packets) AS packets,
        sum(open.raw_bytes) AS raw_bytes,
        sum(open.raw_packets) AS raw_packets,
        sum(open.flows) AS flows,
        (bytes * 16384 >= sum(bytes) OVER ()) OR (flows * 16384 >= sum(flows) OVER ())
            OR (bytes * 1024 >= sum(bytes) OVER (PARTITION BY exporter_addr)) AS is_kept
    FROM {database}.rollup_open_hosts_local AS open
    WHERE open.stored = slot
    GROUP BY hour, exporter_addr, side, addr
) AS of_slot
GROUP BY hour, exporter_addr, side, addr
ORDER BY ALL;

CREATE MATERIALIZED VIEW IF NOT EXISTS {database}.rollup_hour_conversations_fold ON CLUSTER '{cluster}'
REFRESH EVERY 5 MINUTE APPEND
TO {database}.rollup_hour_conversations_local AS
WITH (
    SELECT min(stored)
    FROM {database}.rollup_open_conversations_local AS rollup_open_conversations
    WHERE stored <= now('UTC') - toIntervalMinute(15)
        AND stored > (
            SELECT max(stored)
            FROM {database}.rollup_hour_conversations_local AS rollup_hour_conversations
            WHERE toDate(stored) <= toDate(now('UTC'))
        )
) AS slot
SELECT
    hour,
    slot AS stored,
    exporter_addr,
    if(is_kept, of_slot.client_addr, toIPv6('::')) AS client_addr,
    if(is_kept, of_slot.server_addr, toIPv6('::')) AS server_addr,
    if(is_kept, of_slot.service, '') AS service,
    sum(of_slot.bytes) AS bytes,
    sum(of_slot.packets) AS packets,
    sum(of_slot.raw_bytes) AS raw_bytes,
    sum(of_slot.raw_packets) AS raw_packets,
    sum(of_slot.flows) AS flows
FROM
(
    SELECT
        hour,
        exporter_addr,
        client_addr,
        server_addr,
        service,
        sum(open.bytes) AS bytes,
        sum(open.packets) AS packets,
        sum(open.raw_bytes) AS raw_bytes,
        sum(open.raw_packets) AS raw_packets,
        sum(open.flows) AS flows,
        (bytes * 16384 >= sum(bytes) OVER ())
            OR (bytes * 1024 >= sum(bytes) OVER (PARTITION BY exporter_addr)) AS is_kept
    FROM {database}.rollup_open_conversations_local AS open
    WHERE open.stored = slot
    GROUP BY hour, exporter_addr, client_addr, server_addr, service
) AS of_slot
GROUP BY hour, exporter_addr, client_addr, server_addr, service
ORDER BY ALL;

CREATE VIEW IF NOT EXISTS {database}.hosts_by_hour_local ON CLUSTER '{cluster}' AS
SELECT hour, exporter_addr, side, addr, bytes, packets, raw_bytes, raw_packets, flows
FROM {database}.rollup_hour_hosts_local AS rollup_hour_hosts
UNION ALL
SELECT hour, exporter_addr, side, addr, bytes, packets, raw_bytes, raw_packets, flows
FROM {database}.rollup_open_hosts_local AS rollup_open_hosts
WHERE stored <= now('UTC') AND stored > (
    SELECT max(stored)
    FROM {database}.rollup_hour_hosts_local AS rollup_hour_hosts
    WHERE toDate(stored) <= toDate(now('UTC'))
);

CREATE TABLE IF NOT EXISTS {database}.hosts_by_hour ON CLUSTER '{cluster}' AS {database}.hosts_by_hour_local
ENGINE = Distributed('{cluster}', '{database_text}', 'hosts_by_hour_local', rand());

CREATE VIEW IF NOT EXISTS {database}.conversations_by_hour_local ON CLUSTER '{cluster}' AS
SELECT hour, exporter_addr, client_addr, server_addr, service, bytes, packets, raw_bytes, raw_packets, flows
FROM {database}.rollup_hour_conversations_local AS rollup_hour_conversations
UNION ALL
SELECT hour, exporter_addr, client_addr, server_addr, service, bytes, packets, raw_bytes, raw_packets, flows
FROM {database}.rollup_open_conversations_local AS rollup_open_conversations
WHERE stored <= now('UTC') AND stored > (
    SELECT max(stored)
    FROM {database}.rollup_hour_conversations_local AS rollup_hour_conversations
    WHERE toDate(stored) <= toDate(now('UTC'))
);

CREATE TABLE IF NOT EXISTS {database}.conversations_by_hour ON CLUSTER '{cluster}' AS {database}.conversations_by_hour_local
ENGINE = Distributed('{cluster}', '{database_text}', 'conversations_by_hour_local', rand());
