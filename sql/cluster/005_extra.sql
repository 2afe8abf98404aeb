-- Made from ../005_extra.sql by 'cargo xtask cluster-sql': edit that.
ALTER TABLE {database}.flows_local ON CLUSTER '{cluster}'
    ADD COLUMN IF NOT EXISTS extra Map(LowCardinality(String), String) CODEC(ZSTD(1));

ALTER TABLE {database}.flows ON CLUSTER '{cluster}'
    ADD COLUMN IF NOT EXISTS extra Map(LowCardinality(String), String) CODEC(ZSTD(1));
