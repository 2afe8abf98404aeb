-- Samples that sFlow agents took and dropped for want of resources, as their flow samples count
-- them: rows of exporter_gaps with the unit 'samples', whose number is in 'lost'. The columns that
-- a SummingMergeTree adds up are fixed when it is made, so they have no column of their own on
-- disk; agent_drops reads them.
ALTER TABLE {database}.exporter_gaps
    MODIFY COLUMN IF EXISTS unit Enum8('unknown' = 0, 'packets' = 1, 'flows' = 2, 'records' = 3, 'samples' = 4) CODEC(ZSTD(1));

ALTER TABLE {database}.exporter_gaps
    ADD COLUMN IF NOT EXISTS agent_drops UInt64 ALIAS if(unit = 'samples', lost, 0);
