-- What static files and SNMP say of interfaces has a speed; options records have none.
ALTER TABLE {database}.interfaces
    ADD COLUMN IF NOT EXISTS speed UInt64 CODEC(T64, ZSTD(1)) AFTER description;
