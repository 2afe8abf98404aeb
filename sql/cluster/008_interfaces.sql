-- Made from ../008_interfaces.sql by 'cargo xtask cluster-sql': edit that.
ALTER TABLE {database}.interfaces_local ON CLUSTER '{cluster}'
    ADD COLUMN IF NOT EXISTS speed UInt64 CODEC(T64, ZSTD(1)) AFTER description;

ALTER TABLE {database}.interfaces ON CLUSTER '{cluster}'
    ADD COLUMN IF NOT EXISTS speed UInt64 CODEC(T64, ZSTD(1)) AFTER description;
