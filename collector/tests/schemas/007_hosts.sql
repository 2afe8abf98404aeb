-- Names that addresses have by reverse DNS. One row an address is kept: FINAL, or
-- argMax(name, last_seen), where a merge has not happened yet. The dictionary host_names, which the
-- collector makes at each start, answers from here.
CREATE TABLE IF NOT EXISTS {database}.hosts
(
    addr IPv6 CODEC(ZSTD(1)),
    name String CODEC(ZSTD(1)),
    last_seen DateTime('UTC') CODEC(ZSTD(1))
)
ENGINE = ReplacingMergeTree(last_seen)
ORDER BY addr
TTL last_seen + toIntervalSecond({retention_seconds})
SETTINGS
    non_replicated_deduplication_window = 1000,
    fsync_after_insert = 1,
    fsync_part_directory = 1;
