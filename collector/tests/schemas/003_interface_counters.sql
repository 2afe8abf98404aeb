-- What sFlow agents count at their interfaces and what packets they discard; what was around the
-- packet inside of a tunnel.
CREATE TABLE IF NOT EXISTS {database}.interface_counters
(
    time_received DateTime('UTC') CODEC(Delta, ZSTD(1)),
    exporter_addr IPv6 CODEC(ZSTD(1)),
    exporter_source IPv6 CODEC(ZSTD(1)),
    observation_domain UInt32 CODEC(T64, ZSTD(1)),
    sequence UInt32 CODEC(T64, ZSTD(1)),
    source_class UInt32 CODEC(T64, ZSTD(1)),
    source_index UInt32 CODEC(T64, ZSTD(1)),
    if_index UInt32 CODEC(T64, ZSTD(1)),
    if_type UInt32 CODEC(T64, ZSTD(1)),
    if_speed UInt64 CODEC(T64, ZSTD(1)),
    if_direction Enum8('unknown' = 0, 'full_duplex' = 1, 'half_duplex' = 2, 'in' = 3, 'out' = 4) CODEC(ZSTD(1)),
    if_admin_status Enum8('unknown' = 0, 'up' = 1, 'down' = 2) CODEC(ZSTD(1)),
    if_oper_status Enum8('unknown' = 0, 'up' = 1, 'down' = 2) CODEC(ZSTD(1)),
    if_promiscuous UInt32 CODEC(T64, ZSTD(1)),
    in_octets UInt64 CODEC(T64, ZSTD(1)),
    in_unicast UInt32 CODEC(T64, ZSTD(1)),
    in_multicast UInt32 CODEC(T64, ZSTD(1)),
    in_broadcast UInt32 CODEC(T64, ZSTD(1)),
    in_discards UInt32 CODEC(T64, ZSTD(1)),
    in_errors UInt32 CODEC(T64, ZSTD(1)),
    in_unknown_protocols UInt32 CODEC(T64, ZSTD(1)),
    out_octets UInt64 CODEC(T64, ZSTD(1)),
    out_unicast UInt32 CODEC(T64, ZSTD(1)),
    out_multicast UInt32 CODEC(T64, ZSTD(1)),
    out_broadcast UInt32 CODEC(T64, ZSTD(1)),
    out_discards UInt32 CODEC(T64, ZSTD(1)),
    out_errors UInt32 CODEC(T64, ZSTD(1)),
    ethernet_alignment_errors UInt32 CODEC(T64, ZSTD(1)),
    ethernet_fcs_errors UInt32 CODEC(T64, ZSTD(1)),
    ethernet_single_collisions UInt32 CODEC(T64, ZSTD(1)),
    ethernet_multiple_collisions UInt32 CODEC(T64, ZSTD(1)),
    ethernet_sqe_test_errors UInt32 CODEC(T64, ZSTD(1)),
    ethernet_deferred_transmissions UInt32 CODEC(T64, ZSTD(1)),
    ethernet_late_collisions UInt32 CODEC(T64, ZSTD(1)),
    ethernet_excessive_collisions UInt32 CODEC(T64, ZSTD(1)),
    ethernet_internal_transmit_errors UInt32 CODEC(T64, ZSTD(1)),
    ethernet_carrier_sense_errors UInt32 CODEC(T64, ZSTD(1)),
    ethernet_too_long_frames UInt32 CODEC(T64, ZSTD(1)),
    ethernet_internal_receive_errors UInt32 CODEC(T64, ZSTD(1)),
    ethernet_symbol_errors UInt32 CODEC(T64, ZSTD(1)),
    vlan_id UInt32 CODEC(T64, ZSTD(1)),
    vlan_octets UInt64 CODEC(T64, ZSTD(1)),
    vlan_unicast UInt32 CODEC(T64, ZSTD(1)),
    vlan_multicast UInt32 CODEC(T64, ZSTD(1)),
    vlan_broadcast UInt32 CODEC(T64, ZSTD(1)),
    vlan_discards UInt32 CODEC(T64, ZSTD(1)),
    cpu_5s UInt32 CODEC(T64, ZSTD(1)),
    cpu_1m UInt32 CODEC(T64, ZSTD(1)),
    cpu_5m UInt32 CODEC(T64, ZSTD(1)),
    memory_total UInt64 CODEC(T64, ZSTD(1)),
    memory_free UInt64 CODEC(T64, ZSTD(1))
)
ENGINE = MergeTree
PARTITION BY toDate(time_received)
ORDER BY (exporter_addr, observation_domain, source_class, source_index, time_received)
TTL time_received + toIntervalSecond({retention_seconds})
SETTINGS
    ttl_only_drop_parts = 1,
    non_replicated_deduplication_window = 1000,
    fsync_after_insert = 1,
    fsync_part_directory = 1;

CREATE TABLE IF NOT EXISTS {database}.discarded_packets
(
    time_received DateTime('UTC') CODEC(Delta, ZSTD(1)),
    exporter_addr IPv6 CODEC(ZSTD(1)),
    exporter_source IPv6 CODEC(ZSTD(1)),
    observation_domain UInt32 CODEC(T64, ZSTD(1)),
    sequence UInt32 CODEC(T64, ZSTD(1)),
    source_class UInt32 CODEC(T64, ZSTD(1)),
    source_index UInt32 CODEC(T64, ZSTD(1)),
    untold UInt32 CODEC(T64, ZSTD(1)),
    in_if UInt32 CODEC(T64, ZSTD(1)),
    out_if UInt32 CODEC(T64, ZSTD(1)),
    reason UInt32 CODEC(T64, ZSTD(1)),
    forwarding_status UInt8 CODEC(ZSTD(1)),
    src_addr IPv6 CODEC(ZSTD(1)),
    dst_addr IPv6 CODEC(ZSTD(1)),
    src_port UInt16 CODEC(ZSTD(1)),
    dst_port UInt16 CODEC(ZSTD(1)),
    protocol UInt8 CODEC(ZSTD(1)),
    tcp_flags UInt16 CODEC(ZSTD(1)),
    tos UInt8 CODEC(ZSTD(1)),
    ttl UInt8 CODEC(ZSTD(1)),
    icmp_type UInt8 CODEC(ZSTD(1)),
    icmp_code UInt8 CODEC(ZSTD(1)),
    bytes UInt64 CODEC(T64, ZSTD(1)),
    ethertype UInt16 CODEC(ZSTD(1)),
    src_mac UInt64 CODEC(ZSTD(1)),
    dst_mac UInt64 CODEC(ZSTD(1)),
    src_vlan UInt16 CODEC(ZSTD(1)),
    dst_vlan UInt16 CODEC(ZSTD(1))
)
ENGINE = MergeTree
PARTITION BY toDate(time_received)
ORDER BY (toStartOfFiveMinutes(time_received), exporter_addr, reason)
TTL time_received + toIntervalSecond({retention_seconds})
SETTINGS
    ttl_only_drop_parts = 1,
    non_replicated_deduplication_window = 1000,
    fsync_after_insert = 1,
    fsync_part_directory = 1;

ALTER TABLE {database}.flows
    ADD COLUMN IF NOT EXISTS tunnel_type Enum8('none' = 0, 'gre' = 1, 'vxlan' = 2, 'ipip' = 3, 'ipv6' = 4, 'gtpu' = 5) CODEC(ZSTD(1)),
    ADD COLUMN IF NOT EXISTS tunnel_id UInt32 CODEC(ZSTD(1)),
    ADD COLUMN IF NOT EXISTS outer_src_addr IPv6 CODEC(ZSTD(1)),
    ADD COLUMN IF NOT EXISTS outer_dst_addr IPv6 CODEC(ZSTD(1));
