-- What the collector says of itself: the figures of /metrics, once a minute. A row tells one figure
-- of one collector since the row before it: sum(delta) is what happened, over restarts as well.
CREATE TABLE IF NOT EXISTS {database}.collector_stats
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
ENGINE = MergeTree
PARTITION BY toDate(minute)
ORDER BY (name, collector, minute)
TTL minute + toIntervalSecond({retention_seconds})
SETTINGS
    ttl_only_drop_parts = 1,
    non_replicated_deduplication_window = 1000,
    fsync_after_insert = 1,
    fsync_part_directory = 1;
