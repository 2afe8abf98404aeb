-- The flows as exporters report them, and what follows from them by arithmetic.
-- Names are a public interface: add freely, rename never. Codecs and order: see README.md here.
CREATE TABLE IF NOT EXISTS {database}.schema_migrations
(
    version UInt32,
    name String,
    applied_at DateTime('UTC') DEFAULT now()
)
ENGINE = MergeTree
ORDER BY version;

CREATE TABLE IF NOT EXISTS {database}.flows
(
    time_received DateTime('UTC') CODEC(T64, ZSTD(1)),
    flow_end DateTime64(3, 'UTC') CODEC(T64, ZSTD(1)),
    flow_duration_ms UInt32 CODEC(T64, ZSTD(1)),
    flow_start DateTime64(3, 'UTC') ALIAS flow_end - toIntervalMillisecond(flow_duration_ms),
    exporter_addr IPv6 CODEC(ZSTD(1)),
    exporter_source IPv6 CODEC(ZSTD(1)),
    observation_domain UInt32 CODEC(ZSTD(1)),
    flow_type Enum8('unknown' = 0, 'netflow1' = 1, 'netflow5' = 5, 'netflow7' = 7, 'netflow9' = 9, 'ipfix' = 10, 'sflow5' = 15) CODEC(ZSTD(1)),
    sampling_rate UInt32 CODEC(ZSTD(1)),
    sampling_source Enum8('unknown' = 0, 'header' = 1, 'record' = 2, 'options' = 3, 'static' = 4, 'default' = 5) CODEC(ZSTD(1)),
    in_if UInt32 CODEC(T64, ZSTD(1)),
    out_if UInt32 CODEC(T64, ZSTD(1)),
    src_addr IPv6 CODEC(ZSTD(1)),
    dst_addr IPv6 CODEC(ZSTD(1)),
    src_port UInt16 CODEC(ZSTD(1)),
    dst_port UInt16 CODEC(ZSTD(1)),
    protocol UInt8 CODEC(ZSTD(1)),
    tcp_flags UInt16 CODEC(ZSTD(1)),
    tos UInt8 CODEC(ZSTD(1)),
    ttl UInt8 CODEC(ZSTD(1)),
    flow_label UInt32 CODEC(ZSTD(1)),
    icmp_type UInt8 CODEC(ZSTD(1)),
    icmp_code UInt8 CODEC(ZSTD(1)),
    fragment_id UInt32 CODEC(ZSTD(1)),
    fragment_offset UInt16 CODEC(ZSTD(1)),
    raw_bytes UInt64 CODEC(T64, ZSTD(1)),
    raw_packets UInt64 CODEC(T64, ZSTD(1)),
    bytes UInt64 ALIAS raw_bytes * greatest(sampling_rate, 1),
    packets UInt64 ALIAS raw_packets * greatest(sampling_rate, 1),
    src_as UInt32 CODEC(ZSTD(1)),
    dst_as UInt32 CODEC(ZSTD(1)),
    src_mask UInt8 CODEC(ZSTD(1)),
    dst_mask UInt8 CODEC(ZSTD(1)),
    next_hop IPv6 CODEC(ZSTD(1)),
    bgp_next_hop IPv6 CODEC(ZSTD(1)),
    ingress_vrf UInt32 CODEC(ZSTD(1)),
    egress_vrf UInt32 CODEC(ZSTD(1)),
    ethertype UInt16 CODEC(ZSTD(1)),
    src_mac UInt64 CODEC(ZSTD(1)),
    dst_mac UInt64 CODEC(ZSTD(1)),
    src_vlan UInt16 CODEC(ZSTD(1)),
    dst_vlan UInt16 CODEC(ZSTD(1)),
    inner_vlan UInt16 CODEC(ZSTD(1)),
    mpls_labels Array(UInt32) CODEC(ZSTD(1)),
    src_addr_nat IPv6 CODEC(ZSTD(1)),
    dst_addr_nat IPv6 CODEC(ZSTD(1)),
    src_port_nat UInt16 CODEC(ZSTD(1)),
    dst_port_nat UInt16 CODEC(ZSTD(1)),
    direction Enum8('undefined' = 0, 'ingress' = 1, 'egress' = 2) CODEC(ZSTD(1)),
    forwarding_status UInt8 CODEC(ZSTD(1)),
    end_reason UInt8 CODEC(ZSTD(1)),
    firewall_event UInt8 CODEC(ZSTD(1)),
    nat_event UInt8 CODEC(ZSTD(1))
)
ENGINE = MergeTree
PARTITION BY toDate(time_received)
ORDER BY (toStartOfFiveMinutes(time_received), exporter_addr, in_if, src_addr)
TTL time_received + toIntervalSecond({retention_seconds})
SETTINGS
    ttl_only_drop_parts = 1,
    non_replicated_deduplication_window = 1000,
    min_bytes_for_wide_part = 134217728,
    fsync_after_insert = 1,
    fsync_part_directory = 1;
