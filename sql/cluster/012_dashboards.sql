-- Made from ../012_dashboards.sql by 'cargo xtask cluster-sql': edit that.
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

ALTER TABLE {database}.flows_spread_mv ON CLUSTER '{cluster}'
    MODIFY QUERY
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

CREATE OR REPLACE VIEW {database}.flows_by_minute_local ON CLUSTER '{cluster}' AS
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

CREATE OR REPLACE TABLE {database}.flows_by_minute ON CLUSTER '{cluster}' AS {database}.flows_by_minute_local
ENGINE = Distributed('{cluster}', '{database_text}', 'flows_by_minute_local', rand());

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
