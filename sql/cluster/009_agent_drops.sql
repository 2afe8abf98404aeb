-- Made from ../009_agent_drops.sql by 'cargo xtask cluster-sql': edit that.
ALTER TABLE {database}.exporter_gaps_local ON CLUSTER '{cluster}'
    MODIFY COLUMN IF EXISTS unit Enum8('unknown' = 0, 'packets' = 1, 'flows' = 2, 'records' = 3, 'samples' = 4) CODEC(ZSTD(1));

ALTER TABLE {database}.exporter_gaps ON CLUSTER '{cluster}'
    MODIFY COLUMN IF EXISTS unit Enum8('unknown' = 0, 'packets' = 1, 'flows' = 2, 'records' = 3, 'samples' = 4) CODEC(ZSTD(1));

ALTER TABLE {database}.exporter_gaps_local ON CLUSTER '{cluster}'
    ADD COLUMN IF NOT EXISTS agent_drops UInt64 ALIAS if(unit = 'samples', lost, 0);

ALTER TABLE {database}.exporter_gaps ON CLUSTER '{cluster}'
    ADD COLUMN IF NOT EXISTS agent_drops UInt64 ALIAS if(unit = 'samples', lost, 0);
